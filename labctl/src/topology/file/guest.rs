//! A guest: its memory, its NICs and what it runs.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Burst, Cmdline, Count, FrameSize, GuestMemory, Items, ItrInterval, NicSpec, ReadyText, Ring,
    Spin, Toggles, Vcpus, WorkloadTime, said,
};
use crate::topology::resolve;
use crate::units::{Network, Rate, human_time};

/// A guest, or what several have in common.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping of guest settings")]
pub struct GuestSpec {
    /// What it runs.
    #[schemars(extend("default" = "pktguest"))]
    pub kind: Option<KindSpec>,
    /// The group (in `groups`) whose keys it inherits. Only a guest has one.
    pub group: Option<String>,
    /// Memory, 48MiB to 3GiB. Without it 64MiB for `pktguest`, 256MiB for others.
    pub memory: Option<GuestMemory>,
    /// Virtual CPUs of `linux` and `pvh`; one so far.
    pub vcpus: Option<Vcpus>,
    /// The kernel's file, seen from the lab file. `linux`: a bzImage or vmlinux; `pvh`: an ELF file with
    /// a PVH note.
    pub kernel: Option<String>,
    /// The RAM disk of `linux`, or the first module of `pvh`, seen from the lab file.
    pub initrd: Option<String>,
    /// The kernel's command line; for `linux` it is appended to what the platform needs.
    pub cmdline: Option<Cmdline>,
    /// `linux` and `pvh`: the guest is ready once a line of its console contains this.
    pub ready: Option<ReadyText>,
    /// `pktguest`: descriptors in each of the TX and RX rings, 80 to 4096, a multiple of 8.
    #[schemars(extend("default" = resolve::DEFAULT_RING))]
    pub ring: Option<Ring>,
    /// `pktguest`: how long it polls memory for work before it halts, up to 1s; 0 is at once.
    #[schemars(extend("default" = human_time(resolve::DEFAULT_SPIN)))]
    pub spin: Option<Spin>,
    /// `pktguest`: interrupts come at least this far apart, up to 16.776ms, where the optimization `itr`
    /// is on.
    #[schemars(extend("default" = human_time(resolve::DEFAULT_ITR)))]
    pub itr: Option<ItrInterval>,
    /// `pktguest`: the address of its sockets, with its network. Without it the guests are 10.0.0.1/16,
    /// 10.0.0.2/16 and so on.
    pub ip: Option<Network>,
    /// Network cards, numbered from 0; up to 8 together with those from `links`. Replaces an inherited
    /// list as a whole.
    pub nics: Option<Items<NicSpec>>,
    /// `pktguest`: what it does under `labctl up`. Replaces an inherited workload as a whole.
    pub workload: Option<WorkloadSpec>,
    /// What this guest has or lacks of the lab's optimizations: `itr`, `sc` and `csb`, merged one by one
    /// with inherited ones. (`vale` is a switch's `kind`.)
    #[serde(default)]
    pub optimizations: Toggles,
}

/// What a guest runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum KindSpec {
    /// labctl's own bare-metal guest: a packet generator and sink that drives the NICs itself.
    #[default]
    Pktguest,
    /// A Linux kernel.
    Linux,
    /// Any other kernel that boots by PVH.
    Pvh,
}

/// What a guest does once its link is up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a workload, such as { role: rx }")]
pub struct WorkloadSpec {
    /// The part it plays.
    #[serde(default, deserialize_with = "said")]
    #[schemars(!default, with = "RoleSpec")]
    pub role: Option<RoleSpec>,
    /// The guest that it sends to; for `icmp` perhaps `all`.
    pub to: Option<String>,
    /// Bytes in a frame without its CRC, 60 to 1514; with TCP, 82 to 1514. Without it 60, with TCP 1514.
    pub frame: Option<FrameSize>,
    /// Packets handed to the driver at once, 1 to 512 and at most the ring.
    #[schemars(extend("default" = resolve::DEFAULT_BURST))]
    pub burst: Option<Burst>,
    /// Packets per second, such as 100kpps; 0 is as fast as it goes.
    #[schemars(extend("default" = 0))]
    pub rate: Option<Rate>,
    /// Packets, transactions or pings after which it stops; 0 is no limit.
    #[schemars(extend("default" = 0))]
    pub count: Option<Count>,
    /// Time after which it stops.
    pub duration: Option<WorkloadTime>,
}

/// The workloads a guest knows.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum RoleSpec {
    /// Sends frames to a guest.
    Tx,
    /// Counts the frames it gets.
    Rx,
    /// Sends a request to a guest, waits for the answer, and again.
    Ping,
    /// Answers requests.
    Pong,
    /// Does nothing.
    Idle,
    /// Sends UDP datagrams to a guest through a socket.
    UdpTx,
    /// Counts the UDP datagrams that a socket gets.
    UdpRx,
    /// Sends a TCP stream to a guest.
    TcpTx,
    /// Takes a TCP stream.
    TcpRx,
    /// Passes frames between its first two NICs.
    Forward,
    /// Answers pings (ICMP echo requests); with `to` it pings a guest, or all others that answer.
    Icmp,
}
