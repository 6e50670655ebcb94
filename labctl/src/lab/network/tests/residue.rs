//! What is left behind, whatever way a process with a network ends: nothing.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rtnetlink::{LinkUnspec, LinkVeth};

use super::{Guest, HostNetwork, NetworkError, child, eventually, privileged};

/// Holds a network with a bridge and two TAPs; gives it up when told by a line on stdin, says
/// so, and lives on until the next line.
#[tokio::test]
#[ignore = "run by the tests of what is left behind"]
async fn child_with_a_network() {
    let wait = || std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    let mut network = HostNetwork::new().await.unwrap();
    let bridge = network.create_bridge("sw0").await.unwrap();
    let guests =
        [Guest::plug(&mut network, &bridge, 1).await, Guest::plug(&mut network, &bridge, 2).await];
    println!("\nUP");
    wait();
    drop(network);
    drop(guests);
    println!("\nDOWN");
    wait();
}

fn wait_for_line(lines: &mut impl BufRead, wanted: &str) {
    let mut lines = lines.lines().map(Result::unwrap);
    assert!(lines.any(|line| line == wanted), "{wanted}");
}

/// The thread of process `pid` that holds a namespace.
fn netns_thread(pid: u32) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| task.unwrap().path()).find_map(|task| {
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let tid = || task.file_name()?.to_str()?.parse().ok();
        (name.trim_end() == "netns").then(tid)?
    })
}

/// Ends a child that a failing test leaves behind.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `end` on a process that holds a network and waits until that network's namespace is
/// gone. A namespace cannot be listed, so one end of a veth pair is put into it: the other end
/// disappears with it.
async fn namespace_ends_after(end: impl FnOnce(&mut Child, &mut dyn BufRead)) {
    static RUN: AtomicU64 = AtomicU64::new(0);
    let watch = format!("watch{}", RUN.fetch_add(1, Relaxed));
    let outside = HostNetwork::new().await.unwrap();
    let mut process = KillOnDrop(
        child(module_path!(), "child_with_a_network")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut output = BufReader::new(process.0.stdout.take().unwrap());
    wait_for_line(&mut output, "UP");

    let links = outside.netns.netlink().link();
    links.add(LinkVeth::new(&watch, "inside").build()).execute().await.unwrap();
    let tid = netns_thread(process.0.id()).unwrap();
    let moved = LinkUnspec::new_with_name("inside").setns_by_pid(tid).build();
    links.set(moved).execute().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    outside.netns.link(&watch).await.unwrap();

    end(&mut process.0, &mut output);
    eventually("the namespace is gone", async || {
        matches!(outside.netns.link(&watch).await, Err(NetworkError::Interface { source, .. })
            if source.raw_os_error() == Some(libc::ENODEV))
    })
    .await;
}

#[tokio::test]
async fn dropping_leaves_nothing_behind() {
    if !privileged() {
        return;
    }
    namespace_ends_after(|process, mut output| {
        process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        wait_for_line(&mut output, "DOWN");
        assert_eq!(netns_thread(process.id()), None, "the thread is gone, the process is not");
    })
    .await;
}

#[tokio::test]
async fn kill_9_leaves_nothing_behind() {
    if !privileged() {
        return;
    }
    namespace_ends_after(|process, _| process.kill().unwrap()).await;
}
