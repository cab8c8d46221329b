//! A new binary takes the sockets, and no client notices.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::harness::{Client, Coregate, Load, Over, PATIENCE, Upstream, pause, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A gateway with this text as its reply.
fn saying(text: &str) -> String {
    format!("[routes]\n\"/\" = {{ status = 200, body = \"{text}\" }}\n")
}

fn get(coregate: &Coregate) -> String {
    let mut client = coregate.client();
    client.send(GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).reply().text().to_owned()
}

/// A program in a file of its own.
fn program(coregate: &Coregate, text: &str) -> std::path::PathBuf {
    let path = coregate.path("program");
    fs::write(&path, text).expect("a folder of our own");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    path
}

#[test]
fn twenty_upgrades_under_load_fail_no_request() {
    const REQUESTS: usize = 100_000;
    const UPGRADES: usize = 20;
    let upstream = Upstream::saying("ok");
    // The number of shards changes with each, so that sockets are opened, shared and dealt out anew.
    let with = |shards: usize| format!("shards = {shards}\n[routes]\n\"/\" = \"http://{upstream}\"\n");
    let coregate = Coregate::replaceable(&with(2));
    let (address, asked, upgraded) = (coregate.address(), AtomicUsize::new(0), AtomicBool::new(false));
    let go_on = |count: usize| {
        // A connection that ends leaves some of its requests for the next one.
        let enough = asked.fetch_add(count, Ordering::SeqCst) >= REQUESTS * 6 / 5;
        !enough || !upgraded.load(Ordering::SeqCst)
    };
    let load = thread::scope(|scope| {
        // However the upgrades end, the clients do, too.
        let _over = Over(&upgraded);
        let keeping = (0..4).map(|_| scope.spawn(|| Load::keeping(address, 16, go_on)));
        let opening = (0..3).map(|_| scope.spawn(|| Load::opening(address, go_on)));
        let clients: Vec<_> = keeping.chain(opening).collect();
        let mut ids = vec![coregate.serving_id()];
        for number in 0..UPGRADES {
            upstream.forget();
            coregate.rewrite(&with([3, 1, 2][number % 3]));
            let (code, said) = coregate.command("upgrade");
            assert_eq!(code, 0, "{said}\n{}", coregate.printed());
            ids.push(coregate.serving_id());
        }
        upgraded.store(true, Ordering::SeqCst);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), UPGRADES + 1, "each is a process of its own");
        clients.into_iter().map(|client| client.join().expect("every reply is right")).sum::<Load>()
    });
    assert!(load.answered >= REQUESTS && load.cut == 0 && load.refused == 0, "{load:?}");
}

#[test]
fn the_old_process_drains_and_the_new_one_has_the_new_configuration() {
    let mut coregate = Coregate::replaceable(&saying("old"));
    let mut kept = coregate.client();
    assert_eq!(kept.send(GET).reply().text(), "old");
    let old = coregate.serving_id();
    coregate.signal(Signal::STOP);
    coregate.rewrite(&saying("new"));
    // Who waits to be accepted when the sockets change hands is accepted by one of the two.
    let mut waiting: Vec<_> = (0..20).map(|_| coregate.client()).collect();
    for client in &mut waiting {
        client.send(GET);
    }
    coregate.signal(Signal::USR2);
    coregate.signal(Signal::CONT);
    wait_until("the new process", || coregate.serving_id() != old && coregate.serving_id() != 0);
    for client in &mut waiting {
        assert_eq!(client.reply().status, 200);
    }
    wait_until("new connections to reach it alone", || (0..20).all(|_| get(&coregate) == "new"));
    let reply = kept.send(GET).reply();
    assert_eq!(reply.header("connection"), Some("close"), "the old process serves its own connections");
    assert!(coregate.ended().success(), "{}", coregate.printed());
    assert_eq!(get(&coregate), "new");
}

