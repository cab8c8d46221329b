//! What connections cost that do nothing.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::results::Idle;
use super::server::Server;
use super::{Bench, upstreams::Upstreams};
use crate::Failure;
use crate::live::Live;
use crate::load::{Generator, Pace, precise};
use crate::proc;

/// Servers may let go of what a request needed; this long they get for it.
const SETTLE: Duration = Duration::from_secs(3);

/// How long all connections may take to be made: full handshakes are hundreds a second on a core that is shared.
const CONNECT: Duration = Duration::from_secs(90);

/// How long every connection is then used.
const USE: Duration = Duration::from_secs(10);

/// How often it is looked whether all connections are there, and whether Ctrl-C came.
const SLICE: Duration = Duration::from_millis(200);

/// Memory of each server before and after the scenario's connections have each carried a request and fallen silent.
pub fn measure(bench: &Bench<'_>, servers: &[Server], upstreams: &Upstreams) -> Result<Vec<Idle>, Failure> {
    let mut idle = Vec::new();
    for server in servers {
        let setting = bench.setting(server, upstreams);
        let bytes_before = proc::memory_bytes(server.pid());
        let generator = proc::on_core(setting.load_core, || silent(bench, server));
        let generator = generator
            .map_err(|error| Failure(error.to_string()))
            .and_then(|made| made)
            .map_err(|failure| Failure(format!("{}: {}", server.kind.name, failure.0)))?;
        let Some(generator) = generator else { break };
        std::thread::sleep(SETTLE);
        let result = Idle {
            name: server.kind.name.clone(),
            connections: generator.open(),
            bytes_before,
            bytes_after: proc::memory_bytes(server.pid()),
        };
        crate::say!(
            "{:<15} {:>6} connections open, {} requests, {} failed: {:>6.2} KiB each",
            result.name,
            result.connections,
            generator.tally.successes(),
            generator.tally.failed(),
            result.bytes_per_connection() / 1024.0
        );
        idle.push(result);
    }
    Ok(idle)
}

/// A generator with all connections open, each of which has carried requests. `None` when Ctrl-C came.
fn silent(bench: &Bench<'_>, server: &Server) -> Result<Option<Generator>, Failure> {
    let lost = |error: std::io::Error| Failure(format!("the generator failed: {error}"));
    // Connections take their turns: before the time of use is over each has had one. More would compete with the handshakes.
    let rate = precise(bench.connections as u64) * 1.2 / USE.as_secs_f64();
    let mut generator = Generator::new(bench.plan(server, Pace::Open { per_second: rate })?).map_err(lost)?;
    let mut live = Live::over(&server.kind.name);
    let start = Instant::now();
    let mut end = start + CONNECT;
    let mut is_open = false;
    while Instant::now() < end {
        if bench.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        generator.drive(end.min(Instant::now() + SLICE)).map_err(lost)?;
        live.show(&generator.tally, start.elapsed(), end.saturating_duration_since(start));
        if !is_open && generator.open() == bench.connections {
            is_open = true;
            end = Instant::now() + USE;
        }
    }
    generator.finish(Duration::from_secs(2)).map_err(lost)?;
    live.clear();
    Ok(Some(generator))
}
