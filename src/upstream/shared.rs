//! Connections that several exchanges share: HTTP/2 with services.
//!
//! A shard has few of them to an endpoint: a new one is made when the others have no room, by one request while the others wait.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    Body, Fault, Lease, Request, UploadEnd, Upstreams,
    exchange::{Failed, pass_informational, send_continue, write_head},
    pool::{Connected, Connection, OpenMark},
    upload,
};
use crate::{
    clock::Tick,
    config::HostHeader,
    http::{
        BodyLength, Known, Method,
        h2::{Bounds, Code, RequestLine},
        headers,
    },
    limits::INFORMATIONAL_MAX,
    observe::event,
    runtime::Stream,
    snapshot::{Endpoint, Service},
    wire::{Arrival, Gone, Inbound, Mux, Outbound, Unanswered},
};

/// Connections of a shard to one endpoint.
const LINES_MAX: usize = 64;
/// A connection with exchanges under way on which nothing comes for so long is asked for a sign of life.
const PING_AFTER_US: u64 = 15_000_000;
/// How long the answer may take.
const PONG_WITHIN_US: u64 = 10_000_000;
/// Times a request that nobody has touched is sent again to the same endpoint.
const UNTOUCHED_MAX: u32 = 3;
/// How long a service may take nothing of what it is sent.
const WRITE_PATIENCE: Duration = Duration::from_secs(15);

/// A shard's shared connections, by the slot of the endpoint.
#[derive(Default)]
pub(super) struct Connections(RefCell<Vec<Lines>>);

#[derive(Default)]
struct Lines {
    lines: Vec<Rc<Line>>,
    /// One is being made, and these requests wait for it.
    is_connecting: bool,
    waiting: Vec<Waker>,
    /// The endpoint preferred HTTP/1.1 when it was asked.
    is_http1: bool,
}

/// One shared connection.
pub(super) struct Line {
    mux: Rc<Mux>,
    heard_us: Cell<u64>,
    pinged_us: Cell<Option<u64>>,
    used_us: Cell<u64>,
}

/// Where a request can go.
enum Place<'s> {
    Line(Rc<Line>),
    /// Nowhere yet: who gets this is to connect.
    Connect(Connecting<'s>),
    /// There are as many connections as there may be.
    Full,
}

/// One request makes a connection; the others go on when this is dropped.
struct Connecting<'s> {
    shared: &'s Connections,
    slot: usize,
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.shared.with(self.slot, |lines| {
            lines.is_connecting = false;
            lines.waiting.drain(..).for_each(Waker::wake);
        });
    }
}

impl Connections {
    fn with<T>(&self, slot: usize, f: impl FnOnce(&mut Lines) -> T) -> T {
        let mut all = self.0.borrow_mut();
        if all.len() <= slot {
            all.resize_with(slot + 1, Lines::default);
        }
        f(&mut all[slot])
    }

    /// Whether the endpoint is known to prefer HTTP/1.1.
    pub(super) fn is_http1(&self, slot: usize) -> bool {
        self.0.borrow().get(slot).is_some_and(|lines| lines.is_http1)
    }

    /// A connection with room, or the task of making one. Waits while another makes one.
    async fn place(&self, slot: usize) -> Place<'_> {
        poll_fn(|cx| {
            self.with(slot, |lines| {
                if let Some(line) = lines.lines.iter().find(|line| line.mux.room() > 0) {
                    return Poll::Ready(Place::Line(Rc::clone(line)));
                }
                if lines.is_connecting {
                    lines.waiting.push(cx.waker().clone());
                    return Poll::Pending;
                }
                if lines.lines.len() >= LINES_MAX {
                    return Poll::Ready(Place::Full);
                }
                lines.is_connecting = true;
                Poll::Ready(Place::Connect(Connecting { shared: self, slot }))
            })
        })
        .await
    }

    fn remove(&self, slot: usize, line: &Rc<Line>) {
        self.with(slot, |lines| lines.lines.retain(|other| !Rc::ptr_eq(other, line)));
    }

    /// Looks after every connection: asks quiet ones for a sign of life, and lets those go that nobody needs. Run about once a second.
    pub(super) fn sweep(&self, now_us: u64, idle_max_us: u64, is_configured: impl Fn(usize) -> bool) {
        let mut all = self.0.borrow_mut();
        for (slot, lines) in all.iter_mut().enumerate() {
            lines.lines.retain(|line| {
                let mux = &line.mux;
                if mux.exchanges() > 0 {
                    line.used_us.set(now_us);
                    line.look_for_life(now_us);
                    if is_configured(slot) {
                        return true;
                    }
                    // Its reader ends it when the last exchange has ended.
                    mux.drain();
                    return false;
                }
                let is_needed =
                    now_us.saturating_sub(line.used_us.get()) < idle_max_us && is_configured(slot);
                if !is_needed {
                    mux.go_away(Code::NoError);
                    mux.close();
                }
                is_needed
            });
        }
    }
}

