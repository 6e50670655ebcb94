//! Checksum insertion, segmentation and VLAN tags, judged by the frames that leave.

use super::*;
use crate::e1000::checksum::Sum;

const IXSM: u8 = 1;
const TXSM: u8 = 2;
/// Where the transport header of an untagged IPv4 and IPv6 packet starts.
const AFTER_IPV4: usize = 34;
const AFTER_IPV6: usize = 54;

/// A context descriptor for packets whose transport header starts at `transport`.
struct ContextFor {
    transport: usize,
    tcp: bool,
    header_len: usize,
    mss: u16,
    segmentation: bool,
}

impl ContextFor {
    fn words(&self) -> [u64; 2] {
        let ipv4 = self.transport == AFTER_IPV4;
        let ip = if ipv4 { 14 | 24 << 8 | (33 << 16) } else { 14 };
        let at = self.transport + if self.tcp { 16 } else { 6 };
        let transport = (self.transport | at << 8) as u64;
        let command = u64::from(command::DEXT)
            | u64::from(self.tcp)
            | u64::from(ipv4) << 1
            | u64::from(self.segmentation) << 2;
        let high = command << 24 | (self.header_len as u64) << 40 | u64::from(self.mss) << 48;
        [ip | transport << 32, high]
    }
}

impl Bench {
    fn context(&self, slot: u64, context: &ContextFor) {
        let [low, high] = context.words();
        self.write_u64(TX_RING + slot * 16, low);
        self.write_u64(TX_RING + slot * 16 + 8, high);
    }
}

/// The pseudo-header's sum, with the transport's length or (for segmentation) without.
fn pseudo_sum(packet: &[u8], transport: usize, length: usize) -> [u8; 2] {
    let (addresses, protocol) =
        if transport == AFTER_IPV4 { (26..34, packet[23]) } else { (22..54, packet[20]) };
    let mut sum = Sum::default();
    sum.add(&packet[addresses]);
    sum.add(&[0, protocol]);
    sum.add(&(length as u16).to_be_bytes());
    sum.folded()
}

/// A packet as a driver hands it over: IP checksum 0, pseudo-header's sum in the transport checksum.
fn packet(ipv4: bool, tcp: bool, payload: usize, segmentation: bool) -> Vec<u8> {
    let transport = if ipv4 { AFTER_IPV4 } else { AFTER_IPV6 };
    let header = if tcp { 20 } else { 8 };
    let mut bytes = vec![0; transport + header + payload];
    bytes[..12].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 9, 0x52, 0x54, 0, 0, 0, 1]);
    let protocol = if tcp { 6 } else { 17 };
    let length = header + payload;
    if ipv4 {
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        bytes[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, protocol]);
        bytes[16..18].copy_from_slice(&(20 + length as u16).to_be_bytes());
        bytes[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    } else {
        bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
        bytes[14] = 0x60;
        bytes[18..20].copy_from_slice(&(length as u16).to_be_bytes());
        bytes[20] = protocol;
        bytes[22..54].iter_mut().zip(1..).for_each(|(byte, i)| *byte = i);
    }
    if tcp {
        bytes[transport + 4..][..4].copy_from_slice(&0xffff_fff0u32.to_be_bytes());
        bytes[transport + 12] = 0x50;
        bytes[transport + 13] = 0x19; // ACK, PSH, FIN
    } else {
        bytes[transport + 4..][..2].copy_from_slice(&(length as u16).to_be_bytes());
    }
    let sum = pseudo_sum(&bytes, transport, if segmentation { 0 } else { length });
    let at = transport + if tcp { 16 } else { 6 };
    bytes[at..at + 2].copy_from_slice(&sum);
    let payload_at = transport + header;
    bytes[payload_at..].iter_mut().zip(0..).for_each(|(byte, i): (_, u32)| *byte = (i * 7) as u8);
    bytes
}

/// Checks every length and checksum of a frame that left; returns its payload.
fn verify(frame: &[u8], ipv4: bool, tcp: bool) -> &[u8] {
    let transport = if ipv4 { AFTER_IPV4 } else { AFTER_IPV6 };
    let length = frame.len() - transport;
    let field = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    if ipv4 {
        assert_eq!(field(16), frame.len() - 14, "IPv4 total length");
        let mut sum = Sum::default();
        sum.add(&frame[14..34]);
        assert!(sum.is_right(), "IPv4 checksum");
    } else {
        assert_eq!(field(18), length, "IPv6 payload length");
    }
    if !tcp {
        assert_eq!(field(transport + 4), length, "UDP length");
    }
    let mut sum = Sum::default();
    sum.add(&pseudo_sum(frame, transport, length));
    sum.add(&frame[transport..]);
    assert!(sum.is_right(), "transport checksum");
    &frame[transport + if tcp { 20 } else { 8 }..]
}

