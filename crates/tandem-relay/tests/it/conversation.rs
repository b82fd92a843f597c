//! Whole conversations from any bytes, and what must hold after each packet of them. The fuzz targets, the corpus and
//! the property tests all come here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use stun_types::attribute::{ErrorCode, MessageIntegrity, MessageIntegritySha256, Nonce};
use stun_types::message::{LongTermKeyCredentials, Message, MessageClass, Method};
use stun_types::prelude::*;
use tandem_proto::ids::CallTag;
use tandem_proto::leaving;
use tandem_relay::client::ClientAddr;
use tandem_relay::framing::{Frame, MESSAGE_BYTES_MAX, first_frame};
use tandem_relay::server::{HEADROOM, Serving, Switch, TAILROOM, Verdict};
use turn_types::attribute::{ChannelNumber, Lifetime, RequestedTransport, XorPeerAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

use crate::bench::{Bench, Client, Fate, binding_request, channel_data, relayed_of, send_indication, terms};

/// What answers to strangers may have more than the request (spec/relay.md, "Answers to strangers").
const STRANGER_GROWTH_MAX: usize = 32;
/// What a signed answer takes at most: texts, integrity and every attribute there is.
const SIGNED_BYTES_MAX: usize = 200;
/// Fills what is not the packet, to be recognised if it is sent.
const CANARY: u8 = 0xa5;
const STEPS_MAX: usize = 200;
const RECORDED_MAX: usize = 64;

/// The bytes that decide. When they are used up all is zero.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// How often something happened: a corpus that reaches nothing would prove nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) allocated: u32,
    pub(crate) refused: u32,
    pub(crate) forwarded: u32,
    pub(crate) switched: u32,
    pub(crate) challenged: u32,
    pub(crate) told: u32,
}

impl Reached {
    pub(crate) fn add(&mut self, more: Self) {
        self.allocated += more.allocated;
        self.refused += more.refused;
        self.forwarded += more.forwarded;
        self.switched += more.switched;
        self.challenged += more.challenged;
        self.told += more.told;
    }
}

/// A relay, everybody who speaks to it, and who has proved what.
struct Conversation {
    bench: Bench,
    switch: Option<Switch>,
    people: Vec<Client>,
    relayed: Vec<Option<SocketAddr>>,
    /// Everything sent, to be sent again by somebody else.
    recorded: Vec<Vec<u8>>,
    /// Which source has had an Allocate granted, and for which call the last time.
    proved: BTreeMap<ClientAddr, CallTag>,
    reached: Reached,
}

/// Two of call 1, a third device, two of call 2, the first again at another address and over TCP, and one who has a
/// user name and no password.
fn people() -> Vec<Client> {
    let with = |call, device, address| Client::with_terms(&terms(call, device), address);
    let mut people = vec![
        Client::new(1, 1),
        Client::new(1, 2),
        Client::new(1, 3),
        with(2, 1, ClientAddr::tcp("[2001:db8::7]:4000".parse().unwrap(), 0)),
        Client::new(2, 2),
        Client::new(1, 1).restarted(6_000),
        with(1, 1, ClientAddr::tcp("192.0.2.7:4000".parse().unwrap(), 1)),
        Client::with_password(
            terms(1, 2).username(),
            "guessed".to_owned(),
            ClientAddr::udp("198.51.100.9:9".parse().unwrap(), 0),
        ),
    ];
    people[4].algorithm = stun_types::message::IntegrityAlgorithm::Sha256;
    people
}

const THIEF: usize = 7;

impl Conversation {
    fn new(settings: u8) -> Self {
        let mut bench = Bench::with(|config| {
            if settings & 1 != 0 {
                config.allocation_rate = None;
            }
            if settings & 2 != 0 {
                config.allocations_max = 3;
            }
            if settings & 4 != 0 {
                config.allocations_per_source_max = 1;
            }
            config.stranger_rate.burst = if settings & 8 != 0 { 4 } else { 1_000 };
        });
        let switch = (settings & 16 != 0).then(|| Switch::new(&mut bench.server, bench.now));
        let people = people();
        Self {
            bench,
            switch,
            relayed: vec![None; people.len()],
            people,
            recorded: Vec::new(),
            proved: BTreeMap::new(),
            reached: Reached::default(),
        }
    }

