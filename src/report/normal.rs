//! The report for people: the answer in the first lines of each job, details below, what is empty
//! left out.

use crate::base::units::{format_count, format_size, format_time_ns};
use crate::base::{Op, Status};
use crate::stats::{ErrorCount, Histogram, WorkerStats};

use super::device;
use super::figures::{
    FINE_BATCH_NAMES, GroupTotal, bandwidth, busy_percent, cpu_percent, groups_of, iops, jobs_of, runtime_ns,
    shares, was_used,
};
use super::text::{self, counted, printable, rounded, shortened, span, wrapped};
use super::trigger;
use super::{Format, IntervalSummary, JobReport, ReactorReport, Report, TargetReport, options, verify};

/// fio's name for what people read.
pub(super) const FORMAT: Format = Format { name: "normal", doc: "for people", render };

/// No line is longer.
const WIDTH: usize = 110;
const DEPTH_RANGES: [&str; 7] = ["1", "2-3", "4-7", "8-15", "16-31", "32-63", ">=64"];
/// Longest list of names in a line that is shown in full.
const NAMES_SHOWN: usize = 3;
/// Most targets that are described.
const TARGETS_SHOWN: usize = 8;

fn render(report: &Report) -> String {
    let mut out = header(report);
    for job in &report.jobs {
        out.push('\n');
        out.push_str(&job_text(report, job));
    }
    for group in groups_of(report) {
        out.push_str(&group_text(report, group));
    }
    if let Some(fired) = &report.trigger {
        out.push_str(&trigger::text(fired, WIDTH));
    }
    if !report.reactors.is_empty() {
        out.push_str("\nreactors:\n");
        report.reactors.iter().for_each(|reactor| out.push_str(&reactor_text(reactor)));
    }
    out
}

fn header(report: &Report) -> String {
    let mut first = format!(
        "fio-spdk {}, started {} UTC",
        env!("CARGO_PKG_VERSION"),
        text::calendar(report.started_unix_ms)
    );
    if report.unfinished {
        let tenths = report.time_unix_ms.saturating_sub(report.started_unix_ms) / 100;
        first.push_str(&format!(", so far, after {}", span(tenths.saturating_mul(100_000_000))));
    }
    if let Some(signal) = report.ended_by_signal {
        first.push_str(&format!(", ENDED BY SIGNAL {signal}"));
    }
    let mut out = wrapped("", &first, WIDTH) + &trouble_text(report);
    for note in &report.notes {
        out.push_str(&wrapped("note: ", &printable(note), WIDTH));
    }
    for target in report.targets.iter().take(TARGETS_SHOWN) {
        out.push_str(&wrapped("target: ", &target_text(target), WIDTH));
        for sentence in target.nvme.iter().flat_map(device::sentences) {
            out.push_str(&wrapped("  ", &printable(&sentence), WIDTH));
        }
    }
    if report.targets.len() > TARGETS_SHOWN {
        out.push_str(&format!("target: and {} more\n", report.targets.len() - TARGETS_SHOWN));
    }
    out
}

/// What went wrong in all, up where nobody misses it; nothing if nothing did.
fn trouble_text(report: &Report) -> String {
    let errors = report.jobs.iter().flat_map(|job| job.stats.errors()).map(|error| error.count).sum();
    let failed: Vec<&str> =
        report.jobs.iter().filter(|job| job.error.is_some()).map(|job| job.name.as_str()).collect();
    let mut parts = verify::troubles(report);
    if !failed.is_empty() {
        let jobs = counted(failed.len() as u64, "job", "jobs");
        let names: Vec<String> =
            failed.iter().take(NAMES_SHOWN).map(|name| shortened(&printable(name), 40)).collect();
        parts.push(format!("{jobs} failed ({}{})", names.join(", "), more(failed.len(), NAMES_SHOWN)));
    }
    if errors > 0 {
        parts.push(format!("{} ended with an error", counted(errors, "I/O", "I/Os")));
    }
    if parts.is_empty() { String::new() } else { wrapped("TROUBLE: ", &parts.join(", "), WIDTH) }
}

fn more(all: usize, shown: usize) -> String {
    if all > shown { format!(" and {} more", all - shown) } else { String::new() }
}

