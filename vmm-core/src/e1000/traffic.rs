//! Counts that the statistics registers have of good frames, in one direction (manual 13.7).

use serde::Serialize;

use crate::backend::Mac;

/// Shortest frame on a wire, without its check sequence.
pub const MIN_FRAME: usize = 60;
/// Bytes of the frame check sequence.
pub const FCS_LEN: usize = 4;

/// Good frames by length and kind of address.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Traffic {
    /// Frames of up to 64, 127, 255, 511, 1023 and more bytes, check sequence included.
    pub by_size: [u64; 6],
    /// Bytes on the wire: padding and check sequence included.
    pub octets: u64,
    /// Frames to everyone.
    pub broadcast: u64,
    /// Frames to a group, but not to everyone.
    pub multicast: u64,
}

impl Traffic {
    /// Counts a frame of `len` bytes without check sequence to `destination`.
    #[inline]
    pub fn count(&mut self, len: usize, destination: Mac) {
        let wire_len = len.max(MIN_FRAME) + FCS_LEN;
        self.octets += wire_len as u64;
        // The classes end at 64, 127, 255 and so on.
        let class = if wire_len <= 64 { 0 } else { wire_len.ilog2() - 5 };
        self.by_size[(class as usize).min(5)] += 1;
        if destination.is_group() {
            let everyone = destination == Mac::BROADCAST;
            self.broadcast += u64::from(everyone);
            self.multicast += u64::from(!everyone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_end_where_the_manual_says() {
        // Length with check sequence, class.
        let edges = [64, 65, 127, 128, 255, 256, 511, 512, 1023, 1024, 1522, 16384];
        let classes = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5];
        for (wire_len, class) in edges.into_iter().zip(classes) {
            let mut traffic = Traffic::default();
            traffic.count(wire_len - FCS_LEN, Mac(0));
            assert_eq!(traffic.by_size[class], 1, "{wire_len}");
            assert_eq!(traffic.octets, wire_len as u64);
        }
    }

    #[test]
    fn broadcast_is_no_multicast() {
        let mut traffic = Traffic::default();
        traffic.count(14, Mac::BROADCAST);
        traffic.count(14, Mac(1));
        traffic.count(14, Mac(2));
        assert_eq!((traffic.broadcast, traffic.multicast, traffic.octets), (1, 1, 192));
    }
}
