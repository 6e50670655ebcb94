//! Transmission: rings, descriptors of every kind, their write-back, VLAN tags, loopback.

use crate::driver::Driver;
use crate::frames::{plain, to_us};
use crate::registers::*;

/// Guest-physical addresses of the scripts' ring and buffers.
const RING: u64 = 0x10_0000;
pub const BUFFERS: u64 = 0x12_0000;
pub const SLOTS: u32 = 64;

pub const EOP: u32 = 1 << 0;
pub const IFCS: u32 = 1 << 1;
/// Insert checksum, in a legacy descriptor.
const IC: u32 = 1 << 2;
pub const RS: u32 = 1 << 3;
/// Report packet sent, which is the 82544's alone: reserved on this part.
const RPS: u32 = 1 << 4;
pub const DEXT: u32 = 1 << 5;
const VLE: u32 = 1 << 6;
const IDE: u32 = 1 << 7;

const TCTL_EN: u32 = 1 << 1;
const TCTL_PSP: u32 = 1 << 3;
const LWTHRESH: u32 = 25;
const CTRL_VME: u32 = 1 << 30;

/// The transmit ring and where its next descriptor goes.
#[derive(Default)]
pub struct TransmitRing {
    next: u32,
    used: u32,
}

impl TransmitRing {
    /// Sets the ring up and the transmitter on, every cause unmasked.
    pub fn start(driver: &mut Driver<'_>) -> Self {
        Self::set_up(driver);
        driver.set(TCTL, TCTL_EN);
        driver.set(IMS, !0);
        Self::default()
    }

    fn set_up(driver: &mut Driver<'_>) {
        driver.set(TDBAL, RING as u32);
        driver.set(TDBAH, 0);
        driver.set(TDLEN, SLOTS * 16);
        driver.set(TDH, 0);
        driver.set(TDT, 0);
        // More than the ring has, so that ICR.TXD_LOW stays away; it has a script of its own.
        driver.set(TXDCTL, 127 << LWTHRESH);
    }

    /// Writes the next descriptor.
    pub fn push(&mut self, driver: &mut Driver<'_>, low: u64, high: u64) {
        let at = RING + u64::from(self.next) * 16;
        driver.set_ram(at, &[low.to_le_bytes(), high.to_le_bytes()].concat());
        self.next = (self.next + 1) % SLOTS;
        self.used += 1;
    }

    /// A legacy descriptor (manual 3.3.3).
    pub fn legacy(&mut self, driver: &mut Driver<'_>, address: u64, length: usize, command: u32) {
        self.push(driver, address, u64::from(command) << 24 | length as u64);
    }

    /// Hands the new descriptors over and notes everything that comes of it.
    pub fn go(&mut self, driver: &mut Driver<'_>) {
        self.hand_over(driver);
        driver.see_sent();
        self.see(driver);
    }

    /// Hands the new descriptors over.
    pub fn hand_over(&mut self, driver: &mut Driver<'_>) {
        driver.set(TDT, self.next);
    }

    /// Notes what became of the descriptors.
    pub fn see(&mut self, driver: &mut Driver<'_>) {
        driver.see(TDH);
        let first = (self.next + SLOTS - self.used) % SLOTS;
        for slot in (0..self.used).map(|i| (first + i) % SLOTS) {
            driver.see_ram(&format!("descriptor {slot}"), RING + u64::from(slot) * 16, 16);
        }
        driver.see_causes();
        self.used = 0;
    }
}

/// Puts `frame` into buffer number `buffer`; returns its address.
pub fn place(driver: &mut Driver<'_>, buffer: u64, frame: &[u8]) -> u64 {
    let at = BUFFERS + buffer * 0x1_0000;
    driver.set_ram(at, frame);
    at
}

/// Notes every statistics register, and clears them.
pub fn see_statistics(driver: &mut Driver<'_>) {
    STATISTICS.iter().for_each(|register| driver.see(*register));
}

/// Frames of all size classes, each in one legacy descriptor, with every kind of report.
pub fn transmit_legacy(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    let all = [IFCS | RS, IFCS | RPS, IFCS, RS | IDE, RS];
    let lengths = [60, 64, 65, 124, 128, 252, 256, 508, 512, 1020, 1024, 1500, 1514, 1518];
    for (length, command) in lengths.into_iter().zip(all.into_iter().cycle()) {
        driver.heading(format!("{length} bytes, command {command:#x}"));
        let at = place(driver, 0, &to_us(length));
        ring.legacy(driver, at, length, EOP | command);
        ring.go(driver);
    }
    driver.heading("statistics");
    see_statistics(driver);
}

/// Frames shorter than Ethernet's least, with and without padding.
pub fn transmit_short(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    for (what, tctl) in [("padded", TCTL_EN | TCTL_PSP), ("not padded", TCTL_EN)] {
        driver.set(TCTL, tctl);
        for length in [59, 42, 17, 14] {
            driver.heading(format!("{length} bytes, {what}"));
            let at = place(driver, 0, &to_us(length));
            ring.legacy(driver, at, length, EOP | IFCS | RS);
            ring.go(driver);
            see_statistics(driver);
        }
    }
}

