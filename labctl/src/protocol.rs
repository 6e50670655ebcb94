//! What a throughput trial's packets are.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the sender's packets reach the network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Test frames that the workload hands straight to the driver.
    #[default]
    Raw,
    /// Datagrams that the workload sends and receives through sockets.
    Udp,
    /// A stream that the workload writes to and reads from sockets, in records of one segment.
    Tcp,
}

impl Protocol {
    /// Its name in lab files and result documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// Whether packets are raw frames.
    pub fn is_raw(&self) -> bool {
        *self == Self::Raw
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
