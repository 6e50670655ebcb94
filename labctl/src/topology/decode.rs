//! Text to [`File`]: every wrong key, type and range in one run, each with its place.
//!
//! serde stops at its first error. So decoding reports that error, takes the offending piece out
//! of the parsed tree and decodes again, until what is left is a valid `File`. What was taken out
//! is remembered: nothing later complains of its absence.

use serde_path_to_error::Segment;
use serde_yaml::Value;

use super::{
    document::{Document, MAX_PROBLEMS},
    file::File,
    index::join,
    problem::did_you_mean,
    tree,
};

/// Decodes what can be decoded; `None` if nothing can.
pub fn decode(document: &mut Document) -> Option<File> {
    let mut tree = match tree::parse(document.text(), document.index()) {
        Ok(tree) => tree,
        Err(fault) => {
            document.fault(fault);
            return None;
        }
    };
    for _ in 0..MAX_PROBLEMS {
        let error = match serde_path_to_error::deserialize(&tree) {
            Ok(file) => return Some(file),
            Err(error) => error,
        };
        let steps = steps(error.path());
        explain(document, &pointer(&steps), &error.inner().to_string());
        let taken = take_out(&mut tree, &steps);
        document.set_aside(&pointer(taken));
        if taken.is_empty() {
            return None;
        }
    }
    None
}

/// Turns serde's message into a problem, unless an earlier one already explains it.
///
/// serde's standard errors are text only; the forms taken apart here are those of
/// `serde::de::Error`'s provided methods.
fn explain(document: &mut Document, pointer: &str, message: &str) {
    let quoted = |text: &str| -> Vec<String> {
        text.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    if let Some(rest) = message.strip_prefix("missing field ") {
        let name = quoted(rest).concat();
        if !document.is_damaged(&join(pointer, &name)) {
            let message = format!("missing key `{name}`");
            document.key_problem(pointer, &message, format!("`{name}` is required here"));
        }
        return;
    }
    let (found, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    let known = quoted(expected);
    if message.starts_with("unknown field ") {
        let (parent, word) = pointer.rsplit_once('/').unwrap_or_default();
        let meant = did_you_mean(word, known.iter().map(String::as_str));
        let problem = document.key_problem(pointer, "unknown key", "not known here");
        match meant {
            Some(meant) => {
                problem.help(format!("did you mean `{meant}`?"));
                // Whatever it would have said is not missing but misspelt.
                document.set_aside(&join(parent, meant));
            }
            None if known.is_empty() => {}
            None => {
                problem.help(format!("known keys: {}", known.join(", ")));
            }
        }
    } else if let Some(word) = found.strip_prefix("unknown variant ") {
        let expected = format!("expected one of {}", known.join(", "));
        let word = quoted(word).concat();
        let problem = document.value_problem(pointer, &expected, format!("found `{word}`"));
        if let Some(meant) = did_you_mean(&word, known.iter().map(String::as_str)) {
            problem.help(format!("did you mean `{meant}`?"));
        }
    } else {
        let found = found.split_once(": ").map_or(found, |(_, found)| found);
        let expected = if expected == "a sequence" {
            "a list"
        } else {
            expected
        };
        let label = match found {
            "unit value" => "found nothing".to_owned(),
            "map" => "found a mapping".to_owned(),
            "sequence" => "found a list".to_owned(),
            found => format!(
                "found {}",
                found.replace('`', "").replace("floating point", "number")
            ),
        };
        let problem = document.value_problem(pointer, &format!("expected {expected}"), label);
        if expected == "a boolean" {
            problem.help("write true or false");
        }
    }
}

/// A path as keys and indices; the steps into enums have no place of their own.
fn steps(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn pointer(steps: &[String]) -> String {
    steps
        .iter()
        .fold(String::new(), |pointer, step| join(&pointer, step))
}

/// Takes the node at `steps` out of the tree, or the nearest enclosing one that can be; returns
/// the path of what went, empty if all did. List items become null, so that their neighbours keep
/// their numbers.
fn take_out<'a>(tree: &mut Value, steps: &'a [String]) -> &'a [String] {
    let Some((last, parents)) = steps.split_last() else {
        return &[];
    };
    let parent = parents
        .iter()
        .try_fold(&mut *tree, |node, step| child(node, step));
    let gone = match parent {
        Some(Value::Mapping(mapping)) => mapping.shift_remove(last.as_str()).is_some(),
        Some(list @ Value::Sequence(_)) => {
            child(list, last).is_some_and(|item| std::mem::take(item) != Value::Null)
        }
        _ => false,
    };
    if gone { steps } else { take_out(tree, parents) }
}

fn child<'a>(node: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    match node {
        Value::Mapping(mapping) => mapping.get_mut(step),
        Value::Sequence(sequence) => sequence.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    }
}
