//! The least loaded of all.

use super::{State, round_robin};

/// How fast a slow answer is forgotten: after this time a third of it is left.
const MEMORY_MS: f64 = 10_000.0;

/// The endpoint with the fewest requests in flight on this shard, relative to its weight; among equals in turn, as in nginx.
pub(super) fn pick_by_requests(state: &mut [State], share: impl Fn(usize) -> u64) -> Option<usize> {
    pick(state, |state| u128::from(state.in_flight), share)
}

/// The endpoint that would answer first: its time to answer, times the requests it would have, relative to its weight ("peak EWMA", as
/// in Finagle). One whose time is not known gets a request while it has none.
pub(super) fn pick_by_time(state: &mut [State], now_ms: u64, share: impl Fn(usize) -> u64) -> Option<usize> {
    let load = |state: &State| match (state.time_us(now_ms), state.in_flight) {
        (0, 0) => 0,
        // Behind everybody who has answered.
        (0, in_flight) => u128::from(u64::MAX) + u128::from(in_flight),
        (time_us, in_flight) => u128::from(time_us) * (u128::from(in_flight) + 1),
    };
    pick(state, load, share)
}

/// The endpoint with the least load per share.
fn pick(state: &mut [State], load: impl Fn(&State) -> u128, share: impl Fn(usize) -> u64) -> Option<usize> {
    let mut best: Option<usize> = None;
    // Without a division. Loads are below 2^65, shares below 2^24.
    let compare = |state: &[State], one: usize, other: usize| {
        (load(&state[one]) * u128::from(share(other))).cmp(&(load(&state[other]) * u128::from(share(one))))
    };
    for index in (0..state.len()).filter(|&index| share(index) > 0) {
        if best.is_none_or(|best| compare(state, index, best).is_lt()) {
            best = Some(index);
        }
    }
    let best = best?;
    let (best_load, best_share) = (load(&state[best]), u128::from(share(best)));
    let share_if_least = |index: usize, state: &State| {
        let own = share(index);
        if load(state) * best_share == best_load * u128::from(own) { own } else { 0 }
    };
    round_robin::pick(state, share_if_least)
}

impl State {
    /// Notes that an answer took `took_us`. A slow one counts at once, a fast one by and by.
    pub fn answered(&mut self, took_us: u64, now_ms: u64) {
        let known_us = self.time_us;
        self.time_us = match known_us.checked_sub(took_us) {
            Some(slower_us) => took_us + self.left_of(slower_us, now_ms),
            None => took_us,
        };
        self.time_us = self.time_us.max(1);
        self.time_at_ms = now_ms;
    }

    /// How long it takes to answer, as far as that is remembered; 0 when it never has.
    fn time_us(&self, now_ms: u64) -> u64 {
        match self.time_us {
            0 => 0,
            // Whoever was slow long ago is tried again.
            known_us => self.left_of(known_us, now_ms).max(1),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a positive number, at most the one given; 2^53 µs are centuries"
    )]
    fn left_of(&self, time_us: u64, now_ms: u64) -> u64 {
        let passed_ms = now_ms.saturating_sub(self.time_at_ms);
        (time_us as f64 * (-(passed_ms as f64) / MEMORY_MS).exp()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The endpoints picked `count` times in a row, with `in_flight` and `shares` as given; each pick adds a request.
    fn by_requests(in_flight: &[u32], shares: &[u64], count: usize) -> String {
        let mut state: Vec<State> =
            in_flight.iter().map(|&in_flight| State { in_flight, ..State::default() }).collect();
        let picks = (0..count).map(|_| {
            let picked = pick_by_requests(&mut state, |index| shares[index]);
            picked.map_or('-', |picked| {
                state[picked].in_flight += 1;
                char::from(b'a' + u8::try_from(picked).unwrap())
            })
        });
        picks.collect()
    }

    #[test]
    fn the_fewest_requests_for_its_weight_win() {
        assert_eq!(by_requests(&[3, 1, 2], &[1, 1, 1], 3), "bbc");
        assert_eq!(by_requests(&[3, 1], &[4, 1], 1), "a");
        assert_eq!(by_requests(&[0, 0], &[3, 1], 8).matches('a').count(), 6);
        assert_eq!(by_requests(&[0, 5], &[0, 1], 2), "bb");
        assert_eq!(by_requests(&[0], &[0], 1), "-");
    }

    #[test]
    fn equals_take_turns() {
        assert_eq!(by_requests(&[0, 0, 0], &[1, 1, 1], 3), "abc");
        let mut state = vec![State::default(); 3];
        let picks: Vec<_> = (0..6).map(|_| pick_by_requests(&mut state, |_| 1)).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2].map(Some), "all are idle each time");
    }

    fn answering(times_us: &[u64]) -> Vec<State> {
        let state = |&time_us: &u64| {
            let mut state = State::default();
            if time_us > 0 {
                state.answered(time_us, 1000);
            }
            state
        };
        times_us.iter().map(state).collect()
    }

    #[test]
    fn the_fastest_for_its_requests_wins() {
        let mut state = answering(&[10_000, 4000]);
        let picks: Vec<_> = (0..5)
            .map(|_| {
                let picked = pick_by_time(&mut state, 1000, |_| 1).unwrap();
                state[picked].in_flight += 1;
                picked
            })
            .collect();
        // 4, 8, then 10 < 12, 12, and 16 < 20.
        assert_eq!(picks, [1, 1, 0, 1, 1]);
    }

    #[test]
    fn one_that_never_answered_gets_a_request_at_a_time() {
        let mut state = answering(&[4000, 0]);
        assert_eq!(pick_by_time(&mut state, 1000, |_| 1), Some(1));
        state[1].in_flight = 1;
        assert_eq!(pick_by_time(&mut state, 1000, |_| 1), Some(0));
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten() {
        let mut state = State::default();
        state.answered(1000, 0);
        state.answered(90_000, 10);
        assert_eq!(state.time_us(10), 90_000);
        state.answered(1000, 20);
        assert!((80_000..90_000).contains(&state.time_us(20)), "{}", state.time_us(20));
        assert!(state.time_us(10_020) < 34_000);
        assert_eq!(state.time_us(u64::MAX), 1);
    }
}
