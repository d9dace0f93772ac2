//! What the monitor and our init under a Linux kernel agree on.
//!
//! They share one area of memory beside the guest's RAM, which init maps through `/dev/mem`: a page with the
//! [`Mailbox`], and [`DATA_SIZE`] bytes of data behind it. Init writes what it wants there and then one byte, an
//! [`op`], to the [`DOORBELL`]: one exit, whatever the amount of data, and no driver of any kernel is needed.

/// Guest-physical address of the mailbox: above the RAM below 4 GiB, below the interrupt controllers.
pub const MAILBOX_GPA: u64 = 0xd000_0000;
/// Where the data begin in it.
pub const DATA_OFFSET: u64 = 4096;
/// Room for data; what the program writes leaves in pieces of at most this size, as much as a pipe holds.
pub const DATA_SIZE: u64 = 64 << 10;
/// Size of all of it.
pub const MAILBOX_SIZE: u64 = DATA_OFFSET + DATA_SIZE;
/// First bytes of the mailbox: "bhlinux" and a zero.
pub const MAGIC: u64 = u64::from_le_bytes(*b"bhlinux\0");
/// Version of this interface.
pub const VERSION: u32 = 4;

/// The port that an [`op`] is written to. Nothing of a PC is there (it is between the usual sound and joystick cards).
pub const DOORBELL: u16 = 0x5e0;

/// What init asks for.
pub mod op {
    /// Init runs: the kernel has done its part.
    pub const ENTERED: u8 = 1;
    /// The program is about to be started.
    pub const STARTING: u8 = 2;
    /// `len` bytes of data go to `stream` (1 or 2). `result`: 0, or an errno when nobody reads them.
    pub const OUTPUT: u8 = 3;
    /// Is there input? `result`: bytes put into the data, 0 at the end, [`super::NO_INPUT`] for none at present.
    pub const INPUT: u8 = 4;
    /// The program ended; `status` is what wait4(2) said.
    pub const ENDED: u8 = 5;
    /// Init cannot do its work: `stream` is the number of the step that failed ([`super::steps`]), `status` the errno.
    pub const FAILED: u8 = 6;
}

/// Answer to [`op::INPUT`] when there is none yet.
pub const NO_INPUT: i32 = -1;

/// Steps of init, for [`op::FAILED`].
pub mod steps {
    /// Opening `/dev/mem`.
    pub const OPEN_MEM: u32 = 1;
    /// Mapping the mailbox.
    pub const MAP_MEM: u32 = 2;
    /// The mailbox is not what it should be.
    pub const MAILBOX: u32 = 3;
    /// Making the pipes or the process.
    pub const PROCESS: u32 = 4;
    /// Executing the program.
    pub const EXEC: u32 = 5;
    /// Waiting for the program.
    pub const WAIT: u32 = 6;
    /// Finding the disk.
    pub const DISK: u32 = 7;
    /// Mounting the disk, or the layer over it.
    pub const MOUNT: u32 = 8;
    /// Setting up the network card.
    pub const NETWORK: u32 = 9;
    /// Making a disk's node in `/dev`.
    pub const NODE: u32 = 10;

    /// The step in words.
    pub const fn name(step: u32) -> &'static str {
        match step {
            OPEN_MEM => "opening /dev/mem (the kernel needs CONFIG_DEVMEM)",
            MAP_MEM => "mapping the mailbox through /dev/mem",
            MAILBOX => "reading the mailbox",
            PROCESS => "making pipes and a process",
            EXEC => "executing the program",
            WAIT => "waiting for the program",
            DISK => {
                "finding the disk (the kernel needs virtio-mmio with CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES and virtio-blk built in; \
                 scripts/build-guest-kernel builds one)"
            }
            MOUNT => {
                "mounting the disk under a layer in memory (the kernel needs its file system and overlayfs built in)"
            }
            NETWORK => "setting up the network card (the kernel needs virtio-mmio and virtio-net built in)",
            NODE => "making a disk's node in /dev",
            _ => "a step that it could not name",
        }
    }
}

/// The first page. The data hold, when init starts, the program's path, its `argc` arguments and its `envc`
/// variables, each ended by a zero byte.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Mailbox {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// Number of arguments, `argv[0]` included.
    pub argc: u32,
    /// Number of variables.
    pub envc: u32,
    /// Length of the texts in the data.
    pub text_len: u32,
    /// 1: standard input may bring something; 0: it is at its end already.
    pub stdin: u32,
    /// See [`op`].
    pub stream: u32,
    /// See [`op`].
    pub len: u32,
    /// See [`op`].
    pub result: i32,
    /// See [`op`].
    pub status: i32,
    /// Where the program's root is ([`root`]).
    pub root: u32,
    /// The guest's address on its network card, in network order as a number; 0: there is no card. The network has four
    /// addresses, and the one before is the host's.
    pub address: u32,
    /// What disks there are beside that of the root ([`disks`]).
    pub disks: u32,
}

/// What disks there are beside that of the root.
pub mod disks {
    /// None.
    pub const NONE: u32 = 0;
    /// Some, all of them to be read only. Init makes their nodes in `/dev`.
    pub const READ_ONLY: u32 = 1;
    /// Some, of which one can be written to: what the guest still holds back of it is written before the end is told.
    pub const WRITABLE: u32 = 2;
}

/// Where the program's root is.
pub mod root {
    /// The initramfs.
    pub const INITRAMFS: u32 = 0;
    /// The first disk, read-only, under a layer of changes in memory.
    pub const DISK: u32 = 1;
}

const _: () = assert!(size_of::<Mailbox>() == 56);
