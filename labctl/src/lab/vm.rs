//! What runs a guest: a machine of this process, or QEMU.

use std::sync::Arc;
use std::time::Duration;

use vmm_core::boot::Kernel;
use vmm_core::clock::MonotonicClock;
use vmm_core::cpus;
use vmm_core::e1000::{E1000, NicCounters};
use vmm_core::kvm::{ExitReason, Hypervisor, IoThreads, MAX_SPIN, VcpuCounters};
use vmm_core::machine::{Machine, MachineConfig, MachineError, NicConfig};
use vmm_core::platform::LINUX_CMDLINE;
use vmm_core::policy::Policy;

use super::agent::Agent;
use super::console::Console;
use super::fabric::{Fabric, Plug};
use super::policy;
use super::qemu::{self, Qemu};
use super::{files, pktguest, with_help};
use crate::error::{Error, Exit};
use crate::topology::{CableId, Guest, Lab, System};

/// What runs a guest.
pub enum Vm {
    /// Our own machine.
    Ours(Machine),
    /// Boxed: it is large, and ours is not.
    Qemu(Box<Qemu>),
}

impl Vm {
    /// Our own machine's NICs; none of QEMU's.
    pub fn nics(&self) -> &[Arc<E1000>] {
        match self {
            Self::Ours(machine) => machine.nics(),
            Self::Qemu(_) => &[],
        }
    }

    /// What our own machine has counted; nothing of QEMU's.
    pub fn counters(&self) -> (VcpuCounters, Vec<NicCounters>) {
        match self {
            Self::Ours(machine) => {
                (machine.counters(), machine.nics().iter().map(|nic| nic.counters()).collect())
            }
            Self::Qemu(_) => (VcpuCounters::default(), Vec::new()),
        }
    }

    /// Why our own machine has ended, if it has.
    pub fn exited(&self) -> Option<ExitReason> {
        match self {
            Self::Ours(machine) => machine.exited(),
            Self::Qemu(_) => None,
        }
    }

    /// Our own machine, if that runs it.
    pub fn machine(&self) -> Option<&Machine> {
        match self {
            Self::Ours(machine) => Some(machine),
            Self::Qemu(_) => None,
        }
    }

    /// QEMU, if that runs it.
    pub fn qemu(&self) -> Option<&Qemu> {
        match self {
            Self::Ours(_) => None,
            Self::Qemu(qemu) => Some(qemu),
        }
    }

    /// As [`qemu`](Self::qemu), to be told something.
    pub fn qemu_mut(&mut self) -> Option<&mut Qemu> {
        match self {
            Self::Ours(_) => None,
            Self::Qemu(qemu) => Some(qemu),
        }
    }

    /// Ends it. Returns why our own machine ended.
    pub fn stop(self) -> Option<ExitReason> {
        match self {
            Self::Ours(machine) => Some(machine.stop()),
            Self::Qemu(_) => None,
        }
    }
}

/// Which guest is to start, and where.
pub struct Start<'a> {
    /// KVM.
    pub hypervisor: &'a Hypervisor,
    /// Its lab.
    pub lab: &'a Lab,
    /// Its number there.
    pub index: usize,
    /// What moves the lab's frames.
    pub policy: Policy,
    /// The threads that do, if the policy asks for any.
    pub io: &'a IoThreads,
}

/// Connects and starts a guest on our own machine.
///
/// # Errors
/// As [`RunningLab::start`](super::RunningLab::start).
pub async fn start_machine(
    Start { hypervisor, lab, index, policy, io }: Start<'_>,
    fabric: &mut Fabric,
    clock: &Arc<MonotonicClock>,
    console: Console,
    agent: &Agent,
) -> Result<(Vm, Vec<Plug>), Error> {
    let guest = &lab.guests[index];
    let mut nics = Vec::new();
    let mut sockets = Vec::new();
    for (number, nic) in guest.nics.iter().enumerate() {
        let attached = fabric.attach(lab, index, number).await;
        let (backend, socket) = attached?;
        let on = lab.optimizations_of(guest, nic);
        nics.push(NicConfig { mac: nic.mac, itr: on.itr, csb: on.csb, policy, backend });
        sockets.push(socket);
    }
    let config = MachineConfig {
        name: guest.name.clone(),
        ram_bytes: u64::from(guest.memory_mib) << 20,
        kernel: kernel(hypervisor, lab, index)?,
        nics,
        console: Box::new(console),
        agent: guest.is_linux().then(|| agent.port()),
        clock: clock.clone(),
        io: io.clone(),
    };
    let machine = Machine::start(hypervisor, config).map_err(|error| cannot_start(guest, error))?;
    let plugs = sockets.into_iter().zip(machine.nics()).enumerate();
    let plugs = plugs.map(|(nic, (socket, device))| {
        let cable = lab.cable_name(CableId::Nic { guest: index, nic });
        fabric.connect(&cable, socket, device.clone())
    });
    let plugs = plugs.collect::<Result<_, _>>()?;
    Ok((Vm::Ours(machine), plugs))
}

