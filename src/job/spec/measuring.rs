//! What is measured, when that is enough, and how it is told.

/// What is measured, when that is enough, and how it is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeasuringSpec {}
