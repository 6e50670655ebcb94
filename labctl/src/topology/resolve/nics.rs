//! NICs: their numbers, their optimizations and their MAC addresses.

use std::collections::HashMap;

use vmm_core::platform::MAX_NICS;

use crate::optimizations::Optimization;
use crate::topology::{
    Guest, Nic, Overrides,
    file::{KindSpec, Toggles},
    resolve::Resolver,
    text::index::join,
};
use crate::units::{End, human_mac};

impl Resolver<'_> {
    /// A guest's NICs, in the order of their numbers.
    pub fn nics(&mut self, guest: usize, name: &str) -> Vec<Nic> {
        let Some(cabled) = self.cabling.nics.get(guest) else { return Vec::new() };
        let toggles: Vec<_> =
            cabled.values().filter_map(|nic| Some((nic.pointer.clone(), nic.toggles?))).collect();
        let nics = cabled.values().map(|nic| Nic {
            switch: nic.switch.unwrap_or_default(),
            mac: nic.mac.map_or([0; 6], |mac| mac.0),
            optimizations: nic.toggles.map_or(Overrides::default(), |own| Overrides {
                itr: own.itr,
                sc: None,
                csb: own.csb,
            }),
            impairments: nic.impairments,
        });
        let nics = nics.collect();
        for (pointer, toggles) in toggles {
            self.check_toggles_of_nic(&pointer, toggles, self.kind(name));
        }
        nics
    }

    fn check_toggles_of_nic(&mut self, pointer: &str, own: &Toggles, kind: Option<KindSpec>) {
        if own.sc.is_some() {
            self.misplaced(pointer, Optimization::Sc, "belongs to the guest")
                .help("a guest's driver combines its sends on all NICs or on none");
        }
        if own.vale.is_some() {
            self.misplaced(pointer, Optimization::Vale, "belongs to the switch")
                .help("a switch has it by `kind: vale`, and not by `kind: bridge`");
        }
        if let (Some(_), Some(kind @ (KindSpec::Linux | KindSpec::Pvh))) = (own.csb, kind) {
            let pointer = join(&join(pointer, "optimizations"), "csb");
            let message = format!("kind `{}` has no `csb`", kind.as_str());
            self.document
                .key_problem(&pointer, &message, "without effect")
                .help("the driver must know it, and pktguest's does");
        }
    }

    /// NICs have the numbers 0, 1, 2 and so on, whether from `nics` or `links`.
    pub fn check_nic_numbers(&mut self) {
        let file = self.file;
        for (guest, name) in file.guests.names().enumerate() {
            if self.are_numbers_lost(name) {
                continue;
            }
            let Some(nics) = self.cabling.nics.get(guest) else { continue };
            let place = |number: &usize| nics.get(number).map(|nic| nic.pointer.clone());
            let gap = nics.keys().enumerate().find(|(expected, number)| expected != *number);
            let gap = gap.and_then(|(missing, number)| Some((missing, *number, place(number)?)));
            let surplus = place(&MAX_NICS);
            if nics.is_empty() {
                let list = self.setting(name, "nics", |guest| guest.nics.as_ref());
                let pointer = list.map_or_else(|| join("/guests", name), |(pointer, _)| pointer);
                self.document
                    .key_problem(&pointer, "a guest needs at least one NIC", "no NICs")
                    .help("for instance `nics: [sw0]`");
            } else if let Some((missing, number, at)) = gap {
                let message = format!("`{name}` has NIC {number}, but no NIC {missing}");
                self.document
                    .value_problem(&at, &message, "numbered with a gap")
                    .help(format!("NICs are numbered from 0 on: `{name}:{missing}` comes first"));
            } else if let Some(at) = surplus {
                let message = format!("a guest has at most {MAX_NICS} NICs");
                let label = format!("one too many for `{name}`");
                self.document.value_problem(&at, &message, label);
            }
        }
    }

    /// Whether a NIC of the guest, or where its cable leads, could not be made sense of.
    pub fn nics_damaged(&self, guest: &str) -> bool {
        let leads_nowhere = |number: usize| {
            self.file.guests.position(guest).is_none_or(|guest| {
                self.cabling.nics[guest].get(&number).is_none_or(|nic| nic.switch.is_none())
            })
        };
        let list = self.setting(guest, "nics", |guest| guest.nics.as_ref());
        self.links_damaged()
            || self.is_setting_lost(guest, "nics", |guest| guest.nics.is_some())
            || list.is_some_and(|(_, list)| (0..list.0.len()).any(leads_nowhere))
    }

    /// Whether the file may give a guest this NIC where it makes no sense.
    pub fn is_nic_lost(&self, guest: &str, number: usize) -> bool {
        let list = self.setting(guest, "nics", |guest| guest.nics.as_ref());
        let item = list.and_then(|(_, list)| list.0.get(number));
        matches!(item, Some(None))
            || self.is_setting_lost(guest, "nics", |guest| guest.nics.is_some())
            || self.is_link_lost_to(&|end| {
                matches!(end, End::Nic { guest: own, nic } if own == guest && *nic == number)
            })
    }

    /// Whether which numbers the NICs of a guest have is not known.
    fn are_numbers_lost(&self, guest: &str) -> bool {
        let list = self.setting(guest, "nics", |guest| guest.nics.as_ref());
        list.is_some_and(|(_, list)| list.0.iter().any(Option::is_none))
            || self.is_setting_lost(guest, "nics", |guest| guest.nics.is_some())
            || self.is_link_lost_to(&|end| match end {
                // A guest that is not there may be this one, misspelt.
                End::Nic { guest: own, .. } => {
                    own == guest || self.file.guests.position(own).is_none()
                }
                // Its name without a number.
                End::Switch(name) => name == guest,
                End::Host { .. } => false,
            })
    }

    /// Checks the given MAC addresses and generates the others.
    pub fn assign_macs(&mut self, guests: &mut [Guest]) {
        let mut taken: HashMap<[u8; 6], String> = HashMap::new();
        let given = self.cabling.nics.iter().flat_map(|nics| nics.values());
        let given = given.filter_map(|nic| Some((nic.mac?.0, join(&nic.pointer, "mac"))));
        for (mac, pointer) in given.collect::<Vec<_>>() {
            let Some(first) = taken.insert(mac, pointer.clone()) else {
                continue;
            };
            let message = format!("two NICs have the MAC address {}", human_mac(mac));
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
        for (guest, cabled) in guests.iter_mut().zip(&self.cabling.nics) {
            for (n, (nic, cabled)) in guest.nics.iter_mut().zip(cabled.values()).enumerate() {
                if cabled.mac.is_some() {
                    continue;
                }
                let candidates =
                    (0u32..).map(|attempt| generated_mac(lab, &guest.name, n, attempt));
                if let Some(mac) = candidates.into_iter().find(|mac| !taken.contains_key(mac)) {
                    nic.mac = mac;
                    taken.insert(mac, cabled.pointer.clone());
                }
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
