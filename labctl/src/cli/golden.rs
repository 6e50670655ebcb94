//! Every verb that reads, in every format, against a file checked in. After an intended change:
//! `UPDATE_GOLDEN=1 cargo test -p labctl golden`, and read the difference.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{Value, json};
use vmm_core::kvm::{Cost, HostCosts};
use vmm_core::policy::Policy;

use super::{doctor, events, graph::Graph, inspect, link, logs, mac_table, ps, top, validate};
use crate::control::protocol::*;
use crate::impairments::Impairments;
use crate::report::Output;
use crate::report::listing::Stream;
use crate::results::Host;
use crate::topology::{HostTap, Lab, Link, LinkEnd, SwitchKind};

/// 2025-11-22T13:05:00Z.
const START: u64 = 1_763_816_700_000;
/// Three minutes and 18 seconds later.
const NOW: u64 = START + 198_000;

/// Compares what a verb prints with its golden files.
fn check(verb: &str, render: impl Fn(Output) -> String) {
    for output in Output::value_variants() {
        let extension = match output {
            Output::Table => "txt",
            Output::Wide => "wide.txt",
            Output::Json => "json",
            Output::Yaml => "yaml",
            Output::Markdown => "md",
            Output::Csv => "csv",
        };
        check_file(&format!("{verb}.{extension}"), &render(*output));
    }
}

fn check_file(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/verbs").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == expected, "{} differs; it is now:\n{actual}", path.display());
}

fn nic(cable: &str, number: u64) -> NicStatus {
    NicStatus {
        cable: cable.into(),
        mac: format!("02:00:00:00:00:{number:02x}"),
        ip: (number < 3).then(|| format!("10.0.0.{number}/16")),
        switch: format!("sw{}", number / 3),
        port: number.to_string(),
        up: number != 2,
        counters: Traffic {
            tx_frames: 1_234_567 * number,
            tx_bytes: 74_074_020 * number,
            rx_frames: 89_012 * number,
            rx_bytes: 5_340_720 * number,
            rx_dropped: 7 * number,
            interrupts: 4_242 * number,
            doorbells: 311 * number,
        },
    }
}

fn status() -> LabStatus {
    let left = GuestStatus {
        name: "left".into(),
        kind: "pktguest".into(),
        state: GuestState::Running,
        reason: None,
        work: "tx to right".into(),
        memory_mib: 64,
        restarts: 0,
        started_ms: START + 100,
        exits: 98_765,
        cpu_ns: Some(12_345_678_901),
        nics: vec![nic("left:0", 1), nic("left:1", 3)],
    };
    let right = GuestStatus {
        name: "right".into(),
        kind: "linux".into(),
        state: GuestState::Failed,
        reason: Some("it has reset itself, \"triple fault\"".into()),
        work: "bzImage".into(),
        memory_mib: 1024,
        restarts: 2,
        started_ms: START + 60_000,
        exits: 4_321,
        cpu_ns: None,
        nics: vec![nic("right:0", 2)],
    };
    let switch =
        |name: &str, kind, ports, macs| SwitchStatus { name: name.into(), kind, ports, macs };
    LabStatus {
        lab: "pair".into(),
        file: "/labs/pair.lab.yaml".into(),
        state: LabState::Degraded,
        pid: 4711,
        started_ms: START,
        guests: vec![left, right],
        switches: vec![
            switch("sw0", SwitchKind::Vale, 3, Some(2)),
            switch("sw1", SwitchKind::Bridge, 2, None),
        ],
    }
}

fn cables() -> Vec<CableStatus> {
    let cable = |name: &str, ends: [&str; 2], port: &str, count: u64| CableStatus {
        name: name.into(),
        ends: ends.map(str::to_owned),
        port: port.into(),
        up: count != 2,
        impairments: Impairments::default(),
        forth: CableTraffic { frames: 1000 * count, delivered: 990 * count, ..Default::default() },
        back: CableTraffic { frames: 3, delivered: 3, ..Default::default() },
    };
    let mut cables = vec![
        cable("left:0", ["left:0", "sw0"], "1", 1),
        cable("right:0", ["right:0", "sw0"], "2", 2),
        cable("left:1", ["left:1", "sw1"], "3", 3),
        cable("sw0--sw1", ["sw0", "sw1"], "4", 40),
    ];
    cables[0].impairments = Impairments {
        delay_us: 1500,
        jitter_us: 200,
        loss: 0.005,
        rate_bps: 10_000_000,
        ..Impairments::default()
    };
    cables[0].forth = CableTraffic {
        frames: 1_234_567,
        delivered: 1_228_383,
        lost: 6_173,
        dropped: 11,
        duplicated: 5,
        reordered: 4,
        held: 5,
    };
    cables
}

