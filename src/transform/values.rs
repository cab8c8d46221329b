//! Values of the request and of answers, put into templates so that they cannot change the meaning of what surrounds them.

use crate::{
    json::{self, Kind, Path, Span, write},
    template::{Escape, Of, Part, Template, Variable},
};

/// The client's request, as templates see it.
pub trait Client {
    /// Appends the value of a variable that is not a part's; nothing where the request has none.
    fn append(&self, variable: &Variable, escape: Escape, out: &mut Vec<u8>);
}

/// The answers that have come so far.
pub trait Answers {
    /// A checked body and the place of its value.
    fn answer(&self, of: Of) -> Option<(&[u8], Span)>;
}

/// What the templates of a part may name.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    pub client: &'a dyn Client,
    pub answers: &'a dyn Answers,
}

impl Values<'_> {
    /// Appends a path and, behind a `?`, a query. False where an answer has not what a template asks for.
    pub fn target(&self, template: &Template, out: &mut Vec<u8>) -> bool {
        let mut in_query = false;
        self.render(template, out, |out| {
            in_query |= memchr::memchr(b'?', out).is_some();
            if in_query { Escape::Query } else { Escape::PathSegment }
        })
    }

    /// Appends a text whose values are all escaped in one way. False as for [`Values::target`].
    pub fn text(&self, template: &Template, escape: Escape, out: &mut Vec<u8>) -> bool {
        self.render(template, out, |_| escape)
    }

    /// Appends a value of an answer as the JSON it is; an array of all where the path leads to many places. False where it leads
    /// nowhere.
    pub fn json(&self, of: Of, path: &Path, out: &mut Vec<u8>) -> bool {
        let Some((body, value)) = self.answers.answer(of) else { return false };
        if !path.is_many() {
            let found = path.first(body, value);
            out.extend_from_slice(found.map(|span| span.of(body)).unwrap_or_default());
            return found.is_some();
        }
        let mut found = Vec::new();
        path.find(body, value, &mut found);
        let before = out.len();
        out.push(b'[');
        for span in found {
            if out.len() > before + 1 {
                out.push(b',');
            }
            out.extend_from_slice(span.of(body));
        }
        out.push(b']');
        true
    }

    fn render(
        &self,
        template: &Template,
        out: &mut Vec<u8>,
        mut escape: impl FnMut(&[u8]) -> Escape,
    ) -> bool {
        for part in template.parts() {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(Variable::Part(of, path)) => {
                    let escape = escape(out);
                    if !self.scalars(*of, path, escape, out) {
                        return false;
                    }
                }
                Part::Variable(variable) => {
                    let escape = escape(out);
                    self.client.append(variable, escape, out);
                }
            }
        }
        true
    }

    /// Appends what a path leads to as text, several values with commas between them.
    fn scalars(&self, of: Of, path: &Path, escape: Escape, out: &mut Vec<u8>) -> bool {
        let Some((body, value)) = self.answers.answer(of) else { return false };
        let mut found = Vec::new();
        path.find(body, value, &mut found);
        let mut has_any = false;
        for span in found {
            // A list is as good as all of its elements.
            let is_list = Kind::of(span.of(body)) == Kind::Array;
            let inner = is_list.then(|| json::elements(body, span)).into_iter().flatten();
            for span in inner.chain((!is_list).then_some(span)) {
                let before = out.len();
                if has_any {
                    out.push(b',');
                }
                if !scalar(span.of(body), escape, out) {
                    out.truncate(before);
                    return false;
                }
                has_any = true;
            }
        }
        has_any
    }
}

/// Appends a value that has a text. `null` has none: nobody means it in a URL.
fn scalar(value: &[u8], escape: Escape, out: &mut Vec<u8>) -> bool {
    match Kind::of(value) {
        Kind::String => {
            let written = value.get(1..value.len().saturating_sub(1)).unwrap_or_default();
            if write::has_escapes(written) {
                let mut text = Vec::with_capacity(written.len());
                write::unescape(written, &mut text);
                escape.append(&text, out);
            } else {
                escape.append(written, out);
            }
            true
        }
        Kind::Number | Kind::True | Kind::False => {
            escape.append(value, out);
            true
        }
        Kind::Null | Kind::Object | Kind::Array => false,
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A request whose every variable has the text `c/1`.
    pub(crate) struct Fixed;

    impl Client for Fixed {
        fn append(&self, _: &Variable, escape: Escape, out: &mut Vec<u8>) {
            escape.append(b"c/1", out);
        }
    }

    /// One answer, of part 0.
    pub(crate) struct One(pub &'static str);

    impl Answers for One {
        fn answer(&self, of: Of) -> Option<(&[u8], Span)> {
            let value = json::check(self.0.as_bytes()).expect("JSON").span;
            (of == Of::Part(0)).then_some((self.0.as_bytes(), value))
        }
    }

    /// A template that knows `{id}`, the answered `{user}` and the missing `{gone}`.
    pub(crate) fn template(text: &str) -> Template {
        let answer = |name: &str| match name {
            "user" => Some(Of::Part(0)),
            "gone" => Some(Of::Part(1)),
            _ => None,
        };
        Template::parse_in_part(text, &|name| (name == "id").then_some(0), &answer).expect("a template")
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};

    const USER: &str = r#"{"id":7,"name":"a b/ü\n","tags":["x","y&z"],"items":[{"sku":1},{"sku":"2?"}],"none":null,"deep":{"a":1}}"#;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let values = Values { client: &Fixed, answers: &One(USER) };
        let mut out = Vec::new();
        let is_there = values.target(&template(text), &mut out);
        assert_eq!(is_there.then(|| String::from_utf8(out).expect("ASCII")).as_deref(), expected, "{text}");
    }

    #[test]
    fn a_value_stays_within_its_segment_or_its_parameter() {
        check("/u/{user.id}", Some("/u/7"));
        check("/u/{user.name}?n={user.name}", Some("/u/a%20b%2F%C3%BC%0A?n=a%20b/%C3%BC%0A"));
        check("/{id}?q={id}", Some("/c%2F1?q=c/1"));
    }

    #[test]
    fn several_values_have_commas_between_them() {
        check("/?s={user.items[*].sku}", Some("/?s=1,2?"));
        check("/?t={user.tags}", Some("/?t=x,y%26z"));
        check("/{user.tags[1]}", Some("/y&z"));
    }

    #[test]
    fn a_value_that_is_not_there_or_has_no_text_is_missing() {
        for text in ["/{user.x}", "/{gone}", "/{gone.a}", "/{user.none}", "/{user.deep}", "/{user.items}"] {
            check(text, None);
        }
    }

    #[test]
    fn a_value_keeps_its_type_where_json_is_wanted() {
        let values = Values { client: &Fixed, answers: &One(USER) };
        let json = |path: &str| {
            let mut out = Vec::new();
            let is_there = values.json(Of::Part(0), &Path::parse(path).expect("a path"), &mut out);
            is_there.then(|| String::from_utf8(out).expect("UTF-8"))
        };
        assert_eq!(json("tags").as_deref(), Some(r#"["x","y&z"]"#));
        assert_eq!(json("items[*].sku").as_deref(), Some(r#"[1,"2?"]"#));
        assert_eq!(json("items[*].none").as_deref(), Some("[]"));
        assert_eq!(json("none").as_deref(), Some("null"));
        assert_eq!(json("x"), None);
    }
}
