//! `labctl restart`: start guests anew.

use super::{LabName, next, note};
use crate::control::client::Client;
use crate::control::protocol::Request;
use crate::error::{Error, Exit};

const EXAMPLES: &str = "\
Examples:
  labctl restart left                           one guest; the others do not notice
  labctl restart left right --lab pair";

/// Start guests anew
///
/// The guest is stopped, whatever it does, and boots as it did at first: same NICs, same addresses,
/// same switch ports, and cables as they are, `labctl link set` included. A guest that has failed, or
/// could not be started, comes back the same way.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The guests, restarted one after the other
    #[arg(required = true, value_name = "GUEST")]
    guests: Vec<String>,

    #[command(flatten)]
    lab: LabName,
}

/// Runs the verb.
///
/// # Errors
/// If there is no such lab or guest, or one does not start; those after it are left alone.
pub fn run(args: Args) -> Result<Exit, Error> {
    let lab = args.lab.select()?;
    super::block_on(async {
        for guest in &args.guests {
            let request = Request::Restart { guest: guest.clone() };
            let () = Client::connect(&lab).await?.ask(&request).await?;
            note(&format!("guest `{guest}` runs anew"));
        }
        Ok::<_, Error>(())
    })??;
    let one = if let [only] = args.guests.as_slice() { format!(" {only}") } else { String::new() };
    next(&format!("labctl logs{} -f{one}", args.lab.flag()));
    Ok(Exit::Ok)
}
