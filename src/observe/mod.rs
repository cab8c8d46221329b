//! What a person can see of the gateway: metrics, the access log, the events log.
//!
//! A shard writes only what is its own: plain counters and histograms ([`Metrics`]) that the control thread
//! fetches through the shard's mailbox, and a byte ring of access records ([`access::Log`]) that the log thread
//! ([`writer`]) drains. Nothing here locks, blocks or, once warm, allocates on a shard.

pub mod access;
mod bell;
mod calendar;
pub mod event;
pub mod format;
pub mod metrics;
pub mod names;
pub mod parts;
pub mod process;
pub mod prometheus;
mod sink;
mod text;
pub mod totals;
pub mod why;
pub mod writer;

pub use metrics::{Ended, Finished, Gauges, Metrics, Outcome};
pub use names::{Names, NamesCell, OTHER};
pub use parts::{PartOutcome, StandIn};
pub use totals::Totals;
pub use why::{Side, Why};

/// The HTTP version a client spoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    Http10,
    #[default]
    Http11,
    Http2,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::Http2];

    /// As nginx's `$server_protocol` spells it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}