    /// One packet as the driver handles it, and all that must hold of what comes of it.
    fn packet(&mut self, bytes: &[u8], from: ClientAddr) -> Fate {
        let mut buffer = vec![CANARY; HEADROOM + bytes.len() + TAILROOM];
        let packet = HEADROOM..HEADROOM + bytes.len();
        buffer[packet.clone()].copy_from_slice(bytes);
        let (server, now) = (&mut self.bench.server, self.bench.now);
        let known =
            self.switch.as_mut().and_then(|switch| switch.handle(&mut buffer, packet.clone(), &from, now));
        self.reached.switched += u32::from(known.is_some());
        let verdict = known.unwrap_or_else(|| {
            let verdict = server.handle(&mut buffer, packet, from, now);
            if let Some(switch) = &mut self.switch
                && bytes.first().is_some_and(|first| *first >= 0x40)
                && matches!(verdict, Verdict::Forward { .. })
            {
                switch.learn(server, &from, now);
            }
            verdict
        });
        match verdict {
            Verdict::Forward { to, packet } => {
                let forwarded = buffer[packet].to_vec();
                self.check_forwarded(bytes, from, to, &forwarded);
                Fate::Forwarded { to, bytes: forwarded }
            }
            Verdict::Reply(reply) => {
                self.check_reply(bytes, from, &reply);
                Fate::Replied(reply)
            }
            Verdict::Drop(reason) => Fate::Dropped(reason),
        }
    }

    /// It goes to somebody who has proved to belong to the same call, and carries what was sent and nothing else.
    fn check_forwarded(&mut self, sent: &[u8], from: ClientAddr, to: ClientAddr, forwarded: &[u8]) {
        self.reached.forwarded += 1;
        assert_ne!(from, to, "nobody hears himself");
        let tag = self.proved.get(&from).expect("a sender has authenticated");
        assert_eq!(Some(tag), self.proved.get(&to), "both belong to one call");
        let (sent, got) = (payload_of(sent), payload_of(forwarded));
        assert_eq!(sent, got, "what is forwarded is what was sent");
        if to.is_stream() {
            assert_eq!(first_frame(forwarded), Frame::Whole(forwarded.len()));
        }
        let is_clean = if forwarded[0] < 0x40 {
            padding_is_zero(forwarded)
        } else {
            forwarded[4 + got.len()..].iter().all(|byte| *byte == 0)
        };
        assert!(is_clean, "padding is zero: {forwarded:02x?}");
    }

    /// An answer goes to whoever asked; without credentials it is short, and nobody answers an answer.
    fn check_reply(&mut self, asked: &[u8], from: ClientAddr, reply: &[u8]) {
        let message = Message::from_bytes(reply).expect("an answer is STUN");
        assert!(matches!(message.class(), MessageClass::Success | MessageClass::Error));
        assert_eq!(message.transaction_id(), Message::from_bytes(asked).unwrap().transaction_id());
        assert!(padding_is_zero(reply), "padding is zero: {reply:02x?}");
        let is_signed = message.has_attribute(MessageIntegrity::TYPE)
            || message.has_attribute(MessageIntegritySha256::TYPE);
        if is_signed {
            assert!(reply.len() <= SIGNED_BYTES_MAX, "{} bytes", reply.len());
            assert_ne!(from, self.people[THIEF].address, "no password, no signature");
            let knows = |client: &Client| {
                let key = LongTermKeyCredentials::new(
                    client.username.clone(),
                    client.password.clone(),
                    client.realm.clone(),
                );
                client.address == from && message.validate_integrity(&key.into()).is_ok()
            };
            assert!(self.people.iter().any(knows), "a signed answer is for who can read it");
        } else {
            assert!(reply.len() <= asked.len() + STRANGER_GROWTH_MAX, "{} for {}", reply.len(), asked.len());
            self.reached.challenged += 1;
        }
        if message.class() == MessageClass::Success && message.method() == ALLOCATE {
            assert!(is_signed);
            let person = self.people.iter().position(|client| client.address == from).expect("one of them");
            self.relayed[person] = Some(relayed_of(reply));
            let info = self.bench.server.allocations().find(|info| info.client == from);
            let tag = info.map_or_else(|| self.tag_of(person), |info| info.tag);
            self.proved.insert(from, tag);
            self.reached.allocated += 1;
        }
        let echoed = self.bench.packet(reply, from);
        assert!(matches!(echoed, Fate::Dropped(_)), "an answer draws nothing: {echoed:?}");
    }

