//! Results for a terminal.

use super::results::{Outcome, Phase, Standing};
use super::round::{Round, Saturated};
use super::stats::Spread;

/// One turn in a line, while the rounds go on.
pub fn line(number: usize, name: &str, round: &Round) -> String {
    let mut line = format!(
        "round {number:>2}  {name:<15} {:>8.0} req/s {:>8.2} µs CPU/req  core {:>3.0} %  generator {:>6.2} µs  stub {:>6.2} µs",
        round.per_second(),
        round.cpu_micros,
        round.server_used * 100.0,
        round.generator_micros,
        round.stub_micros,
    );
    if let Some(latency) = &round.latency {
        line += &format!("  p50 {}  p99 {}  p99.9 {} µs", latency.p50, latency.p99, latency.p999);
    }
    if round.handshakes > 0 {
        line += &format!("  {} handshakes, {} resumed", round.handshakes, round.resumed);
    }
    if round.failures > 0 {
        line += &format!("  {} FAILED", round.failures);
    }
    if round.is_noisy() {
        line +=
            &format!("  noisy: others {:.0} %, host {:.0} %", round.foreign * 100.0, round.stolen * 100.0);
    }
    line
}

/// A scenario's tables.
pub fn print(outcome: &Outcome) {
    crate::say!("\n{}: {}", outcome.scenario, outcome.load.about);
    for phase in &outcome.phases {
        let pace =
            phase.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("open loop, {rate:.0} req/s"));
        crate::say!("{pace}, {} connections, generator {:?}", outcome.connections, outcome.generator);
        print_cost(phase);
        if phase.rate.is_some() {
            print_latency(phase);
        }
        let all = || phase.servers.iter().flat_map(|server| &server.rounds);
        let middle = |value: fn(&Round) -> f64| Spread::of(all().map(value)).unwrap_or_default().median;
        crate::say!(
            "the load itself: generator {:.2} µs a request, upstreams {:.2} µs",
            middle(|round| round.generator_micros),
            middle(|round| round.stub_micros)
        );
        phase.doubts.iter().for_each(|doubt| crate::say!("! {doubt}"));
    }
    for idle in &outcome.idle {
        crate::say!(
            "{:<15} {:>8.2} KiB for each of {} idle connections ({:.1} MiB before, {:.1} MiB after)",
            idle.name,
            idle.bytes_per_connection() / 1024.0,
            idle.connections,
            mebibytes(crate::load::precise(idle.bytes_before)),
            mebibytes(crate::load::precise(idle.bytes_after)),
        );
    }
    outcome.skipped.iter().for_each(|(name, why)| crate::say!("{name:<15} skipped: {why}"));
}

fn print_cost(phase: &Phase) {
    let mut head = format!(
        "{:<15} {:>9} {:>6} {:>17} {:>8} {:>8} {:>5} {:>8}  {:<10}",
        "", "CPU µs", "spread", "low-high", "user", "system", "core", "req/s", "saturated"
    );
    for server in &phase.servers {
        head += &format!(" {:>19}", format!("× {}", server.name));
    }
    crate::say!("{head} {:>9}", "memory");
    for server in &phase.servers {
        let cpu = server.cpu_micros;
        let mut row = format!(
            "{:<15} {:>9.2} {:>4.0} % {:>17} {:>8.2} {:>8.2} {:>3.0} % {:>8.0}  {:<10}",
            server.name,
            cpu.median,
            cpu.width() * 100.0,
            format!("{:.2}-{:.2}", cpu.low, cpu.high),
            server.middle(|round| round.user_micros),
            server.middle(|round| round.system_micros),
            server.middle(|round| round.server_used) * 100.0,
            server.per_second.median,
            saturated(server),
        );
        for other in &phase.servers {
            let text = server.ratios.iter().find(|ratio| ratio.to == other.name).map_or_else(
                || "1".to_owned(),
                |ratio| format!("{:.2} ({:.2}-{:.2})", ratio.of.median, ratio.of.q1, ratio.of.q3),
            );
            row += &format!(" {text:>19}");
        }
        crate::say!("{row} {:>5.1} MiB", mebibytes(server.memory_bytes));
    }
}

fn print_latency(phase: &Phase) {
    crate::say!(
        "{:<15} {:>22} {:>22} {:>26} {:>9}",
        "latency, µs",
        "p50 (rounds)",
        "p99 (rounds)",
        "p99.9 (rounds)",
        "max"
    );
    for server in &phase.servers {
        let Some(latency) = &server.latency else { continue };
        let text = |spread: Spread| format!("{:.0} ({:.0}-{:.0})", spread.median, spread.low, spread.high);
        crate::say!(
            "{:<15} {:>22} {:>22} {:>26} {:>9}",
            server.name,
            text(latency.p50),
            text(latency.p99),
            text(latency.p999),
            latency.max
        );
    }
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// Who was saturated in most rounds.
pub fn saturated(server: &Standing) -> &'static str {
    let count = |who: Saturated| server.rounds.iter().filter(|round| round.saturated == who).count();
    let all = [
        (Saturated::Server, "server"),
        (Saturated::Generator, "generator"),
        (Saturated::Stub, "stub"),
        (Saturated::Nobody, "nobody"),
    ];
    all.into_iter().max_by_key(|(who, _)| count(*who)).map_or("", |(_, name)| name)
}