#[test]
fn checksums_are_inserted() {
    for (ipv4, tcp) in [(true, true), (true, false), (false, true), (false, false)] {
        let bench = Bench::new(true, false);
        let bytes = packet(ipv4, tcp, 101, false);
        bench.put(TX_BUFFER, &bytes);
        let transport = if ipv4 { AFTER_IPV4 } else { AFTER_IPV6 };
        let context = ContextFor { transport, tcp, header_len: 0, mss: 0, segmentation: false };
        bench.context(0, &context);
        // In two pieces, cut inside the transport header.
        let cut = transport as u64 + 7;
        let options = if ipv4 { IXSM | TXSM } else { TXSM };
        bench.data(1, TX_BUFFER, cut, 0, options, 0);
        let rest = bytes.len() as u64 - cut;
        bench.data(2, TX_BUFFER + cut, rest, command::EOP | command::RS, 0, 0);
        bench.set(TDT, 3);
        let sent = bench.sent();
        assert_eq!(verify(&sent[0], ipv4, tcp).len(), 101);
        assert!(bench.tx_done(2) && !bench.tx_done(1));
    }
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    let bench = Bench::new(true, false);
    let mut bytes = packet(true, false, 2, false);
    // Choose the payload so that the sum is all ones, whose complement is zero.
    bytes[42..44].fill(0);
    let mut sum = Sum::default();
    sum.add(&bytes[AFTER_IPV4..]);
    let missing = sum.checksum();
    bytes[42..44].copy_from_slice(&missing);
    bench.put(TX_BUFFER, &bytes);
    let context = ContextFor {
        transport: AFTER_IPV4,
        tcp: false,
        header_len: 0,
        mss: 0,
        segmentation: false,
    };
    bench.context(0, &context);
    bench.data(1, TX_BUFFER, bytes.len() as u64, command::EOP, TXSM, 0);
    bench.set(TDT, 2);
    assert_eq!(bench.sent()[0][40..42], [0xff, 0xff]);
}

#[test]
fn a_legacy_descriptor_inserts_one_checksum() {
    let bench = Bench::new(true, false);
    let bytes = packet(true, true, 50, false);
    bench.put(TX_BUFFER, &bytes);
    let (css, cso) = (AFTER_IPV4 as u64, AFTER_IPV4 as u64 + 16);
    bench.write_u64(TX_RING, TX_BUFFER);
    let command = u64::from(command::EOP | command::IC);
    bench.write_u64(TX_RING + 8, bytes.len() as u64 | cso << 16 | command << 24 | css << 40);
    bench.set(TDT, 1);
    let sent = bench.sent();
    let mut sum = Sum::default();
    sum.add(&pseudo_sum(&sent[0], AFTER_IPV4, 70));
    sum.add(&sent[0][AFTER_IPV4..]);
    assert!(sum.is_right());
}

#[test]
fn segments_have_right_headers_and_carry_the_whole_payload() {
    for (ipv4, tcp) in [(true, true), (true, false), (false, true), (false, false)] {
        for (payload, mss) in [(5000, 1460), (2920, 1460), (1, 1460), (777, 8), (0, 100)] {
            let bench = Bench::new(true, false);
            let bytes = packet(ipv4, tcp, payload, true);
            bench.put(TX_BUFFER, &bytes);
            let transport = if ipv4 { AFTER_IPV4 } else { AFTER_IPV6 };
            let header_len = transport + if tcp { 20 } else { 8 };
            bench.context(0, &ContextFor { transport, tcp, header_len, mss, segmentation: true });
            let options = if ipv4 { IXSM | TXSM } else { TXSM };
            let first = bytes.len() as u64 / 3;
            bench.data(1, TX_BUFFER, first, command::TSE, options, 0);
            let last = command::TSE | command::EOP | command::RS;
            bench.data(2, TX_BUFFER + first, bytes.len() as u64 - first, last, 0, 0);
            bench.set(TDT, 3);

            let sent = bench.sent();
            let count = payload.div_ceil(usize::from(mss)).max(1);
            assert_eq!(sent.len(), count);
            let mut carried = Vec::new();
            for (index, frame) in sent.iter().enumerate() {
                if ipv4 {
                    let id = u16::from_be_bytes([frame[18], frame[19]]);
                    assert_eq!(id, 0xffffu16.wrapping_add(index as u16));
                }
                if tcp {
                    let sequence =
                        u32::from_be_bytes(frame[transport + 4..][..4].try_into().unwrap());
                    assert_eq!(sequence, 0xffff_fff0u32.wrapping_add(carried.len() as u32));
                    let flags = if index + 1 == count { 0x19 } else { 0x10 };
                    assert_eq!(frame[transport + 13], flags, "PSH and FIN are for the last");
                }
                carried.extend_from_slice(verify(frame, ipv4, tcp));
            }
            assert_eq!(carried, bytes[header_len..]);
            assert_eq!((bench.get(TSCTC), bench.get(TSCTFC)), (1, 0));
            assert_eq!(bench.get(TPT), count as u32);
        }
    }
}