    fn tag_of(&self, person: usize) -> CallTag {
        tandem_proto::grant::GrantTerms::parse(&self.people[person].username).unwrap().tag
    }

    /// What holds at any time of all that is alive.
    fn check_table(&mut self) {
        let mut of_tag: BTreeMap<CallTag, u32> = BTreeMap::new();
        let mut addresses = Vec::new();
        for info in self.bench.server.allocations() {
            assert_eq!(self.proved.get(&info.client), Some(&info.tag), "it belongs to who asked for it");
            *of_tag.entry(info.tag).or_default() += 1;
            addresses.push(info.relayed);
        }
        assert!(of_tag.values().all(|count| *count <= 2), "a call is two");
        addresses.sort();
        assert!(addresses.windows(2).all(|two| two[0] != two[1]), "each has an address of its own");
        assert_eq!(self.bench.server.stats().allocations, addresses.len());
    }

    fn record(&mut self, bytes: &[u8]) {
        if self.recorded.len() == RECORDED_MAX {
            self.recorded.remove(0);
        }
        self.recorded.push(bytes.to_vec());
    }

    fn request(&mut self, person: usize, method: Method, attributes: &[&dyn AttributeWrite]) {
        for _attempt in 0..2 {
            let transaction = self.people[person].next_transaction();
            let bytes = self.people[person].signed_as(transaction, method, attributes);
            self.record(&bytes);
            let Fate::Replied(reply) = self.packet(&bytes, self.people[person].address) else { return };
            let message = Message::from_bytes(&reply).unwrap();
            let Ok(code) = message.attribute::<ErrorCode>() else { return };
            self.reached.refused += 1;
            match message.attribute::<Nonce>() {
                Ok(nonce) if code.code() == 438 || code.code() == 401 => {
                    nonce.nonce().clone_into(&mut self.people[person].nonce);
                }
                _ => return,
            }
        }
    }

    /// Somebody's relayed address, or one that nobody should be able to name.
    fn peer(&self, choices: &mut Choices<'_>) -> SocketAddr {
        let which = usize::from(choices.byte());
        let port = if choices.byte() < 0xf0 { crate::bench::RELAYED_PORT } else { choices.word() };
        let known = self.relayed.get(which).copied().flatten();
        let other = || unwanted_peers()[which % unwanted_peers().len()];
        SocketAddr::new(known.unwrap_or_else(other).ip(), port)
    }

    fn say(&mut self, person: usize, choices: &mut Choices<'_>) {
        let number = 0x4000 + u16::from(choices.byte() & 3);
        let length = usize::from(choices.byte());
        let data = choices.bytes(length);
        let mut bytes = channel_data(number, data);
        if self.people[person].address.is_stream() {
            bytes.resize(bytes.len().next_multiple_of(4), CANARY);
        }
        self.record(&bytes);
        self.packet(&bytes, self.people[person].address);
    }

    fn pass(&mut self, choices: &mut Choices<'_>) {
        let seconds = choices.of(&[0, 1, 5, 31, 299, 301, 599, 601, 3_600, 15_000]);
        let millis = u64::from(choices.byte());
        self.bench.now += Duration::from_secs(seconds) + Duration::from_millis(millis);
        // A process that was stopped finds packets before it looks at the clock.
        if choices.byte() & 1 == 0 {
            self.timeout();
        }
    }

