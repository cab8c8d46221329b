//! What is wrong with a configuration: collected all at once, shown with the line, a picture and the remedy.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use annotate_snippets::{AnnotationKind, Element, Group, Level, Renderer, Snippet};

use super::{raw::Place, source::Sources};

/// Problems shown in full; what is beyond is only counted.
const SHOWN_MAX: usize = 100;
/// Columns of a message; longer lines of the configuration are trimmed to it.
const WIDTH: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not say what was meant.
    Warning,
}

/// One thing that is wrong, or may be.
#[derive(Clone, Debug)]
pub struct Problem {
    pub severity: Severity,
    pub title: String,
    /// The first label is the cause, further ones point at what it collides with.
    labels: Vec<Label>,
    help: Option<String>,
}

#[derive(Clone, Debug)]
struct Label {
    place: Place,
    text: String,
}

impl Problem {
    /// The places with their remarks, the cause first.
    pub fn labels(&self) -> impl Iterator<Item = (Place, &str)> {
        self.labels.iter().map(|label| (label.place, &*label.text))
    }

    /// Points at a place, with a remark that may be empty.
    pub fn at(&mut self, place: Place, text: impl Into<String>) -> &mut Self {
        self.labels.push(Label { place, text: text.into() });
        self
    }

    /// Adds the remedy, where it is longer than a remark at a place.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help = Some(text.into());
        self
    }
}

/// Everything found so far.
#[derive(Clone, Default)]
pub struct Problems {
    list: Vec<Problem>,
    errors: usize,
    sources: Arc<Sources>,
    files: Vec<PathBuf>,
    unreadable: bool,
}

impl Problems {
    pub fn error(&mut self, title: impl Into<String>) -> &mut Problem {
        self.add(Severity::Error, title.into())
    }

    pub fn warning(&mut self, title: impl Into<String>) -> &mut Problem {
        self.add(Severity::Warning, title.into())
    }

    fn add(&mut self, severity: Severity, title: String) -> &mut Problem {
        self.errors += usize::from(severity == Severity::Error);
        self.list.push(Problem { severity, title, labels: Vec::new(), help: None });
        self.list.last_mut().expect("just pushed")
    }

    pub fn errors(&self) -> usize {
        self.errors
    }

    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Whether the configuration could not even be read, as against being wrong.
    pub fn unreadable(&self) -> bool {
        self.unreadable
    }

    pub(super) fn set_unreadable(&mut self) {
        self.unreadable = true;
    }

    /// Everything that was read or should have been: to be watched until it is mended.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Drops those of the problems behind the first `count` that point at what one of the first points at: a `${…}`
    /// that has no value is no duration either.
    pub(super) fn drop_consequences_of(&mut self, count: usize) {
        let place = |problem: &Problem| problem.labels.first().map(|label| label.place);
        let rest = self.list.split_off(count);
        let causes: Vec<Place> = self.list.iter().filter_map(place).collect();
        let is_consequence = |problem: &Problem| {
            let overlaps = |at: Place| {
                causes
                    .iter()
                    .any(|cause| cause.source == at.source && cause.start < at.end && at.start < cause.end)
            };
            place(problem).is_some_and(overlaps)
        };
        self.list.extend(rest.into_iter().filter(|problem| !is_consequence(problem)));
        self.errors = self.list.iter().filter(|problem| problem.severity == Severity::Error).count();
    }

    /// The same in the order of the text, with the texts to draw pictures from.
    pub(super) fn finish(mut self, sources: Arc<Sources>, files: Vec<PathBuf>) -> Self {
        self.files = files;
        self.list
            .sort_by_key(|problem| problem.labels.first().map_or((1, None), |label| (0, Some(label.place))));
        self.sources = sources;
        self
    }

