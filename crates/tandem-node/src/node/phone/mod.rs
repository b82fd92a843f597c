//! A phone: one device of one account, with its swarm, its homes and its calls.
//!
//! The person's device is one; a supernode's echo service is another, with an account of its own. The loop feeds a phone
//! with what its swarm and its media say, and hears [`PhoneNews`]. Inside, policy (`tandem-core`) decides and the files
//! of this folder execute: `homes` and `links` towards supernodes, `lookups` in the directory, `calls` and their media.

mod calls;
mod circuits;
mod clocks;
mod devices;
mod explain;
mod homes;
pub(in crate::node) mod links;
mod lookups;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tandem_core::call::{
    AskOutcome, CallEvent, CallId, CallOptions, Calls, CallsConfig, InvitationId, LegId, NewRequest,
    RelayWanted, StrangerRules,
};
use tandem_core::homes::{Homes, Remembered};
use tandem_core::peer::{KnownPeer, PeerRef};
use tandem_core::time::Now;
use tandem_media::session::Event;
use tandem_proto::identity::DeviceSecret;
use tandem_proto::ids::{AccountKey, DeviceKey, ServiceKey};
use tandem_proto::names::feature;
use tandem_proto::record::{ReachRecord, Seen};
use tandem_proto::request::Challenge;
use tandem_proto::signed::{DeviceSet, Roles, SupernodeDescriptor};
use tandem_proto::wire::Signed;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::media::{EndpointPlan, MediaHandle, MediaNews, MediaReport};
use super::networks::Networks;
use super::outbox::Outbox;
use super::peers::PeerTable;
use super::port_mapping::PortMapping;
use super::quality::Qualities;
use crate::overlay::{DeviceCommand, DeviceEvent, PublicAddresses};
use crate::platform::network::{Change, Network};
use crate::software;
use crate::store::SupernodeQuality;
use crate::why::CallFact;
pub(crate) use calls::{call_name, recording_path};
use circuits::WaitingStream;
use clocks::Clocks;
use devices::Own;
pub(crate) use devices::{Handed, NotInvited, OwnRecord};
pub(crate) use explain::LinkUse;
use links::Links;
use lookups::LookUps;

/// Which phone of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PhoneId {
    /// The person's device.
    Person,
    /// The echo service of this node's supernode.
    Echo,
}

/// Who a phone is.
pub(crate) struct PhoneIdentity {
    pub(crate) account: AccountKey,
    pub(crate) device: DeviceSecret,
    pub(crate) certificate: Signed,
    /// Of that certificate.
    pub(crate) serial: u64,
    pub(crate) device_set: DeviceSet,
    pub(crate) display_name: String,
}

/// What the loop does for a phone.
#[derive(Debug)]
pub(crate) enum PhoneNews {
    /// The set of reserved homes, or whether we can be reached, changed.
    Homes,
    /// Supernodes to remember.
    Descriptors(Vec<SupernodeDescriptor>),
    /// The newest record seen of an account, to be remembered against rollback.
    Seen {
        account: AccountKey,
        seen: Seen,
    },
    /// The newest record of an account that was called, encoded: to try a contact without the directory.
    Record {
        account: AccountKey,
        record: Vec<u8>,
    },
    DeviceSet {
        account: AccountKey,
        device_set: Signed,
    },
    /// A newer device set of the own account, which names this device: keep it.
    OwnSet(DeviceSet),
    /// One that no longer does.
    Revoked(DeviceSet),
    /// A newer device set of the own account names this device by another certificate than it has.
    OtherPapers(DeviceSet),
    /// Another device of the account renewed this one's papers.
    Renewed(Handed),
    /// This device, which waited, was added to an account.
    Joined(Handed),
    /// What the directory knows of the own account.
    OwnRecord(OwnRecord),
    /// Another device took the papers handed to it, or why not.
    Invited(Result<(), NotInvited>),
    /// Whether a device of the account can be reached.
    Probed {
        device: DeviceKey,
        reachable: bool,
    },
    /// Somebody calls: answer or decline.
    Ring {
        call: CallId,
        from: AccountKey,
        name: String,
        /// By this one a stranger may ring.
        invitation: Option<InvitationId>,
    },
    InvitationUsed {
        invitation: InvitationId,
        account: AccountKey,
    },
    /// A stranger left a silent request.
    Request(NewRequest),
    /// Look for a proof; `handle_proof` follows.
    Solve {
        leg: LegId,
        challenge: Challenge,
    },
    /// A silent request of ours has ended.
    Asked {
        request: CallId,
        outcome: AskOutcome,
    },
    Call {
        call: CallId,
        event: CallEvent,
    },
    Found {
        call: CallId,
        devices: u32,
    },
    Media {
        call: CallId,
        event: Event,
    },
    /// Something that explains a call, for its report.
    Fact {
        call: CallId,
        fact: CallFact,
    },
    /// In words, for the call's notes and the log.
    Trouble {
        call: CallId,
        why: String,
    },
    /// A leg's media ended; what it measured comes later through the channel of reports.
    MediaEnding {
        call: CallId,
    },
}

