//! [`File`] to [`Lab`]: inheritance, references, and what relates one key to another.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use super::{
    Guest, Lab, Nic, Optimizations, Role, Switch, Workload,
    document::Document,
    file::{File, GuestSpec, NicSpec, RoleSpec, WorkloadSpec},
    index::join,
    problem::did_you_mean,
    units::{Int, human_mac},
};

/// Ports of one VALE switch (vale(4)).
const MAX_PORTS: usize = 254;
/// ITR counts 256 ns (82540EM manual, section 13.4.18).
const ITR_UNIT_NS: u128 = 256;

const DEFAULT_MEMORY_MIB: u32 = 64;
const DEFAULT_RING: u16 = 1024;
const DEFAULT_SPIN: Duration = Duration::from_micros(50);
const DEFAULT_ITR: Duration = Duration::from_micros(125);
/// Smallest Ethernet frame without its CRC.
pub(super) const DEFAULT_FRAME: u16 = 60;
pub(super) const DEFAULT_BURST: u16 = 1;

/// Fills in defaults, resolves names and checks what no single key can tell. The lab is only
/// meaningful if the document is still sound afterwards.
pub fn resolve(path: &Path, file: &File, document: &mut Document) -> Lab {
    let mut resolver = Resolver { file, document };
    let lab = resolver.lab(path);
    resolver.check_bursts(&lab);
    lab
}

/// A file being resolved. The part for `bench` is in `experiment.rs`.
pub(super) struct Resolver<'a> {
    pub file: &'a File,
    pub document: &'a mut Document,
}

impl<'a> Resolver<'a> {
    fn lab(&mut self, path: &Path) -> Lab {
        let file = self.file;
        self.check_names();
        if file.guests.0.is_empty() && !self.document.is_damaged("/guests") {
            let problem =
                self.document
                    .key_problem("/guests", "a lab needs at least one guest", "no guests");
            problem.help("for instance `guests: { left: { nics: [{ switch: sw0 }] } }`");
        }
        let mut guests: Vec<Guest> = file.guests.names().map(|name| self.guest(name)).collect();
        self.check_ports();
        self.assign_macs(&mut guests);
        let on = &file.optimizations;
        Lab {
            name: file.name.clone().unwrap_or_default(),
            path: path.to_owned(),
            description: file.description.clone(),
            switches: file
                .switches
                .names()
                .map(|name| Switch {
                    name: name.to_owned(),
                })
                .collect(),
            guests,
            optimizations: Optimizations {
                itr: on.itr.unwrap_or(true),
                sc: on.sc.unwrap_or(true),
                csb: on.csb.unwrap_or(true),
                vale: on.vale.unwrap_or(true),
            },
            bench: file.bench.as_ref().map(|bench| self.bench(bench)),
        }
    }

    /// Names end up in interface names, host names and file names.
    fn check_names(&mut self) {
        const EXPECTED: &str = "expected a name of 1 to 32 characters a-z, 0-9 and -";
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = |name: &str| (1..=32).contains(&name.len()) && name.bytes().all(allowed);
        match &self.file.name {
            Some(name) if good(name) => {}
            Some(_) => {
                self.document.value_problem("/name", EXPECTED, "not a name");
            }
            None if self.document.is_damaged("/name") => {}
            None => {
                self.document
                    .key_problem("", "missing key `name`", "the lab needs a name")
                    .help("for instance `name: my-lab`");
            }
        }
        let switches = self.file.switches.names().map(|name| ("/switches", name));
        let guests = self.file.guests.names().map(|name| ("/guests", name));
        for (section, name) in switches.chain(guests).filter(|(_, name)| !good(name)) {
            self.document
                .key_problem(&join(section, name), EXPECTED, "not a name");
        }
    }

    fn guest(&mut self, name: &str) -> Guest {
        let nics = self.nics(name);
        let itr = self.setting(name, "itr", |guest| guest.itr.as_ref());
        let itr = itr.map_or(DEFAULT_ITR, |(_, itr)| itr.get()).as_nanos();
        let spin = self.setting(name, "spin", |guest| guest.spin.as_ref());
        let spin = spin
            .map_or(DEFAULT_SPIN, |(_, spin)| spin.get())
            .as_micros();
        let memory = self.setting(name, "memory", |guest| guest.memory.as_ref());
        let ring = self.setting(name, "ring", |guest| guest.ring.as_ref());
        Guest {
            name: name.to_owned(),
            memory_mib: memory.map_or(DEFAULT_MEMORY_MIB, |(_, memory)| memory.mib()),
            ring: ring.map_or(DEFAULT_RING, |(_, ring)| ring.get()),
            // Both fit: the ranges in `file.rs` see to it.
            itr_interval: u16::try_from((itr + ITR_UNIT_NS / 2) / ITR_UNIT_NS).unwrap_or(u16::MAX),
            spin_us: u32::try_from(spin).unwrap_or(u32::MAX),
            nics: nics
                .iter()
                .map(|(pointer, nic)| self.nic(pointer, nic))
                .collect(),
            workload: self.workload(name),
        }
    }

