//! The supernodes of a crowd: places and refusals as `Service` has them, what they tell of each other, and the election
//! among them.

use std::collections::BTreeMap;

use tandem_core::admission::{Admission, Work};
use tandem_core::election::{Candidacy, Command as Step, Config, Invitation, Sighted, State};
use tandem_core::peer::PeerRef;
use tandem_core::rng::Rng;
use tandem_core::time::Now;
use tandem_proto::signed::Roles;

use crate::crowd_world::{Ask, Crowd, Line, NODES_MAX, News, Plan, network_of, network_of_leaf};

pub(crate) const SECOND_MS: u64 = 1_000;
/// Places of one supernode, and what it answers in a second in the long run.
pub(crate) const PLACES: usize = 400;
pub(crate) const REQUESTS_PER_SECOND: u32 = 100;
/// As in `Service`: places kept for those whose line broke, the share above the limit, and one network's share of that.
const PLACE_KEPT_MS: u64 = 60_000;
const ABOVE: usize = PLACES / 4;
const ABOVE_OF_NETWORK: usize = PLACES / 32;
/// Nothing is heard for this long: the other is gone.
pub(crate) const IDLE_MS: u64 = 30_000;
const BUSY_MS: u64 = 20_000;
const REFERRALS: usize = 4;
const ANSWER: usize = 16;
const VIEW: usize = 24;
const KNOWN: usize = 256;
const FULL_PERCENT: u32 = 90;
const SPOKE_LATELY_MS: u64 = 2 * 60_000;
/// A descriptor is signed anew when the load moved, and when it is old; it takes so long to come round.
const RESIGN_LOAD_MS: u64 = 60_000;
const RESIGN_MS: u64 = 30 * 60_000;
const ROUND_MS: u64 = 20_000;
/// Streams that a supernode opens to others; those that a reserve watches.
const NEIGHBOURS: usize = 12;
const WATCHED: usize = 6;
/// Nobody answers: given up after this.
const SILENT_MS: u64 = 10_000;

/// Supernodes somebody was told of, with the loads that their descriptors give.
pub(crate) type Told = Vec<(u16, u32)>;

/// Among supernodes and reserves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Message {
    Announce,
    Invite { load_percent: u32, not_after_unix_ms: u64 },
    Answer { accepted: bool },
    AskLoad,
    Load { of: usize, load_percent: Option<u32> },
}

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Up,
    /// The process ended: connections are reset, and refused from then on.
    Killed,
    /// The machine vanished: nothing is answered.
    Vanished,
}

pub(crate) struct Supernode {
    pub(crate) candidacy: Candidacy,
    admission: Admission,
    pub(crate) health: Health,
    died_ms: u64,
    pub(crate) consents: bool,
    pub(crate) serving: bool,
    /// Who is reserved, on which connection.
    places: BTreeMap<usize, Line>,
    kept: BTreeMap<usize, u64>,
    /// Let in above the limit since they had no home.
    above: Vec<usize>,
    /// The load of its newest descriptor, and when that was signed; the same as others know it, and since when they know
    /// of it at all.
    signed: (u32, u64),
    pub(crate) told: (u32, u64),
    pub(crate) listed_ms: Option<u64>,
    /// Whose streams stand, or whom a reserve asks now and then; and whether it opened the stream itself.
    neighbours: Vec<(usize, bool)>,
    /// Those that it tried to reach in vain.
    missed: Vec<bool>,
    /// Requests in this second; the most in any, and the most answered otherwise than with `Busy`.
    second: (u64, u32, u32),
    pub(crate) worst: (u32, u32),
}

