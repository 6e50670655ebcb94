//! A running lab: guests, and the switches, bridges and cables between them.
//!
//! [`RunningLab::start`] turns a checked [`Lab`] into running machines with their links down.
//! [`RunningLab::set_links`] lets them go all at once. Everything ends when the value is dropped:
//! guests are threads of this process, or QEMUs that the kernel kills with it, TAPs are file
//! descriptors, and the network namespace of the bridges has no name, so that the kernel cleans up
//! whatever way the process ends.

mod agent;
mod console;
mod exec;
mod fabric;
mod files;
mod guest;
mod linux;
pub mod network;
pub mod qemu;
mod running_guest;
mod vm;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout_at;
use vmm_core::clock::MonotonicClock;
use vmm_core::cpus;
use vmm_core::e1000::{E1000, NicCounters};
use vmm_core::kvm::{ExitReason, Hypervisor, HypervisorError, IoThreads, VcpuCounters};
use vmm_core::policy::Policy;

pub use console::{Line, Screen, Watcher};
pub use exec::{Agent, ExecError, Output, Running};
pub use fabric::{CableCount, Fabric, FabricCounters, FabricError, RunningCable, TapCount};
pub use files::check as check_files;
pub use guest::{Final, Report, command_line};
use running_guest::Voices;
pub use running_guest::{RunningGuest, State};

use crate::error::{Error, Exit};
use crate::policy;
use crate::topology::Lab;
use console::Console;
use fabric::OwnedPlug;
use qemu::Qemu;

/// How long a guest may take to boot.
const BOOT_TIME: Duration = Duration::from_secs(10);

/// How long guests that listen may take to announce themselves before others begin.
const ANNOUNCE_TIME: Duration = Duration::from_millis(200);

/// How often we look whether the guests live.
const LOOK_TIME: Duration = Duration::from_millis(100);

/// Opens KVM.
///
/// # Errors
/// [`Exit::HostLacks`] with what to do about it.
pub fn open_hypervisor() -> Result<Hypervisor, Error> {
    Hypervisor::open().map_err(|error: HypervisorError| {
        Error::new(Exit::HostLacks, error.to_string()).help("run `labctl doctor`")
    })
}

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

/// Something that happens in a lab.
#[derive(Debug)]
pub enum Happening {
    /// A guest has printed a line.
    Line(Line),
    /// A guest has said that it is ready, or what stands for that.
    Ready(usize),
    /// A guest has ended by itself, and well.
    Done(usize),
    /// A guest has failed; its [`State`] says how.
    Failed(usize),
    /// A guest hangs, or does so no more.
    Hang(usize),
    /// The cable of that name has lost an end.
    Lost(String),
}

