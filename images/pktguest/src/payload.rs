//! What sockets carry: payloads that begin with their number and go on with filler.

/// What a frame has of Ethernet, IPv4 and UDP besides the payload, in bytes.
pub const UDP_HEADERS: u16 = 14 + 20 + 8;
/// The same of Ethernet, IPv4 and TCP without options.
pub const TCP_HEADERS: u16 = 14 + 20 + 20;
/// Bytes in the longest payload.
pub const LONGEST: usize = 1514 - UDP_HEADERS as usize;

/// Bytes of a number.
const NUMBER: usize = 8;
const FILLER: u8 = 0x5a;

/// A payload that takes one number after the other.
pub struct Payload {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Payload {
    /// A payload of `len` bytes; brought into the range from a number's 8 to [`LONGEST`].
    pub fn new(len: u16) -> Self {
        Self { bytes: [FILLER; LONGEST], len: usize::from(len).clamp(NUMBER, LONGEST) }
    }

    /// Bytes in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The payload with that number.
    #[inline]
    pub fn numbered(&mut self, number: u64) -> &[u8] {
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = number.to_le_bytes();
        }
        &self.bytes[..self.len]
    }
}

/// A payload's number; `None` if it is too short for one.
#[inline]
pub fn number(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_carries_its_number_and_filler() {
        let mut payload = Payload::new(10);
        assert_eq!(payload.numbered(0x0102_0304_0506_0708), [8, 7, 6, 5, 4, 3, 2, 1, 0x5a, 0x5a]);
        assert_eq!(payload.numbered(1), [1, 0, 0, 0, 0, 0, 0, 0, 0x5a, 0x5a]);
        assert_eq!(number(payload.numbered(u64::MAX)), Some(u64::MAX));
    }

    #[test]
    fn its_length_is_kept_within_bounds() {
        assert_eq!(Payload::new(1514 - TCP_HEADERS).len(), 1460);
        assert_eq!(Payload::new(u16::MAX).len(), LONGEST);
        assert_eq!(Payload::new(0).numbered(7), 7u64.to_le_bytes());
        assert_eq!(number(&[0; 7]), None);
    }
}
