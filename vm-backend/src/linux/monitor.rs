//! The monitor of a Linux machine: from fork to the program's end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::Pid;
use vm_abi::linux::{MAILBOX_GPA, MAILBOX_SIZE};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use super::bus::Bus;
use super::console::{Log, Serial};
use super::layout::{self, HOLE, KVM_TSS};
use super::machine::LinuxVm;
use super::mailbox::{Post, Start, Streams};
use super::vcpu::{Devices, Vcpu};
use super::virtio::tap::Tap;
use crate::backing::Backing;
use crate::clock::monotonic_ns;
use crate::config::Stdio;
use crate::monitor::{FAILED, at, detach};
use crate::probe;
use crate::report::{Failure, Report, Step};
use crate::space::map;

/// The phases, as indices of [`super::PHASES`].
#[derive(Clone, Copy)]
pub(super) enum Phase {
    Monitor,
    Open,
    CreateVm,
    Memory,
    Load,
    Vcpu,
    Enter,
    KernelDecompress,
    KernelInit,
    Init,
}

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
/// The host can back the guest with its own large pages where both are aligned to them.
const ALIGN: u64 = 2 << 20;

/// From detaching to the program's end; the exit code of the monitor.
pub(super) fn run(
    vm: &LinuxVm,
    report: &Report,
    log: Option<&Log>,
    stdio: Stdio<'_>,
    parent: Pid,
) -> Result<i32, Failure> {
    let phase = |phase: Phase| report.phase(phase as usize, monotonic_ns());
    detach(&vm.keep, stdio, parent).map_err(at(Step::Detach))?;
    phase(Phase::Monitor);
    let kvm = probe::open().map_err(|_| at(Step::Open)(io::Error::last_os_error()))?;
    phase(Phase::Open);
    let fd = kvm.create_vm().map_err(|e| at(Step::CreateVm)(e.into()))?;
    interrupts(&fd)?;
    phase(Phase::CreateVm);
    let regions = reserve(vm)?;
    for (slot, (gpa, size, host)) in (0u32..).zip(&regions) {
        add_slot(&fd, slot, *gpa, *size, *host, report)?;
    }
    for (gpa, size, host) in regions.iter().filter(|(gpa, ..)| *gpa != MAILBOX_GPA) {
        report.memory_at(*host, *size);
        back(vm, *gpa, *size, *host)?;
    }
    phase(Phase::Memory);
    let memory = accessible(&regions)?;
    let low = regions.first().map_or(ptr::null_mut(), |(_, _, host)| *host);
    load(vm, low)?;
    // One could be made when the machine was prepared; whether it still can be is seen here.
    let tap = vm.network.then(Tap::new).transpose().map_err(|e| at(Step::Devices)(e.into_source()))?;
    let told = Start {
        texts: &vm.texts,
        root: vm.root,
        address: tap.as_ref().map_or(0, |tap| u32::from(tap.guest()).to_be()),
        disks: vm.other_disks(),
    };
    let post = Post::new(&memory, &told, streams()).map_err(at(Step::Load))?;
    let arrivals = tap.as_ref().map(arrivals).transpose().map_err(at(Step::Devices))?;
    let bus = Bus::new(&fd, &memory, &vm.disks, tap).map_err(at(Step::Devices))?;
    phase(Phase::Load);
    let mut vcpus = Vec::new();
    for id in 0..vm.vcpus {
        vcpus.push(fd.create_vcpu(id.into()).map_err(|e| at(Step::CreateVcpu)(e.into()))?);
    }
    phase(Phase::Vcpu);
    let vcpus = (0..).zip(vcpus).map(|(id, fd)| Vcpu::set_up(fd, id, vm)).collect::<Result<Vec<_>, _>>()?;
    let devices =
        Devices { post, bus, serial: Serial::default(), log, console: vm.console, compressed: vm.compressed };
    phase(Phase::Enter);
    start(vcpus, &Mutex::new(devices), arrivals, report)
}

