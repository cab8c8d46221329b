//! TLS with clients: certificates, names, versions, resumption, what is refused.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ProtocolVersion,
    pki_types::{CertificateDer, pem::PemObject},
    version::{TLS12, TLS13},
};

use crate::harness::{
    Authority, Client, Gateway, PATIENCE, TlsClient, Upstream, now, ok, pause, program, wait_until,
};

const LISTEN: &str = "listen = \"https://127.0.0.1:0\"\n";

/// A gateway with `tls` in `[tls]`.
fn gateway(tls: &str, routes: &str) -> Gateway {
    Gateway::start(format!("{LISTEN}tls = {{ {tls} }}\n[routes]\n{routes}\n"))
}

const HELLO: &str = "\"/\" = { status = 200, body = \"hello\" }";

#[track_caller]
fn connect(gateway: &Gateway, name: &str, config: &Arc<ClientConfig>) -> TlsClient {
    TlsClient::connect(gateway.address(), name, config).unwrap_or_else(|why| panic!("no TLS: {why}"))
}

#[test]
fn both_versions_are_spoken_and_http_11_is_agreed_on() {
    let authority = Authority::new("test");
    let gateway = gateway(&authority.site("site", &["a.example"]), HELLO);
    for (version, expected) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        let mut config = authority.trust_by(version);
        config.alpn_protocols = vec![b"h3".to_vec(), b"http/1.1".to_vec()];
        let mut client = connect(&gateway, "a.example", &Arc::new(config));
        assert_eq!((client.version(), client.alpn()), (expected, Some(&b"http/1.1"[..])));
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "hello");
        }
    }
}

#[test]
fn a_version_below_min_is_refused() {
    let authority = Authority::new("test");
    let gateway = gateway(&format!("{}, min = \"1.3\"", authority.site("site", &["a.example"])), HELLO);
    let old = Arc::new(authority.trust_by(&TLS12));
    let refused = TlsClient::connect(gateway.address(), "a.example", &old).err().expect("1.2 is too old");
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    connect(&gateway, "a.example", &Arc::new(authority.trust()));
}

#[test]
fn bodies_of_any_size_go_through_both_ways() {
    let authority = Authority::new("test");
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            peer.send(ok(str::from_utf8(&request.body).expect("the test sends text")));
        }
    });
    let site = authority.site("site", &["a.example"]);
    let gateway = gateway(&site, &format!("\"/\" = {{ to = \"http://{upstream}\", max_body = \"16MiB\" }}"));
    for version in [&TLS13, &TLS12] {
        let mut client = connect(&gateway, "a.example", &Arc::new(authority.trust_by(version)));
        for size in [0, 1, 1000, 16_384, 16_385, 70_000, 300_000, 3_000_000] {
            let body: String =
                (0..size).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect();
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
            let reply = client.send(head).send(&body).reply();
            assert!(reply.status == 200 && reply.text() == body, "{size} bytes");
        }
    }
}

#[test]
fn pipelined_requests_in_one_record_are_all_answered() {
    let authority = Authority::new("test");
    let gateway = gateway(&authority.site("site", &["a.example"]), HELLO);
    let mut client = connect(&gateway, "a.example", &Arc::new(authority.trust()));
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20));
    for _ in 0..20 {
        assert_eq!(client.reply().text(), "hello");
    }
}

#[test]
fn a_request_that_comes_byte_by_byte_is_understood() {
    let authority = Authority::new("test");
    let gateway = gateway(&authority.site("site", &["a.example"]), HELLO);
    let mut client = connect(&gateway, "a.example", &Arc::new(authority.trust()));
    for byte in b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.reply().text(), "hello");
}

#[test]
fn a_client_that_joins_small_writes_does_not_wait() {
    let authority = Authority::new("test");
    let gateway = gateway(&authority.site("site", &["a.example"]), HELLO);
    let config = Arc::new(authority.trust());
    let start = now();
    for _ in 0..50 {
        let socket = TcpStream::connect(gateway.address()).expect("it listens");
        let mut client = TlsClient::over(socket, "a.example", &config).expect("TLS");
        assert_eq!(client.get("/").text(), "hello");
    }
    // With a delayed acknowledgement (40 ms) in each of them it takes two seconds.
    assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
}

