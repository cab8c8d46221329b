//! How a claim of a token is named: `sub`, `https://example.com/roles`, `realm_access.roles`.

use std::sync::Arc;

use crate::json::{Path, Span, write};

/// The name of a claim, or the way to one within a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimName {
    text: Arc<str>,
    /// The claim of exactly this name. It comes first: `https://example.com/roles` has dots, and is one name.
    exact: Path,
    /// The text as a path, where it is one with more than one step.
    path: Option<Path>,
}

impl ClaimName {
    pub fn new(text: &str) -> Self {
        let mut quoted = vec![b'['];
        write::string(text, &mut quoted);
        quoted.push(b']');
        let quoted = String::from_utf8(quoted).expect("made from a str");
        let exact = Path::parse(&quoted).expect("a string in brackets is a path");
        let path = Path::parse(text).ok().filter(|path| path.steps().len() > 1);
        Self { text: text.into(), exact, path }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the claim's value lies in the checked object at `object`.
    pub fn find(&self, body: &[u8], object: Span) -> Option<Span> {
        self.exact.first(body, object).or_else(|| self.path.as_ref()?.first(body, object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_claim_first_and_a_path_second() {
        let body =
            br#"{"sub":"s","https://example.com/roles":1,"realm_access":{"roles":[2]},"a.b":3,"a":{"b":4}}"#;
        let object = crate::json::check(body).unwrap().span;
        let check = |name: &str, expected: Option<&str>| {
            let found = ClaimName::new(name).find(body, object).map(|span| span.of(body));
            assert_eq!(found, expected.map(str::as_bytes), "{name}");
        };
        check("sub", Some("\"s\""));
        check("https://example.com/roles", Some("1"));
        check("realm_access.roles", Some("[2]"));
        check("realm_access.roles[0]", Some("2"));
        check("a.b", Some("3"));
        check("a[\"b\"]", Some("4"));
        check("", None);
        check("nothing.here", None);
        check("[", None);
    }
}
