//! Transmit descriptors, as the guest writes them (manual 3.3.3, 3.3.6 and 3.3.7).

use super::ring::Descriptor;

/// Command bits. Most mean the same in all three formats.
pub mod command {
    /// Last descriptor of a packet.
    pub const EOP: u8 = 1 << 0;
    /// Legacy format: insert the checksum that CSO and CSS describe.
    pub const IC: u8 = 1 << 2;
    /// Extended formats: cut the packet into segments.
    pub const TSE: u8 = 1 << 2;
    /// Report when done.
    pub const RS: u8 = 1 << 3;
    /// Not the legacy format.
    pub const DEXT: u8 = 1 << 5;
    /// Insert a VLAN tag.
    pub const VLE: u8 = 1 << 6;
    /// The report may be delayed.
    pub const IDE: u8 = 1 << 7;
}

/// Descriptor done, in the status (manual 3.3.3.2).
pub const STATUS_DD: u8 = 1 << 0;

/// What a data descriptor asks for (POPTS, manual 3.3.7.3).
pub mod option {
    /// Insert the IP checksum.
    pub const IXSM: u8 = 1 << 0;
    /// Insert the TCP or UDP checksum.
    pub const TXSM: u8 = 1 << 1;
}

/// A descriptor's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A buffer and its checksum, in the way of the first Intel controllers.
    Legacy,
    /// No buffer: where the checksums of the packets that follow lie.
    Context,
    /// A buffer of a packet that the last context describes.
    Data,
    /// A type that the manual reserves.
    Reserved,
}

/// One transmit descriptor, read once.
#[derive(Clone, Copy, Debug)]
pub struct TxDescriptor(pub Descriptor);

impl TxDescriptor {
    /// Command bits.
    #[inline]
    pub fn command(self) -> u8 {
        (self.0[1] >> 24) as u8
    }

    /// Whether all of `bits` are set in the command.
    #[inline]
    pub fn commands(self, bits: u8) -> bool {
        self.command() & bits == bits
    }

    /// The format.
    #[inline]
    pub fn format(self) -> Format {
        match (self.command() & command::DEXT != 0, self.0[1] >> 20 & 0xf) {
            (false, _) => Format::Legacy,
            (true, 0) => Format::Context,
            (true, 1) => Format::Data,
            (true, _) => Format::Reserved,
        }
    }

    /// Whether this is the last descriptor of a packet. In a context the bit means nothing.
    #[inline]
    pub fn ends_packet(self) -> bool {
        self.format() != Format::Context && self.commands(command::EOP)
    }

    /// Whether a packet that starts with this descriptor is to be cut into segments.
    #[inline]
    pub fn is_cut(self) -> bool {
        self.format() == Format::Data && self.commands(command::TSE)
    }

    /// The length of the frame that this descriptor alone makes, if nothing is to be done to it:
    /// the whole packet, in legacy or data format, without checksum, segmentation or tag.
    #[inline]
    pub fn plain_frame(self) -> Option<usize> {
        const COMMANDS: u64 =
            ((command::EOP | command::IC | command::DEXT | command::VLE) as u64) << 24;
        const DATA: u64 = 1 << 20 | (command::DEXT as u64) << 24;
        const EOP: u64 = (command::EOP as u64) << 24;
        const DATA_MASK: u64 = 0xff << 40 | COMMANDS | 0xf << 20;
        let legacy = self.0[1] & COMMANDS == EOP;
        let data = self.0[1] & DATA_MASK == DATA | EOP;
        (legacy || data).then(|| self.length())
    }

    /// Guest-physical address of the buffer.
    #[inline]
    pub fn address(self) -> u64 {
        self.0[0]
    }

    /// Bytes in the buffer: up to 65535 in the legacy format, up to 2^20 - 1 in a data descriptor.
    #[inline]
    pub fn length(self) -> usize {
        let bits = if self.command() & command::DEXT == 0 { 0xffff } else { 0xf_ffff };
        (self.0[1] & bits) as usize
    }

    /// Data: POPTS.
    pub fn options(self) -> u8 {
        (self.0[1] >> 40) as u8
    }

    /// Legacy: CSS, where the checksum starts.
    pub fn checksum_start(self) -> u8 {
        (self.0[1] >> 40) as u8
    }

    /// Legacy: CSO, where the checksum goes.
    pub fn checksum_offset(self) -> u8 {
        (self.0[1] >> 16) as u8
    }

    /// The VLAN tag's control information (SPECIAL).
    pub fn special(self) -> u16 {
        (self.0[1] >> 48) as u16
    }
}

/// A range of a packet with a checksum in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// First byte that counts.
    pub start: usize,
    /// Where the two bytes of the checksum go.
    pub at: usize,
    /// First byte that does not count any more; `None` for all up to the end.
    pub end: Option<usize>,
}

/// A context descriptor's contents (manual 3.3.6).
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// IPCSS, IPCSO and IPCSE.
    pub ip: Checksum,
    /// TUCSS, TUCSO and TUCSE.
    pub transport: Checksum,
    /// HDRLEN: bytes that every segment repeats.
    pub header_len: usize,
    /// MSS: payload bytes of a segment.
    pub mss: usize,
    /// TUCMD.TCP: the packets are TCP, else UDP.
    pub tcp: bool,
    /// TUCMD.IP: the packets are IPv4, else IPv6.
    pub ipv4: bool,
}

impl From<TxDescriptor> for Context {
    fn from(TxDescriptor([low, high]): TxDescriptor) -> Self {
        const TCP: u64 = 1 << 24;
        const IP: u64 = 1 << 25;
        let checksum = |bits: u64| Checksum {
            start: (bits & 0xff) as usize,
            at: (bits >> 8 & 0xff) as usize,
            // The field names the last byte; zero means the end of the packet.
            end: Some((bits >> 16 & 0xffff) as usize)
                .filter(|last| *last != 0)
                .map(|last| last + 1),
        };
        Self {
            ip: checksum(low),
            transport: checksum(low >> 32),
            header_len: (high >> 40 & 0xff) as usize,
            mss: (high >> 48) as usize,
            tcp: high & TCP != 0,
            ipv4: high & IP != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_descriptor_unpacks() {
        let context = Context::from(TxDescriptor([0x0000_3222_0021_180e, 0x05b4_3600_2700_1234]));
        assert_eq!(context.ip, Checksum { start: 14, at: 24, end: Some(34) });
        assert_eq!(context.transport, Checksum { start: 34, at: 50, end: None });
        assert_eq!((context.header_len, context.mss), (54, 1460));
        assert!(context.tcp && context.ipv4);
    }

    #[test]
    fn formats_and_lengths() {
        let descriptor = |high| TxDescriptor([0, high]);
        assert_eq!(descriptor(0x00ff_ffff).format(), Format::Legacy);
        assert_eq!(descriptor(0x00ff_ffff).length(), 0xffff);
        assert_eq!(descriptor(0x200f_ffff).format(), Format::Context);
        assert_eq!(descriptor(0x201f_ffff).format(), Format::Data);
        assert_eq!(descriptor(0x201f_ffff).length(), 0xf_ffff);
        assert_eq!(descriptor(0x2020_0000).format(), Format::Reserved);
    }
}
