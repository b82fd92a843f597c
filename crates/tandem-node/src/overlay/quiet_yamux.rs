//! Yamux without the pings that the `yamux` crate sends whenever ten seconds have passed and it has something else to
//! do: on a connection that carries one heartbeat every 14 s they are two thirds of the traffic. They measure the
//! round trip so that windows can grow; ours stay small.
//!
//! This layer lies between Yamux and the encrypted connection, takes outgoing pings away, and answers them itself.
//! Pings of the other side pass, and are answered by Yamux.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::yamux;

/// Yamux's frame header (yamux specification, "Framing"): version, type, flags (2), stream id (4), length (4).
const HEADER_BYTES: usize = 12;
const TYPE_DATA: u8 = 0;
const TYPE_PING: u8 = 2;
const FLAG_ACK: u8 = 2;

/// Yamux for a connection upgrade.
#[derive(Debug, Clone)]
pub(super) struct QuietYamux(pub(super) yamux::Config);

impl UpgradeInfo for QuietYamux {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for QuietYamux {
    type Output = yamux::Muxer<Quiet<C>>;
    type Error = io::Error;
    type Future = futures::future::Ready<io::Result<Self::Output>>;

    fn upgrade_inbound(self, connection: C, info: &'static str) -> Self::Future {
        self.0.upgrade_inbound(Quiet::new(connection), info)
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for QuietYamux {
    type Output = yamux::Muxer<Quiet<C>>;
    type Error = io::Error;
    type Future = futures::future::Ready<io::Result<Self::Output>>;

    fn upgrade_outbound(self, connection: C, info: &'static str) -> Self::Future {
        self.0.upgrade_outbound(Quiet::new(connection), info)
    }
}

/// The layer.
#[derive(Debug)]
pub(super) struct Quiet<C> {
    inner: C,
    outgoing: Frames,
    incoming: Frames,
    /// An outgoing header that is not a ping, until the connection takes it.
    header_out: VecDeque<u8>,
    /// Answers to pings that were taken away. Whole frames.
    pongs: VecDeque<u8>,
    reader: Option<Waker>,
}

impl<C> Quiet<C> {
    fn new(inner: C) -> Self {
        Self {
            inner,
            outgoing: Frames::default(),
            incoming: Frames::default(),
            header_out: VecDeque::new(),
            pongs: VecDeque::new(),
            reader: None,
        }
    }

    fn header_complete(&mut self, header: [u8; HEADER_BYTES]) {
        if header[1] == TYPE_PING && header[3] & FLAG_ACK == 0 {
            let mut pong = header;
            (pong[2], pong[3]) = (0, FLAG_ACK);
            self.pongs.extend(pong);
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        } else {
            self.header_out.extend(header);
        }
    }
}

impl<C: AsyncWrite + Unpin> Quiet<C> {
    fn poll_header_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.header_out.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, self.header_out.as_slices().0))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.header_out.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Quiet<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_header_out(cx))?;
        if self.outgoing.body_left == 0 {
            let (taken, header) = self.outgoing.take_header(bytes);
            if let Some(header) = header {
                self.header_complete(header);
            }
            return Poll::Ready(Ok(taken));
        }
        let most = bytes.len().min(self.outgoing.body_left);
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes[..most]))?;
        self.outgoing.body_left -= written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_header_out(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_header_out(cx))?;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Quiet<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.incoming.at_boundary() && !self.pongs.is_empty() {
            let most = self.pongs.len().min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(self.pongs.drain(..most)) {
                *to = from;
            }
            return Poll::Ready(Ok(most));
        }
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_read(cx, buffer) {
            Poll::Pending => {
                this.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(read) => {
                if let Ok(read) = read {
                    this.incoming.skip(&buffer[..read]);
                }
                Poll::Ready(read)
            }
        }
    }
}

/// Where in Yamux's frames a direction of the connection stands.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER_BYTES],
    filled: usize,
    body_left: usize,
}

impl Frames {
    fn at_boundary(&self) -> bool {
        self.filled == 0 && self.body_left == 0
    }

    /// Takes bytes of a header; how many, and the header when it is whole.
    fn take_header(&mut self, bytes: &[u8]) -> (usize, Option<[u8; HEADER_BYTES]>) {
        let taken = bytes.len().min(HEADER_BYTES - self.filled);
        self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled < HEADER_BYTES {
            return (taken, None);
        }
        self.filled = 0;
        if self.header[1] == TYPE_DATA {
            let [.., a, b, c, d] = self.header;
            self.body_left = u32::from_be_bytes([a, b, c, d]) as usize;
        }
        (taken, Some(self.header))
    }

    fn skip(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = if self.body_left == 0 {
                self.take_header(bytes).0
            } else {
                let taken = bytes.len().min(self.body_left);
                self.body_left -= taken;
                taken
            };
            bytes = &bytes[taken..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{AsyncReadExt, AsyncWriteExt, io::Cursor};

    const PING: [u8; 12] = [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
    const PONG: [u8; 12] = [0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9];
    const WINDOW: [u8; 12] = [0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0];
    const DATA: [u8; 15] = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 2, 2, 2];

    #[tokio::test]
    async fn pings_are_taken_away_however_they_are_cut() {
        let all = [&WINDOW[..], &DATA, &PING, &DATA, &PONG, &PING, &WINDOW].concat();
        let rest = [&WINDOW[..], &DATA, &DATA, &PONG, &WINDOW].concat();
        for step in [1, 5, 12, all.len()] {
            let mut quiet = Quiet::new(Cursor::new(Vec::new()));
            for part in all.chunks(step) {
                quiet.write_all(part).await.unwrap();
            }
            quiet.flush().await.unwrap();
            assert_eq!(quiet.inner.get_ref(), &rest);
            assert_eq!(Vec::from(quiet.pongs), [PONG, PONG].concat());
        }
    }

    #[tokio::test]
    async fn answers_come_between_frames() {
        for asked_after in [1, 7, 15] {
            let mut quiet = Quiet::new(Cursor::new([DATA, DATA].concat()));
            let (mut got, mut byte) = (Vec::new(), [0]);
            while quiet.read(&mut byte).await.unwrap() == 1 {
                got.push(byte[0]);
                if got.len() == asked_after {
                    quiet.header_complete(PING);
                }
            }
            assert_eq!(got, [&DATA[..], &PONG, &DATA].concat(), "{asked_after}");
        }
    }
}
