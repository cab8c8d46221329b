//! What an operator may set, and what it does.
//!
//! The defaults suit production. Measure before and after: `cargo loadtest compare` for CPU per request, `/metrics` for what happens.
//!
//! # The machine
//!
//! | setting | why |
//! | --- | --- |
//! | Linux 6.1 or later | io_uring with DEFER_TASKRUN: completions in one batch for each turn of a shard's loop. 5.11 works without; the first line on stderr says which it is |
//! | io_uring allowed | seccomp profile or `kernel.io_uring_disabled = 0`. epoll does the same for more system calls |
//! | `LimitNOFILE=` (`ulimit -n`) | two descriptors for each request under way, one for each idle connection. The soft limit is raised to the hard one at start; `max_connections = "auto"` is what it leaves |
//! | `net.core.somaxconn` | the kernel lowers `backlog` (4096) to it, for each shard's socket |
//! | `net.ipv4.ip_local_port_range` | one port for each upstream connection to the same address and port. Kept connections need few |
//! | `net.ipv4.ip_unprivileged_port_start`, `CAP_NET_BIND_SERVICE` | ports below 1024 without being root |
//! | `taskset`, `CPUAffinity=`, cpusets | `shards = "auto"` counts the cores the process may use, and pins a shard to each. A CPU quota (`--cpus`) is not seen: write `shards` there |
//!
//! # Here
//!
//! | key | when to change it |
//! | --- | --- |
//! | `shards` | fewer, to leave cores to the backends on the same machine; more than cores are not pinned |
//! | `keepalive` | at least the requests that a shard has in flight to the service: below that, connections are opened for each excess request |
//! | `balance` | `random` (two choices) evens out servers of different speed; `round_robin` is exact *within a shard*: with few requests, shards add up to a rough share. `least_conn` looks at all servers, not at two: better where requests differ much and servers are few; with many shards all may choose the same one. `least_time` where servers differ in speed |
//! | `hash` | where servers keep something of a user. No server gets more than 1.25 times its share of what is in flight: a key that all have spills over |
//! | `max_conns`, `queue` | `max_conns` what a server can do at once, `queue` what may wait for that meanwhile: `wait` below the patience of those who ask. Exact counts cost a write to a shared cache line for each request |
//! | `resolver` | where the names of services are not those that this machine resolves; `valid=` where records lie about their time, `ipv6=off` where there is no way to IPv6 addresses that names have |
//! | `slow_start` | servers with cold caches |
//! | `timeout` | just above the slowest good answer of the route. It is to the response head: a body is watched by its progress |
//! | `connect` | a few round trips; 2 s is for the next data centre |
//! | `retry` | `"503"` or `"timeout"` in `on` only where the service can bear it; the budget bounds what it can cost |
//! | `max_fails`, `fail_timeout` | `max_fails=0` for a service with one server behind a balancer of its own |
//! | `max_body` | by route. Bodies stream: a large bound costs no memory |
//! | `stream = true` | long polls, and anything else that rests for longer than `client_body_timeout`. `text/event-stream` and `application/grpc*` rest without it |
//! | `trusted_proxies` | whoever terminates TLS before us. Without it their `X-Forwarded-*` are replaced by what we see |
//! | `access = false` | nobody reads it: a shard only copies strings into a ring, but the thread that formats and writes them shares the cores |
//! | `handshakes_per_turn` | lower where requests must not notice a storm of handshakes, higher where handshakes are the load: `cargo bench --bench handshakes` shows what a client with a kept connection sees of 2,000 a second |
//! | `min_body_rate`, `client_body_timeout` | lower for clients on bad lines, higher against slow attacks |
//! | `drain` | longer than the slowest download that must survive a restart |
//!
//! # Memory
//!
//! An idle client connection holds its task and the socket, no buffer. A request under way holds 16 KiB, and the upstream's buffer of 16 KiB or,
//! once a response did not fit, 256 KiB. A kept upstream connection holds the buffer of its next read. So a service with large bodies costs at most
//! `keepalive` × 256 KiB for each shard; lower `keepalive` where that is too much. `coregate_buffer_bytes` counts what is in stock.
//!
//! # What to watch
//!
//! | metric | says |
//! | --- | --- |
//! | `coregate_requests_total{side="upstream"}` | whose fault it was, by `why` |
//! | `coregate_upstream_attempts_total{outcome!="ok"}` | which endpoint |
//! | `coregate_upstream_connections_opened_total` growing with the requests | `keepalive` is too small, or the service closes after every response |
//! | `coregate_connections_refused_total` | out of room: descriptors or `max_connections` |
//! | `coregate_connections` by shard | whether load is even; `coregate_connections_handed_over_total` says what that took |
//! | `coregate_retries_refused_total` | the retry budget is used up |
//! | `coregate_log_dropped_total` | whoever reads the log is too slow |
//! | `coregate_last_reload_successful` | 0: the file on disk is not what serves |
//! | `coregate_shards_unresponsive` | a shard did not answer within a second: its core is taken, or it is stuck |
