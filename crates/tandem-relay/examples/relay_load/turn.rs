//! The control half of a TURN client, for thousands at once: what to ask, and what the answers say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stun_types::attribute::{ErrorCode, Nonce, Realm, Username};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWriteVec, Method,
    TransactionId,
};
use stun_types::prelude::*;
use tandem_proto::grant::RestSecret;
use turn_types::attribute::{ChannelNumber, RequestedTransport, XorPeerAddress, XorRelayedAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND};

use crate::clients::{Arrivals, CHANNEL_FIRST, Clients, Inbox};

/// Requests on their way at once: fewer than any server's receive buffer holds.
const IN_FLIGHT: usize = 48;
const RETRANSMIT: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(60);

/// Every client of a load; two neighbours are a call.
#[derive(Debug)]
pub(crate) struct Population {
    secret: RestSecret,
    members: Vec<Member>,
    transactions: u128,
}

#[derive(Debug)]
struct Member {
    username: String,
    realm: String,
    nonce: String,
    relayed: Option<SocketAddr>,
}

impl Population {
    /// `name` tells them apart from those of other populations on the same server.
    pub(crate) fn new(secret: &str, count: u32, name: &str) -> Self {
        // A day from now: coturn takes what is too far away for past.
        let expiry_s = crate::clients::now_ns() / 1_000_000_000 + 86_400;
        let member = |n: u32| Member {
            username: format!("{expiry_s}:{name}{}", n / 2),
            realm: String::new(),
            nonce: String::new(),
            relayed: None,
        };
        Self {
            secret: RestSecret::new(secret),
            members: (0..count).map(member).collect(),
            transactions: u128::from(crate::clients::now_ns()) << 20,
        }
    }

    /// Allocates for everybody: first without credentials for the nonce, then with them.
    pub(crate) fn allocate(&mut self, clients: &Clients, inbox: &mut Inbox, first: u32) -> Result<()> {
        let udp = RequestedTransport::new(RequestedTransport::UDP);
        let bare = |_: &Member, transaction| {
            let mut message = request(ALLOCATE, transaction);
            add(&mut message, &udp)?;
            Ok(message.finish())
        };
        let challenge = |member: &mut Member, answer: &Message<'_>| {
            ensure!(answer.attribute::<ErrorCode>()?.code() == 401, "no challenge");
            answer.attribute::<Nonce>()?.nonce().clone_into(&mut member.nonce);
            answer.attribute::<Realm>()?.realm().clone_into(&mut member.realm);
            Ok(())
        };
        self.exchange(clients, inbox, first, bare, challenge)?;
        let secret = self.secret.clone();
        let signed = |member: &Member, transaction| sign(member, &secret, ALLOCATE, transaction, &[&udp]);
        let relayed = |member: &mut Member, answer: &Message<'_>| {
            succeeded(answer)?;
            let relayed = answer.attribute::<XorRelayedAddress>()?.addr(answer.transaction_id());
            member.relayed = Some(relayed);
            Ok(())
        };
        self.exchange(clients, inbox, first, signed, relayed)
    }

    /// Binds everybody's one channel to the other end of the call.
    pub(crate) fn bind(&mut self, clients: &Clients, inbox: &mut Inbox, first: u32) -> Result<()> {
        let relayed: Vec<_> = self.members.iter().map(|member| member.relayed).collect();
        let peers: BTreeMap<_, _> =
            (0..relayed.len()).filter_map(|n| Some((relayed[n]?, relayed.get(n ^ 1).copied()??))).collect();
        let secret = self.secret.clone();
        let signed = |member: &Member, transaction| {
            let own = member.relayed.context("not allocated")?;
            let peer = XorPeerAddress::new(*peers.get(&own).context("no partner")?, transaction);
            let channel = ChannelNumber::new(CHANNEL_FIRST);
            sign(member, &secret, CHANNEL_BIND, transaction, &[&channel, &peer])
        };
        self.exchange(clients, inbox, first, signed, |_, answer| succeeded(answer))
    }

    /// One request of each member, with retransmission; `first` is the first one's number as a client.
    fn exchange(
        &mut self,
        clients: &Clients,
        inbox: &mut Inbox,
        first: u32,
        make: impl Fn(&Member, TransactionId) -> Result<Vec<u8>>,
        take: impl Fn(&mut Member, &Message<'_>) -> Result<()>,
    ) -> Result<()> {
        let begun = Instant::now();
        let mut waiting: BTreeSet<usize> = (0..self.members.len()).rev().collect();
        let mut flying: BTreeMap<TransactionId, (usize, Vec<u8>, Instant)> = BTreeMap::new();
        let mut arrivals = Arrivals::default();
        while !waiting.is_empty() || !flying.is_empty() {
            ensure!(begun.elapsed() < PATIENCE, "the server does not answer {} requests", flying.len());
            while flying.len() < IN_FLIGHT
                && let Some(index) = waiting.pop_first()
            {
                self.transactions += 1;
                let transaction = TransactionId::from(self.transactions);
                let bytes = make(&self.members[index], transaction)?;
                clients.send(first + u32::try_from(index)?, &bytes)?;
                flying.insert(transaction, (index, bytes, Instant::now()));
            }
            clients.receive(inbox, &mut arrivals)?;
            for bytes in arrivals.messages.drain(..) {
                let Ok(answer) = Message::from_bytes(&bytes) else { continue };
                if let Some((index, ..)) = flying.remove(&answer.transaction_id()) {
                    take(&mut self.members[index], &answer)?;
                }
            }
            for (index, bytes, sent) in flying.values_mut() {
                if sent.elapsed() > RETRANSMIT {
                    clients.send(first + u32::try_from(*index)?, bytes)?;
                    *sent = Instant::now();
                }
            }
        }
        Ok(())
    }
}

fn request(method: Method, transaction: TransactionId) -> MessageWriteVec {
    let kind = MessageType::from_class_method(MessageClass::Request, method);
    Message::builder(kind, transaction, MessageWriteVec::new())
}

fn add(message: &mut MessageWriteVec, attribute: &dyn AttributeWrite) -> Result<()> {
    message.add_attribute(attribute).map_err(|error| anyhow::anyhow!("{error:?}"))
}

fn sign(
    member: &Member,
    secret: &RestSecret,
    method: Method,
    transaction: TransactionId,
    attributes: &[&dyn AttributeWrite],
) -> Result<Vec<u8>> {
    let mut message = request(method, transaction);
    for attribute in attributes {
        add(&mut message, *attribute)?;
    }
    add(&mut message, &Username::new(&member.username)?)?;
    add(&mut message, &Realm::new(&member.realm)?)?;
    add(&mut message, &Nonce::new(&member.nonce)?)?;
    let password = secret.password(&member.username);
    let key = LongTermKeyCredentials::new(member.username.clone(), password, member.realm.clone());
    let signed = message.add_message_integrity(&key.into(), IntegrityAlgorithm::Sha1);
    signed.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(message.finish())
}

fn succeeded(answer: &Message<'_>) -> Result<()> {
    let code = answer.attribute::<ErrorCode>().map(|error| error.code()).ok();
    ensure!(answer.class() == MessageClass::Success, "refused: {code:?}");
    Ok(())
}
