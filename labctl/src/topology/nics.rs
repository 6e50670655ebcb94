//! NICs: whose they are, the switch ports they take and their MAC addresses.

use std::collections::HashMap;

use super::{
    Guest, Nic, Overrides, file::NicSpec, index::join, resolve::Resolver, units::human_mac,
};
use crate::impairments::Impairments;

/// Ports of one VALE switch (vale(4)).
const MAX_PORTS: usize = 254;

impl<'a> Resolver<'a> {
    /// A guest's NICs with their places.
    pub fn nics(&mut self, guest: &str) -> Vec<(String, &'a NicSpec)> {
        let Some((list, items)) = self.setting(guest, "nics", |guest| guest.nics.as_ref()) else {
            if !self.nics_damaged(guest) {
                self.no_nics(&join("/guests", guest));
            }
            return Vec::new();
        };
        if items.is_empty() {
            self.no_nics(&list);
        }
        let mut nics = Vec::new();
        for (i, nic) in items.iter().enumerate() {
            let pointer = join(&list, &i.to_string());
            match nic {
                Some(nic) => nics.push((pointer, nic)),
                None if self.document.is_damaged(&pointer) => {}
                None => {
                    let expected = "expected a NIC, such as { switch: sw0 }";
                    self.document.value_problem(&pointer, expected, "found nothing");
                    self.document.set_aside(&pointer);
                }
            }
        }
        nics
    }

    fn no_nics(&mut self, pointer: &str) {
        self.document
            .key_problem(pointer, "a guest needs at least one NIC", "no NICs")
            .help("for instance `nics: [{ switch: sw0 }]`");
    }

    /// Whether a NIC of the guest could not be made sense of, so that its links are not known.
    pub fn nics_damaged(&self, guest: &str) -> bool {
        self.document.is_damaged(&join(&join("/guests", guest), "nics"))
            || self.document.is_damaged("/defaults/nics")
    }

    pub fn nic(&mut self, pointer: &str, nic: &NicSpec) -> Nic {
        let switches = &self.file.switches;
        let switch = switches.position(&nic.switch);
        if switch.is_none() {
            if !self.is_lost("/switches", &nic.switch) {
                self.unknown(&join(pointer, "switch"), "switch", &nic.switch, switches.names());
            }
            self.document.set_aside(pointer);
        }
        Nic {
            switch: switch.unwrap_or_default(),
            mac: nic.mac.map_or([0; 6], |mac| mac.0),
            optimizations: Overrides::default(),
            impairments: Impairments::default(),
        }
    }

    /// All NICs of the lab with their places, by guest and number.
    fn all_nics(&self) -> Vec<(usize, usize, String, &'a NicSpec)> {
        let mut all = Vec::new();
        for (g, name) in self.file.guests.names().enumerate() {
            let nics = self.setting(name, "nics", |guest| guest.nics.as_ref());
            let Some((list, nics)) = nics else { continue };
            let nics = nics.iter().enumerate().filter_map(|(i, nic)| Some((i, nic.as_ref()?)));
            let placed = nics.map(|(i, nic)| (join(&list, &i.to_string()), nic)).enumerate();
            all.extend(placed.map(|(n, (pointer, nic))| (g, n, pointer, nic)));
        }
        all
    }

    pub fn check_ports(&mut self) {
        let mut ports: HashMap<&str, usize> = HashMap::new();
        for (_, _, pointer, nic) in self.all_nics() {
            let count = ports.entry(&nic.switch).or_default();
            *count += 1;
            if *count == MAX_PORTS + 1 {
                let message = format!("a switch has at most {MAX_PORTS} ports");
                let label = format!("one too many on `{}`", nic.switch);
                self.document.value_problem(&join(&pointer, "switch"), &message, label);
            }
        }
    }

    /// Checks the given MAC addresses and generates the others.
    pub fn assign_macs(&mut self, guests: &mut [Guest]) {
        let nics = self.all_nics();
        let mut taken: HashMap<[u8; 6], String> = HashMap::new();
        for (_, _, pointer, nic) in &nics {
            let Some(mac) = nic.mac else { continue };
            let pointer = join(pointer, "mac");
            let Some(first) = taken.insert(mac.0, pointer.clone()) else {
                continue;
            };
            let message = format!("two NICs have the MAC address {}", human_mac(mac.0));
            let problem = if first == pointer {
                let label = "inherited by more than one guest";
                self.document.value_problem(&pointer, &message, label)
            } else {
                let first = self.document.index().value(&first);
                let problem = self.document.value_problem(&pointer, &message, "again here");
                problem.also(first, "first here")
            };
            problem.help("leave `mac` out to have one generated");
        }
        let lab = self.file.name.as_deref().unwrap_or_default();
        for (guest, n, pointer, _) in nics.into_iter().filter(|(.., nic)| nic.mac.is_none()) {
            let Some(guest) = guests.get_mut(guest) else {
                continue;
            };
            let candidates = (0u32..).map(|attempt| generated_mac(lab, &guest.name, n, attempt));
            let free = candidates.into_iter().find(|mac| !taken.contains_key(mac));
            if let (Some(mac), Some(nic)) = (free, guest.nics.get_mut(n)) {
                nic.mac = mac;
                taken.insert(mac, pointer);
            }
        }
    }
}

/// A locally administered unicast address that depends on the names alone, so that it is the same
/// on every run and host (FNV-1a, 64 bit).
fn generated_mac(lab: &str, guest: &str, nic: usize, attempt: u32) -> [u8; 6] {
    let text = format!("{lab}/{guest}/{nic}/{attempt}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = (hash ^ (hash >> 40)).to_le_bytes();
    [0x02, a, b, c, d, e]
}
