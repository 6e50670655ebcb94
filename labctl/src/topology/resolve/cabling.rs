//! Who is cabled to what: the `nics` of guests, and `links`.

use std::collections::{BTreeMap, HashSet};

use crate::impairments::Impairments;
use crate::topology::{
    HostTap, Link, LinkEnd, Switch,
    file::{CableSpec, ImpairmentsSpec, NicSpec, Toggles},
    resolve::Resolver,
    text::index::join,
};
use crate::units::{End, Mac};

/// Ports of one VALE switch (vale(4)).
const MAX_PORTS: usize = 254;

/// The kernel's IFNAMSIZ without the zero at the end.
const MAX_INTERFACE_NAME: usize = 15;

/// All cables of a lab, as far as the file makes sense.
#[derive(Default)]
pub struct Cabling<'a> {
    /// The file's switches, and one for each cable without.
    pub switches: Vec<Switch>,
    /// How many ports of each switch are taken.
    pub ports: Vec<usize>,
    /// By guest, then by number.
    pub nics: Vec<BTreeMap<usize, CabledNic<'a>>>,
    /// Cables that are not a guest's, and where they are written.
    pub links: Vec<(String, Link)>,
    /// The items of `links` that are not laid as they are written, because they make no sense.
    pub lost_links: Vec<usize>,
}

/// A NIC, as `nics` or `links` has it.
pub struct CabledNic<'a> {
    /// Its place: an item of `nics` or of `links`.
    pub pointer: String,
    /// Index into [`Cabling::switches`]; `None` if there is none of the name, which has been reported.
    pub switch: Option<usize>,
    /// Its own address, if it has one.
    pub mac: Option<Mac>,
    /// Its own optimizations, if it has any.
    pub toggles: Option<&'a Toggles>,
    /// What its cable does.
    pub impairments: Impairments,
}

/// A cable's far end: a switch, and where it is named.
#[derive(Clone, Copy)]
struct Port<'p> {
    switch: Option<usize>,
    at: &'p str,
}

impl NicSpec {
    /// The switch it names, and where, if the NIC is at `pointer`.
    fn switch(&self, pointer: &str) -> (&str, String) {
        match self {
            Self::Short(switch) => (switch, pointer.to_owned()),
            Self::Long(keys) => (&keys.switch, join(pointer, "switch")),
        }
    }
}

impl CableSpec {
    /// Its ends and where they are written, if it is at `pointer`.
    fn ends(&self, pointer: &str) -> Vec<(String, &End)> {
        match self {
            Self::Short(ends) => ends.0.iter().map(|end| (pointer.to_owned(), end)).collect(),
            Self::Long(keys) => {
                let ends = join(pointer, "ends");
                keys.ends.iter().map(|(i, end)| (join(&ends, &i.to_string()), end)).collect()
            }
        }
    }

    fn has_one_nic(&self) -> bool {
        let ends = self.ends("");
        ends.iter().filter(|(_, end)| matches!(end, End::Nic { .. })).count() == 1
    }
}

impl<'a> Resolver<'a> {
    /// Lays all cables: first those of `nics`, then `links`.
    pub fn lay_cables(&mut self) {
        let file = self.file;
        let switches = file.switches.0.iter();
        self.cabling.switches =
            switches.map(|(name, spec)| Switch { name: name.clone(), kind: spec.kind }).collect();
        self.cabling.ports = vec![0; self.cabling.switches.len()];
        self.cabling.nics = file.guests.names().map(|_| BTreeMap::new()).collect();
        for (guest, name) in file.guests.names().enumerate() {
            let Some((list, items)) = self.setting(name, "nics", |guest| guest.nics.as_ref())
            else {
                continue;
            };
            for (number, item) in items.0.iter().enumerate() {
                let pointer = join(&list, &number.to_string());
                match item {
                    Some(nic) => self.lay_nic(guest, number, pointer, nic),
                    None => self.missing_item(&pointer, "a NIC, such as sw0 or { switch: sw0 }"),
                }
            }
        }
        for (i, item) in file.links.0.iter().enumerate() {
            let pointer = join("/links", &i.to_string());
            match item {
                Some(link) => self.lay_link(i, &pointer, link),
                None => self.missing_item(&pointer, "a cable, such as \"sw0 -- sw1\""),
            }
        }
        self.note_lost_links();
        self.check_link_names();
        self.check_nic_numbers();
    }

    /// Reports a list item that is empty.
    pub fn missing_item(&mut self, pointer: &str, expected: &str) {
        if !self.document.is_damaged(pointer) {
            self.document.value_problem(pointer, &format!("expected {expected}"), "found nothing");
            self.document.set_aside(pointer);
        }
    }

