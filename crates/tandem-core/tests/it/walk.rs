//! Walks through a directory of a thousand honest supernodes, with a hundred hostile ones in one /16 whose keys were
//! ground until they were the nearest to somebody's.

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::rng::Rng;
use tandem_core::walk::{Candidate, NEAREST, PARALLEL, Position, Walk};
use tandem_proto::ids::ServiceKey;

const HONEST: usize = 1_000;
const NETWORKS: u64 = 300;
const HOSTILE: usize = 100;
const HOSTILE_NETWORK: u32 = 60_000;
/// Places of a bucket, and in an answer (Kademlia's k); of one network in a bucket.
const BUCKET: usize = 20;
const OF_NETWORK: usize = 2;
const COPIES: usize = 5;
const TARGET: Position = [0x5a; 32];

/// What the hostile ones answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Each other.
    EachOther,
    /// Nobody: they do not answer at all.
    Silence,
    /// Keys that nobody has, nearer than all, at addresses in every network.
    Invented,
}

struct World {
    positions: BTreeMap<Candidate, Position>,
    tables: BTreeMap<Candidate, Vec<Candidate>>,
    honest: Vec<Candidate>,
    hostile: BTreeSet<Candidate>,
    lie: Lie,
}

fn position(rng: &mut Rng) -> Position {
    let mut position = [0; 32];
    for part in position.chunks_mut(8) {
        part.copy_from_slice(&rng.next_u64().to_be_bytes());
    }
    position
}

fn distance(a: &Position, b: &Position) -> Position {
    std::array::from_fn(|at| a[at] ^ b[at])
}

fn key(n: usize) -> ServiceKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_be_bytes());
    ServiceKey(key)
}

/// As near to the target as nobody else: the first eight bytes are the same.
fn ground(n: usize) -> Position {
    let mut position = TARGET;
    position[8] ^= u8::try_from(n % 251).unwrap();
    position[9] ^= u8::try_from(n / 251).unwrap();
    position
}

impl World {
    fn new(seed: u64, hostile: usize, lie: Lie) -> Self {
        let mut rng = Rng::new(seed);
        let mut world = Self {
            positions: BTreeMap::new(),
            tables: BTreeMap::new(),
            honest: Vec::new(),
            hostile: BTreeSet::new(),
            lie,
        };
        for n in 0..HONEST {
            let network = u32::try_from(rng.below(NETWORKS)).unwrap();
            let candidate = Candidate { service: key(n), network };
            world.positions.insert(candidate, position(&mut rng));
            world.honest.push(candidate);
        }
        for n in 0..hostile {
            let candidate = Candidate { service: key(HONEST + n), network: HOSTILE_NETWORK };
            world.positions.insert(candidate, ground(n));
            world.hostile.insert(candidate);
        }
        for own in world.honest.clone() {
            let table = world.table(own, &mut rng);
            world.tables.insert(own, table);
        }
        world
    }

    /// Whom it knows: up to twenty a bucket, two of a network in each; the hostile ones asked first.
    fn table(&self, own: Candidate, rng: &mut Rng) -> Vec<Candidate> {
        let mut others: Vec<_> = self.honest.iter().filter(|other| **other != own).copied().collect();
        for at in (1..others.len()).rev() {
            others.swap(at, rng.index(at + 1));
        }
        let mut buckets: BTreeMap<u32, Vec<Candidate>> = BTreeMap::new();
        for other in self.hostile.iter().copied().chain(others) {
            let apart = distance(&self.positions[&own], &self.positions[&other]);
            let high = apart.iter().position(|byte| *byte != 0).unwrap_or(32);
            let zeros = apart.get(high).map_or(0, |byte| byte.leading_zeros());
            let bucket = buckets.entry(u32::try_from(high * 8).unwrap() + zeros).or_default();
            let of_network = bucket.iter().filter(|known| known.network == other.network).count();
            if bucket.len() < BUCKET && of_network < OF_NETWORK {
                bucket.push(other);
            }
        }
        buckets.into_values().flatten().collect()
    }

    fn nearest_of(&self, known: impl IntoIterator<Item = Candidate>) -> Vec<(Candidate, Position)> {
        let mut known: Vec<_> = known.into_iter().map(|one| (one, self.positions[&one])).collect();
        known.sort_by_key(|(_, position)| distance(position, &TARGET));
        known.truncate(BUCKET);
        known
    }

    fn answer(&self, of: Candidate, rng: &mut Rng) -> Option<Vec<(Candidate, Position)>> {
        if !self.hostile.contains(&of) {
            return self.tables.get(&of).map(|table| self.nearest_of(table.iter().copied()));
        }
        match self.lie {
            Lie::EachOther => Some(self.nearest_of(self.hostile.iter().copied())),
            Lie::Silence => None,
            Lie::Invented => Some(
                (0..BUCKET)
                    .map(|_| {
                        let service = ServiceKey(position(rng));
                        let network = u32::try_from(rng.below(NETWORKS)).unwrap();
                        (Candidate { service, network }, ground(rng.index(60_000)))
                    })
                    .collect(),
            ),
        }
    }

