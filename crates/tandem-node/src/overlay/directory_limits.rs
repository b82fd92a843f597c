//! Who may ask this supernode questions of the directory (kad), and how many. Each answer names its nearest neighbours
//! to some key, so whoever could ask freely would know all supernodes soon: only supernodes are answered, and one is
//! whoever was reached under its key where it says that it serves. Devices never ask: their homes do.
//!
//! Pure policy: [`super::door`] asks it before a question is read, the service swarm tells it who was reached.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use tandem_core::backoff::TokenBucket;
use tandem_core::network::subnet;
use tandem_core::rates::Rates;

/// Supernodes remembered as reached; the one reached first makes room.
const REACHED_MAX: usize = 4_096;
/// What was reached counts for so long.
const REACHED_FOR: Duration = Duration::from_secs(12 * 3600);
/// One that was not reached is left alone for so long. As many are remembered.
const MISSED_FOR: Duration = Duration::from_secs(20);
/// Questions of one supernode at once, and how often one more: its homes' publications after many others have died, and
/// look-ups, come to less.
const QUESTIONS_BURST: u32 = 1_200;
const QUESTION_MS: u32 = 50;
/// And of one /24 or /48.
const SUBNET_BURST: u32 = 4_800;
const SUBNET_QUESTION_MS: u32 = 12;
/// How often somebody of one /24 or /48 is dialled to see whether it serves.
const TRIES_BURST: u32 = 64;
const TRY_MS: u32 = 1_000;
/// Questions that wait until their asker has been reached, of all and of one.
const WAITING_MAX: usize = 512;
const WAITING_PER_PEER: usize = 16;

/// What is to happen to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Answered,
    /// Whether the asker is a supernode is not known yet.
    Waits,
    Refused,
}

/// One for a service swarm.
#[derive(Debug)]
pub(super) struct DirectoryLimits {
    start: Instant,
    reached: BTreeMap<PeerId, Reached>,
    missed: BTreeMap<PeerId, Instant>,
    waiting: BTreeMap<PeerId, usize>,
    questions: Rates,
    tries: Rates,
}

#[derive(Debug)]
struct Reached {
    at: Instant,
    questions: TokenBucket,
}

impl DirectoryLimits {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            start: now,
            reached: BTreeMap::new(),
            missed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            questions: Rates::new(SUBNET_BURST, SUBNET_QUESTION_MS),
            tries: Rates::new(TRIES_BURST, TRY_MS),
        }
    }

    /// A question of this peer, which speaks from there.
    pub(super) fn ask(&mut self, peer: &PeerId, from: IpAddr, now: Instant) -> Admission {
        let now_ms = self.ms(now);
        if !self.is_reached(peer, now) {
            return if self.is_missed(peer, now) { Admission::Refused } else { Admission::Waits };
        }
        let own = self.reached.get_mut(peer).is_some_and(|reached| reached.questions.take(now_ms));
        if own && self.questions.take(Some(subnet(from)), now_ms).is_ok() {
            Admission::Answered
        } else {
            Admission::Refused
        }
    }

    /// Takes a place for a question that waits; it is given back by [`Self::waited`].
    pub(super) fn wait(&mut self, peer: PeerId) -> bool {
        let of_peer = self.waiting.get(&peer).copied().unwrap_or_default();
        let has_room = of_peer < WAITING_PER_PEER && self.waiting.values().sum::<usize>() < WAITING_MAX;
        if has_room {
            self.waiting.insert(peer, of_peer + 1);
        }
        has_room
    }

    pub(super) fn waited(&mut self, peer: &PeerId) {
        if let Some(waiting) = self.waiting.get_mut(peer) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(peer);
            }
        }
    }

    /// Those whose questions wait.
    pub(super) fn asking(&self) -> Vec<PeerId> {
        self.waiting.keys().copied().collect()
    }

    /// Whether this peer, which asks and says that it serves, should be dialled to see whether it does.
    pub(super) fn should_try(&mut self, peer: &PeerId, from: IpAddr, now: Instant) -> bool {
        let now_ms = self.ms(now);
        self.waiting.contains_key(peer)
            && !self.is_reached(peer, now)
            && !self.is_missed(peer, now)
            && self.tries.take(Some(subnet(from)), now_ms).is_ok()
    }

    /// It was reached where it says that it serves, and proved its key.
    pub(super) fn reached(&mut self, peer: PeerId, now: Instant) {
        self.missed.remove(&peer);
        if let Some(reached) = self.reached.get_mut(&peer) {
            reached.at = now;
            return;
        }
        make_room(&mut self.reached, |reached| reached.at);
        let questions = TokenBucket::new(QUESTIONS_BURST, QUESTION_MS, self.ms(now));
        self.reached.insert(peer, Reached { at: now, questions });
    }

    /// It was not. What was proved before counts on until it ends.
    pub(super) fn missed(&mut self, peer: PeerId, now: Instant) {
        self.missed.retain(|_, at| now.saturating_duration_since(*at) < MISSED_FOR);
        make_room(&mut self.missed, |at| *at);
        self.missed.insert(peer, now);
    }

    /// This node serves nobody any more.
    pub(super) fn forget_all(&mut self) {
        self.reached.clear();
        self.missed.clear();
    }

    fn is_reached(&self, peer: &PeerId, now: Instant) -> bool {
        let reached = self.reached.get(peer);
        reached.is_some_and(|reached| now.saturating_duration_since(reached.at) < REACHED_FOR)
    }

    fn is_missed(&self, peer: &PeerId, now: Instant) -> bool {
        self.missed.get(peer).is_some_and(|at| now.saturating_duration_since(*at) < MISSED_FOR)
    }

    fn ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