    fn lay_nic(&mut self, guest: usize, number: usize, pointer: String, nic: &'a NicSpec) {
        let (name, at) = nic.switch(&pointer);
        let switch = self.find_switch(&at, name);
        let (mac, toggles, spec) = match nic {
            NicSpec::Short(_) => (None, None, ImpairmentsSpec::default()),
            NicSpec::Long(keys) => (keys.mac, Some(&keys.optimizations), keys.impairments()),
        };
        let impairments = self.impairments(&pointer, &spec);
        let nic = CabledNic { pointer, switch, mac, toggles, impairments };
        self.plug_nic(guest, number, nic, Port { switch, at: &at });
    }

    fn lay_link(&mut self, number: usize, pointer: &str, link: &'a CableSpec) {
        let ends = link.ends(pointer);
        let [(one_at, one), (other_at, other)] = ends.as_slice() else {
            let at = join(pointer, "ends");
            if !self.document.is_damaged(&at) {
                let label = format!("found {}", ends.len());
                self.document.key_problem(&at, "expected two ends", label);
            }
            return;
        };
        self.check_keys_of_link(pointer, link, [one, other]);
        let spec = match link {
            CableSpec::Short(_) => ImpairmentsSpec::default(),
            CableSpec::Long(keys) => keys.impairments(),
        };
        let impairments = self.impairments(pointer, &spec);
        match (one, other) {
            (End::Switch(name), end) | (end, End::Switch(name)) => {
                // With two switches the first pattern has matched.
                let at =
                    if std::ptr::eq(end, other) { [one_at, other_at] } else { [other_at, one_at] };
                let switch = self.find_switch(at[0], name);
                self.plug(end, at[1], Port { switch, at: at[0] }, link, pointer, impairments);
            }
            (End::Host { .. }, End::Host { .. }) => {
                self.document
                    .value_problem(
                        other_at,
                        "a cable between two TAPs",
                        "neither end is in the lab",
                    )
                    .help("one end is a switch or a guest's NIC, such as sw0 or left:0");
            }
            _ => {
                // A cable without a switch is one with two ports. What it does to frames it does once.
                let switch = Some(self.switch_between(number, link, [one, other]));
                let port = |at| Port { switch, at };
                self.plug(one, one_at, port(one_at), link, pointer, impairments);
                self.plug(other, other_at, port(other_at), link, pointer, Impairments::default());
            }
        }
    }

    /// A switch for a cable that has none, with a name that tells.
    fn switch_between(&mut self, number: usize, link: &CableSpec, ends: [&End; 2]) -> usize {
        let own = match link {
            CableSpec::Long(keys) => keys.name.clone(),
            CableSpec::Short(_) => None,
        };
        let part = |end: &End| match end {
            End::Switch(name) => name.clone(),
            End::Nic { guest, nic } => format!("{guest}-{nic}"),
            End::Host { .. } => "host".to_owned(),
        };
        let telling = format!("{}--{}", part(ends[0]), part(ends[1]));
        let short = (number..).map(|n| format!("cable-{n}"));
        let taken = |name: &String| self.cabling.switches.iter().any(|known| known.name == *name);
        let mut names = own.into_iter().chain([telling]).chain(short);
        let name = names.find(|name| name.len() <= 32 && !taken(name)).unwrap_or_default();
        self.cabling.switches.push(Switch { name, kind: None });
        self.cabling.ports.push(0);
        self.cabling.switches.len() - 1
    }

    /// Plugs one end of a link into the lab, with the other in `port`.
    fn plug(
        &mut self,
        end: &End,
        end_at: &str,
        port: Port<'_>,
        link: &'a CableSpec,
        pointer: &str,
        impairments: Impairments,
    ) {
        let keys = match link {
            CableSpec::Long(keys) => Some(keys),
            CableSpec::Short(_) => None,
        };
        let far = match end {
            End::Nic { guest, nic } => {
                let Some(guest) = self.guest_of_end(end_at, guest) else { return };
                // Of two NICs it is nobody's.
                let mac = keys.filter(|_| link.has_one_nic()).and_then(|keys| keys.mac);
                let pointer = pointer.to_owned();
                let cabled =
                    CabledNic { pointer, switch: port.switch, mac, toggles: None, impairments };
                return self.plug_nic(guest, *nic, cabled, port);
            }
            End::Switch(name) => {
                let switch = self.find_switch(end_at, name);
                self.take_port(Port { switch, at: end_at });
                switch.map(LinkEnd::Switch)
            }
            End::Host { netns, tap } => {
                if tap.len() > MAX_INTERFACE_NAME {
                    let message = format!("`{tap}` is too long for an interface's name");
                    let label = format!("expected at most {MAX_INTERFACE_NAME} characters");
                    self.document.value_problem(end_at, &message, label);
                }
                let address = keys.and_then(|keys| keys.address);
                Some(LinkEnd::Host(HostTap { netns: netns.clone(), name: tap.clone(), address }))
            }
        };
        self.take_port(port);
        let (Some(switch), Some(far)) = (port.switch, far) else {
            self.document.set_aside(pointer);
            return;
        };
        let own = keys.and_then(|keys| keys.name.clone());
        let name = own.unwrap_or_else(|| {
            let [first, second] = self.names_of_ends(link, end);
            format!("{first}--{second}")
        });
        let link = Link { name, ends: [LinkEnd::Switch(switch), far], impairments };
        self.cabling.links.push((pointer.to_owned(), link));
    }

