//! The PROXY protocol, versions 1 and 2: what a proxy says about a connection before its first byte
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of a header of version 1 with the longest addresses (§2.1).
const V1_BYTES_MAX: usize = 107;
/// Bytes of addresses and further fields in version 2. The format has 65,535; nobody needs them.
const V2_BYTES_MAX: usize = 4096;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD: usize = 16;

/// A header, as far as it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// More is to come.
    Partial,
    /// So many bytes; the connection is the proxy's own, or from where it cannot say.
    Itself(usize),
    /// So many bytes; the connection comes from here.
    From(SocketAddr, usize),
}

/// No header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAnnouncement;

/// Reads the header at the start of `bytes`.
pub fn parse_announcement(bytes: &[u8]) -> Result<Announced, BadAnnouncement> {
    let start = &bytes[..bytes.len().min(V2_SIGNATURE.len())];
    if V2_SIGNATURE.starts_with(start) {
        return version_2(bytes);
    }
    if b"PROXY ".starts_with(&bytes[..bytes.len().min(6)]) {
        return version_1(bytes);
    }
    Err(BadAnnouncement)
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443` CR LF.
fn version_1(bytes: &[u8]) -> Result<Announced, BadAnnouncement> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return if bytes.len() < V1_BYTES_MAX { Ok(Announced::Partial) } else { Err(BadAnnouncement) };
    };
    let length = end + 1;
    if length > V1_BYTES_MAX {
        return Err(BadAnnouncement);
    }
    let line = bytes[..end].strip_suffix(b"\r").ok_or(BadAnnouncement)?;
    let line = str::from_utf8(line).map_err(|_| BadAnnouncement)?;
    let mut words = line.split(' ').skip(1);
    let mut next = || words.next().ok_or(BadAnnouncement);
    let family = next()?;
    if family == "UNKNOWN" {
        return Ok(Announced::Itself(length));
    }
    let (source, destination) = (next()?, next()?);
    let (port, other_port) = (next()?, next()?);
    if words.next().is_some() {
        return Err(BadAnnouncement);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse().map(IpAddr::V4).map_err(|_| BadAnnouncement),
        "TCP6" => text.parse().map(IpAddr::V6).map_err(|_| BadAnnouncement),
        _ => Err(BadAnnouncement),
    };
    // No sign and no leading zero (§2.1).
    let number = |text: &str| match text.as_bytes() {
        [b'1'..=b'9', ..] | b"0" => text.parse().map_err(|_| BadAnnouncement),
        _ => Err(BadAnnouncement),
    };
    let from = SocketAddr::new(address(source)?, number(port)?);
    let _to = SocketAddr::new(address(destination)?, number(other_port)?);
    Ok(Announced::From(canonical(from), length))
}

/// Twelve fixed bytes, version and command, family, a length, and so many bytes: two addresses and two ports first (§2.2).
fn version_2(bytes: &[u8]) -> Result<Announced, BadAnnouncement> {
    let Some((head, rest)) = bytes.split_at_checked(V2_HEAD) else { return Ok(Announced::Partial) };
    let (command, family) = (head[12], head[13]);
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if command >> 4 != 2 || length > V2_BYTES_MAX {
        return Err(BadAnnouncement);
    }
    let Some(fields) = rest.get(..length) else { return Ok(Announced::Partial) };
    let length = V2_HEAD + length;
    let from = match (command & 0xf, family) {
        (0, _) => return Ok(Announced::Itself(length)),
        (1, 0x11) => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *fields.first_chunk().ok_or(BadAnnouncement)?;
            SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]))
        }
        (1, 0x21) => {
            let fields: &[u8; 36] = fields.first_chunk().ok_or(BadAnnouncement)?;
            let address: [u8; 16] = *fields.first_chunk().expect("16 of 36 bytes");
            SocketAddr::new(Ipv6Addr::from(address).into(), u16::from_be_bytes([fields[32], fields[33]]))
        }
        // Unix sockets and what is unspecified have no address to tell.
        (1, 0x00 | 0x31) => return Ok(Announced::Itself(length)),
        _ => return Err(BadAnnouncement),
    };
    Ok(Announced::From(canonical(from), length))
}

/// An IPv4 client that came through a dual-stack socket is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str, length: usize) -> Result<Announced, BadAnnouncement> {
        Ok(Announced::From(address.parse().unwrap(), length))
    }

    /// The whole is read as expected, and every part of it as one.
    #[track_caller]
    fn check(bytes: &[u8], expected: Result<Announced, BadAnnouncement>) {
        let followed = [bytes, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(parse_announcement(&followed), expected, "{}", String::from_utf8_lossy(bytes));
        if expected.is_ok() {
            for cut in 0..bytes.len() {
                assert_eq!(parse_announcement(&bytes[..cut]), Ok(Announced::Partial), "cut at {cut}");
            }
        }
    }

    #[test]
    fn version_1_is_a_line() {
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", from("192.0.2.1:56324", 42));
        check(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", from("[2001:db8::1]:1", 32));
        check(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", from("192.0.2.1:1", 37));
        check(b"PROXY UNKNOWN\r\n", Ok(Announced::Itself(15)));
        check(b"PROXY UNKNOWN whatever else\r\n", Ok(Announced::Itself(29)));
    }

    #[test]
    fn what_is_no_line_of_version_1_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 1\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 56324 443\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 443\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 443\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.2 1 443\r\n",
            "GET / HTTP/1.1\r\n",
            "\x16\x03\x01",
        ] {
            check(line.as_bytes(), Err(BadAnnouncement));
        }
        let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
        assert_eq!(parse_announcement(&endless), Err(BadAnnouncement));
    }

    fn v2(command: u8, family: u8, fields: &[u8]) -> Vec<u8> {
        let length = u16::try_from(fields.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[command, family], &length, fields].concat()
    }

    #[test]
    fn version_2_has_addresses_and_then_whatever() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 1, 187];
        check(&v2(0x21, 0x11, &v4), from("192.0.2.1:4660", 28));
        check(&v2(0x21, 0x11, &[&v4[..], b"\x04\x00\x01x"].concat()), from("192.0.2.1:4660", 32));
        let v6 = [&Ipv6Addr::LOCALHOST.octets()[..], &[0; 16], &[0, 80, 0, 81]].concat();
        check(&v2(0x21, 0x21, &v6), from("[::1]:80", 52));
        check(&v2(0x20, 0x00, b""), Ok(Announced::Itself(16)));
        check(&v2(0x20, 0x11, &v4), Ok(Announced::Itself(28)));
        check(&v2(0x21, 0x31, &[0; 216]), Ok(Announced::Itself(232)));
    }

    #[test]
    fn what_is_no_version_2_is_refused() {
        check(&v2(0x11, 0x11, &[0; 12]), Err(BadAnnouncement));
        check(&v2(0x22, 0x11, &[0; 12]), Err(BadAnnouncement));
        check(&v2(0x21, 0x12, &[0; 12]), Err(BadAnnouncement));
        check(&v2(0x21, 0x11, &[0; 11]), Err(BadAnnouncement));
        check(&v2(0x21, 0x21, &[0; 35]), Err(BadAnnouncement));
        assert_eq!(parse_announcement(&v2(0x21, 0x11, &[0; 4097])), Err(BadAnnouncement));
    }
}