impl Happening {
    /// That a guest has come into this state.
    fn of(number: usize, state: &State) -> Self {
        match state {
            State::Starting | State::Running => Self::Ready(number),
            State::Done => Self::Done(number),
            State::Failed(_) => Self::Failed(number),
        }
    }
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
        let policy = policy::of(lab, hypervisor.kind());
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
        let place = vm::Place { hypervisor, lab, index, policy: self.policy, io: &self.io };
        let (vm, plugs) = if lab.qemu.is_some() {
            vm::start_qemu(place, &mut self.fabric, console).await?
        } else {
            vm::start_machine(place, &mut self.fabric, &self.clock, console, &agent).await?
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

    /// Plugs all cables in, or out, at one instant. QEMUs are told one by one, and to plug in those
    /// first whose guests listen.
    pub fn set_links(&mut self, up: bool) {
        self.plug_nics(|_| true, up);
        for starts in [!up, up] {
            let guests = self.guests.values_mut().filter(|guest| guest.starts() == starts);
            guests.filter_map(RunningGuest::qemu_mut).for_each(|qemu| qemu.set_link(up));
        }
    }

    /// Plugs the cables of those guests in that do not begin to send by themselves, and waits until
    /// they have announced themselves: switches then know where they are, and flood no stream to those
    /// whom it does not concern. QEMUs are left to [`set_links`](Self::set_links).
    ///
    /// # Errors
    /// If the kernel does not tell its counters.
    pub async fn plug_in_listeners(&mut self) -> Result<(), Error> {
        let nics = self.plug_nics(|guest| !guest.starts(), true);
        let deadline = Instant::now() + ANNOUNCE_TIME;
        while nics.iter().any(|nic| nic.counters().tx.frames == 0) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if nics.is_empty() { Ok(()) } else { self.settle().await }
    }

    /// Plugs the cables of guest `number` in, or out.
    pub fn set_link(&mut self, number: usize, up: bool) {
        let name = self.name(number).to_owned();
        self.plug_nics(|guest| guest.name() == name, up);
        let Some(guest) = self.guests.get_mut(&number) else { return };
        guest.qemu_mut().into_iter().for_each(|qemu| qemu.set_link(up));
    }

    /// Plugs the cables of some guests in, or out, at one instant; returns the NICs.
    fn plug_nics(&mut self, which: impl Fn(&RunningGuest) -> bool, up: bool) -> Vec<Arc<E1000>> {
        let mut nics = Vec::new();
        for guest in self.guests.values_mut().filter(|guest| which(guest)) {
            guest.let_go(up);
            // What somebody has unplugged stays so.
            let plugged = guest.cabled().filter(|(name, _)| !up || self.fabric.is_plugged(name));
            nics.extend(plugged.map(|(_, device)| device.clone()));
        }
        E1000::set_links(&nics, up);
        nics
    }

    /// Plugs the cable of that name in, or out.
    pub fn plug_cable(&mut self, name: &str, up: bool) {
        if let Some(cable) = self.fabric.cable_mut(name) {
            cable.set_plugged(up);
        }
        for guest in self.guests.values().filter(|guest| guest.is_let_go()) {
            if let Some((_, device)) = guest.cabled().find(|(cable, _)| cable == name) {
                E1000::set_links(std::slice::from_ref(device), up);
            }
        }
    }

    /// What lies between the NICs.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// As [`fabric`](Self::fabric), to be changed.
    pub fn fabric_mut(&mut self) -> &mut Fabric {
        &mut self.fabric
    }

    /// CPU time of other processes that run guests.
    pub fn cpu_time_elsewhere(&self) -> Duration {
        self.guests.values().filter_map(RunningGuest::qemu).map(Qemu::cpu_time).sum()
    }

    /// Waits until every guest is ready to be measured: it has said so, and has all of its memory.
    /// What guests print meanwhile is gone.
    ///
    /// # Errors
    /// [`Exit::Timeout`] if one does not get ready, [`Exit::Failed`] if one fails; with its words.
    pub async fn ready(&mut self) -> Result<(), Error> {
        self.guests.values().for_each(RunningGuest::populate);
        let deadline = Instant::now() + BOOT_TIME;
        while let Some(waiting) = self.first_in(&State::Starting) {
            if self.happens(deadline).await?.is_none() {
                let name = self.name(waiting);
                let message = format!("guest `{name}` was not ready after {BOOT_TIME:?}");
                return Err(Error::new(Exit::Timeout, message));
            }
        }
        let qemus = self.guests.values().filter_map(RunningGuest::qemu);
        tokio::time::sleep(qemus.map(Qemu::deaf_for).max().unwrap_or_default()).await;
        Ok(())
    }

    /// Waits for a guest's final report; `None` if it does not come by `deadline`. Whatever else
    /// the guests print meanwhile is gone.
    ///
    /// # Errors
    /// [`Exit::Failed`] if a guest fails meanwhile.
    pub async fn finished(
        &mut self,
        guest: usize,
        deadline: Instant,
    ) -> Result<Option<Final>, Error> {
        loop {
            let report = self.guests.get(&guest).and_then(RunningGuest::report);
            if let Some(report) = report {
                return Ok(Some(report.clone()));
            }
            if self.happens(deadline).await?.is_none() {
                return Ok(None);
            }
        }
    }

    /// Whether a pktguest has not said yet that it is ready.
    pub fn has_starting_pktguest(&self) -> bool {
        let mut guests = self.guests.values();
        guests.any(|guest| guest.is_pktguest() && guest.state() == &State::Starting)
    }

    fn first_in(&self, state: &State) -> Option<usize> {
        self.guests.iter().find(|(_, guest)| guest.state() == state).map(|(number, _)| *number)
    }

    /// As [`next`](Self::next), but a guest's failure is an error, and `deadline` ends the waiting
    /// however much the guests print.
    async fn happens(&mut self, deadline: Instant) -> Result<Option<Happening>, Error> {
        let happening = tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline.into()) => {
                self.look();
                self.happened.iter().rev().find_map(|happening| match happening {
                    Happening::Failed(guest) => Some(Happening::Failed(*guest)),
                    _ => None,
                })
            }
            happening = self.next() => Some(happening),
        };
        match happening {
            Some(Happening::Failed(guest)) => {
                Err(self.guests.get(&guest).map_or_else(lost, RunningGuest::error))
            }
            other => Ok(other),
        }
    }

    /// The next thing that happens. What a guest printed before it ended comes before its end.
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Happening {
        loop {
            if Instant::now() >= self.next_look {
                self.next_look = Instant::now() + LOOK_TIME;
                self.look();
            }
            if let Some(happening) = self.happened.pop_front() {
                return happening;
            }
            if let Ok(Some(line)) = timeout_at(self.next_look.into(), self.lines.recv()).await {
                self.take(line);
            }
        }
    }

    /// Whether more has happened than [`next`](Self::next) has told.
    pub fn has_news(&self) -> bool {
        !self.happened.is_empty()
    }

    /// Notices guests that have ended, however much the others print.
    fn look(&mut self) {
        let changed = self.guests.iter_mut().filter_map(|(number, guest)| {
            guest.look().then(|| Happening::of(*number, guest.state()))
        });
        let mut changed: Vec<_> = changed.collect();
        let alive = self.guests.iter_mut().filter_map(|(number, guest)| {
            guest.look_for_life().then_some(Happening::Hang(*number))
        });
        changed.extend(alive);
        if !changed.is_empty() {
            // All that those printed who have ended is there, because their serial port is gone.
            self.take_printed();
        }
        self.happened.extend(changed);
        self.happened.extend(self.fabric.unplug_lost().into_iter().map(Happening::Lost));
    }

    /// Takes the lines that are there by now: a guest that goes on printing keeps nobody for ever.
    fn take_printed(&mut self) {
        for _ in 0..self.lines.len() {
            self.lines.try_recv().into_iter().for_each(|line| self.take(line));
        }
    }

    /// Notes what a line reports.
    fn take(&mut self, line: Line) {
        let number = line.guest;
        let change = self.guests.get_mut(&number).and_then(|guest| guest.hear(&line));
        self.happened.push_back(Happening::Line(line));
        self.happened.extend(change.map(|state| Happening::of(number, &state)));
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

fn lost() -> Error {
    Error::new(Exit::Bug, "a guest that is not there has failed")
}

/// Refuses what the file may say and this host's KVM cannot do.
///
/// # Errors
/// [`Exit::HostLacks`] with what is missing.
pub fn check_kind(hypervisor: &Hypervisor, lab: &Lab) -> Result<(), Error> {
    let linux = lab.guests.iter().find(|guest| guest.is_linux());
    if let Some(guest) = linux.filter(|_| !hypervisor.kind().runs_kernels_natively()) {
        let message = format!(
            "this host cannot run guest `{}`: Linux needs hardware KVM, and this is {}",
            guest.name,
            hypervisor.kind()
        );
        return Err(Error::new(Exit::HostLacks, message)
            .help("use a host where `labctl doctor` says `hardware KVM`"));
    }
    Ok(())
}

/// Refuses more memory than this host has to give. Guests take it as they use it, so that the kernel
/// would not refuse but kill.
///
/// # Errors
/// [`Exit::HostLacks`].
pub fn check_memory(wanted: u64) -> Result<(), Error> {
    match available_memory_mib() {
        Some(available) if wanted > available => {
            let message = format!(
                "the guests want {wanted} MiB of memory together; {available} MiB are available"
            );
            Err(Error::new(Exit::HostLacks, message).help("lower `memory`, or start fewer guests"))
        }
        _ => Ok(()),
    }
}

/// What the host can give without swapping; `None` if it does not tell.
fn available_memory_mib() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
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
