//! Small worlds: they repeat themselves, and hold what every world must.

use tandem_core::homes::Homes;
use tandem_sim::report::Report;
use tandem_sim::scenario::{Scenario, ScenarioError};
use tandem_sim::world::World;

fn run(text: &str, seed: u64, nodes: u32) -> Report {
    let mut scenario = Scenario::parse(text).expect("it is committed");
    (scenario.seed, scenario.nodes) = (seed, nodes);
    let mut world: World<Homes> = World::new(scenario);
    while world.run_for(60_000) {}
    world.report()
}

const KILL_30: &str = include_str!("../../scenarios/kill-30.toml");

#[test]
fn the_same_seed_gives_the_same_report_byte_for_byte_and_another_another() {
    let [one, again, other] = [7, 7, 8].map(|seed| run(KILL_30, seed, 2_000));
    assert_eq!(one.table(), again.table());
    assert_eq!(one.csv(), again.csv());
    assert_ne!(one.csv(), other.csv());
}

#[test]
fn time_may_pass_in_pieces_of_any_length() {
    let mut scenario = Scenario::parse(KILL_30).unwrap();
    scenario.nodes = 1_000;
    let [mut whole, mut pieces]: [World<Homes>; 2] = [World::new(scenario.clone()), World::new(scenario)];
    while whole.run_for(u32::MAX) {}
    while pieces.run_for(777) {}
    assert_eq!(whole.report().csv(), pieces.report().csv());
}

#[test]
fn a_scenario_that_says_something_unknown_or_impossible_is_refused() {
    let base = "name = \"a\"\nabout = \"b\"\nnodes = 1000\nminutes = 60\n";
    let refused = |more: &str| Scenario::parse(&format!("{base}{more}")).unwrap_err();
    assert!(Scenario::parse(base).is_ok());
    assert!(refused("nodse = 7\n").to_string().contains("nodse"));
    let text =
        refused("[[fault]]\nwhat = \"kill-supernodes\"\nminute = 5\npercent = 30\npercnet = 1\n").to_string();
    assert!(text.contains("percnet"), "{text}");
    let fault = |rest: &str| refused(&format!("[[fault]]\n{rest}\n"));
    let beyond = fault("what = \"kill-supernodes\"\nminute = 5\npercent = 101");
    assert!(
        matches!(beyond, ScenarioError::OutOfBounds { what: "fault.percent", value: 101, .. }),
        "{beyond}"
    );
    let late = fault("what = \"flash-crowd\"\nminute = 60\ntimes = 4\nfor_minutes = 5");
    assert!(matches!(late, ScenarioError::TooLate { minute: 60, minutes: 60 }), "{late}");
    assert!(matches!(fault("what = \"meteor\"\nminute = 5"), ScenarioError::Toml(_)));
    let both = refused("[supernodes]\nslow_percent = 60\nlying_percent = 60\n");
    assert!(matches!(both, ScenarioError::OutOfBounds { value: 120, .. }), "{both}");
}

/// Every committed scenario parses, and is called as its file is.
#[test]
fn committed_scenarios_parse() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let scenario = Scenario::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(path.file_stem().unwrap().to_str(), Some(scenario.name.as_str()));
        count += 1;
    }
    assert_eq!(count, 11);
}

/// What always holds, and that the world heals: everybody is reachable soon, whatever came.
fn survives(text: &str, seed: u64, nodes: u32, within_s: u32) -> Report {
    let report = run(text, seed, nodes);
    println!("{}", report.table());
    assert_eq!(report.violations, [], "seed {seed}");
    let totals = &report.totals;
    assert!(totals.back_after_s.is_some_and(|s| s <= within_s), "seed {seed}: {:?}", totals.back_after_s);
    let at_end = report.samples.last().map(|sample| sample.reachable_permille());
    assert!(at_end.is_some_and(|permille| permille >= 990), "seed {seed}: {at_end:?} ‰ at the end");
    report
}

#[test]
fn three_in_ten_die_and_a_fifth_of_the_clients_restart() {
    let report = survives(include_str!("../../scenarios/skype-2010.toml"), 1, 20_000, 60);
    assert!(report.totals.least_reachable_permille > 600);
}

#[test]
fn three_in_ten_die() {
    let report = survives(KILL_30, 1, 20_000, 60);
    assert!(report.totals.serving_at_fault > 60);
}

#[test]
fn six_in_ten_die() {
    survives(include_str!("../../scenarios/kill-60.toml"), 1, 20_000, 60);
}

#[test]
fn a_region_is_cut_off_and_comes_back() {
    survives(include_str!("../../scenarios/region-cut.toml"), 1, 20_000, 60);
}

#[test]
fn a_release_fails() {
    survives(include_str!("../../scenarios/bad-release.toml"), 1, 20_000, 60);
}

#[test]
fn a_fifth_of_those_who_serve_are_one_attackers() {
    survives(include_str!("../../scenarios/sybil-20.toml"), 1, 20_000, 60);
}

#[test]
fn everybody_calls_at_midnight_and_many_come_for_the_first_time() {
    survives(include_str!("../../scenarios/new-year.toml"), 1, 20_000, 60);
    survives(include_str!("../../scenarios/growth.toml"), 1, 20_000, 60);
}
