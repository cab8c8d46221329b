//! Paths: the one spelling under which a path is matched and sent (DESIGN §6).

use std::fmt;

/// Where the normal form of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normal {
    /// The path given has it already.
    AsIs,
    /// In `scratch`.
    InScratch,
}

/// Why a path has no one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// Does not start with `/`.
    NotAbsolute,
    /// A control byte, a space, a byte past ASCII, `?` or `#`.
    BadByte,
    /// `%` without two hexadecimal digits.
    BadEscape,
    /// `%2F` or `%5C`: services differ on whether it separates segments.
    EncodedSeparator,
    /// `%00`.
    EncodedNul,
    /// `\`: some services take it for `/`.
    Backslash,
    /// `..` leads out of the root.
    AboveRoot,
    /// `..;x`, `.;x` or `;x/`: some services drop the parameter, and what is left is another path.
    DotsWithParameter,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not start with a slash",
            Self::BadByte => "the path has a byte that must be escaped",
            Self::BadEscape => "the path has a % that is not an escape",
            Self::EncodedSeparator => "the path has an encoded slash or backslash",
            Self::EncodedNul => "the path has an encoded NUL",
            Self::Backslash => "the path has a backslash",
            Self::AboveRoot => "the path leads above the root",
            Self::DotsWithParameter => "the path has a parameter on a dot segment or on none",
        })
    }
}

impl std::error::Error for BadPath {}

/// Finds the normal form of `path`: no dot segments (RFC 3986 §5.2.4), no empty segments but a last one, unreserved
/// characters not escaped (§6.2.2.2), other escapes in upper case. An empty path is `/`.
///
/// Reserved characters stay as they are spelled: `%40` and `@` are different paths. `scratch` is overwritten only for
/// [`Normal::InScratch`] and errors.
#[inline]
pub fn normalise(path: &[u8], scratch: &mut Vec<u8>) -> Result<Normal, BadPath> {
    if is_plainly_normal(path) { Ok(Normal::AsIs) } else { rewrite(path, scratch) }
}

/// Checks a path that is matched and sent as it came (`raw_path`): it is absolute and of visible ASCII.
pub fn check_raw(path: &[u8]) -> Result<(), BadPath> {
    match path {
        [b'/', rest @ ..] if rest.iter().all(|byte| CLASS[usize::from(*byte)] != BAD) => Ok(()),
        [] => Ok(()),
        [b'/', ..] => Err(BadPath::BadByte),
        _ => Err(BadPath::NotAbsolute),
    }
}

const PLAIN: u8 = 0;
/// `/`: what follows decides.
const SLASH: u8 = 1;
/// `.` and `;`: in doubt after a slash.
const OPENING: u8 = 2;
/// `%` and `\`.
const SPECIAL: u8 = 4;
const BAD: u8 = 8;

static CLASS: [u8; 256] = {
    let mut class = [BAD; 256];
    let mut visible = b'!';
    while visible <= b'~' {
        class[visible as usize] = match visible {
            b'/' => SLASH,
            b'.' | b';' => OPENING,
            b'%' | b'\\' => SPECIAL,
            b'?' | b'#' => BAD,
            _ => PLAIN,
        };
        visible += 1;
    }
    class
};

/// Bytes judged together.
const WINDOW: usize = 16;

/// Whether one look at each byte shows that nothing is to be done. What is in doubt, `rewrite` looks at again.
#[inline]
fn is_plainly_normal(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else { return false };
    if rest.len() < WINDOW {
        return is_normal_start(rest);
    }
    let last = path.len() - WINDOW;
    let mut start = 1;
    while start < last {
        if !is_normal_window(path, start) {
            return false;
        }
        start += WINDOW;
    }
    // Overlaps the one before.
    is_normal_window(path, last)
}

/// Byte by byte, for short ones: what follows the first slash.
#[inline]
fn is_normal_start(rest: &[u8]) -> bool {
    let mut doubt = 0;
    let mut after_slash = SLASH | OPENING;
    for byte in rest {
        let class = CLASS[usize::from(*byte)];
        doubt |= class & (SPECIAL | BAD | after_slash);
        after_slash = (class & SLASH) * (SLASH | OPENING);
    }
    doubt == 0
}

/// Each answer has a place of its own: so written, it becomes a few vector instructions (30 bytes in 5 ns, and 22 byte by
/// byte).
#[inline]
fn is_normal_window(path: &[u8], start: usize) -> bool {
    let window = path[start..].first_chunk::<WINDOW>().expect("the caller leaves room for a window");
    let before = path[start - 1..].first_chunk::<WINDOW>().expect("it starts one byte earlier");
    let mut doubts = [0; WINDOW];
    for (at, doubt) in doubts.iter_mut().enumerate() {
        let (before, byte) = (before[at], window[at]);
        let invisible = u8::from(byte.wrapping_sub(b'!') > b'~' - b'!');
        let special = u8::from(byte == b'%')
            | u8::from(byte == b'\\')
            | u8::from(byte == b'?')
            | u8::from(byte == b'#');
        let opening = u8::from(byte == b'/') | u8::from(byte == b'.') | u8::from(byte == b';');
        *doubt = invisible | special | opening & u8::from(before == b'/');
    }
    u128::from_ne_bytes(doubts) == 0
}

