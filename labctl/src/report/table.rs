//! A table as rows of text, and what its fields are made of. Terminal and Markdown differ only in how
//! they draw it.

use super::glyphs::Glyphs;
use super::number::significant;
use crate::results::{Optimization, Optimizations, Ratio};

/// A header and rows of as many columns.
pub struct Table {
    /// Titles and how the columns below them are set.
    pub columns: Vec<(String, Align)>,
    /// The body.
    pub rows: Vec<Vec<String>>,
}

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Marks.
    Center,
    /// Figures.
    Right,
}

/// A column of words.
pub fn words(title: &str) -> (String, Align) {
    (title.to_owned(), Align::Left)
}

/// A column of figures.
pub fn figures(title: &str) -> (String, Align) {
    (title.to_owned(), Align::Right)
}

/// The columns that say which optimizations are on.
pub fn toggle_columns() -> impl Iterator<Item = (String, Align)> {
    Optimization::ALL.into_iter().map(|which| (which.name().to_owned(), Align::Center))
}

/// A mark for each of them.
pub fn toggles(on: Optimizations, g: &Glyphs) -> impl Iterator<Item = String> {
    Optimization::ALL
        .into_iter()
        .map(move |which| if on.get(which) { g.on } else { g.off }.to_owned())
}

/// `×1.52`.
pub fn ratio(ratio: Option<Ratio>, g: &Glyphs) -> String {
    ratio.map_or_else(|| g.none.to_owned(), |r| format!("{}{}", g.times, significant(r.ratio)))
}

/// `1.41–1.63`.
pub fn ratio_interval(ratio: Option<Ratio>, g: &Glyphs) -> String {
    ratio.map_or_else(|| g.none.to_owned(), |r| interval(r.low, r.high, g))
}

/// `1.41–1.63`.
pub fn interval(low: f64, high: f64, g: &Glyphs) -> String {
    format!("{}{}{}", significant(low), g.to, significant(high))
}

/// The text, or as much of it as fits.
pub fn shorten(text: &str, width: usize, g: &Glyphs) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(g.cut.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_cause_is_cut_at_characters() {
        assert_eq!(shorten("abc", 3, &Glyphs::ASCII), "abc");
        assert_eq!(shorten("äöüß", 3, &Glyphs::UNICODE), "äö…");
    }
}
