//! A lab's life from `up` to `down`, as a person sees it: the real command, real guests, real files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::labs::{Labs, PAIR, repository, text};
use common::{eventually, kvm, may_use_tap, say};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[test]
fn a_lab_comes_up_tells_how_it_is_and_goes_without_residue() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("life");
    let file = labs.file("pair", PAIR);
    labs.run(&["up", "--wait", &file]);
    let status = labs.ps();
    assert_eq!(status[0]["state"], "running", "{status:#}");
    let guest = labs.guest("left");
    assert_eq!((&guest["state"], &guest["nics"][0]["up"]), (&"running".into(), &true.into()));
    let happened: Vec<_> = labs.events().into_iter().map(|(event, _)| event).collect();
    let ready = happened.iter().filter(|event| *event == "guest-ready").count();
    assert_eq!((ready, happened.last().unwrap().as_str()), (3, "lab-ready"), "{happened:?}");
    eventually("frames flow", || {
        labs.guest("right")["nics"][0]["counters"]["rx_frames"].as_u64() > Some(100)
    });
    assert!(labs.run(&["logs", "left"]).contains("\"role\":\"ping\""));
    let table = labs.json(&["mac-table", "sw0"]);
    let known: Vec<_> = table.as_array().unwrap().iter().map(|entry| &entry["guest"]).collect();
    assert!(known.contains(&&"left".into()) && known.contains(&&"right".into()), "{table:#}");
    // The same name twice is the same lab; another name is another lab.
    let out = labs.try_run(&["up", "--wait", &file]);
    assert!(out.status.success() && text(&out.stderr).contains("nothing to change"), "{out:?}");
    let other = labs.file("other", &PAIR.replace("name: pair", "name: other"));
    labs.run(&["up", "--wait", &other]);
    assert_eq!(labs.ps().as_array().unwrap().len(), 2);
    labs.run(&["down", "--lab", "pair"]);
    assert_eq!(labs.ps()[0]["lab"], "other", "the other one is still there");
    labs.run(&["down", &other]);
    assert!(labs.is_clean(), "{:?}", fs::read_dir(labs.state()).map(Iterator::collect::<Vec<_>>));
    let code = labs.try_run(&["down", "--lab", "pair"]).status.code();
    assert_eq!(code, Some(4), "there is no such lab any more");
}

/// Whoever has a file here does not mean somebody else's lab.
#[test]
fn a_file_with_mistakes_does_not_lead_to_another_lab() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("mistakes");
    let idle = PAIR.replace("{ role: ping, to: right, rate: 1kpps }", "{ role: idle }");
    labs.run(&["up", "--wait", &labs.file("other", &idle.replace("name: pair", "name: other"))]);
    fs::remove_file(labs.path("other.lab.yaml")).unwrap();
    let verbs: [&[&str]; 5] = [
        &["down"],
        &["restart", "third"],
        &["link", "set", "third:0", "--down"],
        &["exec", "third", "--", "true"],
        &["console", "third"],
    ];
    let refused = |code| {
        for verb in verbs {
            let out = labs.try_run(verb);
            assert_eq!(out.status.code(), Some(code), "{verb:?}: {out:?}");
        }
        assert_eq!(labs.ps()[0]["lab"], "other");
        let third = labs.guest("third");
        assert_eq!((&third["restarts"], &third["nics"][0]["up"]), (&0.into(), &true.into()));
    };
    // A name that nobody can tell, then one of a lab that does not run.
    labs.file("pair", "name: pair\nname: other\nguests: {}\n");
    refused(10);
    labs.file("pair", &PAIR.replace("name: pair", "name: ${NO_SUCH_VARIABLE}"));
    refused(10);
    labs.file("pair", &PAIR.replace("sw0: {}", "sw0: { kind: no such }"));
    refused(4);
    labs.file("second", PAIR);
    refused(2);
    assert!(text(&labs.try_run(&["down"]).stderr).contains("--lab NAME"));
    // Of several files here the one whose lab runs is meant.
    let third = labs.file("third", "name: other\n");
    labs.run(&["restart", "third"]);
    fs::remove_file(third).unwrap();
    fs::remove_file(labs.path("second.lab.yaml")).unwrap();
    // Its own lab can be ended by a file that has become wrong.
    labs.file("pair", &idle);
    labs.run(&["up", "--wait", "pair.lab.yaml"]);
    labs.file("pair", &idle.replace("third: {}", "third: { memory: 64, kernel: gone }"));
    labs.run(&["restart", "third"]);
    labs.run(&["down", "pair.lab.yaml"]);
    // Where there is no file, the only lab that runs is meant.
    fs::remove_file(labs.path("pair.lab.yaml")).unwrap();
    labs.run(&["down"]);
    assert!(labs.is_clean());
}

