//! What is logged while the job runs, in fio's formats.

/// What is logged while the job runs, in fio's formats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogsSpec {}
