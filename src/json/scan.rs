//! One pass over a body: is it JSON, and where are the members of its object?

use super::{
    block::Portable,
    grammar::{self, BadJson, Read},
    members::{Kind, Members, Span},
};

/// A body that is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document {
    pub kind: Kind,
    /// The value without the white space around it.
    pub span: Span,
}

/// Checks `body` and notes the members of its object in `members`, none if it is something else.
///
/// Allocates only when `members` has never held as many.
pub fn scan(body: &[u8], members: &mut Members) -> Result<Document, BadJson> {
    let mut marks = members.start();
    let read = read::<true>(body, &mut marks);
    let document = read.and_then(|read| Ok((document(body, read)?, read)));
    if let Ok((document, read)) = document {
        members.fill(body, document, &marks, read.has_backslash);
    }
    members.keep(marks);
    document.map(|(document, _)| document)
}

/// Checks `body` and nothing more.
pub fn check(body: &[u8]) -> Result<Document, BadJson> {
    let read = read::<false>(body, &mut Vec::new())?;
    document(body, read)
}

fn read<const MEMBERS: bool>(body: &[u8], marks: &mut Vec<u32>) -> Result<Read, BadJson> {
    if u32::try_from(body.len()).is_err() {
        return Err(BadJson::TooLong);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = super::avx2::Avx2::detect() {
        return avx2.read::<MEMBERS>(body, marks);
    }
    grammar::read::<_, MEMBERS>(Portable, body, marks)
}

fn document(body: &[u8], read: Read) -> Result<Document, BadJson> {
    if read.has_non_ascii && simdutf8::basic::from_utf8(body).is_err() {
        let at = std::str::from_utf8(body).map_or_else(|error| error.valid_up_to(), str::len);
        return Err(BadJson::NotUtf8 { at });
    }
    let span = Span::trimmed(body, 0, body.len());
    Ok(Document { kind: Kind::of(span.of(body)), span })
}
