//! `labctl init`: a lab file to start from.

use std::{
    ffi::OsStr,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use clap::ValueEnum;

use super::schema;
use crate::error::{Error, Exit};
use crate::files::{self, Existing};
use crate::topology::Lab;

const EXAMPLES: &str = "\
Examples:
  labctl init                               my.lab.yaml, with two guests on a switch
  labctl init --template star star.lab.yaml
  labctl init --force my.lab.yaml           replace what is there";

/// What the file is called unless the user says.
const DEFAULT_FILE: &str = "my.lab.yaml";
/// What the templates call the schema beside them.
const SCHEMA_FILE: &str = "lab.schema.json";
/// What makes the kernel and the initrd that the template with a Linux guest names, seen from the file.
const LINUX_BUILD: &str = "images/linux/build";
/// What the templates call their lab.
const TEMPLATE_NAME: &str = "name: my-lab";

/// Write a lab file to start from
///
/// It is commented and runs at once; only a Linux guest needs a kernel first. Beside it comes
/// lab.schema.json, unless it is there: editors complete and check lab files with it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// File to write, or a directory for my.lab.yaml
    #[arg(env = "LABCTL_FILE", default_value = DEFAULT_FILE)]
    file: PathBuf,

    /// What to start from
    #[arg(short, long, value_enum, default_value_t, env = "LABCTL_TEMPLATE")]
    template: Template,

    /// Replace the file if it is there; has no environment variable
    #[arg(short, long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Template {
    /// Two guests on one switch
    #[default]
    Pair,
    /// Guests around a switch, over good and bad cables
    Star,
    /// A Linux guest beside a pktguest
    Linux,
    /// An experiment
    Bench,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::Pair => include_str!("../../templates/pair.lab.yaml"),
            Self::Star => include_str!("../../templates/star.lab.yaml"),
            Self::Linux => include_str!("../../templates/linux.lab.yaml"),
            Self::Bench => include_str!("../../templates/bench.lab.yaml"),
        }
    }
}

/// Writes the file, and the schema where there is none.
///
/// # Errors
/// [`Exit::Usage`] if the file is there, [`Exit::Failed`] if it cannot be written.
pub fn run(args: Args) -> Result<Exit, Error> {
    let file = if args.file.is_dir() { args.file.join(DEFAULT_FILE) } else { args.file };
    let name = format!("name: {}", name_for(&file));
    let text = args.template.text().replacen(TEMPLATE_NAME, &name, 1);
    if !write(&file, &text, args.force)? {
        let message = format!("{} is there already", file.display());
        return Err(Error::new(Exit::Usage, message).help("name another file, or use --force"));
    }
    super::note(&format!("wrote {}", file.display()));
    let schema = file.with_file_name(SCHEMA_FILE);
    if write(&schema, &schema::text()?, false)? {
        super::note(&format!("wrote {} for editors", schema.display()));
    }
    let command = match args.template {
        Template::Linux => linux_command(&file),
        Template::Bench => format!("labctl bench {}", file.display()),
        Template::Pair | Template::Star => format!("labctl up {}", file.display()),
    };
    super::next(&command);
    Ok(Exit::Ok)
}

/// What runs the template with the Linux guest. Its kernel must have been made.
fn linux_command(file: &Path) -> String {
    let up = format!("labctl up {}", file.display());
    let directory = file.parent().unwrap_or(Path::new(""));
    let build = directory.join(LINUX_BUILD);
    if Lab::load(file).is_ok() {
        up
    } else if build.exists() {
        format!("{} && {up}", build.display())
    } else {
        super::note(&format!("{LINUX_BUILD} in labctl's sources makes a kernel and an initrd"));
        format!("KERNEL=... INITRD=... {up}")
    }
}

/// A lab's name that tells of its file.
fn name_for(file: &Path) -> String {
    let stem = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let stem = stem.split('.').next().unwrap_or_default().to_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name: String = stem.chars().map(|c| if allowed(c) { c } else { '-' }).take(32).collect();
    // A name has no `-` at its ends.
    let name = name.trim_matches('-');
    if name.is_empty() { "my-lab".to_owned() } else { name.to_owned() }
}

/// Writes a file; false if it is there and is to stay.
fn write(path: &Path, text: &str, force: bool) -> Result<bool, Error> {
    let existing = if force { Existing::Replace } else { Existing::Keep };
    match files::write(path, text.as_bytes(), existing) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(super::cannot_write(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_are_called_after_their_files() {
        for (file, name) in [
            ("my.lab.yaml", "my"),
            ("dir/Two Guests_1.lab.yaml", "two-guests-1"),
            ("_mine_.lab.yaml", "mine"),
            ("a-name-that-is-cut-behind-a-word-s-dash.yaml", "a-name-that-is-cut-behind-a-word"),
            ("é.lab.yaml", "my-lab"),
            (".lab.yaml", "my-lab"),
            (
                "a-name-that-is-longer-than-any-lab-s-may-be.yaml",
                "a-name-that-is-longer-than-any-l",
            ),
        ] {
            assert_eq!(name_for(Path::new(file)), name, "{file}");
        }
    }
}
