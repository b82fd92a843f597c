//! A page's attachment and a browser's media engine, joined by a wire under forced time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]
#![expect(clippy::disallowed_methods, reason = "forced time needs one real moment to count from")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::SdpAnswer;
use str0m::crypto::from_feature_flags;
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tandem_media::audio::Incoming;
use tandem_media::page::{OfferError, PageConfig, PageEnd, PageEvent, PageLeg};

const STEP: Duration = Duration::from_millis(5);
/// 20 ms of Opus, as far as its header goes.
const VOICE: &[u8] = &[0x78, 1, 2, 3];

fn node_at() -> SocketAddr {
    "127.0.0.1:40000".parse().unwrap()
}

fn page_at() -> SocketAddr {
    "127.0.0.1:50000".parse().unwrap()
}

/// What a browser does; the same engine, at the other end of the negotiation.
struct Page {
    rtc: Rtc,
    mid: Mid,
    connected: bool,
    closed: bool,
    /// Sequence number, time and payload.
    heard: Vec<(u64, u32, Vec<u8>)>,
}

struct Pair {
    now: Instant,
    page: Page,
    leg: PageLeg,
    told: Vec<PageEvent>,
    /// Nothing passes.
    cut: bool,
}

fn config() -> PageConfig {
    PageConfig { ssrc: 7, rtp_start: 1_000, candidates: vec![node_at()] }
}

fn engine(now: Instant) -> Rtc {
    let config = RtcConfig::new().set_crypto_provider(Arc::new(from_feature_flags())).set_rtp_mode(true);
    let mut rtc = config.clear_codecs().enable_opus(true, false).build(now);
    rtc.add_local_candidate(Candidate::host(page_at(), "udp").unwrap());
    rtc
}

/// A browser's engine and its offer, answered.
fn negotiated(now: Instant) -> (Page, PageLeg) {
    let mut rtc = engine(now);
    let mut api = rtc.sdp_api();
    let mid = api.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None);
    let (offer, pending) = api.apply().unwrap();
    let (leg, answer) = PageLeg::answer(&offer.to_sdp_string(), &config(), now).unwrap();
    let answer = SdpAnswer::from_sdp_string(&answer).unwrap();
    rtc.sdp_api().accept_answer(pending, answer).unwrap();
    (Page { rtc, mid, connected: false, closed: false, heard: Vec::new() }, leg)
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let (page, leg) = negotiated(now);
        Self { now, page, leg, told: Vec::new(), cut: false }
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        for _ in 0..400 {
            pair.step();
            if pair.page.connected && pair.leg.is_connected() {
                return pair;
            }
        }
        panic!("they do not find each other: {:?}", pair.told);
    }

    fn step(&mut self) {
        self.now += STEP;
        self.leg.handle_timeout(self.now);
        self.page.rtc.handle_input(Input::Timeout(self.now)).unwrap();
        self.exchange();
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }

    /// Until nobody has anything more to say.
    fn exchange(&mut self) {
        loop {
            let mut said = false;
            while let Some(transmit) = self.leg.poll_transmit() {
                said = true;
                if !self.cut
                    && let Ok(contents) = transmit.data.as_slice().try_into()
                {
                    let (proto, source, destination) = (Protocol::Udp, transmit.from, transmit.to);
                    let receive = Receive { proto, source, destination, contents };
                    self.page.rtc.handle_input(Input::Receive(self.now, receive)).unwrap();
                }
            }
            for data in self.page.drain() {
                said = true;
                if !self.cut {
                    self.leg.handle_packet(node_at(), page_at(), &data, self.now);
                }
            }
            self.told.extend(std::iter::from_fn(|| self.leg.poll_event()));
            if !said {
                return;
            }
        }
    }

    /// The page says one packet.
    fn say(&mut self, sequence: u64, rtp_time: u32, payload: &[u8]) {
        let write =
            RtpWrite::new(Pt::from(111), sequence.into(), rtp_time, self.now, Arc::<[u8]>::from(payload));
        let mid = self.page.mid;
        self.page.rtc.direct_api().stream_tx_by_mid(mid, None).unwrap().write_rtp(write);
        self.step();
    }

    /// The call says one packet.
    fn tell(&mut self, sequence: u64, rtp_time: u32, payload: &[u8]) {
        self.leg.send(&Incoming { sequence, rtp_time, payload }, self.now);
        self.step();
    }

    fn opus(&self) -> Vec<(u64, u32, &[u8])> {
        let opus = self.told.iter().filter_map(|event| match event {
            PageEvent::Opus { sequence, rtp_time, payload } => {
                Some((*sequence, *rtp_time, payload.as_slice()))
            }
            PageEvent::Connected | PageEvent::Ended(_) => None,
        });
        opus.collect()
    }

    fn end(&self) -> Option<PageEnd> {
        self.told.iter().find_map(|event| match event {
            PageEvent::Ended(how) => Some(*how),
            PageEvent::Connected | PageEvent::Opus { .. } => None,
        })
    }
}

impl Page {
    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) => return out,
                Output::Transmit(transmit) => out.push(transmit.contents.to_vec()),
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::Closed) => self.closed = true,
                Output::Event(Event::RtpPacket(packet)) => {
                    self.heard.push((*packet.seq_no, packet.header.timestamp, packet.payload.to_vec()));
                }
                Output::Event(_) => {}
            }
        }
    }
}

