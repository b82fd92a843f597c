//! Leaves: what their policy asks for, and what they hear.

use tandem_core::backoff::TokenBucket;
use tandem_core::homes::{Command, HOMES, Remembered};
use tandem_core::peer::{KnownPeer, PeerRef};
use tandem_core::rng::Rng;
use tandem_core::service;

use super::volunteer::{Health, NEVER};
use super::{Event, World};
use crate::geography::{self, Place};
use crate::policy::LeafPolicy;
use crate::scenario::Scenario;
use crate::wheel::Ms;

/// Nobody.
pub(super) const NOBODY: u32 = u32::MAX;
/// Supernodes that a leaf remembers from the time before the world began.
const REMEMBERED: usize = 12;
/// A supernode hears nothing on a connection for so long: it is dead. As `Service` has it.
const IDLE_MS: Ms = 30_000;
/// Somebody who comes back after about this long where the wave of the day is highest.
pub(super) const AWAY_MS: u64 = 4 * 3_600_000;
/// Leaves of one network (/16), in the mean, and networks at most.
const LEAVES_A_NETWORK: u32 = 25;
const NETWORKS_MAX: u32 = 20_000;
/// One leaf's attempts in a minute: those it has saved up, and those that come anew (spec/overlay.md).
const ATTEMPTS_A_MINUTE: u8 = 10 + 15;

/// What a leaf hears on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Opened,
    Closed,
    /// Nothing is answered any more.
    Silent,
    Reserved,
    /// `value`: how long to wait.
    Busy,
    Published,
    /// `value`: how long to wait.
    NotPublished,
    /// A list of supernodes.
    Told,
    /// `value`: how long to wait.
    NotTold,
    /// `value`: until when the supernode leaves.
    Drain,
}

/// A connection of a leaf.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) peer: u32,
    /// Old connections' news are not the new one's.
    pub(super) number: u16,
    /// How often it may ask for other supernodes.
    lists: TokenBucket,
}

#[derive(Debug)]
pub(super) enum Leaf<P> {
    /// What it has on disk.
    Off(Box<[Remembered]>),
    On(Box<P>),
}

/// All leaves, a column each.
pub(super) struct Leaves<P> {
    pub(super) leaf: Vec<Leaf<P>>,
    lines: Vec<Vec<Line>>,
    /// The homes in its record in the directory, and in that which is on its way there.
    pub(super) record: Vec<[u32; HOMES]>,
    publishing: Vec<[u32; HOMES]>,
    /// When the record was stored, 0 if it never was.
    pub(super) stored: Vec<Ms>,
    due: Vec<Ms>,
    pub(super) place: Vec<Place>,
    pub(super) network: Vec<u32>,
    session: Vec<u16>,
    number: Vec<u16>,
    /// Homes in its record that live and hold its place.
    reach: Vec<u8>,
    pub(super) in_call: Vec<bool>,
    /// The minute of its last attempt, and attempts in it.
    attempts: Vec<(u16, u8)>,
    pub(super) online: u32,
    pub(super) reachable: u32,
    pub(super) networks: u32,
}

impl<P: LeafPolicy> Leaves<P> {
    pub(super) fn new(scenario: &Scenario, rng: &mut Rng) -> Self {
        let count = scenario.nodes as usize;
        let networks = (scenario.nodes / LEAVES_A_NETWORK).clamp(50, NETWORKS_MAX);
        let place =
            |rng: &mut Rng| Place { region: geography::region(rng), access_ms: geography::access_ms(rng) };
        let place: Vec<Place> = (0..count).map(|_| place(rng)).collect();
        Self {
            leaf: (0..count).map(|_| Leaf::Off(Box::new([]))).collect(),
            lines: (0..count).map(|_| Vec::new()).collect(),
            record: vec![[NOBODY; HOMES]; count],
            publishing: vec![[NOBODY; HOMES]; count],
            stored: vec![0; count],
            due: vec![NEVER; count],
            place,
            network: (0..count).map(|_| rng.below(u64::from(networks)) as u32).collect(),
            session: vec![0; count],
            number: vec![0; count],
            reach: vec![0; count],
            in_call: vec![false; count],
            attempts: vec![(0, 0); count],
            online: 0,
            reachable: 0,
            networks,
        }
    }

