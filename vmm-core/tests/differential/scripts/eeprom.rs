//! The EEPROM, by EERD and by its four wires in EECD (manual 5.3 and 13.4.3).

use crate::driver::Driver;
use crate::registers::{EECD, EERD};

const SK: u32 = 1 << 0;
const CS: u32 = 1 << 1;
const DI: u32 = 1 << 2;
const DO: u32 = 1 << 3;
const REQ: u32 = 1 << 6;

fn see_sum(driver: &mut Driver<'_>, words: &[u32]) {
    let sum = words.iter().fold(0u16, |sum, word| sum.wrapping_add(*word as u16));
    driver.note("sum", format!("{sum:#06x}"));
}

/// Words that have the same meaning on every board are named for it (manual 5.6).
fn name(address: usize) -> String {
    match address {
        0x00..0x03 => format!("MAC address, word {address}"),
        0x0c => "subsystem vendor".into(),
        0x0d => "device".into(),
        0x0e => "vendor".into(),
        _ => format!("word {address:#04x}"),
    }
}

/// Every word by EERD, and what EERD shows without the start bit.
pub fn eeprom_by_register(driver: &mut Driver<'_>) {
    let mut words = Vec::new();
    for address in 0..64 {
        driver.set(EERD, address << 8 | 1);
        let answer = driver.get(EERD);
        driver.note(name(address as usize), format!("{answer:#010x}"));
        words.push(answer >> 16);
    }
    see_sum(driver, &words);
    for (what, written) in [
        ("beyond the part", 64 << 8 | 1),
        ("last address", 255 << 8 | 1),
        ("no start bit", 3 << 8),
        ("done written", 1 << 4),
        ("data written", 0x1234_0001),
    ] {
        driver.heading(what);
        driver.set(EERD, written);
        driver.see(EERD);
    }
}

/// One clock of the serial interface; returns the bit that the part drives after the rising edge.
fn clock(driver: &mut Driver<'_>, bit: u32) -> u32 {
    let lines = REQ | CS | if bit != 0 { DI } else { 0 };
    driver.set(EECD, lines);
    driver.set(EECD, lines | SK);
    let out = driver.get(EECD) & DO;
    driver.set(EECD, lines);
    u32::from(out != 0)
}

fn command(driver: &mut Driver<'_>, bits: u32, count: u32) {
    for bit in (0..count).rev() {
        clock(driver, bits >> bit & 1);
    }
}

/// Selects the part, reads `words` words from `address` on in one sequence and deselects it.
fn read_words(driver: &mut Driver<'_>, address: u32, words: usize) -> Vec<u32> {
    const READ: u32 = 0b110;
    driver.set(EECD, REQ);
    driver.set(EECD, REQ | CS);
    command(driver, READ << 6 | address, 9);
    let mut word = || (0..16).fold(0, |word, _| word << 1 | clock(driver, 0));
    let words = (0..words).map(|_| word()).collect();
    driver.set(EECD, REQ);
    driver.set(EECD, 0);
    words
}

/// Every word by the wires, as iPXE and older drivers read it.
pub fn eeprom_by_wire(driver: &mut Driver<'_>) {
    driver.heading("request");
    driver.set(EECD, REQ);
    driver.see(EECD);
    driver.set(EECD, 0);
    driver.see(EECD);
    driver.heading("");
    let words: Vec<_> = (0..64).flat_map(|address| read_words(driver, address, 1)).collect();
    for (address, word) in words.iter().enumerate() {
        driver.note(name(address), format!("{word:#06x}"));
    }
    see_sum(driver, &words);
    let mac = read_words(driver, 0, 3);
    driver.note("three words at once", format!("{mac:04x?}"));
}
