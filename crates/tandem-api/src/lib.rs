//! Types of the local API and of the CLI's JSON: plain data, no behaviour.
//!
//! Two rules make them stable. A field is added, never renamed or removed within one API version. A moment is
//! `…_unix_ms` (milliseconds since 1970-01-01 UTC), a length of time `…_ms`, an amount of data bytes.
//! Keys of devices and supernodes are text as the overlay writes them (a peer id); accounts are `tandem:` addresses.

mod call;
mod config;
mod connection;
mod contact;
mod device;
mod doctor;
mod event;
mod identity;
mod metrics;
mod network;
mod page;
mod policy;
mod private;
mod problem;
mod report;
mod status;
mod stranger;
mod volunteer;
mod why;

pub use call::{
    AnswerRequest, CallDirection, CallEndpoint, CallEvent, CallPath, CallRequest, CallResult, CallStarted,
    CallState, CallStep, CallSummary, DetachReason, EchoRequest, EndReason, PacketCounts, PathChange,
    Redundancy, SdpKind, SetupTimes, SoundAnswer, SoundOffer,
};
pub use config::{ConfigEntry, ConfigView, Origin};
pub use connection::{ConnectionRole, ConnectionView, NextSupernode, ServedAsHome, SupernodeWhy};
pub use contact::{Contact, ContactChange, NewContact};
pub use device::{DeviceChange, DeviceView, Devices, JoinOffer, NewDevice};
pub use doctor::{CheckState, DoctorCheck, DoctorReport};
pub use event::{EventsHello, NodeEvent};
pub use identity::{AccountWords, Identity, WordsRequest};
pub use metrics::{Metric, MetricKind, Metrics};
pub use network::{
    AddressScope, AddressView, NatMapping, NatView, NetworkKind, NetworkReport, SupernodeProbe, Works,
};
pub use page::{PageCode, PageLink, PageSession};
pub use policy::{PolicyCheck, PolicyRule, PolicyView};
pub use private::{NetworkCreated, NetworkView, OwnMembership};
pub use problem::{Failure, Problem};
pub use report::{CallReport, PathSeries, SoundReport};
pub use status::{HomeView, Ready, Status};
pub use stranger::{
    AcceptRequest, Block, Cleared, ContactRequest, InvitationMade, InvitationView, NewBlock, NewInvitation,
    NewRequest, SentRequest, SentState,
};
pub use volunteer::{
    CandidateView, CapsChange, CapsView, ConsentView, LedgerLine, LedgerView, MissingView, NewConsent,
    ServingState, VolunteerRole, VolunteerView, WayView,
};
pub use why::{
    CallFacts, CallWhy, CandidateFact, CandidateType, DeviceFact, DeviceFailure, Finding, PathCondition,
    PathFact, RelayFact, RelayState, SetupStep, StepKind, SwitchFact,
};

/// The version of this API, in every path: `/api/…` speaks this one and says it in [`Status::api_version`].
pub const API_VERSION: u32 = 1;
