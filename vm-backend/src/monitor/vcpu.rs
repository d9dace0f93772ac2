//! The vCPU: its registers, the loop around KVM_RUN, and CPU exceptions of the program.

use std::io;

use kvm_bindings::{kvm_xcr, kvm_xcrs};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use vm_abi::{Boot, CPU_VA, Fault, PAGE, port};
use vm_memory::{Bytes, GuestAddress};

use super::at;
use super::memory::Memory;
use super::requests::{Next, serve};
use crate::boot::{regs, tables};
use crate::clock::monotonic_ns;
use crate::layout::{BOOT_GPA, CPU_GPA};
use crate::report::{Count, Failure, Report, Step};
use crate::vm::Vm;

/// KVM_EXIT_IO and so on are decoded by kvm-ioctls; these numbers only name what is left.
const EXIT_SHUTDOWN: i32 = 8;
const EXIT_INTERNAL_ERROR: i32 = 17;
const EXIT_MMIO: i32 = 6;
const EXIT_OTHER: i32 = 0;
/// First exception vector that means the tables themselves are broken.
const DOUBLE_FAULT: u16 = 8;

/// The one vCPU of a machine.
pub(super) struct Vcpu {
    pub fd: VcpuFd,
}

/// What an exit asks for, free of the borrow of the run page.
enum Exit {
    Doorbell,
    Exception(u16),
    Again,
    Unexpected(i32),
}

fn decode(exit: VcpuExit<'_>) -> Exit {
    match exit {
        VcpuExit::IoOut(port::DOORBELL, _) => Exit::Doorbell,
        VcpuExit::IoOut(p, _) if (port::EXCEPTION..port::EXCEPTION + port::EXCEPTIONS).contains(&p) => {
            Exit::Exception(p - port::EXCEPTION)
        }
        // A program with the right to use ports finds nothing behind them: reads give ones, as on an empty bus.
        VcpuExit::IoIn(_, data) => {
            data.fill(0xff);
            Exit::Again
        }
        VcpuExit::IoOut(..) | VcpuExit::Intr => Exit::Again,
        VcpuExit::MmioRead(..) | VcpuExit::MmioWrite(..) => Exit::Unexpected(EXIT_MMIO),
        VcpuExit::Shutdown => Exit::Unexpected(EXIT_SHUTDOWN),
        VcpuExit::InternalError => Exit::Unexpected(EXIT_INTERNAL_ERROR),
        _ => Exit::Unexpected(EXIT_OTHER),
    }
}

impl Vcpu {
    /// Sets all registers.
    pub fn set_up(fd: VcpuFd, vm: &Vm) -> Result<Self, Failure> {
        let failed = |e: kvm_ioctls::Error| at(Step::Registers)(e.into());
        if let Some(table) = &vm.cpu.table {
            fd.set_cpuid2(table).map_err(failed)?;
        }
        let sregs = regs::sregs(fd.get_sregs().map_err(failed)?, vm.template.root, vm.cpu.features);
        fd.set_sregs(&sregs).map_err(failed)?;
        if let Some(value) = vm.cpu.xcr0 {
            let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
            xcrs.xcrs[0] = kvm_xcr { xcr: 0, value, ..kvm_xcr::default() };
            fd.set_xcrs(&xcrs).map_err(failed)?;
        }
        if fd.set_msrs(&vm.msrs).map_err(failed)? != vm.msrs.as_slice().len() {
            return Err(at(Step::Registers)(io::ErrorKind::InvalidInput.into()));
        }
        fd.set_regs(&regs::regs(vm.image.entry, vm.stack_start)).map_err(failed)?;
        Ok(Self { fd })
    }

