//! The MAC table: which port an address was last seen on.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::Mac;

/// Buckets; a power of two.
const BUCKETS: usize = 1024;
/// Addresses per bucket: VALE's table has one, so that two busy addresses can evict each other.
const WAYS: usize = 4;
/// Ageing ticks that an address outlives.
const LIFETIME_TICKS: u8 = 8;

/// Address in bits 0..48, port in 48..56, tick of the last frame in 56..64. 0 is empty.
type Entry = u64;

const MAC_MASK: u64 = (1 << 48) - 1;

fn entry(mac: Mac, port: u8, tick: u8) -> Entry {
    mac.0 | u64::from(port) << 48 | u64::from(tick) << 56
}

fn port_of(entry: Entry) -> u8 {
    (entry >> 48) as u8
}

fn tick_of(entry: Entry) -> u8 {
    (entry >> 56) as u8
}

/// A table that any number of ports read and write without locks: an entry is one word, and a lost
/// race between two writers costs a flooded frame, never a wrong table.
pub struct MacTable {
    buckets: Box<[[AtomicU64; WAYS]]>,
    /// Chosen at random, so that no guest can aim for another's bucket.
    key: u64,
}

impl MacTable {
    /// An empty table. `key` must not be guessable by guests.
    pub fn new(key: u64) -> Self {
        let bucket = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { buckets: (0..BUCKETS).map(|_| bucket()).collect(), key: key | 1 }
    }

    #[inline]
    fn bucket(&self, mac: Mac) -> &[AtomicU64; WAYS] {
        // Multiply-shift hashing (Dietzfelbinger et al. 1997) with a secret odd multiplier.
        let hash = (mac.0 ^ (mac.0 >> 24)).wrapping_mul(self.key) >> (64 - BUCKETS.ilog2());
        &self.buckets[hash as usize]
    }

    /// The port that `mac` was last seen on.
    #[inline]
    pub fn lookup(&self, mac: Mac) -> Option<u8> {
        self.bucket(mac)
            .iter()
            .map(|slot| slot.load(Ordering::Relaxed))
            .find(|e| *e & MAC_MASK == mac.0 && *e != 0)
            .map(port_of)
    }

    /// Notes that a frame from `mac` came in on `port`. Writes only what is new, so that the table
    /// stays shared between the cores' caches.
    #[inline]
    pub fn learn(&self, mac: Mac, port: u8, tick: u8) {
        if mac.0 == 0 || mac.is_group() {
            return;
        }
        let new = entry(mac, port, tick);
        let bucket = self.bucket(mac);
        let mut victim = &bucket[0];
        let mut victim_age = -1;
        for slot in bucket {
            let old = slot.load(Ordering::Relaxed);
            if old & MAC_MASK == mac.0 {
                if old != new {
                    slot.store(new, Ordering::Relaxed);
                }
                return;
            }
            let age = if old == 0 { i16::MAX } else { i16::from(tick.wrapping_sub(tick_of(old))) };
            if age > victim_age {
                (victim, victim_age) = (slot, age);
            }
        }
        victim.store(new, Ordering::Relaxed);
    }

    /// Forgets what has not been seen for [`LIFETIME_TICKS`].
    pub fn age(&self, tick: u8) {
        self.forget(|e| tick.wrapping_sub(tick_of(e)) >= LIFETIME_TICKS);
    }

    /// Forgets what was learned on `port`.
    pub fn forget_port(&self, port: u8) {
        self.forget(|e| port_of(e) == port);
    }

    fn forget(&self, condition: impl Fn(Entry) -> bool) {
        for slot in self.buckets.iter().flatten() {
            let old = slot.load(Ordering::Relaxed);
            if old != 0 && condition(old) {
                // A port that learns the address at this moment wins.
                let _ = slot.compare_exchange(old, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// All addresses with their ports, in no particular order.
    pub fn entries(&self) -> Vec<(Mac, u8)> {
        let all = self.buckets.iter().flatten().map(|slot| slot.load(Ordering::Relaxed));
        all.filter(|e| *e != 0).map(|e| (Mac(e & MAC_MASK), port_of(e))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u64) -> Mac {
        Mac(n << 8 | 2)
    }

    #[test]
    fn learns_and_moves() {
        let table = MacTable::new(12345);
        assert_eq!(table.lookup(mac(1)), None);
        table.learn(mac(1), 3, 0);
        assert_eq!(table.lookup(mac(1)), Some(3));
        table.learn(mac(1), 4, 0);
        assert_eq!(table.lookup(mac(1)), Some(4));
        assert_eq!(table.entries(), [(mac(1), 4)]);
    }

    #[test]
    fn group_addresses_and_zero_are_not_learned() {
        let table = MacTable::new(1);
        table.learn(Mac::BROADCAST, 1, 0);
        table.learn(Mac(0), 1, 0);
        assert!(table.entries().is_empty());
        assert_eq!(table.lookup(Mac(0)), None);
    }

    #[test]
    fn ageing_keeps_what_was_seen_lately() {
        let table = MacTable::new(99);
        table.learn(mac(1), 1, 250);
        table.learn(mac(2), 2, 255);
        table.age(255);
        assert_eq!(table.entries().len(), 2);
        table.age(2); // 250 is 8 ticks old, 255 is 3
        assert_eq!(table.entries(), [(mac(2), 2)]);
    }

    #[test]
    fn a_full_bucket_gives_up_its_oldest() {
        let table = MacTable::new(7);
        let full = table.bucket(mac(0)).as_ptr();
        let same: Vec<Mac> =
            (0..1_000_000).map(mac).filter(|m| table.bucket(*m).as_ptr() == full).take(5).collect();
        for (tick, m) in same.iter().enumerate() {
            table.learn(*m, 1, tick as u8);
        }
        assert_eq!(table.lookup(same[0]), None);
        assert!(same[1..].iter().all(|m| table.lookup(*m) == Some(1)));
    }

    #[test]
    fn a_port_takes_its_addresses_with_it() {
        let table = MacTable::new(0x9e37_79b9_7f4a_7c15);
        (0..100).for_each(|n| table.learn(mac(n + 1), (n % 2) as u8, 0));
        table.forget_port(1);
        assert!(table.entries().iter().all(|(_, port)| *port == 0));
        assert_eq!(table.entries().len(), 50);
    }
}
