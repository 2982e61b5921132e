//! Who may act when: both programs over a socket, the disk of the client slow, full or gone, either side
//! stopped or killed at the worst moment. No command of a trigger runs before the client has the state, and
//! what the client has is never replaced by something worse.

#![expect(clippy::print_stdout, reason = "why a test is skipped")]

mod common;

use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{BINARY, Done, Lab, Running, at};
use fio_spdk::verify::snapshot::{Cause, Snapshot};
use rustix::process::{Pid, Signal, kill_process};

/// Writes, and promises, until something ends it.
const JOB: &str = r#"
[[job]]
name = "j"
filename = "data"
rw = "randwrite"
bs = "4k"
size = "4m"
iodepth = 8
ioengine = "io_uring"
time_based = true
runtime = "120s"
verify = "crc32c"
fsync = 50
state_dir = "states"
"#;
/// How long each fsync of the client takes where it is slow.
const SLOW: Duration = Duration::from_millis(1500);

/// A server and what its clients need.
struct Bench {
    lab: Lab,
    server: Option<Running>,
    /// What slows a process down, and must not outlive the test.
    strace: Option<Running>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let left = self.strace.take().into_iter().chain(self.server.take());
        left.filter_map(|mut running| (!running.has_ended()).then_some(running)).for_each(|running| {
            running.signal(Signal::KILL);
            running.end();
        });
    }
}

impl Bench {
    /// One that may run `commands` on the server.
    fn new(commands: &[&str]) -> Bench {
        let lab = Lab::new();
        let (directory, socket) = (lab.path("srv"), lab.path("s"));
        let settings = format!(
            "directory = {directory:?}\nlisten = [\"unix:{}\"]\ncommands = {commands:?}\n\
             client_timeout = 10\nanswer_within = 20\n",
            socket.display()
        );
        lab.file("server.toml", settings).file("j.toml", JOB);
        std::fs::create_dir(lab.path("states")).expect("a directory for states");
        let mut server = lab.spawn(&["server", "--config=server.toml"]);
        server.wait_until("the server to listen", || UnixStream::connect(&socket).is_ok());
        Bench { lab, server: Some(server), strace: None }
    }

    fn client(&self, more: &[&str]) -> Running {
        let address = format!("--client=unix:{}", self.lab.path("s").display());
        let all = [&["j.toml", "--output-format=json", &address], more].concat();
        self.lab.spawn(&all)
    }

    /// A client that strace runs.
    fn traced(&self, strace: &[&str], more: &[&str]) -> Running {
        let mut command = self.lab.command("strace");
        command.args(["-f", "-ttt", "-y", "-o", "trace"]).args(strace).arg(BINARY);
        command.arg("j.toml").arg("--output-format=json");
        command.arg(format!("--client=unix:{}", self.lab.path("s").display())).args(more);
        Running::of(command)
    }

    fn attach(&self) -> Done {
        let server = format!("unix:{}", self.lab.path("s").display());
        self.lab.run(&["attach", &server, "--state_dir=states"])
    }

    /// The link to the newest run's state.
    fn link(&self) -> PathBuf {
        let links = || {
            let entries = std::fs::read_dir(self.lab.path("states")).expect("the directory of states");
            entries.map(|entry| entry.expect("an entry").path()).find(|path| path.is_symlink())
        };
        links().unwrap_or_else(|| self.lab.path("states/none"))
    }

    fn state(&self) -> Option<Snapshot> {
        Snapshot::decode(&std::fs::read(self.link()).ok()?).ok()
    }

    /// Waits for the first checkpoint: the run writes then.
    fn writes(&self, client: &mut Running) {
        client.wait_until("the first state", || self.state().is_some());
        thread::sleep(Duration::from_millis(300));
    }

    /// The directory of the only run at the server.
    fn run(&self) -> PathBuf {
        let mut runs = std::fs::read_dir(self.lab.path("srv/runs")).expect("runs");
        runs.next().expect("a run").expect("it").path()
    }

    /// The process that does it.
    fn session(&self) -> Pid {
        let facts = std::fs::read_to_string(self.run().join("run.toml")).expect("its facts");
        let number = facts.lines().find_map(|line| line.strip_prefix("process = ")).expect("its process");
        Pid::from_raw(number.parse().expect("a number")).expect("a process")
    }

    /// Waits until no run goes on.
    fn is_over(&mut self) {
        let directory = self.run();
        let server = self.server.as_mut().expect("a server");
        server.wait_until("the end of the run", || directory.join("report.pb").exists());
    }

