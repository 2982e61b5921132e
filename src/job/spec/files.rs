//! How files are made, chosen, opened and left behind.

/// How files are made, chosen, opened and left behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilesSpec {}