    pub(super) fn is_online(&self, leaf: u32) -> bool {
        matches!(self.leaf[leaf as usize], Leaf::On(_))
    }

    pub(super) fn session_of(&self, leaf: u32) -> u16 {
        self.session[leaf as usize]
    }

    pub(super) fn policy(&mut self, leaf: u32) -> Option<&mut P> {
        match &mut self.leaf[leaf as usize] {
            Leaf::On(policy) => Some(policy),
            Leaf::Off(_) => None,
        }
    }

    pub(super) fn homes(&self, leaf: u32) -> impl Iterator<Item = PeerRef> {
        let policy = match &self.leaf[leaf as usize] {
            Leaf::On(policy) => Some(policy),
            Leaf::Off(_) => None,
        };
        policy.into_iter().flat_map(|policy| policy.reserved())
    }

    fn line(&self, leaf: u32, peer: u32) -> Option<&Line> {
        self.lines[leaf as usize].iter().find(|line| line.peer == peer)
    }

    fn has_line(&self, leaf: u32, peer: u32, number: u16) -> bool {
        self.line(leaf, peer).is_some_and(|line| line.number == number)
    }

    fn drop_line(&mut self, leaf: u32, peer: u32) -> Option<u16> {
        let lines = &mut self.lines[leaf as usize];
        let at = lines.iter().position(|line| line.peer == peer)?;
        Some(lines.swap_remove(at).number)
    }

    /// Bytes held for all leaves, but for what their policies hold on the heap.
    pub(super) fn bytes(&self) -> usize {
        let lines: usize = self.lines.iter().map(|lines| lines.capacity() * size_of::<Line>()).sum();
        let boxes = |leaf: &Leaf<P>| match leaf {
            Leaf::On(_) => size_of::<P>(),
            Leaf::Off(list) => list.len() * size_of::<Remembered>(),
        };
        let boxes: usize = self.leaf.iter().map(boxes).sum();
        let columns = size_of::<Leaf<P>>()
            + size_of::<Vec<Line>>()
            + 2 * size_of::<[u32; HOMES]>()
            + 8
            + 2
            + 4
            + 4
            + 2
            + 4;
        self.leaf.len() * columns + lines + boxes
    }
}

impl<P: LeafPolicy> World<P> {
    // ---- coming and going -------------------------------------------------------------------------------------------

    /// Everybody has a list of supernodes; some come while the world begins, the others later.
    pub(super) fn settle_leaves(&mut self) {
        let start_ms = u64::from(self.scenario.people.start_minutes) * 60_000;
        let share = u64::from(self.scenario.people.online_at_start_percent);
        for leaf in 0..self.scenario.nodes {
            let clock_ms = self.clock_ms(0);
            let region = self.leaves.place[leaf as usize].region;
            let wave = geography::presence_percent(region, clock_ms);
            // The mean of the wave over a day is about 62 %.
            let comes = if self.scenario.people.churn { share * wave / 62 } else { share };
            if self.rng.below(100) < comes {
                let at = self.rng.below(start_ms);
                self.push_at(at, Event::Start { session: 0, leaf });
            } else if self.scenario.people.churn {
                self.come_back_later(leaf, start_ms);
            }
        }
    }

    /// When a leaf that is away comes back.
    fn come_back_later(&mut self, leaf: u32, from: u64) {
        let session = self.leaves.session[leaf as usize];
        let region = self.leaves.place[leaf as usize].region;
        let clock_ms = self.clock_ms(from);
        let back = geography::comes_online_ms(region, clock_ms, AWAY_MS, &mut self.rng) - clock_ms;
        self.push_at(from + back, Event::Start { session, leaf });
    }

