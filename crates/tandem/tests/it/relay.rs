//! `tandem relay` when its process is stopped and continued.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use stun_types::attribute::ErrorCode;
use stun_types::message::Message;
use turn_types::attribute::{Lifetime, RequestedTransport};
use turn_types::message::{ALLOCATE, REFRESH};

use crate::bench::Client;
use crate::wire::{PATIENCE, Wire, allocated, bind, challenged, framed, now, wait_until};
use crate::world::{lines, tandem};

/// How long a connection may be there without an allocation, and a little more.
const IDLE_CONNECTION: Duration = Duration::from_secs(17);
/// What its memory may grow by, whatever is sent to a relay that stands still.
const GROWTH_KIB_MAX: u64 = 8 * 1_024;

/// A relay in a process of its own, which ends with the test.
struct Process {
    child: Child,
    udp: SocketAddr,
    tcp: SocketAddr,
}

impl Process {
    fn start() -> Self {
        let mut child = tandem()
            .args(["relay", "--json", "--listen", "127.0.0.1:0", "--rest-secret", "s", "--threads", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ready = lines(&mut child).recv_timeout(PATIENCE).expect("a ready line");
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let address = |at: &Value| at.as_str().unwrap().parse().unwrap();
        Self { child, udp: address(&ready["udp"][0]), tcp: address(&ready["tcp"]) }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// A line of /proc/PID/status.
    fn status(&self, name: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.expect("a line of that name").trim().to_owned()
    }

    fn memory_kib(&self) -> u64 {
        self.status("VmRSS").split(' ').next().unwrap().parse().unwrap()
    }

    fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        wait_until("the stop", || self.status("State").starts_with('T'));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A call that stands.
struct Call {
    wires: [Wire; 2],
    clients: [Client; 2],
}

impl Call {
    fn new(mut wires: [Wire; 2], name: &str) -> Self {
        let [one, two] = &mut wires;
        let ((mut caller, caller_relayed), (mut callee, callee_relayed)) =
            (allocated(one, name), allocated(two, name));
        bind(one, &mut caller, 0x4000, callee_relayed);
        bind(two, &mut callee, 0x4000, caller_relayed);
        Self { wires, clients: [caller, callee] }
    }

    /// Sound that nobody waits for.
    fn speak(&mut self, packets: usize) {
        for wire in &mut self.wires {
            let sound = framed(wire, 0x4000, &[1; 160]);
            (0..packets).for_each(|_| wire.send(&sound));
        }
    }

    /// Each end hears what the other one says now, after whatever is still on its way. Where a queue is full of that,
    /// the words are lost and said again.
    fn talks(&mut self, words: &[u8]) {
        for (from, to) in [(0, 1), (1, 0)] {
            let said = framed(&self.wires[to], 0x4000, words);
            wait_until("the words", || {
                let bytes = framed(&self.wires[from], 0x4000, words);
                self.wires[from].send(&bytes);
                while is_readable(&self.wires[to]) {
                    if self.wires[to].receive() == said {
                        return true;
                    }
                }
                false
            });
        }
    }

    fn end(mut self) {
        for (wire, client) in self.wires.iter_mut().zip(&mut self.clients) {
            wire.send(&client.signed(REFRESH, &[&Lifetime::new(0)]));
            while wire.receive()[..2] != [0x01, 0x04] {}
        }
    }
}

fn is_readable(wire: &Wire) -> bool {
    match wire {
        Wire::Udp(socket) => {
            socket.set_nonblocking(true).unwrap();
            let readable = socket.peek(&mut [0]).is_ok();
            socket.set_nonblocking(false).unwrap();
            readable
        }
        Wire::Tcp(stream) => {
            stream.set_nonblocking(true).unwrap();
            let readable = stream.peek(&mut [0]).is_ok();
            stream.set_nonblocking(false).unwrap();
            readable
        }
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_relay_that_is_stopped_and_continued_serves_on_and_keeps_nothing_that_has_ended() {
    let mut relay = Process::start();
    let udp = || Wire::udp_to(relay.udp);
    let tcp = || Wire::tcp(TcpStream::connect(relay.tcp).unwrap());
    let mut calls = [
        Call::new([udp(), udp()], "udp"),
        Call::new([udp(), tcp()], "mixed"),
        Call::new([tcp(), tcp()], "tcp"),
    ];
    calls.iter_mut().for_each(|call| call.talks(b"before"));
    let mut idle = TcpStream::connect(relay.tcp).unwrap();
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    let connected = now();
    let mut late = udp();
    let expiry_s = unix_s() + 5;
    let mut latecomer = challenged(&mut late, &format!("{expiry_s}:late"));
    let memory_kib = relay.memory_kib();

    relay.stop();
    // A grant that is good when its request is sent, and not any more when it is read.
    late.send(&latecomer.signed(ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)]));
    let [udp_call, mixed, tcp_call] = &mut calls;
    // Over UDP more than its receive buffer takes; over TCP what the kernel keeps.
    udp_call.speak(20_000);
    mixed.speak(100);
    tcp_call.speak(100);
    wait_until("the end of a grant and of patience", || {
        unix_s() > expiry_s && now().duration_since(connected) > IDLE_CONNECTION
    });
    relay.signal(Signal::SIGCONT);

    for call in &mut calls {
        call.talks(b"and afterwards");
    }
    let refusal = late.receive();
    let refusal = Message::from_bytes(&refusal).unwrap();
    assert_eq!(refusal.attribute::<ErrorCode>().unwrap().code(), 401, "the grant ended meanwhile");
    assert_eq!(idle.read(&mut [0]).ok(), Some(0), "so did the patience with who asks nothing");
    let grown_kib = relay.memory_kib().saturating_sub(memory_kib);
    println!("memory: {memory_kib} KiB, and {grown_kib} KiB more afterwards");
    assert!(grown_kib <= GROWTH_KIB_MAX, "{grown_kib} KiB more");
    let mut new = Call::new([Wire::udp_to(relay.udp), Wire::udp_to(relay.udp)], "new");
    new.talks(b"a new call");
    calls.into_iter().chain([new]).for_each(Call::end);
    relay.signal(Signal::SIGTERM);
    wait_until("its end", || relay.child.try_wait().unwrap().is_some());
    assert_eq!(relay.child.wait().unwrap().code(), Some(0));
}
