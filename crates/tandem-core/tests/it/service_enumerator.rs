//! Somebody who would like to know all supernodes asks those that he knows, and those that they name, for everything
//! there is to ask on the home protocol.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use tandem_core::rng::Rng;
use tandem_core::service::{ClientRef, Command, Config, Service};
use tandem_core::time::Now;
use tandem_proto::identity::ServiceSecret;
use tandem_proto::ids::ServiceKey;
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::signed::{NewDescriptor, Roles, SupernodeDescriptor};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{HomeFrame, HomeHello, Reserve, Signed, SupernodesRequest};

use crate::service::{Bench, device_secret, hello, own_secret};
use crate::world::UNIX_MS;

/// In one day at one supernode.
const SUPERNODES: usize = 200;
/// All that there are, those of them that can be asked, and how many each of these knows.
const ALL: usize = 600;
const ASKED: usize = 100;
const KNOWN: usize = 200;

/// A supernode's descriptor at this address.
fn descriptor(secret: &ServiceSecret, ip: Ipv4Addr, now: Now) -> Signed {
    let address = TransportAddress { ip: ip.into(), port: 7_700, transport: Transport::Quic };
    let new = NewDescriptor {
        sequence: now.unix_ms,
        not_after_s: now.unix_ms / 1_000 + 3 * 3_600,
        roles: Roles::DIRECTORY,
        addresses: vec![address.to_bytes()],
        ..NewDescriptor::default()
    };
    SupernodeDescriptor::issue(secret, new).unwrap().signed().clone()
}

fn greeting(secret: &ServiceSecret, ip: Ipv4Addr, now: Now) -> HomeFrame {
    let descriptor = Some(descriptor(secret, ip, now));
    let time_s = now.unix_ms / 1_000;
    let hello = HomeHello { version_min: 1, version_max: 1, time_s, descriptor, ..HomeHello::default() };
    HomeFrame { id: 0, body: Some(Body::Hello(hello)) }
}

/// Everything that is asked on one stream.
fn questions(rng: &mut Rng) -> Vec<Body> {
    let list = |near: Vec<u8>| {
        Body::SupernodesRequest(SupernodesRequest { limit: 16, near, ..SupernodesRequest::default() })
    };
    let mut questions =
        vec![list(Vec::new()), Body::Reserve(Reserve { homeless: true, ..Reserve::default() })];
    for _ in 0..8 {
        let near: Vec<u8> = (0..4).flat_map(|_| rng.next_u64().to_be_bytes()).collect();
        questions.push(list(near));
    }
    questions
}

/// The supernodes that an answer names.
fn named(command: &Command, now: Now) -> Vec<ServiceKey> {
    let Command::Send { frame: HomeFrame { body: Some(body), .. }, .. } = command else { return Vec::new() };
    let descriptors = match body {
        Body::Supernodes(list) => &list.descriptors,
        Body::Busy(busy) => &busy.referrals,
        Body::Reserved(reserved) => &reserved.referrals,
        Body::Drain(drain) => &drain.referrals,
        _ => return Vec::new(),
    };
    let known = descriptors.iter().filter_map(|signed| SupernodeDescriptor::verify(signed, now.unix_ms).ok());
    known.map(|descriptor| descriptor.service()).collect()
}

/// Supernodes, each in a network of its own: the first of them know others, at random.
struct Network {
    services: Vec<(ServiceKey, Service)>,
    all: BTreeSet<ServiceKey>,
    now: Now,
    stream: u64,
}

impl Network {
    fn new(now: Now) -> Self {
        let mut rng = Rng::new(7);
        let greetings: Vec<(ServiceSecret, Ipv4Addr, HomeFrame)> = (0..ALL)
            .map(|n| {
                let (secret, at) = (supernode(n), place(n));
                let hello = greeting(&secret, at, now);
                (secret, at, hello)
            })
            .collect();
        let all = greetings.iter().map(|(secret, ..)| secret.public()).collect();
        let mut network = Self { services: Vec::new(), all, now, stream: 0 };
        for n in 0..ASKED {
            let key = supernode(n).public();
            let mut service = Service::new(Config::new(key, "test".into()), n as u64, now);
            for _ in 0..KNOWN {
                let (secret, at, hello) = &greetings[usize::try_from(rng.below(ALL as u64)).unwrap()];
                network.stream += 1;
                let client = ClientRef(network.stream);
                service.handle_opened(client, secret.public().0, Some((*at).into()), false, now);
                service.handle_frame(client, hello.clone(), now);
                service.handle_closed(client, now);
            }
            while service.poll_command().is_some() {}
            network.services.push((key, service));
        }
        network
    }

