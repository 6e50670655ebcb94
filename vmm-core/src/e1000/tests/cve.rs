//! Every class of bug that e1000 models and their kin have had, tested on ours.
//!
//! | Class | Known cases | Tests here, all `cve_...` |
//! |---|---|---|
//! | Head or tail outside the ring: endless loop | CVE-2016-1981, CVE-2017-9310 | `cve_2016_1981_…` |
//! | Segmentation without progress | CVE-2015-6815, CVE-2021-20257 | `cve_2015_6815_…`, `cve_2021_20257_…` |
//! | Overflow of the transmit buffer | CVE-2012-0029 | `cve_2012_0029_…` |
//! | Overflow of the guest's receive buffers | CVE-2012-6075 | `cve_2012_6075_…` |
//! | Receive buffers at address 0: endless loop | CVE-2020-28916, CVE-2020-25707 | `cve_2020_28916_…` |
//! | Offload offsets outside the frame | CVE-2022-23087, CVE-2019-5609, CVE-2016-2857 | `cve_2022_23087_…`, `cve_2019_5609_…`, `cve_2016_2857_…` |
//! | State carried from one packet to the next | VirtualBox E1000 escape of November 2018; QEMU d62644b46a | `cve_virtualbox_2018_…`, `cve_stale_state_…` |
//! | DMA to the device's own registers | CVE-2020-15859, CVE-2023-3019, CVE-2021-20255, CVE-2022-2962 | `cve_2020_15859_…`, `cve_2023_3019_…` |
//! | Loopback into a device that is transmitting | CVE-2021-3416 | `cve_2021_3416_…` |
//! | Reachable assertion | CVE-2020-16092, CVE-2020-27617, CVE-2024-3567 | `cve_2020_16092_…`, and the fuzzer |
//! | Stale mapping of a ring | bhyve rS366771 | `cve_bhyve_rs366771_…` |
//! | Memory that changes between two looks | virtio and NVMe models, many | `cve_toctou_…` |
//! | Width and alignment of register accesses | bhyve TPM, 2024 | `cve_register_access_…` |
//! | Interrupt storms, lost interrupts | QEMU 157628d067; KVM's I/O APIC limit | `cve_interrupt_…` |
//! | Exhaustion of the host's memory | CVE-2016-5403 | `cve_2016_5403_…` |
//! | Timers that outlive a reset or the device | use after free, many | `cve_timer_…` |
//! | Oversize frames from the backend | CVE-2018-17963 | `cve_2018_17963_…` |
//! | Memory shared with the guest: the CSB | virtio analogues | `cve_csb_…` |

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::e1000::descriptor::option::{IXSM, TXSM};

/// Longest packet that leaves (manual 3.3.3).
const MAX_SENT: usize = 16288;
/// Addresses that are not all RAM: behind its end, across it, in BAR 0, in the MMIO hole, and at the
/// end of what 64 bits can say.
const NOWHERE: [u64; 6] =
    [RAM, RAM - 8, crate::platform::NIC_MMIO_BASE, 0xfec0_0000, 1 << 40, u64::MAX - 8];

/// Context descriptors, TUCMD: the packets are TCP, over IPv4.
const TCP: u8 = 1 << 0;
const IP: u8 = 1 << 1;

/// Bytes of the Ethernet, IPv4 and TCP headers of [`segmentable`].
const HEADERS: u8 = 54;

/// A context descriptor.
#[derive(Clone, Copy, Debug)]
struct Context {
    ip: [u8; 2],
    ip_end: u16,
    tcp: [u8; 2],
    tcp_end: u16,
    payload: u32,
    command: u8,
    header: u8,
    mss: u16,
}

/// Segmentation of TCP over IPv4 without options.
const SEGMENT: Context = Context {
    ip: [14, 24],
    ip_end: 33,
    tcp: [34, 50],
    tcp_end: 0,
    payload: 0,
    command: command::TSE | TCP | IP,
    header: HEADERS,
    mss: 1000,
};

impl Bench {
    /// A NIC as [`Bench::new`] makes it, but sending to `backend`.
    fn with_backend(backend: Box<dyn Backend>) -> Self {
        let bench = Self::plugged_into(backend, Wire::default(), true, false);
        bench.nic.set_bus_master(true);
        bench.nic.set_link(true);
        bench.configure();
        bench
    }

    fn any_context(&self, slot: u64, c: Context) {
        let at = TX_RING + slot * 16;
        let half = |[start, offset]: [u8; 2], end: u16| {
            u64::from(start) | u64::from(offset) << 8 | u64::from(end) << 16
        };
        self.write_u64(at, half(c.ip, c.ip_end) | half(c.tcp, c.tcp_end) << 32);
        let rest = u64::from(c.payload)
            | u64::from(c.command | command::DEXT) << 24
            | u64::from(c.header) << 40
            | u64::from(c.mss) << 48;
        self.write_u64(at + 8, rest);
    }

    /// A data descriptor without a VLAN tag.
    fn piece(&self, slot: u64, address: u64, length: u32, command: u8, options: u8) {
        self.data(slot, address, length.into(), command, options, 0);
    }

    /// All of the RAM.
    fn memory(&self) -> Vec<u8> {
        let mut bytes = vec![0; RAM as usize];
        self.ram.slice(0, bytes.len()).unwrap().read_slice(&mut bytes, 0).unwrap();
        bytes
    }

    /// Whatever happened before: after a reset a frame goes out and another comes in.
    fn assert_alive(&self) {
        self.nic.set_bus_master(true);
        self.nic.set_link(true);
        self.set(CSBAL, 0);
        self.set(CTRL, ctrl::RST);
        self.set(CTRL, ctrl::SLU);
        for register in [TDBAH, RDBAH, TDH, RDH, TDT] {
            self.set(register, 0);
        }
        self.configure();
        self.sent();
        self.tx_frame(0);
        self.set(TDT, 1);
        assert_eq!(self.sent(), [frame([0xff; 6], 0, 60)]);
        assert_eq!(self.receive(&frame(MAC, 5, 80)), 1);
        assert_eq!(self.rx_bytes(0, 80), frame(MAC, 5, 80));
    }
}

