//! `labctl down`: end labs, and clear up after those that ended badly.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::args::{LabFile, LabName};
use super::{next, note};
use crate::control::client::{self, Client};
use crate::control::directory::LabDirectory;
use crate::control::protocol::Request;
use crate::error::{Error, Exit};

const EXAMPLES: &str = "\
Examples:
  labctl down                 the lab of the only *.lab.yaml here, or the only one that runs
  labctl down my.lab.yaml     the lab of this file
  labctl down --lab my-lab    the lab of this name
  labctl down --all           all labs of this user";

/// A supervisor that is asked ends within this time; one that does not is told less kindly.
const PATIENCE: Duration = Duration::from_secs(10);

/// As much as a supervisor needs to end that has hung up on us.
const HANG_UP_TIME: Duration = Duration::from_secs(5);

/// End a lab that runs
///
/// Guests end at once, as if their power went. Returns when nothing of the lab is left. A supervisor
/// that does not answer is killed; the kernel then takes all that is the lab's with it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    file: LabFile,

    #[command(flatten)]
    lab: LabName,

    /// All labs of this user
    #[arg(long, env = "LABCTL_ALL")]
    all: bool,
}

/// Runs the verb.
///
/// # Errors
/// [`Exit::NothingSelected`] if there is no such lab, [`Exit::Timeout`] if one does not end.
pub fn run(args: Args) -> Result<Exit, Error> {
    let labs = match (args.all, args.file.is_given()) {
        (true, _) => LabDirectory::all()?,
        (false, true) => vec![client::select(Some(&args.file.lab_name()?), None)?],
        (false, false) => vec![args.lab.select()?],
    };
    if labs.is_empty() {
        note("no lab is there");
    }
    for lab in &labs {
        end(lab)?;
        note(&format!("{} is down", lab.name()));
    }
    next("labctl up");
    Ok(Exit::Ok)
}

/// Ends a lab, or clears up after it.
fn end(lab: &LabDirectory) -> Result<(), Error> {
    if let Some(pid) = lab.holder() {
        let asked =
            super::block_on(async { Client::connect(lab).await?.ask::<()>(&Request::Down).await })?;
        // It may end before its answer is on its way: that it does not hold the lab is what counts.
        let patience = if asked.is_ok() { PATIENCE } else { HANG_UP_TIME };
        if !has_let_go(lab, pid, patience) {
            kill(lab, pid)?;
        }
    }
    if !lab.path().exists() {
        return Ok(());
    }
    // What a supervisor left that was killed: taking the lab and giving it back removes it.
    match lab.lock() {
        // Somebody has started it again; the one that was meant is gone.
        Err(error) if error.exit() == Exit::Locked => Ok(()),
        taken => taken.map(drop),
    }
}

fn kill(lab: &LabDirectory, pid: u32) -> Result<(), Error> {
    if let Some(process) = pid.try_into().ok().and_then(Pid::from_raw) {
        note(&format!("killing the supervisor of {}, which does not answer", lab.name()));
        // It may have ended meanwhile.
        let _ = kill_process(process, Signal::KILL);
    }
    match has_let_go(lab, pid, PATIENCE) {
        true => Ok(()),
        false => {
            let message = format!("lab `{}` does not end", lab.name());
            Err(Error::new(Exit::Timeout, message))
        }
    }
}

/// Whether that supervisor does not hold the lab any more, within some time.
fn has_let_go(lab: &LabDirectory, pid: u32, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while lab.holder() == Some(pid) {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}
