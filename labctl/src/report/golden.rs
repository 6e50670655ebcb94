//! Every format against a file checked in beside the document it was rendered from. After an
//! intended change: `UPDATE_GOLDEN=1 cargo test -p labctl golden`, and read the difference.

use std::path::{Path, PathBuf};

use super::{
    Glyphs, annotations, comparison_csv, comparison_markdown, comparison_terminal, csv, markdown,
    terminal,
};
use crate::bench::compare::{Verdict, compare};
use crate::bench::{assertions, effects, side_by_side, summary};
use crate::results::{Cell, CellId, Link, NicModel, Platform, Results, Sample, Setting, Vmm};
use crate::topology::Lab;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report")
}

/// An invented run of the full matrix.
pub fn sample() -> Results {
    Results::read(&directory().join("results.json")).unwrap()
}

/// The sample with its unusual sides: a cell whose trials are all void, an interrupted run, and
/// a matrix with an axis of numbers.
fn troubled() -> Results {
    let mut results = sample();
    results.complete = false;
    results.cells.truncate(4);
    for cell in &mut results.cells {
        cell.id.parameters.insert("ring".into(), Setting::Number(80));
    }
    let mut larger = results.cells.clone();
    for cell in &mut larger {
        cell.id.parameters.insert("ring".into(), Setting::Number(4096));
    }
    for sample in &mut larger[1].samples {
        sample.conserved = false;
        sample.void_reason = Some("sent 1843 but received 1840: 3 packets unaccounted for".into());
    }
    results.cells.append(&mut larger);
    for cell in &mut results.cells {
        *cell = summary::cell(cell.id.clone(), std::mem::take(&mut cell.samples));
    }
    results.effects = effects::effects(&results.cells);
    results.ladder = effects::ladder(&results.cells);
    results
}

/// A run of cells with names: two of the sample's, and QEMU's, one of which loses packets, one fails
/// and one is skipped.
fn peers() -> Results {
    let mut results = sample();
    let (base, best) = (results.cells[0].clone(), results.cells[15].clone());
    let cell = |name: &str, platform: Platform, samples: &[Sample]| {
        let id = CellId { name: Some(name.into()), platform, ..base.id.clone() };
        summary::cell(id, samples.to_vec())
    };
    let qemu = |nic, link| Platform { vmm: Vmm::Qemu, nic, link };
    let mut fastest = cell("all-on", best.id.platform, &best.samples);
    fastest.id.optimizations = best.id.optimizations;
    let base = cell("all-off", base.id.platform, &base.samples);
    let mut slow = base.samples.clone();
    for sample in &mut slow {
        sample.elapsed_ns = sample.elapsed_ns * 3 / 2;
        sample.lost = sample.received / 20;
        sample.received -= sample.lost;
        sample.conserved = false;
        sample.counters.exits.clear();
    }
    let slow = cell("qemu-e1000-tap", qemu(NicModel::E1000, Link::Tap), &slow);
    let mut failing = base.samples.clone();
    for sample in &mut failing {
        sample.void_reason = Some("guest `left` failed: QEMU ended with exit status: 1".into());
    }
    let failing = cell("qemu-e1000-socket", qemu(NicModel::E1000, Link::Socket), &failing);
    let virtio = cell("qemu-virtio-tap", qemu(NicModel::VirtioNet, Link::Tap), &[]);
    let virtio = summary::skipped(virtio.id, "QEMU 4.2 is too old".into());
    results.cells = vec![fastest, base, slow, failing, virtio];
    side_by_side::compare(&mut results.cells, "qemu-e1000-tap", &results.settings);
    results.effects = effects::effects(&results.cells);
    results.ladder = effects::ladder(&results.cells);
    results.reference = Some("qemu-e1000-tap".into());
    results.host.qemu = Some("7.2.22".into());
    results
}

/// Compares with a golden file.
pub fn check(name: &str, actual: &str) {
    let path = directory().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == expected, "{} differs; it is now:\n{actual}", path.display());
}

