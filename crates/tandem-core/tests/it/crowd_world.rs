//! A crowd under forced time: real `Homes`, real `Candidacy`, real `Admission`. The rest of a supernode keeps its places
//! by the rules of `Service`, which are few, and tells of others what `Service` would tell, of the dead too; frames and
//! signatures are left out, so that twenty thousand leaves take seconds. (The simulator proper is `tandem-sim`.)

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use tandem_core::backoff::TokenBucket;
use tandem_core::election::Figures;
use tandem_core::homes::{Cause, Command, HOMES, Homes, Remembered};
use tandem_core::peer::{KnownPeer, PeerRef};
use tandem_core::rng::Rng;
use tandem_core::time::Now;

use crate::crowd_supernodes::{IDLE_MS, Message, SECOND_MS, Supernode, Told};

/// Supernodes and reserves of all kinds, at most: what a leaf has heard of is a row of bits.
pub(crate) const NODES_MAX: usize = 640;
/// Leaves begin with four of so many.
const BOOTSTRAP: u64 = 20;
/// Leaves of one network; a network is told of so many supernodes, all others are none of its business.
const LEAVES_A_NETWORK: usize = 25;
const NEVER_MS: u64 = u64::MAX;

/// What a leaf asks of a supernode, on a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    Hello,
    Reserve { homeless: bool, in_call: bool, ticket: bool },
    Publish,
    Supernodes,
    Close,
}

/// What a leaf hears of a supernode, on a connection.
#[derive(Debug)]
pub(crate) enum News {
    Opened,
    Closed,
    Reserved(Told),
    Busy(u32, Told),
    Beat,
    Published,
    NotPublished(u32),
    Supernodes(Told),
    NotAsked(u32),
}

/// A connection: of which leaf, to whom, and its number, since an old one's news are not the new one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) leaf: usize,
    pub(crate) peer: PeerRef,
    pub(crate) number: u32,
}

#[derive(Debug)]
enum Event {
    Start(usize),
    StartAgain(usize, Vec<Remembered>),
    Due(usize),
    Ask(Line, Ask),
    News(Line, News),
    /// One supernode, or reserve, tells another.
    Message {
        from: usize,
        to: usize,
        message: Message,
    },
    Second,
}

struct Scheduled(u64, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(crate) struct Leaf {
    pub(crate) homes: Homes,
    due_ms: u64,
    lines: Vec<(Line, TokenBucket)>,
    /// Whose tickets it holds.
    tickets: Vec<PeerRef>,
    /// Who asked it to stay away, and until when.
    refused: Vec<(PeerRef, u64)>,
    /// Every dial.
    pub(crate) attempts: Vec<(u64, PeerRef)>,
    /// Supernodes it was told of.
    learned: [u64; NODES_MAX / 64],
    pub(crate) in_call: bool,
}

/// How a crowd begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) leaves: usize,
    /// Supernodes that serve from the start, reserves, and nodes whose owners agreed to nothing.
    pub(crate) first: usize,
    pub(crate) reserves: usize,
    pub(crate) unwilling: usize,
    /// Leaves start within this time.
    pub(crate) start_ms: u64,
}

pub(crate) struct Crowd {
    seed: u64,
    pub(crate) now: Now,
    pub(crate) rng: Rng,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) supernodes: Vec<Supernode>,
    /// For each network of leaves, all supernodes in the order in which it is told of them.
    pub(crate) orders: Vec<Vec<u16>>,
    /// Supernodes whose descriptors have come round.
    pub(crate) listed: usize,
    events: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    lines: u32,
    /// Dials before the time that the supernode had named.
    pub(crate) early_returns: usize,
    /// Requests of calls in progress, and those that were refused.
    pub(crate) of_calls: (usize, usize),
    /// Dials of all leaves, by second.
    pub(crate) dials: BTreeMap<u64, usize>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the seed was {}, the time {} ms", self.seed, self.now.mono_ms);
        }
    }
}

