//! Requests that cannot be met, each with its own error.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::common::{Build, Running, Scenario, compile};
use vm_backend::{ConfigError, Error, Program, ProgramError, Status, VmConfig};

fn any() -> Option<VmConfig> {
    compile("fault", Build::Glibc).ok().map(|program| VmConfig::new(Program::Path(program)))
}

fn config_error(config: &VmConfig) -> ConfigError {
    match config.prepare() {
        Err(Error::Config(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn program_error(path: impl Into<PathBuf>) -> ProgramError {
    match VmConfig::new(Program::Path(path.into())).prepare() {
        Err(Error::Program { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_that_is_too_little_too_much_or_absurd_is_refused() {
    let Some(config) = any() else { return };
    for mib in [0, 1, 2, 7] {
        let error = config_error(&config.clone().mem_mib(mib));
        assert!(matches!(error, ConfigError::MemoryTooSmall { asked, .. } if asked == mib), "{mib}: {error}");
    }
    for mib in [1 << 30, 1 << 40, u64::MAX >> 20] {
        let error = config_error(&config.clone().mem_mib(mib));
        assert!(
            matches!(error, ConfigError::MemoryBeyondHost { asked, .. } if asked == mib),
            "{mib}: {error}"
        );
    }
    for mib in [(u64::MAX >> 20) + 1, u64::MAX] {
        let error = config_error(&config.clone().mem_mib(mib));
        assert!(matches!(error, ConfigError::MemoryAbsurd { mib: m } if m == mib), "{mib}: {error}");
    }
}

#[test]
fn the_least_memory_that_an_error_names_is_enough() {
    let Some(scenario) = Scenario::c("fault") else { return };
    let ConfigError::MemoryTooSmall { needed, .. } = config_error(&scenario.config().mem_mib(1)) else {
        panic!()
    };
    let vm = scenario.arg("_exit").mem_mib(needed).prepare();
    assert_eq!(Running::start(&vm).finish().unwrap().status, Status::Exited(5));
}

#[test]
fn all_the_memory_of_the_host_can_be_asked_for() {
    let Some(scenario) = Scenario::c("fault") else { return };
    let ConfigError::MemoryBeyondHost { host, .. } = config_error(&scenario.config().mem_mib(1 << 30)) else {
        panic!()
    };
    let vm = scenario.arg("_exit").mem_mib(host).prepare();
    assert_eq!(Running::start(&vm).finish().unwrap().status, Status::Exited(5));
}

#[test]
fn paths_in_the_guest_are_absolute_short_and_each_used_once() {
    let Some(config) = any() else { return };
    let file = "/etc/passwd";
    for config in [
        config.clone().file(file, "relative"),
        config.clone().guest_path("relative"),
        config.clone().file(file, ""),
    ] {
        let error = config_error(&config);
        assert!(matches!(error, ConfigError::GuestPathNotAbsolute { .. }), "{error}");
    }
    for path in [format!("/{}", "x".repeat(64)), "/x".repeat(200)] {
        let error = config_error(&config.clone().file(file, path));
        assert!(matches!(error, ConfigError::GuestPathTooLong { .. }), "{error}");
    }
    for config in [
        config.clone().file(file, "/"),
        config.clone().file(file, "/dev/null"),
        config.clone().file(file, "/tmp"),
        config.clone().file(file, "/a/../b"),
        config.clone().file(file, "/a").file(file, "//a/"),
        config.clone().file(file, "/a").file(file, "/a/b"),
        config.clone().file(file, "/a/b").file(file, "/a"),
        config.clone().file(file, "/proc/self/exe"),
        config.clone().guest_path("/p").file(file, "/p"),
        config.clone().guest_path("/"),
    ] {
        let error = config_error(&config);
        assert!(matches!(error, ConfigError::GuestPathTaken { .. }), "{error}");
    }
}

#[test]
fn texts_with_a_zero_byte_are_refused() {
    let Some(config) = any() else { return };
    for config in
        [config.clone().arg("a\0b"), config.clone().env("a", "\0"), config.clone().file("/etc/passwd", "/\0")]
    {
        let error = config_error(&config);
        assert!(matches!(error, ConfigError::ZeroByte { .. }), "{error}");
    }
}

#[test]
fn too_many_files_and_too_long_arguments_say_what_fits() {
    let Some(config) = any() else { return };
    let files = (0..250).fold(config.clone(), |c, i| c.file("/etc/passwd", format!("/{i:060}")));
    assert!(matches!(config_error(&files), ConfigError::TooManyFiles { .. }));
    let folders = (0..200).fold(config.clone(), |c, i| c.file("/etc/passwd", format!("/{i}/a/b/c")));
    assert!(matches!(config_error(&folders), ConfigError::TooManyNames { .. }));
    let error = config_error(&config.arg("x".repeat(600_000)));
    assert!(matches!(error, ConfigError::ArgumentsTooLong { size, limit } if size > limit), "{error}");
}

#[test]
fn many_arguments_and_files_that_fit_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let Some(scenario) = Scenario::c("start") else { return };
    let mut scenario = (0..500).fold(scenario, |s, i| s.arg(format!("argument number {i}")));
    for i in 0..60 {
        let path = folder.path().join(format!("f{i}"));
        std::fs::write(&path, "x").unwrap();
        scenario = scenario.file(&path);
    }
    scenario.compare();
}

#[test]
fn files_that_are_no_programs_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, contents: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    assert_eq!(program_error(write("script", b"#!/bin/sh\n")), ProgramError::Script);
    assert_eq!(program_error(write("text", b"just some text")), ProgramError::NotElf);
    assert_eq!(program_error(write("empty", b"")), ProgramError::NotElf);
    assert!(matches!(program_error(write("short", b"\x7fELF")), ProgramError::Truncated { size: 4, .. }));
    let dynamic = std::fs::canonicalize("/bin/ls").unwrap();
    if std::fs::read(&dynamic).is_ok_and(|b| b.windows(8).any(|w| w == b"/ld-linu")) {
        assert_eq!(program_error(dynamic), ProgramError::Dynamic);
    }
    let Ok(program) = compile("fault", Build::Glibc) else { return };
    let bytes = std::fs::read(program).unwrap();
    assert!(matches!(program_error(write("cut", &bytes[..bytes.len() / 2])), ProgramError::Truncated { .. }));
    let not_executable = write("plain", &bytes);
    std::fs::set_permissions(&not_executable, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(program_error(not_executable), ProgramError::NotExecutable);
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in
        [PathBuf::from("/"), "/missing".into(), "/dev/null".into(), "/dev/null/x".into(), fifo.clone()]
    {
        let error = VmConfig::new(Program::Path(path.clone())).prepare().unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{path:?}: {error:?}");
    }
    let Some(config) = any() else { return };
    let error = config.file(fifo, "/f").prepare().unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error:?}");
}

#[test]
fn a_program_in_a_sealed_memory_file_runs() {
    use std::io::Write;
    let Some(scenario) = Scenario::c("fault") else { return };
    let fd = nix::sys::memfd::memfd_create(c"program", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let mut file = std::fs::File::from(fd);
    file.write_all(&std::fs::read(&scenario.program).unwrap()).unwrap();
    let vm = VmConfig::new(Program::Sealed(Arc::new(file.into()))).arg("_exit").prepare().unwrap();
    assert_eq!(Running::start(&vm).finish().unwrap().status, Status::Exited(5));
}
