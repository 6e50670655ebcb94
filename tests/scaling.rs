//! Many guests on one switch: those that rest cost next to nothing, and those that work share.

mod common;

use std::time::Duration;

use labctl::bench::trial::{self, Turn, cpu_time};
use labctl::lab::RunningLab;
use labctl::optimizations::Optimizations;
use labctl::plan::Plan;
use labctl::results::TrialKind;
use labctl::topology::Lab;

/// As many as there are in the largest labs that are measured.
const GUESTS: usize = 16;

/// How long the resting lab is watched.
const WATCH: Duration = Duration::from_secs(1);

/// A lab of guests that all do the same.
fn lab(role: &str) -> Lab {
    let guests: String = (0..GUESTS).map(|guest| format!("  g{guest}: {{}}\n")).collect();
    common::lab(
        Optimizations::ALL,
        &format!(
            "defaults: {{ memory: 48MiB, ring: 1024, nics: [{{ switch: sw0 }}], \
             workload: {{ role: {role} }} }}\nguests:\n{guests}"
        ),
    )
}

/// CPU time of this process, as a share of one core, while a lab rests.
fn resting_share(kvm: &common::Kvm, role: &str) -> f64 {
    common::block_on(async {
        let mut running = RunningLab::start(kvm, &lab(role)).await.expect("the lab starts");
        running.ready().await.expect("the guests boot");
        running.set_links(true);
        // They announce themselves, and find out that there is nothing to do.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = cpu_time();
        tokio::time::sleep(WATCH).await;
        let share = (cpu_time() - before).as_secs_f64() / WATCH.as_secs_f64();
        running.stop();
        share
    })
}

const PAIRS: &str = "\
defaults: { ring: 1024, memory: 48MiB, nics: [{ switch: sw0 }] }
guests: { s1: {}, r1: {}, s2: {}, r2: {}, s3: {}, r3: {}, s4: {}, r4: {} }
bench:
  throughput:
    from: s1
    to: r1
    also: [{ from: s2, to: r2 }, { from: s3, to: r3 }, { from: s4, to: r4 }]
    duration: 300ms
  cells: { three: { throughput: { pairs: 3 } } }";

/// Frames that go astray, are counted twice or vanish make the trial void.
#[test]
fn pairs_send_at_once_and_every_packet_is_accounted_for() {
    let Some(kvm) = common::kvm() else { return };
    let lab = common::lab(Optimizations::ALL, PAIRS);
    let plan = Plan::new(lab.bench.as_ref().expect("an experiment"), false, 1);
    let of_three = &plan.cells[0].lab;
    assert_eq!(of_three.guests.len(), 6, "the fourth pair is not there");
    let spec =
        of_three.bench.as_ref().and_then(|bench| bench.throughput.as_ref()).expect("a trial");
    let turn = Turn { round: 1, order: 0 };
    let trial = trial::run(&kvm, of_three, TrialKind::Throughput, spec, turn);
    let sample = common::block_on(trial).expect("the trial runs");
    assert_eq!(sample.void_reason, None);
    assert!(sample.conserved && sample.adds_up(), "{sample:?}");
    assert_eq!(sample.per_pair_mpps.len(), 3);
    assert!(sample.jain().is_some_and(|index| index > 0.4), "one starves: {sample:?}");
}

#[test]
fn resting_guests_use_next_to_no_cpu() {
    let Some(kvm) = common::kvm() else { return };
    for role in ["idle", "rx"] {
        let share = resting_share(&kvm, role);
        common::say(&format!("{GUESTS} guests, role {role}: {:.2} % of a core", share * 100.0));
        assert!(share < 0.1, "role {role}: {share}");
    }
}
