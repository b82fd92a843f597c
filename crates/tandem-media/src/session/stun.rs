//! STUN (RFC 8489) beside what the TURN client speaks: Binding requests, and what an answer says.

use std::net::SocketAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use stun_types::attribute::{AttributeType, ErrorCode, XorMappedAddress};
use stun_types::message::{BINDING, Message, MessageClass, MessageType, MessageWriteVec, TransactionId};
use stun_types::prelude::*;
use tandem_proto::retry_after::{self, RETRY_AFTER};

/// Makes transaction ids that nobody outside can guess: who cannot see a request cannot answer it.
#[derive(Debug)]
pub(super) struct Transactions {
    seed: u64,
    next: u64,
}

impl Transactions {
    /// `seed` is secret.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    pub(super) fn next(&mut self) -> TransactionId {
        self.next += 1;
        let digest = Sha256::new()
            .chain_update(b"tandem stun transaction 1")
            .chain_update(self.seed.to_be_bytes())
            .chain_update(self.next.to_be_bytes())
            .finalize();
        let mut bytes = [0; 16];
        bytes[4..].copy_from_slice(&digest[..12]);
        TransactionId::from(u128::from_be_bytes(bytes))
    }
}

/// A Binding request: "at which address do you see me?"
pub(super) fn binding_request(transaction: TransactionId) -> Vec<u8> {
    let request = MessageType::from_class_method(MessageClass::Request, BINDING);
    Message::builder(request, transaction, MessageWriteVec::new()).finish()
}

/// What an answer of a STUN or TURN server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) transaction: TransactionId,
    pub(super) binding: bool,
    pub(super) mapped: Option<SocketAddr>,
    /// The code of a refusal.
    pub(super) refused: Option<u16>,
    /// How long a relay without room is not to be asked again.
    pub(super) retry_after: Option<Duration>,
}

/// Reads an answer; `None` for everything else. It proves nothing: compare the transaction.
pub(super) fn answer(data: &[u8]) -> Option<Answer> {
    // Success and error responses have this bit (RFC 8489 §5).
    if data.first().is_none_or(|first| *first & 0xc1 != 0x01) {
        return None;
    }
    let message = Message::from_bytes(data).ok()?;
    let transaction = message.transaction_id();
    let refused = match message.class() {
        MessageClass::Success => None,
        MessageClass::Error => Some(message.attribute::<ErrorCode>().ok()?.code()),
        _ => return None,
    };
    let mapped = message.attribute::<XorMappedAddress>().ok().map(|mapped| mapped.addr(transaction));
    let retry_after = refused
        .and_then(|_| message.raw_attribute(AttributeType::new(RETRY_AFTER)))
        .and_then(|raw| retry_after::read(&raw.value));
    Some(Answer { transaction, binding: message.method() == BINDING, mapped, refused, retry_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_a_request_is_none() {
        let transaction = Transactions::new(7).next();
        let request = binding_request(transaction);
        assert_eq!(request.len(), 20);
        assert_eq!(answer(&request), None);
        let request = Message::from_bytes(&request).unwrap();
        for addr in ["192.0.2.1:5", "[2001:db8::1]:65535"] {
            let addr: SocketAddr = addr.parse().unwrap();
            let mut reply = Message::builder_success(&request, MessageWriteVec::new());
            reply.add_attribute(&XorMappedAddress::new(addr, transaction)).unwrap();
            let read = answer(&reply.finish()).unwrap();
            let right =
                Answer { transaction, binding: true, mapped: Some(addr), refused: None, retry_after: None };
            assert_eq!(read, right);
        }
    }

    #[test]
    fn a_refusal_may_say_for_how_long() {
        let request = binding_request(Transactions::new(7).next());
        let request = Message::from_bytes(&request).unwrap();
        for (value, read) in [(&[0, 0, 0, 5][..], Some(5)), (&[0xff; 4], Some(600)), (&[5], None)] {
            let mut reply = Message::builder_error(&request, MessageWriteVec::new());
            reply.add_attribute(&ErrorCode::new(508, "").unwrap()).unwrap();
            let hint = stun_types::attribute::RawAttribute::new(AttributeType::new(RETRY_AFTER), value);
            reply.add_attribute(&hint).unwrap();
            let answer = answer(&reply.finish()).unwrap();
            assert_eq!((answer.refused, answer.retry_after), (Some(508), read.map(Duration::from_secs)));
        }
    }

    #[test]
    fn transactions_differ_and_depend_on_the_seed() {
        let (mut one, mut two) = (Transactions::new(1), Transactions::new(2));
        let all = [one.next(), one.next(), two.next(), two.next()];
        for (n, id) in all.iter().enumerate() {
            assert!(!all[..n].contains(id));
        }
    }

    #[test]
    fn rubbish_is_no_answer() {
        for data in [&[][..], &[1], &[1, 1, 0, 0], &[0x40; 30], &[1, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42]] {
            assert_eq!(answer(data), None);
        }
    }
}
