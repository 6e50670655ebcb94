//! Which frames a NIC accepts: exact addresses, multicast hash, promiscuous modes (manual 3.2.1).

use super::regs::{RAH_AV, rctl};
use crate::backend::Mac;

/// Entries of the receive address list.
const EXACT: usize = 16;
/// Words of the multicast table.
const HASH_WORDS: usize = 128;

/// Receive address registers.
#[derive(Debug)]
pub struct Filter {
    /// RAL and RAH, alternating.
    receive_addresses: [u32; 2 * EXACT],
    multicast_table: [u32; HASH_WORDS],
    /// The valid entries of `receive_addresses`, ready to compare.
    exact: Vec<Mac>,
}

impl Filter {
    /// A filter after reset: the EEPROM's address in entry 0.
    pub fn new(mac: [u8; 6]) -> Self {
        let mut filter = Self {
            receive_addresses: [0; 2 * EXACT],
            multicast_table: [0; HASH_WORDS],
            exact: Vec::with_capacity(EXACT),
        };
        let bits = Mac::from(mac).0;
        filter.set_receive_address(0, bits as u32);
        filter.set_receive_address(1, (bits >> 32) as u32 | RAH_AV);
        filter
    }

    /// Word `index` of the receive address list.
    pub fn receive_address(&self, index: usize) -> u32 {
        self.receive_addresses.get(index).copied().unwrap_or(0)
    }

    /// Writes word `index` of the receive address list.
    pub fn set_receive_address(&mut self, index: usize, value: u32) {
        let Some(word) = self.receive_addresses.get_mut(index) else {
            return;
        };
        *word = value;
        self.exact.clear();
        self.exact.extend(
            self.receive_addresses
                .chunks_exact(2)
                .filter(|pair| pair[1] & RAH_AV != 0)
                .map(|pair| Mac(u64::from(pair[0]) | u64::from(pair[1] & 0xffff) << 32)),
        );
    }

    /// Word `index` of the multicast table.
    pub fn multicast_word(&self, index: usize) -> u32 {
        self.multicast_table.get(index).copied().unwrap_or(0)
    }

    /// Writes word `index` of the multicast table.
    pub fn set_multicast_word(&mut self, index: usize, value: u32) {
        if let Some(word) = self.multicast_table.get_mut(index) {
            *word = value;
        }
    }

    /// Whether a frame to `destination` is received under `rctl`.
    #[inline]
    pub fn accepts(&self, destination: Mac, rctl: u32) -> bool {
        if self.exact.contains(&destination) {
            return true;
        }
        if destination == Mac::BROADCAST {
            return rctl & (rctl::BAM | rctl::MPE) != 0;
        }
        if destination.is_group() {
            return rctl & rctl::MPE != 0 || self.hash_hit(destination, rctl);
        }
        rctl & rctl::UPE != 0
    }

    /// Manual 13.5.2: RCTL.MO chooses which 12 of the address's upper bits index the table.
    fn hash_hit(&self, destination: Mac, rctl: u32) -> bool {
        let offset = (rctl >> rctl::MO_SHIFT) & 0b11;
        let upper = destination.0 >> 32; // wire bytes 4 and 5
        let hash = (upper >> (4 - offset.min(2) - u32::from(offset == 3) * 2)) as usize & 0xfff;
        self.multicast_table[hash >> 5] & (1 << (hash & 31)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
    const GROUP: [u8; 6] = [0x01, 0x00, 0x5e, 0x00, 0x56, 0x7a];

    #[test]
    fn own_address_and_broadcast_are_accepted() {
        let filter = Filter::new(OWN);
        assert!(filter.accepts(OWN.into(), 0));
        assert!(!filter.accepts(OTHER.into(), 0));
        assert!(filter.accepts(OTHER.into(), rctl::UPE));
        assert!(!filter.accepts(Mac::BROADCAST, 0));
        assert!(filter.accepts(Mac::BROADCAST, rctl::BAM));
    }

    #[test]
    fn an_invalid_entry_does_not_match() {
        let mut filter = Filter::new(OWN);
        filter.set_receive_address(1, 0x0100);
        assert!(!filter.accepts(OWN.into(), 0));
    }

    #[test]
    fn the_multicast_hash_follows_the_offset() {
        // Bits of 56:7a as the manual's table gives them, for each RCTL.MO.
        for (offset, hash) in [(0, 0x7a5), (1, 0xf4a), (2, 0xe95), (3, 0xa56)] {
            let mut filter = Filter::new(OWN);
            let rctl = offset << rctl::MO_SHIFT;
            assert!(!filter.accepts(GROUP.into(), rctl));
            filter.set_multicast_word(hash >> 5, 1 << (hash & 31));
            assert!(filter.accepts(GROUP.into(), rctl), "offset {offset}");
        }
        assert!(Filter::new(OWN).accepts(GROUP.into(), rctl::MPE));
    }
}