#[test]
fn ps() {
    let dead = LabStatus {
        lab: "old".into(),
        file: "/labs/old.lab.yaml".into(),
        state: LabState::Dead,
        pid: 0,
        started_ms: START,
        guests: Vec::new(),
        switches: Vec::new(),
    };
    let labs = [dead, status()];
    check("ps", |output| ps::listing(&labs, NOW).render(&labs, output).unwrap());
    let none: [LabStatus; 0] = [];
    let nothing = ps::listing(&none, NOW);
    assert_eq!(nothing.render(&none, Output::Json).unwrap(), "[]\n");
    assert!(nothing.table(false).starts_with("LAB  GUEST"));
}

#[test]
fn inspect() {
    let lab: Value = json!({
        "name": "pair",
        "guests": [{ "name": "left", "memory_mib": 64 }, { "name": "right", "memory_mib": 1024 }],
    });
    let status = status();
    check("inspect", |output| inspect::of_lab(&status, &lab, NOW, output).unwrap());
    check("inspect-guest", |output| inspect::of_guest(&status.guests[0], &lab, output).unwrap());
}

#[test]
fn link_show() {
    let cables = cables();
    check("link-show", |output| link::listing(&cables).render(&cables, output).unwrap());
}

#[test]
fn mac_table() {
    let entry = |number: u8, guest: Option<&str>| MacEntry {
        mac: format!("02:00:00:00:00:{number:02x}"),
        port: number.to_string(),
        cable: guest.map_or("sw0--sw1".into(), |guest| format!("{guest}:0")),
        guest: guest.map(str::to_owned),
    };
    let entries = [entry(1, Some("left")), entry(2, Some("right")), entry(0xaa, None)];
    check("mac-table", |output| mac_table::listing(&entries).render(&entries, output).unwrap());
}

#[test]
fn logs() {
    let line = |after: u64, guest: &str, text: &str| LogLine {
        at_ms: START + after,
        guest: guest.into(),
        text: text.into(),
        missed: None,
    };
    let lines = [
        line(123, "left", "pktguest: ready"),
        line(2_000, "right", "a, \"quoted\" | line"),
        line(2_001, "left", ""),
        LogLine::missed(START + 3_000, 12),
    ];
    let render = |output, color| {
        let mut out = logs::Lines {
            names: vec!["left".into(), "right".into()],
            color,
            wide: output == Output::Wide,
            stream: Stream::new(output),
        };
        lines.iter().map(|line| out.render(line).unwrap()).collect::<String>()
    };
    check("logs", |output| render(output, false));
    let colored = render(Output::Table, true);
    assert!(colored.starts_with("\x1b[36mleft  |\x1b[0m pktguest: ready\n"), "{colored:?}");
}

#[test]
fn events() {
    let event = |after: u64, event: &str, subject: Option<&str>, detail: Option<&str>| Event {
        at_ms: START + after,
        event: event.into(),
        subject: subject.map(str::to_owned),
        detail: detail.map(str::to_owned),
    };
    let events = [
        event(0, "lab-started", None, None),
        event(140, "guest-ready", Some("left"), None),
        event(9_000, "link-changed", Some("left:0"), Some("up, delay 1.5ms, loss 0.5%")),
        Event::missed(START + 9_500, 12),
    ];
    check("events", |output| {
        let mut stream = Stream::new(output);
        events.iter().map(|event| events::render(&mut stream, event).unwrap()).collect()
    });
}

