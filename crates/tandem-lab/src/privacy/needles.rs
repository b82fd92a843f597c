//! Searching bytes for addresses and names, in every form in which a program might write them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// STUN's magic cookie (RFC 8489 §5); addresses are XOR-ed with it, those of IPv6 with the transaction id behind it, too.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const MASK_BYTES: usize = 16;
/// So far behind a cookie an address is taken to be of its message.
const STUN_BYTES_MAX: usize = 1500;

/// Something that must not be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Secret {
    /// For people: "Alice's public address".
    pub(super) what: String,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Ip(IpAddr),
    /// The first 64 bits of an IPv6 address: a home's network.
    Network(Ipv6Addr),
    /// Of a machine.
    Name(String),
}

/// Where something was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// Its place in the list that the search was made from.
    pub(super) secret: usize,
    /// "four bytes", "text" and so on.
    pub(super) form: &'static str,
    /// Offset of its first byte.
    pub(super) at: usize,
}

/// How a pattern is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Bytes,
    /// In any case.
    Text,
    /// A whole number: no digit before or behind it.
    Number,
}

#[derive(Debug)]
struct Pattern {
    secret: usize,
    form: &'static str,
    manner: Manner,
    bytes: Vec<u8>,
}

/// All forms of all secrets.
#[derive(Debug)]
pub(super) struct Search {
    patterns: Vec<Pattern>,
    /// Which patterns begin with a byte; letters in both cases.
    beginning_with: Vec<Vec<usize>>,
    /// For the forms that depend on a message's transaction id.
    v6: Vec<(usize, [u8; 16])>,
}

impl Search {
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let mut patterns = Patterns::default();
        let mut v6 = Vec::new();
        for (secret, it) in secrets.iter().enumerate() {
            patterns.secret = secret;
            match &it.value {
                Value::Ip(IpAddr::V4(ip)) => patterns.v4(*ip),
                Value::Ip(IpAddr::V6(ip)) => {
                    patterns.v6(*ip);
                    v6.push((secret, ip.octets()));
                }
                Value::Network(ip) => patterns.network(*ip),
                Value::Name(name) => patterns.text("name", &name.to_lowercase()),
            }
        }
        let mut beginning_with = vec![Vec::new(); 256];
        for (number, pattern) in patterns.all.iter().enumerate() {
            let first = pattern.bytes[0];
            beginning_with[usize::from(first)].push(number);
            if pattern.manner == Manner::Text && first.is_ascii_lowercase() {
                beginning_with[usize::from(first.to_ascii_uppercase())].push(number);
            }
        }
        Self { patterns: patterns.all, beginning_with, v6 }
    }

    /// Everything, in all forms.
    pub(super) fn bytes(&self, bytes: &[u8]) -> Vec<Found> {
        let mut found = self.scan(bytes, |_| true);
        found.extend(self.masked(bytes));
        found
    }

    /// What a person could read; short binary forms would be found by chance in sound or in text.
    pub(super) fn text(&self, bytes: &[u8]) -> Vec<Found> {
        self.scan(bytes, |manner| manner != Manner::Bytes)
    }

    fn scan(&self, bytes: &[u8], which: impl Fn(Manner) -> bool) -> Vec<Found> {
        let mut found = Vec::new();
        for (at, first) in bytes.iter().enumerate() {
            for &number in &self.beginning_with[usize::from(*first)] {
                let pattern = &self.patterns[number];
                if which(pattern.manner) && pattern.is_at(bytes, at) {
                    found.push(Found { secret: pattern.secret, form: pattern.form, at });
                }
            }
        }
        found
    }

    /// IPv6 addresses XOR-ed with cookie and transaction id (RFC 8489 §14.2).
    fn masked(&self, bytes: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        let cookies = bytes.windows(MASK_BYTES).enumerate().filter(|(_, mask)| mask.starts_with(&COOKIE));
        for (cookie, mask) in cookies {
            let from = cookie + MASK_BYTES;
            let message = &bytes[from..bytes.len().min(from + STUN_BYTES_MAX)];
            for (secret, ip) in &self.v6 {
                let hidden: Vec<u8> = ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
                let at = message.windows(hidden.len()).position(|window| window == hidden);
                found.extend(at.map(|at| Found {
                    secret: *secret,
                    form: "XOR-ed with the transaction id",
                    at: from + at,
                }));
            }
        }
        found
    }
}

impl Pattern {
    fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        let Some(window) = bytes.get(at..at + self.bytes.len()) else { return false };
        match self.manner {
            Manner::Bytes => window == self.bytes,
            Manner::Text => window.eq_ignore_ascii_case(&self.bytes),
            Manner::Number => {
                let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
                let before = at.checked_sub(1).and_then(|at| bytes.get(at));
                window == self.bytes && !digit(before) && !digit(bytes.get(at + window.len()))
            }
        }
    }
}

