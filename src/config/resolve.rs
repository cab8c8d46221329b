//! `${ENV}` and `${file:/run/secret}` in strings.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    load::World,
    problem::Problems,
    raw::{Node, Table, Text, Value},
};

/// Bytes of a file that `${file:…}` names.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Puts the values of all `${…}` of a tree in their place. `files` gets the files that were read for it.
pub(super) fn resolve(
    table: &mut Table,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) {
    for entry in &mut table.entries {
        node(&mut entry.node, world, files, problems);
    }
}

fn node(node_: &mut Node, world: &World<'_>, files: &mut Vec<PathBuf>, problems: &mut Problems) {
    match &mut node_.value {
        Value::String(text) if text.as_str().contains("${") => {
            let pieces = pieces(text, world, files, problems);
            *text = text.replaced(pieces);
        }
        Value::List(list) => list.iter_mut().for_each(|item| node(item, world, files, problems)),
        Value::Table(table) => resolve(table, world, files, problems),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {}
    }
}

/// What each `${…}` of a text stands for.
fn pieces(
    text: &Text,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Vec<(Range<usize>, String)> {
    let value = text.as_str();
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(start) = value[at..].find("${").map(|found| at + found) {
        if value[..start].ends_with('$') {
            // `$${` is a `${` that stays, for nginx's `${variable}` in a log format.
            pieces.push((start - 1..start + 2, "${".to_owned()));
            at = start + 2;
            continue;
        }
        let Some(end) = value[start..].find('}').map(|found| start + found + 1) else {
            let place = text.word().slice(start..value.len()).at();
            problems.error("`${` without its `}`").at(place, "write `$${` if this is not a reference");
            break;
        };
        match lookup(&value[start + 2..end - 1], world, files) {
            Ok(found) if in_user_info(value, &(start..end)) => {
                pieces.push((start..end, percent_encoded(&found)))
            }
            Ok(found) => pieces.push((start..end, found)),
            Err((title, remark)) => {
                problems.error(title).at(text.word().slice(start..end).at(), remark);
            }
        }
        at = end;
    }
    pieces
}

/// The value of `NAME` or `file:/path`, or what is wrong with it: a title and a remark.
fn lookup(name: &str, world: &World<'_>, files: &mut Vec<PathBuf>) -> Result<String, (String, &'static str)> {
    if let Some(path) = name.strip_prefix("file:") {
        if !path.starts_with('/') {
            return Err((format!("`{path}` is not an absolute path"), "write `${file:/run/secrets/name}`"));
        }
        let path = Path::new(path);
        files.push(path.to_owned());
        let text =
            (world.read)(path).map_err(|error| (format!("cannot read {}: {error}", path.display()), ""))?;
        if text.len() > SECRET_BYTES_MAX {
            return Err((format!("{} is larger than 64 KiB", path.display()), ""));
        }
        // Editors and `echo` end a file with a line break, which nobody means to be part of the secret.
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        let remark = "write `${NAME}` or `${file:/path}`; `$${` if this is not a reference";
        return Err((format!("`${{{name}}}` names no environment variable"), remark));
    }
    (world.env)(name).ok_or_else(|| (format!("environment variable `{name}` is not set"), ""))
}

/// Whether `range` lies between the `://` and the `@` of a URL.
fn in_user_info(value: &str, range: &Range<usize>) -> bool {
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#');
    let Some(scheme) = value[..range.start].rfind("://") else { return false };
    // Other references may stand beside this one; the slash in `${file:/…}` ends nothing.
    let before = without_references(&value[scheme + 3..range.start]);
    let behind = without_references(&value[range.end..]);
    let authority_rest = behind.split(ends).next().unwrap_or("");
    !before.contains(ends) && !before.contains('@') && authority_rest.contains('@')
}

fn without_references(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        out.push_str(before);
        rest = behind.split_once('}').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// RFC 3986 §2.3: everything but unreserved characters is escaped.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::{Place, SourceId};

    fn world(run: impl FnOnce(&World<'_>)) {
        let read = |path: &Path| match path.to_str() {
            Some("/run/p") => Ok("from/file\n".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        let env = |name: &str| (name == "P").then(|| "a/b:c@d".to_owned());
        run(&World {
            read: &read,
            list: &|_| Ok(Vec::new()),
            env: &env,
            root: false,
            now: std::time::Duration::ZERO,
        });
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        world(|world| {
            let at = Place { source: SourceId(0), start: 0, end: 0 };
            let text = Text::new(text.to_owned(), at, Some(0));
            let mut problems = Problems::default();
            let pieces = pieces(&text, world, &mut Vec::new(), &mut problems);
            let found = text.replaced(pieces);
            match problems.iter().next() {
                None => assert_eq!(Ok(found.as_str()), expected),
                Some(problem) => assert_eq!(Err(&*problem.title), expected),
            }
        });
    }

    #[test]
    fn variables_and_files_are_put_in_place() {
        check("x ${P} y", Ok("x a/b:c@d y"));
        check("${file:/run/p}${P}", Ok("from/filea/b:c@d"));
        check("$P $ {P} {P}", Ok("$P $ {P} {P}"));
        check("$${P} ${P}", Ok("${P} a/b:c@d"));
    }

    #[test]
    fn user_information_of_a_url_is_percent_encoded() {
        check("amqp://u:${P}@h", Ok("amqp://u:a%2Fb%3Ac%40d@h"));
        check("amqp://${P}:${file:/run/p}@h/${P}", Ok("amqp://a%2Fb%3Ac%40d:from%2Ffile@h/a/b:c@d"));
        check("http://${P}/x@y", Ok("http://a/b:c@d/x@y"));
        check("http://h a@${P}", Ok("http://h a@a/b:c@d"));
    }

    #[test]
    fn what_cannot_be_resolved_is_an_error() {
        check("${Q}", Err("environment variable `Q` is not set"));
        check("${file:/run/q}", Err("cannot read /run/q: entity not found"));
        check("${file:run/q}", Err("`run/q` is not an absolute path"));
        check("${1}", Err("`${1}` names no environment variable"));
        check("a ${P", Err("`${` without its `}`"));
    }
}
