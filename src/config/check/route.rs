//! `[routes]`: a pattern, and a target, a table, or a list of tables for several listeners.

use std::sync::Arc;

use super::{
    auth,
    defaults::{self, Defaults},
    issuing::OwnRoute,
    listen, part,
    read::{self, Fields},
    reply,
    service::Services,
    template::Templates,
};
use crate::{
    config::{
        Auth, HostHeader, Listen, Route, Target, keys,
        problem::Problems,
        raw::{Entry, Node, Place, Value},
        source::Sources,
    },
    http::headers::is_token,
    route::{self, Conflict, Pattern},
    template::Template,
};

/// What routes refer to.
pub(super) struct Context<'a, 'b> {
    pub listen: &'a [Listen],
    pub defaults: &'a Defaults,
    pub services: &'a mut Services<'b>,
    pub auths: &'a [Auth],
    pub sources: &'a Sources,
}

/// The routes that are written, and those that issuers bring.
pub(super) fn all(
    entry: Option<&Entry>,
    own: Vec<OwnRoute>,
    context: &mut Context<'_, '_>,
    problems: &mut Problems,
) -> Vec<Route> {
    let entries = match entry.map(|entry| read::table(entry, problems)) {
        Some(Some(table)) => &table.entries[..],
        Some(None) => return Vec::new(),
        None => &[],
    };
    if entries.is_empty() {
        let title = "no routes: every request will be answered with 404";
        let problem =
            problems.warning(title).help("write [routes] and, below it, \"/\" = \"http://127.0.0.1:3000\"");
        if let Some(entry) = entry {
            problem.at(entry.key.at(), "");
        }
    }
    let mut routes = Vec::new();
    let mut claims = Vec::new();
    for entry in entries {
        let Some(pattern) = pattern(entry, problems) else { continue };
        let nodes = entry.node.items();
        if nodes.is_empty() {
            problems.error("a route without a target").at(entry.key.at(), "");
        }
        for node in nodes {
            let on = node.as_table().and_then(|table| table.get("on"));
            let on = on.map(|entry| self::on(entry, context.listen, problems));
            // What is wrong with the rest of a route does not change which requests it claims.
            if let Some(on) = on.map_or(Some(None), |on| on.map(Some)) {
                claims.push(Claim { pattern: pattern.clone(), on, key: entry.key.at() });
            }
            routes.extend(one(entry, &pattern, on.flatten(), node, context, problems));
        }
    }
    for OwnRoute { pattern, action, auth, at } in own {
        claims.push(Claim { pattern: pattern.clone(), on: None, key: at });
        let mut route = default(&pattern, None, at, context);
        route.target = Target::Accounts { auth, action };
        route.max_body = route.max_body.min(ACCOUNTS_BODY_MAX);
        routes.push(route);
    }
    report_conflicts(&claims, context.listen, problems);
    routes
}

/// Nobody's name and password are longer.
const ACCOUNTS_BODY_MAX: u64 = 16 * 1024;

/// The requests a route is for.
struct Claim {
    pattern: Pattern,
    on: Option<usize>,
    key: Place,
}

fn pattern(entry: &Entry, problems: &mut Problems) -> Option<Pattern> {
    let key = entry.key.word();
    Pattern::parse(key.as_str())
        .map_err(|bad| {
            problems.error(bad.what).at(key.slice(bad.at).at(), "");
        })
        .ok()
}

fn report_conflicts(claims: &[Claim], listen: &[Listen], problems: &mut Problems) {
    let patterns: Vec<_> = claims.iter().map(|claim| (&claim.pattern, claim.on)).collect();
    for conflict in route::conflicts(&patterns) {
        let Conflict { first, second, example, settled_by } = conflict;
        let title = match settled_by {
            Some(_) => "routes overlap and neither is more specific",
            None => "two routes match the same requests",
        };
        let help = match settled_by {
            Some(key) => match claims[first].on.xor(claims[second].on) {
                Some(on) => {
                    let name = &listen[on].name;
                    format!(
                        "both match {example}; add a route \"{key}\" with on = \"{name}\", or bind both to it"
                    )
                }
                None => format!("both match {example}; add a route \"{key}\", or rename a literal"),
            },
            None => format!("both match {example}; `on` binds a route to a listener of its own"),
        };
        problems.error(title).at(claims[second].key, "").at(claims[first].key, "").help(help);
    }
}

/// Keys that only make sense where a request is sent to a service.
const PROXY_ONLY: [&str; 8] = ["to", "strip", "rewrite", "host", "timeout", "retry", "stream", "upgrade"];

