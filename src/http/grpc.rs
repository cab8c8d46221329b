//! What gRPC makes of HTTP: its deadline, its statuses, its messages ("gRPC over HTTP2", the protocol's own document).

use std::time::Duration;

/// Whether a content type is one of gRPC's: `application/grpc`, with or without a suffix or a parameter. gRPC-Web is another.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    content_type.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME))
        && matches!(content_type.get(NAME.len()), None | Some(b'+' | b';' | b' '))
}

/// What `grpc-timeout` says: at most eight digits and a unit. `None` for anything else, which is as if it were not there.
pub fn timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The status of gRPC for a failure of the gateway that has this HTTP status: as a client would map it
/// (`http-grpc-status-mapping.md`), but for what the gateway knows better: whose limit it was, and that it was the deadline.
pub const fn status_of(http_status: u16) -> u8 {
    match http_status {
        400 => 13,             // INTERNAL
        401 => 16,             // UNAUTHENTICATED
        403 => 7,              // PERMISSION_DENIED
        404 | 405 | 421 => 12, // UNIMPLEMENTED
        408 | 504 => 4,        // DEADLINE_EXCEEDED
        413 | 431 => 8,        // RESOURCE_EXHAUSTED
        429 | 502 | 503 => 14, // UNAVAILABLE
        499 => 1,              // CANCELLED
        500 => 13,             // INTERNAL
        _ => 2,                // UNKNOWN
    }
}

/// The HTTP status that says the same as a status of gRPC, for what counts and retries by status. An unknown one is 500.
pub fn http_status(grpc_status: &[u8]) -> u16 {
    match grpc_status {
        b"0" => 200,
        b"1" => 499,
        b"3" | b"9" | b"11" => 400,
        b"4" => 504,
        b"5" | b"12" => 404,
        b"6" | b"10" => 409,
        b"7" => 403,
        b"8" => 429,
        b"14" => 503,
        b"16" => 401,
        _ => 500,
    }
}

/// Appends `grpc-message`: printable ASCII but `%`, all else percent-encoded.
pub fn push_message(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_of_grpc_by_its_whole_name() {
        for yes in ["application/grpc", "application/grpc+proto", "Application/GRPC;x=y"] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["application/grpc-web", "application/grpcx", "application/json", ""] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let check = |text: &str, expected: Option<Duration>| {
            assert_eq!(timeout(text.as_bytes()), expected, "{text}");
        };
        check("1S", Some(Duration::from_secs(1)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        check("20m", Some(Duration::from_millis(20)));
        check("20u", Some(Duration::from_micros(20)));
        check("7n", Some(Duration::from_nanos(7)));
        check("2M", Some(Duration::from_secs(120)));
        for bad in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_message_is_printable() {
        let mut out = Vec::new();
        push_message("100 % ä\n", &mut out);
        assert_eq!(out, b"100 %25 %C3%A4%0A");
    }

    #[test]
    fn failures_keep_their_meaning_both_ways() {
        for (http, grpc) in [(401, 16), (403, 7), (503, 14), (504, 4)] {
            assert_eq!(status_of(http), grpc);
            assert_eq!(http_status(grpc.to_string().as_bytes()), http);
        }
    }
}
