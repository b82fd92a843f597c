//! A candidate's scout (spec/election.md, "Scouts"): a swarm of its own, under a key thrown away at its end, that asks
//! supernodes whether they can reach this node, tells them that it is a reserve, and asks for their load.
//!
//! These questions name the service key. Asked under the device's key they would tell everybody asked which account's
//! machine serves under which service key. So nothing here knows the account, the device, or their homes.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use tandem_core::election::{Carrier, Way};
use tandem_core::time::Now;
use tandem_proto::identity::DeviceSecret;
use tandem_proto::ids::ServiceKey;
use tandem_proto::names::{CheckCarrier, NetworkId};
use tandem_proto::signed::ADDRESSES_MAX;
use tandem_proto::wire::{CheckRequest, ReserveNotice};
use tokio::sync::mpsc;

use super::outbox::Outbox;
use super::phone::links::{LinkNews, Links};
use crate::overlay::{
    DeviceCommand, DeviceConfig, DeviceEvent, PublicAddresses, StartError, SupernodeAddress, spawn_device,
};

/// Questions without an answer yet; further ones fail.
const ERRANDS_MAX: usize = 32;
/// The load of one that says it is too busy to tell.
const FULL_PERCENT: u32 = 100;
/// A check waits this long for the connection of the other address family to have nothing to carry.
const HELD_MS: u64 = 8_000;

/// What came of a question. Each is answered once, within 20 s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScoutNews {
    /// A supernode tried to reach this node. `detail`: what it says of that, for a log.
    Checked { by: ServiceKey, way: Way, reached: bool, detail: String },
    /// It did not try. `retry_after_ms`: as it asked, 0 when it said nothing or was not reached.
    NotChecked { by: ServiceKey, way: Way, retry_after_ms: u32, reason: String },
    /// It was told that this node is a reserve. `kept`: whether it will remember; false, too, when it was not reached.
    Noted { by: ServiceKey, kept: bool },
    /// Its load, 0 to 100; `None`: it did not answer. One that is too busy to say is full.
    Load { by: ServiceKey, load_percent: Option<u32> },
    /// It was not dialled: as many others were in the last minute as may be. It may be asked again in `wait_ms`. `way`:
    /// of a check.
    HeldBack { of: ServiceKey, way: Option<Way>, wait_ms: u64 },
}

#[derive(Debug, Clone, Copy)]
enum Errand {
    Check(ServiceKey, Way),
    Notice(ServiceKey),
    Load(ServiceKey),
}

/// Where this node is to be reached in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    pub way: Way,
    /// Outside: of a mapped port, the router's.
    pub port: u16,
    /// UDP: where its relay answers STUN; `None`: it does not relay.
    pub relay_port: Option<u16>,
}

/// A check that waits until its supernode can be asked over the family that is to be tried: there is one connection to
/// a supernode at a time.
#[derive(Debug)]
struct Held {
    errand: u64,
    at: SupernodeAddress,
    door: Door,
    until_ms: u64,
}

/// The machine that asks. One a candidate, from consent to its end.
#[derive(Debug)]
pub struct Scout {
    service: ServiceKey,
    links: Links,
    commands: Outbox<DeviceCommand>,
    errands: BTreeMap<u64, Errand>,
    /// Each has its number in `errands`, so that they are no more than those.
    held: VecDeque<Held>,
    last_errand: u64,
    news: VecDeque<ScoutNews>,
}

