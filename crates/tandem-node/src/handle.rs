//! The seam between the node's loop and everything a person uses: the local API, the CLI, the tests.
//!
//! A front end holds a [`NodeHandle`]: it sends a [`Request`], whose reply comes back on a channel of its own, and hears
//! [`NodeEvent`]s. The loop holds the [`NodeSide`]. Every channel is bounded: a full queue answers "busy" at once, and a
//! listener that falls behind is told how many events it missed.

use std::path::PathBuf;
use std::time::Duration;

use tandem_api::{
    AcceptRequest, AccountWords, AnswerRequest, Block, CallRequest, CallStarted, CallSummary, CallWhy,
    CapsChange, Cleared, ConnectionView, Contact, ContactChange, ContactRequest, DeviceChange, DeviceView,
    Devices, EchoRequest, Identity, InvitationMade, InvitationView, LedgerView, Metrics, NetworkReport,
    NewConsent, NewContact, NewDevice, NewInvitation, NewRequest, NodeEvent, PageLink, Problem, Ready,
    SentRequest, SoundAnswer, SoundOffer, Status, VolunteerView, WordsRequest,
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::api::ApiServer;
use crate::config::Config;
use crate::keys::Passphrase;
use crate::messages::Code;

/// Requests that may wait for the loop; more are refused with [`Code::NodeBusy`].
pub const REQUEST_QUEUE: usize = 64;
/// Events kept for a slow listener.
pub const EVENT_QUEUE: usize = 256;

/// What [`crate::start`] needs.
#[derive(Debug)]
pub struct NodeConfig {
    pub config: Config,
    /// The data folder; made when absent.
    pub data: PathBuf,
    /// Opens sealed key files, and seals them when they are made.
    pub passphrase: Option<Passphrase>,
    /// Serve the local API at `config.api`, and write `api.json` so that the CLI finds it.
    pub serve_api: bool,
    /// The number of the volunteers' terms now: [`crate::messages::TERMS`], and another one in tests.
    pub terms: u32,
}

/// Where a reply goes. Dropping it tells the asker that the node stopped.
pub type Reply<T> = oneshot::Sender<Result<T, Problem>>;

/// What a front end asks of the loop.
#[derive(Debug)]
pub enum Request {
    Status(Reply<Status>),
    Identity(Reply<Identity>),
    /// The 24 words of the account, where they are on this device.
    Words(WordsRequest, Reply<AccountWords>),
    Contacts(Reply<Vec<Contact>>),
    AddContact(NewContact, Reply<Contact>),
    /// `who` is an address or a name.
    ChangeContact {
        who: String,
        change: ContactChange,
        reply: Reply<Contact>,
    },
    RemoveContact {
        who: String,
        reply: Reply<()>,
    },
    /// Replies when the call has a name; what follows comes as events.
    PlaceCall(CallRequest, Reply<CallStarted>),
    /// A test call to a supernode's echo service; like `PlaceCall`.
    Echo(EchoRequest, Reply<CallStarted>),
    /// `call` may be empty where only one call can be meant.
    Answer {
        call: String,
        answer: AnswerRequest,
        reply: Reply<CallSummary>,
    },
    /// A page wants to be microphone and speaker of a call.
    AttachSound {
        call: String,
        offer: SoundOffer,
        reply: Reply<SoundAnswer>,
    },
    /// That page, or whichever there is, no longer does.
    DetachSound {
        call: String,
        attachment: Option<u64>,
        reply: Reply<()>,
    },
    Decline {
        call: String,
        reply: Reply<CallSummary>,
    },
    HangUp {
        call: String,
        reply: Reply<CallSummary>,
    },
    /// Calls going on first, then past ones, newest first, at most `limit` in all.
    Calls {
        limit: u32,
        reply: Reply<Vec<CallSummary>>,
    },
    /// Why a call goes, or went, as it does; `call` as for `Answer`, and past ones by the beginning of their name.
    Why {
        call: String,
        reply: Reply<CallWhy>,
    },
    /// Looks at the network this machine is in; takes up to 3 s.
    Network(Reply<NetworkReport>),
    /// The account's devices; takes a few seconds, since they are asked whether they are there.
    Devices(Reply<Devices>),
    /// Adds the device that printed a link.
    AddDevice(NewDevice, Reply<DeviceView>),
    /// `who` is a label or the beginning of a key.
    RenameDevice {
        who: String,
        change: DeviceChange,
        reply: Reply<DeviceView>,
    },
    /// Shuts a device out for ever; replies with what it was.
    RevokeDevice {
        who: String,
        reply: Reply<DeviceView>,
    },
    Connections(Reply<Vec<ConnectionView>>),
    /// About serving others.
    Volunteer(VolunteerRequest),
    Metrics(Reply<Metrics>),
    /// About people who are no contacts.
    Strangers(StrangerRequest),
    /// Take nothing new, end calls and serving in good order within `drain`, then end the loop. Replies at once.
    Shutdown {
        drain: Duration,
        reply: Reply<()>,
    },
}

/// What a front end asks about serving others. Whoever changes something hears how it stands then.
#[derive(Debug)]
pub enum VolunteerRequest {
    View(Reply<VolunteerView>),
    /// The owner agrees to the terms.
    Accept(NewConsent, Reply<VolunteerView>),
    SetCaps(CapsChange, Reply<VolunteerView>),
    /// The owner takes consent back: what is served is drained.
    Withdraw(Reply<VolunteerView>),
    /// What was served in the last days, today among them.
    Ledger {
        days: u64,
        reply: Reply<LedgerView>,
    },
}

/// What a front end asks about people who are no contacts.
#[derive(Debug)]
pub enum StrangerRequest {
    Invite(NewInvitation, Reply<InvitationMade>),
    Invitations(Reply<Vec<InvitationView>>),
    Revoke {
        id: u64,
        reply: Reply<()>,
    },
    /// Silent requests that wait.
    Requests(Reply<Vec<ContactRequest>>),
    /// `who` is the id of a request, its beginning, or an address.
    Accept {
        who: String,
        accept: AcceptRequest,
        reply: Reply<Contact>,
    },
    Decline {
        who: String,
        reply: Reply<()>,
    },
    Clear(Reply<Cleared>),
    /// Leave a request with somebody; how it goes comes as events.
    Leave(NewRequest, Reply<SentRequest>),
    Sent(Reply<Vec<SentRequest>>),
    /// `who` is an address or a name.
    Block {
        who: String,
        reply: Reply<Block>,
    },
    Unblock {
        who: String,
        reply: Reply<()>,
    },
    Blocks(Reply<Vec<Block>>),
}

/// What a front end holds; cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    requests: mpsc::Sender<Request>,
    events: broadcast::Sender<NodeEvent>,
    ready: watch::Receiver<Option<Ready>>,
}