#[test]
fn the_service_hears_that_the_client_came_by_https() {
    let authority = Authority::new("test");
    let upstream = Upstream::saying("ok");
    let gateway = gateway(&authority.site("site", &["a.example"]), &format!("\"/\" = \"http://{upstream}\""));
    let mut client = connect(&gateway, "a.example", &Arc::new(authority.trust()));
    client.send("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: http\r\nX-Client-Cert-Verified: SUCCESS\r\nx_client-cert_subject: root\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    let request = &upstream.requests()[0];
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert!(
        !request
            .headers
            .iter()
            .any(|(name, _)| name.to_lowercase().replace('_', "-").starts_with("x-client-cert"))
    );
}

#[test]
fn the_name_chooses_the_certificate() {
    let authority = Authority::new("test");
    let (a, b) = (authority.site("a", &["a.example"]), authority.site("b", &["b.example", "*.b.example"]));
    let also = format!("{a}, also = [{{ {b} }}]");
    let config = Arc::new(authority.trust());
    let by_default = gateway(&also, HELLO);
    for name in ["a.example", "b.example", "x.b.example"] {
        assert_eq!(connect(&by_default, name, &config).get("/").text(), "hello");
    }
    let wrong = TlsClient::connect(by_default.address(), "c.example", &config).err();
    assert!(wrong.is_some_and(|why| why.contains("not valid for name")), "the first is shown");

    let strict = gateway(&format!("{also}, unknown = \"reject\""), HELLO);
    assert_eq!(connect(&strict, "x.b.example", &config).get("/").text(), "hello");
    for unknown in ["c.example", "127.0.0.1"] {
        let refused =
            TlsClient::connect(strict.address(), unknown, &config).err().expect("nobody has that name");
        assert!(refused.contains("alert"), "{refused}");
    }
}

#[test]
fn plain_http_on_the_tls_port_gets_a_readable_400() {
    let authority = Authority::new("test");
    let gateway = gateway(&authority.site("site", &["a.example"]), HELLO);
    let mut client = Client::connect(gateway.address());
    let reply = client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply();
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("HTTPS"), "{}", reply.text());
    client.expect_closed();
}

