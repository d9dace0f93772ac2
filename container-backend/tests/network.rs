//! A veth pair: both ends can talk, the addresses are those that were given, nothing is left of it.

#![allow(clippy::print_stdout, reason = "why a test is skipped, and what one process tells another")]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio as StdStdio};

use common::*;
use container_backend::{
    Address, Config, Isolation, Layer, Limits, Network, PrepareError, SpawnError, Stdio, Veth,
};

/// A network of this test's own: its number keeps tests that run side by side apart.
fn pair(number: u8) -> (Veth, [Ipv4Addr; 2]) {
    let [inside, outside] = [2, 1].map(|host| Ipv4Addr::new(10, 214, number, host));
    let address = |address: Ipv4Addr| Address::new(address.into(), 24).expect("an address");
    (Veth::new().addresses(address(inside), address(outside)), [inside, outside])
}

/// The actor with one end of a pair; `None`, with the reason printed, where that needs a right that is not there.
fn connected(act: &[&str], veth: Veth) -> Option<Config> {
    if !is_root() {
        println!("skipped: a veth pair needs root");
        return None;
    }
    Some(container(act)?.network(Network::Veth(veth)))
}

/// Whether there is an interface of this name in the caller's namespace.
fn is_there(interface: &str) -> bool {
    std::fs::read_to_string("/proc/thread-self/net/dev")
        .is_ok_and(|text| text.contains(&format!("{interface}:")))
}

/// The outer ends that process `pid` has made.
fn ends_of(pid: u32) -> usize {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("/proc is there");
    text.lines().filter(|line| line.trim_start().starts_with(&format!("v{pid:x}-"))).count()
}

/// Answers one word.
fn answer_one(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().expect("somebody connects");
    let mut word = [0; 4];
    stream.read_exact(&mut word).expect("a word");
    assert_eq!(&word, b"ping");
    stream.write_all(b"pong").expect("it can be answered");
}

#[test]
fn the_program_and_the_host_talk_over_the_pair_in_both_directions() {
    for (number, isolation) in [(1, Isolation::container()), (2, Isolation::container().with(Layer::User))] {
        for beside in [true, false] {
            let (veth, [inside, outside]) = pair(number);
            let Some(config) = connected(&["serve", "7001"], veth.clone()) else { return };
            let config = config.isolation(isolation).network_beside(beside);
            let prepared = config.prepare().expect("the config is good");
            let (mut process, mut reader) = spawn_until_ready(&prepared);
            let interface = process.outer_interface().expect("it has one").to_owned();
            assert!(is_there(&interface));
            let mut stream = TcpStream::connect((inside, 7001)).expect("the program listens");
            stream.write_all(b"ping").expect("written");
            let mut word = [0; 4];
            stream.read_exact(&mut word).expect("it answers");
            assert_eq!(&word, b"pong");
            let mut said = String::new();
            reader.read_to_string(&mut said).expect("text");
            assert_eq!(said, "ping\n");
            process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
            assert!(!is_there(&interface), "the outer end is gone when the instance is");
            assert_eq!(process.outer_interface(), None);

            let outside_text = outside.to_string();
            let connect = connected(&["connect", &outside_text, "7002"], veth).expect("as above");
            let prepared = connect.isolation(isolation).network_beside(beside).prepare().expect("good");
            let listener = TcpListener::bind("0.0.0.0:7002").expect("a free port");
            let (mut process, mut reader) = spawn_piped(&prepared);
            answer_one(&listener);
            let mut said = String::new();
            reader.read_to_string(&mut said).expect("text");
            assert_eq!(said, "pong\n");
            process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
        }
    }
}

/// A network namespace held by a process that sleeps.
struct Elsewhere(Child);

impl Elsewhere {
    fn new() -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "echo ready; exec sleep 1000"]).stdout(StdStdio::piped());
        let mut child = command.spawn().ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
        (line == "ready\n").then_some(Self(child))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.0.id()))
    }

    /// Does something in the namespace.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).expect("it is there");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: setns takes numbers only; this thread does nothing else.
                assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                work()
            });
            thread.join().expect("no panic")
        })
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it can be waited for");
    }
}

#[test]
fn the_outer_end_can_be_in_another_namespace() {
    let (veth, [_, outside]) = pair(3);
    let outside_text = outside.to_string();
    let act = ["connect", &outside_text, "7003"];
    let Some(config) = connected(&act, veth.clone()) else { return };
    let Some(elsewhere) = Elsewhere::new() else {
        println!("skipped: no unshare(1)");
        return;
    };
    let listener =
        elsewhere.inside(|| TcpListener::bind("0.0.0.0:7003").expect("a port of an empty namespace"));
    let config = config.network(Network::Veth(veth.namespace(elsewhere.path())));
    let prepared = config.prepare().expect("the config is good");
    let (mut process, mut reader) = spawn_piped(&prepared);
    let interface = process.outer_interface().expect("it has one").to_owned();
    assert!(!is_there(&interface), "it is not in the caller's namespace");
    answer_one(&listener);
    let mut said = String::new();
    reader.read_to_string(&mut said).expect("text");
    assert_eq!(said, "pong\n");
    process.wait(Some(PATIENCE)).expect("it can be waited for").expect("it ends");
    assert!(!elsewhere.inside(|| is_there(&interface)), "nor is it left there");
}

