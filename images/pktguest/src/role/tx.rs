//! Sends frames as fast as possible or at a rate.

use super::pace::Pace;
use super::{FINISH_US, Session, Tally};
use crate::frame::{Header, Kind};
use crate::nic::{Nic, Until};
use crate::time;

/// Sends until the count is reached or the role is over.
pub fn run(mut session: Session<'_>, nic: &mut impl Nic) {
    let config = session.config;
    let (burst, len) = (u32::from(config.burst), config.frame);
    let bytes = |packets| packets * u64::from(len);
    let mut header =
        Header { dst: config.dst, src: nic.mac(), sequence: 0, tsc: 0, kind: Kind::Data };
    let mut pace = Pace::new(&session);
    let mut ring_full = 0u64;
    let start = time::now();
    loop {
        nic.service();
        nic.discard_received();
        let sent = header.sequence;
        let now = time::now();
        if session.is_over(now, nic) || session.is_enough(sent) {
            break;
        }
        session.report(now, Tally { packets: sent, bytes: bytes(sent) });
        if session.is_paused(nic) {
            continue;
        }
        if now < pace.due(now) {
            nic.wait(Until::Deadline, pace.due(now).min(session.wake()));
            continue;
        }
        header.tsc = now;
        let mut left = session.chunk(sent) as u32;
        while left > 0 {
            let taken = nic.send(left.min(burst), len, || {
                let words = header.encode();
                header.sequence += 1;
                words
            });
            if taken == 0 {
                ring_full += 1;
                nic.wait(Until::Room, session.end);
                break;
            }
            left -= taken;
        }
        pace.advance(header.sequence - sent);
    }
    let limit = time::now() + session.clock.ticks(FINISH_US);
    while nic.unsent() > 0 && nic.link_up() && time::now() < limit {
        nic.wait(Until::Sent, limit);
    }
    let elapsed = session.clock.ns(time::now() - start);
    let sent = header.sequence;
    let unsent = nic.unsent();
    session
        .final_line(nic, sent)
        .num("bytes", bytes(sent))
        .num("elapsed_ns", elapsed)
        .num("ring_full", ring_full)
        .num("unsent", unsent)
        .end();
}
