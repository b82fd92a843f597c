//! The sockets of one call: UDP and TCP, opened when the session asks for them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_media::session::{SocketId, SocketKind, SocketPurpose, Transmit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::flows::Flows;
use crate::policy::{Refusal, Warden};

/// Largest datagram or piece of a stream that is read at once.
const READ_BYTES: usize = 2048;
/// Pieces that wait for a TCP relay; a relay that does not read loses sound, not memory.
const TCP_QUEUE: usize = 64;
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// A relay that takes nothing in for this long has failed: the sound of that time is worth nothing any more.
const WRITE_WITHIN: Duration = Duration::from_secs(2);

/// What a socket has to say.
#[derive(Debug)]
pub(super) enum SocketInput {
    Opened {
        id: SocketId,
        local: SocketAddr,
    },
    Data {
        id: SocketId,
        from: SocketAddr,
        data: Vec<u8>,
        arrival: Instant,
    },
    /// An ICMP error: nothing listens where the last datagram went.
    Unreachable {
        id: SocketId,
    },
    Closed {
        id: SocketId,
        reason: String,
    },
}

#[derive(Debug)]
enum Socket {
    /// Sending goes past the runtime: it would refuse a first datagram until it has seen the socket ready once.
    Udp {
        purpose: SocketPurpose,
        sender: std::net::UdpSocket,
        reader: JoinHandle<()>,
    },
    Tcp {
        queue: mpsc::Sender<Vec<u8>>,
        task: JoinHandle<()>,
    },
}

/// The open sockets. Dropping it closes them all.
#[derive(Debug)]
pub(super) struct Sockets {
    open: BTreeMap<SocketId, Socket>,
    input: mpsc::Sender<SocketInput>,
    /// The address of this machine that sound leaves from; `None`: whichever the system takes.
    bind: Option<IpAddr>,
    warden: Warden,
    /// The last place that a datagram of each purpose was allowed to go to: most go where the one before went.
    allowed: Option<(SocketPurpose, SocketAddr)>,
    /// For the audit log; empty without one.
    flows: Flows,
}

impl Sockets {
    pub(super) fn new(bind: Option<IpAddr>, warden: Warden, input: mpsc::Sender<SocketInput>) -> Self {
        let flows = Flows::new(warden.audit().clone());
        Self { open: BTreeMap::new(), input, bind, warden, allowed: None, flows }
    }

    /// Opens one. How it went is returned, or comes as input where it takes time.
    pub(super) async fn open(&mut self, id: SocketId, kind: SocketKind) -> Option<SocketInput> {
        self.flows.opened(id, &kind);
        match kind {
            SocketKind::Udp { bind, toward, purpose } => {
                Some(match self.open_udp(id, bind, toward, purpose).await {
                    Ok(local) => SocketInput::Opened { id, local },
                    Err(error) => SocketInput::Closed { id, reason: error.to_string() },
                })
            }
            SocketKind::Tcp { connect, relay } => match self.warden.may_connect(Some(relay), connect) {
                Ok(()) => {
                    self.open_tcp(id, connect);
                    None
                }
                Err(refusal) => Some(SocketInput::Closed { id, reason: refusal.to_string() }),
            },
        }
    }

    pub(super) fn close(&mut self, id: SocketId) {
        match self.open.remove(&id) {
            Some(Socket::Udp { reader, .. }) => reader.abort(),
            // The task ends when it has written what was queued, or cannot.
            Some(Socket::Tcp { .. }) | None => {}
        }
        self.flows.closed(id);
    }

    /// Something came in.
    pub(super) fn note_received(&mut self, id: SocketId, from: SocketAddr, bytes: usize) {
        self.flows.received(id, from, bytes);
    }

    /// Sends without waiting. What the system or a slow relay does not take is lost, as on any network.
    pub(super) fn send(&mut self, transmit: Transmit) {
        let purpose = match self.open.get(&transmit.socket) {
            Some(Socket::Udp { purpose, .. }) => Some(*purpose),
            _ => None,
        };
        if purpose.is_some_and(|purpose| !self.may_send(purpose, transmit.to)) {
            return;
        }
        self.flows.sent(transmit.socket, transmit.to, transmit.data.len());
        let sent = match self.open.get(&transmit.socket) {
            Some(Socket::Udp { sender, .. }) => {
                sender.send_to(&transmit.data, transmit.to).map(drop).map_err(|error| error.to_string())
            }
            Some(Socket::Tcp { queue, .. }) => {
                queue.try_send(transmit.data).map_err(|_| "the relay's TCP connection is full".to_owned())
            }
            None => Ok(()),
        };
        if let Err(error) = sent {
            tracing::trace!(error, "a packet was not sent");
        }
    }

    /// Whether a datagram may go there; asked again for each new place.
    fn may_send(&mut self, purpose: SocketPurpose, to: SocketAddr) -> bool {
        if self.allowed == Some((purpose, to)) {
            return true;
        }
        let answer: Result<(), Refusal> = match purpose {
            SocketPurpose::Relay(service) => self.warden.may_connect(Some(service), to),
            SocketPurpose::Host => self.warden.may_go_direct(to),
        };
        if answer.is_ok() {
            self.allowed = Some((purpose, to));
        }
        answer.is_ok()
    }

