//! The ceiling: frames copied from one e1000-style ring to another, by the plainest loop.
//!
//! A frame costs what no switch between two rings can save: read the sender's descriptor, look the
//! address up, copy, write the receiver's descriptor back. Nothing is checked, counted or queued.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use vmm_core::cpus;
use vmm_core::memory::GuestRam;

use super::caches::{prefetch, prefetch_for_write};
use super::{BATCH, BUFFER_BYTES, DD_EOP, FRAME_BYTES};

/// Descriptors per ring.
const RING_SIZES: [usize; 2] = [1024, 4096];
/// Frames that the caches are asked for ahead of the copy.
const LOOKAHEAD: u64 = 16;
/// Frames after which a thread tells the other how far it is.
const CHUNK: u64 = 32;
/// Where the sender writes a frame's number: behind addresses and type.
const SEQUENCE_AT: usize = 14;

/// Which of two threads copies.
#[derive(Clone, Copy)]
enum Mover {
    Sender,
    Receiver,
}

pub fn bench(criterion: &mut Criterion) {
    one_thread(criterion);
    let cpus = cpus::allowed().unwrap_or_default();
    if let [first, .., last] = cpus[..] {
        two_threads(criterion, "rings two threads, sender copies", Mover::Sender, [first, last]);
        two_threads(
            criterion,
            "rings two threads, receiver copies",
            Mover::Receiver,
            [first, last],
        );
    } else {
        eprintln!("one CPU only: copying between two threads is not measured");
    }
}

fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rings one thread");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in RING_SIZES {
        for bytes in FRAME_BYTES {
            let (table, from, to) = (Table::new(), Ring::new(size, bytes), Ring::new(size, bytes));
            let id = BenchmarkId::new(format!("ring of {size}"), bytes);
            group.bench_function(id, |bencher| {
                let mut at = 0;
                bencher.iter(|| {
                    forward(&table, &from, &to, at, BATCH as u64);
                    at += BATCH as u64;
                });
            });
        }
    }
}

fn two_threads(criterion: &mut Criterion, name: &str, mover: Mover, cpus: [usize; 2]) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in RING_SIZES {
        for bytes in FRAME_BYTES {
            let id = BenchmarkId::new(format!("ring of {size}"), bytes);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|batches| {
                    let (from, to) = (Ring::new(size, bytes), Ring::new(size, bytes));
                    cross(&from, &to, mover, batches * BATCH as u64, cpus)
                });
            });
        }
    }
}

/// Moves `frames` from a thread on the first CPU to one on the second.
fn cross(from: &Ring, to: &Ring, mover: Mover, frames: u64, cpus: [usize; 2]) -> Duration {
    let table = Table::new();
    // The ring that both threads touch.
    let shared = match mover {
        Mover::Sender => to,
        Mover::Receiver => from,
    };
    let on_cpu = |cpu| cpus::pin_thread(0, cpu).expect("the CPU is one of those allowed");
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            on_cpu(cpus[0]);
            for at in (0..frames).step_by(CHUNK as usize) {
                shared.await_room(at + CHUNK);
                (at..at + CHUNK).for_each(|index| from.stamp(index));
                if let Mover::Sender = mover {
                    forward(&table, from, to, at, CHUNK);
                }
                shared.filled.0.store(at + CHUNK, Ordering::Release);
            }
        });
        scope.spawn(|| {
            on_cpu(cpus[1]);
            for at in (0..frames).step_by(CHUNK as usize) {
                shared.await_frames(at + CHUNK);
                if let Mover::Receiver = mover {
                    forward(&table, from, to, at, CHUNK);
                }
                (at..at + CHUNK).for_each(|index| to.check(index));
                shared.emptied.0.store(at + CHUNK, Ordering::Release);
            }
        });
    });
    start.elapsed()
}

/// Copies frames `first..first + count`; the sender's and the receiver's indices are the same.
#[inline]
fn forward(table: &Table, from: &Ring, to: &Ring, first: u64, count: u64) {
    let rings = [from, to];
    for index in first..first + count {
        let ahead = index + LOOKAHEAD;
        prefetch(from.buffer(from.descriptor(ahead)[0]));
        prefetch_for_write(to.buffer(to.descriptor(ahead)[0]));
        if index.is_multiple_of(4) {
            prefetch_for_write(to.descriptor_at(ahead + LOOKAHEAD).cast());
        }
        let [address, fields] = from.descriptor(index);
        let (frame, len) = (from.buffer(address), fields as u16);
        // SAFETY: every buffer has more than 8 bytes.
        let target = unsafe { frame.cast::<u64>().read_unaligned() } & MAC_MASK;
        let to = rings[table.port(target)];
        let [buffer, _] = to.descriptor(index);
        // SAFETY: both buffers have BUFFER_BYTES, which is more than any length here, and lie in
        // different mappings. The thread at the other end keeps off: it waits for the counters.
        unsafe { frame.copy_to_nonoverlapping(to.buffer(buffer), usize::from(len)) };
        to.set_fields(index, u64::from(len) | DD_EOP);
    }
}

