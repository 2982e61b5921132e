//! What a job says of power cuts: the snapshots it leaves, and what triggers a cut.

use std::path::PathBuf;

/// Snapshots of what was promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSpec {
    /// `verify_state_save`: leave one when the writing ends, for any reason.
    pub save: bool,
    /// `verify_state_load`: write nothing, judge by the snapshot that an earlier run left.
    pub load: bool,
    /// `verify_state_continue`: go on writing where the run that left a snapshot was cut off.
    pub go_on: bool,
    /// `state_dir`: where it lies; `None` for beside the job file.
    pub dir: Option<PathBuf>,
    /// `state_checkpoint`: leave one this often while the job runs, in nanoseconds; 0 never.
    pub checkpoint_ns: u64,
    /// `allow_foreign_state`: judge by, or go on from, a snapshot that another user owns.
    pub allow_foreign: bool,
    /// `detach`: a run that a server does goes on when its client is gone.
    pub detach: bool,
}

impl Default for StateSpec {
    fn default() -> StateSpec {
        StateSpec {
            save: true,
            load: false,
            go_on: false,
            dir: None,
            checkpoint_ns: 0,
            allow_foreign: false,
            detach: false,
        }
    }
}

/// What is done with the load when a trigger has fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TriggerMode {
    /// Nothing more is issued.
    #[default]
    Stop,
    /// The device stays under full load while the command runs.
    Continue,
}

/// When a trigger fires, and what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriggerSpec {
    /// `trigger`: the command, for `sh -c`.
    pub command: Option<String>,
    /// `trigger_remote`: the command that the server runs, for `sh -c`.
    pub remote: Option<String>,
    /// `trigger_file`: when this file appears; it is removed.
    pub file: Option<PathBuf>,
    /// `trigger_timeout`: at a random moment between these times after the start, in nanoseconds.
    pub timeout_ns: Option<(u64, u64)>,
    /// `trigger_ios`: when so many I/Os have completed, over all workers.
    pub ios: Option<u64>,
    /// `trigger_seed`: what the random moment comes from; `None` draws one.
    pub seed: Option<u64>,
    /// `trigger_mode`.
    pub mode: TriggerMode,
    /// `trigger_always`: the command runs even if the snapshot could not be stored.
    pub always: bool,
}

impl TriggerSpec {
    /// Whether anything but a signal can fire it.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.file.is_some() || self.timeout_ns.is_some() || self.ios.is_some()
    }
}
