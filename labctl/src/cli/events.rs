//! `labctl events`: what has happened in a lab.

use super::{LabName, next, print_while_read};
use crate::control::protocol::{Event, Request};
use crate::error::{Error, Exit};
use crate::report::Output;
use crate::report::listing::{Column, Field, Listing, Stream, words};
use crate::results::rfc3339_ms;

const EXAMPLES: &str = "\
Examples:
  labctl events                                 all so far, one JSON document a line
  labctl events -f -o table                     for people, and on as more happens
  labctl events -f | jq -r 'select(.event == \"guest-failed\").subject'";

/// Show what has happened in a lab
///
/// Guests that became ready, ended or failed, links that were changed, and so on. Unlike other
/// verbs its form is `json` unless said otherwise: one document a line. If you follow and read too
/// slowly, the event `events-missed` says so.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Go on as more happens, until Ctrl-C or the lab's end
    #[arg(short, long, env = "LABCTL_FOLLOW")]
    follow: bool,

    #[command(flatten)]
    lab: LabName,

    /// Form of what is printed on stdout
    #[arg(short, long, value_enum, default_value_t = Output::Json, env = "LABCTL_OUTPUT")]
    output: Output,
}

/// Runs the verb.
///
/// # Errors
/// If there is no such lab, or it does not answer.
pub fn run(args: Args) -> Result<Exit, Error> {
    super::block_on(async {
        let request = Request::Events { follow: args.follow };
        let mut events = args.lab.connect().await?.stream(&request).await?;
        let mut stream = Stream::new(args.output);
        let print_all = async {
            while let Some(event) = events.next().await? {
                if !print_while_read(&render(&mut stream, &event)?)? {
                    break;
                }
            }
            Ok::<_, Error>(())
        };
        tokio::select! {
            done = print_all => done,
            () = super::interrupted() => Ok(()),
            () = super::reader_gone() => Ok(()),
        }
    })??;
    next(&format!("labctl ps{}", args.lab.flag()));
    Ok(Exit::Ok)
}

const COLUMNS: [Column; 4] = [words("time"), words("event"), words("subject"), words("detail")];

pub(super) fn render(stream: &mut Stream, event: &Event) -> Result<String, Error> {
    let time = rfc3339_ms(event.at_ms);
    let row: [Field; 4] = [
        (&time).into(),
        (&event.event).into(),
        Field::word(event.subject.as_ref()),
        Field::word(event.detail.as_ref()),
    ];
    let listing = Listing { columns: COLUMNS, rows: vec![row] };
    stream.add(event, &listing, || {
        let or_nothing = |text: &Option<String>| text.clone().unwrap_or_default();
        let (subject, detail) = (or_nothing(&event.subject), or_nothing(&event.detail));
        let line = format!("{time}  {:<16}  {subject:<16}  {detail}", event.event);
        line.trim_end().to_owned() + "\n"
    })
}
