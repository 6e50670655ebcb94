//! Workloads that use sockets: nothing is lost, nothing is damaged, and the other end may be
//! somebody else's stack.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use common::{STALL, Scratch};
use labctl::bench::trial::{self, Turn};
use labctl::optimizations::Optimizations;
use labctl::results::{Sample, TrialKind};

/// Datagrams that each cell carries, over 0.1 s. A ring and a TAP's queue hold all of them, whoever is
/// kept from its CPU for that long.
const DATAGRAMS: u64 = 900;

#[test]
fn every_datagram_arrives_at_a_moderate_rate() {
    let Some(kvm) = common::kvm() else { return };
    for on in common::cells() {
        // Guests halt whenever they wait: a lost wake-up would show.
        let lab = common::lab(
            on,
            &format!(
                "defaults: {{ spin: 0, ring: 4096, nics: [{{ switch: sw0 }}] }}\n\
                 guests:\n  \
                   left: {{ workload: {{ role: udp-tx, to: right, rate: 10kpps, count: {DATAGRAMS} }} }}\n  \
                   right: {{ workload: {{ role: udp-rx }} }}"
            ),
        );
        let reports = common::block_on(common::play(&kvm, &lab)).reports;
        let [tx, rx] = &reports[..] else { panic!("{reports:?}") };
        let amiss = rx.lost + rx.reordered + rx.duplicates + tx.unsent;
        assert_eq!((tx.packets, rx.packets, amiss), (DATAGRAMS, DATAGRAMS, 0), "{on}");
    }
}

/// The two cells furthest apart that this user may run.
fn extremes() -> Vec<Optimizations> {
    let ends = [Optimizations::NONE, Optimizations::ALL];
    common::cells().into_iter().filter(|cell| ends.contains(cell)).collect()
}

/// One trial without a limit, whose books must balance.
fn measure(kvm: &common::Kvm, on: Optimizations, trial: &str) -> Sample {
    let lab = common::lab(
        on,
        &format!(
            "defaults: {{ spin: 0, ring: 256, nics: [{{ switch: sw0 }}] }}\n\
             guests: {{ left: {{}}, right: {{}} }}\n\
             bench: {{ throughput: {{ from: left, to: right, duration: 1s, {trial} }} }}"
        ),
    );
    let spec = lab.bench.as_ref().and_then(|bench| bench.throughput.as_ref()).unwrap();
    let turn = Turn { round: 1, order: 0 };
    let trial = trial::run(kvm, &lab, TrialKind::Throughput, spec, turn);
    let sample = common::block_on(trial).unwrap_or_else(|error| panic!("{on}: {error}"));
    assert_eq!(sample.void_reason, None, "{on}: {sample:#?}");
    sample
}

#[test]
fn datagrams_are_received_or_seen_dropped() {
    let Some(kvm) = common::kvm() else { return };
    for on in extremes() {
        for (frame, burst, payload) in [(60, 1, 18), (1514, 32, 1472)] {
            let trial = format!("protocol: udp, frame: {frame}, burst: {burst}");
            let sample = measure(&kvm, on, &trial);
            assert!(sample.conserved, "{on}: {sample:#?}");
            assert_eq!(sample.payload_bytes, Some(sample.received * payload), "{on}");
        }
    }
}

#[test]
fn a_stream_arrives_whole() {
    let Some(kvm) = common::kvm() else { return };
    for on in extremes() {
        // The second: segments that are not even, and as short as they may be.
        for (frame, burst, record) in [(1514, 1, 1460), (83, 16, 29)] {
            let trial = format!("protocol: tcp, frame: {frame}, burst: {burst}");
            let sample = measure(&kvm, on, &trial);
            assert_eq!(sample.received, sample.sent, "{on}");
            assert_eq!(sample.payload_bytes, Some(sample.sent * record), "{on}");
        }
    }
}

/// A process that is killed in the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// QEMU's user-space network is a TCP of its own, and speaks to the host's for the guest.
#[test]
fn another_stack_understands_the_stream() {
    const RECORDS: u64 = 500;
    const RECORD: usize = 1514 - 54;
    let dir = Scratch::new("sockets");
    let kernel = dir.file("pktguest", images::PKTGUEST);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let netdev = format!(
        "user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:9-tcp:{}",
        listener.local_addr().unwrap()
    );
    let cmdline =
        format!("role=tcp-tx frame=1514 ring=256 count={RECORDS} ip=10.0.2.15/24 to_ip=10.0.2.100");
    let _qemu = Running(
        Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-machine", "pc", "-m", "64"])
            .args(["-display", "none", "-serial", "null", "-accel", "tcg"])
            .args(["-netdev", &netdev, "-device", "e1000,netdev=net,romfile="])
            .args(["-kernel", &kernel, "-append", &cmdline])
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 (Debian: qemu-system-x86)"),
    );
    let mut stream = accept(&listener);
    stream.set_read_timeout(Some(STALL)).unwrap();
    let mut bytes = vec![0; RECORD * RECORDS as usize];
    stream.read_exact(&mut bytes).expect("the whole stream");
    for (number, record) in (0u64..).zip(bytes.chunks(RECORD)) {
        let (head, filler) = record.split_at(8);
        assert_eq!(head, number.to_le_bytes());
        assert!(filler.iter().all(|byte| *byte == 0x5a), "record {number}");
    }
}

/// A connection, however long the guest takes to boot, but not for ever.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut connection = None;
    common::eventually("a connection", || {
        connection = listener.accept().ok();
        connection.is_some()
    });
    let (stream, _) = connection.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}
