//! A seeded mini-world: real `Homes` machines and real `Service` machines joined by an emulated network. Time is
//! forced; streams are reliable and ordered, as over QUIC or TCP, so loss shows as delay.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use tandem_core::homes::{self, Cause, Homes};
use tandem_core::peer::{KnownPeer, PeerRef};
use tandem_core::rng::Rng;
use tandem_core::service::{self, ClientRef, Config, Endpoint, Service};
use tandem_core::time::Now;
use tandem_proto::identity::{AccountSecret, DeviceSecret, ServiceSecret};
use tandem_proto::ids::ServiceKey;
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::{DeviceEntry, DeviceHomes, DeviceSet, Home, NewDescriptor, SupernodeDescriptor};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{
    Heartbeat, HomeFrame, HomeHello, LookUp, Publish, Reserve, Signed, SupernodesRequest,
};

pub(crate) const UNIX_MS: u64 = 1_800_000_000_000;

/// One end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Leaf(usize),
    Service(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Up,
    /// Connections to it are refused, those it had were reset.
    Killed,
    /// Everything to and from it vanishes.
    Hung,
}

#[derive(Debug)]
struct Stream {
    from: End,
    to: End,
    open: bool,
    /// When the last frame in each direction arrives, since streams keep their order.
    arrives_ms: [u64; 2],
    next_id: u64,
}

#[derive(Debug)]
enum Event {
    Open(u64),
    Refused(u64),
    Frame { stream: u64, to: End, frame: HomeFrame },
    Closed { stream: u64, at: End },
    Stored { service: usize, request: u64 },
    Found { service: usize, request: u64, value: Option<Vec<u8>> },
}

pub(crate) struct LeafNode {
    pub(crate) homes: Homes,
    account: AccountSecret,
    device: DeviceSecret,
    sequence: u64,
    /// The open or opening stream to each peer.
    streams: BTreeMap<PeerRef, u64>,
    /// The request that asked a peer for supernodes, to tell its `Busy` from others.
    lists: BTreeMap<PeerRef, u64>,
    /// Peers and when each was contacted.
    pub(crate) contacts: Vec<(u64, PeerRef)>,
    /// `Busy` answers: from whom, until when it must be left alone.
    pub(crate) busy: Vec<(PeerRef, u64, u64)>,
    pub(crate) publications: u64,
    pub(crate) looked_up: Vec<(bool, bool)>,
}

pub(crate) struct ServiceNode {
    pub(crate) service: Service,
    secret: ServiceSecret,
    address: Ipv4Addr,
    pub(crate) health: Health,
    pub(crate) requests: u64,
}

impl ServiceNode {
    pub(crate) fn key(&self) -> ServiceKey {
        self.secret.public()
    }
}

pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) leaves: Vec<LeafNode>,
    pub(crate) services: Vec<ServiceNode>,
    peers: BTreeMap<ServiceKey, usize>,
    streams: BTreeMap<u64, Stream>,
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    next_stream: u64,
    pub(crate) dht: BTreeMap<[u8; 32], Vec<u8>>,
    rng: Rng,
    latency_ms: u64,
    loss_percent: u64,
}

impl World {
    /// `networks`: how many different /16 the supernodes stand in.
    pub(crate) fn new(seed: u64, leaves: usize, services: usize, networks: usize) -> Self {
        Self::with_config(seed, leaves, services, networks, |_| {})
    }

    pub(crate) fn with_config(
        seed: u64,
        leaves: usize,
        services: usize,
        networks: usize,
        adjust: impl Fn(&mut Config),
    ) -> Self {
        let mut world = Self {
            now: Now { mono_ms: 1_000, unix_ms: UNIX_MS },
            leaves: Vec::new(),
            services: Vec::new(),
            peers: BTreeMap::new(),
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            order: 0,
            next_stream: 0,
            dht: BTreeMap::new(),
            rng: Rng::new(seed),
            latency_ms: 20,
            loss_percent: 1,
        };
        for index in 0..services {
            world.add_service(index, networks, &adjust);
        }
        let first: Vec<Endpoint> = (0..services.min(2)).map(|index| world.endpoint(index)).collect();
        for index in 0..services {
            let now = world.now;
            world.services[index].service.handle_bootstrap(&first, now);
        }
        world.run_for(5_000);
        for _ in 0..leaves {
            world.add_leaf();
        }
        world
    }

