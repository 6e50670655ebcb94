//! Reception: rings, buffer sizes, filters, VLAN, checksums, what happens when it does not fit.

use crate::driver::Driver;
use crate::frames::{BROADCAST, Network, PEER, Packet, Transport, plain, tagged, to_us};
use crate::nic::MAC;
use crate::registers::*;
use crate::scripts::transmit::{self, TransmitRing, place, see_statistics};

/// Guest-physical addresses of the scripts' ring and buffers.
const RING: u64 = 0x11_0000;
const BUFFERS: u64 = 0x40_0000;
const BUFFER_STRIDE: u64 = 0x4000;
const SLOTS: u32 = 32;

/// Bits of RCTL.
const EN: u32 = 1 << 1;
const SBP: u32 = 1 << 2;
pub const UPE: u32 = 1 << 3;
pub const MPE: u32 = 1 << 4;
const LPE: u32 = 1 << 5;
const LBM_MAC: u32 = 1 << 6;
const RDMTS: u32 = 8;
pub const MO: u32 = 12;
pub const BAM: u32 = 1 << 15;
pub const BSIZE: u32 = 16;
pub const VFE: u32 = 1 << 18;
const CFIEN: u32 = 1 << 19;
const CFI: u32 = 1 << 20;
const BSEX: u32 = 1 << 25;
pub const SECRC: u32 = 1 << 26;

/// Address Valid, in the upper half of a receive address.
const AV: u32 = 1 << 31;
/// Address Select: compare the source.
const AS_SOURCE: u32 = 1 << 16;
pub const CTRL_SLU: u32 = 1 << 6;
pub const CTRL_VME: u32 = 1 << 30;

/// The receive ring and what of it has been looked at.
pub struct ReceiveRing {
    seen: u32,
}

impl ReceiveRing {
    /// Sets the ring up with all but one of its descriptors handed over, every cause unmasked.
    pub fn start(driver: &mut Driver<'_>, rctl: u32) -> Self {
        driver.set(RDBAL, RING as u32);
        driver.set(RDBAH, 0);
        driver.set(RDLEN, SLOTS * 16);
        driver.set(RDH, 0);
        for slot in 0..SLOTS {
            Self::refill(driver, slot);
        }
        driver.set(RDT, SLOTS - 1);
        driver.set(IMS, !0);
        driver.set(RCTL, EN | rctl);
        Self { seen: 0 }
    }

    /// A descriptor whose write-back area is full of rubbish.
    fn refill(driver: &mut Driver<'_>, slot: u32) {
        let buffer = BUFFERS + u64::from(slot) * BUFFER_STRIDE;
        let rubbish = 0xdead_0000_beef_0000_u64;
        let at = RING + u64::from(slot) * 16;
        driver.set_ram(at, &[buffer.to_le_bytes(), rubbish.to_le_bytes()].concat());
        driver.set_ram(buffer, &[0xcc; 64]);
    }

    /// Receives a frame and notes what came of it in the next `count` descriptors.
    fn receive(&mut self, driver: &mut Driver<'_>, frame: &[u8], count: u32) {
        driver.receive(frame);
        self.see(driver, count, frame.len());
    }

    /// Receives a frame and notes all buffers that it came to, but of the descriptors only what no
    /// difference is known of. The ring is of no use afterwards.
    pub fn receive_plainly(self, driver: &mut Driver<'_>, frame: &[u8]) {
        const PIF: u8 = 1 << 7;
        const IXSM: u8 = 1 << 2;
        driver.receive(frame);
        driver.see(RDH);
        for slot in 0..6 {
            let descriptor = driver.ram(RING + slot * 16, 16);
            let status = descriptor[12] & !(PIF | IXSM);
            let saw =
                format!("{:02x?}, {status:#x}, {:02x?}", &descriptor[8..10], &descriptor[14..16]);
            driver.note(format!("descriptor {slot}"), saw);
            driver.see_ram(&format!("buffer {slot}"), BUFFERS + slot * BUFFER_STRIDE, frame.len());
            driver.set_ram(BUFFERS + slot * BUFFER_STRIDE, &[0; 2048]);
        }
        driver.see_causes();
    }

