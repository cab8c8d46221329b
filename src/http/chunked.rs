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
