//! The workloads that are measured in every target, one module each.
//!
//! A workload is a [`Work`]: prepared once, then asked for repetitions of a number of *iterations*. Every
//! iteration does the same fixed work and comes to the same checksum, so that the checksum of a repetition
//! depends neither on how many iterations it has nor on the target. The crate `workloads` holds the catalogue
//! with the expected ones.
//!
//! - [`cpu_int`], [`cpu_float`], [`sha256`], [`deflate`]: the processor
//! - [`mem_stream`], [`mem_latency`], [`page_walk`]: the memory, the latter two along a [`ring`] in memory that is [`mapped`]
//! - [`page_fault`], [`syscall`], [`alloc`]: the border to the kernel
//! - [`work`]: what they have in common, and [`prepare`], which finds one by name
//! - [`mix`]: the generator and the checksum that all of them use
//! - [`sys`]: system calls without the C library, and the clock
//! - [`entry`], [`cli`], [`run`], [`output`]: from `main` to the lines that are printed; the program of the real
//!   workloads uses them, too

pub mod alloc;
pub mod cli;
pub mod cpu_float;
pub mod cpu_int;
pub mod deflate;
pub mod entry;
pub mod mapped;
pub mod mem_latency;
pub mod mem_stream;
pub mod mix;
pub mod output;
pub mod page_fault;
pub mod page_walk;
pub mod ring;
pub mod run;
pub mod sha256;
pub mod sys;
pub mod syscall;
pub mod work;

pub use work::{NAMES, PrepareError, Work, prepare};
