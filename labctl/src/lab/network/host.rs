//! Links to the host: TAPs that the host's own programs can use, in the namespace that labctl was
//! started in or in one made by `ip netns add`.
//!
//! What somebody made beforehand is used as it is and stays as it is. What was not there is created,
//! if this process may, and is gone with its [`Tap`]. The host's own stack speaks at its end: expect
//! ARP and IPv6 from it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::LinkUnspec;
use tokio::time::{Instant, sleep};
use vmm_core::backend::{Tap, TapError};

use super::error::{NetworkError, to_io};
use super::host_error::HostTapError;
use super::netns::{Netns, Place};
use super::port::TapPort;
use crate::topology::HostTap;
use crate::units::Network;

/// How long the last holder of a TAP may take to let go of it: a supervisor that was killed, say.
const RELEASE_TIME: Duration = Duration::from_millis(500);
/// Between two attempts.
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// The namespaces of a host's ends of links.
#[derive(Debug, Default)]
pub struct HostLinks {
    entered: HashMap<Place, Arc<Netns>>,
}

impl HostLinks {
    /// Opens a TAP of the host.
    ///
    /// One that exists has to be up and to have the address that is asked for; this user may open it
    /// if it was made for it, or for nobody in particular. Otherwise it is created, brought up and
    /// given its address, which needs CAP_NET_ADMIN there. To enter a named namespace needs
    /// CAP_SYS_ADMIN there.
    ///
    /// # Errors
    /// If it cannot be opened or created, or is not as it should be: the help has the command.
    pub async fn open(&mut self, wanted: &HostTap) -> Result<(TapPort, Tap), NetworkError> {
        let netns = self.enter(wanted.netns.as_deref()).await?;
        let (tap, index) = match netns.find(&wanted.name).await? {
            Some(found) => (attach(&netns, wanted, &found).await?, found.header.index),
            None => create(&netns, wanted).await?,
        };
        tracing::debug!(interface = wanted.name, netns = wanted.netns, "opened a TAP of the host");
        Ok((TapPort { name: wanted.name.clone(), index, netns }, tap))
    }

    async fn enter(&mut self, netns: Option<&str>) -> Result<Arc<Netns>, NetworkError> {
        let place = netns.map_or(Place::Own, |name| Place::Named(name.to_owned()));
        if let Some(entered) = self.entered.get(&place) {
            return Ok(entered.clone());
        }
        let netns = Arc::new(Netns::enter(place.clone()).await?);
        self.entered.insert(place, netns.clone());
        Ok(netns)
    }
}

async fn create(netns: &Netns, wanted: &HostTap) -> Result<(Tap, u32), NetworkError> {
    let missing = |source| HostTapError::Missing { tap: wanted.clone(), source };
    let tap = netns.open_tap(Tap::create, &wanted.name).await.map_err(or_else(missing))?;
    let index = netns.index(&wanted.name).await?;
    // Its MTU stays Ethernet's: the host would send larger frames than guests take.
    let up = LinkUnspec::new_with_index(index).up().build();
    let up = netns.netlink().link().set(up).execute().await;
    let refused = |error| NetworkError::interface("configure", &wanted.name, to_io(error));
    up.map_err(refused)?;
    if let Some(Network { address, prefix }) = wanted.address {
        let added = netns.netlink().address().add(index, address.into(), prefix).execute().await;
        added.map_err(refused)?;
    }
    Ok((tap, index))
}

async fn attach(netns: &Netns, wanted: &HostTap, found: &LinkMessage) -> Result<Tap, NetworkError> {
    let refused = |source| HostTapError::Refused { tap: wanted.clone(), source };
    let deadline = Instant::now() + RELEASE_TIME;
    let tap = loop {
        match netns.open_tap(Tap::attach, &wanted.name).await {
            Err(NetworkError::Tap(TapError::Attach { source, .. }))
                if source.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                sleep(RELEASE_PAUSE).await;
            }
            opened => break opened.map_err(or_else(refused))?,
        }
    };
    if !found.header.flags.contains(LinkFlags::Up) {
        return Err(HostTapError::Down { tap: wanted.clone() }.into());
    }
    match wanted.address {
        Some(address) if !has_address(netns, found, address).await? => {
            Err(HostTapError::Unaddressed { tap: wanted.clone(), address }.into())
        }
        _ => Ok(tap),
    }
}

/// Says more of a TAP's error; others stay.
fn or_else(say: impl Fn(TapError) -> HostTapError) -> impl Fn(NetworkError) -> NetworkError {
    move |error| match error {
        // It is not the interface's fault.
        NetworkError::Tap(source @ TapError::Open(_)) => NetworkError::Tap(source),
        NetworkError::Tap(source) => say(source).into(),
        other => other,
    }
}

async fn has_address(
    netns: &Netns,
    found: &LinkMessage,
    Network { address, prefix }: Network,
) -> Result<bool, NetworkError> {
    let get = netns.netlink().address().get().set_link_index_filter(found.header.index);
    let get = get.set_prefix_length_filter(prefix).set_address_filter(address.into());
    let first = get.execute().try_next().await;
    let first = first.map_err(|e| NetworkError::Addresses(to_io(e)))?;
    Ok(first.is_some())
}
