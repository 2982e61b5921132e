//! Counts and histograms of one worker, and how they merge. Knows nothing of text or files.

mod blocks;
mod histogram;
mod log;
mod priority;
mod steady;
mod tally;
mod unwritten;
mod worker;

pub use blocks::{BlockCounts, BlockLife, BlockState};
pub use histogram::{Bucket, Histogram, HistogramParts};
pub use log::{LogKinds, LoggedHistogram, LoggedIo, LoggedWindow, Span, Sums};
pub use priority::ByPriority;
pub use steady::{Finding as SteadyFinding, Round, judge as judge_steady};
pub use tally::{Doubt, EXAMPLES, VerifyTally};
pub use unwritten::{Filled, Unwritten, UnwrittenRange};
pub use worker::{
    BATCH_LEVELS, BatchCounts, DEPTH_LEVELS, DepthFound, ErrorCount, LatencyStats, OpStats, WorkerStats,
    depth_level,
};
