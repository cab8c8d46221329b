//! Request ids.

/// The longest `X-Request-Id` of a client that is kept.
pub const ID_BYTES_MAX: usize = 128;

/// The text of a UUIDv7 (RFC 9562 §5.7): 48 bits of `unix_millis`, then 74 of `random` (the lowest bits; the other six
/// are not used).
pub fn uuid_v7(unix_millis: u64, random: [u8; 10]) -> [u8; 36] {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&unix_millis.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&random);
    bytes[6] = 0x70 | bytes[6] & 0x0f; // version
    bytes[8] = 0x80 | bytes[8] & 0x3f; // variant

    let mut out = [b'-'; 36];
    // Where each byte's two digits go: 8-4-4-4-12.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, place) in bytes.into_iter().zip(PLACES) {
        out[place] = DIGITS[usize::from(byte >> 4)];
        out[place + 1] = DIGITS[usize::from(byte & 0x0f)];
    }
    out
}

/// Whether a client's own `X-Request-Id` may be kept: 1..=[`ID_BYTES_MAX`] letters, digits and `-_.:/+=@`, none of which
/// has a meaning in a log, in JSON or in HTML.
pub fn is_acceptable_id(text: &[u8]) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_9562_appendix_a_6() {
        let random = [0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f];
        let id = uuid_v7(0x017F_22E2_79B0, random);
        assert_eq!(str::from_utf8(&id), Ok("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"));
    }

    #[test]
    fn time_past_48_bits_and_random_bits_do_not_reach_version_and_variant() {
        let id = uuid_v7(u64::MAX, [0xff; 10]);
        assert_eq!(str::from_utf8(&id), Ok("ffffffff-ffff-7fff-bfff-ffffffffffff"));
        let id = uuid_v7(0, [0; 10]);
        assert_eq!(str::from_utf8(&id), Ok("00000000-0000-7000-8000-000000000000"));
    }

    #[test]
    fn ids_of_clients_are_short_and_harmless() {
        for id in ["a", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "A_b.c:1/2+3=@", &"x".repeat(128)] {
            assert!(is_acceptable_id(id.as_bytes()), "{id}");
        }
        for id in ["", "a b", "a\"b", "a<b", "a\\b", "ä", "a\tb", "a,b", "a%b", &"x".repeat(129)] {
            assert!(!is_acceptable_id(id.as_bytes()), "{id}");
        }
    }
}
