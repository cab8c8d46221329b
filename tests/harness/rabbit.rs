//! A RabbitMQ of Debian's, and workers on it.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    directory::Directory,
    program::free_ports,
    wait::{PATIENCE, now, pause},
};

/// A broker takes many seconds to start; nothing waits it out.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// A broker in a folder of its own. It ends with the value, or with this process.
pub struct Rabbit {
    /// A shell that ends its whole group when its standard input does.
    child: Child,
    directory: Directory,
    port: u16,
    ports: [u16; 2],
}

impl Rabbit {
    /// The broker that tests share, started by the first that asks.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Rabbit> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    #[track_caller]
    pub fn start() -> Self {
        let script = "/usr/lib/rabbitmq/bin/rabbitmq-server";
        assert!(fs::metadata(script).is_ok(), "RabbitMQ is missing: apt-get install -y rabbitmq-server");
        let directory = Directory::new();
        let [port, distribution, names] = free_ports();
        let ports = [distribution, names];
        let child = Self::run(&directory, port, ports);
        let mut rabbit = Self { child, directory, port, ports };
        rabbit.wait();
        rabbit
    }

    fn run(directory: &Directory, port: u16, [distribution, names]: [u16; 2]) -> Child {
        let path = directory.path();
        directory.write(
            "rabbitmq.conf",
            format!(
                "listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.console.level = warning\nlog.file = false\n"
            ),
        );
        directory.write("enabled", "[].");
        let log = fs::File::create(path.join("rabbit.log")).expect("a new folder");
        // Erlang's port mapper would stay as a daemon if the broker started it.
        let script = format!(
            "epmd -address 127.0.0.1 -port {names} & \
             /usr/lib/rabbitmq/bin/rabbitmq-server & cat >/dev/null; kill -KILL 0"
        );
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &script])
            .process_group(0)
            .env("HOME", path)
            .env("ERL_EPMD_PORT", names.to_string())
            .env("RABBITMQ_NODENAME", format!("coregate{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", path.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", path)
            .env("RABBITMQ_CONFIG_FILE", path.join("rabbitmq.conf"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", path)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path.join("enabled"))
            .env("RABBITMQ_PID_FILE", path.join("pid"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("an open file"))
            .stderr(log);
        command.spawn().expect("every Debian has a shell")
    }

    #[track_caller]
    fn wait(&mut self) {
        let end = now() + START_PATIENCE;
        while self.connect_once().is_err() {
            let log = || fs::read_to_string(self.directory.path().join("rabbit.log")).unwrap_or_default();
            assert!(now() < end, "RabbitMQ did not start: {}", log());
            pause(Duration::from_millis(50));
        }
    }

    /// A whole handshake: the port is open before anybody is let in.
    fn connect_once(&self) -> Result<(), String> {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).map_err(|error| error.to_string())?;
        let runtime = runtime();
        let connected = runtime.block_on(Connection::connect(&self.url(), ConnectionProperties::default()));
        connected.map(drop).map_err(|error| error.to_string())
    }

    /// `amqp://127.0.0.1:PORT`, without a path.
    pub fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }

    /// Starts it again on the same port, with what it had on disk.
    #[track_caller]
    pub fn restart(&mut self) {
        self.child = Self::run(&self.directory, self.port, self.ports);
        self.wait();
    }

    /// A worker that answers each message of `queue`, which it makes, with what `work` says.
    #[track_caller]
    pub fn worker(&self, queue: &str, work: impl Fn(&Delivery) -> Vec<Answer> + Send + 'static) -> Worker {
        let (url, name) = (self.url(), queue.to_owned());
        let (ready, started) = mpsc::sync_channel(1);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (saw, seen) = mpsc::channel();
        let thread = thread::spawn(move || {
            runtime().block_on(async move {
                let connection = Connection::connect(&url, ConnectionProperties::default())
                    .await
                    .expect("the broker runs");
                let channel = connection.create_channel().await.expect("a channel");
                let options = QueueDeclareOptions { auto_delete: false, ..QueueDeclareOptions::default() };
                channel
                    .queue_declare(name.as_str().into(), options, FieldTable::default())
                    .await
                    .expect("a queue");
                let mut messages = channel
                    .basic_consume(
                        name.as_str().into(),
                        "".into(),
                        BasicConsumeOptions::default(),
                        FieldTable::default(),
                    )
                    .await
                    .expect("a consumer");
                ready.send(()).expect("the test waits");
                let mut stopped = stopped;
                loop {
                    let delivery = tokio::select! {
                        delivery = messages.next() => delivery,
                        _ = &mut stopped => break,
                    };
                    let Some(Ok(delivery)) = delivery else { break };
                    let answers = work(&delivery);
                    let _ = saw.send(Seen::of(&delivery));
                    for answer in answers {
                        reply(&channel, &delivery, answer).await;
                    }
                    let _ = delivery.ack(BasicAckOptions::default()).await;
                }
            });
        });
        started.recv_timeout(START_PATIENCE).expect("the worker starts");
        Worker { stop: Some(stop), thread: Some(thread), seen }
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn reply(channel: &Channel, delivery: &Delivery, answer: Answer) {
    let Some(reply_to) = delivery.properties.reply_to() else { return };
    let mut headers = FieldTable::default();
    for (name, value) in answer.headers {
        headers.insert(name.as_str().into(), value);
    }
    let mut properties = BasicProperties::default().with_headers(headers);
    if let Some(id) = delivery.properties.correlation_id() {
        properties = properties.with_correlation_id(id.clone());
    }
    if let Some(content_type) = answer.content_type {
        properties = properties.with_content_type(content_type.as_str().into());
    }
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), reply_to.clone(), options, &answer.body, properties).await;
    let _ = sent;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What a worker says.
#[derive(Default)]
pub struct Answer {
    pub body: Vec<u8>,
    pub content_type: Option<String>,
    pub headers: Vec<(String, AMQPValue)>,
}

impl Answer {
    pub fn json(body: impl Into<Vec<u8>>) -> Vec<Self> {
        vec![Self {
            body: body.into(),
            content_type: Some("application/json".to_owned()),
            headers: Vec::new(),
        }]
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: AMQPValue) -> Self {
        self.headers.push((name.to_owned(), value));
        self
    }
}

/// A message a worker got.
#[derive(Clone, Debug)]
pub struct Seen {
    pub body: Vec<u8>,
    pub content_type: Option<String>,
    pub expiration: Option<String>,
    pub message_id: Option<String>,
    pub persistent: bool,
    pub headers: Vec<(String, String)>,
}

impl Seen {
    fn of(delivery: &Delivery) -> Self {
        let properties = &delivery.properties;
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        let headers = properties.headers().iter().flat_map(FieldTable::inner).map(|(name, value)| {
            let value = if let AMQPValue::LongString(text) = value {
                String::from_utf8_lossy(text.as_bytes()).into_owned()
            } else {
                format!("{value:?}")
            };
            (name.to_string(), value)
        });
        Self {
            body: delivery.data.clone(),
            content_type: text(properties.content_type()),
            expiration: text(properties.expiration()),
            message_id: text(properties.message_id()),
            persistent: *properties.delivery_mode() == Some(2),
            headers: headers.collect(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }
}

/// A running worker. It ends with the value.
pub struct Worker {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    seen: mpsc::Receiver<Seen>,
}

impl Worker {
    /// The next message it got.
    #[track_caller]
    pub fn seen(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("the worker gets a message")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Time a call took.
pub fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let start: Instant = now();
    (call(), start.elapsed())
}
