//! The real workloads: the same answer in every target that can serve them, and a reason where one cannot.

#![allow(clippy::print_stdout, reason = "what is skipped is said in the test's output")]

mod common;

use bench_harness::record::Status;
use bench_harness::store;
use bench_harness::target::microvm::UNSERVED;
use common::{bench, compile, run_in, targets};

#[test]
fn real_workloads_come_to_the_same_checksum_in_every_target_or_are_skipped_with_the_reason() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("recording");
    let path = out.to_str().expect("a plain path");
    // A checksum that differs would be a failed row, and the exit code 4.
    bench(["compare", "--experiments", "overhead", "--workloads", "real", "--out", path]).expect_code(0);
    let (info, samples) = store::read(&out).expect("a whole recording");
    assert!(info.digests.real_workloads.is_some_and(|digest| digest.len() == 64));
    for workload in ["sqlite", "json", "lz4", "regex", "sort", "key-value", "file-io", "net-echo"] {
        for target in targets() {
            let own: Vec<_> =
                samples.iter().filter(|row| row.target == target && row.workload == workload).collect();
            let unserved = match (workload, target) {
                ("key-value", "microvm") => Some("clone, socketpair"),
                ("net-echo", "microvm") => Some("over a network"),
                // Both take CAP_NET_ADMIN, and a TAP device the module tun.
                ("net-echo", "container" | "microvm-linux")
                    if own.iter().all(|row| row.status == Status::Skipped) =>
                {
                    println!("skipped: {workload} in {target}");
                    Some("which this host refuses")
                }
                _ => None,
            };
            if let Some(reason) = unserved {
                let [row] = own.as_slice() else { panic!("{own:?}") };
                assert_eq!(row.status, Status::Skipped);
                assert!(row.detail.contains(reason), "{}", row.detail);
                continue;
            }
            assert!(own.iter().any(|row| row.status == Status::Ok), "{workload} in {target}: {own:?}");
            let figure = match workload {
                "key-value" => "latency_p99",
                "net-echo" => "round_trip_p99",
                _ => continue,
            };
            assert!(own.iter().any(|row| row.metric == figure && row.unit == "ns"));
        }
    }
}

#[test]
fn what_the_built_in_guest_is_said_not_to_serve_it_does_not_serve() {
    if !targets().contains(&"microvm") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let program = dir.path().join("asks");
    // vfork and clone3 are other ways to the same; arguments that would do harm if it were served are left out.
    let calls: Vec<String> = UNSERVED.iter().map(|call| format!("T({call})")).collect();
    let source = format!(
        "#define _GNU_SOURCE\n#include <errno.h>\n#include <stdio.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
         #define T(x) errno = 0; if (syscall(SYS_##x, -1, -1, -1, -1) != -1 || errno != ENOSYS) puts(#x);\n\
         int main(void) {{ {}; return 0; }}\n",
        calls.join(";")
    );
    compile(&source, &["-static"], &program);
    let ran = run_in("microvm", &[], &program, &[]).expect_code(0);
    assert_eq!(ran.stdout, "", "these are served");
}
