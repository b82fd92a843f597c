//! Crowds of leaves under forced time: real `Homes`, real `Candidacy`, real `Admission`; the rest of a supernode is a
//! counter of places, and what it tells of others is what `Service` would tell, of the dead too. They start, choose more
//! supernodes, lose a third of them in one moment, lose them one by one, or all lose a home in the same second; and
//! everybody must be reachable again without a storm. (The simulator proper is `tandem-sim`.)

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Instant;

use tandem_core::admission::{Admission, Work};
use tandem_core::election::{Candidacy, Command as Step, Config, Invitation, Sighted, State};
use tandem_core::homes::{Cause, Command, HOMES, Homes};
use tandem_core::peer::{KnownPeer, PeerRef};
use tandem_core::rng::Rng;
use tandem_core::time::Now;
use tandem_proto::signed::Roles;

const LEAVES: usize = 20_000;
/// Supernodes that serve from the start, and reserves.
const FIRST: usize = 160;
const RESERVES: usize = 320;
/// The same where supernodes die one by one.
const FEW_LEAVES: usize = 2_000;
const FEW_FIRST: usize = 24;
const FEW_RESERVES: usize = 48;
/// Places of one supernode: the first ones together have hardly more than the leaves want.
const PLACES: usize = 400;
const BOOTSTRAP: u64 = 20;
const START_MS: u64 = 120_000;
const EXCHANGE_MS: u64 = 5_000;
/// Leaves of one network; a network is told of so many supernodes, all others are none of its business.
const LEAVES_A_NETWORK: usize = 25;
const VIEW: usize = 24;
/// A descriptor is signed anew when the load moved, and when it is old.
const RESIGN_LOAD_MS: u64 = 60_000;
const RESIGN_MS: u64 = 30 * 60_000;
const FRESH: bool = true;
const NEVER_MS: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Start(usize),
    Due(usize),
    Opened(usize, PeerRef),
    Closed(usize, PeerRef),
    Reserved(usize, PeerRef),
    Busy(usize, PeerRef, u32),
    Beat(usize, PeerRef),
    Published(usize, PeerRef),
    Told(usize, PeerRef),
    Exchange,
}

struct Leaf {
    homes: Homes,
    due_ms: u64,
    /// The peers that asked it to stay away, and until when.
    refused: BTreeMap<PeerRef, u64>,
    attempts: Vec<(u64, PeerRef)>,
}

struct Supernode {
    candidacy: Candidacy,
    admission: Admission,
    alive: bool,
    serving: bool,
    /// The load of its newest descriptor, and when that was signed.
    signed: (u32, u64),
    /// The same as it has come round among the others. That of a dead one stays.
    told: (u32, u64),
    clients: BTreeSet<usize>,
    /// Of these the ones let in above the limit.
    above: BTreeSet<usize>,
}

impl Supernode {
    fn load_percent(&self) -> u32 {
        u32::try_from(self.clients.len() * 100 / PLACES).unwrap().min(100)
    }
}

struct Crowd {
    now: Now,
    rng: Rng,
    leaves: Vec<Leaf>,
    supernodes: Vec<Supernode>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    early_returns: usize,
    exchanges: u64,
    /// Dials, by second and supernode.
    dials: BTreeMap<(u64, PeerRef), usize>,
}

impl Crowd {
    fn new(seed: u64, leaves: usize, first: usize, reserves: usize) -> Self {
        let now = Now { mono_ms: 0, unix_ms: 1_800_000_000_000 };
        let mut rng = Rng::new(seed);
        let leaves = (0..leaves).map(|_| Leaf {
            homes: Homes::new(rng.next_u64(), now),
            due_ms: NEVER_MS,
            refused: BTreeMap::new(),
            attempts: Vec::new(),
        });
        let leaves = leaves.collect();
        let supernodes = (0..first + reserves).map(|index| Supernode {
            candidacy: Candidacy::new(Config { steady: index < first }, rng.next_u64(), now),
            admission: Admission::new(200, 0),
            alive: true,
            serving: false,
            signed: (0, 0),
            told: (0, 0),
            clients: BTreeSet::new(),
            above: BTreeSet::new(),
        });
        let supernodes = supernodes.collect();
        let mut crowd = Self {
            now,
            leaves,
            supernodes,
            events: BinaryHeap::new(),
            order: 0,
            early_returns: 0,
            exchanges: 0,
            dials: BTreeMap::new(),
            rng,
        };
        for index in 0..first + reserves {
            crowd.supernodes[index].candidacy.handle_roles(Roles::DIRECTORY, Roles::DIRECTORY, now);
            crowd.take_steps(index);
        }
        for leaf in 0..leaves {
            let at_ms = crowd.rng.below(START_MS);
            crowd.after(at_ms, Event::Start(leaf));
        }
        crowd.after(0, Event::Exchange);
        crowd
    }

