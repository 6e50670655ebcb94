//! The scripts, by subject.

pub mod eeprom;
pub mod interrupts;
pub mod offload;
pub mod phy;
pub mod random;
pub mod receive;
pub mod registers;
pub mod transmit;
