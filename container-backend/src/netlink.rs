//! The few messages of rtnetlink(7) that a veth pair needs, without allocating: the child sends some of them itself.

use std::net::IpAddr;
use std::os::fd::RawFd;

use crate::sys::{self, Ret, call, flags};

/// Room for one message; the longest one here has about 150 bytes.
const ROOM: usize = 256;
/// Room for an answer, which holds what was asked.
const ANSWER: usize = 512;
/// `struct nlmsghdr`, and the error number behind it in an answer.
const HEADER: usize = 16;
/// Attributes begin at multiples of this (`NLA_ALIGNTO`).
const ALIGN: usize = 4;
/// What every request here has: `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 1 | 4;
/// For what must not be there yet: `NLM_F_CREATE | NLM_F_EXCL`.
const CREATE: u16 = 0x400 | 0x200;
/// `NLMSG_ERROR`: an answer, with 0 for success.
const ERROR: u16 = 2;
/// `VETH_INFO_PEER` (include/uapi/linux/veth.h), `IFLA_INFO_KIND`, `IFLA_INFO_DATA`.
const VETH_INFO_PEER: u16 = 1;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
/// `IFA_F_NODAD`: an address of IPv6 is good at once; nobody else is on a link of two ends.
const NO_DUPLICATE_DETECTION: u8 = 2;
/// `SIOCGIFINDEX`.
const GET_INDEX: usize = 0x8933;

/// A network address and how many of its bits are the network's: `10.1.0.2/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    address: IpAddr,
    prefix: u8,
}

impl Address {
    /// An address whose first `prefix` bits are the network's; `None` if those are none, or more than the address has.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        (1..=most).contains(&prefix).then_some(Self { address, prefix })
    }

    /// `ADDRESS/BITS`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        Self::new(address.parse().ok()?, prefix.parse().ok()?)
    }

    /// The address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits of the network's part.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `other` is in the same network.
    pub(crate) fn reaches(&self, other: IpAddr) -> bool {
        let same = |own: u128, other: u128, bits: u32| (own ^ other).checked_shr(bits).unwrap_or(0) == 0;
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same(own.to_bits().into(), other.to_bits().into(), 32 - u32::from(self.prefix))
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                same(own.to_bits(), other.to_bits(), 128 - u32::from(self.prefix))
            }
            _ => false,
        }
    }
}

/// The bytes of an address, and the family's number.
struct Bytes {
    bytes: [u8; 16],
    length: usize,
    family: u8,
}

impl Bytes {
    fn new(address: IpAddr) -> Self {
        let mut bytes = [0; 16];
        #[expect(clippy::cast_possible_truncation, reason = "small constants")]
        let (length, family) = match address {
            IpAddr::V4(address) => {
                for (to, from) in bytes.iter_mut().zip(address.octets()) {
                    *to = from;
                }
                (4, libc::AF_INET as u8)
            }
            IpAddr::V6(address) => {
                bytes = address.octets();
                (16, libc::AF_INET6 as u8)
            }
        };
        Self { bytes, length, family }
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    bytes: [u8; ROOM],
    length: usize,
    /// Whether something had no room.
    full: bool,
}

impl Message {
    fn new(kind: u16, how: u16, fixed: &[u8]) -> Self {
        let mut message = Self { bytes: [0; ROOM], length: HEADER, full: false };
        message.set(4, &kind.to_ne_bytes());
        message.set(6, &(REQUEST | how).to_ne_bytes());
        message.push(fixed);
        message
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        match self.bytes.get_mut(at..at + bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => self.full = true,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.set(self.length, bytes);
        self.length += bytes.len().next_multiple_of(ALIGN);
    }

    /// Adds an attribute.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.push(value);
        // The length is without the padding.
        self.close_at(start, start + ALIGN + value.len());
    }

    /// Begins an attribute that holds others; [`Message::close`] ends it.
    fn open(&mut self, kind: u16) -> usize {
        let start = self.length;
        self.set(start + 2, &kind.to_ne_bytes());
        self.length += ALIGN;
        start
    }

