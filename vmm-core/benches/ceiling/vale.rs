//! The VALE switch alone: frames in memory, receivers in memory, no guest and no NIC.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use vm_memory::{VolatileMemory, VolatileSlice};
use vmm_core::backend::{Backend, FrameBatch, Receiver};
use vmm_core::clock::MonotonicClock;
use vmm_core::memory::GuestRam;
use vmm_core::switch::{Port, PortCounters, Switch};

use super::caches::{prefetch, prefetch_for_write};
use super::{BATCH, BUFFER_BYTES, DD_EOP, FRAME_BYTES};

const PORTS: [usize; 6] = [2, 4, 8, 16, 32, 64];
/// Frames that the sender has in memory, and sends in turn.
const FRAMES: usize = 1024;
/// Buffers of all receivers together: the figures are to show what ports cost, and not what the
/// caches make of the memory of more guests.
const BUFFERS: usize = 4096;
/// Bytes of a descriptor with its buffer.
const PLACE_BYTES: usize = 16 + BUFFER_BYTES;
/// Frames whose buffers are fetched ahead of the copy, as in the e1000.
const LOOKAHEAD: usize = 16;
const CACHE_LINE: usize = 64;

/// What the first port sends.
#[derive(Clone, Copy)]
enum Traffic {
    /// To all other stations in turn, known to the switch: the smallest lists per destination.
    Unicast,
    /// Broadcasts.
    Flooded,
    /// To stations that nobody has ever heard of, a new one in every frame.
    UnknownDestinations,
    /// Unicast, from an address that is new in every frame.
    NewSources,
}

/// What the other ports do with it.
#[derive(Clone, Copy)]
enum Sink {
    /// Copy it into a ring in memory.
    Copying,
    /// Count it: what is left is the switch's own cost.
    Counting,
}

pub fn bench(criterion: &mut Criterion) {
    // One arena for all cases: making it costs more than measuring with it.
    let bytes = FRAMES * BUFFER_BYTES + BUFFERS * PLACE_BYTES;
    let arena = GuestRam::new(bytes.next_multiple_of(4096) as u64).expect("memory");
    for (name, traffic) in [
        ("unicast", Traffic::Unicast),
        ("flooded", Traffic::Flooded),
        ("unknown destinations", Traffic::UnknownDestinations),
        ("new sources", Traffic::NewSources),
    ] {
        for (verb, sink) in [("copied", Sink::Copying), ("counted", Sink::Counting)] {
            let mut group = criterion.benchmark_group(format!("vale {name}, {verb}"));
            group.throughput(Throughput::Elements(BATCH as u64));
            for ports in PORTS {
                for bytes in FRAME_BYTES {
                    let id = BenchmarkId::new(format!("{ports} ports"), bytes);
                    group.bench_function(id, |bencher| {
                        let mut bed = Bed::new(&arena, ports, bytes, traffic, sink);
                        bencher.iter_custom(|batches| bed.run(batches, traffic));
                    });
                }
            }
        }
    }
}

/// A switch with a sender on port 0 and a receiver on every other port.
struct Bed<'m> {
    arena: &'m GuestRam,
    switch: Switch,
    sender: Port,
    /// The other ports, and what they are connected to: the switch does not keep either alive.
    others: Vec<(Port, Arc<dyn Receiver>)>,
    batch: FrameBatch<'m>,
    bytes: usize,
    /// The next frame to go out.
    next: usize,
    random: SmallRng,
}

impl<'m> Bed<'m> {
    fn new(arena: &'m GuestRam, ports: usize, bytes: usize, traffic: Traffic, sink: Sink) -> Self {
        let switch = Switch::new("bench", Arc::new(MonotonicClock::new()));
        let sender = switch.attach().expect("a free port");
        let others = (1..ports)
            .map(|n| {
                let mut port = switch.attach().expect("a free port");
                let receiver: Arc<dyn Receiver> = match sink {
                    Sink::Copying => Arc::new(MemoryRing::new(arena, n, BUFFERS / ports)),
                    Sink::Counting => Arc::new(Counter),
                };
                switch.connect(port.index(), &receiver);
                // The switch learns where the station is.
                write_header(arena, 0, BROADCAST, station(n));
                let mut hello = FrameBatch::new();
                gather(arena, 0..1, bytes, &mut hello);
                port.transmit(&hello);
                (port, receiver)
            })
            .collect();
        let mut random = SmallRng::seed_from_u64(1);
        for index in 0..FRAMES {
            let target = match traffic {
                Traffic::Unicast | Traffic::NewSources => station(1 + index % (ports - 1)),
                Traffic::Flooded => BROADCAST,
                Traffic::UnknownDestinations => stranger(&mut random),
            };
            write_header(arena, index, target, station(0));
        }
        Self { arena, switch, sender, others, batch: FrameBatch::new(), bytes, next: 0, random }
    }

