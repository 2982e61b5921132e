//! Standard streams that are closed, full, or read by nobody, and signals that were ignored at the start.

mod common;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use common::{BINARY, Lab, MARK, MIB, Running, first};
use rustix::process::Signal;

/// A job that ends by itself and prints a report.
const READ: [&str; 4] = ["--rw=read", "--filename=data", "--size=1m", "--name=j"];
/// A job that goes on until it is told to stop.
const ENDLESS: [&str; 6] =
    ["--name=n", "--ioengine=null", "--size=1t", "--rw=randread", "--runtime=1h", "--time_based"];

/// A program behind a shell's redirections.
fn behind(lab: &Lab, redirections: &str, arguments: &[&str]) -> Command {
    let mut command = lab.command("sh");
    command.args(["-c", &format!("exec \"$@\" {redirections}"), "sh", BINARY]).args(arguments);
    command
}

fn with<'a>(job: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [job, more].concat()
}

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    OwnedFd::from(writer).into()
}

/// A file that is always full.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("/dev/full").into()
}

#[test]
fn a_run_whose_report_could_not_be_seen_is_refused_before_it_starts() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    let write = ["--rw=write", "--filename=data", "--size=1m", "--name=j"];
    for (redirection, why) in [(">&-", "standard output is closed"), ("1</dev/null", "open for reading only")]
    {
        let done = Running::of(behind(&lab, redirection, &write)).end().expect(4).says(why);
        assert!(done.stderr.contains("--output=FILE"), "{done:?}");
        assert!(lab.bytes("data").iter().all(|&byte| byte == MARK), "nothing was started");
        // With a file for the report there is nothing to lose.
        let done = Running::of(behind(&lab, redirection, &with(&READ, &["--output=report"]))).end().expect(0);
        assert!(done.stderr.is_empty() && lab.bytes("report").len() > 100, "{done:?}");
    }
    let texts: [&[&str]; 2] = [&["--cmdhelp"], &["devices"]];
    for text in texts {
        Running::of(behind(&lab, ">&-", text)).end().expect(4).says("standard output is closed");
    }
}

#[test]
fn a_report_that_is_lost_is_said_and_makes_the_exit_code_4() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    for (why, is_full) in [("Broken pipe", false), ("No space left", true)] {
        for more in [&[][..], &["--status-interval=100ms", "--output-format=json"]] {
            let mut command = lab.command(BINARY);
            command.args(with(&READ, more)).stdin(Stdio::null());
            command.stdout(if is_full { full() } else { unread() }).stderr(Stdio::piped());
            let ended = command.output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(4), "{said}");
            assert!(said.contains("the report could not be written") && said.contains(why), "{said}");
            assert!(said.contains("--output=FILE") && !said.contains("panicked"), "{said}");
        }
    }
}

#[test]
fn a_lost_report_does_not_hide_a_broken_promise() {
    let lab = Lab::new();
    let job =
        ["--name=v", "--ioengine=sim", "--rw=randwrite", "--size=1m", "--verify=crc32c", "--do_verify=1"];
    let broken = with(&job, &["--sim_faults=lost:50%", "--sim_seed=1"]);
    // It breaks promises, or the test would say nothing.
    lab.run(&broken).expect(1);
    let mut command = lab.command(BINARY);
    command.args(&broken).stdin(Stdio::null()).stdout(unread()).stderr(Stdio::piped());
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && said.contains("the report could not be written"), "{said}");
}

#[test]
fn standard_error_that_takes_nothing_ends_no_run() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    let streams: [fn() -> Stdio; 2] = [unread, full];
    for stream in streams {
        // A live line, and a mistake to tell of.
        for (arguments, code) in [(with(&READ, &["--eta=always"]), 0), (with(&READ, &["--bs=nonsense"]), 2)] {
            let mut command = lab.command(BINARY);
            command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stream());
            let ended = command.output().unwrap();
            assert_eq!(ended.status.code(), Some(code), "{arguments:?}");
            assert_eq!(!ended.stdout.is_empty(), code == 0);
        }
    }
}

#[test]
fn with_all_streams_closed_nothing_that_is_printed_gets_into_a_target() {
    let lab = Lab::new();
    // The program opens these first, and they would get the descriptors 0, 1 and 2.
    for engine in common::FILE_ENGINES {
        lab.marked("data", MIB).marked("more", MIB).marked("most", MIB);
        let files = "--filename=data:more:most";
        let job = ["--name=j", "--rw=randrw", "--rwmixread=100", files, "--size=3m", engine, "--eta=always"];
        let told = with(&job, &["--output=report", "--status-interval=100ms", "--runtime=1", "--time_based"]);
        let end = Running::of(behind(&lab, "<&- >&- 2>&-", &told)).end();
        assert_eq!(end.code, Some(0));
        for file in ["data", "more", "most"] {
            assert!(lab.bytes(file).iter().all(|&byte| byte == MARK), "{engine}: {file} was written to");
        }
        assert!(lab.bytes("report").len() > 100);
    }
}

#[test]
fn the_first_descriptors_are_never_a_target() {
    let lab = Lab::new();
    let mut running = Running::of(behind(&lab, "<&- >&- 2>&-", &with(&ENDLESS, &["--output=report"])));
    running.wait_for_worker("n.0");
    for number in 0..3 {
        let link = fs::read_link(format!("/proc/{}/fd/{number}", running.id())).unwrap();
        assert_eq!(link.to_str(), Some("/dev/null"));
    }
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, Some(143));
}

/// A run that starts with a signal ignored.
fn ignoring(lab: &Lab, signal: &str) -> Running {
    let mut command = lab.command("sh");
    let told = with(&ENDLESS, &["--output-format=json", "--status-interval=20ms"]);
    command.args(["-c", &format!("trap '' {signal}; exec \"$@\""), "sh", BINARY]).args(told);
    Running::of(command)
}

#[test]
fn a_hangup_or_an_interrupt_that_was_ignored_at_the_start_stays_ignored() {
    for (name, signal) in [("HUP", Signal::HUP), ("INT", Signal::INT)] {
        let lab = Lab::new();
        let mut running = ignoring(&lab, name);
        running.wait_for_report("I/O", |json| first(json, "/read/total_ios") > 0);
        running.signal(signal);
        running.signal(signal);
        // It goes on: more is read after the signals than before.
        let before = running.reports_so_far();
        running.wait_for_reports(before + 5);
        assert!(!running.has_ended());
        running.signal(Signal::TERM);
        assert_eq!(running.end().code, Some(143), "{name}");
    }
}

#[test]
fn nohup_keeps_a_run_that_ends_otherwise_at_a_hangup() {
    let lab = Lab::new();
    let mut command = lab.command("nohup");
    command.arg(BINARY).args(with(&ENDLESS, &["--output-format=json", "--status-interval=20ms"]));
    let mut running = Running::of(command);
    running.wait_for_report("I/O", |json| first(json, "/read/total_ios") > 0);
    running.signal(Signal::HUP);
    let before = running.reports_so_far();
    running.wait_for_reports(before + 5);
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, Some(143));
}