fn one(
    entry: &Entry,
    pattern: &Pattern,
    on: Option<usize>,
    node: &Node,
    context: &mut Context<'_, '_>,
    problems: &mut Problems,
) -> Option<Route> {
    let defaults = context.defaults;
    let mut route = default(pattern, on, entry.key.at(), context);
    let table = match &node.value {
        Value::String(text) => {
            route.target = context.services.target(text.word(), problems)?;
            return Some(route);
        }
        Value::Table(table) => table,
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) => {
            read::wrong_kind(pattern.text(), "a service, a URL, or a table", node, problems);
            return None;
        }
    };
    let fields = Fields::new(table, &keys::ROUTE, problems);
    let templates = Templates::new(pattern);
    let target = target(entry, &fields, pattern, &templates, context, problems);

    route.timeout = fields.or("timeout", route.timeout, |entry| defaults::timeout(entry, problems));
    route.max_body = fields.or("max_body", route.max_body, |entry| defaults::max_body(entry, problems));
    route.retry = fields.or("retry", route.retry, |entry| defaults::retry(entry, &defaults.retry, problems));
    route.strip = fields.get("strip").and_then(|entry| strip(entry, pattern, problems));
    route.rewrite = fields.get("rewrite").and_then(|entry| rewrite(entry, &templates, problems));
    route.host = fields.or("host", route.host, |entry| read::one_of(entry, &HOSTS, problems));
    route.raw_path = fields.or("raw_path", false, |entry| read::boolean(entry, problems));
    route.stream = fields.or("stream", false, |entry| read::boolean(entry, problems));
    route.upgrade = fields.get("upgrade").map_or_else(Vec::new, |entry| upgrade(entry, problems));
    route.auth = auth::route(&fields, context.auths, problems);
    if let Some(entry) = templates.jwt_without(route.auth.is_some()) {
        problems.error("`{jwt.…}` in a route without `auth`").at(entry, "nobody looks at its token");
    }
    if let (Some(strip), Some(rewrite)) = (fields.get("strip"), fields.get("rewrite")) {
        let title = "`strip` has no effect beside `rewrite`";
        problems.error(title).at(strip.key.at(), "").at(rewrite.key.at(), "replaces the whole path");
    }
    route.target = target?;
    Some(route)
}

/// A route as `[defaults]` has it, to nowhere yet.
fn default(pattern: &Pattern, on: Option<usize>, at: Place, context: &Context<'_, '_>) -> Route {
    let defaults = context.defaults;
    Route {
        pattern: pattern.clone(),
        on,
        target: Target::Service(0),
        timeout: defaults.timeout,
        max_body: defaults.max_body,
        retry: defaults.retry.clone(),
        strip: None,
        rewrite: None,
        host: HostHeader::Client,
        raw_path: false,
        stream: false,
        upgrade: Vec::new(),
        auth: None,
        place: context.sources.position(at).into(),
    }
}

const HOSTS: [(&str, HostHeader); 2] = [("client", HostHeader::Client), ("upstream", HostHeader::Upstream)];

/// What the route does: exactly one of `to`, a fixed reply, a redirect.
fn target(
    route: &Entry,
    fields: &Fields<'_>,
    pattern: &Pattern,
    templates: &Templates<'_>,
    context: &mut Context<'_, '_>,
    problems: &mut Problems,
) -> Option<Target> {
    let refuse = |keys: &[&str], kind: &str, problems: &mut Problems| {
        for entry in keys.iter().filter_map(|key| fields.get(key)) {
            let title = format!("`{}` has no effect in a route with {kind}", entry.key.as_str());
            problems.error(title).at(entry.key.at(), "");
        }
    };
    if let Some(entry) = fields.get("parts") {
        let others = [
            "to", "strip", "rewrite", "stream", "upgrade", "status", "body", "type", "headers", "redirect",
            "code",
        ];
        refuse(&others, "parts", problems);
        return part::aggregate(entry, fields, pattern, templates, context, problems);
    }
    refuse(&["conflict", "merge", "errors"], "no `parts`", problems);
    if let Some(entry) = fields.get("redirect") {
        refuse(&PROXY_ONLY, "a redirect", problems);
        refuse(&["status", "body", "type", "headers"], "a redirect", problems);
        return reply::redirect(entry, fields.get("code"), templates, problems);
    }
    refuse(&["code"], "no `redirect`", problems);
    if fields.get("status").is_some() || fields.get("body").is_some() {
        refuse(&PROXY_ONLY, "a fixed reply", problems);
        return reply::fixed(fields, templates, problems);
    }
    refuse(&["type", "headers"], "no `status` or `body`", problems);
    let Some(entry) = fields.get("to") else {
        let title = format!("route `{}` does nothing", route.key.word().shown());
        problems.error(title).at(route.key.at(), "it needs `to`, `parts`, `status` or `redirect`");
        return None;
    };
    let word = read::string_for(entry, "a service's name or a URL", problems)?;
    context.services.target(word, problems)
}

