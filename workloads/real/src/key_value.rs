//! `key-value`: a small server in a process of its own answers a client over a socket pair.
//!
//! One request at a time: what is measured is the way there and back, two wake-ups and four system calls, with a
//! little hashing in between. Latencies go into a histogram (the `hdrhistogram` crate), 0.1 % wide.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use crate::child::{cut_off, reap};
use hdrhistogram::Histogram;
use workload_program::mix::{Random, fold, fold_bytes};
use workload_program::sys::now_ns;
use workload_program::work::{Figure, PrepareError, Work, filled, iterate};

/// Requests of one iteration, a quarter of them writing.
const REQUESTS: u64 = 256;
const KEYS: u32 = 1024;
const SEED: u64 = 0x0000_4b56;
/// Length of a value.
const VALUE_BYTES: usize = 64;
/// One letter, a key, a value: the same length both ways, so that no length has to travel.
const MESSAGE_BYTES: usize = 1 + 4 + VALUE_BYTES;
const GET: u8 = b'g';
const SET: u8 = b's';
/// Longer than any latency is worth telling apart: a minute.
const LONGEST_NS: u64 = 60_000_000_000;

type Message = [u8; MESSAGE_BYTES];

/// The workload `key-value`; one operation is one request with its answer.
pub struct KeyValue {
    /// `None` once the server was asked to go.
    connection: Option<UnixStream>,
    server: libc::pid_t,
    latencies: Histogram<u64>,
}

impl KeyValue {
    /// Starts the server, and makes one iteration: it leaves the values as every iteration finds and leaves them.
    ///
    /// # Errors
    ///
    /// The step that failed: a target without processes or sockets cannot serve this workload.
    pub fn new() -> Result<Self, PrepareError> {
        let (ours, theirs) = UnixStream::pair().map_err(PrepareError::step("make a socket pair"))?;
        let latencies =
            Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(PrepareError::step("make a histogram"))?;
        // SAFETY: fork(2) takes no argument. There is one thread, so that the child finds no lock held by nobody.
        let server = match unsafe { libc::fork() } {
            -1 => return Err(PrepareError::step("start the server")(io::Error::last_os_error())),
            0 => {
                drop(ours);
                child(theirs)
            }
            pid => pid,
        };
        drop(theirs);
        let mut work = Self { connection: Some(ours), server, latencies };
        work.talk().map_err(PrepareError::step("talk to the server"))?;
        work.latencies.reset();
        Ok(work)
    }

    /// One iteration: the same requests each time; the checksum is of the answers.
    fn talk(&mut self) -> io::Result<u64> {
        let connection = self.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let mut random = Random::new(SEED);
        let mut sum = 0;
        for number in 0..REQUESTS {
            let mut message: Message = [0; MESSAGE_BYTES];
            message[0] = if random.below(4) == 0 { SET } else { GET };
            message[1..5].copy_from_slice(&random.below(KEYS).to_le_bytes());
            if message[0] == SET {
                message[5..].fill(number.to_le_bytes()[0]);
            }
            let start = now_ns();
            connection.write_all(&message)?;
            connection.read_exact(&mut message)?;
            self.latencies.saturating_record(now_ns().saturating_sub(start));
            sum = fold_bytes(sum, &message);
        }
        Ok(fold(sum, REQUESTS))
    }
}

impl Work for KeyValue {
    fn operations(&self) -> u64 {
        REQUESTS
    }

    /// A server that is gone comes to another checksum.
    fn repeat(&mut self, iterations: u64) -> u64 {
        self.latencies.reset();
        iterate(iterations, || self.talk().unwrap_or(0))
    }

    fn figures(&self, _iterations: u64, _elapsed_ns: u64, emit: &mut dyn FnMut(Figure)) {
        let at = |quantile| self.latencies.value_at_quantile(quantile) as f64;
        emit(("latency_p50", "ns", at(0.5)));
        emit(("latency_p99", "ns", at(0.99)));
        emit(("latency_max", "ns", self.latencies.max() as f64));
    }
}

impl Drop for KeyValue {
    fn drop(&mut self) {
        // The end of its input ends the server.
        self.connection = None;
        reap(self.server);
    }
}

/// The server's process. It ends with its input, and where its parent is killed.
fn child(connection: UnixStream) -> ! {
    cut_off();
    let status = u8::from(serve(connection).is_err());
    workload_program::sys::exit(status)
}

fn serve(mut connection: UnixStream) -> io::Result<()> {
    let mut values: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut message: Message = [0; MESSAGE_BYTES];
    loop {
        match connection.read_exact(&mut message) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let (head, value) = message.split_at_mut(5);
        let key = head.get(1..5).and_then(|key| key.first_chunk()).map_or(0, |key| u32::from_le_bytes(*key));
        match head.first() {
            Some(&SET) => {
                let kept = match values.entry(key) {
                    std::collections::hash_map::Entry::Occupied(kept) => kept.into_mut(),
                    std::collections::hash_map::Entry::Vacant(free) => free.insert(
                        filled(VALUE_BYTES, 0).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?,
                    ),
                };
                kept.copy_from_slice(value);
            }
            _ => match values.get(&key) {
                Some(kept) => value.copy_from_slice(kept),
                None => value.fill(0),
            },
        }
        connection.write_all(&message)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server in a thread: a test has several, and a fork of one of them would be another program.
    fn work() -> (KeyValue, std::thread::JoinHandle<io::Result<()>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(|| serve(theirs));
        let latencies = Histogram::new_with_bounds(1, LONGEST_NS, 3).unwrap();
        // No child of ours has this number: waiting for it fails at once.
        (KeyValue { connection: Some(ours), server: libc::pid_t::MAX, latencies }, server)
    }

    #[test]
    fn the_answers_are_the_same_once_every_key_was_written() {
        let (mut work, server) = work();
        let empty = work.talk().unwrap();
        let first = work.talk().unwrap();
        assert_ne!(empty, first, "what was written is read");
        assert_eq!(work.talk().unwrap(), first);
        assert_eq!(work.latencies.len(), 3 * REQUESTS);
        drop(work);
        server.join().unwrap().unwrap();
    }

    #[test]
    fn a_server_that_goes_away_is_noticed() {
        let (mut work, server) = work();
        work.connection.as_ref().unwrap().shutdown(std::net::Shutdown::Write).unwrap();
        server.join().unwrap().unwrap();
        assert_eq!(work.repeat(1), 0);
    }
}
