//! A guest: its memory, its NICs and what it runs.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::impairments::Impairments;
use crate::optimizations::{Optimization, Optimizations};
use crate::protocol::Protocol;
use crate::units::{Network, human_mac};

/// Which optimizations a guest or a NIC has or lacks for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overrides {
    /// Interrupt moderation.
    pub itr: Option<bool>,
    /// Send combining.
    pub sc: Option<bool>,
    /// The paravirtual extension.
    pub csb: Option<bool>,
}

impl Overrides {
    /// `on` with these changes.
    pub fn over(self, on: Optimizations) -> Optimizations {
        let changes = [
            (Optimization::Itr, self.itr),
            (Optimization::Sc, self.sc),
            (Optimization::Csb, self.csb),
        ];
        changes.into_iter().fold(on, |on, (which, own)| own.map_or(on, |own| on.with(which, own)))
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guest {
    /// Name, `[a-z0-9-]{1,32}`.
    pub name: String,
    /// Memory in MiB, 48 to 3072.
    pub memory_mib: u32,
    /// What it has for itself of the lab's optimizations.
    #[serde(skip_serializing_if = "Overrides::is_none")]
    pub optimizations: Overrides,
    /// Network cards, at least one.
    pub nics: Vec<Nic>,
    /// What it runs.
    #[serde(flatten)]
    pub system: System,
}

/// What a guest runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum System {
    /// labctl's own bare-metal guest.
    Pktguest(Pktguest),
    /// A Linux kernel.
    Linux(Boot),
    /// Any other kernel with a PVH entry.
    Pvh(Boot),
}

impl System {
    /// What the file calls its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pktguest(_) => "pktguest",
            Self::Linux(_) => "linux",
            Self::Pvh(_) => "pvh",
        }
    }
}

/// What a guest boots that has a kernel of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Boot {
    /// Linux: a bzImage or a vmlinux; else an ELF file with a PVH note. A file that could be read
    /// when the lab was.
    pub kernel: PathBuf,
    /// The RAM disk or first module, likewise.
    pub initrd: Option<PathBuf>,
    /// The command line; Linux: what it has besides what the platform needs.
    pub cmdline: String,
    /// What a line of its console contains once it is ready; `None`: Linux is ready when its agent
    /// says so or, without one, as soon as it runs, and others as soon as they run.
    pub ready: Option<String>,
}

/// Settings of a guest that runs pktguest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pktguest {
    /// Descriptors in each of the TX and RX rings, 80 to 4096, a multiple of 8.
    pub ring: u16,
    /// Interrupt spacing for the ITR register, in units of 256 ns.
    pub itr_interval: u16,
    /// How long an empty-handed guest polls memory before it halts, in microseconds; 0 is at once.
    pub spin_us: u32,
    /// The address its sockets have, and its network; no other guest has the same address.
    pub ip: Network,
    /// What it does under `labctl up`; `bench` gives the guests it measures roles of its own.
    pub workload: Workload,
}

/// A network card and where its cable leads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nic {
    /// Index into [`Lab::switches`](super::Lab::switches).
    pub switch: usize,
    /// Unicast address, unique in the lab.
    #[serde(serialize_with = "mac_as_text")]
    pub mac: [u8; 6],
    /// What it has for itself of the optimizations; `sc` is its guest's.
    #[serde(skip_serializing_if = "Overrides::is_none")]
    pub optimizations: Overrides,
    /// What its cable does to frames.
    #[serde(skip_serializing_if = "Impairments::is_none")]
    pub impairments: Impairments,
}

/// What a guest does once its link is up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// The part it plays, and towards whom.
    pub role: Role,
    /// Bytes in a frame without its CRC, 60 to 1514; with TCP, 82 to 1514.
    pub frame: u16,
    /// Packets handed to the driver per call, 1 to 512 and at most the ring.
    pub burst: u16,
    /// Packets per second, 0 for as fast as possible.
    pub rate: u64,
    /// Packets or transactions after which it stops, 0 for no limit.
    pub count: u64,
    /// Milliseconds after which it stops, 0 for no limit.
    pub duration_ms: u64,
    /// Whether it stops when its cable is unplugged, as the guests of a measurement do. Others wait
    /// until it is plugged in again. No file can say so.
    #[serde(skip)]
    pub until_unplugged: bool,
}

