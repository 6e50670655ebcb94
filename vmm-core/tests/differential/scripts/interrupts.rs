//! Interrupt causes, masks and the line; link changes; moderation.

use crate::driver::Driver;
use crate::registers::*;

const STATUS_LU: u32 = 1 << 1;

const TXDW: u32 = 1 << 0;
const LSC: u32 = 1 << 2;
const RXO: u32 = 1 << 6;
const RXT0: u32 = 1 << 7;

/// Every cause by itself: set, masked, unmasked, read.
pub fn interrupt_causes(driver: &mut Driver<'_>) {
    const DEFINED: u32 = 17;
    let single = (0..DEFINED).map(|bit| (format!("cause {bit}"), 1 << bit));
    for (what, cause) in single.chain([("no cause".into(), !0 << DEFINED)]) {
        driver.heading(what);
        driver.set(ICS, cause);
        driver.see(ICS);
        driver.see_line();
        driver.set(IMS, cause);
        driver.see(IMS);
        driver.see(IMC);
        driver.see_line();
        driver.set(IMC, cause);
        driver.see(IMS);
        driver.see_line();
        driver.set(IMS, cause);
        driver.see_causes();
        driver.see_causes();
        driver.set(IMC, !0);
    }
}

/// ICR clears by reading and by writing ones; the line follows ICR and IMS.
pub fn interrupt_acknowledgement(driver: &mut Driver<'_>) {
    driver.heading("two causes, one unmasked");
    driver.set(IMS, LSC);
    driver.set(ICS, LSC | RXT0);
    driver.see_line();
    driver.heading("the unmasked one written to ICR");
    driver.set(ICR, LSC);
    driver.see(ICS);
    driver.see_line();
    driver.heading("the other one unmasked");
    driver.set(IMS, RXT0);
    driver.see_line();
    driver.heading("zero written to ICR");
    driver.set(ICR, 0);
    driver.see(ICS);
    driver.heading("IMC with zero");
    driver.set(IMC, 0);
    driver.see(IMS);
    driver.heading("ICR read while nothing is unmasked");
    driver.set(IMC, !0);
    driver.set(ICS, TXDW | RXO);
    driver.see_causes();
    driver.see(ICS);
    driver.heading("IMS all ones");
    driver.set(IMS, !0);
    driver.see(IMS);
    driver.heading("ICS all ones");
    driver.set(ICS, !0);
    driver.see_causes();
}

/// The cable pulled and put back.
pub fn link_change(driver: &mut Driver<'_>) {
    driver.set(IMS, LSC);
    for up in [false, true, true] {
        driver.heading(format!("link {up}"));
        driver.nic().set_link(up);
        let link = driver.get(STATUS) & STATUS_LU != 0;
        driver.note("STATUS.LU", link.to_string());
        driver.see_causes();
    }
}

/// With moderation on, interrupts come late but they come.
pub fn interrupt_moderation(driver: &mut Driver<'_>) {
    driver.set(IMS, LSC);
    for interval in [0, 400, 500, 1000, 0xffff] {
        driver.heading(format!("ITR {interval}"));
        driver.set(ITR, interval);
        driver.see(ITR);
        for _ in 0..4 {
            driver.set(ICS, LSC);
            driver.see_causes();
            driver.see_line();
        }
    }
}
