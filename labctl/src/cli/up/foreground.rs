//! A lab in the foreground: its output on this terminal, its end with ours.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::session::Session;
use crate::cli::{again, block_on, cannot_write, interrupted, next, note, print_while_read};
use crate::control::directory::LabDirectory;
use crate::control::protocol::{EVENTS_MISSED, Event, LabStatus, LogLine, Request, Traffic};
use crate::error::{Error, Exit};
use crate::report::number::{metric, things};
use crate::supervisor::{Call, Follower, Reply, Supervisor};
use crate::topology::Lab;

/// How long what is left may take to print when the lab has ended.
const PRINT_TIME: Duration = Duration::from_secs(2);

/// Up to so many guests have a line of rates each; more share one.
const SINGLE_RATES: usize = 8;

/// Runs the lab until it ends, it is interrupted, or `time` is over.
///
/// # Errors
/// If the lab cannot run, a guest has failed, or the counters cannot be written.
pub fn run(
    lab: Lab,
    directory: &LabDirectory,
    time: Option<Duration>,
    counters: Option<&Path>,
) -> Result<Exit, Error> {
    let session = Session::begin(directory.lock()?, &lab.path)?;
    // A file that cannot be created should be known before the lab has run.
    let counters = counters.map(Counters::create).transpose()?;
    let (path, measures) = (lab.path.clone(), lab.bench.is_some());
    block_on(async {
        let mut end = pin!(interrupted());
        let mut started = tokio::select! {
            biased;
            () = &mut end => return Ok(()),
            started = session.start(lab) => started?,
        };
        let supervisor = &mut started.supervisor;
        let mut printed = Watcher::new(supervisor).spawn()?;
        let outcome = tokio::select! {
            end = supervisor.run(false) => { note(end); None }
            outcome = &mut printed => Some(outcome),
            () = end => { note("stopping"); None }
            () = after(time) => None,
        };
        if let Some(counters) = counters {
            supervisor.settle().await?;
            counters.write(&supervisor.all_counters().await?)?;
        }
        let failure = supervisor.failure();
        started.stop().await;
        let outcome = match outcome {
            Some(outcome) => outcome,
            // A terminal that is held, or a pager, may take what is left, or never do so.
            None => timeout(PRINT_TIME, printed).await.unwrap_or(Ok(Ok(()))),
        };
        let bug = |_| Err(Error::new(Exit::Bug, "what guests print cannot be shown any more"));
        outcome.unwrap_or_else(bug).and(failure.map_or(Ok(()), Err))
    })??;
    if measures {
        next(&format!("labctl bench {}", again(&path)));
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

    fn write(mut self, document: &Value) -> Result<(), Error> {
        writeln!(self.file, "{document:#}").map_err(|error| cannot_write(self.path, error))
    }
}

/// Prints what guests say, what happens, and how fast they are.
struct Watcher {
    lab: String,
    guests: usize,
    width: usize,
    log: Follower<LogLine>,
    events: Follower<Event>,
    calls: mpsc::Sender<Call>,
    /// Of QEMU's NICs nothing is known while it runs.
    has_rates: bool,
    before: Option<(Instant, LabStatus)>,
}

impl Watcher {
    fn new(supervisor: &Supervisor) -> Self {
        let (lab, history) = (supervisor.lab(), supervisor.history());
        Self {
            lab: lab.name.clone(),
            guests: lab.guests.len(),
            width: lab.guests.iter().map(|guest| guest.name.len()).max().unwrap_or(0),
            log: history.log(None, None, true),
            events: history.events(true),
            calls: supervisor.caller(),
            has_rates: lab.qemu.is_none(),
            before: None,
        }
    }

    /// Watches on a thread of its own: a terminal that is held, or a pager, must not hold the lab.
    fn spawn(mut self) -> Result<oneshot::Receiver<Result<(), Error>>, Error> {
        let (done, is_done) = oneshot::channel();
        let watch = move || done.send(block_on(self.watch()).flatten());
        let spawned = thread::Builder::new().name("watcher".into()).spawn(watch);
        let failed = |error| Error::new(Exit::HostLacks, "cannot start a thread").because(error);
        spawned.map_err(failed).map(|_| is_done)
    }

    /// Ends with the lab, or when nobody reads stdout any more.
    async fn watch(&mut self) -> Result<(), Error> {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                line = self.log.next() => match line {
                    Some(line) if self.print(&line)? => {}
                    _ => break,
                },
                Some(event) = self.events.next() => self.tell(&event),
                _ = seconds.tick(), if self.has_rates => self.rates().await,
            }
        }
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.tell(&event);
        }
        Ok(())
    }

    fn print(&self, line: &LogLine) -> Result<bool, Error> {
        print_while_read(&format!("{:width$} | {}\n", line.guest, line.text, width = self.width))
    }

    fn tell(&self, event: &Event) {
        let guest = event.subject.as_deref().unwrap_or_default();
        let detail = event.detail.as_deref().unwrap_or_default();
        match event.event.as_str() {
            "lab-ready" => {
                let guests = things(self.guests, "guest");
                note(&format!("{}: {guests} up, Ctrl-C ends it", self.lab));
            }
            "guest-failed" => {
                note(&format!("guest `{guest}` {detail}"));
                note(&format!("next: labctl restart {guest} --lab {}", self.lab));
            }
            EVENTS_MISSED => note(detail),
            "guest-hangs" => note(&format!("guest `{guest}` hangs")),
            "guest-restarted" | "link-changed" | "link-lost" | "changed" => {
                note(format!("{} `{guest}` {detail}", event.event).trim_end());
            }
            _ => {}
        }
    }

    /// One line a guest: packets a second each way, interrupts, and what was dropped.
    async fn rates(&mut self) {
        let Some(status) = self.status().await else { return };
        let now = (Instant::now(), status);
        let Some(before) = self.before.replace(now.clone()) else { return };
        let seconds = now.0.duration_since(before.0).as_secs_f64();
        let line = |name: &str, old: Traffic, new: Traffic| {
            let rate = |new: u64, old: u64| metric(new.saturating_sub(old) as f64 / seconds);
            note(&format!(
                "{name:width$} : tx {:>7}pps  rx {:>7}pps  interrupts {:>7}/s  rx drops {:>7}pps",
                rate(new.tx_frames, old.tx_frames),
                rate(new.rx_frames, old.rx_frames),
                rate(new.interrupts, old.interrupts),
                rate(new.rx_dropped, old.rx_dropped),
                width = self.width,
            ));
        };
        let of = |status: &LabStatus, guest: &str| {
            let found = status.guests.iter().find(|found| found.name == guest);
            found.map(|guest| Traffic::total(guest.nics.iter().map(|nic| nic.counters)))
        };
        if now.1.guests.len() <= SINGLE_RATES {
            for guest in &now.1.guests {
                let old = of(&before.1, &guest.name).unwrap_or_default();
                line(&guest.name, old, of(&now.1, &guest.name).unwrap_or_default());
            }
        } else {
            let all = |status: &LabStatus| {
                let nics = status.guests.iter().flat_map(|guest| &guest.nics);
                Traffic::total(nics.map(|nic| nic.counters))
            };
            line("all", all(&before.1), all(&now.1));
        }
    }

    async fn status(&self) -> Option<LabStatus> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call { request: Request::Status, reply }).await.ok()?;
        match answer.await.ok()?.ok()? {
            Reply::Document(status) => serde_json::from_value(status).ok(),
            _ => None,
        }
    }
}
