//! How it fits together.
//!
//! ```text
//!                  one core = one shard; shards share nothing they write
//!  SERVE   main → gateway → shard → listener → connection → serve      failure     control flow
//!  TALK    upstream     control (a thread of its own)                              I/O with the other side
//!  DECIDE  config → snapshot   route   balance                                     values in, decision out
//!  SPEAK   http   template                                                         bytes in, values out
//!  GROUND  runtime (monoio lives here)   observe   clock   limits
//! ```
//!
//! A module names its own layer and those below. DECIDE and SPEAK do no I/O, read no clock, draw no random number and log nothing:
//! what they need comes in. `tests/tidy.rs` checks both.
//!
//! # The life of a request
//!
//! 1. `listener` accepts on the shard's own socket (`SO_REUSEPORT`: the kernel spreads connections). If another shard has clearly fewer
//!    ([`decisions`](super::decisions), 26) it gets the connection; else a task is started for it. Without room it answers 503 and closes.
//! 2. `connection::h1` waits for a head. `http::request` parses it in place: what it names are spans of the read buffer. A head that is
//!    in doubt is refused there, before anything else looks at it; `http::framing` alone decides where the body ends.
//! 3. [`serve::request`](crate::serve::request) is the request from top to bottom. It holds one snapshot to the end. The path is
//!    normalised (`http::path`), `route` finds the most specific route, and the route says what happens: a fixed reply, a redirect, a service.
//! 4. A small body is gathered behind its head, so that it can be sent twice; a larger one is passed on as it arrives, by a task of
//!    its own (`upstream::upload`), so that the response may come first.
//! 5. `upstream::send` asks `balance` for an endpoint, takes a kept connection from the shard's pool or opens one, and tries again where
//!    that is safe. `upstream::exchange` writes the head anew (`http::rewrite`) with the body behind it, in one send, and reads until
//!    the response head is complete.
//! 6. `connection::turn` decides what the reply head says; `upstream::relay` puts it directly before the first bytes of the body, in the buffer they
//!    were read into, and sends both at once. After that it passes on one buffer at a time: a slow client slows the service down.
//! 7. The upstream connection goes back to its pool, with the read for its next response already under way. `connection` counts and logs
//!    the request once. The client's connection waits for its next head.
//!
//! Whatever fails on the way is a [`Failure`](crate::failure::Failure); `failure` alone turns it into a status and a word for the log.
//!
//! # Threads
//!
//! * `shard-N`: one monoio runtime each, pinned to a core. No lock, no blocking call, no write that another thread sees, but for the failures
//!   of endpoints and the number of its connections ([`decisions`](super::decisions), 7 and 26).
//! * `control`: tokio. Reloads, watched files, DNS, signals, the admin port; retired snapshots are dropped here and not on a shard. What blocks
//!   (files, the resolver, building a snapshot) goes to a small pool.
//! * the log thread: drains a ring of access records per shard and one queue of events, writes in large blocks.
//!
//! Between them: the snapshot (one pointer that control stores and shards load), a bounded mailbox to each shard (report, new
//! snapshot, drain, stop, answers), the rings, and bounded queues of questions (`runtime::ask`): a request may wait for an answer, with
//! a deadline; the shard never does.
//!
//! # The snapshot
//!
//! `config` turns text into checked values, or into all mistakes at once. `snapshot::build` resolves every name to a place: routes to numbers,
//! services to slots, templates to pieces. What an endpoint or a service was before it keeps (its slot, its pool, its health), as long as it
//! says the same. A shard reads the cell through a cache and clones an `Rc` for each request; a reload is one store. After that control
//! nudges the shards, so that an idle one lets go of the old snapshot, and drops it when it is the last to hold it.
//!
//! # Buffers
//!
//! A shard has a stock of buffers of 16 KiB (heads, small bodies) and 256 KiB (bodies that need more than one read). Each keeps 1 KiB free
//! before what is read and 16 bytes behind: room for a rewritten head or a chunk's size before a body, and its line end behind. So what
//! was read is what is sent, without a copy.
//!
//! A connection that carries a request holds one small buffer; while a response is passed on, that and the upstream's. After one
//! second of silence a client's buffer goes back to the stock, the box with the state of serving is freed, and the connection waits with a read of
//! 8 bytes. A kept upstream connection
//! holds the buffer of the read that is under way for it. Nothing is allocated per request on the plain path once a shard is warm.
//!
//! # Deadlines
//!
//! Each stream has a slot with a deadline for reading and one for writing; arming one is two stores. Slots wait in a wheel of 10 ms steps
//! (`runtime::deadline`), at or before their earliest deadline, and are looked at every 4 s at least, however often their deadlines moved.
//! A deadline that passes shuts its direction of the socket down. The kernel completes the pending operation, the buffer comes
//! home with every byte in it, and the other direction can still carry a 408.
//!
//! No read is ever dropped while it is under way, except with its connection.
//!
//! # Ending
//!
//! QUIT: the kernel drops whoever asks for a new connection from then on, those who wait are accepted, and half a second later the
//! listeners are closed. Connections between requests get 2 s for one more, replies from then on say `Connection: close`, and the
//! process waits `drain` for the rest. USR2: `gateway::upgrade` starts a new process and gives it the sockets; when that says that it serves, this
//! one leaves them as they are and goes on as after QUIT. TERM: every stream is shut down; the runtime ends when the kernel has given every buffer back.