    /// Sends so many batches; the time that the switch and the receivers took.
    fn run(&mut self, batches: u64, traffic: Traffic) -> Duration {
        let before = self.counters();
        let mut elapsed = Duration::ZERO;
        for _ in 0..batches {
            let frames = self.next..self.next + BATCH;
            self.next = frames.end % FRAMES;
            if let Traffic::NewSources = traffic {
                frames.clone().for_each(|index| self.renew_source(index));
            }
            let start = Instant::now();
            gather(self.arena, frames, self.bytes, &mut self.batch);
            self.sender.transmit(&self.batch);
            elapsed += start.elapsed();
        }
        self.audit(&before, traffic);
        elapsed
    }

    /// Writes a source address that nobody has ever seen into a frame.
    fn renew_source(&mut self, index: usize) {
        let source = stranger(&mut self.random);
        write(self.arena, index * BUFFER_BYTES + 6, &source);
    }

    fn counters(&self) -> PortCounters {
        self.switch.counters()[usize::from(self.sender.index())].1
    }

    /// A figure of frames that did not arrive would be worth nothing.
    fn audit(&self, before: &PortCounters, traffic: Traffic) {
        let after = self.counters();
        let sent = after.frames_in - before.frames_in;
        let copies = match traffic {
            Traffic::Unicast | Traffic::NewSources => sent,
            Traffic::Flooded | Traffic::UnknownDestinations => sent * self.others.len() as u64,
        };
        assert_eq!(after.delivered - before.delivered, copies, "{after:?}");
    }
}

type Address = [u8; 6];

const BROADCAST: Address = [0xff; 6];

/// The address of the guest on port `n`.
fn station(n: usize) -> Address {
    [2, 0, 0, 0, 0, n as u8]
}

/// An address that is none of the stations'.
fn stranger(random: &mut SmallRng) -> Address {
    let [a, b, c, d] = random.random::<u32>().to_le_bytes();
    [2, 1, a, b, c, d]
}

fn write_header(arena: &GuestRam, index: usize, target: Address, source: Address) {
    write(arena, index * BUFFER_BYTES, &target);
    write(arena, index * BUFFER_BYTES + 6, &source);
}

fn write(arena: &GuestRam, at: usize, bytes: &[u8]) {
    slice(arena, at, bytes.len()).copy_from(bytes);
}

fn slice(arena: &GuestRam, at: usize, len: usize) -> VolatileSlice<'_> {
    arena.slice(at as u64, len).expect("the arena has room for the senders and the rings")
}

/// Fills `batch` with the sender's frames, as a NIC that reads its ring does.
fn gather<'m>(arena: &'m GuestRam, frames: Range<usize>, bytes: usize, batch: &mut FrameBatch<'m>) {
    batch.clear();
    for index in frames {
        let frame = |index| slice(arena, index % FRAMES * BUFFER_BYTES, bytes);
        prefetch(frame(index + LOOKAHEAD).ptr_guard().as_ptr());
        batch.push_span(frame(index));
        batch.end_frame();
    }
}

/// A receiver that takes every frame and does nothing with it.
struct Counter;

impl Receiver for Counter {
    fn receive(&self, _batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
        picks.len()
    }
}

/// A receiver that does what the e1000 does when the guest has buffers and nothing is special:
/// reads descriptors, copies, writes back.
struct MemoryRing {
    arena: GuestRam,
    base: u64,
    /// Descriptors, a power of two.
    size: usize,
    /// The next descriptor; counts on and on.
    head: Mutex<usize>,
}

impl MemoryRing {
    /// The ring of port `n`, behind the sender's frames: descriptors, then buffers.
    fn new(arena: &GuestRam, n: usize, size: usize) -> Self {
        let base = FRAMES * BUFFER_BYTES + n * size * PLACE_BYTES;
        for index in 0..size {
            let buffer = (base + size * 16 + index * BUFFER_BYTES) as u64;
            write(arena, base + index * 16, &buffer.to_le_bytes());
        }
        Self { arena: arena.clone(), base: base as u64, size, head: Mutex::new(0) }
    }
}

impl Receiver for MemoryRing {
    fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
        let mut head = self.head.lock();
        let Some(ring) = self.arena.array::<[u64; 2]>(self.base, self.size) else { return 0 };
        let at = |index: usize| index & (self.size - 1);
        let buffer = |index, len| self.arena.slice(ring.load(at(index))[0], len);
        let mut taken = 0;
        for chunk in picks.chunks(LOOKAHEAD) {
            // As many as are used up here: what one batch takes, the next will.
            for ahead in 0..chunk.len() {
                if let Some(line) = buffer(*head + chunk.len() + ahead, CACHE_LINE) {
                    prefetch_for_write(line.ptr_guard().as_ptr());
                }
            }
            if let Ok(descriptor) = ring.to_slice().offset(at(*head + 2 * LOOKAHEAD) * 16) {
                prefetch_for_write(descriptor.ptr_guard().as_ptr());
            }
            for pick in chunk {
                let frame = batch.frame(*pick as usize);
                let Some(target) = buffer(*head, frame.len()) else { break };
                frame.copy_to_guest(0, target);
                fence(Ordering::Release);
                let fields = frame.len() as u64 | DD_EOP;
                if let Ok(word) = ring.to_slice().get_ref::<u64>(at(*head) * 16 + 8) {
                    word.store(fields);
                }
                *head += 1;
                taken += 1;
            }
        }
        taken
    }
}
