//! What stands behind a guest's memory on the host.

use crate::common::{Running, Scenario};
use crate::pages::{huge, present};
use vm_backend::{Backing, Status};

const MIB: u64 = 1 << 20;

/// What there is of a machine's memory.
#[derive(Debug)]
struct Found {
    present: u64,
    huge: u64,
    /// In the process that makes all instances, at the same addresses.
    here: u64,
}

/// A machine of 64 MiB whose program waits.
fn found(backing: Backing) -> Option<Found> {
    let scenario = Scenario::c("fault")?.arg("read").mem_mib(64);
    let vm = scenario.config().backing(backing).prepare().unwrap();
    assert_eq!(vm.memory(), 64 * MIB);
    let mut running = Running::start(&vm);
    assert_eq!(running.first_line(), "read");
    let (memory, pid) = (running.monitor.guest_memory(), running.monitor.pid().to_string());
    let found =
        Found { present: present(&pid, &memory), huge: huge(&pid, &memory), here: present("self", &memory) };
    drop(running.stdin.take());
    assert_eq!(running.finish().unwrap().status, Status::Exited(0));
    Some(found)
}

#[test]
fn memory_is_there_when_it_is_touched_unless_all_of_it_is_asked_for() {
    let Some(untouched) = found(Backing::Untouched) else { return };
    // Huge pages, where the host gives them to everybody, are part of it.
    assert!(untouched.present < 32 * MIB && untouched.here == 0, "{untouched:?}");
    let Some(prefaulted) = found(Backing::Prefaulted) else { return };
    assert_eq!((prefaulted.present, prefaulted.here), (64 * MIB, 0));
}

#[test]
fn what_is_touched_is_in_huge_pages_where_these_are_asked_for() {
    if let Err(reason) = Backing::HugePages.check() {
        eprintln!("skipped: {reason}");
        return;
    }
    let Some(found) = found(Backing::HugePages) else { return };
    assert!(found.huge >= 2 * MIB && found.present < 64 * MIB && found.here == 0, "{found:?}");
}
