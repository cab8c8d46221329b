//! Results for a terminal.

use super::round::{Round, Saturated};
use super::{Outcome, Standing};

/// One turn in a line, while the rounds go on.
pub fn line(number: usize, name: &str, round: &Round) -> String {
    let mut line = format!(
        "round {number:>2}  {name:<15} {:>8.0} req/s {:>7.2} µs CPU/req  core {:>3.0} %  generator {:>5.2} µs  stub {:>5.2} µs",
        round.per_second(),
        round.cpu_micros,
        round.server_used * 100.0,
        round.generator_micros,
        round.stub_micros,
    );
    if round.failures > 0 {
        line += &format!("  {} FAILED", round.failures);
    }
    if round.is_noisy() {
        line +=
            &format!("  noisy: others {:.0} %, host {:.0} %", round.foreign * 100.0, round.stolen * 100.0);
    }
    line
}

/// A scenario's table.
pub fn print(outcome: &Outcome) {
    let mut lines = vec![
        String::new(),
        format!("{}: {}", outcome.scenario, outcome.load.about),
        format!("{} connections, closed loop, generator {:?}", outcome.connections, outcome.generator),
    ];
    let mut head = format!(
        "{:<15} {:>8} {:>8} {:>13} {:>6} {:>6} {:>5} {:>8}  {:<10}",
        "", "CPU µs", "spread", "low-high", "user", "system", "core", "req/s", "saturated"
    );
    let columns: Vec<&str> = outcome.servers.iter().map(|server| server.name.as_str()).collect();
    for name in &columns {
        head += &format!(" {:>20}", format!("× {name}"));
    }
    lines.push(head + &format!(" {:>9}", "memory"));
    for server in &outcome.servers {
        lines.push(row(server, &columns));
    }
    for (name, why) in &outcome.skipped {
        lines.push(format!("{name:<15} skipped: {why}"));
    }
    for doubt in &outcome.doubts {
        lines.push(format!("! {doubt}"));
    }
    for line in lines {
        crate::say!("{line}");
    }
}

fn row(server: &Standing, columns: &[&str]) -> String {
    let cpu = server.cpu_micros;
    let middle = |value: fn(&Round) -> f64| {
        super::Spread::of(server.rounds.iter().map(value)).unwrap_or_default().median
    };
    let mut row = format!(
        "{:<15} {:>8.2} {:>6.0} % {:>13} {:>6.2} {:>6.2} {:>3.0} % {:>8.0}  {:<10}",
        server.name,
        cpu.median,
        cpu.width() * 100.0,
        format!("{:.2}-{:.2}", cpu.low, cpu.high),
        middle(|round| round.user_micros),
        middle(|round| round.system_micros),
        middle(|round| round.server_used) * 100.0,
        server.per_second.median,
        saturated(server),
    );
    for name in columns {
        let text = server.ratios.iter().find(|ratio| ratio.to == *name).map_or_else(
            || "1".to_owned(),
            |ratio| format!("{:.2} ({:.2}-{:.2})", ratio.of.median, ratio.of.q1, ratio.of.q3),
        );
        row += &format!(" {text:>20}");
    }
    row + &format!(" {:>5.1} MiB", server.memory_bytes / f64::from(1 << 20))
}

/// Who was saturated in most rounds.
fn saturated(server: &Standing) -> &'static str {
    let count = |who: Saturated| server.rounds.iter().filter(|round| round.saturated == who).count();
    let all = [
        (Saturated::Server, "server"),
        (Saturated::Generator, "generator"),
        (Saturated::Stub, "stub"),
        (Saturated::Nobody, "nobody"),
    ];
    all.into_iter().max_by_key(|(who, _)| count(*who)).map_or("", |(_, name)| name)
}
