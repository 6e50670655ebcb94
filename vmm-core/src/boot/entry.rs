//! The processor's state at a kernel's first instruction.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::GuestMemoryMmap;

use super::{BootError, write};
use crate::platform::{GDT_ADDR, PAGE_TABLES_ADDR};

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// RFLAGS: the bit that is always set. Interrupts are off.
const RFLAGS: u64 = 1 << 1;

/// `__BOOT_CS` and `__BOOT_DS`, which Linux expects in the GDT.
const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;
/// Null twice, then flat 64-bit code and flat data at the selectors above.
const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

const TABLE: u64 = 4096;
/// A page table entry: present and writable.
const PRESENT: u64 = 0b11;
/// A page directory entry that is a page of 2 MiB.
const LARGE: u64 = 1 << 7;

/// How a loaded kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// By PVH: in 32-bit protected mode without paging.
    Pvh {
        /// Physical address of the first instruction.
        address: u64,
        /// Physical address of the `hvm_start_info`.
        start_info: u64,
    },
    /// By Linux's 64-bit protocol: in long mode, the first 4 GiB mapped to themselves.
    Linux64 {
        /// Physical address of the first instruction.
        address: u64,
        /// Physical address of the `boot_params`.
        zero_page: u64,
    },
}

impl Entry {
    /// Changes `sregs` to what the protocol demands and returns the other registers.
    pub fn set_state(self, sregs: &mut kvm_sregs) -> kvm_regs {
        match self {
            Entry::Pvh { address, start_info } => {
                let code = flat_segment(0x8, 0xb);
                set_segments(sregs, code, flat_segment(0x10, 0x3), 0x18);
                sregs.cr0 = CR0_PE | CR0_ET;
                sregs.cr4 = 0;
                sregs.efer = 0;
                kvm_regs { rip: address, rbx: start_info, rflags: RFLAGS, ..Default::default() }
            }
            Entry::Linux64 { address, zero_page } => {
                let code = kvm_segment { db: 0, l: 1, ..flat_segment(BOOT_CS, 0xb) };
                set_segments(sregs, code, flat_segment(BOOT_DS, 0x3), 0x20);
                sregs.gdt.base = GDT_ADDR;
                sregs.gdt.limit = size_of_val(&GDT) as u16 - 1;
                sregs.idt.limit = 0;
                sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
                sregs.cr3 = PAGE_TABLES_ADDR;
                sregs.cr4 = CR4_PAE;
                sregs.efer = EFER_LME | EFER_LMA;
                kvm_regs { rip: address, rsi: zero_page, rflags: RFLAGS, ..Default::default() }
            }
        }
    }
}

fn set_segments(sregs: &mut kvm_sregs, code: kvm_segment, data: kvm_segment, tss: u16) {
    sregs.cs = code;
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *segment = data;
    }
    // A busy TSS, without which VMX does not start: a system descriptor with byte granularity.
    sregs.tr = kvm_segment { limit: 0x67, s: 0, g: 0, db: 0, ..flat_segment(tss, 0xb) };
}

/// A segment of 4 GiB from address 0; for PVH the selector's descriptor need not exist, as the guest
/// loads a table of its own before it reloads any.
fn flat_segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        l: 0,
        g: 1,
        ..Default::default()
    }
}

/// Writes the GDT, and page tables that map the first 4 GiB to themselves in pages of 2 MiB, which
/// every processor with long mode has.
pub fn write_long_mode_tables(memory: &GuestMemoryMmap) -> Result<(), BootError> {
    write(memory, &bytes(GDT), GDT_ADDR)?;
    let top = PAGE_TABLES_ADDR;
    let pointers = top + TABLE;
    let directories = pointers + TABLE;
    write(memory, &bytes([pointers | PRESENT]), top)?;
    write(memory, &bytes((0..4).map(|gib| (directories + gib * TABLE) | PRESENT)), pointers)?;
    write(memory, &bytes((0..4 * 512).map(|page| (page << 21) | LARGE | PRESENT)), directories)
}

fn bytes(entries: impl IntoIterator<Item = u64>) -> Vec<u8> {
    entries.into_iter().flat_map(u64::to_le_bytes).collect()
}
