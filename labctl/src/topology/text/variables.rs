//! Variables of the environment in a lab file's values: `${NAME}` and `${NAME:-default}`.

use std::collections::BTreeMap;

use serde_yaml::Value;

use crate::topology::{text::document::Document, text::index::join, text::tree};

/// Why a text with variables means nothing.
#[derive(Debug, PartialEq)]
enum Fault {
    /// `${` without a name or an end.
    Malformed,
    /// There is no such variable.
    Unset(String),
}

/// Variables of an environment, by name.
pub type Variables = BTreeMap<String, String>;

/// What this process's environment says of the variables that a text may mean.
pub fn variables_of(text: &str) -> Variables {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text.split("${").skip(1).filter_map(|after| after.split(|c| !is_part(c)).next());
    let set = names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    set.collect()
}

/// Replaces the variables in all values of a tree; what cannot be is taken out and reported.
///
/// A plain scalar is typed anew, so that `ring: ${RING:-1024}` is a number. Aliases and merge keys
/// must not have been followed yet, as it is their targets that say how a scalar is written.
pub fn expand(tree: &mut Value, document: &mut Document, variables: &Variables) {
    let lookup = |name: &str| variables.get(name).cloned();
    expand_at(tree, "", document, &lookup);
}

/// Whether the value at `pointer` makes sense.
fn expand_at(
    value: &mut Value,
    pointer: &str,
    document: &mut Document,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> bool {
    match value {
        Value::String(text) if text.contains('$') => match replaced(text, lookup) {
            Ok(text) if document.index().is_plain(pointer) => *value = tree::scalar(&text),
            Ok(new) => *text = new,
            Err(fault) => {
                report(document, pointer, fault);
                return false;
            }
        },
        Value::Sequence(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                if !expand_at(item, &join(pointer, &i.to_string()), document, lookup) {
                    *item = Value::Null;
                }
            }
        }
        Value::Mapping(mapping) => mapping.retain(|key, value| {
            let key = key.as_str().unwrap_or_default();
            expand_at(value, &join(pointer, key), document, lookup)
        }),
        _ => {}
    }
    true
}

fn report(document: &mut Document, pointer: &str, fault: Fault) {
    match fault {
        Fault::Malformed => document
            .value_problem(pointer, "expected ${NAME} or ${NAME:-default}", "not a variable")
            .help("two dollars stand for one: $${ is no variable"),
        Fault::Unset(name) => document
            .value_problem(
                pointer,
                &format!("the variable `{name}` is not set"),
                "nothing to put here",
            )
            .help(format!("set it, or say what else is meant: ${{{name}:-default}}")),
    };
    document.set_aside(pointer);
}

/// The text with its variables replaced. An empty variable is as good as none where there is a
/// default; what variables hold is taken as it is.
fn replaced(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Fault> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result += before;
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (variable, after) = after.split_once('}').ok_or(Fault::Malformed)?;
            result += &value_of(variable, lookup)?;
            rest = after;
        } else {
            // As in a shell command that the file holds.
            result.push('$');
        }
    }
    Ok(result + rest)
}

/// What stands for `NAME` or `NAME:-default`.
fn value_of(variable: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Fault> {
    let (name, default) = match variable.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (variable, None),
    };
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Fault::Malformed);
    }
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Fault::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let known = [("A", "x"), ("EMPTY", ""), ("N", "7"), ("YES", "true"), ("D", "${A}")];
        known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn only_what_a_text_mentions_is_taken_from_the_environment() {
        let found = variables_of("a: ${PATH}\nb: ${LABCTL_NOT_SET:-x} $HOME ${} ${1 $${PATH:-y}");
        assert_eq!(found, [("PATH".to_owned(), std::env::var("PATH").unwrap())].into());
    }

    #[test]
    fn variables_are_replaced_and_dollars_kept() {
        for (text, expected) in [
            ("${A}", "x"),
            ("a${A}${A}b", "axxb"),
            ("${B:-y}${EMPTY:-z}${A:-w}", "yzx"),
            ("[${EMPTY}][${B:-}]", "[][]"),
            ("$$ $HOME $5 $${A} $", "$ $HOME $5 ${A} $"),
            ("${B:-a:-b}", "a:-b"),
            ("${D}", "${A}"),
        ] {
            assert_eq!(replaced(text, &lookup).as_deref(), Ok(expected), "{text}");
        }
        for text in ["${", "${}", "${A", "${1}", "${a b}", "${A-x}", "${:-x}"] {
            assert_eq!(replaced(text, &lookup), Err(Fault::Malformed), "{text}");
        }
        assert_eq!(replaced("${NO}", &lookup), Err(Fault::Unset("NO".to_owned())));
    }

    /// The tree of a text, with aliases followed.
    fn expanded(text: &str) -> (Value, Vec<(usize, usize)>) {
        let mut document = Document::new(Path::new("x"), text).unwrap();
        let mut tree = tree::read(document.text(), document.index()).unwrap();
        expand_at(&mut tree, "", &mut document, &lookup);
        (tree, document.into_problems().iter().map(crate::error::Problem::position).collect())
    }

    #[test]
    fn plain_scalars_are_typed_anew_and_others_are_not() {
        let text = "n: &n ${N}\nq: \"${N}\"\ny: ${YES}\ne: ${EMPTY}\nalias: *n\nlist: [1, $$, 7s$A]\n\
                    folded: >\n  ${N}\nsize: ${N}MiB\nversion: ${N}.5\nkey: {$$: 1}\nhash: ${A} # no\n";
        let expected = "n: 7\nq: '7'\ny: true\ne:\nalias: 7\nlist: [1, $, 7s$A]\nfolded: \"7\\n\"\n\
                        size: 7MiB\nversion: 7.5\nkey: {$$: 1}\nhash: x\n";
        let (tree, problems) = expanded(text);
        assert_eq!(tree, serde_yaml::from_str::<Value>(expected).unwrap());
        assert_eq!(problems, []);
    }

    #[test]
    fn what_cannot_be_is_taken_out_where_it_is_written() {
        let (tree, problems) = expanded("a: &a ${NO}\nb: *a\nl: [\"${NO\", 2]\nc: 1\n");
        assert_eq!(tree, serde_yaml::from_str::<Value>("l: [null, 2]\nc: 1").unwrap());
        assert_eq!(problems, [(1, 4), (2, 4), (3, 5)]);
    }
}
