//! `tandem bench crowd`: many real nodes on one machine. What a leaf and a supernode cost while nothing happens, and how
//! that grows with the number of nodes.

mod gauge;
mod room;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use tandem_api::{Status, VolunteerView};

use self::gauge::Gauge;
use self::world::{Kind, Member, World};
use super::Bench;
use super::figures::{Report, Row, Spread, Target};
use super::namespace::Traffic;

const HOMES: usize = 3;
/// As `tandem bench idle` holds a leaf to, in MB (10⁶ bytes) and in bytes a second both ways.
const LEAF_MEMORY_MB: f64 = 25.0;
const LEAF_BYTES_PER_SECOND: f64 = 100.0;
/// One node in so many is a supernode, and not fewer than the least.
const SHARE: u32 = 10;
const SUPERNODES_MIN: u32 = 5;
/// Addresses of the room: a network each.
const SUPERNODES_MAX: u32 = 250;
const NODES_MAX: u32 = 2_000;

#[derive(Debug, Clone, Args)]
pub(super) struct CrowdBench {
    /// How many nodes, supernodes among them: each number a crowd of its own, one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [30, 100, 300], value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(6..=i64::from(NODES_MAX)))]
    nodes: Vec<u32>,
    /// Supernodes in each crowd (default: one in ten, at least 5)
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(3..=i64::from(SUPERNODES_MAX)))]
    supernodes: Option<u32>,
    /// How long a crowd is left alone before it is measured
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=3600))]
    settle: u32,
    /// How long it is measured
    #[arg(long, default_value_t = 180, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(10..=86400))]
    seconds: u32,
    /// Set where the bench runs in a namespace of its own already.
    #[arg(long, hide = true)]
    pub(super) inside: bool,
}

/// Goes on with the bench in namespaces of its own. Returns only where that fails.
pub(super) fn enter() -> anyhow::Error {
    room::enter()
}

/// Runs the bench, inside.
pub(super) fn run(bench: &Bench, options: &CrowdBench) -> Result<Report> {
    room::furnish()?;
    let mut crowds = Vec::new();
    for &nodes in &options.nodes {
        crowds.push(measure(bench, options, nodes)?);
    }
    Ok(report(&crowds, options))
}

/// One crowd, measured.
struct Crowd {
    nodes: u32,
    started: Duration,
    readings: Vec<Reading>,
}

/// What one node used while it was watched, and how it stood at the end.
#[derive(Debug, Clone)]
struct Reading {
    name: String,
    kind: Kind,
    seconds: f64,
    pss_mb: f64,
    private_mb: f64,
    cpu_ms: f64,
    traffic: Traffic,
    ready_ms: f64,
    homes: usize,
    devices: u32,
}

impl Reading {
    fn bytes_per_second(&self) -> f64 {
        (self.traffic.sent_bytes + self.traffic.received_bytes) as f64 / self.seconds
    }
}

fn measure(bench: &Bench, options: &CrowdBench, nodes: u32) -> Result<Crowd> {
    let supernodes = options.supernodes.unwrap_or((nodes / SHARE).clamp(SUPERNODES_MIN, SUPERNODES_MAX));
    ensure!(supernodes < nodes, "{nodes} nodes of which {supernodes} are supernodes: nobody is left");
    let begun = Instant::now();
    let world = World::start(bench, supernodes, nodes - supernodes)?;
    let started = begun.elapsed();
    bench.say(format!(
        "{nodes} nodes, {supernodes} of them supernodes, are up after {:.0} s; {} s to settle, {} s to measure",
        started.as_secs_f64(),
        options.settle,
        options.seconds
    ));
    std::thread::sleep(Duration::from_secs(u64::from(options.settle)));
    let before: Vec<Gauge> = gauges(&world)?;
    let at = Instant::now();
    std::thread::sleep(Duration::from_secs(u64::from(options.seconds)));
    let after = gauges(&world)?;
    let seconds = at.elapsed().as_secs_f64();
    let mut readings = Vec::new();
    for ((member, before), after) in world.members.iter().zip(before).zip(after) {
        readings.push(read(member, before, after, seconds)?);
    }
    Ok(Crowd { nodes, started, readings })
}

