//! What a parsed head says. The parsers are in `request` and `response`.

use std::fmt;

use super::{framing::BadFraming, framing::BodyLength, known::Known};

/// A range of a head in the buffer it was parsed from. Heads are at most [`HEAD_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u16,
    pub len: u16,
}

/// The longest head whose places fit a [`Span`]; a larger `Rules::head_bytes_max` means this.
pub const HEAD_BYTES_MAX: usize = u16::MAX as usize;
/// The most fields a head may have; a larger `Rules::headers_max` means this.
pub const HEADERS_MAX: usize = 1000;
/// The longest method (the longest registered one, `UPDATEREDIRECTREF`, has 17 bytes).
pub const METHOD_BYTES_MAX: usize = 32;
/// Empty lines ignored before a request line (RFC 9112 §2.2 asks for at least one).
pub const EMPTY_LINES_MAX: usize = 4;
/// Options of `Connection` besides `close`, `keep-alive` and `upgrade`. Each is looked for among all fields.
pub const CONNECTION_OPTIONS_MAX: usize = 32;

impl Span {
    /// The bytes of the span. Panics when `bytes` is not (the start of) the buffer the span was made from.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..self.end()]
    }

    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The offset just after the span.
    #[inline]
    pub fn end(self) -> usize {
        usize::from(self.start) + usize::from(self.len)
    }

    /// The span of `part`, which is a slice of the buffer that starts at address `base`.
    #[inline]
    pub(super) fn within(base: usize, part: &[u8]) -> Self {
        Self::new(part.as_ptr().addr() - base, part.len())
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "parsers look at no more than HEAD_BYTES_MAX bytes")]
    pub(super) fn new(start: usize, len: usize) -> Self {
        debug_assert!(start + len <= HEAD_BYTES_MAX, "a span past the longest head");
        Self { start: start as u16, len: len as u16 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    Http11,
}

/// A request method (RFC 9110 §9, RFC 5789). Names are case-sensitive; `Other` is spelled in the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

impl Method {
    pub fn of(text: &[u8]) -> Self {
        match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// The name as sent; `OTHER` for [`Method::Other`], which is meant for labels only.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other => "OTHER",
        }
    }

    /// Whether the method only reads (RFC 9110 §9.2.1). An unknown one may do anything.
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether sending it twice means what sending it once means (RFC 9110 §9.2.2).
    pub const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

/// One field line. `value` has no white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    pub value: Span,
    pub known: Known,
    /// Must not be forwarded: hop-by-hop by its name, or named by `Connection` (RFC 9110 §7.6.1). In a trailer
    /// section: not allowed there (RFC 9110 §6.5.1).
    pub hop: bool,
}

/// The request target's form (RFC 9112 §3.2). A `path` is as received and not normalised; `query` is what follows
/// the first `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Origin {
        path: Span,
        query: Span,
        has_query: bool,
    },
    /// `path` is empty in `http://host` and `http://host?query`.
    Absolute {
        authority: Span,
        path: Span,
        query: Span,
        has_query: bool,
        https: bool,
    },
    /// `host:port`, only with CONNECT.
    Authority,
    /// `*`, only with OPTIONS.
    Asterisk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: Method,
    pub method_text: Span,
    pub target: Target,
    pub target_text: Span,
    pub version: Version,
    /// Host's value, or the authority of an absolute-form target, which replaces it (RFC 9112 §3.2.2): forward this,
    /// not the field's own value. Empty when an HTTP/1.0 request has neither.
    pub host: Span,
    pub body: BodyLength,
    /// What version and `Connection` say (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// `Expect: 100-continue` in HTTP/1.1 (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// The value of the only `Upgrade` field, when `Connection` names it and the version is 1.1.
    pub upgrade: Option<Span>,
    /// Bytes up to and including the empty line, and including empty lines before the request line.
    pub len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// 100..=999.
    pub status: u16,
    pub reason: Span,
    pub version: Version,
    pub body: BodyLength,
    /// What version and `Connection` say; false as well when the body ends with the connection, and after a 204 that
    /// announces a body.
    pub keep_alive: bool,
    /// `Connection` names `upgrade` and an `Upgrade` field is there (HTTP/1.1).
    pub upgrade: bool,
    /// Bytes up to and including the empty line.
    pub len: usize,
}

/// Bounds and strictness of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The whole head, in bytes; at most [`HEAD_BYTES_MAX`] counts.
    pub head_bytes_max: usize,
    /// The request target, or one field line, in bytes.
    pub line_bytes_max: usize,
    /// Fields; at most [`HEADERS_MAX`] counts.
    pub headers_max: usize,
    /// Bare LF ends a line as CRLF does.
    pub lenient: bool,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// The first line is not one of HTTP.
    Malformed,
    /// Not a token, or longer than [`METHOD_BYTES_MAX`].
    BadMethod,
    /// Bytes that are not visible ASCII, a fragment, or a form that does not go with the method.
    BadTarget,
    TargetTooLong,
    LineTooLong,
    HeadTooLong,
    TooManyHeaders,
    /// Neither HTTP/1.0 nor HTTP/1.1; also HTTP/0.9 and the preface of HTTP/2.
    UnsupportedVersion,
    /// Not three digits from 100 up.
    BadStatus,
    /// Not a token; white space before the colon; a folded line.
    BadFieldName,
    /// NUL or another control byte.
    BadFieldValue,
    /// CR without LF.
    BareCr,
    /// LF without CR.
    BareLf,
    /// HTTP/1.1 without Host.
    MissingHost,
    TwoHosts,
    BadHost,
    /// `Connection` has more than [`CONNECTION_OPTIONS_MAX`] options.
    TooManyOptions,
    BadFraming(BadFraming),
}

impl fmt::Display for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the first line is not one of HTTP",
            Self::BadMethod => "the method is not a token of at most 32 bytes",
            Self::BadTarget => "the request target is malformed or does not go with the method",
            Self::TargetTooLong => "the request target is too long",
            Self::LineTooLong => "a header line is too long",
            Self::HeadTooLong => "the head is too large",
            Self::TooManyHeaders => "there are too many header fields",
            Self::UnsupportedVersion => "only HTTP/1.0 and HTTP/1.1 are understood here",
            Self::BadStatus => "the status is not a number from 100 to 999",
            Self::BadFieldName => {
                "a header name is malformed, followed by white space, or its line is folded"
            }
            Self::BadFieldValue => "a header value has a control character",
            Self::BareCr => "a line of the head has CR without LF",
            Self::BareLf => "a line of the head ends with LF, not CR LF",
            Self::MissingHost => "the Host header is missing",
            Self::TwoHosts => "there is more than one Host header",
            Self::BadHost => "the Host header is malformed",
            Self::TooManyOptions => "Connection names too many headers",
            Self::BadFraming(why) => return why.fmt(f),
        })
    }
}

impl std::error::Error for BadHead {}

impl From<BadFraming> for BadHead {
    fn from(why: BadFraming) -> Self {
        Self::BadFraming(why)
    }
}
