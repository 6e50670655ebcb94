//! What came of the lab file's assertions: a table, and annotations of its lines.

use super::glyphs::Glyphs;
use super::number::{metric, significant};
use super::table::{Table, interval, shorten, words};
use crate::error::annotation;
use crate::results::{Assertion, Check, Figure, Results, Verdict};

/// Room for what is asserted and for where: on a terminal, the table fits 120 columns.
pub const NARROW: [usize; 2] = [30, 20];
/// Room for all.
pub const WIDE: [usize; 2] = [usize::MAX; 2];

/// What is to be said above the table, and the table; `None` if nothing is asserted.
pub fn table(results: &Results, room: [usize; 2], g: &Glyphs) -> Option<(String, Table)> {
    let count = |verdict| results.assertions.iter().filter(|a| a.verdict == verdict).count();
    let (passed, failed) = (count(Verdict::Pass), count(Verdict::Fail));
    let title = format!(
        "Assertions: {passed} passed, {failed} failed, {} inconclusive",
        results.assertions.len() - passed - failed
    );
    let columns = ["assertion", "verdict", "left", "right", "where"].map(words).to_vec();
    let rows: Vec<_> = results.assertions.iter().map(|assertion| row(assertion, room, g)).collect();
    (!rows.is_empty()).then_some((title, Table { columns, rows }))
}

fn row(assertion: &Assertion, [title, place]: [usize; 2], g: &Glyphs) -> Vec<String> {
    let Some(worst) = worst(assertion) else { return Vec::new() };
    let side = |figure: &Option<Figure>| {
        figure.as_ref().map_or_else(|| g.none.to_owned(), |figure| written(figure, g))
    };
    vec![
        shorten(assertion.title(), title, g),
        assertion.verdict.name().to_owned(),
        side(&worst.left),
        side(&worst.right),
        shorten(&where_so(assertion, worst), place, g),
    ]
}

/// The check that decides; of several the first.
fn worst(assertion: &Assertion) -> Option<&Check> {
    assertion.checks.iter().find(|check| check.verdict == assertion.verdict)
}

/// Where it is as it is: `all 16 cells`, or `2 of 16 cells, first itr+sc`.
fn where_so(assertion: &Assertion, worst: &Check) -> String {
    let all = assertion.checks.len();
    let same = assertion.checks.iter().filter(|check| check.verdict == worst.verdict).count();
    let place = match &worst.cell {
        None => String::new(),
        Some(cell) if all == 1 => cell.clone(),
        Some(_) if same == all => format!("all {all} cells"),
        Some(cell) => format!("{same} of {all} cells, first {cell}"),
    };
    let reason = worst.reason.as_deref().unwrap_or_default();
    [place.as_str(), reason]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

/// `1.23Mpps 1.20Mpps–1.30Mpps`, or one number if there is no interval.
fn written(figure: &Figure, g: &Glyphs) -> String {
    let (scale, unit) = match figure.unit.as_str() {
        "s" => (1e6, "us"),
        "pps" => (1e-6, "Mpps"),
        "bit/s" => (1e-9, "Gbit/s"),
        other => (1.0, other),
    };
    let &Figure { median, low, high, .. } = figure;
    let space = if unit.is_empty() { "" } else { " " };
    let median_text = match unit.is_empty() && median.fract() == 0.0 {
        true if median.abs() < 10_000.0 => median.to_string(),
        true => metric(median),
        false => significant(median * scale),
    };
    match low == high {
        true => format!("{median_text}{space}{unit}"),
        false => format!("{median_text} ({}){space}{unit}", interval(low * scale, high * scale, g)),
    }
}

/// GitHub's annotations of the assertions that do not hold (errors) or may not (warnings; with
/// `strict` errors, too).
pub fn annotations(results: &Results, strict: bool) -> String {
    let g = &Glyphs::UNICODE;
    let mut text = String::new();
    for assertion in &results.assertions {
        let level = match assertion.verdict {
            Verdict::Pass => continue,
            Verdict::Inconclusive if !strict => "warning",
            Verdict::Inconclusive | Verdict::Fail => "error",
        };
        let Some(worst) = worst(assertion) else { continue };
        let [left, right] =
            [&worst.left, &worst.right].map(|side| side.as_ref().map(|figure| written(figure, g)));
        let figures = left.zip(right).map(|(left, right)| format!("{left} against {right}"));
        let details = [figures.unwrap_or_default(), where_so(assertion, worst)];
        let details: Vec<_> = details.into_iter().filter(|part| !part.is_empty()).collect();
        let (title, verdict) = (assertion.title(), assertion.verdict.name());
        let message = format!("{title}: {verdict}: {}", details.join(", "));
        text += &annotation(level, &results.lab.file, assertion.position, &message);
    }
    text
}
