//! A lab in the background: this process starts another, which is the lab's supervisor.
//!
//! The lab file goes to it as text, so that what was checked here is what runs there. What it says
//! until the lab runs is said here, and is its error message if it ends before; later words go to a
//! log in the lab's directory.

use std::env;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::iter;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::setsid;
use rustix::stdio::dup2_stderr;

use super::session::Session;
use crate::cli::args::Source;
use crate::cli::{VERBOSE, block_on, next, note, terminated};
use crate::control::client::Client;
use crate::control::directory::{LabDirectory, Lock};
use crate::control::protocol::Request;
use crate::error::{Error, Exit};
use crate::topology::Lab;

/// How long a supervisor may take until it answers: it builds all guests first.
const START_TIME: Duration = Duration::from_secs(60);

/// How often a supervisor looks whether it can still be found.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Starts the lab's supervisor and, with `wait`, waits until all guests are ready.
///
/// # Errors
/// What the supervisor says if it does not come up, or [`Exit::Timeout`].
pub fn run(
    source: &Source,
    directory: &LabDirectory,
    wait: Option<Duration>,
) -> Result<Exit, Error> {
    let deadline = Instant::now() + START_TIME;
    loop {
        match start(source, directory, deadline)? {
            Exit::Ok => break,
            // Somebody else has begun it at the same moment. If that comes to nothing it is our turn.
            Exit::Locked if Instant::now() < deadline => {
                if !directory.is_served() {
                    continue;
                }
                match join(source, directory) {
                    Err(_) if directory.is_ending() => {}
                    joined => break joined?,
                }
            }
            exit => return Ok(exit),
        }
    }
    if let Some(time) = wait {
        let request = Request::Wait { timeout_ms: time.as_millis() as u64 };
        block_on(async { Client::connect(directory).await?.ask::<()>(&request).await })??;
    }
    let state = if wait.is_some() { "ready" } else { "started" };
    note(&format!("{} is {state}, in the background", directory.name()));
    next(&format!("labctl ps --lab {}", directory.name()));
    Ok(Exit::Ok)
}

/// Starts the lab's supervisor, and waits until it answers. Returns its exit code if it ends before,
/// having said why.
fn start(source: &Source, directory: &LabDirectory, deadline: Instant) -> Result<Exit, Error> {
    let failed = |error| Error::new(Exit::HostLacks, "cannot start the supervisor").because(error);
    let words = memfd_create("supervisor", MemfdFlags::CLOEXEC);
    let mut words = File::from(words.map_err(|error| failed(error.into()))?);
    let mut child = spawn(source, &words).map_err(failed)?;
    while directory.holder() != Some(child.id()) || !greets(directory)? {
        if let Some(status) = child.try_wait().ok().flatten() {
            let exit = status.code().and_then(|code| Exit::from_code(code.try_into().ok()?));
            let exit = exit.unwrap_or(Exit::Bug);
            if exit != Exit::Locked || Instant::now() >= deadline {
                pass_on(&mut words);
            }
            return Ok(exit);
        }
        if Instant::now() >= deadline {
            let message = format!("the lab did not come up within {START_TIME:?}");
            return Err(Error::new(Exit::Timeout, message)
                .help(format!("labctl down --lab {}", directory.name())));
        }
        thread::sleep(Duration::from_millis(10));
    }
    pass_on(&mut words);
    Ok(Exit::Ok)
}

/// Makes the lab that somebody else has just begun what our file says.
fn join(source: &Source, directory: &LabDirectory) -> Result<(), Error> {
    super::tell(&super::apply(source, directory, false)?, false);
    Ok(())
}

/// Whether the supervisor has started all guests: it answers nobody before.
fn greets(directory: &LabDirectory) -> Result<bool, Error> {
    Ok(directory.socket().exists() && block_on(Client::connect(directory))?.is_ok())
}

fn spawn(source: &Source, words: &File) -> io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    let verbose = VERBOSE.get().copied().unwrap_or_default();
    command.args(iter::repeat_n("-v", verbose.into()));
    command.arg("supervise").arg("--file").arg(source.absolute());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(words.try_clone()?);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it has ended already it says why itself.
        let _ = stdin.write_all(source.text.as_bytes());
    }
    Ok(child)
}

/// Says what the supervisor has said so far.
fn pass_on(words: &mut File) {
    let mut text = String::new();
    // What cannot be read is missing.
    let _ = words.rewind().and_then(|()| words.read_to_string(&mut text));
    if !text.trim_end().is_empty() {
        note(text.trim_end());
    }
}

/// Be the supervisor of a lab whose file is on standard input; `labctl up --detach` starts this
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  labctl up --detach my.lab.yaml    starts it")]
pub struct Supervise {
    /// What the file is called
    #[arg(long, env = "LABCTL_FILE")]
    file: PathBuf,
}

impl Supervise {
    /// Runs the lab until it is told to end.
    ///
    /// # Errors
    /// If the lab cannot run.
    pub fn run(self) -> Result<Exit, Error> {
        // Neither Ctrl-C on the terminal that we come from nor its end is for us. It can only fail
        // because we have a session of our own already.
        let _ = setsid();
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Error::new(Exit::Failed, "cannot read the lab file").because(error))?;
        let lab = Lab::parse(&self.file, &text)?;
        let directory = LabDirectory::named(&lab.name);
        let session = Session::begin(directory.lock()?, &self.file)?;
        // What is said from now on is for whoever looks for it later.
        let log = File::create(directory.log());
        block_on(async {
            let mut end = pin!(terminated());
            let mut started = tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                started = session.start(lab) => started?,
            };
            if let Ok(log) = log {
                // Before anybody is greeted: who started us reads the other words then.
                let _ = dup2_stderr(log);
            }
            tokio::select! {
                _ = started.supervisor.run(true) => {}
                () = end => {}
                () = out_of_reach(&started.lock) => note("the lab's directory was removed"),
            }
            started.stop().await;
            Ok::<_, Error>(())
        })??;
        Ok(Exit::Ok)
    }
}

/// Completes when the lab's directory is gone: nobody could reach the lab any more, not even to end it.
async fn out_of_reach(lock: &Lock) {
    while lock.is_held() {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}
