//! Interrupt causes, masks and moderation.
//!
//! The line is high while an unmasked cause is latched in ICR, as for any level-triggered PCI
//! device. Moderation decides *when* it may rise: ITR spaces rising edges (manual 13.4.18), and the
//! receive (RDTR, RADV, manual 3.2.7.1) and transmit (TIDV, TADV, manual 3.4.3.1) delay timers hold
//! a cause back until a group of packets is complete. The first interrupt after a quiet time is
//! never delayed by ITR.
//!
//! The host may serve a timer late, never early: what was due by then happens first, whatever is
//! called, and spacing counts from when an interrupt really rose. So lateness costs interrupts,
//! but none comes sooner than the manual guarantees.

use std::sync::Arc;

use super::regs::cause;
use crate::irq::InterruptLine;

/// One ITR unit in nanoseconds (manual 13.4.18).
pub const ITR_UNIT_NS: u64 = 256;
/// One RDTR, RADV, TIDV or TADV unit in nanoseconds (manual 13.4.30).
pub const DELAY_UNIT_NS: u64 = 1024;

/// A packet timer, restarted by every packet, with an absolute limit counted from the first.
///
/// A timer runs with the value that it was started with; a new one counts from the next packet.
#[derive(Debug, Default)]
struct DelayTimer {
    packet_units: u16,
    absolute_units: u16,
    packet_deadline: Option<u64>,
    absolute_deadline: Option<u64>,
}

impl DelayTimer {
    /// Notes a packet. True if its cause is due at once.
    fn packet(&mut self, now: u64) -> bool {
        if self.packet_units == 0 {
            self.cancel();
            return true;
        }
        self.packet_deadline = Some(now + u64::from(self.packet_units) * DELAY_UNIT_NS);
        if self.absolute_units != 0 && self.absolute_deadline.is_none() {
            self.absolute_deadline = Some(now + u64::from(self.absolute_units) * DELAY_UNIT_NS);
        }
        false
    }

    /// Sets the absolute limit; 0 disables it, at once (manual 3.2.7.1.2, 13.4.44).
    fn set_absolute(&mut self, units: u16) {
        self.absolute_units = units;
        if units == 0 {
            self.absolute_deadline = None;
        }
    }

    fn deadline(&self) -> Option<u64> {
        [self.packet_deadline, self.absolute_deadline].into_iter().flatten().min()
    }

    /// True once when either timer has run out; both then stop.
    fn expired(&mut self, now: u64) -> bool {
        let expired = self.deadline().is_some_and(|at| at <= now);
        if expired {
            self.cancel();
        }
        expired
    }

    fn cancel(&mut self) {
        self.packet_deadline = None;
        self.absolute_deadline = None;
    }
}

/// The interrupt block of one NIC.
pub struct Interrupts {
    line: Arc<dyn InterruptLine>,
    moderate: bool,
    icr: u32,
    ims: u32,
    /// Latched causes that the guest asked to be told of; the CSB keeps others silent.
    wanted: u32,
    high: bool,
    itr: u16,
    /// When the line last rose.
    last_rise: Option<u64>,
    rx_delay: DelayTimer,
    tx_delay: DelayTimer,
    raised: u64,
}

impl Interrupts {
    /// A silent interrupt block. Without `moderate` every timer reads as written and does nothing.
    pub fn new(line: Arc<dyn InterruptLine>, moderate: bool) -> Self {
        Self {
            line,
            moderate,
            icr: 0,
            ims: 0,
            wanted: 0,
            high: false,
            itr: 0,
            last_rise: None,
            rx_delay: DelayTimer::default(),
            tx_delay: DelayTimer::default(),
            raised: 0,
        }
    }

    /// Latches `causes` and interrupts, within the limits of mask and moderation.
    pub fn raise(&mut self, causes: u32, now: u64) {
        self.note(causes);
        self.update(now);
    }

    /// Latches `causes` without interrupting: the guest said through the CSB that it is awake.
    pub fn latch(&mut self, causes: u32) {
        self.icr |= causes;
    }

    /// Frames were written to the receive ring: RXT0, now or when the receive timers say.
    pub fn received(&mut self, now: u64) {
        self.expire(now);
        if !self.moderate || self.rx_delay.packet(now) {
            self.note(cause::RXT0);
        }
        self.update(now);
    }

    /// RXT0 now, and the receive timers stop: the guest flushed them, or a small packet needs no
    /// company to be announced (SRPD, manual 3.2.7.2).
    pub fn end_receive_delay(&mut self, now: u64) {
        self.rx_delay.cancel();
        self.raise(cause::RXT0, now);
    }

    /// Transmit descriptors were written back: TXDW, now or, if all of them asked for it with IDE,
    /// when the transmit timers say.
    pub fn transmitted(&mut self, delayed: bool, now: u64) {
        self.expire(now);
        if !self.moderate || !delayed || self.tx_delay.packet(now) {
            self.tx_delay.cancel();
            self.note(cause::TXDW);
        }
        self.update(now);
    }

