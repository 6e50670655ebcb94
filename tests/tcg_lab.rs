//! Labs on hardware KVM, which an emulated host has: pktguests, and unmodified Linux guests.
//!
//! What the Linux guests check is in `tests/tcg/guest/checks`, one file a check; the tests here only
//! read how each ended.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "common/tcg.rs"]
mod tcg;

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn doctor_finds_hardware_kvm() {
    let outcome = tcg::host().labctl("doctor -o json", 10 * MINUTE);
    assert_eq!(outcome.status, 0, "{outcome:#?}");
    let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(answer["checks"][0]["says"], "hardware KVM (AMD-V), usable");
    for (what, cost) in answer["costs"].as_object().unwrap() {
        assert!(cost["median_ns"].as_u64().unwrap() > 0, "{what}: {cost}");
    }
}

#[test]
fn every_cell_accounts_for_its_packets() {
    let lab = tcg::project().join("topologies/paper-pair.lab.yaml");
    let command = format!("bench --quick -o json {}", lab.display());
    let cells = || {
        let outcome = tcg::host().labctl(&command, 15 * MINUTE);
        // How many times as fast one cell is as another is not for an emulated host to say.
        assert!([0, 1].contains(&outcome.status), "{outcome:#?}");
        let results: Value = serde_json::from_str(&outcome.stdout).unwrap();
        results["cells"].as_array().unwrap().clone()
    };
    // An emulated host that has to wait for the real one makes trials void for want of time. A
    // second try tells that from packets that are missing every time.
    let accounted = |cell: &Value| {
        let has = |figure: &str| cell["metrics"][figure].is_object();
        cell["conserved"] == true && has("throughput_mpps") && has("rr_us")
    };
    let mut found = cells();
    if let Some(cell) = found.iter().find(|cell| !accounted(cell)) {
        println!("tried again, because of {cell:#}");
        found = cells();
    }
    assert_eq!(found.len(), 16);
    for cell in &found {
        assert!(accounted(cell), "{cell:#}");
    }
}

/// Runs shell commands in the emulated host, where `labctl` is ours; all have to succeed. Returns what
/// they print.
#[track_caller]
fn done(host: &mut tcg::Host, commands: &str) -> String {
    let labctl = format!("labctl() {{ NO_COLOR=1 {} \"$@\"; }}", env!("CARGO_BIN_EXE_labctl"));
    let outcome = host.run(&format!("set -e; {labctl}; {commands}"), 12 * MINUTE);
    assert_eq!(outcome.status, 0, "{commands}\n{}\n{}", outcome.stdout, outcome.stderr);
    outcome.stdout
}

/// What `labctl ps` says of a guest of the only lab. A host whose one emulated CPU is busy may make a
/// supervisor too late for `ps`, which lists it as unresponsive then.
fn guest(host: &mut tcg::Host, name: &str) -> Value {
    for _ in 0..20 {
        let labs: Value = serde_json::from_str(&done(host, "labctl ps -o json")).unwrap();
        let mut guests = labs[0]["guests"].as_array().into_iter().flatten();
        if let Some(found) = guests.find(|guest| guest["name"] == name) {
            return found.clone();
        }
        println!("asked again: {labs:#}");
    }
    panic!("there is no guest {name}");
}

