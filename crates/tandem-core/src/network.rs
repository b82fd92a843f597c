//! Whom quotas are counted by. (What homes must not share is coarser: `tandem_proto::network::network_group`.)

use std::net::{IpAddr, Ipv6Addr};

/// The network that quotas are counted by: /24 in IPv4, /48 in IPv6.
#[must_use]
pub fn subnet(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address) >> 8),
        IpAddr::V6(address) => V6 | leading_bits(address, 48),
    }
}

/// Sets IPv6 apart from IPv4.
const V6: u64 = 1 << 63;

fn leading_bits(address: Ipv6Addr, bits: u32) -> u64 {
    u64::try_from(u128::from(address) >> (128 - bits)).expect("at most 48 bits are left")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn quotas_are_counted_by_subnet() {
        assert_eq!(subnet(ip("192.0.2.1")), subnet(ip("192.0.2.250")));
        assert_ne!(subnet(ip("192.0.2.1")), subnet(ip("192.0.3.1")));
        assert_eq!(subnet(ip("2001:db8:1::1")), subnet(ip("2001:db8:1:2::1")));
        assert_ne!(subnet(ip("2001:db8:1::1")), subnet(ip("2001:db8:2::1")));
        assert_eq!(subnet(ip("::ffff:192.0.2.1")), subnet(ip("192.0.2.1")));
    }
}
