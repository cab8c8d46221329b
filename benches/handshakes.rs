//! What a client that keeps its connection notices of a storm of TLS handshakes, with and without the bound on handshakes in one
//! turn of a shard (`handshakes_per_turn`).
//!
//! One shard serves one client, request after request. Meanwhile handshakes come 64 at once, as many bursts a second as make
//! 2,000: each is a ClientHello whose answer (key agreement and signature) nobody waits for, so that the storm itself costs little.
//! `cargo bench --bench handshakes` prints three rounds of each in turns.

#![expect(clippy::print_stdout, reason = "the table is for whoever runs it")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use coregate::{Gateway, Options, Source};
use hdrhistogram::Histogram;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

const BURST: u64 = 64;
const PER_SECOND: u64 = 2000;
const ROUND: Duration = Duration::from_secs(3);
const UNBOUNDED: u32 = 1_000_000;

fn main() {
    println!("bound      handshakes/s   requests   p50 µs   p99 µs   p99.9 µs   max µs");
    for _ in 0..3 {
        for bound in [4, UNBOUNDED] {
            round(bound);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn round(bound: u32) {
    let state = std::env::temp_dir().join(format!("coregate-handshakes-{}", std::process::id()));
    let text = format!(
        "listen = \"https://127.0.0.1:0\"\nadmin = false\nshards = 1\nstate = \"{}\"\nlog = {{ access = false }}\n\
         [defaults]\nhandshakes_per_turn = {bound}\n[routes]\n\"/\" = {{ status = 200, body = \"x\" }}\n",
        state.display()
    );
    let gateway = Gateway::start(Options::new(Source::Text(text))).expect("the configuration is good");
    let address = gateway.addresses()[0].1.expect("a TCP listener");
    let config = Arc::new(client_config());
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let storm = {
        let (config, stop, sent) = (Arc::clone(&config), Arc::clone(&stop), Arc::clone(&sent));
        thread::spawn(move || storm(address, &hello(&config), &stop, &sent))
    };
    let begun = now();
    let times = honest(address, &config, begun + ROUND);
    let took = begun.elapsed();
    stop.store(true, Relaxed);
    storm.join().expect("the storm ends");
    gateway.stop();
    drop(std::fs::remove_dir_all(&state));

    let bound = if bound == UNBOUNDED { "none".to_owned() } else { bound.to_string() };
    println!(
        "{bound:<10} {:>12.0} {:>10} {:>8} {:>8} {:>10} {:>8}",
        sent.load(Relaxed) as f64 / took.as_secs_f64(),
        times.len(),
        times.value_at_quantile(0.5),
        times.value_at_quantile(0.99),
        times.value_at_quantile(0.999),
        times.max()
    );
}

/// Opens connections in bursts and says hello on all of them at once.
fn storm(address: SocketAddr, hello: &[u8], stop: &AtomicBool, sent: &AtomicU64) {
    let every = Duration::from_micros(1_000_000 * BURST / PER_SECOND);
    let mut next = now();
    let mut last = Vec::new();
    while !stop.load(Relaxed) {
        let burst: Vec<_> = (0..BURST).filter_map(|_| TcpStream::connect(address).ok()).collect();
        for mut stream in &burst {
            if stream.write_all(hello).is_ok() {
                sent.fetch_add(1, Relaxed);
            }
        }
        // Those of the last one have been answered, or will not be.
        last = burst;
        next += every;
        thread::park_timeout(next.saturating_duration_since(now()));
    }
    drop(last);
}

/// The times of one client's requests, each sent a millisecond after the reply to the last.
fn honest(address: SocketAddr, config: &Arc<ClientConfig>, until: Instant) -> Histogram<u32> {
    let connection = connection(config);
    let socket = TcpStream::connect(address).expect("the gateway listens");
    socket.set_nodelay(true).expect("a TCP socket");
    let mut stream = StreamOwned::new(connection, socket);
    let mut times = Histogram::new(2).expect("2 digits are within what a histogram has");
    let mut reply = [0; 4096];
    while now() < until {
        let begun = now();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("the gateway reads");
        // The reply is short, and one record.
        assert!(stream.read(&mut reply).expect("the gateway answers") > 0);
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        times.record(took.min(60_000_000)).expect("the histogram grows");
        thread::park_timeout(Duration::from_millis(1));
    }
    times
}

fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut hello = Vec::new();
    connection(config).write_tls(&mut hello).expect("memory takes all");
    hello
}

fn connection(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::clone(config), name).expect("a good configuration")
}

fn client_config() -> ClientConfig {
    let provider = rustls::crypto::ring::default_provider();
    let believing = Arc::new(Believing(provider.signature_verification_algorithms));
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(believing)
        .with_no_client_auth()
}

#[expect(clippy::disallowed_methods, reason = "the passing of time is what is measured")]
fn now() -> Instant {
    Instant::now()
}

/// Takes the development certificate for good.
#[derive(Debug)]
struct Believing(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
