//! Names and numbers of the protocol (spec/overlay.md, spec/signalling.md): protocol names, versions, feature bits,
//! failure codes, reasons.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::ids::AccountKey;
use crate::record::directory_key;

/// Versions of the home and signal protocols that this crate speaks.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };
/// Most bytes of a failure's detail.
pub const FAILURE_DETAIL_BYTES_MAX: usize = 200;

const NETWORK_ID_LEN_MAX: usize = 32;

/// Which network a node belongs to. Nodes of different networks share no protocol name and no directory key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NetworkId(String);

/// Why a text is not a network id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a network id has 1 to 32 characters, each a lower-case letter, a digit or a hyphen")]
pub struct NetworkIdError;

impl NetworkId {
    /// `/tandem/<network>/home/1`: what a device asks of its homes.
    #[must_use]
    pub fn home_protocol(&self) -> String {
        self.protocol("home/1")
    }

    /// `/tandem/<network>/signal/1`: two devices, end to end.
    #[must_use]
    pub fn signal_protocol(&self) -> String {
        self.protocol("signal/1")
    }

    /// `/tandem/<network>/kad/1`: the directory among supernodes.
    #[must_use]
    pub fn kad_protocol(&self) -> String {
        self.protocol("kad/1")
    }

    /// `/tandem/<network>/id/1`: the protocol version string of libp2p's identify.
    #[must_use]
    pub fn identify_protocol(&self) -> String {
        self.protocol("id/1")
    }

    /// The directory's key of an account: `/tandem/<network>/` and 32 bytes ([`directory_key`]).
    #[must_use]
    pub fn record_key(&self, account: AccountKey) -> Vec<u8> {
        self.record_key_of_hash(&directory_key(account))
    }

    /// The directory's key of a hash.
    #[must_use]
    pub fn record_key_of_hash(&self, hash: &[u8; 32]) -> Vec<u8> {
        let mut key = self.protocol("").into_bytes();
        key.extend_from_slice(hash);
        key
    }

    /// The hash in a directory key of this network.
    #[must_use]
    pub fn hash_of_record_key(&self, key: &[u8]) -> Option<[u8; 32]> {
        key.strip_prefix(self.protocol("").as_bytes())?.try_into().ok()
    }

    /// The id itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn protocol(&self, name: &str) -> String {
        format!("/tandem/{}/{name}", self.0)
    }
}

impl Default for NetworkId {
    /// `main`, the public network.
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl FromStr for NetworkId {
    type Err = NetworkIdError;

    fn from_str(text: &str) -> Result<Self, NetworkIdError> {
        let fits = (1..=NETWORK_ID_LEN_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(NetworkIdError) }
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The protocol versions one side speaks, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VersionRange {
    pub min: u32,
    pub max: u32,
}

/// The two sides have no version in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("we speak versions {} to {} and they {} to {}: the older of the two programs must be updated",
    ours.min, ours.max, theirs.min, theirs.max)]
pub struct NoCommonVersion {
    pub ours: VersionRange,
    pub theirs: VersionRange,
}

/// The version both sides use: the highest both speak.
///
/// # Errors
/// [`NoCommonVersion`] when there is none, also when a side's range is empty.
pub fn negotiate(ours: VersionRange, theirs: VersionRange) -> Result<u32, NoCommonVersion> {
    let highest = ours.max.min(theirs.max);
    if highest >= ours.min.max(theirs.min) { Ok(highest) } else { Err(NoCommonVersion { ours, theirs }) }
}

/// Feature bits: what a side can do beyond the version's minimum. A feature is used when both sides have its bit.
/// Bits not named here are ignored and passed on.
pub mod feature {
    /// Home: answers `GrantRequest` (it relays calls).
    pub const GRANTS: u64 = 1 << 0;
    /// Home: answers `Presence`.
    pub const PRESENCE: u64 = 1 << 1;
    /// Home: resume tickets keep a place for a device that lost its connection.
    pub const RESUME: u64 = 1 << 2;
    /// Signal: sends and reads path reports.
    pub const PATH_REPORTS: u64 = 1 << 16;
    /// Signal: accepts mirrored media packets (the same packet on several paths).
    pub const MIRRORING: u64 = 1 << 18;
    /// Signal: its decoder uses DRED.
    pub const DRED: u64 = 1 << 19;

    /// What a directory supernode of this version offers; one that relays adds [`GRANTS`].
    pub const HOME_ALL: u64 = PRESENCE | RESUME;
    /// What a device of this version can do in a call.
    pub const SIGNAL_ALL: u64 = PATH_REPORTS | MIRRORING;
}

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A number of a newer version.
            Other(u32),
        }

        impl $name {
            /// All that this version knows, by number.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant),*];

            /// The number on the wire.
            #[must_use]
            pub fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// The name in the spec and in JSON.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(_) => "other",
                }
            }
        }

        impl From<u32> for $name {
            fn from(number: u32) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Other(number) => write!(f, "other ({number})"),
                    known => f.write_str(known.text()),
                }
            }
        }
    };
}