#[test]
fn a_linux_guest_is_driven_from_outside() {
    let host = &mut *tcg::host();
    let file = tcg::project().join("tests/tcg/driven.lab.yaml");
    let up = format!("labctl up --wait --timeout 600s {}", file.display());
    let interfaces = done(host, "ls /sys/class/net");

    // Once it is ready it takes commands; both streams and the status come back.
    done(host, &up);
    let outcome = host.labctl("exec linux -- sh -c 'echo out; echo err >&2; exit 7'", MINUTE);
    let found = (outcome.status, outcome.stdout.as_str(), outcome.stderr.as_str());
    assert_eq!(found, (7, "out", "err"));
    done(host, "labctl exec linux -- 'ip addr add 10.0.0.1/16 dev eth0; ip link set eth0 up'");
    let said = done(host, "labctl exec linux -- ping -c 3 10.0.0.2");
    assert!(said.contains(" 0% packet loss"), "{said}");
    // Some 100 kB.
    let sums = done(host, "seq 1 20000 | cksum; labctl exec linux -- seq 1 20000 | cksum");
    let (ours, theirs) = sums.split_once('\n').unwrap();
    assert_eq!(ours, theirs);
    // Whoever goes away, however, takes the command along.
    for signal in ["INT", "TERM", "KILL"] {
        let labctl = env!("CARGO_BIN_EXE_labctl");
        let command = format!("timeout -s {signal} 2 {labctl} exec linux -- sleep 1000");
        let outcome = host.run(&command, MINUTE);
        assert!([124, 137].contains(&outcome.status), "it ran until then: {outcome:#?}");
        done(host, "labctl exec linux -- 'while pidof sleep; do usleep 100000; done'");
    }

    // As long as somebody may type, the console waits for its guest.
    let said = done(
        host,
        "{ echo 'echo $((6*7))'; until grep -q ^42 said; do sleep 0.1; done; } \
         | labctl console linux >said; cat said",
    );
    assert!(said.lines().any(|line| line.trim_end() == "42"), "{said}");

    // The host has a cable too.
    let said = done(host, "ip -o -4 addr show dev tapX");
    assert!(said.contains("10.0.0.100/16"), "{said}");
    let captured = done(
        host,
        "labctl capture sw0--host:tapX --count 4 -w captured 2>&1 & \
         while ! [ -s captured ]; do sleep 0.1; done; \
         busybox ping -c 3 10.0.0.1; busybox ping -c 3 10.0.0.2; wait $!; wc -c captured",
    );
    assert_eq!(captured.matches(" 0% packet loss").count(), 2, "{captured}");
    assert!(captured.contains("4 frames"), "{captured}");

    // It panics: that is told, and is none of the other guest's business.
    let outcome = host.labctl("exec linux -- 'echo c > /proc/sysrq-trigger'", MINUTE);
    assert!(outcome.status == 1 && outcome.stderr.contains("has ended"), "{outcome:#?}");
    let linux = guest(host, "linux");
    assert_eq!(linux["state"], "failed");
    let reason = linux["reason"].as_str().unwrap();
    assert!(reason.contains("Kernel panic - not syncing: sysrq triggered crash"), "{reason}");
    let outcome = host.labctl("exec linux -- true", MINUTE);
    assert!(outcome.status == 4 && outcome.stderr.contains("it has ended"), "{outcome:#?}");
    let said = done(host, "busybox ping -c 3 10.0.0.2");
    assert!(said.contains(" 0% packet loss"), "{said}");

    // It comes back, and is waited for.
    let name = done(host, &format!("labctl restart linux; {up}; labctl exec linux -- hostname"));
    assert_eq!(name, "linux");
    assert_eq!(guest(host, "linux")["restarts"], 1);

    let end = "labctl down; while pidof labctl >/dev/null; do sleep 0.1; done; ls /run/labctl";
    let left = done(host, end);
    assert_eq!(left, "");
    assert_eq!(done(host, "ls /sys/class/net"), interfaces);
}

#[test]
fn linux_and_pktguests_share_a_switch() {
    let host = &mut *tcg::host();
    let file = tcg::project().join("topologies/mixed.lab.yaml");
    done(host, &format!("labctl up --wait --timeout 600s {}", file.display()));
    let deadline = Instant::now() + 10 * MINUTE;
    let linux = loop {
        let linux = guest(host, "linux");
        if linux["state"] != "running" || Instant::now() > deadline {
            break linux;
        }
        std::thread::sleep(Duration::from_secs(1));
    };
    let log = done(host, "labctl logs linux");
    assert_eq!(linux["state"], "done", "{log}");
    assert!(log.contains(" 0% packet loss"), "{log}");
    // Its answers are a handful; the others are what the second pktguest sends.
    let received = linux["nics"][0]["counters"]["rx_frames"].as_u64();
    assert!(received > Some(100), "{linux:#}");
    for pktguest in ["answers", "sends"] {
        assert_eq!(guest(host, pktguest)["state"], "running");
    }
    done(host, "labctl down");
}

/// A lab of two Linux guests that has run to its end.
struct Run {
    /// What the guests printed, each line behind its guest's name.
    consoles: String,
    /// The document of `up --counters`.
    counters: Value,
}

/// Runs a lab file of `tests/tcg`, with or without interrupt moderation.
fn up(lab: &str, itr: bool) -> Run {
    let mut host = tcg::host();
    let file = tcg::project().join("tests/tcg").join(lab);
    let command = format!(
        "sed 's/itr: true/itr: {itr}/' {} | NO_COLOR=1 {} up --counters counters.json -",
        file.display(),
        env!("CARGO_BIN_EXE_labctl")
    );
    let outcome = host.run(&command, 40 * MINUTE);
    assert_eq!(outcome.status, 0, "{}\n{}", outcome.stdout, outcome.stderr);
    let counters = host.run("cat counters.json", MINUTE).stdout;
    Run { consoles: outcome.stdout, counters: serde_json::from_str(&counters).unwrap() }
}

impl Run {
    /// What a guest printed, line by line.
    fn said_by(&self, guest: &str) -> impl Iterator<Item = &str> {
        let lines = self.consoles.lines().filter_map(|line| line.split_once(" | "));
        lines.filter(move |(name, _)| name.trim_end() == guest).map(|(_, text)| text)
    }

