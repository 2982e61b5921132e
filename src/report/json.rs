//! fio's JSON, with fio's keys, units and nesting, and what more we know under `fio-spdk`. What a
//! job verified stands under `verify`, which fio does not have.

use serde_json::{Map, Value, json};

use crate::base::Op;
use crate::job::spec::{MeasuringSpec, Unified};
use crate::stats::{ErrorCount, Histogram, OpStats, WorkerStats};

use super::device;
use super::figures::{
    BATCH_NAMES, DEPTH_NAMES, FINE_BATCH_NAMES, LatencyLevel, Rates, busy_percent, cpu_percent, fio_batches,
    latency_levels, mixed, runtime_ns, share_of_group, shares, waiting_percent,
};
use super::premises::PremisesReport;
use super::trigger;
use super::{
    Format, IntervalSummary, JobReport, ReactorReport, Report, TargetReport, blocks, machine, options,
    steady, text, verify,
};

/// fio's `json`.
pub(super) const FORMAT: Format =
    Format { name: "json", doc: "for programs: fio's JSON, for fio-plot and others", render: plain };

/// fio's `json+`.
pub(super) const FORMAT_PLUS: Format =
    Format { name: "json+", doc: "the same with every bucket of the latencies", render: with_bins };

/// fio's default `percentile_list`.
pub(super) const PERCENTILES: [f64; 17] =
    [1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99];

fn plain(report: &Report) -> String {
    format!("{:#}\n", document(report, false))
}

fn with_bins(report: &Report) -> String {
    format!("{:#}\n", document(report, true))
}

pub(super) fn document(report: &Report, bins: bool) -> Value {
    let jobs: Vec<Value> = report.jobs.iter().map(|job| job_object(report, job, bins)).collect();
    let mut whole = json!({
        "fio version": concat!("fio-spdk-", env!("CARGO_PKG_VERSION")),
        "timestamp": report.time_unix_ms / 1000,
        "timestamp_ms": report.time_unix_ms,
        "time": text::calendar(report.time_unix_ms),
        // Our jobs are written with their globals resolved.
        "global options": {},
        "jobs": jobs,
        "disk_util": machine::disks_object(&report.machine.disks),
        "fio-spdk": own_object(report),
    });
    if let (Value::Object(map), Some(idleness)) = (&mut whole, &report.machine.idleness) {
        map.insert("cpu_idleness".to_owned(), machine::idleness_object(idleness, report.machine.each_cpu));
    }
    whole
}

fn own_object(report: &Report) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": env!("FIO_SPDK_COMMIT"),
        "started_ms": report.started_unix_ms,
        "unfinished": report.unfinished,
        "ended_by_signal": report.ended_by_signal,
        "notes": report.notes,
        "reactors": report.reactors.iter().map(reactor_object).collect::<Vec<_>>(),
        "targets": report.targets.iter().map(target_object).collect::<Vec<_>>(),
        "job_toml": report.job_toml,
        "trigger": report.trigger.as_ref().map(trigger::object),
    })
}

