//! A running lab: guests, and the switches, bridges and cables between them.
//!
//! [`RunningLab::start`] turns a checked [`Lab`] into running machines with their links down.
//! [`RunningLab::set_links`] lets them go all at once. Everything ends when the value is dropped:
//! guests are threads of this process, or QEMUs that the kernel kills with it, TAPs are file
//! descriptors, and the network namespace of the bridges has no name, so that the kernel cleans up
//! whatever way the process ends.

mod agent;
mod console;
mod fabric;
mod files;
mod guest;
mod happening;
mod host;
mod linux;
mod measured;
pub mod network;
mod pktguest;
mod plugging;
mod policy;
pub mod qemu;
mod vm;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use tokio::sync::mpsc;
use vmm_core::clock::MonotonicClock;
use vmm_core::cpus;
use vmm_core::e1000::NicCounters;
use vmm_core::kvm::{ExitReason, Hypervisor, IoThreads, VcpuCounters};
use vmm_core::policy::Policy;

pub use agent::{Agent, ExecError, Output, RunningCommand};
pub use console::{Line, Screen, Watcher};
pub use fabric::{CableCount, Fabric, FabricCounters, FabricError, RunningCable, TapCount};
pub use files::check as check_files;
use guest::Voices;
pub use guest::{RunningGuest, State};
pub use happening::Happening;
pub use host::{check_kind, check_memory, open_hypervisor};
pub use pktguest::{Final, Report, command_line};
pub use policy::policy_of;

use crate::error::{Error, Exit};
use crate::topology::Lab;
use console::Console;
use fabric::OwnedPlug;

/// Guests and what connects them.
///
/// Guests are known by a number that stays theirs; those of [`start`](Self::start) have the numbers
/// of the lab file's order.
pub struct RunningLab {
    guests: BTreeMap<usize, RunningGuest>,
    fabric: Fabric,
    clock: Arc<MonotonicClock>,
    policy: Policy,
    io: IoThreads,
    lines: mpsc::UnboundedReceiver<Line>,
    sender: mpsc::UnboundedSender<Line>,
    happened: VecDeque<Happening>,
    next_look: Instant,
}

/// Everything that was counted in a lab, at one moment.
#[derive(Clone, Debug)]
pub struct LabCounters {
    /// Per guest, in the order of their numbers: its exits and its NICs; nothing of those that QEMU
    /// runs.
    pub guests: Vec<(VcpuCounters, Vec<NicCounters>)>,
    /// What lies between the NICs.
    pub fabric: FabricCounters,
}

impl RunningLab {
    /// Builds the lab and starts its guests, links down.
    ///
    /// # Errors
    /// [`Exit::HostLacks`] if the host cannot run it, [`Exit::InvalidFile`] if the files of a guest
    /// with a kernel of its own are no good.
    pub async fn start(hypervisor: &Hypervisor, lab: &Lab) -> Result<Self, Error> {
        check_kind(hypervisor, lab)?;
        check_memory(lab.guests.iter().map(|guest| u64::from(guest.memory_mib)).sum())?;
        let clock = Arc::new(MonotonicClock::new());
        let (sender, lines) = mpsc::unbounded_channel();
        let fabric = Fabric::new(lab, clock.clone()).await?;
        let policy = policy_of(lab, hypervisor.kind());
        let mut running = Self {
            guests: BTreeMap::new(),
            fabric,
            clock,
            policy,
            io: vm::io_threads(lab, policy),
            lines,
            sender,
            happened: VecDeque::new(),
            next_look: Instant::now(),
        };
        for guest in 0..lab.guests.len() {
            running.start_guest(hypervisor, lab, guest, guest).await?;
            // Whoever wants to end a large lab is heard before all of it has started.
            tokio::task::yield_now().await;
        }
        // They have all begun by now, so that nobody waits for the sum of their starts.
        let cpus = vm::cpus_for(lab, policy);
        for (number, guest) in &mut running.guests {
            guest.boot(cpus.get(*number).copied())?;
        }
        running.place(lab);
        Ok(running)
    }

    /// What moves the frames.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What moves the frames of guests of `lab` that start from now on.
    pub fn set_policy(&mut self, lab: &Lab, policy: Policy) {
        if policy != self.policy {
            (self.policy, self.io) = (policy, vm::io_threads(lab, policy));
        }
    }

    /// Gives each guest of `lab` a CPU to itself if there are enough, and all of them to all if not.
    pub fn place(&self, lab: &Lab) {
        let own = vm::cpus_for(lab, self.policy);
        let Ok(all) = cpus::allowed() else { return };
        for (index, spec) in lab.guests.iter().enumerate() {
            let guest = self.find(&spec.name).and_then(|number| self.guests.get(&number));
            let cpus = own.get(index).map_or(&all[..], std::slice::from_ref);
            guest.into_iter().for_each(|guest| guest.keep_on(cpus));
        }
    }

