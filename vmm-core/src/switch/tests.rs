//! The switch on plain memory, with receivers that record.

use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use vm_memory::Bytes;

use super::*;
use crate::backend::{Backend, Flow, FrameBatch};
use crate::clock::ManualClock;
use crate::memory::GuestRam;

/// Takes the last payload byte of up to `room` frames.
struct Recorder {
    seen: Mutex<Vec<u8>>,
    room: usize,
}

impl Receiver for Recorder {
    fn room(&self, _flow: Flow) -> usize {
        self.room
    }

    fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
        let mut seen = self.seen.lock();
        let taken = picks.len().min(self.room - seen.len().min(self.room));
        for pick in &picks[..taken] {
            let mut tag = [0];
            batch.frame(*pick as usize).copy_out(14, &mut tag);
            seen.push(tag[0]);
        }
        taken
    }
}

struct Bench {
    switch: Switch,
    clock: Arc<ManualClock>,
    ports: Vec<Port>,
    receivers: Vec<Arc<Recorder>>,
    ram: GuestRam,
}

/// Station `n`'s address.
fn station(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, n]
}

const ALL: [u8; 6] = [0xff; 6];

/// Frames of (source, destination, tag) in `ram`.
fn batch<'r>(ram: &'r GuestRam, frames: &[([u8; 6], [u8; 6], u8)]) -> FrameBatch<'r> {
    let mut batch = FrameBatch::new();
    for (i, (src, dst, tag)) in frames.iter().enumerate() {
        let span = ram.slice(i as u64 * 64, 60).unwrap();
        let header = [&dst[..], &src[..], &[0x88, 0xb5], &[*tag]].concat();
        // The tag sits right after the source address and two type bytes.
        span.write_slice(&header[..15], 0).unwrap();
        batch.push_span(span);
        batch.end_frame();
    }
    batch
}

impl Bench {
    fn new(ports: u8, room: usize) -> Self {
        let clock = Arc::new(ManualClock::at(1_000_000_000));
        let switch = Switch::new("sw0", clock.clone());
        let mut bench = Self {
            switch,
            clock,
            ports: Vec::new(),
            receivers: Vec::new(),
            ram: GuestRam::new(1 << 20).unwrap(),
        };
        for _ in 0..ports {
            let port = bench.switch.attach().unwrap();
            let recorder = Arc::new(Recorder { seen: Mutex::default(), room });
            let receiver: Arc<dyn Receiver> = recorder.clone();
            bench.switch.connect(port.index(), &receiver);
            bench.ports.push(port);
            bench.receivers.push(recorder);
        }
        bench
    }

    /// Sends one batch of (source, destination, tag) from a port.
    fn send(&mut self, port: usize, frames: &[([u8; 6], [u8; 6], u8)]) {
        self.ports[port].transmit(&batch(&self.ram, frames));
    }

    fn seen(&self, port: usize) -> Vec<u8> {
        self.receivers[port].seen.lock().drain(..).collect()
    }

    fn counters(&self, port: usize) -> PortCounters {
        self.switch.counters()[port].1
    }
}

#[test]
fn floods_what_it_does_not_know_and_learns_the_rest() {
    let mut bench = Bench::new(3, 100);
    bench.send(0, &[(station(0), station(1), 1)]);
    assert_eq!((bench.seen(0), bench.seen(1), bench.seen(2)), (vec![], vec![1], vec![1]));
    bench.send(1, &[(station(1), station(0), 2)]);
    assert_eq!((bench.seen(0), bench.seen(1), bench.seen(2)), (vec![2], vec![], vec![]));
    let new = |n: u8| MacEntry { mac: station(n).into(), port: n, age: Duration::ZERO };
    assert_eq!(bench.switch.mac_table(), [new(0), new(1)]);
    assert_eq!(bench.counters(0).flood_copies, 1);
}

#[test]
fn keeps_the_order_of_unicast_and_flooded_frames() {
    let mut bench = Bench::new(3, 100);
    bench.send(1, &[(station(1), ALL, 0)]);
    bench.seen(0);
    bench.seen(2);
    let to_1 = |tag| (station(0), station(1), tag);
    let to_all = |tag| (station(0), ALL, tag);
    bench.send(0, &[to_1(1), to_all(2), to_1(3), to_1(4), to_all(5)]);
    assert_eq!(bench.seen(1), [1, 2, 3, 4, 5]);
    assert_eq!(bench.seen(2), [2, 5]);
}

