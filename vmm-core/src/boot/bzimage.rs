//! bzImages: Linux as distributions ship it, with the code to unpack itself.

use linux_loader::loader::bootparam::setup_header;
use vm_memory::{ByteValued, GuestMemoryMmap};

use super::{BootError, Loaded, Start, check_fits, write};
use crate::platform::CMDLINE_MAX;

/// Where the setup header lies in the file, and in the zero page.
const HEADER_OFFSET: usize = 0x1f1;
/// Where it ends.
pub const HEADER_END: usize = HEADER_OFFSET + size_of::<setup_header>();
/// `setup_header.header`: "HdrS".
pub const HEADER_MAGIC: u32 = 0x5372_6448;
/// The first protocol version with `xloadflags`.
const MIN_VERSION: u16 = 0x020c;
/// `xloadflags`: there is a 64-bit entry point at 0x200.
const XLF_KERNEL_64: u16 = 1 << 0;
const ENTRY_OFFSET: u64 = 0x200;
const SECTOR: usize = 512;
/// `setup_sects` of 0 means this many.
const DEFAULT_SETUP_SECTORS: usize = 4;
/// Unit of `syssize`.
const PARAGRAPH: u64 = 16;

/// Copies a bzImage to the address it prefers, so that it unpacks itself in place.
pub fn load(memory: &GuestMemoryMmap, ram_end: u64, image: &[u8]) -> Result<Loaded, BootError> {
    let header = header(image).ok_or(BootError::UnknownFormat)?;
    if header.version < MIN_VERSION || header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(BootError::NotBootableIn64Bit { version: header.version });
    }
    let setup_sectors = match header.setup_sects {
        0 => DEFAULT_SETUP_SECTORS,
        sectors => usize::from(sectors),
    };
    // One more for the boot sector itself.
    let setup = (1 + setup_sectors) * SECTOR;
    let expected = setup as u64 + u64::from(header.syssize) * PARAGRAPH;
    let cut_short = BootError::BzImageCutShort { len: image.len(), expected };
    if expected > image.len() as u64 {
        return Err(cut_short);
    }
    let payload = image.get(setup..).filter(|code| code.len() as u64 > ENTRY_OFFSET);
    let payload = payload.ok_or(cut_short)?;

    // From here on it wants `init_size` bytes to unpack and run in before it reads the memory map.
    let start = header.pref_address;
    let end = start.saturating_add((payload.len() as u64).max(header.init_size.into()));
    check_fits(&(start..end), ram_end)?;
    write(memory, payload, start)?;

    let initrd_limit = u64::from(header.initrd_addr_max) + 1;
    let cmdline_max = CMDLINE_MAX.min(header.cmdline_size as usize);
    // RAM ends below 4 GiB, so the address fits.
    let header = setup_header { code32_start: start as u32, ..header };
    let start = Start::Linux64(start + ENTRY_OFFSET, Box::new(header));
    Ok(Loaded { start, end, initrd_limit, cmdline_max })
}

/// Whether a file that begins like this is one.
pub fn is_one(start: &[u8]) -> bool {
    header(start).is_some()
}

fn header(image: &[u8]) -> Option<setup_header> {
    let mut header = setup_header::default();
    let bytes = image.get(HEADER_OFFSET..)?.get(..size_of::<setup_header>())?;
    header.as_mut_slice().copy_from_slice(bytes);
    (header.header == HEADER_MAGIC).then_some(header)
}
