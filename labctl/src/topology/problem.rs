//! One mistake in a lab file: what is wrong, where, what was expected, what was perhaps meant.

use std::{ops::Range, sync::Arc};

use miette::{LabeledSpan, NamedSource};

/// One mistake in a lab file, with the place it was made.
#[derive(Clone, Debug, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
pub struct Problem {
    message: String,
    #[source_code]
    text: Arc<NamedSource<String>>,
    #[label(collection)]
    labels: Vec<LabeledSpan>,
    #[help]
    help: Option<String>,
    /// Where it is, in bytes from the start of the file.
    offset: usize,
}

impl Problem {
    pub(super) fn new(
        text: &Arc<NamedSource<String>>,
        span: Range<usize>,
        message: String,
        label: impl Into<String>,
    ) -> Self {
        let offset = span.start;
        let label = LabeledSpan::new_primary_with_span(Some(label.into()), span);
        Self { message, text: Arc::clone(text), labels: vec![label], help: None, offset }
    }

    /// Adds what to do about it.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a second place that has to do with it.
    pub(super) fn also(&mut self, span: Range<usize>, label: &str) -> &mut Self {
        self.labels.push(LabeledSpan::new_with_span(Some(label.to_owned()), span));
        self
    }

    /// Points at `span` instead, which leads to it; the place so far becomes the second one.
    pub(super) fn because_of(mut self, span: Range<usize>, title: &str, label: &str) -> Self {
        self.message = format!("{title}: {}", self.message);
        self.offset = span.start;
        self.labels.retain(|other| other.offset() != span.start);
        for other in &mut self.labels {
            let (text, span) = (other.label().map(str::to_owned), *other.inner());
            *other = LabeledSpan::new_with_span(text, span);
        }
        let label = LabeledSpan::new_primary_with_span(Some(label.to_owned()), span);
        self.labels.insert(0, label);
        self
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Name of the file, as it was given.
    pub fn file(&self) -> &str {
        self.text.name()
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.help.as_deref()
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Line and column, counted from 1; columns are characters.
    pub fn position(&self) -> (usize, usize) {
        position(self.text.inner(), self.offset)
    }
}

/// Line and column of a byte, counted from 1; columns are characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The candidate a typing mistake most likely stands for, if one is near enough. A single letter is near
/// to every short name, so that it means nothing but itself.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    let mut candidates = candidates.into_iter();
    if word.chars().count() == 1 {
        return candidates.find(|candidate| candidate.to_lowercase() == word);
    }
    let near = |candidate: &str| candidate.chars().count().max(word.chars().count()) / 3 + 1;
    candidates
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= near(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insertions, deletions, substitutions and swaps of neighbours
/// (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|word| word.chars().collect::<Vec<_>>());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitute = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitute.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_near_or_absent() {
        let keys = ["memory", "ring", "spin", "nics", "workload"];
        for (typed, meant) in [
            ("memroy", Some("memory")),
            ("nic", Some("nics")),
            ("Ring", Some("ring")),
            ("work-load", Some("workload")),
            ("cpus", None),
            ("", None),
            ("q", None),
        ] {
            assert_eq!(did_you_mean(typed, keys), meant, "{typed}");
        }
        assert_eq!(did_you_mean("A", ["b", "a"]), Some("a"));
        assert_eq!(did_you_mean("c", ["b", "a", "ca"]), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abcd", "abdc"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
