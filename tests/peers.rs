//! Side by side with QEMU: one file, one run, one table.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use common::labs::{Labs, text};
use common::{Scratch, eventually, kvm, labctl, listen_until_unplugged, lives, may_use_tap, say};
use labctl::lab::RunningLab;
use labctl::topology::Lab;
use serde_json::Value;

/// Ours, and QEMU's both ways; one round. QEMU's cells have parameters of their own.
const LAB: &str = "\
name: peers
switches: { sw0: {} }
defaults: { nics: [{ switch: sw0 }] }
guests: { left: {}, right: {} }
bench:
  throughput: { from: left, to: right, duration: 50ms }
  rr: { from: left, to: right, duration: 50ms }
  cells:
    ours: {}
    tap: { vmm: qemu, throughput: { frame: 1514, burst: 8 } }
    socket: { vmm: qemu, link: socket, only: rr }
  reference: tap
  rounds: 1
";

fn bench(dir: &Scratch, text: &str) -> Command {
    let file = dir.file("peers.lab.yaml", text);
    let results = dir.path("results.json").into_os_string().into_string().unwrap();
    labctl(&["bench", &file, "-o", "json", "--results", &results])
}

#[track_caller]
fn document(mut command: Command) -> (Value, String) {
    let Output { status, stdout, stderr } = command.output().expect("labctl runs");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(0), "{stderr}");
    (serde_json::from_slice(&stdout).expect("JSON on stdout"), stderr)
}

#[test]
fn qemu_and_labctl_run_the_same_guests_in_one_table() {
    let Some(_turn) = kvm() else { return };
    if !may_use_tap() {
        return say("SKIPPED: QEMU's guests meet over TAPs");
    }
    let dir = Scratch::new("peers");
    let (document, _) = document(bench(&dir, LAB));
    assert!(document["host"]["qemu"].as_str().unwrap().starts_with(char::is_numeric));
    assert_eq!(document["reference"], "tap");
    let words = |cell: &Value| ["name", "vmm", "nic", "link"].map(|key| cell[key].clone());
    let cells = document["cells"].as_array().unwrap();
    assert_eq!(words(&cells[0]), ["ours", "labctl", "e1000", "vale"]);
    assert_eq!(words(&cells[1]), ["tap", "qemu", "e1000", "tap"]);
    assert_eq!(words(&cells[2]), ["socket", "qemu", "e1000", "socket"]);
    for cell in cells {
        for sample in cell["samples"].as_array().unwrap() {
            assert!(sample["void_reason"].is_null(), "{cell:#}");
            let count = |key: &str| sample[key].as_u64().unwrap_or(0);
            let found = count("received") + count("dropped") + count("lost");
            assert_eq!(count("sent"), found, "{sample:#}");
        }
    }
    let [_, tap, socket] = cells.as_slice() else { panic!("{cells:#?}") };
    assert_eq!(tap["samples"].as_array().unwrap().len(), 2);
    assert!(tap["samples"][0]["counters"]["tdt_writes"].as_u64().unwrap() > 0, "as guests say");
    assert!(tap["metrics"]["exits_per_packet"].is_null(), "QEMU's exits are not known");
    assert!(tap["metrics"]["cpu_us_per_packet"].as_f64().unwrap() > 0.1, "of other processes");
    assert!(
        socket["metrics"]["throughput_mpps"].is_null() && socket["metrics"]["rr_us"].is_object()
    );
    assert!(cells[0]["to_reference"]["throughput"].is_null(), "other frames");
    assert!(cells[0]["to_reference"]["rr"]["ratio"].as_f64().unwrap() < 2.0);
}

#[test]
fn without_qemu_its_cells_are_skipped_and_say_why() {
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("no-qemu");
    let (document, stderr) = document({
        let mut command = bench(&dir, LAB);
        command.env("PATH", dir.path(""));
        command
    });
    let reason = "no qemu-system-x86_64 in PATH (Debian: apt-get install qemu-system-x86)";
    assert!(stderr.contains(&format!("tap: skipped: {reason}")), "{stderr}");
    let [ours, tap, socket] = document["cells"].as_array().unwrap().as_slice() else {
        panic!("three cells: {document:#}")
    };
    assert_eq!((&tap["skipped"], &socket["skipped"]), (&reason.into(), &reason.into()));
    assert!(tap["samples"].as_array().unwrap().is_empty());
    assert!(ours["skipped"].is_null() && ours["metrics"]["throughput_mpps"].is_object());
    assert!(document["host"].get("qemu").is_none());

    let alone = LAB.replace("    ours: {}\n", "");
    let mut command = bench(&dir, &alone);
    let output = command.env("PATH", dir.path("")).output().expect("labctl runs");
    assert_eq!(output.status.code(), Some(11), "nothing is left to measure");
    let up = alone.replace("bench:", "vmm: qemu\nbench:");
    let file = dir.file("up.lab.yaml", up);
    let output = labctl(&["up", &file]).env("PATH", dir.path("")).output().expect("labctl runs");
    assert_eq!(output.status.code(), Some(11));
    assert!(String::from_utf8_lossy(&output.stderr).contains(reason));
}

