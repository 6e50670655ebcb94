//! How the lab is, in the control protocol's words.

use vmm_core::cable::{CableCounters, End};
use vmm_core::e1000::NicCounters;

use super::Supervisor;
use super::unix_time::ms;
use crate::control::directory::is_a_pipe;
use crate::control::protocol::{
    CableStatus, CableTraffic, GuestState, GuestStatus, LabStatus, MacEntry, NicStatus,
    SwitchStatus, Traffic,
};
use crate::error::{Error, Exit};
use crate::lab::{RunningCable, RunningGuest, State};
use crate::topology::{Guest, System};
use crate::units::human_mac;

impl Supervisor {
    pub(super) fn status(&self) -> LabStatus {
        let guests = self.lab.guests.iter().map(|spec| {
            let running =
                self.running.find(&spec.name).and_then(|number| self.running.guest(number));
            self.guest_status(spec, running)
        });
        let switches = self.lab.switches.iter().enumerate().map(|(index, switch)| SwitchStatus {
            name: switch.name.clone(),
            kind: self.lab.switch_kind(index),
            ports: self.running.fabric().ports(&switch.name),
            macs: self.running.fabric().macs(&switch.name),
        });
        LabStatus {
            lab: self.lab.name.clone(),
            file: match is_a_pipe(&self.lab.path) {
                true => "-".to_owned(),
                false => self.lab.path.display().to_string(),
            },
            state: self.state(),
            pid: std::process::id(),
            started_ms: self.started_ms,
            guests: guests.collect(),
            switches: switches.collect(),
        }
    }

    fn guest_status(&self, spec: &Guest, running: Option<&RunningGuest>) -> GuestStatus {
        let (state, reason) = match running.map(RunningGuest::state) {
            Some(State::Starting) => (GuestState::Starting, None),
            Some(State::Running) if running.is_some_and(RunningGuest::hangs) => {
                let reason = "uses its CPU and gives no sign of life".to_owned();
                (GuestState::Hanging, Some(reason))
            }
            Some(State::Running) => (GuestState::Running, None),
            Some(State::Done) => (GuestState::Done, None),
            Some(State::Failed(failure)) => (GuestState::Failed, Some(failure.message.clone())),
            None => (GuestState::Failed, self.absent.get(&spec.name).cloned()),
        };
        let work = match &spec.system {
            System::Pktguest(pktguest) => pktguest.workload.role.as_str().to_owned(),
            System::Linux(boot) | System::Pvh(boot) => boot.kernel.display().to_string(),
        };
        let counters = running.map(RunningGuest::counters).unwrap_or_default();
        let nics = spec.nics.iter().enumerate().map(|(number, nic)| {
            let pktguest = spec.pktguest().filter(|pktguest| pktguest.workload.role.has_address());
            let switch = self.lab.switches.get(nic.switch);
            NicStatus {
                cable: format!("{}:{number}", spec.name),
                mac: human_mac(nic.mac),
                ip: pktguest.filter(|_| number == 0).map(|pktguest| pktguest.ip.to_string()),
                switch: switch.map_or_else(String::new, |switch| switch.name.clone()),
                port: running.map_or_else(String::new, |running| running.port(number)),
                up: running.is_some_and(|running| self.is_up(running, number)),
                counters: counters.1.get(number).map(traffic).unwrap_or_default(),
            }
        });
        GuestStatus {
            name: spec.name.clone(),
            kind: spec.system.kind().to_owned(),
            state,
            reason,
            work,
            memory_mib: spec.memory_mib,
            restarts: self.restarts.get(&spec.name).copied().unwrap_or_default(),
            started_ms: running.map_or(0, |running| ms(running.since())),
            exits: counters.0.total(),
            cpu_ns: running.and_then(RunningGuest::cpu_time).map(|time| time.as_nanos() as u64),
            nics: nics.collect(),
        }
    }

    /// What a switch has learned.
    pub(super) async fn mac_table(&self, switch: &str) -> Result<Vec<MacEntry>, Error> {
        if !self.lab.switches.iter().any(|known| known.name == switch) {
            let names: Vec<_> = self.lab.switches.iter().map(|known| known.name.as_str()).collect();
            let message = format!("no switch is called `{switch}`");
            return Err(Error::new(Exit::NothingSelected, message)
                .help(format!("the switches are {}", names.join(", "))));
        }
        let Some(table) = self.running.fabric().mac_table(switch).await? else {
            let message = format!("`{switch}` is a socket between two QEMUs, which learns nothing");
            return Err(Error::new(Exit::NothingSelected, message));
        };
        let entries = table.into_iter().map(|(mac, port)| {
            let mac = mac.to_string();
            let mut cables = self.running.fabric().cables();
            let cable = cables.find(|cable| cable.port_on(switch) == Some(&port));
            let has = |guest: &&Guest| guest.nics.iter().any(|nic| human_mac(nic.mac) == mac);
            let guest = self.lab.guests.iter().find(has).map(|guest| guest.name.clone());
            MacEntry {
                mac,
                port,
                cable: cable.map_or_else(String::new, |cable| cable.name().to_owned()),
                guest,
            }
        });
        Ok(entries.collect())
    }

    /// Whether a guest's NIC has carrier.
    fn is_up(&self, guest: &RunningGuest, nic: usize) -> bool {
        let lives = !matches!(guest.state(), State::Failed(_));
        lives && guest.is_let_go() && self.running.fabric().is_plugged(&guest.cable_name(nic))
    }

    /// All cables, in the file's order.
    pub(super) fn cables(&self) -> Vec<CableStatus> {
        let names = self.lab.cables().map(|cable| self.lab.cable_name(cable));
        let running = names
            .filter_map(|name| self.running.fabric().cables().find(|cable| cable.name() == name));
        running.map(cable_status).collect()
    }
}

fn cable_status(cable: &RunningCable) -> CableStatus {
    CableStatus {
        name: cable.name().to_owned(),
        ends: cable.ends().clone(),
        port: cable.port().to_owned(),
        up: cable.is_plugged(),
        impairments: cable.impairments(),
        forth: cable_traffic(cable.counters(End::A)),
        back: cable_traffic(cable.counters(End::B)),
    }
}

fn cable_traffic(counted: CableCounters) -> CableTraffic {
    CableTraffic {
        frames: counted.frames,
        delivered: counted.delivered + counted.refused,
        lost: counted.dropped.loss,
        dropped: counted.dropped.total() - counted.dropped.loss,
        duplicated: counted.duplicated,
        reordered: counted.reordered,
        held: counted.held,
    }
}

fn traffic(nic: &NicCounters) -> Traffic {
    Traffic {
        tx_frames: nic.tx.frames,
        tx_bytes: nic.tx.bytes,
        rx_frames: nic.rx.frames,
        rx_bytes: nic.rx.bytes,
        // What is for somebody else is passed over, and lost to nobody.
        rx_dropped: nic.rx.dropped.total() - nic.rx.dropped.filtered,
        interrupts: nic.interrupts,
        doorbells: nic.registers.tdt_writes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_filter_refuses_was_not_dropped() {
        let mut nic = NicCounters::default();
        (nic.rx.dropped.filtered, nic.rx.dropped.link_down) = (5, 2);
        assert_eq!(traffic(&nic).rx_dropped, 2);
    }
}
