//! The baseline before the switch existed: a TAP device, one system call per frame in each
//! direction, one notification per received frame, as under QEMU.
//!
//! Every frame is accounted for. Of what a NIC transmits, `tx_frames` went to the kernel and
//! `tx_dropped` says why the rest did not; of `rx_frames` read from the kernel, `rx_delivered` went
//! to the guest, `rx_refused` is what the receiver counted by its own causes, and `rx_dropped` is
//! the rest. What the kernel loses on the way shows in the interface's statistics, not here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use serde::Serialize;
use vm_memory::VolatileSlice;
use vm_memory::volatile_memory::PtrGuard;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Backend, ETH_HEADER_LEN, Frame, FrameBatch, Receiver};

/// Frames read between two looks at the stop signal; QEMU's TAP loop has the same bound.
const FRAMES_PER_WAKEUP: usize = 50;

/// Every frame is a delivery of its own, so the guest can get an interrupt for each, as under QEMU.
const ONE_FRAME: [u32; 1] = [0];

/// The most pieces that writev(2) takes (IOV_MAX).
const MAX_PIECES: usize = libc::UIO_MAXIOV as usize;

/// Why a TAP cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// /dev/net/tun cannot be opened: the node or the driver is missing, or access is denied.
    #[error("cannot open /dev/net/tun")]
    Open(#[source] io::Error),
    /// The kernel refused the interface: CAP_NET_ADMIN is missing or the name is taken or invalid.
    #[error("cannot create the TAP interface \"{name}\"")]
    Create {
        /// Requested interface name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused an interface that exists: EBUSY if it is held by somebody, EPERM if it is
    /// another user's, EINVAL if it is no TAP or one with several queues.
    #[error("cannot use the TAP interface \"{name}\"")]
    Attach {
        /// The interface's name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The descriptor could not be made nonblocking.
    #[error("cannot make the TAP descriptor nonblocking")]
    Nonblocking(#[source] io::Error),
    /// The receive thread or its stop signal could not be created.
    #[error("cannot start the TAP's receive thread")]
    Thread(#[source] io::Error),
}

/// An open TAP queue: frames without any header in front (IFF_TAP | IFF_NO_PI, no virtio-net
/// header), nonblocking. When it is dropped an interface that it created disappears, and one that it
/// attached to is free again.
#[derive(Debug)]
pub struct Tap {
    file: File,
    tx: TxCounters,
    rx: RxCounters,
}

/// For a program that takes the queue over; what it moves is not counted here.
impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Tap {
    /// Largest frame in bytes, either way: the largest MTU of a TAP plus the Ethernet header.
    pub const MAX_FRAME_LEN: usize = 65_535;

    /// Creates the TAP interface `name` (1 to 15 bytes) in the calling thread's network namespace.
    /// It is down and has no master.
    pub fn create(name: &str) -> Result<Self, TapError> {
        // EXCL: never attach to an interface that somebody else made.
        Self::open(name, libc::IFF_TUN_EXCL, |name, source| TapError::Create { name, source })
    }

    /// Attaches to the persistent TAP interface `name` of the calling thread's network namespace;
    /// needs no capability if it was made for this user, or for nobody in particular. It stays as it
    /// is: up or down, its addresses, its master.
    pub fn attach(name: &str) -> Result<Self, TapError> {
        Self::open(name, 0, |name, source| TapError::Attach { name, source })
    }

    fn open(
        name: &str,
        flags: libc::c_int,
        error: impl Fn(String, io::Error) -> TapError,
    ) -> Result<Self, TapError> {
        let refused = |source| error(name.to_owned(), source);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(TapError::Open)?;
        // SAFETY: ifreq is plain data, for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // An empty name would let the kernel choose; the last byte stays the terminator.
        if name.is_empty() || name.len() >= request.ifr_name.len() {
            return Err(refused(io::ErrorKind::InvalidInput.into()));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | flags;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one ifreq, which lives across the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) } < 0 {
            return Err(refused(io::Error::last_os_error()));
        }
        Ok(Self::new(file))
    }

    /// Takes over an attached queue that somebody else opened; makes it nonblocking.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, TapError> {
        let raw = fd.as_raw_fd();
        // SAFETY: plain flag operations on a descriptor that `fd` keeps open.
        let result = unsafe {
            match libc::fcntl(raw, libc::F_GETFL) {
                -1 => -1,
                flags => libc::fcntl(raw, libc::F_SETFL, flags | libc::O_NONBLOCK),
            }
        };
        if result < 0 {
            return Err(TapError::Nonblocking(io::Error::last_os_error()));
        }
        Ok(Self::new(fd.into()))
    }

    fn new(file: File) -> Self {
        Self { file, tx: TxCounters::default(), rx: RxCounters::default() }
    }

    /// Starts the thread `tap:<name>`, which hands every frame that arrives to `receiver` until the
    /// returned guard is dropped.
    pub fn spawn_receiver(
        self: &Arc<Self>,
        name: &str,
        receiver: Arc<dyn Receiver>,
    ) -> Result<TapReceiver, TapError> {
        let stop = EventFd::new(EFD_NONBLOCK).map_err(TapError::Thread)?;
        let stopped = stop.try_clone().map_err(TapError::Thread)?;
        let tap = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name(format!("tap:{name}"))
            .spawn(move || {
                if let Err(error) = tap.receive_until(&stopped, &*receiver) {
                    tracing::error!(%error, "a TAP stopped receiving");
                }
            })
            .map_err(TapError::Thread)?;
        Ok(TapReceiver { stop, thread: Some(thread) })
    }

    /// What has passed so far.
    pub fn counters(&self) -> TapCounters {
        let (tx, rx) = (&self.tx, &self.rx);
        TapCounters {
            tx_syscalls: tx.syscalls.get(),
            tx_frames: tx.frames.get(),
            tx_bytes: tx.bytes.get(),
            tx_dropped: TapTxDropped {
                runt: tx.runt.get(),
                oversize: tx.oversize.get(),
                too_many_pieces: tx.too_many_pieces.get(),
                would_block: tx.would_block.get(),
                no_buffers: tx.no_buffers.get(),
                interface_down: tx.interface_down.get(),
                other: tx.other.get(),
            },
            rx_syscalls: rx.syscalls.get(),
            rx_frames: rx.frames.get(),
            rx_bytes: rx.bytes.get(),
            rx_delivered: rx.delivered.get(),
            rx_refused: rx.refused.get(),
            rx_dropped: TapRxDropped { runt: rx.runt.get(), oversize: rx.oversize.get() },
        }
    }

    fn send(&self, frame: Frame<'_>, pieces: &mut Pieces) {
        let tx = &self.tx;
        if frame.len() < ETH_HEADER_LEN {
            return tx.runt.add(1);
        }
        // The kernel would take it, and the bridge lose it without a trace.
        if frame.len() > Self::MAX_FRAME_LEN {
            return tx.oversize.add(1);
        }
        if frame.spans().len() > MAX_PIECES {
            return tx.too_many_pieces.add(1);
        }
        loop {
            tx.syscalls.add(1);
            // A TAP takes a frame whole or not at all.
            let Err(error) = pieces.write(&self.file, frame.spans()) else {
                break;
            };
            return match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN) => tx.would_block.add(1),
                Some(libc::ENOBUFS | libc::ENOMEM) => tx.no_buffers.add(1),
                Some(libc::EIO) => tx.interface_down.add(1),
                _ => {
                    tracing::debug!(%error, "the kernel refused a frame");
                    tx.other.add(1);
                }
            };
        }
        tx.frames.add(1);
        tx.bytes.add(frame.len() as u64);
    }

    /// Delivers frames until `stop` is signalled or the other end is gone.
    fn receive_until(&self, stop: &EventFd, receiver: &dyn Receiver) -> io::Result<()> {
        // One byte more than a frame may have: a TAP cuts what does not fit and does not tell.
        let mut buffer = vec![0; Self::MAX_FRAME_LEN + 1];
        let mut spare = FrameBatch::new();
        let rx = &self.rx;
        while self.wait_readable(stop)? {
            for _ in 0..FRAMES_PER_WAKEUP {
                rx.syscalls.add(1);
                let len = match (&self.file).read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(len) => len,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(e),
                };
                rx.frames.add(1);
                rx.bytes.add(len as u64);
                if len < ETH_HEADER_LEN {
                    rx.runt.add(1);
                } else if len > Self::MAX_FRAME_LEN {
                    rx.oversize.add(1);
                } else {
                    let mut batch = spare.recycle();
                    batch.push_span(VolatileSlice::from(&mut buffer[..len]));
                    batch.end_frame();
                    match receiver.receive(&batch, &ONE_FRAME) {
                        0 => rx.refused.add(1),
                        _ => rx.delivered.add(1),
                    }
                    spare = batch.recycle();
                }
            }
        }
        Ok(())
    }

    /// Sleeps until a frame may be there; false when told to stop.
    fn wait_readable(&self, stop: &EventFd) -> io::Result<bool> {
        let watch = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [watch(self.file.as_raw_fd()), watch(stop.as_raw_fd())];
        loop {
            self.rx.syscalls.add(1);
            // SAFETY: `fds` outlives the call, which writes only to its `revents`.
            if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) } >= 0 {
                return Ok(fds[1].revents == 0);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// Stops its TAP's receive thread, and waits for it, when dropped.
#[derive(Debug)]
pub struct TapReceiver {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl TapReceiver {
    /// Whether it delivers no more, because the interface is gone.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for TapReceiver {
    fn drop(&mut self) {
        // Fails only if the counter would overflow, and then the signal is already there.
        let _ = self.stop.write(1);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("a TAP's receive thread panicked");
        }
    }
}

/// The transmit side of a TAP, for a NIC to own.
#[derive(Debug)]
pub struct TapBackend {
    tap: Arc<Tap>,
    pieces: Pieces,
}

impl TapBackend {
    /// Sends through `tap`.
    pub fn new(tap: Arc<Tap>) -> Self {
        Self { tap, pieces: Pieces::default() }
    }
}

impl Backend for TapBackend {
    fn transmit(&mut self, batch: &FrameBatch<'_>) {
        for frame in batch.iter() {
            self.tap.send(frame, &mut self.pieces);
        }
    }
}

/// Scratch space for the pieces of one frame, kept to save an allocation per frame.
#[derive(Debug, Default)]
struct Pieces {
    guards: Vec<PtrGuard>,
    iovecs: Vec<libc::iovec>,
}

// SAFETY: both vectors are empty between calls of `write`, so only their capacity changes threads.
unsafe impl Send for Pieces {}

impl Pieces {
    /// Writes `spans`, at most [`MAX_PIECES`], as one frame.
    fn write(&mut self, file: &File, spans: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.guards.extend(spans.iter().map(VolatileSlice::ptr_guard));
        self.iovecs.extend(self.guards.iter().map(|guard| libc::iovec {
            iov_base: guard.as_ptr().cast_mut().cast(),
            iov_len: guard.len(),
        }));
        let count = self.iovecs.len() as libc::c_int;
        // SAFETY: each iovec is a view of memory that its guard keeps mapped until after the call,
        // and writev only reads from it. The guest may change the bytes meanwhile: the kernel
        // copies them as raw memory, and no Rust reference to them exists.
        let written = unsafe { libc::writev(file.as_raw_fd(), self.iovecs.as_ptr(), count) };
        let result = if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        self.iovecs.clear();
        self.guards.clear();
        result
    }
}

/// What passed through a TAP, in frames unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TapCounters {
    /// System calls made to transmit.
    pub tx_syscalls: u64,
    /// Taken by the kernel.
    pub tx_frames: u64,
    /// Bytes of those, without the frame check sequence.
    pub tx_bytes: u64,
    /// Not taken by the kernel.
    pub tx_dropped: TapTxDropped,
    /// System calls made to receive: read(2), also those that found nothing, and poll(2).
    pub rx_syscalls: u64,
    /// Read from the kernel.
    pub rx_frames: u64,
    /// Bytes of those, without the frame check sequence.
    pub rx_bytes: u64,
    /// Taken by the receiver.
    pub rx_delivered: u64,
    /// Not taken by the receiver, which counts them by cause.
    pub rx_refused: u64,
    /// Never shown to the receiver.
    pub rx_dropped: TapRxDropped,
}

