//! The gateway and its peers, side by side: equal work, in turns, on a core of their own.

pub mod certificate;
pub mod event;
pub mod idle;
pub mod results;
pub mod round;
pub mod scenario;
pub mod server;
pub mod stats;
pub mod steady;
pub mod table;
pub mod tokens;
pub mod upstreams;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Failure;
use crate::cli::{By, Compare};
use crate::load::{Expect, Form, Pace, Plan, Requests, Tls};
use crate::proc;
use certificate::Files;
use results::{Machine, Outcome, Phase, Results};
use round::{Setting, Watch};
use scenario::{Handshakes, Kind, Scenario};
use server::Server;
use tokens::Made;
use upstreams::Upstreams;

/// What is made for a scenario's run.
#[derive(Default)]
pub struct Given {
    /// The servers' certificate, in a scenario over TLS.
    pub files: Option<Files>,
    /// In a scenario with tokens.
    pub tokens: Option<Made>,
}

impl Given {
    fn make(scenario: &Scenario, folder: &Path) -> Result<Self, Failure> {
        Ok(Self {
            files: scenario.load.tls.map(|_| Files::make(folder)).transpose()?,
            tokens: scenario.load.tokens.map(|tokens| Made::new(tokens, folder)).transpose()?,
        })
    }

    fn tls(&self, resume: bool) -> Result<Option<Tls>, Failure> {
        let pinned = |files: &Files| Tls::pinned(certificate::NAME, &files.cert, resume);
        self.files.as_ref().map(pinned).transpose()
    }

    fn tokens(&self) -> &[String] {
        self.tokens.as_ref().map_or(&[], |made| &made.tokens)
    }
}

/// What every part of a scenario's run needs to know.
pub struct Bench<'a> {
    pub arguments: &'a Compare,
    pub scenario: &'a Scenario,
    pub connections: usize,
    pub given: &'a Given,
    /// Set by Ctrl-C: the turn under way ends, and does not count.
    pub stop: &'a AtomicBool,
}

impl Bench<'_> {
    pub fn setting(&self, server: &Server, upstreams: &Upstreams) -> Setting<'_> {
        Setting {
            server: server.pid(),
            upstreams: upstreams.pids(),
            server_core: self.arguments.server_core,
            load_core: self.arguments.load_core,
            watch: Watch { name: server.kind.name.clone(), stop: self.stop },
        }
    }

    pub fn plan(&self, server: &Server, pace: Pace) -> Result<Plan, Failure> {
        let tls = self.given.tls(self.scenario.load.tls != Some(Handshakes::Full))?;
        let tls = tls.map(|tls| if self.scenario.load.streams.is_some() { tls.for_h2() } else { tls });
        let form = Form {
            method: self.scenario.load.method.clone(),
            headers: self.scenario.headers(),
            body: vec![b'x'; self.scenario.body_bytes],
        };
        Ok(Plan {
            target: server.front,
            requests: Requests::with_tokens(&form, &self.scenario.places, self.given.tokens()),
            connections: self.connections,
            pace,
            expect: Expect { status: Some(200), body_bytes: Some(server.answer_bytes), body: None },
            timeout: Duration::from_secs(10),
            new_connections: self.scenario.new_connections(),
            tls,
            streams: self.scenario.load.streams,
        })
    }
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
    let stop = crate::on_interrupt()?;
    for name in &arguments.scenario {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let scenario = Scenario::read(&root, name)?;
        let outcome = one(arguments, &scenario, &folder.0, &stop)?;
        table::print(&outcome);
        outcomes.push(outcome);
    }
    let results = Results {
        command: env::args().collect::<Vec<_>>().join(" "),
        started_unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        machine: Machine::this(),
        scenarios: outcomes,
    };
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&results).expect("our results are plain values");
        fs::write(file, text).map_err(|error| Failure::io(file, &error))?;
    }
    Ok(())
}

fn one(
    arguments: &Compare,
    scenario: &Scenario,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<Outcome, Failure> {
    let mut upstreams = Upstreams::start(scenario, arguments.load_core)?;
    let given = Given::make(scenario, folder)?;
    let (servers, skipped) = start(arguments, scenario, folder, &upstreams, &given);
    if servers.is_empty() {
        return Err(Failure(format!("{}: no server to measure", scenario.name)));
    }
    let connections = arguments.connections.unwrap_or(scenario.load.connections);
    let bench = Bench { arguments, scenario, connections, given: &given, stop };
    let (mut phases, mut idle) = (Vec::new(), Vec::new());
    match scenario.load.kind {
        Kind::Steady => {
            let closed = steady::closed(&bench, &servers, &upstreams)?;
            if arguments.generator == By::Own && !stop.load(Ordering::Relaxed) {
                phases.push(steady::open(&bench, &servers, &upstreams, &closed)?);
            }
            phases.insert(0, closed);
        }
        Kind::Idle => idle = idle::measure(&bench, &servers, &upstreams)?,
        Kind::Reload | Kind::Killed => phases.push(event::phase(&bench, &servers, &mut upstreams)?),
    }
    for phase in &mut phases {
        phase.doubts.extend(results::handshake_doubts(scenario.load.tls, &phase.servers));
    }
    Ok(Outcome {
        scenario: scenario.name.clone(),
        load: scenario.load.clone(),
        generator: arguments.generator,
        connections,
        phases,
        idle,
        skipped,
    })
}

/// Starts the gateway and the peers; names those that cannot take part, and why.
fn start(
    arguments: &Compare,
    scenario: &Scenario,
    folder: &Path,
    upstreams: &Upstreams,
    given: &Given,
) -> (Vec<Server>, Vec<(String, String)>) {
    let (mut servers, mut skipped) = (Vec::new(), Vec::new());
    for name in std::iter::once("coregate").chain(arguments.against.iter().map(String::as_str)) {
        let found = server::Kind::find(name, arguments.gateway.as_deref())
            .and_then(|kind| kind.takes_part(scenario).map(|()| kind))
            .and_then(|kind| {
                let started =
                    kind.start(scenario, folder, &upstreams.addresses, given, arguments.server_core);
                started.map_err(|failure| failure.0)
            });
        match found {
            Ok(server) => servers.push(server),
            Err(why) => {
                crate::say!("{name}: skipped: {why}");
                let first = why.lines().next().unwrap_or_default();
                skipped.push((name.to_owned(), first.to_owned()));
            }
        }
    }
    (servers, skipped)
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
