//! The figures in long form: one line per cell and metric, for R, pandas or a spreadsheet.

use std::collections::BTreeSet;

use crate::results::{Cell, Metrics, Optimization, Results};

/// All figures at full precision; those that a cell lacks are left out. Nothing needs quoting:
/// axes and metrics are names of ours, and the rest are numbers.
pub fn csv(results: &Results) -> String {
    let axes: BTreeSet<&str> =
        results.cells.iter().flat_map(|c| c.parameters.keys()).map(String::as_str).collect();
    let mut columns = vec!["itr", "sc", "csb", "vale"];
    columns.extend(&axes);
    columns.extend(["metric", "value", "low", "high", "trials"]);
    let header = columns.join(",") + "\n";
    results.cells.iter().fold(header, |text, cell| text + &lines(cell, &axes))
}

fn lines(cell: &Cell, axes: &BTreeSet<&str>) -> String {
    let toggle = |which| if cell.optimizations.get(which) { "1" } else { "0" }.to_owned();
    let parameter =
        |axis: &&str| cell.parameters.get(*axis).map_or_else(String::new, u64::to_string);
    let coordinates: Vec<_> =
        Optimization::ALL.map(toggle).into_iter().chain(axes.iter().map(parameter)).collect();
    let m = &cell.metrics;
    let cell = coordinates.join(",");
    let estimates =
        [("throughput_mpps", m.throughput_mpps), ("rr_us", m.rr_us.map(|rr| rr.estimate()))];
    let mut text = String::new();
    for (metric, estimate) in estimates {
        if let Some(e) = estimate {
            let (value, low, high, trials) = (e.median, e.low, e.high, e.samples);
            text += &format!("{cell},{metric},{value},{low},{high},{trials}\n");
        }
    }
    for (metric, value) in plain(m) {
        if let Some(value) = value {
            text += &format!("{cell},{metric},{value},,,\n");
        }
    }
    for (kind, value) in &m.exits_per_packet_by_kind {
        text += &format!("{cell},exits_per_packet.{kind},{value},,,\n");
    }
    text
}

/// Metrics without an interval, named as in the document.
fn plain(m: &Metrics) -> [(&'static str, Option<f64>); 13] {
    [
        ("rr_p99_us", m.rr_us.map(|rr| rr.p99)),
        ("exits_per_packet", m.exits_per_packet),
        ("interrupts_per_s", m.interrupts_per_s),
        ("interrupts_per_packet", m.interrupts_per_packet),
        ("mean_batch", m.mean_batch),
        ("drops", Some(m.drops as f64)),
        ("drop_ratio", m.drop_ratio),
        ("tdt_writes_per_packet", m.tdt_writes_per_packet),
        ("kicks_per_packet", m.kicks_per_packet),
        ("tap_syscalls_per_packet", m.tap_syscalls_per_packet),
        ("cpu_us_per_packet", m.cpu_us_per_packet),
        ("rr_exits_per_transaction", m.rr_exits_per_transaction),
        ("rr_interrupts_per_transaction", m.rr_interrupts_per_transaction),
    ]
}
