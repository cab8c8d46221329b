//! A request to a service: which endpoint, and what to do when one fails.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use super::{
    Connection, Fault, Lease, Upload, Uploaded, Upstreams,
    exchange::{Failed, exchange},
    pool::{Connected, Found},
    shared,
    wait::wait,
};
use crate::{
    balance::Tried,
    config::{HostHeader, Retry, Speaks},
    http::{Field, RequestHead, Rules, rewrite::Bearer},
    observe::Outcome,
    snapshot::Service,
    wire::{Handle, Outbound},
};

/// What is sent, and how long to wait for what.
pub struct Request<'r> {
    pub head: &'r RequestHead,
    /// As it is spelled.
    pub method: &'r [u8],
    /// The received head's bytes, to which the spans refer.
    pub bytes: &'r [u8],
    pub fields: &'r [Field],
    /// Header lines of ours, each with its line end.
    pub extra: &'r [u8],
    pub path: &'r [u8],
    pub query: Option<&'r [u8]>,
    pub body: Body<'r>,
    pub host: HostHeader,
    /// The Host the client asked for; empty when it named none.
    pub client_host: &'r [u8],
    /// The Host field is not what `client_host` says.
    pub host_differs: bool,
    pub peer: &'r [u8],
    pub proto: &'r [u8],
    pub trusted: bool,
    /// Subject and fingerprint of the client's certificate.
    pub certificate: Option<(&'r [u8], &'r [u8])>,
    /// The id made here; `None` when the client's own is passed on.
    pub bearer: Bearer<'r>,
    pub request_id: Option<&'r [u8]>,
    pub upgrade: Option<&'r [u8]>,
    pub expect: bool,
    pub loop_mark: Option<&'r [u8]>,
    pub asker: Asker<'r>,
    pub rules: Rules,
    pub retry: &'r Retry,
    /// What a service that is balanced by a hash decides by ([`Service::hash`]).
    pub key: Option<u64>,
    /// To the response head.
    pub timeout: Duration,
    /// The longest wait without progress while sending.
    pub patience: Duration,
}

/// For `least_time`, an attempt that failed took at least so long: who fails at once must not look fast.
const FAILED_US: u64 = 1_000_000;

/// Who waits for the response.
pub enum Asker<'r> {
    /// A client: it gets informational responses, and when it is gone the exchange ends.
    Client(&'r mut Outbound),
    /// Somebody on this shard, who may stop waiting.
    Part(&'r Stop),
}

/// Ends an exchange that nobody waits for any more.
#[derive(Default)]
pub struct Stop {
    stream: RefCell<Option<Handle>>,
    endpoint: Cell<u32>,
}

impl Stop {
    /// Ends the connection that the exchange is on, if it has one.
    pub fn now(&self) {
        if let Some(stream) = self.stream.borrow_mut().take() {
            stream.end();
        }
    }

    /// The endpoint asked last, for the log.
    pub fn endpoint(&self) -> u32 {
        self.endpoint.get()
    }
}

impl Asker<'_> {
    /// Whether who asks is known to be gone.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Client(client) => client.is_gone(),
            Self::Part(_) => false,
        }
    }

    /// Notes that `stream` is read on behalf of who asks.
    pub(super) fn pair_with(&mut self, stream: &Handle) {
        match self {
            Self::Client(client) => client.pair_with(stream),
            Self::Part(stop) => *stop.stream.borrow_mut() = Some(stream.clone()),
        }
    }
}

/// A request body.
pub enum Body<'r> {
    /// All of it, perhaps nothing. Can be sent again.
    Whole(&'r [u8]),
    /// Still arriving; taken by the first attempt that gets through.
    Stream(Option<Box<Upload>>),
}

/// A request that got no response, and what came back of its body.
pub struct NoResponse {
    pub fault: Fault,
    pub uploaded: Option<Box<Uploaded>>,
    /// The endpoint asked last, for the log.
    pub endpoint: u32,
    pub attempts: u32,
}

/// Sends `request` to an endpoint of `service` and returns the response once its head is here.
///
/// An attempt that fails is repeated at another endpoint as the route's `retry` says, within the service's budget, and only when
/// that is safe: no byte was sent, or the method is idempotent (RFC 9110 §9.2.2) and the body is still here. A kept connection that
/// turns out to be closed is not the endpoint's failure: the request goes out once more on a new one.
pub async fn send(
    upstreams: &Rc<Upstreams>,
    service: &Service,
    request: &mut Request<'_>,
) -> Result<Box<Connection>, NoResponse> {
    upstreams.earn_retries(service, request.retry.budget_percent);
    let mut tried = Tried::default();
    let mut attempts = 0;
    let mut last = NoResponse { fault: Fault::NoEndpoint, uploaded: None, endpoint: 0, attempts: 0 };
    loop {
        let lease = match find(upstreams, service, &tried, request.key).await {
            Ok(lease) => lease,
            // An attempt was made: what came of that says more.
            Err(_) if attempts > 0 => return Err(last),
            Err(fault) => return Err(NoResponse { fault, ..last }),
        };
        tried.insert(lease.index);
        attempts += 1;
        let index = lease.index;
        let begun_us = upstreams.timers.clock.recent_us();
        last.endpoint = lease.metric;
        if let Asker::Part(stop) = &request.asker {
            stop.endpoint.set(lease.metric);
        }
        last.attempts = attempts;

        match attempt(upstreams, service, &lease, request).await {
            Ok(mut response) => {
                response.attempts = attempts;
                let status = response.head.status;
                let failed = request.retry.on_status.contains(&status);
                count(upstreams, service, &lease, status, failed);
                upstreams.timed(service, &lease, response.head_us.saturating_sub(response.sent_us));
                response.lease = Some(lease);
                let again = failed
                    && attempts < request.retry.tries
                    && request.can_be_repeated()
                    && upstreams.has_other(service, &tried)
                    && upstreams.may_retry(service);
                if !again {
                    return Ok(response);
                }
                response.discard();
            }
            Err(failed) => {
                let outcome = outcome(failed.fault);
                upstreams.count_attempt(&lease, outcome);
                if outcome != Outcome::Abandoned {
                    let now_ms = upstreams.timers.clock.recent_us() / 1000;
                    service.shared[index].health.failed(&service.facts[index], now_ms);
                    let took_us = upstreams.timers.clock.recent_us().saturating_sub(begun_us);
                    upstreams.timed(service, &lease, took_us.max(FAILED_US));
                }
                drop(lease);
                last.fault = failed.fault;
                let again = attempts < request.retry.tries
                    && request.retry.covers(failed.fault)
                    && (failed.nothing_sent || request.can_be_repeated())
                    && failed.body_gone.is_none()
                    && request.has_body()
                    && upstreams.has_other(service, &tried)
                    && upstreams.may_retry(service);
                if !again {
                    last.uploaded = failed.body_gone;
                    return Err(last);
                }
            }
        }
    }
}

