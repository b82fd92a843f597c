//! One supernode's side of the home protocol, frame by frame.

use std::net::{IpAddr, Ipv4Addr};

use tandem_core::service::{ClientRef, Command, Config, Service};
use tandem_core::time::Now;
use tandem_proto::grant::{GrantTerms, RelaySecret};
use tandem_proto::identity::{AccountSecret, DeviceSecret, ServiceSecret};
use tandem_proto::names::FailureCode;
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::{
    DeviceEntry, DeviceHomes, DeviceSet, Home, NewDescriptor, Roles, SupernodeDescriptor,
};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{
    GrantRequest, Heartbeat, HomeFrame, HomeHello, LookUp, Presence, Publish, Reserve, SupernodesRequest,
};

use crate::world::{UNIX_MS, World};

/// A supernode under test, with what it said last.
pub(crate) struct Bench {
    pub(crate) service: Service,
    pub(crate) now: Now,
    next_id: u64,
    commands: Vec<Command>,
    /// Of those who open streams.
    network: u8,
}

impl Bench {
    pub(crate) fn new(adjust: impl Fn(&mut Config)) -> Self {
        let now = Now { mono_ms: 5_000, unix_ms: UNIX_MS };
        let secret = own_secret();
        let mut config = Config::new(secret.public(), "test".into());
        config.roles = Roles::DIRECTORY.with(Roles::RELAY);
        config.relay_secret = Some(RelaySecret::new([9; 32]));
        adjust(&mut config);
        let mut service = Service::new(config, 1, now);
        service.handle_own_descriptor(descriptor(&secret, 1), now);
        let mut bench = Self { service, now, next_id: 0, commands: Vec::new(), network: 0 };
        bench.take();
        bench
    }

    /// What it wants done since the last time.
    pub(crate) fn take(&mut self) -> Vec<Command> {
        self.commands.extend(std::iter::from_fn(|| self.service.poll_command()));
        std::mem::take(&mut self.commands)
    }

    fn open(&mut self, client: u64, peer: [u8; 32]) -> ClientRef {
        self.open_at(client, peer, IpAddr::V4(Ipv4Addr::new(192, self.network, 2, 1)))
    }

    pub(crate) fn open_at(&mut self, client: u64, peer: [u8; 32], remote: IpAddr) -> ClientRef {
        let client = ClientRef(client);
        self.service.handle_opened(client, peer, Some(remote), false, self.now);
        client
    }

    /// A device that has said hello, from there.
    pub(crate) fn device_at(&mut self, client: u64, remote: IpAddr) -> ClientRef {
        let opened = self.open_at(client, device_secret(client).public().0, remote);
        self.service.handle_frame(opened, hello(1, 1, self.now), self.now);
        self.take();
        opened
    }

    /// A supernode that has said hello, from there.
    pub(crate) fn supernode_at(&mut self, client: u64, secret: &ServiceSecret, remote: IpAddr) -> ClientRef {
        let opened = self.open_at(client, secret.public().0, remote);
        self.service.handle_frame(opened, greeting(secret, self.now), self.now);
        self.take();
        opened
    }

    /// One that is about to leave, and still has a device.
    pub(crate) fn reserved_if(&mut self, draining: bool) {
        if draining {
            self.reserved(99);
            self.service.drain(60_000, self.now);
            self.take();
        }
    }

    /// A device that has said hello.
    pub(crate) fn device(&mut self, client: u64) -> ClientRef {
        let opened = self.open(client, device_secret(client).public().0);
        self.service.handle_frame(opened, hello(1, 1, self.now), self.now);
        let said = self.take();
        let greeted = |command: &Command| {
            matches!(command, Command::Send { frame: HomeFrame { id: 0, body: Some(Body::Hello(_)) }, .. })
        };
        assert!(said.iter().any(greeted), "no hello in {said:?}");
        opened
    }

