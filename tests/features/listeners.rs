//! Where the gateway listens, and routes that belong to one of those places.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::net::UnixStream,
};

use crate::harness::{Client, Directory, Gateway, PATIENCE, Upstream};

#[test]
fn a_route_may_be_bound_to_a_listener() {
    let gateway = Gateway::start(
        r#"
listen = ["127.0.0.1:0", "127.0.0.2:0"]
[routes]
"/" = { status = 200, body = "all" }
"/inside" = { status = 200, body = "inside", on = "127.0.0.2:0" }
"#,
    );
    let addresses = gateway.addresses();
    let get = |index: usize, path: &str| {
        Client::connect(addresses[index]).send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).reply().body
    };
    assert_eq!(get(1, "/inside"), b"inside");
    assert_eq!(get(0, "/inside"), b"all");
    assert_eq!(get(1, "/other"), b"all");
}

#[test]
fn a_unix_socket_is_listened_to_and_cleaned_up() {
    let directory = Directory::new();
    let path = directory.path().join("gateway.sock");
    for _ in 0..2 {
        let gateway = Gateway::start(format!(
            "listen = [\"127.0.0.1:0\", \"unix:{}\"]\n[routes]\n\"/\" = {{ status = 200, body = \"hi\" }}\n",
            path.display()
        ));
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers and closes");
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("hi"), "{text}");
        // A file that a killed process left behind does not keep the next one from starting.
        drop(gateway);
    }
}

#[test]
fn a_service_may_be_on_a_unix_socket() {
    let directory = Directory::new();
    let path = directory.path().join("backend.sock");
    let backend = Gateway::start(format!(
        "listen = [\"127.0.0.1:0\", \"unix:{}\"]\n[routes]\n\"/\" = {{ status = 200, body = \"through a file\" }}\n",
        path.display()
    ));
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://unix:{}\"\n", path.display()));
    assert_eq!(gateway.get("/x").text(), "through a file");
    drop(backend);
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = taken.local_addr().expect("a bound socket");
    for toml in [format!("listen = \"{address}\"\n"), format!("admin = \"{address}\"\n")] {
        let text = format!("{toml}[routes]\n\"/\" = {{ status = 200 }}\n");
        let Err(error) = Gateway::try_start(text) else { panic!("two cannot listen at {address}") };
        assert!(error.contains(&address.to_string()) && error.to_lowercase().contains("in use"), "{error}");
    }
}

#[test]
fn a_gateway_that_ends_frees_its_port_and_its_connections() {
    let upstream = Upstream::hanging();
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{upstream}\"\n"));
    let address = gateway.address();
    let (mut idle, mut busy) = (gateway.client(), gateway.client());
    busy.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    crate::harness::wait_until("the request to arrive", || !upstream.lines().is_empty());
    drop(gateway);
    idle.expect_closed();
    drop(busy.read_to_end());
    upstream.expect_all_ended();
    drop(TcpListener::bind(address).expect("the port is free again"));
}
