//! Which addresses may be dialled for a URL that somebody else has chosen.
//!
//! Judged is the parsed address, never its spelling. Whatever is not known to be a public unicast address
//! is refused, unless an operator has named its network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IP network, as in `10.1.0.0/16`, `fd00::/8` or `192.168.1.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no network: write an address and how many of its first bits count, as in 10.1.0.0/16"
)]
pub struct ParseNetworkError(String);

impl Network {
    /// A network; bits of the base beyond those that count do not matter.
    const fn v4(base: [u8; 4], bits: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(base[0], base[1], base[2], base[3])), bits }
    }

    const fn v6(first: u16, second: u16, bits: u8) -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), bits }
    }

    /// Whether an address lies in it. An IPv4 address that is written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let error = || ParseNetworkError(text.chars().take(64).collect());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| error())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let is_number = |bits: &str| !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let bits = match bits {
            None => most,
            Some(bits) if is_number(bits) => bits.parse().map_err(|_| error())?,
            Some(_) => return Err(error()),
        };
        // Mapped ones are judged as IPv4, so a network of them would never match.
        if bits > most || base.to_canonical() != base {
            return Err(error());
        }
        Ok(Self { base, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// IPv4 networks that are no public unicast ones (IANA's special-purpose registry), and what they are.
const SPECIAL_V4: &[(Network, &str)] = &[
    (Network::v4([0, 0, 0, 0], 8), "unspecified"),
    (Network::v4([10, 0, 0, 0], 8), "private"),
    (Network::v4([100, 64, 0, 0], 10), "a provider's own"),
    (Network::v4([127, 0, 0, 0], 8), "loopback"),
    (Network::v4([169, 254, 0, 0], 16), "link-local"),
    (Network::v4([172, 16, 0, 0], 12), "private"),
    (Network::v4([192, 0, 0, 0], 24), "reserved"),
    (Network::v4([192, 0, 2, 0], 24), "documentation"),
    (Network::v4([192, 88, 99, 0], 24), "reserved"),
    (Network::v4([192, 168, 0, 0], 16), "private"),
    (Network::v4([198, 18, 0, 0], 15), "reserved"),
    (Network::v4([198, 51, 100, 0], 24), "documentation"),
    (Network::v4([203, 0, 113, 0], 24), "documentation"),
    (Network::v4([224, 0, 0, 0], 4), "multicast"),
    (Network::v4([240, 0, 0, 0], 4), "reserved"),
];

/// The only IPv6 addresses that are public unicast ones are in this network.
const GLOBAL_V6: Network = Network::v6(0x2000, 0, 3);

/// IPv6 networks that are no public unicast ones, and what they are.
const SPECIAL_V6: &[(Network, &str)] = &[
    // Teredo, ORCHID and benchmarks among them.
    (Network::v6(0x2001, 0, 23), "reserved"),
    (Network::v6(0x2001, 0x0db8, 32), "documentation"),
    (Network::v6(0x3fff, 0, 20), "documentation"),
    (Network::v6(0xfc00, 0, 7), "private"),
    (Network::v6(0xfe80, 0, 10), "link-local"),
    (Network::v6(0xfec0, 0, 10), "site-local"),
    (Network::v6(0xff00, 0, 8), "multicast"),
];

/// NAT64: the last 32 bits are the IPv4 address that is meant.
const NAT64: Network =
    Network { base: IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)), bits: 96 };
/// 6to4: bits 16 to 47 are the IPv4 address that is meant.
const SIX_TO_FOUR: Network = Network::v6(0x2002, 0, 16);

/// Whether an address may be dialled: `Err` says what it is instead of a public one.
///
/// # Errors
/// What kind of address it is.
pub fn judge(address: IpAddr, allowed: &[Network]) -> Result<(), &'static str> {
    let address = address.to_canonical();
    let Err(kind) = judge_public(address) else { return Ok(()) };
    // These name no machine, whatever an operator has listed.
    if matches!(kind, "unspecified" | "multicast") {
        return Err(kind);
    }
    if allowed.iter().any(|network| network.contains(address)) { Ok(()) } else { Err(kind) }
}

