use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the packets of a call are doubled over a second path (spec/media.md "Redundancy").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Redundancy {
    /// Mirror at the start and whenever a path is lossy or silent; else keep the second path warm.
    #[default]
    Auto,
    /// Mirror all the time.
    Always,
    /// One path at a time.
    Off,
}

/// What speaks and listens on this side of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallEndpoint {
    /// Files: `play` is sent (silence when absent or over), what arrives goes to `record` (nowhere when absent).
    #[default]
    File,
    /// What arrives is sent back.
    Echo,
    /// A page of a browser, which attaches with `POST /api/calls/{call}/sound`; silence while none is attached.
    Page,
}

/// Body of `POST /api/calls`. File paths are on the node's machine and absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// A `tandem:` address, a link with an invitation, or the name of a contact.
    pub address: String,
    /// WAV file to send, from the moment the call connects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play: Option<String>,
    /// WAV file to write what is heard to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Hang up this long after the call connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// Default: as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundancy: Option<Redundancy>,
    /// Never show the other side this machine's address. Default: as configured.
    #[serde(default)]
    pub relay_only: bool,
    #[serde(default)]
    pub endpoint: CallEndpoint,
}

/// Body of `POST /api/echo`: a test call to the echo service of a supernode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EchoRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Default: 5,000; until somebody hangs up where the endpoint is a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// `file` or `page`.
    #[serde(default)]
    pub endpoint: CallEndpoint,
}

/// Body of `POST /api/calls/{call}/answer`; without a body silence is sent and nothing kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    #[serde(default)]
    pub endpoint: CallEndpoint,
}

/// Which of the two descriptions of WebRTC it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SdpKind {
    Offer,
    Answer,
}

/// Body of `POST /api/calls/{call}/sound`: a page wants to be microphone and speaker of the call.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SoundOffer {
    /// `offer`.
    #[serde(rename = "type")]
    pub kind: SdpKind,
    /// The browser's offer: one stream of sound, with Opus. Its candidates are not needed.
    pub sdp: String,
    /// Listen at this machine's address in its own network too, for browsers that do not speak WebRTC with 127.0.0.1.
    #[serde(default)]
    pub lan: bool,
}

/// Not the description itself: it holds a password.
impl std::fmt::Debug for SoundOffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SoundOffer({} bytes)", self.sdp.len())
    }
}

/// Answer to `POST /api/calls/{call}/sound`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SoundAnswer {
    /// `answer`.
    #[serde(rename = "type")]
    pub kind: SdpKind,
    pub sdp: String,
    /// Names this attachment in events; counts up within a call, from 1.
    pub attachment: u64,
}

/// Not the description itself: it holds a password.
impl std::fmt::Debug for SoundAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SoundAnswer({})", self.attachment)
    }
}

/// Why a page no longer holds the sound of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DetachReason {
    /// Another page took its place.
    Replaced,
    /// Somebody asked for it.
    Left,
    /// The page closed the connection, or was closed.
    Closed,
    /// Nothing came of it any more.
    Silent,
}

/// Answer to a request that began a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallStarted {
    /// Names the call in events and in `/api/calls/{call}`.
    pub call: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallDirection {
    Outgoing,
    Incoming,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    LookingUp,
    /// Ringing there (outgoing) or here (incoming).
    Ringing,
    /// Answered; no sound yet.
    Connecting,
    Talking,
    Ended,
}

/// The kind of way the packets of a call took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallPath {
    Direct,
    Relayed,
}

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// This side hung up.
    HungUp,
    /// The other side hung up.
    RemoteHungUp,
    Declined,
    Busy,
    /// Nobody answered within 60 s.
    NoAnswer,
    /// Another device of the callee took the call.
    AnsweredElsewhere,
    /// The caller gave up before anybody answered.
    Cancelled,
    /// The directory knows no such account, or none of its devices is reachable now.
    NotFound,
    /// Its devices are known and none could be reached.
    Unreachable,
    /// Signalling worked; no path for the sound was found.
    NoPath,
    /// The sound stopped and no other path was found.
    MediaLost,
    /// They take no calls from strangers; or a certificate, signature or message of the other side was wrong.
    Refused,
    /// The node is stopping.
    Stopping,
    Failed,
}

