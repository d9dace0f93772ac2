//! Which hierarchy serves each limit, and what is written where.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cgroup::Group;
use crate::cgroup::find::{Hierarchies, Hierarchy, Version, words};
use crate::cgroup::janitor::Janitor;
use crate::config::Limits;
use crate::cpus::cpu_ranges;
use crate::error::{CgroupError, PrepareError};

/// The period over which CPU time is shared out, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// One thousandth of a CPU, in microseconds a period.
const CPU_MILLI_US: u64 = CPU_PERIOD_US / 1000;
/// The least CPU quota that the kernel takes (`min_cfs_quota_period`: 1 ms), in thousandths.
const CPU_MIN_MILLIS: u64 = 10;
/// The least memory limit. Not only because nothing runs in less: until it executes, the child shares the caller's memory,
/// and the kernel's OOM killer ends everyone who shares its victim's. What a start charges to the group by then is less than
/// 64 KiB (`exec` fails for want of memory at 32 KiB, and the program itself is killed at 64); this is far above.
const MEMORY_MIN_BYTES: u64 = 1 << 20;

/// One file to be written in a new group.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) file: &'static CStr,
    pub(crate) value: String,
    /// Whether a kernel without this file will do (swap accounting may be off).
    pub(crate) optional: bool,
}

/// A directory under which an instance gets a group, and the limits set there.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) version: Version,
    pub(crate) path: PathBuf,
    pub(crate) dir: File,
    pub(crate) settings: Vec<Setting>,
    controllers: Vec<String>,
}

impl Base {
    /// Whether `file` can be in a group here: in v1 it begins with the name of one of the hierarchy's controllers.
    pub(crate) fn may_have(&self, file: &CStr) -> bool {
        let controller = file.to_bytes().split(|&byte| byte == b'.').next().unwrap_or_default();
        self.version == Version::V2 || self.controllers.iter().any(|name| name.as_bytes() == controller)
    }
}

/// Everything about an instance's groups that does not depend on the instance.
#[derive(Debug)]
pub(crate) struct GroupPlan {
    pub(crate) bases: Vec<Arc<Base>>,
    pub(crate) janitor: Arc<Janitor>,
    /// The one that was made to see whether it can be, where the first start is to have that.
    tried: Mutex<Option<Group>>,
}

impl GroupPlan {
    /// Works out the groups for `limits` and makes one once, to see whether the host permits it. `keep`: the first start gets that one.
    ///
    /// The inner error is the reason why there can be no limits here.
    pub(crate) fn new(limits: &Limits, keep: bool) -> Result<Result<Self, String>, PrepareError> {
        check(limits)?;
        let bases = match Hierarchies::find() {
            Ok(found) => choose(&found, limits),
            Err(error) => Err(format!("cannot read what control groups there are: {error}")),
        };
        let bases = match bases {
            Ok(bases) => bases,
            Err(reason) => return Ok(Err(reason)),
        };
        let paths: Vec<&Path> = bases.iter().map(|base| base.path.as_path()).collect();
        let janitor = Janitor::shared(&paths).map_err(PrepareError::Janitor)?;
        let plan = Self { bases, janitor, tried: Mutex::default() };
        let tried = plan.make().and_then(|mut group| {
            if keep {
                return Ok(Some(group));
            }
            group.remove().map(|()| None)
        });
        if !keep {
            plan.janitor.executed().map_err(PrepareError::Janitor)?;
        }
        Ok(match tried {
            Ok(tried) => Ok(Self { tried: Mutex::new(tried), ..plan }),
            Err(error) => Err(with_source(&error)),
        })
    }

    /// A plan for one v2 group that sets no limit; `None` where there is no v2 hierarchy to make a group in.
    #[cfg(test)]
    pub(crate) fn without_limits_in_v2() -> std::io::Result<Option<Self>> {
        let found = Hierarchies::find()?;
        let Some(hierarchy) = found.all.iter().find(|h| h.version == Version::V2) else { return Ok(None) };
        let (version, path) = (hierarchy.version, hierarchy.own.clone());
        let dir = File::open(&path)?;
        let janitor = Janitor::shared(&[&path])?;
        let plan = Self {
            bases: vec![Arc::new(Base { version, path, dir, settings: Vec::new(), controllers: Vec::new() })],
            janitor,
            tried: Mutex::default(),
        };
        Ok(plan.make().is_ok().then_some(plan))
    }

    /// Makes the groups of one instance.
    pub(crate) fn make(&self) -> Result<Group, CgroupError> {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(tried) = tried else { return Group::make(&self.bases, &self.janitor) };
        // It has executed beside the rest of `prepare`, most often, and is not waited for: the whole command would.
        let path = || tried.paths().into_iter().next().unwrap_or_default();
        let action = "start the process that removes, should the caller be killed,";
        match self.janitor.failed() {
            None => Ok(tried),
            Some(source) => Err(CgroupError { action, path: path(), source }),
        }
    }
}