fn target_text(target: &TargetReport) -> String {
    let mut parts = vec![format_size(target.size_bytes)];
    if let Some(device) = &target.device {
        parts.insert(0, device.model.as_deref().unwrap_or(&device.name).trim().to_owned());
        parts.extend(device.firmware.as_ref().map(|revision| format!("firmware {}", revision.trim())));
        parts.push(format!("LBA {}", device.lba_bytes));
        parts.extend(device.numa_node.map(|node| format!("NUMA {node}")));
        parts.extend(device.write_cache.clone());
    }
    printable(&format!("{}: {}", target.path, parts.join(", ")))
}

fn job_text(report: &Report, job: &JobReport) -> String {
    let name = shortened(&printable(&job.name), 40);
    let mut out = match &job.error {
        Some(error) => {
            let reason = printable(&error.message);
            let failed = format!("{name}: FAILED: {reason} (error {})", error.errno);
            wrapped("", &failed, WIDTH) + &wrapped("  ", &setting(job), WIDTH)
        }
        None => wrapped("", &format!("{name}: {}", setting(job)), WIDTH),
    };
    let stats = &job.stats;
    stats.errors().for_each(|error| out.push_str(&wrapped("  ERRORS: ", &error_text(error), WIDTH)));
    for (op, counts) in stats.ops.iter().filter(|(_, counts)| was_used(counts)) {
        out.push_str(&op_text(report, job, op));
        let latency = &counts.latency;
        let rows = if latency.slat.count() == 0 {
            // Without a submission time both are the same.
            vec![("clat=lat", &latency.lat)]
        } else {
            vec![("slat", &latency.slat), ("clat", &latency.clat), ("lat", &latency.lat)]
        };
        out.push_str(&latency_table(&rows));
        // Since each was due; a table of its own, as it may be of another order.
        out.push_str(&latency_table(&[("resp", &latency.response)]));
        out.push_str(&rate_text(job, op));
        out.push_str(&interval_text(job.intervals.get(op)));
    }
    if stats.flush.count() > 0 {
        out.push_str(&format!("   sync: {}\n", counted(stats.flush.count(), "flush", "flushes")));
        out.push_str(&latency_table(&[("lat", &stats.flush)]));
    }
    out.push_str(&depth_text(job));
    if stats.total_ios() == 0 && stats.flush.count() == 0 {
        out.push_str("  no I/O was completed\n");
    }
    if let Some(tally) = &job.verify {
        out.push_str(&verify::text(job, tally, WIDTH));
    }
    out.push_str(&load_text(job));
    out
}

/// Below this share of what it demands a rate was not kept.
const KEPT: f64 = 0.97;

/// A rate that the device did not keep up with: what was never issued has no response time.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn rate_text(job: &JobReport, op: Op) -> String {
    let (spec, pace) = (&job.spec, &job.spec.pace);
    let iops = u64::from(*pace.rate_iops.get(op)) * u64::from(spec.bs.get(op).min());
    let rate = if *pace.rate.get(op) > 0 { *pace.rate.get(op) } else { iops };
    let demanded = rate as f64 * f64::from(job.workers);
    let reached = bandwidth(&job.stats, op);
    // A group of several jobs has no rate of its own.
    if demanded == 0.0 || job.workers > spec.numjobs || reached >= KEPT * demanded {
        return String::new();
    }
    let (reached, demanded) = (text::bandwidth(reached), text::bandwidth(demanded));
    let line = format!("{reached} of {demanded}: I/Os fell due that were not issued in time, or at all");
    wrapped("    RATE NOT KEPT: ", &line, WIDTH)
}

/// The depth that `latency_target` allows.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn depth_text(job: &JobReport) -> String {
    let Some(found) = job.stats.depth_found else { return String::new() };
    let pace = &job.spec.pace;
    let target = format_time_ns(pace.latency_target_ns as f64);
    let of = if job.workers > 1 { " a worker, the least of them" } else { "" };
    let end = match (found.is_settled, pace.latency_run) {
        (false, false) => "; the job ended before the search did",
        _ => "",
    };
    let line =
        format!("{}% of I/Os within {target}: depth {}{of}{end}", pace.latency_percentile, found.depth);
    wrapped("  latency target: ", &line, WIDTH)
}

