//! Ports that the router forwards (PCP, RFC 6887; NAT-PMP, RFC 6886; UPnP IGD): to a call's sockets, and to the places
//! where a volunteer's node listens.
//!
//! One task a mapping, on the node's runtime, so that a call whose thread has ended still gives its port back. Nothing
//! runs, and no router is asked, before a call with a contact wants a port, or a volunteer's node listens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use portmapper::{Client, Config, ProbeOutput, Protocol};
use tandem_core::election::Carrier;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Mappings at once: a call has one, and its legs to other devices one each until it is answered.
const MAPPINGS_MAX: usize = 8;
/// Ports kept for a service at once: QUIC, the relay and TCP, and as many that are being given back after the network
/// changed.
const KEPT_MAX: usize = 6;
const REQUESTS_MAX: usize = 16;
/// What is asked of the router waits this long for the probe that tells which protocol it speaks.
const PROBE_WITHIN: Duration = Duration::from_secs(3);
/// A call that ends while its port is being asked for waits so long for the answer: the library's own patience.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// A router that spoke none of the protocols is asked again after this long, since it or this machine may be busy …
const PROBE_AGAIN: Duration = Duration::from_secs(5);
/// … and each time after twice as long, up to this: it may have been told to since.
const PROBE_AGAIN_MAX: Duration = Duration::from_secs(15 * 60);
/// A kept port whose mapping was refused or lost is asked for again this often.
const MAP_AGAIN: Duration = Duration::from_secs(60);
/// A router gets this long to take a port back.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);
/// A node that ends waits so long for that: both of the above, and some grace.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(4);

/// A port that somebody wants to be reached at.
#[derive(Debug)]
pub(crate) struct MappingWanted {
    /// The socket's own address.
    pub(crate) local: SocketAddr,
    /// Hears of the external address, and of another one should it change. The port is given back when its receiver is
    /// dropped.
    pub(crate) told: mpsc::Sender<SocketAddr>,
}

/// A port that is to stay forwarded for as long as somebody listens to what becomes of it.
#[derive(Debug)]
pub(crate) struct KeptWanted {
    pub(crate) port: u16,
    pub(crate) carrier: Carrier,
    /// Hears of the external address, and when there is none (any more).
    pub(crate) told: watch::Sender<Option<SocketAddr>>,
}

/// Asks for mappings. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PortMapping {
    queue: Option<Queue>,
}

#[derive(Debug, Clone)]
struct Queue {
    wanted: mpsc::Sender<MappingWanted>,
    kept: mpsc::Sender<KeptWanted>,
    /// How many mappings are held or being given back.
    held: watch::Receiver<usize>,
}

impl PortMapping {
    /// No router is ever asked: the owner forbade it.
    pub(crate) fn forbidden() -> Self {
        Self { queue: None }
    }

    /// Serves from this runtime on until the last clone is dropped and all ports are given back.
    pub(crate) fn start(runtime: &Handle) -> Self {
        let (wanted, requests) = mpsc::channel(REQUESTS_MAX);
        let (kept, to_keep) = mpsc::channel(REQUESTS_MAX);
        let (count, held) = watch::channel(0);
        runtime.spawn(serve(requests, to_keep, count));
        Self { queue: Some(Queue { wanted, kept, held }) }
    }

    /// Keeps this port of the machine forwarded until the receiver is dropped; then the router gets it back. `None`: the
    /// router forwards nothing (yet); it is asked again now and then.
    pub(crate) fn keep(&self, port: u16, carrier: Carrier) -> watch::Receiver<Option<SocketAddr>> {
        let (told, mapped) = watch::channel(None);
        if let Some(queue) = &self.queue
            && queue.kept.try_send(KeptWanted { port, carrier, told }).is_err()
        {
            tracing::warn!(port, "too many forwarded ports are wanted for the service");
        }
        mapped
    }

