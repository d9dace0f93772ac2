//! What our init in the guest asks for. Every number in the mailbox is the guest's word: it is checked here.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vm_abi::linux::{DATA_OFFSET, DATA_SIZE, MAGIC, MAILBOX_GPA, Mailbox, NO_INPUT, VERSION, disks, op};
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, ReadVolatile, VolatileMemoryError,
    WriteVolatile,
};

use super::machine::Texts;
use crate::report::{Failure, Step};

/// What a byte at the doorbell means, once it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// The kernel has started init.
    Entered,
    /// Init is about to start the program.
    Starting,
    /// Output went out.
    Output,
    /// Input was asked for.
    Input,
    /// The program exited with this code.
    Exited(i32),
    /// A signal ended the program.
    Signaled(i32),
    /// Init gave up.
    Failed(Failure),
    /// Not one of ours: whoever may use ports in the guest can write anything.
    Unknown,
}

/// Standard streams of the program.
pub(super) struct Streams<'a> {
    /// Input, unless there is none.
    pub input: Option<BorrowedFd<'a>>,
    /// Output and errors.
    pub out: [BorrowedFd<'a>; 2],
}

/// What init is told at its start.
pub(super) struct Start<'a> {
    pub texts: &'a Texts,
    /// See [`vm_abi::linux::root`].
    pub root: u32,
    /// The guest's address, or 0.
    pub address: u32,
    /// See [`vm_abi::linux::disks`].
    pub disks: u32,
}

/// The mailbox of one machine, in its memory.
pub(super) struct Post<'a> {
    memory: &'a GuestMemoryMmap<()>,
    streams: Streams<'a>,
}

fn field(offset: usize) -> GuestAddress {
    GuestAddress(MAILBOX_GPA + offset as u64)
}

/// Where the data are.
const DATA: GuestAddress = GuestAddress(MAILBOX_GPA + DATA_OFFSET);

impl<'a> Post<'a> {
    /// Puts what init is told into the mailbox.
    pub fn new(memory: &'a GuestMemoryMmap<()>, start: &Start<'_>, streams: Streams<'a>) -> io::Result<Self> {
        let texts = start.texts;
        let write = |offset: usize, value: u32| memory.write_obj(value, field(offset));
        let all = || {
            memory.write_obj(MAGIC, field(offset_of!(Mailbox, magic)))?;
            write(offset_of!(Mailbox, version), VERSION)?;
            write(offset_of!(Mailbox, argc), texts.argc)?;
            write(offset_of!(Mailbox, envc), texts.envc)?;
            write(offset_of!(Mailbox, text_len), u32::try_from(texts.bytes.len()).unwrap_or(0))?;
            write(offset_of!(Mailbox, stdin), u32::from(streams.input.is_some()))?;
            write(offset_of!(Mailbox, root), start.root)?;
            write(offset_of!(Mailbox, address), start.address)?;
            write(offset_of!(Mailbox, disks), start.disks)?;
            memory.write_slice(&texts.bytes, DATA)
        };
        all().map_err(io::Error::other)?;
        Ok(Self { memory, streams })
    }

    fn read(&self, offset: usize) -> u32 {
        // Inside the mailbox, which is always there.
        self.memory.read_obj(field(offset)).unwrap_or(0)
    }

    fn answer(&self, value: i32) {
        let written = self.memory.write_obj(value, field(offset_of!(Mailbox, result)));
        debug_assert!(written.is_ok(), "{written:?}");
    }

    /// Serves what this byte at the doorbell asks for.
    pub fn serve(&self, operation: u8) -> Request {
        let stream = self.read(offset_of!(Mailbox, stream));
        let len = u64::from(self.read(offset_of!(Mailbox, len))).min(DATA_SIZE);
        let status = self.read(offset_of!(Mailbox, status)).cast_signed();
        match operation {
            op::ENTERED => Request::Entered,
            op::STARTING => Request::Starting,
            op::OUTPUT => {
                self.answer(self.output(stream, len).err().unwrap_or(0));
                Request::Output
            }
            op::INPUT => {
                self.answer(self.input(len));
                Request::Input
            }
            op::ENDED if libc::WIFSIGNALED(status) => Request::Signaled(libc::WTERMSIG(status)),
            op::ENDED => Request::Exited(libc::WEXITSTATUS(status)),
            op::FAILED => {
                Request::Failed(Failure { step: Some(Step::Init), detail: status, address: stream.into() })
            }
            _ => Request::Unknown,
        }
    }

