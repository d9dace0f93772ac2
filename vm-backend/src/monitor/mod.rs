//! The monitor: the process that holds one virtual machine, from fork to exit.

mod memory;
mod requests;
mod vcpu;

use std::ffi::c_uint;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use kvm_bindings::{KVM_CAP_SPLIT_IRQCHIP, kvm_enable_cap};
use kvm_ioctls::VmFd;
use nix::unistd::Pid;

use crate::clock::monotonic_ns;
use crate::config::Stdio;
use crate::probe;
use crate::report::{Failure, Report, Step};
use crate::vm::Vm;
use memory::Memory;
use vcpu::Vcpu;

/// Exit code of a monitor that failed; the report says at what.
pub(crate) const FAILED: i32 = 125;

/// Where a local APIC answers (APIC_DEFAULT_PHYS_BASE; Intel SDM vol. 3, 11.4.1).
const APIC_GPA: u64 = 0xfee0_0000;

/// The phases, as indices of [`crate::report::PHASES`].
#[derive(Clone, Copy)]
enum Phase {
    Monitor,
    Open,
    CreateVm,
    Memory,
    Vcpu,
    Load,
    Enter,
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// A failure at a step, from the last error of libc or an error value.
pub(crate) fn at(step: Step) -> impl Fn(io::Error) -> Failure {
    move |error| Failure { step: Some(step), detail: errno(&error), address: 0 }
}

/// The child's whole life.
pub(crate) fn main(report: &Report, body: impl FnOnce() -> Result<i32, Failure>) -> ! {
    let code = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            report.failed(failure, monotonic_ns());
            FAILED
        }
        Err(_) => {
            report.failed(Failure { step: Some(Step::Panic), detail: 0, address: 0 }, monotonic_ns());
            FAILED
        }
    };
    // SAFETY: ends the process without running the caller's exit handlers, which are not ours; the kernel frees the rest.
    unsafe { libc::_exit(code) }
}

/// From detaching to the program's end.
pub(crate) fn run(vm: &Vm, report: &Report, stdio: Stdio<'_>, parent: Pid) -> Result<i32, Failure> {
    let phase = |phase: Phase| report.phase(phase as usize, monotonic_ns());
    detach(&vm.keep, stdio, parent).map_err(at(Step::Detach))?;
    phase(Phase::Monitor);
    let kvm = probe::open().map_err(|_| at(Step::Open)(io::Error::last_os_error()))?;
    phase(Phase::Open);
    let fd = kvm.create_vm().map_err(|e| at(Step::CreateVm)(e.into()))?;
    if vm.layout.memory <= APIC_GPA {
        use_kernel_apic(&fd);
    }
    phase(Phase::CreateVm);
    let mut memory = Memory::new(vm);
    memory.register(vm, &fd, report)?;
    phase(Phase::Memory);
    let vcpu = fd.create_vcpu(0).map_err(|e| at(Step::CreateVcpu)(e.into()))?;
    phase(Phase::Vcpu);
    memory.load(vm)?;
    phase(Phase::Load);
    let mut vcpu = Vcpu::set_up(vcpu, vm)?;
    phase(Phase::Enter);
    vcpu.run(&fd, vm, &mut memory, report)
}

/// Gives the vCPU a local APIC in the kernel, which the guest never uses. A vCPU without one makes KVM patch a branch of
/// its own code at creation and again at the end (the static key `kvm_has_noapic_vcpu`), 0.2 ms each; with one, the
/// corresponding key is undone a second later, and not at all while machines come and go. Where the kernel lacks
/// the split irqchip (before 4.5) the machine is merely slower to start, and so is one whose memory reaches to where the
/// APIC's registers would hide a page of it.
fn use_kernel_apic(fd: &VmFd) {
    let capability = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..kvm_enable_cap::default() };
    let enabled = fd.enable_cap(&capability);
    debug_assert!(enabled.is_ok(), "{enabled:?}");
}

/// Becomes a process of its own: dies with the caller, and with nobody else (a Ctrl-C meant for the caller does not end
/// it), and keeps no descriptor but the standard ones and those it still needs.
pub(crate) fn detach(keep: &[RawFd], stdio: Stdio<'_>, parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    if nix::unistd::getppid() != parent {
        // The caller died before the line above.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    reset_signals()?;
    install_stdio(stdio)?;
    let mut from = 3;
    for fd in keep.iter().filter_map(|fd| c_uint::try_from(*fd).ok()) {
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = from.max(fd + 1);
    }
    close_range(from, c_uint::MAX)
}

fn close_range(first: c_uint, last: c_uint) -> io::Result<()> {
    // SAFETY: closes descriptors of the caller that this process never uses; those it uses are outside the range.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts the three streams in place 0, 1, 2, whatever numbers they have.
fn install_stdio(stdio: Stdio<'_>) -> io::Result<()> {
    let mut fds = [stdio.stdin.as_raw_fd(), stdio.stdout.as_raw_fd(), stdio.stderr.as_raw_fd()];
    for (i, fd) in (0..).zip(fds.iter_mut()) {
        // One that sits in the place of another moves out of the way first.
        if *fd < 3 && *fd != i {
            // SAFETY: duplicates a descriptor that is open in this process.
            *fd = unsafe { libc::fcntl(*fd, libc::F_DUPFD, 3) };
            if *fd < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    for (i, fd) in (0..).zip(fds) {
        // SAFETY: replaces a standard descriptor of this process only; nobody holds it as owned here.
        if fd != i && unsafe { libc::dup2(fd, i) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// No handler of the caller may run here. What a terminal sends to the whole group is the caller's to act on, so it is
/// ignored (a session of its own would do, but costs 10 us); SIGPIPE too, of which the guest makes its own.
fn reset_signals() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
    for number in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGPIPE] {
        // SAFETY: ignores a signal; no handler of ours is involved.
        unsafe { signal(number, SigHandler::SigIgn) }?;
    }
    for number in [Signal::SIGTERM, Signal::SIGALRM, Signal::SIGCHLD] {
        // SAFETY: as above, for the default action.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}
