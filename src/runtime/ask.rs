//! Questions to other threads: asked through a bounded queue, answered through the shard's mailbox, awaited without blocking.
//!
//! The shard keeps a seat for each question it waits for; a [`Question`] carries the seat's number to whoever answers. An answer
//! that comes too late finds the seat taken by another question, or by none, and is dropped.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::{Postbox, task::sleep};

/// Questions a shard may be waiting for at once (DESIGN §15: calls in flight to a broker).
const SEATS_MAX: usize = 4096;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Too many questions are waiting already; this one was not asked.
    Busy,
    /// None came in time.
    Late,
    /// None will come: who should answer has dropped the question, or has ended.
    Lost,
}

/// A question on its way to another thread. Dropped without an answer, it tells the shard so.
pub struct Question<Q, A> {
    pub asked: Q,
    pub answer: AnswerTo<A>,
}

/// Where the answer goes.
pub struct AnswerTo<A> {
    seat: SeatNumber,
    send: Arc<SendAnswer>,
    sent: bool,
    kind: std::marker::PhantomData<fn(A)>,
}

/// An answer on its way back, for the shard's [`Waiting::arrived`].
pub struct Answer {
    seat: SeatNumber,
    /// `None` when there will be none.
    value: Option<Box<dyn Any + Send>>,
}

type SendAnswer = dyn Fn(Answer) + Send + Sync;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SeatNumber {
    place: usize,
    /// Which of those that sat there one after the other.
    guest: u64,
}

/// What one shard waits for.
pub struct Waiting {
    seats: RefCell<Vec<Seat>>,
    free: RefCell<Vec<usize>>,
    send: Arc<SendAnswer>,
    ended: Cell<bool>,
}

#[derive(Default)]
struct Seat {
    guest: u64,
    waker: Option<Waker>,
    answer: Option<Answer>,
}

impl<A: Send + 'static> AnswerTo<A> {
    /// Wakes who asked. One who has stopped waiting gets nothing, and a shard whose mailbox is full lets its question time out.
    pub fn send(mut self, answer: A) {
        self.sent = true;
        (self.send)(Answer { seat: self.seat, value: Some(Box::new(answer)) });
    }
}

impl<A> Drop for AnswerTo<A> {
    fn drop(&mut self) {
        if !self.sent {
            (self.send)(Answer { seat: self.seat, value: None });
        }
    }
}

impl Waiting {
    /// For a shard whose mailbox takes answers as `wrap` makes them into messages.
    pub fn new<T: Send + 'static>(
        postbox: Postbox<T>,
        wrap: impl Fn(Answer) -> T + Send + Sync + 'static,
    ) -> Rc<Self> {
        let send = move |answer| {
            // A full mailbox belongs to a shard that hangs; who waits there has a deadline.
            let _ = postbox.post(wrap(answer));
        };
        Rc::new(Self {
            seats: RefCell::default(),
            free: RefCell::default(),
            send: Arc::new(send),
            ended: Cell::new(false),
        })
    }

    /// Asks through `queue` and waits for the answer, at most `patience`. May be dropped while it waits.
    pub async fn ask<Q, A: Send + 'static>(
        &self,
        queue: &Sender<Question<Q, A>>,
        asked: Q,
        patience: Duration,
    ) -> Result<A, Unanswered> {
        let guest = self.sit_down()?;
        let answer = AnswerTo {
            seat: guest.seat,
            send: Arc::clone(&self.send),
            sent: false,
            kind: std::marker::PhantomData,
        };
        queue.try_send(Question { asked, answer }).map_err(|error| match error {
            TrySendError::Full(_) => Unanswered::Busy,
            TrySendError::Closed(_) => Unanswered::Lost,
        })?;
        let mut late = pin!(sleep(patience));
        let answer = poll_fn(|cx| {
            if let Some(answer) = guest.take_answer() {
                return Poll::Ready(Ok(answer));
            }
            if self.ended.get() {
                return Poll::Ready(Err(Unanswered::Lost));
            }
            if late.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Unanswered::Late));
            }
            guest.wake_by(cx.waker());
            Poll::Pending
        })
        .await?;
        let value = answer.value.ok_or(Unanswered::Lost)?;
        Ok(*value.downcast::<A>().expect("an answer comes from the question that was asked from its seat"))
    }

    /// Hands an answer to who waits for it, if anybody still does.
    pub fn arrived(&self, answer: Answer) {
        let mut seats = self.seats.borrow_mut();
        let Some(seat) = seats.get_mut(answer.seat.place) else { return };
        if seat.guest == answer.seat.guest {
            seat.answer = Some(answer);
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
        }
    }

    /// From now on nobody waits: every question, running or new, is [`Unanswered::Lost`].
    pub fn end(&self) {
        self.ended.set(true);
        for waker in self.seats.borrow_mut().iter_mut().filter_map(|seat| seat.waker.take()) {
            waker.wake();
        }
    }

    fn sit_down(&self) -> Result<Guest<'_>, Unanswered> {
        if self.ended.get() {
            return Err(Unanswered::Lost);
        }
        let mut seats = self.seats.borrow_mut();
        let place = match self.free.borrow_mut().pop() {
            Some(place) => place,
            None if seats.len() < SEATS_MAX => {
                seats.push(Seat::default());
                seats.len() - 1
            }
            None => return Err(Unanswered::Busy),
        };
        Ok(Guest { waiting: self, seat: SeatNumber { place, guest: seats[place].guest } })
    }
}

