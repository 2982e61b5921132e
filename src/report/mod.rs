//! Results to text, JSON and the rest: data in, bytes out. Knows neither reactors nor engines.

mod blocks;
mod data;
pub mod device;
pub mod exit;
mod figures;
pub mod fleet;
pub mod iolog;
mod json;
mod latency;
pub mod live;
mod machine;
mod normal;
mod options;
mod premises;
mod steady;
mod text;
mod trigger;
mod verify;

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) mod verify_tests;

pub use data::{
    CpuUse, IntervalSummary, JobError, JobReport, MachineReport, RateSummary, ReactorReport, Report,
    TargetReport,
};
pub use premises::{PremisesReport, atomic_object};
pub use steady::SteadyReport;
pub use text::{calendar, span};
pub use trigger::{CommandReport, TriggerReport};
pub use verify::finding_line;

/// A way to write a [`Report`].
pub struct Format {
    /// What `--output-format` calls it.
    pub name: &'static str,
    /// What it is good for.
    pub doc: &'static str,
    render: fn(&Report) -> String,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Format({})", self.name)
    }
}

/// Every format. A new one is a file and a line here.
pub static FORMATS: &[Format] = &[normal::FORMAT, json::FORMAT, json::FORMAT_PLUS];

/// The report in one format, ending in a newline.
#[must_use]
pub fn render(format: &Format, report: &Report) -> String {
    (format.render)(report)
}

/// Parses a list as in `normal,json`. A format named twice counts once.
///
/// # Errors
/// A sentence with the nearest name that exists.
pub fn parse_formats(list: &str) -> Result<Vec<&'static Format>, String> {
    let mut formats: Vec<&'static Format> = Vec::new();
    for name in list.split(',').map(str::trim) {
        let format = FORMATS.iter().find(|format| format.name == name).ok_or_else(|| unknown_format(name))?;
        if !formats.iter().any(|known| known.name == format.name) {
            formats.push(format);
        }
    }
    Ok(formats)
}

fn unknown_format(name: &str) -> String {
    let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
    let nearest = names
        .iter()
        .map(|known| (strsim::jaro_winkler(known, &name.to_ascii_lowercase()), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let all = names.join(", ");
    match nearest {
        Some((_, known)) => {
            format!("`{name}` is no output format: did you mean `{known}`? There are {all}")
        }
        None => format!("`{name}` is no output format: there are {all}"),
    }
}
