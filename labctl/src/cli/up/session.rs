//! A lab in this process, from its lock to its end.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;

use vmm_core::kvm::Hypervisor;

use crate::control::directory::{Lock, Record};
use crate::error::{Error, Exit};
use crate::lab::open_hypervisor;
use crate::supervisor::{self, Serving, Supervisor, now_ms};
use crate::topology::Lab;

/// What a lab needs before anything of it runs.
pub struct Session {
    lock: Lock,
    hypervisor: Hypervisor,
    /// Whoever connects is greeted once the lab runs.
    listener: UnixListener,
}

impl Session {
    /// Takes the lab's directory, its socket and KVM.
    ///
    /// # Errors
    /// [`Exit::HostLacks`] without KVM, [`Exit::Failed`] if the directory cannot be written.
    pub fn begin(lock: Lock, file: &Path) -> Result<Self, Error> {
        let hypervisor = open_hypervisor()?;
        lock.record(&Record::new(file, now_ms())).map_err(|error| {
            let place = lock.directory().path().display();
            Error::new(Exit::Failed, format!("cannot write to {place}")).because(error)
        })?;
        let socket = lock.directory().socket();
        let listener = UnixListener::bind(&socket).map_err(|error| no_socket(&socket, error))?;
        Ok(Self { lock, hypervisor, listener })
    }

    /// Starts the lab and serves its control socket.
    ///
    /// # Errors
    /// As [`Supervisor::start`].
    pub async fn start(self, lab: Lab) -> Result<Started, Error> {
        let socket = self.lock.directory().socket();
        let name = lab.name.clone();
        let supervisor = Supervisor::start(self.hypervisor, lab).await?;
        let serving = supervisor::serve(self.listener, &name, supervisor.caller());
        let serving = serving.map_err(|error| no_socket(&socket, error))?;
        Ok(Started { serving, supervisor, lock: self.lock })
    }
}

fn no_socket(socket: &Path, error: io::Error) -> Error {
    // `sockaddr_un` has room for so many bytes.
    let help = match error.kind() {
        io::ErrorKind::InvalidInput => "a shorter LABCTL_STATE_DIR, or name of the lab, helps",
        _ => "LABCTL_STATE_DIR names another directory for running labs",
    };
    let message = format!("cannot create the control socket {}", socket.display());
    Error::new(Exit::Failed, message).because(error).help(help)
}

/// A lab that runs.
pub struct Started {
    serving: Serving,
    /// The lab.
    pub supervisor: Supervisor,
    /// What makes it this process's.
    pub lock: Lock,
}

impl Started {
    /// Ends the lab.
    pub async fn stop(self) {
        for (guest, reason) in self.supervisor.stop() {
            tracing::info!(guest, %reason, "stopped");
        }
        self.serving.finish().await;
        // Last: who waits for the lab's end waits for this.
        drop(self.lock);
    }
}
