//! When I/Os are issued: pauses, rates, and what follows from latencies.

/// When I/Os are issued: pauses, rates, and what follows from latencies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PaceSpec {}