    /// A guest's setting, its own or else inherited from `defaults`, and where it is written.
    pub fn setting<T>(
        &self,
        guest: &str,
        key: &str,
        get: fn(&GuestSpec) -> Option<&T>,
    ) -> Option<(String, &'a T)> {
        let own = &self.file.guests.0.get(self.file.guests.position(guest)?)?.1;
        let at_guest = get(own).map(|value| (join(&join("/guests", guest), key), value));
        at_guest.or_else(|| get(&self.file.defaults).map(|value| (join("/defaults", key), value)))
    }

    /// A guest's NICs with their places.
    fn nics(&mut self, guest: &str) -> Vec<(String, &'a NicSpec)> {
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
                    self.document
                        .value_problem(&pointer, expected, "found nothing");
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
    fn nics_damaged(&self, guest: &str) -> bool {
        self.document
            .is_damaged(&join(&join("/guests", guest), "nics"))
            || self.document.is_damaged("/defaults/nics")
    }

    fn nic(&mut self, pointer: &str, nic: &NicSpec) -> Nic {
        let switches = &self.file.switches;
        let switch = switches.position(&nic.switch);
        if switch.is_none() {
            if !self.is_lost("/switches", &nic.switch) {
                self.unknown(
                    &join(pointer, "switch"),
                    "switch",
                    &nic.switch,
                    switches.names(),
                );
            }
            self.document.set_aside(pointer);
        }
        Nic {
            switch: switch.unwrap_or_default(),
            mac: nic.mac.map_or([0; 6], |mac| mac.0),
        }
    }

    /// Whether `name` is missing from a section because what the file says of it, or the whole
    /// section, is wrong.
    fn is_lost(&self, section: &str, name: &str) -> bool {
        self.document.is_set_aside(section) || self.document.is_set_aside(&join(section, name))
    }

    /// Reports a reference to something that is not there.
    fn unknown<'n>(
        &mut self,
        pointer: &str,
        kind: &str,
        name: &str,
        known: impl Iterator<Item = &'n str>,
    ) {
        let known: Vec<_> = known.collect();
        let message = format!("no {kind} is called `{name}`");
        let problem = self
            .document
            .value_problem(pointer, &message, format!("unknown {kind}"));
        match did_you_mean(name, known.iter().copied()) {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None if known.is_empty() => problem.help(format!("the file declares no {kind}")),
            None => problem.help(format!("known: {}", known.join(", "))),
        };
    }

    fn workload(&mut self, guest: &str) -> Workload {
        let mut workload = Workload {
            role: Role::Idle,
            frame: DEFAULT_FRAME,
            burst: DEFAULT_BURST,
            rate: 0,
            count: 0,
            duration_ms: 0,
        };
        let setting = self.setting(guest, "workload", |guest| guest.workload.as_ref());
        let Some((pointer, spec)) = setting else {
            return workload;
        };
        self.check_workload_keys(&pointer, spec);
        let to = match spec.role {
            RoleSpec::Tx | RoleSpec::Ping => self.target(&pointer, guest, spec),
            RoleSpec::Rx | RoleSpec::Pong | RoleSpec::Idle => None,
        };
        let to = to.unwrap_or_default();
        workload.role = match spec.role {
            RoleSpec::Tx => Role::Tx { to },
            RoleSpec::Rx => Role::Rx,
            RoleSpec::Ping => Role::Ping { to },
            RoleSpec::Pong => Role::Pong,
            RoleSpec::Idle => Role::Idle,
        };
        let duration = spec
            .duration
            .map_or(Duration::ZERO, |duration| duration.get());
        Workload {
            frame: spec.frame.map_or(workload.frame, Int::get),
            burst: spec.burst.map_or(workload.burst, Int::get),
            rate: spec.rate.map_or(workload.rate, |rate| rate.0),
            count: spec.count.map_or(workload.count, Int::get),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            ..workload
        }
    }

