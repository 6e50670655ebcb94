//! Bridges and TAPs in namespaces of their own, with stand-ins for guests.

mod host;
mod residue;

use super::*;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmm_core::backend::{Backend, FrameBatch, Receiver, TapBackend, TapReceiver};
use vmm_core::memory::GuestRam;

/// Whether this process may create what a network needs; says so if not.
fn privileged() -> bool {
    or_skip(Privileges::current().is_some(), "root, or a user namespace around the tests")
}

/// Whether this process may become any user; says so if not.
fn root() -> bool {
    or_skip(Privileges::current() == Some(Privileges::Root), "root")
}

fn or_skip(may: bool, needs: &str) -> bool {
    if !may {
        // The test harness would keep what is printed with a macro.
        let _ = writeln!(io::stderr(), "SKIPPED: needs {needs}");
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
            eventually("a frame arrives", async || !inboxes[receiver].0.lock().unwrap().is_empty())
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
        let s = guest.port.stats().await.unwrap();
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
    let full = rx.port.stats().await.unwrap();
    assert_eq!((full.read, full.qdisc_queued, full.qdisc_dropped), (0, 0, 0));
    assert!(full.queue_full > 0);

    let (inbox, receiver) = rx.listen();
    let queued = 5_000 - full.queue_full;
    eventually("the queue drains", async || rx.tap.counters().rx_frames >= queued).await;
    drop(receiver);
    assert_eq!(inbox.take().len() as u64, queued);
    let drained = rx.port.stats().await.unwrap();
    let sent = tx.port.stats().await.unwrap();
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
    let stats = async || rx.port.stats().await.unwrap();
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
    let stats = guest.port.stats().await.unwrap();
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
async fn names_of_interfaces_that_are_gone_are_free_again() {
    if !privileged() {
        return;
    }
    let mut network = HostNetwork::new().await.unwrap();
    for _ in 0..3 {
        let bridge = network.create_bridge("sw0").await.unwrap();
        let (port, tap) = network.create_tap(&bridge, "guest", 0).await.unwrap();
        let (second, _tap) = network.create_tap(&bridge, "guest", 0).await.unwrap();
        assert_eq!((port.name(), second.name()), ("guest-0", "guest.2-0"));
        drop(tap);
        let (again, _tap) = network.create_tap(&bridge, "guest", 0).await.unwrap();
        assert_eq!((bridge.name(), again.name()), ("br-sw0", "guest-0"));
        network.remove_bridge(bridge).await.unwrap();
    }
}

#[tokio::test]
async fn privileges_are_checked_inside_an_event_loop_too() {
    if privileged() {
        check_privileges().unwrap();
    }
}

/// This test binary, running one of the ignored tests of `module` as a process of its own.
fn child(module: &str, test: &str) -> Command {
    let module = module.split_once("::").unwrap().1;
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "--ignored", "--nocapture", &format!("{module}::{test}")]);
    command
}

#[test]
fn an_unprivileged_user_is_told_what_is_missing() {
    if !root() {
        return;
    }
    // User and group "nobody"; leaving user 0 drops all capabilities.
    let output =
        child(module_path!(), "child_without_privileges").uid(65534).gid(65534).output().unwrap();
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
    assert!(error.help().unwrap().contains("run as root"));
}
