//! From a config to the list of steps, in the order in which they must be made.

use crate::capabilities::{cap_data, of_caller};
use crate::config::Config;
use crate::error::PrepareError;
use crate::given::Given;
use crate::idmap;
use crate::isolation::{Isolation, Layer};
use crate::kernel;
use crate::options::{Network, Options};
use crate::plan::{OOM_SCORE, Op};
use crate::prepare::{Root, c_string};
use crate::program::Found;
use crate::rootfs;
use crate::seccomp;
use crate::timeline::Phase;
use crate::veth::InnerEnd;

/// `__NEW_UTS_LEN`: the longest host name.
const HOSTNAME_MAX: usize = 64;
/// The host name of who has asked for none.
const HOSTNAME: &str = "container";

/// The flag to clone this layer with; `None` for those that are no namespace or are entered later by the child.
///
/// A cgroup namespace has the group of its maker as its root. Where the instance gets a group, the namespace must be made
/// when the child is in it. A time namespace can only be entered by the exec that follows, by a
/// child that shares its memory with the caller.
fn in_clone(layer: Layer, has_group: bool) -> Option<libc::c_int> {
    match layer {
        Layer::Cgroup if has_group => None,
        Layer::Time => None,
        layer => layer.clone_flag(),
    }
}

/// All flags to clone with.
pub(crate) fn clone_flags(isolation: Isolation, has_group: bool) -> libc::c_int {
    isolation.layers().filter_map(|layer| in_clone(layer, has_group)).fold(0, |flags, flag| flags | flag)
}

/// What instances get beside their layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Granted {
    /// A control group.
    pub(crate) has_group: bool,
    /// Ranges of users and groups, written by the [`aide`](crate::aide).
    pub(crate) ranges: bool,
    /// A root that is built beside the rest.
    pub(crate) apart: bool,
}

/// The list of steps, in the order in which they must be made.
pub(crate) fn steps(
    config: &Config,
    isolation: Isolation,
    mounts: Mounts,
    lower: Option<&Root>,
    given: Granted,
) -> Result<Vec<Op>, PrepareError> {
    let options = &config.options;
    let has = |layer| isolation.has(layer);
    let Granted { has_group, ranges, apart } = given;
    let veth = match &options.network {
        Network::Veth(veth) => Some(veth),
        _ => None,
    };
    let waits = ranges || veth.is_some() || config.network_beside;
    let mut ops = vec![Op::Mark(Phase::Clone)];
    let mark = |ops: &mut Vec<Op>, phase| {
        if !isolation.is_none() || (has_group && phase == Phase::Cgroup) {
            ops.push(Op::Mark(phase));
        }
    };
    if waits {
        // Who is waited for dies with the caller: so must the child.
        ops.extend([Op::DieWithCaller(true), Op::CallerAlive]);
    }
    if ranges {
        ops.push(Op::AwaitMaps);
    } else if has(Layer::User) {
        let (uid, gid) = options.user.as_ref().map_or((0, 0), |user| (user.uid, user.gid));
        ops.extend(idmap::single(uid, gid));
    }
    if veth.is_some() {
        ops.push(Op::AskLink);
    }
    if let Some(value) = options.oom_score_adj {
        ops.push(Op::WriteFile { path: OOM_SCORE, content: value.to_string().into_bytes() });
    }
    if has(Layer::Uts) {
        let hostname = config.hostname.as_deref().unwrap_or(HOSTNAME);
        let length = hostname.len();
        if length == 0 || length > HOSTNAME_MAX {
            return Err(PrepareError::HostnameLength { length, max: HOSTNAME_MAX });
        }
        ops.push(Op::Hostname(hostname.as_bytes().to_owned()));
    } else if config.hostname.is_some() {
        return Err(PrepareError::NeedsLayer { what: "a host name", layer: Layer::Uts.name() });
    }
    if has(Layer::Time) {
        // "fs/exec: switch timens when a task gets a new mm"; before that, it takes a child that shares no memory with us.
        if !kernel::is_at_least("6.3") {
            return Err(PrepareError::TimeNamespace);
        }
        ops.push(Op::Unshare(libc::CLONE_NEWTIME));
    }
    mark(&mut ops, Phase::Namespaces);
    if has_group {
        ops.push(Op::JoinGroups);
        if has(Layer::Cgroup) {
            ops.push(Op::Unshare(libc::CLONE_NEWCGROUP));
        }
    }
    mark(&mut ops, Phase::Cgroup);
    if has(Layer::Mount) {
        let Mounts { early, root, late } = mounts;
        ops.extend(early);
        ops.extend(root);
        if apart {
            ops.push(Op::Enter(libc::CLONE_NEWNS | libc::CLONE_NEWNET));
            ops.push(Op::Mark(Phase::Mounts));
        }
        ops.extend(late);
        ops.push(Op::Mark(Phase::Pivot));
    }
    if let Some(user) = &options.user {
        user.check()?;
    }
    if let Some(workdir) = &options.workdir {
        let is_missing = |root: &Root| root.overlay && !root.has_folder(workdir);
        if options.make_workdir && lower.is_some_and(is_missing) {
            let folders: Vec<_> = workdir.ancestors().filter(|path| path.file_name().is_some()).collect();
            for folder in folders.into_iter().rev() {
                ops.push(Op::Mkdir { path: c_string("the working directory", folder)?, mode: 0o755 });
            }
        }
        ops.push(Op::Chdir(c_string("the working directory", workdir)?));
    }
    if veth.is_some() {
        ops.push(Op::AwaitLink);
    }
    if config.network_beside && !apart {
        ops.push(Op::Enter(libc::CLONE_NEWNET));
    }
    if options.sys {
        if let Some(layer) = [Layer::Mount, Layer::Net].into_iter().find(|&layer| !has(layer)) {
            return Err(PrepareError::NeedsLayer { what: "a /sys", layer: layer.name() });
        }
        ops.extend(rootfs::sys(has(Layer::User)));
    }
    if veth.is_some() || config.network_beside {
        mark(&mut ops, Phase::Network);
    }
    if options.network != Network::None {
        if !has(Layer::Net) {
            return Err(PrepareError::NeedsLayer { what: "a network", layer: Layer::Net.name() });
        }
        ops.push(Op::Loopback);
    }
    ops.extend(veth.map(|veth| Op::InnerEnd(InnerEnd::new(veth))));
    if has(Layer::Session) {
        ops.push(Op::NewSession);
    }
    ops.extend(options.rlimits.iter().map(|&limit| Op::Rlimit(limit)));
    ops.push(Op::Stdio);
    ops.push(Op::CloseOthers);
    ops.push(Op::Signals);
    let filter = has(Layer::Seccomp).then(|| Op::Seccomp(filter(options)));
    // A filter can be installed under no_new_privs, or by CAP_SYS_ADMIN, which is about to go. It refuses none of the
    // calls that follow either way, but each passes through it: late is better.
    let (early, late) = if has(Layer::NoNewPrivs) { (None, filter) } else { (filter, None) };
    ops.extend(early);
    if has(Layer::Capabilities) {
        ops.push(Op::DropBounding(options.capabilities.missing()));
    }
    if let Some(user) = &options.user {
        ops.push(Op::BecomeUser { user: user.clone(), set_groups: ranges || !has(Layer::User) });
    }
    if has(Layer::Capabilities) {
        let is_root = options.user.as_ref().is_none_or(|user| user.uid == 0);
        let kept = if is_root { options.capabilities.bits() & available(has(Layer::User)) } else { 0 };
        ops.push(Op::Capabilities(cap_data(kept)));
    }
    if has(Layer::NoNewPrivs) {
        ops.push(Op::NoNewPrivs);
    }
    if config.die_with_caller {
        ops.extend([Op::DieWithCaller(true), Op::CallerAlive]);
    } else if waits {
        ops.push(Op::DieWithCaller(false));
    }
    ops.extend(late);
    Ok(ops)
}

