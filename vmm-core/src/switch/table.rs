//! The MAC table: which port an address was last seen on.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::backend::Mac;

/// Buckets; a power of two.
const BUCKETS: usize = 1024;
/// Addresses per bucket: VALE's table has one, so that two busy addresses can evict each other.
const WAYS: usize = 4;
/// Ports that an entry can name.
const PORTS: usize = 256;
/// Odd, its bits without a pattern: 2^64 divided by the golden ratio.
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;
/// Ageing ticks that an address outlives.
const LIFETIME_TICKS: u8 = 8;

/// Address in bits 0..48, port in 48..56, tick of the last frame in 56..64.
type Entry = u64;

/// No address: group addresses are never learned.
const EMPTY: Entry = u64::MAX;
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

/// Half a cache line, never parts of two.
#[repr(align(32))]
struct Bucket([AtomicU64; WAYS]);

/// A table that any number of ports read and write without locks: an entry is one word, and a lost
/// race between two writers costs a flooded frame, never a wrong table.
///
/// A full bucket gives up an entry of the port that has the most in the whole table, and takes none
/// from a port that has even more. So a guest with ever new addresses displaces its own, or those of
/// others who do the same.
#[repr(align(128))] // away from the lock that every batch takes
pub struct MacTable {
    buckets: Box<[Bucket; BUCKETS]>,
    /// Chosen at random, so that no guest can aim for another's bucket.
    key: u64,
    /// Each port's entries.
    held: Box<[AtomicU32; PORTS]>,
}

impl MacTable {
    /// An empty table. `key` must not be guessable by guests.
    pub fn new(key: u64) -> Self {
        let bucket = |_| Bucket(std::array::from_fn(|_| AtomicU64::new(EMPTY)));
        Self {
            buckets: Box::new(std::array::from_fn(bucket)),
            key: key | 1,
            held: Box::new(std::array::from_fn(|_| AtomicU32::new(0))),
        }
    }

    #[inline]
    fn bucket(&self, mac: Mac) -> &[AtomicU64; WAYS] {
        // Multiply-shift hashing (Dietzfelbinger et al. 1997) with a secret odd multiplier, then a
        // second round: after one, some keys put consecutive addresses into a handful of buckets.
        let product = mac.0.wrapping_mul(self.key);
        let mixed = (product ^ (product >> 32)).wrapping_mul(MIXER);
        let hash = mixed >> (64 - BUCKETS.ilog2());
        &self.buckets[hash as usize].0
    }

    /// The port that `mac` was last seen on.
    #[inline]
    pub fn lookup(&self, mac: Mac) -> Option<u8> {
        self.bucket(mac)
            .iter()
            .map(|slot| slot.load(Ordering::Relaxed))
            .find(|e| *e & MAC_MASK == mac.0)
            .filter(|e| *e != EMPTY)
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
        for slot in bucket {
            let old = slot.load(Ordering::Relaxed);
            if old & MAC_MASK == mac.0 {
                if old != new {
                    self.replace(slot, old, new);
                }
                return;
            }
        }
        self.insert(bucket, new);
    }

    /// Puts an address into a bucket that does not have it, if its port may have a place there.
    fn insert(&self, bucket: &[AtomicU64; WAYS], new: Entry) {
        // Empty places first, then the busiest port's, the oldest of them first.
        let claim = |old: Entry| match old {
            EMPTY => (u32::MAX, 0),
            _ => (self.held(port_of(old)), tick_of(new).wrapping_sub(tick_of(old))),
        };
        let victim = bucket
            .iter()
            .map(|slot| (slot, slot.load(Ordering::Relaxed)))
            .max_by_key(|(_, old)| claim(*old));
        if let Some((slot, old)) = victim
            && claim(old).0 >= self.held(port_of(new))
        {
            self.replace(slot, old, new);
        }
    }

    /// Entries of `port`.
    fn held(&self, port: u8) -> u32 {
        self.held[usize::from(port)].load(Ordering::Relaxed)
    }