/// The part a guest plays; `to` is an index into [`Lab::guests`](super::Lab::guests).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Role {
    /// Sends frames.
    Tx {
        /// The receiving guest.
        to: usize,
    },
    /// Counts the frames it gets.
    Rx,
    /// Sends a request, waits for the answer, and again.
    Ping {
        /// The answering guest.
        to: usize,
    },
    /// Answers requests.
    Pong,
    /// Does nothing.
    Idle,
    /// Sends UDP datagrams through a socket.
    UdpTx {
        /// The receiving guest.
        to: usize,
    },
    /// Counts the UDP datagrams that a socket gets.
    UdpRx,
    /// Sends a TCP stream.
    TcpTx {
        /// The receiving guest.
        to: usize,
    },
    /// Takes a TCP stream.
    TcpRx,
    /// Passes frames between its first two NICs.
    Forward,
    /// Answers pings, and may ping others.
    Icmp {
        /// Whom it pings.
        to: Option<Target>,
    },
}

/// One guest, or all others that have an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Index into [`Lab::guests`](super::Lab::guests).
    Guest(usize),
    /// Every other guest that answers pings.
    All,
}

impl Guest {
    /// Its settings, if it runs pktguest.
    pub fn pktguest(&self) -> Option<&Pktguest> {
        match &self.system {
            System::Pktguest(pktguest) => Some(pktguest),
            System::Linux(_) | System::Pvh(_) => None,
        }
    }

    /// As [`pktguest`](Self::pktguest), to be changed.
    pub fn pktguest_mut(&mut self) -> Option<&mut Pktguest> {
        match &mut self.system {
            System::Pktguest(pktguest) => Some(pktguest),
            System::Linux(_) | System::Pvh(_) => None,
        }
    }

    /// What it boots, if it has a kernel of its own.
    pub fn boot(&self) -> Option<&Boot> {
        match &self.system {
            System::Pktguest(_) => None,
            System::Linux(boot) | System::Pvh(boot) => Some(boot),
        }
    }

    /// Whether it runs Linux.
    pub fn is_linux(&self) -> bool {
        matches!(self.system, System::Linux(_))
    }
}

impl Role {
    /// The role's name in the file and on the guest's command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tx { .. } => "tx",
            Self::Rx => "rx",
            Self::Ping { .. } => "ping",
            Self::Pong => "pong",
            Self::Idle => "idle",
            Self::UdpTx { .. } => "udp-tx",
            Self::UdpRx => "udp-rx",
            Self::TcpTx { .. } => "tcp-tx",
            Self::TcpRx => "tcp-rx",
            Self::Forward => "forward",
            Self::Icmp { .. } => "icmp",
        }
    }

    /// The guest it talks to, for those that start a conversation.
    pub fn to(self) -> Option<usize> {
        match self {
            Self::Tx { to } | Self::Ping { to } | Self::UdpTx { to } | Self::TcpTx { to } => {
                Some(to)
            }
            Self::Icmp { to } => match to {
                Some(Target::Guest(to)) => Some(to),
                Some(Target::All) | None => None,
            },
            Self::Rx | Self::Pong | Self::Idle | Self::UdpRx | Self::TcpRx | Self::Forward => None,
        }
    }

    /// Whether it begins to send by itself, so that others should listen before.
    pub fn starts(self) -> bool {
        self.to().is_some() || matches!(self, Self::Icmp { to: Some(_) })
    }

    /// What it sends or receives.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::UdpTx { .. } | Self::UdpRx => Protocol::Udp,
            Self::TcpTx { .. } | Self::TcpRx => Protocol::Tcp,
            Self::Tx { .. }
            | Self::Rx
            | Self::Ping { .. }
            | Self::Pong
            | Self::Idle
            | Self::Forward
            | Self::Icmp { .. } => Protocol::Raw,
        }
    }

    /// Whether it has an IP address.
    pub fn has_address(self) -> bool {
        matches!(self, Self::Icmp { .. }) || !self.protocol().is_raw()
    }

    /// The role that sends packets of `protocol` to the guest `to`.
    pub fn sender(protocol: Protocol, to: usize) -> Self {
        match protocol {
            Protocol::Raw => Self::Tx { to },
            Protocol::Udp => Self::UdpTx { to },
            Protocol::Tcp => Self::TcpTx { to },
        }
    }

    /// The role that receives packets of `protocol`.
    pub fn receiver(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Raw => Self::Rx,
            Protocol::Udp => Self::UdpRx,
            Protocol::Tcp => Self::TcpRx,
        }
    }
}

fn mac_as_text<S: Serializer>(mac: &[u8; 6], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&human_mac(*mac))
}