/// Collects the forms of one secret after the other.
#[derive(Default)]
struct Patterns {
    secret: usize,
    all: Vec<Pattern>,
}

impl Patterns {
    fn put(&mut self, form: &'static str, manner: Manner, bytes: Vec<u8>) {
        let known = |it: &Pattern| it.secret == self.secret && it.bytes == bytes;
        if !self.all.iter().any(known) {
            self.all.push(Pattern { secret: self.secret, form, manner, bytes });
        }
    }

    fn text(&mut self, form: &'static str, text: &str) {
        self.put(form, Manner::Text, text.as_bytes().to_vec());
    }

    fn both_orders(&mut self, form: &'static str, reversed: &'static str, bytes: &[u8]) {
        self.put(form, Manner::Bytes, bytes.to_vec());
        self.put(reversed, Manner::Bytes, bytes.iter().rev().copied().collect());
    }

    fn v4(&mut self, ip: Ipv4Addr) {
        let octets = ip.octets();
        let [a, b, c, d] = octets;
        // Raw bytes are also what multiaddrs, mapped IPv6 addresses, and fixed32 in either order have.
        self.both_orders("four bytes", "four bytes, reversed", &octets);
        let hidden: Vec<u8> = octets.iter().zip(COOKIE).map(|(byte, mask)| byte ^ mask).collect();
        self.both_orders("XOR-ed with the cookie", "XOR-ed with the cookie, reversed", &hidden);
        for number in [u32::from_be_bytes(octets), u32::from_le_bytes(octets)] {
            self.put("varint", Manner::Bytes, varint(number));
            self.put("decimal number", Manner::Number, number.to_string().into_bytes());
            self.text("hexadecimal", &format!("{number:08x}"));
        }
        self.text("text", &ip.to_string());
        self.text("text with dashes", &format!("{a}-{b}-{c}-{d}"));
        self.text("reverse name", &format!("{d}.{c}.{b}.{a}"));
        self.text(
            "mapped into IPv6",
            &format!("{:x}:{:x}", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        );
    }

    fn v6(&mut self, ip: Ipv6Addr) {
        let octets = ip.octets();
        self.both_orders("sixteen bytes", "sixteen bytes, reversed", &octets);
        self.text("hexadecimal", &hex(&octets));
        self.text("text", &ip.to_string());
        let groups = |form: fn(&u16) -> String| ip.segments().iter().map(form).collect::<Vec<_>>();
        self.text("text in full", &groups(|group| format!("{group:04x}")).join(":"));
        let plain = groups(|group| format!("{group:x}"));
        self.text("text with zeros", &plain.join(":"));
        self.text("text with dashes", &plain.join("-"));
        let mut nibbles: Vec<char> = hex(&octets).chars().collect();
        nibbles.reverse();
        let nibbles: Vec<String> = nibbles.into_iter().map(String::from).collect();
        self.text("reverse name", &nibbles.join("."));
    }

    fn network(&mut self, ip: Ipv6Addr) {
        let octets = ip.octets();
        self.both_orders("eight bytes", "eight bytes, reversed", &octets[..8]);
        self.text("hexadecimal", &hex(&octets[..8]));
        let groups = |form: fn(&u16) -> String| ip.segments()[..4].iter().map(form).collect::<Vec<_>>();
        self.text("text in full", &groups(|group| format!("{group:04x}")).join(":"));
        // With a zero at its end, the network is written without it.
        let mut plain = groups(|group| format!("{group:x}"));
        while plain.last().is_some_and(|group| group == "0") {
            plain.pop();
        }
        self.text("text", &format!("{}:", plain.join(":")));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("invariant: writing to a string does not fail");
        text
    })
}

