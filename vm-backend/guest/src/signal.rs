//! Signals that the program sends to itself or causes by a fault.
//!
//! Numbers, structures and defaults are those of Linux on x86-64 (signal(7), include/uapi/asm/sigcontext.h, ucontext.h);
//! the frame on the program's stack is laid out as arch/x86/kernel/signal.c does, so that a C library's restorer and
//! handlers find what they expect. Only one thread exists and nobody else can send: a signal is pending only between
//! the call that raised it and the end of that call, or for as long as it is blocked.

use crate::cell::Global;
use crate::entry::Frame;
use crate::errno::{EINTR, EINVAL, ENOMEM, EPERM, Result};
use crate::{entry, fpu, port, user};
use vm_abi::Fault;

/// Illegal instruction.
pub const SIGILL: u64 = 4;
/// Trap.
pub const SIGTRAP: u64 = 5;
/// Abort.
pub const SIGABRT: u64 = 6;
/// Bus error.
pub const SIGBUS: u64 = 7;
/// Arithmetic error.
pub const SIGFPE: u64 = 8;
/// Kill.
pub const SIGKILL: u64 = 9;
/// Invalid memory access.
pub const SIGSEGV: u64 = 11;
/// Write to a pipe that nobody reads.
pub const SIGPIPE: u64 = 13;
const SIGCHLD: u64 = 17;
const SIGCONT: u64 = 18;
const SIGSTOP: u64 = 19;
const SIGTTOU: u64 = 22;
const SIGURG: u64 = 23;
const SIGWINCH: u64 = 28;
/// Number of signals (`_NSIG`).
pub const SIGNALS: u64 = 64;

const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
const SA_RESTORER: u64 = 0x0400_0000;
const SI_USER: u32 = 0;
/// `si_code` of a signal sent by tgkill: SI_TKILL, -6.
const SI_TKILL: u32 = 0xffff_fffa;
const SI_KERNEL: u32 = 0x80;
const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;
/// Smallest alternate stack (MINSIGSTKSZ).
const MIN_STACK: u64 = 2048;
/// `uc_flags`: the extended state is there; the stack segment is in the context, and is to be restored.
const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

/// `struct kernel_sigaction`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// `stack_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AltStack {
    sp: u64,
    flags: u32,
    pad: u32,
    size: u64,
}

impl AltStack {
    fn holds(&self, rsp: u64) -> bool {
        rsp.wrapping_sub(self.sp) < self.size
    }

    /// As the program sees it.
    fn reported(&self, rsp: u64) -> Self {
        let flags = match self.size {
            0 => SS_DISABLE,
            _ if self.holds(rsp) => SS_ONSTACK,
            _ => 0,
        };
        Self { flags, ..*self }
    }
}

#[repr(C)]
struct Signals {
    blocked: u64,
    pending: u64,
    /// Those of `pending` that tgkill sent.
    by_thread: u64,
    /// The one of `pending` that a fault caused; it is delivered before the program goes on.
    faulted: u64,
    /// `si_code`, `si_addr`, vector, error code and `cr2` of the last fault.
    code: u32,
    address: u64,
    vector: u64,
    error: u64,
    cr2: u64,
    /// What sigsuspend(2) goes back to.
    suspended: Option<u64>,
    alt: AltStack,
    actions: [Action; SIGNALS as usize + 1],
}

static STATE: Global<Signals> = Global::new(Signals {
    actions: [Action { handler: SIG_DFL, flags: 0, restorer: 0, mask: 0 }; SIGNALS as usize + 1],
    blocked: 0,
    pending: 0,
    by_thread: 0,
    faulted: 0,
    code: 0,
    address: 0,
    vector: 0,
    error: 0,
    cr2: 0,
    suspended: None,
    // SS_DISABLE means "none"; a size of 0 says the same and is all zero bytes.
    alt: AltStack { sp: 0, flags: 0, pad: 0, size: 0 },
});