    fn after(&mut self, delay_ms: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((self.now.mono_ms + delay_ms, self.order, event)));
    }

    fn run_until(&mut self, end_ms: u64) {
        while let Some(Reverse((at_ms, ..))) =
            self.events.peek().filter(|Reverse((at_ms, ..))| *at_ms <= end_ms)
        {
            self.now = self.now.plus_ms(at_ms - self.now.mono_ms);
            if let Some(Reverse((_, _, event))) = self.events.pop() {
                self.handle(event);
            }
        }
        self.now = self.now.plus_ms(end_ms - self.now.mono_ms);
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Exchange => return self.exchange(),
            Event::Start(leaf) => {
                let first: Vec<u64> = (0..4).map(|_| self.rng.below(BOOTSTRAP)).collect();
                let first = first.into_iter().map(|index| PeerRef(u32::try_from(index).unwrap()));
                let first: Vec<KnownPeer> = first.map(|peer| self.known(peer, None)).collect();
                self.leaves[leaf].homes.handle_known(&first, now);
                return self.settle(leaf);
            }
            _ => {}
        }
        let leaf = match event {
            Event::Due(leaf) => {
                if self.leaves[leaf].due_ms != now.mono_ms {
                    return;
                }
                self.leaves[leaf].due_ms = NEVER_MS;
                self.leaves[leaf].homes.handle_timeout(now);
                leaf
            }
            Event::Opened(leaf, peer) => {
                self.leaves[leaf].homes.handle_opened(peer, Some(40), now);
                leaf
            }
            Event::Closed(leaf, peer) => {
                self.leaves[leaf].homes.handle_closed(peer, Cause::Lost, now);
                leaf
            }
            Event::Reserved(leaf, peer) => {
                self.leaves[leaf].homes.handle_reserved(peer, 14_000, now);
                leaf
            }
            Event::Busy(leaf, peer, retry_ms) => {
                self.leaves[leaf].refused.insert(peer, now.mono_ms + u64::from(retry_ms));
                self.leaves[leaf].homes.handle_busy(peer, retry_ms, now);
                self.tell(leaf, peer, 4);
                leaf
            }
            Event::Beat(leaf, peer) => {
                self.leaves[leaf].homes.handle_heartbeat_answer(peer, now);
                leaf
            }
            Event::Published(leaf, peer) => {
                self.leaves[leaf].homes.handle_published(peer, now);
                leaf
            }
            Event::Told(leaf, peer) => {
                self.tell(leaf, peer, 16);
                leaf
            }
            Event::Start(_) | Event::Exchange => return,
        };
        self.settle(leaf);
    }

    /// Executes what a leaf wants, and notes when it wants to be woken.
    fn settle(&mut self, leaf: usize) {
        while let Some(command) = self.leaves[leaf].homes.poll_command() {
            self.leaf_command(leaf, command);
        }
        let due_ms = self.leaves[leaf].homes.poll_timeout().unwrap_or(NEVER_MS);
        if due_ms < self.leaves[leaf].due_ms {
            let due_ms = due_ms.max(self.now.mono_ms + 1);
            self.leaves[leaf].due_ms = due_ms;
            self.after(due_ms - self.now.mono_ms, Event::Due(leaf));
        }
    }

    fn leaf_command(&mut self, leaf: usize, command: Command) {
        let delay_ms = 30 + self.rng.below(40);
        match command {
            Command::Connect(peer) => {
                let now_ms = self.now.mono_ms;
                let node = &mut self.leaves[leaf];
                node.attempts.push((now_ms, peer));
                *self.dials.entry((now_ms / 1_000, peer)).or_default() += 1;
                self.early_returns += usize::from(node.refused.get(&peer).is_some_and(|ms| now_ms < *ms));
                let up = self.is_up(peer);
                self.after(
                    3 * delay_ms,
                    if up { Event::Opened(leaf, peer) } else { Event::Closed(leaf, peer) },
                );
            }
            Command::Reserve(peer) => {
                let answer = self.reserve(leaf, peer);
                self.after(delay_ms, answer);
            }
            Command::Heartbeat { peer, .. } if self.is_up(peer) => {
                self.after(delay_ms, Event::Beat(leaf, peer))
            }
            Command::Publish { via } if self.is_up(via) => {
                self.after(5 * delay_ms, Event::Published(leaf, via));
            }
            Command::AskSupernodes(peer) if self.is_up(peer) => self.after(delay_ms, Event::Told(leaf, peer)),
            Command::Release(peer) => {
                self.supernodes[peer.0 as usize].clients.remove(&leaf);
                self.supernodes[peer.0 as usize].above.remove(&leaf);
            }
            Command::Heartbeat { .. } | Command::Publish { .. } | Command::AskSupernodes(_) => {}
        }
    }

    fn reserve(&mut self, leaf: usize, peer: PeerRef) -> Event {
        if !self.is_up(peer) {
            return Event::Closed(leaf, peer);
        }
        let supernode = &mut self.supernodes[peer.0 as usize];
        if let Err(retry_ms) = supernode.admission.admit(Work::Signalling, &mut self.rng, self.now.mono_ms) {
            return Event::Busy(leaf, peer, retry_ms);
        }
        // As `Service` has it: some places above the limit are for those who have no home at all, few of one network.
        let network = leaf / LEAVES_A_NETWORK;
        let homeless = self.leaves[leaf].homes.reserved().next().is_none();
        let above = supernode.above.iter().filter(|other| **other / LEAVES_A_NETWORK == network).count();
        let kept = if homeless && above < PLACES / 32 { PLACES / 4 } else { 0 };
        if supernode.clients.len() >= PLACES {
            supernode.above.insert(leaf);
        }
        if supernode.clients.len() >= PLACES + kept {
            supernode.above.remove(&leaf);
            return Event::Busy(leaf, peer, u32::try_from(self.rng.around(20_000, 50)).unwrap());
        }
        supernode.clients.insert(leaf);
        Event::Reserved(leaf, peer)
    }

    // ---- supernodes -------------------------------------------------------------------------------------------------

    fn is_up(&self, peer: PeerRef) -> bool {
        let supernode = &self.supernodes[peer.0 as usize];
        supernode.alive && supernode.serving
    }

    fn known(&self, peer: PeerRef, referrer: Option<PeerRef>) -> KnownPeer {
        let release = if peer.0 % 10 < 7 { 1 } else { 2 };
        KnownPeer { peer, network: peer.0 / 2, referrer, port_443: peer.0.is_multiple_of(3), release }
    }

    fn tell(&mut self, leaf: usize, from: PeerRef, limit: usize) {
        let list = self.list(from, leaf, limit);
        self.leaves[leaf].homes.handle_known(&list, self.now);
        for known in &list {
            let load = self.supernodes[known.peer.0 as usize].told.0;
            self.leaves[leaf].homes.set_load(known.peer, load);
        }
    }

    /// What a supernode tells a leaf, as `Service` does: a part of those it knows that depends on the leaf's network, the
    /// full ones last, and of those a few at random. It does not know which of them have died.
    fn list(&mut self, of: PeerRef, leaf: usize, limit: usize) -> Vec<KnownPeer> {
        let place = Rng::new((leaf / LEAVES_A_NETWORK) as u64).next_u64();
        let listed = self.supernodes.iter().enumerate().filter(|(_, node)| node.serving);
        let mut view: Vec<(bool, u64, usize)> = listed
            .map(|(index, node)| (node.told.0 >= 90, Rng::new(place ^ (index / 2) as u64).next_u64(), index))
            .collect();
        view.sort_unstable();
        view.truncate(VIEW);
        let referral = limit < VIEW / 2;
        let mut some: Vec<(bool, u64, usize)> =
            view.into_iter().map(|(full, _, index)| (full, self.rng.next_u64(), index)).collect();
        some.sort_unstable();
        if referral {
            some.truncate(limit * 2);
            let now_ms = self.now.mono_ms;
            some.sort_by_key(|(_, _, index)| {
                let (load, signed_ms) = self.supernodes[*index].told;
                (FRESH && signed_ms + 120_000 < now_ms, load)
            });
        }
        some.truncate(limit);
        let peers = some.into_iter().map(|(_, _, index)| PeerRef(u32::try_from(index).unwrap()));
        peers.map(|peer| self.known(peer, (peer != of).then_some(of))).collect()
    }

    fn exchange(&mut self) {
        self.exchanges += 1;
        let up: Vec<usize> = (0..self.supernodes.len())
            .filter(|&index| self.is_up(PeerRef(u32::try_from(index).unwrap())))
            .collect();
        for index in 0..self.supernodes.len() {
            if !self.supernodes[index].alive {
                continue;
            }
            let seen: Vec<usize> = (0..24).map(|_| up[self.rng.index(up.len())]).collect();
            let others = seen.into_iter().filter(|seen| *seen != index);
            let seen: Vec<Sighted> = others.map(|seen| self.sighted(seen)).collect();
            let load_percent = self.supernodes[index].load_percent();
            let now_ms = self.now.mono_ms;
            let node = &mut self.supernodes[index];
            if self.exchanges % 4 == 0 {
                node.told = node.signed;
            }
            let step = load_percent / 10 * 10;
            let due = step != node.signed.0 && now_ms >= node.signed.1 + RESIGN_LOAD_MS;
            if due || now_ms >= node.signed.1 + RESIGN_MS {
                node.signed = (step, now_ms);
            }
            let candidacy = &mut self.supernodes[index].candidacy;
            candidacy.handle_sight(&seen, self.now);
            candidacy.handle_load(load_percent, self.now);
            candidacy.handle_timeout(self.now);
            self.take_steps(index);
        }
        self.after(EXCHANGE_MS, Event::Exchange);
    }

    fn sighted(&self, index: usize) -> Sighted {
        let peer = PeerRef(u32::try_from(index).unwrap());
        let load_percent = self.supernodes[index].load_percent() / 10 * 10;
        Sighted { peer, network: peer.0 / 2, roles: Roles::DIRECTORY, load_percent }
    }

    /// Executes what a supernode or a reserve wants. Messages among them arrive at once.
    fn take_steps(&mut self, index: usize) {
        let me = PeerRef(u32::try_from(index).unwrap());
        let now = self.now;
        while let Some(step) = self.supernodes[index].candidacy.poll_command() {
            match step {
                Step::Serve { .. } => {
                    self.supernodes[index].serving = true;
                    self.supernodes[index].signed = (0, now.mono_ms);
                    self.supernodes[index].told = (0, now.mono_ms);
                }
                Step::Announce(to) if self.is_up(to) => {
                    self.supernodes[to.0 as usize].candidacy.handle_announce(me, me.0 / 2, now);
                }
                Step::Invite(to) if self.supernodes[to.0 as usize].alive => {
                    let load_percent = self.supernodes[index].load_percent();
                    let invitation =
                        Invitation { from: me, load_percent, not_after_unix_ms: now.unix_ms + 60_000 };
                    self.supernodes[to.0 as usize].candidacy.handle_invitation(&invitation, now);
                    self.take_steps(to.0 as usize);
                }
                Step::AskLoad(of) => {
                    let load = self.is_up(of).then(|| self.supernodes[of.0 as usize].load_percent());
                    self.supernodes[index].candidacy.handle_load_answer(of, load, now);
                }
                Step::AnswerInvitation { to, accepted } => {
                    self.supernodes[to.0 as usize].candidacy.handle_invitation_answer(me, accepted);
                }
                Step::Announce(_) | Step::Invite(_) => {}
                Step::Drain { why, .. } => panic!("{me:?} drains: {why:?}"),
            }
        }
    }

    fn kill(&mut self, index: usize) {
        self.supernodes[index].alive = false;
        let peer = PeerRef(u32::try_from(index).unwrap());
        for leaf in std::mem::take(&mut self.supernodes[index].clients) {
            let delay_ms = 20 + self.rng.below(60);
            self.after(delay_ms, Event::Closed(leaf, peer));
        }
    }

    // ---- how it stands ----------------------------------------------------------------------------------------------

    fn serving(&self) -> usize {
        self.supernodes.iter().filter(|supernode| supernode.alive && supernode.serving).count()
    }

    /// Dials of each second from then on, of all leaves together; and the most at one supernode in a second.
    fn dials_since(&self, start_ms: u64) -> (Vec<usize>, usize) {
        let since = self.dials.range((start_ms / 1_000, PeerRef(0))..);
        let mut seconds = Vec::new();
        let mut worst = 0;
        for ((second, _), count) in since {
            let at = usize::try_from(second - start_ms / 1_000).unwrap();
            seconds.resize(seconds.len().max(at + 1), 0);
            seconds[at] += count;
            worst = worst.max(*count);
        }
        (seconds, worst)
    }

    /// Every leaf loses a home within the same second, though nobody has died: a fault of the lines.
    fn cut_one_home_each(&mut self) {
        for leaf in 0..self.leaves.len() {
            let Some(home) = self.leaves[leaf].homes.reserved().next() else { continue };
            let delay_ms = self.rng.below(1_000);
            self.supernodes[home.0 as usize].clients.remove(&leaf);
            self.supernodes[home.0 as usize].above.remove(&leaf);
            self.after(delay_ms, Event::Closed(leaf, home));
        }
    }

    /// Leaves with at least so many homes that are alive, and a published record.
    fn with_homes(&self, wanted: usize) -> usize {
        let live =
            |leaf: &Leaf| leaf.homes.reserved().filter(|home| self.supernodes[home.0 as usize].alive).count();
        self.leaves.iter().filter(|leaf| leaf.homes.is_reachable() && live(leaf) >= wanted).count()
    }

    /// The most attempts, and the most different supernodes, of any leaf in any minute since `from_ms`.
    fn worst_minute(&self, from_ms: u64) -> (usize, usize) {
        let mut worst = (0, 0);
        for leaf in &self.leaves {
            let since = leaf.attempts.iter().filter(|(at_ms, _)| *at_ms >= from_ms);
            let since: Vec<&(u64, PeerRef)> = since.collect();
            for (at, (start_ms, _)) in since.iter().enumerate() {
                let minute = since[at..].iter().filter(|(at_ms, _)| *at_ms < start_ms + 60_000);
                let peers: BTreeSet<PeerRef> = minute.clone().map(|(_, peer)| *peer).collect();
                worst = (worst.0.max(minute.count()), worst.1.max(peers.len()));
            }
        }
        worst
    }
}

