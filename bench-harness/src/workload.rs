//! What is measured: a workload of the catalogue, or a program of the user's own.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use workloads::protocol::Line;
use workloads::{Invocation, Workload};

use crate::cold;
use crate::error::HarnessError;
use crate::runner::{LaunchFailure, Observed, Observer};
use crate::target::{Launch, Prepared, Program};
use crate::{program, sealed};

/// Highest number of processes of one instance, where a target limits it. Our workloads have one; a user's program may
/// have more, and a runaway shall not take the host with it.
const PIDS: u64 = 256;

/// What the name of a workload ends with whose program is not in the page cache when it starts.
pub const COLD: &str = "-cold";

/// What the name of a workload ends with that is the program from before.
pub const BEFORE: &str = "-before";

/// Names in the catalogue.
#[must_use]
pub fn names() -> Vec<&'static str> {
    workloads::catalogue::all().iter().map(|workload| workload.name).collect()
}

/// What `--workloads` takes beside names: the real ones, and all there are.
pub const GROUPS: [&str; 2] = ["real", "all"];

/// The workloads of these names and [`GROUPS`], each once, in the order of the catalogue; the usual ones where there
/// are none.
#[must_use]
pub fn chosen(names: &[String]) -> Vec<&'static Workload> {
    if names.is_empty() {
        return workloads::catalogue::usual().collect();
    }
    let is_chosen = |workload: &&Workload| {
        names.iter().any(|name| match name.as_str() {
            "all" => true,
            "real" => workload.program == workloads::Program::Real,
            name => name == workload.name,
        })
    };
    workloads::catalogue::all().iter().filter(is_chosen).collect()
}

/// The bytes that every launch of a run executes.
#[derive(Debug, Clone)]
pub struct Image {
    fd: Arc<OwnedFd>,
    /// SHA-256 of the bytes, in hexadecimal.
    pub digest: String,
    /// The program of the real workloads; `None` for a program of the user's own.
    real: Option<Arc<OwnedFd>>,
}

impl Image {
    /// The programs with our workloads.
    ///
    /// # Errors
    /// Where they cannot be put in memory.
    pub fn ours() -> Result<Self, HarnessError> {
        Ok(Self {
            fd: sealed::seal(workloads::PROGRAM)?,
            digest: sealed::digest(workloads::PROGRAM),
            real: Some(sealed::seal(workloads::REAL_PROGRAM)?),
        })
    }

    fn of(&self, program: workloads::Program) -> &Arc<OwnedFd> {
        match (program, &self.real) {
            (workloads::Program::Real, Some(real)) => real,
            _ => &self.fd,
        }
    }

    /// A program of the user's own.
    ///
    /// # Errors
    /// Where it is not fit, cannot be read, or cannot be put in memory.
    pub fn of_file(path: &Path, mem_mib: u64) -> Result<Self, HarnessError> {
        program::check(path, Some(mem_mib))?;
        let bytes = fs::read(path).map_err(|source| HarnessError::File {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { fd: sealed::seal(&bytes)?, digest: sealed::digest(&bytes), real: None })
    }
}

/// One thing to be launched, again and again.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name in the recording.
    pub name: String,
    program: Arc<OwnedFd>,
    /// Whether its bytes are taken out of the page cache before each start.
    cold: bool,
    /// Arguments, the program's own name first.
    argv: Vec<OsString>,
    /// Its entry in the catalogue; `None` for a program of the user's own.
    pub catalogued: Option<&'static Workload>,
}

impl Subject {
    /// A workload of ours, called in this way.
    #[must_use]
    pub fn ours(image: &Image, invocation: &Invocation) -> Self {
        let argv = std::iter::once("workload".into())
            .chain(invocation.arguments().into_iter().map(OsString::from))
            .collect();
        Self {
            name: invocation.workload.name.into(),
            program: Arc::clone(image.of(invocation.workload.program)),
            cold: false,
            argv,
            catalogued: Some(invocation.workload),
        }
    }

    /// A program of the user's own.
    #[must_use]
    pub fn of_user(image: &Image, path: &Path, args: &[OsString]) -> Self {
        let name =
            path.file_name().map_or_else(|| "program".into(), |name| name.to_string_lossy().into_owned());
        let argv = std::iter::once(path.into()).chain(args.iter().cloned()).collect();
        Self { name, program: Arc::clone(&image.fd), cold: false, argv, catalogued: None }
    }