/// What a leg's media measured, once its thread has ended.
#[derive(Debug)]
pub(crate) struct FinalReport {
    pub(crate) phone: PhoneId,
    pub(crate) call: CallId,
    pub(crate) report: Option<MediaReport>,
}

/// Everything around a phone that it shares with the rest of the node.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Now,
    pub(crate) peers: &'a mut PeerTable,
    /// What this node remembers of an account.
    pub(crate) seen: &'a dyn Fn(AccountKey) -> Option<Seen>,
    /// Where a contact was found last; nothing for other accounts.
    pub(crate) remembered: &'a dyn Fn(AccountKey) -> Option<ReachRecord>,
}

/// The channels a phone speaks on.
#[derive(Debug, Clone)]
pub(crate) struct PhoneChannels {
    pub(crate) overlay: mpsc::Sender<DeviceCommand>,
    pub(crate) media_news: mpsc::Sender<MediaNews>,
    pub(crate) reports: mpsc::Sender<FinalReport>,
}

/// The media of one leg.
#[derive(Debug)]
struct LegMedia {
    call: CallId,
    /// It may show addresses.
    direct: bool,
    /// Relays that a grant was asked of, to ask again; at most [`calls::RELAYS_MAX`].
    relays: Vec<RelayWanted>,
    /// Relays that this end hears the other on, as last reported.
    heard: Vec<ServiceKey>,
    handle: MediaHandle,
}

/// A grant asked for.
#[derive(Debug, Clone, Copy)]
struct GrantErrand {
    leg: LegId,
    relay: ServiceKey,
    /// The leg uses the relay already; its grant has run out.
    renewal: bool,
}

pub(crate) struct Phone {
    id: PhoneId,
    identity: PhoneIdentity,
    overlay: Outbox<DeviceCommand>,
    media_news: mpsc::Sender<MediaNews>,
    reports: mpsc::Sender<FinalReport>,
    /// The address of this machine that sound leaves from.
    bind: Option<IpAddr>,
    /// Where relays may be.
    public: PublicAddresses,
    networks: Networks,
    ports: PortMapping,
    /// This node's own supernode is never a home or relay of the person's device: that would link the two.
    excluded: Option<ServiceKey>,
    homes: Homes,
    /// Since when each home has been reserved, in unix milliseconds.
    home_since: BTreeMap<PeerRef, u64>,
    qualities: Qualities,
    links: Links,
    clocks: Clocks,
    look_ups: LookUps,
    calls: Calls,
    media: BTreeMap<LegId, LegMedia>,
    /// Legs that have ended, of which the other end may not have heard yet.
    lingering: JoinSet<()>,
    endpoints: BTreeMap<CallId, EndpointPlan>,
    /// Signalling streams being opened, by the number given to the overlay.
    opening: BTreeMap<u64, LegId>,
    /// Streams whose supernodes may not be dialled yet.
    waiting_streams: Vec<WaitingStream>,
    grants: BTreeMap<u64, GrantErrand>,
    /// Of each leg the relays that only the other end vouched for so far; at most [`calls::RELAYS_MAX`].
    confirming: BTreeMap<LegId, Vec<ServiceKey>>,
    next_number: u64,
    /// Of our last published entry.
    sequence: Option<u64>,
    /// The account of a call going on whose homes are to be looked up again as soon as there is somebody to ask.
    look_up_again: Option<(CallId, AccountKey)>,
    own: Own,
    news: VecDeque<PhoneNews>,
    was_reachable: bool,
}

