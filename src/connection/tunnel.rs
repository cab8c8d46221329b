//! Two byte streams joined: what one side sends the other gets, until both have finished (RFC 9110 §7.8).

use std::{ops::Range, rc::Rc, time::Duration};

use super::Client;
use crate::{
    observe::Why,
    runtime::{Buffer, Gate, IoFault, Timers, spawn},
    shard::Shard,
    upstream::Connection,
    wire::{Handle, Inbound, Outbound},
};

/// What went through a tunnel.
pub(super) struct Moved {
    pub why: Why,
    pub to_client: u64,
    pub to_service: u64,
}

/// Sends the reply head and joins the client and the service until both have finished, one of them breaks, or nothing moves for
/// `idle`. `head_len` bytes at the start of the client's buffer were the request.
pub(super) async fn run(
    client: &mut Client,
    head_len: usize,
    head: &[u8],
    response: Box<Connection>,
    idle: Duration,
    shard: &Rc<Shard>,
) -> Moved {
    let (service_reader, service_writer, received, _lease) = response.into_tunnel();
    let mut first = received;
    let behind_head = first.len();
    let out = {
        let mut out = head.to_vec();
        out.extend_from_slice(first.unread());
        out
    };
    first.clear();
    first.extend(&out);
    drop(out);
    let Some(client_reader) = client.reader.take() else {
        return Moved { why: Why::ClientClosed, to_client: 0, to_service: 0 };
    };
    if client.writer.write_all(&mut first, idle).await.is_err() {
        return Moved { why: Why::ClientClosed, to_client: 0, to_service: 0 };
    }

    let mut to_service = shard.buffers.small();
    to_service.extend(&client.buffer.unread()[head_len..]);
    let (client_handle, service_handle) = (client_reader.handle(), service_reader.handle());
    let upward = Direction {
        reader: client_reader,
        buffer: to_service,
        other: service_handle.clone(),
        timers: Rc::clone(&shard.timers),
        idle,
    };
    let downward = Direction {
        reader: service_reader,
        buffer: first,
        other: client_handle.clone(),
        timers: Rc::clone(&shard.timers),
        idle,
    };

    let gate = Gate::default();
    let (done, broken, buffers) = (gate.clone(), gate.clone(), Rc::clone(&shard.buffers));
    let panicked = [client_handle, service_handle];
    spawn(
        async move {
            let mut writer = service_writer;
            let (bytes, why, buffer) = upward.run(&mut writer).await;
            buffers.give_back(buffer);
            done.put((bytes, why));
        },
        move |_| {
            panicked.iter().for_each(Handle::end);
            broken.put((0, Why::Panic));
        },
    );
    let (to_client, why_down, buffer) = downward.run(&mut client.writer).await;
    shard.buffers.give_back(buffer);
    let (to_service, why_up) = gate.take().await;
    let why = if why_down == Why::Ok { why_up } else { why_down };
    Moved { why, to_client: to_client + behind_head as u64, to_service }
}

struct Direction {
    reader: Inbound,
    buffer: Buffer,
    /// The stream that is written to: moving bytes to it counts as its activity too.
    other: Handle,
    timers: Rc<Timers>,
    idle: Duration,
}

impl Direction {
    /// Moves bytes until the reading side has finished, then finishes the writing side.
    async fn run(mut self, writer: &mut Outbound) -> (u64, Why, Buffer) {
        let mut bytes = 0;
        let this = self.reader.handle();
        let why = loop {
            if !self.buffer.is_empty() {
                bytes += self.buffer.len() as u64;
                let place: Range<usize> = self.buffer.place(0..self.buffer.len());
                if writer.write(&mut self.buffer, place, self.idle).await.is_err() {
                    this.end();
                    break Why::ClientClosed;
                }
                self.buffer.clear();
            }
            self.buffer.reserve(4096);
            let until = self.timers.clock.after(self.idle);
            match self.reader.read(&mut self.buffer, until).await {
                Ok(0) => {
                    // Half-closed: the other direction may go on.
                    writer.finish().await;
                    break Why::Ok;
                }
                Ok(_) => {
                    self.timers.clock.now_us();
                    self.other.expect_until(self.timers.clock.after(self.idle), &self.timers);
                }
                Err(IoFault::TooSlow) => {
                    self.other.end();
                    break Why::Ok;
                }
                Err(IoFault::Broken(_)) => {
                    self.other.end();
                    break Why::ClientClosed;
                }
            }
        };
        (bytes, why, self.buffer)
    }
}
