//! Whole runs with scripted servers: what is asked of them, what is shown, and the exit code.

use std::fs;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::*;
use crate::base::verify::Verdict;
use crate::base::{Op, PerOp, Status};
use crate::cli::args::{Action, parse};
use crate::report::{CpuUse, IntervalSummary, JobReport, MachineReport, Report};
use crate::run::Progress;
use crate::stats::{VerifyTally, WorkerStats};

/// What a scripted server found.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    violations: u64,
    errors: bool,
    doubtful: bool,
    signal: Option<i32>,
    unfinished: bool,
}

fn report(jobs: &[JobSpec], found: Found) -> Report {
    let job = |spec: &JobSpec| {
        let mut stats = WorkerStats::default();
        (stats.start_ns, stats.end_ns) = (5, 1_000_000_005);
        stats.ops.read.ios = 100;
        stats.ops.read.bytes = 409_600;
        if found.errors {
            stats.record_error(Op::Read, Status::from_errno(5), 0);
        }
        let mut tally = VerifyTally::default();
        tally.judged(Verdict::Ok, 9 - found.violations, 9 - found.violations);
        tally.judged(Verdict::Lost, found.violations, found.violations);
        tally.skip("it is late", u64::from(found.doubtful));
        JobReport {
            name: spec.name.clone(),
            group: 0,
            workers: 1,
            spec: spec.clone(),
            started_unix_ms: 0,
            stats,
            intervals: PerOp::default(),
            mixed_intervals: IntervalSummary::default(),
            steady: None,
            cpu: CpuUse::default(),
            error: None,
            verify: Some(tally),
        }
    };
    Report {
        time_unix_ms: 1_000,
        started_unix_ms: 0,
        unfinished: found.unfinished,
        ended_by_signal: found.signal,
        notes: vec!["a note".to_owned()],
        jobs: jobs.iter().map(job).collect(),
        reactors: Vec::new(),
        targets: Vec::new(),
        job_toml: None,
        trigger: None,
        machine: MachineReport::default(),
    }
}

fn outcome(target: &Target, found: Option<Found>, failure: Option<(FailureKind, &str)>) -> Outcome {
    let jobs = match &target.work {
        Work::Run { jobs, .. } => jobs.clone(),
        Work::Attach { .. } => Vec::new(),
    };
    Outcome {
        address: target.address.clone(),
        run: found.map(|_| "00112233445566778899aabbccddeeff".to_owned()),
        report: found.map(|found| report(&jobs, found)),
        failure: failure.map(|(kind, why)| Failure { kind, message: why.to_owned() }),
    }
}

/// A directory with two job files.
fn lab() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let job = |name: &str| format!("[[job]]\nname = \"{name}\"\nioengine = \"null\"\nsize = \"1m\"\n");
    fs::write(dir.path().join("x.toml"), job("x")).unwrap();
    fs::write(dir.path().join("y.toml"), job("y1") + &job("y2")).unwrap();
    dir
}

/// The invocation of these arguments, `@` standing for the directory.
fn invocation(dir: &tempfile::TempDir, arguments: &[&str]) -> Invocation {
    let at = dir.path().display().to_string();
    let arguments = arguments.iter().map(|argument| argument.replace('@', &at).into());
    match parse(std::iter::once("fio-spdk".into()).chain(arguments)) {
        Ok(Action::Run(invocation)) => *invocation,
        _ => panic!("no run"),
    }
}

fn ordered(invocation: &Invocation) -> Order {
    let clients = invocation.clients.as_ref().unwrap();
    let shares = shares(invocation, clients).unwrap();
    targets(&shares, clients, invocation)
}

/// What `drive` makes of these arguments: the exit code, and the report as JSON.
fn run(dir: &tempfile::TempDir, arguments: &[&str], drive: Drive<'_>) -> (u8, Value) {
    let more = ["--output-format=json", "--output=@/out", "--eta=never"];
    let invocation = invocation(dir, &[arguments, &more].concat());
    let code = execute(&ordered(&invocation), &invocation, &Requests::default(), drive);
    let text = fs::read_to_string(dir.path().join("out")).unwrap();
    (code, serde_json::from_str(&text).unwrap_or_default())
}

const TWO: [&str; 3] = ["@/x.toml", "--client=dut1", "--client=dut2:99"];

