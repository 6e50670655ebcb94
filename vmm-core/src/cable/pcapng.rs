//! Captured frames as a pcapng file of one interface (draft-ietf-opsawg-pcapng).

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::capture::{Capture, Captured, CapturedFrame, Direction};

/// Block types (draft-ietf-opsawg-pcapng section 4).
mod block {
    pub const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    pub const INTERFACE_DESCRIPTION: u32 = 1;
    pub const INTERFACE_STATISTICS: u32 = 5;
    pub const ENHANCED_PACKET: u32 = 6;
}

/// Option codes, each within its block.
mod option {
    pub const END: u16 = 0;
    pub const SHB_USERAPPL: u16 = 4;
    pub const IF_NAME: u16 = 2;
    pub const IF_TSRESOL: u16 = 9;
    pub const EPB_FLAGS: u16 = 2;
    pub const ISB_IFRECV: u16 = 4;
    pub const ISB_IFDROP: u16 = 5;
}

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const VERSION: [u16; 2] = [1, 0];
/// Section length: not given.
const UNSPECIFIED: u64 = u64::MAX;
const LINKTYPE_ETHERNET: u16 = 1;
/// Timestamps count 10^-9 s.
const NANOSECONDS: u8 = 9;
/// The only interface.
const INTERFACE: u32 = 0;

/// Writes a capture to a file or a stream; each call writes whole blocks.
pub struct PcapngWriter<W> {
    to: W,
    /// The block being built.
    block: Vec<u8>,
}

impl<W: Write> PcapngWriter<W> {
    /// Begins a file of frames that interface `name` sent and received, of each at most `snap_len`
    /// bytes. `application` is who writes it.
    pub fn new(to: W, application: &str, name: &str, snap_len: u32) -> io::Result<Self> {
        let mut writer = Self { to, block: Vec::new() };
        writer.begin(block::SECTION_HEADER);
        writer.put(&BYTE_ORDER_MAGIC.to_le_bytes());
        VERSION.iter().for_each(|number| writer.put(&number.to_le_bytes()));
        writer.put(&UNSPECIFIED.to_le_bytes());
        writer.option(option::SHB_USERAPPL, application.as_bytes());
        writer.end()?;

        writer.begin(block::INTERFACE_DESCRIPTION);
        writer.put(&LINKTYPE_ETHERNET.to_le_bytes());
        writer.put(&[0; 2]);
        writer.put(&snap_len.to_le_bytes());
        writer.option(option::IF_NAME, name.as_bytes());
        writer.option(option::IF_TSRESOL, &[NANOSECONDS]);
        writer.end()?;
        Ok(writer)
    }

    /// Adds frames.
    pub fn write(&mut self, captured: &Captured) -> io::Result<()> {
        captured.iter().try_for_each(|frame| self.write_frame(&frame))
    }

    /// Adds a frame.
    pub fn write_frame(&mut self, frame: &CapturedFrame<'_>) -> io::Result<()> {
        self.begin(block::ENHANCED_PACKET);
        self.put(&INTERFACE.to_le_bytes());
        self.timestamp(frame.timestamp);
        self.put(&(frame.bytes.len() as u32).to_le_bytes());
        self.put(&frame.original_len.to_le_bytes());
        self.put(frame.bytes);
        self.pad();
        // epb_flags bits 0 and 1.
        let direction: u32 = match frame.direction {
            Direction::Inbound => 0b01,
            Direction::Outbound => 0b10,
        };
        self.option(option::EPB_FLAGS, &direction.to_le_bytes());
        self.end()
    }

    /// Ends the file with what `capture` saw and missed, and returns what was written to.
    pub fn finish(mut self, capture: &Capture) -> io::Result<W> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.begin(block::INTERFACE_STATISTICS);
        self.put(&INTERFACE.to_le_bytes());
        self.timestamp(now.as_nanos().try_into().unwrap_or(u64::MAX));
        let received = capture.recorded() + capture.missed();
        self.option(option::ISB_IFRECV, &received.to_le_bytes());
        self.option(option::ISB_IFDROP, &capture.missed().to_le_bytes());
        self.end()?;
        self.to.flush()?;
        Ok(self.to)
    }

    /// What is written to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.to
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.put(&kind.to_le_bytes());
        // The length, when it is known.
        self.put(&[0; 4]);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    /// Everything begins at a multiple of four.
    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// The upper half comes first.
    fn timestamp(&mut self, nanoseconds: u64) {
        self.put(&((nanoseconds >> 32) as u32).to_le_bytes());
        self.put(&(nanoseconds as u32).to_le_bytes());
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.put(&code.to_le_bytes());
        self.put(&(value.len() as u16).to_le_bytes());
        self.put(value);
        self.pad();
    }

    /// Every block here has options, so their end is marked; its length stands at both ends.
    fn end(&mut self) -> io::Result<()> {
        self.option(option::END, &[]);
        let len = (self.block.len() as u32 + 4).to_le_bytes();
        self.block[4..8].copy_from_slice(&len);
        self.put(&len);
        self.to.write_all(&self.block)
    }
}
