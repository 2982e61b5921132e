//! One line of a report.

use super::{Reader, cpu_from, cpu_to, few, finite, stats, verify};
use crate::base::PerOp;
use crate::base::host::printable;
use crate::base::shape::Mix;
use crate::job::{self, JobSpec};
use crate::remote::wire::bench;
use crate::report::{IntervalSummary, JobError, JobReport, RateSummary, SteadyReport};
use crate::stats::{Round, SteadyFinding};

/// Options of a job: there are not so many.
const MOST_OPTIONS: usize = 4096;
/// Rounds of a search for steady state.
const MOST_ROUNDS: usize = 1 << 20;

pub(super) fn to(report: &JobReport) -> bench::JobReport {
    let intervals = |summary| Some(intervals_to(summary));
    bench::JobReport {
        name: report.name.clone(),
        group: report.group,
        workers: report.workers,
        job_toml: job::print(std::slice::from_ref(&report.spec)),
        options: report.spec.options.iter().map(option_to).collect(),
        replayed: replayed_to(&report.spec),
        started_unix_ms: report.started_unix_ms,
        stats: Some(stats::to(&report.stats)),
        read_intervals: intervals(&report.intervals.read),
        write_intervals: intervals(&report.intervals.write),
        trim_intervals: intervals(&report.intervals.trim),
        mixed_intervals: intervals(&report.mixed_intervals),
        steady: report.steady.as_ref().map(steady_to),
        cpu: Some(cpu_to(&report.cpu)),
        error: report.error.as_ref().map(|error| bench::JobError {
            errno: error.errno,
            message: error.message.clone(),
            is_missed: error.is_missed,
        }),
        verify: report.verify.as_ref().map(verify::to),
    }
}

pub(super) fn from(report: &bench::JobReport, reader: &mut Reader) -> Result<JobReport, String> {
    few("options", report.options.len(), MOST_OPTIONS)?;
    let mut intervals = |summary: Option<&bench::IntervalSummary>| intervals_from(summary, reader);
    Ok(JobReport {
        name: report.name.clone(),
        group: report.group,
        workers: report.workers,
        started_unix_ms: report.started_unix_ms,
        intervals: PerOp {
            read: intervals(report.read_intervals.as_ref())?,
            write: intervals(report.write_intervals.as_ref())?,
            trim: intervals(report.trim_intervals.as_ref())?,
        },
        mixed_intervals: intervals(report.mixed_intervals.as_ref())?,
        spec: spec_from(report, reader),
        stats: stats::from(report.stats.as_ref(), reader)?,
        steady: report.steady.as_ref().map(steady_from).transpose()?,
        cpu: cpu_from(report.cpu.as_ref(), reader)?,
        error: report.error.as_ref().map(|error| JobError {
            errno: error.errno,
            message: error.message.clone(),
            is_missed: error.is_missed,
        }),
        verify: report.verify.as_ref().map(|tally| verify::from(tally, reader)).transpose()?,
    })
}

fn option_to((name, value): &(String, String)) -> bench::Option {
    bench::Option { name: name.clone(), value: value.clone() }
}

/// What a log made of a job stands in no job file.
fn replayed_to(spec: &JobSpec) -> Option<bench::ReplayedMix> {
    match spec.mix {
        Mix::Replayed { reads, writes, trims } => {
            Some(bench::ReplayedMix { reads, writes, trims, random: spec.random })
        }
        _ => None,
    }
}

fn spec_from(report: &bench::JobReport, reader: &mut Reader) -> JobSpec {
    let (mut spec, left_out) = job::recall(&report.job_toml);
    for option in left_out {
        // A name that no job file may have is a name all the same.
        if option == "name" {
            spec.name.clone_from(&report.name);
            continue;
        }
        reader.note(format!(
            "job `{}`: this version cannot read its option `{}`: the report is told without it",
            printable(&report.name),
            printable(&option)
        ));
    }
    spec.options = report.options.iter().map(|one| (one.name.clone(), one.value.clone())).collect();
    if let Some(mix) = &report.replayed {
        spec.mix = Mix::Replayed { reads: mix.reads, writes: mix.writes, trims: mix.trims };
        spec.random = mix.random;
    }
    spec
}

