//! The host's side of `vale: false`: Linux bridges and TAP interfaces in a network namespace of our
//! own.
//!
//! The namespace has no name and no mount. It exists only while a thread of ours is in it or a TAP
//! of it is open, so nothing of it can outlive the process, not even after `kill -9`.
//!
//! Frames are counted exactly, so nothing else may travel here: no IPv6, no multicast snooping, no
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

use std::collections::HashSet;
use std::io;
use std::thread::JoinHandle;

use futures_util::TryStreamExt;
use netlink_packet_route::link::{BridgeStpState, LinkAttribute, LinkMessage, Stats64};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcStats2};
use rtnetlink::{Handle, LinkBridge, LinkUnspec};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use vmm_core::backend::{ETH_HEADER_LEN, Tap, TapError, enter_private_netns};

/// Longest interface name in bytes (IFNAMSIZ, less the terminator).
const MAX_NAME_LEN: usize = 15;

/// Large enough that the bridge never drops a frame for its length, which it would not count.
const MTU: u32 = (Tap::MAX_FRAME_LEN - ETH_HEADER_LEN) as u32;

/// What keeps a namespace quiet. A file that is missing belongs to a feature that is, too.
const SETTINGS: [(&str, &str); 5] = [
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
    // br_netfilter, loaded by container engines, would take IP frames through the firewall's hooks.
    ("/proc/sys/net/bridge/bridge-nf-call-arptables", "0"),
    ("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0"),
    ("/proc/sys/net/bridge/bridge-nf-call-iptables", "0"),
];

