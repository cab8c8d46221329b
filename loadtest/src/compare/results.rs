//! What comparisons showed: written as JSON, read by `report`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::round::Round;
use super::scenario::{Handshakes, Load};
use super::stats::Spread;
use crate::cli::By;
use crate::load::CurvePoint;

/// All that a run showed, and how to do it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    pub command: String,
    pub started_unix_seconds: u64,
    pub machine: Machine,
    pub scenarios: Vec<Outcome>,
}

/// Where the load came from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
}

impl Machine {
    /// This one, as far as the kernel tells.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: crate::proc::cores().map_or(0, |cores| cores.len()),
        }
    }
}

/// One scenario's results.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub scenario: String,
    pub load: Load,
    pub generator: By,
    pub connections: usize,
    pub phases: Vec<Phase>,
    /// Memory with and without idle connections, in the scenario about it.
    pub idle: Vec<Idle>,
    /// Who did not take part, and why.
    pub skipped: Vec<(String, String)>,
}

/// All rounds under one kind of load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Phase {
    /// Requests due each second; `None` in closed loop.
    pub rate: Option<f64>,
    pub servers: Vec<Standing>,
    /// Why no conclusion should be drawn from it; empty when one may.
    pub doubts: Vec<String>,
}

/// One server's rounds and what they come to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Standing {
    pub name: String,
    pub version: String,
    pub cpu_micros: Spread,
    pub per_second: Spread,
    pub memory_bytes: f64,
    /// CPU per request as a multiple of each other server's in the same round.
    pub ratios: Vec<Ratio>,
    pub latency: Option<LatencySpread>,
    pub rounds: Vec<Round>,
}

/// Latency in microseconds over the rounds, counted from when requests were due.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LatencySpread {
    pub p50: Spread,
    pub p99: Spread,
    pub p999: Spread,
    pub max: u64,
    /// Of all rounds together.
    pub curve: Vec<CurvePoint>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ratio {
    pub to: String,
    pub of: Spread,
}

/// What idle connections cost one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Idle {
    pub name: String,
    pub connections: usize,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Idle {
    pub fn bytes_per_connection(&self) -> f64 {
        let more = self.bytes_after.saturating_sub(self.bytes_before);
        crate::load::precise(more) / crate::load::precise(self.connections.max(1) as u64)
    }
}

impl Standing {
    /// The median over the rounds of what `value` finds in each.
    pub fn middle(&self, value: impl Fn(&Round) -> f64) -> f64 {
        Spread::of(self.rounds.iter().map(value)).unwrap_or_default().median
    }
}

impl Phase {
    /// Puts the rounds of all servers together; those of the same number are pairs.
    pub fn new(rate: Option<f64>, servers: Vec<(String, String)>, rounds: Vec<Vec<Round>>) -> Self {
        let costs: Vec<Vec<f64>> =
            rounds.iter().map(|rounds| rounds.iter().map(|round| round.cpu_micros).collect()).collect();
        let ratios = |own: usize| -> Vec<Ratio> {
            let others = (0..servers.len()).filter(|&other| other != own);
            let ratio = |other: usize| {
                let pairs = costs[own].iter().zip(&costs[other]).map(|(own, other)| own / other);
                Some(Ratio { to: servers[other].0.clone(), of: Spread::of(pairs)? })
            };
            others.filter_map(ratio).collect()
        };
        let all_ratios: Vec<Vec<Ratio>> = (0..servers.len()).map(ratios).collect();
        let standings = servers.into_iter().zip(rounds).zip(all_ratios);
        let servers: Vec<Standing> =
            standings.map(|((server, rounds), ratios)| Standing::new(server, rounds, ratios)).collect();
        let doubts = doubts(rate, &servers);
        Self { rate, servers, doubts }
    }
}

impl Standing {
    fn new((name, version): (String, String), rounds: Vec<Round>, ratios: Vec<Ratio>) -> Self {
        let spread = |value: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(value)).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory stay below 2^53")]
        let memory = spread(&|round| round.memory_bytes as f64);
        Self {
            name,
            version,
            cpu_micros: spread(&|round| round.cpu_micros),
            per_second: spread(&Round::per_second),
            memory_bytes: memory.median,
            ratios,
            latency: LatencySpread::of(&rounds),
            rounds,
        }
    }
}

impl LatencySpread {
    /// `None` for closed loops, whose latencies mean little.
    fn of(rounds: &[Round]) -> Option<Self> {
        let all: Vec<_> = rounds.iter().filter_map(|round| round.latency.as_ref()).collect();
        let spread = |value: fn(&crate::load::Latency) -> u64| {
            Spread::of(all.iter().map(|latency| crate::load::precise(value(latency))))
        };
        let mut histogram = crate::load::Tally::default();
        rounds.iter().filter_map(|round| round.tally.as_ref()).for_each(|tally| histogram.add(tally));
        Some(Self {
            p50: spread(|latency| latency.p50)?,
            p99: spread(|latency| latency.p99)?,
            p999: spread(|latency| latency.p999)?,
            max: all.iter().map(|latency| latency.max).max()?,
            curve: crate::load::curve(&histogram.latency),
        })
    }
}

