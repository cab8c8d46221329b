//! Keys of issuers: fetched, rotated, missing; and an issuer that is somebody else's program.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::harness::{
    Authority, Gateway, Reply, Upstream,
    issuer::{Authlib, Signer, jwks},
    ok, wait_until,
};

#[expect(clippy::disallowed_types, reason = "a test changes what a thread of its serves")]
type Shared<T> = Arc<std::sync::Mutex<T>>;

/// A place where keys are published, whatever is put there.
struct Published {
    document: Shared<String>,
    fetched: Arc<AtomicUsize>,
    server: Upstream,
}

impl Published {
    fn new(document: String) -> Self {
        let document = Shared::new(document.into());
        let fetched = Arc::new(AtomicUsize::new(0));
        let (served, count) = (Arc::clone(&document), Arc::clone(&fetched));
        let server = Upstream::start(move |peer| {
            while peer.request().is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                let document = served.lock().expect("nobody panics with it").clone();
                match document.is_empty() {
                    true => peer.send("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
                    false => peer.send(ok(&document)),
                };
            }
        });
        Self { document, fetched, server }
    }

    fn publish(&self, document: String) {
        *self.document.lock().expect("nobody panics with it") = document;
    }

    fn fetched(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }

    fn gateway(&self) -> Gateway {
        Gateway::start(format!(
            "[auth.main]\nissuer = \"test\"\naudience = false\njwks = \"http://{}/jwks\"\n[routes]\n\"/\" = {{ body = \"in\", auth = \"main\" }}\n",
            self.server
        ))
    }
}

fn get(gateway: &Gateway, token: &str) -> Reply {
    gateway.send(format!("GET / HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n"))
}

#[test]
fn a_rotation_refuses_nobody() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let published = Published::new(jwks(&[&old]));
    let gateway = published.gateway();
    // Also the first request finds the keys, although nothing has waited for them.
    assert_eq!(get(&gateway, &old.token("test")).status, 200);
    published.publish(jwks(&[&new, &old]));
    // The first ones of the new key come at once, on many connections.
    let mut clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = gateway.client();
            let token = new.token("test");
            client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n"));
            client
        })
        .collect();
    let statuses: Vec<_> = clients.iter_mut().map(|client| client.reply().status).collect();
    assert_eq!(statuses, [200; 8]);
    assert_eq!(get(&gateway, &old.token("test")).status, 200);
    assert_eq!(published.fetched(), 2, "one fetch at the start, one for all of them");
}

#[test]
fn made_up_key_names_cost_one_fetch_and_hinder_nobody() {
    let good = Signer::new("good");
    let published = Published::new(jwks(&[&good]));
    let gateway = published.gateway();
    assert_eq!(get(&gateway, &good.token("test")).status, 200);
    let mut client = gateway.client();
    for round in 0..200 {
        let token = Signer::new(&format!("made-up-{round}")).token("test");
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n"));
        assert_eq!(client.reply().status, 401);
    }
    assert_eq!(published.fetched(), 2);
    assert_eq!(gateway.counter("coregate_auth_rejects_total{auth=\"main\",reason=\"jwt_key\"}"), 200);
    assert_eq!(get(&gateway, &good.token("test")).status, 200);
}

#[test]
fn a_key_that_is_gone_is_gone_from_the_cache_and_a_fetch_that_fails_changes_nothing() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let published = Published::new(jwks(&[&old]));
    let gateway = published.gateway();
    let token = old.token("test");
    assert_eq!(get(&gateway, &token).status, 200);
    published.publish(String::new());
    assert_eq!(get(&gateway, &new.token("test")).status, 401, "nobody knows its key");
    assert_eq!(get(&gateway, &token).status, 200, "the old keys are kept");

    // In the time of the cool-down only a reload asks again; a new issuer has a place of its own.
    let other = Published::new(jwks(&[&new]));
    let text = format!(
        "[auth.main]\nissuer = \"test\"\naudience = false\njwks = \"http://{}/jwks\"\n[routes]\n\"/\" = {{ body = \"in\", auth = \"main\" }}\n",
        other.server
    );
    gateway.reload(text).expect("a good configuration");
    assert_eq!(get(&gateway, &token).status, 401, "by a key that is not there");
    assert_eq!(get(&gateway, &new.token("test")).status, 200);
}

