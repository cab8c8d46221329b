//! The binary: arguments, signals, exit codes, and what happens when the machine has no more to give.

use std::{
    fs,
    path::Path,
    process::Output,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::harness::{
    Client, Coregate, Directory, Gateway, Load, ReplyError, Upstream, driver, pause, wait_until,
};

const HELLO: &str = "[routes]\n\"/\" = { status = 200, body = \"hello\" }\n";

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// `coregate WORDS FILE` with a file of `toml`: whether it succeeded, and what it said.
fn said(words: &[&str], toml: &str) -> (bool, String) {
    let directory = Directory::new();
    let path = directory.write("config.toml", toml);
    let words: Vec<_> = words.iter().copied().chain(path.to_str()).collect();
    let output = Coregate::output(&words);
    (output.status.success(), text(&output))
}

#[test]
fn check_accepts_a_good_file() {
    let (good, said) = said(&["check"], HELLO.replacen("[routes]", "listen = \":0\"\n[routes]", 1).as_str());
    assert!(good, "{said}");
}

#[test]
fn check_shows_every_mistake_with_its_place() {
    let toml = "listen = \":8080\"\nlisen = 1\n[services]\ns = [\"http://127.0.0.1:1 wieght=3\"]\n[routes]\n\"/a\" = \"t\"\n\"/b\" = { sattus = 200 }\n";
    let (good, said) = said(&["check"], toml);
    assert!(!good, "{said}");
    for part in
        ["lisen", "listen", "wieght", "weight", "sattus", "status", "config.toml", ":2", ":4", ":6", ":7"]
    {
        assert!(said.contains(part), "{part}:\n{said}");
    }
}

#[test]
fn check_of_a_missing_file_names_it() {
    let output = Coregate::output(&["check", "/nonexistent/config.toml"]);
    assert!(
        !output.status.success() && text(&output).contains("/nonexistent/config.toml"),
        "{}",
        text(&output)
    );
}

#[test]
fn the_printed_configuration_is_whole_and_has_no_secrets() {
    let directory = Directory::new();
    let secret = directory.write("secret", "hunter2");
    let toml = format!(
        "listen = \":0\"\n[routes]\n\"/\" = {{ status = 200, headers = {{ \"X-Key\" = \"${{file:{}}}\" }}, body = \"hello\" }}\n",
        secret.display()
    );
    let path = directory.write("config.toml", toml);
    let output = Coregate::output(&["-T", path.to_str().expect("the path is text")]);
    let said = text(&output);
    assert!(output.status.success() && said.contains("hello"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_port_in_use_ends_the_start_and_says_which() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound socket");
    let (good, said) = said(&["run"], &format!("listen = \"{address}\"\nadmin = false\n{HELLO}"));
    assert!(!good && said.contains(&address.to_string()) && said.to_lowercase().contains("in use"), "{said}");
}

#[test]
fn an_unknown_argument_is_an_error() {
    let output = Coregate::output(&["frobnicate"]);
    assert!(!output.status.success() && !output.stderr.is_empty());
}

#[test]
fn hup_in_the_middle_of_load_fails_no_request() {
    const REQUESTS: usize = 100_000;
    let upstream = Upstream::saying("ok");
    let coregate = Coregate::serving(&format!("[routes]\n\"/\" = \"http://{upstream}\"\n"), &[]);
    let (address, asked) = (coregate.address(), AtomicUsize::new(0));
    let (load, hups) = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    // Requests that wait behind each other keep the gateway, and not this test, busy.
                    Load::keeping(address, 16, |count| asked.fetch_add(count, Ordering::SeqCst) < REQUESTS)
                })
            })
            .collect();
        let mut hups = 0;
        while !clients.iter().all(|client| client.is_finished()) {
            coregate.signal(Signal::HUP);
            hups += 1;
            // What the upstream has seen is kept, which is not what is tested.
            upstream.forget();
            pause(Duration::from_millis(50));
        }
        (clients.into_iter().map(|client| client.join().expect("every reply is right")).sum::<Load>(), hups)
    });
    assert!(load.answered >= REQUESTS && load.cut == 0 && hups > 3, "{load:?}, {hups} signals");
}

#[test]
fn usr1_opens_the_access_log_again() {
    let coregate = Coregate::serving(HELLO, &[]);
    let (log, moved) = (coregate.path("access.log"), coregate.path("access.log.1"));
    let get = |path: &str| {
        assert_eq!(
            coregate.client().send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).reply().status,
            200
        );
    };
    let has = |path: &Path, part: &str| fs::read_to_string(path).unwrap_or_default().contains(part);
    get("/before");
    wait_until("a record", || has(&log, "/before"));
    fs::rename(&log, &moved).expect("it may be moved away");
    coregate.signal(Signal::USR1);
    wait_until("a new file", || log.exists());
    get("/after");
    wait_until("a record in the new file", || has(&log, "/after"));
    assert!(!has(&moved, "/after"));
}

