//! The whole device on plain memory, driven as a driver would.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use vm_memory::Bytes;

use super::csb::Field;
use super::descriptor::command;
use super::registers::offset::*;
use super::regs::*;
use super::*;
use crate::clock::ManualClock;

/// Records what the NIC transmits.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<Vec<u8>>>>);

impl Backend for Wire {
    fn transmit(&mut self, batch: &FrameBatch<'_>) {
        self.0.lock().extend(batch.iter().map(|frame| {
            let mut bytes = vec![0; frame.len()];
            assert_eq!(frame.copy_out(0, &mut bytes), frame.len());
            bytes
        }));
    }
}

#[derive(Default)]
struct Line(Mutex<Vec<bool>>);

impl InterruptLine for Line {
    fn set_level(&self, high: bool) {
        self.0.lock().push(high);
    }
}

#[derive(Default)]
struct Armed(Mutex<Vec<u64>>);

impl Timer for Armed {
    fn arm(&self, deadline: u64) {
        self.0.lock().push(deadline);
    }
}

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const RAM: u64 = 1 << 20;
const TX_RING: u64 = 0x1000;
const RX_RING: u64 = 0x2000;
const CSB_PAGE: u64 = 0x3000;
const TX_BUFFER: u64 = 0x10000;
const RX_BUFFER: u64 = 0x40000;
const SLOTS: u64 = 8;

struct Bench {
    nic: Arc<E1000>,
    ram: GuestRam,
    wire: Wire,
    line: Arc<Line>,
    armed: Arc<Armed>,
    clock: Arc<ManualClock>,
}

impl Bench {
    /// A NIC with both rings set up, link up, all causes unmasked.
    fn new(itr: bool, csb: bool) -> Self {
        let bench = Self::powered(itr, csb);
        bench.nic.set_bus_master(true);
        bench.nic.set_link(true);
        bench.configure();
        bench
    }

    fn powered(itr: bool, csb: bool) -> Self {
        let wire = Wire::default();
        Self::plugged_into(Box::new(wire.clone()), wire, itr, csb)
    }

    /// A NIC that sends to `backend`, and what `backend` writes to `wire`.
    fn plugged_into(backend: Box<dyn Backend>, wire: Wire, itr: bool, csb: bool) -> Self {
        let config = E1000Config { mac: MAC, itr, csb, policy: Policy::Push };
        Self::build(config, backend, wire, Arc::new(ManualClock::at(1_000_000_000)))
    }

    fn build(
        config: E1000Config,
        backend: Box<dyn Backend>,
        wire: Wire,
        clock: Arc<ManualClock>,
    ) -> Self {
        let ram = GuestRam::new(RAM).unwrap();
        let (line, armed) = (Arc::new(Line::default()), Arc::new(Armed::default()));
        let host = E1000Host {
            ram: ram.clone(),
            clock: clock.clone(),
            timer: armed.clone(),
            line: line.clone(),
            backend,
            doorbell: None,
        };
        let nic = E1000::new(config, host);
        Self { nic, ram, wire, line, armed, clock }
    }

    fn configure(&self) {
        self.set(TDBAL, TX_RING as u32);
        self.set(TDLEN, (SLOTS * 16) as u32);
        self.set(TCTL, tctl::EN);
        self.set(RDBAL, RX_RING as u32);
        self.set(RDLEN, (SLOTS * 16) as u32);
        for slot in 0..SLOTS {
            self.write_u64(RX_RING + slot * 16, RX_BUFFER + slot * 2048);
        }
        self.set(RDT, SLOTS as u32 - 1);
        self.set(RCTL, rctl::EN | rctl::BAM | rctl::SECRC);
        self.set(IMS, cause::ALL);
        self.get(ICR);
        self.line.0.lock().clear();
    }

    fn set(&self, register: u32, value: u32) {
        self.nic.write(u64::from(register), &value.to_le_bytes());
    }

