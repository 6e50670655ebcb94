//! One mistake in a lab file: what is wrong, where, what was expected, what was perhaps meant.

use std::{ops::Range, sync::Arc};

use miette::{
    LabeledSpan, MietteError, MietteSpanContents, NamedSource, SourceCode, SourceSpan, SpanContents,
};

/// Bytes of a line that an excerpt shows whole; of a longer one only what is around its label.
const LONGEST_LINE: usize = 300;
/// Bytes on each side of a label in a longer line.
const AROUND: usize = 60;
/// Bytes of a place that are pointed at.
const LONGEST_SPAN: usize = 120;
/// Characters of a message; what it quotes may be as long as the file.
const LONGEST_MESSAGE: usize = 500;

/// One mistake in a lab file, with the place it was made.
#[derive(Clone, Debug, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
pub struct Problem {
    message: String,
    #[source_code]
    text: Text,
    #[label(collection)]
    labels: Vec<LabeledSpan>,
    #[help]
    help: Option<String>,
    /// Where it is, in bytes from the start of the file.
    offset: usize,
}

impl Problem {
    pub(crate) fn new(
        text: &Arc<NamedSource<String>>,
        span: Range<usize>,
        message: String,
        label: impl Into<String>,
    ) -> Self {
        let offset = span.start;
        let text = Text(Arc::clone(text));
        let label =
            LabeledSpan::new_primary_with_span(Some(shortened(label.into())), text.cut(span));
        Self { message: shortened(message), text, labels: vec![label], help: None, offset }
    }

    /// Adds what to do about it.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a second place that has to do with it.
    pub(crate) fn also(&mut self, span: Range<usize>, label: &str) -> &mut Self {
        let span = self.text.cut(span);
        self.labels.push(LabeledSpan::new_with_span(Some(label.to_owned()), span));
        self
    }

    /// Points at `span` instead, which leads to it; the place so far becomes the second one.
    pub(crate) fn because_of(mut self, span: Range<usize>, title: &str, label: &str) -> Self {
        self.message = format!("{title}: {}", self.message);
        self.offset = span.start;
        self.labels.retain(|other| other.offset() != span.start);
        for other in &mut self.labels {
            let (text, span) = (other.label().map(str::to_owned), *other.inner());
            *other = LabeledSpan::new_with_span(text, span);
        }
        let span = self.text.cut(span);
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
        self.text.0.name()
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.help.as_deref()
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Line and column, counted from 1; columns are characters.
    pub fn position(&self) -> (usize, usize) {
        position(self.text.0.inner(), self.offset)
    }
}

/// A file's text, of whose long lines excerpts have a part.
#[derive(Clone, Debug)]
struct Text(Arc<NamedSource<String>>);

impl Text {
    /// The beginning of a place that is too long to be pointed at.
    fn cut(&self, span: Range<usize>) -> Range<usize> {
        let end = self.0.inner().floor_char_boundary(span.start.saturating_add(LONGEST_SPAN));
        span.start..span.end.min(end.max(span.start))
    }
}

impl SourceCode for Text {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_lines_before: usize,
        context_lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let whole = self.0.read_span(span, context_lines_before, context_lines_after)?;
        if whole.data().split(|byte| *byte == b'\n').all(|line| line.len() <= LONGEST_LINE) {
            return Ok(whole);
        }
        let text = self.0.inner();
        let end = span.offset() + span.len();
        let line_start = text[..span.offset()].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[end..].find('\n').map_or(text.len(), |length| end + length);
        let start = text.floor_char_boundary(span.offset().saturating_sub(AROUND)).max(line_start);
        let end = text.ceil_char_boundary(end.saturating_add(AROUND)).min(line_end);
        let part = &text[start..end];
        if part.len() > LONGEST_LINE {
            // Two places that are too far apart for one excerpt: there will be one for each.
            return Err(MietteError::OutOfBounds);
        }
        let (line, column) = position(text, start);
        Ok(Box::new(MietteSpanContents::new_named(
            self.0.name().to_owned(),
            part.as_bytes(),
            (start, part.len()).into(),
            line - 1,
            column - 1,
            part.matches('\n').count(),
        )))
    }
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_MESSAGE) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Line and column of a byte, counted from 1; columns are characters.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The candidate a typing mistake most likely stands for, if one is near enough. A single letter is near
/// to every short word, so that it stands for itself alone.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    let near = |candidate: &str| {
        let lengths = [candidate.chars().count(), word.chars().count()];
        if lengths.contains(&1) { 0 } else { lengths[0].max(lengths[1]) / 3 + 1 }
    };
    candidates
        .into_iter()
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
        assert_eq!(did_you_mean("cat", ["a"]), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abcd", "abdc"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