/// What the loop holds.
#[derive(Debug)]
pub struct NodeSide {
    pub requests: mpsc::Receiver<Request>,
    /// Sending fails only while nobody listens, which is no error.
    pub events: broadcast::Sender<NodeEvent>,
    /// `Some` from the moment others can reach this node; kept up to date.
    pub ready: watch::Sender<Option<Ready>>,
}

/// The two ends of the seam.
#[must_use]
pub fn channel() -> (NodeHandle, NodeSide) {
    let (request_tx, request_rx) = mpsc::channel(REQUEST_QUEUE);
    let (event_tx, _) = broadcast::channel(EVENT_QUEUE);
    let (ready_tx, ready_rx) = watch::channel(None);
    let handle = NodeHandle { requests: request_tx, events: event_tx.clone(), ready: ready_rx };
    (handle, NodeSide { requests: request_rx, events: event_tx, ready: ready_tx })
}

impl NodeHandle {
    /// Sends a request made around a fresh reply channel and waits for the reply.
    ///
    /// # Errors
    /// [`Code::NodeBusy`] when the queue is full, [`Code::NodeStopped`] when the loop is gone, else the loop's own.
    pub async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(request(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Code::NodeBusy.problem(),
            mpsc::error::TrySendError::Closed(_) => Code::NodeStopped.problem(),
        })?;
        answer.await.unwrap_or_else(|_| Err(Code::NodeStopped.problem()))
    }

    /// Events from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }

    /// Waits until others can reach the node. `None` when the node ended first.
    pub async fn ready(&self) -> Option<Ready> {
        let mut ready = self.ready.clone();
        ready.wait_for(Option::is_some).await.ok().and_then(|value| value.clone())
    }

    /// Waits until the loop has ended.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }
}

/// A node that runs in this process.
#[derive(Debug)]
pub struct RunningNode {
    handle: NodeHandle,
    node_loop: JoinHandle<()>,
    api: Option<ApiServer>,
}

impl RunningNode {
    /// Joins what [`crate::start`] began. `node_loop` must end by itself after [`Request::Shutdown`], and must own what
    /// holds the data folder (store, lock).
    #[must_use]
    pub fn new(handle: NodeHandle, node_loop: JoinHandle<()>, api: Option<ApiServer>) -> Self {
        Self { handle, node_loop, api }
    }

    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// See [`NodeHandle::ready`].
    pub async fn ready(&self) -> Option<Ready> {
        self.handle.ready().await
    }

    /// A link that opens the page once, within two minutes; `None` where this node serves no API.
    #[must_use]
    pub fn page_link(&self) -> Option<PageLink> {
        self.api.as_ref().map(ApiServer::page_link)
    }

    /// Waits until the loop ends by itself (the API was asked to stop it, or it failed).
    pub async fn ended(&mut self) {
        self.handle.ended().await;
    }

    /// Ends the node: calls and serving get `drain` to end in good order, then the loop is stopped by force.
    pub async fn shutdown(mut self, drain: Duration) {
        // A loop that is gone already, or too busy to take the request, is stopped below.
        drop(self.handle.ask(|reply| Request::Shutdown { drain, reply }).await);
        let grace = drain + Duration::from_secs(1);
        if tokio::time::timeout(grace, &mut self.node_loop).await.is_err() {
            tracing::warn!("the node did not end within {grace:?}; stopping it by force");
            self.node_loop.abort();
        }
        if let Some(api) = self.api {
            api.stop().await;
        }
    }
}
