//! `pick`, `only`, `drop` and `rename`: a document without some of its members, as slices of itself.
//!
//! A name in a path also reaches into arrays: `items.price` means the price of each item, as does `items[*].price`.
//! So a field that is denied does not come out because a service began to send a list.

use std::fmt;

use super::{
    members::{Kind, Span},
    path::{Path, Step},
    pieces::Pieces,
    place::Name,
    walk::{elements, entries},
    write,
};

/// What to do to a document, in this order whatever the order here. Made when the snapshot is built.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    pick: Path,
    rules: Vec<Rule>,
    has_only: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    path: Path,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Only,
    Drop,
    Rename(Name),
}

/// Why there is no such edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadEdit {
    /// `only`, `drop` and `rename` are about something within the document.
    WholeDocument,
    /// Only members have names.
    RenamesElement,
    /// More than 1,000 paths.
    TooMany,
}

/// Paths of `only`, `drop` and `rename` together.
const RULES_MAX: usize = 1000;

impl fmt::Display for BadEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WholeDocument => write!(f, "a path is missing"),
            Self::RenamesElement => write!(f, "elements of an array have no name"),
            Self::TooMany => write!(f, "more than {RULES_MAX} paths"),
        }
    }
}

impl std::error::Error for BadEdit {}

/// The room to edit in. Made once, used for document after document.
#[derive(Debug, Default)]
pub struct Editor {
    /// Rules that may still apply within the value at hand, with the step that comes next: those of the values around
    /// it first.
    open: Vec<(u16, u8)>,
    picked: Vec<Span>,
}

impl Edit {
    /// `pick` is the path without steps for the whole document. Without any `only`, everything is kept.
    pub fn new(
        pick: Path,
        only: Vec<Path>,
        drop: Vec<Path>,
        rename: Vec<(Path, Name)>,
    ) -> Result<Self, BadEdit> {
        let has_only = !only.is_empty();
        let only = only.into_iter().map(|path| Rule { path, what: What::Only });
        let drop = drop.into_iter().map(|path| Rule { path, what: What::Drop });
        let rename = rename.into_iter().map(|(path, name)| Rule { path, what: What::Rename(name) });
        let rules: Vec<_> = only.chain(drop).chain(rename).collect();
        if rules.len() > RULES_MAX {
            return Err(BadEdit::TooMany);
        }
        for rule in &rules {
            match (rule.path.steps().last(), &rule.what) {
                (None, _) => return Err(BadEdit::WholeDocument),
                (Some(Step::Element(_) | Step::Each), What::Rename(_)) => {
                    return Err(BadEdit::RenamesElement);
                }
                (Some(_), _) => {}
            }
        }
        Ok(Self { pick, rules, has_only })
    }

    /// Whether it picks one place and leaves it as it is: then [`Edit::picked`] is the whole work.
    pub fn is_pick(&self) -> bool {
        self.rules.is_empty() && !self.pick.is_many()
    }

    /// The place that is picked, the first one where there are several.
    pub fn picked(&self, body: &[u8], value: Span) -> Option<Span> {
        self.pick.first(body, value)
    }

    /// Appends what is left of the value at `value` of a checked body to `out`, as pieces of the part `part`.
    ///
    /// Where `pick` has `[*]`, that is an array of what it leads to. False if it leads nowhere: then there is nothing
    /// in `out`.
    pub fn apply(
        &self,
        editor: &mut Editor,
        part: usize,
        body: &[u8],
        value: Span,
        out: &mut Pieces,
    ) -> bool {
        editor.open.clear();
        editor.picked.clear();
        if !self.pick.is_many() {
            let Some(value) = self.pick.first(body, value) else { return false };
            Writer { edit: self, open: &mut editor.open, part, body, out }.whole(value);
            return true;
        }
        self.pick.find(body, value, &mut editor.picked);
        let mut before: &[u8] = b"[";
        for &value in &editor.picked {
            out.push_text(before);
            Writer { edit: self, open: &mut editor.open, part, body, out }.whole(value);
            before = b",";
        }
        out.push_text(if editor.picked.is_empty() { b"[]" } else { b"]" });
        true
    }
}

/// What becomes of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Gone,
    Whole,
    /// A container to look into. `is_kept` is whether what no rule names is kept.
    Within {
        is_kept: bool,
    },
}

