//! Labs on hardware KVM, which an emulated host has: pktguests, and unmodified Linux guests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "common/tcg.rs"]
mod tcg;

use std::time::Duration;

use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn doctor_finds_hardware_kvm() {
    let outcome = tcg::host().labctl("doctor -o json", MINUTE);
    assert_eq!(outcome.status, 0, "{outcome:#?}");
    let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let says = |check: usize| answer["checks"][check]["says"].as_str().unwrap().to_owned();
    assert_eq!(says(0), "hardware KVM (AMD-V), usable");
    for (what, cost) in answer["costs"].as_object().unwrap() {
        assert!(cost["median_ns"].as_u64().unwrap() > 0, "{what}: {cost}");
    }
}

#[test]
fn every_cell_accounts_for_its_packets() {
    let lab = tcg::project().join("topologies/paper-pair.lab.yaml");
    let command = format!("bench --quick -o json {}", lab.display());
    let outcome = tcg::host().labctl(&command, 5 * MINUTE);
    assert_eq!(outcome.status, 0, "{outcome:#?}");
    let results: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let cells = results["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 16);
    for cell in cells {
        assert_eq!(cell["conserved"], true, "{cell:#}");
    }
}
