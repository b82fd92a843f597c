//! The sockets of a check: everything at once, everything bounded.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_api::Works;
use tandem_proto::ids::ServiceKey;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::task::JoinSet;

use super::classify::{Observations, TcpAnswer, UdpAnswer};
use super::{CheckPlan, Target};
use crate::stun;

/// When a Binding request is sent (again), after the beginning (RFC 8489 §6.2.1 has 500 ms; a check is shorter).
const SEND_AT: [Duration; 3] = [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(900)];
/// No answer by then: none.
const UDP_WITHIN: Duration = Duration::from_millis(1_800);
const TCP_WITHIN: Duration = Duration::from_millis(2_000);
const HAIRPIN_WITHIN: Duration = Duration::from_millis(400);
/// Requests on one socket: eight supernodes with three addresses.
const REQUESTS_MAX: usize = 24;

/// Asks all at once.
pub(super) async fn observe(plan: &CheckPlan) -> Observations {
    let bind4 = plan.bind.filter(IpAddr::is_ipv4).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let bind6 = plan.bind.filter(IpAddr::is_ipv6).unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let (v4, v6, tcp) =
        tokio::join!(family(bind4, &plan.targets), family(bind6, &plan.targets), connect_all(plan));
    let mut observed = Observations { tcp, ..Observations::default() };
    for target in &plan.targets {
        observed.asked.extend(target.stun.iter().map(|at| (target.service, *at)));
        observed.services.push((target.service, target.stun.first().or(target.tcp.first()).copied()));
    }
    for family in [v4, v6].into_iter().flatten() {
        observed.sources.extend(family.source);
        observed.local_ports.push(family.port);
        observed.udp.extend(family.answers);
        if family.hairpin != Works::Untested {
            observed.hairpin = family.hairpin;
        }
    }
    observed
}

/// What one socket saw.
struct Family {
    source: Option<IpAddr>,
    port: u16,
    answers: Vec<UdpAnswer>,
    hairpin: Works,
}

/// One socket, all supernodes of its family; `None` where this machine has no such family.
async fn family(bind: IpAddr, targets: &[Target]) -> Option<Family> {
    let asked: Vec<(ServiceKey, SocketAddr)> = targets
        .iter()
        .flat_map(|target| target.stun.iter().map(|at| (target.service, *at)))
        .filter(|(_, at)| at.is_ipv4() == bind.is_ipv4())
        .take(REQUESTS_MAX)
        .collect();
    let any = asked.first().map(|(_, at)| *at);
    let any = any
        .or_else(|| targets.iter().flat_map(|it| &it.tcp).find(|at| at.is_ipv4() == bind.is_ipv4()).copied());
    let source = source_towards(bind, any);
    if asked.is_empty() {
        return source.map(|ip| Family {
            source: Some(ip),
            port: 0,
            answers: Vec::new(),
            hairpin: Works::Untested,
        });
    }
    let socket = UdpSocket::bind((bind, 0)).await.ok()?;
    let port = socket.local_addr().ok()?.port();
    let answers = ask(&socket, &asked).await;
    let outside = answers.first().map(|answer| answer.mapped);
    let inside = |at: SocketAddr| source == Some(at.ip()) && at.port() == port;
    let hairpin = match outside.filter(|at| !inside(*at)) {
        Some(outside) => hairpins(&socket, bind, outside).await,
        None => Works::Untested,
    };
    Some(Family { source, port, answers, hairpin })
}

