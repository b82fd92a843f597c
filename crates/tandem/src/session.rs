//! One call from the command line, through the running node or through one started for it.

use std::collections::BTreeSet;
use std::time::Duration;

use tandem_api::{
    CallEvent, CallRequest, CallResult, CallStarted, CallStep, CallSummary, CallWhy, EchoRequest, NodeEvent,
    Problem,
};
use tandem_node::handle::{NodeConfig, NodeHandle, Reply, Request};
use tandem_node::installation::StartError;
use tandem_node::messages::Code;
use tandem_node::platform::signals;
use tokio::sync::broadcast::error::RecvError;

use crate::client::Client;
use crate::commands;
use crate::output;

/// A node started for one call gets this long to reach its homes.
const REACHABLE_TIME: Duration = Duration::from_secs(20);
/// It says goodbye for this long.
const DRAIN: Duration = Duration::from_secs(2);

/// What is wanted.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    Call(CallRequest),
    Echo(EchoRequest),
}

/// Follows one call and prints it.
#[derive(Debug)]
pub(crate) struct Follower {
    json: bool,
    /// Explain it too.
    why: bool,
    /// What was explained already, so that each sentence comes once while the call goes on.
    told: BTreeSet<String>,
}

impl Follower {
    pub(crate) fn new(json: bool, why: bool) -> Self {
        Self { json, why, told: BTreeSet::new() }
    }

    /// Prints an event of the call; the result when it is over.
    fn handle(&self, event: &CallEvent) -> Option<CallResult> {
        if self.json {
            output::json(event);
        } else {
            output::line(narrate(&event.step));
        }
        match &event.step {
            CallStep::Ended { result, .. } => Some(result.clone()),
            _ => None,
        }
    }

    /// Whether an explanation belongs behind this event.
    fn wants_why(&self, event: &CallEvent) -> bool {
        let telling = matches!(
            event.step,
            CallStep::Connected { .. } | CallStep::PathChanged(_) | CallStep::Ended { .. }
        );
        self.why && telling
    }

    /// While the call goes on what is new; at its end all of it.
    fn explain(&mut self, why: &CallWhy) {
        if self.json {
            return output::json(&serde_json::json!({ "event": "why", "why": why }));
        }
        if why.facts.reason.is_some() {
            return output::line(format!("\n{}", commands::why::render(why)));
        }
        for finding in &why.findings {
            if self.told.insert(finding.text.clone()) {
                output::line(output::wrapped("  why: ", &finding.text).trim_end());
            }
        }
    }
}

/// Through the running node. Ctrl-C hangs up, and the result still comes.
pub(crate) fn through(client: &Client, order: &Order, mut follower: Follower) -> Result<CallResult, Problem> {
    // Listening begins first, so that nothing of the call is missed.
    let mut events = client.events()?;
    let started: CallStarted = match order {
        Order::Call(request) => client.post("/api/calls", request)?,
        Order::Echo(request) => client.post("/api/echo", request)?,
    };
    hang_up_on_signal(client.clone(), started.call.clone());
    while let Some(event) = events.next()? {
        match event {
            NodeEvent::Call(event) if event.call == started.call => {
                let result = follower.handle(&event);
                if follower.wants_why(&event) {
                    explain(&mut follower, client.get(&format!("/api/calls/{}/why", started.call)));
                }
                if let Some(result) = result {
                    return Ok(result);
                }
            }
            // The end may be among what was missed.
            NodeEvent::Missed { .. } => {
                if let Some(result) = ended_result(client, &started.call)? {
                    return Ok(result);
                }
            }
            _ => {}
        }
    }
    Err(Code::NodeStopped.problem())
}

/// A call whose explanation cannot be had is still a call.
fn explain(follower: &mut Follower, why: Result<CallWhy, Problem>) {
    match why {
        Ok(why) => follower.explain(&why),
        Err(problem) => tracing::debug!(%problem, "no explanation"),
    }
}

fn ended_result(client: &Client, call: &str) -> Result<Option<CallResult>, Problem> {
    let calls: Vec<CallSummary> = client.get("/api/calls?limit=1000")?;
    let found = calls.into_iter().find(|summary| summary.call == call);
    Ok(found.filter(|summary| summary.ended_unix_ms.is_some()).map(|summary| summary.result))
}

fn hang_up_on_signal(client: Client, call: String) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        if runtime.block_on(signals::terminate()).is_ok() {
            let path = format!("/api/calls/{call}/hangup");
            if let Err(problem) = client.post_empty::<CallSummary>(&path) {
                tracing::warn!(%problem, "the call could not be ended");
            }
        }
    });
}

/// With a node of its own, which ends with the call.
pub(crate) async fn alone(
    config: NodeConfig,
    order: Order,
    follower: Follower,
) -> Result<CallResult, Problem> {
    let node = tandem_node::start(config).await.map_err(|error: StartError| error.problem())?;
    let handle = node.handle();
    let result = alone_with(&handle, order, follower).await;
    node.shutdown(DRAIN).await;
    result
}

