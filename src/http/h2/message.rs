//! Decoded fields become a head as HTTP/1.1's parsers give it (RFC 9113 §8).

use super::{
    BadMessage, Message,
    hpack::{Decoded, Kind, Pseudo},
};
use crate::http::{
    BadHead, BodyLength, Field, Known, Method, RequestHead, ResponseHead, Rules, Span, Target, Version,
    authority_is_valid,
    framing::{self, Values},
    head::{HEAD_BYTES_MAX, METHOD_BYTES_MAX},
    headers, target,
    trailers::is_forbidden,
};

/// What a field adds to the size of a list (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// The longest authority: it is written twice, where other fields are written in less than they count.
const AUTHORITY_BYTES_MAX: usize = 1024;
/// Room in `HEAD_BYTES_MAX` for that.
const SPARE_BYTES: usize = 2 * AUTHORITY_BYTES_MAX;

/// What kind of section is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Request,
    Response,
    Trailers,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed(BadMessage),
    TooLarge(BadHead),
}

/// Takes the fields of one section, in order.
///
/// After a first fault fields are only counted: the decoder must see the whole block, and so must we for what weighs more. A
/// malformed section is malformed also when it is too large.
pub(super) struct Builder<'m> {
    message: &'m mut Message,
    /// Cookie fields, joined.
    cookies: &'m mut Vec<u8>,
    /// Where the head begins in `message.bytes`.
    base: usize,
    section: Section,
    rules: Rules,
    size: usize,
    count: usize,
    bad: Option<BadMessage>,
    large: Option<BadHead>,
    fields_began: bool,
    method: Option<Span>,
    scheme: bool,
    authority: Option<Span>,
    path: Option<Span>,
    protocol: Option<Span>,
    status: Option<u16>,
    /// What a Host field said.
    host: Option<Span>,
    lengths: u32,
    length: Option<Span>,
    expect_continue: bool,
}

impl<'m> Builder<'m> {
    pub(super) fn new(
        message: &'m mut Message,
        cookies: &'m mut Vec<u8>,
        section: Section,
        rules: &Rules,
    ) -> Self {
        message.fields.clear();
        cookies.clear();
        let rules =
            Rules { head_bytes_max: rules.head_bytes_max.min(HEAD_BYTES_MAX - SPARE_BYTES), ..*rules };
        Self {
            base: message.bytes.len(),
            message,
            cookies,
            section,
            rules,
            size: 0,
            count: 0,
            bad: None,
            large: None,
            fields_began: false,
            method: None,
            scheme: false,
            authority: None,
            path: None,
            protocol: None,
            status: None,
            host: None,
            lengths: 0,
            length: None,
            expect_continue: false,
        }
    }

    /// One field.
    pub(super) fn field(&mut self, field: Decoded<'_>) {
        self.size += field.name.len() + field.value.len() + FIELD_OVERHEAD;
        if let Kind::Field(_) = field.kind {
            self.count += 1;
        }
        if self.count > self.rules.headers_max {
            self.too_large(BadHead::TooManyHeaders);
        } else if self.size > self.rules.head_bytes_max {
            self.too_large(BadHead::HeadTooLong);
        }
        if let Err(bad) = self.take(field) {
            self.bad.get_or_insert(bad);
        }
    }

    fn too_large(&mut self, why: BadHead) {
        self.large.get_or_insert(why);
    }

    fn take(&mut self, field: Decoded<'_>) -> Result<(), BadMessage> {
        match field.kind {
            Kind::BadName => Err(BadMessage::FieldName),
            Kind::UnknownPseudo => Err(BadMessage::UnknownPseudo),
            _ if !field.clean => Err(BadMessage::FieldValue),
            Kind::Pseudo(pseudo) => self.pseudo(pseudo, field.value),
            Kind::Field(known) => self.regular(known, field.name, field.value),
        }
    }

