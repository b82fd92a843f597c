//! Several `Calls` machines joined by emulated signalling, grants and media, under forced time.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::call::*;
use tandem_core::time::Now;
use tandem_proto::identity::{AccountSecret, DeviceSecret, ServiceSecret};
use tandem_proto::ids::{AccountKey, CallTag, DeviceKey, ServiceKey};
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::{
    DeviceCertificate, DeviceEntry, DeviceHomes, DeviceSet, Home, NewCertificate, NewDescriptor, Roles,
    SupernodeDescriptor,
};
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Candidate, MediaDescription, SignalFrame};

pub(crate) const START: Now = Now { mono_ms: 1_000, unix_ms: 1_790_000_000_000 };
/// One way, between any two nodes.
pub(crate) const DELAY_MS: u64 = 20;
const TICK_MS: u64 = 5;
const SILENCE_MS: u64 = 300;
const ROUTE_FAILS_MS: u64 = 300;
/// What a proof takes, longer than a stream without purpose is kept open.
const SOLVING_MS: u64 = 12_000;
/// From descriptions and relays known at both ends to paths checked and keys made: what tandem-media takes at this delay.
pub(crate) const CONNECT_MS: u64 = 150;

pub(crate) struct Supernode {
    pub(crate) key: ServiceKey,
    descriptor: SupernodeDescriptor,
    pub(crate) dead: bool,
    pub(crate) grants: usize,
}

#[derive(Default)]
pub(crate) struct Media {
    pub(crate) started: bool,
    started_ms: u64,
    /// Since when both ends have had all that a connection needs, and whether it stands.
    able_since: Option<u64>,
    pub(crate) connected: bool,
    pub(crate) remote: Option<MediaDescription>,
    /// Relays allocated on, with the tag.
    pub(crate) relays: BTreeMap<ServiceKey, CallTag>,
    dead_told: BTreeSet<ServiceKey>,
    /// Relays on which the other end has a candidate known here.
    pub(crate) remote_relays: BTreeSet<ServiceKey>,
    pub(crate) remote_direct: bool,
    heard: bool,
    silent_from: Option<u64>,
    silent_told: bool,
    /// Longest time without sound after the first (ms).
    pub(crate) longest_gap: u64,
}

pub(crate) struct Node {
    pub(crate) calls: Calls,
    pub(crate) account: AccountKey,
    pub(crate) device: DeviceKey,
    pub(crate) online: bool,
    /// Without any network for the moment: nothing goes out or comes in.
    pub(crate) unplugged: bool,
    pub(crate) auto_answer: bool,
    /// The driver never makes a media session (to hold a call before its offer).
    pub(crate) media_delay_ms: u64,
    pub(crate) media: BTreeMap<LegId, Media>,
    pub(crate) commands: Vec<Command>,
    pub(crate) sent: Vec<SignalFrame>,
    homes: Vec<usize>,
}

enum Event {
    Opened { leg: LegId, signal: SignalId, device: DeviceKey, via: ServiceKey },
    Incoming { signal: SignalId, device: DeviceKey, via: ServiceKey },
    Failed { leg: LegId },
    Frame { signal: SignalId, frame: SignalFrame },
    Closed { signal: SignalId },
    Found { call: CallId, account: AccountKey },
    Prepared { leg: LegId },
    Grant { leg: LegId, service: ServiceKey, ok: bool },
    Candidate { leg: LegId, candidate: Candidate },
    Proof { leg: LegId, proof: Option<[u8; 8]> },
    Confirmed { leg: LegId, relays: Vec<ServiceKey> },
}

struct Link {
    ends: [(usize, SignalId); 2],
    via: usize,
    open: bool,
    /// Swallows everything, and neither end knows.
    deaf: bool,
}

/// Something that a media session tells the machine.
type Told = Box<dyn FnOnce(&mut Calls)>;

/// Changes a frame on its way; `None` drops it.
pub(crate) type Tamper = Box<dyn FnMut(usize, SignalFrame) -> Option<SignalFrame>>;

pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) nodes: Vec<Node>,
    pub(crate) supernodes: Vec<Supernode>,
    pub(crate) tamper: Option<Tamper>,
    /// Supernodes that no home knows.
    pub(crate) unlisted: BTreeSet<ServiceKey>,
    secrets: BTreeMap<AccountKey, AccountSecret>,
    sets: BTreeMap<AccountKey, DeviceSet>,
    links: Vec<Link>,
    queue: BTreeMap<(u64, u64), (usize, Event)>,
    next: u64,
}

impl World {
    pub(crate) fn new(supernodes: usize) -> Self {
        let supernodes = (0..supernodes).map(|index| supernode(index, START)).collect();
        Self {
            now: START,
            nodes: Vec::new(),
            supernodes,
            tamper: None,
            unlisted: BTreeSet::new(),
            secrets: BTreeMap::new(),
            sets: BTreeMap::new(),
            links: Vec::new(),
            queue: BTreeMap::new(),
            next: 1,
        }
    }

    /// Alice, Bob and so on: one device each, the accounts in ascending order of their keys.
    pub(crate) fn people(count: usize, supernodes: usize) -> Self {
        let mut world = Self::new(supernodes);
        let mut secrets: Vec<AccountSecret> =
            (0..count).map(|n| AccountSecret::from_seed(&[n as u8 + 1; 32])).collect();
        secrets.sort_by_key(AccountSecret::public);
        for (n, secret) in secrets.into_iter().enumerate() {
            let account = secret.public();
            world.secrets.insert(account, secret);
            let homes = (0..3).map(|home| (n * 2 + home) % supernodes).collect();
            world.add_devices(account, 1, homes);
        }
        world
    }

    /// Adds devices to an account; its set names all of them.
    pub(crate) fn add_devices(&mut self, account: AccountKey, count: usize, homes: Vec<usize>) {
        let first = self.nodes.len();
        let devices: Vec<DeviceSecret> =
            (0..count).map(|n| DeviceSecret::from_seed(&[100 + (first + n) as u8; 32])).collect();
        let mut entries: Vec<DeviceEntry> =
            self.sets.get(&account).map(|set| set.devices().to_vec()).unwrap_or_default();
        let serial = entries.len() as u64 + 1;
        entries.extend(
            devices
                .iter()
                .zip(serial..)
                .map(|(device, serial)| DeviceEntry { device: device.public(), serial }),
        );
        self.set_devices(account, &entries);
        for (device, serial) in devices.iter().zip(serial..) {
            let node = self.node(account, device.public(), serial, homes.clone());
            self.nodes.push(node);
        }
    }

    /// Issues the account's next device set.
    pub(crate) fn set_devices(&mut self, account: AccountKey, entries: &[DeviceEntry]) {
        let epoch = self.sets.get(&account).map_or(1, |set| set.epoch() + 1);
        let not_after_s = START.unix_ms / 1_000 + 30 * 86_400;
        let set = DeviceSet::issue(&self.secrets[&account], epoch, entries, not_after_s).unwrap();
        for node in self.nodes.iter_mut().filter(|node| node.account == account) {
            let serial =
                entries.iter().find(|entry| entry.device == node.device).map_or(1, |entry| entry.serial);
            let certificate = certificate(&self.secrets[&account], node.device, serial);
            node.calls.set_identity(certificate.signed().clone(), set.signed().clone());
        }
        self.sets.insert(account, set);
    }

    pub(crate) fn set_of(&self, account: AccountKey) -> DeviceSet {
        self.sets[&account].clone()
    }

    pub(crate) fn secret_of(&self, account: AccountKey) -> &AccountSecret {
        &self.secrets[&account]
    }

    fn config(
        &self,
        account: AccountKey,
        device: DeviceKey,
        serial: u64,
        strangers: StrangerRules,
    ) -> CallsConfig {
        CallsConfig {
            account,
            device,
            certificate: certificate(&self.secrets[&account], device, serial).signed().clone(),
            device_set: self.sets[&account].signed().clone(),
            software: "test 1".into(),
            features: 0,
            display_name: "Somebody".into(),
            strangers,
            options: CallOptions::default(),
        }
    }

