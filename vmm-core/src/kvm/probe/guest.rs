//! The guest that times its own exits: a page of code and the tables of a 64-bit kernel.
//!
//! It starts in kernel mode, then runs in user mode, as on page-table KVM only user code is native.
//! Kernel code needs supervisor pages there (SMEP), so RAM is mapped twice: for the kernel from
//! address 0, for the user from 1 GiB.

use std::sync::atomic::AtomicU32;

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment};

use super::super::{KvmError, Vcpu};
use crate::memory::GuestRam;

/// RAM of the guest: one large page.
pub const RAM_BYTES: u64 = LARGE_PAGE;
const LARGE_PAGE: u64 = 2 << 20;
/// A doorbell that KVM is to handle.
pub const DOORBELL_ADDR: u64 = 0xe000_1000;
/// The interrupt that the guest handles.
pub const GSI: u32 = 5;

/// Where guest and host tell each other how far they are, a word.
pub const STATE_ADDR: u64 = 0x1_1000;
/// Interrupts handled, a word.
pub const INTERRUPTS_ADDR: u64 = STATE_ADDR + 4;
/// State, by the guest: all exits are timed, it spins in user mode.
pub const SPINNING: u32 = 1;
/// State, by the host: go on.
pub const PROCEED: u32 = 2;
/// State, by the guest: its next instructions halt it in kernel mode.
pub const HALTING: u32 = 3;

/// Attempts per kind of exit.
const SAMPLES: u64 = 200;

/// What the guest times, in its order.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
    /// Register write to user space, from kernel mode.
    MmioKernel,
    /// The same from user mode.
    MmioUser,
    /// Port write to user space, from user mode.
    Port,
    /// Register write that becomes an eventfd, from user mode.
    Doorbell,
    /// End of interrupt to the local APIC, from user mode.
    Apic,
}

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const KERNEL_DIRECTORY: u64 = 0x3000;
const USER_DIRECTORY: u64 = 0x4000;
const DEVICE_DIRECTORY: u64 = 0x5000;
const GDT: u64 = 0x6000;
const IDT: u64 = 0x7000;
const TSS: u64 = 0x8000;
const CODE: u64 = 0xc000;
const STACK_TOP: u64 = 0x1_0000;
const SAMPLES_ADDR: u64 = 0x1_2000;

const USER_ALIAS: u64 = 1 << 30;
/// Nothing is here.
const MMIO_ADDR: u64 = 0xe000_0000;
/// Local APIC, end-of-interrupt register.
const EOI_ADDR: u64 = 0xfee0_00b0;

const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
const USER_DATA: u16 = 0x18 | 3;
const USER_CODE: u16 = 0x20 | 3;
const TASK: u16 = 0x28;
/// GDT: null, kernel code and data, user data and code, and two words for the task.
const SEGMENTS: [u64; 5] =
    [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff];
/// TSS with an I/O bitmap for all ports and the byte of ones behind it.
const TSS_LEN: u64 = 0x68 + 8192 + 1;

const GENERAL_PROTECTION: u64 = 13;
/// Where the guest's PIC puts [`GSI`].
const INTERRUPT_VECTOR: u64 = 0x20 + GSI as u64;

// Register use: rdi next sample, rsi MMIO address, r9 doorbell, r10 EOI register, r12 offset of the
// user's alias, r13 and r14 the state word for kernel and user, r15 samples per kind.
std::arch::global_asm!(
    r#"
    .pushsection .rodata.vmm_core_probe, "a"
    .macro vmm_core_probe_time operation:vararg
        mov     rcx, r15
    2:  rdtsc
        mov     r8d, eax
        \operation
        rdtsc
        sub     eax, r8d
        mov     dword ptr [rdi], eax
        add     rdi, 4
        dec     rcx
        jnz     2b
    .endm

    vmm_core_probe_kernel:
        mov     eax, {task}
        ltr     ax
        // Master PIC: vectors from 0x20, automatic end of interrupt, only IRQ 5 unmasked.
        mov     al, 0x11
        out     0x20, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 0x04
        out     0x21, al
        mov     al, 0x03
        out     0x21, al
        mov     al, 0xdf
        out     0x21, al
        vmm_core_probe_time mov dword ptr [rsi], eax
        iretq

    vmm_core_probe_user:
        add     rdi, r12
        vmm_core_probe_time mov dword ptr [rsi], eax
        vmm_core_probe_time out 0x80, al
        vmm_core_probe_time mov dword ptr [r9], eax
        vmm_core_probe_time mov dword ptr [r10], eax
        mov     dword ptr [r14], {spinning}
    3:  pause
        cmp     dword ptr [r14], {spinning}
        je      3b
        // Not for users: on to the handler below.
        hlt

    vmm_core_probe_fault:
        mov     dword ptr [r13], {halting}
        sti
        hlt
        cli
        jmp     vmm_core_probe_fault

    vmm_core_probe_interrupt:
        inc     dword ptr [r13 + 4]
        iretq
    vmm_core_probe_end:
    .purgem vmm_core_probe_time
    .popsection
    "#,
    task = const TASK,
    spinning = const SPINNING,
    halting = const HALTING,
);

unsafe extern "C" {
    static vmm_core_probe_kernel: u8;
    static vmm_core_probe_user: u8;
    static vmm_core_probe_fault: u8;
    static vmm_core_probe_interrupt: u8;
    static vmm_core_probe_end: u8;
}

/// Where in guest memory the code at `label` ends up.
fn code_address(label: *const u8) -> u64 {
    CODE + (label as u64 - &raw const vmm_core_probe_kernel as u64)
}

/// A word that the guest shares.
pub fn word(ram: &GuestRam, addr: u64) -> &AtomicU32 {
    ram.atomic_u32(addr).expect("the guest's layout lies within its RAM")
}

