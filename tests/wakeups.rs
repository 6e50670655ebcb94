//! Nothing sleeps for ever: whatever the optimizations and whoever moves the frames, every packet
//! arrives and every guest that waits for one is woken.
//!
//! Guests do not poll here (`spin: 0`): they halt for every packet, which is when a wake-up can be
//! lost. Frames are so few that no queue can overflow, however the host schedules: each one must
//! arrive. Where the device looks again after a while in case a guest went to sleep unseen, it
//! counts what it found; our driver has its fences, so it must find nothing.

mod common;

use common::Kvm;
use labctl::bench::trial::{self, Turn};
use labctl::lab::Final;
use labctl::optimizations::Optimizations;
use labctl::policy::Choice;
use labctl::results::TrialKind;
use labctl::topology::Lab;
use vmm_core::e1000::NicCounters;

/// Request/response transactions in each cell.
const TRANSACTIONS: u64 = 500;

/// All combinations as this host would run them; then, with each policy, those that differ in what it
/// has to do: by itself, over a TAP, and without the CSB.
fn cells() -> Vec<(Optimizations, Choice)> {
    let all = common::cells();
    let none = Optimizations::NONE;
    let tap = Optimizations { itr: true, sc: true, csb: true, vale: false };
    let differing =
        [Optimizations { vale: true, ..tap }, tap, Optimizations { vale: true, ..none }];
    let with = |policy| differing.into_iter().map(move |on| (on, policy));
    let fixed =
        [Choice::Push, Choice::Pull, Choice::Thread, Choice::Poller].into_iter().flat_map(with);
    let fixed = fixed.filter(|(on, _)| all.contains(on)).collect::<Vec<_>>();
    all.into_iter().map(|on| (on, Choice::Auto)).chain(fixed).collect()
}

/// Ways to send: packets a second (0: as fast as it goes), packets at once, packets in all.
///
/// At 200 packets a second the device and both guests have gone to sleep before each one; at the
/// other rates they are about to. Counts that are no multiple of anything leave a held tail behind
/// with send combining.
const PATTERNS: [(u64, u16, u64); 9] = [
    (200, 1, 40),
    (2_000, 1, 301),
    (20_000, 1, 900),
    (100_000, 1, 900),
    (3_200, 64, 640),
    (0, 1, 1),
    (0, 1, 7),
    (0, 1, 900),
    (0, 300, 900),
];

const GUESTS: &str = "defaults: { spin: 0, ring: 4096, nics: [{ switch: sw0 }] }";

/// A lab whose guests play the given workloads.
fn lab((on, policy): (Optimizations, Choice), left: &str, right: &str) -> Lab {
    let guests = format!(
        "guests:\n  left: {{ workload: {{ {left} }} }}\n  right: {{ workload: {{ {right} }} }}"
    );
    common::lab(on, &format!("policy: {policy}\n{GUESTS}\n{guests}"))
}

/// Plays a lab and fails if the device had to make up for a wake-up; returns the two reports.
fn play(kvm: &Kvm, lab: &Lab, what: &str) -> [Final; 2] {
    let common::Outcome { reports, counters } = common::block_on(common::play(kvm, lab));
    for (guest, (_, nics)) in lab.guests.iter().zip(&counters.guests) {
        let lost = |nic: &NicCounters| (nic.tx.lost_kicks, nic.rx.lost_notifications);
        let lost: Vec<_> = nics.iter().map(lost).collect();
        assert_eq!(
            lost,
            [(0, 0)],
            "{}, {}, {what}: wake-ups lost at {}",
            lab.optimizations,
            lab.policy,
            guest.name
        );
    }
    reports.try_into().expect("two guests")
}

#[test]
fn every_request_is_answered() {
    let Some(kvm) = common::kvm() else { return };
    for cell in cells() {
        let lab = lab(cell, &format!("role: ping, to: right, count: {TRANSACTIONS}"), "role: pong");
        let [ping, pong] = play(&kvm, &lab, "ping");
        let answered = (ping.sent, ping.packets, ping.lost, pong.packets);
        assert_eq!(answered, (TRANSACTIONS, TRANSACTIONS, 0, TRANSACTIONS), "{cell:?}");
        // Otherwise this proves nothing about waking up. Either side may do it: one that still
        // services its own transmit interrupt when the next frame comes need not halt.
        let halts = (ping.halts, pong.halts);
        assert!(
            halts.0 + halts.1 > TRANSACTIONS / 10,
            "{cell:?}: (ping, pong) halted {halts:?} times"
        );
    }
}

/// As fast as it goes, with rings that overflow: each frame arrived or was counted where it was lost.
#[test]
fn under_load_every_packet_is_accounted_for() {
    let Some(kvm) = common::kvm() else { return };
    for (on, policy) in cells().into_iter().filter(|(_, policy)| *policy != Choice::Auto) {
        let bench = "bench: { throughput: { from: left, to: right, duration: 50ms } }";
        let guests = "defaults: { nics: [{ switch: sw0 }] }\nguests: { left: {}, right: {} }";
        let lab = common::lab(on, &format!("policy: {policy}\n{guests}\n{bench}"));
        let spec = lab.bench.as_ref().and_then(|bench| bench.throughput.as_ref()).expect("a trial");
        let turn = Turn { round: 1, order: 0 };
        let trial = trial::run(&kvm, &lab, TrialKind::Throughput, spec, turn);
        let sample =
            common::block_on(trial).unwrap_or_else(|error| panic!("{on}, {policy}: {error}"));
        assert_eq!(sample.void_reason, None, "{on}, {policy}: {sample:#?}");
        assert!(sample.conserved && sample.received > 0, "{on}, {policy}: {sample:#?}");
    }
}

#[test]
fn every_packet_arrives() {
    let Some(kvm) = common::kvm() else { return };
    for cell in cells() {
        for (rate, burst, count) in PATTERNS {
            let what = format!("{count} packets, {rate}/s, {burst} at once");
            let work =
                format!("role: tx, to: right, rate: {rate}pps, burst: {burst}, count: {count}");
            let [tx, rx] = play(&kvm, &lab(cell, &work, "role: rx"), &what);
            let arrived = (tx.packets, rx.packets, rx.lost + rx.reordered + rx.duplicates);
            assert_eq!(arrived, (count, count, 0), "{cell:?}, {what}");
        }
    }
}