#[test]
fn a_binary_that_does_not_start_changes_nothing_and_says_why() {
    let coregate = Coregate::replaceable(&saying("old"));
    let id = coregate.serving_id();
    let check = |why: &[&str]| {
        let (code, said) = coregate.command("upgrade");
        assert_eq!(code, 1, "{said}");
        for part in why.iter().chain(&[&*format!("process {id} goes on serving")]) {
            assert!(said.contains(part), "{part}: {said}");
            wait_until("the same in the log", || coregate.printed().contains(why[0]));
        }
        assert_eq!((coregate.serving_id(), get(&coregate).as_str()), (id, "old"));
    };
    coregate.replace_binary(Path::new("/bin/false"));
    check(&["ended before it listened", "exit status: 1"]);
    coregate.replace_binary(&program(&coregate, "#!/bin/sh\nkill -SEGV $$\n"));
    check(&["ended before it listened", "signal: 11"]);
    fs::remove_file(coregate.path("coregate")).expect("our own file");
    check(&["cannot be started", "No such file"]);

    // And when it is mended, it goes on from there.
    coregate.replace_binary(Coregate::binary());
    let (code, said) = coregate.command("upgrade");
    assert_eq!(code, 0, "{said}");
    assert_ne!(coregate.serving_id(), id);
    assert_eq!(get(&coregate), "old");
}

