//! Two sessions on real TCP connections to a real relay whose UDP port swallows everything. Packets of every length
//! modulo four pass: TURN pads them on a stream (RFC 8656 §12.5).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]
#![expect(clippy::disallowed_methods, reason = "real sockets live in real time")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tandem_media::session::{
    Event, PathState, Redundancy, RelayAccess, Route, Session, SessionConfig, SocketCommand, SocketId,
    SocketKind,
};
use tandem_proto::grant::RestSecret;
use tandem_proto::ids::ServiceKey;
use tandem_relay::config::Config;
use tandem_relay::credentials::Credentials;
use tandem_relay::driver::{DriverConfig, Handle, start};

const PACKETS: u64 = 120;
/// Ends a hang; a good run needs a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn voice_passes_over_tcp_where_udp_is_swallowed() {
    let relays = [relay(61), relay(62)];
    let mut sides = [Side::new(true), Side::new(false)];
    let described = [0, 1].map(|side| sides[1 - side].session.local_description());
    for (side, description) in sides.iter_mut().zip(described) {
        side.session.handle_remote_description(&description, Instant::now()).unwrap();
        for relay in &relays {
            side.session.add_relay(relay.access.clone(), Instant::now()).unwrap();
        }
    }
    let end = Instant::now() + PATIENCE;
    while sides.iter().any(|side| side.heard.len() < usize::try_from(PACKETS).unwrap()) {
        assert!(Instant::now() < end, "{} and {} came", sides[0].heard.len(), sides[1].heard.len());
        let candidates = [0, 1].map(|side| sides[side].turn());
        for (side, candidates) in candidates.iter().enumerate() {
            for candidate in candidates {
                sides[1 - side].session.handle_remote_candidate(candidate, Instant::now());
            }
        }
        if sides.iter().all(|side| side.session.is_connected()) {
            sides.iter_mut().for_each(Side::speak);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for side in &sides {
        let stats = side.session.stats(Instant::now());
        assert_eq!(stats.packets_lost, 0, "{stats:?}");
        for (sequence, payload) in &side.heard {
            assert_eq!(payload.len(), length_of(payload[0]), "packet {sequence} came whole");
        }
        let good = stats.paths.iter().filter(|path| path.state == PathState::Good);
        let routes: Vec<Route> = good.map(|path| path.route).collect();
        assert_eq!(routes.len(), 2, "{stats:?}");
        assert!(routes.iter().all(|route| matches!(route, Route::Relay { tcp: true, .. })), "{routes:?}");
    }
    for relay in relays {
        assert_eq!(relay.handle.stats().tcp_clients, 2);
        assert_eq!(relay.handle.stats().unsent, 0);
        relay.handle.shutdown();
    }
}

/// Every length modulo four, told by the first byte.
fn length_of(first: u8) -> usize {
    40 + usize::from(first)
}

struct Relay {
    handle: Handle,
    access: RelayAccess,
    /// Where the grant says that UDP is served: open, and never read.
    _swallows: UdpSocket,
}

fn relay(number: u8) -> Relay {
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let swallows = UdpSocket::bind(at).unwrap();
    let config = Config::new(Credentials::Rest { secret: RestSecret::new("secret") });
    let driver = DriverConfig { udp: vec![at], tcp: vec![at], ..DriverConfig::default() };
    let handle = start(&driver, config, [number; 32]).unwrap();
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let username = format!("{}:call", unix_s + 600);
    let access = RelayAccess {
        service: ServiceKey([number; 32]),
        udp: vec![swallows.local_addr().unwrap()],
        tcp: handle.tcp_addresses().to_vec(),
        password: RestSecret::new("secret").password(&username),
        username,
    };
    Relay { handle, access, _swallows: swallows }
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

struct Side {
    session: Session,
    sockets: BTreeMap<SocketId, Socket>,
    heard: BTreeMap<u64, Vec<u8>>,
    spoken: u64,
    next: Instant,
}

impl Side {
    fn new(controlling: bool) -> Self {
        let config = SessionConfig {
            controlling,
            redundancy: Redundancy::Always,
            ssrc: 7 + u32::from(controlling),
            seed: 42,
            udp_blocked: false,
        };
        let now = Instant::now();
        let session = Session::new(config, now);
        Self { session, sockets: BTreeMap::new(), heard: BTreeMap::new(), spoken: 0, next: now }
    }

    /// A packet every 20 ms.
    fn speak(&mut self) {
        let now = Instant::now();
        // A few more than the other end waits for: which come first is not ours to say.
        if now >= self.next && self.spoken < PACKETS + 500 {
            let first = u8::try_from(self.spoken % 23).unwrap();
            let rtp_time = u32::try_from(self.spoken).unwrap() * 960;
            self.session.send_opus(&vec![first; length_of(first)], rtp_time, now).unwrap();
            self.spoken += 1;
            self.next = now + Duration::from_millis(20);
        }
    }

    /// Does what the session asks; the candidates it found.
    fn turn(&mut self) -> Vec<tandem_media::session::Candidate> {
        self.read();
        let now = Instant::now();
        self.session.handle_timeout(now);
        while let Some(command) = self.session.poll_command() {
            match command {
                SocketCommand::Open { id, kind } => self.open(id, kind),
                SocketCommand::Close { id } => drop(self.sockets.remove(&id)),
            }
        }
        while let Some(transmit) = self.session.poll_transmit() {
            match self.sockets.get_mut(&transmit.socket) {
                Some(Socket::Udp(socket)) => drop(socket.send_to(&transmit.data, transmit.to).unwrap()),
                Some(Socket::Tcp(stream)) => stream.write_all(&transmit.data).unwrap(),
                None => {}
            }
        }
        let mut candidates = Vec::new();
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::LocalCandidate(candidate) => candidates.push(candidate),
                Event::Opus { seq, payload, .. } => drop(self.heard.insert(seq, payload)),
                Event::RelayFailed { relay, reason, .. } => panic!("{relay}: {reason}"),
                _ => {}
            }
        }
        candidates
    }

    fn open(&mut self, id: SocketId, kind: SocketKind) {
        let (socket, local) = match kind {
            SocketKind::Udp { .. } => {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.set_nonblocking(true).unwrap();
                let local = socket.local_addr().unwrap();
                (Socket::Udp(socket), local)
            }
            SocketKind::Tcp { connect, .. } => {
                let stream = TcpStream::connect(connect).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_nonblocking(true).unwrap();
                let local = stream.local_addr().unwrap();
                (Socket::Tcp(stream), local)
            }
        };
        self.sockets.insert(id, socket);
        self.session.handle_socket(id, local, Instant::now());
    }

    fn read(&mut self) {
        // Odd pieces, so that messages are cut anywhere.
        let mut buffer = [0; 333];
        for (id, socket) in &mut self.sockets {
            loop {
                let result = match socket {
                    Socket::Udp(socket) => socket.recv_from(&mut buffer),
                    Socket::Tcp(stream) => {
                        let from = stream.peer_addr().unwrap();
                        stream.read(&mut buffer).map(|length| (length, from))
                    }
                };
                match result {
                    Ok((length, from)) => {
                        assert!(length > 0, "the relay closed a connection");
                        self.session.handle_packet(*id, from, &buffer[..length], Instant::now());
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}
