//! What a phone knows of the network it is in, and remembers of those it was in. In memory only.

use std::collections::VecDeque;

use crate::platform::network::{Fingerprint, Network};

/// Networks remembered; the one not met for longest goes first.
const REMEMBERED_MAX: usize = 16;
/// What was found in a network is believed this long, in milliseconds: hotels change their minds.
const BELIEVED_MS: u64 = 60 * 60_000;

/// The network now, and those where UDP did not pass.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    now: Network,
    blocked: VecDeque<(Fingerprint, u64)>,
}

impl Networks {
    pub(crate) fn now(&self) -> &Network {
        &self.now
    }

    pub(crate) fn set(&mut self, network: Network) {
        self.now = network;
    }

    /// A call found that UDP does not pass here.
    pub(crate) fn note_udp_blocked(&mut self, mono_ms: u64) {
        let here = self.now.fingerprint();
        self.blocked.retain(|(network, _)| *network != here);
        if self.blocked.len() >= REMEMBERED_MAX {
            self.blocked.pop_front();
        }
        self.blocked.push_back((here, mono_ms));
    }

    /// Whether a call found that lately.
    pub(crate) fn is_udp_blocked(&self, mono_ms: u64) -> bool {
        let here = self.now.fingerprint();
        self.blocked.iter().any(|(network, at)| *network == here && mono_ms < at + BELIEVED_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::network::LocalAddress;

    fn network(n: u8) -> Network {
        let ip = [10, 0, n, 2].into();
        let address = LocalAddress {
            ip,
            interface: 2,
            default_route: Some(1),
            temporary: false,
            deprecated: false,
            bridge: false,
        };
        Network::new(vec![address], Vec::new())
    }

    #[test]
    fn a_network_that_blocks_udp_is_known_again_for_an_hour() {
        let mut networks = Networks::default();
        networks.set(network(1));
        networks.note_udp_blocked(1_000);
        assert!(networks.is_udp_blocked(2_000));
        networks.set(network(2));
        assert!(!networks.is_udp_blocked(2_000));
        networks.set(network(1));
        assert!(networks.is_udp_blocked(BELIEVED_MS));
        assert!(!networks.is_udp_blocked(BELIEVED_MS + 1_000));
    }

    #[test]
    fn few_networks_are_remembered() {
        let mut networks = Networks::default();
        for n in 0..=20 {
            networks.set(network(n));
            networks.note_udp_blocked(u64::from(n));
        }
        assert_eq!(networks.blocked.len(), REMEMBERED_MAX);
        assert!(networks.is_udp_blocked(21));
        networks.set(network(0));
        assert!(!networks.is_udp_blocked(21));
    }
}