#[test]
fn a_guest_that_fails_is_named_and_comes_back() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("faults");
    let file = labs.file(
        "faults",
        &PAIR
            .replace("name: pair", "name: faults")
            .replace("third: {}", "crashes: {}\n  faults: {}\n  hangs: {}"),
    );
    labs.run(&["up", "--wait", &file]);
    for (guest, command) in [("crashes", "crash"), ("faults", "triple-fault"), ("hangs", "hang")] {
        let mut console = labs.command(&["console", guest]);
        let console = console.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut console = console.spawn().expect("labctl");
        let mut keyboard = console.stdin.take().expect("a pipe");
        keyboard.write_all(format!("{command}\n").as_bytes()).expect("it reads");
        eventually(command, || labs.guest(guest)["state"] != "running");
        drop(keyboard);
        console.wait().expect("it ends");
    }
    assert_eq!(labs.guest("hangs")["state"], "hanging");
    let reason = |guest| labs.guest(guest)["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason("faults").contains("triple-fault"), "{}", reason("faults"));
    assert_eq!(labs.guest("faults")["nics"][0]["up"], false, "a dead NIC has no carrier");
    assert!(!reason("crashes").is_empty());
    assert_eq!(labs.ps()[0]["state"], "degraded");
    let frames = || labs.guest("right")["nics"][0]["counters"]["rx_frames"].as_u64();
    let before = frames();
    eventually("the others go on", || frames() > before);
    let restarts = labs.guest("faults")["restarts"].as_u64();
    labs.run(&["restart", "faults"]);
    assert_eq!(labs.guest("faults")["restarts"].as_u64(), restarts.map(|n| n + 1));
    let named = labs.events();
    assert!(named.contains(&("guest-hangs".into(), Some("hangs".into()))), "{named:?}");
    for guest in ["crashes", "faults"] {
        assert!(named.contains(&("guest-failed".into(), Some(guest.into()))), "{named:?}");
    }
    labs.run(&["restart", "hangs"]);
    eventually("it runs again", || labs.guest("hangs")["state"] == "running");
    labs.run(&["restart", "left"]);
    eventually("a guest that did not fail starts anew, too", || {
        labs.guest("left")["state"] == "running"
    });
}

/// What one does not mention is as the other has set it, also at the same moment.
#[test]
fn two_change_a_cable_at_the_same_moment() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("both");
    labs.run(&["up", "--wait", &labs.file("pair", PAIR)]);
    for round in 1..=10 {
        let delay = format!("{round}ms");
        let set = |args: &[&str]| {
            let mut set = labs.command(&[&["link", "set", "right:0"], args].concat());
            set.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("labctl")
        };
        let both = [set(&["--delay", &delay]), set(&["--rate", &format!("{round}Mbit")])];
        for mut set in both {
            assert!(set.wait().expect("labctl").success());
        }
        let link = &labs.json(&["link", "show", "right:0"])[0]["impairments"];
        let is = [&link["delay_us"], &link["rate_bps"]].map(Value::as_u64);
        assert_eq!(is, [Some(round * 1000), Some(round * 1_000_000)], "round {round}: {link:#}");
    }
}

