//! IP addresses of guests, and what sockets ask of a lab.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use crate::protocol::Protocol;
use crate::topology::{Guest, Lab, Role, Target, resolve::Resolver, text::index::join};
use crate::units::Network;

/// Where guests live that the file gives no address: guest `n` is host `n + 1` there.
const HOME: Network = Network { address: Ipv4Addr::new(10, 0, 0, 0), prefix: 16 };
/// The shortest frame for TCP: IPv4 wants to send 68 bytes whole (RFC 791).
const SHORTEST_TCP: u16 = 14 + 68;

impl Resolver<'_> {
    /// Checks the given IP addresses and generates the others.
    pub fn assign_addresses(&mut self, guests: &mut [Guest]) {
        let file = self.file;
        let mut taken: HashMap<Ipv4Addr, String> = HashMap::new();
        for (pointer, ip) in self.host_addresses() {
            if let Some(first) = taken.insert(ip.address, pointer.clone()) {
                self.address_taken(&pointer, &first, ip.address);
            }
        }
        for (guest, name) in guests.iter_mut().zip(file.guests.names()) {
            let given = self.setting(name, "ip", |guest| guest.ip.as_ref());
            let (Some((pointer, ip)), Some(pktguest)) = (given, guest.pktguest_mut()) else {
                continue;
            };
            pktguest.ip = *ip;
            if let Some(first) = taken.insert(ip.address, pointer.clone()) {
                self.address_taken(&pointer, &first, ip.address);
            }
        }
        let home = HOME.address.to_bits();
        let mut free = (1..u32::MAX >> HOME.prefix)
            .map(|host| Ipv4Addr::from_bits(home | host))
            .filter(|address| !taken.contains_key(address));
        for pktguest in guests.iter_mut().filter_map(Guest::pktguest_mut) {
            if pktguest.ip == Network::UNASSIGNED
                && let Some(address) = free.next()
            {
                pktguest.ip = Network { address, ..HOME };
            }
        }
    }

    fn address_taken(&mut self, pointer: &str, first: &str, address: Ipv4Addr) {
        let message = format!("the IP address {address} is there twice");
        let problem = if first == pointer {
            let label = "inherited by more than one guest";
            self.document.value_problem(pointer, &message, label)
        } else {
            let first = self.document.index().value(first);
            self.document.value_problem(pointer, &message, "again here").also(first, "first here")
        };
        problem.help("leave `ip` out to have one generated");
    }

    /// Guests that talk through sockets must be in one network: nothing routes between two.
    pub fn check_networks(&mut self, lab: &Lab) {
        let mut talks = Vec::new();
        for (from, guest) in lab.guests.iter().enumerate() {
            let Some(role) = guest.pktguest().map(|pktguest| pktguest.workload.role) else {
                continue;
            };
            let workload = self.setting(&guest.name, "workload", |guest| guest.workload.as_ref());
            let Some((pointer, workload)) = workload else { continue };
            let pointer = join(&pointer, "to");
            let known = |to: &str| to == "all" || self.file.guests.position(to).is_some();
            if !workload.to.as_deref().is_none_or(known) {
                continue;
            }
            match role {
                Role::Icmp { to: Some(Target::All) } if lab.icmp_targets(from).is_empty() => {
                    self.nobody_to_ping(&pointer, lab);
                }
                _ if role.has_address() => talks.extend(role.to().map(|to| (pointer, from, to))),
                _ => {}
            }
        }
        let trial = lab.bench.as_ref().and_then(|bench| bench.throughput.as_ref());
        if let Some(trial) = trial.filter(|t| !t.protocol.is_raw() && self.are_pairs_known()) {
            let places = (0..trial.also.len()).map(|i| format!("/also/{i}"));
            let places = [String::new()].into_iter().chain(places);
            talks.extend(
                places.zip(trial.pairs()).map(|(place, pair)| {
                    (format!("/bench/throughput{place}/to"), pair.from, pair.to)
                }),
            );
        }
        for (pointer, from, to) in talks {
            let name = |index: usize| lab.guests.get(index).map_or("", |guest| &guest.name);
            if [from, to].into_iter().any(|guest| self.is_ip_lost(name(guest))) {
                continue;
            }
            let ip = |index: usize| Some(lab.guests.get(index)?.pktguest()?.ip);
            let Some(ours) = ip(from) else { continue };
            let Some(theirs) = ip(to) else {
                self.no_known_address(&pointer, lab, to);
                continue;
            };
            if !ours.contains(theirs.address) || !theirs.contains(ours.address) {
                let message = format!("{ours} and {theirs} are not in one network");
                self.document
                    .value_problem(&pointer, &message, "cannot be reached by IP")
                    .help("leave `ip` out to have all guests in one network");
            }
        }
    }

    fn is_ip_lost(&self, guest: &str) -> bool {
        self.is_setting_lost(guest, "ip", |guest| guest.ip.is_some())
    }

    /// Whether what a guest does is not known, or with whom.
    pub fn is_workload_lost(&self, guest: &str) -> bool {
        let said = self.setting(guest, "workload", |guest| guest.workload.as_ref());
        self.is_setting_lost(guest, "workload", |guest| guest.workload.is_some())
            || said.is_some_and(|(pointer, _)| {
                ["role", "to"].iter().any(|key| self.document.is_lost(&join(&pointer, key)))
            })
    }

    /// Only the addresses of pktguests are labctl's to know.
    fn no_known_address(&mut self, pointer: &str, lab: &Lab, to: usize) {
        let Some(guest) = lab.guests.get(to).filter(|guest| self.kind(&guest.name).is_some())
        else {
            return;
        };
        let message = format!("`{}` has no IP address that labctl knows", guest.name);
        self.document
            .value_problem(pointer, &message, "has a kernel of its own")
            .help("the other way round it can be: pktguests have an `ip`");
    }

    fn nobody_to_ping(&mut self, pointer: &str, lab: &Lab) {
        let known = |guest: &Guest| {
            !self.nics_damaged(&guest.name)
                && !self.is_workload_lost(&guest.name)
                && !self.is_ip_lost(&guest.name)
        };
        if self.document.lacks_some("/guests") || !lab.guests.iter().all(known) {
            return;
        }
        let message = "no other guest that it reaches answers pings";
        self.document
            .value_problem(pointer, message, "nobody to ping")
            .help("guests that answer have `workload: { role: icmp }`");
    }

    /// A TCP segment needs room for its headers.
    pub fn check_frames(&mut self, lab: &Lab) {
        for guest in &lab.guests {
            let Some(pktguest) = guest.pktguest() else { continue };
            let workload = self.setting(&guest.name, "workload", |guest| guest.workload.as_ref());
            if let (Some((pointer, _)), Protocol::Tcp) =
                (workload, pktguest.workload.role.protocol())
            {
                self.check_tcp_frame(&join(&pointer, "frame"), pktguest.workload.frame);
            }
        }
        let Some(bench) = &lab.bench else { return };
        let Some(trial) = &bench.throughput else { return };
        if trial.protocol == Protocol::Tcp {
            self.check_tcp_frame("/bench/throughput/frame", trial.frame);
        }
    }

    fn check_tcp_frame(&mut self, pointer: &str, frame: u16) {
        // A frame of 0 stands for one already reported.
        if frame != 0 && frame < SHORTEST_TCP {
            let message = format!("a frame of {frame} bytes is too short for TCP");
            let label = format!("expected at least {SHORTEST_TCP}");
            self.document.value_problem(pointer, &message, label);
        }
    }
}
