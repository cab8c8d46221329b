//! Byte buffers that can be lent to the kernel, and a shard's stock of them.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
};

use super::pages;

/// Bytes received or to be sent: `bytes[start..]` are unread.
///
/// A buffer keeps [`Buffer::HEADROOM`] bytes free before what it reads, so that a rewritten head or a chunk header can be put
/// directly before a body and both leave in one send without the body being copied.
#[derive(Default)]
pub struct Buffer {
    pub(super) bytes: Vec<u8>,
    start: usize,
    lent: Option<Lent>,
}

/// Counts a buffer as lent, until it is given back or dropped.
struct Lent {
    all: Rc<Cell<u64>>,
    bytes: u64,
}

impl Lent {
    fn new(all: &Rc<Cell<u64>>, bytes: u64) -> Self {
        all.set(all.get() + bytes);
        Self { all: Rc::clone(all), bytes }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}

impl Buffer {
    /// Bytes kept free behind what is read, for the line end that a chunk needs.
    pub const TAIL: usize = 16;

    /// Free bytes before the first byte that is read into an empty buffer.
    pub const HEADROOM: usize = 1024;

    pub fn with_capacity(capacity: usize) -> Self {
        Self::of(Vec::with_capacity(Self::HEADROOM + capacity + Self::TAIL))
    }

    fn of(bytes: Vec<u8>) -> Self {
        let mut buffer = Self { bytes, start: 0, lent: None };
        buffer.clear();
        buffer
    }

    /// The unread bytes.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the unread bytes begin.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Marks `count` unread bytes as read. Their place becomes headroom.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "only unread bytes can be consumed");
        self.start += count;
        if self.start == self.bytes.len() {
            self.clear();
        }
    }

    /// Drops what is unread; the headroom is restored.
    pub fn clear(&mut self) {
        if self.bytes.len() >= Self::HEADROOM {
            self.bytes.truncate(Self::HEADROOM);
        } else if self.bytes.capacity() >= Self::HEADROOM {
            // Once in a buffer's life: what lies in the headroom afterwards does not matter.
            self.bytes.resize(Self::HEADROOM, 0);
        }
        self.start = self.bytes.len();
    }

    /// Takes a range of the unread bytes out; those behind it move up.
    pub fn remove(&mut self, unread: Range<usize>) {
        self.bytes.drain(self.place(unread));
    }

    /// Drops all but the first `count` unread bytes.
    pub fn truncate(&mut self, count: usize) {
        self.bytes.truncate(self.start + count);
    }

    /// Room for reading behind the unread bytes, without growing.
    pub fn room(&self) -> usize {
        (self.bytes.capacity() - self.bytes.len()).saturating_sub(Self::TAIL)
    }

    /// Makes room for `count` more bytes: moves the unread bytes to the front, and grows only if that is not enough.
    pub fn reserve(&mut self, count: usize) {
        if self.room() >= count {
            return;
        }
        if self.start > Self::HEADROOM {
            self.bytes.drain(Self::HEADROOM..self.start);
            self.start = Self::HEADROOM;
        }
        if self.bytes.is_empty() {
            self.bytes.reserve_exact(Self::HEADROOM + count + Self::TAIL);
            self.clear();
        }
        if self.room() < count {
            self.bytes.reserve_exact(count + Self::TAIL);
        }
    }

    /// Makes room for `count` more bytes to be appended: a buffer from the stock, then a large one, then memory of its own.
    pub fn make_room(&mut self, count: usize, stock: &Buffers) {
        if self.bytes.capacity() - self.bytes.len() >= count {
            return;
        }
        if self.capacity() == 0 && count <= Buffers::SMALL {
            *self = stock.small();
        } else if self.capacity() < Buffers::LARGE && self.len() + count <= Buffers::LARGE {
            let mut large = stock.large();
            large.extend(self.unread());
            stock.give_back(std::mem::replace(self, large));
        }
    }

    /// Appends bytes behind the unread ones.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Puts `head` directly before the unread byte number `at`, over bytes that have been dealt with. Returns the place of
    /// `head` and the `len` bytes behind it as a range for [`super::Writer::write`], or `None` where the headroom is too small.
    pub fn put_before(&mut self, at: usize, head: &[u8], len: usize) -> Option<Range<usize>> {
        let end = self.start + at;
        let begin = end.checked_sub(head.len())?;
        self.bytes[begin..end].copy_from_slice(head);
        Some(begin..end + len)
    }

