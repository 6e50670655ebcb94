//! Guests that are broken or mean: each is reported by what is wrong with it, and the traffic of its
//! neighbours on the same switch goes on.

mod common;

use std::error::Error;
use std::io;
use std::sync::Arc;

use common::{Kvm, eventually};
use vmm_core::backend::Receiver;
use vmm_core::boot::Kernel;
use vmm_core::clock::{Clock, MonotonicClock};
use vmm_core::e1000::E1000;
use vmm_core::e1000::registers::offset::*;
use vmm_core::e1000::regs::{rctl, tctl};
use vmm_core::kvm::{ExitReason, IoThreads};
use vmm_core::machine::{Machine, MachineConfig, MachineError, NicConfig};
use vmm_core::policy::Policy;
use vmm_core::switch::Switch;

const ENTRY: u32 = 0x10_0000;
const RAM: u64 = 64 << 20;

/// Two guests that talk to each other, and a switch with room for more.
struct Street {
    kvm: Kvm,
    clock: Arc<dyn Clock>,
    switch: Switch,
    neighbours: Vec<Machine>,
}

impl Street {
    fn new(kvm: Kvm) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
        let switch = Switch::new("street", clock.clone());
        let mut street = Self { kvm, clock, switch, neighbours: Vec::new() };
        for (house, role) in [(1, "ping"), (2, "pong")] {
            let cmdline = format!("role={role} driver=e1000 csb=1 dst=52:54:00:00:00:02");
            let guest = street.start(house, images::PKTGUEST, &cmdline).expect("pktguest starts");
            street.neighbours.push(guest);
        }
        let nics = street.neighbours.iter().map(|guest| guest.nic(0).clone());
        E1000::set_links(&nics.collect::<Vec<_>>(), true);
        street.assert_alive();
        street
    }

    /// Starts a guest with the MAC address 52:54:00:00:00:`house` on a port of the switch.
    fn start(&self, house: u8, kernel: &[u8], cmdline: &str) -> Result<Machine, MachineError> {
        let port = self.switch.attach().expect("a free port");
        let index = port.index();
        let nic = NicConfig {
            mac: [0x52, 0x54, 0, 0, 0, house],
            itr: true,
            csb: true,
            policy: Policy::default(),
            backend: Box::new(port),
        };
        let config = MachineConfig {
            name: format!("house{house}"),
            ram_bytes: RAM,
            kernel: Kernel {
                image: kernel.to_vec().into(),
                cmdline: cmdline.to_owned(),
                ..Kernel::default()
            },
            nics: vec![nic],
            console: Box::new(io::sink()),
            agent: None,
            clock: self.clock.clone(),
            io: IoThreads::default(),
        };
        let machine = Machine::start(&self.kvm, config)?;
        let nic: Arc<dyn Receiver> = machine.nic(0).clone();
        self.switch.connect(index, &nic);
        Ok(machine)
    }

    /// Waits for a hundred more answers.
    fn assert_alive(&self) {
        let answers = || self.neighbours[0].nic(0).counters().rx.frames;
        let wanted = answers() + 100;
        eventually("a hundred more answers", || answers() >= wanted);
    }
}

/// Code of a 32-bit guest: lets its NIC answer in both spaces and access memory.
const NIC_ON: [u8; 22] = [
    0xba, 0xf8, 0x0c, 0, 0, // mov edx, CONFIG_ADDRESS
    0xb8, 0x04, 0x08, 0, 0x80, // mov eax, device 1, command
    0xef, // out dx, eax
    0xba, 0xfc, 0x0c, 0, 0, // mov edx, CONFIG_DATA
    0xb8, 7, 0, 0, 0,    // mov eax, I/O, memory and bus mastering on
    0xef, // out dx, eax
];

/// An ELF kernel of one segment with `code` at [`ENTRY`], in `memory` bytes; with or without the PVH
/// note that names its entry.
fn kernel(code: &[u8], memory: u64, note: bool) -> Vec<u8> {
    const HEADERS: usize = 64 + 2 * 56;
    const NOTE: usize = 20;
    let mut image = vec![0; HEADERS + NOTE];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(18, &62u16.to_le_bytes()); // x86-64
    put(32, &64u64.to_le_bytes()); // program headers: where, how long, how many
    put(54, &56u16.to_le_bytes());
    put(56, &2u16.to_le_bytes());
    let mut segment =
        |at: usize, kind: u32, offset: usize, address: u32, file: usize, memory: u64| {
            put(at, &kind.to_le_bytes());
            put(at + 8, &(offset as u64).to_le_bytes());
            put(at + 24, &u64::from(address).to_le_bytes());
            put(at + 32, &(file as u64).to_le_bytes());
            put(at + 40, &memory.to_le_bytes());
        };
    segment(64, 1, HEADERS + NOTE, ENTRY, code.len(), memory); // PT_LOAD
    segment(64 + 56, if note { 4 } else { 0 }, HEADERS, 0, NOTE, NOTE as u64); // PT_NOTE
    for (word, value) in [4, 4, 18].into_iter().enumerate() {
        put(HEADERS + 4 * word, &u32::to_le_bytes(value));
    }
    put(HEADERS + 12, b"Xen\0");
    put(HEADERS + 16, &ENTRY.to_le_bytes());
    image.extend_from_slice(code);
    image
}

