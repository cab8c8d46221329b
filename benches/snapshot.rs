//! What it costs a request to hold the configuration, and control to replace it (DESIGN §12).

use std::{hint::black_box, sync::Arc};

use coregate::{
    http::FieldNames,
    limits::Limits,
    route::Index,
    snapshot::{Snapshot, SnapshotCell, SnapshotReader},
};
use divan::Bencher;

fn main() {
    divan::main();
}

/// The smallest snapshot: how large one is does not matter here.
fn snapshot(version: u64) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        version,
        index: Index::default(),
        routes: Vec::new(),
        amqp: Vec::new(),
        services: Vec::new(),
        listeners: Vec::new(),
        trusted_proxies: Vec::new(),
        limits: Limits::default(),
        tls: Arc::new([]),
        revocations: Arc::default(),
        guards: Vec::new(),
        reserved: FieldNames::default(),
        calls_itself: false,
    })
}

/// As every request does it.
#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let mut reader = SnapshotReader::new(Arc::new(SnapshotCell::new(snapshot(1))));
    bencher.bench_local(|| black_box(&mut reader).read());
}

/// The same without a reader's cache, on shards that share nothing else: they meet at the counter.
#[divan::bench(threads = [1, 2])]
fn clone_the_arc(bencher: Bencher<'_, '_>) {
    let cell = SnapshotCell::new(snapshot(1));
    bencher.bench(|| black_box(&cell).load_full());
}

/// A new snapshot, and one reader that takes it up.
#[divan::bench]
fn swap(bencher: Bencher<'_, '_>) {
    let cell = Arc::new(SnapshotCell::new(snapshot(1)));
    let mut reader = SnapshotReader::new(Arc::clone(&cell));
    let both = [snapshot(1), snapshot(2)];
    let mut turn = 0;
    bencher.bench_local(|| {
        turn ^= 1;
        cell.store(Arc::clone(&both[turn]));
        black_box(&mut reader).read()
    });
}
