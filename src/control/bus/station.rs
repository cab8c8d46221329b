//! One service's calls: published on a channel of its own, answered from its replies.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Asked,
    link::{Link, State},
};
use crate::{
    bus::{self, Call, Fault, Message, Properties, Value},
    config::ReplyBy,
    http::reply::Made,
    observe::event,
    runtime::AnswerTo,
    snapshot::AmqpService,
};

/// RabbitMQ's pseudo queue: replies come straight to the channel that published.
const DIRECT: &str = "amq.rabbitmq.reply-to";
/// Calls whose time is up are forgotten at the latest after this; who asked has stopped waiting on time by himself.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// A channel that was closed is not opened again in a tight loop.
const REOPEN_AFTER: Duration = Duration::from_millis(200);

pub(super) struct Station {
    queue: Arc<AmqpService>,
    link: Arc<Link>,
    waiting: HashMap<u64, Waiting>,
    next: u64,
}

struct Waiting {
    answer: AnswerTo<Result<Made, Fault>>,
    by: Instant,
}

/// What became of a message at the broker.
type Published = Pin<Box<dyn Future<Output = (u64, lapin::Result<Confirmation>)> + Send>>;

/// An open channel and where its replies come in.
struct Open {
    channel: Channel,
    replies: Option<Consumer>,
    reply_to: String,
    published: FuturesUnordered<Published>,
}

/// Why a channel is no longer used.
enum Ended {
    /// Nobody sends calls any more.
    Unused,
    Broken(String),
}

impl Station {
    pub(super) fn new(queue: Arc<AmqpService>, link: Arc<Link>) -> Self {
        Self { queue, link, waiting: HashMap::new(), next: 0 }
    }

    /// Serves calls until nobody can send any, and the last one is answered.
    pub(super) async fn run(mut self, mut calls: mpsc::Receiver<Asked>) {
        let mut state = self.link.state();
        loop {
            let now = state.borrow_and_update().clone();
            let connection = match now {
                State::Up(connection) | State::Blocked(connection) => connection,
                State::Down => {
                    tokio::select! {
                        changed = state.changed() => if changed.is_err() { return },
                        call = calls.recv() => match call {
                            Some(asked) => asked.answer.send(Err(Fault::Down)),
                            None => return,
                        },
                    }
                    continue;
                }
            };
            let ended = match self.open(&connection).await {
                Ok(open) => self.serve(open, &mut calls, &mut state).await,
                Err(error) => Ended::Broken(error.to_string()),
            };
            // Their messages may have arrived, or not.
            for (_, waiting) in self.waiting.drain() {
                waiting.answer.send(Err(Fault::Lost));
            }
            match ended {
                Ended::Unused => return,
                Ended::Broken(why) => {
                    event::warn("bus", format_args!("service {}: {why}", self.queue.config.name));
                    self.link.is_broken();
                    self.wait_to_reopen(&mut calls).await;
                }
            }
        }
    }

    async fn wait_to_reopen(&self, calls: &mut mpsc::Receiver<Asked>) {
        let mut pause = std::pin::pin!(tokio::time::sleep(REOPEN_AFTER));
        loop {
            tokio::select! {
                () = &mut pause => return,
                call = calls.recv() => match call {
                    Some(asked) => asked.answer.send(Err(Fault::Down)),
                    None => return,
                },
            }
        }
    }

