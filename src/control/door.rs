//! Who may do what at the admin port: metrics and health are for everybody who reaches it, the API for who has the token in
//! `state/admin.token`, or may use the socket `state/admin.sock`.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    net::IpAddr,
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
        net::UnixListener,
    },
    path::Path,
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

use super::admin::problem;

/// What is open without a token, whatever host it is asked by: it is what monitoring reads.
const OPEN: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

/// How a request came.
#[derive(Clone)]
pub(super) enum Door {
    /// Over the network, loopback most often; `None` where no token could be kept, and then the API is closed.
    Port(Option<Arc<str>>),
    /// Over the socket, which only its owner may use.
    Socket,
}

/// Lets a request in, or says why not.
pub(super) async fn pass(State(door): State<Door>, request: Request, next: Next) -> Response {
    match refuse(&door, &request) {
        Some(response) => response,
        None => next.run(request).await,
    }
}

fn refuse(door: &Door, request: &Request) -> Option<Response> {
    let Door::Port(token) = door else { return None };
    let path = request.uri().path();
    if OPEN.contains(&path) {
        return None;
    }
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !text(header::HOST).is_some_and(is_own_host) {
        // A page of somebody else can make its own name stand for this address (DNS rebinding), but not an address.
        let detail = "ask by address, or as localhost";
        return Some(problem(StatusCode::MISDIRECTED_REQUEST, detail));
    }
    let sent = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let is_known = token.as_ref().zip(sent).is_some_and(|(token, sent)| is_same(token, sent));
    if path.starts_with("/api/") && !is_known {
        let detail = "this needs the token in `state`/admin.token: Authorization: Bearer …";
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return Some((challenge, problem(StatusCode::UNAUTHORIZED, detail)).into_response());
    }
    None
}

/// Whether a `Host` is an address, or the name that always means this machine.
fn is_own_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// In a time that does not say how much of it is right.
fn is_same(token: &str, sent: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
    hmac::verify(&key, sent.as_bytes(), hmac::sign(&key, token.as_bytes()).as_ref()).is_ok()
}

/// The token below `state`; made where there is none.
pub(super) fn token(state: &Path) -> io::Result<Arc<str>> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    let path = state.join("admin.token");
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    let fresh = URL_SAFE_NO_PAD.encode(bytes);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => file.write_all(format!("{fresh}\n").as_bytes())?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut text = String::new();
            fs::File::open(&path)?.take(4096).read_to_string(&mut text)?;
            let text = text.trim();
            // One that is empty would let everybody in.
            if text.len() < 16 {
                return Err(io::Error::other("admin.token is shorter than 16 characters; remove it"));
            }
            return Ok(text.into());
        }
        Err(error) => return Err(error),
    }
    Ok(fresh.into())
}

/// The socket below `state`, for its owner. A gateway that starts takes the place of one before it.
pub(super) fn socket(state: &Path) -> io::Result<UnixListener> {
    let path = state.join("admin.sock");
    let fresh = state.join(format!("admin.{}.sock", std::process::id()));
    // Left by one that was killed.
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, &path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_hosts_of_ours() {
        for (host, expected) in [
            ("127.0.0.1:9180", true),
            ("10.0.0.7", true),
            ("[::1]:9180", true),
            ("localhost:9180", true),
            ("LocalHost", true),
            ("evil.example.com:9180", false),
            ("127.0.0.1.evil.example.com", false),
            ("localhost.evil.example.com", false),
            ("[evil]:1", false),
            ("", false),
        ] {
            assert_eq!(is_own_host(host), expected, "{host}");
        }
    }

    #[test]
    fn a_token_is_made_once_for_its_owner_only() {
        let state = std::env::temp_dir().join(format!("coregate-door-{}", std::process::id()));
        let _ = fs::remove_dir_all(&state);
        let made = token(&state).unwrap();
        assert_eq!((made.len(), token(&state).unwrap()), (43, Arc::clone(&made)));
        let mode = |name: &str| fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
        let _listener = socket(&state).unwrap();
        let _again = socket(&state).unwrap();
        assert_eq!((mode("admin.token"), mode("admin.sock")), (0o600, 0o600));
        assert!(is_same(&made, &made) && !is_same(&made, "") && !is_same(&made, &made[1..]));
        fs::write(state.join("admin.token"), "\n").unwrap();
        assert!(token(&state).is_err());
        fs::remove_dir_all(state).unwrap();
    }
}
