//! The overlay behind one seam: the node speaks [`DeviceCommand`] and [`ServiceCommand`] and hears [`DeviceEvent`]
//! and [`ServiceEvent`], and nothing outside this folder knows libp2p.
//!
//! Two swarms with unrelated keys: the *device swarm* (a leaf: homes, circuits, signalling) and the *service swarm*
//! (a supernode: directory, circuits for others, home protocol). Each runs in its own task with bounded channels.

mod address;
mod bound_tcp;
mod circuit_limits;
mod config;
mod connections;
mod counting;
mod device;
mod dial_back;
mod directory;
mod directory_limits;
mod door;
mod links;
mod membership;
mod paths;
mod permitted;
mod public_only;
mod quiet_yamux;
mod race;
mod record_store;
mod routable;
mod service;
mod shared_tcp;
mod standby;
mod stream_task;
mod streams;
mod transport;

use std::net::IpAddr;

pub use address::{PublicAddresses, RangeError};
pub use config::{DeviceConfig, Places, PreferredTransport, ServiceConfig, ServiceLimits};
pub use counting::Traffic;
pub use device::spawn_device;
pub use dial_back::CheckOutcome;
pub use membership::Membership;
pub use service::spawn_service;
pub use transport::StartError;

use tandem_api::DeviceFailure;
pub use tandem_core::service::Check;
use tandem_proto::ids::{DeviceKey, ServiceKey};
use tandem_proto::wire::{HomeFrame, SignalFrame};

/// A supernode and where it listens (binary multiaddrs without `/p2p`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupernodeAddress {
    pub service: ServiceKey,
    pub addresses: Vec<Vec<u8>>,
}

/// One open signalling stream, numbered by the overlay; never reused in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalId(pub u64);

/// Bytes both ways on one connection, for `tandem connections`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    pub peer: PeerKey,
    pub remote: String,
    /// "quic", "tcp" or "circuit".
    pub transport: &'static str,
    pub outbound: bool,
    pub since_unix_ms: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// Whose key authenticated the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKey {
    Device(DeviceKey),
    Service(ServiceKey),
}

// ---- device swarm -------------------------------------------------------------------------------------------------

/// What the node asks of its device swarm.
#[derive(Debug)]
pub enum DeviceCommand {
    /// Dial a supernode and open the home stream. Answered by `HomeOpened` or `HomeClosed`. TCP is preferred: the kernel
    /// tells when the supernode's process dies.
    OpenHome(SupernodeAddress),
    /// The same for an errand: by whichever way is quickest.
    OpenErrand(SupernodeAddress),
    /// Send one frame on the open home stream.
    SendHome {
        service: ServiceKey,
        frame: HomeFrame,
    },
    /// Ask for a circuit reservation there (relay v2). Answered by `Reserved` or `ReservationLost`.
    Reserve(ServiceKey),
    /// Drop the stream, the reservation and the connection, and with it the circuits it carries. No event follows.
    CloseHome(ServiceKey),
    /// Reach a device by a new connection, whatever there is already: try the routes in order, the next one when `race_after_ms` have passed or the one before
    /// failed; the first to open wins and the others are closed. Answered by `SignalOpened` or `SignalFailed`.
    OpenSignal {
        request: u64,
        device: DeviceKey,
        routes: Vec<SupernodeAddress>,
        race_after_ms: u32,
    },
    SendSignal {
        signal: SignalId,
        frame: SignalFrame,
    },
    /// Close after what was queued has been written; `SignalClosed` follows.
    CloseSignal(SignalId),
    /// An idle stream is only kept warm: its empty frames are sent every 20 s, and it ends after 60 s of silence. The
    /// other end must be told too (both sides' nodes do it at the same moment of the call).
    SetSignalIdle {
        signal: SignalId,
        idle: bool,
    },
    /// The network of this machine changed: every connection is closed at once, what was learned of the network before
    /// is forgotten. Each open thing is told to be gone; then all can be opened again.
    NetworkChanged,
    /// Ask for the table of connections.
    Connections(tokio::sync::oneshot::Sender<Vec<ConnectionInfo>>),
    Shutdown,
}

