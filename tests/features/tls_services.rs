//! TLS with services: whose certificates are believed, and what becomes of the others.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::harness::{Authority, Gateway, Nginx, Upstream, ok, reserve};

/// A backend over TLS, for `names`, in front of `routes`.
fn backend(authority: &Authority, names: &[&str], routes: &str) -> Gateway {
    let site = authority.site("backend", names);
    Gateway::start(format!("listen = \"https://127.0.0.1:0\"\ntls = {{ {site} }}\n[routes]\n{routes}\n"))
}

/// A gateway to one service, with `tls` in its table.
fn to(address: SocketAddr, tls: &str) -> Gateway {
    Gateway::start(format!(
        "shards = 1\n[services.s]\nservers = \"https://{address}\"\ntls = {{ {tls} }}\n[routes]\n\"/\" = {{ to = \"s\", max_body = \"16MiB\" }}\n"
    ))
}

const HELLO: &str = "\"/\" = { status = 200, body = \"hello\" }";

#[test]
fn a_service_is_spoken_to_over_tls_and_its_connection_is_kept() {
    let authority = Authority::new("services");
    let ca = authority.file("ca.pem", &authority.pem());
    let backend = backend(&authority, &["127.0.0.1"], HELLO);
    let gateway = to(backend.address(), &format!("ca = \"{}\"", ca.display()));
    for _ in 0..10 {
        let reply = gateway.get("/");
        assert_eq!((reply.status, reply.text()), (200, "hello"));
    }
    assert_eq!(gateway.counter("coregate_upstream_connections_opened_total"), 1);
    assert_eq!(backend.counter("coregate_tls_handshakes_total"), 1);
}

#[test]
fn bodies_of_any_size_go_through_both_ways() {
    let authority = Authority::new("services");
    let ca = authority.file("ca.pem", &authority.pem());
    let echo = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            peer.send(ok(str::from_utf8(&request.body).expect("the test sends text")));
        }
    });
    let routes = format!("\"/\" = {{ to = \"http://{echo}\", max_body = \"16MiB\" }}");
    let backend = backend(&authority, &["127.0.0.1"], &routes);
    let gateway = to(backend.address(), &format!("ca = \"{}\"", ca.display()));
    let mut client = gateway.client();
    for size in [0, 1, 16_384, 70_000, 300_000, 3_000_000] {
        let body: String = (0..size).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect();
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n")).send(&body);
        let reply = client.reply();
        assert!(reply.status == 200 && reply.text() == body, "{size} bytes");
    }
}

#[test]
fn a_certificate_that_is_not_believed_is_a_502() {
    let (authority, other) = (Authority::new("services"), Authority::new("others"));
    let ca = authority.file("ca.pem", &authority.pem());
    let backend = backend(&authority, &["app.internal"], HELLO);
    let ca = format!("ca = \"{}\"", ca.display());
    let strange = other.file("ca.pem", &other.pem());
    for (tls, status) in [
        (format!("{ca}, name = \"app.internal\""), 200),
        ("verify = false".to_owned(), 200),
        // The address is no name of the certificate's.
        (ca.clone(), 502),
        (format!("{ca}, name = \"web.internal\""), 502),
        (format!("ca = \"{}\", name = \"app.internal\"", strange.display()), 502),
        ("name = \"app.internal\"".to_owned(), 502),
    ] {
        let gateway = to(backend.address(), &tls);
        assert_eq!(gateway.get("/").status, status, "{tls}");
        let refused = u64::from(status == 502);
        assert_eq!(gateway.counter("coregate_requests_total{why=\"upstream_tls\"}"), refused, "{tls}");
    }
}

#[test]
fn an_expired_certificate_is_not_believed() {
    let authority = Authority::new("services");
    let ca = authority.file("ca.pem", &authority.pem());
    let server = TlsServer::start(&authority.issue(&["127.0.0.1"], 2021), |_| {});
    let gateway = to(server.address, &format!("ca = \"{}\"", ca.display()));
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn a_service_that_does_not_answer_is_given_up() {
    let authority = Authority::new("services");
    let ca = authority.file("ca.pem", &authority.pem());
    // Its session tickets arrive, and nothing else.
    let server = TlsServer::start(&authority.issue(&["127.0.0.1"], 2100), |stream| {
        drop(stream.read(&mut [0; 100]));
    });
    let gateway = Gateway::start(format!(
        "[services.s]\nservers = \"https://{}\"\ntls = {{ ca = \"{}\" }}\n\
         [routes]\n\"/\" = {{ to = \"s\", timeout = \"300ms\" }}\n",
        server.address,
        ca.display()
    ));
    assert_eq!(gateway.get("/").status, 504);
}

#[test]
fn a_service_that_speaks_plain_http_is_a_502() {
    let upstream = Upstream::start(|peer| {
        peer.read();
        peer.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let gateway = to(upstream.address(), "verify = false");
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn a_body_that_was_cut_is_not_taken_for_whole() {
    let authority = Authority::new("services");
    let ca = authority.file("ca.pem", &authority.pem());
    let tls = format!("ca = \"{}\"", ca.display());
    let reply = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it";
    let whole = TlsServer::start(&authority.issue(&["127.0.0.1"], 2100), |stream| {
        drop(stream.write_all(reply));
        stream.conn.send_close_notify();
        drop(stream.flush());
    });
    assert_eq!(to(whole.address, &tls).get("/").text(), "all of it");

    let cut = TlsServer::start(&authority.issue(&["127.0.0.1"], 2100), |stream| {
        drop(stream.write_all(reply));
        drop(stream.flush());
    });
    let gateway = to(cut.address, &tls);
    let broken = gateway.client().send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").broken_reply();
    assert_eq!(broken.status, 200);
}

#[test]
fn an_nginx_is_spoken_to_over_tls() {
    let authority = Authority::new("services");
    let (cert, key) = authority.issue(&["127.0.0.1"], 2100);
    let (cert, key) = (authority.file("nginx.pem", &cert), authority.file("nginx.key", &key));
    let ca = authority.file("ca.pem", &authority.pem());
    for versions in ["TLSv1.2", "TLSv1.3"] {
        let (held, address) = reserve();
        let _nginx = Nginx::start(
            "",
            &format!(
                "listen {address} ssl reuseport; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols {versions};\n\
                 location / {{ return 200 \"$ssl_protocol $ssl_server_name $request_uri\"; }}",
                cert.display(),
                key.display()
            ),
        );
        let gateway = to(address, &format!("ca = \"{}\"", ca.display()));
        for path in ["/a", "/b", "/c"] {
            // A name of digits is not asked for (RFC 6066 §3).
            assert_eq!(gateway.get(path).text(), format!("{versions}  {path}"));
        }
        assert_eq!(gateway.counter("coregate_upstream_connections_opened_total"), 1);
        drop(held);
    }
}

/// A server that takes a request head and then does as told, until the test ends.
struct TlsServer {
    address: SocketAddr,
    _running: JoinHandle<()>,
}

impl TlsServer {
    fn start(
        (cert, key): &(String, String),
        then: impl Fn(&mut StreamOwned<ServerConnection, std::net::TcpStream>) + Send + 'static,
    ) -> Self {
        let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).map(|der| der.expect("PEM")).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(coregate::tls::provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key fits");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let running = thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let connection = ServerConnection::new(Arc::clone(&config)).expect("a good configuration");
                let mut stream = StreamOwned::new(connection, socket);
                let mut bytes = [0; 4096];
                if stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                    then(&mut stream);
                }
            }
        });
        Self { address, _running: running }
    }
}