    /// A walk begun by that supernode; those that answered, and how many were asked.
    fn walk(&self, from: Candidate, rng: &mut Rng) -> (Vec<Candidate>, usize) {
        let mut walk = Walk::new(TARGET);
        for (known, position) in self.nearest_of(self.tables[&from].iter().copied()) {
            walk.know(known, &position);
        }
        let mut asked = 0;
        while !walk.is_done() {
            let mut under_way: Vec<Candidate> = std::iter::from_fn(|| walk.poll()).collect();
            assert!(!under_way.is_empty() && under_way.len() <= PARALLEL, "it stands still");
            asked += under_way.len();
            while !under_way.is_empty() {
                let one = under_way.swap_remove(rng.index(under_way.len()));
                match self.answer(one, rng) {
                    Some(named) => walk.answered(one, named),
                    None => walk.failed(one),
                }
            }
        }
        (walk.nearest(), asked)
    }
}

/// What became of records published and looked up from everywhere.
struct Outcome {
    honest_copies_min: usize,
    answers_min: usize,
    asked_max: usize,
}

fn publish_and_look_up(world: &World, seed: u64) -> Outcome {
    let mut rng = Rng::new(seed);
    let mut outcome = Outcome { honest_copies_min: usize::MAX, answers_min: usize::MAX, asked_max: 0 };
    for _ in 0..20 {
        let publisher = world.honest[rng.index(HONEST)];
        let (nearest, asked) = world.walk(publisher, &mut rng);
        let holders: BTreeSet<Candidate> =
            nearest.into_iter().take(COPIES).filter(|one| !world.hostile.contains(one)).collect();
        outcome.asked_max = outcome.asked_max.max(asked);
        outcome.honest_copies_min = outcome.honest_copies_min.min(holders.len());
        for _ in 0..20 {
            let reader = world.honest[rng.index(HONEST)];
            let (nearest, asked) = world.walk(reader, &mut rng);
            let answers = nearest.iter().filter(|one| holders.contains(one)).count();
            outcome.asked_max = outcome.asked_max.max(asked);
            outcome.answers_min = outcome.answers_min.min(answers);
        }
    }
    outcome
}

#[test]
fn a_hundred_in_one_network_with_the_nearest_keys_cannot_hide_a_record() {
    for lie in [Lie::EachOther, Lie::Silence, Lie::Invented] {
        for seed in 0..2 {
            let outcome = publish_and_look_up(&World::new(seed, HOSTILE, lie), seed);
            println!(
                "at least {} honest copies, {} answers; at most {} asked",
                outcome.honest_copies_min, outcome.answers_min, outcome.asked_max
            );
            assert!(outcome.honest_copies_min >= COPIES - 1, "{} copies", outcome.honest_copies_min);
            assert!(outcome.answers_min >= 3, "{} answers", outcome.answers_min);
            assert!(outcome.asked_max <= 40, "{} asked", outcome.asked_max);
        }
    }
}

#[test]
fn without_them_everybody_finds_the_same() {
    let world = World::new(1, 0, Lie::Silence);
    let outcome = publish_and_look_up(&world, 1);
    assert_eq!(outcome.honest_copies_min, COPIES);
    assert!(outcome.answers_min >= COPIES - 1, "{} answers", outcome.answers_min);
    assert!(outcome.asked_max <= 3 * NEAREST, "{} asked", outcome.asked_max);
}

#[test]
fn in_a_single_network_it_is_plain_kademlia() {
    let mut walk = Walk::new(TARGET);
    let mut rng = Rng::new(3);
    let mut all: Vec<_> =
        (0..30).map(|n| (Candidate { service: key(n), network: 1 }, position(&mut rng))).collect();
    for (candidate, position) in &all {
        walk.know(*candidate, position);
    }
    let mut asked = Vec::new();
    while let Some(one) = walk.poll() {
        asked.push(one);
        walk.answered(one, []);
    }
    all.sort_by_key(|(_, position)| distance(position, &TARGET));
    let nearest: Vec<_> = all.iter().take(NEAREST).map(|(candidate, _)| *candidate).collect();
    assert_eq!(asked, nearest);
    assert!(walk.is_done());
    assert_eq!(walk.nearest(), nearest);
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut walk = Walk::new(TARGET);
    let mut rng = Rng::new(4);
    let stranger = Candidate { service: key(1), network: 1 };
    let other = Candidate { service: key(2), network: 2 };
    walk.answered(stranger, [(other, position(&mut rng))]);
    walk.failed(stranger);
    assert!(walk.is_done() && walk.poll().is_none() && walk.nearest().is_empty());
    walk.know(stranger, &position(&mut rng));
    assert_eq!(walk.poll(), Some(stranger));
    assert!(!walk.is_done());
    walk.failed(stranger);
    walk.answered(stranger, [(other, position(&mut rng))]);
    assert!(walk.is_done() && walk.poll().is_none());
    assert!(walk.knows(stranger) && !walk.knows(other));
    assert!(walk.is_nearer(&TARGET, stranger) && !walk.is_nearer(&TARGET, other));
}

#[test]
fn what_is_named_is_bounded() {
    let mut walk = Walk::new(TARGET);
    let mut rng = Rng::new(5);
    walk.know(Candidate { service: key(0), network: 0 }, &position(&mut rng));
    let mut asked = 0;
    while let Some(one) = walk.poll() {
        asked += 1;
        let named: Vec<_> = (0..10_000)
            .map(|_| {
                let network = u32::try_from(rng.below(60_000)).unwrap();
                (Candidate { service: ServiceKey(position(&mut rng)), network }, position(&mut rng))
            })
            .collect();
        walk.answered(one, named);
    }
    assert!(asked <= 40, "{asked}");
    assert!(walk.is_done());
}
