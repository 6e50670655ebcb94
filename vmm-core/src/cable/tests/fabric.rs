//! Cables between switches and TAPs: frames arrive, nothing deadlocks, and loops end.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::backend::{Tap, TapBackend};
use crate::clock::{Clock, MonotonicClock};
use crate::switch::{Port, Switch};

/// A guest's end of a port: it owns the port, as a NIC does.
struct Station {
    inbox: Inbox,
    port: Mutex<Port>,
    /// Keeps it alive until the first frame comes.
    last_breath: Mutex<Option<Arc<Station>>>,
}

impl Receiver for Station {
    fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
        self.last_breath.lock().take();
        self.inbox.receive(batch, picks)
    }
}

impl Station {
    fn new(switch: &Switch) -> Arc<Self> {
        let port = switch.attach().unwrap();
        let index = port.index();
        let station = Arc::new(Self {
            inbox: Inbox::default(),
            port: Mutex::new(port),
            last_breath: Mutex::default(),
        });
        let receiver: Arc<dyn Receiver> = station.clone();
        switch.connect(index, &receiver);
        station
    }

    fn send(&self, batch: &FrameBatch<'_>) {
        self.port.lock().transmit(batch);
    }
}

/// Keeps a patch in place.
type Ends = (Arc<dyn Receiver>, Arc<dyn Receiver>);

fn patch(cable: &Cable, a: &Switch, b: &Switch) -> Ends {
    let (port_a, port_b) = (a.attach().unwrap(), b.attach().unwrap());
    let (index_a, index_b) = (port_a.index(), port_b.index());
    let (from_a, from_b) = cable.patch(Box::new(port_a), Box::new(port_b));
    a.connect(index_a, &from_a);
    b.connect(index_b, &from_b);
    (from_a, from_b)
}

fn ram() -> GuestRam {
    GuestRam::new(4096).unwrap()
}

#[test]
fn patched_switches_are_one_network() {
    let clock = Arc::new(ManualClock::at(1_000 * MS));
    let (left, right) = (Switch::new("left", clock.clone()), Switch::new("right", clock.clone()));
    let agenda = agenda(&clock);
    let cable = Cable::with_agenda("left--right", &agenda, 1);
    let ends = patch(&cable, &left, &right);
    let (a, b, c) = (Station::new(&left), Station::new(&right), Station::new(&right));
    let ram = ram();
    a.send(&addressed(&ram, 1, None, &[1, 2], 60));
    assert_eq!((b.inbox.take(), c.inbox.take()), (vec![1, 2], vec![1, 2]));
    b.send(&addressed(&ram, 2, Some(1), &[3], 60));
    a.send(&addressed(&ram, 1, Some(2), &[4], 60));
    assert_eq!((a.inbox.take(), b.inbox.take(), c.inbox.take()), (vec![3], vec![4], vec![]));

    cable
        .impair(End::A, Impairments { delay: Duration::from_millis(1), ..Default::default() })
        .unwrap();
    a.send(&addressed(&ram, 1, Some(2), &[5], 60));
    b.send(&addressed(&ram, 2, Some(1), &[6], 60));
    assert_eq!((a.inbox.take(), b.inbox.take()), (vec![6], vec![]), "one direction");
    clock.advance(MS);
    agenda.turn();
    assert_eq!(b.inbox.take(), [5]);

    drop(ends);
    assert_eq!((left.counters().len(), right.counters().len()), (1, 2), "the ports are free");
    a.send(&addressed(&ram, 1, Some(2), &[7], 60));
    assert_eq!(left.counters()[0].1.dropped.no_destination, 1);
}

