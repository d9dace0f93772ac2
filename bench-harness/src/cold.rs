//! A program whose bytes are not in the page cache when it starts (`--cache cold`).
//!
//! The usual program is in sealed memory, which nothing can evict. The cold one is a file without a name on a disk, with the same
//! bytes, gone with its last descriptor. Before each start its pages are dropped by posix_fadvise(POSIX_FADV_DONTNEED), and the kernel
//! is asked (cachestat(2), or mincore(2) before Linux 6.5) whether they really are: a file system in memory, or another mapping,
//! would keep them, and a start that is called cold must be.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{SysconfVar, sysconf};

/// How the cache was emptied, for the recording.
pub const HOW: &str = "posix_fadvise(POSIX_FADV_DONTNEED) on a nameless copy of the program before each start, seen to be \
                       gone by cachestat(2) or mincore(2)";

/// `__NR_cachestat` of arch/x86/entry/syscalls/syscall_64.tbl, since Linux 6.5.
const SYS_CACHESTAT: libc::c_long = 451;

/// Why no cold start can be had.
#[derive(Debug, thiserror::Error)]
pub enum ColdError {
    /// The copy could not be made.
    #[error("a copy of the program in {}: {step}", dir.display())]
    Copy {
        /// Where.
        dir: PathBuf,
        /// Which step failed.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing may be executed there.
    #[error("a copy of the program in {}: its file system is mounted noexec", .0.display())]
    NoExec(PathBuf),
    /// The kernel did not say what is in the cache.
    #[error("what is in the page cache cannot be read")]
    Unknown(#[source] io::Error),
    /// The kernel did not take the advice.
    #[error("its pages cannot be dropped from the page cache")]
    Refused(#[source] io::Error),
    /// The pages did not go.
    #[error(
        "{0} of its pages stay in the page cache (a file system in memory, or another program holds them)"
    )]
    Stays(u64),
}

/// Makes the copy in the first of these folders where it can be evicted.
///
/// # Errors
/// What was in the way in each of them.
pub fn copy(program: &[u8], dirs: &[PathBuf]) -> Result<(Arc<OwnedFd>, PathBuf), Vec<ColdError>> {
    let mut problems = Vec::new();
    for dir in dirs {
        match copy_in(program, dir).and_then(|file| evict(&file).map(|()| file)) {
            Ok(file) => return Ok((Arc::new(file.into()), dir.clone())),
            Err(problem) => problems.push(problem),
        }
    }
    Err(problems)
}

fn copy_in(program: &[u8], dir: &Path) -> Result<File, ColdError> {
    let failed = |step| move |source| ColdError::Copy { dir: dir.to_owned(), step, source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
        .mode(0o500)
        .open(dir)
        .map_err(failed("open a nameless file"))?;
    let mounted = fstatvfs(&file).map_err(|errno| failed("look at its file system")(errno.into()))?;
    if mounted.flags().contains(FsFlags::ST_NOEXEC) {
        return Err(ColdError::NoExec(dir.to_owned()));
    }
    file.write_all(program).map_err(failed("write"))?;
    // Pages that are not yet on the disk cannot be dropped.
    file.sync_all().map_err(failed("bring to the disk"))?;
    // Reopened for reading only: what is open for writing cannot be executed (ETXTBSY).
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(failed("reopen"))
}

/// Drops the file's pages from the page cache, and sees to it that they are gone.
///
/// # Errors
/// Where they stay, or nobody says.
pub fn evict(file: &(impl AsRawFd + std::os::fd::AsFd)) -> Result<(), ColdError> {
    let advised = posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    match resident_pages(file.as_raw_fd()).map_err(ColdError::Unknown)? {
        0 => Ok(()),
        pages => match advised {
            Ok(()) => Err(ColdError::Stays(pages)),
            Err(errno) => Err(ColdError::Refused(errno.into())),
        },
    }
}

/// `struct cachestat_range` and `struct cachestat` of include/uapi/linux/mman.h.
#[repr(C)]
struct Range {
    off: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cache: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

fn resident_pages(fd: i32) -> io::Result<u64> {
    // A length of 0: to the end of the file.
    let range = Range { off: 0, len: 0 };
    let mut stat = Cachestat::default();
    // SAFETY: cachestat(2) reads one range and writes one cachestat, both of which live until it returns.
    let done = unsafe { libc::syscall(SYS_CACHESTAT, fd, &raw const range, &raw mut stat, 0) };
    if done == 0 {
        return Ok(stat.cache);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOSYS) => resident_by_mincore(fd),
        error => Err(error),
    }
}

/// The same for kernels before 6.5: by a mapping that touches nothing.
fn resident_by_mincore(fd: i32) -> io::Result<u64> {
    // SAFETY: fstat(2) writes one stat through the pointer; a zeroed one is a valid value of it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: as above; the result says whether it was written.
    if unsafe { libc::fstat(fd, &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let length = usize::try_from(stat.st_size).unwrap_or(0);
    if length == 0 {
        return Ok(0);
    }
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| usize::try_from(size).ok());
    let mut pages = vec![0_u8; length.div_ceil(page.unwrap_or(4096))];
    // SAFETY: a new mapping at an address of the kernel's choice, never dereferenced, and taken away below.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the range is the mapping above, and the vector has a byte for each of its pages.
    let done = unsafe { libc::mincore(start, length, pages.as_mut_ptr()) };
    let error = io::Error::last_os_error();
    // SAFETY: the whole mapping from above, to which nothing points any more.
    unsafe { libc::munmap(start, length) };
    if done != 0 {
        return Err(error);
    }
    // The lowest bit says it (mincore(2)).
    Ok(pages.iter().map(|page| u64::from(page & 1)).sum())
}

#[cfg(test)]
#[allow(clippy::print_stdout, reason = "what is skipped is said in the test's output")]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// A folder on a disk: the build's own is more often one than that for temporary files.
    fn dirs() -> Vec<PathBuf> {
        vec![std::env::temp_dir(), env!("CARGO_MANIFEST_DIR").into()]
    }

    #[test]
    fn a_copy_on_a_disk_is_evicted_and_what_was_read_comes_back_and_goes_again() {
        let program = vec![7_u8; 100_000];
        let (fd, _) = match copy(&program, &dirs()) {
            Ok(found) => found,
            Err(problems) => {
                println!("skipped: {problems:?}");
                return;
            }
        };
        let file = File::from(fd.try_clone().expect("a descriptor"));
        assert_eq!(resident_pages(file.as_raw_fd()).expect("known"), 0);
        let mut bytes = vec![0; program.len()];
        file.read_exact_at(&mut bytes, 0).expect("the copy");
        assert_eq!(bytes, program);
        let pages = resident_pages(file.as_raw_fd()).expect("known");
        assert!(pages >= 25, "{pages}");
        assert_eq!(resident_by_mincore(file.as_raw_fd()).expect("known"), pages, "both ways agree");
        evict(&file).expect("a disk");
        assert_eq!(resident_by_mincore(file.as_raw_fd()).expect("known"), 0);
    }

    #[test]
    fn memory_cannot_be_evicted_and_says_so() {
        let problems = copy(b"program", &[PathBuf::from("/dev/shm")]).expect_err("it is memory");
        assert!(
            matches!(problems[0], ColdError::Stays(1) | ColdError::NoExec(_) | ColdError::Copy { .. }),
            "{problems:?}"
        );
        let problems = copy(b"program", &[PathBuf::from("/nowhere")]).expect_err("it is not there");
        assert!(problems[0].to_string().contains("/nowhere"), "{problems:?}");
    }
}
