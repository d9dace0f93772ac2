//! Small programs, run natively and in a machine, and what came out of both.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{Read, Write, pipe};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as HostStdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use vm_backend::{Error, Monitor, Outcome, Program, Status, Stdio, Vm, VmConfig};

/// What no program here needs on the slowest host. It ends a test, it judges nothing.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Which compiler and flags make a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Build {
    Glibc,
    GlibcPie,
    Musl,
    Rust,
}

fn has_machine() -> Result<(), String> {
    static PROBED: OnceLock<Result<(), String>> = OnceLock::new();
    PROBED.get_or_init(|| vm_backend::probe().map(drop).map_err(|error| error.to_string())).clone()
}

/// Whether a test can run here; says why where it cannot.
pub fn can_run(what: Result<(), String>) -> bool {
    match has_machine().and(what) {
        Ok(()) => true,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            false
        }
    }
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

/// Compiles a program once; the reason where this host cannot.
pub fn compile(name: &str, build: Build) -> Result<PathBuf, String> {
    let source =
        sources().join(if build == Build::Rust { format!("{name}.rs") } else { format!("{name}.c") });
    let (compiler, flags): (&str, &[&str]) = match build {
        Build::Glibc => ("cc", &["-std=gnu17", "-w", "-O1", "-static"]),
        Build::GlibcPie => ("cc", &["-std=gnu17", "-w", "-O1", "-static-pie"]),
        Build::Musl => ("musl-gcc", &["-std=gnu17", "-w", "-O1", "-static"]),
        Build::Rust => ("rustc", &["-O", "-C", "target-feature=+crt-static"]),
    };
    let mut hash = DefaultHasher::new();
    (std::fs::read(&source).unwrap(), std::fs::read(sources().join("check.h")).unwrap(), build)
        .hash(&mut hash);
    let program = folder().join(format!("{name}-{:016x}", hash.finish()));
    if !program.exists() {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let part = folder().join(format!("{name}-{}-{count}.part", std::process::id()));
        let made = Command::new(compiler).args(flags).arg(&source).arg("-o").arg(&part).output();
        let made = made.map_err(|error| format!("{compiler} cannot be started: {error}"))?;
        if !made.status.success() {
            return Err(format!(
                "{compiler} cannot link statically: {}",
                String::from_utf8_lossy(&made.stderr)
            ));
        }
        std::fs::rename(&part, &program).unwrap();
    }
    Ok(program)
}

/// What a run left.
#[derive(Debug)]
pub struct Run {
    pub status: Status,
    pub stdout: String,
    pub stderr: String,
    /// Of the machine only.
    pub outcome: Option<Outcome>,
}

/// A program and everything it is given.
pub struct Scenario {
    pub program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Vec<u8>,
    files: Vec<PathBuf>,
    mem_mib: u64,
}

impl Scenario {
    pub fn of(program: PathBuf) -> Self {
        Self { program, args: vec![], env: vec![], stdin: vec![], files: vec![], mem_mib: 256 }
    }

    /// A C program of `tests/programs`; `None`, and the reason is printed, where this host cannot run it.
    pub fn c(name: &str) -> Option<Self> {
        Self::built(name, Build::Glibc)
    }

    pub fn built(name: &str, build: Build) -> Option<Self> {
        let program = compile(name, build);
        can_run(program.clone().map(drop)).then(|| program.map(Self::of).ok())?
    }

    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// A file that has the same path in the guest as on the host.
    pub fn file(mut self, path: &Path) -> Self {
        self.files.push(path.to_owned());
        self
    }

    pub fn mem_mib(mut self, mib: u64) -> Self {
        self.mem_mib = mib;
        self
    }

    pub fn config(&self) -> VmConfig {
        let config = VmConfig::new(Program::Path(self.program.clone()))
            .guest_path(&self.program)
            .args(self.args.iter().map(String::as_str))
            .mem_mib(self.mem_mib);
        let config = self.env.iter().fold(config, |config, (name, value)| config.env(name, value));
        self.files.iter().fold(config, |config, path| config.file(path, path))
    }

    pub fn prepare(&self) -> Vm {
        self.config().prepare().unwrap()
    }