    /// The only device of a person is set to relays only.
    pub(crate) fn set_relay_only(&mut self, node: usize) {
        let Node { account, device, .. } = self.nodes[node];
        let mut config = self.config(account, device, 1, ringing());
        config.options.relay_only = true;
        self.nodes[node].calls = Calls::new(config, device.0);
        let relays = self.relays_of_all();
        self.nodes[node].calls.set_relays(relays);
    }

    fn relays_of_all(&self) -> Vec<SupernodeDescriptor> {
        self.supernodes.iter().map(|s| s.descriptor.clone()).take(8).collect()
    }

    fn node(&self, account: AccountKey, device: DeviceKey, serial: u64, homes: Vec<usize>) -> Node {
        self.node_with(account, device, serial, homes, ringing())
    }

    fn node_with(
        &self,
        account: AccountKey,
        device: DeviceKey,
        serial: u64,
        homes: Vec<usize>,
        strangers: StrangerRules,
    ) -> Node {
        let mut calls = Calls::new(self.config(account, device, serial, strangers), device.0);
        calls.set_relays(self.relays_of_all());
        Node {
            calls,
            account,
            device,
            online: true,
            unplugged: false,
            auto_answer: false,
            media_delay_ms: 1,
            media: BTreeMap::new(),
            commands: Vec::new(),
            sent: Vec::new(),
            homes,
        }
    }

    /// A node as new, with other rules for strangers.
    pub(crate) fn set_rules(&mut self, index: usize, rules: StrangerRules) {
        let (account, device) = (self.nodes[index].account, self.nodes[index].device);
        let homes = self.nodes[index].homes.clone();
        self.nodes[index] = self.node_with(account, device, 1, homes, rules);
    }

    /// The supernodes that a node knows and vouches for.
    pub(crate) fn set_relays(&mut self, node: usize, supernodes: std::ops::Range<usize>) {
        let relays = self.supernodes[supernodes].iter().map(|s| s.descriptor.clone()).collect();
        self.nodes[node].calls.set_relays(relays);
    }

    pub(crate) fn befriend(&mut self) {
        let accounts: Vec<AccountKey> = self.nodes.iter().map(|node| node.account).collect();
        self.nodes.iter_mut().for_each(|node| node.calls.set_contacts(accounts.clone()));
    }

    // ---- what people do ----

    pub(crate) fn place(&mut self, from: usize, to: usize) -> CallId {
        self.place_with(from, to, CallOptions::default())
    }

    pub(crate) fn place_with(&mut self, from: usize, to: usize, options: CallOptions) -> CallId {
        let call = CallId([self.bump() as u8; 16]);
        let account = self.nodes[to].account;
        self.nodes[from].calls.place(call, account, options, self.now).unwrap();
        self.drain(from);
        call
    }

    pub(crate) fn act<T>(&mut self, node: usize, act: impl FnOnce(&mut Calls, Now) -> T) -> T {
        let result = act(&mut self.nodes[node].calls, self.now);
        self.drain(node);
        result
    }

    /// A supernode dies. `silent`: nobody is told, and streams through it look open for another 6 s.
    pub(crate) fn kill(&mut self, supernode: usize, silent: bool) {
        self.supernodes[supernode].dead = true;
        let closing = if silent { 6_000 } else { 30 };
        for index in 0..self.links.len() {
            if self.links[index].via == supernode && self.links[index].open {
                for (node, signal) in self.links[index].ends {
                    self.schedule(closing, node, Event::Closed { signal });
                }
            }
        }
    }

    /// The router of a node forgets its mappings: its streams swallow everything and look open for another 6 s. New ones
    /// work.
    pub(crate) fn deafen(&mut self, node: usize) {
        for index in 0..self.links.len() {
            if self.links[index].open && self.links[index].ends.iter().any(|(end, _)| *end == node) {
                self.links[index].deaf = true;
                for (end, signal) in self.links[index].ends {
                    self.schedule(6_000, end, Event::Closed { signal });
                }
            }
        }
    }

    /// Cuts every stream between all nodes.
    pub(crate) fn cut_signalling(&mut self) {
        for index in 0..self.links.len() {
            self.cut(index);
        }
    }

