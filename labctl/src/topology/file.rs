//! The lab file's format: the one declaration of its keys, types and ranges.
//!
//! Everything that can be said of a single key is said here; what relates several keys is in
//! `resolve.rs`. Absent keys stay `None`, so inheritance can tell "not said" from "said".

mod bench;
mod cables;

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use vmm_core::platform::{LINUX_CMDLINE, LINUX_CMDLINE_MAX};

pub use bench::{AssertSpec, BenchSpec, PairSpec, Scalar, StepSpec, ThroughputSpec, TrialName};
pub use cables::{CableSpec, EventSpec, ImpairmentsSpec, NicSpec};

use super::units::{Int, Line, Memory, Network, Rate, Time};
use crate::policy::Choice;
use crate::topology::SwitchKind;

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
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `name`, `switches` and `guests`")]
pub struct File {
    pub name: Option<String>,
    pub description: Option<String>,
    #[serde(default)]
    pub switches: Named<SwitchSpec>,
    #[serde(default)]
    pub links: Items<CableSpec>,
    #[serde(default)]
    pub defaults: GuestSpec,
    #[serde(default)]
    pub kinds: Kinds,
    #[serde(default)]
    pub groups: Named<GuestSpec>,
    #[serde(default)]
    pub optimizations: Toggles,
    pub vmm: Option<VmmSpec>,
    pub nic: Option<NicModelSpec>,
    pub link: Option<LinkSpec>,
    pub policy: Option<Choice>,
    #[serde(default)]
    pub guests: Named<GuestSpec>,
    #[serde(default)]
    pub events: Items<EventSpec>,
    pub bench: Option<BenchSpec>,
}

/// A switch.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping of switch settings, such as { kind: vale }")]
pub struct SwitchSpec {
    pub kind: Option<SwitchKind>,
}

/// What all guests of a kind have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping from kinds of guests to settings")]
pub struct Kinds {
    pub pktguest: Option<GuestSpec>,
    pub linux: Option<GuestSpec>,
    pub pvh: Option<GuestSpec>,
}

/// The four optimizations; all are on unless said otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping of optimizations, such as { itr: true }")]
pub struct Toggles {
    pub itr: Option<bool>,
    pub sc: Option<bool>,
    pub csb: Option<bool>,
    pub vale: Option<bool>,
}

/// What runs the guests.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum VmmSpec {
    #[default]
    Labctl,
    Qemu,
}

/// The NICs of a peer's guests; ours are always an e1000.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum NicModelSpec {
    #[default]
    E1000,
    VirtioNet,
}

/// What connects a peer's guests; for ours `optimizations.vale` says it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LinkSpec {
    #[default]
    Tap,
    Socket,
}

/// A guest, or what several have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping of guest settings")]
pub struct GuestSpec {
    pub kind: Option<KindSpec>,
    pub group: Option<String>,
    pub memory: Option<GuestMemory>,
    pub vcpus: Option<Vcpus>,
    pub kernel: Option<String>,
    pub initrd: Option<String>,
    pub cmdline: Option<Cmdline>,
    pub ready: Option<ReadyText>,
    pub ring: Option<Ring>,
    pub spin: Option<Spin>,
    pub itr: Option<ItrInterval>,
    pub ip: Option<Network>,
    pub nics: Option<Items<NicSpec>>,
    pub workload: Option<WorkloadSpec>,
    #[serde(default)]
    pub optimizations: Toggles,
}

/// What a guest runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum KindSpec {
    #[default]
    Pktguest,
    Linux,
    Pvh,
}

/// What a guest does once its link is up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a workload, such as { role: rx }")]
pub struct WorkloadSpec {
    pub role: RoleSpec,
    pub to: Option<String>,
    pub frame: Option<FrameSize>,
    pub burst: Option<Burst>,
    pub rate: Option<Rate>,
    pub count: Option<Count>,
    pub duration: Option<WorkloadTime>,
}

/// The workloads a guest knows.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum RoleSpec {
    Tx,
    Rx,
    Ping,
    Pong,
    Idle,
    UdpTx,
    UdpRx,
    TcpTx,
    TcpRx,
    Forward,
    Icmp,
}

/// A mapping from names to things, in the file's order. `name:` alone means all defaults.
#[derive(Debug)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Named<T> {
    /// Position of the thing called `name`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a mapping from names to settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Option<T>>()? {
            entries.push((name, value.unwrap_or_default()));
        }
        Ok(Named(entries))
    }
}
