//! What the host permits, found by doing it.

use std::fmt;

use crate::cgroup::{GroupPlan, Hierarchies, Kind};
use crate::config::{Config, Limits, Program};
use crate::error::SpawnError;
use crate::idmap::{IdMaps, Ranges};
use crate::isolation::{Isolation, Layer};

/// Whether the host lets the caller have something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// It does.
    Granted,
    /// It does not, for this reason.
    Refused(String),
}

impl Permission {
    /// Whether it is granted.
    #[must_use]
    pub const fn is_granted(&self) -> bool {
        matches!(self, Self::Granted)
    }

    /// The reason of a refusal.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Granted => None,
            Self::Refused(reason) => Some(reason),
        }
    }

    fn from_error(error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        Self::Refused(reason)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason().unwrap_or("yes"))
    }
}

/// What this host permits the calling process.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Host {
    /// Whether the caller is root; if not, containers come with a user namespace.
    pub is_root: bool,
    /// A bare process, started as this crate does it.
    pub native: Permission,
    /// A whole container: every step of its start was made, up to the exec.
    pub container: Permission,
    /// Each layer by itself, in the order of [`Layer::ALL`].
    pub layers: Vec<(Layer, Permission)>,
    /// Which kinds of control groups are mounted.
    pub cgroups: Kind,
    /// A limit of each kind by itself: `memory`, `cpu`, `pids`.
    pub limits: Vec<(&'static str, Permission)>,
    /// The users that there are in a user namespace with ranges of them (`inside outside how-many`, and so on), as newuidmap(1) has
    /// mapped them for a rehearsal; else why there is the caller alone.
    pub id_ranges: Result<String, String>,
}

/// Finds out what the host permits, by starting children that end before they execute anything, and by making control
/// groups and removing them. Takes some milliseconds.
#[must_use]
pub fn probe() -> Host {
    // SAFETY: geteuid takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    let alone = |layer| (layer, rehearse(Isolation::none().with(layer)));
    let limits = [
        ("memory", Limits::none().memory_bytes(64 << 20)),
        ("cpu", Limits::none().cpu_millis(1000)),
        ("pids", Limits::none().pids(64)),
    ];
    Host {
        is_root,
        native: rehearse(Isolation::none()),
        container: rehearse(Isolation::container()),
        layers: Layer::ALL.into_iter().map(alone).collect(),
        cgroups: Hierarchies::find().map_or(Kind::None, |found| found.kind()),
        limits: limits.into_iter().map(|(name, limits)| (name, limit(&limits))).collect(),
        id_ranges: id_ranges(),
    }
}

fn id_ranges() -> Result<String, String> {
    let ranges = Ranges::find()?;
    let isolation = Isolation::none().with(Layer::User);
    match rehearse_with(isolation, |config| config.id_maps(IdMaps::Ranges)) {
        Permission::Granted => Ok(ranges.users()),
        Permission::Refused(reason) => Err(reason),
    }
}

/// A start without its exec. What would be executed is not looked at, so any program that exists will do.
fn rehearse(isolation: Isolation) -> Permission {
    rehearse_with(isolation, |config| config)
}

fn rehearse_with(isolation: Isolation, configure: impl FnOnce(Config) -> Config) -> Permission {
    let program = match std::fs::File::open("/proc/self/exe") {
        Ok(file) => Program::sealed(file.into()),
        Err(error) => return Permission::from_error(&error),
    };
    let prepared = match configure(Config::new(program).isolation(isolation)).prepare() {
        Ok(prepared) => prepared,
        Err(error) => return Permission::from_error(&error),
    };
    match prepared.rehearse() {
        Ok(()) => Permission::Granted,
        Err(error) => refusal(&error, isolation),
    }
}

/// The reason of a failed rehearsal, with what usually helps.
fn refusal(error: &SpawnError, isolation: Isolation) -> Permission {
    let Permission::Refused(mut reason) = Permission::from_error(error) else { return Permission::Granted };
    if matches!(error, SpawnError::Clone { .. }) && !isolation.is_none() {
        for (file, permissive) in [
            ("/proc/sys/kernel/unprivileged_userns_clone", "1"),
            ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0"),
        ] {
            if std::fs::read_to_string(file).is_ok_and(|value| value.trim() != permissive) {
                reason = format!("{reason} ({file} is not {permissive})");
            }
        }
    }
    Permission::Refused(reason)
}

fn limit(limits: &Limits) -> Permission {
    match GroupPlan::new(limits, false) {
        Ok(Ok(_)) => Permission::Granted,
        Ok(Err(reason)) => Permission::Refused(reason),
        Err(error) => Permission::from_error(&error),
    }
}
