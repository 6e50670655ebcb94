//! The command line: what can be asked for, and one module per verb.
//!
//! Each verb is `cli/<verb>.rs` with an `Args` (clap's definition, help and examples included) and
//! a `run(Args) -> Result<Exit, Error>` that only calls the library. Every flag has an environment
//! variable `LABCTL_<FLAG>`.

mod bench;
mod compare;
mod doctor;
mod init;
mod plan;
mod schema;
mod up;
mod validate;

use std::{
    env,
    io::{self, IsTerminal, Write},
    panic::{self, PanicHookInfo, UnwindSafe},
    path::PathBuf,
};

use clap::{ArgAction, ColorChoice, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    error::{Error, Exit},
    lab::network::Privileges,
    topology::{self, Lab},
};

const AFTER_HELP: &str = "\
Examples:
  labctl bench topologies/paper-pair.lab.yaml   measure all cells of its matrix
  labctl up topologies/paper-pair.lab.yaml      run the lab until Ctrl-C
  labctl help validate                          more about one command

Every flag can also be set by its environment variable, LABCTL_<FLAG>.

Exit codes:
   0  all is well
   1  an assertion or a test failed
   2  wrong usage
   3  a benchmark got worse
   4  nothing selected
  10  a file is invalid or cannot be read
  11  the host lacks something (labctl doctor says what)
  12  something did not come up in time
  13  the lab exists or is locked
  14  interrupted; results so far are kept
  70  a bug in labctl";

/// A declarative lab for emulated NICs, drivers and switches.
///
/// A lab is one YAML file: virtual machines, the switches between them, and what to measure.
/// labctl checks it, runs it, and reports figures with the counters that explain them.
#[derive(Debug, Parser)]
#[command(name = "labctl", version, after_long_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// Say more on stderr; repeat for more still
    #[arg(short, long, global = true, action = ArgAction::Count, env = "LABCTL_VERBOSE")]
    verbose: u8,

    /// When to use colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value_t = ColorChoice::Auto,
        env = "LABCTL_COLOR"
    )]
    color: ColorChoice,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Validate(validate::Args),
    Plan(plan::Args),
    Init(init::Args),
    Schema(schema::Args),
    Up(up::Args),
    Bench(bench::Args),
    Compare(compare::Args),
    Doctor(doctor::Args),
}

impl Verb {
    /// Whether it may run guests, or tell whether it could.
    fn hosts_guests(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Bench(_) | Self::Doctor(_))
    }

    fn run(self) -> Result<Exit, Error> {
        if self.hosts_guests() {
            // Before there is a second thread, and for labs that may come to need it later.
            Privileges::acquire();
        }
        match self {
            Self::Validate(args) => validate::run(args),
            Self::Plan(args) => plan::run(args),
            Self::Init(args) => init::run(args),
            Self::Schema(args) => schema::run(args),
            Self::Up(args) => up::run(args),
            Self::Bench(args) => bench::run(args),
            Self::Compare(args) => compare::run(args),
            Self::Doctor(args) => doctor::run(args),
        }
    }
}

/// The lab file argument that verbs share.
#[derive(Debug, clap::Args)]
pub struct LabFile {
    /// Lab file, or a directory with one, or - for stdin
    ///
    /// Without it, the only *.lab.yaml in this directory is used.
    #[arg(env = "LABCTL_FILE")]
    file: Option<PathBuf>,
}

impl LabFile {
    /// Reads and checks the file that is meant.
    ///
    /// # Errors
    /// As [`topology::find`] and [`Lab::load`].
    pub fn load(&self) -> Result<Lab, Error> {
        Lab::load(&topology::find(self.file.as_deref())?)
    }
}

/// Runs the command line this process was given.
pub fn main() -> Exit {
    panic::set_hook(Box::new(report_panic));
    guard(|| {
        let cli = Cli::parse();
        let color = use_color(cli.color);
        log_to_stderr(cli.verbose, color);
        cli.verb.run().unwrap_or_else(|error| {
            note(error.render(color, None).trim_end());
            if env::var_os("GITHUB_ACTIONS").is_some() {
                note(error.annotations().trim_end());
            }
            error.exit()
        })
    })
}

/// A panic is a bug of ours, and says so in the exit code too.
fn guard(command: impl FnOnce() -> Exit + UnwindSafe) -> Exit {
    panic::catch_unwind(command).unwrap_or(Exit::Bug)
}

/// Writes data to stdout. A reader that has gone away (`| head`) has read what it wanted.
///
/// # Errors
/// [`Exit::Failed`] if stdout cannot be written to for another reason, such as a full disk.
pub fn print(text: &str) -> Result<(), Error> {
    print_while_read(text).map(|_| ())
}

/// As [`print()`]; false once the reader has gone away.
fn print_while_read(text: &str) -> Result<bool, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::new(Exit::Failed, "cannot write to stdout").because(error)),
    }
}

/// Runs the control plane: one thread, as nothing here is on a packet's path.
///
/// # Errors
/// If the event loop cannot be created.
fn block_on<F: Future>(future: F) -> Result<F::Output, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::new(Exit::HostLacks, "cannot start the event loop").because(error)
    })?;
    Ok(runtime.block_on(future))
}

/// Completes when the user or the system asks us to end: SIGINT, SIGTERM or SIGHUP.
async fn interrupted() {
    let stop = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop(SignalKind::interrupt()) => {}
        () = stop(SignalKind::terminate()) => {}
        () = stop(SignalKind::hangup()) => {}
    }
}

/// Writes a line for people to stderr. If nobody listens there is nobody to tell.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Names the next useful command, as every verb does at its end.
pub fn next(command: &str) {
    note(&format!("next: {command}"));
}

fn use_color(choice: ColorChoice) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        // no-color.org: any value but the empty one counts.
        ColorChoice::Auto => {
            env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && io::stderr().is_terminal()
        }
    }
}

fn log_to_stderr(verbose: u8, color: bool) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_ansi(color)
        .with_target(verbose > 1)
        .without_time()
        .init();
}

fn report_panic(info: &PanicHookInfo) {
    let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let payload = info.payload_as_str().unwrap_or("unknown cause");
    note(&format!("labctl: a bug, not your mistake{place}: {payload}"));
    note("please report it with the command and the lab file that led here");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_panic_becomes_the_exit_code_for_bugs() {
        assert_eq!(guard(|| panic!("deliberate")), Exit::Bug);
        assert_eq!(guard(|| Exit::Regression), Exit::Regression);
    }

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            for arg in command.get_arguments() {
                let Some(flag) = arg.get_long() else { continue };
                let expected = format!("LABCTL_{}", flag.to_uppercase().replace('-', "_"));
                let actual = arg.get_env().and_then(|name| name.to_str());
                assert_eq!(actual, Some(expected.as_str()), "{} --{flag}", command.get_name());
            }
        }
    }

    #[test]
    fn every_verb_shows_examples() {
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:"), "{}", verb.get_name());
        }
    }
}
