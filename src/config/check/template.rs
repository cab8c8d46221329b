//! Templates in the values of a route.

use std::{cell::Cell, collections::HashMap};

use super::read;
use crate::{
    config::{
        keys,
        problem::Problems,
        raw::{Place, Word},
    },
    route::Pattern,
    template::{BadTemplate, Of, Part, Template, Variable},
};

/// Parses the templates of one route, which know the variables of its pattern. By default there are none.
#[derive(Default)]
pub(super) struct Templates<'a> {
    names: Vec<&'a str>,
    index: HashMap<&'a str, usize>,
    /// What names of parts mean, in the parts of an aggregate.
    answers: HashMap<&'a str, Of>,
    /// Where a `{jwt.…}` stands.
    jwt: Cell<Option<Place>>,
}

impl<'a> Templates<'a> {
    pub(super) fn new(pattern: &'a Pattern) -> Self {
        let names: Vec<_> = pattern.variables().collect();
        let index = names.iter().enumerate().map(|(index, name)| (*name, index)).collect();
        Self { names, index, answers: HashMap::new(), jwt: Cell::new(None) }
    }

    /// Where a `{jwt.…}` stands in a route that has no token.
    pub(super) fn jwt_without(&self, has_auth: bool) -> Option<Place> {
        self.jwt.get().filter(|_| !has_auth)
    }

    /// Notes that a template of a part has a `{jwt.…}`.
    pub(super) fn has_jwt(&self, at: Place) {
        self.jwt.set(Some(at));
    }

    /// The same for a part, which also knows the answers of others.
    pub(super) fn knowing(self, answers: HashMap<&'a str, Of>) -> Self {
        Self { answers, ..self }
    }

    /// Parses a text that does not stand in the configuration as it is.
    pub(super) fn parse_text(&self, text: &str) -> Result<Template, BadTemplate> {
        let known = |name: &str| self.index.get(name).copied();
        Template::parse_in_part(text, &known, &|name| self.answers.get(name).copied())
    }

    /// The variables there are, in a sentence.
    pub(super) fn known(&self) -> String {
        let own = self.names.iter().map(|name| format!("{{{name}}}, ")).collect::<String>();
        let mut parts: Vec<_> = self.answers.keys().map(|name| format!("{{{name}.NAME}}, ")).collect();
        parts.sort_unstable();
        format!(
            "here are {own}{}{{query.NAME}}, {{header.NAME}}, {{cookie.NAME}} and {{jwt.CLAIM}}",
            parts.concat()
        )
    }

    pub(super) fn parse(&self, word: Word<'_>, problems: &mut Problems) -> Option<Template> {
        let parsed = match word.braces_escaped() {
            None => self.parse_text(word.as_str()),
            // What a `${…}` brought is text, never a variable. Places in the longer text mean nothing, hence the whole.
            Some(text) => {
                self.parse_text(&text).map_err(|bad| BadTemplate { at: 0..word.as_str().len(), ..bad })
            }
        };
        let bad = match parsed {
            Ok(template) => {
                let is_jwt = |part: &Part| matches!(part, Part::Variable(Variable::Jwt(_)));
                if template.parts().iter().any(is_jwt) {
                    self.jwt.set(Some(word.at()));
                }
                return Some(template);
            }
            Err(bad) => bad,
        };
        let place = word.slice(bad.at.clone());
        if !place.is_as_written() {
            problems.error(format!("unknown variable in `{}`", word.shown())).at(place.at(), "");
            return None;
        }
        if !bad.remedy.is_empty() || place.as_str().is_empty() {
            problems.error(bad.what).at(place.at(), bad.remedy);
            return None;
        }
        let problem = problems.error(bad.what);
        let names = self.names.iter().copied().chain(self.answers.keys().copied());
        let name = place.as_str().split(['.', '[']).next().unwrap_or_default();
        match keys::closest(name, names) {
            Some(meant) => problem.at(place.at(), read::did_you_mean(meant)),
            None => problem.at(place.at(), "write `{{` for a brace").help(self.known()),
        };
        None
    }
}