pub(super) fn job_object(report: &Report, job: &JobReport, bins: bool) -> Value {
    let stats = &job.stats;
    let (usr_cpu, sys_cpu) = cpu_percent(&job.cpu);
    let options: Map<String, Value> = options::job_options(&job.spec)
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    let [latency_ns, latency_us, latency_ms] = latency_levels(stats).map(|levels| level_object(&levels));
    let sought = job.spec.pace.latency_target_ns > 0;
    let latency_window_us = if sought { job.spec.pace.latency_window_ns / 1000 } else { 0 };
    let mut map = members(json!({
        "jobname": job.name,
        "groupid": job.group,
        "job_start": job.started_unix_ms,
        "error": job.error.as_ref().map_or(0, |error| error.errno),
        "eta": 0,
        "elapsed": report.time_unix_ms.saturating_sub(report.started_unix_ms).div_ceil(1000),
        "job options": options,
    }));
    directions(report, job, bins, &mut map);
    map.extend(members(json!({
        // fio sums the times of the workers that it merges.
        "job_runtime": milliseconds(stats.runtime_ns()) * u64::from(job.workers),
        "usr_cpu": number(usr_cpu),
        "sys_cpu": number(sys_cpu),
        "ctx": job.cpu.context_switches,
        "majf": job.cpu.major_faults,
        "minf": job.cpu.minor_faults,
        "iodepth_level": share_object(&DEPTH_NAMES, &shares(&stats.depth_at_submit)),
        "iodepth_submit": share_object(&BATCH_NAMES, &shares(&fio_batches(&stats.batch_submit))),
        "iodepth_complete": share_object(&BATCH_NAMES, &shares(&fio_batches(&stats.batch_complete))),
        "latency_ns": latency_ns,
        "latency_us": latency_us,
        "latency_ms": latency_ms,
        "latency_depth": stats.depth_found.map_or(job.spec.iodepth, |found| found.depth),
        "latency_target": job.spec.pace.latency_target_ns / 1000,
        "latency_target_ns": job.spec.pace.latency_target_ns,
        "latency_percentile": job.spec.pace.latency_percentile,
        "latency_window": latency_window_us,
        "latency_window_us": latency_window_us,
    })));
    if stats.paused_ns > 0 {
        map.insert("paused_ms".to_owned(), milliseconds(stats.paused_ns).into());
    }
    let goes_on = job.spec.continue_on_error;
    let lists = job.spec.order.ignore_error != Default::default();
    if goes_on.read || goes_on.write || goes_on.verify || lists {
        map.insert("total_err".to_owned(), errors_total(stats).into());
        map.insert("first_error".to_owned(), first_errno(stats).into());
    }
    if let Some(description) = &job.spec.description {
        map.insert("desc".to_owned(), description.as_str().into());
    }
    if let Some(blocks) = blocks::object(job, report.unfinished) {
        map.insert("block".to_owned(), blocks);
    }
    if let Some(tally) = &job.verify {
        map.insert("verify".to_owned(), verify::object(job, tally));
    }
    let spec = &job.spec.measuring.steady;
    if let Some(steady) = &job.steady {
        map.insert("steadystate".to_owned(), steady::object(spec, steady));
    }
    map.insert("fio-spdk".to_owned(), own_job_object(job));
    Value::Object(map)
}

fn own_job_object(job: &JobReport) -> Value {
    let stats = &job.stats;
    let mut map = members(json!({
        "workers": job.workers,
        "rw": options::rw_name(&job.spec),
        "error_message": job.error.as_ref().map(|error| &error.message),
        "errors": stats.errors().map(error_object).collect::<Vec<_>>(),
        "failed": {
            "read": stats.ops.read.failed,
            "write": stats.ops.write.failed,
            "trim": stats.ops.trim.failed,
        },
        "ios_per_doorbell": share_object(&FINE_BATCH_NAMES, &shares(stats.batch_submit.levels())),
        "ios_per_reap": share_object(&FINE_BATCH_NAMES, &shares(stats.batch_complete.levels())),
        "busy_turns": stats.busy_turns,
        "idle_turns": stats.idle_turns,
    }));
    if let Some(found) = &job.steady {
        map.insert("steadystate".to_owned(), steady::own_object(&job.spec.measuring.steady, found));
    }
    if let Some(found) = stats.depth_found {
        map.insert("depth_found".to_owned(), json!({ "depth": found.depth, "settled": found.is_settled }));
    }
    Value::Object(map)
}

/// Reads, writes, trims and flushes, or all in one, as `unified_rw_reporting` has it.
fn directions(report: &Report, job: &JobReport, bins: bool, map: &mut Map<String, Value>) {
    let unified = job.spec.measuring.unified;
    if unified != Unified::Mixed {
        for (name, op) in [("read", Op::Read), ("write", Op::Write), ("trim", Op::Deallocate)] {
            map.insert(name.to_owned(), op_object(report, job, op, bins));
        }
        map.insert("sync".to_owned(), sync_object(job, bins));
    }
    if unified != Unified::None {
        map.insert("mixed".to_owned(), mixed_object(report, job, bins));
    }
}

fn sync_object(job: &JobReport, bins: bool) -> Value {
    let (measuring, flush) = (&job.spec.measuring, &job.stats.flush);
    let is_told = measuring.lat_percentiles || measuring.clat_percentiles;
    // As in fio the latencies of flushes come and go with those of completion.
    let nothing = Histogram::default();
    let known = if measuring.measures_clat() { flush } else { &nothing };
    json!({
        "total_ios": flush.count(),
        "lat_ns": latency_object(known, percentiles_of(measuring, is_told), bins),
    })
}