/// `struct sigcontext`: the general registers in the order of `uc_mcontext.gregs`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Context {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    selectors: u64,
    error: u64,
    vector: u64,
    old_mask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// `struct rt_sigframe` without the FXSAVE area, which lies above it.
#[repr(C)]
#[derive(Clone, Copy)]
struct SignalFrame {
    restorer: u64,
    uc_flags: u64,
    uc_link: u64,
    uc_stack: AltStack,
    context: Context,
    uc_mask: u64,
    info: [u32; 32],
}

const fn bit_of(number: u64) -> u64 {
    1 << (number - 1)
}

/// SIGKILL and SIGSTOP.
const UNBLOCKABLE: u64 = bit_of(SIGKILL) | bit_of(SIGSTOP);

fn is_ignored(action: &Action, number: u64) -> bool {
    action.handler == SIG_IGN
        || action.handler == SIG_DFL
            && matches!(number, SIGCHLD | SIGCONT | SIGURG | SIGWINCH | SIGSTOP..=SIGTTOU)
}

/// The signal, its code and its address for a CPU exception (arch/x86/kernel/traps.c).
pub fn of_vector(fault: &Fault) -> (u64, u32, u64) {
    match fault.vector {
        0 => (SIGFPE, 1, fault.rip),
        1 => (SIGTRAP, 2, fault.rip),
        3 => (SIGTRAP, SI_KERNEL, 0),
        4 | 5 | 13 => (SIGSEGV, SI_KERNEL, 0),
        // A segment that is not there; a stack access at an address that is not canonical.
        11 | 12 => (SIGBUS, SI_KERNEL, 0),
        // SEGV_MAPERR where the page was absent, SEGV_ACCERR where it was there and the access not allowed.
        14 => (SIGSEGV, if fault.error & 1 == 0 { 1 } else { 2 }, fault.address),
        16 | 19 => (SIGFPE, fpu::exception_code(fault.vector), fault.rip),
        17 => (SIGBUS, 1, fault.address),
        _ => (SIGILL, 2, fault.rip),
    }
}

/// A fault of the program: its handler is started, or the program ends.
pub fn raise_fault(fault: &Fault) {
    let (number, code, address) = of_vector(fault);
    let state = STATE.get();
    let action = &state.actions[number as usize];
    // Blocked or ignored, the instruction would fault for ever: Linux then kills as well (force_sig_fault).
    if action.handler <= SIG_IGN || state.blocked & bit_of(number) != 0 {
        port::killed(number, address);
    }
    (state.code, state.address) = (code, address);
    (state.vector, state.error) = (fault.vector, fault.error);
    const PAGE_FAULT: u64 = 14;
    if fault.vector == PAGE_FAULT {
        state.cr2 = fault.address;
    }
    state.pending |= bit_of(number);
    state.faulted |= bit_of(number);
}

/// The program sends a signal to itself. `thread`: by tgkill.
pub fn raise(number: u64, thread: bool) -> Result {
    if number > SIGNALS {
        return Err(EINVAL);
    }
    if number == 0 {
        return Ok(0);
    }
    if number == SIGKILL {
        port::killed(number, 0);
    }
    let state = STATE.get();
    let bit = bit_of(number);
    // A blocked one waits even if it is ignored: that may change before it is unblocked (sig_ignored of Linux).
    if state.blocked & bit != 0 || !is_ignored(&state.actions[number as usize], number) {
        // Sent twice, the first one counts.
        if state.pending & bit == 0 {
            state.by_thread = state.by_thread & !bit | if thread { bit } else { 0 };
        }
        state.pending |= bit;
    }
    Ok(0)
}

/// Signals that wait while they are blocked.
pub fn pending() -> u64 {
    STATE.get().pending
}

/// Whether a signal is to be delivered now.
pub fn is_ready() -> bool {
    let state = STATE.get();
    state.pending & !state.blocked != 0
}

