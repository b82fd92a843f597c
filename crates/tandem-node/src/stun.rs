//! The Binding request and its answer (RFC 8489 §3.2).

use std::net::SocketAddr;

use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageType, MessageWriteVec, TransactionId};
use stun_types::prelude::*;

/// A Binding request; `transaction` is 96 random bits, the rest is ignored.
pub(crate) fn request(transaction: u128) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    Message::builder(kind, TransactionId::from(transaction), MessageWriteVec::new()).finish()
}

/// A fresh transaction id: unguessable, so that nobody off the path can answer.
pub(crate) fn transaction() -> u128 {
    rand::random::<u128>() >> 32
}

/// The transaction a success response answers and the address it tells; `None` for anything else.
pub(crate) fn mapped(datagram: &[u8]) -> Option<(u128, SocketAddr)> {
    let message = Message::from_bytes(datagram).ok()?;
    if message.class() != MessageClass::Success || message.method() != BINDING {
        return None;
    }
    let id = message.transaction_id();
    let address = message.attribute::<XorMappedAddress>().ok()?.addr(id);
    Some((u128::from(id), SocketAddr::new(address.ip().to_canonical(), address.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_rubbish_is_not() {
        let address: SocketAddr = "192.0.2.7:4000".parse().unwrap();
        let id = transaction();
        let asked = request(id);
        assert_eq!(asked.len(), 20);
        assert_eq!(mapped(&asked), None, "a request is no answer");
        let message = Message::from_bytes(&asked).unwrap();
        let mut answer = Message::builder_success(&message, MessageWriteVec::new());
        answer.add_attribute(&XorMappedAddress::new(address, message.transaction_id())).unwrap();
        let answer = answer.finish();
        assert_eq!(mapped(&answer), Some((id, address)));
        for cut in 0..answer.len() {
            assert_eq!(mapped(&answer[..cut]), None);
        }
    }
}
