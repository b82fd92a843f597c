//! TCP as libp2p has it, but for where dials leave from: a chosen local address and a fresh port. libp2p's own reuse
//! of the listening port forgets the address, and lets two supernodes that dial each other at once meet in a
//! simultaneous open (RFC 9293 §3.5) where each takes itself for the dialer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::tcp::{self, tokio::TcpStream};
use thiserror::Error;
use tokio::net::TcpSocket;

pub(super) struct BoundTcp {
    listeners: tcp::tokio::Transport,
    from_v4: Option<IpAddr>,
    from_v6: Option<IpAddr>,
}

impl BoundTcp {
    /// `from`: the local address of dials, the first of each family; without one the system chooses.
    pub(super) fn new(from: &[IpAddr]) -> Self {
        let listeners = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        let first = |v4: bool| from.iter().copied().find(|ip| ip.is_ipv4() == v4 && !ip.is_unspecified());
        Self { listeners, from_v4: first(true), from_v6: first(false) }
    }
}

impl Transport for BoundTcp {
    type Output = TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = <tcp::tokio::Transport as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<TcpStream>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.listeners.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(to) = socket_address(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let from = if to.is_ipv4() { self.from_v4 } else { self.from_v6 };
        Ok(Box::pin(async move { connect(from, to).await.map_err(findable) }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.listeners).poll(cx)
    }
}

/// libp2p hides a transport's error in types of its own, which lead on to its source only.
#[derive(Debug, Error)]
#[error("{0}")]
struct Dialled(#[source] io::Error);

fn findable(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Dialled(error))
}

/// An address of ours that is gone (another network) is no reason not to connect at all.
async fn connect(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    if let Some(from) = from {
        match socket.bind((from, 0).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            bound => bound?,
        }
    }
    socket.connect(to).await.map(TcpStream)
}

/// Of `/ip4|ip6/…/tcp/…`, with or without `/p2p/…` behind it.
fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else { return None };
    match parts.next() {
        None | Some(Protocol::P2p(_)) if port != 0 => Some((ip, port).into()),
        _ => None,
    }
}
