//! `[auth.NAME]` with a `database`: an issuer of our own, and the routes it brings.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::read::{self, Fields};
use crate::{
    config::{
        Auth,
        issuing::{Action, Database, FirstUser, Hashing, Issuing, Paths, Signing, Throttle},
        keys,
        problem::Problems,
        raw::{Entry, Place, Text, Value, Word},
    },
    route::Pattern,
};

const ACCESS_DEFAULT: Duration = Duration::from_secs(15 * 60);
const ACCESS_MIN: Duration = Duration::from_secs(1);
/// A token that was revoked is remembered until it expires.
const ACCESS_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
const REFRESH_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
const REFRESH_MAX: Duration = Duration::from_secs(400 * 24 * 3600);
const POLL_DEFAULT: Duration = Duration::from_secs(1);
const POLL_MIN: Duration = Duration::from_millis(100);
const POLL_MAX: Duration = Duration::from_secs(3600);
const MEMORY_MIN: u64 = 8 << 10;
const MEMORY_MAX: u64 = 1 << 30;

const SIGNINGS: [(&str, Signing); 3] =
    [("EdDSA", Signing::EdDsa), ("ES256", Signing::Es256), ("RS256", Signing::Rs256)];
/// Keys that mean nothing where no tokens are issued.
const ISSUING_ONLY: [&str; 10] = [
    "access",
    "refresh",
    "login",
    "refresh_path",
    "logout",
    "throttle",
    "signing",
    "passwords",
    "poll",
    "first_user",
];
/// Keys that say whose tokens are taken, where they are our own.
const FOREIGN_ONLY: [&str; 6] = ["jwks", "pem", "secret", "ca", "algs", "roles_claim"];

/// A route that an issuer brings.
pub(super) struct OwnRoute {
    pub pattern: Pattern,
    pub action: Action,
    /// Index into [`Config::auths`](crate::config::Config::auths).
    pub auth: usize,
    /// What says so.
    pub at: Place,
}

/// What `[auth.NAME]` says about issuing; `None` where tokens are issued elsewhere.
pub(super) fn read(
    auth: &Entry,
    fields: &Fields<'_>,
    state: &Path,
    problems: &mut Problems,
) -> Option<Issuing> {
    let Some(database) = fields.get("database") else {
        for entry in ISSUING_ONLY.iter().filter_map(|key| fields.get(key)) {
            let title = format!("`{}` has no effect without `database`", entry.key.as_str());
            problems.error(title).at(entry.key.at(), "");
        }
        return None;
    };
    for entry in FOREIGN_ONLY.iter().filter_map(|key| fields.get(key)) {
        let title = format!("`{}` has no effect beside `database`", entry.key.as_str());
        problems.error(title).at(entry.key.at(), "the keys are our own");
    }
    if fields.get("issuer").is_none() {
        let title = format!("[auth.{}] issues tokens and has no `issuer`", auth.key.as_str());
        problems.error(title).at(auth.key.at(), "write the address by which clients know this gateway");
    }
    let path = |key: &str, default: &str, problems: &mut Problems| -> Arc<str> {
        let path = fields.get(key).and_then(|entry| own_path(entry, problems));
        path.unwrap_or_else(|| default.into())
    };
    let paths = Paths {
        login: path("login", "/login", problems),
        refresh: path("refresh_path", "/refresh", problems),
        logout: path("logout", "/logout", problems),
    };
    Some(Issuing {
        access: fields
            .or("access", ACCESS_DEFAULT, |entry| read::duration(entry, ACCESS_MIN..=ACCESS_MAX, problems)),
        refresh: fields.or("refresh", Some(REFRESH_DEFAULT), |entry| match entry.node.value {
            Value::Bool(false) => Some(None),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(true)
            | Value::List(_)
            | Value::Table(_) => read::duration(entry, ACCESS_MIN..=REFRESH_MAX, problems).map(Some),
        }),
        algorithm: fields.or("signing", Signing::EdDsa, |entry| read::one_of(entry, &SIGNINGS, problems)),
        throttle: fields.or("throttle", Throttle { per_account: Some(5), per_ip: Some(20) }, |entry| {
            throttle(entry, problems)
        }),
        hashing: fields.get("passwords").map_or_else(Hashing::default, |entry| hashing(entry, problems)),
        poll: fields.or("poll", POLL_DEFAULT, |entry| read::duration(entry, POLL_MIN..=POLL_MAX, problems)),
        first_user: fields.get("first_user").and_then(|entry| first_user(entry, problems)),
        keys: state.join("keys").join(auth.key.as_str()),
        paths,
        database: self::database(database, state, problems)?,
    })
}

