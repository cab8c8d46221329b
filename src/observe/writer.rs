//! The log thread: drains every shard's ring and the events queue, writes in large blocks.
//!
//! It works in rounds of 50 ms while something happens and sleeps otherwise, so that a shard hardly ever makes
//! a system call for the log. A sink that blocks holds up this thread alone: rings and queue fill, what comes
//! then is dropped and counted.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};

use jiff::tz::TimeZone;

use super::{
    Names, NamesCell,
    access::{self, Log, RING_BYTES, Ring},
    bell::Bell,
    calendar::Calendar,
    event::{Event, Events, Level, Queue, Repeats, WAITING_MAX},
    format::{Format, line},
    sink::{Sink, Sinks},
};

pub use super::sink::{Settings, Target};

/// Between two rounds while records come.
const ROUND: Duration = Duration::from_millis(50);
/// Rounds without anything after which the thread sleeps until it is woken.
const QUIET_ROUNDS: u32 = 20;
/// Text gathered before it is written.
const BLOCK_BYTES: usize = 64 * 1024;
/// How long a stop waits for a sink that does not take the rest.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Commands waiting for the log thread.
const COMMANDS_MAX: usize = 16;

/// The log thread. Dropping it writes what is left and ends the thread: drop it after the shards.
pub struct Writer {
    handle: Handle,
    ended: Receiver<()>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What other threads may ask of the log thread. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: SyncSender<Command>,
    bell: Arc<Bell>,
    events: Events,
    rings: Arc<[Arc<access::Shared>]>,
    counts: Arc<Counts>,
}

/// What never reached a sink, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Access records that found their ring full.
    pub access: u64,
    /// Events that found the queue full, or their shard's budget used up.
    pub events: u64,
    /// Blocks of text that a sink refused (no space, reader gone), in bytes.
    pub sink_bytes: u64,
}

#[derive(Default)]
struct Counts {
    sink_bytes: AtomicU64,
}

enum Command {
    Reopen,
    Apply(Sinks),
    Stop,
}

impl Writer {
    /// Starts the thread, and gives each shard its end of a ring. Fails when a log file cannot be opened.
    pub fn start(settings: &Settings, shards: usize, names: Arc<NamesCell>) -> io::Result<(Self, Vec<Log>)> {
        let sinks = Sinks::open(settings)?;
        let bell = Arc::new(Bell::new());
        let (logs, rings): (Vec<_>, Vec<_>) =
            (0..shards).map(|_| access::ring(RING_BYTES, Arc::clone(&bell))).unzip();
        let (commands, commands_in) = sync_channel(COMMANDS_MAX);
        let (sender, events_in) = sync_channel(WAITING_MAX);
        let (ending, ended) = sync_channel(1);
        let queue = Arc::new(Queue {
            sender,
            level: AtomicU8::new(settings.level as u8),
            second: AtomicU32::new(0),
            dropped: AtomicU64::new(0),
            bell: Arc::clone(&bell),
        });
        let handle = Handle {
            commands,
            bell: Arc::clone(&bell),
            events: Events(Arc::clone(&queue)),
            rings: rings.iter().map(|ring: &Ring| Arc::clone(&ring.shared)).collect(),
            counts: Arc::default(),
        };
        let mut work = Work {
            sinks,
            rings,
            events: events_in,
            next_event: None,
            commands: commands_in,
            names,
            queue,
            counts: Arc::clone(&handle.counts),
            repeats: Repeats::default(),
            calendar: Calendar::new(TimeZone::system()),
            text: Vec::with_capacity(2 * BLOCK_BYTES),
            scratch: Vec::new(),
            second: 0,
            stopping: false,
        };
        work.enable();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            work.run(&bell);
            // Fails when nobody waits any more.
            _ = ending.send(());
        })?;
        Ok((Self { handle, ended, thread: Some(thread) }, logs))
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.handle.command(Command::Stop);
        let ended = self.ended.recv_timeout(STOP_TIMEOUT);
        // A thread that is stuck in a write is left behind: the process is about to end.
        if !matches!(ended, Err(RecvTimeoutError::Timeout))
            && let Some(thread) = self.thread.take()
        {
            _ = thread.join();
        }
    }
}

impl Handle {
    /// Where a thread's events go: for [`super::event::attach`].
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Opens the log files again under their names, for a log rotation that renamed them (USR1).
    pub fn reopen(&self) {
        self.command(Command::Reopen);
    }

