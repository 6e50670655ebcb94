//! Builds the frames that a [`Program`](super::program::Program) describes.

use super::guest::MACS;
use super::program::{Context, Destination, Network, Packet, Transport};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where the headers of a frame begin, as a driver tells the device in a context descriptor.
pub struct Layout {
    network: usize,
    transport: usize,
    payload: usize,
    ipv4: bool,
    tcp: bool,
    /// Bytes of both network addresses, which end where the transport header begins.
    addresses: usize,
}

/// The frame's bytes and its layout.
pub fn build(packet: &Packet) -> (Vec<u8>, Layout) {
    let mut bytes = Vec::with_capacity(packet.len.0 + 128);
    bytes.extend_from_slice(&match packet.destination {
        Destination::First => MACS[0],
        Destination::Second => MACS[1],
        Destination::Broadcast => [0xff; 6],
        Destination::Multicast(group) => [0x01, 0x00, 0x5e, 0, group >> 4, group],
        Destination::Other => [0x52, 0x54, 0, 0xff, 0xff, packet.seed],
    });
    bytes.extend_from_slice(&[0x52, 0x54, 0, 0, 1, packet.seed]);
    if let Some(tag) = packet.vlan {
        bytes.extend_from_slice(&[0x81, 0x00]);
        bytes.extend_from_slice(&tag.to_be_bytes());
    }
    let network = bytes.len() + 2;
    let protocol = match packet.transport {
        Transport::Tcp { .. } => TCP,
        Transport::Udp { .. } => UDP,
        Transport::Other(number) => number,
    };
    match packet.network {
        Network::Ipv4 { words, total, fragment } => {
            let true_total = packet.len.0.saturating_sub(network) as u16;
            bytes.extend_from_slice(&[0x08, 0x00, 0x40 | words.unwrap_or(5) & 0xf, 0]);
            bytes.extend_from_slice(&total.unwrap_or(true_total).to_be_bytes());
            bytes.extend_from_slice(&[0, packet.seed]);
            bytes.extend_from_slice(&fragment.to_be_bytes());
            bytes.extend_from_slice(&[64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        Network::Ipv6 { payload } => {
            let true_payload = packet.len.0.saturating_sub(network + 40) as u16;
            bytes.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            bytes.extend_from_slice(&payload.unwrap_or(true_payload).to_be_bytes());
            bytes.extend_from_slice(&[protocol, 64]);
            bytes.extend_from_slice(&[0xfd; 32]);
        }
        Network::Other(ethertype) => bytes.extend_from_slice(&ethertype.to_be_bytes()),
    }
    let transport = bytes.len();
    match packet.transport {
        Transport::Tcp { words, flags } => {
            bytes.extend_from_slice(&[0, 7, 0, 9, 0, 0, 0, packet.seed, 0, 0, 0, 1]);
            bytes.extend_from_slice(&[words.max(5) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Transport::Udp { length } => {
            let true_length = packet.len.0.saturating_sub(transport) as u16;
            bytes.extend_from_slice(&[0, 7, 0, 9]);
            bytes.extend_from_slice(&length.unwrap_or(true_length).to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
        }
        Transport::Other(_) => {}
    }
    let payload = bytes.len();
    let tail = (payload..packet.len.0).map(|at| packet.seed.wrapping_mul(at as u8 | 1));
    bytes.extend(tail);
    bytes.truncate(packet.len.0);
    let layout = Layout {
        network,
        transport,
        payload,
        ipv4: matches!(packet.network, Network::Ipv4 { .. }),
        tcp: matches!(packet.transport, Transport::Tcp { .. }),
        addresses: match packet.network {
            Network::Ipv4 { .. } => 8,
            Network::Ipv6 { .. } => 32,
            Network::Other(_) => 0,
        },
    };
    if packet.sound && bytes.len() >= payload {
        make_sound(&mut bytes, &layout, protocol);
    }
    (bytes, layout)
}

/// The two words of a context descriptor (manual 3.3.6) for `len` bytes of a frame.
pub fn context(context: &Context, layout: &Layout, len: usize) -> [u64; 2] {
    let (ip, tcp, length, command, header, mss) = match *context {
        Context::Wild { ip: [css, cso, cse, cse_high], tcp, length, command, header, mss } => {
            ([css, cso, cse, cse_high], tcp, length, command, header, mss)
        }
        Context::Fitting { command, mss } => {
            let checksum = layout.transport + if layout.tcp { 16 } else { 6 };
            let ip_end = if layout.ipv4 { layout.transport - 1 } else { 0 };
            let kind = u8::from(layout.tcp) | u8::from(layout.ipv4) << 1;
            (
                [layout.network as u8, layout.network as u8 + 10, ip_end as u8, 0],
                [layout.transport as u8, checksum as u8, 0, 0],
                len.saturating_sub(layout.payload) as u32,
                command ^ kind,
                layout.payload as u8,
                mss,
            )
        }
    };
    const TYPE_CONTEXT: u64 = 0;
    let starts = u64::from(u32::from_le_bytes(ip)) | u64::from(u32::from_le_bytes(tcp)) << 32;
    let rest = u64::from(length & 0xf_ffff)
        | TYPE_CONTEXT << 20
        | u64::from(command | DEXT) << 24
        | u64::from(header) << 40
        | u64::from(mss) << 48;
    [starts, rest]
}

/// Descriptor extension, in the command byte of all but legacy descriptors.
pub const DEXT: u8 = 1 << 5;

/// Fills in the Internet checksums (RFC 1071).
fn make_sound(bytes: &mut [u8], layout: &Layout, protocol: u8) {
    let folded = |mut sum: u64| {
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    };
    let words = |bytes: &[u8]| -> u64 {
        bytes.chunks(2).map(|w| u64::from(w[0]) << 8 | w.get(1).copied().map_or(0, u64::from)).sum()
    };
    if layout.ipv4 {
        let sum = folded(words(&bytes[layout.network..layout.transport]));
        bytes[layout.network + 10..][..2].copy_from_slice(&sum.to_be_bytes());
    }
    let field = match protocol {
        TCP if layout.payload - layout.transport == 20 => 16,
        UDP if layout.payload - layout.transport == 8 => 6,
        _ => return,
    };
    let addresses = &bytes[layout.transport - layout.addresses..layout.transport];
    let pseudo = words(addresses) + u64::from(protocol) + (bytes.len() - layout.transport) as u64;
    let sum = folded(pseudo + words(&bytes[layout.transport..]));
    bytes[layout.transport + field..][..2].copy_from_slice(&sum.to_be_bytes());
}
