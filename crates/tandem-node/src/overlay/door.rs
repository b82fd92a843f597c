//! The door before libp2p's relay and directory: reads the beginning of each stream that a peer opens. A request for a
//! circuit is reset when [`super::circuit_limits`] says no, and nothing of it reaches the device it names. A question of
//! the directory waits until its asker is known to be a supernode, and is counted ([`super::directory_limits`]).
//!
//! It stands where the streams come out of a connection, since the relay's behaviour shows the destination to nobody
//! before it has asked the device, and kad's answers everybody.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use libp2p::relay::HOP_PROTOCOL_NAME;
use libp2p::{PeerId, StreamProtocol};
use prost::Message;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Sleep;

use super::address::ip_of;
use super::circuit_limits::{CircuitLimits, Source};
use super::directory_limits::{Admission, DirectoryLimits};

/// A multistream message or a hop message is never longer.
const FRAME_BYTES_MAX: usize = 16 * 1024;
const HOP_BYTES_MAX: usize = 4096;
const LENGTH_BYTES_MAX: usize = 2;

/// A question of the directory waits so long for its asker to be reached: longer than whoever asks waits.
const WAITS_MAX: Duration = Duration::from_secs(5);
/// Of a question's length: as many bytes as its packet may have (16 KiB).
const QUESTION_LENGTH_BYTES_MAX: u32 = 3;

/// One for all connections of a service swarm.
#[derive(Debug, Clone)]
pub(super) struct Door(Arc<Limits>);

#[derive(Debug)]
struct Limits {
    kad: StreamProtocol,
    circuits: Mutex<CircuitLimits>,
    directory: Mutex<DirectoryLimits>,
    /// A question waits.
    asked: Notify,
    /// Somebody was reached, or was not.
    decided: Arc<Notify>,
}

impl Door {
    /// `kad`: the directory's protocol.
    pub(super) fn new(kad: StreamProtocol) -> Self {
        let directory = Mutex::new(DirectoryLimits::new(Instant::now()));
        let (asked, decided) = (Notify::new(), Arc::default());
        Self(Arc::new(Limits { kad, circuits: Mutex::default(), directory, asked, decided }))
    }

    pub(super) fn circuits(&self) -> MutexGuard<'_, CircuitLimits> {
        self.0.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, DirectoryLimits> {
        self.0.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until a question waits whose asker is not known.
    pub(super) async fn asked(&self) {
        self.0.asked.notified().await;
    }

    /// Whoever waits looks again.
    pub(super) fn decided(&self) {
        self.0.decided.notify_waiters();
    }

    /// Puts the door before a connection's inbound streams.
    pub(super) fn before(
        &self,
        peer: PeerId,
        muxer: StreamMuxerBox,
        point: &ConnectedPoint,
    ) -> StreamMuxerBox {
        let Some(from) = ip_of(point.get_remote_address()) else { return muxer };
        StreamMuxerBox::new(DoorMuxer { inner: muxer, visitor: Visitor { door: self.clone(), peer, from } })
    }
}

/// Who opened a stream.
#[derive(Clone)]
struct Visitor {
    door: Door,
    peer: PeerId,
    from: IpAddr,
}

struct DoorMuxer {
    inner: StreamMuxerBox,
    visitor: Visitor,
}

impl StreamMuxer for DoorMuxer {
    type Substream = DoorStream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<DoorStream>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
        let stage = Stage::Names(Reader::new(self.visitor.door.0.kad.clone()));
        let watch = Watch { visitor: self.visitor.clone(), stage };
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
    /// Until it is clear what the stream is for, and that it may be.
    watch: Option<Box<Watch>>,
}

struct Watch {
    visitor: Visitor,
    stage: Stage,
}

enum Stage {
    /// Which protocol, and which circuit?
    Names(Reader),
    Waiting(Waiting),
    /// One question, and no more.
    Question(Question),
}

/// A stream to the directory whose asker is not known to be a supernode.
struct Waiting {
    visitor: Visitor,
    /// Read already; what comes first.
    read: Vec<u8>,
    /// As far as it is in `read`.
    question: Question,
    decided: Pin<Box<OwnedNotified>>,
    until: Pin<Box<Sleep>>,
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, why)
}

