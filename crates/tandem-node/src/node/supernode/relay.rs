//! The relay role: the relay's own thread and sockets, and what the node knows of it.

use std::net::SocketAddr;

use tandem_proto::grant::RelaySecret;
use tandem_proto::ids::ServiceKey;
use tandem_relay::config::{Config, Rate};
use tandem_relay::credentials::Credentials;
use tandem_relay::driver::{AllocationRow, DriverConfig, Handle, StartError, start};
use tokio::net::TcpStream;

use crate::config::Caps;

/// A running relay of this node.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    handle: Handle,
    allocations_max: usize,
}

impl Relay {
    /// Starts it on the port after each of the service's own (QUIC's short headers overlap ChannelData, RFC 9443).
    pub(crate) fn start(
        service: ServiceKey,
        secret: RelaySecret,
        listen: &[SocketAddr],
        caps: &Caps,
        seed: [u8; 32],
    ) -> Result<Self, StartError> {
        let udp = listen.iter().copied().map(relay_address).collect();
        let mut config = Config::new(Credentials::Grants { relay: service, secret });
        (config.allocations_max, config.total_rate) = limits(caps);
        let driver = DriverConfig { udp, ..DriverConfig::default() };
        let allocations_max = config.allocations_max;
        let handle = start(&driver, config, seed)?;
        Ok(Self { handle, allocations_max })
    }

    /// Takes a TCP connection whose first byte said STUN.
    pub(crate) fn adopt(&self, stream: TcpStream, remote: SocketAddr) {
        let adopted = stream.into_std().map_err(|error| error.to_string()).and_then(|stream| {
            self.handle.adopt(stream, remote, Vec::new()).map_err(|error| error.to_string())
        });
        if let Err(error) = adopted {
            tracing::debug!(error, "a TCP connection for the relay was not taken");
        }
    }

    /// The owner gives less, or more.
    pub(crate) fn set_caps(&mut self, caps: &Caps) {
        let (allocations_max, total_rate) = limits(caps);
        self.allocations_max = allocations_max;
        self.handle.set_limits(allocations_max, total_rate);
    }

    /// Of the allocations its owner allows, 0 to 100.
    pub(crate) fn load_percent(&self) -> u32 {
        let held = self.stats().server.allocations.saturating_mul(100) / self.allocations_max.max(1);
        u32::try_from(held.min(100)).unwrap_or(100)
    }

    pub(crate) fn allocations(&self) -> Vec<AllocationRow> {
        self.handle.allocations()
    }

    pub(crate) fn stats(&self) -> tandem_relay::driver::DriverStats {
        self.handle.stats()
    }

    /// Refuses new allocations; those there are live on.
    pub(crate) fn drain(&self) {
        self.handle.drain();
    }

    /// Takes new allocations again.
    pub(crate) fn resume(&self) {
        self.handle.resume();
    }

    /// Answers Binding and nothing else; allocations end.
    pub(crate) fn stand_by(&self) {
        self.handle.stand_by();
    }

    pub(crate) fn shutdown(&self) {
        self.handle.shutdown();
    }
}

/// Two allocations a call; sound of all calls together.
fn limits(caps: &Caps) -> (usize, Option<Rate>) {
    let allocations_max = usize::try_from(caps.calls).unwrap_or(usize::MAX).saturating_mul(2);
    (allocations_max, Some(Rate::of_bits(caps.bits_per_second)))
}

/// Where the relay of a service that listens at `listen` speaks STUN and TURN over UDP.
pub(crate) fn relay_address(listen: SocketAddr) -> SocketAddr {
    SocketAddr::new(listen.ip(), listen.port().saturating_add(1))
}