/// A TCP segment over IPv4 with `payload` bytes.
fn segmentable(payload: usize) -> Vec<u8> {
    let mut bytes = frame([0xff; 6], 0, usize::from(HEADERS) + payload);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14..34]
        .copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes[34..54]
        .copy_from_slice(&[0, 7, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

#[test]
fn cve_2016_1981_indices_outside_the_ring_move_nothing() {
    for length in [0u32, 64, 127, 128, 256] {
        let bench = Bench::new(true, false);
        bench.set(TDLEN, length);
        bench.set(RDLEN, length);
        let size = length / 128 * 8;
        for head in [0, 1, size, size + 1, 0xffff] {
            for tail in [0, 2, size, size + 1, 0xffff] {
                if head < size && tail < size {
                    continue;
                }
                for (register, value) in [(TDH, head), (RDH, head), (RDT, tail), (TDT, tail)] {
                    bench.set(register, value);
                }
                bench.receive(&frame(MAC, 0, 60));
            }
        }
        let counters = bench.nic.counters();
        assert_eq!((counters.tx.descriptors, counters.rx.frames), (0, 0), "TDLEN {length}");
        bench.assert_alive();
    }
}

#[test]
fn cve_2016_1981_a_ring_that_shrinks_under_way_ends_the_loop() {
    let bench = Bench::new(true, false);
    for (head, tail, length) in [(7, 6, 128), (5, 4, 64), (100, 3, 128), (3, 100, 2048)] {
        bench.set(TDLEN, 4096);
        bench.set(RDLEN, 4096);
        for (register, value) in [(TDH, head), (RDH, head), (RDT, tail)] {
            bench.set(register, value);
        }
        bench.set(TDLEN, length);
        bench.set(RDLEN, length);
        let before = bench.nic.counters().tx.descriptors;
        bench.set(TDT, tail);
        assert!(bench.nic.counters().tx.descriptors - before <= u64::from(length) / 16);
        bench.receive(&frame(MAC, 0, 60));
    }
    bench.assert_alive();
}

#[test]
fn cve_2016_1981_a_packet_without_end_is_given_up() {
    let bench = Bench::new(true, false);
    (0..SLOTS).for_each(|slot| bench.tx(slot, TX_BUFFER, 100, 0));
    bench.set(TDT, SLOTS as u32 - 1);
    assert_eq!(bench.get(TDH), SLOTS as u32 - 1, "a full ring without an end is consumed");
    bench.tx(SLOTS - 1, TX_BUFFER, 100, command::EOP);
    bench.set(TDT, 0);
    assert_eq!(bench.nic.counters().tx.dropped.oversize, 1);
    bench.tx_frame(0);
    bench.set(TDT, 1);
    assert_eq!(bench.wire.0.lock().len(), 1, "the next frame is sound again");
}

/// A context descriptor inside a packet counts as any other of its chain.
#[test]
fn cve_2016_1981_a_context_hides_no_endless_packet() {
    let bench = Bench::new(true, false);
    (0..SLOTS - 2).for_each(|slot| bench.tx(slot, TX_BUFFER, 100, 0));
    let context = u64::from(command::DEXT | command::EOP) << 24;
    bench.write_u64(TX_RING + (SLOTS - 2) * 16 + 8, context);
    bench.set(TDT, SLOTS as u32 - 1);
    assert_eq!(bench.get(TDH), SLOTS as u32 - 1);
    bench.tx(SLOTS - 1, TX_BUFFER, 100, command::EOP);
    bench.set(TDT, 0);
    assert_eq!(bench.nic.counters().tx.dropped.oversize, 1);
    bench.assert_alive();
}

#[test]
fn cve_2015_6815_segmentation_without_progress_ends() {
    let packet = segmentable(3000);
    for (header, mss) in [(0, 0), (HEADERS, 0), (0, 1), (255, 0), (255, 1), (0, 0xffff)] {
        for payload in [0, 1, 3000, 0xf_ffff] {
            let bench = Bench::new(true, false);
            bench.put(TX_BUFFER, &packet);
            bench.any_context(0, Context { header, mss, payload, ..SEGMENT });
            let command = command::EOP | command::RS | command::TSE;
            bench.piece(1, TX_BUFFER, packet.len() as u32, command, IXSM | TXSM);
            bench.set(TDT, 2);
            assert_eq!(bench.get(TDH), 2, "consumed: {header} {mss} {payload}");
            assert!(bench.tx_done(1));
            let sent = bench.sent();
            assert!(sent.len() <= packet.len(), "{} frames: {header} {mss} {payload}", sent.len());
            assert!(sent.iter().all(|frame| (14..=MAX_SENT).contains(&frame.len())));
            bench.assert_alive();
        }
    }
}

#[test]
fn cve_2021_20257_segmentation_of_nothing_ends() {
    for lengths in [[0, 0], [0, 20], [20, 0], [54, 0], [53, 0], [1, 53]] {
        let bench = Bench::new(true, false);
        bench.put(TX_BUFFER, &segmentable(100));
        bench.any_context(0, Context { payload: 100, ..SEGMENT });
        bench.piece(1, TX_BUFFER, lengths[0], command::TSE, IXSM | TXSM);
        bench.piece(
            2,
            TX_BUFFER,
            lengths[1],
            command::TSE | command::EOP | command::RS,
            IXSM | TXSM,
        );
        bench.set(TDT, 3);
        assert_eq!(bench.get(TDH), 3);
        assert!(bench.tx_done(2) && bench.sent().len() <= 1, "{lengths:?}");
        bench.assert_alive();
    }
}

#[test]
fn cve_2012_0029_pieces_beyond_the_longest_packet_are_not_gathered() {
    for extended in [false, true] {
        let bench = Bench::new(true, false);
        for slot in 0..SLOTS - 1 {
            let end = if slot == SLOTS - 2 { command::EOP | command::RS } else { 0 };
            if extended {
                bench.piece(slot, TX_BUFFER, 0xf_ffff & (RAM as u32 / 2), end, 0);
            } else {
                bench.tx(slot, TX_BUFFER, u16::MAX, end);
            }
        }
        bench.set(TDT, SLOTS as u32 - 1);
        assert!(bench.sent().is_empty() && bench.tx_done(SLOTS - 2), "extended: {extended}");
        assert_eq!(bench.nic.counters().tx.dropped.total(), 1);
        bench.tx_frame(SLOTS - 1);
        bench.set(TDT, 0);
        assert_eq!(bench.sent().len(), 1, "the next packet is a new one");
    }
}

#[test]
fn cve_2012_0029_a_segment_is_no_longer_than_a_packet_may_be() {
    let bench = Bench::new(true, false);
    bench.put(TX_BUFFER, &segmentable(64000));
    for mss in [16000, 16235, 0x7fff, 0xffff] {
        let at = bench.get(TDT).into();
        bench.any_context(at, Context { payload: 64000, mss, ..SEGMENT });
        let next = (at + 1) % SLOTS;
        bench.piece(next, TX_BUFFER, 64054, command::EOP | command::RS | command::TSE, IXSM | TXSM);
        bench.set(TDT, ((next + 1) % SLOTS) as u32);
        assert!(bench.sent().iter().all(|frame| frame.len() <= MAX_SENT), "mss {mss}");
    }
    bench.assert_alive();
}

#[test]
fn cve_2012_6075_frames_longer_than_the_guest_allows_are_dropped() {
    let bench = Bench::new(true, false);
    for length in [1523, 2048, 9000, 16384, 20000] {
        assert_eq!(bench.receive(&frame(MAC, 1, length)), 0, "{length}");
    }
    assert_eq!(bench.get(RDH), 0);
    bench.set(RCTL, rctl::EN | rctl::SECRC | rctl::LPE);
    assert_eq!(bench.receive(&frame(MAC, 1, 16385)), 0, "never more than 16 KiB");
    assert_eq!(bench.receive(&frame(MAC, 1, 32768)), 0);
    assert_eq!(bench.receive(&frame(MAC, 1, 9000)), 1);
}

#[test]
fn cve_2012_6075_no_buffer_is_written_past_its_size() {
    for bits in 0..8 {
        let bench = Bench::new(true, false);
        let (code, extended) = (bits & 3, bits >> 2);
        let size = match (extended, code) {
            (0, code) => 2048 >> code,
            (_, 0) => 2048, // reserved
            (_, code) => 32768 >> code,
        };
        // Buffers at the end of pages of their own, with a guard behind each.
        let buffer = |slot: u64| RX_BUFFER + slot * 0x8000;
        bench.put(RX_BUFFER, &vec![0xaa; 0x8000 * SLOTS as usize]);
        (0..SLOTS).for_each(|slot| bench.write_u64(RX_RING + slot * 16, buffer(slot)));
        let size_bits = (code << rctl::BSIZE_SHIFT) | (extended * rctl::BSEX);
        bench.set(RCTL, rctl::EN | rctl::LPE | size_bits);
        for length in [60, 255, 256, 300, 1500, 2047, 2049] {
            bench.receive(&frame(MAC, 1, length));
        }
        let memory = bench.memory();
        for slot in 0..SLOTS {
            let guard = &memory[buffer(slot) as usize + size..buffer(slot + 1) as usize];
            assert!(guard.iter().all(|byte| *byte == 0xaa), "{size} bytes, slot {slot}");
        }
        let (used, length) = (0..SLOTS).fold((0, 0), |(used, max), slot| {
            let (length, status) = bench.rx_done(slot);
            (used + u32::from(status & rxd::DD != 0), max.max(usize::from(length)))
        });
        assert!(length <= size && used == bench.get(RDH) && used > 0, "{size} bytes: {length}");
    }
}

#[test]
fn cve_2020_28916_a_ring_of_null_buffers_ends() {
    let bench = Bench::new(true, false);
    (0..SLOTS).for_each(|slot| bench.write_u64(RX_RING + slot * 16, 0));
    let size = SLOTS as u32;
    bench.receive(&frame(MAC, 1, 60));
    assert_eq!(bench.get(RDH), size - 1, "all that it was given, and no more");
    assert!((0..SLOTS - 1).all(|slot| bench.rx_done(slot) == (0, rxd::DD)));
    bench.set(RCTL, rctl::EN | rctl::LPE | 0b11 << rctl::BSIZE_SHIFT);
    for round in 0..3 * size {
        let tail = round % size;
        bench.set(RDT, tail);
        for length in [9000, 1518, 60] {
            bench.receive(&frame(MAC, 1, length));
            assert_eq!(bench.get(RDH), tail, "round {round}, {length} bytes: one more");
        }
    }
    let rx = bench.nic.counters().rx;
    assert_eq!((rx.frames, rx.dropped.no_buffer), (0, u64::from(1 + 9 * size)));
    bench.assert_alive();
}

#[test]
fn cve_2022_23087_a_legacy_checksum_outside_the_frame_is_left_out() {
    let plain = frame([0xff; 6], 7, 60);
    for (cso, css) in [(59, 14), (60, 14), (255, 14), (20, 60), (20, 255), (255, 255)] {
        let bench = Bench::new(true, false);
        bench.put(TX_BUFFER, &plain);
        let before = bench.memory();
        bench.tx(0, TX_BUFFER, 60, command::EOP | command::RS | command::IC);
        let fields = bench.read_u64(TX_RING + 8);
        bench.write_u64(TX_RING + 8, fields | cso << 16 | css << 40);
        bench.set(TDT, 1);
        assert_eq!(bench.sent(), std::slice::from_ref(&plain), "CSO {cso}, CSS {css}");
        assert_eq!(bench.memory()[0x4000..], before[0x4000..], "the guest's frame is its own");
    }
}

#[test]
fn cve_2016_2857_offload_offsets_outside_the_frame_are_ignored() {
    let plain = frame([0xff; 6], 7, 60);
    let outside = [60, 61, 255];
    for at in outside {
        for (ip, tcp) in [([at, 24], [34, at]), ([14, at], [at, 50]), ([at, at], [at, at])] {
            for end in [0, 13, 59, 60, 61, 0xffff] {
                let bench = Bench::new(true, false);
                bench.put(TX_BUFFER, &plain);
                let context = Context { ip, tcp, ip_end: end, tcp_end: end, ..SEGMENT };
                bench.any_context(0, Context { command: TCP | IP, ..context });
                bench.piece(1, TX_BUFFER, 60, command::EOP | command::RS, IXSM | TXSM);
                bench.set(TDT, 2);
                assert_eq!(bench.sent(), std::slice::from_ref(&plain), "{context:?}");
            }
        }
    }
}

#[test]
fn cve_2016_2857_a_checksum_that_ends_before_it_begins_touches_only_its_field() {
    let plain = frame([0xff; 6], 7, 60);
    let bench = Bench::new(true, false);
    bench.put(TX_BUFFER, &plain);
    let context = Context { ip_end: 13, tcp_end: 33, ..SEGMENT };
    bench.any_context(0, Context { command: TCP | IP, ..context });
    bench.piece(1, TX_BUFFER, 60, command::EOP | command::RS, IXSM | TXSM);
    bench.set(TDT, 2);
    let sent = bench.sent();
    assert_eq!((sent.len(), sent[0].len()), (1, 60));
    let changed = (0..60).filter(|at| sent[0][*at] != plain[*at]);
    assert!(changed.into_iter().all(|at| [24, 25, 50, 51].contains(&at)));
}

#[test]
fn cve_2019_5609_a_header_longer_than_the_packet_is_not_segmented() {
    for (header, length) in [(255, 60), (61, 60), (60, 60), (200, 199), (255, 1)] {
        let bench = Bench::new(true, false);
        bench.put(TX_BUFFER, &segmentable(1000));
        bench.any_context(0, Context { header, payload: 1000, mss: 10, ..SEGMENT });
        bench.piece(1, TX_BUFFER, length, command::EOP | command::RS | command::TSE, IXSM | TXSM);
        bench.set(TDT, 2);
        assert!(bench.tx_done(1));
        let sent = bench.sent();
        assert!(sent.iter().all(|frame| frame.len() <= length as usize), "{header} of {length}");
        bench.assert_alive();
    }
}

#[test]
fn cve_2019_5609_segment_headers_are_edited_only_inside_themselves() {
    for ip in [[14, 24], [0, 0], [50, 60], [255, 255]] {
        for tcp in [[34, 50], [0, 0], [53, 53], [40, 255], [255, 0]] {
            let bench = Bench::new(true, false);
            bench.put(TX_BUFFER, &segmentable(2500));
            let before = bench.memory();
            bench.any_context(0, Context { ip, tcp, payload: 2500, ..SEGMENT });
            bench.piece(1, TX_BUFFER, 2554, command::EOP | command::RS | command::TSE, IXSM | TXSM);
            bench.set(TDT, 2);
            let sent = bench.sent();
            assert!(sent.len() <= 3, "{ip:?} {tcp:?}");
            for (segment, frame) in sent.iter().enumerate() {
                assert_eq!(frame.len(), [1054, 1054, 554][segment]);
            }
            assert_eq!(bench.memory()[0x4000..], before[0x4000..]);
            bench.assert_alive();
        }
    }
}

/// The escape: a segmented packet that an empty descriptor ends leaves its length behind, and the
/// next packet's is counted down below zero.
#[test]
fn cve_virtualbox_2018_an_empty_end_leaves_no_length_behind() {
    let bench = Bench::new(true, false);
    bench.put(TX_BUFFER, &segmentable(4000));
    bench.any_context(0, Context { payload: 4000, mss: 3000, ..SEGMENT });
    bench.piece(1, TX_BUFFER, 0x10, command::TSE, IXSM | TXSM);
    bench.piece(2, TX_BUFFER, 0, command::TSE | command::EOP, IXSM | TXSM);
    bench.any_context(3, Context { payload: 0, mss: 0xf, command: TCP | IP, ..SEGMENT });
    bench.piece(4, TX_BUFFER, 0x4188, command::EOP | command::RS, IXSM | TXSM);
    bench.tx_frame(5);
    bench.set(TDT, 6);
    assert_eq!(bench.get(TDH), 6);
    let sent = bench.sent();
    assert!(sent.iter().all(|frame| frame.len() <= MAX_SENT), "0x4188 bytes are too many");
    assert_eq!(sent.last(), Some(&frame([0xff; 6], 5, 60)));
    assert!(sent.len() <= 2);
}

#[test]
fn cve_stale_state_the_segmentation_context_does_not_change_plain_packets() {
    let bench = Bench::new(true, false);
    let plain = frame([0xff; 6], 7, 200);
    bench.put(TX_BUFFER, &segmentable(1500));
    bench.put(TX_BUFFER + 0x1000, &plain);
    bench.any_context(0, Context { payload: 1500, ..SEGMENT });
    bench.piece(1, TX_BUFFER, 1554, command::EOP | command::RS | command::TSE, IXSM | TXSM);
    bench.piece(2, TX_BUFFER + 0x1000, 200, command::EOP | command::RS, 0);
    bench.tx(3, TX_BUFFER + 0x1000, 200, command::EOP | command::RS);
    bench.set(TDT, 4);
    let sent = bench.sent();
    let lengths: Vec<_> = sent.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1054, 554, 200, 200]);
    assert_eq!(sent[2..], [plain.clone(), plain]);
}