    fn pseudo(&mut self, pseudo: Pseudo, value: &[u8]) -> Result<(), BadMessage> {
        if self.section == Section::Trailers
            || (self.section == Section::Response) != (pseudo == Pseudo::Status)
        {
            return Err(BadMessage::UnknownPseudo);
        }
        if self.fields_began {
            return Err(BadMessage::LatePseudo);
        }
        if pseudo == Pseudo::Path && value.len() > self.rules.line_bytes_max {
            self.too_large(BadHead::TargetTooLong);
        } else if value.len() > self.rules.line_bytes_max {
            self.too_large(BadHead::LineTooLong);
        }
        if self.large.is_some() {
            return Ok(());
        }
        let first = match pseudo {
            Pseudo::Method => {
                if value.len() > METHOD_BYTES_MAX || !headers::is_token(value) {
                    return Err(BadMessage::Method);
                }
                let span = self.append(value);
                self.method.replace(span).is_none()
            }
            Pseudo::Scheme => {
                if !value.eq_ignore_ascii_case(b"https") && !value.eq_ignore_ascii_case(b"http") {
                    return Err(BadMessage::Scheme);
                }
                !std::mem::replace(&mut self.scheme, true)
            }
            Pseudo::Authority => {
                if value.len() > AUTHORITY_BYTES_MAX || !authority_is_valid(value) {
                    return Err(BadMessage::Authority);
                }
                let span = self.append(value);
                self.authority.replace(span).is_none()
            }
            Pseudo::Path => {
                if value.is_empty() || !value.iter().all(u8::is_ascii_graphic) {
                    return Err(BadMessage::Path);
                }
                let span = self.append(value);
                self.path.replace(span).is_none()
            }
            Pseudo::Protocol => {
                if !headers::is_token(value) {
                    return Err(BadMessage::Method);
                }
                let span = self.append(value);
                self.protocol.replace(span).is_none()
            }
            Pseudo::Status => {
                let digits: &[u8; 3] = value.try_into().map_err(|_| BadMessage::Status)?;
                if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' {
                    return Err(BadMessage::Status);
                }
                let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
                self.status.replace(status).is_none()
            }
        };
        if first { Ok(()) } else { Err(BadMessage::TwoPseudo) }
    }

    fn regular(&mut self, known: Known, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        self.begin_fields();
        #[expect(clippy::wildcard_enum_match_arm, reason = "most fields say nothing about their head")]
        match known {
            // RFC 9113 §8.2.2
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade => return Err(BadMessage::ConnectionField),
            Known::Te if !value.eq_ignore_ascii_case(b"trailers") => return Err(BadMessage::Te),
            _ => {}
        }
        if name.len() + value.len() + 4 > self.rules.line_bytes_max {
            self.too_large(BadHead::LineTooLong);
        }
        if self.large.is_some() {
            return Ok(());
        }
        if self.section == Section::Trailers {
            self.line(known, name, value);
            return Ok(());
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "most fields say nothing about their head")]
        match known {
            // What `:authority` said is there already (RFC 9113 §8.3.1).
            Known::Host if self.section == Section::Request => {
                return self.take_host(name, value);
            }
            // RFC 9113 §8.2.3: one field for those who do not know crumbs.
            Known::Cookie => {
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value);
                return Ok(());
            }
            Known::ContentLength => {
                self.lengths += 1;
                let value = self.line(known, name, value);
                self.length = Some(value);
                return Ok(());
            }
            Known::Expect => self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        self.line(known, name, value);
        Ok(())
    }

    fn take_host(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        let span = match self.authority {
            _ if self.host.is_some() => return Err(BadMessage::Host),
            Some(authority) => {
                if !value.eq_ignore_ascii_case(authority.of(&self.message.bytes[self.base..])) {
                    return Err(BadMessage::Host);
                }
                authority
            }
            None if authority_is_valid(value) => self.line(Known::Host, name, value),
            None => return Err(BadMessage::Host),
        };
        self.host = Some(span);
        Ok(())
    }

    /// The first field, or the end of a section without any: Host is written from `:authority`, for services that know no other.
    fn begin_fields(&mut self) {
        if std::mem::replace(&mut self.fields_began, true) {
            return;
        }
        let bytes = &mut self.message.bytes;
        if self.section != Section::Trailers {
            bytes.extend_from_slice(b"\r\n");
        }
        let Some(authority) = self.authority else { return };
        let name = Span::new(bytes.len() - self.base, 4);
        bytes.extend_from_slice(b"host: ");
        let start = bytes.len();
        bytes.extend_from_within(self.base + usize::from(authority.start)..self.base + authority.end());
        let value = Span::new(start - self.base, bytes.len() - start);
        bytes.extend_from_slice(b"\r\n");
        self.message.fields.push(Field { name, value, known: Known::Host, hop: false });
    }

    fn append(&mut self, value: &[u8]) -> Span {
        let bytes = &mut self.message.bytes;
        let span = Span::new(bytes.len() - self.base, value.len());
        bytes.extend_from_slice(value);
        bytes.push(b' ');
        span
    }

    /// Writes one field as a line; the span of its value.
    #[inline]
    fn line(&mut self, known: Known, name: &[u8], value: &[u8]) -> Span {
        let bytes = &mut self.message.bytes;
        let start = bytes.len() - self.base;
        bytes.reserve(name.len() + value.len() + 4);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
        let name_span = Span::new(start, name.len());
        let value_span = Span::new(start + name.len() + 2, value.len());
        let hop = match self.section {
            Section::Request | Section::Response => known.is_hop(),
            Section::Trailers => known != Known::Other || is_forbidden(name),
        };
        self.message.fields.push(Field { name: name_span, value: value_span, known, hop });
        value_span
    }

    /// The end of the section: whether it is acceptable.
    fn finish(&mut self) -> Result<(), Refusal> {
        self.begin_fields();
        if !self.cookies.is_empty() {
            let cookies = std::mem::take(self.cookies);
            self.line(Known::Cookie, b"cookie", &cookies);
            *self.cookies = cookies;
        }
        self.message.bytes.extend_from_slice(b"\r\n");
        match (self.bad, self.large) {
            (Some(bad), _) => Err(Refusal::Malformed(bad)),
            (None, Some(large)) => Err(Refusal::TooLarge(large)),
            (None, None) => Ok(()),
        }
    }

    /// Undoes what was written.
    fn refuse<T>(self, refusal: Refusal) -> Result<T, Refusal> {
        self.message.bytes.truncate(self.base);
        self.message.fields.clear();
        Err(refusal)
    }

    /// The head of a request, and whether it is an extended CONNECT, if that `may` be. `ends` = nothing follows.
    pub(super) fn request(mut self, ends: bool, may: bool) -> Result<(RequestHead, bool), Refusal> {
        if self.protocol.is_some() && !may {
            self.bad.get_or_insert(BadMessage::UnknownPseudo);
        }
        match self.finish().and_then(|()| self.request_head(ends).map_err(Refusal::Malformed)) {
            Ok(head) => Ok(head),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn request_head(&mut self, ends: bool) -> Result<(RequestHead, bool), BadMessage> {
        let method_text = self.method.ok_or(BadMessage::MissingPseudo)?;
        let method = Method::of(method_text.of(&self.message.bytes[self.base..]));
        let extended = self.protocol.is_some();
        // RFC 9113 §8.3.1, §8.5; RFC 8441 §4
        let tunnel = method == Method::Connect && !extended;
        let pseudo_are_there = if tunnel {
            self.authority.is_some() && !self.scheme && self.path.is_none()
        } else {
            self.scheme && self.path.is_some()
        };
        if !pseudo_are_there || (extended && (method != Method::Connect || self.authority.is_none())) {
            return Err(BadMessage::MissingPseudo);
        }
        let host = self.authority.or(self.host).ok_or(BadMessage::MissingPseudo)?;
        let (target, target_text) = match self.path {
            None => (Target::Authority, host),
            Some(path) => {
                let asked = if extended { Method::Get } else { method };
                let target = target::parse(asked, path, &self.message.bytes[self.base..]);
                match target {
                    Ok(target @ (Target::Origin { .. } | Target::Asterisk)) => (target, path),
                    Ok(Target::Absolute { .. } | Target::Authority) | Err(_) => return Err(BadMessage::Path),
                }
            }
        };
        if tunnel
            && !matches!(target::parse(method, host, &self.message.bytes[self.base..]), Ok(Target::Authority))
        {
            return Err(BadMessage::Authority); // A tunnel's end has a port.
        }
        let announced = framing::request_body(Version::Http11, Values::None, self.lengths())
            .map_err(|_| BadMessage::Length)?;
        let body = match (self.lengths, announced) {
            // RFC 8441: what follows is no body, but the tunnel.
            _ if extended => BodyLength::Exact(0),
            (0, _) if ends => BodyLength::Exact(0),
            (0, _) => BodyLength::Chunked,
            (_, BodyLength::Exact(1..)) if ends => return Err(BadMessage::LengthMismatch),
            (_, announced) => announced,
        };
        // An extended CONNECT is what HTTP/1.1 calls an upgrade, which is asked for with GET.
        let (method, method_text) = if extended {
            let start = self.message.bytes.len() - self.base;
            self.message.bytes.extend_from_slice(b"GET");
            (Method::Get, Span::new(start, 3))
        } else {
            (method, method_text)
        };
        let head = RequestHead {
            method,
            method_text,
            target,
            target_text,
            version: Version::Http11,
            host,
            body,
            keep_alive: true,
            expect_continue: self.expect_continue,
            upgrade: self.protocol,
            len: self.message.bytes.len() - self.base,
        };
        Ok((head, extended))
    }

    /// The head of a response to a request with this method. `ends` = nothing follows.
    pub(super) fn response(mut self, method: Method, ends: bool) -> Result<ResponseHead, Refusal> {
        match self.finish().and_then(|()| self.response_head(method, ends).map_err(Refusal::Malformed)) {
            Ok(head) => Ok(head),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn response_head(&mut self, method: Method, ends: bool) -> Result<ResponseHead, BadMessage> {
        let status = self.status.ok_or(BadMessage::MissingPseudo)?;
        // RFC 9113 §8.6: there is no upgrade. §8.1: an informational response does not end anything.
        if status == 101 || (status < 200 && ends) {
            return Err(BadMessage::Status);
        }
        let (body, _) = framing::response_body(method, status, Version::Http11, Values::None, self.lengths())
            .map_err(|_| BadMessage::Length)?;
        let body = match body {
            BodyLength::Exact(1..) if ends => return Err(BadMessage::LengthMismatch),
            BodyLength::UntilClose if ends => BodyLength::Exact(0),
            BodyLength::UntilClose => BodyLength::Chunked,
            body @ (BodyLength::Exact(_) | BodyLength::Chunked) => body,
        };
        Ok(ResponseHead {
            status,
            reason: Span::default(),
            version: Version::Http11,
            body,
            keep_alive: true,
            upgrade: false,
            len: self.message.bytes.len() - self.base,
        })
    }

    /// Trailer fields.
    pub(super) fn trailers(mut self) -> Result<(), Refusal> {
        match self.finish() {
            Ok(()) => Ok(()),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn lengths(&self) -> Values<'_> {
        match (self.lengths, self.length) {
            (0, _) | (_, None) => Values::None,
            (1, Some(span)) => Values::One(span.of(&self.message.bytes[self.base..])),
            (_, Some(_)) => Values::Several,
        }
    }
}
