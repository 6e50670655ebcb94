//! One guest of a running lab, and what is known of how it is.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use vmm_core::e1000::{E1000, NicCounters};
use vmm_core::kvm::{ExitReason, VcpuCounters};
use vmm_core::machine::Machine;
use vmm_core::serial::SerialInput;

use super::agent::{Agent, ExecError, RunningCommand};
use super::console::{Screen, printable};
use super::fabric::Plug;
use super::pktguest::{Final, Report};
use super::qemu::Qemu;
use super::vm::Vm;
use super::{Line, linux};
use crate::error::{Error, Exit};
use crate::topology::{Guest, Role};

/// How a guest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not said yet that it is ready.
    Starting,
    /// It is at work.
    Running,
    /// It has ended by itself and well: pktguest with its final report, others with a reset or a
    /// halt.
    Done,
    /// It has failed.
    Failed(Failure),
}

/// How a guest has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it did, as in `died: ...` or `failed: ...`.
    pub message: String,
    /// Whether it is our fault.
    pub ours: bool,
}

/// What is heard of a guest besides lines.
pub(super) struct Voices {
    /// The last words of its kernel, if it has any.
    pub panic: Arc<OnceLock<String>>,
    /// Its console, byte by byte.
    pub screen: Screen,
    /// A program inside that runs commands for us.
    pub agent: Agent,
}

/// A guest and the machine that runs it.
pub struct RunningGuest {
    name: String,
    // Stopped before the machine: it delivers into the machine's NICs.
    plugs: Vec<Plug>,
    vm: Vm,
    /// Whether its cables were plugged in: it may send.
    let_go: bool,
    /// What pktguest does; `None`: it runs something else.
    role: Option<Role>,
    pub(super) linux: bool,
    /// What a line of its console contains once it is ready.
    ready: Option<String>,
    pub(super) voices: Voices,
    state: State,
    report: Option<Final>,
    since: SystemTime,
    /// What it had counted when it last gave a sign of life, and the CPU time it had used by then.
    life: (u64, Duration),
    hangs: bool,
}

/// CPU time without any sign of life after which a pktguest hangs: it never polls for more than a
/// second of its own will.
const HANG_TIME: Duration = Duration::from_secs(4);

/// How long a kernel of its own has to run before it is ready that says nothing which could be waited
/// for: one that dies of its first instructions never was.
const BIRTH: Duration = Duration::from_millis(100);

