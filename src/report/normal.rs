//! The report for people: the answer in the first lines of each job, details below, what is empty
//! left out.

use crate::base::units::{format_size, format_time_ns};
use crate::base::{Op, Status};
use crate::job::spec::{MeasuringSpec, Unified};
use crate::stats::{ErrorCount, Histogram, OpStats, WorkerStats};

use super::device;
use super::figures::{
    FINE_BATCH_NAMES, GroupTotal, Rates, busy_percent, cpu_percent, groups_of, jobs_of, mixed, per_second,
    runtime_ns, shares, waiting_percent, was_used,
};
use super::latency::{Row, latency_table};
use super::text::{self, Style, counted, printable, shortened, span, wrapped};
use super::trigger;
use super::{
    Format, IntervalSummary, JobReport, ReactorReport, Report, TargetReport, blocks, machine, options,
    steady, verify,
};

/// fio's name for what people read.
pub(super) const FORMAT: Format = Format { name: "normal", doc: "for people", render };

/// No line is longer.
pub(super) const WIDTH: usize = 110;
const DEPTH_RANGES: [&str; 7] = ["1", "2-3", "4-7", "8-15", "16-31", "32-63", ">=64"];
/// Longest list of names in a line that is shown in full.
pub(super) const NAMES_SHOWN: usize = 3;
/// From here on a reactor that waits for its CPU makes a measurement doubtful.
const STARVED_PERCENT: f64 = 5.0;
/// Most targets that are described.
const TARGETS_SHOWN: usize = 8;

pub(super) fn render(report: &Report) -> String {
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
    out.push_str(&machine::text(&report.machine, WIDTH));
    out.push_str(&verify::conclusion(report, WIDTH));
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
    if let Some(worst) = starved(report) {
        let warning = format!(
            "up to {worst:.0}% of the time other threads had the CPU of a reactor that could have run: what was \
             measured is this machine as busy as it was, and the device may do better"
        );
        out.push_str(&wrapped("note: ", &warning, WIDTH));
    }
    for note in &report.notes {
        out.push_str(&wrapped("note: ", &printable(note), WIDTH));
    }
    for target in report.targets.iter().take(TARGETS_SHOWN) {
        out.push_str(&wrapped("target: ", &target_text(target), WIDTH));
        for sentence in target.nvme.iter().flat_map(device::sentences) {
            out.push_str(&wrapped("  ", &printable(&sentence), WIDTH));
        }
        if let Some(premises) = &target.premises {
            out.push_str(&wrapped("  premises: ", &printable(&premises.line()), WIDTH));
        }
    }
    if report.targets.len() > TARGETS_SHOWN {
        out.push_str(&format!("target: and {} more\n", report.targets.len() - TARGETS_SHOWN));
    }
    out
}

/// How much of its time the worst of the reactors waited for its CPU, in percent, if that is too much.
fn starved(report: &Report) -> Option<f64> {
    let worst = report.reactors.iter().map(|reactor| waiting_percent(&reactor.cpu_use)).fold(0.0, f64::max);
    (worst > STARVED_PERCENT).then_some(worst)
}

/// What went wrong in all, up where nobody misses it; nothing if nothing did.
fn trouble_text(report: &Report) -> String {
    let parts = troubles(report);
    if parts.is_empty() { String::new() } else { wrapped("TROUBLE: ", &parts.join(", "), WIDTH) }
}

pub(super) fn troubles(report: &Report) -> Vec<String> {
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
    parts
}

pub(super) fn more(all: usize, shown: usize) -> String {
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
    out.push_str(&directions_text(report, job));
    out.push_str(&flush_text(job));
    out.push_str(&blocks::text(job, report.unfinished, WIDTH));
    out.push_str(&depth_text(job));
    if stats.total_ios() == 0 && stats.flush.count() == 0 {
        out.push_str("  no I/O was completed\n");
    }
    if let Some(tally) = &job.verify {
        out.push_str(&verify::text(job, tally, WIDTH));
    }
    if let Some(found) = &job.steady {
        out.push_str(&steady::text(&job.spec.measuring, found, report.unfinished, WIDTH));
    }
    out.push_str(&load_text(job));
    out
}

