//! What lies between the NICs: VALE switches in this process, TAPs and Linux bridges, and the cables
//! that connect them with guests, with each other and with the host.

mod cables;
mod counters;
mod error;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use vmm_core::backend::{Backend, Mac, Receiver, Tap, TapBackend, TapReceiver};
use vmm_core::cable::Courier;
use vmm_core::clock::Clock;
use vmm_core::switch::Switch;

use super::network::{Bridge, HostLinks, HostNetwork, NetworkError, TapPort};
use crate::platform::Link;
use crate::topology::{self, CableId, Lab, LinkEnd, SwitchKind};
pub use cables::RunningCable;
pub use counters::{CableCount, FabricCounters, TapCount};
pub use error::FabricError;

/// How long frames may take to leave the kernel's queues, and cables.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// The kernel does not show what waits in a TAP's queue. Where it does not follow from other counts
/// either, nothing waits after this many looks without movement, even if the thread that reads it had to
/// wait for a CPU.
const QUIET_LOOKS: u32 = 3;

/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(3);

/// How long frames may take through two other processes and the sockets between them, which show
/// nothing of what they hold.
const SOCKET_SETTLE_TIME: Duration = Duration::from_millis(50);

/// All switches and cables of a lab.
pub struct Fabric {
    switches: Vec<RunningSwitch>,
    /// By name. A guest's stays as it is when the guest is started anew.
    cables: BTreeMap<String, RunningCable>,
    /// What keeps the cables that are not a guest's, by name.
    links: BTreeMap<String, [Plug; 2]>,
    /// Where bridges are, if there are any.
    network: Option<HostNetwork>,
    host: HostLinks,
    courier: Courier,
    clock: Arc<dyn Clock>,
}

struct RunningSwitch {
    name: String,
    medium: Medium,
}

/// What a switch is made of.
enum Medium {
    Vale(Switch),
    Bridge(Bridge),
    /// A pair of sockets, for another VMM: the end that nobody holds yet.
    Sockets(Option<UnixDatagram>),
}

/// A port, or a TAP, before anybody has been plugged into it.
pub enum Socket {
    /// Switch and port number.
    Vale(Switch, u8),
    /// A TAP, and whose frames it carries.
    Tap(Arc<Tap>, TapPort, String),
}

/// Something that is plugged in. Dropping it stops delivery.
pub enum Plug {
    /// Into a port, which holds the receiver weakly.
    Vale {
        /// The port's number.
        port: u8,
        /// What the switch delivers to.
        _receiver: Arc<dyn Receiver>,
    },
    /// Into a TAP.
    Tap {
        /// The thread that reads it.
        receiver: TapReceiver,
        /// What is written to, and read by the thread.
        tap: Arc<Tap>,
        /// The kernel's side of it.
        port: TapPort,
    },
    /// Another VMM holds the TAP, or a socket, of which the kernel counts nothing.
    Lent(Option<TapPort>),
}

/// What a guest is plugged into, with the guest's name.
pub type OwnedPlug<'a> = (&'a str, &'a Plug);

impl Plug {
    fn is_vale(&self) -> bool {
        matches!(self, Self::Vale { .. })
    }

    /// Whether what it is plugged into is still there: somebody may have deleted a TAP.
    fn lives(&self) -> bool {
        !matches!(self, Self::Tap { receiver, .. } if receiver.has_ended())
    }

    /// The port's number, or the TAP's name.
    pub fn port(&self) -> String {
        match self {
            Self::Vale { port, .. } => port.to_string(),
            Self::Tap { port, .. } | Self::Lent(Some(port)) => port.name().to_owned(),
            Self::Lent(None) => "socket".to_owned(),
        }
    }
}

impl Fabric {
    /// Creates the switches of a lab and the cables between them.
    ///
    /// # Errors
    /// If the host refuses.
    pub async fn new(lab: &Lab, clock: Arc<dyn Clock>) -> Result<Self, FabricError> {
        let mut fabric = Self {
            switches: Vec::new(),
            cables: BTreeMap::new(),
            links: BTreeMap::new(),
            network: None,
            host: HostLinks::default(),
            courier: Courier::spawn(clock.clone()).map_err(FabricError::Courier)?,
            clock,
        };
        for index in 0..lab.switches.len() {
            fabric.add_switch(lab, index).await?;
        }
        for index in 0..lab.links.len() {
            fabric.add_link(lab, index).await?;
        }
        Ok(fabric)
    }

