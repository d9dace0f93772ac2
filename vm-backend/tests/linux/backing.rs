//! What stands behind a Linux guest's memory on the host.

use std::fs::File;
use std::io::{Read, pipe};

use vm_backend::{Backing, Status, Stdio};

use crate::common::{PATIENCE, shell};
use crate::pages::{huge, present};

const MIB: u64 = 1 << 20;

/// What there is of the memory of a machine of 128 MiB while its program waits, and how much of that is in huge pages.
fn found(backing: Backing) -> Option<(u64, u64)> {
    let config = shell("echo up; read line")?.mem_mib(128).backing(backing);
    let ((input, to_guest), (mut output, from_guest)) =
        (pipe().expect("a pipe"), pipe().expect("another pipe"));
    let errors = File::options().write(true).open("/dev/null").expect("it is everywhere");
    let machine = config.prepare().expect("a machine");
    let mut monitor = machine.spawn(Stdio::new(&input, &from_guest, &errors)).expect("a monitor");
    // What ends without a word is seen here, too.
    drop(from_guest);
    let mut word = [0; 3];
    output.read_exact(&mut word).unwrap_or_else(|error| panic!("{error}: {:?}", monitor.wait(None)));
    assert_eq!(&word, b"up\n");
    let (memory, pid) = (monitor.guest_memory(), monitor.pid().to_string());
    let found = (present(&pid, &memory), huge(&pid, &memory));
    drop((input, to_guest));
    let outcome = monitor.wait(Some(PATIENCE)).expect("an outcome").expect("it ends in time");
    assert!(matches!(outcome.status, Status::Exited(_)), "{outcome:?}");
    Some(found)
}

#[test]
fn all_of_the_memory_is_there_before_the_kernel_starts_where_that_is_asked_for() {
    let Some((untouched, _)) = found(Backing::Untouched) else { return };
    assert!(untouched < 128 * MIB, "{untouched}");
    let Some((prefaulted, _)) = found(Backing::Prefaulted) else { return };
    assert_eq!(prefaulted, 128 * MIB);
}

#[test]
fn what_the_kernel_touches_is_in_huge_pages_where_these_are_asked_for() {
    if let Err(reason) = Backing::HugePages.check() {
        println!("skipped: {reason}");
        return;
    }
    let Some((_, huge)) = found(Backing::HugePages) else { return };
    assert!(huge >= 2 * MIB, "{huge}");
}
