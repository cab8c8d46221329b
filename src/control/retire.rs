//! Snapshots that are no longer served: kept until nobody reads them, dropped here and not on a shard.

use std::{any::Any, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::{Shards, status::Status};

/// A snapshot, or anything else that shards may still hold.
pub type Retired = Arc<dyn Any + Send + Sync>;

/// Between two looks, at first and at last.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_LAST: Duration = Duration::from_secs(1);

pub(super) struct Retirement {
    shards: Arc<dyn Shards>,
    status: Arc<Status>,
    held: Vec<Retired>,
}

impl Retirement {
    pub(super) fn new(shards: Arc<dyn Shards>, status: Arc<Status>) -> Self {
        Self { shards, status, held: Vec::new() }
    }

    /// Ends when nobody can send any more.
    pub(super) async fn run(mut self, mut retired: mpsc::Receiver<Retired>) {
        let mut pause = LOOK_FIRST;
        loop {
            let arrived = match self.held.is_empty() {
                true => retired.recv().await,
                false => match timeout(pause, retired.recv()).await {
                    Ok(arrived) => arrived,
                    Err(_) => {
                        pause = (pause * 2).min(LOOK_LAST);
                        self.look();
                        continue;
                    }
                },
            };
            let Some(arrived) = arrived else { return };
            self.held.push(arrived);
            pause = LOOK_FIRST;
            self.look();
        }
    }

    /// Drops what only we hold. Shards are nudged, since an idle one lets go only when it looks for a newer one.
    fn look(&mut self) {
        let before = self.held.len();
        // Nobody can get a new reference to a snapshot that is out of the cell, so 1 stays 1.
        self.held.retain(|held| Arc::strong_count(held) > 1);
        self.status.retiring(self.held.len(), before - self.held.len());
        if !self.held.is_empty() {
            self.shards.nudge();
        }
    }
}
