//! Our 82540EM against QEMU's, access by access.
//!
//! Every script is run on both devices and notes what a driver could see: registers, descriptors,
//! memory, frames on the cable, the interrupt line. Whatever differs is a fault of ours, or stands
//! in [`differences::DIFFERENCES`] with the section of Intel's manual ("PCI/PCI-X Family of Gigabit
//! Ethernet Controllers Software Developer's Manual", 8254x) that makes us right. A difference that
//! is not in the table fails the test, and so does one that is but no longer occurs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod differences;
mod driver;
mod frames;
mod nic;
mod ours;
mod qemu;
mod registers;
mod scripts;
mod transcript;

use differences::DIFFERENCES;
use driver::Driver;
use ours::Ours;
use qemu::Qemu;
use transcript::{mismatches, report};

/// Runs a script on both devices and holds their differences against the table.
fn compare(name: &str, moderation: bool, script: fn(&mut Driver<'_>)) {
    let ours = Driver::run(&mut Ours::new(moderation), script);
    let qemu = Driver::run(&mut Qemu::new(moderation), script);
    let found = mismatches(&ours, &qemu);
    let known: Vec<_> = DIFFERENCES.iter().filter(|entry| entry.scripts.contains(&name)).collect();

    let unexplained: Vec<_> =
        found.iter().filter(|found| !known.iter().any(|entry| entry.explains(found))).collect();
    let gone: Vec<_> =
        known.iter().filter(|entry| !found.iter().any(|found| entry.explains(found))).collect();
    assert!(
        unexplained.is_empty() && gone.is_empty(),
        "{name}: {} of {} steps differ without a reason from {}{}\n{}{}",
        unexplained.len(),
        ours.len(),
        qemu::version(),
        qemu::unlike_the_table(),
        report(&unexplained),
        gone.iter().map(|entry| format!("no longer occurs: {entry:#?}\n")).collect::<String>(),
    );
}

/// Makes a test of every script; with `moderated`, interrupt moderation is on in both devices.
macro_rules! tests {
    ($($module:ident :: $script:ident $($moderated:ident)?),* $(,)?) => {
        $(
            #[test]
            fn $script() {
                let moderated = [$(stringify!($moderated))?].contains(&"moderated");
                compare(stringify!($script), moderated, scripts::$module::$script);
            }
        )*

        #[test]
        fn every_difference_names_its_scripts_and_its_reason() {
            let scripts = [$(stringify!($script)),*];
            for entry in DIFFERENCES {
                assert!(entry.scripts.iter().all(|name| scripts.contains(name)), "{entry:?}");
                assert!(!entry.scripts.is_empty() && !entry.because.is_empty(), "{entry:?}");
            }
        }
    };
}

tests! {
    registers::reset_values moderated,
    registers::writable_bits moderated,
    registers::unused_offsets,
    registers::device_reset moderated,
    registers::access_sizes,
    registers::io_window,
    interrupts::interrupt_causes,
    interrupts::interrupt_acknowledgement,
    interrupts::link_change,
    interrupts::interrupt_moderation moderated,
    eeprom::eeprom_by_register,
    eeprom::eeprom_by_wire,
    phy::phy_values,
    phy::phy_writable_bits,
    phy::phy_access,
    phy::phy_link,
    transmit::transmit_legacy,
    transmit::transmit_short,
    transmit::transmit_destinations,
    transmit::transmit_chains,
    transmit::transmit_null,
    transmit::transmit_gates,
    transmit::transmit_legacy_checksum,
    transmit::transmit_vlan,
    transmit::transmit_thresholds,
    offload::checksum_offload,
    offload::checksum_context,
    offload::segmentation,
    offload::segmentation_pieces,
    receive::receive_sizes,
    receive::receive_crc,
    receive::receive_buffer_sizes,
    receive::receive_long,
    receive::receive_addresses,
    receive::receive_multicast,
    receive::receive_vlan,
    receive::receive_checksums,
    receive::receive_threshold,
    receive::receive_overrun,
    receive::receive_null,
    receive::receive_gates,
    receive::receive_without_bus_mastering,
    receive::loopback,
    random::random_accesses,
    random::random_transmissions,
    random::random_receptions,
}