/// The listener of that name, or with that address.
fn on(entry: &Entry, listeners: &[Listen], problems: &mut Problems) -> Option<usize> {
    let word = read::string(entry, problems)?;
    let named = listeners.iter().position(|listener| *listener.name == *word.shown());
    let found = named.or_else(|| {
        // Its problems are of no interest: what is no address is no listener.
        let address = listen::address(word, &mut Problems::default())?;
        listeners.iter().position(|listener| listener.address == address)
    });
    if found.is_none() {
        let title = format!("no listener `{}`", word.shown());
        read::unknown_name(title, word, listeners.iter().map(|listener| &*listener.name), problems);
    }
    found
}

fn strip(entry: &Entry, pattern: &Pattern, problems: &mut Problems) -> Option<Arc<str>> {
    let word = read::string(entry, problems)?;
    let strip = word.as_str().trim_end_matches('/');
    let literal = pattern.literal_prefix();
    let behind = literal.strip_prefix(strip);
    if strip.is_empty() || !behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('/')) {
        let title = format!("`strip`: `{}` is not what every path of this route begins with", word.shown());
        let remark = match literal.trim_end_matches('/') {
            "" => "there is nothing to strip".to_owned(),
            all => format!("at most `{all}` can be stripped, at a slash"),
        };
        problems.error(title).at(word.at(), remark);
        return None;
    }
    Some(strip.into())
}

fn rewrite(entry: &Entry, templates: &Templates<'_>, problems: &mut Problems) -> Option<Template> {
    let word = read::string(entry, problems)?;
    let wrong = if !word.as_str().starts_with('/') {
        Some("`rewrite` is a path: it begins with a slash")
    } else if word.as_str().bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'#') {
        Some("`rewrite` has a character that no path may have")
    } else {
        None
    };
    if let Some(title) = wrong {
        problems.error(title).at(word.at(), "");
        return None;
    }
    templates.parse(word, problems)
}

