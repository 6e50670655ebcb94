// The CPL0 stub: boot, interrupt entry, halt. Everything else runs at CPL3.
//
// Where KVM runs without VMX or SVM, CPL0 code is interpreted at about half a microsecond per
// instruction. Hence tables are assembled rather than built at boot, and interrupt handlers only
// count. Only plain moves, arithmetic and port I/O may be used here.

.equ STUB_BASE, 0x100000              // linker.ld
.equ USER_BASE, 0x200000
.equ MMIO_BASE, 0xc0000000

.equ KERNEL_DATA, 0x10
.equ KERNEL_CODE, 0x18
.equ USER_DATA, 0x20 | 3
.equ USER_CODE, 0x28 | 3
.equ TASK, 0x30

.equ CAREFUL_LEN, 16                  // bytes of an interrupt's careful way in

.section .note.Xen, "a", @note        // PVH: where to enter, in 32-bit protected mode
    .balign 4
    .long 4, 8, 18                    // name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start

.section .stub, "awx", @progbits
stub_base:

// ---- Boot -----------------------------------------------------------------------------------

.code32
.global pvh_start
pvh_start:                            // EBX: physical address of hvm_start_info
    cld
    lgdt [gdt_pointer]
    mov eax, cr4
    or eax, 0x620                     // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, offset pml4
    mov cr3, eax
    mov ecx, 0xc0000080               // EFER
    rdmsr
    or eax, 0x100                     // LME
    wrmsr
    mov eax, cr0
    and eax, 0x9ffffff3               // clear CD, NW, TS, EM
    or eax, 0x80000023                // PG, NE, MP, PE
    mov cr0, eax
    .byte 0xea                        // far jump into 64-bit code
    .long long_mode
    .word KERNEL_CODE

.code64
long_mode:
    mov eax, KERNEL_DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, offset kernel_stack_top
    lidt [rip + idt_pointer]
    mov eax, TASK
    ltr ax
    mov eax, 0xff                     // mask both 8259s
    out 0x21, al
    out 0xa1, al
    mov edi, ebx
    mov eax, 1                        // the processor's model
    cpuid
    cmp eax, 0x60fb1                  // what QEMU emulates: see `entry`
    jne 1f
    .irp vector, {nic_vector}, {nic_vector} + 1, {timer_vector}, {link_vector}, {console_vector}
    sub word ptr [rip + idt + 16 * (\vector)], CAREFUL_LEN
    .endr
1:  mov eax, offset guest_main

// Enters CPL3 at RAX on a fresh user stack, interrupts on; RDI, RSI, RDX, RCX are its arguments.
enter_user:
    mov esp, offset kernel_stack_top
    push USER_DATA
    push offset user_stack_top - 8    // as after a call: 8 modulo 16
    push 0x202                        // IF
    push USER_CODE
    push rax
    xor ebp, ebp
    iretq

// ---- Interrupts -----------------------------------------------------------------------------

// After `sti` no interrupt comes before `hlt`, except in QEMU's emulated AMD-V: before version 9.1 its
// VMRUN forgets that shadow (VMCB, 068h), and whoever then halts sleeps through what just came. There,
// interrupts take the careful way in, which skips the `hlt`. Elsewhere that would only cost time.
.macro entry name
    .balign CAREFUL_LEN               // careful_\name:
    cmp qword ptr [rsp], offset shadowed_hlt
    jne \name
    inc qword ptr [rsp]
    .balign CAREFUL_LEN
\name:
.endm

// No EOI: the driver writes it after it has read ICR, so the NIC stays quiet until then.
entry nic_interrupt
    inc word ptr [rip + events]
    iretq
entry second_nic_interrupt
    inc word ptr [rip + events + 2]
    iretq

entry timer_interrupt
    inc word ptr [rip + events + 4]
    jmp 1f
entry link_interrupt
    inc byte ptr [rip + events + 6]
    jmp 1f
entry console_interrupt
    inc byte ptr [rip + events + 7]
1:  push rax
    mov eax, 0xfee000b0               // local APIC, EOI
    mov dword ptr [rax], 0
    pop rax
    iretq

spurious_interrupt:
    iretq

// `hlt` at CPL3 is how the user halts. RAX holds the events it has seen: interrupts are off here,
// so one that came later is either visible now or still pending, and `sti; hlt` is atomic.
general_protection:
    cmp qword ptr [rsp + 8], offset halt_instruction
    jne 2f
    cmp [rip + events], rax
    jne 1f
    sti
shadowed_hlt:
    hlt