impl Waiting {
    fn new(visitor: &Visitor, read: &[u8], question: Question) -> io::Result<Self> {
        if !visitor.door.directory().wait(visitor.peer) {
            return Err(refused("too many questions wait for their asker to be reached"));
        }
        visitor.door.0.asked.notify_one();
        let decided = Box::pin(Arc::clone(&visitor.door.0.decided).notified_owned());
        let until = Box::pin(tokio::time::sleep(WAITS_MAX));
        Ok(Self { visitor: visitor.clone(), read: read.to_vec(), question, decided, until })
    }

    /// Ready when the question may be answered.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.visitor.ask() {
                Admission::Answered => return Poll::Ready(Ok(())),
                Admission::Refused => return Poll::Ready(Err(refused(NOT_REACHED))),
                Admission::Waits => {}
            }
            if self.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(refused(NOT_REACHED)));
            }
            ready!(self.decided.as_mut().poll(cx));
            self.decided = Box::pin(Arc::clone(&self.visitor.door.0.decided).notified_owned());
        }
    }
}

const NOT_REACHED: &str = "only supernodes ask the directory, and not too often";

impl Drop for Waiting {
    fn drop(&mut self) {
        self.visitor.door.directory().waited(&self.visitor.peer);
    }
}

impl Visitor {
    fn ask(&self) -> Admission {
        self.door.directory().ask(&self.peer, self.from, Instant::now())
    }

    fn may_open(&self, target: &PeerId) -> bool {
        self.door.circuits().admit(Source::new(self.peer, self.from), target, Instant::now())
    }
}

/// What becomes of bytes that were read.
enum Passage {
    /// They pass, and what follows is watched.
    Pass,
    /// They pass, and nothing more is watched.
    Done,
    /// They pass later.
    Later(Waiting),
}

impl Watch {
    fn take(&mut self, bytes: &[u8]) -> io::Result<Passage> {
        match &mut self.stage {
            Stage::Names(reader) => match reader.read(bytes) {
                Reading::More => Ok(Passage::Pass),
                Reading::Other => Ok(Passage::Done),
                Reading::Circuit(target) if self.visitor.may_open(&target) => Ok(Passage::Done),
                Reading::Circuit(_) => Err(refused("too many circuits")),
                Reading::Directory(rest) => self.take_question(bytes, rest),
            },
            Stage::Question(question) => question.read(bytes).map(|()| Passage::Pass),
            Stage::Waiting(_) => Ok(Passage::Pass), // nothing is read while it waits
        }
    }

    fn take_question(&mut self, bytes: &[u8], rest: usize) -> io::Result<Passage> {
        let mut question = Question::default();
        question.read(&bytes[bytes.len() - rest..])?;
        match self.visitor.ask() {
            Admission::Answered => {
                self.stage = Stage::Question(question);
                Ok(Passage::Pass)
            }
            Admission::Refused => Err(refused(NOT_REACHED)),
            Admission::Waits => Waiting::new(&self.visitor, bytes, question).map(Passage::Later),
        }
    }

    /// What was held back, once it may pass.
    fn poll_held(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Stage::Waiting(waiting) = &mut self.stage else { return Poll::Ready(Ok(0)) };
        ready!(waiting.poll(cx))?;
        let passes = waiting.read.len().min(buffer.len());
        buffer[..passes].copy_from_slice(&waiting.read[..passes]);
        waiting.read.drain(..passes);
        if waiting.read.is_empty() {
            self.stage = Stage::Question(std::mem::take(&mut waiting.question));
        }
        Poll::Ready(Ok(passes))
    }
}

