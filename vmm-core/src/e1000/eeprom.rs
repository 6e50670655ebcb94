//! The serial EEPROM: 64 words of 16 bits on a Microwire bus (manual chapter 5).
//!
//! Drivers reach it in two ways. EERD lets the controller read one word (manual 13.4.4); EECD hands
//! the four wires to software, which then clocks commands bit by bit (manual 13.4.3), the only way to
//! write. Behind EECD is a model of the part, a 93C46: see [`Part`].

/// Words in the part.
const WORDS: usize = 64;

/// Words 0x00..=0x3f must add up to this, modulo 2^16 (manual 5.6.35).
const CHECKSUM: u16 = 0xbaba;

/// Address of the word that makes the checksum right.
const CHECKSUM_WORD: usize = 0x3f;

/// Bits of EECD, manual 13.4.3.
mod eecd {
    pub const SK: u32 = 1 << 0;
    pub const CS: u32 = 1 << 1;
    pub const DI: u32 = 1 << 2;
    pub const DO: u32 = 1 << 3;
    pub const FWE: u32 = 0b11 << 4;
    /// Writes to the flash are disabled.
    pub const FWE_DISABLED: u32 = 0b01 << 4;
    pub const REQ: u32 = 1 << 6;
    pub const GNT: u32 = 1 << 7;
    pub const PRES: u32 = 1 << 8;
    // SIZE, bit 9, stays 0: 64 words.

    pub const WIRES: u32 = SK | CS | DI;
    pub const WRITABLE: u32 = WIRES | FWE | REQ;
}

/// Bits of EERD, manual 13.4.4.
mod eerd {
    pub const START: u32 = 1 << 0;
    pub const DONE: u32 = 1 << 4;
    pub const ADDRESS_SHIFT: u32 = 8;
    pub const DATA_SHIFT: u32 = 16;
}

/// The EEPROM and the two registers that lead to it.
#[derive(Debug)]
pub struct Eeprom {
    part: Part,
    eerd: u32,
    /// The writable bits of EECD.
    eecd: u32,
}

impl Eeprom {
    /// A part programmed for a board with the given MAC address and PCI subsystem ids.
    pub fn new(mac: [u8; 6], subsystem_id: u16, subsystem_vendor: u16) -> Self {
        let words = image(mac, subsystem_id, subsystem_vendor);
        Self { part: Part::new(words), eerd: 0, eecd: eecd::FWE_DISABLED }
    }

    /// The word at `address`; addresses wrap as the part's six address bits do.
    pub fn word(&self, address: u32) -> u16 {
        self.part.words[address as usize % WORDS]
    }

    /// The MAC address that the words hold now: a guest may have changed it.
    pub fn mac(&self) -> [u8; 6] {
        let [a, b, c] = [0, 1, 2].map(|address| self.word(address).to_le_bytes());
        [a[0], a[1], b[0], b[1], c[0], c[1]]
    }

    /// EERD.
    pub fn eerd(&self) -> u32 {
        self.eerd
    }

    /// Writes EERD. With its start bit set the word is there when it is next read.
    pub fn set_eerd(&mut self, value: u32) {
        let address = (value >> eerd::ADDRESS_SHIFT) & 0xff;
        self.eerd = address << eerd::ADDRESS_SHIFT;
        if value & eerd::START != 0 {
            self.eerd |= u32::from(self.word(address)) << eerd::DATA_SHIFT | eerd::DONE;
        }
    }

    /// EECD. Access is granted as soon as it is requested: nobody else uses the part.
    pub fn eecd(&self) -> u32 {
        let grant = if self.eecd & eecd::REQ != 0 { eecd::GNT } else { 0 };
        let data_out = if self.part.data_out { eecd::DO } else { 0 };
        self.eecd | grant | data_out | eecd::PRES
    }

    /// Writes EECD, and moves the part's wires if software holds them.
    pub fn set_eecd(&mut self, value: u32) {
        self.eecd = value & eecd::WRITABLE;
        let wires = if value & eecd::REQ != 0 { value & eecd::WIRES } else { 0 };
        self.part.drive(wires & eecd::CS != 0, wires & eecd::SK != 0, wires & eecd::DI != 0);
    }

    /// CTRL.RST: the registers restart and a command under way is lost. The part itself keeps its
    /// power, so its contents and its write enable latch stay.
    pub fn reset(&mut self) {
        self.eerd = 0;
        self.eecd = eecd::FWE_DISABLED;
        self.part.deselect();
    }
}