/// Frames that a guest sent and the kernel did not get, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TapTxDropped {
    /// Shorter than an Ethernet header.
    pub runt: u64,
    /// Longer than [`Tap::MAX_FRAME_LEN`].
    pub oversize: u64,
    /// In more pieces than writev(2) takes.
    pub too_many_pieces: u64,
    /// EAGAIN: the TAP's send buffer was full.
    pub would_block: u64,
    /// ENOBUFS or ENOMEM: the kernel was out of memory.
    pub no_buffers: u64,
    /// EIO: the interface was down.
    pub interface_down: u64,
    /// Any other error.
    pub other: u64,
}

impl TapTxDropped {
    /// All causes together.
    pub fn total(&self) -> u64 {
        let Self {
            runt,
            oversize,
            too_many_pieces,
            would_block,
            no_buffers,
            interface_down,
            other,
        } = self;
        runt + oversize + too_many_pieces + would_block + no_buffers + interface_down + other
    }
}

/// Frames that the kernel handed over and no receiver can take, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TapRxDropped {
    /// Shorter than an Ethernet header.
    pub runt: u64,
    /// Longer than [`Tap::MAX_FRAME_LEN`].
    pub oversize: u64,
}

impl TapRxDropped {
    /// All causes together.
    pub fn total(&self) -> u64 {
        self.runt + self.oversize
    }
}

