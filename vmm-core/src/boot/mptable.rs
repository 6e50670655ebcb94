//! The MP table: which interrupt arrives at which input of the I/O APIC.
//!
//! Intel MultiProcessor Specification 1.4, chapter 4. It is the least that makes a kernel without
//! ACPI use the I/O APIC, and so level-triggered PCI interrupts.

use crate::platform::{MP_TABLE_ADDR, NIC_GSIS};

const LOCAL_APIC_ADDR: u32 = 0xfee0_0000;
const IO_APIC_ADDR: u32 = 0xfec0_0000;

/// Version 1.4.
const SPEC_REVISION: u8 = 4;
/// Versions of the APICs that KVM emulates.
const LOCAL_APIC_VERSION: u8 = 0x14;
const IO_APIC_VERSION: u8 = 0x11;

/// The only processor's local APIC.
const CPU_APIC_ID: u8 = 0;
const IO_APIC_ID: u8 = 1;
const PCI_BUS: u8 = 0;
const ISA_BUS: u8 = 1;

/// Entry types, and their lengths: 20 bytes for a processor, 8 for everything else.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

/// Kinds of interrupts.
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;

const POINTER_LEN: usize = 16;
const HEADER_LEN: usize = 44;

/// The floating pointer and, right behind it, the table, for address [`MP_TABLE_ADDR`].
///
/// Every ISA interrupt but the NICs' has the input of its number; that includes interrupt 0, as KVM's
/// default routing has it. NIC `i` is PCI device 1 + `i` with INTA#.
pub fn build(nics: usize) -> Vec<u8> {
    let mut entries = vec![processor().to_vec()];
    entries.push([&[BUS, PCI_BUS], &b"PCI   "[..]].concat());
    entries.push([&[BUS, ISA_BUS], &b"ISA   "[..]].concat());
    let enabled = 1;
    let io_apic = [IO_APIC, IO_APIC_ID, IO_APIC_VERSION, enabled];
    entries.push([io_apic, IO_APIC_ADDR.to_le_bytes()].concat());
    for irq in (0..16).filter(|irq| !NIC_GSIS.contains(&u32::from(*irq))) {
        entries.push(interrupt(IO_INTERRUPT, INT, ISA_BUS, irq, IO_APIC_ID, irq).to_vec());
    }
    for (device, gsi) in (1..).zip(NIC_GSIS.into_iter().cycle()).take(nics) {
        let inta = device << 2;
        let entry = interrupt(IO_INTERRUPT, INT, PCI_BUS, inta, IO_APIC_ID, gsi as u8);
        entries.push(entry.to_vec());
    }
    entries.push(interrupt(LOCAL_INTERRUPT, EXT_INT, ISA_BUS, 0, CPU_APIC_ID, 0).to_vec());
    entries.push(interrupt(LOCAL_INTERRUPT, NMI, ISA_BUS, 0, CPU_APIC_ID, 1).to_vec());

    let mut table = header(&entries);
    table.extend(entries.concat());
    table[7] = checksum(&table);
    [pointer().to_vec(), table].concat()
}

fn pointer() -> [u8; POINTER_LEN] {
    let mut pointer = [0; POINTER_LEN];
    pointer[..4].copy_from_slice(b"_MP_");
    pointer[4..8].copy_from_slice(&(MP_TABLE_ADDR as u32 + POINTER_LEN as u32).to_le_bytes());
    // Its length in units of 16 bytes.
    pointer[8] = 1;
    pointer[9] = SPEC_REVISION;
    pointer[10] = checksum(&pointer);
    pointer
}

fn header(entries: &[Vec<u8>]) -> Vec<u8> {
    let len = HEADER_LEN + entries.iter().map(Vec::len).sum::<usize>();
    let mut header = b"PCMP".to_vec();
    header.extend((len as u16).to_le_bytes());
    header.extend([SPEC_REVISION, 0]);
    header.extend(b"labctl  VMM         ");
    // No OEM table.
    header.extend([0; 6]);
    header.extend((entries.len() as u16).to_le_bytes());
    header.extend(LOCAL_APIC_ADDR.to_le_bytes());
    // No extended entries.
    header.extend([0; 4]);
    header
}