/// The percentiles to report; `None` for none.
fn percentiles_of(measuring: &MeasuringSpec, is_told: bool) -> Option<&[f64]> {
    is_told.then(|| measuring.percentiles.as_deref().unwrap_or(&PERCENTILES))
}

fn op_object(report: &Report, job: &JobReport, op: Op, bins: bool) -> Value {
    let intervals = job.intervals.get(op);
    let share = share_of_group(report, job.group, &[op], intervals);
    let time_ns = runtime_ns(&job.stats, op);
    let measuring = &job.spec.measuring;
    let mut object = direction_object(measuring, (job.stats.ops.get(op), time_ns), (intervals, share), bins);
    let told = job.stats.by_priority.iter().flat_map(|all| all.told(op));
    let priorities: Vec<Value> = told
        .map(|(priority, clat)| {
            json!({
                "prioclass": priority.class(),
                "prio": priority.level(),
                "priohint": priority.hint(),
                "clat_ns": latency_object(clat, percentiles_of(measuring, measuring.clat_percentiles), bins),
            })
        })
        .collect();
    if !priorities.is_empty() {
        object["prios"] = priorities.into();
    }
    object
}

fn mixed_object(report: &Report, job: &JobReport, bins: bool) -> Value {
    let counts = mixed(&job.stats);
    let time_ns = if counts.ios == 0 { 0 } else { job.stats.runtime_ns() };
    let intervals = &job.mixed_intervals;
    let share = share_of_group(report, job.group, &Op::ADDRESSED, intervals);
    direction_object(&job.spec.measuring, (&counts, time_ns), (intervals, share), bins)
}

fn direction_object(
    measuring: &MeasuringSpec,
    (counts, time_ns): (&OpStats, u64),
    (intervals, share): (&IntervalSummary, f64),
    bins: bool,
) -> Value {
    let (bw, io) = (intervals.bandwidth, intervals.iops);
    let latency = |histogram: &Histogram, is_told: bool| {
        latency_object(histogram, percentiles_of(measuring, is_told), bins)
    };
    let mut object = json!({
        "io_bytes": counts.bytes,
        "io_kbytes": counts.bytes / 1024,
        "bw_bytes": 0,
        "bw": 0,
        "iops": 0.0,
        "runtime": 0,
        "total_ios": counts.ios,
        "short_ios": counts.short_ios,
        "drop_ios": 0,
        "slat_ns": latency(&counts.latency.slat, measuring.slat_percentiles),
        "clat_ns": latency(&counts.latency.clat, measuring.clat_percentiles),
        "lat_ns": latency(&counts.latency.lat, measuring.lat_percentiles),
        "bw_min": whole(bw.min / 1024.0),
        "bw_max": whole(bw.max / 1024.0),
        "bw_agg": number(share),
        "bw_mean": number(bw.mean / 1024.0),
        "bw_dev": number(bw.stddev / 1024.0),
        "bw_samples": intervals.bandwidth_samples,
        "iops_min": whole(io.min),
        "iops_max": whole(io.max),
        "iops_mean": number(io.mean),
        "iops_stddev": number(io.stddev),
        "iops_samples": intervals.samples,
    });
    set_rates(&mut object, &Rates::of(counts, time_ns));
    if counts.unmeasured > 0 {
        // Not fio's: in `total_ios`, and in no latency.
        object["unmeasured_ios"] = counts.unmeasured.into();
    }
    if let Value::Object(map) = &mut object
        && counts.latency.response.count() > 0
    {
        // Not fio's: since the moment at which a rate made them due.
        map.insert("response_ns".to_owned(), latency(&counts.latency.response, true));
    }
    object
}

/// Puts rates into the object of a direction.
pub(super) fn set_rates(direction: &mut Value, rates: &Rates) {
    direction["bw_bytes"] = whole(rates.bandwidth).into();
    direction["bw"] = whole(rates.bandwidth / 1024.0).into();
    direction["iops"] = number(rates.iops);
    direction["runtime"] = milliseconds(rates.time_ns).into();
}