    pub(super) fn start_leaf(&mut self, leaf: u32, session: u16) {
        let at = leaf as usize;
        if self.leaves.session[at] != session || self.leaves.is_online(leaf) {
            return;
        }
        let now = self.now();
        let mut policy = Box::new(P::new(self.rng.next_u64(), now));
        let remembered = match &mut self.leaves.leaf[at] {
            Leaf::Off(remembered) => std::mem::take(remembered),
            Leaf::On(_) => return,
        };
        if remembered.is_empty() {
            let list = self.known_from_before();
            policy.handle_known(&list, now);
        } else {
            let list: Vec<(KnownPeer, Remembered)> =
                remembered.iter().map(|it| (self.known_peer(it.peer.0, None), *it)).collect();
            policy.handle_remembered(&list, now);
        }
        self.leaves.leaf[at] = Leaf::On(policy);
        self.leaves.online += 1;
        self.leaves.session[at] = session.wrapping_add(1);
        if self.scenario.people.churn {
            let for_ms = geography::client_session_ms(&mut self.rng);
            let now = u64::from(self.wheel.now());
            self.push_at(now + for_ms, Event::Stop { session: session.wrapping_add(1), leaf });
        }
        self.settle(leaf);
        self.refresh(leaf);
    }

    /// What a node has on disk whose last session was before the world began, or that was just installed.
    fn known_from_before(&mut self) -> Vec<KnownPeer> {
        let mut list: Vec<KnownPeer> = Vec::with_capacity(REMEMBERED);
        for _ in 0..REMEMBERED {
            if !self.serving.is_empty() {
                let peer = self.serving[self.rng.index(self.serving.len())];
                if !list.iter().any(|known| known.peer.0 == peer) {
                    list.push(self.known_peer(peer, None));
                }
            }
        }
        list
    }

    pub(super) fn known_peer(&self, peer: u32, referrer: Option<u32>) -> KnownPeer {
        let volunteer = &self.volunteers[peer as usize];
        KnownPeer {
            peer: PeerRef(peer),
            network: volunteer.network,
            referrer: referrer.map(PeerRef),
            port_443: volunteer.port_443,
            release: volunteer.release,
        }
    }

    pub(super) fn stop_leaf(&mut self, leaf: u32, session: u16) {
        if self.leaves.session[leaf as usize] != session || !self.leaves.is_online(leaf) {
            return;
        }
        let vanishes = self.rng.below(100) < u64::from(self.scenario.people.vanish_percent);
        self.turn_off(leaf, vanishes);
        if self.scenario.people.churn {
            self.come_back_later(leaf, u64::from(self.wheel.now()));
        }
    }

    /// It ends; its homes are told at once, or (`vanishes`) find out.
    pub(super) fn turn_off(&mut self, leaf: u32, vanishes: bool) {
        let at = leaf as usize;
        self.leaf_leaves_calls(leaf);
        let Leaf::On(policy) = &self.leaves.leaf[at] else { return };
        let remembered: Box<[Remembered]> = policy.remembered().collect();
        self.leaves.leaf[at] = Leaf::Off(remembered);
        self.leaves.online -= 1;
        if self.leaves.reach[at] > 0 {
            self.leaves.reachable -= 1;
        }
        self.leaves.reach[at] = 0;
        self.leaves.due[at] = NEVER;
        self.leaves.session[at] = self.leaves.session[at].wrapping_add(1);
        for line in std::mem::take(&mut self.leaves.lines[at]) {
            if vanishes {
                self.push_in(IDLE_MS, Event::Gone { number: line.number, leaf, peer: line.peer });
            } else {
                self.connection_gone(leaf, line.peer, line.number);
            }
        }
    }

    /// It ends, and starts again after so long.
    pub(super) fn restart_leaf(&mut self, leaf: u32, after_ms: Ms) {
        if self.leaves.is_online(leaf) {
            let vanishes = self.rng.below(100) < u64::from(self.scenario.people.vanish_percent);
            self.turn_off(leaf, vanishes);
            let session = self.leaves.session[leaf as usize];
            self.push_in(after_ms, Event::Start { session, leaf });
        }
    }

    // ---- what its policy wants --------------------------------------------------------------------------------------

    pub(super) fn leaf_due(&mut self, leaf: u32) {
        if self.leaves.due[leaf as usize] != self.wheel.now() {
            return;
        }
        self.leaves.due[leaf as usize] = NEVER;
        let now = self.now();
        if let Some(policy) = self.leaves.policy(leaf) {
            policy.handle_timeout(now);
            self.settle(leaf);
        }
    }

