//! `labctl console`: a guest's serial console, typed at and read.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::terminal::{Mode, Terminal, read_stdin};
use super::{LabName, next, note};
use crate::control::client::{ByteReader, ByteWriter};
use crate::control::protocol::Request;
use crate::error::{Error, Exit};

const EXAMPLES: &str = "\
Examples:
  labctl console left                           Ctrl-] q leaves it
  echo uptime | labctl console left             what the guest says to one line";

/// Talk to a guest over its serial console
///
/// On a terminal every key goes to the guest, Ctrl-C and Ctrl-Z too. Only Ctrl-] is special: after
/// it, q leaves, and a second Ctrl-] sends one to the guest. The guest goes on when you leave.
///
/// What comes through a pipe is sent as it is; once that has ended and the guest has been quiet for
/// a second, the command ends.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The guest
    guest: String,

    #[command(flatten)]
    lab: LabName,
}

/// How long a guest must be quiet for its answer to have ended.
const QUIET: Duration = Duration::from_secs(1);

/// Bytes that may wait for a guest to read them before a pipe is left to wait itself.
const UNREAD: usize = 64 << 10;

/// Runs the verb.
///
/// # Errors
/// If there is no such lab or guest, the connection breaks, or the terminal is lost.
pub fn run(args: Args) -> Result<Exit, Error> {
    let Args { guest, lab } = args;
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    super::block_on(async {
        let request = Request::Console { guest: guest.clone() };
        let (reader, writer) = lab.connect().await?.bytes(&request).await?;
        let terminal = if is_terminal {
            note(&format!("console of guest `{guest}`: Ctrl-] q leaves"));
            Some(Terminal::enter(Mode::Raw).map_err(lost)?)
        } else {
            None
        };
        tokio::select! {
            done = talk(reader, writer, terminal.as_ref()) => done,
            () = super::interrupted() => Ok(()),
        }
    })??;
    if is_terminal {
        // Its prompt is a line without an end.
        note("");
    }
    next(&format!("labctl logs{} -f {guest}", lab.flag()));
    Ok(Exit::Ok)
}

/// Passes bytes on in both directions until either side has had enough.
async fn talk(
    mut reader: ByteReader,
    mut writer: ByteWriter,
    terminal: Option<&Terminal>,
) -> Result<(), Error> {
    // Without a terminal to give back, Ctrl-Z does what it does to any command.
    let mut stop = match terminal {
        Some(terminal) => {
            let kind = SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw());
            Some((terminal, signal(kind).map_err(lost)?))
        }
        None => None,
    };
    let mut keys = read_stdin();
    let mut escape = Escape::default();
    let (mut unread, mut open) = (Vec::new(), true);
    loop {
        tokio::select! {
            bytes = reader.next() => {
                let bytes = bytes.map_err(broken)?;
                if bytes.is_empty() {
                    return Ok(());
                }
                let mut stdout = io::stdout();
                let written = stdout.write_all(&bytes).and_then(|()| stdout.flush());
                if !super::while_read(written)? {
                    return Ok(());
                }
            }
            // What a person types is read in any case: it could be the way out.
            typed = keys.recv(), if open && (terminal.is_some() || unread.len() < UNREAD) => {
                match (typed, terminal) {
                    (Some(typed), None) => unread.extend(typed),
                    (Some(typed), Some(_)) => {
                        if escape.leaves(&typed, &mut unread) {
                            return Ok(());
                        }
                    }
                    // The terminal is gone.
                    (None, Some(_)) => return Ok(()),
                    (None, None) => open = false,
                }
            }
            written = writer.write(&unread), if !unread.is_empty() => {
                unread.drain(..written.map_err(broken)?);
            }
            () = tokio::time::sleep(QUIET), if !open && unread.is_empty() => return Ok(()),
            Some(terminal) = asked_to_stop(&mut stop), if stop.is_some() => {
                terminal.suspend().map_err(lost)?;
            }
        }
    }
}

/// Completes when somebody wants us to stop for a while; with the terminal to give back meanwhile.
async fn asked_to_stop<'a>(stop: &mut Option<(&'a Terminal, Signal)>) -> Option<&'a Terminal> {
    let (terminal, signal) = stop.as_mut()?;
    signal.recv().await.map(|()| *terminal)
}

fn broken(error: io::Error) -> Error {
    Error::new(Exit::Failed, "the connection to the guest broke").because(error)
}

fn lost(error: io::Error) -> Error {
    Error::new(Exit::Failed, "cannot use the terminal").because(error)
}

/// Finds the keys that are for us among those for the guest.
#[derive(Debug, Default)]
struct Escape {
    pending: bool,
}

impl Escape {
    const KEY: u8 = 0x1d; // Ctrl-]

    /// Adds what is for the guest to `passed`. True if the person wants to leave.
    fn leaves(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        for &key in typed {
            match (std::mem::take(&mut self.pending), key) {
                (true, b'q' | b'Q') => return true,
                (true, Self::KEY) => passed.push(Self::KEY),
                (true, other) => passed.extend([Self::KEY, other]),
                (false, Self::KEY) => self.pending = true,
                (false, other) => passed.push(other),
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_escape_is_kept_from_the_guest() {
        let pass = |chunks: &[&[u8]]| {
            let (mut escape, mut passed) = (Escape::default(), Vec::new());
            let left = chunks.iter().any(|chunk| escape.leaves(chunk, &mut passed));
            (passed, left)
        };
        assert_eq!(pass(&[b"ls q\r"]), (b"ls q\r".to_vec(), false));
        assert_eq!(pass(&[b"x\x1d", b"qy"]), (b"x".to_vec(), true));
        assert_eq!(pass(&[b"\x1d\x1dq"]), (b"\x1dq".to_vec(), false));
        assert_eq!(pass(&[b"\x1da\x03\x1a"]), (b"\x1da\x03\x1a".to_vec(), false));
    }
}
