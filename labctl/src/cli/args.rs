//! Arguments that verbs share.

use std::env;
use std::path::{self, PathBuf};

use crate::control::client::{self, Client};
use crate::control::directory::LabDirectory;
use crate::error::Error;
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
}

/// A lab that runs.
#[derive(Debug, clap::Args)]
pub struct LabName {
    /// Name of the lab
    ///
    /// Without it, the lab of the only *.lab.yaml in this directory is meant or, where there is no
    /// such file, the only lab that runs.
    #[arg(long, value_name = "NAME", env = "LABCTL_LAB")]
    lab: Option<String>,
}

impl LabName {
    /// The lab that is meant.
    ///
    /// # Errors
    /// As [`client::select`].
    pub fn select(&self) -> Result<LabDirectory, Error> {
        let here = || Lab::load(&topology::find(None).ok()?).ok().map(|lab| lab.name);
        let here = self.lab.is_none().then(here).flatten();
        client::select(self.lab.as_deref(), here.as_deref())
    }

    /// A connection to it.
    ///
    /// # Errors
    /// As [`client::select`] and [`Client::connect`].
    pub async fn connect(&self) -> Result<Client, Error> {
        Client::connect(&self.select()?).await
    }

    /// What another command needs to mean the same lab.
    pub fn flag(&self) -> String {
        self.lab.as_ref().map_or_else(String::new, |name| format!(" --lab {name}"))
    }
}

/// The form of what a verb prints.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OutputFlag {
    /// Form of what is printed on stdout
    #[arg(short, long, value_enum, default_value_t, env = "LABCTL_OUTPUT")]
    pub output: Output,
}
