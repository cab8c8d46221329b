//! Heads on their way through: a request as the service gets it, a response as the client gets it.
//!
//! Heads are written anew, never patched: a field that was not understood as forwardable is not in the result. Fields keep
//! their order, their repetition and the case of their names; runs of fields that lie as they should be written
//! (`Name: value` CR LF) are copied in one piece.

use super::{BodyLength, Field, FieldNames, Known, Span};

/// A request head as the service is to get it.
pub struct Onward<'a> {
    /// The received head, to which the spans of `fields` refer.
    pub bytes: &'a [u8],
    pub fields: &'a [Field],
    pub method: &'a [u8],
    /// Put before `path`: the path of the server's URL, without a slash at its end.
    pub prefix: &'a [u8],
    pub path: &'a [u8],
    pub query: Option<&'a [u8]>,
    /// Replaces the client's Host.
    pub host: Option<&'a [u8]>,
    /// Header lines of ours, each with its line end.
    pub extra: &'a [u8],
    pub forwarded: Forwarded<'a>,
    pub bearer: Bearer<'a>,
    /// A request id made here; `None` passes the client's on.
    pub request_id: Option<&'a [u8]>,
    /// How the body is framed: `Chunked` adds the coding, a length stays as the client wrote it.
    pub body: BodyLength,
    /// Asks for this protocol (RFC 9110 §7.8).
    pub upgrade: Option<&'a [u8]>,
    /// Passes `Expect` on.
    pub expect: bool,
    /// A field that recognises requests that come back (RFC 8586), where the endpoint is one of our own listeners.
    pub loop_mark: Option<&'a [u8]>,
}

/// What the service learns about the client.
pub struct Forwarded<'a> {
    /// The address of the connection's peer.
    pub peer: &'a [u8],
    pub proto: &'a [u8],
    /// The Host the client asked for.
    pub host: &'a [u8],
    /// The peer is a trusted proxy: what it says is kept and our word is added to it.
    pub trusted: bool,
    /// The client's certificate, where it proved to have one: its subject and its fingerprint.
    pub certificate: Option<(&'a [u8], &'a [u8])>,
}

/// What the service learns about who asks, by the request's token.
#[derive(Clone, Copy)]
pub struct Bearer<'a> {
    /// Header lines, each with its line end.
    pub lines: &'a [u8],
    /// Fields that only the gateway may set.
    pub reserved: &'a FieldNames,
    pub without: Without<'a>,
}

impl<'a> Bearer<'a> {
    /// Names and values of the lines.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.lines.split(|byte| *byte == b'\n').filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// Whether what a client sent under this name is not passed on.
    pub fn hides(&self, name: &[u8]) -> bool {
        let token: &[u8] = match self.without {
            Without::Nothing => b"",
            Without::Authorization => b"authorization",
            Without::Field(name) => name,
            // All of them, where they are one value.
            Without::Cookie(_) => b"cookie",
        };
        self.reserved.contains(name) || name.eq_ignore_ascii_case(token)
    }
}