pub(super) fn flush_text(job: &JobReport) -> String {
    let (flush, measuring) = (&job.stats.flush, &job.spec.measuring);
    if flush.count() == 0 {
        return String::new();
    }
    let mut out = format!("   sync: {}\n", counted(flush.count(), "flush", "flushes"));
    if measuring.measures_clat() {
        let is_told = measuring.lat_percentiles || measuring.clat_percentiles;
        out.push_str(&latency_table(&[Row::new("lat", flush, is_told)], measuring, WIDTH));
    }
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
    let reached = per_second(job.stats.ops.get(op).bytes, runtime_ns(&job.stats, op));
    let time_ns = runtime_ns(&job.stats, op);
    // A group of several jobs has no rate of its own.
    if demanded == 0.0 || job.workers > spec.numjobs || time_ns == 0 {
        return String::new();
    }
    // Where chance says when I/Os fall due, so many of them are a rate that came out low.
    let due = demanded * time_ns as f64 / 1e9 / f64::from(spec.bs.get(op).min());
    let chance = if pace.poisson { 4.0 / due.max(1.0).sqrt() } else { 0.0 };
    if reached >= (KEPT - chance) * demanded {
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

/// Reads, writes and trims, or all in one, as `unified_rw_reporting` has it.
fn directions_text(report: &Report, job: &JobReport) -> String {
    let (stats, unified) = (&job.stats, job.spec.measuring.unified);
    let mut out = String::new();
    if unified != Unified::Mixed {
        for (op, counts) in stats.ops.iter().filter(|(_, counts)| was_used(counts)) {
            let rates = Rates::of(counts, runtime_ns(stats, op));
            out.push_str(&op_text(report.unfinished, &job.spec.measuring, op.name(), counts, &rates));
            out.push_str(&priorities_text(job, op));
            out.push_str(&rate_text(job, op));
            out.push_str(&interval_text(job.intervals.get(op), Style::of(&job.spec.measuring)));
        }
    }
    let counts = if unified == Unified::None { OpStats::default() } else { mixed(stats) };
    if was_used(&counts) {
        let rates = Rates::of(&counts, stats.runtime_ns());
        out.push_str(&op_text(report.unfinished, &job.spec.measuring, "mixed", &counts, &rates));
        out.push_str(&interval_text(&job.mixed_intervals, Style::of(&job.spec.measuring)));
    }
    out
}

/// Completion latencies by the priority that commands carried, as class, level and hint.
fn priorities_text(job: &JobReport, op: Op) -> String {
    let told = job.stats.by_priority.iter().flat_map(|all| all.told(op));
    let named: Vec<(String, &Histogram)> = told
        .map(|(priority, clat)| {
            (format!("prio {}/{}/{}", priority.class(), priority.level(), priority.hint()), clat)
        })
        .collect();
    let measuring = &job.spec.measuring;
    let is_told = measuring.clat_percentiles;
    let rows: Vec<Row<'_>> = named.iter().map(|(name, clat)| Row::new(name, clat, is_told)).collect();
    latency_table(&rows, measuring, WIDTH)
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

/// One direction: `unfinished` if it goes on.
pub(super) fn op_text(
    unfinished: bool,
    measuring: &MeasuringSpec,
    name: &str,
    counts: &OpStats,
    rates: &Rates,
) -> String {
    let style = Style::of(measuring);
    let mut line = format!(
        "IOPS={}, BW={}, {} in {}",
        style.count(rates.iops),
        style.bandwidth(rates.bandwidth),
        format_size(counts.bytes),
        span(rates.time_ns),
    );
    if unfinished {
        line.push_str(" so far");
    }
    if counts.short_ios > 0 {
        line.push_str(&format!(", {} short", counts.short_ios));
    }
    if counts.failed > 0 {
        line.push_str(&format!(", {} FAILED", counts.failed));
    }
    let (slat, clat, lat) = (&counts.latency.slat, &counts.latency.clat, &counts.latency.lat);
    let rows = if slat.count() == 0 && measuring.measures_slat() && clat.count() == lat.count() {
        // Without a submission time both are the same.
        vec![Row::new("clat=lat", lat, measuring.clat_percentiles || measuring.lat_percentiles)]
    } else {
        vec![
            Row::new("slat", slat, measuring.slat_percentiles),
            Row::new("clat", clat, measuring.clat_percentiles),
            Row::new("lat", lat, measuring.lat_percentiles),
        ]
    };
    // Since each was due; a table of its own, as it may be of another order.
    let response = Row::new("resp", &counts.latency.response, true);
    wrapped(&format!("  {name:>5}: "), &line, WIDTH)
        + &latency_table(&rows, measuring, WIDTH)
        + &latency_table(&[response], measuring, WIDTH)
}

pub(super) fn error_text(error: &ErrorCount) -> String {
    let status: Status = error.status;
    let mut text = format!("{} x {} {status}", error.count, error.op.name());
    if error.op != Op::Flush {
        text.push_str(&format!(", first at offset {}", error.first_offset));
    }
    text
}

fn interval_text(intervals: &IntervalSummary, style: Style) -> String {
    if intervals.samples == 0 {
        return String::new();
    }
    let (bw, io) = (intervals.bandwidth, intervals.iops);
    let deviation = if bw.mean > 0.0 { bw.stddev * 100.0 / bw.mean } else { 0.0 };
    let (scale, unit) = style.scale(bw.max);
    let io = format!("IOPS {} to {}", style.count(io.min), style.count(io.max));
    let intervals_text = counted(intervals.samples, "interval", "intervals");
    if intervals.bandwidth_samples == 0 {
        return wrapped("    ", &format!("{intervals_text}: {io}"), WIDTH);
    }
    let line = format!(
        "{}: BW {} to {}{unit}, mean {}, stdev {} ({deviation:.1}%); {io}",
        intervals_text,
        style.number(bw.min * scale),
        style.number(bw.max * scale),
        style.number(bw.mean * scale),
        style.number(bw.stddev * scale),
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
    let style = jobs_of(report, group).next().map_or(Style::USUAL, |job| Style::of(&job.spec.measuring));
    let mut out = format!("\ngroup {group}, {jobs} jobs together:\n");
    for op in Op::ADDRESSED {
        let Some(total) = GroupTotal::of(report, group, op) else { continue };
        let (scale, unit) = style.scale(f64::INFINITY);
        let (min, max) =
            (style.number(total.min_bandwidth * scale), style.number(total.max_bandwidth * scale));
        let spread = if total.jobs > 1 { format!("{min} to {max}{unit} a job, ") } else { String::new() };
        let (shortest, longest) = (span(total.min_runtime_ns), span(total.max_runtime_ns));
        let line = format!(
            "IOPS={}, BW={}, {spread}{} in {}",
            style.count(total.iops()),
            style.bandwidth(total.bandwidth()),
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
    let waiting = waiting_percent(&reactor.cpu_use);
    let waited = if waiting >= 0.1 { format!(", waited {waiting:.1}% for its CPU") } else { String::new() };
    let unpinned = match reactor.unpinned_ns {
        0 => String::new(),
        ns => format!(", NOT PINNED for {}", span(ns)),
    };
    let what = format!("{busy}{unpinned}, usr {usr:.1}%, sys {sys:.1}%{waited}");
    shortened(&format!("  {place}: {what}: {workers}"), WIDTH) + "\n"
}
