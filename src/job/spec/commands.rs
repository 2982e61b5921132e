//! What goes along with a command: hints, priorities, atomicity.

/// What goes along with a command: hints, priorities, atomicity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandsSpec {}
