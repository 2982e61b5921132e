//! Counts and histograms of one worker, and how they merge. Knows nothing of text or files.

mod histogram;
mod worker;

pub use histogram::{Bucket, Histogram};
pub use worker::{
    BATCH_LEVELS, BatchCounts, DEPTH_LEVELS, ErrorCount, LatencyStats, OpStats, WorkerStats, depth_level,
};