impl Scout {
    /// Starts its swarm under a new key. `service`: the key it asks others to expect; `bind`: the address that its
    /// connections come from, `None` where the system may choose.
    ///
    /// # Errors
    /// The swarm does not start.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        service: ServiceKey,
        network: NetworkId,
        public: PublicAddresses,
        bind: Option<IpAddr>,
    ) -> Result<(Self, mpsc::Receiver<DeviceEvent>), StartError> {
        let secret = DeviceSecret::from_seed(&rand::random());
        let mut config = DeviceConfig::new(secret, network, public);
        config.bind = bind;
        let (commands, events) = spawn_device(config)?;
        Ok((Self::new(service, commands), events))
    }

    fn new(service: ServiceKey, commands: mpsc::Sender<DeviceCommand>) -> Self {
        Self {
            service,
            links: Links::impatient(),
            commands: Outbox::new(commands),
            errands: BTreeMap::new(),
            held: VecDeque::new(),
            last_errand: 0,
            news: VecDeque::new(),
        }
    }

    // ---- what the node wants ------------------------------------------------------------------------------------

    /// Asks that supernode to try and reach this node. Answer: `Checked` or `NotChecked`.
    pub fn check(&mut self, of: &SupernodeAddress, door: Door, now: Now) {
        let Some(errand) = self.errand(Errand::Check(of.service, door.way)) else { return };
        self.held.push_back(Held { errand, at: of.clone(), door, until_ms: now.mono_ms + HELD_MS });
        self.drive(now);
    }

    /// Tells that supernode that this node is a reserve, at these addresses of its service swarm (binary multiaddrs
    /// without `/p2p`). Answer: `Noted`.
    pub fn notify(&mut self, to: &SupernodeAddress, addresses: &[Vec<u8>], now: Now) {
        let Some(errand) = self.errand(Errand::Notice(to.service)) else { return };
        let addresses = addresses.iter().take(ADDRESSES_MAX).cloned().collect();
        let notice = ReserveNotice { service: self.service.0.to_vec(), addresses };
        self.links.notify_reserve(errand, to, notice, now);
        self.drive(now);
    }

    /// Asks that supernode for its load. Answer: `Load`.
    pub fn ask_load(&mut self, of: &SupernodeAddress, now: Now) {
        let Some(errand) = self.errand(Errand::Load(of.service)) else { return };
        self.links.ask_load(errand, of, now);
        self.drive(now);
    }

    /// The machine's network changed: what is under way fails.
    pub fn handle_network_changed(&mut self, now: Now) {
        for held in std::mem::take(&mut self.held) {
            self.give_up(held.errand, "the network of this machine changed");
        }
        self.links.handle_network_changed();
        self.drive(now);
        self.send(DeviceCommand::NetworkChanged, now);
    }

    /// Ends its swarm. What is under way gets no answer any more.
    pub fn shutdown(&mut self, now: Now) {
        self.send(DeviceCommand::Shutdown, now);
    }

    // ---- what happens -------------------------------------------------------------------------------------------

    /// Feeds what its swarm says.
    pub fn handle_overlay(&mut self, event: DeviceEvent, now: Now) {
        match event {
            DeviceEvent::HomeOpened { service, remote } => self.links.handle_opened(service, remote, now),
            DeviceEvent::HomeFrame { service, frame } => self.links.handle_frame(service, frame, now),
            DeviceEvent::HomeClosed { service, reason } => self.links.handle_closed(service, &reason),
            // It holds no reservations, so nobody can open a circuit to it.
            _ => {}
        }
        self.drive(now);
    }

    /// A moment named by [`Self::poll_timeout`] came. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.links.handle_timeout(now);
        self.commands.flush(now.mono_ms);
        self.drive(now);
    }

    /// When to call [`Self::handle_timeout`] (monotonic, in milliseconds).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let held = self.held.iter().map(|held| held.until_ms).min();
        [self.links.poll_timeout(), self.commands.poll_timeout(), held].into_iter().flatten().min()
    }

    /// The next thing that happened; drain it after every call.
    pub fn poll_news(&mut self) -> Option<ScoutNews> {
        self.news.pop_front()
    }

    /// Its swarm, to ask for its connections.
    #[must_use]
    pub fn overlay(&self) -> &mpsc::Sender<DeviceCommand> {
        self.commands.queue()
    }

    // ---- inside -------------------------------------------------------------------------------------------------

    /// A number for the errand, or its failure.
    fn errand(&mut self, errand: Errand) -> Option<u64> {
        if self.errands.len() >= ERRANDS_MAX {
            self.failed(errand, 0, "too many questions are waiting for answers".to_owned());
            return None;
        }
        self.last_errand += 1;
        self.errands.insert(self.last_errand, errand);
        Some(self.last_errand)
    }

    fn drive(&mut self, now: Now) {
        self.release(now);
        while let Some(news) = self.links.poll_news() {
            self.take(news);
        }
        while let Some(command) = self.links.poll_command() {
            self.send(command, now);
        }
    }

    /// Sends the checks that can go now, in their order, and gives up those that waited too long.
    fn release(&mut self, now: Now) {
        for held in std::mem::take(&mut self.held) {
            if self.links.may_check(&held.at, held.door.way.family) {
                self.send_check(&held, now);
            } else if now.mono_ms >= held.until_ms {
                self.give_up(held.errand, "the connection of the other address family was busy for too long");
            } else {
                self.held.push_back(held);
            }
        }
    }

    fn send_check(&mut self, held: &Held, now: Now) {
        let Held { errand, at, door, .. } = held;
        let carrier = match door.way.carrier {
            Carrier::Udp => CheckCarrier::Udp,
            Carrier::Tcp => CheckCarrier::Tcp,
        };
        let relay_port = door.relay_port.filter(|_| door.way.carrier == Carrier::Udp);
        let request = CheckRequest {
            service: self.service.0.to_vec(),
            carrier: carrier.number(),
            port: u32::from(door.port),
            relay_port: relay_port.map_or(0, u32::from),
        };
        self.links.check(*errand, at, door.way.family, request, now);
    }

    fn give_up(&mut self, errand: u64, reason: &str) {
        if let Some(errand) = self.errands.remove(&errand) {
            self.failed(errand, 0, reason.to_owned());
        }
    }

    fn take(&mut self, news: LinkNews) {
        match news {
            LinkNews::Checked { errand, reached, detail } => {
                if let Some(Errand::Check(by, way)) = self.errands.remove(&errand) {
                    self.news.push_back(ScoutNews::Checked { by, way, reached, detail });
                }
            }
            LinkNews::ReserveNoted { errand, kept } => {
                if let Some(Errand::Notice(by)) = self.errands.remove(&errand) {
                    self.news.push_back(ScoutNews::Noted { by, kept });
                }
            }
            LinkNews::Load { errand, load_percent } => {
                if let Some(Errand::Load(by)) = self.errands.remove(&errand) {
                    self.news.push_back(ScoutNews::Load { by, load_percent: Some(load_percent) });
                }
            }
            LinkNews::Waits { errand, wait_ms } => {
                if let Some(errand) = self.errands.remove(&errand) {
                    self.held_back(errand, wait_ms);
                }
            }
            LinkNews::ErrandRefused { errand, retry_after_ms } => {
                if let Some(errand) = self.errands.remove(&errand) {
                    self.failed(errand, retry_after_ms, "the supernode is busy".to_owned());
                }
            }
            LinkNews::ErrandFailed { errand, reason, .. } => {
                if let Some(errand) = self.errands.remove(&errand) {
                    self.failed(errand, 0, reason);
                }
            }
            // It has no homes, and listens to nobody who names supernodes or device sets.
            _ => {}
        }
    }

    fn failed(&mut self, errand: Errand, retry_after_ms: u32, reason: String) {
        self.news.push_back(match errand {
            Errand::Check(by, way) => ScoutNews::NotChecked { by, way, retry_after_ms, reason },
            Errand::Notice(by) => ScoutNews::Noted { by, kept: false },
            Errand::Load(by) => {
                ScoutNews::Load { by, load_percent: (retry_after_ms > 0).then_some(FULL_PERCENT) }
            }
        });
    }

    fn held_back(&mut self, errand: Errand, wait_ms: u64) {
        let (of, way) = match errand {
            Errand::Check(of, way) => (of, Some(way)),
            Errand::Load(of) => (of, None),
            Errand::Notice(by) => return self.news.push_back(ScoutNews::Noted { by, kept: false }),
        };
        self.news.push_back(ScoutNews::HeldBack { of, way, wait_ms });
    }

    fn send(&mut self, command: DeviceCommand, now: Now) {
        if !self.commands.send(command, now.mono_ms) {
            tracing::warn!("the scout's swarm does not take commands");
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem_core::dialing::{CALLS_A_MINUTE, Purpose};
    use tandem_core::election::Family;
    use tandem_proto::names::VERSIONS;
    use tandem_proto::wire::home_frame::Body;
    use tandem_proto::wire::{Busy, Checked, Failure, HomeFrame, HomeHello, Load, ReserveNoted};

    use super::*;

    const OWN: ServiceKey = ServiceKey([9; 32]);
    const OTHER: ServiceKey = ServiceKey([1; 32]);
    const UDP: Way = Way { family: Family::V4, carrier: Carrier::Udp, mapped: false };

    fn now(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: 1_800_000_000_000 + mono_ms }
    }

    fn door() -> Door {
        Door { way: UDP, port: 40_000, relay_port: Some(40_001) }
    }

    fn supernode() -> SupernodeAddress {
        let texts = ["/ip4/192.0.2.1/udp/4001/quic-v1", "/ip6/2001:db8::1/udp/4001/quic-v1"];
        let bytes = |text: &&str| {
            let address: tandem_proto::multiaddr::TransportAddress = text.parse().unwrap();
            address.to_bytes()
        };
        SupernodeAddress { service: OTHER, addresses: texts.iter().map(bytes).collect() }
    }

    struct Bench {
        scout: Scout,
        told: mpsc::Receiver<DeviceCommand>,
    }

    impl Bench {
        fn new() -> Self {
            let (commands, told) = mpsc::channel(256);
            Self { scout: Scout::new(OWN, commands), told }
        }

        /// The connection that was asked for comes, from that address, and hellos are exchanged.
        fn connected(&mut self, remote: &str) {
            let remote = Some(remote.parse().unwrap());
            self.scout.handle_overlay(DeviceEvent::HomeOpened { service: OTHER, remote }, now(10));
            let hello =
                HomeHello { version_min: VERSIONS.min, version_max: VERSIONS.max, ..HomeHello::default() };
            self.says(0, Body::Hello(hello));
        }

        fn says(&mut self, id: u64, body: Body) {
            let frame = HomeFrame { id, body: Some(body) };
            self.scout.handle_overlay(DeviceEvent::HomeFrame { service: OTHER, frame }, now(20));
        }

        fn commands(&mut self) -> Vec<DeviceCommand> {
            std::iter::from_fn(|| self.told.try_recv().ok()).collect()
        }

        /// Requests that went out.
        fn asked(&mut self) -> Vec<(u64, Body)> {
            let sent = self.commands().into_iter().filter_map(|command| match command {
                DeviceCommand::SendHome { frame: HomeFrame { id, body }, .. } if id > 0 => Some((id, body?)),
                _ => None,
            });
            sent.collect()
        }

        fn news(&mut self) -> Vec<ScoutNews> {
            std::iter::from_fn(|| self.scout.poll_news()).collect()
        }

        /// Lets time pass until nothing is waited for.
        fn wait(&mut self) -> u64 {
            let mut last_ms = 20;
            while let Some(due_ms) = self.scout.poll_timeout() {
                last_ms = due_ms;
                self.scout.handle_timeout(now(due_ms));
            }
            last_ms
        }
    }

    #[test]
    fn a_check_goes_over_a_connection_of_its_family_and_names_the_door() {
        let mut bench = Bench::new();
        bench.scout.check(&supernode(), door(), now(0));
        let opened: Vec<usize> = bench
            .commands()
            .into_iter()
            .filter_map(|command| match command {
                DeviceCommand::OpenErrand(at) => Some(at.addresses.len()),
                _ => None,
            })
            .collect();
        assert_eq!(opened, [1], "the IPv4 address alone");
        bench.connected("192.0.2.1");
        let asked = bench.asked();
        let [(id, Body::CheckRequest(request))] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((request.service.as_slice(), request.carrier), (OWN.0.as_slice(), 1));
        assert_eq!((request.port, request.relay_port), (40_000, 40_001));
        bench.says(*id, Body::Checked(Checked { reached: true, detail: "fine\n\u{1b}[1m".into() }));
        let detail = "fine[1m".to_owned();
        assert_eq!(bench.news(), [ScoutNews::Checked { by: OTHER, way: UDP, reached: true, detail }]);
    }

    #[test]
    fn a_check_is_not_asked_over_the_other_family() {
        let mut bench = Bench::new();
        bench.scout.check(&supernode(), door(), now(0));
        bench.commands();
        bench.connected("2001:db8::1");
        assert!(bench.asked().is_empty());
        assert!(matches!(bench.news().as_slice(), [ScoutNews::NotChecked { retry_after_ms: 0, .. }]));
        // The connection is of no use to it, and makes room.
        bench.scout.check(&supernode(), door(), now(30));
        let commands = bench.commands();
        let [DeviceCommand::CloseHome(OTHER), DeviceCommand::OpenErrand(_)] = commands.as_slice() else {
            panic!("{commands:?}")
        };
        let mut only_v6 = supernode();
        only_v6.addresses.remove(0);
        bench.news();
        bench.scout.check(&only_v6, Door { port: 40_002, ..door() }, now(40));
        assert!(matches!(bench.news().as_slice(), [ScoutNews::NotChecked { .. }]));
    }

    #[test]
    fn checks_of_both_families_at_once_are_asked_one_after_the_other() {
        const UDP6: Way = Way { family: Family::V6, ..UDP };
        let mut bench = Bench::new();
        bench.scout.check(&supernode(), door(), now(0));
        bench.scout.check(&supernode(), Door { way: UDP6, port: 40_002, ..door() }, now(0));
        bench.connected("192.0.2.1");
        let asked = bench.asked();
        let [(first, Body::CheckRequest(_))] = asked.as_slice() else { panic!("{asked:?}") };
        assert!(bench.news().is_empty(), "the other one waits");
        bench.says(*first, Body::Checked(Checked { reached: true, detail: String::new() }));
        assert!(matches!(bench.news().as_slice(), [ScoutNews::Checked { way: UDP, .. }]));
        bench.connected("2001:db8::1");
        let asked = bench.asked();
        let [(second, Body::CheckRequest(request))] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!(request.port, 40_002);
        bench.says(*second, Body::Checked(Checked { reached: true, detail: String::new() }));
        assert!(matches!(bench.news().as_slice(), [ScoutNews::Checked { way: UDP6, .. }]));
        assert!(bench.scout.errands.is_empty() && bench.scout.held.is_empty());
    }

    #[test]
    fn a_check_does_not_wait_for_the_other_family_for_ever() {
        const UDP6: Way = Way { family: Family::V6, ..UDP };
        let mut bench = Bench::new();
        bench.scout.check(&supernode(), door(), now(0));
        bench.scout.check(&supernode(), Door { way: UDP6, ..door() }, now(0));
        bench.connected("192.0.2.1");
        assert!(bench.wait() <= 40_000);
        assert_eq!(bench.news().len(), 2);
        assert!(bench.scout.errands.is_empty() && bench.scout.held.is_empty());
    }

    #[test]
    fn a_connection_of_the_right_family_serves_for_the_next_question() {
        let mut bench = Bench::new();
        bench.scout.check(&supernode(), door(), now(0));
        bench.connected("::ffff:192.0.2.1");
        bench.asked();
        bench.scout.ask_load(&supernode(), now(25));
        bench.scout.notify(&supernode(), &supernode().addresses, now(25));
        let asked = bench.asked();
        let [(load, Body::LoadRequest(_)), (notice, Body::ReserveNotice(noted))] = asked.as_slice() else {
            panic!("{asked:?}")
        };
        assert_eq!((noted.service.as_slice(), noted.addresses.len()), (OWN.0.as_slice(), 2));
        bench.says(*load, Body::Load(Load { load_percent: 80 }));
        bench.says(*notice, Body::ReserveNoted(ReserveNoted { kept: true }));
        let load = ScoutNews::Load { by: OTHER, load_percent: Some(80) };
        assert_eq!(bench.news(), [load, ScoutNews::Noted { by: OTHER, kept: true }]);
    }

    #[test]
    fn who_is_too_busy_to_tell_its_load_is_full_and_who_is_silent_says_nothing() {
        let answers = [
            (Body::Busy(Busy { retry_after_ms: 2_000, referrals: Vec::new() }), Some(100)),
            (Body::Failure(Failure { code: 14, detail: String::new() }), None),
        ];
        for (answer, load_percent) in answers {
            let mut bench = Bench::new();
            bench.scout.ask_load(&supernode(), now(0));
            bench.connected("192.0.2.1");
            let (id, _) = bench.asked().remove(0);
            bench.says(id, answer);
            assert_eq!(bench.news(), [ScoutNews::Load { by: OTHER, load_percent }]);
        }
    }

    #[test]
    fn a_scout_that_asked_many_hears_at_once_that_it_must_wait() {
        let mut bench = Bench::new();
        for n in 0..u8::try_from(CALLS_A_MINUTE).unwrap() {
            let other = ServiceKey([100 + n; 32]);
            assert_eq!(bench.scout.links.admit_circuit(other, Purpose::Call, now(0)), Ok(()));
        }
        bench.scout.check(&supernode(), door(), now(0));
        bench.scout.ask_load(&supernode(), now(0));
        bench.scout.notify(&supernode(), &supernode().addresses, now(0));
        assert!(bench.commands().is_empty(), "nobody is dialled");
        let held_back = |way| ScoutNews::HeldBack { of: OTHER, way, wait_ms: 60_000 };
        let not_noted = ScoutNews::Noted { by: OTHER, kept: false };
        assert_eq!(bench.news(), [held_back(Some(UDP)), held_back(None), not_noted]);
        assert_eq!(bench.scout.poll_timeout(), None, "and nothing is left of it");
    }

    #[test]
    fn whatever_a_supernode_answers_each_question_is_answered_once() {
        let answers = [
            Body::Checked(Checked { reached: true, detail: "x".repeat(10_000) }),
            Body::Load(Load { load_percent: 4_000_000 }),
            Body::ReserveNoted(ReserveNoted { kept: true }),
            Body::Busy(Busy { retry_after_ms: u32::MAX, referrals: Vec::new() }),
            Body::Failure(Failure { code: 14, detail: "ü".repeat(10_000) }),
            Body::Hello(HomeHello::default()),
            Body::LoadRequest(tandem_proto::wire::LoadRequest {}),
        ];
        for answer in answers {
            let mut bench = Bench::new();
            bench.scout.check(&supernode(), door(), now(0));
            bench.scout.ask_load(&supernode(), now(0));
            bench.scout.notify(&supernode(), &supernode().addresses, now(0));
            bench.connected("192.0.2.1");
            for (id, _) in bench.asked() {
                for _ in 0..3 {
                    bench.says(id, answer.clone());
                }
            }
            let before_ms = bench.wait();
            let news = bench.news();
            assert_eq!(news.len(), 3, "{answer:?}: {news:?}");
            assert!(before_ms <= 40_000, "{answer:?}");
            assert!(bench.scout.errands.is_empty());
            let long = |news: &ScoutNews| match news {
                ScoutNews::Checked { detail, .. } => detail.len() > 200,
                ScoutNews::NotChecked { reason, .. } => reason.len() > 300,
                _ => false,
            };
            assert!(!news.iter().any(long), "{news:?}");
        }
    }

    #[test]
    fn a_question_that_is_not_answered_fails_in_time_and_its_connection_is_given_up() {
        let mut bench = Bench::new();
        bench.scout.check(&supernode(), door(), now(0));
        bench.connected("192.0.2.1");
        bench.commands();
        bench.scout.handle_timeout(now(19_999));
        assert!(matches!(bench.news().as_slice(), [ScoutNews::NotChecked { .. }]));
        bench.wait();
        assert!(matches!(bench.commands().as_slice(), [DeviceCommand::CloseHome(OTHER)]));
        assert_eq!(bench.scout.poll_timeout(), None);
    }

    #[test]
    fn a_change_of_network_ends_what_is_under_way() {
        let mut bench = Bench::new();
        bench.scout.check(&supernode(), door(), now(0));
        bench.scout.ask_load(&supernode(), now(0));
        bench.connected("192.0.2.1");
        bench.scout.handle_network_changed(now(30));
        assert_eq!(bench.news().len(), 2);
        assert_eq!(bench.scout.poll_timeout(), None);
    }

    #[test]
    fn questions_are_bounded() {
        let mut bench = Bench::new();
        for _ in 0..1_000 {
            bench.scout.ask_load(&supernode(), now(0));
        }
        assert_eq!(bench.scout.errands.len(), ERRANDS_MAX);
        assert_eq!(bench.news().len(), 1_000 - ERRANDS_MAX);
    }
}