    fn get(&self, register: u32) -> u32 {
        let mut bytes = [0; 4];
        self.nic.read(u64::from(register), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write_u64(&self, at: u64, value: u64) {
        self.ram.slice(at, 8).unwrap().write_slice(&value.to_le_bytes(), 0).unwrap();
    }

    fn read_u64(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.ram.slice(at, 8).unwrap().read_slice(&mut bytes, 0).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn put(&self, address: u64, bytes: &[u8]) {
        self.ram.slice(address, bytes.len()).unwrap().write_slice(bytes, 0).unwrap();
    }

    /// Takes the frames that have left.
    fn sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.wire.0.lock())
    }

    /// A data descriptor; `special` is the VLAN tag.
    fn data(&self, slot: u64, address: u64, length: u64, command: u8, options: u8, special: u16) {
        let command = u64::from(command | command::DEXT) << 24 | 1 << 20;
        let high = length | command | u64::from(options) << 40 | u64::from(special) << 48;
        self.write_u64(TX_RING + slot * 16, address);
        self.write_u64(TX_RING + slot * 16 + 8, high);
    }

    /// Puts a descriptor in transmit slot `slot`.
    fn tx(&self, slot: u64, address: u64, length: u16, command: u8) {
        self.write_u64(TX_RING + slot * 16, address);
        self.write_u64(TX_RING + slot * 16 + 8, u64::from(length) | u64::from(command) << 24);
    }

    /// A frame to everyone in transmit slot `slot`, with RS and EOP.
    fn tx_frame(&self, slot: u64) {
        let buffer = TX_BUFFER + slot * 2048;
        self.ram
            .slice(buffer, 60)
            .unwrap()
            .write_slice(&frame([0xff; 6], slot as u8, 60), 0)
            .unwrap();
        self.tx(slot, buffer, 60, command::EOP | command::RS);
    }

    fn tx_done(&self, slot: u64) -> bool {
        self.read_u64(TX_RING + slot * 16 + 8) >> 32 & 1 != 0
    }

    /// Receives one frame from the network.
    fn receive(&self, bytes: &[u8]) -> usize {
        let pages = bytes.len().max(1).next_multiple_of(4096);
        let outside = GuestRam::new(pages as u64).unwrap();
        let span = outside.slice(0, bytes.len()).unwrap();
        span.write_slice(bytes, 0).unwrap();
        let mut batch = FrameBatch::new();
        batch.push_span(span);
        batch.end_frame();
        self.nic.receive(&batch, &[0])
    }

    /// Length, status and errors of receive slot `slot`.
    /// What the device wrote into receive slot `slot`: length, and everything else.
    fn rx_done(&self, slot: u64) -> (u16, u64) {
        let fields = self.read_u64(RX_RING + slot * 16 + 8);
        (fields as u16, fields & !0xffff)
    }

    fn rx_bytes(&self, slot: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.ram.slice(RX_BUFFER + slot * 2048, count).unwrap().read_slice(&mut bytes, 0).unwrap();
        bytes
    }

    fn csb(&self, field: Field) -> u32 {
        self.ram.atomic_u32(CSB_PAGE + field as u64).unwrap().load(Ordering::SeqCst)
    }

    fn set_csb(&self, field: Field, value: u32) {
        self.ram.atomic_u32(CSB_PAGE + field as u64).unwrap().store(value, Ordering::SeqCst);
    }

    fn turn_csb_on(&self) {
        self.set(CSBAH, 0);
        self.set(CSBAL, CSB_PAGE as u32);
        self.set_csb(Field::HostNeedTxkick, 1);
        self.set_csb(Field::GuestNeedRxkick, 1);
        self.set_csb(Field::GuestRdt, SLOTS as u32 - 1);
        self.set_csb(Field::GuestCsbOn, 1);
    }

    fn line_is_high(&self) -> bool {
        self.line.0.lock().last().copied().unwrap_or(false)
    }

    fn edges(&self) -> usize {
        self.line.0.lock().iter().filter(|high| **high).count()
    }
}

fn frame(to: [u8; 6], tag: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![tag; length];
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    bytes
}

#[test]
fn transmits_and_reports() {
    let bench = Bench::new(true, false);
    bench.tx_frame(0);
    bench.tx_frame(1);
    bench.set(TDT, 2);
    assert_eq!(*bench.wire.0.lock(), [frame([0xff; 6], 0, 60), frame([0xff; 6], 1, 60)]);
    assert!(bench.tx_done(0) && bench.tx_done(1));
    assert_eq!(bench.get(TDH), 2);
    assert_eq!(bench.edges(), 1);
    assert_eq!(bench.get(ICR) & cause::TXDW, cause::TXDW);
    let tx = bench.nic.counters().tx;
    assert_eq!((tx.frames, tx.bytes, tx.batches, tx.descriptors), (2, 120, 1, 2));
}

#[test]
fn a_frame_in_pieces_goes_out_whole_when_its_end_arrives() {
    let bench = Bench::new(true, false);
    let whole = frame([0xff; 6], 7, 90);
    bench.ram.slice(TX_BUFFER, 90).unwrap().write_slice(&whole, 0).unwrap();
    bench.tx(0, TX_BUFFER, 14, 0);
    bench.tx(1, TX_BUFFER + 14, 0, 0);
    bench.set(TDT, 2);
    assert!(bench.wire.0.lock().is_empty());
    bench.tx(2, TX_BUFFER + 14, 76, command::EOP | command::RS);
    bench.set(TDT, 3);
    assert_eq!(*bench.wire.0.lock(), [whole]);
    assert_eq!(bench.get(TDH), 3);
}

#[test]
fn the_transmit_ring_wraps() {
    let bench = Bench::new(true, false);
    for round in 0..50u64 {
        let slot = round % SLOTS;
        bench.tx_frame(slot);
        bench.set(TDT, ((slot + 1) % SLOTS) as u32);
    }
    assert_eq!(bench.wire.0.lock().len(), 50);
}

#[test]
fn receives_into_the_ring_and_interrupts_once() {
    let bench = Bench::new(true, false);
    let sent = frame(MAC, 3, 200);
    assert_eq!(bench.receive(&sent), 1);
    assert_eq!(bench.rx_done(0), (200, rxd::DD | rxd::EOP | rxd::IXSM));
    assert_eq!(bench.rx_bytes(0, 200), sent);
    assert_eq!((bench.get(RDH), bench.edges()), (1, 1));
    assert_eq!(bench.get(ICR) & cause::RXT0, cause::RXT0);
}

#[test]
fn short_frames_arrive_padded_with_zeroes() {
    let bench = Bench::new(true, false);
    bench.ram.slice(RX_BUFFER, 64).unwrap().write_slice(&[0xaa; 64], 0).unwrap();
    bench.receive(&frame(MAC, 3, 20));
    assert_eq!(bench.rx_done(0).0, 60);
    assert_eq!(bench.rx_bytes(0, 64)[20..60], [0; 40]);
    assert_eq!(bench.rx_bytes(0, 64)[60..], [0xaa; 4], "nothing is written past the frame");
}

#[test]
fn without_secrc_the_frame_check_sequence_follows() {
    let bench = Bench::new(true, false);
    bench.set(RCTL, rctl::EN);
    bench.receive(&frame(MAC, 3, 100));
    assert_eq!(bench.rx_done(0).0, 104);
    let bytes = bench.rx_bytes(0, 104);
    // CRC-32 over data and its own check sequence leaves the standard residue.
    assert_eq!(crc32fast::hash(&bytes), 0x2144_df1c);
}

#[test]
fn small_buffers_take_a_frame_in_pieces() {
    let bench = Bench::new(true, false);
    bench.set(RCTL, rctl::EN | rctl::SECRC | 0b11 << rctl::BSIZE_SHIFT); // 256 bytes
    let sent: Vec<u8> = frame(MAC, 1, 600);
    assert_eq!(bench.receive(&sent), 1);
    assert_eq!(bench.rx_done(0), (256, rxd::DD | rxd::IXSM));
    assert_eq!(bench.rx_done(1), (256, rxd::DD | rxd::IXSM));
    assert_eq!(bench.rx_done(2), (88, rxd::DD | rxd::EOP | rxd::IXSM));
    let joined = [bench.rx_bytes(0, 256), bench.rx_bytes(1, 256), bench.rx_bytes(2, 88)].concat();
    assert_eq!(joined, sent);
}

#[test]
fn frames_that_are_not_received_are_counted_by_cause() {
    let bench = Bench::new(true, false);
    bench.receive(&frame([2, 0, 0, 0, 0, 8], 0, 60));
    bench.receive(&frame(MAC, 0, 1519));
    (0..9).for_each(|_| _ = bench.receive(&frame(MAC, 0, 60)));
    let rx = bench.nic.counters().rx;
    assert_eq!(
        (rx.frames, rx.dropped.filtered, rx.dropped.oversize, rx.dropped.no_buffer),
        (7, 1, 1, 2)
    );
    assert_ne!(bench.get(ICS) & cause::RXO, 0);

    bench.set(RCTL, 0);
    bench.receive(&frame(MAC, 0, 60));
    bench.nic.set_link(false);
    bench.receive(&frame(MAC, 0, 60));
    let dropped = bench.nic.counters().rx.dropped;
    assert_eq!((dropped.disabled, dropped.link_down, dropped.total()), (1, 1, 6));
}

#[test]
fn the_low_mark_interrupts_when_it_is_crossed() {
    let bench = Bench::new(true, false);
    for received in 1..=7 {
        bench.receive(&frame(MAC, 0, 60));
        let low = bench.get(ICR) & cause::RXDMT0 != 0;
        assert_eq!(low, received == 3, "free descriptors fall to 4 of 8 with frame 3");
    }
}

#[test]
fn without_bus_mastering_nothing_moves() {
    let bench = Bench::new(true, false);
    bench.nic.set_bus_master(false);
    bench.tx_frame(0);
    bench.set(TDT, 1);
    assert_eq!(bench.receive(&frame(MAC, 0, 60)), 0);
    assert!(bench.wire.0.lock().is_empty() && !bench.tx_done(0));
    bench.nic.set_bus_master(true);
    assert!(bench.tx_done(0), "what waited goes out at once");
}

#[test]
fn link_changes_show_and_interrupt() {
    let bench = Bench::powered(true, false);
    bench.set(IMS, cause::LSC);
    assert_eq!(bench.get(STATUS) & status::LU, 0);
    bench.nic.set_link(true);
    bench.nic.set_link(true);
    assert_eq!(bench.get(STATUS) & status::LU, status::LU);
    assert_eq!(bench.edges(), 1);
    assert_eq!(bench.get(ICR), cause::LSC);
}

#[test]
fn moderation_arms_the_timer_and_the_timer_interrupts() {
    let bench = Bench::new(true, false);
    bench.clock.advance(1_000_000); // the link's own interrupt is long past
    bench.set(ITR, 500); // 128 us
    for _ in 0..3 {
        bench.receive(&frame(MAC, 0, 60));
        bench.get(ICR);
    }
    assert_eq!(bench.edges(), 1);
    assert_eq!(bench.armed.0.lock().last(), Some(&1_001_128_000));
    bench.clock.advance(127_999);
    bench.nic.on_timer();
    assert_eq!(bench.edges(), 1);
    bench.receive(&frame(MAC, 0, 60));
    bench.clock.advance(1);
    bench.nic.on_timer();
    assert_eq!(bench.edges(), 2);
}

#[test]
fn a_small_packet_ends_the_receive_delay() {
    let bench = Bench::new(true, false);
    bench.set(RDTR, 100);
    bench.set(RSRPD, 80);
    bench.receive(&frame(MAC, 0, 100));
    assert_eq!(bench.get(ICR), 0);
    bench.receive(&frame(MAC, 0, 60));
    assert_eq!(bench.get(ICR), cause::SRPD | cause::RXT0);
    bench.clock.advance(1_000_000);
    bench.nic.on_timer();
    assert_eq!(bench.get(ICR), 0, "nothing is left to announce");
}

#[test]
fn without_itr_every_batch_interrupts() {
    let bench = Bench::new(false, false);
    bench.set(ITR, 500);
    for _ in 0..3 {
        bench.receive(&frame(MAC, 0, 60));
        bench.get(ICR);
    }
    assert_eq!(bench.edges(), 3);
}

#[test]
fn csb_is_absent_unless_configured() {
    let bench = Bench::new(true, false);
    bench.turn_csb_on();
    bench.tx_frame(0);
    bench.set_csb(Field::GuestTdt, 1);
    bench.set(TDT, 0);
    assert!(bench.wire.0.lock().is_empty(), "the register counts, not the page");
}

#[test]
fn with_csb_the_tail_is_in_memory_and_interrupts_are_asked_for() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    bench.tx_frame(0);
    bench.set_csb(Field::GuestTdt, 1);
    bench.set(TDT, 1);
    assert_eq!(bench.wire.0.lock().len(), 1);
    assert_eq!((bench.csb(Field::HostTdh), bench.csb(Field::HostNeedTxkick)), (1, 1));
    assert_eq!(bench.edges(), 0, "no transmit interrupt unless wanted");
    bench.set_csb(Field::GuestNeedTxkick, 1);
    bench.tx_frame(1);
    bench.set_csb(Field::GuestTdt, 2);
    bench.set(TDT, 2);
    assert_eq!(bench.edges(), 1);
    bench.get(ICR);

