//! Whole reports: golden outputs, fio's keys, and any counts at all.

use proptest::prelude::*;
use serde_json::Value;

use crate::base::atomic::{AtomicSource, AtomicWrites};
use crate::base::host::DeviceSummary;
use crate::base::nvme::{ControllerFacts, DeviceFacts, LbaFormat, NamespaceFacts, PcieLink, Smart};
use crate::base::premises::{CacheSource, Flushes, Premises};
use crate::base::shape::{BlockSizes, Mix};
use crate::base::{Op, PerOp, Status};
use crate::job::JobSpec;
use crate::job::spec::ContinueOn;
use crate::stats::{LatencyStats, WorkerStats};

use super::{
    CpuUse, FORMATS, IntervalSummary, JobError, JobReport, MachineReport, PremisesReport, RateSummary,
    ReactorReport, Report, TargetReport, parse_formats, render,
};

const STARTED_MS: u64 = 1_795_238_631_483;
pub(super) const SECOND: u64 = 1_000_000_000;

pub(crate) fn spec(name: &str, mix: Mix, random: bool) -> JobSpec {
    JobSpec {
        name: name.to_owned(),
        ioengine: "io_uring".to_owned(),
        filename: vec!["/dev/nvme0n1".to_owned()],
        random,
        mix,
        runtime_ns: Some(10 * SECOND),
        time_based: true,
        numjobs: 4,
        iodepth: 32,
        iodepth_batch_submit: 1,
        iodepth_batch_complete_min: 0,
        iodepth_batch_complete_max: 32,
        iodepth_low: 32,
        direct: true,
        group_reporting: true,
        options: vec![("iodepth".to_owned(), "32".to_owned()), ("bs".to_owned(), "\"4k\"".to_owned())],
        ..JobSpec::default()
    }
}

pub(crate) fn job(spec: JobSpec, group: u32, stats: WorkerStats) -> JobReport {
    JobReport {
        name: spec.name.clone(),
        group,
        workers: 1,
        spec,
        started_unix_ms: STARTED_MS,
        stats,
        intervals: PerOp::default(),
        mixed_intervals: IntervalSummary::default(),
        steady: None,
        cpu: CpuUse::default(),
        error: None,
        verify: None,
    }
}

