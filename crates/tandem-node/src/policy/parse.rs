//! Reads a policy. Anything that is not understood is an error: half a policy is none.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use tandem_core::call::Strangers;
use tandem_proto::ids::NetworkKey;
use tandem_proto::multiaddr::PeerAddress;
use tandem_proto::names::NetworkId;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, KeyKind};
use super::{AuditRules, LIST_MAX, Policy, Role};

/// Why a text is no policy, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {what}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    pub what: String,
    /// What to do, as a sentence.
    pub action: String,
}

/// Reads a policy's text.
///
/// # Errors
/// The first thing in it that is wrong.
pub fn parse(text: &str) -> Result<Policy, ParseError> {
    let line = |at: usize| 1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
    let fault = |fault: Fault| ParseError { line: line(fault.at), what: fault.what, action: fault.action };
    let table = DeTable::parse(text).map_err(|error| {
        fault(Fault {
            at: error.span().map_or(0, |span| span.start),
            what: error.message().to_owned(),
            action: "Correct what TOML does not allow.".to_owned(),
        })
    })?;
    let mut policy = Policy::default();
    read_table(&mut policy, "", table.get_ref()).map_err(fault)?;
    check_begin(&policy, &table).map_err(fault)?;
    check_pairs(&policy, &table).map_err(fault)?;
    Ok(policy)
}

/// An error, and the byte of the text where it is.
struct Fault {
    at: usize,
    what: String,
    action: String,
}

impl Fault {
    fn new(at: usize, what: impl Into<String>, action: impl Into<String>) -> Self {
        Self { at, what: what.into(), action: action.into() }
    }
}

fn read_table(policy: &mut Policy, prefix: &str, table: &DeTable<'_>) -> Result<(), Fault> {
    // In the order of the file, so that the first error is told.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let key = format!("{prefix}{}", name.get_ref());
        match (keys::by_name(&key), value.get_ref()) {
            (Some(key), _) => read_key(policy, key, value)?,
            (None, DeValue::Table(inner)) if prefix.is_empty() && is_table(&key) => {
                read_table(policy, &format!("{key}."), inner)?;
            }
            (None, _) => return Err(unknown(name.span().start, &key)),
        }
    }
    Ok(())
}

fn is_table(name: &str) -> bool {
    keys::KEYS.iter().any(|key| key.key.split_once('.').is_some_and(|(table, _)| table == name))
}

fn unknown(at: usize, key: &str) -> Fault {
    let action = match keys::nearest(key) {
        Some(nearest) => format!("Did you mean \"{nearest}\"?"),
        None => "See docs/POLICY.md for the keys there are.".to_owned(),
    };
    Fault::new(at, format!("the key \"{}\" is not known", cut(key)), action)
}

/// So much of a text that an error stays readable.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

fn read_key(policy: &mut Policy, key: &Key, value: &Spanned<DeValue<'_>>) -> Result<(), Fault> {
    let at = value.span().start;
    let wanted =
        || Fault::new(at, format!("{} must be {}", key.key, key.kind.wanted()), "Write it in that form.");
    match (key.kind, value.get_ref()) {
        (KeyKind::Switch, DeValue::Boolean(on)) => set_switch(policy, key.key, *on),
        (KeyKind::Number, DeValue::Integer(number)) => {
            let number = u64::from_str_radix(&number.as_str().replace('_', ""), number.radix());
            set_number(policy, key.key, number.map_err(|_| wanted())?)
                .map_err(|what| Fault::new(at, format!("{}: {what}", key.key), "Choose a smaller number."))?;
        }
        (KeyKind::Text, DeValue::String(text)) => set_text(policy, key.key, text)
            .map_err(|what| Fault::new(at, format!("{}: {what}", key.key), "Correct the value."))?,
        (KeyKind::List, DeValue::Array(items)) => {
            let mut texts = Vec::with_capacity(items.len().min(LIST_MAX));
            for item in items.iter() {
                let DeValue::String(text) = item.get_ref() else { return Err(wanted()) };
                texts.push((item.span().start, &**text));
            }
            if texts.len() > LIST_MAX {
                let what = format!("{} has more than {LIST_MAX} entries", key.key);
                return Err(Fault::new(at, what, "Use fewer, for example wider ranges of addresses."));
            }
            set_list(policy, key.key, &texts)?;
        }
        _ => return Err(wanted()),
    }
    Ok(())
}

fn set_switch(policy: &mut Policy, key: &str, on: bool) {
    match key {
        "calls.relay_only" => policy.calls.relay_only = on,
        "calls.invitations" => policy.calls.invitations = on,
        "calls.recording" => policy.calls.recording = on,
        "ports.mapping" => policy.ports.mapping = on,
        "audit.required" => audit(policy).required = on,
        _ => unreachable!("invariant: KEYS names every switch"),
    }
}

fn set_number(policy: &mut Policy, key: &str, number: u64) -> Result<(), String> {
    let small = || u32::try_from(number).map_err(|_| format!("{number} is too large"));
    let serving = &mut policy.serving;
    match key {
        "serving.devices" => serving.devices = Some(small()?),
        "serving.calls" => serving.calls = Some(small()?),
        "serving.bits_per_second" => serving.bits_per_second = Some(number),
        "serving.bytes_per_month" => serving.bytes_per_month = Some(number),
        "serving.directory_bytes_per_month" => serving.directory_bytes_per_month = Some(number),
        _ => unreachable!("invariant: KEYS names every number"),
    }
    Ok(())
}

