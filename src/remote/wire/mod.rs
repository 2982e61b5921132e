//! What goes over the wire: `proto/` in Rust, and our own types in its terms.

#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated")]
pub mod bench;
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated")]
pub mod session;

pub mod bounds;
pub mod live;
pub mod report;
