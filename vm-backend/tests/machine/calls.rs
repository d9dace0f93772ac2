//! System calls: the same program prints the same facts natively and in the machine.

use crate::common::{Build, Scenario};
use vm_backend::Status;

fn compare(name: &str, build: Build) {
    if let Some(scenario) = Scenario::built(name, build) {
        let run = scenario.compare();
        let unserved = run.outcome.unwrap().unserved;
        assert_eq!(unserved, [], "calls that were not served");
    }
}

/// Whether natively a program may open every file, as it may in a machine.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: natively this needs root, who may open every file");
    }
    root
}

#[test]
fn a_program_finds_its_arguments_environment_auxiliary_vector_and_itself() {
    for build in [Build::Glibc, Build::GlibcPie, Build::Musl] {
        if let Some(scenario) = Scenario::built("start", build) {
            scenario.arg("one").arg("").arg("drei ü").env("EMPTY", "").env("HOME", "/tmp").compare();
        }
    }
}

#[test]
fn files_in_tmp_behave_as_on_linux() {
    if !is_root() {
        return;
    }
    compare("files", Build::Glibc);
}

#[test]
fn files_in_tmp_behave_as_on_linux_for_musl() {
    if !is_root() {
        return;
    }
    compare("files", Build::Musl);
}

#[test]
fn devices_behave_as_on_linux() {
    compare("devices", Build::Glibc);
}

#[test]
fn memory_is_mapped_grown_freed_and_zero_again() {
    compare("memory", Build::Glibc);
}

#[test]
fn memory_is_mapped_grown_freed_and_zero_again_for_musl() {
    compare("memory", Build::Musl);
}

#[test]
fn memory_of_a_position_independent_program_is_the_same() {
    compare("memory", Build::GlibcPie);
}

#[test]
fn identity_clocks_sleeping_and_futexes_behave_as_on_linux() {
    compare("process", Build::Glibc);
}

#[test]
fn signals_are_delivered_masked_and_returned_from_as_on_linux() {
    compare("signals", Build::Glibc);
}

#[test]
fn registers_and_vector_registers_survive_calls_faults_and_handlers() {
    compare("registers", Build::Glibc);
}

#[test]
fn bad_addresses_are_errors_of_the_call() {
    compare("efault", Build::Glibc);
}

#[test]
fn a_rust_program_runs_with_its_standard_library() {
    if let Some(scenario) = Scenario::built("standard", Build::Rust) {
        scenario.arg("x").env("NAME", "value").stdin("a line\nand another\n").compare();
    }
}

#[test]
fn a_program_that_asks_for_more_memory_than_there_is_gets_enomem() {
    let Some(scenario) = Scenario::c("exhaust") else { return };
    let run = scenario.mem_mib(64).run();
    let expected = [
        "mmap 1 errno 12",
        "malloc 1 errno 12",
        "absurd 1 errno 12",
        "1 MiB, errno 12",
        "after freeing 1",
        "realloc 1 errno 12",
        "truncate -1 errno 28",
        "file 1 errno 28",
        "end",
    ];
    assert_eq!(run.stdout.lines().collect::<Vec<_>>(), expected);
    assert_eq!(run.status, Status::Exited(0));
}

#[test]
fn calls_that_are_not_served_say_enosys_and_are_counted() {
    let Some(scenario) = Scenario::c("fault") else { return };
    let run = scenario.arg("unserved").run();
    assert_eq!(run.stdout.lines().last(), Some("-1 38, -1 38, -1 38"));
    assert_eq!(run.status, Status::Exited(0));
    let unserved = run.outcome.unwrap().unserved;
    let socket = usize::try_from(libc::SYS_socket).unwrap();
    assert!(unserved.contains(&(socket, 2)), "{unserved:?}");
    assert!(unserved.contains(&(511, 1)), "{unserved:?}");
}

#[test]
fn a_file_that_was_handed_over_reads_as_on_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (folder.path().join("small.txt"), folder.path().join("large"));
    std::fs::write(&small, "first line\nlast\n").unwrap();
    let text: Vec<u8> = (0..300_000u32).flat_map(|i| format!("{i}\n").into_bytes()).collect();
    std::fs::write(&large, &text).unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    for path in [&small, &large] {
        let Some(scenario) = Scenario::c("handed") else { return };
        let missing = folder.path().join("missing");
        let [path_text, missing] = [path, &missing].map(|p| p.to_str().unwrap().to_owned());
        scenario.arg(path_text).arg(missing).file(path).file(&empty).compare();
    }
}
