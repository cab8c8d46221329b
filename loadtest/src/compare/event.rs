//! Something happens under load: reloads, an upstream that is killed and comes back.

use super::round::{self, Round};
use super::scenario::Kind;
use super::server::Server;
use super::steady::{names, rounds};
use super::upstreams::Upstreams;
use super::{Bench, Phase};
use crate::Failure;
use crate::load::Pace;

/// Requests a second when the arguments name no rate: far below what anyone here can do on one core.
const RATE: f64 = 10_000.0;

/// One phase in open loop. In each turn the server is reloaded after each quarter of the measured time; or the last
/// upstream is killed after the first quarter and comes back after the third.
pub fn phase(bench: &Bench<'_>, servers: &[Server], upstreams: &mut Upstreams) -> Result<Phase, Failure> {
    let rate = bench.arguments.rate.unwrap_or(RATE);
    let rounds = rounds(bench, servers, |server| turn(bench, server, upstreams, rate))?;
    Ok(Phase::new(Some(rate), names(servers), rounds))
}

fn turn(
    bench: &Bench<'_>,
    server: &Server,
    upstreams: &mut Upstreams,
    rate: f64,
) -> Result<Option<Round>, Failure> {
    let plan = bench.plan(server, Pace::Open { per_second: rate })?;
    let setting = bench.setting(server, upstreams);
    let event = |quarter| match (bench.scenario.load.kind, quarter) {
        (Kind::Reload, _) => server.reload(),
        (Kind::Killed, 1) => upstreams.kill_last(),
        (Kind::Killed, 3) => upstreams.revive_last(),
        _ => Ok(()),
    };
    round::with_own(&setting, plan, bench.arguments.warmup, bench.arguments.duration, event)
        .map_err(|failure| Failure(format!("{}: {}", server.kind.name, failure.0)))
}
