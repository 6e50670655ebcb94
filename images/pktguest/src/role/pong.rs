//! Answers requests.

use super::{Session, Tally};
use crate::frame::{Header, Kind};
use crate::nic::{Nic, Until};
use crate::time;

/// Requests to take before answering them.
const REQUESTS: usize = 16;

/// Answers until the role is over.
pub fn run(mut session: Session<'_>, nic: &mut impl Nic) {
    let mac = nic.mac();
    let mut total = Tally::default();
    let start = time::now();
    loop {
        let mut requests = [const { None }; REQUESTS];
        let mut slots = requests.iter_mut();
        let count = nic.receive(REQUESTS as u32, |frame| {
            let header = frame.header().filter(|header| header.kind == Kind::Ping);
            if let (Some(header), Some(slot)) = (header, slots.next()) {
                *slot = Some((header, frame.len()));
            }
        });
        for (request, len) in requests.into_iter().flatten() {
            let answer = Header { dst: request.src, src: mac, kind: Kind::Pong, ..request };
            while nic.send(1, len, || answer.encode()) == 0 && nic.link_up() {
                nic.wait(Until::Room, session.end);
            }
            total.packets += 1;
            total.bytes += u64::from(len);
        }
        let now = time::now();
        if session.is_over(now, nic) {
            break;
        }
        session.report(now, total);
        if count == 0 {
            nic.wait(Until::Frame, session.wake());
        }
    }
    let elapsed = session.clock.ns(time::now() - start);
    session
        .final_line(nic, total.packets)
        .num("bytes", total.bytes)
        .num("elapsed_ns", elapsed)
        .end();
}
