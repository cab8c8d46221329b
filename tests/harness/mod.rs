//! What a conversation in a test needs: a gateway, a raw client, a scripted upstream, real programs.
//!
//! Everything listens on a port the kernel chose, waits with a deadline, and ends with the value that holds it.

mod client;
mod directory;
mod gateway;
pub mod http2;
pub mod issuer;
mod load;
mod message;
mod names;
mod postgres;
mod process;
pub mod program;
pub mod rabbit;
mod tls;
mod upstream;
mod wait;

pub use client::{Client, ReplyError};
pub use directory::Directory;
pub use gateway::{Gateway, driver};
pub use load::{Load, Over};
pub use message::{Reply, Request};
pub use names::Names;
pub use postgres::Postgres;
pub use process::Coregate;
pub use program::{Nginx, Wrk, reserve};
pub use tls::{Authority, TlsClient};
pub use upstream::{Peer, Upstream, ok};
pub use wait::{PATIENCE, now, now_unix, pause, wait_until};
