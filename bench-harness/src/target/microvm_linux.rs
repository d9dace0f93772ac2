//! The target with a Linux kernel of the reader's own, over vm-backend.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use vm_backend::linux::virtio::tap::Tap;
use vm_backend::{Backing, LinuxConfig, Root};
use workloads::Capabilities;

use super::microvm::{PreparedVm, guest_path};
use super::{ENVIRONMENT, Launch, LaunchError, Prepared, Program, SkipReason, Target, TargetKind};
use crate::echo::{Echo, Reach};
use crate::error::chain;
use crate::memory_size::DEFAULT_MIB;

/// The guest's name for its network card.
const CARD: &str = "eth0";

/// What a Linux kernel keeps of the memory for itself, with the archive that the program came in, generously.
const KERNEL_MIB: u64 = 96;

const NO_KERNEL: &str = "no guest kernel was found; scripts/fetch-guest-kernel takes the one of your distribution, \
                         scripts/build-guest-kernel builds a small one";

/// How the machine differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The kernel, instead of the one in the cache.
    pub kernel: Option<PathBuf>,
    /// Added to its command line.
    pub cmdline_extra: String,
    /// Number of processors; 1 unless said.
    pub vcpus: Option<u32>,
    /// Print what the kernel says.
    pub console: bool,
    /// Disks beside the one of a root: the file, and whether it is read-only.
    pub disks: Vec<(PathBuf, bool)>,
    /// Whether there is a network card.
    pub network: bool,
    /// What stands behind its memory on the host before it is touched.
    pub backing: Backing,
}

/// A virtual machine with a Linux kernel.
#[derive(Debug, Clone, Default)]
pub struct MicrovmLinux(pub Options);

/// A kernel, for the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What it calls itself, where the scripts that put it there wrote that down.
    pub version: Option<String>,
    /// SHA-256 of the file.
    pub digest: String,
}

/// Where the scripts put kernels: `$XDG_CACHE_HOME` or `~/.cache`, then this.
const CACHE: &str = "bench-harness/kernels";
/// The small one before the stock one, since it starts faster, and the one that need not unpack itself first.
const NAMES: [&str; 3] = ["small/vmlinux", "small/vmlinuz", "stock/vmlinuz"];

fn cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(base.join(CACHE))
}

/// Where a kernel of the cache would be; `None` where there can be no cache.
#[must_use]
pub fn cached(name: &str) -> Option<PathBuf> {
    cache().map(|cache| cache.join(name))
}

fn find_in(cache: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| cache.join(name)).find(|path| path.is_file())
}

impl Options {
    fn kernel(&self) -> Option<PathBuf> {
        self.kernel.clone().or_else(|| find_in(&cache()?))
    }

    /// What the recording says of the kernel; `None` where there is none, or where it cannot be read.
    #[must_use]
    pub fn describe(&self) -> Option<Kernel> {
        let path = self.kernel()?;
        let mut bytes = Vec::new();
        std::fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).ok()?;
        let version = std::fs::read_to_string(path.with_file_name("version")).ok();
        let version = version.map(|text| text.trim().to_owned()).filter(|_| self.kernel.is_none());
        let version = version.or_else(|| vm_backend::linux::kernel::version(&bytes));
        Some(Kernel { version, digest: crate::sealed::digest(&bytes) })
    }
}

/// Whether ring 0 of this host runs a Linux kernel, tried once: that is a virtual machine.
fn runs_linux() -> Result<(), SkipReason> {
    static TRIED: OnceLock<Result<(), SkipReason>> = OnceLock::new();
    let tried = TRIED.get_or_init(|| {
        let found = vm_backend::linux::probe::ring0().map_err(|error| SkipReason(chain(&error)))?;
        found.supports_linux().map_err(|reason| SkipReason(reason.to_string()))
    });
    tried.clone()
}

fn root(path: &Path) -> Result<Root, LaunchError> {
    let root = Root::of(path)
        .map_err(|error| LaunchError::Unsupported(format!("--rootfs {}: {error}", path.display())))?;
    root.ok_or_else(|| {
        let path = path.display();
        LaunchError::Unsupported(format!(
            "--rootfs {path}: microvm-linux takes a folder, or an image of a disk with ext4, squashfs, erofs, xfs or btrfs on it; \
             archives have to be unpacked into a folder first"
        ))
    })
}

fn no_program(path: &Path) -> LaunchError {
    LaunchError::Unsupported(format!("--rootfs {}: give a program in it after --", path.display()))
}

