//! HTTP as bytes and values: no I/O, no clock, no allocation per message. HTTP/1.1 is here, HTTP/2 in [`h2`].
//!
//! A head is parsed in place: what a [`RequestHead`] or a [`Field`] names is a [`Span`] of the buffer it came from.
//! `httparse` reads the syntax; what it lets pass and a gateway must not (bare LF, a second Host, a doubtful length)
//! is refused here. [`framing`] alone decides where a body ends, [`body`] finds that end in the bytes.

pub mod body;
mod chunked;
pub mod date;
mod fields;
pub mod framing;
pub mod grpc;
pub mod h2;
pub mod head;
pub mod headers;
pub mod id;
#[cfg(any(test, fuzzing))]
pub mod invariants;
pub mod known;
mod names;
pub mod path;
mod proxy;
pub mod reply;
mod request;
mod response;
pub mod rewrite;
mod scan;
mod target;
mod trailers;

pub use body::{BadBody, CHUNK_HEADER_MAX, Decoded, Decoder, LAST_CHUNK, chunk_header};
pub use chunked::TRAILER_BYTES_MAX;
pub use framing::{BadFraming, BodyLength};
pub use head::{BadHead, Field, Method, RequestHead, ResponseHead, Rules, Span, Target, Version};
pub use known::{Known, classify};
pub use names::FieldNames;
pub use path::{BadPath, Normal, normalise};
pub use proxy::{Announced, BadAnnouncement, parse_announcement};
pub use request::parse_request;
pub use response::parse_response;
pub use target::authority_is_valid;
pub use trailers::parse_trailers;
