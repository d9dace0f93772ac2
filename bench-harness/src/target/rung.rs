//! Rungs: targets that differ in one thing, so that the difference of two is the cost of it.
//!
//! Those of the container climb from a bare process to the whole container, a layer a rung, and then leave each layer out of the
//! whole in turn. Those of the virtual machines vary size, what stands behind their memory, processors and kernel. They are no targets of `--targets`: the
//! experiment `ladder` makes them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use container_backend::Isolation;
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_backend::Backing;
use workloads::Capabilities;

use super::{
    Launch, LaunchError, Prepared, SkipReason, Target, TargetKind, container,
    microvm::{self, Microvm},
    microvm_linux::{self, MicrovmLinux},
};
use crate::memory_size;

/// Name of the rung that is the container as `compare` measures it.
pub const WHOLE: &str = "container:+limits";

/// What the cost that a rung shows is a difference to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// To none: it is where a ladder begins.
    Alone,
    /// This rung's figure less that of the other: what was added.
    Over(String),
    /// The other's figure less this rung's: what was left out here.
    Without(String),
}

#[derive(Debug, Clone)]
enum How {
    Process { isolation: Isolation, limited: bool },
    Microvm { mem_mib: u64, backing: Backing },
    Linux { mem_mib: u64, options: microvm_linux::Options, disk: bool },
}

/// A target that differs from another one in one thing.
#[derive(Debug, Clone)]
pub struct Rung {
    /// Its name in the recording.
    pub name: String,
    /// What its cost is a difference to.
    pub compared: Compared,
    how: How,
}

/// Sizes of a virtual machine.
const SIZES_MIB: [u64; 7] = [64, 128, 256, 512, 1_024, 2_048, 4_096];
/// The least that a Linux guest starts in.
const LINUX_SIZES_MIB: [u64; 4] = [128, 512, 1_024, 4_096];
/// What stands behind the memory of a virtual machine of the least size, where that is not nothing as in all other rungs: name of
/// the rung, what it is, and which memory that is in words.
pub(crate) const BACKINGS: [(&str, Backing, &str); 2] = [
    ("prefaulted", Backing::Prefaulted, "that is there before the start"),
    ("huge-pages", Backing::HugePages, "in huge pages"),
];
/// Processors of a virtual machine.
const VCPUS: [u32; 3] = [1, 2, 4];
/// Kernels that the scripts put into the cache: name of the rung, file.
const KERNELS: [(&str, &str); 2] = [("small-kernel", "small/vmlinux"), ("stock-kernel", "stock/vmlinuz")];

/// Every rung, in the order of the ladders; `linux` says what a Linux guest boots where the rung does not.
#[must_use]
pub fn all(linux: &microvm_linux::Options) -> Vec<Rung> {
    let mut rungs = containers();
    rungs.extend(sizes("microvm", &SIZES_MIB, |mem_mib, backing| How::Microvm { mem_mib, backing }));
    let with = |options: microvm_linux::Options, mem_mib| How::Linux { mem_mib, options, disk: false };
    rungs.extend(sizes("microvm-linux", &LINUX_SIZES_MIB, |mem_mib, backing| {
        with(microvm_linux::Options { backing, ..linux.clone() }, mem_mib)
    }));
    let base = |names: &str| Some(format!("microvm-linux:{names}"));
    let vcpus = VCPUS.map(|vcpus| {
        let options = microvm_linux::Options { vcpus: Some(vcpus), ..linux.clone() };
        (format!("{vcpus}cpu"), options)
    });
    rungs.extend(chained("microvm-linux", vcpus, base("1cpu")));
    let kernels = KERNELS.map(|(name, file)| {
        // A file that is not there is named when the rung is tried.
        let kernel = microvm_linux::cached(file).unwrap_or_else(|| PathBuf::from(file));
        (name.to_owned(), microvm_linux::Options { kernel: Some(kernel), ..linux.clone() })
    });
    rungs.extend(chained("microvm-linux", kernels, base("small-kernel")));
    let card = microvm_linux::Options { network: true, ..linux.clone() };
    for (name, options, disk) in [("with-block", linux.clone(), true), ("with-net", card, false)] {
        rungs.push(Rung {
            name: format!("microvm-linux:{name}"),
            compared: base("1cpu").map_or(Compared::Alone, Compared::Over),
            how: How::Linux { mem_mib: memory_size::DEFAULT_MIB, options, disk },
        });
    }
    rungs
}

