//! Direct paths: this end's host sockets, the addresses that relays see of them, and the pairs with the other end's
//! candidates.
//!
//! The other end names the addresses, so it must not be able to make this end scan or flood anybody: few pairs at a
//! time, few probes to an address that has not answered, few addresses in all (spec/media.md, "Direct paths").

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::reflexive::Reflexive;
use super::stun;
use super::types::{
    CandidateOrigin, Event, PathEnd, PathId, Route, SocketCommand, SocketId, SocketKind, SocketPurpose,
    Transmit,
};
use super::{Session, Way};

/// Host sockets: both families on three interfaces.
const HOSTS_MAX: usize = 6;
/// Addresses of the other end that are remembered; the oldest without a path go first.
const REMOTES_MAX: usize = 16;
/// Pairs being checked at one time, and direct paths in all.
const CHECKING_MAX: usize = 6;
const DIRECT_MAX: usize = 10;
/// Pairs that came to nothing and are left alone until something changes.
const TRIED_MAX: usize = 64;
/// Pairs that may be begun at once, and how long one more takes to earn.
const PAIRS_BURST: u32 = 24;
const PAIR_EARNED: Duration = Duration::from_secs(10);
/// What listens below is not a call. Nobody's media is there, and others' services are.
const PORT_MIN: u16 = 1024;

/// What is known of direct ways.
#[derive(Debug)]
pub(super) struct Direct {
    /// A host was added once: direct paths are allowed.
    wanted: bool,
    pub(super) hosts: Vec<Host>,
    remotes: VecDeque<Remote>,
    tried: VecDeque<(SocketId, SocketAddr)>,
    /// Pairs may be begun, and since when that is counted.
    budget: u32,
    earned_at: Instant,
    /// Something has changed: there may be pairs to begin.
    stir: bool,
    pub(super) mapping_varies: Option<bool>,
}

/// One socket for direct paths.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) socket: SocketId,
    bind: IpAddr,
    pub(super) local: Option<SocketAddr>,
    pub(super) reflexive: Reflexive,
}

#[derive(Debug, Clone, Copy)]
struct Remote {
    addr: SocketAddr,
    kind: CandidateOrigin,
}

impl Direct {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            wanted: false,
            hosts: Vec::new(),
            remotes: VecDeque::new(),
            tried: VecDeque::new(),
            budget: PAIRS_BURST,
            earned_at: now,
            stir: false,
            mapping_varies: None,
        }
    }

    pub(super) fn owns(&self, socket: SocketId) -> bool {
        self.hosts.iter().any(|host| host.socket == socket)
    }

    fn local(&self, socket: SocketId) -> Option<SocketAddr> {
        self.hosts.iter().find(|host| host.socket == socket)?.local
    }

    /// A pair has come to nothing: it makes room for another.
    pub(super) fn gave_up(&mut self, socket: SocketId, remote: SocketAddr) {
        if self.tried.len() == TRIED_MAX {
            self.tried.pop_front();
        }
        self.tried.push_back((socket, remote));
        self.stir = true;
    }

    /// Whether one more pair may be begun, which then counts.
    fn spend(&mut self, now: Instant) -> bool {
        while self.budget < PAIRS_BURST && now.saturating_duration_since(self.earned_at) >= PAIR_EARNED {
            self.budget += 1;
            self.earned_at += PAIR_EARNED;
        }
        if self.budget == PAIRS_BURST {
            self.earned_at = now;
        }
        let may = self.budget > 0;
        self.budget -= u32::from(may);
        may
    }

    /// All pairs, the first of each kind before the second of any: IPv6 before IPv4, host before reflexive.
    fn pairs(&self) -> Vec<(SocketId, Remote)> {
        let mut pairs: Vec<((usize, u8), SocketId, Remote)> = Vec::new();
        for host in &self.hosts {
            let Some(local) = host.local else { continue };
            for remote in self.remotes.iter().filter(|remote| is_target(local, remote.addr)) {
                let class =
                    u8::from(remote.addr.is_ipv4()) + 2 * u8::from(remote.kind != CandidateOrigin::Host);
                let before = pairs.iter().filter(|((_, other), ..)| *other == class).count();
                pairs.push(((before, class), host.socket, *remote));
            }
        }
        pairs.sort_by_key(|(order, ..)| *order);
        pairs.into_iter().map(|(_, socket, remote)| (socket, remote)).collect()
    }
}

impl Session {
    pub(super) fn open_host(&mut self, bind: IpAddr) {
        self.direct.wanted = true;
        let known = self.direct.hosts.iter().any(|host| host.bind == bind);
        if known || self.direct.hosts.len() >= HOSTS_MAX || is_link_local(bind) {
            return;
        }
        let id = SocketId(self.next_socket);
        self.next_socket += 1;
        self.direct.hosts.push(Host { socket: id, bind, local: None, reflexive: Reflexive::new() });
        let kind = SocketKind::Udp { bind: Some(bind), toward: None, purpose: SocketPurpose::Host };
        self.commands.push_back(SocketCommand::Open { id, kind });
    }

