//! What guests run on: labctl's own machine, or one of its peers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A virtual machine monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vmm {
    /// This program.
    #[default]
    Labctl,
    /// `qemu-system-x86_64`.
    Qemu,
}

/// A model of a network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NicModel {
    /// Intel's 82540EM.
    #[default]
    E1000,
    /// The virtio network device.
    VirtioNet,
}

/// What lies between two NICs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// A VALE switch inside labctl.
    #[default]
    Vale,
    /// A TAP for each NIC and the Linux bridge.
    Tap,
    /// A pair of sockets between two processes.
    Socket,
}

/// Where a cell was measured. Documents that do not say are older than the peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// What ran the guests.
    pub vmm: Vmm,
    /// Their NICs.
    pub nic: NicModel,
    /// What lay between those.
    pub link: Link,
}

impl Vmm {
    /// As lab files and documents have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Labctl => "labctl",
            Self::Qemu => "qemu",
        }
    }
}

impl NicModel {
    /// As lab files and documents have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::E1000 => "e1000",
            Self::VirtioNet => "virtio-net",
        }
    }
}

impl Link {
    /// As lab files and documents have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vale => "vale",
            Self::Tap => "tap",
            Self::Socket => "socket",
        }
    }
}

/// As in `qemu e1000 tap`.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vmm, nic, link } = self;
        f.pad(&format!("{} {} {}", vmm.as_str(), nic.as_str(), link.as_str()))
    }
}
