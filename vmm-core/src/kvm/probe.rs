//! What this host's KVM charges for an exit, an interrupt and a wake-up.
//!
//! A tiny guest times its own exits with the time-stamp counter; interrupts and wake-ups are timed
//! by the host, from the call that raises one to the moment its handler's store becomes visible.

mod guest;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use vmm_sys_util::eventfd::EventFd;

use super::{ExitReason, Hypervisor, KvmError, KvmIrqLine, Vcpu, VcpuThread, Vm};
use crate::bus::Bus;
use crate::memory::{GuestRam, MemoryError};
use crate::pci::PciRoot;
use crate::platform::COM1_GSI;
use crate::serial::Serial;
use guest::Exit;

/// Interrupts and wake-ups timed, at most.
const ROUNDS: usize = 300;
/// A busy host gets fewer rounds, so that the probe stays short.
const BUDGET: Duration = Duration::from_millis(250);
/// Between rounds, so that whoever is to be woken sleeps again; the host's timers add their slack.
const PAUSE: Duration = Duration::from_micros(100);
/// Nothing that is timed takes this long, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to watch for an event before letting others have this processor.
const SPIN: Duration = Duration::from_micros(500);

/// Nanoseconds that something took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Half of the attempts took no longer.
    pub median_ns: u64,
    /// The quickest attempt.
    pub min_ns: u64,
}

impl Cost {
    /// `None` of nothing.
    fn of(mut samples: Vec<u64>) -> Option<Self> {
        samples.sort_unstable();
        let median_ns = *samples.get(samples.len() / 2)?;
        Some(Self { median_ns, min_ns: samples[0] })
    }
}

/// What this host's KVM charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HostCosts {
    /// A register write that the monitor handles, from guest user code.
    pub mmio_exit_user: Cost,
    /// The same from guest kernel code, which page-table KVM interprets.
    pub mmio_exit_kernel: Cost,
    /// A port write that the monitor handles, from guest user code.
    pub port_exit_user: Cost,
    /// A register write that KVM turns into an eventfd, from guest user code.
    pub ioeventfd_write: Cost,
    /// A local APIC access (end of interrupt), which KVM handles, from guest user code.
    pub apic_write: Cost,
    /// From `KVM_IRQ_LINE` to the guest's kernel handler, interrupting user code.
    pub interrupt: Cost,
    /// From `KVM_IRQ_LINE` to the guest's kernel handler, waking the halted processor.
    pub halt_wakeup: Cost,
    /// From an eventfd write to the return of the host thread that waited for it.
    pub thread_wakeup: Cost,
}

/// Why the costs could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No memory for the guest.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// KVM refused.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// No thread or eventfd.
    #[error("cannot set up the measurement")]
    Host(#[from] io::Error),
    /// The guest ended.
    #[error("the measuring guest ended: {0}")]
    Ended(ExitReason),
    /// The guest or a thread did not react.
    #[error("no reaction within {} s while measuring: {what}", PATIENCE.as_secs())]
    Stuck {
        /// To what.
        what: &'static str,
    },
}

/// Measures what this host's KVM charges; takes a fraction of a second.
pub fn probe_costs(hypervisor: &Hypervisor) -> Result<HostCosts, ProbeError> {
    let thread_wakeup = thread_wakeup()?;
    let vm = Arc::new(Vm::new(hypervisor, GuestRam::new(guest::RAM_BYTES)?)?);
    let doorbell = EventFd::new(libc::EFD_NONBLOCK)?;
    vm.register_doorbell(guest::DOORBELL_ADDR, &doorbell)?;
    let vcpu = Vcpu::new(hypervisor, vm.clone())?;
    let tsc_khz = vcpu.tsc_khz()?;
    guest::install(vm.ram(), &vcpu)?;
    let com1 = Arc::new(KvmIrqLine::new(vm.clone(), COM1_GSI));
    let bus = Bus::new(PciRoot::new(), Serial::new(com1, Box::new(io::sink())), None);
    let probe = Probe { vcpu: VcpuThread::spawn("vcpu:probe".into(), vcpu, bus)?, vm };

    let timed = "the guest's own exits";
    probe.wait(timed, || probe.state() == guest::SPINNING)?;
    let exit = |exit| {
        let ticks = guest::samples(probe.vm.ram(), exit);
        let ns = |ticks: u32| u64::from(ticks) * 1_000_000 / u64::from(tsc_khz);
        Cost::of(ticks.into_iter().map(ns).collect()).ok_or(ProbeError::Stuck { what: timed })
    };
    let interrupt = probe.interrupt_cost("interrupts", || Ok(()))?;
    probe.set_state(guest::PROCEED);
    let halt_wakeup = probe.interrupt_cost("wake-ups of a halted processor", || {
        probe.wait("halts", || probe.state() == guest::HALTING)?;
        probe.set_state(guest::PROCEED);
        Ok(())
    })?;
    Ok(HostCosts {
        mmio_exit_kernel: exit(Exit::MmioKernel)?,
        mmio_exit_user: exit(Exit::MmioUser)?,
        port_exit_user: exit(Exit::Port)?,
        ioeventfd_write: exit(Exit::Doorbell)?,
        apic_write: exit(Exit::Apic)?,
        interrupt,
        halt_wakeup,
        thread_wakeup,
    })
}