    /// A key that its role ignores is a misunderstanding: say so.
    fn check_workload_keys(&mut self, pointer: &str, spec: &WorkloadSpec) {
        let (role, known): (_, &[&str]) = match spec.role {
            RoleSpec::Tx => ("tx", &["to", "frame", "burst", "rate", "count", "duration"]),
            RoleSpec::Ping => ("ping", &["to", "frame", "rate", "count", "duration"]),
            RoleSpec::Rx => ("rx", &["duration"]),
            RoleSpec::Pong => ("pong", &["duration"]),
            RoleSpec::Idle => ("idle", &[]),
        };
        let given = [
            ("to", spec.to.is_some()),
            ("frame", spec.frame.is_some()),
            ("burst", spec.burst.is_some()),
            ("rate", spec.rate.is_some()),
            ("count", spec.count.is_some()),
            ("duration", spec.duration.is_some()),
        ];
        for (key, _) in given
            .iter()
            .filter(|(key, given)| *given && !known.contains(key))
        {
            let message = format!("role `{role}` has no `{key}`");
            let help = match known {
                [] => format!("role `{role}` takes no other keys"),
                known => format!("keys of role `{role}`: {}", known.join(", ")),
            };
            let pointer = join(pointer, key);
            self.document
                .key_problem(&pointer, &message, "without effect")
                .help(help);
        }
    }

    fn target(&mut self, pointer: &str, guest: &str, spec: &WorkloadSpec) -> Option<usize> {
        let at = join(pointer, "to");
        match &spec.to {
            Some(to) => self.peer(&at, guest, to),
            None if self.document.is_damaged(&at) => None,
            None => {
                self.document
                    .key_problem(pointer, "missing key `to`", "`to` is required here")
                    .help("name the guest that gets the frames");
                None
            }
        }
    }

    /// Finds a guest by name.
    pub fn find_guest(&mut self, pointer: &str, name: &str) -> Option<usize> {
        let guests = &self.file.guests;
        let position = guests.position(name);
        if position.is_none() && !self.is_lost("/guests", name) {
            self.unknown(pointer, "guest", name, guests.names());
        }
        position
    }

    /// Finds the guest `to` that `from` wants to reach, and checks that it can.
    pub fn peer(&mut self, pointer: &str, from: &str, to: &str) -> Option<usize> {
        let position = self.find_guest(pointer, to)?;
        if from == to {
            let label = "the sender itself";
            self.document
                .value_problem(pointer, "a guest cannot talk to itself", label);
            return None;
        }
        let [ours, theirs] = [from, to].map(|guest| self.switches_of(guest));
        let known = !self.nics_damaged(from) && !self.nics_damaged(to);
        if known && !ours.is_empty() && !theirs.is_empty() && ours.is_disjoint(&theirs) {
            let list = |switches: HashSet<&str>| {
                let mut switches: Vec<_> = switches.into_iter().collect();
                switches.sort_unstable();
                switches.join(", ")
            };
            let message = format!("`{from}` and `{to}` share no switch");
            self.document
                .value_problem(
                    pointer,
                    &message,
                    format!("cannot be reached from `{from}`"),
                )
                .help(format!(
                    "{from} is on {}; {to} is on {}",
                    list(ours),
                    list(theirs)
                ));
        }
        Some(position)
    }

    fn switches_of(&self, guest: &str) -> HashSet<&'a str> {
        let nics = self.setting(guest, "nics", |guest| guest.nics.as_ref());
        let nics = nics.into_iter().flat_map(|(_, nics)| nics.iter().flatten());
        nics.map(|nic| nic.switch.as_str()).collect()
    }

    /// All NICs of the lab with their places, by guest and number.
    fn all_nics(&self) -> Vec<(usize, usize, String, &'a NicSpec)> {
        let mut all = Vec::new();
        for (g, name) in self.file.guests.names().enumerate() {
            let nics = self.setting(name, "nics", |guest| guest.nics.as_ref());
            let Some((list, nics)) = nics else { continue };
            let nics = nics
                .iter()
                .enumerate()
                .filter_map(|(i, nic)| Some((i, nic.as_ref()?)));
            let placed = nics
                .map(|(i, nic)| (join(&list, &i.to_string()), nic))
                .enumerate();
            all.extend(placed.map(|(n, (pointer, nic))| (g, n, pointer, nic)));
        }
        all
    }

    fn check_ports(&mut self) {
        let mut ports: HashMap<&str, usize> = HashMap::new();
        for (_, _, pointer, nic) in self.all_nics() {
            let count = ports.entry(&nic.switch).or_default();
            *count += 1;
            if *count == MAX_PORTS + 1 {
                let message = format!("a switch has at most {MAX_PORTS} ports");
                let label = format!("one too many on `{}`", nic.switch);
                self.document
                    .value_problem(&join(&pointer, "switch"), &message, label);
            }
        }
    }

    /// Checks the given MAC addresses and generates the others.
    fn assign_macs(&mut self, guests: &mut [Guest]) {
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
                let problem = self
                    .document
                    .value_problem(&pointer, &message, "again here");
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