impl RunningGuest {
    /// The guest that has just been started as `vm`.
    pub(super) fn new(guest: &Guest, vm: Vm, plugs: Vec<Plug>, voices: Voices) -> Self {
        let ready = guest.boot().and_then(|boot| boot.ready.clone());
        let role = guest.pktguest().map(|pktguest| pktguest.workload.role);
        let (name, since, report) = (guest.name.clone(), SystemTime::now(), None);
        Self {
            name,
            plugs,
            vm,
            let_go: false,
            role,
            linux: guest.is_linux(),
            ready,
            voices,
            state: State::Starting,
            report,
            since,
            life: Default::default(),
            hangs: false,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// When it was started.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Whether its cables were plugged in.
    pub fn is_let_go(&self) -> bool {
        self.let_go
    }

    pub(super) fn let_go(&mut self, up: bool) {
        self.let_go = up;
    }

    /// Whether it runs pktguest.
    pub(super) fn is_pktguest(&self) -> bool {
        self.role.is_some()
    }

    /// Whether its workload starts a conversation, so that the others should listen before.
    pub(super) fn starts(&self) -> bool {
        self.role.is_some_and(Role::starts)
    }

    /// Whether it passes frames on from one NIC to another.
    pub(super) fn forwards(&self) -> bool {
        self.role == Some(Role::Forward)
    }

    /// Its account of its workload, once that is over.
    pub fn report(&self) -> Option<&Final> {
        self.report.as_ref()
    }

    /// Where its console can be watched.
    pub fn screen(&self) -> &Screen {
        &self.voices.screen
    }

    /// Whether it uses its CPU and does nothing that anybody could tell.
    pub fn hangs(&self) -> bool {
        self.hangs
    }

    /// Looks whether it hangs; true if that has changed. Only of pktguest is it known: other kernels
    /// may compute for as long as they like.
    pub(super) fn look_for_life(&mut self) -> bool {
        let Some(used) = self.cpu_time().filter(|_| self.is_pktguest()) else { return false };
        let (vcpu, nics) = self.counters();
        let of_nic = |nic: &NicCounters| nic.tx.frames + nic.rx.frames + nic.interrupts;
        let signs = vcpu.total() + nics.iter().map(of_nic).sum::<u64>();
        if signs != self.life.0 {
            self.life = (signs, used);
        }
        let hangs = self.state == State::Running && used - self.life.1 >= HANG_TIME;
        std::mem::replace(&mut self.hangs, hangs) != hangs
    }

    /// Its keyboard; QEMU's guests have none.
    pub fn keyboard(&self) -> Option<&SerialInput> {
        self.vm.machine().map(|machine| machine.serial_input())
    }

    /// Runs a command for its shell.
    ///
    /// # Errors
    /// If it has ended or has no agent, or that cannot take the command.
    pub fn exec(&self, command: &str) -> Result<RunningCommand, ExecError> {
        if matches!(self.state, State::Done | State::Failed(_)) {
            return Err(ExecError::Ended);
        }
        let port = self.vm.machine().and_then(|machine| machine.agent_input());
        self.voices.agent.exec(command, port.ok_or(ExecError::NoAgent)?)
    }

    /// Our own machine's NICs; none of QEMU's.
    pub fn nics(&self) -> &[Arc<E1000>] {
        self.vm.nics()
    }

    /// Has the host give it all of its memory now.
    pub(super) fn populate(&self) {
        self.vm.machine().into_iter().for_each(Machine::populate);
    }

    /// Its NICs with the names of their cables.
    pub(super) fn cabled(&self) -> impl Iterator<Item = (String, &Arc<E1000>)> {
        let nics = self.nics().iter().enumerate();
        nics.map(|(nic, device)| (self.cable_name(nic), device))
    }

    /// What people call the cable of NIC `nic`.
    pub fn cable_name(&self, nic: usize) -> String {
        format!("{}:{nic}", self.name)
    }

    /// What its machine has counted.
    pub fn counters(&self) -> (VcpuCounters, Vec<NicCounters>) {
        self.vm.counters()
    }

    /// CPU time that its vCPU has used, if known.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.vm.machine().and_then(|machine| machine.cpu_time())
    }

    pub(super) fn qemu(&self) -> Option<&Qemu> {
        self.vm.qemu()
    }

    pub(super) fn qemu_mut(&mut self) -> Option<&mut Qemu> {
        self.vm.qemu_mut()
    }

    /// The port that NIC `nic` is plugged into: its number, or its TAP's name.
    pub fn port(&self, nic: usize) -> String {
        self.plugs.get(nic).map_or_else(String::new, Plug::port)
    }

    pub(super) fn plugs(&self) -> &[Plug] {
        &self.plugs
    }

    /// Keeps our own machine's vCPU on some of the host's CPUs.
    pub(super) fn keep_on(&self, cpus: &[usize]) {
        let kept = self.vm.machine().map(|machine| machine.keep_on(cpus));
        if let Some(Err(error)) = kept {
            tracing::warn!(guest = self.name, ?cpus, %error, "cannot place the vCPU");
        }
    }

    /// Sets a machine going that rests at first, with its vCPU on `cpu` if given.
    pub(super) fn boot(&mut self, cpu: Option<usize>) -> Result<(), Error> {
        match self.vm.qemu_mut().map(|qemu| qemu.boot(cpu)) {
            Some(Err(words)) => Err(self.fail(format!("failed: {words}"), false).error()),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Notes what a line of its console says; returns its new state, if that makes one.
    pub(super) fn hear(&mut self, line: &Line) -> Option<State> {
        match (&self.state, &line.report) {
            (State::Done | State::Failed(_), _) => return None,
            (_, Some(Report::Final(report))) if self.is_pktguest() => {
                self.report = Some((**report).clone());
                self.state = State::Done;
            }
            (_, Some(Report::Error { message })) if self.is_pktguest() => {
                self.fail(format!("failed: {}", printable(message)), false);
            }
            (State::Starting, Some(Report::Ready)) if self.is_pktguest() => {
                self.state = State::Running
            }
            // There is no power switch: this is as far as it can go.
            _ if self.linux && linux::has_halted(&line.text) => self.state = State::Done,
            (State::Starting, _) if self.says_ready(&line.text) => self.state = State::Running,
            _ => return None,
        }
        Some(self.state.clone())
    }

    fn says_ready(&self, text: &str) -> bool {
        self.ready.as_ref().is_some_and(|ready| text.contains(ready))
    }

    /// Looks how it is; true if that has changed.
    pub(super) fn look(&mut self) -> bool {
        if matches!(self.state, State::Done | State::Failed(_)) {
            return false;
        }
        if self.state == State::Starting && self.voices.agent.has_greeted() {
            self.state = State::Running;
            return true;
        }
        if let Some(words) = self.voices.panic.get().filter(|_| self.linux).cloned() {
            self.fail(format!("failed: {words}"), false);
        } else if let Some(words) = self.vm.qemu_mut().and_then(Qemu::exited) {
            self.fail(format!("failed: {words}"), false);
        } else {
            match self.vm.exited() {
                None if self.was_born() => self.state = State::Running,
                None => return false,
                Some(ExitReason::Reset) if !self.is_pktguest() => self.state = State::Done,
                Some(reason) => {
                    let ours = reason == ExitReason::Panicked;
                    self.fail(format!("died: {reason}"), ours);
                }
            }
        }
        true
    }

    /// Whether it starts no more, having nothing to say about that.
    fn was_born(&self) -> bool {
        let waits = self.is_pktguest() || self.ready.is_some();
        let age = self.since.elapsed().unwrap_or_default();
        self.state == State::Starting && !waits && age >= BIRTH
    }

    fn fail(&mut self, message: String, ours: bool) -> &Self {
        self.state = State::Failed(Failure { message, ours });
        self
    }

    /// The error that its failure is.
    pub fn error(&self) -> Error {
        let (message, exit) = match &self.state {
            State::Failed(Failure { message, ours: true }) => (message.as_str(), Exit::Bug),
            State::Failed(Failure { message, .. }) => (message.as_str(), Exit::Failed),
            State::Starting | State::Running | State::Done => ("has not failed", Exit::Bug),
        };
        Error::new(exit, format!("guest `{}` {message}", self.name))
    }

    /// Stops it. Returns its name and why our own machine ended.
    pub(super) fn stop(self) -> Option<(String, ExitReason)> {
        drop(self.plugs);
        Some((self.name, self.vm.stop()?))
    }
}
