//! Every optimization changes what it should and nothing else: told by counters, not by time.
//!
//! All 16 cells carry the same unlimited load once. Moderation spaces interrupts by 5 ms here, far
//! more than a packet takes on the slowest host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::OnceLock;

use labctl::bench::trial::{self, Turn};
use labctl::lab::{Happening, RunningLab};
use labctl::optimizations::{Optimization, Optimizations};
use labctl::results::{Sample, TrialKind};
use serde_json::Value;

const LAB: &str = "\
defaults: { ring: 4096, itr: 5ms, nics: [{ switch: sw0 }] }
guests: { left: {}, right: {} }
bench: { throughput: { from: left, to: right, duration: 200ms } }";

/// One trial of every cell that this user may run; none without KVM.
fn samples() -> &'static [(Optimizations, Sample)] {
    static SAMPLES: OnceLock<Vec<(Optimizations, Sample)>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let Some(kvm) = common::kvm() else { return Vec::new() };
        let sample = |on| {
            let lab = common::lab(on, LAB);
            let spec = lab.bench.as_ref().and_then(|bench| bench.throughput.as_ref()).unwrap();
            let place = Turn { round: 1, order: 0 };
            let trial = trial::run(&kvm, &lab, TrialKind::Throughput, spec, place);
            let sample = common::block_on(trial).unwrap_or_else(|error| panic!("{on}: {error}"));
            assert_eq!(sample.void_reason, None, "{on}: {sample:#?}");
            (on, sample)
        };
        common::cells().into_iter().map(sample).collect()
    })
}

/// Pairs of cells that differ in `which` alone: off, then on.
fn pairs(which: Optimization) -> impl Iterator<Item = [&'static (Optimizations, Sample); 2]> {
    samples().iter().filter(move |(cell, _)| !cell.get(which)).filter_map(move |off| {
        Some([off, samples().iter().find(|(cell, _)| *cell == off.0.with(which, true))?])
    })
}

fn interrupts_per_packet(sample: &Sample) -> f64 {
    sample.counters.interrupts as f64 / sample.received as f64
}

fn doorbells_per_packet(sample: &Sample) -> f64 {
    sample.counters.tdt_writes as f64 / sample.sent as f64
}

fn exits_per_packet(sample: &Sample) -> f64 {
    sample.counters.total_exits() as f64 / sample.received as f64
}

#[test]
fn moderation_lowers_interrupts_per_packet() {
    // With the CSB guests that are awake take no interrupts in the first place.
    for [(cell, off), (_, on)] in pairs(Optimization::Itr).filter(|[(cell, _), _]| !cell.csb) {
        let [without, with] = [off, on].map(interrupts_per_packet);
        assert!(with < without / 2.0, "{cell}: {without} without, {with} with moderation");
    }
}

#[test]
fn send_combining_lowers_doorbells_per_packet() {
    for [(cell, _), (_, on)] in pairs(Optimization::Sc).filter(|[(cell, _), _]| !cell.csb) {
        let with = doorbells_per_packet(on);
        if cell.itr {
            assert!(with < 0.5, "{cell}: {with}");
        } else {
            // Every doorbell is answered by an interrupt before the next packet: the driver never
            // holds one back. Send combining needs moderation, as the paper says.
            assert!((0.9..=1.1).contains(&with), "{cell}: {with}");
        }
    }
}

#[test]
fn nothing_but_send_combining_and_the_csb_saves_doorbells() {
    for (cell, sample) in samples().iter().filter(|(cell, _)| !cell.sc && !cell.csb) {
        assert_eq!(sample.counters.tdt_writes, sample.sent, "{cell}");
    }
}

#[test]
fn the_csb_brings_exits_per_packet_below_a_twentieth() {
    for [(cell, off), (_, on)] in pairs(Optimization::Csb) {
        let [without, with] = [off, on].map(exits_per_packet);
        assert!(with < 0.05, "{cell}: {with}");
        if !(cell.itr && cell.sc) {
            assert!(without > 1.0, "{cell}: {without}");
        }
    }
}

#[test]
fn the_csb_is_announced_only_when_it_is_on() {
    let Some(kvm) = common::kvm() else { return };
    for on in common::cells() {
        let subsystems = common::block_on(async {
            let mut running = RunningLab::start(&kvm, &common::lab(on, LAB)).await.unwrap();
            let mut subsystems = Vec::new();
            while subsystems.len() < 2 {
                let Happening::Line(line) = running.next().await else { continue };
                let ready: Value = serde_json::from_str(&line.text).expect("a ready line");
                subsystems.push(ready["subsystem"].clone());
            }
            running.stop();
            subsystems
        });
        let expected = if on.csb { "0x1101" } else { "0x001e" };
        assert_eq!(subsystems, [expected; 2], "{on}");
    }
}

#[test]
fn vale_needs_no_tap_and_nothing_else_spares_it() {
    for (cell, Sample { sent, counters, .. }) in samples() {
        if cell.vale {
            assert_eq!(counters.tap_syscalls, 0, "{cell}");
        } else {
            // One write for each frame, whatever else is on.
            assert!(counters.tap_syscalls >= *sent, "{cell}: {counters:?}, {sent} sent");
        }
    }
}
