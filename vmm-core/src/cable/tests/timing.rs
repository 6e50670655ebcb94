//! When frames come out.

use std::time::{Duration, Instant};

use super::*;
use crate::clock::{Clock, MonotonicClock};

fn delayed(ms: u64) -> Impairments {
    Impairments { delay: Duration::from_millis(ms), ..Impairments::default() }
}

#[test]
fn a_delay_holds_frames_in_both_directions() {
    let mut bench = Bench::new();
    bench.impair(delayed(5));
    bench.send(&[1, 2]);
    assert_eq!(bench.deliver(&[3]), 1, "taken: it is on its way");
    bench.pass(2 * MS);
    bench.send(&[4]);
    bench.pass(3 * MS - 1);
    assert_eq!(bench.port.take(), []);
    assert_eq!(bench.audit().map(|c| c.held), [3, 1]);
    bench.pass(1);
    assert_eq!((bench.port.take(), bench.nic.take()), (vec![1, 2], vec![3]));
    bench.pass(2 * MS);
    assert_eq!(bench.port.take(), [4]);
    assert_eq!(bench.audit().map(|c| (c.delivered, c.held)), [(3, 0), (1, 0)]);
}

#[test]
fn reordered_frames_overtake_those_that_wait() {
    let mut bench = Bench::new();
    bench.impair(Impairments { reorder: 0.3, ..delayed(5) });
    let tags: Vec<u8> = (0..200).collect();
    bench.send(&tags);
    let ahead = bench.port.take();
    bench.pass(5 * MS);
    let late = bench.port.take();
    assert!((30..90).contains(&ahead.len()), "{}", ahead.len());
    assert!(ahead.is_sorted() && late.is_sorted());
    assert_eq!(ahead.len() + late.len(), 200);
    let first_late = usize::from(late[0]);
    let [sent, _] = bench.audit();
    assert_eq!(sent.reordered as usize, ahead.len() - first_late, "those before it passed nobody");
}

#[test]
fn a_full_queue_drops_the_tail() {
    let mut bench = Bench::new();
    bench.impair(Impairments { rate_bps: 480_000, limit: 10, ..Impairments::default() });
    let tags: Vec<u8> = (0..15).collect();
    bench.send(&tags);
    assert_eq!(bench.deliver(&tags), 10, "the sender's switch hears of it");
    // 60 bytes take 1 ms.
    for tag in 0..10 {
        bench.pass(MS);
        assert_eq!(bench.port.take(), [tag]);
    }
    let [sent, _] = bench.audit();
    assert_eq!((sent.delivered, sent.dropped.queue_full), (10, 5));
    bench.send(&[99]);
    bench.pass(MS);
    assert_eq!(bench.port.take(), [99], "what was dropped did not use the wire");
}

#[test]
fn memory_for_frames_is_bounded() {
    let mut bench = Bench::new();
    bench.impair(Impairments { limit: u32::MAX, ..delayed(1) });
    let batch = frames(&bench.ram, &[1; 16], 65_535);
    for _ in 0..20 {
        bench.from_nic.transmit(&batch);
    }
    let [sent, _] = bench.audit();
    assert_eq!(sent.held, 255, "16 MiB");
    assert_eq!(sent.dropped.queue_full, 320 - sent.held);
}

#[test]
fn no_frame_overtakes_when_impairments_end() {
    let mut bench = Bench::new();
    bench.impair(delayed(1_000));
    bench.send(&[1, 2]);
    bench.impair(Impairments::default());
    bench.send(&[3]);
    assert_eq!(bench.port.take(), [], "they wait for the courier");
    bench.pass(0);
    assert_eq!(bench.port.take(), [1, 2, 3]);
    bench.send(&[4]);
    assert_eq!(bench.port.take(), [4]);
    assert!(bench.cable.lane(End::A).is_idle());
    assert_eq!(bench.audit()[0].delivered, 4);
}

#[test]
fn unplugged_it_loses_what_comes_and_what_it_holds() {
    let mut bench = Bench::new();
    bench.impair(delayed(1));
    bench.send(&[1, 2]);
    bench.cable.set_plugged(false);
    bench.send(&[3]);
    assert_eq!(bench.deliver(&[4]), 0);
    bench.pass(10 * MS);
    assert_eq!(bench.audit().map(|c| (c.dropped.unplugged, c.held)), [(3, 0), (1, 0)]);
    bench.cable.set_plugged(true);
    bench.send(&[5]);
    bench.pass(MS);
    assert_eq!((bench.port.take(), bench.nic.take()), (vec![5], vec![]));
}

