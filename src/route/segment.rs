//! One segment of a request's path.

/// What stands between two slashes, ready to be compared.
pub(super) struct Segment<'p> {
    /// The first eight bytes, the first one lowest, padded with zeros.
    pub(super) head: u64,
    pub(super) bytes: &'p [u8],
    /// Where the path goes on behind it: at a slash or at its end.
    pub(super) end: usize,
}

impl<'p> Segment<'p> {
    /// The segment of `path` that begins at `start`, which is within the path. May be empty.
    #[inline]
    pub(super) fn at(path: &'p [u8], start: usize) -> Self {
        let rest = &path[start..];
        let head = head(path, rest);
        // Zeros that pad the path are no slashes.
        let slash = slash(head);
        let len = if slash < 8 {
            slash
        } else {
            let beyond = rest.get(8..).unwrap_or_default();
            memchr::memchr(b'/', beyond).map_or(rest.len(), |at| 8 + at)
        };
        let kept = if len < 8 { head & ((1 << (8 * len)) - 1) } else { head };
        Self { head: kept, bytes: &rest[..len], end: start + len }
    }

    /// A literal as a segment.
    pub(super) fn of(literal: &'p [u8]) -> Self {
        Self { head: head(literal, literal), bytes: literal, end: literal.len() }
    }
}

/// The first eight bytes of `rest`, which is the end of `path`, padded with zeros.
#[inline]
fn head(path: &[u8], rest: &[u8]) -> u64 {
    if let Some(first) = rest.first_chunk() {
        return u64::from_le_bytes(*first);
    }
    match path.last_chunk() {
        // Fewer than eight bytes are left: the last eight, less those before `rest`.
        Some(last) if !rest.is_empty() => u64::from_le_bytes(*last) >> (8 * (8 - rest.len())),
        _ => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// The place of the first slash among eight bytes; 8 if there is none.
const fn slash(word: u64) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let zero_where_slash = word ^ (EACH * b'/' as u64);
    // The lowest flag is that of the first zero byte; those above it may be wrong.
    let flags = zero_where_slash.wrapping_sub(EACH) & !zero_where_slash & (EACH * 0x80);
    flags.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::Segment;

    #[track_caller]
    fn check(path: &str, start: usize, expected: &str) {
        let segment = Segment::at(path.as_bytes(), start);
        assert_eq!(segment.bytes, expected.as_bytes(), "{path} at {start}");
        assert_eq!(segment.end, start + expected.len());
        let mut head = [0; 8];
        let len = expected.len().min(8);
        head[..len].copy_from_slice(&expected.as_bytes()[..len]);
        assert_eq!(segment.head.to_le_bytes(), head, "{path} at {start}");
        assert_eq!(segment.head, Segment::of(expected.as_bytes()).head);
    }

    #[test]
    fn a_segment_ends_before_the_next_slash_or_with_the_path() {
        let letters = "abcdefghijklmnopqrstuvwxyz";
        for before in 0..12 {
            for len in 0..=letters.len() {
                let start = before + 2;
                let front = format!("/{}/", &letters[..before]);
                check(&format!("{front}{}/", &letters[..len]), start, &letters[..len]);
                check(&format!("{front}{}//x", &letters[..len]), start, &letters[..len]);
                check(&format!("{front}{}/0/1/2/3/4/5", &letters[..len]), start, &letters[..len]);
                if len > 0 {
                    check(&format!("{front}{}", &letters[..len]), start, &letters[..len]);
                }
            }
        }
    }

    #[test]
    fn bytes_next_to_the_slash_are_no_slashes() {
        for byte in (0..=u8::MAX).filter(|&byte| byte != b'/') {
            let path = [b'/', byte, b'.', b'0', byte, b'/', byte, byte, byte, byte];
            let segment = Segment::at(&path, 1);
            assert_eq!(segment.end, 5, "{byte}");
        }
    }
}
