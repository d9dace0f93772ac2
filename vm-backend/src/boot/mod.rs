//! What the CPU finds when it starts: descriptor tables and ring-0 stubs, page tables, registers, CPUID.

pub mod cpuid;
pub mod paging;
pub mod regs;
pub mod tables;
