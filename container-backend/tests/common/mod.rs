//! What the scenarios share: the program under test, running it, counting what is left behind.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::print_stdout, reason = "why a test is skipped")]

pub mod images;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use container_backend::{Config, Exit, Isolation, Prepared, Process, Program, Status, Stdio, Stream, probe};

/// Where a test that runs itself again finds the program that the first one has compiled.
pub const ACTOR_VARIABLE: &str = "CONTAINER_TEST_ACTOR";

/// Set where a scenario runs as the process that it starts; the value says what that one is to do.
pub const PART_VARIABLE: &str = "CONTAINER_TEST_PART";

/// This test program again, running only `scenario`, in the part of a process that it starts.
pub fn in_part(scenario: &str, part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", scenario, "--nocapture"]).env(PART_VARIABLE, part);
    if let Some(actor) = actor() {
        command.env(ACTOR_VARIABLE, actor);
    }
    command
}

/// The part that this process is to play, if it was started by [`in_part`].
pub fn part() -> Option<String> {
    std::env::var(PART_VARIABLE).ok()
}

/// Runs `scenario` alone in a process of its own, for counting what there is of it; whether this is that process.
pub fn alone(scenario: &str) -> bool {
    if part().as_deref() == Some("alone") {
        return true;
    }
    if containers_work() && actor().is_some() && part().is_none() {
        let done = in_part(scenario, "alone").output().expect("this test can be started");
        let text = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
        assert!(text.contains("1 passed"), "{text}");
    }
    false
}

/// The user and group that own nothing.
pub const NOBODY: u32 = 65_534;

/// Whether this process is to play the scenario as an ordinary user; if it is root, it starts one that is.
pub fn as_ordinary_user(scenario: &str) -> bool {
    as_ordinary_user_with(scenario, None)
}

/// The same with these lines for /etc/subuid and /etc/subgid, in a mount namespace of the scenario's own.
pub fn as_ordinary_user_with(scenario: &str, ranges: Option<&str>) -> bool {
    if !is_root() {
        return containers_work() && actor().is_some();
    }
    let Some(actor) = actor() else { return false };
    // Copies where an ordinary user can reach them: the checkout may lie in root's home.
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("changed");
    let copy = |from: &std::path::Path, name: &str| {
        let to = dir.path().join(name);
        // By another process: a descriptor open for writing here could be inherited by what another test is just
        // starting, and the copy could not be executed until that has closed it.
        assert!(Command::new("cp").arg(from).arg(&to).status().is_ok_and(|status| status.success()));
        std::fs::set_permissions(&to, PermissionsExt::from_mode(0o755)).expect("changed");
        to
    };
    let test = copy(&std::env::current_exe().expect("this test"), "test");
    let actor = copy(actor, "actor");
    let mut command = match ranges {
        None => {
            let mut command = Command::new(test);
            command.gid(NOBODY).uid(NOBODY);
            command
        }
        Some(lines) => {
            let file = dir.path().join("ranges");
            std::fs::write(&file, lines).expect("written");
            let script = "mount --bind $0 /etc/subuid && mount --bind $0 /etc/subgid && \
                exec /usr/bin/setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", script]).args([&file, &test]);
            command
        }
    };
    let done = command
        .args(["--exact", scenario, "--nocapture"])
        .env(ACTOR_VARIABLE, actor)
        .current_dir("/")
        .output()
        .expect("this test can be started");
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    print!("{text}");
    false
}

/// As [`alone`], and where this is root, as an ordinary user, too.
pub fn alone_as_anyone(scenario: &str) -> bool {
    if is_root() && part().is_none() {
        as_ordinary_user(scenario);
    }
    alone(scenario)
}

/// Whether all that there was `before` is there again, and no more, at once or soon.
pub fn nothing_is_left(before: &Traces) {
    assert!(eventually(|| Traces::now() == *before), "{:?} of {before:?}", Traces::now());
}

/// A file that begins as a program does and cannot be executed, and the folder that it is in.
pub fn broken_program() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let broken = dir.path().join("broken");
    std::fs::write(&broken, b"\x7fELF").expect("written");
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("changed");
    (dir, broken)
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Waits until `done`, for what ends by itself soon after something else has; whether it came to pass.
pub fn eventually(mut done: impl FnMut() -> bool) -> bool {
    let until = std::time::Instant::now() + PATIENCE;
    while !done() {
        if std::time::Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Long enough for any scenario on a busy machine; a scenario that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The static program under test, compiled once; `None` (with the reason printed) without a C compiler or static libc.
pub fn actor() -> Option<&'static Path> {
    static ACTOR: OnceLock<Option<PathBuf>> = OnceLock::new();
    ACTOR
        .get_or_init(|| {
            if let Some(built) = std::env::var_os(ACTOR_VARIABLE) {
                return Some(PathBuf::from(built));
            }
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/actor.c");
            // Test programs run side by side: each compiles to its own name, and the last to finish is as good as the first.
            let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("actor");
            let own = out.with_extension(std::process::id().to_string());
            let done = Command::new("cc").args(["-O1", "-static", "-o"]).arg(&own).arg(source).output();
            match done {
                Ok(done) if done.status.success() => std::fs::rename(own, &out).map(|()| out).ok(),
                Ok(done) => {
                    println!("skipped: cc -static failed: {}", String::from_utf8_lossy(&done.stderr));
                    None
                }
                Err(error) => {
                    println!("skipped: no C compiler: {error}");
                    None
                }
            }
        })
        .as_deref()
}

/// Copies a program by cp(1): were it written from here, a child that another thread forks meanwhile would hold it open until its
/// exec, and the kernel starts no file that somebody writes to (ETXTBSY).
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().expect("cp is everywhere");
    assert!(copied.success(), "{} cannot be copied", from.display());
}

