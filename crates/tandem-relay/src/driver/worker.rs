//! The relay's one thread: short steps in a fixed order, each with a budget.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use super::tcp::{Clients, Reading};
use super::udp::{BATCH, Batch, Port};
use super::{Adopted, DriverConfig, Shared, TCP_LISTENERS_MAX, UDP_SOCKETS_MAX};
use crate::client::{ClientAddr, Link};
use crate::framing::MESSAGE_BYTES_MAX;
use crate::server::{HEADROOM, Server, TAILROOM, Verdict};

pub(super) const WAKE: Token = Token(0);
const FIRST_LISTENER: usize = 1;
const FIRST_UDP: usize = FIRST_LISTENER + TCP_LISTENERS_MAX;
const FIRST_TCP: usize = FIRST_UDP + UDP_SOCKETS_MAX;

/// How often time-outs of connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Batches read from one UDP socket before something else has its turn.
const BATCHES_PER_TURN: usize = 4;
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
    adopted: Receiver<Adopted>,
    shared: Arc<Shared>,
    next_sweep: Instant,
    /// One message of a TCP client, with the room around it that the core wants.
    scratch: Box<[u8]>,
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
        adopted: Receiver<Adopted>,
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
        Ok(Self {
            poll,
            ports,
            listeners,
            clients: Clients::new(config.tcp_clients_max, config.tcp_clients_per_source_max, FIRST_TCP),
            adopted,
            shared,
            next_sweep: now() + SWEEP_INTERVAL,
            scratch: vec![0; HEADROOM + MESSAGE_BYTES_MAX + TAILROOM].into(),
        })
    }

    /// Runs until told to stop.
    pub(super) fn run(&mut self) {
        let mut batch = Batch::new();
        let mut events = Events::with_capacity(256);
        while !self.shared.stopping.load(Ordering::Acquire) {
            if let Err(error) = self.poll.poll(&mut events, Some(self.wait()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the relay cannot wait for packets any more and stops");
                return;
            }
            self.note(&events);
            self.serve_udp(&mut batch);
            self.take_adopted();
            self.accept();
            self.serve_tcp(&mut batch);
            self.tick(&mut batch);
        }
    }

    /// How long there is nothing to do if no packet comes.
    fn wait(&self) -> Duration {
        let busy = self.listeners.iter().any(|listener| listener.ready)
            || self.clients.is_anything_readable()
            || self.ports.iter().any(|port| port.readable);
        if busy {
            return Duration::ZERO;
        }
        let next =
            self.shared.server().poll_timeout().map_or(self.next_sweep, |due| due.min(self.next_sweep));
        next.saturating_duration_since(now())
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKE => {}
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

    fn serve_udp(&mut self, batch: &mut Batch) {
        for index in 0..self.ports.len() {
            for _ in 0..BATCHES_PER_TURN {
                if !self.ports[index].readable {
                    break;
                }
                self.serve_batch(index, batch);
            }
        }
    }

    fn serve_batch(&mut self, index: usize, batch: &mut Batch) {
        let port = &mut self.ports[index];
        let count = match batch.receive(&port.socket) {
            Ok(count) => count,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::debug!(%error, "receiving failed");
                }
                port.readable = error.kind() == io::ErrorKind::Interrupted;
                return;
            }
        };
        // Fewer than asked for means that the kernel found its queue empty.
        port.readable = count == BATCH;
        let now = now();
        let link = Link::Udp(u8::try_from(index).expect("there are at most 16 UDP sockets"));
        {
            let shared = Arc::clone(&self.shared);
            let mut server = shared.server();
            for number in 0..count {
                let (received, storage, packet) = batch.datagram(number);
                let from = ClientAddr::new(received.from, link);
                match server.handle(storage, packet, from, now) {
                    Verdict::Forward { to, packet } => self.send_from(storage, to, packet),
                    Verdict::Reply(bytes) => self.ports[index].queue_own(from.address(), bytes),
                    Verdict::Drop(reason) => tracing::trace!(reason = reason.name(), "dropped"),
                }
            }
        }
        self.flush(batch);
    }

    /// Sends a packet from the place in the batch where it lies.
    fn send_from(&mut self, storage: &[u8], to: ClientAddr, packet: std::ops::Range<usize>) {
        match to.link() {
            Link::Udp(port) => self.ports[usize::from(port)].queue_in_batch(to.address(), packet),
            Link::Tcp(connection) => self.queue_tcp(connection, &storage[packet]),
        }
    }

    fn queue_tcp(&mut self, connection: u32, bytes: &[u8]) {
        if !self.clients.queue(connection, bytes) {
            self.shared.counters.unsent.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&mut self, batch: &mut Batch) {
        let unsent: u64 = self.ports.iter_mut().map(|port| port.flush(batch)).sum();
        self.shared.counters.unsent.fetch_add(unsent, Ordering::Relaxed);
        for connection in self.clients.flush(now()) {
            self.close(connection);
        }
    }

    // ---- TCP ------------------------------------------------------------------------------------------------------

    fn take_adopted(&mut self) {
        while let Ok(adopted) = self.adopted.try_recv() {
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

    fn serve_tcp(&mut self, batch: &mut Batch) {
        for connection in self.clients.readable() {
            let reading = self.clients.read(connection);
            if !self.serve_messages(connection) || reading == Reading::Ended {
                self.close(connection);
            }
        }
        self.flush(batch);
    }

    /// Handles every whole message of one client. `false`: it does not speak TURN.
    fn serve_messages(&mut self, connection: u32) -> bool {
        let Some(from) = self.clients.address(connection) else { return true };
        let shared = Arc::clone(&self.shared);
        let mut server = shared.server();
        let now = now();
        loop {
            match self.clients.next_message(connection, &mut self.scratch[HEADROOM..], now) {
                Ok(Some(length)) => self.serve_message(&mut server, connection, from, length, now),
                Ok(None) => return true,
                Err(_foreign) => return false,
            }
        }
    }

    fn serve_message(
        &mut self,
        server: &mut Server,
        connection: u32,
        from: ClientAddr,
        length: usize,
        now: Instant,
    ) {
        match server.handle(&mut self.scratch, HEADROOM..HEADROOM + length, from, now) {
            Verdict::Forward { to, packet } => match to.link() {
                Link::Udp(port) => {
                    self.ports[usize::from(port)].queue_own(to.address(), self.scratch[packet].to_vec());
                }
                Link::Tcp(other) => {
                    if !self.clients.queue(other, &self.scratch[packet]) {
                        self.shared.counters.unsent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            },
            Verdict::Reply(bytes) => self.queue_tcp(connection, &bytes),
            Verdict::Drop(reason) => tracing::trace!(reason = reason.name(), "dropped"),
        }
    }

    fn close(&mut self, connection: u32) {
        if let Some(client) = self.clients.close(self.poll.registry(), connection) {
            self.shared.server().disconnected(&client);
        }
        self.shared.counters.tcp_clients.store(self.clients.len(), Ordering::Relaxed);
    }

    /// What the core sends unasked.
    fn send_notices(&mut self, batch: &mut Batch) {
        let notices: Vec<_> = std::iter::from_fn(|| self.shared.server().poll_notice()).collect();
        if notices.is_empty() {
            return;
        }
        for (to, bytes) in notices {
            match to.link() {
                Link::Udp(port) => self.ports[usize::from(port)].queue_own(to.address(), bytes.to_vec()),
                Link::Tcp(connection) => self.queue_tcp(connection, &bytes),
            }
        }
        self.flush(batch);
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    fn tick(&mut self, batch: &mut Batch) {
        let now = now();
        let shared = Arc::clone(&self.shared);
        shared.server().handle_timeout(now);
        self.send_notices(batch);
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        let overdue = self.clients.overdue(now, |client| shared.server().has_allocation(client));
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
