//! Where things are in a YAML text: a map from paths to byte ranges.
//!
//! serde knows which path is wrong but not where it is written; this index, built from the event
//! stream of a parser that keeps positions, answers that. Paths are JSON pointers (RFC 6901).

use std::{collections::HashMap, ops::Range, sync::Arc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

/// Most collections inside of each other.
pub const DEPTH_MAX: usize = 64;

/// Most bytes of a path. Every node has its own, so that without a limit they would take the square
/// of the text's length.
const PATH_MAX: usize = 500;

/// Byte ranges of the keys and values of one YAML document.
#[derive(Clone, Debug, Default)]
pub struct Index {
    nodes: Arc<HashMap<String, Node>>,
    moved: Vec<Moved>,
}

/// A path whose value was put there by an experiment, and where the text has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// Where the value is now.
    pub path: String,
    /// Where the text has its key.
    pub key: String,
    /// Where the text has the value.
    pub value: String,
}

#[derive(Debug)]
struct Node {
    key: Option<Range<usize>>,
    value: Range<usize>,
    /// A collection is pointed at by its key: its value may span the whole file.
    collection: bool,
    /// A scalar without quotes.
    plain: bool,
    /// The path of what an alias stands for.
    target: Option<String>,
}

/// A place in the text and what is wrong there.
#[derive(Debug, PartialEq)]
pub struct Fault {
    pub span: Range<usize>,
    pub message: String,
}

impl Fault {
    pub fn new(span: Range<usize>, message: &str) -> Self {
        Self { span, message: message.to_owned() }
    }
}

/// A key that a mapping has twice.
#[derive(Debug, PartialEq)]
pub struct Duplicate {
    pub pointer: String,
    pub first: Range<usize>,
    pub second: Range<usize>,
}

/// A collection the parser is inside of.
struct Frame {
    pointer: String,
    inside: Inside,
}

enum Inside {
    Sequence {
        length: usize,
    },
    Mapping {
        /// The key whose value comes next.
        key: Option<(String, Range<usize>)>,
        /// The keys so far.
        seen: HashMap<String, Range<usize>>,
    },
}

