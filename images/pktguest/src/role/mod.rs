//! What the guest does once its NIC works.

mod idle;
mod pace;
mod ping;
mod pong;
mod rx;
mod sink;
mod tcp_rx;
mod tcp_tx;
mod tx;
mod udp_rx;
mod udp_tx;

use crate::cmdline::{Config, Role};
use crate::json::Object;
use crate::nic::{Nic, Until};
use crate::serial::Serial;
use crate::time::{self, Clock};

/// Frames to take from the driver at a time.
const BATCH: u32 = 64;
/// Packets between two looks at the clock when sending as fast as possible.
const CHUNK: u64 = 64;
/// How long the device may take over the last frames.
const FINISH_US: u64 = 1_000_000;

/// Waits for the link, then plays the configured role to its end.
pub fn run(config: &Config, clock: Clock, nic: &mut impl Nic, serial: &mut Serial) {
    while !nic.link_up() {
        nic.wait(Until::Link, u64::MAX);
    }
    // The first frame of a guest that starts a conversation announces it, too.
    if !starts(config.role) {
        nic.announce();
    }
    let session = Session::new(config, clock, serial);
    match config.role {
        Role::Tx => tx::run(session, nic),
        Role::Rx => rx::run(session, nic),
        Role::Ping => ping::run(session, nic),
        Role::Pong => pong::run(session, nic),
        Role::Idle => idle::run(session, nic),
        Role::UdpTx => udp_tx::run(session, nic),
        Role::UdpRx => udp_rx::run(session, nic),
        Role::TcpTx => tcp_tx::run(session, nic),
        Role::TcpRx => tcp_rx::run(session, nic),
    }
}

/// Whether a role sends without having been asked.
fn starts(role: Role) -> bool {
    matches!(role, Role::Tx | Role::Ping | Role::UdpTx | Role::TcpTx)
}

/// What roles share: configuration, clock, the end, and reports.
struct Session<'a> {
    config: &'a Config,
    clock: Clock,
    serial: &'a mut Serial,
    start: u64,
    /// TSC time to stop at; `u64::MAX`: never.
    end: u64,
    /// TSC time of the next interval report; `u64::MAX`: none.
    next_report: u64,
    reported: Tally,
}

/// Packets and bytes so far.
#[derive(Clone, Copy, Default)]
struct Tally {
    packets: u64,
    bytes: u64,
}

impl<'a> Session<'a> {
    fn new(config: &'a Config, clock: Clock, serial: &'a mut Serial) -> Self {
        let start = time::now();
        let after = |ms| {
            if ms == 0 { u64::MAX } else { start + clock.ticks(1000 * ms) }
        };
        Self {
            config,
            clock,
            serial,
            start,
            end: after(config.duration_ms),
            next_report: after(config.interval_ms),
            reported: Tally::default(),
        }
    }

    /// Whether the role is over at TSC time `now`.
    fn is_over(&self, now: u64, nic: &impl Nic) -> bool {
        now >= self.end || !nic.link_up()
    }

    /// Whether `done` is the configured count.
    fn is_enough(&self, done: u64) -> bool {
        self.config.count != 0 && done >= self.config.count
    }

    /// How many packets to send after `done` before the next look at the clock: no more than are left
    /// of the configured count; one burst at a rate, and more if there is none to keep.
    fn chunk(&self, done: u64) -> u64 {
        let burst = u64::from(self.config.burst);
        let chunk = if self.config.rate == 0 { burst.max(CHUNK) } else { burst };
        match self.config.count {
            0 => chunk,
            count => chunk.min(count.saturating_sub(done)),
        }
    }

    /// The next TSC time at which the role has something to do of itself.
    fn wake(&self) -> u64 {
        self.end.min(self.next_report)
    }

    /// Prints an interval line if it is due.
    #[inline]
    fn report(&mut self, now: u64, total: Tally) {
        if now >= self.next_report {
            self.print_interval(now, total);
        }
    }

    #[cold]
    fn print_interval(&mut self, now: u64, total: Tally) {
        Object::event(self.serial, "interval")
            .num("t_ms", self.clock.ns(now - self.start) / 1_000_000)
            .num("packets", total.packets - self.reported.packets)
            .num("bytes", total.bytes - self.reported.bytes)
            .end();
        self.reported = total;
        let step = self.clock.ticks(1000 * self.config.interval_ms);
        while self.next_report <= now {
            self.next_report += step;
        }
    }

    /// Stops the NIC and starts the final line with what all roles report.
    fn final_line(&mut self, nic: &mut impl Nic, packets: u64) -> Object<'_, Serial> {
        nic.finish();
        let counters = nic.counters();
        Object::event(self.serial, "final")
            .str("role", self.config.role.name())
            .num("packets", packets)
            .num("tdt_writes", counters.tx_doorbells)
            .num("rdt_writes", counters.rx_doorbells)
            .num("interrupts", counters.interrupts)
            .num("icr_reads", counters.cause_reads)
            .num("halts", counters.halts)
            .num("tx_frames", counters.tx_frames)
            .num("rx_frames", counters.rx_frames)
    }
}