    /// A device that is reserved.
    pub(crate) fn reserved(&mut self, client: u64) -> ClientRef {
        let client = self.device(client);
        let answer = self.ask(client, Body::Reserve(Reserve::default()));
        assert!(matches!(answer, Some(Body::Reserved(_))), "{answer:?}");
        client
    }

    /// Sends one request; what it answered, if it did at once.
    pub(crate) fn ask(&mut self, client: ClientRef, body: Body) -> Option<Body> {
        self.next_id += 1;
        let id = self.next_id;
        self.service.handle_frame(client, HomeFrame { id, body: Some(body) }, self.now);
        self.commands.extend(std::iter::from_fn(|| self.service.poll_command()));
        let answer = |command: &Command| matches!(command, Command::Send { client: to, frame } if *to == client && frame.id == id);
        let at = self.commands.iter().position(answer)?;
        match self.commands.remove(at) {
            Command::Send { frame, .. } => frame.body,
            _ => None,
        }
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        while let Some(due_ms) = self.service.poll_timeout().filter(|due_ms| *due_ms <= end_ms) {
            self.now = self.now.plus_ms(due_ms.saturating_sub(self.now.mono_ms));
            self.service.handle_timeout(self.now);
        }
        self.now = self.now.plus_ms(end_ms - self.now.mono_ms);
    }

    pub(crate) fn publish(&mut self, client: ClientRef, record: &ReachRecord) -> Option<Body> {
        self.ask(client, Body::Publish(Publish { record: Some(record.to_wire()) }))
    }

    /// The request number and value of the last put.
    pub(crate) fn put(&mut self) -> (u64, Vec<u8>) {
        let put = self.take().into_iter().find_map(|command| match command {
            Command::DhtPut { request, value, .. } => Some((request, value)),
            _ => None,
        });
        put.expect("a put")
    }

    pub(crate) fn get(&mut self) -> Option<u64> {
        self.take().into_iter().find_map(|command| match command {
            Command::DhtGet { request, .. } => Some(request),
            _ => None,
        })
    }

    /// Frames sent to a client since the last time.
    pub(crate) fn sent(&mut self, client: ClientRef) -> Vec<Body> {
        let sent = self.take().into_iter().filter_map(|command| match command {
            Command::Send { client: to, frame } if to == client => frame.body,
            _ => None,
        });
        sent.collect()
    }

    pub(crate) fn closed(&mut self, client: ClientRef) -> bool {
        self.take().contains(&Command::Close(client))
    }
}

pub(crate) fn own_secret() -> ServiceSecret {
    ServiceSecret::from_seed(&[77; 32])
}

pub(crate) fn account_secret() -> AccountSecret {
    AccountSecret::from_seed(&[55; 32])
}

pub(crate) fn device_secret(index: u64) -> DeviceSecret {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&index.to_be_bytes());
    DeviceSecret::from_seed(&seed)
}

pub(crate) fn descriptor(secret: &ServiceSecret, sequence: u64) -> SupernodeDescriptor {
    let new = NewDescriptor {
        sequence,
        not_after_s: UNIX_MS / 1_000 + 7_200,
        roles: Roles::DIRECTORY.with(Roles::RELAY),
        relay: vec![vec![4, 192, 0, 2, 9, 0x91, 0x02, 0x0f, 0xa1]],
        ..NewDescriptor::default()
    };
    SupernodeDescriptor::issue(secret, new).unwrap()
}

pub(crate) fn hello(version_min: u32, version_max: u32, now: Now) -> HomeFrame {
    let hello = HomeHello { version_min, version_max, time_s: now.unix_ms / 1_000, ..HomeHello::default() };
    HomeFrame { id: 0, body: Some(Body::Hello(hello)) }
}

/// The hello of a supernode.
pub(crate) fn greeting(secret: &ServiceSecret, now: Now) -> HomeFrame {
    let descriptor = Some(descriptor(secret, 1).signed().clone());
    let hello = HomeHello {
        version_min: 1,
        version_max: 1,
        time_s: now.unix_ms / 1_000,
        descriptor,
        ..HomeHello::default()
    };
    HomeFrame { id: 0, body: Some(Body::Hello(hello)) }
}