#[test]
fn what_is_no_tls_is_closed_in_order() {
    let authority = Authority::new("test");
    let gateway = gateway(&authority.site("site", &["a.example"]), HELLO);
    let oversized = [&[22, 3, 1, 0xff, 0xff][..], &[0; 20_000]].concat();
    for bytes in [&b"\0\0\0\0\0\0\0\0\0\0"[..], b"\x16\x03\x01\x00\x05hello", &oversized] {
        let mut stream = TcpStream::connect(gateway.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(bytes).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it closes in order");
        assert!(matches!(answer.first(), None | Some(21)), "an alert if anything: {answer:?}");
    }
    assert_eq!(gateway.counter("coregate_tls_handshakes_failed_total"), 3);
}

#[test]
fn a_ticket_resumes_at_any_shard_and_only_under_its_name() {
    let authority = Authority::new("test");
    for version in [&TLS13, &TLS12] {
        let gateway = gateway(&authority.site("site", &["a.example", "b.example"]), HELLO);
        let config = Arc::new(authority.trust_by(version));
        assert!(!connect(&gateway, "a.example", &config).is_resumed());
        let mut resumed = 0;
        for _ in 0..20 {
            let mut client = connect(&gateway, "a.example", &config);
            resumed += u64::from(client.is_resumed());
            assert_eq!(client.get("/").text(), "hello");
        }
        assert!(resumed >= 19, "{resumed} of 20: the first client may not have got its ticket");
        assert!(!connect(&gateway, "b.example", &config).is_resumed());
        wait_until("the last handshake to be counted", || {
            gateway.counter("coregate_tls_resumed_total") == resumed
        });
    }
}

#[test]
fn a_client_certificate_is_passed_on() {
    let (authority, clients) = (Authority::new("test"), Authority::new("clients"));
    let ca = clients.file("ca.pem", &clients.pem());
    let upstream = Upstream::saying("ok");
    let tls = format!(
        "{}, clients = {{ ca = \"{}\", require = false }}",
        authority.site("site", &["a.example"]),
        ca.display()
    );
    let gateway = gateway(&tls, &format!("\"/\" = \"http://{upstream}\""));
    let config = Arc::new(authority.trust_as(&clients, "alice.example", 2100));
    // The second resumes.
    for round in 0..2 {
        let mut client = connect(&gateway, "a.example", &config);
        client.send("GET / HTTP/1.1\r\nHost: x\r\nX-Client-Cert-Subject: CN=root\r\n\r\n");
        assert_eq!(client.reply().status, 200);
        assert_eq!(client.is_resumed(), round == 1);
        let request = upstream.requests().pop().expect("it was asked");
        assert_eq!(request.header("x-client-cert-verified"), Some("SUCCESS"));
        assert_eq!(request.header("x-client-cert-subject"), Some("CN=alice.example"));
        assert_eq!(request.header("x-client-cert-fingerprint").map(str::len), Some(64));
    }
    let mut nobody = connect(&gateway, "a.example", &Arc::new(authority.trust()));
    assert_eq!(nobody.get("/").status, 200);
    assert_eq!(upstream.requests().pop().expect("it was asked").header("x-client-cert-verified"), None);
}

#[test]
fn a_client_without_a_good_certificate_is_turned_away() {
    let (authority, clients, others) =
        (Authority::new("test"), Authority::new("clients"), Authority::new("others"));
    let ca = clients.file("ca.pem", &clients.pem());
    let tls =
        format!("{}, clients = {{ ca = \"{}\" }}", authority.site("site", &["a.example"]), ca.display());
    let gateway = gateway(&tls, HELLO);
    // In TLS 1.3 a client has completed its handshake before its certificate is judged.
    let outcome = |config: ClientConfig| {
        let mut client = TlsClient::connect(gateway.address(), "a.example", &Arc::new(config))?;
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").try_reply().map(|reply| reply.status)
    };
    assert_eq!(outcome(authority.trust_as(&clients, "alice", 2100)), Ok(200));
    for (config, alert) in [
        (authority.trust(), "CertificateRequired"),
        (authority.trust_as(&clients, "alice", 2021), "CertificateExpired"),
        (authority.trust_as(&others, "mallory", 2100), "UnknownCA"),
    ] {
        let refused = outcome(config).expect_err("no certificate of theirs");
        assert!(refused.contains(alert), "{alert}: {refused}");
    }
}

#[test]
fn a_ticket_made_without_a_client_certificate_is_no_way_round_it() {
    let (authority, clients) = (Authority::new("test"), Authority::new("clients"));
    let ca = clients.file("ca.pem", &clients.pem());
    let site = authority.site("site", &["a.example"]);
    let toml = |more: &str| format!("{LISTEN}tls = {{ {site}{more} }}\n[routes]\n{HELLO}\n");
    let gateway = Gateway::start(toml(""));
    let config = Arc::new(authority.trust());
    assert_eq!(connect(&gateway, "a.example", &config).get("/").text(), "hello");
    assert!(connect(&gateway, "a.example", &config).is_resumed());
    gateway.reload(toml(&format!(", clients = {{ ca = \"{}\" }}", ca.display()))).expect("a good file");
    wait_until("every shard to ask for certificates", || {
        (0..10).all(|_| {
            let client = TlsClient::connect(gateway.address(), "a.example", &config);
            client.is_err()
                || !client.is_ok_and(|mut client| {
                    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").try_reply().is_ok()
                })
        })
    });
}

#[test]
fn replaced_files_are_offered_and_half_written_ones_are_not() {
    let authority = Authority::new("test");
    let (cert, key) = authority.issue(&["a.example"], 2100);
    let site = authority.put("site", &cert, &key);
    let toml = format!("{LISTEN}tls = {{ {site} }}\n[routes]\n{HELLO}\n");
    let gateway = Gateway::watching(&toml);
    let config = Arc::new(authority.trust());
    let leaf = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let shown = || connect(&gateway, "a.example", &config).shown();
    assert_eq!(shown(), leaf(&cert));

    authority.halve("site.pem");
    wait_until("the half file to be refused", || {
        gateway.counter("coregate_reloads_total{result=\"failed\"}") > 0
    });
    assert_eq!(shown(), leaf(&cert));

    let (cert, key) = authority.issue(&["a.example"], 2090);
    authority.put("site", &cert, &key);
    // A ticket would show the certificate of its first handshake.
    let config = || Arc::new(authority.trust());
    let shown = || connect(&gateway, "a.example", &config()).shown();
    wait_until("the new certificate on every shard", || (0..10).all(|_| shown() == leaf(&cert)));
    let expiry = gateway.counter("coregate_certificate_expiry_time_seconds");
    assert_eq!(expiry, 3_786_912_000, "2090-01-01");

    // A configuration that is wrong now does not keep a certificate from being renewed.
    gateway.rewrite(format!("{toml}nonsense"));
    wait_until("the wrong configuration", || gateway.admin_get("/readyz").text().contains("nonsense"));
    let (cert, key) = authority.issue(&["a.example"], 2080);
    authority.put("site", &cert, &key);
    wait_until("the new certificate on every shard", || (0..10).all(|_| shown() == leaf(&cert)));
}

#[test]
fn a_wrong_certificate_is_explained_with_its_file() {
    let authority = Authority::new("test");
    let (cert, key) = authority.issue(&["a.example"], 2100);
    let (_, other) = authority.issue(&["a.example"], 2100);
    let (old, old_key) = authority.issue(&["a.example"], 2021);
    let check = |file: &str, cert: &str, key: &str, named: &str, words: &str| {
        let tls = authority.put(file, cert, key);
        let text = format!("{LISTEN}tls = {{ {tls} }}\n[routes]\n{HELLO}\n");
        let Err(error) = Gateway::try_start(text) else { panic!("{words}: it starts") };
        assert!(error.contains(named) && error.contains(words), "{words}:\n{error}");
    };
    check("wrong", &cert, &other, "wrong.key", "has the key of another certificate");
    check("old", &old, &old_key, "old.pem", "has expired");
    check("swapped", &key, &cert, "swapped.pem", "has a private key where a certificate is wanted");
    check("half", &cert[..cert.len() / 3], &key, "half.pem", "is not PEM");
    check("empty", "", &key, "empty.pem", "has no certificate");
    let missing = "tls = { cert = \"/nowhere/a.pem\", key = \"/nowhere/a.key\" }";
    let Err(error) = Gateway::try_start(format!("{LISTEN}{missing}\n[routes]\n{HELLO}\n")) else {
        panic!("it starts without its certificate")
    };
    assert!(error.contains("cannot read /nowhere/a.pem") && error.contains("/nowhere/a.key"), "{error}");
}

#[test]
fn without_a_certificate_one_is_made_for_trying_things_out() {
    let gateway = Gateway::start(format!("{LISTEN}[routes]\n{HELLO}\n"));
    let output = program::command("curl", "curl")
        .args([
            "-sk",
            "--max-time",
            "10",
            "-w",
            " %{http_version}",
            &format!("https://{}/", gateway.address()),
        ])
        .output()
        .expect("setpriv is part of every Debian");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello 2");
}

#[test]
fn openssl_resumes_and_cannot_renegotiate() {
    let authority = Authority::new("test");
    let ca = authority.file("ca.pem", &authority.pem());
    let site = authority.site("site", &["a.example"]);
    let limits = "defaults = { client_header_timeout = \"2s\" }\n";
    let gateway = Gateway::start(format!("{LISTEN}{limits}tls = {{ {site} }}\n[routes]\n{HELLO}\n"));
    let session = authority.file("session", "");
    let run = |arguments: &[&str], input: &str| {
        let mut child = program::command("openssl", "openssl")
            .args(["s_client", "-connect", &gateway.address().to_string(), "-servername", "a.example"])
            .args(["-CAfile", &ca.display().to_string(), "-verify_return_error"])
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("setpriv is part of every Debian");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may have ended already.
        drop(stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output();
        drop(stdin);
        let output = output.expect("our own child");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let session = session.display().to_string();
    for version in ["-tls1_3", "-tls1_2"] {
        let first = run(&[version, "-ign_eof", "-sess_out", &session], request);
        assert!(first.contains("New, TLSv1") && first.contains("hello"), "{first}");
        let second = run(&[version, "-ign_eof", "-sess_in", &session], request);
        assert!(second.contains("Reused, TLSv1") && second.contains("hello"), "{second}");
    }
    let renegotiated = run(&["-tls1_2"], "R\n");
    assert!(
        renegotiated.contains("RENEGOTIATING") && renegotiated.contains("no renegotiation"),
        "{renegotiated}"
    );
}

#[test]
fn a_client_that_says_nothing_in_its_handshake_is_let_go() {
    let authority = Authority::new("test");
    let site = authority.site("site", &["a.example"]);
    let limits = "defaults = { client_header_timeout = \"1s\" }\n";
    let gateway = Gateway::start(format!("{LISTEN}{limits}tls = {{ {site} }}\n[routes]\n{HELLO}\n"));
    let mut stream = TcpStream::connect(gateway.address()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(b"\x16\x03\x01").expect("it reads");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("it closes");
    assert!(rest.is_empty());
}

#[test]
fn a_client_that_will_send_no_more_still_gets_its_reply() {
    let authority = Authority::new("test");
    let upstream = Upstream::saying("hello");
    let gateway = gateway(&authority.site("site", &["a.example"]), &format!("\"/\" = \"http://{upstream}\""));
    let mut client = connect(&gateway, "a.example", &Arc::new(authority.trust()));
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").close();
    assert_eq!(client.reply().text(), "hello");
    assert_eq!(client.more(), Ok(false));
}

#[test]
fn keys_may_be_renewed_between_requests() {
    let authority = Authority::new("test");
    let gateway = gateway(&authority.site("site", &["a.example"]), HELLO);
    let mut client = connect(&gateway, "a.example", &Arc::new(authority.trust()));
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "hello");
        client.connection().refresh_traffic_keys().expect("TLS 1.3 can do that");
    }
}

#[test]
fn a_forged_record_ends_the_connection_with_an_alert() {
    let authority = Authority::new("test");
    let gateway = gateway(&authority.site("site", &["a.example"]), HELLO);
    let mut client = connect(&gateway, "a.example", &Arc::new(authority.trust()));
    assert_eq!(client.get("/").text(), "hello");
    let forged = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
    client.socket().write_all(&forged).expect("it reads");
    let refused = client.more().expect_err("nobody could have sealed this");
    assert!(refused.contains("BadRecordMac"), "{refused}");
}

#[test]
fn an_idle_connection_is_closed_with_a_close_notify() {
    let authority = Authority::new("test");
    let site = authority.site("site", &["a.example"]);
    let limits = "defaults = { keepalive_timeout = \"1500ms\" }\n";
    let gateway = Gateway::start(format!("{LISTEN}{limits}tls = {{ {site} }}\n[routes]\n{HELLO}\n"));
    let mut client = connect(&gateway, "a.example", &Arc::new(authority.trust()));
    assert_eq!(client.get("/").text(), "hello");
    assert_eq!(client.more(), Ok(false));
}

#[test]
fn a_connection_that_rested_is_served_again() {
    let authority = Authority::new("test");
    let gateway = gateway(&authority.site("site", &["a.example"]), HELLO);
    let mut client = connect(&gateway, "a.example", &Arc::new(authority.trust()));
    assert_eq!(client.get("/").text(), "hello");
    // After a second its buffer is with the others.
    pause(Duration::from_millis(1300));
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "hello");
    }
}