/// To one, to many, to all.
pub fn transmit_destinations(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    for destination in [[0x02, 0, 0, 0, 0, 9], [0x01, 0, 0x5e, 0, 0, 1], [0xff; 6]] {
        driver.heading(format!("to {destination:02x?}"));
        let at = place(driver, 0, &plain(destination, 100));
        ring.legacy(driver, at, 100, EOP | IFCS | RS);
        ring.go(driver);
        see_statistics(driver);
    }
}

/// One frame in several descriptors, several frames at once, the ring's end.
pub fn transmit_chains(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    let frame = to_us(1000);
    for (what, cuts) in [
        ("two pieces", vec![500, 500]),
        ("header apart", vec![14, 986]),
        ("split header", vec![3, 9, 4, 984]),
        ("an empty piece", vec![400, 0, 600]),
        ("an empty last piece", vec![1000, 0]),
        ("many pieces", vec![50; 20]),
    ] {
        driver.heading(what);
        let mut at = place(driver, 0, &frame);
        for (piece, &length) in cuts.iter().enumerate() {
            let last = if piece + 1 == cuts.len() { EOP | RS } else { 0 };
            ring.legacy(driver, at, length, IFCS | last);
            at += length as u64;
        }
        ring.go(driver);
    }
    for turn in 0..3 {
        driver.heading(format!("thirty frames, turn {turn}"));
        for i in 0..30 {
            let at = place(driver, i, &to_us(60 + i as usize));
            ring.legacy(driver, at, 60 + i as usize, EOP | IFCS | RS);
        }
        ring.go(driver);
    }
    driver.heading("statistics");
    see_statistics(driver);
}

/// A descriptor without a length: nothing to send, but a report. (QEMU sends an empty frame, after
/// which its cable takes no more: only registers are looked at from then on.)
pub fn transmit_null(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    driver.heading("no buffer, no length");
    ring.legacy(driver, 0, 0, EOP | IFCS | RS);
    ring.go(driver);
    see_statistics(driver);
    driver.heading("no length");
    ring.legacy(driver, BUFFERS, 0, EOP | IFCS | RS);
    ring.go(driver);
    see_statistics(driver);
}

/// Transmitter off, then on; bus mastering off; ring pointers moved by hand.
pub fn transmit_gates(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::default();
    TransmitRing::set_up(driver);
    driver.set(IMS, !0);
    let at = place(driver, 0, &to_us(60));
    driver.heading("while off");
    ring.legacy(driver, at, 60, EOP | IFCS | RS);
    ring.go(driver);
    driver.heading("switched on");
    driver.set(TCTL, TCTL_EN);
    driver.see_sent();
    driver.see(TDH);
    driver.see_causes();
    driver.heading("tail written again");
    ring.go(driver);
    driver.heading("a frame after that");
    ring.legacy(driver, at, 60, EOP | IFCS | RS);
    ring.go(driver);
    driver.heading("link down");
    driver.nic().set_link(false);
    driver.nic().rest();
    driver.get(ICR);
    ring.legacy(driver, at, 60, EOP | IFCS | RS);
    ring.go(driver);
    see_statistics(driver);
}

/// Legacy checksum insertion (manual 3.3.3.1): CSO and CSS, also where they make no sense.
pub fn transmit_legacy_checksum(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    for (start, field) in
        [(14, 24), (14, 16), (0, 50), (34, 34), (14, 58), (14, 59), (60, 20), (14, 200)]
    {
        driver.heading(format!("CSS {start}, CSO {field}"));
        let at = place(driver, 0, &to_us(60));
        let command = EOP | IFCS | RS | IC;
        ring.push(driver, at, start << 40 | u64::from(command) << 24 | field << 16 | 60);
        ring.go(driver);
    }
}

/// VLE, with VLAN mode on and off, in both descriptor types; tags of all priorities.
pub fn transmit_vlan(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    for mode in [0, CTRL_VME] {
        driver.set(CTRL, 1 << 6 | mode);
        for tag in [0x0001_u64, 0xefff, 0x1000, 0] {
            driver.heading(format!("VME {}, tag {tag:#06x}", mode != 0));
            let at = place(driver, 0, &to_us(60));
            let command = EOP | IFCS | RS | VLE;
            ring.push(driver, at, tag << 48 | u64::from(command) << 24 | 60);
            ring.go(driver);
            driver.heading(format!("VME {}, tag {tag:#06x}, data descriptor", mode != 0));
            let command = command | DEXT;
            ring.push(driver, at, tag << 48 | u64::from(command) << 24 | 1 << 20 | 60);
            ring.go(driver);
        }
    }
    driver.heading("another VET");
    driver.set(VET, 0x88a8);
    let at = place(driver, 0, &to_us(1514));
    ring.push(driver, at, 7 << 48 | u64::from(EOP | IFCS | RS | VLE) << 24 | 1514);
    ring.go(driver);
    see_statistics(driver);
}

/// Descriptor-low and queue-empty causes, with TXDCTL.LWTHRESH.
pub fn transmit_thresholds(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    for threshold in [0, 1, 3] {
        driver.set(TXDCTL, threshold << LWTHRESH);
        driver.heading(format!("LWTHRESH {threshold}"));
        for count in [1, 20, 40] {
            for _ in 0..count {
                let at = place(driver, 0, &to_us(60));
                ring.legacy(driver, at, 60, EOP | IFCS | RS);
            }
            ring.go(driver);
        }
    }
}