#[test]
fn twenty_thousand_leaves_lose_a_third_of_their_supernodes() {
    let began = Instant::now();
    let mut crowd = Crowd::new(1, LEAVES, FIRST, RESERVES);
    for share in [4, 2, 1] {
        crowd.run_until(START_MS / share);
        println!("{} of {LEAVES} started: {} serve", LEAVES as u64 / share, crowd.serving());
    }
    crowd.run_until(START_MS + 60_000);
    println!("{} of {LEAVES} reachable a minute after the last started", crowd.with_homes(1));
    assert_eq!(crowd.with_homes(1), LEAVES, "all are reachable a minute after the last one started");
    crowd.run_until(420_000);
    assert_eq!(crowd.with_homes(HOMES), LEAVES);
    all_lose_a_home_in_one_second(&mut crowd);
    let (invited, accepted) = crowd.supernodes.iter().fold((0, 0), |(invited, accepted), supernode| {
        let figures = supernode.candidacy.figures();
        (invited + figures.invited, accepted + figures.accepted)
    });
    let serving = crowd.serving();
    println!("{serving} serve: {invited} invitations, {accepted} accepted");
    assert!(serving > FIRST + 50, "the network chose no more than {serving}");
    assert_eq!(serving as u64, FIRST as u64 + accepted, "somebody serves uninvited");
    assert!(crowd.supernodes.iter().all(|supernode| supernode.candidacy.figures().promoted_itself == 0));
    let reserves = crowd.supernodes.iter().filter(|supernode| supernode.candidacy.state() == State::Reserve);
    assert!(reserves.count() > 50, "nobody is left in reserve");

    let start_ms = crowd.now.mono_ms;
    let mut order: Vec<(u64, usize)> = (0..crowd.supernodes.len())
        .filter(|&index| crowd.supernodes[index].serving)
        .map(|index| (crowd.rng.next_u64(), index))
        .collect();
    order.sort_unstable();
    let lost: usize =
        order[..serving * 3 / 10].iter().map(|(_, index)| crowd.supernodes[*index].clients.len()).sum();
    for (_, index) in &order[..serving * 3 / 10] {
        crowd.kill(*index);
    }
    let homeless = LEAVES - crowd.with_homes(1);
    for s in [1, 5, 10, 20, 45] {
        crowd.run_until(start_ms + s * 1_000);
        println!("{s} s: {} of {LEAVES} without a home", LEAVES - crowd.with_homes(1));
    }
    assert!(homeless > 100, "only {homeless} lost all homes: the test shows nothing");
    assert_eq!(crowd.with_homes(1), LEAVES, "all are reachable again after 45 s");
    crowd.run_until(start_ms + 300_000);
    assert_eq!(crowd.with_homes(HOMES), LEAVES);
    let attempts: usize = crowd
        .leaves
        .iter()
        .map(|leaf| leaf.attempts.iter().filter(|(at_ms, _)| *at_ms >= start_ms).count())
        .sum();
    let worst = crowd.worst_minute(0);
    println!("{lost} homes lost: {attempts} attempts; worst minute of a leaf: {worst:?} attempts, peers");
    assert!(attempts <= lost * 3, "{attempts} attempts for {lost} lost homes");
    assert!(worst.0 <= 25, "{} attempts of one leaf in a minute", worst.0);
    assert!(worst.1 <= 12, "{} supernodes contacted by one leaf in a minute", worst.1);
    assert_eq!(crowd.early_returns, 0, "somebody came back before it was told to");
    println!("a crowd of {LEAVES} took {} ms", began.elapsed().as_millis());
}

