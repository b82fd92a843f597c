use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CallEvent, Contact, Problem, SentRequest, ServingState};

/// First message a client sends on the WebSocket `/api/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsHello {
    /// The bearer token.
    pub token: String,
}

/// One message of the WebSocket `/api/events`; in JSON the field `type` says which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NodeEvent {
    /// The token was right; events follow. Sent by the API, not by the node.
    Welcome {
        api_version: u32,
    },
    Call(CallEvent),
    /// The homes changed. Peer ids.
    Homes {
        ready: bool,
        homes: Vec<String>,
    },
    ContactAdded {
        contact: Contact,
    },
    ContactChanged {
        contact: Contact,
    },
    ContactRemoved {
        address: String,
    },
    /// Silent requests came or were decided on; so many wait. No bell rings by this.
    RequestsWaiting {
        count: u64,
    },
    /// A silent request of ours began or ended.
    RequestSent {
        request: SentRequest,
    },
    /// What this node does for others changed.
    Serving {
        state: ServingState,
    },
    /// The account's devices changed, or what is known of them. Read them anew.
    Devices {
        epoch: u64,
    },
    /// Something a person should know.
    Notice {
        problem: Problem,
    },
    /// This client was too slow; so many events were left out. Read the state anew.
    Missed {
        events: u64,
    },
    /// The node is stopping; the calls get so long to end.
    Stopping {
        within_ms: u64,
    },
}