#[test]
fn without_any_keys_it_is_not_the_clients_fault() {
    let published = Published::new(String::new());
    let gateway = published.gateway();
    let signer = Signer::new("k");
    let reply = get(&gateway, &signer.token("test"));
    assert_eq!((reply.status, reply.header("Retry-After")), (503, Some("5")));
    assert_eq!(reply.header("WWW-Authenticate"), None);
    published.publish(jwks(&[&signer]));
    wait_until("the fetch to be repeated", || get(&gateway, &signer.token("test")).status == 200);
}

#[test]
fn keys_in_a_file_are_followed() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let files = Authority::new("files");
    let path = files.file("keys.json", &jwks(&[&old]));
    let gateway = Gateway::watching(format!(
        "[auth.main]\nissuer = \"test\"\naudience = false\njwks = \"{}\"\n[routes]\n\"/\" = {{ body = \"in\", auth = \"main\" }}\n",
        path.display()
    ));
    assert_eq!(get(&gateway, &old.token("test")).status, 200);
    assert_eq!(get(&gateway, &new.token("test")).status, 401);
    files.file("keys.json", "half a fi");
    files.file("keys.json", &jwks(&[&new]));
    wait_until("the new keys to be read", || get(&gateway, &new.token("test")).status == 200);
    assert_eq!(get(&gateway, &old.token("test")).status, 401);
}

#[test]
fn keys_are_fetched_over_tls_from_whom_the_operator_trusts() {
    let signer = Signer::new("k");
    let authority = Authority::new("issuers");
    let ca = authority.file("ca.pem", &authority.pem());
    let site = authority.site("issuer", &["127.0.0.1"]);
    let keys = jwks(&[&signer]).replace('"', "\\\"");
    let issuer = Gateway::start(format!(
        "listen = \"https://127.0.0.1:0\"\ntls = {{ {site} }}\n[routes]\n\"/jwks\" = {{ type = \"application/json\", body = \"{keys}\" }}\n"
    ));
    let gateway = |trust: &str| {
        Gateway::start(format!(
            "[auth.main]\nissuer = \"test\"\naudience = false\njwks = \"https://{}/jwks\"\n{trust}\n[routes]\n\"/\" = {{ body = \"in\", auth = \"main\" }}\n",
            issuer.address()
        ))
    };
    let trusting = gateway(&format!("ca = \"{}\"", ca.display()));
    assert_eq!(get(&trusting, &signer.token("test")).status, 200);
    let other = Authority::new("others");
    let stranger = other.file("ca.pem", &other.pem());
    let doubting = gateway(&format!("ca = \"{}\"", stranger.display()));
    assert_eq!(get(&doubting, &signer.token("test")).status, 503);
}

#[test]
fn tokens_of_a_foreign_issuer_are_taken_over_its_rotations() {
    let issuer = Authlib::start();
    let gateway = Gateway::start(format!(
        "[auth.main]\nissuer = \"{}\"\naudience = \"gw\"\n[routes]\n\"/\" = {{ body = \"{{jwt.sub}}\", auth = \"main\", roles = [\"reader\"] }}\n",
        issuer.issuer()
    ));
    let mut tokens = Vec::new();
    for alg in ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"] {
        let token = issuer.get(&format!("/mint?alg={alg}&sub={alg}&roles=reader,x"));
        let reply = get(&gateway, &token);
        assert_eq!((reply.status, reply.text()), (200, alg));
        tokens.push(token);
    }
    let without = issuer.get("/mint?roles=writer");
    assert_eq!(get(&gateway, &without).status, 403);

    issuer.get("/rotate");
    let token = issuer.get("/mint?alg=ES256&roles=reader");
    assert_eq!(get(&gateway, &token).status, 200, "the first by a new key");
    for token in tokens {
        assert_eq!(get(&gateway, &token).status, 200, "by an old one");
    }
    assert_eq!(issuer.get("/fetched"), "2");
}
