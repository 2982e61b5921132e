//! Several servers in one report: merged figures, those that failed, fio's keys.

use serde_json::Value;

use crate::base::Op;
use crate::base::Status;
use crate::base::shape::Mix;
use crate::base::verify::Verdict;
use crate::report::tests::{SECOND, check_golden, count, from_to, job, report, spec};
use crate::report::{JobReport, Report, parse_formats};
use crate::stats::{Histogram, VerifyTally, WorkerStats};

use super::{Fleet, ServerFailure, ServerReport, render};

/// Milliseconds since 1970.
const STARTED_MS: u64 = 1_795_238_631_000;

fn server(name: &str, report: Option<Report>) -> ServerReport {
    ServerReport {
        name: name.to_owned(),
        host: name.to_owned(),
        port: 8765,
        run: report.as_ref().map(|_| "00112233445566778899aabbccddeeff".to_owned()),
        jobs: vec!["reads".to_owned()],
        report,
        failure: None,
    }
}

fn fleet(servers: Vec<ServerReport>) -> Fleet {
    Fleet { time_unix_ms: STARTED_MS + 10_500, started_unix_ms: STARTED_MS, unfinished: false, servers }
}

/// `ios` reads of 4 KiB in ten seconds, by a clock that has nothing to do with other machines'.
fn reads(ios: u64, clat_ns: u64, clock_ns: u64) -> JobReport {
    let mut stats = from_to(clock_ns, clock_ns + 10 * SECOND);
    count(&mut stats, Op::Read, ios, clat_ns, true);
    job(spec("reads", Mix::Read, true), 0, stats)
}

fn failed(mut server: ServerReport, message: &str) -> ServerReport {
    server.failure = Some(ServerFailure { errno: 5, message: message.to_owned() });
    server
}

fn text(fleet: &Fleet) -> String {
    render(parse_formats("normal").unwrap()[0], fleet)
}

fn json(fleet: &Fleet) -> Value {
    serde_json::from_str(&render(parse_formats("json").unwrap()[0], fleet)).unwrap()
}

/// One with two jobs, and one that vanished before it sent anything.
fn one_of_two() -> Fleet {
    let mut well = report(vec![reads(2_000, 90_000, 5 * SECOND)]);
    well.notes = vec!["cpu 3 has a sibling that was busy".to_owned()];
    let gone = failed(server("dut2", None), "dut2 vanished (silent for 10 s)");
    fleet(vec![server("dut1", Some(well)), gone])
}

#[test]
fn people_and_programs_read_this() {
    check_golden("fleet.txt", &text(&one_of_two()));
    check_golden("fleet.json", &render(parse_formats("json").unwrap()[0], &one_of_two()));
}

#[test]
fn percentiles_of_all_are_those_of_the_merged_histogram_and_no_mean() {
    let (fast, slow) = (reads(90_000, 80_000, 7), reads(600, 9_000_000, 3_000 * SECOND));
    let mut merged = Histogram::default();
    let mut mean = 0;
    for job in [&fast, &slow] {
        merged.merge(&job.stats.ops.read.latency.clat);
        mean += job.stats.ops.read.latency.clat.percentile(99.0) / 2;
    }
    let found = json(&fleet(vec![
        server("dut1", Some(report(vec![fast]))),
        server("dut2", Some(report(vec![slow]))),
    ]));
    let all = found["client_stats"].as_array().unwrap().last().unwrap();
    assert_eq!(all["jobname"], "All clients");
    let clat = &all["read"]["clat_ns"];
    assert_eq!(clat["percentile"]["99.000000"], merged.percentile(99.0));
    assert!(
        merged.percentile(99.0) < mean / 2,
        "{} and {mean}: nothing would show here",
        merged.percentile(99.0)
    );
    assert_eq!((&clat["N"], &clat["max"]), (&merged.count().into(), &merged.max().into()));
}

#[test]
fn rates_are_sums_over_each_servers_own_time_whatever_its_clock_says() {
    let found = json(&fleet(vec![
        server("dut1", Some(report(vec![reads(10_000, 80_000, 7), reads(10_000, 80_000, 7)]))),
        // Two stages: twice the time.
        server(
            "dut2",
            Some(report(vec![reads(5_000, 80_000, 1 << 50), reads(5_000, 80_000, (1 << 50) + 10 * SECOND)])),
        ),
    ]));
    let all = &found["client_stats"][4]["read"];
    assert_eq!((all["iops"].as_f64(), all["runtime"].as_u64()), (Some(2_500.0), Some(20_000)));
    assert_eq!(all["bw_bytes"], 2_500 * 4096);
    assert_eq!((&all["total_ios"], &all["io_bytes"]), (&30_000.into(), &(30_000 * 4096).into()));
}

