//! How labctl ends: its exit codes, its errors, and how both reach people and machines.

mod problem;

use std::{
    fmt::{self, Write as _},
    path::Path,
};

use miette::{Diagnostic, GraphicalTheme, MietteHandler, MietteHandlerOpts, ReportHandler};

pub use problem::Problem;
pub(crate) use problem::{did_you_mean, position};

/// Exit codes. They are documented in `labctl --help` and stay as they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// An assertion or a test failed.
    Failed = 1,
    /// The command line makes no sense (clap uses this code too).
    Usage = 2,
    /// A benchmark got worse.
    Regression = 3,
    /// There was nothing to do it to.
    NothingSelected = 4,
    /// A file is invalid or cannot be read.
    InvalidFile = 10,
    /// The host lacks something; `labctl doctor` says what.
    HostLacks = 11,
    /// Something did not come up in time.
    Timeout = 12,
    /// The lab exists already, or another labctl holds its lock.
    Locked = 13,
    /// Interrupted; results so far are kept.
    Interrupted = 14,
    /// A bug in labctl.
    Bug = 70,
}

impl Exit {
    const ALL: [Self; 11] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::Regression,
        Self::NothingSelected,
        Self::InvalidFile,
        Self::HostLacks,
        Self::Timeout,
        Self::Locked,
        Self::Interrupted,
        Self::Bug,
    ];

    /// The one with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| *exit as u8 == code)
    }
}

/// Why labctl could not do what it was asked.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct Error {
    exit: Exit,
    message: String,
    #[help]
    help: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    problems: Vec<Problem>,
}

impl Error {
    /// An error that ends labctl with the given code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None, source: None, problems: Vec::new() }
    }

    /// A lab file with these mistakes.
    pub fn invalid_file(path: &Path, problems: Vec<Problem>) -> Self {
        let mistakes = match problems.len() {
            1 => "1 mistake".to_owned(),
            n => format!("{n} mistakes"),
        };
        let message = format!("{} has {mistakes}", path.display());
        Self { problems, ..Self::new(Exit::InvalidFile, message) }
    }

    /// Adds what to do about it: best a command that can be copied.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn because(
        self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
    ) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// The exit code it leads to.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The mistakes in a lab file, in the file's order; empty for every other kind of error.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Message and causes, for a log or a list.
    pub fn in_one_line(&self) -> String {
        let mut line = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            line += &format!(": {inner}");
            cause = inner.source();
        }
        line
    }

    /// The error for people: each problem with the source and a pointer to the place, then
    /// message, causes and help. `width` is the terminal's unless given.
    pub fn render(&self, color: bool, width: Option<usize>) -> String {
        let theme =
            if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let options = MietteHandlerOpts::new().graphical_theme(theme).terminal_links(false);
        let options = options.context_lines(1).with_cause_chain();
        let handler = match width {
            Some(width) => options.width(width),
            None => options,
        }
        .build();
        // The summary comes last: that is what a terminal shows of a long list.
        let problems = self.problems.iter().map(|problem| problem as &dyn Diagnostic);
        let reports = problems.chain([self as &dyn Diagnostic]);
        let reports = reports.map(|error| Rendered { handler: &handler, error }.to_string());
        reports.collect::<Vec<_>>().join("\n")
    }

    /// The error for GitHub Actions: one annotation for each problem, or for the error itself.
    pub fn annotations(&self) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            let hint = problem.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let message = format!("{problem}{hint}");
            text += &annotation("error", problem.file(), problem.position(), &message);
        }
        if self.problems.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "::error::{}", escaped(&self.message));
        }
        text
    }
}

/// An annotation of a line of a file, for GitHub Actions; `level` is `error` or `warning`.
pub fn annotation(
    level: &str,
    file: &str,
    (line, column): (usize, usize),
    message: &str,
) -> String {
    let file = escaped(file).replace(':', "%3A").replace(',', "%2C");
    format!("::{level} file={file},line={line},col={column}::{}\n", escaped(message))
}

/// Escapes a workflow command's data, as the runner unescapes it.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

struct Rendered<'a> {
    handler: &'a MietteHandler,
    error: &'a dyn Diagnostic,
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.handler.debug(self.error, f)
    }
}
