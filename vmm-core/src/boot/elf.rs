//! ELF kernels: pktguest and vmlinux.

use std::io::Cursor;
use std::ops::Range;

use linux_loader::loader::elf::{Elf, PvhBootCapability};
use linux_loader::loader::{self, KernelLoader};
use vm_memory::GuestMemoryMmap;

use super::{BootError, CMDLINE_MAX, Loaded, Start, check_fits, zero_page};

/// How an ELF file begins.
pub const MAGIC: [u8; 4] = *b"\x7fELF";
const HEADER_LEN: usize = 64;
const PROGRAM_HEADER_LEN: usize = 56;
/// Magic, 64-bit, little endian.
const IDENT: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// The owner and the type of the note with the entry point (Xen, public/elfnote.h).
const PVH_NOTE: (&[u8], u32) = (b"Xen\0", 18);

/// Copies an ELF kernel to where its headers say, if that is RAM.
pub fn load(memory: &GuestMemoryMmap, ram_end: u64, image: &[u8]) -> Result<Loaded, BootError> {
    let extent = extent(image)?;
    check_fits(&extent, ram_end)?;
    let loaded = Elf::load(memory, None, &mut Cursor::new(image), None).map_err(broken)?;
    let (address, start) = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(address) => (address.0, Start::Pvh(address.0)),
        _ => {
            let address = loaded.kernel_load.0;
            (address, Start::Linux64(address, Box::new(zero_page::header_for_elf())))
        }
    };
    if !extent.contains(&address) {
        return Err(BootError::EntryOutside { address });
    }
    // Only bzImages name limits of their own.
    Ok(Loaded { start, end: extent.end, initrd_limit: u64::MAX, cmdline_max: CMDLINE_MAX })
}

fn broken(source: loader::Error) -> BootError {
    BootError::BrokenElf { source }
}

/// The physical addresses from the first to the last loadable segment, zeroed parts included, known
/// before a byte of them is copied.
fn extent(image: &[u8]) -> Result<Range<u64>, BootError> {
    let cut_short = || broken(loader::Error::Elf(loader::elf::Error::ReadElfHeader));
    let header = image.get(..HEADER_LEN).ok_or_else(cut_short)?;
    if !header.starts_with(&IDENT) || u16_at(header, 18) != Some(MACHINE_X86_64) {
        return Err(BootError::UnknownFormat);
    }
    segments(image, header)
        .ok_or_else(|| broken(loader::Error::Elf(loader::elf::Error::ReadProgramHeader)))
}

/// `None` if the headers are cut short, have addresses that overflow, or no loadable segment.
fn segments(image: &[u8], header: &[u8]) -> Option<Range<u64>> {
    let offset = usize::try_from(u64_at(header, 32)?).ok()?;
    let count = usize::from(u16_at(header, 56)?);
    let table = image.get(offset..)?.get(..count * PROGRAM_HEADER_LEN)?;
    let mut extent: Option<Range<u64>> = None;
    for entry in table.chunks_exact(PROGRAM_HEADER_LEN) {
        let (start, in_file, size) = (u64_at(entry, 24)?, u64_at(entry, 32)?, u64_at(entry, 40)?);
        if u32_at(entry, 0)? != PT_LOAD || size.max(in_file) == 0 {
            continue;
        }
        let end = start.checked_add(size.max(in_file))?;
        extent = Some(extent.map_or(start..end, |e| e.start.min(start)..e.end.max(end)));
    }
    extent
}

/// Where the program headers of an ELF file for x86-64 are that begins like this.
pub fn headers(start: &[u8]) -> Option<Range<u64>> {
    if !start.starts_with(&IDENT) || u16_at(start, 18) != Some(MACHINE_X86_64) {
        return None;
    }
    let (offset, count) = (u64_at(start, 32)?, u64::from(u16_at(start, 56)?));
    Some(offset..offset.checked_add(count * PROGRAM_HEADER_LEN as u64)?)
}

/// Where the notes are by a table of program headers: offsets and lengths.
pub fn notes(table: &[u8]) -> Vec<(u64, u64)> {
    let entries = table.chunks_exact(PROGRAM_HEADER_LEN);
    let notes = entries.filter(|entry| u32_at(entry, 0) == Some(PT_NOTE));
    notes.filter_map(|entry| Some((u64_at(entry, 8)?, u64_at(entry, 32)?))).collect()
}

/// Whether one of these notes says where PVH enters.
pub fn has_pvh_note(mut notes: &[u8]) -> bool {
    // Name and description are padded to 4 bytes each.
    let padded = |len: u32| (len as usize).next_multiple_of(4);
    while let (Some(name_len), Some(len), Some(kind)) =
        (u32_at(notes, 0), u32_at(notes, 4), u32_at(notes, 8))
    {
        let rest = &notes[12..];
        if rest.get(..name_len as usize).is_some_and(|name| (name, kind) == PVH_NOTE) {
            return true;
        }
        let Some(next) = rest.get(padded(name_len) + padded(len)..) else { return false };
        notes = next;
    }
    false
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}
