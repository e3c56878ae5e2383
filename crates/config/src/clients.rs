//! Who a TCP client is, by its address: the `clients` of a `tcp` listener.
//!
//! All addresses are compared as IPv6, IPv4 ones as `::ffff:a.b.c.d`. The zone of an entry has to be
//! that of the client, none included. The longest prefix decides.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{ClientIdentity, NameError};
use thiserror::Error;

/// The longest text of an address, and the longest name of a network interface: an identity has to
/// fit with both.
const LONGEST_ADDRESS: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
const LONGEST_ZONE: &str = "zzzzzzzzzzzzzzzz";
const MAPPED_BITS: u8 = 96;

/// Identities of clients by their addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMap {
    /// Longest prefix first.
    clients: Vec<Client>,
}

/// One entry: the clients of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    network: u128,
    /// How many leading bits have to be equal.
    prefix: u8,
    /// The interface of a link-local address; empty for none.
    zone: String,
    identity: Identity,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Identity {
    Fixed(ClientIdentity),
    /// What stands before and after the client's address.
    WithAddress(String, String),
}

/// An entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ClientError {
    #[error("neither an address nor a network")]
    Address,
    #[error("the zone belongs after the prefix length")]
    ZoneBeforePrefix,
    #[error("the identity for a single address must not contain `*`")]
    StarForAddress,
    #[error("the identity for a network must contain `*` exactly once")]
    NoStarForNetwork,
    #[error(transparent)]
    Identity(#[from] NameError),
}

impl Client {
    /// An entry from its key and value.
    pub(crate) fn parse(key: &str, identity: &str) -> Result<Self, ClientError> {
        let (address, zone) = key.split_once('%').unwrap_or((key, ""));
        if zone.contains('/') {
            return Err(ClientError::ZoneBeforePrefix);
        }
        let (network, prefix, single) = parse_network(address).ok_or(ClientError::Address)?;
        let identity = if single { Identity::fixed(identity)? } else { Identity::with_address(identity)? };
        Ok(Client { network: network & mask(prefix), prefix, zone: zone.to_owned(), identity })
    }

    /// Key and value that stand for this entry.
    fn entry(&self) -> (String, String) {
        let zone = if self.zone.is_empty() { String::new() } else { format!("%{}", self.zone) };
        let address = shown(self.network);
        match &self.identity {
            Identity::Fixed(identity) => (format!("{address}{zone}"), identity.to_string()),
            Identity::WithAddress(before, after) => {
                let mapped = Ipv6Addr::from_bits(self.network).to_ipv4_mapped().is_some();
                let prefix = if mapped { self.prefix.saturating_sub(MAPPED_BITS) } else { self.prefix };
                (format!("{address}/{prefix}{zone}"), format!("{before}*{after}"))
            }
        }
    }

    fn matches(&self, address: u128, zone: &str) -> bool {
        address & mask(self.prefix) == self.network && zone == self.zone
    }
}

/// The address as IPv6, its prefix, and whether the text is that of one address without a prefix.
fn parse_network(text: &str) -> Option<(u128, u8, bool)> {
    let Some((address, length)) = text.split_once('/') else {
        return Some((as_ipv6(text.parse().ok()?), 128, true));
    };
    let address: IpAddr = address.parse().ok()?;
    let length: u8 = length.bytes().all(|byte| byte.is_ascii_digit()).then(|| length.parse().ok())??;
    let prefix = match address {
        IpAddr::V4(_) if length <= 32 => MAPPED_BITS + length,
        IpAddr::V6(_) if length <= 128 => length,
        IpAddr::V4(_) | IpAddr::V6(_) => return None,
    };
    Some((as_ipv6(address), prefix, false))
}

