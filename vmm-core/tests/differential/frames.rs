//! Frames for scripts.

use crate::nic::MAC;

/// The other end of the cable.
pub const PEER: [u8; 6] = [0x02, 0, 0, 0, 0, 7];
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// An EtherType for local experiments (IEEE 802): no checksum logic looks into such frames.
pub const EXPERIMENTAL: u16 = 0x88b5;
pub const ETHERNET_HEADER: usize = 14;

/// A frame of `length` bytes whose payload counts up.
pub fn plain(destination: [u8; 6], length: usize) -> Vec<u8> {
    let mut frame = [&destination[..], &PEER, &EXPERIMENTAL.to_be_bytes()].concat();
    frame.extend((frame.len()..length).map(|i| i as u8));
    frame.truncate(length);
    frame
}

/// A frame to our NIC.
pub fn to_us(length: usize) -> Vec<u8> {
    plain(MAC, length)
}

/// `frame` with an 802.1Q tag.
pub fn tagged(frame: &[u8], tag: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0x00], &tag.to_be_bytes(), rest].concat()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// An IP packet in a frame, as a driver hands it to a NIC or as it comes off the cable.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub network: Network,
    pub transport: Transport,
    /// Bytes after the transport header.
    pub payload: usize,
}

impl Packet {
    /// Offset of the IP header.
    pub const NETWORK_AT: usize = ETHERNET_HEADER;

    fn network_header(self) -> usize {
        match self.network {
            Network::V4 => 20,
            Network::V6 => 40,
        }
    }

    /// Offset of the transport header.
    pub fn transport_at(self) -> usize {
        Self::NETWORK_AT + self.network_header()
    }

    /// Offset of the transport checksum.
    pub fn checksum_at(self) -> usize {
        self.transport_at()
            + match self.transport {
                Transport::Tcp => 16,
                Transport::Udp => 6,
            }
    }

    /// Bytes of all headers.
    pub fn headers(self) -> usize {
        self.transport_at()
            + match self.transport {
                Transport::Tcp => 20,
                Transport::Udp => 8,
            }
    }

    fn protocol(self) -> u8 {
        match self.transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    /// Everything but checksums, which are zero.
    fn skeleton(self) -> Vec<u8> {
        let segment = self.headers() - self.transport_at() + self.payload;
        let mut frame = [&MAC[..], &PEER].concat();
        match self.network {
            Network::V4 => {
                frame.extend([0x08, 0x00, 0x45, 0x00]);
                frame.extend(((20 + segment) as u16).to_be_bytes());
                // Identification, don't fragment, time to live, protocol, checksum, addresses.
                frame.extend([0xfe, 0xdc, 0x40, 0x00, 64, self.protocol(), 0, 0]);
                frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            }
            Network::V6 => {
                frame.extend([0x86, 0xdd, 0x60, 0x00, 0x00, 0x00]);
                frame.extend((segment as u16).to_be_bytes());
                frame.extend([self.protocol(), 64]);
                for host in [1, 2] {
                    frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
                }
            }
        }
        // Ports; then sequence numbers near their wrap, PSH and FIN set, so that what segmentation
        // does to them shows.
        frame.extend([0x30, 0x39, 0x00, 0x50]);
        match self.transport {
            Transport::Tcp => {
                frame.extend([0xff, 0xff, 0xf0, 0x00, 0x01, 0x02, 0x03, 0x04]);
                frame.extend([0x50, 0x19, 0x20, 0x00, 0, 0, 0, 0]);
            }
            Transport::Udp => {
                frame.extend((segment as u16).to_be_bytes());
                frame.extend([0, 0]);
            }
        }
        frame.extend((0..self.payload).map(|i| (i ^ (i >> 8)) as u8));
        frame
    }

    fn pseudo_header(self, frame: &[u8], length: usize) -> Vec<u8> {
        let addresses = match self.network {
            Network::V4 => &frame[Self::NETWORK_AT + 12..Self::NETWORK_AT + 20],
            Network::V6 => &frame[Self::NETWORK_AT + 8..Self::NETWORK_AT + 40],
        };
        [addresses, &[0, self.protocol()], &(length as u16).to_be_bytes()].concat()
    }

    /// For transmission: the checksum field holds the pseudo header's sum. Segmentation adds the
    /// length itself, so that this sum is without it (manual 3.5.7).
    pub fn for_offload(self, segmented: bool) -> Vec<u8> {
        let mut frame = self.skeleton();
        let segment = if segmented { 0 } else { frame.len() - self.transport_at() };
        let sum = fold(&self.pseudo_header(&frame, segment));
        frame[self.checksum_at()..][..2].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// For reception: both checksums are right.
    pub fn complete(self) -> Vec<u8> {
        let mut frame = self.for_offload(false);
        let sum = !fold(&frame[self.transport_at()..]);
        frame[self.checksum_at()..][..2].copy_from_slice(&sum.to_be_bytes());
        if self.network == Network::V4 {
            let sum = !fold(&frame[Self::NETWORK_AT..Self::NETWORK_AT + 20]);
            frame[Self::NETWORK_AT + 10..][..2].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    }
}

/// The Internet checksum's sum (RFC 1071), not complemented.
fn fold(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
