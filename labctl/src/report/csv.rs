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
    columns.extend(["metric", "unit", "value", "low", "high", "trials"]);
    let header = columns.join(",") + "\n";
    results.cells.iter().fold(header, |text, cell| text + &lines(cell, &axes))
}

fn lines(cell: &Cell, axes: &BTreeSet<&str>) -> String {
    let toggle = |which| if cell.optimizations.get(which) { "1" } else { "0" }.to_owned();
    let parameter = |axis: &&str| cell.parameters.get(*axis).map_or_else(String::new, u64::to_string);
    let coordinates: Vec<_> =
        Optimization::ALL.map(toggle).into_iter().chain(axes.iter().map(parameter)).collect();
    let m = &cell.metrics;
    let cell = coordinates.join(",");
    let estimates = [
        ("throughput", "Mpps", m.throughput_mpps),
        ("rr_median", "us", m.rr_us.map(|rr| rr.estimate())),
    ];
    let mut text = String::new();
    for (metric, unit, estimate) in estimates {
        if let Some(e) = estimate {
            text += &format!(
                "{cell},{metric},{unit},{},{},{},{}\n",
                e.median, e.low, e.high, e.samples
            );
        }
    }
    for (metric, unit, value) in plain(m) {
        if let Some(value) = value {
            text += &format!("{cell},{metric},{unit},{value},,,\n");
        }
    }
    text
}

/// Metrics without an interval.
fn plain(m: &Metrics) -> [(&'static str, &'static str, Option<f64>); 13] {
    [
        ("rr_p99", "us", m.rr_us.map(|rr| rr.p99)),
        ("exits", "1/packet", m.exits_per_packet),
        ("interrupts", "1/s", m.interrupts_per_s),
        ("interrupts", "1/packet", m.interrupts_per_packet),
        ("mean_batch", "packets", m.mean_batch),
        ("drops", "packets", Some(m.drops as f64)),
        ("drop_ratio", "1", m.drop_ratio),
        ("tdt_writes", "1/packet", m.tdt_writes_per_packet),
        ("kicks", "1/packet", m.kicks_per_packet),
        ("tap_syscalls", "1/packet", m.tap_syscalls_per_packet),
        ("cpu", "us/packet", m.cpu_us_per_packet),
        ("rr_exits", "1/transaction", m.rr_exits_per_transaction),
        ("rr_interrupts", "1/transaction", m.rr_interrupts_per_transaction),
    ]
}
