//! What the guest asks for, one request at a time. Every number in a request is the guest's word: it is checked here.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use kvm_ioctls::VmFd;
use vm_abi::{Boot, Request, UNSERVED_SLOTS, op};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, ReadVolatile, VolatileMemoryError, WriteVolatile};

use super::memory::Memory;
use super::vcpu::Vcpu;
use crate::clock::realtime_ns;
use crate::layout::BOOT_GPA;
use crate::report::{Count, Failure, Report, Step};
use crate::vm::Vm;

/// What happens after a request.
pub(super) enum Next {
    /// The guest goes on.
    Continue,
    /// The program ended; the monitor exits with this code.
    End(i32),
}

/// One transfer at most this long, so that a length means what `ssize_t` can hold.
const MAX_TRANSFER: u64 = 0x7fff_f000;
/// Signals are numbered 1 to 64.
const MAX_SIGNAL: u64 = 64;

type Answer = Result<u64, i32>;

/// Serves the request in the boot block.
pub(super) fn serve(
    vcpu: &Vcpu,
    fd: &VmFd,
    vm: &Vm,
    memory: &mut Memory<'_>,
    report: &Report,
) -> Result<Next, Failure> {
    let read = |offset: usize| memory.guest.read_obj::<u64>(GuestAddress(BOOT_GPA + offset as u64));
    let malformed = |number: u64| Failure {
        step: Some(Step::BadRequest),
        detail: i32::try_from(number).unwrap_or(i32::MAX),
        address: BOOT_GPA,
    };
    let number = read(offset_of!(Request, op)).map_err(|_| malformed(u64::MAX))?;
    let args = offset_of!(Request, args);
    let [a, b, c] = [args, args + 8, args + 16].map(|o| read(o).unwrap_or(u64::MAX));
    let kind = match number {
        op::WRITE => Count::Write,
        op::READ | op::POLL => Count::Read,
        op::BACK | op::RELEASE => Count::Memory,
        op::CLOCKS | op::SLEEP => Count::Time,
        _ => Count::Other,
    };
    report.count(kind);
    let answer = match number {
        op::EXIT => {
            keep_unserved(vm, memory, report);
            let code = i32::try_from(a & 0xff).unwrap_or_default();
            report.exited(code, Vcpu::now());
            return Ok(Next::End(code));
        }
        op::KILLED => {
            keep_unserved(vm, memory, report);
            let signal = i32::try_from(a.clamp(1, MAX_SIGNAL)).unwrap_or_default();
            report.signaled(signal, b, Vcpu::now());
            return Ok(Next::End(128 + signal));
        }
        op::WRITE => transfer(vm, memory, a, b, c, true),
        op::READ => transfer(vm, memory, a, b, c, false),
        op::CLOCKS => {
            let now = [Vcpu::now(), realtime_ns(), tsc_khz(vcpu)];
            for (i, value) in (0u64..).zip(now) {
                memory.write(BOOT_GPA + args as u64 + 8 * i, &value.to_le_bytes())?;
            }
            Ok(0)
        }
        op::BACK => memory.back(vm, fd, report, a)?,
        op::RELEASE => memory.release(&vm.layout, a, b).map(|()| 0),
        op::LARGE_PAGES => memory.large_pages(&vm.layout, a, b).map(|()| 0),
        op::SLEEP => {
            sleep(a);
            Ok(0)
        }
        op::POLL => poll(vm, memory, a, b, c),
        op::OPEN_FILE => memory.open_file(vm, fd, report, a)?.map(|()| 0),
        op::RANDOM => memory.refill_random()?.map(|()| 0),
        op::SET_BASE => vcpu.set_base(a, b)?.map(|()| 0),
        other => return Err(malformed(other)),
    };
    let value = answer.map_or_else(|e| -i64::from(e), |v| i64::try_from(v).unwrap_or(i64::MAX));
    memory.write(BOOT_GPA + offset_of!(Request, result) as u64, &value.to_le_bytes())?;
    Ok(Next::Continue)
}

