//! What `links` may say, and that frames do not go round in circles.

use std::collections::HashMap;

use crate::platform;
use crate::topology::{
    Lab, LinkEnd, Role, Segments, SwitchKind,
    file::CableSpec,
    resolve::{Resolver, is_name},
    text::index::join,
};
use crate::units::{End, Network};

/// Two switches with something between them that passes every frame on.
struct Edge {
    switches: [usize; 2],
    /// The forwarding guest, if it is not a cable.
    through: Option<String>,
    at: String,
}

impl Edge {
    fn other(&self, switch: usize) -> usize {
        self.switches[usize::from(self.switches[0] == switch)]
    }
}

impl Resolver<'_> {
    /// A key that has no effect on such a cable is a misunderstanding: say so.
    pub fn check_keys_of_link(&mut self, pointer: &str, link: &CableSpec, ends: [&End; 2]) {
        let CableSpec::Long(keys) = link else { return };
        let nics: Vec<_> = ends.iter().filter(|end| matches!(end, End::Nic { .. })).collect();
        let switches = ends.iter().filter(|end| matches!(end, End::Switch(_))).count();
        let host = ends.iter().any(|end| matches!(end, End::Host { .. }));
        if keys.address.is_some() && !host {
            self.document
                .key_problem(
                    &join(pointer, "address"),
                    "no end is a TAP of the host",
                    "without effect",
                )
                .help("for instance `ends: [sw0, host:tap0]`; guests have an `ip`");
        }
        if keys.mac.is_some() && nics.len() != 1 {
            let message = match nics.as_slice() {
                [] => "no end is a guest's NIC",
                _ => "both ends are guests' NICs",
            };
            self.document
                .key_problem(&join(pointer, "mac"), message, "not known whose")
                .help("a guest's `nics` may give each its own");
        }
        let Some(name) = &keys.name else { return };
        let pointer = join(pointer, "name");
        if let ([nic], 1) = (nics.as_slice(), switches) {
            let message = format!("a NIC's cable is called by its guest and number, `{nic}`");
            self.document.key_problem(&pointer, &message, "without effect");
        } else if !is_name(name) {
            self.document.value_problem(
                &pointer,
                crate::topology::resolve::NAME_EXPECTED,
                "not a name",
            );
        } else if switches == 0 && self.cabling.switches.iter().any(|known| known.name == *name) {
            let message = format!("a switch is called `{name}`");
            self.document
                .value_problem(&pointer, &message, "again here")
                .help("a cable without a switch is one, with two ports");
        }
    }

    /// Events and people call cables by their names; a TAP has one cable.
    pub fn check_link_names(&mut self) {
        let links = std::mem::take(&mut self.cabling.links);
        for (i, (pointer, link)) in links.iter().enumerate() {
            for (earlier, first) in &links[..i] {
                if let (LinkEnd::Host(tap), LinkEnd::Host(known)) = (&link.ends[1], &first.ends[1])
                    && (&tap.netns, &tap.name) == (&known.netns, &known.name)
                {
                    let message = format!("`{}` is the end of two cables", tap.name);
                    let first = self.document.index().value(earlier);
                    self.document
                        .value_problem(pointer, &message, "again here")
                        .also(first, "first here")
                        .help("a TAP is one end of one cable");
                } else if link.name == first.name {
                    let places = [pointer, earlier].map(|place| join(place, "name"));
                    let named = places.iter().find(|place| self.document.index().contains(place));
                    // Two without names are between the same switches: a loop, which is told as such.
                    if let Some(place) = named {
                        let message = format!("two cables are called `{}`", link.name);
                        self.document.value_problem(place, &message, "one of them");
                    }
                }
            }
        }
        self.cabling.links = links;
    }

    /// Neither kind of switch looks for loops, and a frame to everyone would never leave one.
    pub fn check_loops(&mut self, lab: &Lab) {
        // What is missing takes circles away, and makes none.
        let mut edges = Vec::new();
        for (at, link) in &self.cabling.links {
            if let [LinkEnd::Switch(one), LinkEnd::Switch(other)] = link.ends {
                edges.push(Edge { switches: [one, other], through: None, at: at.clone() });
            }
        }
        for (guest, nics) in lab.guests.iter().zip(&self.cabling.nics) {
            let forwards = guest.pktguest().is_some_and(|g| g.workload.role == Role::Forward);
            let switch = |number| nics.get(&number)?.switch;
            if let (true, Some(one), Some(other)) = (forwards, switch(0), switch(1)) {
                let at =
                    self.setting(&guest.name, "workload/role", |guest| guest.workload.as_ref());
                let at = at.map(|(at, _)| at).unwrap_or_default();
                let through = Some(guest.name.clone());
                edges.push(Edge { switches: [one, other], through, at });
            }
        }
        let mut segments = Segments::new(lab.switches.len());
        let mut tree = Vec::new();
        for edge in &edges {
            let [one, other] = edge.switches;
            if segments.join(one, other) {
                tree.push(edge);
                continue;
            }
            let name = |switch: usize| lab.switches.get(switch).map_or("?", |switch| &switch.name);
            let mut circle = vec![name(one).to_owned()];
            let mut here = one;
            for step in way(&tree, one, other).into_iter().chain([edge]) {
                circle.extend(step.through.clone());
                here = step.other(here);
                circle.push(name(here).to_owned());
            }
            let message = format!("frames would go round in a circle: {}", circle.join(" -- "));
            self.document
                .value_problem(&edge.at, &message, "closes it")
                .help("a VALE switch knows no spanning tree: leave one of these out");
        }
    }

    /// A guest that forwards does so between two NICs.
    pub fn check_forwarders(&mut self, lab: &Lab) {
        for (guest, nics) in lab.guests.iter().zip(&self.cabling.nics) {
            let forwards = guest.pktguest().is_some_and(|g| g.workload.role == Role::Forward);
            if !forwards || nics.len() != 1 || self.nics_damaged(&guest.name) {
                continue;
            }
            let workload =
                self.setting(&guest.name, "workload/role", |guest| guest.workload.as_ref());
            let Some((pointer, _)) = workload else { continue };
            let label = format!("`{}` has one", guest.name);
            self.document
                .value_problem(&pointer, "role `forward` needs two NICs", label)
                .help("for instance `nics: [sw0, sw1]`");
        }
    }

    /// Who wants to talk to whom must be able to.
    pub fn check_reach(&mut self, lab: &Lab) {
        // Whatever is missing may have been the way.
        let may_pass = |guest: &super::Guest| {
            let role = guest.pktguest().map(|pktguest| pktguest.workload.role);
            self.is_workload_lost(&guest.name)
                || role == Some(Role::Forward) && self.nics_damaged(&guest.name)
        };
        if self.document.lacks_some("/guests")
            || self.links_damaged()
            || lab.guests.iter().any(may_pass)
        {
            return;
        }
        for (pointer, from, to) in std::mem::take(&mut self.talks) {
            let [ours, theirs] = [from, to].map(|guest| lab.guests.get(guest));
            let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
            let known =
                [ours, theirs].iter().all(|g| !g.nics.is_empty() && !self.nics_damaged(&g.name));
            if !known || lab.link(from, to).is_some() {
                continue;
            }
            let switches = |guest: &super::Guest| {
                let switches = guest.nics.iter().filter_map(|nic| lab.switches.get(nic.switch));
                let mut names: Vec<_> = switches.map(|switch| switch.name.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                names.join(", ")
            };
            let (from, to) = (&ours.name, &theirs.name);
            let help = format!("{from} is on {}; {to} is on {}", switches(ours), switches(theirs));
            self.document
                .value_problem(
                    &pointer,
                    &format!("`{from}` and `{to}` are not connected"),
                    format!("cannot be reached from `{from}`"),
                )
                .help(help);
        }
    }

    /// QEMU's cables are its own: nothing of ours is on them.
    pub fn check_cables_of_qemu(&mut self, lab: &Lab) {
        let Some(qemu) = lab.qemu else { return };
        let help = "impairments and VALE switches are labctl's own";
        let vale = lab.switches.iter().find(|switch| switch.kind == Some(SwitchKind::Vale));
        if let Some(switch) = vale {
            let pointer = join(&join("/switches", &switch.name), "kind");
            self.document
                .value_problem(&pointer, "vmm `qemu` has no VALE switch", "not with `vmm: qemu`")
                .help(help);
        }
        let nics = self.cabling.nics.iter().flat_map(|nics| nics.values());
        let impaired = nics.filter(|nic| !nic.impairments.is_none()).map(|nic| nic.pointer.clone());
        let events = self.file.events.iter().filter(|(_, event)| event.set.is_some());
        let events = events.map(|(i, _)| join(&join("/events", &i.to_string()), "set"));
        for pointer in impaired.chain(events).collect::<Vec<_>>() {
            let message = "vmm `qemu` has no impairments";
            self.document.key_problem(&pointer, message, "not with `vmm: qemu`").help(help);
        }
        if let (platform::Link::Socket, Some((pointer, _))) =
            (qemu.link, self.cabling.links.first())
        {
            self.document
                .value_problem(
                    pointer,
                    "a socket connects two NICs only",
                    "not with `link: socket`",
                )
                .help("use `link: tap`");
        }
    }

    /// The host's addresses in the lab, and where they are written.
    pub fn host_addresses(&self) -> Vec<(String, Network)> {
        let addresses =
            self.cabling.links.iter().filter_map(|(pointer, link)| match &link.ends[1] {
                LinkEnd::Host(tap) => Some((join(pointer, "address"), tap.address?)),
                LinkEnd::Switch(_) => None,
            });
        addresses.collect()
    }
}

/// The edges from one switch to another, in order; none if they are the same. Without circles there is
/// one way at most.
fn way<'e>(tree: &[&'e Edge], from: usize, to: usize) -> Vec<&'e Edge> {
    let mut came_by: HashMap<usize, &Edge> = HashMap::new();
    let mut next = vec![to];
    while let Some(here) = next.pop() {
        for edge in tree.iter().filter(|edge| edge.switches.contains(&here)) {
            let there = edge.other(here);
            if there != to && !came_by.contains_key(&there) {
                came_by.insert(there, edge);
                next.push(there);
            }
        }
    }
    let mut here = from;
    let steps = std::iter::from_fn(|| {
        let edge = *came_by.get(&here)?;
        here = edge.other(here);
        Some(edge)
    });
    steps.collect()
}
