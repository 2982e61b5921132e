//! Counts and histograms of one worker, and how they merge. Knows nothing of text or files.

mod histogram;
mod tally;
mod worker;

pub use histogram::{Bucket, Histogram};
pub use tally::{EXAMPLES, VerifyTally};
pub use worker::{
    BATCH_LEVELS, BatchCounts, DEPTH_LEVELS, DepthFound, ErrorCount, LatencyStats, OpStats, WorkerStats,
    depth_level,
};
