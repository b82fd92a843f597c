//! What a driver gives a session and gets from it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_proto::ids::ServiceKey;
use tandem_proto::wire;

/// How much of the sound is sent twice (DESIGN §7, "Failover").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redundancy {
    /// Twice for the first 10 s and whenever a path is lossy or silent; else one path, the second kept warm.
    #[default]
    Auto,
    /// Every packet on two paths.
    Always,
    /// Never; a dead path is left once it is known to be dead.
    Off,
}

/// What a session is made with.
#[derive(Clone)]
pub struct SessionConfig {
    /// The caller controls: it opens DTLS, and the other side follows its choice of path.
    pub controlling: bool,
    pub redundancy: Redundancy,
    /// SSRC of the sound this side sends; 0 is replaced by 1.
    pub ssrc: u32,
    /// Random, secret, a fresh one for each session: keys the table of packets seen.
    pub seed: u64,
    /// UDP was found not to pass from this network: TCP is tried at once, beside UDP.
    pub udp_blocked: bool,
}

impl fmt::Debug for SessionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionConfig")
            .field("controlling", &self.controlling)
            .field("redundancy", &self.redundancy)
            .finish_non_exhaustive()
    }
}

/// One socket a session asked for; never used again within the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

/// Why a UDP socket is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketPurpose {
    /// To speak TURN with this relay.
    Relay(ServiceKey),
    /// To speak with the other end directly.
    Host,
}

/// What kind of socket is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// A UDP socket on a free port of `bind`, or of whichever address reaches `toward`.
    Udp { bind: Option<IpAddr>, toward: Option<SocketAddr>, purpose: SocketPurpose },
    /// A TCP connection to a relay, `TCP_NODELAY` set.
    Tcp { connect: SocketAddr, relay: ServiceKey },
}

/// What the driver is to do with sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketCommand {
    /// Open one, then call `handle_socket`, or `handle_socket_closed` if it fails.
    Open { id: SocketId, kind: SocketKind },
    /// Send what was handed over before, then close it. Nothing about it needs to be told any more.
    Close { id: SocketId },
}

/// Bytes to send: a datagram on UDP, a piece of the stream on TCP (`to` is the connection's far end).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    pub socket: SocketId,
    pub to: SocketAddr,
    pub data: Vec<u8>,
}

/// A grant on one relay, as the node got it from that supernode.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayAccess {
    pub service: ServiceKey,
    /// Where it speaks STUN and TURN over UDP, IPv4 and IPv6, the preferred one first. At most
    /// [`RelayAccess::ADDRESSES_MAX`] are used.
    pub udp: Vec<SocketAddr>,
    /// Where it speaks TURN over TCP (its own port, 443); raced when UDP has not answered within 250 ms.
    pub tcp: Vec<SocketAddr>,
    pub username: String,
    pub password: String,
}

impl RelayAccess {
    /// Addresses used of each transport: two families, two ports.
    pub const ADDRESSES_MAX: usize = 4;
}

impl fmt::Debug for RelayAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayAccess")
            .field("service", &self.service)
            .field("udp", &self.udp)
            .field("tcp", &self.tcp)
            .finish_non_exhaustive()
    }
}

/// ICE's kind of a candidate (RFC 8445 §5.1.1), numbered as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    Host = 0,
    ServerReflexive = 1,
    Relayed = 2,
}

/// One address at which this end or the other can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub kind: CandidateKind,
    pub addr: SocketAddr,
    /// The relay that owns the address; only for [`CandidateKind::Relayed`].
    pub relay: Option<ServiceKey>,
    pub priority: u32,
}

/// How an end came by an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateOrigin {
    /// An address of the machine.
    Host,
    /// What a relay sees of one of its sockets (RFC 8489 Binding).
    ServerReflexive,
    /// A port that the router forwards. The other end sees it as server-reflexive.
    Mapped,
    /// Learnt from a probe that came from there (RFC 8445 §7.3.1.3).
    PeerReflexive,
    /// An allocation on a relay.
    Relayed,
}

/// What a path goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// Straight between the two ends.
    Direct,
    /// Through this relay, reached over UDP or TCP.
    Relay { service: ServiceKey, tcp: bool },
}

/// Names one path within a session; counts up, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u32);

