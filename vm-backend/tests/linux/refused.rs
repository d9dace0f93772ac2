//! What is refused before anything runs.

use std::io::Write;

use vm_backend::{Error, LinuxConfig, LinuxError, Program};

use crate::common::{elf, executable};

#[test]
fn what_is_no_kernel_is_refused_before_anything_runs() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"not a kernel").expect("room for it");
    let program = std::env::current_exe().expect("it runs");
    let error = LinuxConfig::new(file.path(), Program::Path(program)).prepare().expect_err("it is refused");
    assert!(matches!(error, Error::Linux(LinuxError::Kernel { .. })), "{error:?}");
}

#[test]
fn a_machine_has_at_least_one_vcpu_and_at_most_what_its_tables_name() {
    for asked in [0, 17, u32::MAX] {
        let config = LinuxConfig::new("/dev/null", Program::Path("/dev/null".into())).vcpus(asked);
        let error = config.prepare().expect_err("it is refused");
        assert!(matches!(error, Error::Linux(LinuxError::Vcpus { .. })), "{error:?}");
    }
}

/// What preparing this kernel says, with all causes; `change` may alter the machine.
fn refusal(kernel: &[u8], change: impl FnOnce(LinuxConfig) -> LinuxConfig) -> String {
    let (kernel, program) = (executable(kernel), executable(&elf(&[0xf4])));
    let config = change(LinuxConfig::new(kernel.path(), Program::Path(program.path().to_owned())));
    let error = config.prepare().expect_err("it is refused");
    let mut texts = vec![error.to_string()];
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    texts.join(": ")
}

#[test]
fn kernels_of_other_machines_and_parts_of_kernels_are_refused_by_name() {
    let mut arm64 = vec![0; 4096];
    arm64[56..60].copy_from_slice(b"ARM\x64");
    let mut arm_elf = elf(&[0xf4]);
    arm_elf[18..20].copy_from_slice(&40u16.to_le_bytes());
    let mut bits32 = elf(&[0xf4]);
    (bits32[4], bits32[18]) = (1, 3);
    let mut bzimage = vec![0; 0x268];
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    bzimage[0x206..0x208].copy_from_slice(&0x20cu16.to_le_bytes());
    let whole = elf(&[0xf4; 4096]);
    for (kernel, words) in [
        (&b"#!/bin/sh\n"[..], "neither a bzImage"),
        (b"", "neither a bzImage"),
        (&arm64, "kernel for arm64"),
        (&arm_elf, "kernel for 32-bit ARM"),
        (&bits32, "32-bit kernel"),
        (&bzimage, "32-bit kernel"),
        (&bzimage[..0x220], "truncated"),
        (&whole[..40], "truncated"),
        (&whole[..whole.len() - 100], "truncated"),
    ] {
        let said = refusal(kernel, |config| config);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_machine_too_small_for_kernel_or_archive_is_refused_with_what_it_needs() {
    let kernel = elf(&[0xf4; 4096]);
    let said = refusal(&kernel, |config| config.mem_mib(8));
    assert!(said.contains("needs at least"), "{said}");
    let large = tempfile::NamedTempFile::new().expect("a temporary file");
    large.as_file().set_len(300 << 20).expect("a hole");
    let said = refusal(&kernel, |config| config.mem_mib(128).file(large.path(), "/large"));
    assert!(said.contains("do not fit 128 MiB"), "{said}");
}

#[test]
fn a_command_line_too_long_or_with_a_control_character_is_refused() {
    let kernel = elf(&[0xf4]);
    let said = refusal(&kernel, |config| config.cmdline_extra(&"x".repeat(2048)));
    assert!(said.contains("at most 2048 fit"), "{said}");
    for bad in ["a\nb", "a\0b", "\u{1b}[0m"] {
        let said = refusal(&kernel, |config| config.cmdline_extra(bad));
        assert!(said.contains("control character"), "{said}");
    }
}

#[test]
fn a_program_that_is_none_a_root_that_is_none_and_a_disk_that_is_none_are_refused_by_name() {
    let kernel = executable(&elf(&[0xf4]));
    let config = LinuxConfig::new(kernel.path(), Program::Path("/etc/passwd".into()));
    assert!(matches!(config.prepare(), Err(Error::Program { .. })));
    let nowhere = "/nowhere/at/all";
    for config in [
        LinuxConfig::inside(kernel.path(), vm_backend::Root::Folder(nowhere.into()), "/bin/sh"),
        LinuxConfig::inside(kernel.path(), vm_backend::Root::Disk(nowhere.into()), "/bin/sh"),
        LinuxConfig::inside(kernel.path(), vm_backend::Root::Disk("/tmp".into()), "/bin/sh"),
    ] {
        let error = config.prepare().expect_err("it is refused");
        assert!(matches!(error, Error::File { .. }), "{error:?}");
    }
}

#[test]
fn a_pipe_is_no_disk_and_nobody_waits_for_its_other_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let root = vm_backend::Root::Disk(pipe.clone());
    let changes: [Box<dyn FnOnce(LinuxConfig) -> LinuxConfig>; 3] = [
        Box::new(|config| config.disk(&pipe, true)),
        Box::new(|config| config.disk(&pipe, false)),
        Box::new(|_| LinuxConfig::inside("/dev/null", root, "/bin/sh")),
    ];
    for change in changes {
        let said = refusal(&elf(&[0xf4]), change);
        assert!(said.contains("pipe cannot be used: it is not a regular file"), "{said}");
    }
}

#[test]
fn files_beside_a_root_on_a_disk_are_refused_and_not_lost() {
    let disk = executable(&[0; 512]);
    let root = vm_backend::Root::Disk(disk.path().to_owned());
    let said = refusal(&elf(&[0xf4]), |_| {
        LinuxConfig::inside("/dev/null", root, "/bin/sh").file("/etc/hostname", "/handed/over")
    });
    assert!(said.contains("/handed/over cannot be put into a machine whose root is a disk"), "{said}");
}

#[test]
fn more_devices_than_interrupt_lines_are_refused() {
    let disk = executable(&[0; 512]);
    let said =
        refusal(&elf(&[0xf4]), |config| (0..6).fold(config, |config, _| config.disk(disk.path(), true)));
    assert!(said.contains("at most 5 disks and network cards, not 6"), "{said}");
}