fn varint(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Ipv4Addr = Ipv4Addr::new(81, 171, 0, 20);
    const V6: Ipv6Addr = Ipv6Addr::new(0x2a02, 171, 1, 0, 0, 0, 0, 0x1a);

    fn search() -> Search {
        let secret = |value| Secret { what: "it".into(), value };
        Search::new(&[
            secret(Value::Ip(V4.into())),
            secret(Value::Ip(V6.into())),
            secret(Value::Network(V6)),
            secret(Value::Name("Wintergarden-A7".into())),
        ])
    }

    /// The forms in which it is found among other bytes, which have it in none.
    fn forms(secret: usize, hidden: &[u8]) -> Vec<&'static str> {
        let around = b"\x00\xff some other bytes \x7f ";
        assert_eq!(search().bytes(around), []);
        let all = [around.as_slice(), hidden, around].concat();
        let found = search().bytes(&all).into_iter().filter(|it| it.secret == secret);
        let forms: Vec<_> = found
            .inspect(|it| assert!(it.at >= around.len() && it.at < around.len() + hidden.len()))
            .map(|it| it.form)
            .collect();
        // Nothing else than the whole is enough.
        let cut = [around.as_slice(), &hidden[..hidden.len() - 1], around].concat();
        let rest = search().bytes(&cut).into_iter().filter(|it| it.secret == secret).count();
        assert!(rest < forms.len(), "{forms:?}");
        forms
    }

    #[test]
    fn each_form_of_an_ipv4_address_is_found() {
        for (hidden, form) in [
            (&[81, 171, 0, 20][..], "four bytes"),
            (&[20, 0, 171, 81], "four bytes, reversed"),
            // /ip4/…/udp/4001 as a multiaddr, and inside a mapped IPv6 address
            (&[0x04, 81, 171, 0, 20], "four bytes"),
            (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 81, 171, 0, 20], "four bytes"),
            // fixed32 of the number 0x51ab0014
            (&[0x0d, 0x14, 0x00, 0xab, 0x51], "four bytes, reversed"),
            // RFC 8489 §14.2: X-Address
            (&[0x70, 0xb9, 0xa4, 0x56], "XOR-ed with the cookie"),
            (&[0x56, 0xa4, 0xb9, 0x70], "XOR-ed with the cookie, reversed"),
            // varints of 0x51ab0014 and 0x1400ab51
            (&[0x94, 0x80, 0xac, 0x8d, 0x05], "varint"),
            (&[0xd1, 0xd6, 0x82, 0xa0, 0x01], "varint"),
            (b"81.171.0.20", "text"),
            (b"81-171-0-20", "text with dashes"),
            (b"20.0.171.81", "reverse name"),
            (b"51AB0014", "hexadecimal"),
            (b"1400ab51", "hexadecimal"),
            (b"1370161172", "decimal number"),
            (b"335588177", "decimal number"),
            (b"::ffff:51ab:14", "mapped into IPv6"),
        ] {
            assert!(forms(0, hidden).contains(&form), "{form}: {hidden:02x?}");
        }
        assert!(search().text(b" 71370161172 ").is_empty(), "part of another number");
    }

    #[test]
    fn each_form_of_an_ipv6_address_is_found() {
        let octets = V6.octets();
        let reversed: Vec<u8> = octets.iter().rev().copied().collect();
        for (hidden, form) in [
            (&octets[..], "sixteen bytes"),
            (&reversed, "sixteen bytes, reversed"),
            (b"2a02:ab:1::1a", "text"),
            (b"2A02:00AB:0001:0000:0000:0000:0000:001A", "text in full"),
            (b"2a02:ab:1:0:0:0:0:1a", "text with zeros"),
            (b"2a02-ab-1-0-0-0-0-1a", "text with dashes"),
            (b"2a0200ab00010000000000000000001a", "hexadecimal"),
            (b"a.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.b.a.0.0.2.0.a.2.ip6.arpa", "reverse name"),
        ] {
            let found = search().bytes(hidden);
            assert!(found.iter().any(|it| it.secret == 1 && it.form == form), "{form}: {found:?}");
        }
        for (hidden, form) in [
            (&octets[..8], "eight bytes"),
            (&reversed[8..], "eight bytes, reversed"),
            (b"2a02:ab:1:", "text"),
            (b"2a02:ab:1::99", "text"),
            (b"2a02:00ab:0001:0000", "text in full"),
            (b"2a0200ab00010000", "hexadecimal"),
        ] {
            let found = search().bytes(hidden);
            assert!(found.iter().any(|it| it.secret == 2 && it.form == form), "{form}: {found:?}");
        }
    }

    #[test]
    fn what_stun_hides_with_a_transaction_id_is_found() {
        let id = [7, 1, 250, 3, 4, 99, 6, 7, 8, 9, 10, 11];
        let mask = [&COOKIE[..], &id].concat();
        let hidden: Vec<u8> = V6.octets().iter().zip(&mask).map(|(a, b)| a ^ b).collect();
        let attribute = [&[0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0x12, 0x34], hidden.as_slice()].concat();
        // Success response to Binding (RFC 8489 §5), inside something else.
        let header = [&[0x01, 0x01, 0x00, 0x18], mask.as_slice()].concat();
        let message = [b"before".as_slice(), &header, &attribute].concat();
        let found = search().bytes(&message);
        let form = "XOR-ed with the transaction id";
        assert_eq!(found, [Found { secret: 1, form, at: message.len() - 16 }]);
        // With the mask of another message it is no address.
        let other = [b"before".as_slice(), &header[..19], &[0xEE], &attribute].concat();
        assert_eq!(search().bytes(&other), []);
    }

    #[test]
    fn names_are_found_whatever_their_case() {
        for hidden in ["wintergarden-a7.local", "WINTERGARDEN-A7"] {
            assert_eq!(search().text(hidden.as_bytes()).len(), 1);
        }
        assert_eq!(search().text(b"wintergarden"), []);
    }
}
