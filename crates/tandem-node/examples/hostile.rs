//! Hostile supernodes, as many as asked for, all in one /16: they speak `home/1` and the directory's protocol well enough
//! to be believed, and lie. For `tandem-lab --attacks` and for nobody else.
//!
//! ```text
//! hostile --network 51.66 --count 100 --manner omit --bootstrap /ip4/…/p2p/… [--bootstrap …]
//! ```
//!
//! All of them claim both roles and no load at all, keep no record, and name a relay where nobody answers. What else they
//! do is their manner ([`Manner`]), from the start or, with `--honest-first true`, from the first line on standard input on.
//! When all listen, one line of JSON says where; after that one line a second says what they were asked and how often they lied ([`Tally`]).

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tandem_core::service::{ClientRef, Command, Config, Endpoint, Service};
use tandem_core::time::Now;
use tandem_node::overlay::{
    ClientId, PublicAddresses, ServiceCommand, ServiceConfig, ServiceEvent, SupernodeAddress, spawn_service,
};
use tandem_proto::grant::RelaySecret;
use tandem_proto::identity::ServiceSecret;
use tandem_proto::multiaddr::{PeerAddress, Transport, TransportAddress};
use tandem_proto::names::NetworkId;
use tandem_proto::signed::{NewDescriptor, Roles, SupernodeDescriptor};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{self, HomeFrame};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

const PORT: u16 = 4001;
const LATE: Duration = Duration::from_secs(4);
const HOUR_S: u64 = 3600;
const TALLIED_EVERY: Duration = Duration::from_secs(1);
/// More than anybody will ask for.
const PLACES: usize = 100_000;

/// How it lies, beyond its load and its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Answers like any other: it wants to be chosen.
    Lure,
    /// Says "stored" to what is published and "not found" to every look-up.
    Omit,
    /// Every answer comes four seconds late.
    Delay,
    /// Answers everything, with nonsense.
    Garbage,
    /// An honest supernode, but for its relay, whose directory is gone after a while: it finds nobody.
    Forget,
}

struct Arguments {
    network: [u8; 2],
    count: u8,
    manner: Manner,
    honest_first: bool,
    bootstrap: Vec<Endpoint>,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut given = Arguments {
        network: [51, 66],
        count: 1,
        manner: Manner::Lure,
        honest_first: false,
        bootstrap: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or("every argument has a value")?;
        match name.as_str() {
            "--network" => {
                let (a, b) = value.split_once('.').ok_or("a network is like 51.66")?;
                given.network = [a.parse()?, b.parse()?];
            }
            "--count" => given.count = value.parse()?,
            "--honest-first" => given.honest_first = value.parse()?,
            "--manner" => given.manner = manner(&value)?,
            "--bootstrap" => {
                let peer: PeerAddress = value.parse()?;
                let known = given.bootstrap.iter_mut().find(|endpoint| endpoint.service == peer.service);
                match known {
                    Some(endpoint) => endpoint.addresses.push(peer.address.to_bytes()),
                    None => given
                        .bootstrap
                        .push(Endpoint { service: peer.service, addresses: vec![peer.address.to_bytes()] }),
                }
            }
            _ => return Err(format!("there is no argument {name}").into()),
        }
    }
    Ok(given)
}