/// What a phone is made with.
pub(crate) struct PhonePlan {
    pub(crate) id: PhoneId,
    pub(crate) identity: PhoneIdentity,
    pub(crate) channels: PhoneChannels,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) public: PublicAddresses,
    pub(crate) network: Network,
    pub(crate) ports: PortMapping,
    pub(crate) excluded: Option<ServiceKey>,
    /// For calls that come in.
    pub(crate) incoming: CallOptions,
    /// For those who are no contacts.
    pub(crate) strangers: StrangerRules,
    /// From the operating system's random source.
    pub(crate) seed: [u8; 32],
}

impl Phone {
    pub(crate) fn new(plan: PhonePlan, now: Now) -> Self {
        let config = CallsConfig {
            account: plan.identity.account,
            device: plan.identity.device.public(),
            certificate: plan.identity.certificate.clone(),
            device_set: plan.identity.device_set.signed().clone(),
            software: software(),
            features: feature::SIGNAL_ALL,
            display_name: plan.identity.display_name.clone(),
            strangers: plan.strangers,
            options: plan.incoming,
        };
        let mut networks = Networks::default();
        networks.set(plan.network);
        let homes_seed = u64::from_le_bytes(plan.seed[..8].try_into().expect("8 of 32 bytes"));
        Self {
            id: plan.id,
            identity: plan.identity,
            overlay: Outbox::new(plan.channels.overlay),
            media_news: plan.channels.media_news,
            reports: plan.channels.reports,
            bind: plan.bind,
            public: plan.public,
            networks,
            ports: plan.ports,
            excluded: plan.excluded,
            homes: Homes::new(homes_seed, now),
            home_since: BTreeMap::new(),
            qualities: Qualities::default(),
            links: Links::default(),
            clocks: Clocks::default(),
            look_ups: LookUps::default(),
            calls: Calls::new(config, plan.seed),
            media: BTreeMap::new(),
            lingering: JoinSet::new(),
            endpoints: BTreeMap::new(),
            opening: BTreeMap::new(),
            waiting_streams: Vec::new(),
            grants: BTreeMap::new(),
            confirming: BTreeMap::new(),
            next_number: 1,
            sequence: None,
            look_up_again: None,
            own: Own::default(),
            news: VecDeque::new(),
            was_reachable: false,
        }
    }

    /// Feeds what the device swarm says.
    pub(crate) fn handle_overlay(&mut self, event: DeviceEvent, around: &mut Surroundings<'_>) {
        let now = around.now;
        match event {
            DeviceEvent::HomeOpened { service, remote } => {
                remote.into_iter().for_each(|ip| around.peers.met(&service, ip));
                self.tell_met(service, around);
                self.links.handle_opened(service, remote, now);
            }
            DeviceEvent::HomeFrame { service, frame } => self.links.handle_frame(service, frame, now),
            DeviceEvent::HomeClosed { service, reason } => self.links.handle_closed(service, &reason),
            DeviceEvent::Reserved { service } => self.links.handle_circuit(service, true, ""),
            DeviceEvent::ReservationLost { service, reason } => {
                self.links.handle_circuit(service, false, &reason)
            }
            DeviceEvent::SignalFailed { request, failure, reason } => {
                self.fail_signal(request, failure, &reason, around)
            }
            event => {
                if let Some(event) = self.handle_own_signalling(event, around) {
                    self.handle_signalling(event, now);
                }
            }
        }
        self.drive(around);
    }

