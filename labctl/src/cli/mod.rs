//! The command line: what can be asked for, and one module per verb.
//!
//! Each verb is `cli/<verb>.rs` with an `Args` (clap's definition, help and examples included) and
//! a `run(Args) -> Result<Exit, Error>` that only calls the library. Every flag has an environment
//! variable `LABCTL_<FLAG>`, but for those that do something which nobody wants to have done because
//! of a variable that was set for another verb; their help says so.

mod args;
mod bench;
mod capture;
mod compare;
mod completions;
mod console;
mod doctor;
mod down;
mod events;
mod exec;
#[cfg(test)]
mod golden;
mod graph;
mod init;
mod inspect;
mod link;
mod logs;
mod mac_table;
mod man;
mod plan;
mod ps;
mod restart;
mod schema;
mod terminal;
mod top;
mod up;
mod validate;

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    panic::{self, PanicHookInfo, UnwindSafe},
    path::Path,
    sync::OnceLock,
};

pub use args::{LabFile, LabName, OutputFlag};

use clap::builder::Resettable;
use clap::{ArgAction, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::error::{Error, Exit};
use crate::lab::network::Privileges;
use crate::supervisor::now_ms;

const AFTER_HELP: &str = "\
Examples:
  labctl bench topologies/paper-pair.lab.yaml   measure all cells of its matrix
  labctl up topologies/paper-pair.lab.yaml      run the lab until Ctrl-C
  labctl ps                                     what runs
  labctl help validate                          more about one command

Every flag can also be set by its environment variable, LABCTL_<FLAG>, unless its help says that it
has none: those without a value by 1, yes, true or on.

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
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        action = ArgAction::Count,
        env = "LABCTL_VERBOSE"
    )]
    verbose: u8,

    /// When to use colours
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
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
    Graph(graph::Args),
    Plan(plan::Args),
    Init(init::Args),
    Schema(schema::Args),
    #[command(visible_alias = "deploy")]
    Up(up::Args),
    #[command(visible_alias = "destroy")]
    Down(down::Args),
    #[command(hide = true)]
    Supervise(up::Supervise),
    Ps(ps::Args),
    Inspect(inspect::Args),
    Logs(logs::Args),
    Events(events::Args),
    Top(top::Args),
    Console(console::Args),
    Exec(exec::Args),
    Restart(restart::Args),
    Link(link::Args),
    MacTable(mac_table::Args),
    Capture(capture::Args),
    Bench(bench::Args),
    Compare(compare::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Verb {
    /// Whether it may run guests, or tell whether it could.
    fn hosts_guests(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Supervise(_) | Self::Bench(_) | Self::Doctor(_))
    }

    /// Returns the exit code: one of [`Exit`]'s or, of `exec`, a command's own.
    fn run(self) -> Result<u8, Error> {
        if self.hosts_guests() {
            // Before there is a second thread, and for labs that may come to need it later.
            Privileges::acquire();
            allow_many_files();
        }
        let exit = match self {
            Self::Exec(args) => return exec::run(args),
            Self::Validate(args) => validate::run(args),
            Self::Graph(args) => graph::run(args),
            Self::Plan(args) => plan::run(args),
            Self::Init(args) => init::run(args),
            Self::Schema(args) => schema::run(args),
            Self::Up(args) => up::run(args),
            Self::Down(args) => down::run(args),
            Self::Supervise(args) => args.run(),
            Self::Ps(args) => ps::run(args),
            Self::Inspect(args) => inspect::run(args),
            Self::Logs(args) => logs::run(args),
            Self::Events(args) => events::run(args),
            Self::Top(args) => top::run(args),
            Self::Console(args) => console::run(args),
            Self::Restart(args) => restart::run(args),
            Self::Link(args) => link::run(args),
            Self::MacTable(args) => mac_table::run(args),
            Self::Capture(args) => capture::run(args),
            Self::Bench(args) => bench::run(args),
            Self::Compare(args) => compare::run(args),
            Self::Doctor(args) => doctor::run(args),
            Self::Completions(args) => completions::run(args),
            Self::Man(args) => man::run(args),
        };
        exit.map(|exit| exit as u8)
    }
}

