//! Replaces what names a person or a machine by pseudonyms: the same thing gets the same one within a bundle, and nobody
//! can go back, since the key they are made with is thrown away.
//!
//! When in doubt it takes out: a word too many costs a reader little, a key too few costs somebody a lot.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use tandem_api::AddressScope;
use zeroize::Zeroizing;

use super::known::Known;
use crate::network_check::scope;

/// A run of letters and digits this long is taken for a key or a token.
const KEY_LETTERS_MIN: usize = 16;
/// No English word is this long.
const WORD_LETTERS_MAX: usize = 23;
/// So many changes from a small letter to a capital are taken for base64 even without a digit.
const CAPITALS_MIN: usize = 4;
/// So many words of the list of 24 in a row are taken for a part of somebody's account.
const WORDS_MIN: usize = 5;
/// So many numbers below 256 in a row are taken for the bytes of a key.
const BYTES_MIN: usize = 8;
/// Fields of reports that hold a figure for each step of a call.
const SERIES: [&str; 4] = ["sent", "received", "sent_dbfs", "heard_dbfs"];

/// Makes pseudonyms of one bundle.
#[derive(Debug)]
pub struct Redactor {
    key: Zeroizing<[u8; 32]>,
    /// What is known to be private.
    known: Known,
    words: BTreeSet<String>,
}

impl Redactor {
    /// `key` is random, used for this bundle only. `words` is the list that accounts are written with.
    #[must_use]
    pub fn new(key: [u8; 32], words: impl IntoIterator<Item = String>) -> Self {
        let words = words.into_iter().collect();
        Self { key: Zeroizing::new(key), known: Known::default(), words }
    }

    /// From now on `text` is replaced wherever it stands; `kind` begins its pseudonym.
    ///
    /// Each line of it by itself, since a log may have broken it up.
    pub fn know(&mut self, text: &str, kind: &'static str) {
        for line in text.lines() {
            self.known.add(line.trim(), kind, false);
        }
    }

    /// As [`Redactor::know`], as a whole word and letter by letter only: somebody's device called Phone is no reason to
    /// tear "telephone" apart.
    pub fn know_exactly(&mut self, text: &str, kind: &'static str) {
        self.known.add(text.trim(), kind, true);
    }

