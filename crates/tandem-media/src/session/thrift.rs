//! How much sound is sent, from what the other end says of its coming: the second copy goes first, then bits,
//! then packets become longer, since headers are more than half of them by then. Pure policy, like the path set.

use std::time::{Duration, Instant};

/// More milliseconds than this are a queue that stands.
const STANDING: u16 = 80;
/// The same where every path loses much: a short buffer that runs over. Losses without a queue are no reason to send
/// less: on a radio link a second copy is what helps.
const STANDING_LOSSY: u16 = 60;
/// Losses in thousandths that are much.
const LOSSY: u16 = 100;
/// Fewer are none that a full buffer would make.
const LOSSLESS: u16 = 30;
/// Less than this is no queue. Packets of 40 ms come 20 ms later than probes by their stamp.
const CLEAR: u16 = 40;
/// Words that agree for this long are believed; each tells of half a second.
const PATIENCE: Duration = Duration::from_millis(150);
/// After each step its effect is awaited, and half as long again for as long as the queue becomes shorter.
const EFFECT: Duration = Duration::from_millis(2_000);
/// A step that takes off less of the queue than this had no effect.
const EFFECT_MS: u16 = 30;
/// A queue that is not of our making is left alone for so long.
const FUTILE: Duration = Duration::from_secs(30);
/// For so long sound is not mirrored again, at first and at most.
const SINGLE_FIRST: Duration = Duration::from_secs(60);
const SINGLE_MAX: Duration = Duration::from_secs(300);
/// A clear way for this long earns the next better sound, at first and at most.
const RAISE_FIRST: Duration = Duration::from_secs(15);
const RAISE_MAX: Duration = Duration::from_secs(120);
/// What the way carried at the last step holds for so long.
const CARRIED: Duration = Duration::from_secs(60);
/// A word this old says nothing any more.
const STALE: Duration = Duration::from_secs(2);

/// What is sent beside the payload with each packet of sound: IPv4, UDP, ChannelData, RTP, SRTP's tag. In bits.
const HEADERS: u32 = 8 * (28 + 4 + 12 + 16);
/// What probes take on each path, in bits a second.
const PROBES: u32 = 6_400;
/// We fill so much of what the way carries while a queue stands, in percent, so that the queue drains.
const FILL: u32 = 92;

/// How sound is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sound {
    pub(super) bits_per_second: u32,
    pub(super) packet_ms: u32,
}

/// Best first. By how speech sounds without loss, bits are given up before longer packets are taken: these save 12 kbit/s
/// of headers, but Opus codes some voices clearly worse in them.
const SOUNDS: [Sound; 6] = [
    sound(32_000, 20),
    sound(24_000, 20),
    sound(20_000, 20),
    sound(20_000, 40),
    sound(16_000, 40),
    sound(12_000, 40),
];

const fn sound(bits_per_second: u32, packet_ms: u32) -> Sound {
    Sound { bits_per_second, packet_ms }
}

impl Sound {
    /// Bits a second of one copy with all headers.
    const fn cost(self) -> u32 {
        self.bits_per_second + HEADERS * 1_000 / self.packet_ms
    }
}

/// What the other end says in a probe of how our sound comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    pub(super) standing_ms: u16,
    /// Thousands of bits a second; `None` if it cannot tell.
    pub(super) received_kbit_s: Option<u16>,
    /// The least of what is lost on the paths that carry sound, thousandths.
    pub(super) lost_permille: u16,
}

/// What is sent now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending {
    pub(super) mirroring: bool,
    /// Paths on which probes go out.
    pub(super) paths: u32,
}

/// What is to change in how the sound is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Step {
    /// One copy only until then, though two are wanted: they filled a queue.
    pub(super) single_until: Option<Instant>,
    pub(super) sound: Option<Sound>,
}

/// A step down whose effect is awaited.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    until: Instant,
    /// The longest queue since.
    standing_ms: u16,
    /// It became shorter, which is why more time was given.
    shrunk: bool,
    /// Which of [`SOUNDS`] was sent before.
    rung: usize,
}

/// The sender's side.
#[derive(Debug)]
pub(super) struct Thrift {
    /// Which of [`SOUNDS`] is sent.
    rung: usize,
    standing_since: Option<Instant>,
    clear_since: Option<Instant>,
    awaited: Option<Awaited>,
    futile_until: Option<Instant>,
    /// Bits a second that came through while a queue stood, and when.
    carried: Option<(u32, Instant)>,
    last_word: Option<Instant>,
    single_for: Duration,
    raise_after: Duration,
    raised_at: Option<Instant>,
}

impl Default for Thrift {
    fn default() -> Self {
        Self {
            rung: 0,
            standing_since: None,
            clear_since: None,
            awaited: None,
            futile_until: None,
            carried: None,
            last_word: None,
            single_for: SINGLE_FIRST,
            raise_after: RAISE_FIRST,
            raised_at: None,
        }
    }
}

