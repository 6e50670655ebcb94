//! Text to [`File`]: every wrong key, type and range in one run, each with its place.
//!
//! serde stops at its first error. So decoding reports that error, takes the offending piece out
//! of the parsed tree and decodes again, until what is left is a valid `File`. What was taken out
//! is remembered: nothing later complains of its absence.

use serde_path_to_error::Segment;
use serde_yaml::Value;

use crate::error::did_you_mean;
use crate::topology::{
    file::File,
    text::document::{Document, MAX_PROBLEMS},
    text::index::{dotted, join},
};

/// Decodes what can be decoded, and takes the rest out of the tree; `None` if nothing can.
pub fn decode(document: &mut Document, tree: &mut Value) -> Option<File> {
    for _ in 0..MAX_PROBLEMS {
        let error = match serde_path_to_error::deserialize(&*tree) {
            Ok(file) => return Some(file),
            Err(error) => error,
        };
        let steps = steps(error.path());
        explain(document, tree, &steps, &error.inner().to_string());
        let taken = take_out(tree, &steps);
        document.set_aside(&pointer(taken));
        if taken.is_empty() {
            return None;
        }
    }
    None
}

/// Turns serde's message into a problem.
///
/// serde's standard errors are text only; the forms taken apart here are those of
/// `serde::de::Error`'s provided methods.
fn explain(document: &mut Document, tree: &Value, steps: &[String], message: &str) {
    let pointer = &pointer(steps);
    let (found, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    if let Some(key) = message.strip_prefix("missing field ") {
        document.missing_key(pointer, &quoted(key).concat());
    } else if message.starts_with("unknown field ") {
        unknown_key(document, tree, steps, &quoted(expected));
    } else if let Some(word) = found.strip_prefix("unknown variant ") {
        unknown_word(document, pointer, &quoted(word).concat(), &quoted(expected));
    } else if let Some((_, found)) = found.split_once(": ") {
        let words = if expected == SERDE_WORD { words_at(tree, steps) } else { Vec::new() };
        match words.as_slice() {
            [] => unexpected(document, tree, steps, found, expected),
            words => unexpected(document, tree, steps, found, &one_of(words)),
        }
    } else {
        document.value_problem(pointer, message, "here");
    }
}

/// What serde_yaml says it expected where a word was.
const SERDE_WORD: &str = "a Value::Tagged enum";

/// The words that may be at `steps`, where something other than a word is. serde lists them only for a
/// word that it does not know, so it gets one.
fn words_at(tree: &Value, steps: &[String]) -> Vec<String> {
    let said = decoded_with(tree, steps, "").map(|error| error.into_inner().to_string());
    let said = said.unwrap_or_default();
    let words =
        said.strip_prefix("unknown variant ").and_then(|said| said.split_once(", expected "));
    words.map_or(Vec::new(), |(_, words)| quoted(words).into_iter().map(str::to_owned).collect())
}

fn one_of<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    format!("one of {}", words.join(", "))
}

fn unknown_key(document: &mut Document, tree: &Value, steps: &[String], known: &[&str]) {
    let Some((key, above)) = steps.split_last() else { return };
    let (pointer, parent) = (&pointer(steps), &pointer(above));
    // A key that is there already is not the one that was meant.
    let there = above.iter().try_fold(tree, |node, step| match node {
        Value::Sequence(items) => items.get(step.parse::<usize>().ok()?),
        node => node.get(step.as_str()),
    });
    // A key that an experiment names is written as a path.
    let origin = document.index().origin(pointer);
    let path = origin.and_then(|moved| moved.path.strip_prefix(pointer).map(str::to_owned));
    let is_free = |known: &&str| {
        // An experiment names keys that are there.
        path.is_some()
            || there.is_none_or(|there| there.get(*known).is_none())
                && !document.index().contains(&join(parent, known))
    };
    let free: Vec<_> = known.iter().copied().filter(is_free).collect();
    let problem = document.key_problem(pointer, "unknown key", "not known here");
    if let Some(meant) = did_you_mean(key, free) {
        problem.help(match &path {
            Some(below) => {
                format!("did you mean `{}`?", dotted(&(join(parent, meant) + below)))
            }
            None => format!("did you mean `{meant}`?"),
        });
        // So that key is not missing but misspelt.
        document.set_aside(&join(parent, meant));
    } else if !known.is_empty() {
        problem.help(format!("known keys: {}", known.join(", ")));
    }
}