    /// Makes `prefix`, the unread bytes `data` and `suffix` lie behind each other. Everything behind `data` is lost. Returns the
    /// place of all three, or `None`, with nothing changed but `suffix` appended, where the headroom before `data` is too small
    /// for `prefix`.
    pub fn frame(&mut self, data: Range<usize>, prefix: &[u8], suffix: &[u8]) -> Option<Range<usize>> {
        self.bytes.truncate(self.start + data.end);
        self.bytes.extend_from_slice(suffix);
        self.put_before(data.start, prefix, data.len() + suffix.len())
    }

    /// The place of unread bytes as a range for [`super::Writer::write`].
    pub fn place(&self, unread: Range<usize>) -> Range<usize> {
        self.start + unread.start..self.start + unread.end
    }

    /// The bytes at a place.
    pub fn at(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }

    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The bytes, for appending to a message that is being written.
    pub fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Empties the buffer for writing a message from scratch: what is appended is unread.
    pub fn start_writing(&mut self) -> &mut Vec<u8> {
        self.clear();
        &mut self.bytes
    }

    fn owns_memory(&self) -> bool {
        self.bytes.capacity() != 0
    }
}

/// A shard's stock of buffers, so that a request allocates nothing once the shard is warm.
///
/// Bounded: what comes back over the bound loses its memory, and so does, bit by bit, what nobody needs any more
/// ([`Buffers::trim`]).
pub struct Buffers {
    small: Stock,
    large: Stock,
    lent: Rc<Cell<u64>>,
}

impl Buffers {
    /// For heads and small bodies.
    pub const SMALL: usize = 16 * 1024 - Buffer::HEADROOM - Buffer::TAIL;
    /// For bodies: one read takes what the socket holds.
    pub const LARGE: usize = 256 * 1024 - Buffer::HEADROOM - Buffer::TAIL;
    const SMALL_BYTES: u64 = 16 * 1024;
    const LARGE_BYTES: u64 = 256 * 1024;
    const SMALL_KEPT: usize = 256;
    const LARGE_KEPT: usize = 64;
    /// Buffers kept without memory, as many as a burst of 65,536 connections leaves behind.
    const COLD_KEPT: usize = 64 * 1024;

    pub fn new() -> Self {
        Self { small: Stock::default(), large: Stock::default(), lent: Rc::default() }
    }

    pub fn small(&self) -> Buffer {
        let mut buffer = self.small.take().unwrap_or_else(|| Buffer::with_capacity(Self::SMALL));
        buffer.lent = Some(Lent::new(&self.lent, Self::SMALL_BYTES));
        buffer
    }

    pub fn large(&self) -> Buffer {
        let mut buffer = self.large.take().unwrap_or_else(|| Buffer::with_capacity(Self::LARGE));
        buffer.lent = Some(Lent::new(&self.lent, Self::LARGE_BYTES));
        buffer
    }

    /// Takes a buffer back. What it held is gone.
    pub fn give_back(&self, mut buffer: Buffer) {
        buffer.lent = None;
        if !buffer.owns_memory() {
            return;
        }
        buffer.clear();
        let capacity = buffer.capacity();
        let (stock, kept) = if capacity == Self::SMALL + Buffer::HEADROOM + Buffer::TAIL {
            (&self.small, Self::SMALL_KEPT)
        } else if capacity == Self::LARGE + Buffer::HEADROOM + Buffer::TAIL {
            (&self.large, Self::LARGE_KEPT)
        } else {
            return; // It grew for one unusual message.
        };
        if stock.buffers.borrow().len() < kept {
            stock.buffers.borrow_mut().push(buffer);
        } else {
            stock.cool(buffer);
        }
    }

    /// Lets go of half of the buffers that were not needed since the last call. Called about once a second, it frees what a burst
    /// left behind within some seconds, and of nothing that is in use every second.
    pub fn trim(&self) {
        self.small.trim();
        self.large.trim();
    }

    /// Bytes of the buffers in stock.
    pub fn stock_bytes(&self) -> u64 {
        let (small, large) = self.in_stock();
        small as u64 * Self::SMALL_BYTES + large as u64 * Self::LARGE_BYTES
    }

    /// Bytes of the buffers lent now, as they were when they were lent.
    pub fn lent_bytes(&self) -> u64 {
        self.lent.get()
    }

    /// How many buffers are in stock: (small, large).
    pub fn in_stock(&self) -> (usize, usize) {
        (self.small.buffers.borrow().len(), self.large.buffers.borrow().len())
    }
}

/// Buffers of one size.
#[derive(Default)]
struct Stock {
    buffers: RefCell<Vec<Buffer>>,
    /// Those without memory: address space that the allocator need not be asked for. It would put its list of free blocks into
    /// them, a page of 4 KiB for each.
    cold: RefCell<Vec<Vec<u8>>>,
    /// The fewest there were since the last [`Stock::trim`].
    fewest: Cell<usize>,
}