/// The record of the account whose devices are 1 and 2, with `device`'s homes.
pub(crate) fn record(epoch: u64, device: u64, sequence: u64) -> ReachRecord {
    let not_after_s = UNIX_MS / 1_000 + 3_600;
    let account = account_secret();
    let entry = |index| DeviceEntry { device: device_secret(index).public(), serial: index };
    let set = DeviceSet::issue(&account, epoch, &[entry(1), entry(2)], not_after_s).unwrap();
    let home = Home { service: own_secret().public(), addresses: Vec::new() };
    let secret = device_secret(device);
    let homes = DeviceHomes::issue(&secret, account.public(), sequence, not_after_s, &[home]).unwrap();
    ReachRecord::new(set).with_homes(homes)
}

pub(crate) fn failure(answer: Option<Body>) -> FailureCode {
    match answer {
        Some(Body::Failure(failure)) => FailureCode::from(failure.code),
        other => panic!("not a failure: {other:?}"),
    }
}

fn look_up() -> Body {
    Body::LookUp(LookUp { account: account_secret().public().0.to_vec() })
}

// ---- sessions -----------------------------------------------------------------------------------------------------

#[test]
fn no_common_version_ends_the_stream_with_the_reason() {
    let mut bench = Bench::new(|_| {});
    let client = bench.open(1, [1; 32]);
    bench.service.handle_frame(client, hello(7, 9, bench.now), bench.now);
    let said = bench.take();
    assert!(said.contains(&Command::Close(client)));
    let code = said.iter().find_map(|command| match command {
        Command::Send { frame: HomeFrame { body: Some(Body::Failure(failure)), .. }, .. } => {
            Some(failure.code)
        }
        _ => None,
    });
    assert_eq!(code, Some(FailureCode::NoCommonVersion.number()));
}

#[test]
fn requests_need_a_hello_and_an_id() {
    let mut bench = Bench::new(|_| {});
    let client = bench.open(1, [1; 32]);
    assert_eq!(failure(bench.ask(client, look_up())), FailureCode::Malformed);
    assert!(bench.closed(client));
    let client = bench.device(2);
    bench.service.handle_frame(client, HomeFrame { id: 0, body: Some(look_up()) }, bench.now);
    assert!(bench.closed(client));
    let client = bench.device(3);
    bench.service.handle_frame(client, HomeFrame { id: 4, body: None }, bench.now);
    let sent = bench.sent(client);
    assert_eq!(failure(sent.into_iter().next()), FailureCode::UnknownRequest);
}

#[test]
fn silence_ends_a_reservation_after_30_seconds_or_6_in_a_call() {
    for (in_call, kept_ms, gone_ms) in [(false, 29_000, 2_500), (true, 5_000, 2_500)] {
        let mut bench = Bench::new(|_| {});
        let client = bench.device(1);
        bench.ask(client, Body::Reserve(Reserve { in_call, ..Reserve::default() }));
        bench.wait(3_000);
        assert!(matches!(
            bench.ask(client, Body::Heartbeat(Heartbeat { in_call })),
            Some(Body::Heartbeat(_))
        ));
        bench.wait(kept_ms);
        assert!(bench.service.is_reserved(device_secret(1).public()));
        bench.wait(gone_ms);
        assert!(!bench.service.is_reserved(device_secret(1).public()));
        assert!(bench.closed(client));
    }
}

#[test]
fn a_device_that_comes_back_takes_its_place_over() {
    let mut bench = Bench::new(|_| {});
    let before = bench.reserved(1);
    let peer = device_secret(1).public().0;
    let again = bench.open(11, peer);
    bench.service.handle_frame(again, hello(1, 1, bench.now), bench.now);
    assert!(matches!(bench.ask(again, Body::Reserve(Reserve::default())), Some(Body::Reserved(_))));
    assert!(bench.closed(before));
    bench.service.handle_closed(before, bench.now);
    assert!(bench.service.is_reserved(device_secret(1).public()));
    assert_eq!(bench.service.figures().reserved, 1);
}