/// Captures and tables of addresses go by the ports.
#[test]
fn a_guest_that_is_restarted_has_the_ports_of_before() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("ports");
    let mut lab = PAIR.replace("{ role: ping, to: right, rate: 1kpps }", "{ role: idle }");
    if may_use_tap() {
        lab = lab
            .replace("sw0: {}", "sw0: {}, br0: { kind: bridge }")
            .replace("nics: [sw0]", "nics: [sw0, br0]");
    }
    labs.run(&["up", "--wait", &labs.file("pair", &lab)]);
    let ports = |guest| {
        let nics = labs.guest(guest)["nics"].as_array().unwrap().clone();
        nics.iter().map(|nic| nic["port"].clone()).collect::<Vec<_>>()
    };
    let before = ["right", "third"].map(ports);
    // Port 0 of the switch, and the first guest's TAP, are free from now on.
    let without = lab.lines().filter(|line| !line.starts_with("  left:")).collect::<Vec<_>>();
    labs.run(&["up", "--wait", &labs.file("pair", &(without.join("\n") + "\n"))]);
    for guest in ["third", "right", "third"] {
        labs.run(&["restart", guest]);
        assert_eq!(["right", "third"].map(ports), before);
    }
    let link = &labs.json(&["link", "show", "third:0"])[0];
    assert_eq!(link["port"], before[1][0], "{link:#}");
}

/// Whoever is second makes the lab what his file says, as if he had come later.
#[test]
fn several_bring_a_lab_up_at_the_same_moment() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("moment");
    let file = labs.file("pair", PAIR);
    for round in 0..3 {
        let up = || {
            let mut up = labs.command(&["up", "--wait", &file]);
            up.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("labctl")
        };
        let several: Vec<_> = (0..5).map(|_| up()).collect();
        for up in several {
            let out = up.wait_with_output().expect("labctl");
            assert!(out.status.success(), "round {round}: {out:?}");
        }
        let status = labs.ps();
        assert_eq!((status.as_array().unwrap().len(), &status[0]["state"]), (1, &"running".into()));
        assert_eq!(labs.guest("third")["restarts"], 0);
        labs.run(&["down", &file]);
        assert!(labs.is_clean());
    }
}

/// What came through a pipe cannot be read again, and has no path.
#[test]
fn a_lab_from_a_pipe_says_so() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("pipe");
    let mut up = labs.command(&["up", "--wait", "-"]);
    let mut up = up.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("labctl");
    up.stdin.take().expect("a pipe").write_all(PAIR.as_bytes()).expect("it reads");
    assert!(up.wait().expect("labctl").success());
    assert_eq!(labs.ps()[0]["file"], "-");
    kill(supervisor(&labs).expect("it runs"));
    let ps = || text(&labs.try_run(&["ps", "--all", "-o", "json"]).stdout);
    eventually("it is dead", || ps().contains("\"dead\""));
    assert_eq!(labs.json(&["ps", "--all"])[0]["file"], "-");
    let out = labs.try_run(&["logs", "--lab", "pair"]);
    assert!(text(&out.stderr).contains("`labctl up -` with the same lab file"), "{out:?}");
}

/// What `-v` asks for is told by the process that runs the lab.
#[test]
fn a_supervisor_says_as_much_as_was_asked_for() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("verbose");
    let file = labs.file("pair", PAIR);
    for (verbose, says) in [(&["up", "--wait"][..], false), (&["-vv", "up", "--wait"], true)] {
        labs.run(&[verbose, &[&file]].concat());
        drop(UnixStream::connect(labs.state().join("pair/control.sock")).unwrap());
        let log = labs.state().join("pair/supervisor.log");
        let told = || fs::read_to_string(&log).unwrap().contains("a client went away");
        match says {
            true => eventually("it is in the log", told),
            false => assert!(!told()),
        }
        labs.run(&["down", &file]);
    }
}

/// One lab that cannot be ended does not keep the others.
#[test]
fn down_all_ends_all_that_can_be() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("all");
    labs.run(&["up", "--wait", &labs.file("pair", PAIR)]);
    // Somebody holds a lab, listens, and never lets go.
    let held = labs.state().join("a-held");
    fs::create_dir(&held).unwrap();
    fs::set_permissions(&held, fs::Permissions::from_mode(0o700)).unwrap();
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(held.join("lock"), other.id().to_string()).unwrap();
    let lock = fs::File::open(held.join("lock")).unwrap();
    lock.lock().unwrap();
    let listener = UnixListener::bind(held.join("control.sock")).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let out = labs.try_run(&["down", "--all"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let said = text(&out.stderr);
    assert!(said.contains("pair is down") && said.contains("is no supervisor"), "{said}");
    assert!(!labs.state().join("pair").exists());
    assert!(other.try_wait().unwrap().is_none(), "nobody has killed it");
    other.kill().unwrap();
    other.wait().unwrap();
    fs::remove_dir_all(held).unwrap();
}

#[test]
fn a_supervisor_takes_signals_as_a_service_does() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("signals");
    let file = labs.file("pair", PAIR);
    labs.run(&["up", "--wait", &file]);
    let pid = supervisor(&labs).expect("it runs");
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().split(' ').nth(5).unwrap(),
        pid.to_string(),
        "its own session"
    );
    send(pid, Signal::HUP);
    assert_eq!(labs.ps()[0]["state"], "running", "the end of a terminal is not its own");
    send(pid, Signal::TERM);
    eventually("it has cleaned up", || labs.is_clean());
}

