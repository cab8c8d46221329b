//! Replies we write ourselves: fixed ones, redirects, errors.

use std::io::Write as _;

use super::{head::Version, headers::is_value_byte};

/// A complete reply with its body in memory.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    pub status: u16,
    /// Of the request. We always answer as HTTP/1.1 (RFC 9110 §6.2); this decides what `Connection` has to say.
    pub version: Version,
    pub keep_alive: bool,
    /// The request was HEAD: everything but the body.
    pub head_only: bool,
    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub date: &'a [u8],
    /// Left out when empty.
    pub content_type: &'a [u8],
    pub fields: &'a [(&'a [u8], &'a [u8])],
    pub body: &'a [u8],
}

/// A reply that was made for one request and belongs to nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub status: u16,
    /// Empty for none.
    pub content_type: String,
    /// Without framing and hop-by-hop fields.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// Appends the reply to `out`. 1xx, 204 and 304 have neither body nor Content-Length (RFC 9110 §8.6).
pub fn write_reply(reply: &Reply<'_>, out: &mut Vec<u8>) {
    let bodyless = matches!(reply.status, 100..=199 | 204 | 304);
    write_status_line(reply.status, out);
    write_field(b"Date", reply.date, out);
    if !reply.content_type.is_empty() && !bodyless {
        write_field(b"Content-Type", reply.content_type, out);
    }
    if !bodyless {
        let mut digits = [0; 20];
        write_field(b"Content-Length", decimal(reply.body.len() as u64, &mut digits), out);
    }
    if let Some(option) = connection_option(reply.version, reply.keep_alive) {
        write_field(b"Connection", option, out);
    }
    for (name, value) in reply.fields {
        write_field(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
    if !bodyless && !reply.head_only {
        out.extend_from_slice(reply.body);
    }
}

/// Hands every field of the reply to `each`, for a protocol that does not write lines, without its body.
pub fn each_field(reply: &Reply<'_>, each: impl FnMut(&[u8], &[u8])) {
    each_field_before(reply, reply.body.len() as u64, each);
}

/// The same for a reply whose body, of this length, is somewhere else.
pub fn each_field_before(reply: &Reply<'_>, length: u64, mut each: impl FnMut(&[u8], &[u8])) {
    let bodyless = matches!(reply.status, 100..=199 | 204 | 304);
    each(b"Date", reply.date);
    if !bodyless {
        if !reply.content_type.is_empty() {
            each(b"Content-Type", reply.content_type);
        }
        let mut digits = [0; 20];
        each(b"Content-Length", decimal(length, &mut digits));
    }
    for (name, value) in reply.fields {
        each(name, value);
    }
}

/// What `Connection` must say so that the client understands whether the connection stays (RFC 9112 §9.3).
pub const fn connection_option(version: Version, keep_alive: bool) -> Option<&'static [u8]> {
    match (version, keep_alive) {
        (Version::Http11, true) | (Version::Http10, false) => None,
        (Version::Http11, false) => Some(b"close"),
        (Version::Http10, true) => Some(b"keep-alive"),
    }
}

/// `HTTP/1.1 404 Not Found` and CRLF.
pub fn write_status_line(status: u16, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(decimal(u64::from(status), &mut digits));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `name: value` and CRLF. Control bytes in the value become SP (RFC 9110 §5.5): a value made from what a client sent
/// must not start a new line.
pub fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    let start = out.len();
    out.extend_from_slice(value);
    for byte in &mut out[start..] {
        if !is_value_byte(*byte) {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The decimal digits of `number`, at the end of `out`.
pub fn decimal(mut number: u64, out: &mut [u8; 20]) -> &[u8] {
    let mut start = out.len();
    loop {
        start -= 1;
        out[start] = b"0123456789"[usize::try_from(number % 10).unwrap_or_default()];
        number /= 10;
        if number == 0 {
            return &out[start..];
        }
    }
}

/// Appends the problem document (RFC 9457) for a failed request; its type is `application/problem+json`.
pub fn problem(status: u16, title: &str, detail: &str, request_id: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"about:blank\",\"title\":");
    json_string(title.as_bytes(), out);
    out.extend_from_slice(b",\"status\":");
    let mut digits = [0; 20];
    out.extend_from_slice(decimal(u64::from(status), &mut digits));
    out.extend_from_slice(b",\"detail\":");
    json_string(detail.as_bytes(), out);
    out.extend_from_slice(b",\"request_id\":");
    json_string(request_id, out);
    out.extend_from_slice(b"}\n");
}

/// Appends the page for a failed request; its type is `text/html; charset=utf-8`.
pub fn page(status: u16, title: &str, detail: &str, request_id: &[u8], out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let status = decimal(u64::from(status), &mut digits);
    out.extend_from_slice(b"<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>");
    out.extend_from_slice(status);
    out.push(b' ');
    html_text(title.as_bytes(), out);
    out.extend_from_slice(b"</title>\n<h1>");
    out.extend_from_slice(status);
    out.push(b' ');
    html_text(title.as_bytes(), out);
    out.extend_from_slice(b"</h1>\n<p>");
    html_text(detail.as_bytes(), out);
    out.extend_from_slice(b"</p>\n<p><small>Request ");
    html_text(request_id, out);
    out.extend_from_slice(b"</small></p>\n</html>\n");
}

/// Bytes that are not UTF-8 become U+FFFD, so that the document stays JSON (RFC 8259 §8.1).
fn json_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..=31 => write!(out, "\\u{byte:04x}").expect("a Vec takes what is written"),
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn html_text(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            _ => out.push(*byte),
        }
    }
}

/// The registered reason phrase of a status (IANA HTTP Status Code Registry); empty for others.
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: Reply<'static> = Reply {
        status: 200,
        version: Version::Http11,
        keep_alive: true,
        head_only: false,
        date: b"Sun, 06 Nov 1994 08:49:37 GMT",
        content_type: b"text/plain",
        fields: &[],
        body: b"pong",
    };

    fn check(reply: &Reply<'_>, expected: &str) {
        let mut out = Vec::new();
        write_reply(reply, &mut out);
        assert_eq!(str::from_utf8(&out), Ok(expected));
    }

    #[test]
    fn a_reply_is_complete() {
        check(
            &REPLY,
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong",
        );
    }

    #[test]
    fn connection_says_what_the_version_does_not() {
        let head = "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\n";
        let reply = Reply { date: b"x", content_type: b"", body: b"", ..REPLY };
        check(&reply, &format!("{head}\r\n"));
        check(&Reply { keep_alive: false, ..reply }, &format!("{head}Connection: close\r\n\r\n"));
        let old = Reply { version: Version::Http10, ..reply };
        check(&old, &format!("{head}Connection: keep-alive\r\n\r\n"));
        check(&Reply { keep_alive: false, ..old }, &format!("{head}\r\n"));
    }

    #[test]
    fn a_reply_to_head_announces_the_body_it_does_not_send() {
        let reply = Reply { date: b"x", head_only: true, ..REPLY };
        check(&reply, "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n");
    }

    #[test]
    fn replies_without_content_announce_none() {
        for (status, line) in [(204, "204 No Content"), (304, "304 Not Modified"), (103, "103 Early Hints")] {
            check(&Reply { status, date: b"x", ..REPLY }, &format!("HTTP/1.1 {line}\r\nDate: x\r\n\r\n"));
        }
    }

    #[test]
    fn a_field_value_cannot_start_a_new_line() {
        let fields: &[(&[u8], &[u8])] = &[(b"Location", b"/a\r\nSet-Cookie: b\0\x7f\t\xff")];
        let mut out = Vec::new();
        write_reply(&Reply { status: 204, date: b"x", fields, ..REPLY }, &mut out);
        assert_eq!(out, b"HTTP/1.1 204 No Content\r\nDate: x\r\nLocation: /a  Set-Cookie: b  \t\xff\r\n\r\n");
    }

    #[test]
    fn an_unregistered_status_has_an_empty_reason() {
        let mut out = Vec::new();
        write_status_line(299, &mut out);
        assert_eq!(out, b"HTTP/1.1 299 \r\n");
    }

    #[test]
    fn a_problem_is_json_whatever_it_quotes() {
        let mut out = Vec::new();
        problem(404, "Not Found", "no \"route\" \\ \n\u{e4}", b"id\xff\x01", &mut out);
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(document["status"], 404);
        assert_eq!(document["title"], "Not Found");
        assert_eq!(document["detail"], "no \"route\" \\ \n\u{e4}");
        assert_eq!(document["request_id"], "id\u{fffd}\u{1}");
        assert_eq!(document["type"], "about:blank");
    }

    #[test]
    fn a_page_quotes_no_markup() {
        let mut out = Vec::new();
        page(502, "Bad <Gateway>", "a & b 'c'", b"\"id\"", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("<h1>502 Bad &lt;Gateway&gt;</h1>\n<p>a &amp; b &#39;c&#39;</p>"), "{text}");
        assert!(text.contains("Request &quot;id&quot;<"), "{text}");
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 65_535, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