#[test]
fn sound_passes_untouched_both_ways_and_what_was_lost_stays_lost() {
    let mut pair = Pair::connected();
    let long = [&[0x78], [0x5a; 1_000].as_slice()].concat();
    for (sequence, rtp_time, payload) in [(500, 9_000, VOICE), (501, 9_960, &long), (504, 12_840, VOICE)] {
        pair.say(sequence, rtp_time, payload);
    }
    assert_eq!(pair.opus(), [(500, 9_000, VOICE), (501, 9_960, &long), (504, 12_840, VOICE)]);

    for (sequence, rtp_time, payload) in
        [(70_000, 100, VOICE), (70_001, 1_060, &long), (70_005, 4_900, VOICE), (70_004, 3_940, VOICE)]
    {
        pair.tell(sequence, rtp_time, payload);
    }
    let first = pair.page.heard[0].0;
    let heard: Vec<(u64, u32, usize)> = pair
        .page
        .heard
        .iter()
        .map(|(sequence, time, payload)| (sequence - first, time - 1_000, payload.len()))
        .collect();
    assert_eq!(heard, [(0, 0, 4), (1, 960, 1_001), (5, 4_800, 4), (4, 3_840, 4)]);
}

#[test]
fn a_page_that_falls_silent_is_gone_after_five_seconds_and_one_that_never_came_after_ten() {
    let mut pair = Pair::connected();
    pair.run(Duration::from_secs(30));
    assert_eq!(pair.end(), None, "one that only listens is there: its checks come");
    pair.cut = true;
    pair.run(Duration::from_millis(2_000));
    assert_eq!(pair.end(), None);
    pair.run(Duration::from_millis(3_500));
    assert_eq!(pair.end(), Some(PageEnd::Silent));
    assert!(!pair.leg.is_connected() && pair.leg.poll_timeout().is_none());

    let mut pair = Pair::new();
    pair.cut = true;
    pair.run(Duration::from_millis(9_900));
    assert_eq!(pair.end(), None);
    pair.run(Duration::from_millis(200));
    assert_eq!(pair.end(), Some(PageEnd::Silent));
}

#[test]
fn whoever_closes_says_so() {
    let mut pair = Pair::connected();
    pair.page.rtc.close().unwrap();
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.end(), Some(PageEnd::Closed));

    let mut pair = Pair::connected();
    pair.leg.close(pair.now);
    pair.exchange();
    pair.run(Duration::from_millis(100));
    assert!(pair.page.closed);
    assert_eq!(pair.end(), None, "who closed it knows");
    pair.tell(1, 0, VOICE);
    assert!(pair.page.heard.is_empty());
}

#[test]
fn strangers_on_the_machine_get_nothing_and_change_nothing() {
    let mut pair = Pair::connected();
    let stranger: SocketAddr = "127.0.0.1:6666".parse().unwrap();
    let mut random = Random(5);
    for _ in 0..5_000 {
        let data: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        pair.leg.handle_packet(node_at(), stranger, &data, pair.now);
        // Even from the page's own place it must be the page's keys.
        pair.leg.handle_packet(node_at(), page_at(), &data, pair.now);
        assert!(pair.leg.poll_transmit().is_none_or(|transmit| transmit.to == page_at()));
    }
    assert_eq!(pair.opus(), []);
    assert_eq!(pair.end(), None);
    pair.say(1, 0, VOICE);
    assert_eq!(pair.opus().len(), 1, "the page is still heard");
}

#[test]
fn a_flood_that_nobody_fetches_is_bounded() {
    let mut pair = Pair::connected();
    for sequence in 0..2_000u64 {
        let write = RtpWrite::new(Pt::from(111), sequence.into(), 0, pair.now, Arc::<[u8]>::from(VOICE));
        let mid = pair.page.mid;
        pair.page.rtc.direct_api().stream_tx_by_mid(mid, None).unwrap().write_rtp(write);
        pair.now += Duration::from_millis(1);
        pair.page.rtc.handle_input(Input::Timeout(pair.now)).unwrap();
        for data in pair.page.drain() {
            pair.leg.handle_packet(node_at(), page_at(), &data, pair.now);
        }
        pair.leg.send(&Incoming { sequence, rtp_time: 0, payload: VOICE }, pair.now);
    }
    let (events, transmits) = (
        std::iter::from_fn(|| pair.leg.poll_event()).count(),
        std::iter::from_fn(|| pair.leg.poll_transmit()).count(),
    );
    assert!(events <= 256 && transmits <= 256, "{events} {transmits}");
}

#[test]
fn no_offer_makes_it_fall_over() {
    let now = Instant::now();
    let mut rtc = engine(now);
    let mut api = rtc.sdp_api();
    api.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None);
    let whole = api.apply().unwrap().0.to_sdp_string();
    let mut random = Random(9);
    let mut answered = 0;
    for _ in 0..2_000 {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random.next() as u8),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        answered += u32::from(PageLeg::answer(&text, &config(), now).is_ok());
    }
    assert!(answered > 50, "what does not matter may be anything: {answered}");
    assert!(matches!(PageLeg::answer("v=0\r\n", &config(), now), Err(OfferError::Streams(0))));
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
