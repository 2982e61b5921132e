//! What a client costs: IOPS of a reactor with a client and without one, and how long it takes from a
//! trigger until the client has said that the state is on its disk. `ci/compare` runs it.
//!
//! `--rounds N` (of each comparison), `--triggers N`, `--directory DIR` (where both sides keep their state).
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use serde_json::Value;

const OURS: &str = env!("CARGO_BIN_EXE_fio-spdk");
/// What IOPS with a client are to be, of those without.
const FLOOR: f64 = 0.99;

fn main() -> ExitCode {
    let argument = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let number =
        |name: &str, usual: usize| argument(name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (rounds, triggers) = (number("--rounds", 9), number("--triggers", 100));
    let folder = PathBuf::from(argument("--directory").unwrap_or_else(|| ".".to_owned()));
    let folder = folder.join("fio-spdk-remote-bench");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a directory");
    let folder = folder.canonicalize().expect("a directory");
    let server = Server::start(&folder);
    let mut ratios: Vec<f64> = (0..rounds).map(|round| server.ratio(round)).collect();
    let mut stored: Vec<f64> = (0..triggers).map(|_| server.trigger()).collect();
    drop(server);
    let _ = std::fs::remove_dir_all(&folder);
    println!("\nnull, depth 32, IOPS with a client to those without, {rounds} rounds in turn\n");
    let ratio = show("", &mut ratios, "");
    println!("\ntrigger to state acknowledged by the client, loopback, TLS, {triggers} triggers\n");
    show("", &mut stored, " ms");
    if ratio >= FLOOR { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(name: &str, values: &mut [f64], unit: &str) -> f64 {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    println!("{name}median {median:.3}{unit} ({:.3} to {:.3})", values[0], values[values.len() - 1]);
    median
}

/// A server on loopback, with certificates of its own.
struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(folder: &Path) -> Server {
        let config = format!("--config={}", folder.join("server.toml").display());
        let made = Command::new(OURS).args(["server", "--init", &config]).output().expect("the program runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").port();
        let directory = folder.join("served");
        std::fs::create_dir_all(&directory).expect("a directory");
        let settings = format!("listen = [\"127.0.0.1:{port}\"]\ndirectory = \"{}\"\n", directory.display());
        std::fs::write(folder.join("server.toml"), settings).expect("server.toml");
        let mut child = Command::new(OURS)
            .args(["server", &config])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        // It says where it listens when it does.
        let told = child.stderr.take().expect("a pipe");
        let mut lines = BufReader::new(told).lines();
        let line = lines.by_ref().map_while(Result::ok).find(|line| line.contains("listen"));
        assert!(line.is_some(), "the server does not listen");
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, folder: folder.to_owned(), port }
    }

    /// Runs a job of these options here, or at the server, and gives its JSON.
    fn run(&self, options: &[&str], with_client: bool) -> Value {
        let mut command = Command::new(OURS);
        command.current_dir(&self.folder).args(options).args(["--name=bench", "--output-format=json"]);
        if with_client {
            command.arg(format!("--client=127.0.0.1:{}", self.port));
            command.arg(format!("--keys={}", self.folder.display()));
        }
        let output = command.stdin(Stdio::null()).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON on standard output")
    }

    /// IOPS with a client to those without.
    fn ratio(&self, round: usize) -> f64 {
        let job = ["--ioengine=null", "--rw=randread", "--size=1TiB", "--iodepth=32", "--runtime=2s"];
        let pinned = [&job[..], &["--time_based", "--cpus_allowed=1"]].concat();
        let iops = |with_client| {
            let json = self.run(&pinned, with_client);
            json.pointer("/jobs/0/read/iops").and_then(Value::as_f64).expect("IOPS")
        };
        // Who goes first alternates: what the machine does besides favours neither.
        if round.is_multiple_of(2) {
            let without = iops(false);
            iops(true) / without
        } else {
            let with = iops(true);
            with / iops(false)
        }
    }

    /// Milliseconds from a trigger until the client had stored the state and said so.
    fn trigger(&self) -> f64 {
        let job =
            ["--ioengine=sim", "--rw=randwrite", "--bs=4k", "--iodepth=128", "--size=64m", "--numjobs=2"];
        let more = ["--offset_increment=64m", "--verify=crc32c", "--time_based", "--runtime=30"];
        let cut = ["--trigger_timeout=300ms", "--trigger=true", "--group_reporting"];
        let json = self.run(&[&job[..], &more, &cut].concat(), true);
        json.pointer("/fio-spdk/trigger/stored_ns").and_then(Value::as_f64).expect("a trigger") / 1e6
    }
}
