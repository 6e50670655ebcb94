//! Plays a [`Program`] against one or two NICs and checks after every step what must always hold.
//!
//! The fuzzer and the test that replays its corpus share this code.

mod check;
mod guest;
mod packet;
mod program;

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use vmm_core::backend::{FrameBatch, Receiver};
use vmm_core::clock::{Clock, ManualClock};
use vmm_core::e1000::registers::offset as reg;
use vmm_core::memory::GuestRam;
use vmm_core::pci::{CONFIG_ADDRESS, CONFIG_DATA};
use vmm_core::switch::Switch;

use check::Before;
use guest::{CSB, Guest, TX_BUFFER};
use program::{Action, Packet, Program, Register, TxDescriptor};

/// Steps of one program: enough for any story, few enough to be fast.
const MAX_STEPS: usize = 200;
/// Packets of one batch from the network.
const MAX_PACKETS: usize = 40;
/// Bytes that packets from the network are kept in.
const NETWORK: u64 = 1 << 20;
/// Longest single passage of time.
const MAX_ADVANCE_NS: u64 = 50_000_000;
/// Alarms in that time: RADV and its like have units of 1024 ns, a ring left over goes on at once.
const MAX_ALARMS: u64 = 20_000;

/// Plays what `data` decodes to. Panics if the device misbehaves. `FUZZ_TRACE=1` says what it does.
pub fn run(data: &[u8]) {
    let Ok(program) = Program::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let trace = std::env::var_os("FUZZ_TRACE").is_some();
    if trace {
        eprintln!("{:?}", program.setup);
    }
    let mut world = World::new(&program);
    for step in program.steps.iter().take(MAX_STEPS) {
        if trace {
            eprintln!("{step:x?}");
        }
        world.play(usize::from(step.second), &step.action);
    }
}

struct World {
    itr: bool,
    csb: bool,
    clock: Arc<ManualClock>,
    guests: Vec<Guest>,
}

impl World {
    fn new(program: &Program) -> Self {
        let setup = &program.setup;
        let clock = Arc::new(ManualClock::at(1_000_000_000));
        let switch = setup.switch.then(|| Switch::new("fuzz", clock.clone()));
        let guests = (0..if setup.switch { 2 } else { 1 })
            .map(|index| {
                let port = switch.as_ref().map(|switch| switch.attach().expect("a free port"));
                let number = port.as_ref().map(|port| port.index());
                let guest = Guest::new(index, setup, &clock, port);
                if let (Some(switch), Some(number)) = (&switch, number) {
                    let receiver: Arc<dyn Receiver> = guest.wire.clone();
                    switch.connect(number, &receiver);
                }
                guest
            })
            .collect();
        Self { itr: setup.itr, csb: setup.csb, clock, guests }
    }

    /// One step and its checks.
    fn play(&mut self, guest: usize, action: &Action) {
        let guest = guest % self.guests.len();
        let respaced = may_change_spacing(action);
        if respaced {
            self.guests[guest].line.require_spacing(0);
        }
        if matches!(action, Action::Fill { .. } | Action::Compose { .. } | Action::Share { .. }) {
            return act(&mut self.guests[guest], action);
        }
        let before: Vec<Before> = self.guests.iter_mut().map(Before::of).collect();
        let mut alarms = 0;
        match action {
            Action::Advance { ns } => alarms = self.advance(u64::from(*ns) % MAX_ADVANCE_NS),
            action => act(&mut self.guests[guest], action),
        }
        for (index, (before, guest_now)) in before.into_iter().zip(&mut self.guests).enumerate() {
            before.check(guest_now, self.itr, self.csb, alarms, respaced && index == guest);
        }
    }

    /// Lets `ns` pass; returns how often a timer fired.
    fn advance(&self, ns: u64) -> u64 {
        let until = self.clock.now() + ns;
        let mut alarms = 0;
        let earliest = || {
            let armed = self.guests.iter().filter(|g| g.alarm.deadline().is_some());
            armed.min_by_key(|g| g.alarm.deadline())
        };
        while let Some((guest, at)) =
            earliest().and_then(|g| g.alarm.take_before(until).map(|at| (g, at)))
        {
            self.clock.advance(at.saturating_sub(self.clock.now()));
            guest.nic.on_timer();
            alarms += 1;
            assert!(alarms < MAX_ALARMS, "a timer that is always due never ends");
        }
        self.clock.advance(until.saturating_sub(self.clock.now()));
        alarms
    }
}

/// Whether `action` may write ITR or reset it.
fn may_change_spacing(action: &Action) -> bool {
    let touches = |register: &Register, width: usize| {
        let hit = |of: u32| register.0 < of + 4 && of < register.0 + width as u32;
        hit(reg::ITR) || hit(reg::CTRL)
    };
    match action {
        Action::Write { register, width, .. } => touches(register, width.bytes()),
        Action::Indirect { register, .. } => touches(register, 4),
        Action::PortWrite { .. } => true,
        _ => false,
    }
}

