//! One turn of one server: load, and what it cost everybody.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::live::Live;
use crate::load::{Generator, Latency, Pace, Plan, Tally, precise};
use crate::proc::{self, CoreReading, CpuReading, CpuUsed};

/// Part of a core's time at which it counts as fully used.
const FULL: f64 = 0.93;

/// Who takes part in a turn, and where.
pub struct Setting<'a> {
    pub server: u32,
    pub upstreams: Vec<u32>,
    pub server_core: usize,
    pub load_core: usize,
    pub watch: Watch<'a>,
}

/// Who looks on while a turn lasts.
pub struct Watch<'a> {
    /// The server's name, for the live view.
    pub name: String,
    /// Set by Ctrl-C.
    pub stop: &'a AtomicBool,
}

/// What one turn showed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Round {
    pub seconds: f64,
    /// Requests answered as expected.
    pub requests: u64,
    pub failures: u64,
    /// The failures by cause, as far as the generator knows it.
    #[serde(default)]
    pub causes: BTreeMap<String, u64>,
    /// CPU time of the server for one request, in microseconds.
    pub cpu_micros: f64,
    pub user_micros: f64,
    pub system_micros: f64,
    /// The same of the generator and of the upstreams.
    pub generator_micros: f64,
    pub stub_micros: f64,
    /// CPU time of the server as a part of the time its core had to give.
    pub server_used: f64,
    pub generator_used: f64,
    pub stub_used: f64,
    pub saturated: Saturated,
    /// Time taken by others on the two cores, as parts of the turn: by other processes, and by the host.
    pub foreign: f64,
    pub stolen: f64,
    pub memory_bytes: u64,
    /// TLS handshakes, and those of them that continued an earlier session.
    #[serde(default)]
    pub handshakes: u64,
    #[serde(default)]
    pub resumed: u64,
    /// In open loop; a closed loop's says little.
    pub latency: Option<Latency>,
    /// What `latency` comes from.
    #[serde(skip)]
    pub tally: Option<Tally>,
}

/// Who could do no more: what the turn's throughput is a statement about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Saturated {
    Server,
    Generator,
    Stub,
    #[default]
    Nobody,
}

impl Saturated {
    /// `load` of the generator and `stub` of the upstreams share a core; all are parts of a core's time.
    pub fn judge(server: f64, generator: f64, stub: f64) -> Self {
        if server >= FULL {
            Self::Server
        } else if generator + stub >= FULL {
            if generator >= stub { Self::Generator } else { Self::Stub }
        } else {
            Self::Nobody
        }
    }
}

impl Round {
    pub fn per_second(&self) -> f64 {
        precise(self.requests) / self.seconds
    }

    /// Whether others disturbed the turn so much that it proves little.
    pub fn is_noisy(&self) -> bool {
        self.foreign > 0.05 || self.stolen > 0.02
    }
}

/// How long answers may come after the end of an open loop.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the live view is drawn and Ctrl-C is looked for.
const SLICE: Duration = Duration::from_millis(200);

/// Offers `plan` with our own generator: `warmup`, then `duration` that counts. `event` is called after each quarter
/// of it but the last, with 1, 2 and 3, while the load is on. `None` when Ctrl-C came.
pub fn with_own(
    setting: &Setting<'_>,
    plan: Plan,
    warmup: Duration,
    duration: Duration,
    mut event: impl FnMut(u32) -> Result<(), Failure>,
) -> Result<Option<Round>, Failure> {
    let lost = |error: io::Error| Failure(format!("the generator failed: {error}"));
    let load = || {
        let open = matches!(plan.pace, Pace::Open { .. });
        let mut generator = Generator::new(plan).map_err(lost)?;
        let watch = &setting.watch;
        let mut live = Live::over(&watch.name);
        if !watch.drive(&mut generator, Instant::now() + warmup, |_| {}).map_err(lost)? {
            return Ok(None);
        }
        generator.tally = Tally::default();
        let meter = Meter::start(setting);
        let start = Instant::now();
        for quarter in 1..=4 {
            let mut show = |tally: &Tally| live.show(tally, start.elapsed(), duration);
            if !watch.drive(&mut generator, start + duration * quarter / 4, &mut show).map_err(lost)? {
                return Ok(None);
            }
            if quarter < 4 {
                event(quarter)?;
            }
        }
        live.clear();
        let mut round = meter.stop(setting, generator.tally.successes(), generator.tally.failed());
        (round.handshakes, round.resumed) = (generator.tally.handshakes, generator.tally.resumed);
        generator.finish(PATIENCE).map_err(lost)?;
        let causes = generator.tally.failures.iter();
        round.causes = causes.map(|(failed, count)| (failed.to_string(), *count)).collect();
        if open {
            if generator.tally.unanswered > 0 {
                round.causes.insert("unanswered".to_owned(), generator.tally.unanswered);
            }
            round.latency = Some(Latency::of(&generator.tally.latency));
            round.failures = generator.tally.failed() + generator.tally.unanswered;
            round.tally = Some(generator.tally);
        }
        Ok(Some(round))
    };
    proc::on_core(setting.load_core, load).map_err(lost)?
}

impl Watch<'_> {
    /// Offers load until `until`, and calls `show` now and then. False when Ctrl-C came before.
    fn drive(
        &self,
        generator: &mut Generator,
        until: Instant,
        mut show: impl FnMut(&Tally),
    ) -> io::Result<bool> {
        while Instant::now() < until {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            generator.drive(until.min(Instant::now() + SLICE))?;
            show(&generator.tally);
        }
        Ok(true)
    }
}

