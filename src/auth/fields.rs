//! What services are told about who asks: header lines from claims.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::Verified;
use crate::http::{Known, classify};

/// Renders the header lines of a token.
///
/// Values are printable ASCII: every other byte, and `%`, is percent-encoded, in lists also the comma, and a space at an end. Two
/// different claims are two different values, and no claim ends a header or adds an element to a list. A claim that is not there
/// has no header.
pub(super) fn render(verified: &Verified) -> Vec<u8> {
    let issuer = &verified.issuer;
    let mut out = Vec::new();
    for (name, claim) in &issuer.headers {
        let start = out.len();
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        let value = out.len();
        let mut texts = Vec::new();
        let is_list = verified.texts(claim, |text| texts.push(text.to_vec()));
        for (index, text) in texts.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            append(text, is_list, &mut out);
        }
        if out.len() == value {
            out.truncate(start);
        } else {
            out.extend_from_slice(b"\r\n");
        }
    }
    if let Some(name) = &issuer.identity {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(URL_SAFE_NO_PAD.encode(verified.payload()).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn append(text: &[u8], in_list: bool, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for (index, &byte) in text.iter().enumerate() {
        let at_end = index == 0 || index + 1 == text.len();
        let stays = match byte {
            b'%' => false,
            b',' => !in_list,
            b' ' => !at_end,
            _ => byte.is_ascii_graphic(),
        };
        if stays {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Whether a header of this name may carry an identity: a token, and none the gateway has a meaning for.
pub fn is_free_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let ours = ["x-forwarded-", "x-client-cert-", "cdn-loop", "sec-", "proxy-"];
    crate::http::headers::is_token(name.as_bytes())
        && !name.contains('_')
        && classify(name.as_bytes()) == Known::Other
        && !ours.iter().any(|prefix| lower.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_what_the_claim_says_and_nothing_more() {
        let check = |text: &str, in_list: bool, expected: &str| {
            let mut out = Vec::new();
            append(text.as_bytes(), in_list, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{text:?}");
        };
        check("alice@example.com", false, "alice@example.com");
        check("auth0|12 3", false, "auth0|12 3");
        check("a,b", false, "a,b");
        check("a,admin", true, "a%2Cadmin");
        check("a\r\nX-Admin: 1\0\u{7f}", false, "a%0D%0AX-Admin: 1%00%7F");
        check("é", false, "%C3%A9");
        check("100%", false, "100%25");
        check("%0A", false, "%250A");
        check(" a ", false, "%20a%20");
        check(" ", false, "%20");
    }

    #[test]
    fn names_with_a_meaning_are_not_free() {
        for name in ["X-User", "Remote-User", "X-Roles", "Tenant"] {
            assert!(is_free_name(name), "{name}");
        }
        for name in
            ["Host", "authorization", "Content-Length", "X-Forwarded-User", "X_User", "X User", "", "Cookie"]
        {
            assert!(!is_free_name(name), "{name}");
        }
    }
}
