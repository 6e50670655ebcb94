//! `labctl man`: the manual.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::{Cli, next, print};
use crate::error::{Error, Exit};

const EXAMPLES: &str = "\
Examples:
  labctl man | man -l -                         read the page of labctl itself
  labctl man ~/.local/share/man/man1            all pages: then `man labctl-up` works";

/// Print the manual page, or write the pages of all verbs into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where all pages go; it is made if it does not exist
    directory: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// If the pages cannot be written.
pub fn run(args: Args) -> Result<Exit, Error> {
    let Some(directory) = args.directory else {
        print(&page(Cli::command())?)?;
        next("labctl man DIR");
        return Ok(Exit::Ok);
    };
    let failed = |error: io::Error| {
        let message = format!("cannot write manual pages into {}", directory.display());
        Error::new(Exit::Failed, message).because(error)
    };
    fs::create_dir_all(&directory).map_err(failed)?;
    for (name, text) in pages()? {
        fs::write(directory.join(name), text).map_err(failed)?;
    }
    next(&format!("man {}", Path::new(&directory).join("labctl.1").display()));
    Ok(Exit::Ok)
}

/// All pages with their names.
fn pages() -> Result<Vec<(String, String)>, Error> {
    let mut root = Cli::command();
    // Gives every verb its full name.
    root.build();
    let mut commands = vec![root];
    let mut pages = Vec::new();
    while let Some(command) = commands.pop() {
        let verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help");
        commands.extend(verbs.cloned());
        let name = command.get_display_name().unwrap_or(command.get_name());
        pages.push((format!("{name}.1"), page(command.clone())?));
    }
    Ok(pages)
}

fn page(command: Command) -> Result<String, Error> {
    let after = command.get_after_long_help().or(command.get_after_help());
    let sections = after.map(|help| sections(&help.to_string())).unwrap_or_default();
    let has_verbs = command.has_subcommands();
    let man = Man::new(command).source(concat!("labctl ", env!("CARGO_PKG_VERSION")));
    let render = |text: &mut Vec<u8>| {
        man.render_title(text)?;
        man.render_name_section(text)?;
        man.render_synopsis_section(text)?;
        man.render_description_section(text)?;
        man.render_options_section(text)?;
        if has_verbs {
            man.render_subcommands_section(text)?;
        }
        sections.to_writer(text)
    };
    let mut text = Vec::new();
    let rendered: io::Result<()> = render(&mut text);
    rendered.map_err(|error| Error::new(Exit::Bug, "cannot render the manual").because(error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What a verb's help ends with, such as `Examples:` and indented lines: a section each, its lines
/// as they are.
fn sections(help: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in help.split("\n\n") {
        match paragraph.split_once(":\n") {
            Some((title, lines)) if !title.contains('\n') => {
                roff.control("SH", [title.to_uppercase().as_str()]).control("nf", []);
                for line in lines.lines() {
                    roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
                }
                roff.control("fi", []);
            }
            _ => {
                roff.control("PP", []).text([roman(paragraph)]);
            }
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_with_its_examples() {
        let pages = pages().unwrap();
        let page = |name: &str| &pages.iter().find(|(page, _)| page == name).unwrap().1;
        for verb in Cli::command().get_subcommands() {
            let text = page(&format!("labctl-{}.1", verb.get_name()));
            assert!(text.contains(".SH NAME") && text.contains(".SH EXAMPLES\n.nf\n"), "{text}");
        }
        assert!(page("labctl.1").contains(".SH \"EXIT CODES\""));
        assert!(page("labctl-link-set.1").contains("LABCTL_JITTER"));
    }
}
