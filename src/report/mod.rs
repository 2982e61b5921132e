//! Results to text, JSON and the rest: data in, bytes out. Knows neither reactors nor engines.

mod data;

pub use data::{
    CpuUse, IntervalSummary, JobError, JobReport, RateSummary, ReactorReport, Report, TargetReport,
};
