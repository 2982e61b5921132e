//! Job files: from text to [`JobSpec`]. Knows no engine and opens no device.

pub mod spec;

pub use spec::JobSpec;