fn database(entry: &Entry, state: &Path, problems: &mut Problems) -> Option<Database> {
    let word = read::string_for(entry, "a database such as \"sqlite:coregate.db\"", problems)?;
    let text = word.as_str();
    if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
        return Some(Database::Sqlite(state.join(PathBuf::from(path))));
    }
    if ["postgres://", "postgresql://"].iter().any(|start| text.starts_with(start)) {
        return Some(Database::Postgres(text.into()));
    }
    let title = format!("`{}` is no database", word.shown());
    problems.error(title).at(word.at(), "write sqlite:FILE (below `state`) or postgres://user@host/name");
    None
}

/// A path, maybe with a host before it.
fn own_path(entry: &Entry, problems: &mut Problems) -> Option<Arc<str>> {
    let word = read::string(entry, problems)?;
    let text = word.as_str();
    let is_plain = text.contains('/') && !text.contains([' ', '{', '}']) && !text.ends_with('/');
    if !is_plain {
        let title = format!("`{}`: `{}` is not a path", entry.key.as_str(), word.shown());
        problems.error(title).at(word.at(), "write /login, or host/login");
        return None;
    }
    Some(text.into())
}

/// `5/min per account, 20/min per ip`.
fn throttle(entry: &Entry, problems: &mut Problems) -> Option<Throttle> {
    let mut throttle = Throttle { per_account: None, per_ip: None };
    if matches!(entry.node.value, Value::Bool(false)) {
        return Some(throttle);
    }
    let word = read::string_for(entry, "a rate such as \"5/min per account, 20/min per ip\"", problems)?;
    for part in word.as_str().split(',').map(str::trim) {
        let parsed = part.split_once("/min per ").and_then(|(number, what)| {
            let number = number.parse::<u32>().ok().filter(|number| (1..=60_000).contains(number))?;
            Some((number, what.trim()))
        });
        match parsed {
            Some((number, "account")) => throttle.per_account = Some(number),
            Some((number, "ip")) => throttle.per_ip = Some(number),
            _ => {
                let title = format!("`throttle`: `{}` is not a rate", word.shown());
                problems.error(title).at(word.at(), "write \"5/min per account, 20/min per ip\", or false");
                return None;
            }
        }
    }
    Some(throttle)
}

fn hashing(entry: &Entry, problems: &mut Problems) -> Hashing {
    let default = Hashing::default();
    let Some(table) = read::table(entry, problems) else { return default };
    let fields = Fields::new(table, &keys::PASSWORDS, problems);
    let threads = u32::try_from(default.threads).unwrap_or(1);
    let queue = u32::try_from(default.queue).unwrap_or(1);
    let mut integer = |key: &str, default: u32, max: u32| {
        fields.or(key, default, |entry| read::integer(entry, 1..=max, problems))
    };
    let (passes, lanes) = (integer("passes", default.passes, 100), integer("lanes", default.lanes, 64));
    let (threads, queue) = (integer("threads", threads, 64), integer("queue", queue, 10_000));
    let memory = fields.or("memory", u64::from(default.memory_kib) << 10, |entry| {
        read::size(entry, MEMORY_MIN.max(u64::from(lanes) * MEMORY_MIN)..=MEMORY_MAX, problems)
    });
    Hashing {
        memory_kib: u32::try_from(memory >> 10).unwrap_or(default.memory_kib),
        passes,
        lanes,
        threads: threads as usize,
        queue: queue as usize,
    }
}