#[test]
fn a_reader_that_stands_still_holds_nothing() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("still");
    let file = labs.file("pair", PAIR);
    let (_reader, mut stdout) = std::io::pipe().expect("a pipe");
    fcntl_setfl(&stdout, OFlags::NONBLOCK).expect("ours");
    while stdout.write(&[0; 4096]).is_ok() {}
    fcntl_setfl(&stdout, OFlags::empty()).expect("ours");
    let mut up = labs.command(&["up", &file]);
    let mut up = up.stdout(stdout).stderr(Stdio::null()).spawn().expect("labctl");
    eventually("it runs", || labs.ps()[0]["state"] == "running");
    eventually("there is a line to print", || !labs.run(&["logs", "--lab", "pair"]).is_empty());
    assert_eq!(labs.ps()[0]["state"], "running");
    labs.run(&["down", &file]);
    up.wait().expect("it ends");
    assert!(labs.is_clean());
}

#[test]
fn what_keeps_a_supervisor_from_coming_up_is_said() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("refused");
    let file = labs.file("pair", PAIR);
    let far = labs.path(&"far".repeat(30));
    let out = labs.command(&["up", "--wait", &file]).env("LABCTL_STATE_DIR", &far).output();
    let out = out.expect("labctl");
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("control socket"), "{out:?}");
    assert_eq!(fs::read_dir(&far).expect("it is there").count(), 0, "nothing is left");
}

#[test]
fn a_killed_supervisor_needs_no_repair() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("kill");
    let bridges = if may_use_tap() { "optimizations: { vale: false }\n" } else { "" };
    let files = [labs.file("pair", PAIR), labs.file("tap", &format!("{bridges}{PAIR}"))];
    let begin = Instant::now();
    for round in 0..100u64 {
        let file = &files[(round % 2) as usize];
        let mut up = labs.command(&["up", "--wait", file]);
        let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("labctl");
        // From before it has its directory until long after it is ready.
        std::thread::sleep(Duration::from_millis(round * 37 % 400));
        match supervisor(&labs) {
            Some(pid) => kill(pid),
            // Not there yet: then it is the command itself that dies.
            None => up.kill().expect("it is ours"),
        }
        up.wait().expect("labctl ends");
        // One whose parent died before it had its directory may be on its way to the next round.
        supervisor(&labs).into_iter().for_each(kill);
    }
    say(&format!("100 kills in {:?}", begin.elapsed()));
    // Those too that have not taken the lab yet.
    eventually("nobody is left", || {
        let left = supervisors(&labs);
        left.iter().copied().for_each(kill);
        left.is_empty()
    });
    for file in &files {
        labs.run(&["up", "--wait", file]);
        labs.run(&["down", file]);
    }
    assert!(labs.is_clean());
}

/// The process that has said that the lab is its own, if it lives.
fn supervisor(labs: &Labs) -> Option<i32> {
    let pid = fs::read_to_string(labs.state().join("pair/lock")).ok()?.trim().parse().ok()?;
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    words.contains("supervise").then_some(pid)
}

/// All processes that are, or are about to be, a supervisor of these labs.
fn supervisors(labs: &Labs) -> Vec<i32> {
    let place = labs.path("").display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ours = |pid: &i32| {
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.contains("supervise") && words.contains(&place)
    };
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(ours).collect()
}

fn kill(pid: i32) {
    send(pid, Signal::KILL);
}

fn send(pid: i32, signal: Signal) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_raw(pid).expect("a process"), signal);
}