impl Stock {
    fn take(&self) -> Option<Buffer> {
        let mut buffers = self.buffers.borrow_mut();
        let buffer = buffers.pop();
        self.fewest.set(self.fewest.get().min(buffers.len()));
        buffer.or_else(|| Some(Buffer::of(self.cold.borrow_mut().pop()?)))
    }

    /// Lets go of a buffer's memory.
    fn cool(&self, buffer: Buffer) {
        let mut bytes = buffer.bytes;
        pages::empty(&mut bytes);
        let mut cold = self.cold.borrow_mut();
        if cold.len() < Buffers::COLD_KEPT {
            cold.push(bytes);
        }
    }

    fn trim(&self) {
        let mut buffers = self.buffers.borrow_mut();
        let left = buffers.len() - self.fewest.get().div_ceil(2);
        buffers.drain(left..).for_each(|buffer| self.cool(buffer));
        self.fewest.set(left);
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_goes_directly_before_a_body() {
        let mut buffer = Buffer::with_capacity(100);
        buffer.extend(b"old head|body");
        let place = buffer.put_before(9, b"a much longer new head|", 4).expect("there is headroom");
        assert_eq!(buffer.at(place), b"a much longer new head|body");
    }

    #[test]
    fn a_head_longer_than_the_headroom_is_refused() {
        let mut buffer = Buffer::with_capacity(100);
        buffer.extend(b"body");
        assert_eq!(buffer.put_before(0, &[b'x'; Buffer::HEADROOM + 1], 4), None);
        assert_eq!(buffer.unread(), b"body");
    }

    #[test]
    fn room_is_made_without_losing_bytes() {
        let mut buffer = Buffer::with_capacity(16);
        buffer.extend(b"0123456789");
        buffer.consume(6);
        buffer.reserve(100);
        assert_eq!(buffer.unread(), b"6789");
        assert!(buffer.room() >= 100);
    }

    #[test]
    fn reading_everything_restores_the_headroom() {
        let mut buffer = Buffer::with_capacity(16);
        buffer.extend(b"0123456789");
        buffer.consume(10);
        assert_eq!((buffer.start(), buffer.room() >= 16), (Buffer::HEADROOM, true));
    }

    #[test]
    fn an_empty_buffer_without_memory_can_grow() {
        let mut buffer = Buffer::default();
        buffer.reserve(10);
        buffer.extend(b"x");
        assert_eq!(buffer.unread(), b"x");
    }

    #[test]
    fn a_buffer_counts_as_lent_until_it_is_given_back_or_dropped() {
        let stock = Buffers::new();
        let (small, mut large) = (stock.small(), stock.large());
        assert_eq!(stock.lent_bytes(), (16 + 256) * 1024);
        stock.give_back(small);
        let moved = std::mem::take(&mut large);
        stock.give_back(large);
        assert_eq!(stock.lent_bytes(), 256 * 1024);
        drop(moved);
        assert_eq!((stock.lent_bytes(), stock.in_stock()), (0, (1, 0)));
    }

    #[test]
    fn buffers_that_nobody_needs_are_freed_bit_by_bit() {
        let stock = Buffers::new();
        let lent: Vec<_> = (0..100).map(|_| stock.small()).collect();
        lent.into_iter().for_each(|buffer| stock.give_back(buffer));
        let mut left = Vec::new();
        for _ in 0..10 {
            // Four of them are in use all the time.
            let lent: Vec<_> = (0..4).map(|_| stock.small()).collect();
            lent.into_iter().for_each(|buffer| stock.give_back(buffer));
            stock.trim();
            left.push(stock.in_stock().0);
        }
        assert_eq!(left, [100, 52, 28, 16, 10, 7, 5, 4, 4, 4]);
    }

    #[test]
    fn a_burst_leaves_no_memory_behind_and_its_buffers_can_be_used_again() {
        let stock = Buffers::new();
        let many = Buffers::SMALL_KEPT + 10;
        for _ in 0..2 {
            let mut lent: Vec<_> = (0..many).map(|_| stock.small()).collect();
            for buffer in &mut lent {
                assert_eq!((buffer.start(), buffer.room()), (Buffer::HEADROOM, Buffers::SMALL));
                buffer.extend(&[7; 5000]);
            }
            lent.into_iter().for_each(|buffer| stock.give_back(buffer));
            assert_eq!((stock.in_stock().0, stock.small.cold.borrow().len()), (Buffers::SMALL_KEPT, 10));
        }
    }

    #[test]
    fn only_buffers_of_a_usual_size_are_kept() {
        let stock = Buffers::new();
        stock.give_back(stock.small());
        stock.give_back(Buffer::with_capacity(77));
        stock.give_back(Buffer::default());
        assert_eq!(stock.in_stock(), (1, 0));
    }
}
