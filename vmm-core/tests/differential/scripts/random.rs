//! Accesses in no order at all.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::driver::Driver;
use crate::registers::*;

/// Thousands of reads and writes of registers in which no difference is known.
pub fn random_accesses(driver: &mut Driver<'_>) {
    let mut random = SmallRng::seed_from_u64(0x8254_0e10);
    let mut registers = vec![
        FCAL, FCAH, FCT, VET, RDBAL, RDBAH, RDLEN, RDH, RDT, TDBAL, TDBAH, TDLEN, TDH, TDT, TIPG,
        ICS, IMS, IMC, ICR, TXDCTL, RXDCTL,
    ];
    registers.extend([MTA, VFTA, RA].into_iter().flat_map(Array::iter).step_by(7));
    for step in 0..3000 {
        let register = *registers.choose(&mut random).expect("registers");
        driver.heading(format!("access {step}"));
        if random.random() {
            driver.set(register, random.random());
            driver.see_line();
        } else {
            driver.see(register);
        }
    }
}