    /// The node's network goes: streams look open for another 6 s.
    pub(crate) fn unplug(&mut self, node: usize) {
        self.nodes[node].unplugged = true;
        for index in 0..self.links.len() {
            if self.links[index].open && self.links[index].ends.iter().any(|(end, _)| *end == node) {
                self.links[index].open = false;
                for (end, signal) in self.links[index].ends {
                    self.schedule(6_000, end, Event::Closed { signal });
                }
            }
        }
    }

    /// It has a network again, another one.
    pub(crate) fn plug(&mut self, node: usize) {
        self.nodes[node].unplugged = false;
        self.act(node, |calls, now| calls.handle_network_changed(now));
    }

    fn cut(&mut self, index: usize) {
        if std::mem::replace(&mut self.links[index].open, false) {
            for (node, signal) in self.links[index].ends {
                self.schedule(1, node, Event::Closed { signal });
            }
        }
    }

    pub(crate) fn open_links(&self) -> usize {
        self.links.iter().filter(|link| link.open && !self.supernodes[link.via].dead).count()
    }

    /// A stream from `from` to `to` that no machine asked for.
    pub(crate) fn rogue_stream(&mut self, from: DeviceKey, to: usize) -> SignalId {
        let signal = SignalId(self.bump());
        let via = self.supernodes[0].key;
        self.nodes[to].calls.handle_incoming(signal, from, Some(via), self.now);
        self.drain(to);
        signal
    }

    /// The node's end of the newest open stream.
    pub(crate) fn newest_signal(&self, node: usize) -> SignalId {
        let ends = self.links.iter().filter(|link| link.open).flat_map(|link| link.ends);
        ends.filter(|(end, _)| *end == node).map(|(_, signal)| signal).max().unwrap()
    }

    // ---- time ----

    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while self.now.mono_ms < end {
            self.now = self.now.plus_ms(TICK_MS);
            self.deliver();
            for node in 0..self.nodes.len() {
                self.timeouts(node);
                self.listen(node);
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > self.now.mono_ms {
                return;
            }
            let (node, event) = entry.remove();
            self.handle(node, event);
            self.drain(node);
        }
    }

    fn timeouts(&mut self, node: usize) {
        let due = |node: &Node, now: Now| node.calls.poll_timeout().is_some_and(|at| at <= now.mono_ms);
        if due(&self.nodes[node], self.now) {
            self.nodes[node].calls.handle_timeout(self.now);
            assert!(!due(&self.nodes[node], self.now), "still due after handle_timeout: it would spin");
            self.drain(node);
        }
    }

    fn handle(&mut self, node: usize, event: Event) {
        let now = self.now;
        if !self.nodes[node].online {
            return;
        }
        let comes_in = matches!(
            event,
            Event::Opened { .. }
                | Event::Incoming { .. }
                | Event::Frame { .. }
                | Event::Found { .. }
                | Event::Grant { .. }
        );
        if self.nodes[node].unplugged && comes_in {
            return;
        }
        let record = match &event {
            Event::Found { account, .. } => Some(self.record(*account)),
            _ => None,
        };
        let calls = &mut self.nodes[node].calls;
        match event {
            Event::Opened { leg, signal, device, via } => {
                calls.handle_signal_opened(leg, signal, device, Some(via), now)
            }
            Event::Incoming { signal, device, via } => calls.handle_incoming(signal, device, Some(via), now),
            Event::Failed { leg } => calls.handle_signal_failed(leg, "no route", now),
            Event::Frame { signal, frame } => calls.handle_frame(signal, frame, now),
            Event::Closed { signal } => {
                self.links
                    .iter_mut()
                    .filter(|l| l.ends.contains(&(node, signal)))
                    .for_each(|l| l.open = false);
                calls.handle_signal_closed(signal, "reset", now);
            }
            Event::Found { call, .. } => {
                record.iter().for_each(|record| calls.handle_found(call, record, now));
                calls.handle_lookup_done(call, now);
            }
            Event::Prepared { leg } => calls.handle_media_prepared(leg, media(node as u8), now),
            Event::Grant { leg, service, ok } => {
                let access =
                    RelayAccess { username: "u".into(), password: "p".into(), addresses: Vec::new() };
                let grant = if ok { Ok(access) } else { Err("no answer".to_owned()) };
                calls.handle_grant(leg, service, grant, now);
            }
            Event::Confirmed { leg, relays } => calls.handle_relays_confirmed(leg, &relays, now),
            Event::Proof { leg, proof } => calls.handle_proof(leg, proof, now),
            Event::Candidate { leg, candidate } => calls.handle_local_candidates(leg, &[candidate], now),
        }
    }

