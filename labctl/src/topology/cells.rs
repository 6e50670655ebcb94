//! The cells of an experiment: each is the file's tree with other values, decoded and resolved anew, so
//! that any key may be varied and every check applies to every value.
//!
//! What is wrong with a cell is told where the file has the value that makes it wrong: an axis's value
//! if all cells with it have the problem, else the combination.

use std::{cmp::Reverse, collections::BTreeMap, path::Path};

use serde_yaml::Value;

use super::{
    Bench, Cell, Lab, Step,
    changes::{Fault, places, put},
    decode::{self, pointer},
    document::Document,
    file::{BenchSpec, File, Scalar, StepSpec, TrialName},
    index::{Moved, dotted, join},
    problem::Problem,
    resolve,
};
use crate::optimizations::Optimization;
use crate::results::{CellId, Parameters, Protocol, Setting, TrialKind};

/// More than anyone has the time to measure.
const MAX_CELLS: usize = 4096;

/// A value that a cell gives to a key.
#[derive(Clone)]
struct Change {
    /// The key as the file has it.
    key: String,
    value: Value,
    /// Where the file has both.
    at: Moved,
    /// The places that the key stands for.
    places: Vec<Vec<String>>,
}

/// What cells have in common that are made in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Matrix,
    Ladder,
    /// A cell of its own, by number.
    Own(usize),
}

/// A cell before it is resolved.
struct Draft {
    family: Family,
    name: Option<String>,
    /// Where the file has the cell as a whole.
    at: String,
    changes: Vec<Change>,
    /// In the matrix, the number of each axis's value.
    coordinates: Vec<usize>,
    only: Option<TrialKind>,
}

/// Makes the cells of `spec`: the matrix's in table order, the ladder's, and those of their own.
///
/// `tree` is what the file says, without what could not be made sense of.
pub fn cells(
    path: &Path,
    spec: &BenchSpec,
    bench: &Bench,
    tree: &Value,
    document: &mut Document,
) -> Vec<Cell> {
    let mut drafter = Drafter { tree, document };
    let mut drafts = drafter.matrix(spec);
    drafts.extend(drafter.ladder(spec));
    drafts.extend(drafter.own(spec));
    let mut tree = tree.clone();
    if let Some(Value::Mapping(bench)) = tree.get_mut("bench") {
        for key in ["matrix", "cells", "ladder", "reference", "assert"] {
            bench.shift_remove(key);
        }
    }
    let mut findings = Findings::default();
    let mut cells = Vec::new();
    for (number, draft) in drafts.iter().enumerate() {
        let (cell, problems) = cell(path, draft, bench, tree.clone(), document);
        findings.add(number, draft, problems, document);
        cells.extend(cell);
    }
    for (_, finding) in findings.0 {
        let problem = finding.explained(&drafts, document);
        document.adopt(problem);
    }
    cells
}

/// Notes in `bench` which of its cells are the ladder's steps, and which is the reference.
pub fn relate(spec: &BenchSpec, bench: &mut Bench, document: &mut Document) {
    let find =
        |name: &str| bench.cells.iter().position(|cell| cell.id.name.as_deref() == Some(name));
    let steps = spec.ladder.iter().enumerate().filter_map(|(number, step)| {
        let step = step.as_ref()?;
        let name = step_name(number, step);
        let changes = || step.0.iter().filter(|(key, _)| key != "name");
        let words: Vec<_> = changes()
            .filter_map(|(key, value)| Some(in_words(key, &setting(&value.as_ref()?.0))))
            .collect();
        let given = step.0.iter().any(|(key, _)| key == "name");
        let label = match words.is_empty() {
            _ if given => name.clone(),
            true => "as in the file".to_owned(),
            false => words.join(" "),
        };
        Some(Step { label, cell: find(&name)? })
    });
    bench.ladder = steps.collect();
    let Some(reference) = &spec.reference else { return };
    let names: Vec<_> = bench.cells.iter().filter_map(|cell| cell.id.name.as_deref()).collect();
    let lost = document.is_damaged("/bench/cells") || document.is_damaged("/bench/ladder");
    if !names.contains(&reference.as_str()) && !lost {
        document.unknown("/bench/reference", "cell", reference, names.into_iter());
    }
    bench.reference = Some(reference.clone());
}

/// `+csb`, `-vale`, `ring 80`.
fn in_words(key: &str, value: &Setting) -> String {
    let short = key.strip_prefix("optimizations.").unwrap_or(key);
    match value {
        Setting::Toggle(true) => format!("+{short}"),
        Setting::Toggle(false) => format!("-{short}"),
        other => format!("{short} {other}"),
    }
}

fn step_name(number: usize, step: &StepSpec) -> String {
    let named = step.0.iter().find(|(key, _)| key == "name");
    match named.and_then(|(_, value)| value.as_ref()) {
        Some(Scalar(value)) => setting(value).to_string(),
        None => format!("step-{number}"),
    }
}

/// A value as result documents and tables have it. Fractions stay as they are written.
pub(super) fn setting(value: &Value) -> Setting {
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
        let sections = ["throughput", "rr"].map(|trial| format!("/bench/{trial}"));
        let section = sections.into_iter().find(|section| {
            key.trim_start_matches("bench.").starts_with(section.trim_start_matches("/bench/"))
        });
        let section =
            section.unwrap_or_else(|| format!("/{}", key.split(['.', '[']).next().unwrap_or("")));
        if !self.document.is_damaged(&section) {
            let problem = self.document.key_problem(at, &message, "cannot be changed");
            if let Some(help) = help {
                problem.help(help);
            }
        }
        None
    }
}

