//! Questions to other supernodes about the directory: each goes out on a stream of its own, on a connection to the
//! network that the walk took the other to be in, and comes back with one answer.

use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{PeerId, Stream};
use prost::Message;
use tandem_proto::network::network_group;
use tokio::sync::mpsc;

use super::super::connections::Connection;
use super::super::directory::messages::KadMessage;
use super::super::directory::routing::PACKET_BYTES_MAX;
use super::Service;
use crate::installation::unix_ms;

/// Answers waiting for the swarm's task; a question ends with its time in any case.
const ANSWERS: usize = 256;
/// Questions that wait for a connection or a stream, at most: more fail at once.
const WAITING_MAX: usize = 1024;
/// Longer than the directory waits.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(6);
const READ_BYTES: usize = 2048;
const LENGTH_BYTES_MAX: usize = 4;

pub(super) type Answer = (u64, Option<KadMessage>);

pub(super) struct Asking {
    waiting: Vec<Waiting>,
    answers: mpsc::Sender<Answer>,
    from_streams: mpsc::Receiver<Answer>,
}

struct Waiting {
    id: u64,
    message: KadMessage,
    /// Where its stream opens, or the dial that makes it.
    connection: ConnectionId,
    stands: bool,
}

impl Asking {
    pub(super) fn new() -> Self {
        let (answers, from_streams) = mpsc::channel(ANSWERS);
        Self { waiting: Vec::new(), answers, from_streams }
    }

    pub(super) async fn next(&mut self) -> Option<Answer> {
        self.from_streams.recv().await
    }

    fn take(&mut self, connection: ConnectionId) -> Option<Waiting> {
        let at = self.waiting.iter().position(|waiting| waiting.connection == connection)?;
        Some(self.waiting.remove(at))
    }

    fn take_all(&mut self, connection: ConnectionId) -> Vec<Waiting> {
        self.waiting.extract_if(.., |waiting| waiting.connection == connection).collect()
    }
}

impl Service {
    /// Brings out what the directory wants to know.
    pub(super) fn drive_asking(&mut self, now: Instant) {
        if self.directory.poll_timeout().is_some_and(|at| now >= at) {
            let kad = &mut self.swarm.behaviour_mut().kad;
            self.directory.handle_timeout(kad, now, unix_ms(), &mut self.outbox);
        }
        while let Some(ask) = self.directory.poll_ask() {
            let directory = &self.directory;
            self.asking.waiting.retain(|waiting| directory.waits_for(waiting.id));
            let there = |(_, connection): &(ConnectionId, &Connection)| {
                let group = connection.remote_ip().map(network_group);
                connection.peer == ask.peer && group == Some(ask.network)
            };
            let connection = self.connections.iter().find(there).map(|(id, _)| id);
            if self.asking.waiting.len() >= WAITING_MAX || (connection.is_none() && ask.addresses.is_empty())
            {
                self.answer((ask.id, None));
                continue;
            }
            let (id, message) = (ask.id, ask.message);
            if let Some(connection) = connection {
                self.asking.waiting.push(Waiting { id, message, connection, stands: true });
                self.open_kad(ask.peer, connection);
                continue;
            }
            let opts =
                DialOpts::peer_id(ask.peer).condition(PeerCondition::Always).addresses(ask.addresses).build();
            let connection = opts.connection_id();
            self.asking.waiting.push(Waiting { id, message, connection, stands: false });
            if self.swarm.dial(opts).is_err() {
                self.asking_failed(connection);
            }
        }
    }

    fn open_kad(&mut self, peer: PeerId, connection: ConnectionId) {
        let protocol = self.protocols.kad.clone();
        self.swarm.behaviour_mut().streams.open(peer, connection, protocol);
    }

    pub(super) fn answer(&mut self, (id, answer): Answer) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        self.directory.answered(kad, id, answer, unix_ms(), &mut self.outbox);
    }

    /// A connection stands that a question dialled; others are no concern of these.
    pub(super) fn asking_connected(&mut self, peer: PeerId, id: ConnectionId) {
        let dialled = self.asking.waiting.iter_mut().find(|it| it.connection == id && !it.stands);
        if let Some(waiting) = dialled {
            waiting.stands = true;
            self.open_kad(peer, id);
        }
    }

    /// That connection failed or closed.
    pub(super) fn asking_failed(&mut self, connection: ConnectionId) {
        for waiting in self.asking.take_all(connection) {
            self.answer((waiting.id, None));
        }
    }

    /// A stream for one of the questions that wait on that connection, whichever: they are alike.
    pub(super) fn asking_opened(&mut self, connection: ConnectionId, stream: Result<Stream, String>) {
        let Some(waiting) = self.asking.take(connection) else { return };
        let Ok(stream) = stream else { return self.answer((waiting.id, None)) };
        let answers = self.asking.answers.clone();
        tokio::spawn(async move {
            let exchanged = tokio::time::timeout(EXCHANGE_TIMEOUT, exchange(stream, &waiting.message)).await;
            // Whoever waited may be gone.
            drop(answers.send((waiting.id, exchanged.ok().flatten())).await);
        });
    }
}

/// Sends one message and reads one; both with their length before them.
async fn exchange(mut stream: Stream, message: &KadMessage) -> Option<KadMessage> {
    stream.write_all(&message.encode_length_delimited_to_vec()).await.ok()?;
    stream.flush().await.ok()?;
    let mut bytes = Vec::new();
    let mut piece = [0; READ_BYTES];
    loop {
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        let Ok(length) = prost::decode_length_delimiter(bytes.as_slice()) else {
            if bytes.len() >= LENGTH_BYTES_MAX { return None } else { continue }
        };
        if length > PACKET_BYTES_MAX {
            return None;
        }
        let begin = prost::length_delimiter_len(length);
        if let Some(answer) = bytes.get(begin..begin + length) {
            // Fails only when the other end is gone already.
            stream.close().await.ok();
            return KadMessage::decode(answer).ok();
        }
    }
}
