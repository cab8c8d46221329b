//! `[auth.NAME]`, and what routes want of tokens.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    issuing,
    read::{self, Fields},
    tls,
};
use crate::{
    auth::{Alg, Algs, Audience, BadKeys, ClaimName, KeySet, Onward, Source, Wanted, is_free_name},
    config::{
        Auth, KeySource, KeyUrl, RouteAuth, keys,
        load::World,
        problem::Problems,
        raw::{Entry, Node, Value, Word},
    },
    http::headers::is_token,
    tls::Verify,
};

const LEEWAY_DEFAULT: Duration = Duration::from_secs(5);
/// A token must not outlive its `exp` for longer by what is called a difference of clocks.
const LEEWAY_MAX: Duration = Duration::from_secs(300);
const AUTHS_MAX: usize = 1000;
const IDENTITY_HEADER: &str = "X-Identity";
const TOKENS: [(&str, Onward); 2] = [("pass", Onward::Pass), ("strip", Onward::Strip)];

/// All of `[auth]`. `files` gets every file that was read for it, or should have been.
pub(super) fn all(
    entry: Option<&Entry>,
    state: &Path,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Vec<Auth> {
    let Some(table) = entry.and_then(|entry| read::table(entry, problems)) else { return Vec::new() };
    let entries = table.entries.iter().take(AUTHS_MAX);
    entries.filter_map(|entry| one(entry, state, world, files, problems)).collect()
}

fn one(
    entry: &Entry,
    state: &Path,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Option<Auth> {
    let Some(table) = entry.node.as_table() else {
        let remark = format!("write [auth.{}] and, below it, issuer = \"https://…\"", entry.key.as_str());
        problems.error("an issuer is described by a table").at(entry.node.at, remark);
        return None;
    };
    let fields = Fields::new(table, &keys::AUTH, problems);
    let issuer = fields.get("issuer").and_then(|entry| read::string(entry, problems));
    let algs = fields.get("algs").map(|entry| algs_of(entry, problems));
    let issuing = issuing::read(entry, &fields, state, problems);
    let keys = match fields.get("database") {
        Some(_) => Some(KeySource::Own),
        None => keys_of(entry, &fields, issuer, algs, world, files, problems),
    };
    let auth = Auth {
        name: entry.key.as_str().into(),
        issuer: issuer.map(|issuer| issuer.as_str().into()),
        audience: audience(entry, &fields, problems),
        algs: algs.unwrap_or_else(|| match &keys {
            Some(KeySource::Fixed(set)) => set.algs(),
            Some(KeySource::Fetched(_) | KeySource::Own) | None => Algs::ASYMMETRIC,
        }),
        keys: KeySource::Own,
        leeway: fields.or("leeway", LEEWAY_DEFAULT, |entry| {
            read::duration(entry, Duration::ZERO..=LEEWAY_MAX, problems)
        }),
        from: fields.get("from").map_or_else(|| vec![Source::Authorization], |entry| from(entry, problems)),
        roles_claim: fields.or("roles_claim", ClaimName::new("roles"), |entry| claim(entry, problems)),
        headers: fields.get("headers").map_or_else(Vec::new, |entry| headers(entry, problems)),
        identity: fields.get("identity").and_then(|entry| identity(entry, problems)),
        token: fields.or("token", Onward::Pass, |entry| read::one_of(entry, &TOKENS, problems)),
        issuing,
    };
    // After an error nothing is served; routes that name the issuer are not wrong for that.
    Some(Auth { keys: keys.unwrap_or(KeySource::Own), ..auth })
}

/// Where the keys come from: exactly one of `jwks`, `pem`, `secret`, or discovery from an `issuer` that is a URL.
fn keys_of(
    auth: &Entry,
    fields: &Fields<'_>,
    issuer: Option<Word<'_>>,
    algs: Option<Algs>,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Option<KeySource> {
    let named: Vec<&Entry> = ["jwks", "pem", "secret"].iter().filter_map(|key| fields.get(key)).collect();
    if let [first, second, ..] = named[..] {
        let title = format!("`{}` and `{}` both say which keys", first.key.as_str(), second.key.as_str());
        problems
            .error(title)
            .at(second.key.at(), "an issuer's keys come from one place")
            .at(first.key.at(), "");
        return None;
    }
    let ca = fields.get("ca").map(|entry| tls::authorities_of(entry, world, files, problems));
    let fetched = |url: Word<'_>, is_issuer: bool, problems: &mut Problems| {
        check_fetched_algs(fields.get("algs"), algs, problems);
        check_url(url, problems)?;
        let verify = match ca {
            Some(authorities) => Verify::By(authorities?.1),
            None => Verify::BySystem,
        };
        Some(KeySource::Fetched(KeyUrl { url: url.as_str().into(), is_issuer, verify }))
    };
    let Some(&entry) = named.first() else {
        return match issuer {
            Some(issuer) if is_url(issuer) => fetched(issuer, true, problems),
            Some(_) | None => {
                let title = format!("nothing says where the keys of [auth.{}] come from", auth.key.as_str());
                let remark = "an issuer that is a URL, `jwks`, `pem` or `secret`";
                problems.error(title).at(auth.key.at(), remark);
                None
            }
        };
    };
    let word = read::string(entry, problems)?;
    if entry.key.as_str() == "jwks" && is_url(word) {
        return fetched(word, false, problems);
    }
    if let Some(ca) = fields.get("ca") {
        problems.error("`ca` has no effect where no keys are fetched").at(ca.key.at(), "");
    }
    let allowed = algs.unwrap_or(Algs::SYMMETRIC.or(Algs::ASYMMETRIC));
    let set = if entry.key.as_str() == "secret" {
        KeySet::from_secret(word.as_str().as_bytes(), allowed)
    } else {
        let text = file(word, world, files, problems)?;
        match entry.key.as_str() {
            "jwks" => KeySet::from_jwks(text.as_bytes(), allowed),
            _ => KeySet::from_pem(text.as_bytes(), allowed),
        }
    };
    match set {
        Ok(set) => {
            for why in set.left_out() {
                problems.warning(format!("{} of {} is not used", why, word.shown())).at(word.at(), "");
            }
            Some(KeySource::Fixed(Arc::new(set)))
        }
        Err(bad) => {
            let what = if entry.key.as_str() == "secret" { "the secret".to_owned() } else { word.shown() };
            let is_secret = entry.key.as_str() == "secret";
            let remedy = match (matches!(bad, BadKeys::Key(_)), algs) {
                (true, _) if is_secret => "openssl rand -base64 48 makes a good one",
                (false, Some(_)) => "`algs` must fit the keys",
                (_, _) => "",
            };
            problems.error(format!("{what} {bad}")).at(word.at(), remedy);
            None
        }
    }
}

fn is_url(word: Word<'_>) -> bool {
    word.as_str().contains("://")
}

/// A secret must not come from a place that others may read, or a public key would do as one (RFC 8725 §2.1).
fn check_fetched_algs(entry: Option<&Entry>, algs: Option<Algs>, problems: &mut Problems) {
    if let (Some(entry), Some(algs)) = (entry, algs)
        && !algs.and(Algs::SYMMETRIC).is_empty()
    {
        problems.error("HS256, HS384 and HS512 want a secret, which is never fetched").at(entry.node.at, "");
    }
}

fn check_url(word: Word<'_>, problems: &mut Problems) -> Option<()> {
    let text = word.as_str();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or(""));
    let is_good = host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_good {
        let title = format!("`{}` is not a URL to fetch keys from", word.shown());
        problems.error(title).at(word.at(), "write https://host/path");
        return None;
    }
    let is_local = host.is_some_and(|host| {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        name == "localhost" || name == "[::1]" || name.starts_with("127.")
    });
    if text.starts_with("http://") && !is_local {
        let title = "keys that are fetched without TLS can be anybody's";
        problems.warning(title).at(word.at(), "write https://");
    }
    Some(())
}

fn file(
    word: Word<'_>,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Option<String> {
    let path = Path::new(word.as_str());
    files.push(path.to_owned());
    (world.read)(path)
        .map_err(|error| {
            let is_refused = error.kind() == io::ErrorKind::PermissionDenied;
            let remedy = if is_refused { "let the user read it as whom the gateway runs" } else { "" };
            problems.error(format!("cannot read {}: {error}", word.shown())).at(word.at(), remedy);
        })
        .ok()
}

fn algs_of(entry: &Entry, problems: &mut Problems) -> Algs {
    let words = read::strings(entry, problems);
    if words.is_empty() {
        problems.error("`algs` without an algorithm takes no token").at(entry.node.at, "");
    }
    words.into_iter().fold(Algs::NONE, |all, word| match Alg::named(word.as_str().as_bytes()) {
        Some(alg) => all.with(alg),
        None => {
            let title = format!("`{}` is no algorithm that can be verified", word.shown());
            read::unknown_name(title, word, Alg::ALL.iter().map(|alg| alg.name()), problems);
            all
        }
    })
}

/// A name, several, or `false`.
fn audience(auth: &Entry, fields: &Fields<'_>, problems: &mut Problems) -> Audience {
    match fields.get("audience") {
        Some(entry) if matches!(entry.node.value, Value::Bool(false)) => Audience::Any,
        Some(entry) => {
            let names = read::strings(entry, problems);
            Audience::OneOf(names.into_iter().map(|name| name.as_str().into()).collect())
        }
        None => {
            let title = format!("[auth.{}] has no `audience`", auth.key.as_str());
            let remark = "tokens that name one are refused: write whom they are for, or false for anybody";
            problems.warning(title).at(auth.key.at(), remark);
            Audience::Nobody
        }
    }
}

fn from(entry: &Entry, problems: &mut Problems) -> Vec<Source> {
    let mut sources = Vec::new();
    for word in read::strings(entry, problems) {
        let (kind, name) = word.as_str().split_once(':').unwrap_or((word.as_str(), ""));
        let name = name.trim();
        match kind {
            "header" if name.eq_ignore_ascii_case("authorization") => sources.push(Source::Authorization),
            "header" if is_token(name.as_bytes()) => {
                sources.push(Source::Header(name.to_ascii_lowercase().into()));
            }
            "cookie" if is_token(name.as_bytes()) => sources.push(Source::Cookie(name.into())),
            _ => {
                let title = format!("`{}` is no place to look for a token", word.shown());
                problems.error(title).at(word.at(), "write \"header:Authorization\" or \"cookie:session\"");
            }
        }
    }
    sources
}

fn claim(entry: &Entry, problems: &mut Problems) -> Option<ClaimName> {
    let word = read::string_for(entry, "the name of a claim", problems)?;
    claim_name(word, problems)
}

fn claim_name(word: Word<'_>, problems: &mut Problems) -> Option<ClaimName> {
    if word.as_str().is_empty() {
        problems.error("a claim has a name").at(word.at(), "write \"sub\" or \"realm_access.roles\"");
        return None;
    }
    Some(ClaimName::new(word.as_str()))
}

fn headers(entry: &Entry, problems: &mut Problems) -> Vec<(Arc<str>, ClaimName)> {
    let Some(table) = read::table(entry, problems) else { return Vec::new() };
    let mut headers: Vec<(Arc<str>, ClaimName)> = Vec::new();
    for entry in &table.entries {
        let name = header_name(entry.key.word(), problems);
        let claim = claim(entry, problems);
        if let (Some(name), Some(claim)) = (name, claim) {
            if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                problems.error(format!("header `{name}` is there twice")).at(entry.key.at(), "");
            }
            headers.push((name, claim));
        }
    }
    headers
}