    /// A text with everything replaced.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let text = self.known_texts(text);
        let text = self.account_words(&text);
        let text = self.bytes(&text);
        let text = self.paths(&text);
        let text = self.addresses_v6(&text);
        let text = self.addresses_v4(&text);
        let text = self.keys(&text);
        let text = self.shortened(&text);
        self.host_names(&text)
    }

    /// A JSON value: texts as above, and the fields that hold free texts of people entirely.
    #[must_use]
    pub fn json(&self, value: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(list) => self.list(list),
            Value::Object(fields) => {
                let field = |(name, value): (&String, &Value)| (self.text(name), self.field(name, value));
                Value::Object(fields.iter().map(field).collect())
            }
            other => other.clone(),
        }
    }

    /// The words of an account go wherever they are listed, not only in a field that is named after them.
    fn list(&self, list: &[serde_json::Value]) -> serde_json::Value {
        let texts: Vec<&str> = list.iter().filter_map(serde_json::Value::as_str).collect();
        let together = texts.join(" ");
        if self.account_words(&together) != together {
            return "[words]".into();
        }
        let bytes: Option<Vec<u8>> = list.iter().map(byte_of).collect();
        if let Some(bytes) = bytes.filter(|bytes| bytes.len() >= BYTES_MIN) {
            return self.pseudonym("key", &bytes).into();
        }
        serde_json::Value::Array(list.iter().map(|value| self.json(value)).collect())
    }

    fn field(&self, name: &str, value: &serde_json::Value) -> serde_json::Value {
        let kind = match name {
            "name" | "contact" | "claimed_name" | "display_name" | "label" | "handle" => "name",
            "token" | "secret" | "password" | "passphrase" | "words" | "rest_secret" => "secret",
            "note" | "message" | "request" | "link" | "invitation" => "words",
            "recording" | "record" | "play" => "file",
            "answered_by" => "device",
            series if SERIES.contains(&series) && is_series(value) => return value.clone(),
            _ => return self.json(value),
        };
        match value {
            // By the kind that the same text has elsewhere.
            serde_json::Value::String(text) => {
                let (kind, text) = self.known.kind_of(text).unwrap_or((kind, text));
                self.pseudonym(kind, text.as_bytes()).into()
            }
            // A flag or a number names nobody; whatever else is in there may.
            serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::Null => {
                value.clone()
            }
            other => self.pseudonym(kind, other.to_string().as_bytes()).into(),
        }
    }

    /// `kind-` and five letters: 25 bits, enough to tell things of one bundle apart.
    fn pseudonym(&self, kind: &str, thing: &[u8]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.key.as_slice());
        hash.update(kind.as_bytes());
        hash.update([0]);
        hash.update(thing);
        let name = BASE32_NOPAD.encode(&hash.finalize()).to_lowercase();
        format!("{kind}-{}", &name[..5])
    }

    // ---- exact texts --------------------------------------------------------------------------------------------

    fn known_texts(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        for found in self.known.find(text) {
            out.push_str(&text[copied..found.start]);
            out.push_str(&self.pseudonym(found.kind, found.text.as_bytes()));
            copied = found.end;
        }
        out.push_str(&text[copied..]);
        out
    }

    // ---- the 24 words -------------------------------------------------------------------------------------------

    /// Runs of words of the list, with anything but letters between them.
    fn account_words(&self, text: &str) -> String {
        let found: Vec<(usize, usize)> = runs(text, char::is_alphabetic).collect();
        let listed = |range: &(usize, usize)| self.words.contains(&text[range.0..range.1].to_lowercase());
        let mut out = String::with_capacity(text.len());
        let (mut copied, mut index) = (0, 0);
        while index < found.len() {
            let length = found[index..].iter().take_while(|range| listed(range)).count();
            if length >= WORDS_MIN {
                out.push_str(&text[copied..found[index].0]);
                out.push_str("[words]");
                copied = found[index + length - 1].1;
            }
            index += length.max(1);
        }
        out.push_str(&text[copied..]);
        out
    }

    // ---- keys as lists of bytes ---------------------------------------------------------------------------------

    /// `[12, 34, …]`, on one line or on many, in decimal or hexadecimal.
    fn bytes(&self, text: &str) -> String {
        let inside = |c: char| c.is_alphanumeric() || "_.:-+%".contains(c);
        let separates = |between: &str| between.chars().all(|c| c == ',' || c.is_whitespace());
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        let mut numbers = runs(text, inside).peekable();
        while let Some(first) = numbers.next() {
            if !like_byte(&text[first.0..first.1]) {
                continue;
            }
            let mut row = vec![first];
            let follows = |(start, end): &(usize, usize), behind: usize| {
                separates(&text[behind..*start]) && like_byte(&text[*start..*end])
            };
            let mut behind = first.1;
            while let Some(next) = numbers.next_if(|next| follows(next, behind)) {
                behind = next.1;
                row.push(next);
            }
            if row.len() >= BYTES_MIN {
                out.push_str(&text[copied..first.0]);
                let row: Vec<&str> = row.iter().map(|(start, end)| &text[*start..*end]).collect();
                out.push_str(&self.pseudonym("key", &bytes_of(&row)));
                copied = behind;
            }
        }
        out.push_str(&text[copied..]);
        out
    }

    // ---- paths of files -----------------------------------------------------------------------------------------

    /// `/home/somebody/…`, `C:\Users\…`: the folders of a machine name its owner. Multiaddrs, which look alike, stay.
    fn paths(&self, text: &str) -> String {
        const OURS: [&str; 7] = ["/ip4/", "/ip6/", "/p2p/", "/p2p-circuit", "/api/", "/tandem/", "/metrics"];
        let inside = |c: char| !c.is_whitespace() && !"\"'`<>|,;()[]{}=".contains(c);
        replace_runs(text, inside, |run| {
            let start = run.find(['/', '\\'])?;
            let (before, path) = run.split_at(start);
            let rooted = path.starts_with('/') && path[1..].contains('/');
            let drive = path.starts_with('\\') && path.len() > 1;
            let multiaddr = OURS.iter().any(|ours| path.starts_with(ours));
            let glued = before.chars().next_back().is_some_and(char::is_alphanumeric);
            if (!rooted && !drive) || multiaddr || glued || path.starts_with("//") {
                return None;
            }
            Some(format!("{}{}", before, self.pseudonym("path", path.as_bytes())))
        })
    }

    // ---- addresses ----------------------------------------------------------------------------------------------

    fn addresses_v6(&self, text: &str) -> String {
        let inside = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        for (start, end) in runs(text, inside) {
            let neighbour = |c: Option<char>| c.is_some_and(|c| c.is_alphabetic() || c == '_');
            let glued = neighbour(text[..start].chars().next_back()) || neighbour(text[end..].chars().next());
            let run = &text[start..end];
            if !like_v6(run, glued) {
                continue;
            }
            out.push_str(&text[copied..start]);
            out.push_str(&self.address_v6(run));
            copied = end;
        }
        out.push_str(&text[copied..]);
        out
    }

    fn address_v6(&self, run: &str) -> String {
        let core = run.trim_end_matches('.').trim_end_matches(|c| c == ':' && !run.ends_with("::"));
        match core.parse::<Ipv6Addr>() {
            Ok(ip) => self.ip(IpAddr::V6(ip)),
            // With a port behind it, glued to something, or the address of a network card.
            Err(_) => self.pseudonym("ip6", run.as_bytes()),
        }
    }

    /// Whole runs of digits and dots, so that nothing of an address survives at their edges.
    fn addresses_v4(&self, text: &str) -> String {
        replace_runs(
            text,
            |c| c.is_ascii_digit() || c == '.',
            |run| {
                let core = run.trim_matches('.');
                if core.matches('.').count() < 3 {
                    return None;
                }
                let tail = if run.ends_with('.') { "." } else { "" };
                let name = core
                    .parse::<Ipv4Addr>()
                    .map_or_else(|_| self.pseudonym("ip4", core.as_bytes()), |ip| self.ip(IpAddr::V4(ip)));
                Some(format!("{name}{tail}"))
            },
        )
    }

    /// Of an address only its kind is kept.
    fn ip(&self, ip: IpAddr) -> String {
        let ip = ip.to_canonical();
        let kind = match (scope(ip), ip.is_ipv4()) {
            (AddressScope::Loopback, true) => "ip4-loopback",
            (AddressScope::Loopback, false) => "ip6-loopback",
            (AddressScope::LinkLocal, true) => "ip4-link-local",
            (AddressScope::LinkLocal, false) => "ip6-link-local",
            (AddressScope::Private, true) => "ip4-private",
            (AddressScope::Private, false) => "ip6-private",
            (AddressScope::CarrierNat, _) => "ip4-carrier",
            (AddressScope::Public, true) => "ip4-public",
            (AddressScope::Public, false) => "ip6-public",
            (AddressScope::Special, true) => "ip4-special",
            (AddressScope::Special, false) => "ip6-special",
        };
        self.pseudonym(kind, ip.to_string().as_bytes())
    }

    // ---- keys, tokens, names of hosts ---------------------------------------------------------------------------

    /// Peer ids, `tandem:` addresses, hexadecimal, base32, base58 and base64 of any key: one name for one key where the
    /// writing is known.
    fn keys(&self, text: &str) -> String {
        let inside = |c: char| c.is_ascii_alphanumeric() || "+/_-".contains(c);
        replace_runs(text, inside, |run| {
            if is_multiaddr(run) {
                let parts: Vec<String> = run.split('/').map(|part| self.key_or_same(part)).collect();
                return Some(parts.join("/"));
            }
            holds_key(run).then(|| self.key_name(run))
        })
    }

    fn key_or_same(&self, part: &str) -> String {
        if holds_key(part) { self.key_name(part) } else { part.to_owned() }
    }

    fn key_name(&self, text: &str) -> String {
        self.pseudonym("key", &canonical_key(text))
    }

    /// The beginning or the end of a key, as `…CVe2Xo` or `0a1b2c3d…`: enough to recognise one that is known.
    fn shortened(&self, text: &str) -> String {
        replace_runs(
            text,
            |c| c.is_ascii_alphanumeric() || c == '…',
            |run| {
                let core = run.trim_matches('…');
                let cut = run.contains('…')
                    && core.len() >= 4
                    && !core.bytes().all(|byte| byte.is_ascii_lowercase());
                cut.then(|| self.pseudonym("key", core.as_bytes()))
            },
        )
    }

    /// `somebody.example.org`, `somebody@example.org`.
    fn host_names(&self, text: &str) -> String {
        const OURS: [&str; 9] = [".rs", ".toml", ".json", ".db", ".log", ".txt", ".md", ".tar", ".sql"];
        replace_runs(
            text,
            |c| c.is_alphanumeric() || ".-_@".contains(c),
            |run| {
                let core = run.trim_matches(|c: char| !c.is_alphanumeric());
                let labels: Vec<&str> = core.split(['.', '@']).collect();
                let named = labels.len() >= 2
                    && labels.iter().all(|label| !label.is_empty())
                    && labels
                        .last()
                        .is_some_and(|last| last.len() >= 2 && last.chars().all(char::is_alphabetic));
                // Settings and our own files have dots too; a name of one of them is no host's, and names nobody.
                let setting = crate::config::is_setting(core);
                if !named || setting || OURS.iter().any(|end| core.ends_with(end)) && !core.contains('@') {
                    return None;
                }
                Some(run.replace(core, &self.pseudonym("host", core.to_lowercase().as_bytes())))
            },
        )
    }
}

