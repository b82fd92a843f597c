//! The media of a call: one thread a leg, which owns the sockets and the clock of its session and its endpoint.
//!
//! The loop tells it what to do through [`MediaHandle`]; it answers with [`MediaNews`]. A thread of its own keeps sound
//! away from whatever else the node is busy with.

mod endpoint;
mod report;
mod sockets;
mod task;

use std::net::IpAddr;

use tandem_core::call::LegId;
use tandem_media::session::{Candidate, Event, RelayAccess, SessionConfig, SessionStats};
use tandem_proto::wire::{MediaDescription, PathReport};
use tokio::sync::{mpsc, oneshot};

use super::port_mapping::PortMapping;
use crate::platform::network::Network;
pub(crate) use endpoint::EndpointPlan;
pub(crate) use endpoint::check_playable;
pub(crate) use report::{MediaReport, STEP_MS, route_name};

/// Commands that may wait for a leg's thread.
const COMMAND_QUEUE: usize = 128;

/// What the loop asks of a leg's media.
#[derive(Debug)]
pub(crate) enum MediaCommand {
    RemoteDescription(MediaDescription),
    AddRelay(RelayAccess),
    RemoteCandidate(Candidate),
    RemotePathReport(PathReport),
    /// The machine's network is this now.
    Network(Network),
    /// The call is agreed: open microphone and speaker.
    Start(EndpointPlan),
    Snapshot(oneshot::Sender<MediaSnapshot>),
    /// End it; what was measured comes back.
    Stop(oneshot::Sender<MediaReport>),
}

/// How a leg's media stands.
#[derive(Debug)]
pub(crate) struct MediaSnapshot {
    pub(crate) stats: SessionStats,
    /// When the session was made; the figures count from then.
    pub(crate) session_unix_ms: u64,
}

/// What a leg's media tells the loop.
#[derive(Debug)]
pub(crate) struct MediaNews {
    pub(crate) phone: super::PhoneId,
    pub(crate) leg: LegId,
    pub(crate) what: MediaNewsKind,
}

#[derive(Debug)]
pub(crate) enum MediaNewsKind {
    /// The session is made; its description for the other end.
    Prepared(MediaDescription),
    Session(Event),
    /// Something the endpoint could not do, in words.
    EndpointTrouble(String),
    /// The thread could not be started or has failed.
    Failed(String),
}

/// What a leg is made with.
#[derive(Debug, Clone)]
pub(crate) struct MediaPlan {
    pub(crate) phone: super::PhoneId,
    pub(crate) leg: LegId,
    pub(crate) session: SessionConfig,
    /// The address of this machine that sound leaves from; `None`: whichever the system takes.
    pub(crate) bind: Option<IpAddr>,
    /// The other end may learn this machine's addresses: a direct path is tried.
    pub(crate) direct: bool,
    /// The machine's network when the leg begins.
    pub(crate) network: Network,
    /// Asks routers for ports.
    pub(crate) ports: PortMapping,
}

/// The loop's end of a leg's thread. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct MediaHandle {
    commands: mpsc::Sender<MediaCommand>,
}

impl MediaHandle {
    /// Starts a leg's thread.
    pub(crate) fn spawn(plan: MediaPlan, news: mpsc::Sender<MediaNews>) -> std::io::Result<Self> {
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        std::thread::Builder::new().name("call media".into()).spawn(move || task::run(plan, queue, news))?;
        Ok(Self { commands })
    }

    /// Tells the thread without waiting; false when it has ended or its queue is full.
    pub(crate) fn tell(&self, command: MediaCommand) -> bool {
        self.commands.try_send(command).is_ok()
    }
}