impl Index {
    /// Indexes a text, and lists the keys that are there twice (the later one counts).
    ///
    /// # Errors
    /// The first syntax error, or what YAML allows but a lab file does not: several documents,
    /// keys that are collections, what is nested too deeply.
    pub fn new(text: &str) -> Result<(Index, Vec<Duplicate>), Fault> {
        // The parser counts characters.
        let bytes: Vec<usize> = text.char_indices().map(|(byte, _)| byte).collect();
        let byte = |at: &Marker| bytes.get(at.index()).copied().unwrap_or(text.len());
        let mut nodes = HashMap::new();
        let mut duplicates = Vec::new();
        let mut frames: Vec<Frame> = Vec::new();
        let mut anchors: HashMap<usize, String> = HashMap::new();
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let at = byte(error.marker());
                Fault::new(at..at, &format!("not valid YAML: {}", error.info()))
            })?;
            let span = byte(&span.start)..byte(&span.end);
            if let Event::Scalar(.., Some(tag))
            | Event::SequenceStart(_, Some(tag))
            | Event::MappingStart(_, Some(tag)) = &event
                && !tag.is_yaml_core_schema()
            {
                let message = format!("a lab file has no tags, such as `{tag}`");
                return Err(Fault::new(span, &message));
            }
            let (scalar, inside) = match &event {
                Event::Scalar(text, ..) => (Some(text.as_ref()), None),
                Event::Alias(_) => (None, None),
                Event::SequenceStart(..) => (None, Some(Inside::Sequence { length: 0 })),
                Event::MappingStart(..) => {
                    (None, Some(Inside::Mapping { key: None, seen: HashMap::new() }))
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    frames.pop();
                    continue;
                }
                Event::DocumentStart(_) if documents > 0 => {
                    return Err(Fault::new(span, "a lab file holds one YAML document"));
                }
                Event::DocumentStart(_) => {
                    documents += 1;
                    continue;
                }
                _ => continue,
            };
            let (pointer, key) = match frames.last_mut() {
                None => (String::new(), None),
                Some(Frame { pointer, inside: Inside::Sequence { length } }) => {
                    *length += 1;
                    (join(pointer, &(*length - 1).to_string()), None)
                }
                Some(Frame { pointer, inside: Inside::Mapping { key, seen } }) => {
                    let Some((name, place)) = key.take() else {
                        let name =
                            scalar.ok_or(Fault::new(span.clone(), "a key must be a word"))?;
                        if let Some(first) = seen.insert(name.to_owned(), span.clone()) {
                            let pointer = join(pointer, name);
                            duplicates.push(Duplicate { pointer, first, second: span.clone() });
                        }
                        *key = Some((name.to_owned(), span));
                        continue;
                    };
                    (join(pointer, &name), Some(place))
                }
            };
            if pointer.len() > PATH_MAX {
                let message = format!("the keys that lead here are longer than {PATH_MAX} bytes");
                return Err(Fault::new(key.unwrap_or(span), &message));
            }
            if inside.is_some() && frames.len() == DEPTH_MAX {
                return Err(Fault::new(span, &format!("nested more than {DEPTH_MAX} deep")));
            }
            let node = Node {
                key,
                value: span,
                collection: inside.is_some(),
                plain: matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..)),
                target: match &event {
                    Event::Alias(anchor) => anchors.get(anchor).cloned(),
                    _ => None,
                },
            };
            if let Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _) = &event
            {
                anchors.insert(*anchor, pointer.clone());
            }
            nodes.insert(pointer.clone(), node);
            frames.extend(inside.map(|inside| Frame { pointer, inside }));
        }
        Ok((Index { nodes: Arc::new(nodes), moved: Vec::new() }, duplicates))
    }

    /// The index of the same text for a tree in which some values have been moved.
    pub fn moved(&self, moved: Vec<Moved>) -> Index {
        Index { nodes: Arc::clone(&self.nodes), moved }
    }

    /// What has put the value at this path there, or the value above it, or else those below it.
    pub fn origin(&self, pointer: &str) -> Option<&Moved> {
        let holds = |moved: &&Moved| is_within(pointer, &moved.path);
        let makes = |moved: &&Moved| is_within(&moved.path, pointer) && !self.contains(pointer);
        self.moved.iter().rfind(holds).or_else(|| self.moved.iter().rfind(makes))
    }

    /// Whether the text says anything at this path.
    pub fn contains(&self, pointer: &str) -> bool {
        self.nodes.contains_key(pointer)
    }

    /// The key at a path, or the value if it has no key (a list item).
    pub fn key(&self, pointer: &str) -> Range<usize> {
        let pointer = self.origin(pointer).map_or(pointer, |moved| &moved.key);
        match self.nodes.get(pointer) {
            Some(node) => node.key.clone().unwrap_or_else(|| node.value.clone()),
            None => self.above(pointer),
        }
    }

    /// The scalar at a path; where there is none, its key.
    pub fn value(&self, pointer: &str) -> Range<usize> {
        let pointer = self.origin(pointer).map_or(pointer, |moved| &moved.value);
        match self.nodes.get(pointer) {
            Some(node) if !node.collection && !node.value.is_empty() => node.value.clone(),
            _ => self.key(pointer),
        }
    }

    /// Whether the scalar at a path, or the one that an alias leads to, is written without quotes.
    pub fn is_plain(&self, pointer: &str) -> bool {
        if let Some(node) = self.nodes.get(pointer) {
            // An anchor comes before its aliases, so that this ends.
            return node.plain || node.target.as_ref().is_some_and(|target| self.is_plain(target));
        }
        // Below an alias, if anywhere.
        let above = pointer.match_indices('/').map(|(end, _)| pointer.split_at(end));
        let mut aliases = above
            .filter_map(|(above, below)| Some((self.nodes.get(above)?.target.as_ref()?, below)));
        aliases.next().is_some_and(|(target, below)| self.is_plain(&format!("{target}{below}")))
    }

    /// For a path that is not in the text, because it is absent or reached through an alias: the
    /// nearest enclosing key, or the alias.
    fn above(&self, pointer: &str) -> Range<usize> {
        pointer.rfind('/').map_or(0..0, |end| self.value(&pointer[..end]))
    }

    /// The first merge key (`<<`).
    pub fn merge_key(&self) -> Range<usize> {
        let merges = self.nodes.iter().filter(|(pointer, _)| pointer.ends_with("/<<"));
        let keys = merges.filter_map(|(_, node)| node.key.clone());
        keys.min_by_key(|key| key.start).unwrap_or_default()
    }
}

