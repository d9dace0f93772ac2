//! Descriptors, and the open file descriptions behind them (dup(2) shares one).

use super::{Kind, NodeId, nodes};
use crate::boot;
use crate::cell::Global;
use crate::errno::{EBADF, EMFILE, Result};

/// How many descriptors a program can have.
pub const FDS: usize = 64;
/// Status flags that fcntl(F_SETFL) may change: O_APPEND and O_NONBLOCK.
const CHANGEABLE: u32 = 0o2000 | 0o4000;
/// O_CLOEXEC, which only fcntl(F_GETFD) sees.
pub const O_CLOEXEC: u32 = 0o2_000_000;

/// What a description refers to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A standard stream of the host.
    Stream(u8),
    /// A node.
    Node(NodeId),
}

/// An open file description.
#[derive(Clone, Copy)]
pub struct Description {
    /// What is open.
    pub target: Target,
    /// Where the next read or write happens; for a directory the next entry.
    pub offset: u64,
    /// Flags of open(2).
    pub flags: u32,
    refs: u16,
}

#[derive(Clone, Copy)]
struct Slot {
    description: u8,
    open: bool,
    cloexec: bool,
}

struct Fds {
    slots: [Slot; FDS],
    descriptions: [Description; FDS],
    started: bool,
}

static TABLE: Global<Fds> = Global::new(Fds {
    slots: [Slot { description: 0, open: false, cloexec: false }; FDS],
    descriptions: [Description { target: Target::Stream(0), offset: 0, flags: 0, refs: 0 }; FDS],
    started: false,
});

fn table() -> &'static mut Fds {
    let fds = TABLE.get();
    if !fds.started {
        fds.started = true;
        let modes = boot!(stdio_mode);
        for (i, mode) in modes.into_iter().enumerate() {
            if mode != 0 {
                // O_RDONLY for input, O_WRONLY for the others; a terminal is both.
                let flags = if boot!(stdio_tty)[i] != 0 { 2 } else { u32::from(i > 0) };
                fds.descriptions[i] =
                    Description { target: Target::Stream(i as u8), offset: 0, flags, refs: 1 };
                fds.slots[i] = Slot { description: i as u8, open: true, cloexec: false };
            }
        }
    }
    fds
}

/// The description of a descriptor.
pub fn get(fd: u64) -> Result<&'static mut Description> {
    let fds = table();
    let slot = fds.slots.get(fd as usize).filter(|s| s.open).ok_or(EBADF)?;
    Ok(&mut fds.descriptions[usize::from(slot.description)])
}

/// The stream behind a descriptor, if it is one of the host's: the quick way for the commonest calls.
pub fn stream(fd: u64) -> Result<Option<u8>> {
    Ok(match get(fd)?.target {
        Target::Stream(n) => Some(n),
        Target::Node(_) => None,
    })
}

/// Opens a target under the lowest free descriptor.
pub fn open(target: Target, flags: u32) -> Result {
    let fds = table();
    let place = fds.descriptions.iter().position(|d| d.refs == 0).ok_or(EMFILE)?;
    let fd = lowest(fds, 0)?;
    fds.descriptions[place] = Description { target, offset: 0, flags: flags & !O_CLOEXEC, refs: 1 };
    fds.slots[fd] = Slot { description: place as u8, open: true, cloexec: flags & O_CLOEXEC != 0 };
    if let Target::Node(id) = target {
        nodes().get_mut(id).opens += 1;
    }
    Ok(fd as u64)
}

fn lowest(fds: &Fds, from: usize) -> Result<usize> {
    (from..FDS).find(|i| !fds.slots[*i].open).ok_or(EMFILE)
}

/// dup(2), dup2(2), fcntl(F_DUPFD): `at_least` or exactly `to`.
pub fn duplicate(fd: u64, at_least: u64, to: Option<u64>, cloexec: bool) -> Result {
    get(fd)?;
    let fds = table();
    let description = fds.slots[fd as usize].description;
    let new = match to {
        Some(to) if to as usize >= FDS => return Err(EBADF),
        Some(to) => {
            if fds.slots[to as usize].open {
                close(to)?;
            }
            to as usize
        }
        None => lowest(fds, at_least as usize)?,
    };
    let fds = table();
    fds.slots[new] = Slot { description, open: true, cloexec };
    fds.descriptions[usize::from(description)].refs += 1;
    Ok(new as u64)
}

/// close(2).
pub fn close(fd: u64) -> Result {
    get(fd)?;
    let fds = table();
    let slot = &mut fds.slots[fd as usize];
    slot.open = false;
    let description = &mut fds.descriptions[usize::from(slot.description)];
    description.refs -= 1;
    if description.refs == 0
        && let Target::Node(id) = description.target
    {
        nodes().close(id);
    }
    Ok(0)
}

/// fcntl(2) on flags.
pub fn control(fd: u64, command: u64, value: u64) -> Result {
    let description = get(fd)?;
    match command {
        1 => Ok(u64::from(table().slots[fd as usize].cloexec)),
        2 => {
            table().slots[fd as usize].cloexec = value & 1 != 0;
            Ok(0)
        }
        3 => Ok(u64::from(description.flags)),
        4 => {
            description.flags = description.flags & !CHANGEABLE | value as u32 & CHANGEABLE;
            Ok(0)
        }
        _ => Err(crate::errno::EINVAL),
    }
}

/// What a target is.
pub fn kind(target: Target) -> Kind {
    match target {
        Target::Stream(n) => Kind::Stream(n),
        Target::Node(id) => nodes().get(id).kind,
    }
}
