//! The server among enemies: peers that speak no, half or evil HTTP/2, clients that ask for what they may
//! not have, jobs that reach out of their directory. It refuses, says so, and serves on.

#![allow(clippy::disallowed_methods, reason = "limits of the tests themselves")]
#![allow(clippy::unwrap_used, reason = "a test that cannot have what it needs has nothing to say")]

mod common;
#[path = "remote_hostile/evil_client.rs"]
mod evil_client;
#[path = "remote_hostile/evil_server.rs"]
mod evil_server;
#[path = "remote_hostile/flood.rs"]
mod flood;
#[path = "remote_hostile/http2.rs"]
mod http2;
#[path = "remote_hostile/jobs.rs"]
mod jobs;
#[path = "remote_hostile/mutants.rs"]
mod mutants;
#[path = "remote_hostile/peers.rs"]
mod peers;
#[path = "remote_hostile/server.rs"]
mod server;