/// Whether a pointer is `above` or below it.
fn is_within(pointer: &str, above: &str) -> bool {
    pointer.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Appends one step to a JSON pointer.
pub fn join(pointer: &str, step: &str) -> String {
    format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// Writes a JSON pointer the way people write paths: `guests.left.nics[0].switch`.
pub fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        if step.bytes().all(|byte| byte.is_ascii_digit()) && !path.is_empty() {
            path += &format!("[{step}]");
        } else {
            let dot = if path.is_empty() { "" } else { "." };
            path += &format!("{dot}{}", step.replace("~1", "/").replace("~0", "~"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "é: {a/b: [x, 'y']}\nlist:\n  - k: 1\n  - *anchor\n";

    #[test]
    fn paths_lead_to_bytes() {
        let text = TEXT.replace("1\n", "&anchor 1\n");
        let (index, duplicates) = Index::new(&text).expect("valid");
        assert_eq!(duplicates, []);
        assert_eq!(&text[index.value("/é/a~1b/1")], "'y'");
        assert_eq!(&text[index.key("/é/a~1b")], "a/b");
        assert_eq!(&text[index.key("/list/1/behind/it")], "*anchor");
        assert_eq!(&text[index.value("/é/absent")], "é");
        assert_eq!(&text[index.value("/list/1")], "*anchor");
        assert_eq!(dotted("/list/0/a~1b"), "list[0].a/b");
    }

    #[test]
    fn duplicates_are_found_in_their_own_mapping_only() {
        let text = "a: {x: 1}\nb: {x: 1, x: 2}\n";
        let (_, duplicates) = Index::new(text).expect("valid");
        let [Duplicate { pointer, first, second }] = duplicates.as_slice() else {
            panic!("{duplicates:?}")
        };
        assert_eq!((pointer.as_str(), first.start, second.start), ("/b/x", 14, 20));
    }

    #[test]
    fn what_would_take_all_memory_is_refused() {
        let nested = |depth: usize| "- ".repeat(depth) + "x";
        assert!(Index::new(&nested(DEPTH_MAX)).is_ok());
        let fault = Index::new(&nested(DEPTH_MAX + 1)).expect_err("too deep");
        assert_eq!((fault.span.start, fault.message.as_str()), (128, "nested more than 64 deep"));
        // Everything below a key bears its name.
        let below = |length: usize| format!("{}: {{ a: [x, x] }}", "k".repeat(length));
        assert!(Index::new(&below(PATH_MAX - "//a/0".len())).is_ok());
        let fault = Index::new(&below(PATH_MAX - "//a/0".len() + 1)).expect_err("too long");
        assert_eq!(fault.message, "the keys that lead here are longer than 500 bytes");
        assert_eq!(fault.span.start, PATH_MAX - "//a/0".len() + 1 + ": { a: [".len());
    }

    #[test]
    fn faults_carry_their_place() {
        for (text, at) in [("a: [1\nb: 2\n", 7), ("a: 1\n---\nb: 2\n", 5), ("[a]: 1\n", 0)] {
            let fault = Index::new(text).expect_err(text);
            assert_eq!(fault.span.start, at, "{text:?} {fault:?}");
        }
    }
}
