//! What a policy means, in sentences.

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use tandem_api::{PolicyRule, PolicyView};
use tandem_core::call::Strangers;

use super::{KEYS, Policy, Role, SYSTEM_PATH};

impl Policy {
    /// What it says, key by key, for `tandem policy`.
    #[must_use]
    pub fn view(&self) -> PolicyView {
        let rule = |(key, value, means): (&str, Value, String)| PolicyRule {
            key: key.to_owned(),
            value,
            means,
            settings: settings_of(key).iter().map(|setting| (*setting).to_owned()).collect(),
        };
        let said =
            KEYS.iter().filter_map(|key| self.said(key.key).map(|(value, means)| (key.key, value, means)));
        PolicyView {
            system_file: SYSTEM_PATH.to_owned(),
            file: self.source.as_ref().map(|source| source.file.display().to_string()),
            digest: self.source.as_ref().map(|source| source.digest.clone()),
            rules: said.map(rule).collect(),
        }
    }

    /// The key that bounds a setting, if this policy says something about it.
    #[must_use]
    pub fn bound(&self, setting: &str) -> Option<&'static str> {
        KEYS.iter()
            .map(|key| key.key)
            .find(|key| settings_of(key).contains(&setting) && self.said(key).is_some())
    }

    /// The value of a key and what it means; `None` where the policy does not restrict it.
    fn said(&self, key: &str) -> Option<(Value, String)> {
        let table = key.split('.').next().unwrap_or_default();
        match table {
            "supernodes" => self.said_of_supernodes(key),
            "serving" => self.said_of_serving(key),
            "calls" => self.said_of_calls(key),
            "ports" => self.said_of_ports(key),
            "network" => self.said_of_network(key),
            _ => self.said_of_audit(key),
        }
    }

    fn said_of_supernodes(&self, key: &str) -> Option<(Value, String)> {
        let rules = &self.supernodes;
        let forbidden = |list: Vec<String>, of: &str| {
            (!list.is_empty()).then(|| {
                let means = format!("The node never connects to supernodes {of} {}.", few(&list));
                (json!(list), means)
            })
        };
        let only = |list: Vec<String>, of: &str| {
            let means = match list.is_empty() {
                true => "The node connects to no supernode at all, so it can neither call nor be called."
                    .to_owned(),
                false => format!("The node connects only to supernodes {of} {}.", few(&list)),
            };
            (json!(list), means)
        };
        match key {
            "supernodes.only_ids" => rules.only_ids.as_ref().map(|ids| only(texts(ids), "with the ids")),
            "supernodes.only_networks" => {
                rules.only_networks.as_ref().map(|ranges| only(texts(ranges), "at addresses in"))
            }
            "supernodes.forbid_ids" => forbidden(texts(&rules.forbid_ids), "with the ids"),
            "supernodes.forbid_networks" => forbidden(texts(&rules.forbid_networks), "at addresses in"),
            _ => (!rules.bootstrap.is_empty()).then(|| {
                let means = "The node begins with these supernodes, besides those its own settings name.";
                (json!(rules.bootstrap), means.to_owned())
            }),
        }
    }

    fn said_of_serving(&self, key: &str) -> Option<(Value, String)> {
        let rules = &self.serving;
        let most = |most: Option<u64>, what: &str| {
            most.map(|most| {
                (json!(most), format!("A node that serves others is allowed at most {most} {what}."))
            })
        };
        match key {
            "serving.roles" => rules.roles.as_ref().map(|roles| {
                let names: Vec<&str> = roles.iter().map(|role: &Role| role.name()).collect();
                let means = match names.is_empty() {
                    true => "Nobody may serve others: volunteering is refused, whatever the owner agrees to."
                        .into(),
                    false => format!("Whoever volunteers may serve as {} only.", names.join(" and ")),
                };
                (json!(names), means)
            }),
            "serving.devices" => most(rules.devices.map(u64::from), "devices it is a home for"),
            "serving.calls" => most(rules.calls.map(u64::from), "relayed calls at once"),
            "serving.bits_per_second" => most(rules.bits_per_second, "bits per second of relayed sound"),
            "serving.bytes_per_month" => most(rules.bytes_per_month, "bytes of relayed sound in a month"),
            _ => most(rules.directory_bytes_per_month, "bytes of directory traffic in a month"),
        }
    }

    fn said_of_calls(&self, key: &str) -> Option<(Value, String)> {
        let off = |on: bool, means: &str| (!on).then(|| (json!(false), means.to_owned()));
        match key {
            "calls.relay_only" => self.calls.relay_only.then(|| {
                (
                    json!(true),
                    "No call is direct: nobody who is called or calls sees this machine's address.".into(),
                )
            }),
            "calls.strangers" => self.calls.strangers.and_then(|most| match most {
                Strangers::Ring => None,
                Strangers::Requests => {
                    Some((json!("requests"), "Strangers never ring; they may leave a silent request.".into()))
                }
                Strangers::Refuse => {
                    Some((json!("refuse"), "Strangers never ring, and may leave no requests.".into()))
                }
            }),
            "calls.invitations" => off(
                self.calls.invitations,
                "No invitations: none can be made, and those made before let nobody ring.",
            ),
            _ => off(self.calls.recording, "No call is recorded."),
        }
    }

    fn said_of_network(&self, key: &str) -> Option<(Value, String)> {
        match key {
            "network.id" => self
                .network
                .as_ref()
                .map(|id| (json!(id), format!("The node joins the network \"{id}\" only."))),
            "network.key" => self.network_key.map(|key| {
                let means = "That network is private: only those whom this key admits take part.";
                (json!(key.to_string()), means.to_owned())
            }),
            _ => self.membership.as_ref().map(|file| {
                let file = file.display();
                (json!(file.to_string()), format!("The node's membership of it is read from {file}."))
            }),
        }
    }

    fn said_of_audit(&self, key: &str) -> Option<(Value, String)> {
        let rules = self.audit.as_ref()?;
        match key {
            "audit.path" => {
                let path = rules.path.display();
                let means = format!(
                    "The node writes into {path} when it connects, to whom, how much passed, who called whom, and what this \
                     policy refused; never what was said."
                );
                Some((json!(path.to_string()), means))
            }
            _ => rules.required.then(|| {
                (json!(true), "While that log cannot be written, no call is made or taken.".to_owned())
            }),
        }
    }

    fn said_of_ports(&self, key: &str) -> Option<(Value, String)> {
        match key {
            "ports.outgoing" => self.ports.outgoing.as_ref().map(|ranges| {
                let texts: Vec<String> = ranges.iter().map(range_text).collect();
                let to = if texts.is_empty() { "none".to_owned() } else { few(&texts) };
                (
                    json!(texts),
                    format!(
                        "The node connects and sends to these ports only: {to}. It asks no router for a port."
                    ),
                )
            }),
            "ports.local" => self.ports.local.as_ref().map(|range| {
                let text = range_text(range);
                let means =
                    format!("Sockets of calls, and places to listen on, use the local ports {text} only.");
                (json!(text), means)
            }),
            _ => (!self.ports.mapping)
                .then(|| (json!(false), "The node never asks the router to forward a port.".into())),
        }
    }
}

/// The settings that a key has a say in.
fn settings_of(key: &str) -> &'static [&'static str] {
    match key {
        "supernodes.only_ids"
        | "supernodes.only_networks"
        | "supernodes.forbid_ids"
        | "supernodes.forbid_networks"
        | "supernodes.bootstrap" => &["bootstrap"],
        "serving.roles" => &["volunteer.roles"],
        "serving.devices" => &["volunteer.devices"],
        "serving.calls" => &["volunteer.calls"],
        "serving.bits_per_second" => &["volunteer.bits_per_second"],
        "serving.bytes_per_month" => &["volunteer.bytes_per_month"],
        "serving.directory_bytes_per_month" => &["volunteer.directory_bytes_per_month"],
        "calls.relay_only" => &["relay_only"],
        "calls.strangers" => &["strangers"],
        "ports.outgoing" | "ports.mapping" => &["port_mapping"],
        "ports.local" => &["listen", "listen_tcp"],
        "network.id" => &["network"],
        "network.key" => &["network_key"],
        "network.membership" => &["membership"],
        _ => &[],
    }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn range_text(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

/// The first of a list, and how many more there are.
fn few(list: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = list.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match list.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
