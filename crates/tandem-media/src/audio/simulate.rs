//! A one-way call without a network, on forced time: for measuring what loss and delay do to sound.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::opus::{EncoderConfig, OpusError};
use super::receiver::{Receiver, SoundStats};
use super::sender::Sender;
use super::wav::Source;
use super::{FRAME_DURATION, Frame, Incoming, Outgoing, SILENCE};

/// What happens to one packet on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost,
    /// It arrives so much later than it was sent.
    Arrives(Duration),
    /// It arrives twice, so much later than it was sent.
    ArrivesTwice(Duration, Duration),
}

/// How a call went.
#[derive(Debug)]
pub struct Simulated {
    /// What was heard, 48 kHz mono, from the first tick on.
    pub heard: Vec<i16>,
    /// The receiver's own account.
    pub stats: SoundStats,
    /// Bytes of all payloads.
    pub payload_bytes: u64,
}

/// Sends `frames` frames of `source`, lets `fate` decide by packet number what becomes of each, and plays 300 ms on
/// after the last one. `start` is any moment: time does not pass.
///
/// # Errors
/// [`OpusError`] if the codec cannot be made or fails.
pub fn one_way_call(
    source: &mut dyn Source,
    frames: u64,
    config: EncoderConfig,
    mut fate: impl FnMut(u64) -> Fate,
    start: Instant,
) -> Result<Simulated, OpusError> {
    let mut sender = Sender::new(config, u32::MAX - 48_000)?;
    let mut receiver = Receiver::new()?;
    let mut on_the_way = BTreeMap::new();
    let mut out = Simulated { heard: Vec::new(), stats: SoundStats::default(), payload_bytes: 0 };
    for tick in 0..frames + 15 {
        let now = start + FRAME_DURATION * u32::try_from(tick).unwrap_or(u32::MAX);
        if tick < frames {
            let mut frame: Frame = SILENCE;
            // A source that fails gives silence, which the listener will hear as such.
            let _ended = source.next_frame(&mut frame);
            if let Some(packet) = sender.encode(&frame)? {
                out.payload_bytes += packet.payload.len() as u64;
                for (copy, delay) in delays(fate(tick)).into_iter().enumerate() {
                    if let Some(delay) = delay {
                        on_the_way.insert((now + delay, tick, copy), packet.clone());
                    }
                }
            }
        }
        while let Some(entry) = on_the_way.first_entry().filter(|entry| entry.key().0 <= now) {
            let arrival = entry.key().0;
            let packet = entry.remove();
            let Outgoing { sequence, rtp_time, payload } = &packet;
            let incoming = Incoming { sequence: *sequence, rtp_time: *rtp_time, payload };
            // Our own encoder made it; the receiver counts it as damaged if it is.
            let _counted = receiver.handle_packet(&incoming, arrival);
        }
        let mut frame: Frame = SILENCE;
        receiver.pull(now, &mut frame);
        out.heard.extend_from_slice(&frame);
    }
    out.stats = receiver.stats();
    Ok(out)
}

fn delays(fate: Fate) -> [Option<Duration>; 2] {
    match fate {
        Fate::Lost => [None, None],
        Fate::Arrives(delay) => [Some(delay), None],
        Fate::ArrivesTwice(first, second) => [Some(first), Some(second)],
    }
}