    /// Everything, in colour for a terminal, each problem with its picture; the last line is the [`Self::summary`].
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.term_width(WIDTH);
        let mut out = String::new();
        for problem in self.list.iter().take(SHOWN_MAX) {
            out.push_str(&renderer.render(&[self.group(problem)]));
            out.push('\n');
        }
        if self.list.len() > SHOWN_MAX {
            out.push_str(&format!("… and {} more\n", self.list.len() - SHOWN_MAX));
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    /// `2 errors, 1 warning`; what there is none of is not named.
    pub fn summary(&self) -> String {
        let count = |n: usize, one: &str| match n {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{n} {one}s")),
        };
        let parts = [count(self.errors(), "error"), count(self.warnings(), "warning")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Each problem in one line: what it points at, its title, and its remarks in brackets.
    #[cfg(test)]
    pub(super) fn brief(&self) -> Vec<String> {
        let brief = |problem: &Problem| {
            let mut line = String::new();
            if let Some((place, _)) = problem.labels().next() {
                line += &format!("{} -> ", self.sources.slice(place));
            }
            line += &problem.title;
            let remarks = problem.labels().map(|(_, remark)| remark).chain(problem.help.as_deref());
            for remark in remarks.filter(|remark| !remark.is_empty()) {
                line += &format!(" [{remark}]");
            }
            line
        };
        self.list.iter().map(brief).collect()
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(&*problem.title).elements(self.pictures(&problem.labels));
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(&**help));
        }
        group
    }

    /// One picture per source, the one with the cause first. Only the lines that are needed are handed over: the
    /// renderer walks all it gets.
    fn pictures<'a>(&'a self, labels: &'a [Label]) -> Vec<Element<'a>> {
        let mut by_source: BTreeMap<_, Vec<(usize, &Label)>> = BTreeMap::new();
        for (index, label) in labels.iter().enumerate() {
            by_source.entry(label.place.source).or_default().push((index, label));
        }
        let mut groups: Vec<_> = by_source.into_iter().collect();
        groups.sort_by_key(|(_, labels)| labels[0].0);
        groups
            .into_iter()
            .map(|(source, labels)| {
                let lines = || labels.iter().map(|(_, label)| self.sources.line(label.place));
                let first = lines().min().unwrap_or(0);
                let (text, offset) = self.sources.lines(source, first, lines().max().unwrap_or(first));
                let annotations = labels.iter().map(|&(index, label)| {
                    let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                    let within = |at: u32| (at as usize).saturating_sub(offset).min(text.len());
                    let annotation = kind.span(within(label.place.start)..within(label.place.end));
                    if label.text.is_empty() { annotation } else { annotation.label(&*label.text) }
                });
                let snippet = Snippet::source(text).path(self.sources.name(source)).line_start(first + 1);
                snippet.annotations(annotations).into()
            })
            .collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use crate::config::load::from_text;

    /// A configuration with `count` wrong durations.
    fn wrong(count: usize) -> String {
        let routes = (0..count).map(|n| format!("'/{n}' = {{ to = 'http://a', timeout = 3 }}\n"));
        format!("listen = ':80'\n[routes]\n{}", routes.collect::<String>())
    }

    #[test]
    fn the_last_line_counts() {
        let check = |text: &str, expected: &str| {
            let problems = from_text(text).unwrap_err();
            assert_eq!(problems.summary(), expected);
            assert_eq!(problems.to_string().lines().last(), Some(expected));
        };
        check(&wrong(1), "1 error");
        check(&wrong(2), "2 errors");
        check(&format!("admin = ':1'\n{}", wrong(2)), "2 errors, 1 warning");
    }

    #[test]
    fn a_hundred_problems_are_shown_and_all_are_counted() {
        let shown = from_text(&wrong(10_000)).unwrap_err().to_string();
        assert_eq!(shown.matches("error: `timeout` must be").count(), 100);
        assert!(shown.ends_with("\n… and 9900 more\n10000 errors\n"));
    }

    #[test]
    fn a_long_line_is_trimmed_to_what_matters() {
        let text =
            format!("listen = ':80'\n[routes]\n'/' = {{ body = '{}', timeout = 3 }}\n", "x".repeat(5000));
        let shown = from_text(&text).unwrap_err().to_string();
        assert!(shown.lines().all(|line| line.chars().count() <= 140), "{shown}");
        assert!(shown.contains("timeout = 3"), "{shown}");
    }

    #[test]
    fn problems_come_in_the_order_of_the_text() {
        let text = "[log]\nx = 1\n[services]\ny = 2\n[routes]\n'/' = 3\n";
        let problems = from_text(text).unwrap_err();
        let pointed: Vec<_> = problems.brief().iter().map(|line| line.chars().next()).collect();
        assert_eq!(pointed, [Some('x'), Some('2'), Some('3'), Some('`')]);
    }

    #[test]
    fn colour_is_only_for_terminals() {
        let problems = from_text("").unwrap_err();
        assert!(problems.render(true).contains("\u{1b}["));
        assert!(!problems.render(false).contains("\u{1b}["));
    }
}
