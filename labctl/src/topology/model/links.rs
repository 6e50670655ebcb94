//! Cables beside the guests' own, and what happens to cables and guests by itself.

use std::time::Duration;

use serde::Serialize;

use super::time_as_text;
use crate::impairments::Impairments;
use crate::units::Network;

/// A cable that is not a guest's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// What people call it, as in `sw0--sw1` or `sw0--host:tap0`; unique in the lab.
    pub name: String,
    /// Its ends; the first is always a switch.
    pub ends: [LinkEnd; 2],
    /// What it does to frames.
    pub impairments: Impairments,
}

/// Where a cable ends.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkEnd {
    /// Index into [`Lab::switches`](super::Lab::switches).
    Switch(usize),
    /// A TAP of the host.
    Host(HostTap),
}

impl LinkEnd {
    /// The address that labctl gives it, if any.
    pub fn address(&self) -> Option<Network> {
        match self {
            Self::Switch(_) => None,
            Self::Host(tap) => tap.address,
        }
    }
}

/// A TAP outside of the lab.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostTap {
    /// The named network namespace it is in (`ip netns`); `None`: the user's own.
    pub netns: Option<String>,
    /// Its interface name, 1 to 15 bytes.
    pub name: String,
    /// The address that labctl gives it, if any.
    pub address: Option<Network>,
}

/// Something that happens by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimedEvent {
    /// When, after all guests were ready.
    #[serde(serialize_with = "time_as_text")]
    pub at: Duration,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// What can be done to a running lab by its file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Action {
    /// Gives a cable other impairments.
    Impair {
        /// Which.
        cable: CableId,
        /// All of them; what is not said is none.
        impairments: Impairments,
    },
    /// Plugs a cable in or out.
    Plug {
        /// Which.
        cable: CableId,
        /// In?
        up: bool,
    },
    /// Starts a guest anew.
    Restart {
        /// Index into [`Lab::guests`](super::Lab::guests).
        guest: usize,
    },
}

/// One cable of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CableId {
    /// A guest's.
    Nic {
        /// Index into [`Lab::guests`](super::Lab::guests).
        guest: usize,
        /// Index into [`Guest::nics`](super::Guest::nics)(super::Guest::nics).
        nic: usize,
    },
    /// Index into [`Lab::links`](super::Lab::links).
    Link(usize),
}
