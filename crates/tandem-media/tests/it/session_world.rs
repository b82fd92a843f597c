//! Two real sessions and real relay servers, joined by an emulated network under forced time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_media::audio::Incoming;
use tandem_media::audio::endpoint::Endpoint;
use tandem_media::session::{
    Candidate, Event, Redundancy, RelayAccess, Session, SessionConfig, SessionStats, SocketCommand, SocketId,
    SocketKind,
};
use tandem_proto::grant::{GrantTerms, RelaySecret};
use tandem_proto::ids::{CallTag, DeviceKey, ServiceKey};
use tandem_proto::wire;
use tandem_relay::client::ClientAddr;
use tandem_relay::config::Config;
use tandem_relay::credentials::Credentials;
use tandem_relay::framing::{Frame, first_frame};
use tandem_relay::server::{HEADROOM, Server, Serving, TAILROOM, Verdict};

use crate::session_line::{Line, Trace};
use crate::session_nat::{Kind, Nat};

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;
const UNIX_S: u64 = 1_800_000_000;
const FRAME: Duration = Duration::from_millis(20);

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One relay and what is wrong with it.
pub(crate) struct Relay {
    server: Server,
    pub(crate) service: ServiceKey,
    pub(crate) secret: RelaySecret,
    udp: SocketAddr,
    tcp: SocketAddr,
    /// One way from end to end.
    pub(crate) delay: Duration,
    /// Packets in a thousand lost on the way to A and to B.
    pub(crate) loss_permille: [u32; 2],
    /// Losses on the way to A and to B that are the same for every strategy.
    pub(crate) traces: [Option<Trace>; 2],
    /// Nothing comes to A, to B.
    pub(crate) deaf: [bool; 2],
    pub(crate) dead: bool,
    pub(crate) udp_blocked: bool,
    /// Forwards nothing any more, but sends old packets again.
    pub(crate) replays: bool,
    old: VecDeque<(ClientAddr, Vec<u8>)>,
    /// Packets forwarded to A and to B.
    pub(crate) forwarded: [u64; 2],
}

pub(crate) struct Side {
    pub(crate) session: Session,
    pub(crate) events: Vec<(Duration, Event)>,
    /// Distinct sequence numbers in order of arrival, and when.
    pub(crate) heard: Vec<(Duration, u64)>,
    pub(crate) muted: bool,
    /// Speaks and listens; without one, sound is so many constant bytes.
    pub(crate) endpoint: Option<Endpoint>,
    /// Bits of sound a second and milliseconds a packet, as the session wants them.
    pub(crate) sound_rate: (u32, u32),
    /// What the packets of both directions pass, if it matters. Streams are not slowed by it.
    pub(crate) line: Option<Line>,
    sockets: BTreeMap<SocketId, Socket>,
    rtp_time: u32,
    /// This machine's address; sockets with another one reach nobody.
    pub(crate) ip: IpAddr,
    pub(crate) nat: Option<Nat>,
    pub(crate) offline: bool,
    pub(crate) udp_blocked: bool,
    /// Packets sent to addresses where nobody is.
    pub(crate) astray: BTreeMap<SocketAddr, u32>,
}

#[derive(Clone, Copy)]
struct Socket {
    local: SocketAddr,
    tcp_to: Option<SocketAddr>,
}

enum Delivery {
    ToRelay { relay: usize, from: SocketAddr, tcp: Option<(usize, SocketId)>, data: Vec<u8> },
    ToSide { side: usize, socket: SocketId, from: SocketAddr, data: Vec<u8> },
    Opened { side: usize, socket: SocketId, local: SocketAddr },
    Candidate { side: usize, candidate: wire::Candidate },
    Report { side: usize, report: wire::PathReport },
}

pub(crate) struct World {
    start: Instant,
    now: Instant,
    pub(crate) relays: Vec<Relay>,
    pub(crate) sides: Vec<Side>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    deliveries: BTreeMap<u64, Delivery>,
    next_delivery: u64,
    streams: BTreeMap<SocketAddr, Vec<u8>>,
    next_port: u16,
    next_frame: Instant,
    random: u64,
    /// Whether path reports and candidates pass by way of signalling.
    pub(crate) signalling: bool,
    pub(crate) direct_delay: Duration,
    pub(crate) direct_dead: bool,
}

