//! Checksum insertion, VLAN tagging and TCP segmentation (manual 3.3.5 to 3.5).
//!
//! A packet that asks for any of it leaves as a header, copied and edited once for each frame, and
//! views of the payload, which stays where the guest put it. Every offset comes from the guest:
//! what does not fit is left out, as the manual allows (manual 3.5.7: such a checksum is not
//! inserted).

use vm_memory::VolatileSlice;

use super::checksum::Sum;
use super::descriptor::{Checksum, Context};
use crate::backend::Frame;

/// Longest header that is ever edited: HDRLEN and the offsets have 8 bits, a checksum 2 bytes more,
/// a VLAN tag 4.
pub const HEADER_MAX: usize = 264;

/// Most segments of one packet: 64 KiB at Linux's smallest MSS of 48 bytes are 1366.
const MAX_SEGMENTS: usize = 4096;

/// The two addresses, which precede a VLAN tag.
const ADDRESSES_LEN: usize = 12;

/// What the descriptors of one packet ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// Insert this checksum over the IP header.
    pub ip: Option<Checksum>,
    /// Insert this checksum over the transport segment.
    pub transport: Option<Checksum>,
    /// A transport checksum of zero means none (UDP, RFC 768): send its other form.
    pub never_zero: bool,
    /// Insert this VLAN tag: type and control information.
    pub vlan: Option<[u8; 4]>,
    /// Cut the packet into segments.
    pub segmentation: Option<Segmentation>,
}

/// How a packet is cut.
#[derive(Clone, Copy, Debug)]
pub struct Segmentation {
    /// Bytes that every segment repeats.
    pub header_len: usize,
    /// Payload bytes of a segment.
    pub mss: usize,
    /// Where the IP header starts.
    pub ip: usize,
    /// Where the TCP or UDP header starts.
    pub transport: usize,
    /// TCP, else UDP.
    pub tcp: bool,
    /// IPv4, else IPv6.
    pub ipv4: bool,
}

impl From<Context> for Segmentation {
    fn from(context: Context) -> Self {
        Self {
            header_len: context.header_len,
            mss: context.mss,
            ip: context.ip.start,
            transport: context.transport.start,
            tcp: context.tcp,
            ipv4: context.ipv4,
        }
    }
}

impl Segmentation {
    /// Whether a packet of `len` bytes can be cut, into a sane number of frames of at most
    /// `max_frame` bytes.
    pub fn fits(&self, len: usize, max_frame: usize) -> bool {
        self.mss != 0
            && self.header_len >= ADDRESSES_LEN + 2
            && self.header_len <= len
            && self.header_len + self.mss <= max_frame
            && (len - self.header_len).div_ceil(self.mss) <= MAX_SEGMENTS
    }

    /// Adjusts the header of segment `index`, `len` bytes long with its header, to what it carries
    /// (manual 3.5.8).
    fn edit(&self, header: &mut [u8], index: usize, len: usize, last: bool) {
        const FIN_PSH: u8 = 0x09;
        let ip_len = len.saturating_sub(self.ip) as u16;
        if self.ipv4 {
            put_u16(header, self.ip + 2, |_| ip_len);
            put_u16(header, self.ip + 4, |id| id.wrapping_add(index as u16));
        } else {
            put_u16(header, self.ip + 4, |_| ip_len.saturating_sub(40));
        }
        if self.tcp {
            let sent = (index * self.mss) as u32;
            if let Some(at) = header.get_mut(self.transport + 4..).and_then(|h| h.first_chunk_mut())
            {
                *at = u32::from_be_bytes(*at).wrapping_add(sent).to_be_bytes();
            }
            if let (false, Some(flags)) = (last, header.get_mut(self.transport + 13)) {
                *flags &= !FIN_PSH;
            }
        } else {
            let udp_len = len.saturating_sub(self.transport) as u16;
            put_u16(header, self.transport + 4, |_| udp_len);
        }
    }

    /// Adds the segment's length to the pseudo-header's sum, which the driver left in the checksum
    /// field without it.
    fn complete_pseudo_header(&self, header: &mut [u8], checksum: &Checksum, len: usize) {
        let length = (len.saturating_sub(self.transport) as u16).to_be_bytes();
        if let Some(field) = header.get_mut(checksum.at..).and_then(|h| h.first_chunk_mut::<2>()) {
            let mut sum = Sum::default();
            sum.add(field);
            sum.add(&length);
            *field = sum.folded();
        }
    }
}

/// Replaces the big-endian word at `at`, if `header` has it.
fn put_u16(header: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) {
    if let Some(word) = header.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *word = change(u16::from_be_bytes(*word)).to_be_bytes();
    }
}

