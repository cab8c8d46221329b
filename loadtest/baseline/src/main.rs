//! A plain HTTP/1.1 proxy on monoio and monoio-http: what a general-purpose codec costs on the gateway's own runtime.
//!
//! `baseline LISTEN UPSTREAM…` does what the comparison asks of everybody: keep-alive on both sides, upstreams in
//! turn, `Host` passed on, `X-Forwarded-For` added, no log. It must not carry strangers' traffic: its codec accepts
//! framing that others read differently, and one long header name aborts it.

use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

use http::HeaderValue;
use http::header::HeaderName;
use monoio::io::sink::SinkExt as _;
use monoio::io::stream::Stream as _;
use monoio::net::{TcpListener, TcpStream};
use monoio_http::common::error::HttpError;
use monoio_http::h1::codec::decoder::FillPayload as _;
use monoio_http::h1::codec::{ClientCodec, ServerCodec};

/// Idle connections kept to each upstream, as in nginx's `keepalive 64`.
const IDLE_MAX: usize = 64;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The upstreams, and connections to them that wait for work.
struct Upstreams {
    addresses: Vec<SocketAddr>,
    idle: Vec<RefCell<Vec<ClientCodec<TcpStream>>>>,
    next: Cell<usize>,
}

fn main() -> ExitCode {
    let addresses: Result<Vec<SocketAddr>, _> =
        std::env::args().skip(1).map(|argument| argument.parse()).collect();
    let Some((listen, addresses)) = addresses.ok().and_then(|all| Some((*all.first()?, all[1..].to_vec())))
    else {
        return fail("arguments: LISTEN UPSTREAM…, all of them as 127.0.0.1:8080");
    };
    if addresses.is_empty() {
        return fail("no upstream");
    }
    // The flags that the gateway uses: the codec is to be compared, not they.
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().uring_builder(ring).build();
    match runtime.and_then(|mut runtime| runtime.block_on(serve(listen, addresses))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    // Nobody may be left to read it.
    let _ = writeln!(io::stderr(), "baseline: {why}");
    ExitCode::FAILURE
}

async fn serve(listen: SocketAddr, addresses: Vec<SocketAddr>) -> io::Result<()> {
    let idle = addresses.iter().map(|_| RefCell::default()).collect();
    let upstreams = Rc::new(Upstreams { addresses, idle, next: Cell::new(0) });
    let listener = TcpListener::bind(listen)?;
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let upstreams = Rc::clone(&upstreams);
        monoio::spawn(async move {
            // Whatever broke, this connection is over; there is nobody to tell.
            let _ = converse(stream, peer, &upstreams).await;
        });
    }
}

/// Serves the requests of one connection.
async fn converse(stream: TcpStream, peer: SocketAddr, upstreams: &Upstreams) -> Result<(), HttpError> {
    let mut client = ServerCodec::new(stream);
    let address = HeaderValue::try_from(peer.ip().to_string()).expect("an address is a header value");
    while let Some(request) = client.next().await {
        let mut request = request?;
        // The body comes through a channel that the decoder fills.
        client.fill_payload().await?;
        request.headers_mut().append(X_FORWARDED_FOR, address.clone());

        let turn = upstreams.next.get();
        upstreams.next.set((turn + 1) % upstreams.addresses.len());
        // Taken out first: the borrow must not last over the wait below.
        let kept = upstreams.idle[turn].borrow_mut().pop();
        let mut upstream = match kept {
            Some(upstream) => upstream,
            None => {
                let stream = TcpStream::connect(upstreams.addresses[turn]).await?;
                stream.set_nodelay(true)?;
                ClientCodec::new(stream)
            }
        };
        upstream.send_and_flush(request).await?;
        let Some(response) = upstream.next().await else { return Ok(()) };
        let (head, body) = response?.into_parts();
        let response = http::Response::from_parts(head, body.with_io(&mut upstream));
        client.send_and_flush(response).await?;

        let mut idle = upstreams.idle[turn].borrow_mut();
        if idle.len() < IDLE_MAX {
            idle.push(upstream);
        }
    }
    Ok(())
}
