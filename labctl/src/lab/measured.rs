//! What only a measurement wants of a running lab: guests that have all they need, and their reports.

use std::time::{Duration, Instant};

use super::pktguest::Final;
use super::qemu::Qemu;
use super::{Happening, RunningGuest, RunningLab, State};
use crate::error::{Error, Exit};

/// How long a guest may take to boot.
const BOOT_TIME: Duration = Duration::from_secs(10);

impl RunningLab {
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
}

fn lost() -> Error {
    Error::new(Exit::Bug, "a guest that is not there has failed")
}