    /// Uses other settings from now on. Fails, and changes nothing, when a log file cannot be opened.
    pub fn apply(&self, settings: &Settings) -> io::Result<()> {
        self.command(Command::Apply(Sinks::open(settings)?));
        Ok(())
    }

    pub fn dropped(&self) -> Dropped {
        Dropped {
            access: self.rings.iter().map(|ring| ring.dropped.load(Ordering::Relaxed)).sum(),
            events: self.events.0.dropped.load(Ordering::Relaxed),
            sink_bytes: self.counts.sink_bytes.load(Ordering::Relaxed),
        }
    }

    fn command(&self, command: Command) {
        // Full only when the thread has been stuck for many commands: none of them would be obeyed.
        _ = self.commands.try_send(command);
        self.bell.tell();
    }
}

/// What the log thread owns.
struct Work {
    sinks: Sinks,
    rings: Vec<Ring>,
    events: Receiver<Event>,
    /// Taken from the queue to see whether it is empty.
    next_event: Option<Event>,
    commands: Receiver<Command>,
    names: Arc<NamesCell>,
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    repeats: Repeats,
    calendar: Calendar,
    text: Vec<u8>,
    /// A record that wraps around the end of its ring.
    scratch: Vec<u8>,
    /// Of the clock, when shards' budgets for events were last renewed.
    second: u64,
    stopping: bool,
}

impl Work {
    fn run(&mut self, bell: &Bell) {
        bell.answered_by(thread::current());
        let mut quiet_rounds = 0;
        loop {
            let mut worked = false;
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
                worked = true;
            }
            worked |= self.write_events();
            worked |= self.write_records();
            if self.stopping && !worked {
                return;
            }
            quiet_rounds = if worked { 0 } else { quiet_rounds + 1 };
            if !self.stopping {
                self.rest(bell, quiet_rounds);
            }
        }
    }

    fn rest(&mut self, bell: &Bell, quiet_rounds: u32) {
        if quiet_rounds < QUIET_ROUNDS {
            bell.doze();
            if !bell.told() {
                thread::park_timeout(ROUND);
            }
        } else {
            bell.sleep();
            if !bell.told() && !self.is_waited_for() {
                match self.repeats.is_empty() {
                    true => thread::park(),
                    false => thread::park_timeout(Duration::from_secs(1)),
                }
            }
        }
        bell.awake();
    }

    fn is_waited_for(&mut self) -> bool {
        self.next_event = self.next_event.take().or_else(|| self.events.try_recv().ok());
        self.next_event.is_some() || self.rings.iter().any(|ring| !ring.bytes.is_empty())
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Stop => self.stopping = true,
            Command::Apply(sinks) => {
                // What was queued until now goes where it was meant to go.
                self.write_records();
                self.sinks = sinks;
                self.enable();
            }
            Command::Reopen => {
                let access = self.sinks.access.iter_mut().map(|(sink, _)| sink);
                let mut problems = Vec::new();
                for sink in access.chain([&mut self.sinks.events]) {
                    match Sink::open(&sink.target) {
                        Ok(opened) => *sink = opened,
                        Err(problem) => problems.push(problem),
                    }
                }
                for problem in problems {
                    self.tell(format!("log file stays as it was: {problem}"));
                }
            }
        }
    }

    fn enable(&mut self) {
        for ring in &self.rings {
            ring.shared.enabled.store(self.sinks.access.is_some(), Ordering::Relaxed);
        }
        self.queue.level.store(self.sinks.level as u8, Ordering::Relaxed);
    }

    /// Writes an event of our own.
    fn tell(&mut self, text: String) {
        super::event::write_line(now_us(), Level::Error, "log", &text, &mut self.text);
        self.flush_events();
    }

    fn write_events(&mut self) -> bool {
        let now_us = now_us();
        let second = now_us / 1_000_000;
        if second != self.second {
            self.second = second;
            self.queue.second.fetch_add(1, Ordering::Relaxed);
            self.repeats.sum_up(now_us, &mut self.text);
        }
        // No more than the queue holds, so that the rings have their turn.
        for _ in 0..WAITING_MAX {
            let Some(event) = self.next_event.take().or_else(|| self.events.try_recv().ok()) else { break };
            self.repeats.write(event, &mut self.text);
            if self.text.len() >= BLOCK_BYTES {
                self.flush_events();
            }
        }
        let wrote = !self.text.is_empty();
        self.flush_events();
        wrote
    }

    fn flush_events(&mut self) {
        flush(&mut self.sinks.events, &mut self.text, &self.counts);
    }

    /// Writes what all rings hold now; says whether there was anything.
    fn write_records(&mut self) -> bool {
        let names = self.names.load();
        let mut worked = false;
        for ring in &mut self.rings {
            let waiting = ring.bytes.slots();
            let Ok(chunk) = ring.bytes.read_chunk(waiting) else { continue };
            let (first, second) = chunk.as_slices();
            let mut at = 0;
            while at < waiting {
                worked = true;
                let record = record_at(first, second, at, &mut self.scratch);
                at += record.len();
                if let Some((sink, format)) = &mut self.sinks.access {
                    write_record(format, record, &names, &mut self.calendar, &mut self.text);
                    if self.text.len() >= BLOCK_BYTES {
                        flush(sink, &mut self.text, &self.counts);
                    }
                }
            }
            chunk.commit_all();
        }
        if let Some((sink, _)) = &mut self.sinks.access {
            flush(sink, &mut self.text, &self.counts);
        }
        worked
    }
}

