//! Reports there and back, and what is not one.

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::base::ioprio::IoPriority;
use crate::base::verify::Verdict;
use crate::base::{Op, PerOp, Status};
use crate::job::parse;
use crate::report::tests::{any_stats, facts, job, mixed, report, text_in, unfinished};
use crate::report::verify_tests::{lost, torn, verified};
use crate::report::{
    CommandReport, FORMATS, IntervalSummary, JobError, JobReport, RateSummary, SteadyReport, TriggerReport,
    render,
};
use crate::stats::{
    BlockCounts, BlockState, ByPriority, DepthFound, Histogram, Round, SteadyFinding, VerifyTally,
    WorkerStats,
};

/// Over the wire and back, through bytes.
fn there_and_back(report: &Report) -> Report {
    let bytes = encode(report).encode_to_vec();
    decode(&bench::Report::decode(bytes.as_slice()).unwrap()).unwrap()
}

#[test]
fn the_reports_that_people_know_read_the_same_behind_the_wire() {
    for report in [mixed(), unfinished(), verified()] {
        let read = there_and_back(&report);
        for format in FORMATS {
            assert_eq!(render(format, &read), render(format, &report));
        }
        for (read, sent) in read.jobs.iter().zip(&report.jobs) {
            assert_eq!((&read.stats, &read.verify), (&sent.stats, &sent.verify));
        }
        assert_eq!((read.targets, read.reactors), (report.targets, report.reactors));
    }
}

const JOBS: &str = r#"
[global]
filename = "/dev/nvme0n1"
[[job]]
name = "plain"
[[job]]
name = "rich"
rw = "randrw:4"
bssplit = "4k/60:64k/40"
numjobs = 3
iodepth = 32
ioengine = "io_uring"
description = "a \"text\" of \u0007"
percentile_list = [50, 99.99]
group_reporting = true
rate_iops = 1000
steadystate = "iops:5%"
ss_dur = "10s"
[[job]]
name = "verified"
rw = "write"
verify = "sha3-256"
verify_pattern = "0xdeadbeef%o"
size = "50%"
"#;

fn any_rates() -> impl Strategy<Value = IntervalSummary> {
    prop::collection::vec(0.0_f64..1e12, 0..4).prop_map(|rates| IntervalSummary {
        bandwidth: RateSummary::of(&rates),
        iops: RateSummary::of(&rates),
        bandwidth_samples: 3,
        samples: rates.len() as u64,
    })
}

fn any_verify() -> impl Strategy<Value = VerifyTally> {
    (prop::array::uniform15(0_u64..1 << 40), any::<String>(), 0_u64..9, any::<Option<u64>>()).prop_map(
        |(counts, why, examples, named_offset)| {
            let mut tally = VerifyTally { promised: 1 << 41, checked: 7, counts, ..VerifyTally::default() };
            tally.skip(&why, examples);
            (0..examples).for_each(|number| tally.keep(&lost(number)));
            let mut odd = torn();
            (odd.stands, odd.named_offset) = (why, named_offset);
            tally.keep(&odd);
            tally.demanded = 7;
            tally.doubt("j.1", "nothing was demanded");
            tally
        },
    )
}

fn any_extras() -> impl Strategy<Value = (Option<Box<ByPriority>>, Option<Box<BlockCounts>>)> {
    let latency = (0_usize..3, any::<u16>(), prop::collection::vec(0_u64..1 << 40, 0..4));
    let block = (0_usize..4, 0_u32..1 << 30, 1_u64..1 << 40);
    (prop::collection::vec(latency, 0..4), prop::collection::vec(block, 0..5)).prop_map(
        |(latencies, blocks)| {
            let entries = latencies.into_iter().map(|(op, priority, values)| {
                let mut clat = Histogram::default();
                values.into_iter().for_each(|value| clat.record(value));
                (Op::ADDRESSED[op], IoPriority(priority), clat)
            });
            let states =
                [BlockState::Untouched, BlockState::Trimmed, BlockState::TrimFailed, BlockState::WriteFailed];
            let blocks = blocks.into_iter().map(|(state, trims, blocks)| (states[state], trims, blocks));
            (
                Some(Box::new(ByPriority::from_entries(entries.collect()))),
                Some(Box::new(BlockCounts::from_entries(blocks).unwrap())),
            )
        },
    )
}

fn any_steady() -> impl Strategy<Value = SteadyReport> {
    (prop::collection::vec(0.0_f64..1e12, 0..5), -1e9_f64..1e9, any::<bool>(), any::<Option<u64>>()).prop_map(
        |(rates, slope, is_steady, attained_ns)| SteadyReport {
            rounds: rates
                .iter()
                .map(|&iops| Round { at_ns: 1, length_ns: 2, iops, bandwidth: iops * 512.0, latency_ns: 3.5 })
                .collect(),
            dropped: rates.len() as u64,
            attained_ns,
            finding: Some(SteadyFinding { mean: 1.0, slope, is_steady, ..SteadyFinding::default() }),
        },
    )
}

