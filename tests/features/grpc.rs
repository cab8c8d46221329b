//! gRPC through the gateway, with a client and a service of tonic: all four kinds of calls, deadlines, statuses.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use http::uri::PathAndQuery;
use prost::bytes::{Buf, BufMut};
use tokio_stream::Stream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{BoxFuture, Service, tokio_stream},
    server::NamedService,
    transport::{Channel, Endpoint, Server},
};

use crate::harness::{
    Gateway, Upstream,
    http2::{Http2, Http2Service},
};

/// Messages are bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining()).to_vec()))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

/// The service: every call takes a stream of messages and gives one.
#[derive(Clone)]
struct Calls;

impl NamedService for Calls {
    const NAME: &'static str = "test.Calls";
}

impl Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = Call(request.uri().path().rsplit('/').next().unwrap_or_default().to_owned());
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).streaming(call, request).await) })
    }
}

struct Call(String);

impl Service<Request<Streaming<Vec<u8>>>> for Call {
    type Response = Response<Messages>;
    type Error = Status;
    type Future = BoxFuture<Response<Messages>, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        let name = self.0.clone();
        Box::pin(async move {
            let mut messages = request.into_inner();
            let answers: Messages = match &*name {
                // As they come.
                "Echo" => Box::pin(messages),
                // One for all.
                "Join" => {
                    let mut all = Vec::new();
                    while let Some(message) = messages.message().await? {
                        all.extend(message);
                    }
                    Box::pin(tokio_stream::once(Ok(all)))
                }
                // Three for one.
                "Thrice" => {
                    let message = messages.message().await?.unwrap_or_default();
                    Box::pin(tokio_stream::iter(vec![Ok(message.clone()), Ok(message.clone()), Ok(message)]))
                }
                "Half" => Box::pin(tokio_stream::iter(vec![
                    Ok(b"half".to_vec()),
                    Err(Status::data_loss("no more")),
                ])),
                _ => return Err(Status::not_found("no such 100 % thing")),
            };
            Ok(Response::new(answers))
        })
    }
}

/// Starts the service. It lives as long as the test's process.
fn service() -> SocketAddr {
    let (say, said) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            say.send(listener.local_addr().expect("it is bound")).expect("who asked is there");
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let _ = Server::builder().add_service(Calls).serve_with_incoming(incoming).await;
        });
    });
    said.recv_timeout(Duration::from_secs(10)).expect("it listens")
}

/// Runs `calls` with a client of the gateway.
fn with_client<F: Future<Output = ()>>(gateway: &Gateway, calls: impl FnOnce(Grpc<Channel>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address = gateway.address();
    runtime.block_on(async move {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.connect().await.expect("the gateway speaks HTTP/2");
        let mut client = Grpc::new(channel);
        client.ready().await.expect("the connection stands");
        tokio::time::timeout(crate::harness::PATIENCE, calls(client)).await.expect("it ends in time");
    });
}

fn path(name: &str) -> PathAndQuery {
    PathAndQuery::try_from(format!("/test.Calls/{name}")).expect("a path")
}

fn messages(list: &[&str]) -> tokio_stream::Iter<std::vec::IntoIter<Vec<u8>>> {
    tokio_stream::iter(list.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>())
}

async fn all(mut answers: Streaming<Vec<u8>>) -> Result<Vec<String>, Status> {
    let mut texts = Vec::new();
    while let Some(answer) = answers.message().await? {
        texts.push(String::from_utf8(answer).expect("text was sent"));
    }
    Ok(texts)
}

fn before(address: SocketAddr, more: &str) -> Gateway {
    Gateway::start(format!("[routes]\n\"/\" = {{ to = \"h2://{address}\"{more} }}\n"))
}

#[test]
fn all_four_kinds_of_calls_go_through() {
    let gateway = before(service(), "");
    with_client(&gateway, |mut client| async move {
        let unary = client.unary(Request::new(b"one".to_vec()), path("Join"), Raw).await.unwrap();
        assert_eq!(unary.into_inner(), b"one");

        client.ready().await.unwrap();
        let joined =
            client.client_streaming(Request::new(messages(&["a", "b", "c"])), path("Join"), Raw).await;
        assert_eq!(joined.unwrap().into_inner(), b"abc");

        client.ready().await.unwrap();
        let thrice = client.server_streaming(Request::new(b"x".to_vec()), path("Thrice"), Raw).await.unwrap();
        assert_eq!(all(thrice.into_inner()).await.unwrap(), ["x", "x", "x"]);

        client.ready().await.unwrap();
        let echoed = client.streaming(Request::new(messages(&["a", "b"])), path("Echo"), Raw).await.unwrap();
        assert_eq!(all(echoed.into_inner()).await.unwrap(), ["a", "b"]);
    });
}

#[test]
fn a_conversation_goes_back_and_forth() {
    let gateway = before(service(), "");
    with_client(&gateway, |mut client| async move {
        let (say, said) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
        let said = tokio_stream::wrappers::ReceiverStream::new(said);
        let answers = client.streaming(Request::new(said), path("Echo"), Raw).await.unwrap();
        let mut answers = answers.into_inner();
        for number in 0..20 {
            let text = number.to_string().into_bytes();
            say.send(text.clone()).await.unwrap();
            assert_eq!(answers.message().await.unwrap(), Some(text));
        }
        drop(say);
        assert_eq!(answers.message().await.unwrap(), None);
    });
}

#[test]
fn a_status_comes_through_with_and_without_messages_before_it() {
    let gateway = before(service(), "");
    with_client(&gateway, |mut client| async move {
        let missing =
            client.unary::<_, Vec<u8>, _>(Request::new(vec![]), path("None"), Raw).await.unwrap_err();
        assert_eq!((missing.code(), missing.message()), (Code::NotFound, "no such 100 % thing"));

        client.ready().await.unwrap();
        let half = client.server_streaming(Request::new(vec![]), path("Half"), Raw).await.unwrap();
        let mut half = half.into_inner();
        assert_eq!(half.message().await.unwrap(), Some(b"half".to_vec()));
        let lost = half.message().await.unwrap_err();
        assert_eq!((lost.code(), lost.message()), (Code::DataLoss, "no more"));
    });
}

#[test]
fn the_callers_deadline_is_kept() {
    // Neither side looks at the deadline itself, as tonic's do.
    let silent = Http2Service::start(|request, respond| async move {
        let _held = (request, respond);
        std::future::pending().await
    });
    let gateway = before(silent.address, "");
    let request = http::Request::post("http://test/test.Calls/Slow")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "300m")
        .body(())
        .unwrap();
    let reply = Http2::connect(gateway.address()).send(request, &[0; 5]);
    assert_eq!((reply.status, reply.header("grpc-status")), (200, Some("4")));
    assert!(gateway.log_line("upstream_timeout").contains("504"));
}

#[test]
fn the_gateways_own_failures_are_statuses() {
    let nobody = Upstream::refusing();
    let gateway = Gateway::start(format!("[routes]\n\"/test.Calls/Join\" = \"h2://{nobody}\"\n"));
    with_client(&gateway, |mut client| async move {
        let refused =
            client.unary::<_, Vec<u8>, _>(Request::new(vec![]), path("Join"), Raw).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");

        client.ready().await.unwrap();
        let missing =
            client.unary::<_, Vec<u8>, _>(Request::new(vec![]), path("Other"), Raw).await.unwrap_err();
        assert_eq!(
            (missing.code(), missing.message()),
            (Code::Unimplemented, "No route matches this host and path.")
        );
    });
}
