//! Paths in the guest: whether its small file system can hold all of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use vm_abi::NAMES_MAX;

use crate::error::ConfigError;

/// Longest path and longest part of one that the guest keeps.
const LIMITS: (usize, usize) = (255, 63);
/// What is there already (`guest/src/vfs/mod.rs`); files may be put beside it, but not in its place.
const FOLDERS: [&[u8]; 4] = [b"dev", b"proc", b"proc/self", b"tmp"];
const FILES: [&[u8]; 9] = [
    b"dev/null",
    b"dev/zero",
    b"dev/full",
    b"dev/random",
    b"dev/urandom",
    b"dev/stdin",
    b"dev/stdout",
    b"dev/stderr",
    b"proc/self/exe",
];

/// Checks that every path can be the path of a file, beside all the others.
pub(crate) fn check(paths: &[&[u8]]) -> Result<(), ConfigError> {
    // Every name by its whole path, and whether it is a folder.
    let mut names: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
    names.extend(FOLDERS.iter().map(|name| (name.to_vec(), true)));
    names.extend(FILES.iter().map(|name| (name.to_vec(), false)));
    for path in paths {
        let error_path = || PathBuf::from(OsStr::from_bytes(path));
        let taken = || ConfigError::GuestPathTaken { path: error_path() };
        if !path.starts_with(b"/") {
            return Err(ConfigError::GuestPathNotAbsolute { path: error_path() });
        }
        let parts: Vec<_> = path.split(|b| *b == b'/').filter(|part| !part.is_empty()).collect();
        if path.len() > LIMITS.0 || parts.iter().any(|part| part.len() > LIMITS.1) {
            return Err(ConfigError::GuestPathTooLong { path: error_path() });
        }
        if parts.is_empty() || parts.iter().any(|part| *part == b"." || *part == b"..") {
            return Err(taken());
        }
        for depth in 1..parts.len() {
            if !*names.entry(parts[..depth].join(&b'/')).or_insert(true) {
                return Err(taken());
            }
        }
        if names.insert(parts.join(&b'/'), false).is_some() {
            return Err(taken());
        }
    }
    let count = names.len();
    if count > NAMES_MAX { Err(ConfigError::TooManyNames { count, limit: NAMES_MAX }) } else { Ok(()) }
}
