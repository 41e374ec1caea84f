//! From where a request comes, where proxies stand in front of the server.
//!
//! **Invariant:** nobody chooses the address that they are counted by: what a caller writes in `X-Forwarded-For` counts
//! only as far as proxies that are trusted have passed it on.

use std::net::{IpAddr, Ipv6Addr};

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Leading bits that are the same in all of them.
    prefix: u32,
}

impl Network {
    /// Reads an address or a range; `None` where it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok())?;
        (prefix <= bits).then_some(Self { address, prefix })
    }

    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| {
            let free = bits - self.prefix;
            // Shifting by all bits is not defined.
            free == bits || a >> free == b >> free
        };
        match (self.address, plain(address)) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same(u128::from(own.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The address of the client behind `peer`, who holds the connection. `forwarded` are the values of `X-Forwarded-For`
/// in the order of the headers: each proxy has put at the end whom it got the request from.
pub fn client_address<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[Network],
) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = plain(peer);
    for hop in forwarded.rev().flat_map(|header| header.rsplit(',')) {
        if !is_trusted(client) {
            break;
        }
        match hop.trim().parse::<IpAddr>() {
            Ok(address) => client = plain(address),
            Err(_) => break,
        }
    }
    client
}

/// What an address is counted by: of IPv6 the network alone, because one subscriber has all its addresses.
pub fn limit_key(address: IpAddr) -> String {
    match plain(address) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            format!("{}/64", Ipv6Addr::from_bits(network))
        }
    }
}

/// IPv4 as such, also where it came by an IPv6 socket.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_trusted_proxies_say_who_the_client_is() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "::1", "192.0.2.7"]
            .iter()
            .map(|text| Network::parse(text).expect("a network"))
            .collect();
        let check = |peer: &str, forwarded: &[&str], expected: &str| {
            let found = client_address(ip(peer), forwarded.iter().copied(), &trusted);
            assert_eq!(found, ip(expected), "{peer} {forwarded:?}");
        };
        check("198.51.100.1", &[], "198.51.100.1");
        check("198.51.100.1", &["1.1.1.1"], "198.51.100.1");
        check("10.1.2.3", &["1.1.1.1"], "1.1.1.1");
        check("10.1.2.3", &["6.6.6.6, 1.1.1.1"], "1.1.1.1");
        check("10.1.2.3", &["6.6.6.6", "1.1.1.1, 10.9.9.9"], "1.1.1.1");
        check("::1", &["2001:db8::5"], "2001:db8::5");
        check("192.0.2.7", &["nonsense"], "192.0.2.7");
        check("192.0.2.7", &["1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2");
        check("::ffff:10.0.0.1", &["::ffff:1.1.1.1"], "1.1.1.1");
    }

    #[test]
    fn networks_are_read_and_compared_bit_by_bit() {
        let check = |network: &str, address: &str, expected: bool| {
            let network = Network::parse(network).expect("a network");
            assert_eq!(network.contains(ip(address)), expected, "{network:?} {address}");
        };
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "::1", false);
        check("203.0.113.128/25", "203.0.113.127", false);
        check("203.0.113.128/25", "203.0.113.128", true);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "host", "10.0.0.0/"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn subscribers_are_counted_as_one() {
        assert_eq!(limit_key(ip("203.0.113.9")), "203.0.113.9");
        assert_eq!(limit_key(ip("::ffff:203.0.113.9")), "203.0.113.9");
        assert_eq!(
            limit_key(ip("2001:db8:1:2:3:4:5:6")),
            limit_key(ip("2001:db8:1:2::9"))
        );
        assert_ne!(limit_key(ip("2001:db8:1:2::9")), limit_key(ip("2001:db8:1:3::9")));
    }
}