/// Percentiles and bins of nothing are left out, as in fio.
fn latency_object(histogram: &Histogram, percentiles: Option<&[f64]>, bins: bool) -> Value {
    let mut map = Map::new();
    map.insert("min".to_owned(), histogram.min().into());
    map.insert("max".to_owned(), histogram.max().into());
    map.insert("mean".to_owned(), number(histogram.mean()));
    map.insert("stddev".to_owned(), number(histogram.stddev()));
    map.insert("N".to_owned(), histogram.count().into());
    if let Some(percentiles) = percentiles.filter(|_| histogram.count() > 0) {
        let percentiles: Map<String, Value> = percentiles
            .iter()
            .map(|percent| (format!("{percent:.6}"), histogram.percentile(*percent).into()))
            .collect();
        map.insert("percentile".to_owned(), percentiles.into());
        if bins {
            let bins: Map<String, Value> = histogram
                .buckets()
                .map(|bucket| (bucket.value_ns.to_string(), bucket.count.into()))
                .collect();
            map.insert("bins".to_owned(), bins.into());
        }
    }
    Value::Object(map)
}

fn share_object(names: &[&str], shares: &[f64]) -> Value {
    let map: Map<String, Value> =
        names.iter().zip(shares).map(|(name, share)| ((*name).to_owned(), number(*share))).collect();
    Value::Object(map)
}

fn level_object(levels: &[LatencyLevel]) -> Value {
    let map: Map<String, Value> =
        levels.iter().map(|level| (level.name.to_owned(), number(level.percent))).collect();
    Value::Object(map)
}

fn error_object(error: &ErrorCount) -> Value {
    json!({
        "op": error.op.name(),
        "status": error.status.name(),
        "errno": error.status.errno(),
        "nvme": error.status.nvme().map(|(sct, sc, dnr)| json!({
            "sct": sct,
            "sc": sc,
            "dnr": u8::from(dnr),
            "name": error.status.nvme_name(),
        })),
        "meaning": error.status.meaning(),
        "count": error.count,
        "first_offset": error.first_offset,
    })
}

fn reactor_object(reactor: &ReactorReport) -> Value {
    let (usr_cpu, sys_cpu) = cpu_percent(&reactor.cpu_use);
    let mut object = json!({
        "cpu": reactor.cpu,
        "workers": reactor.workers,
        "busy_percent": busy_percent(reactor).map(number),
        "busy_turns": reactor.busy_turns,
        "idle_turns": reactor.idle_turns,
        "usr_cpu": number(usr_cpu),
        "sys_cpu": number(sys_cpu),
        "waiting_percent": number(waiting_percent(&reactor.cpu_use)),
        "ctx": reactor.cpu_use.context_switches,
        "majf": reactor.cpu_use.major_faults,
        "minf": reactor.cpu_use.minor_faults,
    });
    if reactor.unpinned_ns > 0 {
        object["unpinned_ms"] = milliseconds(reactor.unpinned_ns).into();
    }
    object
}

fn target_object(target: &TargetReport) -> Value {
    let device = target.device.as_ref().map(|device| {
        json!({
            "name": device.name,
            "model": device.model,
            "serial": device.serial,
            "firmware": device.firmware,
            "size_bytes": device.size_bytes,
            "lba_bytes": device.lba_bytes,
            "numa_node": device.numa_node,
            "write_cache": device.write_cache,
        })
    });
    let nvme = target.nvme.as_ref().map(device::object);
    let premises = target.premises.as_ref().map(PremisesReport::object);
    json!({
        "path": target.path,
        "size_bytes": target.size_bytes,
        "device": device,
        "nvme": nvme,
        "premises": premises,
    })
}

fn errors_total(stats: &WorkerStats) -> u64 {
    stats.errors().map(|error| error.count).sum()
}

fn first_errno(stats: &WorkerStats) -> i32 {
    stats.first_error().map_or(0, |error| error.status.errno())
}

/// The members of an object.
fn members(object: Value) -> Map<String, Value> {
    if let Value::Object(map) = object { map } else { Map::new() }
}

/// JSON knows neither NaN nor infinity, and readers of fio's output expect a number.
pub(super) fn number(value: f64) -> Value {
    if value.is_finite() { value.into() } else { 0.0.into() }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; never negative")]
fn whole(value: f64) -> u64 {
    value as u64
}

/// fio's times of directions are in milliseconds, and readers divide by them.
fn milliseconds(ns: u64) -> u64 {
    if ns == 0 { 0 } else { (ns / 1_000_000).max(1) }
}
