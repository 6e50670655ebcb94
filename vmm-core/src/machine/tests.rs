//! Guests of a few instructions on the real KVM.
//!
//! All of it is 32-bit kernel code at 1 MiB, where the PVH entry lands.

use std::io::Write;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::*;
use crate::clock::MonotonicClock;
use crate::kvm::{self, IoThreads, KvmKind};

const ENTRY: u64 = 0x10_0000;
const LONG: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts a guest that consists of `code`; `None` if KVM tests are to be skipped.
fn start(code: &[u8]) -> Option<(Machine, Console)> {
    let console = Console::default();
    Some((start_on(code, console.clone())?, console))
}

fn start_on(code: &[u8], console: impl Write + Send + 'static) -> Option<Machine> {
    start_with(code, Box::new(console), None)
}

fn start_with(
    code: &[u8],
    console: Box<dyn Write + Send>,
    agent: Option<Box<dyn Write + Send>>,
) -> Option<Machine> {
    let hypervisor = kvm::for_tests()?;
    let config = MachineConfig {
        name: "test".into(),
        ram_bytes: 2 << 20,
        kernel: boot::tests::pvh_kernel(ENTRY, code),
        nics: vec![],
        console,
        agent,
        clock: Arc::new(MonotonicClock::new()),
        io: IoThreads::default(),
    };
    Some(Machine::start(&hypervisor, config).unwrap())
}

fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A console whose end takes until it is told to go on.
struct SlowEnd {
    ending: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl Write for SlowEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SlowEnd {
    fn drop(&mut self) {
        let _ = self.ending.send(());
        let _ = self.go_on.recv_timeout(LONG);
    }
}

fn stop_quickly(machine: Machine) -> ExitReason {
    let start = Instant::now();
    let reason = machine.stop();
    assert!(start.elapsed() < LONG, "stopping took {:?}", start.elapsed());
    reason
}

#[test]
fn a_guest_has_ended_before_its_console_does() {
    let ((ending, ended), (go_on, going_on)) = (mpsc::channel(), mpsc::channel());
    let Some(machine) = start_on(&[0x0f, 0x0b], SlowEnd { ending, go_on: going_on }) else {
        return;
    };
    ended.recv_timeout(LONG).unwrap();
    let reason = machine.exited();
    go_on.send(()).unwrap();
    assert_eq!(reason, Some(ExitReason::TripleFault { rip: ENTRY }));
}

#[test]
fn a_triple_fault_is_reported_with_its_place() {
    let Some((machine, _)) = start(&[0x90, 0x0f, 0x0b]) else {
        return;
    };
    let reason = wait_for("triple fault", || machine.exited());
    let ExitReason::TripleFault { rip } = reason else { panic!("{reason}") };
    // AMD-V loses the guest's state on shutdown, so KVM resets it.
    let lost = Hypervisor::open().unwrap().kind() == KvmKind::Svm;
    assert!(rip == ENTRY + 1 || lost, "{reason}");
    assert_eq!(stop_quickly(machine), reason, "stopping keeps the reason");
}

#[test]
fn an_endless_loop_can_be_stopped() {
    let Some((machine, _)) = start(&[0xeb, 0xfe]) else {
        return;
    };
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(machine.exited(), None);
    assert_eq!(stop_quickly(machine), ExitReason::Stopped);
}

#[test]
fn a_halted_guest_can_be_stopped() {
    let Some((machine, _)) = start(&[0xfa, 0xf4]) else {
        return;
    };
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(machine.exited(), None);
    assert_eq!(stop_quickly(machine), ExitReason::Stopped);
}

#[test]
fn a_guest_that_exits_all_the_time_can_be_stopped() {
    // out 0x80, al; jmp back
    let Some((machine, _)) = start(&[0xe6, 0x80, 0xeb, 0xfc]) else {
        return;
    };
    wait_for("a thousand exits", || (machine.counters().pio_out > 1000).then_some(()));
    assert_eq!(stop_quickly(machine), ExitReason::Stopped);
}

#[test]
fn stopping_races_with_starting() {
    for _ in 0..50 {
        let Some((machine, _)) = start(&[0xeb, 0xfe]) else {
            return;
        };
        assert_eq!(stop_quickly(machine), ExitReason::Stopped);
    }
}

#[test]
fn an_open_bus_answers_and_a_reset_is_reported() {
    let code = [
        &[0x8b, 0x05][..], // mov eax, [0xd0000000]
        &0xd000_0000u32.to_le_bytes(),
        &[0xa3], // mov [0xd0000000], eax
        &0xd000_0000u32.to_le_bytes(),
        &[0x66, 0xba, 0xf8, 0x03], // mov dx, 0x3f8
        &[0xee],                   // out dx, al
        &[0xb0, 0xfe, 0xe6, 0x64], // mov al, 0xfe; out 0x64, al
    ]
    .concat();
    let Some((machine, console)) = start(&code) else {
        return;
    };
    assert_eq!(wait_for("reset", || machine.exited()), ExitReason::Reset);
    let counters = machine.counters();
    assert_eq!((counters.mmio_read, counters.mmio_write, counters.pio_out), (1, 1, 2));
    assert_eq!(counters.total(), 4);
    drop(machine);
    assert_eq!(*console.0.lock(), [0xff], "unmapped memory reads as all ones");
}

#[test]
fn a_string_instruction_prints_in_order() {
    let text = b"hello\n";
    let code = [
        &[0xbe][..], // mov esi, text
        &(ENTRY as u32 + 19).to_le_bytes(),
        &[0xb9, text.len() as u8, 0, 0, 0], // mov ecx, len
        &[0x66, 0xba, 0xf8, 0x03],          // mov dx, 0x3f8
        &[0xfc, 0xf3, 0x6e],                // cld; rep outsb
        &[0xfa, 0xf4],                      // cli; hlt
        text,
    ]
    .concat();
    let Some((machine, console)) = start(&code) else {
        return;
    };
    wait_for("text", || (*console.0.lock() == text).then_some(()));
    assert_eq!(stop_quickly(machine), ExitReason::Stopped);
}

#[test]
fn the_second_serial_port_is_a_line_of_its_own() {
    let code = [
        0x66, 0xba, 0xfd, 0x02, // wait: mov dx, 0x2fd
        0xec, 0xa8, 0x01, // in al, dx; test al, 1
        0x74, 0xf7, // jz wait
        0x66, 0xba, 0xf8, 0x02, // mov dx, 0x2f8
        0xec, 0x40, 0xee, // in al, dx; inc eax; out dx, al
        0xeb, 0xee, // jmp wait
    ];
    let (console, agent) = (Console::default(), Console::default());
    let ports = (Box::new(console.clone()), Box::new(agent.clone()));
    let Some(machine) = start_with(&code, ports.0, Some(ports.1)) else {
        return;
    };
    let typed = [b'a'; 200];
    assert_eq!(machine.agent_input().unwrap().send(&typed), 200);
    wait_for("answers", || (agent.0.lock().len() == 200).then_some(()));
    assert!(agent.0.lock().iter().all(|byte| *byte == b'b'));
    assert!(console.0.lock().is_empty());
    let Some(machine) = start(&[0xeb, 0xfe]) else { return };
    assert!(machine.0.agent_input().is_none());
}

// AT&T syntax, because only its parser takes differences of labels as addresses.
std::arch::global_asm!(
    ".pushsection .rodata.interrupt_guest, \"a\"",
    ".code32",
    "interrupt_guest:",
    "lgdt 0x100000 + interrupt_guest_gdtr - interrupt_guest",
    "lidt 0x100000 + interrupt_guest_idtr - interrupt_guest",
    "movl $0x90000, %esp",
    // Master PIC: vectors from 0x20, automatic end of interrupt, only IRQ 0 unmasked.
    "movb $0x11, %al",
    "outb %al, $0x20",
    "movb $0x20, %al",
    "outb %al, $0x21",
    "movb $0x04, %al",
    "outb %al, $0x21",
    "movb $0x03, %al",
    "outb %al, $0x21",
    "movb $0xfe, %al",
    "outb %al, $0x21",
    // PIT channel 0: rate generator, every 10 ms.
    "movb $0x34, %al",
    "outb %al, $0x43",
    "movb $0x9c, %al",
    "outb %al, $0x40",
    "movb $0x2e, %al",
    "outb %al, $0x40",
    "2: sti",
    "hlt",
    "cli",
    "jmp 2b",
    "interrupt_guest_handler:",
    "movw $0x3f8, %dx",
    "movb $'!', %al",
    "outb %al, %dx",
    "movb $0x0a, %al",
    "outb %al, %dx",
    // Page-table KVM does not interpret a 32-bit iret: halt again on a fresh stack.
    "movl $0x90000, %esp",
    "jmp 2b",
    ".balign 8",
    // Null, flat code at selector 8, and the gates: only vector 0x20 is present.
    "interrupt_guest_gdt: .quad 0, 0x00cf9b000000ffff",
    "interrupt_guest_idt: .zero 0x20 * 8",
    ".word interrupt_guest_handler - interrupt_guest, 8, 0x8e00, 0x10",
    "interrupt_guest_idt_end:",
    "interrupt_guest_gdtr: .word 15",
    ".long 0x100000 + interrupt_guest_gdt - interrupt_guest",
    "interrupt_guest_idtr: .word interrupt_guest_idt_end - interrupt_guest_idt - 1",
    ".long 0x100000 + interrupt_guest_idt - interrupt_guest",
    "interrupt_guest_end:",
    ".code64",
    ".popsection",
    options(att_syntax)
);

unsafe extern "C" {
    static interrupt_guest: u8;
    static interrupt_guest_end: u8;
}

#[test]
fn the_timer_interrupts_a_halted_guest() {
    // SAFETY: both symbols delimit the bytes assembled above.
    let code = unsafe {
        let start = &raw const interrupt_guest;
        std::slice::from_raw_parts(
            start,
            (&raw const interrupt_guest_end).offset_from(start) as usize,
        )
    };
    let Some((machine, console)) = start(code) else {
        return;
    };
    wait_for("ten interrupts", || {
        assert_eq!(machine.exited(), None);
        (console.0.lock().len() >= 20).then_some(())
    });
    assert!(console.0.lock().starts_with(b"!\n!\n!\n"));
    assert_eq!(stop_quickly(machine), ExitReason::Stopped);
}

#[test]
fn a_bad_configuration_is_refused() {
    let Some(hypervisor) = kvm::for_tests() else {
        return;
    };
    let nic = |_| NicConfig {
        mac: [2, 0, 0, 0, 0, 1],
        itr: false,
        csb: false,
        policy: Policy::default(),
        backend: Box::new(crate::backend::NullBackend),
    };
    let config = |nics: usize, ram_bytes| MachineConfig {
        name: "bad".into(),
        ram_bytes,
        kernel: boot::tests::pvh_kernel(ENTRY, &[0xf4]),
        nics: (0..nics).map(nic).collect(),
        console: Box::new(io::sink()),
        agent: None,
        clock: Arc::new(MonotonicClock::new()),
        io: IoThreads::default(),
    };
    let refused = |nics, ram| Machine::start(&hypervisor, config(nics, ram)).err();
    assert!(matches!(refused(MAX_NICS + 1, 2 << 20), Some(MachineError::TooManyNics(_))));
    assert!(matches!(refused(0, 1 << 20), Some(MachineError::Boot(BootError::DoesNotFit { .. }))));
    assert!(matches!(refused(0, 5), Some(MachineError::Memory(_))));
    assert!(refused(MAX_NICS, 2 << 20).is_none());
}
