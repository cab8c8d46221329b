//! Keys of issuers, fetched and kept fresh in the background; shards read what is in the cells.
//!
//! A set is fetched when its issuer is configured, again when its `Cache-Control` says so, and at once when a shard meets a key that
//! is not in it, though not twice within 30 s. A fetch that fails leaves the set as it is, and is repeated sooner.

mod fetch;

use std::{sync::Arc, time::Duration};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

use self::fetch::Fetcher;
use crate::{auth::KeyCell, config::KeyUrl, observe::event};

/// Keys of one place.
pub struct FetchedKeys {
    pub from: KeyUrl,
    pub cell: Arc<KeyCell>,
    /// Rung when a shard wants fresh ones.
    pub bell: Arc<Notify>,
}

/// A key that is not known is asked for at most so often.
const COOL_DOWN: Duration = Duration::from_secs(30);
/// How long a set is good that does not say so, and the bounds of what one may say.
const REFRESH_DEFAULT: Duration = Duration::from_secs(600);
const REFRESH_MIN: Duration = Duration::from_secs(60);
const REFRESH_MAX: Duration = Duration::from_secs(24 * 3600);
/// After a fetch that failed; doubled with each that follows.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Keeps all `sources` fresh, for ever.
pub(super) async fn run(mut sources: watch::Receiver<Vec<Arc<FetchedKeys>>>) {
    let mut tasks = JoinSet::new();
    let mut running: Vec<(Arc<FetchedKeys>, AbortHandle)> = Vec::new();
    loop {
        let wanted = sources.borrow_and_update().clone();
        running.retain(|(known, task)| {
            let stays = wanted.iter().any(|keys| Arc::ptr_eq(keys, known));
            if !stays {
                task.abort();
            }
            stays
        });
        for keys in wanted {
            if !running.iter().any(|(known, _)| Arc::ptr_eq(&keys, known)) {
                let task = tasks.spawn(keep_fresh(Arc::clone(&keys)));
                running.push((keys, task));
            }
        }
        loop {
            tokio::select! {
                changed = sources.changed() => {
                    if changed.is_err() {
                        // Nobody will change them; those there are go on.
                        std::future::pending::<()>().await;
                    }
                    break;
                }
                // One ends only by being aborted.
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

async fn keep_fresh(keys: Arc<FetchedKeys>) {
    let FetchedKeys { from, cell, bell } = &*keys;
    let mut fetcher = None;
    let mut failures = 0;
    let mut asked = false;
    loop {
        cell.fetch_begins();
        let fetched = match &mut fetcher {
            Some(fetcher) => fetch::fetch(fetcher, from).await,
            none => match Fetcher::new(&from.verify).await {
                Ok(new) => fetch::fetch(none.insert(new), from).await,
                Err(why) => Err(why),
            },
        };
        let wait = match fetched {
            Ok(fetched) => {
                failures = 0;
                for why in fetched.keys.left_out() {
                    event::debug("jwks", format_args!("{}: {why}; it is not used", from.url));
                }
                let (count, before) = (fetched.keys.len(), cell.epoch());
                cell.store(fetched.keys);
                if cell.epoch() != before {
                    event::info("jwks", format_args!("{}: {count} keys", from.url));
                }
                let good_for = fetched.good_for.unwrap_or(REFRESH_DEFAULT);
                jittered(good_for.clamp(REFRESH_MIN, REFRESH_MAX))
            }
            Err(why) => {
                let wait = RETRY_MIN.saturating_mul(1 << failures.min(10)).min(RETRY_MAX);
                failures += 1;
                let kept = if cell.load().is_empty() { "there are none" } else { "those known are kept" };
                event::warn("jwks", format_args!("{}: no keys: {why}; {kept}", from.url));
                jittered(wait)
            }
        };
        cell.fetch_ended(asked);
        asked = next(cell, bell, wait, asked).await;
    }
}

/// Waits until the next fetch is due, or was asked for. Returns whether it was.
async fn next(cell: &KeyCell, bell: &Notify, wait: Duration, mut cooling: bool) -> bool {
    let now = Instant::now();
    let (due, cool) = (now + wait, now + COOL_DOWN);
    loop {
        tokio::select! {
            () = bell.notified() => return true,
            () = sleep_until(cool), if cooling => {
                cooling = false;
                cell.has_cooled();
            }
            () = sleep_until(due) => return cooling,
        }
    }
}

/// Nine to ten tenths of it, so that many gateways do not ask at once.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without random numbers all of them ask at once, which is no error.
    let _ = SystemRandom::new().fill(&mut byte);
    wait - wait / 2560 * u32::from(byte[0])
}