async fn alone_with(
    handle: &NodeHandle,
    order: Order,
    mut follower: Follower,
) -> Result<CallResult, Problem> {
    find_out(handle, &order).await?;
    match tokio::time::timeout(REACHABLE_TIME, handle.ready()).await {
        Ok(Some(_)) => {}
        Ok(None) => return Err(Code::NodeStopped.problem()),
        Err(_) => return Err(Code::NoSupernode.problem()),
    }
    let mut events = handle.events();
    let started = handle.ask(|reply| order.request(reply)).await?;
    let signal = signals::terminate();
    tokio::pin!(signal);
    let mut signalled = false;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(NodeEvent::Call(event)) if event.call == started.call => {
                    let result = follower.handle(&event);
                    if follower.wants_why(&event) {
                        let call = started.call.clone();
                        explain(&mut follower, handle.ask(|reply| Request::Why { call, reply }).await);
                    }
                    if let Some(result) = result {
                        return Ok(result);
                    }
                }
                Err(RecvError::Closed) => return Err(Code::NodeStopped.problem()),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
            },
            _ = &mut signal, if !signalled => {
                signalled = true;
                let call = started.call.clone();
                handle.ask(|reply| Request::HangUp { call, reply }).await?;
            }
            () = handle.ended() => return Err(Code::NodeStopped.problem()),
        }
    }
}

/// What cannot be done at all is said at once, not after a long look for supernodes.
async fn find_out(handle: &NodeHandle, order: &Order) -> Result<(), Problem> {
    if let Some(path) = order.play() {
        let unreadable =
            |error: std::io::Error| Code::SoundFile.with(&[("path", path), ("detail", &error.to_string())]);
        std::fs::File::open(path).map_err(unreadable)?;
    }
    if let Order::Call(CallRequest { address: who, .. }) = order
        && !who.to_lowercase().starts_with("tandem:")
    {
        let contacts = handle.ask(Request::Contacts).await?;
        if !contacts.iter().any(|contact| contact.name.eq_ignore_ascii_case(who)) {
            return Err(Code::NoSuchContact.with(&[("who", who)]));
        }
    }
    let status = handle.ask(Request::Status).await?;
    let alone = Code::NoBootstrap.problem();
    if status.problems.iter().any(|problem| problem.code == alone.code) { Err(alone) } else { Ok(()) }
}

impl Order {
    fn play(&self) -> Option<&str> {
        match self {
            Self::Call(request) => request.play.as_deref(),
            Self::Echo(request) => request.play.as_deref(),
        }
    }

    fn request(self, reply: Reply<CallStarted>) -> Request {
        match self {
            Self::Call(request) => Request::PlaceCall(request, reply),
            Self::Echo(request) => Request::Echo(request, reply),
        }
    }
}

/// An event in a sentence.
fn narrate(step: &CallStep) -> String {
    match step {
        CallStep::LookingUp { address } => format!("Looking up {address} …"),
        CallStep::Found { devices: 1, after_ms } => format!("Found one device ({after_ms} ms)."),
        CallStep::Found { devices, after_ms } => format!("Found {devices} devices ({after_ms} ms)."),
        CallStep::Incoming { address, contact, .. } => {
            format!("{} calls.", contact.as_deref().unwrap_or(address))
        }
        CallStep::Ringing { after_ms } => format!("It rings there ({after_ms} ms)."),
        CallStep::Answered { after_ms } => format!("Answered ({after_ms} ms)."),
        CallStep::Connected { relays, .. } if relays.is_empty() => "Connected, directly.".to_owned(),
        CallStep::Connected { relays, .. } => format!("Connected, through {}.", relays.join(" and ")),
        CallStep::PathChanged(change) => {
            format!(
                "The sound now goes another way: {} → {}. {}",
                change.from,
                change.to,
                sentence(&change.why)
            )
        }
        CallStep::Mirroring { on: true, why } => {
            format!("Packets are doubled over a second path. {}", sentence(why))
        }
        CallStep::Mirroring { on: false, why } => format!("Packets are no longer doubled. {}", sentence(why)),
        CallStep::SoundAttached { .. } => "A page is microphone and speaker now.".to_owned(),
        CallStep::SoundDetached { .. } => "No page is there now; silence is sent.".to_owned(),
        CallStep::SoundRate { bits_per_second, .. } => {
            format!("The sound has {} kbit/s now, which is what the way carries.", bits_per_second / 1000)
        }
        CallStep::Ended { result, .. } => format!("Over. {}", result.why),
    }
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

/// The figures of a call, for a person.
pub(crate) fn summary(result: &CallResult) -> String {
    if !result.connected {
        return "No sound came through.".to_owned();
    }
    let packets = &result.packets;
    let made_up = result.concealed_ms.map(|ms| format!("; {ms} ms of sound made up")).unwrap_or_default();
    format!(
        "{} packets sent, {} received, {} lost; longest gap {} ms{made_up}.",
        packets.sent, packets.received, packets.lost, result.longest_gap_ms
    )
}
