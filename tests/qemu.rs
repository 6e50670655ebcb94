//! The guest image on another machine: QEMU's PC with QEMU's own e1000, emulated and under KVM.
//! Its frames are seen from outside, as datagrams of QEMU's socket backend.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use common::{STALL, Scratch};
use serde_json::Value;

/// As many as a socket's default buffer surely holds.
const COUNT: u64 = 100;
const FRAME: usize = 100;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0xab, 0xcd, 0xef];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// A running QEMU and the lines that its guest prints.
struct Qemu {
    child: Child,
    lines: Receiver<String>,
}

impl Qemu {
    /// Boots `kernel` with an e1000 whose frames go to `wire`.
    fn boot(accelerator: &[&str], kernel: &str, cmdline: &str, wire: &UdpSocket) -> Self {
        let wire = wire.local_addr().unwrap();
        let netdev = format!("socket,id=wire,udp={wire},localaddr=127.0.0.1:0");
        let mut child = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-machine", "pc", "-m", "64"])
            .args(["-display", "none", "-serial", "stdio", "-no-reboot"])
            .args([
                "-netdev",
                &netdev,
                "-device",
                "e1000,netdev=wire,mac=52:54:00:ab:cd:ef,romfile=",
            ])
            .args(["-kernel", kernel, "-append", cmdline])
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
        Self { child, lines }
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

/// What a frame of the guest says: kind and sequence number.
fn header(frame: &[u8]) -> (u32, u64) {
    assert_eq!((&frame[6..12], &frame[12..16]), (&MAC[..], &[0x88, 0xb5, 0x43, 0x4c][..]));
    let [sequence, kind] = [&frame[16..24], &frame[32..36]];
    let kind = u32::from_le_bytes(kind.try_into().unwrap());
    (kind, u64::from_le_bytes(sequence.try_into().unwrap()))
}

fn transmits(accelerator: &[&str]) {
    const DATA: u32 = 0;
    const ANNOUNCEMENT: u32 = 3;
    let dir = Scratch::new(&format!("qemu-{}", accelerator[1]));
    let kernel = dir.file("pktguest", images::PKTGUEST);
    for sc in [0, 1] {
        let wire = UdpSocket::bind("127.0.0.1:0").unwrap();
        wire.set_read_timeout(Some(STALL)).unwrap();
        let cmdline = format!(
            "role=tx driver=e1000 sc={sc} csb=0 ring=80 frame={FRAME} count={COUNT} \
             dst=02:00:00:00:00:07"
        );
        let qemu = Qemu::boot(accelerator, &kernel, &cmdline, &wire);
        let ready = qemu.report("ready");
        assert_eq!(ready["mac"], "52:54:00:ab:cd:ef", "{ready}");

        let mut buffer = [0; 2048];
        let mut next = || {
            let length = wire.recv(&mut buffer).expect("a frame");
            buffer[..length].to_vec()
        };
        let announcement = next();
        assert_eq!(
            (header(&announcement), &announcement[..6]),
            ((ANNOUNCEMENT, 0), &[0xff; 6][..])
        );
        for sequence in 0..COUNT {
            let frame = next();
            assert_eq!((frame.len(), &frame[..6]), (FRAME, &PEER[..]));
            assert_eq!(header(&frame), (DATA, sequence));
        }
        let report = qemu.report("final");
        assert_eq!(
            (&report["role"], &report["packets"]),
            (&"tx".into(), &COUNT.into()),
            "{report}"
        );
        assert_eq!(report["unsent"], 0, "{report}");
        assert_eq!(report["tx_frames"], COUNT + 1, "{report}");
    }
}

#[test]
fn the_guest_transmits_on_an_emulated_processor() {
    transmits(&["-accel", "tcg"]);
}

#[test]
fn the_guest_transmits_under_kvm() {
    let Some(_turn) = common::kvm() else { return };
    transmits(&["-accel", "kvm", "-cpu", "qemu64"]);
}
