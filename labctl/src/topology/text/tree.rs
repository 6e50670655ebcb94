//! YAML text to a tree of values.

use std::{collections::HashMap, fmt};

use saphyr_parser::{Event, Parser};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_yaml::{Mapping, Value};

use crate::topology::{
    text::document::Document,
    text::index::{Fault, Index},
    text::variables::{self, Variables},
};

/// The tree that a document's text means, with variables, aliases and merge keys (`<<`) resolved.
/// `None` if there is none, which has been reported.
pub fn parse(document: &mut Document, variables: &Variables) -> Option<Value> {
    let tree = read(document.text(), document.index());
    let merged = tree.and_then(|mut tree| {
        variables::expand(&mut tree, document, variables);
        let index = document.index();
        tree.apply_merge().map_err(|error| Fault::new(index.merge_key(), &error.to_string()))?;
        Ok(tree)
    });
    merged.map_err(|fault| document.fault(fault)).ok()
}

/// Parses a text, with aliases resolved.
///
/// # Errors
/// What makes it unusable, such as aliases that multiply beyond reason.
pub fn read(text: &str, index: &Index) -> Result<Value, Fault> {
    if text.is_empty() || !index.contains("") {
        return Err(Fault::new(
            0..0,
            "the file is empty: expected `name`, `switches` and `guests`",
        ));
    }
    let Tree(tree) =
        Tree::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
            let byte = |chars| text.char_indices().nth(chars).map_or(text.len(), |(byte, _)| byte);
            // Of aliases that multiply it does not say where.
            let location = error.location().map(|location| byte(location.index()));
            let at = location.unwrap_or_else(|| byte(largest_alias(text)));
            // The position is shown anyway.
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            Fault::new(at..at, &format!("not valid YAML: {message}"))
        })?;
    Ok(tree)
}

/// The alias that stands for most, as the number of its first character; 0 if there is none.
fn largest_alias(text: &str) -> usize {
    let mut sizes: HashMap<usize, u64> = HashMap::new();
    // The collections that the parser is inside of: their anchors, and how much they hold so far.
    let mut inside: Vec<(usize, u64)> = Vec::new();
    let mut largest = (0, 0);
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let (anchor, size) = match event {
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                inside.push((anchor, 1));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => inside.pop().unwrap_or_default(),
            Event::Scalar(_, _, anchor, _) => (anchor, 1),
            Event::Alias(anchor) => {
                let size = sizes.get(&anchor).copied().unwrap_or_default();
                if size > largest.0 {
                    largest = (size, span.start.index());
                }
                (0, size)
            }
            _ => continue,
        };
        sizes.insert(anchor, size);
        if let Some((_, sum)) = inside.last_mut() {
            *sum = sum.saturating_add(size);
        }
    }
    largest.1
}

/// What a plain scalar means: nothing, a boolean, a number, or else its text.
pub fn scalar(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    // With white space it may be more than a scalar, and is none of these anyway.
    let parsed = (!text.contains(char::is_whitespace)).then(|| serde_yaml::from_str(text).ok());
    match parsed.flatten() {
        Some(Tree(value @ (Value::Bool(_) | Value::Number(_)))) => value,
        _ => text.into(),
    }
}

/// A [`Value`] read more leniently than its own `Deserialize`: of duplicate keys the last wins
/// (the index has reported them), and numbers and booleans may serve as keys, meaning their text.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Tree)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("plain YAML without tags")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    /// An integer beyond 64 bits: out of every range, so its exact value does not matter.
    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok((value as f64).into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok((value as f64).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut sequence = Vec::new();
        while let Some(Tree(item)) = items.next_element()? {
            sequence.push(item);
        }
        Ok(Value::Sequence(sequence))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut mapping = Mapping::new();
        while let Some(Tree(key)) = entries.next_key()? {
            let key = match key {
                Value::Bool(key) => key.to_string().into(),
                Value::Number(key) => key.to_string().into(),
                Value::Null => "null".into(),
                key => key,
            };
            let Tree(value) = entries.next_value()?;
            mapping.insert(key, value);
        }
        Ok(Value::Mapping(mapping))
    }
}