#[test]
fn each_server_is_sent_its_own_files_as_they_are_written_and_the_options_of_the_command_line() {
    let dir = lab();
    let arguments =
        ["--client=b", "@/y.toml", "--client=a", "@/x.toml", "--client=c", "@/y.toml", "--runtime=5"];
    let order = ordered(&invocation(&dir, &arguments));
    let names: Vec<String> = order.servers.iter().map(|target| target.address.to_string()).collect();
    assert_eq!(names, ["b", "a", "c"], "as typed");
    let Work::Run { job_files, jobs, state } = &order.servers[0].work else { panic!("no run") };
    assert_eq!(job_files[0].1, fs::read_to_string(dir.path().join("y.toml")).unwrap());
    assert_eq!((jobs.len(), jobs[0].runtime_ns), (2, Some(5_000_000_000)));
    assert_eq!(*state, dir.path().join("y.state"));
    assert_eq!(order.overrides, [("runtime".to_owned(), "5".to_owned())]);
    assert!(!order.findings && order.status_interval.is_none());
}

#[test]
fn wrong_jobs_are_refused_before_anybody_is_asked() {
    let dir = lab();
    fs::write(dir.path().join("bad.toml"), "[[job]]\nbss = \"4k\"\n").unwrap();
    let invocation = invocation(&dir, &["--client=a", "@/bad.toml", "--client=b", "@/x.toml"]);
    assert_eq!(run_jobs(&invocation, invocation.clients.as_ref().unwrap()), EXIT_USAGE);
    let invocation = self::invocation(&dir, &["--client=a", "-", "--client=b", "-", "@/x.toml"]);
    assert_eq!(run_jobs(&invocation, invocation.clients.as_ref().unwrap()), EXIT_USAGE);
}

#[test]
fn jobs_are_checked_and_printed_without_a_server_and_told_apart_where_they_differ() {
    let dir = lab();
    let told = |arguments: &[&str], print_job| {
        let invocation = invocation(&dir, arguments);
        checked(&shares(&invocation, invocation.clients.as_ref().unwrap()).unwrap(), print_job)
    };
    assert_eq!(told(&TWO, false), "1 job, nothing wrong\n");
    let several = ["--client=a", "--client=b", "@/x.toml", "--client=c", "@/y.toml"];
    assert_eq!(told(&several, false), "a, b: 1 job, nothing wrong\nc: 2 jobs, nothing wrong\n");
    let printed = told(&several, true);
    assert!(printed.starts_with("# a, b\n[[job]]\n") && printed.contains("\n# c\n[[job]]\n"), "{printed}");
}

#[test]
fn one_server_ends_as_this_machine_would() {
    let dir = lab();
    let one = ["@/x.toml", "--client=dut1"];
    let with =
        |found: Found| run(&dir, &one, &|order, _, _| vec![outcome(&order.servers[0], Some(found), None)]);
    let (code, found) = with(Found::default());
    assert_eq!(code, EXIT_OK);
    assert_eq!((&found["jobs"][0]["hostname"], &found["jobs"][0]["port"]), (&"dut1".into(), &8765.into()));
    assert_eq!(with(Found { violations: 1, ..Found::default() }).0, EXIT_VIOLATION);
    assert_eq!(with(Found { doubtful: true, ..Found::default() }).0, EXIT_INCONCLUSIVE);
    assert_eq!(with(Found { signal: Some(2), ..Found::default() }).0, 130);
}

#[test]
fn a_server_alone_that_fails_leaves_no_report_but_a_code() {
    let dir = lab();
    let one = ["@/x.toml", "--client=dut1"];
    for (kind, code) in [
        (FailureKind::BadJob, EXIT_USAGE),
        (FailureKind::Environment, EXIT_IO),
        (FailureKind::Unsafe, EXIT_UNSAFE),
    ] {
        let drive = |order: &Order, _: &Requests, _: &mut dyn Watcher| {
            vec![outcome(&order.servers[0], None, Some((kind, "no")))]
        };
        assert_eq!(run(&dir, &one, &drive), (code, Value::Null));
    }
}

#[test]
fn one_server_that_fails_does_not_spoil_the_report_of_the_other() {
    let dir = lab();
    let (code, found) = run(&dir, &TWO, &|order, _, watcher| {
        watcher.note(0, "a note\x1b");
        watcher.progress(&[Some(Progress::default()), None]);
        vec![
            outcome(&order.servers[0], Some(Found::default()), None),
            outcome(&order.servers[1], None, Some((FailureKind::Environment, "dut2:99 vanished"))),
        ]
    });
    assert_eq!(code, EXIT_IO);
    assert_eq!(found["servers"][0]["report"]["jobs"][0]["read"]["total_ios"], 100);
    assert_eq!(
        (&found["servers"][1]["error"], &found["servers"][1]["port"]),
        (&"dut2:99 vanished".into(), &99.into())
    );
    assert_eq!(found["client_stats"][1]["error"], 5);
    assert_eq!(found["client_stats"][2]["read"]["iops"], 100.0);
}

