//! A request while it is served: its head in the connection's buffer, and what was found out about it.

use std::{borrow::Cow, net::SocketAddr, rc::Rc, time::Duration};

use super::{Client, Identity};
use crate::{
    auth::Verified,
    balance::{self, Policy},
    failure::{ClientFault, Failure},
    http::{
        BodyLength, Decoder, Field, Known, Normal, RequestHead, Span, Target, grpc, head::Version, id,
        normalise, path,
    },
    limits::RETRY_BODY_BYTES_MAX,
    observe::Protocol,
    route::{Captures, Found, Index},
    runtime::{Idle, IoFault},
    shard::Shard,
    snapshot::{Route, Service, Snapshot},
    template::{Escape, Template, Variable},
    transform,
    upstream::{Pace, Upload, UploadEnd, Uploaded},
    wire::Outbound,
};

/// One request of a connection.
pub struct Request<'c> {
    pub head: RequestHead,
    pub client: &'c mut Client,
    pub body: BodyState,
    id: RequestId,
    path: Path,
    /// What the request's token says, once it was checked.
    pub verified: Option<Rc<Verified>>,
    pub facts: Facts,
}

/// How far the body has been dealt with.
pub enum BodyState {
    /// Nothing was done with it; what has arrived lies behind the head.
    Untouched,
    /// All of it lies behind the head, this many bytes.
    Whole(usize),
    /// It is being passed on, or was: [`Request::finish_body`] knows the rest.
    Streamed,
    /// It was passed on as far as this.
    Ended(Decoder, UploadEnd, u64),
}

/// What the log and the metrics want to know.
#[derive(Default)]
pub struct Facts {
    pub started_us: u64,
    pub route: u32,
    pub service: u32,
    pub endpoint: u32,
    pub upstream_status: u16,
    /// Spent waiting for the service.
    pub waited_us: u64,
    pub upstream_us: Option<u64>,
    pub attempts: u32,
    pub bytes_in: u64,
}

enum RequestId {
    /// The client's own, acceptable as it is.
    Client(Span),
    Made([u8; 36]),
}

enum Path {
    /// Not looked at yet, or not in origin form.
    None,
    /// As received.
    Received(Span),
    Normalised(Vec<u8>),
}

impl<'c> Request<'c> {
    pub fn new(head: RequestHead, client: &'c mut Client, shard: &Shard, started_us: u64) -> Self {
        let bytes = client.buffer.unread();
        let sent = client.fields.iter().find(|field| field.known == Known::XRequestId && !field.hop);
        let id = match sent {
            Some(field) if id::is_acceptable_id(field.value.of(bytes)) => RequestId::Client(field.value),
            _ => RequestId::Made(shard.new_id(started_us)),
        };
        if let RequestId::Made(id) = &id {
            client.live.serving(id);
        }
        Self {
            head,
            client,
            body: BodyState::Untouched,
            id,
            path: Path::None,
            verified: None,
            facts: Facts { started_us, ..Facts::default() },
        }
    }

    /// The head and what has arrived behind it.
    pub fn bytes(&self) -> &[u8] {
        self.client.buffer.unread()
    }

    /// The id by which this request is known in logs and by the services.
    pub fn id(&self) -> &[u8] {
        match &self.id {
            RequestId::Client(span) => span.of(self.bytes()),
            RequestId::Made(id) => id,
        }
    }

