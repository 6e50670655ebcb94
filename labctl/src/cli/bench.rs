//! `labctl bench`: measure all cells of a lab's experiment.

use std::fs::{File, TryLockError};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{LabFile, OutputFlag, next, note, print};
use crate::bench::runner::{self, Progress};
use crate::error::{Error, Exit};
use crate::lab::{open_hypervisor, qemu};
use crate::plan::{self, Plan};
use crate::report;
use crate::report::number::things;
use crate::results::{Results, Settings, Verdict};
use crate::topology::Lab;

const EXAMPLES: &str = "\
Examples:
  labctl bench topologies/paper-pair.lab.yaml            all 16 cells, about four minutes
  labctl bench topologies/peers.lab.yaml                 beside QEMU, in one table
  labctl bench --quick                                   the only *.lab.yaml here, 45 seconds
  labctl bench -o markdown lab.lab.yaml > table.md       the table for a pull request
  labctl bench --results new.json lab.lab.yaml && labctl compare old.json new.json";

/// Measure every cell of a lab's experiment
///
/// Boots the lab's guests anew for every trial, runs the cells in random interleaved rounds, and
/// prints one row per cell with the counters that explain it, then what each optimization is worth.
/// The whole result, raw samples included, goes to a JSON file.
///
/// What the file's `events` say does not happen meanwhile.
///
/// Cells of another VMM are skipped, which is no failure, where it is not installed; the table says so.
///
/// Exits 1 if a cell has no valid trial or an assertion of the file fails, and 14 if it was interrupted;
/// what was measured until then is kept. An assertion that the figures cannot decide is inconclusive,
/// which fails nothing without `--strict`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    lab: LabFile,

    /// Measure for seconds rather than minutes, with wider intervals
    #[arg(long, env = "LABCTL_QUICK")]
    quick: bool,

    /// Order of the trials, instead of the file's `seed`
    ///
    /// Without either it is random; a run prints its seed, so that it can be repeated.
    #[arg(long, value_name = "NUMBER", env = "LABCTL_SEED")]
    seed: Option<u32>,

    /// Fail if an assertion is inconclusive, too
    #[arg(long, env = "LABCTL_STRICT")]
    strict: bool,

    /// Where the result document goes
    #[arg(long, value_name = "FILE", default_value = "results.json", env = "LABCTL_RESULTS")]
    results: PathBuf,

    #[command(flatten)]
    form: OutputFlag,
}

/// Runs the verb.
///
/// # Errors
/// If the file is invalid, the host cannot run the lab, or the results cannot be written.
pub fn run(args: Args) -> Result<Exit, Error> {
    let lab = args.lab.load()?;
    let Some(bench) = &lab.bench else { return Err(no_experiment(&lab)) };
    // Whatever would make the results impossible to keep should be known before they are measured.
    check_writable(&args.results)?;
    let hypervisor = open_hypervisor()?;
    let seed = args.seed.or(bench.seed).map_or_else(plan::random_seed, u64::from);
    let mut plan = Plan::new(bench, args.quick, seed);
    if plan.wants_qemu() {
        plan = plan.with_qemu(qemu::version());
    }
    let skipped = plan.cells.iter().filter_map(|cell| Some((&cell.id, cell.skipped.as_ref()?)));
    for (cell, reason) in skipped.clone() {
        note(&format!("{cell}: skipped: {reason}"));
    }
    if skipped.count() == plan.cells.len() {
        let message = "every cell of the experiment was skipped";
        return Err(Error::new(Exit::HostLacks, message));
    }
    note_events(&lab);
    note(&format!(
        "{}: {}, about {} in {} (seed {seed})",
        lab.name,
        things(plan.cells.iter().filter(|cell| cell.skipped.is_none()).count(), "cell"),
        things(plan.expected_trials(), "trial"),
        report::number::duration(plan.expected_duration().as_secs_f64()),
    ));

    let journal = Journal::create(&args.results)?;
    let results =
        measure(&hypervisor, &lab, &plan, &journal).inspect_err(|_| journal.remove_if_empty())?;
    let written = results.write(&args.results);
    if written.is_ok() {
        journal.remove();
    }
    // They were measured: shown, whatever the disk says.
    print(&report::render(&results, args.form.output)?)?;
    let summary = report::append_step_summary(&report::markdown(&results));
    summary
        .map_err(|e| Error::new(Exit::Failed, "cannot write $GITHUB_STEP_SUMMARY").because(e))?;
    written.map_err(|error| cannot_write(&args.results, error))?;
    let Settings { rounds, budget_s, .. } = results.settings;
    if results.complete {
        let words = about_budget((rounds, plan.rounds), (results.duration_s, budget_s));
        words.iter().for_each(|words| note(words));
    }
    finish(&results, &args)
}

/// What the time that a run may take has cost it, or how it was exceeded: rounds done and planned,
/// seconds taken and allowed. `None` if all rounds fitted.
fn about_budget((done, planned): (u32, u32), (took, allowed): (f64, f64)) -> Option<String> {
    let [took, budget] = [took, allowed].map(f64::round);
    let rounds = format!("{done} of {}", things(planned as usize, "round"));
    let words = |seconds| report::number::duration(seconds);
    if took > budget {
        return Some(format!(
            "budget of {} exceeded: {rounds} took {}",
            words(budget),
            words(took)
        ));
    }
    (done < planned).then(|| format!("budget of {} used up after {rounds}", words(budget)))
}

/// A lab without a `bench` section.
pub fn no_experiment(lab: &Lab) -> Error {
    let message = format!("{} has no `bench` section", lab.path.display());
    Error::new(Exit::NothingSelected, message)
        .help("add one, as in topologies/paper-pair.lab.yaml, or use `labctl up`")
}

