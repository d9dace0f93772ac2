//! Options of `run` that are a container's; `microvm-linux` takes `--rootfs` and `--env` of them, and has `--disk` to itself.
//!
//! They are known to clap only when one of them is there (see [`crate::cli::parse`]): a plain start does not pay for them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use container_backend::{
    Address, Bind, Bounds, Capabilities, Config, IdMaps, Image, IoLimit, Isolation, Layer, Limits,
    Network as BackendNetwork, Proc as BackendProc, Profile, Rlimit, Rootfs, User, Veth, cpu_ranges,
};

use crate::error::{HarnessError, chain};
use crate::target::LaunchError;

/// What the container is given and denied.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of the target container")]
pub struct ContainerOptions {
    /// Root file system: a folder, a tar (docker export), an OCI image layout or a docker save archive. The program is then
    /// a path or name in it, or, with an image, may be left out. Changes are thrown away. The target microvm-linux takes a folder
    /// or an image of a disk (ext4)
    #[arg(long, value_name = "PATH")]
    pub rootfs: Option<PathBuf>,
    /// Let a file or folder of the host be seen inside
    #[arg(long, value_name = "HOST:INSIDE[:ro]", value_parser = bind)]
    pub bind: Vec<Bind>,
    /// Set an environment variable (also for microvm-linux)
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Whom to run as, in numbers
    #[arg(long, value_name = "UID[:GID]", value_parser = user)]
    pub user: Option<User>,
    /// Host name inside [default: container]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Only these namespaces: mnt, pid, net, ipc, uts, cgroup, user, time, separated by commas, or none
    #[arg(long, value_name = "LIST", value_parser = namespaces)]
    pub ns: Option<Isolation>,
    /// What is in the network namespace: none, loopback, veth or veth=INSIDE/BITS,OUTSIDE/BITS (a pair, one end of it
    /// outside; needs root), or host (no network namespace). Of microvm-linux: none, or tap (a card eth0 with an address in a
    /// network of four; the host has the one before it on a TAP device; needs root)
    #[arg(long, value_name = "KIND", value_parser = network)]
    pub network: Option<Network>,
    /// Give microvm-linux a disk whose contents are a file of the host, changes included unless :ro is said; can be repeated. The
    /// guest has it as /dev/vda and on, after the disk of a root
    #[arg(long, value_name = "FILE[:ro]", value_parser = disk)]
    pub disk: Vec<Disk>,
    /// Network namespace for the outer end of --network veth, for example /run/netns/NAME [default: ours]
    #[arg(long, value_name = "PATH", requires = "network")]
    pub network_peer: Option<PathBuf>,
    /// Make process 1 a tiny init that reaps orphans and passes signals on [default: the program is process 1]
    #[arg(long)]
    pub init: bool,
    /// Start it and leave it alone: its process number is said, and nothing of ours stays beside it. Not with limits
    #[arg(long)]
    pub detach: bool,
    /// Users and groups of the user namespace: single (the caller alone), ranges (of /etc/subuid, by newuidmap), or auto
    /// (ranges with --rootfs, where there are any) [default: auto]
    #[arg(long, value_name = "HOW", value_parser = id_maps)]
    pub id_maps: Option<IdMaps>,
    /// Change the capabilities that are left: +NAME, -NAME, +all, -all, separated by commas
    #[arg(long, value_name = "LIST", value_parser = capabilities, allow_hyphen_values = true)]
    pub cap: Option<Capabilities>,
    /// Seccomp profile in the engines' JSON format, or none
    #[arg(long, value_name = "FILE")]
    pub seccomp: Option<PathBuf>,
    /// How /proc is protected [default: masked with --rootfs, else read-only]
    #[arg(long, value_name = "HOW")]
    pub proc: Option<Proc>,
    /// Resource limit, for example nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = limit)]
    pub ulimit: Vec<Rlimit>,
    /// How readily the kernel kills it when memory is short, -1000 to 1000
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: Option<i32>,
    /// CPU time, in CPUs
    #[arg(long, value_name = "N", value_parser = cpus)]
    pub cpus: Option<u64>,
    /// Highest number of processes and threads
    #[arg(long, value_name = "N")]
    pub pids: Option<u64>,
    /// Share of the CPUs where others want them, too: 1 to 10000, 100 being usual
    #[arg(long, value_name = "N")]
    pub cpu_weight: Option<u64>,
    /// Only these CPUs, for example 0,2-3
    #[arg(long, value_name = "LIST", value_parser = cpuset)]
    pub cpuset: Option<u128>,
    /// Swap beside --mem [default: none]
    #[arg(long, value_name = "MIB", requires = "mem")]
    pub swap: Option<u64>,
    /// Bounds a second on the block device that is or holds PATH, for example /data:rbps=1048576,wiops=100 (rbps, wbps, riops,
    /// wiops)
    #[arg(long, value_name = "PATH:WHAT=N", value_parser = IoLimit::parse)]
    pub io: Option<IoLimit>,
    /// Most that its file system in memory takes
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub tmp_size: Option<u64>,
}

