//! What the end-to-end tests share: KVM for one test at a time, small labs, the `labctl` command.

#![allow(dead_code, reason = "every test file uses its own part of this module")]

pub mod labs;

use std::fmt::Display;
use std::io::{self, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use labctl::lab::network::check_privileges;
use labctl::lab::{Final, LabCounters, RunningLab};
use labctl::optimizations::{Optimization, Optimizations};
use labctl::topology::{Guest, Lab};
use serde_json::Value;
use vmm_core::kvm::Hypervisor;

/// A guest that has not finished by then never will.
pub const STALL: Duration = Duration::from_secs(60);

/// KVM for one test at a time: guests poll, so more of them than cores only wait for each other.
pub struct Kvm {
    hypervisor: Hypervisor,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Kvm {
    type Target = Hypervisor;

    fn deref(&self) -> &Hypervisor {
        &self.hypervisor
    }
}

/// Waits for its turn and opens KVM; `None` if there is none and its tests are to be skipped.
pub fn kvm() -> Option<Kvm> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match Hypervisor::open() {
        Ok(hypervisor) => Some(Kvm { hypervisor, _turn: turn }),
        Err(error) if std::env::var_os("LABCTL_SKIP_KVM_TESTS").is_some_and(|v| v == "1") => {
            say(&format!("SKIPPED for LABCTL_SKIP_KVM_TESTS=1: {error}"));
            None
        }
        Err(error) => panic!("{error}; LABCTL_SKIP_KVM_TESTS=1 skips the tests that need KVM"),
    }
}

/// Whether `labctl` may create TAPs and bridges for this user, as root or in a user namespace; says so
/// if not.
pub fn may_use_tap() -> bool {
    let output = labctl(&["doctor", "-o", "json"]).output().expect("labctl runs");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON on stdout");
    let mut checks = found["checks"].as_array().expect("checks").iter();
    let tap = checks.find(|check| check["what"] == "TAP and bridge").expect("a check of TAPs");
    if tap["ok"] != true {
        say(&format!("SKIPPED labs with `vale: false`: {}, {}", tap["says"], tap["mended_by"]));
    }
    tap["ok"] == true
}

/// Whether this very process may. It has threads, so it cannot enter a user namespace any more.
fn may_use_tap_here() -> bool {
    let allowed = check_privileges();
    if let Err(error) = &allowed {
        say(&format!(
            "SKIPPED the cells with `vale: false`: {error}; run the tests as root, or inside \
             `unshare --user --map-current-user --keep-caps`"
        ));
    }
    allowed.is_ok()
}

/// Says something that the test harness does not capture.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// All combinations of the four optimizations that this user may run.
pub fn cells() -> Vec<Optimizations> {
    let tap = may_use_tap_here();
    let cell = |index: u32| {
        (0..)
            .zip(Optimization::ALL)
            .fold(Optimizations::NONE, |cell, (bit, which)| cell.with(which, index >> bit & 1 == 1))
    };
    (0..16).map(cell).filter(|cell| cell.vale || tap).collect()
}

/// Two guests, `left` and `right`, on one switch. `more` is the rest of the lab file: `defaults`,
/// `guests` and `bench`.
pub fn lab(on: Optimizations, more: &str) -> Lab {
    let text = format!(
        "name: e2e\n\
         switches: {{ sw0: {{}} }}\n\
         optimizations: {{ itr: {}, sc: {}, csb: {}, vale: {} }}\n{more}\n",
        on.itr, on.sc, on.csb, on.vale
    );
    Lab::parse(Path::new("e2e.lab.yaml"), &text)
        .unwrap_or_else(|error| panic!("{}\n{text}", error.render(false, None)))
}

/// Runs the control plane's part of a test.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("an event loop").block_on(future)
}

/// What a lab did: the guests' own reports, then everybody's counters.
pub struct Outcome {
    /// In the lab file's order.
    pub reports: Vec<Final>,
    /// All frames are where they belong when these are read.
    pub counters: LabCounters,
}

/// Runs a lab whose first guest speaks of itself and whose second listens until it is unplugged.
pub async fn play(kvm: &Hypervisor, lab: &Lab) -> Outcome {
    let mut lab = lab.clone();
    listen_until_unplugged(&mut lab.guests[1]);
    let mut running = RunningLab::start(kvm, &lab).await.expect("the lab starts");
    running.ready().await.expect("the guests boot");
    // A listener that is slow to wake up could miss its whole time on the network otherwise.
    running.plug_in_listeners().await.expect("counters");
    running.set_links(true);
    let mut reports = Vec::new();
    for guest in [0, 1] {
        let report =
            running.finished(guest, Instant::now() + STALL).await.expect("the guests live");
        let Some(report) = report else {
            let counters = running.counters().await;
            panic!(
                "{}, {}: `{}` stalls: {counters:#?}",
                lab.optimizations,
                lab.policy,
                running.name(guest)
            );
        };
        reports.push(report);
        running.settle().await.expect("counters");
        running.set_link(1, false);
    }
    let counters = running.counters().await.expect("counters");
    running.stop();
    Outcome { reports, counters }
}

/// Has a guest end its role when it is unplugged.
pub fn listen_until_unplugged(guest: &mut Guest) {
    guest.pktguest_mut().expect("a pktguest").workload.until_unplugged = true;
}

/// The `labctl` command, as a user without any settings of its own would run it.
pub fn labctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_labctl"));
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| {
        let name = name.as_encoded_bytes();
        name.starts_with(b"LABCTL_") || name.starts_with(b"GITHUB_")
    }) {
        command.env_remove(name);
    }
    // Not among the labs of whoever runs the tests.
    let state = std::env::temp_dir().join(format!("labctl-state-{}", std::process::id()));
    command.env("LABCTL_STATE_DIR", state);
    command.env("NO_COLOR", "1").args(args).stdin(Stdio::null());
    command
}

/// A directory of its own for a test, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates it.
    pub fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("labctl-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file into it; returns its path.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, contents).expect("a temporary file");
        path.into_os_string().into_string().expect("temporary directories have plain names")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a process lives. Somebody who ends orphans but never buries them may be around.
pub fn lives(pid: impl Display) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Waits for something that is bound to happen.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + STALL;
    while !happened() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