    async fn open(&self, connection: &lapin::Connection) -> lapin::Result<Open> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let (replies, reply_to) = match self.queue.config.reply {
            ReplyBy::None => (None, String::new()),
            ReplyBy::Direct => {
                let consumer = channel.basic_consume(DIRECT.into(), "".into(), no_ack, FieldTable::default());
                (Some(consumer.await?), DIRECT.to_owned())
            }
            ReplyBy::Queue => {
                let options = QueueDeclareOptions {
                    exclusive: true,
                    auto_delete: true,
                    ..QueueDeclareOptions::default()
                };
                let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
                let name = queue.name().to_string();
                let consumer =
                    channel.basic_consume(name.as_str().into(), "".into(), no_ack, FieldTable::default());
                (Some(consumer.await?), name)
            }
        };
        Ok(Open { channel, replies, reply_to, published: FuturesUnordered::new() })
    }

    async fn serve(
        &mut self,
        mut open: Open,
        calls: &mut mpsc::Receiver<Asked>,
        state: &mut tokio::sync::watch::Receiver<State>,
    ) -> Ended {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut closing = false;
        loop {
            if closing && self.waiting.is_empty() {
                let _ = open.channel.close(200, "OK".into()).await;
                return Ended::Unused;
            }
            tokio::select! {
                // Replies first: they make room.
                biased;
                reply = next_reply(&mut open.replies) => match reply {
                    Some(Ok(delivery)) => self.replied(delivery),
                    Some(Err(error)) => return Ended::Broken(error.to_string()),
                    None => return Ended::Broken("its replies are cut off".to_owned()),
                },
                Some((id, result)) = open.published.next(), if !open.published.is_empty() => {
                    if let Err(why) = self.confirmed(id, result) {
                        return Ended::Broken(why);
                    }
                }
                call = calls.recv(), if !closing => match call {
                    Some(asked) => {
                        let blocked = matches!(&*state.borrow(), State::Blocked(_) | State::Down);
                        self.publish(&open, asked, blocked);
                    }
                    None => closing = true,
                },
                changed = state.changed() => {
                    if changed.is_err() || matches!(&*state.borrow_and_update(), State::Down) {
                        return Ended::Broken("the connection broke".to_owned());
                    }
                }
                _ = sweep.tick() => self.forget_late(),
            }
        }
    }

    fn publish(&mut self, open: &Open, asked: Asked, blocked: bool) {
        let Asked { asked: call, answer } = asked;
        if blocked {
            return answer.send(Err(Fault::Down));
        }
        if self.waiting.len() >= self.queue.config.in_flight {
            return answer.send(Err(Fault::Busy));
        }
        self.next += 1;
        let id = self.next;
        self.waiting.insert(id, Waiting { answer, by: Instant::now() + call.patience });
        let properties = self.properties(&call.message, id, &open.reply_to, call.patience);
        let Call { exchange, key, message, .. } = call;
        let channel = open.channel.clone();
        open.published.push(Box::pin(async move {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let body = message.body;
            let sent = channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await;
            match sent {
                Ok(confirm) => (id, confirm.await),
                Err(error) => (id, Err(error)),
            }
        }));
    }

    fn properties(&self, message: &Message, id: u64, reply_to: &str, left: Duration) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (name, value) in &message.headers {
            headers.insert(name.as_str().into(), AMQPValue::LongString(value.clone().into()));
        }
        let mut properties = BasicProperties::default()
            .with_headers(headers)
            .with_delivery_mode(if self.queue.config.persistent { 2 } else { 1 })
            .with_message_id(message.id.as_str().into());
        if let Some(content_type) = &message.content_type {
            properties = properties.with_content_type(content_type.as_str().into());
        }
        if let Some(coding) = &message.content_encoding {
            properties = properties.with_content_encoding(coding.as_str().into());
        }
        if self.queue.config.reply != ReplyBy::None {
            // A message nobody waits for any more is not worth a worker's time. At least 1: 0 would drop it unless somebody consumes.
            properties = properties
                .with_expiration(left.as_millis().max(1).to_string().into())
                .with_correlation_id(id.to_string().into())
                .with_reply_to(reply_to.into());
        }
        properties
    }

    /// What the broker said of a message. The error ends the channel.
    fn confirmed(&mut self, id: u64, result: lapin::Result<Confirmation>) -> Result<(), String> {
        let calls = self.queue.config.reply != ReplyBy::None;
        let outcome = match result {
            Ok(Confirmation::Ack(None) | Confirmation::NotRequested) if calls => return Ok(()),
            Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => {
                Ok(Made { status: 202, content_type: String::new(), fields: Vec::new(), body: Vec::new() })
            }
            Ok(Confirmation::Ack(Some(_))) => Err(Fault::Unroutable),
            Ok(Confirmation::Nack(_)) => Err(Fault::Refused),
            Err(error) => return Err(error.to_string()),
        };
        if let Some(waiting) = self.waiting.remove(&id) {
            waiting.answer.send(outcome);
        }
        Ok(())
    }

    fn replied(&mut self, delivery: Delivery) {
        let id = delivery.properties.correlation_id().as_ref().and_then(|id| id.as_str().parse().ok());
        // One that answers twice, late, or somebody else.
        let Some(waiting) = id.and_then(|id: u64| self.waiting.remove(&id)) else { return };
        let properties = Properties {
            content_type: delivery.properties.content_type().as_ref().map(ToString::to_string),
            content_encoding: delivery.properties.content_encoding().as_ref().map(ToString::to_string),
            headers: delivery.properties.headers().iter().flat_map(FieldTable::inner).map(header).collect(),
        };
        waiting.answer.send(bus::reply(properties, delivery.data, self.queue.config.max_reply));
    }

    fn forget_late(&mut self) {
        let now = Instant::now();
        self.waiting.retain(|_, waiting| waiting.by > now);
    }
}

async fn next_reply(replies: &mut Option<Consumer>) -> Option<lapin::Result<Delivery>> {
    match replies {
        Some(replies) => replies.next().await,
        None => std::future::pending().await,
    }
}

fn header((name, value): (&lapin::types::ShortString, &AMQPValue)) -> (String, Value) {
    let value = match value {
        AMQPValue::LongString(text) => Value::Text(text.as_bytes().to_vec()),
        AMQPValue::ShortString(text) => Value::Text(text.as_str().as_bytes().to_vec()),
        AMQPValue::ByteArray(bytes) => Value::Text(bytes.as_slice().to_vec()),
        AMQPValue::Boolean(value) => Value::Text(value.to_string().into_bytes()),
        AMQPValue::Float(value) => Value::Text(value.to_string().into_bytes()),
        AMQPValue::Double(value) => Value::Text(value.to_string().into_bytes()),
        AMQPValue::ShortShortInt(value) => Value::Number((*value).into()),
        AMQPValue::ShortShortUInt(value) => Value::Number((*value).into()),
        AMQPValue::ShortInt(value) => Value::Number((*value).into()),
        AMQPValue::ShortUInt(value) => Value::Number((*value).into()),
        AMQPValue::LongInt(value) => Value::Number((*value).into()),
        AMQPValue::LongUInt(value) => Value::Number((*value).into()),
        AMQPValue::LongLongInt(value) => Value::Number(*value),
        AMQPValue::Timestamp(value) => Value::Text(value.to_string().into_bytes()),
        AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::Void => Value::Other,
    };
    (name.to_string(), value)
}
