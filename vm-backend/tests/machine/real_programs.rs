//! Programs that nobody wrote for this: Debian's busybox-static.

use std::path::{Path, PathBuf};

use crate::common::{Scenario, can_run};
use vm_backend::Status;

fn busybox() -> Option<Scenario> {
    let found = ["/usr/bin/busybox", "/bin/busybox"].into_iter().map(PathBuf::from).find(|p| {
        std::fs::read(p)
            .is_ok_and(|bytes| bytes.starts_with(b"\x7fELF") && !bytes.windows(8).any(|w| w == b"/ld-linu"))
    });
    let reason = "no static busybox (Debian: busybox-static)".to_owned();
    can_run(found.as_ref().map(drop).ok_or(reason)).then(|| found.map(Scenario::of))?
}

fn applet(args: &[&str]) -> Option<Scenario> {
    Some(args.iter().fold(busybox()?, |scenario, arg| scenario.arg(*arg)))
}

#[test]
fn busybox_echoes_sorts_counts_and_calculates() {
    let text = "pear\napple\nfig\napple\n".repeat(500);
    for args in [
        &["echo", "-n", "hello", "world"][..],
        &["sort"],
        &["sort", "-u", "-r"],
        &["uniq", "-c"],
        &["wc"],
        &["awk", "{ n[$1]++ } END { for (k in n) print k, n[k], sqrt(n[k]) | \"cat\" }"],
        &["sed", "s/p/P/g;5q"],
        &["sha256sum"],
        &["gzip", "-c"],
        &["tr", "a-z", "A-Z"],
        &["base64"],
        &["seq", "1", "1000"],
        &["expr", "6", "*", "7"],
        &["factor", "600851475143"],
        &["printf", "%s-%05d\\n", "a", "42"],
        &["false"],
        &["no-such-applet"],
        &["dd", "bs=1000", "count=3", "status=none"],
        &["tail", "-n", "3"],
        &["cut", "-c", "2-3"],
        &["basename", "/a/b"],
        &["cat", "/missing"],
        &["hexdump", "-C"],
        &["dc", "-e", "2 100 ^ p"],
    ] {
        let Some(scenario) = applet(args) else { return };
        // A pipe needs another process, which there is not.
        if args[0] == "awk" {
            let mut plain = busybox().unwrap().arg("awk");
            plain = plain.arg("{ n[$1]++; x += length($0) } END { print n[\"fig\"], x, sqrt(2) }");
            plain.stdin(text.clone()).compare();
            continue;
        }
        scenario.stdin(text.clone()).compare();
    }
}

#[test]
fn busybox_reads_a_file_that_was_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.bin");
    std::fs::write(&path, (0..5_000_000u32).map(|i| i.to_le_bytes()[1]).collect::<Vec<_>>()).unwrap();
    let text = path.to_str().unwrap();
    for args in
        [&["sha256sum", text][..], &["wc", "-c", text], &["md5sum", text], &["od", "-j", "4999990", text]]
    {
        let Some(scenario) = applet(args) else { return };
        scenario.file(&path).compare();
    }
}

#[test]
fn busybox_as_a_shell_works_with_files_in_tmp() {
    let script = "cd /tmp && mkdir -p a/b && echo hello > a/f && echo more >> a/f && cd a && ls && pwd && \
                  while read l; do echo \"<$l>\"; done < f && [ -d b ] && i=0 && while [ $i -lt 5 ]; do i=$((i+1)); done; \
                  echo $i; exit 9";
    let Some(scenario) = busybox() else { return };
    let run = scenario.arg("ash").arg("-c").arg(script).run();
    // Applets other than those built into the shell would need a process.
    assert!(matches!(run.status, Status::Exited(_)), "{run:?}");
    let Some(scenario) = applet(&["ls", "-a", "/tmp"]) else { return };
    assert_eq!(scenario.run().stdout, ".\n..\n");
    let Some(scenario) = applet(&["ls", "/dev"]) else { return };
    assert!(scenario.run().stdout.contains("null"));
    let Some(scenario) = applet(&[
        "ash",
        "-c",
        "echo a > /tmp/x; echo b >> /tmp/x; read v < /tmp/x; echo $v $((6*7)); exit 9",
    ]) else {
        return;
    };
    let run = scenario.run();
    assert_eq!((run.stdout.as_str(), run.status), ("a 42\n", Status::Exited(9)), "{}", run.stderr);
}

#[test]
fn the_program_finds_itself_where_it_was_put() {
    let Some(scenario) = busybox() else { return };
    let vm = scenario
        .config()
        .guest_path(Path::new("/opt/tools/busybox"))
        .args(["readlink", "/proc/self/exe"])
        .prepare()
        .unwrap();
    let run = crate::common::Running::start(&vm).finish().unwrap();
    assert_eq!(run.stdout, "/opt/tools/busybox\n");
}
