//! What the workloads have in common.

use core::fmt;

use crate::{
    alloc, cpu_float, cpu_int, deflate, mem_latency, mem_stream, mix, page_fault, page_walk, sha256, syscall,
};

/// A further figure of a repetition: name, unit, value.
pub type Figure = (&'static str, &'static str, f64);

/// A workload, prepared and ready to be repeated.
pub trait Work {
    /// Operations in one iteration; the catalogue says what an operation is.
    fn operations(&self) -> u64;

    /// Does `iterations` times the fixed work and returns the checksum of one iteration.
    fn repeat(&mut self, iterations: u64) -> u64;

    /// Figures of the last repetition beside the time an operation.
    fn figures(&self, _iterations: u64, _elapsed_ns: u64, _emit: &mut dyn FnMut(Figure)) {}
}

/// All workloads, in the order in which they are listed.
pub const NAMES: [&str; 11] = [
    "noop",
    "cpu-int",
    "cpu-float",
    "sha256",
    "deflate",
    "mem-stream",
    "mem-latency",
    "page-walk",
    "page-fault",
    "syscall",
    "alloc",
];

/// Why a workload could not be prepared.
#[derive(Debug)]
pub enum PrepareError {
    /// There is no workload of that name.
    Unknown,
    /// The target did not give this many bytes.
    Memory(usize),
    /// A step of the preparation failed; the reason follows.
    Step(&'static str, String),
}

impl PrepareError {
    /// For `map_err`: the reason why `step` failed.
    pub fn step<E: fmt::Display>(step: &'static str) -> impl Fn(E) -> Self {
        move |reason| Self::Step(step, reason.to_string())
    }
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no workload of that name"),
            Self::Memory(bytes) => write!(f, "cannot get {bytes} bytes of memory"),
            Self::Step(step, reason) => write!(f, "cannot {step}: {reason}"),
        }
    }
}

impl std::error::Error for PrepareError {}

/// Prepares the workload `name`: its buffers, its data.
///
/// # Errors
///
/// [`PrepareError::Unknown`] for a name that is not in [`NAMES`], [`PrepareError::Memory`] where memory runs
/// out.
pub fn prepare(name: &str) -> Result<Box<dyn Work>, PrepareError> {
    Ok(match name {
        "noop" => Box::new(Noop),
        "cpu-int" => Box::new(cpu_int::CpuInt::new()?),
        "cpu-float" => Box::new(cpu_float::CpuFloat::new()?),
        "sha256" => Box::new(sha256::Sha256Work::new()?),
        "deflate" => Box::new(deflate::Deflate::new()?),
        "mem-stream" => Box::new(mem_stream::MemStream::new(mem_stream::ARRAY_BYTES)?),
        "mem-latency" => Box::new(mem_latency::MemLatency::new()?),
        "page-walk" => Box::new(page_walk::PageWalk::new()?),
        "page-fault" => Box::new(page_fault::PageFault),
        "syscall" => Box::new(syscall::Syscall),
        "alloc" => Box::new(alloc::Alloc::new()?),
        _ => return Err(PrepareError::Unknown),
    })
}

/// Nothing: what remains between `begin` and `end` is the cost of the marks themselves.
struct Noop;

impl Work for Noop {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || 0)
    }
}

/// Calls `unit` `iterations` times (once at least) and returns its checksum.
///
/// Where not all of them are equal, the result is a mixture that is neither of them, so that one wrong
/// iteration among many cannot pass.
#[inline]
pub fn iterate(iterations: u64, mut unit: impl FnMut() -> u64) -> u64 {
    let first = core::hint::black_box(unit());
    let mut wrong = 0;
    for _ in 1..iterations {
        wrong |= core::hint::black_box(unit()) ^ first;
    }
    if wrong == 0 { first } else { mix::fold(first, wrong) }
}

/// `count` copies of `value` on the heap, or an error instead of the end of the program.
///
/// # Errors
///
/// [`PrepareError::Memory`] where memory runs out.
pub fn filled<T: Copy>(count: usize, value: T) -> Result<Vec<T>, PrepareError> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(count)
        .map_err(|_| PrepareError::Memory(count.saturating_mul(size_of::<T>())))?;
    values.resize(count, value);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_equal_iterations_is_that_of_one() {
        assert_eq!(iterate(1, || 7), 7);
        assert_eq!(iterate(5, || 7), 7);
    }

    #[test]
    fn one_wrong_iteration_changes_the_checksum() {
        for wrong_one in 0..5 {
            let mut turn = 0;
            let check = iterate(5, || {
                turn += 1;
                if turn - 1 == wrong_one { 8 } else { 7 }
            });
            assert!(check != 7 && check != 8, "iteration {wrong_one} was wrong, and the checksum is {check}");
        }
    }

    #[test]
    fn too_much_memory_is_an_error_and_not_the_end() {
        assert!(matches!(filled(usize::MAX / 16, 0_u64), Err(PrepareError::Memory(_))));
    }

    #[test]
    fn every_name_is_known_and_no_other() {
        for name in NAMES.iter().filter(|name| !name.starts_with("mem-")) {
            assert!(prepare(name).is_ok(), "{name} is not known");
        }
        assert!(matches!(prepare("mem-"), Err(PrepareError::Unknown)));
        assert!(matches!(prepare(""), Err(PrepareError::Unknown)));
    }
}
