//! The network card: its address, and that it is up.

use vm_abi::linux::steps;

use crate::mailbox::Failure;
use crate::sys;

/// Requests (include/uapi/linux/sockios.h).
const SET_FLAGS: usize = 0x8914;
const SET_ADDRESS: usize = 0x8916;
const SET_MASK: usize = 0x891c;
/// IFF_UP.
const UP: [u8; 2] = 1u16.to_le_bytes();
/// Networks have four addresses.
const MASK: [u8; 4] = [255, 255, 255, 252];
/// Where a request's value begins in `struct ifreq`, behind the card's name.
const VALUE: usize = 16;

/// Gives the first card this address (in network order), and takes it and the loopback card up.
pub fn up(address: u32) -> Result<(), Failure> {
    let failed = |errno| (steps::NETWORK, errno);
    let socket = sys::socket().map_err(failed)? as i32;
    // Our own address is known before the card is up.
    for (card, request, value) in [
        (&b"lo"[..], SET_FLAGS, Value::Flags),
        (b"eth0", SET_ADDRESS, Value::Address(address.to_ne_bytes())),
        (b"eth0", SET_MASK, Value::Address(MASK)),
        (b"eth0", SET_FLAGS, Value::Flags),
    ] {
        sys::card(socket, request, &mut value.request(card)).map_err(failed)?;
    }
    sys::close(socket);
    Ok(())
}

enum Value {
    Flags,
    Address([u8; 4]),
}

impl Value {
    /// A `struct ifreq`.
    fn request(&self, card: &[u8]) -> [u8; 40] {
        const INET: u8 = 2;
        let mut request = [0; 40];
        for (to, from) in request.iter_mut().zip(card) {
            *to = *from;
        }
        match self {
            Value::Flags => request[VALUE..VALUE + 2].copy_from_slice(&UP),
            Value::Address(address) => {
                request[VALUE] = INET;
                // Behind the family and the port.
                request[VALUE + 4..VALUE + 8].copy_from_slice(address);
            }
        }
        request
    }
}
