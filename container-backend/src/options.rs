//! What an instance may be given or denied beyond its layers of isolation. What is not asked for costs a start nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::capabilities::Capabilities;
use crate::config::Config;
use crate::error::PrepareError;
use crate::idmap::IdMaps;
use crate::image::Image;
use crate::seccomp::Profile;
use crate::veth::Veth;

/// The root file system of an instance with the layer [`Mount`](crate::Layer::Mount).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Rootfs {
    /// The least that a static program needs, made in memory: the program, `/proc`, `/dev`, `/tmp`.
    #[default]
    Generated,
    /// A folder of the host, under a layer in memory that takes all changes and is thrown away at the end.
    Folder(PathBuf),
    /// An unpacked archive or image, under such a layer.
    Image(Arc<Image>),
}

/// A file or folder of the host that is seen inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Path on the host.
    pub host: PathBuf,
    /// Absolute path inside.
    pub inside: PathBuf,
    /// Whether the program may only read it.
    pub read_only: bool,
}

/// Whom the program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// What is in the network namespace of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// Nothing that is up.
    #[default]
    None,
    /// The loopback device, up: 127.0.0.1 and `::1`.
    Loopback,
    /// The loopback device, up, and one end of a pair, whose other end is outside.
    Veth(Veth),
}

/// How `/proc` is protected. (Root inside is root of the host where there is no user namespace, and `/proc/sys` and
/// `/proc/sysrq-trigger` go by the user, not by capabilities.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proc {
    /// All of it is read-only: one mount, the least cost.
    ReadOnly,
    /// As engines do it: some paths are covered, some are read-only, the rest can be written to. Some dozen mounts.
    Masked,
}

/// A resource limit of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// The limit in force.
    pub soft: u64,
    /// How far the program itself may raise it.
    pub hard: u64,
}

/// Names of `ulimit`s as the engines spell them, with their `RLIMIT_*`.
const RLIMITS: [(&str, u32); 15] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

impl Rlimit {
    /// The names that [`Rlimit::parse`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RLIMITS.iter().map(|entry| entry.0)
    }

    /// Its name, as the engines spell it.
    pub(crate) fn name(self) -> &'static str {
        RLIMITS.iter().find(|entry| entry.1 == self.resource).map_or("of this number", |entry| entry.0)
    }

    /// The caller's own limit of this resource.
    pub(crate) fn present(self) -> Option<Self> {
        let mut values = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: getrlimit writes one rlimit.
        let found = unsafe { libc::getrlimit(self.resource, &raw mut values) } == 0;
        found.then_some(Self { soft: values.rlim_cur, hard: values.rlim_max, ..self })
    }

    /// `NAME=SOFT[:HARD]`, as the engines' `--ulimit`; `unlimited` (or -1) for no limit.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, values) = text.split_once('=')?;
        let resource = RLIMITS.iter().find(|(known, _)| *known == name)?.1;
        let number = |text: &str| match text {
            "unlimited" | "-1" => Some(libc::RLIM_INFINITY),
            digits => digits.parse().ok(),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (number(soft)?, number(hard)?);
        (soft <= hard).then_some(Self { resource, soft, hard })
    }
}

impl Bind {
    /// `HOST:INSIDE[:ro]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (text, read_only) = match text.strip_suffix(":ro") {
            Some(rest) => (rest, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        let (host, inside) = text.rsplit_once(':')?;
        (!host.is_empty() && inside.starts_with('/')).then(|| Self {
            host: host.into(),
            inside: inside.into(),
            read_only,
        })
    }
}

impl User {
    /// `UID[:GID]`; without a group it is 0, as with the engines.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
        let user = Self { uid: uid.parse().ok()?, gid: gid.parse().ok()?, groups: Vec::new() };
        user.check().ok().map(|()| user)
    }

    /// Refuses -1, by which setresuid(2) and setresgid(2) leave things as they are.
    pub(crate) fn check(&self) -> Result<(), PrepareError> {
        let mut numbers = [self.uid, self.gid].into_iter().chain(self.groups.iter().copied());
        match numbers.find(|&number| number == u32::MAX) {
            Some(number) => Err(PrepareError::UserNumber { number }),
            None => Ok(()),
        }
    }
}

/// The settings of this module, as they stand in a [`Config`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) rootfs: Rootfs,
    pub(crate) binds: Vec<Bind>,
    pub(crate) workdir: Option<PathBuf>,
    /// Whether that is made where it is not there: an image's own, as with the engines.
    pub(crate) make_workdir: bool,
    pub(crate) user: Option<User>,
    pub(crate) capabilities: Capabilities,
    pub(crate) seccomp: Option<Arc<Profile>>,
    pub(crate) proc: Option<Proc>,
    pub(crate) terminals: Option<bool>,
    pub(crate) sys: bool,
    pub(crate) network: Network,
    pub(crate) id_maps: IdMaps,
    pub(crate) init: bool,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) oom_score_adj: Option<i32>,
}

impl Options {
    /// Whether the root is one that somebody has given, for programs of any kind.
    pub(crate) fn root_is_given(&self) -> bool {
        !matches!(self.rootfs, Rootfs::Generated)
    }

    /// How /proc is protected: unless said otherwise, at the least cost in a generated root, as engines do in any other.
    pub(crate) fn proc(&self) -> Proc {
        self.proc.unwrap_or(if self.root_is_given() { Proc::Masked } else { Proc::ReadOnly })
    }

