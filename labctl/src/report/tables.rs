//! The tables of a report, and what is to be said below them.

use std::collections::BTreeSet;

use super::glyphs::Glyphs;
use super::number::{metric, percent, significant};
use super::side_by_side;
use super::table::{
    Table, figures, interval, ratio, ratio_interval, shorten, toggle_columns, toggles, words,
};
use crate::results::{
    Cell, Effect, Estimate, Parameters, Protocol, Ratio, Results, Rung, Setting, TrialSettings,
};

/// Room for the cause of drops or voidness: the table, with one more axis, fits 120 columns.
const CAUSE_WIDTH: usize = 26;

/// One row per cell of the matrix, in table order. Axes other than the optimizations get a column
/// each. `None` if all cells have names.
pub fn cells(results: &Results, g: &Glyphs) -> Option<Table> {
    let cells: Vec<_> = results.cells.iter().filter(|cell| cell.is_factorial()).collect();
    if cells.is_empty() {
        return None;
    }
    let axes: BTreeSet<&str> =
        cells.iter().flat_map(|cell| cell.id.parameters.keys()).map(String::as_str).collect();
    let sockets = cells.iter().any(|cell| cell.metrics.goodput_gbps.is_some());
    let goodput = sockets.then(|| figures("Gbit/s"));
    let titles = ["rr us", "p99 us", "exits/pkt", "intr/s", "batch"];
    let axis_titles = axes.iter().map(|axis| short(axis, &axes));
    let columns = toggle_columns()
        .chain(axis_titles.map(figures))
        .chain(["Mpps", "interval"].map(figures))
        .chain(goodput)
        .chain(titles.map(figures))
        .chain([words("drops")])
        .collect();
    let rows = cells.into_iter().map(|cell| cell_row(cell, &axes, sockets, g)).collect();
    Some(Table { columns, rows })
}

fn cell_row(cell: &Cell, axes: &BTreeSet<&str>, sockets: bool, g: &Glyphs) -> Vec<String> {
    let m = &cell.metrics;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| g.none.to_owned());
    let parameter = |axis: &&str| or_none(cell.id.parameters.get(*axis).map(Setting::to_string));
    let throughput = [
        or_none(m.throughput_mpps.map(|e| significant(e.median))),
        or_none(m.throughput_mpps.map(|e| interval(e.low, e.high, g))),
    ];
    let goodput = sockets.then(|| or_none(m.goodput_gbps.map(|e| significant(e.median))));
    let figures = [
        or_none(m.rr_us.map(|rr| significant(rr.median))),
        or_none(m.rr_us.map(|rr| significant(rr.p99))),
        or_none(m.exits_per_packet.map(significant)),
        or_none(m.interrupts_per_s.map(metric)),
        or_none(m.mean_batch.map(significant)),
        shorten(&drops(cell), CAUSE_WIDTH, g),
    ];
    toggles(cell.id.optimizations, g)
        .chain(axes.iter().map(parameter))
        .chain(throughput)
        .chain(goodput)
        .chain(figures)
        .collect()
}

/// As much of the end of a key as tells it from the others: `throughput.frame` is a long title for a
/// column of small numbers.
fn short<'a>(key: &'a str, keys: &BTreeSet<&str>) -> &'a str {
    let ends = key.rmatch_indices('.').map(|(dot, _)| &key[dot + 1..]);
    let is_clear = |end: &&str| {
        let has_it = |other: &&&str| {
            other.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        keys.iter().filter(has_it).count() == 1
    };
    ends.chain([key]).find(is_clear).unwrap_or(key)
}

/// What was lost and where, or why there is nothing to tell.
fn drops(cell: &Cell) -> String {
    if let Some(reason) = cell.void_reason() {
        return format!("VOID: {reason}");
    }
    match (cell.metrics.drop_ratio, cell.metrics.drops_by_cause.first()) {
        (Some(ratio), Some(main)) => {
            format!("{} {} {}", percent(ratio), main.place, main.cause)
        }
        _ => "0".to_owned(),
    }
}

