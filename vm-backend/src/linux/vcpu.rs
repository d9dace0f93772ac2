//! A vCPU: its first registers, and the loop around KVM_RUN.

use std::io;
use std::sync::{Mutex, PoisonError};

use kvm_bindings::{Msrs, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_abi::linux::DOORBELL;

use super::bus::Bus;
use super::console::{COM1, COM1_PORTS, Log, Serial};
use super::kernel::Entry;
use super::layout::{BOOT_PARAMS, GDT, PAGE_TABLES, START_INFO};
use super::machine::LinuxVm;
use super::mailbox::{Post, Request};
use super::monitor::Phase;
use super::params::{self, BOOT_CS, BOOT_DS};
use crate::clock::monotonic_ns;
use crate::monitor::at;
use crate::report::{Count, Failure, Report, Step};

// Control registers and EFER (Intel SDM vol. 3, 2.5 and 2.2.1).
const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Always one in RFLAGS.
const RFLAGS: u64 = 2;

/// Memory that no range names is write-back (IA32_MTRR_DEF_TYPE; SDM vol. 3, 12.11.2.1), as firmware would have it.
const MTRR_DEF_TYPE: (u32, u64) = (0x2ff, 1 << 11 | 6);
/// Fast string operations (IA32_MISC_ENABLE), without which Linux avoids `rep movs`.
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);

/// Offsets of the local APIC's inputs and their delivery modes (SDM vol. 3, 11.5.1).
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const EXTINT: u32 = 7 << 8;
const NMI: u32 = 4 << 8;

/// Ports by which a PC is reset: the keyboard controller's command, and the "reset control" of chip sets.
const I8042_COMMAND: u16 = 0x64;
const I8042_RESET: u8 = 0xfe;
const RESET_CONTROL: u16 = 0xcf9;
const RESET_NOW: u8 = 4;
/// The clock chip's data: zero, so that "update in progress" is never seen, for which drivers wait.
const CMOS_DATA: u16 = 0x71;

/// KVM_EXIT_INTERNAL_ERROR and so on, as numbers in a report.
const EXIT_INTERNAL_ERROR: i32 = 17;
const EXIT_FAIL_ENTRY: i32 = 9;
const EXIT_OTHER: i32 = 0;

/// What all vCPUs share.
pub(super) struct Devices<'a> {
    pub post: Post<'a>,
    pub bus: Bus<'a>,
    pub serial: Serial,
    pub log: Option<&'a Log>,
    pub console: bool,
    /// A kernel that unpacks itself.
    pub compressed: bool,
}

/// One vCPU.
pub(super) struct Vcpu {
    fd: VcpuFd,
}

/// What happens after an exit.
enum Next {
    Continue,
    End(i32),
}

fn segment(selector: u16, kind: u8, long: bool) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_: kind,
        present: 1,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..kvm_segment::default()
    }
}

/// Segments and control registers at a kernel's entry, over what KVM had.
pub(super) fn sregs(mut sregs: kvm_sregs, entry: Entry) -> kvm_sregs {
    /// Execute, read, accessed; read, write, accessed.
    const CODE: u8 = 11;
    const DATA: u8 = 3;
    let long = matches!(entry, Entry::Long(_));
    sregs.cs = segment(BOOT_CS, CODE, long);
    let data = segment(BOOT_DS, DATA, false);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    // Busy TSS: there has to be one, nobody uses it.
    sregs.tr = kvm_segment { type_: 11, present: 1, limit: 0x67, ..kvm_segment::default() };
    sregs.gdt.base = GDT;
    // 8 bytes an entry, less one.
    sregs.gdt.limit = 8 * 4 - 1;
    sregs.idt.limit = 0;
    match entry {
        Entry::Long(_) => {
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.cr3 = PAGE_TABLES;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
        }
        Entry::Pvh(_) => {
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr4 = 0;
            sregs.efer = 0;
        }
    }
    sregs
}

