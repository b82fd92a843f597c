//! A relay with forced time, and clients that speak to it through the message library.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use stun_types::attribute::{ErrorCode, Nonce, Realm, Username};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWriteVec,
    Method, TransactionId,
};
use stun_types::prelude::*;
use tandem_proto::grant::{GrantTerms, RelaySecret};
use tandem_proto::ids::{CallTag, DeviceKey, ServiceKey};
use tandem_relay::client::ClientAddr;
use tandem_relay::config::Config;
use tandem_relay::credentials::Credentials;
use tandem_relay::server::{DropReason, HEADROOM, Server, TAILROOM, Verdict};
use turn_types::attribute::{
    ChannelNumber, Data, Lifetime, RequestedTransport, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};

pub(crate) const RELAY: ServiceKey = ServiceKey([0xee; 32]);
pub(crate) const START_UNIX_S: u64 = 1_800_000_000;
/// The port of every relayed address.
pub(crate) const RELAYED_PORT: u16 = 49_152;

pub(crate) fn relay_secret() -> RelaySecret {
    RelaySecret::new([0x55; 32])
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Forwarded { to: ClientAddr, bytes: Vec<u8> },
    Replied(Vec<u8>),
    Dropped(DropReason),
}

/// A relay and its clock.
pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) now: Instant,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(Credentials::Grants { relay: RELAY, secret: relay_secret() });
        adjust(&mut config);
        Self::from_config(config)
    }

    pub(crate) fn from_config(config: Config) -> Self {
        let now = start();
        Self { server: Server::new(config, [1; 32], now, START_UNIX_S), now }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.server.handle_timeout(self.now);
    }

    pub(crate) fn packet(&mut self, bytes: &[u8], from: ClientAddr) -> Fate {
        let mut buffer = vec![0xa5; HEADROOM + bytes.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        match self.server.handle(&mut buffer, HEADROOM..HEADROOM + bytes.len(), from, self.now) {
            Verdict::Forward { to, packet } => Fate::Forwarded { to, bytes: buffer[packet].to_vec() },
            Verdict::Reply(bytes) => Fate::Replied(bytes),
            Verdict::Drop(reason) => Fate::Dropped(reason),
        }
    }

    /// Two clients of one call, allocated and with permissions for each other.
    pub(crate) fn call(&mut self, call: u8) -> (Client, Client) {
        let mut caller = Client::new(call, 1);
        let mut callee = Client::new(call, 2);
        caller.allocate(self).unwrap();
        callee.allocate(self).unwrap();
        caller.permit(self, callee.relayed()).unwrap();
        callee.permit(self, caller.relayed()).unwrap();
        (caller, callee)
    }
}

#[allow(clippy::disallowed_methods, reason = "tests start somewhere; it is forbidden in some crates only")]
fn start() -> Instant {
    Instant::now()
}

/// A client with a grant. It answers challenges by itself.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: ClientAddr,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) realm: String,
    pub(crate) nonce: String,
    pub(crate) algorithm: IntegrityAlgorithm,
    relayed: Option<SocketAddr>,
    transactions: u128,
}

/// An error response's code.
pub(crate) type Outcome = Result<Vec<u8>, u16>;

impl Client {
    /// Device number `device` of call number `call`, on UDP, each device in a network of its own.
    pub(crate) fn new(call: u8, device: u8) -> Self {
        Self::with_terms(
            &terms(call, device),
            ClientAddr::udp(SocketAddr::from(([10, call, device, 1], 5_000)), 0),
        )
    }

    pub(crate) fn with_terms(terms: &GrantTerms, address: ClientAddr) -> Self {
        let username = terms.username();
        let password = relay_secret().password(&username);
        Self::with_password(username, password, address)
    }

    pub(crate) fn with_password(username: String, password: String, address: ClientAddr) -> Self {
        Self {
            address,
            username,
            password,
            realm: "call".to_owned(),
            nonce: String::new(),
            algorithm: IntegrityAlgorithm::Sha1,
            relayed: None,
            transactions: u128::from(address.address().port()) << 32,
        }
    }