fn write_record(format: &Format, bytes: &[u8], names: &Names, calendar: &mut Calendar, text: &mut Vec<u8>) {
    line(format, &access::decode(bytes), names, calendar, text);
}

/// The record at `at` of the two halves of a ring; one that lies in both is put together in `scratch`.
fn record_at<'a>(first: &'a [u8], second: &'a [u8], at: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    let mut length = [0; 4];
    for (index, byte) in length.iter_mut().enumerate() {
        let at = at + index;
        *byte = first.get(at).or_else(|| second.get(at - first.len())).copied().expect("records are whole");
    }
    let end = at + access::length(length);
    if end <= first.len() {
        return &first[at..end];
    }
    if at >= first.len() {
        return &second[at - first.len()..end - first.len()];
    }
    scratch.clear();
    scratch.extend_from_slice(&first[at..]);
    scratch.extend_from_slice(&second[..end - first.len()]);
    scratch
}

fn flush(sink: &mut Sink, text: &mut Vec<u8>, counts: &Counts) {
    let lost = sink.write(text);
    text.clear();
    if lost > 0 {
        let lost = u64::try_from(lost).unwrap_or(u64::MAX);
        counts.sink_bytes.fetch_add(lost, Ordering::Relaxed);
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        io::Read,
        path::PathBuf,
        time::Instant,
    };

    use super::*;
    use crate::observe::{access::Record, event, event::Origin};

    /// A folder of its own for one test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("coregate-log-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap_or_default()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn settings(folder: &Folder) -> Settings {
        Settings {
            access: Some((Target::File(folder.path("access")), Format::Combined)),
            events: Target::File(folder.path("events")),
            level: Level::Info,
        }
    }

    fn record(user_agent: &str) -> Record<'_> {
        Record {
            method: b"GET",
            target: b"/",
            status: 200,
            user_agent: Some(user_agent.as_bytes()),
            ..Record::default()
        }
    }

    #[expect(clippy::disallowed_methods, reason = "waits for another thread")]
    fn until(mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < deadline, "waited for 10 s");
            thread::yield_now();
        }
    }

    #[test]
    fn what_was_logged_is_written_before_the_thread_ends() {
        let folder = Folder::new("order");
        let (writer, logs) = Writer::start(&settings(&folder), 2, Arc::default()).unwrap();
        // More than a ring holds, so that records wrap around its end.
        let per_shard = RING_BYTES / 100;
        let shards: Vec<_> = logs
            .into_iter()
            .map(|mut log| {
                let handle = writer.handle();
                thread::spawn(move || {
                    event::attach(&handle.events(), Origin::Shard);
                    event::warn("test", format_args!("a shard speaks"));
                    for index in 0..per_shard {
                        log.write(&record(&index.to_string()));
                    }
                })
            })
            .collect();
        for shard in shards {
            shard.join().unwrap();
        }
        let dropped = writer.handle().dropped();
        drop(writer);

        let text = folder.read("access");
        let written = u64::try_from(text.lines().count()).unwrap();
        assert_eq!(written + dropped.access, 2 * u64::try_from(per_shard).unwrap());
        for line in text.lines() {
            // The time is local, so only its ends are known.
            let rest = line.strip_prefix("unix: - - [").and_then(|rest| rest.split_once("] "));
            let number = rest.and_then(|(_, rest)| rest.strip_prefix(r#""GET / HTTP/1.1" 200 0 "-" ""#));
            let number = number.and_then(|number| number.strip_suffix('"'));
            assert!(number.is_some_and(|number| number.parse::<usize>().is_ok()), "{line}");
        }
        assert_eq!(folder.read("events").lines().count(), 1, "the second shard says the same: counted");
    }

    #[test]
    fn a_sleeping_thread_is_woken_by_a_record() {
        let folder = Folder::new("sleep");
        let (writer, mut logs) = Writer::start(&settings(&folder), 1, Arc::default()).unwrap();
        until(|| writer.handle.bell.is_asleep());
        logs[0].write(&record("first"));
        until(|| folder.read("access").contains("first"));
        until(|| writer.handle.bell.is_asleep());
        event::attach(&writer.handle().events(), Origin::Control);
        event::info("test", format_args!("good morning"));
        until(|| folder.read("events").contains("INFO test: good morning"));
    }

    #[test]
    fn a_renamed_file_is_left_and_a_new_one_begun() {
        let folder = Folder::new("reopen");
        let (writer, mut logs) = Writer::start(&settings(&folder), 1, Arc::default()).unwrap();
        logs[0].write(&record("before"));
        until(|| folder.read("access").contains("before"));
        fs::rename(folder.path("access"), folder.path("access.1")).unwrap();
        writer.handle().reopen();
        until(|| folder.path("access").exists());
        logs[0].write(&record("after"));
        drop(writer);
        assert_eq!(folder.read("access").lines().count(), 1);
        assert!(folder.read("access").contains("after") && folder.read("access.1").contains("before"));
    }

    #[test]
    fn other_settings_take_effect_while_running() {
        let folder = Folder::new("apply");
        let (writer, mut logs) = Writer::start(&settings(&folder), 1, Arc::default()).unwrap();
        let mut other = settings(&folder);
        other.access = None;
        writer.handle().apply(&other).unwrap();
        until(|| !logs[0].enabled());
        logs[0].write(&record("not wanted"));

        other.access = Some((Target::File(folder.path("json")), Format::Json));
        writer.handle().apply(&other).unwrap();
        until(|| logs[0].enabled());
        logs[0].write(&record("wanted"));
        drop(writer);
        assert_eq!(folder.read("access"), "");
        assert!(folder.read("json").contains("\"user_agent\":\"wanted\""));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_and_changes_nothing() {
        let folder = Folder::new("missing");
        let mut bad = settings(&folder);
        bad.events = Target::File(folder.path("no/such/folder"));
        let error = Writer::start(&bad, 1, Arc::default()).map(drop).unwrap_err();
        assert!(error.to_string().contains("no/such/folder"), "{error}");

        let (writer, mut logs) = Writer::start(&settings(&folder), 1, Arc::default()).unwrap();
        assert!(writer.handle().apply(&bad).is_err());
        logs[0].write(&record("still here"));
        drop(writer);
        assert!(folder.read("access").contains("still here"));
    }

    #[test]
    fn a_reader_that_stopped_reading_blocks_no_shard() {
        let folder = Folder::new("blocked");
        let pipe = folder.path("access");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // Opening one end waits for the other, except in this mode.
        let mut reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();

        let (writer, mut logs) = Writer::start(&settings(&folder), 1, Arc::default()).unwrap();
        let handle = writer.handle();
        let mut count = 0;
        until(|| {
            logs[0].write(&record("x"));
            count += 1;
            handle.dropped().access > 0
        });
        // It reads again, and what was kept arrives.
        let kept = count - handle.dropped().access;
        let reading = thread::spawn(move || {
            let (mut lines, mut block) = (0, [0; 65_536]);
            while lines < kept {
                let length = reader.read(&mut block).unwrap();
                lines +=
                    u64::try_from(block[..length].iter().filter(|&&byte| byte == b'\n').count()).unwrap();
            }
            lines
        });
        drop(writer);
        assert_eq!(reading.join().unwrap(), kept);
    }
}
