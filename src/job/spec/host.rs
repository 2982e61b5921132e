//! What a worker asks of the machine: memory, priorities, schedulers, commands before and after.

/// What a worker asks of the machine: memory, priorities, schedulers, commands before and after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostSpec {}