impl World {
    pub(crate) fn new(relays: usize, redundancy: Redundancy) -> Self {
        #[expect(clippy::disallowed_methods, reason = "some origin; all that follows is forced time")]
        let start = Instant::now();
        let side = |controlling: bool| Side {
            session: Session::new(
                SessionConfig {
                    controlling,
                    redundancy,
                    ssrc: 7 + u32::from(controlling),
                    seed: 42,
                    udp_blocked: false,
                },
                start,
            ),
            events: Vec::new(),
            heard: Vec::new(),
            muted: false,
            endpoint: None,
            sound_rate: (32_000, 20),
            line: None,
            sockets: BTreeMap::new(),
            rtp_time: 0,
            ip: [127, 201 - u8::from(controlling), 0, 1].into(),
            nat: None,
            offline: false,
            udp_blocked: false,
            astray: BTreeMap::new(),
        };
        let mut world = Self {
            start,
            now: start,
            relays: Vec::new(),
            sides: vec![side(true), side(false)],
            queue: BinaryHeap::new(),
            deliveries: BTreeMap::new(),
            next_delivery: 0,
            streams: BTreeMap::new(),
            next_port: 20_000,
            next_frame: start,
            random: 1,
            signalling: true,
            direct_delay: ms(5),
            direct_dead: false,
        };
        for _ in 0..relays {
            world.new_relay();
        }
        world
    }

    /// A relay that nobody uses yet.
    pub(crate) fn new_relay(&mut self) -> usize {
        let number = u8::try_from(self.relays.len() + 1).unwrap();
        let service = ServiceKey([number; 32]);
        let secret = RelaySecret::new([number; 32]);
        self.relays.push(Relay {
            server: self.server(service, &secret),
            service,
            secret,
            udp: SocketAddr::from(([127, number, 0, 1], 3478)),
            tcp: SocketAddr::from(([127, number, 0, 1], 443)),
            delay: ms(20),
            loss_permille: [0, 0],
            traces: [None, None],
            deaf: [false, false],
            dead: false,
            udp_blocked: false,
            replays: false,
            old: VecDeque::new(),
            forwarded: [0, 0],
        });
        self.relays.len() - 1
    }

    fn server(&self, relay: ServiceKey, secret: &RelaySecret) -> Server {
        let credentials = Credentials::Grants { relay, secret: secret.clone() };
        let unix_s = UNIX_S + (self.now - self.start).as_secs();
        Server::new(Config::new(credentials), [secret.password("seed").as_bytes()[0]; 32], self.now, unix_s)
    }

    /// A new start of the relay: it has forgotten all, and older grants are void.
    pub(crate) fn restart(&mut self, relay: usize) {
        self.restart_with(relay, RelaySecret::new([200; 32]));
    }

    pub(crate) fn restart_with(&mut self, relay: usize, secret: RelaySecret) {
        self.relays[relay].server = self.server(self.relays[relay].service, &secret);
        self.relays[relay].secret = secret;
    }

