//! Decisions: where two good people could have chosen otherwise. Newest last; a number is never given twice.
//!
//! ```text
//! ## 1. Deadlines shut the socket down   2026-11-22
//! Question   How does an operation end in time when the kernel owns its buffer?
//! Chosen     shutdown(2) of the direction that is late: the pending operation completes and brings the buffer home.
//!            The slot of a stream waits in a coarse wheel; arming a deadline is two stores.
//! Because    no byte is lost, the other direction can still carry a 408, and it is the same on io_uring and epoll.
//! Rejected   a timer beside each operation (0.3–1 µs a request, measured with a prototype); dropping the operation
//!            (it may have taken bytes already); linked timeouts (monoio has none).
//! Costs      a direction that was shut stays shut: a deadline always ends the connection, soon or at once.
//!            Deadlines are up to 10 ms late.
//! Revisit    if monoio gains cancellation that says whether bytes were taken.
//! ```
//!
//! ```text
//! ## 2. Buffers keep headroom   2026-11-22
//! Question   How does a new head get before a body that was read behind the old one?
//! Chosen     1 KiB is free before what is read. The head is written there, over bytes that have been dealt with, and
//!            head and body leave in one send; a chunk's size takes the same way, its line end goes behind.
//! Because    one system call and no copy of the body, where a gathered write would need owned slices of both.
//! Rejected   writev (on io_uring it needs every slice owned until it completes, and has no MSG_NOSIGNAL); copying.
//! Costs      a head longer than its room goes alone, in a second send.
//! Revisit    if gathered sends get cheaper than one copy of a small body.
//! ```
//!
//! ```text
//! ## 3. An exchange lives in its connection's box   2026-11-22
//! Question   Who owns what a request needs on the upstream side?
//! Chosen     The upstream connection: response head, fields, buffer, lease and times lie beside its stream, in one box
//!            that goes from pool to request and back.
//! Because    a request moves a pointer through its steps instead of half a kilobyte, and allocates nothing.
//! Rejected   values returned from step to step, as it was first written: 32 moves of large structs for each request.
//! Costs      fields that mean something only while an exchange is under way.
//! Revisit    an exchange that shares its connection has a box of its own (46), made for each request.
//! ```
//!
//! ```text
//! ## 4. A mailbox is a bounded queue and a socket pair   2026-11-22
//! Question   How do other threads reach a shard?
//! Chosen     A std sync_channel, and a byte on a socket pair that the shard always has a read for.
//! Because    it costs nothing while there is no message and works on both drivers. Without monoio's feature `sync`, which
//!            DESIGN §17 names, there is no check of a foreign queue in each turn of the loop and no late drop of a JoinHandle.
//! Rejected   `sync` (0.3 µs a request in a prototype, and a wake through flume and an eventfd); polling by a timer.
//! Costs      no waker of a shard may leave its thread: monoio panics on that without `sync`.
//! Revisit    `poll-io` stays out, too, until HTTP/2 needs it. (Answers to single requests: 30.)
//! ```
//!
//! ```text
//! ## 5. A resting connection waits with a read of eight bytes   2026-11-22
//! Question   How does an idle connection hold no buffer and still notice the next request?
//! Chosen     After a second the read is cancelled and awaited, its buffer goes to the stock, and a read into 8 bytes of
//!            its own takes its place; what it brings is put in front of a new buffer. What serving needs is in a box
//!            that goes, too: 3 KiB less for each idle connection.
//! Because    one operation, on halves that have no readable(); nothing is lost, since a read is never dropped.
//! Rejected   readable() first (a second operation for each message that ends a rest, and poll-io); buffers for all.
//! Costs      a request after a rest takes one read more.
//! Revisit    with provided buffer rings, which monoio 0.2.4 does not have.
//! ```
//!
//! ```text
//! ## 6. monoio-http is not used   2026-11-22
//! Question   monoio has an HTTP library. Why is ours written by hand?
//! Chosen     A codec without I/O in http/, on httparse; monoio-http only in the load tests, as a peer beside which
//!            the gateway is measured.
//! Because    tried: a 70 KB header name aborts the process, CL with TE and differing CLs are accepted, a 100 from a service
//!            leaves the real answer to the next client, HEAD and 304 hang, bodies are buffered whole. Unmaintained since 2024-11.
//! Rejected   patching it; hyper over a poll adapter (21–23 µs a request where our prototype took 13.5–14).
//! Costs      the codec is ours to prove: rules by RFC section, every byte split, fuzz targets.
//! Revisit    never for HTTP/1. HTTP/2: see 37 and 73.
//! ```
//!
//! ```text
//! ## 7. Failures of endpoints are shared by the shards   2026-11-22
//! Question   Must each shard find out by itself that an endpoint is dead?
//! Chosen     No: balance::Health is two atomics on a cache line of its own, read by every pick.
//! Because    with a shard per core `max_fails` would mean as many failures again on each; DESIGN §8 says per process.
//!            They are written only when a request fails or an endpoint is tried again: an exception to rule 4.1.
//! Rejected   per-shard counts; messages between shards (late, and more code).
//! Costs      one relaxed load for each endpoint looked at.
//! Revisit    when health is checked actively, on the control thread.
//! ```
//!
//! ```text
//! ## 8. The logs have a thread of their own   2026-11-22
//! Question   Who formats and writes the access log?
//! Chosen     One thread drains a ring of compact records per shard every 50 ms and writes large blocks. A ring that is
//!            full drops the newest record and counts it.
//! Because    a sink that blocks (a pipe, a full disk) must not stop a shard, nor the control thread that reloads.
//! Rejected   formatting on the shard; the control thread; a channel of strings (an allocation for each record).
//! Costs      a line is up to 50 ms late, and 4 MiB per shard.
//! Revisit    when there are sinks that need a client of their own (AMQP, syslog).
//! ```
//!
//! ```text
//! ## 9. Metrics are handed over, not read   2026-11-22
//! Question   How does control see the counters of a shard?
//! Chosen     It sends an empty Metrics, the shard swaps it with its own, and control adds what it got to the totals.
//! Because    a shard counts in plain numbers and histograms, without an atomic and without an allocation.
//! Rejected   atomics read from outside (each histogram bucket, too); a snapshot copied on the shard.
//! Costs      a shard that hangs cannot be read: it is reported as unresponsive after a second.
//! Revisit    if a scrape of many routes shows in p99.
//! ```
//!
//! ```text
//! ## 10. The most specific route wins, and /admin/ owns /admin   2026-11-22
//! Question   Which route, when several match?
//! Chosen     Patterns are sets of requests: host, method, path and listener together. The one inside all others wins; two that
//!            overlap with neither inside the other are an error, unless a third is exactly what they share. A prefix owns its name
//!            without the slash (308), also against a variable: beside /{page}, /admin belongs to /admin/.
//! Because    order in a file that many edit is no order; whoever protects /admin/ must not leave /admin to another route.
//! Rejected   first match; longest prefix; a host that always outranks a path.
//! Costs      some pairs that nginx would take need a third route.
//! Revisit    when routes get conditions on headers or cookies.
//! ```
//!
//! ```text
//! ## 11. Sockets and shards change at the next start   2026-11-22
//! Question   What of `listen`, `admin`, `shards`, `driver` and `state` at a reload?
//! Chosen     They stay as they are; the log names those that changed. A route bound to a listener that does not exist yet
//!            is an error of that reload.
//! Because    all else can be swapped by one pointer; these are threads and descriptors.
//! Rejected   opening and closing listeners on live shards, for now; refusing the whole file.
//! Costs      a new port needs an upgrade (33), which is a new process.
//! Revisit    if ports come and go often.
//! ```
//!
//! ```text
//! ## 12. A kept connection is known to be quiet before it is used again   2026-11-22
//! Question   May a pooled connection be used without looking at it?
//! Chosen     No. The read for its next response is under way while it rests: if that has completed, the connection is closed. A request
//!            that cannot be sent twice asks the kernel as well (a peek, 0.4 µs).
//! Because    bytes that came between two requests would be taken for the answer to the next one: one client's answer for
//!            another (response poisoning). And a closed connection costs a failed attempt.
//! Rejected   trusting connections that rested shortly; a peek for all (4 % of a proxied request, measured with perf).
//! Costs      a kept connection holds a buffer.
//! Revisit    with buffer rings, where a pending read needs none.
//! ```
//!
//! ```text
//! ## 13. Expect: 100-continue is passed on, and answered after 500 ms   2026-11-22
//! Question   Who says 100?
//! Chosen     The service, whose 100 is passed on. If it says nothing for 500 ms the client gets ours, once. A body too large by its
//!            length is refused before anyone is asked to send it. A 100 nobody asked for is dropped.
//! Because    the service knows whether it wants the body; old ones do not know the expectation and wait for it.
//! Rejected   answering it here at once (the client sends what will be refused); waiting for ever.
//! Costs      half a second for clients of services that ignore it.
//! Revisit    if a service is seen that needs more time.
//! ```
//!
//! ```text
//! ## 14. Half-closed clients are served, reset ones are let go   2026-11-22
//! Question   Is a client that has stopped sending still there?
//! Chosen     Yes, after a FIN: it gets its reply. A reset is noticed by a look at every busy connection once a second, and ends
//!            what its service is doing for it.
//! Because    `printf … | nc` and some proxies half-close; a service must not work for nobody for 30 s.
//! Rejected   reading from clients while their service is waited for (an operation more for each request); nginx's way of
//!            taking a FIN for an abort.
//! Costs      a service may work up to a second for a client that is gone, and to the end for one that only says FIN.
//! Revisit    with HTTP/2, where a reset is a frame.
//! ```
//!
//! ```text
//! ## 15. No CONNECT, no TRACE   2026-11-22
//! Question   Which methods are not for routes?
//! Chosen     Both get 405, whatever the routes say; the connection ends.
//! Because    CONNECT would make the gateway a tunnel to anywhere, and what follows its head is no HTTP; TRACE shows clients what
//!            services see, cookies and added headers included.
//! Rejected   routing them like any other method.
//! Costs      none known.
//! Revisit    if a plain CONNECT proxy is asked for. WebSocket over HTTP/2 (RFC 8441) is another thing.
//! ```
//!
//! ```text
//! ## 16. Connection removes only fields we do not know   2026-11-22
//! Question   A client sends `Connection: Authorization`. Is that field removed?
//! Chosen     No: an option that names a field with a meaning of ours is invalid and does nothing. Unknown names are removed, as
//!            RFC 9110 §7.6.1 asks. More than 32 others are a 400.
//! Because    otherwise a client could strip what a proxy before us added: X-Forwarded-For, an identity.
//! Rejected   obeying to the letter; refusing the request.
//! Costs      a private field with a known name cannot be hop-by-hop.
//! Revisit    when `auth` sets identity headers: they join the known ones.
//! ```
//!
//! ```text
//! ## 17. A path with two meanings is refused   2026-11-22
//! Question   /a/%2e%2e/b, /a//b, /a%2Fb, \\: what is matched, and what is sent?
//! Chosen     One spelling for both: dot segments resolved, slashes merged, unreserved escapes decoded. Reserved escapes stay as spelled:
//!            %40 and @ are two paths. Above the root, an encoded slash, backslash or NUL, `;` on a dot segment: 400, unless the
//!            route says raw_path.
//! Because    what was checked is what the service gets; services differ on exactly these.
//! Rejected   matching the decoded path and sending the raw one (nginx without a URI); resolving `..` at the root to the root.
//! Costs      services that need %2F must say so.
//! Revisit    if a client is seen that depends on /../.
//! ```
//!
//! ```text
//! ## 18. Small bodies are gathered, so that they can be sent twice   2026-11-22
//! Question   Stream every body, or keep it for a retry?
//! Chosen     A body of known length up to 64 KiB is read behind its head and sent with it in one piece; longer, chunked or `Expect` ones,
//!            and those of `stream` routes, pass through as they arrive and are not retried once begun.
//! Because    most bodies are small: one send, and a dead connection is no error for an idempotent request.
//! Rejected   streaming all (no retry); buffering all, as nginx does (memory or disk, and latency).
//! Costs      the first byte of a small body waits for its last; a slow one occupies no upstream connection meanwhile.
//! Revisit    if services are seen that answer before a small body is complete.
//! ```
//!
//! ```text
//! ## 19. All mistakes at once, and nothing ignored   2026-11-22
//! Question   What does a wrong configuration do?
//! Chosen     Raw tree → check → types that cannot be wrong. Every check goes on after a mistake; each has its line, a picture
//!            and the likely remedy, also for words of other gateways. Unknown keys are errors, also those of later versions.
//! Because    an operator fixes a file once; a key that is silently ignored is a limit that is not there.
//! Rejected   serde structs (one error, no place); warnings for unknown keys.
//! Costs      the tree, and a check for each key, by hand.
//! Revisit    when a schema for editors is generated: the table of keys is there for it.
//! ```
//!
//! ```text
//! ## 20. Units are not nginx's where those mean two things   2026-11-22
//! Question   Is `1m` a minute or a mebibyte?
//! Chosen     A minute. Sizes are `1MiB`, `1MB` or bytes; durations need their unit. The message for `max_body = "1m"` says `write 1MiB`.
//! Because    the same letter for both is how a limit of a minute becomes one of a megabyte.
//! Rejected   nginx's units in config.toml; numbers without a unit.
//! Costs      people who come from nginx see the message once.
//! Revisit    never; the nginx front end reads nginx's units.
//! ```
//!
//! ```text
//! ## 21. TLS is driven by the stream's own halves   2026-11-22
//! Question   How does rustls sit on an owned-buffer runtime?
//! Chosen     A session that both halves of a stream share, without I/O of its own: ciphertext is read into the shard's buffers, plaintext goes
//!            where the caller's would. One more pointer in a half, one more branch in a read; a plain connection's future is not larger.
//! Because    nothing above `runtime` knows which it has, and an idle session gives its buffers back (12 KiB for each of 1,500 connections).
//! Rejected   a poll-style adapter (a copy and an allocation for each message); a stream type of its own (all callers twice); kTLS (no kernel
//!            here has it built in).
//! Costs      rustls copies each record once in and once out.
//! Revisit    rustls's unbuffered interface, when large bodies over TLS matter more than they do now.
//! ```
//!
//! ```text
//! ## 22. Tickets instead of sessions, and a configuration for each shard   2026-11-22
//! Question   How does a client resume at another shard?
//! Chosen     Tickets (AES-256-GCM) under keys that all shards read through arc-swap, rotated every six hours, the one before kept. No session
//!            cache. Each shard has its own rustls configuration and its own copy of the keys.
//! Because    no lock, and no counter that two cores write; a ticket is bound to the rules for client certificates (CVE-2025-23419) as
//!            associated data, to the server name by rustls.
//! Rejected   rustls's ticketer (a lock around its rotation); one shared configuration (its reference count); a session cache.
//! Costs      keys are parsed once for each shard when certificates change.
//! Revisit    if several hosts must resume each other's sessions: the keys then come from outside.
//! ```
//!
//! ```text
//! ## 23. Certificates are renewed even beside a configuration that is wrong   2026-11-22
//! Question   What happens when a certificate is replaced while config.toml has a mistake?
//! Chosen     Certificate files are watched like the configuration. If that is refused, certificates that are good are taken over all the same;
//!            a file that is half written keeps what was read from it before.
//! Because    a certificate that ends tonight must not wait for somebody to mend something else.
//! Rejected   reading certificates at a reload only; taking a configuration over in parts otherwise.
//! Costs      a refused reload may still store a snapshot.
//! Revisit    when certificates come from ACME.
//! ```
//!
//! ```text
//! ## 24. Who may send a PROXY header   2026-11-22
//! Question   Is a PROXY header wanted from every client of a listener that has `proxy_protocol`?
//! Chosen     From trusted_proxies, and from them always; from nobody else, whose header is a bad request. Without trusted_proxies it is an error.
//! Because    a header that is believed is an address that is believed; one that may be there or not is guessed at.
//! Rejected   nginx's way (everybody, believed by a second directive); finding out by looking.
//! Costs      health checks of a trusted proxy need a header too (LOCAL or UNKNOWN will do).
//! Revisit    never.
//! ```
//!
//! ```text
//! ## 25. Client certificates are told in X-Client-Cert-*   2026-11-22
//! Question   What does a service learn of a client's certificate, and whom does it believe?
//! Chosen     -Verified: SUCCESS, -Subject (RFC 4514), -Fingerprint (SHA-256). No field where there is no certificate. Whatever strangers send
//!            under these names, `_` for `-` included, is left out, on every listener. A certificate that is wrong ends the handshake,
//!            also where none is required.
//! Because    a service that trusts the field must not have to know by which listener a request came.
//! Rejected   passing the certificate itself by default (4 KiB for each request).
//! Costs      a proxy in front that does this itself must be one of trusted_proxies.
//! Revisit    when RFC 9440's Client-Cert is asked for.
//! ```
//!
//! ```text
//! ## 26. Shards see each other's number of connections   2026-11-22
//! Question   SO_REUSEPORT spreads connections by a hash: of 40 long-lived ones a shard of four may get 17. What evens that out?
//! Chosen     Who accepts looks at the counts of all shards (one word each, on its own cache line) and, where the idlest has at least two
//!            fewer (from 16 on: an eighth), duplicates the descriptor into that shard's mailbox, before a byte is read.
//! Because    the kernel cannot know which connections live long. The count is reserved by the giver, in the word that also says whether the
//!            target drains and how many are on their way, so that all who look see the same and none is lost.
//! Rejected   one accept queue for all (every accept wakes or locks); an eBPF program in the socket group (a capability); moving
//!            connections later (their buffers and session are a shard's own).
//! Costs      an exception to rule 4.1: two writes to a shard's own line for each connection. A hand-over costs a dup, a close and a wake.
//! Revisit    when load differs much between connections: then the counts should weigh them.
//! ```
//!
//! ```text
//! ## 27. Places at an endpoint are counted by all shards, and waited for in one order   2026-11-22
//! Question   How can `max_conns` be exact, and who gets a place that comes free?
//! Chosen     One atomic per endpoint with `max_conns`, on its own cache line, taken with the pick and given back with the lease. With `queue`
//!            a request that finds none waits on its shard; each shard shows since when its first one waits, and whoever frees a place
//!            calls the shard with the longest wait, through its mailbox. Newcomers stand behind those who wait; retries do not wait.
//! Because    a bound per shard is either too low for one that gets more of the load, or no bound. Who waits says so before it looks, and who
//!            frees looks after: no place is free while somebody waits and was not told; a call that is lost is made up for in 100 ms.
//! Rejected   a share of `max_conns` for each shard; one lock and one list; polling alone.
//! Costs      an exception to rule 4.1: two writes to a shared line for each request to such an endpoint. Others pay a compare. Idle
//!            kept connections are not counted (nor by nginx).
//! Revisit    if a scrape shows many waiting for long: then shards should steal, not call.
//! ```
//!
//! ```text
//! ## 28. A hash is rendezvous, with bounded load   2026-11-22
//! Question   Which consistent hash?
//! Chosen     Every endpoint gets a score from the key, its own name and its weight; the highest wins, among those with less than 1.25 times
//!            their share of this shard's requests in flight. A request without a value is spread by two choices.
//! Because    shares are even without hundreds of points for each server, only the keys of a server that goes move, no table is built, and
//!            every process decides alike. A key that all have cannot bury one server.
//! Rejected   a ring (ketama, as nginx's `consistent`): uneven below 160 points for each weight, and places to keep.
//! Costs      one hash and a logarithm for each endpoint and request; nginx's and ours put a key on different servers.
//! Revisit    for services with hundreds of endpoints.
//! ```
//!
//! ```text
//! ## 29. Names are asked for by ourselves   2026-11-22
//! Question   Who resolves the host names of services, and when again?
//! Chosen     hickory-resolver on the control thread (/etc/hosts, resolv.conf or `resolver`), A and AAAA apart: a kind that cannot be asked for keeps
//!            its addresses. Asked again after the records' time, within 1 s and 5 min, a tenth of it at random. Only where DNS knows nothing
//!            and no `resolver` is named, getaddrinfo is asked, every 30 s. NXDOMAIN is a failure like others: what was known stays.
//! Because    getaddrinfo does not say how long an answer is valid, and blocks a thread for each name.
//! Rejected   getaddrinfo every 30 s, as it was first (too late for a failover, too often for the rest); dropping the servers of a name that is
//!            gone (one bad zone file would take a service down).
//! Costs      two questions for each name and time. An endpoint's slot is used again, so that it has an id besides, which connections carry.
//! Revisit    with SRV records (`service=`).
//! ```
//!
//! ```text
//! ## 30. A question to another thread has a seat   2026-11-22
//! Question   How does a request on a shard wait for what only another thread can say (a login, a key, a broker's reply)?
//! Chosen     A bounded tokio queue to that thread, and the shard's own mailbox back. The shard keeps a numbered seat for each question; the
//!            answer names seat and guest, so that one that comes late finds nobody. Dropped questions answer themselves: lost.
//! Because    the waker stays on its thread (4), a wait that is dropped frees its seat, and a full queue is a 503 at once.
//! Rejected   monoio's `sync`; a oneshot channel polled by the shard (its waker would cross threads); a socket for each question.
//! Costs      one box for each answer, and 4,096 questions a shard at most.
//! Revisit    if the box shows beside an AMQP call.
//! ```
//!
//! ```text
//! ## 31. A broker's connection is shared, a channel is not   2026-11-22
//! Question   How many connections and channels do services behind brokers have?
//! Chosen     One connection for each list of brokers, on one bus thread for the process; one channel in confirm mode for each service, with
//!            its own consumer for replies. lapin's automatic recovery is off; we connect again ourselves, and publish nothing again.
//! Because    an exchange that is not there closes a channel: that must not end the calls of another service. A call whose connection
//!            ended may have been done, so it is a 502 at once; direct replies could not arrive any more anyway.
//! Rejected   one channel for all; recovery by the library, which would hide the moment in which replies are lost.
//! Costs      the first call after a start or an outage may meet a 503 while the handshake is under way.
//! Revisit    when a service needs more than one channel carries (one core of the broker).
//! ```
//!
//! ```text
//! ## 32. Who asks for a connection is dropped before a listener closes   2026-11-22
//! Question   How does a socket close without resetting whom the kernel has told that the connection stands?
//! Chosen     A packet filter of five instructions on the listening socket drops SYN; half a second later, when the handshakes under way are over
//!            and the queue is empty, it is closed. A Unix socket is shut, and hands out its queue.
//! Because    accepting until the queue is empty and closing then is a race; a filter needs no right, and a client whose SYN was dropped
//!            sends it again, to be refused or served by whoever comes.
//! Rejected   tcp_migrate_req (a setting of the machine, and needs somebody else who listens); a backlog of 0 (lets one in).
//! Costs      QUIT takes half a second at least; a client that comes then waits a second for its refusal.
//! Revisit    never.
//! ```
//!
//! ```text
//! ## 33. The running process starts its successor   2026-11-22
//! Question   How do listening sockets get to a new binary?
//! Chosen     The running process starts the path it was called by; a socket pair is the new one's standard input, over which the sockets go
//!            (SCM_RIGHTS) and both talk: ready or failed, serve or stop, serving. All sockets of all shards go over and are dealt out
//!            to the new shards, more are opened to make it even, none is left. What is not taken is closed as after QUIT.
//! Because    no number of a descriptor is guessed, a process that dies is noticed by the end of the stream, and the new one is in the same
//!            cgroup, so that systemd accepts it by MAINPID. The successor has nothing else open: close_range before exec.
//! Rejected   numbers in the environment (nginx; no way to say that it failed); a socket in `state` that any process may come to;
//!            sockets that the new process opens by SO_REUSEPORT (what waits in the old ones is reset, and another user cannot).
//! Costs      a descriptor more for each listening socket. Ticket keys do not go over: sessions are not resumed.
//! Revisit    when counters, health or ticket keys should go over as well.
//! ```
//!
//! ```text
//! ## 34. Who leaves a shared socket looks once more   2026-11-22
//! Question   Two processes wait in accept on one socket, and one gives up. Can a connection be lost?
//! Chosen     The accept is cancelled and awaited, then those who wait are accepted without waiting.
//! Because    io_uring waits exclusively: the kernel wakes one waiter for a connection, and if that is the one being cancelled, the other sleeps on
//!            (seen in a test: a client without an answer for 10 s).
//! Rejected   shutting the socket down, which ends it for both.
//! Costs      nothing while serving.
//! Revisit    if monoio gets multishot accept.
//! ```
//!
//! ```text
//! ## 35. Commands come by a socket in `state`   2026-11-22
//! Question   How does `coregate reload` reach the gateway and learn what became of it?
//! Chosen     A Unix socket that only the gateway's user may open: a line there, a code and a text back. The pid file is for others.
//! Because    the admin port asks for no password and must not be able to start programs; a signal has no answer, and a number in a file may
//!            be another process's by now.
//! Rejected   POST on the admin port; signals and waiting for the log; a lock on the pid file.
//! Costs      two gateways with one `state` warn, and the first is the one that is reached.
//! Revisit    when the admin API has authentication.
//! ```
//!
//! ```text
//! ## 36. Rights are given up, not divided   2026-11-22
//! Question   A gateway that root starts: who holds root's rights afterwards?
//! Chosen     Nobody. With `user`, groups, gid and uid change once the ports are open and before a thread starts; without it, a warning.
//!            Only what is root's is given to the user, through no link and with no second name.
//! Because    a second process that keeps them is a second thing to attack; systemd gives one capability, which is enough for ports.
//! Rejected   nginx's master; keeping CAP_NET_BIND_SERVICE in the process.
//! Costs      a reload reads, and an upgrade opens, as that user: what it cannot read is named at start.
//! Revisit    if many want to add privileged ports at an upgrade without systemd. `daemon` stays out for good: systemd does that.
//! ```
//!
//! ```text
//! ## 37. What a token says is looked at before its signature   2026-11-22
//! Question   In which order is a token checked?
//! Chosen     Form, issuer, algorithm, audience, times, then the key, and the signature last. All of it once per token and shard: what was good is
//!            kept under the whole token, with the issuer's terms, the epoch of its keys and that of the revocations beside it.
//! Because    what can be refused without a signature must not cost one, and the issuer decides which keys there are (RFC 8725 §3.8). A
//!            refresh that keeps the key, or somebody's log-out, costs known tokens a look-up and no signature.
//! Rejected   the signature first; a cache keyed by a hash of the token; a cache of wrong tokens, which anybody can fill.
//! Costs      a forged token that has expired is logged as expired.
//! Revisit    never.
//! ```
//!
//! ```text
//! ## 38. A request waits for keys by looking, not by being woken   2026-11-22
//! Question   How does a request with an unknown `kid` learn that the fetch is over?
//! Chosen     The keys of an issuer lie in one cell that every shard reads, with a state beside it: fetching, to be had, cooling. A shard that
//!            misses a key turns `to be had` into `fetching` and rings; it looks every 10 ms, at most 2 s. A fetch that was asked for cools for
//!            30 s, one in the background does not.
//! Because    it happens when keys are rotated. One fetch for all, nobody refused; made-up names cost one fetch in 30 s and their senders
//!            nothing but a 401.
//! Rejected   a question to the control thread for each request (30): a storm would fill the queue that log-ins need.
//! Costs      up to 10 ms more for the first requests after a rotation. A second rotation within 30 s of an asked fetch waits for the rest.
//! Revisit    when something else wants to wait for a cell.
//! ```
//!
//! ```text
//! ## 39. Claims in headers are percent-encoded   2026-11-22
//! Question   What of claims that no header can carry, or that mean something there?
//! Chosen     Bytes that are not printable ASCII, `%`, a space at an end and, in lists, commas are percent-encoded. Names a client may not use are
//!            left out of what it sends, `_` for `-` included, on every route. Only names that mean nothing else can be chosen.
//! Because    two identities must not become one, and the role `a,admin` is not two roles.
//! Rejected   replacing bytes by spaces; refusing the token; UTF-8 as it is, which services read in different ways.
//! Costs      services decode names that are not English. Trailer fields are not looked at: who merges them into the head is on their own.
//! Revisit    if a service is seen that merges trailers.
//! ```
//!
//! ```text
//! ## 40. A token that names an audience is not for a gateway that has no name   2026-11-22
//! Question   What does an issuer without `audience` mean?
//! Chosen     Tokens with `aud` are refused, as RFC 7519 §4.1.3 says, and check warns; `audience = false` takes them. Without any keys since the
//!            start it is a 503, not a 401: the client has done nothing wrong.
//! Because    silence must not mean everybody's tokens (RFC 8725 §3.9).
//! Rejected   taking them; making the key mandatory, also where tokens have no audience.
//! Costs      one more line for most issuers.
//! Revisit    never.
//! ```
//!
//! ```text
//! ## 41. The parts of a request are futures of its own task   2026-11-22
//! Question   How do the calls of an aggregate run at the same time, and how do they end together?
//! Chosen     As boxed futures that the request's task polls, all of them at each wake-up. What is no longer needed has its stream shut down
//!            and its future dropped. One timer for the nearest deadline; the streams' coarse ones come after it.
//! Because    they borrow the request's head, fields and plan, share pools and budgets without a lock, and end with the client. Polling the
//!            few that wait costs less than a task and a gate for each.
//! Rejected   a task for each (owned copies of the request, a gate, cancellation by flag); FuturesUnordered (atomics).
//! Costs      a read that is dropped with its connection leaves its buffer with the kernel for a moment: it is freed, not kept for reuse.
//! Revisit    if requests with hundreds of calls at a time are seen: `parallel` bounds them.
//! ```
//!
//! ```text
//! ## 42. A whole answer lies in one buffer   2026-11-22
//! Question   What when a body does not fit the buffer its head was read into?
//! Chosen     It goes on in a buffer of its own length (256 KiB from the stock, larger ones made), and what had come is moved there, once. The
//!            connection begins with a large buffer from then on. Chunks move up within their buffer. The bytes that were moved are counted.
//! Because    the check for JSON and the places it finds want one piece; after the first large answer of a connection nothing is moved.
//! Rejected   a list of buffers (a scan that goes on over their borders: slower for all); large buffers for all.
//! Costs      up to 15 KiB moved for the first large answer of a connection, and doubling for chunked bodies over 256 KiB.
//! Revisit    if the counter says that it matters.
//! ```
//!
//! ```text
//! ## 43. What stands in is for the same asker   2026-11-22
//! Question   Whose old answer may stand in for a failed part (`stale`)?
//! Chosen     The answer to the same request as the service would get it: target, body, what we tell of the asker, and every header field of the
//!            client but those that say nothing of the answer (User-Agent, Referer, tracing, the request id). Kept per shard, 32 MiB.
//! Because    a service decides by credentials that we may not know of: two askers that differ in anything that may be one do not share.
//! Rejected   the verified subject alone: cookies and API keys are identities too.
//! Costs      a renewed token asks anew. Clients that send changing fields never find an old answer.
//! Revisit    when routes can say what identity is.
//! ```
//!
//! ```text
//! ## 44. A log-out goes to its own cell, not into a new snapshot   2026-11-22
//! Question   How does every shard refuse a token as soon as its log-out is answered, without a snapshot for each?
//! Chosen     Every snapshot has the same cell, whose set of revocations is replaced: a base, a middle and a delta of at most 256 entries, sorted by
//!            a key that is the `jti` itself. The database is written first, then read again, then the cell is stored, then the answer is sent.
//! Because    a store is seen by every check that begins after it: no message to the shards is needed. Adding one copies the delta, and now and
//!            then puts a level together. Nothing else of a snapshot changes with a log-out.
//! Rejected   a new snapshot for each log-out (routes are rebuilt); a filter with false positives (a good token would be refused).
//! Costs      28 MB for a million revoked tokens, twice that while levels are put together.
//! Revisit    if a million is not enough.
//! ```
//!
//! ```text
//! ## 45. Signing keys are files, users are in a database   2026-11-22
//! Question   Where do the keys of an issuer of our own live, when several gateways share its users?
//! Chosen     Below `state`, one file for each key, readable for its owner; who runs several gateways copies the folder.
//! Because    who may read the database of users may not sign for them; a backup of it has no keys in it.
//! Rejected   keys in the database; a key for each gateway (each would have to publish all of them).
//! Costs      a rotation is copied by hand within its five minutes, or by what the operator copies files with.
//! Revisit    with a key store (PKCS #11, a KMS).
//! ```
//!
//! ```text
//! ## 46. An exchange is two halves, a socket's or a stream's   2026-11-22
//! Question   How do HTTP/1.1 and HTTP/2 stay one gateway, on both sides?
//! Chosen     HTTP/2's heads are the same spans over the same lines as HTTP/1.1's (47).
//!            `wire` gives every exchange a half to read and a half to write, a socket or a stream: an enum, so that a socket costs what
//!            it did (16,435 instructions a request before, 16,602 after, callgrind, 64-byte reply). There is one `serve`, one relay, one upload.
//!            A connection has a task that reads and one that writes; exchanges append, so that what a turn says leaves in one send.
//! Because    routing, rewriting, limits, retries and logs were not written a second time. A stream's deadline is an alarm in the same wheel.
//! Rejected   the `h2` crate over poll-io (a second buffer and a waker for each frame, a second runtime interface); a trait object for each half.
//! Costs      a task, an exchange and two small buffers for each request over HTTP/2. Data is copied once more than over HTTP/1.1: into the bytes
//!            that leave together, towards a stream, or out of the bytes that came together, from one.
//! Revisit    tasks and boxes that are used again, once the profile shows them.
//! ```
//!
//! ```text
//! ## 47. HTTP/2 is a state machine of our own   2026-11-22
//! Question   The crate `h2` is there and good. Why is HTTP/2 written by hand?
//! Chosen     http/h2: frames, HPACK, windows and floods for both roles, without I/O. Bytes are taken from the receive buffer as
//!            they lie, everything said in a turn is appended to one send; heads come out as HTTP/1.1's do (spans of `name: value`
//!            lines), so routing, rewriting and logs have one path. `h2` is the other side in tests.
//! Because    the runtime is completion-based: `h2` wants poll-io, which cost 6 µs a request in a prototype (h2 0.4.20 on it, with an
//!            HTTP/1.1 upstream: 19.6 µs where nginx takes 29.3 and HAProxy 21.2; hyper on it 22 where our codec took 13.5) and a
//!            feature of monoio that is off. Its heads are maps with an allocation for most fields. Bounds and counters for rapid
//!            resets, provoked resets, CONTINUATION and idle frames must sit where frames are seen.
//! Measured   `cargo bench --bench h2`, one busy VM: a request understood and a 1 KiB reply written 0.70 µs (a browser's head) or
//!            0.54 µs (a small one); both with both of a client's halves 2.2 and 1.5 µs; 16 KiB of data through both ends 0.27 µs.
//! HPACK      A dynamic table of 2 KiB for what is sent a second time. Without it, literals in Huffman code: 1.18 µs for the small
//!            case; literals as they are: 0.73 µs, and more bytes. What never repeats (ids, cookies) is not coded.
//! Rejected   `h2` over poll-io; `h2` fed from memory (copies both ways, its own task for each connection).
//! Costs      3,000 lines to prove: rules by RFC section, conversations with `h2`, a fuzz target, every cut of the bytes.
//! Revisit    never, unless `h2` gains a core without I/O.
//! ```
//!
//! ```text
//! ## 48. A client's HTTP/2 connection window is not held by its readers   2026-11-22
//! Question   Data that is not yet passed on counts against its stream's window. Against the connection's, too?
//! Chosen     As a server yes: 1 MiB is what one client can make us hold. As a client no: the window is offered again as data comes.
//! Because    a connection to a service carries strangers' exchanges. With a shared bound, four clients that do not read their
//!            256 KiB would stop all others.
//! Rejected   One rule for both; smaller stream windows as readers become slow (a state more, and a window cannot be taken back
//!            from data on its way).
//! Costs      up to streams × 256 KiB for a connection to a service, each paid for by a client of its own.
//! Revisit    if memory for slow readers matters more than their throughput: smaller stream windows towards services.
//! ```
//!
//! ```text
//! ## 49. Memory that a burst has used goes back to the kernel   2026-11-22
//! Question   Buffers are kept in a stock. What of those above it?
//! Chosen     They keep their addresses and give back their pages (runtime/pages.rs: one madvise, `unsafe` by name).
//! Because    an allocator returns only pages that are free as a whole: 10,000 idle TLS connections kept 31 KiB each, now 11.5.
//! Rejected   a smaller stock alone; purging the allocator by a timer.
//! Costs      a system call for each buffer above the stock, and a page fault when it is used again.
//! Revisit    if the profile shows the faults.
//! ```