/// Refuses limits that no kernel takes.
fn check(limits: &Limits) -> Result<(), PrepareError> {
    let lowest = [
        ("memory", limits.memory_bytes, MEMORY_MIN_BYTES),
        ("cpu", limits.cpu_millis, CPU_MIN_MILLIS),
        ("pids", limits.pids, 1),
    ];
    for (limit, value, lowest) in lowest {
        if let Some(value) = value.filter(|value| !(lowest..=i64::MAX.cast_unsigned() / 1000).contains(value))
        {
            return Err(PrepareError::LimitValue { limit, value });
        }
    }
    // 1 to 10000 (Documentation/admin-guide/cgroup-v2.rst).
    if let Some(value) = limits.cpu_weight.filter(|weight| !(1..=10_000).contains(weight)) {
        return Err(PrepareError::LimitValue { limit: "cpu weight", value });
    }
    if limits.cpuset == Some(0) {
        return Err(PrepareError::LimitValue { limit: "cpuset", value: 0 });
    }
    if limits.io.is_some_and(|limit| limit.bounds().any(|(.., value)| value == 0)) {
        return Err(PrepareError::LimitValue { limit: "io", value: 0 });
    }
    if let Some(value) = limits.swap_bytes.filter(|_| limits.memory_bytes.is_none()) {
        return Err(PrepareError::LimitValue { limit: "swap (without one of memory)", value });
    }
    Ok(())
}

/// The bases for `limits`, or why there are none.
fn choose(found: &Hierarchies, limits: &Limits) -> Result<Vec<Arc<Base>>, String> {
    let mut chosen: Vec<(&Hierarchy, PathBuf, Vec<Setting>)> = Vec::new();
    let asked = controllers(limits);
    for &controller in &asked {
        // What is io in v2 was blkio in v1.
        let old = || found.with_controller("blkio").filter(|_| controller == "io");
        let hierarchy = found
            .with_controller(controller)
            .or_else(old)
            .ok_or_else(|| format!("no control group hierarchy here has the controller {controller}"))?;
        if let Some(cpus) = limits.cpuset.filter(|_| controller == "cpuset") {
            are_there(cpus, &parent_for(hierarchy, &asked)?)?;
        }
        let settings = settings(hierarchy, controller, limits);
        match chosen.iter_mut().find(|(other, ..)| other.mount == hierarchy.mount) {
            Some((.., all)) => all.extend(settings),
            None => chosen.push((hierarchy, parent_for(hierarchy, &asked)?, settings)),
        }
    }
    let open = |(hierarchy, path, settings): (&Hierarchy, PathBuf, Vec<Setting>)| {
        let dir = File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC).open(&path);
        let dir = dir.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        let (version, controllers) = (hierarchy.version, hierarchy.controllers.clone());
        Ok(Arc::new(Base { version, path, dir, settings, controllers }))
    };
    chosen.into_iter().map(open).collect()
}

/// The controllers that these limits need.
fn controllers(limits: &Limits) -> Vec<&'static str> {
    let wanted = [
        ("memory", limits.memory_bytes.is_some()),
        ("cpu", limits.cpu_millis.is_some() || limits.cpu_weight.is_some()),
        ("pids", limits.pids.is_some()),
        ("cpuset", limits.cpuset.is_some()),
        ("io", limits.io.is_some()),
    ];
    wanted.into_iter().filter_map(|(name, wanted)| wanted.then_some(name)).collect()
}

/// What is written for the limits of one controller.
fn settings(hierarchy: &Hierarchy, controller: &str, limits: &Limits) -> Vec<Setting> {
    let setting = |file, value: String, optional| Setting { file, value, optional };
    let v1 = hierarchy.version == Version::V1;
    let mut all = Vec::new();
    match controller {
        "memory" => {
            let memory = limits.memory_bytes.unwrap_or(u64::MAX >> 1);
            let swap = limits.swap_bytes.unwrap_or(0);
            if v1 {
                let both = memory.saturating_add(swap).min(u64::MAX >> 1);
                all.push(setting(c"memory.limit_in_bytes", memory.to_string(), false));
                all.push(setting(c"memory.memsw.limit_in_bytes", both.to_string(), swap == 0));
            } else {
                all.push(setting(c"memory.max", memory.to_string(), false));
                all.push(setting(c"memory.swap.max", swap.to_string(), swap == 0));
            }
        }
        "cpu" => {
            if let Some(millis) = limits.cpu_millis {
                let quota = millis.saturating_mul(CPU_MILLI_US);
                // The period of a new v1 group is the default.
                all.push(match v1 {
                    true => setting(c"cpu.cfs_quota_us", quota.to_string(), false),
                    false => setting(c"cpu.max", format!("{quota} {CPU_PERIOD_US}"), false),
                });
            }
            if let Some(weight) = limits.cpu_weight {
                all.push(match v1 {
                    // The default is 1024 shares there, and a weight of 100 here.
                    true => setting(c"cpu.shares", (weight * 1024 / 100).max(2).to_string(), false),
                    false => setting(c"cpu.weight", weight.to_string(), false),
                });
            }
        }
        "pids" => all.extend(limits.pids.map(|pids| setting(c"pids.max", pids.to_string(), false))),
        "io" => {
            for limit in limits.io.iter() {
                let device = format!("{}:{}", limit.device.0, limit.device.1);
                if v1 {
                    all.extend(
                        limit.bounds().map(|(_, file, n)| setting(file, format!("{device} {n}"), false)),
                    );
                } else {
                    let bounds = limit.bounds().map(|(name, _, n)| format!(" {name}={n}"));
                    all.push(setting(c"io.max", format!("{device}{}", bounds.collect::<String>()), false));
                }
            }
        }
        "cpuset" => {
            if v1 {
                // A new v1 group has neither, and takes no process before it has both.
                let mems = std::fs::read_to_string(hierarchy.own.join("cpuset.mems"));
                let mems = mems.map_or_else(|_| "0".to_owned(), |mems| mems.trim().to_owned());
                all.push(setting(c"cpuset.mems", mems, false));
            }
            all.extend(limits.cpuset.map(|cpus| setting(c"cpuset.cpus", listed(cpus), false)));
        }
        _ => {}
    }
    all
}

