//! Whether the host's KVM runs kernels: measured and tried, not looked up in a list.
//!
//! A machine of one page of code runs a few hundred instructions in ring 0, then each of those that Linux cannot do
//! without. Where ring 0 is emulated, a kernel would need minutes to boot, or stops at an instruction that the emulator
//! does not know.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::kernel::Entry;
use super::layout::{GDT, PAGE_TABLES};
use super::params;
use super::vcpu::sregs;
use crate::error::KvmError;
use crate::probe::{self, Virtualisation};

/// Where the code is, and the end of its stack.
const CODE: u64 = 0x1_0000;
const STACK: u64 = 0x2_0000;
const MEMORY: usize = 2 << 20;
/// The port that ends a piece of code.
const DONE: u16 = 0x10;
/// Turns of the loop, two instructions each: a few hundred tell an emulator from a processor where exits are short.
const TURNS: u32 = 150;
/// Where they look slow, it may be the exit that varies, by more than they take (nested, or an emulated processor): so many
/// settle it.
const MANY_TURNS: u32 = 50_000;
/// The shortest of so many is taken.
const REPEATS: usize = 5;
/// Below this rate, in millions a second, ring 0 is not run by the processor. The slowest processor that has
/// virtualisation is a hundred times faster, KVM's emulator reaches 0.5 to 2 on a PVM host; a processor that is itself
/// emulated (QEMU's TCG) is above 10.
const NATIVE: f64 = 5.0;

/// `mov ecx, turns; 1: dec ecx; jnz 1b; out DONE, al`.
const fn counting(turns: u32) -> [u8; 11] {
    let [a, b, c, d] = turns.to_le_bytes();
    [0xb9, a, b, c, d, 0xff, 0xc9, 0x75, 0xfc, 0xe6, 0x10]
}
/// `out DONE, al`.
const EXIT: [u8; 2] = [0xe6, 0x10];

/// Instructions of ring 0 that every kernel uses on a processor that has them: name, CPUID leaf and register bit that says
/// so (EBX of 7, ECX of 1), code, which ends with the exit.
const NEEDED: [(&str, Need, &[u8]); 3] = [
    // clac; out
    ("clac", Need::Ebx7(20), &[0x0f, 0x01, 0xca, 0xe6, 0x10]),
    // mov eax, cr4; or eax, 1 << 9 | 1 << 18; mov cr4, rax (OSFXSR, OSXSAVE);
    // mov eax, 3; xor edx, edx; xrstor [0x1000 of zeros: initial state]; out
    (
        "xrstor",
        Need::Ecx1(26),
        &[
            0x0f, 0x20, 0xe0, 0x0d, 0x00, 0x02, 0x04, 0x00, 0x0f, 0x22, 0xe0, 0xb8, 0x03, 0x00, 0x00, 0x00,
            0x31, 0xd2, 0x0f, 0xae, 0x2c, 0x25, 0x00, 0x10, 0x00, 0x00, 0xe6, 0x10,
        ],
    ),
    // popcnt eax, eax; out
    ("popcnt", Need::Ecx1(23), &[0xf3, 0x0f, 0xb8, 0xc0, 0xe6, 0x10]),
];

#[derive(Debug, Clone, Copy)]
enum Need {
    Ebx7(u32),
    Ecx1(u32),
}

