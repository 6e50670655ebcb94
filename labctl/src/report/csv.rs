//! The figures in long form: one line per cell and metric, for R, pandas or a spreadsheet.

use std::collections::BTreeSet;

use crate::results::{Cell, Metrics, Optimization, Results};

/// All figures at full precision; those that a cell lacks are left out.
pub fn csv(results: &Results) -> String {
    let axes: BTreeSet<&str> =
        results.cells.iter().flat_map(|c| c.id.parameters.keys()).map(String::as_str).collect();
    let named = results.cells.iter().any(|cell| !cell.is_factorial());
    let mut columns = if named { vec!["cell", "vmm", "nic", "link"] } else { vec![] };
    columns.extend(["itr", "sc", "csb", "vale"]);
    let quoted_axes: Vec<_> = axes.iter().map(|axis| quoted(axis)).collect();
    columns.extend(quoted_axes.iter().map(String::as_str));
    columns.extend(["metric", "value", "low", "high", "trials"]);
    let header = columns.join(",") + "\n";
    results.cells.iter().fold(header, |text, cell| text + &lines(cell, named, &axes))
}

fn lines(cell: &Cell, named: bool, axes: &BTreeSet<&str>) -> String {
    let toggle = |which| if cell.id.optimizations.get(which) { "1" } else { "0" }.to_owned();
    let parameter = |axis: &&str| {
        cell.id.parameters.get(*axis).map_or_else(String::new, |value| quoted(&value.to_string()))
    };
    let mut coordinates = vec![];
    if named {
        let platform = cell.id.platform;
        coordinates.push(cell.id.name.clone().unwrap_or_default());
        let words = [platform.vmm.as_str(), platform.nic.as_str(), platform.link.as_str()];
        coordinates.extend(words.map(str::to_owned));
    }
    coordinates.extend(Optimization::ALL.map(toggle));
    coordinates.extend(axes.iter().map(parameter));
    let m = &cell.metrics;
    let to_reference = cell.to_reference;
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
    let ratios = to_reference.map(|to| [("throughput", to.throughput), ("rr", to.rr)]);
    for (metric, ratio) in ratios.into_iter().flatten() {
        if let Some(r) = ratio {
            let (value, low, high) = (r.ratio, r.low, r.high);
            text += &format!("{cell},{metric}_to_reference,{value},{low},{high},\n");
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

/// A field as RFC 4180 has it: keys and values of a lab file may hold anything.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// Metrics without an interval, named as in the document.
fn plain(m: &Metrics) -> [(&'static str, Option<f64>); 14] {
    [
        ("rr_p99_us", m.rr_us.map(|rr| rr.p99)),
        ("exits_per_packet", m.exits_per_packet),
        ("interrupts_per_s", m.interrupts_per_s),
        ("interrupts_per_packet", m.interrupts_per_packet),
        ("mean_batch", m.mean_batch),
        ("drops", Some(m.drops as f64)),
        ("drop_ratio", m.drop_ratio),
        ("lost_ratio", m.lost_ratio),
        ("tdt_writes_per_packet", m.tdt_writes_per_packet),
        ("kicks_per_packet", m.kicks_per_packet),
        ("tap_syscalls_per_packet", m.tap_syscalls_per_packet),
        ("cpu_us_per_packet", m.cpu_us_per_packet),
        ("rr_exits_per_transaction", m.rr_exits_per_transaction),
        ("rr_interrupts_per_transaction", m.rr_interrupts_per_transaction),
    ]
}
