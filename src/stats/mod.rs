//! Counts and histograms of one worker, and how they merge. Knows nothing of text or files.

mod histogram;
mod log;
mod tally;
mod worker;

pub use histogram::{Bucket, Histogram};
pub use log::{LogKinds, LoggedHistogram, LoggedIo, LoggedWindow, Span, Sums};
pub use tally::{EXAMPLES, VerifyTally};
pub use worker::{
    BATCH_LEVELS, BatchCounts, DEPTH_LEVELS, ErrorCount, LatencyStats, OpStats, WorkerStats, depth_level,
};
