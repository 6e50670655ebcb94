//! `labctl mac-table`: which addresses a switch has learned, and where.

use super::{LabName, OutputFlag, next, print};
use crate::control::protocol::{MacEntry, Request};
use crate::error::{Error, Exit};
use crate::report::listing::{Field, Listing, words};

const EXAMPLES: &str = "\
Examples:
  labctl mac-table sw0                          which guest is behind which port
  labctl mac-table sw0 -o json | jq length      how many addresses";

/// Show the addresses that a switch has learned
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The switch
    switch: String,

    #[command(flatten)]
    lab: LabName,

    #[command(flatten)]
    form: OutputFlag,
}

/// Runs the verb.
///
/// # Errors
/// If there is no such lab or switch, or it does not answer.
pub fn run(args: Args) -> Result<Exit, Error> {
    let switch = args.switch;
    let entries: Vec<MacEntry> = super::block_on(async {
        let request = Request::MacTable { switch: switch.clone() };
        args.lab.connect().await?.ask(&request).await
    })??;
    print(&listing(&entries).render(&entries, args.form.output)?)?;
    match entries.first() {
        Some(entry) => {
            next(&format!(
                "labctl capture{} {switch}:{} -w capture.pcapng",
                args.lab.flag(),
                entry.port
            ));
        }
        None => next(&format!("labctl top{}", args.lab.flag())),
    }
    Ok(Exit::Ok)
}

pub(super) fn listing(entries: &[MacEntry]) -> Listing<4> {
    let row = |entry: &MacEntry| -> [Field; 4] {
        let MacEntry { mac, port, cable, guest } = entry;
        [mac.into(), port.into(), cable.into(), Field::word(guest.as_ref())]
    };
    let columns = [words("mac"), words("port"), words("cable"), words("guest")];
    Listing { columns, rows: entries.iter().map(row).collect() }
}
