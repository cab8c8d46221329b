//! `run`: load on one server, and how it was answered.

mod request;

use std::fs;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cli::{Run, duration};
use crate::compare::results::Machine;
use crate::live::{Live, micros};
use crate::load::{Generator, Latency, Plan, Summary, Tally, precise};
use crate::proc::{self, CpuReading, CpuUsed};
use crate::{Failure, say};

/// How often the live view is drawn and Ctrl-C is looked for.
const SLICE: Duration = Duration::from_millis(200);

/// How long answers may come after the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the first connection, which only shows that somebody is there, may take.
const REACH: Duration = Duration::from_secs(3);

/// The part of a core's time from which it counts as fully used.
const FULL: f64 = 0.93;

/// What `run` writes as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunResult {
    pub command: String,
    /// Where the generator ran.
    #[serde(default)]
    pub machine: Machine,
    pub summary: Summary,
    /// Part of its core that each used; of the others only when their processes were named.
    pub generator_used: f64,
    pub generator_micros: f64,
    pub server_used: Option<f64>,
    pub server_micros: Option<f64>,
    pub stub_used: Option<f64>,
    /// Each tenth of a second.
    pub over_time: Vec<Moment>,
    pub verdict: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Moment {
    pub seconds: f64,
    pub per_second: f64,
    pub failures: u64,
}

/// Runs what the arguments ask for and prints the result. Fails when a request failed, the rate was not reached
/// or a latency was above its limit.
pub fn run(arguments: &Run) -> Result<(), Failure> {
    let plan = request::plan(arguments)?;
    let mut first = TcpStream::connect_timeout(&plan.target, REACH)
        .map_err(|error| Failure(format!("{} cannot be reached: {error}", plan.target)))?;
    if let Some(tls) = &plan.tls {
        // A server that never answers must not hold us.
        first.set_read_timeout(Some(REACH)).map_err(|error| Failure(format!("a socket: {error}")))?;
        tls.try_on(&mut first)?;
    }
    drop(first);
    let stop = crate::on_interrupt()?;
    let result = match arguments.core {
        Some(core) => proc::on_core(core, || offer(arguments, plan, &stop))
            .map_err(|error| Failure(format!("core {core}: {error}")))??,
        None => offer(arguments, plan, &stop)?,
    };
    print(&result);
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&result).expect("our results are plain values");
        fs::write(file, text).map_err(|error| Failure::io(file, &error))?;
    }
    let broken = broken(&result, &arguments.limit);
    if broken.is_empty() { Ok(()) } else { Err(Failure(broken.join("; "))) }
}

/// What must not be and is: failures, a rate that was not reached, latencies above their limit.
fn broken(result: &RunResult, limits: &[Limit]) -> Vec<String> {
    let summary = &result.summary;
    let mut broken = Vec::new();
    let failed = summary.failed() + summary.unanswered;
    if failed > 0 {
        broken.push(format!("{failed} requests failed"));
    }
    broken.extend(short_of_rate(summary));
    for limit in limits {
        let found = limit.point.of(&summary.latency);
        if u128::from(found) > limit.most.as_micros() {
            broken.push(format!("{} is {}, above {:?}", limit.point.name(), micros(found), limit.most));
        }
    }
    broken
}

/// That the rate was not reached, and by how much.
fn short_of_rate(summary: &Summary) -> Option<String> {
    let asked = summary.asked_per_second?;
    let short = 1.0 - summary.per_second / asked;
    (short > 0.01)
        .then(|| format!("the rate was not reached: {:.1} % short of {asked:.0} a second", short * 100.0))
}

/// A point of the latency curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    P50,
    P90,
    P99,
    P999,
    Max,
}

/// A latency that must not be exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub point: Point,
    pub most: Duration,
}

impl Point {
    const ALL: [Self; 5] = [Self::P50, Self::P90, Self::P99, Self::P999, Self::Max];

