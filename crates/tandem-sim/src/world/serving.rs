//! What a supernode answers a leaf: places, publications, lists of others.

use tandem_core::admission::Work;
use tandem_core::peer::PeerRef;
use tandem_core::service::places::{Places, Room};
use tandem_core::service::view::{self, Asker, Known};

use super::leaves::{NOBODY, News};
use super::volunteer::{Health, Manner, Volunteer};
use super::{Event, FIRST_DAY_UNIX_MS, World};
use crate::policy::{LeafPolicy, SupernodeRules};
use crate::wheel::Ms;

/// As `Service` has them: referrals with a refusal or a reservation, descriptors in an answer, and for how long one who
/// finds no place is sent away.
const REFERRALS: usize = 4;
const ANSWER: usize = 16;
const BUSY_MS: u64 = 20_000;
/// What a slow supernode takes longer.
const SLOW_MS: Ms = 2_000;

impl<P: LeafPolicy> World<P> {
    pub(super) fn slowness_ms(&self, peer: u32) -> Ms {
        if self.volunteers[peer as usize].manner == Manner::Slow { SLOW_MS } else { 0 }
    }

    /// What it is given to publish reaches the directory.
    pub(super) fn passes_on(&self, peer: u32) -> bool {
        !matches!(self.volunteers[peer as usize].manner, Manner::Freeloading | Manner::Sybil)
    }

    /// A request goes to a supernode: whether it is taken on, or (`Err`) when to come again. `None`: nothing comes back,
    /// since the supernode is gone, or the line is cut.
    ///
    /// It is judged as it is sent; the answer comes a round trip later.
    fn request(&mut self, leaf: u32, peer: u32, work: Work) -> Option<(Result<(), u32>, Ms)> {
        let (from, to) = (self.leaves.place[leaf as usize], self.volunteers[peer as usize].place);
        if !self.volunteers[peer as usize].is_up() || !self.are_connected(from.region, to.region) {
            return None;
        }
        let now = self.now();
        let admitted = match P::SUPERNODES {
            SupernodeRules::Shed => self.volunteers[peer as usize].admit(work, &mut self.rng, now),
            SupernodeRules::ShutDown => self.old_request(peer),
        };
        self.measures.requests += 1;
        self.measures.shed += u64::from(admitted.is_err());
        let there_and_back = self.one_way_ms(from, to) + self.one_way_ms(to, from) + self.slowness_ms(peer);
        Some((admitted, there_and_back))
    }

    // ---- places -----------------------------------------------------------------------------------------------------

    /// The rules are [`Places`]' and [`tandem_core::admission`]'s, put together as in `Service::handle_reserve`.
    pub(super) fn ask_for_place(&mut self, leaf: u32, peer: u32, number: u16) {
        let in_call = self.leaves.in_call[leaf as usize];
        let homeless = self.leaves.homes(leaf).next().is_none();
        let network = Some(self.leaves.network[leaf as usize]);
        let places = &self.volunteers[peer as usize].places;
        // One that is in a call has its tickets still.
        let of_call = in_call && places.goes_on(leaf, places.ticket_of(leaf));
        let work = if of_call { Work::CallInProgress } else { Work::Signalling };
        let Some((admitted, after_ms)) = self.request(leaf, peer, work) else { return };
        if let Err(retry_ms) = admitted {
            self.tell(leaf, peer, number, News::Busy, retry_ms, after_ms);
            return;
        }
        let now = self.now();
        let soft = self.scenario.supernodes.places;
        let volunteer = &mut self.volunteers[peer as usize];
        let room = volunteer.places.room_for(leaf, homeless, network, soft as usize);
        if room != Some(Room::Place) && !volunteer.drains {
            volunteer.no_place += 1;
        }
        let Some(room) = room.filter(|_| !volunteer.drains) else {
            let retry_ms = self.rng.around(BUSY_MS, 50) as u32;
            self.tell(leaf, peer, number, News::Busy, retry_ms, after_ms);
            self.look_soon(peer);
            return;
        };
        volunteer.places.take(leaf, number, self.rng.next_u64(), room, network);
        let held = volunteer.places.len();
        if held > (soft + soft / 4) as usize {
            let what = format!("supernode {peer} holds {held} places; its owner allows {soft} and a quarter");
            self.measures.broke(now.mono_ms as Ms, "caps", what);
        }
        if !self.volunteers[peer as usize].consents {
            self.measures.broke(now.mono_ms as Ms, "consent", format!("{peer} serves without consent"));
        }
        if held as u32 * 100 >= soft * 65 {
            self.look_soon(peer);
        }
        self.tell(leaf, peer, number, News::Reserved, 0, after_ms);
    }

