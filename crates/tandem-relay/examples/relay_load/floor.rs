//! The floor: one port, recvmmsg and sendmmsg, an array of addresses, and nothing else. No forwarder that receives a
//! packet and sends it on can do with less.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::Result;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt};

use crate::clients::{CHANNEL_FIRST, HELLO, WIRE_BYTES};

const BATCH: usize = 64;
const PLACES: usize = 4_096;

/// Forwards each packet to the client whose number it begins with. With `coalesce_us` it waits so long before each
/// batch (if there was anything in the last), as the relay does under load.
pub(crate) fn run(listen: SocketAddrV4, coalesce_us: u64) -> Result<()> {
    let socket = UdpSocket::bind(listen)?;
    setsockopt(&socket, sockopt::RcvBuf, &(4 << 20))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(4 << 20))?;
    let fd = socket.as_raw_fd();
    let mut clients = vec![None; PLACES];
    let mut storage = [[0; WIRE_BYTES]; BATCH];
    let mut targets: Vec<Option<SockaddrIn>> = Vec::with_capacity(BATCH);
    let mut lengths = Vec::with_capacity(BATCH);
    let mut incoming = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut outgoing = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    loop {
        targets.clear();
        lengths.clear();
        let mut senders = [None; BATCH];
        let mut slices: [_; BATCH] = storage.each_mut().map(|slot| [IoSliceMut::new(slot)]);
        let batch = recvmmsg(fd, &mut incoming, &mut slices, MsgFlags::MSG_WAITFORONE, None)?;
        for (message, from) in batch.zip(&mut senders) {
            *from = message.address;
            lengths.push(message.bytes);
        }
        for (index, packet) in storage[..lengths.len()].iter().enumerate() {
            let [a, b, c, d, ..] = *packet;
            let place = usize::from(u16::from_be_bytes([a, b]).wrapping_sub(CHANNEL_FIRST));
            if [a, b] == HELLO {
                clients[usize::from(u16::from_be_bytes([c, d])) % PLACES] = senders[index];
                targets.push(senders[index]);
            } else {
                targets.push(clients[place % PLACES]);
            }
        }
        let slices: [_; BATCH] =
            std::array::from_fn(|i| [IoSlice::new(&storage[i][..lengths.get(i).copied().unwrap_or(0)])]);
        sendmmsg(fd, &mut outgoing, &slices[..lengths.len()], &targets, [], MsgFlags::empty())?;
        if coalesce_us > 0 {
            std::thread::sleep(Duration::from_micros(coalesce_us));
        }
    }
}
