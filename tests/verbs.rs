//! What a running lab answers, in every form and to whoever asks: several at once, and those who make
//! no sense.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::labs::{Labs, text};
use common::{eventually, kvm};
use serde_json::Value;

/// All kinds of cables but those that need privileges.
const LAB: &str = "\
name: pair
switches: { sw0: {}, sw1: {} }
links: [sw0 -- sw1]
defaults: { spin: 0 }
guests:
  left: { nics: [sw0], workload: { role: ping, to: right, rate: 1kpps } }
  right: { nics: [{ switch: sw1, delay: 1ms }], workload: { role: pong } }
  third: { nics: [sw0] }
";

/// The lab, running.
fn running(test: &str) -> Labs {
    let labs = Labs::new(test);
    labs.file("pair", LAB);
    let up = labs.try_run(&["up", "--wait", "pair.lab.yaml"]);
    assert!(up.status.success(), "{up:?}");
    check_next(&labs, &text(&up.stderr));
    labs
}

/// Fields of each record (RFC 4180).
fn csv(text: &str) -> Vec<usize> {
    let (mut records, mut fields, mut quoted) = (Vec::new(), 1, false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields += 1,
            '\n' if !quoted => records.push(std::mem::replace(&mut fields, 1)),
            _ => {}
        }
    }
    assert!(!quoted && fields == 1, "it ends with a whole record: {text}");
    records
}

#[test]
fn every_verb_that_reads_speaks_every_form() {
    let Some(_kvm) = kvm() else { return };
    let labs = running("forms");
    // Streams are a document a line, or one after the other.
    let verbs: [(&[&str], bool); 12] = [
        (&["ps"], false),
        (&["ps", "--all"], false),
        (&["inspect"], false),
        (&["inspect", "right"], false),
        (&["link", "show"], false),
        (&["link", "show", "right:0"], false),
        (&["link", "set", "third:0", "--up"], false),
        (&["mac-table", "sw0"], false),
        (&["validate"], false),
        (&["top", "--once", "--interval", "50ms"], false),
        (&["logs"], true),
        (&["events"], true),
    ];
    for (verb, streams) in verbs {
        let print = |form: &str| {
            let output = labs.try_run(&[verb, &["-o", form]].concat());
            assert!(output.status.success(), "{verb:?} -o {form}: {output:?}");
            check_next(&labs, &text(&output.stderr));
            let out = text(&output.stdout);
            assert!(!out.trim().is_empty() && out.ends_with('\n'), "{verb:?} -o {form}: {out:?}");
            out
        };
        let (table, wide) = (print("table"), print("wide"));
        assert!(wide.len() >= table.len(), "{verb:?}\n{table}{wide}");
        let json = print("json");
        let yaml = print("yaml");
        let yaml: Vec<Value> = serde_yaml::Deserializer::from_str(&yaml)
            .map(|document| serde::Deserialize::deserialize(document).unwrap())
            .collect();
        match streams {
            true => {
                let json: Vec<Value> =
                    json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                assert!(json.iter().chain(&yaml).all(Value::is_object), "{verb:?}");
            }
            false => {
                let json: Value = serde_json::from_str(&json).unwrap();
                // Counters have gone on; what there is to tell has not.
                let [yaml] = yaml.as_slice() else { panic!("{verb:?}: one document") };
                assert_eq!(keys(yaml), keys(&json), "{verb:?}");
            }
        }
        let markdown = print("markdown");
        let mut bars = markdown
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(|line| line.replace("\\|", "").matches('|').count());
        let first = bars.next().expect("a table");
        assert!(bars.all(|bars| bars == first), "{verb:?}\n{markdown}");
        let csv = print("csv");
        let fields = self::csv(&csv);
        assert!(fields.len() > 1 && fields.iter().all(|n| *n == fields[0]), "{verb:?}\n{csv}");
    }
    // Where a form makes no sense there is none.
    assert_eq!(labs.try_run(&["ps", "-o", "xml"]).status.code(), Some(2));
}

/// That what a verb names as the next command is one.
fn check_next(labs: &Labs, said: &str) {
    let next = said.lines().find_map(|line| line.strip_prefix("next: labctl "));
    let next = next.unwrap_or_else(|| panic!("no next command: {said}"));
    let mut words: Vec<_> = next.split(' ').collect();
    // Arguments that make no sense are refused before that.
    words.push("--help");
    labs.run(&words);
}