    /// A host socket is open, if that is one.
    pub(super) fn host_opened(&mut self, id: SocketId, local: SocketAddr, now: Instant) {
        let Some(host) = self.direct.hosts.iter_mut().find(|host| host.socket == id) else { return };
        host.local = Some(local);
        self.direct.stir = true;
        self.push_event(Event::HostSocket { id, local });
        self.local_candidate(CandidateOrigin::Host, local, None, now);
    }

    /// A host socket is gone, and the paths on it, if that is one.
    pub(super) fn host_closed(&mut self, id: SocketId, now: Instant) {
        let gone: Vec<Host> = self.direct.hosts.extract_if(.., |host| host.socket == id).collect();
        for local in gone.iter().filter_map(|host| host.local) {
            self.push_event(Event::HostSocketClosed { id, local });
        }
        let on_it = |way: &Way| matches!(way, Way::Direct { socket, .. } if *socket == id);
        let paths = self.ways.iter().filter(|(_, way)| on_it(way)).map(|(path, _)| *path);
        for path in paths.collect::<Vec<_>>() {
            self.paths.closed(path, now);
        }
    }

    /// Host sockets follow the machine's addresses.
    pub(super) fn hosts_changed(&mut self, hosts: &[IpAddr], now: Instant) {
        let gone = self.direct.hosts.iter().filter(|host| !hosts.contains(&host.bind));
        for id in gone.map(|host| host.socket).collect::<Vec<_>>() {
            self.host_closed(id, now);
            self.commands.push_back(SocketCommand::Close { id });
        }
        if self.direct.wanted {
            for host in hosts {
                self.open_host(*host);
            }
        }
        self.direct.tried.clear();
        self.direct.stir = true;
    }

    /// Takes an address of the other end.
    pub(super) fn remote_address(&mut self, kind: CandidateOrigin, addr: SocketAddr) {
        let direct = &mut self.direct;
        if direct.remotes.iter().any(|remote| remote.addr == addr) {
            return;
        }
        if direct.remotes.len() == REMOTES_MAX {
            let paths = &self.paths;
            let used = |addr: SocketAddr| {
                self.ways.iter().any(|(id, way)| {
                    matches!(way, Way::Direct { remote, .. } if *remote == addr)
                        && paths.get(*id).is_some_and(|path| !path.closed && path.validated_at.is_some())
                })
            };
            let Some(oldest) = direct.remotes.iter().position(|remote| !used(remote.addr)) else { return };
            direct.remotes.remove(oldest);
        }
        direct.remotes.push_back(Remote { addr, kind });
        direct.stir = true;
    }

    /// Begins pairs, as many as may be, and asks relays for the addresses they see.
    pub(super) fn drive_direct(&mut self, now: Instant) {
        self.gather(now);
        if !std::mem::take(&mut self.direct.stir) {
            return;
        }
        for (socket, remote) in self.direct.pairs() {
            if self.direct.tried.contains(&(socket, remote.addr)) {
                continue;
            }
            self.open_direct(socket, remote.addr, remote.kind, now);
        }
    }

    /// The path of a pair, a new one if there is room.
    pub(super) fn open_direct(
        &mut self,
        socket: SocketId,
        remote: SocketAddr,
        kind: CandidateOrigin,
        now: Instant,
    ) -> Option<PathId> {
        let way = Way::Direct { socket, remote };
        if let Some(known) = self.open_way(way) {
            return Some(known);
        }
        let open = |id: &PathId| {
            let route = self.paths.get(*id).filter(|path| !path.closed && path.route == Route::Direct);
            route.map(|path| path.validated_at.is_none())
        };
        let open: Vec<bool> = self.ways.keys().filter_map(open).collect();
        let checking = open.iter().filter(|checking| **checking).count();
        // One place is kept for who knocks and proves who they are.
        let most = CHECKING_MAX + usize::from(kind == CandidateOrigin::PeerReflexive);
        let local = self.direct.local(socket).filter(|local| is_target(*local, remote))?;
        if checking >= most || open.len() >= DIRECT_MAX || !self.direct.spend(now) {
            return None;
        }
        if kind == CandidateOrigin::PeerReflexive {
            self.history.candidate(false, kind, remote, None, now);
        }
        let id = self.open_path(Route::Direct, way, now)?;
        let local = PathEnd { kind: CandidateOrigin::Host, addr: local };
        self.paths.set_ends(id, local, PathEnd { kind, addr: remote });
        Some(id)
    }

    /// The open path of this way.
    pub(super) fn open_way(&self, way: Way) -> Option<PathId> {
        let is_it = |(id, known): &(&PathId, &Way)| {
            **known == way && self.paths.get(**id).is_some_and(|path| !path.closed)
        };
        self.ways.iter().find(is_it).map(|(id, _)| *id)
    }

