//! Started by root, and told to be somebody else.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Stdio,
};

use crate::harness::{Coregate, wait_until};

const HELLO: &str = "[routes]\n\"/\" = { status = 200, body = \"hello\" }\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The number behind a name in /etc/passwd or /etc/group.
fn number(file: &str, name: &str) -> u32 {
    let text = fs::read_to_string(file).expect("every system has it");
    let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).expect("every Debian has it");
    line.split(':').nth(2).and_then(|number| number.parse().ok()).expect("a number")
}

/// What every thread of a process is: user and group ids, each four times, and further groups.
fn identities(process: u32) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let line = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        found.push([line("Uid:"), line("Gid:"), line("Groups:"), line("CapEff:")].join(" "));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// An address of this machine and a port that only root may open, of this process's own.
fn privileged() -> String {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    format!("{}:1", Ipv4Addr::new(127, a | 1, b, c | 1))
}

#[test]
fn root_becomes_the_user_that_is_written_once_the_ports_are_open() {
    if !is_root() {
        let mut coregate = Coregate::serving(&format!("user = \"nobody\"\n{HELLO}"), &[]);
        coregate.wait_for("the warning", |printed| printed.contains("has no effect").then_some(()));
        return;
    }
    let (uid, gid) = (number("/etc/passwd", "nobody"), number("/etc/group", "daemon"));
    let address = privileged();
    let toml = format!("user = \"nobody:daemon\"\nlisten = \"{address}\"\n{HELLO}");
    let mut coregate = Coregate::replaceable(&toml);
    let expected = format!(
        "Uid: {uid} {uid} {uid} {uid} Gid: {gid} {gid} {gid} {gid} Groups: {gid} CapEff: 0000000000000000"
    );
    assert_eq!(identities(coregate.id()).expect("it runs"), [&*expected]);
    assert_eq!(coregate.client().send(GET).reply().text(), "hello");
    for name in ["access.log", "events.log", "coregate.pid", "control.sock", "."] {
        let owner = fs::metadata(coregate.path(name)).map(|metadata| (metadata.uid(), metadata.gid()));
        assert_eq!(owner.ok(), Some((uid, gid)), "{name}");
    }
    wait_until("a record", || fs::metadata(coregate.path("access.log")).is_ok_and(|log| log.len() > 0));
    assert!(!coregate.printed().contains("runs as root"));

    // It reloads, and a new process has the port although it could not open it.
    assert_eq!(coregate.command("reload").0, 0);
    coregate.rewrite(&toml.replace("listen =", "shards = 3\nlisten ="));
    let (code, said) = coregate.command("upgrade");
    assert_eq!(code, 0, "{said}\n{}", coregate.printed());
    assert_eq!(identities(coregate.serving_id()).expect("it runs"), [&*expected]);
    assert!((0..20).all(|_| coregate.client().send(GET).reply().text() == "hello"));
    assert!(coregate.ended().success(), "{}", coregate.printed());
}

#[test]
fn what_is_not_the_gateways_is_not_given_away() {
    if !is_root() {
        return;
    }
    let directory = crate::harness::Directory::new();
    let secret = directory.write("secret", "root's own");
    let state = directory.path().join("state");
    fs::create_dir(&state).expect("a folder of our own");
    std::os::unix::fs::symlink(&secret, state.join("link")).expect("a folder of our own");
    fs::hard_link(&secret, state.join("second-name")).expect("the same file system");
    fs::write(state.join("plain"), "").expect("a folder of our own");
    let log = directory.path().join("access.log");
    std::os::unix::fs::symlink(&secret, &log).expect("a folder of our own");
    let toml = format!(
        "user = \"nobody\"\nstate = {state:?}\nlog = {{ access = {{ to = {log:?} }}, events = {{ to = \"stderr\" }} }}\n{HELLO}"
    );
    let mut coregate = Coregate::begin(&toml, &[], Stdio::null());
    assert_eq!(coregate.ended().code(), Some(2), "a log that is somebody else's cannot be written");
    assert!(coregate.printed().contains("access.log"), "{}", coregate.printed());
    let nobody = number("/etc/passwd", "nobody");
    let owner = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid()).ok();
    assert_eq!((owner(&secret), owner(&state.join("plain"))), (Some(0), Some(nobody)));
}

#[test]
fn a_user_that_is_not_there_ends_the_start_and_says_how_to_make_it() {
    if !is_root() {
        return;
    }
    let ends = |user: &str, parts: &[&str]| {
        let mut coregate = Coregate::start(&format!("user = \"{user}\"\n{HELLO}"), &[]);
        assert_eq!(coregate.ended().code(), Some(2));
        let printed = coregate.printed();
        assert!(parts.iter().all(|part| printed.contains(part)), "{printed}");
    };
    ends("nobody-of-that-name", &["no user", "useradd"]);
    ends("nobody:no-group-of-that-name", &["no group", "groupadd"]);
    ends("root", &["is root"]);
}

#[test]
fn root_without_a_user_is_warned_and_a_file_it_will_not_read_again_is_named() {
    if !is_root() {
        return;
    }
    let mut coregate = Coregate::serving(HELLO, &[]);
    coregate.wait_for("the warning", |printed| printed.contains("runs as root").then_some(()));

    let directory = crate::harness::Directory::new();
    let secret = directory.write("secret", "hidden");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("our own file");
    let toml = format!(
        "user = \"nobody\"\n[routes]\n\"/\" = {{ status = 200, body = \"${{file:{}}}\" }}\n",
        secret.display()
    );
    let mut coregate = Coregate::serving(&toml, &[]);
    let name = secret.display().to_string();
    coregate.wait_for("the warning", |printed| {
        printed.lines().any(|line| line.contains(&name) && line.contains("cannot be read")).then_some(())
    });
}
