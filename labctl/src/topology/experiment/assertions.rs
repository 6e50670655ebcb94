//! `bench.assert`: which cells its expressions are about, and whether units agree.

use crate::error::did_you_mean;
use crate::optimizations::Optimization;
use crate::results::{Setting, TrialKind};
use crate::topology::{
    Assertion, Bench, Cell, Dimension, Metric, Operator, Subject, Term,
    experiment::cells::is_cell_lost,
    experiment::expression::{Condition, Mistake, Part, What, Who, parse},
    file::{AssertSpec, BenchSpec},
    text::document::Document,
    text::index::join,
};

/// Resolves the assertions of `bench`, whose cells are there as far as the file makes sense.
pub fn resolve(file: &BenchSpec, bench: &mut Bench, document: &mut Document) {
    for (number, spec) in file.assert.iter().enumerate() {
        let Some(spec) = spec else { continue };
        let mut at = join("/bench/assert", &number.to_string());
        if !spec.bare {
            at = join(&at, "that");
        }
        let mistake = match parse(&spec.that) {
            Ok(tree) => {
                let context = Context::new(file, bench, document);
                context.assertion(spec, document.position(&at), tree)
            }
            Err(mistake) => Err(mistake),
        };
        let mistake = match mistake {
            Ok(assertion) => {
                bench.assertions.extend(assertion);
                continue;
            }
            Err(mistake) => mistake,
        };
        let Mistake { part, message, help } = mistake;
        let problem = document.scalar_problem(&at, &spec.that, part, &message, "here");
        if let Some(help) = help {
            problem.help(help);
        }
    }
}

/// Resolves one assertion.
struct Context<'a> {
    file: &'a BenchSpec,
    bench: &'a Bench,
    document: &'a Document,
    /// Whether all cells are there that the file means.
    is_whole: bool,
    /// Whether it is about cells that are missing because the file is wrong elsewhere, which has been
    /// told.
    is_in_doubt: bool,
    /// The cells that it is about in turn.
    each: Option<Vec<usize>>,
    /// The kinds of trial that each of them must have.
    kinds: Vec<TrialKind>,
    has_figure: bool,
}

impl<'a> Context<'a> {
    fn new(file: &'a BenchSpec, bench: &'a Bench, document: &'a Document) -> Self {
        let sections = ["/bench/matrix", "/bench/cells", "/bench/ladder"];
        let is_whole = document.is_sound()
            || !bench.cells.is_empty() && !sections.iter().any(|at| document.is_damaged(at));
        let (each, kinds, is_in_doubt, has_figure) = Default::default();
        Self { file, bench, document, is_whole, is_in_doubt, each, kinds, has_figure }
    }

    fn assertion(
        mut self,
        spec: &AssertSpec,
        position: (usize, usize),
        (left, relation, right): (Part, crate::topology::Relation, Part),
    ) -> Result<Option<Assertion>, Mistake> {
        let whole = left.part.start..right.part.end;
        let (left_term, left_unit) = self.term(&left)?;
        let (right_term, right_unit) = self.term(&right)?;
        if !self.has_figure {
            return Err(
                Mistake::new(whole, "there is no figure in it").help("for instance `loss = 0`")
            );
        }
        let unit = agree(left_unit, right_unit, whole.clone(), "compared")?;
        if self.is_in_doubt {
            return Ok(None);
        }
        let cells = &self.bench.cells;
        let has_all =
            |cell: &usize| self.kinds.iter().all(|kind| cells[*cell].trial(*kind).is_some());
        let each = self.each.map(|each| each.into_iter().filter(has_all).collect::<Vec<_>>());
        if each.as_ref().is_some_and(Vec::is_empty) && !self.is_whole {
            return Ok(None);
        }
        if each.as_ref().is_some_and(Vec::is_empty) {
            let kinds: Vec<_> = self.kinds.iter().map(ToString::to_string).collect();
            let message = format!("no such cell has trials of {}", kinds.join(" and "));
            return Err(Mistake::new(whole, message));
        }
        Ok(Some(Assertion {
            that: spec.that.clone(),
            name: spec.name.clone(),
            position,
            each,
            left: left_term,
            relation,
            right: right_term,
            unit: unit.unwrap_or_default(),
        }))
    }