    /// What can be read of the request.
    pub fn view(&self) -> View<'_> {
        View {
            head: &self.head,
            bytes: self.client.buffer.unread(),
            fields: &self.client.fields,
            path: self.path.of(self.client.buffer.unread()),
            captures: &self.client.captures,
            verified: self.verified.as_deref(),
        }
    }

    /// What can be read of the request, the id if it was made here, who made it, and the client's writing half for informational
    /// responses: for sending it.
    pub fn split(&mut self) -> (View<'_>, Option<&[u8]>, &[u8], Option<&Identity>, &mut Outbound) {
        let Client { buffer, fields, writer, peer_text, captures, identity, .. } = &mut *self.client;
        let bytes = buffer.unread();
        let verified = self.verified.as_deref();
        let view = View { head: &self.head, bytes, fields, path: self.path.of(bytes), captures, verified };
        let id = match &self.id {
            RequestId::Client(_) => None,
            RequestId::Made(id) => Some(&id[..]),
        };
        (view, id, peer_text, identity.as_deref(), writer)
    }

    /// The id, and where the reply goes.
    pub fn id_and_writer(&mut self) -> (&[u8], &mut Outbound) {
        let Client { buffer, writer, .. } = &mut *self.client;
        let id = match &self.id {
            RequestId::Client(span) => span.of(buffer.unread()),
            RequestId::Made(id) => id,
        };
        (id, writer)
    }

    /// The most specific route for this request.
    pub fn route(&mut self, index: &Index) -> Found {
        let Client { buffer, captures, listener, .. } = &mut *self.client;
        let bytes = buffer.unread();
        let method = self.head.method_text.of(bytes);
        index.find(*listener, self.head.host.of(bytes), method, self.path.of(bytes), captures)
    }

    pub fn http10(&self) -> bool {
        self.head.version == Version::Http10
    }

    /// Whether it is a call of gRPC.
    pub fn is_grpc(&self) -> bool {
        self.view().field(Known::ContentType).is_some_and(grpc::is_grpc)
    }

    pub fn protocol(&self) -> Protocol {
        match (&self.client.writer, self.head.version) {
            (Outbound::Exchange(_), _) => Protocol::Http2,
            (Outbound::Socket(_), Version::Http10) => Protocol::Http10,
            (Outbound::Socket(_), Version::Http11) => Protocol::Http11,
        }
    }

    /// Brings the path into its normal form (DESIGN §6).
    pub fn normalise_path(&mut self) -> Result<(), Failure> {
        let received = received_path(&self.head);
        let mut scratch = Vec::new();
        self.path = match normalise(received.of(self.bytes()), &mut scratch) {
            Ok(Normal::AsIs) => Path::Received(received),
            Ok(Normal::InScratch) => Path::Normalised(scratch),
            Err(bad) => return Err(Failure::Client(ClientFault::Path(bad))),
        };
        Ok(())
    }

    /// Takes the path as it was received, for a route that says `raw_path`.
    pub fn keep_raw_path(&mut self) -> Result<(), Failure> {
        let received = received_path(&self.head);
        path::check_raw(received.of(self.bytes())).map_err(|bad| Failure::Client(ClientFault::Path(bad)))?;
        self.path = Path::Received(received);
        Ok(())
    }

    /// Refuses a body that its head already says is too large.
    pub fn check_body_length(&self, route: &Route) -> Result<(), Failure> {
        match self.head.body {
            BodyLength::Exact(length) if length > route.max_body => {
                Err(Failure::Client(ClientFault::BodyTooLarge))
            }
            BodyLength::Exact(_) | BodyLength::Chunked | BodyLength::UntilClose => Ok(()),
        }
    }

    /// Gets the body ready to be sent: small ones are gathered, so that they can be sent twice; others will be passed on as
    /// they arrive.
    pub async fn prepare_body(
        &mut self,
        route: &Route,
        snapshot: &Snapshot,
        shard: &Shard,
    ) -> Result<Option<Upload>, Failure> {
        let BodyLength::Exact(length) = self.head.body else {
            self.check_first_chunks(route)?;
            return Ok(Some(self.upload(route, snapshot, shard)));
        };
        let here = self.client.buffer.len() - self.head.len;
        let whole = here as u64 >= length;
        let gather = length <= RETRY_BODY_BYTES_MAX && !self.head.expect_continue && !route.stream;
        if !whole && !gather {
            return Ok(Some(self.upload(route, snapshot, shard)));
        }
        let length = usize::try_from(length).expect("it is here, or at most 64 KiB");
        let mut pace = Pace::new(snapshot.limits.body_timeout, snapshot.limits.body_rate_min);
        let clock = &shard.timers.clock;
        while self.client.buffer.len() - self.head.len < length {
            let missing = length - (self.client.buffer.len() - self.head.len);
            self.client.buffer.reserve(missing);
            let before_us = clock.now_us();
            let reader = self.client.reader.as_mut().expect("the body is not being passed on");
            let until = clock.after(pace.patience);
            match reader.read(&mut self.client.buffer, until).await {
                Ok(0) => return Err(Failure::Client(ClientFault::Closed)),
                Ok(count) if pace.moves(count, clock.now_us() - before_us) => {}
                Ok(_) | Err(IoFault::TooSlow) => return Err(Failure::Client(ClientFault::BodyTooSlow)),
                Err(IoFault::Broken(_)) => return Err(Failure::Client(ClientFault::Closed)),
            }
        }
        self.body = BodyState::Whole(length);
        self.facts.bytes_in = length as u64;
        Ok(None)
    }

    /// Refuses what has arrived of a chunked body where it is malformed or announces too much, before a service hears of it.
    fn check_first_chunks(&self, route: &Route) -> Result<(), Failure> {
        let mut here = self.bytes()[self.head.len..].to_vec();
        let mut decoder = Decoder::new(self.head.body);
        let decoded = decoder.decode(&mut here).map_err(|bad| Failure::Client(ClientFault::Body(bad)))?;
        let bytes = (decoded.data.len() as u64).saturating_add(decoder.announced());
        if bytes > route.max_body { Err(Failure::Client(ClientFault::BodyTooLarge)) } else { Ok(()) }
    }

    fn upload(&mut self, route: &Route, snapshot: &Snapshot, shard: &Shard) -> Upload {
        let reader = self.client.reader.take().expect("only one body is passed on at a time");
        let mut buffer = shard.buffers.small();
        buffer.extend(&self.client.buffer.unread()[self.head.len..]);
        self.body = BodyState::Streamed;
        // Quiet is normal for calls that stream.
        let may_be_quiet = route.stream || self.is_grpc();
        let limits = &snapshot.limits;
        let patience = if may_be_quiet { limits.tunnel_idle } else { limits.body_timeout };
        let rate_min = if may_be_quiet { 0 } else { limits.body_rate_min };
        Upload {
            reader,
            buffer,
            length: self.head.body,
            bytes_max: route.max_body,
            pace: Pace::new(patience, rate_min),
            rules: snapshot.listeners[self.client.listener].rules,
        }
    }

    /// Takes an upload back that was never started.
    pub fn take_back(&mut self, upload: Upload, shard: &Shard) {
        self.client.reader = Some(upload.reader);
        self.body = BodyState::Untouched;
        shard.buffers.give_back(upload.buffer);
    }

    /// Takes the reading half back from an upload that has ended.
    pub fn take_over(&mut self, uploaded: Uploaded, shard: &Shard) {
        self.facts.bytes_in = uploaded.bytes;
        self.client.reader = Some(uploaded.reader);
        self.body = BodyState::Ended(uploaded.decoder, uploaded.end, uploaded.bytes);
        // What is left of the body, or of what follows it, takes the place of what was copied for the upload.
        let buffer = &mut self.client.buffer;
        let head = self.head.len;
        buffer.truncate(head);
        buffer.extend(uploaded.buffer.unread());
        shard.buffers.give_back(uploaded.buffer);
    }

    /// Reads what is left of the body and drops it, so that the next request can be read. False when that is not worth it: there is
    /// too much of it, it does not come, or it is malformed.
    pub async fn finish_body(&mut self, shard: &Shard) -> bool {
        let mut decoder = match std::mem::replace(&mut self.body, BodyState::Streamed) {
            BodyState::Whole(length) => {
                self.client.buffer.consume(self.head.len + length);
                return true;
            }
            BodyState::Untouched => Decoder::new(self.head.body),
            BodyState::Ended(decoder, UploadEnd::Complete | UploadEnd::Upstream | UploadEnd::Stopped, _) => {
                decoder
            }
            BodyState::Ended(_, UploadEnd::Client(_), _) | BodyState::Streamed => return false,
        };
        let Some(reader) = &mut self.client.reader else { return false };
        self.client.buffer.consume(self.head.len);
        if self.head.expect_continue && !decoder.is_finished() && self.client.buffer.is_empty() {
            return false; // The client may or may not send it now.
        }
        let clock = &shard.timers.clock;
        let until = clock.after(DISCARD_TIME);
        let mut dropped = 0;
        loop {
            let Ok(decoded) = decoder.decode(self.client.buffer.unread_mut()) else { return false };
            dropped += decoded.consumed;
            self.client.buffer.consume(decoded.consumed);
            if decoded.finished || decoder.is_finished() {
                return true;
            }
            if dropped > DISCARD_BYTES_MAX {
                return false;
            }
            self.client.buffer.reserve(4096);
            match reader.read_unless_released(&mut self.client.buffer, until).await {
                Ok(Idle::Bytes(1..)) => {}
                Ok(Idle::Bytes(0) | Idle::Quiet) | Err(_) => return false,
            }
        }
    }
}

