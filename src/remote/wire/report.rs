//! Reports.

use super::bench;
use crate::report::Report;

/// In the terms of the wire.
#[must_use]
pub fn encode(_report: &Report) -> bench::Report {
    bench::Report::default()
}

/// In our own.
///
/// # Errors
/// What is wrong with it.
pub fn decode(_report: &bench::Report) -> Result<Report, String> {
    Err("not a report".to_owned())
}