/// The shape of a document: its keys and how many items its lists have.
fn keys(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), keys(value))).collect(),
        Value::Array(items) => items.iter().map(keys).collect(),
        _ => Value::Null,
    }
}

#[test]
fn a_guest_without_an_agent_runs_no_commands() {
    let Some(_kvm) = kvm() else { return };
    let labs = running("exec");
    let refused = |args: &[&str], words: &str| {
        let out = labs.try_run(args);
        let said = text(&out.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(4), ""), "{said}");
        assert!(said.contains(words), "{args:?}: {said}");
    };
    refused(&["exec", "left", "--", "uname", "-a"], "has no agent");
    refused(&["exec", "lift", "--", "uname"], "the guests are left, right, third");
    refused(&["console", "lift"], "the guests are left, right, third");
    refused(&["logs", "lift"], "the guests are left, right, third");
    refused(&["restart", "lift"], "the guests are left, right, third");
    refused(&["capture", "lift:0"], "no cable or port `lift:0`");
    refused(&["mac-table", "sw7"], "sw0, sw1");
    refused(&["link", "set", "left:1", "--down"], "left:0");
    refused(&["ps", "--lab", "pear"], "there are: pair");
    assert_eq!(labs.guest("left")["state"], "running");
}

#[test]
fn those_who_follow_see_all_and_end_with_the_lab() {
    let Some(_kvm) = kvm() else { return };
    let labs = running("follow");
    let follow = |args: &[&str]| {
        let mut command = labs.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // Two at the same, one at something else, and one who has seen enough.
    let logs = [follow(&["logs", "-f"]), follow(&["logs", "-f", "third"])];
    let events = follow(&["events", "-f"]);
    let mut enough = follow(&["logs", "-f"]);
    let mut first = String::new();
    BufReader::new(enough.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("\"event\":\"ready\""), "{first}");

    // Everybody at the same console.
    let consoles: Vec<_> = (0..2)
        .map(|_| {
            labs.command(&["console", "third"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut console in consoles {
        let mut keyboard = console.stdin.take().unwrap();
        keyboard.write_all(b"stats\n").unwrap();
        // Without a keyboard it waits no longer than a second for the answer.
        let screen = BufReader::new(console.stdout.take().unwrap()).lines();
        let mut screen = screen.map(Result::unwrap);
        assert!(screen.any(|line| line.contains("\"event\":\"stats\"")), "it ended before");
        drop(keyboard);
        assert!(console.wait().unwrap().success());
    }
    labs.run(&["restart", "left"]);
    eventually("both are told", || {
        let log = labs.run(&["logs", "left"]);
        log.matches("\"event\":\"ready\"").count() == 2
    });
    let begin = Instant::now();
    labs.run(&["down", "pair.lab.yaml"]);
    let [all, third] = logs.map(|logs| logs.wait_with_output().unwrap());
    for out in [&all, &third] {
        assert!(out.status.success() && text(&out.stderr).contains("`pair` has ended"), "{out:?}");
    }
    let [all, third] = [all, third].map(|out| text(&out.stdout));
    assert_eq!(all.matches("\"event\":\"ready\"").count(), 4, "{all}");
    assert!(third.lines().all(|line| line.starts_with("third |")), "only his: {third}");
    assert_eq!(third.matches("\"event\":\"stats\"").count(), 2, "{third}");
    let events = events.wait_with_output().unwrap();
    assert!(events.status.success());
    let events = text(&events.stdout);
    let last = events.lines().last().unwrap();
    assert!(last.contains("\"lab-stopped\""), "the end is told, too: {events}");
    assert!(enough.wait().unwrap().success());
    // Its own patience with those who do not read is longer.
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert!(labs.is_clean());
}

#[test]
fn nonsense_on_the_control_socket_disturbs_nobody() {
    let Some(_kvm) = kvm() else { return };
    let labs = running("garbage");
    let connect = || {
        let stream = UnixStream::connect(labs.state().join("pair/control.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut reader = BufReader::new(stream);
        let mut hello = String::new();
        reader.read_line(&mut hello).unwrap();
        let hello: Value = serde_json::from_str(&hello).unwrap();
        assert_eq!(hello["lab"], "pair");
        reader
    };
    // Those who say nothing, or hang up in the middle of a word.
    let _silent: Vec<_> = (0..100).map(|_| connect()).collect();
    for _ in 0..100 {
        connect().get_mut().write_all(b"{\"request\":\"st").unwrap();
    }
    for nonsense in [
        &b"\n"[..],
        b"hello\n",
        b"\xff\xfe\xfd\n",
        b"{}\n",
        b"[[[[[[[[[\n",
        b"{\"request\":\"no such\"}\n",
        b"{\"request\":\"console\"}\n",
        b"{\"request\":\"logs\",\"tail\":-1}\n",
        &[b'['; 1 << 20],
    ] {
        let mut client = connect();
        // It may hang up before it has heard it all.
        let _ = client.get_mut().write_all(nonsense);
        let _ = client.get_mut().shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        client.read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"]["exit"], 2, "{answer}");
    }
    // One who asks for a lot, and does not read.
    let mut deaf = connect();
    deaf.get_mut()
        .write_all(
            b"{\"request\":\"capture\",\"place\":\"left:0\",\"snap\":65535,\"count\":null}\n",
        )
        .unwrap();
    let memory = || {
        let pid = labs.ps()[0]["pid"].clone();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = memory();
    let frames = || labs.guest("right")["nics"][0]["counters"]["rx_frames"].as_u64().unwrap();
    let received = frames();
    eventually("the lab goes on", || frames() > received + 500);
    assert!(memory() < before + 64 * 1024, "{before} to {} KiB", memory());
    assert_eq!(labs.ps()[0]["state"], "running");
    let begin = Instant::now();
    labs.run(&["down", "pair.lab.yaml"]);
    assert!(begin.elapsed() < Duration::from_secs(8), "nobody delays its end");
    assert!(labs.is_clean());
}

/// The example in the template of a pair: somebody pulls a plug and puts it back.
#[test]
fn frames_flow_again_when_a_cable_is_plugged_in_again() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("replug");
    let guests = "  left: { nics: [sw0], workload: { role: tx, to: right, rate: 1kpps } }
  right: { nics: [sw0], workload: { role: rx } }
events: [{ at: 1ms, link: right:0, up: false }, { at: 100ms, link: right:0, up: true }]
";
    labs.file("pair", &format!("{}{guests}", &LAB[..LAB.find("  left:").unwrap()]));
    labs.run(&["up", "--wait", "pair.lab.yaml"]);
    let frames = || labs.guest("right")["nics"][0]["counters"]["rx_frames"].as_u64().unwrap();
    let flow = |why: &str| {
        let before = frames();
        eventually(why, || frames() > before);
    };
    let plugged = || labs.events().iter().filter(|(event, _)| event == "link-changed").count();
    eventually("the file's events", || plugged() == 2);
    flow("frames flow again after an event");
    for end in ["left:0", "right:0"] {
        labs.run(&["link", "set", end, "--down"]);
        let stopped = frames();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(frames(), stopped);
        labs.run(&["link", "set", end, "--up"]);
        flow("frames flow again");
    }
    let said = labs.run(&["logs"]);
    assert!(!said.contains("final") && labs.guest("left")["state"] == "running", "{said}");
}

#[test]
fn those_who_follow_end_when_nobody_reads_them_any_more() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("unread");
    labs.file("pair", &LAB.replace("{ role: ping, to: right, rate: 1kpps }", "{ role: pong }"));
    labs.run(&["up", "--wait", "pair.lab.yaml"]);
    for follow in [&["logs", "-f"][..], &["events", "-f"], &["capture", "third:0"]] {
        let mut follower = labs.command(follow);
        let follower = follower.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut follower = follower.spawn().unwrap();
        let mut read = BufReader::new(follower.stdout.take().unwrap());
        // A capture begins with a header.
        assert!(read.fill_buf().unwrap().len() > 1);
        assert_eq!(follower.try_wait().unwrap(), None);
        drop(read);
        eventually("it ends though its guests are silent", || {
            follower.try_wait().unwrap().is_some_and(|status| status.success())
        });
    }
}