/// An error and all its causes.
fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[test]
fn a_kernel_that_is_none_is_refused_by_name() {
    let Some(kvm) = common::kvm() else { return };
    let street = Street::new(kvm);
    let halt = [0xf4];
    let whole = kernel(&halt, 1, true);
    for (image, words) in [
        (
            &b"not an ELF file at all, but long enough to hold its header"[..],
            "neither a 64-bit x86 ELF file nor a bzImage",
        ),
        (&[], "neither a 64-bit x86 ELF file nor a bzImage"),
        (&whole[..whole.len() - 1], "cut short"),
        (&kernel(&halt, 1, false), "entry point 0x0 lies outside"),
        (&kernel(&halt, RAM, true), "the kernel occupies 0x100000 to 0x4100000"),
        (&kernel(&halt, u64::MAX, true), "headers are broken"),
    ] {
        let refused = street.start(9, image, "").err().expect(words);
        assert!(in_full(&refused).contains(words), "{}", in_full(&refused));
    }
    street.assert_alive();
}

#[test]
fn a_guest_that_faults_ends_alone() {
    let Some(kvm) = common::kvm() else { return };
    let street = Street::new(kvm);
    let undefined_instruction = [0x0f, 0x0b];
    let guest = street.start(9, &kernel(&undefined_instruction, 2, true), "").unwrap();
    guest.nic(0).set_link(true);
    eventually("the guest ends", || guest.exited().is_some());
    let reason = guest.exited().unwrap();
    assert!(matches!(reason, ExitReason::TripleFault { .. }), "{reason}");
    assert!(reason.to_string().contains("triple-faulted"), "{reason}");
    street.assert_alive();
    // Its NIC still hangs on the switch, and broadcasts still go to it.
    assert_eq!(guest.stop(), reason);
    street.assert_alive();
}

#[test]
fn a_guest_that_runs_wild_hurts_only_itself() {
    let Some(kvm) = common::kvm() else { return };
    let street = Street::new(kvm);
    // Turns the NIC on, then writes its registers' addresses into all of them, again and again:
    // rings nowhere, interrupts of every kind, resets in between.
    let code = [
        &NIC_ON[..],
        &[0xbf], // again: mov edi, BAR 0
        &0xfeb0_0000_u32.to_le_bytes(),
        &[0x89, 0xf8],       // next: mov eax, edi
        &[0x89, 0x07],       // mov [edi], eax
        &[0x83, 0xc7, 0x04], // add edi, 4
        &[0x81, 0xff],       // cmp edi, BAR 0 + 24 KiB
        &0xfeb0_6000_u32.to_le_bytes(),
        &[0x72, 0xf1], // jb next
        &[0xeb, 0xea], // jmp again
    ]
    .concat();
    let guest = street.start(9, &kernel(&code, code.len() as u64, true), "").unwrap();
    guest.nic(0).set_link(true);
    eventually("it has been through all registers", || {
        guest.nic(0).counters().registers.writes > 2 * 6144
    });
    street.assert_alive();
    assert_eq!(guest.exited(), None);
    assert_eq!(guest.stop(), ExitReason::Stopped);
    street.assert_alive();
}

/// Memory that a [`scribbler`] fills again and again: 16-byte units of random words, each masked by
/// `and`, with the bits of `or` set.
struct Noise {
    address: u32,
    units: u32,
    and: [u32; 4],
    or: [u32; 4],
}