    fn add_service(&mut self, index: usize, networks: usize, adjust: &impl Fn(&mut Config)) {
        let secret = ServiceSecret::from_seed(&seed(b's', index));
        let network = u8::try_from(index % networks).unwrap();
        let host = u8::try_from(index / networks + 1).unwrap();
        let mut config = Config::new(secret.public(), "test".to_owned());
        adjust(&mut config);
        self.peers.insert(secret.public(), index);
        self.services.push(ServiceNode {
            service: Service::new(config, self.rng.next_u64(), self.now),
            secret,
            address: Ipv4Addr::new(10, network, 0, host),
            health: Health::Up,
            requests: 0,
        });
    }

    fn add_leaf(&mut self) {
        let index = self.leaves.len();
        self.leaves.push(LeafNode {
            homes: Homes::new(self.rng.next_u64(), self.now),
            account: AccountSecret::from_seed(&seed(b'a', index)),
            device: DeviceSecret::from_seed(&seed(b'd', index)),
            sequence: 0,
            streams: BTreeMap::new(),
            lists: BTreeMap::new(),
            contacts: Vec::new(),
            busy: Vec::new(),
            publications: 0,
            looked_up: Vec::new(),
        });
        self.know(index, &[0, 1]);
    }

    /// The process restarts: it remembers the supernodes it knew, and nothing else.
    pub(crate) fn restart_leaf(&mut self, index: usize) {
        let remembered: Vec<usize> =
            self.leaves[index].homes.remembered().map(|one| one.peer.0 as usize).collect();
        for stream in std::mem::take(&mut self.leaves[index].streams).into_values() {
            self.close(stream, End::Leaf(index));
        }
        self.leaves[index].homes = Homes::new(self.rng.next_u64(), self.now);
        // Who was busy is not remembered over a restart.
        self.leaves[index].busy.clear();
        self.know(index, &remembered);
    }

    fn know(&mut self, leaf: usize, services: &[usize]) {
        let known: Vec<KnownPeer> = services
            .iter()
            .filter(|index| **index < self.services.len())
            .map(|index| self.known(*index, None))
            .collect();
        let now = self.now;
        self.leaves[leaf].homes.handle_known(&known, now);
        self.drain();
    }

    fn known(&self, index: usize, referrer: Option<PeerRef>) -> KnownPeer {
        let network = u32::from(self.services[index].address.octets()[1]);
        KnownPeer { peer: peer(index), network, referrer, port_443: false, release: 0 }
    }

    pub(crate) fn endpoint(&self, index: usize) -> Endpoint {
        let node = &self.services[index];
        Endpoint { service: node.secret.public(), addresses: vec![multiaddr(node.address)] }
    }

    pub(crate) fn network(&self, peer: PeerRef) -> u8 {
        self.services[peer.0 as usize].address.octets()[1]
    }

    // ---- what happens to supernodes ---------------------------------------------------------------------------