/// A request as it can be read: spans resolved, path normalised.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub head: &'a RequestHead,
    /// The head and what has arrived behind it.
    pub bytes: &'a [u8],
    pub fields: &'a [Field],
    /// The path by which routes are matched.
    pub path: &'a [u8],
    captures: &'a Captures,
    /// What the request's token says.
    pub verified: Option<&'a Verified>,
}

impl<'a> View<'a> {
    /// The value of the first field of this name.
    pub fn field(&self, known: Known) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.known == known).map(|field| field.value.of(self.bytes))
    }

    /// The Host the client asked for; empty when it named none.
    pub fn host(&self) -> &'a [u8] {
        self.head.host.of(self.bytes)
    }

    /// How long a call of gRPC may take, if it says so.
    pub fn grpc_timeout(&self) -> Option<Duration> {
        if !self.field(Known::ContentType).is_some_and(grpc::is_grpc) {
            return None;
        }
        let said = |field: &&Field| field.name.of(self.bytes).eq_ignore_ascii_case(b"grpc-timeout");
        grpc::timeout(self.fields.iter().find(said)?.value.of(self.bytes))
    }

    /// What follows the first `?`.
    pub fn query(&self) -> Option<&'a [u8]> {
        match self.head.target {
            Target::Origin { query, has_query: true, .. }
            | Target::Absolute { query, has_query: true, .. } => Some(query.of(self.bytes)),
            Target::Origin { .. } | Target::Absolute { .. } | Target::Authority | Target::Asterisk => None,
        }
    }

    /// The protocol to ask the service for, if the client asks for one that the route lets pass. Not beside a body, whose end
    /// and the protocol's beginning could be confused.
    pub fn upgrade(&self, route: &Route) -> Option<&'a [u8]> {
        let asked = self.head.upgrade?.of(self.bytes);
        let listed = asked.eq_ignore_ascii_case(b"websocket")
            || route.upgrade.iter().any(|token| token.as_bytes().eq_ignore_ascii_case(asked));
        (listed && self.head.body == BodyLength::Exact(0)).then_some(asked)
    }

    /// The path and query to send to a service, as the route's `strip`, `rewrite` and `raw_path` say.
    pub fn path_to_send(&self, route: &Route) -> Cow<'a, [u8]> {
        if let Some(template) = &route.rewrite {
            let mut out = Vec::with_capacity(64);
            self.render(template, Place::Target, &mut out);
            return Cow::Owned(out);
        }
        let path = if route.raw_path { received_path(self.head).of(self.bytes) } else { self.path };
        let Some(prefix) = &route.strip else { return Cow::Borrowed(path) };
        match path.strip_prefix(prefix.as_bytes()) {
            Some([]) => Cow::Borrowed(b"/"),
            Some(rest) if rest[0] == b'/' => Cow::Borrowed(rest),
            Some(_) | None => Cow::Borrowed(path),
        }
    }

    /// By what a hash chooses an endpoint of `service`; `None` where that is not balanced by one, or the request has no such value.
    pub fn hash_key(&self, service: &Service, peer: Option<SocketAddr>) -> Option<u64> {
        match service.policy {
            Policy::IpHash => peer.map(|peer| balance::address_key(peer.ip())),
            Policy::Hash => {
                let mut value = Vec::new();
                self.render(service.hash.as_ref()?, Place::Body(Escape::None), &mut value);
                (!value.is_empty()).then(|| balance::key(&value))
            }
            Policy::RoundRobin | Policy::Random | Policy::LeastConn | Policy::LeastTime | Policy::First => {
                None
            }
        }
    }

    /// Appends a template with this request's values in it.
    pub fn render(&self, template: &Template, place: Place, out: &mut Vec<u8>) {
        let mut in_query = false;
        template.render(out, |variable, out| {
            in_query |= place == Place::Target && memchr::memchr(b'?', out).is_some();
            let escape = match place {
                Place::Target if in_query => Escape::Query,
                Place::Target => Escape::PathSegment,
                Place::Body(escape) => escape,
            };
            self.append(variable, escape, out);
        });
    }

    fn append(&self, variable: &Variable, escape: Escape, out: &mut Vec<u8>) {
        let bytes = self.bytes;
        match variable {
            Variable::Path(index) => {
                let value = self.captures.get(self.path, *index).unwrap_or_default();
                // What `{rest...}` took may have slashes, and keeps them.
                let mut pieces = value.split(|byte| *byte == b'/');
                if let Some(first) = pieces.next() {
                    escape.append_encoded(first, out);
                }
                for piece in pieces {
                    out.push(b'/');
                    escape.append_encoded(piece, out);
                }
            }
            Variable::Query(name) => {
                let value = self.query().and_then(|query| parameter(query, name.as_bytes()));
                escape.append_encoded(value.unwrap_or_default(), out);
            }
            Variable::Header(name) => {
                let named = |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes());
                let value = self.fields.iter().find(named).map(|field| field.value.of(bytes));
                escape.append(value.unwrap_or_default(), out);
            }
            Variable::Cookie(name) => {
                let cookies = self.fields.iter().filter(|field| field.known == Known::Cookie);
                let value = cookies.filter_map(|field| cookie(field.value.of(bytes), name.as_bytes())).next();
                escape.append(value.unwrap_or_default(), out);
            }
            // Known only to the parts of an aggregate.
            Variable::Part(..) => {}
            Variable::Jwt(claim) => {
                let mut first = true;
                let append = |text: &[u8]| {
                    if !std::mem::take(&mut first) {
                        out.push(b',');
                    }
                    escape.append(text, out);
                };
                self.verified.map(|verified| verified.texts(claim, append));
            }
        }
    }
}