    pub fn run_natively(&self) -> Run {
        let mut child = Command::new(&self.program)
            .arg0(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(self.env.iter().cloned())
            .stdin(HostStdio::piped())
            .stdout(HostStdio::piped())
            .stderr(HostStdio::piped())
            .spawn()
            .unwrap();
        let feeder = feed(child.stdin.take().unwrap(), self.stdin.clone());
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        let status = match (output.status.code(), output.status.signal()) {
            (Some(code), _) => Status::Exited(code),
            (_, signal) => Status::Signaled { signal: signal.unwrap(), address: 0 },
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Run { status, stdout: text(output.stdout), stderr: text(output.stderr), outcome: None }
    }

    /// Runs it in a machine, to its own end.
    pub fn run(&self) -> Run {
        self.try_run().unwrap()
    }

    pub fn try_run(&self) -> Result<Run, Error> {
        let mut running = Running::start(&self.prepare());
        let feeder = feed(running.stdin.take().unwrap(), self.stdin.clone());
        let run = running.finish();
        feeder.join().unwrap();
        run
    }

    /// Runs it both ways and asserts that nobody could tell them apart; what the machine gave.
    pub fn compare(&self) -> Run {
        let native = self.run_natively();
        let machine = self.run();
        let expected: Vec<_> = native.stdout.lines().collect();
        let got: Vec<_> = machine.stdout.lines().collect();
        assert!(!expected.iter().any(|line| line.ends_with(": NO")), "natively:\n{}", native.stdout);
        if let Some(at) = (0..expected.len().max(got.len())).find(|i| expected.get(*i) != got.get(*i)) {
            panic!(
                "line {}\nnatively:   {:?}\nin machine: {:?}\nstderr: {}",
                at + 1,
                expected.get(at),
                got.get(at),
                machine.stderr
            );
        }
        assert_eq!(native.stderr, machine.stderr);
        match (native.status, machine.status) {
            (Status::Signaled { signal: a, .. }, Status::Signaled { signal: b, .. }) => assert_eq!(a, b),
            (a, b) => assert_eq!(a, b),
        }
        machine
    }
}

/// Writes from a thread of its own: neither side may wait for the other. A reader that is gone is no error.
fn feed(mut to: impl Write + Send + 'static, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    thread::spawn(move || drop(to.write_all(&bytes)))
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// An instance with pipes on all three streams.
pub struct Running {
    pub monitor: Monitor,
    pub stdin: Option<std::io::PipeWriter>,
    pub stdout: Option<std::io::PipeReader>,
    stderr: thread::JoinHandle<Vec<u8>>,
}

impl Running {
    pub fn start(vm: &Vm) -> Self {
        let ((in_read, stdin), (stdout, out_write), (err_read, err_write)) =
            (pipe().unwrap(), pipe().unwrap(), pipe().unwrap());
        let monitor = vm.spawn(Stdio::new(&in_read, &out_write, &err_write)).unwrap();
        Self { monitor, stdin: Some(stdin), stdout: Some(stdout), stderr: collect(err_read) }
    }

    /// Waits until the program has printed a line.
    pub fn first_line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    pub fn finish(mut self) -> Result<Run, Error> {
        let stdout = collect(self.stdout.take().unwrap());
        let outcome = self.monitor.wait(Some(PATIENCE));
        if matches!(outcome, Ok(None)) {
            self.monitor.kill().unwrap();
            let text = stdout.join().unwrap();
            panic!("it hangs; so far: {}", String::from_utf8_lossy(&text));
        }
        let outcome = outcome?.unwrap();
        let text = |thread: thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&thread.join().unwrap()).into_owned()
        };
        let (stdout, stderr) = (text(stdout), text(self.stderr));
        Ok(Run { status: outcome.status, stdout, stderr, outcome: Some(outcome) })
    }
}

/// Runs a part of a test in a process of its own, where nothing else happens: this very test again, with a variable set.
/// True: this is that process.
pub fn alone(test: &str) -> bool {
    const MARK: &str = "VM_BACKEND_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let own = std::env::current_exe().unwrap();
    let status = Command::new(own).args(["--exact", test, "--nocapture"]).env(MARK, "1").status().unwrap();
    assert!(status.success(), "{test} in a process of its own");
    false
}
