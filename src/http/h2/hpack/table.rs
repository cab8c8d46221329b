//! A dynamic table (RFC 7541 §2.3.2): the newest entries first, as many as its size allows.

use std::collections::VecDeque;

use super::Kind;

/// What an entry costs besides its bytes (RFC 7541 §4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;

#[derive(Clone, Copy)]
struct Entry {
    start: u16,
    name_len: u16,
    value_len: u16,
    kind: Kind,
    clean: bool,
}

/// One entry as it is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http::h2) struct Looked<'t> {
    pub(in crate::http::h2) name: &'t [u8],
    pub(in crate::http::h2) value: &'t [u8],
    pub(in crate::http::h2) kind: Kind,
    /// The value may stand in a message.
    pub(in crate::http::h2) clean: bool,
}

/// Entries lie one after the other in twice the room they may take, so that moving them to the front is rare: no byte is moved
/// more than once for each byte that comes. Nothing is allocated until the first entry comes.
#[derive(Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
    /// Entries ever inserted.
    inserted: u64,
}

/// The largest size: places in twice as many bytes fit 16 bits.
pub(super) const SIZE_MAX: usize = 16 * 1024;

impl Table {
    pub(super) fn new(size_max: usize) -> Self {
        debug_assert!(size_max <= SIZE_MAX, "places are 16 bits");
        Self { size_max, ..Self::default() }
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    pub(super) fn resize(&mut self, size_max: usize) {
        debug_assert!(size_max <= SIZE_MAX, "places are 16 bits");
        self.size_max = size_max;
        self.shrink_to(size_max);
    }

    /// Entries ever inserted. Less the count at an entry's insertion, it is the entry's age.
    pub(super) fn inserted(&self) -> u64 {
        self.inserted
    }

    /// The entry with this age; 0 = the newest.
    pub(super) fn look(&self, age: usize) -> Option<Looked<'_>> {
        let entry = self.entries.get(age)?;
        let name_end = usize::from(entry.start) + usize::from(entry.name_len);
        Some(Looked {
            name: &self.bytes[usize::from(entry.start)..name_end],
            value: &self.bytes[name_end..name_end + usize::from(entry.value_len)],
            kind: entry.kind,
            clean: entry.clean,
        })
    }

    /// Inserts an entry and drops the oldest ones that no longer fit. One larger than the whole table empties it (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], kind: Kind, clean: bool) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.inserted += 1;
        if size > self.size_max {
            self.shrink_to(0);
            return;
        }
        self.shrink_to(self.size_max - size);
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(self.size_max);
        }
        if self.bytes.len() + name.len() + value.len() > 2 * self.size_max {
            self.move_to_front();
        }
        let short = |len: usize| u16::try_from(len).expect("a table has at most SIZE_MAX bytes, twice");
        self.entries.push_front(Entry {
            start: short(self.bytes.len()),
            name_len: short(name.len()),
            value_len: short(value.len()),
            kind,
            clean,
        });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += size;
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_back() else { break };
            self.size -= usize::from(entry.name_len) + usize::from(entry.value_len) + ENTRY_OVERHEAD;
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    fn move_to_front(&mut self) {
        let start = self.entries.back().map_or(0, |oldest| oldest.start);
        self.bytes.drain(..usize::from(start));
        for entry in &mut self.entries {
            entry.start -= start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Known;

    const KIND: Kind = Kind::Field(Known::Other);

    fn names(table: &Table) -> Vec<String> {
        (0..).map_while(|age| table.look(age)).map(|e| String::from_utf8_lossy(e.name).into_owned()).collect()
    }

    // RFC 7541 §4

    #[test]
    fn the_newest_entry_comes_first_and_the_oldest_goes() {
        let mut table = Table::new(3 * (ENTRY_OVERHEAD + 2));
        for name in ["a", "b", "c", "d"] {
            table.insert(name.as_bytes(), b"1", KIND, true);
        }
        assert_eq!(names(&table), ["d", "c", "b"]);
        table.resize(2 * (ENTRY_OVERHEAD + 2));
        assert_eq!(names(&table), ["d", "c"]);
        table.resize(0);
        assert_eq!(names(&table), Vec::<String>::new());
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new(100);
        table.insert(b"a", b"", KIND, true);
        table.insert(b"b", &[b'x'; 100], KIND, true);
        assert_eq!(names(&table), Vec::<String>::new());
    }

    #[test]
    fn entries_survive_being_moved() {
        let mut table = Table::new(400);
        for number in 0..1000 {
            let name = format!("name-{number}");
            table.insert(name.as_bytes(), &[b'v'; 37], KIND, true);
            let newest = table.look(0).expect("it was just inserted");
            assert_eq!((newest.name, newest.value), (name.as_bytes(), &[b'v'; 37][..]));
            assert!(
                number < 5
                    || table.look(3).is_some_and(|e| e.name == format!("name-{}", number - 3).as_bytes())
            );
            assert!(table.bytes.len() <= 800);
        }
    }
}
