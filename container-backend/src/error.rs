//! What can go wrong, one variant per step.

use std::io;
use std::path::PathBuf;

/// Why a [`Config`](crate::Config) cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The program's path cannot be resolved.
    #[error("cannot find the program {}", path.display())]
    ProgramNotFound {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program is a directory, a device or a socket.
    #[error("{} is not a regular file", path.display())]
    ProgramNotAFile {
        /// The resolved path.
        path: PathBuf,
    },
    /// The program has no execute permission for the caller.
    #[error("{} is not executable (chmod +x?)", path.display())]
    ProgramNotExecutable {
        /// The resolved path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program cannot be read to see what it is.
    #[error("cannot read {}", path.display())]
    ProgramUnreadable {
        /// The resolved path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program needs another file to run, which the generated root does not hold.
    #[error(
        "{} needs the interpreter {interpreter}, which the container's root does not hold; a static program is needed",
        path.display()
    )]
    ProgramNeedsInterpreter {
        /// The resolved path.
        path: PathBuf,
        /// The script's or the dynamic linker's path.
        interpreter: String,
    },
    /// A string holds a zero byte, which no system call can be given.
    #[error("{what} holds a zero byte: {value:?}")]
    ZeroByte {
        /// Which string.
        what: &'static str,
        /// The string.
        value: String,
    },
    /// The host name is empty or longer than Linux allows.
    #[error("a host name has 1 to {max} bytes, not {length}")]
    HostnameLength {
        /// The length given.
        length: usize,
        /// The longest that Linux takes (`__NEW_UTS_LEN`).
        max: usize,
    },
    /// A limit is zero or beyond what the kernel takes.
    #[error("the limit {limit} cannot be {value}")]
    LimitValue {
        /// Which limit.
        limit: &'static str,
        /// The value given.
        value: u64,
    },
    /// The program is not in the root that was given.
    #[error("there is no {} in the root", path.display())]
    ProgramNotInside {
        /// The path or name.
        path: PathBuf,
    },
    /// A user or group has a number that means "as before" to the kernel, which would be root.
    #[error("{number} is no number of a user or group: 0 to {} are", u32::MAX - 1)]
    UserNumber {
        /// The number.
        number: u32,
    },
    /// The image runs as somebody whom it does not name, and nobody else was asked for.
    #[error(
        "the image runs as {user:?}, who is neither a number nor in its /etc/passwd and /etc/group: give a user in numbers"
    )]
    ImageUser {
        /// As its configuration has it.
        user: String,
    },
    /// What is to be bound is not there.
    #[error("cannot find {}, which is to be seen inside", path.display())]
    Bind {
        /// The path on the host.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A place inside is not one.
    #[error("{} is no place to bind to: an absolute path without .. is needed, and not the root itself", path.display())]
    BindPlace {
        /// The path inside.
        path: PathBuf,
    },
    /// Something needs a layer that the instance does not have.
    #[error("{what} needs the layer {layer}")]
    NeedsLayer {
        /// The setting.
        what: &'static str,
        /// The layer's name.
        layer: &'static str,
    },
    /// The program would run outside the time namespace that it was meant to run in.
    #[error(
        "a time namespace is entered with a program's execution from Linux 6.3 on, and this kernel is older"
    )]
    TimeNamespace,
    /// The root folder cannot be used.
    #[error("cannot use {} as a root", path.display())]
    Rootfs {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No directory of the host can carry the new root for the moment between mount and pivot.
    #[error("none of {candidates} is a directory that could carry the new root")]
    NoMountPoint {
        /// The directories that were looked at.
        candidates: String,
    },
    /// The caller has no right to make network interfaces.
    #[error(
        "a veth pair needs CAP_NET_ADMIN in the network namespace of its outer end: run as root, or without a network"
    )]
    VethRights,
    /// The network namespace of a veth pair's outer end cannot be used.
    #[error("cannot use the network namespace {}", path.display())]
    NetworkNamespace {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Ranges of users were asked for, and the host gives none.
    #[error("there can be no ranges of users and groups: {reason}")]
    IdRanges {
        /// Why not.
        reason: String,
    },
    /// A descriptor that is needed for every start cannot be made.
    #[error("cannot open {what}")]
    Open {
        /// What was to be opened.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The process that cleans up after a killed caller cannot be started.
    #[error("cannot start the process that removes the control groups of a killed caller")]
    Janitor(#[source] io::Error),
}

/// Why an instance could not be started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No memory for the child's stack.
    #[error("cannot map a stack for the child")]
    Stack(#[source] io::Error),
    /// A descriptor for the program's standard input, output or error cannot be duplicated.
    #[error("cannot duplicate descriptor {fd} for the program")]
    Stdio {
        /// The descriptor.
        fd: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The instance's control group cannot be made or set.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// clone3(2) failed.
    #[error("cannot clone a process with {isolation}")]
    Clone {
        /// The layers that were asked for.
        isolation: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The image's root cannot be mounted once more.
    #[error("cannot make a mount of the image's root")]
    Image(#[source] io::Error),
    /// The thread that helps the child cannot be started.
    #[error("cannot start a thread beside the child")]
    Aide(#[source] io::Error),
    /// newuidmap(1) or newgidmap(1) failed.
    #[error("cannot write the identity maps")]
    IdMaps(#[source] io::Error),
    /// The veth pair cannot be made.
    #[error("cannot make a veth pair")]
    Veth(#[source] io::Error),
    /// A step between clone and exec failed in the child.
    #[error("cannot {step}")]
    Setup {
        /// The step, in words.
        step: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A step between clone and exec takes a right that the caller does not have.
    #[error("cannot {step}: {takes}")]
    Right {
        /// The step, in words.
        step: String,
        /// What it takes, and what can be had without.
        takes: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("cannot execute {program}")]
    Exec {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program is in the root that was given, but not what it names to run it.
    #[error(
        "cannot execute {program}: it is there, but the interpreter or dynamic linker that it names is not in the root"
    )]
    Interpreter {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The child was killed by its seccomp filter before it had executed the program.
    #[error(
        "the seccomp filter killed the child before it could execute the program: the profile must allow what a start takes, \
         execve for one"
    )]
    Filtered,
    /// The child ended before it had executed the program, and not by itself (killed from outside).
    #[error("the child was killed before it could execute the program")]
    Killed,
}

/// Why a running instance could not be waited for or killed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// ppoll(2) on the pidfd failed.
    #[error("cannot wait for process {pid}")]
    Poll {
        /// The process.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// waitid(2) failed.
    #[error("cannot reap process {pid} (is SIGCHLD ignored by the caller, or does it reap all children?)")]
    Reap {
        /// The process.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// pidfd_send_signal(2) failed.
    #[error("cannot kill process {pid}")]
    Kill {
        /// The process.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The instance's control group could not be removed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// Why a control group could not be handled.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct CgroupError {
    /// What was to be done.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}