/// Why the host cannot carry the TAP baseline. The cause is the error's source.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The namespace's thread or its event loop could not be started, or the netlink socket opened.
    #[error("cannot start the host network's thread")]
    Thread(#[source] io::Error),
    /// The namespace was refused.
    #[error("cannot create a network namespace")]
    Namespace(#[source] io::Error),
    /// The namespace could not be kept quiet.
    #[error("cannot write {path}")]
    Setting {
        /// The sysctl file.
        path: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A bridge was refused.
    #[error("cannot create the bridge \"{name}\"")]
    Bridge {
        /// Its interface name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A TAP was refused.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// An interface exists but could not be configured or read.
    #[error("cannot {action} the interface \"{name}\"")]
    Interface {
        /// What was tried.
        action: &'static str,
        /// The interface's name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The namespace's thread has ended, which is a bug.
    #[error("the host network's thread has ended")]
    Gone,
}

impl NetworkError {
    /// What mends it, if a user can.
    pub fn help(&self) -> Option<&'static str> {
        use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
        const PRIVILEGES: &str = "`vale: false` needs CAP_NET_ADMIN and CAP_SYS_ADMIN: run as root, \
            or `sudo setcap cap_net_admin,cap_sys_admin+ep \"$(command -v labctl)\"`";
        const DRIVER: &str = "load the driver with `sudo modprobe tun`; \
            in a container, start that with `--device /dev/net/tun`";
        const NODE: &str = "allow this user to read and write /dev/net/tun: run as root, or \
            `sudo chmod 0666 /dev/net/tun`; in a container, start that with `--device /dev/net/tun`";
        match self {
            Self::Namespace(e) => match e.raw_os_error() {
                Some(libc::ENOSPC) => Some(
                    "the host's limit is reached: raise it with \
                     `sudo sysctl -w user.max_net_namespaces=1024`",
                ),
                Some(libc::EINVAL | libc::ENOSYS) => {
                    Some("the kernel lacks network namespaces: it needs CONFIG_NET_NS")
                }
                _ => Some(PRIVILEGES),
            },
            Self::Setting { source, .. } if source.kind() == ReadOnlyFilesystem => {
                Some("/proc/sys is read-only here: start the container with `--privileged`")
            }
            Self::Tap(TapError::Open(e)) => match e.kind() {
                NotFound => Some(DRIVER),
                PermissionDenied => Some(NODE),
                _ if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => Some(DRIVER),
                _ => None,
            },
            Self::Bridge { source, .. } if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                Some("load the driver with `sudo modprobe bridge`")
            }
            Self::Setting { source, .. }
            | Self::Bridge { source, .. }
            | Self::Interface { source, .. }
            | Self::Tap(TapError::Create { source, .. })
                if source.kind() == PermissionDenied =>
            {
                Some(PRIVILEGES)
            }
            _ => None,
        }
    }
}

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

/// A TAP interface of a [`HostNetwork`], enslaved to one of its bridges.
#[derive(Clone, Debug)]
pub struct TapPort {
    name: String,
    index: u32,
}

impl TapPort {
    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What the kernel has counted at a TAP, in frames unless named otherwise. Directions are those of
/// the TAP's holder: it writes what its guest sends and reads what its guest receives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortStats {
    /// Written by the holder and taken by the bridge (the interface's rx_packets).
    pub written: u64,
    /// Bytes of those.
    pub written_bytes: u64,
    /// Written by the holder and refused, of which write(2) told it (rx_dropped).
    pub write_refused: u64,
    /// Read by the holder (tx_packets): what still waits in the TAP's queue is not in it.
    pub read: u64,
    /// Bytes of those.
    pub read_bytes: u64,
    /// Dropped because the TAP's queue was full (tx_dropped).
    pub queue_full: u64,
    /// Name of the queueing discipline in front of the TAP's queue.
    pub qdisc: String,
    /// Dropped by it.
    pub qdisc_dropped: u64,
    /// Waiting in it.
    pub qdisc_queued: u64,
}

/// A private network namespace with bridges and TAPs.
///
/// Dropping it ends its thread. The namespace goes with it, or with the last open [`Tap`] of it.
#[derive(Debug)]
pub struct HostNetwork {
    netlink: Handle,
    names: Names,
    netns: Netns,
}

impl HostNetwork {
    /// Creates an empty namespace. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN.
    pub async fn new() -> Result<Self, NetworkError> {
        let (ready, is_ready) = oneshot::channel();
        let netns = Netns::spawn(ready)?;
        let netlink = is_ready.await.map_err(|_| NetworkError::Gone)??;
        Ok(Self { netlink, names: Names::default(), netns })
    }

    /// Creates a bridge for the switch of that name and brings it up: it learns with the kernel's
    /// default ageing time, floods what it does not know, and has no spanning tree.
    pub async fn create_bridge(&mut self, switch: &str) -> Result<Bridge, NetworkError> {
        let name = self.names.claim(&format!("br-{switch}"), "");
        let message = LinkBridge::new(&name)
            .stp_state(BridgeStpState::Disabled)
            .forward_delay(0)
            .mcast_snooping(false)
            .build();
        let added = self.netlink.link().add(message).execute().await;
        added.map_err(|e| NetworkError::Bridge { name: name.clone(), source: to_io(e) })?;
        let index = self.link(&name).await?.header.index;
        tracing::debug!(switch, bridge = name, "created a bridge");
        Ok(Bridge { name, index })
    }

    /// Creates a TAP for a guest's NIC, enslaves it to `bridge` and brings it up. The port forwards
    /// from then on and disappears when the [`Tap`] is dropped.
    pub async fn create_tap(
        &mut self,
        bridge: &Bridge,
        guest: &str,
        nic: usize,
    ) -> Result<(TapPort, Tap), NetworkError> {
        let name = self.names.claim(guest, &format!("-{nic}"));
        let tap = self.netns.create_tap(&name).await?;
        let message =
            LinkUnspec::new_with_name(&name).mtu(MTU).controller(bridge.index).up().build();
        let set = self.netlink.link().set(message).execute().await;
        set.map_err(|e| interface_error("configure", &name, e))?;
        let index = self.link(&name).await?.header.index;
        tracing::debug!(guest, nic, interface = name, bridge = bridge.name, "created a TAP");
        Ok((TapPort { name, index }, tap))
    }

    /// What the kernel has counted at `port` since it was created.
    pub async fn port_stats(&self, port: &TapPort) -> Result<PortStats, NetworkError> {
        let link = self.link(&port.name).await?;
        let stats = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(*stats),
            _ => None,
        });
        let Some(Stats64 {
            rx_packets,
            rx_bytes,
            rx_dropped,
            tx_packets,
            tx_bytes,
            tx_dropped,
            ..
        }) = stats
        else {
            let source = io::Error::new(io::ErrorKind::InvalidData, "no statistics in the answer");
            return Err(NetworkError::Interface {
                action: "read",
                name: port.name.clone(),
                source,
            });
        };
        let mut result = PortStats {
            written: rx_packets,
            written_bytes: rx_bytes,
            write_refused: rx_dropped,
            read: tx_packets,
            read_bytes: tx_bytes,
            queue_full: tx_dropped,
            ..PortStats::default()
        };
        let mut qdiscs = self.netlink.qdisc().get().index(port.index as i32).execute();
        loop {
            let next = qdiscs.try_next().await;
            let Some(qdisc) = next.map_err(|e| interface_error("read", &port.name, e))? else {
                return Ok(result);
            };
            // Some kernels answer for all interfaces.
            if qdisc.header.index != port.index as i32 || qdisc.header.parent != TcHandle::ROOT {
                continue;
            }
            for attribute in qdisc.attributes {
                match attribute {
                    TcAttribute::Kind(kind) => result.qdisc = kind,
                    TcAttribute::Stats2(stats) => {
                        for stats in stats {
                            if let TcStats2::Queue(queue) = stats {
                                result.qdisc_dropped = queue.drops.into();
                                result.qdisc_queued = queue.qlen.into();
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    async fn link(&self, name: &str) -> Result<LinkMessage, NetworkError> {
        let mut links = self.netlink.link().get().match_name(name).execute();
        let link = links.try_next().await.map_err(|e| interface_error("read", name, e))?;
        link.ok_or_else(|| interface_error("read", name, rtnetlink::Error::RequestFailed))
    }
}

/// Tries for real, in a namespace that is gone afterwards, whether this process may do all that a
/// lab with `vale: false` needs.
pub fn check_privileges() -> Result<(), NetworkError> {
    let attempt = || -> Result<(), NetworkError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.map_err(NetworkError::Thread)?.block_on(async {
            let mut network = HostNetwork::new().await?;
            let bridge = network.create_bridge("check").await?;
            let (port, _tap) = network.create_tap(&bridge, "check", 0).await?;
            network.port_stats(&port).await.map(drop)
        })
    };
    // The caller may be inside an event loop, which must not start another.
    std::thread::scope(|scope| scope.spawn(attempt).join()).unwrap_or(Err(NetworkError::Gone))
}

/// The thread that lives in the namespace. Fields drop in order: the end of the requests ends the
/// thread, which is then waited for.
#[derive(Debug)]
struct Netns {
    taps: mpsc::Sender<TapRequest>,
    _thread: JoinOnDrop,
}

/// Asks the thread for a TAP: the namespace of a TAP is that of the thread that opens it.
#[derive(Debug)]
struct TapRequest {
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
    /// Starts the thread, which answers `ready` once the namespace can be used.
    fn spawn(ready: oneshot::Sender<Result<Handle, NetworkError>>) -> Result<Self, NetworkError> {
        let (taps, requests) = mpsc::channel(1);
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn(move || Self::serve(ready, requests))
            .map_err(NetworkError::Thread)?;
        Ok(Self { taps, _thread: JoinOnDrop(Some(thread)) })
    }

    async fn create_tap(&self, name: &str) -> Result<Tap, NetworkError> {
        let (reply, answer) = oneshot::channel();
        let request = TapRequest { name: name.to_owned(), reply };
        self.taps.send(request).await.map_err(|_| NetworkError::Gone)?;
        Ok(answer.await.map_err(|_| NetworkError::Gone)??)
    }

    fn serve(
        ready: oneshot::Sender<Result<Handle, NetworkError>>,
        mut requests: mpsc::Receiver<TapRequest>,
    ) {
        let (runtime, answer) = match Self::set_up() {
            Ok((runtime, netlink)) => (Some(runtime), Ok(netlink)),
            Err(error) => (None, Err(error)),
        };
        let wanted = ready.send(answer).is_ok();
        if let (Some(runtime), true) = (runtime, wanted) {
            runtime.block_on(async {
                while let Some(TapRequest { name, reply }) = requests.recv().await {
                    // Whoever no longer waits for a TAP does not get one: it closes right here.
                    let _ = reply.send(Tap::create(&name));
                }
            });
        }
    }

    /// Enters a quiet namespace and opens a netlink socket there.
    fn set_up() -> Result<(tokio::runtime::Runtime, Handle), NetworkError> {
        enter_private_netns().map_err(NetworkError::Namespace)?;
        for (path, value) in SETTINGS {
            match std::fs::write(path, value) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(NetworkError::Setting { path, source });
                }
                _ => {}
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(NetworkError::Thread)?;
        let entered = runtime.enter();
        let (connection, netlink, _) = rtnetlink::new_connection().map_err(NetworkError::Thread)?;
        drop(entered);
        runtime.spawn(connection);
        Ok((runtime, netlink))
    }
}

fn interface_error(action: &'static str, name: &str, error: rtnetlink::Error) -> NetworkError {
    NetworkError::Interface { action, name: name.to_owned(), source: to_io(error) }
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// Interface names in use.
#[derive(Debug, Default)]
struct Names(HashSet<String>);

impl Names {
    /// A name of at most [`MAX_NAME_LEN`] bytes that nobody has: `stem`, cut as needed and with
    /// everything but ASCII letters, digits, `-` and `_` replaced, a number if that is taken, and
    /// `suffix`.
    fn claim(&mut self, stem: &str, suffix: &str) -> String {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }
        };
        let stem: String = stem.chars().map(plain).collect();
        let mut name = String::new();
        for attempt in 1_u32.. {
            let end = if attempt == 1 { suffix.to_owned() } else { format!(".{attempt}{suffix}") };
            let room = MAX_NAME_LEN.saturating_sub(end.len());
            name = format!("{}{end}", &stem[..stem.len().min(room)]);
            if self.0.insert(name.clone()) {
                break;
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use rtnetlink::LinkVeth;
    use vmm_core::backend::{Backend, FrameBatch, Receiver, TapBackend, TapReceiver};
    use vmm_core::memory::GuestRam;

    /// Whether this process may create what a network needs; says so loudly if not.
    fn privileged() -> bool {
        const NET_ADMIN_AND_SYS_ADMIN: u64 = 1 << 12 | 1 << 21;
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
        let caps = u64::from_str_radix(caps, 16).unwrap();
        let may = caps & NET_ADMIN_AND_SYS_ADMIN == NET_ADMIN_AND_SYS_ADMIN;
        if !may {
            eprintln!("SKIPPED: needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)");
        }
        may
    }

    async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let start = Instant::now();
        while !condition().await {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Keeps the frames it receives.
    #[derive(Default)]
    struct Inbox(Mutex<Vec<Vec<u8>>>);

    impl Inbox {
        fn take(&self) -> Vec<Vec<u8>> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl Receiver for Inbox {
        fn receive(&self, batch: &FrameBatch<'_>, picks: &[u32]) -> usize {
            for &pick in picks {
                let frame = batch.frame(pick as usize);
                let mut bytes = vec![0; frame.len()];
                frame.copy_out(0, &mut bytes);
                self.0.lock().unwrap().push(bytes);
            }
            picks.len()
        }
    }

    /// A guest's stand-in at the end of a TAP.
    struct Guest {
        mac: [u8; 6],
        port: TapPort,
        tap: Arc<Tap>,
        ram: GuestRam,
        backend: TapBackend,
    }

    impl Guest {
        async fn plug(network: &mut HostNetwork, bridge: &Bridge, number: u8) -> Self {
            let name = format!("guest{number}");
            let (port, tap) = network.create_tap(bridge, &name, 0).await.unwrap();
            let tap = Arc::new(tap);
            Self {
                mac: [0x52, 0x54, 0, 0, 0, number],
                port,
                ram: GuestRam::new(128 << 10).unwrap(),
                backend: TapBackend::new(tap.clone()),
                tap,
            }
        }

        fn send(&mut self, to: [u8; 6], len: usize) -> Vec<u8> {
            let mut bytes = vec![self.mac[5]; len];
            bytes[..6].copy_from_slice(&to);
            bytes[6..12].copy_from_slice(&self.mac);
            bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
            let view = self.ram.slice(0, len).unwrap();
            view.copy_from(&bytes);
            let mut batch = FrameBatch::new();
            batch.push_span(view);
            batch.end_frame();
            self.backend.transmit(&batch);
            bytes
        }

        fn listen(&self) -> (Arc<Inbox>, TapReceiver) {
            let inbox = Arc::new(Inbox::default());
            let receiver = self.tap.spawn_receiver("test", inbox.clone()).unwrap();
            (inbox, receiver)
        }
    }

    const BROADCAST: [u8; 6] = [0xff; 6];

    #[tokio::test]
    async fn the_bridge_floods_learns_and_forwards() {
        if !privileged() {
            return;
        }
        let mut network = HostNetwork::new().await.unwrap();
        let bridge = network.create_bridge("sw0").await.unwrap();
        let mut guests = Vec::new();
        for number in 0..3 {
            guests.push(Guest::plug(&mut network, &bridge, number).await);
        }
        let (inboxes, _receivers): (Vec<_>, Vec<_>) = guests.iter().map(Guest::listen).unzip();
        let [a, b] = [guests[0].mac, guests[1].mac];
        let largest = Tap::MAX_FRAME_LEN;
        // Sender, destination, length, who gets it: broadcast, unknown, learned, learned both ways.
        let steps: [(usize, [u8; 6], usize, &[usize]); 6] = [
            (0, BROADCAST, 60, &[1, 2]),
            (0, b, 61, &[1, 2]),
            (1, a, 62, &[0]),
            (0, b, 63, &[1]),
            (0, b, largest, &[1]),
            (0, a, 64, &[]),
        ];
        for (from, to, len, receivers) in steps {
            let sent = guests[from].send(to, len);
            let due = |i: usize| usize::from(receivers.contains(&i));
            // What does arrive has arrived before what should not could.
            for &receiver in receivers {
                eventually("a frame arrives", async || {
                    !inboxes[receiver].0.lock().unwrap().is_empty()
                })
                .await;
            }
            for (i, inbox) in inboxes.iter().enumerate() {
                assert!(inbox.take() == vec![sent.clone(); due(i)], "{len} bytes at guest {i}");
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(inboxes.iter().all(|inbox| inbox.take().is_empty()), "no stray frames");

        let mut stats = Vec::new();
        for guest in &guests {
            let s = network.port_stats(&guest.port).await.unwrap();
            let counted = guest.tap.counters();
            assert_eq!((s.written, s.written_bytes), (counted.tx_frames, counted.tx_bytes));
            assert_eq!((s.read, s.read_bytes), (counted.rx_frames, counted.rx_bytes));
            assert_eq!((s.write_refused, s.queue_full, s.qdisc_dropped), (0, 0, 0));
            assert!(!s.qdisc.is_empty());
            stats.push((s.written, s.read));
        }
        assert_eq!(stats, [(5, 1), (1, 4), (0, 2)]);
    }

    #[tokio::test]
    async fn frames_are_conserved_when_nobody_reads() {
        if !privileged() {
            return;
        }
        let mut network = HostNetwork::new().await.unwrap();
        let bridge = network.create_bridge("sw0").await.unwrap();
        let mut tx = Guest::plug(&mut network, &bridge, 1).await;
        let mut rx = Guest::plug(&mut network, &bridge, 2).await;
        rx.send(BROADCAST, 60);
        for _ in 0..5_000 {
            tx.send(rx.mac, 60);
        }
        assert_eq!(tx.tap.counters().tx_frames, 5_000, "the writer never sees a full queue");
        let full = network.port_stats(&rx.port).await.unwrap();
        assert_eq!((full.read, full.qdisc_queued, full.qdisc_dropped), (0, 0, 0));
        assert!(full.queue_full > 0);

        let (inbox, receiver) = rx.listen();
        let queued = 5_000 - full.queue_full;
        eventually("the queue drains", async || rx.tap.counters().rx_frames >= queued).await;
        drop(receiver);
        assert_eq!(inbox.take().len() as u64, queued);
        let drained = network.port_stats(&rx.port).await.unwrap();
        let sent = network.port_stats(&tx.port).await.unwrap();
        assert_eq!(sent.written, drained.read + drained.queue_full);
        assert_eq!(drained.queue_full, full.queue_full);
    }

    /// Two writers at once make the qdisc queue: nothing may be lost uncounted there either.
    #[tokio::test]
    async fn frames_are_conserved_when_writers_collide() {
        if !privileged() {
            return;
        }
        const EACH: u64 = 50_000;
        let mut network = HostNetwork::new().await.unwrap();
        let bridge = network.create_bridge("sw0").await.unwrap();
        let mut rx = Guest::plug(&mut network, &bridge, 0).await;
        rx.send(BROADCAST, 60);
        let mut writers = Vec::new();
        for number in 1..=2 {
            writers.push(Guest::plug(&mut network, &bridge, number).await);
        }
        let (_inbox, receiver) = rx.listen();
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(|| (0..EACH).for_each(|_| drop(writer.send(rx.mac, 60))));
            }
        });
        let stats = async || network.port_stats(&rx.port).await.unwrap();
        let seen = async || {
            let s = stats().await;
            s.read + s.queue_full + s.qdisc_dropped
        };
        eventually("every frame is read or counted", async || seen().await == 2 * EACH).await;
        drop(receiver);
        let s = stats().await;
        assert_eq!((s.read, s.qdisc_queued), (rx.tap.counters().rx_frames, 0));
        let accepted: u64 = writers.iter().map(|w| w.tap.counters().tx_frames).sum();
        assert_eq!(accepted, 2 * EACH);
    }

    /// An interface with IPv6 sends its first frames within a second of coming up.
    #[tokio::test]
    async fn the_network_is_silent() {
        if !privileged() {
            return;
        }
        let mut network = HostNetwork::new().await.unwrap();
        let bridge = network.create_bridge("sw0").await.unwrap();
        let guest = Guest::plug(&mut network, &bridge, 1).await;
        let (inbox, _receiver) = guest.listen();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(inbox.take(), Vec::<Vec<u8>>::new());
        let stats = network.port_stats(&guest.port).await.unwrap();
        assert_eq!((stats.written, stats.read, stats.queue_full), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_port_forwards_from_the_moment_it_exists() {
        if !privileged() {
            return;
        }
        let mut network = HostNetwork::new().await.unwrap();
        let bridge = network.create_bridge("sw0").await.unwrap();
        for round in 0..10 {
            let rx = Guest::plug(&mut network, &bridge, 1).await;
            let mut tx = Guest::plug(&mut network, &bridge, 2).await;
            tx.send(BROADCAST, 60);
            let (inbox, _receiver) = rx.listen();
            let arrived = async || !inbox.0.lock().unwrap().is_empty();
            eventually(&format!("the first frame arrives, round {round}"), arrived).await;
        }
    }

    #[tokio::test]
    async fn privileges_are_checked_inside_an_event_loop_too() {
        if privileged() {
            check_privileges().unwrap();
        }
    }

    /// This test binary, running one of the ignored tests below as a process of its own.
    fn child(test: &str) -> Command {
        let module = module_path!().split_once("::").unwrap().1;
        let mut command = Command::new("/proc/self/exe");
        command.args(["--exact", "--ignored", "--nocapture", &format!("{module}::{test}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    #[test]
    fn an_unprivileged_user_is_told_what_is_missing() {
        if !privileged() {
            return;
        }
        // User and group "nobody"; leaving user 0 drops all capabilities.
        let output = child("child_without_privileges").uid(65534).gid(65534).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    #[ignore = "run by an_unprivileged_user_is_told_what_is_missing"]
    fn child_without_privileges() {
        // Root started it by hand, with --include-ignored.
        if privileged() {
            return;
        }
        let error = check_privileges().unwrap_err();
        assert!(matches!(error, NetworkError::Namespace(_)), "{error:?}");
        assert!(error.help().unwrap().contains("CAP_SYS_ADMIN"));
    }

    /// Holds a network with a bridge and two TAPs; gives it up when told by a line on stdin, says
    /// so, and lives on until the next line.
    #[tokio::test]
    #[ignore = "run by the tests of what is left behind"]
    async fn child_with_a_network() {
        let wait = || std::io::stdin().lock().read_line(&mut String::new()).unwrap();
        let mut network = HostNetwork::new().await.unwrap();
        let bridge = network.create_bridge("sw0").await.unwrap();
        let guests = [
            Guest::plug(&mut network, &bridge, 1).await,
            Guest::plug(&mut network, &bridge, 2).await,
        ];
        println!("\nUP");
        wait();
        drop(network);
        drop(guests);
        println!("\nDOWN");
        wait();
    }

    fn wait_for_line(lines: &mut impl BufRead, wanted: &str) {
        let mut lines = lines.lines().map(Result::unwrap);
        assert!(lines.any(|line| line == wanted), "{wanted}");
    }

    /// The thread of process `pid` that holds a namespace.
    fn netns_thread(pid: u32) -> Option<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks.map(|task| task.unwrap().path()).find_map(|task| {
            let name = std::fs::read_to_string(task.join("comm")).ok()?;
            let tid = || task.file_name()?.to_str()?.parse().ok();
            (name.trim_end() == "netns").then(tid)?
        })
    }

    /// Ends a child that a failing test leaves behind.
    struct KillOnDrop(Child);

    impl Drop for KillOnDrop {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Runs `end` on a process that holds a network and waits until that network's namespace is
    /// gone. A namespace cannot be listed, so one end of a veth pair is put into it: the other end
    /// disappears with it.
    async fn namespace_ends_after(end: impl FnOnce(&mut Child, &mut dyn BufRead)) {
        static RUN: AtomicU64 = AtomicU64::new(0);
        let watch = format!("watch{}", RUN.fetch_add(1, Relaxed));
        let outside = HostNetwork::new().await.unwrap();
        let mut process = KillOnDrop(child("child_with_a_network").spawn().unwrap());
        let mut output = BufReader::new(process.0.stdout.take().unwrap());
        wait_for_line(&mut output, "UP");

        let links = outside.netlink.link();
        links.add(LinkVeth::new(&watch, "inside").build()).execute().await.unwrap();
        let tid = netns_thread(process.0.id()).unwrap();
        let moved = LinkUnspec::new_with_name("inside").setns_by_pid(tid).build();
        links.set(moved).execute().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        outside.link(&watch).await.unwrap();

        end(&mut process.0, &mut output);
        eventually("the namespace is gone", async || {
            matches!(outside.link(&watch).await, Err(NetworkError::Interface { source, .. })
                if source.raw_os_error() == Some(libc::ENODEV))
        })
        .await;
    }

    #[tokio::test]
    async fn dropping_leaves_nothing_behind() {
        if !privileged() {
            return;
        }
        namespace_ends_after(|process, mut output| {
            process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            wait_for_line(&mut output, "DOWN");
            assert_eq!(netns_thread(process.id()), None, "the thread is gone, the process is not");
        })
        .await;
    }

    #[tokio::test]
    async fn kill_9_leaves_nothing_behind() {
        if !privileged() {
            return;
        }
        namespace_ends_after(|process, _| process.kill().unwrap()).await;
    }

    #[test]
    fn interface_names_fit_and_differ() {
        let mut names = Names::default();
        for (stem, suffix, expected) in [
            ("tx", "-0", "tx-0"),
            ("tx", "-1", "tx-1"),
            ("tx", "-0", "tx.2-0"),
            ("a-very-long-guest-name", "-0", "a-very-long-g-0"),
            ("a-very-long-guest-nose", "-0", "a-very-long.2-0"),
            ("a/b c:d%é", "-0", "a_b_c_d__-0"),
            ("br-a-very-long-switch", "", "br-a-very-long-"),
            ("", "-0", "-0"),
        ] {
            assert_eq!(names.claim(stem, suffix), expected);
        }
    }
}
