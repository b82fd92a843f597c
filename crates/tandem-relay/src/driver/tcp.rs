//! TCP clients: bounded in number, in memory and in patience.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::outbox::{Outbox, UNSENT_BYTES_MAX};
use crate::client::{ClientAddr, SourceNetwork};
use crate::framing::{Frame, MESSAGE_BYTES_MAX, first_frame};

/// Bytes read from one client before the next one's turn.
const INPUT_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// How long a client may stay without an allocation, with half a message, or without reading.
const PATIENCE: Duration = Duration::from_secs(15);

/// All TCP clients, by connection number.
#[derive(Debug)]
pub(super) struct Clients {
    clients: BTreeMap<u32, Client>,
    per_source: BTreeMap<SourceNetwork, usize>,
    next_connection: u32,
    /// Those with something to read, and those with something to write.
    readable: BTreeSet<u32>,
    unflushed: BTreeSet<u32>,
    clients_max: usize,
    per_source_max: usize,
    first_token: usize,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    address: ClientAddr,
    input: Vec<u8>,
    output: Outbox,
    /// Since when it has been as it should not stay; `None` while all is well.
    idle_since: Option<Instant>,
    partial_since: Option<Instant>,
    stalled_since: Option<Instant>,
}

/// What reading a client brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// There may be more: come again.
    Continues,
    /// Nothing more for now.
    Drained,
    /// Closed by the other end, broken, or not TURN.
    Ended,
}