fn processor() -> [u8; 20] {
    let mut entry = [0; 20];
    let (enabled, bootstrap) = (1 << 0, 1 << 1);
    entry[..4].copy_from_slice(&[PROCESSOR, CPU_APIC_ID, LOCAL_APIC_VERSION, enabled | bootstrap]);
    // Feature flags: FPU and APIC. Software asks CPUID for the rest, and for the signature.
    entry[8..12].copy_from_slice(&(1u32 << 9 | 1).to_le_bytes());
    entry
}

/// An interrupt with the polarity and trigger mode of its bus: edges on ISA, levels on PCI.
fn interrupt(entry: u8, kind: u8, bus: u8, irq: u8, apic: u8, input: u8) -> [u8; 8] {
    [entry, kind, 0, 0, bus, irq, apic, input]
}

/// What makes the sum of all bytes 0, where the checksum itself is still 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{LOW_RAM_END, MAX_NICS};

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
    }

    /// The table's entries, split by their types' lengths.
    fn entries(table: &[u8]) -> Vec<&[u8]> {
        let mut rest = &table[HEADER_LEN..];
        let mut entries = Vec::new();
        while let Some(kind) = rest.first() {
            let (entry, after) = rest.split_at(if *kind == PROCESSOR { 20 } else { 8 });
            entries.push(entry);
            rest = after;
        }
        entries
    }

    #[test]
    fn pointer_and_table_add_up_wherever_they_are_looked_for() {
        for nics in 0..=MAX_NICS {
            let bytes = build(nics);
            let (pointer, table) = bytes.split_at(16);
            assert_eq!((&pointer[..4], &table[..4]), (&b"_MP_"[..], &b"PCMP"[..]));
            assert_eq!((sum(pointer), sum(table)), (0, 0), "{nics} NICs");
            assert_eq!(pointer[4..8], 0x9_fc10u32.to_le_bytes());
            assert_eq!(table[4..6], (table.len() as u16).to_le_bytes());
            assert_eq!(table[34..36], (entries(table).len() as u16).to_le_bytes());
            // In the last KiB of the 640 KiB, which is not RAM to the guest.
            assert_eq!(MP_TABLE_ADDR, LOW_RAM_END);
            assert!(MP_TABLE_ADDR + bytes.len() as u64 <= 640 << 10);
        }
    }

    #[test]
    fn every_interrupt_has_one_input() {
        let bytes = build(3);
        let entries = entries(&bytes[16..]);
        let interrupts: Vec<_> = entries.iter().filter(|entry| entry[0] == IO_INTERRUPT).collect();
        let of_bus = |bus: u8| {
            let entries = interrupts.iter().filter(move |entry| entry[4] == bus);
            entries.map(|entry| (entry[5], entry[7])).collect::<Vec<_>>()
        };
        assert_eq!(of_bus(PCI_BUS), [(1 << 2, 10), (2 << 2, 11), (3 << 2, 10)]);
        let isa = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15].map(|irq| (irq, irq));
        assert_eq!(of_bus(ISA_BUS), isa, "the NICs' inputs are not ISA's, too");
        assert!(interrupts.iter().all(|entry| entry[6] == IO_APIC_ID && entry[1..4] == [0; 3]));
    }

    #[test]
    fn processor_and_apics_are_where_kvm_has_them() {
        let bytes = build(0);
        assert_eq!(bytes[16 + 36..16 + 40], LOCAL_APIC_ADDR.to_le_bytes());
        let entries = entries(&bytes[16..]);
        assert_eq!(entries[0][..4], [0, 0, 0x14, 3], "enabled, the bootstrap processor");
        assert_eq!(entries[1][1..], *b"\0PCI   ");
        assert_eq!(entries[2][1..], *b"\x01ISA   ");
        assert_eq!(entries[3][..4], [2, 1, 0x11, 1]);
        assert_eq!(entries[3][4..], IO_APIC_ADDR.to_le_bytes());
        let [.., lint0, lint1] = entries.as_slice() else { panic!("no local interrupts") };
        assert_eq!((lint0[..2].to_vec(), lint0[6..].to_vec()), (vec![4, 3], vec![0, 0]));
        assert_eq!((lint1[..2].to_vec(), lint1[6..].to_vec()), (vec![4, 1], vec![0, 1]));
    }
}
