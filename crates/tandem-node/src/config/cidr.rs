use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// A range of addresses, for example `10.0.0.0/8` (RFC 4632).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Why a text is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CidrError {
    #[error("\"{0}\" is no range of addresses; one looks like 10.0.0.0/8")]
    Form(String),
    #[error("\"{0}\" has a prefix longer than its address")]
    Prefix(String),
}

impl Cidr {
    /// Bits of `network` beyond `prefix` are cleared; a prefix longer than the address is cut to it.
    #[must_use]
    pub fn new(network: IpAddr, prefix: u8) -> Self {
        match network {
            IpAddr::V4(v4) => {
                let prefix = prefix.min(32);
                Self { network: Ipv4Addr::from(v4.to_bits() & mask_v4(prefix)).into(), prefix }
            }
            IpAddr::V6(v6) => {
                let prefix = prefix.min(128);
                Self { network: Ipv6Addr::from(v6.to_bits() & mask_v6(prefix)).into(), prefix }
            }
        }
    }

    /// Does the address lie within? An IPv4 address written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.network, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => ip.to_bits() & mask_v4(self.prefix) == network.to_bits(),
            (IpAddr::V6(network), IpAddr::V6(ip)) => ip.to_bits() & mask_v6(self.prefix) == network.to_bits(),
            _ => false,
        }
    }

    /// The first address of the range.
    #[must_use]
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// Length of the prefix in bits.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

/// The block of loopback, private or link-local addresses an address lies in; `None` for any other.
pub(super) fn special_block(ip: IpAddr) -> Option<Cidr> {
    const V4: [([u8; 4], u8); 6] = [
        ([127, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([172, 16, 0, 0], 12),
        ([192, 168, 0, 0], 16),
        ([169, 254, 0, 0], 16),
        ([100, 64, 0, 0], 10),
    ];
    const V6: [(Ipv6Addr, u8); 3] = [
        (Ipv6Addr::LOCALHOST, 128),
        (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    ];
    let v4 = V4.iter().map(|(network, prefix)| Cidr::new(IpAddr::from(*network), *prefix));
    let v6 = V6.iter().map(|(network, prefix)| Cidr::new(IpAddr::from(*network), *prefix));
    v4.chain(v6).find(|block| block.contains(ip))
}

fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// A single address is a range of one.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let form = || CidrError::Form(text.to_owned());
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| form())?)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        if prefix > longest {
            return Err(CidrError::Prefix(text.to_owned()));
        }
        Ok(Self::new(address, prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_should() {
        let range: Cidr = "10.9.8.7/8".parse().unwrap();
        assert_eq!(range.to_string(), "10.0.0.0/8");
        assert!(range.contains("10.255.0.1".parse().unwrap()));
        assert!(range.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!range.contains("11.0.0.0".parse().unwrap()));
        assert!(!range.contains("a00::".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("203.0.113.9".parse().unwrap()));
        assert!("::/0".parse::<Cidr>().unwrap().contains("2001:db8::1".parse().unwrap()));
        assert_eq!("::1".parse::<Cidr>().unwrap().prefix(), 128);
    }

    #[test]
    fn odd_texts_are_refused() {
        for text in ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "ten/8", "10.0.0/8", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
