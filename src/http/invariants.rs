//! What must hold for any bytes whatever. The fuzz targets and the tests that replay their corpora both call these.

use std::ops::Range;

use super::{
    body::{BadBody, Decoder},
    framing::BodyLength,
    head::{BadHead, Field, Method, Rules},
    headers,
    known::Known,
    parse_request, parse_response,
    path::{Normal, check_raw, normalise},
};

const RULES: Rules = Rules { head_bytes_max: 4096, line_bytes_max: 1024, headers_max: 70, lenient: false };

/// A request head says the same however it is cut; what is accepted strictly has no doubtful byte; lenient parsing
/// accepts all that strict parsing does, with the same meaning.
pub fn request_head(bytes: &[u8]) {
    for lenient in [false, true] {
        let rules = Rules { lenient, ..RULES };
        let (whole, fields) = request_at_once(bytes, &rules);
        let (pieces, piece_fields) = request_in_pieces(bytes, &rules, 1..bytes.len());
        check_same(&whole, &pieces);
        for cut in cuts(bytes) {
            let cut = request_in_pieces(bytes, &rules, cut..cut + 1);
            check_same(&whole, &cut.0);
            assert!(whole.is_err() || cut == (whole, fields.clone()));
        }
        if whole.is_err() {
            let ended = [bytes, b"\r\n\r\n"].concat();
            assert!(
                request_in_pieces(&ended, &rules, 1..ended.len()).0.is_err(),
                "refused at the latest when its end is there"
            );
        }
        if let Ok(Some(head)) = &whole {
            assert_eq!(fields, piece_fields);
            assert!(head.len <= bytes.len());
            check_fields(&bytes[..head.len], &fields, lenient);
            assert_eq!(request_at_once(bytes, &Rules { lenient: true, ..RULES }), (whole, fields));
            assert_eq!(
                request_at_once(&bytes[..head.len - 1], &rules).0,
                Ok(None),
                "not before its last byte"
            );
        }
    }
}

/// A head that comes in pieces may be refused later, never be accepted or read differently.
fn check_same<T: PartialEq + std::fmt::Debug>(
    whole: &Result<Option<T>, BadHead>,
    pieces: &Result<Option<T>, BadHead>,
) {
    match whole {
        Ok(_) => assert_eq!(whole, pieces),
        Err(_) => assert!(!matches!(pieces, Ok(Some(_))), "{whole:?}, yet in pieces {pieces:?}"),
    }
}

type Head<T> = (Result<Option<T>, BadHead>, Vec<Field>);

fn request_at_once(bytes: &[u8], rules: &Rules) -> Head<super::RequestHead> {
    let mut fields = Vec::new();
    let head = parse_request(bytes, &mut 0, rules, &mut fields);
    (head, fields)
}

/// Gives the bytes up to each of `ends`, then all.
fn request_in_pieces(bytes: &[u8], rules: &Rules, ends: Range<usize>) -> Head<super::RequestHead> {
    let (mut fields, mut scanned, mut head) = (Vec::new(), 0, Ok(None));
    for end in ends.chain([bytes.len()]) {
        head = parse_request(&bytes[..end], &mut scanned, rules, &mut fields);
        if head != Ok(None) {
            break;
        }
    }
    (head, fields)
}

/// Every place to cut in two; some of them where there are many.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    (1..bytes.len()).step_by(1 + bytes.len() / 256)
}

/// The same for response heads, for an ordinary request and for HEAD.
pub fn response_head(bytes: &[u8]) {
    for (lenient, method) in [(false, Method::Get), (true, Method::Get), (false, Method::Head)] {
        let rules = Rules { lenient, ..RULES };
        let (whole, fields, copy) = response_in_pieces(bytes, method, &rules, 0..0);
        let (pieces, piece_fields, piece_copy) = response_in_pieces(bytes, method, &rules, 1..bytes.len());
        check_same(&whole, &pieces);
        for cut in cuts(bytes) {
            let cut = response_in_pieces(bytes, method, &rules, cut..cut + 1);
            check_same(&whole, &cut.0);
            assert!(whole.is_err() || cut == (whole, fields.clone(), copy.clone()));
        }
        if let Ok(Some(head)) = &whole {
            assert_eq!((&fields, &copy), (&piece_fields, &piece_copy));
            assert_eq!(&copy[head.len..], &bytes[head.len..], "nothing after the head is touched");
            check_fields(&copy[..head.len], &fields, lenient);
            assert!((100..1000).contains(&head.status));
        }
    }
}

type ResponseParts = (Result<Option<super::ResponseHead>, BadHead>, Vec<Field>, Vec<u8>);

fn response_in_pieces(bytes: &[u8], method: Method, rules: &Rules, ends: Range<usize>) -> ResponseParts {
    let (mut fields, mut scanned, mut head) = (Vec::new(), 0, Ok(None));
    let mut copy = bytes.to_vec();
    for end in ends.chain([bytes.len()]) {
        head = parse_response(&mut copy[..end], &mut scanned, method, rules, &mut fields);
        if head != Ok(None) {
            break;
        }
    }
    (head, fields, copy)
}

