//! The cells of an experiment as the file writes them: which keys get which values, and where it says
//! so.

use std::cmp::Reverse;

use serde_yaml::Value;

use crate::optimizations::Optimization;
use crate::results::{Setting, TrialKind};
use crate::topology::{
    experiment::keys::{Fault, places},
    file::{BenchSpec, Scalar, StepSpec, TrialName},
    resolve,
    text::document::Document,
    text::index::{Moved, join},
};

/// More than anyone has the time to measure.
const MAX_CELLS: usize = 4096;

/// A value that a cell gives to a key.
#[derive(Clone)]
pub struct Change {
    /// The key as the file has it.
    pub key: String,
    pub value: Value,
    /// Where the file has both.
    pub at: Moved,
    /// The places that the key stands for.
    pub places: Vec<Vec<String>>,
}

/// What cells have in common that are made in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Matrix,
    Ladder,
    /// A cell of its own, by number.
    Own(usize),
}

/// A cell before it is resolved.
pub struct Draft {
    pub family: Family,
    pub name: Option<String>,
    /// Where the file has the cell as a whole.
    pub at: String,
    pub changes: Vec<Change>,
    /// In the matrix, the number of each axis's value.
    pub coordinates: Vec<usize>,
    pub only: Option<TrialKind>,
}

/// Reads the cells of `spec`: the matrix's in table order, the ladder's, and those of their own.
///
/// `tree` is what the file says, without what could not be made sense of.
pub fn drafts(spec: &BenchSpec, tree: &Value, document: &mut Document) -> Vec<Draft> {
    let mut drafter = Drafter { tree, document };
    let mut drafts = drafter.matrix(spec);
    drafts.extend(drafter.ladder(spec));
    drafts.extend(drafter.own(spec));
    drafts
}

pub fn step_name(number: usize, step: &StepSpec) -> String {
    let named = step.0.iter().find(|(key, _)| key == "name");
    match named.and_then(|(_, value)| value.as_ref()) {
        Some(Scalar(value)) => setting(value).to_string(),
        None => format!("step-{number}"),
    }
}

/// A value as result documents and tables have it. Fractions stay as they are written.
pub fn setting(value: &Value) -> Setting {
    match value {
        Value::Bool(on) => Setting::Toggle(*on),
        Value::Number(number) => match number.as_u64() {
            Some(number) => Setting::Number(number),
            None => Setting::Text(number.to_string()),
        },
        Value::String(text) => Setting::Text(text.clone()),
        _ => Setting::Text(String::new()),
    }
}

/// Reads the changes of cells.
struct Drafter<'a> {
    tree: &'a Value,
    document: &'a mut Document,
}