/// Every rung with the usual Linux guest.
fn known() -> &'static [Rung] {
    static KNOWN: OnceLock<Vec<Rung>> = OnceLock::new();
    KNOWN.get_or_init(|| all(&microvm_linux::Options::default()))
}

/// The names of all rungs in the order of the ladders.
pub fn names() -> impl Iterator<Item = &'static str> {
    known().iter().map(|rung| rung.name.as_str())
}

/// What the cost of the rung of this name is a difference to; `None` where there is no such rung.
#[must_use]
pub fn compared(name: &str) -> Option<&'static Compared> {
    known().iter().find(|rung| rung.name == name).map(|rung| &rung.compared)
}

/// Whether the rung of this name is a machine whose memory is filled in before its start.
#[must_use]
pub fn fills_memory(name: &str) -> bool {
    known().iter().any(|rung| rung.name == name && rung.backing() == Backing::Prefaulted)
}

fn containers() -> Vec<Rung> {
    let mut rungs: Vec<Rung> = Vec::new();
    let mut climb = |name: &str, isolation, limited| {
        let compared = rungs.last().map_or(Compared::Alone, |below| Compared::Over(below.name.clone()));
        // No commas, which every reader of a CSV file would have to expect.
        let name = format!("container:{}", name.replace(',', "+"));
        rungs.push(Rung { name, compared, how: How::Process { isolation, limited } });
    };
    let (whole, user): (Vec<_>, Vec<_>) =
        Isolation::ladder().into_iter().partition(|(name, _)| *name != "+user");
    for (name, isolation) in whole {
        climb(name, isolation, false);
    }
    climb("+limits", Isolation::container(), true);
    // Beyond the usual container: engines add it on request.
    for (name, isolation) in user {
        climb(name, isolation, true);
    }
    let without = Isolation::without_each().into_iter().filter(|(name, _)| name.starts_with('-'));
    rungs.extend(without.map(|(name, isolation)| Rung {
        name: format!("container:{name}"),
        compared: Compared::Without(WHOLE.to_owned()),
        how: How::Process { isolation, limited: true },
    }));
    rungs
}

/// Machines that differ in size, and then in what stands behind the memory of the smallest.
fn sizes(target: &str, sizes: &[u64], how: impl Fn(u64, Backing) -> How) -> Vec<Rung> {
    let name = |mib: &u64| format!("{target}:{mib}MiB");
    let Some((least, larger)) = sizes.split_first() else { return Vec::new() };
    let over = || Compared::Over(name(least));
    let sized = |mib, compared| Rung { name: name(mib), compared, how: how(*mib, Backing::default()) };
    let backed = |(kind, backing, _)| Rung {
        name: format!("{target}:{kind}"),
        compared: over(),
        how: how(*least, backing),
    };
    let smallest = sized(least, Compared::Alone);
    let larger = larger.iter().map(|mib| sized(mib, over()));
    std::iter::once(smallest).chain(larger).chain(BACKINGS.map(backed)).collect()
}

fn chained<const N: usize>(
    target: &str,
    options: [(String, microvm_linux::Options); N],
    base: Option<String>,
) -> Vec<Rung> {
    let rung = |(name, options)| {
        let name = format!("{target}:{name}");
        let over = base.clone().filter(|base| *base != name);
        let compared = over.map_or(Compared::Alone, Compared::Over);
        Rung { name, compared, how: How::Linux { mem_mib: memory_size::DEFAULT_MIB, options, disk: false } }
    };
    options.into_iter().map(rung).collect()
}

