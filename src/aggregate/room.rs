//! What a shard keeps for its aggregates: room to work in, and answers that may stand in for later ones.

use std::cell::RefCell;

use super::stale::Stale;
use crate::json::{Editor, Members, Merger};

/// Lists of members kept for reuse.
const MEMBERS_KEPT: usize = 64;
/// Members that a kept list may have had room for: 16 KiB.
const MEMBERS_ROOM_MAX: usize = 512;

pub struct Room {
    seed: u64,
    pub(super) merger: RefCell<Merger>,
    pub(super) editor: RefCell<Editor>,
    members: RefCell<Vec<Members>>,
    pub(super) stale: RefCell<Stale>,
}

impl Room {
    /// `seed` is drawn at random once per process or shard.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            merger: RefCell::new(Merger::new(seed)),
            editor: RefCell::default(),
            members: RefCell::default(),
            stale: RefCell::default(),
        }
    }

    pub(super) fn members(&self) -> Members {
        self.members.borrow_mut().pop().unwrap_or_else(|| Members::new(self.seed))
    }

    pub(super) fn give_back(&self, members: Members) {
        let mut kept = self.members.borrow_mut();
        if kept.len() < MEMBERS_KEPT && members.list().len() <= MEMBERS_ROOM_MAX {
            kept.push(members);
        }
    }
}
