//! `labctl down`: end labs, and clear up after those that ended badly.

use std::fs;
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

    /// All labs of this user; has no environment variable
    #[arg(long, conflicts_with_all = ["file", "lab"])]
    all: bool,
}

/// Runs the verb.
///
/// # Errors
/// [`Exit::NothingSelected`] if there is no such lab, [`Exit::Timeout`] if one does not end; of
/// several the first that does not.
pub fn run(args: Args) -> Result<Exit, Error> {
    let labs = match (args.all, args.file.is_given()) {
        (true, _) => LabDirectory::all()?,
        (false, true) => vec![client::select(Some(&args.file.lab_name()?), None)?],
        (false, false) => vec![args.lab.select()?],
    };
    if labs.is_empty() {
        note("no lab is there");
    }
    let mut outcome = Ok(());
    for lab in &labs {
        match end(lab) {
            Ok(()) => note(&format!("{} is down", lab.name())),
            Err(error) if outcome.is_ok() => outcome = Err(error),
            Err(error) => note(&error.in_one_line()),
        }
    }
    outcome?;
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
        if !is_supervisor(lab, pid)? {
            let name = lab.name();
            let message = format!("process {pid}, which holds lab `{name}`, is no supervisor");
            return Err(Error::new(Exit::Failed, message)
                .help(format!("kill -9 {pid} ends it, if that is what you want")));
        }
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

/// Whether that process is the lab's supervisor: the one that listens on its socket or, where nobody
/// does, at least a labctl. What is written in a lock could be anybody's number.
fn is_supervisor(lab: &LabDirectory, pid: u32) -> Result<bool, Error> {
    let program = |pid: &str| {
        let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let name = path.file_name()?.to_str()?;
        // As the kernel has it once somebody has installed another.
        Some(name.trim_end_matches(" (deleted)").to_owned())
    };
    Ok(match super::block_on(client::listener(lab))? {
        Some(listener) => listener == pid,
        None => program("self").is_some_and(|own| program(&pid.to_string()) == Some(own)),
    })
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_supervisor_is_killed() {
        let root = std::env::temp_dir().join(format!("labctl-killed-{}", std::process::id()));
        let lab = LabDirectory::within(&root, "pair");
        let lock = lab.lock().unwrap();
        let own = std::process::id();
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let is_supervisor = |pid| super::is_supervisor(&lab, pid).unwrap();
        assert!(is_supervisor(own) && !is_supervisor(other.id()), "by the name of its program");
        let listener = UnixListener::bind(lab.socket()).unwrap();
        assert!(is_supervisor(own) && !is_supervisor(other.id()), "by its socket");
        assert!(!is_supervisor(1));
        let refused = kill(&lab, other.id()).unwrap_err();
        assert_eq!(refused.exit(), Exit::Failed, "{refused}");
        assert!(other.try_wait().unwrap().is_none(), "it lives");
        other.kill().unwrap();
        other.wait().unwrap();
        drop((listener, lock));
        fs::remove_dir(root).unwrap();
    }
}
