//! Disks, roots and networks of Linux guests.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use vm_backend::{Error, LinuxConfig, LinuxError, Root, Status};

use crate::common::{machine, run, shell, skip};

/// A root with a shell and a file.
fn root(busybox: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir_all(folder.path().join("usr/bin")).expect("a folder");
    std::os::unix::fs::symlink("usr/bin", folder.path().join("bin")).expect("a link");
    fs::copy(busybox, folder.path().join("usr/bin/busybox")).expect("a copy");
    std::os::unix::fs::symlink("busybox", folder.path().join("usr/bin/sh")).expect("a link");
    fs::write(folder.path().join("greeting"), "hello\n").expect("a file");
    folder
}

/// Reads and changes what is there, and looks for what every program expects.
const LOOK_AROUND: &str = "read a < /greeting; echo $a; echo changed > /greeting; read a < /greeting; echo $a; \
                           echo x > /dev/null && busybox test -d /proc/1 && echo y > /tmp/z && echo done";

#[test]
fn a_folder_is_the_root_and_stays_as_it_is() {
    let Some((kernel, busybox)) = machine() else { return };
    let folder = root(&busybox);
    let config = LinuxConfig::inside(kernel, Root::Folder(folder.path().to_owned()), "/bin/sh")
        .args(["-c", LOOK_AROUND])
        .env("PATH", "/bin")
        .mem_mib(256);
    let (outcome, stdout, stderr) = run(&config, b"");
    assert_eq!((stdout.as_str(), stderr.as_str()), ("hello\nchanged\ndone\n", ""));
    assert_eq!(outcome.expect("an outcome").status, Status::Exited(0));
    assert_eq!(fs::read_to_string(folder.path().join("greeting")).expect("the file"), "hello\n");
}

#[test]
fn a_disk_is_the_root_and_stays_as_it_is() {
    let Some((kernel, busybox)) = machine() else { return };
    let folder = root(&busybox);
    let image = tempfile::NamedTempFile::new().expect("a temporary file");
    image.as_file().set_len(16 << 20).expect("a hole");
    let made = Command::new("mkfs.ext4").args(["-q", "-d"]).arg(folder.path()).arg(image.path()).status();
    if !made.is_ok_and(|status| status.success()) {
        return skip("no mkfs.ext4 (e2fsprogs)").unwrap_or(());
    }
    let before = fs::read(image.path()).expect("the image");
    let config = LinuxConfig::inside(&kernel, Root::Disk(image.path().to_owned()), "/bin/sh")
        .args(["-c", LOOK_AROUND])
        .env("PATH", "/bin")
        .mem_mib(128);
    let (outcome, stdout, stderr) = run(&config, b"");
    assert_eq!((stdout.as_str(), stderr.as_str()), ("hello\nchanged\ndone\n", ""), "{outcome:?}");
    assert_eq!(outcome.expect("an outcome").status, Status::Exited(0));
    assert!(fs::read(image.path()).expect("the image") == before, "the image has changed");

    // One beside it has a node, too.
    let other = tempfile::NamedTempFile::new().expect("a temporary file");
    other.as_file().set_len(1 << 20).expect("a hole");
    let config = LinuxConfig::inside(kernel, Root::Disk(image.path().to_owned()), "/bin/sh")
        .args(["-c", "busybox test -b /dev/vdb && echo here"])
        .env("PATH", "/bin")
        .mem_mib(128)
        .disk(other.path(), true);
    let (outcome, stdout, stderr) = run(&config, b"");
    assert_eq!((stdout.as_str(), stderr.as_str()), ("here\n", ""), "{outcome:?}");
}

/// Which of these have a node, and the size of what it stands for.
const SIZES: &str = "for disk in vda vdb vdc; do busybox test -b /dev/$disk && echo $disk $(busybox blockdev --getsize64 /dev/$disk); done; :";

#[test]
fn every_disk_has_a_node_and_without_one_there_is_none() {
    let Some(config) = shell(SIZES) else { return };
    let [one, two] = [1 << 20, 2 << 20].map(|size| {
        let image = tempfile::NamedTempFile::new().expect("a temporary file");
        image.as_file().set_len(size).expect("a hole");
        image
    });
    let with = config.clone().disk(one.path(), false).disk(two.path(), true);
    let (outcome, stdout, stderr) = run(&with, b"");
    assert_eq!((stdout.as_str(), stderr.as_str()), ("vda 1048576\nvdb 2097152\n", ""), "{outcome:?}");
    let (outcome, stdout, stderr) = run(&config, b"");
    assert_eq!((stdout.as_str(), stderr.as_str()), ("", ""), "{outcome:?}");
}

