//! The 64-word serial EEPROM, manual chapter 5.

/// Words 0x00..=0x3f must add up to this, modulo 2^16 (manual 5.6.35).
const CHECKSUM: u16 = 0xbaba;

/// Address of the word that makes the checksum right.
const CHECKSUM_WORD: usize = 0x3f;

/// EEPROM contents.
#[derive(Debug)]
pub struct Eeprom {
    words: [u16; 64],
}

impl Eeprom {
    /// An image with the given MAC address and PCI subsystem ids.
    pub fn new(mac: [u8; 6], subsystem_id: u16, subsystem_vendor: u16) -> Self {
        let mut words = [0u16; 64];
        for (word, pair) in words.iter_mut().zip(mac.chunks_exact(2)) {
            *word = u16::from_le_bytes([pair[0], pair[1]]);
        }
        words[0x0a] = 0x4408; // Initialization Control Word 1: load subsystem ids, 3.3 V
        words[0x0b] = subsystem_id;
        words[0x0c] = subsystem_vendor;
        words[0x0d] = super::DEVICE_ID;
        words[0x0e] = super::VENDOR_ID;
        let sum = words[..CHECKSUM_WORD].iter().fold(0u16, |sum, w| sum.wrapping_add(*w));
        words[CHECKSUM_WORD] = CHECKSUM.wrapping_sub(sum);
        Self { words }
    }

    /// The word at `address`; addresses wrap as the part's six address bits do.
    pub fn word(&self, address: u32) -> u16 {
        self.words[address as usize % self.words.len()]
    }

    /// Answers a write to EERD: the value then read back (manual 13.4.4).
    pub fn eerd(&self, written: u32) -> u32 {
        const START: u32 = 1 << 0;
        const DONE: u32 = 1 << 4;
        if written & START == 0 {
            return written & !DONE;
        }
        let address = (written >> 8) & 0xff;
        (u32::from(self.word(address)) << 16) | (address << 8) | DONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

    #[test]
    fn the_words_add_up_to_the_checksum() {
        let eeprom = Eeprom::new(MAC, 0x1101, 0);
        let sum = (0..64).fold(0u16, |sum, a| sum.wrapping_add(eeprom.word(a)));
        assert_eq!(sum, 0xbaba);
    }

    #[test]
    fn eerd_reads_the_mac() {
        let eeprom = Eeprom::new(MAC, 0x001e, 0x8086);
        assert_eq!(eeprom.eerd(0x0001), 0x5452_0010);
        assert_eq!(eeprom.eerd(0x0201), 0x5634_0210);
        assert_eq!(eeprom.eerd(0x0200), 0x0200, "nothing happens without the start bit");
    }
}