    /// How a check ended, and what it said before.
    fn check(&self, name: &str) -> (bool, String) {
        let begin = format!("check: {name} begin");
        let end = format!("check: {name} exit ");
        let mut said = String::new();
        for line in self.said_by("left").skip_while(|line| *line != begin) {
            if let Some(status) = line.strip_prefix(&end) {
                return (status.starts_with("0 "), said);
            }
            said = said + line + "\n";
        }
        (false, format!("{said}it has not ended:\n{}", self.consoles))
    }

    /// What a guest's driver has counted: `ethtool -S`.
    fn ethtool(&self, guest: &str) -> HashMap<&str, u64> {
        let lines = self.said_by(guest).skip_while(|line| *line != "NIC statistics:").skip(1);
        let pairs = lines.map_while(|line| line.strip_prefix("     ")?.split_once(": "));
        pairs.map(|(name, count)| (name, count.parse().unwrap())).collect()
    }
}

/// Fails if this check in the left guest did.
fn check(name: &str) {
    static RUN: LazyLock<Run> = LazyLock::new(|| up("checks.lab.yaml", true));
    let (passed, said) = RUN.check(name);
    assert!(passed, "{name}:\n{said}");
}

#[test]
fn linux_pings_a_thousand_times_without_loss() {
    check("ping");
}

#[test]
fn linux_streams_tcp_and_udp_with_and_without_offloads() {
    check("iperf");
}

#[test]
fn linux_transfers_data_intact() {
    check("transfer");
}

#[test]
fn linux_sends_long_frames_where_they_are_wanted() {
    check("jumbo");
}

#[test]
fn linux_has_vlans() {
    check("vlan");
}

#[test]
fn linux_takes_the_interface_down_and_up_200_times() {
    check("down-up");
}

#[test]
fn linux_reloads_the_driver_20_times() {
    check("reload");
}

#[test]
fn the_drivers_own_hardware_test_passes() {
    check("selftest");
}

/// The stream with interrupt moderation, and without.
static STREAMS: LazyLock<[Run; 2]> =
    LazyLock::new(|| [true, false].map(|itr| up("traffic.lab.yaml", itr)));

#[test]
fn the_guests_count_what_the_switch_counts() {
    for run in STREAMS.iter() {
        let (passed, said) = run.check("stream");
        assert!(passed, "{said}");
        let ports = &run.counters["fabric"]["switches"][0][1];
        // Each port counts what came in there and what became of it at the only other port.
        for (guest, own, other) in [("left", 0, 1), ("right", 1, 0)] {
            let count = |port: usize, name: &str| ports[port][1][name].as_u64().unwrap();
            let driver = run.ethtool(guest);
            let (sent, received) = (driver["tx_packets"], driver["rx_packets"]);
            assert!(sent > 100 && received > 100, "{driver:#?}");
            assert_eq!(sent, count(own, "frames_in"), "{guest} sent\n{ports:#}");
            assert_eq!(received, count(other, "delivered"), "{guest} received\n{ports:#}");
            assert_eq!(count(own, "frames_in"), count(own, "delivered") + count(own, "refused"));
            let nic = &run.counters["guests"][own]["nics"][0];
            assert_eq!(driver["rx_missed_errors"], nic["rx"]["dropped"]["no_buffer"], "{nic:#}");
        }
    }
}

#[test]
fn moderation_saves_interrupts_and_costs_no_throughput() {
    // Interrupts a frame, and answers a second.
    let [moderated, unmoderated] = STREAMS.each_ref().map(|run| {
        let sum = |pointer: &str| {
            let nics = [0, 1].map(|guest| &run.counters["guests"][guest]["nics"][0]);
            nics.iter().map(|nic| nic.pointer(pointer).unwrap().as_f64().unwrap()).sum::<f64>()
        };
        let line = run.said_by("left").find_map(|line| line.strip_prefix("stream: ")).unwrap();
        let words: Vec<_> = line.split(' ').collect();
        let [answers, seconds] = [0, 3].map(|word| words[word].parse::<f64>().unwrap());
        (sum("/interrupts") / (sum("/rx/frames") + sum("/tx/frames")), answers / seconds)
    });
    println!("with itr {moderated:?}, without {unmoderated:?}");
    assert!(moderated.0 < 0.5 * unmoderated.0, "with itr {moderated:?}, without {unmoderated:?}");
    // It saves the driver most of its work; a real host that is busy in one of the runs only does
    // not make up for that.
    assert!(moderated.1 > 0.5 * unmoderated.1, "with itr {moderated:?}, without {unmoderated:?}");
}