/// Contents as on a PRO/1000 MT Desktop adapter without flash, wake-up and manageability (manual
/// 5.6). The driver uses the addresses, the ids, the pause bits and the checksum.
fn image(mac: [u8; 6], subsystem_id: u16, subsystem_vendor: u16) -> [u16; WORDS] {
    let mut words = [0xffff; WORDS];
    for (word, pair) in words.iter_mut().zip(mac.chunks_exact(2)) {
        *word = u16::from_le_bytes([pair[0], pair[1]]);
    }
    words[0x03] = 0x0210; // software compatibility: a client adapter
    words[0x0a] = 0x4603; // initialization control 1: signature, full duplex, ids from here
    words[0x0b] = subsystem_id;
    words[0x0c] = subsystem_vendor;
    words[0x0d] = super::DEVICE_ID;
    words[0x0e] = super::VENDOR_ID;
    words[0x0f] = 0x3000; // initialization control 2: symmetric and asymmetric PAUSE
    words[0x20] = 0xc30c; // software defined pins: inputs
    words[0x21] = 0x7861; // circuit control
    words[0x22] = 0x1c08; // power dissipation in D0 and D3
    words[0x23] = 0x0000; // management control: none
    words[0x24] = 0x08c8; // initialization control 3: without APM wake-up
    let sum = words[..CHECKSUM_WORD].iter().fold(0u16, |sum, word| sum.wrapping_add(*word));
    words[CHECKSUM_WORD] = CHECKSUM.wrapping_sub(sum);
    words
}

/// Bits of a command behind its start bit: two of opcode, six of address.
const COMMAND_BITS: u32 = 8;
const WORD_BITS: u32 = 16;

/// What the part does between two rising edges of its clock.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Chip select is low, or the command was refused.
    Deaf,
    /// Zeros pass until a start bit comes.
    AwaitStart,
    /// `bits` of the command have come, the last one lowest in `command`.
    Command { command: u8, bits: u32 },
    /// Words go out, most significant bit first; `left` bits remain of the one at `address`.
    Read { address: u8, left: u32 },
    /// `bits` of the data word of a WRITE or WRAL have come.
    Data { write: Write, data: u16, bits: u32 },
    /// A complete write that starts when chip select falls.
    Armed { write: Write, data: u16 },
}

/// Which words a write goes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Write {
    One(u8),
    All,
}

/// A 93C46: 64 words, commands of a start bit, two opcode bits and six address bits.
///
/// DI is sampled and DO moves at the rising edge of SK while CS is high. Writing takes no time
/// here, so the busy state is never seen: DO says ready as soon as the part is selected again.
#[derive(Debug)]
struct Part {
    words: [u16; WORDS],
    /// Set by EWEN, cleared by EWDS and at power-on.
    write_enabled: bool,
    selected: bool,
    clock: bool,
    /// DO; when the part does not drive it, a resistor pulls it up.
    data_out: bool,
    phase: Phase,
}

impl Part {
    fn new(words: [u16; WORDS]) -> Self {
        Self {
            words,
            write_enabled: false,
            selected: false,
            clock: false,
            data_out: true,
            phase: Phase::Deaf,
        }
    }

    /// Puts levels on the wires.
    fn drive(&mut self, select: bool, clock: bool, data_in: bool) {
        let rising = clock && !self.clock;
        self.clock = clock;
        match (self.selected, select) {
            (true, true) if rising => self.phase = self.clocked(data_in),
            (true, false) => {
                if let Phase::Armed { write, data } = self.phase {
                    self.program(write, data);
                }
                self.deselect();
            }
            (false, true) => {
                self.selected = true;
                self.phase = Phase::AwaitStart;
            }
            _ => {}
        }
    }

    fn deselect(&mut self) {
        self.selected = false;
        self.data_out = true;
        self.phase = Phase::Deaf;
    }

    /// A rising clock edge: what comes after it.
    fn clocked(&mut self, data_in: bool) -> Phase {
        match self.phase {
            Phase::AwaitStart if data_in => Phase::Command { command: 0, bits: 0 },
            Phase::AwaitStart => Phase::AwaitStart,
            Phase::Command { command, bits } => {
                let command = command << 1 | u8::from(data_in);
                match bits + 1 {
                    COMMAND_BITS => self.decode(command),
                    bits => Phase::Command { command, bits },
                }
            }
            Phase::Read { address, left: 0 } => {
                self.clock_out((address + 1) % WORDS as u8, WORD_BITS)
            }
            Phase::Read { address, left } => self.clock_out(address, left),
            Phase::Data { write, data, bits } => {
                let data = data << 1 | u16::from(data_in);
                match bits + 1 {
                    WORD_BITS => Phase::Armed { write, data },
                    bits => Phase::Data { write, data, bits },
                }
            }
            // A clock too many: the part wants chip select to fall right after the last bit.
            Phase::Armed { .. } | Phase::Deaf => Phase::Deaf,
        }
    }