    /// Does what the policy wants, and notes when it wants to be woken.
    pub(super) fn settle(&mut self, leaf: u32) {
        while let Some(command) = self.leaves.policy(leaf).and_then(LeafPolicy::poll_command) {
            self.leaf_command(leaf, command);
        }
        let at = leaf as usize;
        let Leaf::On(policy) = &self.leaves.leaf[at] else { return };
        let due = policy.poll_timeout().map_or(NEVER, |due_ms| Ms::try_from(due_ms).unwrap_or(NEVER));
        if due < self.leaves.due[at] {
            let due = due.max(self.wheel.now() + 1);
            self.leaves.due[at] = due;
            self.push_at(u64::from(due), Event::Due(leaf));
        }
    }

    fn leaf_command(&mut self, leaf: u32, command: Command) {
        match command {
            Command::Connect(peer) => self.connect(leaf, peer.0),
            Command::Reserve(peer) => {
                if let Some(number) = self.leaves.line(leaf, peer.0).map(|line| line.number) {
                    self.ask_for_place(leaf, peer.0, number);
                }
            }
            Command::Publish { via } => {
                let mut homes = [NOBODY; HOMES];
                for (slot, home) in homes.iter_mut().zip(self.leaves.homes(leaf)) {
                    *slot = home.0;
                }
                self.leaves.publishing[leaf as usize] = homes;
                if let Some(number) = self.leaves.line(leaf, via.0).map(|line| line.number) {
                    self.publish(leaf, via.0, number);
                }
            }
            Command::AskSupernodes(peer) => self.ask_supernodes(leaf, peer.0),
            Command::Release(peer) => {
                if let Some(number) = self.leaves.drop_line(leaf, peer.0) {
                    self.connection_gone(leaf, peer.0, number);
                }
            }
            // They are counted, not sent: the world says who is silent.
            Command::Heartbeat { .. } => {}
        }
    }

    fn connect(&mut self, leaf: u32, peer: u32) {
        let at = leaf as usize;
        let now = self.now();
        let number = self.leaves.number[at].wrapping_add(1);
        self.leaves.number[at] = number;
        self.leaves.lines[at].push(Line { peer, number, lists: service::lists(now.mono_ms) });
        self.count_attempt(leaf);
        let (from, volunteer) = (self.leaves.place[at], &self.volunteers[peer as usize]);
        let (to, health) = (volunteer.place, volunteer.health);
        if !self.are_connected(from.region, to.region) {
            return;
        }
        let there_and_back = self.one_way_ms(from, to) + self.one_way_ms(to, from);
        match health {
            // A handshake, and then the stream's hellos.
            Health::Up if self.volunteers[peer as usize].serves => {
                let slow = self.slowness_ms(peer);
                self.tell(leaf, peer, number, News::Opened, 0, 2 * there_and_back + slow);
            }
            Health::Up | Health::Killed => self.tell(leaf, peer, number, News::Closed, 0, there_and_back),
            Health::Off | Health::Vanished => {}
        }
    }

    fn count_attempt(&mut self, leaf: u32) {
        self.measures.attempts += 1;
        let minute = (self.wheel.now() / 60_000) as u16;
        let attempts = &mut self.leaves.attempts[leaf as usize];
        *attempts = if attempts.0 == minute { (minute, attempts.1.saturating_add(1)) } else { (minute, 1) };
        if attempts.1 == ATTEMPTS_A_MINUTE + 1 {
            self.measures.broke(
                self.wheel.now(),
                "retries",
                format!("leaf {leaf} makes more than {ATTEMPTS_A_MINUTE} attempts in a minute"),
            );
        }
    }

    fn ask_supernodes(&mut self, leaf: u32, peer: u32) {
        let now_ms = u64::from(self.wheel.now());
        let lines = &mut self.leaves.lines[leaf as usize];
        let Some(line) = lines.iter_mut().find(|line| line.peer == peer) else { return };
        let number = line.number;
        let wait_ms = if line.lists.take(now_ms) { None } else { Some(line.lists.wait_ms(now_ms) as u32) };
        self.answer_list(leaf, peer, number, wait_ms);
    }

    // ---- what it hears ----------------------------------------------------------------------------------------------

    /// The leaf hears that after so long.
    pub(super) fn tell(&mut self, leaf: u32, peer: u32, number: u16, news: News, value: u32, after_ms: Ms) {
        self.push_in(after_ms, Event::News { news, number, leaf, peer, value });
    }

