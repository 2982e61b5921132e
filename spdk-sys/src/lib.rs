//! SPDK's NVMe driver for fio-spdk, behind a small C header of our own (`shim/fio_spdk.h`).
//!
//! No type and no callback of SPDK's is seen here. `bindings` is what bindgen makes of our header;
//! around it stand three handles: `Environment`, `Controller` and `Queue`. Without the feature
//! `link` the crate is empty.

#![cfg(feature = "link")]
#![allow(unsafe_code, reason = "calls into C")]

#[allow(missing_docs, non_camel_case_types, clippy::all, reason = "made by bindgen")]
pub mod bindings;
mod controller;
mod environment;
#[cfg(feature = "fake")]
pub mod fake;
mod queue;

pub use bindings::fs_ns_info as NamespaceInfo;
pub use controller::{AdminCommand, AdminError, Controller, Direction};
pub use environment::{Environment, dma_alloc, dma_free, take_log, version, version_running};
pub use queue::{Queue, SubmitError};

/// A negative errno of the shim as a positive one.
fn errno(rc: i32) -> i32 {
    rc.checked_neg().filter(|errno| *errno > 0).unwrap_or(5)
}