    const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
        }
    }

    const fn of(self, latency: &Latency) -> u64 {
        match self {
            Self::P50 => latency.p50,
            Self::P90 => latency.p90,
            Self::P99 => latency.p99,
            Self::P999 => latency.p999,
            Self::Max => latency.max,
        }
    }
}

impl Limit {
    /// Reads `p99=5ms`.
    pub fn read(text: &str) -> Result<Self, String> {
        let (name, most) = text.split_once('=').ok_or_else(|| format!("`{text}` is not like p99=5ms"))?;
        let point = Point::ALL.into_iter().find(|point| point.name() == name);
        let names = || Point::ALL.map(Point::name).join(", ");
        Ok(Self {
            point: point.ok_or_else(|| format!("`{name}` is none of {}", names()))?,
            most: duration(most)?,
        })
    }
}

fn offer(arguments: &Run, plan: Plan, stop: &AtomicBool) -> Result<RunResult, Failure> {
    let lost = |error: std::io::Error| Failure(format!("the generator failed: {error}"));
    let mut generator = Generator::new(plan).map_err(lost)?;
    let warm = Instant::now() + arguments.warmup;
    while Instant::now() < warm && !stop.load(Ordering::Relaxed) {
        generator.drive(warm.min(Instant::now() + SLICE)).map_err(lost)?;
    }
    generator.tally = Tally::default();
    if let Some(requests) = arguments.requests {
        generator.limit(requests);
    }
    let reading = |pid: Option<u32>| pid.map(|pid| CpuReading::of(&[pid]));
    let (server, stub) = (reading(arguments.server_pid), reading(arguments.stub_pid));
    let own = CpuReading::alone(std::process::id());
    let start = Instant::now();

    let (mut live, mut over_time) = (Live::new(), Vec::new());
    let (mut answered, mut failed, mut ticks) = (0, 0, 0_u32);
    while start.elapsed() < arguments.duration && !generator.is_done() && !stop.load(Ordering::Relaxed) {
        ticks += 1;
        let until = (start + SLICE / 2 * ticks).min(start + arguments.duration);
        generator.drive(until).map_err(lost)?;
        let tally = &generator.tally;
        over_time.push(Moment {
            seconds: start.elapsed().as_secs_f64(),
            per_second: precise(tally.successes() - answered) / (SLICE / 2).as_secs_f64(),
            failures: tally.failed() - failed,
        });
        (answered, failed) = (tally.successes(), tally.failed());
        if ticks.is_multiple_of(2) {
            live.show(tally, start.elapsed(), arguments.duration);
        }
    }
    let ran = start.elapsed();
    let generator_cpu = CpuReading::alone(std::process::id()).since(&own);
    let used = |pid, before: Option<CpuReading>| Some(reading(pid)?.since(&before?));
    let (server, stub) = (used(arguments.server_pid, server), used(arguments.stub_pid, stub));
    let during = generator.tally.successes();
    generator.finish(PATIENCE).map_err(lost)?;

    let mut summary = Summary::of(&generator.tally, ran, arguments.rate);
    summary.per_second = precise(during) / ran.as_secs_f64();
    let part = |used: CpuUsed| used.total.as_secs_f64() / ran.as_secs_f64();
    let cost = |used: CpuUsed| used.total.as_secs_f64() * 1e6 / precise(during.max(1));
    let mut result = RunResult {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine: Machine::this(),
        summary,
        generator_used: part(generator_cpu),
        generator_micros: cost(generator_cpu),
        server_used: server.map(part),
        server_micros: server.map(cost),
        stub_used: stub.map(part),
        over_time,
        verdict: Vec::new(),
    };
    result.verdict = verdict(&result);
    Ok(result)
}

