//! `parts` of a route: what each asks, and how the answers become one document.

use std::{collections::HashMap, sync::Arc};

use super::{
    defaults,
    graph::{self, Written},
    json,
    read::{self, Fields},
    route::Context,
    template::Templates,
};
use crate::{
    config::{
        Target, keys,
        problem::Problems,
        raw::{Entry, Node, Table, Value, Word},
    },
    http::{Method, headers},
    json::{Conflict, Depth, Edit, Name, Path, Place},
    limits::{EACH, EACH_MAX, EACH_PARALLEL, PART_BYTES, PART_BYTES_MAX, PARTS_MAX},
    route::Pattern,
    template::{Escape, Of, Template, Variable},
    transform::{
        BodyTemplate, Condition, Errors, FanOut, HeaderRule, Importance, Part, Plan,
        body::BadBody as BadBodyTemplate, plan,
    },
};

const NAME_BYTES_MAX: usize = 64;
/// What templates call something else.
const RESERVED: [&str; 7] = ["path", "jwt", "query", "header", "cookie", "each", "batch"];

const CONFLICTS: [(&str, Conflict); 4] = [
    ("last", Conflict::Last),
    ("first", Conflict::First),
    ("error", Conflict::Error),
    ("array", Conflict::Array),
];
const DEPTHS: [(&str, Depth); 2] = [("shallow", Depth::Shallow), ("deep", Depth::Deep)];
const ERRORS: [(&str, Errors); 2] = [("headers", Errors::Headers), ("body", Errors::Body)];

/// The aggregate that `parts` and the keys beside it describe.
pub(super) fn aggregate(
    entry: &Entry,
    route: &Fields<'_>,
    pattern: &Pattern,
    templates: &Templates<'_>,
    context: &mut Context<'_, '_>,
    problems: &mut Problems,
) -> Option<Target> {
    let before = problems.errors();
    let table = read::table(entry, problems)?;
    if table.entries.is_empty() || table.entries.len() > PARTS_MAX {
        let title = format!("an aggregate has 1 to {PARTS_MAX} parts, not {}", table.entries.len());
        problems.error(title).at(entry.key.at(), "");
    }
    let names: Vec<&str> = table.entries.iter().map(|entry| entry.key.as_str()).collect();
    for entry in &table.entries {
        check_name(entry, pattern, problems);
    }
    let mut parts = Vec::new();
    let mut written = Vec::new();
    for (index, entry) in table.entries.iter().enumerate() {
        let mut reader = Reader { names: &names, index, pattern, context: &mut *context };
        if let Some(part) = reader.part(entry, problems) {
            parts.push(part);
            written.push(Written { key: entry.key.at(), at: at_of(entry) });
        }
    }
    let conflict = route.or("conflict", Conflict::Last, |entry| read::one_of(entry, &CONFLICTS, problems));
    let depth = route.or("merge", Depth::Shallow, |entry| read::one_of(entry, &DEPTHS, problems));
    let errors = route.or("errors", Errors::Headers, |entry| read::one_of(entry, &ERRORS, problems));
    if problems.errors() > before {
        return None;
    }
    for (part, written) in parts.iter().zip(&written) {
        if part.variables().any(|variable| matches!(variable, Variable::Jwt(_))) {
            templates.has_jwt(written.key);
        }
    }
    let mut plan = Plan { parts, conflict, depth, errors };
    graph::check(&mut plan, &written, route.get("conflict").is_some(), problems);
    Some(Target::Aggregate(Arc::new(plan)))
}

fn at_of(entry: &Entry) -> crate::config::raw::Place {
    let at = entry.node.as_table().and_then(|table| table.get("at"));
    at.map_or_else(|| entry.key.at(), |at| at.node.at)
}

fn check_name(entry: &Entry, pattern: &Pattern, problems: &mut Problems) {
    let name = entry.key.as_str();
    let is_name = name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if !is_name {
        let title = format!("`{}` is no name of a part", entry.key.word().shown());
        let remark = "letters, digits, _ and -; `at` says what the member is called";
        problems.error(title).at(entry.key.at(), remark);
    } else if RESERVED.contains(&name) || pattern.variables().any(|variable| variable == name) {
        let what = if RESERVED.contains(&name) { "has a meaning" } else { "is a variable of the route" };
        let title = format!("a part cannot be called `{name}`: {{{name}…}} {what} in templates");
        problems.error(title).at(entry.key.at(), format!("call it otherwise and write at = \"{name}\""));
    }
}

