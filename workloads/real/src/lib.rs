//! Workloads that do what programs do, by the libraries that programs do it with.
//!
//! Each is a [`Work`] like those of the crate `workload-program`: every iteration does the same work and comes to
//! the same checksum, in every target.
//!
//! - [`sqlite`]: a database in memory: insert, indexed select, update
//! - [`json`]: parsing a document and asking it something
//! - [`lz4`]: compressing and expanding a log
//! - [`regex`]: scanning a log
//! - [`sort`]: sorting numbers and strings
//! - [`key_value`]: a server in a process of its own that answers a client over a socket pair
//! - [`file_io`]: writing, syncing and reading a file
//! - [`net_echo`]: round trips and a stream over TCP to a server outside
//! - [`log`]: the generated log that two of them read
//! - [`aggressor`]: no workload: a bad neighbour that keeps to a limit
//! - [`probe`]: no workload: what a program can see and do where it runs

pub mod aggressor;
mod child;
pub mod file_io;
pub mod json;
pub mod key_value;
pub mod log;
pub mod lz4;
pub mod net_echo;
pub mod probe;
pub mod regex;
pub mod sort;
pub mod sqlite;

use workload_program::{PrepareError, Work};

/// All of them, in the order in which they are listed.
pub const NAMES: [&str; 8] = ["sqlite", "json", "lz4", "regex", "sort", "key-value", "file-io", "net-echo"];

/// Prepares the workload `name`: its buffers, its data, its server.
///
/// # Errors
///
/// [`PrepareError::Unknown`] for a name that is not in [`NAMES`], the step that failed else.
pub fn prepare(name: &str) -> Result<Box<dyn Work>, PrepareError> {
    Ok(match name {
        "sqlite" => Box::new(sqlite::Sqlite::new()?),
        "json" => Box::new(json::Json::new()?),
        "lz4" => Box::new(lz4::Lz4::new()?),
        "regex" => Box::new(regex::Scan::new()?),
        "sort" => Box::new(sort::Sort::new()?),
        "key-value" => Box::new(key_value::KeyValue::new()?),
        "file-io" => Box::new(file_io::FileIo::new()?),
        "net-echo" => Box::new(net_echo::NetEcho::new()?),
        _ => return Err(PrepareError::Unknown),
    })
}