/// Where the token lay that is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without<'a> {
    /// It is passed on, or there is none.
    Nothing,
    Authorization,
    /// In the field of this name, in lower case.
    Field(&'a [u8]),
    /// In the cookie of this name.
    Cookie(&'a [u8]),
}

/// Begins the names of the fields that tell services of a client's certificate. Nobody but us and trusted proxies may send them.
const CERTIFICATE_FIELDS: &[u8] = b"X-Client-Cert-";

/// Appends the head.
#[expect(clippy::wildcard_enum_match_arm, reason = "what has no meaning here is passed on")]
pub fn write_request(out: &mut Vec<u8>, onward: &Onward<'_>) {
    out.reserve(onward.bytes.len() + onward.prefix.len() + onward.path.len() + 384);
    put(out, &[onward.method, b" ", onward.prefix, onward.path]);
    if let Some(query) = onward.query {
        put(out, &[b"?", query]);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(host) = onward.host {
        put(out, &[b"Host: ", host, b"\r\n"]);
    }
    let trusted = onward.forwarded.trusted;
    copy_fields(out, onward.bytes, onward.fields, |field| match field.known {
        Known::Host => onward.host.is_none(),
        Known::XForwardedFor => false,
        Known::XForwardedProto | Known::XForwardedHost | Known::XForwardedPort | Known::Forwarded => trusted,
        Known::XRequestId => onward.request_id.is_none(),
        Known::Expect => onward.expect,
        Known::Authorization => onward.bearer.without != Without::Authorization,
        Known::Cookie => !matches!(onward.bearer.without, Without::Cookie(_)),
        Known::Other => {
            let name = field.name.of(onward.bytes);
            (trusted || !is_forwarded_with_underscores(name))
                && (!is_certificate_field(name) || (trusted && onward.forwarded.certificate.is_none()))
                && !onward.bearer.reserved.contains(name)
                && !matches!(onward.bearer.without, Without::Field(token) if name.eq_ignore_ascii_case(token))
        }
        _ => true,
    });
    forwarded(out, onward);
    if let Some(id) = onward.request_id {
        put(out, &[b"X-Request-Id: ", id, b"\r\n"]);
    }
    if let Without::Cookie(name) = onward.bearer.without {
        other_cookies(out, onward, name);
    }
    out.extend_from_slice(onward.bearer.lines);
    out.extend_from_slice(onward.extra);
    if onward.body == BodyLength::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(protocol) = onward.upgrade {
        put(out, &[b"Connection: upgrade\r\nUpgrade: ", protocol, b"\r\n"]);
    }
    if let Some(mark) = onward.loop_mark {
        put(out, &[b"CDN-Loop: ", mark, b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The cookies but the one of this name.
fn other_cookies(out: &mut Vec<u8>, onward: &Onward<'_>, name: &[u8]) {
    for field in onward.fields.iter().filter(|field| field.known == Known::Cookie && !field.hop) {
        let start = out.len();
        let is_it = |pair: &[u8]| pair.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"="));
        let pairs = field.value.of(onward.bytes).split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        for pair in pairs.filter(|pair| !pair.is_empty() && !is_it(pair)) {
            put(out, &[if out.len() == start { b"Cookie: " } else { b"; " }, pair]);
        }
        if out.len() > start {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Many services read `_` for `-`.
fn is_certificate_field(name: &[u8]) -> bool {
    let same = |(byte, ours): (&u8, &u8)| byte.eq_ignore_ascii_case(ours) || (*byte, *ours) == (b'_', b'-');
    name.len() >= CERTIFICATE_FIELDS.len() && name.iter().zip(CERTIFICATE_FIELDS).all(same)
}

/// Whether a name is `X-Forwarded-…` with an underscore somewhere. CGI and its heirs read both as one name, so what a stranger
/// writes there would stand beside our word, or in its place.
fn is_forwarded_with_underscores(name: &[u8]) -> bool {
    const START: &[u8] = b"x-forwarded-";
    name.len() > START.len()
        && name.contains(&b'_')
        && name.iter().zip(START).all(|(byte, wanted)| match byte {
            b'_' => *wanted == b'-',
            byte => byte.to_ascii_lowercase() == *wanted,
        })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "other fields are none of its business")]
fn forwarded(out: &mut Vec<u8>, onward: &Onward<'_>) {
    let Forwarded { peer, proto, host, trusted, certificate } = onward.forwarded;
    out.extend_from_slice(b"X-Forwarded-For: ");
    let (mut has_proto, mut has_host) = (false, false);
    if trusted {
        for field in onward.fields.iter().filter(|field| !field.hop) {
            match field.known {
                Known::XForwardedFor if field.value.len > 0 => {
                    put(out, &[field.value.of(onward.bytes), b", "]);
                }
                Known::XForwardedProto => has_proto = true,
                Known::XForwardedHost => has_host = true,
                _ => {}
            }
        }
    }
    put(out, &[peer, b"\r\n"]);
    if !has_proto {
        put(out, &[b"X-Forwarded-Proto: ", proto, b"\r\n"]);
    }
    if !has_host && !host.is_empty() {
        put(out, &[b"X-Forwarded-Host: ", host, b"\r\n"]);
    }
    if let Some((subject, fingerprint)) = certificate {
        put(out, &[b"X-Client-Cert-Verified: SUCCESS\r\nX-Client-Cert-Subject: ", subject]);
        put(out, &[b"\r\nX-Client-Cert-Fingerprint: ", fingerprint, b"\r\n"]);
    }
}

/// A response head as the client is to get it.
pub struct Return<'a> {
    pub bytes: &'a [u8],
    pub fields: &'a [Field],
    pub status: u16,
    pub reason: &'a [u8],
    pub framing: ReplyFraming,
    pub connection: ConnectionField<'a>,
    /// Echoed, unless the service sent one itself.
    pub request_id: Option<&'a [u8]>,
    /// The date, for a service that sent none (RFC 9110 §6.6.1).
    pub date: &'a [u8],
}

/// How a reply's body is framed towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFraming {
    /// What the service said about the length stays as it is: a length, or no body at all.
    AsReceived,
    Chunked,
    /// The end of the connection is the end of the body.
    UntilClose,
}

/// What the reply says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionField<'a> {
    /// Nothing: persistent, as HTTP/1.1 has it.
    Absent,
    /// Persistent, said aloud for HTTP/1.0.
    KeepAlive,
    Close,
    /// The protocol changes to this one.
    Upgrade(&'a [u8]),
}

/// Hands every field of the reply to `each`, for a protocol that does not write lines.
pub fn each_reply_field(reply: &Return<'_>, mut each: impl FnMut(&[u8], &[u8])) {
    let mut seen = Seen::default();
    for field in reply.fields {
        if !field.hop && seen.keeps(field, reply) {
            each(field.name.of(reply.bytes), field.value.of(reply.bytes));
        }
    }
    seen.missing(reply, each);
}

/// What the service said itself.
#[derive(Default)]
struct Seen {
    date: bool,
    id: bool,
}

impl Seen {
    #[inline]
    #[expect(clippy::wildcard_enum_match_arm, reason = "what has no meaning here is passed on")]
    fn keeps(&mut self, field: &Field, reply: &Return<'_>) -> bool {
        match field.known {
            Known::Date => self.date = true,
            Known::XRequestId => self.id = true,
            // A length beside a coding, or on a reply that ends with the connection, would contradict it.
            // A 204 must not have one (RFC 9110 §8.6).
            Known::ContentLength => return reply.framing == ReplyFraming::AsReceived && reply.status != 204,
            _ => {}
        }
        true
    }

    /// What we say in its place.
    #[inline]
    fn missing(&self, reply: &Return<'_>, mut each: impl FnMut(&[u8], &[u8])) {
        if !self.date {
            each(b"Date", reply.date);
        }
        if let (false, Some(id)) = (self.id, reply.request_id) {
            each(b"X-Request-Id", id);
        }
    }
}

/// Appends the head.
pub fn write_reply(out: &mut Vec<u8>, reply: &Return<'_>) {
    out.reserve(reply.bytes.len() + reply.reason.len() + 256);
    out.extend_from_slice(b"HTTP/1.1 ");
    push_status(out, reply.status);
    put(out, &[b" ", reply.reason, b"\r\n"]);
    let mut seen = Seen::default();
    copy_fields(out, reply.bytes, reply.fields, |field| seen.keeps(field, reply));
    seen.missing(reply, |name, value| put(out, &[name, b": ", value, b"\r\n"]));
    if reply.framing == ReplyFraming::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    match reply.connection {
        ConnectionField::Absent => {}
        ConnectionField::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        ConnectionField::Close => out.extend_from_slice(b"Connection: close\r\n"),
        ConnectionField::Upgrade(protocol) => {
            put(out, &[b"Connection: upgrade\r\nUpgrade: ", protocol, b"\r\n"]);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an informational response (RFC 9110 §15.2) as it came.
pub fn write_informational(out: &mut Vec<u8>, status: u16, reason: &[u8], bytes: &[u8], fields: &[Field]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_status(out, status);
    put(out, &[b" ", reason, b"\r\n"]);
    copy_fields(out, bytes, fields, |_| true);
    out.extend_from_slice(b"\r\n");
}

/// Appends trailer fields and the blank line behind them.
pub fn write_trailers(out: &mut Vec<u8>, bytes: &[u8], fields: &[Field]) {
    copy_fields(out, bytes, fields, |_| true);
    out.extend_from_slice(b"\r\n");
}

/// Appends the fields that may be forwarded and that `keep` keeps.
fn copy_fields(out: &mut Vec<u8>, bytes: &[u8], fields: &[Field], mut keep: impl FnMut(&Field) -> bool) {
    let mut run = 0..0;
    for field in fields {
        if field.hop || !keep(field) {
            continue;
        }
        let (start, name_end) = ends(field.name);
        let (value_start, end) = ends(field.value);
        let lies_right = value_start == name_end + 2
            && bytes[name_end + 1] == b' '
            && bytes.get(end..end + 2) == Some(b"\r\n");
        if lies_right && run.end == start {
            run.end = end + 2;
            continue;
        }
        out.extend_from_slice(&bytes[run]);
        if lies_right {
            run = start..end + 2;
        } else {
            run = 0..0;
            put(out, &[&bytes[start..name_end], b": ", &bytes[value_start..end], b"\r\n"]);
        }
    }
    out.extend_from_slice(&bytes[run]);
}

fn ends(span: Span) -> (usize, usize) {
    (usize::from(span.start), usize::from(span.start) + usize::from(span.len))
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn push_status(out: &mut Vec<u8>, status: u16) {
    let digit = |value: u16| b'0' + u8::try_from(value % 10).unwrap_or_default();
    out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status)]);
}