    /// Notes the next `count` descriptors and up to `length` bytes of their buffers, and gives them
    /// back.
    fn see(&mut self, driver: &mut Driver<'_>, count: u32, length: usize) {
        driver.see(RDH);
        for piece in 0..count {
            let slot = (self.seen + piece) % SLOTS;
            let descriptor = driver.ram(RING + u64::from(slot) * 16, 16);
            let word = |at: usize| u16::from_le_bytes([descriptor[at], descriptor[at + 1]]);
            driver.note(format!("descriptor {piece} length"), word(8).to_string());
            driver
                .note(format!("descriptor {piece} packet checksum"), format!("{:#06x}", word(10)));
            driver.note(format!("descriptor {piece} status"), format!("{:#04x}", descriptor[12]));
            driver.note(format!("descriptor {piece} errors"), format!("{:#04x}", descriptor[13]));
            driver.note(format!("descriptor {piece} special"), format!("{:#06x}", word(14)));
            let buffer = BUFFERS + u64::from(slot) * BUFFER_STRIDE;
            driver.see_ram(&format!("buffer {piece}"), buffer, length.clamp(4, 256));
            driver.set_ram(buffer, &[0xcc; 256]);
            Self::refill(driver, slot);
        }
        driver.see_causes();
        self.seen = (self.seen + count) % SLOTS;
        driver.set(RDT, (self.seen + SLOTS - 1) % SLOTS);
    }
}

/// Frames of all size classes, and the statistics of each.
pub fn receive_sizes(driver: &mut Driver<'_>) {
    let mut ring = ReceiveRing::start(driver, BAM | SECRC);
    for length in [60, 61, 123, 124, 252, 508, 1020, 1500, 1514] {
        driver.heading(format!("{length} bytes"));
        ring.receive(driver, &to_us(length), 1);
        see_statistics(driver);
    }
    for length in [14, 40, 59] {
        driver.heading(format!("short: {length} bytes"));
        ring.receive(driver, &to_us(length), 1);
        see_statistics(driver);
    }
}

/// The frame check sequence, stored and stripped.
pub fn receive_crc(driver: &mut Driver<'_>) {
    for strip in [0, SECRC] {
        let mut ring = ReceiveRing::start(driver, strip);
        driver.heading(format!("SECRC {}", strip != 0));
        driver.receive(&to_us(100));
        ring.see(driver, 1, 100);
        driver.receive(&to_us(100));
        driver.see_ram("frame check sequence", BUFFERS + BUFFER_STRIDE + 100, 4);
        ring.see(driver, 1, 100);
        driver.set(RCTL, 0);
    }
}

/// Every buffer size, with frames that fit in one, in two, in many.
pub fn receive_buffer_sizes(driver: &mut Driver<'_>) {
    for (size, bits) in [
        (256, 3 << BSIZE),
        (512, 2 << BSIZE),
        (1024, 1 << BSIZE),
        (2048, 0),
        (4096, 3 << BSIZE | BSEX),
        (8192, 2 << BSIZE | BSEX),
        (16384, 1 << BSIZE | BSEX),
    ] {
        let mut ring = ReceiveRing::start(driver, SECRC | LPE | bits);
        for length in [100, 256, 257, 1514, 4000, 6000] {
            driver.heading(format!("{length} bytes in buffers of {size}"));
            ring.receive(driver, &to_us(length), length.div_ceil(size) as u32);
        }
        driver.set(RCTL, 0);
    }
}

/// Long frames with and without LPE and SBP.
pub fn receive_long(driver: &mut Driver<'_>) {
    for bits in [0, SBP, LPE, SBP | LPE] {
        let mut ring = ReceiveRing::start(driver, SECRC | bits | 1 << BSIZE | BSEX);
        for length in [1514, 1515, 1518, 1519, 1522, 1523, 9000, 16000] {
            driver.heading(format!("RCTL {bits:#x}, {length} bytes"));
            ring.receive(driver, &to_us(length), 1);
            see_statistics(driver);
            // A refused frame leaves its descriptor to the next.
            ring = ReceiveRing::start(driver, SECRC | bits | 1 << BSIZE | BSEX);
        }
        driver.set(RCTL, 0);
    }
}

/// Exact, broadcast and promiscuous filters; the address list.
pub fn receive_addresses(driver: &mut Driver<'_>) {
    let other = [0x02, 0, 0, 0, 0, 0x55];
    let multicast = [0x01, 0, 0x5e, 1, 2, 3];
    driver.set(RA.at(30), u32::from_le_bytes([2, 0, 0, 0]));
    for (what, valid) in [("entry not valid", 0), ("entry valid", AV)] {
        driver.set(RA.at(31), valid | 0x5500);
        for bits in [0, BAM, UPE, MPE, UPE | MPE | BAM] {
            for destination in [MAC, other, [2, 0, 0, 0, 0, 0x56], multicast, BROADCAST] {
                let mut ring = ReceiveRing::start(driver, SECRC | bits);
                driver.heading(format!("{what}, RCTL {bits:#x}, to {destination:02x?}"));
                ring.receive(driver, &plain(destination, 60), 1);
            }
        }
    }
    driver.heading("statistics");
    see_statistics(driver);
    // Entry 14 compares the source address instead.
    let [a, b, c, d, e, f] = PEER;
    driver.set(RA.at(28), u32::from_le_bytes([a, b, c, d]));
    driver.set(RA.at(29), AV | AS_SOURCE | u32::from_le_bytes([e, f, 0, 0]));
    for destination in [[2, 0, 0, 0, 0, 0x57], PEER] {
        let mut ring = ReceiveRing::start(driver, SECRC);
        driver.heading(format!("AS source, to {destination:02x?}"));
        ring.receive(driver, &plain(destination, 60), 1);
    }
}

