//! fio's JSON of a client: `client_stats` has the jobs of all servers, and all of them as one in the last
//! entry. `servers` has what each sent, whole.

use serde_json::{Value, json};

use crate::base::PerOp;
use crate::job::JobSpec;
use crate::report::json::{document, job_object, set_rates};
use crate::report::machine;
use crate::report::text;
use crate::report::{CpuUse, IntervalSummary, JobReport, MachineReport, Report};
use crate::stats::WorkerStats;

use super::together::{NAME, Together};
use super::{Fleet, ServerFailure, ServerReport};

/// What the merged entry has none of: its jobs are not one job.
const OF_ONE_JOB: [&str; 9] = [
    "eta",
    "job options",
    "latency_depth",
    "latency_target",
    "latency_target_ns",
    "latency_percentile",
    "latency_window",
    "latency_window_us",
    "steadystate",
];

pub(super) fn render(fleet: &Fleet, bins: bool) -> String {
    let whole = match fleet.servers.as_slice() {
        [only] => of_one(only, bins),
        _ => of_several(fleet, bins),
    };
    format!("{whole:#}\n")
}

/// As on this machine, and which server each job ran on.
fn of_one(server: &ServerReport, bins: bool) -> Value {
    let Some(report) = &server.report else { return Value::Null };
    let mut whole = document(report, bins);
    for job in whole["jobs"].as_array_mut().into_iter().flatten() {
        place(job, server);
    }
    if let (Some(failure), Some(notes)) = (&server.failure, whole["fio-spdk"]["notes"].as_array_mut()) {
        notes.insert(0, format!("{}: FAILED: {}", server.name, failure.message).into());
    }
    whole
}

fn of_several(fleet: &Fleet, bins: bool) -> Value {
    let mut jobs: Vec<Value> = fleet.servers.iter().flat_map(|server| jobs_of(server, bins)).collect();
    jobs.push(of_all(fleet, bins));
    let disks: Vec<Value> = fleet.servers.iter().flat_map(disks_of).collect();
    let ended_by_signal = fleet.servers.iter().find_map(|server| server.report.as_ref()?.ended_by_signal);
    json!({
        "fio version": concat!("fio-spdk-", env!("CARGO_PKG_VERSION")),
        "timestamp": fleet.time_unix_ms / 1000,
        "timestamp_ms": fleet.time_unix_ms,
        "time": text::calendar(fleet.time_unix_ms),
        "global options": {},
        "client_stats": jobs,
        "disk_util": disks,
        "servers": fleet.servers.iter().map(|server| server_object(server, bins)).collect::<Vec<_>>(),
        "fio-spdk": {
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("FIO_SPDK_COMMIT"),
            "started_ms": fleet.started_unix_ms,
            "unfinished": fleet.unfinished,
            "ended_by_signal": ended_by_signal,
            "notes": fleet.notes(),
        },
    })
}

fn server_object(server: &ServerReport, bins: bool) -> Value {
    json!({
        "name": server.name,
        "host": server.host,
        "port": server.port,
        "run": server.run,
        "error": server.failure.as_ref().map(|failure| &failure.message),
        "report": server.report.as_ref().map(|report| document(report, bins)),
    })
}

/// The entries of one server. One that sent nothing has its jobs with nothing in them, so that whoever sums
/// up finds the keys it looks for.
fn jobs_of(server: &ServerReport, bins: bool) -> Vec<Value> {
    let nothing;
    let report = match &server.report {
        Some(report) => report,
        None => {
            nothing = nothing_of(server);
            &nothing
        }
    };
    let mut objects: Vec<Value> = report.jobs.iter().map(|job| job_object(report, job, bins)).collect();
    for job in &mut objects {
        place(job, server);
        if let Some(failure) = &server.failure {
            fail(job, failure);
        }
    }
    objects
}

fn place(job: &mut Value, server: &ServerReport) {
    job["hostname"] = server.host.as_str().into();
    job["port"] = server.port.into();
}

/// An error of the job's own is nearer to the cause.
fn fail(job: &mut Value, failure: &ServerFailure) {
    if job["error"] == 0 {
        job["error"] = failure.errno.into();
        job["fio-spdk"]["error_message"] = failure.message.as_str().into();
    }
}

fn of_all(fleet: &Fleet, bins: bool) -> Value {
    let all = Together::of(fleet);
    let (job, rates) = match all {
        Some(all) => (all.job, Some((all.rates, all.mixed))),
        None => (empty_job(NAME), None),
    };
    let report = report_of(vec![job], fleet.started_unix_ms, fleet.time_unix_ms, fleet.unfinished);
    let mut object = job_object(&report, &report.jobs[0], bins);
    if let Value::Object(map) = &mut object {
        map.retain(|key, _| !OF_ONE_JOB.contains(&key.as_str()));
    }
    if let Some((rates, mixed)) = rates {
        let directions =
            [("read", &rates.read), ("write", &rates.write), ("trim", &rates.trim), ("mixed", &mixed)];
        for (name, rates) in directions {
            if object.get(name).is_some() {
                set_rates(&mut object[name], rates);
            }
        }
    }
    // Of none in particular; fio has the last one's.
    object["hostname"] = "".into();
    object["port"] = 0.into();
    if let Some(failure) = fleet.failed().find_map(|server| server.failure.as_ref()) {
        fail(&mut object, failure);
    }
    object
}

fn disks_of(server: &ServerReport) -> Vec<Value> {
    let Some(report) = &server.report else { return Vec::new() };
    let mut disks = machine::disks_object(&report.machine.disks);
    let mut disks: Vec<Value> = disks.as_array_mut().map(std::mem::take).unwrap_or_default();
    disks.iter_mut().for_each(|disk| place(disk, server));
    disks
}

fn nothing_of(server: &ServerReport) -> Report {
    let unknown = ["".to_owned()];
    let names = if server.jobs.is_empty() { &unknown[..] } else { &server.jobs };
    report_of(names.iter().map(|name| empty_job(name)).collect(), 0, 0, false)
}

fn report_of(jobs: Vec<JobReport>, started_unix_ms: u64, time_unix_ms: u64, unfinished: bool) -> Report {
    Report {
        time_unix_ms,
        started_unix_ms,
        unfinished,
        ended_by_signal: None,
        notes: Vec::new(),
        jobs,
        reactors: Vec::new(),
        targets: Vec::new(),
        job_toml: None,
        trigger: None,
        machine: MachineReport::default(),
    }
}

fn empty_job(name: &str) -> JobReport {
    JobReport {
        name: name.to_owned(),
        group: 0,
        workers: 0,
        spec: JobSpec { name: name.to_owned(), ..JobSpec::default() },
        started_unix_ms: 0,
        stats: WorkerStats::default(),
        intervals: PerOp::default(),
        mixed_intervals: IntervalSummary::default(),
        steady: None,
        cpu: CpuUse::default(),
        error: None,
        verify: None,
    }
}
