//! Calls that outlive the first lifetimes of everything (permissions 300 s, channels 600 s, allocations 1,800 s, which is
//! what this client asks for) in real time, with the TURN client that Tandem's media uses: over UDP, over TCP, and over
//! both without channels. Prints one JSON object.
//!
//! `relay_hold --server IP:PORT --rest-secret S [--seconds 1900] [--pid PID]`
//!
//! A fourth call is given up at once, without a word: nothing of it may be left after its lifetime. With the relay's
//! process number, the relay is stopped (SIGSTOP) from 5 s before that lifetime ends until 6 s after it.

#![expect(clippy::disallowed_methods, reason = "this is about real time")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use stun_types::message::{Message, MessageClass};
use tandem_proto::grant::RestSecret;
use tandem_relay::framing::{Frame, first_frame};
use turn_client_proto::api::{TurnConfig, TurnEvent, TurnRecvRet};
use turn_client_proto::prelude::*;
use turn_client_proto::stun::agent::Transmit;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::{Instant as TurnInstant, TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

turn_client_proto::impl_client!(pub(crate) TurnClient, (Udp, TurnClientUdp), (Tcp, TurnClientTcp));

/// Of an allocation: what the client asks for.
const LIFETIME: Duration = Duration::from_secs(1_800);
const STOP_BEFORE: Duration = Duration::from_secs(5);
const CONTINUE_AFTER: Duration = Duration::from_secs(6);
const FRAME: Duration = Duration::from_millis(20);
const SOUND_BYTES: usize = 160;
const BUFFER_BYTES: usize = 4 << 20;
const SET_UP: Duration = Duration::from_secs(20);
/// What is on its way at the end gets this long.
const LAST_PACKETS: Duration = Duration::from_secs(2);

/// A socket to the relay.
#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream, Vec<u8>),
}

impl Socket {
    fn open(server: SocketAddr, tcp: bool) -> Result<Self> {
        if tcp {
            let stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            return Ok(Self::Tcp(stream, Vec::new()));
        }
        let any: SocketAddr = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        // What the relay kept while it stood still comes all at once.
        socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER_BYTES)?;
        Ok(Self::Udp(socket))
    }

    fn local(&self) -> Result<SocketAddr> {
        Ok(match self {
            Self::Udp(socket) => socket.local_addr()?,
            Self::Tcp(stream, _) => stream.local_addr()?,
        })
    }

    /// ChannelData over TCP is padded (RFC 8656 §12.5), which the client does not do.
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Udp(socket) => ensure!(socket.send(bytes)? == bytes.len()),
            Self::Tcp(stream, _) => {
                let mut bytes = bytes.to_vec();
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                stream.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    /// Whole messages that have come, without padding.
    fn receive(&mut self) -> Result<Vec<Vec<u8>>> {
        let (mut buffer, mut messages) = ([0; 4_096], Vec::new());
        loop {
            let read = match self {
                Self::Udp(socket) => socket.recv(&mut buffer),
                Self::Tcp(stream, _) => stream.read(&mut buffer),
            };
            let length = match read {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
                Err(error) => return Err(error.into()),
            };
            match self {
                Self::Udp(_) => messages.push(buffer[..length].to_vec()),
                Self::Tcp(_, _) if length == 0 => bail!("the relay closed a connection"),
                Self::Tcp(_, rest) => {
                    rest.extend_from_slice(&buffer[..length]);
                    while let Frame::Whole(length) = first_frame(rest) {
                        let mut message: Vec<u8> = rest.drain(..length).collect();
                        if message[0] >> 6 == 1 {
                            message.truncate(4 + usize::from(u16::from_be_bytes([message[2], message[3]])));
                        }
                        messages.push(message);
                    }
                }
            }
        }
    }
}

/// One end of a call.
struct End {
    socket: Socket,
    turn: TurnClient,
    server: SocketAddr,
    local: SocketAddr,
    began: Instant,
    relayed: Option<SocketAddr>,
    /// Packets may pass to the other end.
    joined: bool,
    /// What the client told of: allocations, permissions, channels made.
    made: BTreeMap<&'static str, u32>,
    /// Requests that the relay granted, by their method.
    granted: BTreeMap<&'static str, u32>,
    failures: Vec<String>,
    sent: u64,
    heard: Vec<bool>,
    last_heard: Option<Instant>,
    longest_gap: Duration,
    last_packet: Vec<u8>,
}