    fn close(&mut self, start: usize) {
        self.close_at(start, self.length);
    }

    fn close_at(&mut self, start: usize, end: usize) {
        self.set(start, &u16::try_from(end - start).unwrap_or(u16::MAX).to_ne_bytes());
    }

    /// A veth pair: `outside`, which is up, in the namespace of the socket that this is sent by, `inside` in that of `task`.
    pub(crate) fn new_pair(outside: &[u8], inside: &[u8], task: i32) -> Self {
        let mut message = Self::new(libc::RTM_NEWLINK, CREATE, &link(0, true));
        message.attribute(libc::IFLA_IFNAME, outside);
        let info = message.open(libc::IFLA_LINKINFO);
        message.attribute(INFO_KIND, b"veth");
        let data = message.open(INFO_DATA);
        let peer = message.open(VETH_INFO_PEER);
        // It cannot be brought up before both are there (veth_open() says ENOTCONN).
        message.push(&link(0, false));
        message.attribute(libc::IFLA_IFNAME, inside);
        message.attribute(libc::IFLA_NET_NS_PID, &task.to_ne_bytes());
        message.close(peer);
        message.close(data);
        message.close(info);
        message
    }

    /// Brings an interface up.
    pub(crate) fn up(index: u32) -> Self {
        Self::new(libc::RTM_NEWLINK, 0, &link(index, true))
    }

    /// The end of an interface, and with it of the other end of its pair.
    pub(crate) fn remove(name: &[u8]) -> Self {
        let mut message = Self::new(libc::RTM_DELLINK, 0, &link(0, false));
        message.attribute(libc::IFLA_IFNAME, name);
        message
    }

    /// An interface's address.
    pub(crate) fn new_address(index: u32, address: Address) -> Self {
        let bytes = Bytes::new(address.address);
        let [a, b, c, d] = index.to_ne_bytes();
        let fixed = [bytes.family, address.prefix, NO_DUPLICATE_DETECTION, 0, a, b, c, d];
        let mut message = Self::new(libc::RTM_NEWADDR, CREATE, &fixed);
        message.attribute(libc::IFA_LOCAL, bytes.get());
        message.attribute(libc::IFA_ADDRESS, bytes.get());
        message
    }

    /// The way to everywhere else.
    pub(crate) fn default_route(index: u32, gateway: IpAddr) -> Self {
        let bytes = Bytes::new(gateway);
        let mut fixed = [0; 12];
        let known = [bytes.family, 0, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, libc::RT_SCOPE_UNIVERSE];
        for (to, from) in fixed.iter_mut().zip(known.into_iter().chain([libc::RTN_UNICAST])) {
            *to = from;
        }
        let mut message = Self::new(libc::RTM_NEWROUTE, CREATE, &fixed);
        message.attribute(libc::RTA_GATEWAY, bytes.get());
        message.attribute(libc::RTA_OIF, &index.to_ne_bytes());
        message
    }
}

/// `struct ifinfomsg`: family, type, number, flags, which flags to change.
fn link(index: u32, up: bool) -> [u8; 16] {
    let up = if up { libc::IFF_UP.cast_unsigned() } else { 0 };
    let words = [0, index, up, up].map(u32::to_ne_bytes);
    let mut fixed = [0; 16];
    for (to, from) in fixed.iter_mut().zip(words.as_flattened()) {
        *to = *from;
    }
    fixed
}

/// A socket for [`exchange`] in the calling thread's network namespace.
pub(crate) fn socket() -> Ret {
    let kind = flags(libc::SOCK_RAW | libc::SOCK_CLOEXEC);
    // SAFETY: socket takes numbers only.
    unsafe { call(libc::SYS_socket, [flags(libc::AF_NETLINK), kind, flags(libc::NETLINK_ROUTE), 0, 0, 0]) }
}

/// Sends a request and waits for its answer, which the kernel has by the time that the sending returns.
pub(crate) fn exchange(socket: RawFd, message: &Message) -> Ret {
    if message.full {
        return Err(libc::EMSGSIZE);
    }
    let mut request = *message;
    request.set(0, &u32::try_from(message.length).unwrap_or(0).to_ne_bytes());
    let mut answer = [0_u8; ANSWER];
    let socket = sys::fd(socket);
    // SAFETY: two live buffers with their sizes.
    let read = unsafe {
        call(libc::SYS_write, [socket, request.bytes.as_ptr() as usize, request.length, 0, 0, 0])?;
        call(libc::SYS_read, [socket, answer.as_mut_ptr() as usize, ANSWER, 0, 0, 0])?
    };
    let kind = answer.get(4..6).and_then(|bytes| bytes.first_chunk()).copied().map(u16::from_ne_bytes);
    let error = answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.first_chunk()).copied();
    match error.map(i32::from_ne_bytes) {
        Some(0) if kind == Some(ERROR) && read >= HEADER + 4 => Ok(0),
        Some(error) if kind == Some(ERROR) && error < 0 => Err(-error),
        _ => Err(libc::EPROTO),
    }
}