fn manner(word: &str) -> Result<Manner, String> {
    match word {
        "lure" => Ok(Manner::Lure),
        "omit" => Ok(Manner::Omit),
        "delay" => Ok(Manner::Delay),
        "garbage" => Ok(Manner::Garbage),
        "forget" => Ok(Manner::Forget),
        _ => Err(format!("there is no manner {word}")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let given = arguments()?;
    let [a, b] = given.network;
    let (told, mut listening) = mpsc::channel(512);
    let tally = Arc::new(Tally::default());
    let lying = Arc::new(AtomicBool::new(!given.honest_first));
    let mut running = JoinSet::new();
    for n in 1..=given.count {
        let at = SocketAddr::from((Ipv4Addr::new(a, b, n, 20), PORT));
        let hostile = Hostile::start(at, &given, told.clone(), Arc::clone(&tally), Arc::clone(&lying))?;
        running.spawn(hostile.run());
    }
    let mut addresses: Vec<String> = Vec::new();
    // Over UDP and over TCP.
    while addresses.len() < 2 * usize::from(given.count) {
        addresses.push(listening.recv().await.ok_or("a hostile supernode ended")?);
    }
    println!("{}", serde_json::json!({ "ready": true, "listen": addresses }));
    if given.honest_first {
        std::thread::spawn(move || {
            let told = std::io::stdin().read_line(&mut String::new());
            lying.store(told.is_ok(), Ordering::Relaxed);
        });
    }
    let mut every = interval(TALLIED_EVERY);
    loop {
        tokio::select! {
            // An attack that has ended proves nothing.
            _ = running.join_next() => return Err("a hostile supernode ended".into()),
            _ = every.tick() => println!("{}", tally.line()),
        }
    }
}

/// What all of them were asked, and how often they lied: an attack that nobody met proves nothing.
#[derive(Default)]
struct Tally {
    /// Questions over `home/1`.
    asked: AtomicU64,
    /// Of these, for a place: somebody wanted it as a home.
    places: AtomicU64,
    /// Answered otherwise than an honest one would.
    lied: AtomicU64,
}

impl Tally {
    fn note(&self, frame: &HomeFrame) {
        self.asked.fetch_add(u64::from(frame.id != 0), Ordering::Relaxed);
        self.places.fetch_add(u64::from(matches!(frame.body, Some(Body::Reserve(_)))), Ordering::Relaxed);
    }

    fn line(&self) -> serde_json::Value {
        serde_json::json!({
            "asked": self.asked.load(Ordering::Relaxed),
            "places": self.places.load(Ordering::Relaxed),
            "lied": self.lied.load(Ordering::Relaxed),
        })
    }
}

/// One of them.
struct Hostile {
    secret: ServiceSecret,
    at: SocketAddr,
    manner: Manner,
    lying: Arc<AtomicBool>,
    service: Service,
    commands: mpsc::Sender<ServiceCommand>,
    events: mpsc::Receiver<ServiceEvent>,
    told: mpsc::Sender<String>,
    begun: Instant,
    sequence: u64,
    lies: u64,
    tally: Arc<Tally>,
}

impl Hostile {
    fn start(
        at: SocketAddr,
        given: &Arguments,
        told: mpsc::Sender<String>,
        tally: Arc<Tally>,
        lying: Arc<AtomicBool>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut seed = [0x66; 32];
        if let SocketAddr::V4(v4) = at {
            seed[..4].copy_from_slice(&v4.ip().octets());
        }
        let secret = ServiceSecret::from_seed(&seed);
        let public = PublicAddresses::with_ranges(&["127.0.0.0/8", "10.0.0.0/8"])?;
        let mut swarm = ServiceConfig::new(secret.clone(), NetworkId::default(), at, public);
        // A hundred of them are one process.
        swarm.limits.memory_bytes = usize::MAX;
        if given.manner != Manner::Forget {
            swarm.limits.records = 0;
        }
        let (commands, events) = spawn_service(swarm)?;
        let begun = Instant::now();
        let mut config = Config::new(secret.public(), "tandem/0.1.0".to_owned());
        config.roles = Roles::DIRECTORY.with(Roles::RELAY);
        config.relay_secret = Some(RelaySecret::new(seed));
        config.reservations_max = PLACES;
        let now = now(begun);
        let mut service = Service::new(config, u64::from(seed[2]), now);
        service.handle_bootstrap(&given.bootstrap, now);
        Ok(Self {
            secret,
            at,
            manner: given.manner,
            lying,
            service,
            commands,
            events,
            told,
            begun,
            sequence: now.unix_ms,
            lies: 0,
            tally,
        })
    }

    async fn run(mut self) {
        loop {
            while let Some(command) = self.service.poll_command() {
                self.execute(command).await;
            }
            let now_ms = now(self.begun).mono_ms;
            let wait_ms =
                self.service.poll_timeout().map_or(1_000, |at| at.saturating_sub(now_ms)).min(1_000);
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => return,
                },
                () = sleep(Duration::from_millis(wait_ms)) => self.service.handle_timeout(now(self.begun)),
            }
        }
    }

    async fn take(&mut self, event: ServiceEvent) {
        let now = now(self.begun);
        match event {
            ServiceEvent::Listening { address } => drop(self.told.send(address).await),
            ServiceEvent::ClientOpened { client, peer, remote, outbound } => {
                self.service.handle_opened(ClientRef(client.0), peer, remote, outbound, now);
            }
            ServiceEvent::ClientFrame { client, frame } => {
                self.tally.note(&frame);
                if let Some(lie) = self.instead_of(&frame) {
                    self.tally.lied.fetch_add(1, Ordering::Relaxed);
                    self.send(client, HomeFrame { id: frame.id, body: Some(lie) }).await;
                } else {
                    self.service.handle_frame(ClientRef(client.0), frame, now);
                }
            }
            ServiceEvent::ClientClosed { client, .. } => self.service.handle_closed(ClientRef(client.0), now),
            ServiceEvent::ConnectFailed { service, .. } => self.service.handle_connect_failed(service, now),
            ServiceEvent::Stored { request, copies } => self.service.handle_stored(request, copies, now),
            ServiceEvent::Found { request, value, done, .. } => {
                self.service.handle_found(request, value.as_deref(), done, now);
            }
            _ => {}
        }
    }

    /// What it says instead of doing what was asked.
    fn instead_of(&mut self, asked: &HomeFrame) -> Option<Body> {
        let lies = asked.id != 0 && self.lying.load(Ordering::Relaxed);
        let body = asked.body.as_ref().filter(|_| lies)?;
        self.lies += 1;
        match (self.manner, body) {
            (Manner::Omit, Body::Publish(_)) => Some(Body::Published(wire::Published { copies: 20 })),
            (Manner::Omit | Manner::Forget, Body::LookUp(_)) => {
                Some(Body::LookedUp(wire::LookedUp { record: None, done: true }))
            }
            (Manner::Omit, Body::SupernodesRequest(_)) => {
                Some(Body::Supernodes(wire::Supernodes { descriptors: Vec::new() }))
            }
            // It has to reserve what it wants to spoil.
            (Manner::Garbage, Body::Reserve(_) | Body::Heartbeat(_)) => None,
            (Manner::Garbage, _) => Some(nonsense(self.lies)),
            _ => None,
        }
    }

    async fn execute(&mut self, command: Command) {
        let order = match command {
            Command::Send { client, frame } => return self.send(ClientId(client.0), frame).await,
            Command::Close(client) => ServiceCommand::CloseClient(ClientId(client.0)),
            Command::Expel(device) => ServiceCommand::Expel(device),
            Command::Connect(endpoint) => ServiceCommand::Connect(supernode(endpoint)),
            Command::AddToRouting(endpoint) => ServiceCommand::AddToRouting(supernode(endpoint)),
            Command::DhtPut { request, account, value } => ServiceCommand::Put { request, account, value },
            Command::DhtGet { request, account } => ServiceCommand::Get { request, account },
            Command::SignDescriptor { .. } => return self.describe(),
            _ => return,
        };
        drop(self.commands.send(order).await);
    }

    async fn send(&self, client: ClientId, frame: HomeFrame) {
        let order = ServiceCommand::SendHome { client, frame };
        let hello = matches!(&order, ServiceCommand::SendHome { frame, .. } if matches!(frame.body, Some(Body::Hello(_))));
        if self.manner == Manner::Delay && !hello {
            let commands = self.commands.clone();
            tokio::spawn(async move {
                sleep(LATE).await;
                drop(commands.send(order).await);
            });
        } else {
            drop(self.commands.send(order).await);
        }
    }

    /// No load at all, both roles, and a relay where nobody listens.
    fn describe(&mut self) {
        let now = now(self.begun);
        self.sequence += 1;
        let at = |transport, port| TransportAddress { ip: self.at.ip(), port, transport }.to_bytes();
        let descriptor = SupernodeDescriptor::issue(
            &self.secret,
            NewDescriptor {
                sequence: self.sequence,
                not_after_s: now.unix_ms / 1_000 + HOUR_S,
                roles: Roles::DIRECTORY.with(Roles::RELAY),
                addresses: vec![at(Transport::Quic, PORT), at(Transport::Tcp, PORT)],
                relay: vec![at(Transport::Udp, PORT + 1)],
                load_percent: 0,
                software: "tandem/0.1.0".to_owned(),
                echo: None,
            },
        );
        match descriptor {
            Ok(descriptor) => self.service.handle_own_descriptor(descriptor, now),
            Err(error) => eprintln!("no descriptor: {error}"),
        }
    }
}

/// An answer of some kind to a question of another.
fn nonsense(n: u64) -> Body {
    let bytes = n.to_be_bytes().repeat(4);
    let signed = wire::Signed { payload: bytes.clone(), signature: bytes.repeat(2) };
    match n % 5 {
        0 => Body::LookedUp(wire::LookedUp {
            record: Some(wire::ReachRecord { device_set: Some(signed), ..wire::ReachRecord::default() }),
            done: true,
        }),
        1 => Body::Supernodes(wire::Supernodes { descriptors: vec![signed; 16] }),
        2 => Body::Grant(wire::Grant {
            username: "x".repeat(200),
            relay: vec![bytes],
            ..wire::Grant::default()
        }),
        3 => Body::Failure(wire::Failure { code: u32::MAX, detail: "y".repeat(500) }),
        _ => Body::Published(wire::Published { copies: u32::MAX }),
    }
}

fn supernode(endpoint: Endpoint) -> SupernodeAddress {
    SupernodeAddress { service: endpoint.service, addresses: endpoint.addresses }
}

fn now(begun: Instant) -> Now {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Now {
        mono_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        unix_ms: u64::try_from(unix_ms).unwrap_or(u64::MAX),
    }
}
