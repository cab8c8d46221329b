//! Threads for what costs a core its time: hashing passwords. Few, with a bounded queue, and none of them a shard.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};

use tokio::sync::oneshot;

/// The threads end when it is dropped.
#[derive(Clone)]
pub(super) struct Pool {
    work: mpsc::SyncSender<Work>,
}

type Work = Box<dyn FnOnce() + Send>;

/// More waits already than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Pool {
    pub(super) fn start(threads: usize, queue: usize) -> io::Result<Self> {
        let (work, waiting) = mpsc::sync_channel::<Work>(queue);
        #[expect(
            clippy::disallowed_types,
            reason = "threads that may block take turns at a queue; no shard does"
        )]
        let waiting = Arc::new(std::sync::Mutex::new(waiting));
        for number in 0..threads.max(1) {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new().name(format!("password-{number}")).spawn(move || {
                loop {
                    let next = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
                    let Ok(work) = next else { return };
                    // The caller learns of a panic by the answer that does not come.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                }
            })?;
        }
        Ok(Self { work })
    }

    /// Runs `work` and waits for what it returns. `Ok(None)` when it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Full> {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move || {
            // Who asked may have gone.
            let _ = answer.send(work());
        });
        self.work.try_send(work).map_err(|_| Full)?;
        Ok(answered.await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_and_a_panic_ends_nothing_else() {
        let pool = Pool::start(1, 4).expect("a thread");
        assert_eq!(pool.run(|| 6 * 7).await, Ok(Some(42)));
        assert_eq!(pool.run(|| -> u32 { panic!("of the test") }).await, Ok(None));
        assert_eq!(pool.run(|| 1).await, Ok(Some(1)));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let pool = Pool::start(1, 1).expect("a thread");
        let (go, gate) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let busy = {
            let pool = pool.clone();
            tokio::spawn(async move {
                let work = move || {
                    let _ = started.send(());
                    gate.recv()
                };
                pool.run(work).await
            })
        };
        while has_started.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        let waits = {
            let pool = pool.clone();
            tokio::spawn(async move { pool.run(|| 2).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(pool.run(|| 3).await, Err(Full));
        go.send(()).expect("it waits");
        assert!(busy.await.is_ok());
        assert_eq!(waits.await.ok(), Some(Ok(Some(2))));
    }
}
