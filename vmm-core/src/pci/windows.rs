//! What answers where: the address ranges that base address registers decode.

use std::sync::Arc;

/// A block of registers behind one base address register.
///
/// Accesses lie wholly inside the block and may have any width. There is no error: what a device
/// does not implement reads as it likes and swallows writes.
pub trait Registers: Send + Sync {
    /// Reads `data.len()` bytes at `offset`.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Writes `data` at `offset`.
    fn write(&self, offset: u64, data: &[u8]);
    /// Is told where the block begins, if it decodes at all, whenever that may have changed.
    fn placed(&self, _base: Option<u64>) {}
}

/// The decoded ranges of one address space.
#[derive(Default)]
pub struct Windows(Vec<Window>);

struct Window {
    base: u64,
    len: u64,
    registers: Arc<dyn Registers>,
}

impl Windows {
    /// Finds the registers that decode all `len` bytes at `addr`, and the offset into them.
    ///
    /// A guest has a handful of windows, so a scan beats any cleverness. Where a guest makes two
    /// overlap, the first function answers.
    #[inline]
    pub fn find(&self, addr: u64, len: usize) -> Option<(&dyn Registers, u64)> {
        let window = self.0.iter().find(|w| addr.wrapping_sub(w.base) < w.len)?;
        let offset = addr - window.base;
        (window.len - offset >= len as u64).then_some((&*window.registers, offset))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn add(&mut self, base: u64, len: u64, registers: Arc<dyn Registers>) {
        self.0.push(Window { base, len, registers });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Constant(u8);

    impl Registers for Constant {
        fn read(&self, _offset: u64, data: &mut [u8]) {
            data.fill(self.0);
        }
        fn write(&self, _offset: u64, _data: &[u8]) {}
    }

    #[test]
    fn an_access_must_lie_wholly_inside() {
        let mut windows = Windows::default();
        windows.add(0x1000, 0x100, Arc::new(Constant(1)));
        let offset = |addr, len| windows.find(addr, len).map(|(_, offset)| offset);
        assert_eq!(offset(0x1000, 8), Some(0));
        assert_eq!(offset(0x10f8, 8), Some(0xf8));
        assert_eq!(offset(0x10fd, 4), None, "crosses the end");
        assert_eq!(offset(0xfff, 4), None, "crosses the start");
        assert_eq!(offset(0x1100, 1), None);
        assert_eq!(offset(u64::MAX, 8), None);
    }

    #[test]
    fn the_first_of_overlapping_windows_answers() {
        let mut windows = Windows::default();
        windows.add(0x1000, 0x100, Arc::new(Constant(1)));
        windows.add(0x1080, 0x100, Arc::new(Constant(2)));
        let value = |addr| {
            let mut data = [0];
            windows.find(addr, 1).unwrap().0.read(0, &mut data);
            data[0]
        };
        assert_eq!((value(0x1080), value(0x1100)), (1, 2));
    }
}