/// Each guest takes about ten descriptors; the usual soft limit, 1024, is meant for those who use
/// `select`.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    // If it is refused, a large lab will say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// What `--color` says.
static COLOR: OnceLock<ColorChoice> = OnceLock::new();

/// How often `--verbose` was said.
static VERBOSE: OnceLock<u8> = OnceLock::new();

/// Runs the command line this process was given. Returns its exit code.
pub fn main() -> u8 {
    panic::set_hook(Box::new(report_panic));
    guard(|| {
        let cli = Cli::from_arg_matches(&command().get_matches());
        let cli = cli.unwrap_or_else(|error| error.exit());
        COLOR.get_or_init(|| cli.color);
        VERBOSE.get_or_init(|| cli.verbose);
        let color = use_color(&io::stderr());
        log_to_stderr(cli.verbose, color);
        cli.verb.run().unwrap_or_else(|error| {
            note(error.render(color, None).trim_end());
            if env::var_os("GITHUB_ACTIONS").is_some() {
                note(error.annotations().trim_end());
            }
            error.exit() as u8
        })
    })
}

/// The command line as it is read: as it is declared, with flags whose variables are read as people
/// write them.
fn command() -> clap::Command {
    with_flags(Cli::command())
}

fn with_flags(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let value = arg.get_env().and_then(env::var_os);
        let is_off = value.as_deref().and_then(OsStr::to_str).and_then(on_or_off) == Some(false);
        match arg.get_action() {
            // As if it were not set, or it would count as given beside a flag that excludes it.
            ArgAction::SetTrue | ArgAction::Count if is_off => arg.env(Resettable::Reset),
            ArgAction::SetTrue => arg.value_parser(switch),
            ArgAction::Count => arg.value_parser(times),
            _ => arg,
        }
    });
    command.mut_subcommands(with_flags)
}

/// What a flag's variable says; `None` if it is neither. An empty one says no.
fn on_or_off(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "1" | "y" | "yes" | "t" | "true" | "on" => Some(true),
        "" | "0" | "n" | "no" | "f" | "false" | "off" => Some(false),
        _ => None,
    }
}

fn switch(text: &str) -> Result<bool, &'static str> {
    on_or_off(text).ok_or("expected 1, yes, true or on; or 0, no, false, off or nothing")
}

/// How often a flag is given.
fn times(text: &str) -> Result<u8, &'static str> {
    let number = || text.trim().parse().ok();
    number().or_else(|| on_or_off(text).map(u8::from)).ok_or("expected a number, or yes or no")
}

/// A panic is a bug of ours, and says so in the exit code too.
fn guard(command: impl FnOnce() -> u8 + UnwindSafe) -> u8 {
    panic::catch_unwind(command).unwrap_or(Exit::Bug as u8)
}

