//! Where a device can be reached.

use super::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, HOMES_LIFE_S_MAX, HOMES_MAX, SignedError, account_key, check_addresses,
    check_counter, check_end, check_signature, device_key, open, service_key, sign,
};
use crate::identity::DeviceSecret;
use crate::ids::{AccountKey, DeviceKey, ServiceKey};
use crate::wire;

/// Bytes of one home's addresses, encoded: three homes, the keys and the numbers are then less than the 600 of an entry.
const HOME_ADDRESSES_BYTES_MAX: usize = 130;

/// Verified: the homes of one device. None says "gone".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceHomes {
    account: AccountKey,
    device: DeviceKey,
    sequence: u64,
    not_after_s: u64,
    homes: Vec<Home>,
    signed: wire::Signed,
}

/// One supernode where a device holds a reservation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Home {
    pub service: ServiceKey,
    /// Binary multiaddrs without `/p2p`, at most 8 of at most 64 bytes. Forms a reader does not know are passed on.
    pub addresses: Vec<Vec<u8>>,
}

impl Home {
    /// A home with as many of a supernode's addresses, the first first, as an entry of three homes has room for.
    #[must_use]
    pub fn fitting(service: ServiceKey, addresses: &[Vec<u8>]) -> Self {
        let mut room = HOME_ADDRESSES_BYTES_MAX;
        let fits = |address: &&Vec<u8>| {
            let needs = address.len() + 2; // tag and length
            let fits = needs <= room && address.len() <= ADDRESS_BYTES_MAX;
            room -= if fits { needs } else { 0 };
            fits
        };
        Self { service, addresses: addresses.iter().take(ADDRESSES_MAX).filter(fits).cloned().collect() }
    }
}

impl DeviceHomes {
    /// Makes a device's entry in the directory. `sequence` comes from [`crate::record::next_sequence`].
    ///
    /// # Errors
    /// [`SignedError`] when its content breaks a limit.
    pub fn issue(
        secret: &DeviceSecret,
        account: AccountKey,
        sequence: u64,
        not_after_s: u64,
        homes: &[Home],
    ) -> Result<Self, SignedError> {
        let message = wire::DeviceHomes {
            account: account.0.to_vec(),
            device: secret.public().0.to_vec(),
            sequence,
            not_after_s,
            homes: homes
                .iter()
                .map(|home| wire::Home {
                    service: home.service.0.to_vec(),
                    addresses: home.addresses.clone(),
                })
                .collect(),
        };
        Self::parse(&sign(&message, secret))
    }

    /// Verifies one device's entry for `account`, at `unix_ms`. Whether the device belongs to the account is for
    /// the device set to say.
    ///
    /// # Errors
    /// [`SignedError`] says what is wrong with it.
    pub fn verify(signed: &wire::Signed, account: AccountKey, unix_ms: u64) -> Result<Self, SignedError> {
        let homes = Self::parse(signed)?;
        if homes.account != account {
            return Err(SignedError::OtherAccount);
        }
        // The signature first: an expired entry is dropped from a record, a forged one condemns the record.
        check_signature::<wire::DeviceHomes>(signed, |domain, payload, signature| {
            homes.device.verifies(domain, payload, signature)
        })?;
        check_end(homes.not_after_s, HOMES_LIFE_S_MAX, unix_ms)?;
        Ok(homes)
    }

    /// The account it is for.
    #[must_use]
    pub fn account(&self) -> AccountKey {
        self.account
    }

    /// The device that signed it.
    #[must_use]
    pub fn device(&self) -> DeviceKey {
        self.device
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

    /// At most 3, in the device's order.
    #[must_use]
    pub fn homes(&self) -> &[Home] {
        &self.homes
    }

    /// The envelope as it was signed.
    #[must_use]
    pub fn signed(&self) -> &wire::Signed {
        &self.signed
    }

    /// Everything but signature and time.
    fn parse(signed: &wire::Signed) -> Result<Self, SignedError> {
        let message: wire::DeviceHomes = open(signed)?;
        check_counter("sequence", message.sequence)?;
        Ok(Self {
            account: account_key(&message.account)?,
            device: device_key(&message.device)?,
            sequence: message.sequence,
            not_after_s: message.not_after_s,
            homes: homes(message.homes)?,
            signed: signed.clone(),
        })
    }
}

fn homes(messages: Vec<wire::Home>) -> Result<Vec<Home>, SignedError> {
    if messages.len() > HOMES_MAX {
        return Err(SignedError::TooManyHomes { count: messages.len() });
    }
    let mut homes: Vec<Home> = Vec::with_capacity(messages.len());
    for message in messages {
        let service = service_key(&message.service)?;
        check_addresses("addresses", &message.addresses)?;
        if homes.iter().any(|home| home.service == service) {
            return Err(SignedError::DuplicateHome);
        }
        homes.push(Home { service, addresses: message.addresses });
    }
    Ok(homes)
}
