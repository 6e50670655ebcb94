//! Accesses and frames in no order at all, the same in every run.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::driver::Driver;
use crate::frames::{BROADCAST, Network, PEER, Packet, Transport, plain, tagged};
use crate::nic::MAC;
use crate::registers::*;
use crate::scripts::offload::{Context, IXSM, TSE, TXSM, push_data};
use crate::scripts::receive::{self, ReceiveRing};
use crate::scripts::transmit::{self, TransmitRing, place};

const SEED: u64 = 0x8254_0e10;

/// Registers that behave alike in both devices, and the bits of them that do.
const ALIKE: &[(Register, u32)] = &[
    (VET, 0xffff),
    (RDBAL, !0xf),
    (RDBAH, !0),
    (RDLEN, !0),
    (RDH, !0),
    (RDT, !0),
    (TDBAL, !0xf),
    (TDBAH, !0),
    (TDLEN, !0),
    (TDH, !0),
    (TDT, !0),
    (ICS, 0x1_ffff),
    (IMS, 0x1_ffff),
    (IMC, !0),
    (ICR, !0),
    (LEDCTL, 0xcfcf_cfcf),
    (AIFS, 0xffff),
    (RDFH, 0x1fff),
    (WUFC, 0xff),
];

/// Thousands of reads and writes of registers.
pub fn random_accesses(driver: &mut Driver<'_>) {
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut registers = ALIKE.to_vec();
    for array in [MTA, VFTA] {
        registers.extend(array.iter().step_by(7).map(|register| (register, !0)));
    }
    let addresses = RA.iter().enumerate();
    registers.extend(addresses.map(|(i, word)| (word, if i % 2 == 0 { !0 } else { 0x8003_ffff })));
    for step in 0..4000 {
        let (register, bits) = *registers.choose(&mut random).expect("registers");
        driver.heading(format!("access {step}"));
        if random.random() {
            driver.set(register, random.random::<u32>() & bits);
            driver.see_line();
        } else {
            driver.see(register);
        }
    }
}

/// Up to four numbers that leave something of `length`.
fn cuts(random: &mut SmallRng, length: usize) -> Vec<usize> {
    let mut rest = length;
    let mut cuts = Vec::new();
    for _ in 0..random.random_range(0..4) {
        if rest < 2 {
            break;
        }
        let cut = random.random_range(1..rest);
        rest -= cut;
        cuts.push(cut);
    }
    cuts
}

/// Hundreds of frames in descriptors of all kinds.
pub fn random_transmissions(driver: &mut Driver<'_>) {
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut ring = TransmitRing::start(driver);
    let packet = |random: &mut SmallRng, payload| Packet {
        network: *[Network::V4, Network::V6].choose(random).expect("networks"),
        transport: *[Transport::Tcp, Transport::Udp].choose(random).expect("transports"),
        payload,
    };
    // Without a context, a data descriptor's options mean nothing.
    Context::of(packet(&mut random, 0)).push(driver, &mut ring);
    for step in 0..600 {
        match random.random_range(0..4) {
            0 => {
                let length = random.random_range(60..1514);
                driver.heading(format!("frame {step}: legacy, {length} bytes"));
                let mut at = place(driver, 0, &plain(PEER, length));
                let cuts = cuts(&mut random, length);
                for &cut in &cuts {
                    ring.legacy(driver, at, cut, transmit::IFCS);
                    at += cut as u64;
                }
                let rest = length - cuts.iter().sum::<usize>();
                let last = transmit::EOP | transmit::IFCS | transmit::RS;
                ring.legacy(driver, at, rest, last);
            }
            1 => {
                let payload = random.random_range(20..1400);
                let packet = packet(&mut random, payload);
                driver.heading(format!("frame {step}: {packet:?}"));
                Context::of(packet).push(driver, &mut ring);
                let frame = packet.for_offload(false);
                let cuts = cuts(&mut random, frame.len());
                let options = random.random_range(0..4);
                push_data(driver, &mut ring, &frame, &cuts, 0, options);
            }
            2 => {
                // Offsets that mean nothing, but lie in the frame. Each checksum is among the bytes
                // that it sums up, where QEMU wants it, and apart from the other: the manual does
                // not say which comes first.
                let length: u64 = random.random_range(300..1514);
                let mut any = |from: u64, to: u64| random.random_range(from..to);
                let (ip_end, end) = (any(10, 50), any(110, length));
                let ip = [any(0, ip_end), any(0, ip_end), ip_end];
                let transport = [any(50, 100), any(50, end.min(256)), end];
                let context = Context::of(packet(&mut random, 0)).with_offsets(ip, transport);
                driver.heading(format!("frame {step}: {context:?}"));
                context.push(driver, &mut ring);
                let frame = plain(PEER, length as usize);
                let cuts = cuts(&mut random, frame.len());
                push_data(driver, &mut ring, &frame, &cuts, 0, IXSM | TXSM);
            }
            _ => {
                let mss = random.random_range(40..1460);
                // A multiple of the segment size is the known difference.
                let payload = mss * random.random_range(0..8) + random.random_range(1..mss);
                let transport = Transport::Tcp;
                let packet = Packet { network: Network::V4, transport, payload };
                driver.heading(format!("frame {step}: {packet:?} by {mss}"));
                Context::segmenting(packet, mss as u64).push(driver, &mut ring);
                let frame = packet.for_offload(true);
                let cuts = cuts(&mut random, frame.len());
                push_data(driver, &mut ring, &frame, &cuts, TSE, IXSM | TXSM);
            }
        }
        ring.go(driver);
    }
}

/// Hundreds of frames to addresses of all kinds, past filters and into buffers of all kinds.
pub fn random_receptions(driver: &mut Driver<'_>) {
    let mut random = SmallRng::seed_from_u64(SEED);
    let multicast = [0x01, 0, 0x5e, 1, 2, 3];
    let destinations = [PEER, MAC, BROADCAST, multicast, [0x33, 0x33, 0, 0, 7, 9]];
    for word in VFTA.iter() {
        driver.set(word, random.random());
    }
    for step in 0..400 {
        for _ in 0..4 {
            driver.set(MTA.at(random.random_range(0..128)), random.random());
        }
        let vlan_mode = if random.random() { receive::CTRL_VME } else { 0 };
        driver.set(CTRL, receive::CTRL_SLU | vlan_mode);
        let choice = receive::UPE
            | receive::MPE
            | receive::BAM
            | receive::VFE
            | 3 << receive::MO
            | 3 << receive::BSIZE;
        let rctl = random.random::<u32>() & choice;
        // QEMU's hash also takes frames to one station, unless it is promiscuous anyway.
        let known = if rctl & receive::UPE != 0 { &destinations[..] } else { &destinations[1..] };
        let destination = *known.choose(&mut random).expect("destinations");
        let mut frame = plain(destination, random.random_range(60..1500));
        if random.random() {
            frame = tagged(&frame, random.random());
        }
        driver.heading(format!(
            "frame {step}: VME {}, RCTL {rctl:#x}, {} bytes to {destination:02x?}",
            vlan_mode != 0,
            frame.len()
        ));
        ReceiveRing::start(driver, receive::SECRC | rctl).receive_plainly(driver, &frame);
    }
}
