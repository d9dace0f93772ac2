//! What stands behind a guest's memory on the host before the guest touches it.

use std::fs;

use crate::error::ConfigError;
use crate::monitor::at;
use crate::report::{Failure, Step};
use crate::space::{Advice, advise};

/// Documentation/admin-guide/mm/transhuge.rst; the second file is of Linux 6.8.
const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const ENABLED_2M: &str = "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled";

/// How the host backs a guest's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backing {
    /// By nothing: the host makes a page when it is touched.
    #[default]
    Untouched,
    /// By all of its pages before the guest starts, each instance's its own. Needs Linux 5.14; on an older one, or where the
    /// memory cannot be had, the instance fails.
    Prefaulted,
    /// By transparent huge pages wherever the host has one free when a part of it is touched.
    HugePages,
}

impl Backing {
    /// Whether this host can back memory so, as far as can be told beforehand.
    ///
    /// # Errors
    /// Why not: transparent huge pages are switched off, or the kernel has none.
    pub fn check(self) -> Result<(), ConfigError> {
        match self {
            Self::Untouched | Self::Prefaulted => Ok(()),
            Self::HugePages => {
                // A file that is not there says nothing.
                let [of_size, overall] = [ENABLED_2M, ENABLED].map(|file| fs::read_to_string(file).ok());
                given_to_who_asks(of_size.as_deref(), overall.as_deref())
            }
        }
    }

    /// Backs memory of this process that nobody uses yet.
    pub(crate) fn apply(self, start: *mut u8, len: u64) -> Result<(), Failure> {
        match self {
            Self::Untouched => Ok(()),
            Self::Prefaulted => advise(start, len, Advice::Populate).map_err(at(Step::PopulateMemory)),
            Self::HugePages => advise(start, len, Advice::LargePages).map_err(at(Step::AskHugePages)),
        }
    }
}

/// From the contents of [`ENABLED_2M`] and [`ENABLED`].
fn given_to_who_asks(of_size: Option<&str>, overall: Option<&str>) -> Result<(), ConfigError> {
    let own = of_size.and_then(chosen).filter(|word| *word != "inherit").map(|word| (ENABLED_2M, word));
    match own.or_else(|| Some((ENABLED, chosen(overall?)?))) {
        Some((file, "never")) => Err(ConfigError::HugePagesOff { file }),
        Some(_) => Ok(()),
        None => Err(ConfigError::NoHugePages),
    }
}

/// The word in brackets.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;
    use crate::space::map;

    #[test]
    fn huge_pages_can_be_had_where_one_of_the_files_says_so() {
        const NEVER: Option<&str> = Some("always madvise [never]\n");
        const ASKED: Option<&str> = Some("always [madvise] never\n");
        const INHERIT: Option<&str> = Some("always [inherit] madvise never\n");
        assert_eq!(given_to_who_asks(None, ASKED), Ok(()));
        assert_eq!(given_to_who_asks(ASKED, NEVER), Ok(()));
        assert_eq!(given_to_who_asks(INHERIT, ASKED), Ok(()));
        assert_eq!(given_to_who_asks(None, NEVER), Err(ConfigError::HugePagesOff { file: ENABLED }));
        assert_eq!(given_to_who_asks(INHERIT, NEVER), Err(ConfigError::HugePagesOff { file: ENABLED }));
        assert_eq!(given_to_who_asks(NEVER, ASKED), Err(ConfigError::HugePagesOff { file: ENABLED_2M }));
        assert_eq!(given_to_who_asks(None, None), Err(ConfigError::NoHugePages));
        assert_eq!(given_to_who_asks(None, Some("something else")), Err(ConfigError::NoHugePages));
    }

    #[test]
    fn memory_that_cannot_be_backed_is_a_failure_that_names_the_step() {
        const SIZE: u64 = 1 << 20;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // What may not be written to cannot be filled in by writing.
        let start = map(ptr::null_mut(), SIZE, libc::PROT_READ, flags, None).unwrap();
        Backing::Untouched.apply(start, SIZE).unwrap();
        let failure = Backing::Prefaulted.apply(start, SIZE).unwrap_err();
        assert_eq!(failure.step, Some(Step::PopulateMemory));
        assert!(failure.to_string().contains("MADV_POPULATE_WRITE"), "{failure}");
        // Addresses of the kernel are nobody's.
        let failure = Backing::HugePages.apply(ptr::without_provenance_mut(1 << 63), SIZE).unwrap_err();
        assert_eq!(failure.step, Some(Step::AskHugePages));
    }
}
