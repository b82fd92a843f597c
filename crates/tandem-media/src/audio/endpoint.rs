//! What a call is attached to: a voice (something to play, perhaps something to record), the echo, or a page.
//!
//! The driver gives it packets ([`Endpoint::handle_packet`]) and the time ([`Endpoint::handle_timeout`] when
//! [`Endpoint::poll_timeout`] says so, every 20 ms), and after each of these drains [`Endpoint::poll_transmit`] and
//! [`Endpoint::poll_event`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::bridge::Bridge;
use super::echo::Echo;
use super::level::LevelLog;
use super::opus::{EncoderConfig, OpusError};
use super::receiver::{Heard, Receiver, SoundStats};
use super::recorder::Sink;
use super::sender::Sender;
use super::wav::{Source, SourceState};
use super::{FRAME_DURATION, Incoming, Outgoing, SILENCE};

/// Ticks made up for at once after a stall; beyond that, time is skipped.
const CATCH_UP_TICKS: u32 = 25;
/// Packets and events that wait to be drained at most; older ones are dropped first.
const QUEUE_MAX: usize = 64;

/// Something worth telling a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointEvent {
    /// The other side is heard for the first time; the time at which it is played.
    FirstSound(Instant),
    /// What was to be played has ended; silence is sent from now on.
    SourceEnded,
    /// What was to be played cannot be read any further, and why; silence is sent from now on.
    SourceFailed(String),
    /// The recording ended before the call did, and why.
    RecordingFailed(String),
    /// The encoder failed, and why; nothing is sent for this moment.
    EncodingFailed(String),
}

/// One call's attachment.
#[derive(Debug)]
pub struct Endpoint {
    kind: Kind,
    outgoing: VecDeque<Outgoing>,
    events: VecDeque<EndpointEvent>,
}

#[derive(Debug)]
enum Kind {
    Voice(Box<Voice>),
    Echo(Echo),
    Page(Bridge),
}

#[derive(Debug)]
struct Voice {
    source: Box<dyn Source>,
    source_open: bool,
    recorder: Option<Box<dyn Sink>>,
    sender: Sender,
    /// Percent, as asked for.
    expected_loss: i32,
    receiver: Receiver,
    next_tick: Instant,
    muted: bool,
    heard: bool,
    sent_levels: LevelLog,
    received_levels: LevelLog,
}

impl Endpoint {
    /// An endpoint that plays `source`, and records what it hears if there is a `recorder`. Its first tick is `now`.
    /// `rtp_start` is the first RTP timestamp; it should be random.
    ///
    /// # Errors
    /// [`OpusError`] if the codec cannot be made.
    pub fn voice(
        source: Box<dyn Source>,
        recorder: Option<Box<dyn Sink>>,
        config: EncoderConfig,
        rtp_start: u32,
        now: Instant,
    ) -> Result<Self, OpusError> {
        let voice = Voice {
            source,
            source_open: true,
            recorder,
            sender: Sender::new(config, rtp_start)?,
            expected_loss: config.expected_loss,
            receiver: Receiver::new()?,
            next_tick: now,
            muted: false,
            heard: false,
            sent_levels: LevelLog::default(),
            received_levels: LevelLog::default(),
        };
        Ok(Self::of(Kind::Voice(Box::new(voice))))
    }

    /// The echo. `rtp_start` is the first RTP timestamp; it should be random.
    #[must_use]
    pub fn echo(rtp_start: u32) -> Self {
        Self::of(Kind::Echo(Echo::new(rtp_start)))
    }