impl Line {
    fn look_for_life(&self, now_us: u64) {
        match self.pinged_us.get() {
            Some(at_us) if now_us.saturating_sub(at_us) > PONG_WITHIN_US => self.mux.break_off(),
            Some(_) => {}
            None if now_us.saturating_sub(self.heard_us.get()) > PING_AFTER_US => {
                self.pinged_us.set(Some(now_us));
                self.mux.ping(now_us);
            }
            None => {}
        }
    }
}

/// Opens a shared connection on `stream`.
pub(super) fn open(upstreams: &Rc<Upstreams>, slot: usize, stream: Stream, open: OpenMark) -> Rc<Line> {
    let Stream { mut reader, writer } = stream;
    let bounds = Bounds { extended_connect: false, ..Bounds::default() };
    let mux = Mux::client(bounds, reader.handle(), &upstreams.timers, &upstreams.buffers);
    let now_us = upstreams.timers.clock.recent_us();
    let line = Rc::new(Line {
        mux: Rc::clone(&mux),
        heard_us: Cell::new(now_us),
        pinged_us: Cell::new(None),
        used_us: Cell::new(now_us),
    });
    upstreams.shared.with(slot, |lines| {
        lines.lines.push(Rc::clone(&line));
        lines.is_http1 = false;
    });
    let written = mux.start_writing(writer, WRITE_PATIENCE, true);
    let (reading, on_shard) = (Rc::clone(&line), Rc::clone(upstreams));
    let (panicked, panicked_on) = (Rc::clone(&line), Rc::clone(upstreams));
    crate::runtime::spawn(
        async move {
            let _open = open;
            let line = &reading;
            let until = || {
                line.heard_us.set(on_shard.timers.clock.recent_us());
                line.pinged_us.set(None);
                Tick::NEVER
            };
            let over = mux
                .read_on(&mut reader, crate::runtime::Buffer::default(), until, |arrival| {
                    if matches!(arrival, Arrival::Leaving) {
                        on_shard.shared.remove(slot, line);
                    }
                })
                .await;
            event::debug("upstream", format_args!("a shared connection ended: {over:?}"));
            on_shard.shared.remove(slot, line);
            mux.stop_reading();
            mux.close();
            written.take().await;
        },
        move |text| {
            event::error("upstream", format_args!("panic: {text}"));
            panicked_on.shared.remove(slot, &panicked);
            panicked.mux.break_off();
        },
    );
    line
}