/// Reads one part.
struct Reader<'a, 'c, 's> {
    names: &'a [&'a str],
    index: usize,
    pattern: &'a Pattern,
    context: &'a mut Context<'c, 's>,
}

impl<'a> Reader<'a, '_, '_> {
    fn part(&mut self, entry: &Entry, problems: &mut Problems) -> Option<Part> {
        let name = entry.key.as_str();
        match &entry.node.value {
            Value::String(text) => {
                let templates = self.templates(None);
                let (service, target) = self.short(text.word(), &templates, problems)?;
                Some(plain(name, service, target))
            }
            Value::Table(table) => self.full(name, entry, table, problems),
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) => {
                let wanted = "a service and a path such as \"users/users/{id}\", a URL, or a table";
                read::wrong_kind(name, wanted, &entry.node, problems);
                None
            }
        }
    }

    fn full(&mut self, name: &str, entry: &Entry, table: &Table, problems: &mut Problems) -> Option<Part> {
        let fields = Fields::new(table, &keys::PART, problems);
        let fan_out = self.fan_out(&fields, problems);
        let templates = self.templates(fan_out.as_ref());
        let Some(to) = fields.get("to") else {
            let title = format!("part `{name}` asks nobody");
            problems.error(title).at(entry.key.at(), "it needs `to`, a service's name or a URL");
            return None;
        };
        let service = read::string_for(to, "a service's name or a URL", problems)
            .and_then(|word| self.context.services.find(word, problems));
        let target = target(&fields, &templates, problems);
        let (method, method_text) =
            fields.or("method", (Method::Get, "GET".into()), |entry| method(entry, problems));
        let body = fields.get("body").and_then(|entry| {
            body(entry, &fields, matches!(method, Method::Get | Method::Head), &templates, problems)
        });
        if let (Some(entry), None) = (fields.get("type"), fields.get("body")) {
            problems.error("`type` has no effect without `body`").at(entry.key.at(), "");
        }
        let headers = fields.or("headers", Vec::new(), |entry| headers(entry, &templates, problems));
        let importance = importance(&fields, problems);
        let place = match fields.get("at") {
            None => Some(Place::under(name)),
            Some(entry) => place(entry, problems),
        };
        let max_body = fields.or("max_body", PART_BYTES, |entry| {
            let size = read::size(entry, 1..=PART_BYTES_MAX as u64, problems)?;
            usize::try_from(size).ok()
        });
        Some(Part {
            method,
            method_text,
            body,
            headers,
            importance,
            stale: fields.get("stale").and_then(|entry| defaults::timeout(entry, problems)),
            place: place?,
            edit: edit(&fields, problems),
            timeout: fields.get("timeout").and_then(|entry| defaults::timeout(entry, problems)),
            max_body,
            fan_out: fan_out.unwrap_or(FanOut::Once),
            when: fields.get("when").and_then(|entry| when(entry, &templates, problems)),
            ..plain(name, service?, target?)
        })
    }

    /// The templates of this part: they know the route's variables, the other parts, and what it is repeated for.
    fn templates(&self, fan_out: Option<&FanOut>) -> Templates<'a> {
        let others = self.names.iter().enumerate().filter(|(index, _)| *index != self.index);
        let mut answers: HashMap<&str, Of> = others.map(|(index, name)| (*name, Of::Part(index))).collect();
        match fan_out {
            Some(FanOut::Each { .. }) => drop(answers.insert("each", Of::Each)),
            Some(FanOut::Batch { .. }) => drop(answers.insert("batch", Of::Batch)),
            Some(FanOut::Once) | None => {}
        }
        Templates::new(self.pattern).knowing(answers)
    }

    /// `users/users/{id}`, or a URL.
    fn short(
        &mut self,
        word: Word<'_>,
        templates: &Templates<'_>,
        problems: &mut Problems,
    ) -> Option<(usize, Template)> {
        let text = word.as_str();
        let host = text.find("://").map_or(0, |at| at + 3);
        let slash = text[host..].find('/').map_or(text.len(), |at| host + at);
        let service = self.context.services.find(word.slice(0..slash), problems);
        let rest = word.slice(slash..text.len());
        let target = if rest.as_str().is_empty() {
            Some(Template::literal("/"))
        } else {
            path(rest, templates, problems)
        };
        Some((service?, target?))
    }

    fn fan_out(&self, fields: &Fields<'_>, problems: &mut Problems) -> Option<FanOut> {
        let (each, batch) = (fields.get("each"), fields.get("batch"));
        if let (Some(each), Some(batch)) = (each, batch) {
            let title = "a part is asked for each value or once for all of them";
            problems.error(title).at(each.key.at(), "").at(batch.key.at(), "not both");
        }
        let mut only_with = |key: &str, wanted: &str, there: bool| {
            if let (Some(entry), false) = (fields.get(key), there) {
                let title = format!("`{key}` has no effect without {wanted}");
                problems.error(title).at(entry.key.at(), "");
            }
        };
        only_with("max", "`each` or `batch`", each.is_some() || batch.is_some());
        only_with("parallel", "`each`", each.is_some());
        let bound = |entry: &Entry, problems: &mut Problems| {
            let most = u32::try_from(EACH_MAX).unwrap_or(u32::MAX);
            read::integer(entry, 1..=most, problems).and_then(|value| usize::try_from(value).ok())
        };
        let max = fields.or("max", EACH, |entry| bound(entry, problems));
        let parallel = fields.or("parallel", EACH_PARALLEL, |entry| bound(entry, problems));
        let entry = each.or(batch)?;
        let (of, path) = self.values(entry, problems)?;
        Some(if each.is_some() {
            FanOut::Each { of, path, max, parallel }
        } else {
            FanOut::Batch { of, path, max }
        })
    }

    /// `orders.items[*]`: a part, and a path into its answer.
    fn values(&self, entry: &Entry, problems: &mut Problems) -> Option<(usize, Path)> {
        let word = read::string_for(entry, "values of a part, such as \"orders.items[*]\"", problems)?;
        let text = word.as_str();
        let end = text.find(['.', '[']).unwrap_or(text.len());
        let name = word.slice(0..end);
        let others = self.names.iter().enumerate().filter(|(index, _)| *index != self.index);
        let Some((of, _)) = others.clone().find(|(_, other)| **other == name.as_str()) else {
            let title = format!("`{}`: no other part is called `{}`", entry.key.as_str(), name.shown());
            read::unknown_name(title, name, others.map(|(_, name)| *name), problems);
            return None;
        };
        let rest = &text[end..];
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        Some((of, parse_path(word.slice(text.len() - rest.len()..text.len()), problems)?))
    }
}

