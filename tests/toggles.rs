mod common;
use labctl::bench::trial::{self, Place};
use labctl::results::TrialKind;

#[test]
fn explore() {
    let Some(kvm) = common::kvm() else { return };
    for kind in TrialKind::ALL {
        for on in common::cells() {
            let lab = common::lab(
                on,
                "defaults: { nics: [{ switch: sw0 }] }\nguests: { left: {}, right: {} }\nbench: { throughput: { from: left, to: right, duration: 150ms }, rr: {from: left, to: right, duration: 150ms} }",
            );
            let bench = lab.bench.as_ref().unwrap();
            let spec = match kind {
                TrialKind::Throughput => bench.throughput.as_ref(),
                _ => bench.rr.as_ref(),
            }
            .unwrap();
            let s =
                common::block_on(trial::run(&kvm, &lab, kind, spec, Place { round: 1, order: 0 }))
                    .unwrap();
            let per = |n: u64| n as f64 / s.received.max(1) as f64;
            let c = &s.counters;
            common::say(&format!(
                "{:>18} {kind:>10} sent {:>8} recv {:>8} exits {:.4} tdt {:.4} rdt {:.4} irq {:.4} tap {:.3} batch {:.2} void {:?}",
                on.to_string(),
                s.sent,
                s.received,
                per(c.total_exits()),
                per(c.tdt_writes),
                per(c.rdt_writes),
                per(c.interrupts),
                per(c.tap_syscalls),
                c.batch_frames as f64 / c.batches.max(1) as f64,
                s.void_reason
            ));
        }
    }
}
