//! [`File`] to [`Lab`]: inheritance, references, and what relates one key to another.

mod addresses;
mod cabling;
mod events;
mod impair;
mod inherit;
mod links;
mod nics;
mod platform;
mod system;

use std::{path::Path, time::Duration};

use crate::protocol::Protocol;
use crate::topology::{
    Guest, Lab, Pktguest, Role, System, Target, Workload,
    file::{File, RoleSpec, WorkloadSpec},
    resolve::cabling::Cabling,
    text::document::Document,
    text::index::join,
};
use crate::units::{Int, Network};

/// ITR counts 256 ns (82540EM manual, section 13.4.18).
const ITR_UNIT_NS: u128 = 256;

const DEFAULT_MEMORY_MIB: u32 = 64;
/// What a distribution's kernel and a small initrd run in.
const DEFAULT_LINUX_MEMORY_MIB: u32 = 256;
pub const DEFAULT_RING: u16 = 1024;
pub const DEFAULT_SPIN: Duration = Duration::from_micros(50);
pub const DEFAULT_ITR: Duration = Duration::from_micros(125);
pub const DEFAULT_BURST: u16 = 1;

/// The frame that packets of a protocol come in unless the file says otherwise: a stream fills the
/// longest.
pub fn default_frame(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Raw | Protocol::Udp => 60,
        Protocol::Tcp => 1514,
    }
}

/// What a name must look like.
pub const NAME_EXPECTED: &str =
    "expected a name of 1 to 32 characters a-z, 0-9 and, between them, -";
/// The same for editors.
pub const NAME_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$";

/// Whether something can be called that. What begins with `-` a command line takes for a flag.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let dashed = name.starts_with('-') || name.ends_with('-');
    (1..=32).contains(&name.len()) && name.bytes().all(allowed) && !dashed
}

/// Fills in defaults, resolves names and checks what no single key can tell. The lab is only
/// meaningful if the document is still sound afterwards.
pub fn resolve(path: &Path, file: &File, document: &mut Document) -> Lab {
    let directory = path.parent().unwrap_or(Path::new(""));
    let (cabling, talks) = Default::default();
    let mut resolver = Resolver { file, directory, document, cabling, talks };
    let lab = resolver.lab(path);
    resolver.check_loops(&lab);
    resolver.check_forwarders(&lab);
    resolver.check_reach(&lab);
    resolver.check_bursts(&lab);
    resolver.check_frames(&lab);
    resolver.check_networks(&lab);
    resolver.check_cables_of_qemu(&lab);
    lab
}

/// A file being resolved. Who inherits what is in `inherit.rs`, what guests run in `system.rs`; cables
/// are in `cabling.rs`, `nics.rs`, `links.rs` and `impair.rs`, timed events in `events.rs`, IP
/// addresses and what sockets need in `addresses.rs`, QEMU is in `platform.rs`, and the benchmark in
/// `experiment/trials.rs`.
pub struct Resolver<'a> {
    pub file: &'a File,
    /// Where the file is.
    pub directory: &'a Path,
    pub document: &'a mut Document,
    /// Who is cabled to what.
    pub cabling: Cabling<'a>,
    /// Who is to reach whom, and where the file says so.
    pub talks: Vec<(String, usize, usize)>,
}

impl<'a> Resolver<'a> {
    fn lab(&mut self, path: &Path) -> Lab {
        let file = self.file;
        self.check_names();
        if file.guests.0.is_empty() && !self.document.is_damaged("/guests") {
            let problem =
                self.document.key_problem("/guests", "a lab needs at least one guest", "no guests");
            problem.help("for instance `guests: { left: { nics: [sw0] } }`");
        }
        self.check_inheritance();
        self.check_kinds();
        self.lay_cables();
        let names = file.guests.names().enumerate();
        let mut guests: Vec<Guest> = names.map(|(index, name)| self.guest(index, name)).collect();
        self.assign_macs(&mut guests);
        self.assign_addresses(&mut guests);
        let (qemu, optimizations) = self.platform();
        Lab {
            name: file.name.clone().unwrap_or_default(),
            path: path.to_owned(),
            description: file.description.clone(),
            switches: self.cabling.switches.clone(),
            events: self.events(),
            guests,
            links: self.cabling.links.iter().map(|(_, link)| link.clone()).collect(),
            qemu,
            optimizations,
            policy: file.policy.unwrap_or_default(),
            bench: file.bench.as_ref().map(|bench| self.bench(bench)),
        }
    }