/// One attempt at an endpoint that speaks HTTP/2, or may.
pub(super) async fn attempt(
    upstreams: &Rc<Upstreams>,
    service: &Service,
    lease: &Lease,
    request: &mut Request<'_>,
) -> Result<Box<Connection>, Failed> {
    let endpoint = &service.endpoints[lease.index];
    let slot = endpoint.slot;
    let mut untouched = 0;
    loop {
        let (line, is_new) = match upstreams.shared.place(slot).await {
            Place::Line(line) => (line, false),
            Place::Full => {
                return Err(Failed { fault: Fault::NoEndpoint, nothing_sent: true, body_gone: None });
            }
            Place::Connect(connecting) => match upstreams.connect(service, endpoint, true).await {
                Ok(Connected::Shared(line)) => (line, true),
                Ok(Connected::Own(connection)) => {
                    upstreams.shared.with(slot, |lines| lines.is_http1 = true);
                    drop(connecting);
                    return super::exchange::exchange(upstreams, endpoint, connection, request).await;
                }
                Err(fault) => return Err(Failed { fault, nothing_sent: true, body_gone: None }),
            },
        };
        if !is_new {
            upstreams.metrics.borrow_mut().counters.upstream_reused += 1;
        }
        match exchange(upstreams, endpoint, &line, request).await {
            // RFC 9113 §8.7; and a connection that was kept may have ended meanwhile.
            Err(failed)
                if failed.fault == Fault::Reset
                    && untouched < UNTOUCHED_MAX
                    && (failed.nothing_sent || (!is_new && request.can_be_repeated()))
                    && request.has_body() =>
            {
                untouched += 1;
                upstreams.metrics.borrow_mut().counters.upstream_stale += 1;
            }
            other => return other,
        }
    }
}

/// One exchange on a shared connection.
pub(super) async fn exchange(
    upstreams: &Rc<Upstreams>,
    endpoint: &Endpoint,
    line: &Rc<Line>,
    request: &mut Request<'_>,
) -> Result<Box<Connection>, Failed> {
    let Some((incoming, outgoing)) = begin(upstreams, endpoint, line, request) else {
        return Err(Failed { fault: Fault::Reset, nothing_sent: true, body_gone: None });
    };
    let clock = &upstreams.timers.clock;
    line.used_us.set(clock.recent_us());
    let mut connection = Connection::shared(Inbound::Exchange(incoming), Outbound::Exchange(outgoing));
    // A client that is gone must not keep the service busy.
    request.asker.pair_with(&connection.reader.handle());
    if let Err(fault) = send_body(upstreams, &mut connection, request).await {
        return Err(Failed { fault, nothing_sent: false, body_gone: None });
    }
    connection.sent_us = clock.now_us();
    let Err((mut fault, nothing_sent)) = response_head(upstreams, &mut connection, request).await else {
        connection.head_us = clock.now_us();
        if let Some(upload) = &connection.upload {
            upload.is_answered();
        }
        return Ok(connection);
    };
    let mut body_gone = None;
    if let Some(uploaded) = connection.end_upload().await {
        if let UploadEnd::Client(client) = uploaded.end {
            fault = client;
        }
        body_gone = Some(uploaded);
    }
    if fault == Fault::Reset && request.asker.is_gone() {
        fault = Fault::ClientClosed;
    }
    Err(Failed { fault, nothing_sent, body_gone })
}

/// Sends the request's head.
fn begin(
    upstreams: &Rc<Upstreams>,
    endpoint: &Endpoint,
    line: &Rc<Line>,
    request: &Request<'_>,
) -> Option<(crate::wire::Incoming, crate::wire::Outgoing)> {
    let mut text = upstreams.buffers.small();
    write_head(text.start_writing(), endpoint, request);
    let authority = match request.host {
        HostHeader::Client if !request.client_host.is_empty() => request.client_host,
        HostHeader::Client | HostHeader::Upstream => endpoint.authority.as_bytes(),
    };
    let lines = text.unread();
    let end_of_line = memchr::memchr(b'\r', lines).unwrap_or_default();
    let target = request.method.len() + 1..end_of_line.saturating_sub(" HTTP/1.1".len());
    let line_of_request = RequestLine {
        method: request.method,
        scheme: if endpoint.tls.is_some() { b"https" } else { b"http" },
        authority,
        path: &lines[target],
        protocol: None,
    };
    let ends = matches!(&request.body, Body::Whole(b""));
    let begun = line.mux.request(&line_of_request, ends, |head| {
        head.lines(lines);
        if wants_trailers(request) {
            head.field(b"te", b"trailers");
        }
    });
    upstreams.buffers.give_back(text);
    begun
}

