//! `run SCENARIO.toml [nodes] [seed] [csv]`: one scenario, its table, and how long it took.

use tandem_core::homes::Homes;
use tandem_sim::scenario::{PolicyName, Scenario};
use tandem_sim::world::World;

#[expect(clippy::disallowed_methods, reason = "how long a run took is measured outside of it")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let mut scenario = Scenario::parse(&std::fs::read_to_string(&arguments[1])?)?;
    if scenario.policy == PolicyName::Old {
        return Err("the old behaviour's leaves are not written yet: only policy = \"tandem\" runs".into());
    }
    if let Some(nodes) = arguments.get(2) {
        scenario.nodes = nodes.parse()?;
    }
    if let Some(seed) = arguments.get(3) {
        scenario.seed = seed.parse()?;
    }
    let begun = std::time::Instant::now();
    let mut world: World<Homes> = World::new(scenario);
    while world.run_for(600_000) {
        let (now, end) = world.progress_ms();
        eprint!("\r{} of {} min, {} s ", now / 60_000, end / 60_000, begun.elapsed().as_secs());
    }
    eprintln!();
    let report = world.report();
    if let Some(path) = arguments.get(4) {
        std::fs::write(path, report.csv())?;
    }
    println!("{}", report.table());
    println!(
        "{:.1} s, {:.0} events a second",
        begun.elapsed().as_secs_f64(),
        report.totals.events as f64 / begun.elapsed().as_secs_f64()
    );
    Ok(())
}
