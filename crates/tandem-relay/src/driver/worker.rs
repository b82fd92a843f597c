//! A thread of the relay: short steps in a fixed order, each with a budget. The first also serves TCP and keeps the
//! core's time; others have sockets of the same addresses, and a switch of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use super::pace::Pace;
use super::tcp::{Clients, Reading};
use super::udp::{BATCH, Batch, Headers, Port};
use super::{Adopted, DriverConfig, Parcel, Shared, TCP_LISTENERS_MAX, UDP_SOCKETS_MAX};
use crate::client::{ClientAddr, Link};
use crate::server::{Switch, Verdict};

pub(super) const WAKE: Token = Token(0);
const FIRST_LISTENER: usize = 1;
const FIRST_UDP: usize = FIRST_LISTENER + TCP_LISTENERS_MAX;
const FIRST_TCP: usize = FIRST_UDP + UDP_SOCKETS_MAX;

/// How often time-outs of connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Batches read from one UDP socket before something else has its turn.
const BATCHES_PER_TURN: usize = 4;
/// Pauses after which the system is asked in any case: others have something too (connections, handles).
const LOOKS_SAVED_MAX: u32 = 8;
/// Connections accepted from one listener before something else has its turn.
const ACCEPTS_PER_TURN: usize = 32;

/// The driver's clock.
#[expect(clippy::disallowed_methods, reason = "the driver is where the time comes from")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[derive(Debug)]
pub(super) struct Worker {
    poll: Poll,
    ports: Vec<Port>,
    listeners: Vec<Listener>,
    clients: Clients,
    /// Of the first thread only: connections handed over, and what other threads have for TCP clients.
    inbox: Option<Inbox>,
    shared: Arc<Shared>,
    switch: Switch,
    pace: Pace,
    /// When the core wants to be asked again, as of when it was asked last.
    core_due: Instant,
    next_sweep: Instant,
    /// Pauses since the system was last asked what there is to read.
    looks_saved: u32,
}

/// What the first thread is given by others.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) adopted: Receiver<Adopted>,
    pub(super) parcels: Receiver<Parcel>,
}

/// What a thread needs for batches, made in the thread: the system's headers do not move between threads.
#[derive(Debug)]
struct Desk {
    batch: Batch,
    /// For each port.
    headers: Vec<Headers>,
    /// Datagrams of the batch that the core must see.
    for_core: Vec<usize>,
    /// Places of the batch that messages of TCP clients lie in.
    used: usize,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    ready: bool,
}

impl Listener {
    fn accept(&mut self) -> Option<(mio::net::TcpStream, std::net::SocketAddr)> {
        match self.socket.accept() {
            Ok(accepted) => Some(accepted),
            Err(error) => {
                self.ready = error.kind() == io::ErrorKind::Interrupted;
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::debug!(%error, "accepting failed");
                }
                None
            }
        }
    }
}

impl Worker {
    pub(super) fn new(
        poll: Poll,
        udp: Vec<std::net::UdpSocket>,
        tcp: Vec<std::net::TcpListener>,
        config: &DriverConfig,
        shared: Arc<Shared>,
        inbox: Option<Inbox>,
    ) -> io::Result<Self> {
        let mut ports = Vec::with_capacity(udp.len());
        for (index, socket) in udp.into_iter().enumerate() {
            let mut port = Port::new(socket, config.socket_buffer_bytes)?;
            poll.registry().register(&mut port.socket, Token(FIRST_UDP + index), Interest::READABLE)?;
            ports.push(port);
        }
        let mut listeners = Vec::with_capacity(tcp.len());
        for (index, tcp) in tcp.into_iter().enumerate() {
            tcp.set_nonblocking(true)?;
            let mut socket = TcpListener::from_std(tcp);
            poll.registry().register(&mut socket, Token(FIRST_LISTENER + index), Interest::READABLE)?;
            listeners.push(Listener { socket, ready: true });
        }
        let now = now();
        let switch = Switch::new(&mut shared.server(), now);
        Ok(Self {
            poll,
            ports,
            listeners,
            clients: Clients::new(config.tcp_clients_max, config.tcp_clients_per_source_max, FIRST_TCP),
            inbox,
            shared,
            switch,
            pace: Pace::new(config.busy_share, now),
            core_due: now,
            next_sweep: now + SWEEP_INTERVAL,
            looks_saved: 0,
        })
    }

