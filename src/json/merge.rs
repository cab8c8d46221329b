//! Several bodies into one object, by slices (DESIGN §9).
//!
//! The parts' order is the document's order. A member keeps the place where its name came first. What stands next to
//! each other in a body and stays so is one slice, comma and all.

use std::fmt;

use super::{
    members::{Kind, Member, Members, NameHasher, Span},
    pieces::Pieces,
    place::{Name, Place},
    scan::Document,
    walk, write,
};

/// One part's answer.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub place: &'a Place,
    /// It was checked.
    pub body: &'a [u8],
    /// What of it is placed: the whole, or what a path led to.
    pub document: Document,
    /// The members of `document`, from [`scan()`](super::scan()) with the merger's seed, or `None` to look for them here.
    /// Only for the root.
    pub members: Option<&'a Members>,
}

/// When two parts bring the same name: `conflict`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// The later one's value, in the earlier one's place, like `Object.assign`.
    #[default]
    Last,
    First,
    Error,
    /// Both, in an array.
    Array,
}

/// `merge`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Members of the root are replaced whole.
    #[default]
    Shallow,
    /// Where both values are objects they are merged in turn; anything else is a conflict.
    Deep,
}

/// Why there is no merged document. Parts by their index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadMerge {
    /// Only an object has members for the root.
    NoObject { part: usize },
    /// [`Conflict::Error`]. `name` as it is written, without its quotes.
    Conflict { name: Box<[u8]>, part: usize, earlier: usize },
}

impl fmt::Display for BadMerge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoObject { part } => write!(f, "part {part} has no members: it is no object"),
            Self::Conflict { name, part, earlier } => {
                write!(f, "parts {earlier} and {part} both have \"{}\"", String::from_utf8_lossy(name))
            }
        }
    }
}

impl std::error::Error for BadMerge {}

/// The room to merge in. Made once, used for document after document; allocates only when one has more members than
/// any before.
pub struct Merger {
    hashes: NameHasher,
    slots: Vec<Slot>,
    objects: Vec<Object>,
    items: Vec<Item>,
    /// Slot numbers by object and hash, plus one; 0 is an empty place. At most half full.
    table: Vec<u32>,
}

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Object {
    first: u32,
    last: u32,
}

/// A member of an object under construction.
#[derive(Clone, Copy)]
struct Slot {
    object: u32,
    hash: u32,
    key: Key,
    value: Value,
    /// The part that brought the value, or the latest that added to it.
    owner: u32,
    next: u32,
}

#[derive(Clone, Copy)]
enum Key {
    /// One of the names of a part's place.
    Place { part: u32, index: u32 },
    /// Between quotes in a part's body.
    Body { part: u32, span: Span },
}

#[derive(Clone, Copy)]
enum Value {
    Body {
        part: u32,
        span: Span,
        is_object: bool,
    },
    Object(u32),
    /// The first and the last of several in conflict.
    List {
        first: u32,
        last: u32,
    },
}

#[derive(Clone, Copy)]
struct Item {
    value: Value,
    next: u32,
}

/// What happens to a name that is there already.
#[derive(Clone, Copy)]
struct Rules {
    conflict: Conflict,
    depth: Depth,
}

impl Merger {
    /// `seed` as for [`Members::new`].
    pub fn new(seed: u64) -> Self {
        Self {
            hashes: NameHasher::new(seed),
            slots: Vec::new(),
            objects: Vec::new(),
            items: Vec::new(),
            table: Vec::new(),
        }
    }

