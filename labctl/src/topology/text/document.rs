//! A lab file under examination: its text, where things are in it, and what is wrong with it.

use std::{collections::BTreeSet, ops::Range, path::Path, sync::Arc};

use miette::NamedSource;

use crate::error::{Problem, did_you_mean, position};
use crate::topology::text::index::{Duplicate, Fault, Index, Moved, dotted, join};

/// More mistakes than this are of no use to anyone.
pub const MAX_PROBLEMS: usize = 100;

/// A lab file under examination: its text, the index into it and the problems found so far.
pub struct Document {
    source: Arc<NamedSource<String>>,
    index: Index,
    problems: Vec<Problem>,
    /// Paths that were taken out, or whose absence another problem explains.
    set_aside: BTreeSet<String>,
    /// Whether the tree is that of a cell, with other values than the text has.
    is_cell: bool,
}

impl Document {
    /// Indexes a text and reports the keys that are there twice.
    ///
    /// # Errors
    /// The problem, if the text is not YAML.
    pub fn new(path: &Path, text: &str) -> Result<Self, Box<Problem>> {
        let source = NamedSource::new(path.display().to_string(), text.to_owned());
        let source = Arc::new(source);
        let (index, duplicates) = Index::new(text).map_err(|Fault { span, message }| {
            let variable = is_at_variable(text, span.start);
            let mut problem = Problem::new(&source, span, message, "here");
            if variable {
                problem.help("within { } and [ ] a variable stands in quotes: \"${NAME}\"");
            }
            Box::new(problem)
        })?;
        let (problems, set_aside) = (Vec::new(), BTreeSet::new());
        let mut document = Self { source, index, problems, set_aside, is_cell: false };
        for Duplicate { pointer, first, second } in duplicates.into_iter().take(MAX_PROBLEMS) {
            let message = titled(&pointer, "the key is there twice");
            let problem = document.problem(second, message, "again here");
            problem.also(first, "first here").help("remove one of them");
        }
        Ok(document)
    }

    /// The same text for the tree of a cell, in which some values have been moved; what is wrong
    /// with the file itself is explained already.
    pub fn of_cell(&self, moved: Vec<Moved>) -> Self {
        Self {
            source: Arc::clone(&self.source),
            index: self.index.moved(moved),
            problems: Vec::new(),
            set_aside: self.set_aside.clone(),
            is_cell: true,
        }
    }

    /// Whether what is said at `pointer` is said by the file or the cell under examination, and not
    /// by a file of whose cells this is one.
    pub fn speaks_of(&self, pointer: &str) -> bool {
        !self.is_cell || self.index.origin(pointer).is_some()
    }

    /// The text itself.
    pub fn text(&self) -> &str {
        self.source.inner()
    }

    /// Reports what makes the text as a whole unusable.
    pub fn fault(&mut self, fault: Fault) {
        self.problem(fault.span, fault.message, "here");
    }

    /// Reports a problem with the key at `pointer`.
    pub fn key_problem(
        &mut self,
        pointer: &str,
        message: &str,
        label: impl Into<String>,
    ) -> &mut Problem {
        let named = self.index.origin(pointer).map_or(pointer, |moved| &moved.key);
        self.problem(self.index.key(pointer), titled(named, message), label)
    }

    /// Reports a problem with the value at `pointer`.
    pub fn value_problem(
        &mut self,
        pointer: &str,
        message: &str,
        label: impl Into<String>,
    ) -> &mut Problem {
        let named = self.index.origin(pointer).map_or(pointer, |moved| &moved.value);
        self.problem(self.index.value(pointer), titled(named, message), label)
    }

    /// Reports a problem with some bytes of the scalar at `pointer`; where the text writes it in
    /// another way than plainly, with the scalar.
    pub fn scalar_problem(
        &mut self,
        pointer: &str,
        scalar: &str,
        part: Range<usize>,
        message: &str,
        label: impl Into<String>,
    ) -> &mut Problem {
        let whole = self.index.value(pointer);
        let written = &self.text()[whole.clone()];
        let quotes = usize::from(written.starts_with(['"', '\'']));
        let plain = written.get(quotes..).is_some_and(|written| written.starts_with(scalar));
        let start = whole.start + quotes;
        let span = if plain { start + part.start..start + part.end } else { whole };
        self.problem(span, titled(pointer, message), label)
    }

