//! `labctl schema`: the format of lab files, for editors.

use crate::{
    error::{Error, Exit},
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl schema > lab.schema.json
  # in a lab file beside it, as its first line, for editors with a YAML language server:
  # yaml-language-server: $schema=lab.schema.json";

/// Print the JSON Schema of lab files
///
/// It is of draft-07, which editors read: they complete keys, explain them and mark mistakes. What
/// relates several keys only `labctl validate` checks.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

/// Prints the schema.
///
/// # Errors
/// If stdout cannot be written to.
pub fn run(_: Args) -> Result<Exit, Error> {
    super::print(&text()?)?;
    super::next("labctl init");
    Ok(Exit::Ok)
}

/// The schema as a file.
pub fn text() -> Result<String, Error> {
    let text = serde_json::to_string_pretty(&topology::schema())
        .map_err(|error| Error::new(Exit::Bug, "cannot write the schema").because(error))?;
    Ok(text + "\n")
}