impl End {
    fn new(server: SocketAddr, tcp: bool, secret: &str, name: &str, began: Instant) -> Result<Self> {
        let socket = Socket::open(server, tcp)?;
        let local = socket.local()?;
        let expiry_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() + 86_400;
        let username = format!("{expiry_s}:{name}");
        let password = RestSecret::new(secret).password(&username);
        let config = TurnConfig::new(TurnCredentials::new(&username, &password));
        let turn = if tcp {
            TurnClient::Tcp(TurnClientTcp::allocate(local, server, config))
        } else {
            TurnClient::Udp(TurnClientUdp::allocate(local, server, config))
        };
        Ok(Self {
            socket,
            turn,
            server,
            local,
            began,
            relayed: None,
            joined: false,
            made: BTreeMap::new(),
            granted: BTreeMap::new(),
            failures: Vec::new(),
            sent: 0,
            heard: Vec::new(),
            last_heard: None,
            longest_gap: Duration::ZERO,
            last_packet: Vec::new(),
        })
    }

    fn clock(&self) -> TurnInstant {
        let nanos = self.began.elapsed().as_nanos();
        TurnInstant::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    fn work(&mut self) -> Result<()> {
        for message in self.socket.receive()? {
            if let Some(request) = granted(&message) {
                *self.granted.entry(request).or_default() += 1;
            }
            let transmit = Transmit::new(&message[..], self.turn.transport(), self.server, self.local);
            let clock = self.clock();
            let heard = match self.turn.recv(transmit, clock) {
                TurnRecvRet::PeerData(data) => sequence_of(data.data()),
                _ => None,
            };
            if let Some(sequence) = heard {
                self.hear(sequence);
            }
        }
        let clock = self.clock();
        self.turn.poll(clock);
        while let Some(event) = self.turn.poll_event() {
            let what = match event {
                TurnEvent::AllocationCreated(_, relayed) => {
                    self.relayed = Some(relayed);
                    "allocations"
                }
                TurnEvent::PermissionCreated(..) => "permissions",
                TurnEvent::ChannelCreated(..) => "channels",
                failure => {
                    self.failures.push(format!("{failure:?}"));
                    continue;
                }
            };
            *self.made.entry(what).or_default() += 1;
        }
        while let Some(transmit) = self.turn.poll_transmit(clock) {
            self.socket.send(&transmit.data)?;
        }
        Ok(())
    }

    fn hear(&mut self, sequence: u64) {
        let Ok(index) = usize::try_from(sequence) else { return };
        if self.heard.len() <= index {
            self.heard.resize(index + 1, false);
        }
        self.heard[index] = true;
        let now = Instant::now();
        if let Some(last) = self.last_heard.replace(now) {
            self.longest_gap = self.longest_gap.max(now - last);
        }
    }

    fn join(&mut self, other: SocketAddr, by_channel: bool) -> Result<()> {
        let clock = self.clock();
        let joined = if by_channel {
            self.turn.bind_channel(TransportType::Udp, other, clock).map_err(|error| error.to_string())
        } else {
            self.turn
                .create_permission(TransportType::Udp, other.ip(), clock)
                .map_err(|error| error.to_string())
        };
        joined.map_err(anyhow::Error::msg)?;
        self.joined = true;
        Ok(())
    }

    fn speak(&mut self, to: SocketAddr) -> Result<()> {
        let mut sound = self.sent.to_be_bytes().to_vec();
        sound.resize(SOUND_BYTES, 0);
        let clock = self.clock();
        let packet = self.turn.send_to(TransportType::Udp, to, &sound[..], clock);
        let packet = packet.map_err(|error| anyhow::anyhow!("{error}"))?.context("it cannot send yet")?;
        self.last_packet = packet.build().data;
        self.socket.send(&self.last_packet)?;
        self.sent += 1;
        Ok(())
    }

    fn report(&self, sent: u64) -> Value {
        let heard = self.heard.iter().filter(|heard| **heard).count() as u64;
        json!({
            "transport": if matches!(self.socket, Socket::Tcp(..)) { "tcp" } else { "udp" },
            "sent_to_it": sent,
            "lost": sent - heard,
            "longest_gap_ms": self.longest_gap.as_millis() as u64,
            "granted": self.granted,
            "failures": self.failures,
        })
    }
}

fn sequence_of(sound: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(sound.get(..8)?.try_into().ok()?))
}

/// Which request this grants.
fn granted(message: &[u8]) -> Option<&'static str> {
    let answer =
        Message::from_bytes(message).ok().filter(|answer| answer.class() == MessageClass::Success)?;
    match answer.method() {
        ALLOCATE => Some("Allocate"),
        REFRESH => Some("Refresh"),
        CREATE_PERMISSION => Some("CreatePermission"),
        CHANNEL_BIND => Some("ChannelBind"),
        _ => None,
    }
}

/// Two ends of one call tag.
struct Call {
    name: &'static str,
    by_channel: bool,
    ends: [End; 2],
}

impl Call {
    fn new(
        name: &'static str,
        tcp: [bool; 2],
        by_channel: bool,
        (server, secret): (SocketAddr, &str),
        began: Instant,
    ) -> Result<Self> {
        let ends =
            [End::new(server, tcp[0], secret, name, began)?, End::new(server, tcp[1], secret, name, began)?];
        Ok(Self { name, by_channel, ends })
    }