fn regs(entry: Entry) -> kvm_regs {
    match entry {
        Entry::Long(rip) => kvm_regs { rip, rsi: BOOT_PARAMS, rflags: RFLAGS, ..kvm_regs::default() },
        Entry::Pvh(rip) => kvm_regs { rip, rbx: START_INFO, rflags: RFLAGS, ..kvm_regs::default() },
    }
}

/// The local APIC's two inputs as firmware leaves them: the 8259, and NMI.
fn set_inputs(apic: &mut kvm_lapic_state) {
    for (offset, value) in [(LVT_LINT0, EXTINT), (LVT_LINT1, NMI)] {
        for (to, from) in apic.regs[offset..].iter_mut().zip(value.to_le_bytes()) {
            *to = from.cast_signed();
        }
    }
}

impl Vcpu {
    /// The first one gets the registers of the kernel's entry; the others wait for a start-up interrupt.
    pub fn set_up(fd: VcpuFd, id: u8, vm: &LinuxVm) -> Result<Self, Failure> {
        let failed = |e: kvm_ioctls::Error| at(Step::Registers)(e.into());
        let invalid = || at(Step::Registers)(io::ErrorKind::InvalidInput.into());
        fd.set_cpuid2(&vm.cpu.table(id).ok_or_else(invalid)?).map_err(failed)?;
        let entries = [MTRR_DEF_TYPE, MISC_ENABLE].map(|(index, data)| kvm_msr_entry {
            index,
            data,
            ..kvm_msr_entry::default()
        });
        let msrs = Msrs::from_entries(&entries).map_err(|_| invalid())?;
        if fd.set_msrs(&msrs).map_err(failed)? != entries.len() {
            return Err(invalid());
        }
        let mut apic = fd.get_lapic().map_err(failed)?;
        set_inputs(&mut apic);
        fd.set_lapic(&apic).map_err(failed)?;
        if id != 0 {
            return Ok(Self { fd });
        }
        fd.set_sregs(&sregs(fd.get_sregs().map_err(failed)?, vm.entry)).map_err(failed)?;
        fd.set_regs(&regs(vm.entry)).map_err(failed)?;
        Ok(Self { fd })
    }

    /// Runs until the machine ends; the monitor's exit code.
    pub fn run(&mut self, devices: &Mutex<Devices<'_>>, report: &Report) -> Result<i32, Failure> {
        loop {
            let devices = || devices.lock().unwrap_or_else(PoisonError::into_inner);
            let unexpected = match self.fd.run() {
                Ok(VcpuExit::IoOut(port, data)) => match write(&mut devices(), port, data, report)? {
                    Next::Continue => continue,
                    Next::End(code) => return Ok(code),
                },
                Ok(VcpuExit::IoIn(port, data)) => {
                    report.count(Count::Other);
                    read(&devices(), port, data);
                    continue;
                }
                Ok(VcpuExit::MmioRead(address, data)) => {
                    report.count(Count::Other);
                    devices().bus.read(address, data);
                    continue;
                }
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    report.count(Count::Other);
                    devices().bus.write(address, data);
                    continue;
                }
                Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::Hlt) => continue,
                // A triple fault is how our command line lets a kernel reboot, after a panic for example.
                Ok(VcpuExit::Shutdown | VcpuExit::SystemEvent(..)) => {
                    return Err(self.failure(Step::GuestReset, 0));
                }
                Ok(VcpuExit::InternalError) => EXIT_INTERNAL_ERROR,
                Ok(VcpuExit::FailEntry(..)) => EXIT_FAIL_ENTRY,
                Ok(_) => EXIT_OTHER,
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => continue,
                Err(error) => return Err(self.failure(Step::Run, error.errno())),
            };
            return Err(self.failure(Step::UnexpectedExit, unexpected));
        }
    }

    /// A failure that names the instruction.
    fn failure(&self, step: Step, detail: i32) -> Failure {
        let address = self.fd.get_regs().map_or(0, |r| r.rip);
        Failure { step: Some(step), detail, address }
    }
}

