//! Two guests, one VALE switch: the first sends, the second counts.
//!
//! `cargo run --release -p vmm-core --example two_guests -- frame=60 ring=1024 csb=1`
//!
//! Arguments are keys of the guests' command line (see images/pktguest/README.md); with `csb=1` the
//! NICs announce the paravirtual extension.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use vmm_core::backend;
use vmm_core::boot::Kernel;
use vmm_core::clock::{Clock, MonotonicClock};
use vmm_core::e1000::E1000;
use vmm_core::kvm::{Hypervisor, IoThreads};
use vmm_core::machine::{Machine, MachineConfig, NicConfig};
use vmm_core::policy::Policy;
use vmm_core::serial::Lines;
use vmm_core::switch::Switch;

/// Hands a guest's console lines over to the main thread.
struct Console(Sender<String>);

impl Write for Console {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Nobody listens any more once the experiment is over.
        let _ = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let csb = options.split(' ').any(|option| option == "csb=1");
    let hypervisor = Hypervisor::open()?;
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    let switch = Switch::new("sw0", clock.clone());

    let start = |role: &str, mac, more: &str| -> Result<_, Box<dyn Error>> {
        let port = switch.attach()?;
        let index = port.index();
        let (sender, lines) = mpsc::channel();
        let machine = Machine::start(
            &hypervisor,
            MachineConfig {
                name: role.into(),
                ram_bytes: 64 << 20,
                kernel: Kernel {
                    image: images::PKTGUEST.into(),
                    cmdline: format!("role={role} driver=e1000 {more} {options}"),
                    ..Kernel::default()
                },
                nics: vec![NicConfig {
                    mac,
                    itr: false,
                    csb,
                    policy: Policy::default(),
                    backend: Box::new(port),
                }],
                console: Box::new(Lines::new(Console(sender))),
                agent: None,
                clock: clock.clone(),
                io: IoThreads::default(),
            },
        )?;
        let nic: Arc<dyn backend::Receiver> = machine.nic(0).clone();
        switch.connect(index, &nic);
        Ok((machine, lines))
    };
    let (tx, tx_lines) = start("tx", [0x52, 0x54, 0, 0, 0, 1], "burst=256 duration_ms=1000")?;
    let (rx, rx_lines) = start("rx", [0x52, 0x54, 0, 0, 0, 2], "unplugged=end")?;

    print_until("ready", &rx_lines)?;
    print_until("ready", &tx_lines)?;
    let nics = [tx.nic(0).clone(), rx.nic(0).clone()];
    E1000::set_links(&nics, true);
    print_until("final", &tx_lines)?;
    E1000::set_links(&nics, false);
    print_until("final", &rx_lines)?;
    println!("tx {:?}\nrx {:?}", tx.counters(), rx.counters());
    println!("{}, {}", tx.stop(), rx.stop());
    Ok(())
}

/// Prints a guest's lines up to the one that reports `event`.
fn print_until(event: &str, lines: &Receiver<String>) -> Result<(), Box<dyn Error>> {
    let wanted = format!("\"event\":\"{event}\"");
    loop {
        let line = lines.recv()?;
        print!("{line}");
        if line.contains("\"event\":\"error\"") {
            return Err("a guest failed".into());
        }
        if line.contains(&wanted) {
            return Ok(());
        }
    }
}
