//! The table of cells with names: ours and those of peers, against the reference.

use super::glyphs::Glyphs;
use super::number::{percent, significant};
use super::table::{Table, figures, interval, ratio, ratio_interval, shorten, words};
use crate::results::{Cell, Results, TrialKind, Vmm};

/// Room for a cell's name: the table fits 120 columns.
const NAME_WIDTH: usize = 24;

/// What is to be said above the table, and the table; `None` if no cell has a name.
pub fn side_by_side(results: &Results, g: &Glyphs) -> Option<(String, Table)> {
    let named = || results.cells.iter().filter(|cell| !cell.is_factorial());
    named().next()?;
    let mut columns = vec![words("cell")];
    columns.extend(["Mpps", "interval", "Gbit/s"].map(figures));
    let pairs = named().any(|cell| cell.metrics.jain.is_some());
    columns.extend(pairs.then(|| figures("Jain")));
    columns.extend([g.times, "interval", "lost", "rr us", "p99 us", g.times].map(figures));
    let rows = named().map(|cell| row(results, cell, pairs, g)).collect();
    let mut title = "Side by side".to_owned();
    if let Some(reference) = &results.reference {
        let times = g.times;
        title += &format!("; {times}: over {reference}, median of the rounds' ratios");
    }
    Some((title, Table { columns, rows }))
}

fn row(results: &Results, cell: &Cell, pairs: bool, g: &Glyphs) -> Vec<String> {
    let m = &cell.metrics;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| g.none.to_owned());
    let frame = results.settings.frame(TrialKind::Throughput, &cell.id);
    let gbit = |mpps: f64| frame.map(|frame| significant(mpps * frame as f64 * 8.0 / 1e3));
    let throughput = cell.to_reference.and_then(|to| to.throughput);
    let jain = pairs.then(|| or_none(m.jain.map(|index| format!("{index:.3}"))));
    let figures = [
        shorten(&cell.id.to_string(), NAME_WIDTH, g),
        or_none(m.throughput_mpps.map(|e| significant(e.median))),
        or_none(m.throughput_mpps.map(|e| interval(e.low, e.high, g))),
        or_none(m.throughput_mpps.and_then(|e| gbit(e.median))),
    ];
    let others = [
        ratio(throughput, g),
        ratio_interval(throughput, g),
        lost(cell, g),
        or_none(m.rr_us.map(|rr| significant(rr.median))),
        or_none(m.rr_us.map(|rr| significant(rr.p99))),
        ratio(cell.to_reference.and_then(|to| to.rr), g),
    ];
    figures.into_iter().chain(jain).chain(others).collect()
}

/// The share of packets that did not arrive, counted or not, or why nothing was measured.
fn lost(cell: &Cell, g: &Glyphs) -> String {
    let m = &cell.metrics;
    if cell.skipped.is_some() {
        "skipped".to_owned()
    } else if cell.void_reason().is_some() {
        "VOID".to_owned()
    } else {
        let share = m.drop_ratio.map(|dropped| dropped + m.lost_ratio.unwrap_or_default());
        share.map_or_else(|| g.none.to_owned(), percent)
    }
}

/// What the reader of the table must know.
pub fn notes(results: &Results) -> Vec<String> {
    let mut notes = vec![];
    let qemu = |cell: &&Cell| cell.id.platform.vmm == Vmm::Qemu;
    let measured = |cell: &&Cell| cell.skipped.is_none();
    if results.cells.iter().filter(qemu).any(|cell| measured(&cell)) {
        let version = results.host.qemu.as_deref().unwrap_or("of unknown version");
        notes.push(format!(
            "QEMU {version} shows neither exits nor drops: what its guests miss in the sequence is \
             lost, and only what TAPs drop is known by its place."
        ));
    }
    for cell in &results.cells {
        if let Some(reason) = &cell.skipped {
            notes.push(format!("{}: skipped: {reason}", cell.id));
        }
    }
    notes
}
