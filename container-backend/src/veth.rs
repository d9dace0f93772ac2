//! A veth pair: one end inside as `eth0`, the other in the caller's network namespace or in another.
//!
//! The pair is made by a message that is sent in the outer namespace and names a task in the inner one, so nothing is ever
//! moved between the two, which would wait for an RCU grace period. Both ends die with the inner namespace: there is nothing
//! to be cleaned up after a killed caller. That takes the kernel some milliseconds, so where an instance ends as it
//! should, its outer end is removed and waited for.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::capabilities::{NET_ADMIN, of_caller};
use crate::error::PrepareError;
use crate::netlink::{self, Address, Message};
use crate::sys::{self, Ret, call};

/// The inner end's name.
pub(crate) const INSIDE: &[u8] = b"eth0\0";

/// A pair of network interfaces: what comes in at one end goes out at the other.
///
/// Without addresses, both ends have only the link-local one that the kernel gives them for IPv6. The addresses are the
/// same for all instances of one [`Prepared`](crate::Prepared): give none where several are to run at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Veth {
    /// The inner end's address.
    pub inside: Option<Address>,
    /// The outer end's address. Where it is in the inner one's network, it is the way to everywhere else from inside.
    pub outside: Option<Address>,
    /// The network namespace of the outer end, by a path like `/run/netns/NAME` or `/proc/PID/ns/net`; the caller's if none.
    pub namespace: Option<PathBuf>,
}

impl Veth {
    /// A pair without addresses, its outer end in the caller's network namespace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the addresses.
    #[must_use]
    pub fn addresses(mut self, inside: Address, outside: Address) -> Self {
        (self.inside, self.outside) = (Some(inside), Some(outside));
        self
    }

    /// Sets the network namespace of the outer end.
    #[must_use]
    pub fn namespace(mut self, path: impl AsRef<Path>) -> Self {
        self.namespace = Some(path.as_ref().to_owned());
        self
    }

    /// Where everything that is not in the inner end's network is sent.
    fn gateway(&self) -> Option<IpAddr> {
        let outside = self.outside?.address();
        self.inside.filter(|inside| inside.reaches(outside)).map(|_| outside)
    }
}

/// What the child does at its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InnerEnd {
    address: Option<Address>,
    gateway: Option<IpAddr>,
}

impl InnerEnd {
    pub(crate) fn new(veth: &Veth) -> Self {
        Self { address: veth.inside, gateway: veth.gateway() }
    }

    /// Called by the child: allocates nothing.
    pub(crate) fn set(&self) -> Ret {
        let socket = RawFd::try_from(netlink::socket()?).unwrap_or(-1);
        let index = netlink::index(socket, INSIDE)?;
        if let Some(address) = self.address {
            netlink::exchange(socket, &Message::new_address(index, address))?;
        }
        netlink::exchange(socket, &Message::up(index))?;
        if let Some(gateway) = self.gateway {
            netlink::exchange(socket, &Message::default_route(index, gateway))?;
        }
        // SAFETY: the socket made above.
        unsafe { call(libc::SYS_close, [sys::fd(socket), 0, 0, 0, 0, 0]) }
    }
}

/// Numbers the outer ends.
static NUMBER: AtomicU32 = AtomicU32::new(0);
/// As many of the number's bits as there is room for in a name.
const NUMBER_BITS: u32 = 28;

/// The outer side of all pairs of one `Prepared`.
#[derive(Debug)]
pub(crate) struct Outside {
    address: Option<Address>,
    namespace: Option<File>,
    /// Sockets in that namespace that nobody uses at the moment.
    sockets: Mutex<Vec<OwnedFd>>,
}

impl Outside {
    pub(crate) fn new(veth: &Veth) -> Result<Arc<Self>, PrepareError> {
        let open = |path: &PathBuf| {
            File::open(path).map_err(|source| PrepareError::NetworkNamespace { path: path.clone(), source })
        };
        let namespace = veth.namespace.as_ref().map(open).transpose()?;
        if namespace.is_none() && !has_net_admin() {
            return Err(PrepareError::VethRights);
        }
        let outside = Self { address: veth.outside, namespace, sockets: Mutex::default() };
        let socket = outside.socket().map_err(|source| match &veth.namespace {
            Some(path) => PrepareError::NetworkNamespace { path: path.clone(), source },
            None => PrepareError::Open { what: "a netlink socket", source },
        })?;
        outside.give_back(socket);
        Ok(Arc::new(outside))
    }

    /// Makes a pair with the inner end in the network namespace of `task`.
    pub(crate) fn connect(self: &Arc<Self>, end: &OuterEnd, task: i32) -> io::Result<()> {
        let socket = self.socket()?;
        let asked = |message: &Message| netlink::exchange(socket.as_raw_fd(), message);
        let made = asked(&Message::new_pair(end.name.as_bytes_with_nul(), INSIDE, task)).and_then(|_| {
            end.made.store(true, Relaxed);
            let Some(address) = self.address else { return Ok(0) };
            let index = netlink::index(socket.as_raw_fd(), end.name.as_bytes())?;
            asked(&Message::new_address(index, address))
        });
        self.give_back(socket);
        made.map(drop).map_err(sys::os_error)
    }

