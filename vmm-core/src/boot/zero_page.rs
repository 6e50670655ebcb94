//! Linux's 64-bit boot protocol: what the kernel finds at RSI, and the tables it starts with.
//!
//! Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol", and zero-page.rst.

use std::ops::Range;

use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::{BootError, Entry, bzimage, entry};
use crate::platform::{CMDLINE_ADDR, ZERO_PAGE_ADDR};

/// `type_of_loader`: none that has a number.
const LOADER_UNDEFINED: u8 = 0xff;
/// `boot_flag`.
const BOOT_FLAG: u16 = 0xaa55;
/// `boot_e820_entry.type`: ordinary RAM.
const E820_RAM: u32 = 1;

/// The setup header for a kernel that brings none: the zero page must have the magic numbers.
pub fn header_for_elf() -> setup_header {
    setup_header { boot_flag: BOOT_FLAG, header: bzimage::HEADER_MAGIC, ..Default::default() }
}

/// Writes the zero page, page tables and descriptors.
pub fn write(
    memory: &GuestMemoryMmap,
    address: u64,
    header: setup_header,
    map: &[Range<u64>],
    initrd: Range<u64>,
    cmdline_len: usize,
) -> Result<Entry, BootError> {
    let mut params = boot_params {
        // RAM ends below 4 GiB, so all addresses fit.
        hdr: setup_header {
            type_of_loader: LOADER_UNDEFINED,
            cmd_line_ptr: CMDLINE_ADDR as u32,
            cmdline_size: cmdline_len as u32,
            ramdisk_image: if initrd.is_empty() { 0 } else { initrd.start as u32 },
            ramdisk_size: (initrd.end - initrd.start) as u32,
            ..header
        },
        e820_entries: map.len() as u8,
        ..Default::default()
    };
    for (entry, range) in params.e820_table.iter_mut().zip(map) {
        let size = range.end - range.start;
        *entry = boot_e820_entry { addr: range.start, size, r#type: E820_RAM };
    }
    let page = BootParams::new(&params, GuestAddress(ZERO_PAGE_ADDR));
    LinuxBootConfigurator::write_bootparams(&page, memory).map_err(BootError::boot_data)?;
    entry::write_long_mode_tables(memory)?;
    Ok(Entry::Linux64 { address, zero_page: ZERO_PAGE_ADDR })
}