    /// Judges what stands at the server by what the client has.
    fn judge(&self) {
        let client = self.client(&["--verify_state_load", "--verify_only"]);
        let json = client.end().expect(0).json();
        let verify = at(&json, "/jobs/0/verify");
        assert_eq!(at(verify, "/promised"), at(verify, "/checked"), "{verify:#}");
        assert!(at(verify, "/promised").as_u64() > Some(0), "{verify:#}");
    }

    fn ends(mut self) {
        let server = self.server.take().expect("a server");
        server.signal(Signal::TERM);
        server.end().expect(0);
    }
}

/// Whether strace can trace here; says so if not.
fn can_trace() -> bool {
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    let can = tried.as_ref().is_ok_and(|done| done.status.success());
    if !can {
        println!("skipped: strace cannot trace here: {tried:?}");
    }
    can
}

fn delayed() -> String {
    format!("inject=fsync:delay_enter={}", SLOW.as_micros())
}

/// The time at which a line of strace begins, in seconds since 1970.
fn time(line: &str) -> f64 {
    line.split_ascii_whitespace().nth(1).and_then(|time| time.parse().ok()).expect("a time")
}

#[test]
fn a_remote_command_waits_for_the_last_fsync_of_a_slow_client() {
    if !can_trace() {
        return;
    }
    let command = "date +%s.%N >> ran; cat ../states/*.state > seen";
    let bench = Bench::new(&[command]);
    let remote = format!("--trigger_remote={command}");
    let calls = ["-e", "trace=fsync,rename,renameat,renameat2", "-e", &delayed()];
    let client = bench.traced(&calls, &["--trigger_timeout=300ms", &remote]);
    let json = client.end().expect(0).json();
    assert_eq!(at(&json, "/fio-spdk/trigger/command/success"), true, "{json:#}");
    let ran = String::from_utf8(bench.lab.bytes("srv/ran")).expect("a text");
    let ran: Vec<f64> = ran.lines().map(|line| line.parse().expect("a time")).collect();
    assert_eq!(ran.len(), 1, "it runs once: {ran:?}");
    // The trigger's snapshot is the last that was put in place; then its directory is synced.
    let trace = String::from_utf8_lossy(&bench.lab.bytes("trace")).into_owned();
    let lines: Vec<&str> = trace.lines().collect();
    let renamed = lines.iter().rposition(|line| line.contains("rename") && line.contains(".state.new\""));
    let renamed = renamed.unwrap_or_else(|| panic!("no rename in\n{trace}"));
    let thread = lines[renamed].split(' ').next().expect("a thread");
    let synced = lines[renamed..]
        .iter()
        .find(|line| line.starts_with(thread) && line.contains("fsync(") && line.contains("/states>"));
    let synced = time(synced.unwrap_or_else(|| panic!("no fsync of the directory in\n{trace}")));
    let safe = synced + SLOW.as_secs_f64();
    assert!(ran[0] >= safe, "ran at {}, the state was safe at {safe}:\n{trace}", ran[0]);
    let state = bench.state().expect("a state");
    assert_eq!(state.cause, Cause::Trigger);
    // The link and the file: what the command saw was the trigger's.
    assert_eq!(bench.lab.bytes("srv/seen"), [state.encode(), state.encode()].concat());
    bench.judge();
    bench.ends();
}

#[test]
fn a_client_that_dies_before_it_says_stored_lets_no_command_run() {
    if !can_trace() {
        return;
    }
    let bench_command = "echo ran >> ran";
    let mut bench = Bench::new(&[bench_command]);
    let remote = format!("--trigger_remote={bench_command}");
    let calls = ["-e", "trace=fsync", "-e", &delayed()];
    let mut client = bench.traced(&calls, &["--trigger_timeout=300ms", &remote]);
    client.wait_until("the trigger's state", || {
        bench.state().is_some_and(|state| state.cause == Cause::Trigger)
    });
    // In place, but its directory is not synced: nobody may act on it. strace's child is the client.
    let children = format!("/proc/{}/task/{}/children", client.id(), client.id());
    let children = std::fs::read_to_string(children).expect("the children of strace");
    for child in children.split_ascii_whitespace() {
        let child = Pid::from_raw(child.parse().expect("a number")).expect("a process");
        kill_process(child, Signal::KILL).expect("it is there");
    }
    client.end();
    bench.is_over();
    assert!(!bench.lab.path("srv/ran").exists());
    let had = bench.state().expect("a state");
    bench.attach();
    assert!(!had.is_ahead_of(&bench.state().expect("a state")), "what it had is still there, or better");
    bench.judge();
    bench.ends();
}