/// Bit N stands for CPU N: as the kernel takes it, `0,2,3`.
fn listed(cpus: u128) -> String {
    let numbers = (0..u128::BITS).filter(|cpu| cpus & 1 << cpu != 0);
    numbers.map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",")
}

/// Whether a group has all of these CPUs, as far as it says which: the kernel's own answer is only that a number is out of range.
fn are_there(cpus: u128, group: &Path) -> Result<(), String> {
    let files = ["cpuset.cpus.effective", "cpuset.effective_cpus"];
    let Some(list) = files.iter().find_map(|name| std::fs::read_to_string(group.join(name)).ok()) else {
        return Ok(());
    };
    let Some(have) = cpu_ranges(&list) else { return Ok(()) };
    let missing = |cpu: &u32| cpus & 1 << cpu != 0 && !have.iter().any(|range| range.contains(cpu));
    let missing = (0..u128::BITS).filter(missing).fold(0, |missing, cpu| missing | 1 << cpu);
    match missing {
        0 => Ok(()),
        _ => Err(format!(
            "CPU {} is asked for, and {} has the CPUs {}",
            listed(missing),
            group.display(),
            list.trim()
        )),
    }
}

/// The group under which instances get theirs.
///
/// v1: the caller's own. v2: a group with processes in it (the caller's, unless it is the root) cannot hand controllers
/// to groups below it, so it is the nearest one, from the caller's upwards, that already hands down all that are needed;
/// as every engine does, they are enabled in the root group if the caller is there and they are not.
fn parent_for(hierarchy: &Hierarchy, controllers: &[&str]) -> Result<PathBuf, String> {
    if hierarchy.version == Version::V1 {
        return Ok(hierarchy.own.clone());
    }
    let needed: Vec<&&str> =
        controllers.iter().filter(|c| hierarchy.controllers.iter().any(|have| have == **c)).collect();
    let hands_down = |group: &Path| {
        let enabled = words(&group.join("cgroup.subtree_control"));
        needed.iter().all(|c| enabled.iter().any(|have| have == **c))
    };
    for group in hierarchy.own.ancestors().take_while(|group| group.starts_with(&hierarchy.mount)) {
        if hands_down(group) {
            return Ok(group.to_owned());
        }
    }
    if hierarchy.own == hierarchy.mount {
        let enable = needed.iter().map(|c| format!("+{c}")).collect::<Vec<_>>().join(" ");
        let file = hierarchy.own.join("cgroup.subtree_control");
        std::fs::write(&file, &enable)
            .map_err(|e| format!("cannot write {enable} to {}: {e}", file.display()))?;
        return Ok(hierarchy.own.clone());
    }
    let names = controllers.join(", ");
    Err(format!(
        "neither {} nor a group above it hands the controllers {names} down",
        hierarchy.own.display()
    ))
}

/// An error with its source in one line, for a reason.
fn with_source(error: &CgroupError) -> String {
    format!("{error}: {}", error.source)
}

/// A C string from a name made here, which has no zero byte in it.
pub(crate) fn name(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_written_as_the_kernel_reads_them() {
        assert_eq!(listed(0b1011), "0,1,3");
    }

    #[test]
    fn a_cpu_that_a_group_does_not_have_is_named_with_those_that_it_has() {
        let group = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(are_there(1 << 9, group.path()), Ok(()), "a group that does not say so");
        std::fs::write(group.path().join("cpuset.effective_cpus"), "0-1\n").expect("room for it");
        assert_eq!(are_there(0b11, group.path()), Ok(()));
        let said = are_there(0b1_0000_0010, group.path()).expect_err("there is no CPU 8");
        assert!(said.starts_with("CPU 8 is asked for") && said.ends_with("the CPUs 0-1"), "{said}");
    }
}
