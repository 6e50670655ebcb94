//! What the supervisor does when it is asked.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use vmm_core::cable::{Capture, CaptureLimits};
use vmm_core::serial::SerialInput;

use super::history::Follower;
use super::{Readiness, Supervisor};
use crate::control::protocol::{CableStatus, Event, LogLine, Request};
use crate::error::did_you_mean;
use crate::error::{Error, Exit};
use crate::impairments::Impairments;
use crate::lab::{ExecError, RunningCommand, RunningGuest, Watcher};
use crate::topology::Lab;

/// A request on its way to the supervisor.
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes; whoever does not wait for it any more has dropped the other end.
    pub reply: oneshot::Sender<Result<Reply, Error>>,
}

/// An answer, which may go on after the call.
pub enum Reply {
    /// A document, and that is all.
    Document(Value),
    /// A document once the lab is ready, or an error if it does not get ready in time.
    Ready(watch::Receiver<Readiness>, Duration),
    /// Lines that guests print.
    Log(Follower<LogLine>),
    /// What happens.
    Events(Follower<Event>),
    /// A guest's console.
    Console(Watcher, Option<SerialInput>),
    /// The frames on a cable.
    Capture(Capturing),
    /// A command that runs in a guest.
    Exec(RunningCommand),
}

/// A capture for a client.
pub struct Capturing {
    /// Where the frames come from.
    pub capture: Capture,
    /// What the file calls the interface.
    pub interface: String,
    /// Bytes kept of each frame.
    pub snap: u32,
    /// Frames after which it ends.
    pub left: u64,
}

impl Supervisor {
    pub(super) async fn answer(&mut self, call: Call) {
        let answer = self.reply(call.request).await;
        // Whoever asked may have gone away.
        let _ = call.reply.send(answer);
    }

    async fn reply(&mut self, request: Request) -> Result<Reply, Error> {
        Ok(match request {
            Request::Status => document(&self.status())?,
            Request::Inspect => document(&self.lab)?,
            Request::Wait { timeout_ms } => {
                Reply::Ready(self.readiness(), Duration::from_millis(timeout_ms))
            }
            Request::Apply { path, text, variables, dry_run } => {
                let lab = Lab::parse_with(Path::new(&path), &text, &variables)?;
                document(&self.apply(lab, dry_run).await?)?
            }
            Request::Down => {
                self.stopping = true;
                self.publish();
                Reply::Document(Value::Null)
            }
            Request::Restart { guest } => {
                self.restart(&guest).await?;
                Reply::Document(Value::Null)
            }
            Request::Logs { guest, tail, follow } => {
                if let Some(guest) = &guest {
                    let known = self.lab.guests.iter().any(|known| known.name == *guest);
                    known.then_some(()).ok_or_else(|| self.no_guest(guest))?;
                }
                Reply::Log(self.history.log(guest.as_deref(), tail, follow))
            }
            Request::Events { follow } => Reply::Events(self.history.events(follow)),
            Request::Console { guest } => {
                let guest = self.guest(&guest)?;
                Reply::Console(guest.screen().watch(), guest.keyboard().cloned())
            }
            Request::Counters => Reply::Document(self.all_counters().await?),
            Request::Links => document(&self.cables())?,
            Request::MacTable { switch } => document(&self.mac_table(&switch).await?)?,
            Request::Capture { place, snap, count } => {
                Reply::Capture(self.capture(place, snap, count)?)
            }
            Request::SetLink { cable, changes, up } => {
                let running = self.running.fabric_mut().cable_mut(&cable);
                let after = running.and_then(|running| changes.of(running.impairments()));
                document(&self.set_cable(&cable, after, up)?)?
            }
            Request::Exec { guest: name, command } => Reply::Exec(
                self.guest(&name)?.exec(&command).map_err(|error| cannot_run(&name, error))?,
            ),
        })
    }

    /// The guest of that name.
    fn guest(&self, name: &str) -> Result<&RunningGuest, Error> {
        let number = self.running.find(name).ok_or_else(|| self.no_guest(name))?;
        self.running.guest(number).ok_or_else(|| self.no_guest(name))
    }

    /// That there is no guest of that name, or that it could not be started.
    pub(super) fn no_guest(&self, name: &str) -> Error {
        if let Some(why) = self.absent.get(name) {
            return Error::new(Exit::NothingSelected, format!("guest `{name}` {why}"))
                .help(format!("labctl restart {name}"));
        }
        let names: Vec<_> = self.lab.guests.iter().map(|guest| guest.name.as_str()).collect();
        Error::new(Exit::NothingSelected, format!("no guest is called `{name}`"))
            .help(format!("the guests are {}", names.join(", ")))
    }