fn set_text(policy: &mut Policy, key: &str, text: &str) -> Result<(), String> {
    match key {
        "calls.strangers" => {
            policy.calls.strangers = Some(match text {
                "ring" => Strangers::Ring,
                "requests" => Strangers::Requests,
                "refuse" => Strangers::Refuse,
                _ => return Err(format!("\"{}\" is none of ring, requests and refuse", cut(text))),
            });
        }
        "ports.local" => policy.ports.local = Some(local_ports(text)?),
        "network.id" => {
            let id = text.parse::<NetworkId>().map_err(|error| error.to_string())?;
            policy.network = Some(id.to_string());
        }
        "network.key" => {
            policy.network_key = Some(text.parse::<NetworkKey>().map_err(|error| error.to_string())?);
        }
        "network.membership" => policy.membership = Some(absolute(text)?),
        "audit.path" => audit(policy).path = absolute(text)?,
        _ => unreachable!("invariant: KEYS names every text"),
    }
    Ok(())
}

fn audit(policy: &mut Policy) -> &mut AuditRules {
    policy.audit.get_or_insert_with(|| AuditRules { path: PathBuf::new(), required: false })
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(format!("\"{}\" is no path from the root", cut(text))) }
}

fn set_list(policy: &mut Policy, key: &str, texts: &[(usize, &str)]) -> Result<(), Fault> {
    let rules = &mut policy.supernodes;
    match key {
        "supernodes.only_ids" => rules.only_ids = Some(each(key, texts, from_text)?),
        "supernodes.only_networks" => rules.only_networks = Some(each(key, texts, from_text)?),
        "supernodes.forbid_ids" => rules.forbid_ids = each(key, texts, from_text)?,
        "supernodes.forbid_networks" => rules.forbid_networks = each(key, texts, from_text)?,
        "supernodes.bootstrap" => {
            let address = |text: &str| from_text::<PeerAddress>(text).map(|_| text.to_owned());
            rules.bootstrap = each(key, texts, address)?;
        }
        "serving.roles" => policy.serving.roles = Some(each(key, texts, role)?),
        "ports.outgoing" => policy.ports.outgoing = Some(each(key, texts, port_range)?),
        _ => unreachable!("invariant: KEYS names every list"),
    }
    Ok(())
}

fn each<T>(
    key: &str,
    texts: &[(usize, &str)],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Fault> {
    texts
        .iter()
        .map(|(at, text)| {
            read(text).map_err(|what| {
                Fault::new(
                    *at,
                    format!("{key}: \"{}\": {what}", cut(text)),
                    "Correct this entry, or remove it.",
                )
            })
        })
        .collect()
}

fn from_text<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "directory" => Ok(Role::Directory),
        "relay" => Ok(Role::Relay),
        _ => Err("there are the roles directory and relay".to_owned()),
    }
}

/// `443` or `4000-4100`.
fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || "a port is a number from 1 to 65535, a range looks like 4000-4100".to_owned();
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last { Err(wrong()) } else { Ok(first..=last) }
}

/// A call takes a few ports on each address of the machine.
const LOCAL_PORTS_MIN: u16 = 16;

fn local_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = port_range(text)?;
    if range.end() - range.start() < LOCAL_PORTS_MIN - 1 {
        return Err(format!("calls need at least {LOCAL_PORTS_MIN} ports, as in 50000-50100"));
    }
    Ok(range)
}

/// Keys that mean nothing without another.
fn check_pairs(policy: &Policy, table: &Spanned<DeTable<'_>>) -> Result<(), Fault> {
    let at = |name: &str| table.get_ref().get(name).map_or(0, |value| value.span().start);
    if policy.audit.as_ref().is_some_and(|audit| audit.path.as_os_str().is_empty()) {
        let action = "Say where the log is: path = \"/var/log/tandem/{uid}.jsonl\".";
        return Err(Fault::new(at("audit"), "audit.required is there without audit.path", action));
    }
    if policy.network_key.is_some() && policy.network.is_none() {
        let action = "Say which network it is the key of: id = \"…\".";
        return Err(Fault::new(at("network"), "network.key is there without network.id", action));
    }
    Ok(())
}

/// A policy that names where to begin and forbids it was not meant so.
fn check_begin(policy: &Policy, table: &Spanned<DeTable<'_>>) -> Result<(), Fault> {
    let supernodes = table.get_ref().get("supernodes").map(Spanned::get_ref).and_then(DeValue::as_table);
    let list = supernodes.and_then(|supernodes| supernodes.get("bootstrap"));
    let Some(items) = list.and_then(|list| list.get_ref().as_array()) else { return Ok(()) };
    for item in items.iter() {
        let Some(peer) = item.get_ref().as_str().and_then(|text| text.parse::<PeerAddress>().ok()) else {
            continue;
        };
        policy.may_connect(Some(peer.service), peer.address.socket()).map_err(|refusal| {
            let what = format!("supernodes.bootstrap names {}, which {} forbids", peer.service, refusal.key);
            Fault::new(item.span().start, what, "Allow it there, or do not begin with it.")
        })?;
    }
    Ok(())
}