/// A run with a ladder of the lab file's and with assertions, of which some do not hold.
fn asserted() -> Results {
    let text = "\
name: example-pair
switches: { sw0: }
defaults: { nics: [{ switch: sw0 }] }
guests: { left: , right: }
bench:
  throughput: { from: left, to: right }
  rr: { from: left, to: right }
  cells: { all-off: {}, all-on: {}, theirs: { vmm: qemu } }
  assert:
    - { name: lossless, that: loss = 0 }
    - all-on.throughput >= 10 * all-off.throughput
    - all-on.rr.p99 <= 165us
    - all-on.throughput - all-off.throughput > 1Gpps / 1000 + 14Mpps
    - theirs.exits_per_packet < 2
";
    let text = text.replace("1Gpps / 1000", "1Mpps");
    let lab = Lab::parse(Path::new("example-pair.lab.yaml"), &text)
        .unwrap_or_else(|error| panic!("{}", error.render(false, None)));
    let mut results = sample();
    let cell = |name: &str, of: &Cell| Cell {
        id: CellId { name: Some(name.into()), ..of.id.clone() },
        ..of.clone()
    };
    let platform = Platform { vmm: Vmm::Qemu, nic: NicModel::E1000, link: Link::Tap };
    let theirs = CellId { name: Some("theirs".into()), platform, ..CellId::default() };
    results.cells = vec![
        cell("all-off", &results.cells[0]),
        cell("all-on", &results.cells[15]),
        summary::skipped(theirs, "no qemu-system-x86_64 in $PATH".into()),
    ];
    results.effects = Vec::new();
    let steps = [("as in the file".to_owned(), 0), ("everything".to_owned(), 1)];
    results.ladder = effects::steps(&results.cells, &steps);
    results.assertions = assertions::judge(&lab.bench.unwrap().assertions, &results.cells);
    results
}

