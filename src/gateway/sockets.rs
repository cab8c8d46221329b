//! Listening sockets: opened here, or taken over from the process before or from systemd.

use std::{env, fmt::Write, net::SocketAddr, os::fd::OwnedFd};

use listenfd::ListenFd;

use super::StartError;
use crate::{
    config::{Address, Config, Listen},
    runtime::{Others, Socket},
};

/// Sockets that listened before this process was there.
#[derive(Default)]
pub struct Inherited(Vec<Found>);

struct Found {
    socket: Socket,
    by: By,
}

/// Who passed a socket on.
enum By {
    /// Under its name in `LISTEN_FDNAMES`.
    Systemd(String),
    /// What it was there, and the name of the listener.
    Predecessor(Seat, String),
}

/// Which socket of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// Index into the configuration's listeners.
    Listener(usize),
    Admin,
}

/// What a successor took.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) listeners: Vec<usize>,
    pub(super) admin: bool,
}

/// All that listens, ready for the shards.
pub(super) struct Opened {
    /// By listener, then by shard.
    pub(super) listeners: Vec<Vec<Vec<Socket>>>,
    pub(super) admin: Option<Socket>,
    pub(super) held: Held,
    pub(super) taken: Taken,
}

/// The same sockets once more, to be handed over.
pub(super) struct Held {
    /// With the name as it is written.
    pub(super) listeners: Vec<(String, Vec<Socket>)>,
    pub(super) admin: Option<Socket>,
}

impl Inherited {
    /// What systemd passes (sd_listen_fds(3)). The error is for the operator.
    pub(super) fn from_systemd() -> Result<Self, String> {
        let own = std::process::id().to_string();
        if env::var("LISTEN_PID").ok().as_deref() != Some(&*own) {
            return Ok(Self::default());
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut descriptors = ListenFd::from_env();
        let mut found = Vec::with_capacity(descriptors.len());
        for number in 0..descriptors.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let bad = |error| format!("systemd passes descriptor {} ({name}): {error}", number + 3);
            let descriptor: OwnedFd = match descriptors.take_tcp_listener(number) {
                Ok(Some(listener)) => listener.into(),
                Ok(None) => continue,
                Err(_) => match descriptors.take_unix_listener(number) {
                    Ok(Some(listener)) => listener.into(),
                    Ok(None) => continue,
                    Err(_) => return Err(bad("it is not a listening stream socket".to_owned())),
                },
            };
            let socket = Socket::inherit(descriptor, Others::there());
            let socket = socket.map_err(|error| bad(error.to_string()))?;
            found.push(Found { socket, by: By::Systemd(name) });
        }
        Ok(Self(found))
    }

    /// One socket of the process before.
    pub(super) fn push(&mut self, seat: Seat, name: &str, socket: Socket) {
        self.0.push(Found { socket, by: By::Predecessor(seat, name.to_owned()) });
    }

    /// The sockets of `address`, which this has no longer. `name` is that of the listener; the admin port has none.
    fn take(&mut self, address: &Address, name: &str, taken: &mut Taken) -> Vec<Socket> {
        let is_wanted = |found: &mut Found| match &found.by {
            By::Systemd(_) => same(address, &found.socket),
            // Port 0, and [::] on a host without IPv6, are not what is bound.
            By::Predecessor(_, was) => {
                same(address, &found.socket) || was == name && similar(address, &found.socket)
            }
        };
        let wanted = self.0.extract_if(.., is_wanted);
        wanted
            .map(|Found { socket, by }| {
                match by {
                    By::Predecessor(Seat::Admin, _) => taken.admin = true,
                    By::Predecessor(Seat::Listener(number), _) => taken.listeners.push(number),
                    By::Systemd(_) => {}
                }
                socket
            })
            .collect()
    }