    /// Feeds what a leg's media says.
    pub(crate) fn handle_media(&mut self, news: MediaNews, around: &mut Surroundings<'_>) {
        self.take_media(news, around.now);
        self.drive(around);
    }

    /// Supernodes from the bootstrap list, from memory, or from this node's own supernode.
    pub(crate) fn handle_known(&mut self, peers: &[PeerRef], around: &mut Surroundings<'_>) {
        let known: Vec<_> = peers
            .iter()
            .filter(|peer| around.peers.get(**peer).is_some_and(|entry| Some(entry.service) != self.excluded))
            .filter_map(|peer| around.peers.known(*peer, None))
            .collect();
        self.homes.handle_known(&known, around.now);
        self.drive(around);
    }

    /// Begins with what was known in earlier runs: those that served best come first.
    pub(crate) fn begin(&mut self, peers: &[PeerRef], qualities: Qualities, around: &mut Surroundings<'_>) {
        self.qualities = qualities;
        let mut known: Vec<(KnownPeer, Remembered)> = peers
            .iter()
            .filter_map(|peer| Some((*peer, around.peers.get(*peer)?.service)))
            .filter(|(_, service)| Some(*service) != self.excluded)
            .filter_map(|(peer, service)| {
                let remembered = self.qualities.remembered(&service, peer, around.now.unix_ms);
                Some((around.peers.known(peer, None)?, remembered))
            })
            .collect();
        known.sort_by_key(|(_, remembered)| Reverse(remembered.quality));
        self.homes.handle_remembered(&known, around.now);
        self.drive(around);
    }

    /// What was measured of homes, when it is time to write it down, or `at_once`.
    pub(crate) fn measured(&mut self, at_once: bool, around: &Surroundings<'_>) -> Vec<SupernodeQuality> {
        let unix_ms = around.now.unix_ms;
        if !at_once && self.qualities.write_ms().is_none_or(|at_ms| unix_ms < at_ms) {
            return Vec::new();
        }
        let homes = &self.homes;
        let standing = |service: &ServiceKey| homes.standing(around.peers.by_key(service)?.0);
        self.qualities.take_changes(standing, unix_ms)
    }

    /// The machine's network is this now. `change` says what that means for what stands.
    pub(crate) fn handle_network(
        &mut self,
        network: &Network,
        change: Change,
        around: &mut Surroundings<'_>,
    ) {
        self.networks.set(network.clone());
        // What leads nowhere is no reason to touch a call.
        if change != Change::Aside {
            self.tell_all_media(network, change);
        }
        let lonely = change == Change::More && !self.is_reachable();
        if change == Change::Moved || lonely {
            self.make_anew(around);
        }
        self.drive(around);
    }

    /// Connections of the network before are no use in this one. All links are dropped before the swarm hears of it, so
    /// that no late news of them can be taken for news of the new ones.
    fn make_anew(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now;
        self.links.handle_network_changed();
        while let Some(command) = self.links.poll_command() {
            self.send_overlay(command, now);
        }
        self.send_overlay(DeviceCommand::NetworkChanged, now);
        self.homes.handle_network_changed(now);
        self.request_grants_again(now);
        self.calls.handle_network_changed(now);
        self.news.push_back(PhoneNews::Homes);
    }

    pub(crate) fn handle_timeout(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now;
        self.homes.handle_timeout(now);
        self.links.handle_timeout(now);
        self.look_ups.handle_timeout(now);
        self.calls.handle_timeout(now);
        self.open_waiting_streams(now);
        self.drive_own(around);
        self.overlay.flush(now.mono_ms);
        self.drive(around);
    }

    /// When to call [`Self::handle_timeout`], in the clock's milliseconds.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        [
            self.homes.poll_timeout(),
            self.links.poll_timeout(),
            self.look_ups.poll_timeout(),
            self.calls.poll_timeout(),
            self.own.poll_timeout(),
            self.overlay.poll_timeout(),
            self.waiting_streams_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(crate) fn poll_news(&mut self) -> Option<PhoneNews> {
        self.news.pop_front()
    }

