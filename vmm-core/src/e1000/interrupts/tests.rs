//! Scripts of what guest and wire do, and when the line must rise: all times are in nanoseconds
//! and follow from the manual.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use Step::*;
use cause::{LSC, RXDMT0, RXT0, SRPD, TXDW};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
/// How soon the guest reads ICR after the line rose.
const HANDLER: u64 = 100;
/// RDTR with bit 31: flush.
const FPD: u32 = 1 << 31;

#[derive(Clone, Copy, Debug)]
enum Step {
    Itr(u16),
    Rdtr(u32),
    Radv(u16),
    Tidv(u16),
    Tadv(u16),
    /// A frame is received; one that RSRPD calls small.
    Rx,
    RxSmall,
    /// A descriptor is written back, with IDE or without.
    TxIde,
    Tx,
    Raise(u32),
    Latch(u32),
    Mask,
    Unmask,
    ReadIcr,
    /// CTRL.RST, after which the driver unmasks all causes again.
    Reset,
}

#[derive(Default)]
struct Line(AtomicBool);

impl InterruptLine for Line {
    fn set_level(&self, high: bool) {
        assert_ne!(self.0.swap(high, Ordering::Relaxed), high, "a level was set twice");
    }
}

fn block(moderate: bool) -> (Interrupts, Arc<Line>) {
    let line = Arc::new(Line::default());
    let mut irq = Interrupts::new(line.clone(), moderate);
    irq.unmask(cause::ALL, 0);
    (irq, line)
}

fn apply(irq: &mut Interrupts, step: Step, now: u64) {
    match step {
        Itr(units) => irq.set_itr(units, now),
        Rdtr(value) => irq.set_rdtr(value, now),
        Radv(units) => irq.set_radv(units),
        Tidv(units) => irq.set_tidv(units),
        Tadv(units) => irq.set_tadv(units),
        Rx => irq.received(now),
        RxSmall => {
            irq.received(now);
            irq.end_receive_delay(now);
            irq.raise(SRPD, now);
        }
        TxIde => irq.transmitted(true, now),
        Tx => irq.transmitted(false, now),
        Raise(causes) => irq.raise(causes, now),
        Latch(causes) => irq.latch(causes),
        Mask => irq.mask(cause::ALL, now),
        Unmask => irq.unmask(cause::ALL, now),
        ReadIcr => drop(irq.read_icr(now)),
        Reset => {
            irq.reset();
            irq.unmask(cause::ALL, now);
        }
    }
}

/// Plays a script on a host whose timers are `late`, with a guest that reads ICR `HANDLER` after
/// each rising edge. Returns when the line rose and what the guest then read.
fn play(moderate: bool, late: u64, script: &[(u64, Step)]) -> Vec<(u64, u32)> {
    let (mut irq, line) = block(moderate);
    let mut rises = Vec::new();
    let mut script = script.iter().copied().peekable();
    let (mut handler, mut was_high, mut now) = (None, false, 0);
    loop {
        let step = script.peek().map(|(at, _)| *at);
        let timer = irq.deadline().map(|at| at.max(now) + late);
        let Some(next) = [step, handler, timer].into_iter().flatten().min() else {
            assert_eq!(irq.raised(), rises.len() as u64);
            return rises;
        };
        assert!(next >= now, "the script goes back in time");
        now = next;
        // A timer and a packet at the same instant: the timer has run out.
        if timer == Some(now) {
            irq.on_timer(now);
        } else if handler == Some(now) {
            handler = None;
            if let Some(rise) = rises.last_mut() {
                *rise = (rise.0, irq.read_icr(now));
            }
        } else if let Some((_, step)) = script.next() {
            apply(&mut irq, step, now);
        }
        let high = line.0.load(Ordering::Relaxed);
        if high && !was_high {
            rises.push((now, 0));
            handler = Some(now + HANDLER);
        }
        was_high = high;
    }
}

/// What it shows, what happens when, and when the line rises with which causes.
type Case<'a> = (&'a str, &'a [(u64, Step)], &'a [(u64, u32)]);

