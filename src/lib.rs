//! fio-spdk: a benchmark and data-integrity tester for NVMe SSDs.
//!
//! A workload is a pure function, a device is a queue, a reactor joins the two. `ARCHITECTURE.md`
//! says how the floors below depend on each other; `tests/floors.rs` holds them to it.

pub mod base;
pub mod cli;
pub mod engine;
pub mod job;
pub mod reactor;
pub mod remote;
pub mod report;
pub mod run;
pub mod stats;
pub mod trace;
pub mod verify;
pub mod workload;