/// Something that happened in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallEvent {
    /// Which call.
    pub call: String,
    pub at_unix_ms: u64,
    #[serde(flatten)]
    pub step: CallStep,
}

/// What happened; in JSON the field `event` says which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum CallStep {
    /// The directory is being asked.
    LookingUp { address: String },
    /// The directory answered; so many devices are reachable.
    Found { devices: u32, after_ms: u64 },
    /// A call for this person: answer or decline it.
    Incoming {
        /// Address of the caller, proved by its certificate.
        address: String,
        /// The contact's name, if the caller is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contact: Option<String>,
        /// What the caller calls itself, unproved.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        claimed_name: String,
        /// The label of the invitation by which a stranger may ring.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invitation: Option<String>,
    },
    /// A device of the callee rings.
    Ringing { after_ms: u64 },
    /// Somebody picked up; sound follows.
    Answered { after_ms: u64 },
    /// First sound arrived.
    Connected { after_ms: u64, path: CallPath, relays: Vec<String> },
    /// The packets take another way.
    PathChanged(PathChange),
    /// Packets are now doubled over a second path, or no longer.
    Mirroring { on: bool, why: String },
    /// A page is microphone and speaker of this call now.
    SoundAttached { attachment: u64 },
    /// It is no longer; the call goes on, and silence is sent until a page attaches again.
    SoundDetached { attachment: u64, reason: DetachReason },
    /// What the way carries: a page should encode with so many bits a second from now on.
    SoundRate { bits_per_second: u32, packet_ms: u32 },
    /// It is over.
    Ended { reason: EndReason, result: CallResult },
}

/// A change of the way a call's packets take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathChange {
    /// Since the call connected.
    pub into_call_ms: u64,
    /// Peer id of the relay before; `direct` without one.
    pub from: String,
    pub to: String,
    /// In a sentence.
    pub why: String,
}

/// The last line of `tandem call --json`. Scripts rely on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallResult {
    /// True only if sound came through.
    pub connected: bool,
    /// The path in use at the end; null if the call never connected.
    pub path: Option<CallPath>,
    /// Peer ids of the relays used, in order of first use; empty on a direct call.
    pub relays: Vec<String>,
    pub setup_ms: SetupTimes,
    pub packets: PacketCounts,
    /// Longest time between arrivals of two distinct packets, at the socket.
    pub longest_gap_ms: u64,
    /// Sound that was made up because its packets came too late or never; null where this side decodes nothing (a page does
    /// it itself).
    pub concealed_ms: Option<u64>,
    /// Why it ended or did not connect, in a sentence.
    pub why: String,
    /// The label of the own account's device that answered or declined the call instead of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
}

/// How long setting up took; null for a step that was not reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetupTimes {
    /// From the request to the directory's answer.
    pub lookup: Option<u64>,
    /// From the request to the first device that rang.
    pub ringing: Option<u64>,
    /// From the answer to the first sound.
    pub media: Option<u64>,
}

/// Sound packets, each counted once however many paths it took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PacketCounts {
    pub sent: u64,
    pub received: u64,
    /// Sequence numbers that never came on any path.
    pub lost: u64,
}

/// One call, going on or over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallSummary {
    pub call: String,
    /// Address of the other account.
    pub address: String,
    /// The contact's name, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub direction: CallDirection,
    pub state: CallState,
    pub started_unix_ms: u64,
    pub answered_unix_ms: Option<u64>,
    pub ended_unix_ms: Option<u64>,
    pub reason: Option<EndReason>,
    /// So far, or final.
    pub result: CallResult,
    /// Are packets doubled now?
    pub mirroring: bool,
    /// Peer ids of the relays that carry the call now, the one this side sends on first; empty on a direct call.
    #[serde(default)]
    pub relays_in_use: Vec<String>,
    /// The paths used, when they changed and why.
    pub path_changes: Vec<PathChange>,
    /// What speaks and listens here; null before it is answered, and of past calls.
    #[serde(default)]
    pub endpoint: Option<CallEndpoint>,
    /// Which attachment of a page holds the sound now.
    #[serde(default)]
    pub attachment: Option<u64>,
    /// What the caller calls itself, unproved; not kept when the call is over.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub claimed_name: String,
    /// The label of the invitation by which a stranger rings; not kept when the call is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<String>,
    /// A test call to an echo service; not kept when the call is over.
    #[serde(default)]
    pub echo: bool,
}