    /// A connection of a leaf is over, as the supernode sees it.
    pub(super) fn connection_gone(&mut self, leaf: u32, peer: u32, number: u16) {
        let now_ms = u64::from(self.wheel.now());
        self.volunteers[peer as usize].places.lost(leaf, number, now_ms);
    }

    /// All that have a place are told that it leaves.
    pub(super) fn tell_to_leave(&mut self, peer: u32, within_ms: u32) {
        let held: Vec<(u32, u16)> = self.volunteers[peer as usize].places.held().collect();
        for (leaf, number) in held {
            let after_ms =
                self.one_way_ms(self.volunteers[peer as usize].place, self.leaves.place[leaf as usize]);
            self.tell(leaf, peer, number, News::Drain, within_ms, after_ms);
        }
    }

    /// All connections end: `silently`, or so that the other ends notice.
    pub(super) fn end_connections(&mut self, peer: u32, silently: bool) {
        let places = std::mem::take(&mut self.volunteers[peer as usize].places);
        for (leaf, number) in Places::held(&places) {
            if silently {
                self.falls_silent(leaf, peer, number);
            } else {
                let after_ms =
                    self.one_way_ms(self.volunteers[peer as usize].place, self.leaves.place[leaf as usize]);
                self.tell(leaf, peer, number, News::Closed, 0, after_ms);
            }
            self.refresh(leaf);
        }
    }

    // ---- the directory ----------------------------------------------------------------------------------------------

    pub(super) fn publish(&mut self, leaf: u32, via: u32, number: u16) {
        let Some((admitted, after_ms)) = self.request(leaf, via, Work::Signalling) else { return };
        match admitted {
            Ok(()) => {
                let put_ms = self.directory_ms(via, true);
                self.tell(leaf, via, number, News::Published, 0, after_ms + put_ms);
            }
            Err(retry_ms) => self.tell(leaf, via, number, News::NotPublished, retry_ms, after_ms),
        }
    }

    /// How long the directory takes to store, or to find. A walk asks four at a time; of the eight nearest some may be
    /// dead, and each step that meets one waits for its time-out. (docs/SIMULATOR.md: how this was come by.)
    pub(super) fn directory_ms(&mut self, at: u32, stores: bool) -> Ms {
        let serving = self.serving.len().max(1) as u32;
        // Each step halves the distance about two and a half times: of N supernodes, log N to the base 6 steps.
        let steps = 1 + (serving.ilog2() * 10).div_ceil(26);
        let mut ms = 0;
        for _ in 0..steps + u32::from(stores) {
            let other = self.serving.get(self.rng.index(self.serving.len())).copied().unwrap_or(at);
            let (here, there) = (self.volunteers[at as usize].place, self.volunteers[other as usize].place);
            // Connect, ask; the slowest of four.
            ms += 2 * self.one_way_ms(here, there).max(self.one_way_ms(here, there));
            if self.rng.below(1_000) < u64::from(self.measures.dead_permille) {
                ms += DEAD_MS;
            }
        }
        ms
    }

    /// A home is asked for the record of `of`: whether it answers, when, and whether it has the record.
    pub(super) fn ask_look_up(&mut self, leaf: u32, home: u32, of: u32) -> Option<(Result<(), u32>, Ms)> {
        let (admitted, mut after_ms) = self.request(leaf, home, Work::Search)?;
        if admitted.is_ok() && !self.leaves.record[of as usize].contains(&home) {
            after_ms += self.directory_ms(home, false);
        }
        Some((admitted, after_ms))
    }

    /// A relay's own node is asked for a grant.
    pub(super) fn ask_grant(&mut self, leaf: u32, relay: u32, again: bool) -> Option<bool> {
        let work = if again { Work::CallInProgress } else { Work::Call };
        let (admitted, _) = self.request(leaf, relay, work)?;
        let volunteer = &self.volunteers[relay as usize];
        let room = volunteer.calls.len() < self.scenario.supernodes.calls as usize;
        Some(admitted.is_ok() && (room || again) && !volunteer.drains)
    }

    // ---- others -----------------------------------------------------------------------------------------------------

