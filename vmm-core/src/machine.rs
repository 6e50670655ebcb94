//! A running guest.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::boot::{self, BootError, Kernel};
use crate::bus::Bus;
use crate::clock::Clock;
use crate::doorbell::Doorbell;
use crate::e1000::{E1000, E1000Config, E1000Host};
use crate::kvm::{
    Attachment, DeviceTimer, ExitReason, Hypervisor, IoThreads, KvmDoorbell, KvmError, KvmIrqLine,
    OnTimer, TimerThread, Vcpu, VcpuCounters, VcpuThread, Vm,
};
use crate::memory::{GuestRam, MemoryError};
use crate::pci::{self, Intx, PciRoot};
use crate::platform::{COM1_GSI, COM2_GSI, MAX_NICS, NIC_GSIS};
use crate::policy::Policy;
use crate::serial::{Serial, SerialInput};

/// A NIC of a guest.
pub struct NicConfig {
    /// MAC address, as the EEPROM tells it.
    pub mac: [u8; 6],
    /// Whether the device honours the interrupt moderation registers.
    pub itr: bool,
    /// Whether the device announces the paravirtual extension (CSB).
    pub csb: bool,
    /// Who moves the frames that the guest sends.
    pub policy: Policy,
    /// Where its frames go.
    pub backend: Box<dyn Backend>,
}

/// A guest to start.
pub struct MachineConfig {
    /// Names the guest's threads: `vcpu:NAME`, `timer:NAME`, `nic0:NAME`.
    pub name: String,
    /// RAM size in bytes, a multiple of 4096.
    pub ram_bytes: u64,
    /// Kernel, initrd and command line.
    pub kernel: Kernel,
    /// NICs, from PCI device 1 on; at most [`MAX_NICS`].
    pub nics: Vec<NicConfig>,
    /// Takes what the guest sends on COM1, byte by byte (see [`Lines`](crate::serial::Lines)).
    pub console: Box<dyn Write + Send>,
    /// Takes what the guest sends on COM2, where a program inside may serve requests from outside;
    /// `None`: there is no COM2.
    pub agent: Option<Box<dyn Write + Send>>,
    /// The devices' time.
    pub clock: Arc<dyn Clock>,
    /// The threads that move frames where a NIC's policy asks for any.
    pub io: IoThreads,
}

/// Why a guest could not be started.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// RAM could not be allocated.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The kernel could not be loaded.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// KVM refused.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// Too many NICs.
    #[error("{0} NICs: a guest can have {MAX_NICS}")]
    TooManyNics(usize),
    /// A timer or a thread could not be created.
    #[error("cannot create a {what} for the guest")]
    Host {
        /// What it was.
        what: &'static str,
        /// The host's words.
        source: io::Error,
    },
}

/// A guest with its devices and threads. Dropping it stops the guest.
pub struct Machine {
    // Declared first, hence stopped first: no guest is left to arm a timer that nobody serves.
    vcpu: VcpuThread,
    _timers: TimerThread,
    _io: Vec<Attachment>,
    ram: GuestRam,
    nics: Vec<Arc<E1000>>,
    serial_input: SerialInput,
    agent_input: Option<SerialInput>,
}

