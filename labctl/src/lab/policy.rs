//! Which policy moves a lab's frames: the one that its file names, or the one that suits the host.

use vmm_core::kvm::KvmKind;
use vmm_core::policy::{Circumstances, Policy};

use crate::policy;
use crate::topology::Lab;

/// The policy that moves the frames of `lab` on this host.
pub fn policy_of(lab: &Lab, kvm: KvmKind) -> Policy {
    lab.policy.fixed().unwrap_or_else(|| circumstances(lab, kvm).policy().0)
}

/// The CPUs that nobody needs while all of the lab's vCPUs are busy.
pub fn spare_cpus(lab: &Lab) -> usize {
    policy::cpus().saturating_sub(lab.guests.len())
}

fn circumstances(lab: &Lab, kvm: KvmKind) -> Circumstances {
    let on = lab.optimizations;
    Circumstances {
        cpus: policy::cpus(),
        kvm,
        vcpus: lab.guests.len(),
        nics: lab.guests.iter().map(|guest| guest.nics.len()).sum(),
        csb: on.csb,
        vale: on.vale,
    }
}