/// A counter that others may read at any time.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Written by the thread that transmits; on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct TxCounters {
    syscalls: Counter,
    frames: Counter,
    bytes: Counter,
    runt: Counter,
    oversize: Counter,
    too_many_pieces: Counter,
    would_block: Counter,
    no_buffers: Counter,
    interface_down: Counter,
    other: Counter,
}

/// Written by the receive thread; on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct RxCounters {
    syscalls: Counter,
    frames: Counter,
    bytes: Counter,
    delivered: Counter,
    refused: Counter,
    runt: Counter,
    oversize: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::GuestRam;
    use crate::namespace::enter_private_net;
    use std::io::Write;
    use std::os::unix::net::UnixDatagram;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};
    use vm_memory::Bytes;

    /// Keeps what it receives, except frames whose first byte is `REFUSED`.
    #[derive(Default)]
    struct Sink(Mutex<Vec<Vec<u8>>>);

    const REFUSED: u8 = 0xee;

    impl Receiver for Sink {
        fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
            assert_eq!((batch.len(), picks), (1, &[0][..]), "each frame on its own");
            let mut bytes = vec![0; batch.frame(0).len()];
            batch.frame(0).copy_out(0, &mut bytes);
            let taken = bytes[0] != REFUSED;
            if taken {
                self.0.lock().unwrap().push(bytes);
            }
            taken.into()
        }
    }

    /// A TAP whose kernel side is a datagram socket: it keeps frame boundaries, too.
    fn tap_and_wire() -> (Arc<Tap>, UnixDatagram) {
        let (tap, wire) = UnixDatagram::pair().unwrap();
        (Arc::new(Tap::from_fd(tap.into()).unwrap()), wire)
    }

    /// A batch of one frame of `len` bytes, in pieces of at most `piece`.
    fn frame_of(ram: &GuestRam, len: usize, piece: usize) -> FrameBatch<'_> {
        let mut batch = FrameBatch::new();
        for at in (0..len).step_by(piece) {
            batch.push_span(ram.slice(at as u64, piece.min(len - at)).unwrap());
        }
        batch.end_frame();
        batch
    }

    fn eventually(what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_pieces_of_a_frame_leave_as_one() {
        let (tap, wire) = tap_and_wire();
        let ram = GuestRam::new(4096).unwrap();
        let bytes: Vec<u8> = (0..100).collect();
        ram.slice(0, 100).unwrap().write_slice(&bytes, 0).unwrap();
        let mut backend = TapBackend::new(tap.clone());
        for piece in [100, 33, 1] {
            backend.transmit(&frame_of(&ram, 100, piece));
            let mut got = [0; 256];
            assert_eq!(wire.recv(&mut got).unwrap(), 100, "pieces of {piece}");
            assert_eq!(got[..100], bytes);
        }
        let expected =
            TapCounters { tx_syscalls: 3, tx_frames: 3, tx_bytes: 300, ..TapCounters::default() };
        assert_eq!(tap.counters(), expected);
    }

    #[test]
    fn what_cannot_be_sent_costs_no_system_call() {
        let (tap, wire) = tap_and_wire();
        let ram = GuestRam::new(128 << 10).unwrap();
        let mut backend = TapBackend::new(tap.clone());
        backend.transmit(&frame_of(&ram, ETH_HEADER_LEN - 1, 64));
        backend.transmit(&frame_of(&ram, Tap::MAX_FRAME_LEN + 1, 65536));
        backend.transmit(&frame_of(&ram, MAX_PIECES + 1, 1));
        let dropped =
            TapTxDropped { runt: 1, oversize: 1, too_many_pieces: 1, ..TapTxDropped::default() };
        assert_eq!(tap.counters(), TapCounters { tx_dropped: dropped, ..TapCounters::default() });
        assert_eq!(dropped.total(), 3);

        backend.transmit(&frame_of(&ram, ETH_HEADER_LEN, 64));
        backend.transmit(&frame_of(&ram, Tap::MAX_FRAME_LEN, 65536));
        backend.transmit(&frame_of(&ram, MAX_PIECES, 1));
        let lengths = [0; 3].map(|_| wire.recv(&mut [0; 65536]).unwrap());
        assert_eq!(lengths, [ETH_HEADER_LEN, Tap::MAX_FRAME_LEN, MAX_PIECES]);
    }

    #[test]
    fn a_full_kernel_queue_drops_and_adds_up() {
        let (tap, wire) = tap_and_wire();
        let ram = GuestRam::new(4096).unwrap();
        let mut backend = TapBackend::new(tap.clone());
        for _ in 0..10_000 {
            backend.transmit(&frame_of(&ram, 60, 60));
        }
        let sent = tap.counters();
        assert!(sent.tx_dropped.would_block > 0);
        assert_eq!(sent.tx_dropped.total(), sent.tx_dropped.would_block);
        assert_eq!(sent.tx_frames + sent.tx_dropped.would_block, 10_000);
        assert_eq!(sent.tx_syscalls, 10_000);
        wire.set_nonblocking(true).unwrap();
        let queued = std::iter::from_fn(|| wire.recv(&mut [0; 64]).ok()).count();
        assert_eq!(queued as u64, sent.tx_frames);

        drop(wire);
        backend.transmit(&frame_of(&ram, 60, 60));
        assert_eq!(tap.counters().tx_dropped.other, 1);
    }

    #[test]
    fn every_frame_received_is_accounted_for() {
        let (tap, wire) = tap_and_wire();
        let sink = Arc::new(Sink::default());
        let guard = tap.spawn_receiver("guest", sink.clone()).unwrap();
        let mut expected = Vec::new();
        for n in 0..500_usize {
            let frame = vec![n as u8 & 0x7f; ETH_HEADER_LEN + n];
            wire.send(&frame).unwrap();
            expected.push(frame);
        }
        wire.send(&[0; ETH_HEADER_LEN - 1]).unwrap();
        wire.send(&[REFUSED; 60]).unwrap();
        wire.send(&vec![0; Tap::MAX_FRAME_LEN + 1]).unwrap();
        wire.send(&vec![1; Tap::MAX_FRAME_LEN]).unwrap();
        expected.push(vec![1; Tap::MAX_FRAME_LEN]);
        eventually("all frames arrive", || tap.counters().rx_frames == 504);
        drop(guard);

        let got = tap.counters();
        assert_eq!((got.rx_delivered, got.rx_refused), (501, 1));
        assert_eq!(got.rx_dropped, TapRxDropped { runt: 1, oversize: 1 });
        assert_eq!(got.rx_frames, got.rx_delivered + got.rx_refused + got.rx_dropped.total());
        assert!(got.rx_syscalls >= got.rx_frames);
        assert!(*sink.0.lock().unwrap() == expected, "same frames, same order");
    }

    #[test]
    fn dropping_the_guard_stops_a_busy_receiver() {
        let (tap, wire) = tap_and_wire();
        wire.set_nonblocking(true).unwrap();
        let sink = Arc::new(Sink::default());
        let guard = tap.spawn_receiver("guest", sink.clone()).unwrap();
        let flooding = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while flooding.load(Relaxed) {
                    let _ = wire.send(&[REFUSED; 60]);
                }
            });
            eventually("frames flow", || tap.counters().rx_frames > 100);
            drop(guard);
            let after = tap.counters();
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(tap.counters(), after, "nobody reads any more");
            flooding.store(false, Relaxed);
        });
        assert_eq!(Arc::strong_count(&sink), 1, "the thread let go of its receiver");
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        for name in ["", "sixteen-bytes-xx"] {
            for open in [Tap::create, Tap::attach] {
                match open(name) {
                    Err(TapError::Create { name: refused, .. })
                    | Err(TapError::Attach { name: refused, .. }) => assert_eq!(refused, name),
                    // A host without the driver cannot tell.
                    Err(TapError::Open(_)) => {}
                    other => panic!("{name:?}: {other:?}"),
                }
            }
        }
    }

    /// Whether this process may create network namespaces and TAPs; says so loudly if not.
    fn may_create_taps() -> bool {
        const NET_ADMIN_AND_SYS_ADMIN: u64 = 1 << 12 | 1 << 21;
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
        let caps = u64::from_str_radix(caps, 16).unwrap();
        let may = caps & NET_ADMIN_AND_SYS_ADMIN == NET_ADMIN_AND_SYS_ADMIN;
        if !may {
            // The test harness would keep what is printed with a macro.
            let _ = writeln!(io::stderr(), "SKIPPED: needs CAP_NET_ADMIN and CAP_SYS_ADMIN");
        }
        may
    }

    /// The kernel's view of an interface of this thread's namespace: frames it got from the TAP's
    /// holder, and frames the holder read.
    fn kernel_counts(interface: &str) -> (u64, u64) {
        let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let row = table.lines().find_map(|l| l.trim().strip_prefix(interface)?.strip_prefix(':'));
        let fields: Vec<u64> =
            row.unwrap().split_whitespace().map(|field| field.parse().unwrap()).collect();
        (fields[1], fields[9])
    }

    fn bring_up(interface: &str) {
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        // Any socket takes interface requests.
        let socket = UnixDatagram::unbound().unwrap();
        // SAFETY: ifreq is plain data, for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives across the call.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// Sends `frame` out of `interface` as the host's own stack would.
    fn send_from_host(interface: &str, frame: &[u8]) {
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: the pointers are to live locals of the sizes given; the socket is closed below.
        unsafe {
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
            assert!(socket >= 0);
            let mut to: libc::sockaddr_ll = std::mem::zeroed();
            to.sll_family = libc::AF_PACKET as u16;
            to.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let (to, size) = ((&raw const to).cast(), size_of_val(&to) as libc::socklen_t);
            let sent = libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, to, size);
            assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
            libc::close(socket);
        }
    }

    #[test]
    fn a_real_tap_carries_frames_both_ways() {
        if !may_create_taps() {
            return;
        }
        // A thread of its own: the namespace ends with it.
        let in_namespace = || {
            enter_private_net().unwrap();
            let tap = Arc::new(Tap::create("guest-0").unwrap());
            assert!(matches!(Tap::create("guest-0"), Err(TapError::Create { .. })), "no sharing");
            let held = Tap::attach("guest-0").unwrap_err();
            assert!(
                matches!(&held, TapError::Attach { source, .. } if source.raw_os_error() == Some(libc::EBUSY)),
                "{held:?}"
            );
            let ram = GuestRam::new(4096).unwrap();
            let mut backend = TapBackend::new(tap.clone());

            backend.transmit(&frame_of(&ram, 60, 60));
            assert_eq!(tap.counters().tx_dropped.interface_down, 1);
            assert_eq!(tap.counters().tx_frames, 0);

            bring_up("guest-0");
            for piece in [60, 7] {
                backend.transmit(&frame_of(&ram, 60, piece));
            }
            assert_eq!((tap.counters().tx_frames, kernel_counts("guest-0").0), (2, 2));

            let sink = Arc::new(Sink::default());
            let guard = tap.spawn_receiver("guest", sink.clone()).unwrap();
            let frames: Vec<Vec<u8>> = (0..100).map(|n| vec![n; 60 + n as usize]).collect();
            for frame in &frames {
                send_from_host("guest-0", frame);
            }
            eventually("all frames arrive", || tap.counters().rx_frames >= 100);
            drop(guard);
            assert!(*sink.0.lock().unwrap() == frames, "same frames, same order");
            assert_eq!(kernel_counts("guest-0").1, 100);
        };
        std::thread::spawn(in_namespace).join().unwrap();
    }
}
