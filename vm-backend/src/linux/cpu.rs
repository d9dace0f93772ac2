//! What the guest's processors are told that they are.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

use crate::error::KvmError;

// Leaves and bits: Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E.
const FEATURES: u32 = 1;
const ECX_TSC_DEADLINE: u32 = 1 << 24;
const ECX_HYPERVISOR: u32 = 1 << 31;
const EDX_HTT: u32 = 1 << 28;
const CACHES: u32 = 4;
const POWER: u32 = 6;
const EAX_ARAT: u32 = 1 << 2;
const TOPOLOGY: [u32; 2] = [0xb, 0x1f];
const AMD_SIZES: u32 = 0x8000_0008;
const AMD_TOPOLOGY: u32 = 0x8000_001e;

/// The table that all vCPUs have in common.
#[derive(Debug, Clone)]
pub(super) struct Cpu {
    table: Vec<kvm_cpuid_entry2>,
    vcpus: u8,
}

/// Asks KVM. Once for all instances: it takes up to 0.4 ms.
pub(super) fn detect(kvm: &Kvm, vcpus: u8) -> Result<Cpu, KvmError> {
    let table = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(|e| KvmError::CreateVm(e.into()))?;
    let mut cpu = Cpu { table: table.as_slice().to_vec(), vcpus };
    cpu.complete(kvm.check_extension(Cap::TscDeadlineTimer));
    Ok(cpu)
}

/// What a vCPU's time stamp counter counts in a millisecond, where KVM can say that: it does not where the host's own is unstable.
pub(super) fn tsc_khz(kvm: &Kvm) -> Option<u32> {
    let vm = kvm.create_vm().ok()?;
    vm.create_vcpu(0).ok()?.get_tsc_khz().ok().filter(|khz| *khz > 0)
}

impl Cpu {
    /// What KVM leaves to the monitor.
    fn complete(&mut self, deadline: bool) {
        // One thread a core, one package: nothing of the host's own topology.
        self.table.retain(|e| !TOPOLOGY.contains(&e.function));
        for entry in &mut self.table {
            match entry.function {
                FEATURES => {
                    entry.ecx |= ECX_HYPERVISOR;
                    // A timer without calibration, where the local APIC in KVM has it.
                    if deadline {
                        entry.ecx |= ECX_TSC_DEADLINE;
                    }
                    entry.edx = if self.vcpus > 1 { entry.edx | EDX_HTT } else { entry.edx & !EDX_HTT };
                }
                // It ticks in every state that a vCPU knows, so that no other timer has to stand in.
                POWER => entry.eax |= EAX_ARAT,
                _ => {}
            }
        }
    }

    /// EAX and EDX of leaf 1, for the MP table.
    pub fn identity(&self) -> (u32, u32) {
        self.table.iter().find(|e| e.function == FEATURES).map_or((0, 0), |e| (e.eax, e.edx))
    }

    /// The table of one vCPU, which knows its own number.
    pub fn entries(&self, id: u8) -> Vec<kvm_cpuid_entry2> {
        let (id, count) = (u32::from(id), u32::from(self.vcpus));
        let bits = count.next_power_of_two().trailing_zeros();
        let mut table = self.table.clone();
        for entry in &mut table {
            match entry.function {
                FEATURES => entry.ebx = entry.ebx & 0xffff | count << 16 | id << 24,
                CACHES if entry.eax & 0x1f != 0 => {
                    // Bits 31-26: cores less one; 25-14: who shares this cache, less one. Nobody but the core itself.
                    entry.eax = entry.eax & 0x3fff | (count - 1) << 26;
                }
                AMD_SIZES => entry.ecx = bits << 12 | (count - 1),
                AMD_TOPOLOGY => (entry.eax, entry.ebx, entry.ecx) = (id, id, 0),
                _ => {}
            }
        }
        let (thread, core) = ((0, 1, 0x100), (bits, count, 0x201));
        for (index, (eax, ebx, ecx)) in [(0, thread), (1, core), (2, (0, 0, 2))] {
            table.push(kvm_cpuid_entry2 {
                function: TOPOLOGY[0],
                index,
                // KVM_CPUID_FLAG_SIGNIFCANT_INDEX.
                flags: 1,
                eax,
                ebx,
                ecx,
                edx: id,
                ..kvm_cpuid_entry2::default()
            });
        }
        table
    }

    /// The same for KVM_SET_CPUID2.
    pub fn table(&self, id: u8) -> Option<CpuId> {
        CpuId::from_entries(&self.entries(id)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(vcpus: u8) -> Cpu {
        let entry =
            |function, ebx, edx| kvm_cpuid_entry2 { function, ebx, edx, ..kvm_cpuid_entry2::default() };
        let table = vec![entry(1, 0x0710_0800, 0), entry(6, 0, 0), entry(0xb, 9, 9), entry(0x1f, 9, 9)];
        let mut cpu = Cpu { table, vcpus };
        cpu.complete(true);
        cpu
    }

    #[test]
    fn every_vcpu_knows_its_number_and_their_count() {
        let cpu = cpu(3);
        for id in 0..3 {
            let table = cpu.entries(id);
            let ebx = table.iter().find(|e| e.function == 1).unwrap().ebx;
            assert_eq!(ebx, u32::from(id) << 24 | 3 << 16 | 0x0800);
            let cores = table.iter().find(|e| e.function == 0xb && e.index == 1).unwrap();
            assert_eq!((cores.eax, cores.ebx, cores.edx), (2, 3, u32::from(id)));
        }
    }

    #[test]
    fn the_hosts_own_topology_is_gone() {
        let table = cpu(1).entries(0);
        assert!(table.iter().all(|e| e.function != 0x1f));
        assert_eq!(table.iter().filter(|e| e.function == 0xb).count(), 3);
        let features = table.iter().find(|e| e.function == 1).unwrap();
        assert_eq!(features.ecx, ECX_HYPERVISOR | ECX_TSC_DEADLINE);
        assert_eq!(features.edx & EDX_HTT, 0);
    }
}
