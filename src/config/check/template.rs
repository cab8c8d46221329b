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
    template::{self, Part, Template, Variable},
};

/// Parses the templates of one route, which know the variables of its pattern. By default there are none.
#[derive(Default)]
pub(super) struct Templates<'a> {
    names: Vec<&'a str>,
    index: HashMap<&'a str, usize>,
    /// Where a `{jwt.…}` stands.
    jwt: Cell<Option<Place>>,
}

impl<'a> Templates<'a> {
    pub(super) fn new(pattern: &'a Pattern) -> Self {
        let names: Vec<_> = pattern.variables().collect();
        let index = names.iter().enumerate().map(|(index, name)| (*name, index)).collect();
        Self { names, index, jwt: Cell::new(None) }
    }

    /// Where a `{jwt.…}` stands in a route that has no token.
    pub(super) fn jwt_without(&self, has_auth: bool) -> Option<Place> {
        self.jwt.get().filter(|_| !has_auth)
    }

    pub(super) fn parse(&self, word: Word<'_>, problems: &mut Problems) -> Option<Template> {
        let known = |name: &str| self.index.get(name).copied();
        let parsed = match word.braces_escaped() {
            None => Template::parse(word.as_str(), &known),
            // What a `${…}` brought is text, never a variable. Places in the longer text mean nothing, hence the whole.
            Some(text) => Template::parse(&text, &known)
                .map_err(|bad| template::BadTemplate { at: 0..word.as_str().len(), ..bad }),
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
        match keys::closest(place.as_str(), self.names.iter().copied()) {
            Some(meant) => problem.at(place.at(), read::did_you_mean(meant)),
            None => {
                let own = self.names.iter().map(|name| format!("{{{name}}}, ")).collect::<String>();
                let all = format!("{own}{{query.NAME}}, {{header.NAME}}, {{cookie.NAME}} and {{jwt.CLAIM}}");
                problem.at(place.at(), "write `{{` for a brace").help(format!("here are {all}"))
            }
        };
        None
    }
}