#[test]
fn cve_stale_state_a_reset_forgets_the_packet_at_hand() {
    for extended in [false, true] {
        let bench = Bench::new(true, false);
        bench.put(TX_BUFFER, &segmentable(1500));
        if extended {
            bench.any_context(0, Context { payload: 1500, ..SEGMENT });
            bench.piece(1, TX_BUFFER, 700, command::TSE, IXSM | TXSM);
        } else {
            bench.tx(0, TX_BUFFER, 100, 0);
            bench.tx(1, RAM, 100, 0); // a fault, before the end
        }
        bench.set(TDT, 2);
        bench.assert_alive();
    }
}

/// One packet of a driver, for the reference model.
#[derive(Clone, Debug)]
enum Sent {
    /// Legacy or data descriptors, in pieces.
    Plain { extended: bool, pieces: Vec<u16>, empty_end: bool },
    /// A context that the packets after it do not use.
    Idle(u8, u16),
    /// Segmentation: bytes of payload and per segment.
    Segmented { payload: u16, mss: u16, split: u16 },
}

fn sent() -> impl Strategy<Value = Sent> {
    let piece = prop::sample::select(vec![0u16, 6, 60, 700, 5000]);
    prop_oneof![
        4 => (any::<bool>(), prop::collection::vec(piece, 1..5), any::<bool>()).prop_map(
            |(extended, pieces, empty_end)| Sent::Plain { extended, pieces, empty_end }),
        1 => any::<(u8, u16)>().prop_map(|(header, mss)| Sent::Idle(header, mss)),
        2 => (1u16..6000, 100u16..2000, 0u16..6000).prop_map(
            |(payload, mss, split)| Sent::Segmented { payload, mss, split }),
    ]
}