#[test]
fn a_configuration_with_mistakes_stops_the_upgrade_and_not_the_gateway() {
    let coregate = Coregate::replaceable(&saying("old"));
    let id = coregate.serving_id();
    coregate.rewrite("[routes]\n\"/\" = \"nowhere\"\n");
    let (code, said) = coregate.command("upgrade");
    assert!(code == 1 && said.contains("does not start") && said.contains("nowhere"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound socket");
    coregate.rewrite(&format!("listen = [\"127.0.0.1:0\", \"{address}\"]\n{}", saying("new")));
    let (code, said) = coregate.command("upgrade");
    assert!(code == 1 && said.contains("in use") && said.contains(&address.to_string()), "{said}");
    assert_eq!((coregate.serving_id(), get(&coregate).as_str()), (id, "old"));
}

#[test]
fn a_second_upgrade_waits_for_the_first_and_comes_after_it() {
    let coregate = Coregate::replaceable(&saying("old"));
    let id = coregate.serving_id();
    let real = Coregate::binary().display().to_string();
    let gate = coregate.path("gate");
    // A new process that takes its time.
    let slow = format!(
        "#!/bin/sh\ntouch {0}.begun\nwhile ! [ -e {0} ]; do sleep 0.02; done\nexec {real} \"$@\"\n",
        gate.display()
    );
    coregate.replace_binary(&program(&coregate, &slow));
    thread::scope(|scope| {
        let first = scope.spawn(|| coregate.command("upgrade"));
        wait_until("the first to begin", || coregate.path("gate.begun").exists());
        let (code, said) = coregate.command("upgrade");
        assert!(code == 1 && said.contains("under way"), "{said}");
        assert_eq!((coregate.serving_id(), get(&coregate).as_str()), (id, "old"));
        fs::write(&gate, "").expect("a folder of our own");
        let (code, said) = first.join().expect("it does not panic");
        assert_eq!(code, 0, "{said}");
    });
    let second = coregate.serving_id();
    assert_ne!(second, id);
    // While the first process still drains.
    let (code, said) = coregate.command("upgrade");
    assert_eq!(code, 0, "{said}");
    assert!(![id, second].contains(&coregate.serving_id()));
    assert_eq!(get(&coregate), "old");
}

#[test]
fn term_during_an_upgrade_ends_both() {
    let mut coregate = Coregate::replaceable(&saying("old"));
    let address = coregate.address();
    let slow = format!("#!/bin/sh\ntouch {}\nexec sleep 600\n", coregate.path("begun").display());
    coregate.replace_binary(&program(&coregate, &slow));
    coregate.signal(Signal::USR2);
    wait_until("it to begin", || coregate.path("begun").exists());
    coregate.signal(Signal::TERM);
    assert!(coregate.ended().success(), "{}", coregate.printed());
    wait_until("nobody to listen", || std::net::TcpStream::connect(address).is_err());
}

#[test]
fn listeners_come_and_go_with_an_upgrade() {
    let directory = crate::harness::Directory::new();
    let path = directory.path().join("gateway.sock");
    let unix = format!("\"unix:{}\"", path.display());
    let mut coregate = Coregate::replaceable(&format!(
        "listen = [\"127.0.0.1:0\", {unix}, \"127.0.0.3:0\"]\n{}",
        saying("old")
    ));
    let gone = coregate.wait_for("the third listener", |printed| {
        let line = printed.lines().find(|line| line.contains("listening on 127.0.0.3:"))?;
        line.trim().trim_start_matches("listening on ").parse().ok()
    });
    let mut waiting = Client::connect(gone);
    // The order changes, one goes, one comes.
    coregate.rewrite(&format!("listen = [{unix}, \"127.0.0.2:0\", \"127.0.0.1:0\"]\n{}", saying("new")));
    let (code, said) = coregate.command("upgrade");
    assert_eq!(code, 0, "{said}");
    // By the old process, which may have seen the new text as well.
    assert_eq!(waiting.send(GET).reply().status, 200, "who was there is served to the end");
    assert!(coregate.ended().success(), "{}", coregate.printed());
    assert_eq!(get(&coregate), "new");
    assert!(std::net::TcpStream::connect(gone).is_err(), "nobody listens there any more");
    let mut stream = UnixStream::connect(&path).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it reads");
    let text = std::io::read_to_string(stream).expect("it answers and closes");
    assert!(text.ends_with("new"), "{text}");
}

#[test]
fn the_admin_port_goes_over_too() {
    let mut coregate = Coregate::replaceable(&format!("admin = \"127.0.0.1:0\"\n{}", saying("ok")));
    let admin = coregate.wait_for("the admin port", |printed| {
        printed.split_once("http://")?.1.split_once('/')?.0.parse().ok()
    });
    let ready = |client: &mut Client| {
        client.send("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").try_reply().map(|reply| reply.status)
    };
    let mut kept = Client::connect(admin);
    assert_eq!(ready(&mut kept).ok(), Some(200));
    // Something keeps the old process alive.
    let mut busy = coregate.client();
    busy.send("GET / HTTP/1.1\r\n");
    pause(Duration::from_millis(20));
    let (code, said) = coregate.command("upgrade");
    assert_eq!(code, 0, "{said}");
    for _ in 0..20 {
        assert_eq!(ready(&mut Client::connect(admin)).ok(), Some(200), "the new process answers");
    }
    assert!(ready(&mut kept).is_err(), "the old one answers no more");
}

#[test]
fn reload_says_what_changed_or_why_not() {
    let coregate = Coregate::replaceable(&saying("one"));
    assert_eq!(coregate.command("reload"), (0, "nothing changed\n".to_owned()));
    let absent = |words: &str| {
        let output = Coregate::output(&["reload", "--state", words]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = absent("/nonexistent");
    assert!(code == Some(2) && said.contains("/nonexistent/control.sock"), "{said}");

    // Changes are followed as well: who is first says what changed.
    let text = saying("two") + "\"/more\" = { status = 204 }\n";
    coregate.rewrite(&text);
    let (code, said) = coregate.command("reload");
    assert!(code == 0 && (said.contains("1 added") || said.contains("nothing changed")), "{said}");
    assert_eq!(get(&coregate), "two");

    coregate.rewrite("[routes]\n\"/\" = \"nowhere\"\n");
    let (code, said) = coregate.command("reload");
    assert!(code == 1 && said.contains("nowhere") && said.contains("config.toml"), "{said}");
    assert_eq!(get(&coregate), "two");
}

#[test]
fn a_gateway_is_found_by_its_configuration_and_leaves_nothing_behind() {
    let mut coregate = Coregate::replaceable(&saying("one"));
    let config = coregate.path("config.toml");
    let words = ["reload", config.to_str().expect("the path is text")];
    let output = Coregate::output(&words);
    assert!(output.status.success(), "{output:?}");
    // A mistake elsewhere in the file does not hide where it is.
    let text = fs::read_to_string(&config).expect("it is there");
    fs::write(&config, format!("{text}\n[services]\nx = \"${{NOT_SET_ANYWHERE}}\"\n")).expect("our own file");
    let output = Coregate::output(&words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("NOT_SET_ANYWHERE"), "{said}");
    coregate.signal(Signal::TERM);
    assert!(coregate.ended().success());
    assert!(!coregate.path("coregate.pid").exists() && !coregate.path("control.sock").exists());
}