/// Hexadecimal digits with colons that are no time of day and no path of Rust's.
fn like_v6(run: &str, glued: bool) -> bool {
    let colons = run.matches(':').count();
    if colons < 2 {
        return false;
    }
    let digits = run.bytes().any(|byte| byte.is_ascii_digit());
    let groups = run.split(':').filter(|group| !group.is_empty()).count();
    // `a::b` in a Rust path has letters around it; an address without any digit has none.
    (run.contains("::") && (digits || (groups >= 2 && !glued))) || colons >= 5
}

fn like_key(run: &str) -> bool {
    let letters = run.chars().count();
    let digits = run.bytes().filter(u8::is_ascii_digit).count();
    let all_digits = digits == letters;
    let upper_inside = run.bytes().skip(1).any(|byte| byte.is_ascii_uppercase());
    let peer = run.starts_with("12D3Koo") || run.starts_with("Qm") && letters > 20;
    let long = letters >= KEY_LETTERS_MIN && (digits > 0 || upper_inside);
    // A moment in nanoseconds has nineteen digits.
    peer || letters > WORD_LETTERS_MAX || (long && (!all_digits || letters > 19))
}

fn is_multiaddr(run: &str) -> bool {
    // Whole parts only: three letters of a key in base64 may be any of these.
    run.split('/').any(|part| ["ip4", "ip6", "udp", "tcp", "p2p", "p2p-circuit"].contains(&part))
}

