//! What a head costs: `cargo bench --bench head`.

use std::mem::MaybeUninit;

use coregate::http::{Method, Rules, classify, normalise, parse_request, parse_response};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const RULES: Rules =
    Rules { head_bytes_max: 32 * 1024, line_bytes_max: 8 * 1024, headers_max: 100, lenient: false };

/// 469 bytes, 8 fields: what a browser sends.
const REQUEST: &[u8] = b"GET /api/orders/1234567?expand=items HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://shop.example.com/orders\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef012345678901234; lang=enUS\r\n\r\n";

/// What wrk sends.
const SMALL: &[u8] = b"GET /api/1k HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.22.1\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 1024\r\n\
    Connection: keep-alive\r\n\r\n";

fn message(name: &str) -> &'static [u8] {
    if name == "browser" { REQUEST } else { SMALL }
}

#[divan::bench(args = ["browser", "small"], sample_size = 256)]
fn httparse_alone(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = message(name);
    bencher.bench_local(|| {
        let mut room = [const { MaybeUninit::uninit() }; 64];
        let mut request = httparse::Request::new(&mut []);
        let found = request.parse_with_uninit_headers(black_box(bytes), &mut room).is_ok();
        black_box(&request);
        found
    });
}

#[divan::bench(args = ["browser", "small"], sample_size = 256)]
fn request(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = message(name);
    let mut fields = Vec::new();
    bencher.bench_local(|| black_box(parse_request(black_box(bytes), &mut 0, &RULES, &mut fields)).is_ok());
}

/// Byte by byte: the whole cost, not that of one call.
#[divan::bench(sample_size = 16)]
fn request_in_pieces(bencher: Bencher<'_, '_>) {
    let mut fields = Vec::new();
    bencher.bench_local(|| {
        let mut scanned = 0;
        for end in 1..=REQUEST.len() {
            _ = black_box(parse_request(black_box(&REQUEST[..end]), &mut scanned, &RULES, &mut fields));
        }
    });
}

#[divan::bench(sample_size = 256)]
fn response(bencher: Bencher<'_, '_>) {
    let mut fields = Vec::new();
    let mut bytes = RESPONSE.to_vec();
    bencher.bench_local(|| {
        let bytes = black_box(&mut bytes);
        black_box(parse_response(bytes, &mut 0, Method::Get, &RULES, &mut fields)).is_ok()
    });
}

#[divan::bench(args = ["Host", "X-Forwarded-For", "Transfer-Encoding", "X-Customer-Number", "content-location"])]
fn field_name(name: &str) -> coregate::http::Known {
    classify(black_box(name.as_bytes()))
}

#[divan::bench(args = ["/api/orders/1234567/items/9876", "/", "/api/1k", "/api/orders/12", "/.well-known/acme-challenge/x", "/a/b/../%7Euser//x"])]
fn path(bencher: Bencher<'_, '_>, path: &str) {
    let mut scratch = Vec::new();
    bencher.bench_local(|| normalise(black_box(path.as_bytes()), black_box(&mut scratch)));
}
