//! `labctl plan`: what `labctl bench` would do, and how long it would take.

use serde::Serialize;

use super::{LabFile, next, note, print};
use crate::error::{Error, Exit};
use crate::lab::qemu;
use crate::plan::Plan;
use crate::report::Output;
use crate::report::listing::{Column, Field, Listing, figures, words};
use crate::report::number;
use crate::results::CellId;

const EXAMPLES: &str = "\
Examples:
  labctl plan topologies/paper-pair.lab.yaml     cells, trials and the time they take
  labctl plan --quick                            what `labctl bench --quick` would do
  labctl plan -o json lab.lab.yaml | jq .seconds
  labctl plan -o csv lab.lab.yaml > cells.csv";

/// Show what a benchmark would measure, and how long it would take
///
/// Lists every cell, what makes it differ, its trials and their time, and says which cells would be
/// skipped and why. Nothing is started. The time is a forecast: a slow host gets fewer rounds, a
/// fast one no more than the file asks for.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    lab: LabFile,

    /// Plan what `bench --quick` would do
    #[arg(long, env = "LABCTL_QUICK")]
    quick: bool,

    /// Form of what is printed on stdout
    #[arg(short, long, value_enum, default_value_t, env = "LABCTL_OUTPUT")]
    output: Output,
}

/// The plan, as other programs get it.
#[derive(Debug, Serialize)]
pub struct Forecast<'a> {
    /// The lab's name.
    lab: &'a str,
    /// Rounds that fit the budget.
    rounds: u32,
    /// Trials of all cells, those of the warm-up included.
    trials: usize,
    /// What they take, in seconds.
    seconds: f64,
    /// The cells, in table order.
    cells: Vec<CellForecast<'a>>,
}

/// One cell of it.
#[derive(Debug, Serialize)]
struct CellForecast<'a> {
    #[serde(flatten)]
    id: &'a CellId,
    trials: usize,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'a str>,
}

/// Runs the verb.
///
/// # Errors
/// If the file is invalid or has no experiment, or stdout cannot be written to.
pub fn run(args: Args) -> Result<Exit, Error> {
    let lab = args.lab.load()?;
    let Some(bench) = &lab.bench else { return Err(super::bench::no_experiment(&lab)) };
    // The order of trials is of no matter here.
    let mut plan = Plan::new(bench, args.quick, 0);
    if plan.wants_qemu() {
        plan = plan.with_qemu(qemu::version());
    }
    let forecast = forecast(&lab.name, &plan);
    print(&listing(&forecast).render(&forecast, args.output)?)?;
    super::bench::note_events(&lab);
    let measured = forecast.cells.iter().filter(|cell| cell.skipped.is_none()).count();
    note(&format!(
        "{}: {}, {}, {}, about {}",
        forecast.lab,
        number::things(measured, "cell"),
        number::things(forecast.rounds as usize, "round"),
        number::things(forecast.trials, "trial"),
        number::duration(forecast.seconds)
    ));
    let quick = if args.quick { " --quick" } else { "" };
    next(&format!("labctl bench{quick} {}", super::again(&lab.path)));
    Ok(Exit::Ok)
}

fn forecast<'a>(lab: &'a str, plan: &'a Plan) -> Forecast<'a> {
    let cell = |(number, cell): (usize, &'a crate::plan::PlannedCell)| {
        let (trials, time) = plan.expected_of(number);
        let skipped = cell.skipped.as_deref();
        CellForecast { id: &cell.id, trials, seconds: time.as_secs_f64(), skipped }
    };
    Forecast {
        lab,
        rounds: plan.expected_rounds(),
        trials: plan.expected_trials(),
        seconds: plan.expected_duration().as_secs_f64(),
        cells: plan.cells.iter().enumerate().map(cell).collect(),
    }
}

const COLUMNS: [Column; 7] = [
    words("cell"),
    words("optimizations"),
    words("settings"),
    words("platform").wide(),
    figures("trials"),
    figures("seconds"),
    words("skipped"),
];

/// One row a cell.
fn listing(forecast: &Forecast<'_>) -> Listing<7> {
    let row = |cell: &CellForecast<'_>| {
        let id = cell.id;
        let settings = id.parameters.iter().map(|(key, value)| format!("{key} {value}"));
        let protocol = (!id.protocol.is_raw()
            && !id.parameters.contains_key("throughput.protocol"))
        .then(|| id.protocol.to_string());
        let settings: Vec<_> = settings.chain(protocol).collect();
        let seconds = Field::figure(Some(cell.seconds), |seconds| format!("{seconds:.1}"));
        [
            Field::word(id.name.as_ref()),
            id.optimizations.into(),
            Field::word((!settings.is_empty()).then(|| settings.join(", "))),
            id.platform.into(),
            cell.trials.into(),
            seconds,
            Field::word(cell.skipped),
        ]
    };
    Listing { columns: COLUMNS, rows: forecast.cells.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Lab;

    #[test]
    fn cells_add_up_to_the_whole() {
        let text = "name: t\nswitches: { sw0: }\ndefaults: { nics: [{ switch: sw0 }] }\n\
                    guests: { a: , b: }\nbench:\n  throughput: { from: a, to: b }\n\
                    \u{20} rr: { from: a, to: b }\n  matrix: { optimizations.csb: [false, true] }\n\
                    \u{20} cells: { theirs: { vmm: qemu }, large: { ring: 4096, only: rr } }\n";
        let lab = Lab::parse(std::path::Path::new("t.lab.yaml"), text).unwrap();
        let plan =
            Plan::new(lab.bench.as_ref().unwrap(), false, 1).with_qemu(Err("no QEMU".into()));
        let forecast = forecast("t", &plan);
        let trials: Vec<_> = forecast.cells.iter().map(|cell| cell.trials).collect();
        // Six rounds; the first and the last cell that are there warm up.
        assert_eq!(trials, [14, 12, 0, 7]);
        assert_eq!(forecast.trials, trials.iter().sum::<usize>());
        let seconds: f64 = forecast.cells.iter().map(|cell| cell.seconds).sum();
        assert!((forecast.seconds - seconds).abs() < 1e-6, "{} {seconds}", forecast.seconds);
        let csv = listing(&forecast).render(&forecast, Output::Csv).unwrap();
        let rows: Vec<_> = csv.lines().collect();
        assert_eq!(rows[0], "cell,optimizations,settings,platform,trials,seconds,skipped");
        assert!(rows[3].starts_with("theirs,itr+sc,,qemu e1000 tap,0,0,"), "{csv}");
        assert!(rows[3].ends_with(",no QEMU"), "{csv}");
        assert!(rows[4].starts_with("large,itr+sc+csb+vale,ring 4096,labctl"), "{csv}");
    }
}
