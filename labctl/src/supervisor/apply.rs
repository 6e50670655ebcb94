//! Making a running lab what a changed file says, and touching nothing else.

use std::time::Duration;

use super::Supervisor;
use super::difference::{CableState, Part, Present, Step, Wanted, more_memory, steps};
use crate::control::protocol::Changes;
use crate::error::{Error, Exit};
use crate::lab::{self, FabricError};
use crate::topology::Lab;

impl Supervisor {
    /// Makes the lab what `new` says, or only tells what that would change.
    ///
    /// # Errors
    /// If it is another lab, or this host could not run it: nothing has changed then. If some part
    /// does not start: all the rest is done, and the next time only what is missing.
    pub(super) async fn apply(&mut self, new: Lab, dry_run: bool) -> Result<Changes, Error> {
        if new.name != self.lab.name {
            let message = format!("lab `{}` cannot become lab `{}`", self.lab.name, new.name);
            return Err(Error::new(Exit::Locked, message));
        }
        let passed = self.ready_at.map(|since| since.elapsed());
        // What suited the host when the lab began goes on: to choose anew would disturb all guests.
        let policy = match new.policy == self.lab.policy {
            true => self.running.policy(),
            false => lab::policy_of(&new, self.hypervisor.kind()),
        };
        let tsc_khz = self.hypervisor.tsc_khz();
        let present = Present { lab: &self.lab, running: &self.running, passed, tsc_khz };
        let steps = steps(&present, &Wanted { lab: &new, policy });
        let touched =
            steps.iter().filter(|step| matches!(step.part, Part::Guest(_)) && step.comes());
        let changes = Changes {
            untouched: new.guests.len() - touched.count(),
            steps: steps.iter().map(|step| step.change.clone()).collect(),
        };
        if new.qemu != self.lab.qemu || new.qemu.is_some() && !steps.is_empty() {
            let message = format!("lab `{}` cannot be changed while QEMU runs it", new.name);
            return Err(
                Error::new(Exit::Locked, message).help(format!("labctl down --lab {}", new.name))
            );
        }
        if dry_run || steps.is_empty() {
            return Ok(changes);
        }
        lab::check_kind(&self.hypervisor, &new)?;
        lab::check_memory(more_memory(&steps, &self.lab, &new))?;
        for step in &steps {
            if let (Part::Guest(index), true) = (step.part, step.comes()) {
                lab::check_files(&new.guests[index])?;
            }
        }
        self.history.event("lab-changing", None, None);
        self.running.set_policy(&new, policy);
        let mut troubles = self.take_away(&steps).await;
        if self.lab.events != new.events {
            self.to_come = new.events.clone();
            self.to_come.retain(|event| passed.is_none_or(|passed| event.at >= passed));
        }
        self.lab = new;
        troubles.extend(self.build(&steps).await);
        troubles.extend(self.set_cables(passed));
        self.running.place(&self.lab);
        for change in &changes.steps {
            let detail = format!("{:?}: {}", change.what, change.detail).to_lowercase();
            self.history.event("changed", Some(&change.subject), Some(&detail));
        }
        self.begin_if_ready().await;
        self.publish();
        match troubles.into_iter().next() {
            None => Ok(changes),
            Some(first) => {
                let message = format!("lab `{}` is not all that its file says", self.lab.name);
                Err(Error::new(first.exit(), message)
                    .because(first.in_one_line())
                    .help("`labctl up` again tries what is missing; `labctl ps` shows it"))
            }
        }
    }

    /// Takes away what goes or is replaced: guests, then the links between switches, then those.
    /// Returns what could not be.
    async fn take_away(&mut self, steps: &[Step]) -> Vec<Error> {
        let going = || steps.iter().filter(|step| step.goes());
        let named = |is: fn(&Part) -> bool| {
            going().filter(move |step| is(&step.part)).map(|step| &step.change.subject)
        };
        for name in named(|part| matches!(part, Part::Guest(_))) {
            self.absent.remove(name);
            if let Some(number) = self.running.find(name) {
                self.running.remove_guest(number);
            }
        }
        for name in named(|part| matches!(part, Part::Link(_))) {
            self.running.fabric_mut().remove_link(name);
        }
        let mut troubles = Vec::new();
        for name in named(|part| matches!(part, Part::Switch(_))) {
            let removed = self.running.fabric_mut().remove_switch(name).await;
            troubles.extend(removed.err().map(Error::from));
        }
        troubles
    }

    /// Builds what is new or replaced: switches, links, and guests. Returns what could not be.
    async fn build(&mut self, steps: &[Step]) -> Vec<Error> {
        let lab = self.lab.clone();
        let is_wanted: Vec<_> = lab.cables().map(|cable| lab.cable_name(cable)).collect();
        self.running.fabric_mut().keep_cables(|name| is_wanted.iter().any(|wanted| wanted == name));
        let mut troubles = Vec::new();
        let coming = || steps.iter().filter(|step| step.comes()).map(|step| step.part);
        for part in coming() {
            if let Part::Switch(index) = part {
                let added = self.running.fabric_mut().add_switch(&lab, index).await;
                troubles.extend(added.err().map(Error::from));
            }
        }
        for part in coming() {
            if let Part::Link(index) = part {
                let added = self.running.fabric_mut().add_link(&lab, index).await;
                troubles.extend(added.err().map(Error::from));
            }
        }
        for part in coming() {
            if let Part::Guest(index) = part {
                troubles.extend(self.start_guest(index).await.err());
            }
        }
        troubles
    }

    /// Has all cables do what the file says, its events that have `passed` included.
    fn set_cables(&mut self, passed: Option<Duration>) -> Vec<Error> {
        let mut troubles = Vec::new();
        let cables: Vec<_> = self.lab.cables().collect();
        for id in cables {
            let name = self.lab.cable_name(id);
            let CableState { impairments, up } = CableState::by(&self.lab, id, passed);
            let Some(cable) = self.running.fabric_mut().cable_mut(&name) else { continue };
            if cable.impairments() != impairments {
                let impaired = cable.impair(impairments).map_err(FabricError::from);
                troubles.extend(impaired.err().map(Error::from));
            }
            if cable.is_plugged() != up {
                self.running.plug_cable(&name, up);
            }
        }
        troubles
    }
}