    fn gather(&mut self, now: Instant) {
        if self.direct.hosts.is_empty() {
            return;
        }
        let servers: Vec<SocketAddr> =
            self.legs.iter().flat_map(|leg| leg.relay.access.udp.iter().copied()).collect();
        for host in &mut self.direct.hosts {
            let Some(local) = host.local else { continue };
            let reachable = |server: &SocketAddr| {
                server.is_ipv4() == local.is_ipv4() && server.ip().is_loopback() == local.ip().is_loopback()
            };
            let servers = servers.iter().copied().filter(reachable);
            for (to, data) in host.reflexive.questions(servers, &mut self.transactions, now) {
                self.transmits.push_back(Transmit { socket: host.socket, to, data });
            }
        }
    }

    /// Takes a relay's answer about a host socket; `false` if it is none that was asked for.
    pub(super) fn take_reflexive(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        data: &[u8],
        now: Instant,
    ) -> bool {
        let Some(answer) = stun::answer(data) else { return false };
        let Some(host) = self.direct.hosts.iter_mut().find(|host| host.socket == socket) else {
            return false;
        };
        let Some(heard) = host.reflexive.answered(from, answer, now) else { return false };
        if let Some(varies) = heard.varies {
            self.direct.mapping_varies = Some(self.direct.mapping_varies.unwrap_or(false) || varies);
        }
        // Without a NAT it is the host's own address, which is told already.
        if let Some(addr) = heard.new.filter(|addr| Some(*addr) != host.local) {
            self.local_candidate(CandidateOrigin::ServerReflexive, addr, None, now);
            self.direct.tried.clear();
            self.direct.stir = true;
        }
        true
    }

    pub(super) fn direct_timeout(&self) -> Option<Instant> {
        let opened = self.direct.hosts.iter().filter(|host| host.local.is_some());
        opened.filter_map(|host| host.reflexive.poll_timeout()).min()
    }
}

/// Whether a probe may be sent there at all.
fn is_target(local: SocketAddr, remote: SocketAddr) -> bool {
    let special = match remote.ip() {
        IpAddr::V4(ip) => {
            let first = ip.octets()[0];
            ip.is_broadcast() || ip.is_multicast() || ip.is_link_local() || first == 0 || first >= 240
        }
        IpAddr::V6(ip) => {
            ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some()
        }
    };
    !special
        && local.is_ipv4() == remote.is_ipv4()
        && local.ip().is_loopback() == remote.ip().is_loopback()
        && remote.port() >= PORT_MIN
        && remote != local
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::start;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_sensible_addresses_are_probed() {
        let v4 = addr("192.168.1.5:40000");
        let v6 = addr("[2001:db8::5]:40000");
        for bad in [
            "0.0.0.0:5000",
            "0.1.2.3:5000",
            "127.0.0.1:5000",
            "169.254.1.1:5000",
            "224.0.0.251:5353",
            "255.255.255.255:5000",
            "250.1.1.1:5000",
            "192.0.2.1:53",
            "192.168.1.5:40000",
            "[2001:db8::1]:5000",
        ] {
            assert!(!is_target(v4, addr(bad)), "{bad}");
        }
        for bad in ["[::]:5000", "[::1]:5000", "[fe80::1]:5000", "[ff02::1]:5000", "[::ffff:10.0.0.1]:5000"] {
            assert!(!is_target(v6, addr(bad)), "{bad}");
        }
        assert!(is_target(v4, addr("192.168.1.6:5000")) && is_target(v6, addr("[fd00::1]:5000")));
        assert!(is_target(addr("127.0.0.1:9000"), addr("127.0.0.1:9001")), "tests, and one machine");
    }

    #[test]
    fn every_kind_has_its_first_pair_before_any_has_its_second() {
        let now = start();
        let mut direct = Direct::new(now);
        for (n, local) in ["192.168.1.5:40000", "[2001:db8::5]:40000"].into_iter().enumerate() {
            let local = addr(local);
            let socket = SocketId(u32::try_from(n).unwrap());
            let reflexive = Reflexive::new();
            direct.hosts.push(Host { socket, bind: local.ip(), local: Some(local), reflexive });
        }
        for n in 1..6 {
            direct.remotes.push_back(Remote {
                addr: SocketAddr::from(([172, 17, 0, n], 5000)),
                kind: CandidateOrigin::Host,
            });
        }
        direct
            .remotes
            .push_back(Remote { addr: addr("203.0.113.1:5000"), kind: CandidateOrigin::ServerReflexive });
        direct.remotes.push_back(Remote { addr: addr("[2001:db8:1::1]:5000"), kind: CandidateOrigin::Host });
        let pairs = direct.pairs();
        assert_eq!(pairs.len(), 7);
        assert_eq!(pairs[0].1.addr, addr("[2001:db8:1::1]:5000"));
        assert_eq!(pairs[1].1.addr, addr("172.17.0.1:5000"));
        assert_eq!(pairs[2].1.addr, addr("203.0.113.1:5000"));
    }

    #[test]
    fn pairs_are_earned() {
        let now = start();
        let mut direct = Direct::new(now);
        let burst = std::iter::repeat_with(|| direct.spend(now)).take(1_000).filter(|may| *may).count();
        assert_eq!(burst, PAIRS_BURST as usize);
        let hour =
            (1..=36_000u32).filter(|step| direct.spend(now + *step * Duration::from_millis(100))).count();
        assert_eq!(hour, 360);
    }
}