    /// The ends as written, `last` at the end.
    fn names_of_ends(&self, link: &CableSpec, last: &End) -> [String; 2] {
        let ends = link.ends("");
        let first = ends.iter().map(|(_, end)| *end).find(|end| !std::ptr::eq(*end, last));
        [first.unwrap_or(last).to_string(), last.to_string()]
    }

    fn plug_nic(&mut self, guest: usize, number: usize, nic: CabledNic<'a>, port: Port<'_>) {
        self.take_port(port);
        let Some(nics) = self.cabling.nics.get_mut(guest) else { return };
        let Some(first) = nics.get(&number).map(|first| first.pointer.clone()) else {
            nics.insert(number, nic);
            return;
        };
        let name = self.file.guests.names().nth(guest).unwrap_or_default();
        let message = format!("`{name}:{number}` has a cable already");
        let first = self.document.index().value(&first);
        self.document.value_problem(port.at, &message, "again here").also(first, "first here");
    }

    fn take_port(&mut self, port: Port<'_>) {
        let Some(switch) = port.switch else { return };
        let Some(taken) = self.cabling.ports.get_mut(switch) else { return };
        *taken += 1;
        if *taken == MAX_PORTS + 1 {
            let message = format!("a switch has at most {MAX_PORTS} ports");
            let label = format!("one too many on `{}`", self.cabling.switches[switch].name);
            self.document.value_problem(port.at, &message, label);
        }
    }

    /// Notes which items of `links` are not laid as they are written, because they make no sense.
    fn note_lost_links(&mut self) {
        let nics = self.cabling.nics.iter().flat_map(|nics| nics.values());
        let nics = nics.filter(|nic| nic.switch.is_some()).map(|nic| nic.pointer.as_str());
        let links = self.cabling.links.iter().map(|(pointer, _)| pointer.as_str());
        let laid: HashSet<&str> = nics.chain(links).collect();
        let is_lost = |(i, link): (usize, &Option<CableSpec>)| {
            let pointer = join("/links", &i.to_string());
            let ends = link.as_ref().map_or_else(Vec::new, |link| link.ends(&pointer));
            let known = |end: &End| match end {
                End::Nic { guest, .. } => self.file.guests.position(guest).is_some(),
                _ => true,
            };
            let all_known = ends.iter().all(|(_, end)| known(end));
            (!laid.contains(pointer.as_str()) || !all_known).then_some(i)
        };
        let lost = self.file.links.0.iter().enumerate().filter_map(is_lost).collect();
        self.cabling.lost_links = lost;
    }

    /// Whether a cable of `links` is missing because it makes no sense.
    pub fn links_damaged(&self) -> bool {
        self.document.is_lost("/links") || !self.cabling.lost_links.is_empty()
    }

    /// Whether a cable of `links` is missing that has such an end, or one that makes no sense.
    pub fn is_link_lost_to(&self, is_it: &dyn Fn(&End) -> bool) -> bool {
        let leads_there = |i: &usize| {
            let pointer = join("/links", &i.to_string());
            let Some(Some(link)) = self.file.links.0.get(*i) else { return true };
            let whole = match link {
                CableSpec::Short(_) => true,
                CableSpec::Long(keys) => {
                    keys.ends.0.iter().all(Option::is_some)
                        && !self.document.is_lost(&join(&pointer, "ends"))
                }
            };
            !whole || link.ends(&pointer).iter().any(|(_, end)| is_it(end))
        };
        self.document.is_lost("/links") || self.cabling.lost_links.iter().any(leads_there)
    }

    /// Finds one of the file's switches by name.
    fn find_switch(&mut self, pointer: &str, name: &str) -> Option<usize> {
        let switches = &self.file.switches;
        let position = switches.position(name);
        if position.is_none() {
            if self.file.guests.position(name).is_some() {
                let message = format!("`{name}` is a guest, not a switch");
                let help = if pointer.starts_with("/links") {
                    format!("its first NIC is `{name}:0`")
                } else {
                    format!("guests are cabled to each other in `links`, as \"left:0 -- {name}:0\"")
                };
                self.document.value_problem(pointer, &message, "not a switch").help(help);
            } else if !self.is_lost("/switches", name) {
                self.document.unknown(pointer, "switch", name, switches.names());
            }
            self.document.set_aside(pointer);
        }
        position
    }

    fn guest_of_end(&mut self, pointer: &str, name: &str) -> Option<usize> {
        if self.file.guests.position(name).is_none() && self.file.switches.position(name).is_some()
        {
            let message = format!("`{name}` is a switch, not a guest");
            self.document
                .value_problem(pointer, &message, "not a guest")
                .help(format!("a switch has no numbers: write `{name}`"));
            return None;
        }
        self.find_guest(pointer, name)
    }
}