/// A part that says nothing but whom to ask for what.
fn plain(name: &str, service: usize, target: Template) -> Part {
    Part {
        name: name.into(),
        service,
        method: Method::Get,
        method_text: "GET".into(),
        target,
        body: None,
        headers: Vec::new(),
        importance: Importance::Optional { default: None },
        stale: None,
        place: Place::under(name),
        edit: None,
        timeout: None,
        max_body: PART_BYTES,
        fan_out: FanOut::Once,
        when: None,
        waits_for: Vec::new(),
    }
}

/// `path` and `query` as one template.
fn target(fields: &Fields<'_>, templates: &Templates<'_>, problems: &mut Problems) -> Option<Template> {
    let mut pieces = vec![match fields.get("path") {
        None => Template::literal("/"),
        Some(entry) => path(read::string(entry, problems)?, templates, problems)?,
    }];
    let Some(entry) = fields.get("query") else { return pieces.pop() };
    let is_in_path = fields.get("path").and_then(|entry| entry.node.as_text());
    let mut sign = if is_in_path.is_some_and(|text| text.as_str().contains('?')) { '&' } else { '?' };
    for entry in &read::table(entry, problems)?.entries {
        let mut name = vec![];
        Escape::Query.append(entry.key.as_str().as_bytes(), &mut name);
        pieces.push(Template::literal(&format!("{sign}{}=", String::from_utf8_lossy(&name))));
        pieces.push(match &entry.node.value {
            Value::String(text) => {
                let template = templates.parse(text.word(), problems)?;
                let mut value = Vec::new();
                match template.as_literal() {
                    Some(text) => {
                        Escape::Query.append(text.as_bytes(), &mut value);
                        Template::literal(&String::from_utf8_lossy(&value))
                    }
                    None => template,
                }
            }
            Value::Integer(value) => Template::literal(&value.to_string()),
            Value::Bool(value) => Template::literal(if *value { "true" } else { "false" }),
            Value::Float(_) | Value::List(_) | Value::Table(_) => {
                read::wrong_kind(
                    entry.key.as_str(),
                    "a string, an integer or a boolean",
                    &entry.node,
                    problems,
                );
                return None;
            }
        });
        sign = '&';
    }
    Some(Template::concat(pieces))
}

