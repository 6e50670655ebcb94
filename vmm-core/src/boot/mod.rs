//! Loading a kernel and what it is told when it starts. There is no firmware.
//!
//! Two boot protocols, chosen by the image: an ELF file with a PVH note is entered by [PVH][pvh],
//! every other ELF file and a bzImage by [Linux's 64-bit protocol][linux]. Both get the same command
//! line, initrd, memory map and MP table; `platform.rs` says where everything lies.
//!
//! [pvh]: https://xenbits.xen.org/docs/unstable/misc/pvh.html
//! [linux]: https://docs.kernel.org/arch/x86/boot.html

mod bzimage;
mod elf;
mod entry;
mod format;
mod mptable;
mod pvh;
mod zero_page;

use std::borrow::Cow;
use std::ops::Range;

use linux_loader::loader;
use linux_loader::loader::bootparam::setup_header;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub use entry::Entry;
pub use format::{Format, format};

use crate::memory::GuestRam;
use crate::platform::{CMDLINE_ADDR, CMDLINE_MAX, HIGH_RAM_START, LOW_RAM_END, MP_TABLE_ADDR};

/// What a guest boots.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// An ELF file (vmlinux, or anything with a PVH entry point) or a bzImage.
    pub image: Cow<'static, [u8]>,
    /// A RAM disk for the kernel; empty for none.
    pub initrd: Cow<'static, [u8]>,
    /// The command line, at most [`CMDLINE_MAX`] bytes.
    pub cmdline: String,
}

/// Why a kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The image is of no known format.
    #[error("the kernel is neither a 64-bit x86 ELF file nor a bzImage")]
    UnknownFormat,
    /// The image ends before its headers say so, or they contradict each other.
    #[error("the kernel's ELF headers are broken or the file is cut short")]
    BrokenElf {
        /// The loader's words.
        #[source]
        source: loader::Error,
    },
    /// The bzImage ends before its header says so.
    #[error("the kernel is a bzImage of {len} bytes, but its header announces {expected}")]
    BzImageCutShort {
        /// Its length.
        len: usize,
        /// How long it should be.
        expected: u64,
    },
    /// The bzImage has no 64-bit entry point.
    #[error(
        "the kernel is a bzImage without a 64-bit entry point (boot protocol {}.{:02})",
        .version >> 8,
        .version & 0xff
    )]
    NotBootableIn64Bit {
        /// Version of its boot protocol; 2.12 has the entry point.
        version: u16,
    },
    /// The entry point is no part of the kernel.
    #[error("the kernel's entry point {address:#x} lies outside of it")]
    EntryOutside {
        /// The entry point.
        address: u64,
    },
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
    /// The initrd does not fit above the kernel.
    #[error(
        "the initrd has {len} bytes, but above the kernel only {room} are left: give the guest more memory"
    )]
    InitrdDoesNotFit {
        /// Its length.
        len: usize,
        /// Bytes between the kernel and the highest address that an initrd may have.
        room: u64,
    },
    /// The command line is too long.
    #[error("the kernel's command line has {len} bytes, at most {max} are possible")]
    CmdlineTooLong {
        /// Its length.
        len: usize,
        /// What the kernel takes.
        max: usize,
    },
    /// The command line contains a NUL, which would end it early.
    #[error("the kernel's command line contains a NUL byte")]
    CmdlineNul,
    /// The boot data could not be written to guest memory.
    #[error("cannot write the boot data")]
    BootData(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BootError {
    fn boot_data(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::BootData(error.into())
    }
}

/// A kernel in guest memory.
struct Loaded {
    start: Start,
    /// First address that the kernel does not need to unpack and start itself.
    end: u64,
    /// First address that must not hold a part of the initrd.
    initrd_limit: u64,
    /// Longest command line that the kernel takes.
    cmdline_max: usize,
}

/// Where a loaded kernel begins, and by which protocol.
enum Start {
    Pvh(u64),
    Linux64(u64, Box<setup_header>),
}

/// Loads `kernel` into `ram` with everything it is told, for a machine with `nics` NICs.
///
/// # Errors
/// What is wrong with the image, the initrd or the command line; guest memory is garbage then.
pub fn load(ram: &GuestRam, kernel: &Kernel, nics: usize) -> Result<Entry, BootError> {
    let memory = ram.as_guest_memory();
    let loaded = if kernel.image.starts_with(&elf::MAGIC) {
        elf::load(&memory, ram.len(), &kernel.image)?
    } else {
        bzimage::load(&memory, ram.len(), &kernel.image)?
    };
    let initrd = load_initrd(&memory, ram.len(), &loaded, &kernel.initrd)?;
    write_cmdline(&memory, &kernel.cmdline, loaded.cmdline_max)?;
    // A loaded kernel proves that there is RAM beyond 1 MiB, so all of the boot data fits.
    write(&memory, &mptable::build(nics), MP_TABLE_ADDR)?;
    let map = memory_map(ram.len());
    match loaded.start {
        Start::Pvh(address) => pvh::write_start_info(&memory, address, &map, initrd),
        Start::Linux64(address, header) => {
            zero_page::write(&memory, address, *header, &map, initrd, kernel.cmdline.len())
        }
    }
}

/// Where RAM is; what lies between is the EBDA with the MP table, and legacy video and ROMs.
fn memory_map(ram_end: u64) -> [Range<u64>; 2] {
    [0..LOW_RAM_END, HIGH_RAM_START..ram_end]
}

/// Refuses a kernel that would lie outside RAM or over the boot data.
fn check_fits(kernel: &Range<u64>, ram_end: u64) -> Result<(), BootError> {
    let &Range { start, end } = kernel;
    if start < HIGH_RAM_START || end > ram_end {
        return Err(BootError::DoesNotFit { start, end, ram_start: HIGH_RAM_START, ram_end });
    }
    Ok(())
}

/// Puts the initrd as high as it may lie, out of the way of a kernel that unpacks or moves itself.
fn load_initrd(
    memory: &GuestMemoryMmap,
    ram_end: u64,
    kernel: &Loaded,
    initrd: &[u8],
) -> Result<Range<u64>, BootError> {
    const PAGE: u64 = 4096;
    let top = ram_end.min(kernel.initrd_limit);
    let start = top.checked_sub(initrd.len() as u64).map(|start| start & !(PAGE - 1));
    let Some(start) = start.filter(|start| *start >= kernel.end) else {
        let room = top.saturating_sub(kernel.end);
        return Err(BootError::InitrdDoesNotFit { len: initrd.len(), room });
    };
    write(memory, initrd, start)?;
    Ok(start..start + initrd.len() as u64)
}

fn write_cmdline(memory: &GuestMemoryMmap, cmdline: &str, max: usize) -> Result<(), BootError> {
    if cmdline.len() > max {
        return Err(BootError::CmdlineTooLong { len: cmdline.len(), max });
    }
    if cmdline.contains('\0') {
        return Err(BootError::CmdlineNul);
    }
    write(memory, &[cmdline.as_bytes(), &[0]].concat(), CMDLINE_ADDR)
}

fn write(memory: &GuestMemoryMmap, bytes: &[u8], address: u64) -> Result<(), BootError> {
    memory.write_slice(bytes, GuestAddress(address)).map_err(BootError::boot_data)
}

#[cfg(test)]
pub(crate) mod tests;
