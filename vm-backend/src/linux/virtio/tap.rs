//! The host's end of a network card: a TAP device that lives as long as its descriptor.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Requests (include/uapi/linux/if_tun.h, include/uapi/linux/sockios.h).
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const SIOCSIFFLAGS: libc::c_ulong = 0x8914;
const SIOCSIFADDR: libc::c_ulong = 0x8916;
const SIOCSIFNETMASK: libc::c_ulong = 0x891c;
/// The kernel puts the first free number in the place of `%d`.
const NAME: &[u8] = b"bench%d\0";

/// A TAP device with an address for the host and one for the guest, in a network of their own.
#[derive(Debug)]
pub struct Tap {
    file: File,
    guest: Ipv4Addr,
}

/// Which step of making it failed.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// No such device, or no right to it.
    #[error("/dev/net/tun cannot be opened (module tun)")]
    Open(#[source] io::Error),
    /// The right to make network devices is needed.
    #[error("a TAP device cannot be made (it takes CAP_NET_ADMIN)")]
    Create(#[source] io::Error),
    /// Its address, its network, or that it is up.
    #[error("the TAP device {name} cannot be set up: {step}")]
    SetUp {
        /// The kernel's name for it.
        name: String,
        /// What was tried.
        step: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl TapError {
    /// What the kernel said.
    pub(crate) fn into_source(self) -> io::Error {
        let (Self::Open(source) | Self::Create(source) | Self::SetUp { source, .. }) = self;
        source
    }
}

fn ioctl(fd: BorrowedFd<'_>, request: libc::c_ulong, argument: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: all requests of this file read and write a `struct ifreq`, which the argument is.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn request() -> libc::ifreq {
    // SAFETY: a structure of plain numbers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// An address as the kernel's structure has it.
fn inet(address: Ipv4Addr) -> libc::sockaddr {
    let mut bytes = [0; 14];
    // Behind the port.
    for (to, from) in bytes[2..].iter_mut().zip(address.octets()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    libc::sockaddr { sa_family: u16::try_from(libc::AF_INET).unwrap_or(0), sa_data: bytes }
}

/// Addresses of host and guest for the device of this number: networks of four out of 169.254.0.0/16, which no router
/// passes on (RFC 3927), the first and the last 256 addresses of which are not to be used.
#[must_use]
pub fn addresses(number: u32) -> (Ipv4Addr, Ipv4Addr) {
    const NETWORKS: u32 = (65536 - 2 * 256) / 4;
    let base = u32::from(Ipv4Addr::new(169, 254, 1, 0)) + 4 * (number % NETWORKS);
    (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2))
}

impl Tap {
    /// Makes one and takes it up.
    ///
    /// # Errors
    /// What the kernel refuses, usually for want of CAP_NET_ADMIN.
    pub fn new() -> Result<Self, TapError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(TapError::Open)?;
        let mut made = request();
        for (to, from) in made.ifr_name.iter_mut().zip(NAME) {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        // Frames without a header of the driver's own.
        let flags = libc::IFF_TAP | libc::IFF_NO_PI;
        made.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or(0);
        ioctl(file.as_fd(), TUNSETIFF, &mut made).map_err(TapError::Create)?;
        let name_bytes: Vec<u8> = made.ifr_name.iter().flat_map(|c| c.to_ne_bytes()).chain([0]).collect();
        let name = CStr::from_bytes_until_nul(&name_bytes).unwrap_or_default().to_string_lossy().into_owned();
        let number = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
        let (host, guest) = addresses(number);
        let failed = |step| {
            let name = name.clone();
            move |source| TapError::SetUp { name, step, source }
        };
        // SAFETY: takes three numbers and makes a descriptor.
        let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(failed("a socket")(io::Error::last_os_error()));
        }
        // SAFETY: the kernel just made it for us.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let change = |step, code, ifru: libc::__c_anonymous_ifr_ifru| {
            let mut change = libc::ifreq { ifr_name: made.ifr_name, ifr_ifru: ifru };
            ioctl(socket.as_fd(), code, &mut change).map_err(failed(step))
        };
        let address = |ifru_addr| libc::__c_anonymous_ifr_ifru { ifru_addr };
        change("its address", SIOCSIFADDR, address(inet(host)))?;
        change("its network", SIOCSIFNETMASK, address(inet(Ipv4Addr::new(255, 255, 255, 252))))?;
        let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
        change("taking it up", SIOCSIFFLAGS, libc::__c_anonymous_ifr_ifru { ifru_flags: up })?;
        Ok(Self { file, guest })
    }

    /// Address that is meant for the guest.
    #[must_use]
    pub fn guest(&self) -> Ipv4Addr {
        self.guest
    }

    /// A hardware address for the guest's card: locally administered, with the guest's address in it.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        let [a, b, c, d] = self.guest.octets();
        [0x02, 0x42, a, b, c, d]
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Read for Tap {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.file.read(to)
    }
}

impl Write for Tap {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.file.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_guest_are_neighbours_in_a_network_of_their_own() {
        assert_eq!(addresses(0), (Ipv4Addr::new(169, 254, 1, 1), Ipv4Addr::new(169, 254, 1, 2)));
        assert_eq!(addresses(64).0, Ipv4Addr::new(169, 254, 2, 1));
        assert_eq!(addresses(16255).1, Ipv4Addr::new(169, 254, 254, 254));
        assert_eq!(addresses(u32::MAX).0.octets()[..2], [169, 254]);
    }

    #[test]
    fn a_tap_device_is_gone_with_its_descriptor() {
        let tap = match Tap::new() {
            Ok(tap) => tap,
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                println!("skipped: {error}: {source}");
                return;
            }
        };
        let host = Ipv4Addr::from(u32::from(tap.guest()) - 1);
        let address = host.to_string();
        let socket = std::net::UdpSocket::bind((host, 0));
        assert!(socket.is_ok(), "{address}: {socket:?}");
        drop((socket, tap));
        assert!(std::net::UdpSocket::bind((address.as_str(), 0)).is_err(), "{address} is still there");
    }
}
