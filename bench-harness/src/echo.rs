//! The host's end of a workload that needs a network: a server that sends back whatever it gets (RFC 862).
//!
//! One thread, which allocates nothing once it runs, since other threads of this process fork. It serves one client at a time, the
//! latest: an instance that was killed may leave a connection that nobody ends.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};

use crate::target::{Instance, LaunchError, Prepared, Stdio};

/// Most bytes that are on their way here.
const BUFFER_BYTES: usize = 64 << 10;

/// From where the server can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// From this host's own network: by the loopback interface.
    Loopback,
    /// By an interface that is made for one instance, and whose address is not known before: from a network of four link-local
    /// addresses (RFC 3927) that the host is in as well.
    Link,
}

/// A server. It ends when it is dropped.
#[derive(Debug)]
pub struct Echo {
    shared: Arc<Shared>,
    port: u16,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    listener: TcpListener,
    over: AtomicBool,
}

impl Echo {
    /// Starts a server on a port of the kernel's choice.
    ///
    /// # Errors
    /// The step that failed.
    pub fn start(reach: Reach) -> Result<Self, LaunchError> {
        let failed = |step| move |source| LaunchError::Echo { step, source };
        let address = match reach {
            Reach::Loopback => Ipv4Addr::LOCALHOST,
            Reach::Link => Ipv4Addr::UNSPECIFIED,
        };
        let listener = TcpListener::bind((address, 0)).map_err(failed("listen"))?;
        listener.set_nonblocking(true).map_err(failed("make its socket wait for nothing"))?;
        let port = listener.local_addr().map_err(failed("learn its port"))?.port();
        let shared = Arc::new(Shared { listener, over: AtomicBool::new(false) });
        let own = Arc::clone(&shared);
        // Signals are for the thread that waits for them, and a new thread inherits what is blocked.
        let usual = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let usual = usual.map_err(|errno| failed("block signals")(errno.into()))?;
        let thread = std::thread::Builder::new().name("echo".into()).spawn(move || serve(&own));
        let restored = usual.thread_set_mask();
        let thread = thread.map_err(failed("start its thread"))?;
        let echo = Self { shared, port, thread: Some(thread) };
        restored.map_err(|errno| failed("let signals in again")(errno.into()))?;
        Ok(echo)
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A launch that this server belongs to, and ends with.
    #[must_use]
    pub fn beside(self, prepared: Box<dyn Prepared>) -> Box<dyn Prepared> {
        Box::new(Served { prepared, _echo: self })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        // Wakes the thread: a listener that is shut down can be accepted from, and gives an error.
        // SAFETY: takes two numbers; the descriptor is ours.
        unsafe { libc::shutdown(self.shared.listener.as_raw_fd(), libc::SHUT_RDWR) };
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and clients have missed the server.
            drop(thread.join());
        }
    }
}

struct Served {
    // In the order in which they go.
    prepared: Box<dyn Prepared>,
    _echo: Echo,
}

impl Prepared for Served {
    fn spawn(&self, stdio: Stdio) -> Result<Box<dyn Instance>, LaunchError> {
        self.prepared.spawn(stdio)
    }

    fn limitation(&self) -> Option<String> {
        self.prepared.limitation()
    }
}

/// A client, and what was got from it and not yet sent back: `buffer[from..to]`.
struct Client {
    stream: TcpStream,
    from: usize,
    to: usize,
}