#[test]
fn a_websocket_goes_through() {
    let authority = Authority::new("test");
    let upstream = Upstream::start(|peer| {
        peer.request_head();
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        let heard = peer.read_exactly(40_000);
        peer.send(heard);
    });
    let gateway = gateway(&authority.site("site", &["a.example"]), &format!("\"/\" = \"http://{upstream}\""));
    let mut client = connect(&gateway, "a.example", &Arc::new(authority.trust()));
    client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_eq!(client.reply().status, 101);
    let said = "abcdefgh".repeat(5_000);
    client.send(&said);
    assert_eq!(client.read_to_end(), said.as_bytes());
}

#[test]
fn a_body_that_ends_with_its_connection_ends_with_a_close_notify_or_was_cut() {
    let authority = Authority::new("test");
    let whole = Upstream::replying_once("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it");
    let cut = Upstream::replying_once("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nsome of it");
    let routes = format!("\"/whole\" = \"http://{whole}\"\n\"/cut\" = \"http://{cut}\"");
    let gateway = gateway(&authority.site("site", &["a.example"]), &routes);
    let config = Arc::new(authority.trust());
    let get = |path: &str| {
        let mut client = connect(&gateway, "a.example", &config);
        client.send(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")).try_reply()
    };
    assert_eq!(get("/whole").map(|reply| reply.body), Ok(b"all of it".to_vec()));
    let broken = get("/cut").expect_err("half of it is not all of it");
    assert_ne!(broken, "closed within the body", "a close_notify would say that this was all");
}