struct Writer<'w> {
    edit: &'w Edit,
    open: &'w mut Vec<(u16, u8)>,
    part: usize,
    body: &'w [u8],
    out: &'w mut Pieces,
}

impl Writer<'_> {
    fn whole(&mut self, value: Span) {
        self.open.clear();
        for rule in 0..self.edit.rules.len() {
            self.open.push((u16::try_from(rule).unwrap_or(u16::MAX), 0));
        }
        let is_kept = !self.edit.has_only;
        match self.fate(0, value, is_kept) {
            Fate::Whole => self.copy(value.start, value.end),
            Fate::Within { is_kept } => self.within(0, value, is_kept),
            // An allowed name within something that has no names.
            Fate::Gone => self.out.push_text(b"null"),
        }
    }

    /// `from` is where the rules for this container begin in `open`: they go to its end. As deep as the document.
    fn within(&mut self, from: usize, container: Span, is_kept: bool) {
        let until = self.open.len();
        let (mut at, mut has_any, mut is_first) = (container.start + 1, false, true);
        self.copy(container.start, at);
        // Where the last one that stayed ended, if it was the one before.
        let mut before = Some(at);
        if Kind::of(container.of(self.body)) == Kind::Object {
            for entry in entries(self.body, container) {
                let rename = self.open_member(from, until, entry.key);
                let fate = self.fate(until, entry.value, is_kept);
                if fate != Fate::Gone {
                    let start = entry.key.start - 1;
                    self.separate(before, start, has_any, is_first);
                    let name_end = entry.key.end + 1;
                    match rename {
                        None => self.copy(start, name_end),
                        Some(rule) => self.rename(rule),
                    }
                    self.copy(name_end, entry.value.start);
                    self.member(until, entry.value, fate);
                    has_any = true;
                }
                self.open.truncate(until);
                at = entry.value.end;
                before = (fate != Fate::Gone).then_some(at);
                is_first = false;
            }
        } else {
            for (index, value) in elements(self.body, container).enumerate() {
                self.open_element(from, until, index);
                let fate = self.fate(until, value, is_kept);
                if fate != Fate::Gone {
                    self.separate(before, value.start, has_any, is_first);
                    self.member(until, value, fate);
                    has_any = true;
                }
                self.open.truncate(until);
                at = value.end;
                before = (fate != Fate::Gone).then_some(at);
                is_first = false;
            }
        }
        self.copy(before.unwrap_or(container.end - 1), container.end);
    }

    /// The comma and the white space before what begins at `start`: as they are where nothing was left out.
    fn separate(&mut self, before: Option<u32>, start: u32, has_any: bool, is_first: bool) {
        match before {
            Some(end) if has_any || is_first => self.copy(end, start),
            Some(_) | None if has_any => self.out.push_text(b","),
            Some(_) | None => {}
        }
    }

    fn member(&mut self, from: usize, value: Span, fate: Fate) {
        match fate {
            Fate::Within { is_kept } => self.within(from, value, is_kept),
            Fate::Whole | Fate::Gone => self.copy(value.start, value.end),
        }
    }

    fn copy(&mut self, start: u32, end: u32) {
        self.out.push_part(self.part, Span { start, end });
    }

    fn rename(&mut self, rule: u16) {
        if let What::Rename(name) = &self.edit.rules[usize::from(rule)].what {
            self.out.push_text(b"\"");
            self.out.push_text(name.written());
            self.out.push_text(b"\"");
        }
    }

    fn steps(&self, rule: u16) -> &[Step] {
        self.edit.rules[usize::from(rule)].path.steps()
    }

    /// Opens the rules of a container, those in `from..until`, that go on in its member `key`. Returns the rule that
    /// renames it.
    fn open_member(&mut self, from: usize, until: usize, key: Span) -> Option<u16> {
        let mut rename = None;
        for index in from..until {
            let (rule, step) = self.open[index];
            let steps = self.steps(rule);
            if let Some(Step::Member(name)) = steps.get(usize::from(step))
                && write::is_name(key.of(self.body), name.as_bytes())
            {
                let is_last = usize::from(step) + 1 == steps.len();
                if is_last && matches!(self.edit.rules[usize::from(rule)].what, What::Rename(_)) {
                    rename = Some(rule);
                }
                self.open.push((rule, step + 1));
            }
        }
        rename
    }

    fn open_element(&mut self, from: usize, until: usize, element: usize) {
        for index in from..until {
            let (rule, step) = self.open[index];
            match self.steps(rule).get(usize::from(step)) {
                Some(Step::Each) => self.open.push((rule, step + 1)),
                Some(Step::Element(wanted)) if *wanted as usize == element => {
                    self.open.push((rule, step + 1))
                }
                // A name reaches through arrays.
                Some(Step::Member(_)) => self.open.push((rule, step)),
                Some(Step::Element(_)) | None => {}
            }
        }
    }

    /// Decides on a value by its own rules, `open[from..]`, and forgets those that end with it.
    fn fate(&mut self, from: usize, value: Span, mut is_kept: bool) -> Fate {
        let mut may_hold_kept = false;
        let kind = Kind::of(value.of(self.body));
        let mut left = from;
        for index in from..self.open.len() {
            let (rule, step) = self.open[index];
            let next = self.steps(rule).get(usize::from(step));
            let fits = match (next, kind) {
                (None, _) => false,
                (Some(_), Kind::Array) | (Some(Step::Member(_)), Kind::Object) => true,
                (Some(_), _) => false,
            };
            match (&self.edit.rules[usize::from(rule)].what, next) {
                (What::Drop, None) => return Fate::Gone,
                (What::Only, None) => is_kept = true,
                (What::Rename(_), None) => {}
                (What::Only, Some(_)) => may_hold_kept |= fits,
                (What::Drop | What::Rename(_), Some(_)) => {}
            }
            if fits {
                self.open[left] = (rule, step);
                left += 1;
            }
        }
        self.open.truncate(left);
        if !is_kept && !may_hold_kept {
            Fate::Gone
        } else if left > from {
            Fate::Within { is_kept }
        } else {
            Fate::Whole
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::check as scan;

    const BODY: &str =
        r#"{"id":1, "items": [{"sku":"a","price":2,"x":{"y":3}}, {"sku":"b", "price":4}, 5], "ok":true}"#;

    fn edit(pick: &str, only: &[&str], drop: &[&str], rename: &[(&str, &str)]) -> Edit {
        let path = |text: &&str| Path::parse(text).expect("a path");
        let rename = rename.iter().map(|(text, name)| (path(text), Name::new(name))).collect();
        Edit::new(path(&pick), only.iter().map(path).collect(), drop.iter().map(path).collect(), rename)
            .expect("an edit")
    }

    #[track_caller]
    fn check(edit: &Edit, body: &str, expected: Option<&str>) {
        let value = scan(body.as_bytes()).expect("JSON").span;
        let (mut editor, mut pieces) = (Editor::default(), Pieces::new());
        for _ in 0..2 {
            pieces.clear();
            let is_there = edit.apply(&mut editor, 3, body.as_bytes(), value, &mut pieces);
            let mut whole = Vec::new();
            pieces.join(|_| body.as_bytes(), &mut whole);
            let whole = String::from_utf8(whole).expect("the body is UTF-8");
            assert_eq!(is_there.then_some(whole.as_str()), expected);
        }
    }

    #[test]
    fn what_is_dropped_is_gone_also_within_arrays() {
        let expected = r#"{"id":1, "items": [{"sku":"a","x":{"y":3}}, {"sku":"b"}, 5], "ok":true}"#;
        for path in ["items.price", "items[*].price"] {
            check(&edit("", &[], &[path], &[]), BODY, Some(expected));
        }
        check(&edit("", &[], &["id", "items"], &[]), BODY, Some(r#"{"ok":true}"#));
        check(
            &edit("", &[], &["ok", "items[1]", "items.x.y"], &[]),
            BODY,
            Some(r#"{"id":1, "items": [{"sku":"a","price":2,"x":{}},5]}"#),
        );
        check(&edit("", &[], &["items[*]"], &[]), BODY, Some(r#"{"id":1, "items": [], "ok":true}"#));
        check(
            &edit("", &[], &["a.b"], &[]),
            r#"{"a":[[{"b":1,"c":2}],[[{"b":3}]]]}"#,
            Some(r#"{"a":[[{"c":2}],[[{}]]]}"#),
        );
    }

    #[test]
    fn a_name_is_dropped_however_it_is_written_and_however_often() {
        let body = r#"{"a":1,"\u0061":2,"b":3,"a":{"a":4}}"#;
        check(&edit("", &[], &["a"], &[]), body, Some(r#"{"b":3}"#));
        check(&edit("", &[], &["a", "b"], &[]), body, Some("{}"));
    }

    #[test]
    fn only_what_is_named_is_kept() {
        check(&edit("", &["items.sku"], &[], &[]), BODY, Some(r#"{"items": [{"sku":"a"}, {"sku":"b"}]}"#));
        check(&edit("", &["ok", "id"], &[], &[]), BODY, Some(r#"{"id":1,"ok":true}"#));
        check(&edit("", &["items[0].x"], &[], &[]), BODY, Some(r#"{"items": [{"x":{"y":3}}]}"#));
        check(
            &edit("", &["items"], &["items.x"], &[]),
            BODY,
            Some(r#"{"items": [{"sku":"a","price":2}, {"sku":"b", "price":4}, 5]}"#),
        );
        check(&edit("", &["none"], &[], &[]), BODY, Some("{}"));
        check(
            &edit("", &["items", "items.sku"], &[], &[]),
            r#"{"items":[1,{"a":2}]}"#,
            Some(r#"{"items":[1,{"a":2}]}"#),
        );
    }

    #[test]
    fn a_value_in_place_of_a_container_does_not_come_out() {
        for (body, expected) in [
            (r#"{"a":"secret","b":1}"#, "{}"),
            (r#"{"a":["secret",{"b":1}]}"#, r#"{"a":[{"b":1}]}"#),
            ("\"secret\"", "null"),
        ] {
            check(&edit("", &["a.b"], &[], &[]), body, Some(expected));
        }
        check(&edit("", &["a[0]"], &[], &[]), r#"{"a":{"0":"secret"}}"#, Some("{}"));
    }

    #[test]
    fn names_are_replaced_and_nothing_else() {
        check(
            &edit(
                "",
                &[],
                &[],
                &[("items.sku", "a \"name\""), ("ok", "fine"), ("items.x", "z"), ("items.x.y", "w")],
            ),
            BODY,
            Some(
                r#"{"id":1, "items": [{"a \"name\"":"a","price":2,"z":{"w":3}}, {"a \"name\"":"b", "price":4}, 5], "fine":true}"#,
            ),
        );
        check(&edit("", &["a"], &[], &[("a", "b")]), r#"{ "a" : 1 , "b" : 2 }"#, Some(r#"{ "b" : 1}"#));
    }

    #[test]
    fn what_is_picked_is_the_document() {
        check(&edit("items[1]", &[], &[], &[]), BODY, Some(r#"{"sku":"b", "price":4}"#));
        check(&edit("items[*].sku", &[], &[], &[]), BODY, Some(r#"["a","b"]"#));
        check(&edit("items[*].none", &[], &[], &[]), BODY, Some("[]"));
        check(&edit("none", &[], &[], &[]), BODY, None);
        check(
            &edit("items[0]", &["sku", "x"], &["x.y"], &[("sku", "id")]),
            BODY,
            Some(r#"{"id":"a","x":{}}"#),
        );
        check(&edit("items[*]", &["sku"], &[], &[]), BODY, Some(r#"[{"sku":"a"},{"sku":"b"},null]"#));
    }

    #[test]
    fn what_no_path_touches_is_one_slice() {
        let value = scan(BODY.as_bytes()).expect("JSON").span;
        let mut pieces = Pieces::new();
        assert!(edit("", &[], &["none", "items.none"], &[]).apply(
            &mut Editor::default(),
            0,
            BODY.as_bytes(),
            value,
            &mut pieces
        ));
        assert_eq!(pieces.list(), [crate::json::Piece::Part(0, value)]);
        assert!(edit("items[0]", &[], &[], &[]).is_pick());
        assert!(!edit("items[*]", &[], &[], &[]).is_pick());
        assert!(!edit("", &[], &["a"], &[]).is_pick());
    }

    #[test]
    fn some_edits_make_no_sense() {
        let path = |text| Path::parse(text).expect("a path");
        let new = |only, rename| Edit::new(Path::default(), only, Vec::new(), rename).err();
        assert_eq!(new(vec![Path::default()], Vec::new()), Some(BadEdit::WholeDocument));
        assert_eq!(new(Vec::new(), vec![(path("a[0]"), Name::new("b"))]), Some(BadEdit::RenamesElement));
        assert_eq!(new(vec![path("a"); 1001], Vec::new()), Some(BadEdit::TooMany));
    }
}
