//! A transport that dials public addresses only: other supernodes' claims about where peers are must not lead this
//! node into its owner's own network.

use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};

use super::address::{PublicAddresses, ip_of, is_plain};

pub(super) struct PublicOnly<T> {
    pub(super) inner: T,
    pub(super) public: PublicAddresses,
}

impl<T: Transport + Unpin> Transport for PublicOnly<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        let mut plain = address.clone();
        if let Some(libp2p::multiaddr::Protocol::P2p(_)) = plain.iter().last() {
            plain.pop();
        }
        if is_plain(&plain) && ip_of(&plain).is_some_and(|ip| self.public.is_public(ip)) {
            self.inner.dial(address, opts)
        } else {
            Err(TransportError::MultiaddrNotSupported(address))
        }
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
