//! Twenty thousand leaves under forced time: they start, choose more supernodes, lose a third of them in one moment, lose
//! them one by one, or all come back in the same second; and everybody must be reachable again without a storm.
//!
//! Each test runs one seed. `CROWD_SEEDS=20` runs the next twenty in its place.

use tandem_core::dialing::HOMES_CONTACTS_A_MINUTE;
use tandem_core::election::State;
use tandem_core::homes::HOMES;

use crate::crowd_supernodes::{Health, PLACES, REQUESTS_PER_SECOND};
use crate::crowd_world::{Crowd, Plan};

/// Supernodes that serve from the start together have hardly more places than the leaves want.
const MANY: Plan = Plan { leaves: 20_000, first: 160, reserves: 320, unwilling: 80, start_ms: 120_000 };
const FEW: Plan = Plan { leaves: 2_000, first: 24, reserves: 48, unwilling: 8, start_ms: 30_000 };
const MINUTE_MS: u64 = 60_000;
/// One leaf's attempts in a minute: those it has saved up, and those that come anew (spec/overlay.md).
const ATTEMPTS_A_MINUTE: usize = 10 + 15;

/// The seeds to run: one, or as many as the environment says, from the next one on.
fn for_each_seed(first: u64, run: impl Fn(u64)) {
    let more: Option<u64> = std::env::var("CROWD_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let seeds = more.map_or(first..first + 1, |seeds| first + 1..first + 1 + seeds);
    for seed in seeds {
        println!("--- seed {seed}");
        run(seed);
    }
}

/// All have started, and found their homes.
fn settled(seed: u64, plan: Plan) -> Crowd {
    let mut crowd = Crowd::new(seed, plan);
    crowd.run_for(plan.start_ms);
    println!("all started: {} serve, {} have no home", crowd.serving().len(), crowd.short_of(1));
    crowd.run_for(MINUTE_MS);
    assert_eq!(crowd.short_of(1), 0, "all are reachable a minute after the last one started");
    for _ in 0..8 {
        crowd.run_for(MINUTE_MS / 2);
        if crowd.short_of(HOMES) == 0 {
            break;
        }
    }
    crowd.explain(HOMES);
    assert_eq!(crowd.short_of(HOMES), 0, "all have three homes five minutes after the last one started");
    assert_networks_differ(&crowd);
    crowd
}

/// What holds of every crowd at its end.
fn assert_manners(crowd: &Crowd, plan: Plan) {
    let worst = crowd.worst_minute(0);
    let told = crowd.most_learned();
    let figures = crowd.figures();
    println!("worst minute of a leaf: {worst:?} attempts, peers; told of {told} supernodes at most");
    println!("{figures:?}");
    assert!(worst.0 <= ATTEMPTS_A_MINUTE, "{} attempts of one leaf in a minute", worst.0);
    assert!(worst.1 <= HOMES_CONTACTS_A_MINUTE, "{} supernodes contacted by one leaf in a minute", worst.1);
    assert_eq!(crowd.early_returns, 0, "somebody came back before it was told to");
    let (of_calls, refused) = crowd.of_calls;
    assert_eq!(refused, 0, "of {of_calls} requests of calls in progress");
    // An inviter may die before it hears the answer.
    let invited = figures.accepted <= figures.recruited && figures.recruited <= figures.invited;
    assert!(invited, "somebody serves uninvited: {figures:?}");
    assert_eq!(figures.promoted_itself, 0);
    let unwilling = crowd.supernodes.iter().filter(|node| !node.consents);
    let plain = unwilling.filter(|node| node.candidacy.state() == State::Plain).count();
    assert_eq!(plain, plan.unwilling, "somebody serves whose owner did not agree");
    assert_networks_differ(crowd);
}

fn assert_networks_differ(crowd: &Crowd) {
    let sharing = crowd.sharing_networks();
    println!("{sharing} have two homes in one network");
    assert!(sharing <= crowd.leaves.len() / 1_000, "{sharing} have two homes in one network");
}

#[test]
fn twenty_thousand_leaves_lose_a_third_of_their_supernodes() {
    for_each_seed(1, |seed| {
        let mut crowd = settled(seed, MANY);
        let reserves =
            crowd.supernodes.iter().filter(|node| node.candidacy.state() == State::Reserve).count();
        assert!(crowd.serving().len() > MANY.first + 20, "the network chose no more");
        assert!(reserves > 50, "nobody is left in reserve");
        let (told, all) = (crowd.most_learned(), crowd.listed);
        assert!(told * 2 < all, "some leaf was told of {told} of {all} supernodes");
        lose_a_third(&mut crowd);
        assert_manners(&crowd, MANY);
    });
}

fn lose_a_third(crowd: &mut Crowd) {
    let start_ms = crowd.now.mono_ms;
    let mut serving = crowd.serving();
    let lost = serving.len() * 3 / 10;
    let mut homes_lost = 0;
    for nth in 0..lost {
        let at = crowd.rng.index(serving.len());
        let victim = serving.swap_remove(at);
        homes_lost += crowd.supernodes[victim].clients();
        // Every fifth machine vanishes without a word.
        crowd.kill(victim, if nth % 5 == 0 { Health::Vanished } else { Health::Killed });
    }
    let homeless = crowd.short_of(1);
    let mut since_ms = 0;
    for s in [1, 5, 10, 20, 45, 60, 120, 180, 240, 300] {
        crowd.run_for(s * 1_000 - since_ms);
        since_ms = s * 1_000;
        println!(
            "{s} s: {} without a home, {} short of three; {} serve",
            crowd.short_of(1),
            crowd.short_of(HOMES),
            crowd.serving().len()
        );
        if s == 45 {
            crowd.explain(1);
        }
        assert!(s != 45 || crowd.short_of(1) == 0, "all are reachable again after 45 s");
        if s > 45 && crowd.short_of(HOMES) == 0 {
            break;
        }
    }
    assert!(homeless > 100, "only {homeless} lost all homes: the test shows nothing");
    crowd.explain(HOMES);
    assert_eq!(crowd.short_of(HOMES), 0, "all have three homes again after five minutes");
    let attempts = crowd.attempts_since(start_ms);
    println!("{homes_lost} homes lost: {attempts} attempts");
    // One of them goes to where it was lost.
    assert!(attempts <= homes_lost * 4, "{attempts} attempts for {homes_lost} lost homes");
}

#[test]
fn twenty_thousand_leaves_come_back_at_once() {
    for_each_seed(1, |seed| {
        let mut crowd = settled(seed, MANY);
        for leaf in (0..MANY.leaves).step_by(50) {
            crowd.set_in_call(leaf);
        }
        let start_ms = crowd.now.mono_ms;
        crowd.cut_one_home_each();
        come_back(&mut crowd, "a home of each is cut off", MINUTE_MS);
        assert!(crowd.attempts_since(start_ms) <= MANY.leaves * 2);
        for (within_ms, vanishes) in [(0, false), (MINUTE_MS, false), (MINUTE_MS / 2, true)] {
            for leaf in (0..MANY.leaves).filter(|leaf| leaf % 50 != 0) {
                crowd.restart(leaf, within_ms, vanishes);
            }
            let what = format!("all restart within {within_ms} ms, vanishing: {vanishes}");
            come_back(&mut crowd, &what, 5 * MINUTE_MS);
        }
        assert_manners(&crowd, MANY);
    });
}

fn come_back(crowd: &mut Crowd, what: &str, ms: u64) {
    let start_ms = crowd.now.mono_ms;
    println!("{what}:");
    crowd.worst_second();
    let mut since_ms = 0;
    for s in [10, 30, 60, 90, 120, 180, 300] {
        if s * 1_000 > ms || s > 10 && crowd.short_of(HOMES) == 0 {
            break;
        }
        crowd.run_for(s * 1_000 - since_ms);
        since_ms = s * 1_000;
        let (asked, answered) = crowd.worst_second();
        println!(
            "  {s} s: {} without a home, {} short of three; {asked} asked, {answered} answered in a second",
            crowd.short_of(1),
            crowd.short_of(HOMES)
        );
        // What it saved up, and what comes anew.
        assert!(answered <= 5 * REQUESTS_PER_SECOND, "{answered} answers in a second");
        assert!(
            s == 10 || asked <= 2 * REQUESTS_PER_SECOND,
            "{what}: {asked} requests in a second after {s} s"
        );
    }
    println!("  {} attempts", crowd.attempts_since(start_ms));
    crowd.explain(HOMES);
    assert_eq!(crowd.short_of(HOMES), 0, "{what}");
}

#[test]
fn supernodes_die_one_by_one() {
    for_each_seed(2, |seed| {
        let mut crowd = settled(seed, FEW);
        let mut worst = 0;
        let mut killed = 0;
        while crowd.supernodes.iter().filter(|node| node.consents && node.health == Health::Up).count() > 22 {
            let serving = crowd.serving();
            let victim = serving[crowd.rng.index(serving.len())];
            crowd.kill(victim, if killed % 5 == 0 { Health::Vanished } else { Health::Killed });
            killed += 1;
            for _ in 0..15 {
                crowd.run_for(1_000);
                worst = worst.max(crowd.short_of(1));
            }
            println!("{killed} died, {} serve, {} short", crowd.serving().len(), crowd.short_of(HOMES));
        }
        println!("{worst} of {} had no home in the worst second", FEW.leaves);
        assert!(killed >= 45, "only {killed} died");
        for _ in 0..10 {
            if crowd.short_of(HOMES) > 0 {
                crowd.run_for(MINUTE_MS / 2);
            }
        }
        crowd.explain(HOMES);
        println!("in the end {} serve, {} short", crowd.serving().len(), crowd.short_of(HOMES));
        assert_eq!(crowd.short_of(HOMES), 0);
        assert!(crowd.serving().len() * PLACES >= FEW.leaves * HOMES);
        assert_manners(&crowd, FEW);
    });
}
