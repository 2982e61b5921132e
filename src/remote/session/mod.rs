//! The process that does one run for a server.
