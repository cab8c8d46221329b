//! Routes that need no service: fixed replies and redirects.

use std::sync::Arc;

use super::{
    read::{self, Fields},
    route::Templates,
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
    (problems.errors() == before).then(|| Target::Fixed(Fixed { status, content_type, body, headers }))
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