/// One of the parts is a key, or all of them together are one in base64: then all of them go, since the rest of such a
/// key is short and looks like nothing.
fn holds_key(run: &str) -> bool {
    run.split(|c: char| !c.is_ascii_alphanumeric()).any(like_key) || like_base64(run)
}

/// Parts joined by the signs of base64 and base64url, with both cases and either digits or capitals within words, as
/// names of files and types seldom have.
fn like_base64(run: &str) -> bool {
    let core: Vec<u8> = run.bytes().filter(u8::is_ascii_alphanumeric).collect();
    let any = |fits: fn(&u8) -> bool| core.iter().any(fits);
    let capitals = core.windows(2).filter(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase());
    let mixed = any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase);
    core.len() >= 20 && mixed && (any(u8::is_ascii_digit) || capitals.count() >= CAPITALS_MIN)
}

/// The bytes of a key, whatever way it is written in; else the text itself.
fn canonical_key(text: &str) -> Vec<u8> {
    if let Ok(peer) = text.parse::<tandem_proto::ids::ServiceKey>() {
        return peer.0.to_vec();
    }
    if let Ok(address) = format!("tandem:{text}").parse::<tandem_proto::identity::Address>() {
        return address.0.0.to_vec();
    }
    let lower = text.to_lowercase();
    match data_encoding::HEXLOWER.decode(lower.as_bytes()) {
        Ok(bytes) if bytes.len() == 32 => bytes,
        _ => text.as_bytes().to_vec(),
    }
}

/// A number below 256, in decimal or hexadecimal.
fn like_byte(text: &str) -> bool {
    let hexadecimal = text.strip_prefix("0x").unwrap_or(text);
    let digits = !hexadecimal.is_empty() && hexadecimal.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits && (hexadecimal.len() <= 2 || text.parse::<u8>().is_ok())
}

/// The bytes of a row of such numbers; decimal where all of them may be.
fn bytes_of(row: &[&str]) -> Vec<u8> {
    let decimal: Option<Vec<u8>> = row.iter().map(|text| text.parse().ok()).collect();
    let hexadecimal =
        |text: &&str| u8::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).unwrap_or_default();
    decimal.unwrap_or_else(|| row.iter().map(hexadecimal).collect())
}

fn byte_of(value: &serde_json::Value) -> Option<u8> {
    value.as_u64().and_then(|number| u8::try_from(number).ok())
}

fn is_series(value: &serde_json::Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(serde_json::Value::is_number))
}

/// Maximal runs of letters that `inside` takes, as byte ranges.
fn runs(text: &str, inside: impl Fn(char) -> bool) -> impl Iterator<Item = (usize, usize)> {
    let mut rest = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let start = loop {
            let (at, letter) = rest.next()?;
            if inside(letter) {
                break at;
            }
        };
        while rest.next_if(|(_, letter)| inside(*letter)).is_some() {}
        Some((start, rest.peek().map_or(text.len(), |(at, _)| *at)))
    })
}

fn replace_runs(
    text: &str,
    inside: impl Fn(char) -> bool,
    replace: impl Fn(&str) -> Option<String>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (start, end) in runs(text, inside) {
        if let Some(with) = replace(&text[start..end]) {
            out.push_str(&text[copied..start]);
            out.push_str(&with);
            copied = end;
        }
    }
    out.push_str(&text[copied..]);
    out
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
