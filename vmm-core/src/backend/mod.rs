//! The seam between a NIC and whatever it is plugged into.
//!
//! A NIC gathers the frames of one kick into a [`FrameBatch`] of borrowed views of its guest's
//! memory and hands it to its [`Backend`]. A backend hands batches to the NICs behind it through
//! [`Receiver`]. Nothing is copied on the way, so a hop through the VALE switch is exactly one
//! copy: from the sender's buffer into the receiver's.

mod null;
mod tap;

pub use null::NullBackend;
pub use tap::{Tap, TapBackend, TapCounters, TapError, TapReceiver, TapRxDropped, TapTxDropped};

use std::ops::Range;

use vm_memory::{VolatileMemory, VolatileSlice};

/// Ethernet header length in bytes; shorter frames are dropped by every backend.
pub const ETH_HEADER_LEN: usize = 14;

/// An Ethernet address as a 48-bit little-endian number: the first byte on the wire is the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub u64);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self((1 << 48) - 1);

    /// Whether the group bit is set: multicast or broadcast.
    #[inline]
    pub fn is_group(self) -> bool {
        self.0 & 1 != 0
    }

    /// The six bytes in wire order.
    #[inline]
    pub fn octets(self) -> [u8; 6] {
        let b = self.0.to_le_bytes();
        [b[0], b[1], b[2], b[3], b[4], b[5]]
    }
}

impl From<[u8; 6]> for Mac {
    #[inline]
    fn from(o: [u8; 6]) -> Self {
        Self(u64::from_le_bytes([o[0], o[1], o[2], o[3], o[4], o[5], 0, 0]))
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.octets();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Where a NIC's frames go.
///
/// A NIC owns its backend and calls it from whichever thread moves its frames, one at a time.
pub trait Backend: Send {
    /// Takes a batch. Every frame is delivered or counted as dropped by the callee before the call
    /// returns; the views must not be kept.
    fn transmit(&mut self, batch: &FrameBatch<'_>);

    /// Takes a batch as far as the NICs behind the backend have [room](Receiver::room): the first so
    /// many frames, which it returns. The sender keeps the rest.
    fn transmit_while_room(&mut self, batch: &FrameBatch<'_>) -> usize {
        self.transmit(batch);
        batch.len()
    }

    /// Where the NIC can ask for frames, if there is such a place.
    fn feed(&self) -> Option<Box<dyn Feed>> {
        None
    }
}

/// Where a NIC asks for frames that wait for it.
pub trait Feed: Send + Sync {
    /// Has those who feed this NIC send what waits in their rings, about `most` frames.
    fn pull(&self, most: usize);
}

/// What accepts frames for a guest: the receive side of a NIC.
pub trait Receiver: Send + Sync {
    /// Receives the frames of `batch` that `picks` names by index, in that order, and notifies the
    /// guest at most once. Returns how many the guest got; the receiver counts the others by cause.
    fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize;

    /// How many frames it is ready to take, or no limit if it cannot ask for more later.
    fn room(&self, _flow: Flow) -> usize {
        usize::MAX
    }

    /// Sends about `most` of the frames that its own guest has published and nobody has taken yet;
    /// returns how many.
    fn send_waiting(&self, _most: usize) -> usize {
        0
    }
}

/// How frames come to be handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// Their guest said that they are there.
    #[default]
    Announced,
    /// They are part of a stream, of which the guest says nothing any more, and their sender brings
    /// them. A receiver does well to come for what follows.
    Brought,
    /// They are part of a stream, and a receiver has come for them.
    Fetched,
}

impl Flow {
    /// Whether more will follow of which nobody says anything.
    pub fn is_stream(self) -> bool {
        self != Self::Announced
    }
}

/// Frames of one batch, each a chain of views of memory that outlives the batch.
#[derive(Debug, Default)]
pub struct FrameBatch<'m> {
    spans: Vec<VolatileSlice<'m>>,
    frames: Vec<Extent>,
    open_len: usize,
    bytes: u64,
    flow: Flow,
}

// SAFETY: the views are only addresses of memory that stays mapped for 'm. Every access through them
// is volatile and none assumes that memory to be unshared, so any thread may make it.
unsafe impl Send for FrameBatch<'_> {}

/// A closed frame: its place in the span list, and its addresses.
#[derive(Clone, Copy, Debug)]
struct Extent {
    end: u32,
    len: u32,
    destination: Mac,
    source: Mac,
}

impl Extent {
    #[inline]
    fn addresses(&self) -> Option<(Mac, Mac)> {
        (self.len as usize >= ETH_HEADER_LEN).then_some((self.destination, self.source))
    }
}

impl<'m> FrameBatch<'m> {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a piece to the frame being built.
    #[inline]
    pub fn push_span(&mut self, span: VolatileSlice<'m>) {
        self.open_len += span.len();
        self.spans.push(span);
    }

