//! The door before libp2p's relay: reads the first message of each stream that asks for a circuit, and resets the
//! stream when [`super::circuit_limits`] says no. Nothing of a refused request reaches the device it names.
//!
//! It stands where the streams come out of a connection, since the relay's behaviour shows the destination to nobody
//! before it has asked the device.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use libp2p::relay::HOP_PROTOCOL_NAME;
use prost::Message;

use super::address::ip_of;
use super::circuit_limits::{CircuitLimits, Source};

/// A multistream message or a hop message is never longer.
const FRAME_BYTES_MAX: usize = 16 * 1024;
const HOP_BYTES_MAX: usize = 4096;
const LENGTH_BYTES_MAX: usize = 2;

/// One for all connections of a service swarm.
#[derive(Debug, Clone, Default)]
pub(super) struct CircuitDoor(Arc<Mutex<CircuitLimits>>);

impl CircuitDoor {
    pub(super) fn limits(&self) -> MutexGuard<'_, CircuitLimits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the door before a connection's inbound streams.
    pub(super) fn before(
        &self,
        peer: PeerId,
        muxer: StreamMuxerBox,
        point: &ConnectedPoint,
    ) -> StreamMuxerBox {
        let Some(from) = ip_of(point.get_remote_address()) else { return muxer };
        StreamMuxerBox::new(DoorMuxer { inner: muxer, door: self.clone(), peer, from })
    }

    fn admits(&self, peer: PeerId, from: IpAddr, target: &PeerId) -> bool {
        self.limits().admit(Source::new(peer, from), target, Instant::now())
    }
}

struct DoorMuxer {
    inner: StreamMuxerBox,
    door: CircuitDoor,
    peer: PeerId,
    from: IpAddr,
}

impl StreamMuxer for DoorMuxer {
    type Substream = DoorStream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<DoorStream>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
        let watch =
            Watch { door: self.door.clone(), peer: self.peer, from: self.from, reader: Reader::default() };
        Poll::Ready(Ok(DoorStream { inner, watch: Some(Box::new(watch)) }))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<DoorStream>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(DoorStream { inner, watch: None }))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

struct DoorStream {
    inner: SubstreamBox,
    /// Until it is clear what the stream is for.
    watch: Option<Box<Watch>>,
}

struct Watch {
    door: CircuitDoor,
    peer: PeerId,
    from: IpAddr,
    reader: Reader,
}

