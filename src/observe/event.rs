//! The events log: what people should know, in lines they can read.
//!
//! `event::warn("control", format_args!("…"))` works on any thread and never waits: the line goes through a
//! bounded queue to the log thread. A thread says once where its events go ([`attach`]); those of a thread that
//! did not (a command-line tool, the time before the log thread runs) go to standard error directly, from `info` up.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::SystemTime,
};

use super::{bell::Bell, calendar::utc};

/// Events waiting for the log thread; further ones are dropped and counted.
pub const WAITING_MAX: usize = 1024;
/// Longer texts are cut.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Events of one shard in a second; further ones are dropped and counted.
pub const SHARD_EVENTS_PER_SECOND_MAX: u32 = 100;
/// A shard's event is not repeated for so long; then a line says how often it came.
pub const REPEAT_SECONDS: u64 = 10;
/// Different texts remembered for that.
const REPEATS_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }
}

/// Whose events they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Every event is written.
    Control,
    /// Thousands of requests may have the same thing to say: repetitions are counted instead of written.
    Shard,
}

/// Where a thread's events go. Cheap to clone.
#[derive(Clone)]
pub struct Events(pub(super) Arc<Queue>);

pub(super) struct Queue {
    pub(super) sender: SyncSender<Event>,
    pub(super) level: AtomicU8,
    /// Seconds the log thread has seen pass: a shard's budget is renewed when it changes.
    pub(super) second: AtomicU32,
    pub(super) dropped: AtomicU64,
    pub(super) bell: Arc<Bell>,
}

#[derive(Debug)]
pub(super) struct Event {
    pub(super) time_us: u64,
    pub(super) level: Level,
    pub(super) area: &'static str,
    pub(super) text: String,
    pub(super) origin: Origin,
}

struct Attached {
    events: Events,
    origin: Origin,
    second: Cell<u32>,
    budget: Cell<u32>,
}

thread_local! {
    static HERE: RefCell<Option<Attached>> = const { RefCell::new(None) };
}

/// Sends this thread's events there from now on.
pub fn attach(events: &Events, origin: Origin) {
    let attached = Attached {
        events: events.clone(),
        origin,
        second: Cell::new(0),
        budget: Cell::new(SHARD_EVENTS_PER_SECOND_MAX),
    };
    HERE.with_borrow_mut(|here| *here = Some(attached));
}

/// Something is broken and somebody has to act.
pub fn error(area: &'static str, text: fmt::Arguments<'_>) {
    log(Level::Error, area, text);
}

/// Something is not as it should be; the gateway copes.
pub fn warn(area: &'static str, text: fmt::Arguments<'_>) {
    log(Level::Warn, area, text);
}

/// What a reader of the log expects to find: start, stop, reload.
pub fn info(area: &'static str, text: fmt::Arguments<'_>) {
    log(Level::Info, area, text);
}

/// For the search for a fault.
pub fn debug(area: &'static str, text: fmt::Arguments<'_>) {
    log(Level::Debug, area, text);
}

/// Tells it as `area: text`. By custom the text ends with `key=value` pairs.
pub fn log(level: Level, area: &'static str, text: fmt::Arguments<'_>) {
    HERE.with_borrow(|here| match here {
        Some(attached) => attached.log(level, area, text),
        None if level > Level::Info => {}
        None => {
            let mut out = Vec::new();
            write_line(now_us(), level, area, &text.to_string(), &mut out);
            // Nobody is left to tell when standard error is gone.
            _ = std::io::stderr().write_all(&out);
        }
    });
}

