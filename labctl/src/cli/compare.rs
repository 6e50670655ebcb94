//! `labctl compare`: did it get worse?

use std::path::PathBuf;

use super::OutputFlag;
use crate::{
    bench::compare::{Verdict, compare},
    error::{Error, Exit},
    report::{self, Glyphs, Output, listing::document},
    results::{Results, to_json},
};

const EXAMPLES: &str = "\
Examples:
  labctl compare main.json branch.json
  labctl compare --threshold 10 old.json new.json
  labctl compare -o json old.json new.json | jq '.cells[] | select(.verdict == \"fail\")'

Verdicts, for each cell and all of them:
  pass          no figure got worse by more than the threshold
  fail          throughput or request/response time got worse by more than the threshold, even at
                the better end of its interval, or was lost
  inconclusive  the runs are too noisy to tell: run them longer

Exit codes: 0 nothing failed, 3 a cell failed, 4 no cell in common, 10 a document cannot be read";

/// Compare two results.json cell by cell
///
/// Shows how throughput and request/response time of each cell changed, with the interval of the
/// change, and exits with 3 if any got worse.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The result document to compare with
    old: PathBuf,

    /// The result document to judge
    new: PathBuf,

    #[command(flatten)]
    form: OutputFlag,

    /// Worsening that is tolerated, in percent
    #[arg(
        long,
        value_name = "PERCENT",
        value_parser = percent,
        default_value = "5",
        env = "LABCTL_THRESHOLD"
    )]
    threshold: f64,
}

/// Compares two documents and prints what changed.
///
/// # Errors
/// [`Exit::InvalidFile`] if a document cannot be read, [`Exit::NothingSelected`] if they have no cell in
/// common.
pub fn run(args: Args) -> Result<Exit, Error> {
    let read = |path: &PathBuf| {
        let help = "a document comes from `labctl bench`, which writes results.json";
        Results::read(path)
            .map_err(|error| Error::new(Exit::InvalidFile, error.to_string()).help(help))
    };
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let comparison = compare(&old, &new, args.threshold / 100.0);
    if comparison.cells.is_empty() {
        let (old, new) = (args.old.display(), args.new.display());
        let message = format!("{old} and {new} have no cell in common");
        return Err(Error::new(Exit::NothingSelected, message));
    }
    super::print(&match args.form.output {
        Output::Table | Output::Wide => {
            report::comparison_terminal(&comparison, &Glyphs::from_env())
        }
        Output::Json => to_json(&comparison),
        Output::Yaml => document(&comparison, Output::Yaml)?,
        Output::Markdown => report::comparison_markdown(&comparison),
        Output::Csv => report::comparison_csv(&comparison),
    })?;
    // A change that is doubted, or not trusted, is measured again.
    super::next(&format!("labctl bench {}", super::again(new.lab.file.as_ref())));
    Ok(match comparison.verdict {
        Verdict::Fail => Exit::Regression,
        Verdict::Pass | Verdict::Inconclusive => Exit::Ok,
    })
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim_end().parse() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent),
        _ => Err("expected a percentage from 0 to 99".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_percentage() {
        assert_eq!(percent("5"), Ok(5.0));
        assert_eq!(percent("2.5 %"), Ok(2.5));
        for text in ["", "x", "-1", "100", "NaN"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