    /// Closes the frame being built and reads its addresses: once, so that whoever handles the
    /// frame sees the same ones, though its guest may change them meanwhile.
    #[inline]
    pub fn end_frame(&mut self) {
        let (destination, source) = addresses(&self.spans[self.closed_spans()..]);
        let (end, len) = (self.spans.len() as u32, self.open_len as u32);
        self.frames.push(Extent { end, len, destination, source });
        self.bytes += self.open_len as u64;
        self.open_len = 0;
    }

    /// Adds a frame in one piece; none must be open.
    #[inline]
    pub fn push_frame(&mut self, span: VolatileSlice<'m>) {
        debug_assert_eq!(self.open_len, 0, "a frame is open");
        let (destination, source) = addresses(std::slice::from_ref(&span));
        self.bytes += span.len() as u64;
        let (end, len) = (self.spans.len() as u32 + 1, span.len() as u32);
        self.spans.push(span);
        self.frames.push(Extent { end, len, destination, source });
    }

    /// Adds the frames of `other` that `picks` names, in that order; none must be open.
    ///
    /// # Panics
    /// If a pick is not below `other`'s [`len`](Self::len).
    pub fn extend_picked(&mut self, other: &FrameBatch<'m>, picks: &[u32]) {
        debug_assert_eq!(self.open_len, 0, "a frame is open");
        for &pick in picks {
            let (extent, spans) = other.place(pick as usize);
            self.spans.extend_from_slice(&other.spans[spans]);
            self.frames.push(Extent { end: self.spans.len() as u32, ..extent });
            self.bytes += u64::from(extent.len);
        }
    }

    /// Discards the frame being built.
    pub fn abort_frame(&mut self) {
        self.spans.truncate(self.closed_spans());
        self.open_len = 0;
    }

    /// Moves the pieces of the frame being built into `pieces`.
    pub fn take_open(&mut self, pieces: &mut Vec<VolatileSlice<'m>>) {
        let from = self.closed_spans();
        pieces.extend(self.spans.drain(from..));
        self.open_len = 0;
    }

    /// Says how the frames come.
    pub fn set_flow(&mut self, flow: Flow) {
        self.flow = flow;
    }

    /// How the frames come.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// Empties the batch, keeping the allocations.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.frames.clear();
        self.open_len = 0;
        self.bytes = 0;
    }

    /// Bytes in the frame being built.
    #[inline]
    pub fn open_len(&self) -> usize {
        self.open_len
    }

    #[inline]
    fn closed_spans(&self) -> usize {
        self.frames.last().map_or(0, |f| f.end as usize)
    }

    /// Bytes of all closed frames.
    #[inline]
    pub fn total_bytes(&self) -> u64 {
        self.bytes
    }

