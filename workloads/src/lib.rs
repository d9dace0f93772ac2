//! The catalogue of workloads, the protocol that they speak, and the two static programs that hold them.
//!
//! ```
//! use workloads::{Invocation, catalogue, protocol::{Line, Parser}};
//!
//! let sha256 = catalogue::find("sha256").expect("it is in the catalogue");
//! let arguments = Invocation { iters: Some(4), reps: 2, ..Invocation::of(sha256) }.arguments();
//! assert_eq!(arguments, ["sha256", "--iters", "4", "--reps", "2", "--warmup", "0"]);
//!
//! // `sha256.program.bytes()` is what is run with them; what it prints is read line by line.
//! let mut parser = Parser::new();
//! let mut checks = Vec::new();
//! for piece in ["ready\nbegin\nend\nsample time_per_op ns 4.5e4\nche", "ck 06b3e82edd4c105a\n"] {
//!     parser.push(piece.as_bytes(), |line| {
//!         if let Line::Check(check) = line {
//!             checks.push(check.to_owned());
//!         }
//!     });
//! }
//! assert_eq!(checks, [sha256.expected_check]);
//! ```
//!
//! - [`aggressors`]: bad neighbours, which keep to a limit
//! - [`catalogue`]: what there is, what each one needs of a target and which checksum it must come to
//! - [`protocol`]: the lines, and a parser for bytes that arrive in pieces
//! - [`PROGRAM`]: the program's file, built by `build.rs` from the crate in `program/`
//! - [`REAL_PROGRAM`]: that of the real workloads, from the crate in `real/`

pub mod aggressors;
pub mod catalogue;
pub mod needs;
pub mod protocol;

pub use catalogue::{Invocation, Program, Workload};
pub use needs::{Calls, Capabilities, Needs};

/// The variable by which a workload that needs a network learns where a server is that sends back whatever it gets: `ADDRESS:PORT`,
/// or `CARD:PORT` for the other one in the network of four addresses that this network card is in.
pub const SERVER: &str = "NET_ECHO";

/// The program whose start is measured, with the small workloads: a static x86-64 Linux ELF file, to be run as it is in every target.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/workload-program"));

/// The program of the real workloads, such as SQLite: a file of the same kind, several times as large.
pub const REAL_PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/workload-real"));
