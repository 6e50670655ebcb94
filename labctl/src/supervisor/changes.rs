//! Making a running lab what a changed file says, and touching nothing else.
//!
//! A guest is left alone if nothing has changed that it, or the machine around it, could tell: its
//! memory, what it boots and with which words, its NICs, their switches, and how its frames are
//! moved. All of that is its [`Fingerprint`]. Impairments are not part of it: cables change while
//! they are in use.

use std::time::Duration;

use serde::Serialize;

use super::Supervisor;
use crate::control::protocol::{Change, ChangeKind, Changes};
use crate::error::{Error, Exit};
use crate::lab::{self, FabricError, command_line};
use crate::policy::Choice;
use crate::topology::{Boot, CableId, Guest, Lab, Link, SwitchKind, human_mac};

/// All that makes a guest the one it is.
#[derive(PartialEq, Serialize)]
struct Fingerprint<'a> {
    memory_mib: u32,
    boot: Option<&'a Boot>,
    /// What pktguest is told, peers' addresses included.
    words: Option<String>,
    policy: Choice,
    nics: Vec<NicPrint<'a>>,
}

#[derive(PartialEq, Serialize)]
struct NicPrint<'a> {
    mac: String,
    switch: &'a str,
    kind: SwitchKind,
    itr: bool,
    csb: bool,
}

impl<'a> Fingerprint<'a> {
    fn of(lab: &'a Lab, index: usize, tsc_khz: Option<u32>) -> Self {
        let guest = &lab.guests[index];
        let nics = guest.nics.iter().map(|nic| {
            let on = lab.optimizations_of(guest, nic);
            NicPrint {
                mac: human_mac(nic.mac),
                switch: lab.switches.get(nic.switch).map_or("", |switch| &switch.name),
                kind: lab.switch_kind(nic.switch),
                itr: on.itr,
                csb: on.csb,
            }
        });
        Self {
            memory_mib: guest.memory_mib,
            boot: guest.boot(),
            words: guest.pktguest().map(|pktguest| command_line(lab, index, pktguest, tsc_khz)),
            policy: lab.policy,
            nics: nics.collect(),
        }
    }

    /// In which way the other is different.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        let reasons = [
            (self.memory_mib != other.memory_mib, "its memory changes"),
            (self.boot != other.boot, "what it boots changes"),
            (self.nics != other.nics, "its NICs change"),
            (self.policy != other.policy, "the policy changes"),
            (self.words != other.words, "what it does changes"),
        ];
        reasons.into_iter().find(|(differs, _)| *differs).map(|(_, reason)| reason)
    }
}

/// What differs between a lab and what it is to be.
pub struct Difference {
    /// Names of guests, switches and links that go.
    guests_gone: Vec<String>,
    switches_gone: Vec<String>,
    links_gone: Vec<String>,
    /// Those that come, or come back; indices into the new lab.
    switches_new: Vec<usize>,
    links_new: Vec<usize>,
    guests_new: Vec<usize>,
    /// Guests that are replaced; indices into the new lab.
    guests_replaced: Vec<usize>,
    /// Cables of the new lab that stay and get other impairments.
    impaired: Vec<CableId>,
    /// All of it in words.
    pub changes: Changes,
}

impl Difference {
    /// Compares two labs of one name.
    pub fn between(old: &Lab, new: &Lab, tsc_khz: Option<u32>) -> Self {
        let mut found = Self {
            guests_gone: Vec::new(),
            switches_gone: Vec::new(),
            links_gone: Vec::new(),
            switches_new: Vec::new(),
            links_new: Vec::new(),
            guests_new: Vec::new(),
            guests_replaced: Vec::new(),
            impaired: Vec::new(),
            changes: Changes::default(),
        };
        found.compare_links(old, new);
        found.compare_guests(old, new, tsc_khz);
        found.compare_switches(old, new);
        found.compare_cables(old, new);
        if old.events != new.events {
            found.note(ChangeKind::Update, "events", "what is still to come is as in the new file");
        }
        let order = |kind| match kind {
            ChangeKind::Remove => 0,
            ChangeKind::Update => 1,
            ChangeKind::Replace => 2,
            ChangeKind::Add => 3,
        };
        found.changes.steps.sort_by_key(|step| order(step.what));
        let touched = found.guests_replaced.len() + found.guests_new.len();
        found.changes.untouched = new.guests.len() - touched;
        found
    }