fn intervals_to(summary: &IntervalSummary) -> bench::IntervalSummary {
    let rates = |rates: &RateSummary| bench::RateSummary {
        min: rates.min,
        max: rates.max,
        mean: rates.mean,
        stddev: rates.stddev,
    };
    bench::IntervalSummary {
        bytes_per_s: Some(rates(&summary.bandwidth)),
        bandwidth_samples: summary.bandwidth_samples,
        iops: Some(rates(&summary.iops)),
        iops_samples: summary.samples,
    }
}

fn intervals_from(
    summary: Option<&bench::IntervalSummary>,
    reader: &mut Reader,
) -> Result<IntervalSummary, String> {
    let Some(summary) = summary else { return Ok(IntervalSummary::default()) };
    let rates = |rates: Option<bench::RateSummary>| {
        let rates = rates.unwrap_or_default();
        let rate = |rate| finite("a rate", rate);
        Ok::<_, String>(RateSummary {
            min: rate(rates.min)?,
            max: rate(rates.max)?,
            mean: rate(rates.mean)?,
            stddev: rate(rates.stddev)?,
        })
    };
    Ok(IntervalSummary {
        bandwidth: rates(summary.bytes_per_s)?,
        iops: rates(summary.iops)?,
        bandwidth_samples: reader.count(summary.bandwidth_samples)?,
        samples: reader.count(summary.iops_samples)?,
    })
}

fn steady_to(steady: &SteadyReport) -> bench::SteadyReport {
    let round = |round: &Round| bench::Round {
        at_ns: round.at_ns,
        length_ns: round.length_ns,
        iops: round.iops,
        bytes_per_s: round.bandwidth,
        latency_ns: round.latency_ns,
    };
    bench::SteadyReport {
        rounds: steady.rounds.iter().map(round).collect(),
        dropped: steady.dropped,
        attained_ns: steady.attained_ns,
        finding: steady.finding.map(|finding| bench::SteadyFinding {
            mean: finding.mean,
            max_deviation: finding.max_deviation,
            slope: finding.slope,
            range: finding.range,
            excursion: finding.excursion,
            is_steady: finding.is_steady,
        }),
    }
}

fn steady_from(steady: &bench::SteadyReport) -> Result<SteadyReport, String> {
    few("rounds", steady.rounds.len(), MOST_ROUNDS)?;
    // Rounds are numbered from here.
    if u128::from(steady.dropped) > super::MOST_IN_ALL {
        return Err(format!("{} rounds were too many", steady.dropped));
    }
    let figure = |number| finite("a figure of the steady state", number);
    let round = |round: &bench::Round| {
        Ok::<_, String>(Round {
            at_ns: round.at_ns,
            length_ns: round.length_ns,
            iops: figure(round.iops)?,
            bandwidth: figure(round.bytes_per_s)?,
            latency_ns: figure(round.latency_ns)?,
        })
    };
    let finding = |finding: &bench::SteadyFinding| {
        Ok::<_, String>(SteadyFinding {
            mean: figure(finding.mean)?,
            max_deviation: figure(finding.max_deviation)?,
            slope: figure(finding.slope)?,
            range: figure(finding.range)?,
            excursion: figure(finding.excursion)?,
            is_steady: finding.is_steady,
        })
    };
    Ok(SteadyReport {
        rounds: steady.rounds.iter().map(round).collect::<Result<_, _>>()?,
        dropped: steady.dropped,
        attained_ns: steady.attained_ns,
        finding: steady.finding.as_ref().map(finding).transpose()?,
    })
}
