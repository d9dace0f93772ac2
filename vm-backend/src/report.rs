//! What the monitor process leaves for the process that started it: a page that both share.
//!
//! Plain atomics: the monitor may die at any instruction, and what it wrote until then stays readable.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use vm_abi::UNSERVED_SLOTS;

/// Named phases of a start, in order. `guest_ready` is the reader's: it ends when the first byte of output arrives.
pub const PHASES: [&str; 7] = ["monitor", "open", "create_vm", "memory", "vcpu", "load", "enter"];

/// Most phases that a kind of machine has.
const MAX_PHASES: usize = 12;

/// Most stretches of guest memory that are told of: below and above the hole for devices.
const MAX_MEMORY: usize = 2;

/// Steps at which the monitor can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// Becoming a process of its own: descriptors, session, death signal.
    Detach = 1,
    /// Opening /dev/kvm.
    Open,
    /// KVM_CREATE_VM.
    CreateVm,
    /// Reserving or mapping the guest's memory.
    MapMemory,
    /// KVM_SET_USER_MEMORY_REGION.
    MemorySlot,
    /// KVM_CREATE_VCPU.
    CreateVcpu,
    /// Writing the program, its stack or the boot block into guest memory.
    Load,
    /// KVM_SET_CPUID2, KVM_SET_SREGS, KVM_SET_MSRS, KVM_SET_XCRS, KVM_SET_REGS.
    Registers,
    /// KVM_RUN.
    Run,
    /// An exit that the monitor has no use for: `detail` is the exit reason or the suberror, `address` the instruction.
    UnexpectedExit,
    /// A request of the guest that makes no sense: `detail` is its number.
    BadRequest,
    /// A panic in the monitor.
    Panic,
    /// KVM_CREATE_IRQCHIP, KVM_CREATE_PIT2, KVM_SET_TSS_ADDR.
    Interrupts,
    /// Starting the thread of a further vCPU.
    Thread,
    /// A Linux guest's kernel gave up: it panicked, or reset the machine, before the program ended.
    GuestReset,
    /// Our init in a Linux guest cannot do its work: `address` is the number of its step, `detail` its errno.
    Init,
    /// Making the disks and the network card of a Linux guest.
    Devices,
    /// MADV_POPULATE_WRITE over the guest's memory.
    PopulateMemory,
    /// MADV_HUGEPAGE over the guest's memory.
    AskHugePages,
}

const STEPS: [(Step, &CStr); 19] = [
    (Step::Detach, c"detaching from the caller"),
    (Step::Open, c"opening /dev/kvm"),
    (Step::CreateVm, c"KVM_CREATE_VM"),
    (Step::MapMemory, c"mapping guest memory"),
    (Step::MemorySlot, c"KVM_SET_USER_MEMORY_REGION"),
    (Step::CreateVcpu, c"KVM_CREATE_VCPU"),
    (Step::Load, c"loading the program"),
    (Step::Registers, c"setting registers"),
    (Step::Run, c"KVM_RUN"),
    (Step::UnexpectedExit, c"an exit from the guest that has no meaning here"),
    (Step::BadRequest, c"a malformed request of the guest"),
    (Step::Panic, c"a panic"),
    (Step::Interrupts, c"making interrupt controllers and timer"),
    (Step::Thread, c"starting the thread of a vCPU"),
    (Step::GuestReset, c"the guest's kernel panicked or reset the machine before the program ended"),
    (Step::Init, c"init in the guest failed"),
    (Step::Devices, c"making disks and network card"),
    (Step::PopulateMemory, c"filling in guest memory (MADV_POPULATE_WRITE, of Linux 5.14)"),
    (Step::AskHugePages, c"asking for huge pages (MADV_HUGEPAGE)"),
];

