//! What a supernode says of itself.

use std::fmt;

use super::{
    HOMES_LIFE_S_MAX, SignedError, account_key, check_addresses, check_counter, check_end, check_signature,
    check_text, open, service_key, sign,
};
use crate::identity::ServiceSecret;
use crate::ids::{AccountKey, ServiceKey};
use crate::multiaddr::TransportAddress;
use crate::wire;

/// Verified: a supernode's keys, roles and addresses, as it says itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SupernodeDescriptor {
    service: ServiceKey,
    sequence: u64,
    not_after_s: u64,
    roles: Roles,
    addresses: Vec<Vec<u8>>,
    relay: Vec<Vec<u8>>,
    load_percent: u32,
    software: String,
    echo: Option<AccountKey>,
    signed: wire::Signed,
}

/// What a supernode does for others: a set of bits. Unknown bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Roles(pub u32);

impl Roles {
    /// Keeps the directory, is a home.
    pub const DIRECTORY: Self = Self(1);
    /// Relays calls (STUN and TURN).
    pub const RELAY: Self = Self(2);

    /// Whether all of `other`'s bits are set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roles({:#b})", self.0)
    }
}

/// What goes into a new descriptor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewDescriptor {
    /// From [`crate::record::next_sequence`].
    pub sequence: u64,
    /// Unix seconds, at most 26 h ahead.
    pub not_after_s: u64,
    pub roles: Roles,
    /// Of the service swarm: binary multiaddrs without `/p2p`, at most 8.
    pub addresses: Vec<Vec<u8>>,
    /// STUN and TURN: binary multiaddrs, at most 8.
    pub relay: Vec<Vec<u8>>,
    /// 0 to 100; rounded to steps of 10 by `issue`.
    pub load_percent: u32,
    /// At most 64 bytes.
    pub software: String,
    /// Account of the echo service it runs.
    pub echo: Option<AccountKey>,
}

impl SupernodeDescriptor {
    /// Makes a descriptor.
    ///
    /// # Errors
    /// [`SignedError`] when its content breaks a limit.
    pub fn issue(secret: &ServiceSecret, new: NewDescriptor) -> Result<Self, SignedError> {
        let message = wire::SupernodeDescriptor {
            service: secret.public().0.to_vec(),
            sequence: new.sequence,
            not_after_s: new.not_after_s,
            roles: new.roles.0,
            addresses: new.addresses,
            relay: new.relay,
            load_percent: new.load_percent.saturating_add(5) / 10 * 10,
            software: new.software,
            echo: new.echo.map(|account| account.0.to_vec()).unwrap_or_default(),
        };
        Self::parse(&sign(&message, secret))
    }

    /// Verifies a descriptor at `unix_ms`. It is signed by the very key it describes, so it proves that the
    /// supernode said this, not that it is true.
    ///
    /// # Errors
    /// [`SignedError`] says what is wrong with it.
    pub fn verify(signed: &wire::Signed, unix_ms: u64) -> Result<Self, SignedError> {
        let descriptor = Self::parse(signed)?;
        descriptor.check_time(unix_ms)?;
        check_signature::<wire::SupernodeDescriptor>(signed, |domain, payload, signature| {
            descriptor.service.verifies(domain, payload, signature)
        })?;
        Ok(descriptor)
    }

    /// Whether it is still valid at `unix_ms`.
    ///
    /// # Errors
    /// `Expired` or `LivesTooLong`.
    pub fn check_time(&self, unix_ms: u64) -> Result<(), SignedError> {
        check_end(self.not_after_s, HOMES_LIFE_S_MAX, unix_ms)
    }

    /// Its key.
    #[must_use]
    pub fn service(&self) -> ServiceKey {
        self.service
    }

    /// Higher replaces lower.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// End, in unix seconds.
    #[must_use]
    pub fn not_after_s(&self) -> u64 {
        self.not_after_s
    }

    /// What it does for others.
    #[must_use]
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// Where its service swarm listens: binary multiaddrs without `/p2p`, unknown forms included.
    #[must_use]
    pub fn addresses(&self) -> &[Vec<u8>] {
        &self.addresses
    }

    /// Where its STUN and TURN server listens: binary multiaddrs, unknown forms included.
    #[must_use]
    pub fn relay(&self) -> &[Vec<u8>] {
        &self.relay
    }

    /// The addresses of the service swarm in the forms this version knows.
    pub fn known_addresses(&self) -> impl Iterator<Item = TransportAddress> + '_ {
        self.addresses.iter().filter_map(|bytes| TransportAddress::from_bytes(bytes).ok())
    }

    /// The relay's addresses in the forms this version knows.
    pub fn known_relay(&self) -> impl Iterator<Item = TransportAddress> + '_ {
        self.relay.iter().filter_map(|bytes| TransportAddress::from_bytes(bytes).ok())
    }

    /// 0 to 100, in steps of 10.
    #[must_use]
    pub fn load_percent(&self) -> u32 {
        self.load_percent
    }

    /// Claimed name and version of its program.
    #[must_use]
    pub fn software(&self) -> &str {
        &self.software
    }

    /// The account to call for a test call, if it runs an echo service.
    #[must_use]
    pub fn echo(&self) -> Option<AccountKey> {
        self.echo
    }

    /// The envelope as it was signed.
    #[must_use]
    pub fn signed(&self) -> &wire::Signed {
        &self.signed
    }

    /// Everything but signature and time.
    fn parse(signed: &wire::Signed) -> Result<Self, SignedError> {
        let message: wire::SupernodeDescriptor = open(signed)?;
        check_counter("sequence", message.sequence)?;
        check_addresses("addresses", &message.addresses)?;
        check_addresses("relay", &message.relay)?;
        check_text("software", &message.software)?;
        if message.load_percent > 100 {
            return Err(SignedError::LoadOutOfRange { percent: message.load_percent });
        }
        let echo = if message.echo.is_empty() { None } else { Some(account_key(&message.echo)?) };
        Ok(Self {
            service: service_key(&message.service)?,
            sequence: message.sequence,
            not_after_s: message.not_after_s,
            roles: Roles(message.roles),
            addresses: message.addresses,
            relay: message.relay,
            load_percent: message.load_percent,
            software: message.software,
            echo,
            signed: signed.clone(),
        })
    }
}
