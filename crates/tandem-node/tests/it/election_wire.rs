//! The messages of the election over real swarms: scouts, supernodes, reserves in standby, and those who send garbage.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use tandem_core::election::{Carrier, Family, Way};
use tandem_core::service::{CheckOutcome, ClientRef, Command, Config, Service};
use tandem_core::time::Now;
use tandem_node::installation::unix_ms;
use tandem_node::overlay::{
    ClientId, DeviceCommand, DeviceEvent, ServiceCommand, ServiceEvent, SupernodeAddress,
};
use tandem_node::{Door, Scout, ScoutNews};
use tandem_proto::grant::RelaySecret;
use tandem_proto::identity::ServiceSecret;
use tandem_proto::ids::ServiceKey;
use tandem_proto::names::{FailureCode, VERSIONS};
use tandem_proto::signed::{Invitation, NewDescriptor, Roles, SupernodeDescriptor};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{self, HomeFrame, HomeHello};
use tokio::sync::mpsc;

use crate::overlay_world::{self, Device, both, free_port, lab, loopback, network, next};

/// A wrong answer comes late rather than never; a right one needs far less.
const PATIENCE: Duration = Duration::from_secs(25);
const BOTH: Roles = Roles(3);
const UDP: Way = Way { family: Family::V4, carrier: Carrier::Udp, mapped: false };

type Order = Box<dyn FnOnce(&mut Service, Now) + Send>;

/// A service swarm and its policy, in a task. What policy asks of the election is the test's to answer.
struct Office {
    secret: ServiceSecret,
    address: SupernodeAddress,
    orders: mpsc::Sender<Order>,
    news: mpsc::Receiver<Command>,
}

impl Office {
    /// On 127.`n`.0.1.
    fn start(n: u8, roles: Roles) -> Self {
        Self::of(n, overlay_world::Service::start(n), roles)
    }

    fn of(n: u8, overlay: overlay_world::Service, roles: Roles) -> Self {
        let secret = || ServiceSecret::from_seed(&[n; 32]);
        let mut config = Config::new(overlay.key, "tandem/test".to_owned());
        config.roles = roles;
        config.relay_secret = Some(RelaySecret::new([n; 32]));
        let (orders, received) = mpsc::channel(16);
        let (news, told) = mpsc::channel(256);
        let address = overlay.address();
        let driver = Driver { secret: secret(), overlay, news, begun: Instant::now() };
        tokio::spawn(driver.run(config, received));
        Self { secret: secret(), address, orders, news: told }
    }

    async fn order(&self, order: impl FnOnce(&mut Service, Now) + Send + 'static) {
        self.orders.send(Box::new(order)).await.unwrap();
    }

    /// Has something looked at.
    async fn figure<T: Send + 'static>(&self, look: impl FnOnce(&mut Service) -> T + Send + 'static) -> T {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.order(move |service, _| drop(tell.send(look(service)))).await;
        told.await.unwrap()
    }

    async fn told(&mut self) -> Command {
        tokio::time::timeout(PATIENCE, self.news.recv()).await.expect("policy asks something").unwrap()
    }
}

struct Driver {
    secret: ServiceSecret,
    overlay: overlay_world::Service,
    news: mpsc::Sender<Command>,
    begun: Instant,
}

impl Driver {
    async fn run(mut self, config: Config, mut orders: mpsc::Receiver<Order>) {
        let mut service = Service::new(config, 1, now(self.begun));
        loop {
            self.execute(&mut service).await;
            let wait_ms =
                service.poll_timeout().map_or(1_000, |at| at.saturating_sub(now(self.begun).mono_ms));
            tokio::select! {
                event = self.overlay.events.recv() => match event {
                    Some(event) => take(&mut service, event, now(self.begun)),
                    None => return,
                },
                order = orders.recv() => match order {
                    Some(order) => order(&mut service, now(self.begun)),
                    None => return,
                },
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {
                    service.handle_timeout(now(self.begun));
                }
            }
        }
    }

    async fn execute(&self, service: &mut Service) {
        while let Some(command) = service.poll_command() {
            let command = match command {
                Command::Send { client, frame } => {
                    ServiceCommand::SendHome { client: ClientId(client.0), frame }
                }
                Command::Close(client) => ServiceCommand::CloseClient(ClientId(client.0)),
                Command::Connect(at) => {
                    ServiceCommand::Connect(SupernodeAddress { service: at.service, addresses: at.addresses })
                }
                Command::SignDescriptor { load_percent } => {
                    let descriptor = self.describe(service.roles(), load_percent);
                    service.handle_own_descriptor(descriptor, now(self.begun));
                    continue;
                }
                Command::Check(_)
                | Command::Announced { .. }
                | Command::Invited { .. }
                | Command::InvitationAnswered { .. }
                | Command::Drained => {
                    // A test that does not listen any more is over.
                    self.news.send(command).await.ok();
                    continue;
                }
                _ => continue,
            };
            self.overlay.commands.send(command).await.unwrap();
        }
    }

