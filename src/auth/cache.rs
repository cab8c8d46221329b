//! Tokens that were verified before, so that a signature is paid for once per token and shard.

use std::{hash::BuildHasher, rc::Rc, sync::Arc};

use foldhash::{SharedSeed, fast::SeedableRandomState};
use hashbrown::HashTable;

use super::{Issuer, Verified, revocation::Revocations};

/// Most tokens, and most bytes of them (DESIGN §15).
pub const ENTRIES_MAX: usize = 65_536;
pub const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What an entry takes besides its token and its claims: slot, table, allocator.
const ENTRY_BYTES: usize = size_of::<Slot>() + 64;
/// Turns of [`Cache::sweep`] in which every entry is looked at once.
const SWEEP_TURNS: usize = 64;

/// The verified tokens of one shard.
///
/// The key is the whole token: two tokens that differ in a bit of the signature are two tokens. Only tokens whose signature was good
/// are here, so that nobody can push others out by inventing some. When it is full, those that were not used since the hand last
/// came by make room.
pub struct Cache {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    hand: usize,
    swept: usize,
    bytes: usize,
    bytes_max: usize,
    entries_max: usize,
    hashing: SeedableRandomState,
}

struct Slot {
    /// `None` where the slot is free.
    verified: Option<Rc<Verified>>,
    token: Box<[u8]>,
    hash: u64,
    /// [`Issuer::revision`] under which it was verified.
    revision: u64,
    /// [`super::KeyCell::epoch`] at which its key was last seen.
    epoch: u64,
    /// [`Revocations::epoch`] at which it was last looked up there.
    revocations: u64,
    used: bool,
}

impl Cache {
    /// `seed` is drawn at random.
    pub fn new(seed: u64) -> Self {
        Self::bounded(seed, ENTRIES_MAX, BYTES_MAX)
    }

    fn bounded(seed: u64, entries_max: usize, bytes_max: usize) -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            swept: 0,
            bytes: 0,
            bytes_max,
            entries_max,
            hashing: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
        }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes of the entries, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What `token` says, if one of `issuers` issued it, it was verified under the terms that hold now, it has not expired at
    /// `now_s`, its key is still the issuer's, and it was not revoked.
    pub fn get(
        &mut self,
        token: &[u8],
        issuers: &[Arc<Issuer>],
        now_s: u64,
        revocations: &Revocations,
    ) -> Option<Rc<Verified>> {
        let hash = self.hash(token);
        let slots = &self.slots;
        let mut issuer = None;
        let index = *self.table.find(hash, |&index| {
            let slot = &slots[index as usize];
            if slot.hash != hash || *slot.token != *token {
                return false;
            }
            issuer = issuers.iter().find(|issuer| issuer.revision == slot.revision);
            issuer.is_some()
        })?;
        let slot = &mut self.slots[index as usize];
        let verified = slot.verified.as_ref()?;
        let keys = &issuer?.keys;
        // The epoch first: the set that is looked at is at least as new.
        let epoch = keys.epoch();
        let has_key = slot.epoch == epoch || keys.load().contains(verified.key);
        let is_revoked = slot.revocations != revocations.epoch() && verified.is_revoked(revocations);
        if now_s >= verified.until_s || !has_key || is_revoked {
            self.remove(index);
            return None;
        }
        (slot.epoch, slot.revocations) = (epoch, revocations.epoch());
        slot.used = true;
        Some(Rc::clone(verified))
    }

    /// Keeps a token that was just verified. `epoch` is that of the keys before they were looked at, `revocations` that of what it
    /// was looked up in.
    pub fn insert(&mut self, token: &[u8], verified: Rc<Verified>, epoch: u64, revocations: u64) {
        let bytes = token.len() + verified.bytes() + ENTRY_BYTES;
        if bytes > self.bytes_max {
            return;
        }
        while self.len() >= self.entries_max || self.bytes + bytes > self.bytes_max {
            self.make_room();
        }
        let hash = self.hash(token);
        let slot = Slot {
            revision: verified.issuer.revision,
            verified: Some(verified),
            token: token.into(),
            hash,
            epoch,
            revocations,
            used: false,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("ENTRIES_MAX fits in 32 bits")
            }
        };
        let slots = &self.slots;
        self.table.insert_unique(hash, index, |&index| slots[index as usize].hash);
        self.bytes += bytes;
    }

    /// Lets go of what has expired, a part of the entries in every turn.
    pub fn sweep(&mut self, now_s: u64) {
        for _ in 0..self.slots.len().div_ceil(SWEEP_TURNS) {
            self.swept = (self.swept + 1) % self.slots.len();
            let expired = |verified: &Rc<Verified>| now_s >= verified.until_s;
            if self.slots[self.swept].verified.as_ref().is_some_and(expired) {
                self.remove(u32::try_from(self.swept).expect("ENTRIES_MAX fits in 32 bits"));
            }
        }
    }

    /// Removes one that was not used since the hand came by. There is one: entries are not empty when this is called.
    fn make_room(&mut self) {
        loop {
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[self.hand];
            let used = std::mem::take(&mut slot.used);
            if slot.verified.is_some() && !used {
                self.remove(u32::try_from(self.hand).expect("ENTRIES_MAX fits in 32 bits"));
                return;
            }
        }
    }

    fn remove(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(verified) = slot.verified.take() else { return };
        let token = std::mem::take(&mut slot.token);
        self.bytes -= token.len() + verified.bytes() + ENTRY_BYTES;
        if let Ok(entry) = self.table.find_entry(slot.hash, |&other| other == index) {
            entry.remove();
        }
        self.free.push(index);
    }

    /// Of the end of the token alone: that is its signature, which nobody but the issuer chooses.
    fn hash(&self, token: &[u8]) -> u64 {
        self.hashing.hash_one(&token[token.len().saturating_sub(48)..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::verified;

    /// A cache for `entries` tokens of a few bytes, with as many in it.
    fn full(entries: usize) -> Cache {
        let mut cache = Cache::bounded(1, entries, usize::MAX);
        for number in 0..entries {
            insert(&mut cache, number);
        }
        cache
    }

    fn insert(cache: &mut Cache, number: usize) {
        cache.insert(number.to_string().as_bytes(), verified(), 0, 0);
    }

    fn has(cache: &mut Cache, number: usize) -> bool {
        let issuers = [Arc::clone(&verified().issuer)];
        cache.get(number.to_string().as_bytes(), &issuers, 0, &Revocations::default()).is_some()
    }

    #[test]
    fn what_was_used_stays_when_room_is_made() {
        let mut cache = full(8);
        for number in [2, 5] {
            assert!(has(&mut cache, number));
        }
        for number in 8..14 {
            insert(&mut cache, number);
        }
        assert_eq!(cache.len(), 8);
        for number in [2, 5, 8, 13] {
            assert!(has(&mut cache, number), "{number}");
        }
        for number in [0, 1, 3, 4, 6, 7] {
            assert!(!has(&mut cache, number), "{number}");
        }
    }

    #[test]
    fn its_bytes_are_bounded() {
        let mut one = Cache::new(1);
        insert(&mut one, 1);
        let each = one.bytes();
        let mut cache = Cache::bounded(1, usize::MAX, each * 10);
        for number in 10..60 {
            insert(&mut cache, number);
            assert!(cache.bytes() <= each * 11);
        }
        assert!((9..=10).contains(&cache.len()), "{}", cache.len());
        cache.insert(&vec![0; each * 10], verified(), 0, 0);
        assert!((9..=10).contains(&cache.len()), "one that does not fit pushes nobody out");
    }
}