fn header_name(word: Word<'_>, problems: &mut Problems) -> Option<Arc<str>> {
    if !is_free_name(word.as_str()) {
        let title = format!("header `{}` cannot carry an identity", word.shown());
        problems
            .error(title)
            .at(word.at(), "take a name that means nothing else, with `-` and without `_`: X-User");
        return None;
    }
    Some(word.as_str().into())
}

/// `"header"`, or the name of one.
fn identity(entry: &Entry, problems: &mut Problems) -> Option<Arc<str>> {
    let word = read::string(entry, problems)?;
    if word.as_str() == "header" { Some(IDENTITY_HEADER.into()) } else { header_name(word, problems) }
}

/// What a route wants of tokens; `None` if it wants none.
pub(super) fn route(fields: &Fields<'_>, known: &[Auth], problems: &mut Problems) -> Option<RouteAuth> {
    let Some(entry) = fields.get("auth") else {
        for key in ["roles", "any_role", "scopes", "claims", "optional"] {
            if let Some(entry) = fields.get(key) {
                let title = format!("`{key}` has no effect without `auth`");
                problems.error(title).at(entry.key.at(), "write auth = \"NAME\" of an [auth.NAME]");
            }
        }
        return None;
    };
    let words = read::strings(entry, problems);
    if words.is_empty() {
        problems.error("`auth` names no issuer").at(entry.node.at, "write auth = \"NAME\" of an [auth.NAME]");
    }
    let mut auths: Vec<usize> = Vec::new();
    for word in &words {
        match known.iter().position(|auth| *auth.name == *word.as_str()) {
            Some(index) if !auths.contains(&index) => auths.push(index),
            Some(_) => {}
            None => {
                let title = format!("no [auth.{}]", word.shown());
                read::unknown_name(title, *word, known.iter().map(|auth| &*auth.name), problems);
            }
        }
    }
    check_told_apart(entry, &auths, known, problems);
    let list = |key: &str, problems: &mut Problems| -> Vec<Arc<str>> {
        let words = fields.get(key).map_or_else(Vec::new, |entry| {
            let words = read::strings(entry, problems);
            if words.is_empty() {
                problems.error(format!("`{key}` names none")).at(entry.node.at, "leave it out");
            }
            words
        });
        words.into_iter().map(|word| word.as_str().into()).collect()
    };
    let wanted = Wanted {
        roles: list("roles", problems),
        any_role: list("any_role", problems),
        scopes: list("scopes", problems),
        claims: fields.get("claims").map_or_else(Vec::new, |entry| claims(entry, problems)),
    };
    let optional = fields.or("optional", false, |entry| read::boolean(entry, problems));
    if let (true, Some(entry)) = (optional && wanted != Wanted::default(), fields.get("optional")) {
        let title = "`optional` lets requests in without a token, and with it without what is wanted of one";
        problems.error(title).at(entry.key.at(), "");
    }
    Some(RouteAuth { auths, wanted, optional })
}

