//! A document as a list of slices of the bodies it came from, with a little text between them.

use super::members::Span;

/// One slice of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Of [`Pieces::text`].
    Text(Span),
    /// Of the body of the part with this index.
    Part(usize, Span),
}

/// A document in pieces. Made once, used for document after document.
#[derive(Debug, Default)]
pub struct Pieces {
    list: Vec<Piece>,
    text: Vec<u8>,
    bytes: usize,
}

impl Pieces {
    pub const fn new() -> Self {
        Self { list: Vec::new(), text: Vec::new(), bytes: 0 }
    }

    /// In order. None is empty, and what follows on one another in a body is one piece.
    pub fn list(&self) -> &[Piece] {
        &self.list
    }

    /// What the pieces that are not of a body are of: brackets, commas, names.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The document's length in bytes: its `Content-Length`.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The slices themselves; `body` gives a part's body by its index.
    pub fn slices<'b>(&'b self, body: impl Fn(usize) -> &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        self.list.iter().map(move |piece| match *piece {
            Piece::Text(span) => span.of(&self.text),
            Piece::Part(part, span) => span.of(body(part)),
        })
    }

    /// Appends the document: one copy, for what must lie in one place.
    pub fn join<'b>(&'b self, body: impl Fn(usize) -> &'b [u8], out: &mut Vec<u8>) {
        out.reserve(self.bytes);
        for slice in self.slices(body) {
            out.extend_from_slice(slice);
        }
    }

    pub fn clear(&mut self) {
        self.list.clear();
        self.text.clear();
        self.bytes = 0;
    }

    pub(super) fn push_text(&mut self, text: &[u8]) {
        let added = Span::new(self.text.len(), self.text.len() + text.len());
        self.text.extend_from_slice(text);
        self.bytes += text.len();
        match self.list.last_mut() {
            // All text since the last piece of a body is in one place.
            Some(Piece::Text(span)) => span.end = added.end,
            Some(Piece::Part(..)) | None if added.is_empty() => {}
            Some(Piece::Part(..)) | None => self.list.push(Piece::Text(added)),
        }
    }

    pub(super) fn push_part(&mut self, part: usize, added: Span) {
        if added.is_empty() {
            return;
        }
        self.bytes += added.len();
        match self.list.last_mut() {
            Some(Piece::Part(last, span)) if *last == part && span.end == added.start => span.end = added.end,
            Some(Piece::Part(..) | Piece::Text(_)) | None => self.list.push(Piece::Part(part, added)),
        }
    }
}
