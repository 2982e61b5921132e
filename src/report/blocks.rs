//! What became of the blocks that were trimmed (`block_error_percentiles`).

use serde_json::{Map, Value, json};

use super::JobReport;
use super::json::PERCENTILES;
use super::text::{counted, wrapped};
use crate::stats::{BlockCounts, BlockState};

/// The counts, where the job watches its blocks and all its workers have ended.
fn told(job: &JobReport, unfinished: bool) -> Option<&BlockCounts> {
    job.stats.blocks.as_deref().filter(|_| !unfinished)
}

/// Lines for people; nothing where blocks are not watched.
pub(super) fn text(job: &JobReport, unfinished: bool, width: usize) -> String {
    let Some(blocks) = told(job, unfinished) else { return String::new() };
    let count = |state| blocks.in_state(state);
    let states = format!(
        "{} trimmed, {}, {}, {} neither trimmed nor failed",
        count(BlockState::Trimmed),
        counted(count(BlockState::TrimFailed), "trim failure", "trim failures"),
        counted(count(BlockState::WriteFailed), "write failure", "write failures"),
        count(BlockState::Untouched),
    );
    let mut out = wrapped("  blocks: ", &states, width);
    if let Some((fewest, median, most)) = blocks.failed_after() {
        let line = format!("{fewest} at least, {median} in the median, {most} at most");
        out.push_str(&wrapped("  trims of a block before it failed: ", &line, width));
    }
    let list = job.spec.measuring.percentiles.as_deref().unwrap_or(&PERCENTILES);
    let percentiles: Vec<String> = list
        .iter()
        .filter_map(|percent| Some(format!("p{percent}={}", blocks.percentile(*percent)?)))
        .collect();
    if !percentiles.is_empty() {
        out.push_str(&wrapped("  trims of a block, failed ones last: ", &percentiles.join(", "), width));
    }
    out
}

/// fio's `block`; left out, as there, where no block was trimmed or failed.
pub(super) fn object(job: &JobReport, unfinished: bool) -> Option<Value> {
    let blocks = told(job, unfinished)?;
    let list = job.spec.measuring.percentiles.as_deref().unwrap_or(&PERCENTILES);
    let percentiles: Map<String, Value> = list
        .iter()
        .filter_map(|percent| Some((format!("{percent:.6}"), blocks.percentile(*percent)?.into())))
        .collect();
    (blocks.used() > 0).then(|| {
        json!({
            "percentiles": percentiles,
            "states": {
                "unwritten": blocks.in_state(BlockState::Untouched),
                "trimmed": blocks.in_state(BlockState::Trimmed),
                // fio has the name and never counts any.
                "written": 0,
                "trim failure": blocks.in_state(BlockState::TrimFailed),
                "write failure": blocks.in_state(BlockState::WriteFailed),
            },
        })
    })
}