/// A failure of the monitor, read from the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Where; `None` where the monitor died without a word.
    pub step: Option<Step>,
    /// `errno`, or what the step says; 0 where there is none.
    pub detail: i32,
    /// An address, where the step has one.
    pub address: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = STEPS
            .iter()
            .find(|(s, _)| Some(*s) == self.step)
            .map_or(c"it ended without a report", |(_, n)| n);
        f.write_str(&name.to_string_lossy())?;
        match self.step {
            Some(Step::UnexpectedExit | Step::BadRequest) => {
                write!(f, " ({}) at {:#x}", self.detail, self.address)
            }
            Some(Step::Init) => {
                let step = u32::try_from(self.address).unwrap_or(0);
                write!(f, " at {}", vm_abi::linux::steps::name(step))?;
                if self.detail == 0 {
                    return Ok(());
                }
                write!(f, ": {}", io::Error::from_raw_os_error(self.detail))
            }
            _ if self.detail != 0 => write!(f, ": {}", io::Error::from_raw_os_error(self.detail)),
            _ => Ok(()),
        }
    }
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It called exit.
    Exited(i32),
    /// A signal ended it; `address` is where a fault happened, 0 for a signal that was sent.
    Signaled {
        /// Which.
        signal: i32,
        /// Address that faulted.
        address: u64,
    },
}

/// How often the guest left the machine, by reason. They explain the timings: each costs 8 to 60 us where ring 0 is
/// emulated, about one on hardware.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exits {
    /// Writes to standard output or error.
    pub write: u64,
    /// Reads from standard input, and waiting for streams.
    pub read: u64,
    /// Memory added or given back.
    pub memory: u64,
    /// Clocks and sleeping.
    pub time: u64,
    /// CPU exceptions.
    pub exception: u64,
    /// Everything else, the end included.
    pub other: u64,
}

impl Exits {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.write + self.read + self.memory + self.time + self.exception + self.other
    }
}

/// Index of a counter in the page.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    Write,
    Read,
    Memory,
    Time,
    Exception,
    Other,
}

const RUNNING: u32 = 0;
const EXITED: u32 = 1;
const SIGNALED: u32 = 2;
const FAILED: u32 = 3;

/// The shared page.
#[repr(C)]
pub(crate) struct Page {
    phases: [AtomicU64; MAX_PHASES],
    counts: [AtomicU64; 6],
    ended_ns: AtomicU64,
    address: AtomicU64,
    state: AtomicU32,
    step: AtomicU32,
    detail: AtomicI32,
    slots: AtomicU32,
    unserved: [AtomicU32; UNSERVED_SLOTS],
    /// Start and length in the monitor's address space; a length of 0 is none.
    memory: [[AtomicU64; 2]; MAX_MEMORY],
}

const _: () = assert!(size_of::<Page>() <= 4096);

/// A mapping of the page, shared over fork.
#[derive(Debug)]
pub(crate) struct Report {
    page: NonNull<Page>,
    names: &'static [&'static str],
}

// SAFETY: all fields are atomics; the mapping stays until drop.
unsafe impl Send for Report {}
// SAFETY: as above.
unsafe impl Sync for Report {}

