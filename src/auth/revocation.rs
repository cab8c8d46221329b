//! Which tokens are refused although their signature is good: those that were logged out, and all of a subject before a time.
//!
//! A set is never changed, only followed by the next, which shares with it what did not change. A million revoked tokens take
//! 28 MB (24 bytes each, and 4 of index), twice that while levels are put together (bench `revocation`
//! measures a look-up among them). No look-up is made where nothing was revoked.

use std::{cmp::Ordering, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};

/// The newest set: the control thread stores it, every shard reads it. A store is seen by every check that begins after it.
pub type RevocationCell = ArcSwap<Revocations>;

/// What is revoked, of every issuer whose tokens are issued here.
#[derive(Clone, Default)]
pub struct Revocations {
    issuers: Vec<(Arc<str>, Arc<Revoked>)>,
    epoch: u64,
}

/// Something that is to be refused from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation<'a> {
    /// The token with this `jti`, which would expire at `until`.
    Token { jti: &'a str, until: u64 },
    /// Every token of this subject that was issued before a time; the last of them expires at `until`.
    Subject { sub: &'a str, before: u64, until: u64 },
}

impl Revocations {
    /// Counts up with every change: what was not revoked in this epoch is not revoked.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Revoked tokens and subjects, those that have expired and are still known among them.
    pub fn len(&self) -> usize {
        self.issuers.iter().map(|(_, revoked)| revoked.tokens.len() + revoked.subjects.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a token is to be refused. `iat` in seconds; a token that does not say when it was issued is taken to be older than
    /// every log-out of its subject.
    pub fn is_revoked(&self, iss: &str, jti: Option<&str>, sub: Option<&str>, iat: Option<u64>) -> bool {
        let Some((_, revoked)) = self.issuers.iter().find(|(name, _)| **name == *iss) else { return false };
        let token = jti.filter(|_| !revoked.tokens.is_empty());
        if token.is_some_and(|jti| revoked.tokens.find(&token_key(jti)).is_some()) {
            return true;
        }
        let subject = sub.filter(|_| !revoked.subjects.is_empty());
        let before = subject.and_then(|sub| revoked.subjects.find(&hashed(sub)));
        before.is_some_and(|before| iat.is_none_or(|iat| seconds(iat) < before))
    }

    /// This set and `more`. Costs a copy of at most 256 entries for a single one, and now and then a level put together.
    #[must_use]
    pub fn with(&self, iss: &str, more: &[Revocation<'_>], now: u64) -> Self {
        let mut tokens = Vec::new();
        let mut subjects = Vec::new();
        for revocation in more {
            match *revocation {
                Revocation::Token { jti, until } => {
                    tokens.push(Entry { key: token_key(jti), before: u32::MAX, until: seconds(until) });
                }
                Revocation::Subject { sub, before, until } => {
                    let (before, until) = (seconds(before), seconds(until));
                    subjects.push(Entry { key: hashed(sub), before, until });
                }
            }
        }
        self.changed(iss, |old| Revoked {
            tokens: old.tokens.with(tokens, seconds(now)),
            subjects: old.subjects.with(subjects, seconds(now)),
        })
    }

    /// This set without what has expired at `now`; `None` where that is too little to be worth it.
    pub fn without_expired(&self, now: u64) -> Option<Self> {
        let now = seconds(now);
        let is_expired = |entry: &Entry| entry.until <= now;
        let mut without = self.clone();
        let mut forgot = false;
        for (_, revoked) in &mut without.issuers {
            let all = || [&revoked.tokens, &revoked.subjects].into_iter().flat_map(Levels::entries);
            let (expired, count) = (all().filter(|entry| is_expired(entry)).count(), all().count());
            if expired > 0 && (count < MIDDLE_MAX || expired >= count / 8) {
                let (tokens, subjects) = (revoked.tokens.compact(now), revoked.subjects.compact(now));
                *revoked = Arc::new(Revoked { tokens, subjects });
                forgot = true;
            }
        }
        // What has expired is refused anyway: nothing needs to be looked up again, so the epoch stays.
        forgot.then_some(without)
    }

    fn changed(&self, iss: &str, change: impl FnOnce(&Revoked) -> Revoked) -> Self {
        let mut next = self.clone();
        next.epoch += 1;
        match next.issuers.iter_mut().find(|(name, _)| **name == *iss) {
            Some((_, revoked)) => *revoked = Arc::new(change(revoked)),
            None => next.issuers.push((iss.into(), Arc::new(change(&Revoked::default())))),
        }
        next
    }
}

/// What is revoked of one issuer.
#[derive(Default)]
struct Revoked {
    tokens: Levels,
    subjects: Levels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: Key,
    /// Issued before this is revoked; all of it, for a token.
    before: u32,
    /// Expired from then on.
    until: u32,
}

type Key = [u8; 16];

/// Entries of the newest and of the middle level.
const DELTA_MAX: usize = 256;
const MIDDLE_MAX: usize = 16 * 1024;

/// Sorted entries in three sizes, the newest in the smallest: adding one copies little, and the large ones seldom.
#[derive(Default)]
struct Levels {
    delta: Arc<Level>,
    middle: Arc<Level>,
    base: Arc<Level>,
}

impl Levels {
    fn all(&self) -> [&Arc<Level>; 3] {
        [&self.delta, &self.middle, &self.base]
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.all().into_iter().flat_map(|level| &*level.entries)
    }

    fn len(&self) -> usize {
        self.all().iter().map(|level| level.entries.len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.all().iter().all(|level| level.entries.is_empty())
    }

    /// Before what time tokens of this key are revoked.
    fn find(&self, key: &Key) -> Option<u32> {
        self.all().into_iter().filter_map(|level| level.find(key)).max()
    }

    fn with(&self, more: Vec<Entry>, now: u32) -> Self {
        let [mut delta, mut middle, mut base] = self.all().map(Arc::clone);
        if !more.is_empty() {
            delta = Arc::new(delta.and(&Level::of(more), 0));
        }
        if delta.entries.len() > DELTA_MAX {
            middle = Arc::new(middle.and(&delta, now));
            delta = Arc::default();
        }
        if middle.entries.len() > MIDDLE_MAX {
            base = Arc::new(base.and(&middle, now));
            middle = Arc::default();
        }
        Self { delta, middle, base }
    }

    fn compact(&self, now: u32) -> Self {
        let base = self.base.and(&self.middle, now).and(&self.delta, now);
        Self { base: Arc::new(base), ..Self::default() }
    }
}

/// Entries in the order of their keys, each key once, and where those with the same first bits begin.
#[derive(Default)]
struct Level {
    entries: Box<[Entry]>,
    starts: Box<[u32]>,
    bits: u32,
}

impl Level {
    fn of(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by_key(|entry| entry.key);
        entries.dedup_by(|later, kept| {
            let same = later.key == kept.key;
            if same {
                *kept = kept.or(later);
            }
            same
        });
        Self::sorted(entries)
    }

    fn sorted(entries: Vec<Entry>) -> Self {
        let bits = entries.len().checked_ilog2().unwrap_or(0);
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (index, entry) in entries.iter().enumerate() {
            while starts.len() <= first_bits(&entry.key, bits) {
                starts.push(u32::try_from(index).expect("fewer than 4 billion tokens are revoked"));
            }
        }
        starts.resize((1 << bits) + 1, u32::try_from(entries.len()).expect("as above"));
        Self { entries: entries.into(), starts: starts.into(), bits }
    }

    fn find(&self, key: &Key) -> Option<u32> {
        if self.entries.is_empty() {
            return None;
        }
        // Keys are random: about one has these bits, and it is next to its neighbours.
        let place = first_bits(key, self.bits);
        let near = &self.entries[self.starts[place] as usize..self.starts[place + 1] as usize];
        near.binary_search_by(|entry| entry.key.cmp(key)).ok().map(|index| near[index].before)
    }

    /// Both, without what has expired at `now`.
    fn and(&self, other: &Self, now: u32) -> Self {
        let mut entries = Vec::with_capacity(self.entries.len() + other.entries.len());
        let (mut ours, mut theirs) = (&*self.entries, &*other.entries);
        loop {
            let next = match (ours, theirs) {
                ([one, rest @ ..], [other, others @ ..]) => match one.key.cmp(&other.key) {
                    Ordering::Less => {
                        ours = rest;
                        *one
                    }
                    Ordering::Greater => {
                        theirs = others;
                        *other
                    }
                    Ordering::Equal => {
                        (ours, theirs) = (rest, others);
                        one.or(other)
                    }
                },
                ([one, rest @ ..], []) | ([], [one, rest @ ..]) => {
                    (ours, theirs) = (rest, &[]);
                    *one
                }
                ([], []) => break,
            };
            if next.until > now {
                entries.push(next);
            }
        }
        entries.shrink_to_fit();
        Self::sorted(entries)
    }
}

impl Entry {
    /// What revokes all that one of both does.
    fn or(&self, other: &Self) -> Self {
        Self { key: self.key, before: self.before.max(other.before), until: self.until.max(other.until) }
    }
}

fn first_bits(key: &Key, bits: u32) -> usize {
    let first = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    first.checked_shr(32 - bits).unwrap_or(0) as usize
}

/// Times past 2106 are all the same here.
fn seconds(time: u64) -> u32 {
    u32::try_from(time).unwrap_or(u32::MAX)
}

/// Of a `jti`: the 16 bytes that ours are made of, or what stands for another one.
fn token_key(jti: &str) -> Key {
    let mut key = Key::default();
    // 24 bytes are what the decoder asks for as room.
    let mut bytes = [0; 24];
    match URL_SAFE_NO_PAD.decode_slice(jti, &mut bytes) {
        Ok(16) if jti.len() == 22 => key.copy_from_slice(&bytes[..16]),
        Ok(_) | Err(_) => return hashed(jti),
    }
    key
}

/// Half of a SHA-256: two of them are the same when somebody has tried 2^64 times.
fn hashed(text: &str) -> Key {
    let digest = digest(&SHA256, text.as_bytes());
    let mut key = Key::default();
    key.copy_from_slice(&digest.as_ref()[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;
    const ISS: &str = "https://api.example.com/";

    fn jti(number: u64) -> String {
        URL_SAFE_NO_PAD.encode(&digest(&SHA256, &number.to_le_bytes()).as_ref()[..16])
    }

    fn of_token(set: &Revocations, jti: &str) -> bool {
        set.is_revoked(ISS, Some(jti), Some("ann"), Some(NOW))
    }

    #[test]
    fn a_revoked_token_is_revoked_and_no_other() {
        let none = Revocations::default();
        let set = none.with(ISS, &[Revocation::Token { jti: "a", until: NOW + 900 }], NOW);
        assert!(of_token(&set, "a"));
        assert!(!of_token(&none, "a"));
        assert!(!of_token(&set, "b"));
        assert!(!set.is_revoked("https://other/", Some("a"), None, None));
        assert!(!set.is_revoked(ISS, None, Some("a"), None));
    }

    #[test]
    fn a_subject_is_logged_out_up_to_a_second_and_may_come_back() {
        let out = |before| Revocation::Subject { sub: "ann", before, until: before + 900 };
        let check = |set: &Revocations, sub: &str, iat: Option<u64>, expected: bool| {
            assert_eq!(set.is_revoked(ISS, Some("t"), Some(sub), iat), expected, "{sub} {iat:?}");
        };
        let set = Revocations::default().with(ISS, &[out(NOW)], NOW);
        check(&set, "ann", Some(NOW - 1), true);
        check(&set, "ann", None, true);
        check(&set, "ann", Some(NOW), false);
        check(&set, "bob", Some(NOW - 1), false);
        let again = set.with(ISS, &[out(NOW + 10), out(NOW + 5)], NOW);
        check(&again, "ann", Some(NOW + 9), true);
        check(&again, "ann", Some(NOW + 10), false);
    }

    #[test]
    fn every_change_is_an_epoch_of_its_own() {
        let none = Revocations::default();
        let one = none.with(ISS, &[Revocation::Token { jti: "a", until: NOW + 900 }], NOW);
        assert!(one.epoch() > none.epoch());
        assert_eq!(one.without_expired(NOW + 900).map(|set| set.epoch()), Some(one.epoch()));
    }

    #[test]
    fn tokens_are_forgotten_when_they_expire() {
        let revoked = [
            Revocation::Token { jti: "a", until: NOW + 10 },
            Revocation::Token { jti: "b", until: NOW + 20 },
            Revocation::Subject { sub: "ann", before: NOW, until: NOW + 10 },
        ];
        let set = Revocations::default().with(ISS, &revoked, NOW);
        assert!(set.without_expired(NOW + 9).is_none());
        let later = set.without_expired(NOW + 10).expect("two have expired");
        assert_eq!(later.len(), 1);
        assert!(of_token(&later, "b") && !of_token(&later, "a"));
        assert!(later.without_expired(NOW + 20).expect("the last has expired").is_empty());
    }

    #[test]
    fn entries_are_found_in_every_level_whatever_comes_one_by_one_or_at_once() {
        let texts: Vec<String> = (0..40_000).map(jti).collect();
        let token = |jti| Revocation::Token { jti, until: NOW + 900 };
        let bulk: Vec<_> = texts[..20_000].iter().map(|jti| token(jti)).collect();
        let mut set = Revocations::default().with(ISS, &bulk, NOW);
        for jti in &texts[20_000..38_000] {
            set = set.with(ISS, &[token(jti)], NOW);
        }
        // Once more: nothing is counted twice when levels are put together.
        set = set.with(ISS, &bulk[..300], NOW);
        assert!(texts[..38_000].iter().all(|jti| of_token(&set, jti)));
        assert!(!texts[38_000..].iter().any(|jti| of_token(&set, jti)));
        let whole = set.with(ISS, &[Revocation::Token { jti: "x", until: 1 }], NOW).without_expired(NOW);
        assert_eq!(whole.map(|set| set.len()), None, "one of many is not worth it");
    }

    #[test]
    fn a_set_shares_its_large_levels_with_the_next() {
        let texts: Vec<String> = (0..20_000).map(jti).collect();
        let bulk: Vec<_> = texts.iter().map(|jti| Revocation::Token { jti, until: NOW + 9 }).collect();
        let set = Revocations::default().with(ISS, &bulk, NOW);
        let next = set.with(ISS, &[Revocation::Token { jti: "a", until: NOW + 9 }], NOW);
        let base = |set: &Revocations| Arc::as_ptr(&set.issuers[0].1.tokens.base);
        assert_eq!(base(&set), base(&next));
    }

    #[test]
    fn a_million_revoked_tokens_take_28_megabytes() {
        let million = 1_000_000;
        let key = |number: u64| {
            let mut key = Key::default();
            key[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
            key
        };
        let entries = (0..million).map(|n| Entry { key: key(n), before: u32::MAX, until: u32::MAX });
        let level = Level::of(entries.collect());
        let bytes = size_of_val(&*level.entries) + size_of_val(&*level.starts);
        assert!(bytes <= 28_000_000, "{bytes}");
        // Near: how many a look-up has to search through, where keys are random.
        let longest = level.starts.windows(2).map(|two| two[1] - two[0]).max();
        assert!(longest.is_some_and(|longest| longest < 16), "{longest:?}");
        assert!((0..million).step_by(997).all(|n| level.find(&key(n)).is_some()));
        assert!((million..million + 1000).all(|n| level.find(&key(n)).is_none()));
    }
}