    /// A page of a browser: its packets pass through as they are, [`Self::handle_page`] and [`Self::poll_page`], and silence
    /// is sent while there are none. `rtp_start` is the first RTP timestamp; it should be random.
    #[must_use]
    pub fn page(rtp_start: u32, now: Instant) -> Self {
        Self::of(Kind::Page(Bridge::new(rtp_start, now)))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, outgoing: VecDeque::new(), events: VecDeque::new() }
    }

    /// Takes a packet that arrived at `now`. What is not Opus is counted and left out.
    pub fn handle_packet(&mut self, packet: &Incoming<'_>, now: Instant) {
        match &mut self.kind {
            Kind::Voice(voice) => {
                if let Err(error) = voice.receiver.handle_packet(packet, now) {
                    tracing::trace!(%error, sequence = packet.sequence, "packet left out");
                }
            }
            Kind::Echo(echo) => {
                echo.handle_packet(packet);
                while let Some(back) = echo.poll_transmit() {
                    push_bounded(&mut self.outgoing, back);
                }
            }
            Kind::Page(bridge) => bridge.handle_packet(packet),
        }
    }

    /// Takes a packet of the page, which names its attachment by any number. What is not Opus is left out.
    pub fn handle_page(&mut self, attachment: u64, packet: &Incoming<'_>, now: Instant) {
        if let Kind::Page(bridge) = &mut self.kind
            && let Some(outgoing) = bridge.handle_page(attachment, packet, now)
        {
            push_bounded(&mut self.outgoing, outgoing);
        }
    }

    /// The next packet for the page, as it came.
    pub fn poll_page(&mut self) -> Option<Outgoing> {
        match &mut self.kind {
            Kind::Page(bridge) => bridge.poll_page(),
            Kind::Voice(_) | Kind::Echo(_) => None,
        }
    }

    /// Runs the ticks that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.kind {
            Kind::Voice(voice) => {
                voice.skip_stall(now);
                while voice.next_tick <= now {
                    voice.tick(&mut self.outgoing, &mut self.events);
                }
            }
            Kind::Page(bridge) => {
                while let Some(silence) = bridge.handle_timeout(now) {
                    push_bounded(&mut self.outgoing, silence);
                }
            }
            Kind::Echo(_) => {}
        }
    }

    /// When the next tick is due; `None` for the echo, which needs none.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.kind {
            Kind::Voice(voice) => Some(voice.next_tick),
            Kind::Page(bridge) => Some(bridge.poll_timeout()),
            Kind::Echo(_) => None,
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<EndpointEvent> {
        self.events.pop_front()
    }

    /// While muted, silence is sent.
    pub fn set_muted(&mut self, muted: bool) {
        if let Kind::Voice(voice) = &mut self.kind {
            voice.muted = muted;
        }
    }

    /// Changes the encoder's bits per second and the length of packets (20, 40 or 60 ms); the echo sends back what
    /// came, and a page has to be told. Below [`EncoderConfig::LBRR_MIN`] all bits go to the sound itself.
    ///
    /// # Errors
    /// [`OpusError`] if libopus refuses it.
    pub fn set_rate(&mut self, bits_per_second: u32, packet_ms: u32) -> Result<(), OpusError> {
        match &mut self.kind {
            Kind::Voice(voice) => {
                voice.sender.set_packet_ms(packet_ms);
                let bitrate = i32::try_from(bits_per_second).unwrap_or(i32::MAX);
                let loss = if bitrate < EncoderConfig::LBRR_MIN { 0 } else { voice.expected_loss };
                voice.sender.encoder().set_expected_loss(loss)?;
                voice.sender.encoder().set_bitrate(bitrate)
            }
            Kind::Echo(_) | Kind::Page(_) => Ok(()),
        }
    }

    /// Tells the encoder what share of packets the other side loses, 0 to 100 percent, so that it adds redundancy.
    ///
    /// # Errors
    /// [`OpusError`] if libopus refuses it.
    pub fn set_expected_loss(&mut self, percent: i32) -> Result<(), OpusError> {
        match &mut self.kind {
            Kind::Voice(voice) => {
                voice.expected_loss = percent;
                voice.sender.encoder().set_expected_loss(percent)
            }
            Kind::Echo(_) | Kind::Page(_) => Ok(()),
        }
    }

    /// Does anything decode the sound here? A page does it itself, so [`Self::stats`] says nothing of it.
    #[must_use]
    pub fn decodes(&self) -> bool {
        !matches!(self.kind, Kind::Page(_))
    }

    /// What was heard so far; all zero for the echo and for a page, where nothing is decoded.
    #[must_use]
    pub fn stats(&self) -> SoundStats {
        match &self.kind {
            Kind::Voice(voice) => voice.receiver.stats(),
            Kind::Echo(_) | Kind::Page(_) => SoundStats::default(),
        }
    }

    /// Loudness of what was sent, from the first tick on. `None` for the echo and a page.
    #[must_use]
    pub fn sent_levels(&self) -> Option<&LevelLog> {
        match &self.kind {
            Kind::Voice(voice) => Some(&voice.sent_levels),
            Kind::Echo(_) | Kind::Page(_) => None,
        }
    }

    /// Loudness of what was heard, from the first tick on. `None` for the echo and a page.
    #[must_use]
    pub fn received_levels(&self) -> Option<&LevelLog> {
        match &self.kind {
            Kind::Voice(voice) => Some(&voice.received_levels),
            Kind::Echo(_) | Kind::Page(_) => None,
        }
    }

    /// The call ended: completes the recording. Say so before dropping the endpoint, or up to 1 s may be missing.
    pub fn finish(&mut self) {
        if let Kind::Voice(voice) = &mut self.kind {
            voice.finish_recording(&mut self.events);
        }
    }
}

