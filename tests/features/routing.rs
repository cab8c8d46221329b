//! Which route a request takes, and what a route does besides proxying.

use crate::harness::{Gateway, Reply, Upstream, ok};

/// Routes that answer with their own name, so that a reply says which one it was.
fn named(routes: &[&str]) -> Gateway {
    let line = |route: &&str| format!("{route:?} = {{ status = 200, body = {:?} }}\n", name(route));
    Gateway::start(routes.iter().map(line).fold("[routes]\n".to_owned(), |toml, line| toml + &line))
}

/// A route's name as a body says it: braces would be variables there.
fn name(route: &str) -> String {
    route.replace('{', "<").replace('}', ">")
}

#[track_caller]
fn check(gateway: &Gateway, method: &str, host: &str, path: &str, route: &str) {
    let reply = ask(gateway, method, host, path);
    assert_eq!((reply.status, reply.text()), (200, name(route).as_str()), "{method} {host} {path}");
}

#[track_caller]
fn ask(gateway: &Gateway, method: &str, host: &str, path: &str) -> Reply {
    gateway.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n"))
}

#[test]
fn the_most_specific_path_wins() {
    let gateway = named(&["/", "/a/", "/a/b", "/a/{id}", "/a/{id}/c", "/a/b/c"]);
    for (path, route) in [
        ("/", "/"),
        ("/x/y", "/"),
        ("/a/", "/a/"),
        ("/a/b", "/a/b"),
        ("/a/z", "/a/{id}"),
        ("/a/z/c", "/a/{id}/c"),
        ("/a/b/c", "/a/b/c"),
        ("/a/z/d", "/a/"),
        ("/a/b/", "/a/"),
        ("/ab", "/"),
    ] {
        check(&gateway, "GET", "x", path, route);
        check(&gateway, "GET", "x", &format!("{path}?a=b/c"), route);
    }
}

#[test]
fn the_order_of_routes_means_nothing() {
    let gateway = named(&["/a/{id}/c", "/a/b", "/", "/a/{id}"]);
    check(&gateway, "GET", "x", "/a/b", "/a/b");
    check(&gateway, "GET", "x", "/a/z", "/a/{id}");
}

#[test]
fn an_exact_end_takes_only_the_slash() {
    let gateway = named(&["/e/{$}", "/"]);
    check(&gateway, "GET", "x", "/e/", "/e/{$}");
    check(&gateway, "GET", "x", "/e/f", "/");
}

#[test]
fn a_host_is_exact_or_a_wildcard_or_any() {
    let gateway = named(&["/", "api.example.com/", "*.example.com/"]);
    for (host, route) in [
        ("api.example.com", "api.example.com/"),
        ("API.Example.COM", "api.example.com/"),
        ("api.example.com:8080", "api.example.com/"),
        ("api.example.com.", "api.example.com/"),
        ("www.example.com", "*.example.com/"),
        ("a.b.example.com", "*.example.com/"),
        ("example.com", "/"),
        ("evilexample.com", "/"),
        ("api.example.com.evil", "/"),
        ("[::1]:80", "/"),
    ] {
        check(&gateway, "GET", host, "/x", route);
    }
}

#[test]
fn the_host_of_an_absolute_target_chooses_the_route() {
    let gateway = named(&["/", "api.example.com/"]);
    check(&gateway, "GET", "other", "http://api.example.com/x", "api.example.com/");
    check(&gateway, "GET", "api.example.com", "http://other/x", "/");
}

#[test]
fn a_method_narrows_a_route() {
    let gateway = named(&["GET /a", "POST /a", "/a", "PURGE /b"]);
    check(&gateway, "GET", "x", "/a", "GET /a");
    check(&gateway, "POST", "x", "/a", "POST /a");
    check(&gateway, "DELETE", "x", "/a", "/a");
    check(&gateway, "PURGE", "x", "/b", "PURGE /b");
}

