//! The host's side of a lab: with `vale: false` Linux bridges and TAP interfaces in a network
//! namespace of our own ([`HostNetwork`]), and links to the host itself ([`HostLinks`]).
//!
//! Our namespace has no name and no mount. It exists only while a thread of ours is in it or a TAP
//! of it is open, so nothing of it can outlive the process, not even after `kill -9`.
//!
//! Frames are counted exactly, so nothing else may travel there: no IPv6, no multicast snooping, no
//! spanning tree, no addresses. A write to a TAP runs the whole way through the bridge into the
//! other TAP's queue before it returns, and the only place where the kernel drops a frame that it
//! took is in front of that queue:
//!
//! ```text
//! write -> [written] -> bridge -> qdisc -> queue -> [read] -> read
//!                          [qdisc_dropped] [queue_full]
//! ```
//!
//! So once every reader has drained its TAP, what was written to one port equals `read +
//! queue_full + qdisc_dropped` of the port it went to, or of every other port if it was flooded.
//! The bridge itself swallows without a count what it must not forward: frames to its reserved
//! addresses (01:80:c2:00:00:01 to 0f), from a group address, or to the port they came from.
//!
//! The qdisc is the host's default, as QEMU's users have it. A TAP never pushes back, so the qdisc
//! holds a frame only while another processor is inside it; its drops are read all the same.

mod error;
mod host;
mod host_error;
mod names;
mod netns;
mod port;
mod privileges;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{BridgeStpState, LinkAttribute};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourState};
use rtnetlink::{LinkBridge, LinkUnspec};
use vmm_core::backend::{ETH_HEADER_LEN, Mac, Tap};

pub use error::NetworkError;
pub use host::HostLinks;
pub use host_error::HostTapError;
pub use port::{PortStats, TapPort};
pub use privileges::Privileges;

use error::to_io;
use netns::{Netns, Place};

/// Large enough that the bridge never drops a frame for its length, which it would not count.
const MTU: u32 = (Tap::MAX_FRAME_LEN - ETH_HEADER_LEN) as u32;

/// A Linux bridge of a [`HostNetwork`].
#[derive(Clone, Debug)]
pub struct Bridge {
    name: String,
    index: u32,
}

impl Bridge {
    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A private network namespace with bridges and TAPs. It ends with this value, its [`TapPort`]s and
/// open [`Tap`]s.
#[derive(Debug)]
pub struct HostNetwork {
    netns: Arc<Netns>,
}

impl HostNetwork {
    /// Creates an empty namespace. Needs what [`Privileges`] says.
    ///
    /// # Errors
    /// If the host refuses.
    pub async fn new() -> Result<Self, NetworkError> {
        Ok(Self { netns: Arc::new(Netns::enter(Place::Private).await?) })
    }

    /// The first name that no interface has. The kernel knows which are taken: names of those that
    /// are gone are free again, so that a guest that is started anew has the one that it had.
    async fn free_name(&self, stem: &str, suffix: &str) -> Result<String, NetworkError> {
        let mut attempt = 1;
        loop {
            let name = names::name(stem, suffix, attempt);
            if self.netns.find(&name).await?.is_none() {
                return Ok(name);
            }
            attempt += 1;
        }
    }

    /// Creates a bridge for the switch of that name and brings it up: it learns with the kernel's
    /// default ageing time, floods what it does not know, and has no spanning tree.
    ///
    /// # Errors
    /// If the kernel refuses, such as for want of the driver.
    pub async fn create_bridge(&mut self, switch: &str) -> Result<Bridge, NetworkError> {
        let name = self.free_name(&format!("br-{switch}"), "").await?;
        let message = LinkBridge::new(&name)
            .stp_state(BridgeStpState::Disabled)
            .forward_delay(0)
            .mcast_snooping(false)
            .build();
        let added = self.netns.netlink().link().add(message).execute().await;
        added.map_err(|e| NetworkError::Bridge { name: name.clone(), source: to_io(e) })?;
        let index = self.netns.index(&name).await?;
        tracing::debug!(switch, bridge = name, "created a bridge");
        Ok(Bridge { name, index })
    }

    /// The addresses that a bridge has learned, and the TAPs behind which they are.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub async fn learned(&self, bridge: &Bridge) -> Result<Vec<(Mac, String)>, NetworkError> {
        let netlink = self.netns.netlink();
        let failed = |error| NetworkError::interface("read", &bridge.name, to_io(error));
        let mut ports = HashMap::new();
        let mut links = netlink.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(failed)? {
            let ours = LinkAttribute::Controller(bridge.index);
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            if let Some(name) = name.filter(|_| link.attributes.contains(&ours)) {
                ports.insert(link.header.index, name);
            }
        }
        let mut entries = Vec::new();
        let known = netlink.neighbours().get().set_address_family(AddressFamily::Bridge);
        let mut known = known.execute();
        while let Some(entry) = known.try_next().await.map_err(failed)? {
            // The TAPs' own addresses are there from the start.
            let learned = entry.header.state != NeighbourState::Permanent;
            let Some(port) = ports.get(&entry.header.ifindex).filter(|_| learned) else { continue };
            let address = entry.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(&bytes[..]).ok(),
                _ => None,
            });
            entries.extend(address.map(|address| (Mac::from(address), port.clone())));
        }
        entries.sort_by(|(a, port), (b, other)| (port, a.octets()).cmp(&(other, b.octets())));
        Ok(entries)
    }

    /// Removes a bridge.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn remove_bridge(&mut self, bridge: Bridge) -> Result<(), NetworkError> {
        let removed = self.netns.netlink().link().del(bridge.index).execute().await;
        removed.map_err(|e| NetworkError::interface("remove", &bridge.name, to_io(e)))
    }

    /// Creates a TAP for a guest's NIC, enslaves it to `bridge` and brings it up. The port forwards
    /// from then on and disappears when the [`Tap`] is dropped.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn create_tap(
        &mut self,
        bridge: &Bridge,
        guest: &str,
        nic: usize,
    ) -> Result<(TapPort, Tap), NetworkError> {
        let name = self.free_name(guest, &format!("-{nic}")).await?;
        let tap = self.netns.open_tap(Tap::create, &name).await?;
        let message =
            LinkUnspec::new_with_name(&name).mtu(MTU).controller(bridge.index).up().build();
        let set = self.netns.netlink().link().set(message).execute().await;
        set.map_err(|e| NetworkError::interface("configure", &name, to_io(e)))?;
        let index = self.netns.index(&name).await?;
        tracing::debug!(guest, nic, interface = name, bridge = bridge.name, "created a TAP");
        Ok((TapPort { name, index, netns: self.netns.clone() }, tap))
    }
}

/// Tries for real, in a namespace that is gone afterwards, whether this process may do all that a
/// lab with `vale: false` needs.
///
/// # Errors
/// What is missing.
pub fn check_privileges() -> Result<(), NetworkError> {
    let attempt = || -> Result<(), NetworkError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.map_err(NetworkError::Thread)?.block_on(async {
            let mut network = HostNetwork::new().await?;
            let bridge = network.create_bridge("check").await?;
            let (port, _tap) = network.create_tap(&bridge, "check", 0).await?;
            port.stats().await.map(drop)
        })
    };
    // The caller may be inside an event loop, which must not start another.
    std::thread::scope(|scope| scope.spawn(attempt).join()).unwrap_or(Err(NetworkError::Gone))
}
