//! What a lab hears, on the real KVM: two guests that idle, under Linux's rules, and consoles that
//! the tests write to.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::time::timeout;

use super::*;

const LAB: &str = "\
name: x
switches: { s: {} }
optimizations: { itr: true, sc: false, csb: false, vale: true }
defaults: { nics: [{ switch: s }] }
guests: { quiet: {}, chatty: {} }
";

/// Asks a lab in which one guest prints without end; `None` if KVM tests are to be skipped.
fn beside_a_chatty_guest<T>(ask: impl AsyncFnOnce(&mut RunningLab) -> T) -> Option<T> {
    let hypervisor = match Hypervisor::open() {
        Err(error) if std::env::var_os("LABCTL_SKIP_KVM_TESTS").is_some_and(|v| v == "1") => {
            eprintln!("SKIPPED for LABCTL_SKIP_KVM_TESTS=1: {error}");
            return None;
        }
        opened => opened.unwrap(),
    };
    let lab = Lab::parse(Path::new("x.lab.yaml"), LAB).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Some(runtime.block_on(async {
        let mut running = RunningLab::start(&hypervisor, &lab).await.unwrap();
        running.ready().await.unwrap();
        running.guests.values_mut().for_each(|guest| guest.linux = true);
        let (sender, lines) = mpsc::unbounded_channel();
        running.lines = lines;
        let mut chatty = Console::new(1, "chatty", sender);
        let enough = Arc::new(AtomicBool::new(false));
        let until = enough.clone();
        let chat = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                chatty.write_all(b"chat\n").unwrap();
            }
        });
        let answer = timeout(Duration::from_secs(20), ask(&mut running)).await;
        enough.store(true, Ordering::Relaxed);
        chat.join().unwrap();
        answer.expect("the lab only listened to the chatty guest")
    }))
}

#[test]
fn a_chatty_guest_hides_no_others_end() {
    let error = beside_a_chatty_guest(async |running| {
        running.guests[&0].voices.panic.set("Kernel panic - not syncing: x".into()).unwrap();
        loop {
            match running.next().await {
                Happening::Done(guest) => panic!("{} has ended", running.name(guest)),
                Happening::Failed(guest) => return running.guests[&guest].error(),
                _ => {}
            }
        }
    });
    let Some(error) = error else { return };
    assert_eq!(error.exit(), Exit::Failed);
    assert_eq!(error.to_string(), "guest `quiet` failed: Kernel panic - not syncing: x");
}

#[test]
fn a_chatty_guest_puts_off_no_deadline() {
    let report = beside_a_chatty_guest(async |running| {
        running.finished(0, Instant::now() + Duration::from_millis(300)).await.unwrap()
    });
    assert!(report.is_none_or(|report| report.is_none()));
}
