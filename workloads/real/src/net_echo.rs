//! `net-echo`: round trips and a stream over TCP to a server that sends back whatever it gets (RFC 862).
//!
//! The server is outside of the target: whoever starts the program says where, in the variable [`SERVER`]. What is measured is the
//! way there and back: the target's network and the host's, and two wake-ups. Round trips go into a histogram (the `hdrhistogram`
//! crate), 0.1 % wide.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use hdrhistogram::Histogram;
use workload_program::mix::{Random, fold, fold_bytes};
use workload_program::sys::now_ns;
use workload_program::work::{Figure, PrepareError, Work, filled, iterate};

/// Where the server is: `ADDRESS:PORT`, or `CARD:PORT` for the other one in the network of four addresses that this network card is in.
pub const SERVER: &str = "NET_ECHO";

/// Round trips of one iteration.
const ROUND_TRIPS: u32 = 16;
/// One message, either way.
const MESSAGE_BYTES: usize = 64;
/// What is streamed there and back in one iteration.
const STREAM_BYTES: usize = 128 << 10;
/// One write of it, one read.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces that may be on their way: fewer than the sockets have room for, so that neither side waits for the other for ever.
const ON_THE_WAY: usize = 4;
const SEED: u64 = 0x0000_ec40;
/// A connection that is silent for so long is broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any round trip is worth telling apart: a minute.
const LONGEST_NS: u64 = 60_000_000_000;

/// The workload `net-echo`; one operation is one round trip, and its part of the stream.
pub struct NetEcho {
    connection: TcpStream,
    round_trips: Histogram<u64>,
    /// Nanoseconds that the last repetition streamed.
    streamed_ns: u64,
    contents: Vec<u8>,
    piece: Vec<u8>,
}

impl NetEcho {
    /// Connects with the server that [`SERVER`] names.
    ///
    /// # Errors
    ///
    /// The step that failed: nobody named a server, or it cannot be reached from here.
    pub fn new() -> Result<Self, PrepareError> {
        let named = std::env::var(SERVER).map_err(|_| {
            PrepareError::Step("find a server", format!("the variable {SERVER} does not say ADDRESS:PORT"))
        })?;
        Self::to(&named)
    }

    /// Connects with the server of this name, which is written as in [`SERVER`].
    ///
    /// # Errors
    ///
    /// It means none, or the server cannot be reached from here.
    pub fn to(named: &str) -> Result<Self, PrepareError> {
        let server =
            server(named).map_err(|why| PrepareError::Step("find the server", format!("{named}: {why}")))?;
        let failed =
            |error: io::Error| PrepareError::Step("connect with the server", format!("{server}: {error}"));
        let connection = TcpStream::connect_timeout(&server, PATIENCE).map_err(failed)?;
        connection.set_nodelay(true).map_err(failed)?;
        connection.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        connection.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let round_trips = Histogram::new_with_bounds(1, LONGEST_NS, 3)
            .map_err(|error| PrepareError::Step("make a histogram", error.to_string()))?;
        let mut contents = filled(STREAM_BYTES, 0_u8)?;
        let mut random = Random::new(SEED);
        for word in contents.chunks_exact_mut(8) {
            word.copy_from_slice(&random.word().to_le_bytes());
        }
        Ok(Self { connection, round_trips, streamed_ns: 0, contents, piece: filled(PIECE_BYTES, 0)? })
    }

    /// One message after the other, each when the one before it is back.
    fn talk(&mut self) -> io::Result<u64> {
        let mut sum = 0;
        for (message, _) in self.contents.chunks(MESSAGE_BYTES).zip(0..ROUND_TRIPS) {
            let mut answer = [0; MESSAGE_BYTES];
            let start = now_ns();
            self.connection.write_all(message)?;
            self.connection.read_exact(&mut answer)?;
            self.round_trips.saturating_record(now_ns().saturating_sub(start));
            sum = fold_bytes(sum, &answer);
        }
        Ok(sum)
    }

    /// As much as the way takes at once.
    fn stream(&mut self) -> io::Result<u64> {
        let mut sum = 0;
        let mut read = |connection: &mut TcpStream, number: usize| {
            connection.read_exact(&mut self.piece)?;
            // All of it would be a measurement of the checksum.
            let part = self.piece.chunks(MESSAGE_BYTES).nth(number).unwrap_or_default();
            sum = fold_bytes(sum, part);
            Ok::<(), io::Error>(())
        };
        let start = now_ns();
        let pieces = STREAM_BYTES / PIECE_BYTES;
        for (number, piece) in self.contents.chunks(PIECE_BYTES).enumerate() {
            if let Some(back) = number.checked_sub(ON_THE_WAY) {
                read(&mut self.connection, back)?;
            }
            self.connection.write_all(piece)?;
        }
        for number in pieces - ON_THE_WAY..pieces {
            read(&mut self.connection, number)?;
        }
        self.streamed_ns += now_ns().saturating_sub(start);
        Ok(sum)
    }
}