    /// Starts guest `index` of `lab` as number `number`, its links down.
    async fn start_guest(
        &mut self,
        hypervisor: &Hypervisor,
        lab: &Lab,
        index: usize,
        number: usize,
    ) -> Result<(), Error> {
        let console = Console::new(number, &lab.guests[index].name, self.sender.clone());
        let (panic, screen) = (console.panic(), console.screen());
        let agent = Agent::default();
        let start = vm::Start { hypervisor, lab, index, policy: self.policy, io: &self.io };
        let (vm, plugs) = if lab.qemu.is_some() {
            vm::start_qemu(start, &mut self.fabric, console).await?
        } else {
            vm::start_machine(start, &mut self.fabric, &self.clock, console, &agent).await?
        };
        let voices = Voices { panic, screen, agent };
        let guest = RunningGuest::new(&lab.guests[index], vm, plugs, voices);
        self.guests.insert(number, guest);
        Ok(())
    }

    /// Stops guest `number` and starts guest `index` of `lab` in its place.
    ///
    /// # Errors
    /// As [`start`](Self::start). The guest is gone then.
    pub async fn restart_guest(
        &mut self,
        hypervisor: &Hypervisor,
        lab: &Lab,
        index: usize,
        number: usize,
    ) -> Result<(), Error> {
        self.remove_guest(number);
        self.start_guest(hypervisor, lab, index, number).await?;
        let cpu = vm::cpus_for(lab, self.policy).get(index).copied();
        self.guests.get_mut(&number).map_or(Ok(()), |guest| guest.boot(cpu))?;
        self.place(lab);
        Ok(())
    }

    /// Starts guest `index` of `lab` beside the others; returns its number.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn add_guest(
        &mut self,
        hypervisor: &Hypervisor,
        lab: &Lab,
        index: usize,
    ) -> Result<usize, Error> {
        let number = self.guests.last_key_value().map_or(0, |(number, _)| number + 1);
        self.restart_guest(hypervisor, lab, index, number).await?;
        Ok(number)
    }

    /// Stops a guest. Its cables stay, for whoever comes in its place.
    pub fn remove_guest(&mut self, number: usize) {
        self.set_link(number, false);
        let Some(guest) = self.guests.remove(&number) else { return };
        guest.stop();
        // Its last words must not pass for those of whoever has its number next.
        self.take_printed();
        self.happened.retain(|happening| match happening {
            Happening::Line(_) | Happening::Lost(_) => true,
            Happening::Ready(of)
            | Happening::Done(of)
            | Happening::Failed(of)
            | Happening::Hang(of) => *of != number,
        });
    }

    /// How many guests there are.
    pub fn guests(&self) -> usize {
        self.guests.len()
    }

    /// Their numbers, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.guests.keys().copied()
    }

    /// The guest of that number.
    pub fn guest(&self, number: usize) -> Option<&RunningGuest> {
        self.guests.get(&number)
    }

    /// The number of the guest of that name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.guests.iter().find(|(_, guest)| guest.name() == name).map(|(number, _)| *number)
    }

    /// The guest's name.
    pub fn name(&self, guest: usize) -> &str {
        self.guests.get(&guest).map_or("?", RunningGuest::name)
    }

    /// What lies between the NICs.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// As [`fabric`](Self::fabric), to be changed.
    pub fn fabric_mut(&mut self) -> &mut Fabric {
        &mut self.fabric
    }

    /// Whether a pktguest has not said yet that it is ready.
    pub fn has_starting_pktguest(&self) -> bool {
        let mut guests = self.guests.values();
        guests.any(|guest| guest.is_pktguest() && guest.state() == &State::Starting)
    }

    /// Waits until no frame is on its way between NICs any more, up to a second.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub async fn settle(&mut self) -> Result<(), Error> {
        let forward = self.guests.values().any(RunningGuest::forwards);
        Ok(self.fabric.settle(&self.plugs(), forward).await?)
    }

    /// All counters, now.
    ///
    /// # Errors
    /// If the kernel does not tell its own.
    pub async fn counters(&self) -> Result<LabCounters, Error> {
        Ok(LabCounters {
            guests: self.guests.values().map(RunningGuest::counters).collect(),
            fabric: self.fabric.counters(&self.plugs()).await?,
        })
    }

    fn plugs(&self) -> Vec<OwnedPlug<'_>> {
        let guests = self.guests.values();
        guests.flat_map(|guest| guest.plugs().iter().map(|plug| (guest.name(), plug))).collect()
    }

    /// Stops everything. Returns why each of our own guests ended.
    pub fn stop(mut self) -> Vec<(String, ExitReason)> {
        // Nobody is to send to a guest that is being taken down. QEMUs are not asked, but killed.
        self.plug_nics(|_| true, false);
        // Side by side: the kernel takes its time for each.
        thread::scope(|scope| {
            let guests = self.guests.into_values();
            let stopping: Vec<_> = guests.map(|guest| scope.spawn(|| guest.stop())).collect();
            stopping.into_iter().filter_map(|stopped| stopped.join().ok().flatten()).collect()
        })
    }
}

impl From<FabricError> for Error {
    fn from(error: FabricError) -> Self {
        let help = error.help();
        with_help(Self::new(Exit::HostLacks, "cannot connect the guests").because(error), help)
    }
}

fn with_help(error: Error, help: Option<impl Into<String>>) -> Error {
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}

#[cfg(test)]
mod tests;