/// The present slot; moves on to the next.
fn advance(slot: &mut u64) -> u64 {
    std::mem::replace(slot, (*slot + 1) % SLOTS)
}

proptest! {
    /// Which frames leave, and how long they are, depends on each packet alone.
    #[test]
    fn cve_stale_state_every_packet_stands_alone(packets in prop::collection::vec(sent(), 1..40)) {
        let bench = Bench::new(true, false);
        let mut slot = 0;
        let mut expected: Vec<usize> = Vec::new();
        bench.put(TX_BUFFER, &segmentable(20_000));
        for packet in packets {
            match packet {
                Sent::Idle(header, mss) => bench.any_context(advance(&mut slot), Context {
                    header, mss, command: TCP | IP, ..SEGMENT
                }),
                Sent::Plain { extended, mut pieces, empty_end } => {
                    if empty_end {
                        pieces.push(0);
                    }
                    let total: usize = pieces.iter().map(|piece| usize::from(*piece)).sum();
                    for (index, piece) in pieces.iter().enumerate() {
                        let end = if index + 1 == pieces.len() { command::EOP } else { 0 };
                        match extended {
                            true => bench.piece(advance(&mut slot), TX_BUFFER, (*piece).into(), end, 0),
                            false => bench.tx(advance(&mut slot), TX_BUFFER, *piece, end),
                        }
                    }
                    expected.extend((14..=MAX_SENT).contains(&total).then_some(total));
                }
                Sent::Segmented { payload, mss, split } => {
                    let total = u32::from(HEADERS) + u32::from(payload);
                    bench.any_context(advance(&mut slot), Context { payload: payload.into(), mss, ..SEGMENT });
                    let first = u32::from(HEADERS) + u32::from(split.min(payload));
                    let last = total - first;
                    bench.piece(advance(&mut slot), TX_BUFFER, first, command::TSE, IXSM | TXSM);
                    let rest = TX_BUFFER + u64::from(first);
                    bench.piece(advance(&mut slot), rest, last, command::TSE | command::EOP, IXSM | TXSM);
                    let full = usize::from(payload / mss);
                    let header = usize::from(HEADERS);
                    expected.extend(std::iter::repeat_n(header + usize::from(mss), full));
                    let left = usize::from(payload % mss);
                    expected.extend((left > 0).then_some(header + left));
                }
            }
            bench.set(TDT, slot as u32);
        }
        let sent: Vec<usize> = bench.sent().iter().map(Vec::len).collect();
        prop_assert_eq!(sent, expected);
    }
}