/// A guest's or the network's action.
fn act(guest: &mut Guest, action: &Action) {
    let mut data = [0; 8];
    match action {
        Action::Read { register, width } => {
            let at = u64::from(bar(guest, 0) & !0xf) + u64::from(register.0);
            if let Some((bar, offset)) = guest.root.memory().find(at, width.bytes()) {
                bar.read(offset, &mut data[..width.bytes()]);
            }
        }
        Action::Write { register, width, value } => {
            let at = u64::from(bar(guest, 0) & !0xf) + u64::from(register.0);
            let data = &bytes(value.0)[..width.bytes()];
            if let Some((bar, offset)) = guest.root.memory().find(at, data.len()) {
                guest.csb.note(offset, data);
                bar.write(offset, data);
            }
        }
        Action::PortRead { port, width } => {
            let at = u64::from(bar(guest, 1) & !3) + u64::from(*port);
            if let Some((bar, offset)) = guest.root.ports().find(at, width.bytes()) {
                bar.read(offset, &mut data[..width.bytes()]);
            }
        }
        Action::PortWrite { port, width, value } => {
            write_port(guest, u64::from(*port), &bytes(value.0)[..width.bytes()]);
        }
        Action::Indirect { register, value } => {
            write_port(guest, 0, &register.0.to_le_bytes());
            match value {
                Some(value) => write_port(guest, 4, &value.0.to_le_bytes()),
                None => {
                    let at = u64::from(bar(guest, 1) & !3) + 4;
                    if let Some((bar, offset)) = guest.root.ports().find(at, 4) {
                        bar.read(offset, &mut data[..4]);
                    }
                }
            }
        }
        Action::ConfigRead { device, offset, width } => {
            select(guest, *device, *offset);
            let len = width.bytes().min(4);
            guest.root.config_read(CONFIG_DATA + u16::from(offset & 3), &mut data[..len]);
        }
        Action::ConfigWrite { offset, width, value } => {
            select(guest, 1, offset.0);
            let len = width.bytes().min(4);
            let port = CONFIG_DATA + u16::from(offset.0 & 3);
            guest.root.config_write(port, &value.0.to_le_bytes()[..len]);
        }
        Action::Fill { at, len, seed } => {
            let bytes: Vec<u8> = (0..*len).map(|i| seed.wrapping_mul(i as u8 | 1)).collect();
            guest.store(at.0, &bytes);
        }
        Action::Compose { at, packet } => {
            guest.store(at.0, &packet::build(packet).0);
        }
        Action::Transmit { descriptors, kick } => {
            let descriptors: Vec<_> = descriptors.iter().map(encode).collect();
            transmit(guest, &descriptors, *kick);
        }
        Action::Offload { packet, context, command, options, pieces } => {
            offload(guest, packet, context, *command, *options, *pieces);
        }
        Action::Refill { buffers } => {
            let (base, size, mut tail) = ring(guest, reg::RDBAL);
            for buffer in buffers {
                guest.store(base + 16 * u64::from(tail), &buffer.0.to_le_bytes());
                tail = if tail + 1 < size { tail + 1 } else { 0 };
            }
            guest.store(CSB + 0x10, &tail.to_le_bytes());
            guest.set(reg::RDT, tail);
        }
        Action::Share { offset, value } => {
            guest.store(CSB + u64::from(offset & 0x7c), &value.0.to_le_bytes());
        }
        Action::Phy { register, value } => {
            let operation = if value.is_some() { 0b01 } else { 0b10 };
            let address = u32::from(register & 0x1f) << 16 | 1 << 21;
            let data = u32::from(value.unwrap_or_default());
            guest.set(reg::MDIC, operation << 26 | address | data);
        }
        Action::Eeprom { bits, count } => clock_eeprom(guest, *bits, *count % 33),
        Action::Receive { packets } => receive(guest, packets),
        Action::Advance { .. } => {}
        Action::EarlyTimer => guest.nic.on_timer(),
        Action::Link { up } => guest.nic.set_link(*up),
        Action::Backend(mode) => *guest.wire.mode.lock().unwrap() = *mode,
    }
}

/// Eight bytes to take a narrower value from.
fn bytes(value: u32) -> [u8; 8] {
    (u64::from(value) | u64::from(value.rotate_left(12)) << 32).to_le_bytes()
}

fn select(guest: &mut Guest, device: u8, offset: u8) {
    let address = 0x8000_0000 | u32::from(device) << 11 | u32::from(offset & 0xfc);
    guest.root.config_write(CONFIG_ADDRESS, &address.to_le_bytes());
}

/// A base address register as it stands.
fn bar(guest: &mut Guest, index: u8) -> u32 {
    let mut raw = [0; 4];
    select(guest, 1, 0x10 + 4 * index);
    guest.root.config_read(CONFIG_DATA, &mut raw);
    u32::from_le_bytes(raw)
}