/// Changes the frame so that the program goes on in the handlers of all pending signals, or ends it. The lowest number
/// is delivered first and so runs last, as on Linux.
#[cold]
#[inline(never)]
pub fn deliver_pending(frame: &mut Frame) {
    while is_ready() {
        let state = STATE.get();
        let ready = state.pending & !state.blocked;
        // What a fault caused comes first.
        let chosen = if ready & state.faulted != 0 { ready & state.faulted } else { ready };
        deliver(frame, u64::from(chosen.trailing_zeros()) + 1);
    }
    let state = STATE.get();
    if let Some(mask) = state.suspended.take() {
        state.blocked = mask;
    }
}

fn deliver(frame: &mut Frame, number: u64) {
    let state = STATE.get();
    let bit = bit_of(number);
    let fault = state.faulted & bit != 0;
    state.pending &= !bit;
    state.faulted &= !bit;
    let action = state.actions[number as usize];
    if is_ignored(&action, number) {
        return;
    }
    let address = if fault { state.address } else { 0 };
    if action.handler == SIG_DFL || action.flags & SA_RESTORER == 0 {
        port::killed(number, address);
    }

    let alt = state.alt;
    let on_alt = alt.holds(frame.rsp);
    let use_alt = action.flags & SA_ONSTACK != 0 && alt.size != 0 && !on_alt;
    // 128: the red zone of the System V ABI.
    let top = if use_alt { alt.sp.wrapping_add(alt.size) } else { frame.rsp.wrapping_sub(128) };
    let fpstate = top.wrapping_sub(fpu::size()) & !63;
    // As at a function's entry: (rsp + 8) is a multiple of 16.
    let at = (fpstate.wrapping_sub(size_of::<SignalFrame>() as u64) & !15).wrapping_sub(8);
    if (use_alt || on_alt) && !alt.holds(at) {
        // What lies below is not the stack's.
        port::killed(SIGSEGV, at);
    }

    let mut info = [0u32; 32];
    info[0] = number as u32;
    if fault {
        info[2] = state.code;
        (info[4], info[5]) = (address as u32, (address >> 32) as u32);
    } else {
        info[2] = if state.by_thread & bit != 0 { SI_TKILL } else { SI_USER };
        info[4] = crate::calls::process::PID as u32;
    }
    fpu::save(fpstate, &frame.xmm);
    let extended = if fpu::is_extended() { UC_FP_XSTATE } else { 0 };
    user::write(
        at,
        SignalFrame {
            restorer: action.restorer,
            uc_flags: extended | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
            uc_link: 0,
            uc_stack: alt.reported(frame.rsp),
            context: context_of(frame, state, fpstate),
            uc_mask: state.suspended.take().unwrap_or(state.blocked),
            info,
        },
    );
    state.blocked |= action.mask | if action.flags & SA_NODEFER == 0 { bit } else { 0 };
    state.blocked &= !UNBLOCKABLE;
    if action.flags & SA_RESETHAND != 0 {
        state.actions[number as usize].handler = SIG_DFL;
    }
    frame.rip = action.handler;
    frame.rsp = at;
    frame.rdi = number;
    // Linux fills them in for every handler, SA_SIGINFO or not.
    let info_offset = core::mem::offset_of!(SignalFrame, info) as u64;
    (frame.rsi, frame.rdx) = (at + info_offset, at + 8);
    frame.rax = 0;
    frame.rflags &= !0x500; // TF and DF, as Linux does.
}

fn context_of(f: &Frame, state: &Signals, fpstate: u64) -> Context {
    Context {
        r8: f.r8,
        r9: f.r9,
        r10: f.r10,
        r11: f.r11,
        r12: f.r12,
        r13: f.r13,
        r14: f.r14,
        r15: f.r15,
        rdi: f.rdi,
        rsi: f.rsi,
        rbp: f.rbp,
        rbx: f.rbx,
        rdx: f.rdx,
        rax: f.rax,
        rcx: f.rcx,
        rsp: f.rsp,
        rip: f.rip,
        rflags: f.rflags,
        selectors: 0x2b << 48 | 0x33,
        error: state.error,
        vector: state.vector,
        old_mask: state.blocked,
        cr2: state.cr2,
        fpstate,
        reserved: [0; 8],
    }
}

