//! Cables on plain memory: a clock that is moved by hand, and ends that record.

mod captures;
mod conservation;
mod fabric;
mod timing;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use super::*;
use crate::backend::{Feed, Flow, FrameBatch};
use crate::clock::{ManualClock, Timer};
use crate::memory::GuestRam;

/// The test says when it is time.
pub struct NoTimer;

impl Timer for NoTimer {
    fn arm(&self, _deadline: u64) {}
}

/// What an end has got: the tag of each frame.
#[derive(Default)]
pub struct Inbox {
    pub got: Mutex<Vec<u8>>,
    /// Frames that it turns away before it takes the next.
    pub refuses: AtomicUsize,
}

impl Inbox {
    pub fn take(&self) -> Vec<u8> {
        self.got.lock().drain(..).collect()
    }
}

impl Receiver for Inbox {
    fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
        let mut got = self.got.lock();
        let before = got.len();
        for pick in picks {
            if self.refuses.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                continue;
            }
            let mut tag = [0];
            batch.frame(*pick as usize).copy_out(14, &mut tag);
            got.push(tag[0]);
        }
        got.len() - before
    }

    fn room(&self, _flow: Flow) -> usize {
        17
    }

    fn send_waiting(&self, most: usize) -> usize {
        most / 2
    }
}

/// A backend that leads to an inbox, with room for two frames of a stream.
pub struct Outlet(pub Arc<Inbox>);

struct NoFeed;

impl Feed for NoFeed {
    fn pull(&self, _most: usize) {}
}

impl Backend for Outlet {
    fn transmit(&mut self, batch: &FrameBatch<'_>) {
        self.0.receive(batch, &(0..batch.len() as u32).collect::<Vec<_>>());
    }

    fn transmit_while_room(&mut self, batch: &FrameBatch<'_>) -> usize {
        self.0.receive(batch, &(0..batch.len().min(2) as u32).collect::<Vec<_>>())
    }

    fn feed(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(NoFeed))
    }
}

/// A NIC's cable with an inbox at each end.
pub struct Bench {
    pub clock: Arc<ManualClock>,
    pub agenda: Arc<Agenda>,
    pub cable: Cable,
    pub ram: GuestRam,
    /// What A sends into, and what B has got.
    pub from_nic: Box<dyn Backend>,
    pub port: Arc<Inbox>,
    /// What B delivers to, and what A has got.
    pub to_nic: Arc<dyn Receiver>,
    pub nic: Arc<Inbox>,
}

pub const MS: u64 = 1_000_000;

pub fn agenda(clock: &Arc<ManualClock>) -> Arc<Agenda> {
    Arc::new(Agenda::new(clock.clone(), Arc::new(NoTimer)))
}

/// A broadcast of `len` bytes for each tag, at the start of `ram`.
pub fn frames<'r>(ram: &'r GuestRam, tags: &[u8], len: usize) -> FrameBatch<'r> {
    addressed(ram, 0, None, tags, len)
}

/// The same to a station, or to all of them.
pub fn addressed<'r>(
    ram: &'r GuestRam,
    source: u8,
    target: Option<u8>,
    tags: &[u8],
    len: usize,
) -> FrameBatch<'r> {
    let station = |n| [2, 0, 0, 0, 0, n];
    let target = target.map_or([0xff; 6], station);
    let mut batch = FrameBatch::new();
    for (index, tag) in tags.iter().enumerate() {
        let span = ram.slice((index * len) as u64, len).unwrap();
        let header = [&target[..], &station(source), &[0x88, 0xb5], &[*tag]].concat();
        span.copy_from(&header[..]);
        batch.push_frame(span);
    }
    batch
}

