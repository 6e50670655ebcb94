//! Which lab file is meant, and its text.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::error::{Error, Exit};

/// A lab file is a page or two; whatever is longer is something else.
const MAX_BYTES: u64 = 1 << 20;

/// Finds the lab file that is meant: `given` itself, or the only `*.lab.yaml` in the directory it
/// names. Nothing given means the current directory; `-` is the standard input.
///
/// # Errors
/// [`Exit::NothingSelected`] if the directory has none, [`Exit::Usage`] if it has several.
pub fn find(given: Option<&Path>) -> Result<PathBuf, Error> {
    let directory = match given {
        Some(path) if !path.is_dir() => return Ok(path.to_owned()),
        Some(path) => path,
        None => Path::new("."),
    };
    match lab_files_in(directory)?.as_slice() {
        [only] if given.is_none() => Ok(PathBuf::from(only)),
        [only] => Ok(directory.join(only)),
        [] => {
            let message = format!("no *.lab.yaml in {}", place(given));
            Err(Error::new(Exit::NothingSelected, message).help("name a lab file"))
        }
        several => {
            let names: Vec<_> = several.iter().map(|name| name.to_string_lossy()).collect();
            let message = format!("several lab files in {}", place(given));
            Err(Error::new(Exit::Usage, message).help(format!("name one: {}", names.join(", "))))
        }
    }
}

/// The names of all lab files in a directory, sorted.
///
/// # Errors
/// If it cannot be listed.
pub fn lab_files_in(directory: &Path) -> Result<Vec<OsString>, Error> {
    let unreadable = |error: io::Error| {
        Error::new(Exit::InvalidFile, format!("cannot list {}", directory.display())).because(error)
    };
    let mut found = Vec::new();
    for entry in directory.read_dir().map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if name.as_encoded_bytes().ends_with(b".lab.yaml") {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn place(given: Option<&Path>) -> String {
    given.map_or_else(|| "this directory".to_owned(), |path| path.display().to_string())
}

/// Reads a lab file's text; `-` is the standard input.
///
/// # Errors
/// [`Exit::InvalidFile`] if it cannot be read, is not UTF-8, or is far too long.
pub fn read(path: &Path) -> Result<String, Error> {
    let failed = |error: io::Error| {
        let error =
            Error::new(Exit::InvalidFile, format!("cannot read {}", path.display())).because(error);
        match path.try_exists() {
            Ok(false) => error.help("with no file argument the only *.lab.yaml here is used"),
            _ => error,
        }
    };
    let invalid = |why: &str| {
        Error::new(Exit::InvalidFile, format!("{} is not a lab file: {why}", path.display()))
    };
    let input: Box<dyn Read> = match path.as_os_str() {
        name if name == OsStr::new("-") => Box::new(io::stdin().lock()),
        name => Box::new(File::open(name).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    input.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(invalid("it is longer than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        invalid(&format!("line {line} is not UTF-8 text"))
    })
}
