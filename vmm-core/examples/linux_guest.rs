//! One Linux guest with a NIC that leads nowhere, its serial console on this terminal.
//!
//! `cargo run --release -p vmm-core --example linux_guest -- VMLINUZ INITRD [WORDS ...]`
//!
//! WORDS are added to the kernel's command line. What is typed goes to the guest, line by line; it
//! ends when it resets itself (`reboot -f`).

use std::error::Error;
use std::io::{self, BufRead};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use vmm_core::backend::NullBackend;
use vmm_core::boot::Kernel;
use vmm_core::clock::MonotonicClock;
use vmm_core::kvm::{Hypervisor, IoThreads};
use vmm_core::machine::{Machine, MachineConfig, NicConfig};
use vmm_core::platform::LINUX_CMDLINE;
use vmm_core::policy::Policy;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(kernel), Some(initrd)) = (arguments.next(), arguments.next()) else {
        return Err("usage: linux_guest VMLINUZ INITRD [WORDS ...]".into());
    };
    let words: Vec<_> = [LINUX_CMDLINE.to_owned()].into_iter().chain(arguments).collect();
    let machine = Machine::start(
        &Hypervisor::open()?,
        MachineConfig {
            name: "linux".into(),
            ram_bytes: 256 << 20,
            kernel: Kernel {
                image: std::fs::read(kernel)?.into(),
                initrd: std::fs::read(initrd)?.into(),
                cmdline: words.join(" "),
            },
            nics: vec![NicConfig {
                mac: [0x52, 0x54, 0, 0, 0, 1],
                itr: true,
                csb: false,
                policy: Policy::default(),
                backend: Box::new(NullBackend),
            }],
            console: Box::new(io::stdout()),
            agent: None,
            clock: Arc::new(MonotonicClock::new()),
            io: IoThreads::default(),
        },
    )?;
    machine.nic(0).set_link(true);
    let input = machine.serial_input().clone();
    // Ends with the process: a read of the terminal cannot be interrupted.
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            // Nobody types more than it holds.
            input.send((line + "\n").as_bytes());
        }
    });
    let reason = loop {
        match machine.exited() {
            Some(reason) => break reason,
            None => thread::sleep(Duration::from_millis(50)),
        }
    };
    eprintln!("{reason}; {:?}", machine.counters());
    Ok(())
}