#[test]
fn top() {
    let at = Instant::now();
    let before = top::Sample { at, at_ms: NOW - 2000, status: status(), cables: cables() };
    let mut after = before.clone();
    (after.at, after.at_ms) = (at + Duration::from_secs(2), NOW);
    let [left, right] = after.status.guests.as_mut_slice() else { panic!("two guests") };
    left.exits += 50_000;
    left.cpu_ns = left.cpu_ns.map(|ns| ns + 1_500_000_000);
    left.nics[0].counters.tx_frames += 2_469_134;
    left.nics[0].counters.tx_bytes += 148_148_040;
    left.nics[1].counters.rx_frames += 20;
    left.nics[1].counters.rx_dropped += 4;
    // It was started anew.
    right.nics[0].counters = Traffic::default();
    after.cables[0].forth.lost += 12_000;
    after.cables[3].back.frames += 2_000;
    after.cables[3].back.dropped += 100;
    let rates = top::Rates::between(&before, &after);
    check("top", |output| rates.listing().render(&rates, output).unwrap());
}

#[test]
fn graph() {
    let text = "
name: pair
switches: { sw0: {}, sw1: {} }
guests:
  left: { nics: [{ switch: sw0 }, { switch: sw1 }], workload: { role: tx, to: right } }
  right: { nics: [{ switch: sw0 }] }
";
    let mut lab = Lab::parse(Path::new("pair.lab.yaml"), text).unwrap();
    let delay = Impairments { delay_us: 1000, ..Impairments::default() };
    lab.guests[0].nics[1].impairments = delay;
    lab.guests[1].nics[0].impairments = delay;
    let link = |name: &str, to| Link {
        name: name.into(),
        ends: [LinkEnd::Switch(0), to],
        impairments: Impairments::default(),
    };
    let tap = |netns: Option<&str>, name: &str| {
        let netns = netns.map(str::to_owned);
        LinkEnd::Host(HostTap { netns, name: name.into(), address: None })
    };
    lab.links = vec![
        link("sw0--sw1", LinkEnd::Switch(1)),
        link("sw0--host:tap0", tap(None, "tap0")),
        link("sw0--blue:tap1", tap(Some("\"b\\lue\"<#"), "tap1")),
    ];
    check_file("graph.mmd", &Graph::of(&lab).mermaid());
    check_file("graph.dot", &Graph::of(&lab).dot());
}

#[test]
fn validate() {
    let text = "
name: pair
description: Two of them
switches: { sw0: {}, sw1: {} }
guests:
  left: { nics: [{ switch: sw0 }, { switch: sw1 }], workload: { role: tx, to: right } }
  right: { nics: [{ switch: sw0 }], ring: 256 }
bench:
  throughput: { from: left, to: right }
  matrix: { optimizations.sc: [false, true] }
";
    let lab = Lab::parse(Path::new("pair.lab.yaml"), text).unwrap();
    check("validate", |output| validate::render(&lab, output).unwrap());
}

#[test]
fn doctor() {
    let host = Host {
        kernel: "6.12.1".into(),
        cpu: "Example CPU 9000".into(),
        cores: 4,
        kvm: "kvm_amd".into(),
        memory_bytes: 16 << 30,
        hypervisor: false,
        clocksource: "tsc".into(),
        load_average: 0.25,
        qemu: None,
        labctl_version: "9.9.9".into(),
        labctl_commit: None,
    };
    let cost = |ns| Cost { median_ns: ns, min_ns: ns - 100 };
    let check_of = |what, ok, says: &str, mended_by: Option<&str>| doctor::Check {
        what,
        ok,
        says: says.into(),
        mended_by: mended_by.map(str::to_owned),
    };
    let policy = Policy::Poller;
    let findings = doctor::Findings {
        host,
        guests: "pktguest and Linux".into(),
        peers: "none: QEMU is not installed".into(),
        checks: vec![
            check_of("KVM", true, "hardware KVM, usable", None),
            check_of("TAP and bridge", false, "not permitted", Some("sudo modprobe tun")),
        ],
        policies: vec![doctor::Auto { csb: true, vale: false, policy, why: "there is room" }],
        costs: Some(HostCosts {
            mmio_exit_user: cost(1_200),
            mmio_exit_kernel: cost(1_300),
            port_exit_user: cost(1_100),
            ioeventfd_write: cost(900),
            apic_write: cost(800),
            interrupt: cost(2_500),
            halt_wakeup: cost(15_000),
            thread_wakeup: cost(7_000),
        }),
    };
    check("doctor", |output| doctor::render(&findings, output).unwrap());
}
