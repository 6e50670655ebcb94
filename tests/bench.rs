//! The main job: one file goes in, a table of 16 cells comes out, and two tables are compared.

mod common;

use std::process::Output;

use common::{Scratch, kvm, labctl, may_use_tap, say};
use serde_json::{Value, json};

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/paper-pair.lab.yaml");

fn object_keys_are(value: &Value, pointer: &str, kind: fn(&Value) -> bool) {
    let found = value.pointer(pointer);
    assert!(found.is_some_and(kind), "{pointer}: {found:?} in {value:#}");
}

/// Checks a result document against the shape that other programs rely on.
fn check_shape(document: &Value) {
    object_keys_are(document, "/complete", Value::is_boolean);
    object_keys_are(document, "/host/kernel", Value::is_string);
    let cells = document["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 16);
    for cell in cells {
        for key in ["itr", "sc", "csb", "vale"] {
            object_keys_are(cell, &format!("/optimizations/{key}"), Value::is_boolean);
        }
        let figures = ["median", "low", "high"].map(|key| format!("throughput_mpps/{key}"));
        let times = ["median", "p99"].map(|key| format!("rr_us/{key}"));
        let others = ["exits_per_packet", "interrupts_per_s", "mean_batch", "drops"];
        for key in figures.iter().chain(&times).map(String::as_str).chain(others) {
            object_keys_are(cell, &format!("/metrics/{key}"), Value::is_number);
        }
        assert_eq!(cell["conserved"], true, "{cell:#}");
        check_samples(cell["samples"].as_array().expect("samples"));
    }
}

/// Every trial accounts for every packet, and says where those that did not arrive were dropped.
fn check_samples(samples: &[Value]) {
    for kind in ["throughput", "rr"] {
        assert!(samples.iter().any(|sample| sample["kind"] == kind), "no {kind} trial");
    }
    for sample in samples {
        let count = |key: &str| sample[key].as_u64().unwrap_or_else(|| panic!("{key}: {sample:#}"));
        assert!(count("received") > 0, "{sample:#}");
        assert_eq!(count("sent"), count("received") + count("dropped"), "{sample:#}");
        let drops = sample["drops"].as_array().expect("drops").iter();
        let placed = drops.filter(|drop| drop["place"] != "" && drop["cause"] != "");
        let frames: u64 = placed.map(|drop| drop["frames"].as_u64().expect("frames")).sum();
        assert_eq!(frames, count("dropped"), "{sample:#}");
        assert!(sample["void_reason"].is_null(), "{sample:#}");
    }
}

/// Makes a cell's throughput, figures and samples alike, worse than any noise could.
fn worsen(cell: &mut Value) {
    const TIMES: u64 = 100;
    for figure in ["median", "low", "high"] {
        let figure = &mut cell["metrics"]["throughput_mpps"][figure];
        *figure = json!(figure.as_f64().expect("a figure") / TIMES as f64);
    }
    let samples = cell["samples"].as_array_mut().expect("samples").iter_mut();
    for sample in samples.filter(|sample| sample["kind"] == "throughput") {
        sample["elapsed_ns"] = json!(TIMES * sample["elapsed_ns"].as_u64().expect("nanoseconds"));
    }
}

/// How many lines of a Markdown table begin with a toggle.
fn markdown_rows(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("| ●") || line.starts_with("| ·")).count()
}