    /// Whether there is /dev/pts: unless said otherwise, in a given root only.
    pub(crate) fn terminals(&self) -> bool {
        self.terminals.unwrap_or(self.root_is_given())
    }
}

impl Config {
    /// Sets the root file system; [`Rootfs::Generated`] by default.
    ///
    /// An image's environment, working directory and user become the instance's, where they are not set (before or after).
    /// Its working directory is made where it is not there, as with the engines.
    #[must_use]
    pub fn rootfs(mut self, rootfs: Rootfs) -> Self {
        self.options.rootfs = rootfs;
        self
    }

    /// Lets a file or folder of the host be seen inside.
    #[must_use]
    pub fn bind(mut self, bind: Bind) -> Self {
        self.options.binds.push(bind);
        self
    }

    /// Sets the working directory, as seen from inside.
    #[must_use]
    pub fn workdir(mut self, path: impl AsRef<Path>) -> Self {
        self.options.workdir = Some(path.as_ref().to_owned());
        self
    }

    /// Sets whom the program runs as. Other than 0, it has no capabilities.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.options.user = Some(user);
        self
    }

    /// Sets the capabilities that are left by the layer `Capabilities`; those of the engines by default.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.options.capabilities = capabilities;
        self
    }

    /// Sets the filter of the layer `Seccomp`; by default what the engines' default profile amounts to.
    #[must_use]
    pub fn seccomp(mut self, profile: Profile) -> Self {
        self.options.seccomp = Some(Arc::new(profile));
        self
    }

    /// Sets how `/proc` is protected; by default [`Proc::ReadOnly`] in a generated root, [`Proc::Masked`] in any other.
    #[must_use]
    pub fn proc(mut self, proc: Proc) -> Self {
        self.options.proc = Some(proc);
        self
    }

    /// Sets whether there is a `/dev/pts` with `/dev/ptmx`; by default not in a generated root, but in any other.
    #[must_use]
    pub fn terminals(mut self, terminals: bool) -> Self {
        self.options.terminals = Some(terminals);
        self
    }

    /// Sets whether there is a read-only `/sys`, covered where engines do so; false by default, since it costs some per cent of a
    /// start. It needs a network namespace of the instance's own: what `/sys` shows of the network is what is in there.
    #[must_use]
    pub fn sys(mut self, sys: bool) -> Self {
        self.options.sys = sys;
        self
    }

    /// Sets what is in the network namespace; nothing by default.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.options.network = network;
        self
    }

    /// Sets which users and groups there are in the layer `User`.
    #[must_use]
    pub fn id_maps(mut self, maps: IdMaps) -> Self {
        self.options.id_maps = maps;
        self
    }

    /// Whether process 1 is a tiny init, which reaps orphans and passes signals on to the program, process 2; by default the
    /// program is process 1. Needs the layer [`Pid`](crate::Layer::Pid).
    ///
    /// A program that is killed by signal N then ends the instance with the code 128 + N, and counts as two processes. Under a
    /// filter that refuses the init what it needs (`rt_sigtimedwait`, `wait4`, `kill`), the instance ends with the code 125.
    #[must_use]
    pub fn init(mut self, init: bool) -> Self {
        self.options.init = init;
        self
    }

    /// Adds a resource limit.
    #[must_use]
    pub fn rlimit(mut self, limit: Rlimit) -> Self {
        self.options.rlimits.push(limit);
        self
    }

    /// Sets how readily the kernel kills the instance when memory is short: -1000 never to 1000 first.
    #[must_use]
    pub fn oom_score_adj(mut self, value: i32) -> Self {
        self.options.oom_score_adj = Some(value);
        self
    }

    /// What is still open is taken from the image.
    pub(crate) fn complete(&mut self) -> Result<(), PrepareError> {
        let Rootfs::Image(image) = &self.options.rootfs else { return Ok(()) };
        let image = Arc::clone(image);
        let mut env: Vec<(OsString, OsString)> = image.env.clone();
        env.retain(|(key, _)| !self.env.iter().any(|(own, _)| own == key));
        env.append(&mut self.env);
        self.env = env;
        if self.options.workdir.is_none() {
            self.options.workdir.clone_from(&image.workdir);
            self.options.make_workdir = true;
        }
        if let (None, Some(user)) = (&self.options.user, &image.unknown_user) {
            return Err(PrepareError::ImageUser { user: user.clone() });
        }
        self.options.user = self.options.user.take().or_else(|| image.user.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_the_engines_read_them() {
        let bind = Bind::parse("/a:b:/c:ro").expect("a bind");
        assert_eq!((bind.host.as_path(), bind.inside.as_path()), (Path::new("/a:b"), Path::new("/c")));
        assert!(bind.read_only);
        assert_eq!(Bind::parse("/a:c"), None, "a relative place");
        assert_eq!(User::parse("5:6").map(|user| (user.uid, user.gid)), Some((5, 6)));
        assert_eq!(User::parse("5").map(|user| user.gid), Some(0));
        for nobody in ["-1", "4294967295", "0:4294967295"] {
            assert_eq!(User::parse(nobody), None, "{nobody}");
        }
        let limit = Rlimit::parse("nofile=10:20").expect("a limit");
        assert_eq!((limit.resource, limit.soft, limit.hard), (libc::RLIMIT_NOFILE, 10, 20));
        assert_eq!(Rlimit::parse("nofile=20:10"), None);
        assert_eq!(Rlimit::parse("stack=-1").map(|limit| limit.hard), Some(libc::RLIM_INFINITY));
        assert_eq!(Rlimit::parse("nothing=1"), None);
    }
}