fn any_job() -> impl Strategy<Value = JobReport> {
    let which = (0_usize..3, any::<u32>(), any::<u64>(), any::<String>(), any::<Option<u32>>());
    (which, any_stats(), any_rates(), any_extras(), any_verify(), any_steady()).prop_map(
        |((spec, workers, started_unix_ms, text, depth), mut stats, rates, extras, verify, steady)| {
            let specs = parse(&[("jobs.toml".to_owned(), JOBS.to_owned())], &[]).unwrap();
            stats.record_error(Op::Read, Status::from_nvme(2, 0x81, true), 4096);
            (stats.by_priority, stats.blocks) = extras;
            stats.depth_found = depth.map(|depth| DepthFound { depth, is_settled: depth % 2 == 0 });
            JobReport {
                workers,
                started_unix_ms,
                intervals: PerOp::all(rates.clone()),
                mixed_intervals: rates,
                steady: (spec == 1).then_some(steady),
                cpu: CpuUse { user_ns: 1, system_ns: 2, waiting_ns: 7, ..CpuUse::default() },
                error: Some(JobError { errno: 5, message: text, is_missed: workers % 2 == 0 }),
                verify: (spec == 2).then_some(verify),
                ..job(specs[spec].clone(), 3, stats)
            }
        },
    )
}

fn any_machine() -> impl Strategy<Value = MachineReport> {
    (any::<Option<u32>>(), 0_u64..1 << 40, prop::collection::vec(0.0_f64..100.0, 0..3)).prop_map(
        |(cpu, count, shares)| {
            let counts = DiskCounts { ios: [count, 1], ticks: [2, count], busy: 3, ..DiskCounts::default() };
            let disk = DiskUse { name: "md0".into(), counts, elapsed_ms: 9, slaves: vec!["sda".into()] };
            let cpus = (0_u32..).zip(shares).collect();
            MachineReport {
                disks: vec![disk],
                idleness: cpu.map(|_| Idleness { system: 12.5, cpus }),
                each_cpu: true,
            }
        },
    )
}

fn premises(time: u64) -> Option<PremisesReport> {
    let known = [None, Some(false), Some(true)][(time % 3) as usize];
    (!time.is_multiple_of(5)).then(|| PremisesReport {
        cache_on: known,
        flushes_reach: known,
        cache: "cache".to_owned(),
        flushes: "flushes".to_owned(),
        atomic: "atomic".to_owned(),
        deallocated: "deallocated".to_owned(),
        protection: "protection".to_owned(),
        broken: "broken".to_owned(),
    })
}