/// Many clients at once before a gateway that may open few files: every reply is 200 or says that there is no room,
/// and when the clients are gone it serves again.
#[track_caller]
fn crowded(descriptors: u32, defaults: &str, served_min: usize) {
    let upstream = Upstream::saying("ok");
    let limit = format!("--nofile={descriptors}:{descriptors}");
    let coregate = Coregate::serving(
        &format!("[defaults]\n{defaults}\n[routes]\n\"/\" = \"http://{upstream}\"\n"),
        &["prlimit", &limit, "--"],
    );
    for _ in 0..2 {
        let mut clients: Vec<_> = (0..descriptors * 2).map(|_| coregate.client()).collect();
        let (mut served, mut waiting) = (0, 0);
        for client in &mut clients {
            client.patience(Duration::from_millis(300)).try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            match client.try_reply() {
                Ok(reply) if reply.status == 200 => served += 1,
                Ok(reply) => assert!([502, 503].contains(&reply.status), "{}", reply.status),
                Err(ReplyError::Closed) => {}
                // Still in the kernel's queue of one shard, as is all that came later there.
                Err(ReplyError::TimedOut(_)) if waiting == 8 => break,
                Err(ReplyError::TimedOut(_)) => waiting += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(served >= served_min, "{served} served; {}", coregate.printed());
        clients.clear();
        wait_until("a request to be served again", || {
            let mut client = coregate.client();
            client.patience(Duration::from_secs(1)).try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            client.try_reply().is_ok_and(|reply| reply.status == 200)
        });
    }
}

#[test]
fn clients_beyond_what_the_descriptors_allow_are_refused() {
    crowded(400, "max_connections = \"auto\"", 50);
}

#[test]
fn without_a_descriptor_left_it_goes_on_when_there_is_one() {
    crowded(80, "max_connections = 100000", 1);
}

/// Starts a gateway under a filter that answers io_uring's system calls as Docker's default profile does.
fn without_io_uring(toml: &str) -> Coregate {
    let filter = seccompiler::SeccompFilter::new(
        [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register]
            .map(|call| (call, vec![]))
            .into(),
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        std::env::consts::ARCH.try_into().expect("seccompiler knows this machine"),
    )
    .and_then(seccompiler::BpfProgram::try_from)
    .expect("the filter is right");
    let toml = toml.to_owned();
    // A filter holds for the thread that sets it and for what it starts.
    let start = thread::spawn(move || {
        seccompiler::apply_filter(&filter).expect("a thread may bind itself");
        Coregate::start(&toml, &[])
    });
    start.join().expect("it starts")
}

#[test]
fn where_io_uring_is_blocked_epoll_serves_after_one_warning() {
    let mut coregate = without_io_uring(&format!("driver = \"auto\"\n{HELLO}"));
    coregate.accepts();
    let mut client = coregate.client();
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().text(), "hello");
    wait_until("the warning", || coregate.printed().contains("epoll"));
    let printed = coregate.printed();
    let warnings: Vec<_> = printed.lines().filter(|line| line.contains("io_uring")).collect();
    assert_eq!(warnings.len(), 1, "{printed}");
    assert!(printed.contains("seccomp"), "it names the remedy: {printed}");
}

#[test]
fn where_io_uring_is_blocked_and_demanded_the_start_fails() {
    let mut coregate = without_io_uring(&format!("driver = \"io_uring\"\n{HELLO}"));
    assert!(!coregate.ended().success());
    assert!(coregate.printed().contains("io_uring"), "{}", coregate.printed());
}

#[test]
fn epoll_may_be_chosen() {
    let gateway = Gateway::start(format!("driver = \"epoll\"\n{HELLO}"));
    assert_eq!(gateway.get("/").text(), "hello");
}

/// The demo of the repository, on ports of its own.
#[test]
fn the_demo_answers_the_lines_it_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = fs::read_to_string(root.join("config.toml")).expect("the repository has a config.toml");
    let (good, said) = said(&["check"], &config);
    assert!(good, "{said}");
    let directory = Directory::new();
    // Every loopback or open port of the file, each replaced by one that is free here.
    let mut text = config.clone();
    let mut reserved = Vec::new();
    for port in ports(&config) {
        let (socket, address) = crate::harness::reserve();
        text = text.replace(&format!(":{port}"), &format!(":{}", address.port()));
        reserved.push(socket);
    }
    text =
        text.replacen("\n[", &format!("\ndriver = {:?}\nstate = {:?}\n\n[", driver(), directory.path()), 1);
    // The admin port is shared with nobody, so that it cannot stay reserved until it is bound.
    drop(reserved);
    let mut coregate = Coregate::demo(&text);
    let lines = coregate.wait_for("curl lines", |printed| {
        let lines: Vec<_> = printed
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("curl "))
            .map(str::to_owned)
            .collect();
        (!lines.is_empty()).then_some(lines)
    });
    for line in lines {
        let line = line.split('→').next().unwrap_or_default().trim().to_owned();
        wait_until(&line, || {
            let output =
                std::process::Command::new("sh").args(["-c", &format!("{line} -sS --max-time 5")]).output();
            output.expect("there is a shell").status.success()
        });
    }
}

/// Port numbers after a colon in what is no comment.
fn ports(config: &str) -> Vec<u16> {
    let mut ports: Vec<u16> = config
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(':').skip(1))
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>())
        .filter_map(|digits| digits.parse().ok())
        .filter(|&port| port >= 1024)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[test]
fn clients_on_every_loopback_address_are_served() {
    let gateway = Gateway::start(format!("listen = \"[::1]:0\"\n{HELLO}"));
    let mut client = Client::connect(gateway.address());
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().text(), "hello");
}