fn write(devices: &mut Devices<'_>, port: u16, data: &[u8], report: &Report) -> Result<Next, Failure> {
    let Some(&value) = data.first() else { return Ok(Next::Continue) };
    let now = monotonic_ns;
    if port != DOORBELL {
        report.count(Count::Other);
    }
    match port {
        DOORBELL => match devices.post.serve(value) {
            Request::Output => report.count(Count::Write),
            Request::Input => report.count(Count::Read),
            Request::Entered => {
                report.count(Count::Other);
                report.phase_once(Phase::KernelInit as usize, now());
            }
            Request::Starting => {
                report.count(Count::Other);
                report.phase_once(Phase::Init as usize, now());
            }
            Request::Exited(code) => {
                report.count(Count::Other);
                report.exited(code, now());
                return Ok(Next::End(code));
            }
            Request::Signaled(signal) => {
                report.count(Count::Other);
                report.signaled(signal, 0, now());
                return Ok(Next::End(128 + signal));
            }
            Request::Failed(failure) => return Err(failure),
            Request::Unknown => report.count(Count::Other),
        },
        port if (COM1..COM1 + COM1_PORTS).contains(&port) => {
            if let Some(byte) = devices.serial.write(port - COM1, value) {
                sent(devices, byte);
            }
            // Its first user is what unpacks the kernel, the second is the kernel, in the first milliseconds of its life.
            if devices.compressed && devices.serial.users() == 2 {
                report.phase_once(Phase::KernelDecompress as usize, now());
            }
        }
        I8042_COMMAND if value == I8042_RESET => return Err(reset()),
        RESET_CONTROL if value & RESET_NOW != 0 => return Err(reset()),
        _ => {}
    }
    Ok(Next::Continue)
}

fn reset() -> Failure {
    Failure { step: Some(Step::GuestReset), detail: 0, address: 0 }
}

/// A byte that the kernel printed.
fn sent(devices: &Devices<'_>, byte: u8) {
    if let Some(log) = devices.log {
        log.push(byte);
    }
    if devices.console {
        // Whoever listens to the console and stops does not end the machine.
        drop(std::io::Write::write_all(&mut std::io::stderr(), &[byte]));
    }
}

fn read(devices: &Devices<'_>, port: u16, data: &mut [u8]) {
    // As on an empty bus.
    data.fill(0xff);
    let Some(first) = data.first_mut() else { return };
    match port {
        port if (COM1..COM1 + COM1_PORTS).contains(&port) => *first = devices.serial.read(port - COM1),
        CMOS_DATA => *first = 0,
        _ => {}
    }
}

const _: () = assert!(params::GDT.len() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_64_bit_entry_is_in_long_mode_with_boot_parameters() {
        let (s, r) = (sregs(kvm_sregs::default(), Entry::Long(0x10_0200)), regs(Entry::Long(0x10_0200)));
        assert_eq!((s.cs.l, s.cs.db, s.cs.selector, s.ds.selector), (1, 0, 0x10, 0x18));
        assert_eq!((s.cr0, s.cr3, s.cr4, s.efer), (0x8000_0011, 0x9000, 0x20, 0x500));
        assert_eq!((r.rip, r.rsi, r.rflags), (0x10_0200, 0x7000, 2));
    }

    #[test]
    fn the_pvh_entry_is_in_protected_mode_without_paging() {
        let (s, r) = (sregs(kvm_sregs::default(), Entry::Pvh(0x100_0000)), regs(Entry::Pvh(0x100_0000)));
        assert_eq!((s.cs.l, s.cs.db, s.cr0, s.cr4, s.efer), (0, 1, 0x11, 0, 0));
        assert_eq!((r.rip, r.rbx), (0x100_0000, 0x6000));
    }

    #[test]
    fn interrupts_of_the_8259_reach_the_first_processor() {
        let mut apic = kvm_lapic_state::default();
        set_inputs(&mut apic);
        assert_eq!((apic.regs[LVT_LINT0 + 1], apic.regs[LVT_LINT1 + 1]), (7, 4));
    }
}
