//! Dial-back: whether another node can be reached from outside. A new connection from a fresh port, proved to be the
//! expected service's, and closed at once; then, over UDP, one question to its relay's port.
//!
//! It shares nothing with the swarm: no socket (so that no NAT on either side lets an answer in that it would not let
//! in from a stranger), no key (a fresh one for each check), no connection, no routing table. What is sent is what
//! somebody who dials a wrong number sends: to one address, a handful of packets, five seconds at most.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::PeerId;
use libp2p::core::Endpoint;
use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerExt;
use libp2p::core::transport::{DialOpts, PortUse, TransportError};
use libp2p::identity::Keypair;
use tandem_core::election::Carrier;
use tandem_core::service::Check;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::ServiceEvent;
use super::address::{PublicAddresses, both_transports, service_peer};
use super::routable::routable;
use super::transport;
use crate::policy::Warden;
use crate::stun;

/// Checks at once. Policy allows far fewer.
const CHECKS_MAX: usize = 32;
/// From the first packet to the verdict.
const CHECK_WITHIN: Duration = Duration::from_secs(5);
/// A farewell that does not get through is not waited for.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);
/// The question to the relay's port is repeated this often, since a packet may be lost (RFC 8489 §6.2.1).
const STUN_TRIES: usize = 3;
const STUN_AGAIN: Duration = Duration::from_millis(600);
/// A Binding answer is far shorter.
const STUN_BYTES_MAX: usize = 512;

/// What a [`Check`] came to. The reasons are for a person to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    Reached,
    /// It was tried, and that service did not answer there.
    NotReached(String),
    /// Nothing was learned of it: this node cannot try now, or will not try such an address.
    NotTried(String),
}

/// The checks under way. They end with it.
pub(super) struct DialBack {
    local: PeerId,
    public: PublicAddresses,
    from: Vec<IpAddr>,
    running: JoinSet<(u64, CheckOutcome)>,
}

impl DialBack {
    /// `from`: local addresses that TCP dials are made from, as the swarm's are.
    pub(super) fn new(local: PeerId, public: PublicAddresses, from: Vec<IpAddr>) -> Self {
        Self { local, public, from, running: JoinSet::new() }
    }

    /// Begins a check; what is not even tried is answered here.
    pub(super) fn begin(&mut self, check: Check) -> Option<ServiceEvent> {
        match self.prepare(&check) {
            Ok(plan) => {
                self.running.spawn(async move { (check.id, plan.run().await) });
                None
            }
            Err(reason) => {
                let outcome = CheckOutcome::NotTried(reason.to_owned());
                Some(ServiceEvent::Checked { id: check.id, outcome })
            }
        }
    }

    /// The next check to end; `None` while there is none.
    pub(super) async fn next(&mut self) -> Option<ServiceEvent> {
        while let Some(ended) = self.running.join_next().await {
            match ended {
                Ok((id, outcome)) => return Some(ServiceEvent::Checked { id, outcome }),
                Err(error) => tracing::warn!(%error, "a check was lost"),
            }
        }
        None
    }

    fn prepare(&self, check: &Check) -> Result<Plan, &'static str> {
        if self.running.len() >= CHECKS_MAX {
            return Err("this node is trying as many as it can");
        }
        if check.at.port() == 0 || check.relay_port == Some(0) || !self.public.is_public(check.at.ip()) {
            return Err("this is not an address that others could be expected to reach");
        }
        let expected = service_peer(check.service).filter(|peer| *peer != self.local);
        let expected = expected.ok_or("its key is not that of another supernode")?;
        let [quic, tcp] = both_transports(check.at);
        let (address, relay_port) = match check.carrier {
            Carrier::Udp => (quic, check.relay_port),
            Carrier::Tcp => (tcp, None),
        };
        if routable(vec![address.clone()]).is_empty() {
            return Err("no way leads from this node to its network");
        }
        let relay = relay_port.map(|port| SocketAddr::new(check.at.ip(), port));
        let warden = self.public.warden();
        if [Some(check.at), relay]
            .into_iter()
            .flatten()
            .any(|at| warden.may_connect(Some(check.service), at).is_err())
        {
            return Err("this node's organisation does not let it connect there");
        }
        Ok(Plan { address, expected, relay, from: self.from.clone(), warden: warden.clone() })
    }
}

struct Plan {
    address: Multiaddr,
    expected: PeerId,
    relay: Option<SocketAddr>,
    from: Vec<IpAddr>,
    warden: Warden,
}

impl Plan {
    async fn run(self) -> CheckOutcome {
        let silent = || CheckOutcome::NotReached("it does not answer".to_owned());
        let tried = tokio::time::timeout(CHECK_WITHIN, self.reach()).await;
        tried.unwrap_or_else(|_| silent())
    }

    async fn reach(&self) -> CheckOutcome {
        let peer = match self.dial().await {
            Ok(peer) => peer,
            Err(outcome) => return outcome,
        };
        if peer != self.expected {
            return CheckOutcome::NotReached("another node answers at its address".to_owned());
        }
        match self.relay {
            Some(at) => ask_relay(at, &self.warden).await,
            None => CheckOutcome::Reached,
        }
    }

    /// Whose key answers there. The connection is closed when this returns.
    async fn dial(&self) -> Result<PeerId, CheckOutcome> {
        let not_tried = |reason: String| CheckOutcome::NotTried(reason);
        let key = Keypair::generate_ed25519();
        let mut wire = transport::checker(&key, &self.from).map_err(|error| not_tried(error.to_string()))?;
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dial = wire.dial(self.address.clone(), opts).map_err(|error| match error {
            TransportError::Other(error) => not_tried(transport::io_words(&error)),
            TransportError::MultiaddrNotSupported(_) => not_tried("there is no such transport".to_owned()),
        })?;
        let (peer, muxer) = dial.await.map_err(|error| match transport::io_kind(&error) {
            // This machine forbids it.
            io::ErrorKind::PermissionDenied => not_tried(transport::io_words(&error)),
            _ => CheckOutcome::NotReached(transport::io_words(&error)),
        })?;
        // The verdict stands, whether the farewell arrives or not.
        drop(tokio::time::timeout(CLOSE_WITHIN, muxer.close()).await);
        Ok(peer)
    }
}

/// Whether STUN is answered there, by a socket that has sent nothing anywhere before.
async fn ask_relay(at: SocketAddr, warden: &Warden) -> CheckOutcome {
    let not_tried = |error: io::Error| CheckOutcome::NotTried(error.to_string());
    let any: IpAddr = if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let bound = warden.bind(any, |at| {
        let socket = std::net::UdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    });
    let socket = match bound {
        Ok(socket) => socket,
        Err(error) => return not_tried(error),
    };
    // Only what comes from that very address counts.
    if let Err(error) = socket.connect(at).await {
        return not_tried(error);
    }
    let id = stun::transaction();
    for _ in 0..STUN_TRIES {
        // An error of an earlier packet is reported by the next call: it is one more try that was in vain.
        if socket.send(&stun::request(id)).await.is_ok()
            && let Ok(true) = tokio::time::timeout(STUN_AGAIN, is_answered(&socket, id)).await
        {
            return CheckOutcome::Reached;
        }
    }
    CheckOutcome::NotReached("its relay's port does not answer".to_owned())
}

async fn is_answered(socket: &UdpSocket, id: u128) -> bool {
    let mut datagram = [0; STUN_BYTES_MAX];
    loop {
        match socket.recv(&mut datagram).await {
            Ok(length) if stun::mapped(&datagram[..length]).is_some_and(|(answered, _)| answered == id) => {
                return true;
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}