/// A name, or a table with roles, too.
fn first_user(entry: &Entry, problems: &mut Problems) -> Option<FirstUser> {
    let (name, roles): (Word<'_>, _) = match &entry.node.value {
        Value::String(text) => (text.word(), Vec::new()),
        Value::Table(table) => {
            let fields = Fields::new(table, &keys::FIRST_USER, problems);
            let Some(name) = fields.get("name") else {
                problems.error("`first_user` without a `name`").at(entry.key.at(), "");
                return None;
            };
            let roles = fields.get("roles").map_or_else(Vec::new, |entry| read::strings(entry, problems));
            (read::string(name, problems)?, roles)
        }
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) => {
            read::wrong_kind("first_user", "a name or a table", &entry.node, problems);
            return None;
        }
    };
    let text = name.as_str();
    if text.is_empty() || text.len() > 256 || text.trim() != text || text.chars().any(char::is_control) {
        problems.error(format!("`{}` cannot be a user's name", name.shown())).at(name.at(), "");
        return None;
    }
    Some(FirstUser { name: text.into(), roles: roles.into_iter().map(|role| role.as_str().into()).collect() })
}

/// The routes of all issuers of our own: login, refresh and log-out, and what the public may know of them.
pub(super) fn routes(entry: Option<&Entry>, auths: &[Auth], problems: &mut Problems) -> Vec<OwnRoute> {
    let Some(table) = entry.and_then(|entry| entry.node.as_table()) else { return Vec::new() };
    let mut routes = Vec::new();
    for (index, auth) in auths.iter().enumerate() {
        let Some(issuing) = &auth.issuing else { continue };
        let Some(entry) = table.get(&auth.name) else { continue };
        let place = |key: &str| {
            let written = entry.node.as_table().and_then(|table| table.get(key));
            written.map_or_else(|| entry.key.at(), written_at)
        };
        let Paths { login, refresh, logout } = &issuing.paths;
        let host = &login[..login.find('/').unwrap_or(0)];
        let issuer = auth.issuer.as_deref().unwrap_or("");
        let prefix = issuer_path(issuer);
        let mut all = vec![
            (format!("POST {login}"), Action::Login, place("login")),
            (format!("POST {logout}"), Action::Logout, place("logout")),
            (format!("GET {host}{prefix}/.well-known/jwks.json"), Action::Keys, place("issuer")),
        ];
        if issuing.refresh.is_some() {
            all.push((format!("POST {refresh}"), Action::Refresh, place("refresh_path")));
        }
        if issuer.contains("://") {
            let path = format!("GET {host}{prefix}/.well-known/openid-configuration");
            all.push((path, Action::Metadata, place("issuer")));
        }
        for (pattern, action, at) in all {
            match Pattern::parse(&pattern) {
                Ok(pattern) => routes.push(OwnRoute { pattern, action, auth: index, at }),
                Err(bad) => {
                    problems.error(bad.what).at(at, "");
                }
            }
        }
    }
    routes
}

fn written_at(entry: &Entry) -> Place {
    entry.node.as_text().map_or(entry.node.at, Text::at)
}