    /// Runs what is due at `now`.
    pub fn on_timer(&mut self, now: u64) {
        self.expire(now);
        self.update(now);
    }

    /// When [`on_timer`](Self::on_timer) must next be called.
    pub fn deadline(&self) -> Option<u64> {
        let held = (self.pending() && !self.high).then(|| self.window_end());
        [held, self.rx_delay.deadline(), self.tx_delay.deadline()].into_iter().flatten().min()
    }

    /// ICR: reading clears it and lowers the line (manual 13.4.17).
    pub fn read_icr(&mut self, now: u64) -> u32 {
        // Without raising the line: the guest would be interrupted for what it is reading.
        self.expire(now);
        let icr = self.icr;
        self.clear_causes(icr, now);
        icr
    }

    /// ICR as ICS shows it: without side effect.
    pub fn icr(&self) -> u32 {
        self.icr
    }

    /// Clears causes, as a write to ICR does.
    pub fn clear_causes(&mut self, causes: u32, now: u64) {
        self.icr &= !causes;
        self.wanted &= !causes;
        self.update(now);
    }

    /// The interrupt mask.
    pub fn ims(&self) -> u32 {
        self.ims
    }

    /// Sets mask bits (IMS).
    pub fn unmask(&mut self, bits: u32, now: u64) {
        self.ims |= bits & cause::ALL;
        self.update(now);
    }

    /// Clears mask bits (IMC).
    pub fn mask(&mut self, bits: u32, now: u64) {
        self.ims &= !bits;
        self.update(now);
    }

    /// ITR in its 256 ns units.
    pub fn itr(&self) -> u16 {
        self.itr
    }

    /// Sets ITR, at once: the interval counts from the last interrupt, also from an earlier one
    /// (manual 13.4.18). 0 turns spacing off.
    pub fn set_itr(&mut self, units: u16, now: u64) {
        self.itr = units;
        self.update(now);
    }

    /// Sets RDTR. 0 disables RADV's timer as well. Bit 31 (FPD) makes the timer expire at once, and
    /// that is a receive timer interrupt whether or not it was running (manual 13.4.30).
    pub fn set_rdtr(&mut self, value: u32, now: u64) {
        const FLUSH: u32 = 1 << 31;
        self.expire(now);
        self.rx_delay.packet_units = value as u16;
        if value as u16 == 0 {
            self.rx_delay.absolute_deadline = None;
        }
        if value & FLUSH != 0 {
            self.end_receive_delay(now);
        }
        self.update(now);
    }

    /// RDTR, RADV, TIDV and TADV in their 1.024 us units.
    pub fn delays(&self) -> [u16; 4] {
        let (rx, tx) = (&self.rx_delay, &self.tx_delay);
        [rx.packet_units, rx.absolute_units, tx.packet_units, tx.absolute_units]
    }

    /// Sets RADV; 0 disables it.
    pub fn set_radv(&mut self, units: u16) {
        self.rx_delay.set_absolute(units);
    }

    /// Sets TIDV.
    pub fn set_tidv(&mut self, units: u16) {
        self.tx_delay.packet_units = units;
    }

    /// Sets TADV; 0 disables it.
    pub fn set_tadv(&mut self, units: u16) {
        self.tx_delay.set_absolute(units);
    }

    /// Rising edges of the line so far.
    pub fn raised(&self) -> u64 {
        self.raised
    }

    /// CTRL.RST: everything but the count goes to its power-on value, and the line falls.
    pub fn reset(&mut self) {
        if self.high {
            self.line.set_level(false);
        }
        *self = Self { raised: self.raised, ..Self::new(self.line.clone(), self.moderate) };
    }

    /// Latches causes that the guest wants to hear of.
    fn note(&mut self, causes: u32) {
        self.icr |= causes;
        self.wanted |= causes;
    }

    /// Latches the causes whose delay has run out.
    fn expire(&mut self, now: u64) {
        if self.rx_delay.expired(now) {
            self.note(cause::RXT0);
        }
        if self.tx_delay.expired(now) {
            self.note(cause::TXDW);
        }
    }

    fn pending(&self) -> bool {
        self.icr & self.ims & self.wanted != 0
    }

    /// ITR holds the line down until then.
    fn window_end(&self) -> u64 {
        match self.last_rise {
            // Without ITR nothing is held, not even for a caller whose time is a little old.
            Some(at) if self.moderate && self.itr != 0 => at + u64::from(self.itr) * ITR_UNIT_NS,
            _ => 0,
        }
    }

    fn update(&mut self, now: u64) {
        let pending = self.pending();
        if pending == self.high || pending && now < self.window_end() {
            return;
        }
        if pending {
            self.raised += 1;
            self.last_rise = Some(now);
        }
        self.high = pending;
        self.line.set_level(pending);
    }
}

#[cfg(test)]
mod tests;
