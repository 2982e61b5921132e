//! A client and its servers, each on a machine of its own, with a network between them that is cut, slow and
//! lossy: what arrives, what is named, what goes on, and that nothing runs before what it waits for is safe.
//! Where there can be no such network, a trial is ignored and says why.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talks to itself, and says why trials are skipped"
)]

mod common;
#[path = "common/network.rs"]
mod network;
#[path = "common/remote.rs"]
mod remote;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{BINARY, at, number};
use fio_spdk::base::clock::Clock;
use libtest_mimic::{Arguments, Trial};
use network::{Machine, Network};
use remote::{Bench, Home, Process, files, judged, wait_until};
use serde_json::Value;

type Check = fn();

fn main() {
    let told: Vec<String> = std::env::args().collect();
    if let [_, echo, address] = told.as_slice()
        && echo == ECHO
    {
        return echoes(address);
    }
    if let [_, ask, address, times] = told.as_slice()
        && ask == ASK
    {
        return asks(address, times.parse().expect("a number"));
    }
    let mut arguments = Arguments::from_args();
    // Each has a server or three; and who starts a process must outlive it.
    arguments.test_threads = Some(1);
    let why = network::why_not();
    let trials: [(&str, Check); 7] = [
        ("the_network_of_the_tests_carries_delays_loses_and_is_cut", the_network_itself),
        ("three_servers_do_one_job_file_and_the_client_has_the_results_of_all", three_servers),
        ("a_server_that_is_cut_off_is_named_and_the_results_of_others_are_whole", one_is_cut_off),
        ("a_server_whose_client_vanished_ends_in_order_and_keeps_its_state", client_vanishes),
        ("a_detached_run_goes_on_without_its_client_and_is_attached_to_again", detached),
        ("over_a_slow_and_lossy_network_the_state_arrives_before_the_command_runs", bad_weather),
        ("without_the_clients_answer_the_remote_command_does_not_run", answer_is_lost),
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

// ---- the network itself ----

const ECHO: &str = "--echo";
const ASK: &str = "--ask";

/// What a machine of the trial does: sends back what it gets.
fn echoes(address: &str) {
    let listener = TcpListener::bind(address).expect("an address");
    println!("listens");
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..length]).expect("the other side is there");
        }
    }
}

/// What another one does: asks so often, and says how long the fastest answer took, in microseconds.
fn asks(address: &str, times: u32) {
    let address = address.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    stream.set_nodelay(true).expect("an option");
    let clock = Clock::get();
    let ask = |_| {
        let began = clock.now_ns();
        let mut answer = [0; 1000];
        stream.write_all(&[7; 1000]).expect("sent");
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, [7; 1000]);
        (clock.now_ns() - began) / 1000
    };
    println!("{}", (0..times).map(ask).min().expect("at least one"));
}