/// The address that packets to `target` leave from; nothing is sent.
fn source_towards(bind: IpAddr, target: Option<SocketAddr>) -> Option<IpAddr> {
    if !bind.is_unspecified() {
        return Some(bind);
    }
    let socket = std::net::UdpSocket::bind((bind, 0)).ok()?;
    socket.connect(target?).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

async fn ask(socket: &UdpSocket, asked: &[(ServiceKey, SocketAddr)]) -> Vec<UdpAnswer> {
    let began = Instant::now();
    // By transaction: whom it went to. An answer must come from there.
    let mut open: BTreeMap<u128, (ServiceKey, SocketAddr, Instant)> = BTreeMap::new();
    for (service, at) in asked {
        open.insert(stun::transaction(), (*service, *at, began));
    }
    let mut answers = Vec::new();
    let mut sends = SEND_AT.into_iter().peekable();
    let mut datagram = [0; 1_500];
    while !open.is_empty() && began.elapsed() < UDP_WITHIN {
        if sends.next_if(|at| *at <= began.elapsed()).is_some() {
            for (id, (_, at, sent)) in &mut open {
                *sent = Instant::now();
                if let Err(error) = socket.send_to(&stun::request(*id), *at).await {
                    tracing::debug!(%error, "a supernode could not be asked");
                }
            }
        }
        let next = sends.peek().copied().unwrap_or(UDP_WITHIN).saturating_sub(began.elapsed());
        let received = tokio::time::timeout(next, socket.recv_from(&mut datagram)).await;
        // An ICMP error of another destination, or none in time.
        let Ok(Ok((length, from))) = received else { continue };
        let Some((id, mapped)) = stun::mapped(&datagram[..length]) else { continue };
        if open
            .get(&id)
            .is_some_and(|(_, at, _)| at.port() == from.port() && at.ip() == from.ip().to_canonical())
            && let Some((service, server, sent)) = open.remove(&id)
        {
            let round_trip_ms = sent.elapsed().as_secs_f64() * 1_000.0;
            answers.push(UdpAnswer { service, server, mapped, round_trip_ms });
        }
    }
    answers
}

/// Whether a datagram from another socket of this machine comes back in through the NAT (RFC 5780 §4.5).
async fn hairpins(socket: &UdpSocket, bind: IpAddr, outside: SocketAddr) -> Works {
    let Ok(other) = UdpSocket::bind((bind, 0)).await else { return Works::Untested };
    let token: [u8; 16] = rand::random();
    if other.send_to(&token, outside).await.is_err() {
        return Works::No;
    }
    let mut datagram = [0; 1_500];
    let arrives = async {
        loop {
            match socket.recv_from(&mut datagram).await {
                Ok((16, _)) if datagram[..16] == token => return Works::Yes,
                Ok(_) => {}
                // An ICMP error: a closed port, say. It may not be this datagram's.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(HAIRPIN_WITHIN, arrives).await.unwrap_or(Works::No)
}

async fn connect_all(plan: &CheckPlan) -> Vec<TcpAnswer> {
    let mut connecting = JoinSet::new();
    for target in &plan.targets {
        for at in target.tcp.iter().copied() {
            let (service, bind) = (target.service, plan.bind);
            connecting.spawn(async move {
                TcpAnswer { service, server: at, round_trip_ms: connect(bind, at).await }
            });
        }
    }
    let mut answers = Vec::new();
    while let Some(answer) = connecting.join_next().await {
        answers.extend(answer);
    }
    answers.sort_by_key(|answer| (answer.service, answer.server));
    answers
}

/// How long the handshake took; `None`: refused, or not in time.
async fn connect(bind: Option<IpAddr>, at: SocketAddr) -> Option<f64> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.ok()?;
    if let Some(bind) = bind.filter(|bind| bind.is_ipv4() == at.is_ipv4()) {
        socket.bind(SocketAddr::new(bind, 0)).ok()?;
    }
    let began = Instant::now();
    tokio::time::timeout(TCP_WITHIN, socket.connect(at)).await.ok()?.ok()?;
    Some(began.elapsed().as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use tandem_api::{NatMapping, NetworkKind};

    use super::*;
    use crate::network_check::{CheckPlan, check};

    /// A STUN server that tells what `lie` makes of the truth.
    async fn server(lie: impl Fn(SocketAddr) -> SocketAddr + Send + 'static) -> SocketAddr {
        use stun_types::attribute::XorMappedAddress;
        use stun_types::message::{Message, MessageWriteVec};
        use stun_types::prelude::*;

        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut datagram = [0; 1_500];
            loop {
                let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
                let answer = {
                    let message = Message::from_bytes(&datagram[..length]).unwrap();
                    let mut answer = Message::builder_success(&message, MessageWriteVec::new());
                    let mapped = XorMappedAddress::new(lie(from), message.transaction_id());
                    answer.add_attribute(&mapped).unwrap();
                    answer.finish()
                };
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        at
    }

    fn plan(stun: &[SocketAddr]) -> CheckPlan {
        let target = |(n, at): (u8, &SocketAddr)| Target {
            service: ServiceKey([n; 32]),
            stun: vec![*at],
            tcp: Vec::new(),
        };
        CheckPlan { targets: (1..).zip(stun).map(target).collect(), ..CheckPlan::default() }
    }

    #[tokio::test]
    async fn servers_on_this_machine_see_it_as_it_is() {
        let servers = [server(|from| from).await, server(|from| from).await];
        let report = check(plan(&servers)).await;
        assert_eq!(report.udp, Works::Yes, "{report:#?}");
        assert_eq!(report.nat.mapping, NatMapping::None);
        assert_eq!(report.kind, NetworkKind::Public);
        assert!(report.supernodes.iter().all(|probe| probe.udp_round_trip_ms.is_some()));
    }

    #[tokio::test]
    async fn a_nat_that_gives_each_server_another_port_is_symmetric() {
        let nat = |port: u16| move |_: SocketAddr| SocketAddr::from(([192, 0, 2, 1], port));
        let servers = [server(nat(1_001)).await, server(nat(1_002)).await];
        let report = check(plan(&servers)).await;
        assert_eq!(report.nat.mapping, NatMapping::AddressDependent, "{report:#?}");
        assert_eq!(report.kind, NetworkKind::SymmetricNat);
    }

    #[tokio::test]
    async fn an_answer_of_somebody_else_is_not_taken() {
        // It answers from another port than it was asked at, with the right transaction.
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = front.local_addr().unwrap();
        tokio::spawn(async move {
            let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let mut datagram = [0; 1_500];
            loop {
                let (length, from) = front.recv_from(&mut datagram).await.unwrap();
                let mut answer = datagram[..length].to_vec();
                answer[..2].copy_from_slice(&[0x01, 0x01]);
                other.send_to(&answer, from).await.unwrap();
            }
        });
        let report = check(plan(&[at])).await;
        assert_eq!(report.udp, Works::No, "{report:#?}");
        assert!(report.took_ms <= 3_000, "{}", report.took_ms);
    }
}