    /// A term and its unit; zero alone has any.
    fn term(&mut self, part: &Part) -> Result<(Term, Option<Dimension>), Mistake> {
        match &part.what {
            What::Number(number, unit) => Ok((Term::Number(*number), *unit)),
            What::Figure(who, metric) => {
                self.has_figure = true;
                let subject = self.subject(who, *metric, part)?;
                Ok((Term::Figure(subject, *metric), Some(metric.dimension())))
            }
            What::Operation(left, operator, right) => {
                let (left, left_unit) = self.term(left)?;
                let (right, right_unit) = self.term(right)?;
                let both = |sign| {
                    let [a, b] = [left_unit, right_unit].map(Option::unwrap_or_default);
                    Some(a.times(b, sign))
                };
                let unit = match operator {
                    Operator::Multiply => both(1),
                    Operator::Divide => both(-1),
                    Operator::Add | Operator::Subtract => {
                        agree(left_unit, right_unit, part.part.clone(), "added or subtracted")?
                    }
                };
                Ok((Term::Operation(left.into(), *operator, right.into()), unit))
            }
        }
    }

    fn subject(&mut self, who: &Who, metric: Metric, part: &Part) -> Result<Subject, Mistake> {
        let cells = &self.bench.cells;
        let kind = metric.trial();
        let found: Vec<usize> = match who {
            Who::Each => (0..cells.len()).collect(),
            Who::Name(name, at) => {
                let is_it = |cell: &Cell| cell.id.name.as_deref() == Some(name);
                let position = cells.iter().position(is_it);
                match position {
                    Some(cell) => vec![cell],
                    None if is_cell_lost(name, self.file, self.document) => {
                        self.is_in_doubt = true;
                        return Ok(Subject::Each);
                    }
                    None => return Err(unknown_cell(name, at, cells)),
                }
            }
            Who::Settings(conditions) => self.select(conditions)?,
        };
        if found.is_empty() || self.is_trial_lost(kind) {
            self.is_in_doubt = true;
            return Ok(Subject::Each);
        }
        match (who, &found[..]) {
            (Who::Name(..) | Who::Settings(_), &[cell]) => {
                if cells[cell].trial(kind).is_none() {
                    let message = format!("cell `{}` has no trials of {kind}", cells[cell].id);
                    return Err(Mistake::new(part.part.clone(), message));
                }
                return Ok(Subject::Cell(cell));
            }
            _ if self.is_whole && self.each.as_ref().is_some_and(|each| *each != found) => {
                let message = "an assertion can be about each of several cells in one way only";
                return Err(Mistake::new(part.part.clone(), message)
                    .help("name single cells in its other figures"));
            }
            _ => self.each = Some(found),
        }
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
        Ok(Subject::Each)
    }

    /// Whether the trials of a kind are missing because the file is wrong about them.
    fn is_trial_lost(&self, kind: TrialKind) -> bool {
        let at = join("/bench", &kind.to_string());
        self.bench.trial(kind).is_none() && self.document.is_damaged(&at)
    }

    /// Whether a value that no cell has is nevertheless one of the axis, or may be the right one for one
    /// that is wrong.
    fn may_have(&self, axis: &str, value: &str) -> bool {
        let at = join("/bench/matrix", axis);
        let values = self.bench.matrix.iter().filter(|known| known.key == axis);
        let mut values = values.flat_map(|axis| &axis.values);
        let written = self.file.matrix.0.iter().find(|(key, _)| key == axis);
        let count = written.map_or(0, |(_, values)| values.len());
        let wrong = |i: usize| self.document.has_problem_at(&join(&at, &i.to_string()));
        self.document.lacks_some(&at)
            || values.any(|known| is_written(known, value))
            || (0..count).any(wrong)
    }

