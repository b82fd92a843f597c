//! The device's end of `home/1`: one link a supernode, for the homes and for errands (a grant from a relay).
//!
//! No I/O: what to tell the overlay comes out of [`Links::poll_command`], what happened out of [`Links::poll_news`].

mod answers;
mod errands;
mod gate;
#[cfg(test)]
mod gate_tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use tandem_core::dialing::{Dialing, Purpose};
use tandem_core::election::Family;
use tandem_core::time::Now;
use tandem_proto::ids::ServiceKey;
use tandem_proto::names::{VERSIONS, feature};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{
    Grant, Heartbeat, HomeFrame, HomeHello, Publish, ReachRecord, Reserve, Signed, SupernodesRequest,
};

use crate::overlay::{DeviceCommand, SupernodeAddress};
use crate::software;
use gate::{Patience, Undialled};

/// Links at once; further errands fail …
const LINKS_MAX: usize = 32;
/// … and those that are not for a call from here on. Errands that wait for their turn keep no call waiting …
const LINKS_OF_OTHERS: usize = 20;
/// … and no home: the policy of homes has so many on top.
const LINKS_OF_HOMES: usize = 8;
/// Resume tickets kept, and the length of one (spec/overlay.md).
const TICKETS_MAX: usize = 8;
const TICKET_BYTES_MAX: usize = 64;
/// Requests waiting for an answer on one link.
const PENDING_MAX: usize = 64;
/// An answer that has not come by then will not come.
const ANSWER_MS: u64 = 5_000;
/// A home stores a record within 20 s; where many supernodes have just died, it needs some of them.
const PUBLISH_MS: u64 = 22_000;
/// A check takes the supernode up to 10 s (spec/election.md, "Checks").
const CHECK_MS: u64 = 12_000;
/// Descriptors of other supernodes taken from one frame.
const REFERRALS_MAX: usize = 16;
/// USERNAME holds fewer than 509 bytes (RFC 8489 §14.3); no password of ours is longer.
const CREDENTIAL_BYTES_MAX: usize = 508;
/// A link opened for errands only is kept this long after the last.
const ERRAND_LINGER_MS: u64 = 20_000;

/// What happened on the links.
#[derive(Debug)]
pub(crate) enum LinkNews {
    Opened {
        service: ServiceKey,
    },
    /// An answer came in one round trip, in less time than any before on this link.
    Measured {
        service: ServiceKey,
        rtt_ms: u32,
    },
    /// What time it is there: so much later than here, or earlier.
    Clock {
        service: ServiceKey,
        ahead_s: i64,
    },
    /// Home and circuit reservation are both made.
    Reserved {
        service: ServiceKey,
        heartbeat_ms: u32,
    },
    /// Gone, or never opened.
    Closed {
        service: ServiceKey,
        incompatible: bool,
        reason: String,
    },
    /// Not dialled: too many different supernodes were in the last minute.
    HeldBack {
        service: ServiceKey,
        wait_ms: u64,
    },
    /// The same for an errand, which goes on by itself when its turn comes, or ends here ([`Links::impatient`]).
    Waits {
        errand: u64,
        wait_ms: u64,
    },
    /// The reservation was refused.
    Busy {
        service: ServiceKey,
        retry_after_ms: u32,
    },
    /// A supernode was too busy to name others.
    AskRefused {
        retry_after_ms: u32,
    },
    HeartbeatAnswered {
        service: ServiceKey,
    },
    Drain {
        service: ServiceKey,
        within_ms: u32,
    },
    /// Supernodes somebody spoke of; not verified yet.
    Descriptors {
        from: ServiceKey,
        signed: Vec<Signed>,
    },
    Published {
        service: ServiceKey,
    },
    PublishFailed {
        service: ServiceKey,
        retry_after_ms: u32,
    },
    LookedUp {
        errand: u64,
        service: ServiceKey,
        record: Option<ReachRecord>,
        done: bool,
    },
    Granted {
        errand: u64,
        service: ServiceKey,
        grant: Grant,
    },
    /// A newer device set of some account, to be verified.
    DeviceSet {
        signed: Signed,
    },
    Noted {
        errand: u64,
    },
    /// It tried to reach this node.
    Checked {
        errand: u64,
        reached: bool,
        /// As it says, for a log.
        detail: String,
    },
    ReserveNoted {
        errand: u64,
        kept: bool,
    },
    /// 0 to 100.
    Load {
        errand: u64,
        load_percent: u32,
    },
    /// No time for a check, a notice of a reserve or a question for the load: not before this.
    ErrandRefused {
        errand: u64,
        retry_after_ms: u32,
    },
    ErrandFailed {
        errand: u64,
        service: ServiceKey,
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Reserve,
    Heartbeat,
    Publish,
    Supernodes,
    LookUp { errand: u64 },
    Grant { errand: u64 },
    Notice { errand: u64 },
    Check { errand: u64, family: Family },
    ReserveNotice { errand: u64 },
    Load { errand: u64 },
}

impl Waiting {
    /// How long an answer may take.
    fn answer_ms(self) -> u64 {
        match self {
            Self::Check { .. } => CHECK_MS,
            Self::Publish => PUBLISH_MS,
            _ => ANSWER_MS,
        }
    }

