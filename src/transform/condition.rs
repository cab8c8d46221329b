//! `when`: whether a part is asked.
//!
//! `{query.full}` holds when there is a value that is neither `false` nor `0`; `!` turns it round; `==` and `!=` compare texts. `&&`
//! binds before `||`, and there are no brackets.

use super::values::Values;
use crate::template::{Escape, Template, Variable};

/// Tests joined by `&&`, joined by `||`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition(Vec<Vec<Test>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Test {
    left: Template,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    IsTrue,
    IsFalse,
    Equals(Template),
    Differs(Template),
}

impl Condition {
    /// `parse` makes a template of a piece of the text; an error is its, or a sentence about the piece.
    pub fn parse<E>(
        text: &str,
        parse: &mut dyn FnMut(&str) -> Result<Template, E>,
        empty: &dyn Fn() -> E,
    ) -> Result<Self, E> {
        let mut operand = |text: &str| {
            let text = text.trim();
            let quoted = text.len() > 1
                && (text.starts_with('\'') && text.ends_with('\'')
                    || text.starts_with('"') && text.ends_with('"'));
            match text {
                "" => Err(empty()),
                _ if quoted => parse(&text[1..text.len() - 1]),
                _ => parse(text),
            }
        };
        let mut test = |text: &str| {
            if let Some((left, right)) = text.split_once("==") {
                return Ok(Test { left: operand(left)?, what: What::Equals(operand(right)?) });
            }
            if let Some((left, right)) = text.split_once("!=") {
                return Ok(Test { left: operand(left)?, what: What::Differs(operand(right)?) });
            }
            match text.trim().strip_prefix('!') {
                Some(rest) => Ok(Test { left: operand(rest)?, what: What::IsFalse }),
                None => Ok(Test { left: operand(text)?, what: What::IsTrue }),
            }
        };
        let any = text.split("||").map(|all| all.split("&&").map(&mut test).collect());
        any.collect::<Result<_, E>>().map(Self)
    }

    /// A value that an answer lacks is the empty text.
    pub fn holds(&self, values: &Values<'_>) -> bool {
        let text = |template: &Template| {
            let mut out = Vec::new();
            if !values.text(template, Escape::None, &mut out) {
                out.clear();
            }
            out
        };
        let is_true = |template: &Template| !matches!(&*text(template), b"" | b"0" | b"false" | b"null");
        self.0.iter().any(|all| {
            all.iter().all(|test| match &test.what {
                What::IsTrue => is_true(&test.left),
                What::IsFalse => !is_true(&test.left),
                What::Equals(right) => text(&test.left) == text(right),
                What::Differs(right) => text(&test.left) != text(right),
            })
        })
    }

    /// The variables in it.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter().flatten().flat_map(|test| {
            let right = match &test.what {
                What::IsTrue | What::IsFalse => None,
                What::Equals(right) | What::Differs(right) => Some(right),
            };
            [Some(&test.left), right].into_iter().flatten().flat_map(Template::variables)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::values::testing::{Fixed, One, template},
        *,
    };

    #[track_caller]
    fn check(text: &str, expected: bool) {
        let condition = Condition::parse(text, &mut |text| Ok::<_, &str>(template(text)), &|| "empty");
        let answers = One(r#"{"kind":"gold","age":7,"off":false,"zero":0,"none":null}"#);
        let values = Values { client: &Fixed, answers: &answers };
        assert_eq!(condition.expect("a condition").holds(&values), expected, "{text}");
    }

    #[test]
    fn a_value_is_true_unless_it_says_no() {
        check("{user.kind}", true);
        check("{user.age}", true);
        check("{id}", true);
        for no in ["{user.off}", "{user.zero}", "{user.none}", "{user.x}", "{gone.a}"] {
            check(no, false);
            check(&format!("!{no}"), true);
        }
    }

    #[test]
    fn texts_are_compared() {
        check("{user.kind} == gold", true);
        check("{user.kind}=='gold'", true);
        check("{user.kind} != \"gold\"", false);
        check("{user.age} == 7", true);
        check("{user.x} == silver", false);
    }

    #[test]
    fn and_binds_before_or() {
        check("{user.off} && {user.kind} || {user.age}", true);
        check("{user.age} || {user.off} && {user.off}", true);
        check("{user.off} || {user.age} && !{user.kind}", false);
    }

    #[test]
    fn a_missing_operand_is_an_error() {
        for text in ["", "a ==", "!", "a && ", "|| a"] {
            let condition = Condition::parse(text, &mut |text| Ok(template(text)), &|| "empty");
            assert_eq!(condition.err(), Some("empty"), "{text}");
        }
    }
}