/// What the job does, in the words of its options.
fn setting(job: &JobReport) -> String {
    let spec = &job.spec;
    let mut parts = vec![options::rw_name(spec)];
    parts.push(format!("bs={}", options::bs_text(spec)));
    parts.push(spec.ioengine.clone());
    parts.push(format!("iodepth={}", spec.iodepth));
    let workers = counted(u64::from(job.workers), "worker", "workers");
    let shown = spec.filename.iter().take(NAMES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let place = match (&spec.directory, shown.is_empty()) {
        (_, false) => format!("{workers} on {shown}{}", more(spec.filename.len(), NAMES_SHOWN)),
        (Some(directory), true) => format!("{workers} in {}", directory.display()),
        (None, true) => workers,
    };
    parts.push(place);
    printable(&parts.join(", "))
}

fn op_text(report: &Report, job: &JobReport, op: Op) -> String {
    let stats = &job.stats;
    let counts = stats.ops.get(op);
    let mut line = format!(
        "IOPS={}, BW={}, {} in {}",
        format_count(iops(stats, op)),
        text::bandwidth(bandwidth(stats, op)),
        format_size(counts.bytes),
        span(runtime_ns(stats, op)),
    );
    if report.unfinished {
        line.push_str(" so far");
    }
    if counts.short_ios > 0 {
        line.push_str(&format!(", {} short", counts.short_ios));
    }
    if counts.failed > 0 {
        line.push_str(&format!(", {} FAILED", counts.failed));
    }
    wrapped(&format!("  {:>5}: ", op.name()), &line, WIDTH)
}

fn error_text(error: &ErrorCount) -> String {
    let status: Status = error.status;
    let mut text = format!("{} x {} {status}", error.count, error.op.name());
    if error.op != Op::Flush {
        text.push_str(&format!(", first at offset {}", error.first_offset));
    }
    text
}

/// A unit for a whole table, so that a column of numbers can be compared by their lengths.
struct Unit {
    heading: &'static str,
    ns: f64,
    decimals: usize,
}

impl Unit {
    fn of(typical_ns: u64) -> Unit {
        match typical_ns {
            0..10_000 => Unit { heading: "latency ns", ns: 1.0, decimals: 0 },
            10_000..100_000 => Unit { heading: "latency us", ns: 1e3, decimals: 2 },
            100_000..10_000_000 => Unit { heading: "latency us", ns: 1e3, decimals: 1 },
            _ => Unit { heading: "latency ms", ns: 1e6, decimals: 3 },
        }
    }

    fn cell(&self, ns: f64) -> String {
        let text = format!("{:.*}", self.decimals, ns / self.ns);
        if text.len() <= 10 { text } else { format!("{:.2e}", ns / self.ns) }
    }
}

fn latency_table(rows: &[(&str, &Histogram)]) -> String {
    let rows: Vec<_> = rows.iter().filter(|(_, histogram)| histogram.count() > 0).collect();
    let Some((_, whole)) = rows.last() else { return String::new() };
    let unit = Unit::of(whole.percentile(50.0));
    let heads = ["mean", "stdev", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let mut lines = vec![(unit.heading, heads.map(str::to_owned))];
    #[expect(clippy::cast_precision_loss, reason = "at most eleven characters are printed")]
    for (label, histogram) in rows {
        let at = |percent: f64| unit.cell(histogram.percentile(percent) as f64);
        let (mean, stddev) = (unit.cell(histogram.mean()), unit.cell(histogram.stddev()));
        let max = unit.cell(histogram.max() as f64);
        lines.push((label, [mean, stddev, at(50.0), at(90.0), at(99.0), at(99.9), at(99.99), max]));
    }
    let widths: [usize; 8] =
        std::array::from_fn(|column| lines.iter().map(|(_, cells)| cells[column].len()).max().unwrap_or(0));
    let mut out = String::new();
    for (label, cells) in &lines {
        let cells: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:>width$}", width = width.max(6)))
            .collect();
        out.push_str(&format!("    {label:>10}  {}\n", cells.join("  ")));
    }
    out
}

fn interval_text(intervals: &IntervalSummary) -> String {
    if intervals.samples == 0 {
        return String::new();
    }
    let (bw, io) = (intervals.bandwidth, intervals.iops);
    let deviation = if bw.mean > 0.0 { bw.stddev * 100.0 / bw.mean } else { 0.0 };
    let (scale, unit) = if bw.max < 1_048_576.0 { (1024.0, "KiB/s") } else { (1_048_576.0, "MiB/s") };
    let line = format!(
        "{}: BW {} to {}{unit}, mean {}, stdev {} ({deviation:.1}%); IOPS {} to {}",
        counted(intervals.samples, "interval", "intervals"),
        rounded(bw.min / scale),
        rounded(bw.max / scale),
        rounded(bw.mean / scale),
        rounded(bw.stddev / scale),
        format_count(io.min),
        format_count(io.max),
    );
    wrapped("    ", &line, WIDTH)
}

/// Depths, batches and processor time: how the load was made.
fn load_text(job: &JobReport) -> String {
    let stats: &WorkerStats = &job.stats;
    let mut out = String::new();
    let distributions = [
        ("depth", share_list(&DEPTH_RANGES, &shares(&stats.depth_at_submit))),
        ("I/Os a doorbell", share_list(&FINE_BATCH_NAMES, &shares(stats.batch_submit.levels()))),
        ("I/Os a reap", share_list(&FINE_BATCH_NAMES, &shares(stats.batch_complete.levels()))),
    ];
    // One at a time there is nothing to distribute.
    let shown = if job.spec.iodepth > 1 { distributions.as_slice() } else { &[] };
    for (name, list) in shown.iter().filter(|(_, list)| !list.is_empty()) {
        out.push_str(&wrapped(&format!("  {name}: "), list, WIDTH));
    }
    if job.cpu.elapsed_ns > 0 {
        let (usr, sys) = cpu_percent(&job.cpu);
        let mut line = format!("usr {usr:.1}%, sys {sys:.1}%, ");
        line.push_str(&counted(job.cpu.context_switches, "context switch", "context switches"));
        if job.cpu.major_faults > 0 {
            line.push_str(&format!(", {}", counted(job.cpu.major_faults, "major fault", "major faults")));
        }
        out.push_str(&wrapped("  cpu: ", &line, WIDTH));
    }
    out
}

fn share_list(names: &[&str], shares: &[f64]) -> String {
    let parts: Vec<String> = names
        .iter()
        .zip(shares)
        .filter(|(_, share)| **share > 0.0)
        .map(
            |(name, share)| {
                if *share < 0.1 { format!("{name}<0.1%") } else { format!("{name}={share:.1}%") }
            },
        )
        .collect();
    parts.join(", ")
}

fn group_text(report: &Report, group: u32) -> String {
    let jobs = jobs_of(report, group).count();
    if jobs < 2 {
        return String::new();
    }
    let mut out = format!("\ngroup {group}, {jobs} jobs together:\n");
    for op in Op::ADDRESSED {
        let Some(total) = GroupTotal::of(report, group, op) else { continue };
        let (min, max) =
            (rounded(total.min_bandwidth / 1_048_576.0), rounded(total.max_bandwidth / 1_048_576.0));
        let spread = if total.jobs > 1 { format!("{min} to {max}MiB/s a job, ") } else { String::new() };
        let (shortest, longest) = (span(total.min_runtime_ns), span(total.max_runtime_ns));
        let line = format!(
            "IOPS={}, BW={}, {spread}{} in {}",
            format_count(total.iops()),
            text::bandwidth(total.bandwidth()),
            format_size(total.bytes),
            if shortest == longest { longest } else { format!("{shortest} to {longest}") },
        );
        out.push_str(&wrapped(&format!("  {:>5}: ", op.name().to_uppercase()), &line, WIDTH));
    }
    out
}

fn reactor_text(reactor: &ReactorReport) -> String {
    let place = reactor.cpu.map_or_else(|| "unpinned".to_owned(), |cpu| format!("cpu {cpu:>3}"));
    let busy = busy_percent(reactor)
        .map_or_else(|| "never turned".to_owned(), |busy| format!("{busy:.1}% of turns busy"));
    let (usr, sys) = cpu_percent(&reactor.cpu_use);
    let workers = printable(&reactor.workers.join(" "));
    shortened(&format!("  {place}: {busy}, usr {usr:.1}%, sys {sys:.1}%: {workers}"), WIDTH) + "\n"
}
