//! What goes in and out of [`Calls`](super::Calls): identifiers, settings, commands, events.

use std::fmt;

use tandem_proto::identity::{InvitationHash, InvitationSecret};
use tandem_proto::ids::{AccountKey, CallTag, DeviceKey, ServiceKey};
use tandem_proto::names::NetworkId;
/// Why a call or a leg ended: the numbers of HangUp and Decline (spec/signalling.md, "Reasons").
pub use tandem_proto::names::Reason as EndReason;
use tandem_proto::request::{BITS_MIN, Challenge};
use tandem_proto::signed::Home;
use tandem_proto::wire::{Candidate, MediaDescription, PathState, SignalFrame, Signed};

/// One call, the same on all its devices: 16 random bytes chosen by the caller's node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub [u8; 16]);

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallId({:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2])
    }
}

/// One device of the other account within a call; numbered by the machine, never reused in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u64);

/// One signalling stream, numbered by the driver, never reused in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalId(pub u64);

/// Who we are to others.
#[derive(Debug, Clone)]
pub struct CallsConfig {
    /// Our account.
    pub account: AccountKey,
    /// Key of this device.
    pub device: DeviceKey,
    /// `DeviceCertificate` of this device, signed by the account.
    pub certificate: Signed,
    /// Our newest `DeviceSet`.
    pub device_set: Signed,
    /// Name and version of this software, at most 64 bytes are sent.
    pub software: String,
    /// Feature bits (spec/signalling.md).
    pub features: u64,
    /// The name we claim, unverified; at most 64 bytes are sent.
    pub display_name: String,
    /// What happens when somebody calls who is not a contact.
    pub strangers: StrangerRules,
    /// For calls that come in.
    pub options: CallOptions,
}

/// What happens when somebody calls who is not a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strangers {
    /// It is declined without ringing, and they may leave one silent request.
    #[default]
    Requests,
    /// It rings.
    Ring,
    /// It is declined without ringing, and no requests are taken.
    Refuse,
}

/// All that is decided about accounts that are no contacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrangerRules {
    /// What their calls meet.
    pub mode: Strangers,
    /// Those who may ring get the media description while it rings, as contacts do.
    pub early_media: bool,
    /// Leading zero bits that the proof of a request needs, when few come.
    pub request_bits: u8,
    /// A proof is for one network.
    pub network: NetworkId,
}

impl Default for StrangerRules {
    fn default() -> Self {
        Self {
            mode: Strangers::default(),
            early_media: true,
            request_bits: BITS_MIN,
            network: NetworkId::default(),
        }
    }
}

/// An invitation, numbered by the driver's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvitationId(pub u64);

/// An invitation that is out: whoever shows its secret may ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Which.
    pub id: InvitationId,
    /// Of its secret.
    pub hash: InvitationHash,
    /// Then it ends.
    pub not_after_unix_ms: u64,
    /// So many different accounts may use it, each as often as it likes.
    pub uses: u32,
    /// Those that did.
    pub accounts: Vec<AccountKey>,
}

/// A silent request that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptRequest {
    /// Who asks.
    pub account: AccountKey,
    /// Bits of its proof: the weakest leaves first.
    pub bits: u8,
    /// When it came.
    pub at_unix_ms: u64,
    /// The person said no: another one of this account is passed over.
    pub declined: bool,
}

/// A silent request that has just come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// What is remembered of it.
    pub kept: KeptRequest,
    /// What they call themselves, unproved.
    pub name: String,
    /// What they say, at most 140 bytes.
    pub message: String,
    /// It takes the place of this account's, which is dropped.
    pub replaces: Option<AccountKey>,
}

/// How leaving a silent request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskOutcome {
    /// With so many of their devices. What they do with it they do not say.
    Left { devices: u32 },
    /// They take no requests.
    Closed,
    /// Very many come just now: try again later.
    Later,
    /// More work was asked for than this program does.
    TooMuchWork,
    /// No device could be reached.
    Unreachable,
    /// No device is in the directory.
    NotFound,
}