impl Thrift {
    /// The other end says how our sound comes.
    pub(super) fn told(&mut self, word: Word, sending: Sending, now: Instant) -> Option<Step> {
        let stale = self.last_word.is_some_and(|at| now.saturating_duration_since(at) > STALE);
        self.last_word = Some(now);
        if stale {
            (self.standing_since, self.clear_since) = (None, None);
        }
        let too_long = if word.lost_permille >= LOSSY { STANDING_LOSSY } else { STANDING };
        if word.standing_ms < too_long {
            self.standing_since = None;
        }
        if word.standing_ms >= CLEAR {
            self.clear_since = None;
        }
        if let Some(awaited) = self.awaited.as_mut().filter(|awaited| now < awaited.until) {
            awaited.standing_ms = awaited.standing_ms.max(word.standing_ms);
            return None;
        }
        if word.standing_ms >= too_long {
            self.standing(word, sending, now)
        } else {
            self.awaited = None;
            if word.standing_ms < CLEAR { self.clear(sending, now) } else { None }
        }
    }

    fn standing(&mut self, word: Word, sending: Sending, now: Instant) -> Option<Step> {
        let since = *self.standing_since.get_or_insert(now);
        let lossless = word.lost_permille < LOSSLESS;
        let futile = lossless && self.futile_until.is_some_and(|until| now < until);
        if now.saturating_duration_since(since) < PATIENCE || futile {
            return None;
        }
        self.standing_since = None;
        if let Some(last) = self.awaited.take().filter(|_| lossless) {
            if word.standing_ms.saturating_add(EFFECT_MS) <= last.standing_ms {
                let standing_ms = word.standing_ms;
                self.awaited = Some(Awaited { until: now + EFFECT / 2, standing_ms, shrunk: true, ..last });
                return None;
            }
            if !last.shrunk {
                return self.give_back(last.rung, now);
            }
        }
        self.step_down(word, sending, now)
    }

    /// Sending less did not help: others fill the queue, or the way has become longer.
    fn give_back(&mut self, rung: usize, now: Instant) -> Option<Step> {
        self.futile_until = Some(now + FUTILE);
        let back = self.rung != rung;
        self.rung = rung;
        back.then(|| Step { sound: Some(SOUNDS[rung]), single_until: None })
    }

    fn step_down(&mut self, word: Word, sending: Sending, now: Instant) -> Option<Step> {
        let rung = self.rung;
        let single_until = sending.mirroring.then(|| now + self.single_for);
        if sending.mirroring {
            self.single_for = (self.single_for * 2).min(SINGLE_MAX);
        } else {
            // A raise that did not last was too early.
            if self.raised_at.is_some_and(|at| now.saturating_duration_since(at) < self.raise_after) {
                self.raise_after = (self.raise_after * 2).min(RAISE_MAX);
            }
            self.rung = (rung + 1).min(SOUNDS.len() - 1);
        }
        if let Some(kbit_s) = word.received_kbit_s {
            let carried = u32::from(kbit_s) * 1_000;
            self.carried = Some((carried, now));
            while self.rung + 1 < SOUNDS.len() && !fits(SOUNDS[self.rung], sending, carried) {
                self.rung += 1;
            }
        }
        let sound = (self.rung != rung).then(|| SOUNDS[self.rung]);
        if single_until.is_none() && sound.is_none() {
            return None;
        }
        self.awaited =
            Some(Awaited { until: now + EFFECT, standing_ms: word.standing_ms, shrunk: false, rung });
        Some(Step { single_until, sound })
    }

    fn clear(&mut self, sending: Sending, now: Instant) -> Option<Step> {
        let since = *self.clear_since.get_or_insert(now);
        let better = SOUNDS[self.rung.checked_sub(1)?];
        let known = self.carried.filter(|(_, at)| now.saturating_duration_since(*at) < CARRIED);
        let hopeless = known.is_some_and(|(carried, _)| !fits(better, sending, carried));
        if now.saturating_duration_since(since) < self.raise_after || hopeless {
            return None;
        }
        self.rung -= 1;
        self.raised_at = Some(now);
        self.clear_since = None;
        Some(Step { sound: Some(better), single_until: None })
    }
}

