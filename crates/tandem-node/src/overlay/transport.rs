//! The transports of both swarms: QUIC and TCP (Noise, Yamux), and circuits for devices.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::{TransportTimeout, TransportTimeoutError};
use libp2p::core::transport::{Boxed, OrTransport, TransportError};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::relay::outbound::hop::ConnectError;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Transport, noise, quic, relay, swarm, yamux};
use tandem_api::DeviceFailure;
use tandem_proto::names::NetworkId;
use thiserror::Error;

use super::address::{PublicAddresses, ip_of};
use super::bound_tcp::BoundTcp;
use super::counting::Unclaimed;
use super::door::Door;
use super::membership::prove;
use super::permitted::Permitted;
use super::public_only::PublicOnly;
use super::quiet_yamux::QuietYamux;
use super::shared_tcp::{self, RelayStreams};

/// Longer than two heartbeats of an idle home (14 s) and what a packet may need on the way.
const QUIC_IDLE_TIMEOUT_MS: u32 = 36_000;
/// Never comes before [`QUIC_IDLE_TIMEOUT_MS`] has ended the connection: heartbeats keep it, not QUIC.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(3600);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
const STREAMS_PER_CONNECTION: u16 = 128;

/// Why a swarm could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("the secret key was refused: {0}")]
    Key(String),
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// As a person writes it: `TCP 192.0.2.1:443`.
        address: String,
        reason: String,
        /// The port needs a right that this program does not have.
        denied: bool,
    },
}

impl StartError {
    pub(super) fn listen(address: &Multiaddr, error: &TransportError<io::Error>) -> Self {
        let denied = matches!(error, TransportError::Other(error) if io_kind(error) == io::ErrorKind::PermissionDenied);
        let reason = match error {
            TransportError::Other(error) => deepest(error).to_string(),
            TransportError::MultiaddrNotSupported(_) => "there is no such transport".to_owned(),
        };
        Self::Listen { address: in_words(address), reason, denied }
    }
}

/// libp2p wraps an operating system's error in one of its own for each transport.
pub(super) fn io_kind(error: &io::Error) -> io::ErrorKind {
    let mut kind = error.kind();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            kind = io.kind();
        }
        source = error.source();
    }
    kind
}

/// What it means that a circuit to a device could not be dialled: its home was reached by then.
pub(super) fn failure_of(error: &DialError) -> DeviceFailure {
    let DialError::Transport(errors) = error else { return DeviceFailure::Other };
    let not_there = |error: &TransportError<io::Error>| match error {
        TransportError::Other(error) => is_silence(error) || is_absence(error),
        TransportError::MultiaddrNotSupported(_) => false,
    };
    let any = errors.iter().any(|(_, error)| not_there(error));
    if any { DeviceFailure::NotThere } else { DeviceFailure::Other }
}

/// Why a supernode could not be dialled, for people.
pub(super) fn dial_words(error: &DialError) -> String {
    let words = match error {
        DialError::WrongPeerId { .. } => "another supernode answers at its address",
        DialError::NoAddresses => "no address of it can be used",
        DialError::LocalPeerId { .. } => "it is this node itself",
        DialError::Denied { .. } | DialError::Aborted | DialError::DialPeerConditionFalse(_) => {
            "this node did not begin another connection"
        }
        DialError::Transport(errors) => {
            return errors
                .last()
                .map_or_else(|| "it cannot be reached".to_owned(), |(_, error)| transport_words(error));
        }
    };
    words.to_owned()
}

fn transport_words(error: &TransportError<io::Error>) -> String {
    match error {
        TransportError::Other(error) => io_words(error),
        TransportError::MultiaddrNotSupported(_) => "no address of it can be used".to_owned(),
    }
}

/// What went wrong with one connection, for people.
pub(super) fn io_words(error: &io::Error) -> String {
    match io_kind(error) {
        _ if is_silence(error) => "it does not answer".to_owned(),
        io::ErrorKind::TimedOut => "it does not answer".to_owned(),
        io::ErrorKind::ConnectionRefused => "nothing listens at its address".to_owned(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkDown => {
            "no way leads to its network".to_owned()
        }
        _ => deepest(error).to_string(),
    }
}

/// [`timed_out`], inside the error that a boxed transport makes of each.
fn is_silence(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>());
    inner.is_some_and(|inner| inner.kind() == io::ErrorKind::TimedOut)
}

/// The home says that the device is not connected to it, or no longer answers there.
fn is_absence(error: &io::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return matches!(error, ConnectError::NoReservation | ConnectError::ConnectionFailed);
        }
        source = error.source();
    }
    false
}

fn timed_out<E: std::error::Error + Send + Sync + 'static>(error: TransportTimeoutError<E>) -> io::Error {
    match error {
        TransportTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
        TransportTimeoutError::TimerError(error) => error,
        TransportTimeoutError::Other(error) => io::Error::other(error),
    }
}

fn deepest(error: &io::Error) -> &dyn std::error::Error {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest
}

/// `/ip4/192.0.2.1/tcp/443` as `TCP 192.0.2.1:443`.
fn in_words(address: &Multiaddr) -> String {
    let port = address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(("TCP", port)),
        Protocol::Udp(port) => Some(("UDP", port)),
        _ => None,
    });
    match (ip_of(address), port) {
        (Some(ip), Some((protocol, port))) => format!("{protocol} {}", SocketAddr::new(ip, port)),
        _ => address.to_string(),
    }
}

