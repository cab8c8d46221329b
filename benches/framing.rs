//! What a body costs: `cargo bench --bench framing`.

use coregate::http::{BodyLength, CHUNK_HEADER_MAX, Decoder, chunk_header};
use divan::{Bencher, black_box, counter::BytesCount};

fn main() {
    divan::main();
}

#[divan::bench]
fn exact_1_kib(bencher: Bencher<'_, '_>) {
    let mut bytes = vec![b'x'; 1024];
    bencher.bench_local(|| Decoder::new(black_box(BodyLength::Exact(1024))).decode(black_box(&mut bytes)));
}

/// One body of 16 KiB in chunks of this many bytes. The copy that each round needs, because decoding moves the data, is
/// the cost of `copy_16_kib`.
#[divan::bench(args = [64, 1024, 16384])]
fn chunked_16_kib(bencher: Bencher<'_, '_>, chunk: usize) {
    let encoded = encode(&[b'x'; 16384], chunk);
    let mut bytes = encoded.clone();
    bencher.counter(BytesCount::new(16384usize)).bench_local(|| {
        bytes.copy_from_slice(&encoded);
        Decoder::new(BodyLength::Chunked).decode(black_box(&mut bytes))
    });
}

#[divan::bench]
fn copy_16_kib(bencher: Bencher<'_, '_>) {
    let encoded = encode(&[b'x'; 16384], 16384);
    let mut bytes = encoded.clone();
    bencher
        .counter(BytesCount::new(16384usize))
        .bench_local(|| black_box(&mut bytes).copy_from_slice(&encoded));
}

#[divan::bench]
fn header_of_a_chunk(bencher: Bencher<'_, '_>) {
    let mut out = [0; CHUNK_HEADER_MAX];
    bencher.bench_local(|| chunk_header(black_box(16384), &mut out));
}

fn encode(data: &[u8], chunk: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in data.chunks(chunk) {
        let mut header = [0; CHUNK_HEADER_MAX];
        let len = chunk_header(piece.len(), &mut header);
        out.extend_from_slice(&header[CHUNK_HEADER_MAX - len..]);
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
