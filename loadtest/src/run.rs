//! `run`: load on one server, and how it was answered.

use std::fs;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cli::Run;
use crate::live::{Live, micros};
use crate::load::{Expect, Form, Generator, Pace, Plan, Requests, Summary, Tally, Tls, precise};
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

/// Runs what the arguments ask for and prints the result. Fails when a request failed or the rate was not reached.
pub fn run(arguments: &Run) -> Result<(), Failure> {
    let plan = plan(arguments)?;
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
    let summary = &result.summary;
    if summary.failed() + summary.unanswered > 0 {
        return Err(Failure(format!("{} requests failed", summary.failed() + summary.unanswered)));
    }
    Ok(())
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
    if let Some(asked) = result.summary.asked_per_second {
        let short = 1.0 - result.summary.per_second / asked;
        if short > 0.01 && result.summary.successes > 0 {
            lines.push(format!(
                "the rate was not reached: {:.1} % short of {asked:.0} a second",
                short * 100.0
            ));
        }
    }
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

/// What the arguments ask to be sent, and where.
fn plan(arguments: &Run) -> Result<Plan, Failure> {
    let mut urls = arguments.url.clone();
    if let Some(file) = &arguments.urls {
        urls.extend(lines(file)?);
    }
    let parsed: Vec<Url> = urls.iter().map(|url| Url::read(url)).collect::<Result<_, _>>()?;
    let Some(first) = parsed.first() else { return Err(Failure("no URL".to_owned())) };
    if let Some(other) =
        parsed.iter().find(|url| (url.secure, &url.authority) != (first.secure, &first.authority))
    {
        return Err(Failure(format!(
            "all URLs must be on one server: {} and {}; a header `Host: name` asks for others there",
            first.authority, other.authority
        )));
    }
    if arguments.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        return Err(Failure("--rate must be more than 0".to_owned()));
    }
    if arguments.connections == 0 {
        return Err(Failure("--connections must be more than 0".to_owned()));
    }
    let body = match (&arguments.body, &arguments.body_file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => fs::read(file).map_err(|error| Failure::io(file, &error))?,
        (None, None) => Vec::new(),
    };
    let mut headers = Vec::new();
    for header in &arguments.header {
        let Some((name, value)) = header.split_once(':') else {
            return Err(Failure(format!(
                "header `{header}`: a name and a value with `:` between them are needed"
            )));
        };
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    if arguments.new_connections {
        // The server closes first, so that its side keeps the port and ours do not run out.
        headers.push(("Connection".to_owned(), "close".to_owned()));
    }
    let places: Vec<(String, String)> =
        parsed.iter().map(|url| (url.authority.clone(), url.path.clone())).collect();
    let form = Form { method: arguments.method.clone(), headers, body };
    let tokens = arguments.tokens.as_deref().map(lines).transpose()?.unwrap_or_default();
    Ok(Plan {
        target: first.address()?,
        requests: with_tokens(&form, &places, &tokens),
        connections: arguments.connections,
        pace: arguments.rate.map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
        expect: Expect {
            status: arguments.expect,
            body_bytes: arguments.expect_size.map(|size| size as u64),
            body: arguments.expect_body.clone().map(String::into_bytes),
        },
        timeout: arguments.timeout,
        new_connections: arguments.new_connections,
        tls: if first.secure {
            Some(Tls::new(first.host(), arguments.ca.as_deref(), !arguments.full_handshakes)?)
        } else {
            None
        },
    })
}

/// One request for each token and place in turn, as many as the longer list has.
fn with_tokens(form: &Form, places: &[(String, String)], tokens: &[String]) -> Requests {
    if tokens.is_empty() {
        return Requests::new(form, places);
    }
    let mut all = Requests { texts: Vec::new(), to_head: form.method == "HEAD" };
    for number in 0..tokens.len().max(places.len()) {
        let mut form = form.clone();
        let token = &tokens[number % tokens.len()];
        form.headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
        let place = &places[number % places.len()];
        all.texts.extend(Requests::new(&form, std::slice::from_ref(place)).texts);
    }
    all
}

/// The lines of a file that are not empty.
fn lines(file: &Path) -> Result<Vec<String>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| Failure::io(file, &error))?;
    let lines: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.is_empty() { Err(Failure(format!("{}: nothing in it", file.display()))) } else { Ok(lines) }
}

#[derive(Debug, PartialEq, Eq)]
struct Url {
    secure: bool,
    authority: String,
    path: String,
}

impl Url {
    fn read(text: &str) -> Result<Self, Failure> {
        let plain = text.strip_prefix("http://").map(|rest| (false, rest));
        let Some((secure, rest)) = plain.or_else(|| text.strip_prefix("https://").map(|rest| (true, rest)))
        else {
            return Err(Failure(format!("`{text}`: a URL that starts with http:// or https:// is needed")));
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        if authority.is_empty() || authority.contains('@') {
            return Err(Failure(format!("`{text}`: which host?")));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        // A fragment is not sent (RFC 9110 §4.2.5).
        let path = path.split('#').next().unwrap_or_default().to_owned();
        Ok(Self { secure, authority: authority.to_owned(), path })
    }

    /// The host without its port, and an IPv6 address without its brackets.
    fn host(&self) -> &str {
        match self.authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => self.authority.split(':').next().unwrap_or_default(),
        }
    }

    fn address(&self) -> Result<SocketAddr, Failure> {
        let last = self.authority.rsplit(']').next().unwrap_or_default();
        let with_port = if last.contains(':') {
            self.authority.clone()
        } else {
            format!("{}:{}", self.authority, if self.secure { 443 } else { 80 })
        };
        let found = with_port.to_socket_addrs().map(|mut addresses| addresses.next());
        match found {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(Failure(format!("{with_port}: no address"))),
            Err(error) => Err(Failure(format!("{with_port}: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_path() {
        let check = |text: &str, authority: &str, path: &str| {
            let url = Url::read(text).unwrap();
            assert_eq!((url.authority.as_str(), url.path.as_str()), (authority, path), "{text}");
        };
        check("http://127.0.0.1:8080", "127.0.0.1:8080", "/");
        check("http://host/a/b?c=d#e", "host", "/a/b?c=d");
        check("http://host?q=1", "host", "/?q=1");
        for text in ["host/path", "ftp://host/", "http:///path", "http://user@host/"] {
            assert!(Url::read(text).is_err(), "{text}");
        }
        assert_eq!(Url::read("https://[::1]:8443/").unwrap().host(), "::1");
        assert_eq!(Url::read("https://a.example:8443/").unwrap().host(), "a.example");
        let address = Url::read("http://[::1]/").unwrap().address().unwrap();
        assert_eq!(address, "[::1]:80".parse().unwrap());
    }

    #[test]
    fn tokens_and_places_take_turns() {
        let form = Form { method: "GET".to_owned(), ..Form::default() };
        let places = [("h".to_owned(), "/a".to_owned()), ("h".to_owned(), "/b".to_owned())];
        let tokens = ["x", "y", "z"].map(str::to_owned);
        let texts = with_tokens(&form, &places, &tokens).texts;
        let text = |at: usize| String::from_utf8(texts[at].clone()).unwrap();
        assert_eq!(texts.len(), 3);
        assert!(
            text(1).starts_with("GET /b HTTP/1.1\r\n") && text(1).contains("Authorization: Bearer y\r\n")
        );
        assert!(
            text(2).starts_with("GET /a HTTP/1.1\r\n") && text(2).contains("Authorization: Bearer z\r\n")
        );
    }
}