    /// Asks two it knows, and then all that it hears of, from each of these addresses; `poses`: as a supernode, with a
    /// descriptor that says so.
    fn crawl(&mut self, from: &[Ipv4Addr], poses: bool) -> usize {
        let mut known: BTreeSet<ServiceKey> = self.services[..2].iter().map(|(key, _)| *key).collect();
        let mut asked = BTreeSet::new();
        let mut rng = Rng::new(1);
        while let Some(next) = known.iter().find(|service| !asked.contains(*service)).copied() {
            asked.insert(next);
            let Some((_, service)) = self.services.iter_mut().find(|(key, _)| *key == next) else { continue };
            for (n, from) in from.iter().enumerate() {
                // Nobody is too busy to answer.
                self.now = self.now.plus_ms(200);
                self.stream += 1;
                let (client, secret, now) = (ClientRef(self.stream), seed(n), self.now);
                let first = if poses { greeting(&secret, *from, now) } else { hello(1, 1, now) };
                service.handle_opened(client, secret.public().0, Some((*from).into()), false, now);
                service.handle_frame(client, first, now);
                for (id, body) in (1..).zip(questions(&mut rng)) {
                    service.handle_frame(client, HomeFrame { id, body: Some(body) }, now);
                }
                service.handle_closed(client, now);
                while let Some(command) = service.poll_command() {
                    known.extend(named(&command, now));
                }
            }
        }
        known.intersection(&self.all).count()
    }
}

fn supernode(n: usize) -> ServiceSecret {
    let mut key = [3; 32];
    key[..2].copy_from_slice(&u16::try_from(n).unwrap().to_be_bytes());
    ServiceSecret::from_seed(&key)
}

/// One in each network.
fn place(n: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
    Ipv4Addr::new(20 + high, low, 1, 1)
}

fn seed(n: usize) -> ServiceSecret {
    ServiceSecret::from_seed(&[u8::try_from(n % 200).unwrap() + 20; 32])
}

#[test]
fn who_asks_everybody_learns_what_his_network_is_shown() {
    let mut network = Network::new(Now { mono_ms: 5_000, unix_ms: UNIX_MS });
    let addresses = |count: u8, of: fn(u8) -> Ipv4Addr| (0..count).map(of).collect::<Vec<Ipv4Addr>>();
    let one = addresses(1, |_| Ipv4Addr::new(203, 0, 113, 7));
    let subnet = addresses(4, |n| Ipv4Addr::new(203, 0, 113, n));
    let group = addresses(4, |n| Ipv4Addr::new(203, 0, n, 7));
    let many = addresses(8, |n| Ipv4Addr::new(203, n, 113, 7));
    let (by_one, by_subnet) = (network.crawl(&one, false), network.crawl(&subnet, false));
    let (by_group, by_many) = (network.crawl(&group, false), network.crawl(&many, false));
    let posing = network.crawl(&subnet, true);
    println!(
        "of {ALL}, by asking all: one address {by_one}, one /24 {by_subnet}, one /16 {by_group}, eight /16 {by_many}; \
         one /24 posing as supernodes {posing}"
    );
    assert!(by_one >= 24, "the network works: {by_one}");
    assert!([by_one, by_subnet, by_group].iter().all(|learned| *learned <= ALL / 4));
    assert!(by_one <= by_subnet && by_subnet <= by_group + 12, "more addresses of one network help little");
    assert!(posing <= ALL / 2, "{posing} as supernodes");
    assert!(by_many > by_group, "other networks are shown others");
}

/// A stream each minute, from as many addresses of one /24 with as many keys, for a whole day.
#[test]
fn who_asks_one_supernode_for_a_day_learns_two_views() {
    let mut bench = Bench::new(|_| {});
    let mut rng = Rng::new(2);
    let mut learned = [BTreeSet::new(), BTreeSet::new()];
    for minute in 0..24 * 60_u64 {
        if minute % 60 == 0 {
            // They all say something new, as supernodes do.
            for n in 0..SUPERNODES {
                let (secret, at) = (supernode(n), place(n));
                let client = ClientRef(1_000_000 + minute * 1_000 + n as u64);
                let opened = (secret.public().0, Some(at.into()));
                bench.service.handle_opened(client, opened.0, opened.1, false, bench.now);
                bench.service.handle_frame(client, greeting(&secret, at, bench.now), bench.now);
                bench.service.handle_closed(client, bench.now);
            }
        }
        for (poses, learned) in [false, true].into_iter().zip(&mut learned) {
            let from = Ipv4Addr::new(203, 0, 113, u8::try_from(minute % 250).unwrap());
            let number = minute * 2 + u64::from(poses);
            let secret = seed(usize::try_from(minute).unwrap());
            let peer = if poses { secret.public().0 } else { device_secret(number).public().0 };
            let client = bench.open_at(number, peer, from.into());
            let first = if poses { greeting(&secret, from, bench.now) } else { hello(1, 1, bench.now) };
            bench.service.handle_frame(client, first, bench.now);
            for (id, body) in (1..).zip(questions(&mut rng)) {
                bench.service.handle_frame(client, HomeFrame { id, body: Some(body) }, bench.now);
            }
            bench.service.handle_closed(client, bench.now);
            let now = bench.now;
            learned.extend(bench.take().iter().flat_map(|command| named(command, now)));
        }
        bench.wait(60_000);
    }
    let mut own: BTreeSet<ServiceKey> = (0..200).map(|n| seed(n).public()).collect();
    own.insert(own_secret().public());
    let [device, posing] = learned.map(|learned| learned.difference(&own).count());
    println!("of {SUPERNODES} in a day from one /24: {device}, posing as supernodes {posing}");
    assert!((12..=48).contains(&device), "{device} as a device");
    assert!((12..=96).contains(&posing), "{posing} posing as a supernode");
}