pub(crate) fn report(jobs: Vec<JobReport>) -> Report {
    Report {
        time_unix_ms: STARTED_MS + 10_004,
        started_unix_ms: STARTED_MS,
        unfinished: false,
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

/// `count` I/Os of 4 KiB around `clat_ns`, one in a thousand of them slow.
pub(super) fn count(stats: &mut WorkerStats, op: Op, ios: u64, clat_ns: u64, with_slat: bool) {
    let counts = stats.ops.get_mut(op);
    for i in 0..ios {
        let slat = if with_slat { 700 + i * 7919 % 997 } else { 0 };
        let spread = i * 7_368_787 % clat_ns;
        let clat = clat_ns / 2 + spread + if i % 1000 == 7 { clat_ns * 12 } else { 0 };
        record(&mut counts.latency, with_slat.then_some(slat), clat);
    }
    counts.ios += ios;
    counts.bytes += ios * 4096;
}

fn record(latency: &mut LatencyStats, slat: Option<u64>, clat: u64) {
    if let Some(slat) = slat {
        latency.slat.record(slat);
    }
    latency.clat.record(clat);
    latency.lat.record(slat.unwrap_or(0) + clat);
}

pub(super) fn from_to(start_ns: u64, end_ns: u64) -> WorkerStats {
    let mut stats = WorkerStats::default();
    (stats.start_ns, stats.end_ns) = (start_ns, end_ns);
    stats
}

fn intervals(rates: &[f64]) -> IntervalSummary {
    let bytes: Vec<f64> = rates.iter().map(|rate| rate * 4096.0).collect();
    IntervalSummary {
        bandwidth: RateSummary::of(&bytes),
        iops: RateSummary::of(rates),
        bandwidth_samples: rates.len() as u64,
        samples: rates.len() as u64,
    }
}

/// A drive whose health was read before and after.
pub(crate) fn facts() -> DeviceFacts {
    let before = Smart { kelvin: 310, used_percent: 3, unsafe_shutdowns: 40, ..Smart::default() };
    DeviceFacts {
        controller: ControllerFacts {
            model: "Samsung SSD 990 PRO 2TB".to_owned(),
            serial: "S7DNNJ0W000000".to_owned(),
            firmware: "4B2QJXD7".to_owned(),
            vendor_id: 0x144d,
            version: (2, 0, 0),
            mdts: 9,
            write_cache_present: true,
            write_cache_enabled: Some(true),
            atomic_blocks: 1024,
            atomic_power_fail_blocks: 8,
            dataset_management: true,
            ..ControllerFacts::default()
        },
        namespace: NamespaceFacts {
            nsid: 1,
            size_blocks: 3_907_029_168,
            formats: vec![LbaFormat { data_bytes: 512, metadata_bytes: 8, relative_performance: 1 }],
            eui64: [0, 0x25, 0x38, 0, 0, 0, 0, 1],
            ..NamespaceFacts::default()
        },
        link: Some(PcieLink {
            speed: Some("8.0 GT/s PCIe".to_owned()),
            width: Some(4),
            max_speed: Some("16.0 GT/s PCIe".to_owned()),
            max_width: Some(4),
        }),
        smart_before: Some(before),
        smart_after: Some(Smart {
            kelvin: 330,
            data_units_written: 4_000,
            host_writes: u128::MAX,
            media_errors: 2,
            ..before
        }),
        notes: Vec::new(),
    }
}

/// Two jobs in a group: one reads, one mixes, flushes and meets errors.
pub(crate) fn mixed() -> Report {
    let mut stats = from_to(5 * SECOND, 15 * SECOND);
    count(&mut stats, Op::Read, 144_213, 88_000, true);
    stats.depth_at_submit = [1, 2, 4, 8, 5000, 139_198, 0];
    (0..30_000).for_each(|_| stats.batch_submit.record(4));
    (0..24_213).for_each(|_| stats.batch_submit.record(1));
    (0..50_000).for_each(|i| stats.batch_complete.record(1 + i % 6));
    let mut reads = job(spec("fast reads", Mix::Read, true), 0, stats);
    reads.workers = 4;
    reads.intervals.read = intervals(&[14_300.0, 14_400.0, 14_560.0, 14_425.2]);
    reads.cpu = CpuUse {
        user_ns: 4 * SECOND,
        system_ns: 13 * SECOND,
        elapsed_ns: 40 * SECOND,
        context_switches: 13_529,
        major_faults: 0,
        minor_faults: 14,
        waiting_ns: 0,
    };

    let mut stats = from_to(5 * SECOND, 15 * SECOND);
    count(&mut stats, Op::Read, 7_000, 350_000, true);
    count(&mut stats, Op::Write, 3_000, 21_000, true);
    (0..90).for_each(|i| stats.flush.record(1_200_000 + i * 13_000));
    stats.depth_at_submit = [0, 0, 0, 0, 0, 10_000, 0];
    stats.record_error(Op::Write, Status::from_errno(28), 1 << 30);
    stats.record_error(Op::Write, Status::from_errno(28), 2 << 30);
    stats.record_error(Op::Read, Status::from_errno(61), 8192);
    stats.record_error(Op::Read, Status::from_nvme(2, 0x81, true), 12_288);
    let mut both = spec("mix", Mix::ReadWrite, true);
    both.bs.write = BlockSizes::Range { min: 512, max: 65_536 };
    both.continue_on_error = ContinueOn { read: true, write: true, verify: false };
    both.description = Some("half and half".to_owned());
    let both = job(both, 0, stats);

    let mut report = report(vec![reads, both]);
    report.notes = vec![
        "cpu 3 has a sibling that was busy".to_owned(),
        "the device has no volatile write cache according to the kernel: flushes complete at once, and what \
         they are said to cost is the cost of the way there"
            .to_owned(),
    ];
    report.reactors = vec![
        ReactorReport {
            cpu: Some(2),
            workers: vec!["fast reads.0".to_owned(), "fast reads.1".to_owned()],
            busy_turns: 50_000,
            idle_turns: 950_000,
            cpu_use: report.jobs[0].cpu,
            unpinned_ns: 0,
        },
        ReactorReport {
            cpu: None,
            workers: vec!["mix.0".to_owned()],
            busy_turns: 0,
            idle_turns: 0,
            cpu_use: CpuUse::default(),
            unpinned_ns: 0,
        },
    ];
    report.targets = vec![TargetReport {
        path: "/dev/nvme0n1".to_owned(),
        size_bytes: 2_000_398_934_016,
        device: Some(DeviceSummary {
            name: "nvme0n1".to_owned(),
            model: Some("Samsung SSD 990 PRO 2TB".to_owned()),
            serial: Some("S7DNNJ0W000000".to_owned()),
            firmware: Some("4B2QJXD7".to_owned()),
            size_bytes: 2_000_398_934_016,
            lba_bytes: 512,
            numa_node: Some(1),
            write_cache: Some("write back".to_owned()),
        }),
        nvme: Some(facts()),
        premises: Some(premises()),
    }];
    report.job_toml = Some("[[job]]\nname = \"fast reads\"\n".to_owned());
    report
}

fn premises() -> PremisesReport {
    PremisesReport::of(&Premises {
        volatile_cache: Some(true),
        cache_source: CacheSource::Feature,
        flushes: Flushes::WriteBack,
        atomic: AtomicWrites::up_to(16384, AtomicSource::Nawupf),
        ..Premises::default()
    })
}

/// A blocking engine in the middle of a run, and a job that failed before its first I/O.
pub(crate) fn unfinished() -> Report {
    let mut stats = from_to(SECOND, 4 * SECOND);
    count(&mut stats, Op::Write, 2_000, 12_000_000, false);
    count(&mut stats, Op::Deallocate, 500, 300, false);
    stats.ops.write.short_ios = 2;
    stats.depth_at_submit[0] = 2_500;
    let mut slow = spec("slow\x1b[2J", Mix::TrimWrite, false);
    slow.ioengine = "psync".to_owned();
    slow.iodepth = 1;
    slow.filename = (0..12).map(|i| format!("/mnt/data/a rather long name of a file {i}")).collect();
    let slow = job(slow, 0, stats);
    let mut failed = job(spec("late", Mix::Read, false), 1, WorkerStats::default());
    failed.error = Some(JobError {
        errno: 5,
        message: "read of 4096 bytes at offset 0: EIO".to_owned(),
        is_missed: false,
    });
    let mut report = report(vec![slow, failed]);
    report.time_unix_ms = STARTED_MS + 3_204;
    report.unfinished = true;
    report.ended_by_signal = Some(2);
    report
}

pub(crate) fn text_in(name: &str, report: &Report) -> String {
    render(parse_formats(name).unwrap()[0], report)
}

/// The output in the state of its golden file: without what every build changes.
pub(super) fn check_golden(file: &str, output: &str) {
    let version = env!("CARGO_PKG_VERSION");
    let output = output
        .replace(&format!("fio-spdk {version},"), "fio-spdk VERSION,")
        .replace(&format!("fio-spdk-{version}"), "fio-spdk-VERSION")
        .replace(&format!("\"version\": \"{version}\""), "\"version\": \"VERSION\"")
        .replace(env!("FIO_SPDK_COMMIT"), "COMMIT");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/golden").join(file);
    if std::fs::read_to_string(&path).unwrap_or_default() != output {
        let got = path.with_added_extension("new");
        std::fs::write(&got, &output).unwrap();
        panic!(
            "{} is not what is rendered: compare with {}, move it there if it is right",
            file,
            got.display()
        );
    }
}

#[test]
fn people_read_this() {
    check_golden("mixed.txt", &text_in("normal", &mixed()));
    check_golden("unfinished.txt", &text_in("normal", &unfinished()));
}

#[test]
fn a_reactor_without_its_cpu_is_told_before_any_figure() {
    let mut report = mixed();
    assert!(!text_in("normal", &report).contains("had the CPU"));
    report.reactors[0].cpu_use.waiting_ns = report.reactors[0].cpu_use.elapsed_ns / 4;
    let text = text_in("normal", &report);
    assert!(text.contains("note: up to 25% of the time other threads had the CPU"), "{text}");
    assert!(text.contains("waited 25.0% for its CPU: fast reads.0"), "{text}");
}

#[test]
fn programs_read_this() {
    check_golden("mixed.json", &text_in("json", &mixed()));
}

#[test]
fn formats_are_found_by_name_and_nearly() {
    let names = |list: &str| parse_formats(list).map(|all| all.iter().map(|f| f.name).collect::<Vec<_>>());
    assert_eq!(names("normal,json"), Ok(vec!["normal", "json"]));
    assert_eq!(names("json+, json+"), Ok(vec!["json+"]));
    assert!(names("jsn").unwrap_err().contains("did you mean `json`"));
    assert!(names("Normal").unwrap_err().contains("did you mean `normal`"));
    assert!(names("xml").unwrap_err().ends_with("there are normal, json, json+"));
    assert!(names("").is_err() && names("json,").is_err());
    assert_eq!(FORMATS.iter().map(|format| format.name).collect::<Vec<_>>(), ["normal", "json", "json+"]);
}

#[test]
fn nothing_at_all_renders() {
    let mut empty = report(vec![job(spec("idle", Mix::ReadWrite, true), 0, WorkerStats::default())]);
    for format in FORMATS {
        let text = render(format, &empty);
        assert!(!text.contains("NaN") && !text.contains(" inf"), "{text}");
    }
    empty.jobs.clear();
    for format in FORMATS {
        assert!(render(format, &empty).ends_with('\n'));
    }
}

#[test]
fn batches_of_four_stand_at_fios_four() {
    let mut stats = WorkerStats::default();
    [1, 4, 5, 64, 65].into_iter().for_each(|ios| stats.batch_submit.record(ios));
    let json = parsed("json", &report(vec![job(spec("j", Mix::Read, true), 0, stats)]));
    let submit = &json["jobs"][0]["iodepth_submit"];
    assert_eq!(
        ["0", "4", "8", "16", "32", "64", ">=64"].map(|level| submit[level].as_f64().unwrap().round()),
        [0.0, 40.0, 20.0, 0.0, 0.0, 20.0, 20.0]
    );
}

#[test]
fn latency_levels_include_their_lower_bound_only() {
    let mut stats = WorkerStats::default();
    // 1, 3 and 999 ns, 1 us, 3 s.
    for ns in [1, 3, 999, 1_000, 3_000_000_000] {
        stats.ops.read.latency.clat.record(ns);
    }
    let json = parsed("json", &report(vec![job(spec("j", Mix::Read, true), 0, stats)]));
    let job = &json["jobs"][0];
    for (table, level) in [
        ("latency_ns", "2"),
        ("latency_ns", "4"),
        ("latency_ns", "1000"),
        ("latency_us", "2"),
        ("latency_ms", ">=2000"),
    ] {
        assert_eq!(job[table][level], 20.0, "{table} {level}");
    }
}

pub(super) fn parsed(format: &str, report: &Report) -> Value {
    serde_json::from_str(&text_in(format, report)).unwrap()
}

/// Paths of keys, taken from a run of fio 3.42 with reads, writes and flushes.
const FIO_KEYS: &str = include_str!("golden/fio-keys.txt");

/// Follows a path of keys; the only job stands for `jobs`.
fn lookup<'a>(document: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(document, |value, key| {
        let inner = value.get(*key)?;
        if *key == "jobs" { inner.get(0) } else { Some(inner) }
    })
}