/// Where a descriptor ring, a buffer or the CSB may be put to make the device talk to itself.
#[test]
fn cve_2020_15859_transmit_buffers_outside_ram_complete_without_a_frame() {
    for address in NOWHERE {
        for extended in [false, true] {
            let bench = Bench::new(true, false);
            let before = bench.get(TDBAL);
            match extended {
                true => bench.piece(0, address, 60, command::EOP | command::RS, 0),
                false => bench.tx(0, address, 60, command::EOP | command::RS),
            }
            bench.tx_frame(1);
            bench.set(TDT, 2);
            assert!(bench.tx_done(0), "{address:#x}");
            assert_eq!(bench.sent(), [frame([0xff; 6], 1, 60)]);
            assert_eq!(bench.nic.counters().tx.dropped.bad_address, 1);
            assert_eq!(bench.get(TDBAL), before, "no register was written");
        }
    }
}

#[test]
fn cve_2023_3019_receive_buffers_outside_ram_complete_without_data() {
    for address in NOWHERE {
        let bench = Bench::new(true, false);
        bench.write_u64(RX_RING, address);
        let before = bench.memory();
        assert_eq!(bench.receive(&frame(MAC, 1, 60)), 0);
        let (_, status) = bench.rx_done(0);
        let both = rxd::DD | rxd::RXE;
        assert_eq!(status & both, both, "{address:#x}: used, with an error");
        assert_eq!(bench.memory()[0x4000..], before[0x4000..], "no byte of it arrived");
        assert_eq!(bench.receive(&frame(MAC, 2, 60)), 1);
        assert_eq!(bench.rx_bytes(1, 60), frame(MAC, 2, 60));
    }
}

#[test]
fn cve_2020_15859_rings_outside_ram_stand_still() {
    for address in NOWHERE {
        let bench = Bench::new(true, true);
        let before = bench.memory();
        for (low, high, tail) in [(TDBAL, TDBAH, TDT), (RDBAL, RDBAH, RDT)] {
            bench.set(low, address as u32);
            bench.set(high, (address >> 32) as u32);
            bench.set(tail, 5);
        }
        bench.set(CSBAH, (address >> 32) as u32);
        bench.set(CSBAL, address as u32);
        assert_eq!(bench.receive(&frame(MAC, 1, 60)), 0);
        assert_eq!((bench.get(TDH), bench.get(RDH)), (0, 0), "{address:#x}");
        assert_eq!(bench.memory(), before);
        bench.assert_alive();
    }
}

/// Both rings are the same memory, and so are the buffers: what is sent overwrites what is to be
/// sent.
#[test]
fn cve_2021_3416_loopback_into_the_ring_that_is_being_sent_ends() {
    for loopback in [Loopback::Mac, Loopback::Phy] {
        let bench = Bench::new(true, false);
        bench.loop_back(loopback);
        bench.set(RDBAL, TX_RING as u32);
        for slot in 0..SLOTS {
            bench.tx_frame(slot);
            bench.write_u64(TX_RING + slot * 16, TX_RING + slot * 16);
        }
        bench.set(TDT, SLOTS as u32 - 1);
        assert!(bench.nic.counters().tx.descriptors <= SLOTS, "{loopback:?}");
        assert!(bench.sent().is_empty(), "nothing leaves");
        bench.leave_loopback(loopback);
        bench.assert_alive();
    }
}

#[test]
fn cve_2021_3416_loopback_is_bounded_by_the_receive_ring() {
    for loopback in [Loopback::Mac, Loopback::Phy] {
        let bench = Bench::new(true, false);
        bench.loop_back(loopback);
        for round in 0..3 * SLOTS {
            bench.tx_frame(round % SLOTS);
            bench.set(TDT, ((round + 1) % SLOTS) as u32);
        }
        let counters = bench.nic.counters();
        assert_eq!((counters.tx.frames, counters.rx.frames), (3 * SLOTS, SLOTS - 1));
        assert_eq!(counters.rx.dropped.no_buffer, 2 * SLOTS + 1, "{loopback:?}");
        assert_eq!(bench.rx_bytes(0, 60), frame([0xff; 6], 0, 60));
        assert!(bench.sent().is_empty());
        assert_eq!(bench.receive(&frame(MAC, 0, 60)), 0, "and nothing comes in");
        bench.leave_loopback(loopback);
        bench.assert_alive();
    }
}

/// Where the MAC's output turns back.
#[derive(Clone, Copy, Debug)]
enum Loopback {
    Mac,
    Phy,
}

impl Bench {
    fn loop_back(&self, at: Loopback) {
        match at {
            Loopback::Mac => self.set(RCTL, self.get(RCTL) | rctl::LBM_MAC),
            Loopback::Phy => self.write_phy_control(0x4140),
        }
    }

    fn leave_loopback(&self, at: Loopback) {
        match at {
            Loopback::Mac => self.set(RCTL, self.get(RCTL) & !rctl::LBM_MAC),
            Loopback::Phy => self.write_phy_control(0x1140),
        }
    }

    fn write_phy_control(&self, value: u32) {
        const WRITE: u32 = 0b01 << 26;
        const PHY: u32 = 1 << 21;
        self.set(MDIC, WRITE | PHY | value);
    }
}

/// One word of a hostile descriptor.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), Just(0), 0..RAM, (0..64u32).prop_map(|bit| 1 << bit)]
}