/// What each attempt of `exit` took, in ticks of the time-stamp counter.
pub fn samples(ram: &GuestRam, exit: Exit) -> Vec<u32> {
    let mut ticks = vec![0; SAMPLES as usize];
    let first = SAMPLES_ADDR + exit as u64 * SAMPLES * 4;
    let place = ram.slice(first, ticks.len() * 4).expect("the guest's layout lies within its RAM");
    place.copy_to(&mut ticks);
    ticks
}

/// Puts the guest into `ram` and `vcpu` at its start.
pub fn install(ram: &GuestRam, vcpu: &Vcpu) -> Result<(), KvmError> {
    write_tables(ram);
    write_code(ram);
    enter(vcpu)
}

fn write(ram: &GuestRam, addr: u64, words: &[u64]) {
    let place =
        ram.slice(addr, size_of_val(words)).expect("the guest's layout lies within its RAM");
    place.copy_from(words);
}

fn write_tables(ram: &GuestRam) {
    const PRESENT_WRITABLE: u64 = 0b011;
    const USER: u64 = 0b100;
    const LARGE: u64 = 1 << 7;
    let table = |address: u64| address | PRESENT_WRITABLE | USER;
    let directory_slot = |addr: u64| addr / LARGE_PAGE % 512 * 8;
    write(ram, PML4, &[table(PDPT)]);
    write(ram, PDPT, &[table(KERNEL_DIRECTORY), table(USER_DIRECTORY), 0, table(DEVICE_DIRECTORY)]);
    write(ram, KERNEL_DIRECTORY, &[PRESENT_WRITABLE | LARGE]);
    write(ram, USER_DIRECTORY, &[table(0) | LARGE]);
    for addr in [MMIO_ADDR, EOI_ADDR] {
        let page = addr & !(LARGE_PAGE - 1);
        write(ram, DEVICE_DIRECTORY + directory_slot(addr), &[table(page) | LARGE]);
    }

    // A 64-bit TSS descriptor whose base fits its low half: SDM volume 3, section 8.2.3.
    let task = (TSS_LEN - 1) | TSS << 16 | 0x89 << 40;
    write(ram, GDT, &SEGMENTS);
    write(ram, GDT + u64::from(TASK), &[task, 0]);
    write(ram, TSS + 4, &[STACK_TOP - 256]);
    word(ram, TSS + 0x64).store(0x68 << 16, std::sync::atomic::Ordering::Relaxed);
    ram.slice(TSS + TSS_LEN - 1, 1)
        .expect("the guest's layout lies within its RAM")
        .copy_from(&[0xffu8]);

    for (vector, handler) in [
        (GENERAL_PROTECTION, &raw const vmm_core_probe_fault),
        (INTERRUPT_VECTOR, &raw const vmm_core_probe_interrupt),
    ] {
        // A 64-bit interrupt gate: SDM volume 3, section 7.14.1. The handlers lie below 64 KiB.
        let gate = code_address(handler) | u64::from(KERNEL_CODE) << 16 | 0x8e << 40;
        write(ram, IDT + vector * 16, &[gate, 0]);
    }
}

fn write_code(ram: &GuestRam) {
    let start = &raw const vmm_core_probe_kernel;
    // SAFETY: both labels delimit the bytes assembled above.
    let code = unsafe {
        let len = (&raw const vmm_core_probe_end).offset_from(start) as usize;
        std::slice::from_raw_parts(start, len)
    };
    ram.slice(CODE, code.len()).expect("the guest's layout lies within its RAM").copy_from(code);
    // What the kernel code's iretq takes from its stack: on to user mode, interrupts on.
    let user = code_address(&raw const vmm_core_probe_user) + USER_ALIAS;
    let frame = [user, u64::from(USER_CODE), 0x202, 0, u64::from(USER_DATA)];
    write(ram, STACK_TOP - 40, &frame);
}

fn enter(vcpu: &Vcpu) -> Result<(), KvmError> {
    let segment = |selector, type_, l| kvm_segment {
        selector,
        type_,
        l,
        db: 1 - l,
        limit: 0xffff_ffff,
        present: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let mut sregs = vcpu.fd().get_sregs().map_err(KvmError::from_errno("KVM_GET_SREGS"))?;
    sregs.cs = segment(KERNEL_CODE, 0xb, 1);
    sregs.ss = segment(KERNEL_DATA, 0x3, 0);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (sregs.ss, sregs.ss, sregs.ss, sregs.ss);
    sregs.gdt = kvm_dtable { base: GDT, limit: TASK + 15, ..Default::default() };
    sregs.idt = kvm_dtable { base: IDT, limit: 0xfff, ..Default::default() };
    sregs.cr0 = 0x8001_0033; // PG, WP, NE, ET, MP, PE
    sregs.cr3 = PML4;
    sregs.cr4 = 0x620; // OSXMMEXCPT, OSFXSR, PAE
    sregs.efer = 0x500; // LMA, LME
    vcpu.fd().set_sregs(&sregs).map_err(KvmError::from_errno("KVM_SET_SREGS"))?;
    let regs = kvm_regs {
        rip: CODE,
        rsp: STACK_TOP - 40,
        rflags: 2,
        rdi: SAMPLES_ADDR,
        rsi: MMIO_ADDR,
        r9: DOORBELL_ADDR,
        r10: EOI_ADDR,
        r12: USER_ALIAS,
        r13: STATE_ADDR,
        r14: STATE_ADDR + USER_ALIAS,
        r15: SAMPLES,
        ..Default::default()
    };
    vcpu.fd().set_regs(&regs).map_err(KvmError::from_errno("KVM_SET_REGS"))
}