/// `--network`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The host's: no network namespace.
    Host,
    /// A namespace with this in it.
    Own(BackendNetwork),
    /// No namespace, but a network card of a machine with a kernel of its own.
    Tap,
}

/// `--disk`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The file that holds what is on it.
    pub file: PathBuf,
    /// Whether that stays as it is.
    pub read_only: bool,
}

/// `--proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Proc {
    /// All of it.
    ReadOnly,
    /// As engines do it: some paths covered, some read-only.
    Masked,
}

impl ContainerOptions {
    /// Sets the option to a value as clap would; `None` where it is not one of the common ones, is there already, or is wrong.
    pub(crate) fn set_plain(&mut self, option: &str, value: &str) -> Option<()> {
        match option {
            "--rootfs" if self.rootfs.is_none() => self.rootfs = Some(value.into()),
            "--workdir" if self.workdir.is_none() => self.workdir = Some(value.into()),
            "--hostname" if self.hostname.is_none() => self.hostname = Some(value.into()),
            "--user" if self.user.is_none() => self.user = Some(user(value).ok()?),
            "--network" if self.network.is_none() => self.network = Some(network(value).ok()?),
            "--cpus" if self.cpus.is_none() => self.cpus = Some(cpus(value).ok()?),
            "--pids" if self.pids.is_none() => self.pids = Some(value.parse().ok()?),
            "--bind" => self.bind.push(bind(value).ok()?),
            "--env" => self.env.push(pair(value).ok()?),
            _ => return None,
        }
        Some(())
    }

    /// Whether nothing is asked for that a machine with a kernel of its own does not have, too.
    #[must_use]
    pub fn fits_a_machine(&self) -> bool {
        // Not all fields can be compared; what they print can, also that of fields to come.
        let mut rest = Self { rootfs: None, env: Vec::new(), disk: Vec::new(), ..self.clone() };
        if matches!(rest.network, Some(Network::Tap | Network::Own(BackendNetwork::None))) {
            rest.network = None;
        }
        format!("{rest:?}") == format!("{:?}", Self::default())
    }

