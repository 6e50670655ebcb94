//! What the receiving roles have in common: they take what comes, count it, and check its numbers.

use super::{Session, Tally};
use crate::nic::{Nic, Until};
use crate::sequence::Sequence;
use crate::time;

/// Non-empty polls between two looks at the clock while frames keep coming.
const POLLS: u64 = 64;

/// What has been received.
#[derive(Default)]
pub struct Sink {
    sequence: Sequence,
    total: Tally,
    /// Frames or datagrams that are not ours.
    pub foreign: u64,
    /// Non-empty polls.
    batches: u64,
    /// TSC at the first packet.
    first: u64,
    /// TSC at the last packet.
    last: u64,
    /// Packets at the time `last` was taken.
    stamped: u64,
}

impl Sink {
    /// Notes a packet.
    #[inline]
    pub fn note(&mut self, number: u64, bytes: usize) {
        self.sequence.note(number);
        self.total.packets += 1;
        self.total.bytes += bytes as u64;
    }

    /// Notes that a poll took `count` descriptors.
    fn polled(&mut self, count: u32) {
        self.batches += u64::from(count > 0);
        if self.first == 0 && self.total.packets > 0 {
            self.first = time::now();
        }
    }

    /// Notes the time if packets have come since the last call.
    fn stamp(&mut self, now: u64) {
        if self.total.packets > self.stamped {
            self.stamped = self.total.packets;
            self.last = now;
        }
    }
}

/// Receives until the role is over. `poll` takes a batch of what waits,
/// tells the sink, and returns how many descriptors that took; it is given the TSC time, too, as
/// of the last look.
pub fn run<N: Nic>(
    mut session: Session<'_>,
    nic: &mut N,
    mut poll: impl FnMut(&mut N, &mut Sink, u64) -> u32,
) {
    let mut sink = Sink::default();
    let mut now = time::now();
    loop {
        let count = poll(nic, &mut sink, now);
        sink.polled(count);
        // While frames keep coming the clock is looked at rarely, when they pause at once.
        if count > 0 && sink.batches % POLLS != 0 {
            continue;
        }
        now = time::now();
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
    loop {
        let count = poll(nic, &mut sink, now);
        sink.polled(count);
        if count == 0 {
            break;
        }
    }
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
