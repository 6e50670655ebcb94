//! Our device, with nothing around it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, VolatileSlice};
use vmm_core::backend::{Backend, FrameBatch, Receiver};
use vmm_core::clock::{Clock, ManualClock, Timer};
use vmm_core::e1000::{E1000, E1000Config, E1000Host};
use vmm_core::irq::InterruptLine;
use vmm_core::memory::GuestRam;
use vmm_core::policy::Policy;

use crate::nic::{MAC, Nic, RAM};
use crate::registers::ICR;

/// The cable's other end.
#[derive(Clone, Default)]
struct Cable(Arc<Mutex<Vec<Vec<u8>>>>);

impl Backend for Cable {
    fn transmit(&mut self, batch: &FrameBatch<'_>) {
        self.0.lock().unwrap().extend(batch.iter().map(|frame| {
            let mut bytes = vec![0; frame.len()];
            assert_eq!(frame.copy_out(0, &mut bytes), frame.len());
            bytes
        }));
    }
}

#[derive(Default)]
struct Line(AtomicBool);

impl InterruptLine for Line {
    fn set_level(&self, high: bool) {
        self.0.store(high, Ordering::SeqCst);
    }
}

/// The deadline that the device last asked for.
#[derive(Default)]
struct Deadline(Mutex<Option<u64>>);

impl Timer for Deadline {
    fn arm(&self, deadline: u64) {
        *self.0.lock().unwrap() = Some(deadline);
    }
}

/// `vmm_core`'s e1000.
pub struct Ours {
    nic: Arc<E1000>,
    ram: GuestRam,
    cable: Cable,
    line: Arc<Line>,
    clock: Arc<ManualClock>,
    deadline: Arc<Deadline>,
}

impl Ours {
    /// A NIC after power-on, plugged in, with bus mastering on.
    pub fn new(moderation: bool) -> Self {
        let ram = GuestRam::new(RAM).unwrap();
        let (cable, line, deadline) =
            (Cable::default(), Arc::new(Line::default()), Arc::new(Deadline::default()));
        let clock = Arc::new(ManualClock::at(1_000_000_000));
        let host = E1000Host {
            ram: ram.clone(),
            clock: clock.clone(),
            timer: deadline.clone(),
            line: line.clone(),
            backend: Box::new(cable.clone()),
            doorbell: None,
        };
        let nic = E1000::new(
            E1000Config { mac: MAC, itr: moderation, csb: false, policy: Policy::Push },
            host,
        );
        nic.set_bus_master(true);
        nic.set_link(true);
        // QEMU's cable has been plugged in for ever: no link change is reported.
        let mut icr = [0; 4];
        nic.read(ICR.offset.into(), &mut icr);
        Self { nic, ram, cable, line, clock, deadline }
    }
}

impl Nic for Ours {
    fn read(&mut self, offset: u32, data: &mut [u8]) {
        self.nic.read(offset.into(), data);
    }

    fn write(&mut self, offset: u32, data: &[u8]) {
        self.nic.write(offset.into(), data);
    }

    fn io_read(&mut self, offset: u32) -> u32 {
        let mut data = [0; 4];
        self.nic.io_read(offset.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn io_write(&mut self, offset: u32, value: u32) {
        self.nic.io_write(offset.into(), &value.to_le_bytes());
    }

    fn ram_read(&mut self, address: u64, data: &mut [u8]) {
        self.ram.slice(address, data.len()).unwrap().read_slice(data, 0).unwrap();
    }

    fn ram_write(&mut self, address: u64, data: &[u8]) {
        self.ram.slice(address, data.len()).unwrap().write_slice(data, 0).unwrap();
    }

    fn set_bus_master(&mut self, on: bool) {
        self.nic.set_bus_master(on);
    }

    fn receive(&mut self, frame: &[u8]) {
        let mut frame = frame.to_vec();
        let mut batch = FrameBatch::new();
        batch.push_span(VolatileSlice::from(&mut frame[..]));
        batch.end_frame();
        self.nic.receive(&batch, &[0]);
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.cable.0.lock().unwrap())
    }

    fn set_link(&mut self, up: bool) {
        self.nic.set_link(up);
    }

    fn interrupt(&mut self) -> bool {
        self.line.0.load(Ordering::SeqCst)
    }

    fn rest(&mut self) {
        /// Beyond this the device says "never".
        const HORIZON: u64 = 1 << 62;
        let next = || self.deadline.0.lock().unwrap().take_if(|at| *at < HORIZON);
        for _ in 0..1000 {
            let Some(deadline) = next() else { return };
            self.clock.advance(deadline.saturating_sub(self.clock.now()));
            self.nic.on_timer();
        }
        panic!("the device asks for timers without end");
    }
}