fn assert_fio_keys(document: &Value) {
    for line in FIO_KEYS.lines() {
        let path: Vec<&str> = line.split(" / ").collect();
        let parent = lookup(document, &path[..path.len().saturating_sub(2)]);
        let nothing_counted = parent.is_some_and(|parent| parent["N"] == 0);
        assert!(
            lookup(document, &path).is_some() || (line.contains("percentile /") && nothing_counted),
            "no key {line}"
        );
    }
}

/// Shares of one table must sum to 100 (or, of nothing, to 0).
fn assert_shares(table: &[&Value]) {
    let sum: f64 =
        table.iter().flat_map(|t| t.as_object().unwrap().values()).map(|v| v.as_f64().unwrap()).sum();
    assert!(sum == 0.0 || (sum - 100.0).abs() < 1e-6, "shares sum to {sum}");
}

pub(crate) fn any_stats() -> impl Strategy<Value = WorkerStats> {
    let nanoseconds = prop_oneof![0_u64..2_000, 0_u64..10_000_000, 0_u64..4_000_000_000_000];
    let io = (0_usize..3, any::<bool>(), nanoseconds.clone(), nanoseconds.clone(), any::<u32>());
    let error = (0_usize..4, 1_i32..200, any::<u64>());
    (
        prop::collection::vec(io, 0..60),
        prop::collection::vec(nanoseconds, 0..20),
        prop::collection::vec(error, 0..40),
        prop::array::uniform7(0_u64..1_000_000),
        prop::collection::vec(any::<u32>(), 0..30),
        (0_u64..1_000_000_000_000_000, 0_u64..1_000_000_000_000_000),
    )
        .prop_map(|(ios, flushes, errors, depth_at_submit, batches, (start_ns, end_ns))| {
            let mut stats = from_to(start_ns, end_ns);
            stats.depth_at_submit = depth_at_submit;
            for (op, with_slat, slat, clat, bytes) in ios {
                let counts = stats.ops.get_mut(Op::ADDRESSED[op]);
                record(&mut counts.latency, with_slat.then_some(slat), clat);
                counts.ios += 1;
                counts.bytes += u64::from(bytes);
            }
            flushes.into_iter().for_each(|ns| stats.flush.record(ns));
            for (op, errno, offset) in errors {
                let op = [Op::Read, Op::Write, Op::Deallocate, Op::Flush][op];
                stats.record_error(op, Status::from_errno(errno), offset);
            }
            for ios in batches {
                stats.batch_submit.record(ios);
                stats.batch_complete.record(ios / 7);
            }
            stats
        })
}