impl Clients {
    pub(super) fn new(clients_max: usize, per_source_max: usize, first_token: usize) -> Self {
        Self {
            clients: BTreeMap::new(),
            per_source: BTreeMap::new(),
            next_connection: 0,
            readable: BTreeSet::new(),
            unflushed: BTreeSet::new(),
            clients_max,
            per_source_max,
            first_token,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Takes a connection on, unless there are too many; then it is closed by being dropped.
    pub(super) fn add(
        &mut self,
        registry: &Registry,
        mut stream: TcpStream,
        remote: SocketAddr,
        already_read: Vec<u8>,
        now: Instant,
    ) -> io::Result<()> {
        let connection = self.next_connection;
        let address = ClientAddr::tcp(remote, connection);
        let of_source = self.per_source.get(&address.source()).copied().unwrap_or(0);
        if self.clients.len() >= self.clients_max || of_source >= self.per_source_max {
            return Err(io::Error::other("too many connections"));
        }
        if already_read.len() > INPUT_BYTES_MAX {
            return Err(io::Error::other("too much was read before the connection was handed over"));
        }
        stream.set_nodelay(true)?;
        hold_little(&stream)?;
        registry.register(&mut stream, self.token(connection), Interest::READABLE | Interest::WRITABLE)?;
        self.next_connection = self.next_connection.wrapping_add(1);
        *self.per_source.entry(address.source()).or_default() += 1;
        let client = Client {
            stream,
            address,
            input: already_read,
            output: Outbox::default(),
            idle_since: Some(now),
            partial_since: None,
            stalled_since: None,
        };
        self.clients.insert(connection, client);
        self.readable.insert(connection);
        Ok(())
    }

    fn token(&self, connection: u32) -> Token {
        Token(self.first_token + connection as usize)
    }

    /// The system says that something can be read or written again.
    pub(super) fn note(&mut self, token: Token, readable: bool, writable: bool) {
        let Ok(connection) = u32::try_from(token.0 - self.first_token) else { return };
        let Some(client) = self.clients.get(&connection) else { return };
        if readable {
            self.readable.insert(connection);
        }
        if writable && !client.output.is_empty() {
            self.unflushed.insert(connection);
        }
    }

    pub(super) fn readable(&self) -> Vec<u32> {
        self.readable.iter().copied().collect()
    }

    pub(super) fn is_anything_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    pub(super) fn address(&self, connection: u32) -> Option<ClientAddr> {
        self.clients.get(&connection).map(|client| client.address)
    }

    /// Reads one client once. Messages are then taken out with [`Clients::next_message`].
    pub(super) fn read(&mut self, connection: u32) -> Reading {
        let Some(client) = self.clients.get_mut(&connection) else { return Reading::Drained };
        let before = client.input.len();
        client.input.resize(INPUT_BYTES_MAX, 0);
        let outcome = client.stream.read(&mut client.input[before..]);
        client.input.truncate(before + outcome.as_ref().map_or(0, |length| *length));
        let reading = match outcome {
            Ok(0) => Reading::Ended,
            Ok(_) => Reading::Continues,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Reading::Continues,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Reading::Drained,
            Err(_) => Reading::Ended,
        };
        if reading != Reading::Continues {
            self.readable.remove(&connection);
        }
        reading
    }

    /// Takes the next whole message into `buffer` and says how long it is. `Err`: the stream makes no sense.
    pub(super) fn next_message(
        &mut self,
        connection: u32,
        buffer: &mut [u8],
        now: Instant,
    ) -> Result<Option<usize>, Foreign> {
        let Some(client) = self.clients.get_mut(&connection) else { return Ok(None) };
        match first_frame(&client.input) {
            Frame::Whole(length) => {
                buffer[..length].copy_from_slice(&client.input[..length]);
                client.input.drain(..length);
                client.partial_since = None;
                Ok(Some(length))
            }
            Frame::Partial => {
                if client.input.is_empty() {
                    client.input = Vec::new();
                } else {
                    client.partial_since.get_or_insert(now);
                }
                Ok(None)
            }
            Frame::Foreign => Err(Foreign),
        }
    }

    /// Queues a message for a client. Returns how many were lost: older ones that made room, or this one if the client
    /// has gone.
    pub(super) fn queue(&mut self, connection: u32, bytes: &[u8]) -> u64 {
        let Some(client) = self.clients.get_mut(&connection) else { return 1 };
        self.unflushed.insert(connection);
        client.output.push(bytes)
    }

    /// Writes what can be written; returns the connections that broke.
    pub(super) fn flush(&mut self, now: Instant) -> Vec<u32> {
        let connections = std::mem::take(&mut self.unflushed);
        let clients = &mut self.clients;
        let mut flush_one =
            |connection: &u32| clients.get_mut(connection).is_some_and(|client| !client.flush(now));
        connections.into_iter().filter(|connection| flush_one(connection)).collect()
    }

    /// Those whose time is up. `has_allocation` asks the core.
    pub(super) fn overdue(&mut self, now: Instant, has_allocation: impl Fn(&ClientAddr) -> bool) -> Vec<u32> {
        let mut overdue = Vec::new();
        for (&connection, client) in &mut self.clients {
            if has_allocation(&client.address) {
                client.idle_since = None;
            } else {
                client.idle_since.get_or_insert(now);
            }
            let since = [client.idle_since, client.partial_since, client.stalled_since];
            if since.into_iter().flatten().any(|since| now.duration_since(since) > PATIENCE) {
                overdue.push(connection);
            }
        }
        overdue
    }

    /// Closes a connection and says whose it was.
    pub(super) fn close(&mut self, registry: &Registry, connection: u32) -> Option<ClientAddr> {
        let mut client = self.clients.remove(&connection)?;
        self.readable.remove(&connection);
        self.unflushed.remove(&connection);
        if let Err(error) = registry.deregister(&mut client.stream) {
            tracing::debug!(%error, "a closing connection was not registered");
        }
        let source = client.address.source();
        if let Some(count) = self.per_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
        Some(client.address)
    }
}

/// Lets the kernel hold no more for a client than it needs, so that what is late is here, where it can be dropped.
fn hold_little(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    #[cfg(not(target_os = "linux"))]
    socket2::SockRef::from(stream).set_send_buffer_size(4 * UNSENT_BYTES_MAX as usize)
}

/// The bytes of a stream are neither STUN nor ChannelData.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Foreign;

impl Client {
    /// `false` when the connection is broken.
    fn flush(&mut self, now: Instant) -> bool {
        let mut written = 0;
        let alive = loop {
            if self.output.is_empty() {
                break true;
            }
            match self.stream.write(self.output.bytes()) {
                Ok(0) => break false,
                Ok(length) => {
                    written += length;
                    self.output.sent(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
        };
        if self.output.is_empty() {
            self.stalled_since = None;
        } else if written > 0 {
            self.stalled_since = Some(now);
        } else {
            self.stalled_since.get_or_insert(now);
        }
        alive
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as StdStream};

    use super::*;

    /// One client that has sent these bytes, and what keeps it open.
    fn one_client(sent: &[u8], now: Instant) -> (Clients, mio::Poll, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, remote) = listener.accept().unwrap();
        far.set_nonblocking(true).unwrap();
        let poll = mio::Poll::new().unwrap();
        let mut clients = Clients::new(10, 10, 0);
        clients.add(poll.registry(), TcpStream::from_std(far), remote, sent.to_vec(), now).unwrap();
        (clients, poll, near)
    }

    #[test]
    fn a_client_without_an_allocation_may_stay_for_a_moment() {
        let start = crate::testing::start();
        let (mut clients, poll, _near) = one_client(&[], start);
        assert!(clients.overdue(start + PATIENCE, |_| false).is_empty());
        assert!(
            clients.overdue(start + 2 * PATIENCE, |_| true).is_empty(),
            "an allocation is a reason to stay"
        );
        assert!(clients.overdue(start + 3 * PATIENCE, |_| false).is_empty(), "it ended just now");
        assert_eq!(clients.overdue(start + 5 * PATIENCE, |_| false), [0]);
        assert!(clients.close(poll.registry(), 0).is_some());
        assert_eq!((clients.len(), clients.per_source.len()), (0, 0));
    }

    #[test]
    fn half_a_message_may_not_be_half_for_long() {
        let start = crate::testing::start();
        let (mut clients, _poll, _near) = one_client(&[0x40, 0, 0, 8, 1, 2], start);
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        assert_eq!(clients.next_message(0, &mut buffer, start), Ok(None));
        assert!(clients.overdue(start + PATIENCE, |_| true).is_empty());
        let later = start + PATIENCE + Duration::from_secs(1);
        assert_eq!(
            clients.next_message(0, &mut buffer, later),
            Ok(None),
            "trickling does not start it afresh"
        );
        assert_eq!(clients.overdue(later, |_| true), [0]);
    }

    #[test]
    fn what_is_for_nobody_is_lost() {
        let (mut clients, _poll, _near) = one_client(&[], crate::testing::start());
        assert_eq!((clients.queue(0, &[0x40, 0, 0, 0]), clients.queue(1, &[0x40, 0, 0, 0])), (0, 1));
    }
}
