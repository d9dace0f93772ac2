//! The way in and out of a system call or a fault.
//!
//! Both arrive in ring 3. For a call the ring-0 stub has put the program's stack pointer into [`USER_RSP`] and ours into
//! rsp; every other register is the program's. For a fault the monitor has put rip, rflags and rsp into the fault block.
//! All registers go into a [`Frame`], Rust code works on that, and all of them come back from it: a signal handler is
//! started, and returned from, by changing the frame.

use crate::cell::Global;
use crate::errno::{EFAULT, to_register};
use crate::{boot, calls, port, signal};
use core::arch::global_asm;
use vm_abi::{CPU_VA, Fault, Header, LARGE_PAGE, MAGIC, SYSTEM_VA, UNSERVED_SLOTS, VERSION};

/// The program's registers. The order is known to the assembly below.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub struct Frame {
    /// Number of the call on entry, its result on return.
    pub rax: u64,
    /// First argument.
    pub rdi: u64,
    /// Second argument.
    pub rsi: u64,
    /// Third argument.
    pub rdx: u64,
    /// Fourth argument.
    pub r10: u64,
    /// Fifth argument.
    pub r8: u64,
    /// Sixth argument.
    pub r9: u64,
    /// As on entry.
    pub rbx: u64,
    /// As on entry.
    pub rbp: u64,
    /// As on entry.
    pub r12: u64,
    /// As on entry.
    pub r13: u64,
    /// As on entry.
    pub r14: u64,
    /// As on entry.
    pub r15: u64,
    /// As on entry (after `syscall`: the return address).
    pub rcx: u64,
    /// As on entry (after `syscall`: the flags).
    pub r11: u64,
    /// Where the program goes on.
    pub rip: u64,
    /// Its flags.
    pub rflags: u64,
    /// Its stack pointer.
    pub rsp: u64,
    /// Vector registers, the lower 128 bits: all that baseline code of ours can change.
    pub xmm: [u128; 16],
}

const _: () = assert!(size_of::<Frame>() == 400);

/// The program's stack pointer at a system call; the ring-0 stub writes it.
static USER_RSP: Global<u64> = Global::new(0);
/// Where the way out jumps to.
static RETURN_RIP: Global<u64> = Global::new(0);
/// What the guest is doing, to know what a fault in its own code means.
static STATE: Global<State> = Global::new(State::Program);
/// Calls that were not served, by number.
static UNSERVED: Global<[u32; UNSERVED_SLOTS]> = Global::new([0; UNSERVED_SLOTS]);

#[derive(Clone, Copy, PartialEq)]
enum State {
    Program,
    Call,
    Signal,
}

/// Stack of system calls, 8 KiB. The file system's path buffers are its largest tenants.
const STACK: usize = 8 << 10;
/// Stack of faults: a fault can interrupt a call, whose frame must survive.
const FAULT_STACK: usize = 8 << 10;
#[repr(C, align(16))]
struct Stack<const N: usize>([u8; N]);
static CALL_STACK: Global<Stack<STACK>> = Global::new(Stack([0; STACK]));
static FAULT_STACK_SPACE: Global<Stack<FAULT_STACK>> = Global::new(Stack([0; FAULT_STACK]));

unsafe extern "C" {
    fn syscall_entry();
    fn fault_entry();
}

/// The header as a table of addresses, which constants cannot hold as numbers.
#[repr(C)]
struct ImageHeader {
    magic: u64,
    version: u32,
    size: u32,
    syscall_entry: unsafe extern "C" fn(),
    fault_entry: unsafe extern "C" fn(),
    stack_top: *const u8,
    user_rsp: *const u64,
    unserved: *const [u32; UNSERVED_SLOTS],
}
// SAFETY: constants, never written.
unsafe impl Sync for ImageHeader {}

#[used]
#[unsafe(link_section = ".header")]
static HEADER: ImageHeader = ImageHeader {
    magic: MAGIC,
    version: VERSION,
    size: size_of::<Header>() as u32,
    syscall_entry,
    fault_entry,
    stack_top: CALL_STACK.as_ptr().cast::<u8>().wrapping_add(STACK),
    user_rsp: USER_RSP.as_ptr(),
    unserved: UNSERVED.as_ptr(),
};
const _: () = assert!(size_of::<ImageHeader>() == size_of::<Header>());