/// Whether one copy and the probes leave room in what the way carries.
fn fits(sound: Sound, sending: Sending, carried: u32) -> bool {
    let wanted = u64::from(sound.cost()) + u64::from(PROBES) * u64::from(sending.paths);
    wanted * 100 <= u64::from(carried) * u64::from(FILL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::start;

    const MS: Duration = Duration::from_millis(1);

    /// What the network makes of what is sent.
    struct Way {
        standing_ms: u16,
        carried: Option<u16>,
        lost: u16,
    }

    /// Reports each 100 ms for so many seconds; returns what changed and when, in ms.
    fn reports(
        thrift: &mut Thrift,
        t: Instant,
        seconds: std::ops::Range<u32>,
        way: impl Fn(u32) -> Way,
    ) -> Vec<(u32, Step)> {
        let mut steps = Vec::new();
        let mut single = t;
        for ms in (seconds.start * 1_000..seconds.end * 1_000).step_by(100) {
            let now = t + MS * ms;
            let sending = Sending { mirroring: now >= single, paths: 2 };
            let copies = if sending.mirroring { 2 } else { 1 };
            let way = way(copies * SOUNDS[thrift.rung].cost() + 2 * PROBES);
            let word =
                Word { standing_ms: way.standing_ms, received_kbit_s: way.carried, lost_permille: way.lost };
            let step = thrift.told(word, sending, now);
            single = step.and_then(|step| step.single_until).unwrap_or(single);
            steps.extend(step.map(|step| (ms, step)));
        }
        steps
    }

    /// A line of so many bits a second with a buffer of 200 ms.
    fn line(bits: u32, sent: u32) -> Way {
        let over = sent > bits;
        Way {
            standing_ms: if over { 190 } else { 5 },
            carried: u16::try_from(sent.min(bits) / 1_000).ok(),
            lost: if over { u16::try_from((sent - bits) * 1_000 / sent).unwrap() } else { 0 },
        }
    }

    #[test]
    fn a_line_for_one_copy_is_found_in_one_step() {
        let t = start();
        let steps = reports(&mut Thrift::default(), t, 0..30, |sent| line(64_000, sent));
        let expected = Step { single_until: Some(t + 60_200 * MS), sound: Some(sound(20_000, 20)) };
        assert_eq!(steps, [(200, expected)]);
    }

    #[test]
    fn so_is_one_for_less() {
        let t = start();
        let steps = reports(&mut Thrift::default(), t, 0..30, |sent| line(48_000, sent));
        let expected = Step { single_until: Some(t + 60_200 * MS), sound: Some(sound(16_000, 40)) };
        assert_eq!(steps, [(200, expected)]);
    }

    #[test]
    fn the_second_copy_comes_back_later_and_later() {
        let t = start();
        let steps = reports(&mut Thrift::default(), t, 0..400, |sent| line(100_000, sent));
        let at: Vec<u32> = steps.iter().map(|(ms, _)| ms / 1_000).collect();
        let single = |step: &Step| step.single_until.is_some() && step.sound.is_none();
        assert!(steps.iter().all(|(_, step)| single(step)), "{steps:?}");
        assert_eq!(at, [0, 60, 180], "{steps:?}");
    }

    #[test]
    fn without_a_rate_the_sound_falls_step_by_step_and_rises_again_when_the_way_is_clear() {
        let t = start();
        let mut thrift = Thrift::default();
        let full = |_| Way { standing_ms: 150, carried: None, lost: 200 };
        let down = reports(&mut thrift, t, 0..20, full);
        let sounds: Vec<Sound> = down.iter().filter_map(|(_, step)| step.sound).collect();
        assert_eq!(sounds, SOUNDS[1..], "{down:?}");
        let up = reports(&mut thrift, t, 20..120, |_| Way { standing_ms: 0, carried: None, lost: 0 });
        let sounds: Vec<Sound> = up.iter().filter_map(|(_, step)| step.sound).collect();
        assert_eq!(sounds, [SOUNDS[4], SOUNDS[3], SOUNDS[2], SOUNDS[1], SOUNDS[0]], "{up:?}");
    }

    #[test]
    fn what_does_not_fit_is_not_tried_again_soon() {
        let t = start();
        let mut thrift = Thrift::default();
        let mut steps = reports(&mut thrift, t, 0..1, |sent| line(48_000, sent));
        // Single for good, so that only the rate is looked at.
        for ms in (1_000..400_000).step_by(100) {
            let way = line(48_000, SOUNDS[thrift.rung].cost() + 2 * PROBES);
            let word =
                Word { standing_ms: way.standing_ms, received_kbit_s: way.carried, lost_permille: way.lost };
            let step = thrift.told(word, Sending { mirroring: false, paths: 2 }, t + MS * ms);
            steps.extend(step.map(|step| (ms, step)));
        }
        let raises = steps.iter().filter(|(_, step)| step.sound == Some(sound(20_000, 20))).count();
        assert!((1..=6).contains(&raises), "{raises} in 400 s: {steps:?}");
    }

    #[test]
    fn a_queue_that_others_fill_costs_no_more_than_a_moment() {
        let t = start();
        let mut thrift = Thrift::default();
        let steps = reports(&mut thrift, t, 0..25, |sent| Way {
            standing_ms: 150,
            carried: u16::try_from(sent / 1_000).ok(),
            lost: 0,
        });
        assert!(steps.len() <= 2, "{steps:?}");
        assert_eq!(thrift.rung, 0, "{steps:?}");
    }

    #[test]
    fn losses_without_a_queue_and_a_moment_of_delay_change_nothing() {
        let t = start();
        let mut thrift = Thrift::default();
        let radio = |_| Way { standing_ms: 20, carried: Some(90), lost: 200 };
        assert_eq!(reports(&mut thrift, t, 0..60, radio), []);
        for ms in (60_000..70_000).step_by(100) {
            let word = Word {
                standing_ms: if ms % 1_000 < 200 { 200 } else { 30 },
                received_kbit_s: None,
                lost_permille: 0,
            };
            assert_eq!(thrift.told(word, Sending { mirroring: true, paths: 2 }, t + MS * ms), None);
        }
    }
}