fn check_fields(head: &[u8], fields: &[Field], lenient: bool) {
    assert!(fields.len() <= RULES.headers_max);
    for field in fields {
        let (name, value) = (field.name.of(head), field.value.of(head));
        assert!(headers::is_token(name));
        assert!(headers::is_field_value(value));
        assert_eq!(headers::trim_ows(value), value);
        assert!(field.name.end() < usize::from(field.value.start), "a colon is between them");
        assert_eq!(field.known, super::classify(name));
        assert!(field.hop || !field.known.is_hop());
        assert!(
            !field.hop || field.known.is_hop() || field.known == Known::Other,
            "what we know is not removed"
        );
    }
    if !lenient {
        for (at, byte) in head.iter().enumerate() {
            match byte {
                b'\n' => assert_eq!(head[at - 1], b'\r', "bare LF"),
                b'\r' => assert_eq!(head[at + 1], b'\n', "bare CR"),
                b'\t' => {}
                _ => assert!(*byte >= 32 && *byte != 127, "a control byte"),
            }
        }
    }
}

/// A chunked body decodes to the same data, trailers and end however it is cut, and to what a plain reading of the
/// grammar finds.
pub fn chunked(bytes: &[u8]) {
    let whole = decode_in_pieces(bytes, bytes.len().max(1));
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(decode_in_pieces(bytes, size), whole, "in pieces of {size}");
    }
    if let Ok((data, end)) = &whole {
        let (expected, expected_end) = read_plainly(bytes).expect("what is accepted is in the grammar");
        assert_eq!(data, &expected);
        assert_eq!(*end, expected_end);
    }
}

/// Data, and the offset of the body's end; `Truncated` when there is none.
type Body = Result<(Vec<u8>, usize), BadBody>;

fn decode_in_pieces(bytes: &[u8], size: usize) -> Body {
    let mut decoder = Decoder::new(BodyLength::Chunked);
    let mut data = Vec::new();
    let mut kept = Vec::new();
    let mut consumed = 0;
    for piece in bytes.chunks(size) {
        kept.extend_from_slice(piece);
        let decoded = decoder.decode(&mut kept)?;
        assert!(decoded.data.end <= decoded.consumed && decoded.consumed <= kept.len());
        assert_eq!(decoded.finished, decoder.is_finished());
        assert_eq!(decoded.finished, decoded.trailers.is_some());
        data.extend_from_slice(&kept[decoded.data.clone()]);
        kept.drain(..decoded.consumed);
        consumed += decoded.consumed;
        if decoded.finished {
            break;
        }
    }
    decoder.end_of_stream().map(|()| (data, consumed))
}

/// The grammar of RFC 9112 §7.1 without its bounds and without the syntax of extensions and trailers.
fn read_plainly(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let line = take_line(bytes, &mut at)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            while !take_line(bytes, &mut at)?.is_empty() {}
            return Some((data, at));
        }
        data.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        if !take_line(bytes, &mut at)?.is_empty() {
            return None;
        }
    }
}

fn take_line<'b>(bytes: &'b [u8], at: &mut usize) -> Option<&'b [u8]> {
    let rest = &bytes[*at..];
    let len = rest.windows(2).position(|pair| pair == b"\r\n")?;
    *at += len + 2;
    Some(&rest[..len])
}

/// A normal form is its own normal form, has no dot segment, no empty segment but a last one, no escape of an unreserved
/// character and none in lower case.
pub fn path(bytes: &[u8]) {
    let mut scratch = Vec::new();
    let Ok(normal) = normalise(bytes, &mut scratch) else { return };
    let result = match normal {
        Normal::AsIs => bytes,
        Normal::InScratch => &scratch,
    };
    assert_eq!(result[0], b'/');
    assert!(check_raw(result).is_ok());
    assert!(!result.contains(&b'\\'));
    let segments: Vec<_> = result[1..].split(|byte| *byte == b'/').collect();
    let (last, others) = segments.split_last().expect("split gives at least one");
    assert!(others.iter().all(|segment| !segment.is_empty()));
    for segment in others.iter().chain([last]) {
        let before_parameter = segment.split(|byte| *byte == b';').next();
        assert!(!matches!(before_parameter, Some(b"." | b"..")), "a dot segment");
        assert!(before_parameter != Some(b"") || segment == last, "a parameter of nothing");
    }
    for (at, _) in result.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let escape = str::from_utf8(&result[at + 1..at + 3]).expect("visible ASCII");
        let byte = u8::from_str_radix(escape, 16).expect("an escape is whole");
        assert!(!escape.bytes().any(|digit| digit.is_ascii_lowercase()));
        assert!(!byte.is_ascii_alphanumeric() && !b"-._~/\\\0".contains(&byte));
    }
    assert_eq!(normalise(result, &mut Vec::new()), Ok(Normal::AsIs));
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use crate::http::h2;

    /// Runs `holds` on each file of `tests/data/corpus/<target>`: inputs made by hand, and those a fuzzer once failed
    /// with.
    fn replay(target: &str, holds: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus").join(target);
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() > 10, "{} has its files", folder.display());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            if std::panic::catch_unwind(|| holds(&bytes)).is_err() {
                panic!("see above: {}", file.display());
            }
        }
    }

    #[test]
    fn the_corpora_hold() {
        replay("request_head", super::request_head);
        replay("response_head", super::response_head);
        replay("chunked", super::chunked);
        replay("path", super::path);
        replay("h2", h2::invariants::connection);
        replay("h2", h2::invariants::block);
    }
}