    /// Closed frames.
    #[inline]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no closed frame.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frame `index`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    #[inline]
    pub fn frame(&self, index: usize) -> Frame<'_> {
        let (Extent { len, destination, source, .. }, spans) = self.place(index);
        Frame { spans: &self.spans[spans], len: len as usize, destination, source }
    }

    #[inline]
    fn place(&self, index: usize) -> (Extent, Range<usize>) {
        let start = if index == 0 { 0 } else { self.frames[index - 1].end as usize };
        let extent = self.frames[index];
        (extent, start..extent.end as usize)
    }

    /// All frames in order.
    pub fn iter(&self) -> impl Iterator<Item = Frame<'_>> {
        (0..self.len()).map(|i| self.frame(i))
    }

    /// All frames' destination and source addresses; `None` for a frame that is shorter than an
    /// Ethernet header.
    #[inline]
    pub fn addresses(&self) -> impl Iterator<Item = Option<(Mac, Mac)>> {
        self.frames.iter().map(Extent::addresses)
    }

    /// Empties the batch and frees it from its lifetime, keeping the allocations.
    pub fn recycle<'n>(mut self) -> FrameBatch<'n> {
        self.clear();
        // An empty vector collects in place: no allocation, no copy.
        let spans = self.spans.into_iter().map(|_| unreachable!("just cleared")).collect();
        FrameBatch { spans, frames: self.frames, ..FrameBatch::default() }
    }
}

/// One frame: destination address to last payload byte, without the frame check sequence.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    spans: &'a [VolatileSlice<'a>],
    len: usize,
    destination: Mac,
    source: Mac,
}

impl<'a> Frame<'a> {
    /// The frame that consists of `spans`.
    pub fn new(spans: &'a [VolatileSlice<'a>]) -> Self {
        let (destination, source) = addresses(spans);
        Self { spans, len: spans.iter().map(VolatileSlice::len).sum(), destination, source }
    }

    /// Length in bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a frame is a length, not a collection")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The pieces, in order.
    #[inline]
    pub fn spans(&self) -> &'a [VolatileSlice<'a>] {
        self.spans
    }

    /// Destination and source address; `None` if the frame is shorter than an Ethernet header.
    #[inline]
    pub fn addresses(&self) -> Option<(Mac, Mac)> {
        (self.len >= ETH_HEADER_LEN).then_some((self.destination, self.source))
    }

    /// Copies bytes from `offset` into `out`; returns how many the frame had.
    #[inline]
    pub fn copy_out(&self, offset: usize, out: &mut [u8]) -> usize {
        copy_out(self.spans, offset, out)
    }

    /// Copies bytes from `offset` into guest memory; returns how many were copied, at most the
    /// target's length.
    #[inline]
    pub fn copy_to_guest(&self, mut offset: usize, target: VolatileSlice<'_>) -> usize {
        let mut done = 0;
        for span in self.spans {
            if offset >= span.len() {
                offset -= span.len();
                continue;
            }
            let (Ok(from), Ok(to)) = (span.offset(offset), target.offset(done)) else {
                break;
            };
            let count = from.len().min(to.len());
            from.copy_to_volatile_slice(to);
            done += count;
            offset = 0;
            if done == target.len() {
                break;
            }
        }
        done
    }
}

