//! The TURN client that Tandem's own media uses, against the core, with forced time: hours of a call in milliseconds.
//!
//! That client (turn-client-proto 0.7) neither pads ChannelData over TCP nor skips its padding, as RFC 8656 §12.5 wants,
//! so whoever moves its bytes over TCP must: [`pad`] what it sends, [`unpad`] what it is given.

use std::net::SocketAddr;
use std::time::Duration;

use stun_types::TransportType;
use tandem_relay::client::ClientAddr;
use turn_client_proto::api::{TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::prelude::*;
use turn_client_proto::stun::agent::Transmit;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::{Instant, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

use crate::bench::{Bench, Fate, relay_secret, terms};

const SECOND: Duration = Duration::from_secs(1);

/// One end of the call: a client, its address, and what it has heard.
struct End<C> {
    turn: C,
    address: ClientAddr,
    relayed: Option<SocketAddr>,
    channels: usize,
    heard: Vec<(SocketAddr, Vec<u8>)>,
    failures: Vec<TurnEvent>,
}

/// Two ends and a relay.
struct Call<A, B> {
    bench: Bench,
    started: std::time::Instant,
    one: End<A>,
    two: End<B>,
}

fn relay_address() -> SocketAddr {
    "203.0.113.1:7001".parse().unwrap()
}

fn udp_end(device: u8) -> End<TurnClientUdp> {
    let local = SocketAddr::from(([10, 1, device, 1], 5_000));
    end(TurnClientUdp::allocate(local, relay_address(), config(device)), ClientAddr::udp(local, 0))
}

fn tcp_end(device: u8) -> End<TurnClientTcp> {
    let local = SocketAddr::from(([10, 1, device, 1], 5_000));
    end(TurnClientTcp::allocate(local, relay_address(), config(device)), ClientAddr::tcp(local, 1))
}

fn config(device: u8) -> TurnConfig {
    let username = terms(1, device).username();
    TurnConfig::new(TurnCredentials::new(&username, &relay_secret().password(&username)))
}

fn end<C>(turn: C, address: ClientAddr) -> End<C> {
    End { turn, address, relayed: None, channels: 0, heard: Vec::new(), failures: Vec::new() }
}

impl<C: TurnClientApi> End<C> {
    /// Notes events and takes out what the client wants sent.
    fn drive(&mut self, now: Instant) -> (Vec<Vec<u8>>, Option<Instant>) {
        let wake = match self.turn.poll(now) {
            TurnPollRet::WaitUntil(wake) => Some(wake),
            _ => None,
        };
        while let Some(event) = self.turn.poll_event() {
            match event {
                TurnEvent::AllocationCreated(_, relayed) => self.relayed = Some(relayed),
                TurnEvent::ChannelCreated(..) => self.channels += 1,
                TurnEvent::PermissionCreated(..) => {}
                failure => self.failures.push(failure),
            }
        }
        let mut packets = Vec::new();
        while let Some(transmit) = self.turn.poll_transmit(now) {
            packets.push(transmit.data.as_ref().to_vec());
        }
        (packets, wake)
    }

    fn receive(&mut self, bytes: &[u8], now: Instant) {
        let local = self.address.address();
        let transport = self.turn.transport();
        let bytes = if self.address.is_stream() { unpad(bytes) } else { bytes };
        match self.turn.recv(Transmit::new(bytes, transport, relay_address(), local), now) {
            TurnRecvRet::Handled => {}
            TurnRecvRet::PeerData(data) => self.heard.push((data.peer, data.data().to_vec())),
            other => panic!("the client does not know what this is: {other:?}"),
        }
    }

    fn say(&mut self, to: SocketAddr, data: &[u8], now: Instant) -> Vec<u8> {
        let packet =
            self.turn.send_to(TransportType::Udp, to, data, now).unwrap().expect("sent at once").build().data;
        if self.address.is_stream() { pad(packet) } else { packet }
    }
}

fn is_channel_data(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first >> 6 == 1)
}

fn pad(mut bytes: Vec<u8>) -> Vec<u8> {
    if is_channel_data(&bytes) {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn unpad(bytes: &[u8]) -> &[u8] {
    if is_channel_data(bytes) {
        &bytes[..4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))]
    } else {
        bytes
    }
}

impl<A: TurnClientApi, B: TurnClientApi> Call<A, B> {
    fn new(one: End<A>, two: End<B>) -> Self {
        let bench = Bench::new();
        let started = bench.now;
        Self { bench, started, one, two }
    }

    fn now(&self) -> Instant {
        let nanos = self.bench.now.duration_since(self.started).as_nanos();
        Instant::from_nanos(i64::try_from(nanos).unwrap())
    }

    /// Carries packets until nobody wants to send; returns when a client wants to be woken.
    fn settle(&mut self) -> Option<Instant> {
        loop {
            let now = self.now();
            let (from_one, wake_one) = self.one.drive(now);
            let (from_two, wake_two) = self.two.drive(now);
            if from_one.is_empty() && from_two.is_empty() {
                return [wake_one, wake_two].into_iter().flatten().min();
            }
            for packet in from_one {
                self.carry(&packet, self.one.address);
            }
            for packet in from_two {
                self.carry(&packet, self.two.address);
            }
        }
    }

    fn carry(&mut self, packet: &[u8], from: ClientAddr) {
        let now = self.now();
        let (to, bytes) = match self.bench.packet(packet, from) {
            Fate::Forwarded { to, bytes } => (to, bytes),
            Fate::Replied(bytes) => (from, bytes),
            Fate::Dropped(reason) => panic!("dropped: {reason:?}"),
        };
        if to == self.one.address {
            self.one.receive(&bytes, now);
        } else {
            self.two.receive(&bytes, now);
        }
    }

    /// Lets time pass in the steps the clients ask for, a second at most.
    fn pass(&mut self, time: Duration) {
        let end = self.bench.now + time;
        while self.bench.now < end {
            let wake = self.settle();
            let step = wake.map_or(SECOND, |wake| wake.saturating_duration_since(self.now()));
            let step = step.clamp(Duration::from_millis(1), SECOND);
            self.bench.pass(step);
        }
        self.settle();
    }

    fn set_up(&mut self) -> (SocketAddr, SocketAddr) {
        self.pass(SECOND);
        let (one, two) = (self.one.relayed.expect("allocated"), self.two.relayed.expect("allocated"));
        let now = self.now();
        self.one.turn.bind_channel(TransportType::Udp, two, now).unwrap();
        self.two.turn.bind_channel(TransportType::Udp, one, now).unwrap();
        self.pass(SECOND);
        assert_eq!((self.one.channels, self.two.channels), (1, 1));
        (one, two)
    }

    fn talk(&mut self, one: SocketAddr, two: SocketAddr) {
        let now = self.now();
        let packet = self.one.say(two, b"hello", now);
        self.carry(&packet, self.one.address);
        let packet = self.two.say(one, b"hello yourself", now);
        self.carry(&packet, self.two.address);
        assert_eq!(self.two.heard.pop(), Some((one, b"hello".to_vec())));
        assert_eq!(self.one.heard.pop(), Some((two, b"hello yourself".to_vec())));
    }

    /// Three hours and a half: dozens of refreshes, permissions, channel bindings and stale nonces.
    fn long_call(mut self) {
        let (one, two) = self.set_up();
        for _ in 0..420 {
            self.talk(one, two);
            self.pass(30 * SECOND);
        }
        assert!(self.one.failures.is_empty(), "{:?}", self.one.failures);
        assert!(self.two.failures.is_empty(), "{:?}", self.two.failures);
        assert!(self.bench.server.stats().challenges > 20, "nonces went stale on the way");
    }
}

#[test]
fn a_long_call_over_udp() {
    Call::new(udp_end(1), udp_end(2)).long_call();
}

#[test]
fn a_long_call_over_tcp_and_udp() {
    Call::new(tcp_end(1), udp_end(2)).long_call();
}

#[test]
fn a_long_call_over_tcp() {
    Call::new(tcp_end(1), tcp_end(2)).long_call();
}

#[test]
fn the_client_gives_its_allocation_back() {
    let mut call = Call::new(udp_end(1), udp_end(2));
    call.set_up();
    let now = call.now();
    call.one.turn.delete(now).unwrap();
    call.pass(SECOND);
    assert_eq!(call.bench.server.stats().allocations, 1);
}

#[test]
fn a_third_device_is_told_no() {
    let mut call = Call::new(udp_end(1), udp_end(2));
    call.set_up();
    call.one = udp_end(3);
    call.pass(SECOND);
    assert!(matches!(call.one.failures.as_slice(), [TurnEvent::AllocationCreateFailed(_), ..]));
}