impl Machine {
    /// Builds a guest and starts it.
    pub fn start(hypervisor: &Hypervisor, config: MachineConfig) -> Result<Self, MachineError> {
        let MachineConfig { name, ram_bytes, kernel, nics, console, agent, clock, io } = config;
        if nics.len() > MAX_NICS {
            return Err(MachineError::TooManyNics(nics.len()));
        }
        let failed = |what| move |source| MachineError::Host { what, source };
        let ram = GuestRam::new(ram_bytes)?;
        let entry = boot::load(&ram, &kernel, nics.len())?;
        // The guest has its own copy now.
        drop(kernel);
        let vm = Arc::new(Vm::new(hypervisor, ram.clone())?);

        let mut pci = PciRoot::new();
        let mut timers = Vec::new();
        let mut devices = Vec::new();
        let mut attachments = Vec::new();
        let lines = NIC_GSIS.map(|gsi| Arc::new(KvmIrqLine::new(vm.clone(), gsi)));
        for (index, nic) in nics.into_iter().enumerate() {
            let intx = Arc::new(Intx::new(lines[index % lines.len()].clone()));
            let timer = Arc::new(DeviceTimer::new(clock.clone()).map_err(failed("timer"))?);
            let io = io.get(nic.policy, format!("nic{index}:{name}"));
            let io = io.map_err(failed("thread"))?;
            let bell = io.is_some().then(|| KvmDoorbell::new(vm.clone()).map(Arc::new));
            let bell = bell.transpose().map_err(failed("doorbell"))?;
            let host = E1000Host {
                ram: vm.ram().clone(),
                clock: clock.clone(),
                timer: timer.clone(),
                line: intx.clone(),
                backend: nic.backend,
                doorbell: bell.clone().map(|bell| -> Arc<dyn Doorbell> { bell }),
            };
            let device = E1000::new(
                E1000Config { mac: nic.mac, itr: nic.itr, csb: nic.csb, policy: nic.policy },
                host,
            );
            pci.add(pci::nic_function(&device, index as u8, nic.csb, intx));
            if let Some((io, bell)) = io.zip(bell) {
                let attached = io.attach(device.clone(), bell).map_err(failed("doorbell"))?;
                attachments.push(attached);
            }
            let timed = device.clone();
            let on_timer: OnTimer = Box::new(move || timed.on_timer());
            timers.push((timer, on_timer));
            devices.push(device);
        }
        let serial = |gsi, out| Serial::new(Arc::new(KvmIrqLine::new(vm.clone(), gsi)), out);
        let com1 = serial(COM1_GSI, console);
        let com2 = agent.map(|agent| serial(COM2_GSI, agent));
        let (serial_input, agent_input) = (com1.input(), com2.as_ref().map(Serial::input));
        let bus = Bus::new(pci, com1, com2);
        let vcpu = Vcpu::new(hypervisor, vm)?;
        vcpu.enter(entry)?;

        let timers =
            TimerThread::spawn(format!("timer:{name}"), timers).map_err(failed("timer thread"))?;
        let vcpu =
            VcpuThread::spawn(format!("vcpu:{name}"), vcpu, bus).map_err(failed("vCPU thread"))?;
        Ok(Self {
            vcpu,
            _timers: timers,
            _io: attachments,
            ram,
            nics: devices,
            serial_input,
            agent_input,
        })
    }

    /// Has the host give the guest all of its memory now, while it runs; see
    /// [`GuestRam::populate`].
    pub fn populate(&self) {
        self.ram.populate();
    }

    /// NIC number `index`.
    ///
    /// # Panics
    /// If the guest has fewer.
    pub fn nic(&self, index: usize) -> &Arc<E1000> {
        &self.nics[index]
    }

    /// All NICs, in the order of their configuration.
    pub fn nics(&self) -> &[Arc<E1000>] {
        &self.nics
    }

    /// Types on the guest's serial console, from any thread.
    pub fn serial_input(&self) -> &SerialInput {
        &self.serial_input
    }

    /// Types on the guest's COM2, from any thread; `None` if it has none.
    pub fn agent_input(&self) -> Option<&SerialInput> {
        self.agent_input.as_ref()
    }

    /// How often the guest needed us, so far.
    pub fn counters(&self) -> VcpuCounters {
        self.vcpu.counters()
    }

    /// CPU time that the guest and its exits have used; `None` if the host does not tell.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.vcpu.cpu_time()
    }

    /// Keeps its vCPU on some of the host's CPUs, until told otherwise.
    ///
    /// # Errors
    /// The kernel's, such as EINVAL for CPUs that are not there or not allowed.
    pub fn keep_on(&self, cpus: &[usize]) -> io::Result<()> {
        self.vcpu.keep_on(cpus)
    }

    /// Why the guest ended by itself; `None` while it runs.
    pub fn exited(&self) -> Option<ExitReason> {
        self.vcpu.exited()
    }

    /// Stops the guest wherever it is, waits for its threads and tells why it ended.
    ///
    /// The NICs stay valid for whoever holds them, and so do their counters.
    pub fn stop(mut self) -> ExitReason {
        self.vcpu.stop()
    }
}

#[cfg(test)]
mod tests;
