//! From files to the snapshot that serves, at start and at every reload.

use std::{
    collections::HashMap,
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use super::{Source, auth::Auths, tls::Tls};
use crate::{
    auth::revocation::RevocationCell,
    bus,
    config::{self, Address, Config, Loaded},
    control::{self, Built, Cause, Follow, Followed, Refused, accounts, bus::Bus},
    observe::{Names, NamesCell, writer},
    snapshot::{self, Identities, Numbers, Resolved, Snapshot, SnapshotCell},
};

/// Reads and checks a configuration. The error is every problem, rendered.
pub(super) fn load(source: &Source) -> Result<Loaded, String> {
    let loaded = match source {
        Source::File(path) => config::load(path),
        Source::Text(text) => config::from_text(text),
    };
    loaded.map_err(|problems| problems.render(false))
}

/// Builds snapshots and stores them. Used by the control thread only, one call at a time.
pub(super) struct Builder {
    source: Source,
    cell: Arc<SnapshotCell>,
    names_cell: Arc<NamesCell>,
    log: writer::Handle,
    bus_postbox: bus::Postbox,
    #[expect(clippy::disallowed_types, reason = "only threads that may block take it; no shard does")]
    state: std::sync::Mutex<State>,
}

struct State {
    /// What serves. Its listeners, admin address, shards and driver are those of the process.
    config: Config,
    bound: Vec<Option<SocketAddr>>,
    resolved: Resolved,
    identities: Identities,
    names: Names,
    tls: Tls,
    auths: Auths,
    /// What the control thread is to know of issuers of our own.
    accounts: watch::Sender<Vec<Arc<accounts::Settings>>>,
    bus: Bus,
}

impl Numbers for Names {
    fn route(&mut self, pattern: &str) -> u32 {
        Self::route(self, pattern)
    }

    fn service(&mut self, name: &str) -> u32 {
        Self::service(self, name)
    }

    fn endpoint(&mut self, service: u32, url: &str) -> u32 {
        Self::endpoint(self, service, url)
    }

    fn part(&mut self, pattern: &str, name: &str) -> u32 {
        let route = Self::route(self, pattern);
        Self::part(self, route, name)
    }
}

impl Builder {
    /// Builds the first snapshot.
    pub(super) fn start(
        source: Source,
        config: Config,
        files: Vec<PathBuf>,
        bound: Vec<Option<SocketAddr>>,
        names_cell: Arc<NamesCell>,
        log: writer::Handle,
        tls: Tls,
        shards: usize,
        seed: u64,
    ) -> Result<(Self, Built), String> {
        let mut warnings = Vec::new();
        let mut state = State {
            resolved: look_up(&config, &Resolved::new(), &mut warnings),
            identities: Identities::new(&format!("{seed:016x}"), shards),
            names: Names::default(),
            config,
            bound,
            tls,
            auths: Auths::default(),
            accounts: watch::Sender::new(Vec::new()),
            bus: Bus::new(log.events()),
        };
        state.prepare_accounts(&mut warnings);
        state.tls.prepare(&state.config, &mut warnings)?;
        let snapshot = state.build();
        let bus_postbox = state.bus.postbox();
        state.connect(&snapshot)?;
        names_cell.store(Arc::new(state.names.clone()));
        let built = Built {
            version: snapshot.version,
            source: source.to_string(),
            inputs: inputs(files),
            summary: String::new(),
            warnings,
            certificates: state.tls.facts(),
            retired: None,
        };
        let cell = Arc::new(SnapshotCell::from_pointee(snapshot));
        #[expect(clippy::disallowed_types, reason = "only threads that may block take it; no shard does")]
        let state = std::sync::Mutex::new(state);
        Ok((Self { source, cell, names_cell, log, bus_postbox, state }, built))
    }

    /// Where the shards' calls to brokers go.
    pub(super) fn bus(&self) -> bus::Postbox {
        self.bus_postbox.clone()
    }

    /// What the control thread is to fetch.
    pub(super) fn keys(&self) -> watch::Receiver<Vec<Arc<control::FetchedKeys>>> {
        self.state().auths.sources()
    }

    /// Issuers of our own, now and after every reload.
    pub(super) fn accounts(&self) -> watch::Receiver<Vec<Arc<accounts::Settings>>> {
        self.state().accounts.subscribe()
    }

    /// Which tokens are refused, in every snapshot.
    pub(super) fn revocations(&self) -> Arc<RevocationCell> {
        Arc::clone(&self.state().identities.revocations)
    }

    pub(super) fn cell(&self) -> Arc<SnapshotCell> {
        Arc::clone(&self.cell)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A build that panicked has stored nothing; what it left is at most a number that nobody uses.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Loads the configuration again and, if it is right and different, lets it serve.
    pub(super) fn rebuild(&self, cause: Cause) -> Result<Built, Refused> {
        let mut state = self.state();
        let (mut config, files, mut warnings) = match cause {
            Cause::Addresses => (state.config.clone(), Vec::new(), Vec::new()),
            Cause::Signal | Cause::Files | Cause::Asked => match self.load_again() {
                Ok(loaded) => loaded,
                Err(refused) => return Err(self.renew_certificates(&mut state, refused)),
            },
        };
        keep_what_needs_a_restart(&state.config, &mut config, &mut warnings).map_err(|problems| Refused {
            problems,
            inputs: inputs(files.clone()),
            renewed: None,
        })?;
        let resolved = match cause {
            Cause::Addresses => state.resolved.clone(),
            Cause::Signal | Cause::Files | Cause::Asked => look_up(&config, &state.resolved, &mut warnings),
        };
        let mut summary = difference(&state.config, &config);
        if summary.is_empty() && (cause == Cause::Addresses || resolved != state.resolved) {
            summary = "addresses of services changed".to_owned();
        }
        let version = self.cell.load().version;
        let mut built = Built {
            version,
            source: self.source.to_string(),
            inputs: inputs(files),
            summary,
            warnings,
            certificates: Vec::new(),
            retired: None,
        };
        if built.summary.is_empty() {
            return Ok(built);
        }
        let settings = control::log_settings(&config.log);
        if let Err(error) = self.log.apply(&settings) {
            let problems = format!("error: [log]: {error}\n1 error\n");
            return Err(Refused { problems, inputs: built.inputs, renewed: None });
        }
        if let Err(problems) = state.tls.prepare(&config, &mut built.warnings) {
            return Err(Refused { problems, inputs: built.inputs, renewed: None });
        }
        // Not before: what is known here is what serves, and addresses that are followed are compared with it.
        state.resolved = resolved;
        state.config = config;
        built.certificates = state.tls.facts();
        state.prepare_accounts(&mut built.warnings);
        let snapshot = state.build();
        if let Err(problem) = state.connect(&snapshot) {
            // The rest serves; calls to brokers are answered with 503.
            built.warnings.push(problem);
        }
        built.version = snapshot.version;
        self.names_cell.store(Arc::new(state.names.clone()));
        let retired: Arc<Snapshot> = self.cell.swap(Arc::new(snapshot));
        built.retired = Some(retired);
        Ok(built)
    }

    /// Takes over new certificates although the configuration was refused: one that ends tonight does not wait for somebody to
    /// mend something else. Each file that is not good keeps what was read from it before.
    fn renew_certificates(&self, state: &mut State, mut refused: Refused) -> Refused {
        let Some(tls) = &state.config.tls else { return refused };
        let (fresh, _) = config::refresh_tls(tls);
        if format!("{:?}", fresh.offer) == format!("{:?}", tls.offer) {
            return refused;
        }
        let config = Config { tls: Some(fresh), ..state.config.clone() };
        if state.tls.prepare(&config, &mut Vec::new()).is_ok() {
            state.config = config;
            let snapshot = state.build();
            let mut built = Built {
                version: snapshot.version,
                source: self.source.to_string(),
                certificates: state.tls.facts(),
                ..Built::default()
            };
            let retired: Arc<Snapshot> = self.cell.swap(Arc::new(snapshot));
            built.retired = Some(retired);
            refused.renewed = Some(Box::new(built));
            refused.problems.push_str("\ncertificates that could be read were replaced");
        }
        refused
    }

    fn load_again(&self) -> Result<(Config, Vec<PathBuf>, Vec<String>), Refused> {
        let Source::File(path) = &self.source else {
            let loaded = load(&self.source).map_err(|problems| Refused { problems, ..Refused::default() })?;
            return Ok((loaded.config, loaded.files, Vec::new()));
        };
        match config::load(path) {
            Ok(loaded) => {
                let warnings = match loaded.warnings.is_empty() {
                    true => Vec::new(),
                    false => vec![loaded.warnings.render(false)],
                };
                Ok((loaded.config, loaded.files, warnings))
            }
            Err(problems) => Err(Refused {
                problems: problems.render(false),
                inputs: inputs(problems.files().to_vec()),
                renewed: None,
            }),
        }
    }
}

impl State {
    /// Gets ready what issuers of our own need before the first request: keys, a first user, what is revoked.
    fn prepare_accounts(&mut self, warnings: &mut Vec<String>) {
        let settings: Vec<Arc<accounts::Settings>> = self
            .config
            .auths
            .iter()
            .filter_map(|auth| accounts::Settings::of(auth, self.auths.own(&auth.name)))
            .map(Arc::new)
            .collect();
        let known = self.accounts.borrow().clone();
        let is_new = |new: &&Arc<accounts::Settings>| !known.iter().any(|known| known == *new);
        let new: Vec<_> = settings.iter().filter(is_new).cloned().collect();
        match accounts::prepare(&new, &self.identities.revocations) {
            Ok(problems) => warnings.extend(problems),
            Err(error) => warnings.push(format!("accounts: no thread can be started: {error}")),
        }
        self.accounts.send_replace(settings);
    }

    fn build(&mut self) -> Snapshot {
        let tls = self.tls.configs();
        let issuers = self.auths.issuers(&self.config, &mut self.names);
        snapshot::build(
            &self.config,
            &self.resolved,
            &self.bound,
            &tls,
            &issuers,
            &mut self.identities,
            &mut self.names,
        )
    }

    /// Lets the bus thread connect to the brokers of a snapshot.
    fn connect(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let configured = self.bus.configure(snapshot.amqp.clone());
        configured.map_err(|error| format!("the thread for brokers cannot start: {error}"))
    }
}

impl Follow for Builder {
    fn names(&self) -> (Vec<Followed>, config::Resolver) {
        let state = self.state();
        let names = host_names(&state.config);
        let followed = names
            .into_iter()
            .map(|name| {
                let addresses = state.resolved.get(&name).cloned().unwrap_or_default();
                Followed { host: name.0.to_string(), port: name.1, addresses }
            })
            .collect();
        (followed, state.config.resolver.clone())
    }

    fn generation(&self) -> u64 {
        self.cell.load().version
    }

    fn changed(&self, changed: &[Followed]) {
        let mut state = self.state();
        for name in changed {
            state.resolved.insert((name.host.as_str().into(), name.port), name.addresses.clone());
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(_) => f.write_str("a text"),
        }
    }
}

/// What is to be watched: files, and the folders that includes looked through.
fn inputs(read: Vec<PathBuf>) -> control::Inputs {
    let (folders, files) = read.into_iter().partition(|path: &PathBuf| Path::is_dir(path));
    control::Inputs { files, folders }
}

/// The host names of all endpoints, each once.
fn host_names(config: &Config) -> Vec<(Arc<str>, u16)> {
    let mut names: Vec<_> = config
        .services
        .iter()
        .flat_map(|service| &service.endpoints)
        .filter_map(|endpoint| match &endpoint.address {
            Address::Name(name, port) => Some((Arc::clone(name), *port)),
            Address::Tcp(_) | Address::Unix(_) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Resolves the names of a configuration. One that does not resolve keeps the addresses it had, or has none and is down until it
/// does: never an error.
fn look_up(config: &Config, known: &Resolved, warnings: &mut Vec<String>) -> Resolved {
    let names = host_names(config);
    let asked: Vec<_> = names.iter().map(|(name, port)| (name.to_string(), *port)).collect();
    let before = |host: &str, port| known.get(&(Arc::from(host), port)).cloned().unwrap_or_default();
    let answers = control::resolve_now(&asked, &config.resolver, before);
    let mut resolved = Resolved::new();
    for (name, answer) in names.into_iter().zip(answers) {
        match (answer, known.get(&name)) {
            (Ok(addresses), _) => {
                resolved.insert(name, addresses);
            }
            (Err(problem), Some(addresses)) => {
                warnings.push(format!("`{}` keeps its addresses: {problem}", name.0));
                resolved.insert(name, addresses.clone());
            }
            (Err(problem), None) => warnings.push(format!(
                "`{}` does not resolve now ({problem}); its endpoints start as down and are retried",
                name.0
            )),
        }
    }
    resolved
}

/// Sockets and threads stay as they are: what is written about them takes effect at the next start. The warnings name the keys. A
/// route that is bound to a listener which does not exist yet cannot be served, so that is refused.
fn keep_what_needs_a_restart(
    running: &Config,
    config: &mut Config,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    let mut note = |key: &str, changed: bool| {
        if changed {
            warnings.push(format!("`{key}` has changed; it takes effect at the next start"));
        }
    };
    note("listen", config.listen != running.listen);
    note("admin", config.admin != running.admin);
    note("shards", config.shards != running.shards);
    note("driver", config.driver != running.driver);
    note("user", config.user != running.user);
    note("state", config.state != running.state);

    for route in &mut config.routes {
        let Some(listener) = route.on else { continue };
        let name = &config.listen[listener].name;
        let Some(place) = running.listen.iter().position(|listen| listen.name == *name) else {
            return Err(format!(
                "error: route `{}` is bound to the listener `{name}`, which is new; restart the gateway to open it\n\
                 1 error\n",
                route.pattern.text()
            ));
        };
        route.on = Some(place);
    }
    config.listen.clone_from(&running.listen);
    config.admin = running.admin;
    config.shards = running.shards;
    config.driver = running.driver;
    config.user.clone_from(&running.user);
    config.state.clone_from(&running.state);
    Ok(())
}

/// What is different, in one line; empty when nothing is.
fn difference(old: &Config, new: &Config) -> String {
    let mut text = String::new();
    let routes =
        |config: &Config| -> Vec<_> { config.routes.iter().map(|route| described(route, config)).collect() };
    count_changes(&mut text, "route", routes(old).into_iter(), routes(new).into_iter());
    let service = |service: &config::Service| (service.name.to_string(), format!("{service:?}"));
    count_changes(&mut text, "service", old.services.iter().map(service), new.services.iter().map(service));
    let auth = |auth: &config::Auth| (auth.name.to_string(), format!("{auth:?}"));
    count_changes(&mut text, "issuer", old.auths.iter().map(auth), new.auths.iter().map(auth));
    let rest = |config: &Config| {
        format!("{:?}{:?}{:?}{:?}", config.trusted_proxies, config.limits, config.log, config.resolver)
    };
    let offer = |config: &Config| config.tls.as_ref().map(|tls| format!("{:?}", tls.offer));
    if rest(old) != rest(new) {
        text.push_str(if text.is_empty() { "settings changed" } else { "; settings changed" });
    }
    if offer(old) != offer(new) {
        text.push_str(if text.is_empty() { "certificates changed" } else { "; certificates changed" });
    }
    text
}

/// A route's key, and what it says. Where it is written does not count, nor does its service's number, which is another service's
/// when they change places.
fn described(route: &config::Route, config: &Config) -> (String, String) {
    let key = format!("{} {:?}", route.pattern.text(), route.on);
    let mut route = config::Route { place: "".into(), ..route.clone() };
    let mut names = String::new();
    let service = match &mut route.target {
        config::Target::Service(index) => &*config.services[std::mem::take(index)].name,
        config::Target::Accounts { auth, .. } => &*config.auths[std::mem::take(auth)].name,
        config::Target::Amqp(index) => &*config.amqp[std::mem::take(index)].name,
        config::Target::Fixed(_) | config::Target::Redirect { .. } => "",
        config::Target::Aggregate(plan) => {
            let plan = Arc::make_mut(plan);
            for part in &mut plan.parts {
                names.push_str(&config.services[std::mem::take(&mut part.service)].name);
                names.push(' ');
            }
            &names
        }
    };
    (key, format!("{service} {route:?}"))
}

fn count_changes(
    text: &mut String,
    what: &str,
    old: impl Iterator<Item = (String, String)>,
    new: impl Iterator<Item = (String, String)>,
) {
    let mut old: HashMap<String, String> = old.collect();
    let (mut added, mut changed, mut total) = (0, 0, 0);
    for (key, said) in new {
        total += 1;
        match old.remove(&key) {
            None => added += 1,
            Some(before) if before != said => changed += 1,
            Some(_) => {}
        }
    }
    if added + changed + old.len() > 0 {
        if !text.is_empty() {
            text.push_str("; ");
        }
        let plural = if total == 1 { "" } else { "s" };
        // Writing into a string cannot fail.
        let _ =
            write!(text, "{total} {what}{plural} ({added} added, {} removed, {changed} changed)", old.len());
    }
}