fn all_lose_a_home_in_one_second(crowd: &mut Crowd) {
    let start_ms = crowd.now.mono_ms;
    crowd.cut_one_home_each();
    crowd.run_until(start_ms + 60_000);
    let (seconds, worst) = crowd.dials_since(start_ms);
    let serving = crowd.serving();
    println!(
        "a storm: {worst} dials at most at one of {serving} supernodes in a second; in all, by second: {seconds:?}"
    );
    assert_eq!(crowd.with_homes(HOMES), LEAVES, "all have three homes again a minute after a storm");
    assert!(worst <= 4 * LEAVES / serving, "{worst} dials at one supernode in a second");
    assert!(seconds.iter().sum::<usize>() <= LEAVES * 2);
    let later = seconds.iter().skip(3).max().copied().unwrap_or_default();
    assert!(later <= LEAVES / 20, "a wave of {later} comes back together");
}

#[test]
fn supernodes_die_one_by_one() {
    let began = Instant::now();
    let mut crowd = Crowd::new(2, FEW_LEAVES, FEW_FIRST, FEW_RESERVES);
    crowd.run_until(START_MS + 120_000);
    assert_eq!(crowd.with_homes(HOMES), FEW_LEAVES);
    let mut fewest = FEW_LEAVES;
    let mut killed = 0;
    while crowd.supernodes.iter().filter(|node| node.alive).count() > FEW_FIRST - 2 {
        let serving: Vec<usize> =
            (0..crowd.supernodes.len()).filter(|&index| crowd.is_up(peer_ref(index))).collect();
        let victim = serving[crowd.rng.index(serving.len())];
        crowd.kill(victim);
        killed += 1;
        let start_ms = crowd.now.mono_ms;
        for s in 1..=15 {
            crowd.run_until(start_ms + s * 1_000);
            fewest = fewest.min(crowd.with_homes(1));
        }
    }
    println!(
        "{killed} supernodes died one by one, {} serve: {fewest} of {FEW_LEAVES} had a home in the worst second ({} ms)",
        crowd.serving(),
        began.elapsed().as_millis()
    );
    assert!(killed >= 45, "only {killed} died");
    assert_eq!(fewest, FEW_LEAVES, "somebody was without any home");
    crowd.run_until(crowd.now.mono_ms + 180_000);
    assert_eq!(crowd.with_homes(HOMES), FEW_LEAVES);
}

fn peer_ref(index: usize) -> PeerRef {
    PeerRef(u32::try_from(index).unwrap())
}