impl Work for NetEcho {
    fn operations(&self) -> u64 {
        ROUND_TRIPS.into()
    }

    /// A server that is gone, or that answers something else, comes to another checksum.
    fn repeat(&mut self, iterations: u64) -> u64 {
        self.round_trips.reset();
        self.streamed_ns = 0;
        iterate(iterations, || self.talk().and_then(|sum| Ok(fold(sum, self.stream()?))).unwrap_or(0))
    }

    fn figures(&self, iterations: u64, _elapsed_ns: u64, emit: &mut dyn FnMut(Figure)) {
        let at = |quantile| self.round_trips.value_at_quantile(quantile) as f64;
        emit(("round_trip_p50", "ns", at(0.5)));
        emit(("round_trip_p99", "ns", at(0.99)));
        let bytes = STREAM_BYTES as f64 * iterations.max(1) as f64;
        emit(("throughput", "bytes/s", bytes * 1e9 / self.streamed_ns.max(1) as f64));
    }
}

/// What the variable means.
fn server(named: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = named.parse() {
        return Ok(address);
    }
    let (card, port) = named.rsplit_once(':').ok_or("ADDRESS:PORT or CARD:PORT is needed")?;
    let port = port.parse().map_err(|_| "its port is no number".to_owned())?;
    let own = address_of(card).map_err(|error| format!("the network card's address: {error}"))?;
    Ok(SocketAddrV4::new(neighbour(own), port).into())
}

/// The first is to the second of a network of four as the second is to the first.
fn neighbour(own: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(own) ^ 3)
}

/// The address of a network card (netdevice(7)).
fn address_of(card: &str) -> io::Result<Ipv4Addr> {
    // Only to have something to ask.
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: a structure of plain numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    let last = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..last].iter_mut().zip(card.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: SIOCGIFADDR reads and writes a `struct ifreq`, which the argument is.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFADDR, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, and then has stored an address.
    let bytes = unsafe { request.ifr_ifru.ifru_addr }.sa_data;
    // Behind the port.
    let [_, _, a, b, c, d, ..] = bytes.map(|byte| byte.to_ne_bytes()[0]);
    Ok(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    /// A server that ends with its one client, or after so many bytes.
    fn answering(most: u64) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            // The client may go before the last bytes have arrived.
            drop(io::copy(&mut (&stream).take(most), &mut &stream));
        });
        (address, server)
    }

    #[test]
    fn what_comes_back_is_the_same_each_time() {
        let (address, server) = answering(u64::MAX);
        let mut work = NetEcho::to(&address).unwrap();
        let sum = work.repeat(1);
        assert_eq!((sum == 0, work.repeat(2)), (false, sum));
        assert_eq!(work.round_trips.len(), 2 * u64::from(ROUND_TRIPS));
        assert!(work.streamed_ns > 0);
        drop(work);
        server.join().unwrap();
    }

    #[test]
    fn a_server_that_goes_away_is_noticed() {
        let (address, server) = answering(50_000);
        assert_eq!(NetEcho::to(&address).unwrap().repeat(1), 0);
        server.join().unwrap();
    }

    #[test]
    fn a_server_is_an_address_or_the_neighbour_on_a_card() {
        assert_eq!(server("192.0.2.1:80").unwrap().to_string(), "192.0.2.1:80");
        assert_eq!(server("lo:80").unwrap().to_string(), "127.0.0.2:80");
        for (wrong, why) in
            [("here", "ADDRESS:PORT"), ("lo:http", "no number"), ("no-such-card:1", "card's address")]
        {
            let said = server(wrong).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert_eq!(neighbour(Ipv4Addr::new(169, 254, 1, 6)), Ipv4Addr::new(169, 254, 1, 5));
    }

    #[test]
    fn a_server_that_cannot_be_reached_is_named() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let said = NetEcho::to(&free.to_string()).err().unwrap().to_string();
        assert!(said.contains("connect") && said.contains(&free.to_string()), "{said}");
    }
}