/// A value in cache lines of its own: two, since the neighbour is fetched too.
#[repr(align(128))]
struct Padded<T>(T);

/// A ring in guest memory: descriptors of a buffer's address and `length | status`, then the
/// buffers. Indices count on and on.
struct Ring {
    ram: GuestRam,
    base: *mut u8,
    size: u64,
    /// Frames put in so far.
    filled: Padded<AtomicU64>,
    /// Frames taken out so far.
    emptied: Padded<AtomicU64>,
}

// SAFETY: `base` is the mapping that `ram` holds, which any thread may access; who may touch which
// buffer is settled by the two counters.
unsafe impl Sync for Ring {}

impl Ring {
    /// A ring of `size` frames (a power of two) of `bytes` each, all to station 1.
    fn new(size: usize, bytes: usize) -> Self {
        let descriptors = (size * 16).next_multiple_of(4096);
        let ram = GuestRam::new((descriptors + size * BUFFER_BYTES) as u64).expect("memory");
        let ring = Self {
            base: ram.host_mapping().0 as *mut u8,
            ram,
            size: size as u64,
            filled: Padded(AtomicU64::new(0)),
            emptied: Padded(AtomicU64::new(0)),
        };
        for index in 0..size {
            let address = (descriptors + index * BUFFER_BYTES) as u64;
            // SAFETY: both are in the ring's memory, which nobody else knows yet.
            unsafe {
                ring.descriptor_at(index as u64).write([address, bytes as u64]);
                ring.buffer(address).cast::<u64>().write(station(1));
            }
        }
        ring
    }

    #[inline]
    fn descriptor_at(&self, index: u64) -> *mut [u64; 2] {
        // SAFETY: the masked index is below `size`, for which there is memory.
        unsafe { self.base.cast::<[u64; 2]>().add((index & (self.size - 1)) as usize) }
    }

    #[inline]
    fn descriptor(&self, index: u64) -> [u64; 2] {
        // SAFETY: in the mapping; volatile, because the owner may be writing to it when this is
        // only a look ahead, at the address, which never changes.
        unsafe { self.descriptor_at(index).read_volatile() }
    }

    #[inline]
    fn set_fields(&self, index: u64, fields: u64) {
        // SAFETY: in the mapping, and this thread's turn.
        unsafe { self.descriptor_at(index).cast::<u64>().add(1).write_volatile(fields) };
    }

    #[inline]
    fn buffer(&self, address: u64) -> *mut u8 {
        debug_assert!(address + BUFFER_BYTES as u64 <= self.ram.len());
        // SAFETY: descriptors hold addresses of buffers in the mapping only.
        unsafe { self.base.add(address as usize) }
    }

    fn sequence_at(&self, index: u64) -> *mut u64 {
        // SAFETY: a buffer is longer than an Ethernet header and 8 bytes.
        unsafe { self.buffer(self.descriptor(index)[0]).add(SEQUENCE_AT).cast() }
    }

    /// What a generator does: numbers the frame.
    #[inline]
    fn stamp(&self, index: u64) {
        // SAFETY: in the buffer, and the sender's turn.
        unsafe { self.sequence_at(index).write_unaligned(index) };
    }

    /// What a receiver does: looks at descriptor and number.
    #[inline]
    fn check(&self, index: u64) {
        prefetch(self.buffer(self.descriptor(index + LOOKAHEAD)[0]));
        let done = self.descriptor(index)[1] & DD_EOP == DD_EOP;
        // SAFETY: in the buffer, and the receiver's turn.
        let sequence = unsafe { self.sequence_at(index).read_unaligned() };
        assert!(done && sequence == index, "frame {index} arrived as {sequence}");
    }

    /// Waits until frames up to `end` fit in.
    fn await_room(&self, end: u64) {
        while end > self.emptied.0.load(Ordering::Acquire) + self.size {
            std::hint::spin_loop();
        }
    }

    /// Waits until frames up to `end` are there.
    fn await_frames(&self, end: u64) {
        while end > self.filled.0.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
    }
}

const MAC_MASK: u64 = (1 << 48) - 1;

/// Station `n`'s address, its first byte on the wire lowest.
fn station(n: u64) -> u64 {
    n << 40 | 2
}

/// As VALE's: one address per bucket, its port in the bits above.
struct Table(Box<[u64; Self::BUCKETS]>);

impl Table {
    const BUCKETS: usize = 1024;
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Stations 0 and 1 at the ports of the same number.
    fn new() -> Self {
        let mut table = Self(Box::new([0; Self::BUCKETS]));
        for port in 0..2 {
            table.0[Self::bucket(station(port))] = station(port) | port << 48;
        }
        table
    }

    #[inline]
    fn bucket(mac: u64) -> usize {
        (mac.wrapping_mul(Self::MULTIPLIER) >> (64 - Self::BUCKETS.ilog2())) as usize
    }

    #[inline]
    fn port(&self, mac: u64) -> usize {
        let entry = self.0[Self::bucket(mac)];
        assert!(entry & MAC_MASK == mac, "{mac:#x} is not in the table");
        (entry >> 48) as usize
    }
}