#[test]
fn head_takes_the_route_of_get() {
    let gateway = named(&["GET /a"]);
    let mut client = gateway.client();
    let reply = client.send("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n").reply_to("HEAD");
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("6")));
}

#[test]
fn no_route_is_404() {
    let gateway = named(&["/a", "api.example.com/b"]);
    for path in ["/", "/b", "/a/b", "/aa"] {
        assert_eq!(ask(&gateway, "GET", "x", path).status, 404, "{path}");
    }
}

#[test]
fn a_wrong_method_is_405_and_allow_names_the_right_ones() {
    let gateway = named(&["GET /a", "POST /a", "PUT x.example/a"]);
    let reply = ask(&gateway, "DELETE", "x", "/a");
    assert_eq!(reply.status, 405);
    let mut allowed: Vec<_> = reply.header("allow").expect("405 has Allow").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    // Methods are compared with regard to case (RFC 9110 §9.1).
    assert_eq!(ask(&gateway, "get", "x", "/a").status, 405);
}

#[test]
fn a_folder_without_its_slash_is_redirected() {
    let gateway = named(&["/admin/", "/b/{rest...}"]);
    for (path, location) in [("/admin", "/admin/"), ("/admin?a=b&c", "/admin/?a=b&c"), ("/b", "/b/")] {
        let reply = ask(&gateway, "POST", "x", path);
        assert_eq!(reply.status, 308, "{path}");
        let target = reply.header("location").expect("a redirect has a Location");
        assert!(target == location || target == format!("http://x{location}"), "{path}: {target}");
    }
}

#[test]
fn a_redirect_that_would_leave_the_host_is_not_made() {
    let gateway = named(&["/{a}/b/"]);
    for path in ["//evil.example/b", "/%2Fevil.example/b", "/\\evil.example/b"] {
        let reply = ask(&gateway, "GET", "x", path);
        let location = reply.header("location").unwrap_or("/");
        assert!(!location.starts_with("//") && !location.starts_with("/\\"), "{path}: {location}");
    }
}

#[test]
fn a_fixed_reply_says_what_the_file_says() {
    let gateway = Gateway::start(
        r#"
[routes]
"/ping" = { status = 200, body = "pong" }
"/teapot/{id}" = { status = 418, body = "id is {id}", type = "text/x-tea", headers = { "X-A" = "1", "Cache-Control" = "no-store" } }
"/empty" = { status = 204 }
"#,
    );
    let reply = gateway.get("/ping");
    assert_eq!((reply.status, reply.text()), (200, "pong"));
    let reply = gateway.get("/teapot/7");
    assert_eq!((reply.status, reply.text()), (418, "id is 7"));
    assert_eq!(reply.header("content-type"), Some("text/x-tea"));
    assert_eq!((reply.header("x-a"), reply.header("cache-control")), (Some("1"), Some("no-store")));
    assert_eq!(gateway.get("/empty").status, 204);
}

