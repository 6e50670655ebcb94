//! `labctl up`: bring a lab up, or make a running lab what its file says.

mod detach;
mod foreground;
mod session;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::control::client::Client;
use crate::control::directory::LabDirectory;
use crate::control::protocol::{Change, ChangeKind, Changes, Request};
use crate::error::{Error, Exit};
use crate::topology::{Lab, variables_of};
use crate::units::parse_time;

use super::args::{LabFile, Source};
use super::{next, note};

pub use detach::Supervise;

const EXAMPLES: &str = "\
Examples:
  labctl up                                      the only *.lab.yaml here, until Ctrl-C
  labctl up --wait my.lab.yaml                   in the background; returns when it is ready
  labctl up --dry-run my.lab.yaml                what would change in the lab that runs
  labctl up --for 10s lab.lab.yaml 2>/dev/null   only what the guests print
  labctl up --counters up.json && jq .fabric up.json    what the switches counted";

/// Bring a lab up, or make a running lab what its file says
///
/// In the foreground guests' output goes to stdout, each line behind its guest's name; live rates go
/// to stderr, once a second, and Ctrl-C takes the lab down. With --detach it runs in the background
/// until `labctl down`. Nothing that labctl created is left behind, whatever way it ends.
///
/// The cables of pktguests are plugged in once each of them has said that it is ready, so that nobody
/// talks to one who does not listen yet; one that fails is not waited for. Times of `events` count from
/// when all guests are ready.
///
/// If the lab runs already, it becomes what the file says, and only what is different is touched:
/// other guests keep running. What could not be started is tried again, and cables that `labctl link
/// set` has changed are as in the file again.
///
/// In the foreground it also ends when all guests have ended by themselves: pktguest with its final
/// report, Linux by resetting itself or halting.
///
/// Exits 0 after Ctrl-C, --for, or all guests' own end, 1 if a guest has failed, 11 if this host
/// cannot run the lab, and 12 if with --wait it is not ready in time. After --wait has failed the lab
/// goes on in the background as it is, to be looked into.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    lab: LabFile,

    /// Let it run in the background
    #[arg(short, long, env = "LABCTL_DETACH")]
    detach: bool,

    /// Let it run in the background, and return when every guest has said that it is ready
    #[arg(long, env = "LABCTL_WAIT")]
    wait: bool,

    /// How long --wait waits
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        value_parser = parse_time,
        env = "LABCTL_TIMEOUT"
    )]
    timeout: Duration,

    /// Only say what would be done
    #[arg(long, env = "LABCTL_DRY_RUN")]
    dry_run: bool,

    /// Stop by itself after this long, such as 10s or 500ms; in the foreground
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = parse_time,
        conflicts_with_all = ["detach", "wait"],
        env = "LABCTL_FOR"
    )]
    time: Option<Duration>,

    /// At the end, write what guests, NICs and switches have counted, as JSON; in the foreground
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["detach", "wait"],
        env = "LABCTL_COUNTERS"
    )]
    counters: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// If the file is invalid, the host cannot run the lab, or a guest fails.
pub fn run(args: Args) -> Result<Exit, Error> {
    let source = args.lab.source()?;
    let lab = Lab::parse(&source.path, &source.text)?;
    let directory = LabDirectory::named(&lab.name);
    if directory.is_served() {
        match change(&args, &source, &directory) {
            // Somebody has taken it down, or killed it: it is to come up anew.
            Err(_) if directory.is_ending() => {}
            changed => return changed,
        }
    }
    if args.dry_run {
        tell(&everything(&lab), true);
        next(&format!("labctl up {}", source.path.display()));
        return Ok(Exit::Ok);
    }
    match args.detach || args.wait {
        true => detach::run(&source, &directory, args.wait.then_some(args.timeout)),
        false => match foreground::run(lab, &directory, args.time, args.counters.as_deref()) {
            // Somebody else has begun it at the same moment.
            Err(error) if error.exit() == Exit::Locked => change(&args, &source, &directory),
            ended => ended,
        },
    }
}

/// Makes the lab that runs what the file says.
fn change(args: &Args, source: &Source, directory: &LabDirectory) -> Result<Exit, Error> {
    let changes = apply(source, directory, args.dry_run)?;
    tell(&changes, args.dry_run);
    if args.wait && !args.dry_run {
        let request = Request::Wait { timeout_ms: args.timeout.as_millis() as u64 };
        super::block_on(async { Client::connect(directory).await?.ask::<()>(&request).await })??;
    }
    next(&format!("labctl ps --lab {}", directory.name()));
    Ok(Exit::Ok)
}

/// Has the supervisor make its lab what the file says, or tell what that would change.
fn apply(source: &Source, directory: &LabDirectory, dry_run: bool) -> Result<Changes, Error> {
    let request = Request::Apply {
        path: source.absolute().display().to_string(),
        text: source.text.clone(),
        variables: variables_of(&source.text),
        dry_run,
    };
    super::block_on(async { Client::connect(directory).await?.ask(&request).await })?
}

/// All that a lab that does not run would get.
fn everything(lab: &Lab) -> Changes {
    let add = |subject: &str, detail: &str| Change {
        what: ChangeKind::Add,
        subject: subject.to_owned(),
        detail: detail.to_owned(),
    };
    let switches = lab.switches.iter().map(|switch| add(&switch.name, "switch"));
    let links = lab.links.iter().map(|link| add(&link.name, "link"));
    let guests = lab.guests.iter().map(|guest| add(&guest.name, "guest"));
    Changes { steps: switches.chain(links).chain(guests).collect(), untouched: 0 }
}

/// Says what is changed, or would be.
fn tell(changes: &Changes, dry_run: bool) {
    let color = super::use_color(&io::stderr());
    for step in &changes.steps {
        let (sign, code) = match step.what {
            ChangeKind::Add => ('+', 32),
            ChangeKind::Remove => ('-', 31),
            ChangeKind::Replace => ('!', 33),
            ChangeKind::Update => ('~', 36),
        };
        let line = format!("{sign} {:24} {}", step.subject, step.detail);
        note(&if color { format!("\x1b[{code}m{line}\x1b[0m") } else { line });
    }
    let would = if dry_run { "would be " } else { "" };
    let untouched = match changes.untouched {
        1 => "1 guest is left as it is".to_owned(),
        guests => format!("{guests} guests are left as they are"),
    };
    note(&match changes.steps.len() {
        0 => "nothing to change".to_owned(),
        1 => format!("1 change {would}made, {untouched}"),
        count => format!("{count} changes {would}made, {untouched}"),
    });
}