#[cold]
#[inline(never)]
fn rewrite(path: &[u8], scratch: &mut Vec<u8>) -> Result<Normal, BadPath> {
    scratch.clear();
    scratch.reserve(path.len() + 1);
    scratch.push(b'/');
    let Some((b'/', mut rest)) = path.split_first() else {
        return if path.is_empty() { Ok(Normal::InScratch) } else { Err(BadPath::NotAbsolute) };
    };

    loop {
        let end = memchr::memchr(b'/', rest);
        let start = scratch.len();
        push_segment(&rest[..end.unwrap_or(rest.len())], scratch)?;
        close_segment(start, end.is_some(), scratch)?;
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => break,
        }
    }
    Ok(if scratch == path { Normal::AsIs } else { Normal::InScratch })
}

/// Appends a segment with its escapes in normal form.
fn push_segment(mut segment: &[u8], scratch: &mut Vec<u8>) -> Result<(), BadPath> {
    while let Some((&byte, after)) = segment.split_first() {
        segment = after;
        match CLASS[usize::from(byte)] {
            BAD => return Err(BadPath::BadByte),
            SPECIAL if byte == b'\\' => return Err(BadPath::Backslash),
            SPECIAL => {
                let (&[high, low], after) = after.split_first_chunk().ok_or(BadPath::BadEscape)?;
                segment = after;
                let (Some(h), Some(l)) = (hex_value(high), hex_value(low)) else {
                    return Err(BadPath::BadEscape);
                };
                match h << 4 | l {
                    0 => return Err(BadPath::EncodedNul),
                    b'/' | b'\\' => return Err(BadPath::EncodedSeparator),
                    byte if is_unreserved(byte) => scratch.push(byte),
                    _ => scratch.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
                }
            }
            _ => scratch.push(byte),
        }
    }
    Ok(())
}

/// Applies the segment at `scratch[start..]`, which a slash follows or not: drops it when it is empty or `.`, and the
/// one before it too when it is `..`.
fn close_segment(start: usize, slash: bool, scratch: &mut Vec<u8>) -> Result<(), BadPath> {
    match &scratch[start..] {
        [] => {}
        b"." => scratch.truncate(start),
        b".." => {
            let before = &scratch[..start - 1];
            let parent = memchr::memrchr(b'/', before).ok_or(BadPath::AboveRoot)?;
            scratch.truncate(parent + 1);
        }
        [b'.', parameter @ ..] | [b'.', b'.', parameter @ ..] if is_parameter(parameter) => {
            return Err(BadPath::DotsWithParameter);
        }
        // `/;session=1` is in use, `/;x/admin` is only good for getting around a route.
        parameter if slash && is_parameter(parameter) => return Err(BadPath::DotsWithParameter),
        _ if slash => scratch.push(b'/'),
        _ => {}
    }
    Ok(())
}