impl AsyncRead for DoorStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let Some(watch) = &mut self.watch else { return Poll::Ready(Ok(read)) };
        match watch.reader.read(&buffer[..read]) {
            Reading::More => {}
            Reading::Other => self.watch = None,
            Reading::Circuit(target) => {
                let admitted = watch.door.admits(watch.peer, watch.from, &target);
                self.watch = None;
                if !admitted {
                    let error = io::Error::new(io::ErrorKind::ConnectionRefused, "too many circuits");
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for DoorStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// What the bytes so far say.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    More,
    /// Not, or not any more, a request for a circuit.
    Other,
    Circuit(PeerId),
}

/// Follows multistream-select up to the hop protocol's first message, whatever pieces the bytes come in. Whatever it does
/// not understand, the library does not either: both read a length of one or two bytes, and then that many.
#[derive(Debug, Default)]
struct Reader {
    length: Vec<u8>,
    frame: Vec<u8>,
    /// Bytes of the frame still to come; `None` while its length is being read.
    missing: Option<usize>,
    /// The hop protocol was asked for: its message is next.
    hop: bool,
}

/// The part of libp2p's `HopMessage` that names the destination.
#[derive(Clone, PartialEq, Message)]
struct HopMessage {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(message, optional, tag = "2")]
    peer: Option<HopPeer>,
}

#[derive(Clone, PartialEq, Message)]
struct HopPeer {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
}

/// `HopMessage.Type.CONNECT`
const CONNECT: i32 = 1;

impl Reader {
    fn read(&mut self, mut bytes: &[u8]) -> Reading {
        while !bytes.is_empty() {
            let Some(missing) = self.missing else {
                self.length.push(bytes[0]);
                bytes = &bytes[1..];
                if !self.take_length() {
                    return Reading::Other;
                }
                continue;
            };
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.frame.extend_from_slice(now);
            self.missing = Some(missing - now.len());
            bytes = later;
            if self.missing == Some(0) {
                self.missing = None;
                match self.take_frame() {
                    Reading::More => {}
                    done => return done,
                }
            }
        }
        Reading::More
    }

    /// `false`: this cannot be a length.
    fn take_length(&mut self) -> bool {
        let last = self.length.last().copied().unwrap_or_default();
        if last & 0x80 != 0 {
            return self.length.len() < LENGTH_BYTES_MAX;
        }
        let value =
            |length: &[u8]| length.iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
        let length = value(&self.length);
        self.length.clear();
        self.missing = Some(length);
        length > 0 && length <= if self.hop { HOP_BYTES_MAX } else { FRAME_BYTES_MAX }
    }

    fn take_frame(&mut self) -> Reading {
        let frame = std::mem::take(&mut self.frame);
        if self.hop {
            return match HopMessage::decode(frame.as_slice()) {
                Ok(HopMessage { kind: CONNECT, peer: Some(peer) }) => {
                    PeerId::from_bytes(&peer.id).map_or(Reading::Other, Reading::Circuit)
                }
                _ => Reading::Other,
            };
        }
        let Some((b'\n', name)) = frame.split_last() else { return Reading::Other };
        self.hop = name == HOP_PROTOCOL_NAME.as_ref().as_bytes();
        Reading::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(bytes: &[u8]) -> Vec<u8> {
        let mut length = bytes.len();
        let mut out = Vec::new();
        while length >= 0x80 {
            out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
        out.extend_from_slice(bytes);
        out
    }

    fn line(text: &str) -> Vec<u8> {
        framed(format!("{text}\n").as_bytes())
    }

    fn request(kind: i32, id: Vec<u8>) -> Vec<u8> {
        framed(&HopMessage { kind, peer: Some(HopPeer { id }) }.encode_to_vec())
    }

    fn all(parts: &[Vec<u8>]) -> Vec<u8> {
        [line("/multistream/1.0.0")].iter().chain(parts).flatten().copied().collect()
    }

    #[test]
    fn a_request_is_read_in_whatever_pieces_it_comes() {
        let target = PeerId::random();
        let plain = all(&[line(HOP_PROTOCOL_NAME.as_ref()), request(CONNECT, target.to_bytes())]);
        let refused_before = all(&[
            line("/nothing/1"),
            line(&"x".repeat(9_000)),
            line(HOP_PROTOCOL_NAME.as_ref()),
            request(CONNECT, target.to_bytes()),
        ]);
        for bytes in [plain, refused_before] {
            for piece in [1, 2, 3, 7, bytes.len()] {
                let mut reader = Reader::default();
                let mut last = Reading::More;
                for piece in bytes.chunks(piece) {
                    assert_eq!(last, Reading::More);
                    last = reader.read(piece);
                }
                assert_eq!(last, Reading::Circuit(target), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn other_streams_pass() {
        let hop = line(HOP_PROTOCOL_NAME.as_ref());
        for bytes in [
            all(&[hop.clone(), request(0, PeerId::random().to_bytes())]),
            all(&[hop.clone(), request(CONNECT, vec![1, 2, 3])]),
            all(&[hop.clone(), framed(&[0xff; 20])]),
            all(&[hop, vec![0xff, 0xff, 0x7f]]),
            all(&[line("/tandem/main/home/1"), framed(b"not a line")]),
            vec![0],
            vec![0xff; 64],
        ] {
            assert_eq!(Reader::default().read(&bytes), Reading::Other, "{bytes:?}");
        }
        assert_eq!(Reader::default().read(&all(&[line("/tandem/main/home/1")])), Reading::More);
    }

    proptest::proptest! {
        #[test]
        fn rubbish_is_bounded(bytes: Vec<u8>, piece in 1_usize..64) {
            let mut reader = Reader::default();
            for piece in bytes.chunks(piece) {
                if reader.read(piece) != Reading::More {
                    break;
                }
                proptest::prop_assert!(reader.frame.len() <= FRAME_BYTES_MAX);
            }
        }
    }
}