fn path(word: Word<'_>, templates: &Templates<'_>, problems: &mut Problems) -> Option<Template> {
    let template = templates.parse(word, problems)?;
    let literals = template.parts().iter().filter_map(|part| match part {
        crate::template::Part::Literal(text) => Some(&**text),
        crate::template::Part::Variable(_) => None,
    });
    let is_bad = |text: &str| text.bytes().any(|byte| byte <= b' ' || byte >= 0x7f || byte == b'#');
    let wrong = if !word.as_str().starts_with('/') {
        "the path of a part begins with a slash"
    } else if literals.into_iter().any(is_bad) {
        "a path with a character that no path may have"
    } else {
        return Some(template);
    };
    problems.error(wrong).at(word.at(), "");
    None
}

fn method(entry: &Entry, problems: &mut Problems) -> Option<(Method, Arc<str>)> {
    let word = read::string(entry, problems)?;
    let text = word.as_str();
    let method = Method::of(text.as_bytes());
    let is_good = headers::is_token(text.as_bytes())
        && text.len() <= 32
        && !text.bytes().any(|byte| byte.is_ascii_lowercase())
        && !matches!(method, Method::Connect | Method::Trace);
    if !is_good {
        problems
            .error(format!("`{}` is no method for a part", word.shown()))
            .at(word.at(), "GET, POST, PUT, …");
        return None;
    }
    Some((method, text.into()))
}

/// A value, or a text; its strings are templates.
fn body(
    entry: &Entry,
    fields: &Fields<'_>,
    only_reads: bool,
    templates: &Templates<'_>,
    problems: &mut Problems,
) -> Option<plan::Body> {
    if only_reads {
        let remark = "write method = \"POST\" beside it";
        problems.error("a part that only reads has no body").at(entry.key.at(), remark);
    }
    let content_type: Arc<str> = fields.or("type", "application/json".into(), |entry| {
        let word = read::string(entry, problems)?;
        if !word.as_str().contains('/') || !headers::is_field_value(word.as_str().as_bytes()) {
            let title = format!("`{}` is not a media type", word.shown());
            problems.error(title).at(word.at(), "write application/json");
            return None;
        }
        Some(word.as_str().into())
    });
    let template = match &entry.node.value {
        Value::String(text) if !content_type.contains("json") => {
            let is_form = content_type.starts_with("application/x-www-form-urlencoded");
            let escape = if is_form { Escape::Query } else { Escape::None };
            BodyTemplate::text(templates.parse(text.word(), problems)?, escape)
        }
        Value::String(text) => {
            let word = text.word();
            let text = word.braces_escaped().unwrap_or_else(|| word.as_str().to_owned());
            json_body(&text, &entry.node, templates, problems)?
        }
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) | Value::Table(_) => {
            let mut text = Vec::new();
            json::write(&entry.node, json::Braces::OfTemplates, &mut text, problems)?;
            json_body(&String::from_utf8_lossy(&text), &entry.node, templates, problems)?
        }
    };
    Some(plan::Body { template, content_type })
}

fn json_body(
    text: &str,
    node: &Node,
    templates: &Templates<'_>,
    problems: &mut Problems,
) -> Option<BodyTemplate> {
    match BodyTemplate::json(text, &|text| templates.parse_text(text)) {
        Ok(body) => Some(body),
        Err(BadBodyTemplate::Json(bad)) => {
            let help = "a value that is a whole string keeps its type: {\"id\": \"{user.id}\"}; a text of another kind says so \
                        with `type`";
            problems.error(format!("`body` is no JSON: {bad}")).at(node.at, "").help(help);
            None
        }
        Err(BadBodyTemplate::Template(bad)) => {
            let title = format!("`body`: {}", bad.what);
            problems.error(title).at(node.at, bad.remedy).help(templates.known());
            None
        }
    }
}

