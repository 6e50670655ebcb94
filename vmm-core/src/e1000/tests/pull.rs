//! Two NICs on a VALE switch under the pull policy, by way of cables of which nothing is asked.

use super::*;
use crate::cable::{Cable, CaptureLimits, Courier, End, Impairments};
use crate::e1000::rx::PATIENCE;
use crate::switch::Switch;

const SENDER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const RECEIVER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];

/// A sender amid a stream, and the guest it sends to, which is awake.
struct Pair {
    sender: Bench,
    receiver: Bench,
    /// The sender's and the receiver's.
    cables: [(Cable, Arc<dyn Receiver>); 2],
    clock: Arc<ManualClock>,
    /// Frames published so far; the sender's tail.
    sent: u64,
    /// Frames used up so far.
    used: u64,
}

impl Pair {
    fn streaming() -> Self {
        let clock = Arc::new(ManualClock::at(1_000_000_000));
        let switch = Switch::new("sw0", clock.clone());
        let courier = Courier::spawn(clock.clone()).unwrap();
        let plug = |mac| {
            let cable = Cable::new("cable", &courier, 1);
            let port = switch.attach().unwrap();
            let index = port.index();
            let config = E1000Config { mac, itr: false, csb: true, policy: Policy::Pull };
            let backend = cable.from_nic(Box::new(port));
            let bench = Bench::build(config, backend, Wire::default(), clock.clone());
            let to_nic = cable.to_nic(bench.nic.clone());
            switch.connect(index, &to_nic);
            bench.nic.set_bus_master(true);
            bench.nic.set_link(true);
            bench.configure();
            bench.turn_csb_on();
            (bench, (cable, to_nic))
        };
        let ((sender, one), (receiver, other)) = (plug(SENDER), plug(RECEIVER));
        let mut pair = Pair { sender, receiver, cables: [one, other], clock, sent: 0, used: 0 };
        // The switch learns where the receiver is.
        pair.receiver.put(TX_BUFFER, &[&[0xff; 6][..], &RECEIVER, &[0; 48]].concat());
        pair.receiver.tx(0, TX_BUFFER, 60, command::EOP);
        pair.receiver.set_csb(Field::GuestTdt, 1);
        pair.receiver.set(TDT, 1);
        pair.receiver.set_csb(Field::GuestNeedRxkick, 0);
        while pair.sender.csb(Field::HostNeedTxkick) != 0 {
            pair.clock.advance(10_000);
            pair.publish(1);
            pair.kick();
            pair.use_up(1);
        }
        pair
    }

    /// The sender's guest fills the next `frames` descriptors.
    fn publish(&mut self, frames: u64) {
        for _ in 0..frames {
            let slot = self.sent % SLOTS;
            let buffer = TX_BUFFER + slot * 2048;
            self.sender.put(buffer, &[&RECEIVER[..], &SENDER, &[0; 48]].concat());
            self.sender.tx(slot, buffer, 60, command::EOP);
            self.sent += 1;
        }
        self.sender.set_csb(Field::GuestTdt, (self.sent % SLOTS) as u32);
    }

    fn kick(&self) {
        self.sender.set(TDT, (self.sent % SLOTS) as u32);
    }

    /// The receiver's guest returns `frames` buffers, and kicks if that is where it was asked to.
    fn use_up(&mut self, frames: u64) {
        for _ in 0..frames {
            self.used += 1;
            let tail = ((self.used + SLOTS - 1) % SLOTS) as u32;
            self.receiver.set_csb(Field::GuestRdt, tail);
            if self.receiver.csb(Field::HostRxkickAt) == tail {
                self.receiver.set(RDT, tail);
            }
        }
    }

    fn delivered(&self) -> u64 {
        self.receiver.nic.counters().rx.frames
    }

    fn dropped(&self) -> u64 {
        self.receiver.nic.counters().rx.dropped.total()
    }

    /// Lets time pass, and the sender's device look at its ring.
    fn pass(&self, ns: u64) {
        self.clock.advance(ns);
        self.sender.nic.on_timer();
    }
}

#[test]
fn the_receiver_fetches_what_waits_when_it_has_used_up_its_frames() {
    let mut pair = Pair::streaming();
    let before = pair.delivered();
    pair.publish(1);
    pair.kick();
    assert_eq!(pair.delivered(), before + 1, "it has nothing: the sender brings it some");
    pair.publish(5);
    assert_eq!(pair.delivered(), before + 1, "nobody kicked");
    pair.use_up(1);
    assert_eq!(pair.delivered(), before + 6);
    assert_eq!(pair.dropped(), 0);
}

#[test]
fn a_sender_leaves_its_frames_to_a_receiver_that_will_come() {
    let mut pair = Pair::streaming();
    pair.publish(2);
    pair.kick();
    let before = pair.delivered();
    pair.publish(3);
    pair.kick();
    assert_eq!(pair.delivered(), before, "two frames are still there to be used up");
    pair.use_up(2);
    assert_eq!(pair.delivered(), before + 3);
}

#[test]
fn a_sleeping_receiver_is_brought_frames() {
    let mut pair = Pair::streaming();
    pair.publish(2);
    pair.kick();
    pair.receiver.set_csb(Field::GuestNeedRxkick, 1);
    let (before, edges) = (pair.delivered(), pair.receiver.edges());
    pair.publish(3);
    pair.kick();
    assert_eq!(pair.delivered(), before + 3);
    assert_eq!(pair.receiver.edges(), edges + 1, "and woken");
}

