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
mod table;
mod tables;
mod terminal;

pub use assertions::annotations;
pub use comparison::{comparison_csv, comparison_markdown, comparison_terminal};
pub use csv::csv;
pub use glyphs::Glyphs;
pub use listing::Output;
pub use markdown::markdown;
pub use step_summary::append_step_summary;
pub use terminal::terminal;

use crate::error::Error;
use crate::results::Results;

/// The results in this form; there is no wider table of them.
///
/// # Errors
/// As [`listing::document`].
pub fn render(results: &Results, output: Output) -> Result<String, Error> {
    Ok(match output {
        Output::Table | Output::Wide => terminal(results, &Glyphs::from_env()),
        Output::Json => results.to_json(),
        Output::Yaml => listing::document(results, output)?,
        Output::Markdown => markdown(results),
        Output::Csv => csv(results),
    })
}