fn not_found(path: &Path, name: &OsStr) -> LaunchError {
    LaunchError::Unsupported(format!(
        "--rootfs {}: {} is not where programs are in it; give its path from / on",
        path.display(),
        name.display()
    ))
}

impl Target for MicrovmLinux {
    fn kind(&self) -> TargetKind {
        TargetKind::MicrovmLinux
    }

    fn probe(&self) -> Result<(), SkipReason> {
        runs_linux()?;
        self.0.kernel().map(drop).ok_or_else(|| SkipReason(NO_KERNEL.into()))
    }

    fn capabilities(&self, mem_mib: u64) -> Capabilities {
        let mib = mem_mib.saturating_sub(KERNEL_MIB);
        Capabilities { memory_bytes: Some(mib << 20), ..Capabilities::linux() }
    }

    fn network(&self) -> Result<(), SkipReason> {
        Tap::new().map(drop).map_err(|error| SkipReason(chain(&error)))
    }

    fn prepare(&self, launch: &Launch) -> Result<Box<dyn Prepared>, LaunchError> {
        // `run` comes here without having asked.
        self.probe().map_err(|reason| LaunchError::Unsupported(reason.0))?;
        let kernel = self.0.kernel().ok_or_else(|| LaunchError::Unsupported(NO_KERNEL.into()))?;
        let (name, args) =
            launch.argv.split_first().map_or((OsStr::new("program"), &[][..]), |(n, a)| (n, a));
        let env: Vec<(&str, &str)> = match &launch.container {
            Some(options) => options.environment(ENVIRONMENT.into_iter()).collect(),
            None => ENVIRONMENT.to_vec(),
        };
        // Of two the later one holds, as everywhere.
        let search = env.iter().rfind(|(key, _)| *key == "PATH").map_or("", |(_, value)| value);
        let inside = launch.container.as_ref().and_then(|options| options.rootfs.as_ref());
        let config = match inside {
            Some(path) if launch.argv.is_empty() => return Err(no_program(path)),
            Some(path) => {
                let root = root(path)?;
                let program = root.find(name, search).ok_or_else(|| not_found(path, name))?;
                LinuxConfig::inside(kernel, root, program)
            }
            None => {
                let program = match &launch.program {
                    Program::Path(path) => vm_backend::Program::Path(path.clone()),
                    Program::Sealed(fd) => vm_backend::Program::Sealed(Arc::clone(fd)),
                };
                LinuxConfig::new(kernel, program).guest_path(guest_path(name))
            }
        };
        let mut config = config
            .mem_mib(launch.mem_mib.unwrap_or(DEFAULT_MIB))
            .backing(self.0.backing)
            .vcpus(self.0.vcpus.unwrap_or(1))
            .cmdline_extra(&self.0.cmdline_extra)
            .console(self.0.console)
            .network(self.0.network || launch.network)
            .args(args.iter().cloned());
        for (key, value) in env {
            config = config.env(key, value);
        }
        let echo = launch.network.then(|| Echo::start(Reach::Link)).transpose()?;
        if let Some(echo) = &echo {
            config = config.env(workloads::SERVER, &format!("{CARD}:{}", echo.port()));
        }
        for (image, read_only) in &self.0.disks {
            config = config.disk(image, *read_only);
        }
        for (host, guest) in &launch.files {
            config = config.file(host, guest);
        }
        let vm = config.prepare().map_err(|error| LaunchError::Vm(error.into()))?;
        Ok(match echo {
            Some(echo) => echo.beside(Box::new(PreparedVm(vm))),
            None => Box::new(PreparedVm(vm)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_kernel_is_taken_before_the_stock_one() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(find_in(cache.path()), None);
        for name in ["stock/vmlinuz", "small/vmlinux"] {
            let path = cache.path().join(name);
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "kernel").unwrap();
            assert_eq!(find_in(cache.path()), Some(path));
        }
    }

    #[test]
    fn a_kernel_is_described_by_its_digest_and_the_version_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmlinuz");
        std::fs::write(&path, "kernel").unwrap();
        let options = Options { kernel: Some(path), ..Options::default() };
        let kernel = options.describe().unwrap();
        assert_eq!((kernel.version, kernel.digest.len()), (None, 64));
        let missing = Options { kernel: Some(folder.path().join("none")), ..Options::default() };
        assert_eq!(missing.describe(), None);
    }
}
