//! The process behind a running lab: it keeps the lab's guests, tells how they are, and changes the
//! lab when asked.
//!
//! One task owns the lab. Whatever wants something of it, the control socket ([`serve()`]) first of
//! all, sends a [`Call`] and gets a [`Reply`]; what happens in the lab goes to [`History`], where
//! whoever is interested reads it. Nothing is on disk that matters: the supervisor ends with the
//! lab, and the lab with the supervisor.

mod apply;
mod difference;
mod history;
mod requests;
mod serve;
mod status;
mod unix_time;

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use vmm_core::kvm::{ExitReason, Hypervisor};

pub use history::{Follower, History};
pub use requests::{Call, Capturing, Reply};
pub use serve::{Serving, serve};
pub use unix_time::now_ms;

use crate::control::protocol::LabState;
use crate::error::{Error, Exit};
use crate::lab::{self, Happening, LabCounters, RunningLab, State};
use crate::topology::{Action, Guest, Lab, TimedEvent};

/// What keeps a lab from being ready, as those see it who wait for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readiness {
    /// Whether all guests have been ready and their cables are plugged in.
    pub ready: bool,
    /// Guests that are not.
    pub waiting: Vec<String>,
    /// Those that have failed, and how.
    pub failed: Vec<(String, String)>,
}

/// A lab and all that is known of it.
pub struct Supervisor {
    hypervisor: Hypervisor,
    lab: Lab,
    running: RunningLab,
    started_ms: u64,
    history: History,
    readiness: watch::Sender<Readiness>,
    /// When all guests were ready for the first time.
    ready_at: Option<Instant>,
    /// Whether pktguests have had their cables plugged in.
    begun: bool,
    /// Whether something was told whose consequences were not drawn yet.
    unsettled: bool,
    /// What the file has to happen, soonest first.
    to_come: Vec<TimedEvent>,
    /// How often each guest was started anew.
    restarts: HashMap<String, u32>,
    /// Why guests are not there that the file has, by name.
    absent: BTreeMap<String, String>,
    calls: mpsc::Receiver<Call>,
    caller: mpsc::Sender<Call>,
    stopping: bool,
}

impl Supervisor {
    /// Starts the lab.
    ///
    /// # Errors
    /// As [`RunningLab::start`].
    pub async fn start(hypervisor: Hypervisor, lab: Lab) -> Result<Self, Error> {
        let running = RunningLab::start(&hypervisor, &lab).await?;
        let (caller, calls) = mpsc::channel(16);
        let mut supervisor = Self {
            hypervisor,
            to_come: lab.events.clone(),
            lab,
            running,
            started_ms: now_ms(),
            history: History::default(),
            readiness: watch::Sender::default(),
            ready_at: None,
            begun: false,
            unsettled: false,
            restarts: HashMap::new(),
            absent: BTreeMap::new(),
            calls,
            caller,
            stopping: false,
        };
        supervisor.history.event("lab-started", None, None);
        // A kernel of its own says nothing that could be waited for, and copes with a cable at any
        // time.
        for guest in supervisor.numbers() {
            if supervisor.lab_guest(guest).is_some_and(|spec| spec.boot().is_some()) {
                supervisor.running.set_link(guest, true);
            }
        }
        supervisor.publish();
        Ok(supervisor)
    }

    /// Where calls are sent.
    pub fn caller(&self) -> mpsc::Sender<Call> {
        self.caller.clone()
    }

    /// What happens, and what guests print.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What keeps the lab from being ready.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// All counters, now.
    ///
    /// # Errors
    /// If the kernel does not tell its own.
    pub async fn counters(&self) -> Result<LabCounters, Error> {
        self.running.counters().await
    }

