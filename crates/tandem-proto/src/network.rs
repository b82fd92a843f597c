//! Which network an address belongs to (spec/overlay.md, "Networks"): what "in different networks" means wherever
//! homes, relays and replicas are spread.

use std::net::{IpAddr, Ipv4Addr};

/// The network of an address: the /16 of an IPv4 address (its first 16 bits, so below 65536), the /32 of an IPv6
/// address (its first 32 bits). An IPv4 address written as IPv6 (`::ffff:a.b.c.d`) counts as IPv4, and so does the
/// one inside a 6to4 or a NAT64 address, since both are reached through that IPv4 network.
///
/// Stable: both ends of a call must agree on it.
#[must_use]
pub fn network_group(ip: IpAddr) -> u32 {
    let v6 = match ip {
        IpAddr::V4(v4) => return group_v4(v4),
        IpAddr::V6(v6) => v6,
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return group_v4(v4);
    }
    match v6.segments() {
        // 6to4, RFC 3056 §2.
        [0x2002, high, low, ..] => group_v4(join(high, low)),
        // NAT64's well-known prefix, RFC 6052 §2.1.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => group_v4(join(high, low)),
        [first, second, ..] => u32::from(first) << 16 | u32::from(second),
    }
}

/// The group of supernodes whose addresses do not say in which network they are.
pub const GROUP_UNKNOWN: u32 = u32::MAX;

/// The network of a supernode, by all addresses that it claims: that of its IPv4 addresses, or if it has none that of
/// its IPv6 addresses. Where those of one family are in different networks, some may be invented so that it counts as
/// being elsewhere: all such supernodes are one network, [`GROUP_UNKNOWN`], and so are those without addresses.
///
/// Stable: both ends of a call must agree on it.
#[must_use]
pub fn group_of_all(addresses: impl IntoIterator<Item = IpAddr>) -> u32 {
    let (mut v4, mut v6) = (None, None);
    for ip in addresses {
        let group = network_group(ip);
        let family = if group <= GROUP_V4_MAX { &mut v4 } else { &mut v6 };
        if family.is_some_and(|known| known != group) {
            return GROUP_UNKNOWN;
        }
        *family = Some(group);
    }
    v4.or(v6).unwrap_or(GROUP_UNKNOWN)
}

/// A network as a person reads it: `198.51.0.0/16`, `2001:db8::/32`; `None` for [`GROUP_UNKNOWN`].
#[must_use]
pub fn network_name(group: u32) -> Option<String> {
    if group == GROUP_UNKNOWN {
        return None;
    }
    let [a, b, c, d] = group.to_be_bytes();
    Some(if group <= GROUP_V4_MAX {
        format!("{c}.{d}.0.0/16")
    } else {
        let high = u16::from_be_bytes([a, b]);
        let low = u16::from_be_bytes([c, d]);
        format!("{}/32", std::net::Ipv6Addr::new(high, low, 0, 0, 0, 0, 0, 0))
    })
}

/// Groups of IPv4 networks are not above this.
const GROUP_V4_MAX: u32 = 0xffff;

fn group_v4(v4: Ipv4Addr) -> u32 {
    let [a, b, ..] = v4.octets();
    u32::from(a) << 8 | u32::from(b)
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(ip: &str) -> u32 {
        network_group(ip.parse().unwrap())
    }

    #[test]
    fn groups_are_sixteen_bits_of_ipv4_and_thirty_two_of_ipv6() {
        assert_eq!(group("192.0.2.1"), 0xc000);
        assert_eq!(group("192.0.255.255"), group("192.0.2.1"));
        assert_ne!(group("192.1.2.1"), group("192.0.2.1"));
        assert_eq!(group("2001:db8:1::1"), 0x2001_0db8);
        assert_ne!(group("2001:db9::1"), group("2001:db8::1"));
    }

    #[test]
    fn a_supernode_is_in_one_network_or_in_that_of_all_who_are_in_several() {
        let of = |ips: &[&str]| group_of_all(ips.iter().map(|ip| ip.parse().unwrap()));
        assert_eq!(of(&["192.0.2.1", "192.0.77.1"]), group("192.0.2.1"));
        assert_eq!(of(&["2001:db8::1", "192.0.2.1"]), group("192.0.2.1"), "two families are usual");
        assert_eq!(of(&["2001:db8::1", "2001:db8:7::1"]), group("2001:db8::1"));
        assert_eq!(of(&["192.0.2.1", "198.51.100.1"]), GROUP_UNKNOWN);
        assert_eq!(of(&["192.0.2.1", "2001:db8::1", "2001:db9::1"]), GROUP_UNKNOWN);
        assert_eq!(of(&[]), GROUP_UNKNOWN);
    }

    #[test]
    fn ipv4_inside_ipv6_counts_as_ipv4() {
        for v6 in ["::ffff:192.0.2.1", "2002:c000:201::1", "64:ff9b::192.0.2.1"] {
            assert_eq!(group(v6), group("192.0.2.1"), "{v6}");
        }
    }
}