fn upgrade(entry: &Entry, problems: &mut Problems) -> Vec<Arc<str>> {
    let mut tokens: Vec<Arc<str>> = Vec::new();
    for word in read::strings(entry, problems) {
        let token = word.as_str().to_ascii_lowercase();
        let fits = is_token(token.split('/').next().unwrap_or("").as_bytes())
            && token.bytes().all(|b| b.is_ascii_graphic());
        if token == "h2c" {
            problems.error("an upgrade to h2c is never passed on").at(word.at(), "");
        } else if !fits {
            problems.error(format!("`{}` is no name of a protocol", word.shown())).at(word.at(), "");
        } else {
            tokens.push(token.into());
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::testing::{check_problems, good};

    fn text(routes: &str) -> String {
        format!(
            "listen = [':80', 'http://127.0.0.1:81']\n[services]\ns = 'http://a'\n[routes]\n'/s/' = 's'\n{routes}\n"
        )
    }

    /// The last route of these.
    fn route(routes: &str) -> Route {
        good(&text(routes)).routes.pop().unwrap()
    }

    #[track_caller]
    fn check_wrong(routes: &str, expected: &[&str]) {
        check_problems(&text(routes), expected);
    }

    #[test]
    fn a_target_is_a_service_or_a_url() {
        for target in ["'s'", "{ to = 's' }", "[{ to = 's' }]"] {
            assert!(matches!(route(&format!("'/' = {target}")).target, Target::Service(0)));
        }
        assert!(matches!(route("'/' = 'http://a'").target, Target::Service(1)));
    }

    #[test]
    fn every_key_arrives() {
        let route = route(
            "'/a/b/{c}' = { to = 's', on = '127.0.0.1:81', strip = '/a', host = 'upstream', timeout = '3s', max_body = 7, \
             retry = { tries = 3 }, raw_path = true, stream = true, upgrade = ['TCP', 'x/1'] }",
        );
        assert_eq!(
            (route.on, route.strip.as_deref(), route.host),
            (Some(1), Some("/a"), HostHeader::Upstream)
        );
        assert_eq!((route.timeout.as_secs(), route.max_body, route.retry.tries), (3, 7, 3));
        assert!(route.raw_path && route.stream && route.retry.on_connect);
        assert_eq!(route.upgrade.iter().map(|token| &**token).collect::<Vec<_>>(), ["tcp", "x/1"]);
        assert_eq!(&*route.place, "config.toml:6");
    }

    #[test]
    fn a_rewrite_is_a_template() {
        let known = |name: &str| ["id", "rest"].iter().position(|known| *known == name);
        let text = "/v2/{rest}?id={id}&q={query.q}";
        let route = route(&format!("'/u/{{id}}/{{rest...}}' = {{ to = 's', rewrite = '{text}' }}"));
        assert_eq!(route.rewrite, Template::parse(text, &known).ok());
    }

    #[test]
    fn one_pattern_may_go_to_several_listeners() {
        let config =
            good(&text("'/s/x' = [{ to = 's', on = ':80' }, { status = 404, on = '127.0.0.1:81' }]"));
        assert_eq!(config.routes.iter().map(|route| route.on).collect::<Vec<_>>(), [None, Some(0), Some(1)]);
        check_wrong(
            "'/' = { to = 's', on = ':80' }",
            &["'/' -> routes overlap and neither is more specific \
               [both match /s/; add a route \"/s/\" with on = \":80\", or bind both to it]"],
        );
    }

    #[test]
    fn a_target_that_is_not_there_is_an_error() {
        check_wrong("'/' = 't'", &["t -> unknown service `t` [did you mean `s`?]"]);
        check_wrong("'/' = { to = 'shop' }", &["shop -> unknown service `shop` [known: s]"]);
        check_wrong(
            "'/' = 'a:80'",
            &["a:80 -> unknown service `a:80` [a URL begins with http://: `http://a:80`]"],
        );
        check_wrong(
            "'/' = 'http://a weight=2'",
            &[
                "weight=2 -> a server's flags belong into [services] [a route has a service's name or a URL alone]",
            ],
        );
        check_wrong("'/' = 3", &["3 -> `/` must be a service, a URL, or a table, not an integer"]);
        check_wrong(
            "'/' = {}",
            &["'/' -> route `/` does nothing [it needs `to`, `parts`, `status` or `redirect`]"],
        );
        check_wrong("'/' = []", &["'/' -> a route without a target"]);
    }

    #[test]
    fn keys_that_would_do_nothing_are_errors() {
        check_wrong(
            "'/' = { redirect = '/x', to = 's', status = 3 }",
            &[
                "to -> `to` has no effect in a route with a redirect",
                "status -> `status` has no effect in a route with a redirect",
            ],
        );
        check_wrong(
            "'/' = { body = 'x', timeout = '1s', code = 301 }",
            &[
                "timeout -> `timeout` has no effect in a route with a fixed reply",
                "code -> `code` has no effect in a route with no `redirect`",
            ],
        );
        check_wrong(
            "'/' = { to = 's', headers = {} }",
            &["headers -> `headers` has no effect in a route with no `status` or `body`"],
        );
        check_wrong(
            "'/a/' = { to = 's', strip = '/a', rewrite = '/b' }",
            &["strip -> `strip` has no effect beside `rewrite` [replaces the whole path]"],
        );
    }

    #[test]
    fn a_key_of_later_versions_is_unknown() {
        for key in ["cache", "cors", "limit", "compress"] {
            let found = from_text_title(&text(&format!("'/' = {{ to = 's', {key} = 'x' }}")));
            assert_eq!(found, format!("unknown key `{key}` in a route"));
        }
    }

    fn from_text_title(text: &str) -> String {
        crate::config::load::from_text(text).unwrap_err().iter().next().unwrap().title.clone()
    }

    #[test]
    fn a_wrong_value_is_an_error() {
        let check = |keys: &str, expected: &str| {
            check_wrong(&format!("'/a/{{id}}/' = {{ to = 's', {keys} }}"), &[expected]);
        };
        check("on = ':8'", ":8 -> no listener `:8` [did you mean `:80`?]");
        check("on = '[::1]:999'", "[::1]:999 -> no listener `[::1]:999` [known: :80, http://127.0.0.1:81]");
        check("host = 'clent'", "clent -> `host` cannot be `clent` [did you mean `client`?]");
        check("stream = 'yes'", "'yes' -> `stream` must be true or false, not a string");
        check("rewrite = 'x'", "x -> `rewrite` is a path: it begins with a slash");
        check("rewrite = '/a b'", "/a b -> `rewrite` has a character that no path may have");
        check("upgrade = 'h2c'", "h2c -> an upgrade to h2c is never passed on");
        check("upgrade = ['a b']", "a b -> `a b` is no name of a protocol");
        check("upgrade = [3]", "3 -> `upgrade` must be a list of strings, not of an integer");
        check("upgrade = 3", "3 -> `upgrade` must be a string or a list of strings, not an integer");
    }

    #[test]
    fn only_what_every_path_begins_with_can_be_stripped() {
        let check = |strip: &str, remark: &str| {
            let title = format!("`strip`: `{strip}` is not what every path of this route begins with");
            check_wrong(
                &format!("'/api/v1/{{id}}' = {{ to = 's', strip = '{strip}' }}"),
                &[&format!("{strip} -> {title} [{remark}]")],
            );
        };
        let remark = "at most `/api/v1` can be stripped, at a slash";
        for strip in ["/ap", "api", "/", "/api/v1/x"] {
            check(strip, remark);
        }
        let title =
            "`strip`: `/x` is not what every path of this route begins with [there is nothing to strip]";
        check_wrong("'/{id}' = { to = 's', strip = '/x' }", &[&format!("/x -> {title}")]);
        let stripped =
            |strip: &str| route(&format!("'/api/v1/{{id}}' = {{ to = 's', strip = '{strip}' }}")).strip;
        assert_eq!(stripped("/api").as_deref(), Some("/api"));
        assert_eq!(stripped("/api/v1/").as_deref(), Some("/api/v1"));
    }

    #[test]
    fn a_variable_that_is_not_there_is_an_error() {
        let check = |rewrite: &str, expected: &str| {
            check_wrong(&format!("'/a/{{page}}' = {{ to = 's', rewrite = '{rewrite}' }}"), &[expected]);
        };
        check("/{pge}", "pge -> unknown variable `pge` [did you mean `page`?]");
        check(
            "/{jwr.sub}",
            "jwr.sub -> unknown variable `jwr.sub` [write `{{` for a brace] \
             [here are {page}, {query.NAME}, {header.NAME}, {cookie.NAME} and {jwt.CLAIM}]",
        );
        check("/{jwt.sub}", "/{jwt.sub} -> `{jwt.…}` in a route without `auth` [nobody looks at its token]");
        check("/{page", "{page -> a variable without its `}` [write `{{` for a brace]");
    }

    #[test]
    fn a_wrong_pattern_is_an_error() {
        let title = "`{query}` means something else in templates; take another name";
        check_wrong("'/{query}' = 's'", &[&format!("{{query}} -> {title}")]);
    }

    #[test]
    fn routes_that_overlap_are_shown_together() {
        let text = "listen = ':80'\n[routes]\n\"GET /users/{id}/posts\" = \"http://a\"\n\
                    \"GET /users/me/{page}\" = { to = \"http://a\", timeout = 3 }\n";
        let expected = r#"
error: routes overlap and neither is more specific
 --> config.toml:4:1
  |
3 | "GET /users/{id}/posts" = "http://a"
  | -----------------------
4 | "GET /users/me/{page}" = { to = "http://a", timeout = 3 }
  | ^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: both match /users/me/posts; add a route "GET /users/me/posts", or rename a literal
error: `timeout` must be a duration such as "2s", not an integer
 --> config.toml:4:55
  |
4 | "GET /users/me/{page}" = { to = "http://a", timeout = 3 }
  |                                                       ^
2 errors
"#;
        let found = crate::config::load::from_text(text).unwrap_err().to_string();
        assert_eq!(found, expected.trim_start());
    }

    #[test]
    fn the_same_requests_twice_are_an_error() {
        let title = "two routes match the same requests";
        let help = "both match /x; `on` binds a route to a listener of its own";
        check_wrong("'/x' = ['s', 's']", &[&format!("'/x' -> {title} [{help}]")]);
    }

    #[test]
    fn no_routes_are_a_warning() {
        let title = "no routes: every request will be answered with 404";
        let help = "[write [routes] and, below it, \"/\" = \"http://127.0.0.1:3000\"]";
        check_problems("listen = ':80'", &[&format!("{title} {help}")]);
        check_problems("listen = ':80'\n[routes]", &[&format!("routes -> {title} {help}")]);
    }
}
