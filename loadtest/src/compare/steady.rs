//! Rounds of steady load: all servers in turn, closed loop first, then a fixed rate that all of them can serve.

use std::sync::atomic::Ordering;

use super::round::{self, Round};
use super::server::Server;
use super::upstreams::Upstreams;
use super::{Bench, Phase, table};
use crate::Failure;
use crate::cli::By;
use crate::load::Pace;

/// The part of the slowest server's throughput that is asked of all in open loop.
const RATE_PART: f64 = 0.6;

/// The closed-loop phase.
pub fn closed(bench: &Bench<'_>, servers: &[Server], upstreams: &Upstreams) -> Result<Phase, Failure> {
    let rounds = rounds(bench, servers, |server| match bench.arguments.generator {
        By::Own => own(bench, server, upstreams, Pace::Closed),
        By::Wrk => wrk(bench, server, upstreams),
    })?;
    Ok(Phase::new(None, names(servers), rounds))
}

/// The open-loop phase, at the rate that the arguments name or at a part of what the slowest did in `closed`.
pub fn open(
    bench: &Bench<'_>,
    servers: &[Server],
    upstreams: &Upstreams,
    closed: &Phase,
) -> Result<Phase, Failure> {
    let slowest = closed.servers.iter().map(|server| server.per_second.median).fold(f64::INFINITY, f64::min);
    let rate = bench.arguments.rate.unwrap_or_else(|| (slowest * RATE_PART).floor());
    if !rate.is_finite() || rate < 1.0 {
        return Err(Failure(
            "no rate to offer: a server answered nothing in closed loop; --rate names one".to_owned(),
        ));
    }
    crate::say!("open loop at {rate:.0} requests a second");
    let pace = Pace::Open { per_second: rate };
    let rounds = rounds(bench, servers, |server| own(bench, server, upstreams, pace))?;
    Ok(Phase::new(Some(rate), names(servers), rounds))
}

fn own(
    bench: &Bench<'_>,
    server: &Server,
    upstreams: &Upstreams,
    pace: Pace,
) -> Result<Option<Round>, Failure> {
    let (setting, plan) = (bench.setting(server, upstreams), bench.plan(server, pace)?);
    round::with_own(&setting, plan, bench.arguments.warmup, bench.arguments.duration, |_| Ok(()))
        .map_err(|failure| Failure(format!("{}: {}", server.kind.name, failure.0)))
}

fn wrk(bench: &Bench<'_>, server: &Server, upstreams: &Upstreams) -> Result<Option<Round>, Failure> {
    let load = &bench.scenario.load;
    if load.method != "GET" || bench.scenario.places.len() > 1 || load.tls.is_some() || load.streams.is_some()
    {
        return Err(Failure(format!(
            "{}: wrk is asked only for one GET over HTTP/1.1 without TLS here",
            bench.scenario.name
        )));
    }
    let url = format!("http://{}{}", server.front, load.path);
    let setting = bench.setting(server, upstreams);
    round::with_wrk(&setting, &url, &load.headers, bench.connections, bench.arguments.duration)
        .map(Some)
        .map_err(|error| Failure(format!("{}: {error}", server.kind.name)))
}

/// Every server's turns, in rounds; as many as there were before Ctrl-C.
pub fn rounds(
    bench: &Bench<'_>,
    servers: &[Server],
    mut turn: impl FnMut(&Server) -> Result<Option<Round>, Failure>,
) -> Result<Vec<Vec<Round>>, Failure> {
    let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
    for number in 0..bench.arguments.rounds {
        // Another one begins each time, so that nobody always follows the same neighbour.
        for place in 0..servers.len() {
            if bench.stop.load(Ordering::Relaxed) {
                return Ok(rounds);
            }
            let index = (number + place) % servers.len();
            let Some(round) = turn(&servers[index])? else { return Ok(rounds) };
            crate::say!("{}", table::line(number + 1, &servers[index].kind.name, &round));
            rounds[index].push(round);
        }
    }
    Ok(rounds)
}

/// Names and versions, in order.
pub fn names(servers: &[Server]) -> Vec<(String, String)> {
    servers.iter().map(|server| (server.kind.name.clone(), server.kind.version())).collect()
}