/// The multicast table with every offset: a bit that matches, and all bits but that.
pub fn receive_multicast(driver: &mut Driver<'_>) {
    let destinations =
        [[0x01, 0, 0x5e, 1, 2, 3], [0x33, 0x33, 0, 0, 0xab, 0xcd], [0x01, 0x80, 0xc2, 0, 0, 0x7f]];
    for offset in 0..4 {
        for destination in destinations {
            let high = u32::from(u16::from_le_bytes([destination[4], destination[5]]));
            let hash = high >> [4, 3, 2, 0][offset as usize] & 0xfff;
            for (what, fill, bit) in [("only its bit", 0, true), ("all other bits", !0, false)] {
                for word in MTA.iter() {
                    driver.set(word, fill);
                }
                driver.set(
                    MTA.at(hash >> 5),
                    if bit { 1 << (hash & 31) } else { !(1 << (hash & 31)) },
                );
                let mut ring = ReceiveRing::start(driver, SECRC | offset << MO);
                driver.heading(format!("MO {offset}, to {destination:02x?}, {what}"));
                ring.receive(driver, &plain(destination, 60), 1);
            }
        }
    }
    driver.heading("statistics");
    see_statistics(driver);
    driver.heading("to one station, all bits set");
    MTA.iter().for_each(|word| driver.set(word, !0));
    ReceiveRing::start(driver, SECRC).receive(driver, &plain(PEER, 60), 1);
}

/// VLAN filter and tag stripping.
pub fn receive_vlan(driver: &mut Driver<'_>) {
    let frame = to_us(100);
    for mode in [0, CTRL_VME] {
        driver.set(CTRL, CTRL_SLU | mode);
        for filter in [0, VFE] {
            for (what, id) in [("in the table", 100_u16), ("not in the table", 101)] {
                VFTA.iter().for_each(|word| driver.set(word, 0));
                driver.set(VFTA.at(100 >> 5), 1 << (100 & 31));
                let mut ring = ReceiveRing::start(driver, SECRC | filter);
                driver.heading(format!("VME {}, VFE {}, {what}", mode != 0, filter != 0));
                ring.receive(driver, &tagged(&frame, 0xa000 | id), 1);
            }
            driver.heading(format!("VME {}, VFE {}, no tag", mode != 0, filter != 0));
            let mut ring = ReceiveRing::start(driver, SECRC | filter);
            ring.receive(driver, &frame, 1);
        }
    }
    driver.heading("another VET");
    driver.set(VET, 0x88a8);
    let mut ring = ReceiveRing::start(driver, SECRC | VFE);
    ring.receive(driver, &tagged(&frame, 101), 1);
    driver.heading("CFI");
    driver.set(VET, 0x8100);
    let mut ring = ReceiveRing::start(driver, SECRC | VFE);
    ring.receive(driver, &tagged(&frame, 0x1000 | 100), 1);
    for (what, bits) in [("CFIEN", CFIEN), ("CFIEN and CFI", CFIEN | CFI)] {
        for (tag, kind) in [(100, "clear"), (0x1000 | 100, "set")] {
            driver.heading(format!("{what}, the tag's CFI {kind}"));
            let mut ring = ReceiveRing::start(driver, SECRC | VFE | bits);
            ring.receive(driver, &tagged(&frame, tag), 1);
        }
    }
    driver.heading("the longest tagged frame");
    let mut ring = ReceiveRing::start(driver, SECRC);
    ring.receive(driver, &tagged(&to_us(1514), 100), 1);
    driver.heading("statistics");
    see_statistics(driver);
}

/// Checksum verdicts in the descriptor, for right and wrong sums of every protocol.
pub fn receive_checksums(driver: &mut Driver<'_>) {
    const IPOFLD: u32 = 1 << 8;
    const TUOFLD: u32 = 1 << 9;
    for enabled in [0, IPOFLD, TUOFLD, IPOFLD | TUOFLD] {
        driver.set(RXCSUM, enabled | 14);
        let mut ring = ReceiveRing::start(driver, SECRC);
        for network in [Network::V4, Network::V6] {
            for transport in [Transport::Tcp, Transport::Udp] {
                let packet = Packet { network, transport, payload: 77 };
                let right = packet.complete();
                let mut wrong = right.clone();
                wrong[90] ^= 1;
                for (what, frame) in [("right", right), ("wrong", wrong)] {
                    driver
                        .heading(format!("RXCSUM {enabled:#x}, {network:?} {transport:?} {what}"));
                    ring.receive(driver, &frame, 1);
                }
            }
        }
    }
}

