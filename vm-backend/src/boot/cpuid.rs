//! What the CPU offers, and what the guest is told of it.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::Kvm;

use super::regs::Features;
use crate::error::KvmError;
use crate::probe::Virtualisation;

const LEAF_FEATURES: u32 = 1;
const LEAF_EXTENDED: u32 = 7;
const LEAF_XSAVE: u32 = 0xd;
const ECX_XSAVE: u32 = 1 << 26;
const ECX_OSXSAVE: u32 = 1 << 27;
const EBX_FSGSBASE: u32 = 1;
/// x87 and SSE: always allowed in XCR0 together.
const XCR0_LEGACY: u64 = 3;

/// The table for KVM_SET_CPUID2 and what follows from it, the same for every instance.
#[derive(Debug, Clone)]
pub struct Cpu {
    /// `None` where ring 3 sees the host's own leaves whatever is set (the PVM kind), so that setting them is a waste.
    pub table: Option<CpuId>,
    /// XCR0 of the guest, where it has one of its own.
    pub xcr0: Option<u64>,
    /// What control registers must enable.
    pub features: Features,
}

/// Finds out. KVM_GET_SUPPORTED_CPUID takes up to 0.4 ms, so this happens once for all instances.
///
/// # Errors
/// KVM does not say.
pub fn detect(kvm: &Kvm, kind: Virtualisation) -> Result<Cpu, KvmError> {
    if kind == Virtualisation::Pvm {
        let fsgsbase = __cpuid_count(LEAF_EXTENDED, 0).ebx & EBX_FSGSBASE != 0;
        return Ok(Cpu { table: None, xcr0: None, features: Features { fsgsbase, xsave: false } });
    }
    let mut table =
        kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(|e| KvmError::CreateVm(e.into()))?;
    let leaf = |function, index| {
        let found = table.as_slice().iter().find(|e| e.function == function && e.index == index);
        found.map_or((0, 0, 0, 0), |e| (e.eax, e.ebx, e.ecx, e.edx))
    };
    let fsgsbase = leaf(LEAF_EXTENDED, 0).1 & EBX_FSGSBASE != 0;
    let xsave = leaf(LEAF_FEATURES, 0).2 & ECX_XSAVE != 0 && __cpuid(LEAF_FEATURES).ecx & ECX_OSXSAVE != 0;
    let xcr0 = xsave.then(|| {
        let (low, _, _, high) = leaf(LEAF_XSAVE, 0);
        // SAFETY: OSXSAVE is set, so that xgetbv exists and register 0 may be read.
        let host = unsafe { _xgetbv(0) };
        host & (u64::from(high) << 32 | u64::from(low)) | XCR0_LEGACY
    });
    // The program asks for OSXSAVE before it uses AVX; KVM sets the bit from CR4, but only once the guest has run.
    for entry in table.as_mut_slice().iter_mut().filter(|e| e.function == LEAF_FEATURES) {
        if xsave {
            entry.ecx |= ECX_OSXSAVE;
        }
    }
    Ok(Cpu { table: Some(table), xcr0, features: Features { fsgsbase, xsave } })
}
