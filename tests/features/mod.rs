//! What the gateway does, by behaviour.

mod aggregate;
mod amqp;
mod balancing;
mod drain;
mod endings;
mod errors;
mod failures;
mod forwarding;
mod idle;
mod limits;
mod listeners;
mod observing;
mod opinions;
mod paths;
mod process;
mod proxy_protocol;
mod reload;
mod routing;
mod services;
mod soak;
mod spread;
mod streaming;
mod tls;
mod tls_services;