    bench.set_csb(Field::GuestNeedRxkick, 0);
    bench.receive(&frame(MAC, 0, 60));
    assert_eq!((bench.edges(), bench.csb(Field::HostRdh)), (1, 1));
    bench.set_csb(Field::GuestNeedRxkick, 1);
    bench.receive(&frame(MAC, 0, 60));
    assert_eq!(bench.edges(), 2);
    assert_eq!(bench.get(ICR) & cause::RXT0, cause::RXT0);
}

#[test]
fn csb_receive_uses_the_shadow_tail() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    bench.set_csb(Field::GuestRdt, 2);
    let taken: usize = (0..4).map(|_| bench.receive(&frame(MAC, 0, 60))).sum();
    assert_eq!(taken, 2);
    bench.set_csb(Field::GuestRdt, 3);
    assert_eq!(bench.receive(&frame(MAC, 0, 60)), 1);
}

#[test]
fn csb_survives_a_reset_and_is_released_by_address_zero() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    bench.set(CTRL, ctrl::RST);
    bench.configure();
    bench.tx_frame(0);
    bench.set_csb(Field::GuestTdt, 1);
    bench.set(TDT, 0);
    assert_eq!(bench.wire.0.lock().len(), 1);
    bench.set(CSBAL, 0);
    bench.tx_frame(1);
    bench.set_csb(Field::GuestTdt, 2);
    bench.set(TDT, 1);
    assert_eq!(bench.wire.0.lock().len(), 1, "the register's tail again");
}