fn gauges(world: &World) -> Result<Vec<Gauge>> {
    let traffic = room::traffic()?;
    world
        .members
        .iter()
        .map(|member| Gauge::read(member.node.pid(), traffic.get(&member.ip).copied().unwrap_or_default()))
        .collect()
}

fn read(member: &Member, before: Gauge, after: Gauge, seconds: f64) -> Result<Reading> {
    let client = member.client()?;
    let ask = |problem: tandem_api::Problem| anyhow::anyhow!("{}: {problem:?}", member.node.name);
    let status: Status = client.get("/api/status").map_err(ask)?;
    let devices = match member.kind {
        Kind::Leaf => 0,
        Kind::Supernode => client.get::<VolunteerView>("/api/volunteer").map_err(ask)?.devices_served,
    };
    Ok(Reading {
        name: member.node.name.clone(),
        kind: member.kind,
        seconds,
        pss_mb: after.pss_mb,
        private_mb: after.private_mb,
        cpu_ms: (after.cpu_ms - before.cpu_ms).max(0.0),
        traffic: after.traffic.since(before.traffic),
        ready_ms: member.node.ready_after.as_secs_f64() * 1_000.0,
        homes: status.reach.homes.len(),
        devices,
    })
}

fn report(crowds: &[Crowd], options: &CrowdBench) -> Report {
    let mut report = Report::default();
    for crowd in crowds {
        for kind in [Kind::Leaf, Kind::Supernode] {
            report.rows.extend(rows(crowd, kind));
        }
    }
    report.rows.extend(growth(crowds));
    let started: Vec<String> = crowds
        .iter()
        .map(|crowd| format!("{} nodes in {:.0} s", crowd.nodes, crowd.started.as_secs_f64()))
        .collect();
    report.notes.push(format!(
        "Each figure: the median node of its kind (least–most), over {} s without calls, {} s after the start. \
         Started: {}.",
        options.seconds,
        options.settle,
        started.join(", ")
    ));
    report.notes.push(
        "Memory: PSS counts the program's code in equal parts; private is what would be free without the node. \
         Traffic: at the IP layer, with its headers, by each node's own address. Supernodes are devices too, with three \
         homes of their own."
            .to_owned(),
    );
    report.runs = crowds.iter().flat_map(runs).collect();
    report
}

fn rows(crowd: &Crowd, kind: Kind) -> Vec<Row> {
    let of_kind: Vec<&Reading> = crowd.readings.iter().filter(|reading| reading.kind == kind).collect();
    let each =
        |value: &dyn Fn(&Reading) -> f64| of_kind.iter().map(|reading| value(reading)).collect::<Vec<f64>>();
    let row = |figure: &str, values: Vec<f64>| {
        Row::new(format!("{} nodes, {} {}", crowd.nodes, of_kind.len(), kind.plural()), figure, values)
    };
    let mut memory = row("memory (PSS), MB", each(&|reading| reading.pss_mb));
    let mut traffic = row("both ways, B/s", each(&Reading::bytes_per_second));
    if kind == Kind::Leaf {
        memory = memory.target(Target::AllAtMost(LEAF_MEMORY_MB));
        traffic = traffic.target(Target::MedianAtMost(LEAF_BYTES_PER_SECOND));
    }
    let per_second = |count: u64, reading: &Reading| count as f64 / reading.seconds;
    let mut rows = vec![
        memory,
        row("memory (private), MB", each(&|reading| reading.private_mb)),
        traffic,
        row("sent, B/s", each(&|reading| per_second(reading.traffic.sent_bytes, reading))),
        row("received, B/s", each(&|reading| per_second(reading.traffic.received_bytes, reading))),
        row("packets both ways, 1/s", each(&|reading| per_second(reading.traffic.packets, reading))),
        row("processor, ms a minute", each(&|reading| reading.cpu_ms * 60.0 / reading.seconds)),
        row("homes at the end", each(&|reading| reading.homes as f64))
            .target(Target::AllAtLeast(HOMES as f64)),
    ];
    match kind {
        Kind::Leaf => rows.push(row("start to reachable, ms", each(&|reading| reading.ready_ms))),
        Kind::Supernode => rows.push(row("devices served", each(&|reading| f64::from(reading.devices)))),
    }
    rows
}

