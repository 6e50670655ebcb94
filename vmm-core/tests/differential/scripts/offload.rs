//! Context and data descriptors (manual 3.3.5 to 3.5): checksums of every protocol, segmentation.

use crate::driver::Driver;
use crate::frames::{Network, Packet, Transport};
use crate::scripts::transmit::{DEXT, EOP, IFCS, RS, TransmitRing, place, see_statistics};

/// Bits of TUCMD in a context descriptor.
const TCP: u32 = 1 << 0;
const IP: u32 = 1 << 1;
/// Segmentation, in TUCMD and in DCMD.
pub const TSE: u32 = 1 << 2;
/// Options of a data descriptor: insert the IP, the transport checksum.
pub const IXSM: u64 = 1 << 0;
pub const TXSM: u64 = 1 << 1;

const PACKETS: [(Network, Transport); 4] = [
    (Network::V4, Transport::Tcp),
    (Network::V4, Transport::Udp),
    (Network::V6, Transport::Tcp),
    (Network::V6, Transport::Udp),
];

/// The fields of a context descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Where the IP checksum starts, where it goes, and its last byte (0: the frame's).
    ip: [u64; 3],
    /// The same of the transport checksum.
    transport: [u64; 3],
    command: u32,
    payload: u64,
    header: u64,
    mss: u64,
}

impl Context {
    /// As drivers fill it for `packet`.
    pub fn of(packet: Packet) -> Self {
        let v4 = packet.network == Network::V4;
        let command = DEXT
            | if v4 { IP } else { 0 }
            | if packet.transport == Transport::Tcp { TCP } else { 0 };
        let ip = Packet::NETWORK_AT as u64;
        Self {
            ip: if v4 { [ip, ip + 10, ip + 19] } else { [ip, 0, ip + 39] },
            transport: [packet.transport_at() as u64, packet.checksum_at() as u64, 0],
            command,
            payload: 0,
            header: 0,
            mss: 0,
        }
    }

    /// With checksums where they are told to be.
    pub fn with_offsets(self, ip: [u64; 3], transport: [u64; 3]) -> Self {
        Self { ip, transport, ..self }
    }

    /// For segments with `mss` bytes of payload each.
    pub fn segmenting(packet: Packet, mss: u64) -> Self {
        let context = Self::of(packet);
        Self {
            command: context.command | TSE,
            payload: packet.payload as u64,
            header: packet.headers() as u64,
            mss,
            ..context
        }
    }

    /// Writes the descriptor.
    pub fn push(self, driver: &mut Driver<'_>, ring: &mut TransmitRing) {
        let offsets = |[start, field, end]: [u64; 3]| end << 16 | field << 8 | start;
        ring.push(
            driver,
            offsets(self.transport) << 32 | offsets(self.ip),
            self.mss << 48 | self.header << 40 | u64::from(self.command) << 24 | self.payload,
        );
    }
}

/// Data descriptors over `frame`, cut after the given numbers of bytes; the rest is the last piece.
pub fn push_data(
    driver: &mut Driver<'_>,
    ring: &mut TransmitRing,
    frame: &[u8],
    cuts: &[usize],
    command: u32,
    options: u64,
) {
    let mut at = place(driver, 0, frame);
    let rest = frame.len() - cuts.iter().sum::<usize>();
    for (piece, &length) in cuts.iter().chain([&rest]).enumerate() {
        let last = if piece == cuts.len() { EOP | RS } else { 0 };
        let command = u64::from(command | DEXT | IFCS | last);
        ring.push(driver, at, options << 40 | command << 24 | 1 << 20 | length as u64);
        at += length as u64;
    }
}

/// Every protocol, with every choice of checksums.
pub fn checksum_offload(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    for (network, transport) in PACKETS {
        for payload in [0, 1, 100, 1400] {
            let packet = Packet { network, transport, payload };
            for options in [0, IXSM, TXSM, IXSM | TXSM] {
                driver.heading(format!("{network:?} {transport:?} {payload}, options {options}"));
                Context::of(packet).push(driver, &mut ring);
                push_data(driver, &mut ring, &packet.for_offload(false), &[], 0, options);
                ring.go(driver);
            }
        }
    }
    driver.heading("statistics");
    see_statistics(driver);
}