#[test]
fn errors_and_verdicts_of_all_are_sums() {
    let with = |violations: u64| {
        let mut tally = VerifyTally::default();
        tally.judged(Verdict::Ok, 10 - violations, 10 - violations);
        tally.judged(Verdict::Lost, violations, violations);
        let mut stats = WorkerStats::default();
        stats.record_error(Op::Read, Status::from_errno(61), 8192);
        let mut job = job(spec("reads", Mix::Read, true), 0, stats);
        job.verify = Some(tally);
        report(vec![job])
    };
    let fleet = fleet(vec![server("dut1", Some(with(0))), server("dut2", Some(with(3)))]);
    let found = json(&fleet);
    let all = &found["client_stats"][2];
    assert_eq!((&all["verify"]["violations"], &all["verify"]["promised"]), (&3.into(), &20.into()));
    assert_eq!(all["fio-spdk"]["errors"][0]["count"], 2);
    let text = text(&fleet);
    assert!(
        text.contains("TROUBLE: dut1: 1 I/O ended with an error; dut2: 3 blocks break a promise"),
        "{text}"
    );
    assert!(text.contains("==== all servers (2) ===="), "{text}");
}

#[test]
fn one_server_is_reported_as_this_machine_would_be() {
    let well = report(vec![reads(2_000, 90_000, 5 * SECOND)]);
    for format in parse_formats("normal,json,json+").unwrap() {
        let local = crate::report::render(format, &well);
        let remote = render(format, &fleet(vec![server("dut1", Some(well.clone()))]));
        if format.name == "normal" {
            assert_eq!(local, remote);
            continue;
        }
        let local: Value = serde_json::from_str(&local).unwrap();
        let mut remote: Value = serde_json::from_str(&remote).unwrap();
        let job = remote["jobs"][0].as_object_mut().unwrap();
        assert_eq!(job.remove("hostname"), Some("dut1".into()));
        assert_eq!(job.remove("port"), Some(8765.into()));
        assert_eq!(local, remote);
    }
    assert_eq!(text(&fleet(vec![failed(server("dut1", None), "it is not there")])), "");
}

#[test]
fn a_server_that_failed_is_named_with_its_reason_wherever_one_looks() {
    let partly = failed(server("dut3", Some(report(vec![reads(10, 90_000, 1)]))), "dut3 vanished");
    let mut fleet = one_of_two();
    fleet.servers.push(partly);
    let found = json(&fleet);
    let why = "dut2 vanished (silent for 10 s)";
    assert_eq!(found["servers"][1]["error"], why);
    assert!(found["servers"][1]["report"].is_null() && found["servers"][0]["error"].is_null());
    let lost = &found["client_stats"][1];
    assert_eq!((&lost["hostname"], &lost["jobname"]), (&"dut2".into(), &"reads".into()));
    assert_eq!((&lost["error"], &lost["read"]["iops"]), (&5.into(), &0.0.into()));
    assert_eq!(lost["fio-spdk"]["error_message"], why);
    assert_eq!(found["client_stats"][2]["error"], 5);
    assert_eq!(found["servers"][2]["report"]["jobs"][0]["read"]["total_ios"], 10);
    let notes = found["fio-spdk"]["notes"].as_array().unwrap();
    assert_eq!(notes[0], "dut1: cpu 3 has a sibling that was busy");
    assert_eq!(notes[1], format!("dut2: FAILED: {why}"));
    let text = text(&fleet);
    assert!(text.contains("TROUBLE: 2 of 3 servers failed (dut2, dut3)"), "{text}");
    assert!(text.contains(&format!("==== dut2:8765 ====\nFAILED: {why}\n")), "{text}");
    assert!(text.contains("==== all servers (2 of 3) ===="), "{text}");
}

#[test]
fn nobody_has_sent_anything_yet() {
    let fleet = Fleet { unfinished: true, ..fleet(vec![server("dut1", None), server("dut2", None)]) };
    let text = text(&fleet);
    assert!(text.contains("so far") && text.contains("nothing has arrived yet"), "{text}");
    assert_eq!(json(&fleet)["client_stats"][2]["read"]["total_ios"], 0);
}

#[test]
fn names_from_outside_drive_no_terminal_and_places_are_written_as_they_are_typed() {
    let mut odd = server("\x1b[2Jdut", None);
    odd = failed(odd, "\x1b[31mred\x07");
    assert!(!text(&fleet(vec![odd, server("dut2", None)])).contains(['\x1b', '\x07']));
    let place = |host: &str, port| ServerReport { host: host.to_owned(), port, ..server("x", None) }.place();
    assert_eq!(
        [place("dut1", 1), place("::1", 8765), place("/run/x", 0)],
        ["dut1:1", "[::1]:8765", "/run/x"]
    );
}

/// Paths of keys, taken from a run of fio 3.33 as client of two servers.
const FIO_KEYS: &str = include_str!("../golden/fio-client-keys.txt");

#[test]
fn every_key_of_fios_client_is_there() {
    let document = json(&one_of_two());
    for line in FIO_KEYS.lines() {
        let mut path: Vec<&str> = line.split(" / ").collect();
        let root = match path[0] {
            "one" => &document["client_stats"][0],
            "all" => &document["client_stats"][2],
            _ => &document,
        };
        if ["one", "all"].contains(&path[0]) {
            path.remove(0);
        }
        // Of nothing there are no percentiles; in fio neither.
        let counted = || path.len() < 3 || root[path[0]][path[1]]["N"] != 0 || !path.contains(&"percentile");
        let found = path.iter().try_fold(root, |value, key| value.get(*key));
        assert!(found.is_some() || !counted(), "no key {line}");
    }
}
