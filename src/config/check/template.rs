//! Templates in the values of a route.

use std::collections::HashMap;

use super::read;
use crate::{
    config::{keys, problem::Problems, raw::Word},
    route::Pattern,
    template::{self, Template},
};

/// Parses the templates of one route, which know the variables of its pattern. By default there are none.
#[derive(Default)]
pub(super) struct Templates<'a> {
    names: Vec<&'a str>,
    index: HashMap<&'a str, usize>,
}

impl<'a> Templates<'a> {
    pub(super) fn new(pattern: &'a Pattern) -> Self {
        Self {
            names: pattern.variables().collect(),
            index: pattern.variables().enumerate().map(|(index, name)| (name, index)).collect(),
        }
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
            Ok(template) => return Some(template),
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
                let all = format!("{own}{{query.NAME}}, {{header.NAME}} and {{cookie.NAME}}");
                problem.at(place.at(), "write `{{` for a brace").help(format!("here are {all}"))
            }
        };
        None
    }
}