/// Connects a guest and starts QEMU for it, whose machine rests until [`Qemu::boot`].
///
/// # Errors
/// As [`RunningLab::start`](super::RunningLab::start).
pub async fn start_qemu(
    Start { hypervisor, lab, index, .. }: Start<'_>,
    fabric: &mut Fabric,
    console: Console,
) -> Result<(Vm, Vec<Plug>), Error> {
    let guest = &lab.guests[index];
    let missing = || Error::new(Exit::Bug, format!("guest `{}` is not one for QEMU", guest.name));
    let (qemu, pktguest) = lab.qemu.zip(guest.pktguest()).ok_or_else(missing)?;
    let nic = guest.nics.first().ok_or_else(missing)?;
    let lent = fabric.lend(lab, index, 0).await;
    let (cable, plug) = lent?;
    let config = qemu::Config {
        memory_mib: guest.memory_mib,
        cmdline: pktguest::command_line(lab, index, pktguest, hypervisor.tsc_khz()),
        nic: qemu.nic,
        itr: lab.optimizations.itr,
        mac: nic.mac,
        link: qemu.link,
        cable,
        console,
    };
    let started = Qemu::start(hypervisor.kind(), config).map_err(|error| {
        let message = format!("cannot start QEMU for guest `{}`", guest.name);
        let reason = qemu::version().err().unwrap_or_else(|| error.to_string());
        Error::new(Exit::HostLacks, message).because(reason)
    })?;
    Ok((Vm::Qemu(Box::new(started)), vec![plug]))
}

/// What a guest boots.
fn kernel(hypervisor: &Hypervisor, lab: &Lab, index: usize) -> Result<Kernel, Error> {
    let guest = &lab.guests[index];
    match &guest.system {
        System::Pktguest(pktguest) => Ok(Kernel {
            image: images::PKTGUEST.into(),
            cmdline: pktguest::command_line(lab, index, pktguest, hypervisor.tsc_khz()),
            ..Kernel::default()
        }),
        System::Linux(boot) => files::kernel(guest, boot, LINUX_CMDLINE),
        System::Pvh(boot) => files::kernel(guest, boot, ""),
    }
}

fn cannot_start(guest: &Guest, error: MachineError) -> Error {
    let message = format!("cannot start guest `{}`", guest.name);
    match error {
        MachineError::Boot(error) => {
            let help = guest.boot().map(|boot| files::boot_help(boot, &error));
            let error = Error::new(Exit::InvalidFile, message).because(error);
            with_help(error, help)
        }
        MachineError::TooManyNics(_) => Error::new(Exit::InvalidFile, message).because(error),
        error => Error::new(Exit::HostLacks, message).because(error).help("run `labctl doctor`"),
    }
}

/// The threads for a lab's policy. They may watch before they sleep if each has a CPU that no vCPU
/// needs.
pub fn io_threads(lab: &Lab, policy: Policy) -> IoThreads {
    let spare = io_thread_count(lab, policy) <= policy::spare_cpus(lab);
    IoThreads::new(if spare { MAX_SPIN } else { Duration::ZERO })
}

fn io_thread_count(lab: &Lab, policy: Policy) -> usize {
    match policy {
        Policy::Push | Policy::Pull => 0,
        Policy::Thread => lab.guests.iter().map(|guest| guest.nics.len()).sum(),
        Policy::Poller => 1,
    }
}

/// A host CPU for each guest, or none for any: to pin some would favour the others. A pinned vCPU
/// would keep an I/O thread waiting that has no CPU of its own; QEMU's guests have one each.
pub fn cpus_for(lab: &Lab, policy: Policy) -> Vec<usize> {
    let mut cpus = cpus::allowed().unwrap_or_default();
    let guests = lab.guests.len();
    let io = if lab.qemu.is_some() { guests } else { io_thread_count(lab, policy) };
    if guests + io > cpus.len() {
        cpus.clear();
    }
    cpus
}
