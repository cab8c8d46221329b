//! Where a path's variables lie.

use std::ops::Range;

use super::VARIABLES_MAX;

/// The places of a pattern's variables in the path that was matched, in the pattern's order.
///
/// Made once per connection and written by every search; nothing is allocated.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    places: [(u32, u32); VARIABLES_MAX],
    len: usize,
}

impl Captures {
    /// How many variables the matched pattern has.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place of variable `index` in the path, in bytes.
    pub fn place(&self, index: usize) -> Option<Range<usize>> {
        let (start, end) = *self.places[..self.len].get(index)?;
        Some(start as usize..end as usize)
    }

    /// The value of variable `index`; `path` is the path that was searched for.
    pub fn get<'p>(&self, path: &'p [u8], index: usize) -> Option<&'p [u8]> {
        path.get(self.place(index)?)
    }

    /// Notes a place; `index` is below [`VARIABLES_MAX`], which `Pattern::parse` saw to.
    pub(super) fn set(&mut self, index: usize, place: Range<u32>) {
        self.places[index] = (place.start, place.end);
    }

    pub(super) fn finish(&mut self, len: usize) {
        self.len = len;
    }
}