    /// Both ends get a grant on this relay.
    pub(crate) fn use_relay(&mut self, relay: usize) {
        for side in [A, B] {
            self.grant(relay, side);
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// One end gets a grant on this relay.
    pub(crate) fn grant(&mut self, relay: usize, side: usize) {
        self.grant_with(relay, side, |_| {});
    }

    pub(crate) fn grant_with(&mut self, relay: usize, side: usize, adjust: impl FnOnce(&mut RelayAccess)) {
        let relay = &self.relays[relay];
        let terms = GrantTerms {
            relay: relay.service,
            device: DeviceKey([u8::try_from(side).unwrap() + 1; 32]),
            tag: CallTag([9; 16]),
            not_after_s: UNIX_S + self.elapsed().as_secs() + 600,
            quota_bytes: 1_000_000_000,
        };
        let username = terms.username();
        let mut access = RelayAccess {
            service: relay.service,
            udp: vec![relay.udp],
            tcp: vec![relay.tcp],
            password: relay.secret.password(&username),
            username,
        };
        adjust(&mut access);
        self.sides[side].session.add_relay(access, self.now).unwrap();
        self.drain(side);
    }

    pub(crate) fn set_nat(&mut self, side: usize, kind: Kind) {
        let public = [127, 101 + u8::try_from(side).unwrap(), 0, 1].into();
        self.sides[side].nat = Some(Nat::new(kind, public));
    }

    /// This end's router forwards a port to a socket, and the session hears of it.
    pub(crate) fn map_port(&mut self, side: usize, local: SocketAddr) {
        let external = self.sides[side].nat.as_mut().unwrap().forward(local);
        self.sides[side].session.add_mapped(local, external, self.now);
        self.drain(side);
    }

    /// This end's machine has another address now, and perhaps another NAT in front of it.
    pub(crate) fn moves(&mut self, side: usize, ip: IpAddr) {
        self.sides[side].ip = ip;
        self.sides[side].session.handle_network_changed(&[ip], self.now);
        self.drain(side);
    }

    pub(crate) fn describe(&mut self) {
        for side in [A, B] {
            let description = self.sides[1 - side].session.local_description();
            self.sides[side].session.handle_remote_description(&description, self.now).unwrap();
            self.drain(side);
        }
    }

    /// Two ends over this many relays, connected, the first mirrored seconds over if `settled`.
    pub(crate) fn call(relays: usize, redundancy: Redundancy, settled: bool) -> Self {
        let mut world = Self::new(relays, redundancy);
        world.describe();
        for relay in 0..relays {
            world.use_relay(relay);
        }
        world.run(ms(if settled { 13_000 } else { 2_000 }));
        assert!(world.sides.iter().all(|side| side.session.is_connected()), "not connected");
        world
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn stats(&self, side: usize) -> SessionStats {
        self.sides[side].session.stats(self.now)
    }

    /// The relay of the path on which this side sends first.
    pub(crate) fn primary(&self, side: usize) -> usize {
        let stats = self.stats(side);
        let primary = stats.paths.iter().find(|path| path.primary).expect("a primary path");
        self.relays
            .iter()
            .position(|relay| matches!(primary.route, tandem_media::session::Route::Relay { service, .. } if service == relay.service))
            .expect("through a relay")
    }

    /// The longest time between arrivals of distinct numbers at this side since then.
    pub(crate) fn gap_since(&self, side: usize, since: Duration) -> Duration {
        let heard = &self.sides[side].heard;
        let before = heard.iter().rev().find(|(at, _)| *at <= since).map(|(at, _)| *at).unwrap_or(since);
        let mut last = before;
        let mut gap = Duration::ZERO;
        for (at, _) in heard.iter().filter(|(at, _)| *at > since) {
            gap = gap.max(*at - last);
            last = *at;
        }
        gap.max(self.elapsed() - last)
    }

    pub(crate) fn count(&self, side: usize, since: Duration, of: impl Fn(&Event) -> bool) -> usize {
        self.sides[side].events.iter().filter(|(at, event)| *at >= since && of(event)).count()
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0_u32;
        loop {
            steps += 1;
            assert!(steps < 2_000_000, "the world does not come to rest");
            let queued = self.queue.peek().map(|Reverse((at, _))| *at);
            let now = self.now;
            let timers = self.sides.iter_mut().filter_map(|side| side.session.poll_timeout(now)).min();
            let draining =
                self.relays.iter().filter(|relay| relay.server.serving() == Serving::Draining && !relay.dead);
            let notices = draining.filter_map(|relay| relay.server.poll_timeout()).min();
            let next = [queued, timers, notices, Some(self.next_frame)].into_iter().flatten().min().unwrap();
            if next > end {
                break;
            }
            self.now = next.max(self.now);
            if notices == Some(next) {
                self.send_notices();
            } else {
                self.step(queued == Some(next));
            }
        }
        self.now = end;
    }

    /// This relay has no room for anybody new.
    pub(crate) fn fill(&mut self, relay: usize) {
        self.relays[relay].server.set_limits(0, None);
    }

    pub(crate) fn unfill(&mut self, relay: usize) {
        self.relays[relay].server.set_limits(100, None);
    }

    /// Allocations that it has refused.
    pub(crate) fn refused_by(&self, relay: usize) -> u64 {
        self.relays[relay].server.stats().allocations_refused
    }

    /// This relay takes nothing new from now on, and tells its clients.
    pub(crate) fn drains(&mut self, relay: usize) {
        self.relays[relay].server.set_serving(Serving::Draining, self.now);
    }

    fn send_notices(&mut self) {
        for relay in 0..self.relays.len() {
            if self.relays[relay].server.serving() != Serving::Draining || self.relays[relay].dead {
                continue;
            }
            self.relays[relay].server.handle_timeout(self.now);
            while let Some((to, notice)) = self.relays[relay].server.poll_notice() {
                self.out_of_relay(relay, to, notice.to_vec(), false);
            }
        }
    }

    /// How many allocations this relay has.
    pub(crate) fn allocations_of(&self, relay: usize) -> usize {
        self.relays[relay].server.allocations().count()
    }

    fn step(&mut self, queued: bool) {
        if queued {
            let Reverse((_, number)) = self.queue.pop().unwrap();
            let delivery = self.deliveries.remove(&number).unwrap();
            self.deliver(delivery);
            return;
        }
        if self.now >= self.next_frame {
            self.next_frame += FRAME;
            for side in [A, B] {
                self.speak(side);
            }
            return;
        }
        for side in [A, B] {
            self.sides[side].session.handle_timeout(self.now);
            self.drain(side);
        }
    }

    fn speak(&mut self, side: usize) {
        let now = self.now;
        let speaker = &mut self.sides[side];
        if let Some(endpoint) = &mut speaker.endpoint {
            endpoint.handle_timeout(now);
            while let Some(packet) = endpoint.poll_transmit() {
                speaker.session.send_opus(&packet.payload, packet.rtp_time, now).unwrap();
            }
            self.drain(side);
        } else if speaker.session.is_connected() && !speaker.muted {
            speaker.rtp_time = speaker.rtp_time.wrapping_add(960);
            let (bits_per_second, packet_ms) = speaker.sound_rate;
            let samples = packet_ms * 48;
            if speaker.rtp_time.is_multiple_of(samples) {
                let payload = vec![0x78; (bits_per_second * packet_ms / 8_000) as usize];
                speaker.session.send_opus(&payload, speaker.rtp_time - samples, now).unwrap();
                self.drain(side);
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::ToRelay { relay, from, tcp, data } => self.at_relay(relay, from, tcp, data),
            Delivery::ToSide { side, socket, from, data } => {
                self.sides[side].session.handle_packet(socket, from, &data, self.now);
                self.drain(side);
            }
            Delivery::Opened { side, socket, local } => {
                self.sides[side].session.handle_socket(socket, local, self.now);
                self.drain(side);
            }
            Delivery::Candidate { side, candidate } => {
                let candidate = Candidate::from_wire(&candidate).unwrap();
                self.sides[side].session.handle_remote_candidate(&candidate, self.now);
                self.drain(side);
            }
            Delivery::Report { side, report } => {
                self.sides[side].session.handle_path_report(&report, self.now);
                self.drain(side);
            }
        }
    }

    pub(crate) fn drain(&mut self, side: usize) {
        while let Some(transmit) = self.sides[side].session.poll_transmit() {
            let Some(socket) = self.sides[side].sockets.get(&transmit.socket).copied() else { continue };
            let sender = &mut self.sides[side];
            if sender.offline
                || socket.local.ip() != sender.ip
                || (sender.udp_blocked && socket.tcp_to.is_none())
            {
                continue;
            }
            let from = match &mut sender.nat {
                Some(nat) if socket.tcp_to.is_none() => nat.outward(socket.local, transmit.to),
                _ => socket.local,
            };
            let relay = self.relays.iter().position(|r| r.udp == transmit.to || r.tcp == transmit.to);
            let line = self.sides[side].line.as_mut().filter(|_| socket.tcp_to.is_none());
            let on_line = line.map_or(Some(Duration::ZERO), |line| line.up(transmit.data.len(), self.now));
            let Some(on_line) = on_line else { continue };
            match relay {
                Some(relay) => {
                    let tcp = socket.tcp_to.map(|_| (side, transmit.socket));
                    let delay = on_line + self.relays[relay].delay / 2;
                    let data = transmit.data;
                    self.later(delay, Delivery::ToRelay { relay, from, tcp, data });
                }
                None => self.directly(side, from, transmit.to, transmit.data),
            }
        }
        // A farewell goes out before its socket is closed.
        while let Some(command) = self.sides[side].session.poll_command() {
            self.command(side, command);
        }
        while let Some(event) = self.sides[side].session.poll_event() {
            self.event(side, event);
        }
    }

    fn directly(&mut self, by: usize, from: SocketAddr, to: SocketAddr, data: Vec<u8>) {
        match self.reaches(from, to, false) {
            Some((side, socket)) if !self.direct_dead => {
                self.later(self.direct_delay, Delivery::ToSide { side, socket, from, data });
            }
            Some(_) => {}
            None => *self.sides[by].astray.entry(to).or_default() += 1,
        }
    }

    /// Which socket a packet from here to there comes to.
    fn reaches(&self, from: SocketAddr, to: SocketAddr, stream: bool) -> Option<(usize, SocketId)> {
        self.sides.iter().enumerate().find_map(|(number, side)| {
            let inner = match &side.nat {
                Some(nat) if !stream => nat.inward(from, to)?,
                _ => to,
            };
            let open = |socket: &Socket| socket.local == inner && inner.ip() == side.ip;
            let (id, _) = side.sockets.iter().find(|(_, socket)| open(socket))?;
            (!side.offline).then_some((number, *id))
        })
    }

    fn command(&mut self, side: usize, command: SocketCommand) {
        match command {
            SocketCommand::Open { id, kind } => {
                self.next_port += 1;
                let local = SocketAddr::new(self.sides[side].ip, self.next_port);
                let tcp_to = match kind {
                    SocketKind::Tcp { connect, .. } => Some(connect),
                    SocketKind::Udp { .. } => None,
                };
                self.sides[side].sockets.insert(id, Socket { local, tcp_to });
                let dead =
                    tcp_to.is_some_and(|to| self.relays.iter().any(|relay| relay.tcp == to && relay.dead));
                if !dead && (tcp_to.is_none() || !self.sides[side].offline) {
                    self.later(ms(1), Delivery::Opened { side, socket: id, local });
                }
            }
            SocketCommand::Close { id } => {
                self.sides[side].sockets.remove(&id);
            }
        }
    }

    fn event(&mut self, side: usize, event: Event) {
        let other = 1 - side;
        match &event {
            Event::LocalCandidate(candidate) => {
                let candidate = candidate.to_wire();
                self.later(ms(15), Delivery::Candidate { side: other, candidate });
            }
            Event::PathReport(report) if self.signalling => {
                let report = report.clone();
                self.later(ms(30), Delivery::Report { side: other, report });
            }
            Event::Opus { seq, rtp_time, payload, arrival } => {
                let at = self.elapsed();
                self.sides[side].heard.push((at, *seq));
                if let Some(endpoint) = &mut self.sides[side].endpoint {
                    let packet = Incoming { sequence: *seq, rtp_time: *rtp_time, payload };
                    endpoint.handle_packet(&packet, *arrival);
                }
            }
            Event::Rate { bits_per_second, packet_ms } => {
                self.sides[side].sound_rate = (*bits_per_second, *packet_ms);
                if let Some(endpoint) = &mut self.sides[side].endpoint {
                    endpoint.set_rate(*bits_per_second, *packet_ms).unwrap();
                }
            }
            _ => {}
        }
        if !matches!(event, Event::Opus { .. }) {
            let at = self.elapsed();
            self.sides[side].events.push((at, event));
        }
    }

    fn at_relay(&mut self, relay: usize, from: SocketAddr, tcp: Option<(usize, SocketId)>, data: Vec<u8>) {
        if self.relays[relay].dead || (tcp.is_none() && self.relays[relay].udp_blocked) {
            return;
        }
        if tcp.is_none() {
            return self.relay_packet(relay, ClientAddr::udp(from, 0), &data);
        }
        let mut stream = self.streams.remove(&from).unwrap_or_default();
        stream.extend(data);
        while let Frame::Whole(length) = first_frame(&stream) {
            let frame: Vec<u8> = stream.drain(..length).collect();
            self.relay_packet(relay, ClientAddr::tcp(from, from.port().into()), &frame);
        }
        self.streams.insert(from, stream);
    }

    fn relay_packet(&mut self, relay: usize, from: ClientAddr, data: &[u8]) {
        let now = self.now;
        let mut buffer = vec![0; HEADROOM + data.len() + TAILROOM];
        let range = HEADROOM..HEADROOM + data.len();
        buffer[range.clone()].copy_from_slice(data);
        match self.relays[relay].server.handle(&mut buffer, range, from, now) {
            Verdict::Reply(reply) => self.out_of_relay(relay, from, reply, false),
            Verdict::Forward { to, packet } => {
                let mut data = buffer[packet].to_vec();
                let mut to = to;
                let Relay { old, replays, .. } = &mut self.relays[relay];
                if *replays {
                    let Some(again) = old.pop_front() else { return };
                    old.push_back(again.clone());
                    (to, data) = again;
                } else {
                    old.push_back((to, data.clone()));
                    if old.len() > 50 {
                        old.pop_front();
                    }
                }
                self.out_of_relay(relay, to, data, true);
            }
            Verdict::Drop(_) => {}
        }
    }

    fn out_of_relay(&mut self, relay: usize, to: ClientAddr, data: Vec<u8>, forwarded: bool) {
        let from = if to.is_stream() { self.relays[relay].tcp } else { self.relays[relay].udp };
        let Some((side, socket)) = self.reaches(from, to.address(), to.is_stream()) else { return };
        let draw = self.draw();
        let relay = &mut self.relays[relay];
        if relay.deaf[side] || (forwarded && draw % 1000 < relay.loss_permille[side]) {
            return;
        }
        let now = self.now;
        if forwarded {
            if relay.traces[side].as_mut().is_some_and(|trace| trace.loses(now, false)) {
                return;
            }
            relay.forwarded[side] += 1;
        }
        let mut delay = relay.delay / 2;
        if let Some(line) = self.sides[side].line.as_mut().filter(|_| !to.is_stream()) {
            let Some(on_line) = line.down(data.len(), now + delay) else { return };
            delay += on_line;
        }
        self.later(delay, Delivery::ToSide { side, socket, from, data });
    }

    /// Kills a relay as SIGKILL does: its TCP connections are reset.
    pub(crate) fn reset(&mut self, relay: usize) {
        self.relays[relay].dead = true;
        let tcp = self.relays[relay].tcp;
        for side in [A, B] {
            let sockets = self.sides[side].sockets.iter().filter(|(_, socket)| socket.tcp_to == Some(tcp));
            for id in sockets.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.sides[side].session.handle_socket_closed(id, "connection reset", self.now);
                self.drain(side);
            }
        }
    }

    pub(crate) fn add_host(&mut self, side: usize) {
        let ip = self.sides[side].ip;
        self.sides[side].session.add_host(ip, self.now);
        self.drain(side);
    }

    /// Random bytes, some of them shaped like what is expected, on every socket of both sides, from the right place.
    pub(crate) fn spray_garbage(&mut self, packets: u32) {
        for n in 0..packets {
            let side = (n % 2) as usize;
            let sockets: Vec<SocketId> = self.sides[side].sockets.keys().copied().collect();
            let socket = sockets[self.draw() as usize % sockets.len()];
            let relay = self.draw() as usize % self.relays.len();
            let from = self.relays[relay].udp;
            let length = self.draw() as usize % 200;
            let mut data: Vec<u8> = (0..length).map(|_| self.draw().to_le_bytes()[0]).collect();
            let start: &[u8] =
                [&[0x40, 0, 0, 40][..], &[0, 0x11, 0, 8, 0x21, 0x12, 0xa4, 0x42], &[0, 0x17, 0, 60]]
                    [self.draw() as usize % 3];
            if data.len() > start.len() {
                data[..start.len()].copy_from_slice(start);
            }
            self.sides[side].session.handle_packet(socket, from, &data, self.now);
            self.drain(side);
        }
    }

    /// Ends the call as a person does.
    pub(crate) fn end(&mut self, side: usize) {
        self.sides[side].session.end(self.now);
        self.drain(side);
    }

    pub(crate) fn close(&mut self, side: usize) {
        self.sides[side].session.close("hung up", self.now);
        let transmits: Vec<_> = std::iter::from_fn(|| self.sides[side].session.poll_transmit()).collect();
        for transmit in transmits {
            let socket = self.sides[side].sockets[&transmit.socket];
            let relay = self.relays.iter().position(|relay| relay.udp == transmit.to).unwrap();
            let data = transmit.data;
            self.later(ms(1), Delivery::ToRelay { relay, from: socket.local, tcp: None, data });
        }
        self.drain(side);
    }

    pub(crate) fn allocations(&self) -> usize {
        self.relays.iter().map(|relay| relay.server.allocations().count()).sum()
    }

    fn later(&mut self, delay: Duration, delivery: Delivery) {
        let number = self.next_delivery;
        self.next_delivery += 1;
        self.deliveries.insert(number, delivery);
        self.queue.push(Reverse((self.now + delay, number)));
    }

    fn draw(&mut self) -> u32 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.random >> 33).unwrap()
    }
}