/// Whether the client takes trailers (RFC 9110 §10.1.4). Services of gRPC insist on being told.
fn wants_trailers(request: &Request<'_>) -> bool {
    let mut said = request.fields.iter().filter(|field| field.known == Known::Te);
    said.any(|field| {
        headers::list(field.value.of(request.bytes)).any(|option| option.eq_ignore_ascii_case(b"trailers"))
    })
}

/// Sends a body that is here, or starts to pass on one that is arriving.
async fn send_body(
    upstreams: &Rc<Upstreams>,
    connection: &mut Connection,
    request: &mut Request<'_>,
) -> Result<(), Fault> {
    match &mut request.body {
        Body::Whole(b"") => {}
        Body::Whole(bytes) => {
            if let Some(Outbound::Exchange(outgoing)) = &mut connection.writer {
                // A service may answer without taking everything: what it said counts more than that it did not listen.
                let _ = outgoing.data(bytes, true, request.patience).await;
            }
        }
        Body::Stream(body) => {
            if request.expect {
                send_continue(upstreams, request).await?;
                return start_upload(upstreams, connection, request);
            }
            if body.is_some() {
                return start_upload(upstreams, connection, request);
            }
        }
    }
    Ok(())
}

fn start_upload(
    upstreams: &Rc<Upstreams>,
    connection: &mut Connection,
    request: &mut Request<'_>,
) -> Result<(), Fault> {
    let Body::Stream(body) = &mut request.body else { return Ok(()) };
    if let (Some(body), Some(writer)) = (body.take(), connection.writer.take()) {
        let reader = connection.reader.handle();
        let Upstreams { timers, buffers, .. } = &**upstreams;
        connection.upload = Some(upload::start(*body, writer, reader, request.timeout, timers, buffers));
    }
    Ok(())
}

/// Whether a client on HTTP/1.1 would not know where the body ends: it has an end, and no length that says so beforehand.
fn lacks_length(connection: &Connection, request: &Request<'_>) -> bool {
    let has_body = request.head.method != Method::Head && !matches!(connection.head.status, 204 | 304);
    has_body && !connection.fields.iter().any(|field| field.known == Known::ContentLength)
}

/// Waits for the head of the final response, and for what has come with it. `Err` says as well whether the service did nothing.
async fn response_head(
    upstreams: &Upstreams,
    connection: &mut Connection,
    request: &mut Request<'_>,
) -> Result<(), (Fault, bool)> {
    let in_time = upstreams.timers.clock.after(request.timeout);
    let mut informational = 0;
    loop {
        let until = connection.upload.as_ref().map_or(in_time, upload::Uploading::answer_by);
        let Inbound::Exchange(incoming) = &mut connection.reader else { unreachable!("it is shared") };
        let answer = incoming.answer(until).await.map_err(|why| match why {
            Unanswered::TooSlow => (Fault::Timeout, false),
            Unanswered::Gone(Gone::Untouched) => (Fault::Reset, true),
            Unanswered::Gone(Gone::Reset) => (Fault::Reset, false),
            Unanswered::Gone(Gone::Malformed) => (Fault::BadResponse, false),
        })?;
        if answer.head.status >= 200 {
            upstreams.buffers.give_back(std::mem::replace(&mut connection.buffer, answer.buffer));
            upstreams.give_back_fields(std::mem::replace(&mut connection.fields, answer.fields));
            connection.head = answer.head;
            connection.head.keep_alive = false;
            incoming.take_now(&mut connection.buffer);
            if lacks_length(connection, request) {
                connection.head.body = BodyLength::Chunked;
            }
            return Ok(());
        }
        informational += 1;
        if informational > INFORMATIONAL_MAX || answer.head.status == 101 {
            return Err((Fault::BadResponse, false));
        }
        if answer.head.status != 100 {
            let passed = pass_informational(upstreams, &answer.head, &answer.buffer, &answer.fields, request);
            passed.await.map_err(|fault| (fault, false))?;
        }
        upstreams.buffers.give_back(answer.buffer);
        upstreams.give_back_fields(answer.fields);
    }
}
