//! Bytes of each connection, counted where every substream passes: what the streams carried, without the headers of
//! the transport, its encryption and its acknowledgements. A build for tests taps them there ([`crate::tap`]).

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use libp2p::{Multiaddr, PeerId};

use crate::tap;

/// Counted in the transport, before the swarm has named the connection, and claimed afterwards.
#[derive(Debug, Default)]
pub(super) struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counters {
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// What all connections of a swarm have carried, both ways, those that are closed included.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<AtomicU64>);

impl Traffic {
    /// In bytes, since the swarm began.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Counters of connections that the swarm has not reported yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Unclaimed {
    waiting: Arc<Mutex<Vec<Counted>>>,
    traffic: Traffic,
}

type Counted = (PeerId, ConnectedPoint, Arc<Counters>);

impl Unclaimed {
    /// Adds all bytes to this sum too.
    pub(super) fn new(traffic: Traffic) -> Self {
        Self { waiting: Arc::default(), traffic }
    }

    /// Wraps a new connection's muxer.
    pub(super) fn count(&self, peer: PeerId, muxer: StreamMuxerBox, point: ConnectedPoint) -> StreamMuxerBox {
        let counters = Arc::new(Counters::default());
        let mut waiting = self.lock();
        // A connection that was denied or dropped leaves its counters with no other owner.
        waiting.retain(|(_, _, counters)| Arc::strong_count(counters) > 1);
        let from = point.get_remote_address().clone();
        waiting.push((peer, point, Arc::clone(&counters)));
        let traffic = self.traffic.clone();
        StreamMuxerBox::new(CountingMuxer { inner: muxer, counters, traffic, from })
    }

    /// The counters of the oldest such connection.
    pub(super) fn claim(&self, peer: &PeerId, point: &ConnectedPoint) -> Arc<Counters> {
        let mut waiting = self.lock();
        match waiting.iter().position(|(p, at, _)| p == peer && same_point(at, point)) {
            Some(at) => waiting.remove(at).2,
            None => Arc::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Counted>> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn same_point(a: &ConnectedPoint, b: &ConnectedPoint) -> bool {
    // A dialled address may have gained its `/p2p` on the way through the swarm.
    let plain = |point: &ConnectedPoint| {
        let mut address = point.get_remote_address().clone();
        if let Some(libp2p::multiaddr::Protocol::P2p(_)) = address.iter().last() {
            address.pop();
        }
        address
    };
    a.is_dialer() == b.is_dialer()
        && (a.get_remote_address() == b.get_remote_address() || plain(a) == plain(b))
}

struct CountingMuxer {
    inner: StreamMuxerBox,
    counters: Arc<Counters>,
    traffic: Traffic,
    from: Multiaddr,
}

impl CountingMuxer {
    fn wrap(&self, inner: SubstreamBox) -> CountedStream {
        let tap = tap::Stream::new("libp2p", &self.from);
        CountedStream { inner, counters: Arc::clone(&self.counters), traffic: self.traffic.clone(), tap }
    }
}

impl StreamMuxer for CountingMuxer {
    type Substream = CountedStream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<CountedStream>> {
        let stream = std::task::ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
        Poll::Ready(Ok(self.wrap(stream)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<CountedStream>> {
        let stream = std::task::ready!(Pin::new(&mut self.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(self.wrap(stream)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

struct CountedStream {
    inner: SubstreamBox,
    counters: Arc<Counters>,
    traffic: Traffic,
    tap: tap::Stream,
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.counters.received.fetch_add(read as u64, Ordering::Relaxed);
        self.traffic.add(read);
        self.tap.received(&buffer[..read]);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, buffer))?;
        self.counters.sent.fetch_add(written as u64, Ordering::Relaxed);
        self.traffic.add(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
