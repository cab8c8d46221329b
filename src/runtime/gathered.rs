//! A message that lies in several places and leaves without being joined.

use std::{io::IoSlice, ops::Range};

use monoio::buf::IoVecBuf;

use super::{Buffer, Buffers};

/// Slices lent to the kernel at once: Linux takes no more (`UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// Slices of buffers and texts, in the order in which they leave. It owns what they are of.
#[derive(Default)]
pub struct Gathered {
    holds: Vec<Held>,
    slices: Vec<Slice>,
    /// The first slice that has not left.
    next: usize,
    /// Bytes that have not left.
    left: usize,
}

/// What slices are of.
pub enum Held {
    Buffer(Buffer),
    Bytes(Vec<u8>),
}

#[derive(Clone, Copy)]
struct Slice {
    hold: usize,
    start: usize,
    end: usize,
}

impl Held {
    /// All bytes; of a buffer the unread ones.
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer.unread(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Gathered {
    /// Takes over what slices will be of, and returns its number.
    pub fn hold(&mut self, held: Held) -> usize {
        self.holds.push(held);
        self.holds.len() - 1
    }

    /// Appends a range of what is held under a number; nothing where it lies outside of it.
    pub fn push(&mut self, hold: usize, range: Range<usize>) {
        let is_there = self.holds.get(hold).is_some_and(|held| held.bytes().get(range.clone()).is_some());
        debug_assert!(is_there, "a slice of what is not there");
        if is_there && !range.is_empty() {
            self.left += range.len();
            self.slices.push(Slice { hold, start: range.start, end: range.end });
        }
    }

    /// Puts `head` before everything else.
    pub fn put_first(&mut self, head: Vec<u8>) {
        let end = head.len();
        let hold = self.hold(Held::Bytes(head));
        self.left += end;
        self.slices.insert(self.next, Slice { hold, start: 0, end });
    }

    /// Bytes that have not left.
    pub fn len(&self) -> usize {
        self.left
    }

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// What has not left.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.slices[self.next..].iter().map(|slice| {
            let bytes = self.holds.get(slice.hold).map(Held::bytes).unwrap_or_default();
            bytes.get(slice.start..slice.end).unwrap_or_default()
        })
    }

    /// Gives the buffers back to the stock.
    pub fn give_back(self, buffers: &Buffers) {
        for held in self.holds {
            if let Held::Buffer(buffer) = held {
                buffers.give_back(buffer);
            }
        }
    }

    /// Notes that `count` more bytes have left.
    pub fn advance(&mut self, count: usize) {
        let mut count = count.min(self.left);
        self.left -= count;
        while let Some(slice) = self.slices.get_mut(self.next).filter(|_| count > 0) {
            let taken = count.min(slice.end - slice.start);
            slice.start += taken;
            count -= taken;
            if slice.start == slice.end {
                self.next += 1;
            }
        }
    }
}

/// A message in the hands of the kernel.
pub(super) struct Lent {
    /// Point into `message`.
    slices: Vec<libc::iovec>,
    message: Gathered,
}

impl Lent {
    pub(super) fn new(message: Gathered, mut slices: Vec<libc::iovec>) -> Self {
        slices.clear();
        slices.extend(
            message.slices().take(SLICES_MAX).map(|slice| libc::iovec {
                iov_base: slice.as_ptr().cast_mut().cast(),
                iov_len: slice.len(),
            }),
        );
        Self { slices, message }
    }

    pub(super) fn into_inner(self) -> (Gathered, Vec<libc::iovec>) {
        (self.message, self.slices)
    }
}

#[expect(unsafe_code, reason = "monoio takes a gathered write from what promises to stay where it is")]
// JUSTIFICATION: joining the slices copies every byte of a document once more; 30 KiB cost 1 µs and a buffer to hold them.
// SAFETY: the pointers are to the heap memory of buffers and vectors that `message` owns: it stays where it is when `Lent` is moved, and
// nothing changes or frees it before `into_inner`, which ends the kernel's use. `slices` has exactly the entries that its length says.
unsafe impl IoVecBuf for Lent {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.slices.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.slices.len()
    }
}

/// The first slices of a message, about `bytes_max` bytes of them, for a writer that copies.
pub(super) fn first(message: &Gathered, bytes_max: usize) -> Vec<IoSlice<'_>> {
    let mut left = bytes_max;
    let some = message.slices().take(SLICES_MAX).map_while(|slice| {
        let taken = slice.len().min(left);
        left -= taken;
        (taken > 0).then(|| IoSlice::new(&slice[..taken]))
    });
    some.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Gathered {
        let mut buffer = Buffer::with_capacity(64);
        buffer.extend(b"head|body");
        buffer.consume(5);
        let mut message = Gathered::default();
        let body = message.hold(Held::Buffer(buffer));
        let text = message.hold(Held::Bytes(b"{}:".to_vec()));
        message.push(text, 0..1);
        message.push(body, 0..4);
        message.push(text, 2..2);
        message.push(body, 1..2);
        message.push(text, 1..2);
        message
    }

    fn joined(message: &Gathered) -> String {
        String::from_utf8(message.slices().flatten().copied().collect()).expect("ASCII")
    }

    #[test]
    fn slices_leave_in_their_order() {
        let mut message = message();
        assert_eq!((joined(&message).as_str(), message.len()), ("{bodyo}", 7));
        message.put_first(b"x".to_vec());
        assert_eq!((joined(&message).as_str(), message.len()), ("x{bodyo}", 8));
    }

    #[test]
    fn what_has_left_does_not_leave_again() {
        for count in 0..=7 {
            let mut message = message();
            message.advance(count);
            assert_eq!((joined(&message).as_str(), message.len()), (&"{bodyo}"[count..], 7 - count));
        }
        let mut message = message();
        message.advance(100);
        assert!(message.is_empty());
    }

    #[test]
    fn a_writer_that_copies_gets_as_much_as_it_wants() {
        let message = message();
        let texts = |bytes_max| -> Vec<String> {
            first(&message, bytes_max).iter().map(|slice| String::from_utf8_lossy(slice).into()).collect()
        };
        assert_eq!(texts(3), ["{", "bo"]);
        assert_eq!(texts(100), ["{", "body", "o", "}"]);
        assert!(texts(0).is_empty());
    }
}