    fn capture(&self, place: String, snap: u32, count: Option<u64>) -> Result<Capturing, Error> {
        let mut cables = self.running.fabric().cables();
        let found = cables.find_map(|cable| Some((cable, cable.end_at(&place)?)));
        let Some((cable, end)) = found else {
            self.cables_are_ours()?;
            let message = format!("there is no cable or port `{place}`");
            return Err(Error::new(Exit::NothingSelected, message)
                .help("labctl link show lists cables and ports"));
        };
        let limits = CaptureLimits { snap_len: snap, ..CaptureLimits::default() };
        let failed = |error| Error::new(Exit::HostLacks, "cannot capture").because(error);
        let capture = cable.capture(end, limits).map_err(failed)?;
        Ok(Capturing { capture, interface: place, snap, left: count.unwrap_or(u64::MAX) })
    }

    /// That no other VMM has laid the cables.
    fn cables_are_ours(&self) -> Result<(), Error> {
        if self.lab.qemu.is_none() {
            return Ok(());
        }
        let message = format!("QEMU runs lab `{}`, and its cables are its own", self.lab.name);
        Err(Error::new(Exit::NothingSelected, message)
            .help("labctl shows, changes and captures only cables between its own guests"))
    }

    /// Changes a cable, and notes it.
    pub(super) fn set_cable(
        &mut self,
        name: &str,
        impairments: Option<Impairments>,
        up: Option<bool>,
    ) -> Result<CableStatus, Error> {
        self.cables_are_ours()?;
        let Some(cable) = self.running.fabric_mut().cable_mut(name) else {
            let names: Vec<_> = self.lab.cables().map(|id| self.lab.cable_name(id)).collect();
            let error = Error::new(Exit::NothingSelected, format!("no cable is called `{name}`"));
            return Err(match did_you_mean(name, names.iter().map(String::as_str)) {
                Some(meant) => error.help(format!("did you mean `{meant}`?")),
                None => error.help("labctl link show lists them"),
            });
        };
        let (impaired, plugged) = (cable.impairments(), cable.is_plugged());
        let mut words = Vec::new();
        if let Some(impairments) = impairments.filter(|wanted| *wanted != impaired) {
            let senseless = |error| Error::new(Exit::Usage, "that makes no sense").because(error);
            cable.impair(impairments).map_err(senseless)?;
            words.push(impairments.to_string());
        }
        if let Some(up) = up.filter(|wanted| *wanted != plugged) {
            self.running.plug_cable(name, up);
            words.push(if up { "up" } else { "down" }.to_owned());
        }
        if !words.is_empty() {
            self.history.event("link-changed", Some(name), Some(&words.join(", ")));
        }
        let mut cables = self.cables().into_iter();
        cables.find(|cable| cable.name == name).ok_or_else(|| Error::new(Exit::Bug, "it is gone"))
    }

    /// What guests, NICs and switches have counted, as a document.
    ///
    /// # Errors
    /// If the kernel does not tell its own.
    pub async fn all_counters(&self) -> Result<Value, Error> {
        let counters = self.counters().await?;
        let names = self.running.numbers().map(|number| self.running.name(number));
        let guests = names.zip(&counters.guests).map(|(name, (exits, nics))| match self.lab.qemu {
            None => json!({ "name": name, "exits": exits, "nics": nics }),
            // It tells nothing of either.
            Some(_) => json!({ "name": name, "exits": null, "nics": null }),
        });
        let guests: Vec<_> = guests.collect();
        Ok(json!({ "lab": self.lab.name, "guests": guests, "fabric": counters.fabric }))
    }
}

fn document(value: &impl Serialize) -> Result<Reply, Error> {
    let value = serde_json::to_value(value);
    let failed = |error| Error::new(Exit::Bug, "cannot write an answer").because(error);
    Ok(Reply::Document(value.map_err(failed)?))
}

fn cannot_run(guest: &str, error: ExecError) -> Error {
    let message = format!("cannot run a command in guest `{guest}`");
    let help = match error {
        ExecError::Ended => format!("labctl restart {guest}"),
        ExecError::NoAgent => {
            "images/linux makes Linux guests with an agent; see its README.md".to_owned()
        }
        _ => format!("labctl console {guest} shows what it is doing"),
    };
    Error::new(Exit::NothingSelected, message).because(error).help(help)
}
