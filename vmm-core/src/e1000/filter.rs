//! Which frames a NIC accepts: exact addresses, multicast hash, promiscuous modes (manual
//! 3.2.1), VLAN table (manual 9.3).

use super::regs::{RAH_AS_SHIFT, RAH_AV, rctl};
use crate::backend::Mac;

/// Entries of the receive address list.
const EXACT: usize = 16;
/// Words of the multicast table.
const HASH_WORDS: usize = 128;

/// Words of the VLAN filter table: a bit for each of 4096 VLANs.
const VLAN_WORDS: usize = 128;

/// How a frame passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Its address is one that the guest asked for, or all of its kind are.
    Exact,
    /// Its address has a hash that the guest asked for: software must look (RDESC.PIF).
    Hash,
}

/// Receive address registers.
#[derive(Debug)]
pub struct Filter {
    /// RAL and RAH, alternating.
    receive_addresses: [u32; 2 * EXACT],
    multicast_table: [u32; HASH_WORDS],
    vlan_table: [u32; VLAN_WORDS],
    /// The valid entries of `receive_addresses`, ready to compare with a destination.
    exact: Vec<Mac>,
    /// Those that RAH.AS wants compared with a source.
    sources: Vec<Mac>,
}

impl Filter {
    /// A filter after reset: the EEPROM's address in entry 0.
    pub fn new(mac: [u8; 6]) -> Self {
        let mut filter = Self {
            receive_addresses: [0; 2 * EXACT],
            multicast_table: [0; HASH_WORDS],
            vlan_table: [0; VLAN_WORDS],
            exact: Vec::with_capacity(EXACT),
            sources: Vec::new(),
        };
        filter.set_own_address(mac);
        filter
    }

    /// Loads entry 0 of the receive address list, as the part does from its EEPROM.
    pub fn set_own_address(&mut self, mac: [u8; 6]) {
        let bits = Mac::from(mac).0;
        self.set_receive_address(0, bits as u32);
        self.set_receive_address(1, (bits >> 32) as u32 | RAH_AV);
    }

    /// Word `index` of the receive address list.
    pub fn receive_address(&self, index: usize) -> u32 {
        self.receive_addresses.get(index).copied().unwrap_or(0)
    }