/// Why a request cannot be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody asks themselves.
    #[error("that is your own address")]
    Own,
    /// One at a time.
    #[error("another request is on its way; wait for it")]
    Busy,
    /// 140 bytes are the most.
    #[error("the message is longer than 140 bytes")]
    MessageTooLong,
}

/// When packets are sent twice, over two paths; passed on to the media session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redundancy {
    /// When it helps.
    #[default]
    Auto,
    /// From the first packet to the last.
    Always,
    /// Never.
    Off,
}

/// How a call is to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOptions {
    /// Keep to relays even with a contact.
    pub relay_only: bool,
    /// For the media session.
    pub redundancy: Redundancy,
    /// Of the account called: lets this call ring although strangers do not.
    pub invitation: Option<InvitationSecret>,
}

/// Which end of a call we are; the caller's media session is the controlling one (RFC 8445 §6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We placed it.
    Caller,
    /// We were rung.
    Callee,
}

/// A relay for which the driver is to get a grant (home protocol, `GrantRequest`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayWanted {
    /// The supernode to ask.
    pub service: ServiceKey,
    /// Where its service swarm listens (binary multiaddrs without `/p2p`).
    pub addresses: Vec<Vec<u8>>,
    /// Where its relay listens, UDP and TCP (binary multiaddrs).
    pub relay: Vec<Vec<u8>>,
    /// Goes into the grant.
    pub tag: CallTag,
}

/// A grant, ready for a TURN client.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayAccess {
    /// TURN user name.
    pub username: String,
    /// TURN password.
    pub password: String,
    /// UDP and TCP addresses of the relay (binary multiaddrs); empty: as in the descriptor.
    pub addresses: Vec<Vec<u8>>,
}

impl fmt::Debug for RelayAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayAccess").field("addresses", &self.addresses.len()).finish_non_exhaustive()
    }
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Ask the directory for the reach record. Answered by `handle_found` (any number of times) and
    /// `handle_lookup_done`.
    LookUp { call: CallId, account: AccountKey },
    /// Reach a device through the routes, in their order. Answered by `handle_signal_opened` or
    /// `handle_signal_failed`. `hurry`: a call goes on without its signalling, so try them nearly at once.
    OpenSignal { leg: LegId, device: DeviceKey, routes: Vec<Home>, hurry: bool },
    /// Send one frame; if the stream is gone, drop it.
    SendSignal { signal: SignalId, frame: SignalFrame },
    /// Close the stream after what was queued has been written.
    CloseSignal(SignalId),
    /// Tell the person (or let the answering rule decide): `answer` or `decline` follows.
    Ring {
        call: CallId,
        from: AccountKey,
        device: DeviceKey,
        contact: bool,
        name: String,
        /// By this invitation of ours it may ring.
        invitation: Option<InvitationId>,
    },
    /// An account rang by this invitation for the first time: remember it.
    InvitationUsed { invitation: InvitationId, account: AccountKey },
    /// A silent request came: keep it, show a count, make no sound.
    KeepRequest(NewRequest),
    /// Find a proof, on a thread of its own. Answered by `handle_proof`.
    SolveProof { leg: LegId, challenge: Challenge },
    /// How `ask` went.
    Asked { request: CallId, account: AccountKey, outcome: AskOutcome },
    /// Make a media session for this leg. Answered by `handle_media_prepared` or `handle_media_failed`.
    PrepareMedia { call: CallId, leg: LegId, role: Role, direct_allowed: bool, redundancy: Redundancy },
    /// The other end's media description. ICE and DTLS may start, sound may not.
    RemoteMedia { leg: LegId, media: MediaDescription },
    /// Ask these supernodes for a grant each. Answered by one `handle_grant` a relay.
    RequestGrants { leg: LegId, relays: Vec<RelayWanted> },
    /// Say which of these relays this device's own homes know (those it has heard of from them, and those they name when
    /// asked). Answered by `handle_relays_confirmed`, if by anything.
    ConfirmRelays { leg: LegId, relays: Vec<ServiceKey> },
    /// Allocate there and offer the relayed address through `handle_local_candidates`.
    AddRelay { leg: LegId, service: ServiceKey, tag: CallTag, access: RelayAccess },
    /// A candidate of the other end; `generation` counts its changes of network.
    AddRemoteCandidate { leg: LegId, generation: u32, candidate: Candidate },
    /// The call is agreed: open the microphone and the speaker.
    StartMedia { call: CallId, leg: LegId },
    /// The stream has no call and waits for the next: probe it rarely (`idle`); or it has one again.
    SetSignalIdle { signal: SignalId, idle: bool },
    /// Learn of more relays (ask a home) and tell them through `set_relays`, now and when there are newer ones.
    RefreshRelays,
    /// What the other end hears on each path.
    RemotePathReport { leg: LegId, sequence: u64, paths: Vec<PathState> },
    /// Drop the media session of this leg.
    EndMedia { leg: LegId },
    /// A newer device set was seen and verified: keep it (readers remember the highest epoch).
    RememberDeviceSet { account: AccountKey, epoch: u64, device_set: Signed },
    /// News for the person and the log.
    Report { call: CallId, event: CallEvent },
}

