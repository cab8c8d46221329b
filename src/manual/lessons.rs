//! What was learnt, so that it is not learnt again.
//!
//! # About cost
//!
//! * **Clearing is not free.** A buffer that restored its headroom by writing zeroes paid a memset of 1 KiB at every `clear`, several
//!   times a request. Truncating to the headroom writes nothing: what lies there does not matter.
//! * **Moves are copies.** `async` functions that return large values by value copy them at each step: 32 moves of
//!   structs for each request. What lives as long as a connection belongs into its box.
//! * **Cancellation hashes.** monoio's `Canceller` keeps its operations in a `HashSet` with SipHash, so each cancellable read pays for an
//!   insertion and a removal. Only reads that may have to give their buffer back are cancellable; a wait that merely ends is a sleep beside the read.
//! * **A peek is a system call.** 0.2 µs on its own, 4 % of a proxied request under load. The read that will be needed anyway answers the same
//!   question.
//! * **Time is not free either.** Reading the clock costs about 40 ns. A request reads it three times; all else uses the last reading of the turn.
//! * **Timers by the thousand are bookkeeping.** A timer per operation was 0.3–1 µs a request in a prototype. A slot that is looked at every four
//!   seconds is nothing.
//! * **Large buffers for small messages cost cache.** A response is read into 16 KiB first; a connection whose last one did not fit begins with 256 KiB.
//! * **An idle connection pays for the largest state of its future.** Boxing what serving needs, and dropping the box at rest, took 3 KiB off each.
//!
//! # About monoio 0.2.4
//!
//! * A panic in a task ends its thread; a dropped `accept` leaks a descriptor; a task that wakes itself starves the ring with DEFER_TASKRUN; a dropped runtime
//!   frees buffers that the kernel may still fill. `runtime` names what it does about each.
//! * A future that is dropped while its read is under way may have taken bytes with it. Nothing here drops one, except with its connection.
//! * `writev` goes without MSG_NOSIGNAL; Rust's runtime ignores SIGPIPE, so that is no matter for us, but would be for a library.
//! * `TcpStream::connect` with a name blocks on the resolver and tries one address. Names are resolved by control.
//!
//! # About protocols
//!
//! * What comes between two requests of an upstream connection is not an answer. A pool that does not look gives it to the next client.
//! * An upstream that answers before it has read the body, and closes, is not wrong: what it said counts more than that it did not listen.
//! * A body that ends with its connection and one that broke off look alike to a client unless the connection is reset. So it is.
//! * A kept connection that the client closes, or that is closed by a drain, crosses the next request on its way: HTTP/1.1 clients must expect that
//!   (RFC 9112 §9.3.1), and those that do not see an error at a restart, here as with nginx.
//! * An endpoint that dies takes all its requests in flight with it at once. A retry budget that saves up only a few refuses most of them.
//!
//! # About configuration
//!
//! * Sockets bound with SO_REUSEPORT let a second gateway of the same user share the port without a word. A socket without it is bound first, as a probe.
//! * Watch folders, not files: editors, `mv` and Kubernetes replace the file, and a watch on it keeps looking at the old one. A refused file must
//!   be watched, too, or its correction is not seen.
//! * "Nothing changed" has to be decided by what things *mean*. Two routes that swap their services while the services swap their places are
//!   the same by number.
