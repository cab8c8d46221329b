//! What is told of the parts: in header fields, in the log, in metrics and, where the route wants it, in the document.

use super::{Ask, call::Called, fault::PartFault};
use crate::{
    json::write,
    observe::{Metrics, PartOutcome, StandIn, event},
};

/// How a part has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub outcome: PartOutcome,
    pub fault: Option<PartFault>,
    pub stand_in: Option<StandIn>,
    pub us: u64,
}

impl Ended {
    pub(super) const fn skipped() -> Self {
        Self { outcome: PartOutcome::Skipped, fault: None, stand_in: None, us: 0 }
    }

    /// Whether the document lacks something because of it.
    pub(super) const fn is_failed(&self) -> bool {
        self.fault.is_some()
    }
}

/// `user;dur=12.3, cart;dur=400;desc="timeout"` (Server Timing §4). Parts that were not asked are not in it.
pub(super) fn server_timing(ask: &Ask<'_>, ended: &[Option<Ended>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 * ended.len());
    for (part, ended) in ask.aggregate.plan.parts.iter().zip(ended) {
        let Some(ended) = ended.filter(|ended| ended.outcome != PartOutcome::Skipped || ended.is_failed())
        else {
            continue;
        };
        if !out.is_empty() {
            out.extend_from_slice(b", ");
        }
        let text = format!("{};dur={}.{}", part.name, ended.us / 1000, ended.us % 1000 / 100);
        out.extend_from_slice(text.as_bytes());
        if ended.is_failed() {
            out.extend_from_slice(format!(";desc=\"{}\"", ended.outcome.word()).as_bytes());
        }
    }
    out
}

/// `[{"message":…,"path":[…],"extensions":{…}}]`: the parts that failed, as GraphQL tells it (GraphQL §7.1.2). `None` when none has.
pub(super) fn errors(ask: &Ask<'_>, ended: &[Option<Ended>]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (part, ended) in ask.aggregate.plan.parts.iter().zip(ended) {
        let Some((fault, ended)) = ended.and_then(|ended| Some((ended.fault?, ended))) else { continue };
        out.push(if out.is_empty() { b'[' } else { b',' });
        out.extend_from_slice(b"{\"message\":");
        write::string(&format!("part {} failed: {}", part.name, public(fault)), &mut out);
        out.extend_from_slice(b",\"path\":[");
        write::string(&part.name, &mut out);
        out.extend_from_slice(b"],\"extensions\":{\"code\":");
        write::string(ended.outcome.word(), &mut out);
        if let PartFault::Status(status) = fault {
            out.extend_from_slice(format!(",\"status\":{status}").as_bytes());
        }
        if let Some(stand_in) = ended.stand_in {
            out.extend_from_slice(b",\"instead\":");
            write::string(stand_in.word(), &mut out);
        }
        out.extend_from_slice(b"}}");
    }
    (!out.is_empty()).then(|| {
        out.push(b']');
        out
    })
}

/// What of a fault is for clients.
fn public(fault: PartFault) -> String {
    fault.to_string()
}

/// Tells the log of a failed call.
pub(super) fn log_failure(ask: &Ask<'_>, part: usize, fault: PartFault, called: Option<&Called>) {
    let (endpoint, status, attempts) =
        called.map_or((0, 0, 0), |called| (called.endpoint, called.status, called.attempts));
    let service = &ask.services[ask.aggregate.plan.parts[part].service];
    let endpoint = service.endpoints.iter().find(|known| known.metric == endpoint && endpoint != 0);
    event::warn(
        "aggregate",
        format_args!(
            "part {} of {:?} failed: {fault} code={} service={} endpoint={} status={status} attempts={attempts} request_id={}",
            ask.aggregate.plan.parts[part].name,
            ask.route,
            fault.outcome().word(),
            service.name,
            endpoint.map_or("-", |endpoint| &endpoint.url),
            String::from_utf8_lossy(ask.id),
        ),
    );
}

/// Counts how the parts have ended.
pub(super) fn count(ask: &Ask<'_>, ended: &[Option<Ended>], metrics: &mut Metrics) {
    for (number, ended) in ask.aggregate.metrics.iter().zip(ended) {
        // Those without an end were cancelled.
        let (outcome, stand_in, us) = ended
            .map_or((PartOutcome::Cancelled, None, 0), |ended| (ended.outcome, ended.stand_in, ended.us));
        metrics.part(*number, outcome, stand_in, us);
    }
}