/// Who was saturated, and whether the rate was reached.
fn verdict(result: &RunResult) -> Vec<String> {
    let mut lines = Vec::new();
    let full = |used: Option<f64>| used.is_some_and(|used| used >= FULL);
    lines.push(if full(Some(result.generator_used)) {
        "saturated: the generator; the server could do more than this shows".to_owned()
    } else if full(result.server_used) {
        "saturated: the server".to_owned()
    } else if full(result.stub_used) {
        "saturated: the upstreams; the server could do more than this shows".to_owned()
    } else if result.server_used.is_none() && result.summary.asked_per_second.is_none() {
        "saturated: not the generator; the server, its upstreams or the network are the limit (--server-pid tells)".to_owned()
    } else {
        "saturated: nobody".to_owned()
    });
    lines.extend(short_of_rate(&result.summary));
    lines
}

fn print(result: &RunResult) {
    let summary = &result.summary;
    let pace = summary.asked_per_second.map_or_else(
        || {
            "closed loop: latency says how long answers took, not how long a crowd would have waited"
                .to_owned()
        },
        |rate| format!("open loop, {rate:.0} a second: latency counted from when each request was due"),
    );
    say!("{pace}");
    say!(
        "{:.1} s  {:.0} req/s  {:.1} MiB/s  {} answered, {} failed, {} unanswered",
        summary.seconds,
        summary.per_second,
        summary.bytes_per_second / f64::from(1 << 20),
        summary.successes,
        summary.failed(),
        summary.unanswered
    );
    let latency = summary.latency;
    let points = [
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p999),
        ("p99.99", latency.p9999),
        ("max", latency.max),
    ];
    say!("{}", points.map(|(name, value)| format!("{name} {}", micros(value))).join("   "));
    for (why, count) in &summary.failures {
        say!("failed: {count} × {why}");
    }
    let mut cost = format!(
        "generator {:.0} % of a core, {:.2} µs a request",
        result.generator_used * 100.0,
        result.generator_micros
    );
    if let (Some(used), Some(micros)) = (result.server_used, result.server_micros) {
        cost += &format!("; server {:.0} %, {micros:.2} µs a request", used * 100.0);
    }
    if let Some(used) = result.stub_used {
        cost += &format!("; upstreams {:.0} %", used * 100.0);
    }
    say!("{cost}");
    result.verdict.iter().for_each(|line| say!("{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(micros: u64, asked: Option<f64>) -> RunResult {
        let mut tally = Tally::default();
        (0..100).for_each(|_| tally.success(Duration::from_micros(micros)));
        RunResult {
            command: String::new(),
            machine: Machine::default(),
            summary: Summary::of(&tally, Duration::from_secs(1), asked),
            generator_used: 0.5,
            generator_micros: 5.0,
            server_used: None,
            server_micros: None,
            stub_used: None,
            over_time: Vec::new(),
            verdict: Vec::new(),
        }
    }

    #[test]
    fn a_limit_is_a_point_and_a_duration() {
        let limit = Limit::read("p99.9=5ms").unwrap();
        assert_eq!(limit, Limit { point: Point::P999, most: Duration::from_millis(5) });
        for text in ["p99", "p98=1ms", "p99=fast", "=1s"] {
            assert!(Limit::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_run_is_broken_by_latency_or_by_a_missed_rate() {
        let limit = [Limit::read("p99=5ms").unwrap()];
        assert_eq!(broken(&result(4000, None), &limit), Vec::<String>::new());
        assert!(broken(&result(6000, None), &limit)[0].starts_with("p99 is 6.0 ms"));
        assert_eq!(broken(&result(4000, Some(100.5)), &limit), Vec::<String>::new());
        assert!(broken(&result(4000, Some(110.0)), &limit)[0].contains("9.1 % short of 110"));
    }

    #[test]
    fn the_saturated_one_is_named() {
        let mut run = result(10, None);
        run.generator_used = 0.99;
        assert!(verdict(&run)[0].contains("the generator;"));
        (run.generator_used, run.server_used) = (0.5, Some(0.97));
        assert!(verdict(&run)[0].ends_with("the server"));
    }
}