/// News of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEvent {
    /// At least one device of the callee rings (caller only).
    Ringing,
    /// Somebody picked up; sound starts (both ends). `relay_only`: the other end keeps to relays, by its settings or
    /// because we are no contact of its.
    Answered { leg: LegId, device: DeviceKey, relay_only: bool },
    /// First sound arrived.
    Sound,
    /// Both called each other at the same time: this call goes on as `into`, already answered.
    Merged { into: CallId },
    /// An explanatory sentence was added to the call's notes.
    Note(String),
    /// The call is over; nothing follows.
    Ended(Ended),
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// For programs.
    pub reason: EndReason,
    /// For people.
    pub why: String,
    /// What it took to set the call up.
    pub setup: SetupMs,
    /// What happened in the call, oldest first.
    pub notes: Vec<String>,
    /// Which of our own account's devices answered or declined instead of this one: the label in its certificate.
    pub by: Option<String>,
}

/// Set-up times in milliseconds; `None`: that point was not reached (or is not ours to see: the callee has no look-up).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetupMs {
    /// `place` to the first record found.
    pub lookup: Option<u64>,
    /// `place` to the first Ringing.
    pub ringing: Option<u64>,
    /// Answer (received by the caller, given by the callee) to first sound.
    pub media: Option<u64>,
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The directory is asked.
    LookingUp,
    /// Devices are being connected to.
    Reaching,
    /// A device rings; on the callee's side: ours does.
    Ringing,
    /// Callee only: answered, the caller's confirmation is awaited.
    Answering,
    /// Agreed: sound may flow.
    Established,
}

/// A call as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallStatus {
    /// Which call.
    pub call: CallId,
    /// The other account.
    pub peer: AccountKey,
    /// Whether it is a contact.
    pub contact: bool,
    /// Which end we are.
    pub role: Role,
    /// Where it stands.
    pub stage: Stage,
    /// The leg that carries sound, once established.
    pub leg: Option<LegId>,
    /// Times so far.
    pub setup: SetupMs,
    /// Relays joined on that leg, best first.
    pub relays: Vec<ServiceKey>,
    /// Whether a signalling stream of that leg is open.
    pub signalling: bool,
    /// Since when nothing has been heard on any path, in monotonic milliseconds; `None`: all is well, or not yet.
    pub silent_since_ms: Option<u64>,
    /// What happened so far, oldest first.
    pub notes: Vec<String>,
}

/// Why a call cannot be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// One call at a time.
    #[error("another call is going on; end it first")]
    Busy,
    /// Nobody calls themselves.
    #[error("that is your own address; give the address of the person you want to call")]
    Own,
}

/// Why a call cannot be answered or declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It may have ended meanwhile.
    #[error("there is no such call any more")]
    NoSuchCall,
    /// Already answered, or placed by us.
    #[error("this call is not ringing here")]
    NotRinging,
}