    /// Writes `new` if `old` is still there: of two writers one wins, and the counts stay exact.
    fn replace(&self, slot: &AtomicU64, old: Entry, new: Entry) {
        let written = slot.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let same_port = old != EMPTY && new != EMPTY && port_of(old) == port_of(new);
        if written && !same_port {
            if old != EMPTY {
                self.held[usize::from(port_of(old))].fetch_sub(1, Ordering::Relaxed);
            }
            if new != EMPTY {
                self.held[usize::from(port_of(new))].fetch_add(1, Ordering::Relaxed);
            }
        }
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
        for slot in self.slots() {
            let old = slot.load(Ordering::Relaxed);
            if old != EMPTY && condition(old) {
                self.replace(slot, old, EMPTY);
            }
        }
    }

    /// All addresses with their ports and the ticks of their last frames, in no particular order.
    pub fn entries(&self) -> Vec<(Mac, u8, u8)> {
        let all = self.slots().map(|slot| slot.load(Ordering::Relaxed));
        all.filter(|e| *e != EMPTY).map(|e| (Mac(e & MAC_MASK), port_of(e), tick_of(e))).collect()
    }

    fn slots(&self) -> impl Iterator<Item = &AtomicU64> {
        self.buckets.iter().flat_map(|bucket| &bucket.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

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
        assert_eq!(table.entries(), [(mac(1), 4, 0)]);
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
        assert_eq!(table.entries(), [(mac(2), 2, 255)]);
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
        assert!(table.entries().iter().all(|(_, port, _)| *port == 0));
        assert_eq!(table.entries().len(), 50);
    }

    /// What the table thinks each port has, against what it has.
    fn assert_counts(table: &MacTable) {
        for port in 0..=u8::MAX {
            let entries = table.entries().iter().filter(|(_, p, _)| *p == port).count();
            assert_eq!(table.held(port), entries as u32, "port {port}");
        }
    }

    #[test]
    fn consecutive_addresses_find_room_whatever_the_key() {
        // Numbered in the last byte, as labs do, and in the first after the group bit.
        for numbered in [|n: u64| Mac(n << 40 | 2), |n: u64| Mac(n << 8 | 2)] {
            for seed in 0..5000 {
                let table = MacTable::new(SmallRng::seed_from_u64(seed).random());
                (1..=64).for_each(|n| table.learn(numbered(n), n as u8, 0));
                assert_eq!(table.entries().len(), 64, "seed {seed}");
            }
        }
    }

    #[test]
    fn ever_new_addresses_displace_none_of_other_ports() {
        let table = MacTable::new(0x9e37_79b9_7f4a_7c15);
        let (flooders, stations) = ([100, 101], 0..64u8);
        let station = |n: u8| mac(1_000_000 + u64::from(n));
        // Half the stations are known before the flood, half come in the middle of it; then all of
        // them are silent.
        for n in 0..100_000 {
            table.learn(mac(n + 1), flooders[n as usize % 2], (n / 20_000) as u8);
            match n {
                0 => stations.clone().step_by(2).for_each(|n| table.learn(station(n), n, 0)),
                50_000 => {
                    stations.clone().skip(1).step_by(2).for_each(|n| table.learn(station(n), n, 2))
                }
                _ => {}
            }
        }
        for n in stations {
            assert_eq!(table.lookup(station(n)), Some(n));
        }
        assert!(table.held(100) > 1000, "a flooder may fill what nobody else needs");
        assert_counts(&table);
    }

    #[test]
    fn counts_stay_exact() {
        let table = MacTable::new(3);
        (0..10_000).for_each(|n| table.learn(mac(n % 5000 + 1), (n % 7) as u8, (n / 2000) as u8));
        assert_counts(&table);
        table.forget_port(3);
        table.age(9);
        assert_counts(&table);
        table.age(100);
        assert!(table.entries().is_empty());
        assert_counts(&table);
    }

    #[test]
    fn counts_stay_exact_when_ports_compete() {
        let table = MacTable::new(5);
        std::thread::scope(|scope| {
            for port in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    (0..50_000).for_each(|n| table.learn(mac(n % 9000 + 1), port, 0))
                });
            }
            (0..100).for_each(|tick| table.age(tick));
        });
        assert_counts(&table);
    }
}
