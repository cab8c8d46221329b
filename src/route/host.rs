//! A request's Host → the routes of that host.

use std::{
    io::{Cursor, Write},
    net::Ipv6Addr,
};

use hashbrown::HashTable;

/// Values by host name; found in whatever case and with whatever port a client writes it.
#[derive(Debug, Default)]
pub(super) struct Hosts<V> {
    table: HashTable<(Box<[u8]>, V)>,
}

impl<V> Hosts<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Adds a name in lower case that is not there yet.
    pub(super) fn insert(&mut self, name: &str, value: V) {
        let name = name.as_bytes();
        self.table.insert_unique(hash(name), (Box::from(name), value), |(name, _)| hash(name));
    }

    /// The value of `name`, which has no port but may be in any case.
    pub(super) fn get(&self, name: &[u8]) -> Option<&V> {
        let found = self.table.find(hash(name), |(key, _)| **key == *name || key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

/// A hash of a name that is the same in any case.
///
/// Sixteen bytes a multiplication, the last ones once more where they do not divide (after wyhash). Unseeded: names
/// in the table come from the configuration, so a client can choose neither how many share a hash nor how long the
/// table is.
#[inline]
fn hash(name: &[u8]) -> u64 {
    let mut hash = name.len() as u64;
    match (name.last_chunk::<16>(), name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(last), ..) => {
            for pair in name.as_chunks::<16>().0 {
                hash = mix(hash, u128::from_le_bytes(*pair));
            }
            mix(hash, u128::from_le_bytes(*last))
        }
        (None, Some(first), Some(last)) => {
            let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
            mix(hash, u128::from(first) | u128::from(last) << 64)
        }
        _ => mix(hash, name.iter().fold(0, |word, &byte| word << 8 | u128::from(byte))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a product are folded")]
#[inline]
const fn mix(hash: u64, pair: u128) -> u64 {
    /// This bit makes letters small. It also makes a few other bytes alike, which a hash may.
    const SMALL: u64 = 0x2020_2020_2020_2020;
    let low = (pair as u64 | SMALL) ^ 0x9E37_79B9_7F4A_7C15 ^ hash.rotate_left(32);
    let high = ((pair >> 64) as u64 | SMALL) ^ 0xD6E8_FEB8_6659_FD93 ^ hash;
    let product = low as u128 * high as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The name in a Host field or authority: without port and trailing dot.
///
/// Whether it is valid is not decided here; what is not matches no pattern that has a host.
#[inline]
pub(super) fn name(host: &[u8]) -> &[u8] {
    let mut name = host;
    while let [rest @ .., b'0'..=b'9'] = name {
        name = rest;
    }
    // Digits without a colon before them were no port.
    let name = name.strip_suffix(b":").unwrap_or(host);
    name.strip_suffix(b".").unwrap_or(name)
}

/// The canonical form (RFC 5952) of an IPv6 address in brackets.
pub(super) fn canonical(name: &[u8]) -> Option<Canonical> {
    let address = name.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let address = str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok()?;
    let mut text = Cursor::new([0; 48]);
    write!(text, "[{address}]").expect("an IPv6 address has at most 45 characters");
    Some(Canonical { len: usize::try_from(text.position()).expect("it is short"), text: text.into_inner() })
}

pub(super) struct Canonical {
    text: [u8; 48],
    len: usize,
}

impl Canonical {
    pub(super) fn name(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::{Hosts, canonical, hash, name};

    #[track_caller]
    fn check(host: &str, expected: &str) {
        let name = name(host.as_bytes());
        let canonical = canonical(name);
        let name = canonical.as_ref().map_or(name, |canonical| canonical.name());
        assert_eq!(String::from_utf8_lossy(name), expected, "{host}");
    }

    #[test]
    fn a_port_and_a_trailing_dot_are_not_part_of_the_name() {
        check("example.com", "example.com");
        check("example.com:8080", "example.com");
        check("example.com.", "example.com");
        check("example.com.:443", "example.com");
        check("127.0.0.1", "127.0.0.1");
        check("127.0.0.1:80", "127.0.0.1");
        check("localhost:", "localhost");
        check("12:34", "12");
        check("", "");
        check(".", "");
        check(":80", "");
    }

    #[test]
    fn an_ipv6_address_is_canonical() {
        check("[::1]", "[::1]");
        check("[::1]:8080", "[::1]");
        check("[0:0:0:0:0:0:0:1]", "[::1]");
        check("[FE80::A]:1", "[fe80::a]");
        check("[::ffff:192.0.2.128]", "[::ffff:192.0.2.128]");
        check("[1111:2222:3333:4444:5555:6666:7777:8888]", "[1111:2222:3333:4444:5555:6666:7777:8888]");
    }

    #[test]
    fn what_is_no_host_stays_as_it_is() {
        check("[::a", "[::a");
        check("[example.com]", "[example.com]");
        check("a:b", "a:b");
    }

    #[test]
    fn a_name_of_any_length_is_found_in_any_case() {
        let mut hosts = Hosts::default();
        let names: Vec<String> = (1..70).map(|len| "abcdefghij".repeat(7)[..len].to_owned()).collect();
        for name in &names {
            hosts.insert(name, name.len());
        }
        for name in &names {
            assert_eq!(hosts.get(name.as_bytes()), Some(&name.len()));
            assert_eq!(hosts.get(name.to_ascii_uppercase().as_bytes()), Some(&name.len()));
            assert_eq!(hosts.get(name.replace('a', "z").as_bytes()), None);
            assert_eq!(hosts.get(format!("{name}\0").as_bytes()), None);
        }
    }

    #[test]
    fn names_that_differ_little_differ_in_their_hash() {
        let hashes: std::collections::HashSet<u64> =
            (0..10_000).map(|host| hash(format!("host-{host}.example.com").as_bytes())).collect();
        assert_eq!(hashes.len(), 10_000);
    }
}
