//! A VALE switch: learning, in batches, one copy per frame and receiver.
//!
//! The rules are those of VALE (Rizzo and Lettieri, CoNEXT 2012): a batch is forwarded in two
//! passes. The first looks every frame up and sorts it into a list per destination; the second
//! gives each destination its list at once. The work is frames plus destinations, not frames times
//! ports. What VALE lacks is here: ageing, a table that can be read and not be provoked, and a
//! counter for every frame that does not arrive.

mod counters;
mod forward;
pub(crate) mod nesting;
mod port;
mod table;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::RwLock;

use crate::backend::{Mac, Receiver};
use crate::clock::Clock;

use counters::LivePortCounters;
pub use counters::{PortCounters, PortDrops};
pub use port::Port;
use table::MacTable;

/// Most ports of a switch, as in VALE.
pub const MAX_PORTS: usize = 254;

/// How often the table ages, in nanoseconds; an address is forgotten after eight ticks, 300 s.
const AGEING_TICK_NS: u64 = 37_500_000_000;

/// Why a port could not be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SwitchError {
    /// All [`MAX_PORTS`] are in use.
    #[error("switch `{0}` is full: it has {MAX_PORTS} ports")]
    Full(String),
}

/// An address that a switch has learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacEntry {
    /// The address.
    pub mac: Mac,
    /// The port behind which it is.
    pub port: u8,
    /// Time since its last frame, in steps of 37.5 s.
    pub age: Duration,
}

/// A switch. Clones are handles to the same switch.
#[derive(Clone)]
pub struct Switch {
    shared: Arc<Shared>,
}

/// What all ports see.
struct Shared {
    name: String,
    clock: Arc<dyn Clock>,
    slots: RwLock<Vec<Slot>>,
    table: MacTable,
    /// The ageing tick up to which the table has been swept.
    tick: AtomicU8,
}

/// One port as the others see it.
#[derive(Default)]
struct Slot {
    attached: bool,
    receiver: Option<Weak<dyn Receiver>>,
    fed_by: Feeders,
    counters: Arc<LivePortCounters>,
}

/// The ports that have sent frames to a port.
#[derive(Default)]
struct Feeders([AtomicU64; MAX_PORTS.div_ceil(64)]);

impl Feeders {
    #[inline]
    fn add(&self, port: u8) {
        let (word, bit) = self.place(port);
        // Read first: the line stays shared among those who deliver.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn contains(&self, port: u8) -> bool {
        let (word, bit) = self.place(port);
        word.load(Ordering::Relaxed) & bit != 0
    }

    #[inline]
    fn place(&self, port: u8) -> (&AtomicU64, u64) {
        (&self.0[usize::from(port / 64)], 1 << (port % 64))
    }
}

impl Slot {
    #[inline]
    fn receiver(&self) -> Option<Arc<dyn Receiver>> {
        self.receiver.as_ref().and_then(Weak::upgrade)
    }
}

impl Switch {
    /// A switch without ports.
    pub fn new(name: &str, clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            name: name.to_owned(),
            clock,
            slots: RwLock::new(Vec::new()),
            table: MacTable::new(rand::random()),
            tick: AtomicU8::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The name given to [`new`](Self::new).
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Adds a port, the lowest that is free. It is freed when the returned backend is dropped.
    pub fn attach(&self) -> Result<Port, SwitchError> {
        self.attach_at(None)
    }

    /// As [`attach`](Self::attach); the port that is `wanted`, if one is and it has been freed.
    pub fn attach_at(&self, wanted: Option<u8>) -> Result<Port, SwitchError> {
        let mut slots = self.shared.slots.write();
        let is_free = |index: &usize| slots.get(*index).is_some_and(|slot| !slot.attached);
        let wanted = wanted.map(usize::from).filter(is_free);
        let free = wanted.or_else(|| slots.iter().position(|slot| !slot.attached));
        let index = match free {
            Some(index) => index,
            None if slots.len() < MAX_PORTS => {
                slots.push(Slot::default());
                slots.len() - 1
            }
            None => return Err(SwitchError::Full(self.shared.name.clone())),
        };
        slots[index] = Slot { attached: true, ..Slot::default() };
        Ok(Port::new(self.shared.clone(), index as u8, slots[index].counters.clone()))
    }

    /// Plugs a receiver into port `index`; frames to the port are dropped until then.
    pub fn connect(&self, index: u8, receiver: &Arc<dyn Receiver>) {
        if let Some(slot) = self.shared.slots.write().get_mut(usize::from(index)) {
            slot.receiver = Some(Arc::downgrade(receiver));
        }
    }

    /// The learned addresses, sorted by port.
    pub fn mac_table(&self) -> Vec<MacEntry> {
        let tick = self.shared.age();
        let entry = |(mac, port, seen): (Mac, u8, u8)| MacEntry {
            mac,
            port,
            age: Duration::from_nanos(u64::from(tick.wrapping_sub(seen)) * AGEING_TICK_NS),
        };
        let mut entries: Vec<_> = self.shared.table.entries().into_iter().map(entry).collect();
        entries.sort_by_key(|entry| (entry.port, entry.mac.octets()));
        entries
    }

    /// Counters of every attached port.
    pub fn counters(&self) -> Vec<(u8, PortCounters)> {
        let slots = self.shared.slots.read();
        let attached = slots.iter().enumerate().filter(|(_, slot)| slot.attached);
        attached.map(|(index, slot)| (index as u8, slot.counters.snapshot())).collect()
    }
}

impl Shared {
    /// The present ageing tick; sweeps the table when it has changed.
    fn age(&self) -> u8 {
        let tick = (self.clock.now() / AGEING_TICK_NS) as u8;
        let swept = self.tick.load(Ordering::Relaxed);
        if tick != swept
            && self.tick.compare_exchange(swept, tick, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.table.age(tick);
        }
        tick
    }

    fn detach(&self, index: u8) {
        if let Some(slot) = self.slots.write().get_mut(usize::from(index)) {
            *slot = Slot::default();
        }
        self.table.forget_port(index);
    }
}