/// Copies the guest's counters of calls that it did not serve.
fn keep_unserved(vm: &Vm, memory: &Memory<'_>, report: &Report) {
    let Some(gpa) =
        vm.layout.to_gpa(vm.template.header.unserved, 4 * UNSERVED_SLOTS as u64, memory.backed_end)
    else {
        return;
    };
    let mut bytes = [0u8; 4 * UNSERVED_SLOTS];
    if memory.guest.read_slice(&mut bytes, GuestAddress(gpa)).is_err() {
        return;
    }
    let mut counters = [0u32; UNSERVED_SLOTS];
    for (counter, chunk) in counters.iter_mut().zip(bytes.chunks_exact(4)) {
        *counter = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
    report.unserved_counters(&counters);
}

/// Frequency of the guest's time-stamp counter, 0 where it may change or is not known.
fn tsc_khz(vcpu: &Vcpu) -> u64 {
    /// CPUID 8000_0007h EDX bit 8: the counter runs at one rate in all states (Intel SDM vol. 3, 18.17.1).
    const INVARIANT: u32 = 1 << 8;
    let leaves = std::arch::x86_64::__cpuid(0x8000_0000).eax;
    let invariant = leaves >= 0x8000_0007 && std::arch::x86_64::__cpuid(0x8000_0007).edx & INVARIANT != 0;
    if invariant { vcpu.fd.get_tsc_khz().map_or(0, u64::from) } else { 0 }
}

/// A standard stream of this process.
fn standard(stream: u64) -> Option<BorrowedFd<'static>> {
    let fd = i32::try_from(stream).ok().filter(|fd| (0..3).contains(fd))?;
    // SAFETY: `detach` put open descriptors into 0, 1 and 2, and nothing in this process closes them.
    Some(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// One read(2) or write(2) between a stream and guest memory, without a copy in between.
fn transfer(vm: &Vm, memory: &Memory<'_>, stream: u64, va: u64, len: u64, out: bool) -> Answer {
    let Some(mut fd) = standard(stream) else { return Err(libc::EBADF) };
    let len = len.min(MAX_TRANSFER);
    if len == 0 {
        return Ok(0);
    }
    let gpa = vm.layout.to_gpa(va, len, memory.backed_end).ok_or(libc::EFAULT)?;
    let count = usize::try_from(len).map_err(|_| libc::EINVAL)?;
    let slice = memory.guest.get_slices(GuestAddress(gpa), count).next();
    let slice = slice.and_then(Result::ok).ok_or(libc::EFAULT)?;
    loop {
        let mut part = slice.offset(0).map_err(|_| libc::EFAULT)?;
        let done = if out { fd.write_volatile(&part) } else { fd.read_volatile(&mut part) };
        match done {
            Ok(n) => return Ok(n as u64),
            Err(VolatileMemoryError::IOError(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(VolatileMemoryError::IOError(e)) => return Err(e.raw_os_error().unwrap_or(libc::EIO)),
            Err(_) => return Err(libc::EFAULT),
        }
    }
}

fn sleep(nanoseconds: u64) {
    if nanoseconds == u64::MAX {
        loop {
            // Until the process that started us ends the machine.
            std::thread::park();
        }
    }
    std::thread::sleep(Duration::from_nanos(nanoseconds));
}

/// poll(2) on standard streams: `struct pollfd` in guest memory, descriptors 0 to 2.
fn poll(vm: &Vm, memory: &Memory<'_>, va: u64, count: u64, timeout: u64) -> Answer {
    const STREAMS: u64 = 3;
    const SIZE: u64 = 8;
    if count > STREAMS {
        return Err(libc::EINVAL);
    }
    let gpa = vm.layout.to_gpa(va, count * SIZE, memory.backed_end).ok_or(libc::EFAULT)?;
    let mut fds = [libc::pollfd { fd: -1, events: 0, revents: 0 }; 3];
    for (i, entry) in (0..count).zip(&mut fds) {
        let word: u64 = memory.guest.read_obj(GuestAddress(gpa + SIZE * i)).map_err(|_| libc::EFAULT)?;
        let bytes = word.to_le_bytes();
        let stream = u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        entry.fd = standard(stream).ok_or(libc::EBADF)?.as_raw_fd();
        entry.events = i16::from_le_bytes([bytes[4], bytes[5]]);
    }
    // The guest passes a C int, zero-extended.
    let timeout = u32::try_from(timeout).map_err(|_| libc::EINVAL)?.cast_signed();
    // SAFETY: `fds` holds at least `count` (at most 3) valid entries for the duration of the call.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), count, timeout) };
    if ready < 0 {
        return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO));
    }
    for (i, entry) in (0..count).zip(&fds) {
        let field = GuestAddress(gpa + SIZE * i + offset_of!(libc::pollfd, revents) as u64);
        memory.guest.write_obj(entry.revents, field).map_err(|_| libc::EFAULT)?;
    }
    Ok(u64::from(ready.cast_unsigned()))
}

const _: () = assert!(offset_of!(Boot, request) == 0);