/// Checks scripts on an exact host with moderation on.
fn check(cases: &[Case<'_>]) {
    for (what, script, expected) in cases {
        assert_eq!(play(true, 0, script), *expected, "{what}");
    }
}

/// 13.4.18: "guarantees the CPU is not interrupted" for the interval "from the last interrupt".
#[test]
fn itr_spaces_interrupts() {
    check(&[
        (
            "the first is immediate, the next wait, and after a pause the first is immediate again",
            &[(0, Itr(500)), (MS, Rx), (MS + US, Rx), (MS + 129 * US, Rx), (2 * MS, Rx)],
            &[(MS, RXT0), (MS + 128 * US, RXT0), (MS + 256 * US, RXT0), (2 * MS, RXT0)],
        ),
        (
            "all causes share it, and what waits together rises together",
            &[(0, Itr(500)), (MS, Raise(LSC)), (MS + 5 * US, Tx), (MS + 9 * US, Rx)],
            &[(MS, LSC), (MS + 128 * US, TXDW | RXT0)],
        ),
        (
            "a packet at the very end of the interval is not held",
            &[(0, Itr(500)), (MS, Rx), (MS + 128 * US, Rx)],
            &[(MS, RXT0), (MS + 128 * US, RXT0)],
        ),
        (
            "the shortest interval has no floor",
            &[(0, Itr(1)), (MS, Rx), (MS + 150, Rx)],
            &[(MS, RXT0), (MS + 256, RXT0)],
        ),
        (
            "the longest interval",
            &[(0, Itr(65535)), (MS, Rx), (MS + US, Rx)],
            &[(MS, RXT0), (MS + 16_776_960, RXT0)],
        ),
        ("0 is off", &[(0, Itr(0)), (MS, Rx), (MS + US, Rx)], &[(MS, RXT0), (MS + US, RXT0)]),
        (
            "what the guest fetches by itself needs no interrupt",
            &[(0, Itr(500)), (MS, Rx), (MS + US, Rx), (MS + 2 * US, ReadIcr)],
            &[(MS, RXT0)],
        ),
    ]);
}

#[test]
fn a_new_itr_counts_from_the_last_interrupt() {
    let waiting = |itr| vec![(0, Itr(500)), (MS, Rx), (MS + US, Rx), (MS + 70 * US, Itr(itr))];
    for (itr, second) in [(1000, 256), (500, 128), (375, 96), (250, 70), (0, 70)] {
        let expected = [(MS, RXT0), (MS + second * US, RXT0)];
        assert_eq!(play(true, 0, &waiting(itr)), expected, "{itr} while an interrupt waits");
    }
    check(&[(
        "turned on after an interrupt",
        &[(MS, Rx), (MS + US, Itr(500)), (MS + 2 * US, Rx)],
        &[(MS, RXT0), (MS + 128 * US, RXT0)],
    )]);
}

#[test]
fn masking_does_not_move_the_interval() {
    let held = [(0, Itr(500)), (MS, Rx), (MS + US, Rx), (MS + 10 * US, Mask)];
    let after = |more: &[(u64, Step)]| play(true, 0, &[&held[..], more].concat());
    assert_eq!(after(&[]), [(MS, RXT0)], "masked for good");
    for (unmask, second) in [(50, 128), (128, 128), (300, 300)] {
        let rises = after(&[(MS + unmask * US, Unmask)]);
        assert_eq!(rises, [(MS, RXT0), (MS + second * US, RXT0)], "unmasked at {unmask} us");
    }
    // A line that the mask lowered rises again as a new interrupt.
    let (mut irq, _) = block(true);
    irq.set_itr(500, 0);
    irq.raise(RXT0, MS);
    irq.mask(RXT0, MS + 1);
    irq.unmask(RXT0, MS + 2);
    assert_eq!((irq.raised(), irq.deadline()), (1, Some(MS + 128 * US)));
}

/// 3.2.7.1.1, 13.4.30: the packet timer restarts with each packet.
#[test]
fn rdtr_waits_for_a_gap() {
    check(&[
        ("a single packet", &[(0, Rdtr(10)), (MS, Rx)], &[(MS + 10_240, RXT0)]),
        (
            "each packet restarts it; the next group starts anew",
            &[(0, Rdtr(10)), (MS, Rx), (MS + 10 * US, Rx), (MS + 20 * US, Rx), (MS + 31 * US, Rx)],
            &[(MS + 30_240, RXT0), (MS + 41_240, RXT0)],
        ),
        (
            "a packet at the instant of expiry belongs to the next group",
            &[(0, Rdtr(10)), (MS, Rx), (MS + 10_240, Rx)],
            &[(MS + 10_240, RXT0), (MS + 20_480, RXT0)],
        ),
        ("the longest", &[(0, Rdtr(65535)), (MS, Rx)], &[(MS + 67_107_840, RXT0)]),
        ("0 is no delay", &[(0, Rdtr(0)), (MS, Rx), (MS + US, Rx)], &[(MS, RXT0), (MS + US, RXT0)]),
        (
            "other causes neither wait for it nor end it",
            &[(0, Rdtr(10)), (MS, Rx), (MS + US, Raise(RXDMT0)), (MS + 2 * US, Tx)],
            &[(MS + US, RXDMT0), (MS + 2 * US, TXDW), (MS + 10_240, RXT0)],
        ),
        (
            "a running timer keeps its value, the next one has the new",
            &[(0, Rdtr(10)), (MS, Rx), (MS + US, Rdtr(20)), (2 * MS, Rx)],
            &[(MS + 10_240, RXT0), (2 * MS + 20_480, RXT0)],
        ),
        (
            "0 while it runs: the next packet does not wait, nor for it",
            &[(0, Rdtr(10)), (MS, Rx), (MS + US, Rdtr(0)), (MS + 2 * US, Rx)],
            &[(MS + 2 * US, RXT0)],
        ),
        (
            "0 while it runs and no further packet: nothing is lost",
            &[(0, Rdtr(10)), (MS, Rx), (MS + US, Rdtr(0))],
            &[(MS + 10_240, RXT0)],
        ),
        (
            "it runs while causes are masked",
            &[(0, Rdtr(10)), (MS, Rx), (MS + US, Mask), (MS + 5 * US, Unmask)],
            &[(MS + 10_240, RXT0)],
        ),
        (
            "and runs out",
            &[(0, Rdtr(10)), (MS, Rx), (MS + US, Mask), (MS + 50 * US, Unmask)],
            &[(MS + 50 * US, RXT0)],
        ),
    ]);
}

/// 3.2.7.1.2, 13.4.31: the absolute timer does not restart.
#[test]
fn radv_bounds_rdtr() {
    check(&[
        (
            "counted from the first packet; it ends both timers; the next group starts anew",
            &[
                (0, Rdtr(10)),
                (0, Radv(20)),
                (MS, Rx),
                (MS + 8 * US, Rx),
                (MS + 16 * US, Rx),
                (2 * MS, Rx),
            ],
            &[(MS + 20_480, RXT0), (2 * MS + 10_240, RXT0)],
        ),
        (
            "only the absolute timer: RDTR = RADV + 1",
            &[(0, Rdtr(11)), (0, Radv(10)), (MS, Rx), (MS + 9 * US, Rx), (MS + 12 * US, Rx)],
            &[(MS + 10_240, RXT0), (MS + 12 * US + 10_240, RXT0)],
        ),
        (
            "the packet timer's expiry resets it",
            &[(0, Rdtr(10)), (0, Radv(20)), (MS, Rx), (MS + 15 * US, Rx), (MS + 24 * US, Rx)],
            &[(MS + 10_240, RXT0), (MS + 24 * US + 10_240, RXT0)],
        ),
        (
            "RDTR = 0 disables it",
            &[(0, Radv(20)), (MS, Rx), (MS + US, Rx)],
            &[(MS, RXT0), (MS + US, RXT0)],
        ),
        (
            "RADV = 0 disables it while it runs",
            &[(0, Rdtr(10)), (0, Radv(12)), (MS, Rx), (MS + 8 * US, Rx), (MS + 9 * US, Radv(0))],
            &[(MS + 18_240, RXT0)],
        ),
        (
            "and so does RDTR = 0",
            &[(0, Rdtr(10)), (0, Radv(12)), (MS, Rx), (MS + 8 * US, Rx), (MS + 9 * US, Rdtr(0))],
            &[(MS + 18_240, RXT0)],
        ),
        (
            "set while a group is under way it starts with the next packet",
            &[(0, Rdtr(10)), (MS, Rx), (MS + US, Radv(5)), (MS + 2 * US, Rx)],
            &[(MS + 2 * US + 5_120, RXT0)],
        ),
    ]);
}

/// 13.4.30: FPD "initiates an immediate expiration" and "results in a receive timer interrupt".
#[test]
fn fpd_expires_the_receive_timers() {
    check(&[
        (
            "both stop",
            &[(0, Rdtr(10)), (0, Radv(20)), (MS, Rx), (MS + US, Rdtr(FPD | 10))],
            &[(MS + US, RXT0)],
        ),
        ("also when none runs", &[(0, Rdtr(10)), (MS, Rdtr(FPD | 10))], &[(MS, RXT0)]),
        (
            "the value counts for the next packet",
            &[(0, Rdtr(10)), (MS, Rx), (MS + US, Rdtr(FPD | 20)), (MS + 2 * US, Rx)],
            &[(MS + US, RXT0), (MS + 22_480, RXT0)],
        ),
        (
            "ITR holds it as any other",
            &[(0, Itr(500)), (0, Rdtr(10)), (MS, Tx), (MS + US, Rx), (MS + 2 * US, Rdtr(FPD | 10))],
            &[(MS, TXDW), (MS + 128 * US, RXT0)],
        ),
    ]);
    check(&[(
        "a small packet does the same",
        &[(0, Rdtr(10)), (0, Radv(20)), (MS, Rx), (MS + US, RxSmall), (2 * MS, Rx)],
        &[(MS + US, RXT0 | SRPD), (2 * MS + 10_240, RXT0)],
    )]);
    let (mut irq, _) = block(true);
    irq.set_rdtr(FPD | 7, 0);
    assert_eq!(irq.delays()[0], 7, "FPD clears itself");
}

/// 3.4.3.1, 13.4.41, 13.4.44: only descriptors with IDE wait.
#[test]
fn tidv_and_tadv_delay_descriptors_with_ide() {
    check(&[
        ("no IDE", &[(0, Tidv(10)), (0, Tadv(20)), (MS, Tx)], &[(MS, TXDW)]),
        ("IDE", &[(0, Tidv(10)), (MS, TxIde)], &[(MS + 10_240, TXDW)]),
        (
            "each one restarts TIDV; the next group starts anew",
            &[(0, Tidv(10)), (MS, TxIde), (MS + 9 * US, TxIde), (2 * MS, TxIde)],
            &[(MS + 19_240, TXDW), (2 * MS + 10_240, TXDW)],
        ),
        (
            "TADV counts from the first",
            &[(0, Tidv(10)), (0, Tadv(15)), (MS, TxIde), (MS + 9 * US, TxIde), (2 * MS, TxIde)],
            &[(MS + 15_360, TXDW), (2 * MS + 10_240, TXDW)],
        ),
        ("TADV alone does nothing", &[(0, Tadv(20)), (MS, TxIde)], &[(MS, TXDW)]),
        (
            "an immediate interrupt halts both timers",
            &[(0, Tidv(10)), (0, Tadv(20)), (MS, TxIde), (MS + US, Tx), (MS + 5 * US, TxIde)],
            &[(MS + US, TXDW), (MS + 15_240, TXDW)],
        ),
        (
            "TADV = 0 disables it while it runs",
            &[
                (0, Tidv(10)),
                (0, Tadv(12)),
                (MS, TxIde),
                (MS + 8 * US, TxIde),
                (MS + 9 * US, Tadv(0)),
            ],
            &[(MS + 18_240, TXDW)],
        ),
        (
            "a running timer keeps its value",
            &[(0, Tidv(10)), (MS, TxIde), (MS + US, Tidv(20))],
            &[(MS + 10_240, TXDW)],
        ),
        (
            "masked while it runs",
            &[(0, Tidv(10)), (MS, TxIde), (MS + US, Mask), (MS + 50 * US, Unmask)],
            &[(MS + 50 * US, TXDW)],
        ),
    ]);
}

#[test]
fn all_five_timers_together() {
    check(&[(
        "each delay decides when its cause is due, ITR when the line may rise for it",
        &[
            (0, Itr(100)), // 25.6 us
            (0, Rdtr(10)),
            (0, Radv(20)),
            (0, Tidv(30)),
            (0, Tadv(40)),
            (MS, Rx),
            (MS, TxIde),
            (MS + 6 * US, Rx),
            (MS + 12 * US, Rx),
            (MS + 18 * US, Rx),    // RADV: 20.48
            (MS + 29 * US, Rx),    // RDTR: 39.24, held until 46.08
            (MS + 30 * US, TxIde), // TADV: 40.96, held with it
            (2 * MS, TxIde),       // TIDV: 30.72
        ],
        &[(MS + 20_480, RXT0), (MS + 46_080, RXT0 | TXDW), (2 * MS + 30_720, TXDW)],
    )]);
}

#[test]
fn a_reset_forgets_whatever_waits() {
    check(&[
        (
            "an interrupt that ITR holds, and the interval",
            &[
                (0, Itr(500)),
                (MS, Rx),
                (MS + US, Rx),
                (MS + 2 * US, Reset),
                (MS + 3 * US, Itr(500)),
                (MS + 4 * US, Rx),
            ],
            &[(MS, RXT0), (MS + 4 * US, RXT0)],
        ),
        (
            "the delay timers and their registers",
            &[
                (0, Rdtr(10)),
                (0, Radv(20)),
                (0, Tidv(10)),
                (0, Tadv(20)),
                (MS, Rx),
                (MS, TxIde),
                (MS + US, Reset),
                (2 * MS, Rx),
                (3 * MS, TxIde),
            ],
            &[(2 * MS, RXT0), (3 * MS, TXDW)],
        ),
    ]);
    let (mut irq, line) = block(true);
    irq.set_itr(500, 0);
    irq.raise(RXT0, MS);
    irq.reset();
    assert!(!line.0.load(Ordering::Relaxed));
    assert_eq!((irq.ims(), irq.icr(), irq.itr(), irq.delays()), (0, 0, 0, [0; 4]));
    assert_eq!((irq.deadline(), irq.raised()), (None, 1), "counters go on");
}

/// The CSB's silent causes: seen in ICR, never a reason to interrupt or to start a timer.
#[test]
fn a_latched_cause_stays_silent() {
    check(&[
        ("by itself", &[(0, Itr(500)), (0, Rdtr(10)), (MS, Latch(RXT0))], &[]),
        ("when unmasked", &[(MS, Mask), (MS, Latch(RXT0)), (2 * MS, Unmask)], &[]),
        (
            "but is read with the next that the guest wants",
            &[(MS, Latch(RXT0)), (2 * MS, Raise(LSC))],
            &[(2 * MS, RXT0 | LSC)],
        ),
        (
            "until it is wanted itself",
            &[(0, Itr(500)), (MS, Rx), (MS + US, Latch(RXT0)), (MS + 2 * US, Rx)],
            &[(MS, RXT0), (MS + 128 * US, RXT0)],
        ),
        (
            "a delay that was asked for ends all the same",
            &[(0, Rdtr(10)), (MS, Rx), (MS + US, Latch(RXT0))],
            &[(MS + 10_240, RXT0)],
        ),
    ]);
}

#[test]
fn the_line_follows_unmasked_causes() {
    let (mut irq, line) = block(true);
    let high = || line.0.load(Ordering::Relaxed);
    irq.mask(RXT0, 0);
    irq.raise(RXT0, 1);
    assert!(!high());
    irq.unmask(RXT0, 2);
    irq.raise(LSC, 3);
    assert!(high());
    irq.clear_causes(RXT0, 4);
    assert!(high(), "LSC is left");
    assert_eq!((irq.read_icr(5), irq.read_icr(6)), (LSC, 0));
    assert!(!high());
    assert_eq!(irq.raised(), 1);
}

#[test]
fn without_moderation_every_event_interrupts_at_once() {
    let mut script =
        vec![(0, Itr(500)), (0, Rdtr(10)), (0, Radv(20)), (0, Tidv(10)), (0, Tadv(20))];
    let mut expected = Vec::new();
    for (step, cause) in [(Rx, RXT0), (TxIde, TXDW), (Tx, TXDW), (Rdtr(FPD), RXT0)] {
        let at = MS + expected.len() as u64 * US;
        script.push((at, step));
        expected.push((at, cause));
    }
    assert_eq!(play(false, 0, &script), expected);
    assert_eq!(play(false, 50 * US, &script), expected);
}

#[test]
fn a_late_host_neither_starves_the_guest_nor_breaks_the_interval() {
    // Packets come while the expired timer has not been served: each ends a group of its own.
    let packets: Vec<_> = (0..4).map(|i| (MS + i * 15 * US, Rx)).collect();
    let script = [&[(0, Rdtr(10))], &packets[..]].concat();
    let expected = [
        (MS + 15 * US, RXT0),
        (MS + 30 * US, RXT0),
        (MS + 45 * US, RXT0),
        (MS + 45 * US + 10_240 + 50 * US, RXT0), // nothing but the late timer is left
    ];
    assert_eq!(play(true, 50 * US, &script), expected);

    // The interval counts from when the late interrupt really rose.
    let packets: Vec<_> = (0..300).map(|i| (MS + i * US, Rx)).collect();
    let script = [&[(0, Itr(500))], &packets[..]].concat();
    let rises: Vec<_> = play(true, 50 * US, &script).iter().map(|rise| rise.0).collect();
    assert_eq!(rises, [MS, MS + 128 * US, MS + 256 * US, MS + 384 * US + 50 * US]);
}

#[test]
fn reading_icr_takes_what_a_late_host_has_not_raised() {
    let (mut irq, line) = block(true);
    irq.set_rdtr(10, 0);
    irq.received(MS);
    assert_eq!(irq.read_icr(MS + 20 * US), RXT0);
    assert!(!line.0.load(Ordering::Relaxed));
    assert_eq!((irq.deadline(), irq.raised()), (None, 0));
}

/// Threads take the time before they take turns.
#[test]
fn a_time_that_is_a_little_old_holds_nothing_without_itr() {
    let (mut irq, _) = block(true);
    irq.raise(RXT0, MS);
    irq.read_icr(MS);
    irq.raise(RXT0, MS - 5);
    assert_eq!((irq.raised(), irq.deadline()), (2, None));
}

fn arrival() -> impl Strategy<Value = (u64, Step)> {
    let step = prop_oneof![Just(Rx), Just(Tx), Just(TxIde), Just(Raise(LSC)), Just(ReadIcr)];
    (0..100 * US, step)
}

proptest! {
    /// Whatever arrives when, on whatever host: edges keep their distance, and every cause is
    /// heard of within its delay, the interval and the host's lateness.
    #[test]
    fn spacing_is_kept_and_nothing_is_lost(
        (itr, rdtr, radv, tidv, tadv) in (0u16..400, 0u16..60, 0u16..60, 0u16..60, 0u16..60),
        late in 0..30 * US,
        gaps in prop::collection::vec(arrival(), 1..80),
    ) {
        let registers = [Itr(itr), Rdtr(rdtr.into()), Radv(radv), Tidv(tidv), Tadv(tadv)];
        let mut script: Vec<_> = registers.into_iter().map(|step| (0, step)).collect();
        let mut now = MS;
        for (gap, step) in gaps {
            now += gap;
            script.push((now, step));
        }
        let rises = play(true, late, &script);
        let interval = u64::from(itr) * ITR_UNIT_NS;
        for pair in rises.windows(2) {
            prop_assert!(pair[1].0 - pair[0].0 >= interval, "{rises:?}");
        }
        // The guest reads ICR by itself only in between: what comes after that must be announced.
        let last_read = script.iter().rev().find(|(_, step)| matches!(step, ReadIcr));
        let after = last_read.map_or(0, |(at, _)| *at);
        let of = |step: Step| match step {
            Rx => Some((RXT0, u64::from(rdtr) * DELAY_UNIT_NS)),
            Tx => Some((TXDW, 0)),
            TxIde => Some((TXDW, u64::from(tidv) * DELAY_UNIT_NS)),
            Raise(causes) => Some((causes, 0)),
            _ => None,
        };
        for (at, cause, delay) in script.iter().filter(|(at, _)| *at > after)
            .filter_map(|(at, step)| of(*step).map(|(cause, delay)| (*at, cause, delay)))
        {
            // Every further packet may restart the delay; none does so after the last.
            let end = now + delay + interval + 2 * late;
            let heard = rises.iter().any(|(rise, causes)| {
                rise + HANDLER >= at && *rise <= end && causes & cause != 0
            });
            prop_assert!(heard, "{cause:#x} of {at} is not among {rises:?}");
        }
    }
}