/// The steps to a root, in three parts that follow one another.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    /// By the child, while it sees the caller's mounts: proc, which a user namespace may make only while another is seen.
    pub(crate) early: Vec<Op>,
    /// From the caller's mounts to the new root; none of it is of the child's own processes where that is to be built
    /// [beside](crate::beside) the rest.
    pub(crate) root: Vec<Op>,
    /// By the child, in the new root.
    pub(crate) late: Vec<Op>,
}

impl Mounts {
    /// `apart`: the root is built beside the rest.
    pub(crate) fn new(
        config: &Config,
        isolation: Isolation,
        program: &Found,
        lower: Option<&Root>,
        apart: bool,
    ) -> Result<Self, PrepareError> {
        let options = &config.options;
        if !isolation.has(Layer::Mount) {
            return Ok(Self::default());
        }
        let (user_namespace, own_pids) = (isolation.has(Layer::User), isolation.has(Layer::Pid));
        let (binds, proc, terminals, bytes) =
            (options.binds.as_slice(), options.proc(), options.terminals(), config.tmp_bytes);
        let sys = options.sys;
        if bytes == 0 {
            // To tmpfs that means without a limit.
            return Err(PrepareError::LimitValue { limit: "size of the file system in memory", value: 0 });
        }
        let mut mounts = if let Some(root) = lower {
            let (lower, overlay) = (root.lower(), root.overlay);
            Given { lower, user_namespace, own_pids, bytes, binds, proc, terminals, overlay, sys }.build()?
        } else {
            let program = program.path();
            rootfs::Root { program, user_namespace, own_pids, bytes, binds, proc, terminals, sys, apart }
                .build()?
        };
        if sys && user_namespace {
            mounts.early.push(rootfs::sys_early());
        }
        Ok(mounts)
    }
}

/// The filter that was asked for.
fn filter(options: &Options) -> Vec<libc::sock_filter> {
    options.seccomp.as_ref().map_or_else(seccomp::compile, |profile| profile.filter.clone())
}

/// The capabilities that the child has to choose from: all in a user namespace of its own, the caller's otherwise.
fn available(user_namespace: bool) -> u64 {
    if user_namespace { u64::MAX } else { of_caller().map_or(u64::MAX, |own| own.permitted) }
}
