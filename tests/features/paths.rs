//! One path, one meaning: what is matched is what is sent, however it was spelled.

use crate::harness::{Gateway, Upstream, ok};

/// `/admin/` refuses with 403; everything else goes to an upstream that says what it was asked for.
fn guarded(more: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            peer.send(ok(&request.target));
        }
    });
    let gateway = Gateway::start(format!(
        "[routes]\n\"/admin/\" = {{ status = 403, body = \"no\" }}\n\"/\" = \"http://{upstream}\"\n{}\n",
        more.replace("UPSTREAM", &format!("http://{upstream}"))
    ));
    (gateway, upstream)
}

#[test]
fn no_spelling_of_a_path_gets_past_its_route() {
    let (gateway, upstream) = guarded("");
    for path in [
        "/admin/",
        "/admin",
        "/admin?x",
        "/admin/x",
        "//admin/",
        "/.//admin/",
        "///admin//x",
        "/./admin/",
        "/x/../admin/",
        "/x/y/../../admin/x",
        "/x/%2e%2e/admin/",
        "/x/%2E./admin/",
        "/x/.%2e/admin/",
        "/%61dmin/",
        "/%61%64%6D%69%6e/x",
        "/../admin/",
        "/../../admin/",
        "/%2e%2e/admin/",
        "/admin/.",
        "/admin/..//admin/",
        "/admin/x/..",
        "http://x/admin/",
        "http://x//%61dmin/",
    ] {
        let status = gateway.get(path).status;
        assert!([308, 400, 403].contains(&status), "{path}: {status}");
    }
    assert_eq!(upstream.lines(), Vec::<String>::new());
}

#[test]
fn the_path_that_was_matched_is_the_path_that_is_sent() {
    let (gateway, _upstream) = guarded("");
    for (asked, sent) in [
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a//b", "/a/b"),
        ("//a", "/a"),
        ("/%61%2Db%7e", "/a-b~"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a/..b", "/a/..b"),
        ("/a/...", "/a/..."),
        ("/a%3Fb", "/a%3Fb"),
        ("/a%23b", "/a%23b"),
        ("/a%25b", "/a%25b"),
        ("/a%252e%252e/b", "/a%252e%252e/b"),
        ("/%2561dmin/", "/%2561dmin/"),
        ("/a;x=1/b", "/a;x=1/b"),
    ] {
        assert_eq!(gateway.get(asked).text(), sent, "{asked}");
    }
}

#[test]
fn a_path_above_the_root_or_with_an_encoded_slash_backslash_or_nul_is_refused() {
    let (gateway, upstream) = guarded("");
    for path in [
        "/..",
        "/a/../..",
        "/a%2fb",
        "/a%2Fb",
        "/%2fadmin/",
        "/x/..%2fadmin/",
        "/a%5cb",
        "/a%5Cb",
        "/x/..%5cadmin/",
        "/a%00b",
        "/admin%00/",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%-1",
    ] {
        assert_eq!(gateway.get(path).status, 400, "{path}");
    }
    assert_eq!(upstream.lines(), Vec::<String>::new());
}

#[test]
fn a_bare_backslash_is_no_separator_and_never_one_for_the_upstream() {
    let (gateway, upstream) = guarded("");
    for path in ["/\\admin/", "/x\\..\\admin\\", "\\admin\\", "/x/..\\admin/"] {
        let status = gateway.get(path).status;
        assert!([400, 403, 404].contains(&status), "{path}: {status}");
    }
    assert_eq!(upstream.lines(), Vec::<String>::new());
}

#[test]
fn a_raw_path_is_sent_as_it_came() {
    let (gateway, _upstream) = guarded("\"/raw/\" = { to = \"UPSTREAM\", raw_path = true }");
    for path in ["/raw/a%2fb", "/raw/a%5Cb", "/raw/%61"] {
        assert_eq!(gateway.get(path).text(), path);
    }
    // It is the route that is raw, not the way to it.
    let status = gateway.get("/raw/../admin/").status;
    assert!([400, 403].contains(&status), "{status}");
}

#[test]
fn strip_and_rewrite_do_not_bring_dots_back() {
    let (gateway, _upstream) = guarded(
        "\"/api/\" = { to = \"UPSTREAM\", strip = \"/api\" }\n\"/get/{name}\" = { to = \"UPSTREAM\", rewrite = \"/files/{name}\" }",
    );
    assert_eq!(gateway.get("/api//x").text(), "/x");
    for path in ["/get/%2e%2e", "/get/..%2f..%2fetc", "/get/a%2fb"] {
        let reply = gateway.get(path);
        assert!(reply.status >= 300 || !reply.text().contains("etc"), "{path}: {:?}", reply.text());
    }
}