/// The protocol names of one network.
#[derive(Debug, Clone)]
pub(super) struct Protocols {
    pub(super) home: StreamProtocol,
    pub(super) signal: StreamProtocol,
    pub(super) kad: StreamProtocol,
    /// Identify's protocol version.
    pub(super) identify: String,
}

impl Protocols {
    pub(super) fn of(network: &NetworkId) -> Self {
        let name = |name: String| StreamProtocol::try_from_owned(name).expect("the names begin with a slash");
        Self {
            home: name(network.home_protocol()),
            signal: name(network.signal_protocol()),
            kad: name(network.kad_protocol()),
            identify: network.identify_protocol(),
        }
    }
}

pub(super) fn keypair(seed: &[u8; 32]) -> Result<Keypair, StartError> {
    // The library wipes the copy it is given.
    let mut copy = *seed;
    Keypair::ed25519_from_bytes(&mut copy).map_err(|error| StartError::Key(error.to_string()))
}

pub(super) type Wire = Boxed<(PeerId, StreamMuxerBox)>;

/// QUIC, TCP, and circuits through homes.
pub(super) fn device(
    key: &Keypair,
    circuits: relay::client::Transport,
    from: Option<IpAddr>,
    unclaimed: Unclaimed,
    public: &PublicAddresses,
) -> Result<Wire, StartError> {
    let (warden, proof) = (public.warden().clone(), (public.membership(), key.public().to_peer_id()));
    let tcp = BoundTcp::new(from.as_slice())
        .upgrade(Version::V1Lazy)
        .authenticate(noise(key)?)
        .multiplex(yamux_config());
    let circuits = circuits.upgrade(Version::V1Lazy).authenticate(noise(key)?).multiplex(yamux_config());
    let circuits = circuits.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let tcp = tcp.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    // Circuits first: the other two would take the part of such an address that they understand.
    let all =
        OrTransport::new(circuits, OrTransport::new(quic(key), tcp).map(|either, _| either.into_inner()));
    let all = all.map(move |either, point| {
        let (peer, muxer) = either.into_inner();
        (peer, unclaimed.count(peer, muxer, point))
    });
    let all = all.and_then(move |(peer, muxer), point| prove(proof, peer, muxer, point.is_dialer()));
    let inner = TransportTimeout::new(all, HANDSHAKE_TIMEOUT).map_err(timed_out).boxed();
    Ok(Permitted { inner, warden }.boxed())
}

/// QUIC, and TCP on a port shared with the relay.
pub(super) fn service(
    key: &Keypair,
    relay: RelayStreams,
    from: &[IpAddr],
    public: PublicAddresses,
    unclaimed: Unclaimed,
    door: Door,
) -> Result<Wire, StartError> {
    let tcp = BoundTcp::new(from)
        .and_then(move |stream, point| async move {
            if point.is_dialer() { Ok(stream) } else { shared_tcp::split(stream, relay).await }
        })
        .upgrade(Version::V1Lazy)
        .authenticate(noise(key)?)
        .multiplex(yamux_config());
    let tcp = tcp.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let all = OrTransport::new(quic(key), tcp).map(move |either, point| {
        let (peer, muxer) = either.into_inner();
        let muxer = door.before(peer, muxer, &point);
        (peer, unclaimed.count(peer, muxer, point))
    });
    let proof = (public.membership(), key.public().to_peer_id());
    let all = all.and_then(move |(peer, muxer), point| prove(proof, peer, muxer, point.is_dialer()));
    // The first byte has a time-out of its own; this one is for the handshake after it.
    let inner = TransportTimeout::new(all, HANDSHAKE_TIMEOUT * 2).boxed();
    let warden = public.warden().clone();
    let inner = PublicOnly { inner, public }.boxed();
    Ok(Permitted { inner, warden }.boxed())
}

/// QUIC and TCP for one dial from a fresh port; it never listens, and nothing of the swarm's is in it.
pub(super) fn checker(key: &Keypair, from: &[IpAddr]) -> Result<Wire, StartError> {
    let tcp =
        BoundTcp::new(from).upgrade(Version::V1Lazy).authenticate(noise(key)?).multiplex(yamux_config());
    let tcp = tcp.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(OrTransport::new(quic(key), tcp).map(|either, _| either.into_inner()).boxed())
}

/// One address of a peer at a time (races are ours), and one round trip less for each stream.
pub(super) fn swarm_config(idle: Duration) -> swarm::Config {
    swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(idle)
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_dial_concurrency_factor(NonZeroU8::MIN)
        .with_max_negotiating_inbound_streams(32)
}

fn quic(key: &Keypair) -> Wire {
    let mut config = quic::Config::new(key).disable_path_mtu_discovery();
    config.handshake_timeout = HANDSHAKE_TIMEOUT;
    config.max_idle_timeout = QUIC_IDLE_TIMEOUT_MS;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_stream_data = STREAM_WINDOW_BYTES;
    config.max_connection_data = CONNECTION_WINDOW_BYTES;
    config.max_concurrent_stream_limit = u32::from(STREAMS_PER_CONNECTION);
    quic::tokio::Transport::new(config)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
        .boxed()
}

fn noise(key: &Keypair) -> Result<noise::Config, StartError> {
    noise::Config::new(key).map_err(|error| StartError::Key(error.to_string()))
}

fn yamux_config() -> QuietYamux {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(usize::from(STREAMS_PER_CONNECTION));
    QuietYamux(config)
}