/// Four switches in a row, sixteen guests each, and who has pinged whom.
#[test]
fn sixty_four_guests_on_four_switches_ping_each_other() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("many");
    let mut text = "name: many\n\
                    switches: { sw0: {}, sw1: {}, sw2: {}, sw3: {} }\n\
                    links: [sw0 -- sw1, sw1 -- sw2, sw2 -- sw3]\n\
                    defaults:\n  memory: 48MiB\n  ring: 256\n  spin: 0\n  \
                    workload: { role: icmp, to: all, count: 3 }\nguests:\n"
        .to_owned();
    for guest in 0..64 {
        text += &format!("  g{guest}: {{ nics: [sw{}] }}\n", guest % 4);
    }
    let file = labs.file("many", &text);
    let begin = Instant::now();
    labs.run(&["up", "--wait", "--timeout", "300s", &file]);
    say(&format!("64 guests on 4 switches were ready after {:?}", begin.elapsed()));
    let mut missing = String::new();
    eventually("all have pinged all", || {
        let log = labs.run(&["logs"]);
        let done: Vec<_> = log.lines().filter(|line| line.contains("\"event\":\"done\"")).collect();
        missing = done.iter().filter(|line| !line.contains("\"reached\":63")).copied().collect();
        done.len() == 64
    });
    assert_eq!(missing, "", "every guest has reached the 63 others");
    labs.run(&["down", &file]);
    assert!(labs.is_clean());
}

#[test]
fn closed_outputs_full_disks_and_lost_files_are_said_and_no_more() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("odd");
    let file = labs.file("pair", PAIR);
    labs.run(&["up", "--wait", &file]);
    // A reader that has seen enough.
    let mut logs = labs.command(&["logs", "--follow"]);
    let mut logs = logs.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("labctl");
    drop(logs.stdout.take());
    labs.run(&["restart", "third"]);
    assert!(logs.wait().expect("it ends").success(), "a closed stdout is no failure");
    // A full disk.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let out = labs.command(&["ps"]).stdout(full).output().expect("labctl");
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("No space left"), "{out:?}");
    // The directory of a lab that runs is taken away.
    fs::remove_dir_all(labs.state().join("pair")).expect("the directory");
    let out = labs.try_run(&["ps"]);
    assert!(out.status.success(), "{out:?}");
    let left = labs.try_run(&["down", "--lab", "pair"]);
    assert_eq!(left.status.code(), Some(4), "{left:?}");
    // Nobody can end it any more.
    eventually("it ends by itself", || supervisors(&labs).is_empty());
}

#[test]
fn the_example_labs_run() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("examples");
    let run = |file: &str| labs.run(&["up", &repository(&format!("topologies/{file}.lab.yaml"))]);
    let finals = |out: &str| -> Vec<(String, Value)> {
        let report = |line: &str| {
            let (guest, text) = line.split_once(" | ")?;
            let report: Value = serde_json::from_str(text).ok()?;
            (report["event"] == "final").then(|| (guest.trim().to_owned(), report))
        };
        out.lines().filter_map(report).collect()
    };
    let chain = finals(&run("chain"));
    let of = |guest: &str| &chain.iter().find(|(name, _)| name == guest).expect("it has ended").1;
    let [sent, received] = ["sent", "received"].map(|key| of("left")[key].as_u64().unwrap());
    // 500 are due; a host that is busy for a second or two costs some of them.
    assert!((50..=502).contains(&sent), "{sent} sent");
    assert!(received * 10 >= sent * 9, "{received} of {sent} through the middle");
    assert!(of("left")["min_ns"].as_u64() >= Some(2_000_000), "twice a millisecond of cable");
    assert_eq!(of("middle")["drops_forth"], 0);

    let star = finals(&run("star"));
    assert_eq!(star.len(), 8, "{star:?}");
    // Of seven; the bad cables may cost some of them every ping that they send or get.
    assert!(star.iter().all(|(_, report)| report["reached"].as_u64() >= Some(5)), "{star:#?}");
}

