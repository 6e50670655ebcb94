//! What lies between the NICs: VALE switches in this process, or TAPs and Linux bridges.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use vmm_core::backend::{Backend, Receiver, Tap, TapBackend, TapCounters, TapError, TapReceiver};
use vmm_core::clock::Clock;
use vmm_core::e1000::E1000;
use vmm_core::switch::{PortCounters, Switch, SwitchError};

use super::network::{Bridge, HostNetwork, NetworkError, PortStats, TapPort};
use crate::platform::Link;
use crate::topology::Lab;

/// How long frames may take to leave the kernel's queues.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// The kernel does not show what waits in a TAP's queue; after this many looks without movement
/// nothing does, even if the thread that reads it had to wait for a CPU.
const QUIET_LOOKS: u32 = 3;

/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(3);

/// How long frames may take through two other processes and the sockets between them, which show
/// nothing of what they hold.
const SOCKET_SETTLE_TIME: Duration = Duration::from_millis(50);

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
    /// The kernel gave no socket, or no second descriptor of a TAP.
    #[error("cannot create a cable for QEMU")]
    Cable(#[source] io::Error),
}

impl FabricError {
    /// What to do about it, if that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Network(error) => error.help(),
            Self::Tap(_) | Self::Switch(_) | Self::Cable(_) => None,
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
    /// Pairs of sockets, for another VMM: by switch the end that nobody holds yet.
    Sockets(HashMap<usize, UnixDatagram>),
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
    /// Another VMM holds the TAP, or a socket, of which the kernel counts nothing.
    Lent(Option<TapPort>),
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
    /// Another VMM holds the NICs' ends.
    Lent {
        /// Per TAP its interface and the kernel's counters; none of sockets.
        taps: Vec<(String, PortStats)>,
    },
}

impl Fabric {
    /// Creates the switches of a lab.
    pub async fn new(lab: &Lab, clock: Arc<dyn Clock>) -> Result<Self, FabricError> {
        match lab.platform().link {
            Link::Vale => {
                let switches = lab.switches.iter().map(|s| Switch::new(&s.name, clock.clone()));
                return Ok(Self::Vale(switches.collect()));
            }
            Link::Socket => return Ok(Self::Sockets(HashMap::new())),
            Link::Tap => {}
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
            // `lend` takes these: no NIC of ours can be linked by one.
            Self::Sockets(_) => Err(FabricError::Cable(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Adds a port to a switch for NIC `nic` of `guest`, for another VMM to hold.
    pub async fn lend(
        &mut self,
        switch: usize,
        guest: &str,
        nic: usize,
    ) -> Result<(OwnedFd, Plug), FabricError> {
        match self {
            Self::Bridges { network, bridges } => {
                let (port, tap) = network.create_tap(&bridges[switch], guest, nic).await?;
                let queue = tap.as_fd().try_clone_to_owned().map_err(FabricError::Cable)?;
                Ok((queue, Plug::Lent(Some(port))))
            }
            Self::Sockets(ends) => {
                let end = match ends.remove(&switch) {
                    Some(end) => end,
                    None => {
                        let (end, other) = UnixDatagram::pair().map_err(FabricError::Cable)?;
                        ends.insert(switch, other);
                        end
                    }
                };
                Ok((end.into(), Plug::Lent(None)))
            }
            Self::Vale(_) => Err(FabricError::Cable(io::ErrorKind::Unsupported.into())),
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
        if matches!(self, Self::Sockets(_)) {
            tokio::time::sleep(SOCKET_SETTLE_TIME).await;
            return Ok(());
        }
        let mut quiet = 0;
        let mut before = None;
        let deadline = tokio::time::Instant::now() + SETTLE_TIME;
        while let Some((queued, moved)) = self.counters(plugs.clone()).await?.in_motion() {
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
            Self::Bridges { .. } => {
                let (mut taps, mut lent) = (Vec::new(), Vec::new());
                for plug in plugs {
                    match plug {
                        Plug::Tap { tap, port, .. } => {
                            let kernel = port.stats().await?;
                            taps.push((port.name().to_owned(), tap.counters(), kernel));
                        }
                        Plug::Lent(Some(port)) => {
                            let kernel = port.stats().await?;
                            lent.push((port.name().to_owned(), kernel));
                        }
                        Plug::Lent(None) | Plug::Vale => {}
                    }
                }
                // A lab's guests all run on the same VMM.
                Ok(match lent.is_empty() {
                    true => FabricCounters::Bridges { taps },
                    false => FabricCounters::Lent { taps: lent },
                })
            }
            Self::Sockets(_) => Ok(FabricCounters::Lent { taps: Vec::new() }),
        }
    }
}

impl FabricCounters {
    /// Whether frames are known to wait in the kernel, and how many have moved so far; `None` of a
    /// switch, which holds none.
    fn in_motion(&self) -> Option<(bool, u64)> {
        match self {
            Self::Vale { .. } => None,
            Self::Bridges { taps } => {
                let waits = |ours: &TapCounters, kernel: &PortStats| {
                    kernel.qdisc_queued > 0 || ours.rx_frames < kernel.read
                };
                let queued = taps.iter().any(|(_, ours, kernel)| waits(ours, kernel));
                let moved = taps.iter().map(|(_, ours, _)| ours.rx_frames + ours.tx_frames).sum();
                Some((queued, moved))
            }
            Self::Lent { taps } => {
                let queued = taps.iter().any(|(_, kernel)| kernel.qdisc_queued > 0);
                Some((queued, taps.iter().map(|(_, kernel)| kernel.read + kernel.written).sum()))
            }
        }
    }
}
