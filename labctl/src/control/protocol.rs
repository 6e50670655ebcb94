//! What labctl and a lab's supervisor say to each other on the control socket.
//!
//! One JSON document a line, in both directions. The supervisor greets with a [`Hello`]; the client
//! sends one [`Request`] and gets one [`Answer`], after which the connection is what the request
//! made of it: closed, a stream of further documents, or raw bytes:
//!
//! | request | after the answer |
//! |---|---|
//! | `logs` | a [`LogLine`] each, to the end or, with `follow`, until either side hangs up |
//! | `events` | an [`Event`] each, likewise |
//! | `exec` | an [`ExecOutput`] each; the last is its `exit` |
//! | `console` | what the guest prints and what it is to read, as bytes |
//! | `capture` | a pcapng file, as bytes |
//! | any other | closed |
//!
//! The supervisor waits for no client. One that follows and reads too slowly misses something, and is
//! told where: by a [`LogLine`] with [`missed`](LogLine::missed), or an [`Event`] called
//! [`EVENTS_MISSED`].
//!
//! A client that meets a protocol of another [`VERSION`] says so and stops: labs are short-lived, so
//! there is no need to speak two.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Problem;
use crate::error::{Error, Exit};
use crate::impairments::{ImpairmentChanges, Impairments};
use crate::topology::{SwitchKind, Variables};

/// The version of everything in this module.
pub const VERSION: u32 = 1;

/// The supervisor's first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the supervisor.
    pub protocol: u32,
    /// Version of the labctl that it is.
    pub labctl: String,
    /// The lab's name.
    pub lab: String,
    /// Its process.
    pub pid: u32,
}

/// What can be asked. Guests, cables and switches go by their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How everything is: [`LabStatus`].
    Status,
    /// The lab as it was understood, all defaults filled in: the same document as
    /// `labctl validate -o json`.
    Inspect,
    /// Answers `null` once every guest is ready, or with the error that keeps one from it.
    Wait {
        /// How long at most, in milliseconds.
        timeout_ms: u64,
    },
    /// Makes the lab what a file says: [`Changes`].
    Apply {
        /// The file's path, against which paths in it are read.
        path: String,
        /// Its text.
        text: String,
        /// The variables that it mentions, as they are where it was written.
        variables: Variables,
        /// Only say what would be done?
        dry_run: bool,
    },
    /// Ends the lab; answers `null` before it does. It is gone once nobody holds its directory's lock.
    Down,
    /// Starts a guest anew; answers `null` when it runs.
    Restart {
        /// Which.
        guest: String,
    },
    /// What guests have printed: [`LogLine`]s.
    Logs {
        /// One guest's only.
        guest: Option<String>,
        /// Only the last so many lines.
        tail: Option<usize>,
        /// Go on as they print more?
        follow: bool,
    },
    /// What has happened: [`Event`]s.
    Events {
        /// Go on as more happens?
        follow: bool,
    },
    /// A guest's serial console, both ways.
    Console {
        /// Whose.
        guest: String,
    },
    /// Runs a command in a Linux guest: [`ExecOutput`]s.
    Exec {
        /// Where.
        guest: String,
        /// For the guest's shell.
        command: String,
    },
    /// The frames on a cable, as a pcapng file.
    Capture {
        /// A cable's name, or `SWITCH:PORT`.
        place: String,
        /// Bytes to keep of each frame.
        snap: u32,
        /// End by itself after so many frames.
        count: Option<u64>,
    },
    /// All cables: [`CableStatus`]es.
    Links,
    /// Changes a cable; answers its new [`CableStatus`].
    SetLink {
        /// Its name.
        cable: String,
        /// What becomes different of what it does to frames.
        changes: ImpairmentChanges,
        /// Plugs it in or out.
        up: Option<bool>,
    },
    /// What a switch has learned: [`MacEntry`]s.
    MacTable {
        /// Which.
        switch: String,
    },
    /// All counters of guests, NICs, switches and TAPs: the document of `up --counters`.
    Counters,
}