/// An endpoint for the next attempt. The first waits for a place where there is none, if the service has a queue.
async fn find(
    upstreams: &Rc<Upstreams>,
    service: &Service,
    tried: &Tried,
    key: Option<u64>,
) -> Result<Lease, Fault> {
    let waits = service.waits.as_ref().filter(|_| tried.is_empty());
    // Nobody overtakes those who wait.
    let must_wait = waits.is_some_and(|waits| waits.queue.waiting() > 0);
    let found = if must_wait { Found::Full } else { upstreams.pick(service, tried, key) };
    match (found, waits) {
        (Found::Lease(lease), _) => Ok(lease),
        (Found::Nowhere, _) => Err(Fault::NoEndpoint),
        (Found::Full, None) => Err(Fault::Full),
        // Boxed: requests to services without a queue must not pay for it.
        (Found::Full, Some(waits)) => Box::pin(wait(upstreams, service, waits, key)).await,
    }
}

/// One attempt at one endpoint: on a kept connection and, if that has gone stale, on a new one.
async fn attempt(
    upstreams: &Rc<Upstreams>,
    service: &Service,
    lease: &Lease,
    request: &mut Request<'_>,
) -> Result<Box<Connection>, Failed> {
    let endpoint = &service.endpoints[lease.index];
    let shares = endpoint.speaks != Speaks::Http1 && request.upgrade.is_none();
    if shares && !upstreams.shared.is_http1(endpoint.slot) {
        // Boxed: requests to other services must not pay for it.
        return Box::pin(shared::attempt(upstreams, service, lease, request)).await;
    }
    if let Some(connection) = upstreams.reuse(lease, !request.can_be_repeated()) {
        match exchange(upstreams, endpoint, connection, request).await {
            Err(failed)
                if failed.fault == Fault::Reset
                    && (failed.nothing_sent || request.can_be_repeated())
                    && request.has_body() =>
            {
                upstreams.metrics.borrow_mut().counters.upstream_stale += 1;
            }
            other => return other,
        }
    }
    match upstreams.connect(service, endpoint, shares).await {
        Ok(Connected::Own(connection)) => exchange(upstreams, endpoint, connection, request).await,
        Ok(Connected::Shared(line)) => Box::pin(shared::exchange(upstreams, endpoint, &line, request)).await,
        Err(fault) => Err(Failed { fault, nothing_sent: true, body_gone: None }),
    }
}

fn count(upstreams: &Upstreams, service: &Service, lease: &Lease, status: u16, failed: bool) {
    let outcome = if status >= 500 { Outcome::Status5xx } else { Outcome::Ok };
    upstreams.count_attempt(lease, outcome);
    let health = &service.shared[lease.index].health;
    let now_ms = upstreams.timers.clock.recent_us() / 1000;
    if failed {
        health.failed(&service.facts[lease.index], now_ms);
    } else {
        health.succeeded(now_ms);
    }
}

const fn outcome(fault: Fault) -> Outcome {
    match fault {
        Fault::NoEndpoint | Fault::Full | Fault::ConnectRefused | Fault::ConnectTimeout | Fault::Tls => {
            Outcome::Connect
        }
        Fault::Reset => Outcome::Reset,
        Fault::BadResponse => Outcome::Bad,
        Fault::Timeout => Outcome::Timeout,
        Fault::ClientClosed | Fault::ClientTooSlow | Fault::BodyTooLarge | Fault::BadBody(_) => {
            Outcome::Abandoned
        }
    }
}

impl Request<'_> {
    /// Whether the request may be sent again after it may have been received (RFC 9110 §9.2.2).
    pub(super) fn can_be_repeated(&self) -> bool {
        (self.head.method.is_idempotent() || self.retry.non_idempotent)
            && self.upgrade.is_none()
            && matches!(self.body, Body::Whole(_))
    }

    /// Whether the body is still here to be sent.
    pub(super) fn has_body(&self) -> bool {
        !matches!(self.body, Body::Stream(None))
    }
}

impl Retry {
    fn covers(&self, fault: Fault) -> bool {
        match fault {
            Fault::ConnectRefused | Fault::ConnectTimeout | Fault::Tls => self.on_connect,
            Fault::Reset | Fault::BadResponse => self.on_reset,
            Fault::Timeout => self.on_timeout,
            Fault::NoEndpoint
            | Fault::Full
            | Fault::ClientClosed
            | Fault::ClientTooSlow
            | Fault::BodyTooLarge
            | Fault::BadBody(_) => false,
        }
    }
}
