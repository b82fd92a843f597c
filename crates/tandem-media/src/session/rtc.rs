//! str0m as this crate uses it: one Opus stream each way in RTP mode, over one pair of invented addresses.
//!
//! str0m believes it has a single candidate pair that never dies. What really carries its packets is the path set's
//! business: paths are validated, kept warm and left by our own probes, in half a second instead of str0m's 22.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::config::Fingerprint;
use str0m::crypto::from_feature_flags;
use str0m::media::{MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc, RtcConfig, RtcError};
use tandem_proto::wire::MediaDescription;

use super::types::{DescriptionError, SessionConfig};

/// RTP payload type of Opus, as browsers number it.
const OPUS: u8 = 111;
/// str0m gives a pair up after this many unanswered checks, 3 s apart: longer than any call waits for sound.
const CHECKS_MAX: usize = 100;
/// Late DTLS packets are let in this long after connecting, for the far end's lost last flight. Later ones can only
/// be a relay's attempt to end the call: hanging up is signalled.
const DTLS_LATE: Duration = Duration::from_secs(10);

/// What the media engine wants done.
#[derive(Debug)]
pub(super) enum RtcOutput {
    Transmit(Vec<u8>),
    Connected,
    /// One authentic packet of sound, each sequence number once.
    Sound {
        sequence: u64,
        rtp_time: u32,
        payload: Vec<u8>,
    },
    /// The engine has ended; nothing more will come.
    Ended(String),
}

#[derive(Debug)]
pub(super) struct RtcEngine {
    rtc: Rtc,
    controlling: bool,
    ssrc: u32,
    mid: Mid,
    described: Option<MediaDescription>,
    started: bool,
    connected_at: Option<Instant>,
    ended: bool,
    next_sequence: u64,
    next_timeout: Option<Instant>,
}

impl RtcEngine {
    pub(super) fn new(config: &SessionConfig, now: Instant) -> Self {
        let mut rtc_config = RtcConfig::new()
            .set_crypto_provider(Arc::new(from_feature_flags()))
            .set_rtp_mode(true)
            .clear_codecs()
            .clear_extension_map()
            .enable_opus(true, false)
            .set_stats_interval(None);
        rtc_config.set_initial_stun_rto(Duration::from_millis(100));
        rtc_config.set_max_stun_retransmits(CHECKS_MAX);
        let mut rtc = rtc_config.build(now);
        let mid = Mid::from("0");
        let ssrc = config.ssrc.max(1);
        let mut api = rtc.direct_api();
        api.set_ice_controlling(config.controlling);
        api.declare_media(mid, MediaKind::Audio);
        api.declare_stream_tx(ssrc.into(), None, mid, None);
        Self {
            rtc,
            controlling: config.controlling,
            ssrc,
            mid,
            described: None,
            started: false,
            connected_at: None,
            ended: false,
            // RFC 3550 §5.1: unpredictable; the top bit stays clear so that the rollover counter starts at 0 on
            // both sides even if the first packets are lost (RFC 3711 §3.3.1).
            next_sequence: 1 + (config.seed & 0x3fff),
            next_timeout: Some(now),
        }
    }

    pub(super) fn local_description(&mut self) -> MediaDescription {
        let api = self.rtc.direct_api();
        let credentials = api.local_ice_credentials();
        MediaDescription {
            ice_ufrag: credentials.ufrag,
            ice_pwd: credentials.pass,
            dtls_fingerprint: api.local_dtls_fingerprint().bytes.clone(),
            ssrc: self.ssrc,
            opus_features: Vec::new(),
        }
    }

    pub(super) fn handle_remote_description(
        &mut self,
        remote: &MediaDescription,
    ) -> Result<(), DescriptionError> {
        if let Some(before) = &self.described {
            return if before == remote { Ok(()) } else { Err(DescriptionError::AlreadySet) };
        }
        if remote.dtls_fingerprint.len() != 32 {
            return Err(DescriptionError::Fingerprint(remote.dtls_fingerprint.len()));
        }
        // RFC 8839 §5.4: at least 4 and 22 characters, at most 256.
        if !(4..=256).contains(&remote.ice_ufrag.len()) || !(22..=256).contains(&remote.ice_pwd.len()) {
            return Err(DescriptionError::Credentials);
        }
        let mut api = self.rtc.direct_api();
        api.set_remote_ice_credentials(IceCreds {
            ufrag: remote.ice_ufrag.clone(),
            pass: remote.ice_pwd.clone(),
        });
        api.set_remote_fingerprint(Fingerprint {
            hash_func: "sha-256".to_owned(),
            bytes: remote.dtls_fingerprint.clone(),
        });
        let stream = api.expect_stream_rx(remote.ssrc.max(1).into(), None, self.mid, None);
        stream.suppress_nack(true);
        if !self.controlling {
            api.start_dtls(false).map_err(|error| DescriptionError::Engine(error.to_string()))?;
        }
        self.described = Some(remote.clone());
        Ok(())
    }

