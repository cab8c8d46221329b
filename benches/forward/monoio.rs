//! A bare TCP forwarder on monoio and io_uring, as a shard runs it: what the gateway's own path is measured against.
//!
//! `forward_monoio LISTEN UPSTREAM [CORE] [BUFFER_BYTES]`: one thread on one core (0), one upstream connection for each
//! client, bytes copied both ways, each way through a buffer of its own (16 KiB). It understands nothing of what it
//! carries.

use std::{env, io, net::SocketAddr};

use monoio::{
    IoUringDriver, RuntimeBuilder,
    buf::IoBufMut,
    io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable},
    net::{TcpListener, TcpStream},
};

const BUFFER_BYTES: usize = 16 * 1024;
const ENTRIES: u32 = 2048;

fn main() -> io::Result<()> {
    let words: Vec<_> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    // `cargo bench` runs every bench; this one is a program for others to measure.
    let [listen, upstream, rest @ ..] = words.as_slice() else { return Ok(()) };
    let upstream: SocketAddr = upstream.parse().map_err(io::Error::other)?;
    let number =
        |index: usize, otherwise| rest.get(index).and_then(|word| word.parse().ok()).unwrap_or(otherwise);
    core_affinity::set_for_current(core_affinity::CoreId { id: number(0, 0) });
    let buffer_bytes = number(1, BUFFER_BYTES);

    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let mut runtime =
        RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).with_entries(ENTRIES).build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(listen)?;
        loop {
            let (client, _) = listener.accept().await?;
            monoio::spawn(async move {
                // A connection that breaks is over; there is nobody to tell.
                drop(both_ways(client, upstream, buffer_bytes).await);
            });
        }
    })
}

async fn both_ways(client: TcpStream, upstream: SocketAddr, buffer_bytes: usize) -> io::Result<()> {
    let upstream = TcpStream::connect_addr(upstream).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (client_read, client_write) = client.into_split();
    let (upstream_read, upstream_write) = upstream.into_split();
    monoio::spawn(async move { drop(copy(client_read, upstream_write, buffer_bytes).await) });
    copy(upstream_read, client_write, buffer_bytes).await
}

async fn copy(
    mut from: impl AsyncReadRent,
    mut to: impl AsyncWriteRent,
    buffer_bytes: usize,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(buffer_bytes);
    loop {
        let (count, filled) = from.read(buffer).await;
        if count? == 0 {
            return to.shutdown().await;
        }
        let (written, emptied) = to.write_all(filled).await;
        written?;
        buffer = emptied;
        buffer.clear();
        debug_assert!(buffer.bytes_total() >= buffer_bytes, "the whole buffer is there for the next read");
    }
}
