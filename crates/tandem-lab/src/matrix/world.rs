//! The world that the pairs need: five supernodes, and for each seat a home with one node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Kind, Options, Pair, Place, Seat};
use crate::lab::Lab;
use crate::plan::{CarrierPlan, Families, HomePlan, Nat, Plan};
use crate::process::{Ground, NodePlan, Process, Starting};
use crate::wire::Conditions;

const SERVERS: usize = 5;
/// A person needs so long to pick up, at least; meanwhile the ways of the sound are tried.
const RINGING: Duration = Duration::from_secs(2);
/// From the start of the last node on.
const PEOPLE_WITHIN: Duration = Duration::from_secs(25);

/// The lab with its nodes running. The order of fields is the order of their end.
#[derive(Debug)]
pub(super) struct World {
    /// A seat whose node could not be reached keeps the reason.
    people: BTreeMap<Seat, Result<Process, String>>,
    servers: Vec<Process>,
    _lab: Lab,
    speech: [PathBuf; 2],
    pub(super) folder: PathBuf,
}

impl World {
    pub(super) fn start(pairs: &[Pair], options: &Options, say: &dyn Fn(String)) -> Result<Self> {
        let seats: BTreeSet<Seat> = pairs.iter().flat_map(|pair| pair.seats()).collect();
        let begun = Instant::now();
        let lab = Lab::build(&plan(&seats, options.delay))?;
        say(format!("{} networks stand after {:.1} s", seats.len(), begun.elapsed().as_secs_f64()));
        let ground = Ground::new(&options.binary, &options.out)?.log(&options.log);
        let servers = start_servers(&lab, &ground)?;
        say(format!("{SERVERS} supernodes serve after {:.1} s", begun.elapsed().as_secs_f64()));
        // Whatever a network lets through, one of these can be reached from it.
        let bootstrap: Vec<String> =
            servers.iter().take(2).flat_map(|server| server.ready().listen.clone()).collect();
        let speech = [options.speech.join("alice.wav"), options.speech.join("bob.wav")];
        for file in &speech {
            anyhow::ensure!(file.is_file(), "there is no {} to play", file.display());
        }
        let speech = [speech[0].canonicalize()?, speech[1].canonicalize()?];
        let people = start_people(&lab, &ground, &seats, &person(&bootstrap, &speech[1], options))?;
        let ready = people.values().filter(|person| person.is_ok()).count();
        say(format!(
            "{ready} of {} people can be reached after {:.1} s",
            seats.len(),
            begun.elapsed().as_secs_f64()
        ));
        Ok(Self { people, servers, _lab: lab, speech, folder: ground.folder().to_owned() })
    }

    /// The node in a seat, or why there is none.
    pub(super) fn person(&self, seat: Seat) -> Result<&Process, String> {
        match self.people.get(&seat) {
            Some(Ok(process)) => Ok(process),
            Some(Err(why)) => Err(why.clone()),
            None => Err("nobody sits there".to_owned()),
        }
    }

    /// A path of a report with the supernode's name for its peer id.
    pub(super) fn path_name(&self, path: &str) -> String {
        let server = self.servers.iter().find(|server| server.service_id() == path);
        server.map_or_else(|| path.to_owned(), |server| format!("relay {}", server.name()))
    }

    /// From the start of each node to its ready line, in milliseconds.
    pub(super) fn starts_ms(&self) -> Vec<f64> {
        let people = self.people.values().filter_map(|person| person.as_ref().ok());
        people.map(|person| person.ready_after().as_secs_f64() * 1_000.0).collect()
    }

    /// What callers play.
    pub(super) fn caller_speech(&self) -> &Path {
        &self.speech[0]
    }

    /// What callees play.
    pub(super) fn callee_speech(&self) -> &Path {
        &self.speech[1]
    }
}

fn start_servers(lab: &Lab, ground: &Ground) -> Result<Vec<Process>> {
    let first = ground.start(lab.host("s1")?, &NodePlan::server(&[]))?;
    let bootstrap = first.ready().listen.clone();
    let others: Vec<Starting> = (2..=SERVERS)
        .map(|n| ground.begin(lab.host(&format!("s{n}"))?, &NodePlan::server(&bootstrap)))
        .collect::<Result<_>>()?;
    let mut servers = vec![first];
    for other in others {
        servers.push(other.ready()?);
    }
    Ok(servers)
}

