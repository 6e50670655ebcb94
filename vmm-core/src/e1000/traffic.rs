//! Counts that the statistics registers have of good frames, in one direction (manual 13.7).

use serde::Serialize;

use crate::backend::Mac;

/// Shortest frame on a wire, without its check sequence.
pub const MIN_FRAME: usize = 60;
/// Bytes of the frame check sequence.
pub const FCS_LEN: usize = 4;

/// Frames by length and kind of address.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Traffic {
    /// Frames of 64, up to 127, 255, 511, 1023 and more bytes, check sequence included.
    pub by_size: [u64; 6],
    /// Bytes on the wire: check sequence included.
    pub octets: u64,
    /// Those among them in frames of less than 64 bytes, which are in none of the size classes.
    pub short_octets: u64,
    /// Frames to everyone.
    pub broadcast: u64,
    /// Frames to a group, but not to everyone.
    pub multicast: u64,
}

impl Traffic {
    /// Counts `frames` frames of `len` bytes without check sequence to `destination`.
    fn count(&mut self, frames: u64, len: usize, destination: Mac) {
        let wire_len = len + FCS_LEN;
        let octets = frames * wire_len as u64;
        self.octets += octets;
        // The classes end at 64, 127, 255 and so on.
        match wire_len {
            0..64 => self.short_octets += octets,
            64 => self.by_size[0] += frames,
            _ => self.by_size[(wire_len.ilog2() as usize - 5).min(5)] += frames,
        }
        if destination.is_group() {
            let everyone = if destination == Mac::BROADCAST { frames } else { 0 };
            self.broadcast += everyone;
            self.multicast += frames - everyone;
        }
    }
}

/// Like frames in a row, to be counted together: neighbours mostly are alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    frames: u64,
    len: usize,
    destination: Mac,
}

impl Row {
    /// Adds a frame of `len` bytes without check sequence to `destination`. One unlike the others
    /// starts a new row, and `traffic` counts the old one.
    #[inline]
    pub fn add(&mut self, len: usize, destination: Mac, traffic: &mut Traffic) {
        if (len, destination) != (self.len, self.destination) {
            std::mem::replace(self, Self { frames: 0, len, destination }).end(traffic);
        }
        self.frames += 1;
    }

    /// Counts the row.
    pub fn end(self, traffic: &mut Traffic) {
        if self.frames > 0 {
            traffic.count(self.frames, self.len, self.destination);
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
            traffic.count(1, wire_len - FCS_LEN, Mac(0));
            assert_eq!(traffic.by_size[class], 1, "{wire_len}");
            assert_eq!(traffic.octets, wire_len as u64);
        }
    }

    #[test]
    fn broadcast_is_no_multicast() {
        let mut traffic = Traffic::default();
        traffic.count(1, 60, Mac::BROADCAST);
        traffic.count(1, 60, Mac(1));
        traffic.count(1, 60, Mac(2));
        assert_eq!((traffic.broadcast, traffic.multicast, traffic.octets), (1, 1, 192));
    }

    #[test]
    fn a_short_frame_has_no_class() {
        let mut traffic = Traffic::default();
        traffic.count(1, 59, Mac(0));
        assert_eq!((traffic.by_size, traffic.octets, traffic.short_octets), ([0; 6], 63, 63));
    }
}
