//! The process that does one run for a server.

pub mod frames;
