//! A running lab: guests, and the switches or bridges between them.
//!
//! [`RunningLab::start`] turns a checked [`Lab`] into running machines with their links down.
//! [`RunningLab::set_links`] lets them go all at once. Everything ends when the value is dropped:
//! guests are threads of this process, or QEMUs that the kernel kills with it, TAPs are file
//! descriptors, and the network namespace of the bridges has no name, so that the kernel cleans up
//! whatever way the process ends.

pub mod agent;
mod console;
mod fabric;
mod files;
mod guest;
mod linux;
pub mod network;
pub mod qemu;
mod vm;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout_at;
use vmm_core::clock::MonotonicClock;
use vmm_core::e1000::{E1000, NicCounters};
use vmm_core::kvm::{ExitReason, Hypervisor, HypervisorError, VcpuCounters};

pub use console::Line;
pub use fabric::{FabricCounters, FabricError};
pub use guest::{Final, Report};

use crate::error::{Error, Exit};
use crate::policy;
use crate::topology::Lab;
use console::{Console, printable};
use fabric::{Fabric, Plug};
use qemu::Qemu;
use vm::Vm;

/// How long a guest may take to boot.
const BOOT_TIME: Duration = Duration::from_secs(10);

/// How long guests that listen may take to announce themselves before others begin.
const ANNOUNCE_TIME: Duration = Duration::from_millis(200);

/// How often we look whether the guests live.
const CHECK_TIME: Duration = Duration::from_millis(100);

/// Opens KVM.
///
/// # Errors
/// [`Exit::HostLacks`] with what to do about it.
pub fn open_hypervisor() -> Result<Hypervisor, Error> {
    Hypervisor::open().map_err(|error: HypervisorError| {
        Error::new(Exit::HostLacks, error.to_string()).help("run `labctl doctor`")
    })
}

/// One guest of a running lab.
struct RunningGuest {
    name: String,
    // Stopped before the machine: it delivers into the machine's NICs.
    plugs: Vec<Plug>,
    vm: Vm,
    /// Whether its workload starts a conversation, so that the others should listen before.
    starts: bool,
    linux: bool,
    panic: Arc<OnceLock<String>>,
    ready: bool,
    done: Option<Final>,
    reset: bool,
}

impl RunningGuest {
    /// Whether it has ended by itself and well: pktguest with its final report, Linux with a reset.
    fn has_ended(&self) -> bool {
        self.done.is_some() || self.reset
    }

    fn failed(&self, message: &str) -> Error {
        Error::new(Exit::Failed, format!("guest `{}` failed: {message}", self.name))
    }
}

/// Guests and what connects them.
pub struct RunningLab {
    guests: Vec<RunningGuest>,
    fabric: Fabric,
    lines: mpsc::UnboundedReceiver<Line>,
    unread: VecDeque<Line>,
    next_check: Instant,
}

/// Everything that was counted in a lab, at one moment.
#[derive(Clone, Debug)]
pub struct LabCounters {
    /// Per guest, in the file's order: its exits and its NICs; nothing of those that QEMU runs.
    pub guests: Vec<(VcpuCounters, Vec<NicCounters>)>,
    /// What lies between the NICs.
    pub fabric: FabricCounters,
}

impl RunningLab {
    /// Builds the lab and starts its guests, links down.
    ///
    /// # Errors
    /// [`Exit::HostLacks`] if the host cannot run it, [`Exit::InvalidFile`] if the
    /// files of a guest with a kernel of its own are no good.
    pub async fn start(hypervisor: &Hypervisor, lab: &Lab) -> Result<Self, Error> {
        check(hypervisor, lab)?;
        let clock = Arc::new(MonotonicClock::new());
        let (sender, lines) = mpsc::unbounded_channel();
        let mut fabric = Fabric::new(lab, clock.clone()).await.map_err(host_lacks)?;
        let policy = policy::of(lab, hypervisor.kind());
        let (cpus, io) = (vm::cpus_for(lab, policy), vm::io_threads(lab, policy));
        let mut guests = Vec::with_capacity(lab.guests.len());
        for (index, guest) in lab.guests.iter().enumerate() {
            let console = Console::new(index, sender.clone());
            let panic = console.panic();
            let cpu = cpus.get(index).copied();
            let place = vm::Place { hypervisor, lab, index, cpu, io: &io };
            let (vm, plugs) = if lab.qemu.is_some() {
                vm::start_qemu(place, &mut fabric, console).await?
            } else {
                vm::start_machine(place, &mut fabric, &clock, console).await?
            };
            let name = guest.name.clone();
            let starts = guest.pktguest().is_some_and(|guest| guest.workload.role.to().is_some());
            // Linux says nothing that could be waited for; its driver copes with a cable at any time.
            let linux = guest.is_linux();
            let (ready, done, reset) = (linux, None, false);
            guests.push(RunningGuest { name, plugs, vm, starts, linux, panic, ready, done, reset });
        }
        // They have all begun by now, so that nobody waits for the sum of their starts.
        for (index, guest) in guests.iter_mut().enumerate() {
            let booted = guest.vm.qemu_mut().map(|qemu| qemu.boot(cpus.get(index).copied()));
            if let Some(Err(words)) = booted {
                return Err(guest.failed(&words));
            }
        }
        let (unread, next_check) = (VecDeque::new(), Instant::now());
        Ok(Self { guests, fabric, lines, unread, next_check })
    }

