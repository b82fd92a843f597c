//! Thousands of clients on one socket: each has a source address of its own in 127/8 (IP_PKTINFO), so that the server
//! sees as many 5-tuples, and this process needs neither as many sockets nor as many system calls to read them.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, sendmsg,
    setsockopt, sockopt,
};

/// An application's packet, as ChannelData carries it.
pub(crate) const PAYLOAD_BYTES: usize = 160;
pub(crate) const WIRE_BYTES: usize = 4 + PAYLOAD_BYTES;
pub(crate) const CHANNEL_FIRST: u16 = 0x4000;
/// How a client of the floor says where it is: these two bytes and its number.
pub(crate) const HELLO: [u8; 2] = [0xff, 0xff];
/// What sound begins with, so that nothing else is counted as delivered.
const MARK: [u8; 8] = *b"measured";
/// Packets sent with one call when the server is to be saturated.
pub(crate) const BURST: usize = 8;
const BATCH: usize = 64;
const SLOT_BYTES: usize = 2_048;
const NETWORK: u32 = u32::from_be_bytes([127, 10, 0, 0]);

/// The socket of all clients.
#[derive(Debug)]
pub(crate) struct Clients {
    socket: UdpSocket,
    server: SockaddrIn,
}

/// What was received of one batch.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// One-way times of sound, in nanoseconds, by the kernel's time stamps.
    pub(crate) delays_ns: Vec<u64>,
    /// Everything else.
    pub(crate) messages: Vec<Vec<u8>>,
}

impl Clients {
    pub(crate) fn to(server: SocketAddrV4) -> Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(5)))?;
        setsockopt(&socket, sockopt::RcvBuf, &(16 << 20))?;
        // Only root may have more than the system's limit, and does not need it for the counts to be right.
        let forced = setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20));
        if let Err(error) = forced {
            eprintln!("the load generator's receive buffer keeps the system's limit ({error})");
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        Ok(Self { socket, server: server.into() })
    }

    /// Sends one message as client number `client`.
    pub(crate) fn send(&self, client: u32, bytes: &[u8]) -> Result<()> {
        let source = source(client);
        let control = [ControlMessage::Ipv4PacketInfo(&source)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent =
            sendmsg(self.socket.as_raw_fd(), &[IoSlice::new(bytes)], &control, flags, Some(&self.server));
        match sent {
            // As lost as on the way.
            Ok(_) | Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::ENOBUFS) => Ok(()),
            Err(error) => Err(error).context("cannot send"),
        }
    }

    /// Sends a burst of the same client's sound; returns how many were taken.
    pub(crate) fn send_burst(
        &self,
        headers: &mut MultiHeaders<SockaddrIn>,
        client: u32,
        packets: &[[u8; WIRE_BYTES]; BURST],
    ) -> Result<usize> {
        let source = source(client);
        let slices: [_; BURST] = std::array::from_fn(|i| [IoSlice::new(&packets[i])]);
        let to = [Some(self.server); BURST];
        let control = [ControlMessage::Ipv4PacketInfo(&source)];
        match sendmmsg(self.socket.as_raw_fd(), headers, &slices, to, control, MsgFlags::MSG_DONTWAIT) {
            Ok(sent) => Ok(sent.count()),
            Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::ENOBUFS) => Ok(0),
            Err(error) => Err(error).context("cannot send"),
        }
    }

    /// Waits at most 5 ms for something, and takes what is there.
    pub(crate) fn receive(&self, inbox: &mut Inbox, arrivals: &mut Arrivals) -> Result<usize> {
        let Inbox { storage, headers } = inbox;
        let mut slices: Vec<_> =
            storage.chunks_exact_mut(SLOT_BYTES).map(|slot| [IoSliceMut::new(slot)]).collect();
        let fd = self.socket.as_raw_fd();
        let mut found = Vec::with_capacity(BATCH);
        match recvmmsg(fd, headers, &mut slices, MsgFlags::MSG_WAITFORONE, None) {
            Ok(batch) => found.extend(batch.map(|message| (message.bytes, stamp(&message)))),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => {}
            Err(error) => return Err(error).context("cannot receive"),
        }
        for (slot, (length, stamp_ns)) in storage.chunks_exact(SLOT_BYTES).zip(&found) {
            let bytes = &slot[..*length];
            match sent_ns(bytes) {
                Some(sent) => arrivals.delays_ns.push(stamp_ns.unwrap_or_else(now_ns).saturating_sub(sent)),
                None => arrivals.messages.push(bytes.to_vec()),
            }
        }
        Ok(found.len())
    }
}

/// Memory for one batch.
#[derive(Debug)]
pub(crate) struct Inbox {
    storage: Vec<u8>,
    headers: MultiHeaders<SockaddrIn>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let space = nix::cmsg_space!(libc::timespec);
        Self { storage: vec![0; BATCH * SLOT_BYTES], headers: MultiHeaders::preallocate(BATCH, Some(space)) }
    }
}

/// Headers for [`Clients::send_burst`].
pub(crate) fn burst_headers() -> MultiHeaders<SockaddrIn> {
    MultiHeaders::preallocate(BURST, Some(nix::cmsg_space!(libc::in_pktinfo)))
}

fn stamp(message: &nix::sys::socket::RecvMsg<'_, '_, SockaddrIn>) -> Option<u64> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(at) => {
            Some(u64::try_from(at.tv_sec()).ok()? * 1_000_000_000 + u64::try_from(at.tv_nsec()).ok()?)
        }
        _ => None,
    })
}

fn source(client: u32) -> libc::in_pktinfo {
    // Neither .0 nor .255 is anybody's address.
    let address = Ipv4Addr::from(NETWORK + client / 250 * 256 + 1 + client % 250);
    let address = libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
    libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: libc::in_addr { s_addr: 0 } }
}

/// Sound on this channel, sent now.
pub(crate) fn sound(channel: u16) -> [u8; WIRE_BYTES] {
    let mut packet = [0x5a; WIRE_BYTES];
    packet[..2].copy_from_slice(&channel.to_be_bytes());
    packet[2..4].copy_from_slice(&(PAYLOAD_BYTES as u16).to_be_bytes());
    packet[4..12].copy_from_slice(&MARK);
    packet[12..20].copy_from_slice(&now_ns().to_be_bytes());
    packet
}

/// When sound was sent. It arrives as ChannelData.
fn sent_ns(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.get(4..)?.strip_prefix(&MARK)?;
    rest.first_chunk().map(|stamp| u64::from_be_bytes(*stamp))
}

pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
