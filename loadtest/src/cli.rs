//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::run::Limit;
use crate::stub::Delay;

/// Load tests that say how they were made: open loop, no coordinated omission, CPU time per request, peers beside us.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load on one server, and how it was answered
    Run(Run),
    /// Upstreams that cost little and misbehave on demand
    Stub(Stub),
    /// The gateway and its peers, one after the other, round by round
    Compare(Compare),
    /// Results as one page with plots
    Report(Report),
}

#[derive(Debug, clap::Args)]
pub struct Run {
    /// What to ask for; several are asked for in turn. All on one server
    #[arg(required_unless_present = "urls")]
    pub url: Vec<String>,
    /// File with one URL in each line, asked for in turn
    #[arg(long)]
    pub urls: Option<PathBuf>,
    /// File with one token in each line: each request carries the next as `Authorization: Bearer`
    #[arg(long)]
    pub tokens: Option<PathBuf>,
    /// Connections, all used at once in closed loop
    #[arg(long, short, default_value_t = 64)]
    pub connections: usize,
    /// Requests a second: open loop, latency counted from when each was due. Without it: closed loop
    #[arg(long, short)]
    pub rate: Option<f64>,
    /// How long
    #[arg(long, short, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// How many requests, if that is reached sooner
    #[arg(long, short = 'n')]
    pub requests: Option<u64>,
    /// Load before what is counted
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// `Name: value`; may be given several times
    #[arg(long, short = 'H')]
    pub header: Vec<String>,
    #[arg(long, conflicts_with = "body_file")]
    pub body: Option<String>,
    #[arg(long)]
    pub body_file: Option<PathBuf>,
    /// The only status that is a success; default: any 2xx or 3xx
    #[arg(long)]
    pub expect: Option<u16>,
    /// The exact body that is a success
    #[arg(long)]
    pub expect_body: Option<String>,
    /// The size of a body that is a success
    #[arg(long, value_parser = size)]
    pub expect_size: Option<usize>,
    /// A latency that makes the run a failure when it is exceeded: p99=5ms; may be given several times
    #[arg(long, value_parser = Limit::read)]
    pub limit: Vec<Limit>,
    /// A connection for every request
    #[arg(long)]
    pub new_connections: bool,
    /// HTTP/2, several requests at a time on each connection: by ALPN over TLS, else with prior knowledge
    #[arg(long, conflicts_with = "new_connections")]
    pub h2: bool,
    /// Requests at a time on each HTTP/2 connection, as far as the server allows
    #[arg(long, default_value_t = 10, requires = "h2")]
    pub streams: usize,
    /// Certificates (PEM) that an https server must be vouched for by; without it every certificate will do
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// A full TLS handshake for every connection, instead of continuing earlier sessions
    #[arg(long)]
    pub full_handshakes: bool,
    /// From when a request is due to the end of its response
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// Run on this core alone
    #[arg(long)]
    pub core: Option<usize>,
    /// Process of the server, on this machine: its CPU time for each request is shown
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Process of the upstreams, on this machine
    #[arg(long)]
    pub stub_pid: Option<u32>,
    /// Write the result to this file, as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Stub {
    /// Address to listen on; may be given several times
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub listen: Vec<SocketAddr>,
    /// Bytes of every body: 1024, 100k, 10m
    #[arg(long, default_value = "1024", value_parser = size)]
    pub size: usize,
    /// A file as every body
    #[arg(long)]
    pub body_file: Option<PathBuf>,
    /// A JSON object of that size as every body
    #[arg(long)]
    pub json: bool,
    /// A JSON object of so many members as every body
    #[arg(long)]
    pub json_members: Option<usize>,
    /// How deep its objects lie in each other
    #[arg(long, default_value_t = 1)]
    pub json_depth: usize,
    /// The request itself as the body
    #[arg(long)]
    pub echo: bool,
    #[arg(long, default_value_t = 200)]
    pub status: u16,
    /// Send bodies in chunks of this size
    #[arg(long, value_parser = size)]
    pub chunk: Option<usize>,
    /// Time before each answer: 20ms, 10ms..30ms (uniform), exp:20ms (exponential)
    #[arg(long, default_value = "0", value_parser = Delay::read)]
    pub delay: Delay,
    /// Part of the requests answered with 503, such as 0.01
    #[arg(long, default_value_t = 0.0)]
    pub failures: f64,
    /// Part of the requests whose connection is reset
    #[arg(long, default_value_t = 0.0)]
    pub resets: f64,
    /// Send answers in pieces of this size
    #[arg(long, value_parser = size)]
    pub drip_bytes: Option<usize>,
    /// Time between two pieces
    #[arg(long, default_value = "100ms", value_parser = duration)]
    pub drip_every: Duration,
    /// Do nothing at all for a while, once, so long after the start
    #[arg(long, value_parser = duration)]
    pub stall_after: Option<Duration>,
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub stall_for: Duration,
}