/// A file that cannot be written.
fn cannot_write(path: &Path, error: io::Error) -> Error {
    Error::new(Exit::Failed, format!("cannot write {}", path.display())).because(error)
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
    while_read(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Whether there was somebody to read what was written.
fn while_read(written: io::Result<()>) -> Result<bool, Error> {
    match written {
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

/// Completes when whoever reads stdout has gone away: who only writes now and then would learn it late,
/// or never. Does not complete if that cannot be told, as of a file.
async fn reader_gone() {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    #[expect(deprecated, reason = "unsound for descriptors that may close; an OwnedFd cannot")]
    let stdout = stdout.and_then(|stdout| AsyncFd::with_interest(stdout, Interest::ERROR));
    if let Ok(stdout) = stdout {
        while let Ok(mut ready) = stdout.ready(Interest::ERROR).await {
            if ready.ready().is_error() {
                return;
            }
            ready.clear_ready();
        }
    }
    std::future::pending().await
}

/// Completes when the user or the system asks us to end: SIGINT, SIGTERM or SIGHUP.
async fn interrupted() {
    tokio::select! {
        () = stopped_by(SignalKind::interrupt()) => {}
        () = stopped_by(SignalKind::terminate()) => {}
        () = stopped_by(SignalKind::hangup()) => {}
    }
}

/// Completes when somebody wants a process in the background to end: SIGINT or SIGTERM. The end of a
/// terminal is none of its business.
async fn terminated() {
    // Noticed, and nothing more.
    let _hangups = signal(SignalKind::hangup());
    tokio::select! {
        () = stopped_by(SignalKind::interrupt()) => {}
        () = stopped_by(SignalKind::terminate()) => {}
    }
}

async fn stopped_by(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(_) => std::future::pending().await,
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

/// A lab file as the next command has it. What came through a pipe is gone, and has to be written down.
fn again(file: &Path) -> String {
    if file == Path::new("-") { "FILE".to_owned() } else { file.display().to_string() }
}

/// Whether colours are wanted on a stream.
fn use_color(stream: &impl IsTerminal) -> bool {
    match COLOR.get().unwrap_or(&ColorChoice::Auto) {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        // no-color.org: any value but the empty one counts.
        ColorChoice::Auto => {
            env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && stream.is_terminal()
        }
    }
}

/// The word for a cable that is plugged in, or out.
fn up_or_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

/// That a running lab has nothing of that name, with what it has.
fn no_such<T: AsRef<str>>(what: &str, name: &str, there: impl Iterator<Item = T>) -> Error {
    let there: Vec<_> = there.map(|name| name.as_ref().to_owned()).collect();
    let error = Error::new(Exit::NothingSelected, format!("there is no {what} `{name}`"));
    error.help(format!("there are: {}", there.join(", ")))
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
    terminal::restore();
    let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let payload = info.payload_as_str().unwrap_or("unknown cause");
    note(&format!("labctl: a bug, not your mistake{place}: {payload}"));
    note("please report it with the command and the lab file that led here");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_exit_code_for_bugs() {
        assert_eq!(guard(|| panic!("deliberate")), Exit::Bug as u8);
        assert_eq!(guard(|| Exit::Regression as u8), Exit::Regression as u8);
    }

    #[test]
    fn definitions_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_environment_variable_or_says_that_it_has_none() {
        let mut without = Vec::new();
        for command in all_commands() {
            for arg in command.get_arguments() {
                let Some(flag) = arg.get_long() else { continue };
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                if help.ends_with("; has no environment variable") {
                    assert_eq!(arg.get_env(), None, "{} --{flag}", command.get_name());
                    without.push(format!("{} --{flag}", command.get_name()));
                    continue;
                }
                let expected = format!("LABCTL_{}", flag.to_uppercase().replace('-', "_"));
                let actual = arg.get_env().and_then(|name| name.to_str());
                assert_eq!(actual, Some(expected.as_str()), "{} --{flag}", command.get_name());
            }
        }
        without.sort();
        let expected = ["down --all", "init --force", "set --clear", "set --down", "set --up"];
        assert_eq!(without, expected);
    }

    #[test]
    fn all_labs_are_not_one_lab() {
        for one in [&["--lab", "pair"][..], &["pair.lab.yaml"]] {
            let words = [&["labctl", "down", "--all"], one].concat();
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
        }
        Cli::try_parse_from(["labctl", "down", "--all"]).unwrap();
    }

    fn all_commands() -> Vec<clap::Command> {
        let (mut commands, mut todo) = (Vec::new(), vec![Cli::command()]);
        while let Some(command) = todo.pop() {
            todo.extend(command.get_subcommands().cloned());
            commands.push(command);
        }
        commands
    }

    #[test]
    fn every_verb_shows_examples() {
        for verb in all_commands().iter().filter(|command| command.get_name() != "labctl") {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:"), "{}", verb.get_name());
        }
    }

    #[test]
    fn whatever_labctl_output_says_every_verb_that_reads_takes_it() {
        let commands = all_commands();
        let outputs: Vec<_> = commands
            .iter()
            .filter_map(|command| command.get_arguments().find(|arg| arg.get_id() == "output"))
            .collect();
        assert!(outputs.len() >= 10);
        for output in outputs {
            let forms = output.get_possible_values();
            let forms: Vec<_> = forms.iter().map(clap::builder::PossibleValue::get_name).collect();
            assert_eq!(forms, ["table", "wide", "json", "yaml", "markdown", "csv"]);
        }
    }
}
