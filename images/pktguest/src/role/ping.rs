//! Sends requests one at a time and times the answers.

use super::{BATCH, Session, Tally};
use crate::frame::{Header, Kind};
use crate::histogram::Histogram;
use crate::nic::{Nic, Until};
use crate::time;

/// How long to wait for an answer: longer than a busy host leaves a guest without a CPU.
const TIMEOUT_US: u64 = 1_000_000;

/// Sends requests until the count is reached or the role is over.
pub fn run(mut session: Session<'_>, nic: &mut impl Nic) {
    let config = session.config;
    let period = session.clock.ticks(1_000_000).checked_div(config.rate).unwrap_or(0);
    let timeout = session.clock.ticks(TIMEOUT_US);
    let mut histogram = Histogram::new();
    let mut header =
        Header { dst: config.dst, src: nic.mac(), sequence: 0, tsc: 0, kind: Kind::Ping };
    let start = time::now();
    let mut due = start;
    loop {
        let now = time::now();
        if session.is_over(now, nic) || session.is_enough(header.sequence) {
            break;
        }
        let answered = histogram.count();
        let bytes = answered * u64::from(config.frame);
        session.report(now, Tally { packets: answered, bytes });
        if session.is_paused(nic) {
            continue;
        }
        if now < due {
            nic.wait(Until::Deadline, due.min(session.wake()));
            continue;
        }
        due = now.max(due + period);
        header.tsc = now;
        while nic.send(1, config.frame, || header.encode()) == 0 && nic.link_up() {
            nic.wait(Until::Room, now + timeout);
        }
        if let Some(ticks) = answer(nic, header.sequence, now, now + timeout) {
            histogram.record(session.clock.ns(ticks));
        }
        header.sequence += 1;
    }
    let elapsed = session.clock.ns(time::now() - start);
    let (sent, answered) = (header.sequence, histogram.count());
    session
        .final_line(nic, answered)
        .num("bytes", answered * u64::from(config.frame))
        .num("elapsed_ns", elapsed)
        .num("sent", sent)
        .num("lost", sent - answered)
        .num("min_ns", histogram.min())
        .num("p50_ns", histogram.quantile(500))
        .num("p90_ns", histogram.quantile(900))
        .num("p99_ns", histogram.quantile(990))
        .num("p999_ns", histogram.quantile(999))
        .num("max_ns", histogram.max())
        .num("mean_ns", histogram.mean())
        .pairs("histogram", histogram.buckets())
        .end();
}

/// Waits for the answer to request `sequence`, sent at `sent`; returns how many ticks it took.
fn answer(nic: &mut impl Nic, sequence: u64, sent: u64, deadline: u64) -> Option<u64> {
    loop {
        let mut found = false;
        nic.receive(BATCH, |frame| {
            found |= frame.kind() == Some(Kind::Pong) && frame.sequence() == sequence;
        });
        let now = time::now();
        if found {
            return Some(now - sent);
        }
        if now >= deadline || !nic.link_up() {
            return None;
        }
        nic.wait(Until::Frame, deadline);
    }
}