1:  add rsp, 8                        // drop the error code
    inc qword ptr [rsp]               // step over the one-byte hlt
    iretq

// With no table to find a handler in, the next exception is the processor's end.
2:  cmp qword ptr [rsp + 8], offset triple_fault
    jne fault_stubs + 16 * 13
    lidt [rip + no_idt]
    ud2

// Any other exception ends in `guest_fault(vector, error, rip, cr2)` at CPL3.
.balign 16
fault_stubs:
.set vector, 0
.rept 32
    .balign 16
    .if ((1 << vector) & 0x60227d00) == 0
    push 0                            // the vectors without an error code of their own
    .endif
    push vector
    jmp fault
    .set vector, vector + 1
.endr
    .balign 16
fault:
    pop rdi
    pop rsi
    mov rdx, [rsp]
    mov rcx, cr2
    mov eax, offset guest_fault
    jmp enter_user

// ---- Tables ---------------------------------------------------------------------------------

.balign 8
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff          // 32-bit code, for the jump to long mode
    .quad 0x00cf92000000ffff          // KERNEL_DATA
    .quad 0x00af9a000000ffff          // KERNEL_CODE
    .quad 0x00cff2000000ffff          // USER_DATA
    .quad 0x00affa000000ffff          // USER_CODE
    .word tss_end - tss - 1           // TASK
    .word tss - stub_base
    .byte STUB_BASE >> 16, 0x89, 0, 0
    .quad 0
gdt_end:

.balign 4
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
.balign 4
idt_pointer:
    .word idt_end - idt - 1
    .quad idt
no_idt:
    .word 0
    .quad 0

.macro gate handler                   // interrupt gate, entered with interrupts off
    .word \handler - stub_base
    .word KERNEL_CODE
    .byte 0, 0x8e
    .word STUB_BASE >> 16
    .quad 0
.endm

.balign 16
idt:
.set vector, 0
.rept 32
    .if vector == 13
    gate general_protection
    .else
    gate fault_stubs+16*vector
    .endif
    .set vector, vector + 1
.endr
    .zero 16 * ({nic_vector} - 32)
    gate nic_interrupt
    gate second_nic_interrupt
    .zero 16 * ({timer_vector} - {nic_vector} - 2)
    gate timer_interrupt
    .zero 16 * ({link_vector} - {timer_vector} - 1)
    gate link_interrupt
    .zero 16 * ({console_vector} - {link_vector} - 1)
    gate console_interrupt
    .zero 16 * ({spurious_vector} - {console_vector} - 1)
    gate spurious_interrupt
idt_end:

.balign 16
tss:
    .long 0
    .quad kernel_stack_top            // RSP0
    .zero 90
    .word io_bitmap - tss
io_bitmap:
    .zero 8192                        // every port is open to CPL3 (IOPL may be forced to 0)
    .byte 0xff
tss_end:

// Present, writable, user, accessed, dirty, 2 MiB.
.equ LARGE_USER, 0xe7
.equ UNCACHED, 0x18

.balign 4096
pml4:
    .quad pdpt + 7
    .zero 4096 - 8
pdpt:
    .quad pd_low + 7
    .quad pd_alias + 5
    .quad 0
    .quad pd_mmio + 7
    .zero 4096 - 32
pd_low:                               // [0, 1 GiB): the stub's 2 MiB, then the user's
    .quad LARGE_USER & ~4
    .set page, 1
    .rept 511
    .quad page << 21 | LARGE_USER
    .set page, page + 1
    .endr
pd_alias:                             // [1 GiB, +2 MiB): the first 2 MiB, for CPL3 to read
    .quad LARGE_USER & ~2
    .zero 4096 - 8
pd_mmio:                              // [3 GiB, 4 GiB): device registers
    .set page, 0
    .rept 512
    .quad MMIO_BASE + (page << 21) | LARGE_USER | UNCACHED
    .set page, page + 1
    .endr

// Not in a page with code: to write there makes processors fetch, and emulators translate, it anew.
.balign 16
.global events
events:                               // interrupts taken:
    .word 0, 0                        // from each NIC
    .word 0                           // from the timer
    .byte 0, 0                        // for a link change, for console input

.balign 16
kernel_stack:
    .zero 2048
kernel_stack_top:

// ---- User -----------------------------------------------------------------------------------

.section .text.halt, "ax", @progbits
.global halt
halt:                                 // halt(seen events): returns when there are others
    mov rax, rdi
halt_instruction:
    hlt
    ret

.global triple_fault
triple_fault:                         // as above, but general_protection does not let it go on
    hlt