/// A figure's name, and what it is of one node.
type Figure = (&'static str, fn(&Reading) -> f64);

/// The largest crowd's median over the smallest one's.
fn growth(crowds: &[Crowd]) -> Vec<Row> {
    let least = crowds.iter().min_by_key(|crowd| crowd.nodes);
    let most = crowds.iter().max_by_key(|crowd| crowd.nodes);
    let Some((least, most)) = least.zip(most).filter(|(least, most)| least.nodes < most.nodes) else {
        return Vec::new();
    };
    let figures: [Figure; 4] = [
        ("memory (PSS)", |reading| reading.pss_mb),
        ("memory (private)", |reading| reading.private_mb),
        ("both ways", Reading::bytes_per_second),
        ("processor", |reading| reading.cpu_ms),
    ];
    let mut rows = Vec::new();
    for kind in [Kind::Leaf, Kind::Supernode] {
        for (figure, value) in figures {
            let median = |crowd: &Crowd| {
                let of_kind = crowd.readings.iter().filter(|reading| reading.kind == kind);
                Spread::of(&of_kind.map(value).collect::<Vec<f64>>()).map(|spread| spread.median)
            };
            let times = median(most).zip(median(least)).filter(|(_, least)| *least > 0.0);
            let case = format!("{} nodes over {}, {}", most.nodes, least.nodes, kind.plural());
            let values = times.map(|(most, least)| most / least).into_iter().collect();
            rows.push(Row::new(case, format!("{figure}, times"), values));
        }
    }
    rows
}

fn runs(crowd: &Crowd) -> impl Iterator<Item = serde_json::Value> + '_ {
    crowd.readings.iter().map(|reading| {
        json!({
            "nodes": crowd.nodes, "node": reading.name, "kind": reading.kind.word(), "seconds": reading.seconds,
            "pss_mb": reading.pss_mb, "private_mb": reading.private_mb, "cpu_ms": reading.cpu_ms,
            "sent_bytes": reading.traffic.sent_bytes, "received_bytes": reading.traffic.received_bytes,
            "packets": reading.traffic.packets, "ready_ms": reading.ready_ms, "homes": reading.homes,
            "devices_served": reading.devices,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(nodes: u32, bytes: u64) -> Crowd {
        let reading = Reading {
            name: "leaf-1".to_owned(),
            kind: Kind::Leaf,
            seconds: 10.0,
            pss_mb: 5.0,
            private_mb: 4.0,
            cpu_ms: 10.0,
            traffic: Traffic { sent_bytes: bytes, received_bytes: 0, packets: 1 },
            ready_ms: 100.0,
            homes: 3,
            devices: 0,
        };
        Crowd { nodes, started: Duration::ZERO, readings: vec![reading] }
    }

    #[test]
    fn growth_is_the_largest_crowd_over_the_smallest_whatever_their_order() {
        let rows = growth(&[crowd(300, 400), crowd(30, 100), crowd(100, 999)]);
        let traffic = rows.iter().find(|row| row.title() == "300 nodes over 30, leaves: both ways, times");
        assert_eq!(traffic.map(|row| row.values().to_vec()), Some(vec![4.0]));
        assert!(growth(&[crowd(30, 1)]).is_empty(), "one crowd does not grow");
    }

    #[test]
    fn a_leaf_without_its_homes_or_with_much_traffic_is_not_held() {
        let report = |crowd: Crowd| Report { rows: rows(&crowd, Kind::Leaf), ..Report::default() };
        assert!(report(crowd(30, 100)).held());
        assert!(!report(crowd(30, 100_000)).held());
        let mut homeless = crowd(30, 100);
        homeless.readings[0].homes = 2;
        assert!(!report(homeless).held());
    }
}
