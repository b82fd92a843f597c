//! Datagrams in batches. On Linux one system call moves up to 64 of them, through `nix`'s safe wrappers; elsewhere it
//! is one call each, behind the same functions.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use mio::net::UdpSocket;

use crate::framing::MESSAGE_BYTES_MAX;
use crate::server::{HEADROOM, TAILROOM};

/// Datagrams read at once.
pub(super) const BATCH: usize = 64;
/// One datagram's place. A longer datagram than the longest message is cut by the kernel and then dropped.
const STRIDE: usize = (HEADROOM + MESSAGE_BYTES_MAX + 1 + TAILROOM).next_multiple_of(64);

/// One socket.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) socket: UdpSocket,
    /// Whether there may be something to read: readiness is reported once, when it changes.
    pub(super) readable: bool,
    is_ipv6: bool,
    outbox: Vec<Outgoing>,
}

/// A datagram to be sent.
#[derive(Debug)]
struct Outgoing {
    to: SocketAddr,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    /// Where it was received and rewritten.
    InBatch(Range<usize>),
    Own(Vec<u8>),
}

impl Port {
    pub(super) fn new(socket: std::net::UdpSocket, buffer_bytes: usize) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        enlarge_buffers(&socket, buffer_bytes);
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        Ok(Self {
            socket: UdpSocket::from_std(socket),
            readable: true,
            is_ipv6,
            outbox: Vec::with_capacity(BATCH),
        })
    }

    pub(super) fn queue_in_batch(&mut self, to: SocketAddr, range: Range<usize>) {
        self.queue(to, Bytes::InBatch(range));
    }

    pub(super) fn queue_own(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        self.queue(to, Bytes::Own(bytes));
    }

    fn queue(&mut self, to: SocketAddr, bytes: Bytes) {
        // A socket open to both families names IPv4 clients in IPv6.
        let to = match to.ip() {
            IpAddr::V4(ip) if self.is_ipv6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        self.outbox.push(Outgoing { to, bytes });
    }

    /// Sends all that is queued; returns how many datagrams found no room or no route. Voice that is late is no use, so
    /// nothing waits.
    pub(super) fn flush(&mut self, batch: &mut Batch) -> u64 {
        let mut unsent = 0;
        let mut rest = self.outbox.as_slice();
        while !rest.is_empty() {
            match batch.send(&self.socket, &rest[..rest.len().min(BATCH)]) {
                Ok(sent) => rest = &rest[sent.max(1)..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    unsent += rest.len() as u64;
                    break;
                }
                // The first one cannot be sent (no route, say): that is its own misfortune.
                Err(error) => {
                    tracing::trace!(%error, "datagram not sent");
                    unsent += 1;
                    rest = &rest[1..];
                }
            }
        }
        self.outbox.clear();
        unsent
    }
}

/// The memory of one batch, used again and again.
#[derive(Debug)]
pub(super) struct Batch {
    storage: Box<[u8]>,
    received: Vec<Received>,
    system: system::Headers,
}

/// One datagram of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) from: SocketAddr,
    pub(super) length: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            storage: vec![0; BATCH * STRIDE].into(),
            received: Vec::with_capacity(BATCH),
            system: system::Headers::new(),
        }
    }

    /// Reads what is there, at most [`BATCH`] datagrams.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received.clear();
        system::receive(&mut self.system, socket, &mut self.storage, &mut self.received)?;
        Ok(self.received.len())
    }

    /// The datagram with this number, the buffer it lies in, and where.
    pub(super) fn datagram(&mut self, index: usize) -> (Received, &mut [u8], Range<usize>) {
        let received = self.received[index];
        let start = index * STRIDE + HEADROOM;
        // One byte more than the longest message fits, so a cut datagram is seen to be too long.
        (received, &mut self.storage, start..start + received.length.min(MESSAGE_BYTES_MAX + 1))
    }

    fn send(&mut self, socket: &UdpSocket, outgoing: &[Outgoing]) -> io::Result<usize> {
        system::send(&mut self.system, socket, &self.storage, outgoing)
    }
}

impl Outgoing {
    fn bytes<'a>(&'a self, storage: &'a [u8]) -> &'a [u8] {
        match &self.bytes {
            Bytes::InBatch(range) => &storage[range.clone()],
            Bytes::Own(bytes) => bytes,
        }
    }
}