/// Code of a guest that writes `registers` of its NIC once, and then for ever fills its memory with
/// noise and rings the transmit doorbell.
fn scribbler(registers: &[(u32, u32)], noise: &[Noise]) -> Vec<u8> {
    let mut unit = Vec::new();
    for word in 0..4 {
        unit.extend([0x69, 0xdb, 0x0d, 0x66, 0x19, 0x00]); // imul ebx, ebx, 1664525
        unit.extend([0x81, 0xc3, 0x5f, 0xf3, 0x6e, 0x3c]); // add ebx, 1013904223
        unit.extend([0x89, 0xd8, 0x0f, 0xc8]); // mov eax, ebx; bswap eax
        unit.extend([0x23, 0x46, 8 + 4 * word]); // and eax, [esi + and]
        unit.extend([0x0b, 0x46, 24 + 4 * word]); // or eax, [esi + or]
        unit.extend([0x89, 0x47, 4 * word]); // mov [edi + word], eax
    }
    unit.extend([0x83, 0xc7, 16, 0x49]); // add edi, 16; dec ecx
    unit.extend([0x75, back(unit.len())]); // jnz unit

    let mut fill = vec![0x8b, 0x3e, 0x85, 0xff]; // mov edi, [esi + address]; test edi, edi
    fill.extend([0x74, unit.len() as u8 + 8]); // jz kick
    fill.extend([0x8b, 0x4e, 4]); // mov ecx, [esi + units]
    fill.extend(unit);
    fill.extend([0x83, 0xc6, 40]); // add esi, the next noise
    fill.extend([0xeb, back(fill.len())]); // jmp fill

    let mut forever = vec![0x89, 0xe6]; // mov esi, esp: the noises
    forever.extend(fill);
    forever.extend([0x89, 0xd8, 0xc1, 0xe8, 24]); // kick: mov eax, ebx; shr eax, 24
    forever.extend([0x89, 0x85, 0x18, 0x38, 0, 0]); // mov [ebp + TDT], eax
    let start = -(forever.len() as i32 + 5);
    forever.push(0xe9); // jmp forever
    forever.extend(start.to_le_bytes());

    let mut code = NIC_ON.to_vec();
    code.extend([0xbd, 0, 0, 0xb0, 0xfe]); // mov ebp, BAR 0
    let table = ENTRY + (code.len() + 5 + 16 + forever.len()) as u32;
    code.push(0xbe); // mov esi, table
    code.extend(table.to_le_bytes());
    code.extend([0xad, 0x85, 0xc0, 0x78, 9]); // next: lodsd; test eax, eax; js done
    code.extend([0x89, 0xc7, 0xad]); // mov edi, eax; lodsd
    code.extend([0x89, 0x44, 0x3d, 0, 0xeb, back(12)]); // mov [ebp + edi], eax; jmp next
    code.extend([0x89, 0xf4]); // done: mov esp, esi, as nothing needs a stack
    code.extend(forever);

    let mut words: Vec<u32> = registers.iter().flat_map(|(at, value)| [*at, *value]).collect();
    words.push(u32::MAX);
    for Noise { address, units, and, or } in noise {
        words.extend([&[*address, *units], &and[..], or].concat());
    }
    words.push(0);
    code.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    code
}

/// The operand of a short jump back over `len` bytes and itself.
fn back(len: usize) -> u8 {
    (-(len as i8 + 2)) as u8
}

#[test]
fn a_guest_that_scribbles_over_descriptors_and_csb_hurts_only_itself() {
    const TX_RING: u32 = 0x20_0000;
    const CSB: u32 = 0x20_1000;
    const RX_RING: u32 = 0x20_2000;
    const UNITS: u32 = 256;
    // Descriptors: anywhere in RAM and a little beyond it.
    const NEAR: u32 = 2 * RAM as u32 - 1;
    let registers = [
        (TDBAL, TX_RING),
        (TDLEN, 16 * UNITS),
        (TCTL, tctl::EN),
        (RDBAL, RX_RING),
        (RDLEN, 16 * UNITS),
        (RDT, UNITS - 1),
        (RCTL, rctl::EN | rctl::UPE | rctl::MPE | rctl::BAM | rctl::LPE),
    ];
    let ring = |and, or| Noise { address: TX_RING, units: UNITS, and, or };
    let descriptors = || ring([NEAR, 0, !0, !0], [0; 4]);
    // DEXT, TSE and EOP; context or data.
    let segments = || ring([NEAR, 0, !0x00e0_0000, !0], [0, 0, 0x2500_0000, 0]);
    // Indices up to twice the ring, and every flag on and off. Buffers behind all of this.
    let csb = || Noise { address: CSB, units: 7, and: [2 * UNITS - 1, 3, 1, 1], or: [0; 4] };
    let buffers = || Noise {
        address: RX_RING,
        units: UNITS,
        and: [NEAR, 0, !0, !0],
        or: [RAM as u32 / 2, 0, 0, 0],
    };
    let shared = [&registers[..], &[(CSBAL, CSB)]].concat();
    let cases: [(&str, &[_], Vec<Noise>); 3] = [
        ("descriptors", &registers, vec![descriptors(), buffers()]),
        ("segmentation", &registers, vec![segments(), buffers()]),
        ("the CSB", &shared, vec![descriptors(), csb(), buffers()]),
    ];

    let Some(kvm) = common::kvm() else { return };
    let street = Street::new(kvm);
    for (house, (what, registers, noise)) in (9..).zip(cases) {
        let code = scribbler(registers, &noise);
        let guest = street.start(house, &kernel(&code, code.len() as u64, true), "").unwrap();
        guest.nic(0).set_link(true);
        eventually(&format!("noise in {what} is digested"), || {
            let tx = guest.nic(0).counters().tx;
            tx.descriptors > 20_000 && tx.dropped.total() > 0 && tx.frames > 0
        });
        if what == "segmentation" {
            eventually("a packet is cut", || guest.nic(0).counters().tx.segmented > 0);
        }
        street.assert_alive();
        assert_eq!(guest.exited(), None, "{what}");
        assert_eq!(guest.stop(), ExitReason::Stopped);
        street.assert_alive();
    }
}