impl Report {
    /// A fresh page, all zero, for a machine whose start has these phases.
    pub fn new(names: &'static [&'static str]) -> io::Result<Self> {
        debug_assert!(names.len() <= MAX_PHASES);
        let len = NonZeroUsize::new(size_of::<Page>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let page = unsafe {
            mmap_anonymous(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED)
        }?;
        Ok(Self { page: page.cast(), names })
    }

    fn page(&self) -> &Page {
        // SAFETY: mapped until drop, large enough (asserted above), and all-zero bytes are valid atomics.
        unsafe { self.page.as_ref() }
    }

    /// Marks the end of a phase.
    pub fn phase(&self, index: usize, now: u64) {
        self.page().phases[index].store(now, Relaxed);
    }

    /// Marks the end of a phase unless it was marked before: what a guest says twice counts once.
    pub fn phase_once(&self, index: usize, now: u64) {
        let phase = &self.page().phases[index];
        if phase.load(Relaxed) == 0 {
            phase.store(now, Relaxed);
        }
    }

    /// Counts an exit.
    pub fn count(&self, count: Count) {
        let counter = &self.page().counts[count as usize];
        // One writer: no read-modify-write needed.
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }

    /// The program exited.
    pub fn exited(&self, code: i32, now: u64) {
        self.page().detail.store(code, Relaxed);
        self.finish(EXITED, now);
    }

    /// A signal ended the program.
    pub fn signaled(&self, signal: i32, address: u64, now: u64) {
        self.page().detail.store(signal, Relaxed);
        self.page().address.store(address, Relaxed);
        self.finish(SIGNALED, now);
    }

    /// The monitor cannot go on.
    pub fn failed(&self, failure: Failure, now: u64) {
        let page = self.page();
        page.step.store(failure.step.map_or(0, |s| s as u32), Relaxed);
        page.detail.store(failure.detail, Relaxed);
        page.address.store(failure.address, Relaxed);
        self.finish(FAILED, now);
    }

    fn finish(&self, state: u32, now: u64) {
        self.page().ended_ns.store(now, Relaxed);
        self.page().state.store(state, Relaxed);
    }

    /// Keeps the counters of calls that were not served.
    pub fn unserved_counters(&self, counters: &[u32; UNSERVED_SLOTS]) {
        for (to, from) in self.page().unserved.iter().zip(counters) {
            if *from != 0 {
                to.store(*from, Relaxed);
            }
        }
    }

    /// Counts a memory slot that was added.
    pub fn slot_added(&self) {
        let slots = &self.page().slots;
        slots.store(slots.load(Relaxed) + 1, Relaxed);
    }

    /// The guest's memory is here, in the monitor's address space.
    pub fn memory_at(&self, host: *const u8, len: u64) {
        if let Some([start, length]) = self.page().memory.iter().find(|[_, length]| length.load(Relaxed) == 0)
        {
            start.store(host as u64, Relaxed);
            length.store(len, Relaxed);
        }
    }

    /// Where the guest's memory is in the monitor's address space.
    pub fn memory(&self) -> Vec<Range<u64>> {
        let known = self.page().memory.iter().map(|pair| pair.each_ref().map(|number| number.load(Relaxed)));
        known.filter(|[_, len]| *len != 0).map(|[start, len]| start..start.saturating_add(len)).collect()
    }

    /// The phases that ended so far.
    pub fn timeline(&self) -> Vec<(&'static str, u64)> {
        let ends = self.page().phases.iter().map(|p| p.load(Relaxed));
        self.names.iter().copied().zip(ends).filter(|(_, end)| *end != 0).collect()
    }

    /// How it ended, or why not.
    pub fn status(&self) -> Result<Status, Failure> {
        let page = self.page();
        let (detail, address) = (page.detail.load(Relaxed), page.address.load(Relaxed));
        match page.state.load(Relaxed) {
            EXITED => Ok(Status::Exited(detail)),
            SIGNALED => Ok(Status::Signaled { signal: detail, address }),
            FAILED => {
                let step = page.step.load(Relaxed);
                let step = STEPS.iter().map(|(s, _)| *s).find(|s| *s as u32 == step);
                Err(Failure { step, detail, address })
            }
            _ => Err(Failure { step: None, detail: 0, address: 0 }),
        }
    }

    /// Whether the monitor wrote how it ended.
    pub fn is_finished(&self) -> bool {
        self.page().state.load(Relaxed) != RUNNING
    }

    /// When the program ended, CLOCK_MONOTONIC ns.
    pub fn ended_ns(&self) -> Option<u64> {
        Some(self.page().ended_ns.load(Relaxed)).filter(|ns| *ns != 0)
    }

    /// Memory slots in use.
    pub fn slots(&self) -> u32 {
        self.page().slots.load(Relaxed)
    }

    /// The exits so far.
    pub fn exits(&self) -> Exits {
        let [write, read, memory, time, exception, other] =
            self.page().counts.each_ref().map(|c| c.load(Relaxed));
        Exits { write, read, memory, time, exception, other }
    }

    /// System calls that were not served, with how often.
    pub fn unserved(&self) -> Vec<(usize, u32)> {
        let counters = self.page().unserved.iter().map(|c| c.load(Relaxed));
        counters.enumerate().filter(|(_, n)| *n > 0).collect()
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and `&mut self` says that nobody uses it any more. Failure would leak one page.
        if unsafe { munmap(self.page.cast(), size_of::<Page>()) }.is_err() {
            debug_assert!(false, "munmap of the report");
        }
    }
}