fn headers(
    entry: &Entry,
    templates: &Templates<'_>,
    problems: &mut Problems,
) -> Option<Vec<(Arc<str>, HeaderRule)>> {
    const OURS: [&str; 10] = [
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let mut rules = Vec::new();
    for entry in &read::table(entry, problems)?.entries {
        let name = entry.key.as_str();
        if !headers::is_token(name.as_bytes()) {
            problems.error(format!("`{name}` is no name of a header")).at(entry.key.at(), "");
        } else if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
            problems.error(format!("`{name}` cannot be set here")).at(entry.key.at(), "the gateway sets it");
        } else if name.eq_ignore_ascii_case("content-type") {
            problems.error(format!("`{name}` cannot be set here")).at(entry.key.at(), "write `type`");
        } else if matches!(entry.node.value, Value::Bool(false)) {
            rules.push((name.into(), HeaderRule::Remove));
        } else if let Some(word) = read::string_for(entry, "a value, or false to leave it out", problems)
            && let Some(template) = templates.parse(word, problems)
        {
            rules.push((name.into(), HeaderRule::Set(template)));
        }
    }
    Some(rules)
}

fn importance(fields: &Fields<'_>, problems: &mut Problems) -> Importance {
    let default = fields.get("default").and_then(|entry| {
        let mut text = Vec::new();
        json::write(&entry.node, json::Braces::AsTheyAre, &mut text, problems)?;
        Some(Arc::from(text))
    });
    if !fields.or("required", false, |entry| read::boolean(entry, problems)) {
        return Importance::Optional { default };
    }
    if let Some(entry) = fields.get("default") {
        let title = "`default` has no effect in a part that is required";
        problems.error(title).at(entry.key.at(), "");
    }
    Importance::Required
}

fn place(entry: &Entry, problems: &mut Problems) -> Option<Place> {
    if matches!(entry.node.value, Value::Bool(false)) {
        return Some(Place::Hidden);
    }
    let word = read::string_for(entry, "a name, \".\" for the root, or false for nowhere", problems)?;
    Place::parse(word.as_str())
        .map_err(|bad| {
            problems.error(format!("`at`: {bad}")).at(word.at(), "");
        })
        .ok()
}

/// `pick`, `only`, `drop` and `rename`; `None` if there is none of them.
pub(super) fn edit(fields: &Fields<'_>, problems: &mut Problems) -> Option<Edit> {
    let first = ["pick", "only", "drop", "rename"].iter().find_map(|key| fields.get(key))?;
    let before = problems.errors();
    let pick = fields.get("pick").and_then(|entry| parse_path(read::string(entry, problems)?, problems));
    let mut paths = |key: &str| -> Vec<Path> {
        let words = fields.get(key).map_or_else(Vec::new, |entry| read::strings(entry, problems));
        words.into_iter().filter_map(|word| parse_path(word, problems)).collect()
    };
    let (only, drop) = (paths("only"), paths("drop"));
    let renames = fields.get("rename").and_then(|entry| read::table(entry, problems));
    let mut rename = Vec::new();
    for entry in renames.into_iter().flat_map(|table| &table.entries) {
        let path = parse_path(entry.key.word(), problems);
        let name = read::string_for(entry, "the new name", problems);
        rename.extend(path.zip(name.map(|name| Name::new(name.as_str()))));
    }
    if problems.errors() > before {
        return None;
    }
    Edit::new(pick.unwrap_or_default(), only, drop, rename)
        .map_err(|bad| {
            problems.error(bad.to_string()).at(first.key.at(), "");
        })
        .ok()
}

fn parse_path(word: Word<'_>, problems: &mut Problems) -> Option<Path> {
    Path::parse(word.as_str())
        .map_err(|bad| {
            let text = word.as_str();
            let title = format!("`{}` is no path: {bad}", word.shown());
            problems.error(title).at(word.slice(bad.at.min(text.len())..text.len()).at(), "");
        })
        .ok()
}

