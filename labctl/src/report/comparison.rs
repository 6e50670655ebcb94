//! A comparison of two runs, for terminals and as Markdown.

use super::glyphs::Glyphs;
use super::listing::{Field, Listing, figures as figures_column, words as words_column};
use super::number::{percent, significant};
use super::table::{Table, figures, ratio, ratio_interval, toggle_columns, toggles, words};
use super::{markdown, terminal};
use crate::bench::compare::{CellChange, Change, Comparison, Verdict};
use crate::results::{CellId, Estimate};

/// The comparison on a terminal.
pub fn comparison_terminal(comparison: &Comparison, g: &Glyphs) -> String {
    let mut text = terminal::draw(&table(comparison, g), g);
    for line in remarks(comparison) {
        text += &format!("{line}\n");
    }
    text
}

/// The comparison as Markdown.
pub fn comparison_markdown(comparison: &Comparison) -> String {
    let table = markdown::draw(&table(comparison, &Glyphs::UNICODE));
    let mut text = format!("### labctl compare: {}\n\n{table}", comparison.verdict.name());
    for line in remarks(comparison) {
        text += &format!("\n{}\n", markdown::escape(&line));
    }
    text
}

/// The comparison in long form: one line per cell and figure.
pub fn comparison_csv(comparison: &Comparison) -> String {
    let columns = [
        words_column("cell"),
        words_column("figure"),
        figures_column("old"),
        figures_column("new"),
        figures_column("ratio"),
        figures_column("low"),
        figures_column("high"),
        words_column("verdict"),
    ];
    let row = |cell: &CellChange, figure: &str, change: &Change| {
        let Change { old, new, ratio, verdict } = change;
        let median = |estimate: &Option<Estimate>| Field::word(estimate.map(|e| e.median));
        [
            (&cell.id).into(),
            figure.into(),
            median(old),
            median(new),
            Field::word(ratio.map(|r| r.ratio)),
            Field::word(ratio.map(|r| r.low)),
            Field::word(ratio.map(|r| r.high)),
            verdict.name().into(),
        ]
    };
    let rows = comparison.cells.iter().flat_map(|cell| {
        let figures = [("throughput_mpps", &cell.throughput), ("rr_us", &cell.rr)];
        let known = figures.into_iter().filter_map(|(name, change)| Some((name, change.as_ref()?)));
        known.map(|(name, change)| row(cell, name, change)).collect::<Vec<_>>()
    });
    Listing { columns, rows: rows.collect() }.csv()
}

fn table(comparison: &Comparison, g: &Glyphs) -> Table {
    let of_their_own = |cell: &CellChange| own_words(&cell.id);
    let with_parameters = comparison.cells.iter().any(|cell| !of_their_own(cell).is_empty());
    let titles =
        ["old Mpps", "new", "change", "interval", "old rr us", "new", "change", "interval"];
    let columns = toggle_columns()
        .chain(with_parameters.then(|| words("with")))
        .chain(titles.map(figures))
        .chain([words("verdict")])
        .collect();
    let row = |cell: &CellChange| {
        toggles(cell.id.optimizations, g)
            .chain(with_parameters.then(|| of_their_own(cell)))
            .chain(change(&cell.throughput, g))
            .chain(change(&cell.rr, g))
            .chain([verdict(cell)])
            .collect()
    };
    Table { columns, rows: comparison.cells.iter().map(row).collect() }
}

/// A cell's name, or else its parameters.
fn own_words(id: &CellId) -> String {
    let parameters = id.parameters.iter().map(|(key, value)| format!("{key} {value}"));
    id.name.clone().unwrap_or_else(|| parameters.collect::<Vec<_>>().join(", "))
}

fn change(change: &Option<Change>, g: &Glyphs) -> [String; 4] {
    let Some(Change { old, new, ratio: change, .. }) = change else {
        return [(); 4].map(|()| g.none.to_owned());
    };
    let median = |estimate: &Option<Estimate>| {
        estimate.map_or_else(|| g.none.to_owned(), |e| significant(e.median))
    };
    [median(old), median(new), ratio(*change, g), ratio_interval(*change, g)]
}

/// The cell's verdict, and which figures failed.
fn verdict(cell: &CellChange) -> String {
    let name = cell.verdict.name();
    let figures = [("throughput", &cell.throughput), ("rr", &cell.rr)];
    let failed: Vec<_> = figures
        .into_iter()
        .filter(|(_, change)| change.as_ref().is_some_and(|c| c.verdict == Verdict::Fail))
        .map(|(figure, _)| figure)
        .collect();
    if failed.is_empty() { name.to_owned() } else { format!("{name}: {}", failed.join(", ")) }
}

/// How the verdict comes about, and what stands against it.
fn remarks(comparison: &Comparison) -> Vec<String> {
    let count = |verdict| comparison.cells.iter().filter(|c| c.verdict == verdict).count();
    let mut remarks = vec![format!(
        "{}: {} passed, {} failed, {} inconclusive. A figure fails if its whole interval is worse \
         by more than {}.",
        comparison.verdict.name(),
        count(Verdict::Pass),
        count(Verdict::Fail),
        count(Verdict::Inconclusive),
        percent(comparison.threshold),
    )];
    for (which, names) in [("old", &comparison.only_in_old), ("new", &comparison.only_in_new)] {
        if !names.is_empty() {
            remarks.push(format!("only in the {which} document: {}", names.join("; ")));
        }
    }
    remarks.extend(comparison.warnings.iter().map(|warning| format!("warning: {warning}")));
    remarks
}