    /// Writes word `index` of the receive address list. RAH has the address's last 16 bits, two to
    /// select what it is compared with, and the valid bit (manual 13.5.3).
    pub fn set_receive_address(&mut self, index: usize, value: u32) {
        const RAH_BITS: u32 = RAH_AV | 0x3_ffff;
        let Some(word) = self.receive_addresses.get_mut(index) else {
            return;
        };
        *word = if index % 2 == 1 { value & RAH_BITS } else { value };
        self.exact.clear();
        self.sources.clear();
        for pair in self.receive_addresses.chunks_exact(2).filter(|pair| pair[1] & RAH_AV != 0) {
            let mac = Mac(u64::from(pair[0]) | u64::from(pair[1] & 0xffff) << 32);
            match pair[1] >> RAH_AS_SHIFT & 0b11 {
                0b00 => self.exact.push(mac),
                0b01 => self.sources.push(mac),
                _ => {}
            }
        }
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

    /// Word `index` of the VLAN filter table.
    pub fn vlan_word(&self, index: usize) -> u32 {
        self.vlan_table.get(index).copied().unwrap_or(0)
    }

    /// Writes word `index` of the VLAN filter table.
    pub fn set_vlan_word(&mut self, index: usize, value: u32) {
        if let Some(word) = self.vlan_table.get_mut(index) {
            *word = value;
        }
    }

    /// How a frame from `source` to `destination` passes under `rctl`; `None` if it does not.
    #[inline]
    pub fn accepts(&self, destination: Mac, source: Mac, rctl: u32) -> Option<Match> {
        if self.exact.contains(&destination) || self.sources.contains(&source) {
            return Some(Match::Exact);
        }
        if !destination.is_group() {
            return (rctl & rctl::UPE != 0).then_some(Match::Exact);
        }
        let everyone = destination == Mac::BROADCAST && rctl & rctl::BAM != 0;
        if everyone || rctl & rctl::MPE != 0 {
            return Some(Match::Exact);
        }
        self.hash_hit(destination, rctl).then_some(Match::Hash)
    }

    /// Whether a frame with this tag control information passes RCTL.VFE and RCTL.CFIEN.
    pub fn accepts_vlan(&self, control: u16, rctl: u32) -> bool {
        const CFI: u16 = 1 << 12;
        if rctl & rctl::VFE == 0 {
            return true;
        }
        let vlan = usize::from(control & 0xfff);
        let wanted = self.vlan_table[vlan >> 5] & 1 << (vlan & 31) != 0;
        let canonical = (control & CFI != 0) == (rctl & rctl::CFI != 0);
        wanted && (canonical || rctl & rctl::CFIEN == 0)
    }

    /// Manual 13.5.1: RCTL.MO chooses which 12 of the address's upper bits index the table.
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

    fn accepts(filter: &Filter, destination: Mac, rctl: u32) -> bool {
        filter.accepts(destination, OTHER.into(), rctl).is_some()
    }

    #[test]
    fn own_address_and_broadcast_are_accepted() {
        let filter = Filter::new(OWN);
        assert!(accepts(&filter, OWN.into(), 0));
        assert!(!accepts(&filter, OTHER.into(), 0));
        assert!(accepts(&filter, OTHER.into(), rctl::UPE));
        assert!(!accepts(&filter, Mac::BROADCAST, 0));
        assert!(accepts(&filter, Mac::BROADCAST, rctl::BAM));
    }

    #[test]
    fn an_invalid_entry_does_not_match() {
        let mut filter = Filter::new(OWN);
        filter.set_receive_address(1, 0x0100);
        assert!(!accepts(&filter, OWN.into(), 0));
    }

    #[test]
    fn the_multicast_hash_follows_the_offset() {
        // Bits of 56:7a as the manual's table gives them, for each RCTL.MO.
        for (offset, hash) in [(0, 0x7a5), (1, 0xf4a), (2, 0xe95), (3, 0xa56)] {
            let mut filter = Filter::new(OWN);
            let rctl = offset << rctl::MO_SHIFT;
            assert!(!accepts(&filter, GROUP.into(), rctl));
            filter.set_multicast_word(hash >> 5, 1 << (hash & 31));
            assert!(accepts(&filter, GROUP.into(), rctl), "offset {offset}");
        }
        assert!(accepts(&Filter::new(OWN), GROUP.into(), rctl::MPE));
    }

    #[test]
    fn a_vlan_passes_if_its_bit_is_set() {
        let mut filter = Filter::new(OWN);
        filter.set_vlan_word(100 >> 5, 1 << (100 & 31));
        assert!(filter.accepts_vlan(101, 0), "no filter");
        assert!(filter.accepts_vlan(0xe064, rctl::VFE), "the priority does not matter");
        assert!(!filter.accepts_vlan(101, rctl::VFE));
        let tagged_noncanonical = 0x1064;
        assert!(filter.accepts_vlan(tagged_noncanonical, rctl::VFE));
        assert!(!filter.accepts_vlan(tagged_noncanonical, rctl::VFE | rctl::CFIEN));
        assert!(filter.accepts_vlan(tagged_noncanonical, rctl::VFE | rctl::CFIEN | rctl::CFI));
    }

    #[test]
    fn an_entry_may_select_a_source() {
        let mut filter = Filter::new(OWN);
        filter.set_receive_address(2, 0x5452);
        filter.set_receive_address(3, RAH_AV | 0b01 << RAH_AS_SHIFT | 0x0200);
        assert_eq!(filter.accepts(GROUP.into(), OTHER.into(), 0), Some(Match::Exact));
        assert_eq!(filter.accepts(OTHER.into(), OWN.into(), 0), None);
        filter.set_receive_address(3, RAH_AV | 0b10 << RAH_AS_SHIFT | 0x0200);
        assert_eq!(filter.accepts(OTHER.into(), OTHER.into(), 0), None, "reserved");
    }

    #[test]
    fn a_broadcast_can_pass_by_its_hash() {
        let mut filter = Filter::new(OWN);
        filter.set_multicast_word(0xfff >> 5, 1 << 31);
        assert_eq!(filter.accepts(Mac::BROADCAST, OTHER.into(), 0), Some(Match::Hash));
    }
}