    /// Which option a container does not have, and what it has instead.
    #[must_use]
    pub fn of_machines_alone(&self) -> Option<&'static str> {
        if !self.disk.is_empty() {
            return Some("--disk is for microvm-linux; --bind lets a container see a file or folder");
        }
        (self.network == Some(Network::Tap))
            .then_some("--network tap is for microvm-linux; a container has none, loopback, veth or host")
    }

    /// Adds the bounds that control groups enforce.
    pub(crate) fn limits(&self, mut limits: Limits) -> Limits {
        if let Some(millis) = self.cpus {
            limits = limits.cpu_millis(millis);
        }
        if let Some(weight) = self.cpu_weight {
            limits = limits.cpu_weight(weight);
        }
        if let Some(cpus) = self.cpuset {
            limits = limits.cpuset(cpus);
        }
        if let Some(io) = self.io {
            limits = limits.io(io);
        }
        match self.swap {
            Some(mib) => limits.swap_bytes(mib.saturating_mul(1 << 20)),
            None => limits,
        }
    }

    /// The program's environment: the usual one, where nothing else was asked for, and what was.
    pub(crate) fn environment<'a>(
        &'a self,
        usual: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = |key: &str| self.env.iter().any(|(name, _)| name == key);
        let path = self.rootfs.is_some().then_some(container_backend::DEFAULT_PATH);
        let usual = usual.filter(move |(key, _)| !own(key));
        let usual = usual.map(move |(key, value)| (key, path.filter(|_| key == "PATH").unwrap_or(value)));
        usual.chain(self.env.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }

    /// The layers of isolation: a container's, but for what the options say.
    fn isolation(&self) -> Isolation {
        let mut isolation = self.ns.unwrap_or_else(Isolation::container);
        if self.network == Some(Network::Host) {
            isolation = isolation.without(Layer::Net);
        }
        if self.seccomp.as_ref().is_some_and(|file| file.as_os_str() == "none") {
            isolation = isolation.without(Layer::Seccomp);
        }
        isolation
    }

    /// The root that was asked for, unpacked if it is an archive.
    fn root(&self) -> Result<Rootfs, LaunchError> {
        let Some(path) = &self.rootfs else { return Ok(Rootfs::Generated) };
        if path.is_dir() && !Image::is_layout(path) {
            return Ok(Rootfs::Folder(path.clone()));
        }
        let image =
            Image::open(path, Bounds::default()).map_err(|error| LaunchError::Container(error.into()))?;
        Ok(Rootfs::Image(Arc::new(image)))
    }

    /// The container as these options want it; `argv` and `environment` are the program's.
    pub(crate) fn config(
        &self,
        mut config: Config,
        argv: &[OsString],
        environment: &[(&str, &str)],
    ) -> Result<Config, LaunchError> {
        let root = self.root()?;
        if self.rootfs.is_some() {
            let line = match &root {
                Rootfs::Image(image) => image.command_line(argv),
                _ => argv.to_vec(),
            };
            let Some((program, args)) = line.split_first() else {
                return Err(LaunchError::Unsupported("the image names no program: give one after --".into()));
            };
            config = Config::new(container_backend::Program::inside(program)).args(args);
        } else if argv.is_empty() {
            return Err(LaunchError::Unsupported("a program is needed after --".into()));
        }
        let from_image = |key: &str| match &root {
            Rootfs::Image(image) => image.env.iter().any(|(name, _)| name == key),
            _ => false,
        };
        config =
            config.envs(self.environment(environment.iter().copied().filter(|(key, _)| !from_image(key))));
        config = config.isolation(self.isolation()).rootfs(root);
        config = self.bind.iter().cloned().fold(config, Config::bind);
        config = self.ulimit.iter().copied().fold(config, Config::rlimit);
        if let Some(workdir) = &self.workdir {
            config = config.workdir(workdir);
        }
        if let Some(user) = &self.user {
            config = config.user(user.clone());
        }
        if let Some(hostname) = &self.hostname {
            config = config.hostname(hostname);
        }
        config = match (&self.network, &self.network_peer) {
            (Some(Network::Own(BackendNetwork::Veth(veth))), Some(peer)) => {
                config.network(BackendNetwork::Veth(veth.clone().namespace(peer)))
            }
            (_, Some(_)) => {
                return Err(LaunchError::Unsupported("--network-peer is for --network veth".into()));
            }
            (Some(Network::Own(network)), None) => config.network(network.clone()),
            (None | Some(Network::Host | Network::Tap), None) => config,
        };
        config = config.init(self.init).die_with_caller(!self.detach);
        if let Some(maps) = self.id_maps {
            config = config.id_maps(maps);
        }
        if let Some(value) = self.oom_score_adj {
            config = config.oom_score_adj(value);
        }
        if let Some(mib) = self.tmp_size {
            config = config.tmp_bytes(mib.saturating_mul(1 << 20));
        }
        config = match self.proc {
            Some(Proc::ReadOnly) => config.proc(BackendProc::ReadOnly),
            Some(Proc::Masked) => config.proc(BackendProc::Masked),
            None => config,
        };
        let kept = self.cap.unwrap_or_default();
        config = config.capabilities(kept);
        if let Some(file) = self.seccomp.as_ref().filter(|file| file.as_os_str() != "none") {
            let cannot = |source| HarnessError::File { action: "read", path: file.clone(), source };
            let text = std::fs::read_to_string(file).map_err(cannot);
            let text = text.map_err(|error| LaunchError::Unsupported(chain(&error)))?;
            let profile =
                Profile::from_json(&text, kept).map_err(|error| LaunchError::Container(error.into()))?;
            config = config.seccomp(profile);
        }
        Ok(config)
    }
}

fn bind(text: &str) -> Result<Bind, String> {
    Bind::parse(text).ok_or_else(|| "HOST:INSIDE[:ro] is needed, INSIDE beginning with /".into())
}

