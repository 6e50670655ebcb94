//! `labctl logs`: what guests have printed.

use std::io;

use super::{LabName, OutputFlag, next, note, print_while_read};
use crate::control::client::Client;
use crate::control::protocol::{LabStatus, LogLine, Request};
use crate::error::{Error, Exit};
use crate::report::listing::{Column, Field, Listing, Output, Stream, words};
use crate::results::rfc3339_ms;

const EXAMPLES: &str = "\
Examples:
  labctl logs                                   what all guests have printed
  labctl logs -f left                           one guest's, and on as it prints more
  labctl logs --tail 20                         the last 20 lines
  labctl logs -o wide                           with the time of each line
  labctl logs -o json | jq -r 'select(.guest == \"left\").text'";

/// Show what guests have printed on their consoles
///
/// Each line comes behind its guest's name. JSON is one document a line. If you follow and read too
/// slowly, a line without a guest says how many lines are missing (`missed` in JSON).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this guest's lines
    guest: Option<String>,

    /// Go on as guests print more, until Ctrl-C or the lab's end
    #[arg(short, long, env = "LABCTL_FOLLOW")]
    follow: bool,

    /// Only the last so many lines
    #[arg(long, value_name = "LINES", env = "LABCTL_TAIL")]
    tail: Option<usize>,

    #[command(flatten)]
    lab: LabName,

    #[command(flatten)]
    form: OutputFlag,
}

/// Runs the verb.
///
/// # Errors
/// If there is no such lab or guest, or it does not answer.
pub fn run(args: Args) -> Result<Exit, Error> {
    let lab = args.lab.select()?;
    let Args { guest, follow, tail, .. } = args;
    super::block_on(async {
        let status: LabStatus = Client::connect(&lab).await?.ask(&Request::Status).await?;
        let mut stream = Lines {
            names: status.guests.into_iter().map(|guest| guest.name).collect(),
            color: super::use_color(&io::stdout()),
            wide: args.form.output == Output::Wide,
            stream: Stream::new(args.form.output),
        };
        let request = Request::Logs { guest: guest.clone(), tail, follow };
        let mut lines = Client::connect(&lab).await?.stream(&request).await?;
        let print_all = async {
            while let Some(line) = lines.next().await? {
                if !print_while_read(&stream.render(&line)?)? {
                    return Ok(());
                }
            }
            if follow {
                note(&format!("lab `{}` has ended", lab.name()));
            }
            Ok::<_, Error>(())
        };
        tokio::select! {
            done = print_all => done,
            () = super::interrupted() => Ok(()),
            () = super::reader_gone() => Ok(()),
        }
    })??;
    let flag = args.lab.flag();
    match (follow, &guest) {
        (false, Some(guest)) => next(&format!("labctl logs{flag} -f {guest}")),
        (false, None) => next(&format!("labctl logs{flag} -f")),
        (true, Some(guest)) => next(&format!("labctl console{flag} {guest}")),
        (true, None) => next(&format!("labctl ps{flag}")),
    }
    Ok(Exit::Ok)
}

const COLUMNS: [Column; 3] = [words("time"), words("guest"), words("text")];

/// Colours that are told apart on light and dark backgrounds (ECMA-48, SGR).
const COLORS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Lines of guests, in one form.
pub(super) struct Lines {
    /// The guests, which decide how wide a name is and what its colour.
    pub names: Vec<String>,
    /// Are names coloured?
    pub color: bool,
    /// Is the time shown?
    pub wide: bool,
    /// The form.
    pub stream: Stream,
}

impl Lines {
    pub fn render(&mut self, line: &LogLine) -> Result<String, Error> {
        let time = rfc3339_ms(line.at_ms);
        let row: [Field; 3] = [(&time).into(), (&line.guest).into(), (&line.text).into()];
        let listing = Listing { columns: COLUMNS, rows: vec![row] };
        let width = self.names.iter().map(String::len).max().unwrap_or(0);
        let index = self.names.iter().position(|name| *name == line.guest).unwrap_or(0);
        let (wide, color) = (self.wide, self.color);
        self.stream.add(line, &listing, || {
            let time = if wide { time + " " } else { String::new() };
            let name = format!("{:width$} |", line.guest);
            match color {
                true => {
                    let color = COLORS[index % COLORS.len()];
                    format!("{time}\x1b[{color}m{name}\x1b[0m {}\n", line.text)
                }
                false => format!("{time}{name} {}\n", line.text),
            }
        })
    }
}
