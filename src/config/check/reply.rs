//! Routes that need no service: fixed replies and redirects.

use std::sync::Arc;

use super::{
    read::{self, Fields},
    template::Templates,
};
use crate::{
    config::{
        Fixed, Target,
        problem::Problems,
        raw::{Entry, Value, Word},
    },
    http::headers,
    template::Template,
};

const CODES: [u16; 5] = [301, 302, 303, 307, 308];

/// `{ status, body, type, headers }`; the status is 200 and the type plain text if not written.
pub(super) fn fixed(
    fields: &Fields<'_>,
    templates: &Templates<'_>,
    problems: &mut Problems,
) -> Option<Target> {
    let before = problems.errors();
    let status = fields.or("status", 200, |entry| {
        let status = read::integer(entry, 200..=599, problems)?;
        u16::try_from(status).ok()
    });
    let body = fields
        .or("body", Template::literal(""), |entry| templates.parse(read::string(entry, problems)?, problems));
    if let Some(entry) = fields.get("body")
        && matches!(status, 204 | 304)
        && body.as_literal() != Some("")
    {
        problems.error(format!("a reply with status {status} has no body")).at(entry.key.at(), "");
    }
    let content_type = fields.or("type", "text/plain; charset=utf-8".into(), |entry| {
        let word = read::string(entry, problems)?;
        if !word.as_str().contains('/') || !is_field_value(word.as_str()) {
            let title = format!("`{}` is not a media type", word.shown());
            problems.error(title).at(word.at(), "write application/json");
            return None;
        }
        Some(word.as_str().into())
    });
    let headers = fields.or("headers", Vec::new(), |entry| self::fields(entry, problems));
    (problems.errors() == before).then_some(Target::Fixed(Fixed { status, content_type, body, headers }))
}

/// A table of names and values; a list of values gives as many fields.
fn fields(entry: &Entry, problems: &mut Problems) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let table = read::table(entry, problems)?;
    let mut headers = Vec::new();
    for entry in &table.entries {
        let name = entry.key.as_str();
        if !headers::is_token(name.as_bytes()) {
            problems.error(format!("`{name}` is no name of a header")).at(entry.key.at(), "");
            continue;
        }
        if let Some(remark) = not_settable(name) {
            problems.error(format!("`{name}` cannot be set here")).at(entry.key.at(), remark);
            continue;
        }
        for value in read::strings(entry, problems) {
            if is_field_value(value.as_str()) {
                headers.push((name.into(), value.as_str().into()));
            } else {
                problems.error(format!("the value of `{name}` cannot stand in a header")).at(value.at(), "");
            }
        }
    }
    Some(headers)
}

/// Why a header is not for routes to set: framing and the connection are ours (RFC 9110 §7.6.1, RFC 9112 §6).
fn not_settable(name: &str) -> Option<&'static str> {
    let ours = [
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    if name.eq_ignore_ascii_case("content-type") {
        return Some("write `type`");
    }
    if name.eq_ignore_ascii_case("location") {
        return Some("write `redirect`");
    }
    ours.iter().any(|ours| name.eq_ignore_ascii_case(ours)).then_some("the gateway sets it")
}

/// `redirect` and `code`; 302 if not written, as nginx's `return` with a URL.
pub(super) fn redirect(
    entry: &Entry,
    code: Option<&Entry>,
    templates: &Templates<'_>,
    problems: &mut Problems,
) -> Option<Target> {
    let code = match code {
        None => Some(302),
        Some(entry) => {
            let Value::Integer(value) = entry.node.value else {
                read::wrong_kind("code", "an integer", &entry.node, problems);
                return None;
            };
            let code = CODES.into_iter().find(|&code| i64::from(code) == value);
            if code.is_none() {
                let title = format!("{value} is not the status of a redirect");
                problems.error(title).at(entry.node.at, "301, 302, 303, 307 or 308");
            }
            code
        }
    };
    let word = read::string(entry, problems)?;
    check_location(word, problems)?;
    let location = templates.parse(word, problems)?;
    Some(Target::Redirect { code: code?, location })
}

