//! A second reading of HTTP/1: written apart from the gateway's own, so that a mistake there is not repeated here.
//!
//! It reads only what is plain: CRLF line ends, one length or `chunked`. Whatever else arrives is an error.

use std::{fmt, ops::Deref};

/// Header lines in the order and case in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// All values of `name`, which is compared without regard to case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The value of `name`; panics when there are several.
    #[track_caller]
    pub fn one(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() <= 1, "several `{name}`: {values:?}");
        values.first().copied()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

impl Deref for Headers {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// What a client got.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub trailers: Headers,
    /// The informational heads before it.
    pub informational: Vec<(u16, Headers)>,
}

impl Reply {
    #[track_caller]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("the body is text")
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.one(name)
    }
}

/// What an upstream got.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub trailers: Headers,
    /// The head as it came, up to and with its empty line.
    pub head: Vec<u8>,
}

impl Request {
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.one(name)
    }

    /// `METHOD TARGET`, which is enough to tell requests apart.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// Bytes that are not the HTTP this module reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbled(pub String);

impl fmt::Display for Garbled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn garbled<T>(why: impl Into<String>) -> Result<T, Garbled> {
    Err(Garbled(why.into()))
}

/// The length of the head at the start of `bytes`, with its empty line.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The first line's three words and the header lines.
pub fn head(bytes: &[u8]) -> Result<([String; 3], Headers), Garbled> {
    let Ok(text) = str::from_utf8(bytes) else { return garbled("the head is not UTF-8") };
    let Some(text) = text.strip_suffix("\r\n\r\n") else { return garbled("the head has no end") };
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
    let first = [(); 3].map(|()| words.next().unwrap_or_default());
    let headers = lines.map(header).collect::<Result<_, _>>()?;
    Ok((first, Headers(headers)))
}

fn header(line: &str) -> Result<(String, String), Garbled> {
    let Some((name, value)) = line.split_once(':') else { return garbled(format!("no colon in {line:?}")) };
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) || value.contains(['\r', '\n', '\0']) {
        return garbled(format!("bad header line {line:?}"));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Exact(usize),
    Chunked,
    ToClose,
}

/// The extent that `headers` state; `otherwise` when they state none.
pub fn extent(headers: &Headers, otherwise: Extent) -> Result<Extent, Garbled> {
    match (headers.all("transfer-encoding").as_slice(), headers.all("content-length").as_slice()) {
        ([], []) => Ok(otherwise),
        ([], [length]) => match length.parse() {
            Ok(length) => Ok(Extent::Exact(length)),
            Err(_) => garbled(format!("bad length {length:?}")),
        },
        (["chunked"], []) => Ok(Extent::Chunked),
        both => garbled(format!("doubtful framing: {both:?}")),
    }
}

/// A chunked body read as far as it has arrived.
pub enum Chunked {
    Partial,
    Whole { body: Vec<u8>, trailers: Headers, used: usize },
}

/// Reads a chunked body from the start of `bytes`. Only bare sizes pass: nothing we read may carry extensions.
pub fn chunked(bytes: &[u8]) -> Result<Chunked, Garbled> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line_length) = bytes[at..].windows(2).position(|two| two == b"\r\n") else {
            return Ok(Chunked::Partial);
        };
        let line = &bytes[at..at + line_length];
        at += line_length + 2;
        let digits = str::from_utf8(line).unwrap_or("?");
        let Ok(size) = usize::from_str_radix(digits, 16) else {
            return garbled(format!("bad chunk size {:?}", String::from_utf8_lossy(line)));
        };
        if size == 0 {
            break;
        }
        let Some(rest) = bytes.get(at..at + size + 2) else { return Ok(Chunked::Partial) };
        let Some(data) = rest.strip_suffix(b"\r\n") else { return garbled("no line end after a chunk") };
        body.extend_from_slice(data);
        at += size + 2;
    }
    let mut trailers = Vec::new();
    loop {
        let Some(line_length) = bytes[at..].windows(2).position(|two| two == b"\r\n") else {
            return Ok(Chunked::Partial);
        };
        let line = &bytes[at..at + line_length];
        at += line_length + 2;
        match str::from_utf8(line) {
            Ok("") => return Ok(Chunked::Whole { body, trailers: Headers(trailers), used: at }),
            Ok(line) => trailers.push(header(line)?),
            Err(_) => return garbled("a trailer is not UTF-8"),
        }
    }
}

#[test]
fn a_chunked_body_is_whole_only_with_its_last_empty_line() {
    let text = b"4\r\nabcd\r\n1\r\ne\r\n0\r\nX-T: 1\r\n\r\n";
    for cut in 0..text.len() {
        assert!(matches!(chunked(&text[..cut]), Ok(Chunked::Partial)), "cut at {cut}");
    }
    let Ok(Chunked::Whole { body, trailers, used }) = chunked(text) else { panic!("it is whole") };
    assert_eq!((body.as_slice(), trailers.one("x-t"), used), (&b"abcde"[..], Some("1"), text.len()));
}