/// A QEMU that starts and fails: its cell fails, with its words, and the others do not.
#[test]
fn a_qemu_that_fails_is_quoted() {
    use std::os::unix::fs::PermissionsExt;
    let Some(_turn) = kvm() else { return };
    let dir = Scratch::new("bad-qemu");
    let script = "#!/bin/sh\ntest \"$1\" = --version && echo 'QEMU emulator version 9.9' && exit\n\
                  echo 'qemu: warning: nothing' >&2\necho 'qemu: no such luck' >&2\nexit 3\n";
    let qemu = dir.file("qemu-system-x86_64", script);
    std::fs::set_permissions(qemu, PermissionsExt::from_mode(0o755)).unwrap();
    let text = LAB.replace("    tap: { vmm: qemu, throughput: { frame: 1514, burst: 8 } }\n", "");
    let mut command = bench(&dir, &text.replace("reference: tap", "reference: ours"));
    let path = format!("{}:{}", dir.path("").display(), std::env::var("PATH").unwrap());
    let output = command.env("PATH", path).output().expect("labctl runs");
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let [ours, theirs] = document["cells"].as_array().unwrap().as_slice() else {
        panic!("two cells: {document:#}")
    };
    let reason = theirs["samples"][0]["void_reason"].as_str().unwrap();
    assert!(reason.ends_with("QEMU ended with exit status: 3: qemu: no such luck"), "{reason}");
    assert!(ours["metrics"]["throughput_mpps"].is_object());
}

/// QEMUs that this process has started.
fn qemus() -> Vec<u32> {
    let children = std::fs::read_dir("/proc/self/task").unwrap().flat_map(|task| {
        std::fs::read_to_string(task.unwrap().path().join("children"))
            .unwrap_or_default()
            .split(' ')
            .filter_map(|pid| pid.parse().ok())
            .collect::<Vec<u32>>()
    });
    let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    children.filter(|pid| name(pid).starts_with("qemu")).collect()
}

#[test]
fn cables_of_qemu_are_not_looked_for() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("qemu-cables");
    let lab = "\
name: cables
vmm: qemu
link: socket
switches: { sw0: {} }
defaults: { nics: [sw0] }
guests: { left: {}, right: {} }
";
    labs.run(&["up", "--wait", &labs.file("cables", lab)]);
    let refused: [&[&str]; 2] = [&["link", "set", "left:0", "--down"], &["capture", "left:0"]];
    for verb in refused {
        let out = labs.try_run(verb);
        assert_eq!(out.status.code(), Some(4), "{out:?}");
        let said = text(&out.stderr);
        assert!(said.contains("QEMU runs lab `cables`, and its cables are its own"), "{said}");
    }
    let out = labs.try_run(&["link", "show", "left:0"]);
    assert_eq!(out.status.code(), Some(4), "{out:?}");
    assert!(text(&out.stderr).contains("those of QEMU are its own"), "{out:?}");
    let out = labs.try_run(&["link", "show"]);
    assert!(out.status.success(), "{out:?}");
    assert!(text(&out.stderr).contains("those of QEMU are its own"), "{out:?}");
}

#[test]
fn a_lab_of_qemus_runs_and_ends_with_its_thread() {
    let Some(kvm) = kvm() else { return };
    let text = "\
name: up
vmm: qemu
link: socket
switches: { sw0: {} }
defaults: { nics: [{ switch: sw0 }] }
guests:
  left: { workload: { role: tx, to: right, count: 1000 } }
  right: { workload: { role: rx } }
";
    let mut lab = Lab::parse(Path::new("up.lab.yaml"), text).unwrap();
    listen_until_unplugged(&mut lab.guests[1]);
    let hypervisor = &*kvm;
    let left = std::thread::scope(|scope| {
        let run = || {
            common::block_on(async {
                let mut running = RunningLab::start(hypervisor, &lab).await.unwrap();
                running.ready().await.unwrap();
                running.set_links(true);
                let deadline = std::time::Instant::now() + common::STALL;
                let sent = running.finished(0, deadline).await.unwrap().expect("a report");
                running.settle().await.unwrap();
                // What is between two QEMUs by then nobody sees.
                tokio::time::sleep(Duration::from_secs(1)).await;
                running.set_link(1, false);
                let got = running.finished(1, deadline).await.unwrap().expect("a report");
                assert_eq!((sent.packets, got.packets, got.lost), (1000, 1000, 0));
                let left = qemus();
                assert_eq!(left.len(), 2);
                // As `kill -9` would leave them.
                std::mem::forget(running);
                left
            })
        };
        scope.spawn(run).join().unwrap()
    });
    eventually("QEMU ends with the thread that started it", || !left.iter().any(|pid| lives(*pid)));
}
