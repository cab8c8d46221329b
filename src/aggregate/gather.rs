//! The parts of one request: which to ask when, and what to do with what comes of it.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Ask, Document, Unmade,
    answer::Answer,
    call::{Called, Rendered, call},
    document,
    fault::PartFault,
    report::{self, Ended},
    room::Room,
};
use crate::{
    clock::TICK_MS,
    json::{self, Kind, Place, Span},
    limits::AGGREGATE_BYTES_MAX,
    observe::{PartOutcome, StandIn},
    runtime::sleep,
    template::Of,
    transform::{Answers, FanOut, Importance, Part, Values},
    upstream::{Fault, Stop, Upstreams},
};

const TICK_US: u64 = TICK_MS * 1000;

/// Asks the parts and makes one document of their answers, or says why there is none.
///
/// May be dropped: what is under way for it ends.
pub async fn gather(
    ask: &Ask<'_>,
    upstreams: &Rc<Upstreams>,
    room: &Room,
) -> (Result<Document, Unmade>, Effort) {
    let started_us = upstreams.timers.clock.recent_us();
    let parts = &ask.aggregate.plan.parts;
    let mut gather = Gather {
        ask,
        upstreams,
        room,
        deadline_us: started_us.saturating_add(micros(ask.timeout)),
        states: parts.iter().map(|_| State::default()).collect(),
        calls: Vec::with_capacity(parts.len()),
        running: Vec::with_capacity(parts.len()),
        ended: vec![None; parts.len()],
        left: Rc::new(Cell::new(AGGREGATE_BYTES_MAX)),
        attempts: 0,
    };
    let failed = gather.run().await.err();
    gather.end_running();
    let effort = Effort {
        attempts: gather.attempts,
        waited_us: upstreams.timers.clock.recent_us().saturating_sub(started_us),
    };
    let made = document::make(&mut gather, failed);
    report::count(ask, &gather.ended, &mut upstreams.metrics.borrow_mut());
    (made, effort)
}

/// What it took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    pub attempts: u32,
    pub waited_us: u64,
}

/// A required part that failed, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Required(pub usize);

pub(super) struct Gather<'a> {
    pub ask: &'a Ask<'a>,
    pub upstreams: &'a Rc<Upstreams>,
    pub room: &'a Room,
    deadline_us: u64,
    /// In the order of the plan.
    pub states: Vec<State>,
    pub calls: Vec<Call>,
    running: Vec<Running<'a>>,
    pub ended: Vec<Option<Ended>>,
    /// Bytes that the answers may still have.
    left: Rc<Cell<usize>>,
    attempts: u32,
}

#[derive(Default)]
pub(super) struct State {
    pub phase: Phase,
    /// Its calls, in the order of the values they are for.
    pub calls: Vec<usize>,
    /// How many of them have been begun.
    begun: usize,
    started_us: u64,
}

#[derive(Default)]
pub(super) enum Phase {
    #[default]
    Waiting,
    Running,
    Done(Outcome),
}

/// What a part has come to.
pub(super) enum Outcome {
    /// The answer of its only call.
    Answer,
    /// The answers of several calls, as one array.
    Array(Vec<u8>, Span),
    Default,
    Stale(Rc<[u8]>, json::Document),
    Absent,
}

pub(super) struct Call {
    /// The part it is made for, first of all.
    part: usize,
    rendered: Rc<Rendered>,
    pub called: Option<Called>,
    is_begun: bool,
}

struct Running<'a> {
    call: usize,
    deadline_us: u64,
    stop: Rc<Stop>,
    future: Pin<Box<dyn Future<Output = Called> + 'a>>,
}

impl Drop for Gather<'_> {
    fn drop(&mut self) {
        self.end_running();
    }
}