    /// Reports a reference to something that is not there.
    pub fn unknown<'n>(
        &mut self,
        pointer: &str,
        kind: &str,
        name: &str,
        known: impl Iterator<Item = &'n str>,
    ) {
        let known: Vec<_> = known.collect();
        let message = format!("no {kind} is called `{name}`");
        let problem = self.value_problem(pointer, &message, format!("unknown {kind}"));
        match did_you_mean(name, known.iter().copied()) {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None if known.is_empty() => problem.help(format!("the file declares no {kind}")),
            None => problem.help(format!("known: {}", known.join(", "))),
        };
    }

    /// Adds a problem that was found in the tree of a cell.
    pub fn adopt(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The problems so far.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether something is wrong with the value at `pointer`.
    pub fn has_problem_at(&self, pointer: &str) -> bool {
        let at = self.index.value(pointer).start;
        self.problems.iter().any(|problem| problem.offset() == at)
    }

    fn problem(
        &mut self,
        span: Range<usize>,
        message: String,
        label: impl Into<String>,
    ) -> &mut Problem {
        let last = self.problems.len();
        self.problems.push(Problem::new(&self.source, span, message, label));
        &mut self.problems[last]
    }

    /// Line and column of the scalar at `pointer`, counted from 1; columns are characters.
    pub fn position(&self, pointer: &str) -> (usize, usize) {
        position(self.text(), self.index.value(pointer).start)
    }

    /// Where things are.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Whether something at, above or below `pointer` was wrong and is therefore missing.
    pub fn is_damaged(&self, pointer: &str) -> bool {
        let below = join(pointer, "");
        let above = pointer.match_indices('/').map(|(end, _)| &pointer[..end]);
        above.chain([pointer]).any(|place| self.is_set_aside(place))
            || self.set_aside.range(below.clone()..).next().is_some_and(|p| p.starts_with(&below))
    }

    /// Whether `pointer` itself, not just something below it, is missing because it was wrong.
    pub fn is_set_aside(&self, pointer: &str) -> bool {
        self.set_aside.contains(pointer)
    }

    /// Whether `pointer` or what it is in is missing because it was wrong; what is wrong below it does
    /// not count.
    pub fn is_lost(&self, pointer: &str) -> bool {
        let above = pointer.match_indices('/').map(|(end, _)| &pointer[..end]);
        above.chain([pointer]).any(|place| self.is_set_aside(place))
    }

    /// What the section at `pointer` lists that is missing because it was wrong.
    pub fn lost_in(&self, pointer: &str) -> impl Iterator<Item = &str> {
        let section = join(pointer, "");
        let within = self.set_aside.range(section.clone()..);
        let names = within.map_while(move |place| place.strip_prefix(&section));
        names.filter(|name| !name.contains('/'))
    }

    /// Whether the section at `pointer` is missing, or something that it lists.
    pub fn lacks_some(&self, pointer: &str) -> bool {
        self.is_lost(pointer) || self.lost_in(pointer).next().is_some()
    }

    /// Remembers that what is at `pointer` cannot be made sense of, and why has been reported.
    pub fn set_aside(&mut self, pointer: &str) {
        self.set_aside.insert(pointer.to_owned());
    }

    /// Reports an absent key, unless an earlier problem explains its absence.
    pub fn missing_key(&mut self, pointer: &str, key: &str) -> Option<&mut Problem> {
        if self.is_damaged(&join(pointer, key)) {
            return None;
        }
        let label = format!("`{key}` is required here");
        Some(self.key_problem(pointer, &format!("missing key `{key}`"), label))
    }

    /// Whether no problem was found.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems, in the order of the text. What two guests inherit is reported once.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(Problem::offset);
        self.problems.dedup_by(|a, b| a.offset() == b.offset() && a.message() == b.message());
        self.problems
    }
}

/// Whether a byte is in `${`, or just behind: to YAML the `{` begins a mapping there.
fn is_at_variable(text: &str, at: usize) -> bool {
    let near = at.saturating_sub(2)..(at + 2).min(text.len());
    text.as_bytes().get(near).is_some_and(|near| near.windows(2).any(|two| two == b"${"))
}

fn titled(pointer: &str, message: &str) -> String {
    match dotted(pointer) {
        path if path.is_empty() => message.to_owned(),
        path => format!("{path}: {message}"),
    }
}