impl Request {
    /// Whether the packet leaves as it is.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.ip.is_none()
            && self.transport.is_none()
            && self.vlan.is_none()
            && self.segmentation.is_none()
    }

    /// Bytes of a packet of `len` that the edits may touch.
    fn header_len(&self, len: usize) -> usize {
        let needed = match &self.segmentation {
            Some(segmentation) => segmentation.header_len,
            None => {
                let checksums = [self.ip, self.transport].into_iter().flatten();
                checksums.map(|c| c.at + 2).fold(ADDRESSES_LEN, usize::max)
            }
        };
        needed.min(len)
    }

    /// Builds the frames of the packet in `pieces` one after another: `emit` gets the header and a cursor that
    /// stands at the given number of payload bytes, which it must take.
    pub fn build<'r>(
        &self,
        pieces: &[VolatileSlice<'r>],
        mut emit: impl FnMut(&[u8], &mut Cursor<'_, 'r>, usize),
    ) {
        let packet = Frame::new(pieces);
        let len = packet.len();
        let header_len = self.header_len(len);
        let mut template = [0; HEADER_MAX];
        packet.copy_out(0, &mut template[..header_len]);
        let mut cursor = Cursor::at(pieces, header_len);
        let mss = self.segmentation.map_or(usize::MAX, |segmentation| segmentation.mss);

        let mut from = header_len;
        for index in 0.. {
            let to = from.saturating_add(mss).min(len);
            let mut edited = template;
            let header = &mut edited[..header_len];
            let frame_len = header_len + (to - from);
            if let Some(segmentation) = &self.segmentation {
                segmentation.edit(header, index, frame_len, to == len);
                if let Some(checksum) = &self.transport {
                    segmentation.complete_pseudo_header(header, checksum, frame_len);
                }
            }
            let payload = (&packet, from, to);
            self.ip.iter().for_each(|checksum| insert(header, checksum, payload, false));
            self.transport.iter().for_each(|checksum| {
                insert(header, checksum, payload, self.never_zero);
            });
            let tagged_len = header_len + self.vlan.map_or(0, |tag| insert_tag(&mut edited, tag));
            emit(&edited[..tagged_len], &mut cursor, to - from);
            from = to;
            if from == len {
                break;
            }
        }
    }
}

/// Computes a checksum over a frame, of which `header` is the edited beginning and `from..to` of
/// the packet the rest, and stores it in the header.
fn insert(
    header: &mut [u8],
    checksum: &Checksum,
    (packet, from, to): (&Frame<'_>, usize, usize),
    never_zero: bool,
) {
    let frame_len = header.len() + (to - from);
    let end = checksum.end.unwrap_or(frame_len).min(frame_len);
    if checksum.start >= end || checksum.at + 2 > frame_len {
        return;
    }
    let mut sum = Sum::default();
    sum.add(header.get(checksum.start..end.min(header.len())).unwrap_or(&[]));
    let skipped = checksum.start.saturating_sub(header.len());
    let counted = end.saturating_sub(header.len());
    sum.add_frame(packet, from + skipped, from + counted);
    let value = match sum.checksum() {
        [0, 0] if never_zero => [0xff; 2],
        value => value,
    };
    if let Some(field) = header.get_mut(checksum.at..).and_then(|rest| rest.first_chunk_mut()) {
        *field = value;
    }
}

/// Inserts a VLAN tag behind the addresses; returns its length.
fn insert_tag(header: &mut [u8; HEADER_MAX], tag: [u8; 4]) -> usize {
    header.copy_within(ADDRESSES_LEN..HEADER_MAX - tag.len(), ADDRESSES_LEN + tag.len());
    header[ADDRESSES_LEN..][..tag.len()].copy_from_slice(&tag);
    tag.len()
}

/// A place in a packet's pieces.
pub struct Cursor<'p, 'r> {
    pieces: &'p [VolatileSlice<'r>],
    offset: usize,
}

impl<'p, 'r> Cursor<'p, 'r> {
    /// The place `skip` bytes into `pieces`.
    fn at(pieces: &'p [VolatileSlice<'r>], skip: usize) -> Self {
        let mut cursor = Self { pieces, offset: 0 };
        cursor.take(skip, |_| {});
        cursor
    }

    /// Moves on by `count` bytes and gives their views to `sink`.
    pub fn take(&mut self, mut count: usize, mut sink: impl FnMut(VolatileSlice<'r>)) {
        while let (true, Some((piece, rest))) = (count > 0, self.pieces.split_first()) {
            let taken = count.min(piece.len() - self.offset);
            if let (true, Ok(view)) = (taken > 0, piece.subslice(self.offset, taken)) {
                sink(view);
            }
            count -= taken;
            self.offset += taken;
            if self.offset == piece.len() {
                self.pieces = rest;
                self.offset = 0;
            }
        }
    }
}
