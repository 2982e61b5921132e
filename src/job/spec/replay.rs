//! Logs of I/Os: written, and replayed.

use std::path::PathBuf;

use crate::base::replay::ReplayRules;

/// Logs of I/Os: written, and replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplaySpec {
    /// `write_iolog`: what is issued is written down here.
    pub write: Option<PathBuf>,
    /// `read_iolog`: what is issued stands there; several are dealt to the clones.
    pub read: Vec<String>,
    /// `replay_no_stall` and its like.
    pub rules: ReplayRules,
    /// `merge_blktrace_file`: the logs are made one, which is put here.
    pub merge_into: Option<PathBuf>,
    /// `merge_blktrace_scalars`: percent of the times of each log.
    pub merge_scalars: Vec<f64>,
    /// `merge_blktrace_iters`: how often each log comes.
    pub merge_iterations: Vec<u32>,
}

impl ReplaySpec {
    /// Whether a log says what is issued.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.read.is_empty()
    }
}