    /// Runs the lab until somebody calls for its end or, unless it is to `stay`, all guests have
    /// ended by themselves; returns which it was, in words. Nothing else ends it: what fails in it is
    /// told as an event.
    pub async fn run(&mut self, stay: bool) -> &'static str {
        // What has happened is told first, however it ended.
        let over = |lab: &Self| !stay && lab.all_have_ended() && !lab.running.has_news();
        while !self.stopping && !over(self) {
            tokio::select! {
                happening = self.running.next() => self.note(happening).await,
                Some(call) = self.calls.recv() => self.answer(call).await,
                () = until_next(self.ready_at, &self.to_come) => self.act().await,
            }
        }
        if self.stopping { "taken down" } else { "all guests have ended" }
    }

    /// Unplugs everything and waits until no frame is on its way, so that counters agree.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub async fn settle(&mut self) -> Result<(), Error> {
        self.running.set_links(false);
        self.running.settle().await
    }

    /// Ends the lab. Returns why each of our own guests ended.
    pub fn stop(self) -> Vec<(String, ExitReason)> {
        self.history.event("lab-stopped", None, None);
        self.running.stop()
    }

    /// The error that the lab ends with: its first guest's that has failed or is not there, if any.
    pub fn failure(&self) -> Option<Error> {
        let guests = self.numbers().into_iter().filter_map(|number| self.running.guest(number));
        let mut failed = guests.filter(|guest| matches!(guest.state(), State::Failed(_)));
        let absent = || {
            let (name, why) = self.absent.first_key_value()?;
            Some(Error::new(Exit::Failed, format!("guest `{name}` {why}")))
        };
        failed.next().map(|guest| guest.error()).or_else(absent)
    }

    fn numbers(&self) -> Vec<usize> {
        self.running.numbers().collect()
    }

    /// What the file says of a guest.
    fn lab_guest(&self, number: usize) -> Option<&Guest> {
        let name = self.running.name(number);
        self.lab.guests.iter().find(|guest| guest.name == name)
    }

    fn all_have_ended(&self) -> bool {
        let ended = |number| {
            let state = self.running.guest(number).map(|guest| guest.state());
            state.is_none_or(|state| matches!(state, State::Done | State::Failed(_)))
        };
        self.absent.is_empty() && self.running.numbers().all(ended)
    }

    async fn note(&mut self, happening: Happening) {
        match happening {
            Happening::Line(line) => self.history.line(&line.name, &line.text),
            Happening::Lost(cable) => {
                let detail = "its TAP is gone; `labctl up` lays it anew";
                self.history.event("link-lost", Some(&cable), Some(detail));
            }
            Happening::Ready(number)
            | Happening::Done(number)
            | Happening::Failed(number)
            | Happening::Hang(number) => {
                self.tell(&happening, number);
                self.unsettled = true;
            }
        }
        if self.unsettled {
            self.begin_if_ready().await;
            self.publish();
        }
    }

    /// Tells what has happened to a guest.
    fn tell(&mut self, happening: &Happening, number: usize) {
        let Some(guest) = self.running.guest(number) else { return };
        let failure = match guest.state() {
            State::Failed(failure) => Some(failure.message.as_str()),
            State::Starting | State::Running | State::Done => None,
        };
        let (event, detail) = match happening {
            Happening::Done(_) => ("guest-done", None),
            Happening::Failed(_) => ("guest-failed", failure),
            Happening::Hang(_) if guest.hangs() => ("guest-hangs", None),
            Happening::Hang(_) => ("guest-hangs-no-more", None),
            // It died before this could be told, and that comes next.
            Happening::Ready(_) if failure.is_some() => return,
            Happening::Ready(_) => ("guest-ready", None),
            Happening::Line(_) | Happening::Lost(_) => return,
        };
        self.history.event(event, Some(guest.name()), detail);
        if matches!(happening, Happening::Ready(_)) && self.begun {
            self.running.set_link(number, true);
        }
    }

    /// Plugs the cables in once no pktguest is starting any more: those who listen first. A guest
    /// that has failed is not waited for, so that the others can be used without it, nor is a kernel
    /// of its own, which may need the others before it is ready. What has happened is told first: a lab
    /// is not ready before its guests were told to be.
    async fn begin_if_ready(&mut self) {
        self.unsettled = self.running.has_news();
        if self.unsettled {
            return;
        }
        if !self.begun && !self.running.has_starting_pktguest() {
            self.begun = true;
            if let Err(error) = self.running.plug_in_listeners().await {
                // Switches flood at first, then; the lab works.
                tracing::warn!(%error, "not every guest could announce itself");
            }
            self.running.set_links(true);
        }
        if self.begun && self.ready_at.is_none() && self.starting().is_empty() {
            self.ready_at = Some(Instant::now());
            self.history.event("lab-ready", None, None);
        }
    }

    fn starting(&self) -> Vec<String> {
        let guests = self.running.numbers().filter_map(|number| self.running.guest(number));
        let starting = guests.filter(|guest| guest.state() == &State::Starting);
        starting.map(|guest| guest.name().to_owned()).collect()
    }

    fn failed(&self) -> Vec<(String, String)> {
        let guests = self.running.numbers().filter_map(|number| self.running.guest(number));
        let failed = guests.filter_map(|guest| match guest.state() {
            State::Failed(failure) => Some((guest.name().to_owned(), failure.message.clone())),
            _ => None,
        });
        failed.chain(self.absent.clone()).collect()
    }

    /// Tells those who wait.
    fn publish(&self) {
        let waiting = self.starting();
        let ready = self.ready_at.is_some() && waiting.is_empty();
        self.readiness.send_replace(Readiness { ready, waiting, failed: self.failed() });
    }

    fn state(&self) -> LabState {
        match (self.stopping, self.failed().is_empty(), self.readiness.borrow().ready) {
            (true, ..) => LabState::Stopping,
            (_, false, _) => LabState::Degraded,
            (_, _, false) => LabState::Starting,
            (_, _, true) => LabState::Running,
        }
    }

    /// Does what the file has to happen now. That it cannot be done is an event, too.
    async fn act(&mut self) {
        if self.to_come.is_empty() {
            return;
        }
        let (subject, done) = match self.to_come.remove(0).action {
            Action::Restart { guest } => {
                let name = self.lab.guests.get(guest).map(|guest| guest.name.clone());
                let name = name.unwrap_or_default();
                let done = self.restart(&name).await;
                (name, done)
            }
            Action::Impair { cable, impairments } => {
                let name = self.lab.cable_name(cable);
                let done = self.set_cable(&name, Some(impairments), None).map(drop);
                (name, done)
            }
            Action::Plug { cable, up } => {
                let name = self.lab.cable_name(cable);
                let done = self.set_cable(&name, None, Some(up)).map(drop);
                (name, done)
            }
        };
        if let Err(error) = done {
            self.history.event("event-failed", Some(&subject), Some(&error.in_one_line()));
        }
    }

    /// Starts a guest anew, or at last.
    async fn restart(&mut self, name: &str) -> Result<(), Error> {
        let index = self.lab.guests.iter().position(|guest| guest.name == name);
        let index = index.ok_or_else(|| self.no_guest(name))?;
        // As long as it runs: it is not to be lost for a file that is not there.
        lab::check_files(&self.lab.guests[index])?;
        let started = self.start_guest(index).await;
        if started.is_ok() {
            *self.restarts.entry(name.to_owned()).or_default() += 1;
            self.history.event("guest-restarted", Some(name), None);
        }
        self.begin_if_ready().await;
        self.publish();
        started
    }

    /// Starts guest `index` of the lab, in the place of the one of its name if that is there.
    async fn start_guest(&mut self, index: usize) -> Result<(), Error> {
        let guest = &self.lab.guests[index];
        let started = match self.running.find(&guest.name) {
            Some(number) => {
                let running = &mut self.running;
                let started = running.restart_guest(&self.hypervisor, &self.lab, index, number);
                started.await.map(|()| number)
            }
            None => self.running.add_guest(&self.hypervisor, &self.lab, index).await,
        };
        match started {
            Ok(number) => {
                if guest.boot().is_some() {
                    self.running.set_link(number, true);
                }
                self.absent.remove(&guest.name);
                Ok(())
            }
            Err(error) => {
                let words = format!("failed to start: {}", error.in_one_line());
                self.history.event("guest-failed", Some(&guest.name), Some(&words));
                self.absent.insert(guest.name.clone(), words);
                Err(error)
            }
        }
    }
}

/// Completes when the next of the file's events is due.
async fn until_next(ready_at: Option<Instant>, to_come: &[TimedEvent]) {
    match (ready_at, to_come.first()) {
        (Some(start), Some(next)) => tokio::time::sleep_until((start + next.at).into()).await,
        _ => pending().await,
    }
}