impl Attached {
    fn log(&self, level: Level, area: &'static str, text: fmt::Arguments<'_>) {
        let queue = &self.events.0;
        if level as u8 > queue.level.load(Ordering::Relaxed) {
            return;
        }
        if !self.within_budget() {
            queue.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            let mut text = text.to_string();
            if text.len() > TEXT_BYTES_MAX {
                let end = (0..=TEXT_BYTES_MAX).rev().find(|&end| text.is_char_boundary(end));
                text.truncate(end.unwrap_or(0));
                text.push('…');
            }
            let event = Event { time_us: now_us(), level, area, text, origin: self.origin };
            if queue.sender.try_send(event).is_err() {
                queue.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Also for one over the budget: the log thread has to be awake to renew it.
        queue.bell.ring(false);
    }

    fn within_budget(&self) -> bool {
        if self.origin == Origin::Control {
            return true;
        }
        let second = self.events.0.second.load(Ordering::Relaxed);
        if self.second.replace(second) != second {
            self.budget.set(SHARD_EVENTS_PER_SECOND_MAX);
        }
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(1));
        left > 0
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// `2026-11-22T19:00:00.123Z WARN control: text`. Lines after the first are indented and control characters are
/// escaped, so that no text can pass for another event.
pub(super) fn write_line(time_us: u64, level: Level, area: &str, text: &str, out: &mut Vec<u8>) {
    utc(time_us, out);
    out.extend_from_slice(format!(" {} {area}: ", level.word()).as_bytes());
    for character in text.trim_end().chars() {
        match character {
            '\n' => out.extend_from_slice(b"\n  "),
            '\t' => out.push(b'\t'),
            _ if character.is_control() => {
                out.extend_from_slice(character.escape_default().to_string().as_bytes());
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'\n');
}

/// What shards have said lately, so that it is not said again.
#[derive(Default)]
pub(super) struct Repeats {
    seen: HashMap<(Level, &'static str, String), Repeat>,
}

struct Repeat {
    since_us: u64,
    count: u64,
}

impl Repeats {
    /// Writes the event, or counts it when the same was written lately.
    pub(super) fn write(&mut self, event: Event, out: &mut Vec<u8>) {
        let Event { time_us, level, area, text, origin } = event;
        if origin == Origin::Control {
            return write_line(time_us, level, area, &text, out);
        }
        self.sum_up(time_us, out);
        let key = (level, area, text);
        if let Some(repeat) = self.seen.get_mut(&key) {
            repeat.count += 1;
            return;
        }
        write_line(time_us, level, area, &key.2, out);
        if self.seen.len() < REPEATS_MAX {
            self.seen.insert(key, Repeat { since_us: time_us, count: 0 });
        }
    }

    /// Writes how often came what was not written, once its time is over.
    pub(super) fn sum_up(&mut self, now_us: u64, out: &mut Vec<u8>) {
        self.seen.retain(|(level, area, text), repeat| {
            if now_us.saturating_sub(repeat.since_us) < REPEAT_SECONDS * 1_000_000 {
                return true;
            }
            if repeat.count == 0 {
                return false;
            }
            let times = format!("{text} (and {} times more in {REPEAT_SECONDS} s)", repeat.count);
            write_line(now_us, *level, area, &times, out);
            *repeat = Repeat { since_us: now_us, count: 0 };
            true
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    const NOON_US: u64 = 1_795_348_800_123_456;

    fn events(capacity: usize) -> (Events, Receiver<Event>) {
        let (sender, receiver) = sync_channel(capacity);
        let queue = Queue {
            sender,
            level: AtomicU8::new(Level::Info as u8),
            second: AtomicU32::new(0),
            dropped: AtomicU64::new(0),
            bell: Arc::new(Bell::new()),
        };
        (Events(Arc::new(queue)), receiver)
    }

    fn shard_event(time_us: u64, text: &str) -> Event {
        Event { time_us, level: Level::Warn, area: "shard", text: text.to_owned(), origin: Origin::Shard }
    }

    fn check_line(text: &str, expected: &str) {
        let mut out = Vec::new();
        write_line(NOON_US, Level::Warn, "control", text, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_line_says_when_how_bad_and_where() {
        check_line("no route key=1", "2026-11-22T12:00:00.123Z WARN control: no route key=1\n");
    }

    #[test]
    fn no_text_can_pass_for_another_event() {
        check_line("a\nb\r\x1b[31m", "2026-11-22T12:00:00.123Z WARN control: a\n  b\\r\\u{1b}[31m\n");
    }

    #[test]
    fn events_below_the_level_are_not_sent() {
        let (events, receiver) = events(8);
        attach(&events, Origin::Control);
        debug("test", format_args!("not this"));
        info("test", format_args!("but {}", "this"));
        assert_eq!(receiver.recv().unwrap().text, "but this");
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (events, _receiver) = events(2);
        attach(&events, Origin::Control);
        for _ in 0..5 {
            info("test", format_args!("again"));
        }
        assert_eq!(events.0.dropped.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_shard_has_a_budget_for_each_second() {
        let (events, receiver) = events(WAITING_MAX);
        attach(&events, Origin::Shard);
        let budget = usize::try_from(SHARD_EVENTS_PER_SECOND_MAX).unwrap();
        for _ in 0..budget + 7 {
            warn("test", format_args!("upstream is down"));
        }
        assert_eq!(receiver.try_iter().count(), budget);
        assert_eq!(events.0.dropped.load(Ordering::Relaxed), 7);

        events.0.second.store(1, Ordering::Relaxed);
        warn("test", format_args!("still down"));
        assert_eq!(receiver.try_iter().count(), 1);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let (events, receiver) = events(2);
        attach(&events, Origin::Control);
        info("test", format_args!("{}", "ä".repeat(TEXT_BYTES_MAX)));
        let text = receiver.recv().unwrap().text;
        assert_eq!(text.len(), TEXT_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn repetitions_are_counted_and_summed_up() {
        let mut repeats = Repeats::default();
        let mut out = Vec::new();
        for step in 0..4 {
            repeats.write(shard_event(NOON_US + step, "down"), &mut out);
        }
        repeats.write(shard_event(NOON_US + 4, "up"), &mut out);
        assert_eq!(
            String::from_utf8(std::mem::take(&mut out)).unwrap(),
            "2026-11-22T12:00:00.123Z WARN shard: down\n2026-11-22T12:00:00.123Z WARN shard: up\n"
        );

        repeats.sum_up(NOON_US + 10_000_010, &mut out);
        assert_eq!(
            String::from_utf8(std::mem::take(&mut out)).unwrap(),
            "2026-11-22T12:00:10.123Z WARN shard: down (and 3 times more in 10 s)\n"
        );
        repeats.sum_up(NOON_US + 30_000_000, &mut out);
        assert!(out.is_empty() && repeats.is_empty());
    }
}