fn network(text: &str) -> Result<Network, String> {
    let address = |text: &str| {
        Address::parse(text)
            .ok_or_else(|| format!("{text:?} is no address with its network, like 10.1.0.2/24"))
    };
    match (text, text.strip_prefix("veth=")) {
        (_, Some(addresses)) => {
            let (inside, outside) =
                addresses.split_once(',').ok_or("two addresses are needed: INSIDE/BITS,OUTSIDE/BITS")?;
            let veth = Veth::new().addresses(address(inside)?, address(outside)?);
            Ok(Network::Own(BackendNetwork::Veth(veth)))
        }
        ("none", _) => Ok(Network::Own(BackendNetwork::None)),
        ("loopback", _) => Ok(Network::Own(BackendNetwork::Loopback)),
        ("veth", _) => Ok(Network::Own(BackendNetwork::Veth(Veth::new()))),
        ("host", _) => Ok(Network::Host),
        ("tap", _) => Ok(Network::Tap),
        _ => Err("must be none, loopback, veth, veth=INSIDE/BITS,OUTSIDE/BITS, host or tap".into()),
    }
}

fn disk(text: &str) -> Result<Disk, String> {
    let (file, read_only) = text.strip_suffix(":ro").map_or((text, false), |file| (file, true));
    if file.is_empty() {
        return Err("FILE or FILE:ro is needed".into());
    }
    Ok(Disk { file: file.into(), read_only })
}

fn id_maps(text: &str) -> Result<IdMaps, String> {
    match text {
        "auto" => Ok(IdMaps::Auto),
        "single" => Ok(IdMaps::Single),
        "ranges" => Ok(IdMaps::Ranges),
        _ => Err("must be auto, single or ranges".into()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "KEY=VALUE is needed".into())
}

fn user(text: &str) -> Result<User, String> {
    User::parse(text).ok_or_else(|| format!("numbers below {} are needed: UID or UID:GID", u32::MAX))
}

fn limit(text: &str) -> Result<Rlimit, String> {
    let names = || Rlimit::names().collect::<Vec<_>>().join(", ");
    Rlimit::parse(text)
        .ok_or_else(|| format!("NAME=SOFT[:HARD] is needed, SOFT not above HARD, NAME one of {}", names()))
}

fn capabilities(text: &str) -> Result<Capabilities, String> {
    text.split(',').try_fold(Capabilities::default(), |set, change| {
        set.changed(change).ok_or_else(|| format!("there is no capability {change}"))
    })
}

fn cpus(text: &str) -> Result<u64, String> {
    let value: f64 = text.parse().map_err(|_| String::from("not a number of CPUs"))?;
    if !(0.01..=1e6).contains(&value) {
        return Err("must be 0.01 to 1000000".into());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range above")]
    Ok((value * 1000.0).round() as u64)
}

fn cpuset(text: &str) -> Result<u128, String> {
    let wrong = || format!("{text:?} is no list of CPUs below {}", u128::BITS);
    let ranges = cpu_ranges(text).filter(|ranges| !ranges.is_empty()).ok_or_else(wrong)?;
    if ranges.iter().any(|range| *range.end() >= u128::BITS) {
        return Err(wrong());
    }
    Ok(ranges.into_iter().flatten().fold(0, |cpus, cpu| cpus | 1 << cpu))
}

fn namespaces(text: &str) -> Result<Isolation, String> {
    const NAMESPACES: [(&str, Layer); 8] = [
        ("mnt", Layer::Mount),
        ("pid", Layer::Pid),
        ("net", Layer::Net),
        ("ipc", Layer::Ipc),
        ("uts", Layer::Uts),
        ("cgroup", Layer::Cgroup),
        ("user", Layer::User),
        ("time", Layer::Time),
    ];
    let none = NAMESPACES.iter().fold(Isolation::container(), |set, (_, layer)| set.without(*layer));
    if text == "none" {
        return Ok(none);
    }
    text.split(',').try_fold(none, |set, name| {
        let found = NAMESPACES.iter().find(|(known, _)| *known == name);
        let known = || NAMESPACES.map(|(known, _)| known).join(", ");
        found.map(|(_, layer)| set.with(*layer)).ok_or_else(|| format!("{name:?} is none of {}", known()))
    })
}
