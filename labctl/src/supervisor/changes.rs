//! Making a running lab what a changed file says, and touching nothing else.
//!
//! A guest is left alone if nothing has changed that it, or the machine around it, could tell: its
//! memory, what it boots and with which words, its NICs, their switches, and how its frames are
//! moved. All of that is its [`Fingerprint`]. Impairments are not part of it: cables change while
//! they are in use.
//!
//! The file is compared with what is there, not with what was once asked for: what could not be
//! started is tried again, and cables that somebody has changed by hand are what the file says again.

use std::time::Duration;

use super::Supervisor;
use crate::control::protocol::{Change, ChangeKind, Changes};
use crate::error::{Error, Exit};
use crate::impairments::Impairments;
use crate::lab::{self, FabricError, RunningLab, command_line};
use crate::policy::Choice;
use crate::topology::{Action, Boot, CableId, Guest, Lab, Link, SwitchKind, human_mac};

/// All that makes a guest the one it is.
#[derive(PartialEq)]
struct Fingerprint<'a> {
    memory_mib: u32,
    boot: Option<&'a Boot>,
    /// What pktguest is told, peers' addresses included.
    words: Option<String>,
    policy: Choice,
    nics: Vec<NicPrint<'a>>,
}

#[derive(PartialEq)]
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
    /// Cables of the new lab that stay and become other than they are.
    cables_changed: Vec<(CableId, CableState)>,
    /// All of it in words.
    pub changes: Changes,
}

/// A lab that runs, as it is.
pub struct Present<'a> {
    /// What it was to be.
    pub lab: &'a Lab,
    /// What has become of that.
    pub running: &'a RunningLab,
    /// How long it has been ready; `None` if it has not been.
    pub passed: Option<Duration>,
    /// The frequency of guests' time-stamp counters in kHz.
    pub tsc_khz: Option<u32>,
}

impl Present<'_> {
    fn has_guest(&self, name: &str) -> bool {
        self.running.find(name).is_some()
    }
}

/// What a cable does to frames, and whether it is plugged in.
#[derive(Clone, Copy, PartialEq)]
struct CableState {
    impairments: Impairments,
    up: bool,
}

impl CableState {
    /// What the file says of a cable, its events that have passed included.
    fn by(lab: &Lab, cable: CableId, passed: Option<Duration>) -> Self {
        let mut state = Self { impairments: lab.impairments(cable), up: true };
        let past = lab.events.iter().filter(|event| passed.is_some_and(|now| event.at < now));
        for event in past {
            match event.action {
                Action::Impair { cable: of, impairments } if of == cable => {
                    state.impairments = impairments;
                }
                Action::Plug { cable: of, up } if of == cable => state.up = up,
                Action::Impair { .. } | Action::Plug { .. } | Action::Restart { .. } => {}
            }
        }
        state
    }

    /// In which way it is other than `before`; `None` if it is not.
    fn instead_of(&self, before: &Self) -> Option<String> {
        let mut ways = Vec::new();
        if self.impairments != before.impairments {
            ways.push(format!("{} instead of {}", self.impairments, before.impairments));
        }
        if self.up != before.up {
            ways.push(if self.up { "plugged in again" } else { "unplugged" }.to_owned());
        }
        (!ways.is_empty()).then(|| format!("cable: {}", ways.join(", ")))
    }
}

impl Difference {
    /// Compares a lab that runs with one of its name.
    pub fn between(present: &Present, new: &Lab) -> Self {
        let old = present.lab;
        let mut found = Self {
            guests_gone: Vec::new(),
            switches_gone: Vec::new(),
            links_gone: Vec::new(),
            switches_new: Vec::new(),
            links_new: Vec::new(),
            guests_new: Vec::new(),
            guests_replaced: Vec::new(),
            cables_changed: Vec::new(),
            changes: Changes::default(),
        };
        found.compare_links(present, new);
        found.compare_guests(present, new);
        found.compare_switches(present, new);
        found.compare_cables(present, new);
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

    fn compare_guests(&mut self, present: &Present, new: &Lab) {
        let (old, tsc_khz) = (present.lab, present.tsc_khz);
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
            if !present.has_guest(&guest.name) {
                self.guests_new.push(index);
                self.note(ChangeKind::Add, &guest.name, "guest: it could not be started before");
                continue;
            }
            let prints =
                [(old, before), (new, index)].map(|(lab, at)| Fingerprint::of(lab, at, tsc_khz));
            if let Some(reason) = prints[0].differs(&prints[1]) {
                self.guests_replaced.push(index);
                self.note(ChangeKind::Replace, &guest.name, &format!("guest: {reason}"));
            }
        }
    }

    fn compare_switches(&mut self, present: &Present, new: &Lab) {
        let old = present.lab;
        let is_there = |name: &str| present.running.fabric().has_switch(name);
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
            let before = before.filter(|_| is_there(&switch.name));
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

    fn compare_links(&mut self, present: &Present, new: &Lab) {
        let old = present.lab;
        let is_there = |name: &str| present.running.fabric().has_link(name);
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
            let is_there = is_there(&link.name);
            if is_there && old.links.iter().any(|other| same_ends(old, other, new, link)) {
                continue;
            }
            self.links_new.push(index);
            match is_there {
                true => self.note(ChangeKind::Replace, &link.name, "link: its ends change"),
                false => self.note(ChangeKind::Add, &link.name, "link"),
            }
        }
    }