    // ---- the driver ----

    pub(crate) fn drain(&mut self, node: usize) {
        while let Some(command) = self.nodes[node].calls.poll_command() {
            self.nodes[node].commands.push(command.clone());
            self.execute(node, command);
        }
    }

    fn execute(&mut self, node: usize, command: Command) {
        match command {
            Command::LookUp { call, account } => {
                self.schedule(DELAY_MS * 2, node, Event::Found { call, account })
            }
            Command::OpenSignal { leg, device, routes, .. } => self.open(node, leg, device, &routes),
            Command::SendSignal { signal, frame } => self.send(node, signal, frame),
            Command::CloseSignal(signal) => self.close(node, signal),
            Command::Ring { call, .. } if self.nodes[node].auto_answer => {
                self.nodes[node].calls.answer(call, self.now).unwrap();
            }
            Command::PrepareMedia { leg, .. } => {
                self.nodes[node].media.insert(leg, Media::default());
                let delay = self.nodes[node].media_delay_ms;
                self.schedule(delay, node, Event::Prepared { leg });
                // Both are known long before it rings.
                for kind in [0, 1] {
                    let address = vec![10, 0, kind as u8, node as u8];
                    let candidate = Candidate { kind, address, port: 9, ..Candidate::default() };
                    self.schedule(delay, node, Event::Candidate { leg, candidate });
                }
            }
            Command::RemoteMedia { leg, media } => self.media(node, leg).remote = Some(media),
            Command::RequestGrants { leg, relays } => self.request(node, leg, &relays),
            Command::AddRelay { leg, service, tag, access } => {
                assert!(!access.addresses.is_empty(), "addresses of the relay are passed through");
                self.media(node, leg).relays.insert(service, tag);
                let port = 5_000 + self.bump() as u32 % 1_000;
                let address = vec![198, 18, node as u8, 1];
                let candidate = Candidate { kind: 2, address, port, relay: service.0.to_vec(), priority: 1 };
                self.schedule(DELAY_MS, node, Event::Candidate { leg, candidate });
            }
            Command::AddRemoteCandidate { leg, candidate, .. } => {
                let media = self.media(node, leg);
                match ServiceKey::try_from(candidate.relay.as_slice()) {
                    Ok(relay) => _ = media.remote_relays.insert(relay),
                    Err(_) => media.remote_direct = true,
                }
            }
            Command::StartMedia { leg, .. } => {
                let now_ms = self.now.mono_ms;
                let media = self.media(node, leg);
                (media.started, media.started_ms) = (true, now_ms);
            }
            Command::EndMedia { leg } => _ = self.nodes[node].media.remove(&leg),
            Command::ConfirmRelays { leg, mut relays } => {
                relays.retain(|relay| !self.unlisted.contains(relay));
                self.schedule(DELAY_MS * 2, node, Event::Confirmed { leg, relays });
            }
            Command::RefreshRelays => {
                let relays = self.known_relays();
                self.nodes[node].calls.set_relays(relays);
            }
            Command::SolveProof { leg, challenge } => {
                let proof = challenge.search(0, 1 << 20);
                self.schedule(SOLVING_MS, node, Event::Proof { leg, proof });
            }
            Command::Ring { .. }
            | Command::SetSignalIdle { .. }
            | Command::InvitationUsed { .. }
            | Command::KeepRequest(_)
            | Command::Asked { .. }
            | Command::RemotePathReport { .. }
            | Command::RememberDeviceSet { .. }
            | Command::Report { .. } => {}
        }
    }