/// Whether a container can be made here; prints the reason if not.
pub fn containers_work() -> bool {
    static WORK: OnceLock<Option<String>> = OnceLock::new();
    let refused = WORK.get_or_init(|| probe().container.reason().map(str::to_owned));
    if let Some(reason) = refused {
        println!("skipped: no containers here: {reason}");
    }
    refused.is_none()
}

/// The actor, doing `act`, in a container.
pub fn container(act: &[&str]) -> Option<Config> {
    if !containers_work() {
        return None;
    }
    Some(Config::new(Program::path(actor()?)).args(act).isolation(Isolation::container()))
}

/// The actor, doing `act`, as a bare process.
pub fn native(act: &[&str]) -> Option<Config> {
    Some(Config::new(Program::path(actor()?)).args(act))
}

/// What one run left: its output and its end.
#[derive(Debug)]
pub struct Ran {
    pub stdout: String,
    pub exit: Exit,
}

impl Ran {
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }

    /// The value behind `key` in a file like /proc/self/status.
    pub fn field(&self, key: &str) -> &str {
        let line = self.stdout.lines().find(|line| line.starts_with(key));
        line.unwrap_or_else(|| panic!("no {key} in {}", self.stdout))[key.len()..].trim()
    }
}

/// Runs to the end, with the output collected.
pub fn run(config: Config) -> Ran {
    run_prepared(&config.prepare().expect("the config is good"))
}

pub fn run_prepared(prepared: &Prepared) -> Ran {
    let (mut process, mut reader) = spawn_piped(prepared);
    let mut stdout = String::new();
    reader.read_to_string(&mut stdout).expect("the program writes text");
    let exit = process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends in time");
    Ran { stdout, exit }
}

/// Starts with stdout on a pipe.
pub fn spawn_piped(prepared: &Prepared) -> (Process, File) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let stdio = Stdio::null().stdout(Stream::Fd(writer.as_fd())).stderr(Stream::Inherit);
    let process = prepared.spawn(stdio).expect("it starts");
    drop(writer);
    (process, File::from(OwnedFd::from(reader)))
}

/// Starts, and returns when the program has said its first line.
pub fn spawn_until_ready(prepared: &Prepared) -> (Process, File) {
    let (process, mut reader) = spawn_piped(prepared);
    let mut line = [0; 6];
    reader.read_exact(&mut line).expect("the program says ready");
    assert_eq!(&line, b"ready\n");
    (process, reader)
}

pub fn succeeded(ran: &Ran) {
    assert_eq!(ran.exit.status, Status::Exited(0), "{}", ran.stdout);
}

/// Whether the process exists and is not a zombie, which waits for its parent alone (init, for the orphans of a killed
/// caller, and some inits take their time).
pub fn runs(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !is_zombie(&status))
}

/// Whether a process's status file is a zombie's.
pub fn is_zombie(status: &str) -> bool {
    status.contains("\nState:\tZ")
}

/// What of this process and its containers there is to be counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces {
    pub descriptors: usize,
    pub children: usize,
    pub mounts: usize,
    pub groups: usize,
    pub threads: usize,
}

impl Traces {
    pub fn now() -> Self {
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").expect("/proc is there").count(),
            children: children_of(std::process::id()),
            mounts: std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is there").lines().count(),
            groups: groups_of(std::process::id()).len(),
            threads: std::fs::read_dir("/proc/self/task").expect("/proc is there").count(),
        }
    }
}

/// This process's resident memory.
pub fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a field of every process");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Counts a process's children, threads' children included.
pub fn children_of(pid: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("/proc is there");
    let children = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
    tasks.flatten().filter_map(|task| children(task).ok()).map(|list| list.split_whitespace().count()).sum()
}

/// The control group directories that process `pid` has made, wherever they are mounted.
pub fn groups_of(pid: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let prefix = format!("container-{pid}-");
    let mut look = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = look.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    found.push(entry.path());
                }
                look.push(entry.path());
            }
        }
    }
    found
}
