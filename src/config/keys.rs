//! Every key of every table, with what it says in a line: for suggestions, for the test that the root `config.toml`
//! mentions all of them, and for editors.

/// The keys one kind of table knows.
pub struct Keys {
    /// The table in a message: "unknown key `x` in …".
    pub table: &'static str,
    pub keys: &'static [Key],
}

pub struct Key {
    pub name: &'static str,
    pub doc: &'static str,
}

const fn key(name: &'static str, doc: &'static str) -> Key {
    Key { name, doc }
}

pub const ALL: [&Keys; 21] = [
    &TOP,
    &DEFAULTS,
    &RETRY,
    &LISTEN,
    &LISTEN_FLAGS,
    &TLS,
    &CERTIFICATE,
    &TLS_CLIENTS,
    &AUTH,
    &PASSWORDS,
    &FIRST_USER,
    &SERVICE,
    &SERVICE_TLS,
    &SERVER,
    &AMQP,
    &BROKER,
    &ROUTE,
    &PART,
    &LOG,
    &ACCESS,
    &EVENTS,
];

pub const TOP: Keys = Keys {
    table: "the configuration",
    keys: &[
        key("include", "further files, `*` and `?` allowed in the last part of a path"),
        key("listen", "addresses to accept requests at"),
        key("admin", "address of metrics, health and API; false turns it off"),
        key("shards", "threads that serve, each with a core: \"auto\" or a number"),
        key("driver", "how a shard talks to the kernel: \"auto\", \"io_uring\" or \"epoll\""),
        key("user", "who serves when root starts it: \"name\" or \"name:group\""),
        key("state", "directory for what must survive a restart"),
        key("tls", "certificates for https:// listeners; without it, one for trying things out is made"),
        key("trusted_proxies", "networks whose X-Forwarded-* headers are believed"),
        key("resolver", "name servers to ask for addresses of services, instead of this machine's"),
        key("defaults", "what every route and service inherits, and the bounds of connections"),
        key("auth", "whose tokens are taken, and on which terms"),
        key("services", "what requests are sent to"),
        key("routes", "which request goes where"),
        key("log", "access log and event log"),
    ],
};

pub const DEFAULTS: Keys = Keys {
    table: "[defaults]",
    keys: &[
        key("timeout", "time for a service to send a response head"),
        key("max_body", "largest request body; false for no bound"),
        key("retry", "when a failed request is tried at another endpoint"),
        key("connect", "time to establish a connection to an endpoint"),
        key("keepalive", "idle connections kept to a service, per shard"),
        key("max_head", "largest head, request or response"),
        key("max_line", "longest request target or header line"),
        key("max_headers", "header fields in one head"),
        key(
            "client_header_timeout",
            "time for a TLS handshake, a request head, and the first byte of a connection",
        ),
        key("keepalive_timeout", "time a client's connection may be idle between requests"),
        key("client_body_timeout", "time without a byte of a body we wait for"),
        key("min_body_rate", "least bytes a second of a body we wait for"),
        key("tunnel_idle", "time without a byte in a tunnel (WebSocket)"),
        key("drain", "time for connections to end when the gateway stops"),
        key(
            "handshakes_per_turn",
            "TLS handshakes a shard computes before it looks at everything else again",
        ),
        key("max_connections", "client connections of the process: \"auto\" or a number"),
    ],
};

pub const RETRY: Keys = Keys {
    table: "`retry`",
    keys: &[
        key(
            "on",
            "failures that are retried: connect, reset, timeout, or a status such as 503; non_idempotent: also of POST",
        ),
        key("tries", "attempts in all, the first included"),
        key("budget", "retries as a share of requests, in percent"),
    ],
};

pub const LISTEN: Keys = Keys {
    table: "a listener",
    keys: &[
        key("address", "where to listen: \":8080\", \"127.0.0.1:8080\", \"unix:/run/x.sock\""),
        key("backlog", "connections the kernel holds until they are accepted"),
        key("lenient", "a bare LF ends a line of a head"),
        key("proxy_protocol", "connections of trusted proxies begin with a PROXY header"),
        key("http2", "HTTP/2 for clients that want it; on unless it says off"),
    ],
};

pub const LISTEN_FLAGS: Keys = Keys {
    table: "a listen line",
    keys: &[
        key("backlog", "connections the kernel holds until they are accepted"),
        key("lenient", "a bare LF ends a line of a head"),
        key("proxy_protocol", "connections of trusted proxies begin with a PROXY header"),
        key("http2", "HTTP/2 for clients that want it; on unless it says off"),
    ],
};

