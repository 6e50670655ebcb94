//! The register file: what it holds after power-on and reset, which bits take a write, accesses of
//! all sizes and by both windows.

use crate::driver::Driver;
use crate::registers::*;

/// Bits of CTRL that start a reset.
const CTRL_RST: u32 = 1 << 26;
const CTRL_PHY_RST: u32 = 1 << 31;

/// The interesting ones of an array: all of a short one, the ends of a long one.
fn sample(array: &Array) -> impl Iterator<Item = Register> {
    let count = array.iter().count();
    array.iter().enumerate().filter(move |(i, _)| *i < 32 || *i + 2 > count).map(|(_, r)| r)
}

fn see_all(driver: &mut Driver<'_>) {
    for &register in [ACTIVE, PASSIVE, STATISTICS].into_iter().flatten() {
        driver.see(register);
    }
    ARRAYS.iter().flat_map(sample).for_each(|register| driver.see(register));
}

/// Every register as the power left it.
pub fn reset_values(driver: &mut Driver<'_>) {
    see_all(driver);
}

/// Which bits of every register hold what is written.
pub fn writable_bits(driver: &mut Driver<'_>) {
    let single = PASSIVE.iter().chain(STATISTICS).copied();
    // Nothing is enabled here, so that head and tail pointers are as passive as the rest.
    let pointers = [RDT, TDT];
    for register in single.chain(pointers).chain(ARRAYS.iter().flat_map(sample)) {
        see_writable_bits(driver, register, !0);
    }
    see_writable_bits(driver, CTRL, !(CTRL_RST | CTRL_PHY_RST));
    // Last: they enable both units, whose rings are empty.
    see_writable_bits(driver, RCTL, !0);
    see_writable_bits(driver, TCTL, !0);
}

fn see_writable_bits(driver: &mut Driver<'_>, register: Register, may: u32) {
    let mut after = |value: u32| {
        driver.set(register, value & may);
        driver.get(register)
    };
    let (ones, mixed, zeros) = (after(!0), after(0x5a5a_5a5a), after(0));
    driver.note(register, format!("{ones:08x}, {mixed:08x}, {zeros:08x}"));
}

/// Offsets at which nothing is.
pub fn unused_offsets(driver: &mut Driver<'_>) {
    for offset in [0x0004, 0x000c, 0x0044, 0x0204, 0x2a00, 0x4024, 0x4110, 0x6000, 0x8000, 0xa000] {
        let register = Register { name: "unused", offset, index: Some(offset) };
        driver.see(register);
        driver.set(register, !0);
        driver.see(register);
    }
}

/// CTRL.RST: what each register holds afterwards, and what a reset undoes.
pub fn device_reset(driver: &mut Driver<'_>) {
    for &register in PASSIVE {
        driver.set(register, 0x5a5a_5a5a);
    }
    for register in ARRAYS.iter().flat_map(sample) {
        driver.set(register, 0xa5a5_a5a5);
    }
    driver.set(IMS, !0);
    driver.set(ICS, 1 << 2 | 1 << 4);
    driver.see_line();
    driver.set(CTRL, CTRL_RST);
    driver.heading("after CTRL.RST");
    driver.see_line();
    see_all(driver);
}

/// Three neighbours that take all bits, and what they hold at first.
const NEIGHBOURS: [(u32, u32); 3] = [(4, 0x8765_4321), (5, 0xfedc_ba98), (6, 0x1357_9bdf)];

fn neighbours(driver: &mut Driver<'_>) -> Vec<u8> {
    NEIGHBOURS.iter().flat_map(|(index, _)| driver.get(MTA.at(*index)).to_le_bytes()).collect()
}

/// 1, 2, 4 and 8 bytes at every alignment, against whole registers.
pub fn access_sizes(driver: &mut Driver<'_>) {
    for size in [1, 2, 4, 8] {
        for skip in 0..4 {
            let base = MTA.at(4).offset + skip as u32;
            NEIGHBOURS.iter().for_each(|(index, value)| driver.set(MTA.at(*index), *value));
            let before = neighbours(driver);
            let mut data = vec![0; size];
            driver.nic().read(base, &mut data);
            let right = data == before[skip..skip + size];
            let saw = if right { "the registers' bytes".into() } else { format!("{data:02x?}") };
            driver.note(format!("{size} bytes read at {skip}"), saw);

            let data: Vec<u8> = (0..size as u8).map(|i| 0x71 + 0x11 * i).collect();
            driver.nic().write(base, &data);
            let mut expected = before;
            expected[skip..skip + size].copy_from_slice(&data);
            let after = neighbours(driver);
            let right = after == expected;
            let saw =
                if right { "these bytes and no other".into() } else { format!("{after:02x?}") };
            driver.note(format!("{size} bytes written at {skip}"), saw);
        }
    }
    driver.heading("a byte read from ICR");
    driver.set(ICS, 1 << 2 | 1 << 9);
    driver.nic().read(ICR.offset, &mut [0]);
    driver.see(ICS);
}

/// The I/O window: IOADDR selects, IODATA is the register.
pub fn io_window(driver: &mut Driver<'_>) {
    const IOADDR: u32 = 0;
    const IODATA: u32 = 4;
    driver.set(RA.at(2), 0x8765_4321);
    let see = |driver: &mut Driver<'_>, name: &str, port| {
        let value = driver.nic().io_read(port);
        driver.note(name, format!("{value:#010x}"));
    };
    driver.nic().io_write(IOADDR, RA.at(2).offset);
    see(driver, "IOADDR", IOADDR);
    see(driver, "IODATA", IODATA);
    driver.nic().io_write(IODATA, 0x1234_5678);
    driver.heading("after a write to IODATA");
    driver.see(RA.at(2));
    driver.nic().io_write(IOADDR, 0xffff_fff0);
    driver.heading("beyond the registers");
    see(driver, "IODATA", IODATA);
}