    fn note(&mut self, what: ChangeKind, subject: &str, detail: &str) {
        let (subject, detail) = (subject.to_owned(), detail.to_owned());
        self.changes.steps.push(Change { what, subject, detail });
    }

    fn compare_guests(&mut self, old: &Lab, new: &Lab, tsc_khz: Option<u32>) {
        for gone in old.guests.iter().filter(|guest| position(&new.guests, &guest.name).is_none()) {
            self.guests_gone.push(gone.name.clone());
            self.note(ChangeKind::Remove, &gone.name, "guest");
        }
        for (index, guest) in new.guests.iter().enumerate() {
            let Some(before) = position(&old.guests, &guest.name) else {
                self.guests_new.push(index);
                self.note(ChangeKind::Add, &guest.name, "guest");
                continue;
            };
            let prints =
                [(old, before), (new, index)].map(|(lab, at)| Fingerprint::of(lab, at, tsc_khz));
            if let Some(reason) = prints[0].differs(&prints[1]) {
                self.guests_replaced.push(index);
                self.note(ChangeKind::Replace, &guest.name, &format!("guest: {reason}"));
            }
        }
    }

    fn compare_switches(&mut self, old: &Lab, new: &Lab) {
        for (index, switch) in old.switches.iter().enumerate() {
            let after = new.switches.iter().position(|other| other.name == switch.name);
            let stays = after.is_some_and(|after| old.switch_kind(index) == new.switch_kind(after));
            if !stays {
                self.switches_gone.push(switch.name.clone());
            }
            if after.is_none() {
                self.note(ChangeKind::Remove, &switch.name, "switch");
            }
        }
        for (index, switch) in new.switches.iter().enumerate() {
            let before = old.switches.iter().position(|other| other.name == switch.name);
            match before.map(|before| old.switch_kind(before) == new.switch_kind(index)) {
                Some(true) => {}
                Some(false) => {
                    self.switches_new.push(index);
                    self.note(ChangeKind::Replace, &switch.name, "switch: its kind changes");
                }
                None => {
                    self.switches_new.push(index);
                    self.note(ChangeKind::Add, &switch.name, "switch");
                }
            }
        }
    }

    fn compare_links(&mut self, old: &Lab, new: &Lab) {
        for link in &old.links {
            let same = new.links.iter().any(|other| same_ends(old, link, new, other));
            if !same {
                self.links_gone.push(link.name.clone());
                if !new.links.iter().any(|other| other.name == link.name) {
                    self.note(ChangeKind::Remove, &link.name, "link");
                }
            }
        }
        for (index, link) in new.links.iter().enumerate() {
            if old.links.iter().any(|other| same_ends(old, other, new, link)) {
                continue;
            }
            self.links_new.push(index);
            match old.links.iter().any(|other| other.name == link.name) {
                true => self.note(ChangeKind::Replace, &link.name, "link: its ends change"),
                false => self.note(ChangeKind::Add, &link.name, "link"),
            }
        }
    }

