//! Doorbells that guests ring: eventfds.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use parking_lot::Mutex;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Vm;
use crate::doorbell::Doorbell;

/// What a device's own ring adds to the eventfd. KVM adds 1, so that the two can be told apart.
const OWN: u64 = 1 << 32;

/// A doorbell of a NIC on KVM.
pub struct KvmDoorbell {
    event: EventFd,
    vm: Arc<Vm>,
    /// The register that rings it.
    wired: Mutex<Option<u64>>,
}

impl KvmDoorbell {
    /// A doorbell that no register rings yet.
    ///
    /// # Errors
    /// If there is no eventfd to be had.
    pub fn new(vm: Arc<Vm>) -> io::Result<Self> {
        Ok(Self { event: EventFd::new(EFD_NONBLOCK)?, vm, wired: Mutex::new(None) })
    }
}

impl AsRawFd for KvmDoorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

impl Doorbell for KvmDoorbell {
    fn ring(&self) {
        // It can only fail on a full counter, and that wakes the thread as well.
        let _ = self.event.write(OWN);
    }

    fn answer(&self) -> (bool, u64) {
        // It fails if nobody has rung.
        self.event.read().map_or((false, 0), |rings| (true, rings % OWN))
    }

    fn wire(&self, address: Option<u64>) {
        let mut wired = self.wired.lock();
        if *wired == address {
            return;
        }
        if let Some(old) = wired.take()
            && let Err(error) = self.vm.unregister_doorbell(old, &self.event)
        {
            tracing::error!(%error, "a doorbell stays where it was");
        }
        // Without it kicks exit to us, which is slower and otherwise the same.
        match address.map(|address| self.vm.register_doorbell(address, &self.event)) {
            Some(Ok(())) => *wired = address,
            Some(Err(error)) => tracing::debug!(%error, "no doorbell inside KVM"),
            None => {}
        }
    }
}