#[test]
fn a_full_supernode_refers_newcomers_and_lets_its_own_back_in() {
    let mut bench = Bench::new(|config| config.reservations_max = 4);
    let neighbour = ServiceSecret::from_seed(&[8; 32]);
    let other = bench.open(90, neighbour.public().0);
    let greeting =
        HomeHello { version_min: 1, version_max: 1, time_s: UNIX_MS / 1_000, ..HomeHello::default() };
    let greeting = HomeHello { descriptor: Some(descriptor(&neighbour, 1).signed().clone()), ..greeting };
    bench.service.handle_frame(other, HomeFrame { id: 0, body: Some(Body::Hello(greeting)) }, bench.now);
    let first = bench.device(1);
    let Some(Body::Reserved(reserved)) = bench.ask(first, Body::Reserve(Reserve::default())) else {
        panic!()
    };
    assert_eq!(reserved.referrals.len(), 1);
    for client in 2..=4 {
        bench.reserved(client);
    }
    let late = bench.device(5);
    let Some(Body::Busy(busy)) = bench.ask(late, Body::Reserve(Reserve::default())) else {
        panic!("not busy")
    };
    assert!(busy.retry_after_ms >= 10_000);
    assert_eq!(busy.referrals, [descriptor(&neighbour, 1).signed().clone()]);

    bench.service.handle_closed(first, bench.now);
    let again = bench.open(101, device_secret(1).public().0);
    bench.service.handle_frame(again, hello(1, 1, bench.now), bench.now);
    let resume = Reserve { resume_ticket: reserved.resume_ticket, ..Reserve::default() };
    assert!(matches!(bench.ask(again, Body::Reserve(resume)), Some(Body::Reserved(_))));
    assert_eq!(bench.service.figures().no_place, 1);

    // A process that starts again has no ticket, and the same key.
    bench.service.handle_closed(again, bench.now);
    let late = bench.device(6);
    assert!(matches!(bench.ask(late, Body::Reserve(Reserve::default())), Some(Body::Busy(_))));
    let started_again = bench.open(102, device_secret(1).public().0);
    bench.service.handle_frame(started_again, hello(1, 1, bench.now), bench.now);
    assert!(matches!(bench.ask(started_again, Body::Reserve(Reserve::default())), Some(Body::Reserved(_))));
}

#[test]
fn devices_without_any_home_find_places_above_the_limit_few_of_any_one_network() {
    let mut bench = Bench::new(|config| config.reservations_max = 64);
    for client in 1..=64 {
        bench.reserved(client);
    }
    let homeless = || Body::Reserve(Reserve { homeless: true, ..Reserve::default() });
    let taken = |bench: &mut Bench, clients: std::ops::Range<u64>| {
        clients
            .filter(|client| {
                let client = bench.device(*client);
                matches!(bench.ask(client, homeless()), Some(Body::Reserved(_)))
            })
            .count()
    };
    let client = bench.device(65);
    assert!(matches!(bench.ask(client, Body::Reserve(Reserve::default())), Some(Body::Busy(_))));
    assert_eq!(taken(&mut bench, 66..100), 2, "all of one network");
    bench.network = 7;
    assert_eq!(taken(&mut bench, 100..110), 2);
    for network in 8..40 {
        bench.network = network;
        let from = u64::from(network) * 10 + 200;
        taken(&mut bench, from..from + 2);
    }
    assert_eq!(bench.service.figures().reserved, 64 + 16, "a quarter above the limit is the end");
}