impl<'a> Gather<'a> {
    async fn run(&mut self) -> Result<(), Required> {
        loop {
            self.start()?;
            if self.running.is_empty() {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    /// Ends what is under way: first its connection, so that nothing of it stays with the kernel.
    fn end_running(&mut self) {
        for running in self.running.drain(..) {
            running.stop.now();
        }
    }

    /// Starts every part that has what it waits for, until there is none.
    fn start(&mut self) -> Result<(), Required> {
        let plan = &self.ask.aggregate.plan;
        loop {
            let mut is_settled = true;
            for (index, part) in plan.parts.iter().enumerate() {
                let is_ready = matches!(self.states[index].phase, Phase::Waiting)
                    && part.waits_for.iter().all(|other| matches!(self.states[*other].phase, Phase::Done(_)));
                if is_ready {
                    self.prepare(index, part)?;
                    is_settled = false;
                }
            }
            if is_settled {
                break;
            }
        }
        for index in 0..plan.parts.len() {
            self.begin_calls(index);
        }
        Ok(())
    }

    /// Makes the calls of a part, or does without them.
    fn prepare(&mut self, index: usize, part: &Part) -> Result<(), Required> {
        self.states[index].started_us = self.upstreams.timers.clock.recent_us();
        let none = Seen { gather: self, each: None, batch: None };
        if let Some(when) = &part.when
            && !when.holds(&self.values(&none))
        {
            self.end_part(index, Outcome::Absent, Ended::skipped());
            return Ok(());
        }
        let mut rendered = Vec::new();
        let mut complete = true;
        match &part.fan_out {
            FanOut::Once => rendered.push(Rendered::new(part, &self.values(&none))),
            FanOut::Each { of, path, max, .. } => {
                let Some(values) = self.spans(*of, path) else { return self.lacks(index, part) };
                complete = values.len() <= *max;
                for value in values.into_iter().take(*max) {
                    let seen = Seen { gather: self, each: Some((*of, value)), batch: None };
                    rendered.push(Rendered::new(part, &self.values(&seen)));
                }
            }
            FanOut::Batch { of, path, max } => {
                let Some(values) = self.spans(*of, path) else { return self.lacks(index, part) };
                let list = self.distinct(*of, &values);
                complete = list.1 <= *max;
                if list.1 == 0 {
                    return self.lacks(index, part);
                }
                let seen = Seen { gather: self, each: None, batch: Some(&list.0) };
                rendered.push(Rendered::new(part, &self.values(&seen)));
            }
        }
        if !complete {
            return self.fail(index, PartFault::TooMany, None);
        }
        let Some(rendered) = rendered.into_iter().collect::<Option<Vec<_>>>() else {
            return self.lacks(index, part);
        };
        self.states[index].phase = Phase::Running;
        self.states[index].calls =
            rendered.into_iter().map(|rendered| self.call_for(index, rendered)).collect();
        if self.states[index].calls.is_empty() {
            let span = Span { start: 0, end: 2 };
            let ended = Ended { outcome: PartOutcome::Ok, ..Ended::skipped() };
            self.end_part(index, Outcome::Array(b"[]".to_vec(), span), ended);
        }
        Ok(())
    }

    /// A call like this one that is made already, or a new one.
    fn call_for(&mut self, index: usize, rendered: Rendered) -> usize {
        let parts = &self.ask.aggregate.plan.parts;
        let part = &parts[index];
        let same = self.calls.iter().position(|call| {
            let other = &parts[call.part];
            part.is_shareable()
                && other.is_shareable()
                && (part.service, &part.method_text) == (other.service, &other.method_text)
                && (part.timeout, part.max_body) == (other.timeout, other.max_body)
                && part.headers == other.headers
                && (part.place == Place::Root) == (other.place == Place::Root)
                && *call.rendered == rendered
        });
        same.unwrap_or_else(|| {
            self.calls.push(Call { part: index, rendered: Rc::new(rendered), called: None, is_begun: false });
            self.calls.len() - 1
        })
    }

    /// Begins as many calls of a part as it may make at a time.
    fn begin_calls(&mut self, index: usize) {
        let part = &self.ask.aggregate.plan.parts[index];
        let parallel = match part.fan_out {
            FanOut::Each { parallel, .. } => parallel,
            FanOut::Once | FanOut::Batch { .. } => 1,
        };
        if !matches!(self.states[index].phase, Phase::Running) {
            return;
        }
        let mut open = self.states[index].calls.iter().filter(|call| {
            let call = &self.calls[**call];
            call.is_begun && call.called.is_none()
        });
        let mut room = parallel.saturating_sub(open.by_ref().count());
        while room > 0 && self.states[index].begun < self.states[index].calls.len() {
            let number = self.states[index].calls[self.states[index].begun];
            self.states[index].begun += 1;
            if !std::mem::replace(&mut self.calls[number].is_begun, true) {
                self.begin(number);
                room -= 1;
            }
        }
    }

    fn begin(&mut self, number: usize) {
        let (ask, upstreams, room) = (self.ask, self.upstreams, self.room);
        let part = &ask.aggregate.plan.parts[self.calls[number].part];
        let now_us = upstreams.timers.clock.recent_us();
        let whole_us = self.deadline_us.saturating_sub(now_us);
        let own_us = part.timeout.map_or(whole_us, |timeout| micros(timeout).min(whole_us));
        let stop = Rc::new(Stop::default());
        let rendered = Rc::clone(&self.calls[number].rendered);
        let (left, stopped) = (Rc::clone(&self.left), Rc::clone(&stop));
        // Deadlines of streams are up to a tick late; this one is to come before the exact end, so that it is the endpoint's failure.
        let early_us = if own_us > 4 * TICK_US { own_us - TICK_US } else { own_us };
        let timeout = Duration::from_micros(early_us);
        let future = Box::pin(call(ask, part, rendered, timeout, left, stopped, upstreams, room));
        self.running.push(Running { call: number, deadline_us: now_us.saturating_add(own_us), stop, future });
    }

    /// Waits until a call has ended or its time is up.
    async fn wait(&mut self) -> Result<(), Required> {
        let nearest_us =
            self.running.iter().map(|running| running.deadline_us).min().unwrap_or(self.deadline_us);
        let now_us = self.upstreams.timers.clock.recent_us();
        let mut timer = std::pin::pin!(sleep(Duration::from_micros(nearest_us.saturating_sub(now_us))));
        let finished = poll_fn(|cx| {
            let finished = self.poll_running(cx);
            if finished.is_empty() && timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            Poll::Ready(finished)
        })
        .await;
        let is_late = finished.is_empty();
        for (number, called) in finished {
            self.finish_call(number, called)?;
        }
        if is_late {
            self.upstreams.timers.clock.now_us();
            self.end_late()?;
        }
        Ok(())
    }

    /// Every call that has ended by now.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> Vec<(usize, Called)> {
        let mut finished = Vec::new();
        let mut at = 0;
        while at < self.running.len() {
            match self.running[at].future.as_mut().poll(cx) {
                Poll::Ready(called) => finished.push((self.running.remove(at).call, called)),
                Poll::Pending => at += 1,
            }
        }
        finished
    }

    /// Ends the calls whose time is up.
    fn end_late(&mut self) -> Result<(), Required> {
        let now_us = self.upstreams.timers.clock.recent_us();
        let is_late = |running: &mut Running<'_>| running.deadline_us <= now_us;
        let late: Vec<_> = self.running.extract_if(.., is_late).collect();
        for running in late {
            running.stop.now();
            let called = Called {
                answer: Err(PartFault::Upstream(Fault::Timeout)),
                refusal: None,
                status: 0,
                endpoint: running.stop.endpoint(),
                attempts: 1,
                moved: 0,
            };
            self.finish_call(running.call, called)?;
        }
        Ok(())
    }

    fn finish_call(&mut self, number: usize, called: Called) -> Result<(), Required> {
        self.attempts += called.attempts;
        self.upstreams.metrics.borrow_mut().counters.part_bytes_moved += called.moved as u64;
        self.calls[number].called = Some(called);
        for index in 0..self.states.len() {
            let is_done = matches!(self.states[index].phase, Phase::Running)
                && self.states[index].calls.contains(&number)
                && self.states[index].calls.iter().all(|call| self.calls[*call].called.is_some());
            if is_done {
                self.finish_part(index)?;
            }
        }
        Ok(())
    }

    /// All calls of a part have ended.
    fn finish_part(&mut self, index: usize) -> Result<(), Required> {
        let part = &self.ask.aggregate.plan.parts[index];
        if matches!(part.fan_out, FanOut::Each { .. }) {
            return self.finish_each(index);
        }
        let number = self.states[index].calls[0];
        let fault = match self.calls[number].called.as_ref().map(|called| &called.answer) {
            Some(Ok(answer)) if wants_members(part, answer) => Some(PartFault::NoObject),
            Some(Ok(_)) => None,
            Some(Err(fault)) => Some(*fault),
            None => None,
        };
        if let Some(fault) = fault {
            return self.fail(index, fault, Some(number));
        }
        self.keep(index, number);
        let ended = Ended { outcome: PartOutcome::Ok, fault: None, stand_in: None, us: self.took(index) };
        self.end_part(index, Outcome::Answer, ended);
        Ok(())
    }

    /// The answers of a part's calls as an array, `null` for those that failed.
    fn finish_each(&mut self, index: usize) -> Result<(), Required> {
        let part = &self.ask.aggregate.plan.parts[index];
        let faults: Vec<_> = self.states[index]
            .calls
            .iter()
            .filter_map(|number| match &self.calls[*number].called.as_ref()?.answer {
                Ok(_) => None,
                Err(fault) => Some((*number, *fault)),
            })
            .collect();
        if let Some((number, fault)) = faults.first().copied()
            && (faults.len() == self.states[index].calls.len() || part.is_required())
        {
            return self.fail(index, fault, Some(number));
        }
        for (number, fault) in &faults {
            report::log_failure(self.ask, index, *fault, self.calls[*number].called.as_ref());
        }
        let array = document::array(self, index);
        let Ok(document) = json::check(&array) else {
            return self.fail(index, PartFault::TooMuchInAll, None);
        };
        let fault = faults.first().map(|(_, fault)| *fault);
        let outcome = fault.map_or(PartOutcome::Ok, PartFault::outcome);
        let ended = Ended { outcome, fault, stand_in: None, us: self.took(index) };
        self.end_part(index, Outcome::Array(array, document.span), ended);
        Ok(())
    }

    /// A value that a part needs is not there: it is not asked, and that is no failure of its own.
    fn lacks(&mut self, index: usize, part: &Part) -> Result<(), Required> {
        match &part.importance {
            Importance::Required => self.fail(index, PartFault::Missing, None),
            Importance::Optional { default } => {
                let outcome = if default.is_some() { Outcome::Default } else { Outcome::Absent };
                self.end_part(index, outcome, Ended::skipped());
                Ok(())
            }
        }
    }

    fn fail(&mut self, index: usize, fault: PartFault, call: Option<usize>) -> Result<(), Required> {
        let part = &self.ask.aggregate.plan.parts[index];
        report::log_failure(self.ask, index, fault, call.and_then(|call| self.calls[call].called.as_ref()));
        let us = self.took(index);
        let mut ended = Ended { outcome: fault.outcome(), fault: Some(fault), stand_in: None, us };
        if let Some((body, document)) = call.and_then(|call| self.kept(part, call)) {
            ended.stand_in = Some(StandIn::Stale);
            self.end_part(index, Outcome::Stale(body, document), ended);
            return Ok(());
        }
        let outcome = match &part.importance {
            Importance::Required => {
                self.end_part(index, Outcome::Absent, ended);
                return Err(Required(index));
            }
            Importance::Optional { default: Some(_) } => {
                ended.stand_in = Some(StandIn::Default);
                Outcome::Default
            }
            Importance::Optional { default: None } => Outcome::Absent,
        };
        self.end_part(index, outcome, ended);
        Ok(())
    }

    fn end_part(&mut self, index: usize, outcome: Outcome, ended: Ended) {
        self.states[index].phase = Phase::Done(outcome);
        self.ended[index] = Some(ended);
    }

    fn took(&self, index: usize) -> u64 {
        self.upstreams.timers.clock.now_us().saturating_sub(self.states[index].started_us)
    }

    /// Remembers a good answer for later.
    fn keep(&self, index: usize, number: usize) {
        let part = &self.ask.aggregate.plan.parts[index];
        if part.stale.is_none() || !part.is_shareable() {
            return;
        }
        if let Some(Called { answer: Ok(answer), .. }) = &self.calls[number].called {
            let key = self.calls[number].rendered.key(self.ask, part);
            let now_us = self.upstreams.timers.clock.recent_us();
            self.room.stale.borrow_mut().put(&key, answer.body.get(), now_us);
        }
    }

    /// A good answer from earlier.
    fn kept(&self, part: &Part, number: usize) -> Option<(Rc<[u8]>, json::Document)> {
        let age_us = micros(part.stale.filter(|_| part.is_shareable())?);
        let key = self.calls[number].rendered.key(self.ask, part);
        let now_us = self.upstreams.timers.clock.recent_us();
        let body = self.room.stale.borrow().get(&key, age_us, now_us)?;
        let document = json::check(&body).ok()?;
        Some((body, document))
    }

    /// Where a path leads to in the answer of a part: the elements, if that is one array.
    fn spans(&self, of: usize, path: &json::Path) -> Option<Vec<Span>> {
        let (body, value) = self.body_of(of)?;
        let mut found = Vec::new();
        path.find(body, value, &mut found);
        if let [only] = &*found
            && !path.is_many()
            && Kind::of(only.of(body)) == Kind::Array
        {
            found = json::elements(body, *only).collect();
        }
        let is_there = path.is_many() || !found.is_empty();
        is_there.then_some(found)
    }

    /// The values at these places as an array in which each is once, and how many those are.
    fn distinct(&self, of: usize, values: &[Span]) -> (Vec<u8>, usize) {
        let body = self.body_of(of).map(|(body, _)| body).unwrap_or_default();
        let mut seen = std::collections::HashSet::new();
        let mut out = vec![b'['];
        for value in values.iter().map(|span| span.of(body)).filter(|value| seen.insert(*value)) {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(value);
        }
        out.push(b']');
        let count = seen.len();
        (out, count)
    }

    /// What a part has answered, or what stands in for it.
    pub(super) fn body_of(&self, index: usize) -> Option<(&[u8], Span)> {
        let state = self.states.get(index)?;
        let Phase::Done(outcome) = &state.phase else { return None };
        match outcome {
            Outcome::Answer => {
                let answer = self.answer(state)?;
                Some((answer.body.get(), answer.document.span))
            }
            Outcome::Array(bytes, span) => Some((bytes, *span)),
            Outcome::Stale(body, document) => Some((body, document.span)),
            Outcome::Default => match &self.ask.aggregate.plan.parts[index].importance {
                Importance::Optional { default: Some(default) } => {
                    let end = u32::try_from(default.len()).ok()?;
                    Some((default, Span { start: 0, end }))
                }
                Importance::Optional { default: None } | Importance::Required => None,
            },
            Outcome::Absent => None,
        }
    }

    pub(super) fn answer(&self, state: &State) -> Option<&Answer> {
        self.calls.get(*state.calls.first()?)?.called.as_ref()?.answer.as_ref().ok()
    }

    fn values<'v>(&self, seen: &'v Seen<'_, 'a>) -> Values<'v>
    where
        'a: 'v,
    {
        Values { client: self.ask.client, answers: seen }
    }
}

/// Whether an answer is not what the root can take. No body at all adds nothing, and is good.
fn wants_members(part: &Part, answer: &Answer) -> bool {
    part.place == Place::Root
        && part.edit.is_none()
        && answer.document.kind != Kind::Object
        && !answer.is_empty
}

/// The answers as the templates of one call see them.
struct Seen<'g, 'a> {
    gather: &'g Gather<'a>,
    /// A value in the answer of a part.
    each: Option<(usize, Span)>,
    /// An array.
    batch: Option<&'g [u8]>,
}

impl Answers for Seen<'_, '_> {
    fn answer(&self, of: Of) -> Option<(&[u8], Span)> {
        match of {
            Of::Part(index) => self.gather.body_of(index),
            Of::Each => {
                let (part, value) = self.each?;
                Some((self.gather.body_of(part)?.0, value))
            }
            Of::Batch => {
                let list = self.batch?;
                Some((list, Span { start: 0, end: u32::try_from(list.len()).ok()? }))
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
