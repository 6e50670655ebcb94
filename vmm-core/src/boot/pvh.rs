//! The PVH boot protocol: what the kernel finds at EBX.
//!
//! Xen, docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h.

use std::ops::Range;

use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::{BootError, Entry};
use crate::platform::{CMDLINE_ADDR, MEMORY_MAP_ADDR, MODULES_ADDR, START_INFO_ADDR};

/// `hvm_start_info.magic`.
const MAGIC: u32 = 0x336e_c578;
/// Version 1 has a memory map, and Linux insists on one.
const VERSION: u32 = 1;
/// `hvm_memmap_table_entry.type`: ordinary RAM.
const MEMORY_RAM: u32 = 1;

/// Writes start info, memory map and, unless `initrd` is empty, a list with that one module.
pub fn write_start_info(
    memory: &GuestMemoryMmap,
    entry: u64,
    map: &[Range<u64>],
    initrd: Range<u64>,
) -> Result<Entry, BootError> {
    let ram = |range: &Range<u64>| hvm_memmap_table_entry {
        addr: range.start,
        size: range.end - range.start,
        type_: MEMORY_RAM,
        ..Default::default()
    };
    let map: Vec<_> = map.iter().map(ram).collect();
    let mut start_info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        cmdline_paddr: CMDLINE_ADDR,
        memmap_paddr: MEMORY_MAP_ADDR,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    if !initrd.is_empty() {
        start_info.nr_modules = 1;
        start_info.modlist_paddr = MODULES_ADDR;
    }
    let mut params = BootParams::new(&start_info, GuestAddress(START_INFO_ADDR));
    params.set_sections(&map, GuestAddress(MEMORY_MAP_ADDR));
    if !initrd.is_empty() {
        let size = initrd.end - initrd.start;
        let module = hvm_modlist_entry { paddr: initrd.start, size, ..Default::default() };
        params.set_modules(&[module], GuestAddress(MODULES_ADDR));
    }
    PvhBootConfigurator::write_bootparams(&params, memory).map_err(BootError::boot_data)?;
    Ok(Entry::Pvh { address: entry, start_info: START_INFO_ADDR })
}