impl Crowd {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let now = Now { mono_ms: 0, unix_ms: 1_800_000_000_000 };
        let mut rng = Rng::new(seed);
        let leaves = (0..plan.leaves).map(|_| Leaf::new(rng.next_u64(), now)).collect();
        let nodes = plan.first + plan.reserves + plan.unwilling;
        assert!(nodes <= NODES_MAX);
        let supernodes = (0..nodes).map(|index| Supernode::new(index, plan, rng.next_u64(), now)).collect();
        let networks = plan.leaves.div_ceil(LEAVES_A_NETWORK);
        let orders = (0..networks).map(|_| order_of(nodes, &mut rng)).collect();
        let mut crowd = Self {
            seed,
            now,
            rng,
            leaves,
            supernodes,
            orders,
            listed: plan.first,
            events: BinaryHeap::new(),
            order: 0,
            lines: 0,
            early_returns: 0,
            of_calls: (0, 0),
            dials: BTreeMap::new(),
        };
        crowd.start_supernodes(plan);
        for leaf in 0..plan.leaves {
            let at_ms = crowd.rng.below(plan.start_ms);
            crowd.after(at_ms, Event::Start(leaf));
        }
        crowd.after(0, Event::Second);
        crowd
    }

    // ---- time -------------------------------------------------------------------------------------------------------

    fn after(&mut self, delay_ms: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse(Scheduled(self.now.mono_ms + delay_ms, self.order, event)));
    }

    /// One way through the network: one packet in a hundred is lost and sent again.
    fn latency_ms(&mut self) -> u64 {
        let lost = self.rng.below(100) == 0;
        30 + self.rng.below(40) + if lost { 200 } else { 0 }
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, message: Message) {
        // It connects first.
        let delay_ms = 3 * self.latency_ms();
        self.after(delay_ms, Event::Message { from, to, message });
    }

    /// As [`Self::send`], to oneself: something that comes to nothing.
    pub(crate) fn send_later(&mut self, to: usize, delay_ms: u64, message: Message) {
        self.after(delay_ms, Event::Message { from: to, to, message });
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        while self.events.peek().is_some_and(|Reverse(next)| next.0 <= end_ms) {
            if let Some(Reverse(Scheduled(at_ms, _, event))) = self.events.pop() {
                self.now = self.now.plus_ms(at_ms - self.now.mono_ms);
                self.handle(event);
            }
        }
        self.now = self.now.plus_ms(end_ms - self.now.mono_ms);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Second => {
                self.supernodes_second();
                self.after(SECOND_MS, Event::Second);
            }
            Event::Message { from, to, message } => self.message(from, to, message),
            Event::Start(leaf) => {
                let some: Vec<u64> = (0..4).map(|_| self.rng.below(BOOTSTRAP)).collect();
                let some = some.into_iter().map(|index| PeerRef(u32::try_from(index).unwrap()));
                let known: Vec<KnownPeer> = some.map(|peer| known(peer, None)).collect();
                self.leaves[leaf].homes.handle_known(&known, self.now);
                self.settle(leaf);
            }
            Event::StartAgain(leaf, remembered) => self.start_again(leaf, remembered),
            Event::Due(leaf) => {
                if self.leaves[leaf].due_ms == self.now.mono_ms {
                    self.leaves[leaf].due_ms = NEVER_MS;
                    self.leaves[leaf].homes.handle_timeout(self.now);
                    self.settle(leaf);
                }
            }
            Event::Ask(line, ask) => self.answer(line, ask),
            Event::News(line, news) => self.hear(line, news),
        }
    }

    // ---- leaves -----------------------------------------------------------------------------------------------------

    /// Executes what a leaf wants, and notes when it wants to be woken.
    fn settle(&mut self, leaf: usize) {
        while let Some(command) = self.leaves[leaf].homes.poll_command() {
            self.command(leaf, command);
        }
        let due_ms = self.leaves[leaf].homes.poll_timeout().unwrap_or(NEVER_MS);
        if due_ms < self.leaves[leaf].due_ms {
            assert!(due_ms > self.now.mono_ms, "a leaf spins");
            self.leaves[leaf].due_ms = due_ms;
            self.after(due_ms - self.now.mono_ms, Event::Due(leaf));
        }
    }

    fn command(&mut self, leaf: usize, command: Command) {
        match command {
            Command::Connect(peer) => self.connect(leaf, peer),
            Command::Reserve(peer) => {
                let node = &self.leaves[leaf];
                let homeless = node.homes.reserved().next().is_none();
                let (in_call, ticket) = (node.in_call, node.tickets.contains(&peer));
                self.ask(leaf, peer, Ask::Reserve { homeless, in_call, ticket });
            }
            Command::Heartbeat { peer, in_call } => self.beat(leaf, peer, in_call),
            Command::Publish { via } => self.ask(leaf, via, Ask::Publish),
            Command::AskSupernodes(peer) => {
                let now_ms = self.now.mono_ms;
                let Some((line, lists)) = self.leaves[leaf].line_mut(peer) else { return };
                let line = *line;
                if lists.take(now_ms) {
                    self.ask(leaf, peer, Ask::Supernodes);
                } else {
                    let wait_ms = u32::try_from(lists.wait_ms(now_ms)).unwrap();
                    self.after(100, Event::News(line, News::NotAsked(wait_ms)));
                }
            }
            Command::Release(peer) => {
                self.ask(leaf, peer, Ask::Close);
                self.leaves[leaf].lines.retain(|(line, _)| line.peer != peer);
            }
        }
    }

    fn connect(&mut self, leaf: usize, peer: PeerRef) {
        let now_ms = self.now.mono_ms;
        self.lines += 1;
        let line = Line { leaf, peer, number: self.lines };
        let node = &mut self.leaves[leaf];
        assert!(!node.lines.iter().any(|(line, _)| line.peer == peer), "connected twice");
        // As `Service` has it: six lists at once, then one in 15 s.
        node.lines.push((line, TokenBucket::new(6, 15_000, now_ms)));
        node.attempts.push((now_ms, peer));
        node.refused.retain(|(_, until_ms)| now_ms < *until_ms);
        self.early_returns += usize::from(node.refused.iter().any(|(refused, _)| *refused == peer));
        *self.dials.entry(now_ms / SECOND_MS).or_default() += 1;
        let delay_ms = 2 * self.latency_ms();
        self.after(delay_ms, Event::Ask(line, Ask::Hello));
    }

    fn ask(&mut self, leaf: usize, peer: PeerRef, ask: Ask) {
        if let Some((line, _)) = self.leaves[leaf].line_mut(peer) {
            let line = *line;
            let delay_ms = self.latency_ms();
            self.after(delay_ms, Event::Ask(line, ask));
        }
    }

    /// There and back in one: this is most of what happens.
    fn beat(&mut self, leaf: usize, peer: PeerRef, in_call: bool) {
        let Some((line, _)) = self.leaves[leaf].line_mut(peer) else { return };
        let line = *line;
        if self.answer_beat(line, in_call) {
            let delay_ms = 2 * self.latency_ms();
            self.after(delay_ms, Event::News(line, News::Beat));
        }
    }

    /// What a supernode answers arrives.
    pub(crate) fn tell(&mut self, line: Line, news: News) {
        let delay_ms = self.latency_ms();
        self.after(delay_ms, Event::News(line, news));
    }

    fn hear(&mut self, line: Line, news: News) {
        let Line { leaf, peer, .. } = line;
        let now = self.now;
        let node = &mut self.leaves[leaf];
        if !node.lines.iter().any(|(own, _)| *own == line) {
            return;
        }
        match news {
            News::Opened => node.homes.handle_opened(peer, Some(round_trip_ms(line)), now),
            News::Closed => {
                node.lines.retain(|(own, _)| *own != line);
                node.homes.handle_closed(peer, Cause::Lost, now);
            }
            News::Reserved(told) => {
                node.tickets.retain(|known| *known != peer);
                node.tickets.push(peer);
                node.homes.handle_reserved(peer, 14_000, now);
                self.learn(leaf, peer, &told);
            }
            News::Busy(retry_ms, told) => {
                node.refused.push((peer, now.mono_ms + u64::from(retry_ms)));
                node.homes.handle_busy(peer, retry_ms, now);
                self.learn(leaf, peer, &told);
            }
            News::Beat => node.homes.handle_heartbeat_answer(peer, now),
            News::Published => node.homes.handle_published(peer, now),
            News::NotPublished(retry_ms) => node.homes.handle_publish_failed(peer, retry_ms, now),
            News::Supernodes(told) => self.learn(leaf, peer, &told),
            News::NotAsked(retry_ms) => node.homes.handle_ask_refused(retry_ms, now),
        }
        self.settle(leaf);
    }

    fn learn(&mut self, leaf: usize, from: PeerRef, told: &Told) {
        let node = &mut self.leaves[leaf];
        let list: Vec<KnownPeer> = told
            .iter()
            .map(|(index, _)| PeerRef(u32::from(*index)))
            .map(|peer| known(peer, (peer != from).then_some(from)))
            .collect();
        node.homes.handle_known(&list, self.now);
        for (index, load_percent) in told {
            node.homes.set_load(PeerRef(u32::from(*index)), *load_percent);
            node.learned[usize::from(*index) / 64] |= 1 << (index % 64);
        }
    }

    // ---- what befalls leaves ----------------------------------------------------------------------------------------

    /// It starts again within that time, and remembers which supernodes it knew; every second leaf also what they were
    /// like, the others have lost that. Its homes are told at once, or (`vanishes`) find out when they have heard nothing for a while.
    pub(crate) fn restart(&mut self, leaf: usize, within_ms: u64, vanishes: bool) {
        let seed = self.rng.next_u64();
        let told_ms = if vanishes { IDLE_MS } else { 50 };
        let node = &mut self.leaves[leaf];
        let remembered: Vec<Remembered> = node.homes.remembered().collect();
        for (line, _) in std::mem::take(&mut node.lines) {
            self.after(told_ms, Event::Ask(line, Ask::Close));
        }
        let node = &mut self.leaves[leaf];
        // One that knows nobody does nothing.
        (node.homes, node.due_ms) = (Homes::new(seed, self.now), NEVER_MS);
        // What a process did before it ended does not count for the next one.
        (node.tickets, node.refused, node.attempts) = Default::default();
        let delay_ms = self.rng.below(within_ms.max(1));
        self.after(delay_ms, Event::StartAgain(leaf, remembered));
    }

    fn start_again(&mut self, leaf: usize, remembered: Vec<Remembered>) {
        let seed = self.rng.next_u64();
        let list: Vec<(KnownPeer, Remembered)> =
            remembered.into_iter().map(|it| (known(it.peer, None), it)).collect();
        let homes = &mut self.leaves[leaf].homes;
        *homes = Homes::new(seed, self.now);
        if leaf.is_multiple_of(2) {
            homes.handle_remembered(&list, self.now);
        } else {
            homes.handle_known(&list.iter().map(|(known, _)| *known).collect::<Vec<_>>(), self.now);
        }
        self.settle(leaf);
    }

    /// One connection of each leaf breaks within the second, though nobody has died: a fault of the lines.
    pub(crate) fn cut_one_home_each(&mut self) {
        for leaf in 0..self.leaves.len() {
            let Some(home) = self.leaves[leaf].homes.reserved().next() else { continue };
            let Some((line, _)) = self.leaves[leaf].line_mut(home) else { continue };
            let line = *line;
            let delay_ms = self.rng.below(1_000);
            self.after(delay_ms, Event::News(line, News::Closed));
            self.after(delay_ms, Event::Ask(line, Ask::Close));
        }
    }

    pub(crate) fn set_in_call(&mut self, leaf: usize) {
        self.leaves[leaf].in_call = true;
        self.leaves[leaf].homes.set_in_call(true, self.now);
        self.settle(leaf);
    }

    // ---- how it stands ----------------------------------------------------------------------------------------------

    /// Homes that are alive.
    fn live_homes(&self, leaf: &Leaf) -> usize {
        leaf.homes.reserved().filter(|home| self.supernodes[home.0 as usize].is_up()).count()
    }

    /// Leaves with fewer such homes than wanted, or without a published record.
    pub(crate) fn short_of(&self, wanted: usize) -> usize {
        let served = |leaf: &&Leaf| leaf.homes.is_reachable() && self.live_homes(leaf) >= wanted;
        self.leaves.len() - self.leaves.iter().filter(served).count()
    }

    /// What one that has too few homes knows and did lately.
    pub(crate) fn explain(&self, wanted: usize) {
        let short = |(_, leaf): &(usize, &Leaf)| !leaf.homes.is_reachable() || self.live_homes(leaf) < wanted;
        for (index, leaf) in self.leaves.iter().enumerate().filter(short).take(3) {
            let homes: Vec<PeerRef> = leaf.homes.reserved().collect();
            let last: Vec<_> = leaf.attempts.iter().rev().take(8).collect();
            println!("leaf {index} has {homes:?}, published: {}", leaf.homes.is_reachable());
            println!("  links {:?}", leaf.homes.links().collect::<Vec<_>>());
            println!("  tried {last:?}, due {:?}", leaf.homes.poll_timeout());
            for known in leaf.homes.remembered() {
                let node = &self.supernodes[known.peer.0 as usize];
                let (told, clients) = (node.told.0, node.clients());
                let standing = leaf.homes.standing(known.peer);
                println!("  {:?} {told} % told, {clients}: {standing:?}", node.health);
            }
        }
    }

    /// Leaves two of whose homes are in one network: only where others had no room, and not for long.
    pub(crate) fn sharing_networks(&self) -> usize {
        let shares = |leaf: &&Leaf| {
            let homes: Vec<u32> = leaf.homes.reserved().map(network_of).collect();
            assert!(homes.len() <= HOMES, "homes in networks {homes:?}");
            (1..homes.len()).any(|at| homes[..at].contains(&homes[at]))
        };
        self.leaves.iter().filter(shares).count()
    }

    /// The most attempts, and the most different supernodes, of any leaf in any minute since `from_ms`.
    pub(crate) fn worst_minute(&self, from_ms: u64) -> (usize, usize) {
        let mut worst = (0, 0);
        for leaf in &self.leaves {
            let since = leaf.attempts.partition_point(|(at_ms, _)| *at_ms < from_ms);
            let since = &leaf.attempts[since..];
            for (at, (start_ms, _)) in since.iter().enumerate() {
                let minute = since[at..].iter().take_while(|(at_ms, _)| *at_ms < start_ms + 60_000);
                let mut peers: Vec<PeerRef> = minute.map(|(_, peer)| *peer).collect();
                worst.0 = worst.0.max(peers.len());
                peers.sort_unstable();
                peers.dedup();
                worst.1 = worst.1.max(peers.len());
            }
        }
        worst
    }

    pub(crate) fn attempts_since(&self, from_ms: u64) -> usize {
        self.dials.range(from_ms / SECOND_MS..).map(|(_, dials)| dials).sum()
    }

    /// The most requests that any supernode got in a second since this was asked last, and the most it answered.
    pub(crate) fn worst_second(&mut self) -> (u32, u32) {
        let worst = self.supernodes.iter_mut().map(|node| std::mem::take(&mut node.worst));
        worst.fold((0, 0), |most, (asked, answered)| (most.0.max(asked), most.1.max(answered)))
    }

    /// The most supernodes that any leaf was told of.
    pub(crate) fn most_learned(&self) -> usize {
        let learned = |leaf: &Leaf| leaf.learned.iter().map(|bits| bits.count_ones() as usize).sum();
        self.leaves.iter().map(learned).max().unwrap_or(0)
    }

    pub(crate) fn figures(&self) -> Figures {
        self.supernodes.iter().fold(Figures::default(), |sum, node| {
            let own = node.candidacy.figures();
            Figures {
                invited: sum.invited + own.invited,
                accepted: sum.accepted + own.accepted,
                recruited: sum.recruited + own.recruited,
                promoted_itself: sum.promoted_itself + own.promoted_itself,
                invitations_ignored: sum.invitations_ignored + own.invitations_ignored,
                invitations_refused: sum.invitations_refused + own.invitations_refused,
                ..sum
            }
        })
    }
}