fn when(entry: &Entry, templates: &Templates<'_>, problems: &mut Problems) -> Option<Condition> {
    let word = read::string(entry, problems)?;
    let text = word.braces_escaped().unwrap_or_else(|| word.as_str().to_owned());
    let mut parse = |text: &str| templates.parse_text(text).map_err(|bad| (bad.what, templates.known()));
    let empty = || {
        (
            "something to test is missing".to_owned(),
            "write \"{query.full}\" or \"{user.kind} == gold\"".to_owned(),
        )
    };
    Condition::parse(&text, &mut parse, &empty)
        .map_err(|(what, help)| {
            problems.error(format!("`when`: {what}")).at(word.at(), "").help(help);
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::testing::{check_problems, good};

    fn text(keys: &str, parts: &str) -> String {
        format!(
            "listen = ':80'\n[services]\ns = 'http://a'\n[routes.'/r/{{id}}']\n{keys}\n[routes.'/r/{{id}}'.parts]\n{parts}\n"
        )
    }

    fn plan(keys: &str, parts: &str) -> Arc<Plan> {
        let mut config = good(&text(keys, parts));
        let Target::Aggregate(plan) = config.routes.remove(0).target else { panic!("no aggregate") };
        plan
    }

    #[track_caller]
    fn check_wrong(parts: &str, expected: &str) {
        check_problems(&text("", parts), &[expected]);
    }

    #[test]
    fn a_part_has_a_short_form() {
        let plan =
            plan("", "a = 's/x/{id}?q={query.q}'\nb = { to = 's', path = '/x/{id}?q={query.q}' }\nc = 's'");
        let [a, b, c] = &*plan.parts else { panic!("three parts") };
        assert_eq!((&a.target, a.service, &a.place), (&b.target, b.service, &Place::under("a")));
        assert_eq!(c.target.as_literal(), Some("/"));
        assert!(!a.is_required() && a.max_body == PART_BYTES && a.waits_for.is_empty());
    }

    #[test]
    fn parts_wait_for_those_they_name() {
        let plan = plan(
            "",
            "a = 's/{c.id}/{b[0].x}'\nb = { to = 's', each = 'c.list[*]', path = '/{each.id}' }\nc = 's/'\n\
             d = { to = 's', when = '{a.x} == 1', method = 'POST', body = { x = '{b}' }, headers = { Y = '{c.y}' } }",
        );
        let waits: Vec<_> = plan.parts.iter().map(|part| &*part.waits_for).collect();
        assert_eq!(waits, [&[1, 2][..], &[2], &[], &[0, 1, 2]]);
    }

    #[test]
    fn a_ring_is_an_error() {
        check_wrong(
            "a = 's/{b.x}'\nb = 's/{c.x}'\nc = 's/{a.x}'",
            "a -> parts wait for one another: `a`, `b`, `c` and `a` again \
             [one of them has to do without the answer of the next]",
        );
    }

    #[test]
    fn names_that_mean_something_else_are_errors() {
        check_wrong(
            "query = 's/'",
            "query -> a part cannot be called `query`: {query…} has a meaning in templates \
             [call it otherwise and write at = \"query\"]",
        );
        check_wrong(
            "id = 's/'",
            "id -> a part cannot be called `id`: {id…} is a variable of the route in templates \
             [call it otherwise and write at = \"id\"]",
        );
        check_wrong("a = 's/{bb.x}'\nb = 's/'", "bb.x -> unknown variable `bb.x` [did you mean `b`?]");
    }

    #[test]
    fn two_parts_at_one_place_are_an_error_where_nobody_has_decided() {
        let parts = "a = 's/a'\nb = { to = 's', path = '/b', at = 'a' }";
        check_wrong(
            parts,
            "'a' -> parts `a` and `b` both go to `a` [conflict = \"last\", \"first\" or \"array\" on the route says what \
             becomes of them; merge = \"deep\" merges them]",
        );
        assert_eq!(plan("conflict = 'first'", parts).conflict, Conflict::First);
        assert_eq!(plan("merge = 'deep'", parts).depth, Depth::Deep);
    }

    #[test]
    fn keys_that_would_do_nothing_are_errors() {
        check_wrong(
            "a = { to = 's', required = true, default = 1 }",
            "default -> `default` has no effect in a part that is required",
        );
        check_wrong("a = { to = 's', parallel = 3 }", "parallel -> `parallel` has no effect without `each`");
        check_wrong(
            "a = { to = 's', body = 'x', type = 'text/plain' }",
            "body -> a part that only reads has no body [write method = \"POST\" beside it]",
        );
        check_wrong("a = { to = 's', at = false }", "a -> no part is shown: each has at = false");
    }
}