fn serve(shared: &Shared) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut client: Option<Client> = None;
    while !shared.over.load(Ordering::Acquire) {
        let ready = match wait(&shared.listener, client.as_ref()) {
            Ok(ready) => ready,
            Err(ErrorKind::Interrupted) => continue,
            Err(_) => return,
        };
        if ready.client && client.as_mut().is_some_and(|client| client.go_on(&mut buffer).is_err()) {
            client = None;
        }
        if ready.listener {
            match accept(&shared.listener) {
                Ok(Some(stream)) => client = Some(Client { stream, from: 0, to: 0 }),
                Ok(None) => {}
                Err(error) if is_passing(&error) => {}
                Err(_) => return,
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Ready {
    listener: bool,
    client: bool,
}

fn wait(listener: &TcpListener, client: Option<&Client>) -> Result<Ready, ErrorKind> {
    let for_new = PollFd::new(listener.as_fd(), PollFlags::POLLIN);
    let ready = |entry: &PollFd<'_>| entry.any().unwrap_or(true);
    match client {
        None => {
            let mut entries = [for_new];
            poll(&mut entries, PollTimeout::NONE).map_err(|errno| io::Error::from(errno).kind())?;
            Ok(Ready { listener: ready(&entries[0]), client: false })
        }
        Some(client) => {
            let wish = if client.from < client.to { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            let mut entries = [for_new, PollFd::new(client.stream.as_fd(), wish)];
            poll(&mut entries, PollTimeout::NONE).map_err(|errno| io::Error::from(errno).kind())?;
            Ok(Ready { listener: ready(&entries[0]), client: ready(&entries[1]) })
        }
    }
}

/// The next client; `None` for one that does not belong here.
fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    let (stream, peer) = listener.accept()?;
    if !are_neighbours(stream.local_addr()?.ip(), peer.ip()) {
        return Ok(None);
    }
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(Some(stream))
}

/// Whether a failure to accept says nothing about the next one: the client is gone again.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::NotConnected
    )
}

/// Both on this host, or both in one network of four.
fn are_neighbours(own: IpAddr, peer: IpAddr) -> bool {
    let (IpAddr::V4(own), IpAddr::V4(peer)) = (own, peer) else { return false };
    let near = own.is_link_local() && own.to_bits() >> 2 == peer.to_bits() >> 2;
    near || (own.is_loopback() && peer.is_loopback())
}

impl Client {
    /// Reads or writes once what can be read or written now, without waiting.
    fn go_on(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let passing = |error: io::Error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(0),
            _ => Err(error),
        };
        if self.from == self.to {
            let got = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                got => got.or_else(passing)?,
            };
            (self.from, self.to) = (0, got);
        }
        if self.from < self.to {
            self.from += self.stream.write(&buffer[self.from..self.to]).or_else(passing)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn client(echo: &Echo) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, echo.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    #[test]
    fn everything_comes_back_in_its_order() {
        let echo = Echo::start(Reach::Loopback).unwrap();
        let mut stream = client(&echo);
        let sent: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[1] ^ n.to_le_bytes()[2]).collect();
        let mut writer = stream.try_clone().unwrap();
        let got = std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&sent).unwrap());
            let mut got = vec![0; sent.len()];
            stream.read_exact(&mut got).unwrap();
            got
        });
        assert!(got == sent);
    }

    #[test]
    fn a_client_that_neither_reads_nor_goes_gives_way_to_the_next() {
        let echo = Echo::start(Reach::Loopback).unwrap();
        let mut stuck = client(&echo);
        stuck.set_nonblocking(true).unwrap();
        // Until neither side takes any more.
        let mut quiet = 0;
        while quiet < 20 {
            if stuck.write(&[0; 4096]).is_ok_and(|written| written > 0) {
                quiet = 0;
            } else {
                quiet += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        for text in [b"first", b"again"] {
            let mut stream = client(&echo);
            stream.write_all(text).unwrap();
            let mut got = [0; 5];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(&got, text);
        }
    }

    #[test]
    fn a_server_is_gone_when_it_is_dropped_with_a_client_or_without() {
        for reach in [Reach::Loopback, Reach::Link] {
            let echo = Echo::start(reach).unwrap();
            let port = echo.port();
            let _client = client(&echo);
            drop(echo);
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
        }
        drop(Echo::start(Reach::Loopback).unwrap());
    }

    #[test]
    fn only_neighbours_are_served() {
        let are = |own: [u8; 4], peer: [u8; 4]| are_neighbours(own.into(), peer.into());
        assert!(are([127, 0, 0, 1], [127, 0, 0, 1]) && are([169, 254, 1, 5], [169, 254, 1, 6]));
        assert!(!are([169, 254, 1, 5], [169, 254, 1, 9]) && !are([192, 0, 2, 1], [192, 0, 2, 2]));
        assert!(!are([169, 254, 1, 5], [127, 0, 0, 1]));
    }
}