#[test]
fn a_fixed_reply_takes_a_request_body_and_keeps_the_connection() {
    let gateway = Gateway::start("[routes]\n\"/ping\" = { status = 200, body = \"pong\" }\n");
    let mut client = gateway.client();
    for _ in 0..3 {
        client.send("POST /ping HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.reply().text(), "pong");
    }
    // One whose end is not known beforehand is not worth reading: it may cost the connection, and then it is said.
    client
        .send("POST /ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let reply = client.reply();
    assert_eq!(reply.text(), "pong");
    if reply.header("connection") == Some("close") {
        client.expect_closed();
    } else {
        assert_eq!(client.send("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").reply().text(), "pong");
    }
}

#[test]
fn a_redirect_renders_its_location() {
    let gateway = Gateway::start(
        "[routes]\n\"/old/{p...}\" = { redirect = \"/new/{p}\", code = 308 }\n\"/away/{id}\" = { redirect = \"https://example.com/{id}?q={query.q}\" }\n",
    );
    let reply = gateway.get("/old/a/b");
    assert_eq!((reply.status, reply.header("location")), (308, Some("/new/a/b")));
    let reply = gateway.get("/away/7?q=x");
    assert!([301, 302, 307, 308].contains(&reply.status), "{}", reply.status);
    assert_eq!(reply.header("location"), Some("https://example.com/7?q=x"));
}

#[test]
fn nothing_in_a_path_or_query_breaks_out_of_a_location() {
    let gateway = Gateway::start(
        "[routes]\n\"/r/{id}\" = { redirect = \"https://example.com/{id}?q={query.q}\", code = 302 }\n",
    );
    for path in ["/r/a%0d%0aX-Evil:%201?q=1", "/r/a?q=%0d%0aX-Evil:%201", "/r/a%3Fb?q=a%26b%3Dc%23d"] {
        let reply = gateway.get(path);
        assert!(!reply.headers.has("x-evil"), "{path}");
        if reply.status == 302 {
            let location = reply.header("location").expect("a redirect has a Location");
            assert_eq!(
                (location.matches('?').count(), location.matches(['&', '#']).count()),
                (1, 0),
                "{location}"
            );
        }
    }
}

/// A gateway with one route to an upstream that says what it was asked for.
fn proxied(route: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            peer.send(ok(&request.target));
        }
    });
    let gateway =
        Gateway::start(format!("[routes]\n{}\n", route.replace("UPSTREAM", &format!("http://{upstream}"))));
    (gateway, upstream)
}

#[track_caller]
fn check_sent(route: &str, cases: &[(&str, &str)]) {
    let (gateway, _upstream) = proxied(route);
    for (asked, sent) in cases {
        assert_eq!(gateway.get(asked).text(), *sent, "{route}: {asked}");
    }
}

#[test]
fn the_path_and_query_are_sent_as_matched() {
    check_sent(
        r#""/" = "UPSTREAM""#,
        &[
            ("/", "/"),
            ("/a/b?c=d", "/a/b?c=d"),
            ("/a?", "/a?"),
            ("/?x=/../y", "/?x=/../y"),
            ("/a?x=%2F%00//", "/a?x=%2F%00//"),
            ("/a%20b", "/a%20b"),
            ("/%e4%BD%a0", "/%E4%BD%A0"),
        ],
    );
}

#[test]
fn the_path_of_a_server_url_is_a_prefix() {
    check_sent(r#""/" = "UPSTREAM/base""#, &[("/", "/base/"), ("/a?b", "/base/a?b")]);
    check_sent(r#""/" = "UPSTREAM/base/""#, &[("/a", "/base/a")]);
}

#[test]
fn strip_removes_a_prefix() {
    check_sent(
        r#""/api/" = { to = "UPSTREAM", strip = "/api" }"#,
        &[("/api/", "/"), ("/api/users?x=1", "/users?x=1"), ("/api/api/", "/api/")],
    );
    check_sent(r#""/api/v1/" = { to = "UPSTREAM/b", strip = "/api" }"#, &[("/api/v1/x", "/b/v1/x")]);
}

#[test]
fn rewrite_replaces_the_path() {
    check_sent(
        r#""/users/{id}/posts" = { to = "UPSTREAM", rewrite = "/posts/{id}" }"#,
        &[("/users/7/posts", "/posts/7"), ("/users/7/posts?page=2", "/posts/7?page=2")],
    );
    check_sent(
        r#""/users/{id}" = { to = "UPSTREAM", rewrite = "/find?id={id}" }"#,
        &[("/users/7", "/find?id=7"), ("/users/a%26b%3D", "/find?id=a%26b%3D")],
    );
    check_sent(
        r#""/files/{rest...}" = { to = "UPSTREAM", rewrite = "/static/{rest}" }"#,
        &[("/files/a/b.css", "/static/a/b.css"), ("/files/", "/static/")],
    );
}