    fn open(&mut self, node: usize, leg: LegId, device: DeviceKey, routes: &[Home]) {
        if self.nodes[node].unplugged {
            return self.schedule(1_000, node, Event::Failed { leg });
        }
        let there = |other: &Node| other.device == device && other.online && !other.unplugged;
        let target = self.nodes.iter().position(there);
        let alive = routes.iter().position(|home| !self.super_of(home.service).dead);
        let (Some(target), Some(route)) = (target, alive) else {
            return self.schedule(1_000, node, Event::Failed { leg });
        };
        let via_key = routes[route].service;
        let via = self.supernodes.iter().position(|s| s.key == via_key).unwrap();
        let (ours, theirs) = (SignalId(self.bump()), SignalId(self.bump()));
        self.links.push(Link { ends: [(node, ours), (target, theirs)], via, open: true, deaf: false });
        let after = ROUTE_FAILS_MS * route as u64 + DELAY_MS;
        let from = self.nodes[node].device;
        self.schedule(after, target, Event::Incoming { signal: theirs, device: from, via: via_key });
        self.schedule(after + DELAY_MS, node, Event::Opened { leg, signal: ours, device, via: via_key });
    }

    fn send(&mut self, node: usize, signal: SignalId, frame: SignalFrame) {
        self.nodes[node].sent.push(frame.clone());
        let link = self.links.iter().find(|link| link.ends.contains(&(node, signal)));
        let passes = |link: &&Link| link.open && !link.deaf && !self.supernodes[link.via].dead;
        let Some(link) = link.filter(passes) else { return };
        let (to, their) = *link.ends.iter().find(|end| **end != (node, signal)).unwrap();
        let frame = match &mut self.tamper {
            Some(tamper) => tamper(node, frame),
            None => Some(frame),
        };
        if let Some(frame) = frame {
            self.schedule(DELAY_MS, to, Event::Frame { signal: their, frame });
        }
    }

    fn close(&mut self, node: usize, signal: SignalId) {
        let Some(link) = self.links.iter_mut().find(|link| link.ends.contains(&(node, signal)) && link.open)
        else {
            return;
        };
        link.open = false;
        if link.deaf {
            return;
        }
        let (to, their) = *link.ends.iter().find(|end| **end != (node, signal)).unwrap();
        self.schedule(DELAY_MS + 1, to, Event::Closed { signal: their });
    }

    fn request(&mut self, node: usize, leg: LegId, relays: &[RelayWanted]) {
        for relay in relays {
            let dead = self.super_of(relay.service).dead;
            let index = self.supernodes.iter().position(|s| s.key == relay.service).unwrap();
            self.supernodes[index].grants += 1;
            let after = if dead { 2_000 } else { DELAY_MS * 2 };
            self.schedule(after, node, Event::Grant { leg, service: relay.service, ok: !dead });
        }
    }

    // ---- media ----

    fn media(&mut self, node: usize, leg: LegId) -> &mut Media {
        self.nodes[node].media.get_mut(&leg).expect("a command for a leg without PrepareMedia")
    }

    /// What a node hears now, told to its machine as the media session would.
    fn listen(&mut self, node: usize) {
        let legs: Vec<LegId> = self.nodes[node].media.keys().copied().collect();
        for leg in legs {
            self.connect(node, leg);
            let hears = self.hears(node, leg);
            let (now, dead) = (self.now, self.dead_relays(node, leg));
            let Some(media) = self.nodes[node].media.get_mut(&leg) else { continue };
            let mut told: Vec<Told> = Vec::new();
            if hears {
                if let Some(from) = media.silent_from.take() {
                    media.longest_gap = media.longest_gap.max(now.mono_ms - from);
                }
                if !std::mem::replace(&mut media.heard, true) {
                    told.push(Box::new(move |calls| calls.handle_first_media(leg, now)));
                } else if std::mem::replace(&mut media.silent_told, false) {
                    told.push(Box::new(move |calls| calls.handle_sound_again(leg, now)));
                }
            } else if media.heard {
                let from = *media.silent_from.get_or_insert(now.mono_ms);
                if now.mono_ms - from >= SILENCE_MS && !std::mem::replace(&mut media.silent_told, true) {
                    told.push(Box::new(move |calls| calls.handle_all_paths_silent(leg, now)));
                }
            }
            for relay in dead.into_iter().filter(|relay| media.dead_told.insert(*relay)) {
                told.push(Box::new(move |calls| calls.handle_relay_dead(leg, relay, now)));
            }
            told.into_iter().for_each(|tell| tell(&mut self.nodes[node].calls));
            self.drain(node);
        }
    }