fn is_parameter(text: &[u8]) -> bool {
    text.starts_with(b";") || text.starts_with(b"%3B")
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(path: &str, expected: Result<&str, BadPath>) {
        let mut scratch = Vec::new();
        let found = normalise(path.as_bytes(), &mut scratch).map(|normal| match normal {
            Normal::AsIs => path,
            Normal::InScratch => str::from_utf8(&scratch).unwrap(),
        });
        assert_eq!(found, expected, "{path:?}");
    }

    fn check_all(paths: &[&str], expected: Result<&str, BadPath>) {
        for path in paths {
            check(path, expected);
        }
    }

    #[test]
    fn an_ordinary_path_is_its_own_normal_form() {
        let mut scratch = Vec::new();
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/d..e/f-_~",
            "/a.b",
            "/...",
            "/.well-known/x",
            "/a/.b/..c",
            "/a@b:c;d=e,f",
            "/%40",
            "/%25%3B",
        ] {
            assert_eq!(normalise(path.as_bytes(), &mut scratch), Ok(Normal::AsIs), "{path}");
        }
    }

    #[test]
    fn dot_segments_are_removed_as_rfc_3986_section_5_2_4_says() {
        check("/a/b/c/./../../g", Ok("/a/g"));
        check_all(&["/.", "/./", "/a/..", "/a/../", "/a/b/../..", "/././."], Ok("/"));
        check_all(&["/a/b/..", "/a/.", "/a/./", "/./a/"], Ok("/a/"));
        check("/a/../b", Ok("/b"));
        check("/a/b/../c", Ok("/a/c"));
    }

    #[test]
    fn no_spelling_of_dots_gets_around_a_route() {
        check_all(
            &[
                "/x/../admin/",
                "//admin/",
                "/./admin/",
                "/x/%2e%2e/admin/",
                "/x/.%2e/admin/",
                "/x/%2E./admin/",
                "/%61dmin/",
                "/%2e/admin/",
                "/x//../admin/",
                "/x/y/..//../admin/",
                "/x/y/%2e%2E/./../admin//",
                "///admin/./",
            ],
            Ok("/admin/"),
        );
    }

    #[test]
    fn climbing_above_the_root_is_refused() {
        check_all(
            &["/..", "/../a", "/a/../..", "/%2e%2e/a", "//..", "/./..", "/a/../../b"],
            Err(BadPath::AboveRoot),
        );
    }

    #[test]
    fn parameters_that_hide_a_segment_are_refused() {
        check_all(
            &["/a/..;/b", "/a/.;x", "/a/..;", "/%2e%2e;/", "/..%3b/", "/.%3Bx"],
            Err(BadPath::DotsWithParameter),
        );
        check_all(
            &["/;/admin", "/;x/admin", "//;x/", "/%3bx/a", "/a/;/", "/x/../;/admin"],
            Err(BadPath::DotsWithParameter),
        );
        check("/;session=1", Ok("/;session=1"));
        check("/a;..", Ok("/a;.."));
        check("/...;a", Ok("/...;a"));
    }

    #[test]
    fn unreserved_escapes_are_decoded_once_and_others_upper_cased() {
        check("/%41%7a%7E%2d", Ok("/Az~-"));
        check("/a%2ba", Ok("/a%2Ba"));
        check("/%252e%252e/", Ok("/%252e%252e/"));
        check("/%c3%a4", Ok("/%C3%A4"));
        check("/%0d%0a", Ok("/%0D%0A"));
    }

    #[test]
    fn escapes_that_change_the_shape_are_refused() {
        check_all(&["/a%2fb", "/a%2Fb", "/a%5cb", "/%5C", "/..%2fx"], Err(BadPath::EncodedSeparator));
        check_all(&["/%00", "/a%00.html"], Err(BadPath::EncodedNul));
        check_all(&["/a\\b", "/\\", "/..\\x"], Err(BadPath::Backslash));
        check_all(&["/%", "/%4", "/%zz", "/%4g", "/%%41", "/%u0041", "/a%2"], Err(BadPath::BadEscape));
    }

    #[test]
    fn bytes_that_cannot_be_in_a_path_are_refused() {
        check_all(&["/a b", "/a\tb", "/\0", "/\u{7f}", "/ä", "/a?b", "/a#b"], Err(BadPath::BadByte));
        check_all(&["a", "*", "a/b", "%2fa"], Err(BadPath::NotAbsolute));
        check("", Ok("/"));
        check_all(&["/a|b{c}^\"<>`"], Ok("/a|b{c}^\"<>`"));
    }

    #[test]
    fn raw_paths_are_only_checked_for_bytes() {
        for path in ["/%2f/..//\\%00%zz", "/", ""] {
            assert_eq!(check_raw(path.as_bytes()), Ok(()), "{path}");
        }
        for path in ["/a b", "/\0", "/ä", "/a?b", "/a#b"] {
            assert_eq!(check_raw(path.as_bytes()), Err(BadPath::BadByte), "{path}");
        }
        assert_eq!(check_raw(b"a"), Err(BadPath::NotAbsolute));
    }

    #[test]
    fn what_is_in_doubt_is_seen_wherever_it_stands() {
        let mut scratch = Vec::new();
        for before in 0..40 {
            for after in [0, 1, 5, 15, 16, 39] {
                for byte in 0..=255u8 {
                    let path = [b"/a".as_slice(), &vec![b'x'; before], &[byte], &vec![b'y'; after]].concat();
                    let plain = byte.is_ascii_graphic() && !b"%\\?#".contains(&byte);
                    assert_eq!(
                        normalise(&path, &mut scratch) == Ok(Normal::AsIs),
                        plain,
                        "{byte} at {before}"
                    );
                }
                for pair in [b"//", b"/."] {
                    let path =
                        [b"/a".as_slice(), &vec![b'x'; before], pair, b"/", &vec![b'y'; after]].concat();
                    assert_eq!(normalise(&path, &mut scratch), Ok(Normal::InScratch), "at {before}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own_normal_form(path in "/([a./;%2eEfF5cC\\\\3bB0 ]|%2e|%41|%2f|\\.\\./|/){0,24}") {
            crate::http::invariants::path(path.as_bytes());
        }

        #[test]
        fn any_bytes_are_refused_or_normal(path in proptest::collection::vec(any::<u8>(), 0..64)) {
            crate::http::invariants::path(&path);
        }
    }
}