#[test]
fn more_segments_than_a_batch_arrive_in_order() {
    let bench = Bench::new(true, false);
    let bytes = packet(true, true, 4000, true);
    bench.put(TX_BUFFER, &bytes);
    let context =
        ContextFor { transport: AFTER_IPV4, tcp: true, header_len: 54, mss: 4, segmentation: true };
    bench.context(0, &context);
    let all = command::TSE | command::EOP | command::RS;
    bench.data(1, TX_BUFFER, bytes.len() as u64, all, IXSM | TXSM, 0);
    bench.tx_frame(2);
    bench.set(TDT, 3);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1001);
    let carried: Vec<u8> =
        sent[..1000].iter().flat_map(|frame| verify(frame, true, true).to_vec()).collect();
    assert_eq!(carried, bytes[54..]);
}

#[test]
fn the_two_contexts_do_not_disturb_each_other() {
    let bench = Bench::new(true, false);
    let (large, small) = (packet(true, true, 3000, true), packet(false, false, 30, false));
    bench.put(TX_BUFFER, &large);
    bench.put(TX_BUFFER + 8192, &small);
    let segmentation = ContextFor {
        transport: AFTER_IPV4,
        tcp: true,
        header_len: 54,
        mss: 1000,
        segmentation: true,
    };
    let plain = ContextFor {
        transport: AFTER_IPV6,
        tcp: false,
        header_len: 0,
        mss: 0,
        segmentation: false,
    };
    bench.context(0, &segmentation);
    bench.context(1, &plain);
    let cut = command::TSE | command::EOP;
    bench.data(2, TX_BUFFER, large.len() as u64, cut, IXSM | TXSM, 0);
    bench.data(3, TX_BUFFER + 8192, small.len() as u64, command::EOP, TXSM, 0);
    bench.data(4, TX_BUFFER, large.len() as u64, cut, IXSM | TXSM, 0);
    bench.set(TDT, 5);
    let sent = bench.sent();
    assert_eq!(sent.len(), 7);
    for frame in sent[..3].iter().chain(&sent[4..]) {
        assert_eq!(verify(frame, true, true).len(), 1000);
    }
    assert_eq!(verify(&sent[3], false, false).len(), 30);
}

#[test]
fn a_tag_is_inserted_when_ctrl_vme_allows() {
    let bench = Bench::new(true, false);
    let bytes = packet(true, true, 2000, true);
    bench.put(TX_BUFFER, &bytes);
    let context = ContextFor {
        transport: AFTER_IPV4,
        tcp: true,
        header_len: 54,
        mss: 1000,
        segmentation: true,
    };
    for vme in [false, true] {
        bench.set(CTRL, if vme { ctrl::VME } else { 0 });
        bench.set(TDH, 0);
        bench.tx_frame(0);
        bench.write_u64(
            TX_RING + 8,
            60 | u64::from(command::EOP | command::VLE) << 24 | 0x6123 << 48,
        );
        bench.context(1, &context);
        let all = command::TSE | command::EOP | command::VLE;
        bench.data(2, TX_BUFFER, bytes.len() as u64, all, IXSM | TXSM, 0x0005);
        bench.put(TX_BUFFER, &bytes);
        bench.write_u64(TX_RING, TX_BUFFER + 16384);
        bench.put(TX_BUFFER + 16384, &frame([0xff; 6], 7, 60));
        bench.set(TDT, 3);
        let sent = bench.sent();
        if vme {
            assert_eq!(sent[0][12..18], [0x81, 0, 0x61, 0x23, 7, 7]);
            assert_eq!((sent[0].len(), sent[1].len()), (64, 1058));
            for tagged in &sent[1..] {
                assert_eq!(tagged[12..16], [0x81, 0, 0, 5]);
                let untagged = [&tagged[..12], &tagged[16..]].concat();
                assert_eq!(verify(&untagged, true, true).len(), 1000);
            }
        } else {
            assert_eq!((sent[0].len(), sent[1].len()), (60, 1054));
        }
    }
}