/// Puts the host into the state in which it looks at the ring unasked.
fn make_it_stream(bench: &Bench) {
    for slot in 0..6 {
        bench.clock.advance(10_000);
        bench.tx_frame(slot);
        bench.set_csb(Field::GuestTdt, slot as u32 + 1);
        bench.set(TDT, slot as u32 + 1);
    }
    assert_eq!(bench.csb(Field::HostNeedTxkick), 0);
}

#[test]
fn a_promise_to_look_ends_with_a_reset() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    make_it_stream(&bench);
    bench.set(CTRL, ctrl::RST);
    assert_eq!(bench.csb(Field::HostNeedTxkick), 1, "the guest must kick again");
    assert_eq!((bench.csb(Field::HostTdh), bench.csb(Field::HostRdh)), (0, 0));
}

#[test]
fn a_promise_to_look_ends_when_csb_is_switched_off() {
    for by_timer in [false, true] {
        let bench = Bench::new(true, true);
        bench.turn_csb_on();
        make_it_stream(&bench);
        bench.set_csb(Field::GuestCsbOn, 0);
        if by_timer {
            bench.clock.advance(10 * pacing::LOOK_AFTER);
            bench.nic.on_timer();
        } else {
            bench.set(TDT, 6);
        }
        bench.set_csb(Field::GuestCsbOn, 1);
        assert_eq!(bench.csb(Field::HostNeedTxkick), 1, "by timer: {by_timer}");
    }
}

