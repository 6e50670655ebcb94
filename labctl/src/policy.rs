//! Which policy moves a lab's frames: the one that its file names, or the one that suits the host.

use std::fmt;

use serde::{Deserialize, Serialize};
use vmm_core::cpus;
use vmm_core::kvm::KvmKind;
use vmm_core::policy::{Circumstances, Policy};

use crate::topology::Lab;

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

/// The policy that moves the frames of `lab` on this host.
pub fn of(lab: &Lab, kvm: KvmKind) -> Policy {
    lab.policy.fixed().unwrap_or_else(|| circumstances(lab, kvm).policy().0)
}

/// The CPUs that nobody needs while all of the lab's vCPUs are busy.
pub fn spare_cpus(lab: &Lab) -> usize {
    cpus().saturating_sub(lab.guests.len())
}

fn circumstances(lab: &Lab, kvm: KvmKind) -> Circumstances {
    let on = lab.optimizations;
    Circumstances {
        cpus: cpus(),
        kvm,
        vcpus: lab.guests.len(),
        nics: lab.guests.iter().map(|guest| guest.nics.len()).sum(),
        csb: on.csb,
        vale: on.vale,
    }
}

/// How many CPUs we may use; a host that does not tell has one to be sure of.
pub fn cpus() -> usize {
    cpus::allowed().map_or(1, |cpus| cpus.len())
}
