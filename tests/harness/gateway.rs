//! The gateway under test, in this process.

use std::{env, fs, net::SocketAddr, path::PathBuf};

use coregate::{Options, Source};

use super::{client::Client, directory::Directory, message::Reply, wait::wait_until};

/// What the gateway of every test runs on: `COREGATE_TEST_DRIVER`, else whatever `auto` finds.
pub fn driver() -> String {
    env::var("COREGATE_TEST_DRIVER").unwrap_or_else(|_| "auto".into())
}

/// A running gateway. It ends, with its threads and connections, when dropped.
pub struct Gateway {
    gateway: coregate::Gateway,
    directory: Directory,
}

impl Gateway {
    /// Starts with `toml`, to which everything is added that a test does not care about.
    #[track_caller]
    pub fn start(toml: impl AsRef<str>) -> Self {
        Self::try_start(toml).unwrap_or_else(|error| panic!("the gateway does not start:\n{error}"))
    }

    pub fn try_start(toml: impl AsRef<str>) -> Result<Self, String> {
        Self::begin(toml.as_ref(), false)
    }

    /// One that follows its configuration file.
    #[track_caller]
    pub fn watching(toml: impl AsRef<str>) -> Self {
        Self::begin(toml.as_ref(), true)
            .unwrap_or_else(|error| panic!("the gateway does not start:\n{error}"))
    }

    fn begin(toml: &str, watch: bool) -> Result<Self, String> {
        let directory = Directory::new();
        let path = directory.write("config.toml", complete(toml, &directory));
        let options = Options { watch, ..Options::new(Source::File(path)) };
        let gateway = coregate::Gateway::start(options).map_err(|error| error.to_string())?;
        Ok(Self { gateway, directory })
    }

    /// Where the first listener is bound.
    pub fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    /// Where the listeners on TCP are bound, in the order in which they are written.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.gateway.addresses().iter().filter_map(|(_, address)| *address).collect()
    }

    pub fn admin(&self) -> SocketAddr {
        self.gateway.admin().expect("the harness asks for the admin port")
    }

    /// Replaces the configuration file and reloads it. The error is the text for people.
    pub fn reload(&self, toml: impl AsRef<str>) -> Result<String, String> {
        self.rewrite(toml);
        self.gateway.reload()
    }

    /// Replaces the configuration file and tells nobody.
    pub fn rewrite(&self, toml: impl AsRef<str>) {
        self.directory.write("config.toml", complete(toml.as_ref(), &self.directory));
    }

    /// A new connection.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// The reply to a GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    /// The reply to one raw request on a connection of its own.
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Reply {
        let mut client = self.client();
        client.try_send(bytes);
        client.reply()
    }

    /// The reply of the admin port.
    #[track_caller]
    pub fn admin_get(&self, path: &str) -> Reply {
        let mut client = Client::connect(self.admin());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).reply()
    }

    /// The sum of all samples at `/metrics` whose name and labels start with, and contain, what `sample` says:
    /// `name` alone, or `name{label="value",…}` with any of its labels in any order. 0 when there are none.
    #[track_caller]
    pub fn counter(&self, sample: &str) -> u64 {
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let labels: Vec<_> =
            labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
        let metrics = self.admin_get("/metrics");
        metrics
            .text()
            .lines()
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
                (series_name == name && labels.iter().all(|label| series_labels.contains(label)))
                    .then(|| value.parse::<u64>().unwrap_or_else(|_| panic!("not a whole number: {line}")))
            })
            .sum()
    }

    /// The access log so far. It is JSON unless the configuration says otherwise.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        // A last line without its end is still being written.
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }

    /// The event log so far.
    pub fn events(&self) -> String {
        fs::read_to_string(self.directory.path().join("events.log")).unwrap_or_default()
    }

    pub fn log_path(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    /// The first line of the access log that has `part` in it, as soon as it is written.
    #[track_caller]
    pub fn log_line(&self, part: &str) -> String {
        let mut found = None;
        wait_until(&format!("a log line with {part:?}"), || {
            found = self.log().into_iter().find(|line| line.contains(part));
            found.is_some()
        });
        found.expect("waited for it")
    }
}

/// `toml` after the keys every test needs and does not name.
pub fn complete(toml: &str, directory: &Directory) -> String {
    let top = toml.split("\n[").next().unwrap_or_default();
    let top = if toml.trim_start().starts_with('[') { "" } else { top };
    let names = |key: &str| {
        top.lines().any(|line| {
            line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        })
    };
    let path = directory.path().display();
    let mut text = String::new();
    for (key, value) in [
        ("listen", r#""127.0.0.1:0""#.to_owned()),
        ("admin", r#""127.0.0.1:0""#.to_owned()),
        ("shards", "2".to_owned()),
        ("driver", format!("{:?}", driver())),
        ("state", format!(r#""{path}""#)),
    ] {
        if !names(key) {
            text += &format!("{key} = {value}\n");
        }
    }
    if !toml.contains("[log]") && !names("log") {
        text += &format!(
            "log = {{ access = {{ to = \"{path}/access.log\", format = \"json\" }}, events = {{ to = \"{path}/events.log\", level = \"debug\" }} }}\n"
        );
    }
    text + toml
}

#[test]
fn keys_that_the_test_names_are_not_added() {
    let directory = Directory::new();
    let text = complete("shards = 1\n[routes]\n\"/\" = \"x\"\nlisten = 3", &directory);
    assert_eq!(text.matches("shards =").count(), 1, "{text}");
    assert!(text.starts_with("listen = \"127.0.0.1:0\""), "{text}");
}