    /// Writes all of it, or says why not.
    fn output(&self, stream: u32, len: u64) -> Result<(), i32> {
        let index = stream.checked_sub(1).and_then(|i| usize::try_from(i).ok());
        let mut fd = *index.and_then(|i| self.streams.out.get(i)).ok_or(libc::EBADF)?;
        let len = usize::try_from(len).map_err(|_| libc::EINVAL)?;
        let all = self.memory.get_slice(DATA, len).map_err(|_| libc::EFAULT)?;
        let mut done = 0;
        while done < len {
            let rest = all.offset(done).map_err(|_| libc::EFAULT)?;
            match fd.write_volatile(&rest) {
                Ok(0) => return Err(libc::EIO),
                Ok(n) => done += n,
                Err(VolatileMemoryError::IOError(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                // A stream that somebody made non-blocking is waited for.
                Err(VolatileMemoryError::IOError(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut fds, PollTimeout::NONE).map_err(|e| e as i32)?;
                }
                Err(VolatileMemoryError::IOError(e)) => return Err(e.raw_os_error().unwrap_or(libc::EIO)),
                Err(_) => return Err(libc::EFAULT),
            }
        }
        Ok(())
    }

    /// Reads what there is, without waiting.
    fn input(&self, len: u64) -> i32 {
        /// At the end, and where reading fails: the program sees no more of it.
        const END: i32 = 0;
        let Some(mut fd) = self.streams.input else { return END };
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0) {
            return NO_INPUT;
        }
        let Ok(mut place) = self.memory.get_slice(DATA, usize::try_from(len).unwrap_or(0)) else {
            return END;
        };
        match fd.read_volatile(&mut place) {
            Ok(n) => i32::try_from(n).unwrap_or(END),
            Err(VolatileMemoryError::IOError(e))
                if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) =>
            {
                NO_INPUT
            }
            Err(_) => END,
        }
    }
}

