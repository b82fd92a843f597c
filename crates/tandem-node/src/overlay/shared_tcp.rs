//! One TCP port for two things: a connection whose first byte is 0x00–0x03 speaks STUN (RFC 7983 §7) and goes to the
//! relay; anything else is the overlay's.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use libp2p::tcp::tokio::TcpStream;
use tokio::sync::mpsc;

/// A connection that says nothing for this long is closed.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
const LAST_STUN_BYTE: u8 = 0x03;

/// Where connections that belong to the relay go, unread.
pub(super) type RelayStreams = mpsc::Sender<(tokio::net::TcpStream, SocketAddr)>;

/// Looks at the first byte without taking it. `Err`: this connection is not (or no longer) the overlay's.
pub(super) async fn split(stream: TcpStream, relay: RelayStreams) -> io::Result<TcpStream> {
    let first = tokio::time::timeout(FIRST_BYTE_TIMEOUT, first_byte(&stream.0))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the connection sent nothing"))??;
    if first > LAST_STUN_BYTE {
        return Ok(stream);
    }
    let from = stream.0.peer_addr()?;
    match relay.try_send((stream.0, from)) {
        Ok(()) => Err(io::Error::other("handed to the relay")),
        Err(_) => Err(io::Error::other("the relay takes no more TCP connections")),
    }
}

async fn first_byte(stream: &tokio::net::TcpStream) -> io::Result<u8> {
    let mut byte = [0];
    match stream.peek(&mut byte).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(byte[0]),
    }
}