    fn dead_relays(&self, node: usize, leg: LegId) -> Vec<ServiceKey> {
        self.nodes[node].media[&leg].relays.keys().copied().filter(|key| self.super_of(*key).dead).collect()
    }

    /// Paths and keys take their time, once both ends know what they need.
    fn connect(&mut self, node: usize, leg: LegId) {
        let (now_ms, able) = (self.now.mono_ms, self.reaches(node, leg, |_| true));
        let Some(media) = self.nodes[node].media.get_mut(&leg).filter(|media| !media.connected) else {
            return;
        };
        media.able_since = able.then(|| media.able_since.unwrap_or(now_ms));
        media.connected = media.able_since.is_some_and(|since| now_ms - since >= CONNECT_MS);
    }

    fn hears(&self, node: usize, leg: LegId) -> bool {
        let arrives = |theirs: &Media| theirs.started && self.now.mono_ms >= theirs.started_ms + DELAY_MS;
        self.nodes[node].media[&leg].connected && self.reaches(node, leg, arrives)
    }

    /// Whether a session of another node that passes the filter has a way to this one.
    fn reaches(&self, node: usize, leg: LegId, filter: impl Fn(&Media) -> bool) -> bool {
        if self.nodes[node].unplugged {
            return false;
        }
        let ours = &self.nodes[node].media[&leg];
        let plugged = |other: &Node| other.online && !other.unplugged;
        let others = self.nodes.iter().enumerate().filter(|(index, other)| *index != node && plugged(other));
        let described = |theirs: &&Media| ours.remote.is_some() && theirs.remote.is_some();
        let theirs = others.flat_map(|(_, other)| other.media.values()).filter(described);
        theirs.filter(|theirs| filter(theirs)).any(|theirs| {
            let relayed = ours.relays.iter().any(|(relay, tag)| {
                theirs.relays.get(relay) == Some(tag)
                    && !self.super_of(*relay).dead
                    && ours.remote_relays.contains(relay)
                    && theirs.remote_relays.contains(relay)
            });
            relayed || (ours.remote_direct && theirs.remote_direct)
        })
    }

    // ---- helpers ----

    /// What a home would name now: supernodes that live, the newest first.
    fn known_relays(&self) -> Vec<SupernodeDescriptor> {
        let listed = self.supernodes.iter().rev().filter(|s| !self.unlisted.contains(&s.key));
        listed.filter(|s| !s.dead).map(|s| s.descriptor.clone()).collect()
    }

    /// Relays that work and that both of the two nodes are on.
    pub(crate) fn live_paths(&self, nodes: [usize; 2]) -> usize {
        let on = |node: usize, relay: &ServiceKey| {
            self.nodes[node].media.values().any(|media| media.relays.contains_key(relay))
        };
        let live = self.supernodes.iter().filter(|s| !s.dead);
        live.filter(|s| nodes.iter().all(|node| on(*node, &s.key))).count()
    }

    /// Devices find other homes for those that died.
    pub(crate) fn rehome(&mut self) {
        for node in 0..self.nodes.len() {
            let mut homes: Vec<usize> =
                self.nodes[node].homes.iter().copied().filter(|home| !self.supernodes[*home].dead).collect();
            let live = (0..self.supernodes.len()).rev().filter(|home| !self.supernodes[*home].dead);
            let others: Vec<usize> =
                live.filter(|home| !homes.contains(home)).take(3 - homes.len()).collect();
            homes.extend(others);
            self.nodes[node].homes = homes;
        }
    }

    /// Drops the streams that have been closed for long, so that an hour does not take an hour.
    pub(crate) fn forget_closed(&mut self) {
        self.links.retain(|link| link.open);
    }

    /// A supernode appears.
    pub(crate) fn add_supernode(&mut self) {
        self.supernodes.push(supernode(self.supernodes.len(), self.now));
    }

    pub(crate) fn super_of(&self, key: ServiceKey) -> &Supernode {
        self.supernodes.iter().find(|s| s.key == key).unwrap()
    }