/// An answer: a document as the request says, or why not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is done, or begins.
    Ok(Value),
    /// It is not.
    Error(Refusal),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The exit code it leads to.
    pub exit: u8,
    /// What is wrong.
    pub message: String,
    /// The causes underneath, outermost first.
    pub causes: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let place = |problem: &Problem| format!("line {}: {problem}", problem.position().0);
        let mut causes: Vec<_> = error.problems().iter().map(place).collect();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            causes.push(inner.to_string());
            cause = inner.source();
        }
        let help = miette::Diagnostic::help(error).map(|help| help.to_string());
        Self { exit: error.exit() as u8, message: error.to_string(), causes, help }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let exit = Exit::from_code(refusal.exit).unwrap_or(Exit::Failed);
        let error = Error::new(exit, refusal.message);
        let error = match refusal.causes.is_empty() {
            true => error,
            false => error.because(refusal.causes.join(": ")),
        };
        match refusal.help {
            Some(help) => error.help(help),
            None => error,
        }
    }
}

/// How a lab is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabStatus {
    /// Its name.
    pub lab: String,
    /// The file it was last made from; `-` if that was a pipe.
    pub file: String,
    /// How it is as a whole.
    pub state: LabState,
    /// Its supervisor's process.
    pub pid: u32,
    /// When it began, in milliseconds of Unix time.
    pub started_ms: u64,
    /// Its guests, in the file's order.
    pub guests: Vec<GuestStatus>,
    /// Its switches, in the file's order.
    pub switches: Vec<SwitchStatus>,
}

/// How a lab is as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabState {
    /// Not every guest is ready yet.
    Starting,
    /// All guests have been ready, and none has failed.
    Running,
    /// A guest has failed.
    Degraded,
    /// It is being taken down.
    Stopping,
    /// Its supervisor is gone and has left its directory.
    Dead,
    /// Its supervisor is there and does not answer.
    Unresponsive,
}

impl fmt::Display for LabState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
            Self::Dead => "dead",
            Self::Unresponsive => "unresponsive",
        })
    }
}

/// How a guest is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestStatus {
    /// Its name.
    pub name: String,
    /// What it runs: `pktguest`, `linux` or `pvh`.
    pub kind: String,
    /// How it is.
    pub state: GuestState,
    /// Why it failed or ended, in words.
    pub reason: Option<String>,
    /// What it does: its role, or its kernel.
    pub work: String,
    /// Its memory.
    pub memory_mib: u32,
    /// How often it was started anew.
    pub restarts: u32,
    /// When it was last started, in milliseconds of Unix time; 0 if it could not be.
    pub started_ms: u64,
    /// Exits of its vCPU to user space, of all kinds.
    pub exits: u64,
    /// CPU time of its vCPU thread in nanoseconds, if known.
    pub cpu_ns: Option<u64>,
    /// Its NICs.
    pub nics: Vec<NicStatus>,
}

/// How a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestState {
    /// It has not said yet that it is ready.
    Starting,
    /// It is at work.
    Running,
    /// It uses its CPU and gives no sign of life.
    Hanging,
    /// It has ended well, by itself.
    Done,
    /// It has failed; its reason says how.
    Failed,
}

impl fmt::Display for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Hanging => "hanging",
            Self::Done => "done",
            Self::Failed => "failed",
        })
    }
}

/// A guest's NIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NicStatus {
    /// Its cable's name, `guest:number`.
    pub cable: String,
    /// Its address.
    pub mac: String,
    /// Its guest's address on it, as `10.0.0.1/16`, if labctl knows one.
    pub ip: Option<String>,
    /// The switch that it is on.
    pub switch: String,
    /// Its port there: a number, or its TAP's name.
    pub port: String,
    /// Whether its cable is plugged in.
    pub up: bool,
    /// Frames from and to the guest, and what was dropped at it.
    pub counters: Traffic,
}

/// What passed one place, since its guest started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames that the guest sent.
    pub tx_frames: u64,
    /// Bytes of those.
    pub tx_bytes: u64,
    /// Frames that the guest got.
    pub rx_frames: u64,
    /// Bytes of those.
    pub rx_bytes: u64,
    /// Frames that its NIC could not take; those that its address filter refused are none.
    pub rx_dropped: u64,
    /// Interrupts.
    pub interrupts: u64,
    /// Transmit doorbells, an exit each.
    pub doorbells: u64,
}

