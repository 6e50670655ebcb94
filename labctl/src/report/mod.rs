//! One renderer per format, each from the result document alone. The document itself is the JSON
//! format: [`Results::to_json`](crate::results::Results::to_json).

mod comparison;
mod csv;
mod glyphs;
#[cfg(test)]
mod golden;
mod markdown;
mod number;
mod step_summary;
mod tables;
mod terminal;

pub use comparison::{comparison_markdown, comparison_terminal};
pub use csv::csv;
pub use glyphs::Glyphs;
pub use markdown::markdown;
pub use step_summary::append_step_summary;
pub use terminal::terminal;