fn the_network_itself() {
    let program = std::env::current_exe().expect("this program");
    let mut network = Network::new(7);
    let (server, client) = (network.machine(), network.machine());
    let address = format!("{}:7", server.address);
    let mut command = server.command(&program);
    let mut echo = command.args([ECHO, &address]).stdout(Stdio::piped()).spawn().expect("a process");
    let mut line = String::new();
    BufReader::new(echo.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let ask = |machine: &Machine, times: &str| {
        let output = machine.command(&program).args([ASK, &address, times]).output().expect("a process");
        let told = String::from_utf8_lossy(&output.stdout).trim().parse::<u64>();
        told.map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
    };
    ask(&client, "50").expect("an answer");
    // There and back.
    network.weather(Duration::from_millis(40), 0);
    assert!(ask(&client, "2").expect("an answer") >= 80_000);
    network.weather(Duration::ZERO, 50);
    ask(&client, "80").expect("an answer");
    assert!(network.lost() > 0);
    network.weather(Duration::ZERO, 0);
    client.cut();
    assert!(ask(&client, "1").expect_err("there is no way").contains("a connection"));
    client.mend();
    server.cut_sending();
    assert!(ask(&client, "1").is_err());
    server.mend();
    ask(&client, "1").expect("an answer");
    echo.kill().expect("it runs");
    echo.wait().expect("it was ours");
}

// ---- servers and their client ----

/// Servers and a client on machines of their own.
struct Field {
    bench: Bench,
    network: Network,
    client: Machine,
    servers: Vec<(Machine, Home, Process)>,
}

/// What servers do not hear of for so long has vanished: so that trials are short.
const SOON: &str = "client_timeout = \"2s\"\nanswer_within = \"2s\"";

impl Field {
    /// So many servers, with these lines in their `server.toml`.
    fn new(servers: usize, lines: &str) -> Field {
        let (bench, mut network) = (Bench::new(), Network::new(42));
        let client = network.machine();
        let machines: Vec<Machine> = (0..servers).map(|_| network.machine()).collect();
        let names: Vec<&str> = machines.iter().map(|machine| machine.address.as_str()).collect();
        bench.keys(&names);
        let serve = |(at, machine): (usize, Machine)| {
            let listen = format!("{}:8765", machine.address);
            let home = bench.home(&format!("dut{at}"), &listen, lines);
            let server = home.serve(machine.command(BINARY));
            (machine, home, server)
        };
        let servers = machines.into_iter().enumerate().map(serve).collect();
        Field { bench, network, client, servers }
    }

    fn address(&self, server: usize) -> &str {
        &self.servers[server].0.address
    }

    /// The client, on all servers.
    fn start(&self, arguments: &[&str]) -> Process {
        let mut all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let servers = 0..self.servers.len();
        all.extend(servers.map(|server| format!("--client={}", self.address(server))));
        all.extend(["--keys=../keys", "--output-format=json"].map(str::to_owned));
        if !arguments.iter().any(|argument| argument.starts_with("--server-timeout")) {
            all.push("--server-timeout=2s".to_owned());
        }
        self.bench.client(self.client.command(BINARY), &all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What a server says on its own machine.
    fn status(&self, server: usize) -> Value {
        let (machine, home, _) = &self.servers[server];
        home.status(machine.command(BINARY), &["--keys", &self.bench.lab.path("keys").to_string_lossy()])
    }

    /// The client's link to the newest state of a server.
    fn state(&self, server: usize) -> std::path::PathBuf {
        self.bench.path(&format!("j.{}.state", self.address(server)))
    }

    /// Waits until a server writes, and the client has its first checkpoint.
    fn wait_for_writing(&self, server: usize) {
        let data = self.servers[server].1.directory.join("data");
        wait_until("a server writes", || {
            let length = fs::read(&data).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte != 0).count());
            length > 0 && self.state(server).exists()
        });
        // Checkpoints later something is promised: the first one is of before the first write.
        thread::sleep(Duration::from_secs(1));
    }

    /// Judges what stands on a server's machine by a state, there; all that it promises must be there.
    #[track_caller]
    fn judge(&self, server: usize, state: &std::path::Path) -> u64 {
        let home = &self.servers[server].1.directory;
        let place = self.bench.lab.path("judge");
        let _ = fs::create_dir(&place);
        fs::copy(state, place.join("j.state")).expect("a copy of the state");
        let mut command = Command::new(BINARY);
        command.current_dir(home).arg(self.bench.path("j.toml"));
        command.arg(format!("--state_dir={}", place.display()));
        command.args(["--verify_state_load", "--output-format=json"]);
        // Options that only a run on a server has are refused in one that is not.
        command.args(["--detach=false"]);
        let (promised, checked, violations) = judged(&Process::of(command).end().expect(0).json());
        assert!(promised > 0 && promised == checked && violations == 0, "{promised} {checked} {violations}");
        promised
    }
}

/// A job that writes for a time, not faster than it must.
fn job(runtime: &str) -> String {
    format!(
        "[[job]]\nname = \"j\"\nioengine = \"psync\"\nfilename = \"data\"\nrw = \"randwrite\"\nbs = \"4k\"\n\
         size = \"1m\"\nrate_iops = 2000\ntime_based = true\nruntime = \"{runtime}\"\nfsync = 16\n\
         verify = \"crc32c\"\nstate_checkpoint = \"50ms\"\n"
    )
}

/// What the whole report says of one server.
#[track_caller]
fn of<'a>(report: &'a Value, address: &str) -> &'a Value {
    let servers = at(report, "/servers").as_array().expect("a list of servers");
    let found = servers.iter().find(|server| at(server, "/host") == address);
    found.unwrap_or_else(|| panic!("nothing of {address}: {report:#}"))
}