fn any_report() -> impl Strategy<Value = Report> {
    let words = prop::collection::vec(any::<String>(), 0..3);
    (prop::collection::vec(any_job(), 0..3), any_machine(), words, any::<u64>(), any::<Option<i32>>())
        .prop_map(|(jobs, machine, words, time, signal)| {
            let command = CommandReport { text: "pdu".into(), took_ns: time, ..CommandReport::default() };
            let nvme = (time % 2 == 0).then(facts);
            let target = TargetReport {
                path: "x".into(),
                size_bytes: time,
                device: Some(Default::default()),
                nvme,
                premises: premises(time),
            };
            Report {
                time_unix_ms: time,
                started_unix_ms: time / 2,
                unfinished: time % 3 == 0,
                ended_by_signal: signal,
                reactors: vec![ReactorReport {
                    cpu: Some(1),
                    workers: words.clone(),
                    busy_turns: 2,
                    idle_turns: 3,
                    cpu_use: CpuUse::default(),
                    unpinned_ns: 77_000_000,
                }],
                notes: words,
                targets: vec![target],
                job_toml: Some(JOBS.to_owned()),
                trigger: Some(TriggerReport { at_ns: 9, command: Some(command), ..TriggerReport::default() }),
                machine,
                ..report(jobs)
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_report_is_read_as_it_was_sent(report in any_report()) {
        prop_assert_eq!(there_and_back(&report), report);
    }

    #[test]
    fn whatever_arrives_is_a_report_that_can_be_shown_or_an_error(
        report in any_report(),
        spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        end in any::<Option<prop::sample::Index>>(),
    ) {
        let mut bytes = encode(&report).encode_to_vec();
        for (at, byte) in spoils {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        let Ok(message) = bench::Report::decode(bytes.as_slice()) else { return Ok(()) };
        let Ok(mut read) = decode(&message) else { return Ok(()) };
        for format in FORMATS {
            let text = render(format, &read);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{}", text);
        }
        // And it can be added to others.
        let mut all = WorkerStats::default();
        (0..4).for_each(|_| read.jobs.iter().for_each(|job| all.merge(&job.stats)));
        if let Some(first) = read.jobs.first_mut() {
            first.stats = all;
            text_in("normal", &read);
        }
    }
}

fn small_report() -> bench::Report {
    let mut stats = WorkerStats::default();
    stats.ops.read.ios = 1;
    stats.ops.read.latency.lat.record(1000);
    stats.record_error(Op::Read, Status::from_errno(5), 0);
    let specs = parse(&[("jobs.toml".to_owned(), JOBS.to_owned())], &[]).unwrap();
    let mut one = job(specs[2].clone(), 0, stats);
    let mut tally = VerifyTally::default();
    tally.judged(Verdict::Ok, 5, 5);
    tally.keep(&lost(1));
    one.verify = Some(tally);
    let mut report = report(vec![one]);
    report.targets = vec![TargetReport {
        path: "x".into(),
        size_bytes: 1,
        device: None,
        nvme: Some(facts()),
        premises: None,
    }];
    encode(&report)
}

#[test]
fn what_only_a_newer_version_knows_is_left_out_with_a_note_and_never_becomes_good() {
    let mut sent = small_report();
    let line = &mut sent.jobs[0];
    line.job_toml.push_str("warp_factor = 9\n");
    line.options.push(bench::Option { name: "warp_factor".into(), value: "9".into() });
    let tally = line.verify.as_mut().unwrap();
    let newer = |name: &str, blocks, is_violation| bench::VerdictCount {
        verdict: 99,
        blocks,
        name: name.to_owned(),
        is_violation,
    };
    tally.verdicts.push(newer("swapped", 3, true));
    tally.verdicts.push(newer("dreamt", 4, false));
    (tally.examples[0].verdict, tally.examples[0].name) = (99, "swapped".to_owned());
    let stats = line.stats.as_mut().unwrap();
    stats.errors[0].op = 99;
    stats.batch_submit.push(8);
    let mut bytes = sent.encode_to_vec();
    // A field 1000, of length 3, and a field 1001, a number.
    bytes.extend([0xc2, 0x3e, 3, 1, 2, 3, 0xc8, 0x3e, 42]);
    let read = decode(&bench::Report::decode(bytes.as_slice()).unwrap()).unwrap();
    let notes = read.notes.join("\n");
    for wanted in
        ["option `warp_factor`", "3 blocks have the verdict `swapped`", "`dreamt`", "as those of writes"]
    {
        assert!(notes.contains(wanted), "{wanted}: {notes}");
    }
    let line = &read.jobs[0];
    assert!(line.spec.options.iter().any(|(name, _)| name == "warp_factor"));
    assert_eq!(line.spec.name, "verified");
    let tally = line.verify.as_ref().unwrap();
    assert_eq!((tally.of(Verdict::Ok), tally.of(Verdict::Corrupt), tally.of(Verdict::NotChecked)), (5, 3, 4));
    assert_eq!((read.violations(), read.inconclusive()), (3, true));
    assert_eq!(tally.examples[0].verdict, Verdict::Corrupt);
    assert_eq!(line.stats.batch_submit.levels()[7], 8);
    assert_eq!(line.stats.first_error().map(|error| (error.op, error.count)), Some((Op::Write, 1)));
}

#[test]
fn what_contradicts_itself_is_damaged() {
    type Spoil = fn(&mut bench::Report);
    fn stats(report: &mut bench::Report) -> &mut bench::WorkerStats {
        report.jobs[0].stats.as_mut().unwrap()
    }
    fn lat(report: &mut bench::Report) -> &mut bench::Histogram {
        stats(report).read.as_mut().unwrap().lat.as_mut().unwrap()
    }
    fn read_latency() -> bench::PriorityLatency {
        bench::PriorityLatency { op: 1, priority: 1, clat: None }
    }
    fn controller(report: &mut bench::Report) -> &mut bench::NvmeController {
        report.targets[0].nvme.as_mut().unwrap().controller.as_mut().unwrap()
    }
    fn nonsense() -> bench::Idleness {
        bench::Idleness { system_percent: f64::NAN, cpus: Vec::new() }
    }
    let spoils: [(Spoil, &str); 13] = [
        (|report| lat(report).counts.push(1), "another number of counts"),
        (|report| lat(report).buckets[0] = u32::MAX, "the last one is 3775"),
        (|report| lat(report).counts[0] = u64::MAX, "the sum of a histogram"),
        (|report| lat(report).min_ns = 7, "smallest and largest"),
        (|report| stats(report).busy_turns = u64::MAX, "exceed 2^60"),
        (|report| stats(report).end_ns = u64::MAX, "exceed 2^62"),
        (|report| stats(report).errors[0].status = None, "without its status"),
        (|report| stats(report).errors[0].status.as_mut().unwrap().errno = 0, "has the number 0"),
        (
            |report| {
                let one = stats(report).errors[0].clone();
                stats(report).errors = vec![one; 33];
            },
            "33 kinds of errors",
        ),
        (|report| report.jobs = vec![bench::JobReport::default(); 4097], "4097 jobs"),
        (
            |report| {
                let many = bench::ByPriority { latencies: vec![read_latency(); 1_000_000] };
                stats(report).by_priority = Some(many);
            },
            "I/O priorities",
        ),
        (|report| controller(report).vendor_id = 1 << 16, "a PCI vendor is 65536"),
        (
            |report| report.machine.as_mut().unwrap().idleness = Some(nonsense()),
            "how idle the CPUs were is not a number",
        ),
    ];
    assert!(decode(&small_report()).is_ok());
    for (spoil, why) in spoils {
        let mut spoilt = small_report();
        spoil(&mut spoilt);
        let said = decode(&spoilt).unwrap_err();
        assert!(said.contains(why), "{said}, not {why}");
    }
}

#[test]
fn nothing_at_all_is_an_empty_report() {
    let read = decode(&bench::Report { jobs: vec![Default::default()], ..Default::default() }).unwrap();
    assert_eq!(read.jobs.len(), 1);
    FORMATS.iter().for_each(|format| assert!(render(format, &read).ends_with('\n')));
}

#[test]
fn no_text_of_the_other_side_drives_the_terminal() {
    const BAD: &str = "\x1b[2J\rx";
    let bad = || BAD.to_owned();
    let mut sent = small_report();
    sent.notes = vec![bad()];
    sent.job_toml = Some(bad());
    sent.trigger = Some(bench::TriggerReport {
        why: bad(),
        stuck: vec![bad()],
        snapshot: Some(bad()),
        withheld: Some(bad()),
        command: Some(bench::CommandReport {
            text: bad(),
            status: bad(),
            output: bad(),
            ..Default::default()
        }),
        ..Default::default()
    });
    let disk = bench::DiskUse { name: bad(), slaves: vec![bad()], ..Default::default() };
    sent.machine = Some(bench::MachineReport { disks: vec![disk], ..Default::default() });
    sent.reactors = vec![bench::ReactorReport { workers: vec![bad()], ..Default::default() }];
    let line = &mut sent.jobs[0];
    line.name = bad();
    line.job_toml = "[[job]]\nname = \"\\u001b[2J\"\n\"\\u001b\" = 1\ndescription = \"\\u001b\"\n\
                     filename = [\"\\u001b[2J\"]\nverify = \"md5\"\n"
        .to_owned();
    line.options.push(bench::Option { name: bad(), value: bad() });
    line.error = Some(bench::JobError { errno: 5, message: bad(), is_missed: false });
    let tally = line.verify.as_mut().unwrap();
    tally.not_checked.insert(bad(), 1);
    let finding = &mut tally.examples[0];
    (finding.verdict, finding.name) = (77, bad());
    (finding.stands, finding.allowed, finding.promise) = (bad(), bad(), bad());
    finding.details = vec![bad()];
    let count = bench::VerdictCount { verdict: 77, blocks: 2, name: bad(), is_violation: true };
    tally.verdicts.push(count);
    let target = &mut sent.targets[0];
    target.path = bad();
    target.device = Some(bench::Device {
        name: bad(),
        model: Some(bad()),
        serial: Some(bad()),
        firmware: Some(bad()),
        write_cache: Some(bad()),
        ..Default::default()
    });
    let nvme = target.nvme.as_mut().unwrap();
    nvme.notes = vec![bad()];
    nvme.link = Some(bench::PcieLink { speed: Some(bad()), max_speed: Some(bad()), ..Default::default() });
    let controller = nvme.controller.as_mut().unwrap();
    (controller.model, controller.serial, controller.firmware) = (bad(), bad(), bad());
    controller.subsystem_nqn = bad();
    let read = decode(&sent).unwrap();
    for format in FORMATS {
        let text = render(format, &read);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
    }
}

#[test]
fn no_more_memory_is_taken_than_the_jobs_that_were_sent_can_need() {
    let one = small_report();
    assert!(decode_at_most(&one, one.jobs.len()).is_ok());
    let why = decode_at_most(&one, one.jobs.len() - 1).unwrap_err();
    assert!(why.contains("jobs"), "{why}");
}