/// Serves one byte at the doorbell with these bytes in the mailbox, for the fuzz target of that name.
pub(crate) fn fuzz(
    memory: &GuestMemoryMmap<()>,
    mailbox: &[u8],
    operation: u8,
    input: BorrowedFd<'_>,
    out: BorrowedFd<'_>,
) {
    let texts = Texts { bytes: Vec::new(), argc: 0, envc: 0 };
    let start = Start { texts: &texts, root: 0, address: 0, disks: disks::WRITABLE };
    let streams = Streams { input: Some(input), out: [out, out] };
    let Ok(post) = Post::new(memory, &start, streams) else { return };
    if memory.write_slice(mailbox, GuestAddress(MAILBOX_GPA)).is_err() {
        return;
    }
    match post.serve(operation) {
        Request::Exited(code) => assert!((0..256).contains(&code)),
        Request::Signaled(signal) => assert!((1..128).contains(&signal)),
        Request::Failed(failure) => assert!(!failure.to_string().is_empty()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;

    use vm_abi::linux::MAILBOX_SIZE;

    use super::*;

    fn memory() -> GuestMemoryMmap<()> {
        let size = usize::try_from(MAILBOX_SIZE).unwrap();
        GuestMemoryMmap::from_ranges(&[(GuestAddress(MAILBOX_GPA), size)]).unwrap()
    }

    fn pipe() -> (File, OwnedFd) {
        let (read, write) = nix::unistd::pipe().unwrap();
        (read.into(), write)
    }

    struct Scene {
        memory: GuestMemoryMmap<()>,
        input: Option<File>,
        out: OwnedFd,
        reader: File,
    }

    impl Scene {
        fn new() -> Self {
            let (reader, out) = pipe();
            Self { memory: memory(), input: None, out, reader }
        }
        fn post(&self) -> Post<'_> {
            let texts = Texts { bytes: b"/a\0/a\0X=1\0".to_vec(), argc: 1, envc: 1 };
            let input = self.input.as_ref().map(File::as_fd);
            let start = Start { texts: &texts, root: 0, address: 0, disks: disks::NONE };
            Post::new(&self.memory, &start, Streams { input, out: [self.out.as_fd(); 2] }).unwrap()
        }
        fn set(&self, stream: u32, len: u32, status: i32) {
            self.memory.write_obj(stream, field(offset_of!(Mailbox, stream))).unwrap();
            self.memory.write_obj(len, field(offset_of!(Mailbox, len))).unwrap();
            self.memory.write_obj(status, field(offset_of!(Mailbox, status))).unwrap();
        }
        fn result(&self) -> i32 {
            self.memory.read_obj(field(offset_of!(Mailbox, result))).unwrap()
        }
    }

    #[test]
    fn init_finds_the_texts() {
        let scene = Scene::new();
        let _post = scene.post();
        let mut data = [0; 10];
        scene.memory.read_slice(&mut data, DATA).unwrap();
        assert_eq!(&data, b"/a\0/a\0X=1\0");
        let argc: u32 = scene.memory.read_obj(field(offset_of!(Mailbox, argc))).unwrap();
        assert_eq!(argc, 1);
    }

    #[test]
    fn output_goes_to_its_stream() {
        let mut scene = Scene::new();
        let post = scene.post();
        scene.memory.write_slice(b"hello", DATA).unwrap();
        scene.set(1, 5, 0);
        assert_eq!(post.serve(op::OUTPUT), Request::Output);
        assert_eq!(scene.result(), 0);
        let mut got = [0; 5];
        scene.reader.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
    }

    #[test]
    fn a_length_beyond_the_mailbox_is_cut_and_a_stream_that_is_none_refused() {
        let scene = Scene::new();
        let post = scene.post();
        let (mut reader, out) = pipe();
        let post = Post { streams: Streams { input: None, out: [out.as_fd(); 2] }, ..post };
        // A pipe holds exactly what the mailbox does.
        scene.set(2, u32::MAX, 0);
        post.serve(op::OUTPUT);
        assert_eq!(scene.result(), 0);
        drop(out);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all.len() as u64, DATA_SIZE);
        for stream in [0, 3, u32::MAX] {
            scene.set(stream, 5, 0);
            scene.post().serve(op::OUTPUT);
            assert_eq!(scene.result(), libc::EBADF);
        }
    }

    #[test]
    fn input_is_none_then_some_then_at_its_end() {
        let mut scene = Scene::new();
        let (reader, writer) = pipe();
        scene.input = Some(reader);
        scene.set(0, 4096, 0);
        scene.post().serve(op::INPUT);
        assert_eq!(scene.result(), NO_INPUT);
        File::from(writer).write_all(b"abc").unwrap();
        scene.post().serve(op::INPUT);
        assert_eq!(scene.result(), 3);
        scene.post().serve(op::INPUT);
        assert_eq!(scene.result(), 0);
    }

    #[test]
    fn the_end_is_that_of_the_program() {
        let scene = Scene::new();
        let post = scene.post();
        scene.set(0, 0, 7 << 8);
        assert_eq!(post.serve(op::ENDED), Request::Exited(7));
        scene.set(0, 0, libc::SIGSEGV | 0x80);
        assert_eq!(post.serve(op::ENDED), Request::Signaled(libc::SIGSEGV));
    }

    #[test]
    fn a_guest_may_ring_with_anything() {
        let scene = Scene::new();
        let post = scene.post();
        for operation in 7..=255 {
            assert_eq!(post.serve(operation), Request::Unknown);
        }
        scene.set(vm_abi::linux::steps::EXEC, 0, libc::ENOENT);
        let Request::Failed(failure) = post.serve(op::FAILED) else { panic!() };
        assert_eq!(
            failure.to_string(),
            "init in the guest failed at executing the program: No such file or directory (os error 2)"
        );
        scene.set(u32::MAX, u32::MAX, i32::MIN);
        let Request::Failed(failure) = post.serve(op::FAILED) else { panic!() };
        assert!(failure.to_string().contains("could not name"), "{failure}");
    }
}