    /// Puts the document into `out`, whose pieces number the parts as in `parts`.
    ///
    /// Shallow merging is linear in the members of the root and does not look into values. Deep merging walks through
    /// the objects that conflict, once for each level of them.
    pub fn merge(
        &mut self,
        parts: &[Part<'_>],
        conflict: Conflict,
        depth: Depth,
        out: &mut Pieces,
    ) -> Result<(), BadMerge> {
        out.clear();
        self.slots.clear();
        self.objects.clear();
        self.items.clear();
        self.objects.push(Object { first: NONE, last: NONE });
        let members = parts.iter().map(|part| part.members.map_or(8, |members| members.list().len() + 1));
        self.make_room(members.sum());

        let rules = Rules { conflict, depth };
        for (index, part) in parts.iter().enumerate() {
            match part.place {
                Place::Hidden => {}
                Place::Root => self.root(parts, index, rules)?,
                Place::Under(names) => self.under(parts, index, names, rules)?,
            }
        }
        Writer { merger: self, parts, out }.object(ROOT);
        Ok(())
    }

    fn root(&mut self, parts: &[Part<'_>], index: usize, rules: Rules) -> Result<(), BadMerge> {
        let part = &parts[index];
        if part.document.kind != Kind::Object {
            return Err(BadMerge::NoObject { part: index });
        }
        if let Some(members) = part.members
            && members.duplicate().is_none()
        {
            for member in members.list() {
                let (key, value) = of_member(number(index), member);
                self.set(parts, ROOT, member.hash, key, value, number(index), rules)?;
            }
            return Ok(());
        }
        let object = self.expand(parts, number(index), part.document.span);
        self.merge_object(parts, ROOT, object, number(index), rules)
    }

    fn under(
        &mut self,
        parts: &[Part<'_>],
        index: usize,
        names: &[Name],
        rules: Rules,
    ) -> Result<(), BadMerge> {
        let part = number(index);
        let Some((last, outer)) = names.split_last() else { return Ok(()) };
        let mut object = ROOT;
        for (step, name) in outer.iter().enumerate() {
            let key = Key::Place { part, index: number(step) };
            match self.enter(parts, object, name, key, part, rules)? {
                Some(inner) => object = inner,
                None => return Ok(()),
            }
        }
        let Document { kind, span } = parts[index].document;
        let value = Value::Body { part, span, is_object: kind == Kind::Object };
        let key = Key::Place { part, index: number(outer.len()) };
        let hash = self.hashes.of_name(last);
        self.set(parts, object, hash, key, value, part, rules)
    }

    /// The object called `name` in `object`, made where there is none. `None` if something else stays there.
    fn enter(
        &mut self,
        parts: &[Part<'_>],
        object: u32,
        name: &Name,
        key: Key,
        part: u32,
        rules: Rules,
    ) -> Result<Option<u32>, BadMerge> {
        let hash = self.hashes.of_name(name);
        if let Some(slot) = self.find(parts, object, hash, key)
            && let Some(inner) = self.as_object(parts, self.slots[slot].value)
        {
            self.slots[slot].value = Value::Object(inner);
            self.slots[slot].owner = part;
            return Ok(Some(inner));
        }
        let inner = self.new_object();
        let rules = Rules { depth: Depth::Shallow, ..rules };
        self.set(parts, object, hash, key, Value::Object(inner), part, rules)?;
        let slot = self.find(parts, object, hash, key).map(|slot| self.slots[slot]);
        let stays = slot.is_some_and(|slot| rules.conflict == Conflict::First && slot.owner != part);
        Ok((!stays).then_some(inner))
    }

    /// Puts a member into an object, by the rules if its name is there already.
    fn set(
        &mut self,
        parts: &[Part<'_>],
        object: u32,
        hash: u32,
        key: Key,
        value: Value,
        owner: u32,
        rules: Rules,
    ) -> Result<(), BadMerge> {
        let Some(slot) = self.find(parts, object, hash, key) else {
            self.insert(Slot { object, hash, key, value, owner, next: NONE });
            return Ok(());
        };
        let there = self.slots[slot];
        if rules.depth == Depth::Deep
            && let (true, true) = (self.is_object(there.value), self.is_object(value))
            && let Some(target) = self.as_object(parts, there.value)
            && let Some(source) = self.as_object(parts, value)
        {
            self.slots[slot].value = Value::Object(target);
            self.merge_object(parts, target, source, owner, rules)?;
            self.slots[slot].owner = owner;
            return Ok(());
        }
        match rules.conflict {
            Conflict::First => return Ok(()),
            Conflict::Last => self.slots[slot].value = value,
            Conflict::Error => {
                let name = written(parts, key).into();
                let (part, earlier) = (owner as usize, there.owner as usize);
                return Err(BadMerge::Conflict { name, part, earlier });
            }
            Conflict::Array => self.slots[slot].value = self.append(there.value, value),
        }
        self.slots[slot].owner = owner;
        Ok(())
    }

    fn append(&mut self, there: Value, value: Value) -> Value {
        let (first, before) = match there {
            Value::List { first, last } => (first, last),
            Value::Body { .. } | Value::Object(_) => {
                self.items.push(Item { value: there, next: NONE });
                (number(self.items.len() - 1), number(self.items.len() - 1))
            }
        };
        let last = number(self.items.len());
        self.items[before as usize].next = last;
        self.items.push(Item { value, next: NONE });
        Value::List { first, last }
    }

    fn merge_object(
        &mut self,
        parts: &[Part<'_>],
        target: u32,
        source: u32,
        owner: u32,
        rules: Rules,
    ) -> Result<(), BadMerge> {
        let mut next = self.objects[source as usize].first;
        while next != NONE {
            let slot = self.slots[next as usize];
            self.set(parts, target, slot.hash, slot.key, slot.value, owner, rules)?;
            next = slot.next;
        }
        Ok(())
    }

    fn is_object(&self, value: Value) -> bool {
        match value {
            Value::Body { is_object, .. } => is_object,
            Value::Object(_) => true,
            Value::List { .. } => false,
        }
    }

    /// The members of a value that is an object.
    fn as_object(&mut self, parts: &[Part<'_>], value: Value) -> Option<u32> {
        match value {
            Value::Body { part, span, is_object: true } => Some(self.expand(parts, part, span)),
            Value::Object(object) => Some(object),
            Value::Body { is_object: false, .. } | Value::List { .. } => None,
        }
    }

    /// An object of a body as one of ours. Of names that come more than once the last value counts.
    fn expand(&mut self, parts: &[Part<'_>], part: u32, span: Span) -> u32 {
        let object = self.new_object();
        let body = parts[part as usize].body;
        for entry in walk::entries(body, span) {
            let has_escapes = write::has_escapes(entry.key.of(body));
            let hash = self.hashes.written(entry.key.of(body), has_escapes);
            let key = Key::Body { part, span: entry.key };
            let is_object = Kind::of(entry.value.of(body)) == Kind::Object;
            let value = Value::Body { part, span: entry.value, is_object };
            match self.find(parts, object, hash, key) {
                // The name that belongs to the value, or the two would span what lies between them.
                Some(slot) => (self.slots[slot].key, self.slots[slot].value) = (key, value),
                None => self.insert(Slot { object, hash, key, value, owner: part, next: NONE }),
            }
        }
        object
    }

    fn new_object(&mut self) -> u32 {
        self.objects.push(Object { first: NONE, last: NONE });
        number(self.objects.len() - 1)
    }

    fn insert(&mut self, slot: Slot) {
        let added = number(self.slots.len());
        let object = &mut self.objects[slot.object as usize];
        match object.last {
            NONE => object.first = added,
            last => self.slots[last as usize].next = added,
        }
        object.last = added;
        self.slots.push(slot);
        if self.slots.len() * 2 > self.table.len() {
            self.make_room(self.slots.len() * 2);
        } else {
            self.enlist(slot.object, slot.hash, added);
        }
    }

    /// Makes the table large enough for `slots` and fills it anew.
    fn make_room(&mut self, slots: usize) {
        self.table.clear();
        self.table.resize((slots * 2).next_power_of_two().max(16), 0);
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            self.enlist(slot.object, slot.hash, number(index));
        }
    }

    fn enlist(&mut self, object: u32, hash: u32, slot: u32) {
        let mut place = self.home(object, hash);
        while self.table[place] != 0 {
            place = (place + 1) & (self.table.len() - 1);
        }
        self.table[place] = slot + 1;
    }

    fn find(&self, parts: &[Part<'_>], object: u32, hash: u32, key: Key) -> Option<usize> {
        let mut place = self.home(object, hash);
        loop {
            let index = self.table[place].checked_sub(1)? as usize;
            let slot = &self.slots[index];
            if slot.object == object
                && slot.hash == hash
                && write::same_name(written(parts, slot.key), written(parts, key))
            {
                return Some(index);
            }
            place = (place + 1) & (self.table.len() - 1);
        }
    }

    fn home(&self, object: u32, hash: u32) -> usize {
        (hash ^ object.wrapping_mul(0x9e37_79b1)) as usize & (self.table.len() - 1)
    }
}

/// Indices here count members and parts of bodies shorter than 4 GiB.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
const fn number(index: usize) -> u32 {
    index as u32
}

const fn of_member(part: u32, member: &Member) -> (Key, Value) {
    let is_object = matches!(member.kind, Kind::Object);
    (Key::Body { part, span: member.key }, Value::Body { part, span: member.value, is_object })
}

/// A key between its quotes.
fn written<'a>(parts: &[Part<'a>], key: Key) -> &'a [u8] {
    match key {
        Key::Body { part, span } => span.of(parts[part as usize].body),
        Key::Place { part, index } => match parts[part as usize].place {
            Place::Under(names) => names[index as usize].written(),
            Place::Root | Place::Hidden => &[],
        },
    }
}

/// Turns what was merged into pieces.
struct Writer<'m, 'a> {
    merger: &'m Merger,
    parts: &'m [Part<'a>],
    out: &'m mut Pieces,
}

impl Writer<'_, '_> {
    /// Calls itself for what is within: as deep as the parts and their places.
    fn object(&mut self, object: u32) {
        self.out.push_text(b"{");
        let mut next = self.merger.objects[object as usize].first;
        let (mut before, mut has_before) = (None, false);
        while next != NONE {
            let slot = self.merger.slots[next as usize];
            before = self.member(&slot, before, has_before);
            has_before = true;
            next = slot.next;
        }
        self.out.push_text(b"}");
    }

    /// `before` is the member before it, if it was passed on as it is. Returns the same of this one.
    fn member(&mut self, slot: &Slot, before: Option<(u32, Span)>, has_before: bool) -> Option<(u32, Span)> {
        if let (Key::Body { part: key_part, span: key }, Value::Body { part, span, .. }) =
            (slot.key, slot.value)
            && key_part == part
        {
            let mut member = Span { start: key.start - 1, end: span.end };
            match before {
                Some((last, end)) if last == part && self.are_neighbours(part, end.end, member.start) => {
                    member.start = end.end;
                }
                Some(_) | None if has_before => self.out.push_text(b","),
                Some(_) | None => {}
            }
            self.out.push_part(part as usize, member);
            return Some((part, member));
        }
        if has_before {
            self.out.push_text(b",");
        }
        match slot.key {
            Key::Body { part, span } => {
                self.out.push_part(part as usize, Span { start: span.start - 1, end: span.end + 1 });
            }
            Key::Place { .. } => {
                let name = written(self.parts, slot.key);
                self.out.push_text(b"\"");
                self.out.push_text(name);
                self.out.push_text(b"\"");
            }
        }
        self.out.push_text(b":");
        self.value(slot.value);
        None
    }

    /// Whether there is only a comma between two members of a body.
    fn are_neighbours(&self, part: u32, end: u32, start: u32) -> bool {
        let Some(between) = self.parts[part as usize].body.get(end as usize..start as usize) else {
            return false;
        };
        between.trim_ascii() == b","
    }

    fn value(&mut self, value: Value) {
        match value {
            Value::Body { part, span, .. } => self.out.push_part(part as usize, span),
            Value::Object(object) => self.object(object),
            Value::List { first, .. } => {
                let mut next = first;
                let mut bracket: &[u8] = b"[";
                while next != NONE {
                    let item = self.merger.items[next as usize];
                    self.out.push_text(bracket);
                    self.value(item.value);
                    bracket = b",";
                    next = item.next;
                }
                self.out.push_text(b"]");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{pieces::Piece, scan};

    use Conflict::{Array, Error, First, Last};
    use Depth::{Deep, Shallow};

    /// Merges bodies at their places: `.` is the root, the empty text is hidden.
    fn merged(
        parts: &[(&str, &str)],
        conflict: Conflict,
        depth: Depth,
    ) -> (Result<String, BadMerge>, Pieces) {
        let places: Vec<_> = parts
            .iter()
            .map(|(at, _)| if at.is_empty() { Place::Hidden } else { Place::parse(at).expect("a place") })
            .collect();
        let mut rooms: Vec<_> = parts.iter().map(|_| Members::new(1)).collect();
        let parts: Vec<_> = parts
            .iter()
            .zip(&places)
            .zip(&mut rooms)
            .map(|(((_, body), place), members)| {
                let document = scan(body.as_bytes(), members).expect("JSON");
                Part { place, body: body.as_bytes(), document, members: Some(members) }
            })
            .collect();
        let mut pieces = Pieces::new();
        let result = Merger::new(1).merge(&parts, conflict, depth, &mut pieces);

        // The same without help, and after another document.
        let mut again = Pieces::new();
        let alone: Vec<_> = parts.iter().map(|part| Part { members: None, ..*part }).collect();
        let mut merger = Merger::new(1);
        for _ in 0..2 {
            assert_eq!(merger.merge(&alone, conflict, depth, &mut again), result);
        }
        let text = |pieces: &Pieces| {
            let mut whole = Vec::new();
            pieces.join(|index| parts[index].body, &mut whole);
            assert_eq!(whole.len(), pieces.bytes());
            String::from_utf8(whole).expect("bodies are UTF-8")
        };
        if result.is_ok() {
            assert_eq!(text(&again), text(&pieces));
        }
        (result.map(|()| text(&pieces)), pieces)
    }

    #[track_caller]
    fn check(parts: &[(&str, &str)], conflict: Conflict, depth: Depth, expected: &str) {
        assert_eq!(merged(parts, conflict, depth).0.as_deref(), Ok(expected));
    }

    #[track_caller]
    fn check_fails(parts: &[(&str, &str)], conflict: Conflict, name: &str, part: usize, earlier: usize) {
        let name = name.as_bytes().into();
        assert_eq!(merged(parts, conflict, Shallow).0, Err(BadMerge::Conflict { name, part, earlier }));
    }

    #[test]
    fn parts_go_under_their_names_in_their_order() {
        let parts =
            [("user", " {\"id\": 7} "), ("", "1"), ("cart", "null"), ("a.b", "[1 ]"), ("a.c.d", "1e400")];
        check(&parts, Last, Shallow, r#"{"user":{"id": 7},"cart":null,"a":{"b":[1 ],"c":{"d":1e400}}}"#);
        check(&[], Last, Shallow, "{}");
        check(&[(r#"["a\"b"]"#, "1")], Last, Shallow, r#"{"a\"b":1}"#);
    }

    #[test]
    fn a_body_at_the_root_is_one_slice() {
        let body = "{ \"a\" : 1 ,\n \"b\":[ {} ] }";
        let (text, pieces) = merged(&[("x", "0"), (".", body), ("y", "2")], Last, Shallow);
        assert_eq!(text.as_deref(), Ok("{\"x\":0,\"a\" : 1 ,\n \"b\":[ {} ],\"y\":2}"));
        let of_body = pieces.list().iter().filter(|piece| matches!(piece, Piece::Part(1, _)));
        assert_eq!(of_body.count(), 1);
        check(&[(".", "{}"), (".", "{ }"), (".", "{\"a\":1}")], Last, Shallow, "{\"a\":1}");
    }

    const TWO: [(&str, &str); 2] =
        [(".", r#"{"a":1,"b":{"x":1},"c":3}"#), (".", r#"{"d":4,"b":{"y":2},"\u0061":5.0}"#)];

    #[test]
    fn a_member_keeps_its_first_place_and_takes_its_last_value() {
        check(&TWO, Last, Shallow, r#"{"a":5.0,"b":{"y":2},"c":3,"d":4}"#);
    }

    #[test]
    fn the_other_rules_for_conflicts_are_kept_too() {
        check(&TWO, First, Shallow, r#"{"a":1,"b":{"x":1},"c":3,"d":4}"#);
        check(&TWO, Array, Shallow, r#"{"a":[1,5.0],"b":[{"x":1},{"y":2}],"c":3,"d":4}"#);
        check_fails(&TWO, Error, "b", 1, 0);
        let three = [(".", r#"{"a":[1]}"#), ("a", "2"), (".", r#"{"a":3}"#)];
        check(&three, Array, Shallow, r#"{"a":[[1],2,3]}"#);
        check_fails(&three, Error, "a", 1, 0);
        check(&three, First, Shallow, r#"{"a":[1]}"#);
    }

    #[test]
    fn names_that_repeat_in_one_body_are_no_conflict_and_the_last_value_counts() {
        let parts = [(".", r#"{"a":1,"b":2,"\u0061":3}"#)];
        for conflict in [Last, First, Error, Array] {
            check(&parts, conflict, Shallow, r#"{"\u0061":3,"b":2}"#);
        }
        let parts = [(".", r#"{"a":{"x":0}}"#), (".", r#"{"a":{"y":1},"a":{"z":2}}"#)];
        check(&parts, Last, Deep, r#"{"a":{"x":0,"z":2}}"#);
        check(&parts, Array, Shallow, r#"{"a":[{"x":0},{"z":2}]}"#);
    }

    #[test]
    fn deep_merging_merges_objects_and_replaces_the_rest() {
        check(&TWO, Last, Deep, r#"{"a":5.0,"b":{"x":1,"y":2},"c":3,"d":4}"#);
        let parts = [
            (".", r#"{"a":{"b":{"c":[1],"d":1}, "e":{}},"f":{}}"#),
            (".", r#"{"a":{"b":{"c":[2],"x":{}},"e":0},"f":{"g":1}}"#),
        ];
        check(&parts, Last, Deep, r#"{"a":{"b":{"c":[2],"d":1,"x":{}},"e":0},"f":{"g":1}}"#);
        check(&parts, First, Deep, r#"{"a":{"b":{"c":[1],"d":1,"x":{}},"e":{}},"f":{"g":1}}"#);
        check(&parts, Array, Deep, r#"{"a":{"b":{"c":[[1],[2]],"d":1,"x":{}},"e":[{},0]},"f":{"g":1}}"#);
    }

    #[test]
    fn a_place_within_reaches_into_what_is_there() {
        let parts = [("a.b", "1"), (".", r#"{"a":{"x":2},"z":0}"#), ("a.c", "3")];
        check(&parts, Last, Shallow, r#"{"a":{"x":2,"c":3},"z":0}"#);
        check(&parts, Last, Deep, r#"{"a":{"b":1,"x":2,"c":3},"z":0}"#);
        check(&parts, First, Shallow, r#"{"a":{"b":1,"c":3},"z":0}"#);
        let parts = [(".", r#"{"a":5}"#), ("a.b", "1")];
        check(&parts, Last, Shallow, r#"{"a":{"b":1}}"#);
        check(&parts, First, Shallow, r#"{"a":5}"#);
        check(&parts, Array, Shallow, r#"{"a":[5,{"b":1}]}"#);
        check_fails(&parts, Error, "a", 1, 0);
    }

    #[test]
    fn only_an_object_goes_to_the_root() {
        for body in ["[]", "null", "1", "\"a\""] {
            assert_eq!(
                merged(&[("x", "1"), (".", body)], Last, Shallow).0,
                Err(BadMerge::NoObject { part: 1 })
            );
        }
    }

    #[test]
    fn many_members_are_found_again() {
        let body = |from: usize| {
            let members: Vec<_> = (from..from + 10_000).map(|name| format!("\"k{name}\":{from}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let (first, second) = (body(0), body(5_000));
        let (text, pieces) = merged(&[(".", &first), (".", &second)], First, Shallow);
        let text = text.expect("objects");
        assert_eq!(text.matches("\"k").count(), 15_000);
        assert!(text.ends_with("\"k14999\":5000}"));
        assert_eq!(pieces.list().len(), 5, "bracket, body, comma, the rest of the other, bracket");
    }
}
