//! What the control thread asks of shards.

use tokio::sync::oneshot;

use crate::observe::{Gauges, Metrics};

/// The shards as the control thread sees them. A trait with one implementor, because shards belong to a layer above
/// (DESIGN §2).
pub trait Shards: Send + Sync {
    fn count(&self) -> usize;

    /// Asks a shard what it counted; the shard answers with `metrics.hand_over(spare)`. `None` when its mailbox
    /// is full or it has ended. Never waits.
    fn report(&self, shard: usize, spare: Metrics) -> Option<oneshot::Receiver<Report>>;

    /// Makes every shard look at the newest snapshot, also those without traffic. Never waits.
    fn nudge(&self);
}

/// A shard's answer.
pub struct Report {
    pub metrics: Metrics,
    pub gauges: Gauges,
}
