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
        let found = self.table.find(hash(name), |(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

/// The hash of a name in lower case.
///
/// Unseeded: names in the table come from the configuration, so a client can choose neither how many share a hash
/// nor how long the table is.
fn hash(name: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = name.len() as u64;
    let mut mix = |word: u64| {
        let product = u128::from(hash ^ lower(word)) * u128::from(ODD);
        hash = (product as u64) ^ ((product >> 64) as u64);
    };
    let (words, tail) = name.as_chunks::<8>();
    words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
    mix(match (tail, name.last_chunk::<8>()) {
        ([], _) => 0,
        // The last eight bytes once more are cheaper than the few of the tail alone.
        (_, Some(last)) => u64::from_le_bytes(*last),
        (tail, None) => tail.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    });
    hash
}

/// Eight bytes with A to Z in lower case.
const fn lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low_bits = word & (EACH * 0x7F);
    let from_a = low_bits + EACH * (0x80 - b'A' as u64);
    let behind_z = low_bits + EACH * (0x7F - b'Z' as u64);
    let is_upper = (from_a ^ behind_z) & !word & (EACH * 0x80);
    // From the flag 0x80 to the bit 0x20 that makes a letter small.
    word | is_upper >> 2
}

/// The name in a Host field or authority: without port and trailing dot.
///
/// Whether it is valid is not decided here; what is not matches no pattern that has a host.
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
    use super::{Hosts, canonical, hash, lower, name};

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
        check("[::1", "[::1");
        check("[example.com]", "[example.com]");
        check("a:b", "a:b");
    }

    #[test]
    fn only_letters_have_a_lower_case() {
        for byte in 0..=u8::MAX {
            let word = u64::from_le_bytes([byte, b'Z', 0, byte, 0xFF, b'@', b'[', byte]);
            assert_eq!(lower(word).to_le_bytes(), word.to_le_bytes().map(|byte| byte.to_ascii_lowercase()));
        }
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
