//! The chunked coding (RFC 9112 §7.1), read byte by byte where it is framing and in runs where it is data.

use super::{
    body::{BadBody, Decoded},
    headers::{is_token_byte, is_value_byte},
};

/// The longest trailer section, with its final CRLF. The caller's buffer must hold this much.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// The most trailer fields.
pub(super) const TRAILERS_MAX: usize = 64;
/// The longest extensions of one chunk.
const EXTENSION_BYTES_MAX: u32 = 256;
/// How far the extensions of a body may outgrow its data. AWS signs each chunk of an upload in one, so a bound on
/// their sum alone would break long bodies.
const EXTENSION_EXCESS_MAX: u64 = 16 * 1024;
/// Hexadecimal digits of a chunk size: as many as fit 64 bits, leading zeros included.
const SIZE_DIGITS_MAX: u8 = 16;

#[derive(Clone, Debug)]
pub(super) struct Chunked {
    state: State,
    /// The size while it is read, then the data bytes of this chunk still to come.
    left: u64,
    digits: u8,
    /// Extension bytes of this chunk.
    extension: u32,
    /// Extension bytes so far, less the data bytes.
    excess: u64,
    /// Bytes of an incomplete trailer section that have no empty line.
    scanned: usize,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Finished,
    Failed(BadBody),
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 §7.1.1) the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// White space was read where an extension may start.
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    /// After the closing quote.
    AfterQuoted,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Self { state: State::Size, left: 0, digits: 0, extension: 0, excess: 0, scanned: 0 }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Data bytes that the current chunk has announced and not delivered.
    pub(super) fn announced(&self) -> u64 {
        match self.state {
            State::Size | State::Extension(_) | State::SizeLf | State::Data => self.left,
            State::DataCr | State::DataLf | State::Trailers | State::Finished | State::Failed(_) => 0,
        }
    }

    pub(super) fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, BadBody> {
        self.read(bytes).inspect_err(|why| self.state = State::Failed(*why))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<Decoded, BadBody> {
        let mut at = 0;
        let mut data = 0..0;
        let mut trailers = None;
        while at < bytes.len() {
            match self.state {
                State::Data => {
                    let room = bytes.len() - at;
                    let len = usize::try_from(self.left).map_or(room, |left| left.min(room));
                    if data.is_empty() {
                        data = at..at + len;
                    } else {
                        bytes.copy_within(at..at + len, data.end);
                        data.end += len;
                    }
                    at += len;
                    self.left -= len as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                }
                State::Trailers => match self.find_trailers(&bytes[at..])? {
                    None => break,
                    Some(len) => {
                        trailers = Some(at..at + len);
                        at += len;
                        self.state = State::Finished;
                    }
                },
                State::Finished => break,
                State::Failed(why) => return Err(why),
                State::Size | State::Extension(_) | State::SizeLf | State::DataCr | State::DataLf => {
                    self.state = self.step(bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok(Decoded { data, consumed: at, finished: self.is_finished(), trailers })
    }

    /// The state after a byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, BadBody> {
        match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.digits == SIZE_DIGITS_MAX {
                    return Err(BadBody::BadChunkSize);
                }
                self.digits += 1;
                self.left = self.left << 4 | u64::from(hex_value(byte));
                Ok(State::Size)
            }
            (State::Size, _) if self.digits == 0 => Err(BadBody::BadChunkSize),
            (State::Size, b'\r') => Ok(State::SizeLf),
            (State::Size, b';' | b' ' | b'\t') => self.extend(Extension::BeforeSemicolon, byte),
            (State::Extension(place), _) => self.extend(place, byte),
            (State::SizeLf, b'\n') => self.start_data(),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::DataCr | State::DataLf, _) => Err(BadBody::BadChunkEnd),
            _ => Err(BadBody::BadChunkSize),
        }
    }

    fn start_data(&mut self) -> Result<State, BadBody> {
        self.excess = (self.excess + u64::from(self.extension)).saturating_sub(self.left);
        if self.excess > EXTENSION_EXCESS_MAX {
            return Err(BadBody::ExtensionsTooLong);
        }
        self.digits = 0;
        self.extension = 0;
        Ok(if self.left == 0 { State::Trailers } else { State::Data })
    }

    fn extend(&mut self, place: Extension, byte: u8) -> Result<State, BadBody> {
        self.extension += 1;
        if self.extension > EXTENSION_BYTES_MAX {
            return Err(BadBody::ExtensionsTooLong);
        }
        let next = match (place, byte) {
            (Extension::Name | Extension::Token | Extension::AfterQuoted, b'\r') => return Ok(State::SizeLf),

            (Extension::BeforeSemicolon, b' ' | b'\t') => Extension::BeforeSemicolon,
            (Extension::BeforeSemicolon, b';') => Extension::BeforeName,
            (Extension::BeforeName, b' ' | b'\t') => Extension::BeforeName,
            (Extension::BeforeName | Extension::Name, _) if is_token_byte(byte) => Extension::Name,
            (Extension::Name | Extension::AfterName, b' ' | b'\t') => Extension::AfterName,
            (Extension::Name | Extension::AfterName, b'=') => Extension::BeforeValue,
            (Extension::Name | Extension::AfterName, b';') => Extension::BeforeName,

            (Extension::BeforeValue, b' ' | b'\t') => Extension::BeforeValue,
            (Extension::BeforeValue, b'"') => Extension::Quoted,
            (Extension::BeforeValue | Extension::Token, _) if is_token_byte(byte) => Extension::Token,
            (Extension::Quoted, b'"') => Extension::AfterQuoted,
            (Extension::Quoted, b'\\') => Extension::Escaped,
            (Extension::Quoted | Extension::Escaped, _) if is_value_byte(byte) => Extension::Quoted,
            (Extension::Token | Extension::AfterQuoted, b' ' | b'\t') => Extension::BeforeSemicolon,
            (Extension::Token | Extension::AfterQuoted, b';') => Extension::BeforeName,
            _ => return Err(BadBody::BadExtension),
        };
        Ok(State::Extension(next))
    }

    /// The length of the trailer section at the start of `rest`, once it is there. Its syntax is checked here, also for
    /// a caller that drops it: `0\r\nGET / HTTP/1.1\r\n…` is not a trailer.
    fn find_trailers(&mut self, rest: &[u8]) -> Result<Option<usize>, BadBody> {
        if rest.starts_with(b"\r\n") {
            return Ok(Some(2));
        }
        let window = &rest[..rest.len().min(TRAILER_BYTES_MAX)];
        let from = self.scanned.min(window.len());
        for found in memchr::memchr_iter(b'\n', &window[from..]) {
            let end = from + found + 1;
            let Some(line) = window[..end].strip_suffix(b"\r\n") else { return Err(BadBody::BadTrailers) };
            if line.ends_with(b"\n") {
                check_trailers(&window[..end])?;
                return Ok(Some(end));
            }
        }
        self.scanned = window.len();
        if window.len() == TRAILER_BYTES_MAX { Err(BadBody::TrailersTooLong) } else { Ok(None) }
    }
}