/// Size of the disk of a rung: as much as a small file system needs.
const DISK_BYTES: u64 = 16 << 20;

/// A file without a name, and gone with its last descriptor.
struct BlankDisk(OwnedFd);

impl BlankDisk {
    /// A name by which this process can open it.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// A disk on which nothing was ever written.
fn blank_disk() -> io::Result<BlankDisk> {
    let file = File::from(memfd_create(c"disk", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(DISK_BYTES)?;
    Ok(BlankDisk(file.into()))
}

impl Rung {
    /// Whether its cost may lie in system calls. The size of a machine's memory does not.
    #[must_use]
    pub fn changes_calls(&self) -> bool {
        matches!(self.how, How::Process { .. })
    }

    /// What stands behind a machine's memory.
    fn backing(&self) -> Backing {
        match &self.how {
            How::Process { .. } => Backing::default(),
            How::Microvm { backing, .. } => *backing,
            How::Linux { options, .. } => options.backing,
        }
    }

    fn mem_mib(&self) -> Option<u64> {
        match self.how {
            How::Process { .. } => None,
            How::Microvm { mem_mib, .. } | How::Linux { mem_mib, .. } => Some(mem_mib),
        }
    }
}

impl Target for Rung {
    fn kind(&self) -> TargetKind {
        match self.how {
            How::Process { .. } => TargetKind::Container,
            How::Microvm { .. } => TargetKind::Microvm,
            How::Linux { .. } => TargetKind::MicrovmLinux,
        }
    }

    fn probe(&self) -> Result<(), SkipReason> {
        if let Some(mib) = self.mem_mib() {
            memory_size::checked(mib).map_err(|error| SkipReason(error.to_string()))?;
        }
        self.backing().check().map_err(|error| SkipReason(error.to_string()))?;
        match &self.how {
            How::Process { isolation, .. } if isolation.is_none() => Ok(()),
            How::Process { limited, .. } => {
                container::Container.probe()?;
                match limited.then(|| container::Container.limitation()).flatten() {
                    Some(reason) => Err(SkipReason(reason)),
                    None => Ok(()),
                }
            }
            How::Microvm { .. } => Microvm.probe(),
            How::Linux { options, .. } => {
                let target = MicrovmLinux(options.clone());
                target.probe()?;
                if options.network {
                    target.network()?;
                }
                match options.kernel.as_ref().filter(|kernel| !kernel.is_file()) {
                    Some(kernel) => Err(SkipReason(format!("there is no kernel {}", kernel.display()))),
                    None => Ok(()),
                }
            }
        }
    }

    fn capabilities(&self, mem_mib: u64) -> Capabilities {
        let mem_mib = self.mem_mib().unwrap_or(mem_mib);
        match &self.how {
            How::Process { .. } => container::Container.capabilities(mem_mib),
            How::Microvm { .. } => Microvm.capabilities(mem_mib),
            How::Linux { options, .. } => MicrovmLinux(options.clone()).capabilities(mem_mib),
        }
    }

    fn prepare(&self, launch: &Launch) -> Result<Box<dyn Prepared>, LaunchError> {
        let launch = Launch { mem_mib: self.mem_mib().or(launch.mem_mib), ..launch.clone() };
        match &self.how {
            How::Process { isolation, limited } => container::layered(&launch, *isolation, *limited),
            How::Microvm { backing, .. } => microvm::backed(&launch, *backing),
            How::Linux { options, disk: false, .. } => MicrovmLinux(options.clone()).prepare(&launch),
            How::Linux { options, disk: true, .. } => {
                let mut options = options.clone();
                let image = blank_disk().map_err(|source| LaunchError::Disk { source })?;
                options.disks.push((image.path(), false));
                // What is prepared has it open.
                MicrovmLinux(options).prepare(&launch)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rung_has_a_name_of_its_own_and_is_compared_with_one_that_there_is() {
        let names: Vec<&str> = names().collect();
        for (place, name) in names.iter().enumerate() {
            assert!(!names[..place].contains(name) && !name.contains(','), "{name}");
            match compared(name).expect("a rung of that name") {
                Compared::Alone => {}
                Compared::Over(other) | Compared::Without(other) => {
                    assert!(other != name && names.contains(&other.as_str()), "{name} over {other}");
                }
            }
        }
        assert_eq!(compared("container"), None);
    }

    #[test]
    fn the_containers_ladder_begins_bare_and_reaches_the_whole_container() {
        let rungs = containers();
        let bare = |rung: &Rung| matches!(rung.how, How::Process { isolation, .. } if isolation.is_none());
        assert!(bare(&rungs[0]) && rungs[0].compared == Compared::Alone);
        let whole = rungs.iter().find(|rung| rung.name == WHOLE).expect("the whole container");
        assert!(
            matches!(whole.how, How::Process { isolation, limited: true } if isolation == Isolation::container())
        );
        let left_out = rungs.iter().filter(|rung| matches!(rung.compared, Compared::Without(_)));
        assert_eq!(left_out.count(), Isolation::container().layers().count());
    }

    #[test]
    fn block_and_net_are_added_one_at_a_time_to_the_same_machine() {
        let rungs = all(&microvm_linux::Options::default());
        let of = |name: &str| rungs.iter().find(|rung| rung.name == name).expect("a rung of that name");
        let devices = |name: &str| match &of(name).how {
            How::Linux { mem_mib, options, disk } => (*mem_mib, options.network, *disk),
            other => panic!("{other:?}"),
        };
        let mib = memory_size::DEFAULT_MIB;
        assert_eq!(devices("microvm-linux:1cpu"), (mib, false, false));
        assert_eq!(devices("microvm-linux:with-block"), (mib, false, true));
        assert_eq!(devices("microvm-linux:with-net"), (mib, true, false));
        for name in ["microvm-linux:with-block", "microvm-linux:with-net"] {
            assert_eq!(of(name).compared, Compared::Over("microvm-linux:1cpu".into()));
        }
    }

    #[test]
    fn the_smallest_machine_differs_from_others_of_its_size_in_what_stands_behind_its_memory() {
        let rungs = all(&microvm_linux::Options::default());
        for (target, mib) in [("microvm", SIZES_MIB[0]), ("microvm-linux", LINUX_SIZES_MIB[0])] {
            let base = format!("{target}:{mib}MiB");
            let of = |name: &str| rungs.iter().find(|rung| rung.name == name).expect("a rung of that name");
            assert_eq!((of(&base).mem_mib(), of(&base).backing()), (Some(mib), Backing::Untouched));
            for (kind, backing, _) in BACKINGS {
                assert_eq!(fills_memory(&format!("{target}:{kind}")), backing == Backing::Prefaulted);
                let rung = of(&format!("{target}:{kind}"));
                assert_eq!((rung.mem_mib(), rung.backing()), (Some(mib), backing));
                assert_eq!(rung.compared, Compared::Over(base.clone()));
            }
        }
    }

    #[test]
    fn a_blank_disk_can_be_opened_by_its_path_as_long_as_it_is_there() {
        let disk = blank_disk().unwrap();
        let path = disk.path();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        assert!(file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == DISK_BYTES));
    }

    #[test]
    fn a_machine_larger_than_the_host_is_skipped_with_the_reason() {
        let how = How::Microvm { mem_mib: u64::MAX >> 20, backing: Backing::default() };
        let rung = Rung { name: "microvm:huge".into(), compared: Compared::Alone, how };
        assert!(rung.probe().is_err_and(|reason| reason.0.contains("this host has")));
    }
}
