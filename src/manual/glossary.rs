//! One meaning for each word.
//!
//! | word | means |
//! | --- | --- |
//! | access log | one record for each request |
//! | added latency | the part of a request's time that was not spent waiting for its service's response head |
//! | attempt | one request at one endpoint; a request may take several |
//! | authority | `host[:port]` |
//! | backup | an endpoint that is picked when no primary one is left |
//! | connection | the client's; the other one is always an *upstream connection* |
//! | control | the thread that does everything but serving |
//! | deadline | a point in time; *timeout* is a span |
//! | drain | accept no more, let what is under way finish |
//! | driver | how the runtime talks to the kernel: io_uring or epoll |
//! | endpoint | one address of a service; a *server line* describes it |
//! | event | a line about the gateway itself, for people |
//! | exchange | a request and its response on one upstream connection |
//! | failure | why a request did not get the reply it asked for, by whose fault it is |
//! | fixed reply | a reply that the configuration spells out |
//! | gather | read all of a small body before it is sent |
//! | head | request or status line and header fields, to the empty line |
//! | lease | a request's claim on an endpoint, counted as in flight |
//! | listener | an address where connections are accepted |
//! | out of rotation | not picked, because requests failed there |
//! | pattern | what a route key describes: a set of requests |
//! | place | bytes of a buffer; in `config`, where something is written |
//! | relay | pass a response body on |
//! | reply | what we send to a client |
//! | response | what a service sent us |
//! | retry | an attempt after the first |
//! | route | a pattern and what happens to its requests |
//! | service | what requests are sent to: one or more endpoints |
//! | shard | a thread with a core, a runtime, listeners, pools and counters of its own |
//! | slot | a number that stays with a service, an endpoint or a stream while it lives |
//! | snapshot | the configuration as shards read it; never changed, only replaced |
//! | stale | of a kept connection: the other side has closed it |
//! | target | of a route: a service, a fixed reply, a redirect; of a request: what stands behind the method |
//! | tick | 10 ms of a shard's clock |
//! | tunnel | bytes both ways after a 101 |
//! | upload | a request body that is passed on as it arrives |
//! | upstream | the side of the services |
//! | why | the word for how a request ended, in logs and metrics |
