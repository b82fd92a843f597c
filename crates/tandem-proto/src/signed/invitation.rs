//! A supernode with too much to do invites a reserve to serve (spec/election.md, "Invitations").

use super::{INVITATION_LIFE_S_MAX, SignedError, check_end, check_signature, open, service_key, sign};
use crate::identity::ServiceSecret;
use crate::ids::ServiceKey;
use crate::wire;

/// Verified: the inviter said this to this reserve. It orders nothing: the reserve confirms the load with others
/// before it believes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitation {
    inviter: ServiceKey,
    reserve: ServiceKey,
    load_percent: u32,
    not_after_s: u64,
    signed: wire::Signed,
}

impl Invitation {
    /// Makes an invitation.
    ///
    /// # Errors
    /// `LoadOutOfRange` when the load is above 100 %.
    pub fn issue(
        inviter: &ServiceSecret,
        reserve: ServiceKey,
        load_percent: u32,
        not_after_s: u64,
    ) -> Result<Self, SignedError> {
        let message = wire::SupernodeInvitation { reserve: reserve.0.to_vec(), load_percent, not_after_s };
        Self::parse(&sign(&message, inviter), inviter.public())
    }

    /// Verifies an invitation at `unix_ms` that is to be `inviter`'s (whose key authenticated the connection) and to
    /// this `reserve`. So one that was overheard or passed on is of no use to anybody else.
    ///
    /// # Errors
    /// [`SignedError`] says what is wrong with it.
    pub fn verify(
        signed: &wire::Signed,
        inviter: ServiceKey,
        reserve: ServiceKey,
        unix_ms: u64,
    ) -> Result<Self, SignedError> {
        let invitation = Self::parse(signed, inviter)?;
        if invitation.reserve != reserve {
            return Err(SignedError::OtherReserve);
        }
        check_end(invitation.not_after_s, INVITATION_LIFE_S_MAX, unix_ms)?;
        check_signature::<wire::SupernodeInvitation>(signed, |domain, payload, signature| {
            inviter.verifies(domain, payload, signature)
        })?;
        Ok(invitation)
    }

    /// Who invites.
    #[must_use]
    pub fn inviter(&self) -> ServiceKey {
        self.inviter
    }

    /// Whom it is for.
    #[must_use]
    pub fn reserve(&self) -> ServiceKey {
        self.reserve
    }

    /// The inviter's own load, 0 to 100 % of its capacity, as it says.
    #[must_use]
    pub fn load_percent(&self) -> u32 {
        self.load_percent
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

    /// Everything but signature, reserve and time.
    fn parse(signed: &wire::Signed, inviter: ServiceKey) -> Result<Self, SignedError> {
        let message: wire::SupernodeInvitation = open(signed)?;
        if message.load_percent > 100 {
            return Err(SignedError::LoadOutOfRange { percent: message.load_percent });
        }
        Ok(Self {
            inviter,
            reserve: service_key(&message.reserve)?,
            load_percent: message.load_percent,
            not_after_s: message.not_after_s,
            signed: signed.clone(),
        })
    }
}
