//! One renderer per format, each from the result document alone.

mod assertions;
mod comparison;
mod csv;
mod glyphs;
#[cfg(test)]
mod golden;
pub mod listing;
mod markdown;
pub mod number;
mod side_by_side;
mod step_summary;
mod tables;
mod terminal;

pub use assertions::annotations;
pub use comparison::{comparison_markdown, comparison_terminal};
pub use csv::csv;
pub use glyphs::Glyphs;
pub use listing::Output;
pub use markdown::markdown;
pub use step_summary::append_step_summary;
pub use terminal::terminal;

use crate::results::Results;

/// A form of the results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// The whole document, raw samples included
    Json,
    /// For pull requests and job summaries
    Markdown,
    /// One line per cell and metric
    Csv,
}

/// The results in this form.
pub fn render(results: &Results, format: Format) -> String {
    match format {
        Format::Table => terminal(results, &Glyphs::from_env()),
        Format::Json => results.to_json(),
        Format::Markdown => markdown(results),
        Format::Csv => csv(results),
    }
}