    /// How many guests there are.
    pub fn guests(&self) -> usize {
        self.guests.len()
    }

    /// The guest's name.
    pub fn name(&self, guest: usize) -> &str {
        &self.guests[guest].name
    }

    /// Plugs all cables in, or out, at one instant. QEMUs are told one by one, and to plug in those
    /// first whose guests listen.
    pub fn set_links(&mut self, up: bool) {
        let nics: Vec<_> = self.guests.iter().flat_map(|guest| guest.vm.nics().to_vec()).collect();
        E1000::set_links(&nics, up);
        for starts in [!up, up] {
            let guests = self.guests.iter_mut().filter(|guest| guest.starts == starts);
            guests.filter_map(|guest| guest.vm.qemu_mut()).for_each(|qemu| qemu.set_link(up));
        }
    }

    /// Plugs the cables of those guests in that do not begin to send by themselves, and waits until
    /// they have announced themselves: switches then know where they are, and flood no stream to those
    /// whom it does not concern. QEMUs are left to [`set_links`](Self::set_links).
    ///
    /// # Errors
    /// If the kernel does not tell its counters.
    pub async fn plug_in_listeners(&mut self) -> Result<(), Error> {
        let listeners = self.guests.iter().filter(|guest| !guest.starts);
        let nics: Vec<_> = listeners.flat_map(|guest| guest.vm.nics().to_vec()).collect();
        E1000::set_links(&nics, true);
        let deadline = Instant::now() + ANNOUNCE_TIME;
        while nics.iter().any(|nic| nic.counters().tx.frames == 0) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if nics.is_empty() { Ok(()) } else { self.settle().await }
    }

    /// Plugs one guest's cables out.
    pub fn unplug(&mut self, guest: usize) {
        let vm = &mut self.guests[guest].vm;
        E1000::set_links(vm.nics(), false);
        vm.qemu_mut().into_iter().for_each(|qemu| qemu.set_link(false));
    }

    fn qemus(&self) -> impl Iterator<Item = &Qemu> {
        self.guests.iter().filter_map(|guest| guest.vm.qemu())
    }

    /// CPU time of other processes that run guests.
    pub fn cpu_time_elsewhere(&self) -> Duration {
        self.qemus().map(Qemu::cpu_time).sum()
    }

