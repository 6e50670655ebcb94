//! A lab file under examination: its text, where things are in it, and what is wrong with it.

use std::{collections::BTreeSet, ops::Range, path::Path, sync::Arc};

use miette::NamedSource;

use super::{
    index::{Duplicate, Fault, Index, dotted, join},
    problem::Problem,
};

/// More mistakes than this are of no use to anyone.
pub const MAX_PROBLEMS: usize = 100;

/// A lab file under examination: its text, the index into it and the problems found so far.
pub struct Document {
    source: Arc<NamedSource<String>>,
    index: Index,
    problems: Vec<Problem>,
    /// Paths that were taken out, or whose absence another problem explains.
    set_aside: BTreeSet<String>,
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
            Box::new(Problem::new(&source, span, message, "here"))
        })?;
        let (problems, set_aside) = (Vec::new(), BTreeSet::new());
        let mut document = Self { source, index, problems, set_aside };
        for Duplicate { pointer, first, second } in duplicates.into_iter().take(MAX_PROBLEMS) {
            let message = titled(&pointer, "the key is there twice");
            let problem = document.problem(second, message, "again here");
            problem.also(first, "first here").help("remove one of them");
        }
        Ok(document)
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
        self.problem(self.index.key(pointer), titled(pointer, message), label)
    }

    /// Reports a problem with the value at `pointer`.
    pub fn value_problem(
        &mut self,
        pointer: &str,
        message: &str,
        label: impl Into<String>,
    ) -> &mut Problem {
        self.problem(self.index.value(pointer), titled(pointer, message), label)
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

    /// Where things are.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Whether something at or below `pointer` was wrong and is therefore missing.
    pub fn is_damaged(&self, pointer: &str) -> bool {
        let below = join(pointer, "");
        self.is_set_aside(pointer)
            || self.set_aside.range(below.clone()..).next().is_some_and(|p| p.starts_with(&below))
    }

    /// Whether `pointer` itself, not just something below it, is missing because it was wrong.
    pub fn is_set_aside(&self, pointer: &str) -> bool {
        self.set_aside.contains(pointer)
    }

    /// Remembers that what is at `pointer` cannot be made sense of, and why has been reported.
    pub fn set_aside(&mut self, pointer: &str) {
        self.set_aside.insert(pointer.to_owned());
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

fn titled(pointer: &str, message: &str) -> String {
    match dotted(pointer) {
        path if path.is_empty() => message.to_owned(),
        path => format!("{path}: {message}"),
    }
}