/// Says what the file has that is no part of a measurement.
pub fn note_events(lab: &Lab) {
    if !lab.events.is_empty() {
        note(&format!("{}: its `events` do not happen while it is measured", lab.name));
    }
}

fn measure(
    hypervisor: &vmm_core::kvm::Hypervisor,
    lab: &Lab,
    plan: &Plan,
    journal: &Journal,
) -> Result<Results, Error> {
    let display = Display::new(plan);
    let outcome = super::block_on(async {
        let stop = async {
            super::interrupted().await;
            note("interrupted: stopping the guests, keeping the results so far");
        };
        let progress = |progress: Progress<'_>| {
            journal.add(&progress);
            display.show(progress);
        };
        runner::run(hypervisor, lab, plan, progress, stop).await
    })?;
    display.bar.finish_and_clear();
    outcome
}

fn finish(results: &Results, args: &Args) -> Result<Exit, Error> {
    let path = args.results.display();
    note(&format!("results: {path}"));
    if std::env::var_os("GITHUB_ACTIONS").is_some() {
        note(report::annotations(results, args.strict).trim_end());
    }
    if !results.complete {
        return Ok(Exit::Interrupted);
    }
    let tolerated = if args.strict { Verdict::Pass } else { Verdict::Inconclusive };
    let failed: Vec<_> =
        results.assertions.iter().filter(|assertion| assertion.verdict > tolerated).collect();
    for assertion in &failed {
        note(&format!("assertion {}: {}", assertion.verdict.name(), assertion.title()));
    }
    next(&format!("labctl compare OLD.json {path}"));
    let void = results.cells.iter().any(|cell| cell.void_reason().is_some());
    Ok(if void || !failed.is_empty() { Exit::Failed } else { Exit::Ok })
}

const ELSEWHERE: &str = "choose another place with `--results FILE`";

fn check_writable(path: &Path) -> Result<(), Error> {
    if path == Path::new("-") {
        let error = Error::new(Exit::Usage, "results go to a file, and not to stdout");
        return Err(error.help("use `-o json` for the document on stdout"));
    }
    let existed = path.exists();
    if existed && !path.is_file() {
        let message = format!("{} is not a regular file", path.display());
        let help = "use `-o json` for the document on stdout";
        return Err(Error::new(Exit::Usage, message).help(help));
    }
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| cannot_write(path, error))?;
    if !existed {
        // Nothing was written; the run will create it again.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    super::cannot_write(path, error).help(ELSEWHERE)
}

/// Keeps every trial as it ends, one JSON object a line, for a run that is killed. The result
/// document holds all of it, so a run that ends well leaves no journal.
struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    fn create(results: &Path) -> Result<Self, Error> {
        let path = results.with_extension("samples.ndjson");
        let opened = File::options().write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(|error| cannot_write(&path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message =
                    format!("another benchmark has {} for its results", results.display());
                return Err(Error::new(Exit::Locked, message).help(ELSEWHERE));
            }
            Err(TryLockError::Error(error)) => return Err(cannot_write(&path, error)),
        }
        file.set_len(0).map_err(|error| cannot_write(&path, error))?;
        Ok(Self { path, file })
    }

    fn add(&self, progress: &Progress<'_>) {
        let cell = progress.cell;
        let line = json!({
            "cell": cell.id,
            "sample": progress.sample,
        });
        // A full disk must not end the measurement; the results are written in the end or not.
        if let Err(error) = writeln!(&self.file, "{line}") {
            tracing::warn!(%error, "cannot keep a trial in {}", self.path.display());
        }
    }

    fn remove_if_empty(&self) {
        if self.file.metadata().is_ok_and(|file| file.len() == 0) {
            self.remove();
        }
    }

    fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, "cannot remove {}", self.path.display());
        }
    }
}

/// A bar on a terminal, a line a round elsewhere: a CI log shows no bar.
struct Display {
    bar: ProgressBar,
    lines: bool,
    per_round: usize,
}

impl Display {
    fn new(plan: &Plan) -> Self {
        let style = ProgressStyle::with_template(
            "{elapsed_precise} {wide_bar:.cyan/dim} {pos}/{len} {msg}",
        );
        let bar = ProgressBar::new(plan.expected_trials() as u64);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar, lines: !io::stderr().is_terminal(), per_round: plan.round(1).len() }
    }

    fn show(&self, progress: Progress<'_>) {
        let Progress { round, done, sample, cell } = progress;
        let figure = match (sample.mpps(), sample.latency) {
            _ if !sample.is_valid() => "void".to_owned(),
            (_, Some(latency)) => format!("{:.1} us", latency.p50_ns as f64 / 1e3),
            (Some(mpps), None) => format!("{}pps", report::number::metric(mpps * 1e6)),
            (None, None) => "nothing".to_owned(),
        };
        let text = format!("round {round}, {}: {figure}", cell.id);
        self.bar.set_length(self.bar.length().unwrap_or(0).max(done as u64));
        self.bar.set_position(done as u64);
        self.bar.set_message(text.clone());
        if self.lines && done % (self.per_round / 4).max(1) == 0 {
            note(&format!("{}, {text}", things(done, "trial")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_was_exceeded_or_cost_rounds_is_mentioned() {
        let words = |rounds, seconds| about_budget(rounds, seconds).unwrap_or_default();
        assert_eq!(words((10, 10), (199.0, 200.0)), "");
        assert_eq!(words((10, 10), (200.4, 200.0)), "", "nobody would see the difference");
        assert_eq!(
            words((7, 10), (190.0, 200.0)),
            "budget of 3 min 20 s used up after 7 of 10 rounds"
        );
        assert_eq!(words((1, 1), (6.0, 3.0)), "budget of 3 s exceeded: 1 of 1 round took 6 s");
    }
}
