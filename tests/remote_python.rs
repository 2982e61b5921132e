//! examples/bench.py, the client that labs begin with, drives a server: by the protocol's description
//! alone, with a trigger, over a socket and over TLS. Skipped where python3 has no grpc.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]

mod common;
#[path = "common/served.rs"]
mod served;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Done, Lab, Running, at, number};
use libtest_mimic::{Arguments, Trial};
use served::Served;

const JOB: &str = r#"
[global]
ioengine = "psync"
rw = "randwrite"
bs = "4k"
size = "1m"
time_based = true
runtime = "60s"
fsync = 20
verify = "crc32c"
[[job]]
name = "j"
filename = "data"
"#;

fn main() {
    let arguments = Arguments::from_args();
    let why = why_not();
    let trials: [(&str, fn()); 2] = [
        ("a_lab_drives_a_power_cut_from_python_and_judges_it", power_cut),
        ("python_shows_its_certificate", over_tls),
    ];
    let trials = trials.map(|(name, check)| {
        if let Some(why) = &why {
            eprintln!("skipped: {name}: {why}");
        }
        let run = move || {
            check();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(why.is_some())
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

/// The Python that `ci/install` has made beside what cargo builds, or else the machine's.
fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python3");
    if own.exists() { own } else { PathBuf::from("python3") }
}

fn why_not() -> Option<String> {
    let asked = Command::new(python()).args(["-c", "import grpc, grpc_tools, tomllib"]).output();
    match asked {
        Err(why) => Some(format!("no python3: {why}")),
        Ok(out) if !out.status.success() => {
            Some("python3 has no grpcio-tools (see ci/install), or is older than 3.11".to_owned())
        }
        Ok(_) => None,
    }
}

fn bench(lab: &Lab, arguments: &[&str]) -> Done {
    let mut command = lab.command(&python().to_string_lossy());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bench.py")).args(arguments);
    Running::of(command).end()
}

fn power_cut() {
    let lab = Lab::new();
    let settings =
        format!("directory = {:?}\nlisten = [\"unix:{}\"]\n", lab.path("dut"), lab.path("s").display());
    lab.file("server.toml", settings).file("j.toml", JOB);
    let server = Served::start(&lab, "server.toml", &[]);
    let to = format!("--server={}", server.address);
    let done =
        bench(&lab, &[&to, "j.toml", "--option=trigger_ios=1000", "--option=trigger=ls *.state > seen"]);
    let done = done.expect(0).says("trigger: trigger_ios");
    let json = done.json();
    assert!(at(&json, "/fio-spdk/trigger/fired_by").to_string().contains("trigger_ios"), "{json:#}");
    assert_eq!(at(&json, "/fio-spdk/trigger/command/success"), true, "{json:#}");
    assert!(number(&json, "/jobs/0/write/total_ios") > 0);
    // The state was there before the command ran.
    let state = String::from_utf8(lab.bytes("seen")).expect("names").trim().to_owned();
    let judge = |code| {
        let state = format!("--state={state}");
        let job = ["j.toml", "--option=verify_state_load=true"];
        bench(&lab, &[&[to.as_str(), &state], &job[..]].concat()).expect(code).json()
    };
    let promised = |json: &serde_json::Value| number(json, "/jobs/0/verify/promised");
    let well = judge(0);
    assert!(promised(&well) > 0 && promised(&well) == number(&well, "/jobs/0/verify/checked"), "{well:#}");
    lab.file("dut/data", vec![0x5a; 1 << 20]);
    judge(1);
    // A job that is wrong, and one that is not allowed.
    bench(&lab, &[&to, "j.toml", "--option=filename=/etc/passwd"]).expect(2).says("does not lie below");
    bench(&lab, &[&to, "j.toml", "--option=bs=wrong"]).expect(2).says("bs");
}

fn over_tls() {
    let lab = Lab::new();
    lab.file("j.toml", JOB.replace("60s", "500ms"));
    served::init(&lab, &[]);
    lab.run(&["server", "--init", "--config=etc/server.toml", "--client=anna"]).expect(0);
    let server = Served::start(&lab, "etc/server.toml", &["--listen=127.0.0.1:0"]);
    let to = format!("--server={}", server.address);
    let done = bench(&lab, &[&to, "--keys=etc/clients/anna", "j.toml"]).expect(0);
    assert_eq!(at(&done.json(), "/jobs/0/jobname"), "j");
    assert!(server.said().contains("of anna (bench.py)"), "{}", server.said());
}
