//! Whose passwords the relay believes, and which call they belong to. There is no per-user state: what a client is
//! entitled to stands in its user name, and its password proves that the relay's owner said so.

use std::fmt;

use tandem_proto::grant::{GrantError, GrantTerms, RelaySecret, RestSecret, RestTerms};
use tandem_proto::ids::{CallTag, DeviceKey, ServiceKey};
use thiserror::Error;

/// Where user names and passwords come from.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Grants a supernode makes for one device and one call (`tandem_proto::grant`), under its key of this start.
    Grants { relay: ServiceKey, secret: RelaySecret },
    /// TURN REST: `expiry:suffix` under a secret shared with the owner's own clients. The two clients that use the
    /// same suffix can reach each other.
    Rest { secret: RestSecret },
}

/// What a user name entitles to, once the password has been proved.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorised {
    /// The call: only the two allocations with the same tag can reach each other.
    pub tag: CallTag,
    /// The device, or `None` where credentials name none (each 5-tuple then counts as a device of its own).
    pub device: Option<DeviceKey>,
    /// No Allocate succeeds after this (seconds since 1970, UTC). What is allocated lives on.
    pub not_after_s: u64,
    /// Application bytes the allocation may carry, both ways together, if limited.
    pub quota_bytes: Option<u64>,
    /// The password that goes with the user name.
    pub password: String,
}

impl fmt::Debug for Authorised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorised")
            .field("tag", &self.tag)
            .field("not_after_s", &self.not_after_s)
            .field("quota_bytes", &self.quota_bytes)
            .finish_non_exhaustive()
    }
}

/// Why a user name is not one this relay could have issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("the user name does not have the form this relay issues")]
    Malformed(#[source] GrantError),
    #[error("the grant is for another relay")]
    AnotherRelay,
}

impl Credentials {
    /// Reads a user name and computes the password that goes with it. Says nothing about expiry: that bounds
    /// Allocate only, and the server checks it there.
    ///
    /// # Errors
    /// When this relay cannot have issued that user name.
    pub fn check(&self, username: &str) -> Result<Authorised, Refusal> {
        match self {
            Self::Grants { relay, secret } => {
                let terms = GrantTerms::parse(username).map_err(Refusal::Malformed)?;
                if terms.relay != *relay {
                    return Err(Refusal::AnotherRelay);
                }
                Ok(Authorised {
                    tag: terms.tag,
                    device: Some(terms.device),
                    not_after_s: terms.not_after_s,
                    quota_bytes: Some(terms.quota_bytes),
                    password: secret.password(username),
                })
            }
            Self::Rest { secret } => {
                let terms = RestTerms::parse(username).map_err(Refusal::Malformed)?;
                Ok(Authorised {
                    tag: terms.tag,
                    device: None,
                    not_after_s: terms.not_after_s,
                    quota_bytes: None,
                    password: secret.password(username),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_for_the_relay_it_names() {
        let relay = ServiceKey([1; 32]);
        let secret = RelaySecret::new([9; 32]);
        let grants = Credentials::Grants { relay, secret: secret.clone() };
        let terms = GrantTerms {
            relay,
            device: DeviceKey([2; 32]),
            tag: CallTag([3; 16]),
            not_after_s: 1_700_000_000,
            quota_bytes: 1_000_000,
        };
        let authorised = grants.check(&terms.username()).unwrap();
        assert_eq!(authorised.tag, terms.tag);
        assert_eq!(authorised.device, Some(terms.device));
        assert_eq!(authorised.quota_bytes, Some(1_000_000));
        assert_eq!(authorised.password, secret.password(&terms.username()));

        let elsewhere = GrantTerms { relay: ServiceKey([7; 32]), ..terms };
        assert_eq!(grants.check(&elsewhere.username()), Err(Refusal::AnotherRelay));
        assert!(matches!(grants.check("1700000000:alice"), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn rest_clients_with_one_suffix_share_a_tag() {
        let rest = Credentials::Rest { secret: RestSecret::new("secret") };
        let (one, two) = (rest.check("1700000000:alice").unwrap(), rest.check("1800000000:alice").unwrap());
        assert_eq!(one.tag, two.tag);
        assert_ne!(one.password, two.password);
        assert_ne!(one.tag, rest.check("1700000000:bob").unwrap().tag);
        assert_eq!(one.device, None);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let rest = Credentials::Rest { secret: RestSecret::new("hunter2") };
        let authorised = rest.check("1:a").unwrap();
        let printed = format!("{rest:?} {authorised:?}");
        assert!(!printed.contains("hunter2") && !printed.contains(&authorised.password), "{printed}");
    }
}