pub const TLS: Keys = Keys {
    table: "[tls]",
    keys: &[
        key("cert", "file with the certificate and those that lead to its authority"),
        key("key", "file with its private key"),
        key("min", "oldest version that is spoken: \"1.2\" or \"1.3\""),
        key("also", "further certificates, chosen by the name the client asks for (SNI)"),
        key("unknown", "what a name without a certificate gets: \"default\" (the first one) or \"reject\""),
        key("clients", "certificates that clients must show"),
    ],
};

pub const CERTIFICATE: Keys = Keys {
    table: "a certificate",
    keys: &[
        key("cert", "file with the certificate and those that lead to its authority"),
        key("key", "file with its private key"),
    ],
};

pub const TLS_CLIENTS: Keys = Keys {
    table: "`clients`",
    keys: &[
        key("ca", "file with the certificates of the authorities that sign clients'"),
        key("require", "whether a client without a certificate is turned away"),
    ],
};

pub const AUTH: Keys = Keys {
    table: "[auth.NAME]",
    keys: &[
        key(
            "issuer",
            "what a token's `iss` must be; its keys are found by OIDC discovery if no others are named",
        ),
        key("audience", "one of these must be in a token's `aud`; false takes tokens for anybody"),
        key("jwks", "URL or file of the issuer's keys"),
        key("pem", "file with the issuer's public keys or certificates"),
        key("secret", "secret shared with the issuer (HS256, HS384, HS512)"),
        key("ca", "file with the authorities to trust when keys are fetched, instead of this machine's"),
        key("algs", "algorithms that are taken"),
        key("leeway", "difference of clocks that is allowed"),
        key("from", "where tokens are looked for: \"header:NAME\" and \"cookie:NAME\""),
        key("roles_claim", "the claim that has the roles"),
        key("headers", "claims that services get as headers"),
        key("identity", "\"header\" tells services all claims, as JSON in base64url in X-Identity"),
        key("token", "what services get of the token itself: \"pass\" or \"strip\""),
        key(
            "database",
            "where the users are, for whom tokens are issued: \"sqlite:FILE\" or \"postgres://…\"",
        ),
        key("access", "lifetime of an access token"),
        key("refresh", "lifetime of a refresh token; false gives none out"),
        key("login", "path where users log in"),
        key("refresh_path", "path where a refresh token is exchanged"),
        key("logout", "path where a session is ended"),
        key("throttle", "failed logins until there is a pause: \"5/min per account, 20/min per ip\""),
        key("signing", "algorithm of the tokens: \"EdDSA\", \"ES256\", or \"RS256\" with an imported key"),
        key("passwords", "the work that hashing a password is"),
        key("poll", "how often the database is asked for what other gateways revoked"),
        key("first_user", "made when there is no user yet, with a password that is shown once"),
    ],
};

pub const PASSWORDS: Keys = Keys {
    table: "`passwords`",
    keys: &[
        key("memory", "memory that argon2id takes"),
        key("passes", "how often it goes through it"),
        key("lanes", "parts that can be worked on at once"),
        key("threads", "threads that hash"),
        key("queue", "passwords that wait for one; a login beyond that gets a 429"),
    ],
};

pub const FIRST_USER: Keys =
    Keys { table: "`first_user`", keys: &[key("name", "the user's name"), key("roles", "the user's roles")] };

pub const SERVICE: Keys = Keys {
    table: "a service",
    keys: &[
        key("servers", "server lines or tables"),
        key(
            "balance",
            "how an endpoint is picked: \"random\" (the less loaded of two), \"round_robin\", \"least_conn\", \"least_time\", \"first\" or \"ip_hash\"",
        ),
        key("hash", "requests with the same value of this text go to the same server: \"{header.x-user}\""),
        key("queue", "requests that wait while every server has `max_conns`: \"100 wait 2s\""),
        key("keepalive", "idle connections kept, per shard"),
        key("connect", "time to establish a connection to an endpoint"),
        key("tls", "how certificates of https:// servers are judged"),
        key("protocol", "\"h1\" or \"h2\" for every server, whatever its URL says"),
    ],
};

pub const SERVICE_TLS: Keys = Keys {
    table: "a service's `tls`",
    keys: &[
        key("ca", "file with the certificates of the authorities to trust instead of this machine's"),
        key("verify", "false believes every certificate"),
        key("name", "the name the certificate must have, if not the URL's"),
    ],
};

pub const SERVER: Keys = Keys {
    table: "a server line",
    keys: &[
        key("url", "where the server is: http://host:port/prefix, https://… or http://unix:/path"),
        key("weight", "share of the requests"),
        key("max_fails", "failures within `fail_timeout` that take it out; 0 never does"),
        key("fail_timeout", "time in which failures are counted, and for which it is out"),
        key("backup", "used when no other server is left"),
        key("down", "never used"),
        key("max_conns", "requests in flight at most, over all shards; 0 for any number"),
        key("resolve", "accepted for nginx's sake: the addresses of a name are always followed"),
        key("slow_start", "time in which its share grows after it was out"),
    ],
};