/// rt_sigreturn(2): everything back from the frame that the handler was given. A frame that cannot be read ends the
/// program, as on Linux.
pub fn sigreturn(frame: &mut Frame) {
    entry::faults_kill();
    // The restorer was "returned" to, which took it off the stack.
    let saved: SignalFrame = user::read(frame.rsp.wrapping_sub(8));
    let c = saved.context;
    let state = STATE.get();
    if c.fpstate != 0 {
        fpu::restore(c.fpstate, &mut frame.xmm);
    }
    state.blocked = saved.uc_mask & !UNBLOCKABLE;
    frame.r8 = c.r8;
    frame.r9 = c.r9;
    frame.r10 = c.r10;
    frame.r11 = c.r11;
    frame.r12 = c.r12;
    frame.r13 = c.r13;
    frame.r14 = c.r14;
    frame.r15 = c.r15;
    frame.rdi = c.rdi;
    frame.rsi = c.rsi;
    frame.rbp = c.rbp;
    frame.rbx = c.rbx;
    frame.rdx = c.rdx;
    frame.rax = c.rax;
    frame.rcx = c.rcx;
    frame.rsp = c.rsp;
    frame.rip = c.rip;
    frame.rflags = c.rflags;
}

/// rt_sigaction(2).
pub fn action(number: u64, new: u64, old: u64, size: u64) -> Result {
    if number == 0 || number > SIGNALS || size != 8 || new != 0 && (number == SIGKILL || number == SIGSTOP) {
        return Err(EINVAL);
    }
    let next = (new != 0).then(|| user::read::<Action>(new));
    let slot = &mut STATE.get().actions[number as usize];
    if old != 0 {
        user::write(old, *slot);
    }
    if let Some(next) = next {
        *slot = next;
        if is_ignored(&next, number) {
            STATE.get().pending &= !bit_of(number);
        }
    }
    Ok(0)
}

/// rt_sigprocmask(2).
pub fn mask(how: u64, new: u64, old: u64, size: u64) -> Result {
    if size != 8 {
        return Err(EINVAL);
    }
    let state = STATE.get();
    let next = (new != 0).then(|| user::read::<u64>(new));
    if old != 0 {
        user::write(old, state.blocked);
    }
    if let Some(set) = next {
        let blocked = match how {
            0 => state.blocked | set,
            1 => state.blocked & !set,
            2 => set,
            _ => return Err(EINVAL),
        };
        state.blocked = blocked & !UNBLOCKABLE;
    }
    Ok(0)
}

/// rt_sigsuspend(2): a signal that waits is delivered; where none does, nobody will ever send one.
pub fn suspend(mask: u64, size: u64) -> Result {
    if size != 8 {
        return Err(EINVAL);
    }
    let set: u64 = user::read(mask);
    let state = STATE.get();
    let old = core::mem::replace(&mut state.blocked, set & !UNBLOCKABLE);
    if !is_ready() {
        return crate::calls::process::pause();
    }
    STATE.get().suspended = Some(old);
    Err(EINTR)
}

/// sigaltstack(2).
pub fn alt_stack(new: u64, old: u64, rsp: u64) -> Result {
    /// The only flag beside the mode; it has a meaning only where handlers switch stacks.
    const SS_AUTODISARM: u32 = 1 << 31;
    let state = STATE.get();
    let next = (new != 0).then(|| user::read::<AltStack>(new));
    if old != 0 {
        user::write(old, state.alt.reported(rsp));
    }
    let Some(next) = next else { return Ok(0) };
    if state.alt.holds(rsp) {
        return Err(EPERM);
    }
    match next.flags & !SS_AUTODISARM {
        SS_DISABLE => state.alt = AltStack { sp: 0, flags: 0, pad: 0, size: 0 },
        0 | SS_ONSTACK if next.size < MIN_STACK => return Err(ENOMEM),
        0 | SS_ONSTACK => state.alt = AltStack { flags: 0, ..next },
        _ => return Err(EINVAL),
    }
    Ok(0)
}
