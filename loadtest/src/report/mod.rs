//! `report`: results as one page that needs nothing else, on a screen and on paper.

pub mod plot;

use std::fmt::Write as _;
use std::fs;

use crate::cli::Report;
use crate::compare::results::{Machine, Outcome, Phase, Results, Standing};
use crate::compare::table;
use crate::live::micros;
use crate::load::precise;
use crate::run::RunResult;
use crate::{Failure, say};
use plot::{Bar, Line};

/// Reads the results that the arguments name and writes the page.
pub fn run(arguments: &Report) -> Result<(), Failure> {
    let mut body = String::new();
    for file in &arguments.results {
        let text = fs::read_to_string(file).map_err(|error| Failure::io(file, &error))?;
        if let Ok(results) = serde_json::from_str::<Results>(&text) {
            comparison(&mut body, &results);
        } else {
            let result: RunResult = serde_json::from_str(&text).map_err(|error| {
                Failure(format!("{}: not a result of `compare` or `run`: {error}", file.display()))
            })?;
            single(&mut body, &result);
        }
    }
    fs::write(&arguments.output, page(&body)).map_err(|error| Failure::io(&arguments.output, &error))?;
    say!("{}", arguments.output.display());
    Ok(())
}

fn page(body: &str) -> String {
    let style = include_str!("style.css");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Load test</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn comparison(page: &mut String, results: &Results) {
    *page += "<h1>Side by side</h1>\n";
    *page += "<p class=\"lead\">Every server does the same work on one core, in turns; the load and the upstreams have \
              another. CPU time is that of the server's processes with all their threads, user and system. Ratios \
              hold from machine to machine, times do not.</p>\n";
    for outcome in &results.scenarios {
        scenario(page, outcome);
    }
    provenance(page, &results.command, results.started_unix_seconds, &results.machine, &results.scenarios);
}

fn scenario(page: &mut String, outcome: &Outcome) {
    let name = escape(&outcome.scenario);
    *page += &format!("<section>\n<h2>{name}</h2>\n<p>{}</p>\n", escape(&outcome.load.about));
    for phase in &outcome.phases {
        let pace = match phase.rate {
            None => format!("Closed loop, {} connections", outcome.connections),
            Some(rate) => format!(
                "Open loop, {rate:.0} requests a second, {} connections; latency from when each was due",
                outcome.connections
            ),
        };
        *page += &format!("<h3>{pace}</h3>\n");
        doubts(page, &phase.doubts);
        *page += "<div class=\"plots\">\n";
        *page += &plot::bars("CPU time for one request, µs (whiskers: all rounds)", &cpu_bars(phase));
        if phase.rate.is_some() {
            *page += &plot::percentiles("Latency by percentile", &latency_lines(phase));
        } else {
            *page += &plot::over("Requests a second by round", "round", &throughput_lines(phase));
        }
        *page += "</div>\n";
        costs(page, phase);
        if phase.rate.is_some() {
            latencies(page, phase);
        }
    }
    if !outcome.idle.is_empty() {
        let bars: Vec<Bar> = outcome
            .idle
            .iter()
            .map(|idle| {
                let value = idle.bytes_per_connection() / 1024.0;
                Bar { name: idle.name.clone(), value, low: value, high: value, note: String::new() }
            })
            .collect();
        *page += &plot::bars("KiB of memory for each idle connection", &bars);
    }
    for (name, why) in &outcome.skipped {
        *page += &format!("<p class=\"note\">{} did not take part: {}</p>\n", escape(name), escape(why));
    }
    *page += "</section>\n";
}

fn doubts(page: &mut String, doubts: &[String]) {
    if doubts.is_empty() {
        return;
    }
    *page += "<ul class=\"doubts\">\n";
    doubts.iter().for_each(|doubt| *page += &format!("<li>{}</li>\n", escape(doubt)));
    *page += "</ul>\n";
}

fn cpu_bars(phase: &Phase) -> Vec<Bar> {
    let first = phase.servers.iter().find(|server| server.name == "nginx").or_else(|| phase.servers.first());
    let bar = |server: &Standing| {
        let ratio = first.and_then(|first| server.ratios.iter().find(|ratio| ratio.to == first.name));
        let note = ratio.map_or_else(String::new, |ratio| format!("{:.2} × {}", ratio.of.median, ratio.to));
        let cpu = server.cpu_micros;
        Bar { name: server.name.clone(), value: cpu.median, low: cpu.low, high: cpu.high, note }
    };
    phase.servers.iter().map(bar).collect()
}

fn latency_lines(phase: &Phase) -> Vec<Line> {
    let line = |server: &Standing| {
        let latency = server.latency.as_ref()?;
        let points = latency.curve.iter().map(|(part, micros)| (*part, precise(*micros))).collect();
        Some(Line { name: server.name.clone(), points })
    };
    phase.servers.iter().filter_map(line).collect()
}

fn throughput_lines(phase: &Phase) -> Vec<Line> {
    let line = |server: &Standing| {
        let rounds = server.rounds.iter().enumerate();
        let points = rounds.map(|(round, turn)| (precise(round as u64 + 1), turn.per_second())).collect();
        Line { name: server.name.clone(), points }
    };
    phase.servers.iter().map(line).collect()
}

fn costs(page: &mut String, phase: &Phase) {
    *page += "<table>\n<thead><tr><th></th><th>CPU µs</th><th>all rounds</th><th>user</th><th>system</th>\
              <th>core</th><th>req/s</th><th>saturated</th><th>MiB</th>";
    *page += "</tr></thead>\n<tbody>\n";
    for server in &phase.servers {
        let cpu = server.cpu_micros;
        let _ = write!(
            page,
            "<tr><th>{}</th><td>{:.2}</td><td>{:.2}–{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.0} %</td>\
             <td>{:.0}</td><td>{}</td><td>{:.1}</td>",
            escape(&server.name),
            cpu.median,
            cpu.low,
            cpu.high,
            server.middle(|round| round.user_micros),
            server.middle(|round| round.system_micros),
            server.middle(|round| round.server_used) * 100.0,
            server.per_second.median,
            table::saturated(server),
            server.memory_bytes / f64::from(1 << 20),
        );
        *page += "</tr>\n";
    }
    *page += "</tbody>\n</table>\n";
    if phase.servers.len() > 1 {
        ratios(page, phase);
    }
}

/// CPU per request of each row's server as a multiple of each column's.
fn ratios(page: &mut String, phase: &Phase) {
    *page += "<table>\n<thead><tr><th>CPU for one request</th>";
    phase.servers.iter().for_each(|server| *page += &format!("<th>× {}</th>", escape(&server.name)));
    *page += "</tr></thead>\n<tbody>\n";
    for server in &phase.servers {
        *page += &format!("<tr><th>{}</th>", escape(&server.name));
        for other in &phase.servers {
            match server.ratios.iter().find(|ratio| ratio.to == other.name) {
                None => *page += "<td>1</td>",
                Some(ratio) => {
                    let of = ratio.of;
                    let _ =
                        write!(page, "<td>{:.2} <small>{:.2}–{:.2}</small></td>", of.median, of.q1, of.q3);
                }
            }
        }
        *page += "</tr>\n";
    }
    *page += "</tbody>\n</table>\n";
}

fn latencies(page: &mut String, phase: &Phase) {
    *page += "<table>\n<thead><tr><th></th><th>p50</th><th>p99</th><th>p99.9</th><th>max</th></tr></thead>\n<tbody>\n";
    for server in &phase.servers {
        let Some(latency) = &server.latency else { continue };
        *page += &format!("<tr><th>{}</th>", escape(&server.name));
        for spread in [latency.p50, latency.p99, latency.p999] {
            let text = |value: f64| micros(whole(value));
            let (median, low, high) = (text(spread.median), text(spread.low), text(spread.high));
            *page += &format!("<td>{median} <small>{low}–{high}</small></td>");
        }
        *page += &format!("<td>{}</td></tr>\n", micros(latency.max));
    }
    *page += "</tbody>\n</table>\n";
}

fn single(page: &mut String, result: &RunResult) {
    let summary = &result.summary;
    *page += "<h1>One run</h1>\n<section>\n";
    let pace = summary.asked_per_second.map_or_else(
        || "Closed loop".to_owned(),
        |rate| format!("Open loop, {rate:.0} requests a second; latency from when each was due"),
    );
    *page += &format!("<h3>{pace}</h3>\n");
    doubts(page, &result.verdict);
    *page += "<div class=\"plots\">\n";
    let points = summary.curve.iter().map(|(part, micros)| (*part, precise(*micros))).collect();
    *page += &plot::percentiles("Latency by percentile", &[Line { name: "latency".to_owned(), points }]);
    let points = result.over_time.iter().map(|moment| (moment.seconds, moment.per_second)).collect();
    *page += &plot::over("Requests a second", "seconds", &[Line { name: "answered".to_owned(), points }]);
    *page += "</div>\n";
    let _ = writeln!(
        page,
        "<p>{:.0} requests a second, {} answered, {} failed, {} unanswered in {:.1} s. The generator used {:.0} % of a \
         core, {:.2} µs a request.</p>",
        summary.per_second,
        summary.successes,
        summary.failed(),
        summary.unanswered,
        summary.seconds,
        result.generator_used * 100.0,
        result.generator_micros,
    );
    summary.failures.iter().for_each(|(why, count)| *page += &format!("<p>{count} × {}</p>\n", escape(why)));
    let Machine { kernel, cpu, cores } = &result.machine;
    let (version, machine) = (env!("CARGO_PKG_VERSION"), format!("{cpu}, {cores} cores, Linux {kernel}"));
    *page += &format!("<p>loadtest {version} on {}</p>\n", escape(&machine));
    *page += &format!("<pre>{}</pre>\n</section>\n", escape(&result.command));
}

fn provenance(page: &mut String, command: &str, started: u64, machine: &Machine, scenarios: &[Outcome]) {
    *page += "<section>\n<h2>How it was measured</h2>\n";
    *page += &format!("<pre>{}</pre>\n<table class=\"facts\">\n", escape(command));
    let mut fact = |name: &str, value: &str| {
        *page += &format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value));
    };
    fact("Started", &date(started));
    fact("Machine", &format!("{}, {} cores", machine.cpu, machine.cores));
    fact("Kernel", &machine.kernel);
    let mut seen: Vec<&str> = Vec::new();
    for server in scenarios.iter().flat_map(|outcome| &outcome.phases).flat_map(|phase| &phase.servers) {
        if !seen.contains(&server.name.as_str()) && !server.version.is_empty() {
            seen.push(&server.name);
            fact(&server.name, &server.version);
        }
    }
    for outcome in scenarios {
        let load = &outcome.load;
        let request = format!(
            "{} {} with {} of body, answered with {}",
            load.method, load.path, load.body, load.response
        );
        fact(&outcome.scenario, &format!("{request}; generator {:?}", outcome.generator));
    }
    *page += "</table>\n</section>\n";
}