fn unknown_word(document: &mut Document, pointer: &str, word: &str, known: &[&str]) {
    let expected = format!("expected {}", one_of(known));
    let problem = document.value_problem(pointer, &expected, format!("found `{word}`"));
    if let Some(meant) = did_you_mean(word, known.iter().copied()) {
        problem.help(format!("did you mean `{meant}`?"));
    }
}

/// Reports a value of the wrong type or out of range, in YAML's words rather than serde's.
fn unexpected(
    document: &mut Document,
    tree: &Value,
    steps: &[String],
    found: &str,
    expected: &str,
) {
    let place = pointer(steps);
    let size =
        found.strip_prefix("string \"").and_then(|found| size_meant(found.strip_suffix('"')?));
    let size = size.filter(|size| expected.contains("MiB") && would_do(tree, steps, size));
    let found = match found {
        "unit value" => "nothing".to_owned(),
        "map" => "a mapping".to_owned(),
        "sequence" => "a list".to_owned(),
        scalar => scalar.replace('`', "").replace("floating point", "number"),
    };
    let expected = expected.replace("a sequence", "a list");
    let message = format!("expected {expected}");
    let problem = document.value_problem(&place, &message, format!("found {found}"));
    if expected == "a boolean" {
        problem.help("write true or false");
    } else if let Some(size) = size {
        problem.help(format!("did you mean `{size}`?"));
    }
}

/// The size that one in other units, such as 64MB, most likely stands for.
fn size_meant(text: &str) -> Option<String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    match unit.trim().to_lowercase().as_str() {
        "g" | "gb" | "gib" => Some(format!("{number}GiB")),
        "m" | "mb" | "mib" => Some(format!("{number}MiB")),
        "k" | "kb" | "kib" if number.is_multiple_of(1024) => Some(format!("{}MiB", number / 1024)),
        _ => None,
    }
}

/// Whether a text would be right at `steps`.
fn would_do(tree: &Value, steps: &[String], text: &str) -> bool {
    let mistake = decoded_with(tree, steps, text);
    mistake.is_none_or(|mistake| self::steps(mistake.path()) != steps)
}

/// The first mistake in a tree that has a text at `steps`.
fn decoded_with(
    tree: &Value,
    steps: &[String],
    text: &str,
) -> Option<serde_path_to_error::Error<serde_yaml::Error>> {
    let mut tree = tree.clone();
    *steps.iter().try_fold(&mut tree, |node, step| child(node, step))? = text.into();
    serde_path_to_error::deserialize::<_, File>(&tree).err()
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
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

pub fn pointer(steps: &[String]) -> String {
    steps.iter().fold(String::new(), |pointer, step| join(&pointer, step))
}

/// Takes the node at `steps` out of the tree, or the nearest enclosing one that can be; returns
/// the path of what went, empty if all did. List items become null, so that their neighbours keep
/// their numbers.
fn take_out<'a>(tree: &mut Value, steps: &'a [String]) -> &'a [String] {
    let Some((last, parents)) = steps.split_last() else {
        return &[];
    };
    let parent = parents.iter().try_fold(&mut *tree, |node, step| child(node, step));
    let gone = match parent {
        Some(Value::Mapping(mapping)) => mapping.shift_remove(last.as_str()).is_some(),
        Some(list @ Value::Sequence(_)) => {
            child(list, last).is_some_and(|item| std::mem::take(item) != Value::Null)
        }
        _ => false,
    };
    if gone { steps } else { take_out(tree, parents) }
}

pub fn child<'a>(node: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    match node {
        Value::Mapping(mapping) => mapping.get_mut(step),
        Value::Sequence(sequence) => sequence.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    }
}
