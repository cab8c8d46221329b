//! The control thread as a whole: real sockets, real files, shards that answer as they would.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use super::*;
use crate::observe::{
    Finished, Gauges, Metrics, Names, Protocol, Why,
    event::Level,
    writer::{Settings, Target, Writer},
};

/// Two shards: the first answers at once, the second can be made silent.
#[derive(Default)]
struct TwoShards {
    metrics: tokio::sync::Mutex<Metrics>,
    silent: AtomicBool,
    nudges: AtomicUsize,
    /// Questions of the silent shard.
    asked: tokio::sync::Mutex<Vec<oneshot::Sender<Report>>>,
}

impl Shards for TwoShards {
    fn count(&self) -> usize {
        2
    }

    fn report(&self, shard: usize, spare: Metrics) -> Option<oneshot::Receiver<Report>> {
        let (answer, answered) = oneshot::channel();
        if shard == 1 && self.silent.load(Ordering::Relaxed) {
            self.asked.try_lock().unwrap().push(answer);
            return Some(answered);
        }
        let metrics = match shard {
            0 => self.metrics.try_lock().unwrap().hand_over(spare),
            _ => spare,
        };
        let connections = 10 + u64::try_from(shard).unwrap();
        let gauges = Gauges { connections, ..Gauges::default() };
        assert!(answer.send(Report { metrics, gauges }).is_ok());
        Some(answered)
    }

    fn nudge(&self) {
        self.nudges.fetch_add(1, Ordering::Relaxed);
    }
}

/// A gateway of which only the control thread is there. Its configuration is one file, whose text is the summary;
/// a text that begins with `bad` is refused.
struct Gateway {
    control: Control,
    _log: Writer,
    shards: Arc<TwoShards>,
    admin: SocketAddr,
    folder: PathBuf,
    /// What each build was about: cause and text.
    builds: Receiver<(Cause, String)>,
}

static FOLDERS: AtomicU64 = AtomicU64::new(0);

impl Gateway {
    fn start() -> Self {
        let unique = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("coregate-control-{}-{unique}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.toml");
        fs::write(&file, "first").unwrap();

        let settings =
            Settings { access: None, events: Target::File(folder.join("events")), level: Level::Debug };
        let (log, _) = Writer::start(&settings, 0, Arc::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap();
        let shards = Arc::new(TwoShards::default());
        let mut names = Names::default();
        names.route("GET /a");
        let (sender, builds) = channel();
        let inputs = Inputs { files: vec![file.clone()], folders: Vec::new() };
        let first = Built { version: 1, source: "config.toml".to_owned(), inputs, ..Built::default() };
        let control = Control::start(Parts {
            admin: Some(listener),
            state: folder.clone(),
            shards: Arc::clone(&shards) as Arc<dyn Shards>,
            log: log.handle(),
            names: Arc::new(NamesCell::from_pointee(names)),
            build: build(file, first.clone(), sender),
            first,
            follow: None,
            keys: tokio::sync::watch::Sender::new(Vec::new()).subscribe(),
            accounts: Accounts {
                settings: tokio::sync::watch::Sender::new(Vec::new()).subscribe(),
                questions: mpsc::channel(1).1,
                revocations: Arc::default(),
            },
            chores: Vec::new(),
            watch: true,
            signals: None,
            notifier: None,
        })
        .unwrap();
        Self { control, _log: log, shards, admin, folder, builds }
    }

    /// Puts another file in the place of the configuration, as editors do.
    fn replace(&self, text: &str) {
        let draft = self.folder.join("config.toml~");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.folder.join("config.toml")).unwrap();
    }

    /// Status line with headers, and body.
    fn ask(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    }

    fn json(&self, path: &str, status: &str) -> serde_json::Value {
        let (head, body) = self.ask("GET", path);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        serde_json::from_str(&body).unwrap()
    }

    fn metric(&self, line: &str) {
        let (_, page) = self.ask("GET", "/metrics");
        assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
    }

    fn next_build(&self) -> (Cause, String) {
        self.builds.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.folder);
    }
}

fn build(file: PathBuf, first: Built, builds: Sender<(Cause, String)>) -> Arc<Build> {
    let version = AtomicU64::new(first.version);
    Arc::new(move |cause| {
        let text = fs::read_to_string(&file).unwrap();
        _ = builds.send((cause, text.clone()));
        match text.split(' ').next() {
            Some("bad") => Err(Refused { problems: text, inputs: first.inputs.clone(), renewed: None }),
            Some("panic") => panic!("as the test wants it"),
            _ => {
                let version = version.fetch_add(1, Ordering::Relaxed) + 1;
                Ok(Built {
                    version,
                    summary: text,
                    warnings: vec!["shards: restart".to_owned()],
                    ..first.clone()
                })
            }
        }
    })
}

