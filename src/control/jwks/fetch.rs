//! One fetch: the issuer's metadata if need be, then its keys.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Uri,
    body::Bytes,
    header::{AGE, CACHE_CONTROL, HeaderMap},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::timeout;

use crate::{
    auth::{Algs, DOCUMENT_BYTES_MAX, KeySet},
    config::KeyUrl,
    tls::{Verify, client_config},
};

/// For one document, from the connection to its last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Fetched {
    pub(super) keys: KeySet,
    /// For how long the answer says it is fresh; `None` if it does not.
    pub(super) good_for: Option<Duration>,
}

/// An HTTP client that believes whom the issuer's configuration says.
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Fetcher {
    pub(super) async fn new(verify: &Verify) -> Result<Self, String> {
        let verify = verify.clone();
        // Reads some hundred files where the machine's authorities are wanted.
        let config = tokio::task::spawn_blocking(move || {
            let system = match verify {
                Verify::BySystem => rustls_native_certs::load_native_certs().certs,
                Verify::By(_) | Verify::Not => Vec::new(),
            };
            client_config(&verify, &system)
        });
        let config = config.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let mut config = (*config).clone();
        // The connector sets it.
        config.alpn_protocols.clear();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client })
    }

    /// The body of a 200, and how long it is fresh. Redirects are not followed: keys come from where the operator said.
    async fn get(&self, url: &str) -> Result<(Bytes, Option<Duration>), String> {
        let url: Uri = url.parse().map_err(|_| format!("{url} is no URL"))?;
        let whole = async {
            let response = self.client.get(url).await.map_err(|error| innermost(&error))?;
            if response.status() != hyper::StatusCode::OK {
                return Err(format!("the answer is {}", response.status()));
            }
            let good_for = freshness(response.headers());
            let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX).collect().await;
            let body = body.map_err(|error| innermost(&*error))?;
            Ok((body.to_bytes(), good_for))
        };
        let late = |_| format!("no answer within {} s", FETCH_TIMEOUT.as_secs());
        timeout(FETCH_TIMEOUT, whole).await.map_err(late)?
    }
}

/// Fetches the keys. The error says why there are none.
pub(super) async fn fetch(fetcher: &Fetcher, from: &KeyUrl) -> Result<Fetched, String> {
    let found;
    let url = if from.is_issuer {
        // OpenID Connect Discovery 1.0 §4.1: a slash at the end of the issuer is removed.
        let metadata = format!("{}/.well-known/openid-configuration", from.url.trim_end_matches('/'));
        let (document, _) = fetcher.get(&metadata).await.map_err(|why| format!("{metadata}: {why}"))?;
        found = jwks_uri(&document, &from.url).map_err(|why| format!("{metadata}: {why}"))?;
        &found
    } else {
        &*from.url
    };
    let (document, good_for) = fetcher.get(url).await.map_err(|why| format!("{url}: {why}"))?;
    // Never a secret from a URL, whatever the document has.
    let keys = KeySet::from_jwks(&document, Algs::ASYMMETRIC).map_err(|bad| format!("{url} {bad}"))?;
    Ok(Fetched { keys, good_for })
}

/// Where an issuer's metadata say its keys are. They must be that issuer's (OpenID Connect Discovery 1.0 §4.3), and not be had in an
/// easier way than the metadata themselves.
fn jwks_uri(document: &[u8], issuer: &str) -> Result<String, String> {
    let metadata: serde_json::Value =
        serde_json::from_slice(document).map_err(|_| "the metadata are no JSON".to_owned())?;
    let text = |name: &str| metadata.get(name).and_then(serde_json::Value::as_str);
    match text("issuer") {
        Some(found) if found == issuer => {}
        Some(found) => return Err(format!("these are the metadata of {found:.200}")),
        None => return Err("the metadata have no `issuer`".to_owned()),
    }
    let url = text("jwks_uri").ok_or("the metadata have no `jwks_uri`")?;
    let downgraded = issuer.starts_with("https://") && !url.starts_with("https://");
    if downgraded { Err(format!("`jwks_uri` {url:.200} is not https")) } else { Ok(url.to_owned()) }
}

/// What `Cache-Control` and `Age` leave (RFC 9111 §4.2).
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let mut good_for = None;
    for directive in text(CACHE_CONTROL).flat_map(|value| value.split(',').map(str::trim)) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if name.eq_ignore_ascii_case("max-age") {
            good_for = value.trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    let age =
        text(AGE).next().and_then(|age| age.trim().parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    good_for.map(|good_for| good_for.saturating_sub(age))
}

/// The cause at the end of the chain: that is the one that says something.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_must_be_the_issuers_own() {
        let check = |document: &str, expected: Result<&str, &str>| {
            let found = jwks_uri(document.as_bytes(), "https://a.example/");
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{document}");
        };
        check(
            r#"{"issuer":"https://a.example/","jwks_uri":"https://k.example/j"}"#,
            Ok("https://k.example/j"),
        );
        check(r#"{"issuer":"https://a.example"}"#, Err("these are the metadata of https://a.example"));
        check(r#"{"jwks_uri":"https://k.example/j"}"#, Err("the metadata have no `issuer`"));
        check(r#"{"issuer":"https://a.example/"}"#, Err("the metadata have no `jwks_uri`"));
        check(
            r#"{"issuer":"https://a.example/","jwks_uri":"http://k.example/j"}"#,
            Err("`jwks_uri` http://k.example/j is not https"),
        );
        check("x", Err("the metadata are no JSON"));
    }

    #[test]
    fn a_set_is_good_for_as_long_as_it_says() {
        let check = |fields: &[(&'static str, &str)], expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(freshness(&headers), expected.map(Duration::from_secs), "{fields:?}");
        };
        check(&[], None);
        check(&[("cache-control", "public, max-age=300")], Some(300));
        check(&[("cache-control", "public"), ("cache-control", "MAX-AGE=\"7\"")], Some(7));
        check(&[("cache-control", "max-age=300"), ("age", "100")], Some(200));
        check(&[("cache-control", "max-age=3"), ("age", "100")], Some(0));
        check(&[("cache-control", "no-store, max-age=300")], Some(0));
        check(&[("cache-control", "max-age=soon")], None);
    }
}
