//! One call of a part: a request to its service, and the answer.

use std::{cell::Cell, rc::Rc, time::Duration};

use super::{
    Ask,
    answer::{Answer, encoding},
    fault::PartFault,
    room::Room,
};
use crate::{
    clock::Tick,
    config::Retry,
    http::{BodyLength, Field, Known, RequestHead, Version},
    runtime::Buffer,
    template::Escape,
    transform::{HeaderRule, Part, Values},
    upstream::{self, Asker, Body, NoBody, Stop, Upstreams, collect},
};

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    pub target: Vec<u8>,
    /// Header lines of ours.
    pub lines: Vec<u8>,
    pub body: Vec<u8>,
}

/// What came of a call.
pub(super) struct Called {
    pub answer: Result<Answer, PartFault>,
    /// The body of an answer that is no success, for a client that is to have it: with its content type.
    pub refusal: Option<(Vec<u8>, Buffer)>,
    pub status: u16,
    pub endpoint: u32,
    pub attempts: u32,
    /// Bytes that were moved while the body was read.
    pub moved: usize,
}

/// Bytes of a refusal that is passed on.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

impl Rendered {
    /// The request of a part. `None` where a value of another part is missing.
    pub(super) fn new(part: &Part, values: &Values<'_>) -> Option<Self> {
        let mut target = Vec::with_capacity(128);
        if !values.target(&part.target, &mut target) {
            return None;
        }
        let mut body = Vec::new();
        if let Some(template) = &part.body
            && !template.template.render(values, &mut body)
        {
            return None;
        }
        let mut lines = Vec::with_capacity(128);
        let sets = |name: &str| part.headers.iter().any(|(set, _)| set.eq_ignore_ascii_case(name));
        if !sets("accept") {
            lines.extend_from_slice(b"Accept: application/json\r\n");
        }
        lines.extend_from_slice(b"Accept-Encoding: identity\r\n");
        for (name, rule) in &part.headers {
            let HeaderRule::Set(template) = rule else { continue };
            lines.extend_from_slice(name.as_bytes());
            lines.extend_from_slice(b": ");
            if !values.text(template, Escape::HeaderValue, &mut lines) {
                return None;
            }
            lines.extend_from_slice(b"\r\n");
        }
        if !part.is_shareable() {
            if let Some(template) = &part.body {
                lines.extend_from_slice(b"Content-Type: ");
                lines.extend_from_slice(template.content_type.as_bytes());
                lines.extend_from_slice(b"\r\n");
            }
            lines.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        Some(Self { target, lines, body })
    }

    /// What an answer depends on: the request as the service gets it, but for what differs from request to request.
    pub(super) fn key(&self, ask: &Ask<'_>, part: &Part) -> Vec<u8> {
        let mut key = Vec::with_capacity(512);
        for piece in [ask.route.as_bytes(), part.name.as_bytes(), &self.target, &self.lines, &self.body] {
            put(&mut key, piece);
        }
        let (subject, fingerprint) = ask.certificate.unwrap_or_default();
        put(&mut key, subject);
        put(&mut key, fingerprint);
        put(&mut key, ask.bearer.lines);
        put(&mut key, ask.client_host);
        for field in ask.fields.iter().filter(|field| goes_to(part, field, ask.bytes) && matters(field.known))
        {
            put(&mut key, field.name.of(ask.bytes));
            put(&mut key, field.value.of(ask.bytes));
        }
        key
    }
}

/// Lengths keep two pieces from reading as two others.
fn put(key: &mut Vec<u8>, piece: &[u8]) {
    key.extend_from_slice(&piece.len().to_le_bytes());
    key.extend_from_slice(piece);
}

/// Whether a field of the client's request goes to a part. What speaks of the client's body, asks for a piece of an answer or for
/// none, or says what the client understands is about another exchange.
fn goes_to(part: &Part, field: &Field, bytes: &[u8]) -> bool {
    let is_meant = !matches!(
        field.known,
        Known::Accept
            | Known::AcceptEncoding
            | Known::ContentEncoding
            | Known::ContentLanguage
            | Known::ContentLength
            | Known::ContentLocation
            | Known::ContentRange
            | Known::ContentType
            | Known::Expect
            | Known::IfMatch
            | Known::IfModifiedSince
            | Known::IfNoneMatch
            | Known::IfRange
            | Known::IfUnmodifiedSince
            | Known::Range
            | Known::Trailer
    );
    let name = field.name.of(bytes);
    is_meant && !part.headers.iter().any(|(ours, _)| ours.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether an answer may depend on a field.
const fn matters(known: Known) -> bool {
    !matches!(
        known,
        Known::CacheControl
            | Known::Date
            | Known::MaxForwards
            | Known::Pragma
            | Known::Referer
            | Known::Traceparent
            | Known::Tracestate
            | Known::UserAgent
            | Known::Via
            | Known::XRequestId
    )
}

/// Calls the service. `left` are the bytes that the answers of this request may still have in all.
pub(super) async fn call(
    ask: &Ask<'_>,
    part: &Part,
    rendered: Rc<Rendered>,
    timeout: Duration,
    left: Rc<Cell<usize>>,
    stop: Rc<Stop>,
    upstreams: &Rc<Upstreams>,
    room: &Room,
) -> Called {
    let until = upstreams.timers.clock.after(timeout);
    let mut fields = upstreams.fields();
    fields.extend(ask.fields.iter().filter(|field| goes_to(part, field, ask.bytes)));
    let head = RequestHead {
        method: part.method,
        version: Version::Http11,
        body: BodyLength::Exact(0),
        expect_continue: false,
        upgrade: None,
        ..*ask.head
    };
    let (path, query) = match memchr::memchr(b'?', &rendered.target) {
        Some(at) => (&rendered.target[..at], Some(&rendered.target[at + 1..])),
        None => (&rendered.target[..], None),
    };
    let mut request = upstream::Request {
        head: &head,
        method: part.method_text.as_bytes(),
        bytes: ask.bytes,
        fields: &fields,
        extra: &rendered.lines,
        path,
        query,
        body: Body::Whole(&rendered.body),
        host: ask.host,
        client_host: ask.client_host,
        host_differs: ask.host_differs,
        peer: ask.peer,
        proto: ask.proto,
        trusted: ask.trusted,
        certificate: ask.certificate,
        bearer: ask.bearer,
        request_id: ask.request_id,
        upgrade: None,
        expect: false,
        loop_mark: Some(ask.loop_mark),
        asker: Asker::Part(&stop),
        key: (ask.key)(&ask.services[part.service]),
        rules: ask.rules,
        retry: if part.is_shareable() { ask.retry } else { &NEVER },
        timeout,
        patience: ask.patience.min(timeout),
    };
    let sent = upstream::send(upstreams, &ask.services[part.service], &mut request).await;
    upstreams.give_back_fields(fields);
    let response = match sent {
        Ok(response) => response,
        Err(failed) => {
            return Called {
                answer: Err(PartFault::Upstream(failed.fault)),
                refusal: None,
                status: 0,
                endpoint: failed.endpoint,
                attempts: failed.attempts,
                moved: 0,
            };
        }
    };
    let mut called = Called {
        answer: Err(PartFault::Status(response.head.status)),
        refusal: None,
        status: response.head.status,
        endpoint: response.lease().metric,
        attempts: response.attempts,
        moved: 0,
    };
    if !(200..300).contains(&called.status) {
        called.refusal = refusal(part, response, until, upstreams).await;
        return called;
    }
    let encoding = encoding(&response.fields, response.buffer.unread());
    let bytes_max = part.max_body.min(left.get());
    let announced = match response.head.body {
        BodyLength::Exact(length) => usize::try_from(length).unwrap_or(usize::MAX).min(bytes_max),
        BodyLength::Chunked | BodyLength::UntilClose => 0,
    };
    left.set(left.get() - announced);
    let collected = collect(response, bytes_max, until).await;
    left.set(left.get() + announced);
    called.answer = match collected {
        Ok(collected) => {
            called.moved = collected.moved;
            left.set(left.get().saturating_sub(collected.buffer.len()));
            let for_root = part.place == crate::json::Place::Root;
            Answer::new(collected.buffer, encoding, bytes_max, for_root, room).map_err(|(why, buffer)| {
                upstreams.buffers.give_back(buffer);
                why
            })
        }
        Err(NoBody::TooLarge) if bytes_max < part.max_body => Err(PartFault::TooMuchInAll),
        Err(why) => Err(PartFault::Body(why)),
    };
    called
}

/// Reads an answer that is no success, as far as that is worth it: so that its connection can be kept, and that a required part's word can
/// be passed on.
async fn refusal(
    part: &Part,
    response: Box<upstream::Connection>,
    until: Tick,
    upstreams: &Upstreams,
) -> Option<(Vec<u8>, Buffer)> {
    let bytes = response.buffer.unread();
    let of =
        |known| response.fields.iter().find(|field| field.known == known).map(|field| field.value.of(bytes));
    let content_type = of(Known::ContentType).unwrap_or_default().to_vec();
    let is_plain = of(Known::ContentEncoding).is_none();
    let is_wanted = part.is_required() && (400..500).contains(&response.head.status) && is_plain;
    let body = collect(response, REFUSAL_BYTES_MAX.min(part.max_body), until).await.ok()?;
    if is_wanted {
        return Some((content_type, body.buffer));
    }
    upstreams.buffers.give_back(body.buffer);
    None
}

/// What writes is sent once.
static NEVER: Retry = Retry {
    on_connect: false,
    on_reset: false,
    on_timeout: false,
    non_idempotent: false,
    on_status: Vec::new(),
    tries: 1,
    budget_percent: 0,
};
