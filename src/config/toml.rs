//! TOML text → the tree of [`super::raw`].

use std::ops::Range;

use ::toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    problem::Problems,
    raw::{Entry, Node, Place, SourceId, Table, Text, Value},
};

/// The tree of a TOML text. Syntax errors become problems, all at once; what could be read around them is in the
/// tree all the same.
pub(super) fn parse(source: SourceId, text: &str, problems: &mut Problems) -> Table {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { source, text, problems };
    for error in errors {
        reader.syntax_error(&error);
    }
    reader.table(table.get_ref())
}

struct Reader<'a> {
    source: SourceId,
    text: &'a str,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn syntax_error(&mut self, error: &::toml::de::Error) {
        let span = error.span().unwrap_or(self.text.len()..self.text.len());
        let written = self.text.get(span.clone()).unwrap_or("");
        // `invalid basic string, expected `"`` reads better as a title and a remark.
        let message = error.message();
        let (title, remark) = message.split_once(", ").unwrap_or((message, ""));
        let (title, remark) = match title {
            "duplicate key" => (format!("`{written}` is defined twice"), String::new()),
            "string values must be quoted" if written.is_empty() => {
                ("a value is missing".into(), String::new())
            }
            "string values must be quoted" => {
                ("a string stands in quotes".into(), format!("write \"{written}\""))
            }
            _ => (title.to_owned(), remark.to_owned()),
        };
        let place = self.place(span);
        self.problems.error(title).at(place, remark);
    }

    fn table(&mut self, table: &DeTable<'_>) -> Table {
        let mut entries: Vec<_> = table.iter().collect();
        // The map is sorted by key; people expect problems in the order of the text.
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries = entries
            .into_iter()
            .filter_map(|(key, value)| {
                let key_text = self.string(key.get_ref(), key.span());
                Some(Entry { key: key_text, node: self.node(key, value)? })
            })
            .collect();
        Table { entries }
    }

    /// `None`, and a problem, for what no key takes.
    fn node(&mut self, key: &Spanned<DeString<'_>>, node: &Spanned<DeValue<'_>>) -> Option<Node> {
        let at = self.place(node.span());
        let value = match node.get_ref() {
            DeValue::String(string) => Value::String(self.string(string, node.span())),
            DeValue::Integer(integer) => {
                let digits = integer.as_str();
                let Ok(value) = i64::from_str_radix(digits, integer.radix()) else {
                    self.problems.error(format!("`{}`: the number is too large", key.get_ref())).at(at, "");
                    return None;
                };
                Value::Integer(value)
            }
            DeValue::Float(float) => Value::Float(float.as_str().parse().ok()?),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(_) => {
                let title = format!("`{}`: no key takes a date", key.get_ref());
                self.problems.error(title).at(at, "write it in quotes if it is meant as text");
                return None;
            }
            DeValue::Array(list) => {
                Value::List(list.iter().filter_map(|value| self.node(key, value)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Some(Node { value, at })
    }

    fn string(&self, value: &str, span: Range<usize>) -> Text {
        Text::new(value.to_owned(), self.place(span.clone()), self.verbatim(value, span))
    }

    /// Where `value` begins, if it stands in `span` byte for byte: without escapes.
    fn verbatim(&self, value: &str, span: Range<usize>) -> Option<u32> {
        let written = self.text.get(span.clone())?;
        let quote =
            ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| written.starts_with(quote)).unwrap_or("");
        let mut inside = written.get(quote.len()..written.len().checked_sub(quote.len())?)?;
        if quote.len() == 3 {
            // A line break right behind the quotes is not part of the value.
            inside = inside.strip_prefix("\r\n").or_else(|| inside.strip_prefix('\n')).unwrap_or(inside);
        }
        (inside == value).then(|| self.place(span).end - length(inside.len() + quote.len()))
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place { source: self.source, start: length(span.start), end: length(span.end) }
    }
}

/// Texts are bounded far below 4 GiB (`load::FILE_BYTES_MAX`).
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use crate::config::load::{from_text, testing::check_problems};

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(from_text(text).unwrap_err().to_string(), expected.trim_start());
    }

    #[test]
    fn all_syntax_errors_are_shown_at_once() {
        check(
            "listen = \":80\n[routes]\n\"/\" = http\nx =\n",
            r#"
error: invalid basic string
 --> config.toml:1:14
  |
1 | listen = ":80
  |              ^ expected `"`
error: a string stands in quotes
 --> config.toml:3:7
  |
3 | "/" = http
  |       ^^^^ write "http"
error: a value is missing
 --> config.toml:4:4
  |
4 | x =
  |    ^
3 errors
"#,
        );
    }

    #[test]
    fn a_key_written_twice_is_an_error() {
        check_problems("shards = 1\nshards = 2\n", &["shards -> `shards` is defined twice"]);
        check_problems("[log]\n[routes]\n[log]\n", &["log -> `log` is defined twice"]);
    }

    #[test]
    fn values_that_no_key_takes_are_errors() {
        check_problems(
            "shards = 99999999999999999999\nstate = 2020-01-01",
            &[
                "99999999999999999999 -> `shards`: the number is too large",
                "2020-01-01 -> `state`: no key takes a date [write it in quotes if it is meant as text]",
            ],
        );
    }

    #[test]
    fn a_place_inside_a_string_is_found_where_it_stands() {
        let check = |value: &str, pointed: &str| {
            let text = format!("listen = ':80'\n[routes]\n'/' = 'http://a'\n[defaults]\ntimeout = {value}");
            let title =
                "`timeout`: `1x` is not a duration [write a number and ms, s, m, h or d: 400ms, 2s, 30d]";
            check_problems(&text, &[&format!("{pointed} -> {title}")]);
        };
        check("'1x'", "1x");
        check("\"1x\"", "1x");
        check("\"\"\"\n1x\"\"\"", "1x");
        check("\"\\u0031x\"", "\"\\u0031x\"");
    }
}
