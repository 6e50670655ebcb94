//! The test frame: an Ethernet header of experimental type, then magic, sequence number, timestamp
//! and kind, little endian, then filler.
//!
//! A header is handled as five aligned 64-bit words, which is how it is stored into and loaded from
//! a buffer that a device shares.

use core::fmt;

/// Words of a header.
pub const HEADER_WORDS: usize = 5;
/// Filler after the header.
pub const FILLER: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// EtherType 0x88B5 (IEEE 802, local experimental) in wire order, then magic 0x4C43: bytes 12-15.
const TYPE_AND_MAGIC: u32 = 0x4c43_b588;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Counted by a receiver.
    Data = 0,
    /// To be answered.
    Ping = 1,
    /// An answer.
    Pong = 2,
    /// Makes switches learn the sender's address.
    Announce = 3,
}

/// A test frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Destination address.
    pub dst: [u8; 6],
    /// Source address.
    pub src: [u8; 6],
    /// Sequence number.
    pub sequence: u64,
    /// The sender's TSC, or in an answer the request's.
    pub tsc: u64,
    /// What it is for.
    pub kind: Kind,
}

impl Header {
    /// The header as it lies in a frame.
    #[inline]
    pub fn encode(&self) -> [u64; HEADER_WORDS] {
        let [d0, d1, d2, d3, d4, d5] = self.dst;
        let [s0, s1, s2, s3, s4, s5] = self.src;
        let source_tail = u32::from_le_bytes([s2, s3, s4, s5]);
        [
            u64::from_le_bytes([d0, d1, d2, d3, d4, d5, s0, s1]),
            u64::from(TYPE_AND_MAGIC) << 32 | u64::from(source_tail),
            self.sequence,
            self.tsc,
            FILLER << 32 | u64::from(self.kind as u32),
        ]
    }

    /// Writes the header, as far as it fits, to the start of `frame`.
    pub fn write(&self, frame: &mut [u8]) {
        for (bytes, word) in frame.chunks_exact_mut(8).zip(self.encode()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads a header; `None` if the frame is not one of ours.
    #[inline]
    pub fn decode(words: [u64; HEADER_WORDS]) -> Option<Self> {
        let kind = kind(words[1], words[4])?;
        let [d0, d1, d2, d3, d4, d5, s0, s1] = words[0].to_le_bytes();
        let [s2, s3, s4, s5, ..] = words[1].to_le_bytes();
        Some(Self {
            dst: [d0, d1, d2, d3, d4, d5],
            src: [s0, s1, s2, s3, s4, s5],
            sequence: words[2],
            tsc: words[3],
            kind,
        })
    }
}

/// The kind of a frame from its second and fifth word; `None` if it is not one of ours.
#[inline]
pub fn kind(word1: u64, word4: u64) -> Option<Kind> {
    if (word1 >> 32) as u32 != TYPE_AND_MAGIC {
        return None;
    }
    match word4 as u32 {
        0 => Some(Kind::Data),
        1 => Some(Kind::Ping),
        2 => Some(Kind::Pong),
        3 => Some(Kind::Announce),
        _ => None,
    }
}

/// Shows an Ethernet address.
pub struct ShowMac(pub [u8; 6]);

impl fmt::Display for ShowMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        dst: [1, 2, 3, 4, 5, 6],
        src: [7, 8, 9, 10, 11, 12],
        sequence: 0x0102_0304_0506_0708,
        tsc: 0x1112_1314_1516_1718,
        kind: Kind::Ping,
    };

    #[test]
    fn the_wire_layout_is_fixed() {
        let mut bytes = [0; 8 * HEADER_WORDS];
        HEADER.write(&mut bytes);
        assert_eq!(
            bytes,
            [
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x88, 0xb5, 0x43, 0x4c, 8, 7, 6, 5, 4, 3, 2,
                1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 1, 0, 0, 0, 0x5a, 0x5a, 0x5a,
                0x5a
            ]
        );
    }

    #[test]
    fn a_header_survives_the_wire() {
        assert_eq!(Header::decode(HEADER.encode()), Some(HEADER));
    }

    #[test]
    fn foreign_frames_are_told_apart() {
        let words = HEADER.encode();
        let mut other_type = words;
        other_type[1] ^= 1 << 32;
        let mut other_magic = words;
        other_magic[1] ^= 1 << 63;
        let mut other_kind = words;
        other_kind[4] = 4;
        for words in [other_type, other_magic, other_kind] {
            assert_eq!(Header::decode(words), None);
        }
    }

    #[test]
    fn an_address_is_shown_as_people_write_it() {
        assert_eq!(ShowMac([0x52, 0x54, 0, 0xa, 0xff, 1]).to_string(), "52:54:00:0a:ff:01");
    }
}