/// What a session tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A new address of this end, to be sent to the other end.
    LocalCandidate(Candidate),
    /// A socket for direct paths is open at this address: a router may be asked to forward a port to it, see
    /// [`super::Session::add_mapped`].
    HostSocket { id: SocketId, local: SocketAddr },
    /// That socket is gone, and a forwarded port with it.
    HostSocketClosed { id: SocketId, local: SocketAddr },
    /// A relay answers over TCP and not over UDP. Told once; a hint for other sessions
    /// ([`SessionConfig::udp_blocked`]).
    UdpSeemsBlocked,
    /// DTLS is done: sound can be sent.
    Connected,
    /// The first packet of sound came.
    FirstMedia,
    /// One Opus packet, each sequence number once, in order of arrival.
    Opus { seq: u64, rtp_time: u32, payload: Vec<u8>, arrival: Instant },
    /// Sound leaves on another path now. `why` is a sentence for people.
    PathChanged { from: Option<PathId>, to: PathId, route: Route, why: String },
    /// Sound is sent on a second path, or no longer is. `why` is a sentence for people.
    Mirroring { on: bool, second: Option<PathId>, why: String },
    /// Sound fills a queue, or no longer does: encode it with so many bits per second from now on, in packets of so
    /// many milliseconds (20 or 40).
    Rate { bits_per_second: u32, packet_ms: u32 },
    /// Which paths are heard has changed; send it by signalling. It was sent in-band on all paths already.
    PathReport(wire::PathReport),
    /// This relay cannot be used: it never gave an allocation. The session goes on with the others. A relay without room
    /// says for how long it is not to be asked again (at most ten minutes): have another one ready at once.
    RelayFailed { relay: ServiceKey, reason: String, retry_after: Option<Duration> },
    /// This relay, which was in use, has answered nothing for a second. It is tried on, for as long as the session
    /// lasts; have another one ready. Told once for each silence.
    RelaySilent { relay: ServiceKey },
    /// This relay drains and will be gone in a while. Sound moves to another path at once, if one works; have another
    /// relay ready. Told once.
    RelayLeaving { relay: ServiceKey },
    /// It answers again, and its path can be used.
    RelayBack { relay: ServiceKey },
    /// The relay refused the grant when a new allocation was wanted there: get a new one and `add_relay` it, which
    /// replaces the old. Told at most every 5 s.
    GrantStale { relay: ServiceKey },
    /// Nothing passes on any path: get grants on other supernodes and `add_relay` them. Told again every 2 s while true.
    AllPathsSilent,
    /// Sound can pass again after `AllPathsSilent`.
    PathsRecovered,
    /// The other end has ended the leg, which its keys prove; why it did comes by signalling. Told once.
    PeerEnded,
    /// The session has ended and cannot be used again. `reason` is a sentence for people.
    Closed { reason: String },
}

/// Counts of one session. Times are milliseconds since the session began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionStats {
    /// Packets of sound handed to [`super::Session::send_opus`] and sent, each counted once.
    pub packets_sent: u64,
    /// Distinct sequence numbers that came.
    pub packets_received: u64,
    /// Sequence numbers between the first and the highest one received that came on no path.
    pub packets_lost: u64,
    /// Sequence numbers the other end says it has sent beyond the highest received.
    pub tail_missing: u64,
    /// Copies of packets that had come already.
    pub duplicates: u64,
    /// Datagrams dropped: not authentic, or not for us.
    pub rejected: u64,
    /// Longest time between the arrivals of two distinct sequence numbers.
    pub longest_gap_ms: f64,
    /// When that gap ended.
    pub longest_gap_at_ms: u64,
    /// When the first packet of sound came.
    pub first_media_ms: Option<u64>,
    pub connected_ms: Option<u64>,
    /// Whether sound is sent on two paths now.
    pub mirroring: bool,
    pub paths: Vec<PathStats>,
    /// Addresses of both ends, in the order in which they became known; at most 64.
    pub candidates: Vec<CandidateStats>,
    /// One a relay that is or was tried; at most 32, the oldest failed ones go first.
    pub relays: Vec<RelayStats>,
    /// Each change of the path that sound takes first; at most 256, the oldest go first.
    pub switches: Vec<PathSwitch>,
    /// Whether two relays see the same socket of ours at different addresses: a symmetric NAT (RFC 4787 §4.1,
    /// "address-dependent mapping"). `None` while that is not known.
    pub mapping_varies: Option<bool>,
}

/// One address of this end or of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidateStats {
    /// Of this end.
    pub local: bool,
    pub kind: CandidateOrigin,
    pub addr: SocketAddr,
    /// Only for [`CandidateOrigin::Relayed`].
    pub relay: Option<ServiceKey>,
    pub at_ms: u64,
}