impl Traffic {
    /// That of several places together.
    pub fn total(places: impl Iterator<Item = Self>) -> Self {
        places.fold(Self::default(), |sum, place| Self {
            tx_frames: sum.tx_frames + place.tx_frames,
            tx_bytes: sum.tx_bytes + place.tx_bytes,
            rx_frames: sum.rx_frames + place.rx_frames,
            rx_bytes: sum.rx_bytes + place.rx_bytes,
            rx_dropped: sum.rx_dropped + place.rx_dropped,
            interrupts: sum.interrupts + place.interrupts,
            doorbells: sum.doorbells + place.doorbells,
        })
    }
}

/// A switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchStatus {
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub kind: SwitchKind,
    /// Its ports.
    pub ports: usize,
    /// Addresses it has learned, if it tells.
    pub macs: Option<usize>,
}

/// A cable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CableStatus {
    /// Its name.
    pub name: String,
    /// What it connects, as in `left:0` and `sw0`.
    pub ends: [String; 2],
    /// Its port on the switch (of the second end if that is one, else of the first).
    pub port: String,
    /// Whether it is plugged in.
    pub up: bool,
    /// What it does to frames.
    pub impairments: Impairments,
    /// Frames into it from its first end.
    pub forth: CableTraffic,
    /// Frames into it from its second end.
    pub back: CableTraffic,
}

/// What became of the frames in one direction of a cable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CableTraffic {
    /// Put in.
    pub frames: u64,
    /// Taken at the other end.
    pub delivered: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Dropped because too many waited, or it was unplugged.
    pub dropped: u64,
    /// Arrived once more.
    pub duplicated: u64,
    /// Overtook others.
    pub reordered: u64,
    /// On their way.
    pub held: u64,
}

/// An address that a switch has learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MacEntry {
    /// The address.
    pub mac: String,
    /// The port: a number, or a TAP's name.
    pub port: String,
    /// The cable on that port.
    pub cable: String,
    /// The guest that has the address, if it is one of the lab's.
    pub guest: Option<String>,
}

/// One line that a guest printed, or what stands for those that were missed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Who; empty if lines were missed.
    pub guest: String,
    /// What, without control characters.
    pub text: String,
    /// So many lines of all guests were missed here, because the client had not read those before;
    /// `text` says so, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
}

impl LogLine {
    /// What a follower gets instead of `missed` lines.
    pub fn missed(at_ms: u64, missed: u64) -> Self {
        let lines = if missed == 1 { "line" } else { "lines" };
        let text = format!("{missed} {lines} of all guests not read in time");
        Self { at_ms, guest: String::new(), text, missed: Some(missed) }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// What: `lab-started`, `guest-ready`, `guest-failed`, `link-changed` and so on, or
    /// [`EVENTS_MISSED`].
    pub event: String,
    /// The guest, cable or switch that it happened to.
    pub subject: Option<String>,
    /// In words.
    pub detail: Option<String>,
}

/// The event that stands for others, which a client had not read in time.
pub const EVENTS_MISSED: &str = "events-missed";

impl Event {
    /// What a follower gets instead of `missed` events.
    pub fn missed(at_ms: u64, missed: u64) -> Self {
        let events = if missed == 1 { "event" } else { "events" };
        let detail = format!("{missed} {events} not read in time");
        Self { at_ms, event: EVENTS_MISSED.to_owned(), subject: None, detail: Some(detail) }
    }
}

/// A part of a command's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecOutput {
    /// Bytes on its standard output, in base64.
    Out(String),
    /// Bytes on its standard error, in base64.
    Err(String),
    /// It has ended with this status.
    Exit(i32),
}

/// What `up` does, or would do, to make a lab what a file says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// One a line, in the order they are made.
    pub steps: Vec<Change>,
    /// Guests that are left as they are.
    pub untouched: usize,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What is done.
    pub what: ChangeKind,
    /// The guest, cable, switch or link it is done to.
    pub subject: String,
    /// Why, or in which way.
    pub detail: String,
}

/// What can be done to a lab's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is new.
    Add,
    /// It goes.
    Remove,
    /// It is stopped and started anew.
    Replace,
    /// It is changed while it runs.
    Update,
}
