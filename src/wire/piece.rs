//! A part of a body, framed for where it goes.

use std::{ops::Range, time::Duration};

use super::Outbound;
use crate::{
    http::{CHUNK_HEADER_MAX, Field, LAST_CHUNK, chunk_header, rewrite},
    runtime::{Buffer, IoFault},
};

/// A part of a body, as it lies in the buffer it was read into.
pub struct Piece<'a> {
    /// Everything in it but `data` is lost when the piece is sent.
    pub buffer: &'a mut Buffer,
    pub data: Range<usize>,
    /// The body ends with it.
    pub is_last: bool,
    /// The trailer section's bytes and its fields, where there is one.
    pub trailers: Option<(&'a [u8], &'a [Field])>,
    /// A written head that waits for this piece.
    pub head: Option<&'a mut Buffer>,
    /// The body goes in chunks, where the protocol has them.
    pub is_chunked: bool,
}

impl Outbound {
    /// Sends a piece: with its head and its framing it leaves in one send, without being copied, where it fits.
    pub async fn pass(&mut self, piece: Piece<'_>, patience: Duration) -> Result<(), IoFault> {
        let Piece { buffer, data, is_last, trailers, head, is_chunked } = piece;
        let writer = match self {
            Self::Socket(writer) => writer,
            Self::Exchange(outgoing) => {
                let data = &buffer.unread()[data];
                return outgoing.pass(data, is_last, trailers, patience).await;
            }
        };
        let mut header = [0; CHUNK_HEADER_MAX];
        let mut prefix: &[u8] = b"";
        let mut suffix: &[u8] = b"";
        let mut trailing = Vec::new();
        if is_chunked {
            if !data.is_empty() {
                let len = chunk_header(data.len(), &mut header);
                prefix = &header[CHUNK_HEADER_MAX - len..];
                suffix = b"\r\n";
            }
            if is_last {
                suffix = match (trailers, data.is_empty()) {
                    (None, false) => b"\r\n0\r\n\r\n",
                    (None, true) => LAST_CHUNK,
                    (Some((section, fields)), _) => {
                        trailing.extend_from_slice(suffix);
                        trailing.extend_from_slice(b"0\r\n");
                        rewrite::write_trailers(&mut trailing, section, fields);
                        &trailing
                    }
                };
            }
        }
        let Some(head) = head else {
            let place = buffer.frame(data, prefix, suffix);
            let place = place.expect("a chunk header fits into the headroom of a buffer");
            return writer.write(buffer, place, patience).await;
        };
        if data.is_empty() && suffix.is_empty() {
            return writer.write_all(head, patience).await;
        }
        head.vec().extend_from_slice(prefix);
        let end = data.end + suffix.len();
        match buffer.frame(data.clone(), head.unread(), suffix) {
            Some(place) => writer.write(buffer, place, patience).await,
            None => {
                // An unusually long head goes alone.
                let body = buffer.place(data.start..end);
                writer.write_all(head, patience).await?;
                writer.write(buffer, body, patience).await
            }
        }
    }
}
