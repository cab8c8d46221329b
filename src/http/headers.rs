//! Reading and checking field values.

/// The elements of a comma-separated list (RFC 9110 §5.6.1) without white space around them; empty ones are skipped.
/// Not for fields whose elements may be quoted strings.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim_ows).filter(|element| !element.is_empty())
}

/// Without SP and HTAB at either end (RFC 9110 §5.6.3).
pub fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A `token` (RFC 9110 §5.6.2): what a method, a field name or a list element is made of.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

pub(super) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Whether `value` may be written as a field value: no control bytes but HTAB (RFC 9110 §5.5).
pub fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|byte| is_value_byte(*byte))
}

pub(super) const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 127)
}

/// Whether an error reply should be an HTML page rather than JSON, by the request's `Accept` (RFC 9110 §12.5.1).
///
/// Browsers name `text/html`; programs name JSON, `*/*` or nothing. HTML must be named (`text/*` counts) and liked
/// more than JSON where both are named.
pub fn prefers_html(accept: &[u8]) -> bool {
    let (mut html, mut json) = (0, 0);
    for range in list(accept) {
        let mut parts = range.split(|byte| *byte == b';').map(trim_ows);
        let kind = parts.next().unwrap_or_default();
        let quality = parts.find_map(parse_quality).unwrap_or(1000);
        let is = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
        if is("text/html") || is("application/xhtml+xml") || is("text/*") {
            html = html.max(quality);
        } else if is("application/json") || is("application/problem+json") || is("application/*") {
            json = json.max(quality);
        }
    }
    html > json
}

/// `q=0.8` in thousandths; `None` for another parameter. A malformed weight is 0.
fn parse_quality(parameter: &[u8]) -> Option<u32> {
    let [b'q' | b'Q', b'=', weight @ ..] = parameter else { return None };
    Some(match weight {
        [b'1'] => 1000,
        [b'1', b'.', zeros @ ..] if zeros.len() <= 3 && zeros.iter().all(|byte| *byte == b'0') => 1000,
        [b'0', b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => {
            let padded = digits.iter().chain(b"000").take(3);
            padded.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
        }
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_list(value: &str, expected: &[&str]) {
        let found: Vec<_> = list(value.as_bytes()).map(|element| str::from_utf8(element).unwrap()).collect();
        assert_eq!(found, expected, "{value:?}");
    }

    #[test]
    fn a_list_has_its_elements_without_white_space_and_without_empty_ones() {
        check_list("", &[]);
        check_list("close", &["close"]);
        check_list(" a ,\tb,, c ", &["a", "b", "c"]);
        check_list(", ,", &[]);
        check_list("a b", &["a b"]);
    }

    #[test]
    fn tokens_and_values_have_their_bytes() {
        for byte in 0..=255u8 {
            let separator = b"()<>@,;:\\\"/[]?={} \t".contains(&byte);
            assert_eq!(is_token(&[byte]), byte.is_ascii_graphic() && !separator, "{byte}");
            let control = byte < 32 || byte == 127;
            assert_eq!(is_field_value(&[byte]), !control || byte == b'\t', "{byte}");
        }
        assert!(!is_token(b""));
        assert!(is_field_value(b""));
    }

    fn check_html(accept: &str, expected: bool) {
        assert_eq!(prefers_html(accept.as_bytes()), expected, "{accept:?}");
    }

    #[test]
    fn browsers_get_html_and_programs_json() {
        check_html("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true);
        check_html("text/html", true);
        check_html("Text/HTML;level=1", true);
        check_html("text/*;q=0.1", true);
        check_html("", false);
        check_html("*/*", false);
        check_html("application/json, text/plain, */*", false);
        check_html("application/json, text/html", false);
        check_html("application/json;q=0.5, text/html;q=0.8", true);
        check_html("text/html;q=0", false);
        check_html("text/html;q=0.000", false);
        check_html("text/html; q=x", false);
        check_html("text/html;q=0.9, application/json;q=0.95", false);
    }
}