/// What the device swarm tells the node.
#[derive(Debug)]
pub enum DeviceEvent {
    HomeOpened {
        service: ServiceKey,
        remote: Option<IpAddr>,
    },
    HomeFrame {
        service: ServiceKey,
        frame: HomeFrame,
    },
    /// Never opened, or gone (stream or connection).
    HomeClosed {
        service: ServiceKey,
        reason: String,
    },
    Reserved {
        service: ServiceKey,
    },
    ReservationLost {
        service: ServiceKey,
        reason: String,
    },
    SignalOpened {
        request: u64,
        signal: SignalId,
        device: DeviceKey,
        via: Option<ServiceKey>,
    },
    SignalFailed {
        request: u64,
        failure: DeviceFailure,
        /// In words, for an engineer.
        reason: String,
    },
    /// Another device opened a stream to us.
    SignalIncoming {
        signal: SignalId,
        device: DeviceKey,
        via: Option<ServiceKey>,
    },
    SignalFrame {
        signal: SignalId,
        frame: SignalFrame,
    },
    SignalClosed {
        signal: SignalId,
        reason: String,
    },
}

// ---- service swarm ------------------------------------------------------------------------------------------------

/// Names one home stream of a client (a device, or another supernode) on the service swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

#[derive(Debug)]
pub enum ServiceCommand {
    SendHome {
        client: ClientId,
        frame: HomeFrame,
    },
    CloseClient(ClientId),
    /// Cut all connections of this device, and with them its circuits and its circuit reservation.
    Expel(DeviceKey),
    /// Dial another supernode and open a home stream to it. Answered by `ClientOpened` with `outbound: true`.
    Connect(SupernodeAddress),
    /// Offer a supernode to the routing table (≤ 2 per /16 per bucket).
    AddToRouting(SupernodeAddress),
    /// Store under hash(account), verified and merged by each receiver; then read back. Answered by `Stored`.
    Put {
        request: u64,
        account: tandem_proto::ids::AccountKey,
        value: Vec<u8>,
    },
    /// Read over disjoint paths. Answered by one or more `Found`, the last with `done`.
    Get {
        request: u64,
        account: tandem_proto::ids::AccountKey,
    },
    /// Take no new circuits or reservations; keep what there is.
    Drain,
    /// Closed: standby. Every connection is cut and the records kept are dropped; from then on the swarm still accepts
    /// connections and home streams (policy answers what may be answered there), and refuses circuits, keeps no
    /// records, answers no directory queries, dials nobody, and tells no address of its own. Open: it serves. Ends a
    /// drain. Where it is so already, nothing happens.
    Gate {
        open: bool,
    },
    /// While the gate is open: whether it carries circuits, keeps records and answers for them (the directory role). On
    /// from the start and whenever the gate opens. Off: circuits that are open stay.
    Directory {
        on: bool,
    },
    /// Where others reach this node from now on (binary multiaddrs without `/p2p`), instead of what
    /// [`ServiceConfig::external`] says. Told to others while the gate is open: name them before opening it, since
    /// nobody can reserve at a supernode that has no address.
    SetExternal(Vec<Vec<u8>>),
    /// Try whether another node can be reached in that way: a new connection from a fresh port, which shares nothing with
    /// this swarm. Answered by `Checked`.
    Check(Check),
    Connections(tokio::sync::oneshot::Sender<Vec<ConnectionInfo>>),
    Shutdown,
}

#[derive(Debug)]
pub enum ServiceEvent {
    /// The swarm listens here (full multiaddr text with /p2p, as another node bootstraps from it).
    Listening {
        address: String,
    },
    ClientOpened {
        client: ClientId,
        peer: [u8; 32],
        remote: Option<IpAddr>,
        outbound: bool,
    },
    /// `Connect` did not lead to a home stream.
    ConnectFailed {
        service: ServiceKey,
        reason: String,
    },
    ClientFrame {
        client: ClientId,
        frame: HomeFrame,
    },
    ClientClosed {
        client: ClientId,
        reason: String,
    },
    /// `copies`: supernodes that gave the value back.
    Stored {
        request: u64,
        copies: u32,
    },
    /// A verified, merged value, if any.
    Found {
        request: u64,
        value: Option<Vec<u8>>,
        answers: u32,
        done: bool,
    },
    /// A record was refused; for the log and the metrics.
    RecordRefused {
        from: Option<[u8; 32]>,
        reason: String,
    },
    /// A circuit between two devices was opened or closed here.
    CircuitOpened {
        source: DeviceKey,
        target: DeviceKey,
    },
    CircuitClosed {
        source: DeviceKey,
        target: DeviceKey,
    },
    ReservationMade {
        device: DeviceKey,
    },
    ReservationEnded {
        device: DeviceKey,
    },
    /// Answers `Check`, within about five seconds.
    Checked {
        id: u64,
        outcome: CheckOutcome,
    },
    /// A TCP connection on the shared port that began with a STUN byte: it belongs to the relay.
    RelayStream(tokio::net::TcpStream, std::net::SocketAddr),
}