/// The issuer is chosen by `iss` alone.
fn check_told_apart(entry: &Entry, auths: &[usize], known: &[Auth], problems: &mut Problems) {
    for (place, &one) in auths.iter().enumerate() {
        for &other in &auths[place + 1..] {
            let (one, other) = (&known[one], &known[other]);
            if one.issuer == other.issuer || one.issuer.is_none() || other.issuer.is_none() {
                let title =
                    format!("tokens of [auth.{}] and [auth.{}] cannot be told apart", one.name, other.name);
                let remark = "on one route, each must have an `issuer` of its own";
                problems.error(title).at(entry.node.at, remark);
            }
        }
    }
}

/// `{ claim = value }`, `{ claim = [one, of, these] }`.
fn claims(entry: &Entry, problems: &mut Problems) -> Vec<(ClaimName, Vec<Arc<str>>)> {
    let Some(table) = read::table(entry, problems) else { return Vec::new() };
    table.entries.iter().filter_map(|entry| wanted_claim(entry, problems)).collect()
}

fn wanted_claim(entry: &Entry, problems: &mut Problems) -> Option<(ClaimName, Vec<Arc<str>>)> {
    let name = claim_name(entry.key.word(), problems)?;
    let values: Vec<_> = entry.node.items().iter().filter_map(|node| scalar(entry, node, problems)).collect();
    if values.is_empty() {
        problems.error("a claim is compared with a value").at(entry.node.at, "");
    }
    Some((name, values))
}