impl Need {
    fn is_there(self, table: &CpuId) -> bool {
        let leaf = |n| table.as_slice().iter().find(|e| e.function == n && e.index == 0);
        match self {
            Self::Ebx7(bit) => leaf(7).is_some_and(|e| e.ebx >> bit & 1 == 1),
            Self::Ecx1(bit) => leaf(1).is_some_and(|e| e.ecx >> bit & 1 == 1),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Ring0 {
    /// Kind of virtualisation.
    pub kind: Virtualisation,
    /// Instructions in ring 0, millions a second; a lower bound where the processor runs them.
    pub rate: f64,
    /// From a port access to the monitor and back.
    pub exit: Duration,
    /// Instructions that Linux needs and that do not work.
    pub missing: Vec<&'static str>,
}

impl Ring0 {
    /// Whether the rate is that of a processor.
    pub fn is_native(&self) -> bool {
        self.rate >= NATIVE
    }

    /// Whether a Linux kernel can be booted.
    ///
    /// # Errors
    /// Why not, in words for the user.
    pub fn supports_linux(&self) -> Result<(), Unsupported> {
        // Where the processor has VMX or SVM, a low rate says that it is busy, or software itself: no reason against Linux.
        let runs = self.is_native() || self.kind != Virtualisation::Pvm;
        if runs && self.missing.is_empty() { Ok(()) } else { Err(Unsupported(self.clone())) }
    }
}

impl fmt::Display for Ring0 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exit = self.exit.as_nanos() as f64 / 1000.0;
        if self.is_native() {
            write!(f, "ring 0 is run by the processor, an exit takes {exit:.1} us")
        } else {
            write!(
                f,
                "ring 0 is emulated at {:.1} million instructions a second, an exit takes {exit:.1} us",
                self.rate
            )
        }
    }
}

/// Why a Linux kernel cannot be booted here.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsupported(Ring0);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ring0 { rate, missing, .. } = &self.0;
        if self.0.is_native() || (self.0.kind != Virtualisation::Pvm && !missing.is_empty()) {
            write!(f, "this host's KVM does not run {} in guest kernel code", missing.join(", "))?;
        } else {
            write!(
                f,
                "this host's KVM emulates guest kernel code at {rate:.1} million instructions a second"
            )?;
        }
        f.write_str("; a Linux guest needs VMX, SVM or a PVM-aware kernel")
    }
}

/// Makes a machine and tries. Takes a few milliseconds.
///
/// # Errors
/// KVM cannot be used at all.
pub fn ring0() -> Result<Ring0, KvmError> {
    let kvm = probe::open()?;
    let failed = |e: kvm_ioctls::Error| KvmError::Probe(e.into());
    let table = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(failed)?;
    let memory = image().map_err(KvmError::Probe)?;
    let mut trial = Trial::new(&kvm, &table, &memory)?;
    let mut rate = 0.0;
    let mut exit = Duration::MAX;
    for turns in [TURNS, MANY_TURNS] {
        let mut whole = Duration::MAX;
        for _ in 0..REPEATS {
            exit = exit.min(trial.time(&EXIT)?.unwrap_or(Duration::MAX));
            whole = whole.min(trial.time(&counting(turns))?.unwrap_or(Duration::MAX));
            // Long enough to be right, whatever disturbs it.
            if whole > Duration::from_millis(30) {
                break;
            }
        }
        if whole == Duration::MAX || exit == Duration::MAX {
            let what = "the first instructions of a machine did not come to their end";
            return Err(KvmError::Probe(io::Error::other(what)));
        }
        // What is left may be less than the clock can tell, where the processor runs it.
        let inside = whole.saturating_sub(exit).max(Duration::from_nanos(20));
        rate = f64::from(2 * turns) / inside.as_secs_f64() / 1e6;
        if rate >= NATIVE {
            break;
        }
    }
    let mut missing = Vec::new();
    for (name, need, code) in NEEDED {
        // A machine of its own: one that met an unknown instruction is of no use any more.
        if need.is_there(&table) && Trial::new(&kvm, &table, &memory)?.time(code)?.is_none() {
            missing.push(name);
        }
    }
    Ok(Ring0 { kind: probe::virtualisation(), rate, exit, missing })
}

fn image() -> io::Result<GuestMemoryMmap<()>> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).map_err(io::Error::other)?;
    let gdt: Vec<u8> = params::GDT.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    for (address, bytes) in [(GDT, gdt), (PAGE_TABLES, params::page_tables())] {
        memory.write_slice(&bytes, GuestAddress(address)).map_err(io::Error::other)?;
    }
    Ok(memory)
}

/// One machine to try something in.
struct Trial<'a> {
    vcpu: VcpuFd,
    memory: &'a GuestMemoryMmap<()>,
    _vm: kvm_ioctls::VmFd,
}