#[test]
fn csb_switches_off_without_a_register_write() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    bench.set_csb(Field::GuestCsbOn, 0);
    bench.tx_frame(0);
    bench.set_csb(Field::GuestTdt, 5);
    bench.set(TDT, 1);
    assert_eq!(bench.wire.0.lock().len(), 1);
    assert_eq!(bench.edges(), 1);
}

/// A sender that keeps kicking is told to stop; what it sends then is found by the timer, and in
/// the end it is asked to kick again.
#[test]
fn a_stream_is_served_by_the_timer() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    let mut tail = 0;
    let mut send = || {
        bench.tx_frame(tail);
        tail = (tail + 1) % SLOTS;
        bench.set_csb(Field::GuestTdt, tail as u32);
        if bench.csb(Field::HostNeedTxkick) != 0 {
            bench.set(TDT, tail as u32);
        }
    };
    for _ in 0..6 {
        bench.clock.advance(10_000);
        send();
    }
    assert_eq!(bench.csb(Field::HostNeedTxkick), 0);
    send();
    let sent_by_kick = bench.wire.0.lock().len();
    assert!(sent_by_kick < 7);
    for _ in 0..20 {
        bench.clock.advance(pacing::LOOK_AFTER);
        bench.nic.on_timer();
    }
    assert_eq!(bench.wire.0.lock().len(), 7);
    assert_eq!(bench.csb(Field::HostNeedTxkick), 1);
    assert_eq!(bench.nic.counters().tx.lost_kicks, 0);
    send();
    assert_eq!(bench.wire.0.lock().len(), 8);
}