impl Supernode {
    pub(crate) fn new(index: usize, plan: Plan, seed: u64, now: Now) -> Self {
        Self {
            candidacy: Candidacy::new(Config { steady: index < plan.first }, seed, now),
            admission: Admission::new(REQUESTS_PER_SECOND, now.mono_ms),
            health: Health::Up,
            died_ms: 0,
            consents: index < plan.first + plan.reserves,
            serving: false,
            places: BTreeMap::new(),
            kept: BTreeMap::new(),
            above: Vec::new(),
            signed: (0, 0),
            told: (0, 0),
            listed_ms: None,
            neighbours: Vec::new(),
            missed: vec![false; NODES_MAX],
            second: (0, 0, 0),
            worst: (0, 0),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.health == Health::Up && self.serving
    }

    /// Its descriptor has come round. That of a dead one stays.
    fn is_listed(&self, now_ms: u64) -> bool {
        self.listed_ms.is_some_and(|listed_ms| listed_ms <= now_ms)
    }

    /// It is dead, and somebody who has a stream to it, or (a reserve) asks now and then, has noticed.
    fn is_missed(&self, by_supernode: bool, now_ms: u64) -> bool {
        let after_ms = match self.health {
            Health::Up => return false,
            Health::Killed if by_supernode => 0,
            // It loses homes of its own, too, and asks the others when it does.
            Health::Killed => IDLE_MS / 2,
            Health::Vanished if by_supernode => IDLE_MS,
            Health::Vanished => 2 * IDLE_MS,
        };
        now_ms >= self.died_ms + after_ms
    }

    pub(crate) fn clients(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn load_percent(&self) -> u32 {
        u32::try_from(self.places.len() * 100 / PLACES).unwrap().min(100) / 10 * 10
    }

    fn holds(&self, line: Line) -> bool {
        self.is_up() && self.places.get(&line.leaf) == Some(&line)
    }

    fn count(&mut self, answered: bool, now_ms: u64) {
        let second = now_ms / SECOND_MS;
        if self.second.0 != second {
            self.second = (second, 0, 0);
        }
        self.second.1 += 1;
        self.second.2 += u32::from(answered);
        self.worst = (self.worst.0.max(self.second.1), self.worst.1.max(self.second.2));
    }

    fn admit(&mut self, work: Work, rng: &mut Rng, now_ms: u64) -> Result<(), u32> {
        let admitted = self.admission.admit(work, rng, now_ms);
        self.count(admitted.is_ok(), now_ms);
        admitted
    }

    /// The rules of `Service::handle_reserve`.
    fn has_place(&self, leaf: usize, homeless: bool) -> Option<bool> {
        let returning = self.places.contains_key(&leaf) || self.kept.contains_key(&leaf);
        let kept = if returning { 0 } else { self.kept.len().min(ABOVE) };
        if self.places.len() + kept < PLACES + if returning { ABOVE } else { 0 } {
            return Some(false);
        }
        let network = network_of_leaf(leaf);
        let here = self.above.iter().filter(|other| network_of_leaf(**other) == network).count();
        (homeless && self.places.len() < PLACES + ABOVE && here < ABOVE_OF_NETWORK).then_some(true)
    }

    fn goes_on(&self, leaf: usize, ticket: bool) -> bool {
        self.places.contains_key(&leaf) || ticket && self.kept.contains_key(&leaf)
    }

    /// A stream ended: its place is kept for a while.
    fn lose(&mut self, line: Line, now_ms: u64) {
        if self.places.get(&line.leaf) == Some(&line) {
            self.places.remove(&line.leaf);
            self.kept.insert(line.leaf, now_ms + PLACE_KEPT_MS);
        }
    }

    fn expire(&mut self, now_ms: u64) {
        self.kept.retain(|_, until_ms| now_ms < *until_ms);
        let (places, kept) = (&self.places, &self.kept);
        self.above.retain(|leaf| places.contains_key(leaf) || kept.contains_key(leaf));
    }
}

impl Crowd {
    pub(crate) fn start_supernodes(&mut self, plan: Plan) {
        for index in 0..plan.first + plan.reserves {
            self.supernodes[index].candidacy.handle_roles(Roles::DIRECTORY, Roles::DIRECTORY, self.now);
            self.take_steps(index);
        }
        for node in &mut self.supernodes[..plan.first] {
            node.listed_ms = Some(0);
        }
    }

    // ---- what leaves ask --------------------------------------------------------------------------------------------

    pub(crate) fn answer(&mut self, line: Line, ask: Ask) {
        let now_ms = self.now.mono_ms;
        let node = &mut self.supernodes[line.peer.0 as usize];
        match node.health {
            Health::Vanished => return,
            Health::Up if node.serving => {}
            Health::Up | Health::Killed => return self.tell(line, News::Closed),
        }
        match ask {
            Ask::Hello => self.tell(line, News::Opened),
            Ask::Reserve { homeless, in_call, ticket } => self.reserve(line, homeless, in_call, ticket),
            Ask::Publish => {
                let news = match node.admit(Work::Signalling, &mut self.rng, now_ms) {
                    Ok(()) => News::Published,
                    Err(retry_ms) => News::NotPublished(retry_ms),
                };
                self.tell(line, news);
            }
            Ask::Supernodes => {
                let news = match node.admit(Work::Search, &mut self.rng, now_ms) {
                    Ok(()) => News::Supernodes(self.list(line, ANSWER)),
                    Err(retry_ms) => News::NotAsked(retry_ms),
                };
                self.tell(line, news);
            }
            Ask::Close => node.lose(line, now_ms),
        }
    }

    /// A heartbeat, which is never refused; and in a call now and then a grant for another path.
    pub(crate) fn answer_beat(&mut self, line: Line, in_call: bool) -> bool {
        let now_ms = self.now.mono_ms;
        let node = &mut self.supernodes[line.peer.0 as usize];
        if !node.holds(line) {
            return false;
        }
        if in_call {
            let granted = node.admit(Work::CallInProgress, &mut self.rng, now_ms);
            self.of_calls.0 += 1;
            self.of_calls.1 += usize::from(granted.is_err());
        }
        true
    }

    fn reserve(&mut self, line: Line, homeless: bool, in_call: bool, ticket: bool) {
        let now_ms = self.now.mono_ms;
        let node = &mut self.supernodes[line.peer.0 as usize];
        let of_call = in_call && node.goes_on(line.leaf, ticket);
        let work = if of_call { Work::CallInProgress } else { Work::Signalling };
        let admitted = node.admit(work, &mut self.rng, now_ms);
        if of_call {
            self.of_calls.0 += 1;
            self.of_calls.1 += usize::from(admitted.is_err());
        }
        if let Err(retry_ms) = admitted {
            let told = if u64::from(retry_ms) >= BUSY_MS / 2 { self.referrals(line) } else { Told::new() };
            return self.tell(line, News::Busy(retry_ms, told));
        }
        let above = node.has_place(line.leaf, homeless);
        if above != Some(false) {
            node.candidacy.handle_no_place(1, self.now);
        }
        let Some(above) = above else {
            let retry_ms = u32::try_from(self.rng.around(BUSY_MS, 50)).unwrap();
            let told = self.referrals(line);
            return self.tell(line, News::Busy(retry_ms, told));
        };
        node.kept.remove(&line.leaf);
        node.places.insert(line.leaf, line);
        if above {
            node.above.push(line.leaf);
        }
        let told = self.referrals(line);
        self.tell(line, News::Reserved(told));
    }

    // ---- what they are told -----------------------------------------------------------------------------------------

    /// As `Neighbours::view`: what the leaf's network may know of what this supernode knows, which includes the dead.
    fn view(&self, of: usize, leaf: usize) -> Vec<usize> {
        let mut view: Vec<usize> = Vec::with_capacity(VIEW);
        let mut networks = [false; NODES_MAX / 2];
        // One of each network comes before a second of any.
        for again in [false, true] {
            for rank in [(false, false), (false, true), (true, false), (true, true)] {
                for index in self.orders[network_of_leaf(leaf)].iter().map(|index| usize::from(*index)) {
                    if view.len() == VIEW {
                        return view;
                    }
                    let fits = self.use_to_others(of, index) == rank
                        && (again || !networks[index / 2])
                        && self.knows(of, index)
                        && !(again && view.contains(&index));
                    if fits {
                        networks[index / 2] = true;
                        view.push(index);
                    }
                }
            }
        }
        view
    }

    /// A supernode knows 256 others, if there are as many.
    fn knows(&self, of: usize, index: usize) -> bool {
        let drawn = || Rng::new((of * NODES_MAX + index) as u64).index(self.listed.max(1));
        let listed = self.supernodes[index].is_listed(self.now.mono_ms);
        index != of && listed && (self.listed <= KNOWN || drawn() < KNOWN)
    }

    fn use_to_others(&self, of: usize, index: usize) -> (bool, bool) {
        (self.supernodes[of].missed[index], self.supernodes[index].told.0 >= FULL_PERCENT)
    }

    /// As `Neighbours::sample`, where it has met none of them.
    fn sample(&mut self, line: Line, limit: usize) -> Vec<usize> {
        let of = line.peer.0 as usize;
        let view = self.view(of, line.leaf);
        let mut ranked: Vec<((bool, bool), u64, usize)> = Vec::with_capacity(view.len());
        for index in view {
            ranked.push((self.use_to_others(of, index), self.rng.next_u64(), index));
        }
        ranked.sort_unstable();
        ranked.into_iter().take(limit).map(|(_, _, index)| index).collect()
    }

    fn referrals(&mut self, line: Line) -> Told {
        let mut sample = self.sample(line, REFERRALS * 2);
        let now_ms = self.now.mono_ms;
        sample.sort_by_key(|index| {
            let (load_percent, signed_ms) = self.supernodes[*index].told;
            (signed_ms + SPOKE_LATELY_MS < now_ms, load_percent)
        });
        sample.truncate(REFERRALS);
        self.told(sample)
    }

    /// Itself first, then others.
    fn list(&mut self, line: Line, limit: usize) -> Told {
        let of = line.peer.0 as usize;
        let mut list = vec![of];
        list.extend(self.sample(line, limit));
        list.truncate(limit);
        self.told(list)
    }

    fn told(&self, list: Vec<usize>) -> Told {
        list.into_iter().map(|index| (u16::try_from(index).unwrap(), self.supernodes[index].told.0)).collect()
    }

    // ---- time -------------------------------------------------------------------------------------------------------

    /// Every second: descriptors come round, the dead are missed, and policy looks about.
    pub(crate) fn supernodes_second(&mut self) {
        let now = self.now;
        let listed = |at: &usize| self.supernodes[*at].is_listed(now.mono_ms);
        let listed: Vec<usize> = (0..self.supernodes.len()).filter(listed).collect();
        self.listed = listed.len();
        for index in 0..self.supernodes.len() {
            if self.supernodes[index].health != Health::Up {
                continue;
            }
            let node = &mut self.supernodes[index];
            if node.serving {
                node.expire(now.mono_ms);
                node.resign(now.mono_ms);
                let load_percent = node.load_percent();
                node.candidacy.handle_load(load_percent, now);
            }
            self.look_about(index, &listed);
            self.supernodes[index].candidacy.handle_timeout(now);
            self.take_steps(index);
        }
    }

    /// Who is alive: neighbours whose streams stand, or, for a reserve, the few that it asks now and then.
    fn look_about(&mut self, index: usize, listed: &[usize]) {
        let now = self.now;
        let serves = self.supernodes[index].serving;
        let mut neighbours = std::mem::take(&mut self.supernodes[index].neighbours);
        let before = neighbours.clone();
        neighbours.retain(|(other, _)| !self.supernodes[*other].is_missed(serves, now.mono_ms));
        for (gone, _) in before.iter().filter(|other| !neighbours.contains(other)) {
            self.supernodes[index].missed[*gone] = true;
        }
        // One dial in a second, but at the beginning.
        let wanted = if serves { NEIGHBOURS } else { WATCHED };
        for _ in 0..if neighbours.is_empty() { 2 * wanted } else { 1 } {
            if neighbours.iter().filter(|(_, own)| *own).count() >= wanted || listed.is_empty() {
                break;
            }
            let other = listed[self.rng.index(listed.len())];
            let known = other == index
                || neighbours.iter().any(|(known, _)| *known == other)
                || self.supernodes[index].missed[other];
            if !known && self.supernodes[other].is_up() {
                neighbours.push((other, true));
                if serves {
                    self.supernodes[other].neighbours.push((index, false));
                }
            } else if !known {
                self.supernodes[index].missed[other] = true;
            }
        }
        let changed = neighbours != before;
        self.supernodes[index].neighbours = neighbours;
        // Loads change; once in five seconds is often enough to look at them.
        if changed || now.mono_ms / SECOND_MS % 5 == index as u64 % 5 {
            let neighbours = &self.supernodes[index].neighbours;
            let seen: Vec<Sighted> = neighbours.iter().map(|(other, _)| self.sighted(*other)).collect();
            self.supernodes[index].candidacy.handle_sight(&seen, now);
        }
    }

    fn sighted(&self, index: usize) -> Sighted {
        let peer = peer_ref(index);
        let load_percent = self.supernodes[index].told.0;
        Sighted { peer, network: network_of(peer), roles: Roles::DIRECTORY, load_percent }
    }

    // ---- the election -----------------------------------------------------------------------------------------------

    /// Executes what a supernode or a reserve wants.
    pub(crate) fn take_steps(&mut self, index: usize) {
        while let Some(step) = self.supernodes[index].candidacy.poll_command() {
            match step {
                Step::Serve { .. } => self.begin_to_serve(index),
                Step::Announce(to) => self.send(index, to.0 as usize, Message::Announce),
                Step::Invite(to) => {
                    let load_percent = self.supernodes[index].load_percent();
                    let not_after_unix_ms = self.now.unix_ms + 60_000;
                    self.send(index, to.0 as usize, Message::Invite { load_percent, not_after_unix_ms });
                }
                Step::AskLoad(of) => self.send(index, of.0 as usize, Message::AskLoad),
                Step::AnswerInvitation { to, accepted } => {
                    self.send(index, to.0 as usize, Message::Answer { accepted });
                }
                Step::Drain { why, .. } => panic!("{index} drains: {why:?}"),
            }
        }
    }

    fn begin_to_serve(&mut self, index: usize) {
        let comes_round_ms = ROUND_MS / 4 + self.rng.below(ROUND_MS);
        let now_ms = self.now.mono_ms;
        let node = &mut self.supernodes[index];
        assert!(node.consents, "{index} serves, and its owner did not agree to it");
        assert_eq!(node.candidacy.state(), State::Supernode);
        (node.signed, node.told) = ((0, now_ms), (0, now_ms));
        (node.serving, node.listed_ms) = (true, Some(now_ms + comes_round_ms));
        node.admission = Admission::new(REQUESTS_PER_SECOND, now_ms);
        node.neighbours.clear();
    }

    pub(crate) fn message(&mut self, from: usize, to: usize, message: Message) {
        let now = self.now;
        let (sender, network) = (peer_ref(from), network_of(peer_ref(from)));
        let up = self.supernodes[to].is_up();
        if self.supernodes[to].health != Health::Up {
            return self.unanswered(from, to, message);
        }
        let load_percent = self.supernodes[to].load_percent();
        let candidacy = &mut self.supernodes[to].candidacy;
        match message {
            Message::Announce if up => {
                candidacy.handle_announce(sender, network, now);
            }
            Message::Announce => {}
            Message::Invite { load_percent, not_after_unix_ms } => {
                let invitation = Invitation { from: sender, load_percent, not_after_unix_ms };
                candidacy.handle_invitation(&invitation, now);
            }
            Message::Answer { accepted } => candidacy.handle_invitation_answer(sender, accepted),
            Message::AskLoad => {
                self.send(to, from, Message::Load { of: to, load_percent: up.then_some(load_percent) });
            }
            Message::Load { of, load_percent } => {
                candidacy.handle_load_answer(peer_ref(of), load_percent, now);
            }
        }
        self.take_steps(to);
    }

    /// A process that ended refuses, a machine that vanished says nothing at all.
    fn unanswered(&mut self, from: usize, to: usize, message: Message) {
        if !matches!(message, Message::AskLoad) || self.supernodes[from].health != Health::Up {
            return;
        }
        let delay_ms = if self.supernodes[to].health == Health::Killed { 100 } else { SILENT_MS };
        self.send_later(from, delay_ms, Message::Load { of: to, load_percent: None });
    }

    // ---- what befalls supernodes ------------------------------------------------------------------------------------

    pub(crate) fn kill(&mut self, index: usize, health: Health) {
        let now_ms = self.now.mono_ms;
        let node = &mut self.supernodes[index];
        (node.health, node.died_ms) = (health, now_ms);
        let lines: Vec<Line> = std::mem::take(&mut node.places).into_values().collect();
        if health == Health::Killed {
            for line in lines {
                self.tell(line, News::Closed);
            }
        }
    }

    pub(crate) fn serving(&self) -> Vec<usize> {
        (0..self.supernodes.len()).filter(|index| self.supernodes[*index].is_up()).collect()
    }
}

impl Supernode {
    fn resign(&mut self, now_ms: u64) {
        let load_percent = self.load_percent();
        let moved = load_percent != self.signed.0 && now_ms >= self.signed.1 + RESIGN_LOAD_MS;
        if moved || now_ms >= self.signed.1 + RESIGN_MS {
            self.signed = (load_percent, now_ms);
        }
        if now_ms >= self.signed.1 + ROUND_MS {
            self.told = self.signed;
        }
    }
}

fn peer_ref(index: usize) -> PeerRef {
    PeerRef(u32::try_from(index).unwrap())
}