    // ---- how it stands ------------------------------------------------------------------------------------------

    pub(crate) fn account(&self) -> AccountKey {
        self.identity.account
    }

    pub(crate) fn device(&self) -> DeviceKey {
        self.identity.device.public()
    }

    /// Whether somebody may not have heard yet that a call is over.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.calls.awaits_answer()
    }

    /// Waits until the media of all legs has said that it has ended, for at most so long.
    pub(crate) async fn media_ended(&mut self, at_most: Duration) {
        let all = async { while self.lingering.join_next().await.is_some() {} };
        // What has not been heard by then is told by signalling, or by silence.
        drop(tokio::time::timeout(at_most, all).await);
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.homes.is_reachable()
    }

    /// Supernodes where this device is reserved now.
    pub(crate) fn homes(&self) -> impl Iterator<Item = PeerRef> {
        self.homes.reserved()
    }

    /// By how many minutes this machine's clock differs from most others', if that does harm.
    pub(crate) fn clock_skew_minutes(&self) -> Option<u64> {
        self.clocks.skew_minutes()
    }

    /// Since when a home has been reserved, in unix milliseconds.
    /// Whether this supernode is among those that homes are chosen from.
    pub(crate) fn knows(&self, peer: PeerRef) -> bool {
        self.homes.network_of(peer).is_some()
    }

    pub(crate) fn home_since(&self, home: PeerRef) -> Option<u64> {
        self.home_since.get(&home).copied()
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(crate) fn overlay(&self) -> &mpsc::Sender<DeviceCommand> {
        self.overlay.queue()
    }

    // ---- inside -------------------------------------------------------------------------------------------------

    /// Until nobody has anything more to say: news of the links feed policy, policy's commands feed the links.
    fn drive(&mut self, around: &mut Surroundings<'_>) {
        loop {
            let mut quiet = true;
            while let Some(news) = self.links.poll_news() {
                quiet = false;
                self.take_link_news(news, around);
            }
            while let Some(command) = self.homes.poll_command() {
                quiet = false;
                self.do_for_homes(command, around);
            }
            while let Some(command) = self.look_ups.poll_command() {
                quiet = false;
                self.do_for_look_up(command, around);
            }
            while let Some(command) = self.calls.poll_command() {
                quiet = false;
                self.do_for_calls(command, around);
            }
            if quiet {
                break;
            }
        }
        while let Some(command) = self.links.poll_command() {
            self.send_overlay(command, around.now);
        }
        self.note_reachability();
    }

    fn note_reachability(&mut self) {
        let reachable = self.homes.is_reachable();
        if reachable != self.was_reachable {
            self.was_reachable = reachable;
            self.news.push_back(PhoneNews::Homes);
        }
    }

    fn send_overlay(&mut self, command: DeviceCommand, now: Now) {
        if !self.overlay.send(command, now.mono_ms) {
            // The swarm's task is stuck or gone; the time-outs of every request tell their owners.
            tracing::warn!("the device swarm does not take commands");
        }
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Tells the call machine which relays we could vouch for: the homes' first.
    fn refresh_relays(&mut self, around: &Surroundings<'_>) {
        let relay = |descriptor: &&SupernodeDescriptor| {
            descriptor.roles().contains(Roles::RELAY)
                && Some(descriptor.service()) != self.excluded
                && around.peers.is_named_by_home(&descriptor.service())
        };
        let homes: Vec<ServiceKey> =
            self.homes.reserved().filter_map(|peer| Some(around.peers.get(peer)?.service)).collect();
        let mut relays: Vec<SupernodeDescriptor> =
            around.peers.descriptors(around.now.unix_ms).filter(relay).cloned().collect();
        // Those we heard of last are the likeliest to live.
        let unheard = |descriptor: &SupernodeDescriptor| Reverse(around.peers.told(descriptor.service()));
        relays.sort_by_key(|descriptor| (!homes.contains(&descriptor.service()), unheard(descriptor)));
        self.calls.set_relays(relays);
    }
}
