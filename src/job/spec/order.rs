//! When jobs begin and end, and what ends them.

/// When jobs begin and end, and what ends them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OrderSpec {}