    /// Runs until told to stop.
    pub(super) fn run(&mut self) {
        let headers = self.ports.iter().map(Port::headers).collect();
        let mut desk = Desk { batch: Batch::new(), headers, for_core: Vec::with_capacity(BATCH), used: 0 };
        let mut events = Events::with_capacity(256);
        while !self.shared.stopping.load(Ordering::Acquire) {
            if let Err(error) = self.wait(&mut events)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the relay cannot wait for packets any more and stops");
                return;
            }
            self.note(&events);
            self.serve_udp(&mut desk);
            if self.inbox.is_some() {
                self.take_inbox();
                self.accept();
                self.serve_tcp(&mut desk);
            }
            self.tick(&mut desk);
        }
    }

    /// Waits for something to do: for packets to gather if there are many, or else for the first.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let is_busy = self.listeners.iter().any(|listener| listener.ready)
            || self.clients.is_anything_readable()
            || self.ports.iter().any(|port| port.readable);
        if is_busy {
            return self.poll.poll(events, Some(Duration::ZERO));
        }
        let began = now();
        let pause = self.pace.pause();
        let outcome = if pause.is_zero() {
            self.poll.poll(events, Some(self.due().saturating_duration_since(began)))
        } else {
            std::thread::sleep(pause);
            self.look(events)
        };
        self.pace.note_wait(now().saturating_duration_since(began));
        outcome
    }

    /// Finds out what has come during a pause. If all there was before came on every UDP socket, and there are no TCP
    /// clients, the sockets can be read without asking first.
    fn look(&mut self, events: &mut Events) -> io::Result<()> {
        let expects_all = self.clients.len() == 0 && self.ports.iter().all(|port| port.had_packets);
        if !expects_all || self.looks_saved >= LOOKS_SAVED_MAX {
            self.looks_saved = 0;
            return self.poll.poll(events, Some(Duration::ZERO));
        }
        self.looks_saved += 1;
        events.clear();
        self.ports.iter_mut().for_each(|port| port.readable = true);
        Ok(())
    }

    /// When there is something to do if no packet comes.
    fn due(&self) -> Instant {
        let settle = self.switch.poll_timeout();
        let core = self.inbox.is_some().then_some(self.core_due);
        [settle, core].into_iter().flatten().fold(self.next_sweep, Instant::min)
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                // A handle has changed something.
                WAKE => self.core_due = now(),
                Token(token) if token < FIRST_UDP => {
                    if let Some(listener) = self.listeners.get_mut(token - FIRST_LISTENER) {
                        listener.ready = true;
                    }
                }
                Token(token) if token < FIRST_TCP => {
                    if let Some(port) = self.ports.get_mut(token - FIRST_UDP) {
                        port.readable = true;
                    }
                }
                token => {
                    let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                    self.clients.note(token, readable, event.is_writable());
                }
            }
        }
    }

    // ---- UDP ------------------------------------------------------------------------------------------------------

    fn serve_udp(&mut self, desk: &mut Desk) {
        let mut packets = 0;
        for index in 0..self.ports.len() {
            for _ in 0..BATCHES_PER_TURN {
                if !self.ports[index].readable {
                    break;
                }
                packets += self.serve_batch(index, desk);
            }
        }
        self.pace.note_packets(packets, now());
    }

    /// Returns how many datagrams there were.
    fn serve_batch(&mut self, index: usize, desk: &mut Desk) -> usize {
        let port = &mut self.ports[index];
        let count = match desk.batch.receive(&port.socket, &mut desk.headers[index]) {
            Ok(count) => count,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::debug!(%error, "receiving failed");
                }
                port.readable = error.kind() == io::ErrorKind::Interrupted;
                port.had_packets = false;
                return 0;
            }
        };
        // Fewer than asked for means that the kernel found its queue empty.
        port.readable = count == BATCH;
        port.had_packets = count > 0;
        let now = now();
        let link = Link::Udp(u8::try_from(index).expect("there are at most 16 UDP sockets"));
        desk.for_core.clear();
        for number in 0..count {
            let (received, storage, packet) = desk.batch.datagram(number);
            let from = ClientAddr::new(received.from, link);
            match self.switch.handle(storage, packet, &from, now) {
                Some(verdict) => self.carry_out(verdict, storage, from),
                None => desk.for_core.push(number),
            }
        }
        if !desk.for_core.is_empty() {
            self.ask_core(desk, link, now);
        }
        self.flush(desk);
        count
    }

    /// What the switch does not know is the core's, which is locked for that.
    fn ask_core(&mut self, desk: &mut Desk, link: Link, now: Instant) {
        let shared = Arc::clone(&self.shared);
        let mut server = shared.server();
        for &number in &desk.for_core {
            let (received, storage, packet) = desk.batch.datagram(number);
            let from = ClientAddr::new(received.from, link);
            let is_channel_data = storage[packet.start] >= 0x40;
            let verdict = server.handle(storage, packet, from, now);
            if is_channel_data && matches!(verdict, Verdict::Forward { .. }) {
                self.switch.learn(&mut server, &from, now);
            }
            self.carry_out(verdict, storage, from);
        }
    }

    /// Sends a packet from the place in the batch where it lies, or an answer.
    fn carry_out(&mut self, verdict: Verdict, storage: &[u8], from: ClientAddr) {
        match verdict {
            Verdict::Forward { to, packet } => match to.link() {
                Link::Udp(port) => self.ports[usize::from(port)].queue_in_batch(to.address(), packet),
                Link::Tcp(connection) => self.queue_tcp(connection, &storage[packet]),
            },
            Verdict::Reply(bytes) => match from.link() {
                Link::Udp(port) => self.ports[usize::from(port)].queue_own(from.address(), bytes),
                Link::Tcp(connection) => self.queue_tcp(connection, &bytes),
            },
            Verdict::Drop(reason) => tracing::trace!(reason = reason.name(), "dropped"),
        }
    }

    /// TCP clients are the first thread's: others hand it what is for them.
    fn queue_tcp(&mut self, connection: u32, bytes: &[u8]) {
        let lost = if self.inbox.is_some() {
            self.clients.queue(connection, bytes)
        } else {
            u64::from(!self.shared.hand_over(Parcel { connection, bytes: bytes.to_vec() }))
        };
        if lost > 0 {
            self.shared.counters.unsent.fetch_add(lost, Ordering::Relaxed);
        }
    }

    fn flush(&mut self, desk: &mut Desk) {
        self.flush_udp(desk);
        for connection in self.clients.flush(now()) {
            self.close(connection);
        }
    }

    fn flush_udp(&mut self, desk: &mut Desk) {
        let Desk { batch, headers, .. } = desk;
        let ports = self.ports.iter_mut().zip(headers);
        let unsent: u64 = ports.map(|(port, headers)| port.flush(batch, headers)).sum();
        if unsent > 0 {
            self.shared.counters.unsent.fetch_add(unsent, Ordering::Relaxed);
        }
    }

    // ---- TCP ------------------------------------------------------------------------------------------------------

    fn take_inbox(&mut self) {
        while let Some(parcel) = self.inbox.as_ref().and_then(|inbox| inbox.parcels.try_recv().ok()) {
            self.queue_tcp(parcel.connection, &parcel.bytes);
        }
        while let Some(adopted) = self.inbox.as_ref().and_then(|inbox| inbox.adopted.try_recv().ok()) {
            if let Err(error) = adopted.stream.set_nonblocking(true) {
                tracing::debug!(%error, "connection not adopted");
                continue;
            }
            let stream = mio::net::TcpStream::from_std(adopted.stream);
            self.add(stream, adopted.remote, adopted.already_read);
        }
    }

    fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let Some(listener) = self.listeners.get_mut(index).filter(|listener| listener.ready) else {
                    break;
                };
                if let Some((stream, remote)) = listener.accept() {
                    self.add(stream, remote, Vec::new());
                }
            }
        }
    }

    fn add(&mut self, stream: mio::net::TcpStream, remote: std::net::SocketAddr, already_read: Vec<u8>) {
        if let Err(error) = self.clients.add(self.poll.registry(), stream, remote, already_read, now()) {
            tracing::debug!(%error, "connection refused");
        }
        self.shared.counters.tcp_clients.store(self.clients.len(), Ordering::Relaxed);
    }

    fn serve_tcp(&mut self, desk: &mut Desk) {
        desk.used = 0;
        for connection in self.clients.readable() {
            let reading = self.clients.read(connection);
            if !self.serve_messages(connection, desk) || reading == Reading::Ended {
                self.close(connection);
            }
        }
        self.flush(desk);
    }

    /// Handles every whole message of one client. `false`: it does not speak TURN.
    fn serve_messages(&mut self, connection: u32, desk: &mut Desk) -> bool {
        let Some(from) = self.clients.address(connection) else { return true };
        let shared = Arc::clone(&self.shared);
        let mut server = shared.server();
        let now = now();
        loop {
            if desk.used == BATCH {
                self.flush_udp(desk);
                desk.used = 0;
            }
            let (storage, start) = desk.batch.place(desk.used);
            match self.clients.next_message(connection, &mut storage[start..], now) {
                Ok(Some(length)) => {
                    desk.used += 1;
                    let verdict = server.handle(storage, start..start + length, from, now);
                    self.carry_out(verdict, storage, from);
                }
                Ok(None) => return true,
                Err(_foreign) => return false,
            }
        }
    }

    fn close(&mut self, connection: u32) {
        if let Some(client) = self.clients.close(self.poll.registry(), connection) {
            self.shared.server().disconnected(&client);
        }
        self.shared.counters.tcp_clients.store(self.clients.len(), Ordering::Relaxed);
    }

    /// What the core sends unasked.
    fn send_notices(&mut self, desk: &mut Desk) {
        let shared = Arc::clone(&self.shared);
        let next = || shared.server().poll_notice();
        let mut notices = std::iter::from_fn(next).peekable();
        if notices.peek().is_none() {
            return;
        }
        for (to, bytes) in notices {
            self.carry_out(Verdict::Reply(bytes.to_vec()), &[], to);
        }
        self.flush(desk);
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    fn tick(&mut self, desk: &mut Desk) {
        let now = now();
        if self.switch.poll_timeout().is_some_and(|due| due <= now) {
            self.switch.settle(&mut self.shared.server(), now);
        }
        if self.inbox.is_some() && self.core_due <= now {
            self.shared.server().handle_timeout(now);
            self.send_notices(desk);
            self.core_due = self.shared.server().poll_timeout().unwrap_or(now + SWEEP_INTERVAL);
        }
        if self.pace.is_saturated(now) {
            self.shared.grow();
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_INTERVAL;
            // What others have asked of the core since has its times too.
            self.core_due = self.core_due.min(self.next_sweep);
            self.sweep(now);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let shared = Arc::clone(&self.shared);
        let overdue = {
            let server = shared.server();
            self.clients.overdue(now, |client| server.has_allocation(client))
        };
        for connection in overdue {
            tracing::debug!(connection, "connection closed: without allocation, or stuck");
            self.close(connection);
        }
        // A safety net under readiness that is reported once only.
        for listener in &mut self.listeners {
            listener.ready = true;
        }
        for port in &mut self.ports {
            port.readable = true;
        }
    }
}