/// A device that has sent a stream of six frames and, as no more came, asks for kicks again.
fn asking_for_kicks_again() -> Bench {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    for slot in 0..6 {
        bench.clock.advance(10_000);
        bench.tx_frame(slot);
        bench.set_csb(Field::GuestTdt, slot as u32 + 1);
        bench.set(TDT, slot as u32 + 1);
    }
    for _ in 0..2 {
        bench.clock.advance(pacing::LOOK_AFTER);
        bench.nic.on_timer();
    }
    bench
}

/// FreeBSD's driver has no fences: it may publish a frame and not see that a kick was asked for.
#[test]
fn a_kick_that_was_never_sent_is_made_up_for() {
    let bench = asking_for_kicks_again();
    assert_eq!(bench.csb(Field::HostNeedTxkick), 1);
    bench.tx_frame(6);
    bench.set_csb(Field::GuestTdt, 7);
    bench.clock.advance(1_000_000);
    bench.nic.on_timer();
    assert_eq!(bench.wire.0.lock().len(), 7);
    assert_eq!(bench.nic.counters().tx.lost_kicks, 0, "it may still come");
    bench.tx_frame(7);
    bench.set_csb(Field::GuestTdt, 0);
    bench.clock.advance(pacing::LOOK_AFTER);
    bench.nic.on_timer();
    assert_eq!(bench.wire.0.lock().len(), 8);
    assert_eq!(bench.nic.counters().tx.lost_kicks, 1, "the guest went on without");
}