    pub(crate) fn kill(&mut self, index: usize) {
        self.services[index].health = Health::Killed;
        let here = End::Service(index);
        let broken: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.open && (stream.from == here || stream.to == here))
            .map(|(id, _)| *id)
            .collect();
        for stream in broken {
            self.close(stream, here);
        }
    }

    pub(crate) fn hang(&mut self, index: usize) {
        self.services[index].health = Health::Hung;
    }

    // ---- time ---------------------------------------------------------------------------------------------------

    pub(crate) fn run_for(&mut self, ms: u64) {
        self.run_until(ms, |_| false);
    }

    /// Runs for `ms` at most; says after how many milliseconds `done` held.
    pub(crate) fn run_until(&mut self, ms: u64, done: impl Fn(&Self) -> bool) -> Option<u64> {
        let start_ms = self.now.mono_ms;
        self.drain();
        loop {
            if done(self) {
                return Some(self.now.mono_ms - start_ms);
            }
            let next_ms = self.next_ms();
            if next_ms > start_ms + ms {
                self.advance(start_ms + ms);
                return None;
            }
            self.advance(next_ms);
            self.fire();
        }
    }

    fn advance(&mut self, mono_ms: u64) {
        let later_ms = mono_ms.max(self.now.mono_ms) - self.now.mono_ms;
        self.now = self.now.plus_ms(later_ms);
    }

    fn next_ms(&self) -> u64 {
        let event = self.events.keys().next().map(|(at_ms, _)| *at_ms);
        let leaves = self.leaves.iter().filter_map(|leaf| leaf.homes.poll_timeout());
        let up = self.services.iter().filter(|node| node.health == Health::Up);
        let services = up.filter_map(|node| node.service.poll_timeout());
        event.into_iter().chain(leaves).chain(services).min().unwrap_or(u64::MAX)
    }

    fn fire(&mut self) {
        let now = self.now;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= now.mono_ms) {
            let event = entry.remove();
            self.handle(event);
            self.drain();
        }
        for leaf in &mut self.leaves {
            if leaf.homes.poll_timeout().is_some_and(|ms| ms <= now.mono_ms) {
                leaf.homes.handle_timeout(now);
                let next_ms = leaf.homes.poll_timeout();
                assert!(next_ms.is_none_or(|ms| ms > now.mono_ms), "a leaf spins: {next_ms:?} at {now:?}");
            }
        }
        for node in self.services.iter_mut().filter(|node| node.health == Health::Up) {
            if node.service.poll_timeout().is_some_and(|ms| ms <= now.mono_ms) {
                node.service.handle_timeout(now);
                assert!(node.service.poll_timeout().is_none_or(|ms| ms > now.mono_ms), "a supernode spins");
            }
        }
        self.drain();
    }

    fn at(&mut self, delay_ms: u64, event: Event) {
        self.order += 1;
        self.events.insert((self.now.mono_ms + delay_ms, self.order), event);
    }

    fn delay_ms(&mut self) -> u64 {
        let lost = self.rng.below(100) < self.loss_percent;
        self.latency_ms + self.rng.below(5) + if lost { 200 } else { 0 }
    }

    // ---- streams ------------------------------------------------------------------------------------------------

    fn open(&mut self, from: End, to: usize) -> u64 {
        self.next_stream += 1;
        let id = self.next_stream;
        let stream = Stream { from, to: End::Service(to), open: true, arrives_ms: [0; 2], next_id: 0 };
        self.streams.insert(id, stream);
        let delay_ms = 3 * self.delay_ms();
        let event =
            if self.services[to].health == Health::Killed { Event::Refused(id) } else { Event::Open(id) };
        self.at(delay_ms, event);
        id
    }

    fn send(&mut self, id: u64, from: End, frame: HomeFrame) {
        let mut arrives_ms = self.now.mono_ms + self.delay_ms();
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.open) else { return };
        let forth = usize::from(stream.from == from);
        let to = if stream.from == from { stream.to } else { stream.from };
        arrives_ms = arrives_ms.max(stream.arrives_ms[forth]);
        stream.arrives_ms[forth] = arrives_ms;
        self.at(arrives_ms - self.now.mono_ms, Event::Frame { stream: id, to, frame });
    }

    fn close(&mut self, id: u64, by: End) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.open) else { return };
        stream.open = false;
        let other = if stream.from == by { stream.to } else { stream.from };
        if matches!(by, End::Service(index) if self.services[index].health == Health::Hung) {
            return;
        }
        let delay_ms = self.delay_ms();
        self.at(delay_ms, Event::Closed { stream: id, at: other });
    }

    fn is_up(&self, end: End) -> bool {
        match end {
            End::Leaf(_) => true,
            End::Service(index) => self.services[index].health == Health::Up,
        }
    }

    // ---- events -------------------------------------------------------------------------------------------------

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Open(id) => self.opened(id),
            Event::Refused(id) => {
                let stream = self.streams.remove(&id).unwrap();
                self.tell_closed(id, stream.from, stream.to);
            }
            Event::Frame { stream: id, to, frame } => {
                let Some(stream) = self.streams.get(&id) else { return };
                let from = if stream.from == to { stream.to } else { stream.from };
                if !self.is_up(to) || !self.is_up(from) {
                    return;
                }
                match to {
                    End::Leaf(leaf) => self.leaf_frame(leaf, id, frame),
                    End::Service(index) => {
                        self.services[index].requests += 1;
                        self.services[index].service.handle_frame(client(id, to, stream.from), frame, now);
                    }
                }
            }
            Event::Closed { stream: id, at } => {
                let Some(stream) = self.streams.get(&id) else { return };
                let other = if stream.from == at { stream.to } else { stream.from };
                if self.is_up(at) {
                    self.tell_closed(id, at, other);
                }
            }
            Event::Stored { service, request } => {
                self.services[service].service.handle_stored(request, 3, now)
            }
            Event::Found { service, request, value } => {
                self.services[service].service.handle_found(request, value.as_deref(), true, now);
            }
        }
    }

    fn opened(&mut self, id: u64) {
        let now = self.now;
        let Some(stream) = self.streams.get(&id).filter(|stream| stream.open) else { return };
        let (from, to) = (stream.from, stream.to);
        if !self.is_up(to) || !self.is_up(from) {
            return;
        }
        let (peer, ip) = match from {
            End::Leaf(leaf) => (self.leaves[leaf].device.public().0, leaf_ip(leaf)),
            End::Service(index) => (self.services[index].secret.public().0, self.services[index].address),
        };
        let End::Service(target) = to else { unreachable!("streams lead to supernodes") };
        let ip = Some(IpAddr::V4(ip));
        self.services[target].service.handle_opened(client(id, to, from), peer, ip, false, now);
        match from {
            End::Leaf(_) => {
                let hello = HomeHello { version_min: 1, version_max: 1, ..HomeHello::default() };
                let hello = HomeHello { time_s: now.unix_ms / 1_000, ..hello };
                self.send(id, from, HomeFrame { id: 0, body: Some(Body::Hello(hello)) });
            }
            End::Service(index) => {
                let peer = self.services[target].secret.public().0;
                self.services[index].service.handle_opened(client(id, from, from), peer, None, true, now);
            }
        }
    }

    fn tell_closed(&mut self, id: u64, at: End, other: End) {
        let now = self.now;
        match (at, other) {
            (End::Leaf(leaf), End::Service(index)) => {
                let node = &mut self.leaves[leaf];
                if node.streams.get(&peer(index)) == Some(&id) {
                    node.streams.remove(&peer(index));
                    node.homes.handle_closed(peer(index), Cause::Lost, now);
                }
            }
            (End::Service(index), other) => {
                let target = match other {
                    End::Service(target) => Some(self.services[target].secret.public()),
                    End::Leaf(_) => None,
                };
                let service = &mut self.services[index].service;
                match target {
                    // A dial that was refused never had a client.
                    Some(target) if !self.streams.contains_key(&id) => {
                        service.handle_connect_failed(target, now)
                    }
                    _ => {
                        service.handle_closed(ClientRef(id * 2), now);
                        service.handle_closed(ClientRef(id * 2 + 1), now);
                    }
                }
            }
            (End::Leaf(_), End::Leaf(_)) => unreachable!("streams lead to supernodes"),
        }
    }

    // ---- the leaf's driver ----------------------------------------------------------------------------------------

    fn leaf_frame(&mut self, leaf: usize, id: u64, frame: HomeFrame) {
        let now = self.now;
        let Some(End::Service(index)) = self.streams.get(&id).map(|stream| stream.to) else { return };
        let from = peer(index);
        if self.leaves[leaf].streams.get(&from) != Some(&id) {
            return;
        }
        match frame.body {
            Some(Body::Hello(_)) => self.leaves[leaf].homes.handle_opened(from, Some(40), now),
            Some(Body::Reserved(reserved)) => {
                self.learn(leaf, from, &reserved.referrals);
                self.leaves[leaf].homes.handle_reserved(from, reserved.heartbeat_ms, now);
            }
            Some(Body::Heartbeat(_)) => self.leaves[leaf].homes.handle_heartbeat_answer(from, now),
            Some(Body::Published(published)) => {
                assert!(published.copies > 0);
                self.leaves[leaf].homes.handle_published(from, now);
            }
            Some(Body::Supernodes(list)) => self.learn(leaf, from, &list.descriptors),
            Some(Body::Busy(busy)) => {
                self.learn(leaf, from, &busy.referrals);
                let node = &mut self.leaves[leaf];
                if frame.id != 0 && node.lists.get(&from) == Some(&frame.id) {
                    node.homes.handle_ask_refused(busy.retry_after_ms, now);
                    return;
                }
                let reserved = node.homes.reserved().any(|home| home == from);
                if reserved {
                    node.homes.handle_publish_failed(from, busy.retry_after_ms, now);
                } else {
                    let until_ms = now.mono_ms + u64::from(busy.retry_after_ms);
                    node.busy.push((from, now.mono_ms, until_ms));
                    node.homes.handle_busy(from, busy.retry_after_ms, now);
                }
            }
            Some(Body::Drain(drain)) => {
                self.learn(leaf, from, &drain.referrals);
                self.leaves[leaf].homes.handle_drain(from, drain.within_ms, now);
            }
            Some(Body::LookedUp(answer)) => {
                self.leaves[leaf].looked_up.push((answer.record.is_some(), answer.done));
            }
            other => panic!("unexpected answer {other:?}"),
        }
    }

    fn learn(&mut self, leaf: usize, from: PeerRef, descriptors: &[Signed]) {
        let known: Vec<KnownPeer> = descriptors
            .iter()
            .filter_map(|signed| SupernodeDescriptor::verify(signed, self.now.unix_ms).ok())
            .map(|descriptor| self.known(self.peers[&descriptor.service()], Some(from)))
            .collect();
        let now = self.now;
        self.leaves[leaf].homes.handle_known(&known, now);
    }

    pub(crate) fn look_up(&mut self, leaf: usize, of: usize) {
        let account = self.leaves[of].account.public().0.to_vec();
        let home = self.leaves[leaf].homes.reserved().next().unwrap();
        self.request(leaf, home, Body::LookUp(LookUp { account }));
    }

    fn request(&mut self, leaf: usize, to: PeerRef, body: Body) {
        let Some(&id) = self.leaves[leaf].streams.get(&to) else { return };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.next_id += 1;
        let frame = HomeFrame { id: stream.next_id, body: Some(body) };
        self.send(id, End::Leaf(leaf), frame);
    }

    fn record(&mut self, leaf: usize) -> ReachRecord {
        let not_after_s = self.now.unix_ms / 1_000 + 3_600;
        let homes: Vec<Home> = self.leaves[leaf]
            .homes
            .reserved()
            .map(|home| self.endpoint(home.0 as usize))
            .map(|endpoint| Home { service: endpoint.service, addresses: endpoint.addresses })
            .collect();
        let node = &mut self.leaves[leaf];
        node.sequence = (node.sequence + 1).max(self.now.unix_ms);
        let entry = DeviceEntry { device: node.device.public(), serial: 1 };
        let set = DeviceSet::issue(&node.account, 1, &[entry], not_after_s).unwrap();
        let account = node.account.public();
        let homes = DeviceHomes::issue(&node.device, account, node.sequence, not_after_s, &homes).unwrap();
        ReachRecord::new(set).with_homes(homes)
    }

    fn leaf_command(&mut self, leaf: usize, command: homes::Command) {
        match command {
            homes::Command::Connect(to) => {
                let now_ms = self.now.mono_ms;
                self.leaves[leaf].contacts.push((now_ms, to));
                let id = self.open(End::Leaf(leaf), to.0 as usize);
                self.leaves[leaf].streams.insert(to, id);
            }
            homes::Command::Reserve(to) => self.request(leaf, to, Body::Reserve(Reserve::default())),
            homes::Command::Heartbeat { peer, in_call } => {
                self.request(leaf, peer, Body::Heartbeat(Heartbeat { in_call }));
            }
            homes::Command::Release(from) => {
                if let Some(id) = self.leaves[leaf].streams.remove(&from) {
                    self.close(id, End::Leaf(leaf));
                }
            }
            homes::Command::Publish { via } => {
                self.leaves[leaf].publications += 1;
                let record = Some(self.record(leaf).to_wire());
                self.request(leaf, via, Body::Publish(Publish { record }));
            }
            homes::Command::AskSupernodes(of) => {
                let request = SupernodesRequest { roles: 1, limit: 16, ..SupernodesRequest::default() };
                self.request(leaf, of, Body::SupernodesRequest(request));
                let stream = self.leaves[leaf].streams.get(&of).and_then(|id| self.streams.get(id));
                if let Some(id) = stream.map(|stream| stream.next_id) {
                    self.leaves[leaf].lists.insert(of, id);
                }
            }
        }
    }

    // ---- the supernode's driver -----------------------------------------------------------------------------------

    fn service_command(&mut self, index: usize, command: service::Command) {
        let here = End::Service(index);
        match command {
            service::Command::Send { client, frame } => self.send(client.0 / 2, here, frame),
            service::Command::Close(client) => self.close(client.0 / 2, here),
            service::Command::Connect(endpoint) => {
                let target = self.peers[&endpoint.service];
                self.open(here, target);
            }
            service::Command::DhtPut { request, account, value } => {
                self.dht.insert(account.0, value);
                self.at(100, Event::Stored { service: index, request });
            }
            service::Command::DhtGet { request, account } => {
                let value = self.dht.get(&account.0).cloned();
                self.at(80, Event::Found { service: index, request, value });
            }
            service::Command::SignDescriptor { load_percent } => {
                let node = &mut self.services[index];
                let new = NewDescriptor {
                    sequence: self.now.unix_ms,
                    not_after_s: self.now.unix_ms / 1_000 + 7_200,
                    roles: tandem_proto::signed::Roles::DIRECTORY,
                    addresses: vec![multiaddr(node.address)],
                    load_percent,
                    ..NewDescriptor::default()
                };
                let descriptor = SupernodeDescriptor::issue(&node.secret, new).unwrap();
                node.service.handle_own_descriptor(descriptor, self.now);
            }
            service::Command::RecordRefused { reason, .. } => panic!("a good record was refused: {reason}"),
            service::Command::AddToRouting(_)
            | service::Command::Expel(_)
            | service::Command::Drained
            | service::Command::InvitationAnswered { .. } => {}
            service::Command::Check(_)
            | service::Command::Announced { .. }
            | service::Command::Invited { .. } => panic!("nobody here takes part in an election"),
        }
    }

    fn drain(&mut self) {
        loop {
            let mut idle = true;
            for leaf in 0..self.leaves.len() {
                while let Some(command) = self.leaves[leaf].homes.poll_command() {
                    self.leaf_command(leaf, command);
                    idle = false;
                }
            }
            for index in 0..self.services.len() {
                while let Some(command) = self.services[index].service.poll_command() {
                    self.service_command(index, command);
                    idle = false;
                }
            }
            if idle {
                return;
            }
        }
    }

    // ---- what must hold ---------------------------------------------------------------------------------------------

    pub(crate) fn homes(&self, leaf: usize) -> Vec<PeerRef> {
        self.leaves[leaf].homes.reserved().collect()
    }

    /// Homes that really hold a reservation.
    pub(crate) fn live_homes(&self, leaf: usize) -> usize {
        let device = self.leaves[leaf].device.public();
        let alive = |home: &PeerRef| {
            let node = &self.services[home.0 as usize];
            node.health == Health::Up && node.service.is_reserved(device)
        };
        self.homes(leaf).iter().filter(|home| alive(home)).count()
    }

    pub(crate) fn all_have(&self, homes: usize) -> bool {
        (0..self.leaves.len()).all(|leaf| self.live_homes(leaf) == homes)
    }

    pub(crate) fn assert_networks_differ(&self) {
        for leaf in 0..self.leaves.len() {
            let homes = self.homes(leaf);
            let networks: BTreeSet<u8> = homes.iter().map(|home| self.network(*home)).collect();
            assert_eq!(networks.len(), homes.len(), "leaf {leaf} has two homes in one network");
        }
    }

    /// Nobody contacts more than a dozen supernodes in any minute, nor one that asked to be left alone.
    pub(crate) fn assert_manners(&self) {
        for (index, leaf) in self.leaves.iter().enumerate() {
            for (at_ms, _) in &leaf.contacts {
                let minute = leaf.contacts.iter().filter(|(ms, _)| (*at_ms..at_ms + 60_000).contains(ms));
                let peers: BTreeSet<PeerRef> = minute.clone().map(|(_, peer)| *peer).collect();
                assert!(peers.len() <= 12, "leaf {index} contacted {} supernodes in a minute", peers.len());
                assert!(minute.count() <= 25, "leaf {index} overran its budget of attempts");
            }
            for (peer, since_ms, until_ms) in &leaf.busy {
                let early = leaf.contacts.iter().any(|(ms, to)| to == peer && ms > since_ms && ms < until_ms);
                assert!(!early, "leaf {index} came back to a busy supernode too early");
            }
        }
    }
}

fn client(stream: u64, at: End, from: End) -> ClientRef {
    // Both ends of a stream between supernodes have a number of their own.
    ClientRef(stream * 2 + u64::from(at == from))
}

pub(crate) fn peer(index: usize) -> PeerRef {
    PeerRef(u32::try_from(index).unwrap())
}

fn leaf_ip(leaf: usize) -> Ipv4Addr {
    Ipv4Addr::from(0xac10_0000 + u32::try_from(leaf).unwrap() * 64)
}

fn multiaddr(ip: Ipv4Addr) -> Vec<u8> {
    TransportAddress { ip: IpAddr::V4(ip), port: 4_000, transport: Transport::Quic }.to_bytes()
}

fn seed(kind: u8, index: usize) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
    seed
}