/// The main effects, then the interactions worth mentioning, for one setting of the other axes.
fn effects(effects: &[Effect], g: &Glyphs) -> Table {
    let titles = ["throughput", "interval", "alone", "last", "rr time", "interval"];
    let columns = [words("effect of")].into_iter().chain(titles.map(figures)).collect();
    let rows = effects
        .iter()
        .filter(|effect| effect.of.len() == 1 || is_notable(effect))
        .map(|effect| {
            let names: Vec<_> = effect.of.iter().map(|o| o.name()).collect();
            vec![
                names.join(&format!(" {} ", g.times)),
                ratio(effect.throughput, g),
                ratio_interval(effect.throughput, g),
                ratio(effect.alone, g),
                ratio(effect.last, g),
                ratio(effect.rr, g),
                ratio_interval(effect.rr, g),
            ]
        })
        .collect();
    Table { columns, rows }
}

/// Interactions below this change nobody's mind, however certain they are.
const NOTABLE: f64 = 1.1;

fn is_notable(effect: &Effect) -> bool {
    let matters = |r: Ratio| r.is_significant() && !(1.0 / NOTABLE..=NOTABLE).contains(&r.ratio);
    effect.throughput.is_some_and(matters) || effect.rr.is_some_and(matters)
}

/// One ladder with its bars.
fn ladder(rungs: &[Rung], g: &Glyphs) -> Table {
    let medians = || rungs.iter().filter_map(|rung| rung.throughput_mpps.map(|e| e.median));
    let (lowest, best) = (medians().fold(f64::MAX, f64::min), medians().fold(0.0, f64::max));
    // The axis begins at the power of ten below the lowest rung, so that no bar is empty.
    let origin = 10f64.powi((lowest * 0.999).log10().floor() as i32);
    let bar = |e: Estimate| {
        let share = (e.median / origin).ln() / (best / origin).ln();
        g.bar.repeat((share * BAR_WIDTH as f64).round() as usize)
    };
    let titles = ["Mpps", "interval", "step", "interval", "total", "rr us"];
    let bars = words(&format!("log scale from {origin}"));
    let columns = [words("ladder")].into_iter().chain(titles.map(figures)).chain([bars]).collect();
    let none = || g.none.to_owned();
    let rows = rungs
        .iter()
        .map(|rung| {
            vec![
                rung.step.clone(),
                rung.throughput_mpps.map_or_else(none, |e| significant(e.median)),
                rung.throughput_mpps.map_or_else(none, |e| interval(e.low, e.high, g)),
                ratio(rung.to_previous, g),
                ratio_interval(rung.to_previous, g),
                ratio(rung.to_first, g),
                rung.rr_us.map_or_else(none, |rr| significant(rr.median)),
                rung.throughput_mpps.map(bar).unwrap_or_default(),
            ]
        })
        .collect();
    Table { columns, rows }
}

/// Steps of the longest bar.
const BAR_WIDTH: usize = 28;

/// The tables of a report with what is to be said above each.
pub fn sections(results: &Results, g: &Glyphs) -> Vec<(String, Table)> {
    let mut sections = vec![];
    for effects in results.effects.chunk_by(|a, b| a.parameters == b.parameters) {
        let title = format!(
            "Effects{}: geometric mean over all settings of the others; alone: all others off; \
             last: all others on",
            setting(effects.first().map(|effect| &effect.parameters))
        );
        sections.push((title, self::effects(effects, g)));
    }
    let same =
        |a: &Rung, b: &Rung| a.parameters == b.parameters && a.cell.is_some() == b.cell.is_some();
    for rungs in results.ladder.chunk_by(same) {
        // A document may come from a labctl that kept rungs which nobody had measured.
        if rungs.iter().filter(|rung| rung.throughput_mpps.is_some()).count() > 1 {
            let setting = setting(rungs.first().map(|rung| &rung.parameters));
            let title = match rungs.first().is_some_and(|rung| rung.cell.is_some()) {
                true => "The ladder: every step keeps what those before it changed".to_owned(),
                false => format!("The paper's ladder{setting}: one more optimization per rung"),
            };
            sections.push((title, ladder(rungs, g)));
        }
    }
    sections
}