/// Destination and source address of the frame that consists of `spans`; whatever there is of them
/// if it is shorter than an Ethernet header.
#[inline]
fn addresses(spans: &[VolatileSlice<'_>]) -> (Mac, Mac) {
    const LOW_48: u64 = (1 << 48) - 1;
    if let Some(first) = spans.first()
        && let (Ok(dst), Ok(src)) = (first.get_ref::<u64>(0), first.get_ref::<u64>(6))
    {
        return (Mac(dst.load() & LOW_48), Mac(src.load() & LOW_48));
    }
    let mut bytes = [0; ETH_HEADER_LEN];
    copy_out(spans, 0, &mut bytes);
    let mac = |at: usize| Mac::from(std::array::from_fn::<u8, 6, _>(|i| bytes[at + i]));
    (mac(0), mac(6))
}

/// Copies bytes of `spans` from `offset` on into `out`; returns how many there were.
fn copy_out(spans: &[VolatileSlice<'_>], mut offset: usize, out: &mut [u8]) -> usize {
    let mut done = 0;
    for span in spans {
        if offset >= span.len() {
            offset -= span.len();
            continue;
        }
        let Ok(rest) = span.offset(offset) else { break };
        done += rest.copy_to(&mut out[done..]);
        offset = 0;
        if done == out.len() {
            break;
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::GuestRam;
    use vm_memory::Bytes;

    fn two_piece_batch(ram: &GuestRam) -> FrameBatch<'_> {
        ram.slice(0, 32).unwrap().write_slice(&(0..32).collect::<Vec<u8>>(), 0).unwrap();
        let mut batch = FrameBatch::new();
        batch.push_span(ram.slice(0, 10).unwrap());
        batch.push_span(ram.slice(10, 20).unwrap());
        batch.end_frame();
        batch
    }

    #[test]
    fn a_frame_reads_across_its_pieces() {
        let ram = GuestRam::new(4096).unwrap();
        let batch = two_piece_batch(&ram);
        let frame = batch.frame(0);
        assert_eq!(frame.len(), 30);
        let mut out = [0; 8];
        assert_eq!(frame.copy_out(6, &mut out), 8);
        assert_eq!(out, [6, 7, 8, 9, 10, 11, 12, 13]);
        assert_eq!(frame.copy_out(26, &mut out), 4);
        assert_eq!(frame.copy_out(30, &mut out), 0);
        assert_eq!(
            frame.addresses(),
            Some((Mac::from([0, 1, 2, 3, 4, 5]), Mac::from([6, 7, 8, 9, 10, 11])))
        );
    }

    #[test]
    fn a_frame_copies_to_guest_memory_up_to_the_target() {
        let ram = GuestRam::new(4096).unwrap();
        let batch = two_piece_batch(&ram);
        let target = ram.slice(1024, 16).unwrap();
        assert_eq!(batch.frame(0).copy_to_guest(4, target), 16);
        let mut out = [0; 16];
        target.read_slice(&mut out, 0).unwrap();
        assert_eq!(out.to_vec(), (4..20).collect::<Vec<u8>>());
        assert_eq!(batch.frame(0).copy_to_guest(20, target), 10);
    }

    #[test]
    fn aborting_keeps_the_closed_frames() {
        let ram = GuestRam::new(4096).unwrap();
        let mut batch = two_piece_batch(&ram);
        batch.push_span(ram.slice(0, 5).unwrap());
        assert_eq!(batch.open_len(), 5);
        batch.abort_frame();
        assert_eq!((batch.len(), batch.open_len()), (1, 0));
        let batch = batch.recycle();
        assert!(batch.is_empty());
    }

    #[test]
    fn picked_frames_keep_their_pieces_and_addresses() {
        let ram = GuestRam::new(4096).unwrap();
        let mut all = two_piece_batch(&ram);
        all.push_frame(ram.slice(2, 20).unwrap());
        let mut picked = FrameBatch::new();
        picked.extend_picked(&all, &[1, 0, 1]);
        assert_eq!((picked.len(), picked.total_bytes()), (3, 70));
        for (frame, original) in picked.iter().zip([1, 0, 1].map(|i| all.frame(i))) {
            assert_eq!(frame.addresses(), original.addresses());
            assert_eq!(frame.spans().len(), original.spans().len());
            let (mut got, mut expected) = ([0; 30], [0; 30]);
            assert_eq!(frame.copy_out(0, &mut got), original.copy_out(0, &mut expected));
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_runt_has_no_addresses() {
        let ram = GuestRam::new(4096).unwrap();
        let mut batch = FrameBatch::new();
        batch.push_span(ram.slice(0, 13).unwrap());
        batch.end_frame();
        assert_eq!(batch.frame(0).addresses(), None);
    }
}
