//! The media of a call: one thread a leg, which owns the sockets and the clock of its session and its endpoint.
//!
//! The loop tells it what to do through [`MediaHandle`]; it answers with [`MediaNews`]. A thread of its own keeps sound
//! away from whatever else the node is busy with.

mod endpoint;
mod flows;
mod page;
mod report;
mod sockets;
mod task;

use std::net::IpAddr;
use std::sync::Once;
use std::time::Instant;

use tandem_core::call::LegId;
use tandem_media::session::{
    Candidate, Event, Redundancy, RelayAccess, Session, SessionConfig, SessionStats,
};
use tandem_proto::wire::{MediaDescription, PathReport};
use tokio::sync::{mpsc, oneshot};

use super::port_mapping::PortMapping;
use crate::platform::network::{Change, Network};
use crate::policy::Warden;
pub(crate) use endpoint::EndpointPlan;
pub(crate) use endpoint::check_playable;
pub(crate) use page::PageSound;
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
    /// The machine's network is this now, and what that means.
    Network(Network, Change),
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
    /// Asked before a socket is bound and before anything is sent to a new place.
    pub(crate) warden: Warden,
}

/// The loop's end of a leg's thread. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct MediaHandle {
    commands: mpsc::Sender<MediaCommand>,
}

/// Makes a session and drops it, once in this process and on a thread of its own. The first one waits some 40 ms for the
/// cryptographic library to gather its randomness: nobody's first call need wait for that.
pub(crate) fn warm_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let config = SessionConfig {
            controlling: true,
            redundancy: Redundancy::Off,
            ssrc: 1,
            seed: 1,
            udp_blocked: false,
        };
        let made = move || drop(Session::new(config, Instant::now()));
        if let Err(error) = std::thread::Builder::new().name("media warm-up".into()).spawn(made) {
            tracing::debug!(%error, "the first call will wait a little for its keys");
        }
    });
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

    /// Waits until the thread has nothing more to do.
    pub(crate) async fn ended(&self) {
        self.commands.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::node::PhoneId;
    use crate::node::port_mapping::MappingWanted;
    use crate::platform::network::LocalAddress;

    const ADDRESS: &str = "10.77.0.2";
    const WITHIN: Duration = Duration::from_secs(10);

    /// A thread in a network namespace of its own, where nobody else opens sockets.
    fn alone<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("a network namespace can be made: run this test as root");
            let command = format!("ip link set lo up && ip address add {ADDRESS}/32 dev lo");
            let made = std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
            assert!(made.success(), "{command}");
            test()
        });
        thread.join().expect("the test's thread ends well")
    }

    /// UDP sockets of this thread's network namespace.
    fn udp_sockets() -> usize {
        let tables = ["udp", "udp6"].map(|table| format!("/proc/thread-self/net/{table}"));
        tables.iter().map(|table| std::fs::read_to_string(table).unwrap().lines().count() - 1).sum()
    }

    fn network() -> Network {
        let ip = ADDRESS.parse().unwrap();
        let address = LocalAddress {
            ip,
            interface: 1,
            default_route: Some(1),
            temporary: false,
            deprecated: false,
            bridge: false,
        };
        Network::new(vec![address], Vec::new())
    }

    fn spawn(direct: bool, ports: PortMapping) -> (MediaHandle, mpsc::Receiver<MediaNews>) {
        let session = SessionConfig {
            controlling: true,
            redundancy: tandem_media::session::Redundancy::Auto,
            ssrc: 1,
            seed: 1,
            udp_blocked: false,
        };
        let plan = MediaPlan {
            phone: PhoneId::Person,
            leg: LegId(1),
            session,
            bind: None,
            direct,
            network: network(),
            ports,
            warden: Warden::default(),
        };
        let (news, heard) = mpsc::channel(64);
        (MediaHandle::spawn(plan, news).unwrap(), heard)
    }

    /// Everything the leg says until it has ended.
    fn end(handle: &MediaHandle, mut heard: mpsc::Receiver<MediaNews>) -> Vec<MediaNewsKind> {
        let (reply, report) = oneshot::channel();
        assert!(handle.tell(MediaCommand::Stop(reply)));
        report.blocking_recv().expect("a report");
        std::iter::from_fn(|| heard.blocking_recv()).map(|news| news.what).collect()
    }

    fn is_candidate(what: &MediaNewsKind) -> bool {
        matches!(what, MediaNewsKind::Session(Event::LocalCandidate(_) | Event::HostSocket { .. }))
    }

    /// Where the next host socket is.
    fn host_socket(heard: &mut mpsc::Receiver<MediaNews>) -> std::net::SocketAddr {
        loop {
            let news = heard.blocking_recv().expect("the leg runs");
            if let MediaNewsKind::Session(Event::HostSocket { local, .. }) = news.what {
                return local;
            }
        }
    }

    #[test]
    fn a_leg_that_may_not_show_addresses_opens_no_socket_and_wants_no_port() {
        alone(|| {
            let (ports, mut wanted) = PortMapping::observed();
            let (handle, heard) = spawn(false, ports);
            // A change of network does not open one either.
            assert!(handle.tell(MediaCommand::Network(network(), Change::Moved)));
            let (reply, snapshot) = oneshot::channel();
            assert!(handle.tell(MediaCommand::Snapshot(reply)));
            snapshot.blocking_recv().expect("the leg runs");
            assert_eq!(udp_sockets(), 0);
            let news = end(&handle, heard);
            assert!(!news.iter().any(is_candidate), "{news:?}");
            assert!(wanted.try_recv().is_err(), "no port of the router either");
        });
    }

    #[test]
    fn a_leg_with_a_contact_opens_one_socket_an_address_and_gives_its_port_back() {
        alone(|| {
            let (ports, mut wanted) = PortMapping::observed();
            let (handle, mut heard) = spawn(true, ports);
            let local = host_socket(&mut heard);
            assert_eq!(local.ip().to_string(), ADDRESS);
            assert_eq!(udp_sockets(), 1);
            let MappingWanted { local: mapped, told } = wanted.blocking_recv().expect("a port is wanted");
            assert_eq!(mapped, local);
            told.blocking_send("203.0.113.5:4000".parse().unwrap()).unwrap();
            let external = loop {
                match heard.blocking_recv().expect("the leg runs").what {
                    MediaNewsKind::Session(Event::LocalCandidate(candidate)) if candidate.addr != local => {
                        break candidate.addr;
                    }
                    _ => {}
                }
            };
            assert_eq!(external.to_string(), "203.0.113.5:4000");

            // The address goes, and with it the socket and the port.
            assert!(handle.tell(MediaCommand::Network(Network::default(), Change::Down)));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let closed = runtime.block_on(async { tokio::time::timeout(WITHIN, told.closed()).await });
            assert!(closed.is_ok(), "the port is given back");

            // It comes back after a while without any.
            assert!(handle.tell(MediaCommand::Network(network(), Change::Moved)));
            let again = host_socket(&mut heard);
            assert_eq!(again.ip(), local.ip());
            end(&handle, heard);
        });
    }
}
