//! This machine's own addresses, and what kind of address each is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tandem_api::{AddressScope, AddressView};

/// Addresses shown.
const ADDRESSES_MAX: usize = 32;

/// All addresses but loopback ones; `sources` are those that packets to the outside leave from.
#[cfg(unix)]
pub(super) fn addresses(sources: &[IpAddr]) -> Vec<AddressView> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return fallback(sources) };
    let mut views: Vec<AddressView> = all
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
            let ip = v4.or_else(|| address.as_sockaddr_in6().map(|at| IpAddr::V6(at.ip())))?;
            Some(view(entry.interface_name, ip, sources))
        })
        .filter(|view| view.default_route || view.scope != AddressScope::Loopback)
        .take(ADDRESSES_MAX)
        .collect();
    views.sort_by_key(|view| !view.default_route);
    views
}

#[cfg(not(unix))]
pub(super) fn addresses(sources: &[IpAddr]) -> Vec<AddressView> {
    fallback(sources)
}

fn fallback(sources: &[IpAddr]) -> Vec<AddressView> {
    sources.iter().map(|ip| view(String::new(), *ip, sources)).collect()
}

fn view(interface: String, ip: IpAddr, sources: &[IpAddr]) -> AddressView {
    AddressView { interface, address: ip.to_string(), scope: scope(ip), default_route: sources.contains(&ip) }
}

/// What an address can be used for, by the special-purpose registries (RFC 6890).
pub(crate) fn scope(ip: IpAddr) -> AddressScope {
    match ip.to_canonical() {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

fn scope_v4(ip: Ipv4Addr) -> AddressScope {
    let [a, b, c, _] = ip.octets();
    if ip.is_loopback() {
        AddressScope::Loopback
    } else if ip.is_link_local() {
        AddressScope::LinkLocal
    } else if ip.is_private() {
        AddressScope::Private
    } else if a == 100 && (64..128).contains(&b) {
        AddressScope::CarrierNat
    } else if a == 0
        || a >= 224
        || (a == 198 && (b == 18 || b == 19))
        || (a, b, c) == (192, 0, 0)
        || ip.is_documentation()
    {
        AddressScope::Special
    } else {
        AddressScope::Public
    }
}

fn scope_v6(ip: Ipv6Addr) -> AddressScope {
    let [a, b, ..] = ip.segments();
    if ip.is_loopback() {
        AddressScope::Loopback
    } else if a & 0xffc0 == 0xfe80 {
        AddressScope::LinkLocal
    } else if a & 0xfe00 == 0xfc00 {
        AddressScope::Private
    } else if a & 0xe000 == 0x2000 && (a, b) != (0x2001, 0x0db8) {
        AddressScope::Public
    } else {
        AddressScope::Special
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_addresses() {
        for (ip, expected) in [
            ("127.5.0.1", AddressScope::Loopback),
            ("10.0.0.1", AddressScope::Private),
            ("172.31.0.1", AddressScope::Private),
            ("172.32.0.1", AddressScope::Public),
            ("192.168.1.1", AddressScope::Private),
            ("169.254.3.4", AddressScope::LinkLocal),
            ("100.63.0.1", AddressScope::Public),
            ("100.64.0.1", AddressScope::CarrierNat),
            ("100.127.9.9", AddressScope::CarrierNat),
            ("198.18.0.1", AddressScope::Special),
            ("203.0.113.4", AddressScope::Special),
            ("0.0.0.0", AddressScope::Special),
            ("9.9.9.9", AddressScope::Public),
            ("::ffff:10.0.0.1", AddressScope::Private),
            ("::1", AddressScope::Loopback),
            ("fe80::1", AddressScope::LinkLocal),
            ("fd12::1", AddressScope::Private),
            ("2a00::1", AddressScope::Public),
            ("2001:db8::1", AddressScope::Special),
            ("::", AddressScope::Special),
        ] {
            assert_eq!(scope(ip.parse().unwrap()), expected, "{ip}");
        }
    }

    #[test]
    fn the_way_out_comes_first() {
        let views = addresses(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert!(views[0].default_route && views[0].address == "127.0.0.1", "{views:?}");
        assert!(views[1..].iter().all(|view| view.scope != AddressScope::Loopback));
    }
}
