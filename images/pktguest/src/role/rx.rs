//! Counts frames and checks their sequence numbers.

use super::{BATCH, Session, Tally};
use crate::e1000::{Nic, Until};
use crate::frame::Kind;
use crate::sequence::Sequence;
use crate::time;

/// Non-empty polls between two looks at the clock while frames keep coming.
const POLLS: u64 = 64;

pub fn run(mut session: Session<'_>, nic: &mut Nic) {
    let mut sequence = Sequence::default();
    let mut total = Tally::default();
    let (mut foreign, mut batches) = (0u64, 0u64);
    let (mut first, mut last, mut stamped) = (0u64, 0u64, 0u64);
    loop {
        let count = nic.receive(BATCH, |frame| match frame.kind() {
            Some(Kind::Data) => {
                sequence.note(frame.sequence());
                total.packets += 1;
                total.bytes += u64::from(frame.len());
            }
            Some(Kind::Announce) => (),
            _ => foreign += 1,
        });
        batches += u64::from(count > 0);
        if total.packets > 0 && first == 0 {
            first = time::now();
            last = first;
        }
        // While frames keep coming the clock is looked at rarely, when they pause at once.
        if count > 0 && batches % POLLS != 0 {
            continue;
        }
        let now = time::now();
        if total.packets > stamped {
            (last, stamped) = (now, total.packets);
        }
        nic.service();
        if session.is_over(now, nic) {
            break;
        }
        session.report(now, total);
        if count == 0 {
            nic.wait(Until::Frame, session.wake());
        }
    }
    let elapsed = session.clock.ns(last - first);
    session
        .final_line(nic, total.packets)
        .num("bytes", total.bytes)
        .num("elapsed_ns", elapsed)
        .num("lost", sequence.lost())
        .num("reordered", sequence.reordered())
        .num("duplicates", sequence.duplicates())
        .num("foreign", foreign)
        .num("batches", batches)
        .end();
}
