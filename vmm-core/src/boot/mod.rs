//! Loading a kernel and entering it by the PVH boot protocol.
//!
//! PVH needs no firmware: the kernel's ELF note names a 32-bit entry point, which starts in
//! protected mode without paging, with EBX at an `hvm_start_info`
//! (Xen, docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h).

mod elf;

use std::io::Cursor;
use std::ops::Range;

use kvm_bindings::{kvm_segment, kvm_sregs};
use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_start_info};
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use linux_loader::loader::{self, KernelLoader};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::memory::GuestRam;
use crate::platform::{
    CMDLINE_ADDR, CMDLINE_MAX, HIGH_RAM_START, LOW_RAM_END, MEMORY_MAP_ADDR, START_INFO_ADDR,
};

/// `hvm_start_info.magic`.
const START_INFO_MAGIC: u32 = 0x336e_c578;
/// Version 1 has a memory map, and Linux insists on one.
const START_INFO_VERSION: u32 = 1;
/// `hvm_memmap_table_entry.type`: ordinary RAM.
const MEMORY_RAM: u32 = 1;

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;

/// Why a kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The image is not an ELF file.
    #[error("the kernel is not a 64-bit x86 ELF file")]
    NotElf,
    /// The image ends before its headers say so, or they contradict each other.
    #[error("the kernel's ELF headers are broken or the file is cut short")]
    Broken {
        /// The loader's words.
        #[source]
        source: loader::Error,
    },
    /// There is no PVH entry point.
    #[error("the kernel has no PVH entry point (ELF note 18 of \"Xen\")")]
    NoPvhNote,
    /// A part of the kernel lies outside RAM or over the boot data.
    #[error(
        "the kernel occupies {start:#x} to {end:#x}, but there is RAM from {ram_start:#x} to {ram_end:#x}"
    )]
    DoesNotFit {
        /// First address of the kernel.
        start: u64,
        /// First address after the kernel.
        end: u64,
        /// First address it may use.
        ram_start: u64,
        /// First address after RAM.
        ram_end: u64,
    },
    /// The command line is too long.
    #[error("the kernel's command line has {len} bytes, at most {CMDLINE_MAX} are possible")]
    CmdlineTooLong {
        /// Its length.
        len: usize,
    },
    /// The command line contains a NUL, which would end it early.
    #[error("the kernel's command line contains a NUL byte")]
    CmdlineNul,
    /// The boot data could not be written to guest memory.
    #[error("cannot write the boot data")]
    BootData(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How a loaded kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Physical address of the first instruction.
    pub address: u64,
    /// Physical address of the `hvm_start_info`.
    pub start_info: u64,
}

/// Loads the ELF `kernel` into `ram` together with `cmdline` and a memory map.
pub fn load(ram: &GuestRam, kernel: &[u8], cmdline: &str) -> Result<Entry, BootError> {
    if cmdline.len() > CMDLINE_MAX {
        return Err(BootError::CmdlineTooLong { len: cmdline.len() });
    }
    if cmdline.contains('\0') {
        return Err(BootError::CmdlineNul);
    }
    let memory = ram.as_guest_memory();
    let address = load_kernel(&memory, ram.len(), kernel)?;
    write_boot_data(&memory, ram.len(), cmdline)?;
    Ok(Entry { address, start_info: START_INFO_ADDR })
}

fn load_kernel(memory: &GuestMemoryMmap, ram_end: u64, kernel: &[u8]) -> Result<u64, BootError> {
    let Range { start, end } = elf::extent(kernel).ok_or(BootError::NotElf)?;
    if start < HIGH_RAM_START || end > ram_end {
        return Err(BootError::DoesNotFit { start, end, ram_start: HIGH_RAM_START, ram_end });
    }
    let loaded = Elf::load(memory, None, &mut Cursor::new(kernel), None)
        .map_err(|source| BootError::Broken { source })?;
    match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(address) => Ok(address.0),
        _ => Err(BootError::NoPvhNote),
    }
}

/// Writes command line, memory map and start info. A loaded kernel proves that there is RAM beyond
/// 1 MiB, so all of it fits.
fn write_boot_data(memory: &GuestMemoryMmap, ram_end: u64, cmdline: &str) -> Result<(), BootError> {
    let ram = |addr, end| hvm_memmap_table_entry {
        addr,
        size: end - addr,
        type_: MEMORY_RAM,
        ..Default::default()
    };
    let map = [ram(0, LOW_RAM_END), ram(HIGH_RAM_START, ram_end)];
    let start_info = hvm_start_info {
        magic: START_INFO_MAGIC,
        version: START_INFO_VERSION,
        cmdline_paddr: CMDLINE_ADDR,
        memmap_paddr: MEMORY_MAP_ADDR,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    let mut params = BootParams::new(&start_info, GuestAddress(START_INFO_ADDR));
    params.set_sections(&map, GuestAddress(MEMORY_MAP_ADDR));
    PvhBootConfigurator::write_bootparams(&params, memory)
        .map_err(|error| BootError::BootData(error.into()))?;

    let nul_terminated = [cmdline.as_bytes(), &[0]].concat();
    memory
        .write_slice(&nul_terminated, GuestAddress(CMDLINE_ADDR))
        .map_err(|error| BootError::BootData(error.into()))
}

/// Makes `sregs` what PVH demands: 32-bit protected mode, no paging, flat segments, a task register.
pub fn set_pvh_state(sregs: &mut kvm_sregs) {
    let code = flat_segment(0x8, 0xb);
    let data = flat_segment(0x10, 0x3);
    sregs.cs = code;
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *segment = data;
    }
    // A busy 32-bit TSS: a system descriptor with byte granularity.
    sregs.tr = kvm_segment { limit: 0x67, s: 0, g: 0, db: 0, ..flat_segment(0x18, 0xb) };
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    sregs.efer = 0;
}

/// A segment of 4 GiB from address 0; the selector's descriptor need not exist, as the guest loads
/// a table of its own before it reloads any.
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

#[cfg(test)]
pub(crate) mod tests;
