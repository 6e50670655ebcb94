//! Sends frames as fast as possible or at a rate.

use super::{Session, Tally};
use crate::frame::{Header, Kind};
use crate::nic::{Nic, Until};
use crate::time;

/// Frames between two looks at the clock when sending as fast as possible.
const CHUNK: u32 = 64;
/// How far a paced sender may fall behind and still catch up.
const MAX_LAG_US: u64 = 10_000;
/// How long the device may take over the last frames.
const FINISH_US: u64 = 1_000_000;

/// Sends until the count is reached, the time is over or the link goes down.
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
        if now < pace.due(now) {
            nic.wait(Until::Deadline, pace.due(now).min(session.wake()));
            continue;
        }
        header.tsc = now;
        let mut left = match config.count {
            0 => u64::MAX,
            count => count - sent,
        }
        .min(if config.rate == 0 { CHUNK.max(burst) } else { burst }.into())
            as u32;
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

/// When the next frames are due.
struct Pace {
    /// TSC ticks between two frames, in 2^-16ths; 0: as fast as possible.
    step: u64,
    /// In 2^-16ths of a TSC tick since `base`.
    offset: u64,
    base: u64,
    max_lag: u64,
}

impl Pace {
    fn new(session: &Session<'_>) -> Self {
        let step = match session.config.rate {
            0 => 0,
            rate => ((u128::from(session.clock.khz()) * 1000) << 16) / u128::from(rate),
        };
        let max_lag = session.clock.ticks(MAX_LAG_US);
        Self { step: step as u64, offset: 0, base: time::now(), max_lag }
    }

    /// The TSC time the next frame is due at, seen at time `now`.
    fn due(&mut self, now: u64) -> u64 {
        if self.step == 0 {
            return 0;
        }
        // Whole ticks move into the base, so the fraction never overflows.
        self.base += self.offset >> 16;
        self.offset &= 0xffff;
        self.base = self.base.max(now.saturating_sub(self.max_lag));
        self.base
    }

    /// `frames` more were sent.
    fn advance(&mut self, frames: u64) {
        self.offset += self.step * frames;
    }
}