    /// The password under which the other end authenticates what we send it.
    pub(super) fn remote_password(&self) -> Option<&str> {
        self.described.as_ref().map(|remote| remote.ice_pwd.as_str())
    }

    /// A path works: the engine may begin. The controlling side opens DTLS.
    pub(super) fn start(&mut self, now: Instant) {
        if self.started || self.described.is_none() {
            return;
        }
        self.started = true;
        let (local, remote) = (pretend(1), pretend(2));
        let local_candidate = Candidate::host(local, "udp").expect("an ordinary unicast address");
        let remote_candidate = Candidate::host(remote, "udp").expect("an ordinary unicast address");
        self.rtc.add_local_candidate(local_candidate);
        self.rtc.add_remote_candidate(remote_candidate);
        if self.controlling
            && let Err(error) = self.rtc.direct_api().start_dtls(true)
        {
            tracing::warn!(%error, "DTLS did not start");
        }
        self.handle_timeout(now);
    }

    /// Takes a datagram of the other end, whichever way it came.
    pub(super) fn handle_packet(&mut self, data: &[u8], now: Instant) {
        let is_dtls = matches!(data.first(), Some(20..=63));
        if is_dtls && self.connected_at.is_some_and(|at| now.saturating_duration_since(at) > DTLS_LATE) {
            return;
        }
        let Ok(contents) = data.try_into() else { return };
        let receive = Receive { proto: Protocol::Udp, source: pretend(2), destination: pretend(1), contents };
        // Anybody on the way can send something broken: it is dropped, and the call goes on.
        if let Err(error) = self.rtc.handle_input(Input::Receive(now, receive)) {
            tracing::debug!(%error, "a packet was refused");
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Err(error) = self.rtc.handle_input(Input::Timeout(now)) {
            tracing::debug!(%error, "the media engine stumbled");
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected_at.is_some() && !self.ended
    }

    /// Queues one Opus packet; `poll` then gives it encrypted. Returns its sequence number.
    pub(super) fn send(&mut self, payload: &[u8], rtp_time: u32, now: Instant) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let write = RtpWrite::new(Pt::from(OPUS), sequence.into(), rtp_time, now, Arc::<[u8]>::from(payload));
        let mut api = self.rtc.direct_api();
        if let Some(stream) = api.stream_tx(&self.ssrc.into()) {
            stream.write_rtp(write);
        }
        self.handle_timeout(now);
        sequence
    }

    /// The next thing to do; `None` when there is nothing until `poll_timeout`.
    pub(super) fn poll(&mut self, now: Instant) -> Option<RtcOutput> {
        if self.ended {
            return None;
        }
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.next_timeout = Some(at);
                    return (!self.rtc.is_alive()).then(|| self.end("the media engine closed".to_owned()));
                }
                Ok(Output::Transmit(transmit)) => {
                    return Some(RtcOutput::Transmit(transmit.contents.to_vec()));
                }
                Ok(Output::Event(event)) => {
                    if let Some(output) = self.event(event, now) {
                        return Some(output);
                    }
                }
                Err(error) if self.rtc.is_alive() && self.connected_at.is_some() => {
                    tracing::debug!(%error, "the media engine stumbled");
                    self.next_timeout = Some(now + Duration::from_millis(20));
                    return None;
                }
                Err(error) => return Some(self.end(describe(&error))),
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout.filter(|_| !self.ended)
    }

    fn event(&mut self, event: Event, now: Instant) -> Option<RtcOutput> {
        match event {
            Event::Connected => {
                self.connected_at = Some(now);
                Some(RtcOutput::Connected)
            }
            Event::RtpPacket(packet) => Some(RtcOutput::Sound {
                sequence: *packet.seq_no,
                rtp_time: packet.header.timestamp,
                payload: packet.payload.to_vec(),
            }),
            _ => None,
        }
    }

    fn end(&mut self, reason: String) -> RtcOutput {
        self.ended = true;
        RtcOutput::Ended(reason)
    }
}

/// The addresses str0m is told; they never leave this file (RFC 5737 documentation range).
fn pretend(host: u8) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, host), 5000 + u16::from(host)))
}

fn describe(error: &RtcError) -> String {
    format!("the encrypted connection could not be made: {error}. Somebody may be in the way; call again.")
}

/// Whether these bytes are sound (SRTP), not control (SRTCP): RFC 5761 §4, RFC 7983 §7.
pub(super) fn is_sound(data: &[u8]) -> bool {
    data.len() > 12 && (128..192).contains(&data[0]) && !(64..96).contains(&(data[1] & 0x7f))
}

/// Whether these bytes are DTLS (RFC 7983 §7).
pub(super) fn is_dtls(data: &[u8]) -> bool {
    matches!(data.first(), Some(20..=63))
}

/// An RTP packet's timestamp (RFC 3550 §5.1).
pub(super) fn rtp_time(data: &[u8]) -> u32 {
    u32::from_be_bytes([data[4], data[5], data[6], data[7]])
}

/// The 16 bits of an RTP packet's sequence number.
pub(super) fn short_sequence(data: &[u8]) -> u16 {
    u16::from_be_bytes([data[2], data[3]])
}