    /// `wait_ms`: this connection has asked too often.
    pub(super) fn answer_list(&mut self, leaf: u32, peer: u32, number: u16, wait_ms: Option<u32>) {
        let Some((admitted, after_ms)) = self.request(leaf, peer, Work::Search) else { return };
        match (admitted, wait_ms) {
            (Ok(()), None) => self.tell(leaf, peer, number, News::Told, 0, after_ms),
            (Err(retry_ms), _) | (Ok(()), Some(retry_ms)) => {
                self.tell(leaf, peer, number, News::NotTold, retry_ms, after_ms);
            }
        }
    }

    /// What that supernode shows that leaf's network, as it knows it when the answer arrives.
    fn view(&mut self, leaf: u32, peer: u32) -> Vec<Known<u32>> {
        let asker = Asker::new(Some(self.leaves.network[leaf as usize]), false, self.now());
        let of = &self.volunteers[peer as usize];
        let begun = FIRST_DAY_UNIX_MS + self.clock_ms(0);
        let known = of.known.iter().filter(|known| known.volunteer != peer).map(|known| {
            let volunteer = &self.volunteers[known.volunteer as usize];
            Known {
                key: known.volunteer,
                network: Some(volunteer.network),
                met: known.met,
                missed: volunteer.is_missed(known.missed),
                load_percent: volunteer.told.0,
                signed_unix_ms: begun + u64::from(volunteer.told.1),
            }
        });
        asker.view(known)
    }

    pub(super) fn learn_referrals(&mut self, leaf: u32, peer: u32) {
        let view = self.view(leaf, peer);
        let now = self.now();
        let shown = view::referrals(view, REFERRALS, &mut self.rng, now);
        self.learn(leaf, peer, shown.iter().map(|known| known.key).collect());
    }

    pub(super) fn learn_list(&mut self, leaf: u32, peer: u32) {
        let view = self.view(leaf, peer);
        let shown = view::sample(view, ANSWER - 1, &mut self.rng);
        let mut list = vec![peer];
        list.extend(shown.iter().map(|known| known.key));
        self.learn(leaf, peer, list);
    }

    fn learn(&mut self, leaf: u32, from: u32, told: Vec<u32>) {
        let known: Vec<_> =
            told.iter().map(|&peer| self.known_peer(peer, (peer != from).then_some(from))).collect();
        let loads: Vec<u32> = told.iter().map(|&peer| self.volunteers[peer as usize].told.0).collect();
        let now = self.now();
        if let Some(policy) = self.leaves.policy(leaf) {
            policy.handle_known(&known, now);
            for (peer, load_percent) in told.into_iter().zip(loads) {
                policy.set_load(PeerRef(peer), load_percent);
            }
        }
    }

    /// Relays for a call, as a home of its caller names them: in different networks.
    pub(super) fn relays_by<const N: usize>(&mut self, home: u32) -> [u32; N] {
        let mut relays = [NOBODY; N];
        let mut found = 0;
        for _ in 0..4 * N {
            let known = &self.volunteers[home as usize].known;
            let Some(drawn) = known.get(self.rng.index(known.len())) else { break };
            let volunteer: &Volunteer = &self.volunteers[drawn.volunteer as usize];
            let network = volunteer.network;
            let taken =
                relays[..found].iter().any(|&other| self.volunteers[other as usize].network == network);
            if !taken && !volunteer.is_missed(drawn.missed) {
                relays[found] = drawn.volunteer;
                found += 1;
                if found == N {
                    break;
                }
            }
        }
        relays
    }

    // ---- the old rules ----------------------------------------------------------------------------------------------

    /// It answers as long as it can; what is beyond that is lost. If that lasts it shuts down, and comes back later.
    fn old_request(&mut self, peer: u32) -> Result<(), u32> {
        let now = self.now();
        let old = self.scenario.old;
        let limit = self.scenario.supernodes.requests_per_second * old.shut_down_percent / 100;
        let volunteer = &mut self.volunteers[peer as usize];
        let admitted = volunteer.admit(Work::CallInProgress, &mut self.rng, now);
        if volunteer.requests.lately() <= limit {
            if volunteer.requests.lately() <= 1 {
                volunteer.overloaded = None;
            }
            return admitted;
        }
        let since = *volunteer.overloaded.get_or_insert(now.mono_ms as Ms);
        if now.mono_ms as Ms >= since + old.shut_down_after_s * 1_000 && volunteer.health == Health::Up {
            self.kill(peer, false);
            self.measures.shut_down += 1;
            self.push_in(old.back_after_minutes * 60_000, Event::Come(peer));
        }
        admitted
    }
}

/// How long a walk waits for one who is dead.
const DEAD_MS: Ms = 1_500;
