//! One attachment of a browser page: microphone and speaker of a call, by WebRTC within this machine.
//!
//! The page offers, this end answers and is ICE-lite: it waits at one address of the loopback for whoever knows its
//! password. Opus packets pass through untouched both ways. What the call sends gets new numbers, so that what was lost
//! leaves a gap and the page's own jitter buffer sees it.
//!
//! Feed it with packets and the time, then empty [`PageLeg::poll_transmit`] and [`PageLeg::poll_event`].

mod description;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::config::Fingerprint;
use str0m::crypto::from_feature_flags;
use str0m::format::{Codec, FormatParams};
use str0m::media::{Frequency, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc, RtcConfig};

use crate::audio::Incoming;
use crate::audio::renumber::Renumber;
use description::{Answer, Offer};

/// The page answers a check and opens DTLS within this time, or it is gone again.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A page that says nothing for so long is gone: it sends sound 50 times a second, and checks every few seconds.
const SILENT_FOR: Duration = Duration::from_secs(5);
/// Datagrams and events that wait to be fetched; the oldest go first.
const QUEUE_MAX: usize = 256;
/// Addresses of this end.
const CANDIDATES_MAX: usize = 4;

/// What an attachment is made with.
#[derive(Clone)]
pub struct PageConfig {
    /// SSRC of the sound for the page; 0 is replaced by 1.
    pub ssrc: u32,
    /// First RTP timestamp of the sound for the page; random.
    pub rtp_start: u32,
    /// Where this end listens, the preferred one first; at most four are used.
    pub candidates: Vec<SocketAddr>,
}

impl fmt::Debug for PageConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageConfig").field("candidates", &self.candidates).finish_non_exhaustive()
    }
}

/// A page's offer cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    #[error("it has {0} bytes, and at most 65,536 are read")]
    TooLong(usize),
    #[error("it is no session description")]
    NoDescription,
    #[error("it offers {0} streams, and exactly one of sound is wanted")]
    Streams(usize),
    #[error("it lacks {0}")]
    Missing(&'static str),
    #[error("its {0} cannot be used")]
    Wrong(&'static str),
    #[error("the media engine refused it: {0}")]
    Engine(String),
}

/// What an attachment tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageEvent {
    /// Sound can go both ways.
    Connected,
    /// One Opus packet of the page, each sequence number once, in order of arrival.
    Opus { sequence: u64, rtp_time: u32, payload: Vec<u8> },
    /// It is over, and nothing more will come.
    Ended(PageEnd),
}

/// How an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageEnd {
    /// The page said so.
    Closed,
    /// Nothing came of it any more.
    Silent,
}

/// A datagram to send, from one of this end's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageTransmit {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub data: Vec<u8>,
}

/// See the module's text.
#[derive(Debug)]
pub struct PageLeg {
    rtc: Rtc,
    ssrc: u32,
    payload_type: u8,
    numbers: Renumber,
    connected: bool,
    ended: bool,
    /// When it is gone, if nothing more comes of it.
    gone_at: Instant,
    next_timeout: Instant,
    transmits: VecDeque<PageTransmit>,
    events: VecDeque<PageEvent>,
}

impl PageLeg {
    /// Answers a page's offer. Makes a DTLS key, so it takes about a millisecond. The answer is for the page.
    ///
    /// # Errors
    /// [`OfferError`] says what of the offer cannot be used.
    pub fn answer(offer: &str, config: &PageConfig, now: Instant) -> Result<(Self, String), OfferError> {
        let offer = Offer::parse(offer)?;
        let candidates = &config.candidates[..config.candidates.len().min(CANDIDATES_MAX)];
        let ssrc = config.ssrc.max(1);
        let mut rtc = engine(&offer, ssrc, now).map_err(OfferError::Engine)?;
        for candidate in candidates {
            let host =
                Candidate::host(*candidate, "udp").map_err(|error| OfferError::Engine(error.to_string()))?;
            rtc.add_local_candidate(host);
        }
        let api = rtc.direct_api();
        let credentials = api.local_ice_credentials();
        let answer = Answer {
            ufrag: &credentials.ufrag,
            password: &credentials.pass,
            fingerprint: &api.local_dtls_fingerprint().bytes,
            ssrc,
            id: config.rtp_start,
            candidates,
        }
        .to(&offer);
        let leg = Self {
            rtc,
            ssrc,
            payload_type: offer.payload_type,
            numbers: Renumber::new(config.rtp_start),
            connected: false,
            ended: false,
            gone_at: now + CONNECT_WITHIN,
            next_timeout: now,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        Ok((leg, answer))
    }

    /// Takes a datagram that came to one of this end's addresses. What is not of the page is dropped.
    pub fn handle_packet(&mut self, at: SocketAddr, from: SocketAddr, data: &[u8], now: Instant) {
        if self.ended {
            return;
        }
        let Ok(contents) = data.try_into() else { return };
        let receive = Receive { proto: Protocol::Udp, source: from, destination: at, contents };
        let input = Input::Receive(now, receive);
        if !self.rtc.accepts(&input) {
            return;
        }
        if self.connected {
            self.gone_at = now + SILENT_FOR;
        }
        // Anybody on the machine can send something broken: it is dropped.
        if let Err(error) = self.rtc.handle_input(input) {
            tracing::debug!(%error, "a page's packet was refused");
        }
        self.drain(now);
    }

    /// Sends one Opus packet of the call to the page, as it came.
    pub fn send(&mut self, packet: &Incoming<'_>, now: Instant) {
        if !self.connected || self.ended {
            return;
        }
        let (sequence, rtp_time) = self.numbers.place(packet);
        let payload = Arc::<[u8]>::from(packet.payload);
        let write = RtpWrite::new(Pt::from(self.payload_type), sequence.into(), rtp_time, now, payload);
        if let Some(stream) = self.rtc.direct_api().stream_tx(&self.ssrc.into()) {
            stream.write_rtp(write);
        }
        self.advance(now);
    }

    /// When [`Self::handle_timeout`] wants to be called; `None` when it is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.ended).then(|| self.next_timeout.min(self.gone_at))
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        self.advance(now);
        if self.gone_at <= now {
            self.end(PageEnd::Silent);
        }
    }