/// A person who plays this when called: at once, or where times are measured after ringing like people's phones do.
fn person(bootstrap: &[String], speech: &Path, options: &Options) -> NodePlan {
    let mut plan = NodePlan::person(bootstrap, &format!("wav:{}", speech.display()));
    if options.delay.is_some() {
        plan.more = vec!["--answer-after".to_owned(), format!("{}ms", RINGING.as_millis())];
    }
    plan
}

/// All at once; whoever is not reachable in time stays away, with the reason.
fn start_people(
    lab: &Lab,
    ground: &Ground,
    seats: &BTreeSet<Seat>,
    plan: &NodePlan,
) -> Result<BTreeMap<Seat, Result<Process, String>>> {
    let mut starting = Vec::new();
    for seat in seats {
        starting.push((*seat, ground.begin(lab.host(&seat.host())?, plan)?));
    }
    let until = Instant::now() + PEOPLE_WITHIN;
    let mut people = BTreeMap::new();
    for (seat, node) in starting {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        people.insert(seat, node.ready_from_now(left).map_err(|error| format!("{error:#}")));
    }
    Ok(people)
}

fn plan(seats: &BTreeSet<Seat>, delay: Option<Duration>) -> Plan {
    let mut plan = Plan::with_servers(SERVERS, None);
    let mut carriers = BTreeSet::new();
    for seat in seats {
        let (home, carrier) = home(*seat);
        if let Some(carrier) = carrier.filter(|carrier| carriers.insert(carrier.name.clone())) {
            plan = plan.carrier(carrier);
        }
        match (home, delay) {
            // The second host of a home that is there already.
            (None, _) => {}
            (Some(home), None) => plan = plan.home(home),
            (Some(home), Some(delay)) => plan = plan.home(home.line(Conditions::delayed(delay))),
        }
    }
    plan
}

/// A seat's home, and the carrier in front of it.
fn home(seat: Seat) -> (Option<HomePlan>, Option<CarrierPlan>) {
    let name = seat.home();
    let behind = |carrier: CarrierPlan| {
        let home = HomePlan::new(&name, Nat::PortRestricted).via(&carrier.name);
        (Some(home), Some(carrier))
    };
    let restricted = || HomePlan::new(&name, Nat::PortRestricted);
    let nat = match (seat.pair_place, seat.kind) {
        (Some(Place::OneHome), _) if seat.callee => return (None, None),
        (Some(Place::OneHome), _) => {
            let other = Seat { callee: true, ..seat }.host();
            return (Some(restricted().hosts(&[&seat.host(), &other])), None);
        }
        (Some(Place::OneCarrier), _) => return behind(CarrierPlan::new("shared-carrier")),
        (Some(Place::HairpinCarrier), _) => return behind(CarrierPlan::new("hairpin-carrier").hairpin()),
        (None, Kind::Carrier) => return behind(CarrierPlan::new(&format!("{name}-cgn"))),
        (None, Kind::Ipv6Only) => return (Some(restricted().families(Families::V6)), None),
        (None, Kind::DualStack) => return (Some(restricted().families(Families::Both)), None),
        (None, Kind::None) => Nat::None,
        (None, Kind::FullCone) => Nat::FullCone,
        (None, Kind::AddressRestricted) => Nat::AddressRestricted,
        (None, Kind::PortRestricted) => Nat::PortRestricted,
        (None, Kind::Symmetric) => Nat::Symmetric,
        (None, Kind::UdpBlocked) => Nat::UdpBlocked,
        (None, Kind::Tcp443Only) => Nat::Tcp443Only,
    };
    (Some(HomePlan::new(&name, nat)), None)
}

/// Makes the two of a pair contacts of each other, unless they are already.
pub(super) fn introduce(one: &Process, other: &Process) -> Result<()> {
    one.add_contact(other.name(), other.address()).context("making contacts")?;
    other.add_contact(one.name(), one.address()).context("making contacts")
}
