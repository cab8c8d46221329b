//! What an issuer answers at its paths.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use ring::rand::SystemRandom;
use serde_json::json;

use super::{
    Asked, Document, Refusal,
    form::{Form, wants_text},
    issuer::{Issuer, now},
    keys::{JWKS_SECONDS, KeyFault, Keys},
    password::{PASSWORD_BYTES_MAX, Verdict},
    store::{Grant, Member, Rotation, StoreFault, User},
    token::{self, Claims, Own},
};
use crate::{
    config::issuing::Action,
    observe::{
        event,
        prometheus::{Kind, Page},
    },
};

/// How often what came out.
#[derive(Default)]
pub(super) struct Counters([AtomicU64; OUTCOMES.len()]);

const OUTCOMES: [(&str, &str); 11] = [
    ("login", "ok"),
    ("login", "wrong"),
    ("login", "throttled"),
    ("login", "busy"),
    ("login", "unavailable"),
    ("refresh", "ok"),
    ("refresh", "wrong"),
    ("refresh", "reused"),
    ("refresh", "unavailable"),
    ("logout", "ok"),
    ("logout", "refused"),
];

impl Counters {
    fn count(&self, action: &str, outcome: &str) {
        let place = OUTCOMES.iter().position(|known| *known == (action, outcome));
        if let Some(place) = place {
            self.0[place].fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(super) fn write_metrics(issuers: &[Arc<Issuer>], page: &mut Page) {
    if issuers.is_empty() {
        return;
    }
    let name = "coregate_accounts_total";
    page.family(name, Kind::Counter, "Logins, refreshes and log-outs, by how they went.");
    for issuer in issuers {
        for (place, (action, outcome)) in OUTCOMES.iter().enumerate() {
            let count = issuer.counters.0[place].load(Ordering::Relaxed);
            let labels = [("auth", &*issuer.settings().name), ("action", action), ("result", outcome)];
            page.sample(name, &labels, count);
        }
    }
}

const JSON: &str = "application/json";
/// RFC 6749 §5.1.
const NO_STORE: &str = "no-store";

impl Issuer {
    /// Does what was asked for.
    pub(super) async fn answer(&self, asked: &Asked) -> Result<Document, Refusal> {
        // The first request may come before the first look at the folder.
        if self.keys().is_none()
            && let Err(problem) = self.read_keys().await
        {
            self.complain(&StoreFault(problem));
        }
        match asked.action {
            Action::Login => {
                let answer = self.login(asked).await;
                self.counters.count("login", outcome(&answer));
                answer
            }
            Action::Refresh => {
                let answer = self.refresh(asked).await;
                self.counters.count("refresh", outcome(&answer));
                answer
            }
            Action::Logout => {
                let answer = self.logout(asked).await;
                self.counters.count("logout", if answer.is_ok() { "ok" } else { "refused" });
                answer
            }
            Action::Keys => {
                let keys = self.keys().ok_or(Refusal::Unavailable)?;
                Ok(public(keys.jwks()))
            }
            Action::Metadata => Ok(public(self.metadata())),
        }
    }

    async fn login(&self, asked: &Asked) -> Result<Document, Refusal> {
        let form = Form::read(asked.content_type.as_deref(), &asked.body)?;
        let name = form.need("username", "`username` is missing.")?;
        let password = form.need("password", "`password` is missing.")?;
        if password.len() > PASSWORD_BYTES_MAX || name.len() > 1024 {
            return Err(Refusal::WrongCredentials);
        }
        let attempt = self.throttle.lock().await.attempt(name, asked.client, now_ms());
        let attempt = attempt.map_err(|retry_after| Refusal::Throttled { retry_after })?;

        let user = self.database(self.store().await)?.user(name).await;
        let user = self.database(user)?;
        let verdict = match self.verify(user.as_ref(), password).await {
            Ok(verdict) => verdict,
            Err(refusal) => {
                // Nobody's guess was answered.
                self.throttle.lock().await.forgive(attempt);
                return Err(refusal);
            }
        };
        let user = user.filter(|user| !user.disabled);
        let (Some(user), Verdict::Right | Verdict::RightButOld) = (user, verdict) else {
            if verdict == Verdict::NoHash {
                self.complain(&StoreFault(format!("the password of `{name}` is no hash; set it anew")));
            }
            return Err(Refusal::WrongCredentials);
        };
        self.throttle.lock().await.forgive(attempt);
        if verdict == Verdict::RightButOld {
            self.hash_anew(&user, password).await;
        }
        // Who logged out everywhere within this second comes back in the next.
        while self.is_too_early(&user.name) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.begin_session(&user, wants_text(asked.accept.as_deref())).await
    }

    /// Best effort: the old hash is good, too.
    async fn hash_anew(&self, user: &User, password: &str) {
        let Ok(hash) = self.hash(password).await else { return };
        if let Ok(store) = self.store().await
            && let Err(fault) = store.rehash(&user.name, &user.password, &hash).await
        {
            self.complain(&fault);
        }
    }

    async fn begin_session(&self, user: &User, bare: bool) -> Result<Document, Refusal> {
        let access = self.access_token(user)?;
        if bare {
            return Ok(Document {
                status: 200,
                content_type: "text/plain; charset=utf-8",
                cache_control: NO_STORE,
                body: access.text.into_bytes(),
            });
        }
        let Some(lifetime) = self.settings().issuing.refresh else { return Ok(tokens(&access, None)) };
        let random = SystemRandom::new();
        let (refresh, digest) = self.keyed(token::new_refresh(&random))?;
        let grant = Grant {
            token: digest,
            family: self.keyed(token::random_bytes(&random))?,
            name: user.name.clone(),
            expires: now() + lifetime.as_secs(),
            jti: access.jti.clone(),
            jti_expires: access.expires,
        };
        let begun = self.database(self.store().await)?.begin(grant).await;
        self.database(begun)?;
        Ok(tokens(&access, Some(&refresh)))
    }

    async fn refresh(&self, asked: &Asked) -> Result<Document, Refusal> {
        let form = Form::read(asked.content_type.as_deref(), &asked.body)?;
        let presented = form.need("refresh_token", "`refresh_token` is missing.")?;
        let Some(lifetime) = self.settings().issuing.refresh else { return Err(Refusal::BadToken) };
        let store = self.database(self.store().await)?;
        let (refresh, digest) = self.keyed(token::new_refresh(&SystemRandom::new()))?;
        let jti = self.keyed(token::new_jti(&SystemRandom::new()))?;
        let (now, issuing) = (now(), &self.settings().issuing);
        let next = Grant {
            token: digest,
            family: [0; 16],
            name: String::new(),
            expires: now + lifetime.as_secs(),
            jti: jti.clone(),
            jti_expires: now + issuing.access.as_secs(),
        };
        let rotated = store.rotate(token::refresh_digest(presented), next, now).await;
        let name = match self.database(rotated)? {
            Rotation::Done(name) => name,
            Rotation::Unknown => return Err(Refusal::BadToken),
            Rotation::Reused(name) => {
                self.database(self.sync().await)?;
                self.counters.count("refresh", "reused");
                event::warn(
                    "accounts",
                    format_args!(
                        "[auth.{}]: a refresh token of `{name}` was used twice; its session has ended",
                        self.settings().name
                    ),
                );
                return Err(Refusal::BadToken);
            }
        };
        let user = store.user(&name).await;
        let user = self.database(user)?.filter(|user| !user.disabled).ok_or(Refusal::BadToken)?;
        let access = self.access_token_with(&user, jti, now)?;
        Ok(tokens(&access, Some(&refresh)))
    }

    /// By the access token in `Authorization`, a `refresh_token` in the body, or both.
    async fn logout(&self, asked: &Asked) -> Result<Document, Refusal> {
        let form = Form::read(asked.content_type.as_deref(), &asked.body)?;
        let keys = self.keys().ok_or(Refusal::Unavailable)?;
        let own =
            asked.token.as_deref().and_then(|token| token::read_own(token, &keys, &self.settings().iss));
        if own.is_none() && asked.token.is_some() {
            return Err(Refusal::BadToken);
        }
        let refresh = form.get("refresh_token").map(token::refresh_digest);
        let everywhere = form.get("everywhere").is_some_and(|value| value == "true");
        let now = now();
        let store = self.database(self.store().await)?;
        match (&own, refresh) {
            (Some(Own { sub, expires, .. }), _) if everywhere => {
                // An old token may end its own session, and no other.
                if *expires <= now {
                    return Err(Refusal::BadToken);
                }
                self.database(self.log_out(sub).await)?;
            }
            (None, None) => return Err(Refusal::BadToken),
            (own, refresh) => {
                if let Some(Own { jti, expires, .. }) = own {
                    let ended = store.end_family(Member::Access(jti.clone()), now).await;
                    if !self.database(ended)? && *expires > now {
                        self.database(store.revoke(jti, *expires).await)?;
                    }
                }
                if let Some(digest) = refresh {
                    // One that is unknown has nothing to end.
                    let ended = store.end_family(Member::Refresh(digest), now).await;
                    self.database(ended)?;
                }
                self.database(self.sync().await)?;
            }
        }
        Ok(Document { status: 204, content_type: "", cache_control: NO_STORE, body: Vec::new() })
    }

    fn access_token(&self, user: &User) -> Result<Access, Refusal> {
        let jti = self.keyed(token::new_jti(&SystemRandom::new()))?;
        self.access_token_with(user, jti, now())
    }

    fn access_token_with(&self, user: &User, jti: String, now: u64) -> Result<Access, Refusal> {
        let keys = self.keys();
        let key = keys.as_deref().and_then(|keys: &Keys| keys.signer(self.signing(), now));
        let key = key.ok_or(Refusal::Unavailable)?;
        let seconds = self.settings().issuing.access.as_secs();
        let expires = now + seconds;
        let claims = Claims {
            iss: &self.settings().iss,
            audience: &self.settings().audience,
            sub: &user.name,
            roles: &user.roles,
            jti: &jti,
            now,
            expires,
        };
        let text = self.keyed(token::mint(key, &claims))?;
        Ok(Access { text, jti, expires, seconds })
    }

    /// What services and clients find out by themselves (OpenID Connect Discovery 1.0 §3, RFC 8414 §2).
    fn metadata(&self) -> String {
        let iss = &*self.settings().iss;
        let issuing = &self.settings().issuing;
        let at = |path: &str| match origin(iss) {
            Some(origin) => format!("{origin}{path}"),
            None => path.to_owned(),
        };
        let document = json!({
            "issuer": iss,
            "jwks_uri": format!("{}/.well-known/jwks.json", iss.trim_end_matches('/')),
            "login_endpoint": at(&issuing.paths.login),
            "refresh_endpoint": at(&issuing.paths.refresh),
            "end_session_endpoint": at(&issuing.paths.logout),
            "id_token_signing_alg_values_supported": [issuing.algorithm.name()],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
        });
        format!("{document}\n")
    }

    fn database<T>(&self, result: Result<T, StoreFault>) -> Result<T, Refusal> {
        result.map_err(|fault| {
            self.complain(&fault);
            Refusal::Unavailable
        })
    }

    fn keyed<T>(&self, result: Result<T, KeyFault>) -> Result<T, Refusal> {
        self.database(result.map_err(|fault| StoreFault(fault.0)))
    }
}

struct Access {
    text: String,
    jti: String,
    expires: u64,
    /// It is good for so long.
    seconds: u64,
}

fn tokens(access: &Access, refresh: Option<&str>) -> Document {
    let mut body = json!({
        "access_token": access.text, "token_type": "Bearer", "expires_in": access.seconds,
    });
    if let Some(refresh) = refresh {
        body["refresh_token"] = refresh.into();
    }
    Document {
        status: 200,
        content_type: JSON,
        cache_control: NO_STORE,
        body: format!("{body}\n").into_bytes(),
    }
}

fn public(body: String) -> Document {
    const MAX_AGE: &str = "public, max-age=300";
    const { assert!(JWKS_SECONDS == 300) };
    Document { status: 200, content_type: JSON, cache_control: MAX_AGE, body: body.into_bytes() }
}

/// `https://host:port` of a URL.
fn origin(url: &str) -> Option<&str> {
    let start = url.find("://")? + 3;
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    Some(&url[..end])
}

fn outcome(answer: &Result<Document, Refusal>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(Refusal::Throttled { .. }) => "throttled",
        Err(Refusal::Busy) => "busy",
        Err(Refusal::Unavailable) => "unavailable",
        Err(Refusal::WrongCredentials | Refusal::BadToken | Refusal::Malformed(_) | Refusal::UnknownType) => {
            "wrong"
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