    /// Waits until every pktguest has said that it is ready.
    ///
    /// # Errors
    /// [`Exit::Timeout`] if one does not, [`Exit::Failed`] if one fails; with its words.
    pub async fn ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + BOOT_TIME;
        while let Some(waiting) = self.guests.iter().position(|guest| !guest.ready) {
            match self.hear(deadline).await? {
                Some(line) => self.unread.push_back(line),
                None => {
                    let name = self.name(waiting);
                    let message = format!("guest `{name}` was not ready after {BOOT_TIME:?}");
                    return Err(Error::new(Exit::Timeout, message));
                }
            }
        }
        let deaf = self.qemus().map(Qemu::deaf_for).max().unwrap_or_default();
        tokio::time::sleep(deaf).await;
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
        while self.guests[guest].done.is_none() {
            if self.hear(deadline).await?.is_none() {
                return Ok(None);
            }
        }
        Ok(self.guests[guest].done.clone())
    }

    /// The next line that a guest prints; `None` once all have ended by themselves. Waits for ever
    /// if neither happens.
    ///
    /// # Errors
    /// [`Exit::Failed`] if a guest fails.
    pub async fn next_line(&mut self) -> Result<Option<Line>, Error> {
        if let Some(line) = self.unread.pop_front() {
            return Ok(Some(line));
        }
        loop {
            let soon = Instant::now() + Duration::from_millis(200);
            if let Some(line) = self.hear(soon).await? {
                return Ok(Some(line));
            }
            if self.have_ended() {
                return Ok(None);
            }
        }
    }

    /// Whether the line says that its guest has halted, which does not end it.
    pub fn has_halted(&self, line: &Line) -> bool {
        self.guests[line.guest].linux && linux::has_halted(&line.text)
    }

    /// Reads one console line and notes what it reports. Also notices guests that have died, however
    /// much the others print.
    async fn hear(&mut self, deadline: Instant) -> Result<Option<Line>, Error> {
        loop {
            let now = Instant::now();
            if now >= self.next_check {
                self.next_check = now + CHECK_TIME;
                if self.check_alive().is_err() || self.have_ended() {
                    // What was printed so far comes first, and nothing can put it off for ever.
                    self.lines.close();
                }
            }
            if now >= deadline {
                self.check_alive()?;
                return Ok(None);
            }
            let patience = deadline.min(self.next_check);
            match timeout_at(patience.into(), self.lines.recv()).await {
                Ok(Some(line)) => return self.note(&line).map(|()| Some(line)),
                // Closed above, or all senders are gone, and with them the machines they live in.
                Ok(None) => {
                    self.check_alive()?;
                    return Ok(None);
                }
                Err(_) => {}
            }
        }
    }

    /// Notes what a line reports.
    fn note(&mut self, line: &Line) -> Result<(), Error> {
        let guest = &mut self.guests[line.guest];
        match line.report.as_ref().filter(|_| !guest.linux) {
            Some(Report::Ready) => guest.ready = true,
            Some(Report::Final(report)) => guest.done = Some((**report).clone()),
            Some(Report::Error { message }) => return Err(guest.failed(&printable(message))),
            Some(Report::Interval) | None => {}
        }
        Ok(())
    }

    fn have_ended(&self) -> bool {
        self.guests.iter().all(RunningGuest::has_ended)
    }

    fn check_alive(&mut self) -> Result<(), Error> {
        for guest in &mut self.guests {
            if let Some(message) = guest.panic.get().filter(|_| guest.linux) {
                return Err(guest.failed(message));
            }
            if let Some(words) = guest.vm.qemu_mut().and_then(Qemu::exited) {
                return Err(guest.failed(&words));
            }
            if let Some(reason) = guest.vm.exited() {
                if guest.linux && reason == ExitReason::Reset {
                    guest.reset = true;
                    continue;
                }
                let message = format!("guest `{}` died: {reason}", guest.name);
                let ours = reason == ExitReason::Panicked;
                return Err(Error::new(if ours { Exit::Bug } else { Exit::Failed }, message));
            }
        }
        Ok(())
    }

    /// Waits until no frame is on its way between NICs any more, up to a second.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub async fn settle(&mut self) -> Result<(), Error> {
        self.fabric.settle(self.plugs()).await.map_err(host_lacks)
    }

    /// All counters, now.
    ///
    /// # Errors
    /// If the kernel does not tell its own.
    pub async fn counters(&self) -> Result<LabCounters, Error> {
        Ok(LabCounters {
            guests: self.guests.iter().map(|guest| guest.vm.counters()).collect(),
            fabric: self.fabric.counters(self.plugs()).await.map_err(host_lacks)?,
        })
    }

    fn plugs(&self) -> Vec<&Plug> {
        self.guests.iter().flat_map(|guest| &guest.plugs).collect()
    }

    /// Stops everything. Returns why each of our own guests ended.
    pub fn stop(mut self) -> Vec<(String, ExitReason)> {
        // Nobody is to send to a guest that is being taken down.
        self.set_links(false);
        let stop = |guest: RunningGuest| {
            drop(guest.plugs);
            Some((guest.name, guest.vm.stop()?))
        };
        self.guests.into_iter().filter_map(stop).collect()
    }
}

/// Refuses what the file may say and this host cannot do.
fn check(hypervisor: &Hypervisor, lab: &Lab) -> Result<(), Error> {
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
    let wanted: u64 = lab.guests.iter().map(|guest| u64::from(guest.memory_mib)).sum();
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

fn host_lacks(error: FabricError) -> Error {
    let help = error.help();
    with_help(Error::new(Exit::HostLacks, "cannot connect the guests").because(error), help)
}

fn with_help(error: Error, help: Option<impl Into<String>>) -> Error {
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}

#[cfg(test)]
mod tests;