#[test]
fn what_init_writes_runs_at_once() {
    let Some(_kvm) = kvm() else { return };
    for template in ["pair", "star", "bench"] {
        let labs = Labs::new(&format!("init-{template}"));
        labs.run(&["init", "--template", template]);
        // With the only file in its directory nobody has to name it.
        let table = labs.run(&["validate"]);
        assert!(table.contains("GUEST"), "{table}");
        let plan = labs.try_run(&["plan"]);
        match template {
            "bench" => assert!(plan.status.success(), "{plan:?}"),
            _ => assert!(text(&plan.stderr).contains("bench"), "{plan:?}"),
        }
        if template != "bench" || may_use_tap() {
            let out = labs.try_run(&["up", "--for", "5s"]);
            let (said, told) = (text(&out.stdout), text(&out.stderr));
            assert!(out.status.success(), "{template}: {told}");
            assert!(said.contains("\"event\":\"ready\"") && told.contains("guests up"), "{told}");
            assert!(labs.is_clean());
        }
        // What is there is somebody's work.
        let file = labs.path("my.lab.yaml");
        fs::write(&file, "mine").expect("the file");
        let again = labs.try_run(&["init", "--template", template]);
        assert_eq!(again.status.code(), Some(2), "{again:?}");
        assert!(text(&again.stderr).contains("is there already"), "{again:?}");
        assert_eq!(fs::read_to_string(&file).expect("the file"), "mine");
        labs.run(&["init", "--template", template, "--force"]);
        labs.run(&["validate"]);
    }
    // A Linux guest may lack its kernel, and hardware KVM: the file is good, and says so.
    let labs = Labs::new("init-linux");
    labs.run(&["init", "--template", "linux"]);
    let out = labs.try_run(&["validate"]);
    let told = text(&out.stderr);
    assert!(matches!(out.status.code(), Some(0 | 10 | 11)) && !told.contains("unknown"), "{told}");
}

/// Any kernel with a PVH entry is a guest, and one that is not ready keeps nobody from working.
#[test]
fn a_kernel_of_its_own_is_ready_when_it_says_what_the_file_tells() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("pvh");
    fs::write(labs.path("kernel.elf"), images::PKTGUEST).unwrap();
    let lab = |ready: &str| {
        let own = "kind: pvh, kernel: kernel.elf, cmdline: role=idle spin_us=0, nics: [sw0]";
        let text = PAIR.replace("third: {}", &format!("third: {{ {own}, ready: {ready} }}"));
        labs.file(
            "pair",
            &text.replace(
                "defaults: { nics: [sw0], spin: 0 }",
                "kinds: { pktguest: { nics: [sw0], spin: 0 } }",
            ),
        )
    };
    let file = lab("never said");
    let up = labs.try_run(&["up", "--wait", "--timeout", "2s", &file]);
    assert_eq!(up.status.code(), Some(12), "{up:?}");
    assert!(text(&up.stderr).contains("third"), "{up:?}");
    assert_eq!(labs.ps()[0]["state"], "starting");
    eventually("the others work", || {
        labs.guest("right")["nics"][0]["counters"]["rx_frames"].as_u64() > Some(100)
    });
    let left = labs.guest("left")["started_ms"].clone();
    labs.run(&["up", "--wait", &lab("'\"event\":\"ready\"'")]);
    assert_eq!(labs.ps()[0]["state"], "running");
    assert_eq!(labs.guest("left")["started_ms"], left);
    assert_eq!(labs.guest("third")["kind"], "pvh");
}

/// Who takes a lab down and who brings it up do not have to wait for each other.
#[test]
fn up_while_a_lab_goes_down_brings_it_up_anew() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("again");
    let file = labs.file("pair", PAIR);
    for round in 0..10 {
        labs.run(&["up", "--wait", &file]);
        let mut down = labs.command(&["down", &file]);
        let mut down = down.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 7));
        let up = labs.try_run(&["up", "--wait", &file]);
        assert!(up.status.success(), "{up:?}");
        down.wait().unwrap();
        // If `up` came first there was nothing to do, and then the lab went down.
        labs.try_run(&["down", &file]);
        assert!(labs.is_clean());
    }
}