#[test]
fn presence_is_told_to_those_reserved_here() {
    let mut bench = Bench::new(|_| {});
    let asker = bench.reserved(1);
    bench.reserved(2);
    let presence = |index| {
        Body::Presence(Presence { device: device_secret(index).public().0.to_vec(), reserved: false })
    };
    let is_there = |answer| matches!(answer, Some(Body::Presence(Presence { reserved: true, .. })));
    assert!(is_there(bench.ask(asker, presence(2))));
    assert!(!is_there(bench.ask(asker, presence(3))));
    let stranger = bench.device(4);
    assert_eq!(failure(bench.ask(stranger, presence(2))), FailureCode::NotReserved);
}

#[test]
fn a_flood_is_slowed_then_cut_off() {
    let mut bench = Bench::new(|_| {});
    let client = bench.device(1);
    let mut busy = 0;
    while bench.service.figures().clients > 0 {
        if matches!(bench.ask(client, Body::Heartbeat(Heartbeat { in_call: false })), Some(Body::Busy(_))) {
            busy += 1;
        }
        assert!(busy < 100, "never cut off");
    }
    assert!(busy > 10);
}

#[test]
fn draining_tells_everybody_and_refuses_what_is_new() {
    let mut bench = Bench::new(|_| {});
    let client = bench.reserved(1);
    bench.service.drain(10_000, bench.now);
    let sent = bench.sent(client);
    assert!(matches!(sent[..], [Body::Drain(_)]), "{sent:?}");
    let late = bench.open(2, [2; 32]);
    let said = bench.take();
    assert!(said.contains(&Command::Close(late)));
    assert!(said.iter().any(|command| {
        matches!(command, Command::Send { frame: HomeFrame { body: Some(Body::Busy(_)), .. }, .. })
    }));
    assert!(matches!(
        bench.ask(client, Body::Heartbeat(Heartbeat { in_call: true })),
        Some(Body::Heartbeat(_))
    ));
    bench.service.handle_closed(client, bench.now);
    bench.wait(2_000);
    assert!(bench.take().contains(&Command::Drained));
}

// ---- directory ----------------------------------------------------------------------------------------------------

#[test]
fn a_good_record_is_stored_and_its_copies_are_told() {
    let mut bench = Bench::new(|_| {});
    let client = bench.reserved(1);
    assert_eq!(bench.publish(client, &record(1, 1, 100)), None);
    let (request, value) = bench.put();
    assert_eq!(value, record(1, 1, 100).encode());
    bench.service.handle_stored(request, 4, bench.now);
    assert!(matches!(bench.sent(client)[..], [Body::Published(tandem_proto::wire::Published { copies: 4 })]));

    bench.publish(client, &record(1, 1, 101));
    let (request, _) = bench.put();
    bench.service.handle_stored(request, 0, bench.now);
    assert_eq!(failure(bench.sent(client).pop()), FailureCode::NotStored);
}

#[test]
fn another_device_of_the_account_is_merged_not_lost() {
    let mut bench = Bench::new(|_| {});
    let (one, two) = (bench.reserved(1), bench.reserved(2));
    bench.publish(one, &record(1, 1, 100));
    bench.take();
    bench.publish(two, &record(1, 2, 90));
    let (_, value) = bench.put();
    let stored = ReachRecord::decode_verified(&value, account_secret().public(), UNIX_MS).unwrap();
    assert_eq!(stored.homes().len(), 2);
}

#[test]
fn a_bad_record_is_refused_logged_and_never_stored() {
    let mut bench = Bench::new(|_| {});
    let stranger = bench.device(9);
    assert_eq!(failure(bench.publish(stranger, &record(1, 1, 100))), FailureCode::NotReserved);
    let client = bench.reserved(1);
    let outsider = bench.reserved(3);
    assert_eq!(failure(bench.publish(outsider, &record(1, 1, 100))), FailureCode::RecordRefused);

    let mut forged = record(1, 1, 100).to_wire();
    forged.device_homes[0].signature[5] ^= 1;
    let publish = Body::Publish(Publish { record: Some(forged) });
    assert_eq!(failure(bench.ask(client, publish)), FailureCode::RecordRefused);

    let empty = Body::Publish(Publish { record: None });
    assert_eq!(failure(bench.ask(client, empty)), FailureCode::Malformed);

    assert_eq!(bench.publish(client, &record(2, 1, 100)), None);
    assert_eq!(failure(bench.publish(client, &record(2, 1, 99))), FailureCode::RecordOlder);
    assert_eq!(failure(bench.publish(client, &record(1, 1, 100))), FailureCode::RecordOlder);

    let said = bench.take();
    assert_eq!(said.iter().filter(|command| matches!(command, Command::DhtPut { .. })).count(), 1);
    assert_eq!(bench.service.figures().records_refused, 5);

    bench.now = bench.now.plus_ms(3 * 3_600_000);
    let late = bench.reserved(2);
    assert_eq!(failure(bench.publish(late, &record(3, 2, 1))), FailureCode::RecordRefused);
}