#[test]
fn a_state_that_cannot_be_stored_withholds_the_command_and_leaves_the_last_one() {
    for always in [false, true] {
        let command = "echo ran >> ran";
        let bench = Bench::new(&[command]);
        let remote = format!("--trigger_remote={command}");
        let more =
            ["--trigger_file=cut", &remote, if always { "--trigger_always" } else { "--clat_percentiles" }];
        let mut client = bench.client(&more);
        bench.writes(&mut client);
        let (states, gone) = (bench.lab.path("states"), bench.lab.path("gone"));
        std::fs::rename(&states, &gone).expect("the directory is taken away");
        bench.lab.file("cut", "");
        let done = client.end();
        std::fs::rename(&gone, &states).expect("and put back");
        assert_eq!(bench.lab.path("srv/ran").exists(), always, "{done:#?}");
        done.expect(4);
        assert_eq!(bench.state().expect("the first state").cause, Cause::Checkpoint);
        bench.ends();
    }
}

#[test]
fn what_fires_it_twice_runs_its_command_once() {
    let command = "echo ran >> ran; sleep 1";
    let bench = Bench::new(&[command]);
    let remote = format!("--trigger_remote={command}");
    let mut client = bench.client(&["--trigger_file=cut", "--trigger_timeout=1500ms", &remote]);
    bench.writes(&mut client);
    for _ in 0..200 {
        bench.lab.file("cut", "");
        if client.has_ended() {
            break;
        }
        client.signal(Signal::USR2);
        thread::sleep(Duration::from_millis(20));
    }
    client.end().expect(0);
    assert_eq!(bench.lab.bytes("srv/ran"), b"ran\n");
    bench.judge();
    bench.ends();
}

#[test]
fn an_older_copy_of_the_server_does_not_replace_what_its_client_has() {
    let mut bench = Bench::new(&[]);
    let mut client = bench.client(&["--trigger_file=cut"]);
    bench.writes(&mut client);
    // What a server's disk has when its machine loses power right behind the trigger.
    let kept = bench.run().join("run.state");
    client.wait_until("the server's copy", || kept.exists());
    let old = std::fs::read(&kept).expect("the server's copy");
    bench.lab.file("cut", "");
    client.end().expect(0);
    bench.is_over();
    let had = bench.state().expect("a state");
    assert_eq!(had.cause, Cause::Trigger);
    assert!(had.is_ahead_of(&Snapshot::decode(&old).expect("a state")));
    std::fs::write(&kept, old).expect("the older copy");
    bench.attach().expect(0);
    assert_eq!(bench.state(), Some(had));
    bench.judge();
    bench.ends();
}

#[test]
fn what_is_fetched_of_an_ended_run_and_cannot_be_stored_is_a_failure() {
    let mut bench = Bench::new(&[]);
    bench.client(&["--runtime=300ms"]).end().expect(0);
    bench.is_over();
    std::fs::remove_dir_all(bench.lab.path("states")).expect("the states");
    std::fs::create_dir(bench.lab.path("states")).expect("a directory");
    bench.attach().expect(0);
    bench.judge();
    // Something else stands in the link's place.
    std::fs::remove_file(bench.link()).expect("the link");
    bench.lab.file("states/j.placeholder", "");
    let link = bench.link();
    assert!(!link.is_symlink());
    let named = format!("states/j.{}.state", bench.lab.path("s").display().to_string().replace('/', "_"));
    let names = [named.clone(), named.replace("j._", "j.unix_")];
    names.iter().for_each(|name| {
        bench.lab.file(name, "mine");
    });
    bench.attach().expect(4).says("could not be stored");
    bench.ends();
}