numbered!(
    /// Why a supernode did not do what it was asked (`Failure.code`).
    FailureCode {
        /// Not further specified.
        Unspecified = 0, "unspecified";
        /// A field is missing, of the wrong length, or a limit is broken.
        Malformed = 1, "malformed";
        /// The request is not known to this version.
        UnknownRequest = 2, "unknown_request";
        /// No protocol version in common.
        NoCommonVersion = 3, "no_common_version";
        /// Only for devices that hold a reservation here.
        NotReserved = 4, "not_reserved";
        /// The record is forged, expired, or breaks a limit.
        RecordRefused = 5, "record_refused";
        /// A newer record is known.
        RecordOlder = 6, "record_older";
        /// The record is good, but too few supernodes gave it back.
        NotStored = 7, "not_stored";
        /// This supernode does not relay.
        NoRelay = 8, "no_relay";
        /// The device has used up what this supernode gives to one.
        QuotaExceeded = 9, "quota_exceeded";
        /// The certificate or descriptor shown is not valid.
        BadCredentials = 10, "bad_credentials";
        /// The clocks differ by more than 10 minutes; the hello's `time_s` says by how much.
        ClockSkew = 11, "clock_skew";
        /// A fault of this supernode.
        Internal = 12, "internal";
        /// The device was revoked: a newer device set of its account does not name it.
        Revoked = 13, "revoked";
        /// This node does not serve in the role that the request needs; it may be a reserve.
        NotServing = 14, "not_serving";
    }
);

numbered!(
    /// What is to carry the dial that a check asks for (`CheckRequest.carrier`).
    CheckCarrier {
        /// QUIC over UDP, and where a relay's port is named, STUN.
        Udp = 1, "udp";
        /// TCP.
        Tcp = 2, "tcp";
    }
);

numbered!(
    /// Why a call or a leg ended, or was not taken (`HangUp.reason`, `Decline.reason`).
    Reason {
        /// Somebody hung up.
        HungUp = 1, "hung_up";
        /// The other end is in another call.
        Busy = 2, "busy";
        /// The person declined: the caller stops ringing the other devices.
        Declined = 3, "declined";
        /// The caller gave up before an answer.
        Cancelled = 4, "cancelled";
        /// Nobody answered within 60 s.
        NoAnswer = 5, "no_answer";
        /// Another device of the account answered or declined.
        AnsweredElsewhere = 6, "answered_elsewhere";
        /// No device of the account could be reached.
        Unreachable = 7, "unreachable";
        /// The connection was lost and did not come back.
        Lost = 8, "lost";
        /// The other end broke the protocol.
        Protocol = 9, "protocol";
        /// The other end could not prove who it is, or was revoked.
        NotTrusted = 10, "not_trusted";
        /// No protocol version in common.
        Version = 11, "version";
        /// The callee takes no calls from strangers.
        Refused = 12, "refused";
        /// One end could not set up its sound or its network.
        Failed = 13, "failed";
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_names() {
        let main = NetworkId::default();
        assert_eq!(main.home_protocol(), "/tandem/main/home/1");
        assert_eq!(main.signal_protocol(), "/tandem/main/signal/1");
        assert_eq!(main.kad_protocol(), "/tandem/main/kad/1");
        assert_eq!(main.identify_protocol(), "/tandem/main/id/1");
        let account = AccountKey([1; 32]);
        let key = main.record_key(account);
        assert_eq!(main.hash_of_record_key(&key), Some(directory_key(account)));
        assert_eq!("lab".parse::<NetworkId>().unwrap().hash_of_record_key(&key), None);
    }

    #[test]
    fn network_ids() {
        for good in ["main", "a", "lab-2", &"x".repeat(32)] {
            assert!(good.parse::<NetworkId>().is_ok(), "{good}");
        }
        for bad in ["", "Main", "a/b", "ä", &"x".repeat(33)] {
            assert!(bad.parse::<NetworkId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_highest_common_version_is_used() {
        let range = |min, max| VersionRange { min, max };
        assert_eq!(negotiate(range(1, 3), range(2, 5)), Ok(3));
        assert_eq!(negotiate(range(1, 1), range(1, 9)), Ok(1));
        assert!(negotiate(range(1, 1), range(2, 2)).is_err());
        assert!(negotiate(range(1, 1), range(1, 0)).is_err());
    }

    #[test]
    fn numbers_come_back() {
        for reason in Reason::KNOWN {
            assert_eq!(Reason::from(reason.number()), *reason);
        }
        for code in FailureCode::KNOWN {
            assert_eq!(FailureCode::from(code.number()), *code);
        }
        assert_eq!(Reason::from(77).number(), 77);
        assert_eq!(Reason::from(77).to_string(), "other (77)");
    }
}