#[test]
fn a_tap_is_patched_to_a_switch() {
    let clock = Arc::new(ManualClock::at(1_000 * MS));
    let switch = Switch::new("sw0", clock.clone());
    let cable = Cable::with_agenda("sw0--host", &agenda(&clock), 1);
    let (queue, wire) = UnixDatagram::pair().unwrap();
    let tap = Arc::new(Tap::from_fd(queue.into()).unwrap());
    let port = switch.attach().unwrap();
    let index = port.index();
    let (from_switch, from_tap) =
        cable.patch(Box::new(port), Box::new(TapBackend::new(tap.clone())));
    switch.connect(index, &from_switch);
    let guard = tap.spawn_receiver("host", from_tap).unwrap();
    let guest = Station::new(&switch);
    let ram = ram();

    guest.send(&addressed(&ram, 1, None, &[1], 60));
    let mut frame = [0; 100];
    assert_eq!((wire.recv(&mut frame).unwrap(), frame[14]), (60, 1));
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    wire.send(&frame[..60]).unwrap();
    let start = Instant::now();
    while guest.inbox.take() != [1] {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(guard);
    assert_eq!(switch.counters().len(), 1, "the TAP's thread had the last hold of its port");
}

/// The port's table is locked by the batch, and so is another switch's.
#[test]
fn a_guest_that_ends_two_switches_away_frees_its_port() {
    let clock = Arc::new(ManualClock::at(1_000 * MS));
    let (left, right) = (Switch::new("left", clock.clone()), Switch::new("right", clock.clone()));
    let cable = Cable::with_agenda("left--right", &agenda(&clock), 1);
    let _ends = patch(&cable, &left, &right);
    let sender = Station::new(&left);
    let dying = Station::new(&right);
    *dying.last_breath.lock() = Some(dying.clone());
    drop(dying);
    assert_eq!(right.counters().len(), 2);
    sender.send(&addressed(&ram(), 1, None, &[1], 60));
    assert_eq!(right.counters().len(), 1);
}

/// Two switches with three cables between them, and a third switch in a ring with them.
fn tangle(
    clock: Arc<dyn Clock>,
    cable: impl Fn(&str) -> Cable,
) -> (Vec<Switch>, Vec<Cable>, Vec<Ends>) {
    let switches = ["a", "b", "c"].map(|name| Switch::new(name, clock.clone()));
    let (mut cables, mut ends) = (Vec::new(), Vec::new());
    for (from, to) in [(0, 1), (0, 1), (0, 1), (1, 2), (2, 0)] {
        let cable = cable("loop");
        ends.push(patch(&cable, &switches[from], &switches[to]));
        cables.push(cable);
    }
    (switches.to_vec(), cables, ends)
}

#[test]
fn a_storm_in_a_loop_is_bounded_and_counted() {
    let clock = Arc::new(ManualClock::at(1_000 * MS));
    let agenda = agenda(&clock);
    let (switches, cables, _ends) =
        tangle(clock.clone(), |name| Cable::with_agenda(name, &agenda, 1));
    // Watched, so that they count.
    let _captures: Vec<_> = cables
        .iter()
        .map(|cable| cable.capture(End::A, CaptureLimits { snap_len: 0, buffer_bytes: 0 }))
        .collect();
    let sender = Station::new(&switches[0]);
    sender.send(&addressed(&ram(), 1, None, &[1], 60));
    for _ in 0..100 {
        clock.advance(MS);
        agenda.turn();
    }
    let sum = |field: fn(CableCounters) -> u64| -> u64 {
        let both = |cable: &Cable| field(cable.counters(End::A)) + field(cable.counters(End::B));
        cables.iter().map(both).sum()
    };
    assert!(sum(|c| c.dropped.looped) > 0, "hops are counted");
    for cable in &cables {
        for c in [End::A, End::B].map(|end| cable.counters(end)) {
            assert_eq!(c.frames, c.delivered + c.dropped.total() + c.held, "{c:?}");
        }
    }
}

/// A single loop has one way round: its frames die.
#[test]
fn a_frame_goes_round_a_ring_only_so_often() {
    let clock = Arc::new(ManualClock::at(1_000 * MS));
    let agenda = agenda(&clock);
    let switches = ["a", "b", "c"].map(|name| Switch::new(name, clock.clone()));
    let _ends: Vec<_> = [(0, 1), (1, 2), (2, 0)]
        .map(|(from, to)| {
            let cable = Cable::with_agenda("ring", &agenda, 1);
            patch(&cable, &switches[from], &switches[to])
        })
        .into();
    let (sender, other) = (Station::new(&switches[0]), Station::new(&switches[1]));
    sender.send(&addressed(&ram(), 1, None, &[1], 60));
    for _ in 0..100 {
        clock.advance(MS);
        agenda.turn();
    }
    let copies = other.inbox.take().len();
    assert!((2..=64).contains(&copies), "{copies}");
    for _ in 0..100 {
        clock.advance(MS);
        agenda.turn();
    }
    assert_eq!(other.inbox.take(), [], "it has ended");
}

/// Everything at once, on a tangle that no lab allows: senders on all switches, guests that come
/// and go, cables that are impaired, unplugged and watched.
#[test]
fn nothing_deadlocks() {
    const TIME: Duration = Duration::from_millis(700);
    let (done, watchdog) = mpsc::channel();
    std::thread::spawn(move || {
        let clock = Arc::new(MonotonicClock::new());
        let courier = Courier::spawn(clock.clone()).unwrap();
        let (switches, cables, ends) = tangle(clock, |name| Cable::new(name, &courier, 1));
        let running = AtomicBool::new(true);
        let rounds = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let repeat = |mut act: Box<dyn FnMut() + Send>| {
                let (running, rounds) = (&running, &rounds);
                scope.spawn(move || {
                    while running.load(Relaxed) {
                        act();
                        rounds.fetch_add(1, Relaxed);
                    }
                });
            };
            for (n, switch) in (1..).zip(&switches) {
                let (ram, station) = (ram(), Station::new(switch));
                repeat(Box::new(move || {
                    station.inbox.take();
                    station.send(&addressed(&ram, n, None, &[n], 60));
                    station.send(&addressed(&ram, n, Some(n % 3 + 1), &[n; 20], 60));
                }));
                // A NIC behind a cable of its own, which comes and goes with frames on their way.
                let (ram, switch) = (self::ram(), switch.clone());
                let nic_cable = Cable::new("nic", &courier, 1);
                let delay = Duration::from_micros(200);
                nic_cable.impair(End::A, Impairments { delay, ..Default::default() }).unwrap();
                nic_cable.impair(End::B, Impairments { delay, ..Default::default() }).unwrap();
                repeat(Box::new(move || {
                    let port = switch.attach().unwrap();
                    let index = port.index();
                    let mut from_nic = nic_cable.from_nic(Box::new(port));
                    let dying = Station::new(&switch);
                    *dying.last_breath.lock() = Some(dying.clone());
                    let to_nic = nic_cable.to_nic(dying);
                    switch.connect(index, &to_nic);
                    from_nic.transmit(&addressed(&ram, 10 + n, None, &[n], 60));
                    std::thread::sleep(delay);
                }));
            }
            let some = cables.clone();
            repeat(Box::new(move || {
                for cable in &some {
                    let _capture = cable.capture(End::B, CaptureLimits::default()).unwrap();
                    cable.set_plugged(false);
                    cable.set_plugged(true);
                    let wild = Impairments {
                        delay: Duration::from_micros(300),
                        jitter: Duration::from_micros(300),
                        reorder: 0.1,
                        ..Default::default()
                    };
                    cable.impair(End::A, wild).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                    cable.impair(End::A, Impairments::default()).unwrap();
                }
            }));
            std::thread::sleep(TIME);
            running.store(false, Relaxed);
        });
        drop((ends, cables, switches));
        done.send(rounds.load(Relaxed)).unwrap();
    });
    let rounds = watchdog.recv_timeout(Duration::from_secs(60)).expect("a deadlock");
    assert!(rounds > 100, "{rounds}");
}