/// Delays or fails what a process does from now on.
fn hold(session: Pid, inject: &str, lab: &Lab) -> Option<Running> {
    let mut command = lab.command("strace");
    let process = session.as_raw_nonzero().to_string();
    command.args(["-f", "-o", "held", "-e", "trace=fsync", "-e", inject, "-p", &process]);
    let mut strace = Running::of(command);
    let status = format!("/proc/{process}/status");
    let is_traced = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    for _ in 0..200 {
        if is_traced(&status) {
            return Some(strace);
        }
        if strace.has_ended() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    println!("skipped: strace cannot attach here");
    None
}

#[test]
fn a_disk_of_the_server_that_hangs_does_not_hold_up_the_trigger() {
    if !can_trace() {
        return;
    }
    let command = "echo ran >> ran";
    let mut bench = Bench::new(&[command]);
    let remote = format!("--trigger_remote={command}");
    let mut client = bench.client(&["--trigger_file=cut", &remote, "--state_checkpoint=50ms"]);
    bench.writes(&mut client);
    // Much longer than a test may take.
    bench.strace = hold(bench.session(), "inject=fsync:delay_enter=300000000", &bench.lab);
    if bench.strace.is_none() {
        return;
    }
    thread::sleep(Duration::from_millis(500));
    bench.lab.file("cut", "");
    let ran = bench.lab.path("srv/ran");
    client.wait_until("the command", || ran.exists());
    let done = client.end().expect(0);
    assert!(done.stdout.contains("the server's own copy: its disk has not stored"), "{done:#?}");
    assert_eq!(bench.state().expect("a state").cause, Cause::Trigger);
    // Who is killed lets go.
    let strace = bench.strace.take().expect("it holds");
    strace.signal(Signal::KILL);
    strace.end();
    bench.is_over();
    bench.judge();
    bench.ends();
}

/// Who is stopped is waited for, and nothing is lost or done twice.
#[test]
fn a_session_that_was_stopped_at_its_trigger_goes_on_where_it_was() {
    let command = "echo ran >> ran";
    let bench = Bench::new(&[command]);
    let remote = format!("--trigger_remote={command}");
    let mut client = bench.client(&["--trigger_file=cut", &remote]);
    bench.writes(&mut client);
    let session = bench.session();
    kill_process(session, Signal::STOP).expect("it is there");
    bench.lab.file("cut", "");
    thread::sleep(Duration::from_secs(3));
    assert!(!bench.lab.path("srv/ran").exists() && !Path::new(&bench.lab.path("cut")).exists());
    kill_process(session, Signal::CONT).expect("it is there");
    client.end().expect(0);
    assert_eq!(bench.lab.bytes("srv/ran"), b"ran\n");
    bench.judge();
    bench.ends();
}

#[test]
fn a_detached_run_does_not_write_before_its_client_has_a_first_state() {
    if !can_trace() {
        return;
    }
    let mut bench = Bench::new(&[]);
    let calls = ["-e", "trace=fsync", "-e", "inject=fsync:error=ENOSPC:when=3+"];
    let client = bench.traced(&calls, &["--detach", "--runtime=1s"]);
    let done = client.end().expect(4);
    assert!(bench.state().is_none(), "{done:#?}");
    bench.is_over();
    let data = std::fs::read(bench.lab.path("srv/data")).unwrap_or_default();
    assert!(data.iter().all(|&byte| byte == 0), "nothing was written");
    bench.ends();
}

/// A way to the server that can break on the client's side alone: the server sees nothing of it. Gives the
/// client's ends.
fn way(from: &Path, to: PathBuf) -> Arc<Mutex<Vec<UnixStream>>> {
    let listener = UnixListener::bind(from).expect("a socket");
    let ends = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&ends);
    thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            // The server may be gone at the end of the test.
            let Ok(server) = UnixStream::connect(&to) else { return };
            let copy = |stream: &UnixStream| stream.try_clone().expect("a copy");
            for (mut one, mut other) in [(copy(&client), copy(&server)), (copy(&server), copy(&client))] {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut one, &mut other);
                    // Not closed: half open is what a network leaves behind.
                    std::mem::forget((one, other));
                });
            }
            kept.lock().expect("no panic").push(client);
        }
    });
    ends
}

#[test]
fn a_client_that_comes_back_before_its_old_connection_is_known_to_be_dead_gets_states_again() {
    let bench = Bench::new(&[]);
    let ends = way(&bench.lab.path("way"), bench.lab.path("s"));
    let address = format!("--client=unix:{}", bench.lab.path("way").display());
    let more = ["j.toml", "--output-format=json", "--detach", "--state_checkpoint=50ms", &address];
    let mut client = bench.lab.spawn(&more);
    bench.writes(&mut client);
    let streams = std::mem::take(&mut *ends.lock().expect("no panic"));
    streams.iter().for_each(|stream| stream.shutdown(Shutdown::Both).expect("a connection"));
    thread::sleep(Duration::from_secs(1));
    let before = bench.state().expect("a state");
    client.wait_until("a newer state", || bench.state().is_some_and(|state| state.is_ahead_of(&before)));
    client.signal(Signal::INT);
    client.end().says("this client drives the run now");
    let server = format!("unix:{}", bench.lab.path("s").display());
    bench.lab.run(&["stop", &server]).expect(0);
    bench.ends();
}
