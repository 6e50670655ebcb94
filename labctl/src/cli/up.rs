//! `labctl up`: run a lab in the foreground.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use vmm_core::e1000::NicCounters;

use super::{LabFile, next, note, print_while_read};
use crate::error::{Error, Exit};
use crate::lab::{LabCounters, RunningLab, open_hypervisor};
use crate::report::number::metric;
use crate::topology::{Guest, Lab, parse_time};

const EXAMPLES: &str = "\
Examples:
  labctl up topologies/paper-pair.lab.yaml       run it until Ctrl-C
  labctl up --for 10s                            the only *.lab.yaml here, for ten seconds
  labctl up lab.lab.yaml 2>/dev/null | grep rx   only what the guests print
  labctl up --counters up.json && jq .fabric up.json    what the switches counted";

/// Run a lab in the foreground until Ctrl-C or its guests' end
///
/// Guests' output goes to stdout, each line behind its guest's name; live rates go to stderr, once a
/// second. Everything that was created is gone afterwards, whatever way it ends.
///
/// It also ends when all guests have ended by themselves: pktguest with its final report, Linux by
/// resetting itself (`reboot -f`; there is no power switch).
///
/// Exits 0 after Ctrl-C, --for, or all guests' own end, 1 if a guest died or its kernel panicked,
/// and 11 if this host's KVM cannot run Linux guests.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    lab: LabFile,

    /// Stop by itself after this long, such as 10s or 500ms
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time, env = "LABCTL_FOR")]
    time: Option<Duration>,

    /// At the end, write what guests, NICs and switches have counted, as JSON
    #[arg(long, value_name = "FILE", env = "LABCTL_COUNTERS")]
    counters: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// If the file is invalid, the host cannot run the lab, a guest fails, or the counters cannot be
/// written.
pub fn run(args: Args) -> Result<Exit, Error> {
    let lab = args.lab.load()?;
    let hypervisor = open_hypervisor()?;
    // A file that cannot be created should be known before the lab has run.
    let file = args.counters.as_deref().map(Counters::create).transpose()?;
    super::block_on(async {
        let mut running = RunningLab::start(&hypervisor, &lab).await?;
        let outcome = tokio::select! {
            outcome = watch(&lab, &mut running) => outcome,
            () = super::interrupted() => { note("stopping"); Ok(()) }
            () = after(args.time) => Ok(()),
        };
        if let Some(file) = file {
            running.set_links(false);
            running.settle().await?;
            file.write(&lab, &running.counters().await?)?;
        }
        for (guest, reason) in running.stop() {
            tracing::info!(guest, %reason, "stopped");
        }
        outcome
    })??;
    if lab.bench.is_some() {
        next(&format!("labctl bench {}", lab.path.display()));
    }
    Ok(Exit::Ok)
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Where the counters go.
struct Counters<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Counters<'a> {
    fn create(path: &'a Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(|error| cannot_write(path, error))?;
        Ok(Self { path, file })
    }

    fn write(mut self, lab: &Lab, counters: &LabCounters) -> Result<(), Error> {
        let guests = lab.guests.iter().zip(&counters.guests);
        let guests = guests.map(|(guest, (exits, nics))| match lab.qemu {
            None => json!({ "name": guest.name, "exits": exits, "nics": nics }),
            // It tells nothing of either.
            Some(_) => json!({ "name": guest.name, "exits": null, "nics": null }),
        });
        let guests: Vec<_> = guests.collect();
        let document = json!({ "lab": lab.name, "guests": guests, "fabric": counters.fabric });
        writeln!(self.file, "{document:#}").map_err(|error| cannot_write(self.path, error))
    }
}

fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    Error::new(Exit::Failed, format!("cannot write {}", path.display())).because(error)
}

/// Lets the guests go, then prints what they say and how fast they are.
async fn watch(lab: &Lab, running: &mut RunningLab) -> Result<(), Error> {
    running.ready().await?;
    // Nothing tells how far Linux has come.
    let state = if lab.guests.iter().any(Guest::is_linux) { "started" } else { "up" };
    note(&format!("{}: {} guests {state}, Ctrl-C ends it", lab.name, lab.guests.len()));
    let mut before = (Instant::now(), running.counters().await?);
    running.set_links(true);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    seconds.tick().await;
    let width = lab.guests.iter().map(|guest| guest.name.len()).max().unwrap_or(0);
    loop {
        tokio::select! {
            line = running.next_line() => {
                let Some(line) = line? else {
                    note("all guests have ended");
                    return Ok(());
                };
                let text = format!("{:width$} | {}\n", running.name(line.guest), line.text);
                if !print_while_read(&text)? {
                    return Ok(());
                }
                if running.has_halted(&line) {
                    let name = running.name(line.guest);
                    note(&format!("guest `{name}` halted; it ends `up` only with `reboot -f`"));
                }
            }
            // Of QEMU's NICs nothing is known while it runs.
            _ = seconds.tick(), if lab.qemu.is_none() => {
                let now = (Instant::now(), running.counters().await?);
                rates(lab, width, &before, &now);
                before = now;
            }
        }
    }
}

/// One line a guest: packets a second each way, interrupts, and what was dropped.
fn rates(lab: &Lab, width: usize, before: &(Instant, LabCounters), now: &(Instant, LabCounters)) {
    let seconds = now.0.duration_since(before.0).as_secs_f64();
    let guests = lab.guests.iter().zip(before.1.guests.iter().zip(&now.1.guests));
    for (guest, ((_, old), (_, new))) in guests {
        let rate = |count: fn(&NicCounters) -> u64| {
            let sum = |nics: &[NicCounters]| nics.iter().map(count).sum::<u64>();
            metric((sum(new) - sum(old)) as f64 / seconds)
        };
        note(&format!(
            "{:width$} : tx {:>7}pps  rx {:>7}pps  interrupts {:>7}/s  rx drops {:>7}pps",
            guest.name,
            rate(|nic| nic.tx.frames),
            rate(|nic| nic.rx.frames),
            rate(|nic| nic.interrupts),
            rate(|nic| nic.rx.dropped.total()),
        ));
    }
}
