//! Writing answers with the message library.

use std::time::Duration;

use stun_types::attribute::{AttributeType, Fingerprint, RawAttribute};
use stun_types::attribute::{ErrorCode, Nonce, Realm, UnknownAttributes};
use stun_types::message::{IntegrityAlgorithm, IntegrityKey, Message, MessageWriteVec};
use stun_types::prelude::*;
use tandem_proto::retry_after;

/// Error codes of RFC 8489 §14.8 and RFC 8656 §19, with what each means to whoever reads the client's log. The texts
/// go only to clients that have authenticated; strangers get the bare number, since short answers reflect badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorKind {
    BadRequest,
    Unauthenticated,
    Forbidden,
    UnknownAttribute,
    AllocationMismatch,
    StaleNonce,
    FamilyNotSupported,
    WrongCredentials,
    UnsupportedTransport,
    FamilyMismatch,
    QuotaReached,
    /// Too many allocations of one source network.
    SourceFull,
    InsufficientCapacity,
    /// As many allocations as the owner allows.
    Full,
    Draining,
}

impl ErrorKind {
    pub(super) fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::UnknownAttribute => 420,
            Self::AllocationMismatch => 437,
            Self::StaleNonce => 438,
            Self::FamilyNotSupported => 440,
            Self::WrongCredentials => 441,
            Self::UnsupportedTransport => 442,
            Self::FamilyMismatch => 443,
            Self::QuotaReached | Self::SourceFull => 486,
            Self::InsufficientCapacity | Self::Full | Self::Draining => 508,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::Unauthenticated => "Credentials Expired",
            Self::Forbidden => "Forbidden: only the other end of the same call",
            Self::UnknownAttribute => "Unknown Attribute",
            Self::AllocationMismatch => "Allocation Mismatch",
            Self::StaleNonce => "Stale Nonce",
            Self::FamilyNotSupported => "Address Family not Supported: relayed addresses are IPv4",
            Self::WrongCredentials => "Wrong Credentials",
            Self::UnsupportedTransport => "Unsupported Transport Protocol: UDP only",
            Self::FamilyMismatch => "Peer Address Family Mismatch",
            Self::QuotaReached => "Allocation Quota Reached",
            Self::SourceFull => "Allocation Quota Reached: by this network",
            Self::InsufficientCapacity => "Insufficient Capacity",
            Self::Full => "Insufficient Capacity: full",
            Self::Draining => "Insufficient Capacity: this relay leaves",
        }
    }
}

/// An answer to a request that has proved its credentials.
#[derive(Debug)]
pub(super) struct Signed<'a> {
    pub(super) request: &'a Message<'a>,
    pub(super) key: &'a IntegrityKey,
    pub(super) algorithm: IntegrityAlgorithm,
}

impl Signed<'_> {
    pub(super) fn success(&self, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        self.finish(Message::builder_success(self.request, MessageWriteVec::new()), attributes)
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Vec<u8> {
        self.finish(error(self.request, kind, kind.reason()), &[])
    }

    /// The same, and when it makes sense to ask again.
    pub(super) fn error_for_now(&self, kind: ErrorKind, after: Duration) -> Vec<u8> {
        let seconds = retry_after::value(after);
        let hint = RawAttribute::new(AttributeType::new(retry_after::RETRY_AFTER), &seconds);
        self.finish(error(self.request, kind, kind.reason()), &[&hint])
    }

    pub(super) fn unknown_attributes(&self, unknown: &[AttributeType]) -> Vec<u8> {
        let kind = ErrorKind::UnknownAttribute;
        self.finish(error(self.request, kind, kind.reason()), &[&UnknownAttributes::new(unknown)])
    }

    fn finish(&self, mut message: MessageWriteVec, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        for attribute in attributes {
            put(&mut message, *attribute);
        }
        message
            .add_message_integrity_with_key(self.key, self.algorithm)
            .expect("a message that grows has room, and carries no integrity yet");
        message.finish()
    }
}

/// The answer to a Binding request (RFC 8489 §6.3.1).
pub(super) fn binding_success(request: &Message<'_>, mapped: &dyn AttributeWrite) -> Vec<u8> {
    let mut message = Message::builder_success(request, MessageWriteVec::new());
    put(&mut message, mapped);
    if request.has_attribute(Fingerprint::TYPE) {
        message.add_fingerprint().expect("a message that grows has room, and carries no fingerprint yet");
    }
    message.finish()
}

/// 401 and 438: what the client needs to try again, and not a byte more.
pub(super) fn challenge(request: &Message<'_>, kind: ErrorKind, realm: &Realm, nonce: &str) -> Vec<u8> {
    let mut message = error(request, kind, "");
    put(&mut message, realm);
    put(&mut message, &Nonce::new(nonce).expect("twelve characters are a nonce"));
    message.finish()
}

/// An error that needs neither credentials nor explanation.
pub(super) fn bare_error(request: &Message<'_>, kind: ErrorKind, unknown: &[AttributeType]) -> Vec<u8> {
    let mut message = error(request, kind, "");
    if !unknown.is_empty() {
        put(&mut message, &UnknownAttributes::new(unknown));
    }
    message.finish()
}

fn error(request: &Message<'_>, kind: ErrorKind, reason: &str) -> MessageWriteVec {
    let mut message = Message::builder_error(request, MessageWriteVec::new());
    put(&mut message, &ErrorCode::new(kind.code(), reason).expect("all codes are between 300 and 699"));
    message
}

fn put(message: &mut MessageWriteVec, attribute: &dyn AttributeWrite) {
    message.add_attribute(attribute).expect("a message that grows has room, and carries no integrity yet");
}
