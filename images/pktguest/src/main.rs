//! A bare-metal guest that measures packet I/O: it sends, receives or answers Ethernet frames
//! through its own e1000 driver or, as a peer, a virtio-net driver. README.md has the picture.

#![no_std]
#![no_main]

mod apic;
mod boot;
mod buffer;
mod bytes;
mod cmdline;
mod console;
mod e1000;
mod frame;
mod histogram;
mod irq;
mod json;
mod mmio;
mod net;
mod nic;
mod payload;
mod pci;
mod port;
mod role;
mod runtime;
mod sequence;
mod serial;
mod time;
mod virtio;
mod wait;

use core::convert::Infallible;

use cmdline::{Config, Driver, Role};
use console::Console;
use e1000::E1000;
use json::Object;
use nic::Nic;
use role::{Bridge, Session};
use serial::Serial;
use time::Clock;
use virtio::Virtio;

/// Runs the guest on the command line it was booted with; called by the stub, at CPL3.
fn run(cmdline: &str) -> Result<Infallible, Error<'_>> {
    let mut serial = Serial::open();
    let config = cmdline::parse(cmdline)?;
    let clock = Clock::new(config.tsc_khz).ok_or("No PIT to calibrate the TSC: set tsc_khz")?;
    apic::enable();
    let timer = apic::Timer::new(clock);
    let e1000 = |index| {
        let device = pci::find(e1000::VENDOR, &[e1000::DEVICE], index);
        let device = device.ok_or("No such 82540EM on PCI bus 0")?;
        E1000::new(&device, &config, clock, timer.clone())
    };
    match config.driver {
        Driver::E1000 if config.role == Role::Forward => {
            let bridge = Bridge::new(e1000(config.nic)?, e1000(config.nic + 1)?)?;
            forward(bridge, &config, clock, &mut serial)
        }
        Driver::E1000 => play(e1000(config.nic)?, &config, clock, &mut serial),
        Driver::Virtio => {
            let mut device = virtio::Device::open(config.nic)?;
            if device.max_rx().min(config.ring.into()) < 1024 {
                let nic = Virtio::<256>::new(device, &config, clock, timer)?;
                play(nic, &config, clock, &mut serial)
            } else {
                let nic = Virtio::<1024>::new(device, &config, clock, timer)?;
                play(nic, &config, clock, &mut serial)
            }
        }
    }
}

/// Plays the configured role on `nic`.
fn play(mut nic: impl Nic, config: &Config, clock: Clock, serial: &mut Serial) -> ! {
    let mut console = Console::open(serial);
    announce(serial, config, &nic, &clock).end();
    role::run(Session::new(config, clock, serial, &mut console), &mut nic);
    console.linger(serial)
}

/// As [`play`], with two NICs.
fn forward(mut bridge: Bridge, config: &Config, clock: Clock, serial: &mut Serial) -> ! {
    let mut console = Console::open(serial);
    let [first, second] = bridge.nics();
    announce(serial, config, first, &clock).show("second_mac", frame::ShowMac(second.mac())).end();
    role::forward(Session::new(config, clock, serial, &mut console), &mut bridge);
    console.linger(serial)
}

fn announce<'w>(
    serial: &'w mut Serial,
    config: &Config,
    nic: &impl Nic,
    clock: &Clock,
) -> Object<'w, Serial> {
    let ready = Object::event(serial, "ready")
        .str("role", config.role.name())
        .str("driver", config.driver.name())
        .show("mac", frame::ShowMac(nic.mac()))
        .num("ring", config.ring.into())
        .num("frame", config.frame.into())
        .num("burst", config.burst.into())
        .bool("sc", config.sc)
        .bool("csb", config.csb)
        .num("tsc_khz", clock.khz());
    nic.describe(ready)
}

/// Why the guest could not start.
enum Error<'a> {
    /// The command line is wrong.
    Cmdline(cmdline::Error<'a>),
    /// The machine lacks something.
    Machine(&'static str),
}

impl From<&'static str> for Error<'_> {
    fn from(message: &'static str) -> Self {
        Self::Machine(message)
    }
}

impl<'a> From<cmdline::Error<'a>> for Error<'a> {
    fn from(error: cmdline::Error<'a>) -> Self {
        Self::Cmdline(error)
    }
}

impl core::fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Cmdline(error) => error.fmt(f),
            Self::Machine(message) => f.write_str(message),
        }
    }
}
