//! Filters, VLAN tags, checksum indication and sizes, judged by what the guest gets.

use super::*;

const VLAN_5: [u8; 4] = [0x81, 0x00, 0x60, 0x05];

/// A frame to this NIC with a tag of VLAN 5, priority 3.
fn tagged(length: usize) -> Vec<u8> {
    let mut bytes = frame(MAC, 0x33, length);
    bytes.splice(12..12, VLAN_5);
    bytes
}

#[test]
fn a_tag_moves_to_the_descriptor_when_ctrl_vme_is_set() {
    let bench = Bench::new(true, false);
    let bytes = tagged(300);
    bench.receive(&bytes);
    assert_eq!(bench.rx_done(0), (304, rxd::DD | rxd::EOP | rxd::IXSM));
    assert_eq!(bench.rx_bytes(0, 304), bytes);

    bench.set(CTRL, ctrl::VME);
    bench.receive(&bytes);
    let special = 0x6005 << rxd::SPECIAL_SHIFT;
    assert_eq!(bench.rx_done(1), (300, rxd::DD | rxd::EOP | rxd::IXSM | rxd::VP | special));
    assert_eq!(bench.rx_bytes(1, 300), frame(MAC, 0x33, 300));

    bench.receive(&frame(MAC, 0x33, 300));
    assert_eq!(bench.rx_done(2), (300, rxd::DD | rxd::EOP | rxd::IXSM), "untagged");
}

#[test]
fn a_stripped_frame_spans_buffers_and_keeps_its_check_sequence() {
    let bench = Bench::new(true, false);
    bench.set(CTRL, ctrl::VME);
    let buffers_of_256 = 0b11 << rctl::BSIZE_SHIFT;
    bench.set(RCTL, rctl::EN | buffers_of_256);
    let bytes = tagged(600);
    bench.receive(&bytes);
    assert_eq!((bench.rx_done(0).0, bench.rx_done(1).0, bench.rx_done(2).0), (256, 256, 92));
    let got = [bench.rx_bytes(0, 256), bench.rx_bytes(1, 256), bench.rx_bytes(2, 92)].concat();
    assert_eq!(got[..600], frame(MAC, 0x33, 600));
    assert_eq!(got[600..], crc32fast::hash(&bytes).to_le_bytes());
}

#[test]
fn the_vlan_filter_needs_no_stripping() {
    let bench = Bench::new(true, false);
    bench.set(RCTL, rctl::EN | rctl::SECRC | rctl::VFE);
    assert_eq!(bench.receive(&tagged(100)), 0);
    assert_eq!(bench.receive(&frame(MAC, 0, 100)), 1, "untagged frames pass");
    bench.set(VFTA, 1 << 5);
    assert_eq!(bench.receive(&tagged(100)), 1);
    bench.set(VET, 0x88a8);
    bench.set(VFTA, 0);
    assert_eq!(bench.receive(&tagged(100)), 1, "another type is no tag");
}

#[test]
fn a_hash_match_is_marked_as_inexact() {
    let bench = Bench::new(true, false);
    let group = [0x01, 0, 0x5e, 0, 0x56, 0x7a];
    bench.set(MTA + 4 * (0x7a5 >> 5), 1 << (0x7a5 & 31));
    bench.receive(&frame(group, 0, 60));
    assert_eq!(bench.rx_done(0).1, rxd::DD | rxd::EOP | rxd::IXSM | rxd::PIF);
    assert_eq!(bench.get(MPRC), 1);
}

#[test]
fn long_frames_need_lpe_or_sbp() {
    let bench = Bench::new(true, false);
    for (extra, longest) in [(0, 1518), (rctl::LPE, 16380), (rctl::SBP, 16380)] {
        let large_buffers = rctl::BSEX | 0b01 << rctl::BSIZE_SHIFT;
        bench.set(RCTL, rctl::EN | extra | large_buffers);
        assert_eq!(bench.receive(&frame(MAC, 0, longest)), 1);
        assert_eq!(bench.receive(&frame(MAC, 0, longest + 1)), 0);
        assert_eq!(bench.get(ROC), 1);
    }
}

#[test]
fn checksums_are_judged_when_asked_for() {
    let bench = Bench::new(true, false);
    let mut bytes = frame(MAC, 0, 60);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14..34].copy_from_slice(&[
        0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0x66, 0xad, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    bench.receive(&bytes);
    assert_eq!(bench.rx_done(0).1, rxd::DD | rxd::EOP | rxd::IXSM);
    bench.set(RXCSUM, rxcsum::IPOFL | 14);
    bench.receive(&bytes);
    // The header adds up to zero, and so does what the packet checksum covers.
    assert_eq!(bench.rx_done(1).1 & !0xffff_0000, rxd::DD | rxd::EOP | rxd::IPCS);
    assert_eq!(bench.rx_done(1).1 >> rxd::CHECKSUM_SHIFT & 0xffff, 0);
    bytes[30] ^= 0x40;
    bench.receive(&bytes);
    assert_eq!(bench.rx_done(2).1 & !0xffff_0000, rxd::DD | rxd::EOP | rxd::IPCS | rxd::IPE);
}

#[test]
fn small_packets_can_be_reported() {
    let bench = Bench::new(true, false);
    bench.set(RSRPD, 100);
    bench.receive(&frame(MAC, 0, 101));
    assert_eq!(bench.get(ICR) & cause::SRPD, 0);
    bench.receive(&frame(MAC, 0, 100));
    assert_eq!(bench.get(ICR) & cause::SRPD, cause::SRPD);
}

#[test]
fn descriptors_without_a_buffer_are_passed_and_take_no_data() {
    let bench = Bench::new(true, false);
    let buffers_of_256 = 0b11 << rctl::BSIZE_SHIFT;
    bench.set(RCTL, rctl::EN | rctl::SECRC | buffers_of_256);
    for null in [0, 1, 3] {
        bench.write_u64(RX_RING + null * 16, 0);
    }
    let first_page = |bench: &Bench| (0..512).map(|word| bench.read_u64(word * 8)).sum::<u64>();
    assert_eq!(bench.receive(&frame(MAC, 7, 300)), 1);
    assert_eq!((bench.get(RDH), first_page(&bench)), (5, 0));
    for null in [0, 1, 3] {
        assert_eq!(bench.rx_done(null), (0, rxd::DD), "slot {null}");
    }
    assert_eq!((bench.rx_done(2).0, bench.rx_done(4).0), (256, 44));

    // Two slots are left, one buffer: too little for two, and the next frame finds it.
    bench.write_u64(RX_RING + 5 * 16, 0);
    assert_eq!(bench.receive(&frame(MAC, 7, 300)), 0);
    assert_eq!(bench.get(RDH), 6);
    assert_eq!(bench.receive(&frame(MAC, 7, 100)), 1);
    assert_eq!(bench.get(RDH), 7);
}

#[test]
fn a_guest_that_is_awake_is_not_told_of_a_low_ring_but_of_an_overrun() {
    let bench = Bench::new(true, true);
    bench.turn_csb_on();
    bench.set_csb(Field::GuestNeedRxkick, 0);
    (1..SLOTS).for_each(|_| _ = bench.receive(&frame(MAC, 0, 60)));
    assert_eq!(bench.edges(), 0);
    assert_eq!(bench.get(ICS) & (cause::RXT0 | cause::RXDMT0), cause::RXT0 | cause::RXDMT0);
    bench.receive(&frame(MAC, 0, 60));
    assert_eq!(bench.edges(), 1);
    assert_eq!(bench.get(ICR) & cause::RXO, cause::RXO);
}