    fn remove(&self, name: &CString) {
        let Ok(socket) = self.socket() else { return };
        // It may have gone by itself, with the inner namespace.
        let _gone = netlink::exchange(socket.as_raw_fd(), &Message::remove(name.as_bytes_with_nul()));
        self.give_back(socket);
    }

    fn socket(&self) -> io::Result<OwnedFd> {
        if let Some(socket) = self.sockets.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(socket);
        }
        let made = match &self.namespace {
            None => netlink::socket(),
            Some(namespace) => socket_in(namespace)?,
        };
        // SAFETY: both make a socket.
        unsafe { sys::owned(made) }
    }

    fn give_back(&self, socket: OwnedFd) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    }
}

/// A socket of another namespace, made by a thread that enters it and ends.
fn socket_in(namespace: &File) -> io::Result<Ret> {
    std::thread::scope(|scope| {
        let enter = || {
            // SAFETY: setns takes numbers only; the thread's namespace is no other thread's matter.
            match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
                0 => Ok(netlink::socket()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, enter)?;
        thread.join().unwrap_or_else(|_panic| Err(io::Error::from_raw_os_error(libc::EIO)))
    })
}

/// The outer end of one instance's pair. Removed on drop, if it has been made.
#[derive(Debug)]
pub(crate) struct OuterEnd {
    /// Whether there is one, and it is ours: another's may have the same name.
    made: AtomicBool,
    name: CString,
    outside: Arc<Outside>,
}

impl OuterEnd {
    pub(crate) fn new(outside: &Arc<Outside>) -> Self {
        let number = NUMBER.fetch_add(1, Relaxed) & ((1 << NUMBER_BITS) - 1);
        let name = CString::new(format!("v{:x}-{number:x}", std::process::id())).unwrap_or_default();
        Self { made: AtomicBool::new(false), name, outside: Arc::clone(outside) }
    }

    pub(crate) fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    pub(crate) fn connect(&self, task: i32) -> io::Result<()> {
        self.outside.connect(self, task)
    }

    /// Leaves it to the end of the inner namespace.
    pub(crate) fn leave(self) {
        self.made.store(false, Relaxed);
    }
}

impl Drop for OuterEnd {
    fn drop(&mut self) {
        if self.made.load(Relaxed) {
            self.outside.remove(&self.name);
        }
    }
}

/// Whether the caller may make interfaces in its own network namespace.
fn has_net_admin() -> bool {
    of_caller().is_some_and(|own| own.effective & 1 << NET_ADMIN != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_end_is_the_gateway_where_it_can_be_reached() {
        let address = |text| Address::parse(text).expect("an address");
        let near = Veth::new().addresses(address("10.1.0.2/24"), address("10.1.0.1/24"));
        assert_eq!(near.gateway(), Some(address("10.1.0.1/24").address()));
        assert_eq!(Veth::new().addresses(address("10.1.0.2/24"), address("10.9.0.1/24")).gateway(), None);
        assert_eq!(Veth::new().gateway(), None);
    }

    #[test]
    fn an_interface_of_another_is_not_removed_when_its_name_was_taken() {
        let scenario = || {
            // SAFETY: numbers only; a thread of its own namespaces is no other thread's matter.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return;
            }
            // SAFETY: takes nothing.
            let task = unsafe { libc::gettid() };
            let outside = Outside::new(&Veth::new()).expect("its own namespace");
            let another = |name: &CString| OuterEnd {
                made: AtomicBool::new(false),
                name: name.clone(),
                outside: Arc::clone(&outside),
            };
            let first = OuterEnd::new(&outside);
            first.connect(task).expect("a pair");
            let name = first.name.clone();
            let there = || {
                let socket = outside.socket().expect("a socket");
                netlink::index(socket.as_raw_fd(), name.as_bytes()).is_ok()
            };
            let second = another(&name);
            let refused = second.connect(task).expect_err("the name is taken");
            assert_eq!(refused.raw_os_error(), Some(libc::EEXIST));
            drop(second);
            assert!(there(), "it is the first one's");
            drop(another(&name));
            assert!(there(), "nothing was made");
            drop(first);
            assert!(!there());
        };
        std::thread::scope(|scope| scope.spawn(scenario).join()).expect("no assertion failed");
    }

    #[test]
    fn no_name_is_longer_than_an_interfaces() {
        assert!(format!("v{:x}-{:x}", 4_194_304, (1_u32 << NUMBER_BITS) - 1).len() < libc::IFNAMSIZ);
    }
}
