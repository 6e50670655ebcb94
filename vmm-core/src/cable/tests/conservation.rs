//! Whatever is done to a cable, no frame is lost without a count.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Deliver(Vec<u8>),
    Pass(u64),
    Impair(Impairments),
    Plug(bool),
    Refuse(usize),
    Watch(bool),
}

fn share() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.0..=1.0, Just(1.0)]
}

fn impairments() -> impl Strategy<Value = Impairments> {
    let rate = prop_oneof![Just(0), 100_000..100_000_000_u64];
    (0..5_u64, 0..5_u64, share(), share(), share(), rate, 1..50_u32).prop_map(
        |(delay, jitter, loss, duplicate, reorder, rate_bps, limit)| Impairments {
            delay: Duration::from_millis(delay),
            jitter: Duration::from_millis(jitter.min(delay)),
            loss,
            duplicate,
            reorder: if delay == 0 { 0.0 } else { reorder },
            rate_bps,
            limit,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let tags = || prop::collection::vec(any::<u8>(), 1..30);
    prop_oneof![
        4 => tags().prop_map(Step::Send),
        4 => tags().prop_map(Step::Deliver),
        4 => (0..3 * MS).prop_map(Step::Pass),
        2 => impairments().prop_map(Step::Impair),
        1 => Just(Step::Impair(Impairments::default())),
        1 => any::<bool>().prop_map(Step::Plug),
        1 => (0..5_usize).prop_map(Step::Refuse),
        1 => any::<bool>().prop_map(Step::Watch),
    ]
}

proptest! {
    #[test]
    fn frames_are_conserved(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new();
        let (mut capture, mut sent, mut delivered) = (None, 0, 0);
        let mut taken = 0;
        for step in steps {
            match step {
                Step::Send(tags) => {
                    bench.send(&tags);
                    sent += tags.len() as u64;
                }
                Step::Deliver(tags) => {
                    let before = bench.cable.counters(End::B);
                    let got = bench.deliver(&tags);
                    let after = bench.cable.counters(End::B);
                    prop_assert!(got <= tags.len());
                    taken += got as u64;
                    delivered += tags.len() as u64;
                    let gone = after.delivered + after.held - before.delivered - before.held;
                    prop_assert!(got as u64 <= gone, "{got} {gone}");
                }
                Step::Pass(ns) => bench.pass(ns),
                Step::Impair(impairments) => bench.impair(impairments),
                Step::Plug(plugged) => bench.cable.set_plugged(plugged),
                Step::Refuse(count) => bench.nic.refuses.store(count, Relaxed),
                Step::Watch(true) => {
                    capture = Some(bench.cable.capture(End::B, CaptureLimits::default()).unwrap());
                }
                Step::Watch(false) => capture = None,
            }
            let [forth, back] = bench.audit();
            prop_assert_eq!((forth.frames, back.frames), (sent, delivered));
            prop_assert_eq!(bench.port.got.lock().len() as u64, forth.delivered);
            prop_assert_eq!(bench.nic.got.lock().len() as u64, back.delivered);
        }
        drop(capture);
        bench.impair(Impairments::default());
        bench.pass(0);
        let [forth, back] = bench.audit();
        prop_assert_eq!((forth.held, back.held), (0, 0), "everything comes out in the end");
        prop_assert!(taken <= delivered);
    }
}
