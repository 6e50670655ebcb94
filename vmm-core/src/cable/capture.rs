//! Frames on a cable, as one of its ends sees them, copied for a reader.
//!
//! The datapath copies into a bounded buffer and never waits: what finds it full is counted. The
//! reader takes the whole buffer and leaves an empty one in its place.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Cable;
use crate::backend::FrameBatch;

/// How much to capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureLimits {
    /// Most bytes of a frame that are kept.
    pub snap_len: u32,
    /// Most bytes that wait for the reader, counting 32 for each frame on top of its own.
    pub buffer_bytes: usize,
}

/// Whole frames, and 4 MiB.
impl Default for CaptureLimits {
    fn default() -> Self {
        Self { snap_len: 65_535, buffer_bytes: 4 << 20 }
    }
}

/// Which way a frame went, as its end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It came out of the cable.
    Inbound,
    /// It went into the cable.
    Outbound,
}

/// A captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedFrame<'a> {
    /// Nanoseconds of Unix time.
    pub timestamp: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Its length in bytes, without the frame check sequence.
    pub original_len: u32,
    /// Its first bytes, at most the snap length.
    pub bytes: &'a [u8],
}

/// Captured frames, with their memory: to be used again and again.
#[derive(Debug, Default)]
pub struct Captured {
    heads: Vec<Head>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    timestamp: u64,
    direction: Direction,
    original_len: u32,
    start: usize,
    len: usize,
}

impl Captured {
    /// The frames, the earliest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = CapturedFrame<'_>> {
        self.heads.iter().map(|head| CapturedFrame {
            timestamp: head.timestamp,
            direction: head.direction,
            original_len: head.original_len,
            bytes: &self.bytes[head.start..head.start + head.len],
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.bytes.clear();
    }
}

/// A capture that is going on. Dropping it ends it.
///
/// Its descriptor is readable while frames wait, for poll(2) and its kin.
pub struct Capture {
    recorder: Arc<Recorder>,
    cable: Cable,
}

impl Capture {
    pub(super) fn new(cable: Cable, limits: CaptureLimits) -> io::Result<Self> {
        let signal = EventFd::new(EFD_NONBLOCK)?;
        let recorder = Recorder {
            limits,
            signal,
            buffer: Mutex::default(),
            recorded: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        };
        Ok(Self { recorder: Arc::new(recorder), cable })
    }

    pub(super) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Replaces the contents of `into` by the frames that wait.
    ///
    /// A frame is noted when it has been handed over, so one that came a moment earlier may be
    /// found only in what is taken next.
    pub fn take(&self, into: &mut Captured) {
        into.clear();
        // Fails only if nothing was signalled. Before the swap: what comes after signals anew.
        let _ = self.recorder.signal.read();
        mem::swap(&mut *self.recorder.buffer.lock(), into);
        into.heads.sort_by_key(|head| head.timestamp);
    }

    /// Frames captured so far.
    pub fn recorded(&self) -> u64 {
        self.recorder.recorded.load(Relaxed)
    }

    /// Frames that found the buffer full.
    pub fn missed(&self) -> u64 {
        self.recorder.missed.load(Relaxed)
    }
}

impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the recorder keeps it open, and lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.recorder.signal.as_raw_fd()) }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.cable.end_capture(&self.recorder);
    }
}

/// The datapath's side of a capture.
pub(super) struct Recorder {
    limits: CaptureLimits,
    signal: EventFd,
    buffer: Mutex<Captured>,
    recorded: AtomicU64,
    missed: AtomicU64,
}

impl Recorder {
    fn record(&self, direction: Direction, timestamp: u64, batch: &FrameBatch<'_>, picks: &[u32]) {
        let mut buffer = self.buffer.lock();
        let Captured { heads, bytes } = &mut *buffer;
        let (before, mut missed) = (heads.len(), 0);
        for frame in picks.iter().map(|pick| batch.frame(*pick as usize)) {
            let len = frame.len().min(self.limits.snap_len as usize);
            let start = bytes.len();
            let used = start + len + (heads.len() + 1) * size_of::<Head>();
            if used > self.limits.buffer_bytes {
                missed += 1;
                continue;
            }
            bytes.resize(start + len, 0);
            frame.copy_out(0, &mut bytes[start..]);
            let original_len = frame.len() as u32;
            heads.push(Head { timestamp, direction, original_len, start, len });
        }
        let (first, new) = (before == 0, (heads.len() - before) as u64);
        drop(buffer);
        self.recorded.fetch_add(new, Relaxed);
        self.missed.fetch_add(missed, Relaxed);
        if first && new > 0 {
            // Fails only if the counter is full, and then the signal is there.
            let _ = self.signal.write(1);
        }
    }
}

/// The captures that see one direction of a cable.
#[derive(Default)]
pub(super) struct Observers(Vec<(Direction, Arc<Recorder>)>);

impl Observers {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Shows `recorder` the frames when they go `direction` for the end that it is at.
    pub fn add(&mut self, direction: Direction, recorder: Arc<Recorder>) {
        self.0.push((direction, recorder));
    }

    pub fn remove(&mut self, recorder: &Arc<Recorder>) {
        self.0.retain(|(_, other)| !Arc::ptr_eq(other, recorder));
    }

    /// Notes frames that went `direction` at `timestamp`.
    pub fn see(&self, direction: Direction, timestamp: u64, batch: &FrameBatch<'_>, picks: &[u32]) {
        for (_, recorder) in self.0.iter().filter(|(way, _)| *way == direction) {
            recorder.record(direction, timestamp, batch, picks);
        }
    }

    /// Nanoseconds of Unix time; does not ask if nobody wants to know.
    pub fn timestamp(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_nanos().try_into().unwrap_or(u64::MAX)
    }
}
