//! A network namespace, and the thread of ours that lives in it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::JoinHandle;

use futures_util::TryStreamExt;
use netlink_packet_route::link::LinkMessage;
use rtnetlink::Handle;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use vmm_core::backend::{Tap, TapError};
use vmm_core::namespace::{enter_net, enter_private_net};

use super::error::{NetworkError, to_io};
use super::host_error::HostTapError;

/// Where `ip netns` keeps the namespaces that it made; see ip-netns(8).
const NAMED: &str = "/run/netns";

/// What keeps a namespace quiet. A file that is missing belongs to a feature that is, too.
const SETTINGS: [(&str, &str); 5] = [
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
    // br_netfilter, loaded by container engines, would take IP frames through the firewall's hooks.
    ("/proc/sys/net/bridge/bridge-nf-call-arptables", "0"),
    ("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0"),
    ("/proc/sys/net/bridge/bridge-nf-call-iptables", "0"),
];

/// Which network namespace is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A new one, quiet and without a name.
    Private,
    /// The one that labctl was started in.
    Own,
    /// One made by `ip netns add NAME`.
    Named(String),
}

impl Place {
    /// Moves the calling thread there.
    fn enter(&self) -> Result<(), NetworkError> {
        let name = match self {
            Self::Own => return Ok(()),
            Self::Private => {
                enter_private_net().map_err(NetworkError::Namespace)?;
                return keep_quiet();
            }
            Self::Named(name) => name,
        };
        let missing = || HostTapError::NoSuchNamespace { name: name.clone(), existing: existing() };
        // A path would lead elsewhere.
        if name.contains('/') {
            return Err(missing().into());
        }
        let entered = File::open(Path::new(NAMED).join(name)).and_then(|f| enter_net(f.as_fd()));
        entered.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => missing().into(),
            _ => HostTapError::Enter { name: name.clone(), source }.into(),
        })
    }
}

fn keep_quiet() -> Result<(), NetworkError> {
    for (path, value) in SETTINGS {
        match fs::write(path, value) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(NetworkError::Setting { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The names of all namespaces that have one, sorted.
fn existing() -> Vec<String> {
    let entries = fs::read_dir(NAMED).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// A network namespace that we work in: the namespace of a TAP, and that of a netlink socket, is the
/// one of the thread that opens it, so a thread lives there. Dropping this ends it.
#[derive(Debug)]
pub(super) struct Netns {
    netlink: Handle,
    // Fields drop in order: the end of the requests ends the thread, which is then waited for.
    taps: mpsc::Sender<TapRequest>,
    _thread: JoinOnDrop,
}

/// How [`Tap`] is to open a TAP.
type Open = fn(&str) -> Result<Tap, TapError>;

/// Asks the thread for a TAP.
#[derive(Debug)]
struct TapRequest {
    open: Open,
    name: String,
    reply: oneshot::Sender<Result<Tap, TapError>>,
}

#[derive(Debug)]
struct JoinOnDrop(Option<JoinHandle<()>>);

impl Drop for JoinOnDrop {
    fn drop(&mut self) {
        if let Some(Err(_)) = self.0.take().map(JoinHandle::join) {
            tracing::error!("the host network's thread panicked");
        }
    }
}

impl Netns {
    /// Makes or enters the namespace. [`Place::Private`] needs CAP_SYS_ADMIN and CAP_NET_ADMIN, and
    /// [`Place::Named`] CAP_SYS_ADMIN in both.
    ///
    /// # Errors
    /// If the namespace is not there or may not be made, entered or kept quiet.
    pub(super) async fn enter(place: Place) -> Result<Self, NetworkError> {
        let (ready, is_ready) = oneshot::channel();
        let (taps, requests) = mpsc::channel(1);
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn(move || serve(&place, ready, requests))
            .map_err(NetworkError::Thread)?;
        let _thread = JoinOnDrop(Some(thread));
        let netlink = is_ready.await.map_err(|_| NetworkError::Gone)??;
        Ok(Self { netlink, taps, _thread })
    }

    /// Speaks netlink there.
    pub(super) fn netlink(&self) -> &Handle {
        &self.netlink
    }

    /// Opens the TAP `name` there, as [`Tap::create`] or [`Tap::attach`] does.
    pub(super) async fn open_tap(&self, open: Open, name: &str) -> Result<Tap, NetworkError> {
        let (reply, answer) = oneshot::channel();
        let request = TapRequest { open, name: name.to_owned(), reply };
        self.taps.send(request).await.map_err(|_| NetworkError::Gone)?;
        Ok(answer.await.map_err(|_| NetworkError::Gone)??)
    }

    /// The interface of that name; `None` if there is none.
    pub(super) async fn find(&self, name: &str) -> Result<Option<LinkMessage>, NetworkError> {
        let mut links = self.netlink.link().get().match_name(name).execute();
        match links.try_next().await.map_err(to_io) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            found => found.map_err(|source| NetworkError::interface("read", name, source)),
        }
    }

    /// The index of an interface that is there.
    pub(super) async fn index(&self, name: &str) -> Result<u32, NetworkError> {
        Ok(self.link(name).await?.header.index)
    }

    /// The interface of that name, which is there.
    pub(super) async fn link(&self, name: &str) -> Result<LinkMessage, NetworkError> {
        let gone = || io::Error::from_raw_os_error(libc::ENODEV);
        self.find(name).await?.ok_or_else(|| NetworkError::interface("read", name, gone()))
    }
}

/// The thread: tells `ready` once the namespace can be used, and opens TAPs until nobody can ask any
/// more.
fn serve(
    place: &Place,
    ready: oneshot::Sender<Result<Handle, NetworkError>>,
    mut requests: mpsc::Receiver<TapRequest>,
) {
    let (runtime, answer) = match set_up(place) {
        Ok((runtime, netlink)) => (Some(runtime), Ok(netlink)),
        Err(error) => (None, Err(error)),
    };
    let wanted = ready.send(answer).is_ok();
    if let (Some(runtime), true) = (runtime, wanted) {
        runtime.block_on(async {
            while let Some(TapRequest { open, name, reply }) = requests.recv().await {
                // Whoever no longer waits for a TAP does not get one: it closes right here.
                let _ = reply.send(open(&name));
            }
        });
    }
}

/// Enters the namespace and opens a netlink socket there.
fn set_up(place: &Place) -> Result<(Runtime, Handle), NetworkError> {
    place.enter()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(NetworkError::Thread)?;
    let entered = runtime.enter();
    let (connection, netlink, _) = rtnetlink::new_connection().map_err(NetworkError::Thread)?;
    drop(entered);
    runtime.spawn(connection);
    Ok((runtime, netlink))
}