proptest! {
    #[test]
    fn any_counts_make_a_document_with_all_of_fios_keys(stats in any_stats(), name in any::<String>()) {
        let mut job = job(spec(&name, Mix::ReadWrite, true), 0, stats);
        job.error = Some(JobError { errno: 5, message: name.clone(), is_missed: false });
        let mut report = report(vec![job]);
        report.notes = vec![name.clone()];
        let document = parsed("json+", &report);
        assert_fio_keys(&document);
        let job = &document["jobs"][0];
        prop_assert_eq!(job["jobname"].as_str(), Some(name.as_str()));
        for table in ["iodepth_level", "iodepth_submit", "iodepth_complete"] {
            assert_shares(&[&job[table]]);
        }
        assert_shares(&[&job["latency_ns"], &job["latency_us"], &job["latency_ms"]]);
        for op in ["read", "write", "trim"] {
            for latency in ["slat_ns", "clat_ns", "lat_ns"].map(|key| &job[op][key]) {
                let bins = latency["bins"].as_object().into_iter().flat_map(|bins| bins.values());
                prop_assert_eq!(bins.map(|n| n.as_u64().unwrap()).sum::<u64>(), latency["N"].as_u64().unwrap());
            }
            let of = |key: &str, field: &str| job[op][key][field].as_f64().unwrap();
            if of("slat_ns", "N") == of("lat_ns", "N") {
                let (parts, whole) = (of("slat_ns", "mean") + of("clat_ns", "mean"), of("lat_ns", "mean"));
                prop_assert!((parts - whole).abs() <= 1e-9 * whole.max(1.0), "{parts} is not {whole}");
            }
        }
        let plain = parsed("json", &report);
        assert_fio_keys(&plain);
        prop_assert!(!plain.to_string().contains("\"bins\""));
    }

    #[test]
    fn any_counts_fit_the_width_of_a_page(
        stats in any_stats(),
        other in any_stats(),
        name in any::<String>(),
        files in prop::collection::vec(any::<String>(), 0..12),
        rates in prop::collection::vec(0.0_f64..1e15, 0..4),
    ) {
        let mut first = spec(&name, Mix::ReadWrite, true);
        first.filename = files;
        first.bs.read = BlockSizes::Split(vec![(512, 10), (4096, 60), (1 << 30, 30)]);
        let mut first = job(first, 0, stats);
        first.intervals = PerOp::all(intervals(&rates));
        first.error = Some(JobError { errno: 5, message: name.repeat(9), is_missed: false });
        let mut report = report(vec![first, job(spec("other", Mix::TrimWrite, false), 0, other)]);
        report.notes = vec![name.repeat(20)];
        report.reactors = vec![ReactorReport {
            cpu: Some(7), workers: vec![name; 30], busy_turns: 1, idle_turns: 2, cpu_use: CpuUse::default(), unpinned_ns: 0,
        }];
        let text = text_in("normal", &report);
        for line in text.lines() {
            prop_assert!(line.chars().count() <= 110, "{line}");
        }
        prop_assert!(!text.contains("NaN") && !text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
    }
}