    fn work(&mut self) -> Result<()> {
        self.ends.iter_mut().try_for_each(End::work)?;
        if let [Some(one), Some(two)] = [self.ends[0].relayed, self.ends[1].relayed]
            && !self.ends[0].joined
        {
            self.ends[0].join(two, self.by_channel)?;
            self.ends[1].join(one, self.by_channel)?;
        }
        Ok(())
    }

    /// Both ends have what they need.
    fn stands(&self) -> bool {
        let what = if self.by_channel { "channels" } else { "permissions" };
        self.ends.iter().all(|end| end.made.contains_key(what))
    }

    fn speak(&mut self) -> Result<()> {
        let [one, two] = &mut self.ends;
        let (to_one, to_two) = (one.relayed.context("allocated")?, two.relayed.context("allocated")?);
        one.speak(to_two)?;
        two.speak(to_one)
    }

    fn report(&self) -> Value {
        let [one, two] = &self.ends;
        json!({ "call": self.name, "ends": [one.report(two.sent), two.report(one.sent)] })
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        words.iter().position(|word| word == name).and_then(|at| words.get(at + 1)).map(String::as_str)
    };
    let server: SocketAddr = option("--server").context("--server IP:PORT is missing")?.parse()?;
    let secret = option("--rest-secret").context("--rest-secret is missing")?;
    let time = Duration::from_secs(option("--seconds").unwrap_or("1900").parse()?);
    let pid = option("--pid").map(str::parse).transpose()?.map(Pid::from_raw);

    let began = Instant::now();
    let with = (server, secret);
    let mut calls = vec![
        Call::new("UDP, channels", [false, false], true, with, began)?,
        Call::new("TCP, channels", [true, true], true, with, began)?,
        Call::new("UDP and TCP, permissions only", [false, true], false, with, began)?,
    ];
    let mut given_up = Call::new("given up", [false, false], true, with, began)?;
    set_up(&mut calls, &mut given_up)?;
    let stopped = hold(&mut calls, time, began, pid)?;
    let left = left_of(&mut given_up)?;
    let report: Vec<Value> = calls.iter().map(Call::report).collect();
    let seconds = began.elapsed().as_secs();
    println!(
        "{:#}",
        json!({ "seconds": seconds, "stopped_s": stopped.as_secs(), "calls": report, "heard_of_the_call_given_up": left })
    );
    let lost = report.iter().flat_map(|call| call["ends"].as_array().cloned().unwrap_or_default());
    ensure!(
        lost.into_iter().all(|end| end["lost"] == 0 && end["failures"] == json!([])),
        "not everything passed"
    );
    ensure!(left == 0 || began.elapsed() < LIFETIME, "an allocation outlived its lifetime");
    Ok(())
}

fn set_up(calls: &mut [Call], given_up: &mut Call) -> Result<()> {
    let end = Instant::now() + SET_UP;
    while !(calls.iter().all(Call::stands) && given_up.stands()) {
        calls.iter_mut().try_for_each(Call::work)?;
        given_up.work()?;
        ensure!(Instant::now() < end, "the relay does not serve");
        std::thread::sleep(Duration::from_millis(1));
    }
    given_up.speak()
}

/// Everybody talks; returns for how long the relay stood still.
fn hold(calls: &mut [Call], time: Duration, began: Instant, pid: Option<Pid>) -> Result<Duration> {
    let stop = began + LIFETIME - STOP_BEFORE;
    let mut plan = pid.filter(|_| time > LIFETIME + CONTINUE_AFTER);
    let (mut stopped_at, mut stopped) = (None, Duration::ZERO);
    let (mut next, end) = (Instant::now(), began + time);
    while Instant::now() < end + LAST_PACKETS {
        calls.iter_mut().try_for_each(Call::work)?;
        let now = Instant::now();
        if now >= next && now < end {
            calls.iter_mut().try_for_each(Call::speak)?;
            next += FRAME;
        }
        if let Some(pid) = plan {
            match stopped_at {
                None if now >= stop => {
                    kill(pid, Signal::SIGSTOP)?;
                    stopped_at = Some(now);
                }
                Some(since) if now >= began + LIFETIME + CONTINUE_AFTER => {
                    kill(pid, Signal::SIGCONT)?;
                    (plan, stopped) = (None, now - since);
                }
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(stopped)
}

/// Packets that still pass in the call whose ends have asked for nothing since it was made.
fn left_of(given_up: &mut Call) -> Result<usize> {
    // What came when it was made.
    given_up.ends.iter_mut().try_for_each(|end| end.socket.receive().map(drop))?;
    for end in &mut given_up.ends {
        let packet = end.last_packet.clone();
        end.socket.send(&packet)?;
    }
    std::thread::sleep(LAST_PACKETS);
    let mut heard = 0;
    for end in &mut given_up.ends {
        heard += end.socket.receive()?.len();
    }
    Ok(heard)
}
