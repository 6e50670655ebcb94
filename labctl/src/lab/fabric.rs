//! What lies between the NICs: VALE switches in this process, or TAPs and Linux bridges.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use vmm_core::backend::{Backend, Receiver, Tap, TapBackend, TapCounters, TapError, TapReceiver};
use vmm_core::clock::Clock;
use vmm_core::e1000::E1000;
use vmm_core::switch::{PortCounters, Switch, SwitchError};

use super::network::{Bridge, HostNetwork, NetworkError, PortStats, TapPort};
use crate::topology::Lab;

/// How long frames may take to leave the kernel's queues.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// The kernel does not show what waits in a TAP's queue; after this many looks without movement
/// nothing does, even if the thread that reads it had to wait for a CPU.
const QUIET_LOOKS: u32 = 3;

/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(3);

/// Why the guests could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// The host's network refused.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A TAP refused.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A switch is full.
    #[error(transparent)]
    Switch(#[from] SwitchError),
}

impl FabricError {
    /// What to do about it, if that is known.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Network(error) => error.help(),
            Self::Tap(_) | Self::Switch(_) => None,
        }
    }
}

/// All switches of a lab, of one kind.
pub enum Fabric {
    /// `vale: true`.
    Vale(Vec<Switch>),
    /// `vale: false`.
    Bridges {
        /// Their namespace.
        network: HostNetwork,
        /// By switch.
        bridges: Vec<Bridge>,
    },
}

/// A backend's other end, before there is a NIC for it.
pub enum Socket {
    /// Switch and port number.
    Vale(Switch, u8),
    /// A TAP and its name in the guest.
    Tap(Arc<Tap>, TapPort, String),
}

/// A connected NIC. Dropping it stops delivery.
pub enum Plug {
    /// The switch holds the NIC weakly: nothing to stop.
    Vale,
    /// A TAP and the thread that reads it.
    Tap {
        /// The thread.
        _receiver: TapReceiver,
        /// What the NIC writes to and the thread reads from.
        tap: Arc<Tap>,
        /// The kernel's side of it.
        port: TapPort,
    },
}

/// What switches, or TAPs and bridges, have counted.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum FabricCounters {
    /// Per switch its name and its ports.
    Vale {
        /// Name, and counters by port.
        switches: Vec<(String, Vec<(u8, PortCounters)>)>,
    },
    /// Per TAP its interface, our counters and the kernel's.
    Bridges {
        /// In the order of guests and NICs.
        taps: Vec<(String, TapCounters, PortStats)>,
    },
}

impl Fabric {
    /// Creates the switches of a lab.
    pub async fn new(lab: &Lab, clock: Arc<dyn Clock>) -> Result<Self, FabricError> {
        if lab.optimizations.vale {
            let switches = lab.switches.iter().map(|s| Switch::new(&s.name, clock.clone()));
            return Ok(Self::Vale(switches.collect()));
        }
        let mut network = HostNetwork::new().await?;
        let mut bridges = Vec::with_capacity(lab.switches.len());
        for switch in &lab.switches {
            bridges.push(network.create_bridge(&switch.name).await?);
        }
        Ok(Self::Bridges { network, bridges })
    }

    /// Adds a port to a switch for NIC `nic` of `guest`.
    pub async fn attach(
        &mut self,
        switch: usize,
        guest: &str,
        nic: usize,
    ) -> Result<(Box<dyn Backend>, Socket), FabricError> {
        match self {
            Self::Vale(switches) => {
                let switch = &switches[switch];
                let port = switch.attach()?;
                let socket = Socket::Vale(switch.clone(), port.index());
                Ok((Box::new(port), socket))
            }
            Self::Bridges { network, bridges } => {
                let (port, tap) = network.create_tap(&bridges[switch], guest, nic).await?;
                let tap = Arc::new(tap);
                let backend = Box::new(TapBackend::new(tap.clone()));
                Ok((backend, Socket::Tap(tap, port, guest.to_owned())))
            }
        }
    }

    /// Delivers to `nic` from now on.
    pub fn connect(&self, socket: Socket, nic: &Arc<E1000>) -> Result<Plug, FabricError> {
        let receiver: Arc<dyn Receiver> = nic.clone();
        match socket {
            Socket::Vale(switch, port) => {
                switch.connect(port, &receiver);
                Ok(Plug::Vale)
            }
            Socket::Tap(tap, port, guest) => {
                let receiver = tap.spawn_receiver(&guest, receiver)?;
                Ok(Plug::Tap { _receiver: receiver, tap, port })
            }
        }
    }

    /// Waits until every frame written to a TAP has been read from another, or dropped. A frame
    /// through a VALE switch is delivered before its sender's kick returns.
    pub async fn settle(&self, plugs: Vec<&Plug>) -> Result<(), FabricError> {
        let mut quiet = 0;
        let mut before = None;
        let deadline = tokio::time::Instant::now() + SETTLE_TIME;
        while let FabricCounters::Bridges { taps } = self.counters(plugs.clone()).await? {
            let queued = taps
                .iter()
                .any(|(_, ours, kernel)| kernel.qdisc_queued > 0 || ours.rx_frames < kernel.read);
            let moved: u64 = taps.iter().map(|(_, ours, _)| ours.rx_frames + ours.tx_frames).sum();
            quiet = if !queued && before == Some(moved) { quiet + 1 } else { 0 };
            if quiet == QUIET_LOOKS || tokio::time::Instant::now() > deadline {
                break;
            }
            before = Some(moved);
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// All counters, now.
    pub async fn counters(&self, plugs: Vec<&Plug>) -> Result<FabricCounters, FabricError> {
        match self {
            Self::Vale(switches) => {
                let of = |switch: &Switch| (switch.name().to_owned(), switch.counters());
                Ok(FabricCounters::Vale { switches: switches.iter().map(of).collect() })
            }
            Self::Bridges { network, .. } => {
                let mut taps = Vec::new();
                for plug in plugs {
                    if let Plug::Tap { tap, port, .. } = plug {
                        let kernel = network.port_stats(port).await?;
                        taps.push((port.name().to_owned(), tap.counters(), kernel));
                    }
                }
                Ok(FabricCounters::Bridges { taps })
            }
        }
    }
}