/// One who waits. Leaves the seat to the next when dropped.
struct Guest<'w> {
    waiting: &'w Waiting,
    seat: SeatNumber,
}

impl Guest<'_> {
    fn take_answer(&self) -> Option<Answer> {
        self.waiting.seats.borrow_mut()[self.seat.place].answer.take()
    }

    fn wake_by(&self, waker: &Waker) {
        self.waiting.seats.borrow_mut()[self.seat.place].waker = Some(waker.clone());
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let guest = self.seat.guest + 1;
        self.waiting.seats.borrow_mut()[self.seat.place] = Seat { guest, ..Seat::default() };
        self.waiting.free.borrow_mut().push(self.seat.place);
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::ControlFlow, thread};

    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::runtime::{Gate, Runtime, mailbox, spawn};

    type Asked = Question<u32, String>;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(20);

    /// Runs `asks` on both drivers, with `answers` at the other end of a queue for two.
    fn check<F: Future<Output = ()> + 'static>(
        answers: impl Fn(Receiver<Asked>) + Send + Clone + 'static,
        asks: impl Fn(Rc<Waiting>, Sender<Asked>) -> F + 'static,
    ) {
        for runtime in [Runtime::io_uring(), Runtime::epoll()] {
            let Ok(mut runtime) = runtime else { continue };
            let (queue, questions) = channel(2);
            let answers = answers.clone();
            let other = thread::spawn(move || answers(questions));
            runtime.block_on(async {
                let (postbox, mailbox) = mailbox(16).expect("a socket pair");
                let waiting = Waiting::new(postbox.clone(), Some);
                let inbox = Rc::clone(&waiting);
                let done = Gate::default();
                let tested = done.clone();
                let asks = asks(Rc::clone(&waiting), queue);
                spawn(
                    async move {
                        asks.await;
                        let _ = postbox.post(None);
                        tested.put(());
                    },
                    |text| panic!("{text}"),
                );
                let received = mailbox.receive(|message| match message {
                    Some(answer) => {
                        inbox.arrived(answer);
                        ControlFlow::Continue(())
                    }
                    None => ControlFlow::Break(()),
                });
                received.await.expect("the mailbox works");
                done.take().await;
                assert_eq!(waiting.seats.borrow().len(), waiting.free.borrow().len(), "every seat is free");
            });
            other.join().expect("the other thread does not panic");
        }
    }

    fn echo(mut questions: Receiver<Asked>) {
        while let Some(Question { asked, answer }) = questions.blocking_recv() {
            answer.send(format!("{asked}!"));
        }
    }

    #[test]
    fn an_answer_comes_to_who_asked() {
        check(echo, |waiting, queue| async move {
            for number in 0..100 {
                let answer = waiting.ask(&queue, number, LONG).await;
                assert_eq!(answer, Ok(format!("{number}!")));
            }
        });
    }

    #[test]
    fn a_question_that_is_dropped_or_never_taken_is_lost() {
        check(
            |mut questions| drop(questions.blocking_recv()),
            |waiting, queue| async move {
                assert_eq!(waiting.ask(&queue, 1, LONG).await, Err(Unanswered::Lost));
                assert_eq!(waiting.ask(&queue, 2, LONG).await, Err(Unanswered::Lost));
            },
        );
    }

    #[test]
    fn an_answer_that_comes_late_disturbs_nobody() {
        let slow = |mut questions: Receiver<Asked>| {
            let first = questions.blocking_recv().expect("a question");
            let second = questions.blocking_recv().expect("another, once the first was given up");
            first.answer.send("late".to_owned());
            second.answer.send("in time".to_owned());
        };
        check(slow, |waiting, queue| async move {
            assert_eq!(waiting.ask(&queue, 1, SHORT).await, Err(Unanswered::Late));
            assert_eq!(waiting.ask(&queue, 2, LONG).await, Ok("in time".to_owned()));
        });
    }

    #[test]
    fn a_full_queue_is_said_at_once() {
        let deaf = |questions: Receiver<Asked>| {
            while !questions.is_closed() && questions.sender_strong_count() > 0 {}
        };
        check(deaf, |waiting, queue| async move {
            for number in 0..2 {
                let mut given_up = pin!(waiting.ask(&queue, number, LONG));
                // Asked, and dropped while it waits.
                poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx).is_pending())).await;
            }
            assert_eq!(waiting.ask(&queue, 2, LONG).await, Err(Unanswered::Busy));
        });
    }

    #[test]
    fn the_end_of_the_shard_ends_every_wait() {
        let deaf = |questions: Receiver<Asked>| while questions.sender_strong_count() > 0 {};
        check(deaf, |waiting, queue| async move {
            let ending = Rc::clone(&waiting);
            spawn(
                async move {
                    sleep(SHORT).await;
                    ending.end();
                },
                |text| panic!("{text}"),
            );
            assert_eq!(waiting.ask(&queue, 1, LONG).await, Err(Unanswered::Lost));
            assert_eq!(waiting.ask(&queue, 2, LONG).await, Err(Unanswered::Lost));
        });
    }
}