#[derive(Debug, clap::Args)]
pub struct Compare {
    /// Folder name under the scenarios; may be given several times, or as a list with commas
    #[arg(long, required = true, value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// Peers beside the gateway: nginx, haproxy, forward_epoll, forward_monoio, baseline. Those that are not installed
    /// are skipped by name
    #[arg(long, default_value = "nginx,haproxy", value_delimiter = ',')]
    pub against: Vec<String>,
    /// Who offers the closed-loop load
    #[arg(long, value_enum, default_value_t = By::Own)]
    pub generator: By,
    /// Rounds of all servers in turn
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Measured part of a server's turn
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub duration: Duration,
    /// Load before the measured part
    #[arg(long, default_value = "500ms", value_parser = duration)]
    pub warmup: Duration,
    /// Connections, instead of what the scenario says
    #[arg(long)]
    pub connections: Option<usize>,
    /// Requests a second in the open-loop phase; default: 0.6 of the slowest server's throughput
    #[arg(long)]
    pub rate: Option<f64>,
    /// The gateway's program; default: `coregate` beside this one
    #[arg(long)]
    pub gateway: Option<PathBuf>,
    /// Where the scenarios are
    #[arg(long)]
    pub scenarios: Option<PathBuf>,
    /// Core of the servers under test
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// Core of the generator and of the upstreams
    #[arg(long, default_value_t = 1)]
    pub load_core: usize,
    /// Write all results to this file, as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Report {
    /// JSON files that `compare` or `run` wrote
    #[arg(required = true)]
    pub results: Vec<PathBuf>,
    /// The page
    #[arg(long, short, default_value = "report.html")]
    pub output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    Own,
    Wrk,
}

/// Reads `1024`, `100k`, `10m` (units of 1024).
pub fn size(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches("ib").trim_end_matches('b').trim();
    let (digits, unit) = match number.strip_suffix(['k', 'm', 'g']) {
        Some(digits) if number.ends_with('k') => (digits, 1 << 10),
        Some(digits) if number.ends_with('m') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
        None => (number, 1),
    };
    let count: usize =
        digits.trim().parse().map_err(|_| format!("`{text}` is not a size such as 1024, 100k, 10m"))?;
    count.checked_mul(unit).ok_or_else(|| format!("`{text}` is too large"))
}

/// Reads `250us`, `500ms`, `2s`, `1.5s`, `2m`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` is not a duration such as 250us, 500ms, 2s, 1m")),
    };
    let number: f64 =
        digits.parse().map_err(|_| format!("`{text}` is not a duration such as 500ms, 2s, 1m"))?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| format!("`{text}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in
            [("0", 0), ("1024", 1024), ("100k", 102_400), ("10MiB", 10 << 20), ("1g", 1 << 30)]
        {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "k", "-1", "10x", "99999999999g"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, millis) in [("2", 2000), ("2s", 2000), ("500ms", 500), ("1.5s", 1500), ("1m", 60_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "2 parsecs", "1d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
