//! What a static program executes before its first output: `start_order PROGRAM`.
//!
//! Runs PROGRAM one instruction at a time until it calls `write`, and says on standard error how many
//! instructions and `cpuid` that took (a hypervisor has to answer each of those) and how many pages of code
//! it touched (in a fresh virtual machine each of them is a page fault). Where PROGRAM has its symbol table,
//! its functions are printed in the order of their first instruction; that is how `start-order.txt` was made:
//!
//! ```sh
//! cargo build --release -p workload-program
//! cargo run -p workload-program --example start_order -- target/release/workload-program
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::{CString, c_long};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::{env, fs, io, ptr};

const PAGE_BYTES: u64 = 4096;
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const CPUID: [u8; 2] = [0x0f, 0xa2];

fn main() -> Result<(), Box<dyn Error>> {
    let program = env::args_os().nth(1).ok_or("usage: start_order PROGRAM")?;
    let functions = functions(&fs::read(&program)?).unwrap_or_default();
    let addresses = addresses(&CString::new(program.as_bytes())?)?;
    let pages: BTreeSet<u64> = addresses.iter().map(|(address, _)| address / PAGE_BYTES).collect();
    let cpuids = addresses.iter().filter(|(_, bytes)| *bytes == CPUID).count();
    writeln!(
        io::stderr(),
        "{} instructions, {cpuids} cpuid, {} pages of code",
        addresses.len(),
        pages.len()
    )?;

    let mut seen = BTreeSet::new();
    for (address, _) in addresses {
        let after = functions.partition_point(|(start, _, _)| *start <= address);
        let Some((start, end, name)) = after.checked_sub(1).and_then(|index| functions.get(index)) else {
            continue;
        };
        if address < *end && seen.insert(*start) {
            writeln!(io::stdout(), "{name}")?;
        }
    }
    Ok(())
}

/// The address of an instruction and its first two bytes.
type Instruction = (u64, [u8; 2]);

/// Every instruction up to the first `write`.
fn addresses(program: &CString) -> Result<Vec<Instruction>, Box<dyn Error>> {
    // SAFETY: fork(2) has no arguments; the child calls only functions that are safe after it (ptrace,
    // execve, _exit).
    let child = unsafe { libc::fork() };
    if child == 0 {
        let argv = [program.as_ptr(), ptr::null()];
        let environment = [ptr::null()];
        // SAFETY: the arrays end in a null pointer and outlive the call; the strings in them end in a zero
        // byte.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0_usize, 0_usize);
            libc::execve(program.as_ptr(), argv.as_ptr(), environment.as_ptr());
            libc::_exit(127);
        }
    }
    let mut addresses = Vec::new();
    loop {
        let mut status = 0;
        // SAFETY: waitpid(2) writes an int to `status`.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } != child || !libc::WIFSTOPPED(status) {
            return Err("the program ended before it wrote anything".into());
        }
        // SAFETY: the structure is plain numbers, for which zeros are valid.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: PTRACE_GETREGS writes one such structure to the address; the child is stopped.
        unsafe { libc::ptrace(libc::PTRACE_GETREGS, child, 0_usize, &raw mut registers) };
        // SAFETY: PTRACE_PEEKTEXT reads the child's memory, not ours.
        let word: c_long = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, child, registers.rip, 0_usize) };
        let [first, second, ..] = word.to_le_bytes();
        addresses.push((registers.rip, [first, second]));
        if [first, second] == SYSCALL && i64::try_from(registers.rax) == Ok(libc::SYS_write) {
            // SAFETY: kill(2) with our own child, which has not been waited for to its end.
            unsafe { libc::kill(child, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            return Ok(addresses);
        }
        // SAFETY: PTRACE_SINGLESTEP takes no pointers; the child is stopped.
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0_usize, 0_usize) };
    }
}

/// First address, end and name of every function, in the order of addresses (ELF-64 object file format,
/// "Symbol Table").
fn functions(elf: &[u8]) -> Option<Vec<(u64, u64, String)>> {
    const SHT_SYMTAB: u64 = 2;
    const SYMBOL_BYTES: usize = 24;
    let number = |at: usize, bytes: usize| {
        let field = elf.get(at..at + bytes)?;
        Some(field.iter().rev().fold(0, |number: u64, byte| (number << 8) | u64::from(*byte)))
    };
    let size = |at: usize, bytes: usize| usize::try_from(number(at, bytes)?).ok();
    let (table, entry, count) = (size(40, 8)?, size(58, 2)?, size(60, 2)?);
    let header = |index: usize| table + index * entry;
    let symbols = (0..count).map(header).find(|at| number(at + 4, 4) == Some(SHT_SYMTAB))?;
    let strings = size(header(size(symbols + 40, 4)?) + 24, 8)?;
    let (start, bytes) = (size(symbols + 24, 8)?, size(symbols + 32, 8)?);

    let mut functions = Vec::new();
    for at in (start..start + bytes).step_by(SYMBOL_BYTES) {
        let (name, kind) = (size(at, 4)?, number(at + 4, 1)? & 15);
        let (address, length) = (number(at + 8, 8)?, number(at + 16, 8)?);
        // STT_FUNC and STT_GNU_IFUNC; those written in assembler may have no length.
        if matches!(kind, 2 | 10) {
            let name: Vec<u8> =
                elf.get(strings + name..)?.iter().copied().take_while(|byte| *byte != 0).collect();
            functions.push((address, address + length.max(1), String::from_utf8(name).ok()?));
        }
    }
    functions.sort();
    functions.dedup_by_key(|(address, ..)| *address);
    Some(functions)
}