/// A time in UTC, as `2026-03-02 14:05 UTC` (civil calendar from days, Hinnant 2013).
fn date(unix_seconds: u64) -> String {
    let (days, seconds) = (unix_seconds / 86_400 + 719_468, unix_seconds % 86_400);
    let era_day = days % 146_097;
    let era_year = (era_day - era_day / 1460 + era_day / 36_524 - era_day / 146_096) / 365;
    let year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    let shifted = (5 * year_day + 2) / 153;
    let day = year_day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era_year + days / 146_097 * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600, seconds % 3600 / 60)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "microseconds of a run")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// Text as HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(date(1_798_761_540), "2026-12-31 23:59 UTC");
    }

    #[test]
    fn a_page_needs_nothing_else_and_says_what_was_run() {
        let machine = Machine { kernel: "6.18".to_owned(), cpu: "a <cpu>".to_owned(), cores: 2 };
        let mut body = String::new();
        provenance(&mut body, "loadtest compare --scenario x", 0, &machine, &[]);
        let page = page(&body);
        assert!(page.contains("loadtest compare --scenario x") && page.contains("a &lt;cpu&gt;, 2 cores"));
        for outside in ["http://", "https://", "<script", "<link", "@import", "url("] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(outside), "{outside}");
        }
    }
}
