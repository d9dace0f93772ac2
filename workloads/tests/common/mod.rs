//! What more than one file of tests needs.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use workloads::Program;

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

/// A program as a file: cargo gives every test binary a folder for such things.
///
/// Both are written before the first of them is started: a child that another thread forks meanwhile holds what is
/// being written open until its exec, and the kernel starts no file that somebody writes to (ETXTBSY).
pub fn file(program: Program) -> Command {
    static PATHS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let [core, real] = PATHS.get_or_init(|| {
        [(Program::Core, "workload-program"), (Program::Real, "workload-real")].map(|(program, name)| {
            let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
            // Under a name of this process first: another run of the same test may be executing the file.
            let own = path.with_extension(std::process::id().to_string());
            fs::write(&own, program.bytes()).expect("the folder for tests is writable");
            fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).expect("the file is ours");
            fs::rename(&own, &path).expect("it is the same folder");
            path
        })
    });
    Command::new(match program {
        Program::Core => core,
        Program::Real => real,
    })
}