/// The path of an issuer that is a URL, without a slash at its end: where its metadata are (OpenID Connect Discovery 1.0 §4.1).
fn issuer_path(issuer: &str) -> &str {
    let Some((_, rest)) = issuer.split_once("://") else { return "" };
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    path.split(['?', '#', '{', ' ']).next().unwrap_or("").trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Config, Target,
        load::testing::{check_problems, good},
    };

    fn text(auth: &str) -> String {
        format!(
            "listen = ':80'\nstate = '/s'\n[routes]\n'/' = 'http://a'\n[auth.local]\nissuer = 'https://api.example.com/'\naudience = 'a'\n{auth}\n"
        )
    }

    fn issuing(auth: &str) -> Issuing {
        good(&text(auth)).auths.remove(0).issuing.expect("a database")
    }

    #[track_caller]
    fn check_wrong(auth: &str, expected: &str) {
        check_problems(&text(auth), &[expected]);
    }

    fn own(config: &Config) -> Vec<(&str, Action)> {
        let action = |route: &crate::config::Route| {
            if let Target::Accounts { action, .. } = route.target { Some(action) } else { None }
        };
        config.routes.iter().filter_map(|route| Some((route.pattern.text(), action(route)?))).collect()
    }

    #[test]
    fn a_database_is_enough() {
        let issuing = issuing("database = 'sqlite:users.db'");
        assert_eq!(issuing.database, Database::Sqlite("/s/users.db".into()));
        assert_eq!(
            (issuing.access.as_secs(), issuing.refresh.map(|time| time.as_secs())),
            (900, Some(2_592_000))
        );
        assert_eq!(issuing.throttle, Throttle { per_account: Some(5), per_ip: Some(20) });
        assert_eq!((issuing.hashing.memory_kib, issuing.hashing.passes), (19_456, 2));
        assert_eq!(issuing.keys, Path::new("/s/keys/local"));
    }

    #[test]
    fn every_key_arrives() {
        let issuing = issuing(
            "database = 'postgres://u:p@h/d'\naccess = '5m'\nrefresh = false\nsigning = 'ES256'\nthrottle = '3/min per ip'\n\
             passwords = { memory = '46MiB', passes = 1, lanes = 2, threads = 3, queue = 4 }\npoll = '2s'\n\
             first_user = { name = 'demo', roles = ['admin'] }\nlogin = '/in'\nrefresh_path = '/again'\nlogout = '/out'",
        );
        assert_eq!(
            (issuing.access.as_secs(), issuing.refresh, issuing.algorithm),
            (300, None, Signing::Es256)
        );
        assert_eq!(issuing.throttle, Throttle { per_account: None, per_ip: Some(3) });
        let hashing = Hashing { memory_kib: 47_104, passes: 1, lanes: 2, threads: 3, queue: 4 };
        assert_eq!((issuing.hashing, issuing.poll.as_secs()), (hashing, 2));
        let first = issuing.first_user.expect("it is written");
        assert_eq!((&*first.name, first.roles.len()), ("demo", 1));
        assert_eq!((&*issuing.paths.login, &*issuing.paths.logout), ("/in", "/out"));
        assert_eq!(format!("{:?}", issuing.database), "postgres://h/d");
    }

    #[test]
    fn an_issuer_brings_its_routes() {
        let config = good(&text("database = 'sqlite:a'\nlogin = 'api.example.com/login'"));
        let expected = [
            ("POST api.example.com/login", Action::Login),
            ("POST /logout", Action::Logout),
            ("GET api.example.com/.well-known/jwks.json", Action::Keys),
            ("POST /refresh", Action::Refresh),
            ("GET api.example.com/.well-known/openid-configuration", Action::Metadata),
        ];
        assert_eq!(own(&config), expected);
    }

    #[test]
    fn routes_of_issuers_take_part() {
        let clash = text("database = 'sqlite:a'")
            .replace("'/' = 'http://a'", "'/{x}' = 'http://a'\n'POST /{y}' = 'http://b'");
        assert_eq!(own(&good(&clash)).len(), 5);
        let same = text("database = 'sqlite:a'\nlogin = '/in'").replace("'/' =", "'POST /in' =");
        let problems = crate::config::from_text(&same).expect_err("two routes for one request");
        assert!(problems.to_string().contains("two routes match the same requests"), "{problems}");
    }

    #[test]
    fn a_wrong_value_is_an_error() {
        let check =
            |line: &str, expected: &str| check_wrong(&format!("database = 'sqlite:a'\n{line}"), expected);
        check("access = '0s'", "0s -> `access`: 0s is not within 1s and 30d");
        check(
            "throttle = '5/s per ip'",
            "5/s per ip -> `throttle`: `5/s per ip` is not a rate [write \"5/min per account, 20/min per ip\", or false]",
        );
        check("login = 'login'", "login -> `login`: `login` is not a path [write /login, or host/login]");
        check("jwks = 'a.json'", "jwks -> `jwks` has no effect beside `database` [the keys are our own]");
        check("signing = 'HS256'", "HS256 -> `signing` cannot be `HS256` [did you mean `ES256`?]");
        check("first_user = ' a'", " a -> ` a` cannot be a user's name");
        check_wrong(
            "database = 'mysql://a'",
            "mysql://a -> `mysql://a` is no database [write sqlite:FILE (below `state`) or postgres://user@host/name]",
        );
        check_wrong(
            "secret = '01234567890123456789012345678901'\nalgs = 'HS256'\naccess = '1m'",
            "access -> `access` has no effect without `database`",
        );
    }
}