    /// The cells of the matrix that have certain settings; none only if the file is wrong elsewhere.
    fn select(&self, conditions: &[Condition]) -> Result<Vec<usize>, Mistake> {
        let axes = || self.bench.matrix.iter().map(|axis| axis.key.as_str());
        let cells = self.bench.cells.iter().enumerate();
        let mut found: Vec<_> = cells.filter(|(_, cell)| cell.id.name.is_none()).collect();
        for Condition { key, key_at, value, value_at } in conditions {
            let is_it = |axis: &&str| {
                let tail = axis.strip_suffix(key.as_str());
                tail.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            let mut matching = axes().filter(is_it);
            let Some(axis) = matching.next() else {
                let mut lost = self.document.lost_in("/bench/matrix");
                let is_known = |name: &str| axes().any(|axis| join("", axis) == join("", name));
                if self.document.is_lost("/bench/matrix") || lost.any(|name| !is_known(name)) {
                    return Ok(Vec::new());
                }
                let mistake =
                    Mistake::new(key_at.clone(), format!("the matrix has no axis `{key}`"));
                let tails = axes().map(|axis| axis.rsplit('.').next().unwrap_or(axis));
                return Err(match did_you_mean(key, axes().chain(tails)) {
                    Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
                    None => {
                        mistake.help(format!("known: {}", axes().collect::<Vec<_>>().join(", ")))
                    }
                });
            };
            if let Some(other) = matching.next() {
                let message = format!("`{key}` may be `{axis}` or `{other}`");
                return Err(Mistake::new(key_at.clone(), message));
            }
            found.retain(|(_, cell)| has(cell, axis, value));
            if found.is_empty() && !self.document.is_sound() && self.may_have(axis, value) {
                return Ok(Vec::new());
            }
            if found.is_empty() {
                let values = self.bench.matrix.iter().filter(|known| known.key == axis);
                let values: Vec<_> =
                    values.flat_map(|axis| &axis.values).map(ToString::to_string).collect();
                let message = format!("no cell has `{key}={value}`");
                return Err(Mistake::new(value_at.clone(), message)
                    .help(format!("the axis has {}", values.join(", "))));
            }
        }
        Ok(found.into_iter().map(|(index, _)| index).collect())
    }
}

/// Whether a cell has this value of an axis.
fn has(cell: &Cell, axis: &str, value: &str) -> bool {
    let which =
        Optimization::ALL.into_iter().find(|which| axis == format!("optimizations.{which}"));
    let parameter = axis.strip_prefix("bench.").unwrap_or(axis);
    let setting = match which {
        Some(which) => Some(Setting::Toggle(cell.id.optimizations.get(which))),
        None => cell.id.parameters.get(parameter).cloned(),
    };
    setting.is_some_and(|setting| is_written(&setting, value))
}

/// Whether an assertion may write a setting like this.
fn is_written(setting: &Setting, value: &str) -> bool {
    match setting {
        Setting::Toggle(on) => {
            [on.to_string().as_str(), if *on { "on" } else { "off" }].contains(&value)
        }
        other => other.to_string() == value,
    }
}

fn unknown_cell(name: &str, at: &std::ops::Range<usize>, cells: &[Cell]) -> Mistake {
    let mistake = Mistake::new(at.clone(), format!("no cell is called `{name}`"));
    let known: Vec<_> = cells.iter().filter_map(|cell| cell.id.name.as_deref()).collect();
    match did_you_mean(name, known.iter().copied()) {
        Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
        None if known.is_empty() => {
            mistake.help("cells of the matrix are named by settings, as in `[csb=on].throughput`")
        }
        None => mistake.help(format!("known: {}", known.join(", "))),
    }
}

/// The common unit of two terms.
fn agree(
    left: Option<Dimension>,
    right: Option<Dimension>,
    part: std::ops::Range<usize>,
    done: &str,
) -> Result<Option<Dimension>, Mistake> {
    match (left, right) {
        (Some(left), Some(right)) if left != right => {
            let (left, right) = (left.describe(), right.describe());
            Err(Mistake::new(part, format!("{left} and {right} cannot be {done}")))
        }
        (left, right) => Ok(left.or(right)),
    }
}