    fn describe(&self, roles: Roles, load_percent: u32) -> SupernodeDescriptor {
        let new = NewDescriptor {
            sequence: unix_ms(),
            not_after_s: unix_ms() / 1000 + 10_000,
            roles,
            addresses: self.overlay.address().addresses,
            load_percent,
            ..NewDescriptor::default()
        };
        SupernodeDescriptor::issue(&self.secret, new).unwrap()
    }
}

fn now(begun: Instant) -> Now {
    Now { mono_ms: u64::try_from(begun.elapsed().as_millis()).unwrap(), unix_ms: unix_ms() }
}

fn take(service: &mut Service, event: ServiceEvent, now: Now) {
    match event {
        ServiceEvent::ClientOpened { client, peer, remote, outbound } => {
            service.handle_opened(ClientRef(client.0), peer, remote, outbound, now);
        }
        ServiceEvent::ClientFrame { client, frame } => {
            service.handle_frame(ClientRef(client.0), frame, now);
        }
        ServiceEvent::ClientClosed { client, .. } => service.handle_closed(ClientRef(client.0), now),
        ServiceEvent::ConnectFailed { service: other, .. } => service.handle_connect_failed(other, now),
        _ => {}
    }
}

/// A scout and its swarm.
struct Asker {
    scout: Scout,
    events: mpsc::Receiver<DeviceEvent>,
    begun: Instant,
}

impl Asker {
    /// Asks for the node with that key; its connections come from there.
    fn start(service: ServiceKey, bind: Option<IpAddr>) -> Self {
        let (scout, events) = Scout::start(service, network(), lab(), bind).unwrap();
        Self { scout, events, begun: Instant::now() }
    }

    fn now(&self) -> Now {
        now(self.begun)
    }