fn judge_public(address: IpAddr) -> Result<(), &'static str> {
    let find = |special: &[(Network, &'static str)]| {
        let found = special.iter().find(|(network, _)| network.contains(address));
        found.map(|(_, kind)| *kind)
    };
    match address {
        IpAddr::V4(_) => find(SPECIAL_V4).map_or(Ok(()), Err),
        IpAddr::V6(v6) if v6.is_unspecified() => Err("unspecified"),
        IpAddr::V6(v6) if v6.is_loopback() => Err("loopback"),
        IpAddr::V6(v6) if NAT64.contains(address) => judge_public(embedded(v6, 0)),
        IpAddr::V6(v6) if SIX_TO_FOUR.contains(address) => judge_public(embedded(v6, 80)),
        IpAddr::V6(_) => match find(SPECIAL_V6) {
            Some(kind) => Err(kind),
            None if GLOBAL_V6.contains(address) => Ok(()),
            None => Err("reserved"),
        },
    }
}

/// The IPv4 address in an IPv6 one, so many bits from its end.
fn embedded(address: Ipv6Addr, shift: u32) -> IpAddr {
    // The mask makes it fit.
    let bits = (address.to_bits() >> shift) & u128::from(u32::MAX);
    IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_unicast_addresses_may_be_dialled() {
        let refused = [
            ("unspecified", "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0"),
            ("loopback", "127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1"),
            ("loopback", "64:ff9b::127.0.0.1 2002:7f00:0001::1"),
            ("private", "10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 ::ffff:10.0.0.1"),
            ("private", "64:ff9b::10.0.0.1 2002:c0a8:0101:: fc00::1 fd12:3456::1"),
            ("link-local", "169.254.169.254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe"),
            ("link-local", "2002:a9fe:a9fe::1 fe80::1 febf::1"),
            ("site-local", "fec0::1 feff::1"),
            ("a provider's own", "100.64.0.1 100.127.255.255"),
            ("multicast", "224.0.0.1 239.255.255.255 ff02::1 ff0e::1 ::ffff:224.0.0.1"),
            ("documentation", "192.0.2.1 198.51.100.1 203.0.113.9 2001:db8::1 3fff::1"),
            ("reserved", "192.0.0.8 192.88.99.1 198.18.0.1 198.19.255.255 240.0.0.1"),
            ("reserved", "255.255.255.255 2001::1 2001:10::1 100::1 64:ff9b:1::1 5f00::1"),
            // The deprecated form of an IPv4 address in an IPv6 one.
            ("reserved", "::10.0.0.1 ::8.8.8.8 4000::1 8000::1"),
        ];
        for (kind, addresses) in refused {
            for text in addresses.split(' ') {
                assert_eq!(judge(text.parse().unwrap(), &[]), Err(kind), "{text}");
            }
        }
        for text in "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.255.255 172.32.0.1 \
            169.253.1.1 192.0.1.1 198.20.0.1 223.255.255.255 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 \
            2002:808:808::1 2606:4700::1111 2a00:1450::1 2001:200::1"
            .split_whitespace()
        {
            assert_eq!(judge(text.parse().unwrap(), &[]), Ok(()), "{text}");
        }
    }

    #[test]
    fn an_operators_own_networks_may_be_dialled() {
        let allowed: Vec<Network> =
            ["10.1.0.0/16", "fd00:1::/32", "192.168.1.7", "127.0.0.1/32", "0.0.0.0/0"]
                .map(|text| text.parse().unwrap())
                .to_vec();
        for text in ["10.1.255.1", "::ffff:10.1.0.1", "fd00:1::5", "192.168.1.7", "127.0.0.1"] {
            assert_eq!(judge(text.parse().unwrap(), &allowed[..4]), Ok(()), "{text}");
        }
        for text in ["10.2.0.1", "192.168.1.8", "fd00:2::1", "127.0.0.2", "64:ff9b::10.1.0.1"] {
            assert!(judge(text.parse().unwrap(), &allowed[..4]).is_err(), "{text}");
        }
        // All of IPv4 still names no machine here.
        for text in ["0.0.0.0", "224.0.0.1", "fe80::1"] {
            assert!(judge(text.parse().unwrap(), &allowed).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_read_and_written() {
        for text in ["10.1.0.0/16", "fd00::/8", "0.0.0.0/0", "::/0", "192.168.1.7/32"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "10.1.0.0/33",
            "10.1.0.0/",
            "10.1/16",
            "10.1.0.0/+8",
            "a/8",
            "::/129",
            "::ffff:10.0.0.0/104",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
