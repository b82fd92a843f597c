//! Sound from end to end, on forced time: what is sent, lost, delayed, and heard.

use std::io::Cursor;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tandem_media::audio::endpoint::{Endpoint, EndpointEvent};
use tandem_media::audio::level::rms_dbfs;
use tandem_media::audio::opus::{Decoder, EncoderConfig, PacketInfo};
use tandem_media::audio::receiver::{Heard, Receiver, SoundStats};
use tandem_media::audio::recorder::Recorder;
use tandem_media::audio::sender::Sender;
use tandem_media::audio::simulate::{Fate, Simulated, one_way_call};
use tandem_media::audio::wav::{Source, SourceState, WavError, WavOptions, WavSource};
use tandem_media::audio::{FRAME_DURATION, Frame, Incoming, Outgoing, SILENCE};

const ALICE: &[u8] = include_bytes!("../../../../assets/speech/alice.wav");
const BOB: &[u8] = include_bytes!("../../../../assets/speech/bob.wav");
const TRANSIT: Duration = Duration::from_millis(40);
/// 16 s.
const FRAMES: u64 = 800;

#[expect(clippy::disallowed_methods, reason = "forced time needs one real moment to count from")]
fn start() -> Instant {
    Instant::now()
}

fn speech(file: &'static [u8]) -> WavSource<Cursor<&'static [u8]>> {
    WavSource::open(Cursor::new(file), WavOptions::default()).expect("bundled speech")
}

fn config() -> EncoderConfig {
    EncoderConfig { complexity: 5, ..EncoderConfig::default() }
}

fn call(fate: impl FnMut(u64) -> Fate) -> Simulated {
    one_way_call(&mut speech(ALICE), FRAMES, config(), fate, start()).expect("codec")
}

fn lose(lost: impl Fn(u64) -> bool) -> Simulated {
    call(|n| if lost(n) { Fate::Lost } else { Fate::Arrives(TRANSIT) })
}

/// Every sample played has exactly one origin.
fn assert_adds_up(stats: &SoundStats) {
    let parts = stats.decoded_ms
        + stats.from_lbrr_ms
        + stats.from_dred_ms
        + stats.concealed_ms
        + stats.paused_ms
        + stats.waiting_ms;
    assert!(stats.played_ms.abs_diff(parts) <= 6, "{stats:?}");
}

#[test]
fn without_loss_nothing_is_concealed_and_the_speech_is_the_same() {
    let heard = lose(|_| false);
    let stats = heard.stats;
    assert_adds_up(&stats);
    assert_eq!(stats.decoded_ms, FRAMES * 20);
    assert_eq!((stats.concealed_ms, stats.inserted_ms, stats.dropped_ms, stats.late), (0, 0, 0, 0));
    let rate = heard.payload_bytes * 8 / (FRAMES * 20);
    assert!((20..=33).contains(&rate), "{rate} kbit/s");

    let mut source = speech(ALICE);
    let mut sent = Vec::new();
    for _ in 0..FRAMES {
        let mut frame = SILENCE;
        source.next_frame(&mut frame).expect("plays");
        sent.extend_from_slice(&frame);
    }
    let (delay, likeness) = best_match(&sent, &heard.heard);
    assert!(likeness > 0.9, "{likeness} at {delay} samples");
    let delay_ms = delay / 48;
    assert!((60..=110).contains(&delay_ms), "{delay_ms} ms");
}

/// The delay (in samples, up to 200 ms) at which two signals are most alike over 4 s, and how alike they are.
fn best_match(sent: &[i16], heard: &[i16]) -> (usize, f64) {
    let window = 48_000..5 * 48_000;
    (0..9_600)
        .step_by(4)
        .map(|delay| {
            let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
            for i in window.clone().step_by(7) {
                let (a, b) = (f64::from(sent[i]), f64::from(heard[i + delay]));
                (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
            }
            (delay, ab / (aa * bb).sqrt())
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .expect("not empty")
}

#[test]
fn single_losses_come_back_from_the_next_packet() {
    let stats = lose(|n| n % 20 == 10).stats;
    assert_adds_up(&stats);
    assert_eq!(stats.from_lbrr_ms + stats.concealed_ms, 40 * 20);
    // Packets of near silence hold no copy of the one before.
    assert!(stats.from_lbrr_ms >= 30 * 20, "{stats:?}");
    assert_eq!(stats.decoded_ms, (FRAMES - 40) * 20);
    assert_eq!((stats.inserted_ms, stats.dropped_ms), (0, 0));
}

#[test]
fn a_burst_is_concealed_but_for_its_last_frame_and_counted() {
    let stats = lose(|n| (400..405).contains(&n)).stats;
    assert_adds_up(&stats);
    assert_eq!(stats.from_lbrr_ms + stats.concealed_ms, 100);
    assert!(stats.concealed_ms <= 100 && stats.concealed_ms >= 80, "{stats:?}");
    assert_eq!(stats.longest_concealed_ms, stats.concealed_ms);
    assert_eq!(stats.decoded_ms, (FRAMES - 5) * 20);
}

#[test]
fn deep_redundancy_fills_bursts_once_it_has_been_seen() {
    let config = EncoderConfig { bitrate: 64_000, dred: 50, expected_loss: 30, ..config() };
    let fate = |n| if n > 200 && n % 50 < 4 { Fate::Lost } else { Fate::Arrives(TRANSIT) };
    let stats = one_way_call(&mut speech(ALICE), FRAMES, config, fate, start()).expect("codec").stats;
    assert_adds_up(&stats);
    let made_up = stats.concealed_ms - stats.inserted_ms;
    assert!(stats.from_dred_ms > made_up, "{stats:?}");
    assert!(stats.from_dred_ms + stats.from_lbrr_ms + made_up >= 12 * 80 - 20, "{stats:?}");
}

#[test]
fn half_a_second_without_packets_is_counted_to_the_frame() {
    let stats = lose(|n| (300..325).contains(&n)).stats;
    assert_adds_up(&stats);
    assert_eq!(stats.from_lbrr_ms + stats.concealed_ms, 500);
    assert_eq!((stats.inserted_ms, stats.dropped_ms), (0, 0));
    assert!(stats.delay_ms < 60, "{stats:?}");
}

#[test]
fn mirrored_copies_are_counted_and_not_heard() {
    let twice = |_| Fate::ArrivesTwice(TRANSIT, TRANSIT + Duration::from_millis(13));
    let stats = call(twice).stats;
    assert_eq!(stats.duplicates, FRAMES);
    assert_eq!(stats.packets, FRAMES);
    assert_eq!((stats.concealed_ms, stats.late, stats.decoded_ms), (0, 0, FRAMES * 20));
}

#[test]
fn reordering_within_the_delay_costs_nothing() {
    let swapped = |n| Fate::Arrives(TRANSIT + Duration::from_millis(if n % 10 == 3 { 25 } else { 0 }));
    let stats = call(swapped).stats;
    assert!(stats.reordered > 70, "{stats:?}");
    assert_eq!(stats.concealed_ms - stats.inserted_ms, 0, "{stats:?}");
    assert_eq!(stats.late, 0);
}

#[test]
fn a_pause_of_the_network_followed_by_a_burst_loses_no_speech() {
    // Packets 300 to 304 are held up somewhere and arrive together with packet 305.
    let fate = |n| {
        let held_up = if (300..305).contains(&n) { (305 - n) * 20 } else { 0 };
        Fate::Arrives(TRANSIT + Duration::from_millis(held_up))
    };
    let stats = call(fate).stats;
    assert_adds_up(&stats);
    assert_eq!(stats.late, 0, "{stats:?}");
    // Each figure is rounded down to a millisecond.
    assert!((stats.decoded_ms + stats.dropped_ms).abs_diff(FRAMES * 20) <= 1, "{stats:?}");
    assert!((40..=120).contains(&stats.inserted_ms), "{stats:?}");
    assert!(stats.delay_ms < 100, "the delay goes back: {stats:?}");
}

#[test]
fn jitter_is_learnt() {
    let fate = |n: u64| Fate::Arrives(TRANSIT + Duration::from_millis(n * 7_919 % 60));
    let stats = call(fate).stats;
    assert_adds_up(&stats);
    assert!(stats.concealed_ms <= 160, "{stats:?}");
    assert!((60..=140).contains(&stats.target_ms), "{stats:?}");
}

#[test]
fn clocks_that_differ_by_100_ppm_cost_a_few_milliseconds_in_ten_minutes() {
    for slower in [true, false] {
        let mut voice = tone();
        let fate = |n: u64| {
            let drift = Duration::from_micros(2 * if slower { n } else { 30_000 - n });
            Fate::Arrives(TRANSIT + drift)
        };
        let stats =
            one_way_call(&mut voice, 30_000, EncoderConfig { complexity: 0, ..config() }, fate, start())
                .expect("codec")
                .stats;
        assert_eq!((stats.late, stats.concealed_ms - stats.inserted_ms), (0, 0), "{stats:?}");
        assert!(stats.inserted_ms + stats.dropped_ms <= 80, "{stats:?}");
        assert!((15..=80).contains(&stats.delay_ms), "{stats:?}");
    }
}

/// Half a second of tone, half a second of silence.
#[derive(Debug)]
struct Beeps(u64);

fn tone() -> Beeps {
    Beeps(0)
}

impl Source for Beeps {
    fn next_frame(&mut self, frame: &mut Frame) -> Result<SourceState, WavError> {
        let loud = if self.0 % 50 < 25 { 8_000.0 } else { 0.0 };
        for (i, sample) in frame.iter_mut().enumerate() {
            *sample = ((i as f32 * std::f32::consts::TAU / 240.0).sin() * loud) as i16;
        }
        self.0 += 1;
        Ok(SourceState::Playing)
    }
}

/// Packets of a sender, and a receiver on a clock of its own.
struct Bench {
    receiver: Receiver,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { receiver: Receiver::new().expect("codec"), now: start() }
    }

    fn give(&mut self, packet: &Outgoing) {
        let incoming =
            Incoming { sequence: packet.sequence, rtp_time: packet.rtp_time, payload: &packet.payload };
        self.receiver.handle_packet(&incoming, self.now).expect("ours");
    }

    fn pull(&mut self) -> (Heard, Frame) {
        let mut frame = SILENCE;
        let heard = self.receiver.pull(self.now, &mut frame);
        self.now += FRAME_DURATION;
        (heard, frame)
    }
}

#[test]
fn before_the_first_packet_and_after_the_last_nothing_counts() {
    let mut bench = Bench::new();
    let mut sender = Sender::new(config(), 7).expect("codec");
    (0..100).for_each(|_| assert_eq!(bench.pull(), (Heard::Nothing, SILENCE)));
    for _ in 0..50 {
        bench.give(&sender.encode(&SILENCE).expect("encodes").expect("a packet a frame"));
        bench.pull();
    }
    (0..100).for_each(|_| {
        bench.pull();
    });
    let stats = bench.receiver.stats();
    assert_eq!((stats.decoded_ms, stats.concealed_ms), (1_000, 0));
    assert!(stats.waiting_ms > 1_900, "{stats:?}");
}

#[test]
fn a_sender_that_starts_again_is_heard_again() {
    let mut bench = Bench::new();
    for rtp_start in [5, 3_000_000_000, 9] {
        let mut sender = Sender::new(config(), rtp_start).expect("codec");
        for _ in 0..100 {
            let mut packet = sender.encode(&[9_000; 960]).expect("encodes").expect("a packet a frame");
            packet.sequence += u64::from(rtp_start);
            bench.give(&packet);
            bench.pull();
        }
    }
    let stats = bench.receiver.stats();
    assert_eq!(stats.restarts, 2, "{stats:?}");
    assert!(stats.decoded_ms > 5_500, "{stats:?}");
}

#[test]
fn a_sender_that_pauses_loses_nothing() {
    let mut bench = Bench::new();
    let mut sender = Sender::new(config(), 0).expect("codec");
    for round in 0..3 {
        for _ in 0..50 {
            bench.give(&sender.encode(&SILENCE).expect("encodes").expect("a packet a frame"));
            bench.pull();
        }
        sender.skip(40);
        (0..40).for_each(|_| {
            bench.pull();
        });
        assert_eq!(bench.receiver.stats().concealed_ms, 0, "round {round}");
    }
    assert!(bench.receiver.stats().paused_ms >= 1_500, "{:?}", bench.receiver.stats());
}

#[test]
fn a_stalled_machine_catches_up_at_once() {
    let mut bench = Bench::new();
    let mut sender = Sender::new(config(), 0).expect("codec");
    for _ in 0..50 {
        bench.give(&sender.encode(&SILENCE).expect("encodes").expect("a packet a frame"));
        bench.pull();
    }
    // Stopped for 3 s; the packets of that time all come at once.
    bench.now += Duration::from_secs(3);
    (0..150).for_each(|_| bench.give(&sender.encode(&SILENCE).expect("encodes").expect("a packet a frame")));
    for _ in 0..50 {
        bench.give(&sender.encode(&SILENCE).expect("encodes").expect("a packet a frame"));
        bench.pull();
    }
    let stats = bench.receiver.stats();
    assert!(stats.dropped_ms > 2_500 && stats.delay_ms < 250, "{stats:?}");
}

#[test]
fn packets_of_other_lengths_are_played_in_full() {
    // Two 20 ms frames of one packet make a 40 ms packet (RFC 6716 §3.2.5, code 3 with variable lengths).
    let mut sender = Sender::new(config(), 0).expect("codec");
    let mut bench = Bench::new();
    for n in 0..50u32 {
        let one = sender.encode(&[1_000; 960]).expect("encodes").expect("a packet a frame").payload;
        let mut both = vec![one[0] | 3, 0b1000_0010];
        let length = one.len() - 1;
        if length < 252 {
            both.push(length as u8);
        } else {
            both.extend([252 + (length & 3) as u8, ((length - (252 + (length & 3))) / 4) as u8]);
        }
        both.extend(&one[1..]);
        both.extend(&one[1..]);
        assert_eq!(PacketInfo::parse(&both).map(|info| info.samples), Ok(1_920));
        bench.give(&Outgoing { sequence: n.into(), rtp_time: n * 1_920, payload: both });
        bench.pull();
        bench.pull();
    }
    let stats = bench.receiver.stats();
    assert_eq!(stats.concealed_ms - stats.inserted_ms, 0, "{stats:?}");
    assert!(stats.decoded_ms >= 1_900, "{stats:?}");
}

/// Runs a voice against another endpoint for `ticks`, without delay, losing each `lose`th packet from the voice.
fn converse(voice: &mut Endpoint, other: &mut Endpoint, from: Instant, ticks: u32, lose: u64) {
    for tick in 0..ticks {
        let now = from + FRAME_DURATION * tick;
        for _ in 0..2 {
            voice.handle_timeout(now);
            other.handle_timeout(now);
            while let Some(packet) = voice.poll_transmit() {
                if packet.sequence % lose != lose - 1 {
                    other.handle_packet(&incoming(&packet), now);
                }
            }
            while let Some(packet) = other.poll_transmit() {
                voice.handle_packet(&incoming(&packet), now);
            }
        }
    }
}

fn incoming(packet: &Outgoing) -> Incoming<'_> {
    Incoming { sequence: packet.sequence, rtp_time: packet.rtp_time, payload: &packet.payload }
}

#[test]
fn the_echo_gives_everything_back_and_shows_what_was_lost() {
    let now = start();
    let mut voice = Endpoint::voice(Box::new(speech(BOB)), None, config(), 77, now).expect("codec");
    let mut echo = Endpoint::echo(u32::MAX - 10_000);
    converse(&mut voice, &mut echo, now, 500, 25);
    let stats = voice.stats();
    assert_eq!(stats.packets, 480);
    assert_eq!(stats.from_lbrr_ms + stats.concealed_ms, 20 * 20 - 20, "{stats:?}");
    assert!(stats.from_lbrr_ms >= 200, "{stats:?}");
    assert_eq!(stats.paused_ms, 0);
    assert_eq!(echo.poll_timeout(), None);
}

#[test]
fn two_voices_hear_and_record_each_other() {
    let now = start();
    let file = tempfile();
    let recorder = Recorder::new(file.try_clone().expect("same file")).expect("writes");
    let mut alice =
        Endpoint::voice(Box::new(speech(ALICE)), Some(Box::new(recorder)), config(), 1, now).expect("codec");
    let mut bob = Endpoint::voice(Box::new(speech(BOB)), None, config(), 2, now).expect("codec");
    converse(&mut alice, &mut bob, now, 1_300, u64::MAX);
    alice.finish();
    let events: Vec<_> = std::iter::from_fn(|| alice.poll_event()).collect();
    assert!(matches!(events[..], [EndpointEvent::FirstSound(_), EndpointEvent::SourceEnded]), "{events:?}");
    let levels: Vec<f32> = alice.received_levels().expect("voice").levels().collect();
    assert_eq!(levels.len(), 260);
    assert!(levels.iter().filter(|level| **level > -40.0).count() > 100, "{levels:?}");

    let mut recording = WavSource::open(rewound(file), WavOptions::default()).expect("valid");
    assert_eq!(recording.duration(), Duration::from_secs(26));
    let mut loudest = -96.0f32;
    let mut frame = SILENCE;
    for _ in 0..500 {
        recording.next_frame(&mut frame).expect("plays");
        loudest = loudest.max(rms_dbfs(&frame));
    }
    assert!(loudest > -25.0, "{loudest}");
}

#[test]
fn a_muted_voice_sends_silence_and_a_stall_is_skipped() {
    let now = start();
    let mut voice = Endpoint::voice(Box::new(speech(ALICE)), None, config(), 0, now).expect("codec");
    voice.set_muted(true);
    (0..100).for_each(|tick| voice.handle_timeout(now + FRAME_DURATION * tick));
    assert!(voice.sent_levels().expect("voice").levels().all(|level| level == -96.0));
    let packets: Vec<_> = std::iter::from_fn(|| voice.poll_transmit()).collect();
    assert_eq!(packets.len(), 64, "the queue is bounded");
    let last = packets.last().expect("some").clone();

    let later = now + Duration::from_secs(60);
    voice.handle_timeout(later);
    let next = voice.poll_transmit().expect("one tick");
    assert_eq!(next.sequence, last.sequence + 1);
    assert_eq!(next.rtp_time - last.rtp_time, (60 - 2) * 48_000 + 960);
    assert_eq!(voice.poll_transmit(), None);
    assert!(voice.poll_timeout().expect("voice") > later);
}

fn tempfile() -> std::fs::File {
    tempfile::tempfile().expect("temporary file")
}

fn rewound(mut file: std::fs::File) -> std::fs::File {
    std::io::Seek::rewind(&mut file).expect("seeks");
    file
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics(packets in proptest::collection::vec(
        (any::<u64>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..200)), 1..60,
    )) {
        let mut bench = Bench::new();
        let mut decoder = Decoder::new().expect("codec");
        for (sequence, rtp_time, payload) in &packets {
            let incoming = Incoming { sequence: *sequence, rtp_time: *rtp_time, payload };
            let outcome = bench.receiver.handle_packet(&incoming, bench.now);
            prop_assert_eq!(outcome.is_err(), PacketInfo::parse(payload).is_err());
            bench.pull();
            let mut pcm = Vec::new();
            let _any = decoder.decode(payload, &mut pcm);
            let _any = decoder.decode_lbrr(payload, 960, &mut pcm);
            let covered = decoder.read_dred(payload, 48_000).unwrap_or(0);
            let _any = decoder.decode_dred(covered, 960, &mut pcm);
            prop_assert!(pcm.len() <= 5_760 + 960 + 960);
        }
    }

    #[test]
    fn real_packets_in_any_order_and_at_any_time_add_up(
        order in proptest::collection::vec((0u64..400, 0u64..60), 1..200),
    ) {
        let mut bench = Bench::new();
        let payload = Sender::new(config(), 0).expect("codec").encode(&SILENCE).expect("encodes").expect("a packet a frame").payload;
        for (sequence, wait_ms) in order {
            let rtp_time = (sequence as u32).wrapping_mul(960).wrapping_sub(100_000);
            let incoming = Incoming { sequence, rtp_time, payload: &payload };
            bench.receiver.handle_packet(&incoming, bench.now).expect("ours");
            bench.now += Duration::from_millis(wait_ms);
            bench.pull();
            assert_adds_up(&bench.receiver.stats());
        }
    }

    #[test]
    fn damaged_wav_headers_are_errors(at in 0usize..44, byte in any::<u8>(), cut in 0usize..200) {
        let mut file = ALICE[..4_000].to_vec();
        file[at] = byte;
        file.truncate(4_000 - cut);
        if let Ok(mut source) = WavSource::open(Cursor::new(file), WavOptions::default()) {
            let mut frame = SILENCE;
            for _ in 0..20 {
                if source.next_frame(&mut frame).is_err() {
                    break;
                }
            }
        }
    }
}