global_asm!(
    ".pushsection .text.hot, \"ax\"",
    ".macro save",
    "mov [rsp], rax", "mov [rsp+8], rdi", "mov [rsp+16], rsi", "mov [rsp+24], rdx", "mov [rsp+32], r10",
    "mov [rsp+40], r8", "mov [rsp+48], r9", "mov [rsp+56], rbx", "mov [rsp+64], rbp", "mov [rsp+72], r12",
    "mov [rsp+80], r13", "mov [rsp+88], r14", "mov [rsp+96], r15", "mov [rsp+104], rcx", "mov [rsp+112], r11",
    "movups [rsp+144], xmm0", "movups [rsp+160], xmm1", "movups [rsp+176], xmm2", "movups [rsp+192], xmm3",
    "movups [rsp+208], xmm4", "movups [rsp+224], xmm5", "movups [rsp+240], xmm6", "movups [rsp+256], xmm7",
    "movups [rsp+272], xmm8", "movups [rsp+288], xmm9", "movups [rsp+304], xmm10", "movups [rsp+320], xmm11",
    "movups [rsp+336], xmm12", "movups [rsp+352], xmm13", "movups [rsp+368], xmm14", "movups [rsp+384], xmm15",
    ".endm",
    ".globl syscall_entry",
    "syscall_entry:",
    "lea rsp, [rsp - 400]",
    "save",
    "mov [rsp+120], rcx",
    "mov [rsp+128], r11",
    "mov rax, [rip + {user_rsp}]",
    "mov [rsp+136], rax",
    "cld",
    "mov rdi, rsp",
    "call {on_syscall}",
    "jmp 2f",
    ".globl fault_entry",
    "fault_entry:",
    "lea rsp, [rip + {fault_stack} + {fault_size} - 400]",
    "save",
    "cld",
    "mov rdi, rsp",
    "call {on_fault}",
    // The way out; rax = the frame to restore.
    "2: mov rsp, rax",
    "movups xmm0, [rsp+144]", "movups xmm1, [rsp+160]", "movups xmm2, [rsp+176]", "movups xmm3, [rsp+192]",
    "movups xmm4, [rsp+208]", "movups xmm5, [rsp+224]", "movups xmm6, [rsp+240]", "movups xmm7, [rsp+256]",
    "movups xmm8, [rsp+272]", "movups xmm9, [rsp+288]", "movups xmm10, [rsp+304]", "movups xmm11, [rsp+320]",
    "movups xmm12, [rsp+336]", "movups xmm13, [rsp+352]", "movups xmm14, [rsp+368]", "movups xmm15, [rsp+384]",
    "mov rax, [rsp+120]",
    "mov [rip + {return_rip}], rax",
    "push qword ptr [rsp+128]",
    "popfq",
    "mov rax, [rsp]", "mov rdi, [rsp+8]", "mov rsi, [rsp+16]", "mov rdx, [rsp+24]", "mov r10, [rsp+32]",
    "mov r8, [rsp+40]", "mov r9, [rsp+48]", "mov rbx, [rsp+56]", "mov rbp, [rsp+64]", "mov r12, [rsp+72]",
    "mov r13, [rsp+80]", "mov r14, [rsp+88]", "mov r15, [rsp+96]", "mov rcx, [rsp+104]", "mov r11, [rsp+112]",
    "mov rsp, [rsp+136]",
    "jmp qword ptr [rip + {return_rip}]",
    ".popsection",
    user_rsp = sym USER_RSP,
    return_rip = sym RETURN_RIP,
    fault_stack = sym FAULT_STACK_SPACE,
    fault_size = const FAULT_STACK,
    on_syscall = sym on_syscall,
    on_fault = sym on_fault,
);

/// Where a system call's frame always lies.
fn call_frame() -> *mut Frame {
    CALL_STACK.as_ptr().cast::<u8>().wrapping_add(STACK - size_of::<Frame>()).cast()
}

/// A system call of the program.
#[unsafe(link_section = ".text.hot")]
extern "C" fn on_syscall(frame: &mut Frame) -> *mut Frame {
    *STATE.get() = State::Call;
    let number = frame.rax;
    if let Some(result) = calls::dispatch(frame) {
        frame.rax = to_register(result);
        if result == Err(crate::errno::ENOSYS) {
            count_unserved(number);
        }
    }
    finish(frame)
}

/// From here to the end of the call a bad address of the program's ends it.
pub fn faults_kill() {
    *STATE.get() = State::Signal;
}

/// Starts the handlers of pending signals, if there are any.
fn finish(frame: &mut Frame) -> *mut Frame {
    if signal::is_ready() {
        faults_kill();
        signal::deliver_pending(frame);
    }
    *STATE.get() = State::Program;
    frame
}

/// Counts a call that was not served.
fn count_unserved(number: u64) {
    let slot = (number as usize).min(UNSERVED_SLOTS - 1);
    let counters = UNSERVED.get();
    counters[slot] = counters[slot].saturating_add(1);
}

/// A CPU exception: of the program, or of our own code while it reads or writes the program's memory.
extern "C" fn on_fault(frame: &mut Frame) -> *mut Frame {
    let fault: Fault = boot!(fault);
    (frame.rip, frame.rflags, frame.rsp) = (fault.rip, fault.rflags, fault.rsp);
    let ours = (SYSTEM_VA..SYSTEM_VA + LARGE_PAGE).contains(&fault.rip) && fault.rip != CPU_VA;
    if !ours {
        signal::raise_fault(&fault);
        return finish(frame);
    }
    let (number, _, address) = signal::of_vector(&fault);
    if *STATE.get() == State::Call && matches!(number, signal::SIGSEGV | signal::SIGBUS) {
        // SAFETY: a call is being served, so its frame lies at the top of the call stack; its code is abandoned.
        let interrupted = unsafe { &mut *call_frame() };
        interrupted.rax = to_register(Err(EFAULT));
        return finish(interrupted);
    }
    // A handler's frame does not fit the program's stack, or a defect of ours: Linux kills with SIGSEGV as well.
    port::killed(signal::SIGSEGV, address)
}
