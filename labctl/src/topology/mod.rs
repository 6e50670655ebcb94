//! The lab file: what it may say (`file`), where it says it (`text`), what it means (`model`).
//!
//! [`Lab::load`] turns text into a [`Lab`], plain data with every default filled in and every
//! reference resolved to an index, or into one error that lists every mistake with its place:
//! `text` (syntax, places, aliases, variables, then keys, types and ranges) -> `resolve` (inheritance,
//! references, relations) -> `experiment`, which takes the tree with other values through the same steps
//! for every cell, and finds the cells of assertions.
//!
//! A *guest* has NICs, each at the end of a *cable* whose other end is a *port* of a *switch*. A *link* is
//! any such cable in the file; in the code, one that is no guest's: between switches, or to the host.

mod experiment;
mod file;
mod model;
mod resolve;
mod schema;
mod text;

use std::path::Path;

pub use file::Delay;
pub use model::{
    Action, Assertion, Axis, Bench, Boot, CableId, Cell, Dimension, Guest, HostTap, Lab, Link,
    LinkEnd, Metric, Nic, Operator, Overrides, Pair, Pktguest, Qemu, Quick, Relation, Role,
    Segments, Step, Subject, Switch, SwitchKind, System, Target, Term, TimedEvent, TrialSpec,
    Workload,
};
pub use schema::schema;
pub use text::find::{find, lab_files_in, read};
pub use text::variables::{Variables, variables_of};

use crate::error::Error;
use experiment::{assertions, cells};
use text::document::Document;
use text::{decode, tree};

impl Lab {
    /// Reads and checks a lab file.
    ///
    /// # Errors
    /// [`Exit::InvalidFile`](crate::error::Exit::InvalidFile) with every mistake in the file, or
    /// saying why it cannot be read.
    pub fn load(path: &Path) -> Result<Lab, Error> {
        Lab::parse(path, &read(path)?)
    }

    /// Checks a lab file's text, with the variables of this process's environment; `path` is its name
    /// in messages, and paths in it begin where that is.
    ///
    /// # Errors
    /// As [`Lab::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Lab, Error> {
        Self::parse_with(path, text, &variables_of(text))
    }

    /// As [`parse`](Self::parse), with these variables instead.
    ///
    /// # Errors
    /// As [`Lab::load`].
    pub fn parse_with(path: &Path, text: &str, variables: &Variables) -> Result<Lab, Error> {
        let mut document = Document::new(path, without_mark(text))
            .map_err(|problem| Error::invalid_file(path, vec![*problem]))?;
        let lab = read_lab(path, &mut document, variables).filter(|_| document.is_sound());
        lab.ok_or_else(|| Error::invalid_file(path, document.into_problems()))
    }

    /// The name that a lab file gives its lab, whatever mistakes it has elsewhere.
    ///
    /// # Errors
    /// As [`Lab::load`], if the name cannot be told.
    pub fn name_in(path: &Path) -> Result<String, Error> {
        let text = read(path)?;
        match read_name(path, without_mark(&text)) {
            Some(name) => Ok(name),
            None => Lab::parse(path, &text).map(|lab| lab.name),
        }
    }
}

/// Some editors begin a file with a byte order mark; it is not part of the text.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The lab's name, if the text has one that is good.
fn read_name(path: &Path, text: &str) -> Option<String> {
    let mut document = Document::new(path, text).ok()?;
    // Where keys are there twice it may be the name.
    if !document.is_sound() {
        return None;
    }
    let name = tree::parse(&mut document, &variables_of(text))?.get("name")?.as_str()?.to_owned();
    resolve::is_name(&name).then_some(name)
}

/// The lab as far as the text can be made sense of.
fn read_lab(path: &Path, document: &mut Document, variables: &Variables) -> Option<Lab> {
    let mut tree = tree::parse(document, variables)?;
    let file = decode::decode(document, &mut tree)?;
    let mut lab = resolve::resolve(path, &file, document);
    if let (Some(spec), Some(bench)) = (&file.bench, &mut lab.bench) {
        bench.cells = cells::cells(path, spec, bench, &tree, document);
        cells::relate(spec, bench, document);
        assertions::resolve(spec, bench, document);
    }
    Some(lab)
}
