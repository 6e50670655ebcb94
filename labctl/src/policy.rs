//! What a lab file says of the threads that move frames.

use std::fmt;

use serde::{Deserialize, Serialize};
use vmm_core::cpus;
use vmm_core::policy::Policy;

/// What a lab file says of it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// What suits the host.
    #[default]
    Auto,
    /// [`Policy::Push`].
    Push,
    /// [`Policy::Pull`].
    Pull,
    /// [`Policy::Thread`].
    Thread,
    /// [`Policy::Poller`].
    Poller,
}

impl Choice {
    /// The policy, if the file names one.
    pub fn fixed(self) -> Option<Policy> {
        match self {
            Self::Auto => None,
            Self::Push => Some(Policy::Push),
            Self::Pull => Some(Policy::Pull),
            Self::Thread => Some(Policy::Thread),
            Self::Poller => Some(Policy::Poller),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.fixed().map_or("auto", Policy::name))
    }
}

/// How many CPUs we may use; a host that does not tell has one to be sure of.
pub fn cpus() -> usize {
    cpus::allowed().map_or(1, |cpus| cpus.len())
}