#[test]
fn a_wrong_clock_is_named() {
    let mut bench = Bench::new(|_| {});
    let client = bench.open(1, device_secret(1).public().0);
    let wrong = bench.now.plus_ms(0);
    let wrong = Now { unix_ms: wrong.unix_ms - 4 * 3_600_000, ..wrong };
    bench.service.handle_frame(client, hello(1, 1, wrong), bench.now);
    bench.ask(client, Body::Reserve(Reserve::default()));
    let expired = {
        let account = account_secret();
        let entry = DeviceEntry { device: device_secret(1).public(), serial: 1 };
        ReachRecord::new(DeviceSet::issue(&account, 1, &[entry], UNIX_MS / 1_000 - 7_200).unwrap())
    };
    assert_eq!(failure(bench.publish(client, &expired)), FailureCode::ClockSkew);
}

#[test]
fn a_look_up_answers_from_its_copy_at_once_and_from_the_directory_after() {
    let mut bench = Bench::new(|_| {});
    let client = bench.reserved(1);
    bench.publish(client, &record(1, 1, 100));
    let (request, _) = bench.put();
    bench.service.handle_stored(request, 3, bench.now);
    bench.take();

    let asker = bench.device(7);
    let Some(Body::LookedUp(first)) = bench.ask(asker, look_up()) else { panic!("no copy") };
    assert_eq!((first.record, first.done), (Some(record(1, 1, 100).to_wire()), false));
    let request = bench.get().expect("a get");
    let newer = record(1, 2, 300).encode();
    bench.service.handle_found(request, Some(&newer), false, bench.now);
    bench.service.handle_found(request, None, true, bench.now);
    let sent = bench.sent(asker);
    let [Body::LookedUp(second), Body::LookedUp(last)] = &sent[..] else { panic!("{sent:?}") };
    assert!(!second.done && last.done);
    assert_eq!(last.record.as_ref().unwrap().device_homes.len(), 2);
}

#[test]
fn a_forged_value_of_the_directory_is_not_handed_on() {
    let mut bench = Bench::new(|_| {});
    let asker = bench.device(7);
    assert_eq!(bench.ask(asker, look_up()), None);
    let request = bench.get().expect("a get");
    let mut forged = record(1, 1, 100).encode();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    bench.service.handle_found(request, Some(&forged), false, bench.now);
    bench.service.handle_found(request, Some(&[0xff; 9_000]), true, bench.now);
    let said = bench.take();
    assert_eq!(said.iter().filter(|command| matches!(command, Command::RecordRefused { .. })).count(), 2);
    let answers: Vec<_> = said
        .iter()
        .filter_map(|command| match command {
            Command::Send { frame: HomeFrame { body: Some(Body::LookedUp(answer)), .. }, .. } => Some(answer),
            _ => None,
        })
        .collect();
    assert_eq!(answers.len(), 1);
    assert!(answers[0].record.is_none() && answers[0].done);
}