    /// Asks for a mapping to this socket. Nothing is promised: most routers that can do it are told not to.
    pub(crate) fn want(&self, wanted: MappingWanted) {
        if let Some(queue) = &self.queue
            && queue.wanted.try_send(wanted).is_err()
        {
            tracing::debug!("too many forwarded ports are wanted at once");
        }
    }

    /// Waits until the router has all ports back, for a node that ends: calls that have ended let go of theirs. Not for
    /// long, should the router not answer; what it keeps ends by itself.
    pub(crate) async fn given_back(&self) {
        let Some(queue) = &self.queue else { return };
        let mut held = queue.held.clone();
        if tokio::time::timeout(GIVEN_BACK_WITHIN, held.wait_for(|held| *held == 0)).await.is_err() {
            tracing::debug!("the node ends before the router has taken all ports back");
        }
    }

    /// Made by a test: what is wanted comes out of the receiver.
    #[cfg(test)]
    pub(crate) fn observed() -> (Self, mpsc::Receiver<MappingWanted>) {
        let (wanted, requests) = mpsc::channel(REQUESTS_MAX);
        let kept = mpsc::channel(REQUESTS_MAX).0;
        (Self { queue: Some(Queue { wanted, kept, held: watch::channel(0).1 }) }, requests)
    }

    /// The same for ports that are to be kept.
    #[cfg(test)]
    pub(crate) fn observed_kept() -> (Self, mpsc::Receiver<KeptWanted>) {
        let (kept, requests) = mpsc::channel(REQUESTS_MAX);
        let wanted = mpsc::channel(REQUESTS_MAX).0;
        (Self { queue: Some(Queue { wanted, kept, held: watch::channel(0).1 }) }, requests)
    }
}

async fn serve(
    mut requests: mpsc::Receiver<MappingWanted>,
    mut to_keep: mpsc::Receiver<KeptWanted>,
    count: watch::Sender<usize>,
) {
    let (mut mappings, mut kept) = (JoinSet::new(), JoinSet::new());
    let mut turns: BTreeMap<(u16, Carrier), Turn> = BTreeMap::new();
    loop {
        tokio::select! {
            wanted = requests.recv() => match wanted {
                Some(wanted) if mappings.len() < MAPPINGS_MAX => drop(mappings.spawn(hold(wanted))),
                Some(_) => tracing::debug!("too many forwarded ports at once"),
                None => break,
            },
            Some(wanted) = to_keep.recv() => {
                if kept.len() < KEPT_MAX {
                    turns.retain(|_, turn| Arc::strong_count(turn) > 1);
                    let turn = turns.entry((wanted.port, wanted.carrier)).or_default();
                    kept.spawn(keep(wanted, Arc::clone(turn)));
                } else {
                    tracing::warn!("too many forwarded ports are kept for the service");
                }
            }
            Some(_) = mappings.join_next() => {}
            Some(_) = kept.join_next() => {}
        }
        count.send_replace(mappings.len() + kept.len());
    }
    // Both ends of the queue go together.
    to_keep.close();
    while mappings.join_next().await.is_some() || kept.join_next().await.is_some() {
        count.send_replace(mappings.len() + kept.len());
    }
}

/// Speaks whatever the router speaks, about UDP.
pub(crate) fn client() -> Client {
    client_for(Carrier::Udp, None)
}