/// How one relay was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayStats {
    pub service: ServiceKey,
    pub added_ms: u64,
    /// What was tried.
    pub udp_tried: bool,
    pub tcp_tried: bool,
    /// How long after the first packet over UDP, the first connection over TCP to its own port, and to port 443, the
    /// first answer came; the shortest there was.
    pub udp_answer_ms: Option<u64>,
    pub tcp_answer_ms: Option<u64>,
    pub tcp443_answer_ms: Option<u64>,
    /// When it first gave an allocation.
    pub allocated_ms: Option<u64>,
    /// The allocation in use was made over TCP.
    pub over_tcp: bool,
    /// The server's address that is in use.
    pub server: Option<SocketAddr>,
    /// Allocations that took the place of an older one.
    pub reallocations: u32,
    /// It answers nothing at present.
    pub silent: bool,
    /// Why it cannot be used: a sentence for people.
    pub failed: Option<String>,
}

/// One change of the path that sound takes first.
#[derive(Debug, Clone, PartialEq)]
pub struct PathSwitch {
    pub at_ms: u64,
    pub from: Option<PathId>,
    pub to: PathId,
    pub from_route: Option<Route>,
    pub to_route: Route,
    /// A sentence for people.
    pub why: String,
    /// Sequence numbers that were missed from then to 2 s later.
    pub lost_packets: u64,
    /// The longest time between two arrivals of sound from 1 s before to 2 s after; 0 if none was over 30 ms.
    pub gap_ms: f64,
}

/// One end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathEnd {
    pub kind: CandidateOrigin,
    pub addr: SocketAddr,
}

/// How a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathState {
    /// No authentic round trip yet.
    Checking,
    /// Heard, and the other end hears us on it.
    Good,
    /// Silent in one direction or in both.
    Silent,
    /// It was checked for a while, nothing came back, and it is left alone until something changes.
    GaveUp,
    /// Its socket or relay is gone.
    Closed,
}

/// Counts of one path.
#[derive(Debug, Clone, PartialEq)]
pub struct PathStats {
    pub id: PathId,
    pub route: Route,
    pub state: PathState,
    /// Packets of sound sent on it, copies included.
    pub sent: u64,
    /// Packets of sound that came on it, copies included, authentic or not.
    pub received: u64,
    /// Those of them that were authentic and new to this path.
    pub credited: u64,
    /// Datagrams and bytes of any kind, without IP, UDP and TURN headers.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub first_heard_ms: Option<u64>,
    pub last_heard_ms: Option<u64>,
    pub last_sent_ms: Option<u64>,
    pub round_trip_ms: Option<f64>,
    /// This end's address and the other's: relayed ones through a relay.
    pub local: Option<PathEnd>,
    pub remote: Option<PathEnd>,
    pub opened_ms: u64,
    /// When the first authentic round trip was complete.
    pub validated_ms: Option<u64>,
    pub probes_sent: u64,
    /// Authentic ones.
    pub probes_received: u64,
    /// When checking was given up.
    pub gave_up_at_ms: Option<u64>,
    /// Sound is sent on it first.
    pub primary: bool,
    /// Sound is sent on it as a copy.
    pub mirroring: bool,
}

/// One path's packets over time, for the picture of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct PathSeries {
    pub id: PathId,
    pub route: Route,
    /// Milliseconds a bucket.
    pub bucket_ms: u32,
    /// Start of the first bucket, milliseconds since the session began.
    pub start_ms: u64,
    /// Packets of sound sent in each bucket.
    pub sent: Vec<u16>,
    /// Packets of sound credited in each bucket.
    pub received: Vec<u16>,
}

/// The other end's description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    #[error("the other end's media fingerprint has {0} bytes instead of 32")]
    Fingerprint(usize),
    #[error("the other end's ICE user name or password is missing, too short or too long")]
    Credentials,
    #[error("the other end was described already, and differently")]
    AlreadySet,
    #[error("the media engine refused the description: {0}")]
    Engine(String),
}

/// Sound could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("the call is not connected yet")]
    NotConnected,
    #[error("the packet has {0} bytes; at most 1275 fit (RFC 6716 §3.4)")]
    TooLong(usize),
    #[error("the session has ended")]
    Closed,
}

/// A relay could not be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddRelayError {
    #[error("the relay has no address that can be used")]
    NoAddress,
    #[error("a call uses at most {0} relays")]
    TooMany(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_printed() {
        let config = SessionConfig {
            controlling: true,
            redundancy: Redundancy::Auto,
            ssrc: 1,
            seed: 987_654_321,
            udp_blocked: false,
        };
        let access = RelayAccess {
            service: ServiceKey([1; 32]),
            udp: Vec::new(),
            tcp: Vec::new(),
            username: "1.relay.device.tag".to_owned(),
            password: "hunter2".to_owned(),
        };
        let printed = format!("{config:?} {access:?}");
        assert!(!printed.contains("987654321") && !printed.contains("hunter2"), "{printed}");
    }
}
