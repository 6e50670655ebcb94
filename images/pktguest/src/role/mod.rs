//! What the guest does once its NIC works.

mod forward;
mod icmp;
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
use crate::console::{self, Command, Console};
use crate::json::Object;
use crate::nic::{Counters, Nic, Until};
use crate::serial::Serial;
use crate::time::{self, Clock};
use crate::wait::{self, Wakeable};
pub use forward::Bridge;

/// Frames to take from the driver at a time.
const BATCH: u32 = 64;
/// Packets between two looks at the clock when sending as fast as possible.
const CHUNK: u64 = 64;
/// How long the device may take over the last frames.
const FINISH_US: u64 = 1_000_000;

/// Waits for the link, then plays the configured role to its end.
pub fn run(mut session: Session<'_>, nic: &mut impl Nic) {
    session.begin(nic);
    // The first frame of a guest that starts a conversation announces it, too.
    if !starts(session.config) {
        nic.announce();
    }
    match session.config.role {
        Role::Tx => tx::run(session, nic),
        Role::Rx => rx::run(session, nic),
        Role::Ping => ping::run(session, nic),
        Role::Pong => pong::run(session, nic),
        Role::Idle => idle::run(session, nic),
        Role::UdpTx => udp_tx::run(session, nic),
        Role::UdpRx => udp_rx::run(session, nic),
        Role::TcpTx => tcp_tx::run(session, nic),
        Role::TcpRx => tcp_rx::run(session, nic),
        Role::Icmp => icmp::run(session, nic),
        // What takes two NICs does not come here.
        Role::Forward => (),
    }
}

/// As [`run`], with two NICs.
pub fn forward(mut session: Session<'_>, bridge: &mut Bridge) {
    session.begin(bridge);
    forward::run(session, bridge);
}

/// Whether a guest sends without having been asked.
fn starts(config: &Config) -> bool {
    let sends = matches!(config.role, Role::Tx | Role::Ping | Role::UdpTx | Role::TcpTx);
    sends || config.role == Role::Icmp && config.to_ip.is_some()
}

/// What roles share: configuration, clock, the end, and reports.
pub struct Session<'a> {
    config: &'a Config,
    clock: Clock,
    serial: &'a mut Serial,
    console: &'a mut Console,
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
    /// What a guest so configured does, reporting on `serial` and listening to `console`.
    pub fn new(
        config: &'a Config,
        clock: Clock,
        serial: &'a mut Serial,
        console: &'a mut Console,
    ) -> Self {
        let (start, never) = (time::now(), u64::MAX);
        let reported = Tally::default();
        Self { config, clock, serial, console, start, end: never, next_report: never, reported }
    }

    /// Waits for the link; time counts from then on.
    fn begin(&mut self, nic: &mut impl Wakeable) {
        while !nic.reached(Until::Link) && self.end == u64::MAX {
            wait::wait(nic, Until::Link, u64::MAX);
            self.report(time::now(), Tally::default());
        }
        self.start = time::now();
        let after = |ms| {
            if ms == 0 { u64::MAX } else { self.start + self.clock.ticks(1000 * ms) }
        };
        // Not if the console has ended the role before it began.
        self.end = self.end.min(after(self.config.duration_ms));
        self.next_report = after(self.config.interval_ms);
    }

    /// Whether the role is over at TSC time `now`: its time is, or somebody has said so, or its link
    /// is down and was to end it.
    fn is_over(&self, now: u64, nic: &impl Wakeable) -> bool {
        now >= self.end || self.config.ends_unplugged && !nic.link_up()
    }

    /// Whether the link is down. If so, sleeps until it is up or the role has something else to do.
    /// For those who send by themselves: what others wait for does not come meanwhile.
    fn is_paused(&self, nic: &mut impl Wakeable) -> bool {
        let is_down = !nic.link_up();
        if is_down {
            wait::wait(nic, Until::Link, self.wake());
        }
        is_down
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

    /// Prints an interval line if it is due, and does what was typed.
    #[inline]
    fn report(&mut self, now: u64, total: Tally) {
        if now >= self.next_report {
            self.print_interval(now, total);
        }
        if console::is_typed() {
            self.listen(now, total);
        }
    }

    #[cold]
    fn listen(&mut self, now: u64, total: Tally) {
        while let Some(command) = self.console.command(self.serial) {
            match command {
                Command::Stats => {
                    let t_ms = self.clock.ns(now - self.start) / 1_000_000;
                    self.event("stats")
                        .num("t_ms", t_ms)
                        .num("packets", total.packets)
                        .num("bytes", total.bytes)
                        .end();
                }
                // In the past.
                Command::Stop => self.end = 0,
            }
        }
    }

    /// Begins a line of its own, whatever is being typed.
    fn event(&mut self, name: &str) -> Object<'_, Serial> {
        self.serial.end_line();
        Object::event(self.serial, name)
    }

    #[cold]
    fn print_interval(&mut self, now: u64, total: Tally) {
        let t_ms = self.clock.ns(now - self.start) / 1_000_000;
        let reported = self.reported;
        self.event("interval")
            .num("t_ms", t_ms)
            .num("packets", total.packets - reported.packets)
            .num("bytes", total.bytes - reported.bytes)
            .end();
        self.console.echo(self.serial);
        self.reported = total;
        let step = self.clock.ticks(1000 * self.config.interval_ms);
        while self.next_report <= now {
            self.next_report += step;
        }
    }

    /// Stops the NIC and starts the final line with what all roles report.
    fn final_line(&mut self, nic: &mut impl Nic, packets: u64) -> Object<'_, Serial> {
        nic.finish();
        self.account(nic.counters(), packets)
    }

    /// Starts the final line with what all roles report.
    fn account(&mut self, counters: Counters, packets: u64) -> Object<'_, Serial> {
        let role = self.config.role.name();
        self.event("final")
            .str("role", role)
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
