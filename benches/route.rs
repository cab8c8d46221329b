//! The index with one route, and with 10,000 over 1,000 hosts (DESIGN §7, §16).

use std::hint::black_box;

use coregate::route::{Captures, Found, Index, Pattern, conflicts};
use divan::{Bencher, counter::ItemsCount};

fn main() {
    divan::main();
}

/// Ten routes per host: literals, variables, prefixes, methods.
const PATHS: [&str; 10] = [
    "/",
    "/health",
    "/api/v1/users/{id}",
    "/api/v1/users/{id}/posts",
    "/api/v1/users/me",
    "/api/v1/orders/",
    "/api/v1/orders/{id}/items/{item}",
    "/static/{file...}",
    "/admin/",
    "/login",
];

fn patterns(hosts: usize) -> Vec<Pattern> {
    let keys = (0..hosts).flat_map(|host| PATHS.map(|path| format!("host-{host}.example.com{path}")));
    keys.map(|key| Pattern::parse(&key).expect("the key is valid")).collect()
}

fn index(patterns: Vec<Pattern>) -> Index {
    Index::build(&patterns.into_iter().map(|pattern| (pattern, None)).collect::<Vec<_>>())
}

/// Finds `path` at one host after the other; the time is that of all of them.
fn find(bencher: Bencher<'_, '_>, index: &Index, hosts: &[&[u8]], path: &[u8]) {
    let mut captures = Captures::default();
    bencher.counter(ItemsCount::of_iter(hosts)).bench_local(|| {
        for host in hosts {
            let found = index.find(0, black_box(host), black_box(b"GET"), black_box(path), &mut captures);
            assert!(matches!(black_box(found), Found::Route { .. }));
        }
    });
}

#[divan::bench(sample_size = 10)]
fn one_route(bencher: Bencher<'_, '_>) {
    let index = index(vec![Pattern::parse("/").expect("the key is valid")]);
    find(bencher, &index, &[b"host-1.example.com".as_slice(); 100], b"/api/v1/users/42");
}

#[divan::bench(sample_size = 10)]
fn one_route_with_host(bencher: Bencher<'_, '_>) {
    let index = index(vec![Pattern::parse("host-1.example.com/").expect("the key is valid")]);
    find(bencher, &index, &[b"host-1.example.com".as_slice(); 100], b"/api/v1/users/42");
}

#[divan::bench(sample_size = 10, args = ["/health", "/api/v1/users/42", "/api/v1/orders/42/items/7", "/static/js/app.js", "/elsewhere"])]
fn ten_routes(bencher: Bencher<'_, '_>, path: &str) {
    find(bencher, &index(patterns(1)), &[b"host-0.example.com".as_slice(); 100], path.as_bytes());
}

#[divan::bench(sample_size = 10, args = ["/health", "/api/v1/users/42", "/api/v1/orders/42/items/7", "/static/js/app.js", "/elsewhere"])]
fn ten_thousand_routes(bencher: Bencher<'_, '_>, path: &str) {
    find(bencher, &index(patterns(1000)), &[b"host-567.example.com".as_slice(); 100], path.as_bytes());
}

/// Another host each time: what the index weighs in the cache.
#[divan::bench(sample_size = 10, args = ["/health", "/api/v1/users/42", "/api/v1/orders/42/items/7", "/static/js/app.js", "/elsewhere"])]
fn ten_thousand_routes_all_hosts(bencher: Bencher<'_, '_>, path: &str) {
    let hosts: Vec<String> =
        (0..1000).map(|host| format!("host-{}.example.com", host * 389 % 1000)).collect();
    let hosts: Vec<&[u8]> = hosts.iter().map(String::as_bytes).collect();
    find(bencher, &index(patterns(1000)), &hosts, path.as_bytes());
}

#[divan::bench(sample_count = 10)]
fn conflicts_of_ten_thousand(bencher: Bencher<'_, '_>) {
    let patterns = patterns(1000);
    let routes: Vec<_> = patterns.iter().map(|pattern| (pattern, None)).collect();
    bencher.bench_local(|| conflicts(black_box(&routes)).len());
}

#[divan::bench(sample_count = 10)]
fn build_of_ten_thousand(bencher: Bencher<'_, '_>) {
    let routes: Vec<_> = patterns(1000).into_iter().map(|pattern| (pattern, None)).collect();
    bencher.bench_local(|| Index::build(black_box(&routes)));
}

#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| Pattern::parse(black_box("GET api.example.com/api/v1/orders/{id}/items/{item}")));
}
