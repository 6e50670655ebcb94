//! The PHY behind MDIC (manual 13.4.7, chapter 11).

use crate::driver::Driver;
use crate::registers::{CTRL, MDIC, STATUS};

const WRITE: u32 = 1 << 26;
const READ: u32 = 2 << 26;
const INTERRUPT: u32 = 1 << 29;
const PHY: u32 = 1 << 21;

const STATUS_LU: u32 = 1 << 1;

fn access(driver: &mut Driver<'_>, operation: u32) {
    driver.set(MDIC, operation);
    driver.see(MDIC);
}

/// Every PHY register after power-on.
pub fn phy_values(driver: &mut Driver<'_>) {
    for register in 0..32 {
        driver.heading(format!("PHY register {register}"));
        access(driver, READ | PHY | register << 16);
    }
}

/// Which bits of every PHY register hold what is written, and which registers take no writes.
pub fn phy_writable_bits(driver: &mut Driver<'_>) {
    // Reset, autonegotiation, loopback and power-down have scripts of their own.
    const SAFE_CONTROL: u32 = 0x21bf;
    const ERROR: u32 = 1 << 30;
    for register in 0..32 {
        let may = if register == 0 { SAFE_CONTROL } else { 0xffff };
        let mut refused = false;
        let mut after = |pattern: u32| {
            driver.set(MDIC, WRITE | PHY | register << 16 | pattern & may);
            refused |= driver.get(MDIC) & ERROR != 0;
            driver.set(MDIC, READ | PHY | register << 16);
            driver.get(MDIC) & 0xffff
        };
        let (ones, mixed, zeros) = (after(0xffff), after(0x5a5a), after(0));
        let error = if refused { ", error" } else { "" };
        let saw = format!("{ones:04x}, {mixed:04x}, {zeros:04x}{error}");
        driver.note(format!("PHY register {register}"), saw);
    }
}

/// MDIC itself: other addresses, other operations, the interrupt.
pub fn phy_access(driver: &mut Driver<'_>) {
    for (what, operation) in [
        ("address 0", READ | 2 << 16),
        ("address 2", READ | 2 << 21 | 2 << 16),
        ("address 31", WRITE | 31 << 21 | 2 << 16),
        ("no operation", PHY | 2 << 16),
        ("both operations", READ | WRITE | PHY | 2 << 16),
        ("data with a read", READ | PHY | 2 << 16 | 0xabcd),
        ("ready bit written", READ | PHY | 2 << 16 | 1 << 28),
        ("interrupt after a read", READ | INTERRUPT | PHY | 2 << 16),
        ("interrupt after a write", WRITE | INTERRUPT | PHY | 2 << 16),
        ("interrupt after an error", READ | INTERRUPT | 2 << 16),
    ] {
        driver.heading(what);
        access(driver, operation);
        driver.see_causes();
    }
}

/// Autonegotiation and link: restarted, reset, powered down, without a cable.
pub fn phy_link(driver: &mut Driver<'_>) {
    const CONTROL: u32 = 0;
    let see = |driver: &mut Driver<'_>| {
        for register in [CONTROL, 1, 1, 5, 10, 17] {
            driver.set(MDIC, READ | PHY | register << 16);
            let value = driver.get(MDIC) as u16;
            driver.note(format!("PHY register {register}"), format!("{value:#06x}"));
        }
        let link = driver.get(STATUS) & STATUS_LU != 0;
        driver.note("STATUS.LU", link.to_string());
        driver.see_causes();
    };
    see(driver);
    for (what, control) in [
        ("autonegotiation restarted", 0x1340),
        ("reset", 0x9140),
        ("powered down", 0x1940),
        ("powered up", 0x1140),
        ("autonegotiation off", 0x0140),
        ("loopback", 0x4140),
        ("loopback off", 0x1140),
    ] {
        driver.heading(what);
        driver.set(MDIC, WRITE | PHY | CONTROL << 16 | control);
        see(driver);
    }
    for up in [false, true] {
        driver.heading(format!("link {up}"));
        driver.nic().set_link(up);
        see(driver);
    }
    driver.heading("CTRL.PHY_RST");
    driver.set(MDIC, WRITE | PHY | 4 << 16 | 0x01e1);
    driver.set(CTRL, 1 << 31 | 1 << 6);
    driver.set(CTRL, 1 << 6);
    driver.set(MDIC, READ | PHY | 4 << 16);
    driver.see(MDIC);
    see(driver);
}