#[test]
fn assertions_are_shown_with_their_figures() {
    let results = asserted();
    check("terminal-asserted.txt", &terminal(&results, &Glyphs::UNICODE));
    check("report-asserted.md", &markdown(&results));
    check("annotations.txt", &annotations(&results, false));
    let strict = annotations(&results, true);
    assert!(!strict.contains("::warning"), "{strict}");
    let again: Results = serde_json::from_str(&results.to_json()).unwrap();
    let title = |results: &Results| {
        results.assertions.iter().map(|a| a.title().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(title(&again), title(&results));
    assert_eq!(again.assertions[1].verdict, Verdict::Pass);
}

#[test]
fn terminal_tables() {
    check("terminal.txt", &terminal(&sample(), &Glyphs::UNICODE));
    check("terminal-ascii.txt", &terminal(&sample(), &Glyphs::ASCII));
    check("terminal-troubled.txt", &terminal(&troubled(), &Glyphs::UNICODE));
    check("terminal-peers.txt", &terminal(&peers(), &Glyphs::UNICODE));
}

#[test]
fn markdown_page() {
    check("report.md", &markdown(&sample()));
    check("report-troubled.md", &markdown(&troubled()));
    check("report-peers.md", &markdown(&peers()));
}

#[test]
fn csv_lines() {
    check("results.csv", &csv(&sample()));
    check("results-troubled.csv", &csv(&troubled()));
    check("results-peers.csv", &csv(&peers()));
}

#[test]
fn json_is_laid_out_as_in_the_file() {
    let text = std::fs::read_to_string(directory().join("results.json")).unwrap();
    assert!(sample().to_json() == text);
}

#[test]
fn the_sample_follows_from_its_trials() {
    let mut results = sample();
    for cell in &mut results.cells {
        *cell = summary::cell(cell.id.clone(), cell.samples.clone());
    }
    results.effects = effects::effects(&results.cells);
    results.ladder = effects::ladder(&results.cells);
    assert!(results.to_json() == sample().to_json());
}

#[test]
fn tables_fit_120_columns_and_ascii_is_ascii() {
    let mut results = troubled();
    for cell in &mut results.cells {
        for drop in &mut cell.metrics.drops_by_cause {
            drop.place = "a-switch-with-a-name-of-32-letter:12".into();
        }
    }
    let comparison = compare(&sample(), &worse(), 0.05);
    for text in [
        terminal(&results, &Glyphs::ASCII),
        terminal(&sample(), &Glyphs::ASCII),
        terminal(&peers(), &Glyphs::ASCII),
        terminal(&asserted(), &Glyphs::ASCII),
        comparison_terminal(&comparison, &Glyphs::ASCII),
    ] {
        assert!(text.is_ascii());
        for line in text.lines().filter(|line| line.starts_with(['|', '+'])) {
            assert!(line.len() <= 120, "{} columns: {line}", line.len());
        }
    }
}

#[test]
fn a_markdown_row_has_a_field_for_every_title() {
    let page = markdown(&troubled());
    let fields = |line: &str| line.replace("\\|", "").matches('|').count();
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
    for pair in rows.windows(2).filter(|pair| pair[1].starts_with("| :")) {
        assert_eq!(fields(pair[0]), fields(pair[1]));
    }
    assert_eq!(fields(rows[0]), 1 + 4 + 1 + 8, "toggles, ring, figures");
}

/// The sample, halved in one cell, without figures in another, without a third, on another host.
fn worse() -> Results {
    let mut results = sample();
    results.host.cpu = "Example CPU 9001".into();
    let scale = |cell: &mut Cell, factor: f64| {
        for sample in &mut cell.samples {
            sample.received = (sample.received as f64 * factor) as u64;
            sample.sent = sample.received + sample.dropped;
        }
    };
    scale(&mut results.cells[15], 0.5);
    scale(&mut results.cells[14], 1.3);
    for sample in &mut results.cells[1].samples {
        sample.void_reason = Some("guest left did not come up".into());
    }
    for cell in &mut results.cells {
        let samples = std::mem::take(&mut cell.samples);
        *cell = summary::cell(cell.id.clone(), samples);
    }
    results.cells.remove(3);
    results
}

#[test]
fn a_comparison_names_what_got_worse() {
    let found = compare(&sample(), &worse(), 0.05);
    let failed: Vec<_> = found
        .cells
        .iter()
        .filter(|c| c.verdict == Verdict::Fail)
        .map(|c| c.id.to_string())
        .collect();
    assert_eq!(failed, ["itr", "itr+sc+csb+vale"]);
    assert_eq!(found.verdict, Verdict::Fail);
    assert_eq!(
        (found.only_in_old.as_slice(), found.only_in_new.len()),
        (&["itr+sc".into()][..], 0)
    );
    assert_eq!(found.warnings, ["CPU differs: Example CPU 9000 then, Example CPU 9001 now"]);
    check("comparison.txt", &comparison_terminal(&found, &Glyphs::UNICODE));
    check("comparison.md", &comparison_markdown(&found));
    check("comparison.csv", &comparison_csv(&found));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["verdict"], "fail");
    assert_eq!(json["cells"][14]["optimizations"]["vale"], true);
    assert!(json["cells"][14]["throughput"]["ratio"]["high"].as_f64().unwrap() < 0.95);
}

#[test]
fn a_document_of_peers_survives_a_round_trip_and_compares_by_name() {
    let json = peers().to_json();
    let again: Results = serde_json::from_str(&json).unwrap();
    assert_eq!(again.cells.len(), 5);
    assert!(again.to_json() == json);
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    let cell = &document["cells"][4];
    let words = ["name", "vmm", "nic", "link", "skipped"].map(|key| cell[key].as_str().unwrap());
    assert_eq!(words, ["qemu-virtio-tap", "qemu", "virtio-net", "tap", "QEMU 4.2 is too old"]);
    assert!(document["cells"][2].get("to_reference").is_none(), "the reference itself");
    let found = compare(&peers(), &peers(), 0.05);
    let names: Vec<_> = found.cells.iter().map(|cell| cell.id.to_string()).collect();
    assert_eq!(names, ["all-on", "all-off", "qemu-e1000-tap", "qemu-e1000-socket"]);
    assert_eq!(compare(&sample(), &peers(), 0.05).cells, [], "none of the matrix is there");
}

#[test]
fn a_run_compared_with_itself_does_not_fail() {
    let found = compare(&sample(), &sample(), 0.05);
    assert!(found.cells.iter().all(|cell| cell.verdict != Verdict::Fail));
    assert_eq!(found.cells.len(), 16);
    assert_eq!(found.warnings, [""; 0]);
    let mut other = sample();
    other.lab.name = "another".into();
    let found = compare(&sample(), &other, 0.05);
    assert_eq!(found.warnings, ["lab differs: example-pair then, another now"]);
}