    fn clock_out(&mut self, address: u8, left: u32) -> Phase {
        let left = left - 1;
        self.data_out = self.words[usize::from(address)] >> left & 1 != 0;
        Phase::Read { address, left }
    }

    fn decode(&mut self, command: u8) -> Phase {
        let address = command & 0x3f;
        let data = |write| Phase::Data { write, data: 0, bits: 0 };
        let erase = |write| Phase::Armed { write, data: 0xffff };
        match (command >> 6, address >> 4) {
            (0b10, _) => {
                self.data_out = false; // the dummy bit before the first word
                Phase::Read { address, left: WORD_BITS }
            }
            (0b01, _) => data(Write::One(address)),
            (0b11, _) => erase(Write::One(address)),
            (_, 0b01) => data(Write::All),
            (_, 0b10) => erase(Write::All),
            (_, enable) => {
                self.write_enabled = enable == 0b11;
                Phase::Deaf
            }
        }
    }

    fn program(&mut self, write: Write, data: u16) {
        match write {
            _ if !self.write_enabled => {}
            Write::One(address) => self.words[usize::from(address)] = data,
            Write::All => self.words.fill(data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

    fn eeprom() -> Eeprom {
        Eeprom::new(MAC, 0x001e, 0x8086)
    }

    /// Accesses the part as the drivers do: every step is a write to EECD, DO is read after the
    /// rising edge.
    struct Driver(Eeprom);

    impl Driver {
        fn acquire() -> Self {
            let mut driver = Self(eeprom());
            driver.change(eecd::REQ, 0);
            assert_ne!(driver.0.eecd() & eecd::GNT, 0);
            driver.change(0, eecd::DI | eecd::SK);
            driver.change(eecd::CS, 0);
            driver
        }

        fn change(&mut self, set: u32, clear: u32) {
            let value = (self.0.eecd() & !clear) | set;
            self.0.set_eecd(value);
        }

        fn pulse(&mut self) -> u32 {
            self.change(eecd::SK, 0);
            let out = self.0.eecd() & eecd::DO;
            self.change(0, eecd::SK);
            out / eecd::DO
        }

        fn send(&mut self, value: u32, bits: u32) {
            for bit in (0..bits).rev() {
                let level = if value >> bit & 1 != 0 { eecd::DI } else { 0 };
                self.change(level, eecd::DI);
                self.change(level, eecd::DI ^ level);
                self.pulse();
            }
            self.change(0, eecd::DI);
        }

        fn fetch(&mut self) -> u16 {
            (0..16).fold(0, |word, _| word << 1 | self.pulse() as u16)
        }

        /// Between two commands: deselect, clock, select, the last with SK high.
        fn standby(&mut self) {
            self.change(0, eecd::CS | eecd::SK);
            self.change(eecd::SK, 0);
            self.change(eecd::CS, 0);
            self.change(0, eecd::SK);
        }

        fn read(&mut self, address: u32) -> u16 {
            self.send(0b110, 3);
            self.send(address, 6);
            let word = self.fetch();
            self.standby();
            word
        }

        /// Sends nine bits of command, and data if there is any; true if the part then says ready.
        fn command(&mut self, command: u32, data: Option<u16>) -> bool {
            self.send(command, 9);
            if let Some(data) = data {
                self.send(data.into(), 16);
            }
            self.standby();
            self.0.eecd() & eecd::DO != 0
        }
    }

    const EWEN: u32 = 0b100_110000;
    const EWDS: u32 = 0b100_000000;
    const WRITE: u32 = 0b101_000000;
    const ERASE: u32 = 0b111_000000;
    const WRAL: u32 = 0b100_010000;
    const ERAL: u32 = 0b100_100000;

    fn checksum(words: impl Iterator<Item = u16>) -> u16 {
        words.fold(0, u16::wrapping_add)
    }

    #[test]
    fn bit_banging_reads_every_word_and_the_checksum_is_right() {
        let mut driver = Driver::acquire();
        let words: Vec<u16> = (0..64).map(|address| driver.read(address)).collect();
        assert_eq!(checksum(words.iter().copied()), CHECKSUM);
        assert_eq!(words[..3], [0x5452, 0x1200, 0x5634]);
        assert_eq!(words[0x0a] >> 14, 0b01, "signature");
        assert_eq!(words[0x0b..0x0f], [0x001e, 0x8086, 0x100e, 0x8086]);
        assert_eq!(words[0x24] & 0x0400, 0, "no wake-up");
    }

    #[test]
    fn a_read_goes_on_to_the_next_word_and_wraps() {
        let mut driver = Driver::acquire();
        driver.send(0b110, 3);
        driver.send(0x3e, 6);
        assert_eq!(driver.0.eecd() & eecd::DO, 0, "the dummy bit");
        let expected = [0x3e, 0x3f, 0, 1].map(|address| driver.0.word(address));
        assert_eq!([(); 4].map(|()| driver.fetch()), expected);
    }

    #[test]
    fn zeros_before_the_start_bit_do_not_count() {
        let mut driver = Driver::acquire();
        driver.send(0, 5);
        assert_eq!(driver.read(1), 0x1200);
    }

    #[test]
    fn a_write_needs_the_latch_and_starts_when_chip_select_falls() {
        let mut driver = Driver::acquire();
        assert!(driver.command(WRITE | 5, Some(0x1234)));
        assert_eq!(driver.read(5), 0xffff, "writes are disabled at power-on");
        driver.command(EWEN, None);
        driver.send(WRITE | 5, 9);
        driver.send(0x1234, 16);
        assert_eq!(driver.0.word(5), 0xffff);
        driver.standby();
        assert_eq!(driver.read(5), 0x1234);
        driver.command(EWDS, None);
        driver.command(WRITE | 5, Some(0x5678));
        assert_eq!(driver.read(5), 0x1234);
    }

    #[test]
    fn a_write_of_another_length_is_refused() {
        let mut driver = Driver::acquire();
        driver.command(EWEN, None);
        for bits in [15, 17] {
            driver.send(WRITE | 5, 9);
            driver.send(0, bits);
            driver.standby();
            assert_eq!(driver.read(5), 0xffff, "{bits} bits");
        }
    }

    #[test]
    fn words_are_erased_and_written_one_or_all() {
        let mut driver = Driver::acquire();
        driver.command(EWEN, None);
        driver.command(ERASE | 1, None);
        assert_eq!((driver.read(0), driver.read(1)), (0x5452, 0xffff));
        driver.command(WRAL, Some(0xa5c3));
        assert!((0..64).all(|address| driver.read(address) == 0xa5c3));
        driver.command(ERAL, None);
        assert!((0..64).all(|address| driver.read(address) == 0xffff));
    }

    #[test]
    fn a_new_mac_address_with_its_checksum_can_be_written() {
        let mut driver = Driver::acquire();
        driver.command(EWEN, None);
        driver.command(WRITE | 2, Some(0x9a78));
        let sum = checksum((0..63).map(|address| driver.0.word(address)));
        driver.command(WRITE | 0x3f, Some(CHECKSUM.wrapping_sub(sum)));
        driver.command(EWDS, None);
        assert_eq!(driver.0.mac(), [0x52, 0x54, 0x00, 0x12, 0x78, 0x9a]);
        assert_eq!(checksum((0..64).map(|address| driver.0.word(address))), CHECKSUM);
    }

    #[test]
    fn without_the_grant_the_wires_do_nothing() {
        let mut driver = Driver(eeprom());
        driver.change(eecd::CS, 0);
        assert_eq!(driver.0.eecd() & eecd::GNT, 0);
        assert_eq!(driver.read(1), 0xffff, "DO is pulled up");
        driver.change(eecd::REQ, 0);
        assert_eq!(driver.read(1), 0x1200);
    }

    #[test]
    fn reset_ends_a_command_and_keeps_the_contents() {
        let mut driver = Driver::acquire();
        driver.command(EWEN, None);
        driver.command(WRITE | 5, Some(0x1234));
        driver.send(WRITE | 6, 9);
        driver.send(0x1234, 16);
        driver.0.set_eerd(0x0501);
        driver.0.reset();
        assert_eq!((driver.0.eerd(), driver.0.eecd()), (0, 0x0118));
        assert_eq!((driver.0.word(5), driver.0.word(6)), (0x1234, 0xffff));
        driver.change(eecd::REQ, 0);
        driver.change(eecd::CS, 0);
        assert_eq!(driver.read(5), 0x1234);
    }

    #[test]
    fn eecd_shows_a_present_part_of_64_words() {
        let mut eeprom = eeprom();
        assert_eq!(eeprom.eecd(), 0x0118, "present, flash writes off, DO pulled up");
        eeprom.set_eecd(0xffff_ffff);
        assert_eq!(eeprom.eecd(), 0x01ff, "SIZE and the reserved bits stay 0");
    }

    #[test]
    fn eerd_reads_the_mac() {
        let mut eeprom = eeprom();
        let mut read = |value| {
            eeprom.set_eerd(value);
            eeprom.eerd()
        };
        assert_eq!(read(0x0001), 0x5452_0010);
        assert_eq!(read(0x0201), 0x5634_0210);
        assert_eq!(read(0x0200), 0x0200, "nothing happens without the start bit");
    }
}
