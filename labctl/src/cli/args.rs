//! Arguments that verbs share.

use std::env;
use std::path::{self, Path, PathBuf};

use crate::control::client::{self, Client};
use crate::control::directory::LabDirectory;
use crate::error::{Error, Exit};
use crate::report::Output;
use crate::topology::{self, Lab};

/// The lab file.
#[derive(Debug, clap::Args)]
pub struct LabFile {
    /// Lab file, or a directory with one, or - for stdin
    ///
    /// Without it, the only *.lab.yaml in this directory is used.
    #[arg(env = "LABCTL_FILE")]
    file: Option<PathBuf>,
}

/// A lab file's text, and where it came from.
pub struct Source {
    /// The file's name; `-` for standard input.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Its path, for those who have another working directory.
    pub fn absolute(&self) -> PathBuf {
        match self.path.as_os_str() == "-" {
            // What it names is seen from here.
            true => env::current_dir().unwrap_or_default().join("-"),
            false => path::absolute(&self.path).unwrap_or_else(|_| self.path.clone()),
        }
    }
}

impl LabFile {
    /// Whether one is named.
    pub fn is_given(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file that is meant.
    ///
    /// # Errors
    /// As [`topology::find`] and [`topology::read`].
    pub fn source(&self) -> Result<Source, Error> {
        let path = topology::find(self.file.as_deref())?;
        let text = topology::read(&path)?;
        Ok(Source { path, text })
    }

    /// Reads and checks the file that is meant.
    ///
    /// # Errors
    /// As [`topology::find`] and [`Lab::load`].
    pub fn load(&self) -> Result<Lab, Error> {
        Lab::load(&topology::find(self.file.as_deref())?)
    }

    /// The name of the lab in the file that is meant.
    ///
    /// # Errors
    /// As [`topology::find`] and [`Lab::name_in`].
    pub fn lab_name(&self) -> Result<String, Error> {
        Lab::name_in(&topology::find(self.file.as_deref())?)
    }
}

/// A lab that runs.
#[derive(Debug, clap::Args)]
pub struct LabName {
    /// Name of the lab
    ///
    /// Without it, the lab of the only *.lab.yaml in this directory is meant, of several the one that
    /// runs or, where there is no such file, the only lab that runs.
    #[arg(long, value_name = "NAME", env = "LABCTL_LAB")]
    lab: Option<String>,
}

impl LabName {
    /// The lab that is meant.
    ///
    /// # Errors
    /// As [`client::select`], or if the files here do not tell which lab is theirs: it would be
    /// somebody else's that is ended then, or typed at.
    pub fn select(&self) -> Result<LabDirectory, Error> {
        let here = match &self.lab {
            Some(_) => None,
            None => lab_here().map_err(|error| error.help("--lab NAME says which lab is meant"))?,
        };
        client::select(self.lab.as_deref(), here.as_deref())
    }

    /// A connection to it.
    ///
    /// # Errors
    /// As [`select`](Self::select) and [`Client::connect`].
    pub async fn connect(&self) -> Result<Client, Error> {
        Client::connect(&self.select()?).await
    }

    /// What another command needs to mean the same lab.
    pub fn flag(&self) -> String {
        self.lab.as_ref().map_or_else(String::new, |name| format!(" --lab {name}"))
    }
}

/// The name of the lab of the only file here or, of several, the one that runs; `None` if there is no
/// file.
fn lab_here() -> Result<Option<String>, Error> {
    match topology::find(None) {
        Err(error) if error.exit() == Exit::NothingSelected => Ok(None),
        Err(error) if error.exit() == Exit::Usage => running_here()?.ok_or(error).map(Some),
        found => Lab::name_in(&found?).map(Some),
    }
}

/// The only lab that runs of those whose files are here.
fn running_here() -> Result<Option<String>, Error> {
    let files = topology::lab_files_in(Path::new("."))?;
    let here: Vec<_> = files.iter().filter_map(|file| Lab::name_in(file.as_ref()).ok()).collect();
    let running = client::running()?.into_iter().map(|lab| lab.name().to_owned());
    let mut running = running.filter(|name| here.contains(name));
    let only = running.next();
    Ok(if running.next().is_none() { only } else { None })
}

/// The form of what a verb prints.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OutputFlag {
    /// Form of what is printed on stdout
    #[arg(short, long, value_enum, default_value_t, env = "LABCTL_OUTPUT")]
    pub output: Output,
}
