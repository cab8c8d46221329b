//! What connections cost that do nothing.

use std::time::{Duration, Instant};

use super::results::Idle;
use super::server::Server;
use super::{Bench, upstreams::Upstreams};
use crate::Failure;
use crate::load::{Generator, Pace};
use crate::proc;

/// Servers may let go of what a request needed; this long they get for it.
const SETTLE: Duration = Duration::from_secs(3);

/// Memory of each server before and after the scenario's connections have each carried a request and fallen silent.
pub fn measure(bench: &Bench<'_>, servers: &[Server], upstreams: &Upstreams) -> Result<Vec<Idle>, Failure> {
    let mut idle = Vec::new();
    for server in servers {
        let setting = bench.setting(server, upstreams);
        let bytes_before = proc::memory_bytes(server.pid());
        // Connections take their turns, so that in the time of three rounds each has carried some requests.
        let connections = bench.connections;
        let rate = crate::load::precise(connections as u64).max(1000.0) / 2.0;
        let plan = bench.plan(server, Pace::Open { per_second: rate });
        let generator = proc::on_core(setting.load_core, || {
            let mut generator = Generator::new(plan)?;
            generator.drive(Instant::now() + Duration::from_secs(6))?;
            generator.finish(Duration::from_secs(2))?;
            Ok::<_, std::io::Error>(generator)
        });
        let generator = generator
            .and_then(|made| made)
            .map_err(|error| Failure(format!("{}: {error}", server.kind.name)))?;
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