fn make_room<T>(map: &mut BTreeMap<PeerId, T>, at: impl Fn(&T) -> Instant) {
    if map.len() < REACHED_MAX {
        return;
    }
    let first = map.iter().min_by_key(|(_, entry)| at(entry)).map(|(peer, _)| *peer);
    if let Some(first) = first {
        map.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn from(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[test]
    fn only_one_that_was_reached_is_answered() {
        let start = Instant::now();
        let mut limits = DirectoryLimits::new(start);
        let peer = PeerId::random();
        assert!(!limits.should_try(&peer, from(1), start), "it has asked nothing");
        assert_eq!(limits.ask(&peer, from(1), start), Admission::Waits);
        assert!(limits.wait(peer) && limits.should_try(&peer, from(1), start));
        limits.missed(peer, start);
        assert_eq!(limits.ask(&peer, from(1), start), Admission::Refused);
        assert!(!limits.should_try(&peer, from(1), start), "it is not dialled again at once");
        let later = start + MISSED_FOR;
        assert!(limits.should_try(&peer, from(1), later));
        limits.reached(peer, later);
        assert_eq!(limits.ask(&peer, from(1), later), Admission::Answered);
        assert!(!limits.should_try(&peer, from(1), later + 11 * HOUR));
        assert_eq!(limits.ask(&peer, from(1), later + 12 * HOUR), Admission::Waits);
        assert!(limits.should_try(&peer, from(1), later + 12 * HOUR));
    }

    #[test]
    fn questions_are_counted_by_key_and_by_network() {
        let start = Instant::now();
        let mut limits = DirectoryLimits::new(start);
        let peers: Vec<PeerId> = (0..8).map(|_| PeerId::random()).collect();
        let mut answered = |peer: &PeerId, ip: IpAddr, at: Instant| {
            limits.reached(*peer, at);
            (0..10_000).filter(|_| limits.ask(peer, ip, at) == Admission::Answered).count()
        };
        assert_eq!(answered(&peers[0], from(1), start), 1_200);
        assert_eq!(answered(&peers[0], from(1), start), 0, "proving it again gives no more");
        let of_network: usize = peers[1..].iter().map(|peer| answered(peer, from(2), start)).sum();
        assert_eq!(of_network, 3_600, "4,800 of one /24");
        assert_eq!(answered(&PeerId::random(), IpAddr::from([198, 51, 100, 1]), start), 1_200);
        assert_eq!(answered(&peers[0], from(1), start + Duration::from_secs(1)), 20);
    }

    #[test]
    fn a_crowd_of_keys_is_bounded() {
        let start = Instant::now();
        let mut limits = DirectoryLimits::new(start);
        let mut tried = 0;
        for peer in std::iter::repeat_with(PeerId::random).take(1_000) {
            assert!(limits.wait(peer));
            tried += usize::from(limits.should_try(&peer, from(1), start));
            limits.waited(&peer);
        }
        assert_eq!(tried, 64, "nobody lets a supernode dial one network again and again");
        let one = PeerId::random();
        assert_eq!((0..1_000).filter(|_| limits.wait(one)).count(), WAITING_PER_PEER);
        let all = (0..10_000).filter(|_| limits.wait(PeerId::random())).count();
        assert_eq!(all, WAITING_MAX - WAITING_PER_PEER);
        limits.waited(&one);
        assert!(limits.wait(PeerId::random()));
        for second in 0..5_000 {
            limits.reached(PeerId::random(), start + Duration::from_secs(second));
            limits.missed(PeerId::random(), start + Duration::from_secs(second / 100));
        }
        assert_eq!(limits.reached.len(), REACHED_MAX);
        assert!(limits.missed.len() <= REACHED_MAX);
    }
}
