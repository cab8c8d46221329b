//! `[routes]`: a pattern, and a target, a table, or a list of tables for several listeners.

use std::{collections::HashMap, sync::Arc};

use super::{
    defaults::{self, Defaults},
    listen,
    read::{self, Fields},
    reply,
    service::Services,
};
use crate::{
    config::{
        HostHeader, Listen, Route, Target, keys,
        problem::Problems,
        raw::{Entry, Node, Place, Value, Word},
        source::Sources,
    },
    http::headers::is_token,
    route::{self, Conflict, Pattern},
    template::{self, Template},
};

/// What routes refer to.
pub(super) struct Context<'a, 'b> {
    pub listen: &'a [Listen],
    pub defaults: &'a Defaults,
    pub services: &'a mut Services<'b>,
    pub sources: &'a Sources,
}

pub(super) fn all(
    entry: Option<&Entry>,
    context: &mut Context<'_, '_>,
    problems: &mut Problems,
) -> Vec<Route> {
    let table = entry.and_then(|entry| read::table(entry, problems));
    let entries = table.map_or(&[][..], |table| &table.entries);
    if entries.is_empty() {
        let title = "no routes: every request will be answered with 404";
        let problem = problems.warning(title).help("[routes]\n\"/\" = \"http://127.0.0.1:3000\"");
        if let Some(entry) = entry {
            problem.at(entry.key.at(), "");
        }
    }
    let mut routes = Vec::new();
    let mut keys = Vec::new();
    for entry in entries {
        let Some(pattern) = pattern(entry, problems) else { continue };
        let nodes = match &entry.node.value {
            Value::List(list) => list.iter().collect(),
            _ => vec![&entry.node],
        };
        if nodes.is_empty() {
            problems.error("a route without a target").at(entry.key.at(), "");
        }
        for node in nodes {
            if let Some(route) = one(entry, &pattern, node, context, problems) {
                routes.push(route);
                keys.push(entry.key.at());
            }
        }
    }
    report_conflicts(&routes, &keys, problems);
    routes
}

fn pattern(entry: &Entry, problems: &mut Problems) -> Option<Pattern> {
    let key = entry.key.word();
    Pattern::parse(key.as_str())
        .map_err(|bad| {
            problems.error(bad.what).at(key.slice(bad.at).at(), "");
        })
        .ok()
}

fn report_conflicts(routes: &[Route], keys: &[Place], problems: &mut Problems) {
    let patterns: Vec<_> = routes.iter().map(|route| (&route.pattern, route.on)).collect();
    for conflict in route::conflicts(&patterns) {
        let Conflict { first, second, example, settled_by } = conflict;
        let title = match settled_by {
            Some(_) => "routes overlap and neither is more specific",
            None => "two routes match the same requests",
        };
        let help = match settled_by {
            Some(key) => format!("both match {example}; add a route \"{key}\", or rename a literal"),
            None => format!("both match {example}; `on` binds a route to a listener of its own"),
        };
        problems.error(title).at(keys[second], "").at(keys[first], "").help(help);
    }
}

/// Keys that only make sense where a request is sent to a service.
const PROXY_ONLY: [&str; 8] = ["to", "strip", "rewrite", "host", "timeout", "retry", "stream", "upgrade"];

fn one(
    entry: &Entry,
    pattern: &Pattern,
    node: &Node,
    context: &mut Context<'_, '_>,
    problems: &mut Problems,
) -> Option<Route> {
    let defaults = context.defaults;
    let position = context.sources.position(entry.key.at());
    let mut route = Route {
        pattern: pattern.clone(),
        on: None,
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
        place: position.into(),
    };
    let table = match &node.value {
        Value::String(text) => {
            route.target = Target::Service(context.services.find(text.word(), problems)?);
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
    let target = target(entry, &fields, &templates, context, problems);

    let fields_or = |key| fields.get(key);
    if let Some(entry) = fields_or("on") {
        route.on = on(entry, context.listen, problems);
    }
    route.timeout = fields.or("timeout", route.timeout, |entry| defaults::timeout(entry, problems));
    route.max_body = fields.or("max_body", route.max_body, |entry| defaults::max_body(entry, problems));
    route.retry = fields.or("retry", route.retry, |entry| defaults::retry(entry, &defaults.retry, problems));
    route.strip = fields_or("strip").and_then(|entry| strip(entry, pattern, problems));
    route.rewrite = fields_or("rewrite").and_then(|entry| rewrite(entry, &templates, problems));
    route.host = fields.or("host", route.host, |entry| read::one_of(entry, &HOSTS, problems));
    route.raw_path = fields.or("raw_path", false, |entry| read::boolean(entry, problems));
    route.stream = fields.or("stream", false, |entry| read::boolean(entry, problems));
    route.upgrade = fields_or("upgrade").map_or_else(Vec::new, |entry| upgrade(entry, problems));
    if let (Some(strip), Some(rewrite)) = (fields.get("strip"), fields.get("rewrite")) {
        let title = "`strip` has no effect beside `rewrite`";
        problems.error(title).at(strip.key.at(), "").at(rewrite.key.at(), "replaces the whole path");
    }
    route.target = target?;
    Some(route)
}

const HOSTS: [(&str, HostHeader); 2] = [("client", HostHeader::Client), ("upstream", HostHeader::Upstream)];

/// What the route does: exactly one of `to`, a fixed reply, a redirect.
fn target(
    route: &Entry,
    fields: &Fields<'_>,
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
        problems.error(title).at(route.key.at(), "it needs `to`, `status` or `redirect`");
        return None;
    };
    let word = read::string_for(entry, "a service's name or a URL", problems)?;
    context.services.find(word, problems).map(Target::Service)
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

/// Parses the templates of one route, which know the variables of its pattern.
pub(super) struct Templates<'a> {
    pattern: &'a Pattern,
    index: HashMap<&'a str, usize>,
}

impl<'a> Templates<'a> {
    fn new(pattern: &'a Pattern) -> Self {
        Self { pattern, index: pattern.variables().enumerate().map(|(index, name)| (name, index)).collect() }
    }

    pub(super) fn parse(&self, word: Word<'_>, problems: &mut Problems) -> Option<Template> {
        let known = |name: &str| self.index.get(name).copied();
        let parsed = match word.braces_escaped() {
            None => Template::parse(word.as_str(), &known),
            // What a `${…}` brought is text, never a variable. Places in the longer text mean nothing, hence the whole.
            Some(text) => Template::parse(&text, &known)
                .map_err(|bad| template::BadTemplate { at: 0..word.as_str().len(), ..bad }),
        };
        let bad = match parsed {
            Ok(template) => return Some(template),
            Err(bad) => bad,
        };
        let place = word.slice(bad.at.clone());
        if !bad.remedy.is_empty() || place.as_str().is_empty() {
            problems.error(bad.what).at(place.at(), bad.remedy);
            return None;
        }
        let problem = problems.error(bad.what);
        match keys::closest(place.as_str(), self.pattern.variables()) {
            Some(meant) => problem.at(place.at(), read::did_you_mean(meant)),
            None => {
                let own = self.pattern.variables().map(|name| format!("{{{name}}}, ")).collect::<String>();
                let all = format!("{own}{{query.NAME}}, {{header.NAME}} and {{cookie.NAME}}");
                problem.at(place.at(), "write `{{` for a brace").help(format!("here are {all}"))
            }
        };
        None
    }
}
