//! A request's Host → the key by which hosts are looked up.

use std::{
    io::{Cursor, Write},
    net::Ipv6Addr,
};

/// Longer hosts are no host of any pattern (RFC 1035 §2.3.4; an IPv6 address in brackets is shorter).
pub(super) const HOST_BYTES_MAX: usize = 255;

/// The host in lower case, without port and trailing dot; empty when no pattern can name it.
///
/// `host` is the field or authority as received. Brackets stay, and the address in them takes its canonical form
/// (RFC 5952). Whether the host is valid is not decided here: what is not matches no pattern that has a host.
pub(super) fn key(host: &[u8], buffer: &mut [u8; HOST_BYTES_MAX]) -> usize {
    if host.first() == Some(&b'[') {
        return ipv6_key(host, buffer);
    }
    let mut end = host.iter().position(|&byte| byte == b':').unwrap_or(host.len());
    if end > 0 && host[end - 1] == b'.' {
        end -= 1;
    }
    let Some(key) = buffer.get_mut(..end) else {
        return 0;
    };
    for (to, from) in key.iter_mut().zip(host) {
        *to = from.to_ascii_lowercase();
    }
    end
}

fn ipv6_key(host: &[u8], buffer: &mut [u8; HOST_BYTES_MAX]) -> usize {
    let Some(close) = host.iter().position(|&byte| byte == b']') else {
        return 0;
    };
    let address = str::from_utf8(&host[1..close]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
    let Some(address) = address else {
        return 0;
    };
    let mut key = Cursor::new(&mut buffer[..]);
    write!(key, "[{address}]").expect("an IPv6 address fits into the buffer");
    usize::try_from(key.position()).expect("the buffer is short")
}

#[cfg(test)]
mod tests {
    use super::{HOST_BYTES_MAX, key};

    #[track_caller]
    fn check(host: &str, expected: &str) {
        let mut buffer = [0; HOST_BYTES_MAX];
        let len = key(host.as_bytes(), &mut buffer);
        assert_eq!(String::from_utf8_lossy(&buffer[..len]), expected, "{host}");
    }

    #[test]
    fn case_port_and_trailing_dot_do_not_matter() {
        check("Example.COM", "example.com");
        check("example.com:8080", "example.com");
        check("example.com.", "example.com");
        check("EXAMPLE.com.:443", "example.com");
        check("127.0.0.1:80", "127.0.0.1");
        check("localhost:", "localhost");
    }

    #[test]
    fn an_ipv6_address_is_canonical() {
        check("[::1]", "[::1]");
        check("[::1]:8080", "[::1]");
        check("[0:0:0:0:0:0:0:1]", "[::1]");
        check("[FE80::A]:1", "[fe80::a]");
    }

    #[test]
    fn what_is_no_host_has_no_key() {
        check("", "");
        check(".", "");
        check(":80", "");
        check("[::1", "");
        check("[example.com]", "");
        check(&"a".repeat(HOST_BYTES_MAX + 1), "");
    }
}
