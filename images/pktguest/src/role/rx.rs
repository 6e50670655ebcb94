//! Counts frames and checks their sequence numbers.

use super::{BATCH, Session, Tally};
use crate::frame::Kind;
use crate::nic::{Nic, Until};
use crate::sequence::Sequence;
use crate::time;

/// Non-empty polls between two looks at the clock while frames keep coming.
const POLLS: u64 = 64;

/// Receives until the link goes down or the time is over.
pub fn run(mut session: Session<'_>, nic: &mut impl Nic) {
    let mut sink = Sink::default();
    loop {
        let count = sink.poll(nic);
        // While frames keep coming the clock is looked at rarely, when they pause at once.
        if count > 0 && sink.batches % POLLS != 0 {
            continue;
        }
        let now = time::now();
        sink.stamp(now);
        nic.service();
        if session.is_over(now, nic) {
            break;
        }
        session.report(now, sink.total);
        if count == 0 {
            nic.wait(Until::Frame, session.wake());
        }
    }
    // What the device has delivered counts, however late we look.
    nic.stop_receiving();
    while sink.poll(nic) > 0 {}
    sink.stamp(time::now());

    let elapsed = session.clock.ns(sink.last - sink.first);
    session
        .final_line(nic, sink.total.packets)
        .num("bytes", sink.total.bytes)
        .num("elapsed_ns", elapsed)
        .num("next", sink.sequence.next())
        .num("lost", sink.sequence.lost())
        .num("reordered", sink.sequence.reordered())
        .num("duplicates", sink.sequence.duplicates())
        .num("foreign", sink.foreign)
        .num("batches", sink.batches)
        .end();
}

/// What has been received.
#[derive(Default)]
struct Sink {
    sequence: Sequence,
    total: Tally,
    /// Frames that are not ours.
    foreign: u64,
    /// Non-empty polls.
    batches: u64,
    /// TSC at the first test frame.
    first: u64,
    /// TSC at the last test frame.
    last: u64,
    /// Packets at the time `last` was taken.
    stamped: u64,
}

impl Sink {
    /// Takes what waits, up to a batch; returns how many descriptors that took.
    #[inline]
    fn poll(&mut self, nic: &mut impl Nic) -> u32 {
        let count = nic.receive(BATCH, |frame| match frame.kind() {
            Some(Kind::Data) => {
                self.sequence.note(frame.sequence());
                self.total.packets += 1;
                self.total.bytes += u64::from(frame.len());
            }
            Some(Kind::Announce) => (),
            _ => self.foreign += 1,
        });
        self.batches += u64::from(count > 0);
        if self.first == 0 && self.total.packets > 0 {
            self.first = time::now();
        }
        count
    }

    /// Notes the time if test frames have come since the last call.
    fn stamp(&mut self, now: u64) {
        if self.total.packets > self.stamped {
            self.stamped = self.total.packets;
            self.last = now;
        }
    }
}
