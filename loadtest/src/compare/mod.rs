//! The gateway and its peers, side by side: equal work, in turns, on a core of their own.

pub mod round;
pub mod scenario;
pub mod server;
pub mod stats;
pub mod table;

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::Failure;
use crate::cli::{By, Compare};
use crate::load::{Expect, Pace, Plan, Requests};
use crate::proc;
use round::{Round, Setting};
use scenario::Scenario;
use server::{Kind, Server};
use stats::Spread;

/// All that a run showed, and how to do it again.
#[derive(Debug, Serialize)]
pub struct Results {
    pub command: String,
    pub started_unix_seconds: u64,
    pub machine: Machine,
    pub scenarios: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
pub struct Machine {
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
}

/// One scenario's results.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub scenario: String,
    pub load: scenario::Load,
    pub generator: By,
    pub connections: usize,
    pub servers: Vec<Standing>,
    /// Who did not take part, and why.
    pub skipped: Vec<(String, String)>,
    /// Why no conclusion should be drawn from it; empty when one may.
    pub doubts: Vec<String>,
}

/// One server's rounds and what they come to.
#[derive(Debug, Serialize)]
pub struct Standing {
    pub name: String,
    pub version: String,
    pub cpu_micros: Spread,
    pub per_second: Spread,
    pub memory_bytes: f64,
    /// CPU per request as a multiple of each other server's in the same round.
    pub ratios: Vec<Ratio>,
    pub rounds: Vec<Round>,
}

#[derive(Debug, Serialize)]
pub struct Ratio {
    pub to: String,
    pub of: Spread,
}

/// Runs what the arguments ask for and prints it; writes JSON when asked.
pub fn run(arguments: &Compare) -> Result<(), Failure> {
    let cores = proc::cores().map_err(|error| Failure(format!("which cores may be used: {error}")))?;
    for core in [arguments.server_core, arguments.load_core] {
        if !cores.contains(&core) {
            return Err(Failure(format!("core {core} is not among those this process may use: {cores:?}")));
        }
    }
    if arguments.server_core == arguments.load_core {
        return Err(Failure(
            "the server and the load need a core each; this would measure their quarrel".to_owned(),
        ));
    }
    let root = arguments.scenarios.clone().unwrap_or_else(scenarios);
    let folder = Folder::new()?;
    let mut outcomes = Vec::new();
    for name in &arguments.scenario {
        let scenario = Scenario::read(&root, name)?;
        let outcome = one(arguments, &scenario, &folder.0)?;
        table::print(&outcome);
        outcomes.push(outcome);
    }
    let results = Results {
        command: env::args().collect::<Vec<_>>().join(" "),
        started_unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        machine: machine(cores.len()),
        scenarios: outcomes,
    };
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&results).expect("our results are plain values");
        fs::write(file, text).map_err(|error| Failure::io(file, &error))?;
    }
    Ok(())
}

fn one(arguments: &Compare, scenario: &Scenario, folder: &Path) -> Result<Outcome, Failure> {
    let mut skipped = Vec::new();
    let upstreams: Vec<SocketAddr> = (0..4).map(|_| server::free_address()).collect::<Result<_, _>>()?;
    let stub = start_stub(scenario, &upstreams, arguments.load_core)?;
    let mut servers: Vec<Server> = Vec::new();
    let names = std::iter::once("coregate").chain(arguments.against.iter().map(String::as_str));
    for name in names {
        let found = Kind::find(name, arguments.gateway.as_deref())
            .and_then(|kind| kind.takes_part(scenario).map(|()| kind))
            .and_then(|kind| {
                kind.start(scenario, folder, &upstreams, arguments.server_core).map_err(|failure| failure.0)
            });
        match found {
            Ok(server) => servers.push(server),
            Err(why) => {
                crate::say!("{name}: skipped: {why}");
                skipped.push((name.to_owned(), why));
            }
        }
    }
    if servers.is_empty() {
        return Err(Failure(format!("{}: no server to measure", scenario.name)));
    }

    let connections = arguments.connections.unwrap_or(scenario.load.connections);
    let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
    for number in 0..arguments.rounds {
        // Another one begins each time, so that nobody always follows the same neighbour.
        for place in 0..servers.len() {
            let index = (number + place) % servers.len();
            let round = turn(arguments, scenario, &servers[index], stub.0.id(), connections)?;
            crate::say!("{}", table::line(number + 1, &servers[index].kind.name, &round));
            rounds[index].push(round);
        }
    }

    let standings = standings(&servers, rounds);
    let doubts = doubts(&standings);
    Ok(Outcome {
        scenario: scenario.name.clone(),
        load: scenario.load.clone(),
        generator: arguments.generator,
        connections,
        servers: standings,
        skipped,
        doubts,
    })
}

