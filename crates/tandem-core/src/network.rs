//! Which addresses count as one network. A network is the unit of shared fate: one owner, one cable, one court order.

use std::net::{IpAddr, Ipv6Addr};

/// The network that homes must not share: /16 in IPv4, /32 in IPv6. IPv4 and IPv6 never give the same number.
#[must_use]
pub fn group(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address) >> 16),
        IpAddr::V6(address) => V6 | leading_bits(address, 32),
    }
}

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
    fn networks_are_cut_where_the_design_says() {
        assert_eq!(group(ip("127.3.0.1")), group(ip("127.3.9.9")));
        assert_ne!(group(ip("127.3.0.1")), group(ip("127.4.0.1")));
        assert_eq!(group(ip("2001:db8:1::1")), group(ip("2001:db8:2::1")));
        assert_eq!(subnet(ip("192.0.2.1")), subnet(ip("192.0.2.250")));
        assert_ne!(subnet(ip("2001:db8:1::1")), subnet(ip("2001:db8:2::1")));
        assert_eq!(group(ip("::ffff:192.0.2.1")), group(ip("192.0.2.1")));
    }
}
