//! The lab file's format: the one declaration of its keys, types and ranges.
//!
//! Everything that can be said of a single key is said here; what relates several keys is in
//! `resolve`. Absent keys stay `None`, so inheritance can tell "not said" from "said".

mod bench;
mod cables;
mod guest;
mod lists;

use schemars::JsonSchema;
use serde::Deserialize;

use vmm_core::platform::{LINUX_CMDLINE, LINUX_CMDLINE_MAX};

pub use bench::{AssertSpec, BenchSpec, Scalar, StepSpec, ThroughputSpec, TrialName};
pub use cables::{CableSpec, EventSpec, ImpairmentsSpec, NicSpec};
pub use guest::{GuestSpec, KindSpec, RoleSpec, WorkloadSpec};
pub use lists::{Items, Named, said};

use super::resolve;
use crate::policy::Choice;
use crate::topology::SwitchKind;
use crate::units::{Int, Line, Memory, Time};

/// Descriptors in each of a NIC's two rings. The 82540EM wants TDLEN and RDLEN in steps of 128
/// bytes, which is 8 descriptors, and takes 80 to 4096 (manual, section 3.4).
pub type Ring = Int<80, 4096, 8>;
/// Bytes in a frame without its CRC.
pub type FrameSize = Int<60, 1514>;
/// Frames handed to the driver per call.
pub type Burst = Int<1, 512>;
/// Guest memory: a 4096-descriptor ring pair with its buffers fits the smallest; devices begin at
/// 3 GiB.
pub type GuestMemory = Memory<48, 3072>;
/// Virtual processors; `system.rs` takes one only.
pub type Vcpus = Int<1, 255>;
/// What is left of Linux's command line behind what the platform says on it, and a space.
pub type Cmdline = Line<{ LINUX_CMDLINE_MAX - LINUX_CMDLINE.len() - 1 }>;
/// What a line of a console contains.
pub type ReadyText = Line<256>;
/// Interrupt spacing; ITR is 16 bits of 256 ns.
pub type ItrInterval = Time<0, 16_776>;
/// Time a guest polls before it halts.
pub type Spin = Time<0, 1_000_000>;
/// Packets or transactions.
pub type Count = Int<0, 1_000_000_000_000>;
/// Pairs of guests in a trial; a switch has 254 ports.
pub type Pairs = Int<1, 127>;
/// Length of one trial.
pub type TrialTime = Time<10_000, 600_000_000>;
/// Time that frames spend on a cable.
pub type Delay = Time<0, 10_000_000>;
/// When an event happens.
pub type EventTime = Time<0, 86_400_000_000>;
/// Length of a workload.
pub type WorkloadTime = Time<1_000, 86_400_000_000>;
/// Length of a whole benchmark.
pub type Budget = Time<1_000_000, 86_400_000_000>;
/// Decides the order of trials.
pub type Seed = Int<0, { u32::MAX as u64 }>;
/// How often each cell is measured.
pub type Rounds = Int<1, 1000>;

/// A lab file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `name`, `switches` and `guests`")]
#[schemars(extend("required" = ["name", "guests"]))]
pub struct File {
    /// The lab's name, 1 to 32 characters a-z, 0-9 and, between them, -. Names of all that it creates
    /// derive from it.
    #[schemars(regex(pattern = resolve::NAME_PATTERN))]
    pub name: Option<String>,
    /// One line for people.
    pub description: Option<String>,
    /// Learning switches, by name; a switch has at most 254 ports.
    #[serde(default)]
    pub switches: Named<SwitchSpec>,
    /// Cables, each between two ends: a switch (sw0), a guest's NIC (left:0), a TAP of the host
    /// (host:tap0) or one in a named network namespace (netns:red/tap0). They must not form a circle.
    #[serde(default)]
    pub links: Items<CableSpec>,
    /// What all guests have in common. More specific keys win: a guest's own, then its group's, then its
    /// kind's.
    #[serde(default)]
    pub defaults: GuestSpec,
    /// What all guests of a kind have in common.
    #[serde(default)]
    pub kinds: Kinds,
    /// What the guests of a group have in common, by the group's name.
    #[serde(default)]
    pub groups: Named<GuestSpec>,
    /// The optimizations of the paper; all are on unless said otherwise. Under `labctl bench` the matrix
    /// may vary them.
    #[serde(default)]
    pub optimizations: Toggles,
    /// What runs the guests.
    pub vmm: Option<VmmSpec>,
    /// With `vmm: qemu`: the model of all NICs.
    pub nic: Option<NicModelSpec>,
    /// With `vmm: qemu`: what connects its NICs.
    pub link: Option<LinkSpec>,
    /// Which threads of labctl move the frames.
    pub policy: Option<Choice>,
    /// Virtual machines, by name; at least one.
    #[serde(default)]
    #[schemars(extend("minProperties" = 1))]
    pub guests: Named<GuestSpec>,
    /// What happens by itself, counted from when all guests are ready.
    #[serde(default)]
    pub events: Items<EventSpec>,
    /// The experiment: what `labctl bench` measures.
    pub bench: Option<BenchSpec>,
}

/// A switch.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping of switch settings, such as { kind: vale }")]
pub struct SwitchSpec {
    /// What it is made of. Without it, `optimizations.vale` says which.
    pub kind: Option<SwitchKind>,
}

/// What all guests of a kind have in common.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping from kinds of guests to settings")]
pub struct Kinds {
    /// All guests that run labctl's own bare-metal guest.
    pub pktguest: Option<GuestSpec>,
    /// All guests that run Linux.
    pub linux: Option<GuestSpec>,
    /// All guests that boot another kernel by PVH.
    pub pvh: Option<GuestSpec>,
}

/// The four optimizations; all are on unless said otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping of optimizations, such as { itr: true }")]
pub struct Toggles {
    /// Interrupt moderation: the device honours the interval that the driver asks for.
    pub itr: Option<bool>,
    /// Send combining: the driver tells the device of new packets only now and then. A guest's, for all
    /// its NICs.
    pub sc: Option<bool>,
    /// The paravirtual extension (Communication Status Block): guest and host agree in shared memory when
    /// to wake each other.
    pub csb: Option<bool>,
    /// VALE switches, which copy frames once from guest to guest; off means Linux bridges and TAPs. For
    /// the whole lab; a switch's `kind` says otherwise for one.
    pub vale: Option<bool>,
}

/// What runs the guests.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum VmmSpec {
    /// labctl's own virtual machine monitor.
    #[default]
    Labctl,
    /// QEMU, to compare with.
    Qemu,
}

/// The NICs of a peer's guests; ours are always an e1000.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum NicModelSpec {
    /// An emulated Intel 82540EM.
    #[default]
    E1000,
    /// QEMU's paravirtual card.
    VirtioNet,
}

/// What connects a peer's guests; for ours `optimizations.vale` says it.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LinkSpec {
    /// A TAP for each NIC, and a Linux bridge.
    #[default]
    Tap,
    /// A pair of sockets, between two NICs.
    Socket,
}
