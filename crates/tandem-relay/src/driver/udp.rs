//! Datagrams in batches. On Linux one system call moves up to 64 of them, through `nix`'s safe wrappers; elsewhere it
//! is one call each, behind the same functions.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use mio::net::UdpSocket;

use crate::framing::MESSAGE_BYTES_MAX;
use crate::server::{HEADROOM, TAILROOM};

#[cfg(target_os = "linux")]
pub(super) use self::batched::Headers;
#[cfg(not(target_os = "linux"))]
pub(super) use self::portable::Headers;

/// Datagrams read at once.
pub(super) const BATCH: usize = 64;
/// What fits into one datagram's near place: sound does. The near places lie close together, so a batch of sound touches
/// a few pages of memory instead of one for each datagram.
const NEAR_BYTES: usize = 256;
const NEAR_STRIDE: usize = (HEADROOM + NEAR_BYTES + TAILROOM).next_multiple_of(64);
/// Its far place, for what is longer. A longer datagram than the longest message is cut by the kernel and then dropped.
const FAR_STRIDE: usize = (HEADROOM + MESSAGE_BYTES_MAX + 1 + TAILROOM).next_multiple_of(64);
/// Where the far places begin.
const FAR: usize = BATCH * NEAR_STRIDE;

/// One socket.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) socket: UdpSocket,
    /// Whether there may be something to read: readiness is reported once, when it changes.
    pub(super) readable: bool,
    /// Whether there was something when it was read last.
    pub(super) had_packets: bool,
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
            had_packets: false,
            is_ipv6,
            outbox: Vec::with_capacity(BATCH),
        })
    }

    /// What the system calls on this socket need. It stays with the thread that made it.
    pub(super) fn headers(&self) -> Headers {
        Headers::new(self.is_ipv6)
    }

    pub(super) fn queue_in_batch(&mut self, to: SocketAddr, range: Range<usize>) {
        self.queue(to, Bytes::InBatch(range));
    }

    pub(super) fn queue_own(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        self.queue(to, Bytes::Own(bytes));
    }

    fn queue(&mut self, to: SocketAddr, bytes: Bytes) {
        self.outbox.push(Outgoing { to, bytes });
    }

    /// Sends all that is queued; returns how many datagrams found no room or no route. Voice that is late is no use, so
    /// nothing waits.
    pub(super) fn flush(&mut self, batch: &Batch, headers: &mut Headers) -> u64 {
        let mut unsent = 0;
        let mut rest = self.outbox.as_slice();
        while !rest.is_empty() {
            match headers.send(&self.socket, &batch.storage, &rest[..rest.len().min(BATCH)]) {
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

/// The memory of one batch, used again and again: all near places, then all far ones.
#[derive(Debug)]
pub(super) struct Batch {
    storage: Box<[u8]>,
    received: Vec<Received>,
}

/// One datagram of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) from: SocketAddr,
    /// Where it begins.
    start: usize,
    length: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { storage: vec![0; FAR + BATCH * FAR_STRIDE].into(), received: Vec::with_capacity(BATCH) }
    }

    /// Reads what is there, at most [`BATCH`] datagrams.
    pub(super) fn receive(&mut self, socket: &UdpSocket, headers: &mut Headers) -> io::Result<usize> {
        self.received.clear();
        headers.receive(socket, &mut self.storage, &mut self.received)?;
        Ok(self.received.len())
    }

    /// A free place for a message of a TCP client, by its number.
    pub(super) fn place(&mut self, index: usize) -> (&mut [u8], usize) {
        (&mut self.storage, starts(index).1)
    }

    /// The datagram with this number, the buffer it lies in, and where.
    pub(super) fn datagram(&mut self, index: usize) -> (Received, &mut [u8], Range<usize>) {
        let received = self.received[index];
        // One byte more than the longest message fits, so a cut datagram is seen to be too long.
        let end = received.start + received.length.min(MESSAGE_BYTES_MAX + 1);
        (received, &mut self.storage, received.start..end)
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

/// The near places of a batch's datagrams, and the far ones.
fn places(storage: &mut [u8]) -> (impl Iterator<Item = &mut [u8]>, impl Iterator<Item = &mut [u8]>) {
    let (near, far) = storage.split_at_mut(FAR);
    let near = near.chunks_exact_mut(NEAR_STRIDE).map(|place| &mut place[HEADROOM..HEADROOM + NEAR_BYTES]);
    let far = far.chunks_exact_mut(FAR_STRIDE).map(|place| &mut place[HEADROOM..FAR_STRIDE - TAILROOM]);
    (near, far)
}

/// Where the datagram with this number begins in its near place, and in its far one.
fn starts(index: usize) -> (usize, usize) {
    (index * NEAR_STRIDE + HEADROOM, FAR + index * FAR_STRIDE + HEADROOM)
}

/// Makes the kernel's buffers large. Only root may have more than the system's limit; others get what there is.
#[cfg(unix)]
fn enlarge_buffers(socket: &std::net::UdpSocket, bytes: usize) {
    use nix::sys::socket::{setsockopt, sockopt};
    #[cfg(target_os = "linux")]
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_ok()
        && setsockopt(socket, sockopt::SndBufForce, &bytes).is_ok()
    {
        return;
    }
    let outcome = setsockopt(socket, sockopt::RcvBuf, &bytes)
        .and_then(|()| setsockopt(socket, sockopt::SndBuf, &bytes));
    if let Err(error) = outcome {
        tracing::warn!(%error, bytes, "the relay's socket buffers keep their size; bursts may be lost");
    }
}

#[cfg(not(unix))]
fn enlarge_buffers(_socket: &std::net::UdpSocket, _bytes: usize) {}

#[cfg(target_os = "linux")]
mod batched {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
    use std::os::fd::AsRawFd;

    use mio::net::UdpSocket;
    use nix::sys::socket::{
        MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg, sendmmsg,
    };

    use super::{BATCH, NEAR_BYTES, Outgoing, Received, places, starts};

    /// The kernel's message headers, for one socket: the kernel leaves in them how long the last address was, so sockets
    /// of two families must not share them.
    #[derive(Debug)]
    pub(in crate::driver) enum Headers {
        V4(Family<SockaddrIn>),
        V6(Family<SockaddrIn6>),
    }

    #[derive(Debug)]
    pub(in crate::driver) struct Family<S> {
        receive: MultiHeaders<S>,
        send: MultiHeaders<S>,
        /// Where the datagrams of one call go: made once.
        targets: Vec<Option<S>>,
    }

    impl Headers {
        pub(in crate::driver) fn new(is_ipv6: bool) -> Self {
            if is_ipv6 { Self::V6(Family::new()) } else { Self::V4(Family::new()) }
        }

        pub(super) fn receive(
            &mut self,
            socket: &UdpSocket,
            storage: &mut [u8],
            received: &mut Vec<Received>,
        ) -> io::Result<()> {
            match self {
                Self::V4(family) => {
                    family.receive(socket, storage, received, |from| SocketAddr::V4(from.into()))
                }
                Self::V6(family) => {
                    family.receive(socket, storage, received, |from| SocketAddr::V6(from.into()))
                }
            }
        }

        pub(super) fn send(
            &mut self,
            socket: &UdpSocket,
            storage: &[u8],
            outgoing: &[Outgoing],
        ) -> io::Result<usize> {
            match self {
                Self::V4(family) => family.send(socket, storage, outgoing, ipv4),
                Self::V6(family) => family.send(socket, storage, outgoing, ipv6),
            }
        }
    }

    impl<S: SockaddrLike + Copy> Family<S> {
        fn new() -> Self {
            Self {
                receive: MultiHeaders::preallocate(BATCH, None),
                send: MultiHeaders::preallocate(BATCH, None),
                targets: Vec::with_capacity(BATCH),
            }
        }

        fn receive(
            &mut self,
            socket: &UdpSocket,
            storage: &mut [u8],
            received: &mut Vec<Received>,
            address: impl Fn(S) -> SocketAddr,
        ) -> io::Result<()> {
            // What does not fit into the near place goes on in the far one, where it would have been had all of it come
            // there.
            let mut slices: [[IoSliceMut<'_>; 2]; BATCH] = {
                let (mut near, mut far) = places(storage);
                std::array::from_fn(|_| {
                    let rest = far.next().and_then(|place| place.get_mut(NEAR_BYTES..));
                    [near.next(), rest].map(|part| IoSliceMut::new(part.unwrap_or_default()))
                })
            };
            let fd = socket.as_raw_fd();
            let messages = recvmmsg(fd, &mut self.receive, &mut slices, MsgFlags::MSG_DONTWAIT, None)?;
            for (index, message) in messages.enumerate() {
                // An address of another family cannot be; an empty message from nowhere is dropped by the core.
                let nowhere = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0);
                let from = message.address.map(&address);
                let length = if from.is_some() { message.bytes } else { 0 };
                let (near, far) = starts(index);
                let start = if length <= NEAR_BYTES { near } else { far };
                received.push(Received { from: from.unwrap_or(nowhere), start, length });
            }
            for (index, long) in received.iter().enumerate().filter(|(_, one)| one.length > NEAR_BYTES) {
                let (near, _) = starts(index);
                storage.copy_within(near..near + NEAR_BYTES, long.start);
            }
            Ok(())
        }

        fn send(
            &mut self,
            socket: &UdpSocket,
            storage: &[u8],
            outgoing: &[Outgoing],
            target: impl Fn(SocketAddr) -> S,
        ) -> io::Result<usize> {
            let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|at| {
                [IoSlice::new(outgoing.get(at).map_or(&[], |outgoing| outgoing.bytes(storage)))]
            });
            self.targets.clear();
            self.targets.extend(outgoing.iter().map(|outgoing| Some(target(outgoing.to))));
            let (fd, slices) = (socket.as_raw_fd(), &slices[..outgoing.len()]);
            let sent = sendmmsg(fd, &mut self.send, slices, &self.targets, [], MsgFlags::MSG_DONTWAIT)?;
            Ok(sent.count())
        }
    }

    fn ipv4(to: SocketAddr) -> SockaddrIn {
        match to {
            SocketAddr::V4(to) => to.into(),
            // A client keeps the socket it came on, so this cannot be; nothing is sent to nowhere.
            SocketAddr::V6(_) => SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }

    fn ipv6(to: SocketAddr) -> SockaddrIn6 {
        match to {
            SocketAddr::V6(to) => to.into(),
            // A socket open to both families names IPv4 clients in IPv6.
            SocketAddr::V4(to) => SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0).into(),
        }
    }
}

/// Where recvmmsg does not exist. On Linux the tests compare it with the above.
#[cfg(any(not(target_os = "linux"), test))]
mod portable {
    use std::io;
    use std::net::{IpAddr, SocketAddr};

    use mio::net::UdpSocket;

    use super::{Outgoing, Received, places, starts};

    /// One call for each datagram: only the family is kept.
    #[derive(Debug)]
    pub(in crate::driver) struct Headers {
        is_ipv6: bool,
    }

    impl Headers {
        pub(in crate::driver) fn new(is_ipv6: bool) -> Self {
            Self { is_ipv6 }
        }

        pub(super) fn receive(
            &mut self,
            socket: &UdpSocket,
            storage: &mut [u8],
            received: &mut Vec<Received>,
        ) -> io::Result<()> {
            for (index, place) in places(storage).1.enumerate() {
                match socket.recv_from(place) {
                    Ok((length, from)) => received.push(Received { from, start: starts(index).1, length }),
                    Err(_) if !received.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }

        pub(super) fn send(
            &mut self,
            socket: &UdpSocket,
            storage: &[u8],
            outgoing: &[Outgoing],
        ) -> io::Result<usize> {
            for (sent, one) in outgoing.iter().enumerate() {
                // A socket open to both families names IPv4 clients in IPv6.
                let to = match one.to.ip() {
                    IpAddr::V4(ip) if self.is_ipv6 => {
                        SocketAddr::new(ip.to_ipv6_mapped().into(), one.to.port())
                    }
                    _ => one.to,
                };
                match socket.send_to(one.bytes(storage), to) {
                    Ok(_) => {}
                    Err(_) if sent > 0 => return Ok(sent),
                    Err(error) => return Err(error),
                }
            }
            Ok(outgoing.len())
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn port(address: &str) -> (Port, SocketAddr) {
        let socket = std::net::UdpSocket::bind(address).unwrap();
        let local = socket.local_addr().unwrap();
        (Port::new(socket, 1 << 20).unwrap(), local)
    }

    /// Sends a hundred datagrams from one port to another and returns what arrived, with whom it came from.
    fn carried(
        address: &str,
        send: impl Fn(&Port, &[u8], &[Outgoing]) -> usize,
        receive: impl Fn(&Port, &mut [u8], &mut Vec<Received>),
    ) -> Vec<Vec<u8>> {
        let ((near, near_address), (far, far_address)) = (port(address), port(address));
        let datagram =
            |n: u8| Outgoing { to: far_address, bytes: Bytes::Own(vec![n; 1 + 20 * usize::from(n)]) };
        let outgoing: Vec<_> = (0..100).map(datagram).collect();
        for some in outgoing.chunks(BATCH) {
            assert_eq!(send(&near, &[], some), some.len());
        }
        let mut batch = Batch::new();
        let mut arrived = Vec::new();
        while arrived.len() < outgoing.len() {
            batch.received.clear();
            receive(&far, &mut batch.storage, &mut batch.received);
            for index in 0..batch.received.len() {
                let (received, storage, range) = batch.datagram(index);
                assert_eq!(received.from, near_address);
                arrived.push(storage[range].to_vec());
            }
        }
        arrived
    }

    #[test]
    fn one_call_each_does_what_batches_do() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let is_ipv6 = address.starts_with('[');
            let batched = carried(
                address,
                |port, storage, some| {
                    batched::Headers::new(is_ipv6).send(&port.socket, storage, some).unwrap()
                },
                |port, storage, received| {
                    batched::Headers::new(is_ipv6).receive(&port.socket, storage, received).unwrap();
                },
            );
            let portable = carried(
                address,
                |port, storage, some| {
                    portable::Headers::new(is_ipv6).send(&port.socket, storage, some).unwrap()
                },
                |port, storage, received| {
                    portable::Headers::new(is_ipv6).receive(&port.socket, storage, received).unwrap();
                },
            );
            assert_eq!(batched, portable, "{address}");
            assert_eq!(batched.len(), 100);
        }
    }
}