fn check_location(word: Word<'_>, problems: &mut Problems) -> Option<()> {
    let text = word.as_str();
    if !["/", "http://", "https://"].iter().any(|start| text.starts_with(start)) {
        let title = "`redirect` begins with a slash or with http:// or https://";
        problems.error(title).at(word.at(), "");
        return None;
    }
    if text.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
        problems.error("`redirect` has a character that no URL may have").at(word.at(), "");
        return None;
    }
    Some(())
}

/// White space at either end would not arrive (RFC 9110 §5.5).
fn is_field_value(text: &str) -> bool {
    text.trim() == text && headers::is_field_value(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::testing::{check_problems, good};

    fn text(route: &str) -> String {
        format!("listen = ':80'\n[routes]\n'/a/{{id}}' = {route}\n")
    }

    fn target(route: &str) -> Target {
        good(&text(route)).routes.remove(0).target
    }

    #[track_caller]
    fn check_wrong(route: &str, expected: &str) {
        check_problems(&text(route), &[expected]);
    }

    #[track_caller]
    fn check_fixed(route: &str, status: u16, content_type: &str, headers: &[(&str, &str)]) {
        let Target::Fixed(fixed) = target(route) else { panic!("no fixed reply") };
        let found: Vec<_> = fixed.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!((fixed.status, &*fixed.content_type, &*found), (status, content_type, headers));
    }

    #[test]
    fn a_fixed_reply_has_defaults() {
        check_fixed("{ body = 'x' }", 200, "text/plain; charset=utf-8", &[]);
        check_fixed("{ status = 204 }", 204, "text/plain; charset=utf-8", &[]);
        check_fixed(
            "{ status = 404, type = 'application/json', body = '{}', headers = { A = 'b', Link = ['c', 'd'] } }",
            404,
            "application/json",
            &[("A", "b"), ("Link", "c"), ("Link", "d")],
        );
    }

    #[test]
    fn a_redirect_is_302_unless_it_says_otherwise() {
        let check = |route: &str, expected: u16| {
            let Target::Redirect { code, .. } = target(route) else { panic!("no redirect") };
            assert_eq!(code, expected);
        };
        check("{ redirect = '/b/{id}' }", 302);
        check("{ redirect = 'https://b/{header.x}', code = 308 }", 308);
    }

    #[test]
    fn a_wrong_reply_is_an_error() {
        check_wrong("{ status = 100 }", "100 -> `status`: 100 is not within 200 and 599");
        check_wrong("{ status = '200' }", "'200' -> `status` must be an integer, not a string");
        check_wrong("{ status = 304, body = 'x' }", "body -> a reply with status 304 has no body");
        check_wrong("{ body = 3 }", "3 -> `body` must be a string, not an integer");
        check_wrong(
            "{ body = '', type = 'json' }",
            "json -> `json` is not a media type [write application/json]",
        );
        let check = |headers: &str, expected: &str| {
            check_wrong(&format!("{{ status = 200, headers = {headers} }}"), expected);
        };
        check("3", "3 -> `headers` must be a table, not an integer");
        check("{ 'a b' = 'c' }", "'a b' -> `a b` is no name of a header");
        check(
            "{ Content-Length = '1' }",
            "Content-Length -> `Content-Length` cannot be set here [the gateway sets it]",
        );
        check("{ content-type = 'a/b' }", "content-type -> `content-type` cannot be set here [write `type`]");
        check("{ a = \"b\\r\\nc: d\" }", "\"b\\r\\nc: d\" -> the value of `a` cannot stand in a header");
        check("{ a = 3 }", "3 -> `a` must be a string or a list of strings, not an integer");
    }

    #[test]
    fn a_wrong_redirect_is_an_error() {
        check_wrong(
            "{ redirect = '/', code = 200 }",
            "200 -> 200 is not the status of a redirect [301, 302, 303, 307 or 308]",
        );
        check_wrong("{ redirect = '/', code = '301' }", "'301' -> `code` must be an integer, not a string");
        check_wrong("{ redirect = 'b' }", "b -> `redirect` begins with a slash or with http:// or https://");
        check_wrong("{ redirect = '/ü' }", "/ü -> `redirect` has a character that no URL may have");
        check_wrong("{ redirect = '/{di}' }", "di -> unknown variable `di` [did you mean `id`?]");
    }
}