#[test]
fn a_frame_to_its_own_port_is_dropped_and_counted() {
    let mut bench = Bench::new(2, 100);
    bench.send(0, &[(station(0), station(9), 0)]);
    bench.send(0, &[(station(9), station(0), 0)]);
    assert_eq!(bench.counters(0).dropped.same_port, 1);
}

#[test]
fn every_dropped_frame_has_a_cause() {
    let mut alone = Bench::new(1, 100);
    alone.send(0, &[(station(0), ALL, 0)]);
    assert_eq!(alone.counters(0).dropped.no_destination, 1);

    let mut full = Bench::new(2, 3);
    full.send(0, &[(station(0), ALL, 0); 5]);
    let counters = full.counters(0);
    assert_eq!((counters.delivered, counters.refused), (3, 2));

    let mut unplugged = Bench::new(2, 100);
    unplugged.receivers.remove(1);
    unplugged.send(0, &[(station(0), ALL, 0)]);
    assert_eq!(unplugged.counters(0).dropped.disconnected, 1);
}

#[test]
fn a_batch_of_everything_goes_where_each_frame_belongs() {
    let mut bench = Bench::new(4, 100);
    for n in 1..4 {
        bench.send(n, &[(station(n as u8), ALL, 0)]);
    }
    (0..4).for_each(|n| drop(bench.seen(n)));
    let to = |n, tag| (station(0), station(n), tag);
    bench.send(
        0,
        &[to(1, 1), to(2, 2), (station(0), ALL, 3), to(0, 4), to(1, 5), to(77, 6), to(2, 7)],
    );
    assert_eq!(bench.seen(0), []);
    assert_eq!(bench.seen(1), [1, 3, 5, 6]);
    assert_eq!(bench.seen(2), [2, 3, 6, 7]);
    assert_eq!(bench.seen(3), [3, 6]);
    // Nothing of that batch is left for the next one.
    bench.send(0, &[to(3, 8)]);
    assert_eq!((bench.seen(1), bench.seen(2), bench.seen(3)), (vec![], vec![], vec![8]));
    let counters = bench.counters(0);
    assert_eq!((counters.dropped.same_port, counters.flood_copies), (1, 4));
}

#[test]
fn runts_are_dropped() {
    let mut bench = Bench::new(2, 100);
    let mut batch = FrameBatch::new();
    batch.push_span(bench.ram.slice(0, 13).unwrap());
    batch.end_frame();
    bench.ports[0].transmit(&batch);
    assert_eq!(bench.counters(0).dropped.runt, 1);
}

#[test]
fn addresses_age() {
    let mut bench = Bench::new(3, 100);
    bench.send(1, &[(station(1), ALL, 0)]);
    bench.clock.advance(AGEING_TICK_NS * 7);
    bench.send(0, &[(station(0), ALL, 0)]);
    let ages = |bench: &Bench| -> Vec<(u8, f32)> {
        bench.switch.mac_table().iter().map(|entry| (entry.port, entry.age.as_secs_f32())).collect()
    };
    assert_eq!(ages(&bench), [(0, 0.0), (1, 7.0 * 37.5)]);
    bench.clock.advance(AGEING_TICK_NS * 2);
    assert_eq!(ages(&bench), [(0, 75.0)], "though nobody has sent since");
}

#[test]
fn a_dropped_port_is_free_again_and_its_addresses_are_gone() {
    let mut bench = Bench::new(2, 100);
    bench.send(1, &[(station(1), ALL, 0)]);
    bench.ports.pop();
    assert!(bench.switch.mac_table().is_empty());
    assert_eq!(bench.switch.attach().unwrap().index(), 1);
}

#[test]
fn whoever_comes_back_can_have_the_port_of_before() {
    let mut bench = Bench::new(3, 100);
    drop(bench.ports.remove(0));
    bench.ports.pop();
    let third = bench.switch.attach_at(Some(2)).unwrap();
    assert_eq!(third.index(), 2, "though port 0 is free, too");
    // One that somebody has, or that never was.
    let first = bench.switch.attach_at(Some(2)).unwrap();
    let new = bench.switch.attach_at(Some(200)).unwrap();
    assert_eq!((first.index(), new.index()), (0, 3));
}

