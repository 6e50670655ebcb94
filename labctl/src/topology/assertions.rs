//! `bench.assert`: which cells its expressions are about, and whether units agree.

use super::{
    Assertion, Bench, Cell, Dimension, Metric, Operator, Subject, Term,
    document::Document,
    expression::{Condition, Mistake, Part, What, Who, parse},
    file::AssertSpec,
    index::join,
    problem::did_you_mean,
};
use crate::optimizations::Optimization;
use crate::results::{Setting, TrialKind};

/// Resolves the assertions of `bench`, whose cells are known.
pub fn resolve(specs: &[Option<AssertSpec>], bench: &mut Bench, document: &mut Document) {
    // Names of cells that are not there, because the file is wrong elsewhere, are no mistakes.
    let cells_are_known = document.is_sound();
    for (number, spec) in specs.iter().enumerate() {
        let Some(spec) = spec else { continue };
        let mut at = join("/bench/assert", &number.to_string());
        if !spec.bare {
            at = join(&at, "that");
        }
        let mistake = match parse(&spec.that) {
            Ok(_) if !cells_are_known => continue,
            Ok(tree) => match Context::new(bench).assertion(spec, document.position(&at), tree) {
                Ok(assertion) => {
                    bench.assertions.push(assertion);
                    continue;
                }
                Err(mistake) => mistake,
            },
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
    bench: &'a Bench,
    /// The cells that it is about in turn.
    each: Option<Vec<usize>>,
    /// The kinds of trial that each of them must have.
    kinds: Vec<TrialKind>,
    has_figure: bool,
}

impl<'a> Context<'a> {
    fn new(bench: &'a Bench) -> Self {
        Self { bench, each: None, kinds: Vec::new(), has_figure: false }
    }

    fn assertion(
        mut self,
        spec: &AssertSpec,
        position: (usize, usize),
        (left, relation, right): (Part, super::Relation, Part),
    ) -> Result<Assertion, Mistake> {
        let whole = left.part.start..right.part.end;
        let (left_term, left_unit) = self.term(&left)?;
        let (right_term, right_unit) = self.term(&right)?;
        if !self.has_figure {
            return Err(
                Mistake::new(whole, "there is no figure in it").help("for instance `loss = 0`")
            );
        }
        let unit = agree(left_unit, right_unit, whole.clone(), "compared")?;
        let cells = &self.bench.cells;
        let has_all =
            |cell: &usize| self.kinds.iter().all(|kind| cells[*cell].trial(*kind).is_some());
        let each = self.each.map(|each| each.into_iter().filter(has_all).collect::<Vec<_>>());
        if each.as_ref().is_some_and(Vec::is_empty) {
            let kinds: Vec<_> = self.kinds.iter().map(ToString::to_string).collect();
            let message = format!("no such cell has trials of {}", kinds.join(" and "));
            return Err(Mistake::new(whole, message));
        }
        Ok(Assertion {
            that: spec.that.clone(),
            name: spec.name.clone(),
            position,
            each,
            left: left_term,
            relation,
            right: right_term,
            unit: unit.unwrap_or_default(),
        })
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
                vec![position.ok_or_else(|| unknown_cell(name, at, cells))?]
            }
            Who::Settings(conditions) => self.select(conditions)?,
        };
        match (who, &found[..]) {
            (Who::Name(..) | Who::Settings(_), &[cell]) => {
                if cells[cell].trial(kind).is_none() {
                    let message = format!("cell `{}` has no trials of {kind}", cells[cell].id);
                    return Err(Mistake::new(part.part.clone(), message));
                }
                return Ok(Subject::Cell(cell));
            }
            _ if self.each.as_ref().is_some_and(|each| *each != found) => {
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

    /// The cells of the matrix that have certain settings, at least one.
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
    setting.is_some_and(|setting| match setting {
        Setting::Toggle(on) => {
            [on.to_string().as_str(), if on { "on" } else { "off" }].contains(&value)
        }
        other => other.to_string() == value,
    })
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