/// A kernel with a PVH entry (Xen's ELF note 18), where an instruction is that no CPU knows.
fn faulting_kernel() -> Vec<u8> {
    const BASE: u64 = 0x10_0000;
    const ENTRY: u64 = BASE + 0x100;
    let mut kernel = vec![0; 0x110];
    let mut put = |at: usize, bytes: &[u8]| kernel[at..at + bytes.len()].copy_from_slice(bytes);
    // An executable of 64 bits for x86-64, with two program headers.
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1]);
    put(24, &ENTRY.to_le_bytes());
    put(32, &[64]);
    put(52, &[64, 0, 56, 0, 2]);
    // All of it is loaded; and the note.
    for (at, kind, offset, size) in [(64, 1, 0, 0x110), (120, 4, 0xc0, 20)] {
        put(at, &[kind, 0, 0, 0, 5]);
        let address = BASE + offset;
        for (field, value) in [offset, address, address, size, size, 4u64].iter().enumerate() {
            put(at + 8 * (field + 1), &value.to_le_bytes());
        }
    }
    put(0xc0, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n']);
    put(0xd0, &(ENTRY as u32).to_le_bytes());
    put(0x100, &[0x0f, 0x0b]);
    kernel
}

/// Who waits for a guest, or for all of them, must not be told that one is ready which is dead.
#[test]
fn events_come_in_order_and_a_guest_that_died_was_never_ready() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("order");
    fs::write(labs.path("dies.elf"), faulting_kernel()).unwrap();
    fs::write(labs.path("kernel.elf"), images::PKTGUEST).unwrap();
    let own = "dies: { kind: pvh, kernel: dies.elf, nics: [sw0] }\n  \
               own: { kind: pvh, kernel: kernel.elf, cmdline: role=idle, nics: [sw0] }";
    let text = PAIR.replace("third: {}", own).replace(
        "defaults: { nics: [sw0], spin: 0 }",
        "kinds: { pktguest: { nics: [sw0], spin: 0 } }",
    );
    labs.try_run(&["up", "--detach", &labs.file("pair", &text)]);
    let count = |events: &[(String, Option<String>)], event: &str, guest: &str| {
        let wanted = (event.to_owned(), Some(guest.to_owned()));
        events.iter().filter(|event| **event == wanted).count()
    };
    eventually("all is told", || {
        let events = labs.events();
        let ready = events.iter().any(|(event, _)| event == "lab-ready");
        ready && count(&events, "guest-failed", "dies") > 0
    });
    labs.run(&["restart", "dies"]);
    eventually("it dies again", || count(&labs.events(), "guest-failed", "dies") == 2);
    std::thread::sleep(Duration::from_millis(300));
    let events = labs.events();
    assert_eq!(count(&events, "guest-failed", "dies"), 2, "{events:?}");
    assert_eq!(count(&events, "guest-ready", "dies"), 0, "{events:?}");
    let lab_ready = events.iter().position(|(event, _)| event == "lab-ready").unwrap();
    for guest in ["left", "right", "own"] {
        assert_eq!(count(&events[..lab_ready], "guest-ready", guest), 1, "{events:?}");
    }
}

#[test]
fn a_lab_whose_supervisor_is_stopped_is_listed_and_keeps_nobody_waiting() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("stopped");
    for name in ["fifth", "first", "fourth", "pair", "third"] {
        labs.run(&["up", "--wait", &labs.file(name, &PAIR.replace("pair", name))]);
    }
    let stopped = labs.ps();
    let stopped: Vec<_> = (0..4).map(|lab| stopped[lab]["pid"].as_i64().unwrap() as i32).collect();
    stopped.iter().for_each(|pid| send(*pid, Signal::STOP));
    let start = Instant::now();
    let output = labs.try_run(&["ps", "-o", "json"]);
    let time = start.elapsed();
    let table = text(&labs.try_run(&["ps"]).stdout);
    stopped.iter().for_each(|pid| send(*pid, Signal::CONT));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(time < Duration::from_secs(9), "one after the other: {time:?}");
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let states = [0, 3, 4].map(|lab| listed[lab]["state"].as_str().unwrap_or_default());
    assert_eq!(states, ["unresponsive", "unresponsive", "running"], "{listed:#}");
    assert_eq!(listed[0]["pid"].as_i64().unwrap() as i32, stopped[0]);
    assert_eq!(table.matches("unresponsive").count(), 4, "{table}");
    assert!(text(&output.stderr).contains("has not answered for 3 s"), "{output:?}");
}