    /// What systemd passes and nobody wants. A predecessor's sockets that are not wanted are closed by it.
    fn unwanted(&self, config: &Config) -> Option<String> {
        let mut text = String::new();
        for found in &self.0 {
            let By::Systemd(name) = &found.by else { continue };
            let place = match (found.socket.address(), found.socket.path()) {
                (Some(address), _) => address.to_string(),
                (None, Some(path)) => format!("unix:{}", path.display()),
                (None, None) => "an abstract Unix socket".to_owned(),
            };
            let separator = if text.is_empty() { "" } else { "\n" };
            // Writing into a string cannot fail.
            let _ = write!(
                text,
                "{separator}systemd passes a socket for {place} ({name}) that no listener wants"
            );
        }
        if text.is_empty() {
            return None;
        }
        let written: Vec<_> = config.listen.iter().map(|listen| shown(&listen.address)).collect();
        let _ = write!(
            text,
            "\n`listen` has {}: write the same address there and in the socket unit (ListenStream=)",
            written.join(", ")
        );
        Some(text)
    }
}

fn shown(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Name(name, port) => format!("{name}:{port}"),
    }
}

fn same(address: &Address, socket: &Socket) -> bool {
    match address {
        Address::Tcp(address) => socket.address() == Some(*address),
        Address::Unix(path) => socket.path().as_ref() == Some(path),
        Address::Name(..) => false,
    }
}

fn similar(address: &Address, socket: &Socket) -> bool {
    let (Address::Tcp(address), Some(bound)) = (address, socket.address()) else { return false };
    let port = address.port() == 0 || address.port() == bound.port();
    let both_any = address.ip().is_unspecified() && bound.ip().is_unspecified();
    port && (address.ip() == bound.ip() || both_any)
}

/// Takes what is inherited and opens the rest, for `shards` of them.
pub(super) fn open(config: &Config, mut inherited: Inherited, shards: usize) -> Result<Opened, StartError> {
    let mut taken = Taken::default();
    let mut listeners = Vec::with_capacity(config.listen.len());
    for listen in &config.listen {
        let found = inherited.take(&listen.address, &listen.name, &mut taken);
        let dealt = match found.is_empty() {
            true => {
                bind(listen, shards).map(|sockets| sockets.into_iter().map(|socket| vec![socket]).collect())
            }
            false => Socket::deal(found, listen.backlog, shards),
        };
        listeners.push(dealt.map_err(|error| StartError::Bind { address: named(listen), error })?);
    }
    let admin = match config.admin {
        None => None,
        Some(address) => {
            let found = inherited.take(&Address::Tcp(address), "", &mut taken).pop();
            Some(found.map_or_else(|| bind_admin(address), Ok)?)
        }
    };
    if let Some(problem) = inherited.unwanted(config) {
        return Err(StartError::Inherited(problem));
    }
    let held = hold(config, &listeners, admin.as_ref())
        .map_err(|error| StartError::System { what: "sockets cannot be kept for a successor", error })?;
    Ok(Opened { listeners, admin, held, taken })
}

fn hold(config: &Config, listeners: &[Vec<Vec<Socket>>], admin: Option<&Socket>) -> std::io::Result<Held> {
    let mut held = Held { listeners: Vec::new(), admin: admin.map(Socket::try_clone).transpose()? };
    for (listen, shards) in config.listen.iter().zip(listeners) {
        let sockets: Result<_, _> = shards.iter().flatten().map(Socket::try_clone).collect();
        held.listeners.push((listen.name.to_string(), sockets?));
    }
    Ok(held)
}

/// How messages call a listener.
fn named(listen: &Listen) -> String {
    match &listen.address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) | Address::Name(..) => listen.name.to_string(),
    }
}

fn bind(listen: &Listen, count: usize) -> std::io::Result<Vec<Socket>> {
    match &listen.address {
        Address::Tcp(address) => Socket::bind_tcp(*address, listen.backlog, count),
        Address::Unix(path) => Socket::bind_unix(path, listen.backlog, count),
        Address::Name(..) => unreachable!("config::check resolves no names for listeners"),
    }
}

fn bind_admin(address: SocketAddr) -> Result<Socket, StartError> {
    let bound = std::net::TcpListener::bind(address)
        .and_then(|listener| Socket::inherit(listener.into(), Others::default()));
    bound.map_err(|error| StartError::Bind { address: format!("{address} (admin)"), error })
}