    /// Creates switch `index` of `lab`.
    ///
    /// # Errors
    /// If the host refuses.
    pub async fn add_switch(&mut self, lab: &Lab, index: usize) -> Result<(), FabricError> {
        let Some(switch) = lab.switches.get(index) else { return Ok(()) };
        let medium = match medium_of(lab, index) {
            Link::Vale => Medium::Vale(Switch::new(&switch.name, self.clock.clone())),
            Link::Socket => Medium::Sockets(None),
            Link::Tap => {
                let network = match &mut self.network {
                    Some(network) => network,
                    none => none.insert(HostNetwork::new().await?),
                };
                Medium::Bridge(network.create_bridge(&switch.name).await?)
            }
        };
        self.switches.push(RunningSwitch { name: switch.name.clone(), medium });
        Ok(())
    }

    /// Removes a switch that nothing is plugged into any more.
    ///
    /// # Errors
    /// If the kernel refuses to remove its bridge.
    pub async fn remove_switch(&mut self, name: &str) -> Result<(), FabricError> {
        let Some(index) = self.switches.iter().position(|switch| switch.name == name) else {
            return Ok(());
        };
        match (self.switches.remove(index).medium, &mut self.network) {
            (Medium::Bridge(bridge), Some(network)) => Ok(network.remove_bridge(bridge).await?),
            _ => Ok(()),
        }
    }

    /// Lays cable `index` of those that are not a guest's.
    ///
    /// # Errors
    /// If the host refuses an end.
    pub async fn add_link(&mut self, lab: &Lab, index: usize) -> Result<(), FabricError> {
        let Some(link) = lab.links.get(index) else { return Ok(()) };
        let [a, b] = &link.ends;
        let (to_a, socket_a) = self.open_end(lab, a, &link.name, 0).await?;
        let (to_b, socket_b) = self.open_end(lab, b, &link.name, 1).await?;
        let mut cable = RunningCable::new(lab, CableId::Link(index), &self.courier)?;
        let (from_a, from_b) = cable.patch(to_a, to_b);
        let plugs = [plug(socket_a, from_a)?, plug(socket_b, from_b)?];
        cable.set_ports(&plugs);
        self.links.insert(link.name.clone(), plugs);
        self.cables.insert(link.name.clone(), cable);
        Ok(())
    }

    /// Removes a cable that is not a guest's.
    pub fn remove_link(&mut self, name: &str) {
        self.links.remove(name);
        self.cables.remove(name);
    }

    async fn open_end(
        &mut self,
        lab: &Lab,
        end: &LinkEnd,
        name: &str,
        side: usize,
    ) -> Result<(Box<dyn Backend>, Socket), FabricError> {
        match end {
            LinkEnd::Switch(switch) => self.port(switch_name(lab, *switch), name, side, None).await,
            LinkEnd::Host(wanted) => {
                let (port, tap) = self.host.open(wanted).await?;
                Ok(tap_end(tap, port, name))
            }
        }
    }

    /// Adds a port to a switch for interface `number` of `owner`; the one that it `had`, if it is free.
    async fn port(
        &mut self,
        switch: &str,
        owner: &str,
        number: usize,
        had: Option<u8>,
    ) -> Result<(Box<dyn Backend>, Socket), FabricError> {
        match self.medium(switch)? {
            Medium::Vale(switch) => {
                let port = switch.attach_at(had)?;
                let socket = Socket::Vale(switch.clone(), port.index());
                Ok((Box::new(port), socket))
            }
            Medium::Bridge(bridge) => {
                let bridge = bridge.clone();
                let (port, tap) = self.create_tap(&bridge, owner, number).await?;
                Ok(tap_end(tap, port, owner))
            }
            // `lend` takes these: nothing of ours can be linked by one.
            Medium::Sockets(_) => Err(FabricError::NotOurs),
        }
    }

    /// Adds a port to the switch of NIC `nic` of guest `guest`, with a cable for it.
    ///
    /// # Errors
    /// If the host refuses, or the switch is full.
    pub async fn attach(
        &mut self,
        lab: &Lab,
        guest: usize,
        nic: usize,
    ) -> Result<(Box<dyn Backend>, Socket), FabricError> {
        let (guest_spec, nic_spec) = nic_of(lab, guest, nic)?;
        let switch = switch_name(lab, nic_spec.switch);
        let id = CableId::Nic { guest, nic };
        let name = lab.cable_name(id);
        // Of a guest that is started anew.
        let had = self.cables.get(&name).and_then(|cable| cable.port_on(switch)?.parse().ok());
        let (backend, socket) = self.port(switch, &guest_spec.name, nic, had).await?;
        if !self.cables.contains_key(&name) {
            let cable = RunningCable::new(lab, id, &self.courier)?;
            self.cables.insert(name.clone(), cable);
        }
        let cable = self.cables.get_mut(&name).ok_or(FabricError::NotOurs)?;
        cable.set_switch(switch);
        Ok((cable.behind_nic(backend), socket))
    }

