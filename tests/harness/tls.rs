//! The other end of TLS: an authority of the test's own, and a client that speaks it.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use super::{
    directory::Directory,
    message::{self, Chunked, Extent, Reply},
    wait::PATIENCE,
};

/// An authority that signs certificates, and where its files are.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: Directory,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("there are random numbers");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a key of its own");
        Self { issuer, directory: Directory::new() }
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate with its chain, and its key, for `names`; the first is the subject. Valid up to `year`.
    pub fn issue(&self, names: &[&str], year: i32) -> (String, String) {
        let names_owned: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names_owned).expect("names");
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("there are random numbers");
        let leaf = params.signed_by(&key, &self.issuer).expect("the authority signs");
        (format!("{}{}", leaf.pem(), self.pem()), key.serialize_pem())
    }

    /// Writes a file and gives its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        self.directory.write(name, text)
    }

    /// Writes a certificate and its key for `names`; gives what stands in `[tls]`.
    pub fn site(&self, file: &str, names: &[&str]) -> String {
        let (cert, key) = self.issue(names, 2100);
        self.put(file, &cert, &key)
    }

    pub fn put(&self, file: &str, cert: &str, key: &str) -> String {
        let key = self.file(&format!("{file}.key"), key);
        let cert = self.file(&format!("{file}.pem"), cert);
        format!("cert = \"{}\", key = \"{}\"", cert.display(), key.display())
    }

    /// Replaces a file by what an editor that was interrupted would leave.
    pub fn halve(&self, name: &str) {
        let path = self.directory.path().join(name);
        let text = fs::read_to_string(&path).expect("it was written");
        self.directory.write(name, &text[..text.len() / 2]);
    }

    /// What a client trusts that trusts this authority, and shows no certificate.
    pub fn trust(&self) -> ClientConfig {
        config(self, None, &[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    /// The same, for one version.
    pub fn trust_by(&self, version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
        config(self, None, &[version])
    }

    /// The same, showing a certificate that `by` signed for `name` and that is valid up to `year`.
    pub fn trust_as(&self, by: &Self, name: &str, year: i32) -> ClientConfig {
        let (cert, key) = by.issue(&[name], year);
        config(self, Some((&cert, &key)), &[&rustls::version::TLS13, &rustls::version::TLS12])
    }
}

fn config(
    authority: &Authority,
    own: Option<(&str, &str)>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).expect("an authority's certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(coregate::tls::provider()))
        .with_protocol_versions(versions)
        .expect("versions that are spoken")
        .with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain =
                CertificateDer::pem_slice_iter(cert.as_bytes()).map(|der| der.expect("PEM")).collect();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("the key fits")
        }
    }
}

/// A client over TLS.
pub struct TlsClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl TlsClient {
    /// Connects and completes the handshake. The error is the gateway's alert, or what the client found wrong.
    pub fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Result<Self, String> {
        let socket = TcpStream::connect(address).map_err(|error| error.to_string())?;
        Self::over(socket, name, config)
    }

    /// The same over a connection on which something may have been said already.
    pub fn over(socket: TcpStream, name: &str, config: &Arc<ClientConfig>) -> Result<Self, String> {
        socket.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        socket.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
        let name = ServerName::try_from(name.to_owned()).expect("a name or an address");
        let mut connection = ClientConnection::new(Arc::clone(config), name).expect("a good configuration");
        let mut socket = socket;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(|error| error.to_string())?;
        }
        Ok(Self { stream: StreamOwned::new(connection, socket), buffer: Vec::new() })
    }

    pub fn version(&self) -> ProtocolVersion {
        self.stream.conn.protocol_version().expect("the handshake is complete")
    }

    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate the gateway showed.
    pub fn shown(&self) -> CertificateDer<'static> {
        self.stream.conn.peer_certificates().expect("a server shows one")[0].clone().into_owned()
    }

    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.conn.alpn_protocol()
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.stream.sock
    }

    pub fn connection(&mut self) -> &mut ClientConnection {
        &mut self.stream.conn
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("the gateway takes what is sent");
        self.stream.flush().expect("the gateway takes what is sent");
        self
    }

    /// Says in TLS that nothing more will be sent, and still reads.
    pub fn close(&mut self) -> &mut Self {
        self.stream.conn.send_close_notify();
        self.stream.conn.complete_io(&mut self.stream.sock).expect("the gateway takes what is sent");
        self
    }

    /// The reply to a GET.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).reply()
    }

    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.try_reply().unwrap_or_else(|why| panic!("no whole reply: {why}"))
    }

    /// The reply; the error is how the connection ended first.
    pub fn try_reply(&mut self) -> Result<Reply, String> {
        let length = loop {
            match message::head_length(&self.buffer) {
                Some(length) => break length,
                None if self.more()? => {}
                None => return Err("closed".to_owned()),
            }
        };
        let head: Vec<u8> = self.buffer.drain(..length).collect();
        let ([version, status, reason], headers) = message::head(&head).map_err(|why| why.to_string())?;
        let status = status.parse().map_err(|_| format!("bad status {status}"))?;
        let otherwise = if status == 101 { Extent::Exact(0) } else { Extent::ToClose };
        let extent = message::extent(&headers, otherwise).map_err(|why| why.to_string())?;
        let mut reply = Reply { version, status, reason, headers, ..Reply::default() };
        loop {
            match extent {
                Extent::Exact(length) if self.buffer.len() >= length => {
                    reply.body = self.buffer.drain(..length).collect();
                    return Ok(reply);
                }
                Extent::Chunked => {
                    let read = message::chunked(&self.buffer).map_err(|why| why.to_string())?;
                    if let Chunked::Whole { body, trailers, used } = read {
                        self.buffer.drain(..used);
                        return Ok(Reply { body, trailers, ..reply });
                    }
                }
                Extent::Exact(_) | Extent::ToClose => {}
            }
            if !self.more()? {
                if extent != Extent::ToClose {
                    return Err("closed within the body".to_owned());
                }
                reply.body = std::mem::take(&mut self.buffer);
                return Ok(reply);
            }
        }
    }

    /// Everything up to the end that the gateway says.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.more().unwrap_or_else(|why| panic!("{why} after {} bytes", self.buffer.len())) {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads on. False at the end that the gateway has said; an end it has not said is an error.
    pub fn more(&mut self) -> Result<bool, String> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err("cut off".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
