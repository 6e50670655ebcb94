//! What a kernel's file is, by its first bytes and headers alone.

use std::io::{self, Read, Seek, SeekFrom};

use super::{bzimage, elf};

/// Notes of a kernel are a few hundred bytes; what is longer is not looked into.
const MAX_NOTES: u64 = 1 << 20;

/// What a kernel's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An ELF file for x86-64 that says where PVH enters it.
    PvhElf,
    /// Any other ELF file for x86-64.
    Elf,
    /// A bzImage.
    BzImage,
    /// None of these.
    Unknown,
}

/// Looks at a kernel's file without reading all of it. A good format is no proof that it boots.
///
/// # Errors
/// If the file cannot be read.
pub fn format(file: &mut (impl Read + Seek)) -> io::Result<Format> {
    let start = read(file, 0, bzimage::HEADER_END as u64)?;
    Ok(match elf::headers(&start) {
        Some(at) => {
            let table = read(file, at.start, at.end - at.start)?;
            let mut pvh = false;
            for (at, len) in elf::notes(&table) {
                pvh |= elf::has_pvh_note(&read(file, at, len.min(MAX_NOTES))?);
            }
            if pvh { Format::PvhElf } else { Format::Elf }
        }
        None if bzimage::is_one(&start) => Format::BzImage,
        None => Format::Unknown,
    })
}

/// At most `len` bytes from `at` on; fewer where the file ends.
fn read(file: &mut (impl Read + Seek), at: u64, len: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}
