//! The transport that every dial and every listener passes: what an organisation's policy forbids does not happen,
//! whoever wanted it, the DHT included.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use tandem_proto::ids::ServiceKey;

use super::address::{ip_of, is_circuit, key_of};
use crate::policy::{Refusal, Warden};

pub(super) struct Permitted<T> {
    pub(super) inner: T,
    pub(super) warden: Warden,
}

impl<T: Transport<Error = io::Error> + Unpin> Transport for Permitted<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        may_listen(&self.warden, &address).map_err(refused)?;
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        may_dial(&self.warden, &address).map_err(refused)?;
        self.inner.dial(address, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

fn refused(refusal: Refusal) -> TransportError<io::Error> {
    TransportError::Other(io::Error::new(io::ErrorKind::PermissionDenied, refusal.to_string()))
}

/// Of a circuit, the supernode that carries it is asked about: it stands first.
fn may_dial(warden: &Warden, address: &Multiaddr) -> Result<(), Refusal> {
    let service = address.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(key_of(&peer).map(ServiceKey)),
        _ => None,
    });
    match ip_of(address).zip(port_of(address)) {
        Some((ip, port)) => warden.may_connect(service.flatten(), SocketAddr::new(ip, port)),
        // Without an address nothing is dialled.
        None => Ok(()),
    }
}

/// A circuit listens at somebody else's.
fn may_listen(warden: &Warden, address: &Multiaddr) -> Result<(), Refusal> {
    match port_of(address).filter(|port| *port != 0 && !is_circuit(address)) {
        Some(port) => warden.may_listen(port),
        None => Ok(()),
    }
}

fn port_of(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tandem_proto::identity::{DeviceSecret, ServiceSecret};

    use super::*;
    use crate::policy::parse;

    #[test]
    fn every_form_of_address_is_asked_about() {
        let (good, bad) = [1, 2].map(|n| ServiceSecret::from_seed(&[n; 32]).public()).into();
        let device = DeviceSecret::from_seed(&[3; 32]).public();
        let text = format!(
            "[supernodes]\nonly_ids = [\"{good}\"]\nforbid_networks = [\"10.0.0.0/8\"]\n[ports]\noutgoing = [\"443\"]\nlocal = \"50000-50100\""
        );
        let warden = Warden::new(Arc::new(parse(&text).unwrap()));
        for (address, allowed) in [
            (format!("/ip4/192.0.2.1/tcp/443/p2p/{good}"), true),
            (format!("/ip4/192.0.2.1/udp/443/quic-v1/p2p/{good}"), true),
            (format!("/ip4/192.0.2.1/tcp/444/p2p/{good}"), false),
            (format!("/ip4/10.0.0.1/tcp/443/p2p/{good}"), false),
            (format!("/ip4/192.0.2.1/tcp/443/p2p/{bad}"), false),
            ("/ip4/192.0.2.1/tcp/443".to_owned(), false),
            (format!("/ip4/192.0.2.1/tcp/443/p2p/{good}/p2p-circuit/p2p/{device}"), true),
            (format!("/ip4/192.0.2.1/tcp/443/p2p/{bad}/p2p-circuit/p2p/{device}"), false),
        ] {
            assert_eq!(may_dial(&warden, &address.parse().unwrap()).is_ok(), allowed, "{address}");
        }
        for (address, allowed) in [
            ("/ip4/192.0.2.1/tcp/50000".to_owned(), true),
            ("/ip4/192.0.2.1/udp/4001/quic-v1".to_owned(), false),
            ("/ip4/192.0.2.1/udp/0/quic-v1".to_owned(), true),
            (format!("/ip4/192.0.2.1/tcp/443/p2p/{good}/p2p-circuit"), true),
        ] {
            assert_eq!(may_listen(&warden, &address.parse().unwrap()).is_ok(), allowed, "{address}");
        }
    }
}