pub const AMQP: Keys = Keys {
    table: "a service behind a broker",
    keys: &[
        key("servers", "brokers: amqp://user:password@host:port/vhost, or amqps://"),
        key("exchange", "the exchange messages go to; without it, straight to the queue that `key` names"),
        key("key", "routing key; may have {query.NAME}, {header.NAME} and {cookie.NAME}"),
        key("reply", "how the answer comes: \"direct\", \"queue\" or \"none\" (202 once the broker has it)"),
        key("persistent", "whether the broker keeps messages on disk; true with reply = \"none\""),
        key("headers", "request headers that travel with a message"),
        key("max_reply", "largest reply"),
        key("in_flight", "calls under way at once"),
        key("heartbeat", "time after which a silent broker is asked whether it lives"),
    ],
};

pub const BROKER: Keys = Keys {
    table: "a broker's server line",
    keys: &[
        key("url", "where the broker is: amqp://user:password@host:port/vhost, or amqps://"),
        key("backup", "used when no other broker can be reached"),
    ],
};

pub const ROUTE: Keys = Keys {
    table: "a route",
    keys: &[
        key("to", "a service's name, or a URL"),
        key("on", "the listener the route is bound to, as written in `listen`"),
        key("strip", "prefix removed from the path before it is sent"),
        key("rewrite", "the path, and the query if it has a `?`, to send instead"),
        key("host", "the Host a service sees: \"client\" (the one received) or \"upstream\" (its own)"),
        key("timeout", "time for a service to send a response head"),
        key("max_body", "largest request body; false for no bound"),
        key("retry", "when a failed request is tried at another endpoint; false for never"),
        key("raw_path", "the path is matched and sent as received"),
        key("stream", "bodies may rest: they are neither gathered nor timed"),
        key("upgrade", "protocols besides WebSocket that a client may upgrade to"),
        key("auth", "one or several [auth.NAME]: a token of one of them is wanted"),
        key("roles", "roles a token must have, all of them"),
        key("any_role", "roles of which a token must have one"),
        key("scopes", "scopes a token must have, all of them"),
        key("claims", "claims a token must have, with their values"),
        key("optional", "true: a request without a token is let in, too"),
        key("status", "answer with this status"),
        key("body", "answer with this text"),
        key("type", "content type of `body`"),
        key("headers", "headers of the answer"),
        key("redirect", "answer with this Location"),
        key("code", "status of the redirect"),
        key("parts", "what is asked for one document, by name"),
        key(
            "conflict",
            "two parts with one member: \"last\" (as Object.assign), \"first\", \"error\" or \"array\"",
        ),
        key("merge", "\"shallow\", or \"deep\": objects are merged, not replaced"),
        key("errors", "where failed parts are told: \"headers\" alone, or in the \"body\" as well"),
    ],
};

pub const PART: Keys = Keys {
    table: "a part",
    keys: &[
        key("to", "a service's name, or a URL"),
        key("path", "what it is asked for, and a query if it has a `?`"),
        key("query", "parameters of the query, by name"),
        key("method", "\"GET\" if not written"),
        key("body", "what is sent: a value, or a text; its strings are templates"),
        key("type", "content type of `body`"),
        key("headers", "headers that are set, or with false left out"),
        key("required", "there is no document without it"),
        key("default", "stands in for it when it fails"),
        key("stale", "how old its last good answer may be that stands in for it"),
        key("at", "where its answer goes: a name, a.b, \".\" for the root, false for nowhere"),
        key("pick", "a path into the answer: only what it leads to"),
        key("only", "paths into the answer: nothing else is kept"),
        key("drop", "paths into the answer: what is left out"),
        key("rename", "new names, by path"),
        key("timeout", "less than the route's"),
        key("max_body", "largest answer"),
        key("each", "values of another part: one call for each, {each} in templates"),
        key("batch", "values of another part: one call for all, {batch} in templates"),
        key("max", "calls of `each`, or values of `batch`"),
        key("parallel", "calls of `each` at a time"),
        key("when", "the part is asked only if this holds"),
    ],
};

pub const LOG: Keys = Keys {
    table: "[log]",
    keys: &[
        key("access", "one record per request; false turns it off"),
        key("events", "what happens to the gateway itself"),
    ],
};

pub const ACCESS: Keys = Keys {
    table: "`access`",
    keys: &[
        key("to", "\"stdout\", \"stderr\" or a file"),
        key("format", "\"combined\", \"json\" or a text with nginx's $variables"),
    ],
};