fn check_trailers(section: &[u8]) -> Result<(), BadBody> {
    let mut room = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(section, &mut room) {
        Ok(httparse::Status::Complete((len, _))) if len == section.len() => Ok(()),
        Err(httparse::Error::TooManyHeaders) => Err(BadBody::TrailersTooLong),
        Ok(_) | Err(_) => Err(BadBody::BadTrailers),
    }
}

/// The value of a digit that `step` has matched.
const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{BodyLength, CHUNK_HEADER_MAX, Decoder, LAST_CHUNK, chunk_header, invariants};
    use proptest::prelude::*;

    /// Data, trailers and what is left over, of a body given at once.
    fn decode(bytes: &[u8]) -> Result<(String, String, String), BadBody> {
        invariants::chunked(bytes);
        let mut decoder = Decoder::new(BodyLength::Chunked);
        let mut bytes = bytes.to_vec();
        let decoded = decoder.decode(&mut bytes)?;
        decoder.end_of_stream()?;
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&bytes[range]).into_owned();
        Ok((
            text(decoded.data),
            text(decoded.trailers.unwrap_or_default()),
            text(decoded.consumed..bytes.len()),
        ))
    }

    fn check(body: &str, data: &str, trailers: &str, rest: &str) {
        let found = decode(body.as_bytes());
        assert_eq!(found, Ok((data.to_owned(), trailers.to_owned(), rest.to_owned())), "{body:?}");
    }

    fn check_refused(body: impl AsRef<[u8]>, expected: BadBody) {
        let body = body.as_ref();
        assert_eq!(decode(body), Err(expected), "{}", body.escape_ascii());
    }

    #[test]
    fn chunks_become_one_run_of_data() {
        check("0\r\n\r\n", "", "\r\n", "");
        check("3\r\nabc\r\n0\r\n\r\n", "abc", "\r\n", "");
        check("3\r\nabc\r\n1\r\nd\r\n00002\r\n\r\n\r\n0\r\n\r\n", "abcd\r\n", "\r\n", "");
        check("A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n", "01234567890123456789", "\r\n", "");
    }

    #[test]
    fn what_follows_the_body_is_not_touched() {
        check("1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n", "a", "\r\n", "GET / HTTP/1.1\r\n");
        check("0\r\nA: b\r\n\r\n\r\n", "", "A: b\r\n\r\n", "\r\n");
    }

    #[test]
    fn a_size_is_one_to_sixteen_hexadecimal_digits() {
        for size in [
            "",
            "+1",
            "-1",
            "0x1",
            "1x",
            "g",
            " 1",
            "\t1",
            "1.0",
            "_1",
            "00000000000000001",
            "1\0",
            "\u{ff11}",
        ] {
            check_refused(format!("{size}\r\na\r\n0\r\n\r\n"), BadBody::BadChunkSize);
        }
        check("0000000000000001\r\na\r\n0\r\n\r\n", "a", "\r\n", "");
        check_refused("ffffffffffffffff\r\na", BadBody::Truncated);
        check_refused("fffffffffffffffff\r\na", BadBody::BadChunkSize);
        // An empty size line was the last chunk for another codec, and what followed it a request.
        check_refused("\r\nGET /smug HTTP/1.1\r\n\r\n", BadBody::BadChunkSize);
    }

    #[test]
    fn lines_end_with_crlf_only() {
        for body in [
            "1\na\r\n0\r\n\r\n",
            "1\ra\r\n0\r\n\r\n",
            "1\r\r\na\r\n0\r\n\r\n",
            "1\r\na\r\n0\n\r\n",
            "1\n\ra\r\n",
        ] {
            check_refused(body, BadBody::BadChunkSize);
        }
        for body in [
            "1\r\na\n0\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            "1\r\na0\r\n\r\n",
            "1\r\na\r0\r\n\r\n",
            "1\r\na\r\r\n",
        ] {
            check_refused(body, BadBody::BadChunkEnd);
        }
        for body in ["0\r\n\n", "0\r\nA: b\n\r\n", "0\r\nA: b\r\n\n"] {
            check_refused(body, BadBody::BadTrailers);
        }
    }

    #[test]
    fn extensions_are_checked_and_dropped() {
        for extension in [
            ";a",
            ";a=b",
            ";a=\"b;\\\"c\r\"",
            " ; a = b ;c\t=\"\";d",
            ";a=b;c=d",
            ";a;b",
            ";a ;b",
            ";a= b",
            ";a=\"x\" ;b",
        ] {
            let extension = extension.replace('\r', "");
            check(&format!("1{extension}\r\na\r\n0{extension}\r\n\r\n"), "a", "\r\n", "");
        }
        for extension in [
            ";",
            " ",
            "\t",
            ";;a",
            ";a=",
            ";a=;",
            ";=b",
            "; ",
            " a",
            ";a b",
            ";a=b c",
            ";a=\"b",
            ";a=\"b\"c",
            ";a=b\"c\"",
            ";a\0",
            ";a=\"\0\"",
            ";a=\"\n\"",
            ";a=b ",
            ";a ",
            ";a\n",
            ";a=\"b\\\r\n\"",
            ";a(",
            ",a",
            ";a=b,c",
        ] {
            let body = format!("1{extension}\r\na\r\n0\r\n\r\n");
            let expected =
                if extension.starts_with(',') { BadBody::BadChunkSize } else { BadBody::BadExtension };
            check_refused(body, expected);
        }
    }

    #[test]
    fn extensions_are_bounded_per_chunk_and_by_the_data_they_come_with() {
        let extension = |len: usize| format!(";{}", "x".repeat(len - 2));
        check(&format!("1{}\r\na\r\n0\r\n\r\n", extension(256)), "a", "\r\n", "");
        check_refused(format!("1{}\r\na\r\n", extension(257)), BadBody::ExtensionsTooLong);

        let chunk = format!("1{}\r\na\r\n", extension(255));
        check_refused(chunk.repeat(70), BadBody::ExtensionsTooLong);
        let signed = format!("200{}\r\n{}\r\n", extension(255), "x".repeat(512));
        check(&(signed.repeat(70) + "0\r\n\r\n"), &"x".repeat(512 * 70), "\r\n", "");
    }

    // RFC 9112 §7.1.2

    #[test]
    fn trailers_come_whole() {
        check("0\r\nA: b\r\nC: d\r\n\r\n", "", "A: b\r\nC: d\r\n\r\n", "");

        let mut decoder = Decoder::new(BodyLength::Chunked);
        let mut bytes = *b"1\r\na\r\n0\r\nA: b\r\n\r\n";
        let part = decoder.decode(&mut bytes[..12]);
        assert_eq!(part, Ok(Decoded { data: 3..4, consumed: 9, finished: false, trailers: None }));
        let rest = decoder.decode(&mut bytes[9..]);
        assert_eq!(rest, Ok(Decoded { data: 0..0, consumed: 8, finished: true, trailers: Some(0..8) }));
    }

    #[test]
    fn trailers_are_fields() {
        for trailers in
            ["GET / HTTP/1.1\r\nHost: a", "A : b", " A: b", "A: b\r\n c", "A", ": b", "A: \0", "A: b\rc"]
        {
            check_refused(format!("0\r\n{trailers}\r\n\r\n"), BadBody::BadTrailers);
        }
    }

    #[test]
    fn trailers_are_bounded() {
        check_refused(format!("0\r\nA: {}\r\n\r\n", "x".repeat(TRAILER_BYTES_MAX)), BadBody::TrailersTooLong);
        check_refused(format!("0\r\nA: {}", "x".repeat(TRAILER_BYTES_MAX)), BadBody::TrailersTooLong);
        check_refused(format!("0\r\n{}\r\n", "A: b\r\n".repeat(TRAILERS_MAX + 1)), BadBody::TrailersTooLong);
        let most = "A: b\r\n".repeat(TRAILERS_MAX) + "\r\n";
        check(&format!("0\r\n{most}"), "", &most, "");
    }

    #[test]
    fn a_body_that_breaks_off_is_truncated() {
        let body = "3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n";
        for end in 0..body.len() {
            check_refused(&body[..end], BadBody::Truncated);
        }
    }

    #[test]
    fn a_decoder_that_has_failed_fails_again() {
        let mut decoder = Decoder::new(BodyLength::Chunked);
        assert_eq!(decoder.decode(&mut b"x".to_vec()), Err(BadBody::BadChunkSize));
        assert_eq!(decoder.decode(&mut b"0\r\n\r\n".to_vec()), Err(BadBody::BadChunkSize));
        assert_eq!(decoder.end_of_stream(), Err(BadBody::Truncated));
        assert!(!decoder.is_finished());
    }

    fn encode(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            let mut header = [0; CHUNK_HEADER_MAX];
            let len = chunk_header(piece.len(), &mut header);
            out.extend_from_slice(&header[CHUNK_HEADER_MAX - len..]);
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(LAST_CHUNK);
        out
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding_however_it_is_cut(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in proptest::collection::vec(1..30usize, 1..40),
        ) {
            let encoded = encode(&pieces);
            invariants::chunked(&encoded);

            let (mut decoder, mut data, mut rest) = (Decoder::new(BodyLength::Chunked), Vec::new(), &encoded[..]);
            let mut kept = Vec::new();
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                rest = after;
                kept.extend_from_slice(piece);
                let decoded = decoder.decode(&mut kept).unwrap();
                data.extend_from_slice(&kept[decoded.data]);
                kept.drain(..decoded.consumed);
                if decoded.finished {
                    break;
                }
            }
            prop_assert_eq!(data, pieces.concat());
            prop_assert!(rest.is_empty() && kept.is_empty());
        }

        #[test]
        fn any_text_is_a_body_or_refused(body in "([0-9a-fA-F]{1,2}|\r\n|\r|\n|;a|=b|\"|A: b| |\t|x|0\r\n){0,16}") {
            invariants::chunked(body.as_bytes());
        }
    }
}
