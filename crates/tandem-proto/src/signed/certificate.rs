//! Device certificates.

use super::{
    CERTIFICATE_LIFE_S_MAX, SignedError, account_key, check_beginning, check_end, check_signature,
    check_text, device_key, open, sign,
};
use crate::identity::AccountSecret;
use crate::ids::{AccountKey, DeviceKey};
use crate::wire;

/// Verified: the account says that this device is its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceCertificate {
    account: AccountKey,
    device: DeviceKey,
    serial: u64,
    not_before_s: u64,
    not_after_s: u64,
    label: String,
    signed: wire::Signed,
}

/// What goes into a new certificate. Times in unix seconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewCertificate {
    pub device: DeviceKey,
    /// Unique in the account, never used again.
    pub serial: u64,
    pub not_before_s: u64,
    pub not_after_s: u64,
    /// For people, at most 64 bytes.
    pub label: String,
}

impl DeviceCertificate {
    /// Makes a certificate.
    ///
    /// # Errors
    /// [`SignedError`] when its content breaks a limit.
    pub fn issue(secret: &AccountSecret, new: NewCertificate) -> Result<Self, SignedError> {
        let message = wire::DeviceCertificate {
            account: secret.public().0.to_vec(),
            device: new.device.0.to_vec(),
            serial: new.serial,
            not_before_s: new.not_before_s,
            not_after_s: new.not_after_s,
            label: new.label,
        };
        Self::parse(&sign(&message, secret))
    }

    /// Verifies a certificate shown by `device` (the key its connection proved), at `unix_ms`.
    ///
    /// # Errors
    /// [`SignedError`] says what is wrong with it.
    pub fn verify(signed: &wire::Signed, device: DeviceKey, unix_ms: u64) -> Result<Self, SignedError> {
        let certificate = Self::parse(signed)?;
        if certificate.device != device {
            return Err(SignedError::OtherDevice);
        }
        certificate.check_time(unix_ms)?;
        check_signature::<wire::DeviceCertificate>(signed, |domain, payload, signature| {
            certificate.account.verifies(domain, payload, signature)
        })?;
        Ok(certificate)
    }

    /// Whether it is still valid at `unix_ms`.
    ///
    /// # Errors
    /// `Expired`, `NotYetValid` or `LivesTooLong`.
    pub fn check_time(&self, unix_ms: u64) -> Result<(), SignedError> {
        check_beginning(self.not_before_s, unix_ms)?;
        check_end(self.not_after_s, CERTIFICATE_LIFE_S_MAX, unix_ms)
    }

    /// The account that signed it.
    #[must_use]
    pub fn account(&self) -> AccountKey {
        self.account
    }

    /// The device it is about.
    #[must_use]
    pub fn device(&self) -> DeviceKey {
        self.device
    }

    /// Unique in the account.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// End, in unix seconds.
    #[must_use]
    pub fn not_after_s(&self) -> u64 {
        self.not_after_s
    }

    /// The device's name for people. Claimed by the account; not to be trusted with formatting.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The envelope as it was signed.
    #[must_use]
    pub fn signed(&self) -> &wire::Signed {
        &self.signed
    }

    /// Everything but signature and time.
    fn parse(signed: &wire::Signed) -> Result<Self, SignedError> {
        let message: wire::DeviceCertificate = open(signed)?;
        check_text("label", &message.label)?;
        Ok(Self {
            account: account_key(&message.account)?,
            device: device_key(&message.device)?,
            serial: message.serial,
            not_before_s: message.not_before_s,
            not_after_s: message.not_after_s,
            label: message.label,
            signed: signed.clone(),
        })
    }
}
