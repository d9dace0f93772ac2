//! The region that `mmap` hands out, and the one that `brk` moves in.
//!
//! Memory of the region is always in one of three states: in use, *free and zero*, or above `top` (never used, zero).
//! Whatever is freed becomes zero at once: a short range by clearing it here, a long one by giving it back to the host,
//! which costs one exit and also returns the memory. So nothing needs to be cleared when it is handed out.

use crate::boot;
use crate::cell::Global;
use crate::errno::{EINVAL, ENOMEM, Result};
use crate::{port, user};
use vm_abi::{LARGE_PAGE, PAGE, op};

/// From this length on a freed range is given back to the host. An exit costs about as much as clearing so much.
const RELEASE_FROM: u64 = 32 << 10;
/// Free ranges that are remembered; when they run out, the smallest is lost to the program until it ends.
const RANGES: usize = 224;

/// A half-open range of page addresses.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

/// In this order: a program that maps nothing touches only the first words.
#[repr(C)]
struct Heap {
    /// Current break; 0 before the first call.
    brk: u64,
    /// End of what `mmap` has ever handed out; 0 before the first call.
    top: u64,
    count: usize,
    /// Free ranges below `top`, sorted, not touching.
    free: [Range; RANGES],
}

static HEAP: Global<Heap> =
    Global::new(Heap { brk: 0, top: 0, free: [Range { start: 0, end: 0 }; RANGES], count: 0 });

/// Rounds up to whole pages.
pub fn pages(len: u64) -> Result<u64> {
    Ok(len.checked_add(PAGE - 1).ok_or(ENOMEM)? & !(PAGE - 1))
}

/// Sees to it that the window is backed with memory up to `end`.
fn back(end: u64) -> Result<()> {
    if end > boot!(backed_end) {
        // The monitor also moves `backed_end` in the boot block.
        port::call(op::BACK, [end, 0, 0, 0])?;
    }
    Ok(())
}

/// Makes a range read as zero.
pub fn clear(start: u64, end: u64) {
    let (first, last) = (start.next_multiple_of(PAGE), end & !(PAGE - 1));
    if last > first && last - first >= RELEASE_FROM {
        user::zero(start, first - start);
        // Beyond what is backed nothing was ever written; the monitor clips to it.
        if port::call(op::RELEASE, [first, last - first, 0, 0]).is_err() {
            user::zero(first, last - first);
        }
        user::zero(last, end - last);
    } else {
        user::zero(start, end.min(boot!(backed_end)).saturating_sub(start));
    }
}

/// brk(2): the new break, or the old one where it cannot move.
pub fn brk(to: u64) -> u64 {
    let heap = HEAP.get();
    let (start, limit) = (boot!(brk_start), boot!(brk_end));
    if heap.brk == 0 {
        heap.brk = start;
    }
    if to < start || to > limit || back(to).is_err() {
        return heap.brk;
    }
    if to < heap.brk {
        clear(to, heap.brk);
    }
    heap.brk = to;
    to
}

impl Heap {
    fn start(&mut self) {
        if self.top == 0 {
            self.top = boot!(mmap_start);
        }
    }

    /// First free range that holds `len` bytes, cut from the list.
    fn take(&mut self, len: u64) -> Option<u64> {
        let i = self.free[..self.count].iter().position(|r| r.end - r.start >= len)?;
        let at = self.free[i].start;
        self.free[i].start += len;
        if self.free[i].start == self.free[i].end {
            self.remove(i);
        }
        Some(at)
    }

    fn remove(&mut self, i: usize) {
        self.free.copy_within(i + 1..self.count, i);
        self.count -= 1;
    }

    /// Takes `[start, end)` out of the free list wherever it overlaps.
    fn carve(&mut self, start: u64, end: u64) {
        let mut i = 0;
        while i < self.count {
            let r = self.free[i];
            if r.end <= start || r.start >= end {
                i += 1;
                continue;
            }
            self.remove(i);
            if r.end > end {
                self.insert(i, Range { start: end, end: r.end });
            }
            if r.start < start {
                self.insert(i, Range { start: r.start, end: start });
                i += 1;
            }
        }
    }

    fn insert(&mut self, i: usize, range: Range) {
        if self.count == RANGES {
            return;
        }
        self.free.copy_within(i..self.count, i + 1);
        self.free[i] = range;
        self.count += 1;
    }

    /// Puts a zeroed range back, joined with its neighbours.
    fn give(&mut self, start: u64, end: u64) {
        self.carve(start, end);
        let i = self.free[..self.count].iter().position(|r| r.start >= end).unwrap_or(self.count);
        let joins_next = i < self.count && self.free[i].start == end;
        let joins_last = i > 0 && self.free[i - 1].end == start;
        match (joins_last, joins_next) {
            (true, true) => {
                self.free[i - 1].end = self.free[i].end;
                self.remove(i);
            }
            (true, false) => self.free[i - 1].end = end,
            (false, true) => self.free[i].start = start,
            (false, false) => self.insert(i, Range { start, end }),
        }
        // What is free at the very top can be handed out in any size again.
        if self.count > 0 && self.free[self.count - 1].end == self.top {
            self.top = self.free[self.count - 1].start;
            self.count -= 1;
        }
    }
}