#[test]
fn tctl_psp_pads_short_packets() {
    let bench = Bench::new(true, false);
    bench.tx_frame(0);
    bench.tx(0, TX_BUFFER, 20, command::EOP);
    bench.set(TDT, 1);
    bench.set(TCTL, tctl::EN | tctl::PSP);
    bench.tx_frame(1);
    bench.tx(1, TX_BUFFER, 20, command::EOP);
    bench.set(TDT, 2);
    let sent = bench.sent();
    assert_eq!((sent[0].len(), sent[1].len()), (20, 60));
    assert_eq!(sent[1][..20], sent[0][..]);
    assert!(sent[1][20..].iter().all(|byte| *byte == 0));
}

#[test]
fn impossible_segmentation_is_dropped_and_counted() {
    let bench = Bench::new(true, false);
    let bytes = packet(true, true, 100, true);
    bench.put(TX_BUFFER, &bytes);
    let good = ContextFor {
        transport: AFTER_IPV4,
        tcp: true,
        header_len: 54,
        mss: 50,
        segmentation: true,
    };
    let bad = [
        ContextFor { mss: 0, ..good },
        ContextFor { header_len: 0, ..good },
        ContextFor { header_len: 13, ..good },
        ContextFor { header_len: 155, ..good },
        ContextFor { mss: 16285, header_len: 54, ..good },
    ];
    let count = bad.len() as u32;
    for context in bad {
        bench.set(TDH, 0);
        bench.set(TDT, 0);
        bench.context(0, &context);
        let all = command::TSE | command::EOP | command::RS;
        bench.data(1, TX_BUFFER, bytes.len() as u64, all, IXSM | TXSM, 0);
        bench.set(TDT, 2);
        assert!(bench.sent().is_empty() && bench.tx_done(1));
    }
    assert_eq!(bench.get(TSCTFC), count);
    assert_eq!(bench.get(TSCTFC), 0, "reading clears");
}

#[test]
fn checksum_offsets_beyond_the_packet_are_left_out() {
    let bench = Bench::new(true, false);
    let bytes = frame([0xff; 6], 1, 60);
    bench.put(TX_BUFFER, &bytes);
    // Start, place and end at, before and beyond the packet's end, and the end before the start.
    let cases =
        [(255, 255, 0), (59, 59, 0), (60, 10, 0), (20, 255, 40), (40, 16, 20), (0, 60, 0xffff)];
    for (start, at, last) in cases {
        bench.set(TDH, 0);
        bench.set(TDT, 0);
        let checksum = start | at << 8 | last << 16;
        bench.write_u64(TX_RING, checksum | checksum << 32);
        bench.write_u64(TX_RING + 8, u64::from(command::DEXT) << 24);
        bench.data(1, TX_BUFFER, 60, command::EOP, IXSM | TXSM, 0);
        bench.set(TDT, 2);
        assert_eq!(
            bench.sent(),
            std::slice::from_ref(&bytes),
            "start {start}, at {at}, last {last}"
        );
    }
}

#[test]
fn a_huge_ring_is_served_in_bounded_steps() {
    let bench = Bench::new(true, false);
    let ring_len = 0x8000; // 2048 descriptors
    bench.set(TDLEN, ring_len);
    bench.set(TDBAL, 0x8_0000);
    let bytes = packet(true, true, 8000, true);
    bench.put(TX_BUFFER, &bytes);
    let context =
        ContextFor { transport: AFTER_IPV4, tcp: true, header_len: 54, mss: 2, segmentation: true };
    let [low, high] = context.words();
    let at = |slot: u64| 0x8_0000 + slot * 16;
    bench.write_u64(at(0), low);
    bench.write_u64(at(0) + 8, high);
    let slots = 2047u64;
    for slot in 1..slots {
        let command = u64::from(command::DEXT | command::TSE | command::EOP) << 24 | 1 << 20;
        bench.write_u64(at(slot), TX_BUFFER);
        bench.write_u64(at(slot) + 8, bytes.len() as u64 | command);
    }
    bench.set(TDT, slots as u32);
    // 4000 segments a packet, 56 bytes each: the register write must not do all 8 million.
    let mut sent = bench.sent().len();
    assert!(sent < 25_000, "{sent} frames in one register write");
    while bench.get(TDH) != slots as u32 {
        assert_eq!(
            bench.armed.0.lock().last(),
            Some(&bench.clock.now()),
            "the timer goes on at once"
        );
        bench.nic.on_timer();
        let now = bench.sent().len();
        assert!(now < 25_000);
        sent += now;
    }
    assert_eq!(sent, 2046 * 4000);
}
