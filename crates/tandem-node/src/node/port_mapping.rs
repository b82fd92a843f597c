//! Ports that the router forwards to a call's sockets (PCP, RFC 6887; NAT-PMP, RFC 6886; UPnP IGD).
//!
//! One task a mapping, on the node's runtime, so that a call whose thread has ended still gives its port back. Nothing
//! runs, and no router is asked, before a call with a contact wants a port.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use portmapper::{Client, Config, Protocol};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Mappings at once: a call has one, and its legs to other devices one each until it is answered.
const MAPPINGS_MAX: usize = 8;
const REQUESTS_MAX: usize = 16;
/// What is asked of the router waits this long for the probe that tells which protocol it speaks.
const PROBE_WITHIN: Duration = Duration::from_secs(3);
/// A router gets this long to take a port back.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// A port that somebody wants to be reached at.
#[derive(Debug)]
pub(crate) struct MappingWanted {
    /// The socket's own address.
    pub(crate) local: SocketAddr,
    /// Hears of the external address, and of another one should it change. The port is given back when its receiver is
    /// dropped.
    pub(crate) told: mpsc::Sender<SocketAddr>,
}

/// Asks for mappings. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PortMapping {
    wanted: Option<mpsc::Sender<MappingWanted>>,
}

impl PortMapping {
    /// No router is ever asked: the owner forbade it.
    pub(crate) fn forbidden() -> Self {
        Self { wanted: None }
    }

    /// Serves from this runtime on until the last clone is dropped and all ports are given back.
    pub(crate) fn start(runtime: &Handle) -> Self {
        let (wanted, requests) = mpsc::channel(REQUESTS_MAX);
        runtime.spawn(serve(requests));
        Self { wanted: Some(wanted) }
    }

    /// Asks for a mapping to this socket. Nothing is promised: most routers that can do it are told not to.
    pub(crate) fn want(&self, wanted: MappingWanted) {
        if let Some(queue) = &self.wanted
            && queue.try_send(wanted).is_err()
        {
            tracing::debug!("too many forwarded ports are wanted at once");
        }
    }

    /// Made by a test: what is wanted comes out of the receiver.
    #[cfg(test)]
    pub(crate) fn observed() -> (Self, mpsc::Receiver<MappingWanted>) {
        let (wanted, requests) = mpsc::channel(REQUESTS_MAX);
        (Self { wanted: Some(wanted) }, requests)
    }
}

async fn serve(mut requests: mpsc::Receiver<MappingWanted>) {
    let mut mappings = JoinSet::new();
    while let Some(wanted) = requests.recv().await {
        while mappings.try_join_next().is_some() {}
        if mappings.len() < MAPPINGS_MAX {
            mappings.spawn(hold(wanted));
        }
    }
    while mappings.join_next().await.is_some() {}
}

/// Asks the router, keeps the mapping alive, and gives it back when nobody listens any more.
async fn hold(wanted: MappingWanted) {
    let Some(port) = NonZeroU16::new(wanted.local.port()) else { return };
    let config =
        Config { enable_upnp: true, enable_pcp: true, enable_nat_pmp: true, protocol: Protocol::Udp };
    let client = Client::new(config);
    // Without it, only UPnP would be tried: the library asks by PCP and NAT-PMP those who are known to speak it.
    tokio::select! {
        () = wanted.told.closed() => return,
        probed = tokio::time::timeout(PROBE_WITHIN, client.probe()) => match probed {
            Ok(Ok(Ok(found))) => tracing::debug!(%found, "what the router speaks"),
            other => tracing::debug!(?other, "the router was not asked for a port"),
        },
    }
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
                if let Some(address) = address.filter(|address| is_of_use(*address.ip())) {
                    if wanted.told.try_send(SocketAddr::V4(address)).is_err() {
                        tracing::debug!("a call does not hear of its forwarded port");
                    }
                }
            }
        }
    }
    let held = external.borrow_and_update().is_some();
    client.deactivate();
    if held {
        let released = external.wait_for(Option::is_none);
        if !matches!(tokio::time::timeout(RELEASE_WITHIN, released).await, Ok(Ok(_))) {
            tracing::debug!("the router did not take its port back; the mapping ends by itself");
        }
        // The library forgets the mapping first and tells the router then.
        tokio::time::sleep(RELEASE_GRACE).await;
    }
}

/// Time for the last packet to the router to leave.
const RELEASE_GRACE: Duration = Duration::from_millis(200);

/// A router behind another NAT may well name an address that nobody can reach from outside: it costs a candidate, and
/// helps in a network of one's own. What is no address at all does not.
fn is_of_use(ip: std::net::Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
}