#[test]
fn a_stream_waits_for_room_and_loses_nothing() {
    let mut pair = Pair::streaming();
    pair.publish(SLOTS - 1);
    pair.kick();
    let full = pair.delivered();
    pair.publish(SLOTS - 1);
    pair.kick();
    pair.pass(500_000);
    assert_eq!((pair.delivered(), pair.dropped()), (full, 0));
    pair.use_up(SLOTS - 1);
    assert_eq!((pair.delivered(), pair.dropped()), (full + SLOTS - 1, 0));
    let sent = pair.sender.nic.counters().tx;
    assert_eq!((sent.frames, sent.traffic.octets), (pair.sent, pair.sent * 64));
}

#[test]
fn who_captures_a_stream_does_not_change_it() {
    let mut pair = Pair::streaming();
    let captures =
        [0, 1].map(|n| pair.cables[n].0.capture(End::A, CaptureLimits::default()).unwrap());
    pair.publish(SLOTS - 1);
    pair.kick();
    let full = pair.delivered();
    pair.publish(SLOTS - 1);
    pair.kick();
    assert_eq!((pair.delivered(), pair.dropped()), (full, 0));
    pair.use_up(SLOTS - 1);
    assert_eq!((pair.delivered(), pair.dropped()), (full + SLOTS - 1, 0));
    assert_eq!(captures.each_ref().map(|capture| capture.recorded()), [2 * (SLOTS - 1); 2]);
}

#[test]
fn a_stream_that_is_impaired_drops_what_finds_no_room_and_goes_on_later() {
    let mut pair = Pair::streaming();
    let cable = pair.cables[1].0.clone();
    let earlier = cable.counters(End::B);
    cable.impair(End::B, Impairments { duplicate: 1.0, ..Impairments::default() }).unwrap();
    pair.publish(SLOTS - 1);
    pair.kick();
    assert_eq!(pair.dropped(), SLOTS - 1, "the copies");
    let passed = cable.counters(End::B);
    assert_eq!(
        (passed.frames - earlier.frames, passed.delivered - earlier.delivered, passed.refused),
        (SLOTS - 1, SLOTS - 1, SLOTS - 1)
    );

    cable.impair(End::B, Impairments::default()).unwrap();
    pair.use_up(SLOTS - 1);
    let before = pair.delivered();
    pair.publish(1);
    pair.kick();
    pair.publish(3);
    pair.use_up(1);
    assert_eq!((pair.delivered(), pair.dropped()), (before + 4, SLOTS - 1));
}

#[test]
fn a_stream_does_not_wait_for_ever() {
    let mut pair = Pair::streaming();
    pair.publish(SLOTS - 1);
    pair.kick();
    pair.publish(SLOTS - 1);
    pair.kick();
    for _ in 0..40 {
        assert_eq!(pair.dropped(), 0, "some time slices must be granted");
        pair.pass(500_000);
    }
    assert_eq!(pair.dropped(), SLOTS - 1, "its receiver is taken for dead");
    assert_eq!(pair.sender.csb(Field::HostTdh), (pair.sent % SLOTS) as u32);
    pair.publish(3);
    pair.kick();
    assert_eq!(pair.dropped(), SLOTS + 2, "nobody waits for the dead twice");
    pair.use_up(SLOTS - 1);
    pair.publish(3);
    pair.kick();
    assert_eq!(pair.dropped(), SLOTS + 2, "it lives after all");
}

#[test]
fn the_end_of_a_stream_is_brought_by_the_timer() {
    let mut pair = Pair::streaming();
    pair.publish(3);
    pair.kick();
    pair.use_up(3);
    let before = pair.delivered();
    pair.publish(2);
    pair.pass(500_000);
    assert_eq!(pair.delivered(), before + 2);
}

#[test]
fn a_kick_after_a_stream_waits_for_whoever_holds_the_transmitter() {
    let end = |pair: &Pair| (0..8).for_each(|_| pair.pass(500_000));
    let reset = |pair: &Pair| {
        pair.sender.set(CTRL, ctrl::RST);
        pair.sender.configure();
    };
    for stop in [&end as &dyn Fn(&Pair), &reset] {
        let mut pair = Pair::streaming();
        stop(&pair);
        assert_eq!(pair.sender.csb(Field::HostNeedTxkick), 1);
        pair.sent = pair.sender.csb(Field::HostTdh).into();
        let before = pair.delivered();
        pair.publish(1);
        let other = pair.sender.nic.tx.0.lock();
        std::thread::scope(|scope| {
            let kick = scope.spawn(|| pair.kick());
            std::thread::sleep(std::time::Duration::from_millis(20));
            drop(other);
            kick.join().unwrap();
        });
        assert_eq!(pair.delivered(), before + 1);
    }
}

#[test]
fn patience_begins_anew_when_the_tail_comes_round() {
    let mut pair = Pair::streaming();
    for _ in 0..3 {
        pair.publish(SLOTS - 1);
        pair.kick();
        pair.publish(1);
        pair.kick();
        assert_eq!(pair.dropped(), 0, "it has returned a whole ring since it was last full");
        pair.use_up(SLOTS);
        pair.clock.advance(PATIENCE);
    }
}

#[test]
fn what_cannot_be_sent_does_not_wait_for_room() {
    let off = |pair: &mut Pair| {
        pair.sender.set(TCTL, 0);
        pair.publish(1);
    };
    let unfinished = |pair: &mut Pair| {
        pair.sender.tx(pair.sent % SLOTS, TX_BUFFER, 60, 0);
        pair.sent += 1;
        pair.publish(0);
    };
    for spoil in [&off as &dyn Fn(&mut Pair), &unfinished] {
        let mut pair = Pair::streaming();
        spoil(&mut pair);
        (0..8).for_each(|_| pair.pass(500_000));
        assert_eq!(pair.sender.csb(Field::HostNeedTxkick), 1, "nobody looks in vain for ever");
    }
}
