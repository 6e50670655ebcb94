//! The guest image on another machine: QEMU's PC with QEMU's own e1000 and virtio-net, emulated and
//! under KVM. Its frames are seen from outside, as datagrams of QEMU's socket backend.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use common::{STALL, Scratch};
use serde_json::Value;

/// As many as a socket's default buffer surely holds.
const COUNT: u64 = 100;
const FRAME: usize = 100;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0xab, 0xcd, 0xef];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// What a frame is for.
const DATA: u32 = 0;
const PING: u32 = 1;
const PONG: u32 = 2;
const ANNOUNCEMENT: u32 = 3;

/// Where to run the guest.
type Accelerator = &'static [&'static str];
const EMULATED: Accelerator = &["-accel", "tcg"];
const KVM: Accelerator = &["-accel", "kvm", "-cpu", "qemu64"];

/// A running QEMU and the lines that its guest prints.
struct Qemu {
    child: Child,
    lines: Receiver<String>,
    dir: Scratch,
}

impl Qemu {
    /// Boots the guest with a `device` whose frames go to `wire`.
    fn boot(accelerator: Accelerator, device: &str, cmdline: &str, wire: &UdpSocket) -> Self {
        let wire = wire.local_addr().unwrap();
        let dir = Scratch::new(&format!("qemu-{}", wire.port()));
        let kernel = dir.file("pktguest", images::PKTGUEST);
        let monitor = format!("unix:{},server=on,wait=off", dir.path("monitor").display());
        let netdev = format!("socket,id=wire,udp={wire},localaddr=127.0.0.1:0");
        let device = format!("{device},netdev=wire,mac=52:54:00:ab:cd:ef,romfile=");
        let mut child = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-machine", "pc", "-m", "64"])
            .args(["-display", "none", "-serial", "stdio", "-no-reboot", "-monitor", &monitor])
            .args(["-netdev", &netdev, "-device", &device])
            .args(["-kernel", &kernel, "-append", cmdline])
            .args(accelerator)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86_64 (Debian: qemu-system-x86)");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, dir }
    }

    /// Takes the link down, if the connection is kept until that has happened.
    fn unplug(&self) -> UnixStream {
        let mut monitor = UnixStream::connect(self.dir.path("monitor")).unwrap();
        monitor.write_all(b"set_link wire off\n").unwrap();
        monitor
    }

    /// The next report of this kind; anything else but reports fails the test.
    fn report(&self, event: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(STALL);
            let line = line.unwrap_or_else(|error| panic!("no {event} line: {error}"));
            // The firmware writes escape sequences before the guest's first line.
            let Some(json) = line.find("{\"event\"").map(|start| line[start..].trim_end()) else {
                continue;
            };
            let report: Value = serde_json::from_str(json).unwrap_or_else(|_| panic!("{line}"));
            assert_ne!(report["event"], "error", "{line}");
            if report["event"] == event {
                return report;
            }
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The outside end of the guest's wire.
fn wire() -> UdpSocket {
    let wire = UdpSocket::bind("127.0.0.1:0").unwrap();
    wire.set_read_timeout(Some(STALL)).unwrap();
    wire
}

/// The guest's next frame.
fn next(wire: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let length = wire.recv(&mut buffer).expect("a frame");
    buffer[..length].to_vec()
}

/// What a frame of the guest says: kind and sequence number.
fn header(frame: &[u8]) -> (u32, u64) {
    assert_eq!((&frame[6..12], &frame[12..16]), (&MAC[..], &[0x88, 0xb5, 0x43, 0x4c][..]));
    let [sequence, kind] = [&frame[16..24], &frame[32..36]];
    let kind = u32::from_le_bytes(kind.try_into().unwrap());
    (kind, u64::from_le_bytes(sequence.try_into().unwrap()))
}

fn transmits(accelerator: Accelerator, device: &str, options: &str) {
    let wire = wire();
    let cmdline = format!("role=tx {options} frame={FRAME} count={COUNT} dst=02:00:00:00:00:07");
    let qemu = Qemu::boot(accelerator, device, &cmdline, &wire);
    let ready = qemu.report("ready");
    assert_eq!(ready["mac"], "52:54:00:ab:cd:ef", "{ready}");

    for sequence in 0..COUNT {
        let frame = next(&wire);
        assert_eq!((frame.len(), &frame[..6]), (FRAME, &PEER[..]));
        assert_eq!(header(&frame), (DATA, sequence));
    }
    let report = qemu.report("final");
    assert_eq!((&report["role"], &report["packets"]), (&"tx".into(), &COUNT.into()), "{report}");
    assert_eq!(report["unsent"], 0, "{report}");
    assert_eq!(report["tx_frames"], COUNT, "{report}");
}

/// The guest halts at once when it has nothing to do: requests have to wake it, and the link's end.
fn answers(accelerator: Accelerator, device: &str, options: &str) {
    let wire = wire();
    let cmdline = format!("role=pong spin_us=0 unplugged=end {options}");
    let qemu = Qemu::boot(accelerator, device, &cmdline, &wire);
    let mut announcement = [0; 64];
    let (length, guest) = wire.recv_from(&mut announcement).expect("an announcement");
    assert_eq!(
        (header(&announcement[..length]), &announcement[..6]),
        ((ANNOUNCEMENT, 0), &[0xff; 6][..])
    );
    for sequence in 0..COUNT {
        let mut request = vec![0; FRAME];
        request[..6].copy_from_slice(&MAC);
        request[6..12].copy_from_slice(&PEER);
        request[12..16].copy_from_slice(&[0x88, 0xb5, 0x43, 0x4c]);
        request[16..24].copy_from_slice(&sequence.to_le_bytes());
        request[32..36].copy_from_slice(&PING.to_le_bytes());
        wire.send_to(&request, guest).unwrap();
        let answer = next(&wire);
        assert_eq!((answer.len(), &answer[..6]), (FRAME, &PEER[..]));
        assert_eq!(header(&answer), (PONG, sequence));
    }
    let _monitor = qemu.unplug();
    let report = qemu.report("final");
    assert_eq!((&report["packets"], &report["rx_frames"]), (&COUNT.into(), &COUNT.into()));
    assert!(report["halts"].as_u64() > Some(1), "{report}");
}

const E1000: &str = "driver=e1000 sc=0 csb=0 ring=80";
const COMBINING: &str = "driver=e1000 sc=1 csb=0 ring=80";
const VIRTIO: &str = "driver=virtio";

#[test]
fn the_guest_transmits_on_an_emulated_processor() {
    transmits(EMULATED, "e1000", E1000);
    transmits(EMULATED, "e1000", COMBINING);
}

#[test]
fn the_guest_transmits_under_kvm() {
    let Some(_turn) = common::kvm() else { return };
    transmits(KVM, "e1000", E1000);
    transmits(KVM, "e1000", COMBINING);
}

#[test]
fn the_guest_transmits_with_virtio_on_an_emulated_processor() {
    transmits(EMULATED, "virtio-net-pci", VIRTIO);
}

#[test]
fn the_guest_answers_with_virtio_under_kvm() {
    let Some(_turn) = common::kvm() else { return };
    // The largest receive ring, and the device id of those that have no legacy interface.
    answers(KVM, "virtio-net-pci,disable-legacy=on,rx_queue_size=1024", "driver=virtio ring=1024");
}