    /// The same device at another address: a client that restarted.
    pub(crate) fn restarted(&self, port: u16) -> Self {
        let address = ClientAddr::udp(SocketAddr::new(self.address.address().ip(), port), 0);
        Self::with_password(self.username.clone(), self.password.clone(), address)
    }

    pub(crate) fn relayed(&self) -> SocketAddr {
        self.relayed.expect("allocated before")
    }

    pub(crate) fn next_transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        self.transactions.into()
    }

    /// A request with credentials as they are now.
    pub(crate) fn signed(&mut self, method: Method, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        let transaction = self.next_transaction();
        self.signed_as(transaction, method, attributes)
    }

    pub(crate) fn signed_as(
        &self,
        transaction: TransactionId,
        method: Method,
        attributes: &[&dyn AttributeWrite],
    ) -> Vec<u8> {
        let mut message = request(method, transaction);
        for attribute in attributes {
            message.add_attribute(*attribute).unwrap();
        }
        message.add_attribute(&Username::new(&self.username).unwrap()).unwrap();
        message.add_attribute(&Realm::new(&self.realm).unwrap()).unwrap();
        message.add_attribute(&Nonce::new(&self.nonce).unwrap()).unwrap();
        let key =
            LongTermKeyCredentials::new(self.username.clone(), self.password.clone(), self.realm.clone());
        message.add_message_integrity(&key.into(), self.algorithm).unwrap();
        message.finish()
    }

    /// Sends a request; on 401 or 438 takes the nonce and sends it once more.
    pub(crate) fn request(
        &mut self,
        bench: &mut Bench,
        method: Method,
        attributes: &[&dyn AttributeWrite],
    ) -> Outcome {
        if self.nonce.is_empty() {
            self.nonce = fresh_nonce(bench, self.address);
        }
        let bytes = self.signed(method, attributes);
        let first = self.exchange(bench, &bytes);
        if first != Err(438) {
            return first;
        }
        self.nonce = fresh_nonce(bench, self.address);
        let bytes = self.signed(method, attributes);
        self.exchange(bench, &bytes)
    }

    /// Sends bytes that draw an answer, and checks that the answer is signed unless it is a challenge.
    pub(crate) fn exchange(&self, bench: &mut Bench, bytes: &[u8]) -> Outcome {
        let Fate::Replied(reply) = bench.packet(bytes, self.address) else { panic!("no answer") };
        let (message, asked) = (parsed(&reply), parsed(bytes));
        assert_eq!((message.transaction_id(), message.method()), (asked.transaction_id(), asked.method()));
        let key =
            LongTermKeyCredentials::new(self.username.clone(), self.password.clone(), self.realm.clone());
        let is_signed = message.validate_integrity(&key.into()).is_ok();
        if message.class() == MessageClass::Success {
            assert!(is_signed, "a success is signed");
            return Ok(reply);
        }
        let code = code_of(&message);
        assert!(is_signed || matches!(code, 400 | 401 | 438), "error {code} is signed");
        Err(code)
    }

    pub(crate) fn allocate(&mut self, bench: &mut Bench) -> Outcome {
        self.allocate_with(bench, &[])
    }

    pub(crate) fn allocate_with(&mut self, bench: &mut Bench, more: &[&dyn AttributeWrite]) -> Outcome {
        let udp = RequestedTransport::new(RequestedTransport::UDP);
        let attributes: Vec<&dyn AttributeWrite> =
            [&udp as &dyn AttributeWrite].iter().chain(more).copied().collect();
        let reply = self.request(bench, ALLOCATE, &attributes)?;
        self.relayed = Some(relayed_of(&reply));
        Ok(reply)
    }

    pub(crate) fn refresh(&mut self, bench: &mut Bench, seconds: u32) -> Result<u32, u16> {
        let reply = self.request(bench, REFRESH, &[&Lifetime::new(seconds)])?;
        Ok(lifetime_of(&reply))
    }

    pub(crate) fn permit(&mut self, bench: &mut Bench, peer: SocketAddr) -> Outcome {
        // The transaction number goes into the address: IPv4 uses the cookie only, IPv6 all of it.
        let transaction = TransactionId::from(self.transactions + 1);
        self.request(bench, CREATE_PERMISSION, &[&XorPeerAddress::new(peer, transaction)])
    }

    pub(crate) fn bind(&mut self, bench: &mut Bench, number: u16, peer: SocketAddr) -> Outcome {
        let transaction = TransactionId::from(self.transactions + 1);
        let peer = XorPeerAddress::new(peer, transaction);
        self.request(bench, CHANNEL_BIND, &[&ChannelNumber::new(number), &peer])
    }

    pub(crate) fn send(&mut self, bench: &mut Bench, peer: SocketAddr, data: &[u8]) -> Fate {
        let bytes = send_indication(self.next_transaction(), peer, data);
        bench.packet(&bytes, self.address)
    }

    pub(crate) fn channel(&self, bench: &mut Bench, number: u16, data: &[u8]) -> Fate {
        bench.packet(&channel_data(number, data), self.address)
    }
}