impl Drafter<'_> {
    fn matrix(&mut self, spec: &BenchSpec) -> Vec<Draft> {
        const AT: &str = "/bench/matrix";
        if spec.matrix.0.is_empty() && !(spec.cells.0.is_empty() && spec.ladder.is_empty()) {
            return Vec::new();
        }
        let mut axes: Vec<_> =
            spec.matrix.0.iter().map(|(key, values)| self.axis(AT, key, values)).collect();
        // The four optimizations count fastest, `itr` first: a table in this order climbs their ladder.
        axes.sort_by_key(|axis| {
            let key = axis.first().map_or("", |(_, change)| change.key.as_str());
            optimization(key).map(|which| Reverse(which as usize))
        });
        let count = axes.iter().map(Vec::len).try_fold(1_usize, |all, axis| all.checked_mul(axis));
        if count.is_none_or(|count| count > MAX_CELLS) {
            let message = format!("an experiment has at most {MAX_CELLS} cells");
            self.document.key_problem(AT, &message, "makes more");
            return Vec::new();
        }
        let mut combinations = vec![Vec::new()];
        for axis in &axes {
            let with = |cell: &Vec<(usize, Change)>| -> Vec<Vec<(usize, Change)>> {
                axis.iter().map(|value| [cell.clone(), vec![value.clone()]].concat()).collect()
            };
            combinations = combinations.iter().flat_map(with).collect();
        }
        let draft = |values: Vec<(usize, Change)>| {
            let (coordinates, changes) = values.into_iter().unzip();
            let at = AT.to_owned();
            Draft { family: Family::Matrix, name: None, at, changes, coordinates, only: None }
        };
        combinations.into_iter().map(draft).collect()
    }

    /// The values of an axis in the order of tables, each with its number in the file.
    fn axis(&mut self, at: &str, key: &str, values: &[Option<Scalar>]) -> Vec<(usize, Change)> {
        let at = join(at, key);
        if values.is_empty() && !self.document.is_damaged(&at) {
            let message = "an axis needs at least one value";
            self.document.key_problem(&at, message, "no values");
        }
        let Some(places) = self.places(&at, key) else { return Vec::new() };
        let mut axis: Vec<(usize, Change)> = Vec::new();
        for (number, value) in values.iter().enumerate() {
            let value_at = join(&at, &number.to_string());
            let Some(value) = self.value(&value_at, value) else { continue };
            if let Some((first, _)) = axis.iter().find(|(_, known)| known.value == value) {
                let first = self.document.index().value(&join(&at, &first.to_string()));
                self.document
                    .value_problem(&value_at, "the value is there twice", "again here")
                    .also(first, "first here")
                    .help("every value of an axis makes its own cells");
                continue;
            }
            let moved = Moved { path: String::new(), key: at.clone(), value: value_at };
            axis.push((
                number,
                Change { key: key.to_owned(), value, at: moved, places: places.clone() },
            ));
        }
        // Words have no order but the file's.
        if !axis.iter().any(|(_, change)| change.value.is_string()) {
            axis.sort_by_key(|(_, change)| setting(&change.value));
        }
        axis
    }

    fn ladder(&mut self, spec: &BenchSpec) -> Vec<Draft> {
        let mut changes = Vec::new();
        let mut drafts = Vec::new();
        for (number, step) in spec.ladder.iter().enumerate() {
            let Some(step) = step else { continue };
            let at = join("/bench/ladder", &number.to_string());
            let name = step_name(number, step);
            self.check_name(&join(&at, "name"), &name, spec, &drafts);
            for (key, value) in step.0.iter().filter(|(key, _)| key != "name") {
                changes.extend(self.change(&at, key, value));
            }
            drafts.push(Draft {
                family: Family::Ladder,
                name: Some(name),
                at,
                changes: changes.clone(),
                coordinates: Vec::new(),
                only: None,
            });
        }
        drafts
    }

    fn check_name(&mut self, at: &str, name: &str, spec: &BenchSpec, steps: &[Draft]) {
        if !resolve::is_name(name) {
            self.document.value_problem(at, resolve::NAME_EXPECTED, "not a name");
        }
        let taken = steps.iter().any(|step| step.name.as_deref() == Some(name));
        if taken || spec.cells.position(name).is_some() {
            let message = format!("two cells are called `{name}`");
            self.document.value_problem(at, &message, "again here");
        }
    }

    fn own(&mut self, spec: &BenchSpec) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (number, (name, cell)) in spec.cells.0.iter().enumerate() {
            let at = join("/bench/cells", name);
            let tree =
                self.tree.get("bench").and_then(|bench| bench.get("cells")?.get(name.as_str()));
            let mut changes = Vec::new();
            for (key, value) in tree.and_then(Value::as_mapping).into_iter().flatten() {
                let key = key.as_str().unwrap_or_default();
                match (key, value) {
                    ("set" | "only", _) => {}
                    // What a cell changes of a section.
                    (section, Value::Mapping(keys)) => {
                        for (key, value) in keys {
                            let key = key.as_str().unwrap_or_default();
                            let (of_section, at) = (format!("{section}.{key}"), join(&at, section));
                            changes.extend(self.change_at(&join(&at, key), &of_section, value));
                        }
                    }
                    (key, value) => changes.extend(self.change_at(&join(&at, key), key, value)),
                }
            }
            for (key, value) in &cell.set.0 {
                changes.extend(self.change(&join(&at, "set"), key, value));
            }
            let only = cell.only.map(|only| match only {
                TrialName::Throughput => TrialKind::Throughput,
                TrialName::Rr => TrialKind::Rr,
            });
            if let Some(kind) = only {
                self.check_trial(spec, &join(&at, "only"), kind);
            }
            let (family, name, coordinates) = (Family::Own(number), Some(name.clone()), Vec::new());
            drafts.push(Draft { family, name, at, changes, coordinates, only });
        }
        drafts
    }

    fn check_trial(&mut self, spec: &BenchSpec, at: &str, kind: TrialKind) {
        let there = match kind {
            TrialKind::Throughput => spec.throughput.is_some(),
            TrialKind::Rr => spec.rr.is_some(),
        };
        if !there && !self.document.is_damaged(&join("/bench", &kind.to_string())) {
            self.document
                .key_problem(at, "is about a trial that is not there", format!("no `bench.{kind}`"))
                .help(format!("add `{kind}` to `bench`, or remove this"));
        }
    }

    fn change(&mut self, at: &str, key: &str, value: &Option<Scalar>) -> Option<Change> {
        let at = join(at, key);
        let value = self.value(&at, value)?;
        self.change_at(&at, key, &value)
    }

    fn change_at(&mut self, at: &str, key: &str, value: &Value) -> Option<Change> {
        // What is not said changes nothing.
        if value.is_null() {
            return None;
        }
        let places = self.places(at, key)?;
        let (path, key) = (String::new(), key.to_owned());
        let at = Moved { path, key: at.to_owned(), value: at.to_owned() };
        Some(Change { key, value: value.clone(), at, places })
    }

    fn value(&mut self, at: &str, value: &Option<Scalar>) -> Option<Value> {
        if value.is_none() && !self.document.is_damaged(at) {
            self.document.value_problem(at, "expected a value", "found nothing");
        }
        value.as_ref().map(|Scalar(value)| value.clone())
    }

    fn places(&mut self, at: &str, key: &str) -> Option<Vec<Vec<String>>> {
        let Fault { message, help } = match places(self.tree, key) {
            Ok(places) => return Some(places),
            Err(fault) => fault,
        };
        // What it is about may be there, but wrong.
        if !self.document.is_damaged(&pointer(key)) {
            let problem = self.document.key_problem(at, &message, "cannot be changed");
            if let Some(help) = help {
                problem.help(help);
            }
        }
        // So that nobody misses its cells.
        self.document.set_aside(at);
        None
    }
}

/// Where a key of the file is; of one for several places, where they are in.
fn pointer(key: &str) -> String {
    let trial = ["throughput", "rr"].contains(&key.split('.').next().unwrap_or_default());
    let steps = key.split(['.', '[']).map(|step| step.trim_end_matches(']'));
    let steps = steps.take_while(|step| *step != "*");
    steps.fold(if trial { "/bench".to_owned() } else { String::new() }, |at, step| join(&at, step))
}

/// The optimization that a key switches for the whole lab.
pub fn optimization(key: &str) -> Option<Optimization> {
    let name = key.strip_prefix("optimizations.")?;
    Optimization::ALL.into_iter().find(|which| which.name() == name)
}
