//! JSON (RFC 8259) as bytes that are looked at and passed on, never rebuilt.
//!
//! [`scan()`] reads a body once: it refuses whatever is not strictly JSON and notes where the members of the top object
//! lie. Everything after that works on those places.
//!
//! How strict: UTF-8 (§8.1) without a byte order mark, one value and white space around it, numbers of any size and
//! precision (§6), arrays and objects at most [`DEPTH_MAX`] deep. A `\u` escape of one half of a surrogate pair alone
//! is refused, although §8.2 lets it pass: it has no text to compare keys by, and a strict client would refuse the
//! whole document for it. Names that occur twice in an object are accepted (§4) and reported.

mod avx2;
mod block;
mod edit;
mod grammar;
pub mod invariants;
mod members;
mod merge;
mod path;
mod pieces;
mod place;
mod scan;
mod walk;
pub mod write;

pub use edit::{BadEdit, Edit, Editor};
pub use grammar::{BadJson, DEPTH_MAX};
pub use members::{Kind, Member, Members, Span};
pub use merge::{BadMerge, Conflict, Depth, Merger, Part};
pub use path::{BadPath, Path, Step};
pub use pieces::{Piece, Pieces};
pub use place::{Name, Place};
pub use scan::{Document, check, scan};
pub use walk::{Entry, elements, entries};
#[cfg(test)]
mod tests;