/// Local APICs, I/O APIC, 8259 and timer, all in KVM: a halted vCPU and a timer interrupt are no exits then.
fn interrupts(fd: &VmFd) -> Result<(), Failure> {
    let failed = |e: kvm_ioctls::Error| at(Step::Interrupts)(e.into());
    let tss =
        usize::try_from(KVM_TSS).map_err(|_| at(Step::Interrupts)(io::ErrorKind::InvalidInput.into()))?;
    fd.set_tss_address(tss).map_err(failed)?;
    fd.create_irq_chip().map_err(failed)?;
    // Kernels without KVM's clock measure their counter against it. The speaker's port, which that measuring uses, too.
    fd.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() })
        .map_err(failed)
}

/// Address space for RAM below and above the hole, and for the mailbox: (guest-physical, length, host address), ascending.
fn reserve(vm: &LinuxVm) -> Result<Vec<(u64, u64, *mut u8)>, Failure> {
    let mut parts = layout::ram(vm.memory);
    parts.insert(1, (MAILBOX_GPA, MAILBOX_SIZE));
    let one = |(gpa, size): (u64, u64)| {
        // One large page for the mailbox would be most of what a monitor takes beyond the guest's RAM.
        let align = if size < ALIGN { layout::PAGE } else { ALIGN };
        let raw = map(ptr::null_mut(), size + align, READ_WRITE, ANONYMOUS, None)?;
        let pad = raw.align_offset(usize::try_from(align).map_err(io::Error::other)?);
        Ok((gpa, size, raw.wrapping_add(pad)))
    };
    parts.into_iter().map(one).collect::<io::Result<_>>().map_err(at(Step::MapMemory))
}

fn add_slot(
    fd: &VmFd,
    slot: u32,
    gpa: u64,
    size: u64,
    host: *mut u8,
    report: &Report,
) -> Result<(), Failure> {
    let region = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: gpa,
        memory_size: size,
        userspace_addr: host as u64,
    };
    // SAFETY: `reserve` mapped the range, and nothing unmaps it before the process ends; the parts do not overlap (layout).
    unsafe { fd.set_user_memory_region(region) }.map_err(|e| at(Step::MemorySlot)(e.into()))?;
    report.slot_added();
    Ok(())
}

/// Backs a stretch of RAM as the configuration says, but for what the image will be mapped over.
fn back(vm: &LinuxVm, gpa: u64, size: u64, host: *mut u8) -> Result<(), Failure> {
    if vm.backing == Backing::Untouched {
        return Ok(());
    }
    for (start, len) in between(&vm.parts, gpa, size) {
        let offset = usize::try_from(start - gpa).map_err(|e| at(Step::MapMemory)(io::Error::other(e)))?;
        vm.backing.apply(host.wrapping_add(offset), len)?;
    }
    Ok(())
}

/// What of a stretch lies between these parts, which ascend.
fn between(parts: &[(u64, u64)], start: u64, size: u64) -> Vec<(u64, u64)> {
    let (mut from, end) = (start, start + size);
    let mut free = Vec::new();
    for (part, len) in parts.iter().copied().filter(|(part, len)| part + len > start).chain([(end, 0)]) {
        let to = part.min(end);
        if from < to {
            free.push((from, to - from));
        }
        from = from.max(part + len);
    }
    free
}

/// The same memory for reading and writing from here.
fn accessible(regions: &[(u64, u64, *mut u8)]) -> Result<GuestMemoryMmap<()>, Failure> {
    let failed = at(Step::MapMemory);
    let one = |(gpa, size, host): &(u64, u64, *mut u8)| {
        let size = usize::try_from(*size).map_err(io::Error::other)?;
        // SAFETY: `reserve` mapped the range, which stays until the process ends.
        let region = unsafe { MmapRegion::build_raw(*host, size, READ_WRITE, ANONYMOUS) };
        let region = region.map_err(io::Error::other)?;
        GuestRegionMmap::new(region, GuestAddress(*gpa)).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    };
    let regions = regions.iter().map(one).collect::<io::Result<Vec<_>>>().map_err(&failed)?;
    GuestMemoryMmap::from_regions(regions).map_err(|e| failed(io::Error::other(e)))
}