proptest! {
    #[test]
    fn cve_2020_16092_no_descriptor_reaches_a_panic(
        descriptors in prop::collection::vec((word(), word(), any::<u8>()), 1..64),
        options in any::<[u32; 4]>(),
    ) {
        let bench = Bench::new(true, false);
        bench.set(TCTL, tctl::EN | options[0]);
        bench.set(CTRL, options[1] & !(ctrl::RST | ctrl::PHY_RST));
        bench.set(RXCSUM, options[2]);
        bench.set(RCTL, rctl::EN | options[3]);
        for (index, (low, high, command)) in descriptors.into_iter().enumerate() {
            let slot = index as u64 % SLOTS;
            bench.write_u64(TX_RING + slot * 16, low);
            bench.write_u64(TX_RING + slot * 16 + 8, high ^ u64::from(command) << 24);
            bench.write_u64(RX_RING + slot * 16, low);
            bench.set(TDT, ((slot + 1) % SLOTS) as u32);
            bench.receive(&frame(MAC, command, 14 + (high % 2000) as usize));
        }
        let tx = bench.nic.counters().tx;
        prop_assert!(bench.sent().iter().all(|frame| (14..=MAX_SENT + 4).contains(&frame.len())));
        prop_assert!(tx.descriptors <= 64);
        bench.leave_loopback(Loopback::Phy);
        bench.assert_alive();
    }
}

proptest! {
    /// Any register writes, memory contents, frames and clock steps: no panic, and one access
    /// consumes no more than its looks at the ring allow, of 4096 descriptors each.
    #[test]
    fn cve_2020_16092_no_access_reaches_a_panic(actions in prop::collection::vec(
        (0u8..6, 0u32..0x6000, any::<u64>()), 1..200), csb: bool) {
        let bench = Bench::new(true, csb);
        for (action, register, value) in actions {
            let before = bench.nic.counters().tx.descriptors;
            let ring = u64::from(bench.get(TDLEN)) / 16;
            match action {
                0 => bench.set(register & !3, value as u32),
                1 => bench.set([TDT, RDT, TDH, RDH, TDLEN, RDLEN, CSBAL, RCTL, TCTL, ITR]
                    [value as usize % 10], register),
                2 => bench.write_u64(u64::from(register), value),
                3 => { bench.receive(&frame(MAC, 0, 14 + value as usize % 2000)); }
                4 => { bench.clock.advance(value % 1_000_000); bench.nic.on_timer(); }
                _ => { bench.get(register & !3); }
            }
            let consumed = bench.nic.counters().tx.descriptors - before;
            let ring = ring.max(u64::from(bench.get(TDLEN)) / 16).min(4096);
            prop_assert!(consumed <= 6 * ring, "{consumed} descriptors of {ring}");
        }
    }
}
/// Drivers write the ring's registers in any order, and again while the device runs.
#[test]
fn cve_bhyve_rs366771_the_ring_is_where_its_registers_say_at_every_kick() {
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]];
    for order in orders {
        let bench = Bench::powered(true, false);
        bench.nic.set_bus_master(true);
        bench.nic.set_link(true);
        bench.tx_frame(0);
        let writes =
            [(TDBAL, TX_RING as u32), (TDBAH, 0), (TDLEN, 16 * SLOTS as u32), (TCTL, tctl::EN)];
        bench.set(TDBAH, 0xffff_ffff);
        order.iter().for_each(|at| bench.set(writes[*at].0, writes[*at].1));
        bench.set(TDT, 1);
        assert_eq!(bench.sent().len(), 1, "{order:?}");

        // The ring moves while it is enabled: high word first, low word, then length.
        const ELSEWHERE: u64 = 0x8000;
        bench.put(ELSEWHERE, &[0; 128]);
        let buffer = TX_BUFFER + 0x4000;
        bench.put(buffer, &frame([0xff; 6], 9, 60));
        bench.write_u64(ELSEWHERE + 16, buffer);
        bench.write_u64(ELSEWHERE + 24, 60 | u64::from(command::EOP) << 24);
        bench.set(TDBAL, ELSEWHERE as u32);
        bench.set(TDT, 2);
        assert_eq!(bench.sent(), [frame([0xff; 6], 9, 60)]);
        bench.set(TDBAH, 1);
        bench.set(TDT, 3);
        assert_eq!((bench.sent().len(), bench.get(TDH)), (0, 2), "outside RAM: it stands still");
        bench.set(TDLEN, 0);
        bench.set(TDBAH, 0);
        bench.set(TDT, 3);
        assert_eq!(bench.get(TDH), 2);
    }
}

/// A guest whose other CPU rewrites descriptors, headers and the CSB while the device reads them.
#[test]
fn cve_toctou_memory_that_changes_under_way_stays_the_guests_own_problem() {
    const GUARD: u64 = RAM - 0x8000;
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            let mut random = move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            while !stop.load(Ordering::Relaxed) {
                let noise = random();
                // Buffer addresses stay away from the guard: there the guest gave nobody anything.
                let (at, value) = match noise % 6 {
                    0 => (TX_RING + (noise >> 8) % SLOTS * 16, random() % (GUARD - 0x8000)),
                    1 | 2 => (TX_RING + (noise >> 8) % SLOTS * 16 + 8, random()),
                    3 => (RX_RING + (noise >> 8) % SLOTS * 16, RX_BUFFER + (random() & 0xf000)),
                    4 => (CSB_PAGE + (noise >> 8) % 13 * 8, random() & 0x7_0000_0007),
                    _ => (TX_BUFFER + (noise >> 8) % 64 * 8, random()),
                };
                bench.ram.atomic_u64(at).unwrap().store(value, Ordering::Relaxed);
            }
        });
        let mut frames = 0;
        let give_up = Instant::now() + Duration::from_secs(60);
        for round in 0u32.. {
            // The other CPU must have had its turn, however busy the machine is.
            if round >= 20_000 && (frames > 0 || Instant::now() > give_up) {
                break;
            }
            bench.set(TDT, round % SLOTS as u32);
            bench.receive(&frame(MAC, 0, 60 + round as usize % 1400));
            bench.set(RDT, round.wrapping_add(5) % SLOTS as u32);
            if round % 64 == 0 {
                bench.clock.advance(1_000_000);
                bench.nic.on_timer();
            }
            let sent = bench.sent();
            assert!(sent.iter().all(|frame| (14..=MAX_SENT).contains(&frame.len())));
            frames += sent.len();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(frames > 0, "some of it must have been frames");
    });
    assert!(bench.memory()[GUARD as usize..].iter().all(|byte| *byte == 0));
    bench.assert_alive();
}

#[test]
fn cve_register_access_of_any_width_and_place_stays_inside() {
    let bench = Bench::new(true, true);
    let end = u64::from(BAR0_SIZE);
    let places =
        [0, 1, 2, 3, 0xbf, 0xc1, 0x2831, 0x3817, 0x53fd, 0x5ffc, end - 8, end - 1, end, end + 1];
    for at in places.into_iter().chain([u64::from(u32::MAX) - 2, 1 << 40, u64::MAX - 3, u64::MAX]) {
        for width in 0..=16 {
            let mut data = vec![0x5a; width];
            bench.nic.read(at, &mut data);
            bench.nic.write(at, &data);
            bench.nic.io_read(at, &mut data);
            bench.nic.io_write(at, &data);
        }
    }
    bench.assert_alive();
}

