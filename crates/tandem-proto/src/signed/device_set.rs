//! Device sets.

use super::{
    CERTIFICATE_LIFE_S_MAX, DEVICES_MAX, DeviceCertificate, SignedError, account_key, check_counter,
    check_end, check_signature, device_key, open, sign,
};
use crate::identity::AccountSecret;
use crate::ids::{AccountKey, DeviceKey};
use crate::wire;

/// Verified: all devices of an account. A device outside the highest known epoch is dead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceSet {
    account: AccountKey,
    epoch: u64,
    devices: Vec<DeviceEntry>,
    not_after_s: u64,
    signed: wire::Signed,
}

/// One device of a set and the serial of the only certificate that is valid for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeviceEntry {
    pub device: DeviceKey,
    pub serial: u64,
}

impl DeviceSet {
    /// Makes a device set; `devices` in any order.
    ///
    /// # Errors
    /// [`SignedError`] when its content breaks a limit.
    pub fn issue(
        secret: &AccountSecret,
        epoch: u64,
        devices: &[DeviceEntry],
        not_after_s: u64,
    ) -> Result<Self, SignedError> {
        let mut devices = devices.to_vec();
        devices.sort_unstable();
        let message = wire::DeviceSet {
            account: secret.public().0.to_vec(),
            epoch,
            devices: devices
                .iter()
                .map(|entry| wire::DeviceEntry { device: entry.device.0.to_vec(), serial: entry.serial })
                .collect(),
            not_after_s,
        };
        Self::parse(&sign(&message, secret))
    }

    /// Verifies the device set of `account`, at `unix_ms`.
    ///
    /// # Errors
    /// [`SignedError`] says what is wrong with it.
    pub fn verify(signed: &wire::Signed, account: AccountKey, unix_ms: u64) -> Result<Self, SignedError> {
        let set = Self::parse(signed)?;
        if set.account != account {
            return Err(SignedError::OtherAccount);
        }
        check_end(set.not_after_s, CERTIFICATE_LIFE_S_MAX, unix_ms)?;
        check_signature::<wire::DeviceSet>(signed, |domain, payload, signature| {
            account.verifies(domain, payload, signature)
        })?;
        Ok(set)
    }

    /// Whether this set names the device.
    #[must_use]
    pub fn contains(&self, device: DeviceKey) -> bool {
        self.serial_of(device).is_some()
    }

    /// Whether this set says that the certificate is the valid one of its device.
    #[must_use]
    pub fn admits(&self, certificate: &DeviceCertificate) -> bool {
        self.account == certificate.account()
            && self.serial_of(certificate.device()) == Some(certificate.serial())
    }

    /// The account that signed it.
    #[must_use]
    pub fn account(&self) -> AccountKey {
        self.account
    }

    /// Higher replaces lower.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether this one counts against `other`, of the same account: by its higher epoch; where two holders signed at the
    /// same moment, by the greater payload, then the greater signature (spec/records.md, "Merging").
    #[must_use]
    pub fn outranks(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    fn rank(&self) -> (u64, &[u8], &[u8]) {
        (self.epoch, &self.signed.payload, &self.signed.signature)
    }

    /// At most 8, sorted by key.
    #[must_use]
    pub fn devices(&self) -> &[DeviceEntry] {
        &self.devices
    }

    /// End, in unix seconds.
    #[must_use]
    pub fn not_after_s(&self) -> u64 {
        self.not_after_s
    }

    /// The envelope as it was signed.
    #[must_use]
    pub fn signed(&self) -> &wire::Signed {
        &self.signed
    }

    fn serial_of(&self, device: DeviceKey) -> Option<u64> {
        let index = self.devices.binary_search_by_key(&device, |entry| entry.device).ok()?;
        Some(self.devices[index].serial)
    }

    /// Everything but signature and time.
    fn parse(signed: &wire::Signed) -> Result<Self, SignedError> {
        let message: wire::DeviceSet = open(signed)?;
        check_counter("epoch", message.epoch)?;
        Ok(Self {
            account: account_key(&message.account)?,
            epoch: message.epoch,
            devices: entries(&message.devices)?,
            not_after_s: message.not_after_s,
            signed: signed.clone(),
        })
    }
}

/// Sorted by key, without duplicates of key or serial.
fn entries(messages: &[wire::DeviceEntry]) -> Result<Vec<DeviceEntry>, SignedError> {
    if messages.len() > DEVICES_MAX {
        return Err(SignedError::TooManyDevices { count: messages.len() });
    }
    let mut entries = Vec::with_capacity(messages.len());
    for message in messages {
        entries.push(DeviceEntry { device: device_key(&message.device)?, serial: message.serial });
    }
    entries.sort_unstable();
    let mut serials: Vec<u64> = entries.iter().map(|entry| entry.serial).collect();
    serials.sort_unstable();
    let twice = entries.windows(2).any(|pair| pair[0].device == pair[1].device)
        || serials.windows(2).any(|pair| pair[0] == pair[1]);
    if twice {
        return Err(SignedError::DuplicateDevice);
    }
    Ok(entries)
}
