//! HTTP/2 on the other side of the gateway, by the `h2` crate.

use std::{future::Future, net::SocketAddr, sync::mpsc, thread, time::Duration};

use h2::{
    RecvStream, SendStream,
    client::{self, SendRequest},
    server::{self, SendResponse},
};
use http::{HeaderMap, Request, Response};
pub use prost::bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::LocalSet,
    time::timeout,
};

use super::wait::PATIENCE;

/// A client with one connection. What it waits for comes within [`PATIENCE`].
pub struct Http2 {
    runtime: Runtime,
    local: LocalSet,
    pub requests: SendRequest<Bytes>,
}

/// A whole reply.
#[derive(Debug)]
pub struct Http2Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Http2Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get(name)?.to_str().ok()
    }
}

impl Http2 {
    /// With prior knowledge, on a plain connection.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::with(address, client::Builder::new())
    }

    #[track_caller]
    pub fn with(address: SocketAddr, builder: client::Builder) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = LocalSet::new();
        let requests = local.block_on(&runtime, async {
            let stream = TcpStream::connect(address).await.expect("somebody listens");
            let (requests, connection) = builder.handshake(stream).await.expect("HTTP/2 is spoken");
            tokio::task::spawn_local(async move {
                let _ = connection.await;
            });
            requests
        });
        Self { runtime, local, requests }
    }

    /// Runs `future`, with the connection going on meanwhile.
    #[track_caller]
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let within = async { timeout(PATIENCE, future).await };
        self.local.block_on(&self.runtime, within).expect("it comes in time")
    }

    /// Begins a request, with a body to come unless `ends`.
    #[track_caller]
    pub fn begin(&self, request: Request<()>, ends: bool) -> (client::ResponseFuture, SendStream<Bytes>) {
        let mut requests = self.requests.clone();
        self.wait(async {
            std::future::poll_fn(|cx| requests.poll_ready(cx)).await.expect("the connection stands");
            requests.send_request(request, ends).expect("the request is one")
        })
    }

    /// The reply to a request with this body.
    #[track_caller]
    pub fn send(&self, request: Request<()>, body: &[u8]) -> Http2Reply {
        self.try_send(request, body).expect("a whole reply comes")
    }

    #[track_caller]
    pub fn try_send(&self, request: Request<()>, body: &[u8]) -> Result<Http2Reply, h2::Error> {
        let (response, mut stream) = self.begin(request, body.is_empty());
        if !body.is_empty() {
            let _ = stream.send_data(Bytes::copy_from_slice(body), true);
        }
        self.wait(whole(response))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Http2Reply {
        self.send(get(path), b"")
    }
}

/// A GET for a host named `test`.
pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://test{path}")).body(()).expect("a request")
}

/// A POST for a host named `test`.
pub fn post(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}")).body(()).expect("a request")
}

/// Waits for a response to its end.
pub async fn whole(response: client::ResponseFuture) -> Result<Http2Reply, h2::Error> {
    let response = response.await?;
    let (head, mut stream) = response.into_parts();
    let (body, trailers) = drained(&mut stream).await?;
    Ok(Http2Reply { status: head.status.as_u16(), headers: head.headers, body, trailers })
}

/// Reads a body to its end, taking it as it comes.
pub async fn drained(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        body.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len())?;
    }
    Ok((body, stream.trailers().await?))
}

/// A service that speaks HTTP/2. It ends when dropped.
pub struct Http2Service {
    pub address: SocketAddr,
    _alive: tokio::sync::oneshot::Sender<()>,
    /// One message for every connection that was accepted.
    pub accepted: mpsc::Receiver<()>,
}

impl Http2Service {
    /// Answers every request with `answer`.
    pub fn start<F>(answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::with(server::Builder::new(), answer)
    }

    /// Says goodbye on every connection once it has taken this many requests.
    pub fn leaving_after<F>(
        requests: usize,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::run(server::Builder::new(), requests, answer)
    }

    pub fn with<F>(
        builder: server::Builder,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::run(builder, usize::MAX, answer)
    }

    fn run<F>(
        builder: server::Builder,
        requests: usize,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let (alive, ended) = tokio::sync::oneshot::channel();
        let (say, said) = mpsc::channel();
        let (accepts, accepted) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let answer = std::rc::Rc::new(answer);
            LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
                say.send(listener.local_addr().expect("it is bound")).expect("who asked is there");
                tokio::task::spawn_local(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        let _ = accepts.send(());
                        let (answer, builder) = (std::rc::Rc::clone(&answer), builder.clone());
                        tokio::task::spawn_local(async move {
                            let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
                                return;
                            };
                            let mut taken = 0;
                            while let Some(Ok((request, respond))) = connection.accept().await {
                                tokio::task::spawn_local(answer(request, respond));
                                taken += 1;
                                if taken == requests {
                                    connection.graceful_shutdown();
                                }
                            }
                        });
                    }
                });
                let _ = ended.await;
            });
        });
        let address = said.recv_timeout(Duration::from_secs(10)).expect("it listens");
        Self { address, _alive: alive, accepted }
    }
}

/// Answers with a status and a body.
pub fn answer(mut respond: SendResponse<Bytes>, status: u16, body: &[u8]) {
    let response = Response::builder().status(status).body(()).expect("a response");
    // The other side may have gone.
    if let Ok(mut stream) = respond.send_response(response, body.is_empty())
        && !body.is_empty()
    {
        let _ = stream.send_data(Bytes::copy_from_slice(body), true);
    }
}
