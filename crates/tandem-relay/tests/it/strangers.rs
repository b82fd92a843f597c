//! What who has proved nothing can draw, measured: how many times the bytes it took (spec/relay.md, "Answers to
//! strangers"). A source can be forged, so this is what the relay would multiply.

use std::net::SocketAddr;

use stun_types::attribute::{AttributeType, Nonce, RawAttribute, Realm, Username};
use stun_types::message::Method;
use stun_types::prelude::*;
use tandem_relay::client::ClientAddr;
use turn_types::attribute::RequestedTransport;
use turn_types::message::ALLOCATE;

use crate::bench::{Bench, Client, Fate, request};

/// Headers of UDP and of IPv4 or IPv6.
const HEADERS: [usize; 2] = [8 + 20, 8 + 40];

/// Bytes of the answer for the bytes of the request, with headers, for both families.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ratio {
    asked: usize,
    answered: usize,
    of: f64,
}

/// A relay that answers everybody, and the sources of both families.
struct Scene {
    bench: Bench,
    sources: [ClientAddr; 2],
    worst: [Ratio; 2],
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::with(|config| config.stranger_rate.burst = 10_000_000);
        let source = |address: &str| ClientAddr::udp(address.parse::<SocketAddr>().unwrap(), 0);
        let none = Ratio { asked: 1, answered: 0, of: 0.0 };
        let sources = [source("192.0.2.1:5000"), source("[2001:db8::1]:5000")];
        Self { bench, sources, worst: [none; 2] }
    }

    /// The ratio over IPv4 and IPv6; 0 where there is no answer.
    fn measure(&mut self, packet: &[u8]) -> [f64; 2] {
        [0, 1].map(|family| {
            let answered = match self.bench.packet(packet, self.sources[family]) {
                Fate::Replied(reply) => reply.len(),
                Fate::Dropped(_) => return 0.0,
                Fate::Forwarded { .. } => panic!("a stranger's packet was forwarded"),
            };
            let of = (answered + HEADERS[family]) as f64 / (packet.len() + HEADERS[family]) as f64;
            if of > self.worst[family].of {
                self.worst[family] = Ratio { asked: packet.len(), answered, of };
            }
            of
        })
    }
}

/// Every method there could be, and none of the attributes, one, or two of the same.
fn requests_of_strangers() -> impl Iterator<Item = Vec<u8>> {
    let methods = (0..0x1000).map(Method::new);
    methods.flat_map(|method| {
        let few = [None, Some(0x0019), Some(0x7fff), Some(0x0020)].into_iter();
        let attributes: Vec<Option<u16>> =
            if method.value() <= 0x00c { few.chain((0..0x30).map(Some)).collect() } else { few.collect() };
        attributes.into_iter().flat_map(move |attribute| {
            (0..=2).flat_map(move |copies| {
                [0, 1, 4, 8].map(|length| with_attributes(method, attribute, copies, length))
            })
        })
    })
}

fn with_attributes(method: Method, attribute: Option<u16>, copies: usize, length: usize) -> Vec<u8> {
    let mut bytes = request(method, 9.into()).finish();
    let value = [0x11; 8];
    for _ in 0..copies {
        if let Some(attribute) = attribute {
            bytes.extend(RawAttribute::new(AttributeType::new(attribute), &value[..length]).to_bytes());
        }
    }
    let behind = u16::try_from(bytes.len() - 20).unwrap().to_be_bytes();
    bytes[2..4].copy_from_slice(&behind);
    bytes
}

/// Signed with a password that is wrong, and a nonce that is not: 401 or 438.
fn guesses(scene: &Scene) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for method in [1, 3, 4, 8, 9, 10] {
        for (username, nonce) in [("", ""), ("a", "b"), ("1:a", "AAAAAAAAAAAA")] {
            let mut client = Client::with_password(username.to_owned(), String::new(), scene.sources[0]);
            client.nonce = nonce.to_owned();
            all.push(client.signed(Method::new(method), &[]));
        }
        let mut bare = request(Method::new(method), 9.into());
        bare.add_attribute(&Username::new("").unwrap()).unwrap();
        bare.add_attribute(&Realm::new("").unwrap()).unwrap();
        bare.add_attribute(&Nonce::new("").unwrap()).unwrap();
        all.push(bare.finish());
    }
    all
}

#[test]
fn strangers_draw_what_the_specification_says_and_nothing_draws_more() {
    let mut scene = Scene::new();
    let requests: Vec<Vec<u8>> = guesses(&scene).into_iter().chain(requests_of_strangers()).collect();
    for packet in requests {
        scene.measure(&packet);
    }
    println!("the most that strangers draw: {:?}", scene.worst);
    let mut allocate = request(ALLOCATE, 9.into());
    allocate.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
    let rows = [
        ("| Allocate with REQUESTED-TRANSPORT (28 bytes) |", allocate.finish()),
        ("| the same without (20); ", request(ALLOCATE, 9.into()).finish()),
        ("| Binding (20) |", crate::bench::binding_request()),
        ("| Binding with an empty attribute ", with_attributes(Method::new(1), Some(0x7fff), 1, 0)),
    ];
    let spec = include_str!("../../../../spec/relay.md");
    for (row, packet) in rows {
        let line = spec.lines().find(|line| line.starts_with(row)).expect("the row of the specification");
        let [ipv4, ipv6] = scene.measure(&packet).map(|of| format!("{of:.2}"));
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert!(cells[3].starts_with(&ipv4) && cells[4] == ipv6, "{line}: {ipv4}, {ipv6}");
    }
    for family in [0, 1] {
        let worst = scene.worst[family];
        assert_eq!((worst.asked, worst.answered), (20, 52), "a 401 for a request of nothing but a header");
    }
}
