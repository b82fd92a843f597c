//! The packet rules of one router, as a script for `nft`.
//!
//! Linux translates like a port-restricted NAT that keeps ports. The other kinds are made of it:
//!
//! - *symmetric*: every flow gets a random port;
//! - *full cone* and *address-restricted*: outgoing packets write into a map to which inside address a port belongs, and
//!   what arrives at that port is sent there; for the second, only from addresses that the port has written to;
//! - a *hairpin* uses the same map for packets that come from inside.
//!
//! Ports are kept because each host of a lab draws its ports from a range of its own (`lab::build`).

use std::fmt::Write as _;

use crate::plan::{Families, Nat};

/// What the rules are made from. The interface towards the network is `wan`; all others are inside.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) nat: Nat,
    /// Address of the router towards the network.
    pub(crate) outside: Option<std::net::Ipv4Addr>,
    pub(crate) hairpin: bool,
    pub(crate) udp_timeout_s: u64,
    pub(crate) families: Families,
}

impl Rules {
    pub(crate) fn script(&self) -> String {
        let mut text = String::from("flush ruleset\n");
        if let Some(outside) = self.outside {
            self.v4(&mut text, &outside.to_string());
        }
        if self.families.v6() {
            text.push_str(V6_FIREWALL);
        }
        text
    }

    fn v4(&self, text: &mut String, outside: &str) {
        text.push_str("table ip lab {\n");
        if self.keeps_map() {
            self.map(text, outside);
        }
        if self.nat != Nat::None {
            self.translate(text, outside);
        }
        self.input(text, outside);
        self.forward(text);
        text.push_str("}\n");
    }

    /// Must the rules know which inside address has a port?
    fn keeps_map(&self) -> bool {
        self.hairpin || matches!(self.nat, Nat::FullCone | Nat::AddressRestricted)
    }

    /// Which inside address has a port, learnt from what goes out; and to whom it has written.
    fn map(&self, text: &mut String, outside: &str) {
        let timeout = self.udp_timeout_s;
        let learn = |direction: &str| {
            format!(
                "ip saddr {outside} meta l4proto udp ct direction {direction} \
                 update @owner {{ udp sport : ct {direction} ip saddr }} \
                 update @written {{ udp sport . ip daddr }}"
            )
        };
        // Priority 150 is after translation (100): packets show their outside port, and conntrack still knows the inside.
        put(
            text,
            format!(
                "map owner {{ type inet_service : ipv4_addr; flags timeout; size 65535; timeout {timeout}s; }}
                 set written {{ type inet_service . ipv4_addr; flags timeout; size 65535; timeout {timeout}s; }}
                 chain learn {{ type filter hook postrouting priority 150; policy accept;
                 {}
                 {}
                 }}",
                learn("original"),
                learn("reply")
            ),
        );
    }

    fn translate(&self, text: &mut String, outside: &str) {
        text.push_str("chain arrive { type nat hook prerouting priority dstnat; policy accept;\n");
        let inwards = format!("ip daddr {outside} meta l4proto udp");
        match self.nat {
            Nat::FullCone => put(text, format!("iifname wan {inwards} dnat to udp dport map @owner")),
            Nat::AddressRestricted => put(
                text,
                format!("iifname wan {inwards} udp dport . ip saddr @written dnat to udp dport map @owner"),
            ),
            _ => {}
        }
        if self.hairpin {
            put(text, format!("iifname != wan {inwards} dnat to udp dport map @owner"));
        }
        text.push_str("}\nchain leave { type nat hook postrouting priority srcnat; policy accept;\n");
        if self.hairpin {
            put(text, format!("oifname != wan ct status dnat meta l4proto udp snat to {outside}"));
        }
        let random = if self.nat == Nat::Symmetric { " fully-random" } else { "" };
        put(text, format!("oifname wan masquerade{random}"));
        text.push_str("}\n");
    }

    /// What nobody inside asked for must be dropped here: if it were answered, conntrack would keep an entry for the
    /// stranger, the inside's own packet to that stranger would then collide with it and leave from another port.
    fn input(&self, text: &mut String, outside: &str) {
        put(
            text,
            format!(
                "chain input {{ type filter hook input priority 0; policy accept;
                 iifname wan ct state established,related accept
                 iifname wan icmp type echo-request accept
                 iifname wan drop
                 iifname != wan ip daddr {outside} drop
                 }}"
            ),
        );
    }

    fn forward(&self, text: &mut String) {
        text.push_str("chain forward { type filter hook forward priority 0; policy drop;\n");
        text.push_str("ct state established,related accept\n");
        text.push_str(match self.nat {
            Nat::None => "accept\n",
            Nat::UdpBlocked => "iifname != wan oifname wan meta l4proto != udp accept\n",
            Nat::Tcp443Only => "iifname != wan oifname wan tcp dport 443 accept\n",
            _ => "iifname != wan oifname wan accept\nct status dnat accept\n",
        });
        text.push_str("}\n");
    }
}

/// A stateful firewall, as home routers have it (RFC 6092 §3.2): out freely, in only what answers.
const V6_FIREWALL: &str = "table ip6 lab {
chain forward { type filter hook forward priority 0; policy drop;
ct state established,related accept
iifname != wan accept
icmpv6 type echo-request accept
}
chain input { type filter hook input priority 0; policy accept;
iifname wan ct state established,related accept
iifname wan meta l4proto { tcp, udp } drop
}
}
";

fn put(text: &mut String, lines: impl AsRef<str>) {
    for line in lines.as_ref().lines() {
        writeln!(text, "{}", line.trim()).expect("invariant: writing to a string does not fail");
    }
}
