//! A lab and the host it runs on: pings from real network namespaces, and tshark on live captures.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::labs::{Labs, text};
use common::{eventually, kvm, say};

/// A network namespace of the host's, with a name, until it is dropped.
struct Netns(String);

impl Netns {
    /// `None`, and a word about it, if this user may not have any.
    fn new(test: &str) -> Option<Self> {
        let name = format!("labctl-{test}-{}", std::process::id());
        let added = Command::new("ip").args(["netns", "add", &name]).output();
        let added = added.expect("ip (Debian: iproute2)");
        if !added.status.success() {
            say(&format!("SKIPPED: no network namespaces here: {}", text(&added.stderr).trim()));
            return None;
        }
        Some(Self(name))
    }

    /// A program that is to run there.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program).stdin(Stdio::null());
        command
    }

    /// Pings the guest.
    fn ping(&self, args: &[&str]) -> Output {
        self.command("ping").arg("-n").args(args).arg(GUEST).output().unwrap()
    }

    /// The shortest round trip of a few pings in milliseconds; the guest answers every one of them,
    /// however long a busy host takes for that.
    #[track_caller]
    fn round_trip_ms(&self) -> f64 {
        let round_trip = |_| {
            let output = self.ping(&["-c", "1", "-W", "20"]);
            assert!(output.status.success(), "{output:?}");
            let said = text(&output.stdout);
            let least = said.split_once("mdev = ").and_then(|(_, rtt)| rtt.split('/').next());
            least.and_then(|least| least.parse().ok()).unwrap_or_else(|| panic!("{said}"))
        };
        (0..3).map(round_trip).fold(f64::INFINITY, f64::min)
    }

    /// Whether none of a few pings is answered within a second.
    fn is_silent(&self) -> bool {
        let output = self.ping(&["-c", "3", "-i", "0.2", "-w", "1"]);
        text(&output.stdout).contains(" 100% packet loss")
    }

    /// Whether it has this interface.
    fn has(&self, interface: &str) -> bool {
        let links = self.command("ip").args(["-o", "link"]).output().unwrap();
        text(&links.stdout).contains(&format!(" {interface}: "))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

const GUEST: &str = "10.99.0.2";

/// A guest that answers pings, and a TAP of the host's.
fn lab(switch: &str, tap: &str) -> String {
    format!(
        "name: host\n\
         switches: {{ sw0: {{ kind: {switch} }} }}\n\
         links: [{{ ends: [sw0, '{tap}'], name: outside, address: 10.99.0.1/24 }}]\n\
         guests:\n  \
           answers: {{ ip: {GUEST}/24, nics: [sw0], spin: 0, workload: {{ role: icmp }} }}\n"
    )
}

fn pings_through(switch: &str) {
    let Some(_kvm) = kvm() else { return };
    let Some(netns) = Netns::new(switch) else { return };
    let labs = Labs::new(&format!("host-{switch}"));
    let file = labs.file("host", &lab(switch, &format!("netns:{}/tap0", netns.0)));
    labs.run(&["up", "--wait", &file]);
    let set = |cable: &str, change: &[&str]| {
        labs.run(&[&["link", "set", cable][..], change].concat());
    };
    let undelayed = netns.round_trip_ms();
    assert!(undelayed < 20.0, "{undelayed} ms");
    for cable in ["answers:0", "outside"] {
        set(cable, &["--delay", "20ms"]);
        let delayed = netns.round_trip_ms();
        // At most twice as slow as asked for, each way.
        assert!((40.0..80.0).contains(&delayed), "{cable}: {delayed} ms");
        set(cable, &["--clear", "--loss", "100%"]);
        assert!(netns.is_silent(), "{cable}");
        set(cable, &["--clear"]);
        netns.round_trip_ms();
        set(cable, &["--down"]);
        assert!(netns.is_silent(), "{cable}");
        set(cable, &["--clear", "--up"]);
        let undelayed = netns.round_trip_ms();
        assert!(undelayed < 20.0, "{cable}: {undelayed} ms");
    }
    labs.run(&["down", &file]);
    assert!(!netns.has("tap0") && labs.is_clean(), "nothing is left");
}

#[test]
fn the_host_pings_a_guest_through_a_vale_switch() {
    pings_through("vale");
}

#[test]
fn the_host_pings_a_guest_through_a_bridge() {
    pings_through("bridge");
}

#[test]
fn a_tap_that_somebody_deletes_is_missed_and_laid_anew() {
    let Some(_kvm) = kvm() else { return };
    let Some(netns) = Netns::new("lost") else { return };
    let labs = Labs::new("host-lost");
    let file = labs.file("host", &lab("bridge", &format!("netns:{}/tap0", netns.0)));
    labs.run(&["up", "--wait", &file]);
    let cable = || labs.json(&["link", "show", "outside"])[0].clone();
    // The port on the switch, by which `capture` and `mac-table` call it, too.
    let port = format!("sw0:{}", cable()["port"].as_str().unwrap());
    let tap = format!("netns:{}/tap0", netns.0);
    for place in [&port, &tap] {
        let mut capture = labs.command(&["capture", place, "--count", "1"]);
        let mut capture = capture.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("a frame", || {
            netns.ping(&["-c", "1", "-w", "1"]);
            capture.try_wait().unwrap().is_some_and(|status| status.success())
        });
    }
    let deleted = netns.command("ip").args(["link", "del", "tap0"]).status().unwrap();
    assert!(deleted.success());
    eventually("it is missed", || cable()["up"] == false);
    assert!(labs.events().contains(&("link-lost".into(), Some("outside".into()))));
    let again = labs.try_run(&["up", "--wait", &file]);
    assert!(text(&again.stderr).contains("+ outside"), "{again:?}");
    assert_eq!(cable()["up"], true);
    netns.round_trip_ms();
    let again = labs.try_run(&["up", "--wait", &file]);
    assert!(text(&again.stderr).contains("nothing to change"), "{again:?}");
}

#[test]
fn a_tap_is_gone_with_its_lab_however_that_ends() {
    let Some(_kvm) = kvm() else { return };
    let Some(netns) = Netns::new("tap") else { return };
    let labs = Labs::new("host-tap");
    let file = labs.file("host", &lab("vale", "host:tap0"));
    let up = || {
        let mut labctl = netns.command(env!("CARGO_BIN_EXE_labctl"));
        let labctl = labctl.args(["up", "--wait", &file]).env("LABCTL_STATE_DIR", labs.state());
        let out = labctl.output().unwrap();
        assert!(out.status.success(), "{out:?}");
        assert!(netns.has("tap0"));
        netns.round_trip_ms();
    };
    up();
    labs.run(&["down", &file]);
    assert!(!netns.has("tap0"));
    up();
    let pid = labs.ps()[0]["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("the kernel takes the TAP", || !netns.has("tap0"));
    // And nothing is in the way of the next one.
    up();
    labs.run(&["down", &file]);
    assert!(!netns.has("tap0") && labs.is_clean(), "nothing is left");
}

/// Two guests, of which one pings the other a hundred times a second.
const PINGS: &str = "\
name: pings
switches: { sw0: {} }
defaults: { nics: [sw0], spin: 0 }
guests:
  asks: { workload: { role: icmp, to: answers, rate: 100pps } }
  answers: { workload: { role: icmp } }
";

/// What a tool of Wireshark's prints of a capture.
fn examine(program: &str, args: &[&str], capture: &Path) -> String {
    let output = Command::new(program).args(args).arg(capture).output();
    let output = output.expect("tshark and capinfos (Debian: tshark)");
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

#[test]
fn tshark_reads_a_capture_while_it_runs() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("host-live");
    let file = labs.file("pings", PINGS);
    labs.run(&["up", "--wait", &file]);
    let capture = labs.command(&["capture", "answers:0", "-w", "-"]);
    let mut capture = { capture }.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let tshark = Command::new("tshark")
        .args(["-l", "-n", "-r", "-", "-Y", "icmp", "-T", "fields", "-e", "icmp.type"])
        .stdin(capture.stdout.take().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut tshark = tshark.expect("tshark (Debian: tshark)");
    let mut types = BufReader::new(tshark.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first: Vec<_> = types.by_ref().take(20).collect();
    for kind in ["0", "8"] {
        assert!(first.iter().any(|found| found == kind), "{first:?}");
    }
    assert!(capture.try_wait().unwrap().is_none(), "it was seen while it was captured");
    labs.run(&["down", &file]);
    // Both end with the lab, and tshark finds the file complete.
    assert!(types.all(|kind| matches!(kind.as_str(), "0" | "8")));
    assert!(capture.wait().unwrap().success());
    assert!(tshark.wait().unwrap().success());
}

#[test]
fn a_capture_is_whole_and_tells_directions() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("host-capture");
    let file = labs.file("pings", PINGS);
    labs.run(&["up", "--wait", &file]);
    let capture = labs.path("asks.pcapng");
    let out = labs.try_run(&["capture", "asks:0", "--count", "40", "-w", "asks.pcapng"]);
    assert!(out.status.success() && text(&out.stderr).contains("40 frames"), "{out:?}");
    let infos = examine("capinfos", &["-T", "-r", "-t", "-c"], &capture);
    assert!(infos.contains("pcapng") && infos.contains("\t40"), "{infos}");
    let expert = examine("tshark", &["-n", "-Y", "_ws.expert or _ws.malformed", "-r"], &capture);
    assert_eq!(expert, "", "nothing strange");
    let fields = ["-T", "fields", "-e", "icmp.type", "-e", "frame.packet_flags_direction"];
    let icmp = [&["-n", "-Y", "icmp"][..], &fields, &["-r"]].concat();
    let frames = examine("tshark", &icmp, &capture);
    // Seen from the guest: what it asks goes out (2), what it is told comes in (1).
    let asked = frames.lines().filter(|line| *line == "8\t0x00000002").count();
    let told = frames.lines().filter(|line| *line == "0\t0x00000001").count();
    assert_eq!(asked + told, frames.lines().count(), "{frames}");
    assert!(asked >= 15 && told >= 15, "{asked} and {told}");

    // From the other end of the cable, and of a frame only so much.
    labs.run(&["capture", "sw0:0", "--count", "10", "--snap", "20", "-w", "port.pcapng"]);
    let fields = ["-n", "-T", "fields", "-e", "frame.len", "-e", "frame.cap_len", "-r"];
    let frames = examine("tshark", &fields, &labs.path("port.pcapng"));
    assert_eq!(frames.lines().count(), 10);
    assert!(frames.lines().all(|line| line.ends_with("\t20")), "{frames}");

    // Ctrl-C, and a lab that ends, leave whole files too.
    for (name, end) in [("interrupted", true), ("ended", false)] {
        let name = format!("{name}.pcapng");
        let command = labs.command(&["capture", "asks:0", "-w", &name]);
        let mut child = { command }.stderr(Stdio::null()).spawn().unwrap();
        let path = labs.path(&name);
        eventually("frames", || std::fs::metadata(&path).is_ok_and(|file| file.len() > 1000));
        if end {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        } else {
            labs.run(&["down", &file]);
        }
        assert!(child.wait().unwrap().success(), "{name}");
        let counts = examine("capinfos", &["-T", "-r", "-c"], &path);
        let count: u64 = counts.trim().rsplit('\t').next().unwrap().parse().unwrap();
        assert!(count >= 5, "{counts}");
    }
}