    /// Runs the program to its end; the monitor's exit code.
    pub fn run(
        &mut self,
        vm_fd: &VmFd,
        vm: &Vm,
        memory: &mut Memory<'_>,
        report: &Report,
    ) -> Result<i32, Failure> {
        loop {
            let exit = match self.fd.run() {
                Ok(exit) => decode(exit),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Exit::Again,
                Err(error) => return Err(self.failure(Step::Run, error.errno())),
            };
            match exit {
                Exit::Again => {}
                Exit::Doorbell => match serve(self, vm_fd, vm, memory, report)? {
                    Next::Continue => {}
                    Next::End(code) => return Ok(code),
                },
                Exit::Exception(vector) => {
                    report.count(Count::Exception);
                    self.reflect(vector, vm, memory)?;
                }
                Exit::Unexpected(reason) => return Err(self.failure(Step::UnexpectedExit, reason)),
            }
        }
    }

    /// A failure that names the instruction.
    fn failure(&self, step: Step, detail: i32) -> Failure {
        let address = self.fd.get_regs().map_or(0, |r| r.rip);
        Failure { step: Some(step), detail, address }
    }

    /// Sends the program from its exception, which it left the machine with in ring 0, to the guest's handler in ring 3:
    /// the CPU's state goes into the boot block, and the frame that the stub is about to return by is changed.
    fn reflect(&mut self, vector: u16, vm: &Vm, memory: &Memory<'_>) -> Result<(), Failure> {
        let failed = |e: kvm_ioctls::Error| at(Step::Registers)(e.into());
        let broken = |cpu: &Self| cpu.failure(Step::UnexpectedExit, i32::from(vector));
        let mut registers = self.fd.get_regs().map_err(failed)?;
        let special = self.fd.get_sregs().map_err(failed)?;
        let code_len = if tables::has_error_code(vector) { 8 } else { 0 };
        let in_page = registers.rsp.wrapping_sub(CPU_VA);
        if vector == DOUBLE_FAULT || in_page > PAGE - 40 - code_len {
            return Err(broken(self));
        }
        let gpa = CPU_GPA + in_page;
        let mut words = [0u64; 6];
        let count = if code_len == 0 { 5 } else { 6 };
        for (i, word) in (0u64..).zip(words.iter_mut().take(count)) {
            *word = memory.guest.read_obj(GuestAddress(gpa + 8 * i)).map_err(|_| broken(self))?;
        }
        let (error, frame) = if code_len == 0 { (0, &words[..5]) } else { (words[0], &words[1..]) };
        let &[rip, cs, rflags, rsp, _] = frame else { return Err(broken(self)) };
        if cs & 3 != 3 {
            // Ring 0 itself faulted: three instructions of ours that cannot, unless the tables were destroyed.
            return Err(broken(self));
        }
        let fault = Fault { vector: vector.into(), error, address: special.cr2, rip, rflags, rsp };
        let fields = [fault.vector, fault.error, fault.address, fault.rip, fault.rflags, fault.rsp];
        let block = BOOT_GPA + std::mem::offset_of!(Boot, fault) as u64;
        for (i, value) in (0u64..).zip(fields) {
            memory.write(block + 8 * i, &value.to_le_bytes())?;
        }
        let frame_gpa = gpa + code_len;
        let header = &vm.template.header;
        for (i, value) in [(0, header.fault_entry), (2, tables::USER_RFLAGS), (3, header.stack_top)] {
            memory.write(frame_gpa + 8 * i, &value.to_le_bytes())?;
        }
        registers.rsp += code_len;
        self.fd.set_regs(&registers).map_err(failed)
    }

    /// Sets the base of FS (0) or GS (1), for CPUs without wrfsbase.
    pub fn set_base(&self, which: u64, base: u64) -> Result<Result<(), i32>, Failure> {
        let failed = |e: kvm_ioctls::Error| at(Step::Registers)(e.into());
        let mut special = self.fd.get_sregs().map_err(failed)?;
        match which {
            0 => special.fs.base = base,
            1 => special.gs.base = base,
            _ => return Ok(Err(libc::EINVAL)),
        }
        self.fd.set_sregs(&special).map_err(failed)?;
        Ok(Ok(()))
    }

    /// When an instance ends: for the report.
    pub fn now() -> u64 {
        monotonic_ns()
    }
}