impl Voice {
    /// One tick: 20 ms out, 20 ms in.
    fn tick(&mut self, outgoing: &mut VecDeque<Outgoing>, events: &mut VecDeque<EndpointEvent>) {
        let now = self.next_tick;
        self.next_tick += FRAME_DURATION;
        self.send(outgoing, events);
        let mut frame = SILENCE;
        let heard = self.receiver.pull(now, &mut frame);
        if heard != Heard::Nothing && !self.heard {
            self.heard = true;
            push_bounded(events, EndpointEvent::FirstSound(now));
        }
        self.received_levels.push(&frame);
        let Some(recorder) = &mut self.recorder else { return };
        if let Err(error) = recorder.write_frame(&frame) {
            self.recorder = None;
            push_bounded(events, EndpointEvent::RecordingFailed(error.to_string()));
        }
    }

    fn send(&mut self, outgoing: &mut VecDeque<Outgoing>, events: &mut VecDeque<EndpointEvent>) {
        let mut frame = SILENCE;
        let state = self.source.next_frame(&mut frame);
        if self.source_open && !matches!(state, Ok(SourceState::Playing)) {
            self.source_open = false;
            push_bounded(
                events,
                match state {
                    Err(error) => EndpointEvent::SourceFailed(error.to_string()),
                    Ok(_) => EndpointEvent::SourceEnded,
                },
            );
        }
        if self.muted {
            frame = SILENCE;
        }
        self.sent_levels.push(&frame);
        match self.sender.encode(&frame) {
            Ok(Some(packet)) => push_bounded(outgoing, packet),
            Ok(None) => {}
            Err(error) => push_bounded(events, EndpointEvent::EncodingFailed(error.to_string())),
        }
    }

    /// If this machine stood still for too long, leaves that time out on both sides.
    fn skip_stall(&mut self, now: Instant) {
        let behind = now.saturating_duration_since(self.next_tick);
        let ticks = u32::try_from(behind.as_millis() / FRAME_DURATION.as_millis()).unwrap_or(u32::MAX);
        if ticks > CATCH_UP_TICKS {
            self.next_tick += Duration::from_millis(20 * u64::from(ticks));
            self.sender.skip(ticks);
        }
    }

    fn finish_recording(&mut self, events: &mut VecDeque<EndpointEvent>) {
        let Some(mut recorder) = self.recorder.take() else { return };
        if let Err(error) = recorder.finish() {
            push_bounded(events, EndpointEvent::RecordingFailed(error.to_string()));
        }
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == QUEUE_MAX {
        queue.pop_front();
    }
    queue.push_back(item);
}
