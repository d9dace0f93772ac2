//! Control groups: found by looking, made per instance, read back, removed.
//!
//! ```text
//! find     which hierarchies there are (v1, v2, both) and where in them the caller is
//! plan     which of them serves each limit, and what is written to which file; tried once
//! group    one instance's groups: make, read, empty, remove
//! janitor  the process that removes them when the caller is killed
//! sweeper  its program
//! ```

use std::fs::File;
use std::io::Read as _;

mod find;
mod group;
pub(crate) mod io;
mod janitor;
mod plan;
mod sweeper;

pub use find::{Hierarchies, Kind};
pub use group::Usage;
pub(crate) use group::{Figures, Group};
pub use io::IoLimit;
pub(crate) use plan::GroupPlan;

/// Reads a file that the kernel writes as it is read, with `room` for all of it at once, as far as that goes.
fn read_whole(file: File, room: usize) -> std::io::Result<String> {
    let mut text = String::with_capacity(room);
    // Through an adapter: a file's own function asks for its length first, which is none here.
    file.take(u64::MAX).read_to_string(&mut text)?;
    Ok(text)
}