#[test]
fn cve_register_access_through_ioaddr_reaches_registers_only() {
    let bench = Bench::new(true, false);
    let (mut read, io) =
        ([0; 4], |port: u64, value: u32| bench.nic.io_write(port, &value.to_le_bytes()));
    io(0, RA);
    bench.nic.io_read(4, &mut read);
    assert_eq!(read, [0x52, 0x54, 0, 0]);
    for address in [0x1_fffd, 0x2_0000, 0x7_ffff, 0x8000_0000, u32::MAX] {
        io(0, address);
        io(4, 0xffff_ffff);
        bench.nic.io_read(4, &mut read);
    }
    bench.assert_alive();
}

#[test]
fn cve_register_access_to_half_of_icr_reads_it_once() {
    let bench = Bench::new(true, false);
    bench.set(ICS, cause::RXT0 | cause::LSC);
    let mut bytes = [0; 8]; // ICR and ITR
    bench.nic.read(u64::from(ICR), &mut bytes);
    assert_eq!(bytes[0], (cause::RXT0 | cause::LSC) as u8);
    bench.set(ICS, cause::RXT0);
    let mut byte = [0; 1];
    bench.nic.read(u64::from(ICR), &mut byte);
    assert_eq!((byte[0], bench.get(ICR)), (cause::RXT0 as u8, 0));
    bench.set(ICS, cause::RXT0);
    bench.nic.write(u64::from(IMS) + 1, &[0]);
    assert_eq!(bench.get(ICR), cause::RXT0, "a neighbouring write acknowledges nothing");
}

#[test]
fn cve_interrupt_level_follows_cause_and_mask_through_every_order() {
    let bench = Bench::new(false, false);
    let before = bench.nic.counters().interrupts;
    let level = || bench.line.0.lock().last().copied().unwrap_or(false);
    bench.set(IMC, u32::MAX);
    bench.set(ICS, cause::RXT0);
    assert!(!level(), "masked");
    for _ in 0..20_000 {
        bench.set(IMS, cause::RXT0);
        assert!(level(), "a cause that was never acknowledged comes back");
        bench.set(IMC, cause::RXT0);
        assert!(!level(), "masking it during delivery withdraws it");
    }
    bench.set(IMS, cause::RXT0);
    bench.set(ICS, cause::LSC);
    bench.set(ICR, cause::RXT0);
    assert!(!level(), "the other cause is masked");
    bench.set(IMS, cause::LSC);
    assert!(level());
    bench.get(ICR);
    assert!(!level());
    assert_eq!(bench.nic.counters().interrupts - before, bench.edges() as u64);
}

/// Two CPUs: one receives, the other acknowledges. None may be lost: after the last frame either
/// the line is high or the cause has been read.
#[test]
fn cve_interrupt_races_with_its_acknowledgement_lose_nothing() {
    let bench = Bench::new(false, false);
    for _ in 0..2_000 {
        let seen = std::thread::scope(|scope| {
            let reader = scope.spawn(|| bench.get(ICR) & cause::RXT0 != 0);
            bench.receive(&frame(MAC, 0, 60));
            reader.join().unwrap()
        });
        let high = bench.line.0.lock().last() == Some(&true);
        assert_ne!(seen, high, "acknowledged or pending, never both or neither");
        bench.get(ICR);
        bench.line.0.lock().clear();
        bench.set(RDT, (bench.get(RDH) + SLOTS as u32 - 1) % SLOTS as u32);
    }
}

#[test]
fn cve_interrupt_that_moderation_holds_is_gone_after_a_reset() {
    let bench = Bench::new(true, false);
    bench.set(ITR, 500);
    bench.receive(&frame(MAC, 0, 60));
    bench.get(ICR);
    bench.receive(&frame(MAC, 0, 60));
    bench.set(CTRL, ctrl::RST);
    bench.set(IMS, cause::ALL);
    let edges = bench.edges();
    bench.clock.advance(1_000_000_000);
    bench.nic.on_timer();
    assert_eq!(bench.edges(), edges);
    bench.set(ICS, cause::LSC);
    assert_eq!(bench.edges(), edges + 1, "the next one does not wait for what was before");
}

/// Memory of the host does not grow with what a guest asks for.
#[test]
fn cve_2016_5403_batches_are_bounded_however_much_is_queued() {
    const SIZE: u64 = 0x8000 / 16;
    #[derive(Default)]
    struct Largest(Arc<Mutex<(usize, usize)>>);
    impl Backend for Largest {
        fn transmit(&mut self, batch: &FrameBatch<'_>) {
            let mut seen = self.0.lock();
            seen.0 = seen.0.max(batch.len());
            let spans = batch.iter().map(|frame| frame.spans().len());
            seen.1 = seen.1.max(spans.sum());
        }
    }
    let largest = Largest::default();
    let seen = largest.0.clone();
    let bench = Bench::with_backend(Box::new(largest));
    const RING: u64 = 0x80000;
    bench.set(TDBAL, RING as u32);
    bench.set(TDLEN, 16 * SIZE as u32);
    for slot in 0..SIZE {
        bench.write_u64(RING + slot * 16, TX_BUFFER);
        // Every eighth descriptor ends a frame of eight pieces.
        let end = if slot % 8 == 7 { command::EOP } else { 0 };
        bench.write_u64(RING + slot * 16 + 8, 60 | u64::from(end) << 24);
    }
    bench.set(TDT, SIZE as u32 - 1);
    let (frames, spans) = *seen.lock();
    assert!((1..=256).contains(&frames) && spans <= 256 * 9, "{frames} frames, {spans} pieces");
}

