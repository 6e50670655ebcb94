//! Interrupt causes, masks and moderation.
//!
//! The line is high while an unmasked cause is latched in ICR, as for any level-triggered PCI
//! device. Moderation decides *when* it may rise: ITR spaces rising edges (manual 13.4.18), and the
//! receive (RDTR, RADV, manual 3.2.7.1) and transmit (TIDV, TADV, manual 3.4.3.1) delay timers hold
//! a cause back until a group of packets is complete. The first interrupt after a quiet time is
//! never delayed by ITR.

use std::sync::Arc;

use super::regs::cause;
use crate::irq::InterruptLine;

/// One ITR unit in nanoseconds (manual 13.4.18).
pub const ITR_UNIT_NS: u64 = 256;
/// One RDTR, RADV, TIDV or TADV unit in nanoseconds (manual 13.4.30).
pub const DELAY_UNIT_NS: u64 = 1024;

/// A packet timer, restarted by every packet, with an absolute limit counted from the first.
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
    /// Moderation holds the line down until then.
    window_end: u64,
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
            window_end: 0,
            rx_delay: DelayTimer::default(),
            tx_delay: DelayTimer::default(),
            raised: 0,
        }
    }

    /// Latches `causes` and interrupts, within the limits of mask and moderation.
    pub fn raise(&mut self, causes: u32, now: u64) {
        self.icr |= causes;
        self.wanted |= causes;
        self.update(now);
    }

    /// Latches `causes` without interrupting: the guest said through the CSB that it is awake.
    pub fn latch(&mut self, causes: u32) {
        self.icr |= causes;
    }

    /// Frames were written to the receive ring: RXT0, now or when the receive timers say.
    pub fn received(&mut self, now: u64) {
        if !self.moderate || self.rx_delay.packet(now) {
            self.raise(cause::RXT0, now);
        }
    }

    /// Transmit descriptors were written back: TXDW, now or, if all of them asked for it with IDE,
    /// when the transmit timers say.
    pub fn transmitted(&mut self, delayed: bool, now: u64) {
        if !self.moderate || !delayed || self.tx_delay.packet(now) {
            self.tx_delay.cancel();
            self.raise(cause::TXDW, now);
        }
    }

    /// Runs what is due at `now`.
    pub fn on_timer(&mut self, now: u64) {
        let mut due = 0;
        if self.rx_delay.expired(now) {
            due |= cause::RXT0;
        }
        if self.tx_delay.expired(now) {
            due |= cause::TXDW;
        }
        self.raise(due, now);
    }

    /// When [`on_timer`](Self::on_timer) must next be called.
    pub fn deadline(&self) -> Option<u64> {
        let held = (self.pending() && !self.high).then_some(self.window_end);
        [held, self.rx_delay.deadline(), self.tx_delay.deadline()].into_iter().flatten().min()
    }

    /// ICR: reading clears it and lowers the line (manual 13.4.17).
    pub fn read_icr(&mut self, now: u64) -> u32 {
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

    /// Sets ITR; 0 turns spacing off, at once.
    pub fn set_itr(&mut self, units: u16, now: u64) {
        self.itr = units;
        if units == 0 {
            self.window_end = 0;
            self.update(now);
        }
    }

    /// Sets RDTR. Bit 31 (FPD) flushes a pending receive delay.
    pub fn set_rdtr(&mut self, value: u32, now: u64) {
        const FLUSH: u32 = 1 << 31;
        self.rx_delay.packet_units = value as u16;
        if value & FLUSH != 0 && self.rx_delay.deadline().is_some() {
            self.rx_delay.cancel();
            self.raise(cause::RXT0, now);
        }
    }

    /// RDTR, RADV, TIDV and TADV in their 1.024 us units.
    pub fn delays(&self) -> [u16; 4] {
        let (rx, tx) = (&self.rx_delay, &self.tx_delay);
        [rx.packet_units, rx.absolute_units, tx.packet_units, tx.absolute_units]
    }

    /// Sets RADV.
    pub fn set_radv(&mut self, units: u16) {
        self.rx_delay.absolute_units = units;
    }

    /// Sets TIDV.
    pub fn set_tidv(&mut self, units: u16) {
        self.tx_delay.packet_units = units;
    }

    /// Sets TADV.
    pub fn set_tadv(&mut self, units: u16) {
        self.tx_delay.absolute_units = units;
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

    fn pending(&self) -> bool {
        self.icr & self.ims & self.wanted != 0
    }

    fn update(&mut self, now: u64) {
        let pending = self.pending();
        if pending == self.high {
            return;
        }
        if pending {
            if now < self.window_end {
                return;
            }
            self.raised += 1;
            if self.moderate {
                self.window_end = now + u64::from(self.itr) * ITR_UNIT_NS;
            }
        }
        self.high = pending;
        self.line.set_level(pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<bool>>);

    impl InterruptLine for Recorder {
        fn set_level(&self, high: bool) {
            self.0.lock().push(high);
        }
    }

    fn block(moderate: bool) -> (Interrupts, Arc<Recorder>) {
        let line = Arc::new(Recorder::default());
        let mut irq = Interrupts::new(line.clone(), moderate);
        irq.unmask(cause::ALL, 0);
        (irq, line)
    }

    #[test]
    fn the_line_follows_unmasked_causes() {
        let (mut irq, line) = block(true);
        irq.mask(cause::RXT0, 0);
        irq.raise(cause::RXT0, 1);
        assert!(line.0.lock().is_empty());
        irq.unmask(cause::RXT0, 2);
        assert_eq!(irq.read_icr(3), cause::RXT0);
        assert_eq!(*line.0.lock(), [true, false]);
        assert_eq!(irq.read_icr(4), 0);
    }

    #[test]
    fn itr_lets_the_first_through_and_spaces_the_next() {
        let (mut irq, line) = block(true);
        irq.set_itr(500, 0); // 128 us
        irq.received(1_000_000);
        assert_eq!(*line.0.lock(), [true], "the first is immediate");
        irq.read_icr(1_001_000);
        irq.received(1_002_000);
        assert_eq!(*line.0.lock(), [true, false], "the second waits");
        assert_eq!(irq.deadline(), Some(1_128_000));
        irq.on_timer(1_127_999);
        assert_eq!(line.0.lock().len(), 2);
        irq.on_timer(1_128_000);
        assert_eq!(*line.0.lock(), [true, false, true]);
        assert_eq!(irq.deadline(), None);
        assert_eq!(irq.raised(), 2);
    }

    #[test]
    fn without_moderation_every_event_interrupts_at_once() {
        let (mut irq, line) = block(false);
        irq.set_itr(500, 0);
        irq.set_rdtr(100, 0);
        irq.set_tidv(100);
        for i in 0..4 {
            irq.received(i);
            assert_eq!(irq.read_icr(i), cause::RXT0);
            irq.transmitted(true, i);
            assert_eq!(irq.read_icr(i), cause::TXDW);
        }
        assert_eq!(line.0.lock().len(), 16);
        assert_eq!(irq.deadline(), None);
    }

    #[test]
    fn rdtr_restarts_and_radv_does_not() {
        let (mut irq, line) = block(true);
        irq.set_rdtr(10, 0); // 10.24 us
        irq.set_radv(20); // 20.48 us
        irq.received(1_000);
        assert_eq!(irq.deadline(), Some(11_240));
        irq.received(9_000);
        assert_eq!(irq.deadline(), Some(19_240), "the packet timer restarts");
        irq.received(18_000);
        assert_eq!(irq.deadline(), Some(21_480), "the absolute timer does not");
        irq.on_timer(21_479);
        assert!(line.0.lock().is_empty());
        irq.on_timer(21_480);
        assert_eq!(*line.0.lock(), [true]);
        assert_eq!(irq.deadline(), None);
    }

    #[test]
    fn a_flush_ends_the_receive_delay() {
        let (mut irq, line) = block(true);
        irq.set_rdtr(10, 0);
        irq.received(0);
        irq.set_rdtr(1 << 31 | 10, 5);
        assert_eq!(*line.0.lock(), [true]);
        irq.read_icr(6);
        irq.set_rdtr(1 << 31 | 10, 7);
        assert_eq!(line.0.lock().len(), 2, "nothing to flush the second time");
    }

    #[test]
    fn tidv_needs_ide_and_a_plain_write_back_ends_the_wait() {
        let (mut irq, line) = block(true);
        irq.set_tidv(10);
        irq.set_tadv(15);
        irq.transmitted(true, 0);
        irq.transmitted(true, 9_000);
        assert_eq!(irq.deadline(), Some(15_360), "TADV");
        assert!(line.0.lock().is_empty());
        irq.transmitted(false, 9_500);
        assert_eq!(*line.0.lock(), [true]);
        assert_eq!(irq.deadline(), None);
    }

    #[test]
    fn a_latched_cause_stays_silent_until_the_guest_wants_it() {
        let (mut irq, line) = block(true);
        irq.latch(cause::RXT0);
        irq.unmask(cause::RXT0, 1);
        assert!(line.0.lock().is_empty());
        assert_eq!(irq.icr(), cause::RXT0);
        irq.raise(cause::LSC, 2);
        assert_eq!(irq.read_icr(3), cause::RXT0 | cause::LSC);
    }

    #[test]
    fn reset_lowers_the_line_and_forgets_the_timers() {
        let (mut irq, line) = block(true);
        irq.set_itr(500, 0);
        irq.received(1_000);
        irq.reset();
        assert_eq!(*line.0.lock(), [true, false]);
        assert_eq!((irq.ims(), irq.icr(), irq.itr(), irq.deadline()), (0, 0, 0, None));
    }

    #[test]
    fn writing_itr_zero_releases_a_held_interrupt() {
        let (mut irq, line) = block(true);
        irq.set_itr(500, 0);
        irq.received(1_000);
        irq.read_icr(2_000);
        irq.received(3_000);
        irq.set_itr(0, 4_000);
        assert_eq!(*line.0.lock(), [true, false, true]);
    }
}