impl Leaf {
    fn new(seed: u64, now: Now) -> Self {
        Self {
            homes: Homes::new(seed, now),
            due_ms: NEVER_MS,
            lines: Vec::new(),
            tickets: Vec::new(),
            refused: Vec::new(),
            attempts: Vec::new(),
            learned: [0; NODES_MAX / 64],
            in_call: false,
        }
    }

    fn line_mut(&mut self, peer: PeerRef) -> Option<(&mut Line, &mut TokenBucket)> {
        self.lines.iter_mut().find(|(line, _)| line.peer == peer).map(|(line, lists)| (line, lists))
    }
}

/// Some are near, some far.
fn round_trip_ms(line: Line) -> u32 {
    let mut place = Rng::new((network_of_leaf(line.leaf) * NODES_MAX) as u64 + u64::from(line.peer.0));
    20 + u32::try_from(place.below(300)).unwrap()
}

/// The network of a leaf.
pub(crate) fn network_of_leaf(leaf: usize) -> usize {
    leaf / LEAVES_A_NETWORK
}

/// Two supernodes stand in each network.
pub(crate) fn network_of(peer: PeerRef) -> u32 {
    peer.0 / 2
}

fn known(peer: PeerRef, referrer: Option<PeerRef>) -> KnownPeer {
    let release = if peer.0 % 10 < 7 { 1 } else { 2 };
    KnownPeer { peer, network: network_of(peer), referrer, port_443: peer.0.is_multiple_of(3), release }
}

/// The order in which a network is told of supernodes: drawn once, as `Service` draws it from the network and the week.
fn order_of(nodes: usize, rng: &mut Rng) -> Vec<u16> {
    let mut drawn: Vec<(u64, u16)> = Vec::new();
    for network in 0..nodes.div_ceil(2) {
        let rank = rng.next_u64();
        let both = (2 * network..nodes.min(2 * network + 2)).map(|index| u16::try_from(index).unwrap());
        drawn.extend(both.map(|index| (rank, index)));
    }
    drawn.sort_unstable();
    drawn.into_iter().map(|(_, index)| index).collect()
}
