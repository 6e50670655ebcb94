//! Tells lost, reordered and duplicate frames apart by their sequence numbers.

/// How far back a late frame is still told from a duplicate.
const WINDOW: u64 = 64;

/// Checks the sequence numbers of one sender, who starts at 0.
#[derive(Debug, Default)]
pub struct Sequence {
    next: u64,
    /// Bit `i`: `next - 1 - i` has arrived.
    arrived: u64,
    missing: u64,
    reordered: u64,
    duplicates: u64,
}

impl Sequence {
    /// Notes a frame.
    #[inline]
    pub fn note(&mut self, number: u64) {
        if number == self.next {
            self.next = number.wrapping_add(1);
            self.arrived = self.arrived << 1 | 1;
        } else {
            self.note_unexpected(number);
        }
    }

    #[cold]
    fn note_unexpected(&mut self, number: u64) {
        if number > self.next {
            let gap = number - self.next;
            self.missing += gap;
            self.next = number.wrapping_add(1);
            self.arrived = if gap + 1 < WINDOW { self.arrived << (gap + 1) | 1 } else { 1 };
            return;
        }
        let age = self.next - 1 - number;
        // Older than the window: taken for late, unless nothing is missing.
        let bit = if age < WINDOW { 1 << age } else { 0 };
        if self.arrived & bit != 0 || self.missing == 0 {
            self.duplicates += 1;
        } else {
            self.arrived |= bit;
            self.missing -= 1;
            self.reordered += 1;
        }
    }

    /// The number after the highest seen.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Numbers skipped and not seen since.
    pub fn lost(&self) -> u64 {
        self.missing
    }

    /// Frames that came after one with a higher number.
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Frames that came again.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note_all(numbers: impl IntoIterator<Item = u64>) -> (u64, u64, u64) {
        let mut sequence = Sequence::default();
        numbers.into_iter().for_each(|number| sequence.note(number));
        (sequence.lost(), sequence.reordered(), sequence.duplicates())
    }

    #[test]
    fn in_order_nothing_is_amiss() {
        assert_eq!(note_all(0..1000), (0, 0, 0));
    }

    #[test]
    fn the_next_number_follows_the_highest() {
        let mut sequence = Sequence::default();
        [0, 5, 2].into_iter().for_each(|number| sequence.note(number));
        assert_eq!(sequence.next(), 6);
    }

    #[test]
    fn gaps_are_lost_frames() {
        assert_eq!(note_all([0, 1, 4, 5, 200]), (196, 0, 0));
        assert_eq!(note_all([3]), (3, 0, 0));
    }

    #[test]
    fn a_late_frame_is_reordered_not_lost() {
        assert_eq!(note_all([0, 2, 1, 3]), (0, 1, 0));
        assert_eq!(note_all([1, 2, 3, 0]), (0, 1, 0));
    }

    #[test]
    fn a_frame_that_came_is_a_duplicate() {
        assert_eq!(note_all([0, 1, 1, 0, 2]), (0, 0, 2));
        assert_eq!(note_all([0, 2, 1, 1, 3]), (0, 1, 1));
    }

    #[test]
    fn the_window_ends_at_64() {
        // 0 is missing; the frame 64 back is still judged by the window.
        assert_eq!(note_all((1..64).chain([0, 0])), (0, 1, 1));
        assert_eq!(note_all([0, 65, 0]), (63, 1, 0));
    }
}