    /// Tells the page that it is over: fetch the last datagrams after it.
    pub fn close(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        if let Err(error) = self.rtc.close() {
            tracing::debug!(%error, "a page was left without a word");
        }
        self.advance(now);
        self.ended = true;
        self.events.clear();
    }

    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected && !self.ended
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<PageTransmit> {
        self.transmits.pop_front()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<PageEvent> {
        self.events.pop_front()
    }

    fn advance(&mut self, now: Instant) {
        if let Err(error) = self.rtc.handle_input(Input::Timeout(now)) {
            tracing::debug!(%error, "a page's media engine stumbled");
        }
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        while !self.ended {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.next_timeout = at;
                    if !self.rtc.is_alive() {
                        self.end(PageEnd::Closed);
                    }
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    let (from, to) = (transmit.source, transmit.destination);
                    push(&mut self.transmits, PageTransmit { from, to, data: transmit.contents.to_vec() });
                }
                Ok(Output::Event(event)) => self.take(event, now),
                Err(error) => {
                    tracing::debug!(%error, "a page's media engine ended");
                    self.end(PageEnd::Closed);
                }
            }
        }
    }

    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected => {
                self.connected = true;
                self.gone_at = now + SILENT_FOR;
                push(&mut self.events, PageEvent::Connected);
            }
            Event::RtpPacket(packet) => {
                let (sequence, rtp_time) = (*packet.seq_no, packet.header.timestamp);
                push(
                    &mut self.events,
                    PageEvent::Opus { sequence, rtp_time, payload: packet.payload.to_vec() },
                );
            }
            Event::Closed => self.end(PageEnd::Closed),
            _ => {}
        }
    }

    fn end(&mut self, how: PageEnd) {
        if !self.ended {
            self.ended = true;
            push(&mut self.events, PageEvent::Ended(how));
        }
    }
}

/// str0m for one Opus stream each way, waiting for the page.
fn engine(offer: &Offer, ssrc: u32, now: Instant) -> Result<Rtc, String> {
    let mut config = RtcConfig::new()
        .set_crypto_provider(Arc::new(from_feature_flags()))
        .set_rtp_mode(true)
        .set_ice_lite(true)
        .clear_codecs()
        .clear_extension_map()
        .set_stats_interval(None);
    let opus = Pt::from(offer.payload_type);
    let (clock, format) = (Frequency::FORTY_EIGHT_KHZ, FormatParams::default());
    config.codec_config().add_config(opus, None, Codec::Opus, clock, Some(2), format);
    let mut rtc = config.build(now);
    // Not on the wire: there is one stream, and no header extension.
    let mid = Mid::from("0");
    let mut api = rtc.direct_api();
    api.set_ice_controlling(false);
    api.declare_media(mid, MediaKind::Audio);
    api.declare_stream_tx(ssrc.into(), None, mid, None);
    if let Some(theirs) = offer.ssrc {
        api.expect_stream_rx(theirs.into(), None, mid, None).suppress_nack(true);
    }
    api.set_remote_ice_credentials(IceCreds { ufrag: offer.ufrag.clone(), pass: offer.password.clone() });
    let hash_func = "sha-256".to_owned();
    api.set_remote_fingerprint(Fingerprint { hash_func, bytes: offer.fingerprint.clone() });
    // The page opens.
    api.start_dtls(false).map_err(|error| error.to_string())?;
    Ok(rtc)
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == QUEUE_MAX {
        queue.pop_front();
    }
    queue.push_back(item);
}