#[test]
fn a_partition_has_a_node_of_its_own() {
    let script = "busybox dd if=/dev/vda1 bs=6 count=1 2>/dev/null; busybox blockdev --getsize64 /dev/vda1";
    let Some(config) = shell(script) else { return };
    let image = tempfile::NamedTempFile::new().expect("a temporary file");
    let disk = image.as_file();
    disk.set_len(1 << 20).expect("a hole");
    // The first entry of a PC's partition table: of Linux (0x83), 1024 sectors from sector 512 on.
    let mut entry = [0; 16];
    entry[4] = 0x83;
    entry[8..12].copy_from_slice(&512u32.to_le_bytes());
    entry[12..].copy_from_slice(&1024u32.to_le_bytes());
    disk.write_all_at(&entry, 446).expect("room for it");
    disk.write_all_at(&[0x55, 0xaa], 510).expect("room for it");
    disk.write_all_at(b"first\n", 512 * 512).expect("room for it");
    let (outcome, stdout, stderr) = run(&config.disk(image.path(), true), b"");
    assert_eq!((stdout.as_str(), stderr.as_str()), ("first\n524288\n", ""), "{outcome:?}");
}

#[test]
fn what_is_written_to_a_disk_is_in_its_file_and_a_read_only_one_refuses() {
    let image = tempfile::NamedTempFile::new().expect("a temporary file");
    image.as_file().set_len(1 << 20).expect("a hole");
    let write = "echo written | busybox dd of=/dev/vda bs=512 seek=3 conv=sync,fsync 2>/dev/null";
    let Some(config) = shell(write) else { return };
    let (outcome, ..) = run(&config.clone().disk(image.path(), false), b"");
    assert_eq!(outcome.expect("an outcome").status, Status::Exited(0));
    let mut got = [0; 8];
    image.as_file().read_exact_at(&mut got, 3 * 512).expect("the image");
    assert_eq!(&got, b"written\n");
    let (outcome, ..) = run(&config.disk(image.path(), true), b"");
    assert_eq!(outcome.expect("an outcome").status, Status::Exited(1));
}

#[test]
fn the_timer_chip_reaches_a_kernel_that_has_no_other_clock() {
    let Some(config) = shell("echo ticks") else { return };
    let image = tempfile::NamedTempFile::new().expect("a temporary file");
    image.as_file().set_len(1 << 20).expect("a hole");
    // Where a processor is emulated the counter cannot be measured against the chip, and only its interrupts are left.
    let config = config.disk(image.path(), true).cmdline_extra("no-kvmclock tsc_early_khz=0");
    let (outcome, stdout, _) = run(&config, b"");
    assert_eq!(outcome.expect("an outcome").status, Status::Exited(0));
    assert_eq!(stdout, "ticks\n");
}

#[test]
fn what_a_program_leaves_in_a_file_system_is_in_the_disk_when_the_machine_has_ended() {
    let mount = "busybox mkdir /disk && busybox mount -t ext4 /dev/vda /disk";
    let Some(writing) = shell(&format!("{mount} && echo left > /disk/file")) else { return };
    let image = tempfile::NamedTempFile::new().expect("a temporary file");
    image.as_file().set_len(16 << 20).expect("a hole");
    let made = Command::new("mkfs.ext4").arg("-q").arg(image.path()).status();
    if !made.is_ok_and(|status| status.success()) {
        return skip("no mkfs.ext4 (e2fsprogs)").unwrap_or(());
    }
    // Neither is anything written back by hand, nor is it unmounted.
    let (outcome, _, stderr) = run(&writing.disk(image.path(), false), b"");
    assert_eq!((outcome.expect("an outcome").status, stderr.as_str()), (Status::Exited(0), ""));
    let Some(reading) = shell(&format!("{mount} && read a < /disk/file && echo $a")) else { return };
    let (outcome, stdout, stderr) = run(&reading.disk(image.path(), false), b"");
    assert_eq!((stdout.as_str(), stderr.as_str()), ("left\n", ""), "{outcome:?}");
}

#[test]
fn host_and_guest_reach_each_other() {
    let script = "for word in $(busybox ifconfig eth0); do case $word in addr:169*) host=${word#addr:};; esac; done; \
                  busybox ping -c 2 -W 30 ${host%.*}.$((${host##*.} - 1)) >/dev/null && echo pong";
    let Some(config) = shell(script) else { return };
    let config = config.network(true);
    if let Err(Error::Linux(LinuxError::Network(error))) = config.prepare() {
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        return skip(format!("{error}: {why}")).unwrap_or(());
    }
    let (outcome, stdout, stderr) = run(&config, b"");
    assert_eq!((stdout.as_str(), stderr.as_str()), ("pong\n", ""), "{outcome:?}");
}
