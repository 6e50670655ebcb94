//! What differs between a lab that runs and what its file says, as steps that mend it.
//!
//! A guest is left alone if nothing has changed that it, or the machine around it, could tell: what it
//! is and boots and with which words, its memory, its NICs, their switches, and how its frames are
//! moved. All of that is its [`Fingerprint`]. Impairments are not part of it: cables change while
//! they are in use.
//!
//! The file is compared with what is there, not with what was once asked for: what could not be
//! started is tried again, and cables that somebody has changed by hand are what the file says again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vmm_core::policy::Policy;

use crate::control::protocol::{Change, ChangeKind};
use crate::impairments::Impairments;
use crate::lab::{RunningLab, command_line};
use crate::topology::{Action, Boot, CableId, Guest, Lab, Link, SwitchKind};
use crate::units::human_mac;

/// All that makes a guest the one it is.
#[derive(PartialEq)]
struct Fingerprint<'a> {
    kind: &'static str,
    memory_mib: u32,
    boot: Option<Boot>,
    /// What pktguest is told, peers' addresses included.
    words: Option<String>,
    policy: Policy,
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
    fn of(lab: &'a Lab, index: usize, policy: Policy, tsc_khz: Option<u32>) -> Self {
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
        // However its files are called.
        let boot = guest.boot().map(|boot| Boot {
            kernel: real(&boot.kernel),
            initrd: boot.initrd.as_deref().map(real),
            ..boot.clone()
        });
        Self {
            kind: guest.system.kind(),
            memory_mib: guest.memory_mib,
            boot,
            words: guest.pktguest().map(|pktguest| command_line(lab, index, pktguest, tsc_khz)),
            policy,
            nics: nics.collect(),
        }
    }

    /// In which way the other is different.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        let reasons = [
            (self.kind != other.kind, "its kind changes"),
            (self.memory_mib != other.memory_mib, "its memory changes"),
            (self.boot != other.boot, "what it boots changes"),
            (self.nics != other.nics, "its NICs change"),
            (self.policy != other.policy, "the policy changes"),
            (self.words != other.words, "what it does changes"),
        ];
        reasons.into_iter().find(|(differs, _)| *differs).map(|(_, reason)| reason)
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
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

/// What a lab is to be.
pub struct Wanted<'a> {
    /// What its file says.
    pub lab: &'a Lab,
    /// What moves its frames on this host.
    pub policy: Policy,
}

/// What a cable does to frames, and whether it is plugged in.
#[derive(Clone, Copy, PartialEq)]
pub struct CableState {
    /// What it does to frames.
    pub impairments: Impairments,
    /// Whether it is plugged in.
    pub up: bool,
}

