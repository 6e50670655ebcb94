//! What an ELF image will occupy, known before a byte of it is copied.

use std::ops::Range;

const HEADER_LEN: usize = 64;
const PROGRAM_HEADER_LEN: usize = 56;
/// Magic, 64-bit, little endian.
const IDENT: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;

/// The physical addresses from the first to the last loadable segment, zeroed parts included.
///
/// `None` if `image` is not a 64-bit x86 ELF file with a loadable segment, is cut short within its
/// headers, or has addresses that overflow.
pub fn extent(image: &[u8]) -> Option<Range<u64>> {
    let header = image.get(..HEADER_LEN)?;
    if !header.starts_with(&IDENT) || u16_at(header, 18)? != MACHINE_X86_64 {
        return None;
    }
    let offset = usize::try_from(u64_at(header, 32)?).ok()?;
    let count = usize::from(u16_at(header, 56)?);
    let table = image.get(offset..)?.get(..count * PROGRAM_HEADER_LEN)?;
    let mut extent: Option<Range<u64>> = None;
    for entry in table.chunks_exact(PROGRAM_HEADER_LEN) {
        let (start, size) = (u64_at(entry, 24)?, u64_at(entry, 40)?);
        if u32_at(entry, 0)? != PT_LOAD || size == 0 {
            continue;
        }
        let end = start.checked_add(size)?;
        extent = Some(extent.map_or(start..end, |e| e.start.min(start)..e.end.max(end)));
    }
    extent
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