    fn check_names(&mut self) {
        match &self.file.name {
            Some(name) if is_name(name) => {}
            Some(_) => {
                self.document.value_problem("/name", NAME_EXPECTED, "not a name");
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
        let groups = self.file.groups.names().map(|name| ("/groups", name));
        let cells = self.file.bench.iter().flat_map(|bench| bench.cells.names());
        let cells = cells.map(|name| ("/bench/cells", name));
        let names = switches.chain(guests).chain(groups).chain(cells);
        for (section, name) in names.filter(|(_, name)| !is_name(name)) {
            self.document.key_problem(&join(section, name), NAME_EXPECTED, "not a name");
        }
        let reserved = [
            ("host", "in `links`, host:tap0 is a TAP of the host"),
            ("netns", "in `links`, netns:red/tap0 is a TAP in a network namespace"),
            ("all", "a workload with `to: all` is about all guests"),
        ];
        for (name, help) in reserved {
            if self.file.guests.position(name).is_some() {
                let message = format!("no guest can be called `{name}`");
                self.document
                    .key_problem(&join("/guests", name), &message, "means something else")
                    .help(help);
            }
        }
    }

    fn guest(&mut self, index: usize, name: &str) -> Guest {
        let nics = self.nics(index, name);
        let system = self.system(name);
        let memory = self.setting(name, "memory", |guest| guest.memory.as_ref());
        let default_memory = match system {
            System::Pktguest(_) => DEFAULT_MEMORY_MIB,
            System::Linux(_) | System::Pvh(_) => DEFAULT_LINUX_MEMORY_MIB,
        };
        Guest {
            name: name.to_owned(),
            optimizations: self.overrides(name),
            memory_mib: memory.map_or(default_memory, |(_, memory)| memory.mib()),
            nics,
            system,
        }
    }

    pub fn pktguest(&mut self, name: &str) -> Pktguest {
        let itr = self.setting(name, "itr", |guest| guest.itr.as_ref());
        let itr = itr.map_or(DEFAULT_ITR, |(_, itr)| itr.get()).as_nanos();
        let spin = self.setting(name, "spin", |guest| guest.spin.as_ref());
        let spin = spin.map_or(DEFAULT_SPIN, |(_, spin)| spin.get()).as_micros();
        let ring = self.setting(name, "ring", |guest| guest.ring.as_ref());
        Pktguest {
            ring: ring.map_or(DEFAULT_RING, |(_, ring)| ring.get()),
            // Both fit: the ranges in `file.rs` see to it.
            itr_interval: u16::try_from((itr + ITR_UNIT_NS / 2) / ITR_UNIT_NS).unwrap_or(u16::MAX),
            spin_us: u32::try_from(spin).unwrap_or(u32::MAX),
            // Until `assign_addresses` gives it one.
            ip: Network::UNASSIGNED,
            workload: self.workload(name),
        }
    }

    /// Whether `name` is missing from a section because what the file says of it, or the whole
    /// section, is wrong.
    pub fn is_lost(&self, section: &str, name: &str) -> bool {
        self.document.is_set_aside(section) || self.document.is_set_aside(&join(section, name))
    }

    fn workload(&mut self, guest: &str) -> Workload {
        let mut workload = Workload {
            role: Role::Idle,
            frame: default_frame(Protocol::Raw),
            burst: DEFAULT_BURST,
            rate: 0,
            count: 0,
            duration_ms: 0,
            until_unplugged: false,
        };
        let setting = self.setting(guest, "workload", |guest| guest.workload.as_ref());
        let Some((pointer, spec)) = setting else {
            return workload;
        };
        let Some(role) = spec.role else {
            self.document.missing_key(&pointer, "role");
            // Whatever it does, it does it to a guest that is there.
            if let Some(to) = spec.to.as_deref().filter(|to| *to != "all") {
                self.find_guest(&join(&pointer, "to"), to);
            }
            return workload;
        };
        self.check_workload_keys(&pointer, role, spec);
        let target = match role {
            RoleSpec::Tx | RoleSpec::Ping | RoleSpec::UdpTx | RoleSpec::TcpTx => {
                self.target(&pointer, guest, spec)
            }
            RoleSpec::Icmp => self.icmp_target(&pointer, guest, spec),
            RoleSpec::Rx
            | RoleSpec::Pong
            | RoleSpec::Idle
            | RoleSpec::UdpRx
            | RoleSpec::TcpRx
            | RoleSpec::Forward => None,
        };
        let to = match target {
            Some(Target::Guest(to)) => to,
            Some(Target::All) | None => 0,
        };
        workload.role = match role {
            RoleSpec::Tx => Role::Tx { to },
            RoleSpec::Rx => Role::Rx,
            RoleSpec::Ping => Role::Ping { to },
            RoleSpec::Pong => Role::Pong,
            RoleSpec::Idle => Role::Idle,
            RoleSpec::UdpTx => Role::UdpTx { to },
            RoleSpec::UdpRx => Role::UdpRx,
            RoleSpec::TcpTx => Role::TcpTx { to },
            RoleSpec::TcpRx => Role::TcpRx,
            RoleSpec::Forward => Role::Forward,
            RoleSpec::Icmp => Role::Icmp { to: target },
        };
        let default_frame = default_frame(workload.role.protocol());
        let duration = spec.duration.map_or(Duration::ZERO, |duration| duration.get());
        Workload {
            frame: spec.frame.map_or(default_frame, Int::get),
            burst: spec.burst.map_or(workload.burst, Int::get),
            rate: spec.rate.map_or(workload.rate, |rate| rate.0),
            count: spec.count.map_or(workload.count, Int::get),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            ..workload
        }
    }

    /// A key that its role ignores is a misunderstanding: say so.
    fn check_workload_keys(&mut self, pointer: &str, role: RoleSpec, spec: &WorkloadSpec) {
        const SENDER: &[&str] = &["to", "frame", "burst", "rate", "count", "duration"];
        let (role, known): (_, &[&str]) = match role {
            RoleSpec::Tx => ("tx", SENDER),
            RoleSpec::UdpTx => ("udp-tx", SENDER),
            RoleSpec::TcpTx => ("tcp-tx", SENDER),
            RoleSpec::Ping => ("ping", &["to", "frame", "rate", "count", "duration"]),
            RoleSpec::Rx => ("rx", &["duration"]),
            RoleSpec::UdpRx => ("udp-rx", &["duration"]),
            RoleSpec::TcpRx => ("tcp-rx", &["frame", "duration"]),
            RoleSpec::Pong => ("pong", &["duration"]),
            RoleSpec::Idle => ("idle", &[]),
            RoleSpec::Forward => ("forward", &["duration"]),
            RoleSpec::Icmp if spec.to.is_none() => ("icmp` without `to", &["to", "duration"]),
            RoleSpec::Icmp => ("icmp", &["to", "rate", "count", "duration"]),
        };
        let given = [
            ("to", spec.to.is_some()),
            ("frame", spec.frame.is_some()),
            ("burst", spec.burst.is_some()),
            ("rate", spec.rate.is_some()),
            ("count", spec.count.is_some()),
            ("duration", spec.duration.is_some()),
        ];
        for (key, _) in given.iter().filter(|(key, given)| *given && !known.contains(key)) {
            let message = format!("role `{role}` has no `{key}`");
            let help = match known {
                [] => format!("role `{role}` takes no other keys"),
                known => format!("keys of role `{role}`: {}", known.join(", ")),
            };
            let pointer = join(pointer, key);
            self.document.key_problem(&pointer, &message, "without effect").help(help);
        }
    }

    /// Whom a guest pings, if anyone.
    fn icmp_target(&mut self, pointer: &str, guest: &str, spec: &WorkloadSpec) -> Option<Target> {
        match spec.to.as_deref()? {
            "all" => Some(Target::All),
            to => self.peer(&join(pointer, "to"), guest, to).map(Target::Guest),
        }
    }

    fn target(&mut self, pointer: &str, guest: &str, spec: &WorkloadSpec) -> Option<Target> {
        let at = join(pointer, "to");
        if let Some(to) = &spec.to {
            return self.peer(&at, guest, to).map(Target::Guest);
        }
        if let Some(problem) = self.document.missing_key(pointer, "to") {
            problem.help("name the guest that gets the frames");
        }
        None
    }

    /// Finds a guest by name.
    pub fn find_guest(&mut self, pointer: &str, name: &str) -> Option<usize> {
        let guests = &self.file.guests;
        let position = guests.position(name);
        if position.is_none() && !self.is_lost("/guests", name) {
            self.document.unknown(pointer, "guest", name, guests.names());
        }
        position
    }

    /// Finds the guest `to` that `from` wants to reach; whether it can is seen once all cables are
    /// known.
    pub fn peer(&mut self, pointer: &str, from: &str, to: &str) -> Option<usize> {
        let position = self.find_guest(pointer, to)?;
        if from == to {
            let label = "the sender itself";
            self.document.value_problem(pointer, "a guest cannot talk to itself", label);
            return None;
        }
        let sender = self.file.guests.position(from)?;
        self.talks.push((pointer.to_owned(), sender, position));
        Some(position)
    }
}