/// The report of a server must be whole.
#[track_caller]
fn whole(report: &Value, address: &str) {
    let server = of(report, address);
    assert!(at(server, "/error").is_null(), "{server:#}");
    let (promised, checked, violations) = judged(at(server, "/report"));
    assert!(promised > 0 && promised == checked && violations == 0, "{server:#}");
}

fn three_servers() {
    let field = Field::new(3, SOON);
    field.bench.file("j.toml", &job("1s"));
    let report = field.start(&["j.toml"]).end().expect(0).json();
    let mut writes = 0;
    for server in 0..3 {
        whole(&report, field.address(server));
        writes += number(of(&report, field.address(server)), "/report/jobs/0/write/total_ios");
        field.judge(server, &field.state(server));
    }
    let jobs = at(&report, "/client_stats").as_array().expect("a list of jobs");
    let all = jobs.iter().find(|job| job["jobname"] == "All clients").expect("all together");
    assert!(number(all, "/write/total_ios") == writes && writes > 0, "{report:#}");
}

fn one_is_cut_off() {
    let field = Field::new(3, SOON);
    field.bench.file("j.toml", &job("12s"));
    let said = field.bench.path("said");
    let mut command = field.client.command("sh");
    command.args(["-c", "exec \"$@\" 2>said", "sh", BINARY]);
    let all: Vec<String> = (0..3).map(|server| format!("--client={}", field.address(server))).collect();
    let mut arguments = vec!["j.toml", "--keys=../keys", "--server-timeout=2s", "--output-format=json"];
    arguments.extend(all.iter().map(String::as_str));
    let mut client = field.bench.client(command, &arguments);
    (0..3).for_each(|server| field.wait_for_writing(server));
    // Once a second the client hears what was measured so far.
    thread::sleep(Duration::from_secs(3));
    field.servers[1].0.cut();
    let lost = format!("{}: vanished", field.address(1));
    // Its deadline is a fraction of what the others still have to do.
    wait_until("the server is named", || fs::read_to_string(&said).is_ok_and(|text| text.contains(&lost)));
    let text = fs::read_to_string(&said).unwrap_or_default();
    assert!(!client.has_ended(), "named only when all was over: {text}");
    let report = client.end().expect(4).json();
    whole(&report, field.address(0));
    whole(&report, field.address(2));
    let why = at(of(&report, field.address(1)), "/error").to_string();
    assert!(why.contains("vanished"), "{why}");
    // What had arrived is there, and its own end was in order.
    assert!(number(of(&report, field.address(1)), "/report/jobs/0/write/total_ios") > 0, "{report:#}");
    field.servers[1].1.wait_for_quiet();
    field.judge(1, &field.state(1));
}