/// The running probe guest.
struct Probe {
    vcpu: VcpuThread,
    vm: Arc<Vm>,
}

impl Probe {
    fn state(&self) -> u32 {
        guest::word(self.vm.ram(), guest::STATE_ADDR).load(Ordering::Acquire)
    }

    fn set_state(&self, state: u32) {
        guest::word(self.vm.ram(), guest::STATE_ADDR).store(state, Ordering::Release);
    }

    /// Times interrupts, each after the guest is `ready` and had a pause.
    fn interrupt_cost(
        &self,
        what: &'static str,
        ready: impl Fn() -> Result<(), ProbeError>,
    ) -> Result<Cost, ProbeError> {
        let handled = guest::word(self.vm.ram(), guest::INTERRUPTS_ADDR);
        let mut samples = Vec::with_capacity(ROUNDS);
        let end = Instant::now() + BUDGET;
        while samples.len() < ROUNDS && (samples.is_empty() || Instant::now() < end) {
            ready()?;
            thread::sleep(PAUSE);
            let before = handled.load(Ordering::Acquire);
            let start = Instant::now();
            self.vm.set_irq_line(guest::GSI, true);
            self.wait(what, || handled.load(Ordering::Acquire) != before)?;
            samples.push(start.elapsed().as_nanos() as u64);
            self.vm.set_irq_line(guest::GSI, false);
        }
        Cost::of(samples).ok_or(ProbeError::Stuck { what })
    }

    fn wait(&self, what: &'static str, done: impl Fn() -> bool) -> Result<(), ProbeError> {
        spin_until(what, || match self.vcpu.exited() {
            _ if done() => Ok(true),
            Some(reason) => Err(ProbeError::Ended(reason)),
            None => Ok(false),
        })
    }
}

/// Watches until `done`, first without giving up the processor, which would cost what is measured.
fn spin_until(
    what: &'static str,
    mut done: impl FnMut() -> Result<bool, ProbeError>,
) -> Result<(), ProbeError> {
    let start = Instant::now();
    while !done()? {
        match start.elapsed() {
            waited if waited > PATIENCE => return Err(ProbeError::Stuck { what }),
            waited if waited > SPIN => thread::yield_now(),
            _ => std::hint::spin_loop(),
        }
    }
    Ok(())
}

/// Times how long a thread that waits on an eventfd takes to run again.
fn thread_wakeup() -> Result<Cost, ProbeError> {
    const END: u64 = 1 << 32;
    let epoch = Instant::now();
    let now = move || epoch.elapsed().as_nanos() as u64;
    let event = EventFd::new(0)?;
    let woken_at = Arc::new(AtomicU64::new(0));
    let sleeper = {
        let (event, woken_at) = (event.try_clone()?, woken_at.clone());
        let sleep = move || {
            while event.read().is_ok_and(|value| value < END) {
                woken_at.store(now(), Ordering::Release);
            }
        };
        thread::Builder::new().name("probe:sleeper".into()).spawn(sleep)?
    };
    let what = "wake-ups of a thread";
    let wake = |_| {
        thread::sleep(PAUSE);
        let start = now();
        event.write(1)?;
        spin_until(what, || Ok(woken_at.load(Ordering::Acquire) > start))?;
        Ok(woken_at.load(Ordering::Acquire) - start)
    };
    let samples: Result<Vec<u64>, ProbeError> = (0..ROUNDS).map(wake).collect();
    event.write(END)?;
    // It cannot panic, and it has nothing to say.
    let _ = sleeper.join();
    Cost::of(samples?).ok_or(ProbeError::Stuck { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_the_middle_and_the_least() {
        assert_eq!(Cost::of(vec![]), None);
        assert_eq!(Cost::of(vec![9, 1, 5]), Some(Cost { median_ns: 5, min_ns: 1 }));
    }

    #[test]
    fn this_host_has_plausible_costs() {
        let Some(hypervisor) = crate::kvm::for_tests() else {
            return;
        };
        let start = Instant::now();
        let costs = probe_costs(&hypervisor).unwrap();
        assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
        println!("{costs:#?} in {:?}", start.elapsed());
        for cost in [
            costs.mmio_exit_user,
            costs.mmio_exit_kernel,
            costs.port_exit_user,
            costs.ioeventfd_write,
            costs.apic_write,
            costs.interrupt,
            costs.halt_wakeup,
            costs.thread_wakeup,
        ] {
            assert!(cost.min_ns >= 50 && cost.min_ns <= cost.median_ns, "{cost:?}");
            assert!(cost.median_ns < 10_000_000, "{cost:?}");
        }
        let (inside, outside) = (costs.ioeventfd_write, costs.mmio_exit_user);
        assert!(inside.min_ns <= outside.min_ns, "{costs:?}");
    }
}