fn turn(
    arguments: &Compare,
    scenario: &Scenario,
    server: &Server,
    stub: u32,
    connections: usize,
) -> Result<Round, Failure> {
    let setting = Setting {
        server: server.pid(),
        stub,
        server_core: arguments.server_core,
        load_core: arguments.load_core,
    };
    let measured = match arguments.generator {
        By::Own => {
            let plan = plan(scenario, server.front, connections, Pace::Closed);
            round::with_own(&setting, plan, arguments.warmup, arguments.duration)
        }
        By::Wrk if scenario.load.method != "GET" => {
            return Err(Failure(format!("{}: wrk is only asked for GET here", scenario.name)));
        }
        By::Wrk => {
            let url = format!("http://{}{}", server.front, scenario.load.path);
            round::with_wrk(&setting, &url, &scenario.load.headers, connections, arguments.duration)
        }
    };
    measured.map_err(|error| Failure(format!("{}: {error}", server.kind.name)))
}

fn plan(scenario: &Scenario, target: SocketAddr, connections: usize, pace: Pace) -> Plan {
    let body = vec![b'x'; scenario.body_bytes];
    let load = &scenario.load;
    let paths = [load.path.clone()];
    Plan {
        target,
        requests: Requests::new(&load.method, &paths, "bench.example", &scenario.headers(), &body),
        connections,
        pace,
        expect: Expect { status: Some(200), body_bytes: Some(scenario.response_bytes as u64) },
        timeout: std::time::Duration::from_secs(10),
        new_connections: false,
    }
}

fn standings(servers: &[Server], rounds: Vec<Vec<Round>>) -> Vec<Standing> {
    let cost = |rounds: &[Round]| -> Vec<f64> { rounds.iter().map(|round| round.cpu_micros).collect() };
    let costs: Vec<Vec<f64>> = rounds.iter().map(|rounds| cost(rounds)).collect();
    let ratios = |own: usize| {
        let others = (0..servers.len()).filter(move |&other| other != own);
        let ratio = |other: usize| {
            let pairs = costs[own].iter().zip(&costs[other]).map(|(own, other)| own / other);
            Some(Ratio { to: servers[other].kind.name.clone(), of: Spread::of(pairs)? })
        };
        others.filter_map(ratio).collect()
    };
    let standing = |(index, rounds): (usize, Vec<Round>)| Standing {
        name: servers[index].kind.name.clone(),
        version: servers[index].kind.version(),
        cpu_micros: Spread::of(costs[index].iter().copied()).unwrap_or_default(),
        per_second: Spread::of(rounds.iter().map(Round::per_second)).unwrap_or_default(),
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory stay below 2^53")]
        memory_bytes: Spread::of(rounds.iter().map(|round| round.memory_bytes as f64))
            .unwrap_or_default()
            .median,
        ratios: ratios(index),
        rounds,
    };
    rounds.into_iter().enumerate().map(standing).collect()
}

/// Why the result should not be believed.
fn doubts(standings: &[Standing]) -> Vec<String> {
    let mut doubts = Vec::new();
    let all = || standings.iter().flat_map(|standing| &standing.rounds);
    let noisy = all().filter(|round| round.is_noisy()).count();
    if noisy * 3 > all().count() {
        let worst = all().map(|round| round.foreign + round.stolen).fold(0.0, f64::max);
        doubts.push(format!(
            "too noisy to conclude: others used the cores in {noisy} of {} turns, up to {:.0} % of a turn",
            all().count(),
            worst * 100.0
        ));
    }
    for standing in standings {
        let failures: u64 = standing.rounds.iter().map(|round| round.failures).sum();
        if failures > 0 {
            doubts.push(format!("{}: {failures} requests failed", standing.name));
        }
        let lazy = standing.rounds.iter().filter(|round| round.server_used < 0.2).count();
        if lazy * 2 > standing.rounds.len() {
            doubts.push(format!(
                "{}: its core was mostly idle; cost per request is that of small batches",
                standing.name
            ));
        }
        for ratio in &standing.ratios {
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

/// The upstreams, a process of their own so that their CPU time is known apart.
struct StubProcess(Child);

impl Drop for StubProcess {
    fn drop(&mut self) {
        server::end(&mut self.0);
    }
}

fn start_stub(scenario: &Scenario, upstreams: &[SocketAddr], core: usize) -> Result<StubProcess, Failure> {
    let own = env::current_exe().map_err(|error| Failure(format!("this program's own file: {error}")))?;
    let mut command = Command::new(own);
    command.arg("stub").args(["--size", &scenario.response_bytes.to_string()]).stdout(Stdio::null());
    for address in upstreams {
        command.args(["--listen", &address.to_string()]);
    }
    let child = proc::on_core(core, || command.spawn()).and_then(|child| child);
    let stub = StubProcess(child.map_err(|error| Failure(format!("the upstreams do not start: {error}")))?);
    for _ in 0..200 {
        if upstreams.iter().all(|address| std::net::TcpStream::connect(address).is_ok()) {
            return Ok(stub);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(Failure("the upstreams do not listen".to_owned()))
}

/// A folder for configurations and logs that goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let path = env::temp_dir().join(format!("loadtest-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| Failure::io(&path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The scenarios of the source tree in which this program was called or lies.
fn scenarios() -> PathBuf {
    let places = [env::current_dir(), env::current_exe()];
    let folders = places.iter().flatten().flat_map(|place| place.ancestors());
    let found = folders.map(|folder| folder.join("loadtest/scenarios")).find(|folder| folder.is_dir());
    found.unwrap_or_else(|| PathBuf::from("loadtest/scenarios"))
}

fn machine(cores: usize) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    Machine {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
        cores,
    }
}
