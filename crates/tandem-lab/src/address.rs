//! Who has which address. Numbers are as a person would choose them, so that a capture can be read:
//!
//! | who | IPv4 | IPv6 |
//! | --- | --- | --- |
//! | server N | 51.N.0.20, each in a /16 of its own | 2a01:N::20, each in a /32 of its own |
//! | home N's router | 81.N.0.20 | 2a02:N::20 |
//! | its LAN | 192.168.N.0/24; without NAT 101.N.0.0/24 | 2a02:N:1::/64 |
//! | carrier N | 91.N.0.20 | |
//! | home N's router behind a carrier | 100.64.N.20 | |

use std::net::{Ipv4Addr, Ipv6Addr};

/// A router's or server's place at the other end of its line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Own address and the gateway's.
    pub(crate) v4: Option<(Ipv4Addr, Ipv4Addr)>,
    pub(crate) v6: Option<(Ipv6Addr, Ipv6Addr)>,
}

fn v4_place(a: u8, b: u8) -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(a, b, 0, 20), Ipv4Addr::new(a, b, 0, 1))
}

fn v6_place(a: u16, b: u8) -> (Ipv6Addr, Ipv6Addr) {
    let at = |last| Ipv6Addr::new(a, u16::from(b), 0, 0, 0, 0, 0, last);
    (at(0x20), at(1))
}

pub(crate) fn server(n: u8) -> Place {
    Place { v4: Some(v4_place(51, n)), v6: Some(v6_place(0x2a01, n)) }
}

pub(crate) fn carrier(n: u8) -> Place {
    Place { v4: Some(v4_place(91, n)), v6: None }
}

pub(crate) fn home(n: u8, v4: bool, v6: bool) -> Place {
    Place { v4: v4.then(|| v4_place(81, n)), v6: v6.then(|| v6_place(0x2a02, n)) }
}

pub(crate) fn home_behind_carrier(n: u8) -> Place {
    Place { v4: Some((Ipv4Addr::new(100, 64, n, 20), Ipv4Addr::new(100, 64, n, 1))), v6: None }
}

/// The LAN of home N: the router's address, then a host's.
pub(crate) fn lan_v4(n: u8, public: bool, last: u8) -> Ipv4Addr {
    if public { Ipv4Addr::new(101, n, 0, last) } else { Ipv4Addr::new(192, 168, n, last) }
}

pub(crate) fn lan_v6(n: u8, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2a02, u16::from(n), 1, 0, 0, 0, 0, last)
}

/// The last number of the router, and of the first host, on a LAN.
pub(crate) const LAN_ROUTER: u8 = 1;
pub(crate) const LAN_FIRST: u8 = 10;