#[test]
fn a_backlog_is_handed_on_in_bounded_turns_and_in_order_of_time() {
    let bench = Bench::new();
    let mut other = Bench::new();
    other.cable = Cable::with_agenda("right:0", &bench.agenda, 2);
    other.from_nic = other.cable.from_nic(Box::new(Outlet(other.port.clone())));
    let mut bench = bench;
    let many = Impairments { limit: u32::MAX, ..delayed(1) };
    bench.impair(many);
    other.impair(many);
    for _ in 0..100 {
        bench.send(&[1; 100]);
    }
    other.send(&[2]);
    bench.pass(MS);
    assert_eq!(bench.port.take().len(), 4096, "then the thread looks whether it is to stop");
    for _ in 0..2 {
        bench.agenda.turn();
    }
    assert_eq!((bench.port.take().len(), other.port.take()), (10_000 - 4096, vec![2]));
}

#[test]
fn the_courier_forgets_looks_that_have_become_needless() {
    let mut bench = Bench::new();
    for _ in 0..1_000 {
        bench.impair(delayed(5));
        bench.send(&[0]);
        bench.pass(MS * 9 / 10);
        // Brings the first frame forward.
        bench.impair(delayed(1));
        bench.pass(MS * 9 / 10);
        assert!(bench.audit()[0].held > 0, "there is always one");
    }
    assert!(bench.agenda.len() < 20, "{}", bench.agenda.len());
}

/// With a thread, in real time.
#[test]
fn the_courier_is_on_time() {
    let clock = Arc::new(MonotonicClock::new());
    let courier = Courier::spawn(clock.clone()).unwrap();
    let cable = Cable::new("left:0", &courier, 1);
    /// Notes when each frame came.
    struct Stamps(Arc<MonotonicClock>, Mutex<Vec<u64>>);
    impl Receiver for Stamps {
        fn receive(&self, _batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
            self.1.lock().extend(picks.iter().map(|_| self.0.now()));
            picks.len()
        }
    }
    let nic = Arc::new(Stamps(clock.clone(), Mutex::default()));
    let to_nic = cable.to_nic(nic.clone());
    cable.impair(End::B, delayed(2)).unwrap();
    let ram = GuestRam::new(4096).unwrap();
    let mut sent = Vec::new();
    for _ in 0..50 {
        sent.push(clock.now());
        to_nic.receive(&frames(&ram, &[0], 60), &[0]);
        std::thread::sleep(Duration::from_micros(700));
    }
    let start = Instant::now();
    while cable.counters(End::B).held > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", cable.counters(End::B));
        std::thread::sleep(Duration::from_millis(1));
    }
    let came = nic.1.lock();
    let mut late: Vec<u64> =
        came.iter().zip(&sent).map(|(came, sent)| came - sent - 2 * MS).collect();
    late.sort_unstable();
    assert_eq!(late.len(), 50);
    eprintln!("late by {} us at the median, {} us at most", late[25] / 1_000, late[49] / 1_000);
    // Others may have the CPUs most of the time, but not all of it.
    assert!(late[0] < MS, "{late:?}");
}

/// Nobody waits for anybody when a lab goes down, in whatever order.
#[test]
fn everything_may_be_dropped_while_frames_wait() {
    let clock = Arc::new(MonotonicClock::new());
    let ram = GuestRam::new(4096).unwrap();
    for round in 0..20 {
        let courier = Courier::spawn(clock.clone()).unwrap();
        let cable = Cable::new("left:0", &courier, 1);
        let nic = Arc::new(Inbox::default());
        let to_nic = cable.to_nic(nic.clone());
        cable
            .impair(End::B, Impairments { jitter: Duration::from_millis(1), ..delayed(1) })
            .unwrap();
        to_nic.receive(&frames(&ram, &[0; 50], 60), &(0..50).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_micros(100 * round));
        match round % 3 {
            0 => drop(courier),
            1 => drop((to_nic, courier)),
            _ => drop((cable, to_nic, courier)),
        }
    }
}