pub(crate) fn terms(call: u8, device: u8) -> GrantTerms {
    GrantTerms {
        relay: RELAY,
        device: DeviceKey([device; 32]),
        tag: CallTag([call; 16]),
        not_after_s: START_UNIX_S + 60,
        quota_bytes: 100_000_000,
    }
}

pub(crate) fn request(method: Method, transaction: TransactionId) -> MessageWriteVec {
    let request = MessageType::from_class_method(MessageClass::Request, method);
    Message::builder(request, transaction, MessageWriteVec::new())
}

pub(crate) fn binding_request() -> Vec<u8> {
    request(BINDING, 77.into()).finish()
}

/// An Allocate without credentials, and the nonce of the 401 it draws.
pub(crate) fn fresh_nonce(bench: &mut Bench, from: ClientAddr) -> String {
    let mut message = request(ALLOCATE, 5.into());
    message.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
    let Fate::Replied(reply) = bench.packet(&message.finish(), from) else { panic!("no challenge") };
    let message = Message::from_bytes(&reply).unwrap();
    assert_eq!(message.attribute::<ErrorCode>().unwrap().code(), 401);
    message.attribute::<Nonce>().unwrap().nonce().to_owned()
}

pub(crate) fn parsed(bytes: &[u8]) -> Message<'_> {
    Message::from_bytes(bytes).unwrap()
}

fn code_of(message: &Message<'_>) -> u16 {
    message.attribute::<ErrorCode>().unwrap().code()
}

pub(crate) fn lifetime_of(reply: &[u8]) -> u32 {
    parsed(reply).attribute::<Lifetime>().unwrap().seconds()
}

pub(crate) fn relayed_of(reply: &[u8]) -> SocketAddr {
    let message = Message::from_bytes(reply).unwrap();
    let relayed = message.attribute::<XorRelayedAddress>().unwrap().addr(message.transaction_id());
    let IpAddr::V4(ip) = relayed.ip() else { panic!("relayed addresses are IPv4") };
    assert!(ip >= Ipv4Addr::new(198, 18, 0, 1) && ip <= Ipv4Addr::new(198, 19, 255, 254), "{ip}");
    assert_eq!(relayed.port(), RELAYED_PORT);
    relayed
}

pub(crate) fn send_indication(transaction: TransactionId, peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let indication = MessageType::from_class_method(MessageClass::Indication, SEND);
    let mut message = Message::builder(indication, transaction, MessageWriteVec::new());
    message.add_attribute(&XorPeerAddress::new(peer, transaction)).unwrap();
    message.add_attribute(&Data::new(data)).unwrap();
    message.finish()
}

pub(crate) fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&number.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// Takes a Data indication apart: from which peer, and what.
pub(crate) fn data_of(bytes: &[u8]) -> (SocketAddr, Vec<u8>) {
    let message = Message::from_bytes(bytes).unwrap();
    assert_eq!(
        message.get_type(),
        MessageType::from_class_method(MessageClass::Indication, turn_types::message::DATA)
    );
    let peer = message.attribute::<XorPeerAddress>().unwrap().addr(message.transaction_id());
    (peer, message.attribute::<Data<'_>>().unwrap().data().to_vec())
}