impl CableState {
    /// What the file says of a cable, its events that have passed included.
    pub fn by(lab: &Lab, cable: CableId, passed: Option<Duration>) -> Self {
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

/// One thing to be done.
pub struct Step {
    /// What to.
    pub part: Part,
    /// The same in words.
    pub change: Change,
}

/// A part of a lab; where it comes or stays, by its index in the new lab.
#[derive(Clone, Copy, PartialEq)]
pub enum Part {
    /// A guest.
    Guest(usize),
    /// A cable that is not a guest's.
    Link(usize),
    /// A switch.
    Switch(usize),
    /// A cable that stays, and becomes other than it is.
    Cable,
    /// What is still to happen.
    Events,
}

/// Where something is that only goes.
const NOWHERE: usize = usize::MAX;

impl Step {
    fn new(part: Part, what: ChangeKind, subject: &str, detail: &str) -> Self {
        let (subject, detail) = (subject.to_owned(), detail.to_owned());
        Self { part, change: Change { what, subject, detail } }
    }

    /// Whether what is there is taken away.
    pub fn goes(&self) -> bool {
        matches!(self.change.what, ChangeKind::Remove | ChangeKind::Replace)
    }

    /// Whether something is built.
    pub fn comes(&self) -> bool {
        matches!(self.change.what, ChangeKind::Add | ChangeKind::Replace)
    }
}

/// The steps from a lab that runs to one of its name: what goes first, then what is changed, replaced
/// and added.
pub fn steps(present: &Present, wanted: &Wanted) -> Vec<Step> {
    let mut steps = links(present, wanted.lab);
    steps.extend(guests(present, wanted));
    steps.extend(switches(present, wanted.lab));
    steps.extend(cables(present, wanted.lab, &steps));
    if present.lab.events != wanted.lab.events {
        let detail = "what is still to come is as in the new file";
        steps.push(Step::new(Part::Events, ChangeKind::Update, "events", detail));
    }
    steps.sort_by_key(|step| match step.change.what {
        ChangeKind::Remove => 0,
        ChangeKind::Update => 1,
        ChangeKind::Replace => 2,
        ChangeKind::Add => 3,
    });
    steps
}

/// What those guests need more that come than those gave back that go, in MiB.
pub fn more_memory(steps: &[Step], old: &Lab, new: &Lab) -> u64 {
    let of = |lab: &Lab, name: &str| {
        let index = position(&lab.guests, name);
        index.map_or(0, |index| u64::from(lab.guests[index].memory_mib))
    };
    let guests = || steps.iter().filter(|step| matches!(step.part, Part::Guest(_)));
    let come = guests().filter(|step| step.comes()).map(|step| of(new, &step.change.subject));
    let go = guests().filter(|step| step.goes()).map(|step| of(old, &step.change.subject));
    come.sum::<u64>().saturating_sub(go.sum())
}

fn guests(present: &Present, wanted: &Wanted) -> Vec<Step> {
    let (old, new) = (&present.lab.guests, &wanted.lab.guests);
    let gone = old.iter().filter(|guest| position(new, &guest.name).is_none());
    let mut steps: Vec<_> = gone
        .map(|guest| Step::new(Part::Guest(NOWHERE), ChangeKind::Remove, &guest.name, "guest"))
        .collect();
    for (index, Guest { name, .. }) in new.iter().enumerate() {
        let step = |what, detail: &str| Step::new(Part::Guest(index), what, name, detail);
        let Some(before) = position(old, name) else {
            steps.push(step(ChangeKind::Add, "guest"));
            continue;
        };
        if present.running.find(name).is_none() {
            steps.push(step(ChangeKind::Add, "guest: it could not be started before"));
            continue;
        }
        let tsc_khz = present.tsc_khz;
        let was = Fingerprint::of(present.lab, before, present.running.policy(), tsc_khz);
        let is = Fingerprint::of(wanted.lab, index, wanted.policy, tsc_khz);
        if let Some(reason) = was.differs(&is) {
            steps.push(step(ChangeKind::Replace, &format!("guest: {reason}")));
        }
    }
    steps
}

fn position(guests: &[Guest], name: &str) -> Option<usize> {
    guests.iter().position(|guest| guest.name == name)
}

fn switches(present: &Present, new: &Lab) -> Vec<Step> {
    let old = present.lab;
    let gone =
        old.switches.iter().filter(|switch| !new.switches.iter().any(|s| s.name == switch.name));
    let mut steps: Vec<_> = gone
        .map(|switch| Step::new(Part::Switch(NOWHERE), ChangeKind::Remove, &switch.name, "switch"))
        .collect();
    for (index, switch) in new.switches.iter().enumerate() {
        let step = |what, detail| Step::new(Part::Switch(index), what, &switch.name, detail);
        let before = old.switches.iter().position(|other| other.name == switch.name);
        let before = before.filter(|_| present.running.fabric().has_switch(&switch.name));
        match before.map(|before| old.switch_kind(before) == new.switch_kind(index)) {
            Some(true) => {}
            Some(false) => steps.push(step(ChangeKind::Replace, "switch: its kind changes")),
            None => steps.push(step(ChangeKind::Add, "switch")),
        }
    }
    steps
}

fn links(present: &Present, new: &Lab) -> Vec<Step> {
    let old = present.lab;
    let gone =
        old.links.iter().filter(|link| !new.links.iter().any(|other| other.name == link.name));
    let mut steps: Vec<_> = gone
        .map(|link| Step::new(Part::Link(NOWHERE), ChangeKind::Remove, &link.name, "link"))
        .collect();
    for (index, link) in new.links.iter().enumerate() {
        let step = |what, detail| Step::new(Part::Link(index), what, &link.name, detail);
        let is_there = present.running.fabric().has_link(&link.name);
        match old.links.iter().any(|other| same_ends(old, other, new, link)) {
            true if is_there => {}
            true => steps.push(step(ChangeKind::Add, "link: it is not there any more")),
            false if is_there => steps.push(step(ChangeKind::Replace, "link: its ends change")),
            false => steps.push(step(ChangeKind::Add, "link")),
        }
    }
    steps
}

fn same_ends(old: &Lab, link: &Link, new: &Lab, other: &Link) -> bool {
    let ends = |lab: &Lab, link: &Link| {
        link.ends.each_ref().map(|end| {
            (lab.end_name(end), lab.end_kind(end), end.address().map(|own| own.to_string()))
        })
    };
    link.name == other.name && ends(old, link) == ends(new, other)
}

/// Cables that stay, and are not as the new file says.
fn cables(present: &Present, new: &Lab, others: &[Step]) -> Vec<Step> {
    let comes = |part| others.iter().any(|step| step.part == part);
    let stay = new.cables().filter(|cable| match *cable {
        CableId::Nic { guest, .. } => !comes(Part::Guest(guest)),
        CableId::Link(link) => !comes(Part::Link(link)),
    });
    let changed = stay.filter_map(|cable| {
        let name = new.cable_name(cable);
        let there = present.running.fabric().cables().find(|there| there.name() == name)?;
        let was = CableState { impairments: there.impairments(), up: there.is_plugged() };
        let way = CableState::by(new, cable, present.passed).instead_of(&was)?;
        Some(Step::new(Part::Cable, ChangeKind::Update, &name, &way))
    });
    changed.collect()
}