    async fn open_udp(
        &mut self,
        id: SocketId,
        bind: Option<IpAddr>,
        toward: Option<SocketAddr>,
        purpose: SocketPurpose,
    ) -> io::Result<SocketAddr> {
        let toward_v6 = toward.is_some_and(|to| to.is_ipv6());
        let mine = self.bind.filter(|ip| toward.is_none_or(|to| to.is_ipv6() == ip.is_ipv6()));
        let ip = bind.or(mine).unwrap_or(if toward_v6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        });
        let sender = self.warden.bind(ip, std::net::UdpSocket::bind)?;
        sender.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(sender.try_clone()?)?;
        let mut local = socket.local_addr()?;
        if local.ip().is_unspecified()
            && let Some(toward) = toward
        {
            local.set_ip(source_address(toward).await?);
        }
        let reader = tokio::spawn(read_udp(id, socket, self.input.clone()));
        self.open.insert(id, Socket::Udp { purpose, sender, reader });
        Ok(local)
    }

    fn open_tcp(&mut self, id: SocketId, connect: SocketAddr) {
        let (queue, queued) = mpsc::channel(TCP_QUEUE);
        let bind = self.bind.filter(|ip| ip.is_ipv6() == connect.is_ipv6());
        let warden = self.warden.clone();
        let task = tokio::spawn(run_tcp(id, (bind, warden), connect, queued, self.input.clone()));
        self.open.insert(id, Socket::Tcp { queue, task });
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for socket in self.open.values() {
            match socket {
                Socket::Udp { reader, .. } => reader.abort(),
                Socket::Tcp { task, .. } => task.abort(),
            }
        }
    }
}

/// Which of this machine's addresses the system would use toward there. Nothing is sent.
async fn source_address(toward: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr =
        if toward.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let probe = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    probe.connect(toward).await?;
    Ok(probe.local_addr()?.ip())
}

async fn read_udp(id: SocketId, socket: UdpSocket, input: mpsc::Sender<SocketInput>) {
    let mut buffer = [0; READ_BYTES];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => {
                let data = buffer[..len].to_vec();
                // A full queue drops the datagram, as a full socket buffer would.
                if let Err(mpsc::error::TrySendError::Closed(_)) =
                    input.try_send(SocketInput::Data { id, from, data, arrival: Instant::now() })
                {
                    return;
                }
            }
            Err(error) if is_passing(error.kind()) => {
                if let Err(mpsc::error::TrySendError::Closed(_)) =
                    input.try_send(SocketInput::Unreachable { id })
                {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a socket of the call failed");
                drop(input.send(SocketInput::Closed { id, reason: error.to_string() }).await);
                return;
            }
        }
    }
}

/// What the network says today and may not say tomorrow: the socket is as good as before.
fn is_passing(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
    )
}

async fn run_tcp(
    id: SocketId,
    (bind, warden): (Option<IpAddr>, Warden),
    to: SocketAddr,
    queued: mpsc::Receiver<Vec<u8>>,
    input: mpsc::Sender<SocketInput>,
) {
    let reason = match connect(bind, &warden, to).await {
        Ok((stream, local)) => {
            if input.send(SocketInput::Opened { id, local }).await.is_err() {
                return;
            }
            match carry_tcp(id, stream, to, queued, &input).await {
                Ok(()) => "the relay closed the connection".to_owned(),
                Err(error) => error.to_string(),
            }
        }
        Err(error) => error.to_string(),
    };
    drop(input.send(SocketInput::Closed { id, reason }).await);
}

async fn connect(
    bind: Option<IpAddr>,
    warden: &Warden,
    to: SocketAddr,
) -> io::Result<(TcpStream, SocketAddr)> {
    let any: IpAddr = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = warden.bind(bind.unwrap_or(any), |at| {
        let socket = if to.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        socket.bind(at)?;
        Ok(socket)
    })?;
    let stream = tokio::time::timeout(CONNECT_WITHIN, socket.connect(to))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the relay did not answer in time"))??;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((stream, local))
}

async fn within<T>(limit: Duration, act: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the relay takes nothing in");
    tokio::time::timeout(limit, act).await.map_err(|_| late())?
}

async fn carry_tcp(
    id: SocketId,
    stream: TcpStream,
    from: SocketAddr,
    mut queued: mpsc::Receiver<Vec<u8>>,
    input: &mpsc::Sender<SocketInput>,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = [0; READ_BYTES];
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => {
                let len = read?;
                if len == 0 {
                    return Ok(());
                }
                let data = buffer[..len].to_vec();
                // A stream must not lose pieces: wait for room.
                if input.send(SocketInput::Data { id, from, data, arrival: Instant::now() }).await.is_err() {
                    return Ok(());
                }
            }
            piece = queued.recv() => match piece {
                Some(piece) => within(WRITE_WITHIN, writer.write_all(&piece)).await?,
                None => return within(WRITE_WITHIN, writer.shutdown()).await,
            },
        }
    }
}