impl transform::Client for View<'_> {
    fn append(&self, variable: &Variable, escape: Escape, out: &mut Vec<u8>) {
        View::append(self, variable, escape, out);
    }
}

impl Path {
    fn of<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Self::None => b"",
            Self::Received(span) if span.is_empty() => b"/",
            Self::Received(span) => span.of(bytes),
            Self::Normalised(path) => path,
        }
    }
}

fn received_path(head: &RequestHead) -> Span {
    match head.target {
        Target::Origin { path, .. } | Target::Absolute { path, .. } => path,
        Target::Authority | Target::Asterisk => Span::default(),
    }
}

/// Bytes of an unwanted body that are read to keep the connection.
const DISCARD_BYTES_MAX: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Where a template's text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path and, behind a `?`, a query.
    Target,
    Body(Escape),
}

/// The first value of a query parameter, as it is encoded.
fn parameter<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        (decoded(key).as_ref() == name).then_some(value)
    })
}

/// A name in a query without its escapes.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let hex = |at: usize| rest.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        out.push(match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                rest = &rest[2..];
                u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte")
            }
            (b'+', ..) => b' ',
            _ => *byte,
        });
    }
    Cow::Owned(out)
}

/// The value of a cookie (RFC 6265 §5.4).
pub fn cookie<'v>(value: &'v [u8], name: &[u8]) -> Option<&'v [u8]> {
    value.split(|byte| *byte == b';').find_map(|pair| {
        let pair = pair.trim_ascii_start();
        let rest = pair.strip_prefix(name)?.strip_prefix(b"=")?;
        Some(rest.trim_ascii_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_parameter_is_found_by_its_decoded_name() {
        let check = |query: &str, name: &str, expected: Option<&str>| {
            assert_eq!(parameter(query.as_bytes(), name.as_bytes()), expected.map(str::as_bytes), "{query}");
        };
        check("a=1&b=2", "b", Some("2"));
        check("a=1&a=2", "a", Some("1"));
        check("a&b", "b", Some(""));
        check("a%20b=x%2Fy", "a b", Some("x%2Fy"));
        check("a+b=1", "a b", Some("1"));
        check("ab=1", "a", None);
        check("", "a", None);
        check("%zz=1", "%zz", Some("1"));
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let check = |header: &str, expected: Option<&str>| {
            assert_eq!(cookie(header.as_bytes(), b"sid"), expected.map(str::as_bytes), "{header}");
        };
        check("a=1; sid=xyz; b=2", Some("xyz"));
        check("sid=", Some(""));
        check("xsid=1", None);
        check("sidx=1;sid=2", Some("2"));
    }
}