    /// What a supernode is dialled for that is to be asked this. A scout places no calls: what it asks has their share.
    fn purpose(self) -> Purpose {
        match self {
            Self::Grant { .. } | Self::Check { .. } | Self::ReserveNotice { .. } | Self::Load { .. } => {
                Purpose::Call
            }
            Self::Reserve
            | Self::Heartbeat
            | Self::Publish
            | Self::Supernodes
            | Self::LookUp { .. }
            | Self::Notice { .. } => Purpose::Other,
        }
    }

    fn errand(self) -> Option<u64> {
        match self {
            Self::LookUp { errand }
            | Self::Grant { errand }
            | Self::Notice { errand }
            | Self::Check { errand, .. }
            | Self::ReserveNotice { errand }
            | Self::Load { errand } => Some(errand),
            Self::Reserve | Self::Heartbeat | Self::Publish | Self::Supernodes => None,
        }
    }

    /// Whoever asked is told when the machine's network changes.
    fn hears_of_change(self) -> bool {
        !matches!(
            self,
            Self::Reserve | Self::Heartbeat | Self::Publish | Self::Supernodes | Self::Grant { .. }
        )
    }
}

#[derive(Debug)]
struct Pending {
    waiting: Waiting,
    sent_ms: u64,
    until_ms: u64,
}

#[derive(Debug)]
struct Link {
    undialled: Option<Undialled>,
    open: bool,
    /// The policy of homes wants it; else it is closed when no errand needs it.
    by_homes: bool,
    opened_ms: u64,
    used_ms: u64,
    next_id: u64,
    pending: BTreeMap<u64, Pending>,
    /// Sent once the hello has come.
    queued: Vec<(Waiting, Body)>,
    /// The home's answer to `Reserve`, until the circuit reservation is there too, and the other way round.
    home_reserved: Option<u32>,
    circuit_reserved: bool,
    resume_ticket: Vec<u8>,
    /// It said that it leaves.
    draining: bool,
    /// The address family of the connection, once it is there.
    family: Option<Family>,
    /// The shortest round trip seen.
    rtt_ms: Option<u32>,
}

impl Link {
    fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.queued.is_empty()
    }

    /// The weightiest of what it is dialled for.
    fn purpose(&self) -> Purpose {
        if self.queued.iter().any(|(waiting, _)| waiting.purpose() == Purpose::Call) {
            Purpose::Call
        } else if self.by_homes {
            Purpose::Home
        } else {
            Purpose::Other
        }
    }

    /// When what waits for a link that does not open is given up.
    fn opening_ends_ms(&self) -> u64 {
        self.opened_ms + if self.undialled.is_some() { gate::TURN_MS_MAX } else { ANSWER_MS }
    }
}