/// A value as JSON has it.
fn scalar(entry: &Entry, node: &Node, problems: &mut Problems) -> Option<Arc<str>> {
    match &node.value {
        Value::String(text) => {
            let mut json = Vec::new();
            crate::json::write::string(text.as_str(), &mut json);
            String::from_utf8(json).ok().map(Into::into)
        }
        Value::Integer(number) => Some(number.to_string().into()),
        Value::Bool(value) => Some(value.to_string().into()),
        Value::Float(_) | Value::List(_) | Value::Table(_) => {
            read::wrong_kind(
                entry.key.as_str(),
                "a string, an integer, a boolean, or a list of them",
                node,
                problems,
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Config,
        load::testing::{check_problems, good, load_files},
    };

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn text(auth: &str, route: &str) -> String {
        format!(
            "listen = ':80'\n[auth.a]\naudience = 'gw'\n{auth}\n[routes]\n'/' = {{ to = 'http://s', {route} }}\n"
        )
    }

    fn issuer(auth: &str) -> Auth {
        good(&text(auth, "auth = 'a'")).auths.remove(0)
    }

    #[track_caller]
    fn check_auth(auth: &str, expected: &[&str]) {
        check_problems(&text(auth, "auth = 'a'"), expected);
    }

    /// A route beside the issuers `a`, `b` (of the same name), `c` and the nameless `n`.
    #[track_caller]
    fn check_route(route: &str, expected: &[&str]) {
        let more = ["b", "c", "n"].map(|name| {
            let issuer = match name {
                "b" => "issuer = 'i'",
                "c" => "issuer = 'j'",
                _ => "",
            };
            format!("[auth.{name}]\naudience = false\nsecret = '{SECRET}'\n{issuer}\n")
        });
        check_problems(
            &text(&format!("issuer = 'i'\nsecret = '{SECRET}'\n{}", more.concat()), route),
            expected,
        );
    }

    #[test]
    fn a_url_says_itself_where_its_keys_are() {
        let auth = issuer("issuer = 'https://tenant.example.com/'");
        assert!(matches!(&auth.keys, KeySource::Fetched(KeyUrl { is_issuer: true, .. })));
        assert_eq!((auth.algs, auth.leeway, auth.token), (Algs::ASYMMETRIC, LEEWAY_DEFAULT, Onward::Pass));
        assert_eq!(auth.from, [Source::Authorization]);
        let auth = issuer("issuer = 'x'\njwks = 'https://k.example.com/j?p=1'");
        assert!(matches!(&auth.keys, KeySource::Fetched(KeyUrl { is_issuer: false, .. })));
    }

    #[test]
    fn every_key_arrives() {
        let auth = issuer(&format!(
            "issuer = 'i'\nsecret = '{SECRET}'\nalgs = 'HS256'\nleeway = '1m'\nfrom = ['cookie:s', 'header:X-T', 'header:authorization']\n\
             roles_claim = 'a.b'\nheaders = {{ X-User = 'sub' }}\nidentity = 'header'\ntoken = 'strip'"
        ));
        assert_eq!(auth.algs, Algs::NONE.with(Alg::Hs256));
        assert_eq!(auth.audience, Audience::OneOf(vec!["gw".into()]));
        assert_eq!((auth.leeway.as_secs(), auth.roles_claim.text(), auth.token), (60, "a.b", Onward::Strip));
        assert_eq!(
            auth.from,
            [Source::Cookie("s".into()), Source::Header("x-t".into()), Source::Authorization]
        );
        assert_eq!((&*auth.headers[0].0, auth.headers[0].1.text()), ("X-User", "sub"));
        assert_eq!(auth.identity.as_deref(), Some("X-Identity"));
        let route = "auth = 'a', roles = 'r', any_role = ['s', 't'], scopes = ['u'], claims = { v = true, w = [1, 'x'] }";
        let Config { mut routes, .. } = good(&text(&format!("secret = '{SECRET}'"), route));
        let auth = routes.remove(0).auth.unwrap();
        assert_eq!((auth.auths, auth.optional), (vec![0], false));
        assert_eq!(
            (auth.wanted.roles, auth.wanted.any_role),
            (vec!["r".into()], vec!["s".into(), "t".into()])
        );
        let claims: Vec<_> =
            auth.wanted.claims.iter().map(|(name, values)| (name.text(), &values[..])).collect();
        assert_eq!(claims, [("v", &["true".into()][..]), ("w", &["1".into(), "\"x\"".into()][..])]);
    }

    #[test]
    fn keys_are_read_from_files() {
        let good_set = format!(r#"{{"keys":[{KEY},{{"kty":"x","kid":"k"}}]}}"#);
        let check = |keys: &str, content: &str, expected: &[&str]| {
            let text = text(keys, "auth = 'a'");
            let brief = match load_files(&[("config.toml", &text), ("k", content)]) {
                Ok(loaded) => loaded.warnings.brief(),
                Err(problems) => problems.brief(),
            };
            assert_eq!(brief, expected);
        };
        let file = "issuer = 'i'\njwks = '/etc/c/k'";
        check(
            file,
            &good_set,
            &["/etc/c/k -> key 2 (kid k): type x is not supported of /etc/c/k is not used"],
        );
        check(file, "{}", &["/etc/c/k -> /etc/c/k is no JWK Set: {\"keys\": [{\"kty\": …}]}"]);
        check("jwks = '/etc/c/x'", "", &["/etc/c/x -> cannot read /etc/c/x: entity not found"]);
        let (cert, _) = crate::tls::testing::own(&["a"], 2020..2030);
        check("pem = '/etc/c/k'", &cert, &[]);
        check("pem = '/etc/c/k'", "x", &["/etc/c/k -> /etc/c/k has no public key or certificate in PEM"]);
        check(
            "pem = '/etc/c/k'\nalgs = 'RS256'",
            &cert,
            &["/etc/c/k -> /etc/c/k has no key [`algs` must fit the keys]"],
        );
    }

    #[test]
    fn what_is_wrong_with_an_issuer_is_said() {
        let where_from = "an issuer that is a URL, `jwks`, `pem` or `secret`";
        check_auth(
            "issuer = 'i'",
            &[&format!("a -> nothing says where the keys of [auth.a] come from [{where_from}]")],
        );
        check_auth(
            "secret = 'short'",
            &[
                "short -> the secret cannot be used: the secret is shorter than 32 bytes [openssl rand -base64 48 makes a good one]",
            ],
        );
        check_auth(
            &format!("secret = '{SECRET}'\njwks = 'https://a'"),
            &["secret -> `jwks` and `secret` both say which keys [an issuer's keys come from one place]"],
        );
        check_auth(
            "issuer = 'https://a'\nalgs = ['HS256', 'RS256']",
            &["['HS256', 'RS256'] -> HS256, HS384 and HS512 want a secret, which is never fetched"],
        );
        check_auth(
            "issuer = 'https://a'\nalgs = 'none'",
            &["none -> `none` is no algorithm that can be verified"],
        );
        check_auth(
            "issuer = 'http://idp.example.com'",
            &[
                "http://idp.example.com -> keys that are fetched without TLS can be anybody's [write https://]",
            ],
        );
        check_auth("issuer = 'http://localhost:8080'", &[]);
        let key = format!("secret = '{SECRET}'\n");
        let with = |line: &str, expected: &str| check_auth(&format!("{key}{line}"), &[expected]);
        with(
            "from = 'query:t'",
            "query:t -> `query:t` is no place to look for a token [write \"header:Authorization\" or \"cookie:session\"]",
        );
        let remedy = "take a name that means nothing else, with `-` and without `_`: X-User";
        with(
            "headers = { Host = 'sub' }",
            &format!("Host -> header `Host` cannot carry an identity [{remedy}]"),
        );
        with(
            "headers = { X_User = 'sub' }",
            &format!("X_User -> header `X_User` cannot carry an identity [{remedy}]"),
        );
        with("leeway = '1h'", "1h -> `leeway`: 1h is not within 0 and 5m");
        with("token = 'keep'", "keep -> `token` cannot be `keep` [known: pass, strip]");
        with("ca = '/x'", "/x -> cannot read /x: entity not found");
    }

    #[test]
    fn what_is_wrong_with_a_route_is_said() {
        check_route("auth = 'other'", &["other -> no [auth.other] [known: a, b, c, n]"]);
        check_route(
            "roles = 'r'",
            &["roles -> `roles` has no effect without `auth` [write auth = \"NAME\" of an [auth.NAME]]"],
        );
        check_route("auth = ['a', 'c']", &[]);
        let apart = "on one route, each must have an `issuer` of its own";
        check_route(
            "auth = ['a', 'b']",
            &[&format!("['a', 'b'] -> tokens of [auth.a] and [auth.b] cannot be told apart [{apart}]")],
        );
        check_route(
            "auth = ['c', 'n']",
            &[&format!("['c', 'n'] -> tokens of [auth.c] and [auth.n] cannot be told apart [{apart}]")],
        );
        check_route("auth = 'a', roles = []", &["[] -> `roles` names none [leave it out]"]);
        let title = "`optional` lets requests in without a token, and with it without what is wanted of one";
        check_route("auth = 'a', optional = true, scopes = 's'", &[&format!("optional -> {title}")]);
        check_route(
            "auth = 'a', claims = { x = 1.5 }",
            &[
                "1.5 -> `x` must be a string, an integer, a boolean, or a list of them, not a number with a fraction",
                "1.5 -> a claim is compared with a value",
            ],
        );
    }

    #[test]
    fn an_audience_is_said_or_tokens_that_name_one_are_refused() {
        let text = format!(
            "listen = ':80'\n[auth.a]\nsecret = '{SECRET}'\n[routes]\n'/' = {{ to = 'http://s', auth = 'a' }}\n"
        );
        let remark = "tokens that name one are refused: write whom they are for, or false for anybody";
        check_problems(&text, &[&format!("a -> [auth.a] has no `audience` [{remark}]")]);
    }
}
