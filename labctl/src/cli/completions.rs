//! `labctl completions`: what a shell needs to complete our commands.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, next, print};
use crate::error::{Error, Exit};

const EXAMPLES: &str = "\
Examples:
  source <(labctl completions bash)             for this shell
  labctl completions bash > ~/.local/share/bash-completion/completions/labctl
  labctl completions zsh > \"${fpath[1]}/_labctl\"
  labctl completions fish > ~/.config/fish/completions/labctl.fish";

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the verb.
///
/// # Errors
/// If stdout cannot be written to.
pub fn run(args: Args) -> Result<Exit, Error> {
    print(&script(args.shell))?;
    next("labctl init");
    Ok(Exit::Ok)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "labctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_learns_every_verb() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
        }
    }

    #[test]
    fn bash_can_read_its_script() {
        let mut bash = std::process::Command::new("bash");
        let status = bash.args(["-n", "-c", &script(Shell::Bash)]).status().unwrap();
        assert!(status.success());
    }
}