/// Segments are made of one packet, but a kick is not endless work for it.
#[test]
fn cve_2016_5403_a_ring_of_segmented_packets_is_served_in_portions() {
    #[derive(Default)]
    struct Count(Arc<Mutex<u64>>);
    impl Backend for Count {
        fn transmit(&mut self, batch: &FrameBatch<'_>) {
            *self.0.lock() += batch.total_bytes();
        }
    }
    const SIZE: u64 = 4096;
    const RING: u64 = 0x80000;
    // 16384 frames, and those of the packet that goes beyond them.
    const PORTION: u64 = (16384 + 4096) * (14 + 64);
    let count = Count::default();
    let sent = count.0.clone();
    let bench = Bench::with_backend(Box::new(count));
    bench.set(TDBAL, RING as u32);
    bench.set(TDLEN, 16 * SIZE as u32);
    // 4095 segments: not a multiple of the batch, so that no full batch ends the packet.
    bench.any_context(0, Context { header: 14, mss: 64, ..SEGMENT });
    let fields =
        (14 + 4095 * 64) | 1 << 20 | u64::from(command::DEXT | command::TSE | command::EOP) << 24;
    bench.put(RING, &bench.memory()[TX_RING as usize..][..16]);
    for slot in 1..SIZE {
        bench.write_u64(RING + slot * 16, 0x1_0000);
        bench.write_u64(RING + slot * 16 + 8, fields);
    }
    for _ in 0..3 {
        let before = (bench.get(TDH), *sent.lock());
        bench.set(TDT, SIZE as u32 - 1);
        let progress = bench.get(TDH) - before.0;
        assert!((1..10).contains(&progress), "{progress} packets");
        assert!(*sent.lock() - before.1 <= PORTION);
        assert_eq!(bench.armed.0.lock().last(), Some(&bench.clock.now()), "the rest follows");
    }
}

#[test]
fn cve_2016_5403_a_receiver_without_buffers_drops_and_counts() {
    let bench = Bench::new(true, false);
    bench.set(RDT, bench.get(RDH));
    (0..10_000).for_each(|_| assert_eq!(bench.receive(&frame(MAC, 0, 60)), 0));
    assert_eq!(bench.nic.counters().rx.dropped.no_buffer, 10_000);
}

#[test]
fn cve_timer_that_was_armed_before_a_reset_does_nothing_after_it() {
    let bench = Bench::new(true, true);
    for (register, value) in [(ITR, 0xffff), (RDTR, 100), (RADV, 200), (TIDV, 100), (TADV, 200)] {
        bench.set(register, value);
    }
    bench.turn_csb_on();
    make_it_stream(&bench);
    bench.set_csb(Field::GuestNeedRxkick, 0);
    bench.receive(&frame(MAC, 0, 60));
    assert!(!bench.armed.0.lock().is_empty());
    bench.set(CTRL, ctrl::RST);
    bench.sent();
    let (before, edges) = (bench.memory(), bench.edges());
    for _ in 0..10 {
        bench.clock.advance(100_000_000);
        bench.nic.on_timer();
    }
    assert_eq!((bench.sent().len(), bench.edges()), (0, edges));
    assert_eq!(bench.memory(), before);
    bench.assert_alive();
}

#[test]
fn cve_timer_that_fires_without_bus_mastering_touches_no_memory() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    make_it_stream(&bench);
    bench.set_csb(Field::GuestNeedRxkick, 0);
    bench.receive(&frame(MAC, 0, 60));
    bench.nic.set_bus_master(false);
    bench.tx_frame(6);
    bench.set_csb(Field::GuestTdt, 7);
    bench.sent();
    let before = bench.memory();
    for _ in 0..10 {
        bench.clock.advance(100_000_000);
        bench.nic.on_timer();
    }
    assert!(bench.sent().is_empty() && bench.memory() == before);
    bench.nic.set_bus_master(true);
    bench.set(TDT, 7);
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn cve_timer_that_outlives_its_device_finds_nobody() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    make_it_stream(&bench);
    bench.set(ITR, 0xffff);
    bench.receive(&frame(MAC, 0, 60));
    let nic = Arc::downgrade(&bench.nic);
    drop(bench);
    assert!(nic.upgrade().is_none(), "no timer and no line keeps a device alive");
}

#[test]
fn cve_2018_17963_frames_that_no_ethernet_has_are_dropped() {
    let bench = Bench::new(true, false);
    bench.set(RCTL, rctl::EN | rctl::BAM | rctl::LPE | rctl::UPE | rctl::MPE);
    let before = bench.memory();
    for length in [0, 1, 6, 13, 16385, 65535, 65536, 70_000, 1 << 20] {
        assert_eq!(bench.receive(&vec![0xff; length]), 0, "{length}");
    }
    assert_eq!(bench.memory(), before);
    let dropped = bench.nic.counters().rx.dropped;
    assert_eq!((dropped.filtered, dropped.oversize), (4, 5));
    bench.assert_alive();
}

#[test]
fn cve_csb_words_of_any_value_move_only_what_the_ring_holds() {
    let values = [0, 1, SLOTS as u32 - 1, SLOTS as u32, 0xffff, 0x8000_0000, u32::MAX];
    for offset in (0..0x68).step_by(4) {
        let bench = Bench::new(true, true);
        bench.turn_csb_on();
        for value in values {
            let word = CSB_PAGE + offset;
            bench.ram.atomic_u32(word).unwrap().store(value, Ordering::SeqCst);
            let before = bench.nic.counters();
            bench.set(TDT, value);
            bench.receive(&frame(MAC, 0, 60));
            bench.clock.advance(2_000_000);
            bench.nic.on_timer();
            let after = bench.nic.counters();
            assert!(after.tx.descriptors - before.tx.descriptors <= 6 * SLOTS);
            assert!(after.rx.frames - before.rx.frames <= 1);
        }
        let page = bench.memory()[CSB_PAGE as usize..][..4096].to_vec();
        assert!(page[0x68..].iter().all(|byte| *byte == 0), "the host's words end at 0x67");
        bench.assert_alive();
    }
}

#[test]
fn cve_csb_on_top_of_rings_and_buffers_ends() {
    for page in [TX_RING, RX_RING, TX_BUFFER, RX_BUFFER, 0x1008, RAM - 4096] {
        let bench = Bench::new(true, true);
        bench.set(CSBAL, page as u32);
        bench.ram.atomic_u32(page + Field::GuestCsbOn as u64).unwrap().store(1, Ordering::SeqCst);
        for slot in 0..SLOTS {
            bench.tx_frame(slot);
            bench.set(TDT, (slot as u32 + 1) % SLOTS as u32);
            bench.receive(&frame(MAC, 0, 60));
            bench.clock.advance(600_000);
            bench.nic.on_timer();
        }
        bench.assert_alive();
    }
}

/// Mapping, resetting and releasing it writes to memory, which is DMA like any other.
#[test]
fn cve_csb_is_not_touched_without_bus_mastering() {
    let bench = Bench::new(true, true);
    bench.nic.set_bus_master(false);
    let before = bench.memory();
    bench.set(CSBAL, CSB_PAGE as u32);
    bench.set(CTRL, ctrl::RST);
    bench.set(TDT, 1);
    bench.set(CSBAL, 0);
    bench.set(CSBAL, CSB_PAGE as u32);
    assert_eq!(bench.memory(), before);
    bench.nic.set_bus_master(true);
    assert_eq!(bench.csb(Field::HostRxkickAt), u32::MAX, "mapped as soon as it may be");
}
