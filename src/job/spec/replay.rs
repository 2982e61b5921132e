//! Logs of I/Os: written, and replayed.

/// Logs of I/Os: written, and replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplaySpec {}