/// ` with ring 256`, or nothing.
fn setting(parameters: Option<&Parameters>) -> String {
    let pairs: Vec<_> =
        parameters.into_iter().flatten().map(|(key, value)| format!("{key} {value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(" with {}", pairs.join(", ")) }
}

/// A kind of trial in a few words.
pub fn describe(trial: &TrialSettings) -> String {
    let TrialSettings { from, to, pairs, protocol, frame, burst, rate, duration_ms } = trial;
    let mut text = format!("{from} to {to}");
    if *pairs > 1 {
        text += &format!(" and others, up to {pairs} pairs at once");
    }
    text += &format!(", {frame} B frames, {duration_ms} ms a trial");
    match protocol {
        Protocol::Raw => {}
        Protocol::Udp => text += ", UDP sockets",
        Protocol::Tcp => text += ", TCP sockets",
    }
    if *burst > 1 {
        text += &format!(", bursts of {burst}");
    }
    if *rate > 0 {
        text += &format!(", {} packets/s offered", metric(*rate as f64));
    }
    text
}

/// What the reader of the tables must know: how sure the intervals are, and what went wrong.
pub fn notes(results: &Results) -> Vec<String> {
    let metrics = results.cells.iter().map(|cell| &cell.metrics);
    let estimates = metrics.flat_map(|m| [m.throughput_mpps, m.rr_us.map(|rr| rr.estimate())]);
    let mut notes = vec![coverage_note(estimates.flatten())];
    for cell in &results.cells {
        let void = cell.samples.iter().filter(|s| !s.is_valid()).count();
        let reason = cell.samples.iter().find_map(|s| s.void_reason.as_deref());
        if let Some(reason) = reason {
            let (all, name) = (cell.samples.len(), &cell.id);
            notes.push(format!("{name}: {void} of {all} trials void: {reason}"));
        }
    }
    notes.extend(side_by_side::notes(results));
    if !results.complete {
        notes.push("The run was interrupted: fewer rounds than planned.".to_owned());
    }
    notes
}

fn coverage_note(estimates: impl Iterator<Item = Estimate>) -> String {
    let weakest = estimates.min_by(|a, b| a.coverage.total_cmp(&b.coverage));
    let Some(Estimate { samples, coverage, .. }) = weakest else {
        return "No cell has a valid trial.".to_owned();
    };
    format!(
        "Medians of {samples} or more trials; intervals contain the true median with a \
         probability of at least {:.0} %.",
        (coverage * 100.0).floor()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Optimization;

    #[test]
    fn a_title_is_as_short_as_it_is_clear() {
        let keys =
            BTreeSet::from(["guests.left.ring", "guests.right.ring", "throughput.frame", "ring"]);
        let titles: Vec<_> = keys.iter().map(|key| short(key, &keys)).collect();
        assert_eq!(titles, ["left.ring", "right.ring", "ring", "frame"]);
    }

    #[test]
    fn an_interaction_is_mentioned_if_it_is_certain_and_large() {
        let effect = |ratio, low, high| Effect {
            of: vec![Optimization::Sc, Optimization::Csb],
            parameters: Default::default(),
            throughput: Some(Ratio { ratio, low, high, coverage: 0.95 }),
            rr: None,
            alone: None,
            last: None,
        };
        assert!(is_notable(&effect(0.5, 0.4, 0.6)));
        assert!(!is_notable(&effect(0.5, 0.2, 1.2)), "uncertain");
        assert!(!is_notable(&effect(1.02, 1.01, 1.03)), "small");
    }
}