pub const EVENTS: Keys = Keys {
    table: "`events`",
    keys: &[
        key("to", "\"stdout\", \"stderr\" or a file"),
        key("level", "\"error\", \"warn\", \"info\" or \"debug\""),
    ],
};

/// What people coming from other gateways write, and what it is called here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("backend", "to"),
    ("backends", "services"),
    ("bind", "listen"),
    ("client_max_body_size", "max_body"),
    ("content_type", "type"),
    ("location", "routes"),
    ("locations", "routes"),
    ("log_level", "events"),
    ("port", "listen"),
    ("proxy_connect_timeout", "connect"),
    ("proxy_next_upstream", "retry"),
    ("proxy_pass", "to"),
    ("proxy_read_timeout", "timeout"),
    ("return", "status"),
    ("server", "servers"),
    ("endpoints", "servers"),
    ("set_real_ip_from", "trusted_proxies"),
    ("ssl", "tls"),
    ("ssl_certificate", "cert"),
    ("ssl_certificate_key", "key"),
    ("ssl_client_certificate", "ca"),
    ("ssl_protocols", "min"),
    ("strip_prefix", "strip"),
    ("target", "to"),
    ("threads", "shards"),
    ("upstream", "services"),
    ("upstreams", "services"),
    ("worker_connections", "max_connections"),
    ("worker_processes", "shards"),
    ("workers", "shards"),
];

impl Keys {
    pub fn contains(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name)
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys.iter().map(|key| key.name)
    }

    /// The key that was probably meant.
    pub fn suggestion(&self, wrong: &str) -> Option<&'static str> {
        let elsewhere = ELSEWHERE.iter().find(|(name, ours)| *name == wrong && self.contains(ours));
        elsewhere.map(|&(_, ours)| ours).or_else(|| closest(wrong, self.names()))
    }
}

/// The name that differs from `wrong` by a slip or two of the finger.
pub(super) fn closest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A short word is close to many others: there one slip must do.
    let slips_max = if wrong.len() < 5 { 1 } else { 2 };
    // A bound on both lengths keeps the cost down when each of 10,000 names is wrong.
    names
        .filter(|name| name.len().abs_diff(wrong.len()) <= slips_max)
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|&(slips, _)| slips <= slips_max)
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &Keys, wrong: &str, expected: Option<&str>) {
        assert_eq!(keys.suggestion(wrong), expected);
    }

    #[test]
    fn a_slip_of_the_finger_is_seen() {
        check(&SERVER, "wieght", Some("weight"));
        check(&SERVER, "max_fail", Some("max_fails"));
        check(&ROUTE, "too", Some("to"));
        check(&TOP, "sevices", Some("services"));
    }

    #[test]
    fn a_word_of_another_gateway_is_known() {
        check(&ROUTE, "proxy_pass", Some("to"));
        check(&TOP, "worker_processes", Some("shards"));
        check(&SERVICE, "worker_processes", None);
    }

    #[test]
    fn a_key_of_later_versions_is_not_mistaken_for_another() {
        for wrong in ["cache", "cors", "limit", "compress", "trace", "source"] {
            check(&TOP, wrong, None);
            check(&ROUTE, wrong, None);
        }
        for wrong in ["sticky", "health", "eject", "breaker", "hedge", "scale"] {
            check(&SERVICE, wrong, None);
        }
    }

    /// The demo, and the same with its commented defaults uncommented.
    fn demo() -> (&'static str, String) {
        let demo = include_str!("../../config.toml");
        let is_default = |line: &str| {
            let key = line.split(" = ").next().unwrap_or("");
            let is_key = line.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            is_key || line.starts_with("[routes.")
        };
        let lines =
            demo.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_default(rest)).unwrap_or(line));
        (demo, lines.collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn the_demo_mentions_every_key() {
        let (demo, _) = demo();
        let words: std::collections::HashSet<&str> =
            demo.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let missing: Vec<_> =
            ALL.iter().flat_map(|keys| keys.names()).filter(|name| !words.contains(name)).collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn the_demo_is_good_and_its_comments_are_the_defaults() {
        let (demo, uncommented) = demo();
        assert_ne!(demo.trim_end(), uncommented);
        let config = |text: &str| {
            let mut config = super::super::load::testing::good(text);
            // The one route that is only there when uncommented.
            config.routes.retain(|route| !route.pattern.text().starts_with("api.example.com"));
            format!("{config:#?}")
        };
        assert_eq!(config(&uncommented), config(demo));
    }

    #[test]
    fn every_elsewhere_leads_somewhere() {
        for (_, ours) in ELSEWHERE {
            assert!(ALL.iter().any(|keys| keys.contains(ours)), "{ours}");
        }
    }
}
