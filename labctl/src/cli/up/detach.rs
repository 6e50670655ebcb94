//! A lab in the background: this process starts another, which is the lab's supervisor.
//!
//! The lab file goes to it as text, so that what was checked here is what runs there. What it says
//! goes to a log that is in the lab's directory as soon as that is the supervisor's own; if it ends
//! before the lab runs, that log is its error message.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::session::Session;
use crate::cli::args::Source;
use crate::cli::{block_on, next, note, terminated};
use crate::control::client::Client;
use crate::control::directory::LabDirectory;
use crate::control::protocol::Request;
use crate::error::{Error, Exit};
use crate::topology::Lab;

/// How long a supervisor may take until it answers: it builds all guests first.
const START_TIME: Duration = Duration::from_secs(60);

/// Starts the lab's supervisor and, with `wait`, waits until all guests are ready.
///
/// # Errors
/// What the supervisor says if it does not come up, or [`Exit::Timeout`].
pub fn run(
    source: &Source,
    directory: &LabDirectory,
    wait: Option<Duration>,
) -> Result<Exit, Error> {
    let log = directory.log_of(std::process::id())?;
    let child = spawn(source, &log);
    let mut child = child.map_err(|error| {
        let _ = fs::remove_file(&log);
        Error::new(Exit::HostLacks, "cannot start the supervisor").because(error)
    })?;
    // It outlives its file's name, which the supervisor moves or we remove.
    let words = File::open(&log);
    let deadline = Instant::now() + START_TIME;
    while directory.holder() != Some(child.id()) || !directory.socket().exists() {
        if let Some(status) = child.try_wait().ok().flatten() {
            let _ = fs::remove_file(&log);
            return ended(status, words);
        }
        if Instant::now() >= deadline {
            let message = format!("the lab did not come up within {START_TIME:?}");
            return Err(Error::new(Exit::Timeout, message)
                .help(format!("labctl down --lab {}", directory.name())));
        }
        thread::sleep(Duration::from_millis(10));
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

fn spawn(source: &Source, log: &Path) -> io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("supervise").arg("--file").arg(source.absolute()).arg("--log").arg(log);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(log)?);
    // Ctrl-C on this terminal is not for it.
    command.process_group(0);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it has ended already it says why itself.
        let _ = stdin.write_all(source.text.as_bytes());
    }
    Ok(child)
}

/// Passes on what a supervisor has said that did not come up.
fn ended(status: ExitStatus, words: io::Result<File>) -> Result<Exit, Error> {
    let mut text = String::new();
    // What cannot be read is missing from the message.
    let _ = words.and_then(|mut file| file.read_to_string(&mut text));
    note(text.trim_end());
    let exit = status.code().and_then(|code| Exit::from_code(code.try_into().ok()?));
    Ok(exit.unwrap_or(Exit::Bug))
}

/// Be the supervisor of a lab whose file is on standard input; `labctl up --detach` starts this
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  labctl up --detach my.lab.yaml    starts it")]
pub struct Supervise {
    /// What the file is called
    #[arg(long, env = "LABCTL_FILE")]
    file: PathBuf,

    /// Where our standard error goes; it is moved into the lab's directory
    #[arg(long, env = "LABCTL_LOG")]
    log: PathBuf,
}

impl Supervise {
    /// Runs the lab until it is told to end.
    ///
    /// # Errors
    /// If the lab cannot run.
    pub fn run(self) -> Result<Exit, Error> {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Error::new(Exit::Failed, "cannot read the lab file").because(error))?;
        let lab = Lab::parse(&self.file, &text)?;
        let directory = LabDirectory::named(&lab.name);
        let lock = directory.lock()?;
        // Without it the log is only harder to find.
        let _ = fs::rename(&self.log, directory.log());
        let session = Session::begin(lock, &self.file)?;
        block_on(async {
            let mut started = session.start(lab).await?;
            let outcome = tokio::select! {
                outcome = started.supervisor.run(true) => outcome.map(drop),
                () = terminated() => Ok(()),
            };
            started.stop().await;
            outcome
        })??;
        Ok(Exit::Ok)
    }
}
