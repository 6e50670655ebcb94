//! How a driver waits: it polls memory for a while, then has itself interrupted and halts.

use crate::apic::Timer;
use crate::cmdline::Config;
use crate::console;
use crate::irq::Events;
use crate::time::{self, Clock};

/// A halt may overshoot by this much, so what is due sooner is spun for.
const HALT_US: u64 = 100;

/// How long to poll, and what it takes to halt.
pub struct Patience {
    timer: Timer,
    /// TSC ticks to poll memory before halting.
    spin: u64,
    /// TSC ticks that a halt may overshoot by.
    overshoot: u64,
    /// Whether waiting for anything else than the link is in vain while that is down.
    ends_unplugged: bool,
    /// Times the CPU was halted.
    pub halts: u64,
}

impl Patience {
    /// Polls for as long as `config` says.
    pub fn new(clock: Clock, timer: Timer, config: &Config) -> Self {
        Self {
            timer,
            spin: clock.ticks(config.spin_us),
            overshoot: clock.ticks(HALT_US),
            ends_unplugged: config.ends_unplugged,
            halts: 0,
        }
    }
}

/// What a wait is for, besides its deadline and perhaps the link's end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// A frame has arrived.
    Frame,
    /// The transmit ring has room.
    Room,
    /// All frames have been transmitted.
    Sent,
    /// The link is up.
    Link,
    /// Nothing else.
    Deadline,
}

impl Until {
    /// Whether the device's transmit side brings it about.
    pub fn is_transmit(self) -> bool {
        matches!(self, Self::Room | Self::Sent)
    }

    /// Whether it can come at any moment, so that polling may pay.
    pub fn is_polled(self) -> bool {
        matches!(self, Self::Frame | Self::Room | Self::Sent)
    }
}

/// What waiting takes of a driver.
pub trait Wakeable {
    /// Whether the link was up when last heard of.
    fn link_up(&self) -> bool;

    /// Services the interrupt, if there was one.
    fn service(&mut self);

    /// Its patience.
    fn patience(&mut self) -> &mut Patience;

    /// Whether what is waited for is there.
    fn reached(&mut self, until: Until) -> bool;

    /// Asks for an interrupt when `until` may have come; what comes after this call is either seen
    /// by [`reached`](Self::reached) or interrupts.
    fn arm(&mut self, until: Until);

    /// Asks for no more interrupts but those of the link.
    fn disarm(&mut self);

    /// Whether what is waited for will not come, because the link is down and the guest ends with it.
    fn is_moot(&mut self, until: Until) -> bool {
        self.patience().ends_unplugged && !self.link_up() && until != Until::Link
    }
}

/// Waits for `until`, for TSC time `deadline`, for something typed on the console, or, if the guest ends
/// with its link, for that to go down: polls memory for a while, then arms the interrupt and halts. May return a little early.
pub fn wait(driver: &mut impl Wakeable, until: Until, deadline: u64) {
    let patience = driver.patience();
    let overshoot = patience.overshoot;
    let spin_end = if until.is_polled() { time::now() + patience.spin } else { 0 };
    loop {
        if driver.reached(until) {
            return;
        }
        driver.service();
        let now = time::now();
        if now >= deadline || driver.is_moot(until) || console::is_typed() {
            return;
        }
        let soon = deadline - now < overshoot;
        if now >= spin_end && !soon {
            break;
        }
        core::hint::spin_loop();
    }
    driver.arm(until);
    // A little before the deadline: the next `wait` spins for the rest.
    halt(driver, until, deadline.saturating_sub(overshoot), deadline != u64::MAX);
    driver.disarm();
}

fn halt(driver: &mut impl Wakeable, until: Until, wake: u64, is_limited: bool) {
    loop {
        let events = Events::now();
        // First the rings: to service an interrupt may be slow, and not be worth it any more.
        if driver.reached(until) {
            return;
        }
        driver.service();
        let is_over = driver.is_moot(until) || console::is_typed() || time::now() >= wake;
        if is_over || driver.reached(until) {
            return;
        }
        let patience = driver.patience();
        if is_limited {
            patience.timer.ensure(wake);
        }
        patience.halts += 1;
        events.halt();
    }
}