#[test]
fn of_several_exit_codes_the_gravest_counts() {
    // From the gravest on.
    let table = [1, 130, EXIT_UNSAFE, EXIT_USAGE, EXIT_IO, EXIT_MISSED, EXIT_INCONCLUSIVE, EXIT_OK];
    for (at, &code) in table.iter().enumerate() {
        assert_eq!(gravest(&table[at..]), code);
        let backwards: Vec<u8> = table[at..].iter().rev().copied().collect();
        assert_eq!(gravest(&backwards), code);
    }
    let dir = lab();
    let (code, _) = run(&dir, &TWO, &|order, _, _| {
        let broken = Found { violations: 1, ..Found::default() };
        vec![
            outcome(&order.servers[0], Some(Found { errors: true, ..Found::default() }), None),
            outcome(&order.servers[1], Some(broken), Some((FailureKind::Environment, "dut2:99 vanished"))),
        ]
    });
    assert_eq!(code, EXIT_VIOLATION);
}

#[test]
fn what_the_user_leaves_to_itself_or_never_let_begin_ends_by_the_signal() {
    let target = Target {
        address: Address::parse("dut1").unwrap(),
        work: Work::Attach { run: String::new(), watch: false, state_dir: PathBuf::new() },
    };
    let never = outcome(&target, None, Some((FailureKind::Environment, "dut1: ended before it began")));
    assert_eq!((code_of(&never, Some(2)), code_of(&never, None)), (130, EXIT_IO));
    let left = outcome(&target, Some(Found { unfinished: true, ..Found::default() }), None);
    assert_eq!((code_of(&left, Some(15)), code_of(&left, None)), (143, EXIT_OK));
}

#[test]
fn reports_so_far_are_documents_of_the_whole_fleet_one_a_line() {
    let dir = lab();
    let more = ["--output-format=json", "--output=@/out", "--status-interval=1s"];
    let invocation = invocation(&dir, &[&TWO[..], &more].concat());
    let requests = Requests::default();
    execute(&ordered(&invocation), &invocation, &requests, &|order, requests, watcher| {
        let Work::Run { jobs, .. } = &order.servers[0].work else { panic!("no run") };
        assert_eq!(order.status_interval, Some(Duration::from_secs(1)));
        assert_eq!(requests.dump.load(Ordering::Acquire), 0);
        watcher.so_far(&[None, None]);
        watcher.so_far(&[Some(report(jobs, Found { unfinished: true, ..Found::default() })), None]);
        order.servers.iter().map(|target| outcome(target, Some(Found::default()), None)).collect()
    });
    let text = fs::read_to_string(dir.path().join("out")).unwrap();
    let documents: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents.len(), 2, "nothing is said before anything has come");
    assert_eq!(documents[0]["fio-spdk"]["unfinished"], true);
    assert_eq!(documents[1]["client_stats"][2]["read"]["total_ios"], 200);
}

#[test]
fn violations_of_all_servers_are_in_one_file_with_the_server_that_found_them() {
    let dir = lab();
    let (code, _) = run(&dir, &[&TWO[..], &["--verdicts=@/found"]].concat(), &|order, _, watcher| {
        assert!(order.findings);
        watcher.finding(1, "{\"job\":\"x\",\"verdict\":\"lost\",\"server\":\"liar\"}");
        watcher.finding(0, "{\"job\":\"x\"}");
        order.servers.iter().map(|target| outcome(target, Some(Found::default()), None)).collect()
    });
    let found = fs::read_to_string(dir.path().join("found")).unwrap();
    assert_eq!(
        found,
        "{\"server\":\"dut2:99\",\"job\":\"x\",\"verdict\":\"lost\"}\n{\"server\":\"dut1\",\"job\":\"x\"}\n"
    );
    assert_eq!(code, EXIT_OK);
    let (code, _) = run(&dir, &[&TWO[..], &["--verdicts=@/found"]].concat(), &|order, _, watcher| {
        watcher.finding(0, "[1]");
        order.servers.iter().map(|target| outcome(target, Some(Found::default()), None)).collect()
    });
    assert_eq!(code, EXIT_IO, "evidence is missing");
    let invocation = invocation(&dir, &[&TWO[..], &["--verdicts=@/none/found"]].concat());
    let code =
        execute(&ordered(&invocation), &invocation, &Requests::default(), &|_, _, _| panic!("too late"));
    assert_eq!(code, EXIT_USAGE);
}

#[test]
fn a_server_that_listens_everywhere_is_asked_where_its_certificate_has_a_name() {
    let asked = |listen: &str| of_this_machine(&Address::parse(listen).unwrap()).to_string();
    assert_eq!(asked("0.0.0.0"), "127.0.0.1");
    assert_eq!(asked("[::]:9000"), "[::1]:9000");
    assert_eq!(
        (asked("dut1:9000"), asked("unix:/run/x")),
        ("dut1:9000".to_owned(), "unix:/run/x".to_owned())
    );
}