impl<'a> Trial<'a> {
    fn new(kvm: &Kvm, table: &CpuId, memory: &'a GuestMemoryMmap<()>) -> Result<Self, KvmError> {
        let failed = |e: kvm_ioctls::Error| KvmError::Probe(e.into());
        let vm = kvm.create_vm().map_err(|e| KvmError::CreateVm(e.into()))?;
        let host =
            memory.get_host_address(GuestAddress(0)).map_err(|e| KvmError::Probe(io::Error::other(e)))?;
        let region = kvm_userspace_memory_region {
            memory_size: MEMORY as u64,
            userspace_addr: host as u64,
            ..kvm_userspace_memory_region::default()
        };
        // SAFETY: `memory` is mapped at least as long as this machine exists (`'a`), and is as large as is said.
        unsafe { vm.set_user_memory_region(region) }.map_err(failed)?;
        let vcpu = vm.create_vcpu(0).map_err(failed)?;
        vcpu.set_cpuid2(table).map_err(failed)?;
        vcpu.set_sregs(&sregs(vcpu.get_sregs().map_err(failed)?, Entry::Long(CODE))).map_err(failed)?;
        Ok(Self { vcpu, memory, _vm: vm })
    }

    /// KVM finishes a port access when it is entered again, and only then moves on to the next instruction: it is entered
    /// without running anything, so that this does not happen to the next piece of code.
    fn complete(&mut self) {
        self.vcpu.set_kvm_immediate_exit(1);
        // EINTR, by what was just set.
        let left = self.vcpu.run().is_err();
        debug_assert!(left, "it was not to run");
        self.vcpu.set_kvm_immediate_exit(0);
    }

    /// How long a piece of code takes to its exit; `None`: it does not come there.
    fn time(&mut self, code: &[u8]) -> Result<Option<Duration>, KvmError> {
        let failed = |e: kvm_ioctls::Error| KvmError::Probe(e.into());
        self.memory
            .write_slice(code, GuestAddress(CODE))
            .map_err(|e| KvmError::Probe(io::Error::other(e)))?;
        let regs = kvm_regs { rip: CODE, rsp: STACK, rflags: 2, ..kvm_regs::default() };
        self.vcpu.set_regs(&regs).map_err(failed)?;
        let start = Instant::now();
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(DONE, _)) => {
                    let elapsed = start.elapsed();
                    self.complete();
                    return Ok(Some(elapsed));
                }
                Ok(VcpuExit::Intr) => {}
                Ok(_) => return Ok(None),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                Err(_) => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rate: f64, missing: &[&'static str]) -> Ring0 {
        let exit = Duration::from_nanos(8000);
        Ring0 { kind: Virtualisation::Pvm, rate, exit, missing: missing.to_vec() }
    }

    #[test]
    fn an_emulated_ring_0_is_named_with_its_rate() {
        assert_eq!(
            found(1.87, &["xrstor"]).supports_linux().unwrap_err().to_string(),
            "this host's KVM emulates guest kernel code at 1.9 million instructions a second; a Linux guest needs VMX, \
             SVM or a PVM-aware kernel"
        );
    }

    #[test]
    fn a_slow_processor_with_vmx_or_svm_is_slow_and_no_reason() {
        let slow = |missing: &[&'static str]| Ring0 { kind: Virtualisation::Svm, ..found(1.2, missing) };
        assert_eq!(slow(&[]).supports_linux(), Ok(()));
        let error = slow(&["xrstor"]).supports_linux().unwrap_err().to_string();
        assert!(error.contains("does not run xrstor"), "{error}");
    }

    #[test]
    fn a_missing_instruction_is_named() {
        let error = found(3000.0, &["clac", "xrstor"]).supports_linux().unwrap_err().to_string();
        assert!(
            error.starts_with("this host's KVM does not run clac, xrstor in guest kernel code"),
            "{error}"
        );
        assert_eq!(found(3000.0, &[]).supports_linux(), Ok(()));
    }

    #[test]
    fn the_probe_agrees_with_the_kind_of_virtualisation() {
        match ring0() {
            Ok(found) if found.kind == Virtualisation::Pvm => assert!(!found.is_native(), "{found:?}"),
            Ok(found) => assert!(found.supports_linux().is_ok(), "{found:?}"),
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