/// That the handshakes were not those the scenario is about.
pub fn handshake_doubts(expected: Option<Handshakes>, standings: &[Standing]) -> Vec<String> {
    let Some(expected) = expected else { return Vec::new() };
    let doubt = |standing: &Standing| {
        let sum = |value: fn(&Round) -> u64| standing.rounds.iter().map(value).sum::<u64>();
        let (requests, handshakes, resumed) =
            (sum(|round| round.requests), sum(|round| round.handshakes), sum(|round| round.resumed));
        let name = &standing.name;
        match expected {
            Handshakes::Kept if handshakes * 1000 > requests => Some(format!(
                "{name}: {handshakes} handshakes for {requests} requests; connections were not kept"
            )),
            Handshakes::Full if resumed > 0 => Some(format!(
                "{name}: {resumed} of {handshakes} handshakes were resumed, and should have been full"
            )),
            Handshakes::Resumed if resumed * 100 < handshakes * 99 => {
                Some(format!("{name}: only {resumed} of {handshakes} handshakes were resumed"))
            }
            Handshakes::Full | Handshakes::Resumed if handshakes * 20 < requests * 19 => {
                Some(format!("{name}: {handshakes} handshakes for {requests} requests"))
            }
            Handshakes::Kept | Handshakes::Full | Handshakes::Resumed => None,
        }
    };
    standings.iter().filter_map(doubt).collect()
}

/// Why the rounds should not be believed.
fn doubts(rate: Option<f64>, standings: &[Standing]) -> Vec<String> {
    let mut doubts = Vec::new();
    let all = || standings.iter().flat_map(|standing| &standing.rounds);
    let noisy = all().filter(|round| round.is_noisy()).count();
    if noisy * 3 > all().count() {
        let worst = all().map(|round| round.foreign.max(round.stolen)).fold(0.0, f64::max);
        doubts.push(format!(
            "too noisy to conclude: others used the cores in {noisy} of {} turns, up to {:.0} % of a core",
            all().count(),
            worst * 100.0
        ));
    }
    for standing in standings {
        let failures: u64 = standing.rounds.iter().map(|round| round.failures).sum();
        if failures > 0 {
            let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
            for (cause, count) in standing.rounds.iter().flat_map(|round| &round.causes) {
                *causes.entry(cause).or_default() += count;
            }
            let causes: Vec<String> =
                causes.iter().map(|(cause, count)| format!("{count} × {cause}")).collect();
            doubts.push(format!("{}: {failures} requests failed ({})", standing.name, causes.join(", ")));
        }
        if rate.is_none() && standing.middle(|round| round.server_used) < 0.2 {
            doubts.push(format!(
                "{}: its core was mostly idle; the cost per request is that of small batches",
                standing.name
            ));
        }
        if let Some(rate) = rate {
            let reached = standing.per_second.median / rate;
            if reached < 0.99 {
                doubts.push(format!(
                    "{}: only {:.1} % of the rate was reached",
                    standing.name,
                    reached * 100.0
                ));
            }
        }
        // Each pair once: the other's ratio is the inverse.
        for ratio in standing.ratios.iter().filter(|ratio| ratio.to > standing.name) {
            if ratio.of.width() > 0.15 {
                doubts.push(format!(
                    "{} against {}: the rounds disagree (half of them between {:.2} and {:.2})",
                    standing.name, ratio.to, ratio.of.q1, ratio.of.q3
                ));
            }
        }
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_of_the_wrong_kind_are_a_doubt() {
        let check = |expected, handshakes, resumed, doubted: bool| {
            let round = Round { requests: 1000, handshakes, resumed, ..Round::default() };
            let standing = Standing::new(("x".to_owned(), String::new()), vec![round], Vec::new());
            let doubts = handshake_doubts(Some(expected), &[standing]);
            assert_eq!(!doubts.is_empty(), doubted, "{expected:?} {handshakes} {resumed} {doubts:?}");
        };
        check(Handshakes::Kept, 0, 0, false);
        check(Handshakes::Kept, 64, 64, true);
        check(Handshakes::Full, 1003, 0, false);
        check(Handshakes::Full, 1003, 1, true);
        check(Handshakes::Full, 900, 0, true);
        check(Handshakes::Resumed, 1003, 1001, false);
        check(Handshakes::Resumed, 1003, 900, true);
        check(Handshakes::Resumed, 0, 0, true);
    }
}
