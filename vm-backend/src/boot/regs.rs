//! Registers: the vCPU starts in ring 3, in 64-bit mode, at the program's first instruction.

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use vm_abi::CPU_VA;

use super::tables;

// Control registers (Intel SDM vol. 3, 2.5) and EFER (2.2.1).
const CR0_PE: u64 = 1;
const CR0_MP: u64 = 1 << 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_WP: u64 = 1 << 16;
const CR0_AM: u64 = 1 << 18;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;
const EFER_SCE: u64 = 1;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_SFMASK: u32 = 0xc000_0084;
/// Flags that a system call clears: TF, IF, DF, NT, AC, as Linux does; IOPL stays.
const SYSCALL_MASK: u64 = 1 << 8 | 1 << 9 | 1 << 10 | 1 << 14 | 1 << 18;

/// What depends on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// wrfsbase and its kin.
    pub fsgsbase: bool,
    /// XSAVE, and with it AVX.
    pub xsave: bool,
}

fn segment(selector: u16, kind: u8, dpl: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: kind,
        present: 1,
        dpl,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}

/// Segments, control registers and tables, over what KVM had. `root`: physical address of the first page table.
pub fn sregs(mut sregs: kvm_sregs, root: u64, features: Features) -> kvm_sregs {
    /// Code: execute, read, accessed. Data: read, write, accessed.
    const CODE: u8 = 11;
    const DATA: u8 = 3;
    sregs.cs = segment(tables::USER_CODE, CODE, 3, true);
    let data = segment(tables::USER_DATA, DATA, 3, false);
    (sregs.ss, sregs.ds, sregs.es) = (data, data, data);
    // Null selectors, as Linux has them; their bases are what counts.
    let base = kvm_segment { selector: 0, ..data };
    (sregs.fs, sregs.gs) = (base, base);
    sregs.tr = kvm_segment {
        base: CPU_VA + tables::TSS_OFFSET,
        limit: tables::TSS_LIMIT,
        selector: tables::TSS,
        // Busy 64-bit TSS.
        type_: 11,
        s: 0,
        g: 0,
        db: 0,
        dpl: 0,
        ..segment(0, 0, 0, false)
    };
    sregs.gdt.base = CPU_VA;
    sregs.gdt.limit = tables::GDT_LIMIT;
    sregs.idt.base = CPU_VA + tables::IDT_OFFSET;
    sregs.idt.limit = tables::IDT_LIMIT;
    sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    sregs.cr3 = root;
    sregs.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    if features.fsgsbase {
        sregs.cr4 |= CR4_FSGSBASE;
    }
    if features.xsave {
        sregs.cr4 |= CR4_OSXSAVE;
    }
    sregs.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    sregs
}

/// General registers at the program's start: all zero but these (System V ABI, 3.4.1: rdx = 0, no exit function).
pub fn regs(entry: u64, stack: u64) -> kvm_regs {
    kvm_regs { rip: entry, rsp: stack, rflags: tables::USER_RFLAGS, ..kvm_regs::default() }
}

/// Model-specific registers of the system-call instruction, as KVM takes them; `None` if it took no more than two.
pub fn msrs() -> Option<Msrs> {
    let entry = |(index, data)| kvm_msr_entry { index, data, ..kvm_msr_entry::default() };
    Msrs::from_entries(
        &[
            (MSR_STAR, u64::from(tables::KERNEL_CODE) << 32),
            (MSR_LSTAR, CPU_VA + tables::SYSCALL_STUB),
            (MSR_SFMASK, SYSCALL_MASK),
        ]
        .map(entry),
    )
    .ok()
}