/// The minimum threshold's cause.
pub fn receive_threshold(driver: &mut Driver<'_>) {
    for threshold in 0..3 {
        ReceiveRing::start(driver, SECRC | threshold << RDMTS);
        for left in (1..SLOTS).rev() {
            driver.heading(format!("RDMTS {threshold}, {left} left"));
            driver.receive(&to_us(60));
            driver.see(RDH);
            driver.see_causes();
        }
        driver.set(RCTL, 0);
    }
}

/// No descriptors left, and too few for the frame.
pub fn receive_overrun(driver: &mut Driver<'_>) {
    ReceiveRing::start(driver, SECRC | LPE | 3 << BSIZE);
    driver.set(RDT, 2);
    driver.heading("three buffers needed, two there");
    driver.receive(&to_us(600));
    driver.see(RDH);
    driver.see_causes();
    see_statistics(driver);
    driver.heading("read again");
    driver.see(MPC);
    driver.see(RNBC);
    driver.heading("no buffers");
    driver.set(RDT, 0); // where the head still is
    driver.receive(&to_us(60));
    driver.see(RDH);
    driver.see_causes();
    see_statistics(driver);
}

/// Descriptors without a buffer: before a frame, between its pieces, behind it, and nothing else.
pub fn receive_null(driver: &mut Driver<'_>) {
    // Nothing may be written to the place that the null address would be.
    driver.set_ram(0, &[0xaa; 64]);
    for (what, null, length) in [
        ("one, then a buffer", &[0][..], 60),
        ("three, then a buffer", &[0, 1, 2], 60),
        ("behind the frame", &[1], 60),
        ("between two pieces", &[1], 500),
        ("before and between three pieces", &[0, 2, 3, 5], 700),
        ("the last piece's", &[2], 700),
    ] {
        let mut ring = ReceiveRing::start(driver, SECRC | 3 << BSIZE);
        for slot in null {
            driver.set_ram(RING + slot * 16, &[0; 8]);
        }
        driver.heading(what);
        ring.receive(driver, &to_us(length), 7);
        driver.see_ram("address 0", 0, 64);
        see_statistics(driver);
        driver.set(RCTL, 0);
    }
    ReceiveRing::start(driver, SECRC);
    for slot in 0..u64::from(SLOTS) {
        driver.set_ram(RING + slot * 16, &[0; 8]);
    }
    driver.set(RDT, 4);
    driver.heading("no buffer at all");
    driver.receive(&to_us(60));
    driver.see(RDH);
    driver.see_causes();
    driver.see_ram("address 0", 0, 64);
}

/// Receiver off, no link, no bus mastering.
pub fn receive_gates(driver: &mut Driver<'_>) {
    ReceiveRing::start(driver, SECRC);
    driver.heading("link down");
    driver.nic().set_link(false);
    driver.get(ICR);
    driver.receive(&to_us(60));
    driver.see(RDH);
    driver.see_causes();
    see_statistics(driver);
    driver.nic().set_link(true);
    driver.nic().rest();
    driver.get(ICR);
    driver.heading("receiver off");
    driver.set(RCTL, 0);
    driver.receive(&to_us(60));
    driver.see(RDH);
    driver.see_causes();
}

/// No access to memory for the NIC. (QEMU keeps the frame back: this is the end.)
pub fn receive_without_bus_mastering(driver: &mut Driver<'_>) {
    ReceiveRing::start(driver, SECRC);
    driver.nic().set_bus_master(false);
    driver.receive(&to_us(60));
    driver.see(RDH);
    driver.see_ram("descriptor 0", RING, 16);
    driver.see_ram("buffer 0", BUFFERS, 60);
    driver.see_line();
}

/// Frames that the NIC sends to itself: by the PHY's loopback, and by the MAC's.
pub fn loopback(driver: &mut Driver<'_>) {
    const PHY_LOOPBACK: u32 = 1 << 26 | 1 << 21 | 0x4140;
    const PHY_NORMAL: u32 = 1 << 26 | 1 << 21 | 0x1140;
    let mut transmit = TransmitRing::start(driver);
    for (what, phy, lbm) in [("PHY", PHY_LOOPBACK, 0), ("MAC", PHY_NORMAL, LBM_MAC)] {
        driver.set(MDIC, phy);
        let mut ring = ReceiveRing::start(driver, SECRC | lbm);
        driver.get(ICR);
        for length in [60, 1514] {
            driver.heading(format!("{what} loopback, {length} bytes"));
            let at = place(driver, 0, &to_us(length));
            transmit.legacy(driver, at, length, transmit::EOP | transmit::IFCS | transmit::RS);
            transmit.go(driver);
            ring.see(driver, 1, length);
        }
        driver.set(RCTL, 0);
    }
    driver.heading("statistics");
    see_statistics(driver);
}
