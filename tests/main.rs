//! The one test binary: the gateway in process on port 0, raw bytes on either side of it.
//!
//! `COREGATE_TEST_DRIVER` (`io_uring`, `epoll` or `auto`) chooses what the gateway runs on; `tests/run` runs all
//! of it on both.
#![allow(unreachable_pub, reason = "one binary: `pub` says what a module offers to the others")]

mod features;
mod harness;
mod protocol;
mod tidy;