/// Offers the same load with wrk: its first moments count too, which hardly shows in seconds.
pub fn with_wrk(
    setting: &Setting<'_>,
    url: &str,
    headers: &[String],
    connections: usize,
    duration: Duration,
) -> io::Result<Round> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c", &connections.to_string(), "-d", &format!("{}s", duration.as_secs().max(1))]);
    for header in headers {
        command.args(["-H", header]);
    }
    command.arg(url);
    let meter = Meter::start(setting);
    let output = proc::on_core(setting.load_core, || command.output())??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (requests, failures) = wrk_counts(&text)
        .ok_or_else(|| io::Error::other(format!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr))))?;
    Ok(meter.stop(setting, requests - failures, failures))
}

/// Requests and failures in what wrk prints.
fn wrk_counts(text: &str) -> Option<(u64, u64)> {
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
    let wrong =
        text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: ")?.parse().ok());
    let sockets =
        text.lines().find_map(|line| line.trim().strip_prefix("Socket errors: ")).map_or(0, |line| {
            line.split(|letter: char| !letter.is_ascii_digit())
                .filter_map(|digits| digits.parse::<u64>().ok())
                .sum()
        });
    Some((requests, wrong.unwrap_or(0) + sockets))
}

/// Readings at the start of what counts.
struct Meter {
    start: Reading,
}

struct Reading {
    server: CpuReading,
    stub: CpuReading,
    /// This process, whose thread is our generator.
    own: CpuReading,
    /// Generators that were programs of their own.
    others: Duration,
    server_core: CoreReading,
    load_core: CoreReading,
    at: Instant,
}

impl Reading {
    fn take(setting: &Setting<'_>) -> Self {
        Self {
            server: CpuReading::of(&[setting.server]),
            stub: CpuReading::of(&setting.upstreams),
            own: CpuReading::alone(std::process::id()),
            others: proc::ended_children(),
            server_core: CoreReading::of(setting.server_core),
            load_core: CoreReading::of(setting.load_core),
            at: Instant::now(),
        }
    }
}

impl Meter {
    fn start(setting: &Setting<'_>) -> Self {
        Self { start: Reading::take(setting) }
    }

    fn stop(&self, setting: &Setting<'_>, requests: u64, failures: u64) -> Round {
        let (start, end) = (&self.start, Reading::take(setting));
        let wall = end.at.saturating_duration_since(start.at);
        let server = end.server.since(&start.server);
        let stub = end.stub.since(&start.stub).total;
        let generator = end.own.since(&start.own).total + end.others.saturating_sub(start.others);
        let server_core = end.server_core.since(start.server_core);
        let load_core = end.load_core.since(start.load_core);

        let per_request = |time: Duration| time.as_secs_f64() * 1e6 / precise(requests.max(1));
        let part = |time: Duration, of: Duration| time.as_secs_f64() / of.as_secs_f64();
        let given = wall.saturating_sub(server_core.stolen);
        let load_given = wall.saturating_sub(load_core.stolen);
        let (server_used, generator_used, stub_used) =
            (part(server.total, given), part(generator, load_given), part(stub, load_given));
        let foreign =
            server_core.busy.saturating_sub(server.total) + load_core.busy.saturating_sub(generator + stub);
        Round {
            seconds: wall.as_secs_f64(),
            requests,
            failures,
            causes: BTreeMap::new(),
            cpu_micros: per_request(server.total),
            user_micros: per_request(shared(&server, server.user)),
            system_micros: per_request(shared(&server, server.system)),
            generator_micros: per_request(generator),
            stub_micros: per_request(stub),
            server_used,
            generator_used,
            stub_used,
            saturated: Saturated::judge(server_used, generator_used, stub_used),
            foreign: part(foreign, wall),
            stolen: part(server_core.stolen + load_core.stolen, wall),
            memory_bytes: proc::memory_bytes(setting.server),
            handshakes: 0,
            resumed: 0,
            latency: None,
            tally: None,
        }
    }
}

/// The part of the precise total that the coarse `part` stands for.
fn shared(used: &CpuUsed, part: Duration) -> Duration {
    let coarse = (used.user + used.system).as_secs_f64();
    if coarse == 0.0 { Duration::ZERO } else { used.total.mul_f64(part.as_secs_f64() / coarse) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_understood() {
        let text = "Running 2s test @ http://x/\n  123456 requests in 2.00s, 1.00GB read\n  \
                    Socket errors: connect 0, read 3, write 0, timeout 4\n  Non-2xx or 3xx responses: 5\n";
        assert_eq!(wrk_counts(text), Some((123_456, 12)));
        assert_eq!(wrk_counts("  9 requests in 1.00s, 1KB read\n"), Some((9, 0)));
        assert_eq!(wrk_counts("unable to connect"), None);
    }

    #[test]
    fn the_busiest_is_named() {
        assert_eq!(Saturated::judge(0.98, 0.5, 0.5), Saturated::Server);
        assert_eq!(Saturated::judge(0.80, 0.6, 0.38), Saturated::Generator);
        assert_eq!(Saturated::judge(0.80, 0.38, 0.6), Saturated::Stub);
        assert_eq!(Saturated::judge(0.50, 0.3, 0.3), Saturated::Nobody);
    }
}
