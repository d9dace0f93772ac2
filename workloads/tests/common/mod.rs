//! What more than one file of tests needs.

use std::net::TcpListener;

/// The address of a server that sends its one client back whatever it gets; where there is none, it waits until the test's end.
pub fn echoing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        std::io::copy(&mut &stream, &mut &stream)
    });
    address.to_string()
}