fn finished() -> Finished {
    Finished {
        route: 1,
        service: 0,
        status: 200,
        why: Why::Ok,
        protocol: Protocol::Http11,
        duration_us: 300,
        added_us: 20,
        bytes_in: 0,
        bytes_out: 100,
    }
}

#[test]
fn metrics_are_asked_of_shards_and_add_up() {
    let gateway = Gateway::start();
    let line = |count| {
        format!(r#"coregate_requests_total{{route="GET /a",status="200",why="ok",side="-"}} {count}"#)
    };
    for count in 1..4 {
        gateway.shards.metrics.try_lock().unwrap().request(&finished());
        gateway.metric(&line(count));
        gateway.metric(&line(count));
    }
    gateway.metric(r#"coregate_connections{shard="1"} 11"#);
    gateway.metric("coregate_shards_unresponsive 0");
    gateway.metric("coregate_snapshot_version 1");
    let (head, _) = gateway.ask("GET", "/metrics");
    assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4"), "{head}");
}

#[test]
fn a_silent_shard_holds_nothing_up_and_is_named() {
    let gateway = Gateway::start();
    gateway.shards.silent.store(true, Ordering::Relaxed);
    gateway.metric("coregate_shards_unresponsive 1");
    gateway.metric(r#"coregate_connections{shard="0"} 10"#);
    let answer = gateway.json("/readyz", "503");
    assert_eq!(answer["reasons"], serde_json::json!(["shard 1 does not answer"]));
    assert_eq!(gateway.shards.asked.try_lock().unwrap().len(), 1, "asked once, not at every scrape");
}

#[test]
fn health_needs_no_shard() {
    let gateway = Gateway::start();
    gateway.shards.silent.store(true, Ordering::Relaxed);
    let (head, body) = gateway.ask("GET", "/healthz");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "ok\n");
}

#[test]
fn only_get_and_head_are_answered() {
    let gateway = Gateway::start();
    let (head, body) = gateway.ask("HEAD", "/readyz");
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}{body}");
    let (head, body) = gateway.ask("POST", "/readyz");
    assert!(head.starts_with("http/1.1 405") && head.contains("\r\nallow: get,head"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/problem+json"), "{head}");
    assert!(body.contains(r#""status":405"#), "{body}");
    let answer = gateway.json("/nothing", "404");
    assert_eq!(answer["title"], "Not Found");
    assert_eq!(answer["detail"], "nothing is at /nothing");
}

#[test]
fn readiness_ends_when_draining_begins() {
    let gateway = Gateway::start();
    assert_eq!(gateway.json("/readyz", "200")["snapshot"]["version"], 1);
    gateway.control.drain();
    assert_eq!(gateway.json("/readyz", "503")["reasons"][0], "the gateway is stopping");
    let (_, page) = gateway.ask("GET", "/");
    assert!(page.contains("Stopping"), "{page}");
}

#[test]
fn a_refused_reload_leaves_the_gateway_ready_and_is_shown_until_one_succeeds() {
    let gateway = Gateway::start();
    gateway.replace("bad <key>");
    assert_eq!(gateway.control.reload(), Ok(Err("bad <key>".to_owned())));
    let answer = gateway.json("/readyz", "200");
    assert_eq!(answer["last_reload_error"]["problems"], "bad <key>");
    assert_eq!(answer["snapshot"]["version"], 1);
    gateway.metric(r#"coregate_reloads_total{result="failed"} 1"#);
    gateway.metric("coregate_last_reload_successful 0");
    let (_, page) = gateway.ask("GET", "/");
    assert!(page.contains("<pre>bad &lt;key&gt;</pre>"), "{page}");

    gateway.replace("better");
    assert_eq!(gateway.control.reload(), Ok(Ok("better".to_owned())));
    let answer = gateway.json("/readyz", "200");
    assert_eq!(answer["last_reload_error"], serde_json::Value::Null);
    assert_eq!(answer["snapshot"]["version"], 2);
    gateway.metric("coregate_last_reload_successful 1");
}

#[test]
fn a_file_put_in_the_place_of_the_configuration_is_loaded() {
    let gateway = Gateway::start();
    for text in ["second", "bad third", "fourth"] {
        gateway.replace(text);
        // An older text can come once more when the folder's events straddle a look.
        while gateway.next_build() != (Cause::Files, text.to_owned()) {}
    }
}

#[test]
fn a_panic_while_building_is_a_refused_reload() {
    let gateway = Gateway::start();
    gateway.replace("panic now");
    let problems = gateway.control.reload().unwrap().unwrap_err();
    assert!(problems.contains("panicked"), "{problems}");
    gateway.replace("calm");
    assert_eq!(gateway.control.reload(), Ok(Ok("calm".to_owned())));
}

#[test]
fn a_reload_is_told_in_the_events_log() {
    let mut gateway = Gateway::start();
    gateway.replace("+1 route");
    assert_eq!(gateway.control.reload(), Ok(Ok("+1 route".to_owned())));
    gateway.replace("bad line\nand another");
    assert!(gateway.control.reload().unwrap().is_err());
    gateway.control.end();
    let (other, _) = Writer::start(
        &Settings { access: None, events: Target::Stderr, level: Level::Info },
        0,
        Arc::default(),
    )
    .unwrap();
    drop(std::mem::replace(&mut gateway._log, other));
    let events = fs::read_to_string(gateway.folder.join("events")).unwrap();
    for text in [
        " INFO control: configuration 2 serves: +1 route source=config.toml\n",
        " WARN control: shards: restart\n",
        " ERROR control: reload refused\n  bad line\n  and another; the running configuration is unchanged\n",
    ] {
        assert!(events.contains(text), "no {text} in\n{events}");
    }
}

#[test]
fn a_retired_snapshot_is_dropped_on_the_control_thread_once_nobody_reads_it() {
    struct Snapshot(Sender<Option<String>>);
    impl Drop for Snapshot {
        fn drop(&mut self) {
            _ = self.0.send(thread::current().name().map(str::to_owned));
        }
    }

    let gateway = Gateway::start();
    let (dropped, drops) = channel();
    let snapshot = Arc::new(Snapshot(dropped));
    gateway.control.retire(Arc::clone(&snapshot) as Retired);
    while gateway.shards.nudges.load(Ordering::Relaxed) < 2 {
        thread::yield_now();
    }
    gateway.metric("coregate_snapshots_retired 1");
    assert!(drops.try_recv().is_err());
    drop(snapshot);
    assert_eq!(drops.recv_timeout(Duration::from_secs(10)).unwrap().as_deref(), Some("control"));
    gateway.metric("coregate_snapshots_dropped_total 1");
    gateway.metric("coregate_snapshots_retired 0");
}

#[test]
fn a_gateway_can_be_started_and_stopped_many_times() {
    for _ in 0..30 {
        let gateway = Gateway::start();
        let (head, _) = gateway.ask("GET", "/healthz");
        assert!(head.starts_with("http/1.1 200"), "{head}");
        // Its port is free at once, also with a client still connected.
        let _client = TcpStream::connect(gateway.admin).unwrap();
        let admin = gateway.admin;
        drop(gateway);
        assert!(TcpStream::connect(admin).is_err());
    }
}

#[tokio::test]
async fn the_watchdog_is_fed_while_every_shard_answers() {
    let folder = std::env::temp_dir().join(format!("coregate-watchdog-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("notify");
    let supervisor = tokio::net::UnixDatagram::bind(&path).unwrap();
    let notifier = Arc::new(Notifier::at(path.as_os_str(), None).unwrap());
    let shards = Arc::new(TwoShards::default());
    let collector = Arc::new(Collector::new(Arc::clone(&shards) as Arc<dyn Shards>));
    let feeding = tokio::spawn(feed(notifier, Duration::from_millis(20), Arc::clone(&collector)));
    let mut word = [0; 64];
    for _ in 0..3 {
        let count = supervisor.recv(&mut word).await.unwrap();
        assert_eq!(&word[..count], b"WATCHDOG=1");
    }

    shards.silent.store(true, Ordering::Relaxed);
    // Once nothing more comes, a shard has been waited for; whatever was said before that is still read.
    let quiet = Duration::from_millis(700);
    while tokio::time::timeout(quiet, supervisor.recv(&mut word)).await.is_ok() {}
    assert!(tokio::time::timeout(quiet, supervisor.recv(&mut word)).await.is_err());

    shards.silent.store(false, Ordering::Relaxed);
    shards.asked.lock().await.clear();
    let again = tokio::time::timeout(Duration::from_secs(10), supervisor.recv(&mut word)).await;
    assert_eq!(&word[..again.unwrap().unwrap()], b"WATCHDOG=1");
    feeding.abort();
    fs::remove_dir_all(&folder).unwrap();
}
