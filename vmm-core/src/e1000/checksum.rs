//! The Internet checksum (RFC 1071).

use crate::backend::Frame;

/// Bytes that are copied out of guest memory at a time: they stay in the first-level cache.
const CHUNK: usize = 2048;

/// A one's complement sum of 16-bit words in the making.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// The words as a little-endian host reads them: a one's complement sum does not depend on the
    /// byte order until it is stored (RFC 1071, section 2B).
    words: u64,
    /// An odd number of bytes has been added so far.
    odd: bool,
}

impl Sum {
    /// Adds `bytes`, which follow those added before.
    pub fn add(&mut self, mut bytes: &[u8]) {
        if let (true, [first, rest @ ..]) = (self.odd, bytes) {
            self.words += u64::from(*first) << 8;
            self.odd = false;
            bytes = rest;
        }
        let mut quads = bytes.chunks_exact(4);
        for quad in &mut quads {
            self.words += u64::from(u32::from_le_bytes([quad[0], quad[1], quad[2], quad[3]]));
        }
        for pair in quads.remainder().chunks(2) {
            let [low, high] = [pair[0], pair.get(1).copied().unwrap_or(0)];
            self.words += u64::from(u16::from_le_bytes([low, high]));
        }
        self.odd |= !bytes.len().is_multiple_of(2);
    }

    /// Adds bytes `from..to` of `frame`, as far as it has them.
    pub fn add_frame(&mut self, frame: &Frame<'_>, from: usize, to: usize) {
        let mut chunk = [0; CHUNK];
        let mut offset = from;
        while offset < to {
            let count = frame.copy_out(offset, &mut chunk[..CHUNK.min(to - offset)]);
            if count == 0 {
                break;
            }
            self.add(&chunk[..count]);
            offset += count;
        }
    }

    /// The sum in wire order.
    pub fn folded(self) -> [u8; 2] {
        let mut sum = self.words;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (sum as u16).to_le_bytes()
    }

    /// The checksum, the sum's complement, in wire order.
    pub fn checksum(self) -> [u8; 2] {
        self.folded().map(|byte| !byte)
    }

    /// Whether the bytes added, their checksum among them, are what the checksum says.
    pub fn is_right(self) -> bool {
        self.folded() == [0xff; 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word.
    fn reference(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn the_rfcs_example() {
        let mut sum = Sum::default();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), [0xdd, 0xf2]);
        sum.add(&sum.checksum());
        assert!(sum.is_right());
    }

    proptest! {
        #[test]
        fn pieces_add_up_to_the_whole(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let mut sum = Sum::default();
            pieces.iter().for_each(|piece| sum.add(piece));
            prop_assert_eq!(sum.checksum(), reference(&pieces.concat()));
        }
    }
}