fn family_of(ip: IpAddr) -> Family {
    match ip.to_canonical() {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

/// What a grant says goes into TURN messages: nothing that does not fit there is taken.
fn fits(grant: &Grant) -> bool {
    let credential = |text: &str| (1..=CREDENTIAL_BYTES_MAX).contains(&text.len());
    credential(&grant.username) && credential(&grant.password)
}

/// All links of one device.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<ServiceKey, Link>,
    /// Every dial of a supernode passes here, those of circuits too.
    dialing: Dialing<ServiceKey>,
    /// Errands do not wait for their turn.
    impatient: bool,
    patience: Patience,
    /// Of homes, at most [`TICKETS_MAX`], the newest last: a connection that breaks must not cost the place.
    tickets: VecDeque<(ServiceKey, Vec<u8>)>,
    commands: VecDeque<DeviceCommand>,
    news: VecDeque<LinkNews>,
}

impl Links {
    // ---- what the node wants ------------------------------------------------------------------------------------

    /// For the policy of homes: open a link. `Opened` or `Closed` follows.
    pub(crate) fn connect(&mut self, at: &SupernodeAddress, now: Now) {
        if let Some(link) = self.links.get_mut(&at.service) {
            link.by_homes = true;
            if link.open {
                self.news.push_back(LinkNews::Opened { service: at.service });
            }
        } else if !self.open(at, Purpose::Home, now) {
            let reason = "too many connections at once".to_owned();
            self.news.push_back(LinkNews::Closed { service: at.service, incompatible: false, reason });
            return;
        }
        self.dial(at.service, now);
    }

    pub(crate) fn reserve(&mut self, service: ServiceKey, in_call: bool, homeless: bool, now: Now) {
        let Some(link) = self.links.get_mut(&service) else { return };
        (link.home_reserved, link.circuit_reserved) = (None, false);
        let body = Body::Reserve(Reserve { in_call, resume_ticket: link.resume_ticket.clone(), homeless });
        self.request(service, Waiting::Reserve, body, now);
        self.commands.push_back(DeviceCommand::Reserve(service));
    }

    pub(crate) fn heartbeat(&mut self, service: ServiceKey, in_call: bool, now: Now) {
        self.request(service, Waiting::Heartbeat, Body::Heartbeat(Heartbeat { in_call }), now);
    }

    pub(crate) fn publish(&mut self, service: ServiceKey, record: ReachRecord, now: Now) {
        self.request(service, Waiting::Publish, Body::Publish(Publish { record: Some(record) }), now);
    }

    pub(crate) fn ask_supernodes(&mut self, service: ServiceKey, request: SupernodesRequest, now: Now) {
        self.request(service, Waiting::Supernodes, Body::SupernodesRequest(request), now);
    }

    /// For the policy of homes: it no longer wants this link.
    pub(crate) fn release(&mut self, service: ServiceKey, now: Now) {
        let Some(link) = self.links.get_mut(&service) else { return };
        link.by_homes = false;
        link.used_ms = now.mono_ms;
        if link.is_idle() {
            self.drop_link(service);
        }
    }

    /// All links, and whether each is one of the policy of homes.
    pub(crate) fn by_homes(&self) -> impl Iterator<Item = (ServiceKey, bool)> {
        self.links.iter().map(|(service, link)| (*service, link.by_homes))
    }

    /// Whether this is a link of the policy of homes, and not only for an errand.
    pub(crate) fn is_by_homes(&self, service: ServiceKey) -> bool {
        self.links.get(&service).is_some_and(|link| link.by_homes)
    }

    // ---- what the overlay says ----------------------------------------------------------------------------------

    /// The stream is open and our hello may go. `remote`: the other end of the connection.
    pub(crate) fn handle_opened(&mut self, service: ServiceKey, remote: Option<IpAddr>, now: Now) {
        let Some(link) = self.links.get_mut(&service) else {
            self.commands.push_back(DeviceCommand::CloseHome(service));
            return;
        };
        link.family = remote.map(family_of);
        let hello = HomeHello {
            version_min: VERSIONS.min,
            version_max: VERSIONS.max,
            features: feature::HOME_ALL,
            software: software(),
            descriptor: None,
            time_s: now.unix_ms / 1000,
        };
        self.send(service, HomeFrame { id: 0, body: Some(Body::Hello(hello)) });
    }

    pub(crate) fn handle_closed(&mut self, service: ServiceKey, reason: &str) {
        self.fail(service, false, reason);
    }

    /// The machine's network changed: every link is dropped. Look-ups, notices and a scout's errands fail; the policy of homes and whoever
    /// asked for grants begin anew by themselves and hear nothing.
    pub(crate) fn handle_network_changed(&mut self) {
        for (service, mut link) in std::mem::take(&mut self.links) {
            self.commands.push_back(DeviceCommand::CloseHome(service));
            let waiting = std::mem::take(&mut link.pending).into_values().map(|pending| pending.waiting);
            for waiting in waiting.chain(link.queued.into_iter().map(|(waiting, _)| waiting)) {
                if waiting.hears_of_change() {
                    self.fail_request(service, waiting, "the network of this machine changed", 0);
                }
            }
        }
    }

    pub(crate) fn handle_circuit(&mut self, service: ServiceKey, reserved: bool, reason: &str) {
        let Some(link) = self.links.get_mut(&service) else { return };
        link.circuit_reserved = reserved;
        if reserved {
            self.announce_reserved(service);
        } else if link.by_homes {
            self.commands.push_back(DeviceCommand::CloseHome(service));
            self.fail(service, false, reason);
        }
    }

    pub(crate) fn handle_frame(&mut self, service: ServiceKey, frame: HomeFrame, now: Now) {
        let Some(link) = self.links.get_mut(&service) else { return };
        link.used_ms = now.mono_ms;
        let Some(body) = frame.body else { return };
        match body {
            Body::Hello(hello) => self.handle_hello(service, &hello, now),
            // It is said once; a supernode that says it again and again is not listened to.
            Body::Drain(drain) if link.open && !link.draining => {
                link.draining = true;
                self.news.push_back(LinkNews::Drain { service, within_ms: drain.within_ms });
                self.take_referrals(service, drain.referrals);
            }
            Body::DeviceSetNotice(notice) if frame.id == 0 => {
                if let Some(signed) = notice.device_set {
                    self.news.push_back(LinkNews::DeviceSet { signed });
                }
            }
            Body::LookedUp(looked) if !looked.done => {
                if let Some(Pending { waiting: Waiting::LookUp { errand }, .. }) = link.pending.get(&frame.id)
                {
                    let errand = *errand;
                    self.news.push_back(LinkNews::LookedUp {
                        errand,
                        service,
                        record: looked.record,
                        done: false,
                    });
                }
            }
            body => {
                if let Some(pending) = link.pending.remove(&frame.id) {
                    self.measure(service, &pending, now);
                    self.handle_answer(service, pending.waiting, body, now);
                }
            }
        }
    }

    /// Answers that did not come, links that nobody needs.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        let mut overdue = Vec::new();
        let mut unused = Vec::new();
        for (service, link) in &mut self.links {
            overdue.extend(
                link.pending
                    .extract_if(.., |_, pending| pending.until_ms <= now.mono_ms)
                    .map(|(_, pending)| (*service, pending.waiting)),
            );
            if !link.open && link.opening_ends_ms() <= now.mono_ms {
                overdue.extend(link.queued.drain(..).map(|(waiting, _)| (*service, waiting)));
            }
            if !link.by_homes && link.is_idle() && link.used_ms + ERRAND_LINGER_MS <= now.mono_ms {
                unused.push(*service);
            }
        }
        let turn = |link: &Link| link.undialled.as_ref().is_some_and(|it| it.turn_ms <= now.mono_ms);
        let turns: Vec<ServiceKey> =
            self.links.iter().filter(|(_, link)| turn(link)).map(|(service, _)| *service).collect();
        for service in turns {
            self.dial(service, now);
        }
        for (service, waiting) in overdue {
            self.fail_request(service, waiting, "no answer came in time", 0);
        }
        for service in unused {
            self.drop_link(service);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.links
            .values()
            .flat_map(|link| {
                let pending = link.pending.values().map(|pending| pending.until_ms).min();
                let opening = (!link.open && !link.queued.is_empty()).then(|| link.opening_ends_ms());
                let turn = link.undialled.as_ref().map(|undialled| undialled.turn_ms);
                let linger = (!link.by_homes && link.is_idle()).then_some(link.used_ms + ERRAND_LINGER_MS);
                [pending, opening, turn, linger]
            })
            .flatten()
            .min()
    }

    pub(crate) fn poll_command(&mut self) -> Option<DeviceCommand> {
        self.commands.pop_front()
    }

    pub(crate) fn poll_news(&mut self) -> Option<LinkNews> {
        self.news.pop_front()
    }

    // ---- inside -------------------------------------------------------------------------------------------------

    /// Makes a link that is not dialled yet, if there is room.
    fn open(&mut self, at: &SupernodeAddress, purpose: Purpose, now: Now) -> bool {
        let room = match purpose {
            Purpose::Home => LINKS_MAX + LINKS_OF_HOMES,
            Purpose::Call => LINKS_MAX,
            Purpose::Other => LINKS_OF_OTHERS,
        };
        if self.links.len() >= room {
            return false;
        }
        let by_homes = purpose == Purpose::Home;
        let ticket = self.tickets.iter().find(|(of, _)| *of == at.service).map(|(_, ticket)| ticket.clone());
        let link = Link {
            undialled: Some(Undialled { at: at.clone(), turn_ms: now.mono_ms }),
            open: false,
            by_homes,
            opened_ms: now.mono_ms,
            used_ms: now.mono_ms,
            next_id: 1,
            pending: BTreeMap::new(),
            queued: Vec::new(),
            home_reserved: None,
            circuit_reserved: false,
            resume_ticket: ticket.unwrap_or_default(),
            draining: false,
            family: None,
            rtt_ms: None,
        };
        self.links.insert(at.service, link);
        true
    }

    fn request(&mut self, service: ServiceKey, waiting: Waiting, body: Body, now: Now) {
        let Some(link) = self.links.get_mut(&service) else {
            self.fail_request(service, waiting, "not connected to that supernode", 0);
            return;
        };
        link.used_ms = now.mono_ms;
        if let Some(wait_ms) = self.patience.wait_ms(service, waiting, now.mono_ms) {
            let reason =
                format!("the supernode asked to be left alone for another {} s", wait_ms.div_ceil(1_000));
            self.fail_request(service, waiting, &reason, 0);
        } else if link.pending.len() + link.queued.len() >= PENDING_MAX {
            self.fail_request(service, waiting, "too many requests are waiting for that supernode", 0);
        } else if link.open && !errands::may_go(waiting, link.family) {
            self.fail_request(service, waiting, "the connection is of the other address family", 0);
        } else if link.open {
            let id = link.next_id;
            link.next_id += 1;
            let until_ms = now.mono_ms + waiting.answer_ms();
            link.pending.insert(id, Pending { waiting, sent_ms: now.mono_ms, until_ms });
            self.send(service, HomeFrame { id, body: Some(body) });
        } else {
            link.queued.push((waiting, body));
            self.dial(service, now);
        }
    }

    /// Forgets a link that is gone, and says so to all who waited for it.
    fn fail(&mut self, service: ServiceKey, incompatible: bool, reason: &str) {
        let Some(link) = self.links.remove(&service) else { return };
        let waiting = link.pending.into_values().map(|pending| pending.waiting);
        for waiting in waiting.chain(link.queued.into_iter().map(|(waiting, _)| waiting)) {
            if waiting != Waiting::Reserve {
                self.fail_request(service, waiting, reason, 0);
            }
        }
        if link.by_homes {
            self.news.push_back(LinkNews::Closed { service, incompatible, reason: reason.to_owned() });
        }
    }

    fn drop_link(&mut self, service: ServiceKey) {
        if self.links.remove(&service).is_some_and(|link| link.undialled.is_some()) {
            return;
        }
        self.commands.push_back(DeviceCommand::CloseHome(service));
    }

    fn send(&mut self, service: ServiceKey, frame: HomeFrame) {
        self.commands.push_back(DeviceCommand::SendHome { service, frame });
    }
}

#[cfg(test)]
mod tests {
    use tandem_proto::wire::{Busy, Reserved};

    use super::*;

    pub(super) const SERVICE: ServiceKey = ServiceKey([1; 32]);

    pub(super) fn now(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: 1_800_000_000_000 + mono_ms }
    }

    /// A link on which hellos were exchanged; the other end's clock differs by so many seconds.
    pub(super) fn open(ahead_s: i64) -> Links {
        let mut links = Links::default();
        links.connect(&SupernodeAddress { service: SERVICE, addresses: Vec::new() }, now(0));
        links.handle_opened(SERVICE, None, now(10));
        let hello = HomeHello {
            version_min: VERSIONS.min,
            version_max: VERSIONS.max,
            time_s: (now(20).unix_ms / 1000).saturating_add_signed(ahead_s),
            ..HomeHello::default()
        };
        links.handle_frame(SERVICE, HomeFrame { id: 0, body: Some(Body::Hello(hello)) }, now(20));
        links
    }

    pub(super) fn news(links: &mut Links) -> Vec<LinkNews> {
        std::iter::from_fn(|| links.poll_news()).collect()
    }

    #[test]
    fn a_hello_tells_the_time_there() {
        for difference in [0, 3_600, -86_400] {
            let heard = news(&mut open(difference));
            let told =
                |news: &LinkNews| matches!(news, LinkNews::Clock { ahead_s, .. } if *ahead_s == difference);
            assert_eq!(heard.iter().filter(|news| told(news)).count(), 1, "{heard:?}");
        }
    }

    #[test]
    fn a_connection_that_breaks_does_not_cost_the_ticket() {
        let mut links = open(0);
        links.reserve(SERVICE, true, false, now(30));
        let reserved = Reserved { heartbeat_ms: 14_000, resume_ticket: vec![9; 8], ..Reserved::default() };
        links.handle_frame(SERVICE, HomeFrame { id: 1, body: Some(Body::Reserved(reserved)) }, now(40));
        links.handle_closed(SERVICE, "lost");
        news(&mut links);
        links.connect(&SupernodeAddress { service: SERVICE, addresses: Vec::new() }, now(50));
        links.reserve(SERVICE, true, false, now(60));
        let queued = links.links.get(&SERVICE).expect("a link").queued.iter();
        let shown = queued.filter_map(|(_, body)| match body {
            Body::Reserve(reserve) => Some(reserve.resume_ticket.clone()),
            _ => None,
        });
        assert_eq!(shown.collect::<Vec<_>>(), [vec![9; 8]]);
        for nth in 0..100 {
            links.keep_ticket(ServiceKey([nth; 32]), vec![1; 8]);
        }
        assert_eq!(links.tickets.len(), TICKETS_MAX);
    }

    #[test]
    fn a_supernode_too_busy_to_name_others_says_when_to_ask_again() {
        let mut links = open(0);
        links.ask_supernodes(SERVICE, SupernodesRequest::default(), now(30));
        let busy = Busy { retry_after_ms: 7_000, ..Busy::default() };
        links.handle_frame(SERVICE, HomeFrame { id: 1, body: Some(Body::Busy(busy)) }, now(40));
        let heard = news(&mut links);
        let asked = |news: &LinkNews| matches!(news, LinkNews::AskRefused { retry_after_ms: 7_000 });
        assert_eq!(heard.iter().filter(|news| asked(news)).count(), 1, "{heard:?}");
    }

    /// A link opened for a grant, with hellos exchanged, and the number of the request.
    fn errand() -> (Links, u64) {
        let mut links = Links::default();
        links.request_grant(7, &SupernodeAddress { service: SERVICE, addresses: Vec::new() }, b"tag", now(0));
        links.handle_opened(SERVICE, None, now(10));
        let hello = HomeHello {
            version_min: VERSIONS.min,
            version_max: VERSIONS.max,
            time_s: now(20).unix_ms / 1000,
            descriptor: Some(Signed::default()),
            ..HomeHello::default()
        };
        links.handle_frame(SERVICE, HomeFrame { id: 0, body: Some(Body::Hello(hello)) }, now(20));
        let sent = std::iter::from_fn(|| links.poll_command());
        let request = sent.filter_map(|command| match command {
            DeviceCommand::SendHome {
                frame: HomeFrame { id, body: Some(Body::GrantRequest(_)) }, ..
            } => Some(id),
            _ => None,
        });
        let request = request.last().expect("a grant is asked for");
        (links, request)
    }

    fn descriptors(heard: &[LinkNews]) -> usize {
        let signed = |news: &LinkNews| match news {
            LinkNews::Descriptors { signed, .. } => signed.len(),
            _ => 0,
        };
        heard.iter().map(signed).sum()
    }

    #[test]
    fn a_relay_that_others_chose_names_nobody() {
        let (mut links, request) = errand();
        let referrals = vec![Signed::default(); 8];
        let drain = tandem_proto::wire::Drain { within_ms: 1, referrals: referrals.clone() };
        links.handle_frame(SERVICE, HomeFrame { id: 0, body: Some(Body::Drain(drain)) }, now(30));
        let busy = Busy { retry_after_ms: 7_000, referrals };
        links.handle_frame(SERVICE, HomeFrame { id: request, body: Some(Body::Busy(busy)) }, now(40));
        let heard = news(&mut links);
        assert_eq!(descriptors(&heard), 0, "{heard:?}");
        assert!(
            heard.iter().any(|news| matches!(news, LinkNews::ErrandFailed { errand: 7, .. })),
            "{heard:?}"
        );
    }

    #[test]
    fn a_home_says_once_that_it_leaves_and_names_a_few() {
        let mut links = open(0);
        news(&mut links);
        for at in 0..50 {
            let referrals = vec![Signed::default(); 40];
            let drain = tandem_proto::wire::Drain { within_ms: 1, referrals };
            links.handle_frame(SERVICE, HomeFrame { id: 0, body: Some(Body::Drain(drain)) }, now(30 + at));
        }
        assert_eq!(descriptors(&news(&mut links)), REFERRALS_MAX);
    }

    #[test]
    fn a_grant_that_fits_into_no_message_is_refused() {
        for (username, password, good) in [("u", "p", true), ("", "p", false), ("u", "", false)] {
            let (mut links, request) = errand();
            let grant = Grant { username: username.into(), password: password.into(), ..Grant::default() };
            links.handle_frame(SERVICE, HomeFrame { id: request, body: Some(Body::Grant(grant)) }, now(30));
            let granted = news(&mut links).iter().any(|news| matches!(news, LinkNews::Granted { .. }));
            assert_eq!(granted, good, "{username:?} {password:?}");
        }
        for long in [CREDENTIAL_BYTES_MAX, CREDENTIAL_BYTES_MAX + 1] {
            let (mut links, request) = errand();
            let grant = Grant { username: "u".repeat(long), password: "p".into(), ..Grant::default() };
            links.handle_frame(SERVICE, HomeFrame { id: request, body: Some(Body::Grant(grant)) }, now(30));
            let granted = news(&mut links).iter().any(|news| matches!(news, LinkNews::Granted { .. }));
            assert_eq!(granted, long == CREDENTIAL_BYTES_MAX);
        }
    }

    #[test]
    fn a_notice_on_its_way_fails_when_the_network_changes() {
        let mut links = open(0);
        let at = SupernodeAddress { service: SERVICE, addresses: Vec::new() };
        links.notify(9, &at, Signed::default(), now(30));
        links.handle_network_changed();
        let heard = news(&mut links);
        assert!(
            heard.iter().any(|news| matches!(news, LinkNews::ErrandFailed { errand: 9, .. })),
            "{heard:?}"
        );
    }
}