/// The late look may find a frame between the guest's publishing it and kicking.
#[test]
fn a_late_kick_is_not_a_lost_one() {
    let bench = asking_for_kicks_again();
    bench.tx_frame(6);
    bench.set_csb(Field::GuestTdt, 7);
    bench.clock.advance(1_000_000);
    bench.nic.on_timer();
    bench.set(TDT, 7);
    for tail in [0, 1] {
        bench.tx_frame((tail + 7) % SLOTS);
        bench.set_csb(Field::GuestTdt, tail as u32);
        bench.clock.advance(pacing::LOOK_AFTER);
        bench.nic.on_timer();
    }
    assert_eq!(bench.wire.0.lock().len(), 9);
    assert_eq!(bench.nic.counters().tx.lost_kicks, 0);
}

/// The same race on the receive side: asleep, but the host last saw it awake.
#[test]
fn a_guest_that_fell_asleep_unseen_is_woken() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    bench.set_csb(Field::GuestNeedRxkick, 0);
    bench.receive(&frame(MAC, 0, 60));
    bench.receive(&frame(MAC, 0, 60));
    bench.set_csb(Field::GuestNeedRxkick, 1);
    assert_eq!(bench.edges(), 0);
    bench.clock.advance(1_000_000);
    bench.nic.on_timer();
    assert_eq!(bench.edges(), 1);
    assert_eq!(bench.nic.counters().rx.lost_notifications, 1);
    bench.get(ICR);
    bench.clock.advance(10_000_000);
    bench.nic.on_timer();
    assert_eq!(bench.edges(), 1, "once is enough");
}

/// It may also sleep because it has seen all there is.
#[test]
fn a_guest_that_returned_every_buffer_is_left_asleep() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    bench.set_csb(Field::GuestNeedRxkick, 0);
    bench.receive(&frame(MAC, 0, 60));
    bench.set_csb(Field::GuestRdt, 0);
    bench.set_csb(Field::GuestNeedRxkick, 1);
    bench.clock.advance(1_000_000);
    bench.nic.on_timer();
    assert_eq!((bench.edges(), bench.nic.counters().rx.lost_notifications), (0, 0));
}

#[test]
fn reset_restores_the_address_and_silences_the_device() {
    let bench = Bench::new(true, false);
    bench.set(RA, 0);
    bench.tx_frame(0);
    bench.set(CTRL, ctrl::RST);
    assert_eq!(bench.get(CTRL) & ctrl::RST, 0);
    assert_eq!(bench.get(RA), 0x0000_5452);
    assert_eq!(bench.get(RA + 4), 0x8000_0100);
    assert_eq!((bench.get(IMS), bench.get(TCTL), bench.get(RCTL), bench.get(TDLEN)), (0, 0, 0, 0));
    bench.set(TDT, 1);
    assert!(bench.wire.0.lock().is_empty());
}

#[test]
fn narrow_accesses_touch_only_their_bytes() {
    let bench = Bench::new(true, false);
    let mut byte = [0];
    bench.nic.read(u64::from(RA) + 1, &mut byte);
    assert_eq!(byte, [0x54]);
    let mut both = [0; 8];
    bench.nic.read(u64::from(RA), &mut both);
    assert_eq!(both, [0x52, 0x54, 0, 0, 0, 1, 0, 0x80]);
    bench.nic.write(u64::from(RA), &[0xff]);
    bench.nic.write(u64::from(RA) + 2, &[1, 2, 3, 4]);
    assert_eq!((bench.get(RA), bench.get(RA + 4)), (0x0201_54ff, 0x8000_0403));
    bench.nic.read(u64::MAX - 2, &mut both);
    assert_eq!(both, [0; 8]);
}

mod cve;
mod offload;
mod pull;
mod receive;
mod registers;
