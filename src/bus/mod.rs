//! The shard's side of AMQP: a request becomes a message, a reply becomes a response. The connections are the bus thread's
//! ([`control::bus`](crate::control::bus)).
//!
//! What travels (the table of the README):
//!
//! | HTTP | AMQP |
//! |---|---|
//! | method, path, query | headers `method`, `path`, `query` |
//! | headers that the service lists | headers of the same name, in lower case |
//! | `X-Forwarded-For`, `-Proto`, `-Host` | headers of the same name |
//! | `X-Request-Id` | property `message-id` |
//! | `Content-Type`, `Content-Encoding` | the properties of that name |
//! | body | body, byte for byte |
//! | time left of the route's `timeout` | property `expiration` |
//!
//! and back: body, `content-type`, `content-encoding`; the header `status` is the status (200 without it), a header `error` is a
//! failure, and the other headers that HTTP can carry become fields.

mod message;
mod reply;

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc::Sender;

pub use self::{
    message::{Facts, message},
    reply::{Properties, Value, reply},
};
use crate::{
    http::reply::Made,
    runtime::{Question, Unanswered, Waiting},
    snapshot::AmqpService,
};

/// A short string of AMQP (0-9-1 specification §4.2.5.3): what an exchange or a routing key may have.
pub const NAME_BYTES_MAX: usize = 255;

/// Where a shard's messages for the bus thread go.
pub type Postbox = Sender<Question<Call, Result<Made, Fault>>>;

/// A message to be published, and how long its answer is wanted.
#[derive(Debug)]
pub struct Call {
    pub queue: Arc<AmqpService>,
    pub exchange: String,
    pub key: String,
    pub message: Message,
    /// How long the answer is waited for.
    pub patience: Duration,
}

#[derive(Debug, Default)]
pub struct Message {
    pub headers: Vec<(String, Vec<u8>)>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub id: String,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No broker can be reached, or none that takes messages now. The message was not sent.
    Down,
    /// Too many calls are under way. The message was not sent.
    Busy,
    /// No queue is bound where the message went; the broker gave it back.
    Unroutable,
    /// The broker did not take the message.
    Refused,
    /// The connection, or the channel, ended with the call under way: nobody knows what became of it.
    Lost,
    /// No answer in time.
    Late,
    /// The reply is larger than `max_reply`, or its `status` is none.
    BadReply,
    /// The worker says that it failed.
    Failed,
}

/// Publishes a message and waits for what comes back, at most `call.patience`.
pub async fn call(postbox: &Postbox, call: Call, waiting: &Waiting) -> Result<Made, Fault> {
    let patience = call.patience;
    match waiting.ask(postbox, call, patience).await {
        Ok(answer) => answer,
        Err(Unanswered::Busy) => Err(Fault::Busy),
        Err(Unanswered::Late) => Err(Fault::Late),
        Err(Unanswered::Lost) => Err(Fault::Down),
    }
}
