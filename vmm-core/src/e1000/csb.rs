//! The Communication Status Block: a page shared by driver and device.
//!
//! Layout and protocol are those of the published paravirtual e1000 extension (Rizzo, Lettieri,
//! Maffione 2013), bit for bit, so that its FreeBSD driver works. The page belongs to the guest:
//! every value read from it is untrusted, and nothing past offset 0x67 is ever written.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::memory::GuestRam;

/// Bytes of guest memory that CSBAL maps.
const PAGE_BYTES: usize = 4096;

/// First byte that belongs to the guest alone.
#[cfg(test)]
const HOST_END: u64 = 0x68;

/// Words of the block, named as in the published header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Field {
    /// Next transmit index, exclusive; written by the guest.
    GuestTdt = 0x00,
    /// Bit 0: the guest is out of transmit descriptors and wants an interrupt.
    GuestNeedTxkick = 0x04,
    /// Not 0: the guest sleeps and wants a receive interrupt.
    GuestNeedRxkick = 0x08,
    /// Not 0: the protocol is in force. Changes at any time.
    GuestCsbOn = 0x0c,
    /// Receive tail shadow; written by the guest.
    GuestRdt = 0x10,
    /// Transmit head shadow; written by the host.
    HostTdh = 0x40,
    /// Not 0: the host sleeps and the guest must write TDT.
    HostNeedTxkick = 0x44,
    /// Receive head shadow; written by the host.
    HostRdh = 0x50,
    /// The guest writes RDT when its receive index gets here.
    HostRxkickAt = 0x5c,
}

/// No receive index asks for a kick.
pub const RXKICK_NONE: u32 = u32::MAX;

/// A mapped block.
#[derive(Clone, Debug)]
pub struct Csb {
    ram: GuestRam,
    base: u64,
}

impl Csb {
    /// Maps the block at guest-physical `base`; `None` if it is 0, unaligned or not all RAM.
    pub fn map(ram: &GuestRam, base: u64) -> Option<Self> {
        if base == 0 || !base.is_multiple_of(8) {
            return None;
        }
        ram.slice(base, PAGE_BYTES)?;
        let csb = Self { ram: ram.clone(), base };
        csb.store(Field::HostRxkickAt, RXKICK_NONE);
        Some(csb)
    }

    /// Whether the guest has the protocol turned on right now.
    #[inline]
    pub fn on(&self) -> bool {
        self.load(Field::GuestCsbOn) != 0
    }

    /// Reads a word (acquire).
    #[inline]
    pub fn load(&self, field: Field) -> u32 {
        self.word(field).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Writes a word (release).
    #[inline]
    pub fn store(&self, field: Field, value: u32) {
        if let Some(word) = self.word(field) {
            word.store(value, Ordering::Release);
        }
    }

    #[inline]
    fn word(&self, field: Field) -> Option<&AtomicU32> {
        self.ram.atomic_u32(self.base + field as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn a_bad_address_maps_nothing() {
        let ram = GuestRam::new(16384).unwrap();
        for base in [0, 4097, 4100, 12289, 16384, 12288 + 8, !7, 1 << 40] {
            assert!(Csb::map(&ram, base).is_none(), "{base:#x}");
        }
        assert!(Csb::map(&ram, 12288).is_some());
    }

    #[test]
    fn host_words_stay_below_the_guests_own_data() {
        let ram = GuestRam::new(16384).unwrap();
        let csb = Csb::map(&ram, 4096).unwrap();
        for field in [Field::HostTdh, Field::HostNeedTxkick, Field::HostRdh, Field::HostRxkickAt] {
            csb.store(field, 0x1122_3344);
            assert!(field as u64 + 4 <= HOST_END);
        }
        let mut rest = vec![0; PAGE_BYTES - HOST_END as usize];
        ram.slice(4096 + HOST_END, rest.len()).unwrap().read_slice(&mut rest, 0).unwrap();
        assert!(rest.iter().all(|b| *b == 0));
    }
}