    pub(crate) fn record(&self, account: AccountKey) -> ReachRecord {
        let mut record = ReachRecord::new(self.sets[&account].clone());
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, n)| n.account == account && n.online) {
            let secret = DeviceSecret::from_seed(&[100 + index as u8; 32]);
            let homes: Vec<Home> = node
                .homes
                .iter()
                .map(|home| Home { service: self.supernodes[*home].key, addresses: vec![vec![1]] })
                .collect();
            let end = START.unix_ms / 1_000 + 86_400;
            record =
                record.with_homes(DeviceHomes::issue(&secret, account, START.unix_ms, end, &homes).unwrap());
        }
        record
    }

    fn schedule(&mut self, after_ms: u64, node: usize, event: Event) {
        let key = (self.now.mono_ms + after_ms, self.bump());
        self.queue.insert(key, (node, event));
    }

    fn bump(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    // ---- what happened ----

    pub(crate) fn ended(&self, node: usize) -> Option<&Ended> {
        self.nodes[node].commands.iter().rev().find_map(|command| match command {
            Command::Report { event: CallEvent::Ended(ended), .. } => Some(ended),
            _ => None,
        })
    }

    pub(crate) fn end_reason(&self, node: usize) -> Option<EndReason> {
        self.ended(node).map(|ended| ended.reason)
    }

    pub(crate) fn stage(&self, node: usize) -> Option<Stage> {
        self.nodes[node].calls.status().map(|status| status.stage)
    }

    pub(crate) fn rings(&self, node: usize) -> Vec<CallId> {
        let ring =
            |command: &Command| if let Command::Ring { call, .. } = command { Some(*call) } else { None };
        self.nodes[node].commands.iter().filter_map(ring).collect()
    }

    pub(crate) fn talks(&self, node: usize) -> bool {
        self.nodes[node].media.iter().any(|(leg, media)| media.started && self.hears(node, *leg))
    }

    pub(crate) fn relays(&self, node: usize) -> Vec<ServiceKey> {
        self.nodes[node].calls.status().map(|status| status.relays).unwrap_or_default()
    }

    pub(crate) fn longest_gap(&self, node: usize) -> u64 {
        self.nodes[node].media.values().map(|media| media.longest_gap).max().unwrap_or(0)
    }

    pub(crate) fn count_sent(&self, node: usize, is: impl Fn(&Body) -> bool) -> usize {
        self.nodes[node].sent.iter().filter_map(|frame| frame.body.as_ref()).filter(|body| is(body)).count()
    }
}

/// Strangers ring, and a request costs little.
fn ringing() -> StrangerRules {
    StrangerRules { mode: Strangers::Ring, request_bits: 4, ..StrangerRules::default() }
}

pub(crate) fn media(salt: u8) -> MediaDescription {
    MediaDescription {
        ice_ufrag: "abcd".into(),
        ice_pwd: "abcdefghijklmnopqrstuv".into(),
        dtls_fingerprint: vec![salt; 32],
        ssrc: u32::from(salt) + 1,
        opus_features: Vec::new(),
    }
}

pub(crate) fn certificate(secret: &AccountSecret, device: DeviceKey, serial: u64) -> DeviceCertificate {
    let now_s = START.unix_ms / 1_000;
    let new = NewCertificate {
        device,
        serial,
        not_before_s: now_s - 60,
        not_after_s: now_s + 30 * 86_400,
        label: "test".into(),
    };
    DeviceCertificate::issue(secret, new).unwrap()
}

fn supernode(index: usize, now: Now) -> Supernode {
    let secret = ServiceSecret::from_seed(&[200u8.wrapping_add(index as u8); 32]);
    let address = |transport| {
        let ip = format!("127.{}.0.1", index + 1).parse().unwrap();
        TransportAddress { ip, port: 3479, transport }.to_bytes()
    };
    let new = NewDescriptor {
        sequence: now.unix_ms,
        not_after_s: now.unix_ms / 1_000 + 10_800,
        roles: Roles::DIRECTORY.with(Roles::RELAY),
        addresses: vec![vec![1]],
        relay: vec![address(Transport::Udp), address(Transport::Tcp)],
        ..NewDescriptor::default()
    };
    let descriptor = SupernodeDescriptor::issue(&secret, new).unwrap();
    Supernode { key: secret.public(), descriptor, dead: false, grants: 0 }
}