/// A NIC that is freed while frames are handed to it frees its own port, on the sender's thread.
#[test]
fn a_receiver_that_goes_away_during_a_batch_frees_its_port() {
    struct LastBreath {
        own: Mutex<Option<Arc<dyn Receiver>>>,
        _port: Port,
    }
    impl Receiver for LastBreath {
        fn receive(&self, _batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
            // The owner lets go: what the switch holds is the last reference.
            drop(self.own.lock().take());
            picks.len()
        }
    }
    let mut bench = Bench::new(1, 100);
    let port = bench.switch.attach().unwrap();
    let index = port.index();
    let nic = Arc::new(LastBreath { own: Mutex::default(), _port: port });
    let receiver: Arc<dyn Receiver> = nic.clone();
    bench.switch.connect(index, &receiver);
    *nic.own.lock() = Some(receiver);
    drop(nic);
    bench.send(0, &[(station(0), ALL, 0)]);
    assert_eq!(bench.counters(0).delivered, 1);
    assert_eq!(bench.switch.counters().len(), 1, "the port is free again");
}

/// The same before any frame is handed to it.
#[test]
fn a_receiver_that_goes_away_when_asked_for_room_frees_its_port() {
    struct NoRoom {
        own: Mutex<Option<Arc<dyn Receiver>>>,
        _port: Port,
    }
    impl Receiver for NoRoom {
        fn receive(&self, _batch: &FrameBatch<'_>, _picks: &[u32]) -> usize {
            0
        }

        fn room(&self, _flow: Flow) -> usize {
            drop(self.own.lock().take());
            0
        }
    }
    let mut bench = Bench::new(1, 100);
    let mut port = bench.switch.attach().unwrap();
    let index = port.index();
    port.transmit(&batch(&bench.ram, &[(station(1), ALL, 0)]));
    let nic = Arc::new(NoRoom { own: Mutex::default(), _port: port });
    let receiver: Arc<dyn Receiver> = nic.clone();
    bench.switch.connect(index, &receiver);
    *nic.own.lock() = Some(receiver);
    drop(nic);
    let batch = batch(&bench.ram, &[(station(0), station(1), 0)]);
    assert_eq!(bench.ports[0].transmit_while_room(&batch), 0);
    let counters = bench.counters(0);
    assert_eq!((counters.frames_in, counters.batches_in), (0, 0), "nothing has left its sender");
    assert_eq!(bench.switch.counters().len(), 1, "the port is free again");
}

#[test]
fn a_frame_that_goes_nowhere_needs_no_room() {
    let mut bench = Bench::new(1, 0);
    bench.send(0, &[(station(0), ALL, 0)]);
    let batch = batch(&bench.ram, &[(station(0), station(0), 0)]);
    assert_eq!(bench.ports[0].transmit_while_room(&batch), 1);
    assert_eq!(bench.counters(0).dropped.same_port, 1);
}

#[test]
fn has_254_ports() {
    let switch = Switch::new("sw0", Arc::new(ManualClock::at(0)));
    let ports: Vec<Port> = (0..MAX_PORTS).map(|_| switch.attach().unwrap()).collect();
    assert_eq!(switch.attach().err(), Some(SwitchError::Full("sw0".into())));
    drop(ports);
    assert!(switch.attach().is_ok());
}

proptest! {
    /// Whatever is sent, copies in and copies out add up, and no port hears itself.
    #[test]
    fn copies_are_conserved(
        room in 0usize..40,
        batches in prop::collection::vec(
            (0usize..4, prop::collection::vec((0u8..6, 0u8..7), 1..20)), 1..20),
    ) {
        let mut bench = Bench::new(4, room);
        for (port, frames) in batches {
            let frames: Vec<_> = frames
                .into_iter()
                .map(|(src, dst)| (station(src), if dst == 6 { ALL } else { station(dst) }, port as u8))
                .collect();
            bench.send(port, &frames);
        }
        for port in 0..4 {
            let c = bench.counters(port);
            prop_assert_eq!(
                c.frames_in + c.flood_copies,
                c.delivered + c.refused + c.dropped.total()
            );
            prop_assert!(!bench.seen(port).contains(&(port as u8)));
        }
    }
}
