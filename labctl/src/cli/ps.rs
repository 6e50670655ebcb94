//! `labctl ps`: which labs there are, and how their guests are.

use std::time::Duration;

use tokio::time::timeout;

use super::{OutputFlag, next, note, print};
use crate::control::client::{self, Client};
use crate::control::directory::LabDirectory;
use crate::control::protocol::{GuestStatus, LabState, LabStatus, Request};
use crate::error::{Error, Exit};
use crate::report::listing::{Column, Field, Listing, figures, words};
use crate::report::number::age;
use crate::units::human_memory;

const EXAMPLES: &str = "\
Examples:
  labctl ps                                     the labs that run, and their guests
  labctl ps --all                               those too whose supervisor was killed
  labctl ps -o json | jq -r '.[].lab'           their names
  labctl ps -o csv | grep ,failed,              guests that need attention";

/// List labs and their guests
///
/// Shows every lab of this user, wherever it was started. A lab whose supervisor was killed is dead:
/// nothing of it runs, and `labctl up` starts it anew without any repair. One whose supervisor does not
/// answer within 3 s, because it is stopped for instance, is unresponsive.
///
/// Exits 1 if a lab does not answer.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Dead labs too
    #[arg(short, long, env = "LABCTL_ALL")]
    all: bool,

    /// Only the lab of this name, dead or not
    #[arg(long, value_name = "NAME", env = "LABCTL_LAB")]
    lab: Option<String>,

    #[command(flatten)]
    form: OutputFlag,
}

/// How long a lab may take to answer, whose supervisor does so at once: the others are not to wait long.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs the verb.
///
/// # Errors
/// If there is no such lab, labs cannot be listed, or stdout cannot be written to.
pub fn run(args: Args) -> Result<Exit, Error> {
    let all = args.all || args.lab.is_some();
    let directories = match &args.lab {
        Some(name) => vec![client::select(Some(name), None)?],
        None => LabDirectory::all()?,
    };
    let (mut labs, mut silent, mut dead) = (Vec::new(), 0, 0);
    super::block_on(async {
        // All at once.
        let asked = directories
            .into_iter()
            .map(|lab| tokio::spawn(async move { (status(&lab).await, lab) }));
        for asked in asked.collect::<Vec<_>>() {
            let bug = |error| Error::new(Exit::Bug, "cannot ask a lab").because(error);
            let (status, lab) = asked.await.map_err(bug)?;
            match (status, lab.holder()) {
                (Some(Ok(status)), _) => labs.push(status),
                (Some(Err(error)), Some(pid)) => {
                    silent += 1;
                    note(&format!("{}: {error}", lab.name()));
                    labs.push(mute_lab(&lab, LabState::Unresponsive, pid));
                }
                (None | Some(Err(_)), _) => {
                    dead += 1;
                    labs.extend(all.then(|| mute_lab(&lab, LabState::Dead, 0)));
                }
            }
        }
        Ok::<_, Error>(())
    })??;
    print(&listing(&labs, super::now_ms()).render(&labs, args.form.output)?)?;
    if dead > 0 && !all {
        note(&format!("not shown: {dead} dead (--all)"));
    }
    let answers = |lab: &&LabStatus| !matches!(lab.state, LabState::Dead | LabState::Unresponsive);
    let is_silent = |lab: &&LabStatus| lab.state == LabState::Unresponsive;
    match (labs.iter().find(answers), labs.iter().find(is_silent)) {
        (Some(lab), _) => next(&format!("labctl inspect --lab {}", lab.lab)),
        (None, Some(lab)) => next(&format!("labctl down --lab {}", lab.lab)),
        (None, None) => next("labctl up"),
    }
    Ok(if silent == 0 { Exit::Ok } else { Exit::Failed })
}

/// What a lab's supervisor says, if it has one.
async fn status(lab: &LabDirectory) -> Option<Result<LabStatus, Error>> {
    lab.holder()?;
    let answer = async { Client::connect(lab).await?.ask(&Request::Status).await };
    Some(timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
        let message = format!("its supervisor has not answered for {} s", PATIENCE.as_secs());
        Err(Error::new(Exit::Timeout, message))
    }))
}

/// What is known of a lab whose supervisor says nothing.
fn mute_lab(lab: &LabDirectory, state: LabState, pid: u32) -> LabStatus {
    let record = lab.record();
    LabStatus {
        lab: lab.name().to_owned(),
        file: record.as_ref().map_or_else(String::new, |of| of.file.display().to_string()),
        state,
        pid,
        started_ms: record.map_or(0, |of| of.started_ms),
        guests: Vec::new(),
        switches: Vec::new(),
    }
}

const COLUMNS: [Column; 14] = [
    words("lab"),
    words("guest"),
    words("kind"),
    words("state"),
    figures("age"),
    figures("restarts"),
    words("address"),
    words("work"),
    figures("memory_mib").wide(),
    figures("exits").wide(),
    figures("cpu_seconds").wide(),
    figures("pid").wide(),
    words("file").wide(),
    words("reason"),
];

/// One row a guest; a lab without any has one too.
pub(super) fn listing(labs: &[LabStatus], now_ms: u64) -> Listing<14> {
    let rows = labs.iter().flat_map(|lab| match lab.guests.as_slice() {
        [] => vec![row(lab, None, now_ms)],
        guests => guests.iter().map(|guest| row(lab, Some(guest), now_ms)).collect(),
    });
    Listing { columns: COLUMNS, rows: rows.collect() }
}

fn row(lab: &LabStatus, guest: Option<&GuestStatus>, now_ms: u64) -> [Field; 14] {
    let seconds = |of: &GuestStatus| now_ms.saturating_sub(of.started_ms) / 1000;
    let state = guest.map_or_else(|| lab.state.to_string(), |of| of.state.to_string());
    [
        (&lab.lab).into(),
        Field::word(guest.map(|of| &of.name)),
        Field::word(guest.map(|of| &of.kind)),
        state.into(),
        Field::figure(guest.filter(|of| of.started_ms > 0).map(seconds), |seconds| age(*seconds)),
        Field::word(guest.map(|of| of.restarts)),
        Field::word(guest.map(addresses)),
        Field::word(guest.map(|of| &of.work)),
        Field::figure(guest.map(|of| of.memory_mib), |mib| human_memory((*mib).into())),
        Field::word(guest.map(|of| of.exits)),
        Field::figure(guest.and_then(|of| of.cpu_ns).map(|ns| ns as f64 / 1e9), |s| {
            format!("{s:.1}")
        }),
        Field::word((lab.pid != 0).then_some(lab.pid)),
        (&lab.file).into(),
        Field::word(guest.and_then(|of| of.reason.as_ref())),
    ]
}

/// A guest's addresses; none are an empty text.
fn addresses(guest: &GuestStatus) -> String {
    let known = guest.nics.iter().filter_map(|nic| nic.ip.as_deref());
    known.collect::<Vec<_>>().join(" ")
}