/// An interface's number.
pub(crate) fn index(socket: RawFd, name: &[u8]) -> Result<u32, i32> {
    // `struct ifreq`: a name, and room that begins with the number.
    let mut request = [0_u8; libc::IFNAMSIZ + 24];
    for (to, from) in request.iter_mut().zip(name.iter().take(libc::IFNAMSIZ - 1)) {
        *to = *from;
    }
    // SAFETY: an ifreq to be read and written.
    unsafe { call(libc::SYS_ioctl, [sys::fd(socket), GET_INDEX, request.as_mut_ptr() as usize, 0, 0, 0])? };
    let index = request.get(libc::IFNAMSIZ..).and_then(|rest| rest.first_chunk()).copied();
    index.map(u32::from_ne_bytes).ok_or(libc::EPROTO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_with_its_network() {
        let address = Address::parse("10.1.0.2/24").expect("an address");
        assert!(address.reaches("10.1.0.1".parse().expect("an address")));
        assert!(!address.reaches("10.1.1.1".parse().expect("an address")));
        assert!(!address.reaches("::1".parse().expect("an address")));
        let six = Address::parse("fd00::2/64").expect("an address");
        assert!(six.reaches("fd00::1".parse().expect("an address")));
        assert!(!six.reaches("fd01::1".parse().expect("an address")));
        let four = "10.1.0.2".parse().expect("an address");
        assert_eq!([0, 33, 64, 255].map(|prefix| Address::new(four, prefix)), [None; 4]);
        let whole = Address::new(four, 32).expect("one address is a network, too");
        assert!(whole.reaches(four) && !whole.reaches("10.1.0.3".parse().expect("an address")));
        for wrong in ["10.1.0.2", "10.1.0.2/33", "10.1.0.2/0", "x/24", "fd00::2/129", ""] {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn attributes_are_padded_and_their_lengths_are_not() {
        let mut message = Message::new(16, 0, &[0; 16]);
        message.attribute(3, b"eth0\0");
        let bytes = &message.bytes[..message.length];
        assert_eq!(bytes.len(), 16 + 16 + 12);
        assert_eq!(&bytes[32..36], &[9, 0, 3, 0]);
    }

    #[test]
    fn what_has_no_room_is_not_sent() {
        let mut message = Message::new(16, 0, &[0; 16]);
        message.attribute(3, &[0; ROOM]);
        assert_eq!(exchange(-1, &message), Err(libc::EMSGSIZE));
    }

    #[test]
    fn the_kernel_answers() {
        let socket = RawFd::try_from(socket().expect("a socket")).expect("a small number");
        assert_eq!(index(socket, b"lo"), Ok(1));
        assert_eq!(index(socket, b"none such"), Err(libc::ENODEV));
        let refused = exchange(socket, &Message::remove(b"none-such\0"));
        assert!(matches!(refused, Err(libc::ENODEV | libc::EPERM)), "{refused:?}");
        // SAFETY: a descriptor of this test's own.
        unsafe { libc::close(socket) };
    }
}