    /// The bytes of its program.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let file = fs::File::from(self.program.try_clone()?);
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// The same from this file, which holds the same bytes.
    #[must_use]
    pub fn from_file(&self, file: &Arc<OwnedFd>) -> Self {
        Self { program: Arc::clone(file), ..self.clone() }
    }

    /// The same from this file, which is evicted before each start; under a name of its own.
    #[must_use]
    pub fn cold_from_file(&self, file: &Arc<OwnedFd>) -> Self {
        Self { name: format!("{}{COLD}", self.name), cold: true, ..self.from_file(file) }
    }

    /// Makes the next start what its name says: cold, or nothing to do.
    ///
    /// # Errors
    /// Where pages stay in the cache.
    pub fn make_ready(&self) -> Result<(), LaunchFailure> {
        if self.cold { cold::evict(&*self.program).map_err(LaunchFailure::Warm) } else { Ok(()) }
    }

    /// A mode of the program of the real workloads that is no workload; anything is right that ends with 0.
    #[must_use]
    pub fn of_real(image: &Image, name: &str, arguments: &[String]) -> Self {
        Self {
            name: name.into(),
            program: Arc::clone(image.of(workloads::Program::Real)),
            argv: std::iter::once("workload".into()).chain(arguments.iter().map(OsString::from)).collect(),
            catalogued: None,
            cold: false,
        }
    }

    /// The program's descriptor, and the arguments that follow its name.
    pub fn program_and_arguments(&self) -> (&OwnedFd, &[OsString]) {
        (&self.program, self.argv.get(1..).unwrap_or_default())
    }

    /// The program from before that is measured in turn with this one: called as it is, under a name of its own.
    #[must_use]
    pub fn before(&self, image: &Image) -> Self {
        Self { name: format!("{}{BEFORE}", self.name), ..self.from_file(&image.fd) }
    }

    /// Whether it is one of the catalogue.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.catalogued.is_some()
    }

    /// How to start it.
    #[must_use]
    pub fn launch(&self, mem_mib: u64) -> Launch {
        Launch {
            program: Program::Sealed(Arc::clone(&self.program)),
            argv: self.argv.clone(),
            mem_mib: Some(mem_mib),
            pids: Some(PIDS),
            files: Vec::new(),
            once: false,
            network: self.catalogued.is_some_and(|workload| workload.needs.network),
            container: None,
        }
    }

    /// One launch of it: made ready, observed until nothing is left, and judged.
    ///
    /// # Errors
    /// Why it gave no result.
    pub fn launched(
        &self,
        observer: &mut Observer,
        prepared: &dyn Prepared,
    ) -> Result<Observed, LaunchFailure> {
        self.make_ready()?;
        self.judge(observer.whole(prepared)?)
    }

    /// Did it do what it should? Ours say `ready` first and end with 0; of a user's program any first byte will do.
    ///
    /// # Errors
    /// What it did instead.
    pub fn judge(&self, seen: Observed) -> Result<Observed, LaunchFailure> {
        if seen.ready_ns.is_none() {
            return Err(LaunchFailure::Silent { status: seen.end.status, stderr: seen.stderr });
        }
        let seen = seen.success()?;
        if !self.is_ours() {
            return Ok(seen);
        }
        let mut first = None;
        seen.for_each_line(|_, line| {
            first.get_or_insert_with(|| line == Line::Ready);
        });
        match first {
            Some(true) => Ok(seen),
            _ => Err(LaunchFailure::Protocol("its first line is not `ready`".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_chosen_by_name_or_group_and_each_once() {
        let names = |words: &[&str]| -> Vec<&str> {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            chosen(&words).iter().map(|workload| workload.name).collect()
        };
        assert_eq!(names(&[]).first(), Some(&"noop"));
        assert!(!names(&[]).contains(&"sqlite"), "the quick profile has a minute");
        assert_eq!(names(&["real", "sqlite", "syscall"]).first(), Some(&"syscall"));
        assert_eq!(names(&["real", "sqlite"]).iter().filter(|name| **name == "sqlite").count(), 1);
        assert_eq!(names(&["all"]).len(), workloads::catalogue::all().len());
        assert!(GROUPS.iter().all(|group| workloads::catalogue::find(group).is_none()));
    }
}
