//! The policy where it is obeyed: whoever is about to connect, send, bind or serve asks a [`Warden`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use rand::seq::SliceRandom as _;
use tandem_proto::ids::ServiceKey;

use super::{Audit, Policy, Refusal};

/// Local ports tried, of those that the policy leaves, before a socket counts as impossible.
const LOCAL_PORTS_TRIED: usize = 64;

/// Cheap to clone; every part of the node that touches the network holds one.
#[derive(Debug, Clone, Default)]
pub struct Warden {
    policy: Arc<Policy>,
    audit: Audit,
}

impl Warden {
    /// Of this policy, without its audit log.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { policy, audit: Audit::default() }
    }

    /// The same with the audit log, if the policy wants one.
    ///
    /// # Errors
    /// When the log cannot be opened and is required.
    pub fn open(policy: Arc<Policy>) -> io::Result<Self> {
        let audit = policy.audit.as_ref().map(Audit::open).transpose()?.unwrap_or_default();
        Ok(Self { policy, audit })
    }

    /// What happened goes here.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// What is allowed, to ask without anything being about to happen.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Before a connection to a supernode, or a packet to its relay. `None`: whose key it has is not known beforehand.
    ///
    /// # Errors
    /// As [`Policy::may_connect`].
    pub fn may_connect(&self, service: Option<ServiceKey>, at: SocketAddr) -> Result<(), Refusal> {
        self.noted(self.policy.may_connect(service, at))
    }

    /// Before a packet goes directly to the other side of a call.
    ///
    /// # Errors
    /// As [`Policy::may_go_direct`].
    pub fn may_go_direct(&self, at: SocketAddr) -> Result<(), Refusal> {
        self.noted(self.policy.may_go_direct(at))
    }

    /// Before a port is listened on.
    ///
    /// # Errors
    /// As [`Policy::may_listen`].
    pub fn may_listen(&self, port: u16) -> Result<(), Refusal> {
        self.noted(self.policy.may_listen(port))
    }

    /// What was asked, and is refused, is worth a line.
    pub fn noted<T>(&self, answer: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &answer {
            tracing::debug!(%refusal, "the policy refused");
            self.audit.refused(refusal);
        }
        answer
    }

    /// Binds a socket of a call: to any port, or to one that the policy leaves. `bind` is tried with one after another.
    ///
    /// # Errors
    /// What the last try said.
    pub fn bind<T>(&self, ip: IpAddr, mut bind: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
        let Some(range) = &self.policy.ports.local else { return bind(SocketAddr::new(ip, 0)) };
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in shuffled(range) {
            match bind(SocketAddr::new(ip, port)) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                result => return result,
            }
        }
        Err(io::Error::new(last.kind(), format!("no local port that the policy allows is free: {last}")))
    }
}

fn shuffled(range: &RangeInclusive<u16>) -> Vec<u16> {
    let mut ports: Vec<u16> = range.clone().collect();
    ports.shuffle(&mut rand::rng());
    ports.truncate(LOCAL_PORTS_TRIED);
    ports
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;
    use crate::policy::parse;

    #[test]
    fn calls_use_the_ports_that_are_left() {
        let warden = Warden::new(Arc::new(parse("[ports]\nlocal = \"51200-51215\"").unwrap()));
        let ip = IpAddr::V4(Ipv4Addr::new(127, 88, 0, 1));
        let mut open = Vec::new();
        while open.len() < 16 {
            let socket = warden.bind(ip, UdpSocket::bind).unwrap();
            assert!((51_200..=51_215).contains(&socket.local_addr().unwrap().port()));
            open.push(socket);
        }
        assert!(warden.bind(ip, UdpSocket::bind).is_err(), "all of them are taken");
        assert!(Warden::default().bind(ip, UdpSocket::bind).is_ok());
    }
}