impl AsyncRead for DoorStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            let Some(watch) = &mut this.watch else { return Pin::new(&mut this.inner).poll_read(cx, buffer) };
            if let Stage::Waiting(_) = watch.stage {
                return watch.poll_held(cx, buffer);
            }
            let read = ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
            match watch.take(&buffer[..read])? {
                Passage::Pass => {}
                Passage::Done => this.watch = None,
                Passage::Later(waiting) => {
                    watch.stage = Stage::Waiting(waiting);
                    continue;
                }
            }
            return Poll::Ready(Ok(read));
        }
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
    /// The directory was asked for; so many of the bytes belong to the question.
    Directory(usize),
}

/// Follows the one message that a question of the directory is: a length, then that many bytes.
#[derive(Debug, Default)]
struct Question {
    length_bytes: u32,
    length: usize,
    /// Bytes still to come, once the length is known.
    missing: Option<usize>,
}

impl Question {
    fn read(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some((first, rest)) = bytes.split_first() {
            match self.missing {
                None => {
                    self.length |= usize::from(first & 0x7f) << (7 * self.length_bytes);
                    self.length_bytes += 1;
                    if first & 0x80 == 0 {
                        self.missing = Some(self.length);
                    } else if self.length_bytes == QUESTION_LENGTH_BYTES_MAX {
                        return Err(refused("the question is too long"));
                    }
                    bytes = rest;
                }
                Some(0) => return Err(refused("one question is asked on a stream")),
                Some(missing) => {
                    let taken = missing.min(bytes.len());
                    self.missing = Some(missing - taken);
                    bytes = &bytes[taken..];
                }
            }
        }
        Ok(())
    }
}

/// Follows multistream-select up to the hop protocol's first message, whatever pieces the bytes come in. Whatever it does
/// not understand, the library does not either: both read a length of one or two bytes, and then that many.
#[derive(Debug)]
struct Reader {
    kad: StreamProtocol,
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
    fn new(kad: StreamProtocol) -> Self {
        Self { kad, length: Vec::new(), frame: Vec::new(), missing: None, hop: false }
    }

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
                    Reading::Directory(_) => return Reading::Directory(bytes.len()),
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
        if name == self.kad.as_ref().as_bytes() {
            return Reading::Directory(0);
        }
        self.hop = name == HOP_PROTOCOL_NAME.as_ref().as_bytes();
        Reading::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KAD: &str = "/tandem/main/kad/1";

    fn reader() -> Reader {
        Reader::new(StreamProtocol::new(KAD))
    }

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
                let mut reader = reader();
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
    fn a_question_of_the_directory_is_known_in_whatever_pieces_it_comes() {
        let question = framed(&[7; 300]);
        let bytes = all(&[line("/nothing/1"), line(KAD), question.clone()]);
        for size in [1, 2, 3, 7, bytes.len()] {
            let mut names = reader();
            let (mut watched, mut seen) = (None::<Question>, 0);
            for piece in bytes.chunks(size) {
                seen += piece.len();
                match &mut watched {
                    Some(question) => question.read(piece).unwrap(),
                    None => match names.read(piece) {
                        Reading::More => {}
                        Reading::Directory(rest) => {
                            assert_eq!(seen - rest, bytes.len() - question.len());
                            let mut question = Question::default();
                            question.read(&piece[piece.len() - rest..]).unwrap();
                            watched = Some(question);
                        }
                        other => panic!("{other:?}"),
                    },
                }
            }
            let mut question = watched.unwrap();
            assert_eq!(question.missing, Some(0), "in pieces of {size}");
            assert!(question.read(&[0]).is_err(), "a second question");
        }
        assert!(Question::default().read(&[0xff, 0xff, 0xff, 0x01]).is_err(), "longer than any packet");
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
            assert_eq!(reader().read(&bytes), Reading::Other, "{bytes:?}");
        }
        assert_eq!(reader().read(&all(&[line("/tandem/main/home/1")])), Reading::More);
    }

    proptest::proptest! {
        #[test]
        fn rubbish_is_bounded(bytes: Vec<u8>, piece in 1_usize..64) {
            let mut reader = reader();
            for piece in bytes.chunks(piece) {
                if reader.read(piece) != Reading::More {
                    break;
                }
                proptest::prop_assert!(reader.frame.len() <= FRAME_BYTES_MAX);
            }
        }
    }
}