/// Hands out `len` bytes (whole pages), zero. `backed`: false for address space that is only reserved (PROT_NONE).
pub fn map(len: u64, backed: bool) -> Result {
    let heap = HEAP.get();
    heap.start();
    if let Some(at) = heap.take(len) {
        if backed && let Err(error) = back(at + len) {
            heap.give(at, at + len);
            return Err(error);
        }
        return Ok(at);
    }
    // Large areas start on a large page, as on Linux since 6.7, so that the host can use large pages for them.
    let at = if len >= LARGE_PAGE { heap.top.next_multiple_of(LARGE_PAGE) } else { heap.top };
    let end = at.checked_add(len).ok_or(ENOMEM)?;
    if end > boot!(mmap_end) {
        return Err(ENOMEM);
    }
    if backed {
        back(end)?;
    }
    let old = core::mem::replace(&mut heap.top, end);
    if at > old {
        heap.give(old, at);
    }
    Ok(at)
}

/// Hands out exactly `[at, at + len)` (MAP_FIXED), zero, whatever was there before.
pub fn map_fixed(at: u64, len: u64, backed: bool) -> Result {
    let end = at.checked_add(len).ok_or(ENOMEM)?;
    if !at.is_multiple_of(PAGE) {
        return Err(EINVAL);
    }
    if at < boot!(mmap_start) || end > boot!(mmap_end) {
        return Err(ENOMEM);
    }
    if backed {
        back(end)?;
    }
    let heap = HEAP.get();
    heap.start();
    if at < heap.top {
        clear(at, end.min(heap.top));
        heap.carve(at, end);
    }
    if end > heap.top {
        let old = core::mem::replace(&mut heap.top, end);
        if at > old {
            heap.give(old, at);
        }
    }
    Ok(at)
}

/// Whether nothing is mapped in a range of the region, for MAP_FIXED_NOREPLACE.
pub fn is_free(at: u64, len: u64) -> bool {
    let heap = HEAP.get();
    heap.start();
    let Some(end) = at.checked_add(len) else { return false };
    // The part below the top must lie in one free range: touching ones are always joined.
    let covered = end.min(heap.top);
    at >= boot!(mmap_start)
        && (at >= covered || heap.free[..heap.count].iter().any(|r| r.start <= at && covered <= r.end))
}

/// munmap(2): of what lies outside the region, nothing happens, as on Linux where nothing is mapped.
pub fn unmap(at: u64, len: u64) -> Result {
    if !at.is_multiple_of(PAGE) || len == 0 {
        return Err(EINVAL);
    }
    let end = at.checked_add(pages(len)?).ok_or(EINVAL)?;
    let heap = HEAP.get();
    heap.start();
    let (start, end) = (at.max(boot!(mmap_start)), end.min(heap.top));
    if start < end {
        clear(start, end);
        heap.give(start, end);
    }
    Ok(0)
}

/// mremap(2), without MREMAP_FIXED. `may_move`: MREMAP_MAYMOVE was given.
pub fn remap(at: u64, old: u64, new: u64, may_move: bool) -> Result {
    let (old, new) = (pages(old)?, pages(new)?);
    if !at.is_multiple_of(PAGE) || new == 0 || old == 0 {
        return Err(EINVAL);
    }
    let heap = HEAP.get();
    heap.start();
    let old_end = at.checked_add(old).ok_or(EINVAL)?;
    if at < boot!(mmap_start) || old_end > heap.top {
        return Err(crate::errno::EFAULT);
    }
    if new <= old {
        if new < old {
            unmap(at + new, old - new)?;
        }
        return Ok(at);
    }
    let new_end = at.checked_add(new).ok_or(ENOMEM)?;
    // Grow in place: at the top, or into a free range that follows.
    if old_end == heap.top && new_end <= boot!(mmap_end) {
        back(new_end)?;
        heap.top = new_end;
        return Ok(at);
    }
    if heap.free[..heap.count].iter().any(|r| r.start == old_end && r.end >= new_end) {
        back(new_end)?;
        heap.carve(old_end, new_end);
        return Ok(at);
    }
    if !may_move {
        return Err(ENOMEM);
    }
    let to = map(new, true)?;
    user::copy(to, at, old);
    unmap(at, old)?;
    Ok(to)
}

/// Whether an address lies in what `mmap` or `brk` has handed out (as far as the guest keeps count).
pub fn holds(at: u64, end: u64) -> bool {
    let heap = HEAP.get();
    (at >= boot!(mmap_start) && end <= heap.top) || (at >= boot!(brk_start) && end <= heap.brk)
}

/// mprotect(2) on reserved memory: what becomes accessible must be backed.
pub fn make_accessible(at: u64, len: u64) -> Result {
    let end = at.checked_add(pages(len)?).ok_or(ENOMEM)?;
    if at >= boot!(mmap_start) && end <= boot!(mmap_end) {
        back(end)?;
    }
    Ok(0)
}

/// Bytes in use, roughly: what lies below the tops, less what is free.
pub fn used() -> u64 {
    let heap = HEAP.get();
    let free: u64 = heap.free[..heap.count].iter().map(|r| r.end - r.start).sum();
    (heap.top.saturating_sub(boot!(mmap_start)) - free) + heap.brk.saturating_sub(boot!(brk_start))
}
