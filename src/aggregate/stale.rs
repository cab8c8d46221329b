//! The last good answers of parts with `stale`.
//!
//! An answer stands in only for one to the same request: the same method, target and body, and the same header fields as they
//! went to the service, credentials included. So nobody gets what was meant for somebody else.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

/// Bytes kept in one shard, keys included.
const BYTES_MAX: usize = 32 * 1024 * 1024;
const ANSWERS_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Stale {
    answers: HashMap<Rc<[u8]>, Kept>,
    /// Keys with the number of their answer, oldest first; those with an old number are no longer there.
    order: VecDeque<(Rc<[u8]>, u64)>,
    bytes: usize,
    next: u64,
}

struct Kept {
    number: u64,
    at_us: u64,
    body: Rc<[u8]>,
}

impl Stale {
    /// The answer that was kept under `key` at most `age_us` before `now_us`.
    pub(super) fn get(&self, key: &[u8], age_us: u64, now_us: u64) -> Option<Rc<[u8]>> {
        let kept = self.answers.get(key)?;
        (now_us.saturating_sub(kept.at_us) <= age_us).then(|| Rc::clone(&kept.body))
    }

    /// Keeps an answer in place of what was there. The oldest ones go where there is no room; one that takes more than an eighth of
    /// it is not kept.
    pub(super) fn put(&mut self, key: &[u8], body: &[u8], now_us: u64) {
        let size = key.len() + body.len();
        self.remove(key);
        if size > BYTES_MAX / 8 {
            return;
        }
        while self.bytes + size > BYTES_MAX || self.answers.len() >= ANSWERS_MAX {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            if self.answers.get(&oldest).is_some_and(|kept| kept.number == number) {
                self.remove(&oldest);
            }
        }
        let key: Rc<[u8]> = key.into();
        self.bytes += size;
        self.next += 1;
        self.order.push_back((Rc::clone(&key), self.next));
        self.answers.insert(key, Kept { number: self.next, at_us: now_us, body: body.into() });
        if self.order.len() > 2 * ANSWERS_MAX {
            let answers = &self.answers;
            self.order.retain(|(key, number)| answers.get(key).is_some_and(|kept| kept.number == *number));
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((key, kept)) = self.answers.remove_entry(key) {
            self.bytes -= key.len() + kept.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stale: &Stale, key: &str, now_us: u64, expected: Option<&str>) {
        let found = stale.get(key.as_bytes(), 100, now_us);
        assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{key}");
    }

    #[test]
    fn the_last_answer_is_kept_until_it_is_too_old() {
        let mut stale = Stale::default();
        stale.put(b"a", b"1", 0);
        stale.put(b"a", b"2", 50);
        check(&stale, "a", 150, Some("2"));
        check(&stale, "a", 151, None);
        check(&stale, "b", 50, None);
        assert_eq!(stale.bytes, 2);
    }

    #[test]
    fn the_oldest_go_where_there_is_no_room() {
        let mut stale = Stale::default();
        for number in 0..ANSWERS_MAX + 10 {
            stale.put(format!("{number}").as_bytes(), b"x", 0);
        }
        assert_eq!(stale.answers.len(), ANSWERS_MAX);
        check(&stale, "9", 0, None);
        check(&stale, "10", 0, Some("x"));
        let large = vec![b'x'; BYTES_MAX / 8 - 10];
        for number in 0..20 {
            stale.put(format!("l{number}").as_bytes(), &large, 0);
        }
        assert!(stale.bytes <= BYTES_MAX);
        assert!(stale.get(b"l19", 0, 0).is_some());
        stale.put(b"l19", &vec![b'x'; BYTES_MAX], 0);
        check(&stale, "l19", 0, None);
    }

    #[test]
    fn an_answer_that_is_renewed_again_and_again_takes_no_more_room() {
        let mut stale = Stale::default();
        for _ in 0..3 * ANSWERS_MAX {
            stale.put(b"a", b"1", 0);
        }
        assert!(stale.order.len() <= 2 * ANSWERS_MAX);
        assert_eq!((stale.answers.len(), stale.bytes), (1, 2));
    }
}