/// Speaks one protocol, or any. The library forgets what a router speaks after ten minutes, before a mapping is due to be
/// renewed, and then tries UPnP: what is to be kept goes on in the protocol that it began in.
fn client_for(carrier: Carrier, only: Option<Spoken>) -> Client {
    let speaks = |protocol: Spoken| only.is_none_or(|only| only == protocol);
    let protocol = match carrier {
        Carrier::Udp => Protocol::Udp,
        Carrier::Tcp => Protocol::Tcp,
    };
    Client::new(Config {
        enable_upnp: speaks(Spoken::Upnp),
        enable_pcp: speaks(Spoken::Pcp),
        enable_nat_pmp: speaks(Spoken::NatPmp),
        protocol,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Pcp,
    NatPmp,
    Upnp,
}

/// The best that it speaks; only UPnP works without having been found first.
fn best_of(found: &ProbeOutput) -> Option<Spoken> {
    let spoken = [(found.pcp, Spoken::Pcp), (found.nat_pmp, Spoken::NatPmp), (found.upnp, Spoken::Upnp)];
    spoken.into_iter().find(|(speaks, _)| *speaks).map(|(_, spoken)| spoken)
}

/// Held while a port is kept, until it is given back: giving it back afterwards would take it from who asked next.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// Keeps a port forwarded: asks again where there was no answer, and where a mapping was lost.
async fn keep(wanted: KeptWanted, turn: Turn) {
    let Some(port) = NonZeroU16::new(wanted.port) else { return };
    let _turn = tokio::select! {
        () = wanted.told.closed() => return,
        turn = turn.lock() => turn,
    };
    let mut wait = PROBE_AGAIN;
    loop {
        let client = client_for(wanted.carrier, None);
        let found = tokio::select! {
            () = wanted.told.closed() => return,
            found = probe(&client) => found,
        };
        if let Some(spoken) = found.as_ref().and_then(best_of) {
            return keep_by(spoken, port, &wanted).await;
        }
        tokio::select! {
            () = wanted.told.closed() => return,
            () = tokio::time::sleep(wait) => wait = (2 * wait).min(PROBE_AGAIN_MAX),
        }
    }
}

async fn keep_by(spoken: Spoken, port: NonZeroU16, wanted: &KeptWanted) {
    let client = client_for(wanted.carrier, Some(spoken));
    let mut external = client.watch_external_address();
    client.update_local_port(port);
    let mut again = tokio::time::interval_at(tokio::time::Instant::now() + MAP_AGAIN, MAP_AGAIN);
    loop {
        tokio::select! {
            () = wanted.told.closed() => break,
            changed = external.changed() => {
                if changed.is_err() {
                    return;
                }
                let address = external.borrow_and_update().filter(|address| is_of_use(*address.ip()));
                wanted.told.send_replace(address.map(SocketAddr::V4));
            }
            // Nothing happens while there is a mapping.
            _ = again.tick() => client.procure_mapping(),
        }
    }
    if external.borrow_and_update().is_none() {
        // The router may be about to answer: a mapping that nobody knows of could not be given back.
        drop(tokio::time::timeout(ANSWER_WITHIN, external.wait_for(Option::is_some)).await);
    }
    // By NAT-PMP, portmapper 0.20 gives a TCP port back as if it were UDP: the router's mapping then ends by its lifetime.
    give_back(&client, external, spoken != Spoken::Upnp).await;
}

async fn probe(client: &Client) -> Option<ProbeOutput> {
    match tokio::time::timeout(PROBE_WITHIN, client.probe()).await {
        Ok(Ok(Ok(found))) => Some(found),
        _ => None,
    }
}

/// Asks the router, keeps the mapping alive, and gives it back when nobody listens any more.
async fn hold(wanted: MappingWanted) {
    let Some(port) = NonZeroU16::new(wanted.local.port()) else { return };
    let client = client();
    // Without it, only UPnP would be tried: the library asks by PCP and NAT-PMP those who are known to speak it.
    let found = tokio::select! {
        () = wanted.told.closed() => return,
        found = probe(&client) => found,
    };
    tracing::debug!(?found, "what the router speaks");
    let mut external = client.watch_external_address();
    client.update_local_port(port);
    loop {
        tokio::select! {
            () = wanted.told.closed() => break,
            changed = external.changed() => {
                if changed.is_err() {
                    return;
                }
                let address = *external.borrow_and_update();
                if let Some(address) = address.filter(|address| is_of_use(*address.ip()))
                    && wanted.told.try_send(SocketAddr::V4(address)).is_err()
                {
                    tracing::debug!("a call does not hear of its forwarded port");
                }
            }
        }
    }
    if found.as_ref().is_some_and(speaks) && external.borrow_and_update().is_none() {
        // The router may be about to answer: a mapping that nobody knows of could not be given back.
        drop(tokio::time::timeout(ANSWER_WITHIN, external.wait_for(Option::is_some)).await);
    }
    let by_packet = found.as_ref().is_some_and(|found| found.pcp || found.nat_pmp);
    give_back(&client, external, by_packet).await;
}

async fn give_back(
    client: &Client,
    mut external: watch::Receiver<Option<std::net::SocketAddrV4>>,
    by_packet: bool,
) {
    let held = external.borrow_and_update().is_some();
    client.deactivate();
    if held {
        let released = external.wait_for(Option::is_none);
        if !matches!(tokio::time::timeout(RELEASE_WITHIN, released).await, Ok(Ok(_))) {
            tracing::debug!("the router did not take its port back; the mapping ends by itself");
        }
        // The library forgets the mapping first and tells the router then: by one packet, or by a web request.
        tokio::time::sleep(if by_packet { PACKET_GRACE } else { UPNP_GRACE }).await;
    }
}

fn speaks(found: &ProbeOutput) -> bool {
    found.pcp || found.nat_pmp || found.upnp
}

/// Time for the last packet to the router to leave.
const PACKET_GRACE: Duration = Duration::from_millis(200);
/// Time for the router to take a web request.
const UPNP_GRACE: Duration = Duration::from_secs(1);

/// A router behind another NAT may well name an address that nobody can reach from outside: it costs a candidate, and
/// helps in a network of one's own. What is no address at all does not.
fn is_of_use(ip: std::net::Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::process::Command;
    use std::sync::mpsc as std_mpsc;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
    const OUTSIDE_PORT: u16 = 40_000;
    /// The library gives a router half a second; on a busy machine it is asked again.
    const WITHIN: Duration = Duration::from_secs(90);

    fn ip(arguments: &str) {
        let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What the router was asked: a mapping for this port, by this carrier and for this lifetime.
    type Asked = (u16, Carrier, u32);

    /// A router that speaks NAT-PMP (RFC 6886 §3), in a network namespace of its own. Gives the number of its thread, by
    /// which the namespace is found, then serves as soon as its interface is there, and says so.
    fn router(
        thread: &std_mpsc::Sender<String>,
        begin: &std_mpsc::Receiver<()>,
        asked: &mpsc::Sender<Asked>,
    ) {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace can be made: run this test as root");
        let link = std::fs::read_link("/proc/thread-self").unwrap();
        thread.send(link.file_name().unwrap().to_string_lossy().into_owned()).unwrap();
        begin.recv().unwrap();
        ip(&format!("address add {ROUTER}/24 dev inside"));
        ip("link set inside up");
        let socket = UdpSocket::bind((ROUTER, 5351)).unwrap();
        thread.send("it listens".to_owned()).unwrap();
        socket.set_read_timeout(Some(WITHIN)).unwrap();
        let mut buffer = [0; 64];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let answer = match &buffer[..len] {
                [0, 0] => [&[0, 128, 0, 0, 0, 0, 0, 1][..], &OUTSIDE.octets()].concat(),
                [0, code @ (1 | 2), _, _, inside @ .., a, b, c, d] => {
                    let port = u16::from_be_bytes([inside[0], inside[1]]);
                    let lifetime = u32::from_be_bytes([*a, *b, *c, *d]);
                    let carrier = if *code == 1 { Carrier::Udp } else { Carrier::Tcp };
                    asked.blocking_send((port, carrier, lifetime)).unwrap();
                    let outside = OUTSIDE_PORT.to_be_bytes();
                    [&[0, 128 + *code, 0, 0, 0, 0, 0, 1][..], &inside[..2], &outside, &[*a, *b, *c, *d]]
                        .concat()
                }
                // PCP: it does not know that version.
                _ => continue,
            };
            socket.send_to(&answer, from).unwrap();
            if buffer[1] > 0 && buffer[8..12] == [0; 4] {
                return;
            }
        }
    }

    /// On a machine of its own behind such a router, until its one port is given back.
    fn behind_a_router<F: Future<Output = ()>>(
        act: impl FnOnce(mpsc::Receiver<Asked>) -> F + Send + 'static,
    ) {
        let (thread_told, thread) = std_mpsc::channel();
        let (begin, begun) = std_mpsc::channel();
        let (asked_told, asked) = mpsc::channel(16);
        let serving = std::thread::spawn(move || router(&thread_told, &begun, &asked_told));
        let machine = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("a network namespace can be made: run this test as root");
            let router = thread.recv_timeout(WITHIN).unwrap();
            ip("link add lan type veth peer name inside");
            ip(&format!("link set inside netns {router}"));
            begin.send(()).unwrap();
            ip("address add 192.168.77.2/24 dev lan");
            ip("link set lan up");
            ip(&format!("route add default via {ROUTER}"));
            thread.recv_timeout(WITHIN).expect("the router listens");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(act(asked));
        });
        machine.join().expect("the machine's part ends well");
        serving.join().expect("the router's part ends well");
    }

    async fn given_back(ports: &PortMapping, asked: &mut mpsc::Receiver<Asked>) -> Option<Asked> {
        ports.given_back().await;
        assert_eq!(*ports.queue.as_ref().unwrap().held.borrow(), 0, "a node that ends waits for that");
        tokio::time::timeout(WITHIN, asked.recv()).await.unwrap()
    }

    #[test]
    fn a_port_is_asked_of_the_router_and_given_back() {
        behind_a_router(async |mut asked| {
            let ports = PortMapping::start(&Handle::current());
            let (told, mut mapped) = mpsc::channel(4);
            ports.want(MappingWanted { local: "192.168.77.2:7777".parse().unwrap(), told });
            let external = tokio::time::timeout(WITHIN, mapped.recv()).await.expect("in time");
            assert_eq!(external, Some((OUTSIDE, OUTSIDE_PORT).into()));
            let (port, carrier, lifetime) = asked.recv().await.unwrap();
            assert_eq!((port, carrier), (7777, Carrier::Udp));
            assert!(lifetime > 60, "for {lifetime} s");
            drop(mapped);
            assert_eq!(given_back(&ports, &mut asked).await, Some((7777, Carrier::Udp, 0)));
        });
    }

    #[test]
    fn a_port_is_kept_for_as_long_as_somebody_wants_it() {
        behind_a_router(async |mut asked| {
            let ports = PortMapping::start(&Handle::current());
            let mut mapped = ports.keep(7778, Carrier::Udp);
            let told = tokio::time::timeout(WITHIN, mapped.wait_for(Option::is_some)).await.is_ok();
            assert!(told && *mapped.borrow() == Some((OUTSIDE, OUTSIDE_PORT).into()), "{mapped:?}");
            let (port, carrier, lifetime) = asked.recv().await.unwrap();
            assert_eq!((port, carrier), (7778, Carrier::Udp));
            assert!(lifetime > 60, "for {lifetime} s");
            // Somebody else wants the same one: asked for only when it was given back.
            let next = ports.keep(7778, Carrier::Udp);
            drop(mapped);
            let back = tokio::time::timeout(WITHIN, asked.recv()).await.unwrap();
            assert_eq!(back, Some((7778, Carrier::Udp, 0)));
            drop(next);
            ports.given_back().await;
            assert_eq!(*ports.queue.as_ref().unwrap().held.borrow(), 0);
        });
    }

    #[test]
    fn who_forbids_it_asks_nobody() {
        let (told, mut mapped) = mpsc::channel(4);
        PortMapping::forbidden().want(MappingWanted { local: "192.168.77.2:7777".parse().unwrap(), told });
        assert_eq!(mapped.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(*PortMapping::forbidden().keep(7777, Carrier::Udp).borrow(), None);
    }

    #[test]
    fn what_is_no_address_is_not_told() {
        assert!(!is_of_use(Ipv4Addr::UNSPECIFIED) && !is_of_use(Ipv4Addr::LOCALHOST));
        assert!(is_of_use(OUTSIDE) && is_of_use(Ipv4Addr::new(100, 64, 0, 1)));
    }
}
