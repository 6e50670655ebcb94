//! What a lab file means: plain data, with every default filled in and every reference an index.

mod assertion;
mod experiment;
mod guest;
mod links;
mod reach;

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::impairments::Impairments;
use crate::optimizations::{Optimization, Optimizations};
use crate::platform::{self, NicModel, Platform, Vmm};
use crate::policy::Choice;
use crate::units::human_time;

pub use assertion::{Assertion, Dimension, Metric, Operator, Relation, Subject, Term};
pub use experiment::{Axis, Bench, Cell, Pair, Quick, Step, TrialSpec};
pub use guest::{Boot, Guest, Nic, Overrides, Pktguest, Role, System, Target, Workload};
pub use links::{Action, CableId, HostTap, Link, LinkEnd, TimedEvent};
pub use reach::Segments;

/// A lab: guests, the switches between them, and what to measure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lab {
    /// Name, `[a-z0-9-]{1,32}`; names of everything the lab creates derive from it.
    pub name: String,
    /// The file it came from.
    pub path: PathBuf,
    /// One line for people.
    pub description: Option<String>,
    /// Switches, in the file's order.
    pub switches: Vec<Switch>,
    /// Guests, in the file's order; at least one.
    pub guests: Vec<Guest>,
    /// Cables that are not a guest's: from switch to switch, and from a switch to the host. Switches
    /// and cables between them form no loop.
    pub links: Vec<Link>,
    /// What happens by itself while the lab runs, in the order of time.
    pub events: Vec<TimedEvent>,
    /// The optimizations that are on, unless the experiment's matrix says otherwise.
    pub optimizations: Optimizations,
    /// How QEMU runs the guests, if it does; `None`: labctl does.
    pub qemu: Option<Qemu>,
    /// Which threads of labctl move the frames.
    pub policy: Choice,
    /// The experiment, if the file has one.
    pub bench: Option<Bench>,
}

/// What differs between two labs that QEMU runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Qemu {
    /// The model of all NICs.
    pub nic: NicModel,
    /// What connects them: a TAP each, or sockets.
    pub link: platform::Link,
}

/// A learning switch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Switch {
    /// Name, `[a-z0-9-]{1,32}`.
    pub name: String,
    /// What it is; `None`: what `optimizations.vale` says, see [`Lab::switch_kind`].
    pub kind: Option<SwitchKind>,
}

/// What a switch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SwitchKind {
    /// A VALE switch inside labctl.
    Vale,
    /// A Linux bridge in a network namespace of the lab's own, with a TAP for each port.
    Bridge,
}

impl SwitchKind {
    /// The kind's name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vale => "vale",
            Self::Bridge => "bridge",
        }
    }
}

/// For fields that hold a time.
fn time_as_text<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&human_time(*time))
}

impl Lab {
    /// What its guests run on.
    pub fn platform(&self) -> Platform {
        match self.qemu {
            Some(Qemu { nic, link }) => Platform { vmm: Vmm::Qemu, nic, link },
            None => {
                let link = match self.optimizations.vale {
                    true => platform::Link::Vale,
                    false => platform::Link::Tap,
                };
                Platform { vmm: Vmm::Labctl, nic: NicModel::E1000, link }
            }
        }
    }

    /// What a switch is.
    pub fn switch_kind(&self, switch: usize) -> SwitchKind {
        let own = self.switches.get(switch).and_then(|switch| switch.kind);
        own.unwrap_or(match self.optimizations.vale {
            true => SwitchKind::Vale,
            false => SwitchKind::Bridge,
        })
    }

    /// The optimizations of a NIC: its own, its guest's, or the lab's.
    pub fn optimizations_of(&self, guest: &Guest, nic: &Nic) -> Optimizations {
        let vale = self.switch_kind(nic.switch) == SwitchKind::Vale;
        let on = guest.optimizations.over(self.optimizations);
        nic.optimizations.over(on).with(Optimization::Vale, vale)
    }

    /// What people call a cable: `guest:nic`, or the link's name.
    pub fn cable_name(&self, cable: CableId) -> String {
        match cable {
            CableId::Nic { guest, nic } => {
                let guest = self.guests.get(guest).map_or("?", |guest| &guest.name);
                format!("{guest}:{nic}")
            }
            CableId::Link(link) => self.links.get(link).map_or("?", |link| &link.name).to_owned(),
        }
    }

    /// All cables: the guests' in their order, then the others.
    pub fn cables(&self) -> impl Iterator<Item = CableId> {
        let of_guest = |(guest, spec): (usize, &Guest)| {
            (0..spec.nics.len()).map(move |nic| CableId::Nic { guest, nic })
        };
        let nics = self.guests.iter().enumerate().flat_map(of_guest);
        nics.chain((0..self.links.len()).map(CableId::Link))
    }

    /// What people call the end of a link: a switch, or `host:TAP` or `netns:NAME/TAP`.
    pub fn end_name(&self, end: &LinkEnd) -> String {
        match end {
            LinkEnd::Switch(switch) => {
                self.switches.get(*switch).map_or("?", |switch| &switch.name).to_owned()
            }
            LinkEnd::Host(HostTap { netns: None, name, .. }) => format!("host:{name}"),
            LinkEnd::Host(HostTap { netns: Some(netns), name, .. }) => {
                format!("netns:{netns}/{name}")
            }
        }
    }

    /// What the switch at the end of a link is; `None` if it is no switch.
    pub fn end_kind(&self, end: &LinkEnd) -> Option<SwitchKind> {
        match end {
            LinkEnd::Switch(switch) => Some(self.switch_kind(*switch)),
            LinkEnd::Host(_) => None,
        }
    }

    /// What a cable does to frames, by the file.
    pub fn impairments(&self, cable: CableId) -> Impairments {
        let found = match cable {
            CableId::Nic { guest, nic } => {
                let guest = self.guests.get(guest);
                guest.and_then(|guest| guest.nics.get(nic)).map(|nic| nic.impairments)
            }
            CableId::Link(link) => self.links.get(link).map(|link| link.impairments),
        };
        found.unwrap_or_default()
    }
}
