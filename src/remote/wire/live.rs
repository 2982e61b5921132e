//! Progress, and what triggers and commands did.

use super::bench;
use crate::report::{CommandReport, TriggerReport};
use crate::run::Progress;

/// In the terms of the wire.
#[must_use]
pub fn progress_to(_progress: &Progress) -> bench::Progress {
    bench::Progress::default()
}

/// In our own.
#[must_use]
pub fn progress_from(_progress: &bench::Progress) -> Progress {
    Progress::default()
}

/// In the terms of the wire.
#[must_use]
pub fn trigger_to(_trigger: &TriggerReport) -> bench::TriggerReport {
    bench::TriggerReport::default()
}

/// In our own.
#[must_use]
pub fn trigger_from(_trigger: bench::TriggerReport) -> TriggerReport {
    TriggerReport::default()
}

/// In the terms of the wire.
#[must_use]
pub fn command_to(_command: &CommandReport) -> bench::CommandReport {
    bench::CommandReport::default()
}

/// In our own.
#[must_use]
pub fn command_from(_command: bench::CommandReport) -> CommandReport {
    CommandReport::default()
}