fn write_port(guest: &mut Guest, port: u64, data: &[u8]) {
    let at = u64::from(bar(guest, 1) & !3) + port;
    if let Some((bar, offset)) = guest.root.ports().find(at, data.len()) {
        let mut address = [0; 4];
        bar.read(0, &mut address);
        bar.write(offset, data);
        if offset + data.len() as u64 > 4 {
            let len = if (offset, data.len()) == (4, 4) { 4 } else { 3 };
            guest.csb.note(u64::from(u32::from_le_bytes(address)), &data[..len.min(data.len())]);
        }
    }
}

/// Base, size and tail of the ring whose registers begin at `base`.
fn ring(guest: &Guest, base: u32) -> (u64, u32, u32) {
    let from = |register: u32| guest.get(base + register);
    let address = u64::from(from(4)) << 32 | u64::from(from(0) & !0xf);
    (address, from(8) / 16, from(0x18))
}

/// Selects the EEPROM and clocks `count` bits into it, the highest first (manual 5.3).
fn clock_eeprom(guest: &mut Guest, bits: u32, count: u8) {
    const CLOCK: u32 = 1 << 0;
    const SELECT: u32 = 1 << 1;
    const REQUEST: u32 = 1 << 6;
    guest.set(reg::EECD, REQUEST);
    for at in (0..count).rev() {
        let data = (bits >> at & 1) << 2;
        guest.set(reg::EECD, REQUEST | SELECT | data);
        guest.set(reg::EECD, REQUEST | SELECT | data | CLOCK);
    }
}

/// Puts descriptors at the tail of the transmit ring and moves it.
fn transmit(guest: &mut Guest, descriptors: &[[u64; 2]], kick: bool) {
    let (base, size, mut tail) = ring(guest, reg::TDBAL);
    for [low, high] in descriptors {
        let at = base.wrapping_add(16 * u64::from(tail));
        guest.store(at, &low.to_le_bytes());
        guest.store(at.wrapping_add(8), &high.to_le_bytes());
        tail = if tail + 1 < size { tail + 1 } else { 0 };
    }
    guest.store(CSB, &tail.to_le_bytes());
    if kick {
        guest.set(reg::TDT, tail);
    }
}

const TYPE_DATA: u64 = 1 << 20;
const EOP: u8 = 1 << 0;

fn encode(descriptor: &TxDescriptor) -> [u64; 2] {
    match *descriptor {
        TxDescriptor::Raw(words) => words,
        TxDescriptor::Context(ref context) => {
            let bare = packet::build(&Packet::PLAIN).1;
            packet::context(context, &bare, 0)
        }
        TxDescriptor::Legacy { at, len, cso, command, css, special } => [
            at.0,
            u64::from(len)
                | u64::from(cso) << 16
                | u64::from(command & !packet::DEXT) << 24
                | u64::from(css) << 40
                | u64::from(special) << 48,
        ],
        TxDescriptor::Data { at, len, command, options, special } => [
            at.0,
            u64::from(len & 0xf_ffff)
                | TYPE_DATA
                | u64::from(command | packet::DEXT) << 24
                | u64::from(options) << 40
                | u64::from(special) << 48,
        ],
    }
}

/// Sends a packet as a driver with offloads does.
fn offload(
    guest: &mut Guest,
    packet: &Packet,
    context: &program::Context,
    command: u8,
    options: u8,
    pieces: [u8; 2],
) {
    let (bytes, layout) = packet::build(packet);
    guest.store(TX_BUFFER, &bytes);
    let mut descriptors = vec![packet::context(context, &layout, bytes.len())];
    let first = usize::from(pieces[0]).min(bytes.len());
    let second = (first + 8 * usize::from(pieces[1])).min(bytes.len());
    for piece in [0..first, first..second, second..bytes.len()] {
        let last = piece.end == bytes.len();
        let command = if last { command | EOP } else { command & !EOP };
        let at = program::Address(TX_BUFFER + piece.start as u64);
        let len = piece.len() as u32;
        if len > 0 {
            let data = TxDescriptor::Data { at, len, command, options, special: 0x1234 };
            descriptors.push(encode(&data));
        }
        if last {
            break;
        }
    }
    transmit(guest, &descriptors, true);
}

/// Hands the NIC one batch from the network.
fn receive(guest: &mut Guest, packets: &[Packet]) {
    thread_local! {
        static OUTSIDE: GuestRam = GuestRam::new(NETWORK).expect("memory for packets");
    }
    let outside = OUTSIDE.with(GuestRam::clone);
    let mut batch = FrameBatch::new();
    let mut at = 0;
    for packet in packets.iter().take(MAX_PACKETS) {
        let bytes = packet::build(packet).0;
        let Some(span) = outside.slice(at, bytes.len()) else { break };
        span.copy_from(&bytes);
        at += bytes.len() as u64;
        // A span of its own for the header, as a sender with split buffers has.
        if let (true, Ok((head, rest))) = (packet.seed & 1 != 0, span.split_at(bytes.len().min(17)))
        {
            batch.push_span(head);
            batch.push_span(rest);
        } else {
            batch.push_span(span);
        }
        batch.end_frame();
    }
    let all: Vec<u32> = (0..batch.len() as u32).collect();
    guest.wire.receive(&batch, &all);
}