#[test]
fn everything_else_is_reached_by_the_outer_end_where_it_is_in_the_same_network() {
    let (veth, [_, outside]) = pair(4);
    let Some(config) = connected(&["show", "/proc/self/net/route"], veth) else { return };
    let ran = run(config);
    // Destination 0, and the gateway in the order of the network's bytes.
    let gateway = format!("eth0\t00000000\t{:08X}", u32::from_ne_bytes(outside.octets()));
    assert!(ran.stdout.contains(&gateway), "{ran:?}");
    let Some(config) = connected(&["show", "/proc/self/net/dev"], Veth::new()) else { return };
    assert!(run(config).stdout.contains("eth0:"), "without addresses the link is there all the same");
}

#[test]
fn several_at_a_time_have_names_of_their_own_and_leave_nothing() {
    if !alone("several_at_a_time_have_names_of_their_own_and_leave_nothing") {
        return;
    }
    let Some(config) = connected(&["sleep"], Veth::new()) else { return };
    let before = Traces::now();
    let prepared = config.prepare().expect("the config is good");
    for _ in 0..3 {
        let running: Vec<_> = (0..4).map(|_| spawn_until_ready(&prepared)).collect();
        assert_eq!(ends_of(std::process::id()), 4);
        drop(running);
        assert_eq!(ends_of(std::process::id()), 0);
    }
    drop(prepared);
    assert_eq!(Traces::now(), before);
}

#[test]
fn a_pair_that_cannot_be_made_is_told_and_leaves_nothing() {
    if !alone("a_pair_that_cannot_be_made_is_told_and_leaves_nothing") {
        return;
    }
    let six = |text: &str| Address::parse(text).expect("an address");
    // The kernel takes no address of all zeros for the end of a link.
    let veth = Veth::new().addresses(six("ff02::1/64"), six("ff02::2/64"));
    let Some(config) = connected(&["ready"], veth) else { return };
    let before = Traces::now();
    for beside in [true, false] {
        let prepared = config.clone().network_beside(beside).prepare().expect("it may be an address");
        let refused = prepared.spawn(Stdio::null());
        assert!(matches!(refused, Err(SpawnError::Veth(_))), "{refused:?}");
        assert_eq!(ends_of(std::process::id()), 0);
    }
    assert_eq!(Traces::now(), before);
}

#[test]
fn a_caller_killed_by_sigkill_leaves_no_interface() {
    if part().as_deref() == Some("caller") {
        let config = connected(&["sleep"], Veth::new()).expect("the first process has looked");
        let prepared = config.limits(Limits::none().pids(8)).prepare().expect("the config is good");
        let running: Vec<_> = (0..2).map(|_| spawn_until_ready(&prepared)).collect();
        println!("holding {}", running.len());
        loop {
            std::thread::park();
        }
    }
    if !is_root() || !containers_work() || actor().is_none() {
        return;
    }
    let mut command = in_part("a_caller_killed_by_sigkill_leaves_no_interface", "caller");
    let mut child = command.stdout(StdStdio::piped()).spawn().expect("this test can be started");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("holding 2")));
    assert_eq!(ends_of(child.id()), 2);
    child.kill().expect("it can be killed");
    child.wait().expect("it can be waited for");
    assert!(eventually(|| ends_of(child.id()) == 0), "an interface is left");
}

#[test]
fn without_the_right_it_is_refused_with_the_reason() {
    let (veth, _) = pair(5);
    let Some(config) = container(&["ready"]) else { return };
    let without_layer = config.clone().isolation(Isolation::container().without(Layer::Net));
    let refused = without_layer.network(Network::Veth(Veth::new())).prepare();
    if is_root() {
        assert!(matches!(refused, Err(PrepareError::NeedsLayer { .. })), "{refused:?}");
        let refused = config.clone().network(Network::Veth(Veth::new().namespace("/proc/version"))).prepare();
        assert!(matches!(refused, Err(PrepareError::NetworkNamespace { .. })), "{refused:?}");
        let refused = config.network(Network::Veth(Veth::new().namespace("/nowhere"))).prepare();
        assert!(matches!(refused, Err(PrepareError::NetworkNamespace { .. })), "{refused:?}");
    } else {
        let refused = config.network(Network::Veth(veth)).prepare();
        assert!(matches!(refused, Err(PrepareError::VethRights)), "{refused:?}");
    }
}