    pub(super) fn hear(&mut self, leaf: u32, peer: u32, number: u16, news: News, value: u32) {
        let regions = (self.leaves.place[leaf as usize].region, self.volunteers[peer as usize].place.region);
        let closes = matches!(news, News::Silent);
        if !self.leaves.has_line(leaf, peer, number) || !(closes || self.are_connected(regions.0, regions.1))
        {
            return;
        }
        let now = self.now();
        let peer_ref = PeerRef(peer);
        let news = self.news_by_now(leaf, peer, number, news);
        let Some(news) = news else { return };
        let rtt_ms =
            geography::round_trip_ms(self.leaves.place[leaf as usize], self.volunteers[peer as usize].place);
        if matches!(news, News::Closed | News::Silent) {
            self.leaves.drop_line(leaf, peer);
        }
        let Some(policy) = self.leaves.policy(leaf) else { return };
        match news {
            News::Opened => policy.handle_opened(peer_ref, rtt_ms, now),
            News::Closed => policy.handle_closed(peer_ref, now),
            News::Silent => policy.handle_silent(peer_ref, now),
            News::Reserved => policy.handle_reserved(peer_ref, now),
            News::Busy => policy.handle_busy(peer_ref, value, now),
            News::Published => policy.handle_published(peer_ref, now),
            News::NotPublished => policy.handle_publish_failed(peer_ref, value, now),
            News::NotTold => policy.handle_ask_refused(value, now),
            News::Drain => policy.handle_drain(peer_ref, value, now),
            News::Told => {}
        }
        match news {
            News::Reserved => self.learn_referrals(leaf, peer),
            News::Busy if value >= 10_000 => self.learn_referrals(leaf, peer),
            News::Told => self.learn_list(leaf, peer),
            News::Published => self.store_record(leaf, peer),
            _ => {}
        }
        self.settle(leaf);
        if matches!(news, News::Reserved | News::Closed | News::Silent | News::Published) {
            self.refresh(leaf);
        }
    }

    /// What was answered may have been overtaken by the supernode's end.
    fn news_by_now(&mut self, leaf: u32, peer: u32, number: u16, news: News) -> Option<News> {
        let volunteer = &self.volunteers[peer as usize];
        if volunteer.is_up() || !matches!(news, News::Opened | News::Reserved) {
            return Some(news);
        }
        match (volunteer.health, news) {
            (Health::Up | Health::Killed, _) => Some(News::Closed),
            (_, News::Reserved) => {
                self.falls_silent(leaf, peer, number);
                Some(news)
            }
            _ => None,
        }
    }

    /// Nothing is answered on this connection from now on: the leaf will notice by a heartbeat.
    pub(super) fn falls_silent(&mut self, leaf: u32, peer: u32, number: u16) {
        let (beat_ms, patience_ms) = P::beats(self.leaves.in_call[leaf as usize]);
        let after_ms = self.rng.below(beat_ms) + patience_ms;
        self.tell(leaf, peer, number, News::Silent, 0, after_ms as Ms);
    }

    fn store_record(&mut self, leaf: u32, via: u32) {
        if self.passes_on(via) {
            self.leaves.record[leaf as usize] = self.leaves.publishing[leaf as usize];
            self.leaves.stored[leaf as usize] = self.wheel.now().max(1);
        }
    }

    /// Who can be called at this leaf: counted anew.
    pub(super) fn refresh(&mut self, leaf: u32) {
        let at = leaf as usize;
        if !self.leaves.is_online(leaf) {
            return;
        }
        let region = self.leaves.place[at].region;
        let alive = |home: &&u32| {
            **home != NOBODY && {
                let volunteer = &self.volunteers[**home as usize];
                volunteer.is_up()
                    && volunteer.places.connection_of(leaf).is_some()
                    && self.are_connected(region, volunteer.place.region)
            }
        };
        let reach = self.leaves.record[at].iter().filter(alive).count() as u8;
        let before = std::mem::replace(&mut self.leaves.reach[at], reach);
        match (before > 0, reach > 0) {
            (false, true) => self.leaves.reachable += 1,
            (true, false) => self.leaves.reachable -= 1,
            _ => {}
        }
    }
}
