//! Who moves the frames.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kvm::KvmKind;

/// The thread that carries frames from a sending guest's ring to where they go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The sender's vCPU thread, on the kick that its guest made.
    #[default]
    Push,
    /// In a stream the receiver's vCPU thread, on the kick that its guest makes when it has used up
    /// what it had; the sender's otherwise. Needs the CSB and VALE; without them the same as `Push`.
    Pull,
    /// A thread for each NIC, which a kick only wakes.
    Thread,
    /// One thread for all NICs of a lab, likewise.
    Poller,
}

impl Policy {
    /// The name that users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Thread => "thread",
            Self::Poller => "poller",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the best policy depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Host CPUs that we may use.
    pub cpus: usize,
    /// What runs the guests.
    pub kvm: KvmKind,
    /// Virtual processors of all guests.
    pub vcpus: usize,
    /// NICs of all guests.
    pub nics: usize,
    /// Whether drivers and devices share a CSB.
    pub csb: bool,
    /// Whether a VALE switch connects the guests.
    pub vale: bool,
}

impl Circumstances {
    /// The policy that suits them, and why.
    ///
    /// With a CSB and VALE it is always `pull`: a stream then needs no exits, both vCPU threads work on
    /// it, and the one that copies is the one that reads the data next. A third thread could only take
    /// the copying off a receiver that is the bottleneck, at the price of one more wake-up for every
    /// lone packet.
    ///
    /// Elsewhere the sender's thread has to leave its guest for every kick. Handing the work to a
    /// thread pays if that spares the exit to userspace, hence if the value of the kick is not needed
    /// (CSB) and KVM can ring an eventfd instead; if such an exit costs more than the wake-up it is
    /// traded for, as it does only where KVM has no hardware to help it; and if that thread has a CPU,
    /// for otherwise it takes the guests' time.
    pub fn policy(&self) -> (Policy, &'static str) {
        let exits_are_dear = self.kvm == KvmKind::PageTable;
        let has_spare_cpus = self.cpus >= self.vcpus + self.nics;
        match (self.csb, self.vale) {
            (true, true) => (Policy::Pull, "csb and vale are on: streams need no exits"),
            (false, _) => {
                (Policy::Push, "csb is off: a kick's value is needed, so it exits anyway")
            }
            (true, false) if !has_spare_cpus => {
                (Policy::Push, "no CPU to spare for threads that move frames")
            }
            (true, false) if exits_are_dear => {
                (Policy::Thread, "exits cost more than waking a thread, and there are spare CPUs")
            }
            (true, false) => (Policy::Push, "an exit costs less than waking a thread"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Circumstances = Circumstances {
        cpus: 2,
        kvm: KvmKind::PageTable,
        vcpus: 2,
        nics: 2,
        csb: true,
        vale: true,
    };

    fn chosen(here: Circumstances) -> Policy {
        here.policy().0
    }

    #[test]
    fn pull_wherever_it_exists_and_push_on_few_cpus() {
        for (cpus, kvm) in [(1, KvmKind::Vmx), (2, KvmKind::PageTable), (64, KvmKind::PageTable)] {
            let here = Circumstances { cpus, kvm, ..HERE };
            assert_eq!(chosen(here), Policy::Pull);
            assert_eq!(chosen(Circumstances { csb: false, ..here }), Policy::Push);
        }
        assert_eq!(chosen(Circumstances { vale: false, ..HERE }), Policy::Push);
    }

    #[test]
    fn threads_only_with_spare_cpus_dear_exits_and_a_csb() {
        let spare = Circumstances { cpus: 4, vale: false, ..HERE };
        assert_eq!(chosen(spare), Policy::Thread);
        assert_eq!(chosen(Circumstances { cpus: 3, ..spare }), Policy::Push);
        assert_eq!(chosen(Circumstances { kvm: KvmKind::Vmx, ..spare }), Policy::Push);
        assert_eq!(chosen(Circumstances { csb: false, ..spare }), Policy::Push);
    }
}