fn client_vanishes() {
    let field = Field::new(1, SOON);
    field.bench.file("j.toml", &job("60s"));
    let client = field.start(&["j.toml"]);
    field.wait_for_writing(0);
    field.client.cut();
    let home = &field.servers[0].1;
    home.wait_for_quiet();
    client.end().expect(4).says("vanished");
    let state = at(&field.status(0), "/runs/0/state").to_string();
    assert!(state.contains("ended by SIGHUP: its client vanished"), "{state}");
    let [run] = home.runs().try_into().expect("one run");
    assert!(field.judge(0, &run.join("run.state")) > 0);
    // The checkpoint on the client is older, and still true.
    field.judge(0, &field.state(0));
    // Back again, the client fetches what it has missed.
    field.client.mend();
    let attach = ["attach", field.address(0), "--keys=../keys", "--output-format=json"];
    let report = field.bench.client(field.client.command(BINARY), &attach).end().json();
    assert!(number(&report, "/jobs/0/write/total_ios") > 0);
    let kept = fs::read(run.join("run.state")).expect("the server's state");
    assert!(field.bench.states().iter().any(|state| fs::read(state).is_ok_and(|bytes| bytes == kept)));
}

fn detached() {
    let field = Field::new(1, SOON);
    field.bench.file("j.toml", &format!("{}detach = true\n", job("10s")));
    let client = field.start(&["j.toml"]);
    field.wait_for_writing(0);
    field.client.cut();
    client.end().expect(4).says("fio-spdk attach");
    let home = &field.servers[0].1;
    wait_until("the server notices", || at(&field.status(0), "/runs/0/driven") == false);
    assert_eq!(home.sessions().len(), 1, "the run goes on");
    field.client.mend();
    let attach = ["attach", field.address(0), "--keys=../keys", "--output-format=json"];
    let report = field.bench.client(field.client.command(BINARY), &attach).end().expect(0).json();
    assert!(number(&report, "/jobs/0/write/runtime") >= 9000, "{report:#}");
    home.wait_for_quiet();
    // What the run promised at its end is on the client.
    let [run] = home.runs().try_into().expect("one run");
    let kept = fs::read(run.join("run.state")).expect("the server's state");
    let same =
        field.bench.states().into_iter().find(|state| fs::read(state).is_ok_and(|bytes| bytes == kept));
    assert!(field.judge(0, &same.expect("the same state on both sides")) > 0);
}

fn bad_weather() {
    // Client and server are on one file system here, so the command can look at the client's file.
    let command = "cp -L ../client/j.*.?.state at-the-command";
    let field = Field::new(1, &format!("commands = [\"{command}\"]"));
    field.network.weather(Duration::from_millis(200), 50);
    field.bench.file("j.toml", &job("60s"));
    let remote = format!("--trigger-remote={command}");
    let more = ["j.toml", "--trigger-timeout=3s", &remote, "--server-timeout=20s", "--connect-timeout=30s"];
    let report = field.start(&more).end().expect(0).json();
    assert!(field.network.lost() > 0, "the weather was fine");
    assert_eq!(at(&report, "/fio-spdk/trigger/command/success"), true, "{report:#}");
    let seen = field.servers[0].1.directory.join("at-the-command");
    assert_eq!(at(&field.bench.shown(&seen), "/cause"), "trigger");
    field.judge(0, &seen);
    assert_eq!(fs::read(seen).ok(), fs::read(field.state(0)).ok());
}

fn answer_is_lost() {
    let field = Field::new(1, &format!("{SOON}\ncommands = [\"touch fired\"]"));
    field.bench.file("j.toml", &job("60s"));
    let client = field.start(&["j.toml", "--trigger-timeout=4s", "--trigger-remote=touch fired"]);
    field.wait_for_writing(0);
    // What the server sends still arrives; the answer gets lost.
    field.client.cut_sending();
    let home = &field.servers[0].1;
    home.wait_for_quiet();
    drop(client);
    assert!(!home.directory.join("fired").exists(), "the command ran without an answer");
    let [run] = home.runs().try_into().expect("one run");
    let names: Vec<String> = files(&run).iter().map(|path| path.display().to_string()).collect();
    assert!(names.iter().any(|name| name.ends_with("run.state")), "{names:?}");
    field.judge(0, &run.join("run.state"));
}
