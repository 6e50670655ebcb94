//! A bare-metal guest that measures packet I/O: it sends, receives or answers Ethernet frames
//! through its own e1000 driver or, as a peer, a virtio-net driver. README.md has the picture.

#![no_std]
#![no_main]

mod apic;
mod boot;
mod buffer;
mod bytes;
mod cmdline;
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

use cmdline::{Config, Driver};
use e1000::E1000;
use json::Object;
use nic::Nic;
use serial::Serial;
use time::Clock;
use virtio::Virtio;

/// Runs the guest on the command line it was booted with; called by the stub, at CPL3.
fn run(cmdline: &str) -> Result<(), Error<'_>> {
    let mut serial = Serial::open();
    let config = cmdline::parse(cmdline)?;
    let clock = Clock::new(config.tsc_khz).ok_or("No PIT to calibrate the TSC: set tsc_khz")?;
    apic::enable();
    let timer = apic::Timer::new(clock);
    match config.driver {
        Driver::E1000 => {
            let device =
                pci::find(e1000::VENDOR, e1000::DEVICE).ok_or("No 82540EM on PCI bus 0")?;
            play(E1000::new(&device, &config, clock, timer)?, &config, clock, &mut serial);
        }
        Driver::Virtio => {
            let mut device = virtio::Device::open()?;
            if device.max_rx().min(config.ring.into()) < 1024 {
                let nic = Virtio::<256>::new(device, &config, clock, timer)?;
                play(nic, &config, clock, &mut serial);
            } else {
                let nic = Virtio::<1024>::new(device, &config, clock, timer)?;
                play(nic, &config, clock, &mut serial);
            }
        }
    }
    Ok(())
}

/// Plays the configured role on `nic`.
fn play(mut nic: impl Nic, config: &Config, clock: Clock, serial: &mut Serial) {
    announce(serial, config, &nic, &clock);
    role::run(config, clock, &mut nic, serial);
}

fn announce(serial: &mut Serial, config: &Config, nic: &impl Nic, clock: &Clock) {
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
    nic.describe(ready).end();
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
