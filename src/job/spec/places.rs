//! Where I/Os go beyond offset, size and distribution.

/// Where I/Os go beyond offset, size and distribution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlacesSpec {}