    async fn news(&mut self) -> ScoutNews {
        let search = async {
            loop {
                if let Some(news) = self.scout.poll_news() {
                    return news;
                }
                let now_ms = self.now().mono_ms;
                let wait_ms = self.scout.poll_timeout().map_or(1_000, |at| at.saturating_sub(now_ms));
                tokio::select! {
                    event = self.events.recv() => {
                        let now = self.now();
                        self.scout.handle_overlay(event.expect("its swarm lives"), now);
                    }
                    () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {
                        let now = self.now();
                        self.scout.handle_timeout(now);
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("each question is answered")
    }

    async fn load(&mut self, of: &SupernodeAddress) -> Option<u32> {
        let now = self.now();
        self.scout.ask_load(of, now);
        match self.news().await {
            ScoutNews::Load { load_percent, .. } => load_percent,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supernode_is_asked_to_reach_a_candidate_where_it_asks_from() {
    let mut office = Office::start(91, BOTH);
    let candidate = ServiceSecret::from_seed(&[92; 32]).public();
    let mut asker = Asker::start(candidate, Some(loopback(92)));
    for reached in [true, false] {
        let now = asker.now();
        asker.scout.check(&office.address, Door { way: UDP, port: 40_000, relay_port: Some(40_001) }, now);
        let (check, news) = tokio::join!(
            async {
                let Command::Check(check) = office.told().await else { panic!("not a check") };
                let outcome = if reached {
                    CheckOutcome::Reached
                } else {
                    CheckOutcome::NotReached("no answer".into())
                };
                office.order(move |service, now| service.handle_checked(check.id, outcome, now)).await;
                check
            },
            asker.news(),
        );
        assert_eq!((check.at.ip(), check.at.port()), (loopback(92), 40_000));
        assert_eq!((check.service, check.relay_port), (candidate, Some(40_001)));
        let detail = if reached { String::new() } else { "no answer".to_owned() };
        assert_eq!(news, ScoutNews::Checked { by: office.address.service, way: UDP, reached, detail });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_is_of_the_family_of_its_connection() {
    let v6 = free_port(Ipv6Addr::LOCALHOST.into());
    let overlay = overlay_world::Service::start_with(93, |config| config.listen.full.push(v6));
    let mut addresses = overlay.address().addresses;
    addresses.extend(both(v6));
    let mut office = Office::of(93, overlay, BOTH);
    let at = SupernodeAddress { service: office.address.service, addresses };
    let mut asker = Asker::start(ServiceKey([9; 32]), None);
    // One after the other, over one supernode: the connection of the first must not serve for the second.
    for family in [Family::V4, Family::V6, Family::V4] {
        let way = Way { family, carrier: Carrier::Tcp, mapped: false };
        let now = asker.now();
        asker.scout.check(&at, Door { way, port: 40_000, relay_port: Some(40_001) }, now);
        let (check, news) = tokio::join!(
            async {
                let Command::Check(check) = office.told().await else { panic!("not a check") };
                let reached = CheckOutcome::Reached;
                office.order(move |service, now| service.handle_checked(check.id, reached, now)).await;
                check
            },
            asker.news(),
        );
        assert_eq!(check.at.is_ipv6(), family == Family::V6);
        assert_eq!((check.carrier, check.relay_port), (Carrier::Tcp, None));
        assert!(matches!(news, ScoutNews::Checked { reached: true, .. }), "{news:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reserve_announces_itself_is_invited_and_answers() {
    let mut office = Office::start(94, BOTH);
    let mut reserve = Office::start(95, Roles::default());
    let mut asker = Asker::start(reserve.address.service, Some(loopback(95)));
    let now = asker.now();
    asker.scout.notify(&office.address, &reserve.address.addresses, now);
    let (network, news) = tokio::join!(
        async {
            let Command::Announced { id, network, .. } = office.told().await else { panic!("no notice") };
            office.order(move |service, now| service.handle_noted(id, true, now)).await;
            network
        },
        asker.news(),
    );
    assert_eq!(network, 127 << 8 | 95);
    assert_eq!(news, ScoutNews::Noted { by: office.address.service, kept: true });

    let until_s = unix_ms() / 1000 + 1_800;
    let invitation = Invitation::issue(&office.secret, reserve.address.service, 80, until_s).unwrap();
    let inviter = office.address.service;
    office.order(move |service, now| service.invite(invitation, now)).await;
    let (invited, answered) = tokio::join!(
        async {
            let Command::Invited { invitation, network } = reserve.told().await else {
                panic!("not invited")
            };
            reserve.order(move |service, now| service.answer_invitation(inviter, true, now)).await;
            (invitation.inviter(), invitation.load_percent(), network)
        },
        office.told(),
    );
    assert_eq!(invited, (inviter, 80, Some(127 << 8 | 94)));
    let reserve = reserve.address.service;
    assert_eq!(answered, Command::InvitationAnswered { reserve, accepted: true });
}

/// A stream of a device of its own, hellos exchanged.
async fn device_at(n: u8, at: &SupernodeAddress) -> (Device, HomeHello) {
    let mut device = Device::start(n);
    let service = at.service;
    device.send(DeviceCommand::OpenHome(at.clone())).await;
    next(&mut device.events, |event| matches!(event, DeviceEvent::HomeOpened { .. }).then_some(())).await;
    let hello = HomeHello {
        version_min: VERSIONS.min,
        version_max: VERSIONS.max,
        time_s: unix_ms() / 1000,
        ..HomeHello::default()
    };
    let frame = HomeFrame { id: 0, body: Some(Body::Hello(hello)) };
    device.send(DeviceCommand::SendHome { service, frame }).await;
    let hello = next(&mut device.events, |event| match event {
        DeviceEvent::HomeFrame { frame: HomeFrame { id: 0, body: Some(Body::Hello(hello)) }, .. } => {
            Some(hello)
        }
        _ => None,
    })
    .await;
    (device, hello)
}

/// Asks; the answer, or `None` when the stream was closed.
async fn ask(device: &mut Device, service: ServiceKey, id: u64, body: Option<Body>) -> Option<Body> {
    device.send(DeviceCommand::SendHome { service, frame: HomeFrame { id, body } }).await;
    next(&mut device.events, |event| match event {
        DeviceEvent::HomeFrame { frame, .. } if frame.id == id => Some(frame.body),
        DeviceEvent::HomeClosed { .. } => Some(None),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_standby_serves_nobody_who_comes() {
    let office = Office::start(96, Roles::default());
    let service = office.address.service;
    let (mut device, hello) = device_at(97, &office.address).await;
    assert_eq!((hello.descriptor, hello.features), (None, 0));
    let requests = [
        Body::Reserve(wire::Reserve::default()),
        Body::LookUp(wire::LookUp { account: vec![1; 32] }),
        Body::GrantRequest(wire::GrantRequest { call_tag: vec![1; 16] }),
        Body::SupernodesRequest(wire::SupernodesRequest::default()),
        Body::CheckRequest(check_request()),
        Body::LoadRequest(wire::LoadRequest {}),
    ];
    for (id, request) in (1..).zip(requests) {
        match ask(&mut device, service, id, Some(request.clone())).await {
            Some(Body::Failure(failure)) => {
                assert_eq!(FailureCode::from(failure.code), FailureCode::NotServing, "{request:?}");
            }
            other => panic!("{request:?}: {other:?}"),
        }
    }
    let beat = ask(&mut device, service, 20, Some(Body::Heartbeat(wire::Heartbeat::default()))).await;
    assert!(matches!(beat, Some(Body::Heartbeat(_))));
}

fn check_request() -> wire::CheckRequest {
    wire::CheckRequest { service: vec![9; 32], carrier: 1, port: 40_000, relay_port: 0 }
}

/// Malformed ones of every message of the election, answers where questions belong, and what no version knows.
fn garbage() -> Vec<Option<Body>> {
    let signed = |length: usize| wire::Signed { payload: vec![0xff; length], signature: vec![0; length] };
    let invitation = |signed| Some(Body::Invitation(wire::Invitation { invitation: signed }));
    vec![
        Some(Body::CheckRequest(wire::CheckRequest::default())),
        Some(Body::CheckRequest(wire::CheckRequest { service: vec![9; 15_000], ..check_request() })),
        Some(Body::CheckRequest(wire::CheckRequest { port: 25, ..check_request() })),
        Some(Body::CheckRequest(wire::CheckRequest { port: u32::MAX, ..check_request() })),
        Some(Body::CheckRequest(wire::CheckRequest { carrier: 77, ..check_request() })),
        Some(Body::CheckRequest(wire::CheckRequest { relay_port: u32::MAX, ..check_request() })),
        Some(Body::ReserveNotice(wire::ReserveNotice::default())),
        Some(Body::ReserveNotice(wire::ReserveNotice {
            service: vec![9; 32],
            addresses: vec![vec![4]; 4_000],
        })),
        Some(Body::ReserveNotice(wire::ReserveNotice {
            service: vec![9; 32],
            addresses: both((loopback(7), 4_000).into()),
        })),
        invitation(None),
        invitation(Some(signed(0))),
        invitation(Some(signed(64))),
        invitation(Some(signed(7_000))),
        Some(Body::Checked(wire::Checked { reached: true, detail: "x".repeat(15_000) })),
        Some(Body::ReserveNoted(wire::ReserveNoted { kept: true })),
        Some(Body::Load(wire::Load { load_percent: u32::MAX })),
        Some(Body::InvitationAnswer(wire::InvitationAnswer { accepted: true })),
        None,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_garbage_moves_nothing_and_stops_nobody() {
    for roles in [BOTH, Roles::default()] {
        let n = if roles == BOTH { 98 } else { 101 };
        let mut office = Office::start(n, roles);
        let service = office.address.service;
        let mut refused = 0;
        for hostile in [n + 1, n + 2] {
            let (mut device, _) = device_at(hostile, &office.address).await;
            for (id, body) in (1..).zip(garbage()) {
                match ask(&mut device, service, id, body.clone()).await {
                    Some(Body::Failure(_) | Body::Busy(_)) => refused += 1,
                    other => panic!("{body:?}: {other:?}"),
                }
            }
            device.send(DeviceCommand::Shutdown).await;
        }
        assert_eq!(refused, 2 * garbage().len());
        assert!(office.news.try_recv().is_err(), "policy heard of something");
        assert_eq!(office.figure(|service| service.roles()).await, roles);
        let mut asker = Asker::start(ServiceKey([9; 32]), Some(loopback(n)));
        let load = asker.load(&office.address).await;
        assert_eq!(load, (roles == BOTH).then_some(0), "others are served as before");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supernode_that_answers_garbage_is_answered_for() {
    let mut overlay = overlay_world::Service::start(104);
    let at = overlay.address();
    let liar = tokio::spawn(async move {
        let mut answers = garbage().into_iter().cycle();
        while let Some(event) = overlay.events.recv().await {
            let (client, id) = match event {
                ServiceEvent::ClientOpened { client, .. } => (client, 0),
                ServiceEvent::ClientFrame { client, frame } => (client, frame.id),
                _ => continue,
            };
            let hello = HomeHello { version_min: 0, version_max: 9, ..HomeHello::default() };
            let body = if id == 0 { Some(Body::Hello(hello)) } else { answers.next().flatten() };
            let frame = HomeFrame { id, body };
            overlay.commands.send(ServiceCommand::SendHome { client, frame }).await.unwrap();
        }
    });
    let mut asker = Asker::start(ServiceKey([9; 32]), Some(loopback(105)));
    // One answer of each kind.
    for _ in 0..garbage().len().div_ceil(3) {
        let now = asker.now();
        asker.scout.ask_load(&at, now);
        asker.scout.notify(&at, &at.addresses, now);
        asker.scout.check(&at, Door { way: UDP, port: 40_000, relay_port: None }, now);
        for _ in 0..3 {
            match asker.news().await {
                ScoutNews::Load { load_percent: Some(load), .. } => panic!("a load of {load} %"),
                ScoutNews::Checked { detail, .. } => assert!(detail.len() <= 200),
                ScoutNews::Load { .. }
                | ScoutNews::Noted { .. }
                | ScoutNews::NotChecked { .. }
                | ScoutNews::HeldBack { .. } => {}
            }
        }
    }
    assert!(!liar.is_finished());
}
