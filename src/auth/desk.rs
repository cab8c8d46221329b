//! Where a shard looks at tokens.

use std::{rc::Rc, sync::Arc};

use super::{
    Issuer, Reject, Verified,
    cache::Cache,
    claims,
    jws::{Jws, Room},
    revocation::Revocations,
};

/// What one shard needs for it.
pub struct Desk {
    cache: Cache,
    room: Room,
    counts: Counts,
}

/// What was done since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens that were known already.
    pub known: u64,
    /// Tokens whose signature was looked at, and good.
    pub verified: u64,
}

/// A token that is not taken.
#[derive(Debug)]
pub struct Denied<'i> {
    pub reject: Reject,
    /// Whose it says it is, if that is one of those asked for.
    pub issuer: Option<&'i Arc<Issuer>>,
    /// It may be good by keys that are not here yet.
    pub wants_keys: bool,
}

impl Desk {
    /// `seed` is drawn at random, for each shard another.
    pub fn new(seed: u64) -> Self {
        Self { cache: Cache::new(seed), room: Room::new(seed), counts: Counts::default() }
    }

    /// What `token` says, if one of `issuers` issued it and it is good at `now_s`, the unix time in seconds.
    ///
    /// What needs no key comes first: form, algorithm, issuer, audience, times. Costs a look-up for a token that was seen before.
    pub fn check<'i>(
        &mut self,
        token: &[u8],
        issuers: &'i [Arc<Issuer>],
        now_s: u64,
        revocations: &Revocations,
    ) -> Result<Rc<Verified>, Denied<'i>> {
        if let Some(verified) = self.cache.get(token, issuers, now_s, revocations) {
            self.counts.known += 1;
            return Ok(verified);
        }
        let denied = |reject, issuer| Denied { reject, issuer, wants_keys: false };
        let jws = Jws::parse(token, &mut self.room).map_err(|reject| denied(reject, None))?;
        let claims = claims::read(&jws, issuers, now_s, &mut self.room)
            .map_err(|(reject, issuer)| denied(reject, issuer))?;
        let issuer = claims.issuer;
        // The epoch first: the set that is looked at is at least as new.
        let epoch = issuer.keys.epoch();
        let keys = issuer.keys.load();
        let key = keys.verify(&jws, &mut self.room).map_err(|reject| {
            // Without a name, the right key may be one that is not here yet.
            let unknown = reject == Reject::Key || (reject == Reject::Signature && jws.kid.is_none());
            let reject = if keys.is_empty() { Reject::NoKeys } else { reject };
            Denied { reject, issuer: Some(issuer), wants_keys: unknown }
        })?;
        let verified = Rc::new(claims.proved_by(key, &self.room));
        self.counts.verified += 1;
        if verified.is_revoked(revocations) {
            return Err(denied(Reject::Revoked, Some(issuer)));
        }
        self.cache.insert(token, Rc::clone(&verified), epoch, revocations.epoch());
        Ok(verified)
    }

    /// Lets go of tokens that have expired.
    pub fn sweep(&mut self, now_s: u64) {
        self.cache.sweep(now_s);
    }

    /// Tokens kept, and their bytes.
    pub fn kept(&self) -> (usize, usize) {
        (self.cache.len(), self.cache.bytes())
    }

    /// What was done since this was last asked.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}