    /// Cables that stay what they are but for their impairments.
    fn compare_cables(&mut self, old: &Lab, new: &Lab) {
        for cable in new.cables() {
            let replaced = match cable {
                CableId::Nic { guest, .. } => {
                    self.guests_replaced.contains(&guest) || self.guests_new.contains(&guest)
                }
                CableId::Link(link) => self.links_new.contains(&link),
            };
            let name = new.cable_name(cable);
            let before = old.cables().find(|before| old.cable_name(*before) == name);
            let Some(before) = before.filter(|_| !replaced) else { continue };
            let (was, is) = (old.impairments(before), new.impairments(cable));
            if was != is {
                self.impaired.push(cable);
                self.note(ChangeKind::Update, &name, &format!("cable: {is} instead of {was}"));
            }
        }
    }
}

fn position(guests: &[Guest], name: &str) -> Option<usize> {
    guests.iter().position(|guest| guest.name == name)
}

fn same_ends(old: &Lab, link: &Link, new: &Lab, other: &Link) -> bool {
    let ends = |lab: &Lab, link: &Link| {
        link.ends.each_ref().map(|end| {
            (lab.end_name(end), lab.end_kind(end), end.address().map(|own| own.to_string()))
        })
    };
    link.name == other.name && ends(old, link) == ends(new, other)
}

impl Supervisor {
    /// Makes the lab what `new` says, or only tells what that would change.
    ///
    /// # Errors
    /// If it is another lab, or what is new cannot be started: what was changed before stays so.
    pub(super) async fn apply(&mut self, new: Lab, dry_run: bool) -> Result<Changes, Error> {
        if new.name != self.lab.name {
            let message = format!("lab `{}` cannot become lab `{}`", self.lab.name, new.name);
            return Err(Error::new(Exit::Locked, message));
        }
        let difference = Difference::between(&self.lab, &new, self.hypervisor.tsc_khz());
        let other_vmm =
            new.qemu != self.lab.qemu || new.qemu.is_some() && !difference.changes.steps.is_empty();
        if other_vmm {
            let message = format!("lab `{}` cannot be changed while QEMU runs it", new.name);
            return Err(
                Error::new(Exit::Locked, message).help(format!("labctl down --lab {}", new.name))
            );
        }
        if dry_run || difference.changes.steps.is_empty() {
            return Ok(difference.changes);
        }
        lab::check(&self.hypervisor, &new)?;
        self.history.event("lab-changing", None, None);
        for link in &difference.links_gone {
            self.running.fabric_mut().remove_link(link);
        }
        let replaced = difference.guests_replaced.iter().map(|index| &new.guests[*index].name);
        for name in replaced.chain(&difference.guests_gone) {
            if let Some(number) = self.find(name) {
                self.running.remove_guest(number);
            }
        }
        for switch in &difference.switches_gone {
            self.running.fabric_mut().remove_switch(switch).await?;
        }
        // From here on the lab is the new one, even if some part of it does not start.
        let events_differ = self.lab.events != new.events;
        self.lab = new;
        for index in difference.switches_new {
            self.running.fabric_mut().add_switch(&self.lab, index).await?;
        }
        for index in difference.links_new {
            self.running.fabric_mut().add_link(&self.lab, index).await?;
        }
        for cable in difference.impaired {
            let name = self.lab.cable_name(cable);
            if let Some(running) = self.running.fabric_mut().cable_mut(&name) {
                running.impair(self.lab.impairments(cable)).map_err(FabricError::from)?;
            }
        }
        for index in difference.guests_replaced.into_iter().chain(difference.guests_new) {
            let number = self.running.add_guest(&self.hypervisor, &self.lab, index).await?;
            if self.lab.guests[index].boot().is_some() {
                self.running.set_link(number, true);
            }
        }
        if events_differ {
            let passed = self.ready_at.map_or(Duration::ZERO, |since| since.elapsed());
            self.to_come = self.lab.events.clone();
            self.to_come.retain(|event| event.at >= passed);
        }
        for step in &difference.changes.steps {
            let detail = format!("{:?}: {}", step.what, step.detail).to_lowercase();
            self.history.event("changed", Some(&step.subject), Some(&detail));
        }
        self.publish();
        Ok(difference.changes)
    }
}