    /// Adds a port to a switch for NIC `nic` of guest `guest`, for another VMM to hold.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub async fn lend(
        &mut self,
        lab: &Lab,
        guest: usize,
        nic: usize,
    ) -> Result<(OwnedFd, Plug), FabricError> {
        let (guest_spec, nic_spec) = nic_of(lab, guest, nic)?;
        match self.medium(switch_name(lab, nic_spec.switch))? {
            Medium::Bridge(bridge) => {
                let bridge = bridge.clone();
                let (port, tap) = self.create_tap(&bridge, &guest_spec.name, nic).await?;
                let queue = tap.as_fd().try_clone_to_owned().map_err(FabricError::Lend)?;
                Ok((queue, Plug::Lent(Some(port))))
            }
            Medium::Sockets(end) => {
                let end = match end.take() {
                    Some(end) => end,
                    None => {
                        let (first, second) = UnixDatagram::pair().map_err(FabricError::Lend)?;
                        *end = Some(second);
                        first
                    }
                };
                Ok((end.into(), Plug::Lent(None)))
            }
            Medium::Vale(_) => Err(FabricError::NotOurs),
        }
    }

    /// Delivers to `nic`, a guest's at the cable of that name, from now on.
    ///
    /// # Errors
    /// If the thread for a TAP cannot be started.
    pub fn connect(
        &mut self,
        cable: &str,
        socket: Socket,
        nic: Arc<dyn Receiver>,
    ) -> Result<Plug, FabricError> {
        let cable = self.cables.get_mut(cable).ok_or(FabricError::NotOurs)?;
        let plug = plug(socket, cable.before_nic(nic))?;
        cable.set_port(&plug);
        Ok(plug)
    }

    /// Forgets cables that are not wanted any more.
    pub fn keep_cables(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.cables.retain(|name, _| is_wanted(name));
    }

    /// All cables, by name.
    pub fn cables(&self) -> impl Iterator<Item = &RunningCable> {
        self.cables.values()
    }

    /// Whether nobody has unplugged the cable of that name.
    pub fn is_plugged(&self, cable: &str) -> bool {
        self.cables.get(cable).is_none_or(RunningCable::is_plugged)
    }

    /// The cable of that name.
    pub fn cable_mut(&mut self, name: &str) -> Option<&mut RunningCable> {
        self.cables.get_mut(name)
    }

    /// Whether there is a switch of that name.
    pub fn has_switch(&self, name: &str) -> bool {
        self.switches.iter().any(|switch| switch.name == name)
    }

    /// Whether there is a cable of that name that is not a guest's, with both its ends.
    pub fn has_link(&self, name: &str) -> bool {
        self.links.get(name).is_some_and(|plugs| plugs.iter().all(Plug::lives))
    }

    /// Unplugs cables that have lost an end, and names them.
    pub(super) fn unplug_lost(&mut self) -> Vec<String> {
        let lost = self.links.iter().filter(|(_, plugs)| !plugs.iter().all(Plug::lives));
        let mut names: Vec<_> = lost.map(|(name, _)| name.clone()).collect();
        names.retain(|name| self.is_plugged(name));
        for name in &names {
            self.cables.get_mut(name).into_iter().for_each(|cable| cable.set_plugged(false));
        }
        names
    }

    /// How many ports of a switch are in use.
    pub fn ports(&self, switch: &str) -> usize {
        self.cables.values().filter(|cable| cable.port_on(switch).is_some()).count()
    }

    /// How many addresses a switch has learned; `None` if only the kernel knows.
    pub fn macs(&self, switch: &str) -> Option<usize> {
        match &self.switch(switch)?.medium {
            Medium::Vale(vale) => Some(vale.mac_table().len()),
            Medium::Bridge(_) | Medium::Sockets(_) => None,
        }
    }

    /// What a switch has learned, address and port; `None` of sockets, which learn nothing.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub async fn mac_table(&self, switch: &str) -> Result<Option<Vec<(Mac, String)>>, FabricError> {
        let Some(switch) = self.switch(switch) else { return Ok(None) };
        Ok(match (&switch.medium, &self.network) {
            (Medium::Vale(vale), _) => {
                let entries = vale.mac_table().into_iter();
                Some(entries.map(|entry| (entry.mac, entry.port.to_string())).collect())
            }
            (Medium::Bridge(bridge), Some(network)) => Some(network.learned(bridge).await?),
            (Medium::Bridge(_), None) | (Medium::Sockets(_), _) => None,
        })
    }

    fn switch(&self, name: &str) -> Option<&RunningSwitch> {
        self.switches.iter().find(|switch| switch.name == name)
    }

    fn medium(&mut self, switch: &str) -> Result<&mut Medium, FabricError> {
        let found = self.switches.iter_mut().find(|running| running.name == switch);
        let found = found.map(|running| &mut running.medium);
        found.ok_or_else(|| FabricError::NoSwitch(switch.to_owned()))
    }

    async fn create_tap(
        &mut self,
        bridge: &Bridge,
        owner: &str,
        number: usize,
    ) -> Result<(TapPort, Tap), FabricError> {
        let network = self.network.as_mut().ok_or(NetworkError::Gone)?;
        Ok(network.create_tap(bridge, owner, number).await?)
    }

    /// Waits until every frame written to a TAP has been read from another, or dropped, and none is
    /// on its way in a cable or, if they `forward`, in a guest. A frame through a VALE switch is
    /// delivered before its sender's kick returns.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub async fn settle(&self, plugs: &[OwnedPlug<'_>], forward: bool) -> Result<(), FabricError> {
        if self.switches.iter().any(|switch| matches!(switch.medium, Medium::Sockets(_))) {
            tokio::time::sleep(SOCKET_SETTLE_TIME).await;
            return Ok(());
        }
        let links = self.links.values().flatten();
        let mut all = plugs.iter().map(|(_, plug)| *plug).chain(links);
        if !forward && all.all(Plug::is_vale) && !self.cables.values().any(RunningCable::may_hold) {
            return Ok(());
        }
        let mut quiet = 0;
        let mut before = None;
        let deadline = tokio::time::Instant::now() + SETTLE_TIME;
        while quiet < QUIET_LOOKS && tokio::time::Instant::now() < deadline {
            let (waiting, moved) = self.counters(plugs).await?.in_motion();
            quiet = if !waiting && before == Some(moved) { quiet + 1 } else { 0 };
            before = Some(moved);
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// All counters, now; `plugs` are the guests'.
    ///
    /// # Errors
    /// If the kernel does not tell its own.
    pub async fn counters(&self, plugs: &[OwnedPlug<'_>]) -> Result<FabricCounters, FabricError> {
        let of = |switch: &RunningSwitch| match &switch.medium {
            Medium::Vale(vale) => Some((switch.name.clone(), vale.counters())),
            Medium::Bridge(_) | Medium::Sockets(_) => None,
        };
        let mut taps = Vec::new();
        let links = self.links.values().flatten().map(|plug| (None, plug));
        let guests = plugs.iter().map(|(guest, plug)| (Some(*guest), *plug));
        for (guest, plug) in guests.chain(links).filter(|(_, plug)| plug.lives()) {
            let (port, ours) = match plug {
                Plug::Tap { tap, port, .. } => (port, Some(tap.counters())),
                Plug::Lent(Some(port)) => (port, None),
                Plug::Lent(None) | Plug::Vale { .. } => continue,
            };
            let (interface, kernel) = (port.name().to_owned(), port.stats().await?);
            let guest = guest.map(str::to_owned);
            taps.push(TapCount { interface, guest, ours, kernel });
        }
        Ok(FabricCounters {
            switches: self.switches.iter().filter_map(of).collect(),
            taps,
            cables: self.cables.values().map(RunningCable::count).collect(),
        })
    }
}

fn nic_of(
    lab: &Lab,
    guest: usize,
    nic: usize,
) -> Result<(&topology::Guest, &topology::Nic), FabricError> {
    let guest = lab.guests.get(guest).ok_or(FabricError::NotOurs)?;
    Ok((guest, guest.nics.get(nic).ok_or(FabricError::NotOurs)?))
}

fn tap_end(tap: Tap, port: TapPort, owner: &str) -> (Box<dyn Backend>, Socket) {
    let tap = Arc::new(tap);
    (Box::new(TapBackend::new(tap.clone())), Socket::Tap(tap, port, owner.to_owned()))
}

/// Has a port, or a TAP, deliver to `receiver`.
fn plug(socket: Socket, receiver: Arc<dyn Receiver>) -> Result<Plug, FabricError> {
    match socket {
        Socket::Vale(switch, port) => {
            switch.connect(port, &receiver);
            Ok(Plug::Vale { port, _receiver: receiver })
        }
        Socket::Tap(tap, port, owner) => {
            let receiver = tap.spawn_receiver(&owner, receiver)?;
            Ok(Plug::Tap { receiver, tap, port })
        }
    }
}

fn switch_name(lab: &Lab, switch: usize) -> &str {
    lab.switches.get(switch).map_or("", |switch| &switch.name)
}

/// What a switch of the lab is made of.
fn medium_of(lab: &Lab, switch: usize) -> Link {
    match (lab.qemu, lab.switch_kind(switch)) {
        (Some(qemu), _) => qemu.link,
        (None, SwitchKind::Vale) => Link::Vale,
        (None, SwitchKind::Bridge) => Link::Tap,
    }
}
