//! Gathers what shards counted into totals.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, MutexGuard, oneshot},
    time::{Instant, timeout_at},
};

use super::{Report, Shards};
use crate::observe::{Gauges, Metrics, Totals};

/// How long shards have to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Collector {
    shards: Arc<dyn Shards>,
    collected: Mutex<Collected>,
}

/// The state after the last round.
pub(super) struct Collected {
    pub(super) totals: Totals,
    /// By shard; `None` for one that did not answer in time.
    pub(super) gauges: Vec<Option<Gauges>>,
    /// By shard: empty metrics for its next report.
    spares: Vec<Metrics>,
    /// By shard: a report that was asked for and not yet given. It holds counts, so it is not forgotten.
    late: Vec<Option<oneshot::Receiver<Report>>>,
}

impl Collector {
    pub(super) fn new(shards: Arc<dyn Shards>) -> Self {
        let count = shards.count();
        let collected = Collected {
            totals: Totals::default(),
            gauges: vec![None; count],
            spares: (0..count).map(|_| Metrics::new()).collect(),
            late: (0..count).map(|_| None).collect(),
        };
        Self { shards, collected: Mutex::new(collected) }
    }

    /// Asks all shards at once, waits at most a second, adds up what came. One round at a time.
    pub(super) async fn collect(&self) -> MutexGuard<'_, Collected> {
        let mut collected = self.collected.lock().await;
        let Collected { totals, gauges, spares, late } = &mut *collected;
        for (shard, late) in late.iter_mut().enumerate() {
            if late.is_none() {
                *late = self.shards.report(shard, std::mem::take(&mut spares[shard]));
            }
        }
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        for (shard, late) in late.iter_mut().enumerate() {
            gauges[shard] = None;
            let Some(waiting) = late else { continue };
            let Ok(answer) = timeout_at(deadline, waiting).await else { continue };
            *late = None;
            let Ok(Report { mut metrics, gauges: now }) = answer else { continue };
            totals.merge(&metrics);
            metrics.clear();
            spares[shard] = metrics;
            gauges[shard] = Some(now);
        }
        collected
    }
}

impl Collected {
    /// The shards that did not answer.
    pub(super) fn silent(&self) -> impl Iterator<Item = usize> + '_ {
        self.gauges.iter().enumerate().filter(|(_, gauges)| gauges.is_none()).map(|(shard, _)| shard)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;
    use crate::observe::Ended;

    /// One shard whose questions the test answers.
    struct OneShard(SyncSender<(Metrics, oneshot::Sender<Report>)>);

    impl Shards for OneShard {
        fn count(&self) -> usize {
            1
        }

        fn report(&self, _shard: usize, spare: Metrics) -> Option<oneshot::Receiver<Report>> {
            let (answer, answered) = oneshot::channel();
            self.0.try_send((spare, answer)).ok()?;
            Some(answered)
        }

        fn nudge(&self) {}
    }

    fn one_shard() -> (Collector, Receiver<(Metrics, oneshot::Sender<Report>)>) {
        let (sender, questions) = sync_channel(1);
        (Collector::new(Arc::new(OneShard(sender))), questions)
    }

    fn closed(metrics: &mut Metrics) {
        metrics.connection_closed(Ended::Idle);
        metrics.counters.retries += 1;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_too_late_is_counted_the_next_time() {
        let (collector, questions) = one_shard();
        let start = Instant::now();
        assert_eq!(collector.collect().await.silent().collect::<Vec<_>>(), [0]);
        assert_eq!(start.elapsed(), ANSWER_TIMEOUT);

        let (mut metrics, answer) = questions.try_recv().unwrap();
        closed(&mut metrics);
        assert!(answer.send(Report { metrics, gauges: Gauges::default() }).is_ok());
        let collected = collector.collect().await;
        assert_eq!(collected.silent().count(), 0);
        assert_eq!(collected.totals.retries(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_ended_or_is_full_is_silent_at_once() {
        let (collector, questions) = one_shard();
        let (asked, ()) = tokio::join!(collector.collect(), async { drop(questions.try_recv().unwrap()) });
        assert_eq!(asked.silent().count(), 1);
        drop(asked);
        drop(questions);
        let start = Instant::now();
        assert_eq!(collector.collect().await.silent().count(), 1);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