/// Maps what the image holds over the start of the memory, privately.
fn load(vm: &LinuxVm, low: *mut u8) -> Result<(), Failure> {
    let end = vm.memory.min(HOLE);
    for (gpa, len) in &vm.parts {
        let failed = at(Step::Load);
        if gpa.checked_add(*len).is_none_or(|e| e > end) {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        let offset = usize::try_from(*gpa).map_err(|e| failed(io::Error::other(e)))?;
        // Inside the reservation of the low memory: checked above.
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        let place = low.wrapping_add(offset);
        map(place, *len, READ_WRITE, flags, Some((&vm.image, *gpa))).map_err(failed)?;
        if vm.backing == Backing::Prefaulted {
            vm.backing.apply(place, *len)?;
        }
    }
    Ok(())
}

/// The streams that `detach` put in place.
fn streams() -> Streams<'static> {
    // SAFETY: `detach` put open descriptors into 0, 1 and 2, and nothing in this process closes them.
    let fd = |n| unsafe { BorrowedFd::borrow_raw(n) };
    Streams { input: (!is_null(fd(0))).then(|| fd(0)), out: [fd(1), fd(2)] }
}

/// Whether a descriptor is /dev/null: then the guest need not ask for input, again and again.
fn is_null(fd: BorrowedFd<'_>) -> bool {
    let null = nix::sys::stat::makedev(1, 3);
    nix::sys::stat::fstat(fd).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFCHR && s.st_rdev == null)
}

/// The first vCPU runs in this thread, the others each in one of its own.
fn start(
    mut vcpus: Vec<Vcpu>,
    devices: &Mutex<Devices<'_>>,
    arrivals: Option<Epoll>,
    report: &Report,
) -> Result<i32, Failure> {
    let others = vcpus.split_off(1);
    let Some(mut first) = vcpus.pop() else { return Ok(0) };
    std::thread::scope(|scope| {
        // Going back from here would be waiting for the threads that there are already.
        let failed = |error| end(Err(at(Step::Thread)(error)), devices, report);
        for (id, mut vcpu) in (1..).zip(others) {
            let run = move || end(vcpu.run(devices, report), devices, report);
            let started = std::thread::Builder::new().name(format!("vcpu{id}")).spawn_scoped(scope, run);
            started.unwrap_or_else(failed);
        }
        if let Some(arrivals) = arrivals {
            let receive = move || receive(&arrivals, devices);
            let started = std::thread::Builder::new().name("net".into()).spawn_scoped(scope, receive);
            started.unwrap_or_else(failed);
        }
        end(first.run(devices, report), devices, report)
    })
}

/// Tells when something comes in from the network. Edge-triggered: what finds no place in the guest is taken when the guest says
/// that it has made some.
fn arrivals(tap: &Tap) -> io::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(tap.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
    Ok(epoll)
}

/// Passes on what comes in from the network, for as long as there is one.
fn receive(arrivals: &Epoll, devices: &Mutex<Devices<'_>>) {
    loop {
        let mut events = [EpollEvent::empty()];
        match arrivals.wait(&mut events, EpollTimeout::NONE) {
            Ok(_) => devices.lock().unwrap_or_else(PoisonError::into_inner).bus.receive(),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Ends the process, and the machine with it: exit_group(2) takes the other threads along, wherever they are. Waiting for the other
/// vCPUs would be waiting for ever, they are in the guest.
fn end(result: Result<i32, Failure>, devices: &Mutex<Devices<'_>>, report: &Report) -> ! {
    // Another may be in the middle of a request; what it writes should not be cut off.
    let _last = devices.lock().unwrap_or_else(PoisonError::into_inner);
    let code = result.unwrap_or_else(|failure| {
        if !report.is_finished() {
            report.failed(failure, monotonic_ns());
        }
        FAILED
    });
    // SAFETY: ends the process without running the caller's exit handlers, which are not ours; the kernel frees the rest.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_the_parts_of_an_image_is_the_rest_of_the_memory() {
        let parts = [(0, 10), (20, 30), (90, 10)];
        assert_eq!(between(&parts, 0, 100), [(10, 10), (50, 40)]);
        // An image below it all, and none.
        assert_eq!(between(&parts, 200, 50), [(200, 50)]);
        assert_eq!(between(&[], 0, 100), [(0, 100)]);
        assert_eq!(between(&[(0, 10), (5, 20)], 0, 30), [(25, 5)]);
    }
}
