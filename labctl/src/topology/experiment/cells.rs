//! The cells of an experiment: each is the file's tree with other values, decoded and resolved anew, so
//! that any key may be varied and every check applies to every value.
//!
//! What is wrong with a cell is told where the file has the value that makes it wrong: an axis's value
//! if all cells with it have the problem, else the combination.

use std::{collections::BTreeMap, path::Path};

use serde_yaml::Value;

use crate::error::Problem;
use crate::results::{CellId, Parameters, Protocol, Setting};
use crate::topology::{
    Bench, Cell, Lab, Step,
    experiment::drafts::{Change, Draft, Family, drafts, optimization, setting, step_name},
    experiment::keys::put,
    file::{BenchSpec, File},
    resolve,
    text::decode::{self, pointer},
    text::document::Document,
    text::index::{Moved, dotted, join},
};

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
    let drafts = drafts(spec, tree, document);
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
    if !names.contains(&reference.as_str()) && !is_cell_lost(reference, spec, document) {
        document.unknown("/bench/reference", "cell", reference, names.into_iter());
    }
    bench.reference = Some(reference.clone());
}

/// Whether a cell of this name may be missing because the file is wrong about it.
pub fn is_cell_lost(name: &str, spec: &BenchSpec, document: &Document) -> bool {
    let named = |step| document.is_lost(&format!("/bench/ladder/{step}/name"));
    document.is_lost(&join("/bench/cells", name))
        || spec.cells.position(name).is_some()
        || document.is_lost("/bench/ladder")
        || (0..spec.ladder.len()).any(named)
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