#[test]
fn look_ups_of_one_account_share_a_search_and_always_end() {
    let mut bench = Bench::new(|_| {});
    let (one, two) = (bench.device(1), bench.device(2));
    bench.ask(one, look_up());
    assert!(bench.get().is_some());
    bench.ask(two, look_up());
    assert!(bench.get().is_none());
    bench.wait(8_000);
    let said = bench.take();
    for client in [one, two] {
        assert!(said.iter().any(|command| matches!(command,
            Command::Send { client: to, frame: HomeFrame { body: Some(Body::LookedUp(answer)), .. } }
                if *to == client && answer.done)));
    }
}

// ---- grants -------------------------------------------------------------------------------------------------------

fn grant(tag: u8) -> Body {
    Body::GrantRequest(GrantRequest { call_tag: vec![tag; 16] })
}

#[test]
fn a_grant_is_for_one_device_one_tag_and_this_relay() {
    let mut bench = Bench::new(|_| {});
    let client = bench.device(1);
    let Some(Body::Grant(grant)) = bench.ask(client, grant(5)) else { panic!("no grant") };
    assert!(RelaySecret::new([9; 32]).verifies(&grant.username, &grant.password));
    let terms = GrantTerms::parse(&grant.username).unwrap();
    assert_eq!(terms.device, device_secret(1).public());
    assert_eq!(terms.relay, own_secret().public());
    assert_eq!(terms.tag.0, [5; 16]);
    assert_eq!(terms.not_after_s, UNIX_MS / 1_000 + 600);
    assert_eq!(grant.relay.len(), 1);
}

#[test]
fn a_call_has_two_ends() {
    let mut bench = Bench::new(|_| {});
    let clients: Vec<ClientRef> = (1..=3).map(|index| bench.device(index)).collect();
    for client in &clients[..2] {
        assert!(matches!(bench.ask(*client, grant(5)), Some(Body::Grant(_))));
    }
    assert_eq!(failure(bench.ask(clients[2], grant(5))), FailureCode::QuotaExceeded);
    assert!(matches!(bench.ask(clients[0], grant(5)), Some(Body::Grant(_))));
    assert!(matches!(bench.ask(clients[2], grant(6)), Some(Body::Grant(_))));
    let short = Body::GrantRequest(GrantRequest { call_tag: vec![1; 15] });
    assert_eq!(failure(bench.ask(clients[2], short)), FailureCode::Malformed);
}

#[test]
fn grants_are_counted_by_device_and_by_subnet() {
    let mut bench = Bench::new(|_| {});
    let client = bench.device(1);
    let granted =
        (0..30).filter(|tag| matches!(bench.ask(client, grant(*tag)), Some(Body::Grant(_)))).count();
    assert_eq!(granted, 12);
    let mut all = granted;
    for index in 2..12 {
        let client = bench.device(index);
        let tags = (0..12).map(|tag| tag + u8::try_from(index).unwrap() * 12 + 30);
        let granted: Vec<u8> =
            tags.filter(|tag| matches!(bench.ask(client, grant(*tag)), Some(Body::Grant(_)))).collect();
        all += granted.len();
    }
    assert_eq!(all, 60);
}

#[test]
fn without_the_relay_role_there_are_no_grants() {
    let mut bench = Bench::new(|config| config.relay_secret = None);
    let client = bench.device(1);
    assert_eq!(failure(bench.ask(client, grant(1))), FailureCode::NoRelay);
}

// ---- supernodes ---------------------------------------------------------------------------------------------------

#[test]
fn thirty_supernodes_that_know_one_all_find_each_other() {
    let mut world = World::new(3, 0, 30, 30);
    let all_know =
        |world: &World| world.services.iter().all(|node| node.service.figures().supernodes_known == 29);
    let took_ms = world.run_until(60_000, all_know).expect("all know all");
    assert!(took_ms <= 30_000, "it took {took_ms} ms");
}