/// Runs labctl; returns what it printed if it exits with `code`.
#[track_caller]
fn output(mut command: std::process::Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().expect("labctl runs");
    assert_eq!(status.code(), Some(code), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

#[test]
fn the_matrix_is_measured_reported_and_compared() {
    let Some(_turn) = kvm() else { return };
    if !may_use_tap() {
        return say("SKIPPED: the matrix has cells with `vale: false`");
    }
    let dir = Scratch::new("bench");
    let results = dir.path("results.json").into_os_string().into_string().unwrap();
    let summary = dir.file("summary.md", "# of another step\n");
    let mut bench = labctl(&["bench", "--quick", LAB, "-o", "json", "--results", &results]);
    bench.env("GITHUB_STEP_SUMMARY", &summary);
    let printed = output(bench, 0);
    let document: Value = serde_json::from_str(&printed).expect("JSON on stdout");
    check_shape(&document);
    assert_eq!(document["complete"], true);
    assert_eq!(std::fs::read_to_string(&results).unwrap(), printed, "the file has the same");
    let summary = std::fs::read_to_string(&summary).unwrap();
    assert!(summary.starts_with("# of another step\n"), "appended to what was there:\n{summary}");
    assert_eq!(markdown_rows(&summary), 16, "{summary}");

    output(labctl(&["compare", &results, &results]), 0);
    let mut worse = document;
    worsen(&mut worse["cells"][15]);
    let worse = dir.file("worse.json", worse.to_string());
    let verdict = output(labctl(&["compare", "-o", "json", &results, &worse]), 3);
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    let cells = verdict["cells"].as_array().unwrap().iter();
    let failed: Vec<_> = cells.filter(|cell| cell["verdict"] == "fail").collect();
    assert_eq!(failed.len(), 1, "{verdict:#}");
    assert_eq!(
        failed[0]["optimizations"],
        json!({"itr": true, "sc": true, "csb": true, "vale": true})
    );
    output(labctl(&["compare", &worse, &results]), 0);
}

/// Two cells through VALE in a second.
const SMALL: &str = "\
name: small
switches: { sw0: {} }
defaults: { nics: [{ switch: sw0 }] }
guests: { left: {}, right: {} }
bench:
  matrix: { optimizations.csb: [false, true] }
  throughput: { from: left, to: right, duration: 20ms }
  rr: { from: left, to: right, duration: 20ms }
  rounds: 1
";

#[test]
fn every_output_form_has_every_cell() {
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("forms");
    let file = dir.file("small.lab.yaml", SMALL);
    let results = dir.path("results.json");
    let form = |form| {
        let results = results.to_str().unwrap();
        output(labctl(&["bench", &file, "--results", results, "-o", form]), 0)
    };
    let markdown = form("markdown");
    assert_eq!(markdown_rows(&markdown), 2, "{markdown}");
    let csv = form("csv");
    let lines: Vec<Vec<_>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{csv}");
    let column = |name| lines[0].iter().position(|column| *column == name).expect(name);
    let (csb, metric) = (column("csb"), column("metric"));
    for (cell, figure) in [("0", "throughput_mpps"), ("0", "rr_us"), ("1", "exits_per_packet")] {
        let found = lines.iter().any(|line| line[csb] == cell && line[metric] == figure);
        assert!(found, "no {figure} of csb={cell}:\n{csv}");
    }
    let table = form("table");
    assert!(table.contains("Mpps") && table.contains("small"), "{table}");
}

/// A ladder of two steps, one of which a key of one guest makes the slower one.
const ASSERTED: &str = "\
name: asserted
switches: { sw0: {} }
defaults: { nics: [{ switch: sw0 }], ring: 4096 }
guests: { left: {}, right: {} }
optimizations: { itr: false, sc: false, csb: false }
bench:
  throughput: { from: left, to: right, duration: 20ms }
  ladder:
    - {}
    - { name: better, optimizations.csb: true, guests.left.spin: 1ms }
  rounds: 3
  seed: 7
  quick: { rounds: 3, duration: 20ms }
  assert:
    - { name: it helps, that: better.throughput > step-0.throughput }
    - better.throughput >= 100 * step-0.throughput * 100
    - throughput > 0
";

#[test]
fn assertions_decide_the_exit_code() {
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("asserted");
    let results = dir.path("results.json").into_os_string().into_string().unwrap();
    let file = dir.file("asserted.lab.yaml", ASSERTED);
    let bench = |options: &[&str], code| {
        let fixed = ["bench", "--quick", &file, "--results", &results];
        let mut command = labctl(&[&fixed, options].concat());
        command.env("GITHUB_ACTIONS", "true");
        let Output { status, stdout, stderr } = command.output().expect("labctl runs");
        let said = String::from_utf8(stderr).expect("text");
        assert_eq!(status.code(), Some(code), "{said}");
        (String::from_utf8(stdout).expect("text"), said)
    };
    let (printed, said) = bench(&["-o", "json"], 1);
    let document: Value = serde_json::from_str(&printed).expect("JSON on stdout");
    assert_eq!(document["seed"], 7);
    let verdicts: Vec<_> = document["assertions"].as_array().expect("assertions").iter().collect();
    let words: Vec<_> = verdicts.iter().map(|a| a["verdict"].as_str().expect("a word")).collect();
    assert_eq!(words, ["pass", "fail", "pass"], "{verdicts:#?}");
    assert_eq!(verdicts[2]["checks"].as_array().map(Vec::len), Some(2), "one for each cell");
    assert!(verdicts[0]["checks"][0]["left"]["low"].as_f64().expect("a figure") > 0.0);
    let steps = document["ladder"].as_array().expect("a ladder").iter();
    let steps: Vec<_> = steps.map(|rung| rung["step"].as_str().expect("a label")).collect();
    assert_eq!(steps, ["as in the file", "better"]);
    assert!(said.contains("asserted.lab.yaml,line=16,col=7::better.throughput >= 100"), "{said}");
    // The same file without what cannot be.
    let possible = ASSERTED.lines().filter(|line| !line.contains("* 100"));
    dir.file("asserted.lab.yaml", possible.collect::<Vec<_>>().join("\n"));
    let (table, said) = bench(&["--strict", "--seed", "8"], 0);
    assert!(table.contains("Assertions: 2 passed, 0 failed, 0 inconclusive"), "{table}");
    assert!(!said.contains("::error"), "{said}");
}

/// Over good and bad cables, two switches, and a guest that forwards.
const FAR: &str = "\
name: far
switches: { sw0: {}, sw1: {}, sw2: {} }
links: [{ ends: [sw0, sw1] }]
defaults: { memory: 48MiB, ring: 256 }
guests:
  left: { nics: [sw0] }
  middle: { nics: [sw1, sw2], workload: { role: forward, duration: 1s } }
  far: { nics: [{ switch: sw2 }] }
  bystander: { nics: [{ switch: sw1, loss: 50%, duplicate: 50% }] }
bench:
  throughput: { from: left, to: far, duration: 50ms }
  rr: { from: left, to: far, duration: 50ms }
  rounds: 2
  matrix: { optimizations.csb: [false, true] }
  cells:
    bad-cable: { set: { \"links[0].loss\": 10%, \"links[0].duplicate\": 10% } }
    slow-cable:
      set:
        guests.far.nics[0].delay: 2ms
        guests.far.nics[0].jitter: 1ms
        guests.far.nics[0].reorder: 20%
        guests.far.nics[0].duplicate: 5%
  assert:
    - bad-cable.loss > 0
";

#[test]
fn packets_are_accounted_for_across_switches_guests_and_bad_cables() {
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("far");
    let file = dir.file("far.lab.yaml", FAR);
    let results = dir.path("results.json").into_os_string().into_string().unwrap();
    let printed = output(labctl(&["bench", &file, "--results", &results, "-o", "json"]), 0);
    let document: Value = serde_json::from_str(&printed).expect("JSON on stdout");
    let cells = document["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 4);
    for cell in cells {
        for sample in cell["samples"].as_array().expect("samples") {
            assert!(sample["void_reason"].is_null(), "{sample:#}");
            let count = |key: &str| sample[key].as_u64().unwrap_or_default();
            assert!(count("received") > 0 && count("received") <= count("sent"), "{sample:#}");
            if sample["kind"] == "throughput" {
                assert_eq!(count("duplicated") > 0, cell["name"].is_string(), "{sample:#}");
                let out = count("received") + count("repeated") + count("dropped");
                assert_eq!(count("sent") + count("duplicated"), out, "{sample:#}");
            }
        }
    }
}

const LOSSY: &str = "\
name: lossy
switches: { sw0: {} }
guests: { left: { nics: [sw0] }, right: { nics: [{ switch: sw0, loss: 0.5% }] } }
bench:
  throughput: { from: left, to: right, protocol: tcp, duration: 50ms }
  rounds: 1
";

#[test]
fn tcp_repairs_what_a_bad_cable_loses() {
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("tcp");
    let file = dir.file("lossy.lab.yaml", LOSSY);
    let results = dir.path("results.json").into_os_string().into_string().unwrap();
    let printed = output(labctl(&["bench", &file, "--results", &results, "-o", "json"]), 0);
    let document: Value = serde_json::from_str(&printed).expect("JSON on stdout");
    for cell in document["cells"].as_array().expect("cells") {
        let sample = &cell["samples"][0];
        assert!(sample["void_reason"].is_null(), "{sample:#}");
        assert!(sample["received"].as_u64() > Some(10), "{sample:#}");
        assert_eq!(sample["sent"], sample["received"], "{sample:#}");
    }
}

#[test]
fn a_plan_is_made_without_anything_started() {
    let plan = output(labctl(&["plan", LAB, "-o", "json"]), 0);
    let plan: Value = serde_json::from_str(&plan).expect("JSON on stdout");
    let cells = plan["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 16);
    let trials: u64 = cells.iter().filter_map(|cell| cell["trials"].as_u64()).sum();
    assert_eq!(plan["trials"].as_u64(), Some(trials));
    let table = output(labctl(&["plan", "--quick", LAB]), 0);
    assert!(table.starts_with("CELL"), "{table}");
}
