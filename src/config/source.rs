//! The texts that were read, kept for pictures in messages and for `-T`.

use std::{fmt, ops::Range, sync::Arc};

use super::raw::{Place, SourceId};

/// Every file that took part, in the order in which they were read.
#[derive(Clone, Default)]
pub struct Sources {
    list: Vec<Source>,
}

#[derive(Clone)]
struct Source {
    name: Arc<str>,
    text: Arc<str>,
    /// Where each line begins.
    lines: Arc<[u32]>,
}

impl Sources {
    /// Keeps a text under the name messages call it by.
    pub fn add(&mut self, name: &str, text: &str) -> SourceId {
        let behind_breaks = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        let lines = std::iter::once(0).chain(behind_breaks).filter_map(|at| u32::try_from(at).ok()).collect();
        self.list.push(Source { name: name.into(), text: masked(text).into(), lines });
        SourceId(u32::try_from(self.list.len() - 1).expect("includes are bounded"))
    }

    /// The names and texts, passwords in URLs masked.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|source| (&*source.name, &*source.text))
    }

    pub fn name(&self, id: SourceId) -> &str {
        &self.list[id.0 as usize].name
    }

    /// `config.toml:21`.
    pub fn position(&self, place: Place) -> String {
        format!("{}:{}", self.name(place.source), self.line(place) + 1)
    }

    /// The line `place` begins in, counted from 0.
    pub(super) fn line(&self, place: Place) -> usize {
        let lines = &self.list[place.source.0 as usize].lines;
        lines.partition_point(|&start| start <= place.start).saturating_sub(1)
    }

    /// The bytes from the start of line `first` to the end of line `last`, with the offset they begin at.
    pub(super) fn lines(&self, id: SourceId, first: usize, last: usize) -> (&str, usize) {
        let source = &self.list[id.0 as usize];
        let start = source.lines[first] as usize;
        let end = source.lines.get(last + 1).map_or(source.text.len(), |&next| next as usize);
        (source.text[start..end].trim_end_matches(['\n', '\r']), start)
    }
}

#[cfg(test)]
impl Sources {
    pub(super) fn slice(&self, place: Place) -> &str {
        &self.list[place.source.0 as usize].text[place.start as usize..place.end as usize]
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// `text` with the passwords of URLs (`scheme://user:password@`) replaced by as many `*`; a `${…}` stays.
fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for scheme_end in memchr::memmem::find_iter(text.as_bytes(), "://") {
        if let Some(password) = password(text, scheme_end + 3) {
            out.push_str(&text[copied..password.start]);
            // As many bytes as before, so that places stay right.
            out.extend(std::iter::repeat_n('*', password.len()));
            copied = password.end;
        }
    }
    out.push_str(&text[copied..]);
    out
}

/// Where the password stands in the URL whose authority begins at `start`.
fn password(text: &str, start: usize) -> Option<Range<usize>> {
    let authority = &text[start..start + authority_length(&text[start..])];
    let user_end = authority.rfind('@')?;
    let colon = authority[..user_end].find(':')? + 1;
    let password = &authority[colon..user_end];
    let is_reference =
        password.starts_with("${") && password.find('}') == Some(password.len().wrapping_sub(1));
    (!is_reference && !password.is_empty()).then(|| start + colon..start + user_end)
}

/// Bytes up to the end of a URL's authority. The slash of a `${file:/…}` in it does not end it.
fn authority_length(text: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>');
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let end = rest.find(ends).unwrap_or(rest.len());
        let reference = rest[..end].find("${").and_then(|open| Some(open + rest[open..].find('}')? + 1));
        match reference {
            Some(length) => at += length,
            None => return at + end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(masked(text), expected);
        assert_eq!(text.len(), expected.len());
    }

    #[test]
    fn a_password_in_a_url_is_masked() {
        check(r#"a = "amqp://u:pass@h/x""#, r#"a = "amqp://u:****@h/x""#);
        check(r#"["http://u:p@a", "http://v:qq@b"]"#, r#"["http://u:*@a", "http://v:**@b"]"#);
        check("http://u:ab${X}@h", "http://u:******@h");
    }

    #[test]
    fn a_reference_stays() {
        check("amqp://u:${P}@h", "amqp://u:${P}@h");
        check("amqp://u:${file:/run/p}@h", "amqp://u:${file:/run/p}@h");
    }

    #[test]
    fn what_is_no_password_stays() {
        for text in
            ["http://a:80/x@y", "http://[::1]:80", "user:pass@host", "http://u@h", "http://", "a://b c:d@e"]
        {
            check(text, text);
        }
    }
}
