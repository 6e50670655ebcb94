//! Passes frames from one NIC to another and back, as they are: a bridge without a table.

use super::{BATCH, Session, Tally};
use crate::buffer::RxFrame;
use crate::e1000::E1000;
use crate::nic::{Nic, Queue, Until};
use crate::time;
use crate::wait::{self, Patience, Wakeable};

/// Two NICs that one CPU waits for.
pub struct Bridge {
    first: E1000,
    second: E1000,
}

impl Bridge {
    /// Lies between two NICs, both of which take frames to anyone.
    ///
    /// # Errors
    /// If the machine does not tell their interrupts apart.
    pub fn new(first: E1000, second: E1000) -> Result<Self, &'static str> {
        if first.irq() == second.irq() {
            return Err("The two NICs share an interrupt line");
        }
        Ok(Self { first, second })
    }

    /// Its NICs.
    pub fn nics(&self) -> [&E1000; 2] {
        [&self.first, &self.second]
    }

    fn nics_mut(&mut self) -> [&mut E1000; 2] {
        [&mut self.first, &mut self.second]
    }
}

impl Wakeable for Bridge {
    /// There is work while one side is up: the other may come back.
    fn link_up(&self) -> bool {
        self.first.link_up() || self.second.link_up()
    }

    fn service(&mut self) {
        self.first.service();
        self.second.service();
    }

    fn patience(&mut self) -> &mut Patience {
        self.first.patience()
    }

    fn reached(&mut self, until: Until) -> bool {
        match until {
            Until::Frame => {
                can_pass(&self.first, &mut self.second) || can_pass(&self.second, &mut self.first)
            }
            Until::Link => self.first.link_up() && self.second.link_up(),
            Until::Room | Until::Sent | Until::Deadline => false,
        }
    }

    fn arm(&mut self, until: Until) {
        for nic in self.nics_mut() {
            nic.arm(until);
            if !nic.queue().has_room() {
                nic.arm(Until::Room);
            }
        }
    }

    fn disarm(&mut self) {
        self.first.disarm();
        self.second.disarm();
    }
}

/// What went one way.
#[derive(Default)]
struct Passage {
    total: Tally,
    drops: u64,
}

/// Forwards until the role is over, for which both links have to be down.
pub fn run(mut session: Session<'_>, bridge: &mut Bridge) {
    bridge.nics_mut().into_iter().for_each(Nic::announce);
    let own = bridge.nics().map(Nic::mac);
    let (mut forth, mut back) = (Passage::default(), Passage::default());
    let (mut begin, mut end) = (None, 0);
    loop {
        bridge.service();
        let Bridge { first, second } = bridge;
        let passed = pass(first, second, &own, &mut forth) + pass(second, first, &own, &mut back);
        let now = time::now();
        if passed > 0 {
            begin.get_or_insert(now);
            end = now;
        }
        if session.is_over(now, bridge) {
            break;
        }
        session.report(now, total(&forth, &back));
        if passed == 0 {
            lend(bridge);
            wait::wait(bridge, Until::Frame, session.wake());
        }
    }
    // What the devices have delivered counts, however late we look.
    let Bridge { first, second } = bridge;
    first.stop_receiving();
    second.stop_receiving();
    while pass(first, second, &own, &mut forth) + pass(second, first, &own, &mut back) > 0 {}
    for (nic, passage) in [(&mut *first, &mut forth), (&mut *second, &mut back)] {
        while nic.receive(BATCH, |_| passage.drops += 1) > 0 {}
        nic.finish();
    }

    let elapsed = session.clock.ns(end - begin.unwrap_or(end));
    let total = total(&forth, &back);
    session
        .account(first.counters() + second.counters(), total.packets)
        .num("bytes", total.bytes)
        .num("elapsed_ns", elapsed)
        .num("packets_forth", forth.total.packets)
        .num("packets_back", back.total.packets)
        .num("drops_forth", forth.drops)
        .num("drops_back", back.drops)
        .end();
}

fn total(forth: &Passage, back: &Passage) -> Tally {
    Tally {
        packets: forth.total.packets + back.total.packets,
        bytes: forth.total.bytes + back.total.bytes,
    }
}

/// Whether a frame waits that [`pass`] would take.
fn can_pass(from: &E1000, to: &mut E1000) -> bool {
    from.has_received() && (!to.link_up() || to.queue().has_room())
}

/// Lends a device our CPU whose full ring holds up what has come from the other side.
fn lend(Bridge { first, second }: &mut Bridge) {
    if first.has_received() {
        second.wait(Until::Room, 0);
    }
    if second.has_received() {
        first.wait(Until::Room, 0);
    }
}

/// Passes a batch of frames on, as many as there is room for: the rest waits where it is. Drops
/// those for which there is no link, and our `own`, which have come round in a loop. Returns how many
/// descriptors that took.
#[inline]
fn pass(from: &mut E1000, to: &mut E1000, own: &[[u8; 6]; 2], passage: &mut Passage) -> u32 {
    let up = to.link_up();
    let room = if up { to.queue().room(BATCH) } else { BATCH };
    let count = from.receive(room, |frame: RxFrame<'_>| {
        let bytes = frame.bytes();
        let is_own = own.iter().any(|mac| bytes.get(6..12) == Some(mac.as_slice()));
        if is_own || !up {
            passage.drops += 1;
            return;
        }
        to.queue().push(frame.len(), |place| {
            // No frame is longer than its place: that would be a device's bug.
            let len = place.len().min(bytes.len());
            place[..len].copy_from_slice(&bytes[..len]);
        });
        passage.total.packets += 1;
        passage.total.bytes += u64::from(frame.len());
    });
    if count > 0 {
        to.flush();
    }
    count
}
