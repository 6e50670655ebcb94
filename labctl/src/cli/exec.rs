//! `labctl exec`: run a command in a guest.

use std::io::{self, IsTerminal, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{LabName, next};
use crate::control::client::Documents;
use crate::control::protocol::{ExecOutput, Request};
use crate::error::{Error, Exit};

const EXAMPLES: &str = "\
Examples:
  labctl exec left -- ip addr
  labctl exec left -- 'dmesg | tail'            one argument is for the guest's shell
  labctl exec left -- cat /proc/interrupts > interrupts.txt
  labctl exec left -- test -e /sys/class/net/eth0 || echo no NIC";

/// Run a command in a Linux guest
///
/// What it writes to stdout and stderr comes out on ours; it reads nothing. A single argument is a
/// line for the guest's shell, several are the words of a command as they are.
///
/// Exits with the command's own status, 0 to 255. labctl's own exit codes say that it did not run:
/// 4 if there is no such lab or guest, for instance.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The guest
    guest: String,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,

    #[command(flatten)]
    lab: LabName,
}

/// Runs the verb. Returns the command's exit status.
///
/// # Errors
/// If there is no such lab or guest, it has no agent, or the connection breaks.
pub fn run(args: Args) -> Result<u8, Error> {
    let Args { guest, command, lab } = args;
    let request = Request::Exec { guest: guest.clone(), command: shell_line(&command) };
    let status = super::block_on(async {
        let outputs = lab.connect().await?.stream(&request).await?;
        tokio::select! {
            status = pass_on(outputs, &guest) => status,
            () = super::interrupted() => Ok(Exit::Interrupted as u8),
        }
    })??;
    // Elsewhere stderr is the command's.
    if io::stderr().is_terminal() {
        next(&format!("labctl console{} {guest}", lab.flag()));
    }
    Ok(status)
}

/// Passes output on until the command ends.
async fn pass_on(mut outputs: Documents, guest: &str) -> Result<u8, Error> {
    let lost = || {
        let message = format!("guest `{guest}` has ended, or its command was not read fast enough");
        Error::new(Exit::Failed, message).help("labctl ps says how it is")
    };
    loop {
        let written = match outputs.next().await?.ok_or_else(lost)? {
            ExecOutput::Out(text) => write(&mut io::stdout(), &text)?,
            ExecOutput::Err(text) => write(&mut io::stderr(), &text)?,
            // What does not fit is as low as what the kernel itself would keep of it.
            ExecOutput::Exit(status) => return Ok((status & 0xff) as u8),
        };
        if !written {
            return Ok(Exit::Ok as u8);
        }
    }
}

/// False once nobody reads any more.
fn write(to: &mut impl Write, base64: &str) -> Result<bool, Error> {
    let bytes = BASE64_STANDARD.decode(base64).map_err(|error| {
        Error::new(Exit::Bug, "the supervisor sent no valid base64").because(error)
    })?;
    super::while_read(to.write_all(&bytes).and_then(|()| to.flush()))
}

/// One argument as it is, several quoted as a POSIX shell wants them.
fn shell_line(command: &[String]) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:,@%+".contains(&b);
    let quote = |word: &String| match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    match command {
        [line] => line.clone(),
        words => words.iter().map(quote).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_arguments_stay_what_they_are() {
        let line = |words: &[&str]| {
            shell_line(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(line(&["dmesg | tail"]), "dmesg | tail");
        assert_eq!(line(&["ls", "-l", "/tmp"]), "ls -l /tmp");
        let nasty = ["printf", "%s\\n", "it's", "$HOME", "", "a b"];
        let output = std::process::Command::new("sh").arg("-c").arg(line(&nasty)).output();
        assert_eq!(output.unwrap().stdout, b"it's\n$HOME\n\na b\n");
    }
}