#[test]
fn lists_are_bounded_sorted_by_nearness_and_counted() {
    let mut world = World::new(3, 0, 30, 30);
    world.run_for(30_000);
    let now = world.now;
    let service = &mut world.services[0].service;
    let client = ClientRef(1 << 40);
    service.handle_opened(client, [1; 32], None, false, now);
    service.handle_frame(client, hello(1, 1, now), now);
    while service.poll_command().is_some() {}
    let point = [0xab; 32];
    let mut lists = Vec::new();
    for id in 1..=8 {
        let near = point.to_vec();
        let request = SupernodesRequest { roles: 1, near, limit: 1_000, ..SupernodesRequest::default() };
        service.handle_frame(client, HomeFrame { id, body: Some(Body::SupernodesRequest(request)) }, now);
        while let Some(command) = service.poll_command() {
            if let Command::Send { frame: HomeFrame { body: Some(Body::Supernodes(list)), .. }, .. } = command
            {
                lists.push(list.descriptors);
            }
        }
    }
    assert_eq!(lists.len(), 6, "the seventh and eighth are refused");
    assert_eq!(lists[0].len(), 16);
    let distances: Vec<[u8; 32]> = lists[0]
        .iter()
        .map(|signed| SupernodeDescriptor::verify(signed, now.unix_ms).unwrap().service())
        .map(|service| tandem_proto::draw::distance(&tandem_proto::draw::position(service), &point))
        .collect();
    assert!(distances.is_sorted());
}

#[test]
fn supernodes_asked_for_by_name_are_those_known_and_no_others() {
    let mut world = World::new(3, 0, 30, 30);
    world.run_for(30_000);
    let now = world.now;
    let known: Vec<Vec<u8>> = world.services.iter().map(|node| node.key().0.to_vec()).collect();
    let service = &mut world.services[0].service;
    let client = ClientRef(1 << 40);
    service.handle_opened(client, [1; 32], None, false, now);
    service.handle_frame(client, hello(1, 1, now), now);
    while service.poll_command().is_some() {}
    let mut ask = |named: Vec<Vec<u8>>| {
        let request = SupernodesRequest { roles: 1, limit: 16, named, ..SupernodesRequest::default() };
        service.handle_frame(client, HomeFrame { id: 1, body: Some(Body::SupernodesRequest(request)) }, now);
        let answer = service.poll_command();
        while service.poll_command().is_some() {}
        let Some(Command::Send { frame: HomeFrame { body: Some(body), .. }, .. }) = answer else {
            panic!("no answer")
        };
        body
    };
    let wanted = vec![known[0].clone(), known[7].clone(), vec![0xee; 32], vec![1; 3]];
    let Body::Supernodes(list) = ask(wanted) else { panic!("no list") };
    let services: Vec<Vec<u8>> = list
        .descriptors
        .iter()
        .map(|signed| SupernodeDescriptor::verify(signed, now.unix_ms).unwrap().service().0.to_vec())
        .collect();
    assert_eq!(services, [known[0].clone(), known[7].clone()]);
    assert!(matches!(ask(vec![vec![7; 32]; 17]), Body::Failure(_)), "17 are too many");
}

#[test]
fn a_descriptor_of_another_key_ends_the_stream() {
    let mut bench = Bench::new(|_| {});
    let thief = bench.open(1, [1; 32]);
    let stolen = descriptor(&ServiceSecret::from_seed(&[8; 32]), 1).signed().clone();
    let hello =
        HomeHello { version_min: 1, version_max: 1, descriptor: Some(stolen), ..HomeHello::default() };
    let hello = HomeHello { time_s: UNIX_MS / 1_000, ..hello };
    bench.service.handle_frame(thief, HomeFrame { id: 0, body: Some(Body::Hello(hello)) }, bench.now);
    assert!(bench.closed(thief));
    assert_eq!(bench.service.figures().supernodes_known, 0);
}

#[test]
fn leaves_find_each_other_through_their_homes() {
    let mut world = World::new(11, 2, 8, 8);
    world.run_until(10_000, |world| world.all_have(3)).expect("homes");
    world.run_for(2_000);
    world.look_up(0, 1);
    world.run_for(1_000);
    assert_eq!(world.leaves[0].looked_up.last(), Some(&(true, true)));
}