/// The optimization that a key switches for the whole lab.
fn optimization(key: &str) -> Option<Optimization> {
    let name = key.strip_prefix("optimizations.")?;
    Optimization::ALL.into_iter().find(|which| which.name() == name)
}

/// Resolves a cell; `None` if that cannot be done at all.
fn cell(
    path: &Path,
    draft: &Draft,
    bench: &Bench,
    mut tree: Value,
    document: &Document,
) -> (Option<Cell>, Vec<Problem>) {
    let mut moved = Vec::new();
    for change in &draft.changes {
        for place in &change.places {
            put(&mut tree, place, change.value.clone());
            moved.push(Moved { path: pointer(place), ..change.at.clone() });
        }
    }
    let mut document = document.of_cell(moved);
    let Some(file) = decode::decode(&mut document, &mut tree) else {
        return (None, document.into_problems());
    };
    let mut lab = resolve::resolve(path, &file, &mut document);
    lab.keep_pairs(pairs(&file));
    let cell = Cell { id: id(draft, bench, &lab), only: draft.only, lab };
    (Some(cell), document.into_problems())
}

/// How many pairs take part in a trial, if not all.
fn pairs(file: &File) -> usize {
    let trial = file.bench.as_ref().and_then(|bench| bench.throughput.as_ref());
    trial.and_then(|trial| trial.pairs).map_or(usize::MAX, |pairs| pairs.get::<u16>().into())
}

/// What tells a cell from the others; `bench` is that of the file.
fn id(draft: &Draft, bench: &Bench, lab: &Lab) -> CellId {
    // What the identity says in other places.
    const TOLD: [&str; 4] = ["vmm", "nic", "link", "throughput.protocol"];
    let mut parameters = Parameters::new();
    for Change { key, value, .. } in &draft.changes {
        let key = key.strip_prefix("bench.").unwrap_or(key);
        let in_name = draft.name.is_some() && TOLD.contains(&key);
        if optimization(key).is_none() && !in_name {
            parameters.insert(key.to_owned(), setting(value));
        }
    }
    let own = lab.bench.as_ref();
    let throughput = own.and_then(|own| own.throughput.as_ref());
    // Another protocol may bring another default with it.
    if let (Some(own), Some(of_file)) = (throughput, &bench.throughput)
        && own.frame != of_file.frame
    {
        parameters.insert("throughput.frame".to_owned(), Setting::Number(own.frame.into()));
    }
    CellId {
        name: draft.name.clone(),
        platform: lab.platform(),
        optimizations: lab.optimizations,
        protocol: throughput.map_or(Protocol::Raw, |trial| trial.protocol),
        parameters,
    }
}

/// What is wrong with cells: by family, place and message, with the cells that have it.
#[derive(Default)]
struct Findings(BTreeMap<(Family, usize, String), Finding>);

struct Finding {
    problem: Problem,
    cells: Vec<usize>,
}

impl Findings {
    /// Adds what is wrong with a cell and not with the file itself.
    fn add(&mut self, number: usize, draft: &Draft, problems: Vec<Problem>, document: &Document) {
        let place = |problem: &Problem| (problem.offset(), problem.message().to_owned());
        for problem in problems {
            let (offset, message) = place(&problem);
            if document.problems().iter().any(|known| place(known) == (offset, message.clone())) {
                continue;
            }
            let finding = self.0.entry((draft.family, offset, message));
            finding.or_insert(Finding { problem, cells: Vec::new() }).cells.push(number);
        }
    }
}

impl Finding {
    /// The problem where the file has the value that makes it.
    fn explained(self, drafts: &[Draft], document: &Document) -> Problem {
        let Finding { problem, cells } = self;
        let index = document.index();
        let Some(first) = cells.first().map(|cell| &drafts[*cell]) else { return problem };
        let is_there = first.changes.iter().any(|Change { at, .. }| {
            [index.key(&at.key), index.value(&at.value)]
                .iter()
                .any(|at| at.start == problem.offset())
        });
        let at_cell = |problem: Problem, label| {
            if is_there {
                problem
            } else {
                problem.because_of(index.key(&first.at), &dotted(&first.at), label)
            }
        };
        match first.family {
            Family::Ladder => at_cell(problem, "at this step"),
            Family::Own(_) => at_cell(problem, "in this cell"),
            Family::Matrix => match culprit(&cells, drafts) {
                Some(_) if is_there => problem,
                Some(Change { at, .. }) => problem.because_of(
                    index.value(&at.value),
                    &dotted(&at.value),
                    "with this value",
                ),
                None => {
                    let mut problem = at_cell(problem, "in one of its cells");
                    let words: Vec<_> = first
                        .changes
                        .iter()
                        .map(|change| format!("{} {}", change.key, setting(&change.value)))
                        .collect();
                    problem.help(format!("in the combination {}", words.join(", ")));
                    problem
                }
            },
        }
    }
}

/// The value that all of the matrix's cells with it have the problem; of several the most frequent.
fn culprit<'a>(cells: &[usize], drafts: &'a [Draft]) -> Option<&'a Change> {
    let of_matrix = || drafts.iter().filter(|draft| draft.family == Family::Matrix);
    let mut with: BTreeMap<(usize, usize), (usize, &Change)> = BTreeMap::new();
    for draft in cells.iter().map(|cell| &drafts[*cell]) {
        for (axis, (value, change)) in draft.coordinates.iter().zip(&draft.changes).enumerate() {
            with.entry((axis, *value)).or_insert((0, change)).0 += 1;
        }
    }
    let all_have = with.into_iter().filter(|((axis, value), (count, _))| {
        of_matrix().filter(|draft| draft.coordinates[*axis] == *value).count() == *count
    });
    all_have.max_by_key(|(_, (count, _))| *count).map(|(_, (_, change))| change)
}