fn as_ipv6(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl Identity {
    fn fixed(text: &str) -> Result<Self, ClientError> {
        if text.contains('*') {
            return Err(ClientError::StarForAddress);
        }
        Ok(Identity::Fixed(ClientIdentity::parse(text)?))
    }

    fn with_address(text: &str) -> Result<Self, ClientError> {
        match text.split_once('*') {
            Some((before, after)) if !after.contains('*') => {
                ClientIdentity::parse(&format!("{before}{LONGEST_ADDRESS}-{LONGEST_ZONE}{after}"))?;
                Ok(Identity::WithAddress(before.to_owned(), after.to_owned()))
            }
            _ => Err(ClientError::NoStarForNetwork),
        }
    }
}

impl ClientMap {
    /// A map of these entries. Of several for the same network the first in `clients` decides.
    pub(crate) fn new(mut clients: Vec<Client>) -> Self {
        clients.sort_by(|left, right| {
            let order = |client: &Client| (Reverse(client.prefix), client.network);
            order(left).cmp(&order(right)).then_with(|| left.zone.cmp(&right.zone))
        });
        clients.dedup_by(|later, first| {
            (later.network, later.prefix, &later.zone) == (first.network, first.prefix, &first.zone)
        });
        Self { clients }
    }

    /// The entries as keys and values of a configuration, longest prefix first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (String, String)> {
        self.clients.iter().map(Client::entry)
    }

    /// Who connects from `address`; `zone` is the interface of a link-local address. None if it is
    /// nobody.
    pub fn identify(&self, address: IpAddr, zone: Option<&str>) -> Option<ClientIdentity> {
        let (bits, zone) = (as_ipv6(address), zone.unwrap_or_default());
        let client = self.clients.iter().find(|client| client.matches(bits, zone))?;
        match &client.identity {
            Identity::Fixed(identity) => Some(identity.clone()),
            Identity::WithAddress(before, after) => {
                let address = shown(bits);
                let zone = if zone.is_empty() { String::new() } else { format!("-{zone}") };
                // Can only fail for a zone that is longer than names of interfaces are.
                ClientIdentity::parse(&format!("{before}{address}{zone}{after}")).ok()
            }
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether nobody is let in.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

/// IPv4 addresses as such.
fn shown(bits: u128) -> String {
    let address = Ipv6Addr::from_bits(bits);
    address.to_ipv4_mapped().as_ref().map_or_else(|| address.to_string(), Ipv4Addr::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> ClientMap {
        ClientMap::new(entries.iter().map(|(key, identity)| Client::parse(key, identity).unwrap()).collect())
    }

    fn check(entries: &[(&str, &str)], clients: &[(&str, Option<&str>)]) {
        let map = map(entries);
        let reversed: Vec<_> = entries.iter().copied().rev().collect();
        assert_eq!(map, self::map(&reversed), "the order of the file means nothing");
        for (client, expected) in clients {
            let (address, zone) = client.split_once('%').map_or((*client, None), |(ip, zone)| (ip, Some(zone)));
            let identity = map.identify(address.parse().unwrap(), zone);
            assert_eq!(identity.as_ref().map(ClientIdentity::as_str), *expected, "{client}");
        }
    }

    #[test]
    fn single_addresses() {
        check(
            &[("192.168.123.234", "ident1"), ("192.168.20.23", "ident2")],
            &[("192.168.123.234", Some("ident1")), ("192.168.20.23", Some("ident2")), ("192.168.20.10", None)],
        );
    }

    #[test]
    fn whoever_it_is() {
        check(
            &[("0.0.0.0/0", "*"), ("0::/0", "*")],
            &[("10.123.234.24", Some("10.123.234.24")), ("fe80::23:42", Some("fe80::23:42"))],
        );
        check(&[("::/0", "any-*")], &[("10.1.2.3", Some("any-10.1.2.3"))]);
        check(&[("::/0", "six-*"), ("0.0.0.0/0", "four-*")], &[("10.1.2.3", Some("four-10.1.2.3"))]);
    }

    #[test]
    fn the_longest_prefix_decides() {
        check(
            &[
                ("10.1.2.3", "specific-host"),
                ("10.1.2.0/24", "subnet-one-two-*"),
                ("10.1.1.0/24", "subnet-one-one-*"),
                ("10.1.0.0/24", "subnet-one-zero-*"),
                ("10.1.0.0/16", "subnet-one-*"),
            ],
            &[
                ("10.1.2.3", Some("specific-host")),
                ("10.1.2.1", Some("subnet-one-two-10.1.2.1")),
                ("10.1.1.1", Some("subnet-one-one-10.1.1.1")),
                ("10.1.0.23", Some("subnet-one-zero-10.1.0.23")),
                ("10.1.3.1", Some("subnet-one-10.1.3.1")),
                ("10.2.1.1", None),
            ],
        );
        check(
            &[
                ("fde4:8dba:82e1:1::1", "v6-48-1-specialhost"),
                ("fde4:8dba:82e1::/48", "v6-48-*"),
                ("fde4:8dba:82e1:1::/64", "v6-64-1-*"),
                ("fde4:8dba:82e1:2::/64", "v6-64-2-*"),
            ],
            &[
                ("fde4:8dba:82e1:1::1", Some("v6-48-1-specialhost")),
                ("fde4:8dba:82e1:23::1", Some("v6-48-fde4:8dba:82e1:23::1")),
                ("fde4:8dba:82e1:1::2", Some("v6-64-1-fde4:8dba:82e1:1::2")),
                ("fde4:8dba:82e1:2::1", Some("v6-64-2-fde4:8dba:82e1:2::1")),
                ("fde4:8dba:82e2::1", None),
            ],
        );
    }

    #[test]
    fn the_zone_has_to_be_the_same() {
        check(
            &[("fe80::/16%eth1", "san-*")],
            &[("fe80::23:42%eth1", Some("san-fe80::23:42-eth1")), ("fe80::23:42%eth2", None), ("fe80::23:42", None)],
        );
        check(
            &[("2001:db8:85a3::8a2e:370:7334", "h"), ("2001:db8:85a3::8a2e:370:7334%eth1", "h")],
            &[
                ("2001:db8:85a3::8a2e:370:7334", Some("h")),
                ("2001:db8:85a3::8a2e:370:7334%eth1", Some("h")),
                ("2001:db8:85a3::8a2e:370:7334%eth2", None),
            ],
        );
    }

    #[test]
    fn further_forms() {
        check(&[("10.1.4.0/24", "my-*-server")], &[("10.1.4.5", Some("my-10.1.4.5-server"))]);
        check(&[("1.2.3.5/24", "a-*")], &[("1.2.3.77", Some("a-1.2.3.77"))]);
        check(&[("::ffff:1.2.3.4", "a")], &[("1.2.3.4", Some("a"))]);
        check(&[("1.2.3.4%eth0", "a")], &[("1.2.3.4", None)]);
        check(&[("1.2.3.4/32", "b-*")], &[("1.2.3.4", Some("b-1.2.3.4"))]);
    }

    #[test]
    fn entries_are_written_as_they_are_read() {
        let entries = [
            ("1.2.3.4", "a"),
            ("1.2.3.5/24", "b-*"),
            ("1.2.3.77/24", "never-*"),
            ("0.0.0.0/0", "c-*"),
            ("::/0", "d-*-e"),
            ("fe80::1%eth1", "f"),
            ("fe80::/10%eth1", "g-*"),
            ("::ffff:0:0/95", "h-*"),
            ("::1.2.3.4", "i"),
            ("::ffff:1.2.3.6", "j"),
            ("1.2.3.7/32", "k-*"),
        ];
        let map = map(&entries);
        let written: Vec<(String, String)> = map.entries().collect();
        assert_eq!(written.len(), entries.len() - 1);
        let again = written.iter().map(|(key, identity)| Client::parse(key, identity).unwrap()).collect();
        assert_eq!(ClientMap::new(again), map);
        for (key, identity) in [("1.2.3.4", "a"), ("1.2.3.0/24", "b-*"), ("0.0.0.0/0", "c-*"), ("fe80::1%eth1", "f")] {
            assert!(written.contains(&(key.to_owned(), identity.to_owned())), "{written:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for key in ["jimmy", "host", "*", "[::1]", "1.2.3.4:80", "01.2.3.4", "1.2.3.4/33", "::/129", "1.2.3.4/+1", ""] {
            assert_eq!(Client::parse(key, "a"), Err(ClientError::Address), "{key}");
        }
        assert_eq!(Client::parse("192.168.1.2", "db-*"), Err(ClientError::StarForAddress));
        assert_eq!(Client::parse("fe80::1", "db-*"), Err(ClientError::StarForAddress));
        for (key, identity) in
            [("192.168.1.0/24", "db-"), ("fe80::/16%eth1", "db-"), ("1.2.3.4/32", "a"), ("1.2.3.0/24", "a*b*")]
        {
            assert_eq!(Client::parse(key, identity), Err(ClientError::NoStarForNetwork), "{key}");
        }
        for (key, identity) in
            [("fe80::/16", "db@-*"), ("fe80::1", "db@foo"), ("1.2.3.4", "a/b"), ("1.2.3.4", "."), ("1.2.3.4", "")]
        {
            assert!(matches!(Client::parse(key, identity), Err(ClientError::Identity(_))), "{key} {identity}");
        }
        assert_eq!(Client::parse("fe80::%eth0/64", "a-*"), Err(ClientError::ZoneBeforePrefix));
        let (fits, too_long) = ("a".repeat(199), "a".repeat(200));
        assert!(Client::parse("::/0", &format!("{fits}*")).is_ok());
        assert!(Client::parse("::/0", &format!("{too_long}*")).is_err());
    }
}