fn slots(storage: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    storage.chunks_exact_mut(STRIDE).map(|slot| &mut slot[HEADROOM..STRIDE - TAILROOM])
}

#[cfg(unix)]
fn enlarge_buffers(socket: &std::net::UdpSocket, bytes: usize) {
    use nix::sys::socket::{setsockopt, sockopt};
    let outcome = setsockopt(socket, sockopt::RcvBuf, &bytes)
        .and_then(|()| setsockopt(socket, sockopt::SndBuf, &bytes));
    if let Err(error) = outcome {
        tracing::warn!(%error, bytes, "the relay's socket buffers keep their size; bursts may be lost");
    }
}

#[cfg(not(unix))]
fn enlarge_buffers(_socket: &std::net::UdpSocket, _bytes: usize) {}

#[cfg(target_os = "linux")]
mod system {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::SocketAddr;
    use std::os::fd::AsRawFd;

    use mio::net::UdpSocket;
    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

    use super::{BATCH, Outgoing, Received, slots};

    /// The kernel's message headers.
    #[derive(Debug)]
    pub(super) struct Headers {
        receive: MultiHeaders<SockaddrStorage>,
        send: MultiHeaders<SockaddrStorage>,
    }

    impl Headers {
        pub(super) fn new() -> Self {
            Self {
                receive: MultiHeaders::preallocate(BATCH, None),
                send: MultiHeaders::preallocate(BATCH, None),
            }
        }
    }

    pub(super) fn receive(
        headers: &mut Headers,
        socket: &UdpSocket,
        storage: &mut [u8],
        received: &mut Vec<Received>,
    ) -> io::Result<()> {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            slots(storage).map(|slot| [IoSliceMut::new(slot)]).collect();
        let fd = socket.as_raw_fd();
        for message in recvmmsg(fd, &mut headers.receive, &mut slices, MsgFlags::MSG_DONTWAIT, None)? {
            let from = message.address.and_then(socket_address);
            // An address of neither family cannot be; an empty message from nowhere is dropped by the core.
            let nowhere = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0);
            let length = if from.is_some() { message.bytes } else { 0 };
            received.push(Received { from: from.unwrap_or(nowhere), length });
        }
        Ok(())
    }

    pub(super) fn send(
        headers: &mut Headers,
        socket: &UdpSocket,
        storage: &[u8],
        outgoing: &[Outgoing],
    ) -> io::Result<usize> {
        let slices: Vec<[IoSlice<'_>; 1]> =
            outgoing.iter().map(|one| [IoSlice::new(one.bytes(storage))]).collect();
        let addresses: Vec<_> = outgoing.iter().map(|one| Some(SockaddrStorage::from(one.to))).collect();
        let fd = socket.as_raw_fd();
        let sent = sendmmsg(fd, &mut headers.send, &slices, &addresses, [], MsgFlags::MSG_DONTWAIT)?;
        Ok(sent.count())
    }

    fn socket_address(address: SockaddrStorage) -> Option<SocketAddr> {
        let ipv4 = address.as_sockaddr_in().map(|ipv4| SocketAddr::V4((*ipv4).into()));
        ipv4.or_else(|| address.as_sockaddr_in6().map(|ipv6| SocketAddr::V6((*ipv6).into())))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    use mio::net::UdpSocket;

    use super::{Outgoing, Received, slots};

    /// Nothing to keep between calls.
    #[derive(Debug)]
    pub(super) struct Headers;

    impl Headers {
        pub(super) fn new() -> Self {
            Self
        }
    }

    pub(super) fn receive(
        _headers: &mut Headers,
        socket: &UdpSocket,
        storage: &mut [u8],
        received: &mut Vec<Received>,
    ) -> io::Result<()> {
        for slot in slots(storage) {
            match socket.recv_from(slot) {
                Ok((length, from)) => received.push(Received { from, length }),
                Err(_) if !received.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn send(
        _headers: &mut Headers,
        socket: &UdpSocket,
        storage: &[u8],
        outgoing: &[Outgoing],
    ) -> io::Result<usize> {
        for (sent, one) in outgoing.iter().enumerate() {
            match socket.send_to(one.bytes(storage), one.to) {
                Ok(_) => {}
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
        }
        Ok(outgoing.len())
    }
}