/// The context stays until the next one; TUCSE bounds the sum; pieces anywhere.
pub fn checksum_context(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    let packet = Packet { network: Network::V4, transport: Transport::Udp, payload: 600 };
    let frame = packet.for_offload(false);
    let context = Context::of(packet);
    driver.heading("no context yet");
    push_data(driver, &mut ring, &frame, &[], 0, 0);
    ring.go(driver);
    driver.heading("context by itself");
    context.push(driver, &mut ring);
    ring.go(driver);
    for (what, cuts) in [
        ("one piece", vec![]),
        ("cut in the Ethernet header", vec![5]),
        ("cut in the IP header", vec![20]),
        ("cut in the checksum", vec![41]),
        ("cut in the payload", vec![301, 2]),
    ] {
        driver.heading(what);
        push_data(driver, &mut ring, &frame, &cuts, 0, IXSM | TXSM);
        ring.go(driver);
    }
    for end in [100, 101, 641, 642] {
        driver.heading(format!("TUCSE {end}"));
        let [start, field, _] = context.transport;
        context.with_offsets(context.ip, [start, field, end]).push(driver, &mut ring);
        push_data(driver, &mut ring, &frame, &[], 0, IXSM | TXSM);
        ring.go(driver);
    }
    driver.heading("fields beyond the frame");
    context.with_offsets([14, 250, 33], [255, 255, 0]).push(driver, &mut ring);
    push_data(driver, &mut ring, &frame[..100], &[], 0, IXSM | TXSM);
    ring.go(driver);
    driver.heading("a checksum behind its bytes");
    context.with_offsets([14, 120, 33], context.transport).push(driver, &mut ring);
    push_data(driver, &mut ring, &frame, &[], 0, IXSM);
    ring.go(driver);
    driver.heading("a sum of zero is sent as ones in UDP");
    let complete = packet.complete();
    let field = |at: usize| u16::from_be_bytes([complete[at], complete[at + 1]]);
    let (word, carry) = field(packet.headers()).overflowing_add(field(packet.checksum_at()));
    let mut zero_sum = frame.clone();
    zero_sum[packet.headers()..][..2].copy_from_slice(&(word + u16::from(carry)).to_be_bytes());
    context.push(driver, &mut ring);
    push_data(driver, &mut ring, &zero_sum, &[], 0, IXSM | TXSM);
    ring.go(driver);
}

/// As `ring.go`, but notes IPv6's payload lengths apart from the frames.
fn go_segments(driver: &mut Driver<'_>, ring: &mut TransmitRing, network: Network) {
    if network == Network::V4 {
        return ring.go(driver);
    }
    ring.hand_over(driver);
    let mut frames = driver.nic().sent();
    let lengths: Vec<_> = frames
        .iter_mut()
        .map(|frame| {
            let field = &mut frame[Packet::NETWORK_AT + 4..][..2];
            let field: &mut [u8; 2] = field.try_into().unwrap();
            u16::from_be_bytes(std::mem::take(field))
        })
        .collect();
    driver.note("payload lengths", format!("{lengths:?}"));
    driver.note_sent(&frames);
    ring.see(driver);
}

/// TCP of both kinds over several segment sizes: even, uneven, one segment, less than one.
pub fn segmentation(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    for network in [Network::V4, Network::V6] {
        for (payload, mss) in [(4000, 1000), (4001, 1448), (1448, 1448), (100, 1448), (3000, 536)] {
            driver.heading(format!("{network:?} {payload} bytes by {mss}"));
            let packet = Packet { network, transport: Transport::Tcp, payload };
            Context::segmenting(packet, mss).push(driver, &mut ring);
            let options = if network == Network::V4 { IXSM | TXSM } else { TXSM };
            push_data(driver, &mut ring, &packet.for_offload(true), &[], TSE, options);
            go_segments(driver, &mut ring, network);
        }
    }
    driver.heading("statistics");
    see_statistics(driver);
}

/// Headers apart, split, and in one piece with data; a segment over several pieces.
pub fn segmentation_pieces(driver: &mut Driver<'_>) {
    let mut ring = TransmitRing::start(driver);
    let packet = Packet { network: Network::V4, transport: Transport::Tcp, payload: 3000 };
    for (what, cuts) in [
        ("headers apart", vec![54]),
        ("headers in three pieces", vec![14, 20, 20]),
        ("headers split anywhere", vec![7, 40, 30]),
        ("data by hundreds", vec![54, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100]),
        ("pieces at segment ends", vec![54, 1000, 1000]),
        ("an empty piece", vec![54, 0, 1500]),
    ] {
        driver.heading(what);
        Context::segmenting(packet, 1000).push(driver, &mut ring);
        let frame = packet.for_offload(true);
        push_data(driver, &mut ring, &frame, &cuts, TSE, IXSM | TXSM);
        ring.go(driver);
    }
    driver.heading("UDP segments");
    let packet = Packet { transport: Transport::Udp, ..packet };
    Context::segmenting(packet, 1000).push(driver, &mut ring);
    push_data(driver, &mut ring, &packet.for_offload(true), &[], TSE, IXSM | TXSM);
    ring.go(driver);
    driver.heading("a plain checksum after a segmentation");
    let packet = Packet { payload: 50, ..packet };
    Context::of(packet).push(driver, &mut ring);
    push_data(driver, &mut ring, &packet.for_offload(false), &[], 0, IXSM | TXSM);
    ring.go(driver);
    driver.heading("statistics");
    see_statistics(driver);
}