    fn timeout(&mut self) {
        let (server, now) = (&mut self.bench.server, self.bench.now);
        if let Some(switch) = &mut self.switch
            && switch.poll_timeout().is_some_and(|due| due <= now)
        {
            switch.settle(server, now);
        }
        server.handle_timeout(now);
        assert!(server.poll_timeout().is_none_or(|next| next > now), "the clock has been looked at");
        while let Some((to, notice)) = self.bench.server.poll_notice() {
            assert!(leaving::is_notice(&notice));
            assert!(self.bench.server.has_allocation(&to) && self.proved.contains_key(&to));
            assert!(matches!(self.bench.packet(&notice, to), Fate::Dropped(_)), "a notice draws nothing");
            self.reached.told += 1;
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let action = choices.byte() % 16;
        let person = usize::from(choices.byte()) % self.people.len();
        let address = self.people[person].address;
        match action {
            0 | 1 => {
                let lifetime = Lifetime::new(u32::from(choices.word()));
                let udp = RequestedTransport::new(RequestedTransport::UDP);
                self.request(person, ALLOCATE, &[&udp, &lifetime]);
            }
            2 => {
                let lifetime = Lifetime::new(u32::from(choices.word()));
                self.request(person, REFRESH, &[&lifetime]);
            }
            3 | 4 => self.name_peer(person, choices),
            5 | 6 => self.say(person, choices),
            7 => {
                let peer = self.peer(choices);
                let length = usize::from(choices.byte());
                let bytes = send_indication(3.into(), peer, choices.bytes(length));
                self.record(&bytes);
                self.packet(&bytes, address);
            }
            8 => {
                self.packet(&binding_request(), address);
            }
            9 => self.pass(choices),
            10 | 11 => self.replay(address, action == 11, choices),
            12 => {
                let length = usize::from(choices.byte());
                self.packet(choices.bytes(length), address);
            }
            13 => {
                let serving =
                    choices.of(&[Serving::Open, Serving::Draining, Serving::Open, Serving::Standby]);
                self.bench.server.set_serving(serving, self.bench.now);
            }
            14 => self.bench.server.disconnected(&address),
            _ => self.timeout(),
        }
    }

    fn name_peer(&mut self, person: usize, choices: &mut Choices<'_>) {
        let number = ChannelNumber::new(choices.of(&[0x4000, 0x4001, 0x4002, 0x7ffe, 0x7fff, 0x3fff]));
        let peer = self.peer(choices);
        // IPv6 addresses are masked with the transaction, which the next request takes.
        let transaction = self.people[person].clone().next_transaction();
        let peer = XorPeerAddress::new(peer, transaction);
        match choices.byte() & 3 {
            0 => self.request(person, CREATE_PERMISSION, &[&peer]),
            1 => self.request(person, CREATE_PERMISSION, &[&peer, &peer]),
            _ => self.request(person, CHANNEL_BIND, &[&number, &peer]),
        }
    }

    /// Something that was sent before, from any address, as it was or with a byte changed.
    fn replay(&mut self, from: ClientAddr, changed: bool, choices: &mut Choices<'_>) {
        let which = usize::from(choices.byte());
        let Some(mut bytes) = self.recorded.get(which % self.recorded.len().max(1)).cloned() else { return };
        if changed {
            let place = usize::from(choices.byte()) % bytes.len();
            bytes[place] ^= choices.byte();
            if choices.byte() & 1 != 0 {
                bytes.truncate(usize::from(choices.byte()));
            }
        }
        self.packet(&bytes, from);
    }
}

/// Addresses that somebody would like a relay to send to.
pub(crate) fn unwanted_peers() -> Vec<SocketAddr> {
    let ipv4 = [
        "0.0.0.0",
        "0.0.0.1",
        "127.0.0.1",
        "127.0.0.53",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.254",
        "192.168.1.1",
        "169.254.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.254",
        "192.0.0.8",
        "192.88.99.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "8.8.8.8",
        "198.18.0.0",
        "198.19.255.255",
    ];
    let ipv6 = [
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:198.18.0.1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::1",
        "2001::1",
    ];
    let parsed = ipv4.into_iter().chain(ipv6);
    parsed.map(|ip| SocketAddr::new(ip.parse().unwrap(), crate::bench::RELAYED_PORT)).collect()
}

/// The application's bytes in ChannelData, or in a Send or Data indication.
fn payload_of(bytes: &[u8]) -> Vec<u8> {
    if bytes[0] >= 0x40 {
        let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        return bytes[4..4 + length].to_vec();
    }
    let message = Message::from_bytes(bytes).expect("a message of ours");
    message.attribute::<turn_types::attribute::Data<'_>>().expect("data").data().to_vec()
}

/// Whether every attribute's padding is zero: nothing of an earlier packet leaves with a later one.
pub(crate) fn padding_is_zero(message: &[u8]) -> bool {
    let mut rest = &message[20..];
    while let [_, _, high, low, value @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let padded = length.next_multiple_of(4);
        if value[length..padded].iter().any(|byte| *byte != 0) {
            return false;
        }
        rest = &value[padded..];
    }
    true
}

/// Plays a conversation out. Panics if anything that must hold does not.
pub(crate) fn converse(bytes: &[u8]) -> Reached {
    let mut choices = Choices(bytes);
    let mut conversation = Conversation::new(choices.byte());
    for _ in 0..STEPS_MAX {
        if choices.0.is_empty() {
            break;
        }
        conversation.step(&mut choices);
        conversation.check_table();
    }
    conversation.timeout();
    conversation.reached
}

/// Reads any bytes as a stream, whole and in pieces, and as datagrams of a stranger and of a client of a call.
pub(crate) fn parse(bytes: &[u8]) -> Reached {
    let mut reached = Reached::default();
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    let stranger = Client::new(9, 9).address;
    let mut rest = bytes;
    loop {
        let frame = first_frame(rest);
        check_prefixes(rest, frame);
        let Frame::Whole(length) = frame else { break };
        for from in [stranger, caller.address, ClientAddr::tcp(stranger.address(), 3)] {
            for packet in [&rest[..length], rest] {
                check_fate(&mut bench, packet, from, (&caller, &callee), &mut reached);
            }
        }
        rest = &rest[length..];
    }
    check_fate(&mut bench, bytes, stranger, (&caller, &callee), &mut reached);
    check_fate(&mut bench, bytes, caller.address, (&caller, &callee), &mut reached);
    let alive = bench.server.stats().allocations;
    assert_eq!(alive, 2, "bytes without credentials change nothing");
    reached
}

fn check_fate(
    bench: &mut Bench,
    packet: &[u8],
    from: ClientAddr,
    (caller, callee): (&Client, &Client),
    reached: &mut Reached,
) {
    match bench.packet(packet, from) {
        Fate::Forwarded { to, bytes } => {
            assert_eq!((from, to), (caller.address, callee.address));
            assert_eq!(payload_of(packet), payload_of(&bytes));
            assert!(padding_is_zero(&bytes), "{bytes:02x?}");
            reached.forwarded += 1;
        }
        Fate::Replied(reply) => {
            assert!(reply.len() <= packet.len() + STRANGER_GROWTH_MAX);
            assert!(padding_is_zero(&reply), "{reply:02x?}");
            reached.challenged += 1;
        }
        Fate::Dropped(_) => {}
    }
}

/// A stream says the same however it is cut: nothing until the message is whole, and then that.
fn check_prefixes(stream: &[u8], frame: Frame) {
    match frame {
        Frame::Whole(length) => {
            assert!((4..=MESSAGE_BYTES_MAX).contains(&length) && length <= stream.len());
            for cut in (0..length).step_by(1 + length / 64) {
                assert_eq!(first_frame(&stream[..cut]), Frame::Partial, "{cut} of {length}");
            }
            assert_eq!(first_frame(&stream[..length]), frame);
        }
        Frame::Partial => assert!(stream.len() < MESSAGE_BYTES_MAX, "what is kept is bounded"),
        Frame::Foreign => assert!(!stream.is_empty()),
    }
}