    /// Cables that stay, and are not as the new file says.
    fn compare_cables(&mut self, present: &Present, new: &Lab) {
        for cable in new.cables() {
            let replaced = match cable {
                CableId::Nic { guest, .. } => {
                    self.guests_replaced.contains(&guest) || self.guests_new.contains(&guest)
                }
                CableId::Link(link) => self.links_new.contains(&link),
            };
            let name = new.cable_name(cable);
            let there = present.running.fabric().cables().find(|there| there.name() == name);
            let Some(there) = there.filter(|_| !replaced) else { continue };
            let was = CableState { impairments: there.impairments(), up: there.is_plugged() };
            let is = CableState::by(new, cable, present.passed);
            if let Some(way) = is.instead_of(&was) {
                self.cables_changed.push((cable, is));
                self.note(ChangeKind::Update, &name, &way);
            }
        }
    }

    /// What the new guests need more than those gave back that go, in MiB.
    fn more_memory(&self, old: &Lab, new: &Lab) -> u64 {
        let of = |guest: &Guest| u64::from(guest.memory_mib);
        let come = self.guests_new.iter().chain(&self.guests_replaced);
        let come: u64 = come.map(|index| of(&new.guests[*index])).sum();
        let replaced = self.guests_replaced.iter().map(|index| &new.guests[*index].name);
        let go = replaced.chain(&self.guests_gone).filter_map(|name| position(&old.guests, name));
        let go: u64 = go.map(|index| of(&old.guests[index])).sum();
        come.saturating_sub(go)
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
    /// If it is another lab, or this host could not run it: nothing has changed then. If some part
    /// does not start: all the rest is done, and the next time only what is missing.
    pub(super) async fn apply(&mut self, new: Lab, dry_run: bool) -> Result<Changes, Error> {
        if new.name != self.lab.name {
            let message = format!("lab `{}` cannot become lab `{}`", self.lab.name, new.name);
            return Err(Error::new(Exit::Locked, message));
        }
        let passed = self.ready_at.map(|since| since.elapsed());
        let tsc_khz = self.hypervisor.tsc_khz();
        let present = Present { lab: &self.lab, running: &self.running, passed, tsc_khz };
        let difference = Difference::between(&present, &new);
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
        lab::check_kind(&self.hypervisor, &new)?;
        lab::check_memory(difference.more_memory(&self.lab, &new))?;
        for index in difference.guests_replaced.iter().chain(&difference.guests_new) {
            lab::check_files(&new.guests[*index])?;
        }
        self.history.event("lab-changing", None, None);
        let steps = difference.changes.clone();
        let troubles = self.change(difference, new, passed).await;
        for step in &steps.steps {
            let detail = format!("{:?}: {}", step.what, step.detail).to_lowercase();
            self.history.event("changed", Some(&step.subject), Some(&detail));
        }
        self.begin_if_ready().await;
        self.publish();
        match troubles.into_iter().next() {
            None => Ok(steps),
            Some(first) => {
                let message = format!("lab `{}` is not all that its file says", self.lab.name);
                Err(Error::new(first.exit(), message)
                    .because(first.in_one_line())
                    .help("`labctl up` again tries what is missing; `labctl ps` shows it"))
            }
        }
    }

    /// Takes all steps that can be taken; returns why others could not.
    async fn change(
        &mut self,
        difference: Difference,
        new: Lab,
        passed: Option<Duration>,
    ) -> Vec<Error> {
        let mut troubles = Vec::new();
        for link in &difference.links_gone {
            self.running.fabric_mut().remove_link(link);
        }
        let replaced = difference.guests_replaced.iter().map(|index| &new.guests[*index].name);
        for name in replaced.chain(&difference.guests_gone) {
            self.absent.remove(name);
            if let Some(number) = self.running.find(name) {
                self.running.remove_guest(number);
            }
        }
        for switch in &difference.switches_gone {
            let removed = self.running.fabric_mut().remove_switch(switch).await;
            troubles.extend(removed.err().map(Error::from));
        }
        if self.lab.events != new.events {
            self.to_come = new.events.clone();
            self.to_come.retain(|event| passed.is_none_or(|passed| event.at >= passed));
        }
        self.lab = new;
        for index in difference.switches_new {
            let added = self.running.fabric_mut().add_switch(&self.lab, index).await;
            troubles.extend(added.err().map(Error::from));
        }
        for index in difference.links_new {
            let added = self.running.fabric_mut().add_link(&self.lab, index).await;
            troubles.extend(added.err().map(Error::from));
        }
        for (cable, CableState { impairments, up }) in difference.cables_changed {
            let name = self.lab.cable_name(cable);
            if let Some(running) = self.running.fabric_mut().cable_mut(&name) {
                let impaired = running.impair(impairments).map_err(FabricError::from);
                troubles.extend(impaired.err().map(Error::from));
            }
            self.running.plug_cable(&name, up);
        }
        for index in difference.guests_replaced.into_iter().chain(difference.guests_new) {
            // One that could not be started has left some.
            self.running.fabric_mut().remove_cables_of(&self.lab.guests[index].name);
            troubles.extend(self.start_guest(index).await.err());
        }
        troubles
    }
}
