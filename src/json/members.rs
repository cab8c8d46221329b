//! The members of an object, as places in its body.

use std::hash::{BuildHasher, Hasher};

use foldhash::{SharedSeed, fast::SeedableRandomState};

use super::{place::Name, scan::Document, write};

/// A range of a body, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// Of a body shorter than 4 GiB.
    #[expect(clippy::cast_possible_truncation, reason = "bodies are shorter than 4 GiB")]
    pub(super) const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// What lies between `start` and `end` without white space around it.
    pub(super) fn trimmed(body: &[u8], mut start: usize, mut end: usize) -> Self {
        while start < end && is_space(body[start]) {
            start += 1;
        }
        while start < end && is_space(body[end - 1]) {
            end -= 1;
        }
        Self::new(start, end)
    }

    /// Its bytes; nothing where it lies outside of `body`.
    pub fn of(self, body: &[u8]) -> &[u8] {
        body.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// RFC 8259 §2.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

impl Kind {
    /// Of a value without white space before it, by its first byte.
    pub fn of(value: &[u8]) -> Self {
        match value.first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't') => Self::True,
            Some(b'f') => Self::False,
            Some(b'n') => Self::Null,
            Some(_) | None => Self::Number,
        }
    }
}

/// One member of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Between the quotes.
    pub key: Span,
    pub value: Span,
    /// Of the name without its escapes: equal names have equal ones.
    pub hash: u32,
    pub kind: Kind,
    /// Whether the name must be unescaped before it is compared.
    pub key_has_escapes: bool,
}

impl Member {
    /// The member as it is written, from its name's quote to the end of its value.
    pub const fn span(&self) -> Span {
        Span { start: self.key.start - 1, end: self.value.end }
    }
}

/// The members of a body's object, in order, and the room to find them. Made once, used for body after body.
pub struct Members {
    list: Vec<Member>,
    marks: Vec<u32>,
    table: Vec<u32>,
    hashes: NameHasher,
    duplicate: Option<(usize, usize)>,
}

/// Hashes names. Its seed comes from outside: who can guess it can make names that collide.
#[derive(Clone)]
pub(super) struct NameHasher {
    state: SeedableRandomState,
    unescaped: Vec<u8>,
}

impl NameHasher {
    pub(super) fn new(seed: u64) -> Self {
        let state = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { state, unescaped: Vec::new() }
    }

    pub(super) fn plain(&self, name: &[u8]) -> u32 {
        let mut hasher = self.state.build_hasher();
        hasher.write(name);
        let hash = hasher.finish();
        #[expect(clippy::cast_possible_truncation, reason = "the half that is kept")]
        {
            (hash ^ (hash >> 32)) as u32
        }
    }

    pub(super) fn of_name(&mut self, name: &Name) -> u32 {
        let written = name.written();
        self.written(written, write::has_escapes(written))
    }

    /// `key` is between the quotes, as it is written.
    pub(super) fn written(&mut self, key: &[u8], has_escapes: bool) -> u32 {
        if !has_escapes {
            return self.plain(key);
        }
        let mut unescaped = std::mem::take(&mut self.unescaped);
        unescaped.clear();
        write::unescape(key, &mut unescaped);
        let hash = self.plain(&unescaped);
        self.unescaped = unescaped;
        hash
    }
}

/// Up to this many members are compared each with each.
const PAIRWISE_MAX: usize = 16;

impl Members {
    /// `seed` is drawn at random once per process.
    pub fn new(seed: u64) -> Self {
        Self {
            list: Vec::new(),
            marks: Vec::new(),
            table: Vec::new(),
            hashes: NameHasher::new(seed),
            duplicate: None,
        }
    }

    /// All of them, also those whose name comes again.
    pub fn list(&self) -> &[Member] {
        &self.list
    }

    /// The first member whose name was there before, and the one it repeats: their indices, the earlier one first.
    pub const fn duplicate(&self) -> Option<(usize, usize)> {
        self.duplicate
    }

    /// Forgets the body before and lends the room for marks.
    pub(super) fn start(&mut self) -> Vec<u32> {
        self.list.clear();
        self.duplicate = None;
        let mut marks = std::mem::take(&mut self.marks);
        marks.clear();
        marks
    }

    pub(super) fn keep(&mut self, marks: Vec<u32>) {
        self.marks = marks;
    }

    /// `marks` are the colons and commas of the object, by turns.
    pub(super) fn fill(&mut self, body: &[u8], document: Document, marks: &[u32], has_backslash: bool) {
        let Document { kind: Kind::Object, span } = document else { return };
        let close = span.end as usize - 1;
        let mut from = span.start as usize + 1;
        let (pairs, _) = marks.as_chunks::<2>();
        // The last member's colon has no comma after it.
        let last = marks.last().filter(|_| marks.len() % 2 == 1).map(|&colon| (colon as usize, close));
        let pairs = pairs.iter().map(|&[colon, comma]| (colon as usize, comma as usize)).chain(last);
        for (colon, end) in pairs {
            let name = Span::trimmed(body, from, colon);
            let key = Span { start: name.start + 1, end: name.end - 1 };
            let value = Span::trimmed(body, colon + 1, end);
            let key_has_escapes = has_backslash && write::has_escapes(key.of(body));
            self.list.push(Member {
                key,
                value,
                hash: self.hashes.written(key.of(body), key_has_escapes),
                kind: Kind::of(value.of(body)),
                key_has_escapes,
            });
            from = end + 1;
        }
        self.duplicate = self.find_duplicate(body);
    }

    fn find_duplicate(&mut self, body: &[u8]) -> Option<(usize, usize)> {
        let same = |a: &Member, b: &Member| a.hash == b.hash && same_name(a, b, body);
        if self.list.len() <= PAIRWISE_MAX {
            return self.list.iter().enumerate().find_map(|(index, member)| {
                let earlier = self.list[..index].iter().position(|earlier| same(earlier, member))?;
                Some((earlier, index))
            });
        }
        // Half empty at most; 0 is an empty place.
        let places = (self.list.len() * 2).next_power_of_two();
        self.table.clear();
        self.table.resize(places, 0);
        for (index, member) in self.list.iter().enumerate() {
            let mut place = member.hash as usize & (places - 1);
            while self.table[place] != 0 {
                let earlier = self.table[place] as usize - 1;
                if same(&self.list[earlier], member) {
                    return Some((earlier, index));
                }
                place = (place + 1) & (places - 1);
            }
            self.table[place] = Span::new(index + 1, 0).start;
        }
        None
    }
}

fn same_name(a: &Member, b: &Member, body: &[u8]) -> bool {
    write::same_name(a.key.of(body), b.key.of(body))
}