impl Bench {
    pub fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_000 * MS));
        let agenda = agenda(&clock);
        let cable = Cable::with_agenda("left:0", &agenda, 1);
        let (port, nic) = (Arc::new(Inbox::default()), Arc::new(Inbox::default()));
        let from_nic = cable.from_nic(Box::new(Outlet(port.clone())));
        let to_nic = cable.to_nic(nic.clone());
        let ram = GuestRam::new(2 << 20).unwrap();
        Self { clock, agenda, cable, ram, from_nic, port, to_nic, nic }
    }

    /// Sends 60-byte frames from the NIC.
    pub fn send(&mut self, tags: &[u8]) {
        self.from_nic.transmit(&frames(&self.ram, tags, 60));
    }

    /// Delivers 60-byte frames to the NIC.
    pub fn deliver(&self, tags: &[u8]) -> usize {
        let picks: Vec<u32> = (0..tags.len() as u32).collect();
        self.to_nic.receive(&frames(&self.ram, tags, 60), &picks)
    }

    pub fn impair(&self, impairments: Impairments) {
        self.cable.impair(End::A, impairments).unwrap();
        self.cable.impair(End::B, impairments).unwrap();
    }

    /// Lets time pass, and the courier do its rounds.
    pub fn pass(&self, ns: u64) {
        self.clock.advance(ns);
        self.agenda.turn();
    }

    /// Whether the books balance, both ways.
    pub fn audit(&self) -> [CableCounters; 2] {
        [End::A, End::B].map(|end| {
            let c = self.cable.counters(end);
            let out = c.delivered + c.refused + c.dropped.total() + c.held;
            assert_eq!(c.frames + c.duplicated, out, "{c:?}");
            c
        })
    }
}

#[test]
fn an_idle_cable_passes_everything_on() {
    let mut bench = Bench::new();
    bench.send(&[1, 2, 3]);
    assert_eq!(bench.port.take(), [1, 2, 3]);
    assert_eq!(bench.from_nic.transmit_while_room(&frames(&bench.ram, &[4, 5, 6], 60)), 2);
    assert_eq!(bench.port.take(), [4, 5]);
    assert!(bench.from_nic.feed().is_some());
    assert_eq!(bench.deliver(&[7]), 1);
    assert_eq!(bench.nic.take(), [7]);
    assert_eq!((bench.to_nic.room(Flow::Brought), bench.to_nic.send_waiting(8)), (17, 4));
    bench.nic.refuses.store(2, Relaxed);
    assert_eq!(bench.deliver(&[8, 9, 10]), 1);
    let [forth, back] = bench.audit();
    assert_eq!(
        (forth.frames, forth.delivered),
        (5, 5),
        "what found no room has not left its sender"
    );
    assert_eq!((back.frames, back.delivered, back.refused), (4, 2, 2));
}

#[test]
fn an_impaired_cable_takes_all_and_asks_for_no_more() {
    let mut bench = Bench::new();
    bench.impair(Impairments { loss: 0.5, ..Impairments::default() });
    assert_eq!(bench.from_nic.transmit_while_room(&frames(&bench.ram, &[0; 100], 60)), 100);
    assert_eq!(bench.to_nic.room(Flow::Brought), usize::MAX);
    assert_eq!(bench.to_nic.send_waiting(8), 4, "who sends may still be fetched from");
    assert!(bench.from_nic.feed().is_some());
}

#[test]
fn loss_and_duplication_are_immediate() {
    let mut bench = Bench::new();
    bench.impair(Impairments { loss: 0.25, duplicate: 0.25, ..Impairments::default() });
    for _ in 0..100 {
        bench.send(&[0; 100]);
    }
    let [sent, _] = bench.audit();
    assert_eq!((sent.frames, sent.held), (10_000, 0));
    assert!((2_300..2_700).contains(&sent.dropped.loss), "{sent:?}");
    assert!((2_300..2_700).contains(&sent.duplicated), "{sent:?}");
    assert_eq!(bench.port.take().len() as u64, sent.delivered);

    let tags: Vec<u8> = (0..100).collect();
    let taken = bench.deliver(&tags);
    let got = bench.nic.take();
    assert!(got.is_sorted() && got.len() != taken, "{got:?}");
    let different = got.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(taken <= 100 && taken >= different, "further copies are not the sender's");
}

#[test]
fn the_ends_may_be_replaced_and_the_cable_remembers() {
    let mut bench = Bench::new();
    let delay = std::time::Duration::from_millis(1);
    bench.impair(Impairments { delay, ..Impairments::default() });
    bench.send(&[1]);
    bench.deliver(&[2]);
    let (port, nic) = (Arc::new(Inbox::default()), Arc::new(Inbox::default()));
    bench.from_nic = bench.cable.from_nic(Box::new(Outlet(port.clone())));
    bench.to_nic = bench.cable.to_nic(nic.clone());
    assert_eq!((Arc::strong_count(&bench.port), Arc::strong_count(&bench.nic)), (1, 1));
    bench.pass(MS);
    let [sent, delivered] = bench.audit();
    assert_eq!((sent.dropped.disconnected, delivered.delivered), (1, 1));
    assert_eq!(nic.take(), [2], "whoever is there gets it");

    bench.send(&[3]);
    bench.pass(MS);
    assert_eq!(port.take(), [3]);
}
